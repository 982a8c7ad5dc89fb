#!/usr/bin/env bats
# Descriptors that a script inherited, and a script that takes the place of another with `exec`.

load helper

@test "a descriptor that was unusable in one call is tried again in the next" {
    script tool <<'END'
aba_lock_operation save
aba_unlock_operation save
# Locked by a process that has ended.
exec 200<>"$ABA_LOCK_DIR/aba-save.lock"
bash -c 'aba-lock lock --fd 200 save; exit'
export ABA_LOCK_FDS=200
aba_lock_operation --quiet --on-conflict return save && exit 91
exec 200>&-
aba_lock_operation save
[[ $ABA_LOCK_FDS == 200 ]] || exit 92
aba_lock_held save || exit 93
aba_lock_operation save || exit 94
aba_unlock_operation save && ! aba_lock_held save
END
    run -0 ./tool
    expect_silence
}

@test "a child is granted the lock again when its parent holds it again" {
    script inner <<'END'
hold
aba_lock_operation --quiet --on-conflict return save
hold "refused: $?"
status=0
aba_lock_operation --on-conflict return save || status=$?
ready "granted: $status"
END
    script outer <<'END'
aba_lock_operation save
./inner &
hold() { read -r -t "${PATIENCE}" _ <outer-go; }
hold
flock -u 200
ready
hold
aba_lock_operation save
ready
wait
END
    mkfifo outer-go
    start ./outer
    until_ready
    echo >outer-go
    until_ready
    exec 201<>"${ABA_LOCK_DIR}/aba-save.lock"
    flock -n 201
    let_go
    run -0 until_ready
    [[ ${output} == 'refused: 1' ]]
    exec 201>&-
    echo >outer-go
    until_ready
    let_go
    run -0 until_ready
    [[ ${output} == 'granted: 0' ]]
}

@test "of several descriptors on one lock file, the locked one counts" {
    script tool <<'END'
aba_lock_operation save
exec 199<>"$ABA_LOCK_DIR/aba-save.lock"
ABA_LOCK_FDS='199 200' bash -c 'source "$LIBRARY"; aba_lock_held save'
END
    run -0 ./tool
    expect_silence
}

@test "a script that takes the place of the holder with exec releases the lock, even if its children inherited it" {
    script first <<'END'
aba_lock_operation save load more
sleep 1000 &
exec ./second "$@"
END
    script second <<'END'
for name in save load more; do aba_lock_held "$name" || exit 91; done
if [[ ${1-} == again ]]; then aba_lock_operation save; fi
aba_unlock_operation save || exit 92
aba_lock_held save && exit 93
# The last one that was acquired.
aba_unlock_operation || exit 94
aba_lock_held more && exit 95
aba_lock_held load && aba_unlock_operation || exit 96
[[ -z ${ABA_LOCK_FDS-} && ! -e /dev/fd/200 && ! -e /dev/fd/201 && ! -e /dev/fd/202 ]] || exit 97
aba_unlock_operation && exit 98
ready
END
    for how in '' again; do
        for options in '' '-euf -O failglob' '--posix -eu'; do
            sed -i "s|^exec .*|exec bash ${options} ./second \"\$@\"|" first
            # The exit statuses above are those of conditions.
            start ./first ${how}
            until_ready || {
                cat output
                return 1
            }
            is_free save
            is_free load
            is_free more
            kill -0 -- "-${STARTED_PID}"
            wait "${STARTED_PID}"
        done
    done
    [[ $(<output) == *'nothing to release: this script holds no lock' ]]
}

@test "a child that releases an inherited lock closes its copy, whether it has asked for the lock or not" {
    script inner <<'END'
if [[ ${1-} == ask ]]; then aba_lock_operation save; fi
aba_unlock_operation ${2-} || exit 91
[[ ! -e /dev/fd/200 && -z ${ABA_LOCK_FDS-} ]] || exit 92
aba_lock_held save && exit 93
aba_unlock_operation save 2>/dev/null && exit 94
exit 0
END
    script outer <<'END'
aba_lock_operation save
for how in no ask; do
    ./inner "$how" || exit
    ./inner "$how" save || exit
    bash -c './inner "$0" save; exit "$?"' "$how" || exit
done
aba_lock_held save
END
    run -0 ./outer
    expect_silence
}

@test "a script with the pid of the holder, but in another pid namespace, does not release the lock" {
    script inner <<'END'
aba_lock_held save || exit 91
aba_unlock_operation save || exit 92
echo "inner $$"
END
    script outer <<'END'
aba_lock_operation save
echo "outer $$"
unshare --pid --fork --kill-child --mount-proc ./inner || exit
(exec 200>&-; unset ABA_LOCK_FDS; aba-lock lock -q save -- true) || echo "still locked: $?"
END
    run -0 timeout "${PATIENCE}" unshare --user --map-root-user --pid --fork --kill-child --mount-proc ./outer
    [[ ${output} == $'outer 1\ninner 1\nstill locked: 75' ]] || {
        echo "${output}"
        return 1
    }
}
