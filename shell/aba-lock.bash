# aba-lock.bash: locks for shell scripts, to be sourced.
#
#     source /usr/local/share/aba-lock/aba-lock.bash
#     aba_lock_operation mirror-save      # held on FD 200 until this script ends
#
# Functions: aba_lock_operation, aba_unlock_operation, aba_lock_held, aba_lock_check, aba_lock_detach, aba_run_once, aba_update,
# aba_reserve, aba_lock_doctor; see aba-lock.bash(7).
# Sourcing prints nothing, starts no process, and changes no option, trap or variable but its own.
#
# For bash 3.2 (the one that macOS ships) and newer, whatever options the script has set. So, on purpose, none of
# these, which look as if they belonged here: `{fd}<>` and `BASHPID` without a fallback (4.0 and 4.1), `declare -A`
# and `mapfile` (4.0), `[[ -v ]]` (4.2), an array that may be empty (an error under `nounset` until 4.4), a
# pattern with a range, a class or a negation in brackets, but in `${x//[0-9]/}` (wrong until 4.4 if `-`, `:` or `!` is
# in IFS). Lists are strings that are taken apart with ${x%% *}, because the script may have set IFS.
#
# Private functions hand results over in variables that the caller made local: a command substitution would be a process.
#
# shellcheck shell=bash
# shellcheck disable=SC2016 # messages show commands in backquotes
# shellcheck disable=SC2310 # functions called in conditions say so by their return status
# shellcheck disable=SC2030,SC2031 # aba_lock_detach changes its copies in a subshell, on purpose

# Other shells may source this file. A script must not run there without its locks, so each function ends the script. (An array
# is never in the environment, but BASH_VERSION may be. The functions are in quotes, because aliases may be in force.)
# shellcheck disable=SC2128,SC2292
if [ -z "${BASH_VERSINFO:-}" ]; then
    printf '%s\n' 'aba-lock: aba-lock.bash is for bash' 'hint: in other shells, use `aba-lock lock NAME -- CMD`' >&2
    eval '__aba_not_bash() {
            printf "%s\n" "aba-lock: $1 works only in bash" >&2
            if [ "${-#*i}" = "$-" ]; then
                \exit 125
            fi
            \return 125
        }
        aba_lock_operation() { __aba_not_bash aba_lock_operation; }
        aba_unlock_operation() { __aba_not_bash aba_unlock_operation; }
        aba_lock_held() { __aba_not_bash aba_lock_held; }
        aba_lock_check() { __aba_not_bash aba_lock_check; }
        aba_lock_detach() { __aba_not_bash aba_lock_detach; }
        aba_run_once() { __aba_not_bash aba_run_once; }
        aba_update() { __aba_not_bash aba_update; }
        aba_reserve() { __aba_not_bash aba_reserve; }
        aba_lock_doctor() { __aba_not_bash aba_lock_doctor; }'
    return 125
fi

# Aliases are replaced when a function is read: read ours without them. A script's functions are in force when ours
# run, so builtins are called through `builtin`, which no script should define (see __aba_check_shell).
if \builtin shopt -q expand_aliases; then
    \builtin shopt -u expand_aliases
    __aba_aliases=-s
else
    __aba_aliases=-u
fi

# The version of this library: aba_lock_doctor compares it with the helper, and with the library that is installed.
__aba_version=0.1.0

# The helper that was installed with this file, which is in PREFIX/share/aba-lock. The PATH of a script may not lead to it, as under
# cron.
__aba_installed=${BASH_SOURCE[0]-}
[[ ${__aba_installed} == /* ]] || __aba_installed=${PWD-}/${__aba_installed#./}
__aba_installed=${__aba_installed%/*}
if [[ ${__aba_installed} == */share/aba-lock ]]; then
    __aba_installed=${__aba_installed%/share/aba-lock}/bin/aba-lock
else
    __aba_installed=''
fi

# The locks of this shell: `NAME/FD/PID ` each, the last taken at the end. PID is the shell process that took it;
# 0: it was handed down by the script that started this one.
__aba_locks=${__aba_locks-}

# The locks of this shell that have a lease for other machines, too: `NAME/FD/PID/LOCAL/TOKEN/CALL ` each, with the tokens of
# the local lock and of the lease, and the number of the call that asked for it.
__aba_leases=${__aba_leases-}

# The ABA_LOCK_TOKEN that was handed down to us, before there were leases of our own.
__aba_inherited_token=${__aba_inherited_token-}

# The lock files that a call has opened, until it holds the locks or closes them again: `NAME/FD ` each, and their directory. Ctrl-C
# at a prompt ends all functions at once.
__aba_pending=${__aba_pending-}
__aba_pending_directory=${__aba_pending_directory-}

# How many pid files calls of this shell have written. For each, __aba_pid_paths has the path, which is empty when the file was
# removed, and __aba_pid_locks the locks: `NAME/FD ` each.
__aba_pid_files=${__aba_pid_files-0}

# ---- acquire ----------------------------------------------------------------------------------------------------------

