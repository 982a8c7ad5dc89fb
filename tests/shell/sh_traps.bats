#!/usr/bin/env bats
# Traps during calls of the libraries for sh and zsh, before each of their commands.

load helper

setup() {
    shared_setup
    export SH_LIBRARY=${PROJECT}/shell/aba-lock.sh ZSH_LIBRARY=${PROJECT}/shell/aba-lock.zsh
}

# Makes `interrupted`: runs `call` once for each of its commands, with `handle` before that command, and then `check`. A handler of
# DEBUG runs where one of a signal can.
make_interrupted_sh_tool() {
    cat >interrupted <<'END'
interrupt() {
    [ "${BASH_SUBSHELL-}${ZSH_SUBSHELL-}" = 0 ] || return 0
    count=$((count + 1))
    [ "$count" = "$step" ] || return 0
    stop
    handle
}
handle() {
    handled=yes
    aba_lock_detach exec "$PWD/lister" || failed="$failed detach"
    aba_lock_detach succeed || failed="$failed function"
    {
        aba_run_once -i task -- true
        aba_reserve
        aba_update f.txt cat
        aba_lock_doctor
    } >answers
    # A command substitution for each answer would be a process more.
    { read -r task && read -r number && read -r file && read -r report; } <answers || failed="$failed answers"
    [ "$task $number $file $report" = 'run-once reserve update doctor' ] || failed="$failed $task $number $file $report"
}
succeed() { true; }
step=1
while :; do
    count=0 failed='' handled=''
    start
    call || failed="$failed call"
    stop
    [ -n "$handled" ] || break
    check || failed="$failed check"
    [ -z "$failed" ] || { echo "before command $step:$failed; locks $__aba_locks"; exit 1; }
    step=$((step + 1))
done
[ "$step" -gt 50 ] || echo "only $step commands"
END
    printf '#!/bin/sh\ncase $1 in run-once | reserve | update | doctor) echo "$1" ;; *) exec "%s" "$@" ;; esac\n' "${ABA_LOCK_BIN}" >helper
    printf '%s\n' '#!/bin/sh' 'for fd in /proc/self/fd/*; do [ ! "$fd" -ef "$ABA_LOCK_DIR/aba-save.lock" ] || exit 1; done' >lister
    chmod +x helper lister
    # The functions search for the helper, too.
    mkdir bin
    mv helper bin/aba-lock
    unset ABA_LOCK_BIN
    PATH=/nowhere:${PWD}/bin:${PATH}
}

# Usage: interrupt_each_sh_command CALL CHECK [PREPARE]
interrupt_each_sh_command() {
    make_interrupted_sh_tool
    printf '%s\n' "call() { $1; }" "check() { $2; }" "${3-}" >calls
    printf '%s\n' '. "$SH_LIBRARY"' 'start() { set -T; trap interrupt DEBUG; }' 'stop() { trap - DEBUG; set +T; }' \
        '. ./calls' '. ./interrupted' >tool
    run -0 timeout 240 bash --posix ./tool
    expect_silence
    printf '%s\n' 'source "$ZSH_LIBRARY"' 'start() { trap interrupt DEBUG; }' 'stop() { trap - DEBUG; }' \
        'source ./calls' 'source ./interrupted' >tool
    run -0 timeout 240 zsh ./tool
    expect_silence
}

@test "in sh and zsh, a trap can call the functions that lock nothing while a lock is acquired" {
    interrupt_each_sh_command 'aba_lock_operation save' 'aba_lock_held save && aba_unlock_operation save && ! aba_lock_held save'
}

@test "in sh and zsh, a trap can call the functions that lock nothing while locks are queried and detached" {
    interrupt_each_sh_command 'aba_lock_held save && (aba_lock_detach ./lister) && ! aba_lock_held load' 'aba_lock_held save' \
        'aba_lock_operation save'
}
