//! The attacks of [`attacks`](crate::attacks).

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

const fn call(text: &'static str, status: i32, output: &'static str) -> VictimCall {
    VictimCall { text, expected: [(status, output); 2] }
}

const fn unequal(text: &'static str, user: (i32, &'static str), root: (i32, &'static str)) -> VictimCall {
    VictimCall { text, expected: [user, root] }
}

const fn files(name: &'static str, script: &'static str, calls: &'static [VictimCall]) -> Attack {
    Attack { name, by: BOB, script, program: "", root_mode: 0o1777, calls }
}

/// Files that root makes, as the hostile user could do it where `fs.protected_hardlinks` is 0.
const fn hard_links(name: &'static str, script: &'static str, calls: &'static [VictimCall]) -> Attack {
    Attack { by: ROOT, ..files(name, script, calls) }
}

const fn process(name: &'static str, program: &'static str, calls: &'static [VictimCall]) -> Attack {
    Attack { program, ..files(name, "", calls) }
}

const LIBRARY: &str = "bash -c 'source $BASE/aba-lock.bash; aba_lock_operation --wait=1 a; echo ran'";

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

/// The calls for tasks that the hostile user has prepared in a place where each user has tasks of its own.
const OWN_TASKS: &[VictimCall] = &[
    call("$H run-once -p -i job", 1, ""),
    call("$H run-once -o -i job", 1, "no such task: job"),
    call("$H run-once -s -i job", 1, "no such task: job"),
    call("$H run-once -w -W 5 -i job -- echo ran", 0, "ran"),
    call("$H run-once --list", 0, "job"),
    call("$H list", 0, ""),
    call("$H run-once -r -i job", 0, ""),
    call("$H clean --tasks", 0, ""),
    call("$H run-once -G", 0, ""),
];

macro_rules! refused_tasks {
    ($cause:literal) => {
        &[
            call("$H run-once -p -i job", 125, $cause),
            call("$H run-once -w -W 5 -i job -- echo ran", 125, $cause),
            call("$H run-once -w -W 5 -i job", 125, $cause),
            call("$H run-once -o -i job", 125, $cause),
            call("$H run-once -r -i job", 125, $cause),
            call("$H run-once --list", 125, $cause),
            call("$H run-once -G", 125, $cause),
            call("$H clean --tasks", 125, $cause),
            call("$H list", 125, $cause),
            call("$H lock a -- echo ran", 0, "ran"),
        ]
    };
}

macro_rules! refused_numbers {
    ($cause:literal) => {
        &[
            call("$H reserve --pool gpu --range 1-9", 125, $cause),
            call("$H reserve --pool gpu --range 1-3 -- echo ran", 125, $cause),
            call("$H reserve --list", 125, ""),
            call("$H release --pool gpu", 125, ""),
            call("$H exclude --pool gpu 3", 125, $cause),
        ]
    };
}

macro_rules! refused_pid_file {
    ($cause:literal) => {
        &[
            call("$H lock --pid-file $BASE/locks/p a -- echo ran", 125, $cause),
            call("exec 9<>aba-a.lock; $H lock --fd 9 --pid-file $BASE/locks/p a; exit $?", 125, $cause),
            call("$H clean --pid-file $BASE/locks/p", 0, "left pid file"),
        ]
    };
}

macro_rules! refused_log {
    ($cause:literal) => {
        &[
            call("ABA_LOCK_LOG=$BASE/locks/log $H lock a -- echo ran", 0, $cause),
            call("exec 9<>aba-a.lock; ABA_LOCK_LOG=$BASE/locks/log $H lock --fd 9 a", 0, $cause),
        ]
    };
}