# Usage: aba_lock_operation [OPTIONS] OPERATION...
#
# Takes the locks, all or none, and holds them until the script ends. Options (also after the names): -n -w -w=SECONDS -t SECONDS
# -s -x -q -v --who TEXT --pid-file PATH as in `aba-lock lock`, and
#     --on-conflict exit|return|ask|warn   what to do if another process holds a lock [default: $ABA_LOCK_ON_CONFLICT, or exit]
#     --subshell                           it is meant that the lock ends with this subshell: do not say so
#     --server URL --ttl TIME --on-lost HOW   hold a lease for other machines, too [default: $ABA_LOCK_SERVER]
# With a server ABA_LOCK_TOKEN is the fencing token of the lease (of several operations the tokens, in the order in which they
# are named), until that is released. The lease is given back when the script ends, after the commands that its EXIT trap has by
# then. Ends the script with 1 if another process holds a lock, and with 125 when locking failed; an interactive shell stays open and
# gets the status. 3: going on without the lock, as `ask` or `warn` allowed.
aba_lock_operation() {
    __aba_check_shell || \return "$?"
    builtin local __aba_acquiring=yes __aba_names='' __aba_subshell='' __aba_wait_option='' __aba_pid_file='' __aba_conflict_option=''
    builtin local __aba_seconds='' __aba_previous='' __aba_name=''
    builtin local __aba_on_conflict="${ABA_LOCK_ON_CONFLICT:-exit}" __aba_server="${ABA_LOCK_SERVER-}"
    # Never empty, for the sake of `nounset` in old shells.
    builtin local -a __aba_options
    __aba_options=(--reopen)
    while (($# > 0)); do
        # The helper refuses a second value of the other options.
        case ${__aba_conflict_option}$1 in
            --on-conflict | --on-conflict=*) __aba_conflict_option='asked ' ;;
            'asked --on-conflict' | 'asked --on-conflict='*)
                __aba_print_message '--on-conflict is given twice' 'see `aba_lock_operation --help`'
                __aba_end_call 2
                builtin return "$?"
                ;;
            *) ;;
        esac
        case $1 in
            --on-conflict=*) __aba_on_conflict=${1#*=} ;;
            --server=*)
                __aba_server=${1#*=}
                __aba_options+=("$1")
                ;;
            --on-conflict | -t | --timeout | --who | --pid-file | --server | --ttl | --on-lost)
                if (($# < 2)); then
                    __aba_print_message "$1 needs a value"
                    __aba_end_call 2
                    builtin return "$?"
                fi
                # In one word, so that a value may begin with `-`.
                case $1 in
                    --on-conflict) __aba_on_conflict=$2 ;;
                    --pid-file)
                        __aba_pid_file=$2
                        __aba_options+=("$1=$2")
                        ;;
                    -t) __aba_options+=("-t$2") ;;
                    --server)
                        __aba_server=$2
                        __aba_options+=("$1=$2")
                        ;;
                    *) __aba_options+=("$1=$2") ;;
                esac
                builtin shift
                ;;
            --subshell) __aba_subshell=meant ;;
            --pid-file=*)
                __aba_pid_file=${1#*=}
                __aba_options+=("$1")
                ;;
            --nonblock | --wait)
                __aba_options+=("$1")
                __aba_wait_option=${1#--nonblock}
                ;;
            -t* | -w=* | --wait=* | --timeout=* | --who=* | --ttl=* | --on-lost=* | \
                --shared | --exclusive | --quiet | --verbose)
                __aba_options+=("$1")
                ;;
            -h | --help)
                __aba_print_usage
                builtin return 0
                ;;
            --) ;;
            # One letter, or several in one word. Of -n and -w the last one counts.
            -*)
                if [[ ${1//[nwsxqv]/} != - || $1 == - ]]; then
                    __aba_print_message "aba_lock_operation has no option $1" 'see `aba_lock_operation --help`'
                    __aba_end_call 2
                    builtin return "$?"
                fi
                __aba_options+=("$1")
                case ${1//[!nw]/} in
                    *w) __aba_wait_option=$1 ;;
                    *n) __aba_wait_option='' ;;
                    *) ;;
                esac
                ;;
            '')
                __aba_print_message '"" is not a name for a lock: it is empty'
                __aba_end_call 125
                builtin return "$?"
                ;;
            *[$' \t\n\v\f\r']*)
                __aba_print_message "\"$1\" is not a name for a lock: a name has no blanks in it"
                __aba_end_call 125
                builtin return "$?"
                ;;
            *)
                __aba_add_name "$1"
                if [[ ${__aba_previous} == --wait || (${__aba_previous} == -*w && ${__aba_previous} != --*) ]] && [[ -z ${1//[0-9]/} ]]; then
                    __aba_seconds=$1
                fi
                ;;
        esac
        __aba_previous=$1
        builtin shift
    done
    case ${__aba_on_conflict} in
        exit | return | ask | warn) ;;
        *)
            __aba_print_message "${__aba_on_conflict} is not a way to meet a conflict: exit, return, ask or warn"
            __aba_on_conflict='exit'
            __aba_end_call 2
            builtin return "$?"
            ;;
    esac
    if [[ -z ${__aba_names} ]]; then
        __aba_print_message 'aba_lock_operation needs the name of an operation' 'such as `aba_lock_operation backup`'
        __aba_end_call 2
        builtin return "$?"
    fi
    # flock(1) takes the seconds as a word of their own. Refused here, before a file is made for a lock of that name.
    __aba_name=${__aba_names%% *}
    [[ -n ${__aba_name//[0-9]/} ]] || __aba_seconds=${__aba_name}
    if [[ -n ${__aba_wait_option} && -n ${__aba_seconds} && ${__aba_names} == *' '*' ' ]]; then
        __aba_print_message "\`${__aba_seconds}\` would be a lock, not the time to wait: for at most ${__aba_seconds} seconds, use --wait=${__aba_seconds}" \
            'see `aba_lock_operation --help`'
        __aba_end_call 2
        builtin return "$?"
    fi
    __aba_acquire_locks
}

# Takes the locks in __aba_names with __aba_options.
__aba_acquire_locks() {
    builtin local __aba_bin='' __aba_directory='' __aba_list='' __aba_name='' __aba_fd='' __aba_new_locks=''
    builtin local __aba_held_locks='' __aba_call_locks='' __aba_tokens_found='' __aba_status=0 __aba_tries=0 __aba_pid='' __aba_granted=''
    builtin local __aba_wait_start='' __aba_heed_option='' __aba_signals='' __aba_unusable_fds=''
    builtin local -a __aba_words
    __aba_find_helper || {
        __aba_end_call 125
        builtin return "$?"
    }
    __aba_find_directory
    __aba_find_pid
    # The script may change its directory.
    [[ -z ${__aba_pid_file} || ${__aba_pid_file} == /* ]] || __aba_pid_file=${PWD}/${__aba_pid_file}
    while ((1)); do
        __aba_pending_directory=${__aba_directory}
        __aba_words=("${__aba_options[@]}")
        __aba_list=${__aba_names} __aba_new_locks='' __aba_held_locks='' __aba_call_locks=''
        while [[ -n ${__aba_list} ]]; do
            __aba_name=${__aba_list%% *}
            __aba_list=${__aba_list#* }
            __aba_find_fd "${__aba_name}"
            if [[ -n ${__aba_fd} ]]; then
                __aba_held_locks+="${__aba_name}/${__aba_fd} "
            elif __aba_open_lock_file "${__aba_name}"; then
                __aba_new_locks+="${__aba_name}/${__aba_fd} "
                __aba_pending=${__aba_new_locks}
            else
                __aba_status=$?
                __aba_discard_new_files
                __aba_end_call "${__aba_status}"
                builtin return "$?"
            fi
            __aba_call_locks+="${__aba_name}/${__aba_fd} "
            __aba_words+=(--fd "${__aba_fd}" "${__aba_name}")
        done
        __aba_request_locks
        if ((__aba_status == 0)); then
            __aba_granted=yes
            break
        fi
        # Whatever the helper had done when it failed or was killed: without the descriptor there is no lock.
        __aba_discard_new_files
        if [[ -n ${__aba_signals} ]]; then
            __aba_raise_signals
            # The helper was ended for the handlers.
            if ((__aba_status > 128 && __aba_status != 130 && __aba_status != 131)); then
                continue
            fi
        fi
        __aba_tries=$((__aba_tries + 1))
        if ((__aba_status != 76)); then
            __aba_handle_failure
            builtin return "$?"
        elif ((__aba_tries == 100)); then
            __aba_print_message "a lock file in ${__aba_directory} was replaced each time that it was opened" \
                'find what removes it, and stop that: a lock file is meant to stay'
            __aba_end_call 125
            builtin return "$?"
        fi
        __aba_drop_held_fds
    done
    if [[ -z ${__aba_granted} ]]; then
        # Ctrl-Z while it waited: bash leaves every loop then, as if nothing had happened.
        __aba_discard_new_files
        __aba_handle_stop
        builtin return "$?"
    fi
    if [[ -n ${__aba_server} ]] && ! __aba_find_tokens; then
        __aba_discard_new_files
        __aba_print_message "there is no lease on ${__aba_name}, so nothing is locked"
        __aba_end_call 125
        builtin return "$?"
    fi
    __aba_pending=''
    __aba_record_locks
}

# Opens the lock file of operation $1 on the first free descriptor from 200 on: its number is in __aba_fd. Try $2.
__aba_open_lock_file() {
    builtin local __aba_path="${__aba_directory}/aba-$1.lock" __aba_status=0 __aba_limit=''
    if [[ -L ${__aba_path} || ! -f ${__aba_path} || ! -r ${__aba_path} ]]; then
        # The helper makes it, private to its user, or says why it cannot.
        __aba_run_helper path --create "$1" >/dev/null || __aba_status=$?
        if ((__aba_status != 0)); then
            if ((__aba_status > 125)); then
                __aba_print_message "the helper ${__aba_bin} ended with status ${__aba_status}, so nothing is locked"
            fi
            builtin return 125
        fi
    fi
    # Bash keeps the script itself on 255.
    for ((__aba_fd = 200; __aba_fd < 255; __aba_fd++)); do
        if { builtin true <&"${__aba_fd}"; } 2>/dev/null; then
            continue
        fi
        # With `<>` bash would create the file, which `fs.protected_regular` refuses in a sticky directory for a file
        # of another user's. To read it is enough to lock it, but on NFS.
        if [[ -w ${__aba_path} && ! -k ${__aba_directory} ]]; then
            __aba_redirect_fd "${__aba_fd}" '<>' && __aba_forget_fd "${__aba_fd}" && builtin return 0
        fi
        __aba_redirect_fd "${__aba_fd}" '<' && __aba_forget_fd "${__aba_fd}" && builtin return 0
        break
    done
    # It may have been removed since we looked, as `aba-lock clean` does: then it is made again.
    if ((${2:-0} < 10)); then
        __aba_open_lock_file "$1" "$((${2:-0} + 1))"
        builtin return "$?"
    fi
    if \builtin declare -F exec >/dev/null; then
        __aba_print_message 'a readonly function named `exec` is in the way of aba_lock_operation' 'give it another name'
        builtin return 125
    fi
    __aba_limit=$(builtin ulimit -n) || __aba_limit=unknown
    if [[ ${__aba_limit} != unlimited ]] && ((__aba_limit <= __aba_fd)); then
        __aba_print_message "could not open lock file ${__aba_path} on descriptor ${__aba_fd}: the limit is ${__aba_limit} open files" \
            'raise it with `ulimit -n`'
    elif ((__aba_fd == 255)); then
        __aba_print_message "could not open lock file ${__aba_path}: the descriptors from 200 to 254 are all in use"
    else
        __aba_print_message "could not open lock file ${__aba_path} on descriptor ${__aba_fd}"
    fi
    builtin return 125
}

# Adds the descriptors that were open already (__aba_held_locks) and could not be used to __aba_unusable_fds: their files are not locked by
# this script or one above it, but by a script that has ended, or that works at the same time. That is true for this call only: at
# the next one, the number may belong to another file, or the script above may hold the lock again.
__aba_drop_held_fds() {
    while [[ -n ${__aba_held_locks} ]]; do
        __aba_fd=${__aba_held_locks%% *}
        __aba_unusable_fds+="${__aba_fd#*/} "
        __aba_held_locks=${__aba_held_locks#* }
    done
}

# Closes what was opened for locks that are not to be.
__aba_discard_new_files() {
    # The helper may have written it before it failed or was ended.
    if [[ -n ${__aba_pid_file} ]]; then
        __aba_remove_pid_file "${__aba_pid_file}"
    fi
    __aba_close_fds "${__aba_new_locks}"
    __aba_pending=''
}

# The helper failed with __aba_status, and has said why if it could.
__aba_handle_failure() {
    case ${__aba_status} in
        75 | 124) __aba_handle_conflict ;;
        2 | 125) __aba_end_call "${__aba_status}" ;;
        # Stopped by a signal, and not ended.
        147 | 148 | 149 | 150) __aba_handle_stop ;;
        # Ctrl-C went to the script too; if that goes on all the same, it must not be as if nothing had happened.
        130) __aba_end_call 130 ;;
        *)
            __aba_print_message "the helper ${__aba_bin} ended with status ${__aba_status}, so nothing is locked"
            __aba_end_call 125
            ;;
    esac
}

