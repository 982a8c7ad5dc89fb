#!/usr/bin/env bats
# The files of `make install`, which `make uninstall` removes.

load helper

in_project() {
    # Without the jobserver and the flags of the make that runs the tests.
    env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS HOME="${REAL_HOME}" make -s -C "${PROJECT}" "$@"
}

setup_file() {
    # Some tests build.
    export REAL_HOME=${HOME} BATS_TEST_TIMEOUT=1000
}

@test "make install puts files where each shell and man look for them, and make uninstall removes them" {
    run -0 in_project install DESTDIR="${PWD}/root" PREFIX=/opt/aba
    run -0 bash -c 'cd root && find . -type f -printf "%m %p\n" | sort -k 2'
    expected='755 ./opt/aba/bin/aba-lock
644 ./opt/aba/lib/tmpfiles.d/aba-lock.conf
644 ./opt/aba/share/aba-lock/aba-lock-whole.bash
644 ./opt/aba/share/aba-lock/aba-lock.bash
644 ./opt/aba/share/aba-lock/aba-lock.fish
644 ./opt/aba/share/aba-lock/aba-lock.sh
644 ./opt/aba/share/aba-lock/aba-lock.zsh
644 ./opt/aba/share/aba-lock/run_once.bash
644 ./opt/aba/share/bash-completion/completions/aba-lock
644 ./opt/aba/share/fish/vendor_completions.d/aba-lock.fish
644 ./opt/aba/share/man/man1/aba-lock-clean.1
644 ./opt/aba/share/man/man1/aba-lock-completions.1
644 ./opt/aba/share/man/man1/aba-lock-doctor.1
644 ./opt/aba/share/man/man1/aba-lock-exclude.1
644 ./opt/aba/share/man/man1/aba-lock-flock.1
644 ./opt/aba/share/man/man1/aba-lock-init.1
644 ./opt/aba/share/man/man1/aba-lock-lease.1
644 ./opt/aba/share/man/man1/aba-lock-list.1
644 ./opt/aba/share/man/man1/aba-lock-lock.1
644 ./opt/aba/share/man/man1/aba-lock-log.1
644 ./opt/aba/share/man/man1/aba-lock-man.1
644 ./opt/aba/share/man/man1/aba-lock-metrics.1
644 ./opt/aba/share/man/man1/aba-lock-migrate.1
644 ./opt/aba/share/man/man1/aba-lock-path.1
644 ./opt/aba/share/man/man1/aba-lock-release.1
644 ./opt/aba/share/man/man1/aba-lock-reserve.1
644 ./opt/aba/share/man/man1/aba-lock-run-once.1
644 ./opt/aba/share/man/man1/aba-lock-status.1
644 ./opt/aba/share/man/man1/aba-lock-unlock.1
644 ./opt/aba/share/man/man1/aba-lock-update.1
644 ./opt/aba/share/man/man1/aba-lock-wait.1
644 ./opt/aba/share/man/man1/aba-lock-write.1
644 ./opt/aba/share/man/man1/aba-lock.1
644 ./opt/aba/share/man/man7/aba-lock-machines.7
644 ./opt/aba/share/man/man7/aba-lock-reserve.7
644 ./opt/aba/share/man/man7/aba-lock.bash.7
644 ./opt/aba/share/man/man7/aba-lock.sh.7
644 ./opt/aba/share/man/man7/run_once.bash.7
644 ./opt/aba/share/zsh/site-functions/_aba-lock'
    [[ ${output} == "${expected}" ]] || {
        diff <(echo "${expected}") <(echo "${output}")
        return 1
    }
    run -0 in_project uninstall DESTDIR="${PWD}/root" PREFIX=/opt/aba
    run -0 find root -type f
    expect_silence
}

