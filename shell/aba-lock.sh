# aba-lock.sh: locks for scripts in sh: dash, busybox ash, ksh, mksh and yash. zsh has aba-lock.zsh, which loads this file, and bash
# has aba-lock.bash.
#
#     . /usr/local/share/aba-lock/aba-lock.sh
#     aba_lock_operation mirror-save      # held on descriptor 9 until this script ends
#
# shellcheck shell=sh
# shellcheck disable=SC2310 # `set -e` must not end a call of these functions
#
# The functions are those of aba-lock.bash, with the same messages and statuses. They open lock files on descriptors of the
# script, and the helper, the program aba-lock, locks them.
#
# Portability:
#
#  1. Most of these shells can name only the descriptors 0 to 9. So a lock is on the first free one of 9 to 3.
#  2. ksh and mksh close the descriptors of the script in its children. So each call of the helper gets them with `9<&9`, and
#     children do not inherit the locks.
#  3. ksh93 has no local variables in functions of this form. So all variables are global, begin with __aba_, and belong to one
#     call at a time. A trap handler that has interrupted another call cannot call the functions for locks: they refuse that. The
#     other functions, such as aba_run_once, change these variables only in a subshell.
#  4. A special builtin that fails ends the script. So a file is opened as the input of a group of commands, and `exec`
#     copies that descriptor.
#  5. A list is a string in which a blank follows each entry, because the script may have set IFS.

__aba_version=0.1.0

# posh and other shells without -ef. A script must not run without its locks.
# shellcheck disable=SC3013
if ! [ / -ef / ] 2>/dev/null; then
    printf '%s\n' 'aba-lock: aba-lock.sh does not work in this shell: its test command lacks -ef' \
        'hint: run the script with dash, bash or ksh, or use `aba-lock lock NAME -- CMD`' >&2
    exit 125
fi

# The locks of this shell, in the order in which it acquired them: `NAME/FD/PID `. PID is the shell process that acquired the
# lock, or 0 if the script inherited the lock.
__aba_locks=${__aba_locks-}

# The locks of this shell that have slots, `NAME/FD/NUMBER `, and the ABA_LOCK_SLOT that the script inherited.
__aba_slot_locks=${__aba_slot_locks-}
__aba_inherited_slot=${__aba_inherited_slot-}

# The lock files that a call has opened and not locked yet, `NAME/FD `, and their directory. Ctrl-C at a prompt ends all
# functions at once, and the next call closes these files.
__aba_pending=''
__aba_pending_directory=''

# The public function that runs at present.
__aba_running=''

# `yes` if the children of the script do not inherit its descriptors.
__aba_is_ksh=''
[ -z "${KSH_VERSION-}" ] || __aba_is_ksh=yes

# The directory of the locks that all users of the machine share.
__aba_system_directory=/run/lock/aba-lock

# ---- acquire ----

# Usage: aba_lock_operation [OPTIONS] OPERATION...
#
# Acquires the locks, all or none, and holds them until the script ends. Options: see __aba_print_usage.
#
# Status 1: another process holds a lock. 3: the script may continue without the lock, as `ask` or `warn` allowed. 2: wrong
# usage. 80: with --coalesce or --skip-ok, the script should end with success. 125: locking failed. 1, 2, 80 (with
# status 0) and 125 end the script, unless the shell is interactive or --on-conflict is `return`.
aba_lock_operation() {
    __aba_begin aba_lock_operation || return 125
    __aba_status=0
    __aba_lock "$@" || __aba_status=$?
    __aba_running=''
    # 180: the call has shown its help, or must end the script with success.
    case ${__aba_status} in
        0 | 3) return "${__aba_status}" ;;
        180) return 0 ;;
        80) [ "${__aba_on_conflict}" = return ] || __aba_is_interactive || exit 0 ;;
        *) [ "${__aba_on_conflict}" = return ] || __aba_is_interactive || exit "${__aba_status}" ;;
    esac
    return "${__aba_status}"
}

__aba_lock() {
    __aba_on_conflict=${ABA_LOCK_ON_CONFLICT:-exit}
    __aba_conflict_option='' __aba_names='' __aba_subshell='' __aba_slots='' __aba_system='' __aba_word=''
    __aba_waits='' __aba_time='' __aba_number='' __aba_flag='' __aba_only_times=yes
    # Each turn takes one option from the start of the arguments, and may add it to their end.
    __aba_left=$#
    while [ "${__aba_left}" -gt 0 ]; do
        __aba_previous=${__aba_word}
        __aba_word=$1
        shift
        __aba_left=$((__aba_left - 1))
        case ${__aba_word} in
            -t | --timeout | --slots | --priority | --max-time | --grace | --key | --who | --on-conflict | --pid-file | --server | --ttl | --on-lost)
                if [ "${__aba_left}" = 0 ] || { [ -z "$1" ] && { [ "${__aba_word}" = -t ] || [ "${__aba_word}" = --timeout ]; }; }; then
                    __aba_print_message "option ${__aba_word} needs a value" 'see `aba_lock_operation --help`'
                    return 2
                fi
                # Joined into one word, because a value may begin with `-`.
                [ "${__aba_word}" = -t ] || __aba_word="${__aba_word}="
                __aba_word=${__aba_word}$1
                shift
                __aba_left=$((__aba_left - 1))
                ;;
            *) ;;
        esac
        case ${__aba_word} in
            --on-conflict=*)
                if [ -n "${__aba_conflict_option}" ]; then
                    __aba_print_message 'option --on-conflict is given twice' 'see `aba_lock_operation --help`'
                    return 2
                fi
                __aba_conflict_option=--on-conflict
                __aba_on_conflict=${__aba_word#*=}
                ;;
            --key=*)
                __aba_find_key_name "${__aba_word#*=}" || return "$?"
                __aba_add_name "${__aba_key_name}"
                __aba_only_times=''
                # The helper writes the text into the record.
                set -- "$@" "${__aba_word}"
                ;;
            --subshell) __aba_subshell=meant ;;
            --system) __aba_system=yes ;;
            -h | --help)
                __aba_print_usage
                return 180
                ;;
            --) ;;
            --coalesce | --coalesce=* | --slots=* | --priority=* | --wait | --nonblock | -t* | -w=* | --wait=* | --timeout=* | --max-time=* | \
                --grace=* | --who=* | --shared | --exclusive | --replace | --skip-ok | --quiet | --verbose)
                case ${__aba_word} in
                    --slots=*) __aba_slots=${__aba_word#*=} ;;
                    --wait) __aba_waits=yes ;;
                    --nonblock) __aba_waits='' ;;
                    *) ;;
                esac
                set -- "$@" "${__aba_word}"
                ;;
            --pid-file=* | --server=* | --ttl=* | -*o*)
                __aba_accept_option || return "$?"
                set -- "$@" "${__aba_word}"
                ;;
            -)
                __aba_refuse_option
                return 2
                ;;
            -*)
                # An option of one letter, or several in one word.
                case ${__aba_word#-} in
                    *[!nwsxqv]*)
                        __aba_refuse_option
                        return 2
                        ;;
                    *) ;;
                esac
                # The last one of -n and -w counts.
                case ${__aba_word} in
                    *w*n*) __aba_waits='' ;;
                    *w*) __aba_waits=yes ;;
                    *n*) __aba_waits='' ;;
                    *) ;;
                esac
                set -- "$@" "${__aba_word}"
                ;;
            '' | *' '*)
                # A list cannot contain this name. The helper reports the mistake.
                __aba_find_helper && "${__aba_bin}" path -- "${__aba_word}" >/dev/null || return "$?"
                ;;
            *)
                __aba_add_name "${__aba_word}"
                if ! __aba_is_time "${__aba_word}"; then
                    __aba_only_times=''
                else
                    case ${__aba_previous} in
                        --wait) __aba_time=${__aba_word} ;;
                        --nonblock | --shared | --exclusive) __aba_flag=${__aba_previous} __aba_number=${__aba_word} ;;
                        --*) ;;
                        -*w) __aba_time=${__aba_word} ;;
                        -*[nsx]) __aba_flag=${__aba_previous} __aba_number=${__aba_word} ;;
                        *) ;;
                    esac
                fi
                ;;
        esac
    done
    __aba_check_usage || return "$?"
    __aba_acquire "$@"
}

