# Functions for all tests of the shell library. Each test has its own lock directory, home directory and work directory, ends
# every process that it started, and waits for nothing longer than PATIENCE seconds.
# shellcheck shell=bash
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2034 # for the tests
# shellcheck disable=SC2154 # set by bats

bats_require_minimum_version 1.5.0

# The bash that runs the scripts of the tests: it is the first `bash` on PATH in each test. Bats runs in the bash of the system.
BASH_BIN=${BASH_BIN:-$(type -P bash)}
BASH_DIR=${BATS_RUN_TMPDIR}/bash
SYSTEM_PATH=${BASH_DIR}:/usr/bin:/bin
PATIENCE=60
PROJECT=${BATS_TEST_DIRNAME%/tests/shell}
# The library as it is installed, and the whole library in one file.
INSTALLED=${BATS_RUN_TMPDIR}/installed
SILENCE=${BATS_RUN_TMPDIR}/silence
LIBRARY=${INSTALLED}/share/aba-lock/aba-lock.bash
WHOLE_LIBRARY=${PROJECT}/shell/aba-lock.bash
BUILTIN_FILE=${BUILTIN_FILE:-${PROJECT}/target/debug/libaba_lock_builtin.so}

# A file with a setup or teardown of its own calls shared_setup or shared_teardown in it.
setup() {
    shared_setup
}

teardown() {
    shared_teardown
}

