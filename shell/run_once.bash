# run_once.bash: run_once, for scripts that have had a function of that name. See run_once.bash(7).
#
#     source /usr/local/share/aba-lock/run_once.bash      # after the old definition, or instead of it
#     run_once -i fetch -- make download                  # in the background, once
#     run_once -w -m 'Waiting for the download' -i fetch  # later: wait for it, and return its status
#
# It takes the option letters of the older function, and calls the helper, the program aba-lock. It does not need
# aba-lock.bash, but works in the same shells and avoids the same constructs: see there. Sourcing prints nothing, starts
# no process, and changes nothing but run_once and names that begin with __run_once.
#
# shellcheck shell=bash
# shellcheck disable=SC2016 # messages show commands in backquotes
# shellcheck disable=SC2310 # functions called in conditions say so by their return status

# In another shell a script must not take a task for done, so the function ends the script. (An array is never in the
# environment, but BASH_VERSION may be. The function is in quotes because aliases may be in force.)
# shellcheck disable=SC2128,SC2292
if [ -z "${BASH_VERSINFO:-}" ]; then
    printf '%s\n' 'aba-lock: run_once.bash works only in bash' 'hint: run the script with bash, or use `aba-lock run-once`' >&2
    eval 'run_once() {
            printf "%s\n" "aba-lock: run_once works only in bash" "hint: run the script with bash" >&2
            if [ "${-#*i}" = "$-" ]; then
                \exit 125
            fi
            \return 125
        }'
    return 125
fi

# Bash expands aliases when it reads a function, so they are off while it reads these.
if \builtin shopt -q expand_aliases; then
    \builtin shopt -u expand_aliases
    __run_once_aliases=-s
else
    __run_once_aliases=-u
fi

# `PREFIX/bin:`, searched first for the helper if this file is in PREFIX/share/aba-lock.
__run_once_installed=${BASH_SOURCE[0]-}
[[ ${__run_once_installed} == /* ]] || __run_once_installed=${PWD-}/${__run_once_installed#./}
__run_once_installed=${__run_once_installed%/*}
if [[ ${__run_once_installed} == */share/aba-lock ]]; then
    __run_once_installed=${__run_once_installed%/share/aba-lock}/bin:
else
    __run_once_installed=''
fi

