# run_once.bash: run_once for shell scripts that have such a function already: the same letters, done by the helper.
#
#     source /usr/local/share/aba-lock/run_once.bash      # after the old definition, or instead of it
#     run_once -i fetch -- make download                  # in the background, once
#     run_once -w -m 'Waiting for the download' -i fetch  # later: wait for it, with its status
#
# See run_once.bash(7). Sourcing prints nothing, starts no process, and changes nothing but its own functions. For bash
# 3.2 and newer, whatever options the script has set: see aba-lock.bash, which this does not need.
#
# shellcheck shell=bash
# shellcheck disable=SC2016 # messages show commands in backquotes
# shellcheck disable=SC2310 # functions called in conditions say so by their return status

# Other shells may source this file. A script must not take a task for done there, so the function ends the script. (An array is
# never in the environment, but BASH_VERSION may be. The function is in quotes, because aliases may be in force.)
# shellcheck disable=SC2128,SC2292
if [ -z "${BASH_VERSINFO:-}" ]; then
    printf '%s\n' 'aba-lock: run_once.bash is for bash' 'hint: in other shells, use `aba-lock run-once`' >&2
    eval 'run_once() {
            printf "%s\n" "aba-lock: run_once works only in bash" >&2
            if [ "${-#*i}" = "$-" ]; then
                \exit 125
            fi
            \return 125
        }'
    return 125
fi

# Aliases are replaced when a function is read: read ours without them.
if \builtin shopt -q expand_aliases; then
    \builtin shopt -u expand_aliases
    __run_once_aliases=-s
else
    __run_once_aliases=-u
fi

# The helper that was installed with this file, which is in PREFIX/share/aba-lock.
__run_once_installed=${BASH_SOURCE[0]-}
[[ ${__run_once_installed} == /* ]] || __run_once_installed=${PWD-}/${__run_once_installed#./}
__run_once_installed=${__run_once_installed%/*}
if [[ ${__run_once_installed} == */share/aba-lock ]]; then
    __run_once_installed=${__run_once_installed%/share/aba-lock}/bin/aba-lock
else
    __run_once_installed=''
fi

# Usage: run_once [OPTIONS] -i ID [[--] CMD [ARG]...]
#        run_once -G | -F
#
# Runs CMD once for ID; everyone else waits for it, or reads its outcome. Options as in `aba-lock run-once`, but:
#     -w       validates, unless -S: what succeeded before is run again, and that is the outcome
#     -o       prints stderr, too, of a run in the background
#     -m TEXT  is said by `aba_info`, if the script has such a function, else on stdout
run_once() {
    if [[ $- == *k* ]]; then
        \printf '%s\n' 'aba-lock: under `set -k` bash takes NAME=VALUE from the arguments of every command, so run_once.bash cannot work' \
            'hint: turn it off: `set +k`' >&2
        \return 125
    fi
    builtin local __run_once_bin='' __run_once_id='' __run_once_wait='' __run_once_quiet='' __run_once_message
    builtin local __run_once_option='' __run_once_letters='' __run_once_at=0
    # By the long names: under `nocasematch` a pattern does not tell -w and -W apart.
    builtin local __run_once_table=' -i=--id -m=--message -t=--ttl -W=--timeout -c=--purge -q=--quiet -S=--no-validate
 -w=--wait -s=--start -p=--peek -A=--active -R=--running -o=--stdout -e=--stderr -E=--exit-status -r=--reset
 -G=--reset-all -F=--reset-failed -h=-h '
    builtin local -a __run_once_words
    __run_once_find || builtin return "$?"
    # What the caller says comes later and counts. The message is ours to say.
    __run_once_words=(run-once --validate --combined-log --message=
        "--failure-note=[ABA] If this problem persists, re-run './install' from the ABA directory to clear the task cache.")
    while (($# > 0)); do
        case $1 in
            --)
                builtin shift
                break
                ;;
            --*) __run_once_option=$1 ;;
            -?*) __run_once_letters=${1#-} ;;
            *) break ;;
        esac
        while ((1)); do
            if [[ -n ${__run_once_letters} ]]; then
                __run_once_option=${__run_once_table#* "-${__run_once_letters:0:1}="}
                __run_once_option=${__run_once_option%%[[:space:]]*}
                __run_once_letters=${__run_once_letters#?}
                if [[ -z ${__run_once_option} ]]; then
                    # No letter of ours: the helper says so.
                    __run_once_option=$1 __run_once_letters=''
                fi
            fi
            case ${__run_once_option} in
                --id | --message | --ttl | --timeout | --failure-note)
                    if [[ -n ${__run_once_letters} ]]; then
                        __run_once_option=${__run_once_option}=${__run_once_letters#=} __run_once_letters=''
                    elif (($# > 1)); then
                        # In one word, so that a value may begin with `-`.
                        __run_once_option=${__run_once_option}=$2
                        builtin shift
                    fi
                    ;;
                --wait) __run_once_wait=yes ;;
                --start | --peek | --active | --running | --stdout | --stderr | --exit-status | --reset | --list)
                    __run_once_wait=''
                    ;;
                --quiet | --follow) __run_once_quiet=yes ;;
                *) ;;
            esac
            case ${__run_once_option} in
                --message=*) __run_once_message=${__run_once_option#*=} ;;
                --id=* | --ttl=* | --timeout=* | --failure-note=*)
                    # The helper refuses a second value. Here the last one counts.
                    __run_once_at=0
                    while ((__run_once_at < ${#__run_once_words[@]})) &&
                        [[ ${__run_once_words[__run_once_at]} != "${__run_once_option%%=*}="* ]]; do
                        __run_once_at=$((__run_once_at + 1))
                    done
                    __run_once_words[__run_once_at]=${__run_once_option}
                    ;;
                *) __run_once_words+=("${__run_once_option}") ;;
            esac
            case ${__run_once_option} in
                --id=*) __run_once_id=${__run_once_option#*=} ;;
                *) ;;
            esac
            [[ -n ${__run_once_letters} ]] || break
        done
        builtin shift
    done
    if [[ -n ${__run_once_wait} && -z ${__run_once_quiet} ]]; then
        __run_once_tell "${__run_once_message-Waiting for task: ${__run_once_id}}"
    fi
    __run_once_helper "${__run_once_words[@]}" -- "$@" || builtin return "$?"
}

