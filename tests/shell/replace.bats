#!/usr/bin/env bats
# `aba_lock_operation --replace`: the newest script ends the one that holds the lock.
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2154 # set by bats

load helper

# Returns 0 if a caller waits for the end of an earlier one with a ticket.
is_second_waiting() {
    local inode
    inode=$(stat -c %i "${ABA_LOCK_DIR}/aba-save.lock")
    grep -q -- "-> OFDLCK .*:${inode} " /proc/locks
}

@test "a new script ends the one that holds the lock, with its children, and goes on" {
    local old option
    for option in '' --replace --no-inherit; do
        script holder <<END
trap 'echo cleaned >cleaned; exit 7' TERM
aba_lock_operation ${option} save
sleep 1000 &
echo \$! >child
hold
END
        start ./holder
        old=${STARTED_PID}
        until_ready >/dev/null
        script newest <<'END'
# The holder has enough time, also on a slow machine.
aba_lock_operation --replace --grace 60 save
aba-lock status save | grep "  pid $$," >status
echo mine
END
        run -0 ./newest
        expect_text "aba-lock: ended pid ${old} ("
        expect_text mine
        grep -q 'pid' status
        [[ ${option} == --no-inherit ]] || until_true has_ended "$(<child)"
        until_true has_ended "${old}"
        [[ -e cleaned ]]
        grep -q 'aba-lock: save: replaced by pid .*: sending SIGTERM, and SIGKILL after 1m' output
        rm cleaned output
    done
}

@test "an earlier script ends as after a conflict when a newer one comes" {
    script holder <<'END'
trap '' TERM
aba_lock_operation save
hold
END
    start ./holder
    until_ready >/dev/null
    # It waits until `let_go`, and not for a time.
    script earlier <<'END'
aba_lock_operation --replace --grace 1000 --on-conflict return save
echo "status $?"
aba_lock_held save || echo 'not held'
END
    start ./earlier
    local earlier=${STARTED_PID}
    until_true grep -q 'replaced by pid' output
    script newest <<'END'
aba_lock_operation --replace save
echo newest
END
    start ./newest
    until_true is_second_waiting
    let_go
    until_true grep -q '^newest$' output
    until_true has_ended "${earlier}"
    grep -q '^aba-lock: gave up save: a newer call with --replace takes it$' output
    grep -q '^status 1$' output
    grep -q '^not held$' output
}

@test "a script that has started this one is never ended" {
    script outer <<'END'
aba_lock_operation --no-inherit save
./inner
echo "inner: $?"
END
    script inner <<'END'
aba_lock_operation --replace save
echo 'not reached'
END
    run -0 ./outer
    expect_text 'aba-lock: refused to replace the holder of save: the script that calls this command, or a process that started it, holds the lock'
    expect_text 'inner: 1'
    [[ ${output} != *'not reached'* ]]
    # A lock that this script holds already is shared with it.
    script again <<'END'
aba_lock_operation save
aba_lock_operation --replace save && echo again
END
    run -0 ./again
    expect_text again
}

@test "--replace is bound to the script with --no-inherit, and released by aba_unlock_operation" {
    script bound <<'END'
aba_lock_operation --replace --no-inherit save
aba-lock status save | grep -q "pid $$," && echo bound
aba_unlock_operation save
aba-lock status save || true
END
    run -0 ./bound
    expect_text bound
    expect_text 'save: free'
}

@test "options that have no clear meaning with --replace are refused, and nothing is locked" {
    script refused <<'END'
aba_lock_operation --replace "$@"
echo 'not reached'
END
    run -2 ./refused -n save
    expect_text 'aba_lock_operation: --replace cannot be used with --nonblock: the end of a holder takes time'
    run -2 ./refused save other
    expect_text 'aba_lock_operation: --replace takes one name: '
    run -2 ./refused --shared save
    run -2 ./refused --slots 2 save
}
