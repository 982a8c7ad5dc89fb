#!/usr/bin/env bats
# `aba_lock_operation --coalesce`: a script ends if another caller already waits.
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2154 # set by bats

load helper

# Writes the script `job`, whose run adds a line to the file `runs`. Its arguments are options.
write_job() {
    script job <<'END'
trap 'echo "exit $?" >>exits' EXIT
aba_lock_operation --coalesce --quiet "$@" save
echo run >>runs
END
    : >runs
    : >exits
}

# Usage: start_waiter [OPTION]...: starts a job that waits.
start_waiter() {
    start ./job "$@"
    until_true is_waited_for save
}

is_owed() {
    [[ $(aba-lock status --json save) == *'"owed": true'* ]]
}

@test "of many scripts during a run exactly one more runs, and the others end with status 0" {
    write_job
    start_holder save
    local holder=${STARTED_PID}
    start_waiter
    local waiter=${STARTED_PID}
    for _ in {1..10}; do
        run -0 ./job
        expect_silence
    done
    [[ $(sort exits | uniq -c) == *'10 exit 0' && ! -s runs ]]
    let_go
    expect_end 0 "${holder}"
    expect_end 0 "${waiter}"
    [[ $(<runs) == run ]]
}

@test "a covered script gets status 80 with --on-conflict return, and never 0 without the lock" {
    write_job
    script caller <<'END'
if aba_lock_operation --coalesce --on-conflict return save; then
    exit 20
fi
aba_lock_operation --coalesce --on-conflict return --quiet save
[[ $? == 80 ]] || exit 21
aba_lock_held save && exit 22
[[ -z ${ABA_LOCK_FDS-}${__aba_locks}${__aba_pending} ]] || exit 23
{ true <&200; } 2>/dev/null && exit 24
ABA_LOCK_ON_CONFLICT=return aba_lock_operation --quiet --coalesce save
[[ $? == 80 ]] || exit 25
# In a subshell, only that ends.
(aba_lock_operation --coalesce --quiet save; exit 26) || exit 27
aba_lock_operation other
echo after
END
    start_holder save
    local holder=${STARTED_PID}
    start_waiter
    local waiter=${STARTED_PID}
    run -0 ./caller
    [[ ${output} == 'aba-lock: save: not run: pid '*') waits for the lock and starts after this call'$'\nafter' ]]
    # It names the script, and not its helper.
    expect_text "not run: pid ${waiter} ("
    run -0 aba-lock status save
    expect_text "next run: pid ${waiter} runs also for calls that have ended"
    let_go
    expect_end 0 "${holder}"
    expect_end 0 "${waiter}"
}

@test "a script runs if the lock is free, and a nested call does as well" {
    script outer <<'END'
aba_lock_operation --coalesce save || exit 20
aba_lock_operation --coalesce save || exit 21
bash -c 'source "${LIBRARY}"; aba_lock_operation --coalesce save && echo nested' || exit 22
aba_unlock_operation save || exit 23
aba_lock_operation --no-inherit --coalesce save && aba_lock_held save && echo bound
END
    run -0 ./outer
    [[ ${output} == $'nested\nbound' ]]
}

@test "a script with --no-inherit or --max-time is covered, and covers others" {
    local option
    write_job
    for option in --no-inherit --max-time=1000; do
        : >runs
        start_holder save
        local holder=${STARTED_PID}
        start_waiter "${option}"
        local waiter=${STARTED_PID}
        run -0 ./job "${option}"
        run -0 aba-lock status save
        expect_text "next run: pid ${waiter} runs also for calls that have ended"
        let_go
        expect_end 0 "${holder}"
        expect_end 0 "${waiter}"
        [[ $(<runs) == run ]] || return 1
        until_true is_free save
    done
}

@test "the run of a script that was killed while it waited is owed until the next call" {
    write_job
    start_holder save
    local holder=${STARTED_PID}
    start_waiter
    run -0 ./job
    kill -KILL "${STARTED_PID}"
    until_true is_owed
    let_go
    expect_end 0 "${holder}"
    is_owed
    script plain <<'END'
aba_lock_operation save
END
    run -0 ./plain
    is_owed
    run -0 ./job
    [[ $(<runs) == run ]]
    run ! is_owed
}

@test "a waiting script that handles a signal goes on to wait, and its run still covers the others" {
    script handler <<'END'
trap 'echo usr1 >>signals' USR1
aba_lock_operation --coalesce --quiet save
echo run >>runs
END
    write_job
    start_holder save
    local holder=${STARTED_PID}
    start ./handler
    local waiter=${STARTED_PID}
    until_true is_waited_for save
    run -0 ./job
    kill -USR1 "${waiter}"
    until_true test -s signals
    until_true is_waited_for save
    run -0 ./job
    run ! is_owed
    let_go
    expect_end 0 "${holder}"
    expect_end 0 "${waiter}"
    [[ $(<runs) == run ]]
}

@test "no script relies on one with a timeout, and --nonblock refuses if none waits" {
    write_job
    start_holder save
    local holder=${STARTED_PID}
    run -1 ./job --nonblock
    run -1 ./job --timeout 0.1
    start_waiter --timeout 1000
    local timed=${STARTED_PID}
    run -1 ./job --nonblock
    start ./job
    local waiter=${STARTED_PID}
    until_true eval '[[ $(grep -c -- "-> FLOCK .*:$(stat -c %i "${ABA_LOCK_DIR}/aba-save.lock") " /proc/locks) == 2 ]]'
    run -0 ./job --nonblock
    run -0 ./job --timeout 1000
    let_go
    expect_end 0 "${holder}"
    expect_end 0 "${timed}"
    expect_end 0 "${waiter}"
    [[ $(<runs) == run ]]
}

@test "combinations of --coalesce without a clear meaning are wrong usage" {
    local option
    script bad <<'END'
aba_lock_operation "$@" save
echo not reached
END
    for option in --shared --slots=2 other --server=etcd://h:1 --coalesce=strict; do
        run -2 ./bad --coalesce "${option}"
        expect_text coalesce
    done
    run -2 ./bad --coalesce=strict
    expect_text 'aba_lock_operation: --coalesce=strict needs a command: its exit status shows that a run has succeeded'
}

@test "an interactive shell gets status 80" {
    write_job
    start_holder save
    local holder=${STARTED_PID}
    start_waiter
    local waiter=${STARTED_PID}
    run -0 bash --norc -i -c 'source "${LIBRARY}"; aba_lock_operation --quiet --coalesce save; echo "status $?"'
    expect_text 'status 80'
    let_go
    expect_end 0 "${holder}"
    expect_end 0 "${waiter}"
}
