# aba-lock.zsh: locks for scripts in zsh, and at its prompt.
#
#     source /usr/local/share/aba-lock/aba-lock.zsh
#     aba_lock_operation mirror-save      # held until this script ends
#
# The functions are those of aba-lock.sh in the same directory. This file loads it, and replaces those of its functions for
# which zsh has more: any number of descriptors, and functions of the script as commands of aba_update.
#
# Aliases and options of the script must not change the code. A function that is defined during `emulate -c` keeps the emulation and
# the options of that command. So the file reads itself again in this way, from the line below on.
if 'builtin' 'test' -z "${__aba_zsh_source-}"; then
    __aba_zsh_source=${${(%):-%x}:A}
    if 'builtin' 'test' -r "${__aba_zsh_source%.zsh}.sh"; then
        'builtin' 'emulate' -R sh -o no_aliases -c '. "${__aba_zsh_source%.zsh}.sh"'
        'builtin' 'emulate' -R zsh -o no_aliases -c 'source "$__aba_zsh_source"'
        __aba_zsh_source=''
        'builtin' 'return' 0
    fi
    'builtin' 'print' -ru2 -- "aba-lock: cannot load ${__aba_zsh_source%.zsh}.sh: it cannot be read
hint: install both files from the same release, or use \`eval \"\$(aba-lock init zsh)\"\`"
    __aba_zsh_source=''
    # A script must not run without its locks.
    'builtin' 'test' -o interactive || 'builtin' 'exit' 125
    'builtin' 'return' 125
fi
# ---- the functions ----

# The first free descriptor from 10 on. zsh chooses it when it opens the file.
__aba_find_free_fd() {
    __aba_fd=0
}

# Usage: __aba_open_fd FD PATH: opens the file for reading and writing, and sets __aba_fd to the descriptor, which replaces FD if that
# is not 0.
__aba_open_fd() {
    local old=$1
    { exec {__aba_fd}<&0 } 2>/dev/null 0<>$2 || return 1
    ((old == 0)) || exec {old}<&-
}

# Opens the file at $2 for reading, and sets __aba_fd to the descriptor.
__aba_read_fd() {
    { exec {__aba_fd}<&0 } 2>/dev/null <$2
}

# Closes descriptor $1, if that is the number of one, and not of the standard input or output.
__aba_close_fd() {
    local fd=$1
    [[ $fd == <3-> ]] || return 0
    { exec {fd}<&- } 2>/dev/null || true
}

# Children of zsh inherit all these descriptors.
__aba_pass_fd() {
    true
}

# Sets __aba_pid to the pid of this shell, which may be a subshell.
__aba_find_pid() {
    zmodload zsh/system 2>/dev/null
    __aba_pid=${sysparams[pid]:-$$}
}
