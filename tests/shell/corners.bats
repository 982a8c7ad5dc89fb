#!/usr/bin/env bats
# Rare cases in which a script once went on without a lock, or got a wrong message.

load helper

@test "Ctrl-Z during the wait ends the helper and the script, which gets no lock" {
    script tool <<'END'
set -m
aba_lock_operation --quiet --wait save
echo "went on: $?"
END
    start_flock save
    for signal in TSTP STOP; do
        : >output
        start ./tool
        until_true is_waited_for save
        helper=$(pgrep -P "${STARTED_PID}")
        kill "-${signal}" "${helper}"
        status=0
        wait "${STARTED_PID}" || status=$?
        [[ ${status} == 125 ]]
        [[ $(<output) == *'aba-lock: cannot lock save: the wait was stopped, for example by Ctrl-Z'* ]]
        [[ $(<output) != *'went on'* ]]
        until_true has_ended "${helper}"
    done
}

@test "a helper that is killed while it waits for the second lock does not leave the first one to the script" {
    script tool <<'END'
exec 200<>"$ABA_LOCK_DIR/aba-a.lock" 201<>"$ABA_LOCK_DIR/aba-b.lock"
"$ABA_LOCK_BIN" lock --quiet --wait --fd 200 --fd 201 a b || status=$?
hold "${status}"
END
    aba-lock path --create a
    start_flock b
    start ./tool
    until_true is_waited_for b
    kill -TERM "$(pgrep -P "${STARTED_PID}")"
    [[ $(until_ready) == 143 ]]
    run -0 aba-lock lock -n a -- echo free
    [[ ${output} == free ]]
    let_go
}

@test "two workers of a script that has released the lock do not hold it at the same time" {
    cat >worker <<'END'
source "$LIBRARY"
read -r _ <"released-$1"
aba_lock_operation --wait crit
echo in >>journal
[[ $(<inside) == nobody ]] || echo 'two inside' >>journal
echo "$1" >inside
ready
read -r -t "$PATIENCE" _ <"leave-$1"
echo nobody >inside
END
    script tool <<'END'
export -f ready
aba_lock_operation crit
bash worker a &
bash worker b &
aba_unlock_operation crit
echo >released-a
echo >released-b
wait
END
    mkfifo released-a released-b leave-a leave-b
    echo nobody >inside
    start ./tool
    until_ready
    until_true is_waited_for crit
    first=$(<inside)
    echo >"leave-${first}"
    until_ready
    second=$(<inside)
    echo >"leave-${second}"
    wait "${STARTED_PID}"
    [[ $(<journal) == $'in\nin' && ${first} != "${second}" ]]
}

@test "workers of a daemon that inherited the lock do not get it" {
    cat >worker <<'END'
source "$LIBRARY"
aba_lock_operation --on-conflict return crit
echo "$?" >>statuses
END
    cat >daemon <<'END'
read -r _ <script-has-ended
bash worker
bash worker
ready
sleep 1000
END
    script tool <<'END'
aba_lock_operation crit
export -f ready
bash daemon &
END
    mkfifo script-has-ended
    start ./tool
    wait "${STARTED_PID}"
    echo >script-has-ended
    until_ready
    [[ $(<statuses) == $'1\n1' ]]
    [[ $(<output) == *"crit was acquired by pid ${STARTED_PID} ("*'), which has ended; it is still held by pid '* ]]
}

@test "two subshells that ask again after a child has released the lock do not hold it at the same time" {
    script tool <<'END'
aba_lock_operation save
flock -u 200
(aba_lock_operation --subshell save && echo >first-is-in && hold) &
until [[ -e first-is-in ]]; do sleep 0.01; done
(aba_lock_operation --subshell --quiet save)
echo "second: $?" >second
wait
END
    start ./tool
    until_ready
    until_true grep second second
    [[ $(<second) == 'second: 1' ]]
    let_go
    wait "${STARTED_PID}"
}

@test "aba-lock lock NAME -- CMD leaves descriptor 200 to CMD" {
    script tool <<'END'
exec 200>mine
flock -n 200 || exit 91
hold
END
    start aba-lock lock save -- ./tool
    until_ready
    run -75 aba-lock lock -q save -- true
    let_go
}

