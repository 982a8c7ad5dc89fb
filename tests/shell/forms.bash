# Scripts that must do the same in every form of the library, and the functions that compare them. A test file loads this after
# helper, and its setup copies the library to whole.bash.
# shellcheck shell=bash
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2086 # several options in one variable
# shellcheck disable=SC2154 # helper sets the variables
# shellcheck disable=SC2312 # PIPESTATUS has the status

# Creates the lock files of save, load and bundle.
create_files() {
    "${ABA_LOCK_BIN}" lock save load bundle -- true
}

# Usage: compare SCRIPT [WORD]...
#
# Runs the script with the library in whole.bash, which loads everything at once, with the installed library, which uses the builtin
# if COMPARED is `builtin`, and with the library in one file. All must do the same. In the script, `state` prints the variables for children and the open lock
# files, and `hold_save` starts a holder of save until `end_holder`.
compare() {
    local expected got status form forms=("${PWD}/whole.bash" "${LIBRARY}")
    # The builtin comes before both of the other forms.
    [[ ${COMPARED} == builtin ]] || forms+=("${WHOLE_LIBRARY}")
    printf '%s\n' 'state() {
    printf "%s\n" "status $? locks <${__aba_locks//$$/PID}> fds <${ABA_LOCK_FDS-unset}> dir <${ABA_LOCK_DIR-unset}>"
    local fd name files
    files=()
    for ((fd = 200; fd < 255; fd++)); do [[ ! -e /dev/fd/$fd ]] || files+=("/proc/$$/fd/$fd"); done
    [[ ${#files[@]} == 0 ]] || readlink "${files[@]}"
    builtin trap -p; builtin declare -p "${!ABA_LOCK@}" HOME IFS 2>/dev/null || :; shopt; set -o
    for name in save load bundle; do
        { flock -n 9 9<"${ABA_LOCK_DIR:-${HOME:-.}/.aba}/aba-$name.lock" || echo "$name is locked"; } 2>&1
    done
}
hold_save() {
    aba-lock lock save -- sleep 1000 >/dev/null 2>&1 &
    holder=$!
    # The helper holds the lock before it becomes the command.
    until grep -qsx sleep /proc/$holder/comm; do :; done
}
end_holder() {
    kill $holder
    wait $holder
}' 'source "$FORM"' "$1" >script
    for form in "${forms[@]}"; do
        [[ -n ${KEEP_FILES-} ]] || rm -rf "${ABA_LOCK_DIR}" "${HOME}/.aba" .aba
        create_files
        status=0
        got=$(FORM=${form} timeout "${PATIENCE}" bash "${@:2}" ./script </dev/null 2>&1) || status=$?
        got+=$'\n'"ended with ${status}"
        if [[ ${form} == "${PWD}/whole.bash" ]]; then
            expected=${got}
        elif [[ ${got} != "${expected}" ]]; then
            diff <(hide_differences <<<"${expected}") <(hide_differences <<<"${got}") || {
                printf '%s with %s:\n%s\n' "${form}" "${*:2}" "$1"
                return 1
            }
        fi
    done
}

# Replaces what may differ between two runs: the numbers of processes and lines, times, and the file of the library.
hide_differences() {
    sed -E "s/pid [0-9]+/pid N/g; s/[^ ]*(whole.bash|aba-lock.bash)/LIBRARY/g; s/since [0-9:]+ \([^)]*\)/since/g; s;(save/200|load/201)/[0-9]+;\1/N;g; s/running for [0-9]+s/running/g; s/line [0-9]+.*(Killed|Terminated) .*/killed/; s/line [0-9]+/line N/g; s/by root, for [0-9]+s/by root/; s/kill [0-9]+/kill N/"
}

# Usage: compare_calls fast|builtin plain|options: compares all these calls, or some of them with options of the shell.
compare_calls() {
    local options call calls bad='' COMPARED=$1
    # The builtin is not used by the library in whole.bash, next to which there is no aba-lock-builtin.bash.
    [[ ${COMPARED} != builtin ]] || local -x ABA_LOCK_BUILTIN=${BUILTIN_FILE}
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
        'ABA_LOCK_DIR=; aba_lock_operation save; state; aba_unlock_operation; state'
        'rm -rf "$ABA_LOCK_DIR"; aba_lock_operation save; state' 'ln -sf load "$ABA_LOCK_DIR/aba-save.lock"; aba_lock_operation save; state'
        'chmod 400 "$ABA_LOCK_DIR/aba-save.lock"; aba_lock_operation save; state' 'chmod 1777 "$ABA_LOCK_DIR"; aba_lock_operation save; state'
        'for f in local export eval test true return shift set unset declare printf source .; do eval "function $f { builtin echo function-$f; }"; done; aba_lock_operation save; builtin unset -f local export eval test true return shift set unset declare printf source .; state'
        'exec() { :; }; aba_lock_operation save; state' 'command() { echo no; }; aba_lock_operation save; builtin unset -f command; state' 'builtin() { :; }; aba_lock_operation save; echo on' 'shopt -s localvar_inherit 2>/dev/null; __aba_new=x/9/1; aba_lock_operation save; state'
        'trap "state; echo exit" EXIT; aba_lock_operation save; state' 'trap "aba_unlock_operation; state" EXIT; aba_lock_operation save'
        'trap "echo term" TERM; trap "echo int" INT; aba_lock_operation save; kill $$; state' 'trap "echo return" RETURN; trap "echo error" ERR; aba_lock_operation save; state; aba_unlock_operation'
        '(aba_lock_operation save; state); state' 'aba_lock_operation save | cat; state' 'x=$(aba_lock_operation save; state); echo "$x"; state'
        'aba_lock_operation save & wait; state' 'aba_lock_operation save; (aba_unlock_operation; state); state' 'aba_lock_operation save; aba_lock_held save; state; aba_lock_detach state'
        'if ! aba_lock_operation save; then echo not; fi; state' 'aba_lock_operation save || exit 9; state' 'f() { local ABA_LOCK_DIR=$PWD/other; aba_lock_operation save; state; }; f; state'
        'hold_save; trap "end_holder; state" EXIT; aba_lock_operation load save; echo on'
        'hold_save; trap end_holder EXIT; ABA_LOCK_ON_CONFLICT=return aba_lock_operation save; state'
        'ABA_LOCK_BIN=nowhere; aba_lock_operation save; echo on' 'ABA_LOCK_BIN=/nowhere; aba_lock_operation save; echo on' 'ABA_LOCK_BIN=/bin; aba_lock_operation save; echo on'
        'printf "#!/bin/sh\nexit 99\n" >helper; chmod +x helper; ABA_LOCK_BIN=./helper; aba_lock_operation save; echo on'
        'printf "#!/bin/sh\nkill -9 \$\$\n" >helper; chmod +x helper; ABA_LOCK_BIN=./helper; aba_lock_operation save; echo on'
        'printf "#!/bin/sh\nexit 2\n" >helper; chmod +x helper; ABA_LOCK_BIN=./helper; trap state EXIT; aba_lock_operation save; echo on'
        'printf "#!/bin/sh\nkill -9 \$\$\n" >helper; chmod +x helper; aba_lock_operation save; ABA_LOCK_BIN=./helper; aba_unlock_operation; unset ABA_LOCK_BIN; state'
        'printf "#!/bin/sh\nexit 125\n" >helper; chmod +x helper; aba_lock_operation save load; ABA_LOCK_BIN=./helper; aba_unlock_operation; unset ABA_LOCK_BIN; state')
    case $2 in
        plain)
            for call in "${calls[@]}"; do
                # The builtin does not need the helper.
                [[ ${COMPARED} == builtin && ${call} == *ABA_LOCK_BIN=* ]] || compare "${call}" || bad=yes
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
