#!/usr/bin/env bats
# Signals during a wait for a lock: their handlers run at once, while the script holds none of the locks.

load helper

# Usage: waiter NAME <<'END' ... END: writes a script with handlers, which waits for `save`.
#
# Starts a holder of `save` and then the script, and returns once the script waits. `let_go` ends the holder.
waiter() {
    start_holder save
    script "$1"
    # A shell makes its background jobs ignore SIGINT and SIGQUIT.
    start env --default-signal=INT,QUIT "./$1"
    until_true script_waits save
}

# Returns 0 if the script that was started last waits for operation $1: its helper is blocked in the kernel, and so is bash, in `wait`.
script_waits() {
    is_waited_for "$1" && grep -q '^State:[[:space:]]*S' "/proc/${STARTED_PID}/status"
}

is_not_waited_for() {
    ! is_waited_for "$1"
}

# Waits until the script that was started last has ended, and puts its status into STATUS.
reap() {
    STATUS=0
    until_true has_ended "${STARTED_PID}"
    wait "${STARTED_PID}" || STATUS=$?
}

@test "a handler runs while the script waits, and the wait continues when it returns" {
    local options signal
    for options in '' '-eu' '-o posix' '-m' '-eE -o pipefail'; do
        for signal in TERM HUP USR1; do
            waiter wait <<END
set ${options} --
export ABA_LOCK_LOG=\${BATS_TEST_TMPDIR}/log
trap 'ready "${signal} \$?"' ${signal}
aba_lock_operation --wait save
aba_lock_held save
echo "acquired"
END
            kill -s "${signal}" "${STARTED_PID}"
            [[ $(until_ready) == "${signal} $((128 + $(kill -l "${signal}")))" ]]
            until_true script_waits save
            let_go
            reap
            cat output log
            ((STATUS == 0))
            [[ $(<output) == *acquired && $(<output) != *[Kk]illed* && $(<output) != *line* ]]
            (($(grep -c contended log) == 1 && $(grep -c acquired log) == 1))
            rm output log
        done
    done
}

@test "a handler that exits ends the wait at once, and no process waits after that" {
    local handler status
    while read -r status handler; do
        waiter wait <<END
trap '${handler}' TERM
trap 'echo "end of \$?"' EXIT
aba_lock_operation --wait save
echo 'not reached'
END
        kill -TERM "${STARTED_PID}"
        reap
        cat output
        ((STATUS == status))
        until_true is_not_waited_for save
        [[ $(<output) == *"end of ${status}" ]]
        let_go
        until_true is_free save
        rm output
    done <<'END'
143 exit
7 exit 7
143 jobs -p; wait; exit 143
143 aba_lock_held save || exit 143
143 aba_unlock_operation save 2>/dev/null || exit 143
END
}

@test "a handler that asks for the lock for which the script waits is refused because of the holder, not of the script" {
    waiter wait <<'END'
handler() {
    local status=0
    aba_lock_operation --quiet --on-conflict return save || status=$?
    aba_lock_operation other || status=not-free
    ready "status ${status}"
}
trap handler TERM
aba_lock_operation --wait save
aba_lock_held save && aba_lock_held other && echo acquired
END
    kill -TERM "${STARTED_PID}"
    [[ $(until_ready) == 'status 1' ]]
    until_true script_waits save
    let_go
    reap
    ((STATUS == 0))
    [[ $(<output) == *acquired ]]
}

@test "a handler that acquires the lock while the script waits leaves it to the script" {
    waiter wait <<'END'
trap 'aba_unlock_operation first; ready; aba_lock_operation --wait save' TERM
aba_lock_operation first
aba_lock_operation --wait save
aba_lock_held save && ! aba_lock_held first && echo acquired
END
    kill -TERM "${STARTED_PID}"
    until_ready
    until_true script_waits save
    let_go
    reap
    cat output
    ((STATUS == 0))
    [[ $(<output) == *acquired ]]
}

@test "none of several locks is held while a handler runs" {
    waiter wait <<'END'
trap 'ready "$("${ABA_LOCK_BIN}" status --quiet early; echo "$?")"' TERM
aba_lock_operation --wait early save
echo acquired
END
    until_true eval '! is_free early'
    kill -TERM "${STARTED_PID}"
    [[ $(until_ready) == 1 ]]
    let_go
    reap
    ((STATUS == 0))
    [[ $(<output) == *acquired ]]
}

