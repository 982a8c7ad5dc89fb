//! Tasks (`run-once`): one process runs a command under an id; all others wait for it or read its outcome.
//!
//! A task is a directory. Its state is never stored: it follows from the files in the directory.
//!
//! | file | content |
//! |---|---|
//! | `lock` | locked (flock(2)) by the supervisor while the command runs, and for an instant by a process that starts, expires or resets the task; holds the holder record and the note of the end of the run, which also says whether `--max-time` ended it |
//! | `pid` | the process of the command, which leads a session and a process group; locked by the supervisor; removed when the run has ended |
//! | `exit` | the outcome: a decimal number. Its modification time is the start of a TTL |
//! | `log.out`, `log.err`, `log` | the output of the command. `log` is a link to `log.out`. The suffix `.1` marks the run before, `.prev` the last run before a reset or an expiry |
//! | `cmd.sh` | the saved command and its directory |
//! | `cmd`, `cwd`, `history` | for people: the command, the directory, and one line for each event. They are written a moment after a start has returned |
//!
//! The state is the first in this list whose condition holds:
//!
//! 1. `pid` is locked: **running**.
//! 2. `exit` holds 0: **succeeded**. A number from 128 to 165, the statuses of a command that a signal killed:
//!    **interrupted**, unless the note in `lock` says that `--max-time` ended the run with this status. Another number:
//!    **failed**.
//! 3. `pid` exists: **interrupted**, because the supervisor was killed.
//! 4. Otherwise: **new**.
//!
//! Looking at a task takes no lock that a starter could need. A look only tries the lock of `pid`. That disturbs no
//! process: a supervisor locks the file before it gets its name, and no other process needs this lock. (If a look tried
//! the lock of `lock`, then a process that starts the task at the same moment would take the looking process for a
//! supervisor.)
//!
//! A task also runs while a program other than this helper holds `lock` ([`foreign`]). To find such a program, all
//! processes must be examined, so this is done only if `lock` may be held.
//!
//! The supervisor is a process of this helper that is not a child of the caller: a process in between forks it, and ends. (That
//! one runs in the memory of the caller, see `os::detached`.) The supervisor keeps no open descriptor of the
//! caller. It holds the lock of the task and writes the outcome. Only the holder of the lock (`guard`) can start a
//! supervisor or change the files of the task. A process that starts or waits for the task also writes an outcome,
//! under this lock, in two cases: the supervisor of the last run was killed, or the program of the command cannot be
//! run.
//!
//! # The descriptors of the caller
//!
//! The process in the foreground keeps every descriptor that it inherited, because it may be the last process that holds the
//! descriptor of a lock: `aba-lock lock NAME -- aba-lock run-once -w ...` becomes the waiter, and that lock must be held until
//! the wait ends. So the lock of a script is held during a wait as it is during any other command of the script: if the script
//! is killed, its lock is released when the wait ends. The supervisor, and with it the command, must not keep the lock of a
//! script that has continued or ended. So the supervisor closes everything that it inherited before its starter returns.
//!
//! # Which process can be killed at which step
//!
//! | killed | left behind | the next start or wait |
//! |---|---|---|
//! | the starter, before the supervisor exists | perhaps the directory and the saved command; no `pid` | starts the task |
//! | the starter, later | the supervisor, which is detached from it | finds the task running |
//! | the supervisor, before the command runs | perhaps `pid`, which is not locked. No process: the child of the supervisor notices the end of its pipe, or that it has another parent, and exits | starts the task |
//! | the supervisor, while the command runs | the children of the command, and `pid`, which is not locked. The command itself is killed by its parent-death signal | kills the children, then runs the task again. It kills the processes that have the token of this run in their environment or write to its logs. It kills the session of the command only if these processes or the leader prove that it is that session, so that a reused pid is never killed |
//! | the supervisor, after it noted the end in `lock` | `pid`, which is not locked | writes `exit` from that note |
//! | the supervisor, after it wrote `exit` | `pid`, which is not locked | removes `pid` |
//! | the command, or its process group | nothing: the supervisor writes 128 + n | runs the task again |
//! | the command, while a process of the run outlives SIGKILL (it waits for a disk, or belongs to another user) | that process, and `pid`, which is not locked | kills the process, or fails and names it |
//! | the process that copies stderr (`--combined-log`) | nothing: the command gets SIGPIPE when it writes to stderr | runs the task again if SIGPIPE killed the command |
//! | a waiter | nothing | is not affected |
//! | a process that resets the task, between two removals | some of the files, and a free lock | sees the state that follows from these files. `lock` is removed last |
//!
//! Processes are searched in `/proc`, which may be that of another PID namespace (`unshare --pid` without `--mount-proc`). Pids
//! are then translated, and each process is signalled through a descriptor of its own ([`crate::os::Process`]). If `/proc` does
//! not show this process at all, the supervisor still knows when it has no descendants left, because it adopts orphans. But the
//! children that a killed supervisor left cannot be found then, and the task is not run again until they can.
//!
//! A waiter may be granted the lock of a file that was removed:
//!
//! 1. The waiter opens `lock` and waits while the task runs.
//! 2. The run ends, and a reset or purge removes `lock`.
//! 3. The waiter gets the lock of the removed file.
//!
//! So every grant is followed by a comparison of the open file with the path. The waiter reads from the removed file how the
//! run that it waited for ended.
//!
//! # Layers
//!
//! Each file imports only from those below it.
//!
//! | layer | module | holds |
//! |---|---|---|
//! | 8 | [`wait`], [`reset`], `clean` | wait for a task, stop and forget it, remove old tasks |
//! | 7 | [`start`], [`follow`] | start a task; show the output of a run |
//! | 6 | `run` | the start of a supervisor |
//! | 5 | `supervisor` | the parent of the command, which writes the outcome |
//! | 4 | `guard` | the lock of a task |
//! | 3 | `leftovers`, [`foreign`] | the processes of a killed run; runs by other programs |
//! | 2 | `look`, `logs`, [`saved`] | the state of a task, its logs and its saved command |
//! | 1 | `directory` | [`Task`]: the directory and its files |
//! | 0 | [`state`], [`stream`], `files`, `run_end`, [`error`] | plain data, and how files are opened |

mod clean;
mod directory;
pub mod error;
mod files;
pub mod follow;
pub mod foreign;
mod guard;
mod leftovers;
mod logs;
mod look;
pub mod reset;
mod run;
mod run_end;
pub mod saved;
pub mod start;
pub mod state;
pub mod stream;
mod supervisor;
pub mod wait;

pub use directory::Task;
