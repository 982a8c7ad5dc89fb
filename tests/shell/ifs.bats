#!/usr/bin/env bats
# All functions of the library in scripts with an unusual IFS, at which bash splits numbers, paths, options and names.

load helper

# Usage: with_each_ifs EXPECTED BASH-ARGUMENT...
with_each_ifs() {
    local ifs expected=$1 options
    shift
    for ifs in unset "IFS=''" 'IFS=0123456789' 'IFS=2' "IFS='/ '" 'IFS=a' 'IFS=abcdefghijklmnopqrstuvwxyz' "IFS='-_=.:,!'"; do
        for options in '' '--posix -eu'; do
            run -0 env WITH_IFS="${ifs}" timeout "${PATIENCE}" bash ${options} "$@"
            if [[ ${output} != "${expected}" ]]; then
                printf 'with %s and bash %s\nexpected: %s\ngot:      %s\n' "${ifs}" "${options}" "${expected}" "${output}" >&2
                return 1
            fi
        done
    done
}

# Usage: script_with_ifs NAME <<'END' ... END
script_with_ifs() {
    {
        printf '%s\n' 'if [[ $WITH_IFS == unset ]]; then unset IFS; else eval "$WITH_IFS"; fi' 'before=${IFS-unset}'
        cat
        printf '%s\n' '[[ ${IFS-unset} == "$before" ]] || echo "IFS was changed"'
    } | script "$1"
}

@test "whatever IFS is, locks are acquired, queried, inherited, detached and released" {
    script inner <<'END'
aba_lock_operation --wait save-22 && aba_lock_held save-22 && aba_unlock_operation
END
    script_with_ifs tool <<'END'
aba_lock_operation --who 'a 2' -t 2.5 save-22 load_a
aba_lock_operation --shared other
aba_lock_held save-22 && aba_lock_held load_a && aba_lock_held other && aba_lock_check other || echo "not held"
aba_lock_operation --timeout=22 save-22
./inner || echo "not handed down"
aba_lock_detach test ! -e /dev/fd/200 || echo "not detached"
(aba_lock_detach test ! -e /dev/fd/201) || echo "not detached"
aba_unlock_operation save-22 && aba_unlock_operation && aba_unlock_operation || echo "not released"
for name in save-22 load_a other; do
    if aba_lock_held "$name"; then echo "held"; fi
done
aba_unlock_operation save-22 2>/dev/null || echo "status $?"
ABA_LOCK_ON_CONFLICT=return
aba_lock_operation -z save-22 2>/dev/null || echo "status $?"
aba_lock_operation 'a b' 2>/dev/null || echo "status $?"
[[ ! -e /dev/fd/200 && ! -e /dev/fd/201 && ! -e /dev/fd/202 ]] || echo "still open"
END
    with_each_ifs $'status 1\nstatus 2\nstatus 2' ./tool
}

@test "whatever IFS is, a lock that another script holds is refused, or waited for until the time is over" {
    start_holder save-22
    script_with_ifs tool <<'END'
trap ': a2' USR1
for how in return warn; do
    aba_lock_operation --quiet --on-conflict "$how" save-22 2>/dev/null || echo "status $?"
    aba_lock_operation --quiet --on-conflict "$how" --timeout 0.02 save-22 2>/dev/null || echo "status $?"
done
END
    with_each_ifs $'status 1\nstatus 1\nstatus 3\nstatus 3' ./tool
    let_go
}

@test "whatever IFS is, a lock file that cannot be opened is reported" {
    script_with_ifs tool <<'END'
aba_lock_operation save
aba_unlock_operation save
ulimit -n 64
aba_lock_operation --on-conflict return save 2>message || echo "status $?"
while IFS= read -r line; do echo "${line%% /*}"; done <message
END
    with_each_ifs $'status 125\naba-lock: cannot open lock file\nhint: raise the limit, for example: `ulimit -n 1024`' ./tool
}

@test "whatever IFS is, tasks, files and numbers work as usual" {
    script_with_ifs tool <<'END'
source "$PROJECT/shell/run_once.bash"
twice() { while IFS= read -r line; do echo "$line$line"; done; }
echo a2 >file
aba_run_once -q -w -i "task-2.$$" -- sh -c 'exit 22' || echo "status $?"
run_once -q -w -S -i "other-2.$$" -- sh -c 'exit 12' || echo "status $?"
aba_update file twice && echo "$(<file)"
aba_reserve -- sh -c 'exit 12' || echo "status $?"
aba_lock_doctor >/dev/null && echo fine
END
    with_each_ifs $'status 22\nstatus 12\na2a2\nstatus 12\nfine' ./tool
}