@test "Ctrl-C runs the handler and ends the wait with 130" {
    local target
    for _ in {1..10}; do
        # To the whole process group, as a terminal sends it; and to the script alone.
        for target in - ''; do
            waiter wait <<'END'
trap 'echo handled' INT
aba_lock_operation --wait --on-conflict return save || echo "status $?"
aba_lock_held save || echo free
END
            kill -INT -- "${target}${STARTED_PID}"
            reap
            cat output
            [[ $(<output) == *$'handled\nstatus 130\nfree' ]]
            is_not_waited_for save
            let_go
            until_true is_free save
            rm output
        done
    done
}

@test "a signal without a handler ends a script that has handlers for others" {
    local signal
    for signal in TERM INT HUP; do
        waiter wait <<'END'
trap 'echo wrong' USR1
trap 'echo "end"' EXIT
aba_lock_operation --wait save
END
        kill -s "${signal}" "${STARTED_PID}"
        reap
        # Bash before 5.0 says 129 for each, if there is a handler for EXIT.
        ((STATUS > 128))
        [[ $(<output) != *wrong* ]]
        until_true is_not_waited_for save
        let_go
        until_true is_free save
        rm output
    done
}

@test "an ignored signal stays ignored while the script waits" {
    waiter wait <<'END'
trap '' TERM INT
trap 'ready' USR1
aba_lock_operation --wait save
trap -p TERM INT USR1
END
    kill -TERM -- "-${STARTED_PID}"
    kill -INT -- "-${STARTED_PID}"
    kill -USR1 "${STARTED_PID}"
    until_ready
    until_true script_waits save
    let_go
    reap
    cat output
    ((STATUS == 0))
    [[ $(<output) == *"trap -- '' SIGTERM"*"trap -- '' SIGINT"*"trap -- 'ready' SIGUSR1"* ]]
}

@test "after a wait, the script has its handlers again, whatever their commands are" {
    waiter wait <<'END'
trap $'echo \'one\'\ntrap -- \'two\' SIGUSR1; : "$x" `y` \\' TERM
trap 'echo "quit" # [0]=x *' QUIT
trap -p >before
aba_lock_operation --wait save
trap -p >after
END
    let_go
    reap
    ((STATUS == 0))
    diff before after
    (($(grep -c . before) == 3))
}

@test "a subshell that has not set the handlers of its script dies of the signal" {
    waiter wait <<'END'
trap 'echo wrong' TERM
(
    sh -c 'echo "$PPID"' >pid
    aba_lock_operation --wait --subshell save
    echo 'not reached'
) &
wait "$!"
echo "status $?"
END
    kill -TERM "$(<pid)"
    reap
    cat output
    [[ $(<output) == *'status 143'* && $(<output) != *wrong* && $(<output) != *reached* ]]
    until_true is_not_waited_for save
    let_go
}

@test "a background job runs its own handlers while it waits" {
    waiter wait <<'END'
(
    trap 'echo handled; exit 9' TERM
    sh -c 'echo "$PPID"' >pid
    aba_lock_operation --wait --subshell save
) &
wait "$!"
echo "status $?"
END
    kill -TERM "$(<pid)"
    reap
    [[ $(<output) == *$'handled\nstatus 9' ]]
    until_true is_not_waited_for save
    let_go
}

@test "functions named wait, kill and trap, and a closed standard input, do not stop handlers" {
    waiter wait <<'END'
exec 0<&-
builtin trap 'ready handled' TERM
# Before bash 5.0, a signal does not interrupt `builtin wait`.
if ((BASH_VERSINFO[0] >= 5)); then
    wait() { echo wrong; }
fi
kill() { echo wrong; }
trap() { echo wrong; }
read() { echo wrong; }
aba_lock_operation --wait save
echo acquired
END
    kill -TERM "${STARTED_PID}"
    [[ $(until_ready) == handled ]]
    until_true script_waits save
    let_go
    reap
    cat output
    ((STATUS == 0))
    [[ $(<output) == *acquired && $(<output) != *wrong* ]]
}