# Adds operation $1 to __aba_names.
__aba_add_name() {
    __aba_contains "${__aba_names}" "$1 " || __aba_names="${__aba_names}$1 "
}

# Returns 0 if $1 can be a time, such as `60`, `0.5` or `1h30m`.
__aba_is_time() {
    case $1 in
        *[!0-9.smhdw]*) return 1 ;;
        [0-9]*) return 0 ;;
        *) return 1 ;;
    esac
}

# Returns 0 if the options that only some shells have can be used: __aba_word is one of them, or the variable ABA_LOCK_SERVER.
__aba_accept_option() {
    case ${__aba_word} in
        -*=*) __aba_word=${__aba_word%%=*} ;;
        ABA_LOCK_SERVER) __aba_word=--server ;;
        -o | --no-inherit) ;;
        *)
            __aba_refuse_option
            return 2
            ;;
    esac
    __aba_print_message "aba_lock_operation: ${__aba_word} is not available in this shell" \
        'run the script with bash, or use `aba-lock lock NAME -- CMD`'
    return 2
}

__aba_refuse_option() {
    __aba_print_message "aba_lock_operation: no such option: ${__aba_word}" 'see `aba_lock_operation --help`'
}

# Reports a mistake in the values and names of a call.
__aba_check_usage() {
    case ${ABA_LOCK_SCOPE-} in
        '' | user | system) ;;
        *)
            __aba_print_message "ABA_LOCK_SCOPE is \"${ABA_LOCK_SCOPE}\", which is not user or system"
            return 2
            ;;
    esac
    case ${__aba_on_conflict} in
        exit | return | ask | warn) ;;
        *)
            __aba_print_message "${__aba_conflict_option:-ABA_LOCK_ON_CONFLICT} is \"${__aba_on_conflict}\", which is not exit, return, ask or warn"
            return 2
            ;;
    esac
    if [ -n "${ABA_LOCK_SERVER-}" ]; then
        __aba_word=ABA_LOCK_SERVER
        __aba_accept_option || return "$?"
    fi
    if [ -z "${__aba_names}" ]; then
        __aba_print_message 'aba_lock_operation needs the name of a lock' 'for example: `aba_lock_operation backup`'
        return 2
    fi
    # In `-w 60 save`, flock(1) takes 60 as the time to wait. Here it would be a lock: refused before its file is made.
    ! __aba_is_time "${__aba_names%% *}" || __aba_time=${__aba_names%% *}
    case ${__aba_names} in
        *' '*' ')
            if [ -n "${__aba_waits}" ] && [ -n "${__aba_time}" ]; then
                __aba_print_message "${__aba_time} would be the name of a lock, not a time to wait" \
                    "to wait for at most this time, use --wait=${__aba_time}"
                return 2
            fi
            ;;
        *) ;;
    esac
    # In `-n 3 save`, too. But all names may be numbers or times.
    if [ -n "${__aba_number}" ] && [ -z "${__aba_only_times}" ]; then
        __aba_print_message "${__aba_number} would be the name of a lock, because ${__aba_flag} takes no value" \
            "to lock ${__aba_number}, write it after the other names"
        return 2
    fi
}

__aba_print_usage() {
    printf '%s\n' 'Usage: aba_lock_operation [OPTIONS] OPERATION...

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
      --skip-ok            If another process holds a lock, end this script with status 0 and no message
  -q, --quiet              Print no messages about contention
  -v, --verbose            Print how long it took to acquire the locks
      --who TEXT           Description of the holder, shown to waiters
      --on-conflict HOW    Action if another process holds a lock: exit, return, ask or warn [default: exit]
      --system             Use the locks that all users of this machine share, in /run/lock/aba-lock
      --subshell           Print no warning that the locks end with this subshell
  -h, --help               Print this help'
}

