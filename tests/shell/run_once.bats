#!/usr/bin/env bats
# run_once.bash: each way in which existing scripts call run_once, and what it must not change in a script. Also
# aba_run_once, the same command of the helper without the additions of run_once.
#
# shellcheck disable=SC2154 # set by bats

load helper

setup() {
    shared_setup
    unset RUN_ONCE_DIR
    export RUN_ONCE=${PROJECT}/shell/run_once.bash
    TASKS=${ABA_LOCK_DIR}/runner
    mkfifo ready go
    # Open all the time, so that no word is lost between two readers.
    exec {READY}<>ready
    # A task: notes its run in the journal and the pipe `ready`, and waits for a word from `go`. A second run does not wait.
    cat >work <<'END'
#!/usr/bin/env bash
if grep -qsxF -e "$1" journal; then
    echo "$1" >>journal
    exit
fi
echo "$1" >>journal
echo "$1" >ready
read -r -t "${PATIENCE}" _ <>go
exit "${2:-0}"
END
    # A task that only notes its run in the journal.
    cat >note <<'END'
#!/usr/bin/env bash
echo "$1" >>journal
exit "${2:-0}"
END
    chmod +x work note
}

teardown() {
    local root
    for root in "${BATS_TEST_TMPDIR}"/*/runner "${HOME}/.aba/runner" "${BATS_TEST_TMPDIR}/tasks"; do
        if [[ -d ${root} ]]; then
            RUN_ONCE_DIR=${root} timeout "${PATIENCE}" "${ABA_LOCK_BIN}" run-once -G || true
        fi
    done
    shared_teardown
}

# Usage: tool NAME <<'END' ... END
#
# Writes a strict bash script that sources run_once.bash. Its ERR trap prints the caller of the function in which it runs, if any.
tool() {
    {
        printf '#!/usr/bin/env bash\n'
        printf 'set -Eeuo pipefail\n'
        printf 'trap '\''echo "trap in ${FUNCNAME[1]-none}: $?"'\'' ERR\n'
        printf 'source "${RUN_ONCE}"\n'
        cat
    } >"$1"
    chmod +x "$1"
}

until_ready() {
    local word
    read -r -t "${PATIENCE}" word <&"${READY}"
    echo "${word}"
}

# Returns 0 if a process waits for task $1.
task_is_waited_for() {
    is_file_waited_for "${TASKS}/$1/lock"
}

# Usage: expect_file FILE TEXT: FILE contains TEXT and nothing else.
expect_file() {
    if [[ $(<"$1") != "$2" ]]; then
        printf 'expected in %s: %s\ngot: %s\n' "$1" "$2" "$(<"$1")" >&2
        return 1
    fi
}

# Writes a helper that notes each of its calls.
noting_helper() {
    cat >helper <<END
#!/usr/bin/env bash
echo "\$*" >>calls
exec "${ABA_LOCK_BIN}" "\$@"
END
    chmod +x helper
}

# ---- as scripts call it ----------------------------------------------------------------------------------------------

@test "a task can be started early and waited for late, and is then validated" {
    tool early <<'END'
run_once -i fetch -- ./work fetch
END
    tool late <<'END'
run_once -i fetch -- ./work fetch
run_once -w -m 'Waiting for the download' -i fetch
echo "status $?"
END
    run -0 timeout "${PATIENCE}" ./early
    expect_silence
    [[ $(until_ready) == fetch ]]
    start ./late
    until_true task_is_waited_for fetch
    pid=$(<"${TASKS}/fetch/pid")
    let_go
    expect_end 0
    expect_file output "Waiting for the download (PID: ${pid})"$'\nstatus 0'
    expect_file journal $'fetch\nfetch'
}

@test "of two tasks, the first is waited for without a message, and the second with one" {
    tool ensure <<'END'
run_once -i oc:download -- ./note download
for ((i = 0; i < 3000; i++)); do [[ ! -s journal ]] || break; sleep 0.01; done
run_once -q -w -i oc:download
run_once -i oc:install -- ./work install
run_once -w -m 'Installing oc' -i oc:install
END
    start ./ensure
    [[ $(until_ready) == install ]]
    until_true task_is_waited_for oc:install
    pid=$(<"${TASKS}/oc:install/pid")
    let_go
    expect_end 0
    expect_file output "Installing oc (PID: ${pid})"
    # Both are validated, because their runs began before the wait.
    expect_file journal $'download\ndownload\ninstall\ninstall'
}

@test "a wait with a command runs the task if it never ran, and shows its output" {
    tool cold <<'END'
run_once -w -S -i cold -- sh -c 'echo out; echo err >&2; echo ran >>journal'
END
    run -0 --separate-stderr ./cold
    [[ ${output} == out && ${stderr} == err ]]
    run -0 ./cold
    expect_silence
    expect_file journal ran
}

@test "an outcome is read if it is not older than its time to live" {
    tool version <<'END'
if run_once -p -t 3600 -i latest && [[ $(run_once -E -i latest) == 0 ]]; then
    echo "known: $(run_once -o -i latest)"
else
    echo "status: $(run_once -E -i latest || echo none)"
    run_once -w -t 3600 -i latest -- echo 4.17
fi
END
    run -0 ./version
    [[ ${output} == $'status: none\n4.17' ]]
    run -0 ./version
    [[ ${output} == 'known: 4.17' ]]
    touch -d '2 hours ago' "${TASKS}/latest/exit"
    run -0 ./version
    [[ ${output} == $'status: none\n4.17' ]]
}

@test "after a reset a task runs again" {
    tool again <<'END'
run_once -r -i image
run_once -i image -- ./note "$1"
run_once -qwS -i image
END
    run -0 ./again first
    run -0 ./again second
    expect_silence
    expect_file journal $'first\nsecond'
}

@test "a task that runs is active and not finished" {
    tool look <<'END'
if run_once -A -i long && ! run_once -p -i long; then
    echo running
elif run_once -p -i long; then
    echo finished
else
    echo new
fi
END
    tool kick <<'END'
run_once -i long -- ./work long
END
    run -0 ./look
    [[ ${output} == new ]]
    run -0 ./kick
    until_ready
    run -0 ./look
    [[ ${output} == running ]]
    let_go
    start "${ABA_LOCK_BIN}" run-once -qw -i long
    expect_end 0
    run -0 ./look
    [[ ${output} == finished ]]
    expect_file journal long
}

@test "after a wait has failed, the text of the failure can be read" {
    tool fail <<'END'
run_once -i registry -- sh -c 'echo "port 5000 is taken" >&2; exit 3'
if ! run_once -qw -i registry; then
    echo "failed with $(run_once -E -i registry): $(run_once -e -i registry)"
fi
END
    run -0 ./fail
    [[ ${output} == 'failed with 3: port 5000 is taken' ]]
}

@test "failed and interrupted tasks are forgotten at start-up, and no others" {
    tool work_day <<'END'
run_once -F
run_once -i good -- ./note good
run_once -i bad -- ./note bad 1
run_once -i killed -- sh -c 'echo killed >>journal; kill -KILL $$'
run_once -qwS -i good
for id in bad killed; do
    run_once -qwS -i "$id" || echo "$id: $?"
done
END
    run -0 ./work_day
    [[ ${output} == $'bad: 1\nkilled: 137' ]]
    : >journal
    run -0 ./work_day
    [[ ${output} == $'bad: 1\nkilled: 137' ]]
    run -0 grep -vx killed journal
    [[ ${output} == bad ]]
}

@test "parallel recipes of make run a task once" {
    tool wrapper <<'END'
run_once "$@"
END
    cat >recipes.mk <<'END'
.PHONY: both one two kick
both: one two
one two:
	@./wrapper -q -w -S -i image -- ./note image
kick:
	@./wrapper -i long -- ./work long
END
    MAKEFLAGS='' run -0 timeout "${PATIENCE}" make -s -j 2 -f recipes.mk both
    expect_file journal image
    MAKEFLAGS='' run -0 timeout "${PATIENCE}" make -s -j 2 -f recipes.mk kick
    expect_silence
    [[ $(until_ready) == long ]]
}

# ---- messages --------------------------------------------------------------------------------------------------------

# Runs ./waiter while a task runs. The task, whose pid is in PID, ends once ./waiter waits.
waits_for_work() {
    tool kick <<'END'
run_once -i task -- ./work task
END
    ./kick
    until_ready
    start ./waiter
    until_true task_is_waited_for task
    PID=$(<"${TASKS}/task/pid")
    let_go
    expect_end 0
}

@test "by default, a wait prints on stdout which task it waits for" {
    tool waiter <<'END'
run_once -w -i task 2>errors
END
    waits_for_work
    expect_file output "Waiting for task: task (PID: ${PID})"
    expect_file errors ''
}

@test "the script's function aba_info prints that it waits" {
    tool waiter <<'END'
aba_info() {
    [[ $# == 1 ]]
    echo "[ABA] $1" >>told
    # As a function does whose last command tests a verbosity setting.
    return 1
}
run_once -w -m $'Fetching 100% of \\n' -i task
END
    waits_for_work
    expect_file output ''
    expect_file told "[ABA] Fetching 100% of \\n (PID: ${PID})"
}

@test "a quiet wait prints nothing, even if it fails" {
    tool waiter <<'END'
run_once -i bad -- ./note bad 4
run_once -q -w -i bad || echo "status $?"
run_once -wq -m never -i task
END
    waits_for_work
    expect_file output 'status 4'
}

@test "only a wait prints that it waits" {
    tool waiter <<'END'
run_once -w -p -i task || echo 'not finished'
run_once -w -s -i task
run_once --wait --running -i task && echo running
run_once -p --wait -q -i task
END
    waits_for_work
    expect_file output $'not finished\nrunning'
}

@test "an empty message is not printed" {
    tool waiter <<'END'
run_once -w -m '' -i task
END
    waits_for_work
    expect_file output ''
}

@test "without a task to wait for, nothing is printed, and the helper is called once" {
    noting_helper
    tool twice <<'END'
run_once -w -S -i done -- true
run_once -w -S -i done
END
    ABA_LOCK_BIN=./helper run -0 ./twice
    expect_silence
    [[ $(grep -c . calls) == 2 ]]
}

@test "the pid file of a killed supervisor is not waited for" {
    mkdir -p "${TASKS}/stale"
    chmod 711 "${TASKS}" "${TASKS}/stale"
    echo 1 >"${TASKS}/stale/pid"
    tool waiter <<'END'
run_once -w -i stale -- echo ran
END
    run -0 ./waiter
    [[ ${output} == ran ]]
}

@test "after a failure, a text says what to do, unless the wait is quiet" {
    tool fail <<'END'
run_once -qw -i bad -- sh -c 'echo broken >&2; exit 3' 2>/dev/null || true
run_once -w -i bad || true
END
    run -0 --separate-stderr ./fail
    expect_silence
    [[ ${stderr} == 'aba-lock: task bad failed with status 3: '* ]]
    [[ ${stderr} == *$'\n  | broken\n'* ]]
    note="[ABA] If this problem persists, re-run './install' from the ABA directory to clear the task cache."
    [[ ${stderr_lines[-1]} == "${note}" ]]
    run -0 bash -c './fail 2>&1 | grep -c persists'
    [[ ${output} == 1 ]]
}

@test "without a helper, run_once prints a message and returns 125" {
    tool lost <<'END'
status=0
run_once -w -i task -- touch ran || status=$?
echo "status $status"
if run_once -p -i task; then echo yes; else echo "probe $?"; fi
END
    ABA_LOCK_BIN='' PATH=${SYSTEM_PATH} run -0 --separate-stderr ./lost
    [[ ${output} == $'status 125\nprobe 125' ]]
    [[ ${stderr_lines[0]} == 'aba-lock: the helper aba-lock was not found, or is not executable' ]]
    [[ ${stderr_lines[1]} == 'hint: add the directory of aba-lock to PATH, or set ABA_LOCK_BIN to its path' ]]
    [[ ${#stderr_lines[@]} == 4 ]]
    ABA_LOCK_BIN=/nowhere/aba-lock run -0 ./lost
    expect_text 'the helper /nowhere/aba-lock (from ABA_LOCK_BIN) was not found'
    [[ ! -e ran ]]
}

# ---- options ---------------------------------------------------------------------------------------------------------

@test "a wait validates a task that succeeded before, unless -S is given" {
    tool waiter <<'END'
run_once "$@" -i built -- sh -c 'echo ran >>journal; test -e artefact || touch artefact; test ! -e broken'
END
    run -0 ./waiter -w
    run -0 ./waiter -wS
    expect_file journal ran
    run -0 ./waiter -w
    expect_file journal $'ran\nran'
    # The task makes the missing file again.
    rm artefact
    run -0 ./waiter -qw
    [[ -e artefact ]]
    touch broken
    run -0 ./waiter -S -w
    run -1 ./waiter -q -w
    run -0 "${ABA_LOCK_BIN}" run-once -E -i built
    [[ ${output} == 1 ]]
}

@test "a wait validates a run that began before it, unless -S is given" {
    tool early <<'END'
run_once -i one -- ./work one
run_once -i two -- ./work two
END
    tool waiter <<'END'
run_once -qw "$@"
END
    run -0 ./early
    until_ready
    until_ready
    start ./waiter -i one
    one=${STARTED_PID}
    start ./waiter -S -i two
    until_true task_is_waited_for one
    until_true task_is_waited_for two
    let_go
    let_go
    expect_end 0
    expect_end 0 "${one}"
    # The second `one` is a validation.
    run -0 sort journal
    [[ ${output} == $'one\none\ntwo' ]]
}

@test "a task that the older function runs is waited for, with its pid if there is one" {
    # This script holds the lock as the older function does, in the background and in the foreground.
    cat >older <<'END'
#!/usr/bin/env bash
mkdir -p "$1" || exit
exec 9>>"$1/lock"
flock -n 9 || exit
(
    setsid ./work "$2" >>"$1/log.out" 2>&1 9>&- &
    [[ $2 == foreground ]] || echo $! >"$1/pid"
    wait $!
    echo $? >"$1/exit"
) &
exec 9>&-
wait
END
    chmod +x older
    tool waiter <<'END'
run_once -A -i task
run_once -F
run_once -i task -- ./note again
run_once -w -S -i task
END
    for kind in background foreground; do
        start ./older "${TASKS}/task" "${kind}"
        older=${STARTED_PID}
        until_ready
        expected='Waiting for task: task'
        if [[ ${kind} == background ]]; then
            until_true test -s "${TASKS}/task/pid"
            expected+=" (PID: $(<"${TASKS}/task/pid"))"
        fi
        : >output
        start ./waiter
        until_true task_is_waited_for task
        until_true grep Waiting output
        let_go
        expect_end 0
        expect_file output "${expected}"
        expect_end 0 "${older}"
        run -0 "${ABA_LOCK_BIN}" run-once -r -i task
    done
    expect_file journal $'background\nforeground'
}

@test "-o of a background run shows both streams, -e stderr, and a run of -w keeps them apart" {
    tool both <<'END'
run_once -i bg -- sh -c 'echo out; echo err >&2; sh -c "echo child >&2"; echo end'
run_once -qw -S -i bg
echo "out: $(run_once -o -i bg | sort | tr '\n' ' ')"
echo "err: $(run_once -e -i bg | tr '\n' ' ')"
run_once -qw -S -i fg -- sh -c 'echo out; echo err >&2' >/dev/null 2>&1
echo "out: $(run_once -o -i fg)"
run_once -i missing -- no-such-command || echo "status $?"
echo "out: $(run_once -o -i missing)"
run_once -o -i unknown && run_once -e -i unknown && echo 'no output'
run_once -o -i ../invalid 2>/dev/null || echo "invalid $?"
END
    run -0 timeout "${PATIENCE}" ./both
    expected=$'out: child end err out \nerr: err child \nout: out\n'
    [[ ${output} == "${expected}"*$'status 127\nout: aba-lock: '*$'no-such-command\nno output\ninvalid 2' ]]
}

@test "letters may share a word with each other and with values, and the last mode counts" {
    noting_helper
    tool call <<'END'
"$@" || true
run_once -qwSW50 -t60 -i one -- true
run_once -rsm'a message' -cwione -- true
run_once -wp -i one || echo "new $?"
run_once -S --wait --id=one --quiet --timeout 50 -- true
run_once -p --id one
END
    ABA_LOCK_BIN=./helper run -0 ./call true
    [[ ${output} == 'new 1' ]]
    # The same under nocasematch, where the patterns of bash match -W for -w.
    mv calls plain
    ABA_LOCK_BIN=./helper run -0 ./call eval 'run_once -G; shopt -s nocasematch'
    [[ ${output} == 'new 1' ]]
    sed -i '/ --reset-all /d' calls
    cmp plain calls
    run -0 sed -n 1,2p calls
    expect_text ' --quiet --wait --no-validate --timeout=50 --ttl=60 --id=one -- true'
    expect_text ' --reset --start --purge --wait --id=one -- true'
}

@test "if an option is given twice, the last value counts" {
    tool call <<'END'
run_once -w -t 1 -i one -W 1 -i two -t 60 --timeout=50 --failure-note one --failure-note two -- sh -c 'exit 3' || echo "ended $?"
END
    run -0 ./call
    expect_text 'ended 3'
    expect_text 'two'
    [[ ${output} != *'[ABA]'* ]]
    [[ -d ${ABA_LOCK_DIR}/runner/two && ! -e ${ABA_LOCK_DIR}/runner/one ]]
}

@test "options that have no effect in a mode are ignored" {
    tool call <<'END'
run_once -W 60 -c --follow -i one -- true
run_once -q -w -S -i one
for mode in -p -A -E -o -e; do
    run_once "${mode}" -S -c -q -W 60 -t 60 --follow --combined-log -m text -i one >/dev/null
done
run_once -R -W 60 -t 60 -i one || echo 'does not run'
run_once -r -c -W 60 -t 60 -i one
run_once -p -i one || echo 'was reset'
run_once -i two--purge -- true
run_once -q -w -S -i two--purge
run_once --list -c -t 60 -W 5 -i two--purge
run_once --json -c -t 60 -W 5 -i two--purge
run_once -F -c -t 60 -W 5
run_once -G -c -t 60 -W 5
run_once -p -i two--purge || echo 'all were reset'
END
    run -0 ./call
    [[ ${output} == $'does not run\nwas reset\n'*$'\nall were reset' ]]
    expect_text '"id": "two--purge"'
}

@test "the command begins after two dashes, or after the options" {
    tool call <<'END'
run_once -w -i one -- printf '%s|' -w -- -i two
run_once -w -i three printf '%s|' -q '' --id=x
run_once -w -i four --
END
    run -1 ./call
    expect_text '-w|--|-i|two|-q||--id=x|'
    expect_text 'no such task: four (never started, or reset)'
}

@test "a message may begin with a dash" {
    tool waiter <<'END'
run_once -w -m '--- waiting' -i task
END
    waits_for_work
    expect_file output "--- waiting (PID: ${PID})"
}

@test "an unknown option or an invalid value is wrong usage" {
    tool call <<'END'
status=0
run_once "$@" || status=$?
exit "$status"
END
    for options in '-x -i a' '-qx -i a' '-q- -i a' '-w- -i a' '-' '--nothing -i a' '-w -W abc -i a' '-w -t -5 -i a' \
        '-w -i' '-i ../a' '-w'; do
        run -2 ./call ${options} -- touch ran
        expect_text ': '
    done
    run -2 ./call -w -i '' -- touch ran
    run -2 ./call
    [[ ! -e ran ]]
}

@test "arguments reach the command unchanged, including tabs" {
    tool call <<'END'
IFS=$'-i\t '
run_once -w -S -i args -- printf '<%s>' $'a\tb' '' '  c  d ' $'e\nf' '*' '\t' '-i' '--'
run_once -r -i args
END
    run -0 ./call
    [[ ${output} == $'<a\tb><><  c  d ><e\nf><*><\\t><-i><-->' ]]
}

# ---- the calling script ----------------------------------------------------------------------------------------------

@test "the ERR trap of a strict script runs once for a failed call, and not in the function" {
    tool strict <<'END'
"$@" || true
if run_once -p -i none; then :; fi
if run_once -A -i none; then :; fi
run_once -R -i none || :
! run_once -E -i none
run_once -qw -i bad -- ./note bad 5 || echo "bad $?"
run_once -w -i bad 2>/dev/null || echo "bad $?"
(run_once -qw -i bad || :)
x=$(run_once -E -i bad)
run_once -i good -- true
run_once -qw -i good
run_once -w -W 0.01 -i long -- sleep 1000 2>/dev/null || echo "long $?"
aba_run_once_if_there -p -i none || :
echo "so far $x"
run_once -qw -i bad
echo 'not reached'
END
    sed -i '/^source/a aba_run_once_if_there() { return 1; }' strict
    for options in true 'set -o posix' 'shopt -s nocasematch extglob' "IFS='-'" 'set -f' 'set -o noclobber'; do
        run -5 ./strict eval "${options}"
        [[ ${output} == $'bad 5\nbad 5\nlong 124\nso far 5\ntrap in none: 5' ]] || {
            echo "with ${options}: ${output}"
            return 1
        }
        "${ABA_LOCK_BIN}" run-once -G
    done
    # The same for the function of the library, which does not validate.
    sed -i '/^aba_run_once_if_there()/d; s/^source.*/&; source "${LIBRARY}"/' strict
    sed -i 's/\brun_once /aba_run_once /; s/aba_run_once_if_there/aba_run_once/' strict
    run -5 ./strict true
    [[ ${output} == $'bad 5\nbad 5\nlong 124\nso far 5\ntrap in none: 5' ]]
}

