# aba-lock.fish: locks for scripts in fish.
#
#     aba-lock init fish | source
#     aba_lock_held backup; or exec aba-lock lock backup -- (status fish-path) (status filename) $argv
#
# fish cannot keep a file open, so a script in fish cannot acquire a lock by itself. The second line starts the script again
# while the lock is held. The functions find such a lock, and the others of aba-lock.bash run the helper, the program aba-lock, or
# print what to use instead.

set -g __aba_version 0.1.0

# Usage: aba_lock_operation [--system] OPERATION | --key TEXT: returns 0 if this script was started with the lock. Otherwise ends it
# with 125, and prints the line that starts it so, with all options.
function aba_lock_operation
    if test (count $argv) = 0
        __aba_print_message 'aba_lock_operation needs the name of a lock' 'for example: `aba_lock_operation backup`'
        __aba_end_script 2
        return 2
    end
    set -l lock
    set -l names
    set -l rest $argv
    while set -q rest[1]
        switch $rest[1]
            case --system '--key=*'
                set lock $lock $rest[1]
            case --key
                set lock $lock $rest[1..2]
                set -e rest[1]
            case '-*'
            case '*'
                set names $names $rest[1]
        end
        set -e rest[1]
    end
    if test (count $names) -gt 1
        __aba_print_message "aba_lock_operation takes the name of one lock in fish, and not $names" \
            'write values of options after `=`: `--timeout=60`'
        __aba_end_script 2
        return 2
    end
    set lock $lock $names
    aba_lock_held $lock
    and return 0
    set -l words (string escape -- $argv | string join ' ')
    set -l name (string escape -- $lock | string join ' ')
    __aba_print_message "cannot lock $name in this script: fish cannot keep the lock file open" \
        "write at the top of the script: `aba_lock_held $name; or exec aba-lock lock $words -- (status fish-path) (status filename) \$argv`"
    __aba_end_script 125
    return 125
end

function aba_unlock_operation
    __aba_print_message 'aba_unlock_operation is not available in fish: a lock is released when its command ends' \
        'run the commands that need the lock with `aba-lock lock NAME -- COMMAND`'
    __aba_end_script 125
    return 125
end

function aba_lock_detach
    __aba_print_message 'aba_lock_detach is not available in fish: it cannot close the lock file' \
        'keep the lock from the command: `aba-lock lock --no-inherit NAME -- COMMAND`'
    __aba_end_script 125
    return 125
end

# Usage: aba_lock_held [--system] OPERATION | --key TEXT: returns 0 if a process that started this script holds the lock.
function aba_lock_held
    __aba_query $argv
end

# Does the same as aba_lock_held, and if the lock has a lease, asks the server whether the lease is valid.
function aba_lock_check
    __aba_query --lease $argv
end

function __aba_query
    set -l result 1
    for fd in (string split -n ' ' -- "$ABA_LOCK_FDS")
        set result 0
        __aba_run status --quiet --fd $fd $argv
        or set result $status
        test $result = 1
        or return $result
    end
    if test -z "$ABA_LOCK_FDS"
        # The helper reports a name that is not valid.
        __aba_run path $argv >/dev/null
        or return 2
    end
    return $result
end

function aba_run_once
    __aba_run run-once $argv
end

function aba_update
    __aba_run update $argv
end

function aba_reserve
    __aba_run reserve $argv
end

function aba_lock_doctor
    __aba_run doctor $argv
end

# Runs the helper with the variables of this script, exported or not.
function __aba_run
    set -l helper aba-lock
    if test -n "$ABA_LOCK_BIN"
        set helper $ABA_LOCK_BIN
    end
    set -l variables
    for name in ABA_LOCK_DIR RUN_ONCE_DIR ABA_LOCK_SCOPE ABA_LOCK_TIMEOUT ABA_LOCK_LOG
        if set -q $name
            set variables $variables $name="$$name"
        end
    end
    if not command -q $helper
        set -l from (test -n "$ABA_LOCK_BIN"; and echo ' (from ABA_LOCK_BIN)')
        __aba_print_message "the helper $helper$from was not found, or is not executable" \
            'add the directory of aba-lock to PATH, or set ABA_LOCK_BIN to its path'
        return 125
    end
    command env $variables $helper $argv
end

# Usage: __aba_print_message MESSAGE HINT
function __aba_print_message
    printf '%s\n' "aba-lock: $argv[1]" "hint: $argv[2]" >&2
end

# Ends the script with status $argv. At a prompt, the shell stays open.
function __aba_end_script
    status is-interactive
    or exit $argv
end
