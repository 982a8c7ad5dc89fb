#!/usr/bin/env bats
# Tab completion in real shells on a terminal: the tests press keys and read the screen. The completion scripts are where
# `make install` puts them, and each shell finds them there by itself. Held locks are described in zsh and fish; bash
# has no descriptions to show.
#
# shellcheck disable=SC2016 # the opened shells expand the text in single quotes

load helper

teardown() {
    close_shell
    shared_teardown
}

# Runs a command of tmux, with a server for this test alone.
terminal() {
    TMUX_TMPDIR=${BATS_RUN_TMPDIR} tmux -L "aba-$$-${BATS_TEST_NUMBER}" -f /dev/null "$@" 3>&- 4>&-
}

# Ends the opened shell and its server. A server that is about to end would accept the next command, and drop it.
close_shell() {
    local server
    if server=$(terminal display-message -p '#{pid}' 2>/dev/null); then
        terminal kill-server 2>/dev/null || true
        until_true has_ended "${server}"
    fi
}

# Usage: open_shell bash|zsh|fish [LINE]...
#
# Opens an interactive shell that runs the LINEs at start-up, and waits for its prompt.
open_shell() {
    local shell=$1 share=${BATS_TEST_TMPDIR}/share
    shift
    install -D -m644 "${PROJECT}/completions/aba-lock.bash" "${share}/bash-completion/completions/aba-lock"
    install -D -m644 "${PROJECT}/completions/_aba-lock" "${share}/zsh/site-functions/_aba-lock"
    install -D -m644 "${PROJECT}/completions/aba-lock.fish" "${share}/fish/vendor_completions.d/aba-lock.fish"
    # Without the second directory, the first start of fish reads all man pages in a process that goes on after its end.
    mkdir -p "${HOME}/.config/fish" "${HOME}/.local/share/fish/generated_completions"
    case ${shell} in
        bash)
            # A short form of the loader of the package bash-completion.
            cat >"${HOME}/.bashrc" <<'END'
PS1='ready> '
load_completion() { source "${BATS_TEST_TMPDIR}/share/bash-completion/completions/$1" 2>/dev/null && return 124; }
complete -D -F load_completion 2>/dev/null || load_completion aba-lock
END
            printf '%s\n' "$@" >>"${HOME}/.bashrc"
            set -- bash --noprofile -i
            ;;
        zsh)
            cat >"${HOME}/.zshrc" <<'END'
PS1='ready> '
fpath=("${BATS_TEST_TMPDIR}/share/zsh/site-functions" $fpath)
autoload -U compinit
compinit -D -u
END
            printf '%s\n' "$@" >>"${HOME}/.zshrc"
            set -- zsh -d -i
            ;;
        fish)
            cat >"${HOME}/.config/fish/config.fish" <<'END'
set -g fish_greeting
set -g fish_autosuggestion_enabled 0
function fish_prompt; echo -n 'ready> '; end
END
            printf '%s\n' "$@" >>"${HOME}/.config/fish/config.fish"
            set -- fish -i
            ;;
        *) return 1 ;;
    esac
    terminal new-session -d -x 120 -y 90 \
        env -u TMUX -u ZDOTDIR -u XDG_CONFIG_HOME -u XDG_DATA_HOME INPUTRC=/dev/null LC_ALL=C.UTF-8 XDG_DATA_DIRS="${share}:/usr/share" "$@"
    screen_is 'ready>'
}

# Prints the screen without empty lines and trailing blanks. At its first start, fish reports a slow disk.
screen() {
    terminal capture-pane -p -J | sed 's/ *$//; /^$/d; /^warning: Locking the universal var file took too long /d'
}

# Usage: press TEXT [KEY]...: clears line and screen, types TEXT and presses the keys.
press() {
    # Not with Ctrl-C, after which the terminal drops input and output that it has not delivered.
    terminal send-keys C-u C-l
    screen_is 'ready>'
    terminal send-keys -l "$1"
    terminal send-keys "${@:2}"
}

screen_becomes() {
    local end=$((SECONDS + PATIENCE))
    until "$@"; do
        if ((SECONDS > end)); then
            printf 'gave up waiting for: %s\non the screen:\n%s\n' "${*:2}" "$(screen)" >&2
            return 1
        fi
        sleep 0.05
    done
}

is_on_screen() {
    local text now
    now=$(screen)
    for text in "$@"; do
        [[ ${now} == *"${text}"* ]] || return 1
    done
}

is_the_screen() {
    [[ $(screen) == "$1" ]]
}

# Usage: screen_has TEXT...: waits until each TEXT is on the screen.
screen_has() {
    screen_becomes is_on_screen "$@"
}

