//! The members of a line of the event log (`ABA_LOCK_LOG`), which is a JSON object.

pub(crate) const EVENT_LOG: [(&str, &str); 12] = [
    ("time", "RFC 3339, UTC, with milliseconds"),
    ("event", "acquired, contended, timed_out, deadlock, replaced or released"),
    ("lock, path", "its name, or its path if it has none (--file, update); and its path"),
    ("pid, command", "of the script or command that it is for"),
    ("user", "who asked"),
    ("waited_seconds", "of acquired and timed_out"),
    ("mode, token", "of acquired: exclusive or shared, and the fencing token"),
    ("waits", "of contended: false if it gave up at once"),
    ("holder_pid, holder_command", "of contended: who had it, if that can be seen"),
    ("circle", "of deadlock: who waits for whom"),
    ("held_seconds", "of released, which unlock knows to a second"),
    (
        "(released)",
        "only where aba-lock does it: unlock --fd, --no-inherit, update, write. A script or command that just ends, or is \
         killed, is released by the kernel, and leaves no line",
    ),
];
