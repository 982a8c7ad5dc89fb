#!/usr/bin/env bats
# The answers that need to know which process holds a lock. On other systems than Linux, they come from other sources: run this file with
# the helper of a build with `--cfg aba_portable`, too (CONTRIBUTING.md).

load helper

@test "a child is granted the lock of its parent, with and without the list of descriptors" {
    script parent <<'END'
aba_lock_operation save
bash -c 'source "$LIBRARY"; aba_lock_operation --on-conflict return save; echo "listed $?"'
timeout "$PATIENCE" aba-lock lock save -- echo nested
env -u ABA_LOCK_FDS timeout "$PATIENCE" aba-lock lock save -- echo unlisted
END
    run -0 ./parent
    expect_text 'listed 0'
    expect_text nested
    expect_text unlisted
}

@test "a lock that is released and acquired again by another script is not that of the child" {
    script other <<'END'
aba_lock_operation save
hold
END
    script parent <<'END'
aba_lock_operation save
exec 9<&200
aba-lock unlock --fd 200 save
setsid ./other 3>&- 9>&- 200>&- &
read -r -t "$PATIENCE" _ <ready
status=0
ABA_LOCK_FDS=9 aba-lock lock -n save -- true || status=$?
echo "child: $status"
echo >go
wait
END
    run -0 ./parent
    expect_text 'child: 75'
}

@test "an orphan is refused the lock that its parent left on a shared descriptor" {
    script parent <<'END'
aba_lock_operation save
(
    read -r -t "$PATIENCE" _ <go
    status=0
    aba-lock lock -n save -- true || status=$?
    echo "$status" >result
    ready
) &
END
    start ./parent
    expect_end 0
    let_go
    until_ready
    run -0 cat result
    expect_text 75
}

@test "status names the holder and its mode, and says when the lock is free" {
    start_holder save
    run -0 aba-lock status save
    expect_text "held, exclusive"
    expect_text "pid ${STARTED_PID}, "
    run -1 aba-lock status other
    let_go
    expect_end 0
    run -1 aba-lock status save
    script sharer <<'END'
aba_lock_operation --shared save
hold
END
    start ./sharer
    until_ready
    run -0 aba-lock status save
    expect_text "held, shared"
    expect_text "pid ${STARTED_PID}, "
}

@test "a script knows which of its locks it holds" {
    script asker <<'END'
aba_lock_operation save
aba_lock_operation --shared read
aba_lock_held save && aba_lock_held read || exit 91
aba-lock status --fd 200 save || exit 92
aba_unlock_operation save
aba_lock_held save && exit 93
aba_lock_held read || exit 94
exec 9<>"$ABA_LOCK_DIR/aba-save.lock"
aba-lock status --fd 9 save && exit 95
exit 0
END
    run -0 ./asker
}

@test "a holder that writes no record is not mistaken for the one before it" {
    start_holder save
    local before=${STARTED_PID}
    let_go
    expect_end 0
    start_flock save
    run -0 aba-lock status save
    expect_text "held, exclusive"
    [[ ${output} != *"  acquired by pid ${before},"* ]]
    run -75 aba-lock lock -n save -- true
    # A lock that no record names.
    start_flock other
    run -75 aba-lock lock -n other -- true
    expect_text 'sleep 1000'
}

@test "a second call for a shared lock is granted, and one for an exclusive lock is refused" {
    script asker <<'END'
aba_lock_operation --shared read
aba_lock_operation --shared read || exit 91
status=0
aba_lock_operation --on-conflict return read || status=$?
aba_lock_held read || exit 92
echo "status $status"
END
    run -0 ./asker
    expect_text 'cannot become exclusive'
}

@test "wait ends when the holder ends" {
    start_holder save
    local holder=${STARTED_PID}
    start aba-lock wait save
    let_go
    expect_end 0
    expect_end 0 "${holder}"
}

# Prints the status of an option that only Linux has: 125 if the helper is for another system.
status_for_linux() {
    if aba-lock doctor | grep -q ' /proc: '; then echo 0; else echo 125; fi
}

@test "--no-inherit and flock --fcntl are refused with their names where only Linux has them" {
    local expected
    expected=$(status_for_linux)
    script holder <<'END'
aba_lock_operation --no-inherit --on-conflict return save
END
    run "-${expected}" ./holder
    if ((expected)); then
        expect_text 'aba-lock: cannot use --no-inherit: it needs Linux'
        expected=65
    fi
    run -1 aba-lock status save
    run "-${expected}" aba-lock flock --fcntl file true
    if ((expected)); then
        expect_text 'flock: cannot use --fcntl: it needs Linux'
        [[ ! -e file ]]
        run -65 aba-lock flock --fcntl 9 9<>other
        expect_text 'flock: cannot use --fcntl: it needs Linux'
    fi
}

@test "a script that takes the place of the holder with exec releases the lock, even if a child inherited it" {
    script first <<'END'
aba_lock_operation save
sleep 1000 &
exec ./second
END
    script second <<'END'
(aba_unlock_operation save) # a subshell is another process
aba_lock_held save || exit 91
bash -c 'source "$LIBRARY"; aba_unlock_operation save' || exit 92
aba_lock_held save || exit 93
aba_unlock_operation save || exit 94
aba_lock_held save && exit 95
ready
END
    start ./first
    until_ready
    expect_end 0
    run -0 aba-lock lock -n save -- true
}

@test "an option that this system cannot have is refused before the lock is acquired" {
    local option expected
    expected=$(status_for_linux)
    for option in '--slots 2' '--coalesce' '--replace' '--priority high' '--max-time 1m' "--fcntl --file ${PWD}/file"; do
        local name=save
        [[ ${option} != *--file* ]] || name=''
        run "-${expected}" aba-lock lock ${option} ${name} -- echo ran
        if ((expected)); then
            expect_text "aba-lock: cannot use ${option%% *}: it needs Linux"
            [[ ${output} != *ran* ]]
        fi
    done
}

@test "unlock --kill ends the holder and no waiter" {
    start_holder save
    local holder=${STARTED_PID}
    script waiter <<'END'
aba_lock_operation --wait save
hold
END
    start ./waiter
    until_true is_waited_for save
    run -0 aba-lock unlock save --kill
    expect_text "pid ${holder} "
    [[ ${output} != *"ended pid ${STARTED_PID}"* ]]
    until_ready
    kill -0 "${STARTED_PID}"
}

@test "a child that keeps the lock of a script that was killed is named" {
    script parent <<'END'
aba_lock_operation save
sleep 1000 &
hold "$!"
END
    start ./parent
    local child
    child=$(until_ready)
    kill -KILL "${STARTED_PID}"
    run -0 aba-lock status save
    expect_text "pid ${child}, "
}