@test "make install, make uninstall and make help need only tools and options that macOS and FreeBSD have, too" {
    run -0 in_project build man
    "${PROJECT}/tests/portable-tools" "${PWD}/tools" make cargo rustc
    for arguments in 'install CARGO=true WITH_SERVICE=yes SERVICE_PROFILE=dev' 'install CARGO=true WITH_FLOCK=yes' uninstall help; do
        run -0 env PATH="${PWD}/tools" HOME="${REAL_HOME}" MAKEFLAGS= make -s -C "${PROJECT}" ${arguments} DESTDIR="${PWD}/root" PREFIX=/opt/aba
        [[ ${output} != *'not alike'* ]]
    done
    expect_text 'uninstall'
    run -0 find root -type f
    expect_silence
}

@test "a tool with only the options of all systems refuses those of GNU, so that the tests find them" {
    "${PROJECT}/tests/portable-tools" "${PWD}/tools"
    echo text >file
    for command in 'install -D file other' 'sed -i s/a/b/ file' 'cp -a file other' 'mktemp --suffix=x' 'readlink -f file' 'date -d now' \
        'xargs -r true' 'grep -P x file' 'grep text file -q' 'ls --color'; do
        run -64 env PATH="${PWD}/tools" ${command}
        expect_text 'not alike on Linux, macOS and FreeBSD'
    done
    run -0 env PATH="${PWD}/tools" sh -c 'echo a-b | sed -n "s/a/c/p" | grep -c -- -b'
    run -127 env PATH="${PWD}/tools" stat -c %i file
}

@test "make install WITH_BUILTIN=yes says that the builtin works only on Linux" {
    mkdir tools
    printf '#!/bin/sh\necho Darwin\n' >tools/uname
    chmod +x tools/uname
    export PATH=${PWD}/tools:${PATH}
    run -2 in_project install WITH_BUILTIN=yes PREFIX="${PWD}/root"
    expect_text 'WITH_BUILTIN is yes, but the builtin for bash works only on Linux'
    [[ ! -e root ]]
}

@test "make install replaces the helper and the library in one step, so that no script finds half of a file" {
    type -P strace >/dev/null || skip 'strace is missing'
    for _ in 1 2; do
        run -0 strace -f -qq -o trace -e trace=unlink,unlinkat,rename,renameat,renameat2 \
            env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS HOME="${REAL_HOME}" make -s -C "${PROJECT}" install CARGO=true PREFIX="${PWD}/root"
    done
    for file in bin/aba-lock share/aba-lock/aba-lock.bash share/aba-lock/aba-lock.sh share/aba-lock/aba-lock-whole.bash share/aba-lock/run_once.bash; do
        run -1 grep -E "unlink.*/root/${file}\"" trace
        run -0 grep -E "rename.*/root/${file}\"" trace
    done
}

@test "WITH_BUILTIN=yes installs the builtin for bash, which scripts then use, and make uninstall removes it" {
    run -0 in_project install WITH_BUILTIN=yes BUILTIN_PROFILE=dev PREFIX="${PWD}/root"
    "${ABA_LOCK_BIN}" lock save -- true
    # Without the helper, there is only the builtin.
    printf '%s\n' 'source root/share/aba-lock/aba-lock.bash' 'ABA_LOCK_BIN=/nowhere' \
        'aba_lock_operation save && aba_unlock_operation && echo "$__aba_builtin"' >tool
    if "${BASH_BIN}" -c 'enable -f "$1" __aba_builtin' bash "${PWD}/root/lib/aba-lock/builtin.so"; then
        ABA_LOCK_BUILTIN=yes run -0 bash ./tool
        [[ ${output} == "${PWD}/root/lib/aba-lock/builtin.so" ]]
    fi
    ABA_LOCK_BUILTIN='' run -125 bash ./tool
    run -0 in_project uninstall PREFIX="${PWD}/root"
    run -0 find root -type f
    expect_silence
}

