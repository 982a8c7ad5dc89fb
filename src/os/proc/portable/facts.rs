//! The facts about processes, as plain data.

use std::path::PathBuf;

/// A process as the kernel describes it. It may have ended, with a parent that has not asked for its status yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::os) struct ProcessFacts {
    pub(in crate::os) pid: u32,
    pub(in crate::os) parent: u32,
    pub(in crate::os) group: u32,
    pub(in crate::os) session: u32,
    /// The process group that is in the foreground of its terminal; -1 if there is none.
    pub(in crate::os) foreground: i64,
    /// The start time, in ticks of the clock of [`ticks_since_boot`](crate::os::clock::ticks_since_boot).
    pub(in crate::os) start: u64,
    /// The letter of the state, as in `/proc/PID/stat`.
    pub(in crate::os) state: &'static str,
    /// The effective user.
    pub(in crate::os) uid: u32,
    /// The first bytes of the name of its program.
    pub(in crate::os) name: String,
}

/// A descriptor that is open on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::os) struct OpenFile {
    pub(in crate::os) number: i32,
    pub(in crate::os) dev: u64,
    pub(in crate::os) ino: u64,
    /// The number of names of the file. 1 if the kernel does not say it.
    pub(in crate::os) links: u64,
    pub(in crate::os) mode: u32,
    /// The path of the file, as the kernel remembers it. Empty if it does not.
    pub(in crate::os) path: PathBuf,
    /// False if the kernel says that no process has locked the file through this open file description. True if it may hold a lock, or
    /// may have held one.
    pub(in crate::os) may_hold_lock: bool,
}

/// The command line and the initial environment of a process. Each word is followed by a NUL byte.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::os) struct Arguments {
    pub(in crate::os) words: Vec<u8>,
    /// Empty if the kernel does not show it.
    pub(in crate::os) environment: Vec<u8>,
}
