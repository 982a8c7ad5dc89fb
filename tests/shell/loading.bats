#!/usr/bin/env bats
# How the library loads: the usual calls at once, and the rest when a call needs it.

load helper
load forms

setup() {
    shared_setup
    # Another name than aba-lock.bash loads everything at once.
    cp "${WHOLE_LIBRARY}" whole.bash
    create_files
}

# Usage: skip_before VERSION: skips a test of what needs this version of bash, because an older one loads everything when it sources the library.
skip_before() {
    "${BASH_BIN}" -c '((BASH_VERSINFO[0] * 10 + BASH_VERSINFO[1] >= $1))' bash "${1/./}" || skip "bash before $1 loads everything at once"
}

# Usage: part SCRIPT: prints the part of the library that this script has loaded at its end: fast or all.
part() {
    printf '%s\n' 'source "$LIBRARY"' "$1" 'case ${__aba_loaded-} in all) echo all ;; *) echo fast ;; esac' >part
    bash ./part
}

@test "scripts parse at most four kilobytes of the library" {
    # Bash parses no more after a \`return\` that it executes.
    sed '/^case.*return 0/q' "${LIBRARY}" >installed
    sed '/^    .*\\builtin return 0$/q' "${WHOLE_LIBRARY}" >one_file
    for part in installed one_file; do
        size=$(wc -c <"${part}")
        ((size > 3000 && size <= 4352)) || {
            echo "${part} has ${size} bytes"
            return 1
        }
    done
}