# Usage: run_once [OPTIONS] -i ID [[--] CMD [ARG]...]
#        run_once -G | -F
#
# Runs CMD once for ID. Other calls wait for it, or read its outcome. Options as in `aba-lock run-once`, but:
#     -w       validates, unless -S is given: a task that has succeeded runs again, and the new outcome counts
#     -o       also prints stderr, if the task was started in the background
#     -W, -c   have no effect without -w
#     -m TEXT  is printed by `aba_info`, if the script has such a function, otherwise on stdout
run_once() {
    if [[ $- == *k* ]]; then
        \printf '%s\n' 'aba-lock: run_once.bash cannot work: `set -k` removes NAME=VALUE from the arguments of commands' \
            'hint: turn it off: `set +k`' >&2
        \return 125
    fi
    builtin local __run_once_bin='' __run_once_id='' __run_once_mode='' __run_once_quiet='' __run_once_message=''
    builtin local __run_once_option='' __run_once_letters='' __run_once_index=0 __run_once_ignored=''
    # `yes` if the caller gives a message. In bash 3.2, `local NAME` sets NAME to the empty text.
    builtin local __run_once_key='' __run_once_custom=''
    # Letters become long names, because under `nocasematch` a `case` cannot tell apart -w and -W.
    builtin local __run_once_table=' -i=--id -m=--message -t=--ttl -W=--timeout -c=--purge -q=--quiet -S=--no-validate
 -w=--wait -s=--start -p=--peek -A=--active -R=--running -o=--stdout -e=--stderr -E=--exit-status -r=--reset
 -G=--reset-all -F=--reset-failed -h=-h '
    builtin local -a __run_once_words __run_once_kept
    __run_once_find_helper || builtin return "$?"
    # Defaults, which options of the caller override. The message is empty, because run_once prints it.
    __run_once_words=(run-once --validate --combined-log --message=
        "--failure-note=[ABA] If this problem persists, re-run './install' from the ABA directory to clear the task cache.")
    while (($# > 0)); do
        case $1 in
            --)
                builtin shift
                builtin break
                ;;
            --*) __run_once_option=$1 ;;
            -?*) __run_once_letters=${1#-} ;;
            *) builtin break ;;
        esac
        while ((1)); do
            if [[ -n ${__run_once_letters} ]]; then
                __run_once_option=${__run_once_table#* "-${__run_once_letters:0:1}="}
                __run_once_option=${__run_once_option%%[[:space:]]*}
                __run_once_letters=${__run_once_letters#?}
                if [[ -z ${__run_once_option} ]]; then
                    # An unknown letter: the helper reports it.
                    __run_once_option=$1 __run_once_letters=''
                fi
            fi
            case ${__run_once_option} in
                --id | --key | --message | --ttl | --timeout | --max-time | --grace | --failure-note)
                    # Joined into one word, because a value may begin with `-`.
                    if [[ -n ${__run_once_letters} ]]; then
                        __run_once_option=${__run_once_option}=${__run_once_letters#=} __run_once_letters=''
                    elif (($# > 1)); then
                        __run_once_option=${__run_once_option}=$2
                        builtin shift
                    fi
                    ;;
                --wait | --start | --peek | --active | --running | --stdout | --stderr | --exit-status | --reset | --list | --json | \
                    --reset-all | --reset-failed)
                    __run_once_mode=${__run_once_option}
                    ;;
                --quiet | --follow) __run_once_quiet=yes ;;
                *) ;;
            esac
            case ${__run_once_option} in
                --message=*) __run_once_message=${__run_once_option#*=} __run_once_custom=yes ;;
                --id=* | --key=* | --ttl=* | --timeout=* | --max-time=* | --grace=* | --failure-note=*)
                    [[ ${__run_once_option} != --id=* ]] || __run_once_id=${__run_once_option#*=}
                    [[ ${__run_once_option} != --key=* ]] || __run_once_key=${__run_once_option}
                    # The last value counts. The helper would refuse a second one.
                    for ((__run_once_index = 0; __run_once_index < ${#__run_once_words[@]}; __run_once_index++)); do
                        [[ ${__run_once_words[__run_once_index]} != "${__run_once_option%%=*}="* ]] || builtin break
                    done
                    __run_once_words[__run_once_index]=${__run_once_option}
                    ;;
                *) __run_once_words+=("${__run_once_option}") ;;
            esac
            [[ -n ${__run_once_letters} ]] || builtin break
        done
        builtin shift
    done
    # The helper refuses options that have no effect in the mode. The older function ignored them.
    case ${__run_once_mode} in
        --wait) __run_once_ignored=' --combined-log ' ;;
        '' | --start) __run_once_ignored=' --validate --purge --follow --timeout ' ;;
        --peek | --active | --running | --exit-status)
            __run_once_ignored=' --validate --purge --follow --timeout --combined-log '
            ;;
        *) __run_once_ignored=' --validate --purge --follow --timeout --combined-log --ttl ' ;;
    esac
    for __run_once_option in "${__run_once_words[@]}"; do
        [[ ${__run_once_ignored} == *" ${__run_once_option%%=*} "* ]] || __run_once_kept+=("${__run_once_option}")
    done
    if [[ ${__run_once_mode} == --wait && -z ${__run_once_quiet} ]]; then
        if [[ -n ${__run_once_key} ]]; then
            # The helper reports a wrong text below.
            __run_once_id=$(__run_once_run_helper path --name "${__run_once_key}" 2>/dev/null) || builtin true
        fi
        [[ -n ${__run_once_custom} ]] || __run_once_message="Waiting for task: ${__run_once_id}"
        __run_once_print_wait "${__run_once_message}"
    fi
    # For the older function, an unknown task had no output, which was no failure.
    [[ ${__run_once_mode} != --std* ]] || __run_once_kept+=(--quiet)
    __run_once_run_helper "${__run_once_kept[@]}" -- "$@" || {
        __run_once_index=$?
        [[ ${__run_once_index}${__run_once_mode} == 1--std* ]] || builtin return "${__run_once_index}"
    }
}