@test "a failure ends a strict script, even in a subshell, and otherwise is a status" {
    tool strict <<'END'
status=0
(trap - ERR; set -e; run_once -qw -i bad -- ./note bad 6; echo 'not reached') && echo 'not reached' || status=$?
trap - ERR
set +e
# Bash 4.2 ends such a subshell with 1, whatever function fails in it.
fail() { return 6; }
(set -e; fail)
expected=$?
(set -e; run_once -qw -i bad; echo 'not reached')
echo "subshell $(($? == expected))"
run_once -qw -i bad
echo "status $?"
END
    run -0 ./strict
    [[ ${output} == *$'subshell 1\nstatus 6' ]]
}

@test "a task that was started from a subshell or a job continues after the script has ended" {
    tool parents <<'END'
(run_once -i one -- ./work one) &
run_once -i two -- ./work two &
wait
END
    run -0 timeout "${PATIENCE}" ./parents
    expect_silence
    first=$(until_ready)
    second=$(until_ready)
    [[ "${first} ${second}" == 'one two' || "${first} ${second}" == 'two one' ]]
    run -0 "${ABA_LOCK_BIN}" run-once -R -i one
    run -0 "${ABA_LOCK_BIN}" run-once -R -i two
}

@test "a wait in the background passes its status to the builtin wait" {
    tool jobs <<'END'
run_once -qw -i bad -- ./note bad 7 &
first=$!
(run_once -qw -i good -- ./note good) &
second=$!
wait "$second"
wait "$first" || echo "status $?"
END
    run -0 ./jobs
    [[ ${output} == *'status 7' ]]
}

