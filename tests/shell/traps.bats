#!/usr/bin/env bats
# The library in a trap handler. There, bash gives a bare `return` the status from before the trap.

load helper

@test "in every trap handler, a lock that another process holds is refused with the documented status" {
    start_flock save
    in_handlers 'status=0
aba_lock_operation --quiet --on-conflict return save || status=$?
echo "status $status"' 'status 1'
    in_handlers 'status=0
aba_lock_operation --quiet --on-conflict warn save 2>/dev/null || status=$?
echo "status $status"' 'status 3'
    in_handlers 'status=0
aba_lock_operation --quiet --on-conflict return -t 0.01 save || status=$?
echo "status $status"
aba_lock_held save || status=$?
echo "held $status"' $'status 1\nheld 1'
}

@test "in every trap handler, a free lock is acquired and released" {
    in_handlers 'status=0
aba_lock_operation --on-conflict return save || status=$?
echo "status $status"
aba_lock_held save || status=$?
echo "held $status"
aba_unlock_operation save || status=$?
echo "unlocked $status"
[[ ! -e /dev/fd/200 ]] || echo "FD 200 is open"' $'status 0\nheld 0\nunlocked 0'
}

@test "in every trap handler, wrong usage and a missing helper have the documented statuses" {
    in_handlers 'status=0
aba_lock_operation --on-conflict return --no-such-option save 2>/dev/null || status=$?
echo "$status"
aba_lock_operation --on-conflict return 2>/dev/null || status=$?
echo "$status"
aba_lock_held 2>/dev/null || status=$?
echo "$status"
aba_unlock_operation save 2>/dev/null || status=$?
echo "$status"' $'2\n2\n2\n1'
    in_handlers 'ABA_LOCK_BIN=/nowhere/aba-lock
for call in "aba_lock_operation --on-conflict return save" "aba_lock_held save" "aba_lock_check save" "aba_run_once -i x -- true" \
    "aba_update f true" aba_reserve aba_lock_doctor; do
    status=0
    $call 2>/dev/null || status=$?
    echo "$status"
done' $'125\n125\n125\n125\n125\n125\n125'
}

@test "in every trap handler, the status of a command is passed on" {
    echo old >file
    in_handlers 'status=0
aba_run_once -q -w -i "task.$$" -- sh -c "exit 7" || status=$?
echo "$status"
aba_update file sh -c "exit 8" 2>/dev/null || status=$?
echo "$status"
aba_reserve -- sh -c "exit 9" || status=$?
echo "$status"
aba_lock_detach sh -c "exit 10" || status=$?
echo "$status"
(aba_lock_detach sh -c "exit 11") || status=$?
echo "$status"
source "$PROJECT/shell/run_once.bash"
run_once -q -w -S -i "other.$$" -- sh -c "exit 12" >/dev/null || status=$?
echo "$status"
ABA_LOCK_BIN=/nowhere/aba-lock run_once -w -i "other.$$" -- true 2>/dev/null || status=$?
echo "$status"' $'7\n8\n9\n10\n11\n12\n125'
}

@test "a handler that interrupts a call is refused the lock of that call, which keeps it" {
    make_signalling_helper
    script tool <<'END'
trap 'aba_lock_operation -q --on-conflict return save || echo "refused with $?"; aba_unlock_operation save 2>&1' USR1
ABA_LOCK_BIN=${PWD}/helper
aba_lock_operation "$@" save
aba_lock_held save && echo "held on ${ABA_LOCK_FDS}"
END
    run -0 timeout "${PATIENCE}" ./tool
    [[ ${output} == $'refused with 1\naba-lock: nothing to release: this script holds no lock on save\nheld on 200' ]]
}

@test "a lock that a handler acquires during a call is handed down to the commands of the script" {
    make_signalling_helper
    script tool <<'END'
trap 'aba_lock_operation load' USR1
ABA_LOCK_BIN=${PWD}/helper
aba_lock_operation "$@" save
"$BASH" -c 'source "$LIBRARY"; aba_lock_operation save && aba_lock_operation load && echo granted'
END
    for options in '' --quiet; do
        rm -f sent
        run -0 timeout "${PATIENCE}" ./tool ${options}
        [[ ${output} == granted ]]
    done
}

