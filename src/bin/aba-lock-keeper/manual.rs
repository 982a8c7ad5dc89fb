//! The sections of the man page that do not follow from the options. Only the program that writes the man pages
//! includes this file.

pub(crate) const PROMISES: [(&str, &str); 7] = [
    (
        "one at a time",
        "of all machines that use the same server, one process has a name. On each machine the local lock is taken first, so \
         one process a machine stands in the queue of the server, in the order of their coming",
    ),
    (
        "as long as the script lives",
        "a keeper, two processes in a session of their own, renews the lease until the script and all that inherited its lock \
         descriptor have ended, and then gives it back. When one of the two is killed or hangs, the other replaces it. What ends \
         all of a control group at once, as systemctl stop does with SIGTERM, does not end them before the script. Of a script that \
         uses the shell library, and of lock --no-inherit, the lease was given back when it has ended. Of lock without that the \
         keeper does it a moment after the command: who then asks with -n from another machine may be refused, and should wait \
         with -t",
    ),
    (
        "told before another can have it",
        "if the lease cannot be renewed, those who have the lock get SIGTERM when two thirds of its time have passed since the \
         last good renewal, and SIGKILL before all of it has: a shell at its prompt, which does not heed SIGTERM, loses its \
         window then. They are told why on the script's stderr, or in the system's log where that cannot be written to at once. \
         With --on-lost warn they are told and go on. Any other text is run with `sh -c`, in /, with the name of the lock as $1 and in ABA_LOCK_NAME, and the pid of the holder in ABA_LOCK_PID; \
         if that cannot be run, or ends with another status than 0, they are ended all the same; and if it runs still when the time \
         is over, it is killed with what it has started, and they are, too",
    ),
    (
        "the fencing token",
        "ABA_LOCK_TOKEN, which grows with each acquisition of the name: what the lock guards should refuse a smaller one. Of \
         several names it has one each, with blanks between, in the order in which they were named. It is \
         what holds when all else fails: when both keepers are killed at once, or a process may not be signalled from here",
    ),
    (
        "aba_lock_check NAME",
        "asks the server, before a step that must not be done twice, whether the lease is ours still",
    ),
    (
        "in etcd",
        "keys as etcdctl lock and Go's concurrency.Mutex make them, NAME/LEASE, in one queue with theirs; other keys below NAME/ are \
         none of it. A holder with a keeper also leaves a mark, the key NAME!holder: if its lease ends before it gives that back, \
         as after a crash, the name is free when twice the time has passed since the last renewal, because a leader that was \
         stopped and goes on may end leases too early. Users of etcd that may use a name need the prefix NAME for reading and \
         writing",
    ),
    (
        "a lease without a keeper",
        "as `lease acquire` gives it, ends when it is not renewed, whatever who has it does then",
    ),
];
