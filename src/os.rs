//! System calls and `/proc`. This folder knows nothing of locks by name; the folders above call its functions as
//! `os::NAME`.
//!
//! All `unsafe` code of the library is here. Each `unsafe` block is a call into libc, and the comment above it says why
//! its arguments are valid. Only the first thread waits for locks (the file `thread` says why). Functions that fork,
//! or change the environment or the umask, assume that the process has no other thread.
//!
//! The layers, the lowest first:
//!
//! 1. One system call or concept: `limit`, `signal_action`, `signal_mask`, `signal`, `wait`, `clock`, `descriptor`, `directory`, `file`,
//!    `access_list`, `file_access`, `flock`, `range`, `slot`, [`bytes`], `priority`, `lease`, `output`, `terminal`, `mutex`, [`mode`], [`number_map`],
//!    `pages`, `this_process`, `unwinding`, `variable`,
//!    `memory`, `first_times`, `general_heap`, `heap`.
//! 2. Signal handlers and the timer: `signal_counts`, `passed_signal`, `timer`, `interrupt`, `forward`, `unlock`,
//!    `watch`. Also `planted_link`.
//! 3. Processes: `command`, `child_signals`, `child`, `detach`, `copier`, `thread`, `companion`, [`proc`], `kqueue`, `process_handle`, `poll`,
//!    `file_watch`, `watcher`, `foreign_output`.
//! 4. Uses of these: `again`, `append`, `binding`, `examine`, `holding`, `identity`, `listening`, `owner`, `probe`, [`replace`],
//!    `new_file`, `screen`.

mod access_list;
mod again;
mod append;
mod asked_processes;
mod binding;
pub mod bytes;
mod child;
mod child_signals;
mod clock;
mod command;
mod companion;
mod copier;
mod descriptor;
mod detach;
mod directory;
mod examine;
mod file;
mod file_access;
mod file_watch;
#[cfg(all(target_os = "linux", target_env = "musl", target_pointer_width = "64"))]
mod first_times;
mod flock;
mod foreign_output;
mod forward;
mod general_heap;
mod heap;
#[cfg(not(linux))]
mod holding;
mod identity;
mod interrupt;
mod kept_file;
#[cfg(any(target_os = "macos", target_os = "freebsd"))]
mod kqueue;
mod lease;
mod limit;
mod listening;
// With glibc, only the unit tests use it, so that it is tested there, too.
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(all(target_env = "gnu", not(test)))))]
mod memory;
pub mod mode;
mod mutex;
mod new_file;
pub mod number_map;
mod output;
mod owner;
mod pages;
mod passed_signal;
mod planted_link;
mod poll;
mod priority;
mod probe;
pub mod proc;
mod process_handle;
mod range;
pub mod replace;
mod screen;
mod signal;
mod signal_action;
mod signal_counts;
mod signal_mask;
mod slot;
mod terminal;
mod this_process;
mod thread;
mod timer;
mod unlock;
#[cfg(all(target_env = "musl", panic = "abort"))]
mod unwinding;
mod variable;
mod wait;
mod watch;
mod watcher;

pub use access_list::{AccessList, has_access_list};
pub use again::open_for_reading;
pub use append::write_once;
pub use asked_processes::{AskedProcesses, SignalTime};
pub use binding::{ScriptBinding, end_bound_process, is_bound};
pub use child::{Child, ChildEvent, tie_to_this_process};
pub use clock::{ticks_per_second, ticks_since_boot};
pub use command::{DEFAULT_PATH, PreparedCommand, run_with_sh};
pub use companion::{prepare_long_step, with_companion};
pub use copier::Copier;
pub use descriptor::{
    callers_descriptor, can_overwrite, duplicate_for_children, enlarge_pipe, fill_standard_descriptors, had_owner,
    inherited_descriptors, is_writable, keep_back, let_wait, make_room, owner, second_descriptor, set_owner, share,
    try_second_descriptor,
};
pub use detach::{
    adopt_orphans, close_inherited_except, detach_from_caller, detached, let_user_inspect, quiet_stdio, redirect_output,
};
pub use directory::FileFacts;
pub(crate) use directory::{Directory, directory_inodes};
pub use examine::{Right, Rival, Room, may, room, undisturbed};
pub use file::{
    file_system, has_plain_inodes, is_network_file_system, leads_to, open_unblocked, order, same_file, try_leads_to,
    try_leads_to_through_link, try_names_at, word_for,
};
pub use file_access::FileAccess;
pub use file_watch::FileWatch;
pub use flock::{Mode, try_lock, unlock, wait_lock};
pub use foreign_output::write_to_stderr_of;
pub use forward::Forward;
pub use heap::Heap;
#[cfg(not(linux))]
pub(crate) use holding::find_mode_at;
#[cfg(not(linux))]
pub use holding::{find_mode, holds};
pub use identity::{Identity, identity};
pub use interrupt::{Interrupts, heed_keyboard, ignores_keyboard};
pub use kept_file::{KeptFile, open_link_to_look, open_to_look};
pub use lease::{be_alone, is_leased};
pub use limit::{NO_LIMIT, limit_of_file_size, limit_of_open_files, raise_limit_of_open_files};
pub use listening::listens;
pub use mutex::lock_mutex;
pub use new_file::{create_directory_with, create_file_with};
pub use output::{write_some, write_until_signal};
pub use owner::as_owner;
pub use pages::release_program_pages;
pub use planted_link::{refuse_if_planted, refuse_planted_link, refuse_planted_name};
pub use poll::{can_be_written, wait_for_any};
pub use priority::{BytePart, PRIORITY_BYTES, Priority, QueuePlace};
pub use probe::{Transport, Trial, try_bind};
pub use process_handle::Process;
pub use range::{
    RangeLock, range_in_the_way, try_lock_byte, try_lock_range, unlock_byte, unlock_bytes, unlock_range,
    wait_lock_byte, wait_lock_bytes, wait_lock_range,
};
pub use screen::{Event, Screen};
pub use signal::{die_of, exists, signal_child, signal_group, signal_self};
pub use signal_action::without_size_signal;
pub use slot::{ALL_SLOTS, MAX_SLOTS, Slot, TURNSTILE, around_slots, other_slots};
pub use terminal::{is_terminal, terminal_size, terminal_width};
pub use this_process::{host_name, is_called, is_member, note_words, parent_id, umask, user_id, without_umask, words};
pub use thread::{map_in_threads, separate_descriptors, wait_for_any_byte};
pub use timer::Alarm;
pub use unlock::UnlocksAtEnd;
pub(crate) use variable::read_variable;
pub use watch::{Bell, DirectoryWatch, can_watch};
pub use watcher::{WatcherAnswer, WatcherLink, WatcherSide, start_watcher};