@test "a lock that a handler acquires during the release of another one stays known" {
    make_signalling_helper
    script tool <<'END'
trap "$1" USR1
aba_lock_operation save
ABA_LOCK_BIN=${PWD}/helper
aba_unlock_operation
"$BASH" -c 'source "$LIBRARY"; aba_lock_operation load && echo granted'
aba_unlock_operation load && echo "unlocked ${ABA_LOCK_FDS-all}"
END
    for handler in 'aba_lock_operation load' 'aba_lock_operation --quiet load' 'aba_unlock_operation; aba_lock_operation load'; do
        rm -f sent
        run -0 timeout "${PATIENCE}" ./tool "${handler}"
        [[ ${output} == $'granted\nunlocked all' ]]
    done
}

@test "a handler between any two commands of an acquisition may acquire another lock" {
    interrupt_each_command 'aba_lock_operation other' 'aba_lock_operation save' 'aba_lock_operation load' \
        '! free save && ! free load && inherited save load other && aba_unlock_operation load && free load &&
        aba_unlock_operation save && free save && aba_unlock_operation other && free other && inherited'
}

@test "a handler between any two commands of a release may acquire another lock" {
    interrupt_each_command 'aba_lock_operation save' 'aba_unlock_operation save' 'aba_lock_operation load' \
        'free save && ! free load && inherited load && aba_lock_operation save && ! free save && inherited save load &&
        aba_unlock_operation load && free load && aba_unlock_operation save && free save && [[ -z ${ABA_LOCK_FDS+"."} ]]'
}

@test "a handler between any two commands of an acquisition may release other locks" {
    local handler
    for handler in 'aba_lock_operation load && aba_unlock_operation load' \
        'aba_unlock_operation other && aba_lock_operation load && aba_lock_operation other && aba_unlock_operation load'; do
        interrupt_each_command 'aba_lock_operation other' 'aba_lock_operation save' "${handler}" \
            '! free save && free load && ! free other && inherited save other && aba_lock_operation other && inherited save other &&
            aba_unlock_operation save && free save && aba_unlock_operation other && free other && inherited'
    done
}

@test "a handler between any two commands of a release may release other locks" {
    interrupt_each_command 'aba_lock_operation save' 'aba_unlock_operation save' 'aba_lock_operation load && aba_unlock_operation load' \
        'free save && free load && inherited && aba_lock_operation save && ! free save && inherited save &&
        aba_unlock_operation save && free save && [[ -z ${ABA_LOCK_FDS+"."} ]]'
    interrupt_each_command 'aba_lock_operation other; aba_lock_operation save' 'aba_unlock_operation save' \
        'aba_unlock_operation other && aba_lock_operation load && aba_lock_operation other && aba_unlock_operation load' \
        'free save && free load && ! free other && inherited other && aba_lock_operation save && ! free save &&
        inherited save other && aba_unlock_operation save && aba_unlock_operation other && free other && inherited'
}

@test "a handler that loads the library between any two commands of a failed call does not change its status" {
    aba-lock lock save load -- true
    start_flock save
    cat >tool <<'END'
source "$1"
step=$2 handler=$3 count=0
interrupt() {
    [[ -z ${__aba_loaded-} ]] && ((BASH_SUBSHELL == 0 && ++count == step)) || return 0
    trap - DEBUG
    at=${BASH_COMMAND}
    eval "${handler}"
    echo "before ${at}" >interrupted
}
set -o functrace
trap interrupt DEBUG
aba_lock_operation --on-conflict=return save || exit "$?"
END
    sed 's/ --on-conflict=return//; s/ || exit.*//' tool >plain
    local file call handler every=${INTERRUPT_EVERY:-1}
    for file in "${LIBRARY}" "${WHOLE_LIBRARY}"; do
        for call in plain tool; do
            for handler in 'aba_lock_operation load' 'aba_lock_held load || true'; do
                for ((step = 1; step < 200; step += every)); do
                    rm -f interrupted
                    run bash ./"${call}" "${file}" "${step}" "${handler}"
                    [[ -e interrupted ]] || break
                    if [[ ${status} != 1 || ${output} != 'aba-lock: save is held by pid '* ]]; then
                        echo "${file} ${call} ${handler}, ${step}: status ${status}, ${output}, $(<interrupted)"
                        return 1
                    fi
                done
                ((step > 4))
            done
        done
    done
}
