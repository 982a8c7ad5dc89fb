#!/usr/bin/env bats
# Tab completion in zsh and fish, which describe held locks, and the committed completion scripts. No test depends on the version of
# bash.
#
# shellcheck disable=SC2016 # the opened shells expand the text in single quotes

load helper
load terminal

@test "the committed completions are what the helper writes" {
    local shell file
    while read -r shell file; do
        ABA_LOCK_COMPLETE=${shell} "${ABA_LOCK_BIN}" >written
        if ! diff -u "${PROJECT}/completions/${file}" written; then
            echo "completions/${file} is not what the helper writes: build it again: \`make\`" >&2
            return 1
        fi
    done <<'END'
bash aba-lock.bash
zsh _aba-lock
fish aba-lock.fish
END
}

@test "zsh offers the commands and the options with descriptions" {
    offers_commands_and_options zsh
    list 'aba-lock '
    screen_has 'Show whether a lock is held'
}

@test "fish offers the commands and the options with descriptions" {
    offers_commands_and_options fish
    SHELL_KIND=fish list 'aba-lock '
    screen_has 'Show whether a lock is held'
}

@test "zsh offers the names of locks without options" {
    offers_lock_names zsh
}

@test "fish offers the names of locks without options" {
    offers_lock_names fish
}

@test "zsh describes a held lock with its holder" {
    make_locks backup mirror-save
    hold backup
    open_shell zsh
    press 'aba-lock status ' Tab
    screen_has mirror-save "held by pid ${STARTED_PID} (sleep 1000)"
}

@test "fish describes a held lock with its holder" {
    make_locks backup mirror-save
    hold backup
    open_shell fish
    press 'aba-lock status ' Tab
    screen_has mirror-save "held by pid ${STARTED_PID} (sleep 1000)"
}

@test "zsh completes names with a colon or an at sign" {
    offers_names_with_colons zsh
}

@test "fish completes names with a colon or an at sign" {
    offers_names_with_colons fish
}

@test "zsh completes files after --file, and the command after --" {
    leaves_files_and_commands_to_the_shell zsh
}

@test "fish completes files after --file, and the command after --" {
    leaves_files_and_commands_to_the_shell fish
}

@test "the first TAB in a fresh zsh is answered" {
    make_locks mirror-save
    open_shell zsh
    completes 'aba-lock lock mir' 'aba-lock lock mirror-save '
}

@test "zsh completes when the script is sourced" {
    make_locks mirror-save
    open_shell zsh 'compdef -d aba-lock' 'unfunction _aba-lock' 'source "${PROJECT}/completions/_aba-lock"'
    completes 'aba-lock lock mir' 'aba-lock lock mirror-save '
}

@test "zsh completes nothing and prints nothing without a lock directory or a helper" {
    is_silent_when_nothing_is_there zsh
}

@test "fish completes nothing and prints nothing without a lock directory or a helper" {
    # Without the command, fish does not load the completion script.
    is_silent_when_nothing_is_there fish 'source "$PROJECT/completions/aba-lock.fish"'
}

@test "zsh offers the commands of lease, and their options" {
    offers_leases zsh
}

@test "fish offers the commands of lease, and their options" {
    offers_leases fish
}
