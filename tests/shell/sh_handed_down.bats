#!/usr/bin/env bats
# Scripts in sh and zsh that take the place of a holder with `exec`.

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

@test "in each shell, the lines of the manual start a script again with the lock" {
    for shell in "${SH_SHELLS[@]}" zsh; do
        library='. "$SH_LIBRARY"'
        [[ ${shell} != zsh ]] || library='source "$ZSH_LIBRARY"'
        cat >first <<END
${library}
aba_lock_held backup ||
    exec aba-lock lock --server= backup -- ${shell} "\$0" "\$@"
aba_lock_held backup
echo "held: \$? \$*"
END
        cat >second <<END
${library}
[ "\${BACKUP_LOCKED-}" ] || exec env BACKUP_LOCKED=yes \\
    aba-lock lock --no-inherit backup -- ${shell} "\$0" "\$@"
unset BACKUP_LOCKED
aba-lock status -q backup
echo "held: \$? \$*"
case \$(ls -l /proc/self/fd) in *aba-backup.lock*) echo inherited ;; esac
END
        for script in first second; do
            run -0 timeout "${PATIENCE}" ${shell} ./"${script}" one 'two words'
            [[ ${output} == 'held: 0 one two words' ]] || {
                printf '%s, %s: %s\n' "${shell}" "${script}" "${output}"
                return 1
            }
        done
    done
}
