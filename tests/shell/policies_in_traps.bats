#!/usr/bin/env bats
# `aba_lock_operation` with --coalesce, --replace and --priority in trap handlers, outside of a call of the library and during one.
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2154 # set by bats

load helper

# Starts a holder of lock $1, and a script that waits for the next run.
start_covering_waiter() {
    start_holder "$1"
    HOLDER=${STARTED_PID}
    script waiter <<END
aba_lock_operation --coalesce --quiet $1
END
    start ./waiter
    WAITER=${STARTED_PID}
    until_true is_waited_for "$1"
}

end_covering_waiter() {
    let_go
    expect_end 0 "${HOLDER}"
    expect_end 0 "${WAITER}"
}

@test "in every trap handler, a call that another one covers gets status 80, or ends the script with status 0" {
    start_covering_waiter save
    in_handlers 'status=0
aba_lock_operation --quiet --coalesce --on-conflict return save || status=$?
echo "status $status"
status=0
aba_lock_held save || status=$?
echo "held $status"' $'status 80\nheld 1'
    in_handlers 'aba_lock_operation --quiet --coalesce save
echo "not reached"' '' 0
    end_covering_waiter
}

@test "in every trap handler, --coalesce and --priority acquire a free lock and release it" {
    in_handlers 'for option in --coalesce --priority=high --priority=normal --priority=low; do
    for call in "aba_lock_operation --on-conflict return $option save" "aba_lock_held save" "aba_unlock_operation save"; do
        status=0
        $call || status=$?
        printf %s "$status"
    done
done
[[ ! -e /dev/fd/200 ]] || echo "FD 200 is open"' 000000000000
}

@test "in every trap handler, --replace ends the holder and acquires the lock" {
    local scene
    for scene in "${HANDLER_SCENES[@]}"; do
        start_holder save
        run_in_handler "${scene}" 'for call in "aba_lock_operation --quiet --replace --on-conflict return save" "aba_lock_held save" \
    "aba_unlock_operation save"; do
    status=0
    $call || status=$?
    printf %s "$status"
done' 000
        until_true has_ended "${STARTED_PID}"
        is_free save
    done
}

@test "in every trap handler, a call with a priority waits until the holder ends" {
    local scene holder helper
    for scene in "${HANDLER_SCENES[@]}"; do
        start_holder save
        holder=${STARTED_PID}
        { until_true is_waited_for save && let_go; } 3>&- 4>&- &
        helper=$!
        run_in_handler "${scene}" 'status=0
aba_lock_operation --quiet --wait --priority high --on-conflict return save || status=$?
echo "status $status"' 'status 0'
        wait "${helper}"
        expect_end 0 "${holder}"
    done
}

@test "the handler of a holder that is replaced may call the library" {
    local handler
    for handler in 'aba_lock_operation --coalesce load' 'aba_lock_operation --replace load' 'aba_lock_operation --priority low load' \
        'aba_lock_operation --replace save' 'aba_lock_operation --coalesce save' 'aba_unlock_operation save'; do
        rm -f status
        script holder <<END
trap 'status=0; ${handler} || status=\$?; echo "\${status}" >status; exit 7' TERM
aba_lock_operation save
hold
END
        start ./holder
        until_ready >/dev/null
        script newest <<'END'
# The handler has enough time, also on a slow machine.
aba_lock_operation --quiet --replace --grace 60 save
aba_lock_held save && echo mine
END
        run -0 ./newest
        [[ ${output} == mine ]]
        expect_end 7
        [[ $(<status) == 0 ]]
    done
}

@test "a handler that interrupts a call may replace a holder, and both locks are held after that" {
    start_holder load
    make_signalling_helper
    script tool <<'END'
trap 'aba_lock_operation --quiet --replace load' USR1
ABA_LOCK_BIN=${PWD}/helper
aba_lock_operation save
aba_lock_held save && aba_lock_held load && echo "held on ${ABA_LOCK_FDS}"
END
    run -0 timeout "${PATIENCE}" ./tool
    [[ ${output} == 'held on 200 201' || ${output} == 'held on 201 200' ]]
    until_true has_ended "${STARTED_PID}"
}

@test "a covered call in a handler that interrupts another call ends the script with status 0" {
    start_covering_waiter load
    make_signalling_helper
    script tool <<'END'
trap 'aba_lock_operation --quiet --coalesce load' USR1
ABA_LOCK_BIN=${PWD}/helper
aba_lock_operation save
echo 'not reached'
END
    run -0 timeout "${PATIENCE}" ./tool
    expect_silence
    is_free save
    end_covering_waiter
}

@test "a covered call in a handler between any two commands of an acquisition changes no other lock" {
    start_covering_waiter load
    interrupt_each_command 'aba_lock_operation other' 'aba_lock_operation save' \
        'status=0; aba_lock_operation -q --coalesce --on-conflict return load || status=$?; [[ ${status} == 80 ]] || echo "status ${status}"' \
        '! free save && ! free other && inherited save other && aba_unlock_operation save && free save &&
        aba_unlock_operation other && free other && inherited'
    end_covering_waiter
}

# Usage: acquire_in_handlers OPTION: both the script and the handler acquire a lock with this option.
acquire_in_handlers() {
    interrupt_each_command 'aba_lock_operation other' "aba_lock_operation $1 save" "aba_lock_operation $1 load" \
        '! free save && ! free load && inherited save load other && aba_unlock_operation load && free load &&
        aba_unlock_operation save && free save && aba_unlock_operation other && free other && inherited'
}

@test "a handler between any two commands of an acquisition with --coalesce may acquire another lock with it" {
    acquire_in_handlers --coalesce
}

@test "a handler between any two commands of an acquisition with --replace may acquire another lock with it" {
    acquire_in_handlers --replace
}

@test "a handler between any two commands of an acquisition with --priority may acquire another lock with it" {
    acquire_in_handlers --priority=low
}
