#!/usr/bin/env bats
# The builtin for bash: it does the same as the helper, and never harms the shell that has loaded it.
# shellcheck disable=SC2030,SC2031,SC2153 # each test is a process of its own; helper sets the variables

load helper
load forms

setup() {
    shared_setup
    [[ -r ${BUILTIN_FILE} ]] || {
        echo "there is no ${BUILTIN_FILE}: cargo build -p aba-lock-builtin"
        return 1
    }
    [[ $("${BASH_BIN}" -c 'enable -f "$1" no_builtin 2>&1' bash "${BUILTIN_FILE}") != *'not available'* ]] ||
        skip 'this bash is static, and loads no builtin'
    cp "${WHOLE_LIBRARY}" whole.bash
    create_files
    export ABA_LOCK_BUILTIN=${BUILTIN_FILE}
}

# Usage: expect_builtin LOADED: runs a script, with the options in OPTIONS, and checks whether the library loads the builtin.
expect_builtin() {
    local loaded=no
    printf '%s\n' 'source "$LIBRARY"' 'declare -F __aba_lock_directly >/dev/null && echo loaded >loaded' 'aba_lock_operation save' 'state=$__aba_locks' \
        '[[ $state == "save/200/$$ " ]] && aba-lock status -q save && aba_unlock_operation && ! aba-lock status -q save || exit 9' \
        '# The same, after the rest of the library is loaded.' '! aba_lock_held save && aba_lock_operation save && aba_unlock_operation' >tool
    rm -f loaded
    run -0 bash ${OPTIONS-} ./tool
    expect_silence
    [[ ! -e loaded ]] || loaded=yes
    [[ ${loaded} == "$1" ]] || {
        printf 'loaded: %s with ABA_LOCK_BUILTIN=%s\n' "${loaded}" "${ABA_LOCK_BUILTIN}"
        return 1
    }
}

@test "the builtin does the same as the helper" {
    compare_calls builtin plain
}

@test "the builtin does the same as the helper, whatever options the script has" {
    compare_calls builtin options
}

@test "a free lock is acquired and released without the helper" {
    export ABA_LOCK_BIN=/nowhere/aba-lock
    script tool <<'END'
aba_lock_operation save
aba_unlock_operation
aba_lock_operation save
aba_unlock_operation save
aba_lock_operation save
aba_lock_operation load
echo "${__aba_locks//$$/PID}<$ABA_LOCK_FDS>"
END
    run -0 bash ./tool
    [[ ${output} == 'save/200/PID load/201/PID <200 201>' ]]
    run -0 bash -eEuo pipefail -T ./tool
    [[ ${output} == 'save/200/PID load/201/PID <200 201>' ]]
}

@test "the record of the builtin is that of the helper, and names the script as the locker" {
    local form
    script tool <<'END'
aba_lock_operation save
cat "$ABA_LOCK_DIR/aba-save.lock" >"record-$1"
echo $$ >"pid-$1"
END
    for form in helper builtin; do
        [[ ${form} == builtin ]] || unset ABA_LOCK_BUILTIN
        run -0 bash ./tool "${form}"
        expect_silence
        sed -E "s/^(pid|locker)=$(<"pid-${form}")$/\1=PID/; s/^(tick|token)=[0-9]+$/\1=N/; s/^since=.*Z$/since=TIME/; s/${form}/FORM/" "record-${form}" >"same-${form}"
        export ABA_LOCK_BUILTIN=${BUILTIN_FILE}
    done
    grep -q '^locker=PID$' same-builtin
    diff <(sed 's/^locker=.*/locker=PID/' same-helper) same-builtin
}

@test "a shorter record replaces a longer one as a whole, and tokens grow" {
    local before=0 token
    script tool <<'END'
aba_lock_operation save
END
    cp tool "tool-with-a-longer-name"
    for name in ./tool-with-a-longer-name ./tool ./tool; do
        run -0 bash "${name}"
        [[ $(tail -n 1 "${ABA_LOCK_DIR}/aba-save.lock") == token=* ]]
        token=$(sed -n 's/^token=//p' "${ABA_LOCK_DIR}/aba-save.lock")
        ((token > before))
        before=${token}
    done
}

@test "a lock of the builtin excludes other processes, and children inherit it" {
    script child <<'END'
aba_lock_operation save && echo "child: $__aba_locks"
END
    script tool <<'END'
aba_lock_operation save
"$ABA_LOCK_BIN" lock -n save -- true && echo 'the child inherits'
env -u ABA_LOCK_FDS flock -n "$ABA_LOCK_DIR/aba-save.lock" true || echo 'flock(1) is refused'
bash ./child
bash -c 'true <&200 && echo open'
aba_lock_held save && echo held
END
    run -0 bash ./tool
    [[ ${output} == $'the child inherits\nflock(1) is refused\nchild: save/200/0 \nopen\nheld' ]]
    start_holder save
    run -1 bash ./tool
    expect_text 'save is already running: pid '
    let_go
}

