//! A circle of processes that wait for each other, and its text in messages.
//!
//! This is the result of the search for deadlocks, as plain data. The error of a lock, the event log and `doctor` print
//! it.

use crate::base::text::shorten;
use std::fmt;
use std::path::PathBuf;

/// Maximum number of characters of a command in a message that names several.
const MAX_COMMAND: usize = 80;

/// A circle: each process waits for something that the next one holds, and the last one waits for the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// The holders of the locks. The last one is the process that searched.
    pub steps: Vec<CircleStep>,
    /// The files of the locks, if their names can be seen.
    pub files: Vec<PathBuf>,
    /// The processes that wait for these locks.
    pub(super) waiters: Vec<u32>,
    /// All processes on the way from the one that searched back to itself.
    pub(super) members: Vec<u32>,
    /// True if one of the other processes waits only for a limited time.
    pub(super) limited: bool,
    /// True if a lock is held in slots. One call cannot acquire it together with others.
    pub(in crate::lock) has_slots: bool,
}

/// A holder of a lock in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircleStep {
    /// The process that holds the lock.
    pub pid: u32,
    /// Its command line, quoted for a shell.
    pub command: String,
    /// The name of the lock that it holds, or the path of the file.
    pub holds: String,
    /// The lock or the process that it waits for.
    pub awaits: Awaited,
}

/// The reason why a process in a circle does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// It waits for a lock: the name, or the path of the file.
    Lock(String),
    /// The process `writer` waits until `reader` reads from a pipe. The holder of the lock is the writer, or waits for
    /// the writer.
    Reader { writer: u32, reader: u32 },
    /// The process `reader` waits until `writer` writes into a pipe, or closes it.
    Writer { reader: u32, writer: u32 },
}

impl Circle {
    /// Returns true if a process in the circle waits for the other end of a pipe.
    #[must_use]
    pub fn has_pipe(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step.awaits, Awaited::Lock(_)))
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, CircleStep { pid, command, holds, awaits }) in self.steps.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            let awaited = match awaits {
                Awaited::Lock(_) if self.steps.len() == 1 => "it".to_owned(),
                awaited => awaited.to_string(),
            };
            write!(
                f,
                "{separator}pid {pid} ({}) holds {holds} and waits for {awaited}",
                shorten(command, MAX_COMMAND)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(label) => f.write_str(label),
            Self::Reader { writer, reader } => write!(f, "pid {reader} to read the output of pid {writer}"),
            Self::Writer { reader, writer } => write!(f, "pid {writer} to write or close the input of pid {reader}"),
        }
    }
}
