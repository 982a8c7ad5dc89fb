#!/usr/bin/env bats
# The libraries for sh and zsh in a directory in which other users have files.

load helper
load sh_helper

@test "in each shell, a script locks in a directory in which other users have files, and leaves no process" {
    in_each_shell 0 'slot: 1
locked: 0
refused: 125
processes: 0' <<'END'
umask 0
mkdir -m 1777 "$ABA_LOCK_DIR"
aba_lock_operation --slots 2 many
echo "slot: $ABA_LOCK_SLOT"
aba_lock_operation save
echo "locked: $?"
mkfifo "$ABA_LOCK_DIR/aba-fifo.lock"
aba_lock_operation --on-conflict return fifo 2>/dev/null
echo "refused: $?"
i=0
set -- $(pgrep -f "open-for=$$ ")
while [ "$#" != 0 ] && [ "$i" -lt 200 ]; do
    sleep 0.1
    i=$((i + 1))
    set -- $(pgrep -f "open-for=$$ ")
done
echo "processes: $#"
END
}

@test "in each shell, a file lease in a directory in which other users have files counts as a lock" {
    in_each_shell 0 'refused: 1
late: 1
locked: 0' <<'END'
mkdir -m 1777 "$ABA_LOCK_DIR"
aba-lock path --create save >/dev/null
rm -f leased
python3 -c 'import fcntl, os, signal, sys, time
signal.signal(signal.SIGIO, signal.SIG_IGN)
f = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
open("new", "w").write(str(os.getpid()))
os.rename("new", "leased")
time.sleep(100)' "$ABA_LOCK_DIR/aba-save.lock" 3>&- >/dev/null 2>&1 &
until [ -e leased ]; do sleep 0.1; done
holder=$(cat leased)
aba_lock_operation --on-conflict return save 2>said
echo "refused: $?"
grep -q "cannot be opened: pid $holder (" said || echo "no cause"
aba_lock_operation --on-conflict return --wait=0.3 save 2>/dev/null
echo "late: $?"
kill "$holder"
aba_lock_operation --wait save
echo "locked: $?"
END
}
