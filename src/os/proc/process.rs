//! Facts about processes, read from `/proc`. All other parts of the program call these functions as `process::NAME`.
//!
//! Each function reads what it needs when it is called, and promises nothing about the next moment: a process can end,
//! and its number can be given to another process, at any time. Callers that need proof compare start times
//! ([`is_alive`]) or open the process ([`Process`](crate::os::Process)). On systems without `/proc`, the folder `portable`
//! has the facts that the kernel shows there; all other answers are "not known".
//!
//! The files in layers, the lowest first: `read` (the files of `/proc`), `stat` (one line of numbers for each process),
//! `activity` (threads, children, the present system call), `namespace` (PID namespaces), then `lifetime`, `user`,
//! `command_line` and `descriptors`.

mod activity;
mod command_line;
mod descriptors;
mod lifetime;
#[cfg(linux)]
mod mount;
mod namespace;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod read;
mod stat;
mod user;

pub(crate) use activity::call_arguments;
#[cfg(linux)]
pub(crate) use activity::other_thread;
pub use activity::{
    caught_signals, children, children_of_threads, has_timers, ignored_signals, is_running, sleeps_in, threads,
    times_it_slept, tracer,
};
pub(crate) use command_line::try_words;
pub use command_line::{
    InitialVariable, command_line, initial_variable, is_plain_word, local_command_line, local_words, name,
    runs_our_program, words,
};
pub use descriptors::{
    descriptors, file_of_descriptor, is_guarded, is_pipe, may_be_looked_into, may_read, may_write, pipes_it_reads,
    pipes_it_writes, prints_to, writes_to_pipe,
};
pub(crate) use descriptors::{process_of_pidfd, sends_signals};
pub use lifetime::{has_ended, is_alive};
#[cfg(linux)]
pub(crate) use mount::device_of_mount;
pub(in crate::os) use namespace::forget_namespace;
pub use namespace::{
    LocalNumbers, are_hidden, boot_id, can_be_seen, has_our_numbers, local_numbers, namespace_of, number_of,
    own_number, pid_namespace,
};
pub(in crate::os::proc) use read::has_vanished;
pub(crate) use read::{decode_lossy, read_small, read_whole, try_read_small};
pub(crate) use stat::try_all_pids;
pub use stat::{
    ProcessStat, RunState, all_ancestors, all_pids, ancestors, count_ancestors, parent, read_all_stats, read_stat,
    start_time,
};
pub use user::{UNKNOWN_USER, group_name, home_of, is_known_user, user_name, user_of};
