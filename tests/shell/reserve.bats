#!/usr/bin/env bats
# aba_reserve in scripts.

load helper

@test "a script gets its number, whatever options and traps it has" {
    script tool <<'END'
set -euo pipefail
set -E
trap 'echo "trap: $?"' ERR
port=$(aba_reserve --probe none)
again=$(aba_reserve --probe none)
eval "$(aba_reserve --probe none --group web,db --format export)"
echo "${port} ${again} ${WEB_PORT} ${DB_PORT}"
END
    run -0 ./tool
    [[ ${output} == '5000 5000 5001 5002' ]]
}

@test "variables of the script have an effect, exported or not" {
    script tool <<'END'
unset ABA_LOCK_DIR
ABA_LOCK_DIR=${BATS_TEST_TMPDIR}/other
aba_reserve --probe none
END
    run -0 ./tool
    [[ ${output} == 5000 && -f other/reserve/ports && ! -e ${ABA_LOCK_DIR} ]]
}

@test "a failure is the status of the call, and ends the script only under set -e" {
    script tool <<'END'
status=0
aba_reserve --probe none --range 5-5 --require 6 || status=$?
echo "${status}"
status=0
aba_reserve --probe none -- sh -c 'exit 7' || status=$?
echo "${status}"
set -e
aba_reserve --nonsense
echo 'not reached'
END
    run -2 ./tool
    expect_text $'cannot reserve 6: it is not in 5\n'
    expect_text $'\n75\n7\n'
    [[ ${output} != *'not reached'* ]]
}

@test "neither the helper nor its command keeps the locks of the script" {
    script tool <<'END'
aba_lock_operation save
aba_lock_held save && echo 'before'
aba_reserve --probe none -- bash -c 'echo "fds: ${ABA_LOCK_FDS}"; [[ ! -e /proc/self/fd/200 ]] && echo closed'
aba_lock_held save && echo 'after'
END
    run -0 ./tool
    [[ ${output} == $'before\nfds: 500\nclosed\nafter' ]]
}

@test "a command that is detached does not keep the number" {
    script tool <<'END'
aba_lock_detach sleep 1000 >/dev/null 2>&1 </dev/null 3>&- 4>&- &
ready "$!"
exit 0
END
    # The tool is the command that has the number, and the command that it detaches outlives it.
    start aba-lock reserve --probe none -- ./tool
    pid=$(until_ready)
    wait "${STARTED_PID}"
    kill -0 "${pid}"
    number_is_free() { [[ $(aba-lock reserve --probe none --dry-run --tag other) == 5000 ]]; }
    until_true number_is_free
    kill "${pid}"
}

@test "two checkouts and ten parallel commands on one machine get different numbers" {
    mkdir one two
    for checkout in one two; do
        (cd "${checkout}" && aba-lock reserve --probe none --group web,db --dotenv .env >/dev/null)
    done
    [[ $(<one/.env) == $'WEB_PORT=5000\nDB_PORT=5001' ]]
    [[ $(<two/.env) == $'WEB_PORT=5002\nDB_PORT=5003' ]]
    mkfifo gate
    # (Not by `jobs -p`, which lists the timeout process of bats, too, whose sleep(1) would outlive it.)
    started=()
    for ((i = 0; i < 10; i++)); do
        aba-lock reserve --probe none -- sh -c 'echo "$ABA_NUMBER" >>numbers; read -r _ <gate' &
        started+=($!)
    done
    all_have_one() { (($(wc -l <numbers) == 10)); }
    until_true all_have_one
    [[ $(sort -u numbers | wc -l) == 10 ]]
    kill "${started[@]}"
    wait "${started[@]}" || true
}
