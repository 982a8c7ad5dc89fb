#!/usr/bin/env bats
# Calls of aba_lock_operation that the library or the helper refuses: wrong usage, and another version of the helper.

load helper

@test "an unknown value of --on-conflict is refused before anything is locked" {
    script tool <<'END'
aba_lock_operation save
echo 'not reached'
END
    ABA_LOCK_ON_CONFLICT=wait run -2 bash ./tool
    expect_text 'aba-lock: ABA_LOCK_ON_CONFLICT is "wait", which is not exit, return, ask or warn'
    run -2 bash -c 'source "$LIBRARY"; aba_lock_operation --on-conflict wait save'
    expect_text 'aba-lock: --on-conflict is "wait", which is not exit, return, ask or warn'
    [[ ! -e ${ABA_LOCK_DIR} ]]
}

@test "wrong usage is status 2 with a message" {
    script tool <<'END'
aba_lock_operation "$@"
echo 'not reached'
END
    run -2 ./tool
    expect_text $'aba_lock_operation needs the name of a lock\nhint: for example: `aba_lock_operation backup`'
    for option in --fd=7 -E3 --no-such -z --on-busy=x; do
        run -2 ./tool save "${option}"
        expect_text "aba_lock_operation: no such option: ${option}"
    done
    for option in -w60 -qw60; do
        run -2 ./tool save "${option}"
        expect_text $'aba_lock_operation: no such option: '"${option}"$'\nhint: to wait for at most 60 seconds, use --wait=60'
    done
    run -2 bash -c 'source "$LIBRARY"; aba_lock_held --help'
    expect_text '"--help"'
    run -2 ./tool save --who
    expect_text 'option --who needs a value'
    run -2 ./tool save -t ''
    expect_text 'option -t needs a value'
    run -2 ./tool --timeout '' save
    expect_text 'option --timeout needs a value'
    [[ ! -e ${ABA_LOCK_DIR} ]]
    run -2 ./tool save --grace 3
    expect_text $'aba_lock_operation: missing argument: --max-time TIME or --replace\nhint: see `aba_lock_operation --help`'
    run -2 ./tool save -t soon
    expect_text 'not a time such as 30, 90s or 1h30m'
    run -0 ./tool --help
    expect_text 'Usage: aba_lock_operation [OPTIONS] OPERATION...'
    expect_text '--on-conflict HOW'
}

@test "a helper of another version that refuses the call is reported" {
    cat >helper <<'END'
#!/bin/sh
case $* in
    --version) echo "$REPORTED" ;;
    *"$REFUSED"*) echo 'error: unexpected argument' >&2; exit 2 ;;
    *) exec "$REAL" "$@" ;;
esac
END
    chmod +x helper
    script tool <<'END'
aba_lock_operation save
echo 'not reached'
END
    local old='aba-lock 0.0.9' this='aba-lock 0.1.0 (x86_64-unknown-linux-gnu)' real=${ABA_LOCK_BIN}
    REAL=${real} ABA_LOCK_BIN=${PWD}/helper REPORTED=${old} REFUSED=--reopen run -2 ./tool
    expect_text "aba-lock: the helper ${PWD}/helper is aba-lock 0.0.9, but aba-lock.bash is 0.1.0"
    rm -r "${ABA_LOCK_DIR}"
    REAL=${real} ABA_LOCK_BIN=${PWD}/helper REPORTED=${old} REFUSED=--create run -2 ./tool
    expect_text 'hint: install both from the same release'
    # With the same version, the caller has made a mistake.
    REAL=${real} ABA_LOCK_BIN=${PWD}/helper REPORTED=${this} REFUSED=--reopen run -2 ./tool
    [[ ${output} != *'the same release'* ]]
}