# Usage: screen_lacks TEXT...: no TEXT is on the screen now.
screen_lacks() {
    local text
    for text in "$@"; do
        if is_on_screen "${text}"; then
            printf 'not expected: %s\non the screen:\n%s\n' "${text}" "$(screen)" >&2
            return 1
        fi
    done
}

# Usage: screen_is TEXT: waits until the screen shows TEXT and nothing else.
screen_is() {
    screen_becomes is_the_screen "$1"
}

# Usage: completes TEXT RESULT: TEXT and TAB become RESULT, nothing else is printed, and typing can go on.
completes() {
    press "$1" Tab
    terminal send-keys -l END
    screen_is "ready> $2END"
}

# Usage: list TEXT: makes the shell list the candidates after TEXT. Bash does so at the second TAB.
list() {
    if [[ ${SHELL_KIND} == bash ]]; then
        press "$1" Tab Tab
    else
        press "$1" Tab
    fi
}

make_locks() {
    local name
    for name in "$@"; do
        "${ABA_LOCK_BIN}" path --create "${name}" >/dev/null
    done
}

hold() {
    start "${ABA_LOCK_BIN}" lock "$1" -- sleep 1000
    # The helper holds the lock before it becomes the command.
    until_true grep -qx sleep "/proc/${STARTED_PID}/comm"
    until_true "${ABA_LOCK_BIN}" status "$1"
}

offers_commands_and_options() {
    local SHELL_KIND=$1
    open_shell "$1"
    list 'aba-lock '
    screen_has lock unlock status path init help --help --version
    list 'aba-lock lock --'
    screen_has --wait --timeout --pid-file --help
    screen_lacks --try-first --waited --heed-keyboard
    list 'aba-lock status --'
    screen_has --file --json --help
    screen_lacks --lease
    list 'aba-lock update --'
    screen_has --check --backup --help
    screen_lacks --state
    completes 'aba-lock sta' 'aba-lock status '
    completes 'aba-lock lock --ti' 'aba-lock lock --timeout '
}

offers_lock_names() {
    local SHELL_KIND=$1 command
    make_locks backup mirror-save mirror-sync
    open_shell "$1"
    for command in lock unlock status; do
        list "aba-lock ${command} "
        screen_has backup mirror-save mirror-sync
        screen_lacks --
        completes "aba-lock ${command} mirror-sa" "aba-lock ${command} mirror-save "
    done
    completes 'aba-lock lock backup mirror-sy' 'aba-lock lock backup mirror-sync '
    completes 'aba-lock lock --timeout=5 mirror-sy' 'aba-lock lock --timeout=5 mirror-sync '
    completes 'aba-lock unlock --fd=3 mirror-sy' 'aba-lock unlock --fd=3 mirror-sync '
}

offers_names_with_colons() {
    local SHELL_KIND=$1
    make_locks db:main db:test web@one web@two
    open_shell "$1"
    list 'aba-lock lock db:'
    screen_has main test
    completes 'aba-lock lock db:m' 'aba-lock lock db:main '
    completes 'aba-lock lock web@o' 'aba-lock lock web@one '
    completes 'aba-lock status db:t' 'aba-lock status db:test '
    completes 'aba-lock lock db:main db:t' 'aba-lock lock db:main db:test '
    completes 'aba-lock lock "db:m' 'aba-lock lock "db:main" '
}

leaves_files_and_commands_to_the_shell() {
    local SHELL_KIND=$1
    make_locks backup
    touch 'one file' other
    mkdir folder
    open_shell "$1"
    completes 'aba-lock lock --file one' 'aba-lock lock --file one\ file '
    completes 'aba-lock lock --file=one' 'aba-lock lock --file=one\ file '
    local folder=folder/
    # Bash before 4.1 adds no slash.
    [[ $1 != bash ]] || "${BASH_BIN}" -c '[[ -n ${BASHOPTS-} ]]' || folder='folder '
    completes 'aba-lock lock --pid-file fol' "aba-lock lock --pid-file ${folder}"
    completes 'aba-lock lock backup -- touc' 'aba-lock lock backup -- touch '
    completes 'aba-lock lock backup -- touch ot' 'aba-lock lock backup -- touch other '
    # The name of the lock is not offered here.
    completes 'aba-lock lock backup -- touch bac' 'aba-lock lock backup -- touch bac'
}

is_silent_when_nothing_is_there() {
    open_shell "$1"
    completes 'aba-lock lock zz' 'aba-lock lock zz'
    completes 'aba-lock status zz' 'aba-lock status zz'
    [[ ! -e ${ABA_LOCK_DIR} ]]
    close_shell
    PATH=${SYSTEM_PATH} ABA_LOCK_BIN=aba-lock open_shell "$@"
    completes 'aba-lock lock zz' 'aba-lock lock zz'
    completes 'aba-lock sta' 'aba-lock sta'
}

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

