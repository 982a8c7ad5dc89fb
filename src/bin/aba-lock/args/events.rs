//! The members of a line of the event log, which is a JSON object.

pub(crate) const EVENT_LOG: [(&str, &str); 23] = [
    ("time", "the time of the event: RFC 3339, UTC, with milliseconds"),
    (
        "event",
        "acquired, contended, covered, timed_out, expired, taken_over, superseded, deadlock, replaced, inherited, released or free",
    ),
    (
        "lock, path",
        "the name of the lock (its path, with --file and update; `run-once ID` for a run of a task), and the path of the lock file",
    ),
    ("key", "the text from which the name was derived (--key)"),
    ("pid, command", "the script or command that the lock is for"),
    ("user", "the user who ran it"),
    ("waited_seconds", "in acquired, timed_out, superseded and free: the duration of the wait"),
    ("mode, token", "in acquired: exclusive or shared, and the fencing token"),
    ("slot, slots", "in acquired, with --slots: the number of the slot, and the number of slots of the lock"),
    ("waits", "in contended: true if the call waits, false if it failed at once"),
    ("skipped", "in contended and timed_out: true if a call with --skip-ok gives up"),
    (
        "waiter_pid, waiter_command",
        "in covered (--coalesce): the process that waits for the lock, if the call relies on it",
    ),
    (
        "holder_pid, holder_command",
        "in contended: the holder, if it can be seen; in taken_over: the holder that was ended; in inherited: a process that still holds \
         the lock, if it can be seen",
    ),
    ("circle", "in deadlock: the processes that wait for each other"),
    (
        "held_seconds",
        "in released, inherited and expired: how long the lock was held; with unlock, the precision is one second",
    ),
    (
        "cause, status, signal",
        "in released: release (by the holder), exit (of the command, with its exit status, and with the signal if one came to \
         aba-lock and ended the command), or kill (unlock --kill, after the exit if there is one); in inherited: the exit status of \
         the command",
    ),
    ("killer_pid, killer_user, killer_command", "in released, with kill: the process of `unlock --kill`"),
    ("max_seconds", "in expired: the maximum time (--max-time), after which the holders are ended"),
    (
        "(released)",
        "written only if aba-lock releases the lock: unlock, --no-inherit, update, write, and the end of a command in the log of \
         `log --enable`. If a script or command ends or is killed, the kernel releases the lock, and no line is written",
    ),
    (
        "(inherited)",
        "written in place of `released` if the command has ended, and a process that it started still holds the lock; after \
         `released` if that process cannot be seen",
    ),
    ("(taken_over)", "written by a call with --replace for each process that it has signalled"),
    ("(superseded)", "written by a call with --replace that gives up because a newer one takes the lock"),
    ("(free)", "written by `wait` when the lock is free, if it had to wait for longer than a tenth of a second"),
];