@test "a number after -w is reported as a time to wait, and not taken for a name" {
    script waiter <<'END'
aba_lock_operation "$@"
END
    for call in '-w 60 save' '--wait 60 save' '-qw 60 save' 'save' '60 save -w' 'save --wait 60' 'save -qw 60 other'; do
        # shellcheck disable=SC2086
        run ./waiter ${call}
        if [[ ${call} == save ]]; then
            [[ ${status} == 0 ]]
        else
            [[ ${status} == 2 ]]
            expect_text '60 would be the name of a lock, not a time to wait'
            expect_text '--wait=60'
        fi
    done
    [[ ! -e ${ABA_LOCK_DIR}/aba-60.lock ]]
    for call in 1m 1.5h 2d 0.5s 1h30m 1w2d3h4m5s6ms '0.5 seconds' '1 second'; do
        for option in -w --wait -qw; do
            run -2 ./waiter ${option} "${call% *}" save
            expect_text "aba-lock: ${call% *} would be the name of a lock, not a time to wait"
            expect_text "hint: to wait for at most ${call}, use --wait=${call% *}"
        done
        run -2 ./waiter -x "${call% *}" save
        expect_text "aba-lock: ${call% *} would be the name of a lock, because -x takes no value"
    done
    run -2 ./waiter -w1m save
    expect_text 'for at most 1m, use --wait=1m'
    [[ ! -e ${ABA_LOCK_DIR}/aba-1m.lock ]]
    run -0 ./waiter -w 1m
    for call in 1x 1h30 30m1h 1m1m 1.2.3s 5min 1h.5m.; do
        run -0 ./waiter -w "${call}" save
    done
    run -0 ./waiter -n 1m 2m
    run -0 ./waiter -w 60
    run -0 ./waiter -w -n save 60
    run -0 ./waiter -w=60 60 save
    run -0 ./waiter save -w other 60
    start_holder save
    run -1 ./waiter --wait=0.05 save
    expect_text 'timed out'
    run -1 ./waiter -w=0.05 save
    expect_text 'timed out'
    let_go
}

@test "a number after a flag is not taken for a name next to other names" {
    script tool <<'END'
aba_lock_operation "$@"
END
    for call in '-n 3 save' '-x 3 save' 'save -qs 3' '--nonblock 3 save' 'save --shared 3' '--exclusive 3 save' '-n 3 --key save'; do
        # shellcheck disable=SC2086
        run -2 ./tool ${call}
        expect_text 'aba-lock: 3 would be the name of a lock, because -'
        case ${call} in
            *-n*) expect_text 'hint: to let up to 3 scripts hold the lock, use --slots=3; to lock 3, write it after the other names' ;;
            *) expect_text 'hint: to lock 3, write it after the other names' ;;
        esac
    done
    run -2 ./tool --nonblock 1m save
    expect_text 'aba-lock: 1m would be the name of a lock, because --nonblock takes no value'
    expect_text 'hint: to wait for at most 1m, use --wait=1m; to lock 1m, write it after the other names'
    [[ ! -e ${ABA_LOCK_DIR} ]]
    run -0 ./tool -n save 3
    run -0 ./tool -n 3 4
    run -0 ./tool --nonblock 3 4
    run -0 ./tool -x 3
    run -0 ./tool -q 3 save
}

@test "an option for leases needs a server, but its variable does not" {
    script tool <<'END'
aba_lock_operation "$@" save
END
    run -2 ./tool --ttl 10s
    expect_text 'aba-lock: lock: --ttl needs a lease, and no server is named'
    run -2 ./tool --on-lost warn
    expect_text '--on-lost needs a lease'
    run -0 ./tool --ttl 10s --on-lost warn --server ''
    ABA_LOCK_TTL=10s ABA_LOCK_ON_LOST=warn run -0 ./tool
    expect_silence
}

@test "a second value of an option is refused, and nothing is locked" {
    script tool <<'END'
aba_lock_operation "$@" a
END
    for option in --timeout --who --pid-file --server --ttl --on-lost --on-conflict; do
        value=30
        [[ ${option} != --on-conflict ]] || value=return
        # shellcheck disable=SC2043 # both forms
        for call in "${option} ${value} ${option} ${value}" "${option}=${value} ${option}=${value}"; do
            # shellcheck disable=SC2086
            run -2 ./tool ${call}
            expect_text "${option}"
        done
    done
    [[ ! -e 30 ]]
    run -1 "${ABA_LOCK_BIN}" status -q a
    run -0 ./tool -q -q -x -x -n
}

@test "a second name for aba_unlock_operation is refused, and nothing is released" {
    script tool <<'END'
# An option, so that the whole library is loaded.
aba_lock_operation $1 save
status=0
aba_unlock_operation save load || status=$?
aba_unlock_operation save '' || echo "again: $?"
aba_lock_held save && echo "held, ${status}"
END
    for _ in new existing; do
        for option in '' -x; do
            run -0 ./tool "${option}"
            expect_text 'aba-lock: aba_unlock_operation takes the name of one lock'
            expect_text 'hint: call it once for each lock'
            expect_text 'again: 2'
            expect_text 'held, 2'
        done
    done
}

@test "a name that is not valid has the same status in all functions and in the helper" {
    script tool <<'END'
"$@"
echo "status $?"
END
    for name in 'a b' -x a/b $'a\nb' ''; do
        run -2 aba-lock status -- "${name}"
        for call in 'aba_lock_operation --on-conflict return --' aba_unlock_operation aba_lock_held aba_lock_check; do
            # shellcheck disable=SC2086 # several words
            run -0 ./tool ${call} "${name}"
            expect_text 'status 2'
        done
    done
}