# Acquires the locks in __aba_names with these options for the helper.
__aba_acquire() {
    __aba_find_helper || return 125
    __aba_find_directory
    __aba_find_pid
    __aba_unusable=''
    __aba_tries=0
    while [ "${__aba_tries}" -lt 100 ]; do
        __aba_new_locks='' __aba_held_locks='' __aba_redirections='' __aba_status=0
        __aba_pending_directory=${__aba_directory}
        __aba_open_and_lock "${__aba_names}" "$@" || __aba_status=$?
        if [ "${__aba_status}" = 0 ]; then
            if [ -n "${__aba_slots}" ] && ! __aba_find_slot; then
                __aba_discard_locks
                __aba_print_message "cannot lock ${__aba_names% }: its slot cannot be read from /proc" \
                    'run the script where /proc is mounted'
                return 125
            fi
            if ! __aba_note_call; then
                __aba_discard_locks
                return 125
            fi
            __aba_pending=''
            __aba_record_locks
            return 0
        fi
        # The helper may have locked some of the files before it failed or was killed. This releases them.
        __aba_discard_locks
        if [ "${__aba_status}" = 77 ]; then
            # Another process has a lease on the lock file of __aba_name (fcntl(2)). After the wait, the file is opened again.
            __aba_status=76
            __aba_run_helper lock --await-open "$@" "${__aba_name}" || __aba_status=$?
        fi
        # 76: a lock file was replaced after it was opened, or the script must not use an inherited descriptor.
        if [ "${__aba_status}" != 76 ]; then
            __aba_handle_failure
            return "$?"
        fi
        __aba_tries=$((__aba_tries + 1))
        __aba_find_unusable
    done
    __aba_print_message "a lock file in ${__aba_directory} was replaced each time it was opened" \
        'stop the program that removes or replaces it: a lock file must stay'
    return 125
}

# Usage: __aba_open_and_lock NAMES [OPTION]...: finds or opens a descriptor for each name, and calls the helper. Returns its status.
__aba_open_and_lock() {
    __aba_list=$1
    shift
    while [ -n "${__aba_list}" ]; do
        __aba_name=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_find_fd "${__aba_name}"
        if [ -n "${__aba_fd}" ]; then
            __aba_held_locks="${__aba_held_locks}${__aba_name}/${__aba_fd} "
        else
            __aba_open_lock_file "${__aba_name}" || return "$?"
            __aba_new_locks="${__aba_new_locks}${__aba_name}/${__aba_fd} "
            __aba_pending=${__aba_new_locks}
        fi
        __aba_pass_fd "${__aba_fd}"
        set -- "$@" --fd "${__aba_fd}" "${__aba_name}"
    done
    __aba_run_helper lock --reopen "$@"
}

# Opens the lock file of operation $1 on a free descriptor, and puts its number into __aba_fd.
#
# In a sticky directory, where other users may have files, the helper opens the file and prints how to open it through the process that
# keeps it open, `<> /proc/PID/fd/N`: see aba-lock.bash.
__aba_open_lock_file() {
    __aba_attempt=0
    # Tries again, because `aba-lock clean` may remove the file before it is open.
    while [ "${__aba_attempt}" -le 10 ]; do
        __aba_attempt=$((__aba_attempt + 1))
        __aba_path="${__aba_directory}/aba-$1.lock" __aba_offer='' __aba_status=0
        if [ -k "${__aba_directory}" ]; then
            __aba_ask_for_file "$1"
        elif [ -L "${__aba_path}" ] || [ ! -f "${__aba_path}" ] || [ ! -r "${__aba_path}" ]; then
            # The helper makes the file, private to its user, or reports why it cannot.
            __aba_run_helper path --create "$1" >/dev/null || __aba_status=$?
        fi
        if [ "${__aba_status}" != 0 ]; then
            __aba_explain_status "$1"
            return "$?"
        fi
        if ! __aba_find_free_fd; then
            __aba_end_offer
            return 125
        fi
        [ -z "${__aba_offer}" ] || __aba_path=${__aba_offer#* }
        # A file that is open for reading can be locked, except on NFS.
        __aba_done=''
        case ${__aba_offer} in
            '< '*) ;;
            *) [ ! -w "${__aba_path}" ] || ! __aba_open_fd "${__aba_fd}" "${__aba_path}" || __aba_done=yes ;;
        esac
        [ -n "${__aba_done}" ] || ! __aba_read_fd "${__aba_fd}" "${__aba_path}" || __aba_done=yes
        __aba_end_offer
        [ -z "${__aba_done}" ] || return 0
    done
    __aba_print_message "cannot open lock file ${__aba_directory}/aba-$1.lock" 'find the cause with `aba_lock_doctor`'
    return 125
}

# Sets __aba_offer to the redirection with which the lock file of operation $1 can be opened, or __aba_status if that fails.
__aba_ask_for_file() {
    case ${KSH_VERSION-} in
        Version*)
            # ksh93 reads only what the helper itself has printed, and not its other process, unless there is a pipeline.
            __aba_offer=$({ __aba_run_helper path --create --open-for="${__aba_pid}" "$1" || echo "failed $?"; } | /bin/cat)
            case ${__aba_offer} in
                failed*) __aba_status=${__aba_offer#failed } __aba_offer='' ;;
                *) ;;
            esac
            ;;
        *) __aba_offer=$(__aba_run_helper path --create --open-for="${__aba_pid}" "$1") || __aba_status=$? ;;
    esac
}

# Ends the process that keeps the file of __aba_offer open.
__aba_end_offer() {
    case ${__aba_offer} in
        *' /proc/'*/fd/*)
            __aba_offer=${__aba_offer#* /proc/}
            kill "${__aba_offer%%/*}" 2>/dev/null || true
            ;;
        *) ;;
    esac
}

# Returns the status of the call after the helper could not create the lock file of operation $1, with __aba_status.
__aba_explain_status() {
    case ${__aba_status} in
        2)
            __aba_check_version
            return 2
            ;;
        77 | 125) return "${__aba_status}" ;;
        *)
            __aba_print_message "cannot lock $1: the helper ${__aba_bin} ended with status ${__aba_status}"
            return 125
            ;;
    esac
}

# After a failure with status 76: adds the entries of __aba_held_locks that the helper refuses to __aba_unusable. The process
# that has locked such a file is neither this script nor one that started it. Each is tried alone, because another file of the
# call may have caused the status.
__aba_find_unusable() {
    __aba_list=${__aba_held_locks}
    while [ -n "${__aba_list}" ]; do
        __aba_entry=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_status=0
        __aba_redirections=''
        __aba_pass_fd "${__aba_entry#*/}"
        __aba_run_helper lock --quiet --server= --try-first --reopen --fd "${__aba_entry#*/}" "${__aba_entry%%/*}" 2>/dev/null ||
            __aba_status=$?
        [ "${__aba_status}" != 76 ] || __aba_unusable="${__aba_unusable}${__aba_entry} "
    done
}

