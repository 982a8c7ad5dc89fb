//! The reasons why a number is not available, and their counts over a range, for the messages of errors.

use super::range::NumberRange;
use std::fmt;
use std::path::PathBuf;

/// The reason why a number is not available. Its text completes a sentence that begins with "it".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    OutOfRange(NumberRange),
    /// Reserved by a row of the registry. The tag and the directory of the row are added only for a message, because
    /// all rows must be parsed to find them.
    Reserved(Option<(String, PathBuf)>),
    /// Leased to a running command.
    Leased,
    /// The path of its lock is not a regular file, but of this kind.
    NotRegular(&'static str),
    Excluded,
    /// In use by a process that holds no reservation for it.
    InUse,
    /// The user may not bind to it.
    NotAllowed,
    /// The key already has a number: this one, and not the number that was asked for.
    HasOther(u32),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange(range) => write!(f, "is not in {range}"),
            Self::Reserved(None) => write!(f, "is reserved"),
            Self::Reserved(Some((tag, directory))) => {
                write!(f, "is reserved for {}{}", directory.display(), format_tag(tag))
            }
            Self::Leased => write!(f, "is leased to a running command"),
            Self::NotRegular(kind) => write!(f, "cannot be locked, because its lock file is a {kind}"),
            Self::Excluded => write!(f, "is excluded"),
            Self::InUse => write!(f, "is in use"),
            Self::NotAllowed => write!(f, "cannot be bound by this user"),
            Self::HasOther(has) => write!(f, "differs from the reserved number {has}"),
        }
    }
}

fn format_tag(tag: &str) -> String {
    if tag.is_empty() { String::new() } else { format!(" ({tag})") }
}

/// The counts of the numbers of a range, by the reason why they are not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub reserved: u32,
    pub leased: u32,
    pub excluded: u32,
    pub in_use: u32,
    pub free: u32,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} reserved, {} leased, {} excluded, {} in use",
            self.reserved, self.leased, self.excluded, self.in_use
        )?;
        if self.free > 0 { write!(f, ", {} free", self.free) } else { Ok(()) }
    }
}