# ---- what follows is private ---------------------------------------------------------------------------------------

# Says $1 with the pid, if the task runs.
__run_once_tell() {
    builtin local __run_once_file="${ABA_LOCK_DIR-}" __run_once_pid=''
    if [[ -z ${__run_once_file} ]]; then
        if [[ -n ${HOME:-} ]]; then
            __run_once_file=${HOME}/.aba
        else
            # `~` is empty where HOME is, and the home directory of the passwd file where there is no HOME.
            __run_once_file=$(builtin unset -v HOME && builtin printf '%s' ~)/.aba
        fi
    fi
    __run_once_file=${RUN_ONCE_DIR:-${__run_once_file}/runner}/${__run_once_id}
    # The file `pid` alone proves nothing: a supervisor that was killed leaves it. An older function writes none in the
    # foreground, but then there is a lock and no outcome. In all other cases the task does not run.
    if [[ -n $1 && (-f ${__run_once_file}/pid || (-f ${__run_once_file}/lock && ! -f ${__run_once_file}/exit)) ]] &&
        __run_once_helper run-once --running "--id=${__run_once_id}" >/dev/null 2>&1; then
        { IFS= builtin read -r __run_once_pid <"${__run_once_file}/pid"; } 2>/dev/null || builtin true
        __run_once_pid=${__run_once_pid:+ (PID: ${__run_once_pid})}
        if builtin declare -F aba_info >/dev/null; then
            aba_info "$1${__run_once_pid}" || builtin true
        else
            builtin printf '%s\n' "$1${__run_once_pid}" || builtin true
        fi
    fi
}

# Runs the helper with these arguments, where its failure is expected. It takes the place of a subshell, so that it sees
# variables that the script has set and not exported, and the script's own, perhaps readonly, stay as they are.
__run_once_helper() {
    (
        builtin export RUN_ONCE_DIR ABA_LOCK_DIR HOME
        builtin exec "${__run_once_bin}" "$@"
    )
}

# Which helper to run: in __run_once_bin, with its directory, so that no function can stand in its way.
__run_once_find() {
    builtin local __run_once_list="${PATH-}:" __run_once_name="${ABA_LOCK_BIN:-aba-lock}"
    # This one comes before PATH, which may lead to another version.
    if [[ -z ${ABA_LOCK_BIN:-} && -n ${__run_once_installed} && -f ${__run_once_installed} && -x ${__run_once_installed} ]]; then
        __run_once_bin=${__run_once_installed}
        builtin return 0
    fi
    while [[ -n ${__run_once_list} ]]; do
        __run_once_bin=${__run_once_name}
        if [[ ${__run_once_bin} != */* ]]; then
            __run_once_bin=${__run_once_list%%:*}
            __run_once_bin=${__run_once_bin:-.}/${__run_once_name}
        fi
        if [[ -f ${__run_once_bin} && -x ${__run_once_bin} ]]; then
            builtin return 0
        fi
        __run_once_list=${__run_once_list#*:}
    done
    builtin printf '%s\n' "aba-lock: the helper ${__run_once_name} was not found, so no task can be run" \
        'hint: install it on PATH, or set ABA_LOCK_BIN to where it is' >&2 || builtin true
    builtin return 125
}

# How to ask the helper what to offer is read from it at the first TAB.
__run_once_complete() {
    [[ $- != *k* ]] || \return 0
    builtin local __run_once_bin='' __run_once_script=''
    __run_once_find 2>/dev/null || builtin return 0
    if builtin declare -F __aba_complete_function >/dev/null || {
        __run_once_script=$(ABA_LOCK_COMPLETE=bash "${__run_once_bin}" 2>/dev/null) &&
            builtin eval "${__run_once_script}"
    }; then
        __aba_complete_function "$@"
    fi
}

if [[ $- == *i* ]]; then
    builtin complete -F __run_once_complete run_once
fi

# One command, which is read as a whole before aliases are in force again.
builtin shopt "${__run_once_aliases}" expand_aliases && builtin unset -v __run_once_aliases
