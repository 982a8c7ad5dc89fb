#!/usr/bin/env bats
# The descriptors of the library. Bash before 5.1 has several faults with descriptors.

load helper

@test "a lock that is acquired and released a thousand times leaves no open file, and does not run out of descriptors" {
    script tool <<'END'
aba_lock_operation save
aba_unlock_operation save
ls "/proc/$$/fd" >before
# Without the helper, which would need most of the time. The first call loads the functions.
aba_lock_held save && exit 90
__aba_directory=$ABA_LOCK_DIR
for ((i = 0; i < 1000; i++)); do
    __aba_open_lock_file save && ((__aba_fd == 200)) || exit 91
    __aba_close_fd 200
done
aba_lock_operation save
aba_unlock_operation save
ls "/proc/$$/fd" >after
diff before after
END
    for options in '' -e '--posix -eu'; do
        run -0 bash ${options} ./tool
        expect_silence
    done
}

@test "a detached command has no copy of a lock descriptor, and does not keep the lock" {
    script tool <<'END'
aba_lock_operation save load
aba_lock_detach bash -c 'readlink /proc/$$/fd/* | grep -c "aba-.*\.lock"'
aba_lock_detach bash -c 'echo >up; exec sleep 1000' &
until [[ -e up ]]; do sleep 0.01; done
END
    start ./tool
    wait "${STARTED_PID}" || true
    [[ $(<output) == 0 ]]
    is_free save
    is_free load
}

@test "a helper that is killed leaves the script with none of several locks" {
    printf '#!/bin/sh\n"%s" "$@" || exit\ncase $1 in lock) kill -KILL $$ ;; esac\n' "${ABA_LOCK_BIN}" >helper
    chmod +x helper
    script tool <<'END'
ABA_LOCK_BIN=${PWD}/helper
aba_lock_operation --on-conflict return save load || echo "status $?"
readlink /proc/$$/fd/* | grep 'aba-.*\.lock'
hold
END
    start ./tool
    until_ready
    is_free save
    is_free load
    [[ $(<output) == *'cannot lock save load: the helper '*'ended with status 137'*'status 125' ]]
    let_go
}

@test "a failure to open a lock file does not end a shell in posix mode" {
    script tool <<'END'
aba_lock_operation --quiet save
aba_unlock_operation save
# As if the file were removed after the library has seen it.
__aba_directory=$ABA_LOCK_DIR
__aba_path=$ABA_LOCK_DIR/not-there/aba-save.lock
for mode in '<' '<>'; do
    __aba_redirect_fd 200 "$mode" || echo "failed: $?"
done
ulimit -n 200
__aba_path=$ABA_LOCK_DIR/aba-save.lock
for mode in '<' '<>'; do
    __aba_redirect_fd 200 "$mode" || echo "failed: $?"
done
read -r line
echo "$line"
END
    for options in '' -e -eEu --posix '--posix -eu' '-o errtrace'; do
        run -0 bash ${options} ./tool <<<'stdin is as it was'
        [[ ${output} == $'failed: 1\nfailed: 1\nfailed: 1\nfailed: 1\nstdin is as it was' ]] || {
            printf 'with %s: %s\n' "${options}" "${output}"
            return 1
        }
    done
}

@test "a function of the script that is named exec stays as it is, even if it calls the library" {
    script tool <<'END'
exec() {
    aba_lock_operation save && aba_unlock_operation save && builtin exec "$@"
}
before=$(declare -f exec)
aba_lock_operation load && aba_lock_detach true && aba_unlock_operation load || builtin exit 91
[[ $(declare -f exec) == "$before" && $(declare -F) != *'declare -fx exec'* ]] || builtin exit 92
exec echo done
END
    run -0 ./tool
    [[ ${output} == 'done' ]]
}

@test "a call is refused if descriptors 200 to 254 are all open, also if higher ones are open or free" {
    aba-lock path --create save >/dev/null
    for last in 254 255 256 300; do
        cat >tool <<'END'
source "$1"
for ((fd = 200; fd <= $2; fd++)); do
    eval "exec $fd</dev/null"
done
aba_lock_operation save
echo "went on: $?"
END
        for file in "${LIBRARY}" "${WHOLE_LIBRARY}"; do
            run -125 bash ./tool "${file}" "${last}"
            [[ ${lines[0]} == "aba-lock: cannot open lock file ${ABA_LOCK_DIR}/aba-save.lock: descriptors 200 to 254 are all in use" ]] || {
                printf 'with %s: %s\n' "${last}" "${output}"
                return 1
            }
        done
    done
}

@test "the library uses the programs of the system, and not those in PATH" {
    mkdir own
    for program in sh head tr readlink rm sleep; do
        printf '#!/bin/sh\necho %s >>"%s/called"; exit 1\n' "${program}" "${PWD}" >"own/${program}"
        chmod +x "own/${program}"
    done
    script second <<'END'
PATH=$PWD/own
# Its child has a copy of the descriptor, so the lock is only released if this script knows that it has acquired it.
/bin/sleep 1000 3>&- &
disown
aba_unlock_operation save
echo "released: $?"
/usr/bin/flock --nonblock "$ABA_LOCK_DIR/aba-save.lock" /bin/true && echo free
kill "$!"
END
    script first <<'END'
aba_lock_operation --pid-file pid save
exec bash ./second
END
    run -0 ./first
    [[ ${output} == $'released: 0\nfree' && ! -e called ]] || {
        cat called
        echo "${output}"
        return 1
    }
}