# Another process holds the lock, and the helper has named it.
__aba_handle_conflict() {
    builtin local __aba_answer='' __aba_missing='' __aba_list="${__aba_names}"
    while [[ -n ${__aba_list} ]]; do
        __aba_name=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        if [[ " ${__aba_held_locks}" != *" ${__aba_name}/"* ]]; then
            __aba_missing+="${__aba_name} "
        fi
    done
    # Nothing is missing where a shared lock was to become exclusive.
    __aba_missing=${__aba_missing:-an exclusive ${__aba_names}}
    if [[ ${__aba_on_conflict} == ask && -t 0 && -t 2 ]]; then
        # Discards what was typed before the question. (Bash before 4.0 cannot look.)
        while ((BASH_VERSINFO[0] >= 4)) && builtin read -r -t 0; do
            IFS= builtin read -r __aba_answer || break
        done
        builtin printf 'aba-lock: press Enter to go on without the lock on %s, Ctrl-C to stop: ' "${__aba_missing% }" >&2
        if IFS= builtin read -r __aba_answer && [[ -z ${__aba_answer} ]]; then
            builtin return 3
        fi
        builtin printf '\n' >&2
    elif [[ ${__aba_on_conflict} == warn ]]; then
        __aba_print_message "the script may go on, without the lock on ${__aba_missing% }"
        builtin return 3
    fi
    __aba_end_call 1
}

# The helper was stopped, and has a copy of the descriptor: ends it, as the script does not wait for it any more.
__aba_handle_stop() {
    builtin local __aba_job=''
    __aba_job=$(builtin jobs -p %% 2>/dev/null) || builtin true
    if [[ -n ${__aba_job} ]]; then
        __aba_end_helper
    fi
    __aba_print_message "the wait for ${__aba_names% } was stopped, so nothing is locked"
    __aba_end_call 125
}

# Writes down what was taken (__aba_new_locks) or found to be handed down (__aba_held_locks), and hands it down in turn.
__aba_record_locks() {
    if [[ -n ${__aba_pid_file} ]]; then
        __aba_pid_locks[__aba_pid_files]=${__aba_new_locks}${__aba_held_locks}
        __aba_pid_paths[__aba_pid_files]=${__aba_pid_file}
        __aba_pid_files=$((__aba_pid_files + 1))
        __aba_add_exit_trap
    fi
    while [[ -n ${__aba_new_locks} ]]; do
        __aba_locks+="${__aba_new_locks%% *}/${__aba_pid} "
        __aba_fd=${__aba_new_locks%% *}
        ABA_LOCK_FDS="${ABA_LOCK_FDS:+${ABA_LOCK_FDS} }${__aba_fd#*/}"
        builtin export ABA_LOCK_FDS
        __aba_new_locks=${__aba_new_locks#* }
        if ((BASH_SUBSHELL > 0)) && [[ -z ${__aba_subshell} ]]; then
            # `x=$(aba_lock_operation …)` and `aba_lock_operation … | …` leave the script without a lock.
            __aba_print_message "${__aba_fd%%/*} is locked only until this subshell ends" 'if that is intended, use `--subshell`'
        fi
    done
    while [[ -n ${__aba_held_locks} ]]; do
        builtin local __aba_entry=''
        __aba_find_entry "${__aba_held_locks%%/*}"
        if [[ -z ${__aba_entry} ]]; then
            __aba_locks+="${__aba_held_locks%% *}/0 "
        fi
        __aba_held_locks=${__aba_held_locks#* }
    done
    if [[ -n ${__aba_tokens_found} ]]; then
        __aba_record_leases
    fi
}

# Adds $1 to __aba_names, if it is not there.
__aba_add_name() {
    builtin local __aba_list="${__aba_names}"
    while [[ -n ${__aba_list} ]]; do
        if __aba_are_equal "${__aba_list%% *}" "$1"; then
            builtin return 0
        fi
        __aba_list=${__aba_list#* }
    done
    __aba_names+="$1 "
}

__aba_print_usage() {
    builtin printf '%s\n' 'Usage: aba_lock_operation [OPTIONS] OPERATION...

Takes the locks, all or none, and holds them until this script ends.

  -n, --nonblock           fail at once if another has it [default]
  -w, --wait[=SECONDS]     wait until it is free, or at most this many seconds
  -t, --timeout SECONDS    the same as --wait=SECONDS
  -s, --shared             share it with others who share it
  -x, --exclusive          shut everyone else out [default]
  -q, --quiet              say nothing about contention
  -v, --verbose            say how long it took to get the lock
      --who TEXT           say this of the holder, to those who wait
      --pid-file PATH      write the pid of this script into this file, until the lock or the script ends
      --server URL         hold a lease for other machines, too: https://host:port or etcd://host:port,...
      --ttl TIME           how long the lease lasts if it cannot be renewed [default: 30s]
      --on-lost HOW        if the lease is lost: term, warn, or a command [default: term]
      --on-conflict HOW    exit, return, ask or warn if another has it [default: exit]
      --subshell           the lock is meant to end with this subshell'
}

# ---- wait, and let the script handle signals --------------------------------------------------------------------------

# Asks the helper for the locks, with __aba_words: its status is in __aba_status. If it has to wait, the handlers of the script
# can run at once: this returns when a signal came, with the signals in __aba_signals, and the helper does not wait any more.
#
# Bash runs no handler while a command runs in the foreground, but interrupts its `wait` for a background job:
#
#  1. The helper tries, in the foreground. If it would have to wait, it exits with 77 or 78 and holds nothing.
#  2. If the script has handlers, each is replaced by one that only notes its signal.
#  3. The helper waits as a background job, and the script with `wait`. If a signal comes before `wait` has begun, its note
#     is seen in time, or the helper is ended. Only in the instant in which bash calls waitpid(2), bash may lose the
#     interruption: then the handler runs after the wait, as it does for a command in the foreground.
#  4. The signal is noted, and interrupts `wait`.
#  5. The helper is killed and reaped. If the signal comes while bash reaps it, bash loses its status, and says -1 or, before
#     5.0, 0. So the helper is taken not to have been granted the locks, even if it was in that instant.
#  6. The handlers of the script are put back.
#  7. The descriptors are closed, which releases the locks. So nothing waits or is held on behalf of the script that the
#     script does not know of, whatever its handlers do: wait for all jobs, ask for the same lock, or exit.
#  8. The script gets its signals once more. If its handlers return, it goes on waiting, or ends the call after Ctrl-C.
#
# If the script is killed, the helper ends too, as its parent has: the lock is free whether it was granted or not. That is the
# same between any two steps. If the helper is killed by another process, 5 to 7 apply.
__aba_request_locks() {
    __aba_status=0
    if [[ $- == *i* ]]; then
        # Ctrl-Z stops the helper, and there must be no message about a job.
        __aba_run_helper lock "${__aba_words[@]}" || __aba_status=$?
        builtin return 0
    fi
    if [[ -z ${__aba_wait_start} ]]; then
        __aba_run_helper lock --try-first "${__aba_words[@]}" || __aba_status=$?
        case ${__aba_status} in
            77) __aba_heed_option=--heed-keyboard ;;
            78) ;;
            *) builtin return 0 ;;
        esac
        __aba_status=0
        __aba_read_clock __aba_wait_start
        __aba_run_interruptible_helper lock ${__aba_heed_option:+"${__aba_heed_option}"} "${__aba_words[@]}"
    else
        builtin local __aba_now=''
        __aba_read_clock __aba_now
        __aba_now=$((__aba_now > __aba_wait_start ? __aba_now - __aba_wait_start : 0))
        # In hundredths of a second.
        __aba_now=$((__aba_now / 100)).$((__aba_now % 100 / 10))$((__aba_now % 10))
        __aba_run_interruptible_helper lock "--waited=${__aba_now}" ${__aba_heed_option:+"${__aba_heed_option}"} "${__aba_words[@]}"
    fi
}