@test "a waiting script gets a lock that the builtin releases" {
    script tool <<'END'
aba_lock_operation save
hold
aba_unlock_operation
ready released
read -r -t "$PATIENCE" _ <go
END
    start bash ./tool
    until_ready >/dev/null
    start bash -c 'source "$LIBRARY"; aba_lock_operation --wait save'
    until_true is_waited_for save
    let_go
    [[ $(until_ready) == released ]]
    expect_end 0
    let_go
}

@test "a panic ends neither the shell nor the use of the builtin" {
    script tool <<'END'
set -e
for i in 1 2 3; do
    __aba_builtin panic || echo "status $?"
done
aba_lock_operation save
__aba_builtin panic || echo "status $?"
aba_unlock_operation
ABA_LOCK_BIN=/nowhere
aba_lock_operation save
echo "$__aba_locks"
END
    run -0 bash ./tool
    [[ ${output} == $'status 1\nstatus 1\nstatus 1\nstatus 1\nsave/200/'* ]]
}

@test "calls that the builtin does not know are refused" {
    for words in '' lock 'lock save load' 'unlock save load' version 'version 9.9.9' other 'lock ""' "lock a/b" $'lock \xff' 'lock -n' 'unlock load'; do
        run -1 bash -c "source \"\$LIBRARY\"; __aba_builtin ${words}"
        expect_silence
    done
}

@test "without a builtin that can be loaded, the library works with the helper, and says nothing" {
    expect_builtin yes
    OPTIONS=--posix expect_builtin yes
    OPTIONS='-eu -o pipefail' expect_builtin yes
    echo 'no library' >text.so
    : >empty.so
    for file in yes no 1 /nowhere/builtin.so "${PWD}/text.so" "${PWD}/empty.so" "${PWD}" /bin/true text.so /dev/null; do
        for OPTIONS in '' --posix '-eu'; do
            ABA_LOCK_BUILTIN=${file} expect_builtin no
        done
    done
}

@test "yes stands for the builtin that is installed with the library, wherever that is" {
    local library
    mkdir -p root/share/aba-lock root/lib/aba-lock
    cp "${WHOLE_LIBRARY}" "${PROJECT}/shell/aba-lock-builtin.bash" root/share/aba-lock/
    cp "${BUILTIN_FILE}" root/lib/aba-lock/builtin.so
    for library in root/share/aba-lock/aba-lock.bash "${PWD}/root/share/aba-lock/aba-lock.bash"; do
        LIBRARY=${library} ABA_LOCK_BUILTIN=yes expect_builtin yes
    done
    install_library root
    LIBRARY=${PWD}/root/share/aba-lock/aba-lock.bash ABA_LOCK_BUILTIN=yes expect_builtin yes
    cd root/share/aba-lock
    LIBRARY=./aba-lock.bash ABA_LOCK_BUILTIN=yes expect_builtin yes
    LIBRARY=aba-lock.bash ABA_LOCK_BUILTIN=yes expect_builtin yes
}

@test "a builtin of another version is not used" {
    local version
    version=$(sed -n 's/^__aba_version=//p' "${WHOLE_LIBRARY}")
    mkdir other
    cp "${PROJECT}/shell/aba-lock-builtin.bash" other/
    sed 's/^__aba_version=.*/__aba_version=9.9.9/' "${WHOLE_LIBRARY}" >other/aba-lock.bash
    LIBRARY=${PWD}/other/aba-lock.bash expect_builtin no
    run -0 bash -c 'source "$LIBRARY"; __aba_builtin version "$1" && ! __aba_builtin version 9.9.9' bash "${version}"
}

@test "interactive and restricted shells do not use the builtin" {
    run -0 bash --norc -ic 'source "$LIBRARY"; type -t __aba_builtin || aba_lock_operation save && echo "$__aba_locks"'
    expect_text $'\n'save/200/
    run -0 bash -c 'source "$LIBRARY"; set -r; __aba_builtin lock save || echo refused'
    [[ ${output} == refused ]]
}