@test "a loop that reads lines from stdin loses none of them" {
    tool loop <<'END'
while read -r id; do
    run_once -w -i "$id" -- cat
    # The second time it is validated. (A validation that takes longer than a second is reported.)
    run_once -qw -i "$id"
    run_once -i "$id.bg" -- cat
    run_once -p -i "$id"
    echo "$id"
done
END
    printf '%s\n' one two three >lines
    run -0 ./loop <lines
    [[ ${output} == $'one\ntwo\nthree' ]]
}

@test "a background task keeps neither the locks nor the open files of the script" {
    tool holder <<'END'
source "${LIBRARY}"
aba_lock_operation save
run_once -i one -- ./work one
aba_run_once -i two -- ./work two
exec 9>nine
run_once -i three -- ./work three
echo 'still mine' >&9
aba_lock_held save
END
    sed -i '/^source "${RUN_ONCE}"/d; s/^source.*/&; source "${RUN_ONCE}"/' holder
    run -0 timeout "${PATIENCE}" ./holder
    expect_silence
    for _ in 1 2 3; do
        until_ready
    done
    is_free save
    for id in one two three; do
        run -0 "${ABA_LOCK_BIN}" run-once -R -i "${id}"
        pid=$(<"${TASKS}/${id}/pid")
        for process in "${pid}" "$(awk '$1 == "PPid:" {print $2}' "/proc/${pid}/status")"; do
            run -0 readlink "/proc/${process}/fd/"*
            [[ ${output} != *aba-save.lock* && ${output} != *nine* ]]
        done
    done
    expect_file nine 'still mine'
}

