#!/usr/bin/env bats
# `aba_lock_operation --no-inherit --slots`: a slot that ends with the script, whatever its children inherit.
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2154 # set by bats

load helper

@test "--no-inherit --slots: the slot is held until the script ends, and its number is that of the script" {
    script holder <<'END'
aba_lock_operation --no-inherit --slots 2 save
bash -c 'echo "child ${ABA_LOCK_SLOT}"' >>notes
sleep 1000 &
echo "$!" >daemon
hold
END
    mkfifo gate
    aba-lock lock --slots 2 save -- sh -c 'echo begun >first; read _ <gate' &
    # Bats may have other children, such as the clock of its time limit.
    local first=$!
    until_true test -s first
    for signal in TERM KILL; do
        start ./holder
        until_ready >/dev/null
        run -75 aba-lock lock --slots 2 save -- true
        expect_text '2 of 2 slots are held'
        run -0 aba-lock status --json save
        [[ $(jq -c "[.slots, (.holders[] | select(.pid == ${STARTED_PID}) | .slot)]" <<<"${output}") == '[2,2]' ]]
        kill -s "${signal}" "${STARTED_PID}"
        until_true aba-lock lock --quiet --slots 2 save -- true
        kill -0 "$(<daemon)"
        kill "$(<daemon)"
    done
    [[ $(<notes) == $'child 2\nchild 2' ]]
    echo >gate
    wait "${first}"
}

@test "--no-inherit --slots: a nested call keeps the slot, and each other call for the lock is refused with the reason" {
    script holder <<'END'
ABA_LOCK_SLOT=mine
aba_lock_operation -o --slots 3 save && aba_lock_operation --slots 2 other || exit 20
aba_lock_operation -o --slots=3 save && [[ ${ABA_LOCK_SLOT} == 1 ]] && aba_lock_held save || exit 21
aba_lock_operation --shared save && [[ ${__aba_locks} == "save/"*"/$$ other/"*"/$$ " ]] || exit 22
for option in --exclusive --slots=2 '--no-inherit --slots=2' --no-inherit; do
    aba_lock_operation --on-conflict return ${option} save && exit 23
done
aba_unlock_operation other && [[ ${ABA_LOCK_SLOT} == 1 ]] || exit 24
aba_unlock_operation save && [[ ${ABA_LOCK_SLOT} == mine && -z ${__aba_locks}${__aba_bound_locks}${__aba_slot_locks} ]] || exit 25
aba-lock lock --slots 2 save -- true || exit 26
# Each lock has its own rule if both are held without it: there is one lock after the refused call.
aba_lock_operation -o --shared save
aba_lock_operation --on-conflict return --slots 2 save && exit 27
aba_unlock_operation save && aba-lock lock save -- true || exit 28
# A slot that the script has acquired without the option stays as it is.
aba_lock_operation --slots 2 save && aba_lock_operation -o --slots 2 save && [[ -z ${__aba_bound_locks} && ${ABA_LOCK_SLOT} == 1 ]]
END
    run -0 ./holder
    local exclusive='aba-lock: save is already held with --slots 3 by this script, and cannot become exclusive while it is held
hint: release it first, or acquire it without --slots from the start'
    local number='aba-lock: save is held with --slots 3, so --slots 2 is refused
hint: use --slots 3, or end all processes that hold this lock or wait for it'
    [[ ${output} == "${exclusive}"$'\n'"${number}"$'\n'"${number}"$'\n'"${exclusive}"$'\naba-lock: save is already held shared by this script, without a slot
hint: release it first, or acquire it with --slots from the start' ]]
}

@test "--no-inherit --slots: a script waits for a slot, and its subshells and children get slots of their own" {
    script holder <<'END'
aba_lock_operation -o --quiet --wait --slots 2 save
(aba_lock_operation --subshell --slots 2 save && echo "subshell ${ABA_LOCK_SLOT}") || exit 20
(aba_lock_operation -o --subshell --slots 2 save && echo "bound subshell ${ABA_LOCK_SLOT}") || exit 21
until aba-lock lock --quiet --slots 2 save -- sh -c 'echo "child ${ABA_LOCK_SLOT}"'; do sleep 0.02; done
aba_lock_held save
END
    mkfifo gate
    aba-lock lock save -- sh -c 'echo begun >first; read _ <gate' &
    local first=$!
    until_true test -s first
    start ./holder
    until_true eval '[[ $(aba-lock status --json save | jq ".waiters | length") == 1 ]]'
    echo >gate
    expect_end 0
    [[ $(<output) == $'subshell 2\nbound subshell 2\nchild 2' ]]
    wait "${first}"
}
