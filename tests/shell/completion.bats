#!/usr/bin/env bats
# Tab completion in bash, which has no descriptions to show.
#
# shellcheck disable=SC2016 # the opened shells expand the text in single quotes
# shellcheck disable=SC2034 # terminal.bash reads SHELL_KIND

load helper
load terminal

@test "bash offers the commands and the options" {
    offers_commands_and_options bash
}

@test "bash offers the names of locks without options" {
    offers_lock_names bash
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

@test "bash completes files after --file, and the command after --" {
    leaves_files_and_commands_to_the_shell bash
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

@test "bash offers the commands of lease, and their options" {
    offers_leases bash
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
