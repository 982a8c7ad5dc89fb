//! The texts that are only in the pages of the commands.

/// The description of `aba-lock`.
pub(super) const DESCRIPTION: &str = "\
aba-lock keeps two copies of a shell script or command from running at the same time. A command runs under a lock with `aba-lock \
lock NAME -- COMMAND`, and a script acquires a lock with the functions of aba-lock.bash(7).

The locks are locks of the kernel (flock(2)) on files in a directory of the user, ~/.aba, so they exclude only processes of the same \
user. The kernel releases a lock when its holder ends, no matter how it ends.

To share locks, several users set ABA_LOCK_DIR to the same directory. Its mode decides who shares them, whatever the umask is. If \
only its owner may write to it, new lock files are private (0600). If its group may, they get that group and mode 0660. If all users \
may and the directory is sticky, as /tmp is (1777), they get mode 0666. If it is not sticky, aba-lock refuses it, because any user \
could replace a file whose lock is held. A directory that all users may write to, but not its group (1757), is refused, too. \
An access control list counts as what the bits of the group say, which are its mask: if they allow writing, a new lock file gets a list, \
which lets those lock it who may write to the directory. A default list of the directory has no effect. Every user who shares a \
directory can hold its locks, and so block the others. A file lease (fcntl(2)) on a lock file blocks them, too, and counts as a lock that \
its process holds, so `unlock --kill` ends that process. A lock file with several names (hard links) is refused in such a directory, because another user may have made one. \
Calls of its owner and of root replace it, if no process uses it. The content of lock files is only shown: the kernel decides which process holds a \
lock. In a directory that all users share, each user has tasks and numbers of their own, in the directories runner-UID and \
reserve-UID. If another user has made one of these, commands that need it fail, and those that also show other things print a warning.

Other commands show and end the holders of locks, run a task only once, change files, reserve ports and other numbers, and \
extend locks to several machines.

aba-lock is for Linux. It compiles for macOS and FreeBSD, where we have not run it. There, the process that holds a lock is known only \
from its record, waiters are not shown, and no deadlock is found, so that scripts that wait for each other without a time limit wait forever. \
--slots, --priority, --replace, --coalesce, --max-time and --fcntl are refused, and so is --no-inherit of aba_lock_operation. \
The process that uses a port is named only if this user may see its sockets.";

/// The differences between `aba-lock flock` and flock(1), and their reasons.
pub(super) const DIFFERENCES: [(&str, &str); 18] = [
    (
        "Signals",
        "When aba-lock flock gets INT, TERM, HUP, QUIT, USR1 or USR2, it passes the signal on to the command, and \
         waits until the command has ended. If the command died of the signal, it dies of the same signal. flock(1) \
         dies of these signals, and the command keeps running with the lock.",
    ),
    (
        "Ctrl-C",
        "If the command cleans up after Ctrl-C, aba-lock flock waits for it, and exits with its status. flock(1) ends \
         at once, so the shell continues while the command still runs.",
    ),
    (
        "A signal to the whole process group",
        "If a signal is sent to the process group, as by timeout(1) of coreutils or `kill -- -PGID`, the command gets \
         it twice: directly, and from aba-lock flock, which cannot know that the command got it, too. (Ctrl-C is an \
         exception.) To avoid this, send the signal only to aba-lock flock (`timeout --foreground`, `kill PID`), or \
         use --no-fork.",
    ),
    (
        "SIGKILL with -o",
        "If aba-lock flock is killed, the command is killed, too (Linux). Otherwise, the lock would be free while the \
         command still runs, and a second command could start. Without -o, the command holds the lock and continues, \
         as with flock(1).",
    ),
    (
        "A lock file that is removed",
        "After acquiring the lock, aba-lock flock checks that the path still leads to the locked file. If it does \
         not, it creates the file again and locks that, or fails if it may not. With flock(1), a process that waited \
         for a removed file locks that file, while another process can lock a new file at the same path.",
    ),
    (
        "A file of another user in a directory like /tmp",
        "An existing file is opened without O_CREAT. With O_CREAT, the kernel refuses to open it there, even for root \
         (fs.protected_regular).",
    ),
    (
        "A FIFO or a serial line",
        "It is opened at once, even if no process has opened the other end of the FIFO. Reading from the inherited \
         descriptor blocks as usual. flock(1) waits until the other end is opened, or the line has a carrier, even \
         with -n.",
    ),
    (
        "A file lease (fcntl(2), F_SETLEASE)",
        "A lease of another process on the file counts as a lock that the process holds, so -n and -w end with the status of a \
         conflict. flock(1) blocks when it opens the file, for up to 45 s, even with -n.",
    ),
    (
        "NFS",
        "For an exclusive lock, the file is opened for writing if the file system requires it, as with flock(1), but \
         never with O_CREAT.",
    ),
    ("Closed standard descriptors", "The lock file is never opened as standard input, output or error of the command."),
    (
        "A blocked SIGALRM",
        "-w works even if the parent process blocks the signal of the timer, as some services do. flock(1) then waits \
         forever.",
    ),
    (
        "--verbose",
        "The holder of the lock is printed, too, on standard error. The messages come before the output of the \
         command, and are also printed with --no-fork. If standard output is not a terminal, flock(1) prints them \
         only after the command has ended.",
    ),
    (
        "--fcntl, --start, --length",
        "These options work as in util-linux 2.42, on Linux only. --start and --length imply --fcntl. Sizes are read \
         in the same way, with the same rounding of fractions (1.7K is 2048). For an exclusive lock, the file is \
         opened for writing. Directories, read-only files and the running script can therefore not be locked \
         exclusively.",
    ),
    ("--fd N COMMAND", "Locks a descriptor and then runs a command. This takes two calls of flock(1)."),
    ("Abbreviated long options", "The older options have priority: --s means --shared, although --start exists."),
    (
        "-w 1e5000, -w 1e-5000",
        "A number outside the range of a long double is too long for a timer (status 71), or counts as 0. flock(1) \
         reports wrong usage (64).",
    ),
    ("-w 0,5", "The decimal separator is always a point, regardless of the locale."),
    ("Messages", "The wording differs. The messages go to the same stream, and begin with `flock: `, too."),
];

/// The options that only the shell library uses. They are hidden in the definitions: no help or completion shows them.
pub(super) const PLUMBING: [(&str, &str); 7] = [
    (
        "lock --await-open",
        "instead of a command: acquire nothing, and wait as for the lock until the lock file can be opened, because no process has a \
         file lease on it; `path --open-for` exits with 77 if one has",
    ),
    (
        "lock --try-first",
        "with --fd: if the call would have to wait, acquire nothing and exit with 77 at once, or with 78 if this process ignores \
         SIGINT or SIGQUIT",
    ),
    (
        "lock --waited TIME",
        "with --fd: continue a wait that began this long ago: the timeout counts from there, and the event log gets no second \
         line about the contention",
    ),
    (
        "lock --heed-keyboard",
        "with --fd: let SIGINT and SIGQUIT end the wait, although a shell has its background jobs ignore them",
    ),
    ("status --lease", "with --fd and NAME: also ask the server whether the lease of the lock is still held"),
    ("update --shell BASH", "run CMD with this bash if CMD is an exported function"),
    (
        "update --state N",
        "with --shell: run the script on this descriptor first, which describes the calling shell; CMD may be a function of it",
    ),
];
