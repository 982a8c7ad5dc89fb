# Tab completion in real shells on a terminal: functions that press keys and read the screen, and the scenes that each shell must
# pass. The completion scripts are where `make install` puts them, and each shell finds them there by itself. A test file loads this
# after helper.
# shellcheck shell=bash
# shellcheck disable=SC2016 # the opened shells expand the text in single quotes
# shellcheck disable=SC2154 # helper sets the variables
# shellcheck disable=SC2312 # a screen that cannot be read is empty, and the wait for a text goes on

teardown() {
    close_shell
    shared_teardown
}

# Runs a command of tmux, with a server for this test alone.
terminal() {
    TMUX_TMPDIR=${BATS_RUN_TMPDIR} tmux -L "aba-$$-${BATS_TEST_NUMBER}" -f /dev/null "$@" 3>&- 4>&-
}

# Ends the opened shell and its server. A server that is about to end would accept the next command, and drop it.
close_shell() {
    local server
    if server=$(terminal display-message -p '#{pid}' 2>/dev/null); then
        terminal kill-server 2>/dev/null || true
        until_true has_ended "${server}"
    fi
}

# Usage: open_shell bash|zsh|fish [LINE]...
#
# Opens an interactive shell that runs the LINEs at start-up, and waits for its prompt.
open_shell() {
    local shell=$1 share=${BATS_TEST_TMPDIR}/share
    shift
    install -D -m644 "${PROJECT}/completions/aba-lock.bash" "${share}/bash-completion/completions/aba-lock"
    install -D -m644 "${PROJECT}/completions/_aba-lock" "${share}/zsh/site-functions/_aba-lock"
    install -D -m644 "${PROJECT}/completions/aba-lock.fish" "${share}/fish/vendor_completions.d/aba-lock.fish"
    # Without the second directory, the first start of fish reads all man pages in a process that goes on after its end.
    mkdir -p "${HOME}/.config/fish" "${HOME}/.local/share/fish/generated_completions"
    case ${shell} in
        bash)
            # A short form of the loader of the package bash-completion.
            cat >"${HOME}/.bashrc" <<'END'
PS1='ready> '
load_completion() { source "${BATS_TEST_TMPDIR}/share/bash-completion/completions/$1" 2>/dev/null && return 124; }
complete -D -F load_completion 2>/dev/null || load_completion aba-lock
END
            printf '%s\n' "$@" >>"${HOME}/.bashrc"
            set -- bash --noprofile -i
            ;;
        zsh)
            cat >"${HOME}/.zshrc" <<'END'
PS1='ready> '
fpath=("${BATS_TEST_TMPDIR}/share/zsh/site-functions" $fpath)
autoload -U compinit
compinit -D -u
END
            printf '%s\n' "$@" >>"${HOME}/.zshrc"
            set -- zsh -d -i
            ;;
        fish)
            cat >"${HOME}/.config/fish/config.fish" <<'END'
set -g fish_greeting
set -g fish_autosuggestion_enabled 0
function fish_prompt; echo -n 'ready> '; end
END
            printf '%s\n' "$@" >>"${HOME}/.config/fish/config.fish"
            set -- fish -i
            ;;
        *) return 1 ;;
    esac
    terminal new-session -d -x 120 -y 90 \
        env -u TMUX -u ZDOTDIR -u XDG_CONFIG_HOME -u XDG_DATA_HOME INPUTRC=/dev/null LC_ALL=C.UTF-8 XDG_DATA_DIRS="${share}:/usr/share" "$@"
    screen_is 'ready>'
}

# Prints the screen without empty lines and trailing blanks. At its first start, fish reports a slow disk.
screen() {
    terminal capture-pane -p -J | sed 's/ *$//; /^$/d; /^warning: Locking the universal var file took too long /d'
}

# Usage: press TEXT [KEY]...: clears line and screen, types TEXT and presses the keys.
press() {
    # Not with Ctrl-C, after which the terminal drops input and output that it has not delivered.
    terminal send-keys C-u C-l
    screen_is 'ready>'
    terminal send-keys -l "$1"
    terminal send-keys "${@:2}"
}

screen_becomes() {
    local end=$((SECONDS + PATIENCE))
    until "$@"; do
        if ((SECONDS > end)); then
            printf 'gave up waiting for: %s\non the screen:\n%s\n' "${*:2}" "$(screen)" >&2
            return 1
        fi
        read -r -t 0.05 _ <>"${SILENCE}" || true
    done
}

is_on_screen() {
    local text now
    now=$(screen)
    for text in "$@"; do
        [[ ${now} == *"${text}"* ]] || return 1
    done
}

is_the_screen() {
    [[ $(screen) == "$1" ]]
}

# Usage: screen_has TEXT...: waits until each TEXT is on the screen.
screen_has() {
    screen_becomes is_on_screen "$@"
}

# Usage: screen_lacks TEXT...: no TEXT is on the screen now.
screen_lacks() {
    local text
    for text in "$@"; do
        if is_on_screen "${text}"; then
            printf 'not expected: %s\non the screen:\n%s\n' "${text}" "$(screen)" >&2
            return 1
        fi
    done
}

# Usage: screen_is TEXT: waits until the screen shows TEXT and nothing else.
screen_is() {
    screen_becomes is_the_screen "$1"
}

