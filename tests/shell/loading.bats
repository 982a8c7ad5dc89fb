#!/usr/bin/env bats
# How the library loads: the fast part at once, and the rest when a call needs it.

load helper

setup() {
    shared_setup
    # Another name than aba-lock.bash loads everything at once.
    cp "${LIBRARY}" whole.bash
    create_files
    # Bash before 4.0 always needs the rest.
    ((${BASH_MAJOR:=$("${BASH_BIN}" -c 'echo "${BASH_VERSINFO[0]}"')} >= 4)) || skip 'bash 3.2 loads everything'
}

# Creates the lock files of save, load and bundle.
create_files() {
    "${ABA_LOCK_BIN}" lock save load bundle -- true
}

# Usage: part SCRIPT: prints the part of the library that this script has loaded at its end: fast or all.
part() {
    printf '%s\n' 'source "$LIBRARY"' "$1" 'case ${__aba_loaded-} in all) echo all ;; *) echo fast ;; esac' >part
    bash ./part
}

@test "the fast part of the library has at most 4096 bytes" {
    fast=$(sed '/^    .*\\builtin return 0$/q' "${LIBRARY}" | wc -c)
    ((fast > 3000 && fast <= 4096)) || {
        echo "it has ${fast} bytes"
        return 1
    }
}

@test "calls without options use only the fast part" {
    for calls in 'aba_lock_operation save' 'aba_lock_operation save load bundle' 'aba_lock_operation save; aba_unlock_operation' \
        'aba_lock_operation save; aba_unlock_operation save; aba_lock_operation save' \
        'aba_lock_operation save; aba_lock_operation load' 'set -euo pipefail; aba_lock_operation save' \
        'set -o posix; aba_lock_operation save; aba_unlock_operation' 'shopt -s nocasematch; aba_lock_operation save' 'exec() { :; }; aba_lock_operation save' \
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
        'command() { :; }; aba_lock_operation save' 'aba_lock_detach true' 'aba_lock_operation save; aba_lock_operation save'; do
        run -0 part "${calls}"
        [[ ${output} == all ]] || {
            printf '%s: %s\n' "${calls}" "${output}"
            return 1
        }
    done
}

# Usage: compare SCRIPT [WORD]...: the script does the same with the fast part as with the whole library. In it, `state`
# prints the variables for children and the open lock files.
compare() {
    local form
    printf '%s\n' 'state() {
    printf "%s\n" "status $? locks <${__aba_locks//$$/PID}> fds <${ABA_LOCK_FDS-unset}> dir <${ABA_LOCK_DIR-unset}>"
    local fd
    for ((fd = 200; fd < 256; fd++)); do { true <&$fd; } 2>/dev/null && ((fd != 255)) && readlink /proc/$$/fd/$fd; done
    builtin trap -p; builtin export -p | grep -E "ABA_LOCK|HOME"; shopt; set -o; builtin declare -p IFS 2>/dev/null
    local name
    for name in save load bundle; do flock -n "${ABA_LOCK_DIR:-${HOME:-.}/.aba}/aba-$name.lock" true </dev/null || echo "$name is locked"; done 2>&1 | sort
}' 'source "$FORM"' "$1" >script
    for form in "${LIBRARY}" "${PWD}/whole.bash"; do
        [[ -n ${KEEP_FILES-} ]] || rm -rf "${ABA_LOCK_DIR}" "${HOME}/.aba" .aba
        create_files
        FORM=${form} timeout "${PATIENCE}" bash "${@:2}" ./script </dev/null 2>&1 |
            sed -E "s/pid [0-9]+/pid N/g; s/[^ ]*(whole.bash|aba-lock.bash)/LIBRARY/g; s/since [0-9:]+ \([^)]*\)/since/g; s;(save/200|load/201)/[0-9]+;\1/N;g; s/running for [0-9]+s/running/g; s/line [0-9]+.*Killed .*/killed/; s/line [0-9]+/line N/g; s/by root, for [0-9]+s/by root/; s/kill [0-9]+/kill N/" >"got-${form##*/}"
        printf 'ended with %s\n' "${PIPESTATUS[0]}" >>"got-${form##*/}"
    done
    diff got-whole.bash got-aba-lock.bash || {
        printf 'with %s:\n%s\n' "${*:2}" "$1"
        return 1
    }
}