@test "a completion variable in the environment does not stop the library from locking" {
    mkdir "${ABA_LOCK_DIR}"
    script tool <<'END'
aba_lock_operation --quiet save
echo 'went on'
END
    ABA_LOCK_COMPLETE=bash run -0 ./tool
    [[ ${output} == 'went on' ]]
    ABA_LOCK_COMPLETE=bash run -1 flock "${ABA_LOCK_DIR}/aba-save.lock" ./tool
    expect_silence
}

@test "a name with a blank is refused, and not taken for two locks" {
    script tool <<'END'
aba_lock_operation "$@"
echo 'went on'
END
    for name in 'a b' '' $'a\nb' a/b .. $'a\t'; do
        run -2 aba-lock lock "${name}" -- true
        expect_text 'aba-lock: invalid lock name "'
        said=${output}
        run -2 ./tool "${name}"
        [[ ${output} == "${said}" && ! -e ${ABA_LOCK_DIR}/aba-a.lock ]]
        run -2 ./tool save "${name}"
        [[ ${output} == "${said}" ]]
    done
    ABA_LOCK_ON_CONFLICT=return run -0 ./tool 'a b'
    [[ ${output} == 'aba-lock: invalid lock name "a b"'*'went on' ]]
    run -2 bash -c 'source "$LIBRARY"; aba_lock_held a/b'
    expect_text '"a/b"'
}

@test "names that differ in their case are two locks, whatever nocasematch says" {
    script tool <<'END'
shopt -s nocasematch
aba_lock_operation Save save
aba_lock_operation SAVE
aba_unlock_operation save
aba_lock_held Save && aba_lock_held SAVE || exit 91
aba_lock_held save && exit 92
aba-lock status -q Save && aba-lock status -q SAVE || exit 93
aba-lock status -q save
END
    run -1 ./tool
    expect_silence
}

@test "a lock directory that is not an absolute path is refused" {
    script tool <<'END'
aba_lock_operation save
echo 'went on'
END
    ABA_LOCK_DIR=locks run -2 ./tool
    expect_text 'ABA_LOCK_DIR is "locks", which is not an absolute path'
    unset ABA_LOCK_DIR
    HOME=here run -2 ./tool
    expect_text '"here/.aba", which is not an absolute path'
    [[ ${output} != *'went on'* && ! -e locks && ! -e here ]]
}

@test "a lock stays held when the lock directory changes" {
    script tool <<'END'
ABA_LOCK_DIR=$PWD/one
aba_lock_operation save
ABA_LOCK_DIR=$PWD/two
aba_lock_held save && exit 91
aba_lock_operation save
ABA_LOCK_DIR=$PWD/one bash -c 'source "$LIBRARY"; aba_lock_operation save' || exit 92
aba_lock_detach bash -c '{ true <&200; } 2>/dev/null || { true <&201; } 2>/dev/null' && exit 93
ABA_LOCK_DIR=$PWD/one aba-lock status -q save
END
    run -0 ./tool
    expect_silence
}

@test "without HOME, the library and the helper use the same directory" {
    script tool <<'END'
aba_lock_operation save
aba_lock_held save && echo held
END
    home=$(bash -c 'unset HOME; echo ~')
    there=$([[ -e ${home}/.aba ]] && echo there || true)
    unset ABA_LOCK_DIR
    for variable in HOME= HOME; do
        if [[ ${variable} == HOME= ]]; then
            run -0 env HOME= bash -c 'source "$LIBRARY"; __aba_call true; ABA_LOCK_DIR=; __aba_find_directory; echo "$__aba_directory"'
        else
            run -0 env -u HOME bash -c 'source "$LIBRARY"; __aba_call true; __aba_find_directory; echo "$__aba_directory"'
        fi
        [[ ${output} == "${home}/.aba" ]]
    done
    # A home directory is never made.
    run -125 env -u HOME bash -euc 'HOME=$PWD/elsewhere; source ./tool'
    expect_text "the home directory ${PWD}/elsewhere does not exist"
    [[ ! -e elsewhere ]]
    # Set, and not exported.
    mkdir elsewhere
    run -0 env -u HOME bash -euc 'HOME=$PWD/elsewhere; source ./tool'
    [[ ${output} == held && -e elsewhere/.aba/aba-save.lock ]]
    [[ -n ${there} || ! -e ${home}/.aba ]]
}

