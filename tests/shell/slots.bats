#!/usr/bin/env bats
# `aba_lock_operation --slots`: a lock that several scripts hold at the same time.
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2154 # set by bats

load helper

# Starts a script that holds one of $1 slots until `let_go`, and waits until it does. It writes the number of its slot into the file
# `slot`. More arguments are options.
start_slot() {
    script holder <<'END'
aba_lock_operation --slots "$@" save
echo "${ABA_LOCK_SLOT}" >slot
hold
END
    start ./holder "$@"
    until_ready >/dev/null
}

@test "each script gets a slot of its own, and the children of a script see its number" {
    start_slot 2
    [[ $(<slot) == 1 ]]
    script second <<'END'
aba_lock_operation --slots 2 save
bash -c 'echo "child ${ABA_LOCK_SLOT}"'
echo "pipe" | { read -r _; echo "part ${ABA_LOCK_SLOT}"; }
echo "subshell $(echo "${ABA_LOCK_SLOT}")"
# No slot is left.
aba-lock lock --slots 2 --quiet other -- true || exit 20
env -u ABA_LOCK_FDS aba-lock lock --slots 2 --quiet save -- true 200>&-
[[ $? == 75 ]] || exit 21
END
    run -0 ./second
    [[ ${output} == $'child 2\npart 2\nsubshell 2' ]]
    let_go
    expect_end 0
}

@test "a nested call keeps the slot, in the script, a subshell and a child" {
    script child <<'END'
aba_lock_operation --slots 3 save || exit 30
echo "child ${ABA_LOCK_SLOT}"
# This undoes only the nested call.
aba_unlock_operation save && [[ ${ABA_LOCK_SLOT} == 1 ]] || exit 31
END
    script outer <<'END'
aba_lock_operation --slots 3 save
aba_lock_operation --slots=3 save || exit 20
echo "again ${ABA_LOCK_SLOT}"
(aba_lock_operation --subshell --slots 3 save && echo "subshell ${ABA_LOCK_SLOT}") || exit 21
aba_lock_operation --shared save || exit 22
./child || exit "$?"
[[ ${__aba_slot_locks} == save/200/' ' ]] || exit 23
aba_lock_held save || exit 24
# All of these are refused, and the script keeps its slot.
aba_lock_operation --on-conflict return --quiet save && exit 25
aba_lock_operation --on-conflict return --quiet --slots 2 save && exit 26
aba_lock_held save && [[ ${ABA_LOCK_SLOT} == 1 ]] || exit 27
aba-lock status save
END
    run -0 --separate-stderr ./outer
    [[ ${output} == $'again 1\nsubshell 1\nchild 1\nsave: held, 1 of 3 slots, '* ]]
    is_free save
}

@test "a holder of the whole lock has slot 1 of every number" {
    script outer <<'END'
aba_lock_operation save
aba_lock_operation --slots 3 save
echo "${ABA_LOCK_SLOT}"
aba_lock_operation --slots 5 save
echo "${ABA_LOCK_SLOT}"
aba_unlock_operation save
echo "${ABA_LOCK_SLOT-none}"
END
    run -0 ./outer
    [[ ${output} == $'1\n1\nnone' ]]
}

@test "the slot is free after aba_unlock_operation, an exit handler, and kill -9, and a child that lives on keeps it" {
    script holder <<'END'
trap 'echo "at exit ${ABA_LOCK_SLOT}" >>notes' EXIT
aba_lock_operation --slots 1 save
hold
aba_unlock_operation save
[[ -z ${ABA_LOCK_SLOT-} ]] || exit 20
aba-lock lock --slots 2 save -- true || exit 21
aba_lock_operation --slots 1 save
hold
END
    start ./holder
    until_ready >/dev/null
    run -75 aba-lock lock --quiet --slots 1 save -- true
    let_go
    until_ready >/dev/null
    run -75 aba-lock lock --quiet --slots 1 save -- true
    let_go
    expect_end 0
    [[ $(<notes) == 'at exit 1' ]]
    aba-lock lock --slots 1 save -- true

    start_slot 1
    kill -KILL "${STARTED_PID}"
    expect_end 137
    aba-lock lock --slots 1 save -- true

    script holder <<'END'
aba_lock_operation --slots 1 save
sleep 1000 &
echo "$!" >child
hold
END
    start ./holder
    until_ready >/dev/null
    kill -KILL "${STARTED_PID}"
    expect_end 137
    run -75 aba-lock lock --slots 1 save -- true
    expect_text "pid $(<child)"
    kill "$(<child)"
    until_true aba-lock lock --quiet --slots 1 save -- true
}

@test "a subshell that takes a slot releases it at its end" {
    script outer <<'END'
(
    aba_lock_operation --subshell --slots 1 save
    echo "inside ${ABA_LOCK_SLOT}"
)
echo "outside ${ABA_LOCK_SLOT-none}"
aba-lock lock --slots 2 save -- true
END
    run -0 ./outer
    [[ ${output} == $'inside 1\noutside none' ]]
}