shared_setup() {
    # With this trap, bats notes the line of each command, for the message about a failure. That takes longer than most commands, so from
    # here on it does so for the commands of the test, and not for those of the functions that they call.
    trap '[[ ${FUNCNAME-} != "${BATS_TEST_NAME}" ]] || bats_debug_trap "${BASH_SOURCE}"' DEBUG
    : "${ABA_LOCK_BIN:?run the tests with make test}"
    export ABA_LOCK_BIN PROJECT LIBRARY WHOLE_LIBRARY PATIENCE BUILTIN_FILE
    export HOME=${BATS_TEST_TMPDIR}/home
    export ABA_LOCK_DIR=${BATS_TEST_TMPDIR}/locks
    if [[ ! -e ${BASH_DIR}/bash ]]; then
        [[ ${BASH_BIN} == /* && -x ${BASH_BIN} ]] || {
            echo "BASH_BIN is ${BASH_BIN}, which is not the absolute path of a program" >&2
            return 1
        }
        mkdir -p "${BASH_DIR}"
        ln -sf "${BASH_BIN}" "${BASH_DIR}/bash"
    fi
    # Several test files may do that at the same time.
    [[ -p ${SILENCE} ]] || mkfifo "${SILENCE}" 2>/dev/null || [[ -p ${SILENCE} ]]
    [[ -e ${LIBRARY} ]] || install_library "${INSTALLED}"
    export PATH=${ABA_LOCK_BIN%/*}:${BASH_DIR}:${PATH}
    # Bats exports this function in a way that stops bash 4.0 to 4.2 in posix mode.
    export -n -f bats_readlinkf 2>/dev/null || true
    unset ABA_LOCK_LOG ABA_LOCK_FDS ABA_LOCK_ON_CONFLICT ABA_LOCK_TIMEOUT RUN_ONCE_DIR ABA_LOCK_SERVER ABA_LOCK_BUILTIN
    mkdir -p "${HOME}"
    cd "${BATS_TEST_TMPDIR}" || return "$?"
    STARTED=''
}

shared_teardown() {
    local pid
    for pid in ${STARTED}; do
        # The whole session, because `start` has made one for each.
        ! is_session_of_test "${pid}" || kill -KILL -- "-${pid}" 2>/dev/null || true
        # By its pid, because bats has other children.
        wait "${pid}" 2>/dev/null || true
    done
}

# Usage: is_session_of_test PID: returns 0 if the process group that `start` has made with this pid still has processes of this test.
#
# A long test can outlive its first processes by so much that another test has a process group with such a pid.
is_session_of_test() {
    local member
    kill -0 -- "-$1" 2>/dev/null || return 1
    for member in $(pgrep -g "$1"); do
        # The variables with which a process was started. A zombie has none.
        ! grep -qzxF "BATS_TEST_TMPDIR=${BATS_TEST_TMPDIR}" "/proc/${member}/environ" 2>/dev/null || return 0
    done
    return 1
}

# Usage: install_library PREFIX: installs the library and the functions for its builtin, as `make install` does.
#
# Several test files may do that at the same time. The file that scripts source comes last, because the others must be there.
install_library() {
    local directory=$1/share/aba-lock
    mkdir -p "${directory}"
    cp "${WHOLE_LIBRARY}" "${directory}/new.$$"
    mv "${directory}/new.$$" "${directory}/aba-lock-whole.bash"
    cp "${PROJECT}/shell/aba-lock-builtin.bash" "${directory}/new.$$"
    mv "${directory}/new.$$" "${directory}/aba-lock-builtin.bash"
    cp "${PROJECT}/shell/aba-lock-fast.bash" "${directory}/new.$$"
    mv "${directory}/new.$$" "${directory}/aba-lock.bash"
}

# Usage: script NAME <<'END' ... END
#
# Writes a bash script that sources the library. In the script, `ready [TEXT]` reports to `until_ready`, and `hold [TEXT]`
# reports and then waits for `let_go`.
script() {
    {
        printf '#!/usr/bin/env bash\n'
        printf 'ready() { echo "${1:-ready}" >"${BATS_TEST_TMPDIR}/ready"; }\n'
        printf 'hold() { ready "$@"; read -r -t "${PATIENCE}" _ <"${BATS_TEST_TMPDIR}/go"; }\n'
        printf 'source "${LIBRARY}"\n'
        cat
    } >"$1"
    chmod +x "$1"
    [[ -p ready ]] || mkfifo ready go
}

# Usage: start CMD [ARG]...
#
# Runs CMD in the background, in a new session and without the descriptors of bats. Its pid is in STARTED_PID, its output in
# the file `output`.
start() {
    setsid "$@" >>output 2>&1 </dev/null 3>&- 4>&- &
    STARTED_PID=$!
    STARTED+=" ${STARTED_PID}"
}

# Usage: start_holder OPERATION: starts a script that holds this lock until `let_go`.
start_holder() {
    script holder <<END
aba_lock_operation $1
hold
END
    start ./holder
    until_ready >/dev/null
}

# Usage: start_flock OPERATION: starts flock(1), which holds this lock until the end of the test.
start_flock() {
    local file inode
    file=$("${ABA_LOCK_BIN}" path --create "$1")
    inode=$(stat -c %i "${file}")
    start flock "${file}" sleep 1000
    until_true grep -q "${STARTED_PID} .*:${inode} " /proc/locks
}

# Waits until a script reports that it is ready, and prints its text.
#
# A reader that opens the fifo before the writer of the last report has closed it reads an end without a line, and must
# read again.
until_ready() {
    local text='' end=$((SECONDS + PATIENCE))
    until [[ -n ${text} ]] || ((SECONDS > end)); do
        text=$(timeout "${PATIENCE}" head -n 1 ready)
    done
    [[ -n ${text} ]] && printf '%s\n' "${text}"
}

# Lets a script go on that is in `hold`.
let_go() {
    timeout "${PATIENCE}" bash -c 'echo >go'
}

# Waits until the command succeeds.
until_true() {
    local end=$((SECONDS + PATIENCE))
    until "$@" >/dev/null 2>&1; do
        if ((SECONDS > end)); then
            echo "gave up waiting for: $*" >&2
            return 1
        fi
        # A sleep(1) would be a process more. Nothing is written into this pipe.
        read -r -t 0.02 _ <>"${SILENCE}" || true
    done
}

# Returns 0 if a helper waits for the lock on operation $1.
is_waited_for() {
    is_file_waited_for "${ABA_LOCK_DIR}/aba-$1.lock"
}

# Returns 0 if a process waits for the lock on file $1: it is blocked in the kernel, as /proc/locks shows.
is_file_waited_for() {
    local inode
    inode=$(stat -c %i "$1") || return "$?"
    grep -q -- "-> FLOCK .*:${inode} " /proc/locks
}

is_free() {
    local status=0
    "${ABA_LOCK_BIN}" status "$1" >/dev/null || status=$?
    ((status == 1))
}

# Returns 0 also for a zombie, which `kill -0` still finds.
has_ended() {
    local stat
    read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
    [[ ${stat##*) } == Z* ]]
}

# Usage: expect_end STATUS [PID]: waits until a child of the test, by default the last one, ends with STATUS.
expect_end() {
    local status=0 pid=${2:-${STARTED_PID}}
    until_true has_ended "${pid}" || return "$?"
    wait "${pid}" || status=$?
    if ((status != $1)); then
        printf 'expected status %d of pid %d, got %d\n' "$1" "${pid}" "${status}" >&2
        cat output >&2
        return 1
    fi
}

# Usage: expect_text TEXT: the output of `run` contains it.
expect_text() {
    if [[ ${output} != *"$1"* ]]; then
        printf 'expected: %s\ngot:      %s\n' "$1" "${output}" >&2
        return 1
    fi
}

# Usage: expect_silence: `run` printed nothing.
expect_silence() {
    if [[ -n ${output} ]]; then
        printf 'expected silence, got: %s\n' "${output}" >&2
        return 1
    fi
}

# The handlers in which tests call the library: those of EXIT, after success and after failure, of ERR, of DEBUG and of signals.
HANDLER_SCENES=('EXIT 0' 'EXIT 1' ERR DEBUG TERM INT HUP USR1)

# Usage: run_in_handler SCENE COMMANDS EXPECTED [STATUS]
#
# Runs COMMANDS in a handler, in a script of its own. The output must be EXPECTED, and the exit status STATUS.
run_in_handler() {
    local scene=$1
    {
        printf 'source "${LIBRARY}"\nhandler() {\n%s\n}\n' "$2"
        case ${scene} in
            EXIT*) printf 'trap handler EXIT\nexit %s\n' "${scene#EXIT }" ;;
            ERR) printf 'trap handler ERR\nfalse\n' ;;
            DEBUG) printf 'trap "trap - DEBUG; handler" DEBUG\n:\n' ;;
            *) printf 'trap handler %s\nkill -s %s "$$"\n' "${scene}" "${scene}" ;;
        esac
    } >handler
    run bash ./handler
    if [[ ${output} != "$3" || ${status} != "${4-${status}}" ]]; then
        printf 'in a handler of %s\nexpected: %s\ngot:      %s, with status %d\n' "${scene}" "$3" "${output}" "${status}" >&2
        return 1
    fi
}

# Usage: in_handlers COMMANDS EXPECTED [STATUS]: calls run_in_handler for all handlers.
in_handlers() {
    local scene
    for scene in "${HANDLER_SCENES[@]}"; do
        run_in_handler "${scene}" "$@"
    done
}

# Makes a helper that sends SIGUSR1 to the script before its first work for `save`. Bash runs the handler after the helper has ended,
# while the call that started it still runs.
make_signalling_helper() {
    printf '#!/bin/sh\ncase "$*" in *save*) [ -e sent ] || { echo >sent; kill -s USR1 "$PPID"; } ;; esac\nexec "%s" "$@"\n' \
        "${ABA_LOCK_BIN}" >helper
    chmod +x helper
    create_lock_files
}

# Creates the files of the locks in the tests of interrupted calls. A test may hold one of the locks.
create_lock_files() {
    local name
    for name in save load other; do
        aba-lock path --create "${name}" >/dev/null
    done
}

# Starts a process that answers on the fifo `answers` whether the lock that is named on the fifo `questions` is free. A flock(1) for each
# question would take more time than the calls that are tested.
start_lock_tester() {
    if [[ -p questions ]]; then
        return 0
    fi
    mkfifo questions answers
    start python3 -ISc 'import fcntl, sys
questions, answers = open("questions", "rb+", 0), open("answers", "rb+", 0)
for name in iter(questions.readline, b""):
    answer = b"free\n"
    with open(sys.argv[1] + "/aba-" + name.decode().strip() + ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            answer = b"held\n"
    answers.write(answer)' "${ABA_LOCK_DIR}"
}

# Usage: make_interrupted_tool
#
# Makes `tool PREPARE CALL HANDLER CHECK [rest]`: runs PREPARE, CALL and CHECK once for each command of the library that CALL
# runs, with HANDLER before that command. (A handler of DEBUG runs where one of a signal can.) CHECK must succeed. With `rest`,
# CALL begins after the whole library was loaded. In the rest, HANDLER runs only before the commands on its lists and files. With
# INTERRUPT_EVERY=N, HANDLER runs only before each Nth command, of which the first depends on the version of bash.
make_interrupted_tool() {
    create_lock_files
    start_lock_tester
    script tool <<'END'
prepare=$1 call=$2 handler=$3 check=$4 rest=${5-}
# Not in commands of the library, which the handler interrupts.
interrupt() {
    # The rest has many commands that neither change nor read what handlers change.
    [[ -z ${__aba_loaded-} || ${BASH_COMMAND} == *exec* || ${BASH_COMMAND} == *__aba_locks* || ${BASH_COMMAND} == *LOCK_FDS* ||
        ${BASH_COMMAND} == *__aba_opened* || ${BASH_COMMAND} == *' <&'* || ${BASH_COMMAND} == *__aba_bin* ]] || return 0
    ((BASH_SUBSHELL == 0 && ++count == step)) || return 0
    at=${BASH_COMMAND}
    trap - DEBUG
    builtin eval "${handler}"
}
exec 5<>questions 6<>answers
# Returns 0 if lock $1 is free.
free() {
    local answer=''
    echo "$1" >&5
    read -r -t "${PATIENCE}" answer <&6 && [[ ${answer} == free ]]
}
# Children of the script inherit the locks in these operations, and no other one.
inherited() {
    local name fd fds='' exported='' expected=" ${*:+"$* "}"
    if declare -p ABA_LOCK_FDS >exported 2>/dev/null; then
        read -r exported <exported
    fi
    [[ ${exported} != 'declare -x '* ]] || fds=${ABA_LOCK_FDS}
    for fd in ${fds}; do
        for name in save load other none; do
            [[ ! /dev/fd/${fd} -ef ${ABA_LOCK_DIR}/aba-${name}.lock ]] || break
        done
        [[ ${expected} == *" ${name} "* ]] || return 1
        expected=${expected/ "${name}" / }
    done
    [[ ${expected} == ' ' ]]
}
[[ -z ${rest} ]] || aba_lock_held save || true
every=${INTERRUPT_EVERY:-1}
for ((step = 1 + BASH_VERSINFO[1] % every; step < 1000; step += every)); do
    if [[ -z ${rest} ]]; then
        # As in a script that has just sourced it.
        __aba_loaded=''
        source "${LIBRARY}"
    fi
    eval "${prepare}"
    count=0 failed=''
    set -o functrace
    trap interrupt DEBUG
    eval "${call}" || failed="status ${?}"
    trap - DEBUG
    set +o functrace
    ((count >= step)) || break
    eval "${check}" || failed+=' check'
    if [[ -n ${failed} ]]; then
        echo "before command ${step}, ${at}: ${failed}; locks ${__aba_locks}, descriptors ${ABA_LOCK_FDS-}"
        exit 1
    fi
done
((step > 12)) || echo "only ${step} commands"
END
}

# Usage: interrupt_each_command PREPARE CALL HANDLER CHECK
interrupt_each_command() {
    make_interrupted_tool
    local part
    for part in '' rest; do
        run -0 timeout 300 ./tool "$@" "${part}"
        expect_silence
    done
}
