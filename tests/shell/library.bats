#!/usr/bin/env bats
# The shell library: sourcing, options, and each value of --on-conflict. Wrong usage is in usage.bats.

# shellcheck disable=SC2030,SC2031 # each test is a process of its own

load helper

@test "sourcing prints nothing, starts no process, and changes nothing of the script" {
    cat >look <<'END'
look() {
    shopt
    set -o
    trap -p
    umask
    # Without the variables that bash changes by itself, and those of the library.
    compgen -v | grep -vE '^(_|__aba_.*|ABA_.*|BASH_.*|PIPESTATUS|LINENO|RANDOM|SRANDOM|SECONDS|EPOCH.*|FUNCNAME)$' | sort
    compgen -A function | grep -vE '^(__)?aba_' | sort
    alias -p
}
shopt -s expand_aliases extglob
set -o noclobber
alias ll='ls -l'
trap 'true' EXIT
look >before
source "$LIBRARY" >said 2>&1
source "$LIBRARY" >>said 2>&1
look >after
cmp before after && [[ ! -s said ]]
END
    run -0 bash ./look
    expect_silence
    run -0 strace -f -c -o calls -e trace=process bash --norc -c 'source "$LIBRARY"'
    run ! grep -E '(clone|fork)' calls
    run -0 grep -E ' execve' calls
    [[ $(grep -c . <<<"${output}") == 1 ]]
}

@test "sourcing prints nothing in an interactive bash without completion" {
    run -0 setsid --wait bash --norc -ic 'enable -n complete 2>/dev/null; source "$LIBRARY" >said 2>&1 && [[ ! -s said ]]' </dev/null
}

@test "sourcing twice keeps the locks" {
    script tool <<'END'
aba_lock_operation save
source "$LIBRARY"
aba_lock_held save && aba_unlock_operation save
END
    run -0 ./tool
    expect_silence
}

@test "the output of aba-lock init bash does the same, and uses the helper that printed it" {
    cat >tool <<'END'
eval "$(env -u LIBRARY "$1" init bash)"
aba_lock_operation save && aba_lock_held save && echo held
END
    unset ABA_LOCK_BIN
    helper=$(type -P aba-lock)
    PATH=${SYSTEM_PATH} run -0 bash -eu ./tool "${helper}"
    [[ ${output} == held ]]
}

@test "the output of aba-lock init bash finds a helper whose path has blanks, quotes or bytes that are not UTF-8" {
    cat >tool <<'END'
eval "$("$1" init bash)"
aba_lock_operation save && aba_lock_held save && echo held
END
    unset ABA_LOCK_BIN
    for directory in "it's a place" $'pl\351ce' $'\351\'1\n\\ '; do
        mkdir "${directory}"
        cp "$(type -P aba-lock)" "${directory}/aba-lock"
        PATH=${SYSTEM_PATH} run -0 bash -eu ./tool "${PWD}/${directory}/aba-lock"
        [[ ${output} == held ]]
    done
}

@test "without a helper, the script ends with 125 and a message, and does not run without its lock" {
    script tool <<'END'
aba_lock_operation save
echo 'not reached'
END
    for options in '' -e -eu --posix; do
        ABA_LOCK_BIN=no-such-helper run -125 bash ${options} ./tool
        [[ ${output} == *'aba-lock: the helper no-such-helper (from ABA_LOCK_BIN) was not found, or is not executable'* ]]
        [[ ${output} == *'hint: add the directory of aba-lock to PATH, or set ABA_LOCK_BIN to its path'* ]]
        [[ ${output} != *'not reached'* ]]
    done
    unset ABA_LOCK_BIN
    PATH=${SYSTEM_PATH} run -125 bash ./tool
    expect_text 'aba-lock: the helper aba-lock was not found, or is not executable'
    printf 'not a program' >broken
    chmod +x broken
    ABA_LOCK_BIN=${PWD}/broken run -125 bash ./tool
    expect_text 'aba-lock: cannot lock save: the helper '
}

@test "a conflict ends the script with 1, whatever options the script has" {
    start_holder save
    script tool <<'END'
aba_lock_operation save
echo 'not reached'
END
    for options in '' -e -eu '-eEuo pipefail' --posix '--posix -eu'; do
        run -1 bash ${options} ./tool
        expect_text "aba-lock: save is already running: pid ${STARTED_PID} (bash ./holder), by "
        [[ ${output} != *'not reached'* ]]
    done
    let_go
}