@test "the descriptors of the script stay as they are" {
    tool descriptors <<'END'
exec 9>nine 8<lines 200>two_hundred
ls -l /proc/$$/fd >before
run_once -qw -i task -- ./note task
run_once -i bg -- ./note bg
run_once -p -i task
ls -l /proc/$$/fd >after
sed -i '/total/d; s/.* \([0-9]* ->\)/\1/' before after
echo nine >&9
read -r line <&8
echo "$line"
END
    echo 'first line' >lines
    run -0 ./descriptors
    [[ ${output} == 'first line' ]]
    expect_file nine nine
    cmp before after
}

@test "a command substitution and a pipeline do not wait for the task" {
    tool pipes <<'END'
x=$(run_once -i one -- ./work one)
run_once -i two -- ./work two | tee copy
echo "<$x>"
END
    run -0 timeout "${PATIENCE}" ./pipes
    [[ ${output} == '<>' ]]
    until_ready
    until_ready
    run -0 "${ABA_LOCK_BIN}" run-once -R -i one
    run -0 "${ABA_LOCK_BIN}" run-once -R -i two
}

@test "variables that the script has set and not exported have an effect, and stay as they are" {
    tool kick <<'END'
declare -a names=(RUN_ONCE_DIR ABA_LOCK_DIR HOME)
declare +x "${names[@]}"
unset "${names[@]}"
while [[ $1 == *=* ]]; do
    declare "${1%%=*}=${1#*=}"
    [[ ${KEEP-} != readonly ]] || readonly "${1%%=*}"
    shift
done
source "${RUN_ONCE}"
before=$(declare -p "${names[@]}" 2>/dev/null || :)
"$@" -i task -- ./note task
"$@" -qwS -i task
after=$(declare -p "${names[@]}" 2>/dev/null || :)
[[ $before == "$after" ]]
END
    sed -i '4d; s/^source.*/&; source "${LIBRARY}"/' kick
    tool waiter <<'END'
declare +x RUN_ONCE_DIR HOME ABA_LOCK_DIR
unset ABA_LOCK_DIR
HOME=$1
run_once -i task -- ./work task
run_once -w -i task
END
    mkdir other
    for KEEP in not readonly; do
        export KEEP
        for function in run_once aba_run_once; do
            KEEP=${KEEP} run -0 ./kick "RUN_ONCE_DIR=${PWD}/tasks" "HOME=${PWD}/other" "${function}"
            expect_silence
            [[ -f tasks/task/exit ]]
            run -0 ./kick "ABA_LOCK_DIR=${PWD}/root" "HOME=${PWD}/other" "${function}"
            expect_silence
            [[ -f root/runner/task/exit ]]
            run -0 ./kick "HOME=${PWD}/other" "${function}"
            expect_silence
            [[ -f other/.aba/runner/task/exit ]]
            rm -rf tasks root other/.aba
        done
    done
    [[ ! -e ${TASKS} && ! -e ${HOME}/.aba ]]
    # The message is about the same task.
    TASKS=${HOME}/.aba/runner
    rm journal
    start env -u HOME ./waiter "${HOME}"
    until_ready
    until_true task_is_waited_for task
    pid=$(<"${TASKS}/task/pid")
    let_go
    expect_end 0
    expect_file output "Waiting for task: task (PID: ${pid})"
}

