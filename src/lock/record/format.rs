//! The holder record as text: parsing and formatting.

use super::value::{on_one_line, put_line, unquoted};
use crate::os::Mode;
use crate::os::proc::process;
use std::time::Duration;

pub(super) const FIRST_KEY: &str = "aba_lock_record=";

const VERSION: &str = "1";

const LAST_KEY: &str = "token=";

/// The most bytes of a record that are read, and a bound that a record keeps.
pub(super) const MAX_LEN: usize = 8192;

/// More bytes than most records have: fewer pages to touch than [`MAX_LEN`].
pub(super) const USUAL_LEN: usize = 1024;

/// Who took a lock, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The process for which it was taken: the script, or the command.
    pub pid: u32,
    /// A moment when it ran, in clock ticks since boot: a process of its number that started later is another. (When it
    /// started would cost a look into `/proc`.)
    pub tick: u64,
    /// The boot id of the machine.
    pub boot: String,
    /// The name of the machine.
    pub host: String,
    /// The pid namespace, as the inode of `/proc/self/ns/pid`: a pid means nothing in another one.
    pub ns: u64,
    /// The user's name, or number.
    pub user: String,
    /// When it was taken: RFC 3339, UTC.
    pub since: String,
    /// The command line, quoted as a shell reads it.
    pub command: String,
    /// What the user said of it (`--who`).
    pub who: Option<String>,
    /// The absolute path of the file in which the pid of the holder is (`--pid-file`).
    pub pid_file: Option<String>,
    /// Exclusive, or the last of those who share it.
    pub mode: Mode,
    /// The process that called flock(2), which is the pid that the kernel keeps.
    pub locker: u32,
    /// The lease at a server of leases that goes with the lock, as its keeper wrote it.
    pub lease: Option<String>,
    /// The fencing token.
    pub token: u64,
}

/// What is in a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// A record.
    Record(Box<Record>),
    /// The beginning of a record: its writer was killed, or is about to go on.
    Incomplete,
    /// Somebody's data.
    Foreign,
}

impl Content {
    /// The token of the record, 0 where there is none.
    #[must_use]
    pub fn token(&self) -> u64 {
        match self {
            Self::Record(record) => record.token,
            _ => 0,
        }
    }
}

impl Record {
    /// How long ago it was taken. `None` when the clock says that it is yet to come.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let since: jiff::Timestamp = self.since.parse().ok()?;
        Duration::try_from(jiff::Timestamp::now().duration_since(since)).ok()
    }

    pub(super) fn to_text(&self) -> String {
        self.text_after(self.head())
    }

    /// What is known before the lock is had.
    pub(super) fn head(&self) -> String {
        let mut text = String::with_capacity(USUAL_LEN);
        text.push_str(FIRST_KEY);
        text.push_str(VERSION);
        text.push('\n');
        put_line(&mut text, "pid", &self.pid.to_string());
        put_line(&mut text, "tick", &self.tick.to_string());
        put_line(&mut text, "boot", &self.boot);
        put_line(&mut text, "host", &self.host);
        put_line(&mut text, "ns", &self.ns.to_string());
        put_line(&mut text, "user", &self.user);
        put_line(&mut text, "command", &self.command);
        if let Some(who) = &self.who {
            put_line(&mut text, "who", who);
        }
        if let Some(path) = &self.pid_file {
            put_line(&mut text, "pid_file", path);
        }
        put_line(&mut text, "mode", self.mode.as_str());
        put_line(&mut text, "locker", &self.locker.to_string());
        text
    }

    pub(super) fn text_after(&self, head: String) -> String {
        let mut text = head;
        put_line(&mut text, "since", &self.since);
        if let Some(lease) = &self.lease {
            put_line(&mut text, "lease", lease);
        }
        put_line(&mut text, "token", &self.token.to_string());
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let mut record = Self {
            pid: 0,
            tick: 0,
            boot: String::new(),
            host: String::new(),
            ns: 0,
            user: String::new(),
            since: String::new(),
            command: String::new(),
            who: None,
            pid_file: None,
            mode: Mode::Exclusive,
            locker: 0,
            lease: None,
            token: 0,
        };
        for line in text.split_inclusive('\n') {
            let (key, quoted) = line.strip_suffix('\n')?.split_once('=')?;
            let value = unquoted(quoted)?;
            // Others can write here: what would steer a terminal goes.
            let value = on_one_line(&value);
            let text = || value.clone().into_owned();
            match key {
                "pid" => record.pid = value.parse().ok()?,
                "tick" => record.tick = value.parse().ok()?,
                "boot" => record.boot = text(),
                "host" => record.host = text(),
                "ns" => record.ns = value.parse().ok()?,
                "user" => record.user = text(),
                "since" => record.since = text(),
                "command" => record.command = text(),
                "who" => record.who = Some(text()),
                "pid_file" => record.pid_file = Some(text()),
                "mode" => record.mode = Mode::parse(&value)?,
                "locker" => record.locker = value.parse().ok()?,
                "lease" => record.lease = Some(value.into_owned()),
                // The last key: what follows is left over from a longer record.
                "token" => {
                    record.token = value.parse().ok()?;
                    return Some(record);
                }
                // A newer version may say more.
                _ => {}
            }
        }
        None
    }
}