@test "with --on-conflict return, a conflict is status 1" {
    start_holder save
    script tool <<'END'
aba_lock_operation -q --on-conflict return save || echo "status $?"
ABA_LOCK_ON_CONFLICT=return aba_lock_operation --quiet save || echo "status $?"
ABA_LOCK_ON_CONFLICT=return
if aba_lock_operation save --timeout=0.05 -q; then echo 'not reached'; else echo "status $?"; fi
END
    for options in '' -e -eEu --posix; do
        run -0 bash ${options} ./tool
        [[ ${output} == $'status 1\nstatus 1\nstatus 1' ]]
    done
    let_go
}

@test "with --on-conflict warn, the script goes on with status 3, and a message says that it holds no lock" {
    start_holder save
    script tool <<'END'
aba_lock_operation --on-conflict=warn save || echo "status $?"
aba_lock_held save || echo 'not held'
END
    for options in '' -e; do
        run -0 bash ${options} ./tool
        expect_text 'save is already running'
        expect_text 'aba-lock: warning: the script can continue without the lock on save'
        expect_text $'status 3\nnot held'
    done
    let_go
}

@test "with --on-conflict ask, the script goes on only after Enter on a terminal" {
    start_holder save
    script tool <<'END'
IFS=x
aba_lock_operation --on-conflict ask save || echo "status $?"
END
    run -1 bash ./tool <<<''
    cat >terminal.py <<'END'
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("timeout", ["timeout", os.environ["PATIENCE"], "bash", "-e", "./tool"])
seen = b""
while b"to stop: " not in seen:
    seen += os.read(terminal, 1000)
os.write(terminal, sys.argv[1].encode())
try:
    while True:
        more = os.read(terminal, 1000)
        if not more:
            break
        seen += more
except OSError:
    pass
sys.stdout.write(seen.decode().replace("\r\n", "\n"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
END
    run -0 python3 terminal.py $'\n'
    expect_text "save is already running: pid ${STARTED_PID} ("
    expect_text 'aba-lock: press Enter to continue without the lock on save, or Ctrl-C to stop: '
    expect_text 'status 3'
    # A word is not Enter, even if IFS makes it a separator.
    run -1 python3 terminal.py $'x\n'
    [[ ${output} != *'status 3'* ]]
    # The end of the input is not Enter.
    run -1 python3 terminal.py $'\x04'
    [[ ${output} != *'status 3'* ]]
    let_go
}

@test "options may come before and after the names, in one word or several, with their values" {
    script tool <<'END'
aba_lock_operation -qx a -t5 b --who 'me and you' c -w
for name in a b c; do aba_lock_held "$name" || exit 91; done
grep -q "who='me and you'" "$ABA_LOCK_DIR/aba-b.lock"
aba_lock_operation d --timeout=3 -wq --pid-file "$PWD/pid file" && [[ $(<'pid file') == "$$" ]]
END
    run -0 bash -eu ./tool
    expect_silence
}

@test "variables that the script has set and not exported have an effect" {
    start_holder save
    script tool <<'END'
unset ABA_LOCK_DIR
ABA_LOCK_DIR=$PWD/other
aba_lock_operation save
[[ -f other/aba-save.lock ]] || exit 91
unset ABA_LOCK_DIR
ABA_LOCK_DIR=$BATS_TEST_TMPDIR/locks
ABA_LOCK_TIMEOUT=0.05
aba_lock_operation --on-conflict return save
END
    run -1 ./tool
    expect_text 'timed out after 0.05 s waiting for save'
    let_go
}

@test "a variable that is set for one call is gone after it, or has its old value" {
    start_holder busy
    cp "${WHOLE_LIBRARY}" whole.bash
    for form in "${LIBRARY}" "${WHOLE_LIBRARY}" "${PWD}/whole.bash" builtin; do
        export FORM=${form} ABA_LOCK_BUILTIN=''
        # It is used where this bash can load it.
        [[ ${form} != builtin ]] || export FORM=${LIBRARY} ABA_LOCK_BUILTIN=${BUILTIN_FILE}
        cat >tool <<'END'
source "$FORM"
unset ABA_LOCK_DIR
# A variable that the script has, and does not export.
ABA_LOCK_TIMEOUT=100
check() {
    local name
    for name in ABA_LOCK_DIR ABA_LOCK_LOG ABA_LOCK_ON_CONFLICT ABA_LOCK_SERVER ABA_LOCK_KEEPER ABA_LOCK_TTL; do
        [[ -z ${!name+x} ]] || echo "$1: $name is ${!name}"
    done
    [[ $ABA_LOCK_TIMEOUT == 100 ]] || echo "$1: the old value is $ABA_LOCK_TIMEOUT"
}
mkdir -p other
ABA_LOCK_DIR=$PWD/other aba-lock path --create one >/dev/null
timeout=$ABA_LOCK_TIMEOUT
unset ABA_LOCK_TIMEOUT
ABA_LOCK_DIR=$PWD/other aba_lock_operation one
ABA_LOCK_TIMEOUT=$timeout
check 'a lock'
[[ other/aba-one.lock -ef /dev/fd/200 ]] || echo 'the variable had no effect'
ABA_LOCK_DIR=$PWD/other aba_unlock_operation one
check 'a release'
[[ -z ${ABA_LOCK_FDS-} ]] || echo "descriptors $ABA_LOCK_FDS"
ABA_LOCK_DIR=$PWD/other ABA_LOCK_TIMEOUT=10s ABA_LOCK_LOG=$PWD/log.jsonl aba_lock_operation two three
check 'two locks'
[[ -s log.jsonl ]] || echo 'no log'
ABA_LOCK_DIR=$PWD/other ABA_LOCK_LOG=$PWD/log.jsonl aba_lock_held two || echo 'not held'
check 'a query'
ABA_LOCK_DIR=$BATS_TEST_TMPDIR/locks ABA_LOCK_TIMEOUT=0.01 ABA_LOCK_ON_CONFLICT=return aba_lock_operation -q busy && echo 'not refused'
check 'a conflict'
ABA_LOCK_SERVER=$PWD ABA_LOCK_KEEPER=/nowhere ABA_LOCK_TTL=30 ABA_LOCK_ON_CONFLICT=return aba_lock_operation four 2>/dev/null && echo 'not refused'
check 'a server'
END
        rm -rf other log.jsonl
        run -0 bash -u ./tool
        expect_silence
    done
    let_go
}

@test "a variable that the script has set and not exported is exported by a call, for scripts that it starts" {
    for form in "${LIBRARY}" "${WHOLE_LIBRARY}" builtin; do
        export FORM=${form} ABA_LOCK_BUILTIN=''
        [[ ${form} != builtin ]] || export FORM=${LIBRARY} ABA_LOCK_BUILTIN=${BUILTIN_FILE}
        cat >tool <<'END'
source "$FORM"
unset ABA_LOCK_DIR
ABA_LOCK_DIR=$PWD/other
aba_lock_operation one
[[ $(printenv ABA_LOCK_DIR) == "$PWD/other" && /dev/fd/200 -ef other/aba-one.lock && $ABA_LOCK_FDS == 200 ]]
END
        mkdir -p other
        ABA_LOCK_DIR=${PWD}/other aba-lock path --create one >/dev/null
        run -0 bash -eu ./tool
        expect_silence
    done
}

@test "the default directory is private, and so are the files in it" {
    unset ABA_LOCK_DIR
    script tool <<'END'
umask 0
aba_lock_operation save
END
    run -0 ./tool
    [[ $(stat -c %a "${HOME}/.aba") == 700 && $(stat -c %a "${HOME}/.aba/aba-save.lock") == 600 ]]
}

@test "the lock directory may have blanks, quotes and a dollar in its name" {
    script tool <<'END'
aba_lock_operation save load
aba_lock_held save && bash -c 'source "$LIBRARY"; aba_lock_operation save' && aba_unlock_operation save
END
    ABA_LOCK_DIR=${PWD}/$'a \'b\' "c" $HOME `id` \n d' run -0 ./tool
    expect_silence
}

@test "a lock file that is replaced each time it is opened is reported after some attempts" {
    mkdir "${ABA_LOCK_DIR}"
    cat >helper <<'END'
#!/bin/sh
case $1 in
    path) exec "$REAL" "$@" ;;
    *) exit 76 ;;
esac
END
    chmod +x helper
    script tool <<'END'
aba_lock_operation save
echo 'not reached'
END
    REAL=${ABA_LOCK_BIN} ABA_LOCK_BIN=${PWD}/helper run -125 timeout "${PATIENCE}" ./tool
    expect_text 'was replaced each time it was opened'
    [[ ${output} != *'not reached'* ]]
}