@test "the script's options, traps and variables and its getopts loop stay as they are" {
    tool look <<'END'
look() {
    shopt
    set -o
    trap -p
    umask
    pwd
    declare -p | grep -vE '^(declare -[-a-z]+ )?(_|BASH.*|PIPESTATUS|LINENO|RANDOM|SRANDOM|SECONDS|EPOCH.*|FUNCNAME)(=|$)'
    alias -p
    hash
}
aba_info() { :; }
trap 'true' EXIT
trap 'true' USR1
IFS=:
# Twice, so that `hash` knows all commands.
look >before
look >before
run_once -i task -- ./note task
run_once -qwm no -i task
run_once -E -i task
run_once -F
run_once -r -i task
look >after
diff before after
# In the middle of a word of letters, too.
seen=''
while getopts 'ab:c' letter -acb value; do
    seen+="$letter$OPTIND${OPTARG-} "
    run_once -qp -t 5 -i task || :
done
echo "$seen"
END
    run -0 ./look
    [[ ${output} == $'0\na1 c1 b3value ' ]]
}

@test "functions and aliases with the names of builtins change nothing" {
    tool odd <<'END'
local() { echo wrong; }
return() { echo wrong; }
shift() { echo wrong; }
printf() { echo wrong; }
read() { echo wrong; }
declare() { echo wrong; }
export() { echo wrong; }
exec() { echo wrong; }
shopt() { echo wrong; }
unset() { echo wrong; }
true() { echo wrong; }
test() { echo wrong; }
eval() { echo wrong; }
set() { echo wrong; }
aba-lock() { echo wrong; }
builtin shopt -s expand_aliases
alias local='echo alias' run_once='echo alias' case='echo alias' return='echo alias' builtin='echo alias'
source "${RUN_ONCE}"
\run_once -w -S -i task -- echo right
END
    run -0 ./odd
    [[ ${output} == right ]]
}

