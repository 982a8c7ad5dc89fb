#!/usr/bin/env bats
# Pid files of aba_lock_operation, and when they are removed.

load helper

@test "if the helper fails after it has written the pid file, the library removes that file" {
    printf '%s\n' '#!/bin/sh' 'if [ "$1" = lock ]; then echo "$PPID" >"$FILE"; exit 75; fi' "exec '${ABA_LOCK_BIN}' \"\$@\"" >helper
    chmod +x helper
    script failing <<'END'
# Two locks share this pid file.
aba_lock_operation --pid-file both a
aba_lock_operation --pid-file both b
ABA_LOCK_BIN=${PWD}/helper
export FILE=both
aba_lock_operation --on-conflict return --pid-file both c && exit 91
[[ $(<both) == "$$" ]] || exit 92
FILE=one
aba_lock_operation --on-conflict return --pid-file one c && exit 93
[[ -e one ]] && exit 94
ABA_LOCK_BIN=$1
aba_unlock_operation a
[[ $(<both) == "$$" ]] || exit 95
aba_unlock_operation b
[[ ! -e both ]]
END
    run -0 ./failing "${ABA_LOCK_BIN}"
}

@test "a pid file is removed when the lock is released, and at the end of the script" {
    script tool <<'END'
trap 'echo "theirs $? $(<"${BATS_TEST_TMPDIR}/pid file")"' EXIT
aba_lock_operation --pid-file 'pid file' a b
[[ $(<'pid file') == "$$" ]] || exit 91
aba_unlock_operation a
[[ -e 'pid file' ]] || exit 92
cd /
exit "$@"
END
    for expected in 0 7; do
        run "-${expected}" ./tool "${expected}"
        [[ ${output} == "theirs ${expected} "[0-9]* ]]
        [[ ! -e 'pid file' ]]
    done
    script releasing <<'END'
set -eu -o posix
IFS=/0123456789
aba_lock_operation --pid-file="$PWD/pid" a b
aba_unlock_operation a
aba_unlock_operation b
[[ ! -e pid ]] || exit 92
aba_lock_operation --pid-file one c
aba_lock_operation --pid-file two d
aba_unlock_operation c
[[ ! -e one && -e two ]] || exit 93
# A pid file that another process has written stays.
echo 1 >two
END
    run -0 ./releasing
    expect_silence
    [[ $(<two) == 1 && ! -e one ]]
    script killed <<'END'
aba_lock_operation --pid-file "$PWD/pid" a
hold
END
    start ./killed
    until_ready
    kill -TERM "${STARTED_PID}"
    wait "${STARTED_PID}" || true
    until_true test ! -e pid
}

@test "a link at the path of the pid file is refused, and nothing is locked" {
    echo precious >target
    ln -s target pid
    script tool <<'END'
aba_lock_operation --on-conflict return --pid-file pid a
echo "status $?"
"${ABA_LOCK_BIN}" status -q a || echo free
END
    run -0 ./tool
    expect_text 'it is a symbolic link, not a regular file'
    expect_text $'status 125\nfree'
    [[ -L pid && $(<target) == precious ]]
}
