# aba-lock.bash:
__aba_version=0.1.0
if \test -n "${BASH_VERSINFO-}"; then
    [[ ${BASH_SOURCE-} == /*/share/aba-lock/* && ${BASHOPTS-d_al}${__aba_loaded:+d_al} != *d_al* && $- != *i* && ! -o posix ]] || {
        \. "${BASH_SOURCE%.bash}-whole.bash"
        \return "$?" 2>&-
    }
    __aba_file=${BASH_SOURCE%.bash}-whole.bash __aba_name=${ABA_LOCK_BUILTIN:+${BASH_SOURCE%.bash}-builtin.bash}
fi
aba_lock_held() { __aba_call aba_lock_held "$@"; }
aba_lock_check() { __aba_call aba_lock_check "$@"; }
aba_lock_detach() { __aba_call aba_lock_detach "$@"; }
aba_run_once() { __aba_call aba_run_once "$@"; }
aba_update() { __aba_call aba_update "$@"; }
aba_reserve() { __aba_call aba_reserve "$@"; }
aba_lock_doctor() { __aba_call aba_lock_doctor "$@"; }
[[ -r "$__aba_name" ]] 2>&- && \. "$__aba_name" && \return 0
aba_lock_operation() {
    [[ ${BASHPID-}${IFS-} == "$$"$' \t\n' && $- != *k* && ! -o posix && ${#} == 1 && $1 != -* && -z ${__aba_locks-}${ABA_LOCK_LOG-}${ABA_LOCK_TIMEOUT-}${ABA_LOCK_SERVER-}${ABA_LOCK_SLOT-}${ABA_LOCK_SCOPE-}${ABA_LOCK_ON_CONFLICT-} ]] &&
        __aba_p=${ABA_LOCK_DIR:-${HOME:-/dev/null}/.aba}/aba-$1.lock __aba_bin=${ABA_LOCK_BIN:-${BASH_SOURCE%/*/*/*}/bin/aba-lock} __aba_fd=${ABA_LOCK_FDS-} __aba_new='/0 ' &&
        [[ $__aba_bin == */* && -f $__aba_bin && -x $__aba_bin && -f $__aba_p && ! -k ${__aba_p%/*} ]] && if [[ -n $__aba_fd ]]; then
        [[ /dev/fd/$__aba_fd -ef $__aba_p ]]
    else
        [[ ! -e /dev/fd/200 && -d /dev/fd ]] && ! \builtin declare -f +i exec && { \exec 200<>"$__aba_p"; } 2>&- && __aba_new="$1/200/$$ "
    fi && {
        [[ -z ${ABA_LOCK_DIR-} ]] || \builtin eval '[[ ${BASH_VERSION-} < 4.4 || ${ABA_LOCK_DIR@a} == *x* ]] || \builtin export ABA_LOCK_DIR'
        "$__aba_bin" lock --reopen --fd "${__aba_fd:-200}" "$1" && if [[ -n $__aba_fd ]]; then
            __aba_locks+="$1/$__aba_fd/0 " __aba_p=''
        else
            __aba_locks+="$1/200/$$ " ABA_LOCK_FDS+="${ABA_LOCK_FDS:+ }200" __aba_p=''
            \builtin export ABA_LOCK_FDS
        fi && \builtin return 0
        __aba_call __aba_resume "$?" aba_lock_operation "$1"
        \builtin return "$?"
    }
    __aba_call aba_lock_operation "$@"
}
aba_unlock_operation() {
    \builtin eval '__aba_bin=${ABA_LOCK_BIN:-${__aba_bin-}}
[[ ${BASHPID-} == "$$" && $- != *k* && ! -o posix && -n ${__aba_locks-} && -z ${__aba_fds+"."}${ABA_LOCK_LOG-}${__aba_scope-} && $__aba_bin == */* && -f $__aba_bin && -x $__aba_bin ]] && ! \builtin declare -f +i exec && {
\builtin local __aba_p="$__aba_locks" __aba_fd="${ABA_LOCK_FDS-}" __aba_fds="${ABA_LOCK_FDS-}" __aba_new="/0 "
\builtin test "$__aba_p" = "${1-${__aba_p%%/*}}${2+ }/$__aba_fd/$$ " && {
"$__aba_bin" unlock --fd "$__aba_fd" "${__aba_p%%/*}" && \builtin unset -v "ABA_LOCK_FDS${__aba_locks#"$__aba_p"}" 2>&- && {
__aba_locks=${__aba_locks#"$__aba_p"}
\builtin eval "\\exec $__aba_fd>&-"
\builtin return 0; }
__aba_call __aba_resume "$?" aba_unlock_operation "$@"
\builtin return "$?"; }; }'
    __aba_call aba_unlock_operation "$@"
}
__aba_call() {
    \builtin local __aba_wanted
    __aba_wanted=$__aba_version __aba_part=''
    [[ $1 != *_op* ]] || __aba_part=$__aba_version
    if [[ -r $__aba_file ]] && \. "$__aba_file" && [[ -z $__aba_wanted ]]; then
        "$@"
    else
        \builtin eval '\builtin printf "%s\n" "aba-lock: cannot load $__aba_file: it cannot be read, or has another version than $__aba_wanted" "hint: restart the script" >&2
__aba_version=$__aba_wanted
[[ -z ${__aba_loaded-} && $* != *_lock_op* ]] || \exit 125
\return 125'
        \exit 125
    fi
}
case ${BASH_VERSINFO-} in ?*) \return 0 2>&- ;; *) ;; esac
case ${BASH_VERSINFO-} in
    '')
        eval '__aba_call() {
