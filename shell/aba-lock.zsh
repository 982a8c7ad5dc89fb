# aba-lock.zsh: locks for scripts in zsh, and at its prompt.
#
#     source /usr/local/share/aba-lock/aba-lock.zsh
#     aba_lock_operation mirror-save      # held until this script ends
#
# The functions are those of aba-lock.sh in the same directory. This file loads it, and replaces those of its functions for
# which zsh has more: any number of descriptors, pid files, leases, and functions of the script as commands of aba_update.
#
# Aliases and options of the script must not change the code. A function that is defined during `emulate -c` keeps the emulation and
# the options of that command. So the file reads itself again in this way, from the line below on.
if 'builtin' 'test' -z "${__aba_zsh_source-}"; then
    __aba_zsh_source=${${(%):-%x}:A}
    if 'builtin' 'test' -r "${__aba_zsh_source%.zsh}.sh"; then
        'builtin' 'emulate' -R zsh -o no_aliases -c 'source "${__aba_zsh_source%.zsh}.sh"; source "$__aba_zsh_source"'
        __aba_zsh_source=''
        'builtin' 'eval' "$__aba_detach"
        'builtin' 'return' 0
    fi
    'builtin' 'print' -ru2 -- "aba-lock: cannot load ${__aba_zsh_source%.zsh}.sh: it cannot be read
