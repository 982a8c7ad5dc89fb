#!/usr/bin/env bats
# Other shells that source the files for bash.

load helper

OTHER_SHELLS=(dash 'busybox ash' mksh ksh93 zsh yash posh)

# Usage: expect_refusal FILE FUNCTION...
#
# In each other shell, a message reports that FILE works only in bash, and then each function ends the script.
expect_refusal() {
    local shell file=$1 function
    for shell in "${OTHER_SHELLS[@]}"; do
        # The variable may have been exported by a bash.
        run -0 env BASH_VERSION=5.2 ${shell} -c '. "$0"; echo "status $?"' "${file}"
        [[ ${output} == "aba-lock: ${file##*/} works only in bash"$'\nhint: '*$'\nstatus 125' ]] || {
            printf '%s: %s\n' "${shell}" "${output}"
            return 1
        }
        for function in "${@:2}"; do
            run -125 ${shell} -c '. "$0" 2>/dev/null
if '"${function}"' --quiet save; then echo "went on"; else echo "went on: $?"; fi
echo "went on"' "${file}"
            [[ ${output} == "aba-lock: ${function} works only in bash"$'\nhint: '* ]] || {
                printf '%s: %s\n' "${shell}" "${output}"
                return 1
            }
        done
        # A shell at its prompt stays open.
        run -0 ${shell} -i <<END
. "${file}"
$2 save
echo "status \$?"
END
        expect_text "aba-lock: $2 works only in bash"
        expect_text 'status 125'
    done
}

@test "in another shell, each function of the library ends the script with 125" {
    functions=$(grep -oE '^aba_[a-z_]+\(\)' "${WHOLE_LIBRARY}" | tr -d '()')
    [[ ${functions} == *aba_lock_operation*aba_reserve* ]]
    expect_refusal "${WHOLE_LIBRARY}" ${functions}
    # As it is installed.
    expect_refusal "${LIBRARY}" ${functions}
}

@test "in another shell, run_once ends the script with 125" {
    expect_refusal "${PROJECT}/shell/run_once.bash" run_once
}

@test "in another shell, a script that evaluates aba-lock init bash ends with 125" {
    for shell in "${OTHER_SHELLS[@]}"; do
        run -125 ${shell} -c 'eval "$(aba-lock init bash)"; aba_lock_operation save; echo "went on"'
        expect_text 'aba-lock: aba-lock.bash works only in bash'
        [[ ${output} != *'went on'* ]]
    done
}
