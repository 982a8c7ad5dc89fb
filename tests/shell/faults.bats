#!/usr/bin/env bats
# The faults of the well-known `exec 200>file; flock -n 200`. Each was reproduced with it, and the library must not have it.

load helper

# ---- 1: a background child keeps the lock after the script ended, and no message names it

@test "fault 1: a daemon that inherited the lock is named as the holder, with a hint" {
    script tool <<'END'
aba_lock_operation save
sleep 1000 &
ready $!
END
    start ./tool
    daemon=$(until_ready)
    until_true has_ended "${STARTED_PID}"
    wait "${STARTED_PID}" || true
    # The script may end before its child has become the daemon.
    until_true grep -qx sleep "/proc/${daemon}/comm"
    run -75 aba-lock lock save -- true
    expect_text "save was acquired by pid ${STARTED_PID} ("
    expect_text "), which has ended; it is still held by pid ${daemon} (sleep 1000), by "
    expect_text ", which inherited it"
    expect_text "hint: end it with \`kill ${daemon}\`; next time, start it with \`aba_lock_detach\`, or use --no-inherit"
    run -0 aba-lock status save
    expect_text "pid ${daemon}, "
    expect_text "sleep 1000 (inherited)"
}

@test "fault 1: a command that aba_lock_detach started does not keep the lock" {
    script tool <<'END'
loop() { while sleep 0.1; do :; done; }
aba_lock_operation save load
aba_lock_detach sleep 1000 &
aba_lock_detach exec sleep 1000 &
program=$!
aba_lock_detach loop &
(aba_lock_detach sleep 1000) &
[[ $(</proc/$program/comm) == sleep ]] || until [[ $(</proc/$program/comm) == sleep ]]; do :; done
# The script still holds its locks.
aba_lock_held save && aba_lock_held load && ready held
END
    start ./tool
    run -0 until_ready
    expect_text held
    until_true is_free save
    until_true is_free load
    kill -0 -- "-${STARTED_PID}"
}

@test "fault 1: a detached command gets neither descriptors nor variable, and its status is returned" {
    script tool <<'END'
aba_lock_operation save
aba_lock_detach bash -c '[[ ! -e /proc/self/fd/200 && -z ${ABA_LOCK_FDS+set} ]]' || exit 91
status=0
aba_lock_detach bash -c 'exit 42' || status=$?
[[ $status == 42 ]] && aba_lock_held save
END
    run -0 ./tool
    expect_silence
}

# ---- 2: a second call with another name silently drops the first lock

@test "fault 2: a second operation is held in addition to the first, on another descriptor" {
    script tool <<'END'
aba_lock_operation save
aba_lock_operation load
hold "$ABA_LOCK_FDS"
END
    start ./tool
    run -0 until_ready
    expect_text '200 201'
    run -75 aba-lock lock -q save -- true
    run -75 aba-lock lock -q load -- true
    let_go
}

@test "fault 2: one call for several operations acquires all of them or none" {
    script tool <<'END'
aba_lock_operation --on-conflict return a b c || echo "status $?"
[[ -z ${ABA_LOCK_FDS-} ]] || exit 91
for fd in 200 201 202; do { true <&$fd; } 2>/dev/null && exit 92; done
aba_lock_operation c a && aba_lock_held a && aba_lock_held c
END
    start_holder b
    run -0 ./tool
    expect_text 'aba-lock: b is already running'
    expect_text 'status 1'
    let_go
}

# ---- 3: a nested script that takes the same operation blocks on its own parent

@test "fault 3: a nested script is granted its parent's lock at once, and its release leaves the lock to the parent" {
    script inner <<'END'
aba_lock_operation --wait save || exit 91
aba_lock_held save || exit 92
aba_unlock_operation save || exit 93
{ true <&200; } 2>/dev/null && exit 94
aba_lock_held save && exit 95
exit 0
END
    script outer <<'END'
aba_lock_operation --who outer save
before=$(<"$ABA_LOCK_DIR/aba-save.lock")
./inner || exit
aba_lock_held save || exit 96
[[ $before == "$(<"$ABA_LOCK_DIR/aba-save.lock")" ]] || exit 97
(exec 200>&-; unset ABA_LOCK_FDS; aba-lock lock -q save -- true); [[ $? == 75 ]] || exit 98
END
    run -0 timeout "${PATIENCE}" ./outer
    expect_silence
}

