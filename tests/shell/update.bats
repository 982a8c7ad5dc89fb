#!/usr/bin/env bats
# aba_update in scripts.

load helper

@test "a command or a function makes the new content from the old one" {
    script tool <<'END'
set -euo pipefail
prefix='it is' count=3
replace() { sed "s/$1/$2/"; }
change() { replace "$1" "${prefix} $2 ${count}"; }
aba_update f change a 'new  one'
aba_update -v f sed s/b/c/
aba_update --backup=.old f -- tr c d
END
    printf 'a\nb\n' >f
    run -0 ./tool
    [[ ${output} == 'aba-lock: f was changed' ]]
    [[ $(<f) == $'it is new  one 3\nd' ]]
    [[ $(<f.old) == $'it is new  one 3\nc' ]]
}

@test "if a function fails, nothing is written, and its status is that of the call" {
    script tool <<'END'
set -eE -o pipefail
trap 'echo "trap: $?"' ERR
broken() { cat; return 7; }
strict() { cat; false; echo never; }
silent() { :; }
for function in broken strict silent; do
    status=0
    aba_update f "${function}" || status=$?
    echo "${status}"
done
aba_update f broken
echo 'went on'
END
    echo a >f
    run -7 ./tool
    [[ ${output} == $'7\n1\naba-lock: the new content of f is empty; the file is unchanged\nhint: if that is intended, use `--allow-empty`\n1\ntrap: 7' ]]
    [[ $(<f) == a ]]
}

@test "wrong usage and a missing helper are reported, and change nothing" {
    script tool <<'END'
aba_update f && exit
aba_update none cat && exit
ABA_LOCK_BIN=/none/aba-lock
aba_update f cat
END
    echo a >f
    run -125 ./tool
    expect_text 'missing argument: CMD'
    expect_text 'cannot open none: No such file or directory'
    expect_text 'the helper /none/aba-lock (from ABA_LOCK_BIN) was not found'
    [[ $(<f) == a && ! -e none.lock ]]
}

@test "a function works with unusual names, with any IFS, in posix mode and under nocasematch" {
    script tool <<'END'
set -o posix
shopt -s nocasematch
IFS=_x
readonly fixed=f1
array=(1 2)
f_x() { sed "s/a/$fixed/"; }
aba_update 'a file' f_x
echo "${IFS}"
END
    echo a >'a file'
    run -0 ./tool
    [[ ${output} == _x ]]
    [[ $(<'a file') == f1 ]]
}

@test "an update in a script that holds a lock keeps the lock" {
    script tool <<'END'
aba_lock_operation save
gather() { cat; aba_lock_held save && echo held; }
aba_update f gather
aba_lock_held save
END
    echo a >f
    run -0 ./tool
    [[ $(<f) == $'a\nheld' ]]
    run -1 aba-lock status save
}

@test "ten scripts that update a file at the same time lose no change" {
    script tool <<'END'
add() { cat; echo "$1"; }
aba_update f add "$1"
END
    : >f
    local pids='' n
    for n in {1..10}; do
        ./tool "${n}" 3>&- &
        pids+=" $!"
    done
    for n in ${pids}; do
        wait "${n}"
    done
    [[ $(sort -n f) == "$(seq 10)" ]]
}

@test "the output of the start-up file of bash does not get into the file" {
    script tool <<'END'
BASH_ENV=${PWD}/startup
same() { cat; echo more; }
aba_update f same
END
    echo 'echo noise' >startup
    echo a >f
    run -0 ./tool
    [[ $(<f) == $'a\nmore' ]]
}

@test "a function sees variables of any size and kind, and programs that it runs see those that are exported" {
    script tool <<'SCRIPT'
set -euf
shopt -s extglob nocasematch
large=$(head -c 300000 /dev/zero | tr '\0' x)
for n in {1..60}; do
    eval "much${n}=\${large:0:60000}"
done
export told=yes
bash_like=kept
array=('a b' '*' '')
readonly fixed=$'two\nlines "and $more" \\'
pattern() { [[ $1 == @(one|two) ]]; }
caller() {
    local near='lo cal'
    aba_update -v f change
}
change() {
    cat
    printf '%s\n' "${#large} ${#much60} ${bash_like} ${near} ${#array[@]} ${array[0]} ${array[1]} ${fixed}" "$-"
    pattern TWO && echo matched
    sh -c 'echo "${told-no} ${bash_like-no}"'
}
caller
aba_update f sh -c 'cat; [ -z "${bash_like-}" ] && echo plain'
# A word that is the name of a function and not the command.
f() { :; }
aba_update f sh -c 'cat; echo as it was'
SCRIPT
    echo old >f
    run -0 ./tool
    [[ ${output} == 'aba-lock: f was changed' ]]
    mapfile -t lines <f
    [[ ${lines[1]} == '300000 60000 kept lo cal 3 a b * two' && ${lines[2]} == $'lines "and $more" \\' ]]
    [[ ${lines[3]} == *e*f*u* ]]
    [[ ${lines[*]:4} == 'matched yes no plain as it was' ]]
}
