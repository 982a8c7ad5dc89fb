# Tab completion of aba-lock for bash 3.2 and newer. The helper finds the candidates, and
# `aba-lock completions bash` prints this file.
# shellcheck shell=bash

_aba_lock() {
    local rest=${COMP_LINE:0:COMP_POINT} i last=0 word answer cut
    local -a words=()
    COMPREPLY=()
    # Bash splits words at COMP_WORDBREAKS, such as `:`, `@` and `=`. Join the parts without a blank between them.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((i > 0)) && [[ ${rest} != [[:space:]]* ]]; then
            ((i < COMP_CWORD)) || word=${rest}
            words[last]+=${word}
        else
            rest=${rest#"${rest%%[![:space:]]*}"}
            ((i < COMP_CWORD)) || word=${rest}
            last=${#words[@]}
            words+=("${word}")
        fi
        rest=${rest#"${word}"}
    done
    word=${words[last]#[\"\']}
    words[last]=${word}
    # The beginning of the word, which readline will not replace.
    cut=${word%"$2"}

    answer=$(
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) ABA_LOCK_COMPLETE=bash \
            command "${__aba_bin:-aba-lock}" -- "${words[@]}" 2>/dev/null
    ) || return 0
    case ${answer} in
        *'<files>')
            _aba_lock_files "$2"
            ;;
        '<command>')
            i=1
            while [[ ${COMP_WORDS[i]} != -- ]]; do
                i=$((i + 1))
            done
            i=$((i + 1))
            if declare -F _command_offset >/dev/null; then
                _command_offset "${i}"
            elif ((i == COMP_CWORD)) && [[ $2 != */* ]]; then
                _aba_lock_reply '' "$(compgen -c -- "$2" || true)"
            else
                _aba_lock_files "$2"
            fi
            ;;
        *)
            _aba_lock_reply "${cut}" "${answer}"
            ;;
    esac
}

# Offers each line of $2, without $1 at its beginning.
_aba_lock_reply() {
    local line
    while IFS= read -r line; do
        [[ -z ${line} ]] || COMPREPLY+=("${line#"$1"}")
    done <<<"$2"
}

# Offers the files that begin with $1. Bash 4.1 and newer does this itself if compopt asks for it. For an older one, the names
# are quoted here, unless a quote precedes them.
_aba_lock_files() {
    if [[ -z ${BASHOPTS-} ]] || ! builtin compopt -o bashdefault -o default 2>/dev/null; then
        builtin local __aba_name='' __aba_quoted='' __aba_before="${COMP_LINE:0:COMP_POINT}"
        __aba_before=${__aba_before%"$1"}
        while IFS= builtin read -r __aba_name; do
            if [[ -n ${__aba_name} && ${__aba_before} != *[\"\'] ]]; then
                # Bash expands `~` only without quotes.
                builtin printf -v __aba_quoted %q "${__aba_name#\~}"
                [[ ${__aba_name} != \~* ]] || __aba_quoted=\~${__aba_quoted}
                __aba_name=${__aba_quoted}
            fi
            [[ -z ${__aba_name} ]] || COMPREPLY+=("${__aba_name}")
        done 2>/dev/null <<<"$(builtin compgen -f -- "$1" || builtin true)"
    fi
}

# ---- the functions of aba-lock.bash and run_once.bash, whose __aba_complete and __run_once_complete call this ----

# Completes the arguments of function $1. Readline will replace $2, and $3 is the word before $2.
__aba_complete_function() {
    builtin local __aba_word="${COMP_LINE:0:COMP_POINT}" __aba_cut='' __aba_list=''
    builtin local __aba_bin="${__aba_bin:-${__run_once_bin:-${ABA_LOCK_BIN:-aba-lock}}}"
    COMPREPLY=()
    # Names may contain `:` and `@`, at which bash splits words, and readline replaces only the last part.
    __aba_word=${__aba_word##*[[:space:]]}
    __aba_word=${__aba_word#[\"\']}
    __aba_cut=${__aba_word%"$2"}
    if [[ $1 == aba_run_once || $1 == run_once ]]; then
        __aba_complete_as_command run-once "$2"
    elif [[ $1 == aba_update ]]; then
        __aba_complete_as_command update "$2"
    elif [[ $1 == aba_reserve ]]; then
        __aba_complete_as_command reserve "$2"
    elif [[ $1 == aba_lock_doctor ]]; then
        __aba_complete_as_command doctor "$2"
    elif [[ $1 == aba_lock_detach ]]; then
        __aba_offer_commands "$2"
    elif [[ $1 == aba_unlock_operation && -n ${__aba_locks} ]]; then
        __aba_list=${__aba_locks}
        while [[ -n ${__aba_list} ]]; do
            __aba_offer_lines "${__aba_list%%/*}"
            __aba_list=${__aba_list#* }
        done
    elif [[ $1 != aba_lock_operation ]]; then
        __aba_offer_answer status
    elif [[ $3 == --on-conflict && ${__aba_word} != *= ]]; then
        __aba_offer_lines $'exit\nreturn\nask\nwarn'
    else
        if [[ ${__aba_word} == -* ]]; then
            __aba_offer_lines $'--on-conflict\n--subshell'
        fi
        if [[ ${__aba_word} == *=* ]]; then
            __aba_offer_lines $'--on-conflict=exit\n--on-conflict=return\n--on-conflict=ask\n--on-conflict=warn'
        fi
        __aba_offer_answer lock "$2"
    fi
}

# Completes as if the line began with `aba-lock $1` instead of the function.
__aba_complete_as_command() {
    builtin local __aba_line="${COMP_LINE#"${COMP_LINE%%[![:space:]]*}"}"
    __aba_line="aba-lock $1${__aba_line#"${COMP_WORDS[0]}"}"
    builtin local COMP_POINT="$((COMP_POINT + ${#__aba_line} - ${#COMP_LINE}))" COMP_CWORD="$((COMP_CWORD + 1))"
    builtin local -a __aba_words
    __aba_words=(aba-lock "$1" "${COMP_WORDS[@]:1}")
    builtin local -a COMP_WORDS
    COMP_WORDS=("${__aba_words[@]}")
    builtin local COMP_LINE="${__aba_line}"
    _aba_lock aba-lock "$2"
}

# Offers the candidates of the helper for its command $1, except the options that the function does not have.
__aba_offer_answer() {
    builtin local __aba_line='' __aba_lines='' __aba_index=1
    builtin local -a __aba_words
    __aba_words=(aba-lock "$1")
    while [[ $1 == lock ]] && ((__aba_index < COMP_CWORD)); do
        if [[ ${COMP_WORDS[__aba_index]} != -- ]]; then
            __aba_words+=("${COMP_WORDS[__aba_index]}")
        fi
        __aba_index=$((__aba_index + 1))
    done
    __aba_words+=("${__aba_word}")
    __aba_lines=$(
        _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#__aba_words[@]} - 1)) ABA_LOCK_COMPLETE=bash \
            builtin command "${__aba_bin}" -- "${__aba_words[@]}" 2>/dev/null
    ) || builtin return 0
    if [[ ${__aba_lines} == *'<files>' ]]; then
        _aba_lock_files "$2"
        builtin return "$?"
    fi
    while IFS= builtin read -r __aba_line; do
        case "$1 ${__aba_line}" in
            'lock '-c | 'lock '--command | 'lock '-E | 'lock '--fcntl | 'lock '--fd | 'lock '--file | 'lock '--reopen) ;;
            'lock '--conflict-exit-code | 'lock '--on-busy | 'status '-*) ;;
            *) __aba_offer_lines "${__aba_line}" ;;
        esac
    done 2>/dev/null <<<"${__aba_lines}"
}

# Offers the lines of $1 that begin with the present word.
__aba_offer_lines() {
    builtin local __aba_line=''
    while IFS= builtin read -r __aba_line; do
        if [[ -n ${__aba_line} && ${__aba_line} == "${__aba_word}"* ]]; then
            COMPREPLY+=("${__aba_line#"${__aba_cut}"}")
        fi
    done 2>/dev/null <<<"$1"
}

# Offers commands and their arguments, through bash-completion if it is installed.
__aba_offer_commands() {
    if \builtin declare -F _command_offset >/dev/null; then
        _command_offset 1
    elif ((COMP_CWORD > 1)) || [[ $1 == */* ]]; then
        _aba_lock_files "$1"
    else
        __aba_list=$(builtin compgen -c -- "$1") || builtin return 0
        __aba_offer_lines "${__aba_list}"
    fi
}

# The candidates keep the order of the help, if bash knows `nosort` (4.4).
complete -o nosort -F _aba_lock aba-lock 2>/dev/null || complete -F _aba_lock aba-lock
