#!/usr/bin/env bats
# The comparison of the instructions of the main calls, which `make test` runs, and `make counts`.

load helper

@test "a call that takes 3 % more or fewer instructions than noted fails the comparison, with this compiler only" {
    mkdir tests tools
    cp "${PROJECT}/tests/counts/run" tests/run
    printf '#!/bin/sh\necho "rustc 1.0"\n' >tools/rustc
    chmod +x tools/rustc
    PATH=${PWD}/tools:${PATH}
    run -77 tests/run "${ABA_LOCK_BIN}"
    expect_text 'no instructions are noted for '
    expect_text ' unlock --fd 200 NAME'

    run -0 tests/run "${ABA_LOCK_BIN}" write
    noted=(tests/*-linux-*)
    run -0 tests/run "${ABA_LOCK_BIN}"
    expect_text "compared with tests/counts/${noted[0]##*/}:"
    [[ ${output} != *apart* && ${output} == *'0.0 %  unlock --fd 200 NAME'* ]]

    cp "${noted[0]}" same
    for factor in 1.04 0.96; do
        awk -v factor="${factor}" '/ unlock / { $1 = int($1 * factor) } { print }' same >"${noted[0]}"
        run -1 tests/run "${ABA_LOCK_BIN}"
        expect_text 'unlock --fd 200 NAME   more than 3 % apart'
        [[ $(grep -c apart <<<"${output}") == 1 ]]
        expect_text 'if this change is wanted, run `make counts`'
    done
    printf '#!/bin/sh\necho "rustc 1.1"\n' >tools/rustc
    run -77 tests/run "${ABA_LOCK_BIN}"
    expect_text 'the numbers are for rustc 1.0, and this is rustc 1.1: they are printed, and not judged'
    # A call that has no number yet.
    printf '#!/bin/sh\necho "rustc 1.0"\n' >tools/rustc
    grep -v ' unlock ' same >"${noted[0]}"
    run -1 tests/run "${ABA_LOCK_BIN}"
    expect_text '-           unlock --fd 200 NAME'
}
