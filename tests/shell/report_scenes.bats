#!/usr/bin/env bats
# The scenes of `make test-report`, with the bash of the tests.

load helper

setup_file() {
    # The test runs many scenes.
    export BATS_TEST_TIMEOUT=1000
}

setup() {
    shared_setup
    # The tools that other systems have, too.
    "${PROJECT}/tests/portable-tools" "${PWD}/tools" zsh rustc
    export PATH=${PWD}/tools
}

@test "all scenes of the report pass here, with the tools that Linux, macOS and FreeBSD have" {
    run env BASH_BIN="${BASH_BIN}" "${PROJECT}/tests/report/run" report
    if ((status != 0)); then
        sed '/^aba-lock doctor/,$d' report
        return 1
    fi
    run -0 bash -c 'sh "$1" list; for _ in bash sh zsh; do sh "$1" list-library; done' - "${PROJECT}/tests/report/scenes"
    run -0 grep -Fx "${#lines[@]} passed, 0 failed, 0 skipped" report
    for text in 'system: Linux' 'bash: ' 'rustc: ' 'aba-lock: aba-lock ' 'passed  conflict' 'passed  bash/held' 'passed  zsh/nested' 'locking: tested'; do
        run -0 grep -F "${text}" report
    done
}