# Prints message $1, with the pid, if the task runs.
__run_once_print_wait() {
    builtin local __run_once_directory="${ABA_LOCK_DIR-}" __run_once_pid=''
    if [[ -z ${__run_once_directory} ]]; then
        if [[ -n ${HOME:-} ]]; then
            __run_once_directory=${HOME}/.aba
        else
            # If HOME is unset, `~` is the home directory in the passwd file; if HOME is empty, `~` is empty, too.
            __run_once_directory=$(builtin unset -v HOME && builtin printf '%s' ~)/.aba
        fi
    fi
    # In a directory that all users share, each user has tasks of its own.
    if [[ -d ${__run_once_directory}/runner-${EUID} ]]; then
        __run_once_directory+=/runner-${EUID}
    else
        __run_once_directory+=/runner
    fi
    __run_once_directory=${RUN_ONCE_DIR:-${__run_once_directory}}/${__run_once_id}
    # Asks the helper only if the files allow that the task runs. A supervisor that was killed leaves the file `pid`; an
    # older function, in the foreground, writes none, but then there is a lock and no outcome.
    if [[ -n $1 && (-f ${__run_once_directory}/pid || (-f ${__run_once_directory}/lock && ! -f ${__run_once_directory}/exit)) ]] &&
        __run_once_run_helper run-once --running "--id=${__run_once_id}" >/dev/null 2>&1; then
        { IFS= builtin read -r __run_once_pid <"${__run_once_directory}/pid"; } 2>/dev/null || builtin true
        __run_once_pid=${__run_once_pid:+ (PID: ${__run_once_pid})}
        if builtin declare -F aba_info >/dev/null; then
            aba_info "$1${__run_once_pid}" || builtin true
        else
            builtin printf '%s\n' "$1${__run_once_pid}" || builtin true
        fi
    fi
}

# Runs the helper with these arguments. A subshell exports the variables, so that they stay as they are in the script.
__run_once_run_helper() {
    (
        builtin export RUN_ONCE_DIR ABA_LOCK_DIR HOME
        builtin exec "${__run_once_bin}" "$@"
    )
}

# Sets __run_once_bin to the path of the helper, as __aba_find_helper in aba-lock.bash does. If there is none, prints a
# message and returns 125.
__run_once_find_helper() {
    builtin local __run_once_list="${PATH-}:" __run_once_name="${ABA_LOCK_BIN:-aba-lock}"
    # The directory of this version comes before PATH, which may lead to another version.
    [[ -n ${ABA_LOCK_BIN:-} ]] || __run_once_list=${__run_once_installed}${__run_once_list}
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
    builtin printf '%s\n' "aba-lock: the helper ${__run_once_name}${ABA_LOCK_BIN:+ (from ABA_LOCK_BIN)} was not found, or is not executable" \
        'hint: add the directory of aba-lock to PATH, or set ABA_LOCK_BIN to its path' >&2 || builtin true
    builtin return 125
}

# Completes run_once. The code for that comes from the helper at the first TAB, so that scripts do not parse it.
__run_once_complete() {
    [[ $- != *k* ]] || \return 0
    builtin local __run_once_bin='' __run_once_script=''
    __run_once_find_helper 2>/dev/null || builtin return 0
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

# One command, which bash reads as a whole before it expands aliases again.
builtin shopt "${__run_once_aliases}" expand_aliases && builtin unset -v __run_once_aliases