echo "aba-lock: $1 works only in bash
hint: use \`eval \"\$(aba-lock init sh)\"\`, or \`init zsh\` in zsh" >&2
[ "${-#*i}" != "$-" ] || \exit 125
\return 125
}
aba_lock_operation() { __aba_call aba_lock_operation; }
aba_unlock_operation() { __aba_call aba_unlock_operation; }
(__aba_call aba-lock.bash)'
        return 125
        ;;
    *) ;;
esac

# The installed library: `make install` installs this file as share/aba-lock/aba-lock.bash, and the whole library, shell/aba-lock.bash,
# as aba-lock-whole.bash next to it. Scripts source this file. Bash reads all of a file, but parses only the commands before a
# `return`, so a script that only locks neither reads nor parses the whole library. This file loads the other one at once in bash
# before 4.1, in an interactive shell, with aliases or `set -o posix`, and if the script has sourced it with a relative path. With
# ABA_LOCK_BUILTIN, aba-lock-builtin.bash defines the functions that lock and unlock.
#
# To parse the code costs most of the time, and bash also copies each function twice when it is defined, and once for each call.
# So this file has no comments before its end and few names, and code that most scripts do not need is in quotes. A local variable
# costs ten times as much as a global one. docs/performance.md has the numbers.
#
# aba_lock_operation acquires one lock without options, if nothing is unusual: the script holds no lock yet, or has inherited
# this lock and no other one; no subshell, no variable that changes the call, the usual IFS, a lock file that exists, and
# descriptor 200 is free. aba_unlock_operation releases this lock. Both call the helper, and have the effects of the functions
# with the same names in the whole library: a change there may be needed in both. For all other calls, __aba_call loads the
# fast part of the whole library if the call is one of these two, and otherwise all of it, and calls the function again.
#
# The whole library sets __aba_scope when it acquires a lock of all users.
#
# A lock file in a directory that the helper does not know, because the script has set HOME without exporting it, is refused by the
# helper with 76. Then __aba_resume closes the file and calls the whole function, as after other failures. Before bash 4.4, the same
# happens if the script has set ABA_LOCK_DIR without exporting it. Later versions export it here, if it is not exported: see
# __aba_export in the whole library. (`${NAME@a}` is a syntax error for yash, which reads all of a function.)
#
# A trap handler can run between any two commands, and lock and unlock others: see "Trap handlers" in the whole library.
# If it has locked another file since aba_lock_operation has set __aba_p, __aba_p is empty, and `exec` fails. __aba_locks and
# ABA_LOCK_FDS change in one command, which expands their present values. During a release, __aba_fds is set, so that a release by a
# handler is left to the whole library.
#
# While __aba_call loads the whole library, __aba_wanted is the version of this file: see there. If __aba_part is the same, the
# fast part of the whole library is enough. Both are empty after a success. Stubs in both files call __aba_call with the name of
# the function, so that a call by a trap handler finds it, whichever file is being loaded. __aba_wanted is local to
# __aba_call, because a load by a trap handler then changes its own, and the interrupted one still loads what it needs. `local` has no
# value, because `set -k` would remove it.