pub(super) fn content_of(bytes: &[u8]) -> Content {
    if bytes.is_empty() {
        return Content::Empty;
    }
    let text = process::decode_lossy(bytes);
    if !text.starts_with(FIRST_KEY) {
        return Content::Foreign;
    }
    Record::parse(&text).map_or(Content::Incomplete, |record| Content::Record(Box::new(record)))
}

pub(super) fn token_in(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return Some(0);
    }
    if !bytes.starts_with(FIRST_KEY.as_bytes()) {
        return None;
    }
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let token = lines.find_map(|line| line.strip_prefix(LAST_KEY.as_bytes()));
    let number = |token: &[u8]| unquoted(str::from_utf8(token.strip_suffix(b"\n")?).ok()?)?.parse().ok();
    Some(token.and_then(number).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::record::value::MAX_VALUE;

    fn sample() -> Record {
        Record {
            pid: 4321,
            tick: 99,
            boot: "b-1".to_owned(),
            host: "h".to_owned(),
            ns: 7,
            user: "steve".to_owned(),
            since: "2026-01-02T03:04:05Z".to_owned(),
            command: "sh -c 'echo \"it'\\''s\"' $HOME `id`".to_owned(),
            who: Some("nightly = job".to_owned()),
            pid_file: Some("/run/a job.pid".to_owned()),
            mode: Mode::Shared,
            locker: 4322,
            lease: Some("etcd://h:2379 db/1f 42".to_owned()),
            token: 12,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(Record::parse(&sample().to_text()), Some(sample()));
    }

    #[test]
    fn the_rest_of_a_longer_record_behind_it_is_passed_over() {
        let text = sample().to_text() + "and=then 'an open quote\n";
        assert_eq!(Record::parse(&text), Some(sample()));
    }

    #[test]
    fn a_record_that_was_cut_anywhere_is_not_believed() {
        let text = sample().to_text();
        for end in 0..text.len() {
            assert_eq!(Record::parse(&text[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn control_characters_and_long_values_cannot_break_the_form() {
        let wild = Record { command: format!("a\nb\x1b[2J{}", "é'".repeat(2000)), ..sample() };
        let text = wild.to_text();
        assert!(text.len() < MAX_LEN);
        let read = Record::parse(&text).unwrap();
        assert!(read.command.starts_with("a b [2J"), "{}", read.command);
        assert_eq!(Record { command: wild.command.clone(), ..read }, wild);
    }

    #[test]
    fn a_record_of_nothing_but_quotes_is_read_too() {
        let quotes = "'".repeat(2 * MAX_VALUE);
        let wild = Record { command: quotes.clone(), who: Some(quotes.clone()), user: quotes.clone(), ..sample() };
        let text = wild.to_text();
        assert!(text.len() <= MAX_LEN, "{} bytes", text.len());
        let read = Record::parse(&text).unwrap();
        assert!(read.command.starts_with(&quotes[..256]) && read.command.ends_with('…'), "{}", read.command);
        assert_eq!((read.pid, read.token), (4321, 12));
    }
}
