#!/usr/bin/env bats
# `--key TEXT` in the functions of the library: any text as the name of a lock.
#
# shellcheck disable=SC2016 # the scripts expand the text in single quotes

load helper

@test "a script holds the lock of a text until it releases it" {
    script tool <<'END'
key='https://example.org/a b?c=1
$(touch made)*'
aba_lock_operation --key "${key}" other --key="${key}"
aba_lock_held --key "${key}" && aba_lock_check --key="${key}" && aba_lock_held other || exit 80
aba_lock_held --key "${key} " && exit 81
[[ ${ABA_LOCK_FDS} == '200 201' && ! -e made ]] || exit 82
"${ABA_LOCK_BIN}" status -q --key "${key}" || exit 83
aba_lock_operation --key "${key}" || exit 84
(unset ABA_LOCK_FDS && "${ABA_LOCK_BIN}" lock -q --key "${key}" -- true 200>&- 201>&-) && exit 85
aba_unlock_operation --key "${key}" || exit 86
"${ABA_LOCK_BIN}" status -q --key "${key}" && exit 87
aba_unlock_operation && exit 0
END
    run ./tool
    echo "${output}"
    ((status == 0)) && [[ -z ${output} ]]
}

@test "a script with strict options and another IFS locks a text" {
    script tool <<'END'
set -euo pipefail
IFS=ae/
cd / && unset HOME
aba_lock_operation --key 'a/e b'
[[ $("${ABA_LOCK_BIN}" path --name --key 'a/e b') == a-e-b+* ]]
aba_lock_held --key 'a/e b'
aba_unlock_operation --key 'a/e b'
END
    ABA_LOCK_DIR=${PWD}/locks run ./tool
    echo "${output}"
    ((status == 0)) && [[ -z ${output} ]]
}

@test "a text that another script has locked ends the script" {
    script tool <<'END'
aba_lock_operation --key 'a b'
echo not reached
END
    run "${ABA_LOCK_BIN}" lock -o --key 'a b' -- ./tool
    echo "${output}"
    ((status == 1)) && [[ ${output} == 'aba-lock: a b is already running: pid '* && ${output} != *reached* ]]
}

@test "an empty or a missing text is wrong usage" {
    script tool <<'END'
"$@"
echo "status $?"
END
    run ./tool aba_lock_operation --on-conflict return --key ''
    [[ ${output} == *'the text of --key is empty'*'status 2' ]] || {
        echo "${output}"
        return 1
    }
    local call
    for call in aba_unlock_operation aba_lock_held aba_lock_check; do
        run ./tool "${call}" --key ''
        [[ ${output} == *'the text of --key is empty'*'status 2' ]] || {
            echo "${output}"
            return 1
        }
        run ./tool "${call}" --key
        [[ ${output} == *'option --key needs a value'*'status 2' ]] || {
            echo "${output}"
            return 1
        }
    done
}
