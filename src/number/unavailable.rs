//! Reasons why numbers are not available.

use super::range::NumberRange;
use std::fmt;
use std::path::PathBuf;

/// Why a number cannot be given: what it is, to stand behind "it".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// Not in the range.
    OutOfRange(NumberRange),
    /// Kept for a key; which, if that was looked for.
    Reserved(Option<(String, PathBuf)>),
    /// Held by a command.
    Leased,
    /// Not to be leased: in the place of its lock file is something else, of this kind.
    NotRegular(&'static str),
    /// Excluded.
    Excluded,
    /// In use by somebody who does not ask here.
    InUse,
    /// Not for this user.
    NotAllowed,
    /// Not the one that the key has: this.
    HasOther(u32),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange(range) => write!(f, "is not in {range}"),
            Self::Reserved(None) => write!(f, "is reserved"),
            Self::Reserved(Some((tag, directory))) => {
                write!(f, "is reserved for {}{}", directory.display(), labelled(tag))
            }
            Self::Leased => write!(f, "is leased to a command"),
            Self::NotRegular(kind) => write!(f, "cannot be locked, because its lock file is a {kind}"),
            Self::Excluded => write!(f, "is excluded"),
            Self::InUse => write!(f, "is in use"),
            Self::NotAllowed => write!(f, "is not for this user to bind to"),
            Self::HasOther(has) => write!(f, "is not the number that is reserved here: {has}"),
        }
    }
}

fn labelled(tag: &str) -> String {
    if tag.is_empty() { String::new() } else { format!(" ({tag})") }
}

/// Of how many numbers of a range what is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Kept for a key.
    pub reserved: u32,
    /// Held by a command.
    pub leased: u32,
    /// Excluded.
    pub excluded: u32,
    /// In use by others.
    pub in_use: u32,
    /// Nothing.
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