@test "fault 3: a nested script that asks for it shared does not weaken its parent's lock" {
    script inner <<'END'
aba_lock_operation --shared save
END
    script outer <<'END'
aba_lock_operation save
./inner || exit
(exec 200>&-; unset ABA_LOCK_FDS; aba-lock lock -qs save -- true); [[ $? == 75 ]]
END
    run -0 ./outer
    expect_silence
}

# ---- 4: `rm -f LOCK` while held gives two holders

@test "fault 4: a waiter that gets the lock on a removed file then waits for the new file" {
    script first <<'END'
aba_lock_operation save
hold first
END
    script waiter <<'END'
aba_lock_operation --quiet --wait save
[[ /dev/fd/200 -ef $ABA_LOCK_DIR/aba-save.lock ]] && ready waiter
END
    script second <<'END'
aba_lock_operation save
echo second >second-holds
read -r -t "${PATIENCE}" _ <go2
END
    mkfifo go2
    start ./first
    until_ready
    start ./waiter
    waiter=${STARTED_PID}
    until_true is_waited_for save
    rm -f "${ABA_LOCK_DIR}/aba-save.lock"
    start ./second
    until_true test -e second-holds
    let_go
    until_true is_waited_for save
    kill -0 "${waiter}"
    timeout "${PATIENCE}" bash -c 'echo >go2'
    run -0 until_ready
    expect_text waiter
}

@test "fault 4: a file that is removed while the script opens it is made again" {
    script tool <<'END'
aba_lock_operation --quiet save && aba_unlock_operation save
set -o functrace
trap '[[ $BASH_COMMAND == "[[ -w "* && ! -e gone ]] && { rm "$ABA_LOCK_DIR/aba-save.lock"; : >gone; }' DEBUG
aba_lock_operation save
trap - DEBUG
[[ -e gone ]] || exit 91
aba-lock status -q save
END
    run -0 ./tool
    expect_silence
}

@test "fault 4: a file that is replaced while the script asks for it does not make the script open the other locks again" {
    # Replaces the file of the second lock before the helper looks at it, once.
    printf '#!/bin/sh\ncase "$*" in *load*) [ -e once ] || { echo >once; rm "${ABA_LOCK_DIR}/aba-load.lock"; } ;; esac\nexec "%s" "$@"\n' \
        "${ABA_LOCK_BIN}" >helper
    chmod +x helper
    script tool <<'SCRIPT'
aba_lock_operation save
ABA_LOCK_BIN=${PWD}/helper
aba_lock_operation save load || exit
[[ -e once ]] && aba_lock_held save && aba_lock_held load && echo "held on ${ABA_LOCK_FDS}"
SCRIPT
    aba-lock lock load -- true
    run -0 ./tool
    [[ ${output} == 'held on 200 201' ]]
}

@test "fault 4: the holder of a removed file is still shown" {
    script tool <<'END'
aba_lock_operation save
hold
END
    start ./tool
    until_ready
    rm -f "${ABA_LOCK_DIR}/aba-save.lock"
    run -1 aba-lock status save
    expect_text "removed file: still locked by pid ${STARTED_PID}, "
    let_go
}

# ---- 5: a refused caller has opened the file with `>`, which empties the holder's record

@test "fault 5: a refused caller leaves the holder's record as it is" {
    script tool <<'END'
aba_lock_operation --who 'the first' save
hold
END
    script loser <<'END'
aba_lock_operation --quiet save
END
    start ./tool
    until_ready
    before=$(<"${ABA_LOCK_DIR}/aba-save.lock")
    run -1 ./loser
    expect_silence
    [[ ${before} == *"who='the first'"* && ${before} == "$(<"${ABA_LOCK_DIR}/aba-save.lock")" ]]
    let_go
}

# ---- 6: an unwritable directory, `/` in the name, `ulimit -n 200` are reported as "already running"

@test "fault 6: a failure to make the directory ends with 125 and the reason, and is not reported as contention" {
    script tool <<'END'
ABA_LOCK_DIR=$PWD/tool/locks
aba_lock_operation save
echo 'not reached'
END
    run -125 ./tool
    expect_text 'aba-lock: cannot '
    expect_text 'Not a directory'
    [[ ${output} != *running* && ${output} != *'not reached'* ]]
}