hint: install both files from the same release, or use \`eval \"\$(aba-lock init zsh)\"\`"
    __aba_zsh_source=''
    # A script must not run without its locks.
    'builtin' 'test' -o interactive || 'builtin' 'exit' 125
    'builtin' 'return' 125
fi
# ---- the functions ----

# The first free descriptor from 10 on. zsh chooses it when it opens the file.
__aba_find_free_fd() {
    __aba_fd=0
}

# Opens the file at $2 for reading and writing, and sets __aba_fd to the descriptor.
__aba_open_fd() {
    { exec {__aba_fd}<&0 } 2>/dev/null 0<>$2
}

# Opens the file at $2 for reading, and sets __aba_fd to the descriptor.
__aba_read_fd() {
    { exec {__aba_fd}<&0 } 2>/dev/null <$2
}

# Closes descriptor $1, if that is the number of one, and not of the standard input or output.
__aba_close_fd() {
    local fd=$1
    [[ $fd == <3-> ]] || return 0
    { exec {fd}<&- } 2>/dev/null || true
}

# Children of zsh inherit all these descriptors.
__aba_pass_fd() {
    true
}

# Sets __aba_pid to the pid of this shell, which may be a subshell.
__aba_find_pid() {
    zmodload zsh/system 2>/dev/null
    __aba_pid=${sysparams[pid]:-$$}
}

# aba_lock_detach, which is defined after `emulate`, so that a function of the script runs with the options of the script.
__aba_detach='
aba_lock_detach() {
    __aba_prepare_detach "$@" || \builtin return "$?"
    if [[ -n $__aba_detach_here ]]; then
        "$@"
        \builtin return "$?"
    fi
    (__aba_drop_fds || \builtin exit 125; "$@")
}
'

# Closes the lock files that the interrupted call of aba_lock_operation has opened, of which it may not have noted the last one. While it
# opens one, that file is its input.
__aba_drop_new_fds() {
    local name file
    for name in ${(s: :)${__aba_names-}}; do
        [[ ! /dev/fd/0 -ef ${__aba_directory-}/aba-$name.lock ]] || exec </dev/null
        for file in /dev/fd/<10->(N); do
            [[ ! $file -ef ${__aba_directory-}/aba-$name.lock ]] || __aba_close_fd ${file:t}
        done
    done
}

# ---- pid files ----

# For each pid file of this script, the locks of its call that are still held: `NAME/FD `.
typeset -gA __aba_pid_files

# Accepts --pid-file and the options for leases, in addition to the options of aba-lock.sh.
__aba_accept_option() {
    case $__aba_word in
        --pid-file=*) __aba_pid_file=${${__aba_word#*=}:a} && return 0 ;;
        --server=*)
            # An empty URL means no server, whatever the variable says.
            __aba_server=${${__aba_word#*=}:--}
            return 0
            ;;
        ABA_LOCK_SERVER)
            __aba_server=${__aba_server:-$ABA_LOCK_SERVER}
            return 0
            ;;
        --ttl=* | --on-lost=*) return 0 ;;
        -o | --no-inherit) ;;
        --*=*) __aba_word=${__aba_word%%=*} ;;
        *)
            __aba_refuse_option
            return 2
            ;;
    esac
    __aba_print_message "aba_lock_operation: $__aba_word is not available in this shell" \
        'run the script with bash, or use `aba-lock lock NAME -- CMD`'
    return 2
}

# Notes the leases of this call, and its pid file, which the helper has written.
__aba_note_call() {
    if [[ -n ${__aba_server#-} ]]; then
        __aba_note_leases || return "$?"
    elif [[ -z $__aba_pid_file ]]; then
        return 0
    fi
    [[ -z $__aba_pid_file ]] || __aba_pid_files[$__aba_pid_file]=$__aba_new_locks$__aba_held_locks
    typeset -ga zshexit_functions
    zshexit_functions=(${zshexit_functions:#__aba_clean_up} __aba_clean_up)
}

# Removes the pid file of a call that has failed, if the helper has written it.
__aba_undo_call() {
    [[ -z $__aba_pid_file || -n ${__aba_pid_files[$__aba_pid_file]-} ]] || __aba_remove_pid_file $__aba_pid_file
}

# Removes the pid files that have no other lock than $1. If the lock has a lease, the helper gives that back.
__aba_forget_call() {
    local file
    [[ -z ${(M)__aba_leases:#$1/*} ]] || __aba_lease=--server=its-own
    for file in ${(k)__aba_pid_files}; do
        __aba_contains "${__aba_pid_files[$file]}" "$1 " || continue
        __aba_remove_entry '__aba_pid_files[$file]' "$1 "
        [[ -n ${__aba_pid_files[$file]} ]] || __aba_remove_pid_file $file
    done
}

# Removes all pid files at the end of the script, and closes the descriptors of its leases. Waits until the leases are given back, unless a
# process that the script has left running holds them.
__aba_clean_up() {
    local file lease
    local -a parts
    for file in ${(k)__aba_pid_files}; do
        [[ -z ${__aba_pid_files[$file]} ]] || __aba_remove_pid_file $file
    done
    __aba_system='' __aba_redirections=''
    if [[ -z ${(M)__aba_leases:#*/*/$$/*} ]] || ! __aba_find_helper 2>/dev/null; then
        return 0
    fi
    __aba_find_directory
    for lease in ${(M)__aba_leases:#*/*/$$/*}; do
        parts=(${(s:/:)lease})
        __aba_close_fd $parts[2]
        __aba_run_helper lease settle $parts[1] $parts[4] 2>/dev/null || true
    done
}

# Removes pid file $1 if it names this script.
__aba_remove_pid_file() {
    local line=''
    [[ -f $1 && ! -L $1 ]] && IFS= read -r line <$1 2>/dev/null
    [[ $line != $$ ]] || /bin/rm -f -- $1
}

# ---- leases ----

# The leases of this shell, in the order of the calls: `NAME/FD/PID/LOCAL/TOKEN/CALL`. PID is the shell process that acquired the lock, or 0
# if the script inherited it. LOCAL and TOKEN are the tokens of the local lock and of the lease, and CALL is the number of the call.
typeset -ga __aba_leases

# The number of calls with a server, and the ABA_LOCK_TOKEN that the script inherited.
typeset -g __aba_lease_calls=${__aba_lease_calls-0} __aba_inherited_token=${__aba_inherited_token-}

# Notes and exports the leases of this call. Reports a lock that has none, whatever the helper has said.
__aba_note_leases() {
    local entry name pid
    local -a words new
    local -A fds
    for entry in ${(s: :)__aba_new_locks} ${(s: :)__aba_held_locks}; do
        fds[${entry%%/*}]=${entry#*/}
    done
    ((__aba_lease_calls += 1))
    for name in ${(s: :)__aba_names}; do
        words=(${(s: :)"$(__aba_run_helper lease tokens --fd ${fds[$name]} $name 2>/dev/null)"})
        if [[ $#words != [23] || ${(j::)words} == *[^0-9]* ]]; then
            __aba_print_message "cannot lock $name: its lease cannot be confirmed" 'check the helper and the keeper: `aba_lock_doctor`'
            return 125
        fi
        __aba_find_entry $name
        pid=${__aba_entry##*/}
        [[ " $__aba_new_locks" != *" $name/${fds[$name]} "* ]] || pid=$__aba_pid
        new+=($name/${fds[$name]}/${pid:-0}/$words[1]/$words[2]/$__aba_lease_calls)
        # The slot of a lease is that of all machines.
        if [[ -n $__aba_slots && $#words == 3 ]]; then
            __aba_slot_locks=${__aba_slot_locks%/*}/$words[3]' '
            export ABA_LOCK_SLOT=$words[3]
        fi
    done
    (($#__aba_leases)) || __aba_inherited_token=${ABA_LOCK_TOKEN-}
    for entry in $new; do
        __aba_leases=(${__aba_leases:#${entry%/*/*/*/*}/*} $entry)
    done
    __aba_export_tokens
}

# Removes the lease of lock $1.
__aba_forget_lease() {
    [[ -n ${(M)__aba_leases:#$1/*} ]] || return 0
    __aba_leases=(${__aba_leases:#$1/*})
    __aba_export_tokens
}

# Sets ABA_LOCK_TOKEN to the tokens of the last call whose leases the script holds, or to the inherited one.
__aba_export_tokens() {
    local lease call=${${__aba_leases[-1]-}##*/}
    local -a tokens
    for lease in $__aba_leases; do
        [[ ${lease##*/} != $call ]] || tokens+=(${${lease%/*}##*/})
    done
    export ABA_LOCK_TOKEN="${(j: :)tokens}"
    ABA_LOCK_TOKEN=${ABA_LOCK_TOKEN:-$__aba_inherited_token}
    [[ -n $ABA_LOCK_TOKEN ]] || unset ABA_LOCK_TOKEN
}

# Exports the settings for leases that are set.
__aba_export_settings() {
    local name
    for name in SERVER KEEPER TTL ON_LOST SERVER_SECRET_FILE SERVER_CACERT SERVER_CERT SERVER_KEY; do
        ((!$+parameters[ABA_LOCK_$name])) || export ABA_LOCK_$name
    done
}

# ---- commands ----

# Usage: aba_update [OPTIONS] FILE CMD [ARG]...
#
# `aba-lock update`. CMD may also be a function: it gets the old content on its input and prints the new one, in a zsh of its own with
# the functions and variables of this one.
aba_update() {
    local word fd
    (
        __aba_find_helper || exit "$?"
        export HOME ABA_LOCK_TIMEOUT ABA_LOCK_LOG
        for word; do
            if (($+functions[$word])); then
                exec {fd}< <(__aba_print_shell_state)
                exec $__aba_bin update --shell zsh --state $fd "$@"
            fi
        done
        exec $__aba_bin update "$@"
    )
}

# Prints the commands that give another zsh the functions and variables of this one.
__aba_print_shell_state() {
    local name
    typeset -f
    # The others cannot be set, or are set by that zsh.
    for name in ${(k)parameters}; do
        [[ ${parameters[$name]} == *(special|readonly|local)* ]] || typeset -p -- $name
    done
    print -r -- "IFS=${(qqqq)IFS}"
}
