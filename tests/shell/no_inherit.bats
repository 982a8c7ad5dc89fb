#!/usr/bin/env bats
# `aba_lock_operation --no-inherit`: locks that end with the script, whatever its children inherit.
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2154 # set by bats

load helper

# Prints the pid of the process that holds the lock on operation $1.
find_holder() {
    find /proc/[0-9]*/fd -maxdepth 1 -lname "${ABA_LOCK_DIR}/aba-$1.lock" 2>/dev/null | cut -d / -f 3 | sort -u
}

# Returns 0 if 17 processes wait for the lock on operation `save`, which is a long queue.
are_17_waiting() {
    local inode
    inode=$(stat -c %i "${ABA_LOCK_DIR}/aba-save.lock")
    (($(grep -c -- "-> FLOCK .*:${inode} " /proc/locks) == 17))
}

# Starts the script `holder`, and waits until it is ready.
start_script() {
    start ./holder
    until_ready >/dev/null
}

@test "a lock ends with its script, although a daemon that the script has left lives on" {
    script holder <<'END'
aba_lock_operation --no-inherit save
sleep 1000 &
echo $! >daemon
hold
END
    for signal in TERM KILL; do
        start_script
        run -75 aba-lock lock save -- true
        kill -s "${signal}" "${STARTED_PID}"
        until_true is_free save
        kill -0 "$(<daemon)"
        until_true has_ended "${STARTED_PID}"
    done
    start_script
    let_go
    expect_end 0
    until_true is_free save
    kill -0 "$(<daemon)"
}

@test "status, list and messages name the script and not the process that holds its lock" {
    script holder <<'END'
aba_lock_operation --no-inherit ${1-} --who 'the night job' save
hold
END
    for mode in --exclusive --shared; do
        start ./holder "${mode}"
        until_ready >/dev/null
        [[ $(find_holder save) != "${STARTED_PID}" ]]
        run -0 aba-lock status save
        expect_text "pid ${STARTED_PID}, "
        [[ ${output} != *--bind* ]]
        run -0 aba-lock status --json save
        [[ $(jq -c '[.state, .mode, .holders[].pid]' <<<"${output}") == "[\"held\",\"${mode#--}\",${STARTED_PID}]" ]]
        [[ ${mode} == --shared || $(jq -r .record.who <<<"${output}") == 'the night job' ]]
        run -0 aba-lock list
        expect_text "${STARTED_PID}"
        run -75 aba-lock lock save -- true
        expect_text "pid ${STARTED_PID} ("
        let_go
        expect_end 0
        until_true is_free save
    done
}

@test "a waiter in a long queue names the script, which other waiters do not examine" {
    script holder <<'END'
aba_lock_operation --no-inherit save
hold
END
    start_script
    local script=${STARTED_PID} number
    for ((number = 1; number <= 17; number++)); do
        start aba-lock lock --quiet --wait save -- true
    done
    until_true are_17_waiting
    start bash -c 'aba-lock lock --wait save -- true 2>said'
    until_true grep -q 'waiting for save' said
    [[ $(<said) == *"held by pid ${script} ("* ]]
    let_go
    until_true has_ended "${script}"
}

@test "a script whose lock is lost gets SIGTERM" {
    script holder <<'END'
aba_lock_operation --no-inherit save
hold
END
    start_script
    kill -KILL "$(find_holder save)"
    expect_end 143

    # A script that handles SIGTERM learns that it does not hold the lock, and can acquire it again.
    script holder <<'END'
trap 'echo lost >>notes' TERM
aba_lock_operation --no-inherit save
ready
until [[ -e notes ]]; do sleep 0.02; done
aba_lock_held save || echo "not held" >>notes
aba_lock_operation --no-inherit save && aba_lock_held save && echo again >>notes
END
    start_script
    kill -KILL "$(find_holder save)"
    expect_end 0
    [[ $(<notes) == $'lost\nnot held\nagain' ]]
}

