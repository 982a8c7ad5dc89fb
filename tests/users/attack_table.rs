//! The attacks of [`attacks`](crate::attacks) with lock files and with the directory.

use crate::user::{BOB, ROOT, User};

/// An attack. The texts are for `sh -c`, in the directory of the locks, with `$BASE`, the directory above it, and `$H`, the helper.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// The user who prepares the files: root where the kernel may not let the hostile user do it.
    pub(crate) by: User,
    pub(crate) script: &'static str,
    /// The text of a Python program of the hostile user, which then goes on. `f` is the lock file of `a`, open to all users.
    pub(crate) program: &'static str,
    pub(crate) root_mode: u32,
    pub(crate) calls: &'static [VictimCall],
}

/// A call of each victim.
pub(crate) struct VictimCall {
    pub(crate) text: &'static str,
    /// The status and a part of the output, for the user and for root.
    pub(crate) expected: [(i32, &'static str); 2],
}

pub(crate) const fn call(text: &'static str, status: i32, output: &'static str) -> VictimCall {
    VictimCall { text, expected: [(status, output); 2] }
}

pub(crate) const fn unequal(text: &'static str, user: (i32, &'static str), root: (i32, &'static str)) -> VictimCall {
    VictimCall { text, expected: [user, root] }
}

pub(crate) const fn files(name: &'static str, script: &'static str, calls: &'static [VictimCall]) -> Attack {
    Attack { name, by: BOB, script, program: "", root_mode: 0o1777, calls }
}

/// Files that root makes, as the hostile user could do it where `fs.protected_hardlinks` is 0.
pub(crate) const fn hard_links(name: &'static str, script: &'static str, calls: &'static [VictimCall]) -> Attack {
    Attack { by: ROOT, ..files(name, script, calls) }
}

const fn process(name: &'static str, program: &'static str, calls: &'static [VictimCall]) -> Attack {
    Attack { program, ..files(name, "", calls) }
}

const LIBRARY: &str = "bash -c 'source $BASE/aba-lock.bash; aba_lock_operation --wait=1 a; echo ran'";

/// The cause in messages about a lease of the hostile user.
const LEASED: &str = "user 61002, has a file lease on it";

/// Gives up a lease for the first process that opens the file, and never again.
const LEASE_AGAIN: &str = "def give_up(*_):
    fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    while True:
        try:
            return fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except BlockingIOError:
            pass
signal.signal(signal.SIGIO, give_up)
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)";

/// Replaces the lock file all the time.
const REPLACEMENTS: &str = "import threading
def make_file(): os.close(os.open('new', os.O_RDWR | os.O_CREAT, 0o666)); os.chmod('new', 0o666)
def make_fifo(): os.mkfifo('new'); os.chmod('new', 0o666)
def link_to(name): os.symlink(os.environ['BASE'] + '/' + name, 'new')
makers = [make_file, make_fifo, make_file, lambda: link_to('target'), make_file, lambda: link_to('none')]
def replace():
    while True:
        for make in makers:
            try:
                make(); os.rename('new', 'aba-a.lock')
            except OSError:
                pass
threading.Thread(target=replace, daemon=True).start()";

/// Makes a call once for each of these numbers: each call must end by itself, with one of these statuses.
macro_rules! again {
    ($numbers:literal, $text:literal, $statuses:literal) => {
        call(
            concat!(
                "for i in ",
                $numbers,
                "; do timeout -s KILL 30 ",
                $text,
                " >/dev/null 2>&1; case $? in ",
                $statuses,
                ") ;; *) echo \"status $?\"; exit 9 ;; esac; done"
            ),
            0,
            "",
        )
    };
}

/// The calls for a lock file that the hostile user replaces all the time.
const REPLACED: &[VictimCall] = &[
    again!("1 2 3 4 5 6 7 8", "$H lock -t 1 a -- true", "0 | 124 | 125"),
    again!("1 2 3 4 5 6 7 8", "bash -c 'source $BASE/aba-lock.bash; aba_lock_operation --wait=1 a'", "0 | 1 | 125"),
    again!("1 2 3 4 5 6 7 8", "$H lock --slots 2 -t 1 a -- true", "0 | 124 | 125"),
    again!("1 2 3 4 5 6 7 8", "$H status a", "0 | 1 | 125"),
    again!("1 2 3 4 5 6 7 8", "$H wait -t 1 a", "0 | 124 | 125"),
    again!("1 2 3 4 5 6 7 8", "$H list", "0"),
    again!("1 2 3 4 5 6 7 8", "$H clean", "0 | 125"),
];

/// The calls for a state root that is refused.
macro_rules! refused_root {
    ($root:literal, $cause:literal) => {
        &[
            call(concat!("ABA_LOCK_DIR=", $root, " $H lock a -- echo ran"), 125, $cause),
            call(concat!("ABA_LOCK_DIR=", $root, " $H path --create a"), 125, $cause),
            call(concat!("ABA_LOCK_DIR=", $root, " $H clean"), 125, $cause),
            call(
                concat!(
                    "ABA_LOCK_DIR=",
                    $root,
                    " bash -c 'source $BASE/aba-lock.bash; aba_lock_operation a; echo ran'"
                ),
                125,
                $cause,
            ),
            call(concat!("ABA_LOCK_DIR=", $root, " $H run-once -w -i job -- echo ran"), 125, $cause),
            call(concat!("ABA_LOCK_DIR=", $root, " $H reserve --pool gpu --range 1-9"), 125, $cause),
        ]
    };
}

/// The calls for a lock file that none of them may use, for this reason.
macro_rules! refused {
    ($cause:literal) => {
        &[
            call("$H lock -t 1 a -- echo ran", 125, $cause),
            call("$H lock --slots 2 a -- echo ran", 125, $cause),
            call("$H lock --coalesce a -- echo ran", 125, $cause),
            call("$H lock --replace a -- echo ran", 125, $cause),
            call(LIBRARY, 125, $cause),
            call("$H status a", 125, $cause),
            call("$H status --json a", 125, $cause),
            call("$H unlock a --kill", 125, $cause),
            call("$H wait -t 1 a", 125, $cause),
            call("$H list", 0, $cause),
            call("$H clean", 0, $cause),
        ]
    };
}

/// The calls for a free lock whose file is hostile.
const FREE: &[VictimCall] = &[
    call("$H status a", 1, "a: free"),
    call("$H status --json a", 1, "\"state\": \"free\""),
    call("$H list", 0, "free"),
    call("$H wait -t 1 a", 0, ""),
    call("$H unlock a --kill", 0, "a is free: no process to kill"),
    call("$H lock --coalesce a -- echo ran", 0, "ran"),
    call("$H lock --coalesce=strict a -- echo ran", 0, "ran"),
    call("$H lock --replace a -- echo ran", 0, "ran"),
    call("$H lock --slots 2 a -- echo ran", 0, "ran"),
    call("$H lock -s a -- echo ran", 0, "ran"),
    call("$H lock a -- echo ran", 0, "ran"),
    call(LIBRARY, 0, "ran"),
    call("$H clean", 0, ""),
];

/// The calls for a lock that the hostile user holds forever. The last ones end the holder, if root makes them.
const HELD: &[VictimCall] = &[
    call("$H lock a -- echo ran", 75, "a is held by "),
    call("$H lock -t 1 a -- echo ran", 124, "timed out after 1 s waiting for a, held by "),
    call("$H lock -s -t 1 a -- echo ran", 124, "timed out after 1 s waiting for a, held by "),
    call("$H lock --slots 2 -t 1 a -- echo ran", 124, "timed out after 1 s waiting for a, held by "),
    call("$H lock --priority low -t 1 a -- echo ran", 124, "timed out after 1 s waiting for a, held by "),
    call("$H lock --coalesce -t 1 a -- echo ran", 124, "timed out after 1 s waiting for a, held by "),
    call("$H lock --max-time 9 -t 1 a -- echo ran", 124, "timed out after 1 s waiting for a, held by "),
    call(LIBRARY, 1, "timed out after 1 s waiting for a, held by "),
    call("$H wait -t 1 a", 124, "timed out after 1 s waiting for a, held by "),
    call("$H status a", 0, "a: held, exclusive"),
    call("$H list", 0, "held"),
    call("$H clean", 0, "left lock a"),
    unequal("$H unlock a --kill --grace 1", (75, "refused to release a"), (0, "ended pid ")),
    unequal("$H lock --replace -t 1 a -- echo ran", (75, "its holder cannot be seen from here"), (0, "ran")),
];

/// The calls for a lock file whose bytes the hostile user has locked forever.
const LOCKED_BYTES: &[VictimCall] = &[
    call("$H lock -s a -- echo ran", 75, "a cannot be acquired: its lock file is locked by fcntl(2)"),
    call("$H lock -s -t 1 a -- echo ran", 124, "waiting for a: its lock file is locked by fcntl(2)"),
    call("$H lock --slots 2 -t 1 a -- echo ran", 124, "waiting for a: its lock file is locked by fcntl(2)"),
    call("$H lock --replace -t 1 a -- echo ran", 124, "waiting for a: its lock file is locked by fcntl(2)"),
    call("$H lock a -- echo ran", 0, "ran"),
    call("$H lock --coalesce -t 1 a -- echo ran", 0, "ran"),
    call("$H wait -t 1 a", 0, ""),
    call(LIBRARY, 0, "ran"),
    call("$H status a", 1, "a: free"),
];

pub(crate) const ATTACKS: &[Attack] = &[
    // The lock file.
    files("a link to a file of a victim", "ln -s $BASE/target aba-a.lock", refused!("it is a symbolic link")),
    files("a link to a file that does not exist", "ln -s $BASE/none aba-a.lock", refused!("it is a symbolic link")),
    files("a FIFO", "mkfifo aba-a.lock; chmod 666 aba-a.lock", refused!("it is a FIFO")),
    files("a directory", "mkdir aba-a.lock; chmod 777 aba-a.lock", refused!("it is a directory")),
    files(
        "a socket",
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('aba-a.lock')\"; chmod 666 aba-a.lock",
        refused!("it is a socket"),
    ),
    files("a link to a device", "ln -s /dev/zero aba-a.lock", refused!("it is a symbolic link")),
    hard_links(
        "a hard link to an empty file of a victim",
        "ln $BASE/empty aba-a.lock; ln $BASE/empty aba-b.lock; ln $BASE/empty aba-c.lock",
        &[
            call("$H status a", 1, "problem: its lock file is refused: it has 4 names (hard links)"),
            call("$H wait -t 1 a", 0, ""),
            // The owner of the file and root replace it.
            call("$H lock a -- echo ran", 0, "ran"),
            call("bash -c 'source $BASE/aba-lock.bash; aba_lock_operation --wait=1 b; echo ran'", 0, "ran"),
            call("$H path --create c", 0, "aba-c.lock"),
            call("stat -c %h%s $BASE/empty", 0, "10"),
        ],
    ),
    hard_links(
        "a hard link to a file with content",
        "ln $BASE/target aba-a.lock",
        &[
            call("$H lock a -- echo ran", 125, "it has 2 names (hard links)"),
            call("$H lock --coalesce a -- echo ran", 125, "it has 2 names (hard links)"),
            call("$H lock --replace a -- echo ran", 125, "it has 2 names (hard links)"),
            call(LIBRARY, 125, "it has 2 names (hard links)"),
            call("$H lock a -- echo ran", 125, "hint: run `ABA_LOCK_DIR="),
            call("$H clean a", 0, "left lock a: it has content that aba-lock did not write"),
        ],
    ),
    hard_links(
        "a hard link to a lock file of root",
        ": >aba-a.lock; chmod 666 aba-a.lock; ln aba-a.lock $BASE/bob/name",
        &[
            call("$H status a", 1, "problem: its lock file is refused: it has 2 names (hard links)"),
            call("$H status --json a", 1, "\"problem\": \"its lock file is refused: it has 2 names (hard links)"),
            call("$H doctor; true", 0, "aba-a.lock is refused: it has 2 names (hard links)"),
            unequal("$H status a", (1, "hint: run as root: `ABA_LOCK_DIR="), (1, "hint: run `ABA_LOCK_DIR=")),
            unequal("$H wait -t 1 a", (125, "hint: run as root: `ABA_LOCK_DIR="), (0, "")),
            unequal("$H lock a -- echo ran", (125, "hint: run as root: `ABA_LOCK_DIR="), (0, "ran")),
            unequal(LIBRARY, (125, "it has 2 names (hard links)"), (0, "ran")),
        ],
    ),
    files("a sparse file of 1 GB", "truncate -s 1G aba-a.lock; chmod 666 aba-a.lock", FREE),
    files("a sparse file of 1 GB that begins like a record", "printf 'aba_lock_record=1\\npid=1\\n' >aba-a.lock; truncate -s 1G aba-a.lock; chmod 666 aba-a.lock", FREE),
    files("random content", "head -c 100000 /dev/urandom >aba-a.lock; chmod 666 aba-a.lock", FREE),
    files(
        "a record with escape sequences",
        "printf \"aba_lock_record=1\\npid=1\\ntick=1\\nboot=$(cat /proc/sys/kernel/random/boot_id)\\nns=$(stat -Lc %i /proc/self/ns/pid)\\nuser=\\033]0;x\\007\\ncommand=\\033[31mrm\\r\\nwho=\\302\\233x\\nmode=exclusive\\nlocker=1\\nsince=\\033[2J\\ntoken=5\\n\" >aba-a.lock; chmod 666 aba-a.lock",
        FREE,
    ),
    files(
        "a record with the highest token",
        "printf \"aba_lock_record=1\\npid=1\\ntick=1\\nboot=$(cat /proc/sys/kernel/random/boot_id)\\nns=$(stat -Lc %i /proc/self/ns/pid)\\nmode=exclusive\\nlocker=1\\ntoken=18446744073709551615\\n\" >aba-a.lock; chmod 666 aba-a.lock",
        FREE,
    ),
    files(
        "a record with huge fields",
        "{ printf 'aba_lock_record=1\\ncommand='; head -c 100000 /dev/zero | tr '\\0' x; printf '\\npid=1\\ntoken=1\\n'; } >aba-a.lock; chmod 666 aba-a.lock",
        FREE,
    ),
    files(
        "a file that others may not open",
        ": >aba-a.lock; chmod 000 aba-a.lock",
        &[
            unequal("$H lock -t 1 a -- echo ran", (125, "Permission denied (owner: "), (0, "ran")),
            unequal(LIBRARY, (125, "Permission denied (owner: "), (0, "ran")),
            call("$H status a", 1, "a: free"),
            call("$H wait -t 1 a", 0, ""),
            unequal("$H list", (0, "its lock file cannot be opened: Permission denied (owner: "), (0, "free")),
            call("$H clean", 0, ""),
        ],
    ),
    files(
        "a file that others may only read",
        ": >aba-a.lock; chmod 444 aba-a.lock",
        &[
            call("$H lock -t 1 a -- echo ran", 0, "ran"),
            unequal("$H lock --slots 2 a -- echo ran", (125, "not open for writing"), (0, "ran")),
            call(LIBRARY, 0, "ran"),
            call("$H status a", 1, "a: free"),
        ],
    ),
    process(
        "numbers of runs at their limit",
        "for name in 'started', 'needed', 'completed': os.setxattr(f, 'user.aba-lock.' + name, b'18446744073709551615')",
        FREE,
    ),
    process(
        "numbers of runs that are none",
        "for name in 'started', 'needed', 'completed', 'waiter': os.setxattr(f, 'user.aba-lock.' + name, b'\\xff\\x1b[31m' * 50)",
        FREE,
    ),
    // Processes that hold the lock, or parts of its file, forever.
    process("a lock that is never released", "fcntl.flock(f, fcntl.LOCK_EX)", HELD),
    process("a POSIX lock on the whole lock file", "fcntl.lockf(f, fcntl.LOCK_EX)", LOCKED_BYTES),
    process("a POSIX lock on the bytes of the policies", "fcntl.lockf(f, fcntl.LOCK_EX, 0, 1 << 62)", LOCKED_BYTES),
    process(
        "a forged record that names a process of a victim",
        "fcntl.flock(f, fcntl.LOCK_EX)
boot, ns = open('/proc/sys/kernel/random/boot_id').read().strip(), os.stat('/proc/self/ns/pid').st_ino
os.pwrite(f, f'aba_lock_record=1\\npid={os.environ[\"VICTIM\"]}\\ntick=99999999999\\nboot={boot}\\nhost=h\\nns={ns}\\nuser=root\\ncommand=evil\\nmode=exclusive\\nlocker={os.getpid()}\\nsince=2026-01-01T00:00:00Z\\ntoken=5\\n'.encode(), 0)",
        HELD,
    ),
    process(
        "a lease on the lock file",
        "signal.signal(signal.SIGIO, signal.SIG_IGN); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)",
        &[
            call("$H lock a -- echo ran", 75, LEASED),
            call("$H lock -t 1 a -- echo ran", 124, LEASED),
            call("$H lock --skip-ok a -- echo ran", 0, ""),
            call(LIBRARY, 1, LEASED),
            call("bash -c 'source $BASE/aba-lock.bash; aba_lock_operation a; echo ran'", 1, LEASED),
            call("$H flock -n aba-a.lock echo ran", 1, ""),
            call("$H flock -w 1 aba-a.lock echo ran", 1, ""),
            call("$H status a", 0, LEASED),
            call("$H wait -t 1 a", 124, LEASED),
            call("$H path --create a", 125, "another process has a file lease on it (owner: 61002)"),
            call("$H list", 0, "held"),
            call("$H clean", 0, "left lock a"),
        ],
    ),
    process(
        "a read lease on the lock file",
        "signal.signal(signal.SIGIO, signal.SIG_IGN); os.close(f); f = os.open('aba-a.lock', os.O_RDONLY); fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_RDLCK)",
        &[
            call("$H lock a -- echo ran", 75, LEASED),
            call(LIBRARY, 1, LEASED),
            call("$H status a", 0, LEASED),
            call("$H wait -t 1 a", 124, LEASED),
        ],
    ),
    process("a lease that is taken again when the first process that opens the file has closed it",
        LEASE_AGAIN,
        &[again!("1 2 3", "bash -c 'source $BASE/aba-lock.bash; aba_lock_operation --wait=1 a'", "0 | 1 | 125")],
    ),
    process("other files, FIFOs and links, each in place of the lock file for an instant", REPLACEMENTS, REPLACED),
    // The directory.
    Attack {
        root_mode: 0o777,
        ..files(
            "a directory without the sticky bit",
            ":",
            &[
                call("$H lock a -- echo ran", 125, "every user can replace files in it"),
                call(LIBRARY, 125, "every user can replace files in it"),
                call("$H run-once -w -i job -- echo ran", 125, "every user can replace files in it"),
                call("$H reserve", 125, "every user can replace files in it"),
            ],
        )
    },
    Attack {
        root_mode: 0o777,
        ..files(
            "a lock file in a directory without the sticky bit",
            ": >aba-a.lock; chmod 666 aba-a.lock",
            refused_root!("$BASE/locks", "every user can replace files in it, because it is not sticky"),
        )
    },
    files(
        "a link in place of the state root",
        "ln -s $BASE/work team",
        refused_root!("$BASE/locks/team", "locks/team: it is a link that another user may have made"),
    ),
    files(
        "a link above the state root",
        "mkdir -m 777 $BASE/bob/team; mkdir -m 1777 $BASE/bob/team/locks; chmod 755 $BASE/bob; : >$BASE/bob/team/locks/aba-a.lock; chmod 666 $BASE/bob/team/locks/aba-a.lock; ln -s $BASE/bob/team team",
        refused_root!("$BASE/locks/team/locks", "locks/team: it is a link that another user may have made"),
    ),
    files(
        "a link in place of the state root, with a slash at the end of the path",
        "ln -s $BASE/work team",
        refused_root!("$BASE/locks/team/", "locks/team/: it is a link that another user may have made"),
    ),
    files(
        "a link above the target of the user's own link, which is relative",
        "mkdir -m 777 $BASE/bob/team; mkdir -m 1777 $BASE/bob/team/locks; chmod 755 $BASE/bob; : >$BASE/bob/team/locks/aba-a.lock; chmod 666 $BASE/bob/team/locks/aba-a.lock; ln -s $BASE/bob/team team",
        refused_root!("$BASE/own/link", "locks/team: it is a link that another user may have made"),
    ),
    hard_links(
        "a hard link in a directory of the hostile user",
        "ln $BASE/empty $BASE/bob/aba-a.lock",
        &[
            // Root may remove the name, and the owner of the file may not.
            unequal("ABA_LOCK_DIR=$BASE/bob $H lock a -- echo ran", (125, "it has 2 names (hard links)"), (0, "ran")),
            unequal(
                "ABA_LOCK_DIR=$BASE/bob bash -c 'source $BASE/aba-lock.bash; aba_lock_operation a; echo ran'",
                (125, "it has 2 names (hard links)"),
                (0, "ran"),
            ),
        ],
    ),
    files(
        "names with control characters, blanks, dashes and expansions",
        "e=$(printf '\\033[31mx\\nq'); : >\"aba-$e.lock\"; : >'aba-$(touch evil).lock'; : >aba--rf.lock; : >'aba-a b.lock'; : >aba-..lock; mkdir \"runner-$e\" 'runner'; chmod 777 runner; mkdir \"runner/$e\" runner/-rf",
        &[
            call("$H list", 0, ""),
            call("$H list --json", 0, "\"locks\": []"),
            call("$H run-once --list", 0, ""),
            call("$H clean", 0, "0 removed, 0 left"),
            call("$H clean --tasks", 0, "0 removed"),
            call("$H metrics", 0, ""),
        ],
    ),
];
