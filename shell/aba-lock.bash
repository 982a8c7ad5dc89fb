# aba-lock.bash:
__aba_version=0.1.0
if [[ -n "${BASH_VERSINFO-}" ]] 2>&-; then
    [[ ${__aba_wanted:-$__aba_version} == "$__aba_version" ]] || \return 1
    __aba_file=${BASH_SOURCE-} __aba_name=${__aba_file%.bash}
    __aba_name=${ABA_LOCK_BUILTIN:+${__aba_name%-whole}-builtin.bash}
    __aba_alias=-u
    \builtin shopt -q expand_aliases && __aba_alias=-s
    \builtin shopt -u expand_aliases
else
    eval '__aba_call() {
echo "aba-lock: $1 works only in bash
hint: use \`eval \"\$(aba-lock init sh)\"\`, or \`init zsh\` in zsh" >&2
[ "${-#*i}" != "$-" ] || \exit 125
\return 125
}
(__aba_call aba-lock.bash)'
fi
aba_lock_operation() { __aba_call aba_lock_operation "$@"; }
aba_unlock_operation() { __aba_call aba_unlock_operation "$@"; }
aba_lock_held() { __aba_call aba_lock_held "$@"; }
aba_lock_check() { __aba_call aba_lock_check "$@"; }
aba_lock_detach() { __aba_call aba_lock_detach "$@"; }
aba_run_once() { __aba_call aba_run_once "$@"; }
aba_update() { __aba_call aba_update "$@"; }
aba_reserve() { __aba_call aba_reserve "$@"; }
aba_lock_doctor() { __aba_call aba_lock_doctor "$@"; }
case ${BASH_VERSINFO-} in '') return 125 ;; *) ;; esac
[[ -r $__aba_name ]] && \. "$__aba_name" && \return 0

__aba_call() {
    if [[ $1 == *_op* && $1$# != *_l*1 && ${BASHPID-}${IFS-} == "$$"$' \t\n' && $- != *k* && ! -o posix &&
        -n ${ABA_LOCK_DIR-}${HOME-} && -z ${__aba_fds+"."}${ABA_LOCK_LOG-}${ABA_LOCK_TIMEOUT-}${!ABA_LOCK_S@}${ABA_LOCK_ON_CONFLICT-}${__aba_scope-} ]] &&
        ! \builtin declare -f +i builtin && ! builtin declare -f +i exec; then
        builtin local __aba_p __aba_fd __aba_new='' __aba_fds="${ABA_LOCK_FDS-}"
        if [[ -n ${ABA_LOCK_DIR-} ]]; then
            builtin eval '[[ ${BASH_VERSION-} < 4.4 || ${ABA_LOCK_DIR@a} == *x* ]] || builtin export ABA_LOCK_DIR'
        else builtin local -x ABA_LOCK_DIR="$HOME/.aba"; fi
        __aba_try "$@" && builtin return 0
        builtin set -- __aba_resume "$?" "$@"
    fi
    \builtin local __aba_wanted
    __aba_wanted=$__aba_version __aba_part=
    if [[ -r $__aba_file ]] && \. "$__aba_file" && [[ ${__aba_loaded-} == all ]]; then
        "$@"
    else
        \printf '%s\n' "aba-lock: cannot load $__aba_file: it cannot be read, or has another version than $__aba_wanted" 'hint: restart the script' >&2
        __aba_version=$__aba_wanted
        [[ -z ${__aba_loaded-} && $* != *_lock_op* ]] || \exit 125
        \return 125
    fi
}

__aba_try() {
    __aba_bin=${ABA_LOCK_BIN:-${__aba_file%/share/aba-lock/*}/bin/aba-lock}
    [[ $__aba_bin == */* && -f $__aba_bin && -x $__aba_bin ]] || builtin return 79
    [[ $1 != *_u* ]] || builtin eval 'builtin set -- "${__aba_p=$__aba_locks}" "$__aba_fds" "${2-${__aba_locks%%/*}}${3+ }"
builtin test "$1" = "$3/$2/$$ " || builtin return 79
"$__aba_bin" unlock --fd "$2" "${1%%/*}" && builtin unset -v "ABA_LOCK_FDS${__aba_locks#"$1"}" 2>&- || builtin return "$?"
__aba_locks=${__aba_locks#"$1"}
builtin eval "\\exec $2>&-"
builtin return 0'
    builtin shift
    for __aba_p; do
        __aba_p=$ABA_LOCK_DIR/aba-$1.lock
        [[ $1 != -* && " $__aba_locks$__aba_new" != *" $1/"* && -f $__aba_p && ! -k $ABA_LOCK_DIR ]] || builtin return 79
        for __aba_fd in $__aba_fds ''; do [[ -n $__aba_fd && ! /dev/fd/$__aba_fd -ef $__aba_p ]] || builtin break; done
        if [[ -n $__aba_fd ]]; then
            (($# < 2)) || builtin return 79
            __aba_new="$1/$__aba_fd/0 "
        else
            __aba_fd=200
            while builtin true <&"$__aba_fd"; do ((++__aba_fd)); done 2>&-
            [[ " $__aba_fds " == *" $__aba_fd "* || $__aba_fd -gt 254 ]] ||
                builtin eval '! \exec '"$__aba_fd"'<>"$__aba_p"' 2>&- && builtin return 79
            __aba_new+="$1/$__aba_fd/$$ " __aba_fds+="${__aba_fds:+ }$__aba_fd"
        fi
        builtin set -- "${@:2}" --fd "$__aba_fd" "$1"
    done
    "$__aba_bin" lock --reopen "$@" || builtin return "$?"
    __aba_locks+=$__aba_new
    builtin export ABA_LOCK_FDS="$__aba_fds"
}

__aba_locks+=''
[[ $__aba_file == /* ]] || __aba_file=${PWD-}/${__aba_file#./}
[[ ${BASH_SOURCE-} != "$0" && ${__aba_wanted-}${__aba_loaded-} == "${__aba_part-}" && ${__aba_file/-whole./.} == */aba-lock.bash && -r $__aba_file &&
    $- != *i* ]] && \builtin shopt "${__aba_alias:--u}" expand_aliases && __aba_wanted='' __aba_part='' && \builtin return 0

# How a script uses the library:
#
#     source /usr/local/share/aba-lock/aba-lock.bash
#     aba_lock_operation mirror-save      # held on descriptor 200 until this script ends
#
# The library opens lock files on descriptors of the script, and the helper, the program aba-lock, locks them. Sourcing
# prints nothing, starts no process, and changes no option, trap or variable but its own.
#
# The parts of this file, with the public functions in each:
#
#     (above)     the fast part: the usual calls, and the load of the rest
#     sourcing    the variables of the library
#     acquire     aba_lock_operation
#     wait        a wait for a lock, during which the script handles its signals
#     release     aba_unlock_operation
#     clean up    leases and pid files, which end with the script
#     query       aba_lock_held, aba_lock_check
#     detach      aba_lock_detach
#     commands    aba_run_once, aba_update, aba_reserve, aba_lock_doctor
#     shared      the shell, lists, descriptors, the helper, messages
#     completion
#
# A private function puts its result into a variable that its caller has made local, because a command substitution
# would start a process. A list is a string in which a blank follows each entry, because the script may have set IFS.
# Programs other than the helper are in /bin or /usr/bin, because PATH may be empty, or lead to others of their names.
#
# The code runs in bash 3.2 (macOS) and newer, whatever options and functions the script has. So it calls builtins
# through `builtin`, and does without `{fd}<>` (4.1), BASHPID without a fallback (4.0), `declare -A` and `mapfile`
# (4.0), `[[ -v ]]` (4.2), arrays that may be empty (an error under `nounset` until 4.4), and in patterns of `[[ ]]` and
# `case` without ranges, classes and negations in brackets (wrong until 4.4 if `-`, `:` or `!` is in IFS).
#
# Trap handlers: bash runs a handler between any two commands, and the handler may lock and unlock others. Its calls end
# before the interrupted call goes on, which cannot wait for them. So each change of what both use is one command, in
# which bash expands the present value:
#
#  1. A list gets an entry with `+=`, and loses one with __aba_swap_list. A copy that is written back would drop what the
#     handler has added.
#  2. Between the search for a free descriptor and `exec`, the handler may lock a file on it. So this `exec` copies the
#     descriptor to itself if the library has opened it since: see __aba_redirect_fd.
#  3. After the close of a descriptor, the handler may lock another file on it. So a release first removes the lock from
#     the lists, and continues only if the lock was there. Until the descriptor is closed, __aba_releasing hides it.
#  4. ABA_LOCK_FDS and ABA_LOCK_TOKEN follow from lists: they are unset, or exported again, if these have changed.
#
# One case stays: in the fast part, a handler that releases the same lock just before the release removes it, and then
# acquires another lock, which gets the same descriptor.

# ---- the fast part ----

# Bash reads the whole file when a script sources it, but parses only the commands before a `return`. To parse the fast
# part costs a seventh of the whole. A test keeps it near 4096 bytes, so it has no comments:
#
#  1. In another shell a script must not run without its locks, so each public function ends the script. (An array is
#     never in the environment, but BASH_VERSION may be. Code is in quotes because aliases may be in force.)
#  2. With ABA_LOCK_BUILTIN, the file aba-lock-builtin.bash next to this one takes the place of what follows in the fast part.
#  3. Bash expands aliases when it reads a function, so they are off while it reads these.
#  4. Each public function calls __aba_call with its name and arguments.
#  5. A script that sources the file gets only the fast part. An interactive shell, and code that has the library from
#     another place than a file of its name, get the rest at once. In bash before 4.0, the first call loads the rest.
#
# __aba_call tries to lock or unlock with __aba_try if nothing is unusual: no option, no variable that changes what the
# call does, no subshell, no trap handler that has interrupted another call, no `set -o posix`, in which an `exec` that fails
# ends the script, no function named `builtin` or `exec`, the usual IFS, a directory from ABA_LOCK_DIR or HOME, and lock files
# that exist. Otherwise, and if the helper fails, it sources this file again, which then defines all functions, and calls the
# function again, or __aba_resume after an attempt.
#
# For the helper, __aba_call exports ABA_LOCK_DIR, as __aba_export does. Bash before 4.4 has no `${NAME@a}`, so there the helper refuses
# the file with 76 if the script has not exported the variable, and __aba_resume calls the whole function. The code is in quotes so
# that bash parses it only if the variable is set.
#
# The code for a release is in quotes, because bash then neither parses nor copies it for a script that only locks.
# A trap handler can run between any two of its commands, and add a lock to __aba_locks and __aba_fds. So it copies both first,
# and forgets the lock before it closes the descriptor: see "Trap handlers" above. `unset` is also the test that the locks are
# as before, because `ABA_LOCK_FDS` with an entry after it is no name. When __aba_try opens a file, a handler that has
# opened one empties __aba_p, so that `exec` fails.
#
# __aba_try returns 79 if the call needs the rest, 1 if a trap handler has changed the locks during a release, and otherwise
# the status of the helper. It has the effects of __aba_acquire_locks and aba_unlock_operation: a change there may be needed
# in both.
#
# aba-lock-fast.bash, which is installed in front of this file, sets __aba_part to this version if the fast part is enough. The
# fast part and the rest empty both variables when they are loaded.
#
# While __aba_call loads the rest, __aba_wanted is the version of the fast part. It is local, so that a load by a trap handler does not
# change it. If the file has another version by then,
# it returns before it defines anything, and the script gets a message. __aba_loaded is `all` after the rest was loaded.
# If the file is truncated, it is still `partly`, and the script ends, because some of its functions would be missing.
#
# __aba_version is compared with the versions of the helper and of the installed library by aba_lock_doctor.
#
# __aba_locks has the locks of this shell, in the order in which it acquired them: `NAME/FD/PID `. PID is the shell
# process that acquired the lock, or 0 if the script inherited the lock.

__aba_loaded=partly

# aba-lock-builtin.bash sets __aba_builtin. After `set -a`, other scripts inherit this variable and the functions, but not the builtin.
\builtin type __aba_builtin >/dev/null 2>&1 || __aba_builtin=''

# All public functions call this first. While the rest is being loaded, a trap handler may call some of them before the
# functions that they need are defined: then this loads the rest first.
# shellcheck disable=SC2317
__aba_check_shell() {
    __aba_call __aba_check_shell
}

# Usage: __aba_resume STATUS FUNCTION [ARG]...
#
# Completes a call of aba_lock_operation or aba_unlock_operation after __aba_try returned STATUS. The files that it has
# opened are in __aba_new: `NAME/FD/PID `.
__aba_resume() {
    builtin local __aba_status="$1" __aba_names='' __aba_held_locks='' __aba_on_conflict='exit' __aba_list='' __aba_name=''
    builtin local __aba_directory=''
    builtin shift
    while [[ -n ${__aba_new} ]]; do
        __aba_name=${__aba_new%% *}
        __aba_new=${__aba_new#* }
        if [[ ${__aba_name} != */0 ]]; then
            __aba_name=${__aba_name#*/}
            __aba_close_fd "${__aba_name%/*}"
        fi
    done
    if ((__aba_status == 79)) || { ((__aba_status == 76)) && [[ $1 == aba_lock_operation ]]; }; then
        "$@"
    elif [[ $1 == aba_unlock_operation ]]; then
        # 1: the helper has released the lock, and a trap handler has changed the locks while it ran.
        ((__aba_status != 1)) || __aba_status=0
        __aba_find_directory
        ! __aba_contains "${__aba_locks}" "${__aba_p}" || __aba_end_unlock "${__aba_p% }"
    else
        builtin shift
        __aba_names="$* "
        __aba_handle_failure
    fi
}

# ---- sourcing ----

# `PREFIX/bin:`, searched first for the helper if this file is in PREFIX/share/aba-lock. PATH may lack it, as in cron.
__aba_installed=${BASH_SOURCE[0]-}
[[ ${__aba_installed} == /* ]] || __aba_installed=${PWD-}/${__aba_installed#./}
__aba_installed=${__aba_installed%/*}
if [[ ${__aba_installed} == */share/aba-lock ]]; then
    __aba_installed=${__aba_installed%/share/aba-lock}/bin:
else
    __aba_installed=''
fi

# The locks of this shell that have a lease for other machines, too: `NAME/FD/PID/LOCAL/TOKEN/CALL `, with the tokens of
# the local lock and of the lease, and the number of the call that asked for it.
__aba_leases=${__aba_leases-}

# The ABA_LOCK_TOKEN that the script inherited, which the library exports again after its own leases.
__aba_inherited_token=${__aba_inherited_token-}

# The locks of this shell that have slots: `NAME/FD/OLD `. OLD is the value that ABA_LOCK_SLOT had before, in which `_u` stands for `_`,
# and `_b` for a blank.
__aba_slot_locks=${__aba_slot_locks-}

# The lock files that the present call has opened and not locked yet, `NAME/FD `, and their directory. Ctrl-C at a
# prompt ends all functions at once, and the next call closes these files.
__aba_pending=${__aba_pending-}
__aba_pending_directory=${__aba_pending_directory-}

# The locks of this shell that its children do not inherit (--no-inherit): `NAME/FD/PID/MODE `. FD is the reading end of a pipe, PID
# the shell process to which the lock is bound, and MODE is x, s, or SLOT-N with --slots N. They are in __aba_locks, too, but not in
# ABA_LOCK_FDS.
__aba_bound_locks=${__aba_bound_locks-}

# The directory of the locks that all users of the machine share. __aba_scope is set once this script has asked for such a lock.
__aba_system_directory=/run/lock/aba-lock
__aba_scope=${__aba_scope-}

# For each descriptor: 1 if the library has opened a lock file or a pipe on it, and has not closed it.
__aba_opened[0]=0

# The number of pid files that this shell has written. __aba_pid_paths has the path of each, or an empty string once it
# was removed, and __aba_pid_locks its locks: `NAME/FD `.
__aba_pid_files=${__aba_pid_files-0}

# ---- acquire ----

# Usage: aba_lock_operation [OPTIONS] OPERATION...
#
# Acquires the locks, all or none, and holds them until the script ends. Options: see __aba_print_usage. With a server,
# ABA_LOCK_TOKEN becomes the fencing token of the lease (or the tokens, in the order of the operations).
#
# Status 1: another process holds a lock. 3: the script may continue without the lock, as `ask` or `warn` allowed. 2: wrong
# usage. 80: with --coalesce or --skip-ok, the script should end with success. 125: locking failed. 1, 2, 80 (with
# status 0) and 125 end the script, unless the shell is interactive or --on-conflict is `return`.
aba_lock_operation() {
    __aba_check_shell || \return "$?"
    [[ -z ${__aba_builtin} ]] || ! __aba_lock_directly "$@" || builtin return 0
    builtin local __aba_acquiring=yes __aba_names='' __aba_subshell='' __aba_pid_file='' __aba_word='' __aba_previous=''
    builtin local __aba_wait_option='' __aba_conflict_option='' __aba_time='' __aba_span='' __aba_flag='' __aba_number=''
    builtin local __aba_only_times=yes __aba_key_name='' __aba_slots='' __aba_max_time='' __aba_no_inherit='' __aba_mode=x __aba_system=''
    builtin local __aba_on_conflict="${ABA_LOCK_ON_CONFLICT:-exit}" __aba_server="${ABA_LOCK_SERVER-}"
    builtin local -a __aba_options
    __aba_options=(--reopen)
    while (($# > 0)); do
        __aba_previous=${__aba_word}
        __aba_word=$1
        builtin shift
        case ${__aba_word} in
            -t | --timeout | --slots | --priority | --max-time | --grace | --key | --who | --pid-file | --server | --ttl | --on-lost | --on-conflict)
                [[ "$#" -gt 0 && (-n $1 || (${__aba_word} != -t && ${__aba_word} != --timeout)) ]] ||
                    __aba_fail 2 "option ${__aba_word} needs a value" 'see `aba_lock_operation --help`' ||
                    builtin return "$?"
                # Joined into one word, because a value may begin with `-`.
                [[ ${__aba_word} == -t ]] || __aba_word+='='
                __aba_word+=$1
                builtin shift
                ;;
            *) ;;
        esac
        case ${__aba_word} in
            --on-conflict=*)
                # The helper refuses a second value of its own options.
                [[ -z ${__aba_conflict_option} ]] ||
                    __aba_fail 2 'option --on-conflict is given twice' 'see `aba_lock_operation --help`' || builtin return "$?"
                __aba_conflict_option=--on-conflict
                __aba_on_conflict=${__aba_word#*=}
                ;;
            --key=*)
                __aba_find_key_name "${__aba_word#*=}" || __aba_end_call "$?" || builtin return "$?"
                __aba_contains "${__aba_names}" "${__aba_key_name} " || __aba_names+="${__aba_key_name} "
                __aba_only_times=''
                # The helper writes the text into the record.
                __aba_options+=("${__aba_word}")
                ;;
            --subshell) __aba_subshell=meant ;;
            --system) __aba_system=yes ;;
            -h | --help)
                __aba_print_usage
                builtin return 0
                ;;
            --) ;;
            --coalesce | --coalesce=* | --server=* | --pid-file=* | --slots=* | --priority=* | --wait | --nonblock | -t* | -w=* | --wait=* | --timeout=* | --max-time=* | --grace=* | \
                --who=* | --ttl=* | --on-lost=* | --shared | --exclusive | --replace | --skip-ok | --no-inherit | --quiet | --verbose)
                __aba_options+=("${__aba_word}")
                case ${__aba_word} in
                    --server=*) __aba_server=${__aba_word#*=} ;;
                    --pid-file=*) __aba_pid_file=${__aba_word#*=} ;;
                    --slots=*) __aba_slots=${__aba_word#*=} ;;
                    --max-time=*) __aba_max_time=yes ;;
                    --wait) __aba_wait_option=${__aba_word} ;;
                    --nonblock) __aba_wait_option='' ;;
                    --no-inherit) __aba_no_inherit=yes ;;
                    --shared) __aba_mode=s ;;
                    --exclusive) __aba_mode=x ;;
                    *) ;;
                esac
                ;;
            -*)
                # An option of one letter, or several in one word.
                if [[ ${__aba_word//[nwsxoqv]/} != - || ${__aba_word} == - ]]; then
                    # flock(1) takes `-w60`.
                    __aba_previous='see `aba_lock_operation --help`'
                    if __aba_read_time "${__aba_word#-*w}"; then
                        __aba_previous="to wait for at most ${__aba_span}, use --wait=${__aba_word#-*w}"
                    fi
                    __aba_fail 2 "aba_lock_operation: no such option: ${__aba_word}" "${__aba_previous}" || builtin return "$?"
                fi
                __aba_options+=("${__aba_word}")
                [[ ${__aba_word} != *o* ]] || __aba_no_inherit=yes
                case ${__aba_word//[!sx]/} in
                    *s) __aba_mode=s ;;
                    *x) __aba_mode=x ;;
                    *) ;;
                esac
                # The last one of -n and -w counts.
                case ${__aba_word//[!nw]/} in
                    *w) __aba_wait_option=${__aba_word} ;;
                    *n) __aba_wait_option='' ;;
                    *) ;;
                esac
                ;;
            '' | *[$' \t\n\v\f\r']*)
                # A list cannot contain this name. The helper reports the mistake.
                (__aba_find_helper && "${__aba_bin}" path -- "${__aba_word}" >/dev/null) || __aba_end_call "$?" ||
                    builtin return "$?"
                ;;
            *)
                __aba_contains "${__aba_names}" "${__aba_word} " || __aba_names+="${__aba_word} "
                if ! __aba_read_time "${__aba_word}"; then
                    __aba_only_times=''
                elif [[ ${__aba_previous} == --wait || (${__aba_previous} == -*w && ${__aba_previous} != --*) ]]; then
                    __aba_time=${__aba_word}
                elif [[ (${__aba_previous} == -*[nsx] && ${__aba_previous} != --*) || ${__aba_previous} == --nonblock ||
                    ${__aba_previous} == --shared || ${__aba_previous} == --exclusive ]]; then
                    __aba_flag=${__aba_previous}
                    __aba_number=${__aba_word}
                fi
                ;;
        esac
    done
    case ${ABA_LOCK_SCOPE-} in
        '' | user | system) ;;
        *)
            __aba_fail 2 "ABA_LOCK_SCOPE is \"${ABA_LOCK_SCOPE}\", which is not user or system" || builtin return "$?"
            ;;
    esac
    case ${__aba_on_conflict} in
        exit | return | ask | warn) ;;
        *)
            __aba_word=${__aba_on_conflict}
            __aba_on_conflict='exit'
            __aba_fail 2 "${__aba_conflict_option:-ABA_LOCK_ON_CONFLICT} is \"${__aba_word}\", which is not exit, return, ask or warn" ||
                builtin return "$?"
            ;;
    esac
    if [[ -z ${__aba_names} ]]; then
        __aba_fail 2 'aba_lock_operation needs the name of a lock' 'for example: `aba_lock_operation backup`' ||
            builtin return "$?"
    fi
    # In `-w 60 save`, flock(1) takes 60 as the time to wait. Here it would be a lock: refused before its file is made.
    __aba_word=${__aba_names%% *}
    if __aba_read_time "${__aba_word}"; then
        __aba_time=${__aba_word}
    fi
    if [[ -n ${__aba_wait_option} && -n ${__aba_time} && ${__aba_names} == *' '*' ' ]]; then
        __aba_read_time "${__aba_time}" || builtin true
        __aba_fail 2 "${__aba_time} would be the name of a lock, not a time to wait" \
            "to wait for at most ${__aba_span}, use --wait=${__aba_time}" || builtin return "$?"
    fi
    # In `-n 3 save`, too. But all names may be numbers or times.
    if [[ -n ${__aba_number} && -z ${__aba_only_times} ]]; then
        __aba_word=''
        if [[ -n ${__aba_number//[0123456789]/} ]]; then
            __aba_read_time "${__aba_number}" || builtin true
            __aba_word="to wait for at most ${__aba_span}, use --wait=${__aba_number}; "
        elif [[ ${__aba_flag} == --nonblock || ${__aba_flag} == *n ]]; then
            __aba_word="to let up to ${__aba_number} scripts hold the lock, use --slots=${__aba_number}; "
        fi
        __aba_fail 2 "${__aba_number} would be the name of a lock, because ${__aba_flag} takes no value" \
            "${__aba_word}to lock ${__aba_number}, write it after the other names" || builtin return "$?"
    fi
    __aba_acquire_locks
}

# Sets __aba_span to time $1, such as `60`, `0.5` or `1h30m`, as messages name it: `60 seconds`, `1h30m`. Returns 1 if it is
# no time for the helper.
__aba_read_time() {
    builtin local __aba_rest="$1" __aba_digits='' __aba_unit='' __aba_units=' w d h m s ms '
    __aba_span=$1
    while ((1)); do
        __aba_digits=${__aba_rest%%[!0-9.]*}
        [[ -n ${__aba_digits} && ${__aba_digits} != .* && ${__aba_digits} != *.*.* ]] || builtin return 1
        __aba_rest=${__aba_rest#"${__aba_digits}"}
        __aba_unit=${__aba_rest%%[0-9.]*}
        __aba_rest=${__aba_rest#"${__aba_unit}"}
        if [[ ${__aba_digits} == "$1" ]]; then
            __aba_span="$1 seconds"
            [[ $1 != 1 ]] || __aba_span='1 second'
        else
            # A larger unit stands before a smaller one.
            [[ -n ${__aba_unit} && ${__aba_units} == *" ${__aba_unit} "* ]] || builtin return 1
            __aba_units=${__aba_units#*" ${__aba_unit}"}
        fi
        [[ -n ${__aba_rest} ]] || builtin return 0
    done
}

__aba_print_usage() {
    builtin printf '%s\n' 'Usage: aba_lock_operation [OPTIONS] OPERATION...

Acquires one lock for each OPERATION, either all or none. The locks are held until this script ends.

  -n, --nonblock           Fail at once if another process holds a lock [default]
  -w, --wait[=TIME]        Wait until the locks are free, or for at most TIME: --wait=60 or -w=5m
  -t, --timeout TIME       Give up after TIME: 30, 1.5, 90s, 1h30m; 0 means do not wait
      --max-time TIME      End this script and all other holders after TIME: SIGTERM, and SIGKILL after --grace
      --replace            End the process that holds the lock, and take its place; the newest of several calls wins
      --grace TIME         With --max-time or --replace: time between SIGTERM and SIGKILL [default: 5]
  -s, --shared             Acquire shared locks, which several processes can hold at the same time
  -x, --exclusive          Acquire exclusive locks, which only one process can hold [default]
      --key TEXT           Use any text as an OPERATION, such as a URL, a path or a command line
      --coalesce           If another caller already waits, end this script with status 0, because that caller runs after
                           this call; otherwise wait
      --slots N            Let up to N processes hold the lock at the same time; ABA_LOCK_SLOT becomes the number of
                           the slot, 1 to N
      --priority LEVEL     Wait with this priority: high, normal or low [default: normal]
  -o, --no-inherit         Release the locks when this script ends, even if its children still run; not with --max-time
      --skip-ok            If another process holds a lock, end this script with status 0 and no message
  -q, --quiet              Print no messages about contention
  -v, --verbose            Print how long it took to acquire the locks
      --who TEXT           Description of the holder, shown to waiters
      --pid-file PATH      Write the pid of this script to this file, which is removed with the locks
      --server URL         Also lock for all machines that use this server: https://HOST:PORT or
                           etcd://HOST:PORT,HOST:PORT
      --ttl TIME           With a server: time after which a lease expires if it cannot be renewed [default: 30s]
      --on-lost HOW        With a server: action if a lease is lost: term, warn, or a command for sh [default: term]
      --on-conflict HOW    Action if another process holds a lock: exit, return, ask or warn [default: exit]
      --system             Use the locks that all users of this machine share, in /run/lock/aba-lock
      --subshell           Print no warning that the locks end with this subshell
  -h, --help               Print this help'
}

# Acquires the locks in __aba_names with __aba_options.
__aba_acquire_locks() {
    builtin local __aba_bin='' __aba_directory='' __aba_pid='' __aba_call_locks='' __aba_new_locks='' __aba_held_locks=''
    builtin local __aba_status=0 __aba_tries=0 __aba_granted='' __aba_signals='' __aba_unusable_fds='' __aba_tokens_found=''
    builtin local __aba_wait_start='' __aba_keyboard_option='' __aba_list='' __aba_name='' __aba_fd='' __aba_bound_mode=''
    builtin local __aba_lease_slot=''
    builtin local -a __aba_words
    __aba_find_helper || __aba_end_call 125 || builtin return "$?"
    __aba_find_directory
    [[ ${__aba_directory} != "${__aba_system_directory}" ]] || __aba_scope=system
    __aba_find_pid
    # The script may change its directory.
    [[ -z ${__aba_pid_file} || ${__aba_pid_file} == /* ]] || __aba_pid_file=${PWD}/${__aba_pid_file}
    while ((1)); do
        __aba_status=0 __aba_signals=''
        __aba_open_lock_files || __aba_status=$?
        # There is none if the script holds all the locks already, with --no-inherit.
        if ((__aba_status != 0)); then
            builtin true
        elif [[ -n ${__aba_call_locks} ]]; then
            __aba_request_locks
        elif [[ -n ${__aba_pid_file} ]]; then
            __aba_fail 125 "cannot write ${__aba_pid_file}: this script already holds ${__aba_names% }" \
                'give --pid-file where the lock is acquired' || builtin return "$?"
        fi
        if ((__aba_status == 0)); then
            __aba_granted=yes
            builtin break
        fi
        # The helper may have locked some of the files before it failed or was killed. This releases them.
        __aba_discard_new_locks
        if [[ -n ${__aba_signals} ]]; then
            __aba_raise_signals
            # The wait goes on, except after Ctrl-C (130) and Ctrl-\ (131).
            if ((__aba_status > 128 && __aba_status != 130 && __aba_status != 131)); then
                builtin continue
            fi
        fi
        # 76: a lock file was replaced after the library had opened it, or the script must not use an inherited descriptor.
        ((__aba_status == 76)) || __aba_handle_failure || builtin return "$?"
        __aba_tries=$((__aba_tries + 1))
        if ((__aba_tries == 100)); then
            __aba_fail 125 "a lock file in ${__aba_directory} was replaced each time it was opened" \
                'stop the program that removes or replaces it: a lock file must stay' || builtin return "$?"
        fi
        __aba_find_unusable_fds
    done
    if [[ -z ${__aba_granted} ]]; then
        # Ctrl-Z: bash leaves every loop when the helper is stopped.
        __aba_discard_new_locks
        __aba_handle_stop || builtin return "$?"
    fi
    if [[ -n ${__aba_server} ]] && ! __aba_find_tokens; then
        __aba_discard_new_locks
        __aba_fail 125 "cannot lock ${__aba_name}: its lease cannot be confirmed" \
            'check the helper and the keeper: `aba_lock_doctor`' || builtin return "$?"
    fi
    [[ -z ${__aba_no_inherit} ]] || __aba_find_bound_locks
    if [[ -n ${__aba_slots} ]] && ! __aba_find_slot; then
        __aba_remove_entries __aba_bound_locks "${__aba_new_locks% }/" || builtin true
        __aba_discard_new_locks
        __aba_fail 125 "cannot lock ${__aba_names% }: its slot cannot be read from /proc" \
            'run the script where /proc is mounted' || builtin return "$?"
    fi
    __aba_pending=''
    __aba_record_locks
}

# Exports the number of the slot that this call has acquired: the remainder of a division by 4096 of the offset of the byte that is
# locked on the descriptor. A call inside of a holder of the whole lock gets slot 1.
__aba_find_slot() {
    builtin local __aba_line='' __aba_found='' __aba_fd='' __aba_entry=''
    if [[ -n ${__aba_bound_locks} ]] && __aba_find_bound_lock "${__aba_names% }"; then
        case ${__aba_entry##*/} in
            x) __aba_found=1 ;;
            *-*) __aba_found=${__aba_entry##*/} __aba_found=${__aba_found%-*} ;;
            *) ;;
        esac
        __aba_entry=${__aba_entry%/*/*}
    else
        __aba_entry=${__aba_new_locks}${__aba_held_locks}
        __aba_entry=${__aba_entry% }
        while IFS= builtin read -r __aba_line; do
            case ${__aba_line} in
                *FLOCK*WRITE*) __aba_found=1 ;;
                *OFDLCK*WRITE*' 46116860184'*' 46116860184'*)
                    __aba_line=${__aba_line% *}
                    __aba_found=$((${__aba_line##* } % 4096))
                    ;;
                *) ;;
            esac
        done 2>/dev/null <"/proc/self/fdinfo/${__aba_entry#*/}"
        # The slot of a lease is that of all machines.
        __aba_found=${__aba_lease_slot:-${__aba_found}}
    fi
    [[ -n ${__aba_found} ]] || builtin return 1
    if ! __aba_contains "${__aba_slot_locks}" "${__aba_entry}/"; then
        __aba_line=${ABA_LOCK_SLOT-}
        __aba_line=${__aba_line//_/_u}
        __aba_slot_locks+="${__aba_entry}/${__aba_line// /_b} "
    fi
    builtin export ABA_LOCK_SLOT="${__aba_found}"
}

# Gives ABA_LOCK_SLOT the value that it had before lock $1 (`NAME/FD`) was acquired. If the script has acquired slots of other
# locks after it, the variable stays, and the next one of these locks takes over that value.
__aba_restore_slot() {
    builtin local __aba_before='' __aba_kept='' __aba_old='' __aba_next='' __aba_rest='' __aba_swapped=0
    while ((!__aba_swapped)); do
        __aba_before=${__aba_slot_locks}
        __aba_contains "${__aba_before}" "$1/" || builtin return 0
        __aba_kept=" ${__aba_before}"
        __aba_next=${__aba_kept##*" $1/"}
        __aba_kept=${__aba_kept%" $1/"*}
        [[ -z ${__aba_kept} ]] || __aba_kept="${__aba_kept# } "
        __aba_old=${__aba_next%% *}
        __aba_next=${__aba_next#* }
        if [[ -n ${__aba_next} ]]; then
            __aba_rest=${__aba_next#*/}
            __aba_kept+="${__aba_next%%/*}/${__aba_rest%%/*}/${__aba_old} ${__aba_next#* }"
        fi
        __aba_swap_list __aba_slot_locks "${__aba_before}" "${__aba_kept}"
    done
    [[ -z ${__aba_next} ]] || builtin return 0
    builtin unset -v ABA_LOCK_SLOT
    __aba_old=${__aba_old//_b/ }
    __aba_old=${__aba_old//_u/_}
    [[ -z ${__aba_old} ]] || builtin export ABA_LOCK_SLOT="${__aba_old}"
}

# For each of __aba_names, finds an open descriptor (its entry, `NAME/FD `, is then in __aba_held_locks) or opens one
# (in __aba_new_locks). All entries are in __aba_call_locks. Puts the arguments for the helper into __aba_words.
__aba_open_lock_files() {
    __aba_pending_directory=${__aba_directory}
    __aba_words=("${__aba_options[@]}")
    __aba_list=${__aba_names} __aba_new_locks='' __aba_held_locks='' __aba_call_locks=''
    while [[ -n ${__aba_list} ]]; do
        __aba_name=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        if __aba_holds_bound_lock "${__aba_name}"; then
            if ! __aba_check_bound_lock; then
                __aba_held_locks+="${__aba_name}/ "
                builtin return 75
            fi
            builtin continue
        elif [[ -n ${__aba_no_inherit} ]]; then
            __aba_open_pipe "${__aba_name}" || builtin return "$?"
            __aba_new_locks+="${__aba_name}/${__aba_fd} "
            __aba_pending=${__aba_new_locks}
            __aba_call_locks+="${__aba_name}/${__aba_fd} "
            __aba_words+=(--bind="${__aba_fd}" "${__aba_name}")
            builtin continue
        fi
        __aba_find_fd "${__aba_name}"
        if [[ -n ${__aba_fd} ]]; then
            __aba_held_locks+="${__aba_name}/${__aba_fd} "
        else
            __aba_open_lock_file "${__aba_name}" || builtin return "$?"
            __aba_new_locks+="${__aba_name}/${__aba_fd} "
            __aba_pending=${__aba_new_locks}
        fi
        __aba_call_locks+="${__aba_name}/${__aba_fd} "
        __aba_words+=(--fd "${__aba_fd}" "${__aba_name}")
    done
}

# Adds to __aba_unusable_fds the entries of __aba_held_locks that the helper refuses with status 76: the process that has
# locked the file is neither this script nor one that started it. It has ended, or it runs at the same time. The next call
# tries the descriptor again, because that may have changed by then.
#
# Each descriptor is tried alone, because another file of the call may have caused the status. If the library opened a file
# again whose lock this script holds, the script would be refused by its own lock.
__aba_find_unusable_fds() {
    builtin local __aba_entry=''
    __aba_list=${__aba_held_locks}
    while [[ -n ${__aba_list} ]]; do
        __aba_entry=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_status=0
        __aba_run_helper lock --quiet --server= --try-first --reopen --fd "${__aba_entry#*/}" "${__aba_entry%%/*}" 2>/dev/null ||
            __aba_status=$?
        ((__aba_status != 76)) || __aba_unusable_fds+="${__aba_entry} "
    done
}

# Opens the lock file of operation $1 on the first free descriptor from 200 on, and puts its number into __aba_fd.
#
# In a sticky directory, other users may have files. There, bash could block in silence: the owner of the file may have a lease
# on it, or put a FIFO in its place. So the helper opens the file, and prints how to open it through the process that keeps it
# open: `<> /proc/PID/fd/N`. Through this path, the kernel does not see the directory either, in which `fs.protected_regular` refuses
# `<>`, because bash opens with O_CREAT for it.
__aba_open_lock_file() {
    builtin local __aba_path='' __aba_status=0 __aba_limit='' __aba_attempt=0 __aba_offer='' __aba_done='' __aba_awaits=''
    # Tries again, because `aba-lock clean` may remove the file before it is open.
    for ((__aba_attempt = 0; __aba_attempt <= 10; __aba_attempt++)); do
        __aba_path=${__aba_directory}/aba-$1.lock
        if [[ -k ${__aba_directory} ]]; then
            __aba_offer=$(__aba_run_helper path --create --open-for="${__aba_pid}" "$1") || __aba_status=$?
        elif [[ -L ${__aba_path} || ! -f ${__aba_path} || ! -r ${__aba_path} ]]; then
            # The helper makes the file, private to its user, or reports why it cannot.
            __aba_run_helper path --create "$1" >/dev/null || __aba_status=$?
        fi
        if ((__aba_status == 77)); then
            __aba_awaits=yes
            __aba_await_file "$1"
            __aba_awaits=''
            ((__aba_status != 0)) || builtin continue
        elif ((__aba_status > 125)); then
            __aba_print_message "cannot lock $1: the helper ${__aba_bin} ended with status ${__aba_status}"
            __aba_status=125
        fi
        ((__aba_status == 0)) || builtin return "${__aba_status}"
        __aba_find_free_fd "cannot open lock file ${__aba_path}" || {
            __aba_end_offer
            builtin return 125
        }
        __aba_path=${__aba_offer#* }
        __aba_path=${__aba_path:-${__aba_directory}/aba-$1.lock}
        # A file that is open for reading can be locked, except on NFS.
        if [[ -w ${__aba_path} && ${__aba_offer} != '< '* ]] && __aba_redirect_fd "${__aba_fd}" '<>' ||
            __aba_redirect_fd "${__aba_fd}" '<'; then
            __aba_done=yes
        fi
        __aba_end_offer
        if [[ -n ${__aba_done} ]]; then
            __aba_opened[__aba_fd]=1
            __aba_forget_fd "${__aba_fd}"
            builtin return 0
        fi
    done
    # Ctrl-Z: bash leaves every loop when the helper is stopped.
    [[ -z ${__aba_awaits} ]] || builtin return 148
    __aba_path=${__aba_directory}/aba-$1.lock
    if \builtin declare -F exec >/dev/null; then
        __aba_print_message "cannot open lock file ${__aba_path}: a readonly function named exec hides the builtin" \
            'rename that function'
        builtin return 125
    fi
    __aba_limit=$(builtin ulimit -n) || __aba_limit=unlimited
    if [[ ${__aba_limit} != unlimited ]] && ((__aba_limit <= __aba_fd)); then
        __aba_print_message "cannot open lock file ${__aba_path} on descriptor ${__aba_fd}: the limit is ${__aba_limit} open files" \
            'raise the limit, for example: `ulimit -n 1024`'
    else
        __aba_print_message "cannot open lock file ${__aba_path} on descriptor ${__aba_fd}" \
            'find the cause with `aba_lock_doctor`'
    fi
    builtin return 125
}

# Waits, with the options of the call, until the lock file of operation $1 can be opened: another process has a lease on it (fcntl(2)).
# Sets __aba_status.
__aba_await_file() {
    builtin local -a __aba_words
    __aba_words=(--await-open "${__aba_options[@]}" "$1")
    __aba_request_locks
}

# Ends the process that keeps open the file of __aba_offer. Without `kill`, it ends after some seconds.
__aba_end_offer() {
    builtin local __aba_word="${__aba_offer#* }"
    if [[ ${__aba_word} == /proc/*/fd/* ]]; then
        __aba_word=${__aba_word#/proc/}
        builtin kill "${__aba_word%%/*}" 2>/dev/null || builtin true
    fi
    __aba_offer=''
}

# Sets __aba_fd to the first free descriptor from 200 on. If there is none, prints message $1 and returns 125.
__aba_find_free_fd() {
    # Not 255, from which bash reads the script itself.
    for ((__aba_fd = 200; __aba_fd < 255; __aba_fd++)); do
        if ! { builtin true <&"${__aba_fd}"; } 2>/dev/null; then
            # The script itself may have closed it. If it is open now, a handler has opened it.
            __aba_opened[__aba_fd]=0
            { builtin true <&"${__aba_fd}"; } 2>/dev/null || builtin return 0
            __aba_opened[__aba_fd]=1
        fi
    done
    __aba_print_message "$1: descriptors 200 to 254 are all in use" \
        'close those that the script does not need, for example: `exec 200>&-`'
    builtin return 125
}

# ---- acquire: --no-inherit ----

# A lock that children do not inherit is held by another process, the holder, which the helper starts when it has acquired the lock:
#
#  1. The script opens the reading end of a pipe.
#  2. It calls the helper with `--bind`. The helper opens the only writing end, acquires the lock as always, and starts the holder,
#     which has both open. The holder waits until the script has ended, or until no reading end is open.
#  3. The helper arms the pipe: from now on, the kernel sends SIGTERM to the script if the writing end is closed. If it is open,
#     the helper ends with status 0.
#  4. The script runs. Its children inherit the reading end, which holds no lock.
#  5. To release the lock, the helper disarms the pipe and empties it, which ends the holder, and waits until it has ended.
#
# After another status than 0, the script closes the pipe. This ends the holder, if there is one.

# Opens the reading end of a new pipe on the first free descriptor from 200 on, for operation $1, and puts its number into __aba_fd.
__aba_open_pipe() {
    builtin local __aba_path=/dev/fd/0 __aba_posix='' __aba_success=''
    __aba_find_free_fd "cannot lock $1" || builtin return "$?"
    # Before bash 5.1, `<( )` is a syntax error under `set -o posix`.
    if [[ -o posix ]]; then
        __aba_posix=yes
        builtin set +o posix
    fi
    if builtin eval '__aba_redirect_fd "${__aba_fd}" "<" < <(builtin true)' 2>/dev/null; then
        __aba_opened[__aba_fd]=1
        __aba_success=yes
    fi
    [[ -z ${__aba_posix} ]] || builtin set -o posix
    if [[ -z ${__aba_success} ]]; then
        # Bash opens the pipe in /dev/fd, which leads to /proc.
        __aba_path='find the cause with `aba_lock_doctor`'
        [[ -e /proc/self ]] || __aba_path='--no-inherit needs Linux 5.3 or newer, and /proc'
        __aba_print_message "cannot lock $1: cannot open a pipe on descriptor ${__aba_fd}" "${__aba_path}"
        builtin return 125
    fi
    __aba_forget_fd "${__aba_fd}"
}

# Sets __aba_fd to the pipe of operation $1, if this shell has acquired it with --no-inherit, and __aba_entry to its entry in
# __aba_bound_locks. Returns 1 if it has not.
__aba_find_bound_lock() {
    builtin local __aba_rest=" ${__aba_bound_locks}"
    __aba_contains "${__aba_bound_locks}" "$1/" || builtin return 1
    __aba_rest=${__aba_rest##*" $1/"}
    __aba_entry=$1/${__aba_rest%% *}
    __aba_rest=${__aba_entry#*/}
    __aba_fd=${__aba_rest%%/*}
    __aba_rest=${__aba_rest#*/}
    # A subshell is another process, and does not hold the lock.
    [[ ${__aba_rest%%/*} == "${__aba_pid}" ]]
}

# Returns 0 if this shell holds the lock of operation $1 with --no-inherit. Its mode is then in __aba_bound_mode.
__aba_holds_bound_lock() {
    builtin local __aba_entry='' __aba_fd=''
    if [[ -z ${__aba_bound_locks} ]] || ! __aba_find_bound_lock "$1"; then
        builtin return 1
    fi
    if ! __aba_run_helper status --quiet --fd "${__aba_fd}" "$1" 2>/dev/null; then
        # Its holder was killed, and the script has handled SIGTERM.
        ! __aba_forget_lock "${__aba_entry%/*}" || __aba_close_fd "${__aba_fd}"
        builtin return 1
    fi
    __aba_bound_mode=${__aba_entry##*/}
}

# Returns 0 if the lock of operation __aba_name, which this shell holds with --no-inherit in __aba_bound_mode, is enough for this call.
# The messages are those of the helper for other locks.
__aba_check_bound_lock() {
    builtin local __aba_held="${__aba_bound_mode#*-}" __aba_change='and cannot become exclusive while it is held'
    if [[ -n ${__aba_max_time} ]]; then
        __aba_print_message "cannot limit the time of ${__aba_name}: this process or one that started it already holds the lock" \
            'release it first, or give --max-time where it is acquired'
    elif [[ ${__aba_bound_mode} == s && -n ${__aba_slots} ]]; then
        __aba_print_message "${__aba_name} is already held shared by this script, without a slot" \
            'release it first, or acquire it with --slots from the start'
    elif [[ ${__aba_bound_mode} == s && ${__aba_mode} == x ]]; then
        __aba_print_message "${__aba_name} is already held shared by this script, ${__aba_change}" \
            'release it first, or acquire it exclusive from the start'
    elif [[ ${__aba_bound_mode} == *-* && -n ${__aba_slots} && ${__aba_slots} != "${__aba_held}" ]]; then
        __aba_print_message "${__aba_name} is held with --slots ${__aba_held}, so --slots ${__aba_slots} is refused" \
            "use --slots ${__aba_held}, or end all processes that hold this lock or wait for it"
    elif [[ ${__aba_bound_mode} == *-* && -z ${__aba_slots} && ${__aba_mode} == x ]]; then
        __aba_print_message "${__aba_name} is already held with --slots ${__aba_held} by this script, ${__aba_change}" \
            'release it first, or acquire it without --slots from the start'
    else
        builtin return 0
    fi
    builtin return 1
}

# After a success: keeps those of __aba_new_locks that have a holder, and puts their entries into __aba_bound_locks. The pipes of the
# others are empty: the script, or the one that started it, held these locks before, and they stay as they are. With --slots, a pipe
# begins with a line that has the number of the slot.
__aba_find_bound_locks() {
    builtin local __aba_start='' __aba_bound='' __aba_entry='' __aba_fd='' __aba_held_mode=''
    while [[ -n ${__aba_new_locks} ]]; do
        __aba_entry=${__aba_new_locks%% *}
        __aba_new_locks=${__aba_new_locks#* }
        __aba_fd=${__aba_entry#*/}
        if IFS='' builtin read -r -n 5 -u "${__aba_fd}" __aba_start 2>/dev/null; then
            __aba_bound+="${__aba_entry} "
            __aba_held_mode=${__aba_mode}
            [[ -z ${__aba_slots} ]] || __aba_held_mode=${__aba_start//[!0123456789]/}-${__aba_slots}
            __aba_bound_locks+="${__aba_entry}/${__aba_pid}/${__aba_held_mode} "
        else
            __aba_close_fd "${__aba_fd}"
            __aba_find_fd "${__aba_entry%%/*}"
            [[ -z ${__aba_fd} ]] || __aba_held_locks+="${__aba_entry%%/*}/${__aba_fd} "
        fi
    done
    __aba_new_locks=${__aba_bound}
}

# Closes the lock files that this call has opened, and removes the pid file that the helper may have written.
__aba_discard_new_locks() {
    if [[ -n ${__aba_pid_file} ]]; then
        __aba_remove_pid_file "${__aba_pid_file}"
    fi
    __aba_close_fds "${__aba_new_locks}"
    # A later call must not close what a handler opens on these descriptors.
    __aba_pending='' __aba_new_locks=''
}

# Ends the call after the helper failed with __aba_status. The helper has printed the reason, unless it was killed.
__aba_handle_failure() {
    case ${__aba_status} in
        75 | 124) __aba_handle_conflict ;;
        2)
            __aba_check_version
            __aba_end_call 2
            ;;
        125) __aba_end_call 125 ;;
        # --coalesce, --skip-ok: the script has no lock, and nothing to do.
        80)
            [[ $- != *i* && ${__aba_on_conflict} != return ]] || builtin return 80
            builtin exit 0
            ;;
        # A signal has stopped the helper.
        147 | 148 | 149 | 150) __aba_handle_stop ;;
        # Ctrl-C has ended the helper. The script has got the signal, too, but may ignore it.
        130) __aba_end_call 130 ;;
        *) __aba_fail 125 "cannot lock ${__aba_names% }: the helper ${__aba_bin} ended with status ${__aba_status}" ;;
    esac
}

# Does as __aba_on_conflict says after the helper has reported the holder.
__aba_handle_conflict() {
    builtin local __aba_answer='' __aba_missing=''
    __aba_list=${__aba_names}
    while [[ -n ${__aba_list} ]]; do
        __aba_name=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_contains "${__aba_held_locks}" "${__aba_name}/" || __aba_missing+="${__aba_name} "
    done
    __aba_missing=${__aba_missing:+the lock on ${__aba_missing}}
    # Nothing is missing if the script holds the locks shared and has asked for exclusive ones.
    __aba_missing=${__aba_missing:-an exclusive lock on ${__aba_names}}
    if [[ ${__aba_on_conflict} == ask && -t 0 && -t 2 ]]; then
        # Discards input that was typed before the question. Bash before 4.0 cannot test for input.
        while ((BASH_VERSINFO[0] >= 4)) && builtin read -r -t 0; do
            IFS= builtin read -r __aba_answer || builtin break
        done
        builtin printf 'aba-lock: press Enter to continue without %s, or Ctrl-C to stop: ' "${__aba_missing% }" >&2
        if IFS= builtin read -r __aba_answer && [[ -z ${__aba_answer} ]]; then
            builtin return 3
        fi
        builtin printf '\n' >&2
    elif [[ ${__aba_on_conflict} == warn ]]; then
        __aba_print_message "warning: the script can continue without ${__aba_missing% }"
        builtin return 3
    fi
    __aba_end_call 1
}

# Ends the helper after Ctrl-Z has stopped it, because it has a copy of the descriptors, and then the call.
__aba_handle_stop() {
    builtin local __aba_job=''
    __aba_job=$(builtin jobs -p %% 2>/dev/null) || builtin true
    [[ -z ${__aba_job} ]] || __aba_end_helper
    __aba_fail 125 "cannot lock ${__aba_names% }: the wait was stopped, for example by Ctrl-Z"
}

# Adds the locks of this call, acquired or inherited, to the variables of the library and to what children inherit.
__aba_record_locks() {
    builtin local __aba_entry=''
    if [[ -n ${__aba_pid_file} ]]; then
        # One command, because the call of a handler may take the same number.
        __aba_pid_locks[__aba_pid_files]=${__aba_new_locks}${__aba_held_locks} \
            __aba_pid_paths[__aba_pid_files]=${__aba_pid_file} __aba_pid_files=$((__aba_pid_files + 1))
        __aba_add_exit_trap
    fi
    while [[ -n ${__aba_new_locks} ]]; do
        __aba_entry=${__aba_new_locks%% *}
        __aba_new_locks=${__aba_new_locks#* }
        if [[ -z ${__aba_no_inherit} ]]; then
            __aba_locks+="${__aba_entry}/${__aba_pid} " ABA_LOCK_FDS="${ABA_LOCK_FDS:+${ABA_LOCK_FDS} }${__aba_entry#*/}"
            builtin export ABA_LOCK_FDS
            # As in __aba_forget_fd.
            [[ -z ${__aba_fds+"."} ]] || __aba_fds+="${__aba_fds:+ }${__aba_entry#*/}"
        else
            __aba_locks+="${__aba_entry}/${__aba_pid} "
        fi
        # A call of the fast part that this one interrupts may be about to open a file on the same descriptor.
        [[ ${__aba_p-} != *.lock ]] || __aba_p=''
        if ((BASH_SUBSHELL > 0)) && [[ -z ${__aba_subshell} ]]; then
            # `x=$(aba_lock_operation …)` and `aba_lock_operation … | …` leave the script without a lock.
            __aba_print_message "${__aba_entry%%/*} is locked only until this subshell ends" \
                'call aba_lock_operation outside of $( ), ( ) and pipelines; if the subshell is intended, add --subshell'
        fi
    done
    while [[ -n ${__aba_held_locks} ]]; do
        __aba_find_entry "${__aba_held_locks%%/*}"
        [[ -n ${__aba_entry} ]] || __aba_locks+="${__aba_held_locks%% *}/0 "
        __aba_held_locks=${__aba_held_locks#* }
    done
    [[ -z ${__aba_tokens_found} ]] || __aba_record_leases
}

# ---- wait ----

# Asks the helper for the locks, with __aba_words, and puts its status into __aba_status. If the script gets a signal
# for which it has a handler, this returns early, with the signals in __aba_signals, and the helper no longer waits.
#
# Bash runs no handler while a command runs in the foreground, but a signal interrupts its `wait` for a background job:
#
#  1. The helper tries in the foreground. If it would have to wait, it exits with 77, or with 78 if the script ignores
#     the signals of the keyboard, and holds nothing.
#  2. If the script has handlers, the library replaces each by one that only notes its signal.
#  3. The helper waits as a background job, and the script in `wait`.
#  4. A signal comes. Its handler notes it and ends the helper, which also ends a `wait` that was about to begin. But
#     if the signal comes in the instant in which bash calls waitpid(2), its handler may run only after the wait, as it
#     does for a command in the foreground.
#  5. The script reaps the helper. If a signal comes at this point, bash may lose the status of the helper, and
#     return -1 or (before 5.0) 0. So the locks count as not granted, even if the helper got them in this instant.
#  6. The library restores the handlers.
#  7. The script closes the descriptors, which releases the locks. So nothing waits or is locked for the script without
#     its knowledge, whatever its handlers do: wait for all jobs, ask for the same lock, or exit.
#  8. The library sends the signals to the script again. If the handlers return, the wait goes on, or the call ends if
#     the signal was Ctrl-C.
#
# If the script is killed at any step, the helper ends because its parent has ended, and the lock is free. If another
# process kills the helper, steps 5 to 7 follow.
__aba_request_locks() {
    builtin local __aba_now='' __aba_waited=''
    __aba_status=0
    if [[ $- == *i* ]]; then
        # In the foreground, so that Ctrl-Z stops the helper and bash prints no message about a job.
        __aba_run_helper lock "${__aba_words[@]}" || __aba_status=$?
        builtin return 0
    fi
    if [[ -z ${__aba_wait_start} ]]; then
        __aba_run_helper lock --try-first "${__aba_words[@]}" || __aba_status=$?
        case ${__aba_status} in
            77) __aba_keyboard_option=--heed-keyboard ;;
            78) ;;
            *) builtin return 0 ;;
        esac
        __aba_status=0
        __aba_read_clock __aba_wait_start
    else
        __aba_read_clock __aba_now
        __aba_now=$((__aba_now > __aba_wait_start ? __aba_now - __aba_wait_start : 0))
        builtin printf -v __aba_waited -- '--waited=%d.%02d' "$((__aba_now / 100))" "$((__aba_now % 100))"
    fi
    __aba_run_interruptible_helper lock ${__aba_waited:+"${__aba_waited}"} \
        ${__aba_keyboard_option:+"${__aba_keyboard_option}"} "${__aba_words[@]}"
}

# Runs the helper with these arguments, in the background if the script handles signals: see __aba_request_locks.
__aba_run_interruptible_helper() {
    builtin local __aba_job='' __aba_ended='' __aba_index=0 __aba_handler_count=0
    builtin local -a __aba_handlers __aba_handled_signals
    __aba_signals=''
    __aba_find_handlers
    if ((__aba_handler_count == 0)); then
        __aba_run_helper "$@" || __aba_status=$?
        builtin return 0
    fi
    for ((__aba_index = 0; __aba_index < __aba_handler_count; __aba_index++)); do
        builtin trap -- "__aba_note_signal ${__aba_handled_signals[__aba_index]}" "${__aba_handled_signals[__aba_index]}"
    done
    # Bash prints no message about a job that dies of a signal that the script handles. (This handler never runs.)
    # shellcheck disable=SC2173
    builtin trap -- : KILL
    # Bash gives a background job /dev/null as its input.
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
        # The handler could not do this if the signal came before the helper was started.
        builtin kill -s KILL "${__aba_job}" 2>/dev/null || builtin true
    fi
    while [[ -z ${__aba_ended} ]]; do
        __aba_wait_for_helper 2>/dev/null
    done
    # shellcheck disable=SC2173
    builtin trap -- - KILL
    for ((__aba_index = 0; __aba_index < __aba_handler_count; __aba_index++)); do
        builtin trap -- "${__aba_handlers[__aba_index]}" "${__aba_handled_signals[__aba_index]}"
    done
    case " ${__aba_signals}" in
        ' ') ;;
        *' INT '*) __aba_status=130 ;;
        *' QUIT '*) __aba_status=131 ;;
        *) ((__aba_status > 0)) || __aba_status=137 ;;
    esac
}

# Finds the signals for which the script has handlers: __aba_handler_count, the names in __aba_handled_signals, and the
# commands in __aba_handlers.
__aba_find_handlers() {
    builtin local __aba_listed=''
    builtin local -a __aba_trap_words
    # In a subshell, `trap -p` prints the handlers of the script until any `trap` was run, even one that fails.
    builtin trap -- - NO_SIGNAL 2>/dev/null || builtin true
    __aba_listed=$(builtin trap -p) || builtin true
    # Each handler is four words that are quoted as bash reads them: trap -- 'COMMANDS' SIGTERM
    builtin eval "__aba_trap_words=(- ${__aba_listed})"
    builtin set -- "${__aba_trap_words[@]}"
    builtin shift
    while (($# > 3)); do
        # Skips ignored signals, and `-`, the default action, which `trap` prints under `set -o posix`.
        if [[ -n $3 && $3 != - ]]; then
            case ${4#SIG} in
                EXIT | DEBUG | ERR | RETURN) ;;
                CHLD)
                    # The end of the helper would interrupt `wait`, so the helper runs in the foreground.
                    if [[ -o posix ]]; then
                        __aba_handler_count=0
                        builtin return 0
                    fi
                    ;;
                *)
                    __aba_handlers[__aba_handler_count]=$3
                    __aba_handled_signals[__aba_handler_count]=${4#SIG}
                    __aba_handler_count=$((__aba_handler_count + 1))
                    ;;
            esac
        fi
        builtin shift 4
    done
}

# The handler during the wait: notes signal $1 and ends the helper, because `wait` may be about to begin.
__aba_note_signal() {
    __aba_signals+="$1 "
    if [[ -z ${__aba_job} || -n ${__aba_ended} ]]; then
        builtin return 0
    elif [[ -n ${__aba_server} ]]; then
        builtin kill -s TERM "${__aba_job}" 2>/dev/null || builtin true
    else
        # Not SIGTERM, which the helper ignores if the script does.
        builtin kill -s KILL "${__aba_job}" 2>/dev/null || builtin true
    fi
}

# Waits until the helper, __aba_job, ends or a signal comes. Sets __aba_status, and __aba_ended if the helper has ended.
__aba_wait_for_helper() {
    builtin local __aba_second_status=0
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
        # The status may be that of the interruption: ask again. 127: it was that of the helper, which bash has
        # forgotten under `set -o posix`.
        builtin wait "${__aba_job}" 2>/dev/null || __aba_second_status=$?
        ((__aba_second_status == 127)) || __aba_status=${__aba_second_status}
        # If bash has lost the status, it still lists the job.
        builtin disown "${__aba_job}" 2>/dev/null || builtin true
    fi
    __aba_ended=yes
}

# Becomes the helper, in a subshell.
__aba_become_helper() {
    # Under `set -m` and after `stty tostop`, a background job that writes to the terminal would be stopped.
    builtin trap '' TTOU
    builtin export ABA_LOCK_DIR="${__aba_directory}"
    builtin exec "${__aba_bin}" "$@"
}

# Ends the helper, __aba_job. It gets time to leave the queue of a server, and is killed if that takes too long.
__aba_end_helper() {
    (builtin exec /bin/sh -c 'kill -TERM "$1"; kill -CONT "$1"; n=0
        while kill -0 "$1" && [ "$n" -lt 250 ]; do sleep 0.02; n=$((n + 1)); done
        kill -KILL "$1"' sh "${__aba_job}") 2>/dev/null || builtin true
}

# Sends each of the signals in __aba_signals to the script once, so that its handlers run.
__aba_raise_signals() {
    builtin local __aba_signal='' __aba_raised=''
    while [[ -n ${__aba_signals} ]]; do
        __aba_signal=${__aba_signals%% *}
        __aba_signals=${__aba_signals#* }
        if ! __aba_contains "${__aba_raised}" "${__aba_signal} "; then
            __aba_raised+="${__aba_signal} "
            __aba_raise_signal "${__aba_signal}" || builtin true
        fi
    done
}

# Sends signal $1 to this shell. A `return` in the handler returns from this function. The subshell exits with the
# status of an interrupted `wait`, which the handler finds in `$?`.
__aba_raise_signal() {
    (
        builtin kill -s "$1" "${__aba_pid}"
        builtin exit "$((128 + $(builtin kill -l "$1")))"
    ) || builtin true
}

# Sets variable $1 to hundredths of a second since the start of the machine or, without /proc, of the shell.
__aba_read_clock() {
    builtin local __aba_uptime=''
    if { IFS=' ' builtin read -r __aba_uptime _ </proc/uptime; } 2>/dev/null &&
        [[ -z ${__aba_uptime//[0-9.]/} && ${__aba_uptime} == ?*.?? ]]; then
        builtin eval "$1=\$((10#\${__aba_uptime/./}))"
    else
        builtin eval "$1=\$((\${SECONDS:-0} * 100))"
    fi
}

# ---- release ----

# Usage: aba_unlock_operation [OPERATION | --key TEXT]
#
# Releases the lock on OPERATION, by default the last one, however often the script has acquired it. If another script,
# which started this one, holds the lock, then this only closes the descriptor here. A script that took the place of the
# holder with `exec` is the holder.
aba_unlock_operation() {
    __aba_check_shell || \return "$?"
    [[ -z ${__aba_builtin} ]] || ! __aba_unlock_directly "$@" || builtin return 0
    builtin local __aba_key_name='' __aba_key_words=0
    __aba_read_key "$@" || builtin return "$?"
    if ((__aba_key_words > 0)); then
        builtin shift "${__aba_key_words}"
        builtin set -- "${__aba_key_name}" "$@"
    fi
    if (($# > 0)) && [[ -z $1 ]]; then
        __aba_print_message 'invalid lock name "": it is empty' \
            'to release the last lock, call aba_unlock_operation without a name'
        builtin return 2
    fi
    if (($# > 1)); then
        __aba_print_message 'aba_unlock_operation takes the name of one lock' 'call it once for each lock'
        builtin return 2
    fi
    builtin local __aba_entry='' __aba_name='' __aba_fd='' __aba_acquirer=''
    builtin local __aba_bin='' __aba_directory='' __aba_pid='' __aba_lease='' __aba_status=0
    __aba_find_directory
    __aba_find_entry "${1-}"
    [[ -n ${__aba_entry} ]] || __aba_find_inherited_lock "${1-}"
    if [[ -z ${__aba_entry} ]]; then
        # The helper knows the rule for names, and reports a wrong one.
        if [[ -n ${1-} ]] && __aba_find_helper; then
            __aba_run_helper path -- "$1" >/dev/null || __aba_status=$?
            [[ ${__aba_status} != 2 ]] || builtin return 2
        fi
        __aba_print_message "nothing to release: this script holds no lock${1:+ on $1}"
        builtin return 1
    fi
    __aba_name=${__aba_entry%%/*}
    __aba_acquirer=${__aba_entry##*/}
    __aba_fd=${__aba_entry#*/}
    __aba_fd=${__aba_fd%/*}
    __aba_choose_directory "${__aba_name}" "${__aba_fd}"
    __aba_find_pid
    if [[ ${__aba_acquirer} == "${__aba_pid}" ]] || { [[ ${__aba_acquirer} == 0 ]] && __aba_is_acquirer; }; then
        __aba_find_helper || builtin return "$?"
        if __aba_contains "${__aba_leases}" "${__aba_name}/${__aba_fd}/"; then
            __aba_lease=--server=its-own
        fi
        # Before the release, because the next holder may use the same pid file.
        __aba_remove_pid_files "${__aba_name}/${__aba_fd}"
        # The helper unlocks the file, and so also the copies of children. It refuses if the descriptor is not on the
        # lock file any more: then the script uses it for something else, and it stays open.
        __aba_run_helper unlock --fd "${__aba_fd}" "${__aba_name}" ${__aba_lease:+"${__aba_lease}"} || __aba_status=$?
        # While the helper ran, a trap handler may have released the lock and acquired another one on the descriptor.
        [[ ${__aba_acquirer} == 0 ]] || __aba_contains "${__aba_locks}" "${__aba_entry} " || builtin return 0
        __aba_end_unlock "${__aba_entry}" || builtin return "$?"
        builtin return 0
    fi
    builtin local __aba_releasing="${__aba_releasing-}/${__aba_fd} " __aba_close=''
    if [[ /dev/fd/${__aba_fd} -ef ${__aba_directory}/aba-${__aba_name}.lock ]] ||
        __aba_contains "${__aba_bound_locks}" "${__aba_entry}/"; then
        __aba_close=yes
    fi
    __aba_forget_lock "${__aba_entry}" || builtin return 0
    [[ -z ${__aba_close} ]] || __aba_close_fd "${__aba_fd}"
}

# Ends the release of the lock with entry $1 after the helper has ended with __aba_status. Returns the status of the call.
__aba_end_unlock() {
    builtin local __aba_name="${1%%/*}" __aba_fd="${1#*/}"
    __aba_fd=${__aba_fd%/*}
    # The helper reports other failures itself.
    ((__aba_status <= 128)) || __aba_print_message \
        "cannot determine whether ${__aba_name} is released: the helper ${__aba_bin} ended with status ${__aba_status}" \
        "check the lock: \`aba-lock status ${__aba_name}\`"
    builtin local __aba_releasing="${__aba_releasing-}/${__aba_fd} " __aba_close=''
    # After a failure, the lock may still be held. It must not stay on a descriptor that this script no longer knows, because
    # then the next call would be refused by the script itself. Closing the descriptor releases the lock, unless a child has
    # a copy. A descriptor that is not on the lock file any more belongs to the script.
    if ((__aba_status == 0)) || [[ /dev/fd/${__aba_fd} -ef ${__aba_directory}/aba-${__aba_name}.lock ]] ||
        __aba_contains "${__aba_bound_locks}" "$1/"; then
        __aba_close=yes
    fi
    __aba_forget_lock "$1" || builtin return 0
    [[ -z ${__aba_close} ]] || __aba_close_fd "${__aba_fd}"
    ((__aba_status == 0)) || __aba_status=125
    builtin return "${__aba_status}"
}

# Finds operation $1, by default the last one, among the locks that the script inherited and has not asked for, and puts
# its entry, or nothing, into __aba_entry.
__aba_find_inherited_lock() {
    builtin local __aba_fd='' __aba_unusable_fds=''
    if [[ -z $1 ]]; then
        __aba_entry=$(__aba_print_last_inherited_lock) || builtin true
        builtin return 0
    fi
    __aba_find_fd_of_any_directory "$1"
    [[ -z ${__aba_fd} ]] || __aba_entry=$1/${__aba_fd}/0
}

# Prints the entry of the last inherited descriptor that is open on a lock file, whose name is that of the file. It
# changes options of the shell, so it must run in a subshell.
__aba_print_last_inherited_lock() {
    builtin local __aba_list="${ABA_LOCK_FDS-} " __aba_path=''
    builtin set +f
    builtin shopt -u failglob
    while [[ ${__aba_list} == *[0123456789]* ]]; do
        __aba_fd=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        for __aba_path in "${__aba_directory}"/aba-*.lock; do
            if [[ -z ${__aba_fd//[0-9]/} && ${__aba_releasing-} != *"/${__aba_fd} "* &&
                /dev/fd/${__aba_fd} -ef ${__aba_path} ]]; then
                __aba_path=${__aba_path##*/aba-}
                __aba_entry=${__aba_path%.lock}/${__aba_fd}/0
            fi
        done
    done
    builtin printf '%s' "${__aba_entry}"
}

# Returns 0 if this process acquired the lock __aba_name itself, before `exec` made it another script. The helper compares the record in
# the lock file with this process. Without the helper, the result is 0, too, and the caller reports that it is missing.
__aba_is_acquirer() {
    [[ /dev/fd/${__aba_fd} -ef ${__aba_directory}/aba-${__aba_name}.lock ]] || builtin return 1
    __aba_find_helper 2>/dev/null || builtin return 0
    __aba_run_helper status --quiet --acquired --fd "${__aba_fd}" "${__aba_name}" 2>/dev/null
}

# Removes entry $1 from the variables of the library, and its descriptor from what children inherit. Returns 1 if a trap
# handler has done that before. (An inherited lock, `NAME/FD/0`, may be in ABA_LOCK_FDS only.)
__aba_forget_lock() {
    builtin local __aba_fd="${1#*/}"
    __aba_remove_entries __aba_locks "$1 " || [[ $1 == */0 ]] || builtin return 1
    __aba_remove_entries __aba_bound_locks "$1/" || builtin true
    __aba_forget_fd "${__aba_fd%/*}"
    ! __aba_remove_entries __aba_leases "${1%/*}/" || __aba_export_tokens
    [[ -z ${__aba_slot_locks} ]] || __aba_restore_slot "${1%/*}"
}

# ---- clean up ----

# Finds the tokens of the leases on all locks of this call: `NAME/FD/LOCAL/TOKEN ` in __aba_tokens_found. Returns 1 if
# there is no lease on __aba_name, whatever the helper has reported.
__aba_find_tokens() {
    builtin local __aba_tokens=''
    __aba_list=${__aba_call_locks}
    while [[ -n ${__aba_list} ]]; do
        __aba_fd=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_name=${__aba_fd%%/*}
        __aba_tokens=$(__aba_run_helper lease tokens --fd "${__aba_fd#*/}" "${__aba_name}" 2>/dev/null) || builtin true
        # With a slot, there are three numbers.
        if [[ -n ${__aba_slots} && ${__aba_tokens} == *' '*' '* ]]; then
            __aba_lease_slot=${__aba_tokens##* }
            __aba_tokens=${__aba_tokens% *}
        fi
        # The answer is valid if it is two numbers.
        if [[ ${__aba_tokens//[0-9]/} != ' ' || ${__aba_tokens} == ' '* || ${__aba_tokens} == *' ' ]]; then
            builtin return 1
        fi
        __aba_tokens_found+="${__aba_fd}/${__aba_tokens/ //} "
    done
}

# Records and exports the tokens in __aba_tokens_found. If this shell acquired one of the leases, it gives them back
# when it ends; otherwise the keeper would do that, a moment later.
__aba_record_leases() {
    builtin local __aba_lock='' __aba_acquired='' __aba_call="${__aba_leases##*/}"
    if [[ -z ${__aba_leases} ]]; then
        __aba_inherited_token=${ABA_LOCK_TOKEN-}
    fi
    __aba_call=$((${__aba_call:-0} + 1))
    while [[ -n ${__aba_tokens_found} ]]; do
        __aba_fd=${__aba_tokens_found%% *}
        __aba_tokens_found=${__aba_tokens_found#* }
        __aba_find_entry "${__aba_fd%%/*}"
        __aba_lock=${__aba_fd%/*/*}
        __aba_remove_entries __aba_leases "${__aba_lock}/" || builtin true
        __aba_leases+="${__aba_lock}/${__aba_entry##*/}${__aba_fd#"${__aba_lock}"}/${__aba_call} "
        [[ ${__aba_entry##*/} != "${__aba_pid}" ]] || __aba_acquired=yes
    done
    __aba_export_tokens
    [[ -z ${__aba_acquired} ]] || __aba_add_exit_trap
}

# Sets ABA_LOCK_TOKEN to the tokens of the last call whose leases the script holds, or to the inherited one.
__aba_export_tokens() {
    builtin local __aba_list="${__aba_leases}" __aba_entry='' __aba_tokens='' __aba_call='' __aba_before=''
    __aba_before=${__aba_list}
    __aba_call=${__aba_list##*/}
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
        # shellcheck disable=SC2034 # for the programs of the script
        builtin export ABA_LOCK_TOKEN="${__aba_tokens}"
    else
        builtin unset -v ABA_LOCK_TOKEN
    fi
    # A handler may have exported others.
    [[ ${__aba_leases} == "${__aba_before}" ]] || __aba_export_tokens
}

# Adds a call of __aba_clean_up_at_exit to the commands that the script has set for the EXIT trap.
__aba_add_exit_trap() {
    builtin local __aba_trap=''
    # In a subshell, bash may print the traps of the script, which are not in force there.
    if ((BASH_SUBSHELL > 0)); then
        builtin return 0
    fi
    __aba_trap=$(builtin trap -p EXIT) || builtin true
    if [[ ${__aba_trap} != *__aba_clean_up_at_exit* ]]; then
        # `trap -- 'COMMANDS' EXIT`, quoted as bash reads it. Under `set -o posix`, COMMANDS is `-` if there are none.
        builtin eval "builtin set -- ${__aba_trap}"
        if [[ ${3-} == - ]]; then
            builtin set --
        fi
        # After an empty line, because the commands may end with a backslash.
        builtin trap -- "${3-}${3:+

}__aba_clean_up_at_exit" EXIT
    fi
}

# At the end of the script: removes its pid files and closes the descriptors of its leases. Waits until the leases are
# given back, unless a process that the script has left running holds them.
__aba_clean_up_at_exit() {
    builtin local __aba_list="${__aba_leases}" __aba_entry='' __aba_bin='' __aba_directory='' __aba_pid='' __aba_rest=''
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
            __aba_rest=${__aba_entry#*/}
            __aba_close_fd "${__aba_rest%%/*}"
            # LOCAL/TOKEN/CALL
            __aba_rest=${__aba_rest#*/*/}
            __aba_run_helper lease settle "${__aba_entry%%/*}" "${__aba_rest%%/*}" 2>/dev/null || builtin true
        fi
    done
}

# Removes lock $1 (NAME/FD), or all locks, from the lists of the pid files, and then pid files that have no lock left.
__aba_remove_pid_files() {
    builtin local __aba_index=0 __aba_path='' __aba_left=''
    for ((__aba_index = 0; __aba_index < __aba_pid_files; __aba_index++)); do
        __aba_path=${__aba_pid_paths[__aba_index]}
        __aba_left=''
        if (($# > 0)); then
            __aba_remove_entries '__aba_pid_locks[__aba_index]' "$1 " || builtin true
            __aba_left=${__aba_pid_locks[__aba_index]}
        fi
        if [[ -z ${__aba_left} && -n ${__aba_path} ]]; then
            __aba_pid_paths[__aba_index]=''
            __aba_remove_pid_file "${__aba_path}"
        fi
    done
}

# Removes pid file $1 if it names this shell and belongs to no lock that the script holds.
__aba_remove_pid_file() {
    builtin local __aba_index=0 __aba_word=''
    for ((__aba_index = 0; __aba_index < __aba_pid_files; __aba_index++)); do
        # `[[ == ]]` would ignore case under `shopt -s nocasematch`.
        if builtin test "${__aba_pid_paths[__aba_index]}" = "$1"; then
            builtin return 0
        fi
    done
    # Bash would block if it opened a FIFO.
    if [[ -f $1 && ! -L $1 ]]; then
        { IFS= builtin read -r __aba_word <"$1"; } 2>/dev/null || builtin true
        if [[ ${__aba_word} == "${__aba_pid}" ]]; then
            (\exec /bin/sh -c 'PATH=/bin:/usr/bin:$PATH; rm -f -- "$1"' sh "$1") 2>/dev/null || builtin true
        fi
    fi
}

# ---- query ----

# Usage: aba_lock_held [--system] OPERATION | --key TEXT
#
# Returns 0 if this script, or the one that started it, holds the lock; otherwise 1. It asks the kernel, because a child
# may have released the lock with `flock -u`.
aba_lock_held() {
    __aba_check_shell || \return "$?"
    __aba_query_lock aba_lock_held "$@"
}

# Usage: aba_lock_check [--system] OPERATION | --key TEXT
#
# As aba_lock_held, and if the lock has a lease for other machines, the server must confirm it. Returns 125 if that
# cannot be known. For use before a step that must not be done twice.
aba_lock_check() {
    __aba_check_shell || \return "$?"
    __aba_query_lock aba_lock_check "$@"
}

# Does the work of public function $1: asks the helper if the script holds lock $2, or the lock of `--key TEXT`.
__aba_query_lock() {
    builtin local __aba_key_name='' __aba_key_words=0 __aba_function="$1" __aba_system=''
    builtin shift
    if [[ ${1-} == --system ]]; then
        __aba_system=yes
        builtin shift
    fi
    __aba_read_key "$@" || builtin return "$?"
    if ((__aba_key_words > 0)); then
        builtin shift "${__aba_key_words}"
        builtin set -- "${__aba_key_name}" "$@"
    fi
    builtin set -- "${__aba_function}" "$@"
    builtin local __aba_fd='' __aba_bin='' __aba_directory='' __aba_unusable_fds='' __aba_status=0 __aba_lease_option=''
    builtin local __aba_cannot_compare='' __aba_pid='' __aba_entry=''
    if (($# != 2)); then
        __aba_print_message "$1 needs the name of one lock" "for example: \`$1 backup\`"
        builtin return 2
    fi
    [[ $1 != aba_lock_check ]] || __aba_lease_option=--lease
    # Without /proc, bash cannot compare a descriptor with a file. The helper can, or reports what it cannot know.
    [[ -e /dev/fd ]] || __aba_cannot_compare=yes
    __aba_find_directory
    __aba_find_helper || builtin return "$?"
    if [[ -n ${__aba_bound_locks} ]]; then
        __aba_find_pid
        if __aba_find_bound_lock "$2" && __aba_run_helper status --quiet --fd "${__aba_fd}" "$2"; then
            builtin return 0
        fi
    fi
    __aba_find_fd_of_any_directory "$2"
    if [[ -z ${__aba_fd} ]]; then
        # The helper reports a name that is not valid.
        __aba_run_helper path -- "$2" >/dev/null || builtin return 2
        builtin return 1
    fi
    # Several descriptors may be open on the file, such as one from a parent script that has ended.
    while [[ -n ${__aba_fd} ]]; do
        __aba_status=0
        __aba_run_helper status --quiet ${__aba_lease_option:+"${__aba_lease_option}"} --fd "${__aba_fd}" "$2" || __aba_status=$?
        if ((__aba_status != 1)); then
            builtin break
        fi
        __aba_unusable_fds+="$2/${__aba_fd} "
        __aba_find_fd "$2"
    done
    builtin return "${__aba_status}"
}

# ---- detach ----

# Usage: aba_lock_detach CMD [ARG]...
#
# Runs CMD, a program or a function, without the lock descriptors, so that it does not keep the locks after the script
# has ended: for daemons and background jobs. CMD runs in a subshell. With `aba_lock_detach exec CMD &` CMD takes the
# place of that subshell, and `$!` is its pid.
aba_lock_detach() {
    __aba_check_shell || \return "$?"
    builtin local __aba_list="${ABA_LOCK_FDS-} " __aba_fd='' __aba_pid=''
    if (($# == 0)); then
        __aba_print_message 'aba_lock_detach needs a command' 'for example: `aba_lock_detach exec mydaemon &`'
        builtin return 2
    fi
    __aba_find_pid
    # A background job or another subshell would keep its copies of the locks while it waits for CMD, so it closes them
    # for good. It keeps the locks that it acquired itself, and closes these only for CMD.
    if ((BASH_SUBSHELL > 0)) || [[ ${__aba_pid} != "$$" ]]; then
        while [[ ${__aba_list} == *[0123456789]* ]]; do
            __aba_fd=${__aba_list%% *}
            __aba_list=${__aba_list#* }
            [[ ${__aba_locks} == *"/${__aba_fd}/${__aba_pid} "* ]] || __aba_close_fd "${__aba_fd}"
        done
        if [[ ${__aba_locks} != *"/${__aba_pid} "* ]]; then
            builtin unset -v ABA_LOCK_FDS
            __aba_locks=''
            "$@"
            builtin return "$?"
        fi
    fi
    (
        __aba_close_fds "${ABA_LOCK_FDS-} "
        builtin unset -v ABA_LOCK_FDS
        # shellcheck disable=SC2030 # the copy of the subshell
        __aba_locks=''
        "$@"
    )
}

# ---- commands ----

# Usage: aba_run_once [OPTIONS] -i ID [-- CMD [ARG]...]
#
# `aba-lock run-once`, with the variables of the script, exported or not. CMD does not get the lock descriptors, but the
# helper, as any other command of the script, holds them until it ends.
aba_run_once() {
    __aba_check_shell || \return "$?"
    builtin local __aba_bin=''
    __aba_find_helper || builtin return "$?"
    (
        # shellcheck disable=SC2034 # for the helper
        builtin export ABA_LOCK_DIR RUN_ONCE_DIR HOME
        builtin exec "${__aba_bin}" run-once "$@"
    ) || __aba_explain_missing_command "$?" "$@" || builtin return "$?"
}

# Usage: __aba_explain_missing_command STATUS [WORD]...: returns STATUS. If it is 127, and the command in these arguments of
# aba_run_once is a function, prints how to run it.
__aba_explain_missing_command() {
    builtin local __aba_status="$1" __aba_word='' __aba_previous=''
    if ((__aba_status == 127)); then
        for __aba_word; do
            if [[ ${__aba_previous} == -- ]]; then
                if builtin declare -F -- "${__aba_word}" >/dev/null 2>&1; then
                    __aba_print_message "${__aba_word} is a function, and a task runs a program" \
                        "run it with bash: \`export -f ${__aba_word}\`, then \`-- bash -c ${__aba_word}\`"
                fi
                builtin break
            fi
            __aba_previous=${__aba_word}
        done
    fi
    builtin return "${__aba_status}"
}

# Usage: aba_update [OPTIONS] FILE CMD [ARG]...
#
# `aba-lock update`. CMD may also be a function: it gets the old content on its input and prints the new one, in a bash
# of its own with the functions, options and variables of this one.
aba_update() {
    __aba_check_shell || \return "$?"
    builtin local __aba_bin='' __aba_name='' __aba_fd='' __aba_set="${SHELLOPTS}"
    __aba_find_helper || builtin return "$?"
    (
        builtin export HOME ABA_LOCK_TIMEOUT ABA_LOCK_LOG
        for __aba_name; do
            if builtin declare -F -- "${__aba_name}" >/dev/null 2>&1; then
                # The new bash would run the file that BASH_ENV names, and FILE would get the output of it.
                builtin export -n BASH_ENV
                for ((__aba_fd = 20; __aba_fd < 255; __aba_fd++)); do
                    { builtin true <&"${__aba_fd}"; } 2>/dev/null || builtin break
                done
                # The state is not passed in the environment, where a large variable would make every command fail.
                builtin eval 'builtin exec "${__aba_bin}" update --shell "${BASH}" --state "${__aba_fd}" "$@"' \
                    "${__aba_fd}"'<<<"$(__aba_print_shell_state)"'
            fi
        done
        builtin exec "${__aba_bin}" update "$@"
    ) || builtin return "$?"
}

# Prints the commands that give another bash the functions, variables and options of this one. The options are those in
# __aba_set, because a command substitution does not have all of them.
__aba_print_shell_state() {
    builtin local __aba_letter='' __aba_name=''
    builtin shopt -p || builtin true
    builtin shopt -u nocasematch 2>/dev/null || builtin true
    builtin declare -f
    # One by one, because some variables of bash cannot be set.
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
    # Last, so that bash reads the other commands without these options.
    builtin echo "builtin set -o ${__aba_set//:/ -o }"
    builtin echo 'builtin set +m'
}

# Usage: aba_reserve [OPTIONS] [-- CMD [ARG]...]
#
# `aba-lock reserve`, with the variables of the script, exported or not. Neither the helper nor CMD keeps the lock
# descriptors.
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
# `aba-lock doctor` for the helper, the variables and the sourced library of this shell.
aba_lock_doctor() {
    __aba_check_shell || \return "$?"
    builtin local __aba_bin=''
    __aba_find_helper || builtin return "$?"
    (
        # shellcheck disable=SC2034 # for the helper
        builtin export ABA_LOCK_DIR ABA_LOCK_SCOPE ABA_LOCK_BIN ABA_LOCK_BUILTIN ABA_LOCK_ON_CONFLICT ABA_LOCK_TIMEOUT ABA_LOCK_LOG RUN_ONCE_DIR HOME
        __aba_path=${BASH_SOURCE[0]:--}
        # The script has sourced aba-lock.bash, which has loaded this file.
        [[ ${__aba_path} != *-whole.bash ]] || __aba_path=${__aba_path%-whole.bash}.bash
        builtin exec "${__aba_bin}" doctor --sourced="${__aba_version}" --library="${__aba_path}" "$@"
    ) || builtin return "$?"
}

# ---- shared: the shell ----

# Refuses shells in which the library cannot work, and closes files that a call has left open.
__aba_check_shell() {
    if \declare -F builtin >/dev/null; then
        __aba_refuse_shell 'aba-lock.bash cannot work: a function named builtin hides the builtin' \
            'remove the function: `unset -f builtin`' ||
            \return "$?"
    fi
    if [[ $- == *k* ]]; then
        __aba_refuse_shell 'aba-lock.bash cannot work: `set -k` removes NAME=VALUE from the arguments of commands' \
            'turn it off: `set +k`' || \return "$?"
    fi
    # Ctrl-C has ended the call that opened them. But if __aba_acquiring is set, that call goes on: a trap handler made
    # this one.
    if [[ -n ${__aba_pending} && -z ${__aba_acquiring-} ]]; then
        __aba_close_pending_files
    fi
}

__aba_refuse_shell() {
    \printf '%s\n' "aba-lock: $1" "hint: $2" >&2
    if [[ $- != *i* ]]; then
        \exit 125
    fi
    \return 125
}

# Closes the files in __aba_pending, unless the user has opened others on their descriptors.
__aba_close_pending_files() {
    builtin local __aba_entry='' __aba_fd=''
    while [[ -n ${__aba_pending} ]]; do
        __aba_entry=${__aba_pending%% *}
        __aba_fd=${__aba_entry#*/}
        if [[ /dev/fd/${__aba_fd} -ef ${__aba_pending_directory}/aba-${__aba_entry%%/*}.lock || -p /dev/fd/${__aba_fd} ]]; then
            __aba_close_fd "${__aba_fd}"
        fi
        __aba_pending=${__aba_pending#* }
    done
}

# Sets __aba_pid to the pid of this shell, which may be a subshell.
__aba_find_pid() {
    __aba_pid=${BASHPID:-}
    if [[ -z ${__aba_pid} ]]; then
        # Bash before 4.0 has no BASHPID, but a child can print the pid of its parent.
        __aba_pid=$(builtin exec /bin/sh -c 'echo "$PPID"')
    fi
}

# ---- shared: lists ----

# Returns 0 if an entry of list $1 begins with $2. (`[[ == ]]` would ignore case under `shopt -s nocasematch`.)
__aba_contains() {
    builtin local __aba_rest=" $1"
    __aba_rest=${__aba_rest##*" $2"}
    ((${#__aba_rest} <= ${#1}))
}

# Removes the entries that begin with $2 from the list in variable $1. Returns 1 if there is none.
__aba_remove_entries() {
    builtin local __aba_rest='' __aba_kept=''
    builtin local __aba_before='' __aba_swapped=0
    while ((!__aba_swapped)); do
        # Not `${!1}`, a syntax error for ksh93, which reads the whole file before it can report that this is no bash.
        builtin eval "__aba_before=\${$1}"
        __aba_rest=${__aba_before} __aba_kept=''
        while [[ -n ${__aba_rest} ]]; do
            [[ -z ${__aba_rest%%"$2"*} ]] || __aba_kept+="${__aba_rest%% *} "
            __aba_rest=${__aba_rest#* }
        done
        ((${#__aba_kept} < ${#__aba_before})) || builtin return 1
        __aba_swap_list "$1" "${__aba_before}" "${__aba_kept}"
    done
}

# Replaces $2 by $3 at the start of the list in variable $1, and sets __aba_swapped to 1, or to 0 if the list does not begin
# with $2 any more. Entries that a handler has added stay. One command, so that no handler runs between the test and the change.
__aba_swap_list() {
    builtin local __aba_added='' __aba_new_start=''
    builtin eval "__aba_added=\${$1#\"\$2\"} __aba_swapped=\$((\${#__aba_added} + \${#2} == \${#$1}))" \
        '__aba_new_start=${3:0:__aba_swapped * ${#3}}' "$1=\${__aba_new_start}\${__aba_added}"
}

# Sets __aba_entry to the last entry of __aba_locks, or to the last one of operation $1, or to nothing.
# shellcheck disable=SC2031 # aba_lock_detach changes only a copy
__aba_find_entry() {
    builtin local __aba_rest=" ${__aba_locks% }"
    if [[ -z $1 ]]; then
        __aba_entry=${__aba_rest##* }
    elif __aba_contains "${__aba_locks}" "$1/"; then
        __aba_rest=${__aba_rest##*" $1/"}
        __aba_entry=$1/${__aba_rest%% *}
    else
        __aba_entry=''
    fi
}

# Sets __aba_fd to the descriptor on which the lock file of operation $1 is open, in this script or inherited, or to
# nothing. Only the helper can say whether it is locked.
__aba_find_fd() {
    builtin local __aba_list='' __aba_entry='' __aba_path="${__aba_directory}/aba-$1.lock"
    # The descriptor in the entry may be open on another file by now: the script uses it for something else, or the lock
    # file was removed, or the directory has changed. The entry stays, because the old file may still be locked.
    __aba_find_entry "$1"
    __aba_fd=${__aba_entry#*/}
    __aba_list="${__aba_fd%/*} ${ABA_LOCK_FDS-} "
    while [[ ${__aba_list} == *[0123456789]* ]]; do
        __aba_fd=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        if [[ -n ${__aba_fd} && -z ${__aba_fd//[0-9]/} && ${__aba_unusable_fds}${__aba_releasing-} != *"/${__aba_fd} "* &&
            (-n ${__aba_cannot_compare-} || /dev/fd/${__aba_fd} -ef ${__aba_path}) ]]; then
            builtin return 0
        fi
    done
    __aba_fd=''
}

# Does the same as __aba_find_fd. If there is no such descriptor, searches for the lock that all users share, and changes
# __aba_directory if it finds that.
__aba_find_fd_of_any_directory() {
    __aba_find_fd "$1"
    [[ -z ${__aba_fd} && -z ${__aba_cannot_compare-} ]] || builtin return 0
    builtin local __aba_before="${__aba_directory}"
    __aba_directory=${__aba_system_directory}
    __aba_find_fd "$1"
    [[ -n ${__aba_fd} ]] || __aba_directory=${__aba_before}
}

# ---- shared: descriptors ----

# Opens __aba_path on descriptor $1, with `<` or `<>` in $2, or closes it, with `>&-`. Returns 1 if that fails.
#
# Only `exec` makes a redirection last. But `command exec` leaves a hidden copy of a closed descriptor before bash 5.1,
# and crashes before 4.2, and an `exec` that fails ends a script under `set -o posix`. So the file is opened as the
# input of a group of commands, where a failure is only a status, and `exec` copies that descriptor after a trial. If a
# trap handler has locked a file on descriptor $1 by then, `exec` copies $1 to itself, and this returns 1.
__aba_redirect_fd() {
    builtin local __aba_done='' __aba_target="$1" __aba_copy="if builtin true $1<&0; then
        \\exec $1<&\"\$(($1 * \${__aba_opened[__aba_target]-0}))\"
        if ((! \${__aba_opened[__aba_target]-0})); then __aba_done=yes; fi
    fi"
    builtin local __aba_function='' __aba_declare=''
    if \builtin declare -F exec >/dev/null; then
        # Removes a function of the script, and defines it again below, with its attributes, as in `declare -fx exec`.
        __aba_function=$(builtin declare -f exec)
        __aba_declare=$(builtin declare -F)$'\n'
        __aba_declare=${__aba_declare%%' exec'$'\n'*}
        builtin unset -f exec 2>/dev/null || builtin return 1
    fi
    # In conditions, because `set -e` must not end the script.
    case $2 in
        '<') if { builtin eval "${__aba_copy}"; } 2>/dev/null <"${__aba_path}"; then builtin true; fi ;;
        '<>') if { builtin eval "${__aba_copy}"; } 2>/dev/null <>"${__aba_path}"; then builtin true; fi ;;
        *) if { builtin eval "__aba_opened[__aba_target]=0; \\exec $1>&-"; } 2>/dev/null; then __aba_done=yes; fi ;;
    esac
    if [[ -n ${__aba_function} ]]; then
        builtin eval "${__aba_function}"$'\n'"builtin ${__aba_declare##*$'\n'} exec >/dev/null"
    fi
    [[ -n ${__aba_done} ]]
}

# Closes descriptor $1, if that is the number of one, and not of the standard input or output.
__aba_close_fd() {
    if [[ -n $1 && -z ${1//[0-9]/} && $1 != [012] ]] && ((${#1} < 6)); then
        __aba_redirect_fd "$1" '>&-' || builtin true
    fi
}

# Closes the descriptors in list $1: FD or NAME/FD.
__aba_close_fds() {
    builtin local __aba_list="$1" __aba_entry=''
    while [[ -n ${__aba_list} ]]; do
        __aba_entry=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_close_fd "${__aba_entry#*/}"
    done
}

# Removes descriptor $1 from ABA_LOCK_FDS, so that children do not inherit it as a lock.
__aba_forget_fd() {
    __aba_remove_fd ABA_LOCK_FDS "$1"
    # In one command with the test. With `_` after it, this is another variable, which does not exist.
    builtin unset -v "ABA_LOCK_FDS${ABA_LOCK_FDS:+_}"
    # A call of the fast part that this one interrupts exports these when it ends.
    [[ -z ${__aba_fds+"."} ]] || __aba_remove_fd __aba_fds "$1"
}

# Removes descriptor $2 from the list in variable $1, in which blanks separate the entries.
__aba_remove_fd() {
    builtin local __aba_listed='' __aba_left='' __aba_swapped=0
    while ((!__aba_swapped)); do
        builtin eval "__aba_listed=\${$1-}"
        __aba_left="${__aba_listed} "
        __aba_remove_entries __aba_left "$2 " || builtin true
        __aba_left=${__aba_left% }
        [[ ${__aba_left} == *[0123456789]* ]] || __aba_left=''
        [[ ${__aba_left} != "${__aba_listed}" ]] || builtin break
        __aba_swap_list "$1" "${__aba_listed}" "${__aba_left}"
    done
    # A handler has added one to a list that has no other.
    [[ -z ${__aba_listed} ]] || builtin eval "$1=\${$1# }"
}

# ---- shared: the helper ----

# Sets __aba_directory to the directory of the lock files, and exports the variables of the library for the helper.
__aba_find_directory() {
    if [[ -n ${__aba_system-} || (-z ${ABA_LOCK_DIR:-} && ${ABA_LOCK_SCOPE-} == system) ]]; then
        __aba_directory=${__aba_system_directory}
    elif [[ -n ${ABA_LOCK_DIR:-} ]]; then
        __aba_export ABA_LOCK_DIR
        __aba_directory=${ABA_LOCK_DIR}
    elif [[ -n ${HOME:-} ]]; then
        __aba_directory=${HOME}/.aba
    else
        # If HOME is unset, `~` is the home directory in the passwd file; if HOME is empty, `~` is empty, too.
        __aba_directory=$(builtin unset -v HOME && builtin printf '%s' ~)/.aba
    fi
    if [[ -n ${ABA_LOCK_TIMEOUT:-}${ABA_LOCK_LOG:-} ]]; then
        __aba_export ABA_LOCK_TIMEOUT ABA_LOCK_LOG
    fi
    if [[ -n ${ABA_LOCK_SERVER:-}${__aba_server:-} ]]; then
        __aba_export ABA_LOCK_SERVER ABA_LOCK_KEEPER ABA_LOCK_TTL ABA_LOCK_ON_LOST ABA_LOCK_SERVER_SECRET_FILE \
            ABA_LOCK_SERVER_CACERT ABA_LOCK_SERVER_CERT ABA_LOCK_SERVER_KEY
    fi
}

# Exports those of these variables that are set and not exported.
#
# An exported one may exist for one call only, as in `ABA_LOCK_TIMEOUT=5 aba_lock_operation save`. `export` would change such a
# variable into one of the script, which stays after the call.
__aba_export() {
    builtin local __aba_name='' __aba_attributes=''
    for __aba_name; do
        if ((BASH_VERSINFO[0] * 10 + BASH_VERSINFO[1] >= 44)); then
            builtin eval "__aba_attributes=\${${__aba_name}+-\${${__aba_name}@a}}"
        else
            # Nothing, `declare -- NAME="VALUE"`, `declare -x NAME` without a value, or `declare -x NAME="VALUE"`. Where descriptors 200
            # to 254 are all open, the search for a free one damages bash 4.2, whose subshell then ends with a message of the C library.
            { __aba_attributes=$(builtin declare -p "${__aba_name}"); } 2>/dev/null || builtin true
            __aba_attributes=${__aba_attributes#declare }
            __aba_attributes=${__aba_attributes%% *}
        fi
        # shellcheck disable=SC2163 # its value is the name
        [[ -z ${__aba_attributes} || ${__aba_attributes} == *x* ]] || builtin export "${__aba_name}"
    done
}

# Sets __aba_bin to the path of the helper. If there is none, prints a message and returns 125.
#
# A path has a slash, so no function can replace the program. `builtin command` would prevent that too, but under
# `set -e` bash 5.2 ends the script when a program that is run in this way fails, even in
# `builtin command PROGRAM || ...`.
__aba_find_helper() {
    builtin local __aba_list="${PATH-}:" __aba_name="${ABA_LOCK_BIN:-aba-lock}"
    # The directory of this version comes before PATH, which may lead to another version.
    [[ -n ${ABA_LOCK_BIN:-} ]] || __aba_list=${__aba_installed}${__aba_list}
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
    __aba_print_message "the helper ${__aba_name}${ABA_LOCK_BIN:+ (from ABA_LOCK_BIN)} was not found, or is not executable" \
        'add the directory of aba-lock to PATH, or set ABA_LOCK_BIN to its path'
    builtin return 125
}

# Reports a helper of another version, which may refuse the options that this library uses.
__aba_check_version() {
    builtin local __aba_found=''
    __aba_found=$("${__aba_bin}" --version 2>/dev/null) || builtin true
    __aba_found=${__aba_found%%$'\n'*}
    case "${__aba_found} " in
        "aba-lock ${__aba_version} "*) ;;
        *)
            __aba_print_message "the helper ${__aba_bin} is ${__aba_found:-of an unknown version}, but aba-lock.bash is ${__aba_version}" \
                'install both from the same release'
            ;;
    esac
}

# If $1 is --key or --key=TEXT, sets __aba_key_name to the name of the lock of the text, and __aba_key_words to the number of
# words of the option.
__aba_read_key() {
    case ${1-} in
        --key)
            if (($# < 2)); then
                __aba_print_message 'option --key needs a value' 'for example: `--key "$url"`'
                builtin return 2
            fi
            __aba_key_words=2
            __aba_find_key_name "$2"
            ;;
        --key=*)
            __aba_key_words=1
            __aba_find_key_name "${1#*=}"
            ;;
        *) ;;
    esac
}

# Sets __aba_key_name to the name of the lock of text $1. The helper reports an empty text.
__aba_find_key_name() {
    __aba_key_name=$(__aba_find_helper && __aba_find_directory && __aba_run_helper path --name "--key=$1")
}

# Sets __aba_directory to the directory of the locks of all users if descriptor $2 is open on the lock file of operation $1 there. A
# script can hold locks of both directories.
__aba_choose_directory() {
    [[ ! /dev/fd/$2 -ef ${__aba_system_directory}/aba-$1.lock ]] || __aba_directory=${__aba_system_directory}
}

# Runs the helper with these arguments, for __aba_directory. The script may have set HOME without exporting it.
__aba_run_helper() {
    if [[ ${ABA_LOCK_DIR:-} == "${__aba_directory}" ]]; then
        "${__aba_bin}" "$@"
    else
        ABA_LOCK_DIR=${__aba_directory} "${__aba_bin}" "$@"
    fi
}

# ---- shared: messages ----

# Usage: __aba_print_message MESSAGE [HINT]
__aba_print_message() {
    builtin printf '%s\n' "aba-lock: $1" ${2+"hint: $2"} >&2 || builtin true
}

# Usage: __aba_fail STATUS MESSAGE [HINT]: prints the message, and ends the call with STATUS.
__aba_fail() {
    __aba_print_message "$2" ${3+"$3"}
    __aba_end_call "$1"
}

# Ends the script with status $1. In an interactive shell and with `--on-conflict return`, returns $1 instead.
__aba_end_call() {
    if [[ $- != *i* && ${__aba_on_conflict} != return ]]; then
        builtin exit "$1"
    fi
    builtin return "$1"
}

# ---- completion ----

# The code for this comes from the helper at the first TAB, so that scripts do not parse it.
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
    builtin complete -F __aba_complete aba_lock_operation aba_unlock_operation aba_lock_held aba_lock_check aba_lock_detach \
        aba_run_once aba_update aba_reserve aba_lock_doctor 2>/dev/null || builtin true
fi

# The fast part uses this only for a public function that it could not replace, or if a trap handler has loaded the rest just
# before the call.
__aba_call() {
    if [[ $(builtin declare -f "$1") != *'__aba_call '* ]]; then
        "$@"
        builtin return "$?"
    fi
    builtin printf '%s\n' "aba-lock: cannot replace the function $1: it is readonly" \
        "hint: make it readonly after the first call of \`aba_lock_held\`" >&2
    builtin exit 125
}

# One command: bash reads it as a whole before it expands aliases again, and runs nothing of it if the end of the file is missing.
builtin shopt "${__aba_alias:--u}" expand_aliases && {
    builtin unset -v __aba_alias
    __aba_loaded=all __aba_wanted=''
}