@test "the release of a lock that is not held is reported" {
    script tool <<'END'
aba_unlock_operation save || echo "status $?"
aba_unlock_operation || echo "status $?"
END
    run -0 bash -e ./tool
    expect_text $'aba-lock: nothing to release: this script holds no lock on save\nstatus 1'
    expect_text $'aba-lock: nothing to release: this script holds no lock\nstatus 1'
}

@test "locks can be released in any order, and acquired again" {
    script tool <<'END'
for round in 1 2 3; do
    aba_lock_operation a b c
    aba_unlock_operation b
    aba_unlock_operation
    aba_lock_held a && ! aba_lock_held b && ! aba_lock_held c || exit 91
    aba_unlock_operation a
    [[ -z ${ABA_LOCK_FDS-} ]] || exit 92
done
for fd in 200 201 202; do { true <&$fd; } 2>/dev/null && exit 93; done
exit 0
END
    run -0 bash -u ./tool
    expect_silence
}

@test "a release frees the lock even if children inherited it" {
    script tool <<'END'
aba_lock_operation save
sleep 1000 &
aba_unlock_operation
ready
wait
END
    start ./tool
    until_ready
    run -0 aba-lock lock save -- true
    expect_silence
}

@test "a detached function, builtin or pipeline keeps no lock, and its output and status are passed on" {
    script tool <<'END'
set -eu
look() { { true <&200; } 2>/dev/null && echo 'still open'; echo "looked $1"; return "${2-0}"; }
aba_lock_operation save
aba_lock_detach look one
aba_lock_detach look two | cat
x=$(aba_lock_detach look three) && echo "$x"
if aba_lock_detach look four 5; then exit 91; else echo "status $?"; fi
aba_lock_detach printf '%s\n' five
aba_lock_held save
END
    run -0 ./tool
    [[ ${output} == $'looked one\nlooked two\nlooked three\nlooked four\nstatus 5\nfive' ]]
}

