# A plain implementation of a command that runs once for an ID, as scripts have it. benches/rows/run_once.rs compares the helper with
# it.
#
#   plain_once [-s|-p|-w] -i ID [-- CMD [ARG]...]
#
# -s starts the command in the background (default), -p asks whether it has finished, -w waits and returns its status. The state of
# an ID is in $PLAIN_DIR/ID: lock, pid, exit, cmd, log.out and log.err.
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

# The running command holds the lock.
plain_peek() {
    flock -n 9 || return 1
    [[ -f $1/exit ]]
}

plain_start() {
    local dir=$1
    shift
    # The command already runs if the lock is held.
    flock -n 9 || return 0
    [[ ! -f ${dir}/exit ]] || return 0
    (($#)) || return 1
    printf '%q ' "$@" >"${dir}/cmd"
    # The background process inherits the lock and holds it until it ends.
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
        # The old open file description now belongs to the background process.
        exec 9>"${dir}/lock"
        flock 9
    fi
    return "$(<"${dir}/exit")"
}
