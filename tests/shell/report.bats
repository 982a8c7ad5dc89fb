#!/usr/bin/env bats
# `make test-report`, with which a user of another system reports what works there.

load helper

setup_file() {
    # Some tests run many scenes.
    export BATS_TEST_TIMEOUT=1000
}

setup() {
    shared_setup
    # The tools that other systems have, too.
    "${PROJECT}/tests/portable-tools" "${PWD}/tools" zsh rustc
    export PATH=${PWD}/tools
}

# Usage: write_report STATUS [NAME=VALUE]...: writes the file `report`, with these variables. If the status is another one, this shows the report.
write_report() {
    local expected=$1
    shift
    run env "$@" "${PROJECT}/tests/report/run" report
    if ((status != expected)); then
        printf '%s: status %d\n' "$*" "${status}"
        sed '/^aba-lock doctor/,$d' report
        return 1
    fi
}

# Usage: change_helper PATTERN COMMANDS: makes a helper that runs COMMANDS for calls whose arguments match PATTERN.
change_helper() {
    printf '#!/bin/sh\ncase "$*" in\n%s) %s ;;\nesac\nexec "%s" "$@"\n' "$1" "$2" "${ABA_LOCK_BIN}" >helper
    chmod +x helper
}

@test "a scene that fails is in the report, with its output and the reason" {
    change_helper '"lock backup -- echo hello"' 'echo confused; exit 9'
    write_report 1 ABA_LOCK_BIN="${PWD}/helper" REPORT_SCENES='lock nested bash/held'
    run -0 grep -A4 FAILED report
    [[ ${output} == "FAILED  lock: "*" (status 1)
    \$ aba-lock lock backup -- echo hello
    confused
    not as expected: the status is 9, not 0"* ]]
    run -0 tail -n 1 report
    [[ ${output} == '2 passed, 1 failed, 0 skipped' ]]
}

@test "a wrong answer of each kind of call fails the scene of that call" {
    scenes=0
    while read -r scene pattern commands; do
        change_helper "${pattern}" "${commands}"
        write_report 1 ABA_LOCK_BIN="${PWD}/helper" REPORT_SECONDS=1 REPORT_SCENES="${scene}"
        run -0 grep "^FAILED  ${scene}: " report
        scenes=$((scenes + 1))
    done <<'END'
nested *nested* exit 75
conflict *reached* exit 0
inherited *true* exit 0
held status* exit 0
unlock unlock* exit 0
timeout wait* exit 0
waiting *reached* touch reached; echo backup >&2; exit 0
wait wait*backup exit 0
shared *true* exit 0
run_once *-w*fetch* for last; do :; done; sh -c "${last}"; exit 0
update *number* echo 1 >number; exit 0
list list* exit 0
bash/conflict *backup* exit 0
bash/held status* exit 0
END
    ((scenes == 14))
}

@test "a scene that does not end is ended, and leaves no process" {
    change_helper '"status backup"' "echo \"\$\$\" >${PWD}/pid; sleep 1000"
    write_report 1 ABA_LOCK_BIN="${PWD}/helper" REPORT_SECONDS=1 REPORT_SCENES=lock
    run -0 grep FAILED report
    expect_text '(it did not end in time)'
    run -0 tail -n 1 report
    [[ ${output} == '0 passed, 1 failed, 0 skipped' ]]
    until_true has_ended "$(cat pid)"
}

@test "a scene of something that the system does not have is skipped, and counted" {
    for message in 'cannot lock f with --slots: this system has no locks for this' 'cannot use --slots: it needs Linux'; do
        change_helper '*slots*' "echo 'aba-lock: ${message}' >&2; exit 125"
        write_report 0 ABA_LOCK_BIN="${PWD}/helper" REPORT_SCENES='lock slots'
        run -0 grep '^skipped slots' report
        run -0 tail -n 1 report
        [[ ${output} == '1 passed, 0 failed, 1 skipped' ]]
    done
}

@test "the report has no name of a user or a computer, and no directory of a user" {
    mkdir -p fakes home/Secret.User
    printf '#!/bin/sh\necho fred\n' >fakes/id
    printf '#!/bin/sh\ncase $1 in -n) echo box.private.example ;; *) echo System ;; esac\n' >fakes/uname
    chmod +x fakes/id fakes/uname
    change_helper '--version' 'echo "aba-lock of fred, alfredo and fred_2 on box, in ${PRIVATE}/x and ${0}"; exit 0'
    write_report 0 PATH="${PWD}/fakes:${PATH}" HOME="${PWD}/home/Secret.User" PRIVATE="${PWD}/home/Secret.User" ABA_LOCK_BIN="${PWD}/helper" \
        REPORT_SCENES='version lock bash/operation'
    run -0 grep -F 'aba-lock of USER, alfredo and fred_2 on HOST, in ~/x and' report
    run -1 grep -E 'fred$|fred[^_o]|Secret|private|box' report
}

@test "a build that fails is reported, and no scene is run" {
    printf '#!/bin/sh\necho "error: linking failed in %s"\nexit 2\n' "${HOME}" >fake-make
    chmod +x fake-make
    write_report 1 -u ABA_LOCK_BIN MAKE="${PWD}/fake-make"
    run -0 cat report
    expect_text 'FAILED  make build (status 2)'
    expect_text 'error: linking failed in ~'
    expect_text 'There is no helper, so no scene was run.'
    expect_text '0 passed, 1 failed, 0 skipped'
    [[ ${output} != *"${HOME}"* ]]
}