# ---- sourcing --------------------------------------------------------------------------------------------------------

@test "sourcing run_once.bash, even twice, prints nothing, starts no process, and changes nothing of the script" {
    cat >look <<'END'
look() {
    shopt
    set -o
    trap -p
    compgen -v | grep -vE '^(_|__run_once_.*|BASH_.*|PIPESTATUS|LINENO|RANDOM|SRANDOM|SECONDS|EPOCH.*|FUNCNAME)$' | sort
    compgen -A function | grep -vE '^(__)?run_once' | sort
    alias -p
}
shopt -s expand_aliases extglob
set -o noclobber
alias ll='ls -l' function='no' done='no'
trap 'true' EXIT
look >before
source "$RUN_ONCE" >said 2>&1
source "$RUN_ONCE" >>said 2>&1
look >after
cmp before after && [[ ! -s said ]] && [[ ! -e $ABA_LOCK_DIR ]]
END
    run -0 bash ./look
    expect_silence
    for options in -e -eu -euo\ pipefail --posix; do
        run -0 bash ${options} -c 'source "$RUN_ONCE"; source "$RUN_ONCE"; run_once -wS -i task -- echo ran; run_once -G'
        [[ ${output} == ran ]]
    done
    run -0 strace -f -c -o calls -e trace=process bash --norc -c 'source "$RUN_ONCE"'
    run ! grep -E '(clone|fork)' calls
}

