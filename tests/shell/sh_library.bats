#!/usr/bin/env bats
# The libraries for sh, zsh and fish.

load helper
load sh_helper

@test "in each shell, a script acquires a lock, holds it, and releases it" {
    in_each_shell 0 'save: held by this script
held: 0
again: 0
other: 1
released: 0
save: free
nothing to release: 1
not a name: 2' <<'END'
report() { if aba-lock status "$1" >status; then grep -q "pid $$," status && echo "$1: held by this script"; else echo "$1: free"; fi; }
aba_lock_operation save
report save
aba_lock_held save
echo "held: $?"
aba_lock_operation save
echo "again: $?"
aba_lock_held other
echo "other: $?"
aba_unlock_operation
echo "released: $?"
report save
aba_unlock_operation save 2>/dev/null
echo "nothing to release: $?"
aba_unlock_operation a/b 2>/dev/null
echo "not a name: $?"
END
}

@test "in each shell but ksh93, which keeps them, variables that are set for one call are gone after it" {
    WITHOUT=ksh93 in_each_shell 0 'locked: 0
unset unset 100
logged
held: 0
exported' <<'END'
mkdir other 2>/dev/null
rm -f log.jsonl
unset ABA_LOCK_DIR
ABA_LOCK_TIMEOUT=100
ABA_LOCK_DIR=$PWD/other ABA_LOCK_LOG=$PWD/log.jsonl ABA_LOCK_TIMEOUT=10 aba_lock_operation one
echo "locked: $?"
echo "${ABA_LOCK_DIR-unset} ${ABA_LOCK_LOG-unset} $ABA_LOCK_TIMEOUT"
[ -s log.jsonl ] && [ -f other/aba-one.lock ] && echo logged
# A variable of the script is exported, for scripts that it starts.
ABA_LOCK_DIR=$PWD/other
aba_lock_held one
echo "held: $?"
[ "$(printenv ABA_LOCK_DIR)" = "$PWD/other" ] && echo exported
END
}

@test "in each shell, a script that finds a lock held ends with 1, or does what the options say" {
    mkfifo held go
    in_each_shell 1 'return: 1
aba-lock: warning: the script can continue without the lock on save
warn: 3
skipped: 0
timed out: 1
waited: 0
aba-lock: save is already running: pid N
hint: wait for it, or show its holder with `aba-lock status save`' <<'END'
aba-lock lock save -- sh -c 'echo held >held; read line <go' &
read line <held
aba_lock_operation -q --on-conflict return save
echo "return: $?"
aba_lock_operation -q --on-conflict=warn save
echo "warn: $?"
(aba_lock_operation --skip-ok save; echo "went on: $?")
echo "skipped: $?"
aba_lock_operation -q -t 0.01 --on-conflict return save
echo "timed out: $?"
echo >go &
aba_lock_operation -q --wait save
echo "waited: $?"
aba_unlock_operation save
aba-lock lock save -- sh -c 'echo held >held; read line <go' &
read line <held
trap 'echo >go' EXIT
aba_lock_operation save
echo "went on: $?"
END
}

@test "in each shell, several locks, slots and keys work" {
    in_each_shell 0 'both: 0
shared: 0
exclusive: 1
slot: 1
other slot: 2
slot of the caller: 7
key: 0
held by key: 0' <<'END'
export ABA_LOCK_SLOT=7
aba_lock_operation db cache
aba_lock_held db && aba_lock_held cache
echo "both: $?"
aba_unlock_operation db
aba_unlock_operation cache
aba_lock_operation -s db
flock -sn "$(aba-lock path db)" true
echo "shared: $?"
flock -n "$(aba-lock path db)" true
echo "exclusive: $?"
aba_lock_operation --slots 3 many
echo "slot: $ABA_LOCK_SLOT"
aba_lock_detach aba-lock lock --slots 3 many -- sh -c 'echo "other slot: $ABA_LOCK_SLOT"'
aba_unlock_operation many
echo "slot of the caller: $ABA_LOCK_SLOT"
aba_lock_operation --key "http://a b/" --who 'me and you'
echo "key: $?"
aba_lock_held --key "http://a b/"
echo "held by key: $?"
END
}