@test "fault 6: a name with a slash ends with 2 and the rule for names, and is not reported as contention" {
    script tool <<'END'
aba_lock_operation mirror/save
echo 'not reached'
END
    run -2 ./tool
    expect_text 'invalid lock name "mirror/save": a name is 1 to 128 of'
    [[ ${output} != *running* && ${output} != *'not reached'* ]]
}

@test "fault 6: a limit of 200 descriptors or less ends with 125 and the limit, and is not reported as contention" {
    script tool <<'END'
ulimit -n "$1"
aba_lock_operation save
echo 'not reached'
END
    for limit in 200 64; do
        run -125 ./tool "${limit}"
        expect_text "on descriptor 200: the limit is ${limit} open files"
        expect_text 'hint: raise the limit, for example: `ulimit -n 1024`'
        [[ ${output} != *running* && ${output} != *'not reached'* ]]
    done
    script tool <<'END'
ulimit -n 201
aba_lock_operation save
END
    run -0 ./tool
    expect_silence
}

@test "fault 6: a lock file that exists but cannot be opened ends a script with set -e with 125 and the reason" {
    script tool <<'END'
set -e
ulimit -n 200
aba_lock_operation save
echo 'not reached'
END
    "${ABA_LOCK_BIN}" path --create save >/dev/null
    run -125 ./tool
    expect_text 'on descriptor 200: the limit is 200 open files'
    [[ ${output} != *pop_var_context* && ${output} != *'not reached'* ]]
}

# ---- 7: any child can `flock -u 200`

@test "fault 7: after a child has released the lock, it is not reported as held" {
    script tool <<'END'
aba_lock_operation save
flock -u 200
aba_lock_held save && exit 91
aba-lock status -q save && exit 92
# Another call acquires it again.
aba_lock_operation save && aba_lock_held save
END
    run -0 ./tool
    expect_silence
}

# ---- 8: in an interactive shell the failing `exit 1` closes the user's terminal

@test "fault 8: an interactive shell stays open and gets the status" {
    start_holder save
    run -0 bash --norc -i <<'END'
source "$LIBRARY"
aba_lock_operation save
echo "still here: $?"
aba_lock_operation bad/name
echo "still here: $?"
aba_lock_operation --no-such-option x
echo "still here: $?"
ABA_LOCK_BIN=/no/such/helper
aba_lock_operation save
echo "still here: $?"
END
    expect_text 'still here: 1'
    expect_text 'still here: 125'
    expect_text 'still here: 2'
    expect_text 'the helper /no/such/helper (from ABA_LOCK_BIN) was not found, or is not executable'
    let_go
}

# ---- 9: the pid in the record is that of a dead process, or of another process by now

@test "fault 9: a record whose pid belongs to another process by now is ignored" {
    script tool <<'END'
aba_lock_operation save
END
    ./tool
    sed -i "s/^pid=.*/pid=$$/" "${ABA_LOCK_DIR}/aba-save.lock"
    run -1 aba-lock status save
    expect_text 'save: free'
    run flock -n "${ABA_LOCK_DIR}/aba-save.lock" aba-lock lock save -- true
    expect_text 'save is held by pid '
    [[ ${output} != *"pid $$ "* && ${output} != *'has ended'* ]]
}

# ---- 10: root and another user on one lock directory, sticky directories with `fs.protected_regular`

@test "fault 10: in a sticky directory an existing file is opened without creating it" {
    script tool <<'END'
aba_lock_operation save
aba_lock_held save
END
    ./tool
    chmod 1777 "${ABA_LOCK_DIR}"
    strace -f -o trace -e trace=open,openat ./tool
    # The helper opens it, and the script opens the link of the helper.
    run -0 grep -F 'aba-save.lock"' trace
    [[ ${output} != *O_TRUNC* && ${output} != *O_CREAT* ]]
    run -0 grep -E '"/proc/[0-9]+/fd/[0-9]+", O_RDWR\|O_CREAT' trace
}