@test "run_once.bash finds the helper with the same code as aba-lock.bash" {
    # Prints this code of a file, whose private names begin with __PREFIX.
    finding_code() {
        sed -n "/^__$1_installed=/,/^fi/p; /^__$1_find_helper() {/,/^    done/p" "$2" | sed "s/__$1_/__/g"
    }
    finding_code aba "${WHOLE_LIBRARY}" >of_library
    finding_code run_once "${RUN_ONCE}" >of_run_once
    (($(grep -c . of_library) > 15))
    diff of_library of_run_once
}

@test "run_once.bash replaces an older run_once that was defined before" {
    cat >includes <<'END'
run_once() {
    echo 'the old one'
}
helper_of_the_old_one() { :; }
source "${RUN_ONCE}"
END
    run -0 bash -euc 'source ./includes; run_once -w -i task -- echo "the new one"'
    [[ ${output} == 'the new one' ]]
}

# ---- aba_run_once ----------------------------------------------------------------------------------------------------

@test "aba_run_once prints its message on stderr, and validates only with --validate" {
    tool waiter <<'END'
source "${LIBRARY}"
aba_info() { echo wrong; }
aba_run_once -w -i task 2>errors
END
    waits_for_work
    expect_file output ''
    expect_file errors "Waiting for task: task (PID: ${PID})"
    tool twice <<'END'
source "${LIBRARY}"
aba_run_once -qw -i once -- ./note once
aba_run_once -qw -i once
aba_run_once -qw --validate -i once
END
    : >journal
    run -0 ./twice
    expect_file journal $'once\nonce'
}

