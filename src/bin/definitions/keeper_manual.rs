//! The sections of the man page that do not follow from the options. Only the helper, which prints the page, includes this file.

/// The guarantees of a lease, and their limits.
pub(crate) const GUARANTEES: [(&str, &str); 9] = [
    (
        "mutual exclusion",
        "One process at a time holds a lease, on all machines that use the same server, which grants the lease in the \
         order of arrival. `aba-lock lock --server` and scripts acquire the local lock first, so at most one process of \
         each machine waits at the server. `aba-lock lease run` and `aba-lock lease acquire` use no local lock.",
    ),
    (
        "lifetime",
        "A keeper (two processes in a session of their own) renews the lease until the script and all processes that \
         inherited its lock descriptor have exited, and then releases the lease. If one of the two processes is \
         killed or hangs, the other one replaces it. A SIGTERM to all processes of a control group, such as that of \
         systemctl stop, does not end the keeper before the script. For a script that uses the shell library, and for \
         lock --no-inherit, the lease has been released by the time the script or the command has exited. For lock \
         without --no-inherit, the keeper releases the lease a moment after the command has exited. In that moment, \
         an attempt with -n from another machine may be refused: use -t instead, which waits.",
    ),
    (
        "loss of a lease",
        "If the lease cannot be renewed, its holders get SIGTERM when two thirds of its time to live have passed \
         since the last renewal, and SIGKILL before all of it has passed, so that they have ended before another \
         process can acquire the lease. (An interactive shell ignores SIGTERM, so it gets SIGKILL, and its window \
         closes.) The keeper reports the reason on the stderr of the script, or in the system log if a write to that \
         stderr would block. With --on-lost warn, the keeper only reports the loss. Any other value than term or warn \
         is a command, which is run with `sh -c` in the directory /: $1 and ABA_LOCK_NAME are the name of the lock, \
         and ABA_LOCK_PID is the pid of the holder. If the command cannot be run or fails, the keeper ends the \
         holders. If the command has not ended when the time is over, the keeper kills the command with the processes \
         that it started, and the holders.",
    ),
    (
        "fencing token",
        "ABA_LOCK_TOKEN is a number that grows with each acquisition of the name. The resource that the lock guards \
         should refuse a token that is smaller than one it has seen before. This protects the resource even when both \
         processes of the keeper are killed at once, or when the keeper may not signal a holder. If a script acquires \
         several names, the variable holds one token for each name, separated by blanks, in the order of the names on \
         the command line.",
    ),
    (
        "aba_lock_check NAME",
        "Asks the server whether this script still holds the lease. Call this function before a step that must not be \
         done twice.",
    ),
    (
        "etcd",
        "The keys have the form NAME/LEASE, as those of etcdctl lock and of concurrency.Mutex in Go, and wait in the \
         same queue. Other keys below NAME/ are ignored. A holder with a keeper also writes a mark: the key \
         NAME!holder. If its lease ends before the holder removes the mark, for example after a crash, the name is \
         free when twice the time to live has passed since the last renewal, because an etcd leader that was \
         suspended may end leases too early. An etcd user needs read and write permission for the prefix NAME to use \
         a name.",
    ),
    (
        "lease run",
        "A keeper renews the lease, as for a script, but no local lock is acquired, and no file is written. SIGINT, \
         SIGTERM, SIGHUP and SIGQUIT go to the command and to all processes that inherited its descriptor 200 or above, \
         so a cancelled job ends them all. A signal during the wait gives back what run has got, and waits up to 2 s for the answer \
         to a request on its way. With a lock service, the lease gets a --ttl of more than 30 s only when it has a keeper: if run is \
         killed before that, the lease ends after at most 30 s. The lease is released when the command ends, also if it left a process in the \
         background. After a signal, run waits up to 5 s for these processes. If one still runs then, the lease is kept \
         until it ends. If run is killed with SIGKILL, the command is killed, too, and the lease is released when all \
         these processes have ended. In a script of a CI runner, begin the last line with exec: a shell does not pass \
         signals on.",
    ),
    (
        "lease without a keeper",
        "A lease of `lease acquire` has no keeper. If it is not renewed in time, it ends, even while the work that it \
         guards is still running. So choose a --ttl that is longer than the job may take, or call renew in each step. \
         With a lock service, the lease gets this time only when its id has been printed or written to the file of \
         --output: if acquire is killed before that, the lease ends after at most 30 s. If a signal ends acquire, it has released the \
         lease. If its parent ends while it waits, such as the shell of a cancelled job, acquire ends as after SIGTERM.",
    ),
    (
        "secrets",
        "The id of a lease is no secret if the service has a token file: only the owner of the token that acquired the \
         lease may release it. It needs only lock:write; show, list and aba_lock_check need lock:read. Tokens are read from the file ABA_LOCK_SERVER_SECRET_FILE, and never from the command \
         line, which other users can see. The file contains one line: the token, or USER:PASSWORD for etcd.",
    ),
];
