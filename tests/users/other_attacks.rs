//! The attacks of [`attacks`](crate::attacks) with tasks, numbers, and the files of options.

use crate::attack_table::{Attack, VictimCall, call, files, hard_links, unequal};

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

/// A call for a lock that would be logged. It prints nothing but the output of the command.
const QUIET_LOCK: &str = "echo quiet $($H lock a -- echo ran 2>&1)";

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
            call("$H lock a -- echo ran", 0, "ran"),
            call("$H list", 0, $cause),
            call("$H lock a -- $H list 2>/dev/null", 0, "held "),
            call("$H list --json 2>/dev/null", 0, "\"name\": \"a\""),
            call("$H metrics", 0, $cause),
            call("$H lock a -- $H metrics 2>/dev/null", 0, "aba_lock_held{lock=\"a\",scope=\"directory\"} 1"),
            call("$H clean --tasks", 125, "1 removed, 0 left, 1 failed"),
        ]
    };
}

macro_rules! refused_numbers {
    ($cause:literal) => {
        &[
            call("$H reserve --pool gpu --range 1-9", 125, $cause),
            call("$H reserve --pool gpu --range 1-3 -- echo ran", 125, $cause),
            call("$H reserve --list", 125, $cause),
            call("$H reserve --list --pool gpu", 125, $cause),
            call("$H reserve --check --pool gpu", 125, $cause),
            call("$H reserve --prune --pool gpu", 125, $cause),
            call("$H release --pool gpu", 125, $cause),
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

pub(crate) const OTHER_ATTACKS: &[Attack] = &[
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
        refused_numbers!("it belongs to user 61002"),
    ),
    // The files of options.
    files(
        "a link as the pid file",
        ": >aba-a.lock; chmod 666 aba-a.lock; ln -s $BASE/target p",
        refused_pid_file!("it is a symbolic link"),
    ),
    files(
        "a FIFO as the pid file",
        ": >aba-a.lock; chmod 666 aba-a.lock; mkfifo p; chmod 666 p",
        refused_pid_file!("it is a FIFO"),
    ),
    hard_links(
        "a hard link as the pid file",
        ": >aba-a.lock; chmod 666 aba-a.lock; ln $BASE/empty p",
        &[call("$H lock --pid-file $BASE/locks/p a -- echo ran", 0, "ran")],
    ),
    files(
        "a link as the event log",
        ": >aba-a.lock; chmod 666 aba-a.lock; ln -s $BASE/target log",
        refused_log!("it is a link that another user may have made"),
    ),
    files(
        "a link to a missing file as the event log",
        ": >aba-a.lock; chmod 666 aba-a.lock; ln -s $BASE/none log",
        refused_log!("it is a link that another user may have made"),
    ),
    hard_links(
        "a hard link as the event log",
        ": >aba-a.lock; chmod 666 aba-a.lock; ln $BASE/target log",
        refused_log!("it is a hard link that another user may have made"),
    ),
    files(
        "a FIFO as the event log",
        ": >aba-a.lock; chmod 666 aba-a.lock; mkfifo log; chmod 666 log",
        refused_log!("no process reads this FIFO"),
    ),
    hard_links(
        "a hard link as the log of the directory",
        "ln $BASE/target events.jsonl; : >aba-a.lock; chmod 1666 aba-a.lock",
        &[
            call(QUIET_LOCK, 0, "quiet ran"),
            call("$H log --enable", 125, "it has another name (hard link), so it may be a file of another user"),
            unequal("$H log --disable", (125, "cannot turn logging off for"), (0, "events are no longer logged")),
        ],
    ),
    files(
        "a link as the log of the directory",
        "ln -s $BASE/target events.jsonl; : >aba-a.lock; chmod 1666 aba-a.lock",
        &[
            call(QUIET_LOCK, 0, "quiet ran"),
            call("$H log", 125, "it is not a regular file"),
            call("$H log --enable", 125, "cannot use the event log"),
            unequal(
                "$H log --disable",
                (125, "is a symbolic link, and is left as it is"),
                (0, "is a symbolic link, and is left as it is"),
            ),
        ],
    ),
    files(
        "a FIFO as the log of the directory",
        "mkfifo events.jsonl; chmod 666 events.jsonl; : >aba-a.lock; chmod 1666 aba-a.lock",
        &[
            call(QUIET_LOCK, 0, "quiet ran"),
            call("$H log", 125, "it is not a regular file"),
            call("$H log --enable", 125, "it is not a regular file"),
            unequal(
                "$H log --disable",
                (125, "is a FIFO, and is left as it is"),
                (0, "is a FIFO, and is left as it is"),
            ),
        ],
    ),
    files(
        "a log of the hostile user as the log of the directory",
        "truncate -s 1G events.jsonl; chmod 666 events.jsonl; : >aba-a.lock; chmod 1666 aba-a.lock",
        &[
            call(QUIET_LOCK, 0, "quiet ran"),
            call("$H log", 125, "it belongs to a user who does not own the directory"),
            call("$H log --enable", 125, "it belongs to a user who does not own the directory"),
        ],
    ),
    files(
        "a link as the file to update",
        "ln -s $BASE/target f",
        refused_update!("it is a link that another user may have made"),
    ),
    files("a FIFO as the file to update", "mkfifo f; chmod 666 f", refused_update!("f is a FIFO, not a regular file")),
    files(
        "a link as the lock of an update",
        "echo a >f; chmod 666 f; ln -s $BASE/target f.lock",
        refused_update!("f.lock: it is a symbolic link"),
    ),
    files(
        "a FIFO as the lock of an update",
        "echo a >f; chmod 666 f; mkfifo f.lock; chmod 666 f.lock",
        refused_update!("f.lock: it is a FIFO"),
    ),
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