# Exports the number of the slot that this call has acquired: the remainder of a division by 4096 of the offset of the byte that
# is locked on the descriptor. A call inside of a holder of the whole lock gets slot 1.
__aba_find_slot() {
    __aba_entry=${__aba_new_locks}${__aba_held_locks}
    __aba_entry=${__aba_entry% }
    __aba_slot=''
    while IFS= read -r __aba_line; do
        case ${__aba_line} in
            *FLOCK*WRITE*) __aba_slot=1 ;;
            *OFDLCK*WRITE*' 46116860184'*' 46116860184'*)
                __aba_line=${__aba_line% *}
                __aba_line=${__aba_line##* }
                # The last 12 digits are enough, and some shells calculate with 32 bits: 1000000 % 4096 is 576.
                __aba_line=${__aba_line#"${__aba_line%????????????}"}
                __aba_slot=$((((1${__aba_line%??????} - 1000000) % 4096 * 576 + 1${__aba_line#??????} - 1000000) % 4096))
                ;;
            *) ;;
        esac
    done 2>/dev/null <"/proc/self/fdinfo/${__aba_entry#*/}"
    [ -n "${__aba_slot}" ] || return 1
    if ! __aba_contains "${__aba_slot_locks}" "${__aba_entry}/"; then
        [ -n "${__aba_slot_locks}" ] || __aba_inherited_slot=${ABA_LOCK_SLOT-}
        __aba_slot_locks="${__aba_slot_locks}${__aba_entry}/${__aba_slot} "
    fi
    export ABA_LOCK_SLOT="${__aba_slot}"
}

# Closes the lock files that this call has opened.
__aba_discard_locks() {
    __aba_undo_call
    __aba_list=${__aba_new_locks}
    __aba_pending=''
    while [ -n "${__aba_list}" ]; do
        __aba_entry=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_close_fd "${__aba_entry#*/}"
    done
}

# Returns the status of the call after the helper failed with __aba_status. The helper has printed the reason, unless it was killed.
__aba_handle_failure() {
    case ${__aba_status} in
        75 | 124) __aba_handle_conflict ;;
        2)
            __aba_check_version
            return 2
            ;;
        # --coalesce, --skip-ok: the script has no lock, and nothing to do. 125: the helper failed. 130: Ctrl-C.
        80 | 125 | 130) return "${__aba_status}" ;;
        # A signal has stopped the helper.
        147 | 148 | 149 | 150)
            __aba_print_message "cannot lock ${__aba_names% }: the wait was stopped, for example by Ctrl-Z"
            return 125
            ;;
        *)
            __aba_print_message "cannot lock ${__aba_names% }: the helper ${__aba_bin} ended with status ${__aba_status}"
            return 125
            ;;
    esac
}

# Does as __aba_on_conflict says after the helper has reported the holder.
__aba_handle_conflict() {
    __aba_list=${__aba_names}
    __aba_missing=''
    while [ -n "${__aba_list}" ]; do
        __aba_name=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_contains "${__aba_held_locks}" "${__aba_name}/" || __aba_missing="${__aba_missing}${__aba_name} "
    done
    __aba_missing=${__aba_missing:+the lock on ${__aba_missing}}
    # Nothing is missing if the script holds the locks shared and has asked for exclusive ones.
    __aba_missing=${__aba_missing:-an exclusive lock on ${__aba_names}}
    if [ "${__aba_on_conflict}" = ask ] && [ -t 0 ] && [ -t 2 ]; then
        printf 'aba-lock: press Enter to continue without %s, or Ctrl-C to stop: ' "${__aba_missing% }" >&2
        if IFS= read -r __aba_line && [ -z "${__aba_line}" ]; then
            return 3
        fi
        printf '\n' >&2
    elif [ "${__aba_on_conflict}" = warn ]; then
        __aba_print_message "warning: the script can continue without ${__aba_missing% }"
        return 3
    fi
    return 1
}

# These do the work of options that only some shells have. zsh replaces them: after a call has acquired its locks, after it has failed,
# before and after lock $1 (`NAME/FD`) is released, and before the helper is called with a server.
__aba_note_call() { :; }
__aba_undo_call() { :; }
__aba_forget_call() { :; }
__aba_forget_lease() { :; }
__aba_export_settings() { :; }