# Usage: compare_calls plain|options: compares all these calls, or some of them with options of the shell.
compare_calls() {
    local options call calls bad=''
    calls=('aba_lock_operation save; state' 'aba_lock_operation save load bundle; state; aba_unlock_operation; state; aba_unlock_operation save; state'
        'aba_lock_operation save load; bash -c '\''source "$FORM"; aba_lock_operation load; echo "$? $__aba_locks $ABA_LOCK_FDS"; aba_unlock_operation; echo "$? <$__aba_locks> <$ABA_LOCK_FDS>"; aba_lock_operation bundle; echo "<${__aba_locks//$$/PID}> <$ABA_LOCK_FDS>"'\''; state'
        'aba_lock_operation save; aba_unlock_operation; state' 'aba_lock_operation save; aba_unlock_operation save; state; aba_lock_operation load; state'
        'aba_lock_operation save; aba_unlock_operation load; state' 'aba_unlock_operation; state' 'aba_unlock_operation save; state'
        'aba_unlock_operation ""; state' 'aba_lock_operation save; aba_lock_operation save; state; aba_unlock_operation; state; aba_unlock_operation || state'
        'aba_lock_operation save; aba_lock_operation load save; state' 'aba_lock_operation save save; state' 'aba_lock_operation save SAVE Save; state'
        'aba_lock_operation; state' 'aba_lock_operation ""; state' 'aba_lock_operation "save load"; state' 'aba_lock_operation ../save; state'
        'aba_lock_operation -- save; state' 'aba_lock_operation save -x; state' 'aba_lock_operation a*b; state' 'aba_lock_operation new; state'
        'exec 200</dev/null; aba_lock_operation save; state' 'aba_lock_operation save; exec 200</dev/null; aba_unlock_operation; state'
        'aba_lock_operation save; exec 200>&-; aba_unlock_operation; state' 'aba_lock_operation save; exec 200>&-; aba_lock_operation load; state'
        'export ABA_LOCK_FDS=200; aba_lock_operation save; state; aba_unlock_operation; state' 'export ABA_LOCK_FDS="x ../.. 200  3"; aba_lock_operation save; state'
        'for ((i = 200; i < 255; i++)); do eval "exec $i</dev/null"; done; aba_lock_operation save; state'
        'for ((i = 200; i < 254; i++)); do eval "exec $i</dev/null"; done; aba_lock_operation save load; state'
        'ulimit -n 201; aba_lock_operation save; state' 'ulimit -n 201; aba_lock_operation save load; state' 'ulimit -n 200; aba_lock_operation save; state'
        'exec <&-; aba_lock_operation save; state' 'exec >&-; aba_lock_operation save; state >&2' 'umask 777; aba_lock_operation save; state'
        'IFS=; aba_lock_operation save; state' 'IFS=2; aba_lock_operation save; state; aba_unlock_operation; state' 'unset IFS; aba_lock_operation save; state'
        'readonly ABA_LOCK_DIR; aba_lock_operation save; state; aba_unlock_operation; state' 'ABA_LOCK_DIR=locks; aba_lock_operation save; state'
        'unset ABA_LOCK_DIR; aba_lock_operation save; state; aba_unlock_operation; state' 'unset ABA_LOCK_DIR HOME; HOME=$PWD; aba_lock_operation save; state'
        'unset ABA_LOCK_DIR; HOME=; aba_lock_operation save 2>&1 | grep -c .' 'ABA_LOCK_DIR=; aba_lock_operation save; state; aba_unlock_operation; state'
        'rm -rf "$ABA_LOCK_DIR"; aba_lock_operation save; state' 'ln -sf load "$ABA_LOCK_DIR/aba-save.lock"; aba_lock_operation save; state'
        'chmod 400 "$ABA_LOCK_DIR/aba-save.lock"; aba_lock_operation save; state' 'chmod 1777 "$ABA_LOCK_DIR"; aba_lock_operation save; state'
        'for f in local export eval test true return shift set unset declare printf source .; do eval "function $f { builtin echo function-$f; }"; done; aba_lock_operation save; builtin unset -f local export eval test true return shift set unset declare printf source .; state'
        'exec() { :; }; aba_lock_operation save; state' 'command() { echo no; }; aba_lock_operation save; builtin unset -f command; state' 'builtin() { :; }; aba_lock_operation save; echo on' 'shopt -s localvar_inherit 2>/dev/null; __aba_new=x/9/1; aba_lock_operation save; state'
        'trap "state; echo exit" EXIT; aba_lock_operation save; state' 'trap "aba_unlock_operation; state" EXIT; aba_lock_operation save'
        'trap "echo term" TERM; trap "echo int" INT; aba_lock_operation save; kill $$; state' 'trap "echo return" RETURN; trap "echo error" ERR; aba_lock_operation save; state; aba_unlock_operation'
        '(aba_lock_operation save; state); state' 'aba_lock_operation save | cat; state' 'x=$(aba_lock_operation save; state); echo "$x"; state'
        'aba_lock_operation save & wait; state' 'aba_lock_operation save; (aba_unlock_operation; state); state' 'aba_lock_operation save; aba_lock_held save; state; aba_lock_detach state'
        'if ! aba_lock_operation save; then echo not; fi; state' 'aba_lock_operation save || exit 9; state' 'f() { local ABA_LOCK_DIR=$PWD/other; aba_lock_operation save; state; }; f; state'
        'aba-lock lock save -- sleep 1000 >/dev/null 2>&1 & s=$!; until aba-lock status -q save; do :; done; trap "kill $s; state" EXIT; aba_lock_operation load save; echo on'
        'aba-lock lock save -- sleep 1000 >/dev/null 2>&1 & s=$!; until aba-lock status -q save; do :; done; trap "kill $s" EXIT; ABA_LOCK_ON_CONFLICT=return aba_lock_operation save; state'
        'ABA_LOCK_BIN=nowhere; aba_lock_operation save; echo on' 'ABA_LOCK_BIN=/nowhere; aba_lock_operation save; echo on' 'ABA_LOCK_BIN=/bin; aba_lock_operation save; echo on'
        'printf "#!/bin/sh\nexit 99\n" >helper; chmod +x helper; ABA_LOCK_BIN=./helper; aba_lock_operation save; echo on'
        'printf "#!/bin/sh\nkill -9 \$\$\n" >helper; chmod +x helper; ABA_LOCK_BIN=./helper; aba_lock_operation save; echo on'
        'printf "#!/bin/sh\nexit 2\n" >helper; chmod +x helper; ABA_LOCK_BIN=./helper; trap state EXIT; aba_lock_operation save; echo on'
        'printf "#!/bin/sh\nkill -9 \$\$\n" >helper; chmod +x helper; aba_lock_operation save; ABA_LOCK_BIN=./helper; aba_unlock_operation; unset ABA_LOCK_BIN; state'
        'printf "#!/bin/sh\nexit 125\n" >helper; chmod +x helper; aba_lock_operation save load; ABA_LOCK_BIN=./helper; aba_unlock_operation; unset ABA_LOCK_BIN; state')
    case $1 in
        plain)
            for call in "${calls[@]}"; do
                compare "${call}" || bad=yes
            done
            ;;
        *)
            for call in "${calls[@]:0:30}"; do
                compare "${call}" --posix -eEuo pipefail || bad=yes
            done
            for options in -e -a -f -C -k -T '-O nocasematch' '-O failglob -O nullglob'; do
                for call in "${calls[@]:0:4}"; do
                    compare "${call}" ${options} || bad=yes
                done
            done
            ;;
    esac
    [[ -z ${bad} ]]
}