@test "scripts that export all variables do not pass the builtin on" {
    run -0 bash -c 'set -a; source "$LIBRARY"; aba_lock_operation save; unset ABA_LOCK_BUILTIN
        bash -c "source \"\$LIBRARY\"; aba_lock_operation load; aba_lock_operation -q bundle; echo \"\$__aba_locks\""'
    [[ ${output} == *load/*bundle/* && ${output} != *'not found'* ]]
}

@test "the library notices that its file was replaced or removed after the builtin was loaded" {
    local change
    for change in 'rm -f lib/aba-lock.bash' 'sed "s/^__aba_version=.*/__aba_version=9.9.9/" "$WHOLE_LIBRARY" >lib/aba-lock.bash'; do
        mkdir -p lib
        cp "${WHOLE_LIBRARY}" "${PROJECT}/shell/aba-lock-builtin.bash" lib/
        printf '%s\n' 'source lib/aba-lock.bash' 'aba_lock_operation save' "${change}" 'aba_unlock_operation && echo unlocked' \
            'aba_lock_held save || echo "held: $?"' 'aba_lock_operation save && echo locked' 'aba_lock_operation -q load' 'echo "not reached"' >tool
        for options in '' '--posix -u'; do
            cp "${WHOLE_LIBRARY}" lib/
            run -125 bash ${options} ./tool
            expect_text $'unlocked\naba-lock: cannot load '"${PWD}/lib/aba-lock.bash: it cannot be read, or has another version than "
            expect_text $'held: 125\nlocked\n'
            [[ ${output} != *'not reached'* ]]
        done
    done
}

@test "an error of any system call of the builtin leaves the call to the helper" {
    local fault
    type -P strace >/dev/null || skip 'strace is missing'
    script tool <<'END'
aba_lock_operation save
echo "$__aba_locks$ABA_LOCK_FDS"
true <&201 && echo 'two descriptors'
aba-lock status -q save && aba_unlock_operation && ! aba-lock status -q save && echo released
END
    # The first flock(2) is the one of the builtin, and so on: only the shell itself is traced.
    for fault in flock:error=ENOLCK:when=1 flock:error=EAGAIN:when=1 flock:error=EINTR:when=1 pwrite64:error=ENOSPC:when=1 \
        pwrite64:error=EIO:when=1 pwrite64:retval=10:when=1 pread64:error=EIO:when=3+ flock:error=EIO:when=2; do
        run strace -qq -o trace -e "inject=${fault}" bash ./tool
        [[ ${status} == 0 && ${output} =~ ^save/200/[0-9]+\ 200$'\n'.*released$ && ${output} != *'two descriptors'* ]] || {
            printf '%s:\n%s\n' "${fault}" "${output}"
            return 1
        }
    done
}

@test "a script that is killed in any system call of the builtin leaves the lock free" {
    local call
    type -P strace >/dev/null || skip 'strace is missing'
    script tool <<'END'
aba_lock_operation save
aba_unlock_operation
echo 'not reached'
END
    for call in flock:when=1 flock:when=2 pwrite64:when=1; do
        run strace -qq -o trace -e "inject=${call%:*}:signal=KILL:${call#*:}" bash ./tool
        [[ ${output} != *'not reached'* ]]
        is_free save
        run -0 bash -c 'source "$LIBRARY"; aba_lock_operation save && echo "$__aba_locks"'
        [[ ${output} == save/200/* ]]
    done
}

@test "a file that is replaced before the builtin has checked it is not locked" {
    type -P strace >/dev/null || skip 'strace is missing'
    script tool <<'END'
aba_lock_operation save
[[ /dev/fd/200 -ef $ABA_LOCK_DIR/aba-save.lock ]] && aba-lock status -q save && echo "right file"
END
    # The script is stopped after flock(2), before it checks the path.
    start strace -qq -o trace -e 'inject=flock:signal=STOP:when=1' bash ./tool
    # (In /proc, a stopped process has the state of one whose system call strace watches.)
    until_true grep -q -- '--- stopped by SIGSTOP ---' trace
    rm "${ABA_LOCK_DIR}/aba-save.lock"
    "${ABA_LOCK_BIN}" lock save -- true
    kill -CONT "$(child)"
    expect_end 0
    [[ $(<output) == 'right file' ]]
}

# Prints the pid of the child of the last process that was started.
child() {
    pgrep -P "${STARTED_PID}"
}

@test "signals during calls in a loop leave a consistent state" {
    local round
    script tool <<'END'
trap 'stop=yes' USR1 TERM
stop=''
ready "$$"
until [[ -n $stop ]]; do
    aba_lock_operation save
    [[ $__aba_locks == "save/200/$$ " && $ABA_LOCK_FDS == 200 ]] || echo "wrong: $__aba_locks"
    aba_unlock_operation || echo 'not released'
    [[ -z $__aba_locks${ABA_LOCK_FDS-} ]] || echo "left: $__aba_locks"
done
{ true <&200; } 2>/dev/null && echo open
echo ended
END
    for round in USR1 TERM USR1 TERM; do
        : >output
        start bash ./tool
        kill -"${round}" "$(until_ready)"
        expect_end 0
        [[ $(<output) == ended ]]
    done
    start bash ./tool
    kill -KILL "$(until_ready)"
    expect_end 137
    is_free save
}

@test "thousands of calls keep no descriptor and no memory" {
    script tool <<'END'
measure() {
    for ((i = 0; i < $1; i++)); do
        aba_lock_operation save
        aba_unlock_operation
    done
    set -- /proc/$$/fd/*
    echo "descriptors $#"
    while read -r key value _; do
        [[ $key != VmData: ]] || echo "kilobytes $value"
    done </proc/$$/status
}
measure 500 >first
measure 5000 >second
END
    run -0 bash ./tool
    expect_silence
    diff <(head -n 1 first) <(head -n 1 second)
    (($(sed -n 's/kilobytes //p' second) - $(sed -n 's/kilobytes //p' first) < 400)) || {
        cat first second
        return 1
    }
}

@test "files that are unusual are left to the helper" {
    local change
    # A lock in a read-only mount, with a limit on the size of files, with foreign data in the file, with an event log, and with a file that
    # is marked for the log of the state root.
    printf '%s\n' 'source "$FORM"' 'ulimit -f 0' 'aba_lock_operation save 2>&1 | cat' >limit
    printf '%s\n' 'source "$FORM"' 'echo data >"$ABA_LOCK_DIR/aba-save.lock"' 'aba_lock_operation save' 'cat "$ABA_LOCK_DIR/aba-save.lock"; readlink /proc/$$/fd/200' >foreign
    printf '%s\n' 'source "$FORM"' 'ABA_LOCK_LOG=$PWD/log' 'aba_lock_operation save; aba_unlock_operation; grep -c . log; rm log' >logged
    printf '%s\n' 'source "$FORM"' 'rm "$ABA_LOCK_DIR/aba-save.lock"; mkfifo "$ABA_LOCK_DIR/aba-save.lock"' 'aba_lock_operation save' >fifo
    printf '%s\n' 'source "$FORM"' 'rm -f "$ABA_LOCK_DIR"/events*; aba-lock log --enable >&2' \
        'aba_lock_operation save; aba_unlock_operation; aba_lock_operation save' \
        'aba-lock log --disable >&2; aba_unlock_operation' 'grep -c . "$ABA_LOCK_DIR/events.jsonl"; rm "$ABA_LOCK_DIR"/events*' >marked
    for change in limit foreign logged marked fifo; do
        for form in "${LIBRARY}" "${PWD}/whole.bash"; do
            rm -f "${ABA_LOCK_DIR}/aba-save.lock"
            create_files
            FORM=${form} run timeout "${PATIENCE}" bash "./${change}"
            printf '%s\n%s\n' "${status}" "${output}" >"got-${form##*/}"
        done
        diff got-whole.bash got-aba-lock.bash
    done
    if unshare -m true 2>/dev/null; then
        printf '%s\n' 'source "$LIBRARY"' 'aba_lock_operation save && echo "$__aba_locks"' >tool
        rm "${ABA_LOCK_DIR}/aba-save.lock"
        create_files
        run -0 unshare -m bash -c 'mount --bind "$ABA_LOCK_DIR" "$ABA_LOCK_DIR" && mount -o remount,ro,bind "$ABA_LOCK_DIR" && bash ./tool'
        [[ ${output} == save/200/* ]]
    fi
}

@test "a lock that a handler acquires during a call of the helper is handed down, and stays known" {
    make_signalling_helper
    script tool <<'END'
trap 'aba_lock_operation load' USR1
ABA_LOCK_BIN=${PWD}/helper
aba_lock_operation save bundle
"$BASH" -c 'source "$LIBRARY"; aba_lock_operation load && echo "granted on $ABA_LOCK_FDS"'
aba_unlock_operation load && echo "unlocked: $ABA_LOCK_FDS"
END
    run -0 timeout "${PATIENCE}" bash ./tool
    [[ ${output} == $'granted on '*$'\nunlocked: 200 201' ]]
}

@test "a handler that interrupts a call of the library without the builtin may acquire a lock with it" {
    make_interrupted_tool
    run -0 timeout 300 ./tool 'aba_lock_operation other' 'aba_lock_operation --who me save' 'aba_lock_operation load' \
        '! free save && ! free load && inherited save load other && aba_unlock_operation load && free load &&
        aba_unlock_operation save && free save && aba_unlock_operation other && free other && inherited' rest
    expect_silence
}

@test "a handler that loads the whole library while the script loads it does not bring the builtin back" {
    script tool <<'END'
aba_lock_operation save
note() {
    [[ -z ${noted} && -n ${__aba_wanted-} && ${BASH_COMMAND} == *'-r $__aba_name'* ]] || return 0
    noted=yes
    aba_lock_held save
}
noted=''
set -T
trap note DEBUG
aba_lock_detach true
trap - DEBUG
aba_lock_operation -q save && echo "${noted} $(type aba_lock_operation | grep -c __aba_check_shell)"
END
    run -0 bash ./tool
    [[ ${output} == 'yes 1' ]]
}