# Adds the locks of this call, acquired or inherited, to the variables of the library and to what children inherit.
__aba_record_locks() {
    while [ -n "${__aba_new_locks}" ]; do
        __aba_entry=${__aba_new_locks%% *}
        __aba_new_locks=${__aba_new_locks#* }
        __aba_locks="${__aba_locks}${__aba_entry}/${__aba_pid} "
        if [ -z "${__aba_is_ksh}" ]; then
            __aba_forget_fd "${__aba_entry#*/}"
            export ABA_LOCK_FDS="${ABA_LOCK_FDS:+${ABA_LOCK_FDS} }${__aba_entry#*/}"
        fi
        if [ "${__aba_pid}" != "$$" ] && [ -z "${__aba_subshell}" ]; then
            # `x=$(aba_lock_operation …)` and `aba_lock_operation … | …` leave the script without a lock.
            __aba_print_message "${__aba_entry%%/*} is locked only until this subshell ends" \
                'call aba_lock_operation outside of $( ), ( ) and pipelines; if the subshell is intended, add --subshell'
        fi
    done
    while [ -n "${__aba_held_locks}" ]; do
        __aba_entry=${__aba_held_locks%% *}
        __aba_held_locks=${__aba_held_locks#* }
        __aba_contains "${__aba_locks}" "${__aba_entry%%/*}/" || __aba_locks="${__aba_locks}${__aba_entry}/0 "
    done
}

# ---- release ----

# Usage: aba_unlock_operation [OPERATION | --key TEXT]
#
# Releases the lock on OPERATION, by default the last one, however often the script has acquired it. If another script,
# which started this one, holds the lock, then this only closes the descriptor here. A script that took the place of the
# holder with `exec` is the holder.
aba_unlock_operation() {
    __aba_begin aba_unlock_operation || return 125
    __aba_status=0
    __aba_unlock "$@" || __aba_status=$?
    __aba_running=''
    return "${__aba_status}"
}

__aba_unlock() {
    __aba_read_key "$@" || return "$?"
    if [ -n "${__aba_key_words}" ]; then
        shift "${__aba_key_words}"
        set -- "${__aba_key_name}" "$@"
    fi
    if [ "$#" -gt 0 ] && [ -z "$1" ]; then
        __aba_print_message 'invalid lock name "": it is empty' 'to release the last lock, call aba_unlock_operation without a name'
        return 2
    elif [ "$#" -gt 1 ]; then
        __aba_print_message 'aba_unlock_operation takes the name of one lock' 'call it once for each lock'
        return 2
    fi
    __aba_find_directory
    __aba_find_entry "${1-}"
    if [ -z "${__aba_entry}" ] && [ "$#" -gt 0 ]; then
        __aba_find_fd_of_any_directory "$1"
        [ -z "${__aba_fd}" ] || __aba_entry="$1/${__aba_fd}/0"
    fi
    if [ -z "${__aba_entry}" ]; then
        if [ "$#" -gt 0 ]; then
            __aba_find_helper || return "$?"
            __aba_redirections=''
            __aba_run_helper path -- "$1" >/dev/null || return 2
        fi
        __aba_print_message "nothing to release: this script holds no lock${1:+ on $1}"
        return 1
    fi
    __aba_name=${__aba_entry%%/*}
    __aba_fd=${__aba_entry#*/}
    __aba_fd=${__aba_fd%/*}
    # A script can hold locks of both directories.
    ! __aba_is_open "${__aba_fd}" "${__aba_system_directory}/aba-${__aba_name}.lock" || __aba_directory=${__aba_system_directory}
    __aba_find_pid
    __aba_status=0
    __aba_redirections=''
    __aba_pass_fd "${__aba_fd}"
    __aba_acquirer=${__aba_entry##*/}
    if [ "${__aba_acquirer}" = 0 ] && __aba_is_acquirer; then
        __aba_acquirer=${__aba_pid}
    fi
    if [ "${__aba_acquirer}" = "${__aba_pid}" ]; then
        __aba_find_helper || return "$?"
        __aba_forget_call "${__aba_name}/${__aba_fd}"
        # The helper unlocks the file, and so also the copies of children. It refuses if the descriptor is not on the lock
        # file any more: then the script uses it for something else, and it stays open.
        __aba_run_helper unlock --fd "${__aba_fd}" "${__aba_name}" ${__aba_lease:+"${__aba_lease}"} || __aba_status=$?
        # The helper reports other failures itself.
        [ "${__aba_status}" -le 128 ] || __aba_print_message \
            "cannot determine whether ${__aba_name} is released: the helper ${__aba_bin} ended with status ${__aba_status}" \
            "check the lock: \`aba-lock status ${__aba_name}\`"
    fi
    __aba_close=''
    if { [ "${__aba_acquirer}" = "${__aba_pid}" ] && [ "${__aba_status}" = 0 ]; } ||
        __aba_is_open "${__aba_fd}" "${__aba_directory}/aba-${__aba_name}.lock"; then
        __aba_close=yes
    fi
    __aba_remove_entry __aba_locks "${__aba_entry} "
    __aba_forget_fd "${__aba_fd}"
    __aba_forget_slot "${__aba_name}/${__aba_fd}"
    __aba_forget_lease "${__aba_name}/${__aba_fd}"
    # If the script inherited the descriptor, and the shell cannot close it, the script keeps its copy.
    [ -z "${__aba_close}" ] || __aba_close_fd "${__aba_fd}" 2>/dev/null || true
    [ "${__aba_status}" = 0 ] || return 125
}

# Returns 0 if this process acquired the lock __aba_name itself, before `exec` made it another script. The helper compares the record in
# the lock file with this process. Without the helper, the result is 0, too, and the caller reports that it is missing.
__aba_is_acquirer() {
    __aba_is_open "${__aba_fd}" "${__aba_directory}/aba-${__aba_name}.lock" || return 1
    __aba_find_helper 2>/dev/null || return 0
    __aba_run_helper status --quiet --acquired --fd "${__aba_fd}" "${__aba_name}" 2>/dev/null
}

# Removes lock $1 (`NAME/FD`) from those with slots. ABA_LOCK_SLOT becomes the slot of the last other one, or what it was before.
__aba_forget_slot() {
    __aba_contains "${__aba_slot_locks}" "$1/" || return 0
    __aba_line=" ${__aba_slot_locks}"
    __aba_line=${__aba_line##*" $1/"}
    __aba_remove_entry __aba_slot_locks "$1/${__aba_line%% *} "
    __aba_slot=${__aba_inherited_slot}
    if [ -n "${__aba_slot_locks}" ]; then
        __aba_slot=${__aba_slot_locks##*/}
        __aba_slot=${__aba_slot% }
    fi
    unset ABA_LOCK_SLOT
    [ -z "${__aba_slot}" ] || export ABA_LOCK_SLOT="${__aba_slot}"
}

# ---- query ----

# Usage: aba_lock_held [--system] OPERATION | --key TEXT
#
# Returns 0 if this script, or the one that started it, holds the lock; otherwise 1. It asks the kernel, because a child
# may have released the lock with `flock -u`.
aba_lock_held() {
    __aba_begin aba_lock_held || return 125
    __aba_status=0
    __aba_query '' "$@" || __aba_status=$?
    __aba_running=''
    return "${__aba_status}"
}

# Usage: aba_lock_check [--system] OPERATION | --key TEXT
#
# As aba_lock_held, and if the lock has a lease for other machines, the server must confirm it. Returns 125 if that
# cannot be known. For use before a step that must not be done twice.
aba_lock_check() {
    __aba_begin aba_lock_check || return 125
    __aba_status=0
    __aba_query --lease "$@" || __aba_status=$?
    __aba_running=''
    return "${__aba_status}"
}

# Asks the helper, with option $1 or none, if the script holds the lock.
__aba_query() {
    __aba_option=$1
    shift
    __aba_system='' __aba_unusable=''
    if [ "${1-}" = --system ]; then
        __aba_system=yes
        shift
    fi
    __aba_read_key "$@" || return "$?"
    if [ -n "${__aba_key_words}" ]; then
        shift "${__aba_key_words}"
        set -- "${__aba_key_name}" "$@"
    fi
    if [ "$#" != 1 ]; then
        __aba_print_message "${__aba_running} needs the name of one lock" "for example: \`${__aba_running} backup\`"
        return 2
    fi
    __aba_find_directory
    __aba_find_helper || return "$?"
    __aba_find_fd_of_any_directory "$1"
    if [ -z "${__aba_fd}" ]; then
        # The helper reports a name that is not valid.
        __aba_run_helper path -- "$1" >/dev/null || return 2
        return 1
    fi
    # Several descriptors may be open on the file, such as one from a parent script that has ended.
    while [ -n "${__aba_fd}" ]; do
        __aba_status=0
        __aba_redirections=''
        __aba_pass_fd "${__aba_fd}"
        __aba_run_helper status --quiet ${__aba_option:+"${__aba_option}"} --fd "${__aba_fd}" "$1" || __aba_status=$?
        [ "${__aba_status}" = 1 ] || break
        __aba_unusable="${__aba_unusable}$1/${__aba_fd} "
        __aba_find_fd "$1"
    done
    return "${__aba_status}"
}

# ---- detach ----

# Usage: aba_lock_detach CMD [ARG]...
#
# Runs CMD, a program or a function, without the lock descriptors, so that it does not keep the locks after the script
# has ended: for daemons and background jobs. CMD runs in a subshell. With `aba_lock_detach exec CMD &` CMD takes the
# place of that subshell, and `$!` is its pid.
aba_lock_detach() {
    __aba_prepare_detach "$@" || return "$?"
    if [ -n "${__aba_detach_here}" ]; then
        "$@"
        return "$?"
    fi
    (
        __aba_drop_fds || exit 125
        "$@"
    )
}

# Checks the arguments of aba_lock_detach. If this is a subshell that has not acquired a lock itself, closes the lock files, and sets
# __aba_detach_here to `yes`: a background job would keep its copies of the locks while it waits for CMD, so it closes them for good. A
# handler that has interrupted another call must not do that.
__aba_prepare_detach() {
    if [ "$#" = 0 ]; then
        __aba_print_message 'aba_lock_detach needs a command' 'for example: `aba_lock_detach exec mydaemon &`'
        return 2
    fi
    __aba_find_pid
    __aba_detach_here=''
    [ -z "${__aba_running}" ] || return 0
    if [ "${__aba_pid}" != "$$" ] && ! __aba_holds_lock_of "${__aba_pid}"; then
        __aba_running=aba_lock_detach
        __aba_detach_here=yes
        __aba_drop_fds || __aba_detach_here=''
        __aba_running=''
        [ -n "${__aba_detach_here}" ] || return 125
    fi
}

# Returns 0 if process $1 has acquired one of the locks.
__aba_holds_lock_of() {
    case ${__aba_locks} in
        *"/$1 "*) return 0 ;;
        *) return 1 ;;
    esac
}

# Closes all lock files in this subshell, in which no call is interrupted any more.
__aba_drop_fds() {
    [ -z "${__aba_running}" ] || __aba_drop_new_fds
    __aba_running=''
    __aba_list="${ABA_LOCK_FDS-} "
    while [ -n "${__aba_list}" ]; do
        __aba_fd=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_close_fd "${__aba_fd}" || return 125
    done
    __aba_list=${__aba_locks}
    while [ -n "${__aba_list}" ]; do
        __aba_entry=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        __aba_fd=${__aba_entry#*/}
        __aba_close_fd "${__aba_fd%/*}" || return 125
    done
    unset ABA_LOCK_FDS
    __aba_locks=''
}

# Closes the lock files that the interrupted call of aba_lock_operation has opened, of which it may not have noted the last one. While it
# opens one, that file is its input.
__aba_drop_new_fds() {
    __aba_list=${__aba_names-}
    while [ -n "${__aba_list}" ]; do
        __aba_name=${__aba_list%% *}
        __aba_list=${__aba_list#* }
        ! __aba_is_open 0 "${__aba_directory-}/aba-${__aba_name}.lock" || exec </dev/null
        __aba_fd=9
        while [ "${__aba_fd}" -gt 2 ]; do
            ! __aba_is_open "${__aba_fd}" "${__aba_directory-}/aba-${__aba_name}.lock" || __aba_close_fd "${__aba_fd}"
            __aba_fd=$((__aba_fd - 1))
        done
    done
}

# ---- commands ----

# Usage: aba_run_once [OPTIONS] -i ID [-- CMD [ARG]...]: `aba-lock run-once`, with the variables of the script, exported or not.
aba_run_once() {
    (
        __aba_find_helper || exit "$?"
        export ABA_LOCK_DIR RUN_ONCE_DIR HOME
        exec "${__aba_bin}" run-once "$@"
    )
}

# Usage: aba_update [OPTIONS] FILE CMD [ARG]...: `aba-lock update`. CMD must be a program.
aba_update() {
    (
        __aba_find_helper || exit "$?"
        export HOME ABA_LOCK_TIMEOUT ABA_LOCK_LOG
        exec "${__aba_bin}" update "$@"
    )
}

# Usage: aba_reserve [OPTIONS] [-- CMD [ARG]...]
#
# `aba-lock reserve`, with the variables of the script, exported or not. Neither the helper nor CMD keeps the lock descriptors.
aba_reserve() {
    (
        __aba_find_helper || exit "$?"
        __aba_drop_fds || exit 125
        export ABA_LOCK_DIR HOME ABA_LOCK_TIMEOUT ABA_LOCK_LOG
        exec "${__aba_bin}" reserve "$@"
    )
}

# Usage: aba_lock_doctor [--json]: `aba-lock doctor`, with the variables of the script, exported or not.
aba_lock_doctor() {
    (
        __aba_find_helper || exit "$?"
        __aba_check_version
        export ABA_LOCK_DIR ABA_LOCK_SCOPE ABA_LOCK_BIN ABA_LOCK_ON_CONFLICT ABA_LOCK_TIMEOUT ABA_LOCK_LOG RUN_ONCE_DIR HOME
        exec "${__aba_bin}" doctor "$@"
    )
}

# ---- shared ----

# Usage: __aba_begin FUNCTION: begins a call of a public function that uses the variables of the library.
__aba_begin() {
    if [ -n "${__aba_running}" ] && ! __aba_is_interactive; then
        __aba_print_message "$1: a trap handler cannot call it during ${__aba_running}" \
            'let the handler only set a variable, or run the script with bash'
        return 125
    fi
    __aba_running=$1
    __aba_unusable='' __aba_redirections='' __aba_system='' __aba_on_conflict='' __aba_pid_file='' __aba_server='' __aba_lease=''
    while [ -n "${__aba_pending}" ]; do
        __aba_entry=${__aba_pending%% *}
        __aba_pending=${__aba_pending#* }
        # Ctrl-C has ended the call that opened it. The user may have opened another file on this descriptor.
        ! __aba_is_open "${__aba_entry#*/}" "${__aba_pending_directory}/aba-${__aba_entry%%/*}.lock" ||
            __aba_close_fd "${__aba_entry#*/}"
    done
}

__aba_is_interactive() {
    case $- in
        *i*) return 0 ;;
        *) return 1 ;;
    esac
}

# Sets __aba_pid to the pid of this shell, which may be a subshell. The shell itself opens the file.
__aba_find_pid() {
    __aba_pid=$$
    if [ -r /proc/self/stat ]; then
        # A handler that calls aba_lock_detach must not change another variable of the call that it has interrupted.
        IFS=' ' read -r __aba_pid __aba_ignored </proc/self/stat || __aba_pid=$$
    fi
}

# Returns 0 if an entry of list $1 begins with $2.
__aba_contains() {
    case " $1" in
        *" $2"*) return 0 ;;
        *) return 1 ;;
    esac
}

# Removes entry $2 from the list in variable $1.
__aba_remove_entry() {
    eval "__aba_line=\" \${$1}\""
    case ${__aba_line} in
        *" $2"*)
            __aba_line="${__aba_line%%" $2"*} ${__aba_line#*" $2"}"
            eval "$1=\${__aba_line# }"
            ;;
        *) ;;
    esac
}