@test "a script that has closed its descriptor is not reported as the holder" {
    script tool <<'END'
aba_lock_operation save
sleep 1000 &
exec 200>&-
ready $!
wait
END
    start ./tool
    child=$(until_ready)
    # It may report its child before that has become sleep(1).
    until_true grep -qx sleep "/proc/${child}/comm"
    run -75 aba-lock lock save -- true
    expect_text "save was acquired by pid ${STARTED_PID} ("
    expect_text "which has closed the file; it is still held by pid ${child} (sleep 1000), by "
    expect_text "end it with \`kill ${child}\`"
}

@test "warn names the locks that are missing, and not those that are held" {
    script tool <<'END'
aba_lock_operation a
aba_lock_operation --quiet --on-conflict warn a b || echo "status $?"
aba_lock_operation --shared c
aba_lock_operation --on-conflict warn c || echo "status $?"
END
    start_holder b
    run -0 ./tool
    expect_text $'aba-lock: warning: the script can continue without the lock on b\nstatus 3'
    expect_text $'aba-lock: warning: the script can continue without an exclusive lock on c\nstatus 3'
    let_go
}

@test "the text of --who may begin with a dash" {
    script tool <<'END'
aba_lock_operation --who '- nightly' save
grep -q "who='- nightly'" "$ABA_LOCK_DIR/aba-save.lock"
END
    run -0 ./tool
    expect_silence
}

@test "with a file size limit of 0, the lock is held without its record" {
    script tool <<'END'
ulimit -f 0
aba_lock_operation save && aba_lock_held save && echo held
END
    run -0 ./tool
    expect_text 'File too large; the lock is held nevertheless'
    expect_text held
}

@test "whatever the umask is, the user can open the lock file" {
    script tool <<'END'
umask 0777
aba_lock_operation save && aba_lock_held save
END
    mkdir "${ABA_LOCK_DIR}"
    run -0 ./tool
    [[ $(stat -c %a "${ABA_LOCK_DIR}/aba-save.lock") == 600 ]]
}

@test "descriptors in ABA_LOCK_FDS that are not lock files stay as they are" {
    script tool <<'END'
exec 200>mine
aba_lock_operation save && aba_lock_held save || exit 91
echo text >&200
aba_lock_detach echo ran
END
    ABA_LOCK_FDS='200 99999999999999999999 x -1 2' run -0 ./tool
    [[ ${output} == ran && $(<mine) == text ]]
}

@test "under set -k, which removes arguments, every function reports that and changes nothing" {
    local call
    for call in 'aba_lock_operation save' 'aba_unlock_operation save' 'aba_lock_held save' 'aba_lock_check save' \
        'aba_lock_detach true' 'aba_run_once -i a -- true' 'aba_update f true' aba_reserve aba_lock_doctor 'run_once -i a -- true'; do
        script tool <<END
source "\${PROJECT}/shell/run_once.bash"
set -k
${call}
exit "\$?"
END
        run -125 bash ./tool
        [[ ${output} == 'aba-lock: '*'.bash cannot work: `set -k` removes NAME=VALUE'*'hint: turn it off: `set +k`' ]]
        [[ ! -e ${ABA_LOCK_DIR} ]]
    done
}

@test "an empty name is reported as empty, and releases nothing" {
    script tool <<'END'
aba_lock_operation save
for call in aba_lock_operation aba_lock_held aba_lock_check aba_unlock_operation; do
    status=0
    (ABA_LOCK_ON_CONFLICT=return "$call" '') || status=$?
    echo "$call: $status"
done
aba_lock_held save
END
    run -0 bash ./tool
    cat <<<"${output}"
    [[ ${output} != *blank* ]]
    expect_text 'aba_lock_operation: 2'
    expect_text 'aba_lock_held: 2'
    expect_text 'aba_lock_check: 2'
    expect_text $'hint: to release the last lock, call aba_unlock_operation without a name\naba_unlock_operation: 2'
}
