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
    sed 's/^__aba_version=.*/__aba_version=0.0.9/' "${LIBRARY}" >older.bash
    run -1 bash -c 'source ./older.bash; aba_lock_doctor'
    expect_text 'wrong  shell library: version 0.0.9 is sourced from ./older.bash, but this helper has version '
}

@test "without a helper, aba_lock_doctor reports that and ends with 125" {
    run -125 env ABA_LOCK_BIN=/nowhere bash -c 'source "${LIBRARY}"; aba_lock_doctor'
    expect_text 'the helper /nowhere (from ABA_LOCK_BIN) was not found'
}