# Runs the helper with these arguments, in the background if the script has handlers for signals: see __aba_request_locks.
__aba_run_interruptible_helper() {
    builtin local __aba_job='' __aba_index=0 __aba_name='' __aba_list='' __aba_listed='' __aba_ended='' __aba_trapped=''
    builtin local -a __aba_traps
    __aba_signals=''
    # A subshell shows the handlers of the script until it sets one of its own, even one that cannot be set.
    builtin trap -- - NO_SIGNAL 2>/dev/null || builtin true
    __aba_listed=$(builtin trap -p) || builtin true
    # Lines such as `trap -- 'COMMANDS' SIGTERM`, quoted as bash reads it. (The first word keeps the array from being empty.)
    builtin eval "__aba_traps=(- ${__aba_listed})"
    for ((__aba_index = 4; __aba_index < ${#__aba_traps[@]}; __aba_index += 4)); do
        case ${__aba_traps[__aba_index - 1]} in
            # Ignored, and the default as `set -o posix` shows it.
            '' | -) continue ;;
            *) ;;
        esac
        case ${__aba_traps[__aba_index]#SIG} in
            EXIT | DEBUG | ERR | RETURN) ;;
            CHLD)
                # The end of the helper would interrupt `wait`.
                if [[ -o posix ]]; then
                    __aba_trapped=''
                    break
                fi
                ;;
            *) __aba_trapped+="${__aba_index} " ;;
        esac
    done
    if [[ -z ${__aba_trapped} ]]; then
        __aba_run_helper "$@" || __aba_status=$?
        builtin return 0
    fi
    __aba_list=${__aba_trapped}
    while [[ -n ${__aba_list} ]]; do
        __aba_index=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_name=${__aba_traps[__aba_index]#SIG}
        builtin trap -- "__aba_note_signal ${__aba_name}" "${__aba_name}"
    done
    # Bash prints nothing about a job that was killed by a signal for which the script has a handler. (It is never run.)
    # shellcheck disable=SC2173
    builtin trap -- : KILL
    # A background job would get /dev/null as its input.
    if { builtin true <&0; } 2>/dev/null; then
        (__aba_become_helper "$@") <&0 &
    else
        (__aba_become_helper "$@") &
    fi
    __aba_job=$!
    while [[ -z ${__aba_ended}${__aba_signals} ]]; do
        __aba_wait_for_helper
    done
    if [[ -z ${__aba_ended} && -n ${__aba_server} ]]; then
        __aba_end_helper
    elif [[ -z ${__aba_ended} ]]; then
        # It had not been started yet when the signal came.
        builtin kill -s KILL "${__aba_job}" 2>/dev/null || builtin true
    fi
    while [[ -z ${__aba_ended} ]]; do
        __aba_wait_for_helper 2>/dev/null
    done
    # shellcheck disable=SC2173
    builtin trap -- - KILL
    while [[ -n ${__aba_trapped} ]]; do
        __aba_index=${__aba_trapped%% *}
        __aba_trapped=${__aba_trapped#* }
        builtin trap -- "${__aba_traps[__aba_index - 1]}" "${__aba_traps[__aba_index]#SIG}"
    done
    case " ${__aba_signals}" in
        ' ') ;;
        *' INT '*) __aba_status=130 ;;
        *' QUIT '*) __aba_status=131 ;;
        *) ((__aba_status > 0)) || __aba_status=137 ;;
    esac
}

# Notes signal $1, and ends the helper: `wait` may be about to begin.
__aba_note_signal() {
    __aba_signals+="$1 "
    if [[ -z ${__aba_job} || -n ${__aba_ended} ]]; then
        builtin return 0
    elif [[ -n ${__aba_server} ]]; then
        builtin kill -s TERM "${__aba_job}" 2>/dev/null || builtin true
    else
        # Also where the script ignores SIGTERM, and so does the helper.
        builtin kill -s KILL "${__aba_job}" 2>/dev/null || builtin true
    fi
}

# Waits for __aba_job until a signal comes: its status is in __aba_status, and `yes` in __aba_ended once it has ended.
__aba_wait_for_helper() {
    builtin local __aba_again=0
    __aba_status=0
    # Before bash 5.0, a signal does not interrupt `builtin wait`.
    if builtin declare -F wait >/dev/null; then
        builtin wait "${__aba_job}" || __aba_status=$?
    else
        wait "${__aba_job}" || __aba_status=$?
    fi
    if [[ -n ${__aba_signals} ]] || ((__aba_status > 128 || __aba_status < 0)); then
        if builtin kill -0 "${__aba_job}" 2>/dev/null; then
            builtin return 0
        fi
        # This may be the status of the interruption. 127: it was not, and `set -o posix` has bash forget the other one.
        builtin wait "${__aba_job}" 2>/dev/null || __aba_again=$?
        ((__aba_again == 127)) || __aba_status=${__aba_again}
        # It may still be a job, if bash has lost its status.
        builtin disown "${__aba_job}" 2>/dev/null || builtin true
    fi
    __aba_ended=yes
}

# Becomes the helper, in a subshell.
__aba_become_helper() {
    # Under `set -m`, a background job that writes to the terminal would be stopped after `stty tostop`.
    builtin trap '' TTOU
    if [[ -z ${ABA_LOCK_DIR:-} ]]; then
        builtin export ABA_LOCK_DIR="${__aba_directory}"
    fi
    builtin exec "${__aba_bin}" "$@"
}

