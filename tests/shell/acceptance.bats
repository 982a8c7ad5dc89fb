#!/usr/bin/env bats
# Acceptance tests with a model of the tool for which aba-lock was made, the script `aba`.
# shellcheck disable=SC2016 # messages show commands in backquotes, and commands are typed as they are

load helper

setup() {
    shared_setup || return
    export PATH=${BATS_TEST_DIRNAME}:${PATH}
    export TMUX_TMPDIR=${BATS_TEST_TMPDIR}
    unset TMUX ABA_PAUSE_AT
    mkfifo ready go
}

teardown() {
    local server
    if server=$(terminal display-message -p '#{pid}' 2>/dev/null); then
        terminal kill-server 2>/dev/null || true
        until_true has_ended "${server}"
    fi
    shared_teardown
}

# Usage: start_at POINT aba ...: starts aba so that it pauses at POINT. Its pid is in STARTED_PID.
start_at() {
    ABA_PAUSE_AT=$1 start "${@:2}"
}

# Usage: expect_ready POINT: waits until a process pauses at POINT. Its pid is in READY_PID.
expect_ready() {
    local said
    said=$(until_ready) || return
    READY_PID=${said#* }
    [[ ${said% *} == "$1" ]]
}

# Prints the pids of the helpers that wait for the lock on operation $1.
waiters_of() {
    local inode
    inode=$(stat -c %i "${ABA_LOCK_DIR}/aba-$1.lock") || return
    awk -v file=":${inode}\$" '$2 == "->" && $7 ~ file { print $6 }' /proc/locks
}

# Usage: expect_refused PID aba ... COMMAND: aba is refused because process PID runs the same operation.
expect_refused() {
    local pid=$1
    shift
    run -1 "$@"
    expect_text "is already running: pid ${pid} ("
    [[ ${output} != *$'\n'*$'\n'* ]]
}

expect_free() {
    run -1 aba-lock status "$1"
    expect_text "$1: free"
}

# Compares the journal of the commands, `COMMAND PID begins|ends`, with stdin.
expect_journal() {
    diff - mirror/journal
}

has_begun() {
    grep -q "^$1 $2 begins\$" mirror/journal
}

# Opens a terminal with a shell in it.
open_terminal() {
    local bash
    bash=$(type -P bash)
    PS1='$ ' terminal -f /dev/null new-session -d -x 200 -y 50 "${bash}" --norc --noprofile -i 3>&- 4>&-
}

terminal() {
    tmux -L "aba-$$-${BATS_TEST_NUMBER}" "$@"
}

# Usage: type_line TEXT: types TEXT and Enter in the terminal.
type_line() {
    terminal send-keys -l "$1" && terminal send-keys Enter
}

screen_shows() {
    terminal capture-pane -p -J | grep -qF -- "$1"
}

# Usage: expect_prompt STATUS...: waits until the shell in the terminal prompts again. `$?` must be one of STATUS.
expect_prompt() {
    local status
    rm -f ended
    type_line 'echo $? >ended'
    until_true test -s ended || return
    status=$(<ended)
    if [[ " $* " != *" ${status} "* ]]; then
        printf 'expected status %s, got %s, on this screen:\n' "$*" "${status}" >&2
        terminal capture-pane -p | sed '/^$/d' >&2
        return 1
    fi
}

@test "a second save is refused: it names the holder, ends with 1 and does nothing" {
    start_at save aba -d mirror save
    expect_ready save
    run -1 aba -d mirror save
    expect_text "aba-lock: mirror-save is already running: pid ${STARTED_PID} ("
    expect_text "/aba -d mirror save), by "
    expect_text ', for '
    # The script never waits, whatever ABA_LOCK_TIMEOUT says.
    expect_text 'hint: show its holder with `aba-lock status mirror-save`'
    ((${#lines[@]} == 2))
    let_go
    expect_end 0
    expect_journal <<<"save ${STARTED_PID} begins
save ${STARTED_PID} ends"
    [[ ! -s output ]]
}

@test "after a save has ended, the next one runs and prints nothing" {
    run -0 aba -d mirror save
    expect_silence
    run -0 aba -d mirror save
    expect_silence
}

@test "help, verify and other operations run while a save runs" {
    start_at save aba -d mirror save
    expect_ready save
    run -0 aba help
    expect_text 'usage: aba '
    run -0 aba verify
    [[ ${output} == 'nothing is wrong' ]]
    local save=${STARTED_PID}
    for command in sync load install uninstall; do
        start aba -d mirror "${command}"
        expect_end 0
    done
    [[ ! -s output ]]
    expect_refused "${save}" aba -d mirror save
}

@test "a save that waits goes on when the first has ended, and not before" {
    start_at save aba -d mirror save
    expect_ready save
    local first=${STARTED_PID}
    start aba -d mirror --wait save
    until_true is_waited_for mirror-save
    run ! has_begun save "${STARTED_PID}"
    until_true grep -q "^aba-lock: waiting for mirror-save, held by pid ${first} (" output
    let_go
    expect_end 0 "${first}"
    expect_end 0
    expect_journal <<<"save ${first} begins
save ${first} ends
save ${STARTED_PID} begins
save ${STARTED_PID} ends"
}

@test "Ctrl-C in a terminal ends a command and frees its lock, whether the work is in the script, in a child or in make" {
    local point
    open_terminal
    for point in save sync load-nested load; do
        type_line "ABA_PAUSE_AT=${point} aba -d mirror ${point%-nested}"
        expect_ready "${point}"
        aba-lock status --quiet "mirror-${point%-nested}"
        terminal send-keys C-c
        if [[ ${point} == load-nested ]]; then
            # After Ctrl-C, make may end before its children, and with another status.
            expect_prompt 130 2
        else
            expect_prompt 130
        fi
        until_true has_ended "${READY_PID}"
        expect_free "mirror-${point%-nested}"
    done
}

@test "Ctrl-C while a save waits ends it and its helper, and leaves the terminal and the holder as they were" {
    start_at save aba -d mirror save
    expect_ready save
    open_terminal
    type_line 'stty -a >before'
    expect_prompt 0
    type_line 'aba -d mirror --wait save'
    until_true is_waited_for mirror-save
    until_true screen_shows " for mirror-save, held by pid ${STARTED_PID} ("
    local helper
    helper=$(waiters_of mirror-save)
    terminal send-keys C-c
    expect_prompt 130
    has_ended "${helper}"
    run ! is_waited_for mirror-save
    type_line 'stty -a >after'
    expect_prompt 0
    diff before after
    # The prompt is at the beginning of a line.
    terminal capture-pane -p | grep -q '^\$ stty -a >after'
    expect_refused "${STARTED_PID}" aba -d mirror save
    let_go
    expect_end 0
    expect_journal <<<"save ${STARTED_PID} begins
save ${STARTED_PID} ends"
    expect_free mirror-save
}

@test "a worker that Ctrl-C does not reach keeps the lock until it ends, and is named as the holder" {
    open_terminal
    # A shell without job control lets its background jobs ignore Ctrl-C.
    type_line 'ABA_PAUSE_AT=bundle aba -d mirror bundle'
    expect_ready bundle
    local script worker=${READY_PID}
    script=$(awk '$3 == "begins" && $1 == "bundle" { print $2 }' mirror/journal)
    terminal send-keys C-c
    # Bash before 4.3 ends with 129 if Ctrl-C interrupts `wait`.
    expect_prompt 130 129
    run -1 aba -d mirror bundle
    expect_text "bundle was acquired by pid ${script} ("
    expect_text '/aba -d mirror bundle), which has ended; it is still held by '
    expect_text "held by pid ${worker} ("
    expect_text '/aba -d mirror part bundle), by '
    expect_text ', which inherited it'
    let_go
    until_true has_ended "${worker}"
    expect_free bundle
}

@test "SIGKILL of a script frees its lock at once" {
    start_at save aba -d mirror save
    expect_ready save
    kill -KILL "${STARTED_PID}"
    expect_end 137
    expect_free mirror-save
    run -0 aba -d mirror save
    expect_silence
}

@test "after SIGKILL of a script, its child keeps the lock until it ends, and is named as the holder" {
    start_at sync aba -d mirror sync
    expect_ready sync
    kill -KILL "${STARTED_PID}"
    expect_end 137
    run -1 aba -d mirror sync
    expect_text "mirror-sync was acquired by pid ${STARTED_PID} ("
    expect_text "which has ended; it is still held by pid ${READY_PID} ("
    expect_text '/aba -d mirror part sync), by '
    let_go
    until_true has_ended "${READY_PID}"
    expect_free mirror-sync
}

@test "after SIGKILL of the helper that waits, its script ends with 125 and a message, without the lock" {
    start_at save aba -d mirror save
    expect_ready save
    local holder=${STARTED_PID} helper
    start aba -d mirror --wait save
    until_true is_waited_for mirror-save
    helper=$(waiters_of mirror-save)
    kill -KILL "${helper}"
    expect_end 125
    grep -q '^aba-lock: cannot lock mirror-save: the helper .*aba-lock ended with status 137$' output
    run ! has_begun save "${STARTED_PID}"
    expect_refused "${holder}" aba -d mirror save
    let_go
    expect_end 0 "${holder}"
}

@test "after SIGKILL of a script that waits, its helper ends too, and does not take the lock" {
    start_at save aba -d mirror save
    expect_ready save
    local holder=${STARTED_PID} helper
    start aba -d mirror --wait save
    until_true is_waited_for mirror-save
    helper=$(waiters_of mirror-save)
    kill -KILL "${STARTED_PID}"
    expect_end 137
    until_true has_ended "${helper}"
    run ! is_waited_for mirror-save
    expect_refused "${holder}" aba -d mirror save
    let_go
    expect_end 0 "${holder}"
    expect_free mirror-save
    expect_journal <<<"save ${holder} begins
save ${holder} ends"
}

@test "a terminal that is closed frees the lock of the save in it" {
    open_terminal
    type_line 'ABA_PAUSE_AT=save aba -d mirror save'
    expect_ready save
    expect_refused "${READY_PID}" aba -d mirror save
    terminal kill-session
    until_true has_ended "${READY_PID}"
    expect_free mirror-save
    run -0 aba -d mirror save
    expect_silence
}

@test "a terminal that is closed ends the save that waits in it and its helper, but not the holder" {
    start_at save aba -d mirror save
    expect_ready save
    open_terminal
    type_line 'exec aba -d mirror --wait save'
    until_true is_waited_for mirror-save
    local script helper
    script=$(terminal display-message -p '#{pane_pid}')
    helper=$(waiters_of mirror-save)
    terminal kill-session
    until_true has_ended "${script}"
    until_true has_ended "${helper}"
    run ! is_waited_for mirror-save
    expect_refused "${STARTED_PID}" aba -d mirror save
    let_go
    expect_end 0
    expect_free mirror-save
    expect_journal <<<"save ${STARTED_PID} begins
save ${STARTED_PID} ends"
}

@test "a daemon that inherited the lock keeps it, and the message names the daemon, and a hint says what to do" {
    local daemon install
    start_at install aba -d mirror --careless install
    expect_ready install
    install=${STARTED_PID}
    # While the script runs, it is reported as the holder.
    expect_refused "${install}" aba -d mirror install
    let_go
    expect_end 0 "${install}"
    read -r daemon <mirror/registry.pid
    run -1 aba -d mirror install
    expect_text "aba-lock: registry-install was acquired by pid ${install} ("
    expect_text '/aba -d mirror --careless install), which has ended; '
    expect_text "; it is still held by pid ${daemon} ("
    expect_text '/aba -d mirror registry), by '
    expect_text ', which inherited it'
    expect_text "hint: end it with \`kill ${daemon}\`; next time, start it with \`aba_lock_detach\`, or use --no-inherit"
    run -0 aba-lock status registry-install
    expect_text "  pid ${daemon}, "
    expect_text '/aba -d mirror registry (inherited)'
    # The hint.
    kill "${daemon}"
    until_true has_ended "${daemon}"
    expect_free registry-install
}

@test "a daemon that was started with aba_lock_detach does not keep the lock" {
    local daemon
    start_at install aba -d mirror install
    expect_ready install
    expect_refused "${STARTED_PID}" aba -d mirror install
    let_go
    expect_end 0
    read -r daemon <mirror/registry.pid
    run ! has_ended "${daemon}"
    expect_free registry-install
    # It can be ended, and installed again.
    run -0 aba -d mirror uninstall
    expect_silence
    until_true has_ended "${daemon}"
    start aba -d mirror install
    expect_end 0
    [[ ! -s output ]]
}

@test "of 50 contenders one gets the lock each time, and the others report the holder" {
    local round pid winner
    local -a pids
    # Open for reading, so that unread words stay in the pipe.
    mkfifo start_line
    exec 9<>start_line
    # shellcheck disable=SC2034 # it only counts
    for round in 1 2 3 4; do
        pids=()
        while ((${#pids[@]} < 50)); do
            ABA_PAUSE_AT=save start bash -c '
                echo >ready
                read -r -t "${PATIENCE}" _ <>start_line
                exec aba -d mirror save >"output.$$" 2>&1
            '
            pids+=("${STARTED_PID}")
        done
        timeout "${PATIENCE}" head -n 50 <>ready >/dev/null
        printf '%.0s\n' "${pids[@]}" >start_line
        expect_ready save
        winner=${READY_PID}
        for pid in "${pids[@]}"; do
            if ((pid != winner)); then
                expect_end 1 "${pid}"
                run cat "output.${pid}"
                expect_text "aba-lock: mirror-save is already running: pid ${winner} ("
                ((${#lines[@]} == 2))
            fi
        done
        let_go
        expect_end 0 "${winner}"
        [[ ! -s output.${winner} ]]
        expect_journal <<<"save ${winner} begins
save ${winner} ends"
        rm mirror/journal output.*
    done
}

@test "a load that make calls within a load shares its lock, and its release leaves the lock to the outer one" {
    local point
    start_at 'load-nested load' aba -d mirror load
    for point in load-nested load; do
        expect_ready "${point}"
        expect_refused "${STARTED_PID}" aba -d mirror load
        let_go
    done
    expect_end 0
    [[ ! -s output ]]
    expect_free mirror-load
}

@test "a bundle keeps its lock while the save that it calls through make holds another, and after that" {
    start_at 'save bundle' aba -d mirror bundle
    expect_ready save
    ((READY_PID != STARTED_PID))
    expect_refused "${STARTED_PID}" aba -d mirror bundle
    expect_refused "${READY_PID}" aba -d mirror save
    let_go
    expect_ready bundle
    expect_free mirror-save
    expect_refused "${STARTED_PID}" aba -d mirror bundle
    let_go
    expect_end 0
    [[ ! -s output ]]
    expect_free bundle
}