@test "a script that locks, releases, or locks again what it inherited needs only the first file of the library" {
    skip_before 4.1
    install_library prefix
    rm prefix/share/aba-lock/aba-lock-*.bash
    printf '%s\n' 'source "$PWD/prefix/share/aba-lock/aba-lock.bash"' "$(declare -f list_fds)" 'aba_lock_operation save' 'list_fds' \
        'bash -uec "source \"\$PWD/prefix/share/aba-lock/aba-lock.bash\"; aba_lock_operation save; echo \"\$__aba_locks\$ABA_LOCK_FDS\""' \
        'aba_unlock_operation save; list_fds; aba_lock_operation load; list_fds; aba_unlock_operation; list_fds' \
        'aba_lock_operation save load' 'echo "not reached"' >tool
    for options in '' -eu '-o pipefail' -f '-O nocasematch'; do
        run -125 bash ${options} ./tool
        [[ ${output} == "200
save/200/0 200
unset
200
unset
aba-lock: cannot load ${PWD}/prefix/share/aba-lock/aba-lock-whole.bash: it cannot be read, or has another version than "* ]] || {
            printf '%s: %s\n' "${options}" "${output}"
            return 1
        }
    done
}

# Prints the descriptors of the locks that children inherit, and checks that the script has these open.
list_fds() {
    printf '%s\n' "${ABA_LOCK_FDS-unset}"
    if [[ -n ${ABA_LOCK_FDS-} ]]; then [[ -e /dev/fd/200 ]]; else [[ ! -e /dev/fd/200 ]]; fi
}

@test "the installed library never reuses a descriptor of the script" {
    skip_before 4.0
    for prepare in 'exec 200>"$PWD/file"' 'exec 200<>"$ABA_LOCK_DIR/aba-save.lock"' 'exec 200< <(:)'; do
        run -0 part "${prepare}; aba_lock_operation save; readlink /proc/\$\$/fd/200; [[ /dev/fd/201 -ef \$ABA_LOCK_DIR/aba-save.lock ]] && echo \"\$ABA_LOCK_FDS\""
        [[ ${output} == *$'\n201\nfast' ]] || {
            printf '%s: %s\n' "${prepare}" "${output}"
            return 1
        }
    done
}

@test "the installed library passes a directory on that the script has not exported" {
    mkdir -p other home/.aba
    : >other/aba-save.lock
    : >home/.aba/aba-save.lock
    for prepare in 'unset ABA_LOCK_DIR; ABA_LOCK_DIR=$PWD/other' 'unset ABA_LOCK_DIR HOME; HOME=$PWD/home'; do
        run -0 part "${prepare}; aba_lock_operation save && flock -n \"\${ABA_LOCK_DIR:-\$HOME/.aba}/aba-save.lock\" true || echo held"
        [[ ${output} == held* ]] || {
            printf '%s: %s\n' "${prepare}" "${output}"
            return 1
        }
    done
}

# Before bash 4.2, `command exec` crashes, and before 5.1 it leaves a hidden copy of a descriptor that it closes.
@test "the fast part of the library does not use command exec" {
    run -1 grep -c 'command.*exec.*[<>]' <(sed '/^    .*\\builtin return 0$/q' "${WHOLE_LIBRARY}")
}

@test "calls without options use only the fast part" {
    skip_before 4.0
    for calls in 'aba_lock_operation save' 'aba_lock_operation save load bundle' 'aba_lock_operation save; aba_unlock_operation' \
        'aba_lock_operation save; aba_unlock_operation save; aba_lock_operation save' \
        'aba_lock_operation save; aba_lock_operation load' 'set -euo pipefail; aba_lock_operation save' \
        'shopt -s nocasematch; aba_lock_operation save' 'command() { :; }; aba_lock_operation save' \
        'unset ABA_LOCK_DIR; HOME=${ABA_LOCK_DIR-$PWD}; mkdir -p .aba; : >.aba/aba-save.lock; chmod 600 .aba/*; aba_lock_operation save'; do
        run -0 part "${calls}"
        [[ ${output} == fast ]] || {
            printf '%s: %s\n' "${calls}" "${output}"
            return 1
        }
    done
    # A script that another one started with its lock.
    run -0 part 'aba_lock_operation save load; bash -c '\''source "$LIBRARY"; aba_lock_operation load && aba_unlock_operation nothing 2>/dev/null; echo "$__aba_locks"'\'
    [[ ${output} == *fast ]]
    printf '%s\n' 'source "$LIBRARY"' 'aba_lock_operation save && echo "$__aba_locks${__aba_loaded-fast}"' >nested
    run -0 part 'aba_lock_operation load save; bash ./nested'
    [[ ${output} == $'save/201/0 fast\nfast' ]]
}

@test "whatever the fast part cannot do loads the rest" {
    for calls in 'aba_lock_operation -q save' 'aba_lock_operation --help >help' 'aba_lock_operation new' 'IFS=:; aba_lock_operation save' \
        'aba_lock_held save' 'ABA_LOCK_TIMEOUT=1 aba_lock_operation save' 'aba_unlock_operation 2>/dev/null' \
        'exec() { :; }; aba_lock_operation save' 'set -o posix; aba_lock_operation save' 'aba_lock_detach true' 'aba_lock_operation save; aba_lock_operation save'; do
        run -0 part "${calls}"
        [[ ${output} == all ]] || {
            printf '%s: %s\n' "${calls}" "${output}"
            return 1
        }
    done
}

@test "the fast part does the same as the rest" {
    compare_calls fast plain
}

@test "the fast part does the same as the rest, whatever options the script has" {
    compare_calls fast options
}

# Usage: install_copy DIRECTORY: puts a copy of the library there.
install_copy() {
    rm -rf "$1"
    mkdir -p "$1"
    cp "${WHOLE_LIBRARY}" "$1/aba-lock.bash"
}

@test "a script reports that the file of the library was replaced, removed or moved, and holds its lock" {
    skip_before 4.0
    local change options
    for change in 'rm -f lib/aba-lock.bash' 'mv lib moved' 'sed "s/^__aba_version=.*/__aba_version=9.9.9/" "$WHOLE_LIBRARY" >lib/aba-lock.bash' \
        'printf "%s\n" "# aba-lock.bash: older" __aba_version=0.0.9 "aba_lock_held() { echo older; }" >lib/aba-lock.bash'; do
        printf '%s\n' 'source lib/aba-lock.bash' 'top=$PWD; cd /' 'aba_lock_operation save' "cd \"\$top\"; ${change}; cd /" \
            'aba_lock_held save || echo "held: $?"' 'aba_lock_detach true || echo "detach: $?"' 'aba-lock status -q save && echo locked' \
            'aba_unlock_operation && echo unlocked' 'aba_lock_operation -q save' 'echo "not reached"' >tool
        for options in '' -u; do
            install_copy lib
            run -125 bash ${options} ./tool
            case ${change} in
                printf*) [[ ${output} == *'held: 125'* ]] ;;
                *) [[ ${output} == *$'held: 125\n'*$'detach: 125\n'*$'locked\nunlocked\n'* ]] ;;
            esac || {
                printf '%s %s\n%s\n' "${change}" "${options}" "${output}"
                return 1
            }
            expect_text "aba-lock: cannot load ${PWD}/lib/aba-lock.bash: it cannot be read, or has another version than "
            expect_text 'hint: restart the script'
            [[ ${output} != *'not reached'* ]]
        done
    done
    # Even with --on-conflict return, a script does not run without its lock.
    printf '%s\n' 'source lib/aba-lock.bash' 'rm lib/aba-lock.bash' 'aba_lock_operation --on-conflict return save' 'echo "not reached"' >tool
    install_copy lib
    run -125 bash ./tool
    [[ ${output} != *'not reached'* ]]
}

