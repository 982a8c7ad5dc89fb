#!/usr/bin/env bats
# Locks that a script in sh or zsh has inherited from the script that it has replaced with `exec`.

load helper
load sh_helper

@test "a script that takes the place of the holder with exec releases the lock, even if a child inherited it" {
    local shell library
    # In the other shells, exec closes the descriptor.
    for shell in dash 'busybox ash' yash zsh; do
        library=${SH_LIBRARY}
        [[ ${shell} != zsh ]] || library=${ZSH_LIBRARY}
        cat >first <<END
. "${library}" || exit 90
aba_lock_operation save || exit 91
exec sleep 1000 >/dev/null 2>&1 &
echo "\$!" >child
exec ${shell} ./second
END
        cat >second <<END
. "${library}" || exit 90
aba_lock_held save || exit 92
(aba_unlock_operation save)
aba_lock_held save || exit 93
aba_unlock_operation save || exit 94
aba-lock status save >status && exit 95
kill -0 "\$(cat child)"
END
        run timeout "${PATIENCE}" ${shell} ./first
        kill -KILL "$(<child)"
        [[ ${status} == 0 ]] || {
            printf '%s: status %s\n%s\n' "${shell}" "${status}" "${output}"
            return 1
        }
    done
}