@test "fault 10: in a sticky directory all policies work" {
    script tool <<'END'
for option in --slots=2 --coalesce --replace; do
    aba_lock_operation "${option}" save
    aba_unlock_operation save
done
END
    mkdir -m 1777 "${ABA_LOCK_DIR}"
    run -0 ./tool
    expect_silence
}

# Takes a lease on the lock file of save, until `release_lease`. The kernel breaks it 45 s after the first process has tried to open
# the file, so each call of the test has a lease of its own.
take_lease() {
    "${ABA_LOCK_BIN}" path --create save >/dev/null
    rm -f leased
    start python3 -c 'import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
f = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
open("leased", "w").close()
time.sleep(1000)' "${ABA_LOCK_DIR}/aba-save.lock"
    holder=${STARTED_PID}
    until_true test -e leased
}

release_lease() {
    kill -KILL "${holder}"
    expect_end 137 "${holder}"
}

@test "fault 10: a file lease in a sticky directory counts as a lock, and a wait for its end can be interrupted" {
    mkdir -m 1777 "${ABA_LOCK_DIR}"
    script tool <<'END'
aba_lock_operation "$@"
echo ran
END
    take_lease
    run -1 ./tool save
    expect_text "aba-lock: save cannot be acquired: its lock file cannot be opened: pid ${holder} ("
    release_lease
    take_lease
    run -1 ./tool --wait=0.3 save
    expect_text "aba-lock: timed out after 0.3 s waiting for save: its lock file cannot be opened: pid ${holder} ("
    release_lease
    take_lease
    run -0 ./tool --skip-ok save
    expect_silence
    release_lease
    take_lease
    run -0 ./tool --on-conflict=return save
    [[ ${output} == *ran ]]
    release_lease
    take_lease
    script stopped <<'END'
trap 'echo handled >&2; exit 7' TERM
aba_lock_operation --wait save
END
    start ./stopped
    until_true grep -q 'has a file lease on it' output
    kill "${STARTED_PID}"
    expect_end 7
    run -0 cat output
    expect_text handled
    release_lease
    take_lease
    : >output
    start ./tool --wait save
    until_true grep -q 'waiting for save, whose lock file cannot be opened' output
    release_lease
    expect_end 0
    run -0 tail -n 1 output
    [[ ${output} == ran ]]
}

@test "fault 10: a file that can only be read is locked, too" {
    script tool <<'END'
aba_lock_operation save
aba_lock_held save
END
    ./tool
    chmod 400 "${ABA_LOCK_DIR}/aba-save.lock"
    run -0 ./tool
    expect_silence
}

# ---- 11: a symlink planted at the lock path

@test "fault 11: a planted link is refused, and its target stays as it is" {
    mkdir "${ABA_LOCK_DIR}"
    echo precious >victim
    ln -s "${PWD}/victim" "${ABA_LOCK_DIR}/aba-save.lock"
    ln -s "${PWD}/nowhere" "${ABA_LOCK_DIR}/aba-load.lock"
    script tool <<'END'
aba_lock_operation "$1"
echo 'not reached'
END
    for operation in save load; do
        run -125 ./tool "${operation}"
        expect_text 'it is a symbolic link, not a regular file'
        [[ ${output} != *'not reached'* ]]
    done
    [[ $(<victim) == precious && ! -e nowhere ]]
}

# ---- 12: an `exec 200<>file` that fails ends the script without a message, and `2>/dev/null` silences the rest of the script

@test "fault 12: a descriptor that cannot be opened is reported in every mode, and stderr stays open" {
    script tool <<'END'
ulimit -n 128
trap 'echo "the end: $?" >&2' EXIT
aba_lock_operation --on-conflict return save
echo "status $?" >&2
END
    for mode in '' --posix; do
        run -0 bash ${mode} ./tool
        expect_text 'aba-lock: cannot open lock file'
        expect_text 'status 125'
        expect_text 'the end: 0'
    done
    for mode in '-e' '--posix -eu' '-eEuo pipefail'; do
        run -125 bash ${mode} ./tool
        expect_text 'aba-lock: cannot open lock file'
        expect_text 'the end: 125'
    done
}

# ---- 13: two containers on one volume, each with its own pid namespace

