# Shared by the tests of the libraries for sh and zsh.

# shellcheck shell=bash
# shellcheck disable=SC2016 # scripts are written here, and expand later
# shellcheck disable=SC2086 # a shell may have an option
# shellcheck disable=SC2154 # `run` of bats sets `status`

# The shells for aba-lock.sh.
SH_SHELLS=(dash 'busybox ash' mksh ksh93 yash 'bash --posix')

setup() {
    shared_setup
    export SH_LIBRARY=${PROJECT}/shell/aba-lock.sh ZSH_LIBRARY=${PROJECT}/shell/aba-lock.zsh FISH_LIBRARY=${PROJECT}/shell/aba-lock.fish
}

# Usage: in_each_shell STATUS EXPECTED <<'END' ... END
#
# Runs the script in each shell for aba-lock.sh and in zsh, after it has sourced the library. Its output, without pids and times,
# must be EXPECTED, and its exit status STATUS. The shell in WITHOUT is left out.
in_each_shell() {
    local shell text
    text=$(cat)
    for shell in "${SH_SHELLS[@]}" zsh; do
        [[ ${shell} != "${WITHOUT-}" ]] || continue
        rm -rf "${ABA_LOCK_DIR}"
        if [[ ${shell} == zsh ]]; then
            printf 'source "$ZSH_LIBRARY"\n%s\n' "${text}" >tool
        else
            printf '. "$SH_LIBRARY" || exit\n%s\n' "${text}" >tool
        fi
        run timeout "${PATIENCE}" ${shell} ./tool
        output=$(sed -E 's/pid [0-9]+ \([^)]*\), by [^,]*, for [0-9]+s/pid N/; s/wait for it with .*, or/wait for it, or/' <<<"${output}")
        if [[ ${output} != "$2" || ${status} != "$1" ]]; then
            printf '%s: status %s\n' "${shell}" "${status}"
            diff <(printf '%s\n' "$2") <(printf '%s\n' "${output}")
            return 1
        fi
    done
}
