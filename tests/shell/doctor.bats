#!/usr/bin/env bats
# aba_lock_doctor: the doctor for the environment of a script.

load helper

@test "the doctor uses the helper, the variables and the library of the script" {
    # These are not exported, so the doctor knows them only from the function.
    script ask <<'END'
unset ABA_LOCK_TIMEOUT RUN_ONCE_DIR
ABA_LOCK_ON_CONFLICT=return RUN_ONCE_DIR=${PWD}/tasks
aba_lock_doctor
END
    run ./ask
    expect_text "ABA_LOCK_BIN is ${ABA_LOCK_BIN}, which has the same version"
    expect_text "is sourced from ${LIBRARY}"
    expect_text "fine   shell library: ${LIBRARY} has version "
    expect_text "ABA_LOCK_ON_CONFLICT=return RUN_ONCE_DIR=${PWD}/tasks"
    expect_text 'fine   locking: tested in '
}

@test "the doctor works in a strict script, with --json, and with the library from init" {
    script ask <<'END'
set -euo pipefail
trap 'echo trapped' ERR
eval "$(aba-lock init bash)"
aba_lock_doctor --json >said || [[ $? == 1 ]]
END
    run -0 ./ask
    expect_silence
    run -0 python3 -c 'import json; print(*[f["found"] for f in json.load(open("said"))["findings"] if f["check"] == "shell library"], sep="\n")'
    expect_text 'is sourced from `aba-lock init bash`'
}

@test "the doctor reports a script that has sourced an older library" {
    sed 's/^__aba_version=.*/__aba_version=0.0.9/' "${WHOLE_LIBRARY}" >older.bash
    run -1 bash -c 'source ./older.bash; aba_lock_doctor'
    expect_text 'wrong  shell library: version 0.0.9 is sourced from ./older.bash, but this helper has version '
}

@test "the doctor reports whether scripts can use the builtin" {
    run bash -c 'ABA_LOCK_BUILTIN=${BUILTIN_FILE}; source "${LIBRARY}"; aba_lock_doctor'
    expect_text "fine   builtin: ${BUILTIN_FILE} has version "
    sed 's/for aba-lock.bash version [0-9.]*/for aba-lock.bash version 9.9.9/' "${BUILTIN_FILE}" >other.so
    run bash -c 'source "${LIBRARY}"; ABA_LOCK_BUILTIN=${PWD}/other.so aba_lock_doctor'
    expect_text "note   builtin: ${PWD}/other.so has version 9.9.9, but this helper has "
    expect_text 'install it from the version of this helper: `make install WITH_BUILTIN=yes`'
    run bash -c 'source "${LIBRARY}"; ABA_LOCK_BUILTIN=${LIBRARY} aba_lock_doctor'
    expect_text "note   builtin: ${LIBRARY} is not the builtin: scripts do not use it"
    run bash -c 'source "${LIBRARY}"; ABA_LOCK_BUILTIN=/nowhere.so aba_lock_doctor'
    expect_text 'note   builtin: cannot read /nowhere.so: '
    run bash -c 'source "${LIBRARY}"; ABA_LOCK_BUILTIN=on aba_lock_doctor'
    expect_text 'note   builtin: ABA_LOCK_BUILTIN is on, which is neither yes nor an absolute path'
    run bash -c 'source "${LIBRARY}"; aba_lock_doctor'
    [[ ${output} != *'builtin:'* ]]
}

@test "without a helper, aba_lock_doctor reports that and ends with 125" {
    run -125 env ABA_LOCK_BIN=/nowhere bash -c 'source "${LIBRARY}"; aba_lock_doctor'
    expect_text 'the helper /nowhere (from ABA_LOCK_BIN) was not found'
}
