//! Numbers out of a range, ports by default, that are never given twice.
//!
//! A **pool** is a registry file, `POOL` in the directory `reserve` of the state root, with its lock `POOL.lock` beside
//! it. A number is **kept** for a key (directory and tag): a row of the registry, which stays until it is released,
//! pruned or expired. Or it is **leased** to a command: then the command holds the number's own lock,
//! `POOL.d/NUMBER.lock`, and there is no row: the kernel gives it back, however the command ends.
//!
//! What is promised: of all who ask here, no two have one number at a time. Rows and locks are read, numbers are probed,
//! and what was planned is written, in one step under the lock of the pool ([`Registry`](super::registry::Registry)). Who only reads needs
//! no lock: the file is replaced as a whole. What is not: that nobody else, who does not ask here, takes the number.
//!
//! # Who may be killed where, and what the next one finds
//!
//! | killed | left behind | the next one |
//! |---|---|---|
//! | before the registry is replaced | the old rows; a draft | takes the draft away, and may give the number that was planned: nobody was told of it |
//! | after that, before the number is printed | a row that its caller does not know of | gives that number, for the same key; for others it is reserved until it is released |
//! | while `--dotenv` is written, after the registry | the row, the old FILE | writes FILE, as the key has its number |
//! | with the lock of a leased number, before the command runs | nothing: the kernel has released the lock | may take it |
//! | the command | nothing, or those of its children that inherited the lock | may take the number when the last has ended |
//! | between the registries of several pools (`migrate`) | some pools done, others not; each of them whole | does the rest, when it is asked again |
//! | by a loss of power | the old rows or the new ones, and every number that was told: the disk is waited for before that, outside the lock (but who asks for a key of which the first call still waits is told at once) | – |
//!
//! Whoever waits for a file of the user's (`--dotenv`) does so before taking the lock of the pool: who updates such a
//! file may reserve meanwhile, and neither waits for the other for ever.

use super::error::NumberError;
use crate::base::error::ContextError;
use crate::base::names;
use std::fmt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The pool that is meant where none is named.
pub const PORTS: &str = "ports";

/// The numbers of that pool where no range is given.
pub const PORT_RANGE: Range = Range { first: 5000, last: 7000 };

/// The most numbers that a range may have.
pub const MAX_NUMBERS: u32 = 1_000_000;

/// How many links may lead from one to the next: what the kernel allows.
const MAX_LINKS: u32 = 40;

/// The name of a pool: letters, digits, `_` and `-`, not beginning with `-`; at most 64.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pool(String);

impl Pool {
    /// Takes `text` as a name. [`NumberError::Pool`] when it is none.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if (1..=64).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(NumberError::Pool { pool: text.to_owned() })
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether its numbers are ports.
    #[must_use]
    pub fn is_ports(&self) -> bool {
        self.0 == PORTS
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a directory calls one of its numbers: as the name of a lock, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tag(String);

impl Tag {
    /// Takes `text` as a tag. [`NumberError::Tag`] when it is none.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        if names::keeps_rule(text) { Ok(Self(text.to_owned())) } else { Err(NumberError::Tag { tag: text.to_owned() }) }
    }

    /// The tag as text; empty where there is none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the registry has it: `-` where there is none.
    #[must_use]
    pub fn word(&self) -> &str {
        if self.0.is_empty() { "-" } else { &self.0 }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        if word == "-" { Some(Self::default()) } else { Self::parse(word).ok() }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Numbers from the first to the last, both of them in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The lowest.
    pub first: u32,
    /// The highest.
    pub last: u32,
}

impl Range {
    /// Takes `N` or `A-B` as a range. `None` for anything else, for one that runs backwards, and for more numbers than
    /// [`MAX_NUMBERS`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last && last - first < MAX_NUMBERS).then_some(Self { first, last })
    }

    /// Whether it has this number.
    #[must_use]
    pub fn contains(self, number: u32) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A number as people write it: digits, without `+` or zeros in front.
#[must_use]
pub fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// The directory of a key, as an absolute path without links: `path`, or where we are.
pub fn directory(path: Option<&Path>) -> Result<PathBuf, NumberError> {
    let Some(path) = path else {
        return Ok(env::current_dir().map_err(|source| ContextError::NoDirectory { source })?);
    };
    let failed = |source| NumberError::Directory { path: path.to_owned(), source };
    let directory = fs::canonicalize(path).map_err(failed)?;
    if !directory.is_dir() {
        return Err(failed(io::Error::from_raw_os_error(libc::ENOTDIR)));
    }
    Ok(directory)
}

/// The same for a directory that may be gone: what is left of the way to it is followed.
pub fn directory_or_gone(path: Option<&Path>) -> Result<PathBuf, NumberError> {
    let Some(path) = path else { return directory(None) };
    let failed = |source| NumberError::Directory { path: path.to_owned(), source };
    let mut known = std::path::absolute(path).map_err(failed)?;
    let mut rest = Vec::new();
    let mut links = 0;
    loop {
        match fs::canonicalize(&known) {
            Ok(mut directory) => {
                directory.extend(rest.iter().rev());
                return Ok(directory);
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                // A link to what is gone: that is meant.
                if let Ok(target) = fs::read_link(&known) {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(failed(io::Error::from_raw_os_error(libc::ELOOP)));
                    }
                    known.pop();
                    known.push(target);
                    continue;
                }
                // Behind `..` of something that is gone nobody knows the way.
                let Some(name) = known.file_name().map(ToOwned::to_owned) else { return Err(failed(source)) };
                rest.push(name);
                known.pop();
            }
            Err(source) => return Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_a_number_or_two() {
        assert_eq!(Range::parse("5"), Some(Range { first: 5, last: 5 }));
        assert_eq!(Range::parse("5000-7000"), Some(PORT_RANGE));
        for bad in ["", "-", "5-", "-5", "7-5", "a", "05", "+5", "1-2-3", "1 - 2", "4294967296", "0-1000000"] {
            assert_eq!(Range::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pool_is_a_file_name_and_no_path() {
        for good in ["ports", "GPU_0", "display-1"] {
            assert!(Pool::parse(good).is_ok());
        }
        for bad in ["", "a.lock", "a/b", "..", "-a", "a b", "ä", &"x".repeat(65)] {
            assert!(Pool::parse(bad).is_err(), "{bad}");
        }
    }
}
