#!/usr/bin/env bats
# The crontab and the units of systemd in docs/recipes.md.
# shellcheck disable=SC2016 # awk has variables of its own
# shellcheck disable=SC2154 # set by bats

load helper

RECIPES=${BATS_TEST_DIRNAME}/../../docs/recipes.md

# Usage: print_block FENCE TEXT: prints the block with this kind of fence that contains TEXT.
print_block() {
    awk -v fence="\`\`\`$1" -v text="$2" '
        $0 == fence { inside = 1; block = ""; next }
        /^```$/ { if (inside && index(block, text)) printf "%s", block; inside = 0 }
        inside { block = block $0 "\n" }' "${RECIPES}"
}

@test "systemd accepts the service and the timer of the manual" {
    type -P systemd-analyze >/dev/null || skip 'systemd-analyze is not installed'
    print_block ini ExecStart= | sed "s|/usr/local/bin/aba-lock|${ABA_LOCK_BIN}|; s|/usr/local/bin/backup.sh|/bin/true|" >aba-backup.service
    print_block ini OnCalendar= >aba-backup.timer
    grep -qx 'SuccessExitStatus=75' aba-backup.service
    grep -q '^OnCalendar=' aba-backup.timer
    run -0 timeout 60 systemd-analyze verify --man=no ./aba-backup.service ./aba-backup.timer
    # It also reports problems of the units of this machine.
    [[ ${output} != *aba-backup* ]]
    sed 's/^OnCalendar=.*/OnCalendar=never/' aba-backup.timer >aba-wrong.timer
    cp aba-backup.service aba-wrong.service
    run timeout 60 systemd-analyze verify --man=no ./aba-wrong.timer
    expect_text aba-wrong
}

@test "the status of a skipped service is the one that its unit allows" {
    start_holder backup
    local line
    line=$(print_block ini ExecStart= | sed -n 's/^ExecStart=//p')
    run sh -c "${line/\/usr\/local\/bin\/aba-lock/"${ABA_LOCK_BIN}"}"
    [[ ${status} == 75 ]]
    expect_text 'backup is already running: pid '
    let_go
    expect_end 0
}

@test "the lines of the crontab print nothing if the lock is held, and the event log has a line for each" {
    local line
    script holder <<'END'
aba_lock_operation backup sync
hold
END
    start ./holder
    until_ready >/dev/null
    print_block crontab 'skip-ok' | grep '^[0-9*]' >job-lines
    (($(grep -c . job-lines) == 3))
    while read -r _ _ _ _ _ line; do
        rm -f log
        line=${line/--wait=1h/--wait=0.2}
        run -0 env -i PATH="${PATH}" HOME="${HOME}" ABA_LOCK_DIR="${ABA_LOCK_DIR-}" ABA_LOCK_LOG="${PWD}/log" \
            sh -c "${line/aba-lock/"${ABA_LOCK_BIN}"}"
        expect_silence
        grep -q '"event":"contended"' log
        [[ ${line} != *--wait* ]] || grep -q '"event":"timed_out"' log
    done <job-lines
    let_go
    expect_end 0
}