# Usage: completes TEXT RESULT: TEXT and TAB become RESULT, nothing else is printed, and typing can go on.
completes() {
    press "$1" Tab
    terminal send-keys -l END
    screen_is "ready> $2END"
}

# Usage: list TEXT: makes the shell list the candidates after TEXT. Bash does so at the second TAB.
list() {
    if [[ ${SHELL_KIND} == bash ]]; then
        press "$1" Tab Tab
    else
        press "$1" Tab
    fi
}

make_locks() {
    local name
    for name in "$@"; do
        "${ABA_LOCK_BIN}" path --create "${name}" >/dev/null
    done
}

hold() {
    start "${ABA_LOCK_BIN}" lock "$1" -- sleep 1000
    # The helper holds the lock before it becomes the command.
    until_true grep -qx sleep "/proc/${STARTED_PID}/comm"
    until_true "${ABA_LOCK_BIN}" status "$1"
}

offers_commands_and_options() {
    local SHELL_KIND=$1
    open_shell "$1"
    list 'aba-lock '
    screen_has lock unlock status path init help --help --version
    list 'aba-lock lock --'
    screen_has --wait --timeout --pid-file --help
    screen_lacks --try-first --waited --heed-keyboard
    list 'aba-lock status --'
    screen_has --file --json --help
    screen_lacks --lease
    list 'aba-lock update --'
    screen_has --check --backup --help
    screen_lacks --state
    completes 'aba-lock sta' 'aba-lock status '
    completes 'aba-lock lock --ti' 'aba-lock lock --timeout '
}

offers_lock_names() {
    local SHELL_KIND=$1 command
    make_locks backup mirror-save mirror-sync
    open_shell "$1"
    for command in lock unlock status; do
        list "aba-lock ${command} "
        screen_has backup mirror-save mirror-sync
        screen_lacks --
        completes "aba-lock ${command} mirror-sa" "aba-lock ${command} mirror-save "
    done
    completes 'aba-lock lock backup mirror-sy' 'aba-lock lock backup mirror-sync '
    completes 'aba-lock lock --timeout=5 mirror-sy' 'aba-lock lock --timeout=5 mirror-sync '
    completes 'aba-lock unlock --fd=3 mirror-sy' 'aba-lock unlock --fd=3 mirror-sync '
}

offers_names_with_colons() {
    local SHELL_KIND=$1
    make_locks db:main db:test web@one web@two
    open_shell "$1"
    list 'aba-lock lock db:'
    screen_has main test
    completes 'aba-lock lock db:m' 'aba-lock lock db:main '
    completes 'aba-lock lock web@o' 'aba-lock lock web@one '
    completes 'aba-lock status db:t' 'aba-lock status db:test '
    completes 'aba-lock lock db:main db:t' 'aba-lock lock db:main db:test '
    completes 'aba-lock lock "db:m' 'aba-lock lock "db:main" '
}

leaves_files_and_commands_to_the_shell() {
    local SHELL_KIND=$1
    make_locks backup
    touch 'one file' other
    mkdir folder
    open_shell "$1"
    completes 'aba-lock lock --file one' 'aba-lock lock --file one\ file '
    completes 'aba-lock lock --file=one' 'aba-lock lock --file=one\ file '
    local folder=folder/
    # Bash before 4.1 adds no slash.
    [[ $1 != bash ]] || "${BASH_BIN}" -c '[[ -n ${BASHOPTS-} ]]' || folder='folder '
    completes 'aba-lock lock --pid-file fol' "aba-lock lock --pid-file ${folder}"
    completes 'aba-lock lock backup -- touc' 'aba-lock lock backup -- touch '
    completes 'aba-lock lock backup -- touch ot' 'aba-lock lock backup -- touch other '
    # The name of the lock is not offered here.
    completes 'aba-lock lock backup -- touch bac' 'aba-lock lock backup -- touch bac'
}

is_silent_when_nothing_is_there() {
    open_shell "$1"
    completes 'aba-lock lock zz' 'aba-lock lock zz'
    completes 'aba-lock status zz' 'aba-lock status zz'
    [[ ! -e ${ABA_LOCK_DIR} ]]
    close_shell
    PATH=${SYSTEM_PATH} ABA_LOCK_BIN=aba-lock open_shell "$@"
    completes 'aba-lock lock zz' 'aba-lock lock zz'
    completes 'aba-lock sta' 'aba-lock sta'
}

offers_leases() {
    local SHELL_KIND=$1
    make_locks backup
    open_shell "$1"
    list 'aba-lock lease '
    screen_has run acquire renew release show list
    # The descriptions contain the word `holder`.
    screen_lacks settle tokens 'hold '
    completes 'aba-lock lease acq' 'aba-lock lease acquire '
    list 'aba-lock lease acquire --'
    screen_has --server --ttl --wait --json
    completes 'aba-lock lease show back' 'aba-lock lease show backup '
    list 'aba-lock lease run --'
    screen_has --timeout --on-lost --progress --slots
    completes 'aba-lock lease run --max' 'aba-lock lease run --max-wait '
    completes 'aba-lock lease run backup -- mkfif' 'aba-lock lease run backup -- mkfifo '
}