@test "bash offers the commands and the options" {
    offers_commands_and_options bash
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

@test "bash offers the names of locks without options" {
    offers_lock_names bash
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

@test "bash offers a lock that was made after the last TAB" {
    open_shell bash
    completes 'aba-lock lock ba' 'aba-lock lock ba'
    make_locks backup
    completes 'aba-lock lock ba' 'aba-lock lock backup '
}

@test "bash completes names with a colon or an at sign" {
    offers_names_with_colons bash
}

@test "zsh completes names with a colon or an at sign" {
    offers_names_with_colons zsh
}

@test "fish completes names with a colon or an at sign" {
    offers_names_with_colons fish
}

@test "bash completes files after --file, and the command after --" {
    leaves_files_and_commands_to_the_shell bash
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

@test "bash completes when the script is sourced" {
    make_locks mirror-save
    open_shell bash 'complete -r -D 2>/dev/null || complete -r aba-lock' 'source "${PROJECT}/completions/aba-lock.bash"'
    completes 'aba-lock lock mir' 'aba-lock lock mirror-save '
}

@test "bash completes nothing and prints nothing without a lock directory or a helper" {
    is_silent_when_nothing_is_there bash 'source "${LIBRARY}"'
    completes 'aba_lock_operation zz' 'aba_lock_operation zz'
    completes 'aba_lock_held zz' 'aba_lock_held zz'
}

@test "zsh completes nothing and prints nothing without a lock directory or a helper" {
    is_silent_when_nothing_is_there zsh
}

@test "fish completes nothing and prints nothing without a lock directory or a helper" {
    # Without the command, fish does not load the completion script.
    is_silent_when_nothing_is_there fish 'source "$PROJECT/completions/aba-lock.fish"'
}

@test "aba_lock_operation is completed with lock names, its options and their values" {
    local SHELL_KIND=bash
    make_locks backup mirror-save db:main db:test
    touch 'one file'
    open_shell bash 'source "${LIBRARY}"'
    list 'aba_lock_operation '
    screen_has backup mirror-save db:main db:test
    screen_lacks --
    completes 'aba_lock_operation mir' 'aba_lock_operation mirror-save '
    completes 'aba_lock_operation --timeout=5 backup db:m' 'aba_lock_operation --timeout=5 backup db:main '
    list 'aba_lock_operation --'
    screen_has --wait --timeout --pid-file --no-inherit --on-conflict --subshell
    screen_lacks --fd --file --conflict-exit-code --on-busy
    list 'aba_lock_operation --on-conflict '
    screen_has ask exit return warn
    screen_lacks backup
    completes 'aba_lock_operation --on-conflict=w' 'aba_lock_operation --on-conflict=warn '
    completes 'aba_lock_operation --pid-file one' 'aba_lock_operation --pid-file one\ file '
}

@test "aba_lock_held is completed with lock names" {
    make_locks backup db:main db:test
    open_shell bash 'source "${LIBRARY}"'
    completes 'aba_lock_held ba' 'aba_lock_held backup '
    completes 'aba_lock_held db:m' 'aba_lock_held db:main '
}

@test "aba_unlock_operation is completed with the locks that this shell holds" {
    local SHELL_KIND=bash
    make_locks backup db:other
    open_shell bash 'source "${LIBRARY}"' 'aba_lock_operation db:main mirror-save'
    list 'aba_unlock_operation '
    screen_has db:main mirror-save
    screen_lacks backup other
    completes 'aba_unlock_operation db:' 'aba_unlock_operation db:main '
}

@test "aba_lock_detach is completed with commands and their files" {
    touch 'one file'
    open_shell bash 'source "${LIBRARY}"' 'my_daemon() { :; }'
    completes 'aba_lock_detach my_dae' 'aba_lock_detach my_daemon '
    completes 'aba_lock_detach touch one' 'aba_lock_detach touch one\ file '
}

make_tasks() {
    local id
    for id in "$@"; do
        "${ABA_LOCK_BIN}" run-once -w -i "${id}" -- true
    done
}

@test "aba_run_once and run_once are completed with their options, and the command after --" {
    local SHELL_KIND=bash function
    touch 'one file'
    open_shell bash 'source "${LIBRARY}"' 'source "${PROJECT}/shell/run_once.bash"'
    for function in aba_run_once run_once; do
        list "${function} --"
        screen_has --wait --timeout --message --validate --no-validate
        screen_lacks --shared --on-conflict
        completes "${function} --mess" "${function} --message "
        completes "${function} -w -i x -- touc" "${function} -w -i x -- touch "
        completes "${function} -w -i x -- touch one" "${function} -w -i x -- touch one\ file "
    done
}

@test "run_once is completed without the library, and prints nothing without a helper" {
    open_shell bash 'source "${PROJECT}/shell/run_once.bash"'
    completes 'run_once --mess' 'run_once --message '
    close_shell
    PATH=${SYSTEM_PATH} ABA_LOCK_BIN=aba-lock open_shell bash 'source "${PROJECT}/shell/run_once.bash"'
    completes 'run_once --mess' 'run_once --mess'
}

@test "aba_run_once and run_once are completed with the ids of tasks" {
    local SHELL_KIND=bash function
    make_tasks fetch oc:download oc:install
    open_shell bash 'source "${LIBRARY}"' 'source "${PROJECT}/shell/run_once.bash"'
    for function in aba_run_once run_once; do
        list "${function} -w -i "
        screen_has fetch oc:download oc:install
        completes "${function} -w -i fe" "${function} -w -i fetch "
        completes "${function} --id oc:d" "${function} --id oc:download "
        completes "  ${function} -qw --id=oc:i" "  ${function} -qw --id=oc:install "
    done
}

@test "aba_lock_doctor is completed with its options" {
    local SHELL_KIND=bash
    open_shell bash 'source "${LIBRARY}"'
    completes "aba_lock_doctor --js" "aba_lock_doctor --json "
}

@test "aba_update is completed with its options, files, and the command after --" {
    local SHELL_KIND=bash
    echo >hosts.txt
    open_shell bash 'source "${LIBRARY}"' 'unset -f _command_offset'
    completes "aba_update --dry" "aba_update --dry-run "
    completes "aba_update host" "aba_update hosts.txt "
    completes "aba_update hosts.txt -- mkfif" "aba_update hosts.txt -- mkfifo "
}

@test "aba_reserve is completed with its options, and the command after --" {
    local SHELL_KIND=bash
    open_shell bash 'source "${LIBRARY}"' 'unset -f _command_offset'
    list 'aba_reserve --'
    screen_has --pool --tag --list
    completes 'aba_reserve --he' 'aba_reserve --help '
    completes 'aba_reserve -- mkfif' 'aba_reserve -- mkfifo '
}

offers_leases() {
    local SHELL_KIND=$1
    make_locks backup
    open_shell "$1"
    list 'aba-lock lease '
    screen_has run acquire renew release show list
    # The descriptions contain the word `holder`.
    screen_lacks settle tokens 'hold '
    completes 'aba-lock lease acq' 'aba-lock lease acquire '
    list 'aba-lock lease acquire --'
    screen_has --server --ttl --wait --json
    completes 'aba-lock lease show back' 'aba-lock lease show backup '
    list 'aba-lock lease run --'
    screen_has --timeout --on-lost --progress --slots
    completes 'aba-lock lease run --max' 'aba-lock lease run --max-wait '
    completes 'aba-lock lease run backup -- mkfif' 'aba-lock lease run backup -- mkfifo '
}

@test "bash offers the commands of lease, and their options" {
    offers_leases bash
}

@test "zsh offers the commands of lease, and their options" {
    offers_leases zsh
}

@test "fish offers the commands of lease, and their options" {
    offers_leases fish
}

@test "every function of the library is completed, even if PATH does not lead to the helper" {
    make_locks backup
    mkdir -p prefix/bin prefix/share/aba-lock
    cp "${PROJECT}"/shell/*.bash prefix/share/aba-lock/
    ln -s "${ABA_LOCK_BIN}" prefix/bin/aba-lock
    PATH=/usr/bin:/bin ABA_LOCK_BIN='' open_shell bash 'source prefix/share/aba-lock/aba-lock.bash' \
        'source prefix/share/aba-lock/run_once.bash'
    local function
    for function in $(sed -n 's/^\(aba_[a-z_]*\)() {$/\1/p' "${WHOLE_LIBRARY}") run_once; do
        case ${function} in
            aba_lock_operation | aba_lock_held | aba_lock_check | aba_unlock_operation)
                completes "${function} back" "${function} backup "
                ;;
            aba_lock_detach) completes "${function} mkfif" "${function} mkfifo " ;;
            *) completes "${function} --hel" "${function} --help " ;;
        esac
    done
}

@test "the library and the completion define different functions" {
    local file
    for file in "${WHOLE_LIBRARY}" "${PROJECT}/shell/run_once.bash" "${PROJECT}/completions/aba-lock.bash"; do
        # The rest of the library replaces some functions of its fast part.
        sed -n 's/^\([_a-z]*\)() {$/\1/p' "${file}" | sort -u
    done | sort >all
    (($(grep -c . all) > 50))
    run -0 uniq -d all
    expect_silence
}
