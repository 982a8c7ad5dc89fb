//! A circle of processes that wait for each other.

use crate::base::text::shorten;
use std::fmt;
use std::path::PathBuf;

/// One of those in a circle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The process in whose hands the lock is.
    pub pid: u32,
    /// Its command line, quoted as a shell reads it.
    pub command: String,
    /// The lock that it has: the name, or the file.
    pub has: String,
    /// The lock, or the process at the other end of a pipe, that it waits for.
    pub wants: Wants,
}

/// The reason why a process in a circle does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wants {
    /// A lock: the name, or the file.
    Lock(String),
    /// That the process `reader` reads what `writer` wrote into a pipe. The holder of the lock is the writer, or waits for it.
    Reader {
        /// The process that waits.
        writer: u32,
        /// The process that does not read.
        reader: u32,
    },
    /// That the process `writer` writes into the pipe that `reader` reads, or closes it.
    Writer {
        /// The process that waits.
        reader: u32,
        /// The process that does not write.
        writer: u32,
    },
}

impl fmt::Display for Wants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(label) => f.write_str(label),
            Self::Reader { writer, reader } => write!(f, "pid {reader} to read the output of pid {writer}"),
            Self::Writer { reader, writer } => write!(f, "pid {writer} to write or close the input of pid {reader}"),
        }
    }
}

/// A circle: each waits for what the next one has, and the last for what the first one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circle {
    /// Those in it; the last one is ours.
    pub steps: Vec<Step>,
    /// The files of these locks, as far as their names can be seen.
    pub files: Vec<PathBuf>,
    /// The processes that are blocked.
    pub(super) waiters: Vec<u32>,
    /// All on the way from us back to us.
    pub(super) members: Vec<u32>,
    /// Whether one of the others waits for a limited time only.
    pub(super) limited: bool,
}

impl Circle {
    /// Returns whether a process in it waits for the other end of a pipe.
    #[must_use]
    pub fn has_pipe(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step.wants, Wants::Lock(_)))
    }
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Step { pid, command, has, wants }) in self.steps.iter().enumerate() {
            let and = if at == 0 { "" } else { ", " };
            let wants = match wants {
                Wants::Lock(_) if self.steps.len() == 1 => "it".to_owned(),
                wants => wants.to_string(),
            };
            write!(f, "{and}pid {pid} ({}) has {has} and waits for {wants}", shorten(command, MAX_COMMAND))?;
        }
        Ok(())
    }
}

/// The most characters of a command that a sentence names, where there are several.
const MAX_COMMAND: usize = 80;