@test "the library uses nothing that bash 3.2 lacks" {
    # Later additions: associative arrays, mapfile, namerefs, case changes, {fd}>, &>>, |&, ;&, [[ -v ]],
    # negative subscripts, printf %(...)T, ${x@Q}, $EPOCHSECONDS, wait -n, coproc, local -n, readarray, ** and BASHPID
    # without a fallback. Comments may name them. Process substitution is a syntax error under `set -o posix`, except in eval.
    run ! grep -nE 'declare -[a-zA-Z]*A|mapfile|readarray|local -n|\$\{[a-zA-Z_]+(\^|,)|[^$]\{[a-z_]+\}[<>]|&>>|\|&|;&|-v [a-zA-Z_]+ \]\]|\[-[0-9]+\]|%\([^)]*\)T|@[QEPAa]\}|EPOCH|wait -n|coproc|globstar|\$BASHPID|\$\{BASHPID\}|<\(' \
        <(grep -v -e '^ *#' -e "builtin eval '.* < <(" -e 'builtin eval .*@a}' "${WHOLE_LIBRARY}" "${PROJECT}/completions/aba-lock.bash")
}

@test "the man page names every function, option and variable" {
    page=$(<"${PROJECT}/shell/aba-lock.bash.7")
    while read -r word; do
        [[ ${page//\\/} == *"${word}"* ]] || {
            echo "the man page does not name ${word}"
            return 1
        }
    done < <(
        grep -oE '^aba_[a-z_]+' "${WHOLE_LIBRARY}"
        bash -c 'source "$LIBRARY"; aba_lock_operation --help' | grep -oE -- '--[a-z-]+' | sed 's/^--/Fl -/'
        grep -oE 'ABA_LOCK_(DIR|BIN|ON_CONFLICT|TIMEOUT|FDS)' "${WHOLE_LIBRARY}" | sort -u
    )
}

@test "the example in the README works as described" {
    sed -n '/^## In a script/,/^## With a command/p' "${PROJECT}/README.md" |
        sed -n '/^```bash/,/^```/p' | sed '/^```/d' >example
    # The first block is the script. It pauses at its work.
    sed -n '/^source/,/^esac/p' example | sed "s|/usr/local/share/aba-lock/aba-lock.bash|${LIBRARY}|" >body
    grep -q aba_lock_operation body
    script tool <body
    # shellcheck disable=SC2016 # for the script
    printf '%s\n' '[[ ${2-} != stay ]] || hold' 'echo "done: $1"' >>tool
    start ./tool save stay
    until_ready
    run -1 ./tool save
    expect_text "mirror-save is already running: pid ${STARTED_PID} ("
    run -0 ./tool load
    [[ ${output} == 'done: load' ]]
    run -0 ./tool help
    [[ ${output} == 'done: help' ]]
    let_go
}

@test "scripts that lock with flock(1) and the library exclude each other, as the README says" {
    exec 201>>"$(aba-lock path --create backup)"
    flock -n 201
    run -75 aba-lock lock backup -- true
    expect_text 'backup is held by pid '
    exec 201>&-
    run -0 aba-lock lock --file "${PWD}/backup.lock" -- flock -n -E 9 other true
    run -1 aba-lock lock -E 1 --file "${PWD}/other" -- flock -n "${PWD}/other" true
}