@test "in each shell, mistakes are reported, and end the script" {
    in_each_shell 2 'aba-lock: aba_lock_operation needs the name of a lock
hint: for example: `aba_lock_operation backup`
2
aba-lock: option --who needs a value
hint: see `aba_lock_operation --help`
2
aba-lock: aba_lock_operation: no such option: --foo
hint: see `aba_lock_operation --help`
2
aba-lock: aba_lock_operation: --no-inherit is not available in this shell
hint: run the script with bash, or use `aba-lock lock NAME -- CMD`
2
aba-lock: 60 would be the name of a lock, not a time to wait
hint: to wait for at most this time, use --wait=60
2
aba-lock: 3 would be the name of a lock, because -n takes no value
hint: to lock 3, write it after the other names
2
aba-lock: --on-conflict is "maybe", which is not exit, return, ask or warn' <<'END'
export ABA_LOCK_ON_CONFLICT=return
for words in '' --who '--foo save' '--no-inherit save' '-w 60 save' '-n 3 save'; do
    eval "aba_lock_operation $words"
    echo "$?"
done
unset ABA_LOCK_ON_CONFLICT
aba_lock_operation --on-conflict maybe save
END
}

@test "in each shell, a script can have options of the shell, and IFS with digits" {
    in_each_shell 0 'locked
released' <<'END'
set -euf
IFS=0123456789/
aba_lock_operation a b
aba_lock_held b
if aba_lock_held c; then echo no; fi
echo locked
aba_unlock_operation b
aba_unlock_operation a
echo released
END
}