@test "if the command of aba_run_once is a function, a message says how to run it" {
    cat >call <<'END'
set -euo pipefail
source "${LIBRARY}"
fetch_all() { echo "built $*"; }
aba_run_once "$@" || echo "status $?"
export -f fetch_all
aba_run_once -q -w -i "works.$$" -- bash -c fetch_all
END
    for options in '-w -i one' '-i two'; do
        run -0 bash call ${options} -- fetch_all
        expect_text 'aba-lock: command not found: fetch_all'
        expect_text 'aba-lock: fetch_all is a function, and a task runs a program'
        expect_text 'hint: run it with bash: `export -f fetch_all`, then `-- bash -c fetch_all`'
        expect_text 'status 127'
    done
    expect_text 'built '
    run -0 bash call -w -i three -- no-such-command -- fetch_all
    [[ ${output} != *'is a function'* ]]
    run -0 bash call -w -i four -- bash -c 'exit 127' fetch_all
    [[ ${output} != *'is a function'* ]]
}

@test "without a helper, aba_run_once prints a message and returns 125" {
    tool lost <<'END'
source "${LIBRARY}"
aba_run_once -i task -- touch ran || echo "status $?"
END
    ABA_LOCK_BIN='' PATH=${SYSTEM_PATH} run -0 ./lost
    expect_text 'aba-lock: the helper aba-lock was not found'
    expect_text 'status 125'
}

@test "a task of aba_run_once gets no ABA_LOCK_FDS" {
    tool holder <<'END'
source "${LIBRARY}"
aba_lock_operation save
aba_run_once -w -i task -- sh -c 'echo "<${ABA_LOCK_FDS-none}>"'
aba_lock_held save
echo "<$ABA_LOCK_FDS>"
END
    run -0 ./holder
    [[ ${output} == $'<none>\n<200>' ]]
}