@test "signals to a whole control group or session do not end the holder before the script" {
    script holder <<'END'
trap 'echo stopping >>notes' TERM INT HUP
aba_lock_operation --no-inherit save
hold
END
    start_script
    local holder
    holder=$(find_holder save)
    kill -TERM "${holder}"
    kill -INT "${holder}"
    kill -HUP "${holder}"
    run -75 aba-lock lock --quiet save -- true
    let_go
    expect_end 0
    [[ ! -e notes ]]
    # Its session is neither that of the script nor that of the test.
    [[ ${holder} != "${STARTED_PID}" ]]
}

@test "aba_unlock_operation releases the lock at once, also if children have the pipe open, and no SIGTERM follows" {
    script holder <<'END'
trap 'echo signal >>notes' TERM
trap 'kill "${child}"' EXIT
aba_lock_operation --no-inherit one two
sleep 1000 >/dev/null 2>&1 3>&- 4>&- &
child=$!
for name in two one; do
    aba_lock_held "${name}" || exit 20
    aba_unlock_operation || exit 21
    ! aba_lock_held "${name}" || exit 22
    aba-lock lock "${name}" -- true || exit 23
done
[[ -z ${ABA_LOCK_FDS-} && -z ${__aba_locks}${__aba_bound_locks} ]] || exit 24
[[ ! -e /dev/fd/200 && ! -e /dev/fd/201 ]] || exit 25
aba_unlock_operation 2>/dev/null
[[ $? == 1 && ! -e notes ]] || exit 26
aba_lock_operation --no-inherit one && aba_unlock_operation one && aba_lock_operation one && aba_lock_held one
END
    run -0 ./holder
    expect_silence
}

@test "a nested call succeeds, and a child or a subshell is another process" {
    script holder <<'END'
aba_lock_operation --no-inherit --shared save
aba_lock_operation --shared save || exit 20
aba_lock_operation --no-inherit --shared save || exit 21
# A shared lock does not become exclusive.
aba_lock_operation --on-conflict return --quiet save 2>message && exit 22
[[ $(<message) == 'aba-lock: save is already held shared by this script, and cannot become exclusive while it is held'* ]] || exit 30
aba_lock_held save || exit 31
aba_unlock_operation save
aba_lock_operation --no-inherit save && aba_lock_operation save && aba_lock_operation -os save || exit 23
[[ ${__aba_locks} == "save/"*"/$$ " ]] || exit 24
(aba_lock_held save) && exit 25
(aba_lock_operation --subshell --quiet save) && exit 26
aba-lock lock --quiet save -- true
[[ $? == 75 ]] || exit 27
# It would wait forever.
aba-lock lock --wait save -- true 2>message
[[ $? == 75 && $(<message) == *"waiting for save would be a deadlock: pid $$ "* ]] || exit 28
(aba_unlock_operation save) || exit 29
aba_lock_held save
END
    run -0 ./holder
    expect_silence
}

