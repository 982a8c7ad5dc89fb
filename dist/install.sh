#!/bin/sh
# Usage: ./install.sh [--prefix DIR]               install aba-lock under DIR
#        ./install.sh [--prefix DIR] --uninstall   remove these files again
#
# DIR is by default PREFIX, and without PREFIX /usr/local, or ~/.local for users other than root. This needs no compiler, no
# network and only a POSIX shell with the usual tools, such as those of busybox.
# shellcheck disable=SC2312 # these commands do not fail
set -eu
umask 022

fail() {
    printf 'install.sh: %s\n' "$1" >&2
    [ -z "${2-}" ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

action=install
while [ "$#" -gt 0 ]; do
    case $1 in
        --prefix)
            [ "$#" -gt 1 ] || fail '--prefix needs a directory'
            PREFIX=$2
            shift
            ;;
        --prefix=*) PREFIX=${1#*=} ;;
        --uninstall) action=uninstall ;;
        *)
            [ "$1" = --help ] || [ "$1" = -h ] || fail "no such option: $1" 'run ./install.sh --help'
            sed -n '2,6s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
    esac
    shift
done

cd "$(dirname "$0")"
if [ -z "${PREFIX-}" ]; then
    PREFIX=/usr/local
    [ "$(id -u)" = 0 ] || PREFIX=${HOME:?HOME is not set: use --prefix DIR}/.local
fi
# The shell library searches for its helper as in PATH, where `:` separates directories.
case ${PREFIX} in
    *[!a-zA-Z0-9/._+@~-]*) fail "the directory '${PREFIX}' has a character other than letters, digits and / . _ + @ ~ -" ;;
    /*) ;;
    *) fail "the directory '${PREFIX}' is not absolute" ;;
esac
[ -f bin/aba-lock ] || fail "bin/aba-lock is missing in $(pwd)" 'unpack the archive again, and run its own install.sh'

if [ "${action}" = uninstall ]; then
    find bin share -type f | while read -r file; do
        rm -f "${PREFIX}/${file}"
    done
    for directory in share/aba-lock share/doc/aba-lock; do
        rmdir "${PREFIX}/${directory}" 2>/dev/null || true
    done
    printf 'removed aba-lock from %s\n' "${PREFIX}"
    exit 0
fi

version=$(bin/aba-lock --version) || fail "bin/aba-lock does not run on this system ($(uname -sm))"
{ mkdir -p "${PREFIX}" && [ -w "${PREFIX}" ]; } || fail "cannot write to ${PREFIX}" "run it as root, or with another directory: ./install.sh --prefix ~/.local"
# A script that starts now must not find half of a file: after an empty library, it would run without its locks. The helper is
# installed before the library that calls it.
find bin share -type f | sort | while read -r file; do
    mode=644
    [ "${file#bin/}" = "${file}" ] || mode=755
    mkdir -p "${PREFIX}/${file%/*}"
    case ${file} in
        share/man/*) sed "s#/usr/local/bin/aba-lock#${PREFIX}/bin/aba-lock#g; s#/usr/local/share/aba-lock#${PREFIX}/share/aba-lock#g" "${file}" >"${PREFIX}/${file}.new" ;;
        *) cp "${file}" "${PREFIX}/${file}.new" ;;
    esac
    chmod "${mode}" "${PREFIX}/${file}.new"
    mv -f "${PREFIX}/${file}.new" "${PREFIX}/${file}"
done
printf 'installed %s in %s\n' "${version%% (*}" "${PREFIX}"
case :${PATH}: in
    *":${PREFIX}/bin:"*) ;;
    *) printf 'hint: %s\n' "add it to PATH: export PATH=\"${PREFIX}/bin:\$PATH\"" ;;
esac
