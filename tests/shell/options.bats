#!/usr/bin/env bats
# The functions of the library pass on the options of the helper: each option that the helper has, in each form. The help of
# the helper says which these are, so a new option that the library does not know fails here.

load helper

# Usage: list_options COMMAND: prints a line for each option of this command of the helper, SHORT LONG VALUE. SHORT may be
# `none`, and VALUE is `none`, `required` or `optional`.
list_options() {
    "${ABA_LOCK_BIN}" "$1" --help | sed -nE '
        s/^ {2,6}(--.*)$/none, \1/
        s/^ *(-[a-zA-Z]|none), (--[a-z-]+)$/\1 \2 none/p
        s/^ *(-[a-zA-Z]|none), (--[a-z-]+) <.*>$/\1 \2 required/p
        s/^ *(-[a-zA-Z]|none), (--[a-z-]+)\[=<.*>\]$/\1 \2 optional/p' | grep -v -- ' --help '
}

# Usage: list_forms SHORT LONG VALUE: prints the ways to give this option, with the value 5, a line each.
list_forms() {
    case $3 in
        none) printf '%s\n' "$1" "$2" ;;
        required) printf '%s\n' "$1 5" "${1}5" "$2 5" "$2=5" ;;
        optional) printf '%s\n' "$1" "$1=5" "$2" "$2=5" ;;
    esac | grep -v '^none'
}

# Writes a helper that notes the words of a call of COMMAND in the file `words`, a line each, and a script, `tool`, that
# calls what is in its arguments.
setup_tool() {
    printf '#!/bin/sh\nif [ "$1" = %s ]; then printf "%%s\\n" "$@" >words; exit; fi\nexec "%s" "$@"\n' "$1" "${ABA_LOCK_BIN}" >noting
    chmod +x noting
    script tool <<'END'
source "${PROJECT}/shell/run_once.bash"
ABA_LOCK_BIN=${PWD}/noting
"$@"
END
}

# Usage: expect_word WORD CALL: WORD is one of the words that the helper got from CALL.
expect_word() {
    grep -qxF -- "$1" words || {
        printf '%s did not pass %s on:\n%s\n' "$2" "$1" "$(cat words)" >&2
        return 1
    }
}

@test "aba_lock_operation passes on each option of the helper, and refuses those that have no use in a script" {
    local refused offered short long value form word
    # The library opens the files of names itself, on descriptors, and asks for --reopen in each call. --fcntl is for files.
    refused=' --file --fcntl --fd --reopen'
    # The script has --on-conflict, and the statuses of the library.
    refused+=' --on-busy --conflict-exit-code --command '
    setup_tool lock
    offered=$'--on-conflict\n--subshell\n--help\n'
    while read -r short long value; do
        while read -r form; do
            # A call by root would create the directory of all users of the machine: tests/users/system.rs makes these calls.
            [[ ${long} != --system ]] || continue
            rm -f words
            run ./tool aba_lock_operation ${form} save
            if [[ ${refused} == *" ${long} "* ]]; then
                expect_text 'aba_lock_operation: no such option: -'
                [[ ${status} == 2 && ! -e words ]]
            else
                case ${form} in
                    "${long} 5") word=${long}=5 ;;
                    *) word=${form/ /} ;;
                esac
                expect_word "${word}" "aba_lock_operation ${form}"
            fi
        done < <(list_forms "${short}" "${long}" "${value}")
        if [[ ${refused} != *" ${long} "* ]]; then
            offered+=${long}$'\n'
            run -0 ./tool aba_lock_operation --help
            expect_text "${long}"
        fi
    done < <(list_options lock)
    (($(grep -c . <<<"${offered}") > 12))

    # Completion offers the same options.
    ABA_LOCK_COMPLETE=bash "${ABA_LOCK_BIN}" >completion
    cat >ask <<'END'
source "${LIBRARY}"
source ./completion
COMP_WORDS=(aba_lock_operation --) COMP_CWORD=1 COMP_LINE='aba_lock_operation --' COMP_POINT=21
__aba_complete_function aba_lock_operation -- aba_lock_operation
printf '%s\n' "${COMPREPLY[@]}" >offered
END
    run bash ./ask
    diff <(sort <<<"${offered%$'\n'}") <(sort offered)
}

@test "aba_run_once, aba_update and aba_reserve pass all options on as they are" {
    local function command short long value form options
    for function in aba_run_once aba_update aba_reserve; do
        command=${function#aba_}
        command=${command/_/-}
        setup_tool "${command}"
        options=''
        while read -r short long value; do
            while read -r form; do
                options+=" ${form}"
            done < <(list_forms "${short}" "${long}" "${value}")
        done < <(list_options "${command}")
        [[ ${options} == *' -t 5 '* ]]
        run -0 ./tool "${function}" ${options} 'a word'
        diff <(printf '%s\n' "${command}" ${options} 'a word') words
    done
}

@test "run_once passes on each option of the helper, by its long name and with its value in the same word" {
    local short long value form word mode count=0
    setup_tool run-once
    while read -r short long value; do
        while read -r form; do
            # These have an effect only with --wait.
            mode=''
            case ${long} in
                --follow | --purge | --timeout | --validate) mode=--wait ;;
                *) ;;
            esac
            run -0 ./tool run_once -i task ${mode} ${form} -- true -x
            word=${long}
            [[ ${value} == none ]] || word+='=5'
            # run_once prints the message itself.
            [[ ${long} != --message ]] || word=--message=
            expect_word "${word}" "run_once ${form}"
            [[ ${long} == --id ]] || expect_word --id=task "run_once ${form}"
            run -0 tail -n 3 words
            [[ ${output} == $'--\ntrue\n-x' ]]
            count=$((count + 1))
        done < <(list_forms "${short}" "${long}" "${value}")
    done < <(list_options run-once)
    ((count > 30))
}