@test "fault 13: a holder in another pid namespace is reported as such, and not as the local process with its pid" {
    script tool <<'END'
aba_lock_operation --who 'in the container' save
hold
END
    start unshare --user --map-root-user --pid --fork --kill-child --mount-proc ./tool
    until_ready
    pid=$(sed -n 's/^pid=//p' "${ABA_LOCK_DIR}/aba-save.lock")
    # Here the process has another pid, which is reported.
    run -75 aba-lock lock save -- true
    expect_text 'save is held by pid '
    [[ ${output} != *"pid ${pid} "* ]]
    # In another container it has none.
    run -75 unshare --user --map-root-user --pid --fork --kill-child --mount-proc aba-lock lock save -- true
    expect_text "by pid ${pid} of another pid namespace ("
    expect_text '(in the container)'
    let_go
}

# ---- 14: SIGTERM or Ctrl-C to flock(1) leaves its command running

@test "fault 14: a signal to aba-lock lock reaches its command, with and without --no-inherit" {
    script tool <<'END'
trap 'echo cleaned up >cleaned; exit 7' TERM
ready $$
while sleep 0.05; do :; done
END
    for option in --nonblock --no-inherit; do
        rm -f cleaned
        start aba-lock lock "${option}" save -- ./tool
        tool=$(until_ready)
        kill -TERM "${STARTED_PID}"
        status=0
        wait "${STARTED_PID}" || status=$?
        ((status == 7))
        [[ $(<cleaned) == 'cleaned up' ]]
        has_ended "${tool}"
        is_free save
    done
}

# ---- 15: set -e, -u, pipefail, an ERR trap, a function, a subshell, $( ), a script that uses descriptor 200

@test "fault 15: with every shell option, the library works and prints nothing" {
    script tool <<'END'
work() {
    aba_lock_operation save
    aba_lock_held save
    aba_lock_operation load bundle
    aba_lock_detach /bin/true
    aba_unlock_operation
    aba_unlock_operation load
    aba_lock_held save
}
work
aba-lock status -q save
echo right
END
    for options in '' '-e' '-u' '-eu' '-eEuo pipefail' '--posix' '--posix -eu' '-f' '-C' '-a' '-o errtrace -o functrace' \
        '-O nullglob -O failglob' '-O extglob -O nocasematch' '-O expand_aliases' '-O inherit_errexit -e'; do
        # An older bash does not know all of them.
        bash ${options} -c : 2>/dev/null || continue
        run -0 bash ${options} ./tool
        [[ ${output} == right ]] || {
            printf 'with %s: %s\n' "${options}" "${output}"
            return 1
        }
    done
}

@test "fault 15: the ERR trap of the script does not run in the library, and stays as it is" {
    script tool <<'END'
set -eEuo pipefail
trap 'echo "ERR in line $LINENO"' ERR
aba_lock_operation save
aba_lock_held save
aba_lock_operation load
aba_unlock_operation
trap -p ERR
END
    run -0 ./tool
    [[ ${output} == "trap -- 'echo \"ERR in line \$LINENO\"' ERR" ]]
}

@test "fault 15: functions and aliases with the names of commands, and another IFS, change nothing" {
    cat >tool <<'END'
shopt -s expand_aliases
for name in builtin while case local printf exec eval export unset return exit shift read command declare type true ulimit shopt; do
    alias "$name=echo alias-$name"
done
source "$LIBRARY"
\unalias -a
for name in local printf eval export unset return exit shift read type true ulimit shopt cd test '[' command exec; do
    \builtin eval "function $name { echo function-$name; }"
done
\builtin export -f exec
IFS=a/20
aba_lock_operation save load
aba_lock_held save && echo held save
aba_unlock_operation load && aba_lock_held load || echo free load
[[ $IFS == a/20 ]] && echo IFS
exec
bash -c exec
END
    run -0 bash ./tool
    [[ ${output} == $'held save\nfree load\nIFS\nfunction-exec\nfunction-exec' ]] || {
        echo "${output}"
        return 1
    }
}

@test "fault 15: functions with which the library cannot work are reported" {
    script tool <<'END'
exec() { echo function-exec; }
readonly -f exec
aba_lock_operation save
echo 'not reached'
END
    run -125 ./tool
    expect_text ': a readonly function named exec hides the builtin'
    [[ ${output} != *'not reached'* ]]
    script tool <<'END'
builtin() { echo function-builtin; }
aba_lock_operation save
echo 'not reached'
END
    run -125 timeout "${PATIENCE}" ./tool
    expect_text 'aba-lock.bash cannot work: a function named builtin hides the builtin'
    [[ ${output} != *'not reached'* ]]
}