macro_rules! refused_update {
    ($cause:literal) => {
        &[
            call("$H update $BASE/locks/f -- sed s/a/b/", 125, $cause),
            call("echo new | $H write $BASE/locks/f", 125, $cause),
            call("echo new | $H write --create $BASE/locks/f", 125, $cause),
            call("$H update --backup $BASE/locks/f -- sed s/a/b/", 125, $cause),
        ]
    };
}

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
        "ln $BASE/empty aba-a.lock",
        &[
            call("$H lock a -- echo ran", 125, "it has 2 names (hard links)"),
            call("$H lock --coalesce a -- echo ran", 125, "it has 2 names (hard links)"),
            call("$H lock --replace a -- echo ran", 125, "it has 2 names (hard links)"),
            call(LIBRARY, 125, "it has 2 names (hard links)"),
            call("$H status a", 1, "a: free"),
            call("$H wait -t 1 a", 0, ""),
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
            call("$H list", 0, "free"),
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
            call("$H lock a -- echo ran", 125, "cannot open lock file"),
            call("$H status a", 1, "a: free"),
            call("$H wait -t 1 a", 0, ""),
            call("$H list", 0, "free"),
            call("$H clean", 0, "left lock a"),
        ],
    ),
    // The directory.
    Attack {
        root_mode: 0o777,
        ..files(
            "a directory without the sticky bit",
            ":",
            &[
                call("$H lock a -- echo ran", 125, "every user can replace files in its directory"),
                call(LIBRARY, 125, "every user can replace files in its directory"),
                call("$H run-once -w -i job -- echo ran", 125, "every user can replace files in its directory"),
                call("$H reserve", 125, "every user can replace files in its directory"),
            ],
        )
    },
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
    // Tasks.
    files(
        "a finished task with a saved command",
        "mkdir -p runner/job; chmod 777 runner runner/job; echo 0 >runner/job/exit; echo 'touch $BASE/evil' >runner/job/cmd.sh; echo evil >runner/job/log.out; chmod 777 runner/job/*",
        OWN_TASKS,
    ),
    files("a link in place of the directory of tasks", "ln -s $BASE/work runner", OWN_TASKS),
    files("a link in place of a task", "mkdir runner; chmod 777 runner; ln -s $BASE/work runner/job", OWN_TASKS),
    files("a FIFO in place of the directory of tasks", "mkfifo runner; chmod 666 runner", OWN_TASKS),
    files(
        "the directories of the tasks of the victims",
        "for user in 0 61001; do mkdir -p runner-$user/job; echo 0 >runner-$user/job/exit; echo 'touch $BASE/evil' >runner-$user/job/cmd.sh; chmod -R 777 runner-$user; done",
        refused_tasks!("it belongs to user 61002"),
    ),
    files(
        "links in place of the directories of the tasks of the victims",
        "for user in 0 61001; do ln -s $BASE/work runner-$user; done",
        refused_tasks!("it belongs to user 61002"),
    ),
    files(
        "FIFOs in place of the directories of the tasks of the victims",
        "for user in 0 61001; do mkfifo runner-$user; done",
        refused_tasks!("it belongs to user 61002"),
    ),
    // Numbers.
    files(
        "the registries of the victims",
        "for user in 0 61001; do mkdir reserve-$user; echo 'x' >reserve-$user/gpu; chmod -R 777 reserve-$user; done",
        refused_numbers!("it belongs to user 61002"),
    ),
    files(
        "links in place of the registries of the victims",
        "for user in 0 61001; do ln -s $BASE/work reserve-$user; done",
        refused_numbers!("it belongs to user 61002"),
    ),
    files(
        "FIFOs in place of the registries of the victims",
        "for user in 0 61001; do mkfifo reserve-$user; done",
        refused_numbers!("cannot create the directory"),
    ),
    // The files of options.
    files("a link as the pid file", ": >aba-a.lock; chmod 666 aba-a.lock; ln -s $BASE/target p", refused_pid_file!("it is a symbolic link")),
    files("a FIFO as the pid file", ": >aba-a.lock; chmod 666 aba-a.lock; mkfifo p; chmod 666 p", refused_pid_file!("it is a FIFO")),
    hard_links(
        "a hard link as the pid file",
        ": >aba-a.lock; chmod 666 aba-a.lock; ln $BASE/empty p",
        &[call("$H lock --pid-file $BASE/locks/p a -- echo ran", 0, "ran")],
    ),
    files("a link as the event log", ": >aba-a.lock; chmod 666 aba-a.lock; ln -s $BASE/target log", refused_log!("it is a link that another user may have made")),
    files("a link to a missing file as the event log", ": >aba-a.lock; chmod 666 aba-a.lock; ln -s $BASE/none log", refused_log!("it is a link that another user may have made")),
    hard_links("a hard link as the event log", ": >aba-a.lock; chmod 666 aba-a.lock; ln $BASE/target log", refused_log!("it is a hard link that another user may have made")),
    files("a FIFO as the event log", ": >aba-a.lock; chmod 666 aba-a.lock; mkfifo log; chmod 666 log", refused_log!("no process reads this FIFO")),
    hard_links(
        "a hard link as the log of the directory",
        "ln $BASE/target events.jsonl; : >aba-a.lock; chmod 1666 aba-a.lock",
        &[
            call("$H lock a -- echo ran", 0, "it has another name (hard link), so it may be a file of another user"),
            call("$H log --enable", 125, "it has another name (hard link), so it may be a file of another user"),
            unequal("$H log --disable", (125, "cannot unmark"), (0, "events are no longer logged")),
        ],
    ),
    files(
        "a link as the log of the directory",
        "ln -s $BASE/target events.jsonl; : >aba-a.lock; chmod 1666 aba-a.lock",
        &[
            call("$H lock a -- echo ran", 0, "cannot write to the event log"),
            call("$H log", 0, ""),
            call("$H log --enable", 125, "cannot use the event log"),
            call("$H log --disable", 125, "cannot use the event log"),
        ],
    ),
    files(
        "a FIFO as the log of the directory",
        "mkfifo events.jsonl; chmod 666 events.jsonl; : >aba-a.lock; chmod 1666 aba-a.lock",
        &[
            call("$H lock a -- echo ran", 0, "cannot write to the event log"),
            call("$H log", 125, "it is not a regular file"),
            call("$H log --enable", 125, "it is not a regular file"),
            call("$H log --disable", 125, "it is not a regular file"),
        ],
    ),
    files(
        "a log of the hostile user as the log of the directory",
        "truncate -s 1G events.jsonl; chmod 666 events.jsonl; : >aba-a.lock; chmod 1666 aba-a.lock",
        &[
            call("$H lock a -- echo ran", 0, "it belongs to a user who does not own the directory"),
            call("$H log", 0, ""),
            call("$H log --enable", 125, "it belongs to a user who does not own the directory"),
        ],
    ),
    files("a link as the file to update", "ln -s $BASE/target f", refused_update!("it is a link that another user may have made")),
    files("a FIFO as the file to update", "mkfifo f; chmod 666 f", refused_update!("f is a FIFO, not a regular file")),
    files("a link as the lock of an update", "echo a >f; chmod 666 f; ln -s $BASE/target f.lock", refused_update!("f.lock: it is a symbolic link")),
    files("a FIFO as the lock of an update", "echo a >f; chmod 666 f; mkfifo f.lock; chmod 666 f.lock", refused_update!("f.lock: it is a FIFO")),
    hard_links(
        "a hard link as the file to update",
        "ln $BASE/target f",
        &[
            call("$H update $BASE/locks/f -- sed s/a/b/", 0, ""),
            call("echo new | $H write $BASE/locks/f", 0, ""),
            call("$H update --backup $BASE/locks/f -- sed s/a/b/", 0, ""),
        ],
    ),
];