@test "a script whose library was replaced or removed as it is installed reports that, and holds its lock" {
    skip_before 4.0
    local change file
    for change in 'rm "$file"' 'sed "s/^__aba_version=.*/__aba_version=9.9.9/" "$WHOLE_LIBRARY" >"$file"' ': >"$file"'; do
        install_library prefix
        file=${PWD}/prefix/share/aba-lock/aba-lock-whole.bash
        printf '%s\n' 'source "$PWD/prefix/share/aba-lock/aba-lock.bash"' "file=${file}" 'aba_lock_operation save' "${change}" \
            'aba_lock_held save || echo "held: $?"' 'aba_lock_detach true || echo "detach: $?"' 'aba-lock status -q save && echo locked' \
            'aba_unlock_operation && echo unlocked' 'aba_lock_operation save && echo again' 'aba_unlock_operation && aba_lock_operation -q save' \
            'echo "not reached"' >tool
        for options in '' -u; do
            install_library prefix
            run -125 bash ${options} ./tool
            [[ ${output} == *$'held: 125\n'*$'detach: 125\n'*$'locked\nunlocked\nagain\n'* && ${output} != *'not reached'* ]] || {
                printf '%s %s\n%s\n' "${change}" "${options}" "${output}"
                return 1
            }
            expect_text "aba-lock: cannot load ${file}: it cannot be read, or has another version than "
            expect_text 'hint: restart the script'
        done
    done
}

@test "a script that loads an incomplete file ends, and runs none of the functions in it" {
    local size
    printf '%s\n' 'source lib/aba-lock.bash' 'head -c "$1" "$WHOLE_LIBRARY" >lib/aba-lock.bash' 'aba_lock_held save' 'echo "not reached"' >tool
    for size in 15000 30000 60000; do
        # The file ends within a function. Part of a name at the top level would be called as a command.
        size=$(LC_ALL=C grep -b '^    ' "${WHOLE_LIBRARY}" | awk -F: -v size="${size}" '$1 > size { print $1; exit }')
        install_copy lib
        run -125 bash ./tool "${size}"
        expect_text 'cannot load '
        [[ ${output} != *'not reached'* && ${output} != *'command not found'* ]]
    done
    # The last command sets the variables that the message needs.
    for size in 2 4 10 20 30 40 60 80 100 140; do
        install_copy lib
        run -125 bash ./tool "-${size}"
        expect_text 'or has another version than 0'
        [[ ${output} != *'not reached'* ]]
    done
}

@test "a file that is replaced by the same version is loaded" {
    install_copy lib
    printf '%s\n' 'source lib/aba-lock.bash' 'aba_lock_operation save' 'cp "$WHOLE_LIBRARY" lib/new && mv lib/new lib/aba-lock.bash' \
        'aba_lock_held save && echo held' >tool
    run -0 bash ./tool
    [[ ${output} == held ]]
}