@test "after a script was killed while it waits, no process waits" {
    waiter wait <<'END'
trap 'echo wrong' TERM
aba_lock_operation --wait save
END
    kill -KILL "${STARTED_PID}"
    until_true is_not_waited_for save
    let_go
    until_true is_free save
}

@test "two scripts with handlers that wait for each other are a deadlock" {
    script one <<'END'
trap 'echo handled' TERM
aba_lock_operation "$1"
ready
for ((n = 0; n < PATIENCE * 50; n++)); do
    [[ ! -e begin ]] || break
    sleep 0.02
done
aba_lock_operation --wait --on-conflict return "$2"
echo "status $?"
END
    start ./one a b
    until_ready
    first=${STARTED_PID}
    start ./one b a
    until_ready
    touch begin
    reap
    ((STATUS == 0))
    wait "${first}"
    cat output
    [[ $(<output) == *deadlock* ]]
    (($(grep -c 'status 1' output) == 1 && $(grep -c 'status 0' output) == 1))
}

@test "many signals during a wait are all handled, and the lock is acquired" {
    waiter wait <<'END'
trap 'ready again' USR1
aba_lock_operation --wait save
trap '' USR1
aba_lock_held save && echo acquired
END
    for _ in {1..20}; do
        until_true script_waits save
        kill -USR1 "${STARTED_PID}"
        until_ready
    done
    until_true script_waits save
    let_go
    reap
    ((STATUS == 0))
    [[ $(<output) == *acquired ]]
    (($(grep -c 'waiting for save' output) <= 2))
}

@test "a script that gets a signal in the instant of the grant handles it, and holds the lock" {
    script wait <<'END'
trap 'handled=yes' TERM
aba_lock_operation --quiet --wait save
aba_lock_held save || exit 91
flock --nonblock "${ABA_LOCK_DIR}/aba-save.lock" true && exit 93
jobs -p >jobs
[[ ! -s jobs ]] || exit 92
# The holder may have ended long before the signal is sent.
for ((n = 0; n < PATIENCE * 50; n++)); do
    [[ -z ${handled-} ]] || break
    # Bash before 4.3 ignores a signal while `trap` sets its handler.
    ((n < 100 || BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] > 402)) || kill -TERM "$$"
    sleep 0.02
done
echo "${handled-}" >handled
END
    "${ABA_LOCK_BIN}" path --create save
    local round holder
    for round in {1..20}; do
        start flock --no-fork "${ABA_LOCK_DIR}/aba-save.lock" sleep 1000
        holder=${STARTED_PID}
        until_true eval '! is_free save'
        start ./wait
        until_true script_waits save
        if ((round % 2)); then
            kill -TERM "${holder}" "${STARTED_PID}"
        else
            kill -TERM "${STARTED_PID}" "${holder}"
        fi
        reap
        cat output
        ((STATUS == 0))
        [[ $(<handled) == yes ]]
        is_free save
    done
}

@test "with job control, the wait goes on if the terminal stops background jobs" {
    start_holder save
    script wait <<'END'
stty tostop
set -m
trap 'echo handled' TERM
aba_lock_operation --verbose --wait save
END
    start script -qec ./wait /dev/null
    # The helper has written by then that it waits.
    until_true grep -q 'waiting 0s for save' output
    let_go
    reap
    ((STATUS == 0))
    grep -q 'acquired save after' output
}

@test "a signal that comes right before the wait begins is handled at once, and nothing is printed about the helper" {
    local signal
    for signal in TERM HUP USR1; do
        start_holder save
        script wait <<'END'
trap 'ready handled' "$1"
# Sends the signal between the last look for signals and `wait`.
interrupt() {
    if [[ -z ${sent-} && ${BASH_COMMAND} == 'wait "${__aba_job}"' ]]; then
        sent=yes
        kill -s "$1" "$$"
    fi
}
set -T
trap 'interrupt "'"$1"'"' DEBUG
aba_lock_operation --quiet --wait save
trap - DEBUG
aba_lock_held save && echo "sent ${sent}"
END
        start ./wait "${signal}"
        [[ $(until_ready) == handled ]]
        until_true script_waits save
        let_go
        reap
        cat output
        ((STATUS == 0))
        [[ $(<output) == 'sent yes' ]]
        rm output
    done
}