# Sets __aba_entry to the last entry of __aba_locks, or to the last one of operation $1, or to nothing.
__aba_find_entry() {
    __aba_line=" ${__aba_locks% }"
    if [ -z "$1" ]; then
        __aba_entry=${__aba_line##* }
    elif __aba_contains "${__aba_locks}" "$1/"; then
        __aba_line=${__aba_line##*" $1/"}
        __aba_entry=$1/${__aba_line%% *}
    else
        __aba_entry=''
    fi
}

# Sets __aba_fd to the descriptor on which the lock file of operation $1 is open, in this script or inherited, or to
# nothing. Only the helper can say whether it is locked.
__aba_find_fd() {
    __aba_find_entry "$1"
    __aba_fds=${__aba_entry#*/}
    __aba_fds="${__aba_fds%/*} ${ABA_LOCK_FDS-} "
    while [ -n "${__aba_fds}" ]; do
        __aba_fd=${__aba_fds%% *}
        __aba_fds=${__aba_fds#* }
        case ${__aba_fd} in
            '' | *[!0-9]*) ;;
            *)
                if ! __aba_contains "${__aba_unusable}" "$1/${__aba_fd} " &&
                    { [ ! -e /dev/fd ] || __aba_is_open "${__aba_fd}" "${__aba_directory}/aba-$1.lock"; }; then
                    return 0
                fi
                ;;
        esac
    done
    __aba_fd=''
}

# Does the same as __aba_find_fd. If there is no such descriptor, searches for the lock that all users share, and changes
# __aba_directory if it finds that.
__aba_find_fd_of_any_directory() {
    __aba_find_fd "$1"
    [ -z "${__aba_fd}" ] || return 0
    __aba_before=${__aba_directory}
    __aba_directory=${__aba_system_directory}
    __aba_find_fd "$1"
    [ -n "${__aba_fd}" ] || __aba_directory=${__aba_before}
}

# Returns 0 if descriptor $1 is open on the file at $2.
# shellcheck disable=SC3013
__aba_is_open() {
    [ "/dev/fd/$1" -ef "$2" ]
}

# Sets __aba_fd to the first free descriptor of 9 to 3.
__aba_find_free_fd() {
    __aba_fd=9
    while [ "${__aba_fd}" -gt 2 ]; do
        if ! { eval "true <&${__aba_fd}"; } 2>/dev/null; then
            return 0
        fi
        __aba_fd=$((__aba_fd - 1))
    done
    __aba_print_message "cannot open lock file ${__aba_path}: descriptors 3 to 9 are all in use" \
        'close those that the script does not need, for example: `exec 9>&-`'
    return 125
}

# Opens the file at $2 on descriptor $1 for reading and writing. Returns another status than 0 if that fails.
__aba_open_fd() {
    # In ksh93, the default of `<>` is the standard output.
    { eval "exec $1<&0"; } 2>/dev/null 0<>"$2"
}

# Opens the file at $2 on descriptor $1 for reading.
__aba_read_fd() {
    { eval "exec $1<&0"; } 2>/dev/null <"$2"
}

# Closes descriptor $1, if that is the number of one, and not of the standard input or output.
__aba_close_fd() {
    case $1 in
        [3-9]) eval "exec $1<&-" ;;
        '' | [012] | *[!0-9]*) ;;
        *)
            # In most shells, `12>&1` is the word `12` and a redirection.
            # shellcheck disable=SC3023
            if [ -n "$(echo 12>&1)" ]; then
                __aba_print_message "cannot close descriptor $1: this shell can only close the descriptors up to 9" \
                    'run the script with bash or zsh'
                return 125
            fi
            eval "exec $1<&-"
            ;;
    esac
}