@test "fault 15: in a subshell the lock ends with the subshell, which is reported without --subshell" {
    script tool <<'END'
(
    aba_lock_operation save
    (exec 200>&-; unset ABA_LOCK_FDS; aba-lock lock -q save -- true) && exit 91
    exit 0
) || exit
aba-lock status -q save && exit 92
(aba_lock_operation --subshell load && aba_lock_held load) || exit
x=$(aba_lock_operation bundle; echo done) || exit
[[ $x == done ]] && ! aba_lock_held bundle
END
    run -0 ./tool
    expect_text 'aba-lock: save is locked only until this subshell ends'
    expect_text 'if the subshell is intended, add --subshell'
    expect_text 'aba-lock: bundle is locked only until this subshell ends'
    [[ ${output} != *'load is locked'* ]]
}

@test "fault 15: a subshell does not release the locks of its script" {
    script tool <<'END'
aba_lock_operation save
(aba_lock_operation save && aba_unlock_operation save) || exit 91
aba_lock_held save || exit 92
$(aba_lock_operation save) || exit 93
aba_lock_operation save | cat || exit 94
aba_lock_held save
END
    run -0 ./tool
    expect_silence
}

@test "fault 15: a script that uses descriptor 200 for something else keeps it" {
    script tool <<'END'
exec 200>mine
aba_lock_operation save
echo text >&200
aba_lock_held save && echo "held on $ABA_LOCK_FDS"
aba_unlock_operation
echo more >&200
END
    run -0 ./tool
    [[ ${output} == 'held on 201' && $(<mine) == $'text\nmore' ]]
}

@test "fault 15: a script that later uses descriptor 200 for something else has lost the lock, and keeps the descriptor" {
    script tool <<'END'
aba_lock_operation save
# Bash 3.2 would not replace the file of a descriptor above 9.
exec 200>&-
exec 200>mine
aba_lock_held save && exit 91
aba_unlock_operation save && exit 92
echo text >&200
aba_lock_operation save && aba_lock_held save || exit 93
exec 201>&-
exec 201>other
aba_unlock_operation save && exit 94
echo text >&201
END
    run -0 ./tool
    expect_text 'file descriptor 200 is not open on lock file'
    expect_text 'file descriptor 201 is not open on lock file'
    [[ $(<mine) == text && $(<other) == text ]]
}

@test "if the helper is killed during an unlock, the library reports that the lock may still be held" {
    printf '#!/bin/sh\ncase $1 in unlock) kill -KILL $$ ;; esac\nexec "%s" "$@"\n' "${ABA_LOCK_BIN}" >helper
    chmod +x helper
    script tool <<'SCRIPT'
ABA_LOCK_BIN=${PWD}/helper
aba_lock_operation save
aba_unlock_operation save || echo "status $?"
SCRIPT
    run -0 ./tool
    expect_text 'cannot determine whether save is released: the helper '
    expect_text $'helper ended with status 137\nhint: check the lock: `aba-lock status save`'
    expect_text 'status 125'
}

@test "after a killed unlock, the script is not refused by its own descriptor, and keeps a descriptor that it uses for something else" {
    printf '#!/bin/sh\ncase $1 in unlock) kill -KILL $$ ;; esac\nexec "%s" "$@"\n' "${ABA_LOCK_BIN}" >helper
    chmod +x helper
    script tool <<'SCRIPT'
ABA_LOCK_BIN=${PWD}/helper
aba_lock_operation save
aba_unlock_operation save && exit 91
aba-lock lock -q save -- true || exit 92
aba_lock_operation save load && aba_lock_held save && aba_lock_held load || exit 93
aba_unlock_operation save && exit 94
aba-lock lock -q save -- true || exit 95
aba_lock_held load && aba_lock_operation save || exit 96
exec 200>&-
exec 200>mine
aba_unlock_operation save && exit 97
echo text >&200
SCRIPT
    run -0 ./tool
    [[ $(<mine) == text ]]
}