@test "a lock that the script or its parent holds already stays as it is" {
    script child <<'END'
aba_lock_operation --no-inherit save && aba_lock_held save && [[ -z ${__aba_bound_locks} ]]
END
    script holder <<'END'
aba_lock_operation save
aba_lock_operation --no-inherit save other || exit 20
[[ ${__aba_bound_locks} == other/* && ${__aba_locks} == save/200/*' other/20'* ]] || exit 21
./child
END
    run -0 ./holder
    expect_silence
}

@test "a program that takes the place of the script with exec keeps the lock until it ends" {
    script other <<'END'
hold
END
    script holder <<'END'
aba_lock_operation --no-inherit save
exec ./other
END
    start_script
    run -75 aba-lock lock --quiet save -- true
    run -0 aba-lock status save
    expect_text "pid ${STARTED_PID}, "
    let_go
    expect_end 0
    until_true is_free save
}

@test "a lock of a subshell ends with the subshell" {
    script holder <<'END'
(
    aba_lock_operation --no-inherit --subshell save
    sleep 1000 &
    # Bash 3.2 has no BASHPID.
    sh -c 'echo "${PPID}"' >inner
    hold
)
hold over
END
    start_script
    run -0 aba-lock status save
    expect_text "pid $(<inner), "
    let_go
    [[ $(until_ready) == over ]]
    until_true is_free save
    let_go
    expect_end 0
}

@test "a stopped script keeps its lock" {
    script holder <<'END'
aba_lock_operation --no-inherit save
hold
END
    start_script
    kill -STOP -- "-${STARTED_PID}"
    until_true grep -q '^State:.*stopped' "/proc/${STARTED_PID}/status"
    run -75 aba-lock lock --quiet save -- true
    kill -CONT -- "-${STARTED_PID}"
    let_go
    expect_end 0
}

@test "a script waits for its lock, and Ctrl-C or its end ends the wait" {
    script waiter <<'END'
aba_lock_operation --no-inherit --wait save
hold
END
    start_flock save
    local flock=${STARTED_PID}
    for signal in INT TERM KILL; do
        # The signal of the keyboard reaches all processes of the group.
        start env --default-signal=INT ./waiter
        until_true is_waited_for save
        if [[ ${signal} == INT ]]; then
            kill -INT -- "-${STARTED_PID}"
        else
            kill -s "${signal}" "${STARTED_PID}"
        fi
        until_true has_ended "${STARTED_PID}"
        until_true eval '! is_waited_for save'
    done
    script handler <<'END'
trap 'echo handled >>notes' USR1
aba_lock_operation --no-inherit --wait save
hold
END
    start ./handler
    until_true is_waited_for save
    kill -USR1 "${STARTED_PID}"
    until_true grep -q handled notes
    until_true is_waited_for save
    kill -- "-${flock}"
    until_ready >/dev/null
    run -0 aba-lock status save
    expect_text "pid ${STARTED_PID}, "
    let_go
    expect_end 0
    until_true is_free save

    start_flock save
    script brief <<'END'
aba_lock_operation --no-inherit --timeout 0.2 --on-conflict return other save
[[ $? == 1 && -z ${__aba_locks} && ! -e /dev/fd/200 && ! -e /dev/fd/201 ]] && aba-lock lock other -- true
END
    run -0 ./brief
    expect_text 'timed out after 0.2 s waiting for save'
}

@test "unlock --kill ends the script, also one that ignores SIGTERM" {
    script holder <<'END'
trap "${1-:}" TERM
aba_lock_operation --no-inherit save
sleep 1000 &
hold
END
    start ./holder exit
    until_ready >/dev/null
    run -0 aba-lock unlock --kill save
    expect_text "pid ${STARTED_PID} "
    until_true has_ended "${STARTED_PID}"
    start ./holder ''
    until_ready >/dev/null
    run -0 aba-lock unlock --kill --grace 0.1 save
    expect_text "pid ${STARTED_PID} "
    expect_end 137
    is_free save
    # A script cannot end itself in this way.
    script holder <<'END'
aba_lock_operation --no-inherit save
aba-lock unlock --kill save
END
    run -75 ./holder
}

@test "--no-inherit works with each option of the shell, with a pid file, and refuses what it cannot keep" {
    script plain <<'END'
aba_lock_operation -o --pid-file pid save || exit 20
[[ $(<pid) == "$$" ]] || exit 21
aba_unlock_operation || exit 22
[[ ! -e pid ]] || exit 23
aba_lock_operation --no-inherit save && aba-lock lock --quiet save -- true
[[ $? == 75 ]]
END
    local options
    for options in '' -eu '-o posix' '-f -C -u' '-o pipefail -T -E'; do
        printf 'set +e\n%s\n' "$(<plain)" >with-options
        run -0 bash ${options} with-options
        expect_silence
        until_true is_free save
    done
    script refused <<'END'
aba_lock_operation --no-inherit "$@" save
END
    run -2 ./refused --max-time 5
    expect_text "the argument '--max-time <TIME>' cannot be used with '--no-inherit'"
    run -2 ./refused --server https://127.0.0.1:1
    expect_text '--no-inherit cannot be used with a server'
    is_free save
}

@test "the release is in the event log, and the holder holds no output of the script open" {
    export ABA_LOCK_LOG=${BATS_TEST_TMPDIR}/log
    script holder <<'END'
aba_lock_operation --no-inherit save
END
    # `$( )` would wait for a process that has the pipe open.
    output=$(timeout "${PATIENCE}" ./holder && echo "done")
    [[ ${output} == "done" ]]
    until_true grep -q '"event":"released"' log
    [[ $(jq -r .event log | tr '\n' ' ') == 'acquired released ' ]]
}

@test "a file is held for a script that asks the helper itself" {
    touch file
    script holder <<'END'
exec 9< <(true)
aba-lock lock --bind=9 --file file || exit 20
hold
END
    start_script
    run -0 aba-lock status --file file
    expect_text "pid ${STARTED_PID}, "
    run -75 aba-lock lock --quiet --file file -- true
    let_go
    expect_end 0
    until_true aba-lock lock --quiet --file file -- true
}

@test "without /proc, the message says what is missing" {
    unshare --mount true || skip 'this user may not mount'
    script holder <<'END'
aba_lock_operation "$@" save
END
    run -125 unshare --mount bash -c 'mount -t tmpfs none /proc && exec ./holder --no-inherit'
    expect_text 'hint: --no-inherit needs Linux 5.3 or newer, and /proc'
    run -125 unshare --mount bash -c 'mount -t tmpfs none /proc && exec ./holder --slots=2'
    expect_text 'hint: run the script where /proc is mounted'
}

@test "--no-inherit: a later call for the lock gets slot 1, but no limit of its time and no pid file" {
    script tool <<'END'
aba_lock_operation --no-inherit save
aba_lock_operation --slots 2 save
echo "slot ${ABA_LOCK_SLOT}"
aba_lock_operation --on-conflict return --max-time 60 save || echo "limit: $?"
aba_lock_operation --on-conflict return --pid-file pid save || echo "pid file: $?"
aba_lock_held save && echo held
aba_unlock_operation save
echo "slot ${ABA_LOCK_SLOT-none}"
END
    run -0 ./tool
    [[ ${output} == $'slot 1\naba-lock: cannot limit the time of save: '*$'\nlimit: 1\n'*$'\npid file: 125\nheld\nslot none' ]]
    expect_text 'pid: this script already holds save'
}

@test "--no-inherit: a program that takes the place of the script does not end itself" {
    script unlock <<'END'
aba_lock_operation --no-inherit save
exec "${ABA_LOCK_BIN}" unlock --kill save
END
    script replace <<'END'
aba_lock_operation --no-inherit save
exec "${ABA_LOCK_BIN}" lock --replace save -- echo 'not reached'
END
    run -75 ./unlock
    expect_text 'refused to release save: '
    run -75 ./replace
    expect_text 'refused to replace the holder of save: '
}

@test "--no-inherit: a holder that cannot be recognized as that of the caller is not signalled" {
    export -f find_holder
    script holder <<'END'
aba_lock_operation --no-inherit save
holder=$(find_holder save)
for descriptor in /proc/"${holder}"/fd/*; do
    [[ $(readlink "${descriptor}") != *pidfd* ]] || info=/proc/${holder}/fdinfo/${descriptor##*/}
done
for words in 'unlock --kill save' 'lock --replace save -- true'; do
    strace -P "${info}" -o /dev/null -e inject='/^open(at)?$':error=EMFILE "${ABA_LOCK_BIN}" ${words}
    echo "status $?"
done
aba_lock_held save
END
    run -0 ./holder
    expect_text 'status 75'
    [[ ${output} != *'status 0'* ]]
}
