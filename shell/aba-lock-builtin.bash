# aba-lock-builtin.bash: shell locks
# shellcheck shell=bash
# shellcheck disable=SC2015,SC2154 # in `A && B || C`, C handles the failures of both; aba-lock.bash sets variables
[[ -z ${__aba_wanted-}${__aba_loaded-} && ${FUNCNAME[2]-} != __aba_load && $- != *[ikr]* ]] || \return 1
[[ $__aba_file == /* ]] || __aba_file=${PWD-}/$__aba_file
__aba_builtin='' __aba_name=${ABA_LOCK_BUILTIN-}
[[ $__aba_name != yes ]] || __aba_name=${__aba_file%/share/aba-lock/*}/lib/aba-lock/builtin.so
[[ $__aba_name == /* && -r $__aba_name ]] || \return 1
\builtin enable -f "$__aba_name" __aba_builtin 2>/dev/null && __aba_builtin version "$__aba_version" || \return 1
__aba_builtin=$__aba_name
__aba_locks=${__aba_locks-}

__aba_lock_directly() {
    [[ -z ${__aba_fds+"."} ]] && __aba_builtin lock "$@" || case "$?" in
        2??)
            builtin set -- "$1" "$?"
            __aba_locks+="$1/$2/$$ " __aba_opened["$2"]=1
            builtin export ABA_LOCK_FDS="${ABA_LOCK_FDS:+$ABA_LOCK_FDS }$2"
            [[ -z ${ABA_LOCK_DIR-} ]] || __aba_is_exported || builtin export ABA_LOCK_DIR
            ;;
        *) \return 1 ;;
    esac
}
__aba_is_exported() {
    if ((BASH_VERSINFO[0] * 10 + BASH_VERSINFO[1] >= 44)); then
        [[ ${ABA_LOCK_DIR@a} == *x* ]]
    else
        [[ $(builtin declare -p ABA_LOCK_DIR) == 'declare -x '* ]]
    fi
}
__aba_unlock_directly() {
    [[ -z ${__aba_fds+"."} ]] && __aba_builtin unlock "$@" || \return 1
    __aba_locks=${__aba_locks#* }
    [[ -n $__aba_locks ]] || builtin unset -v ABA_LOCK_FDS
}
__aba_define() {
    aba_lock_operation() { __aba_lock_directly "$@" || __aba_call aba_lock_operation "$@"; }
    aba_unlock_operation() { __aba_unlock_directly "$@" || __aba_call aba_unlock_operation "$@"; }
}
__aba_call() {
    if [[ -r $__aba_file ]] && { \declare -F builtin >/dev/null || __aba_is_same_version; } && __aba_load; then
        "$@"
    else
        \printf '%s\n' "aba-lock: cannot load $__aba_file: it cannot be read, or has another version than $__aba_version" 'hint: restart the script' >&2
        [[ $* != *a_lock_op* ]] || \exit 125
        \return 125
    fi
}
__aba_is_same_version() {
    builtin local __aba_line=''
    { IFS= builtin read -r __aba_line && IFS= builtin read -r __aba_line; } <"$__aba_file"
    [[ $__aba_line == "__aba_version=$__aba_version" ]]
}
__aba_load() {
    \. "$__aba_file" && { [[ -n ${__aba_loaded-} ]] || __aba_define; }
}
__aba_define
\builtin shopt "${__aba_alias:--u}" expand_aliases && \return 0

# aba-lock.bash sources this file if ABA_LOCK_BUILTIN is set, instead of most of its own fast part, which takes longer to parse.
#
# The builtin acquires a lock that is free, and releases it. For all other calls it returns 1, and has done nothing. Then
# __aba_call loads the fast part, if the second line of its file still has the same version. The fast part calls the helper, and
# when the script needs the rest, loads it as always.
#
# A trap handler that interrupts a call of the fast part, whose list of descriptors is __aba_fds, does not use the builtin: the rest
# of the library adds the descriptor of the handler to that list. A handler can also run right after the builtin has released the
# only lock of the script. So only this lock is removed from __aba_locks. A handler that interrupts the rest may use the builtin,
# which then opens a descriptor: the entry in __aba_opened keeps the interrupted call from opening another file on it. Such a handler
# may have loaded the whole library: then this file changes nothing.
#
# ABA_LOCK_BUILTIN is `yes` for the builtin that `make install WITH_BUILTIN=yes` installs, or the path of another one. If it cannot
# be loaded, or is of another version, the script goes on without it, and `aba-lock doctor` reports that. The builtin is not used
# in an interactive shell, in which Ctrl-C can end a function between two commands, nor in a restricted one, which may not open
# files for writing.
#
# __aba_is_exported is the test in __aba_export of the whole library, for ABA_LOCK_DIR.
#
# __aba_builtin is the path of the builtin. The other variables, and the rules for the code, are those of aba-lock.bash.
