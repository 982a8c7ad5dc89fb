//! The reason why a caller with `--slots` cannot get a slot.

use std::fmt;

/// The reason why a caller cannot get a slot.
#[derive(Debug)]
pub enum SlotMistake {
    /// The lock is held with another number of slots.
    OtherNumber { held: u32, wanted: u32 },
    /// The script holds the lock shared, without a slot.
    HeldShared,
    /// The script holds one of this number of slots, and asks for the whole lock.
    HeldInPart(u32),
    /// The file is not open for writing.
    NotWritable,
    /// This file system has no locks that belong to a part of a file and to an open file description.
    FileSystem(String),
}

impl SlotMistake {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::OtherNumber { held, .. } => {
                format!("use --slots {held}, or end all processes that hold this lock or wait for it")
            }
            Self::HeldShared => "release it first, or acquire it with --slots from the start".to_owned(),
            Self::HeldInPart(_) => "release it first, or acquire it without --slots from the start".to_owned(),
            Self::NotWritable => "use a file that you may write to".to_owned(),
            Self::FileSystem(_) => "use a file on a local disk".to_owned(),
        }
    }

    /// Writes the message about the lock `label`.
    pub(super) fn write(&self, label: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNumber { held, wanted } => {
                write!(f, "{label} is held with --slots {held}, so --slots {wanted} is refused")
            }
            Self::HeldShared => write!(f, "{label} is already held shared by this script, without a slot"),
            Self::HeldInPart(held) => write!(
                f,
                "{label} is already held with --slots {held} by this script, and cannot become exclusive while it is held"
            ),
            Self::NotWritable => write!(f, "cannot lock {label} with --slots: the file is not open for writing"),
            Self::FileSystem(name) => write!(f, "cannot lock {label} with --slots: {name} has no locks for this"),
        }
    }
}
