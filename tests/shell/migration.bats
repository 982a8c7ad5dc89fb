#!/usr/bin/env bats
# A crontab of twelve lines that use flock(1), run-one, timeout, chronic and PID files, and its counterpart with aba-lock.
# shellcheck disable=SC2016 # the lines expand later
# shellcheck disable=SC2154 # set by bats

load helper

# The lines, without their times: the old one, and the one that replaces it.
LINES_OF_CRONTAB=(
    'flock -n f-backup ./job backup' 'aba-lock lock --skip-ok backup -- ./job backup'
    'flock -n -E 0 f-report ./job report' 'aba-lock lock --skip-ok report -- ./job report'
    'flock -w 0.2 f-sync ./job sync || exit 0' 'aba-lock lock --skip-ok --wait=0.2 sync -- ./job sync'
    "flock -n f-stats -c './job stats >>stats'" "aba-lock lock --skip-ok stats -c './job stats >>stats'"
    'run-one ./job mirror' 'aba-lock lock --skip-ok mirror -- ./job mirror'
    'run-one timeout 600 ./job index' 'aba-lock lock --skip-ok --max-time 600 index -- ./job index'
    'timeout 600 flock -n f-fetch ./job fetch' 'aba-lock lock --skip-ok --max-time 600 fetch -- ./job fetch'
    'chronic flock -n f-mail ./job mail' 'aba-lock lock --skip-ok mail -- chronic ./job mail'
    'flock -n f-cache chronic ./job cache' 'aba-lock lock --skip-ok cache -- chronic ./job cache'
    'flock -s -n f-tree ./job tree' 'aba-lock lock --skip-ok --shared tree -- ./job tree'
    'test -e pid && kill -0 "$(cat pid)" || { echo $$ >pid; ./job feed; rm pid; }' 'aba-lock lock --skip-ok --pid-file pid feed -- ./job feed'
    'mkdir d-clean 2>/dev/null && { ./job clean; rmdir d-clean; } || exit 0' 'aba-lock lock --skip-ok clean -- ./job clean'
)

setup() {
    shared_setup
    mkdir bin
    # Debian has no run-one, and chronic only in moreutils.
    printf '#!/bin/sh\nexec flock -n "f-$(echo "$*" | tr -c a-z _)" "$@"\n' >bin/run-one
    printf '#!/bin/sh\nout=$("$@" 2>&1) || { status=$?; echo "$out"; exit $status; }\n' >bin/chronic
    ln -s "${ABA_LOCK_BIN}" bin/aba-lock
    printf '#!/bin/sh\necho "$1" >>ran\n' >job
    chmod +x bin/run-one bin/chronic job
    export PATH=${PWD}/bin:${PATH}
}

@test "each line of an old crontab and its counterpart run the job once if it is free" {
    local line
    for line in "${LINES_OF_CRONTAB[@]}"; do
        rm -f ran
        run -0 sh -c "${line}"
        expect_silence
        [[ $(wc -l <ran) == 1 ]]
    done
    ((${#LINES_OF_CRONTAB[@]} == 24))
}

@test "each counterpart of a line of an old crontab is silent, and a success, if the job is held" {
    local at
    script holder <<'END'
aba_lock_operation backup report sync stats mirror index fetch mail cache tree feed clean
hold
END
    start ./holder
    until_ready >/dev/null
    for ((at = 1; at < 24; at += 2)); do
        run -0 sh -c "${LINES_OF_CRONTAB[at]}"
        expect_silence
        [[ ! -e ran ]]
    done
    let_go
    expect_end 0
}