@test "a trap handler that calls the library while it loads gets a whole library" {
    skip_before 4.0
    script tool <<'END'
aba_lock_operation save
note() {
    if [[ -z $noted ]] && declare -F __aba_resume >/dev/null && ! declare -F __aba_find_fd >/dev/null; then
        noted=yes
        aba_lock_held save && aba_lock_operation -q load && echo handled
    fi
}
noted=''
set -T
trap note DEBUG
aba_lock_detach true
trap - DEBUG
aba_lock_held load && aba_unlock_operation load && echo held
END
    for options in '' -u '-O expand_aliases'; do
        run -0 bash ${options} ./tool
        [[ ${output} == $'handled\nheld' ]]
    done
}

@test "a readonly function that the library cannot replace is reported" {
    script tool <<'END'
readonly -f aba_lock_held
aba_lock_operation save
aba_lock_held save
echo 'not reached'
END
    run -125 timeout "${PATIENCE}" bash ./tool
    expect_text 'cannot replace the function aba_lock_held: it is readonly'
    [[ ${output} != *'not reached'* ]]
}

@test "the library does nothing if it is run and not sourced" {
    run -0 bash "${WHOLE_LIBRARY}"
    expect_silence
}

@test "the library in another file, and in a text, is loaded at once" {
    mkdir lib
    # A file of the same name that evaluates the text goes on after it.
    printf '%s\n' 'eval "$(aba-lock init bash)"' 'wrapped=yes' >lib/aba-lock.bash
    run -0 bash -c 'source lib/aba-lock.bash; aba_lock_operation save && aba_lock_held save && echo "$wrapped ${__aba_loaded-}"'
    [[ ${output} == 'yes all' ]]
    { cat "${WHOLE_LIBRARY}" && echo 'aba_lock_operation save && echo "${__aba_loaded-}"'; } >joined
    run -0 bash ./joined
    [[ ${output} == all ]]
    # Bash 3.2 reads nothing from a process substitution here.
    run -0 bash -c 'if ((BASH_VERSINFO[0] > 3)); then source <(cat "$WHOLE_LIBRARY"); else eval "$(cat "$WHOLE_LIBRARY")"; fi; aba_lock_operation save && echo "${__aba_loaded-}"'
    [[ ${output} == all ]]
}

@test "aba-lock init bash sources the installed library, if it is of the same version" {
    mkdir -p prefix/bin "prefix/share/aba-lock"
    ln "${ABA_LOCK_BIN}" prefix/bin/aba-lock 2>/dev/null || cp "${ABA_LOCK_BIN}" prefix/bin/aba-lock
    cp "${PROJECT}/shell/aba-lock.bash" prefix/share/aba-lock/
    unset ABA_LOCK_BIN
    run -0 prefix/bin/aba-lock init bash
    [[ ${output} == "\\. ${PWD}/prefix/share/aba-lock/aba-lock.bash"$'\n[[ ${ABA_LOCK_BIN:-} ]] || ABA_LOCK_BIN='"${PWD}/prefix/bin/aba-lock" ]]
    printf '%s\n' 'eval "$("$PWD/prefix/bin/aba-lock" init bash)"' 'aba_lock_operation save' 'echo "$ABA_LOCK_BIN ${__aba_loaded-fast}"' \
        'aba_lock_held save && echo held' >tool
    local loaded=fast
    # Bash 3.2 loads everything at once.
    "${BASH_BIN}" -c '[[ -n ${BASHPID-} ]]' || loaded=all
    for options in '' -eu --posix; do
        PATH=${SYSTEM_PATH} run -0 bash ${options} ./tool
        [[ ${output} == "${PWD}/prefix/bin/aba-lock "*$'\nheld' && (${options} == --posix || ${output} == *" ${loaded}"*) ]]
    done
    run -125 dash ./tool
    expect_text 'aba_lock_operation works only in bash'
    # Another version of the library is not used.
    echo '# changed' >>prefix/share/aba-lock/aba-lock.bash
    run -0 prefix/bin/aba-lock init bash
    expect_text 'aba_lock_detach() {'
}