# Lets the next call of the helper inherit descriptor $1.
__aba_pass_fd() {
    case $1 in
        [3-9]) __aba_redirections="${__aba_redirections} $1<&$1" ;;
        *) ;;
    esac
}

# Removes descriptor $1 from ABA_LOCK_FDS, so that children do not inherit it as a lock.
__aba_forget_fd() {
    [ -n "${ABA_LOCK_FDS-}" ] || return 0
    __aba_fds="${ABA_LOCK_FDS} "
    __aba_remove_entry __aba_fds "$1 "
    __aba_fds=${__aba_fds% }
    if [ -n "${__aba_fds}" ]; then
        export ABA_LOCK_FDS="${__aba_fds}"
    else
        unset ABA_LOCK_FDS
    fi
}

# Sets __aba_directory to the directory of the lock files, and exports the variables of the library for the helper.
__aba_find_directory() {
    if [ -n "${__aba_system}" ] || { [ -z "${ABA_LOCK_DIR-}" ] && [ "${ABA_LOCK_SCOPE-}" = system ]; }; then
        __aba_directory=${__aba_system_directory}
    elif [ -n "${ABA_LOCK_DIR-}" ]; then
        __aba_export ABA_LOCK_DIR
        __aba_directory=${ABA_LOCK_DIR}
    elif [ -n "${HOME-}" ]; then
        __aba_directory=${HOME}/.aba
    else
        # The helper knows the home directory in the passwd file.
        __aba_directory=$(__aba_find_helper && "${__aba_bin}" path x) || __aba_directory=/nowhere/x
        __aba_directory=${__aba_directory%/*}
    fi
    if [ -n "${ABA_LOCK_TIMEOUT-}${ABA_LOCK_LOG-}" ]; then
        __aba_export ABA_LOCK_TIMEOUT
        __aba_export ABA_LOCK_LOG
    fi
    if [ -n "${ABA_LOCK_SERVER-}${__aba_server-}" ]; then
        __aba_export_settings
    fi
}

# Exports variable $1 if it is set and not exported.
#
# In `ABA_LOCK_TIMEOUT=5 aba_lock_operation save`, the variable exists for one call, and is exported. In bash, `export` would change it
# into a variable of the script, which stays after the call, and in yash, it would unset it. ksh93 keeps such a variable anyway.
__aba_export() {
    case ${BASH_VERSION:-${YASH_VERSION:+yash}} in
        '') eval "[ -n \"\${$1+x}\" ]" || return 0 ;;
        yash | 3.* | 4.0* | 4.1* | 4.2* | 4.3*)
            # Nothing, or for example `declare -x NAME="VALUE"`.
            # shellcheck disable=SC3044 # these shells have it
            case $(typeset -p "$1" 2>/dev/null) in
                '' | 'declare -x '* | 'typeset -x '*) return 0 ;;
                *) ;;
            esac
            ;;
        *) eval "case \${$1+-\${$1@a}} in '' | *x*) return 0 ;; *) ;; esac" ;;
    esac
    # shellcheck disable=SC2163 # its value is the name
    export "$1"
}

# Sets __aba_bin to the path of the helper. If there is none, prints a message and returns 125.
__aba_find_helper() {
    __aba_bin=${ABA_LOCK_BIN:-aba-lock}
    case ${__aba_bin} in
        */*) [ ! -f "${__aba_bin}" ] || [ ! -x "${__aba_bin}" ] || return 0 ;;
        *)
            # PATH may lack the usual directories, as in cron.
            __aba_paths="${PATH-}:/usr/local/bin:/usr/bin:"
            while [ -n "${__aba_paths}" ]; do
                __aba_bin=${__aba_paths%%:*}
                __aba_bin=${__aba_bin:-.}/${ABA_LOCK_BIN:-aba-lock}
                __aba_paths=${__aba_paths#*:}
                [ ! -f "${__aba_bin}" ] || [ ! -x "${__aba_bin}" ] || return 0
            done
            ;;
    esac
    __aba_print_message "the helper ${ABA_LOCK_BIN:-aba-lock}${ABA_LOCK_BIN:+ (from ABA_LOCK_BIN)} was not found, or is not executable" \
        'add the directory of aba-lock to PATH, or set ABA_LOCK_BIN to its path'
    return 125
}