@test "in each shell, nested scripts are granted the lock, which stays held" {
    # Children of ksh and mksh must be given the descriptor.
    in_each_shell 0 'in sh: 0
in bash: 0 and 0
command: 0
held' <<'END'
aba_lock_operation save
fd=${__aba_locks#*/}
fd=${fd%%/*}
[ "$fd" = 9 ] || eval "exec 9<&$fd"
dash -c 'eval "$(aba-lock init sh)"; aba_lock_operation save; echo "in sh: $?"; aba_unlock_operation save' 9<&9
bash -c 'source "$LIBRARY"; aba_lock_operation save; echo "in bash: $? and $(aba_lock_held save; echo $?)"; aba_unlock_operation save' 9<&9
aba-lock lock save -- true 9<&9
echo "command: $?"
flock -n "$(aba-lock path save)" true || echo held
END
}

@test "in each shell, aba_lock_detach starts a daemon that does not keep the lock" {
    mkfifo ready
    in_each_shell 0 'free' <<'END'
aba_lock_operation save
aba_lock_detach exec sh -c 'echo >ready; exec sleep 1000' >/dev/null 2>&1 3>&- &
daemon=$!
read line <ready
# Without the call of the library, which would release the copy of the daemon, too.
fd=${__aba_locks#*/}
fd=${fd%%/*}
if [ "$fd" -lt 10 ]; then eval "exec $fd<&-"; else eval 'exec {fd}<&-'; fi
flock -n "$(aba-lock path save)" echo free
kill "$daemon"
END
}

@test "in each shell, a subshell that acquires a lock prints a warning" {
    # ksh93 runs subshells in its own process.
    WITHOUT=ksh93 in_each_shell 0 'aba-lock: save is locked only until this subshell ends
hint: call aba_lock_operation outside of $( ), ( ) and pipelines; if the subshell is intended, add --subshell
free
free' <<'END'
(aba_lock_operation save)
flock -n "$(aba-lock path save)" echo free
(aba_lock_operation --subshell save)
flock -n "$(aba-lock path save)" echo free
END
    run -0 ksh93 -c '. "$SH_LIBRARY"; (aba_lock_operation save); flock -n "$(aba-lock path save)" echo free'
    [[ ${output} == free ]]
}

@test "in each shell, a trap handler during a call can run tasks, and a call for a lock is refused" {
    make_signalling_helper
    in_each_shell 0 'aba-lock: aba_unlock_operation: a trap handler cannot call it during aba_lock_operation
hint: let the handler only set a variable, or run the script with bash
handler: 125
a task
a daemon
a number
locked: 0' <<'END'
rm -f sent
aba-lock path --create save >/dev/null
ABA_LOCK_BIN=$PWD/helper
handle() {
    aba_unlock_operation save
    echo "handler: $?"
    aba_run_once -w -i "task$$" -- echo 'a task'
    aba_lock_detach echo 'a daemon'
    case $(aba_reserve) in *[!0-9]* | '') ;; *) echo 'a number' ;; esac
}
trap handle USR1
aba_lock_operation save
echo "locked: $?"
END
}

@test "in each shell, the functions for tasks, files and numbers run the helper" {
    in_each_shell 0 'hello
new
a number' <<'END'
aba_run_once -w -i "task$fish_pid" -- echo hello
aba_update --create f.txt echo new
cat f.txt
rm f.txt
case $(aba_reserve) in *[!0-9]* | '') ;; *) echo 'a number' ;; esac
END
}

@test "in each shell, a script without the helper ends with 125" {
    in_each_shell 125 'aba-lock: the helper /nowhere/aba-lock (from ABA_LOCK_BIN) was not found, or is not executable
hint: add the directory of aba-lock to PATH, or set ABA_LOCK_BIN to its path' <<'END'
ABA_LOCK_BIN=/nowhere/aba-lock
aba_lock_operation save
echo "went on: $?"
END
}

@test "in sh, the eighth lock is refused, and in zsh it is granted" {
    printf '%s\n' 'aba_lock_operation a b c d e f g' 'aba_lock_operation --on-conflict return h' 'echo "$?"' >calls
    for shell in "${SH_SHELLS[@]}"; do
        # Bats has descriptors of its own.
        run -0 bash -c 'exec "$@" 3>&- 4>&-' bash ${shell} -c '. "$SH_LIBRARY"; . ./calls'
        [[ ${output} == *'aba-h.lock: descriptors 3 to 9 are all in use'*$'\n125' ]] || {
            printf '%s: %s\n' "${shell}" "${output}"
            return 1
        }
    done
    run -0 zsh -c 'source "$ZSH_LIBRARY"; . ./calls'
    [[ ${output} == 0 ]]
}

@test "aba-lock init prints the functions for each shell" {
    for shell in "${SH_SHELLS[@]}" zsh; do
        name=sh
        [[ ${shell} != zsh ]] || name=zsh
        run -0 ${shell} -c 'eval "$(aba-lock init "$1")" && aba_lock_operation save && aba_lock_held save && echo held' sh "${name}"
        [[ ${output} == held ]] || {
            printf '%s: %s\n' "${shell}" "${output}"
            return 1
        }
    done
    for name in dash busybox ksh mksh yash; do
        cmp <(aba-lock init "${name}") <(aba-lock init sh)
    done
    aba-lock init zsh >copy.zsh
    run -0 zsh -c 'source ./copy.zsh; aba_lock_operation save && echo locked'
    [[ ${output} == locked ]]
    run -2 aba-lock init powershell
    expect_text 'hint: in another shell than bash, zsh, sh and fish, run commands'
}

@test "the libraries for other shells have the version of the helper" {
    version=$(aba-lock --version)
    version=${version#aba-lock }
    version=${version%% *}
    grep -qx "__aba_version=${version}" "${SH_LIBRARY}"
    grep -qx "set -g __aba_version ${version}" "${FISH_LIBRARY}"
}

@test "aba-lock init sources the installed library if it is of the same version" {
    mkdir -p root/bin root/share/aba-lock
    cp "${ABA_LOCK_BIN}" root/bin/
    cp "${SH_LIBRARY}" "${ZSH_LIBRARY}" "${FISH_LIBRARY}" root/share/aba-lock/
    for name in sh zsh fish; do
        run -0 bash -c 'root/bin/aba-lock init "$1"' bash "${name}"
        [[ ${lines[0]} == *" ${PWD}/root/share/aba-lock/aba-lock.${name}" && ${#lines[@]} == 2 ]]
    done
    unset ABA_LOCK_BIN
    run -0 zsh -c 'eval "$(root/bin/aba-lock init zsh)"; aba_lock_operation save; echo "$ABA_LOCK_BIN"'
    [[ ${output} == "${PWD}/root/bin/aba-lock" ]]
    echo '# changed' >>root/share/aba-lock/aba-lock.sh
    for name in sh zsh; do
        run -0 bash -c 'root/bin/aba-lock init "$1"' bash "${name}"
        ((${#lines[@]} > 100))
    done
    # A script must not go on without its locks.
    rm root/share/aba-lock/aba-lock.sh
    run -125 zsh -c 'source root/share/aba-lock/aba-lock.zsh; echo "went on"'
    [[ ${output} == "aba-lock: cannot load ${PWD}/root/share/aba-lock/aba-lock.sh: it cannot be read"$'\nhint: '* ]]
}

@test "zsh: the options and aliases of the script do not change the functions" {
    cat >tool <<'END'
setopt ksh_arrays sh_word_split null_glob no_unset err_exit extended_glob
alias -g local=echo
alias case=false printf='echo wrong'
source "$ZSH_LIBRARY"
before=$(setopt)
aba_lock_operation save
aba_lock_held save && echo held
aba_lock_held other || echo free
[ "$before" = "$(setopt)" ] && echo 'same options'
aba_unlock_operation save
END
    run -0 zsh ./tool
    [[ ${output} == $'held\nfree\nsame options' ]]
}

@test "zsh: a pid file is removed with the locks of its call, and at the end of the script" {
    run -0 zsh -c 'source "$ZSH_LIBRARY"; cd /
aba_lock_operation --pid-file "$BATS_TEST_TMPDIR/a b" save load
[[ $(<"$BATS_TEST_TMPDIR/a b") == $$ ]] && echo written
aba_unlock_operation save
[[ -e "$BATS_TEST_TMPDIR/a b" ]] && echo "one lock is held"
aba_unlock_operation load
[[ -e "$BATS_TEST_TMPDIR/a b" ]] || echo removed
aba_lock_operation --pid-file "$BATS_TEST_TMPDIR/pid" save
aba_lock_operation --pid-file "$BATS_TEST_TMPDIR/other" other'
    [[ ${output} == $'written\none lock is held\nremoved' && ! -e pid && ! -e other ]]
    start_flock save
    run -1 zsh -c 'source "$ZSH_LIBRARY"; aba_lock_operation -q --pid-file pid save'
    [[ ! -e pid ]]
}

@test "zsh: aba_update runs a function of the script, which has its functions and variables" {
    cat >tool <<'END'
source "$ZSH_LIBRARY"
typeset -A map=(a 1 'b c' $'2\n3')
list=(x 'y z')
suffix() { print -r -- "$1!" }
add() { cat; suffix "$1"; print -r -- "${#list} ${map[b c]}"; return 0 }
aba_update --create f add new && cat f
aba_update f sed s/new/old/ && head -n 1 f
aba_update f add_none 2>/dev/null || echo "none: $?"
END
    run -0 zsh ./tool
    [[ ${output} == $'new!\n2 2\n3\nold!\nnone: 127' ]]
}

@test "zsh: aba_lock_detach runs a function with the options of the script" {
    cat >tool <<'END'
setopt sh_word_split
source "$ZSH_LIBRARY"
words='a b'
show() { print -rl -- $words; [[ -z $ABA_LOCK_FDS ]] && echo detached }
aba_lock_operation save
aba_lock_detach show
END
    run -0 zsh ./tool
    [[ ${output} == $'a\nb\ndetached' ]]
}

@test "posh, whose test has no -ef, ends with 125" {
    run -125 posh -c '. "$SH_LIBRARY"; echo "went on"'
    [[ ${output} == 'aba-lock: aba-lock.sh does not work in this shell: '*$'\nhint: '* ]]
}

@test "fish: a script finds the lock with which it was started, and otherwise gets the line that starts it so" {
    cat >tool <<'END'
source $FISH_LIBRARY
aba_lock_held save
echo "held: $status"
aba_run_once -w -i "task$fish_pid" -- echo hello
aba_lock_operation --wait save
echo "went on: $status"
END
    run -125 fish ./tool
    expect_text $'held: 1\nhello'
    expect_text 'aba-lock: cannot lock save in this script: fish cannot keep the lock file open'
    line='aba_lock_held save; or exec aba-lock lock --wait save -- (status fish-path) (status filename) $argv'
    expect_text "hint: write at the top of the script: \`${line}\`"
    [[ ${output} != *'went on'* ]]
    # The line names the lock with all that chooses it. Several names are refused.
    run -125 fish -c 'source $FISH_LIBRARY; aba_lock_operation --wait --key "a b"'
    expect_text "\`aba_lock_held --key 'a b'; or exec aba-lock lock --wait --key 'a b' -- "
    run -2 fish -c 'source $FISH_LIBRARY; aba_lock_operation a b'
    expect_text 'takes the name of one lock in fish, and not a b'
    run -0 aba-lock lock save -- fish ./tool
    [[ ${output} == $'held: 0\nhello\nwent on: 0' ]]
    # As the hint says.
    {
        printf 'source $FISH_LIBRARY\n%s\n' "${line}"
        tail -n +2 tool
    } >started
    run -0 fish ./started
    [[ ${output} == $'held: 0\nhello\nwent on: 0' ]]
    for function in aba_unlock_operation aba_lock_detach; do
        run -125 fish -c 'source $FISH_LIBRARY; '"${function}"' x; echo went on'
        [[ ${output} == "aba-lock: ${function} is not available in fish: "*$'\nhint: '* ]]
    done
}