# Ends the helper, which is process __aba_job. It may have a place in the queue of a server to give back; if that takes too
# long, it is killed.
__aba_end_helper() {
    (builtin exec sh -c 'kill -TERM "$1"; kill -CONT "$1"; n=0
        while kill -0 "$1" && [ "$n" -lt 250 ]; do sleep 0.02; n=$((n + 1)); done
        kill -KILL "$1"' sh "${__aba_job}") 2>/dev/null || builtin true
}

# Makes the script handle the signals in __aba_signals.
__aba_raise_signals() {
    builtin local __aba_list="${__aba_signals}" __aba_done=' '
    __aba_signals=''
    while [[ -n ${__aba_list} ]]; do
        if [[ ${__aba_done} != *" ${__aba_list%% *} "* ]]; then
            __aba_done+="${__aba_list%% *} "
            __aba_raise_signal "${__aba_list%% *}" || builtin true
        fi
        __aba_list=${__aba_list#* }
    done
}

# Sends signal $1 to this shell. If the handler calls `return`, that returns from this function. The status that
# the handler finds is that of an interrupted `wait`: the signal comes while a subshell runs that exits with it.
__aba_raise_signal() {
    (
        builtin kill -s "$1" "${__aba_pid}"
        builtin exit "$((128 + $(builtin kill -l "$1")))"
    ) || builtin true
}

# Sets variable $1 to the time in hundredths of a second, from any beginning.
__aba_read_clock() {
    builtin local __aba_uptime=''
    if { IFS=' ' builtin read -r __aba_uptime _ </proc/uptime; } 2>/dev/null && [[ -z ${__aba_uptime//[0-9.]/} && ${__aba_uptime} == ?*.?? ]]; then
        builtin eval "$1=\$((10#\${__aba_uptime/./}))"
    else
        builtin eval "$1=\$((\${SECONDS:-0} * 100))"
    fi
}

# ---- release ----------------------------------------------------------------------------------------------------------

# Usage: aba_unlock_operation [OPERATION]
#
# Releases a lock of this script now (the last taken when no name is given), however often it was asked for. A lock
# that the script which started this one holds stays as it is: only our copy of the descriptor is closed.
# A script that took the place of the holder with `exec` is the holder.
aba_unlock_operation() {
    __aba_check_shell || \return "$?"
    if (($# > 0)) && [[ -z $1 ]]; then
        __aba_print_message '"" is not a name for a lock: it is empty' 'without a name, aba_unlock_operation releases the last lock'
        builtin return 2
    fi
    builtin local __aba_entry='' __aba_status=0 __aba_bin='' __aba_directory='' __aba_pid='' __aba_lease=''
    __aba_find_directory
    __aba_find_entry "${1-}"
    [[ -n ${__aba_entry} ]] || __aba_find_inherited_lock "${1-}"
    if [[ -z ${__aba_entry} ]]; then
        __aba_print_message "this script does not hold ${1:-a lock}"
        builtin return 1
    fi
    builtin local __aba_name="${__aba_entry%%/*}" __aba_fd="${__aba_entry#*/}"
    builtin local __aba_acquirer="${__aba_fd#*/}"
    __aba_fd=${__aba_fd%/*}
    __aba_find_pid
    if [[ ${__aba_acquirer} == "${__aba_pid}" ]] || { [[ ${__aba_acquirer} == 0 ]] && __aba_is_acquirer; }; then
        __aba_find_helper || builtin return "$?"
        if [[ " ${__aba_leases}" == *" ${__aba_name}/${__aba_fd}/"* ]]; then
            __aba_lease=yes
        fi
        # Now: when the lock is free, it may be the file of the next holder.
        __aba_remove_pid_files "${__aba_name}/${__aba_fd}"
        # Also for the children that inherited the descriptor. If it is not ours any more, it is not to be closed.
        __aba_run_helper unlock --fd "${__aba_fd}" "${__aba_name}" ${__aba_lease:+"--server=its-own"} || __aba_status=$?
        # It says itself why it failed, unless it was killed.
        ((__aba_status <= 128)) ||
            __aba_print_message "the helper ${__aba_bin} ended with status ${__aba_status}, so ${__aba_name} may still be held"
        ((__aba_status == 0)) || __aba_status=125
        ((__aba_status != 0)) || __aba_redirect_fd "${__aba_fd}" '>&-'
    elif [[ /dev/fd/${__aba_fd} -ef ${__aba_directory}/aba-${__aba_name}.lock ]]; then
        __aba_redirect_fd "${__aba_fd}" '>&-'
    fi
    __aba_forget_lock "${__aba_entry}"
    builtin return "${__aba_status}"
}

# Finds operation $1, or the last one, among what was handed down to this script: it is in __aba_entry, or that is empty.
__aba_find_inherited_lock() {
    builtin local __aba_fd='' __aba_unusable_fds=''
    if [[ -n $1 ]]; then
        __aba_find_fd "$1"
        [[ -z ${__aba_fd} ]] || __aba_entry=$1/${__aba_fd}/0
        builtin return 0
    fi
    # In a subshell, because of the options.
    __aba_entry=$(__aba_print_inherited_lock) || builtin true
}

# Prints the entry of the last descriptor that was handed down and is open on a lock file. The name is that of the file.
__aba_print_inherited_lock() {
    builtin local __aba_list="${ABA_LOCK_FDS-} " __aba_path=''
    builtin set +f
    builtin shopt -u failglob
    while [[ ${__aba_list} == *[0123456789]* ]]; do
        __aba_fd=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        for __aba_path in "${__aba_directory}"/aba-*.lock; do
            if [[ -z ${__aba_fd//[0-9]/} && /dev/fd/${__aba_fd} -ef ${__aba_path} ]]; then
                __aba_path=${__aba_path##*/aba-}
                __aba_entry=${__aba_path%.lock}/${__aba_fd}/0
            fi
        done
    done
    builtin printf '%s' "${__aba_entry}"
}

# Returns 0 if this process acquired the lock __aba_name itself, before `exec` made it another script. The record in the lock file
# has the pid of the process, its pid namespace, and the time: a process that got the same pid later had not started by then.
__aba_is_acquirer() {
    builtin local __aba_line='' __aba_record='' __aba_tick='' __aba_namespace='' __aba_index=0
    builtin local __aba_path="${__aba_directory}/aba-${__aba_name}.lock"
    [[ /dev/fd/${__aba_fd} -ef ${__aba_path} ]] || builtin return 1
    while IFS= builtin read -r __aba_line; do
        case ${__aba_line} in
            pid=*) __aba_record=${__aba_record:-${__aba_line#pid=}} ;;
            tick=*) __aba_tick=${__aba_tick:-${__aba_line#tick=}} ;;
            ns=*) __aba_namespace=${__aba_namespace:-${__aba_line#ns=}} ;;
            *) ;;
        esac
    done 2>/dev/null <"${__aba_path}" || builtin true
    [[ ${__aba_record} == "${__aba_pid}" ]] || builtin return 1
    if [[ -n ${__aba_namespace} ]]; then
        __aba_line=$(builtin exec readlink "/proc/${__aba_pid}/ns/pid" 2>/dev/null) || builtin return 1
        [[ ${__aba_line} == "pid:[${__aba_namespace}]" ]] || builtin return 1
    fi
    if [[ -n ${__aba_tick} ]]; then
        __aba_line=''
        { IFS= builtin read -r __aba_line <"/proc/${__aba_pid}/stat"; } 2>/dev/null || builtin true
        # The command, in parentheses, may have blanks in it. The start time is the 20th field after that.
        __aba_line=${__aba_line##*') '}
        for ((__aba_index = 1; __aba_index < 20; __aba_index++)); do
            __aba_line=${__aba_line#* }
        done
        # Not in an arithmetic expression: what is in the file would be evaluated.
        builtin test "${__aba_line%% *}" -le "${__aba_tick}" 2>/dev/null || builtin return 1
    fi
}

# Takes entry $1 out of the list, and its descriptor from what is handed down.
__aba_forget_lock() {
    builtin local __aba_list="${__aba_leases}" __aba_kept='' __aba_fd="${1#*/}"
    __aba_forget_lease "${1%/*}"
    if [[ ${__aba_leases} != "${__aba_list}" ]]; then
        __aba_export_tokens
    fi
    __aba_list="${__aba_locks}"
    __aba_fd=${__aba_fd%/*}
    while [[ -n ${__aba_list} ]]; do
        __aba_are_equal "${__aba_list%% *}" "$1" || __aba_kept+="${__aba_list%% *} "
        __aba_list=${__aba_list#* }
    done
    __aba_locks=${__aba_kept}
    __aba_forget_fd "${__aba_fd}"
}

# ---- leases and pid files ---------------------------------------------------------------------------------------------

# Finds the tokens of the leases on all locks of this call: `NAME/FD/LOCAL/TOKEN ` each, in __aba_tokens_found. 1: there is no lease
# on __aba_name, whatever the helper had to say.
__aba_find_tokens() {
    builtin local __aba_tokens=''
    __aba_list=${__aba_call_locks}
    while [[ -n ${__aba_list} ]]; do
        __aba_fd=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_name=${__aba_fd%%/*}
        __aba_tokens=$(__aba_run_helper lease tokens --fd "${__aba_fd#*/}" "${__aba_name}" 2>/dev/null) || builtin true
        # Two numbers.
        if [[ ${__aba_tokens//[0-9]/} != ' ' || ${__aba_tokens} == ' '* || ${__aba_tokens} == *' ' ]]; then
            builtin return 1
        fi
        __aba_tokens_found+="${__aba_fd}/${__aba_tokens/ //} "
    done
}

# Exports the tokens of the leases in __aba_tokens_found, which are ours or those of a script above, and has ours given back
# when the script ends. Without that the keeper does it, a moment later.
__aba_record_leases() {
    builtin local __aba_entry='' __aba_trap='' __aba_ours='' __aba_call="${__aba_leases##*/}"
    if [[ -z ${__aba_leases} ]]; then
        __aba_inherited_token=${ABA_LOCK_TOKEN-}
    fi
    __aba_call=$((${__aba_call:-0} + 1))
    while [[ -n ${__aba_tokens_found} ]]; do
        __aba_fd=${__aba_tokens_found%% *}
        __aba_tokens_found=${__aba_tokens_found#* }
        __aba_find_entry "${__aba_fd%%/*}"
        __aba_list=${__aba_fd%/*/*}
        __aba_forget_lease "${__aba_list}"
        __aba_leases+="${__aba_list}/${__aba_entry##*/}${__aba_fd#"${__aba_list}"}/${__aba_call} "
        if [[ ${__aba_entry##*/} == "${__aba_pid}" ]]; then
            __aba_ours=yes
        fi
    done
    __aba_export_tokens
    if [[ -n ${__aba_ours} ]]; then
        __aba_add_exit_trap
    fi
}

# Sets ABA_LOCK_TOKEN to the tokens of the last call whose leases are held, or to what was handed down to us.
__aba_export_tokens() {
    builtin local __aba_list="${__aba_leases}" __aba_entry='' __aba_tokens='' __aba_call="${__aba_leases##*/}"
    while [[ -n ${__aba_list} ]]; do
        __aba_entry=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        if [[ ${__aba_entry##*/} == "${__aba_call% }" ]]; then
            __aba_entry=${__aba_entry%/*}
            __aba_tokens+="${__aba_tokens:+ }${__aba_entry##*/}"
        fi
    done
    __aba_tokens=${__aba_tokens:-${__aba_inherited_token}}
    if [[ -n ${__aba_tokens} ]]; then
        # shellcheck disable=SC2034 # for what the script runs
        builtin export ABA_LOCK_TOKEN="${__aba_tokens}"
    else
        builtin unset -v ABA_LOCK_TOKEN
    fi
}

# Takes the lease of NAME/FD $1 out of the list.
__aba_forget_lease() {
    builtin local __aba_list="${__aba_leases}" __aba_kept=''
    while [[ -n ${__aba_list} ]]; do
        case ${__aba_list} in
            "$1"/*) ;;
            *) __aba_kept+="${__aba_list%% *} " ;;
        esac
        __aba_list=${__aba_list#* }
    done
    __aba_leases=${__aba_kept}
}

# Calls __aba_clean_up_at_exit when the script ends: after what the script has for the EXIT trap by now.
__aba_add_exit_trap() {
    builtin local __aba_trap=''
    # In a subshell the traps that are shown may be those of the script, which are not in force.
    if ((BASH_SUBSHELL > 0)); then
        builtin return 0
    fi
    __aba_trap=$(builtin trap -p EXIT) || builtin true
    if [[ ${__aba_trap} != *__aba_clean_up_at_exit* ]]; then
        # `trap -- 'COMMANDS' EXIT`, quoted as bash reads it; under `set -o posix` with `-` where there are none.
        builtin eval "builtin set -- ${__aba_trap}"
        if [[ ${3-} == - ]]; then
            builtin set --
        fi
        # Behind an empty line: what is there may end with a backslash.
        builtin trap -- "${3-}${3:+

}__aba_clean_up_at_exit" EXIT
    fi
}

# At the end of the script: lets go of its leases, unless what it has left behind holds them, and waits until they were
# given back.
__aba_clean_up_at_exit() {
    builtin local __aba_list="${__aba_leases}" __aba_entry='' __aba_bin='' __aba_directory='' __aba_pid='' __aba_fd=''
    __aba_leases=''
    __aba_find_pid
    __aba_remove_pid_files
    if [[ -z ${__aba_list} ]]; then
        builtin return 0
    fi
    __aba_find_directory
    __aba_find_helper 2>/dev/null || builtin return 0
    while [[ -n ${__aba_list} ]]; do
        __aba_entry=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        if [[ ${__aba_entry} == */*/"${__aba_pid}"/*/*/* ]]; then
            __aba_fd=${__aba_entry#*/}
            __aba_close_fd "${__aba_fd%%/*}"
            # The rest of the entry: LOCAL/TOKEN/CALL.
            __aba_fd=${__aba_fd#*/*/}
            __aba_run_helper lease settle "${__aba_entry%%/*}" "${__aba_fd%%/*}" 2>/dev/null || builtin true
        fi
    done
}

# Takes lock NAME/FD $1 out of those that have a pid file, or all of them, and removes each pid file that has no lock any
# more, if it names this shell.
__aba_remove_pid_files() {
    builtin local __aba_index=0 __aba_path='' __aba_left=''
    while ((__aba_index < __aba_pid_files)); do
        __aba_path=${__aba_pid_paths[__aba_index]}
        __aba_left=" ${__aba_pid_locks[__aba_index]}"
        if (($# > 0)); then
            __aba_left=${__aba_left/" $1 "/ }
        else
            __aba_left=' '
        fi
        __aba_pid_locks[__aba_index]=${__aba_left# }
        if [[ ${__aba_left} == ' ' && -n ${__aba_path} ]]; then
            __aba_pid_paths[__aba_index]=''
            __aba_remove_pid_file "${__aba_path}"
        fi
        __aba_index=$((__aba_index + 1))
    done
}

# Removes pid file $1 if it names this shell and belongs to no lock that the script holds.
__aba_remove_pid_file() {
    builtin local __aba_index=0 __aba_word=''
    while ((__aba_index < __aba_pid_files)); do
        if __aba_are_equal "${__aba_pid_paths[__aba_index]}" "$1"; then
            builtin return 0
        fi
        __aba_index=$((__aba_index + 1))
    done
    # To read a FIFO would block.
    if [[ -f $1 && ! -L $1 ]]; then
        { IFS= builtin read -r __aba_word <"$1"; } 2>/dev/null || builtin true
        if [[ ${__aba_word} == "${__aba_pid}" ]]; then
            (\exec rm -f -- "$1") 2>/dev/null || builtin true
        fi
    fi
}

# ---- query ------------------------------------------------------------------------------------------------------------

# Usage: aba_lock_held OPERATION
#
# 0 if this script, or the one that started it, holds the lock; 1 if not. It asks the kernel: a child may have released
# it with `flock -u`.
aba_lock_held() {
    __aba_check_shell || \return "$?"
    if (($# != 1)); then
        __aba_print_message 'aba_lock_held needs the name of one operation'
        builtin return 2
    fi
    __aba_query_lock "$1"
}

# Usage: aba_lock_check OPERATION
#
# 0 if this script, or the one that started it, holds the lock and, if it has a lease for other machines, the server
# confirms that; 1 if not; 125 if that cannot be known. For use before a step that must not be done twice.
aba_lock_check() {
    __aba_check_shell || \return "$?"
    if (($# != 1)); then
        __aba_print_message 'aba_lock_check needs the name of one operation'
        builtin return 2
    fi
    __aba_query_lock "$1" --lease
}

# Asks the helper whether the lock $1 is held here, with option $2.
__aba_query_lock() {
    builtin local __aba_fd='' __aba_bin='' __aba_directory='' __aba_unusable_fds='' __aba_status=0 __aba_cannot_compare=''
    # Without /proc bash cannot compare a descriptor with a file. The helper can, and reports what it cannot know.
    [[ -e /dev/fd ]] || __aba_cannot_compare=yes
    __aba_find_directory
    __aba_find_fd "$1"
    __aba_find_helper || builtin return "$?"
    if [[ -z ${__aba_fd} ]]; then
        # It may be no name at all.
        __aba_run_helper path "$1" >/dev/null || builtin return 2
        builtin return 1
    fi
    # Several descriptors may be open on the file, such as one that is left from a script that has ended.
    while [[ -n ${__aba_fd} ]]; do
        __aba_status=0
        __aba_run_helper status --quiet ${2+"$2"} --fd "${__aba_fd}" "$1" || __aba_status=$?
        if ((__aba_status != 1)); then
            break
        fi
        __aba_unusable_fds+="${__aba_fd} "
        __aba_find_fd "$1"
    done
    builtin return "${__aba_status}"
}

# ---- detach -----------------------------------------------------------------------------------------------------------

# Usage: aba_lock_detach CMD [ARG]...
#
# Runs CMD, a program or a function, without the lock descriptors, so that it does not keep the locks when the script
# has ended: for daemons and background jobs. CMD runs in a subshell. To have its pid in `$!`, let it take the place of
# that subshell: `aba_lock_detach exec CMD &`.
aba_lock_detach() {
    __aba_check_shell || \return "$?"
    builtin local __aba_fds='' __aba_list="${ABA_LOCK_FDS-} " __aba_entry='' __aba_fd='' __aba_pid=''
    if (($# == 0)); then
        __aba_print_message 'aba_lock_detach needs a command'
        builtin return 2
    fi
    __aba_find_pid
    # A background job or another subshell has copies of the locks of the shell that started it, and would keep them
    # as long as it waits for CMD: close these for good. Those that this very shell took stay, but not for CMD.
    if ((BASH_SUBSHELL > 0)) || [[ ${__aba_pid} != "$$" ]]; then
        builtin local __aba_own=''
        __aba_list="${__aba_locks}"
        while [[ -n ${__aba_list} ]]; do
            __aba_entry=${__aba_list%% *}
            __aba_list=${__aba_list#* }
            __aba_fd=${__aba_entry#*/}
            if [[ ${__aba_fd#*/} == "${__aba_pid}" ]]; then
                __aba_own+="${__aba_fd%/*} "
            fi
        done
        __aba_list="${ABA_LOCK_FDS-} "
        while [[ ${__aba_list} == *[0123456789]* ]]; do
            __aba_fd=${__aba_list%% *}
            __aba_list=${__aba_list#* }
            case " ${__aba_own}" in
                *" ${__aba_fd} "*) ;;
                *) __aba_close_fd "${__aba_fd}" ;;
            esac
        done
        if [[ -z ${__aba_own} ]]; then
            builtin unset -v ABA_LOCK_FDS
            __aba_locks=''
            "$@"
            builtin return "$?"
        fi
    fi
    (
        __aba_close_fds "${ABA_LOCK_FDS-} "
        builtin unset -v ABA_LOCK_FDS
        __aba_locks=''
        "$@"
    )
}

# ---- other commands of the helper -------------------------------------------------------------------------------------

# Usage: aba_run_once [OPTIONS] -i ID [-- CMD [ARG]...]
#
# `aba-lock run-once`, also with variables that the script has set and not exported. CMD does not get the lock
# descriptors. The helper has them until it ends, as any other command of the script.
aba_run_once() {
    __aba_check_shell || \return "$?"
    builtin local __aba_bin=''
    __aba_find_helper || builtin return "$?"
    (
        # shellcheck disable=SC2034 # for the helper
        builtin export ABA_LOCK_DIR RUN_ONCE_DIR HOME
        builtin exec "${__aba_bin}" run-once "$@"
    ) || builtin return "$?"
}

# Usage: aba_update [OPTIONS] FILE CMD [ARG]...
#
# `aba-lock update`, with a CMD that may be a function: it gets the old content on its input and prints the new one, in a
# bash of its own, with the functions, options and variables of this one.
aba_update() {
    __aba_check_shell || \return "$?"
    builtin local __aba_bin='' __aba_name='' __aba_fd='' __aba_set="${SHELLOPTS}"
    __aba_find_helper || builtin return "$?"
    (
        builtin export HOME ABA_LOCK_TIMEOUT ABA_LOCK_LOG
        for __aba_name; do
            if builtin declare -F -- "${__aba_name}" >/dev/null 2>&1; then
                # The output of that file would be in FILE.
                builtin export -n BASH_ENV
                for ((__aba_fd = 20; __aba_fd < 255; __aba_fd++)); do
                    { builtin true <&"${__aba_fd}"; } 2>/dev/null || break
                done
                # Not through the environment: one variable that is large would be too large for every command.
                builtin eval 'builtin exec "${__aba_bin}" update --shell "${BASH}" --state "${__aba_fd}" "$@"' \
                    "${__aba_fd}"'<<<"$(__aba_print_shell_state)"'
            fi
        done
        builtin exec "${__aba_bin}" update "$@"
    ) || builtin return "$?"
}

# Prints what makes another bash like this one. It is for a command substitution, which does not have all options: they are
# in __aba_set.
__aba_print_shell_state() {
    builtin local __aba_letter='' __aba_name=''
    builtin shopt -p || builtin true
    builtin shopt -u nocasematch 2>/dev/null || builtin true
    builtin declare -f
    # Each name by itself: bash has variables of its own that cannot be set.
    for __aba_letter in _ a b c d e f g h i j k l m n o p q r s t u v w x y z \
        A B C D E F G H I J K L M N O P Q R S T U V W X Y Z; do
        builtin eval "builtin set -- \"\${!${__aba_letter}@}\""
        for __aba_name; do
            case ${__aba_name} in
                BASHOPTS | BASHPID | BASH_VERSINFO | EUID | PPID | SHELLOPTS | UID) ;;
                *) builtin declare -p -- "${__aba_name}" 2>/dev/null || builtin true ;;
            esac
        done
    done
    # At the end, so that nothing above is read or run under them.
    builtin echo "builtin set -o ${__aba_set//:/ -o }"
    builtin echo 'builtin set +m'
}

# Usage: aba_reserve [OPTIONS] [-- CMD [ARG]...]
#
# `aba-lock reserve`: neither the helper nor CMD keeps the lock descriptors.
aba_reserve() {
    __aba_check_shell || \return "$?"
    builtin local __aba_bin=''
    __aba_find_helper || builtin return "$?"
    (
        __aba_close_fds "${ABA_LOCK_FDS-} "
        builtin unset -v ABA_LOCK_FDS
        # shellcheck disable=SC2034 # for the helper
        builtin export ABA_LOCK_DIR HOME ABA_LOCK_TIMEOUT ABA_LOCK_LOG
        builtin exec "${__aba_bin}" reserve "$@"
    ) || builtin return "$?"
}

# Usage: aba_lock_doctor [--json]
#
# `aba-lock doctor` for what this script or shell uses: its helper, its variables, and the library that it has sourced.
aba_lock_doctor() {
    __aba_check_shell || \return "$?"
    builtin local __aba_bin=''
    __aba_find_helper || builtin return "$?"
    (
        # shellcheck disable=SC2034 # for the helper
        builtin export ABA_LOCK_DIR ABA_LOCK_BIN ABA_LOCK_ON_CONFLICT ABA_LOCK_TIMEOUT ABA_LOCK_LOG RUN_ONCE_DIR \
            HOME
        builtin exec "${__aba_bin}" doctor --sourced="${__aba_version}" --library="${BASH_SOURCE[0]:--}" "$@"
    ) || builtin return "$?"
}

# ---- functions that several parts use ---------------------------------------------------------------------------------

# Everything here calls on `builtin`: with a function of that name nothing would be as it looks.
__aba_check_shell() {
    if \declare -F builtin >/dev/null; then
        \printf '%s\n' 'aba-lock: a function named `builtin` is in the way of aba-lock.bash' \
            'hint: remove it: `unset -f builtin`' >&2
        if [[ $- != *i* ]]; then
            \exit 125
        fi
        \return 125
    fi
    if [[ $- == *k* ]]; then
        \printf '%s\n' 'aba-lock: under `set -k` bash takes NAME=VALUE from the arguments of every command, so aba-lock.bash cannot work' \
            'hint: turn it off: `set +k`' >&2
        if [[ $- != *i* ]]; then
            \exit 125
        fi
        \return 125
    fi
    # Ctrl-C has ended the call that left these; or it goes on, and this is in a trap.
    if [[ -n ${__aba_pending} && -z ${__aba_acquiring-} ]]; then
        __aba_close_pending_files
    fi
}

# Closes what is pending, but not what the user has there by now.
__aba_close_pending_files() {
    builtin local __aba_entry='' __aba_fd=''
    while [[ -n ${__aba_pending} ]]; do
        __aba_entry=${__aba_pending%% *}
        __aba_fd=${__aba_entry#*/}
        if [[ /dev/fd/${__aba_fd} -ef ${__aba_pending_directory}/aba-${__aba_entry%%/*}.lock ]]; then
            __aba_close_fd "${__aba_fd}"
        fi
        __aba_pending=${__aba_pending#* }
    done
}

# Returns 0 if two texts are equal: `[[ == ]]` would ignore case under `shopt -s nocasematch`.
__aba_are_equal() {
    builtin test "$1" = "$2"
}

# Finds the entry of operation $1, or the last one: it is in __aba_entry, which is empty if there is none.
__aba_find_entry() {
    builtin local __aba_list="${__aba_locks}"
    __aba_entry=''
    while [[ -n ${__aba_list} ]]; do
        if [[ -z $1 ]] || __aba_are_equal "${__aba_list%%/*}" "$1"; then
            __aba_entry=${__aba_list%% *}
        fi
        __aba_list=${__aba_list#* }
    done
}

# Finds the descriptor on which operation $1 is open already, in this script or handed down to it: it is in __aba_fd,
# which is empty if there is none. The helper knows whether it is locked.
__aba_find_fd() {
    builtin local __aba_list='' __aba_entry='' __aba_path="${__aba_directory}/aba-$1.lock"
    __aba_find_entry "$1"
    if [[ -n ${__aba_entry} ]]; then
        __aba_fd=${__aba_entry#*/}
        __aba_fd=${__aba_fd%/*}
        if [[ " ${__aba_unusable_fds}" != *" ${__aba_fd} "* && (-n ${__aba_cannot_compare-} || /dev/fd/${__aba_fd} -ef ${__aba_path}) ]]; then
            builtin return 0
        fi
        # The script uses the descriptor for something else, or the file was removed, or the directory is another now: then
        # it is still locked, and must still be closed for a command that is detached.
    fi
    __aba_list="${ABA_LOCK_FDS-} "
    while [[ ${__aba_list} == *[0123456789]* ]]; do
        __aba_fd=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        if [[ -z ${__aba_fd//[0-9]/} && " ${__aba_unusable_fds}" != *" ${__aba_fd} "* && (-n ${__aba_cannot_compare-} || /dev/fd/${__aba_fd} -ef ${__aba_path}) ]]; then
            builtin return 0
        fi
    done
    __aba_fd=''
}

# Takes descriptor $1 out of what is handed down.
__aba_forget_fd() {
    builtin local __aba_list="${ABA_LOCK_FDS-} " __aba_kept=''
    while [[ ${__aba_list} == *[0123456789]* ]]; do
        [[ ${__aba_list%% *} == "$1" ]] || __aba_kept+="${__aba_kept:+ }${__aba_list%% *}"
        __aba_list=${__aba_list#* }
    done
    if [[ -n ${__aba_kept} ]]; then
        builtin export ABA_LOCK_FDS="${__aba_kept}"
    else
        builtin unset -v ABA_LOCK_FDS
    fi
}

# Opens __aba_path on descriptor $1, with `<` or `<>` in $2, or closes the descriptor, with `>&-`. Bash prints nothing if that fails.
#
# Only `exec` makes a redirection last. `command exec` is no way around it: bash before 5.1 keeps a hidden copy of what is closed
# that way, and bash before 4.2 crashes. But an `exec` that fails ends a script under `set -o posix`. So the file is opened as the
# input of a group of commands, where a failure is only a status, and `exec` copies that descriptor when a trial has shown that it can.
__aba_redirect_fd() {
    builtin local __aba_done='' __aba_copy="if builtin true $1<&0; then \\exec $1<&0; __aba_done=yes; fi"
    builtin local __aba_function='' __aba_declare=''
    if \builtin declare -F exec >/dev/null; then
        # A function of the script: it is set aside, and then restored with its attributes, as in `declare -fx exec`.
        __aba_function=$(builtin declare -f exec)
        __aba_declare=$(builtin declare -F)$'\n'
        __aba_declare=${__aba_declare%%' exec'$'\n'*}
        builtin unset -f exec 2>/dev/null || builtin return 1
    fi
    # In a condition, because `set -e` must not end the script.
    case $2 in
        '<') if { builtin eval "${__aba_copy}"; } 2>/dev/null <"${__aba_path}"; then builtin true; fi ;;
        '<>') if { builtin eval "${__aba_copy}"; } 2>/dev/null <>"${__aba_path}"; then builtin true; fi ;;
        *) if { builtin eval "\\exec $1>&-"; } 2>/dev/null; then __aba_done=yes; fi ;;
    esac
    if [[ -n ${__aba_function} ]]; then
        builtin eval "${__aba_function}"$'\n'"builtin ${__aba_declare##*$'\n'} exec >/dev/null"
    fi
    [[ -n ${__aba_done} ]]
}

# Closes descriptor $1, if that is a number.
__aba_close_fd() {
    # A longer number is not that of a descriptor.
    if [[ -n $1 && -z ${1//[0-9]/} && $1 != [012] ]] && ((${#1} < 6)); then
        __aba_redirect_fd "$1" '>&-' || builtin true
    fi
}

# Closes the descriptors of a list of FD or NAME/FD.
__aba_close_fds() {
    builtin local __aba_list="$1" __aba_entry=''
    while [[ -n ${__aba_list} ]]; do
        __aba_entry=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_close_fd "${__aba_entry#*/}"
    done
}

# Sets __aba_directory to the directory of the lock files. The helper must look there too, even if the variable is not exported.
__aba_find_directory() {
    if [[ -n ${ABA_LOCK_DIR:-} ]]; then
        builtin export ABA_LOCK_DIR
        __aba_directory=${ABA_LOCK_DIR}
    elif [[ -n ${HOME:-} ]]; then
        __aba_directory=${HOME}/.aba
    else
        # `~` is empty where HOME is, and the home directory of the passwd file where there is no HOME.
        __aba_directory=$(builtin unset -v HOME && builtin printf '%s' ~)/.aba
    fi
    if [[ -n ${ABA_LOCK_TIMEOUT:-}${ABA_LOCK_LOG:-} ]]; then
        builtin export ABA_LOCK_TIMEOUT ABA_LOCK_LOG
    fi
    if [[ -n ${ABA_LOCK_SERVER:-}${__aba_server:-} ]]; then
        # shellcheck disable=SC2034 # for the helper
        builtin export ABA_LOCK_SERVER ABA_LOCK_KEEPER ABA_LOCK_TTL ABA_LOCK_ON_LOST ABA_LOCK_SERVER_SECRET_FILE \
            ABA_LOCK_SERVER_CACERT ABA_LOCK_SERVER_CERT ABA_LOCK_SERVER_KEY
    fi
}

# Which helper to run: in __aba_bin, with its directory. Without one there is no lock: says so, 125.
#
# With a directory no function can stand in its way. `builtin command` would do that too, but under `set -e` bash 5.2 ends
# the script when a program that is run so fails, also in `builtin command PROGRAM || ...`.
__aba_find_helper() {
    builtin local __aba_list="${PATH-}:" __aba_name="${ABA_LOCK_BIN:-aba-lock}"
    # This one comes before PATH, which may lead to another version.
    if [[ -z ${ABA_LOCK_BIN:-} && -n ${__aba_installed} && -f ${__aba_installed} && -x ${__aba_installed} ]]; then
        __aba_bin=${__aba_installed}
        builtin return 0
    fi
    while [[ -n ${__aba_list} ]]; do
        __aba_bin=${__aba_name}
        if [[ ${__aba_bin} != */* ]]; then
            __aba_bin=${__aba_list%%:*}
            __aba_bin=${__aba_bin:-.}/${__aba_name}
        fi
        if [[ -f ${__aba_bin} && -x ${__aba_bin} ]]; then
            builtin return 0
        fi
        __aba_list=${__aba_list#*:}
    done
    __aba_print_message "the helper ${__aba_name} was not found, so nothing can be locked" \
        'install it on PATH, or set ABA_LOCK_BIN to where it is'
    builtin return 125
}

# Runs the helper with these arguments, in the directory of __aba_directory. HOME may be set and not exported.
__aba_run_helper() {
    if [[ -n ${ABA_LOCK_DIR:-} ]]; then
        "${__aba_bin}" "$@"
    else
        ABA_LOCK_DIR=${__aba_directory} "${__aba_bin}" "$@"
    fi
}

# The process of this shell, subshell or not: in __aba_pid.
__aba_find_pid() {
    __aba_pid=${BASHPID:-}
    if [[ -z ${__aba_pid} ]]; then
        # Bash before 4.0 has no such variable, but a child sees the number.
        __aba_pid=$(builtin exec sh -c 'echo "$PPID"')
    fi
}

# Ends the script with status $1, or returns $1 in an interactive shell and with `--on-conflict return`.
__aba_end_call() {
    if [[ $- != *i* && ${__aba_on_conflict} != return ]]; then
        builtin exit "$1"
    fi
    builtin return "$1"
}

__aba_print_message() {
    builtin printf '%s\n' "aba-lock: $1" ${2+"hint: $2"} >&2 || builtin true
}

# ---- completion, in interactive shells --------------------------------------------------------------------------------

# How to ask the helper what to offer is read from it at the first TAB, so that a script does not pay for it.
__aba_complete() {
    [[ $- != *k* ]] || \return 0
    builtin local __aba_bin='' __aba_script=''
    __aba_find_helper 2>/dev/null || builtin return 0
    if \builtin declare -F __aba_complete_function >/dev/null || {
        __aba_script=$(ABA_LOCK_COMPLETE=bash "${__aba_bin}" 2>/dev/null) && builtin eval "${__aba_script}"
    }; then
        __aba_complete_function "$@"
    fi
}

if [[ $- == *i* ]]; then
    # Bash may have been built without completion.
    builtin complete -F __aba_complete aba_lock_operation aba_unlock_operation aba_lock_held aba_lock_check aba_lock_detach aba_run_once aba_update \
        aba_reserve aba_lock_doctor 2>/dev/null || builtin true
fi

# One command, which is read as a whole before aliases are in force again.
builtin shopt "${__aba_aliases}" expand_aliases && builtin unset -v __aba_aliases
