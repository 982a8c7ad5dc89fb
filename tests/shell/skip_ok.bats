#!/usr/bin/env bats
# `aba_lock_operation --skip-ok`: a script that may be skipped ends in silence if the lock is held.
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2154 # set by bats

load helper

@test "with --skip-ok, a script ends with status 0 and no output if the lock is held or the wait timed out" {
    script job <<'END'
trap 'echo "exit $?" >>exits' EXIT
aba_lock_operation --skip-ok "$@" save
echo run
END
    start_holder save
    local options
    for options in '' --nonblock '--timeout 0.2' '--max-time 1h' --no-inherit '--slots 2' '--on-conflict warn'; do
        : >exits
        run -0 ./job ${options}
        expect_silence
        [[ $(<exits) == 'exit 0' ]]
    done
    let_go
    expect_end 0
    run -0 ./job
    [[ ${output} == run ]]
}

@test "a call with --skip-ok and --on-conflict return gets status 80, and never 0 without the lock" {
    script caller <<'END'
aba_lock_operation --skip-ok --on-conflict return save && exit 20
aba_lock_operation --skip-ok --on-conflict return save
[[ $? == 80 ]] || exit 21
aba_lock_held save && exit 22
{ true <&200; } 2>/dev/null && exit 23
exit 0
END
    start_holder save
    run -0 ./caller
    expect_silence
    let_go
    expect_end 0
}