# Reports a helper of another version, which may refuse the options that this file uses.
__aba_check_version() {
    __aba_line=$("${__aba_bin}" --version 2>/dev/null) || true
    case "${__aba_line} " in
        "aba-lock ${__aba_version} "*) ;;
        *)
            __aba_print_message "the helper ${__aba_bin} is ${__aba_line:-of an unknown version}, but aba-lock.sh is ${__aba_version}" \
                'install both from the same release'
            ;;
    esac
}

# Runs the helper with these arguments, for __aba_directory, and with the descriptors in __aba_redirections.
__aba_run_helper() {
    __aba_result=0
    eval 'ABA_LOCK_DIR=${__aba_directory} "${__aba_bin}" "$@"' "${__aba_redirections}" || __aba_result=$?
    # The end by a signal is 256 and its number in ksh93, and 384 and its number in yash.
    if [ "${__aba_result}" -gt 256 ]; then
        __aba_result=$((__aba_result % 128 + 128))
    fi
    return "${__aba_result}"
}

# If $1 is --key or --key=TEXT, sets __aba_key_name to the name of the lock of the text, and __aba_key_words to the number of
# words of the option, and otherwise to nothing.
__aba_read_key() {
    __aba_key_words=''
    case ${1-} in
        --key)
            if [ "$#" -lt 2 ]; then
                __aba_print_message 'option --key needs a value' 'for example: `--key "$url"`'
                return 2
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
    __aba_find_helper || return "$?"
    __aba_key_name=$("${__aba_bin}" path --name "--key=$1")
}

# Usage: __aba_print_message MESSAGE [HINT]
__aba_print_message() {
    printf '%s\n' "aba-lock: $1" ${2+"hint: $2"} >&2 || true
}
