#!/usr/bin/env bats
# `aba_lock_operation --priority`: scripts that wait with a higher priority get the lock first.
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2154 # set by bats

load helper

# Writes the script `job`, which adds its first argument to the file `order` while it holds the lock. The others are options.
write_job() {
    script job <<'END'
word=$1
shift
aba_lock_operation --quiet --wait "$@" save
echo "${word}" >>order
END
    : >order
}

# Usage: start_waiter NUMBER WORD [OPTION]...: starts a job, and waits until NUMBER processes wait.
start_waiter() {
    local number=$1
    shift
    start ./job "$@"
    until_true has_waiters "${number}"
}

has_waiters() {
    [[ $(aba-lock status --json save | grep -c '"priority": ') == "$1" ]]
}

@test "a script with a higher priority gets the lock before those that came earlier" {
    write_job
    start_holder save
    local holder=${STARTED_PID} pids=()
    start_waiter 1 low --priority low
    pids+=("${STARTED_PID}")
    start_waiter 2 normal
    pids+=("${STARTED_PID}")
    start_waiter 3 high --priority=high
    pids+=("${STARTED_PID}")
    let_go
    expect_end 0 "${holder}"
    local pid
    for pid in "${pids[@]}"; do
        expect_end 0 "${pid}"
    done
    [[ $(<order) == $'high\nnormal\nlow' ]]
}

@test "a free lock is acquired with each priority, and a nested call keeps it" {
    script job <<'END'
for level in high normal low; do
    aba_lock_operation --priority "${level}" save || exit 20
    aba_lock_operation --priority low save || exit 21
    aba_lock_held save || exit 22
    aba_unlock_operation save || exit 23
done
aba_lock_operation --shared --priority low save one two || exit 24
END
    run -0 ./job
    expect_silence
}

@test "options that cannot be used with --priority are refused, and leave no descriptor open" {
    script job <<'END'
aba_lock_operation --on-conflict return "$@"
status=$?
{ true <&200; } 2>/dev/null && exit 20
exit "${status}"
END
    local options
    for options in '--priority urgent save' '--priority low --slots 2 save' '--priority low --priority high save' \
        '--priority low --server https://127.0.0.1:1 save' '--priority'; do
        # shellcheck disable=SC2086 # several words
        run -2 ./job ${options}
    done
}