@test "the fast part does the same as the rest" {
    compare_calls plain
}

@test "the fast part does the same as the rest, whatever options the script has" {
    compare_calls options
}

# Usage: install_copy DIRECTORY: puts a copy of the library there.
install_copy() {
    rm -rf "$1"
    mkdir -p "$1"
    cp "${LIBRARY}" "$1/aba-lock.bash"
}

@test "a script reports that the file of the library was replaced, removed or moved, and holds its lock" {
    local change options
    for change in 'rm -f lib/aba-lock.bash' 'mv lib moved' 'sed "s/^__aba_version=.*/__aba_version=9.9.9/" "$LIBRARY" >lib/aba-lock.bash' \
        'printf "%s\n" "# aba-lock.bash: older" __aba_version=0.0.9 "aba_lock_held() { echo older; }" >lib/aba-lock.bash'; do
        printf '%s\n' 'source lib/aba-lock.bash' 'top=$PWD; cd /' 'aba_lock_operation save' "cd \"\$top\"; ${change}; cd /" \
            'aba_lock_held save || echo "held: $?"' 'aba_lock_detach true || echo "detach: $?"' 'aba-lock status -q save && echo locked' \
            'aba_unlock_operation && echo unlocked' 'aba_lock_operation -q save' 'echo "not reached"' >tool
        for options in '' '--posix -u'; do
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

@test "a script that loads an incomplete file ends, and runs none of the functions in it" {
    local size
    printf '%s\n' 'source lib/aba-lock.bash' 'head -c "$1" "$LIBRARY" >lib/aba-lock.bash' 'aba_lock_held save' 'echo "not reached"' >tool
    for size in 15000 30000 60000; do
        install_copy lib
        run -125 bash ./tool "${size}"
        expect_text 'cannot load '
        [[ ${output} != *'not reached'* && ${output} != *'command not found'* ]]
    done
}

@test "a file that is replaced by the same version is loaded" {
    install_copy lib
    printf '%s\n' 'source lib/aba-lock.bash' 'aba_lock_operation save' 'cp "$LIBRARY" lib/new && mv lib/new lib/aba-lock.bash' \
        'aba_lock_held save && echo held' >tool
    run -0 bash ./tool
    [[ ${output} == held ]]
}

@test "a trap handler that calls the library while it loads gets a whole library" {
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
    run -0 bash "${LIBRARY}"
    expect_silence
}

@test "the library in another file, and in a text, is loaded at once" {
    mkdir lib
    # A file of the same name that evaluates the text goes on after it.
    printf '%s\n' 'eval "$(aba-lock init bash)"' 'wrapped=yes' >lib/aba-lock.bash
    run -0 bash -c 'source lib/aba-lock.bash; aba_lock_operation save && aba_lock_held save && echo "$wrapped ${__aba_loaded-}"'
    [[ ${output} == 'yes all' ]]
    { cat "${LIBRARY}" && echo 'aba_lock_operation save && echo "${__aba_loaded-}"'; } >joined
    run -0 bash ./joined
    [[ ${output} == all ]]
    run -0 bash -c 'source <(cat "$LIBRARY"); aba_lock_operation save && echo "${__aba_loaded-}"'
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
    for options in '' -eu --posix; do
        PATH=${SYSTEM_PATH} run -0 bash ${options} ./tool
        [[ ${output} == "${PWD}/prefix/bin/aba-lock fast"$'\nheld' ]]
    done
    run -125 dash ./tool
    expect_text 'aba_lock_operation works only in bash'
    # Another version of the library is not used.
    echo '# changed' >>prefix/share/aba-lock/aba-lock.bash
    run -0 prefix/bin/aba-lock init bash
    expect_text 'aba_lock_detach() {'
}
