# What benches/rows/run_once.rs compares with: a command that runs once for an id, as a script does that by itself.
#
#   plain_once [-s|-p|-w] -i ID [-- CMD [ARG]...]
#
# -s starts it in the background (default), -p asks whether it has finished, -w waits and has its status. The state of
# an id is in $PLAIN_DIR/ID: lock, pid, exit, cmd, log.out and log.err.
# shellcheck shell=bash

plain_once() {
    local mode='start' id='' OPTIND=1 option
    while getopts 'spwi:' option; do
        case ${option} in
            s) mode='start' ;;
            p) mode='peek' ;;
            w) mode='wait' ;;
            i) id=${OPTARG} ;;
            *) return 2 ;;
        esac
    done
    shift $((OPTIND - 1))
    if [[ -z ${id} ]]; then
        echo 'plain_once: -i is missing' >&2
        return 2
    fi

    local dir=${PLAIN_DIR:?}/${id}
    mkdir -p "${dir}"
    exec 9>"${dir}/lock"

    local status=0
    "plain_${mode}" "${dir}" "$@" || status=$?
    exec 9>&-
    return "${status}"
}

# Running is whoever has the lock.
plain_peek() {
    flock -n 9 || return 1
    [[ -f $1/exit ]]
}

plain_start() {
    local dir=$1
    shift
    # It runs.
    flock -n 9 || return 0
    [[ ! -f ${dir}/exit ]] || return 0
    (($#)) || return 1
    printf '%q ' "$@" >"${dir}/cmd"
    # It inherits the lock, and has it until it ends.
    # shellcheck disable=SC2016
    setsid bash -c '
        dir=$1
        shift
        echo "$$" >"${dir}/pid"
        "$@" > >(tee "${dir}/log.out" >/dev/null) 2> >(tee "${dir}/log.err" >/dev/null)
        echo "$?" >"${dir}/exit.tmp"
        mv "${dir}/exit.tmp" "${dir}/exit"
        rm -f "${dir}/pid"
    ' plain "${dir}" "$@" </dev/null >/dev/null 2>&1 &
    disown
}

plain_wait() {
    local dir=$1
    shift
    flock 9
    if [[ ! -f ${dir}/exit ]]; then
        (($#)) || return 1
        plain_start "${dir}" "$@"
        # Another description, as that one is the task's by now.
        exec 9>"${dir}/lock"
        flock 9
    fi
    return "$(<"${dir}/exit")"
}
