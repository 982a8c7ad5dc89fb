#!/usr/bin/env bats
# The log of the state root (`aba-lock log --enable`) and the shell library.
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2154 # set by bats

load helper

setup() {
    shared_setup
    mkdir "${ABA_LOCK_DIR}"
    aba-lock log --enable >/dev/null
}

teardown() {
    shared_teardown
}

# Prints `LOCK MODE CAUSE` for each holding.
print_history() {
    aba-lock log --json | jq -r '"\(.lock) \(.mode) \(.cause)"'
}

@test "each form of the library logs the same acquisitions and releases" {
    local form
    printf '%s\n' 'source "$FORM"' \
        'aba_lock_operation save && aba_lock_held save && aba_unlock_operation save || exit 9' \
        'aba_lock_operation --shared save && aba_unlock_operation || exit 9' \
        'aba_lock_operation --slots 2 load && aba_unlock_operation || exit 9' \
        'aba_lock_operation a b && aba_lock_operation a || exit 9' \
        '(aba_lock_operation a) || exit 9' >tool
    for form in "${LIBRARY}" "${WHOLE_LIBRARY}"; do
        rm -f "${ABA_LOCK_DIR}"/events*
        aba-lock log --enable >/dev/null
        FORM=${form} run -0 bash ./tool
        expect_silence
        print_history >history
        printf '%s\n' 'save exclusive release' 'save shared release' 'load shared release' 'a exclusive null' 'b exclusive null' |
            diff - history
    done
}

@test "a skipped run, a wait and a lock that children do not inherit are in the log" {
    script holder <<'END'
aba_lock_operation --no-inherit save
hold
END
    start ./holder
    until_ready >/dev/null
    printf '%s\n' 'source "$LIBRARY"' 'aba_lock_operation --skip-ok save' >tool
    run -0 bash ./tool
    [[ $(aba-lock log --json save | jq -r '.state, .waits[].outcome' | tr '\n' ' ') == 'held skipped ' ]]
    let_go
    until_true grep -q '"event":"released"' "${ABA_LOCK_DIR}/events.jsonl"
    [[ $(aba-lock log --json save | jq -r .state) == ended ]]
}