@test "without a free slot, the script ends, or continues with --on-conflict return, or waits" {
    start_slot 1
    local first=${STARTED_PID}
    script second <<'END'
aba_lock_operation --slots 1 "$@" save
echo "status $?, slot ${ABA_LOCK_SLOT-none}"
hold second
END
    run -1 ./second
    expect_text "aba-lock: save is held by pid ${first} (bash ./holder 1), "
    expect_text '; 1 of 1 slot is held'
    [[ ${output} != *'status 1'* ]]
    run -1 ./second --timeout 0.2
    expect_text 'timed out after 0.2 s waiting for save, held by '
    script returning <<'END'
ABA_LOCK_SLOT=mine
aba_lock_operation --slots 1 --quiet --on-conflict return save
echo "status $?, slot ${ABA_LOCK_SLOT}"
ls -l "/proc/$$/fd" 2>/dev/null | grep -c 'aba-.*\.lock'
END
    run ./returning
    [[ ${output} == $'status 1, slot mine\n0' ]]
    start ./second --wait
    until_true eval '[[ $(aba-lock status --json save | jq ".waiters | length") == 1 ]]'
    let_go
    [[ $(until_ready) == second ]]
    grep -q 'status 0, slot 1' output
    let_go
    expect_end 0
}

@test "a script that is killed while it waits for a slot leaves its place to the next one" {
    start_slot 1
    local first=${STARTED_PID} waiter
    script waiter <<'END'
aba_lock_operation --quiet --slots 1 --wait save
hold waiter
END
    are_waiting() { [[ $(aba-lock status --json save | jq '.waiters | length') == "$1" ]]; }
    start ./waiter
    waiter=${STARTED_PID}
    until_true are_waiting 1
    start ./waiter
    until_true are_waiting 2
    kill -KILL "${waiter}"
    until_true are_waiting 1
    let_go
    [[ $(until_ready) == waiter ]]
    expect_end 0 "${first}"
    let_go
    expect_end 0
    is_free save
}

@test "two locks with slots restore the number of the outer one" {
    start_slot 3
    script outer <<'END'
aba_lock_operation --slots 3 save
aba_lock_operation --slots 2 load
echo "${ABA_LOCK_SLOT}"
aba_unlock_operation load
echo "${ABA_LOCK_SLOT}"
aba_unlock_operation save
echo "${ABA_LOCK_SLOT-none}"
END
    run -0 ./outer
    [[ ${output} == $'1\n2\nnone' ]]
    let_go
    expect_end 0
}

@test "ABA_LOCK_SLOT is the slot of the lock that was acquired last, whatever the order in which locks are released" {
    script holder <<'END'
for name; do aba_lock_operation --slots 3 "${name}"; done
hold
END
    local first order
    start ./holder b c
    first=${STARTED_PID}
    until_ready >/dev/null
    start ./holder c
    until_ready >/dev/null
    # The slots of the script are 1 of a, 2 of b and 3 of c.
    script outer <<'END'
for name in a b c; do aba_lock_operation --slots 3 "${name}"; done
for name; do
    aba_unlock_operation "${name}"
    printf '%s ' "${ABA_LOCK_SLOT-none}"
done
END
    for order in 'a b c:3 3' 'a c b:3 2' 'b a c:3 3' 'b c a:3 1' 'c a b:2 2' 'c b a:2 1'; do
        run -0 ./outer ${order%:*}
        [[ ${output} == "${order#*:} none " ]]
        ABA_LOCK_SLOT=9 run -0 ./outer ${order%:*}
        [[ ${output} == "${order#*:} 9 " ]]
    done
    kill -KILL "${first}"
    let_go
    expect_end 0
}

@test "a value of ABA_LOCK_SLOT that is no number comes back as it was, also with blanks" {
    script outer <<'END'
for name in a b; do aba_lock_operation --slots 3 "${name}"; done
for name; do aba_unlock_operation "${name}"; done
printf '%s' "<${ABA_LOCK_SLOT}>"
[[ -z ${__aba_slot_locks} ]]
END
    local value
    for value in 'my own slot' ' _b_u /_ ' $'\n * a/1/2 \t'; do
        ABA_LOCK_SLOT=${value} run -0 ./outer a b
        [[ ${output} == "<${value}>" ]]
        ABA_LOCK_SLOT=${value} run -0 ./outer b a
        [[ ${output} == "<${value}>" ]]
    done
}

@test "options that cannot be used with --slots are refused, and leave no descriptor open" {
    script refused <<'END'
aba_lock_operation --on-conflict return "$@"
echo "status $?"
# Bash may close the end of a pipe while `ls` lists its descriptors.
ls -l "/proc/$$/fd" 2>/dev/null | grep -c 'aba-.*\.lock'
END
    local options
    for options in '--slots 2 one two' '--slots 2 --shared save' '--slots 0 save' '--slots 1025 save' \
        '--slots x save' '--slots 2 --slots 3 save'; do
        run ./refused ${options}
        expect_text 'aba-lock: '
        expect_text $'status 2\n0'
    done
    run -0 aba-lock list
    [[ ${output} != *save* ]] || is_free save
}

@test "--slots works with each option of the shell, with a maximum time, a pid file and any text as the name" {
    script plain <<'END'
aba_lock_operation --slots 2 --pid-file pid --max-time 1h --timeout 5 --key 'https://example.org/a b' || exit 20
[[ ${ABA_LOCK_SLOT} == 1 && $(<pid) == "$$" ]] || exit 21
aba_unlock_operation --key 'https://example.org/a b' || exit 22
[[ ! -e pid && -z ${ABA_LOCK_SLOT-} ]] || exit 23
END
    local options
    for options in '' -eu '-o posix' '-f -C -u' '-o pipefail -T -E'; do
        run -0 bash ${options} plain
        expect_silence
    done
}