@test "WITH_SERVICE=yes installs the service and the keeper, and make uninstall removes them" {
    run -0 in_project install WITH_SERVICE=yes SERVICE_PROFILE=dev DESTDIR="${PWD}/root" PREFIX=/opt/aba
    # The helper finds the keeper in its own directory.
    run -0 env PATH=/usr/bin:/bin root/opt/aba/bin/aba-lock lease acquire --help
    help=${output}
    expect_text 'Usage: aba-lock lease acquire'
    run -0 mandoc -T ascii root/opt/aba/share/man/man1/aba-lock-lease.1
    text=$(col -b <<<"${output}")
    while read -r option; do
        [[ ${text} == *"${option}"* ]] || {
            echo "the man page does not name ${option}"
            return 1
        }
    done < <(grep -oE -- '--[a-z-]+' <<<"${help}" | grep -v -- '--help')
    run -0 bash -c 'cd root && find . -type f -name "*lockd*" -printf "%m %p\n" | sort -k 2'
    [[ ${output} == '755 ./opt/aba/bin/aba-lockd
644 ./opt/aba/lib/systemd/system/aba-lockd.service
644 ./opt/aba/lib/sysusers.d/aba-lockd.conf
644 ./opt/aba/share/man/man8/aba-lockd.8' ]]
    run -0 root/opt/aba/bin/aba-lockd --version
    run -0 grep '^ExecStart=' root/opt/aba/lib/systemd/system/aba-lockd.service
    expect_text 'ExecStart=/opt/aba/bin/aba-lockd serve'
    run -0 mandoc -T lint -W warning root/opt/aba/share/man/man8/aba-lockd.8
    run -0 mandoc -T ascii root/opt/aba/share/man/man8/aba-lockd.8
    text=$(col -b <<<"${output}")
    while read -r option; do
        [[ ${text} == *"${option}"* ]] || {
            echo "the man page does not name ${option}"
            return 1
        }
    done < <(root/opt/aba/bin/aba-lockd serve --help | grep -oE -- '--[a-z-]+')
    run -0 in_project uninstall DESTDIR="${PWD}/root" PREFIX=/opt/aba
    run -0 find root -type f
    expect_silence
}

@test "the helper contains nothing of the service, and is the same binary after the service was built" {
    run -0 env HOME="${REAL_HOME}" bash -c 'cd "$1" && cargo tree --locked -p aba-lock -e normal --prefix none' - "${PROJECT}"
    [[ ${output} == *aba-lock* ]]
    [[ ! ${output} =~ (tokio|axum|tonic|hyper|rusqlite|rustls|ring|prost) ]]
    run -0 in_project service keeper SERVICE_PROFILE=dev
    # Cargo builds the helper again only if its crates or their features have changed.
    run -0 in_project install PREFIX="${PWD}/root"
    cmp "${ABA_LOCK_BIN}" root/bin/aba-lock
}

@test "the helper contains no directory of the computer that built it" {
    [[ ${ABA_LOCK_BIN} == */release/* ]] || skip 'debug builds contain the directory of the source, for debuggers'
    run -1 grep -aoF -e "${PROJECT}/" -e "${CARGO_HOME:-${REAL_HOME}/.cargo}/" "${ABA_LOCK_BIN}"
    expect_silence
}

@test "WITH_FLOCK=yes installs the name flock, make uninstall removes it, and another flock stays" {
    run -0 in_project install DESTDIR="${PWD}/root" PREFIX=/opt/aba
    [[ ! -e root/opt/aba/bin/flock ]]
    run -0 in_project install DESTDIR="${PWD}/root" PREFIX=/opt/aba WITH_FLOCK=yes
    run -0 in_project install DESTDIR="${PWD}/root" PREFIX=/opt/aba WITH_FLOCK=yes
    run -0 root/opt/aba/bin/flock file sh -c 'flock -n file true || echo held'
    expect_text held
    run -0 in_project uninstall DESTDIR="${PWD}/root" PREFIX=/opt/aba
    run -0 find root ! -type d
    expect_silence
    # Other links to the helper are removed, too.
    run -0 in_project install DESTDIR="${PWD}/root" PREFIX=/opt/aba
    ln -s "${PWD}/root/opt/aba/bin/aba-lock" root/opt/aba/bin/flock
    run -0 in_project install DESTDIR="${PWD}/root" PREFIX=/opt/aba WITH_FLOCK=yes
    ln -sf "${PWD}/root/opt/aba/bin/aba-lock" root/opt/aba/bin/flock
    run -0 in_project uninstall DESTDIR="${PWD}/root" PREFIX=/opt/aba
    run -0 find root ! -type d
    expect_silence
    # A flock that is not the helper stays.
    echo other >root/opt/aba/bin/flock
    run -2 in_project install DESTDIR="${PWD}/root" PREFIX=/opt/aba WITH_FLOCK=yes
    expect_text 'bin/flock is there, and not ours'
    run -0 in_project uninstall DESTDIR="${PWD}/root" PREFIX=/opt/aba
    run -0 find root ! -type d
    expect_text root/opt/aba/bin/flock
    run -0 cat root/opt/aba/bin/flock
    expect_text other
}

@test "WITH_FLOCK is yes or no" {
    for word in Yes 1 true 'yes no'; do
        run -2 in_project -n install DESTDIR="${PWD}/root" WITH_FLOCK="${word}"
        expect_text "WITH_FLOCK is yes or no, and not '${word}'"
    done
    for word in '' yes no; do
        run -0 in_project -n uninstall DESTDIR="${PWD}/root" WITH_FLOCK="${word}"
    done
}

@test "the helper is linked in the noted order if the linker can do that, and otherwise as usual" {
    link=${PROJECT}/src/bin/aba-lock/link/ordered-cc
    mkdir tools
    for tool in nm mktemp dirname sed paste awk rm head; do
        ln -s "$(type -P "${tool}")" tools/
    done
    # Prints its words and the first line of the order file.
    cat >tools/cc <<'END'
#!/bin/sh
for word in "$@"; do
    case ${word} in
        -Wl,--symbol-ordering-file=*)
            head -n 1 "${word#*file=}"
            [ -z "${FAILS-}" ] || exit 1
            ;;
        -Wl,*) ;;
        *) echo "<${word}>" ;;
    esac
done
END
    chmod +x tools/cc
    cp "$(type -P true)" a.rcgu.o
    first=$(head -n 1 "${PROJECT}/src/bin/aba-lock/link/order")
    plain=$'<a b>\n<-fuse-ld=lld>\n<a.rcgu.o>'
    mkdir temporary
    linked() {
        run -0 env PATH="${PWD}/tools" TMPDIR="${PWD}/temporary" "$@"
        [[ -z $(ls temporary) ]]
    }

    linked "${link}" 'a b' -fuse-ld=lld a.rcgu.o
    [[ ${output} == "${plain}"$'\n'"${first}" ]]
    linked "${link}" -fuse-ld=bfd -fuse-ld=lld
    [[ ${output} == $'<-fuse-ld=bfd>\n<-fuse-ld=lld>\n'"${first}" ]]
    # The last one decides.
    linked "${link}" -fuse-ld=lld -fuse-ld=bfd
    [[ ${output} == $'<-fuse-ld=lld>\n<-fuse-ld=bfd>' ]]
    linked "${link}" a
    [[ ${output} == '<a>' ]]
    # An order that the linker refuses, no directory for it, no space, and an object that nm cannot read.
    linked FAILS=yes "${link}" 'a b' -fuse-ld=lld a.rcgu.o
    [[ ${output} == "${plain}" ]]
    linked TMPDIR=/no/such "${link}" 'a b' -fuse-ld=lld a.rcgu.o
    [[ ${output} == "${plain}" ]]
    linked "${BASH}" -c 'ulimit -f 0; exec "$0" "$@"' "${link}" 'a b' -fuse-ld=lld a.rcgu.o
    [[ ${output} == "${plain}" ]]
    echo none >a.rcgu.o
    linked "${link}" 'a b' -fuse-ld=lld a.rcgu.o
    [[ ${output} == "${plain}" ]]
    cp "$(type -P true)" a.rcgu.o
    for tool in nm mktemp dirname sed paste awk; do
        mv "tools/${tool}" away
        linked "${link}" 'a b' -fuse-ld=lld a.rcgu.o
        [[ ${output} == "${plain}" ]]
        mv away "tools/${tool}"
    done
    # A link that fails without an order file, too, is a failure.
    printf '#!/bin/sh\nexit 3\n' >tools/cc
    run -3 env PATH="${PWD}/tools" "${link}" -fuse-ld=lld
}

@test "the helper is built for musl, which is added with rustup, and otherwise for this system, with a message" {
    mkdir tools library
    for tool in bash sed timeout touch env; do
        ln -s "$(type -P "${tool}")" tools/
    done
    cat >tools/rustc <<'END'
#!/bin/bash
case $* in
    -vV) echo "host: ${HOST}" ;;
    '--print target-libdir --target '*-musl*) [[ -z ${UNKNOWN-} ]] && echo "${LIBRARY_OF_RUST}" ;;
    '--print target-libdir --target '*) echo "${LIBRARY_OF_HOST}" ;;
esac
END
    chmod +x tools/rustc
    export LIBRARY_OF_RUST=${PWD}/library LIBRARY_OF_HOST=${PWD}/host
    mkdir host
    touch host/libstd-0.rlib
    choose() {
        run -0 env PATH="${PWD}/tools" HOST="$1" "${PROJECT}/tests/tools" target
        [[ ${output} == "$2" ]]
        run -0 --separate-stderr env PATH="${PWD}/tools" HOST="$1" "${PROJECT}/tests/tools" install target
        [[ -z ${output} && ${stderr} == "${3-}" ]]
    }
    missing='missing: the Rust target ARCH-musl: the helper is built for ARCH-gnu, and each call takes twice the time'

    choose x86_64-unknown-linux-gnu x86_64-unknown-linux-gnu "${missing//ARCH/x86_64-unknown-linux}"
    choose armv7-unknown-linux-gnueabihf armv7-unknown-linux-gnueabihf \
        'missing: the Rust target armv7-unknown-linux-musleabihf: the helper is built for armv7-unknown-linux-gnueabihf, and each call takes twice the time'
    UNKNOWN=yes choose x86_64-unknown-linux-gnu x86_64-unknown-linux-gnu "${missing//ARCH/x86_64-unknown-linux}"
    # Rustup cannot add the target, adds it, and has added it before.
    printf '#!/bin/bash\necho "no network" >&2\nexit 1\n' >tools/rustup
    chmod +x tools/rustup
    choose x86_64-unknown-linux-gnu x86_64-unknown-linux-gnu $'no network\n'"${missing//ARCH/x86_64-unknown-linux}"
    printf '#!/bin/bash\n[[ $* == "target add x86_64-unknown-linux-musl" ]] && touch "${LIBRARY_OF_RUST}/libstd-0.rlib"\n' >tools/rustup
    run -0 --separate-stderr env PATH="${PWD}/tools" HOST=x86_64-unknown-linux-gnu "${PROJECT}/tests/tools" install target
    [[ -z ${output} && -z ${stderr} ]]
    choose x86_64-unknown-linux-gnu x86_64-unknown-linux-musl
    choose x86_64-alpine-linux-musl x86_64-alpine-linux-musl
    # A target that the caller names is used.
    run -0 in_project -n build HELPER_TARGET=riscv64gc-unknown-linux-gnu
    expect_text '--target riscv64gc-unknown-linux-gnu'
    [[ ${output} != *'install target'* ]]
}

@test "make install refuses a PREFIX in which the helper would not be found" {
    run -2 in_project install DESTDIR="${PWD}/root" PREFIX=/opt/a:b
    expect_text "PREFIX is '/opt/a:b', and must not contain ':' or blanks"
    run -2 in_project install DESTDIR="${PWD}/root" PREFIX='/opt/a b'
    expect_text "PREFIX is '/opt/a b', and must not contain ':' or blanks"
    [[ ! -e root ]]
}

@test "the tour has ten lines, which show a lock, a task, a port and a file" {
    run -0 in_project install demo PREFIX="${PWD}/there"
    [[ $(grep -c '^\$ ' <<<"${output}") == 10 ]]
    expect_text 'aba-lock: backup is already running: pid '
    expect_text $'\nstatus 75\n'
    expect_text 'backup: held, exclusive'
    expect_text 'aba-lock: timed out after 1 s waiting for backup'
    expect_text 'aba-lock: ended pid '
    expect_text $'\nlocked\n'
    expect_text $'-size: 1\n+size: 2'
    [[ ${output} != *'not found'* ]]
}

@test "the helper is static and stripped" {
    run -0 file -b "${ABA_LOCK_BIN}"
    expect_text 'statically linked'
    expect_text ', stripped'
}

@test "the helper is smaller than 3 MiB" {
    [[ $(aba-lock --version) == *-musl* ]] || skip 'the helper is for another C library'
    [[ $(stat -Lc %s "${ABA_LOCK_BIN}") -lt 3145728 ]]
}

@test "each command has a man page that names each option in its help" {
    while read -r command; do
        page=${PROJECT}/target/man/man1/aba-lock-${command}.1
        run -0 mandoc -T lint -W warning "${page}"
        run -0 mandoc -T ascii "${page}"
        text=$(col -b <<<"${output}")
        while read -r option; do
            [[ ${text} == *"${option}"* ]] || {
                echo "the man page of ${command} does not name ${option}"
                return 1
            }
        done < <(aba-lock "${command}" --help | grep -oE -- '--[a-z-]+')
    done < <(aba-lock --help | sed -n '/^Locks:/,/^Options:/s/^  \([a-z-]*\) .*/\1/p' | grep -vx help)
}

@test "an installed library finds the helper that was installed with it, whatever PATH is" {
    mkdir -p prefix/bin prefix/share/aba-lock other
    cp "${PROJECT}"/shell/{aba-lock,run_once}.bash prefix/share/aba-lock/
    ln -s "${ABA_LOCK_BIN}" prefix/bin/aba-lock
    # A helper of another version.
    printf '#!/bin/sh\nexit 99\n' >other/aba-lock
    chmod +x other/aba-lock
    local path from library
    script='source "$1" || exit 90
source "${1%/*}/run_once.bash" || exit 90
cd / && aba_lock_operation save && aba_lock_held save && aba_run_once -w -i a -- true && run_once -w -i b -- true'
    for path in /usr/bin:/bin "${PWD}/other:/usr/bin:/bin"; do
        for from in "${PWD} ./prefix/share/aba-lock/aba-lock.bash" "${PWD} prefix/share/aba-lock/aba-lock.bash" \
            "${PWD}/prefix/share/aba-lock ./aba-lock.bash" "${PWD}/prefix/bin ../share/aba-lock/aba-lock.bash" \
            "/ ${PWD}/prefix/share/aba-lock/aba-lock.bash"; do
            library=${from#* }
            run -0 env -i -C "${from% *}" HOME="${HOME}" PATH="${path}" bash -euc "${script}" bash "${library}"
            # In two files, as `make install` does.
            install_library prefix
            run -0 env -i -C "${from% *}" HOME="${HOME}" PATH="${path}" bash -euc "${script}" bash "${library}"
            rm prefix/share/aba-lock/aba-lock-*.bash
            cp "${WHOLE_LIBRARY}" prefix/share/aba-lock/aba-lock.bash
        done
    done
    # ABA_LOCK_BIN has precedence.
    run -125 env -i HOME="${HOME}" PATH=/usr/bin:/bin ABA_LOCK_BIN=/nowhere/aba-lock bash -c "${script}" bash \
        "${PWD}/prefix/share/aba-lock/aba-lock.bash"
    expect_text 'the helper /nowhere/aba-lock (from ABA_LOCK_BIN) was not found'
    # A copy elsewhere uses PATH.
    cp prefix/share/aba-lock/*.bash other/
    run -125 env -i HOME="${HOME}" PATH=/usr/bin:/bin bash -c "${script}" bash "${PWD}/other/aba-lock.bash"
    expect_text 'the helper aba-lock was not found'
    run -0 env -i HOME="${HOME}" PATH="${PWD}/prefix/bin:/usr/bin:/bin" bash -c "${script}" bash "${PWD}/other/aba-lock.bash"
}
