//! The holder record, and its form as text.

use super::value::{put_key, put_line, read_value, unquote};
use crate::os::proc::process;
use crate::os::{self, Mode};
use std::time::Duration;

pub(super) const FIRST_KEY: &str = "aba_lock_record=";

const VERSION: &str = "1";

const LAST_KEY: &str = "token=";

/// The maximum length of a record in bytes. No more is read from a file.
pub(super) const MAX_LEN: usize = 8192;

/// More bytes than most records have. To read this many first touches fewer pages than [`MAX_LEN`].
pub(super) const USUAL_LEN: usize = 1024;

/// At least the number of bytes of most records without the command and the optional values. A call that reserves more memory
/// touches another page.
const FIXED_LEN: usize = 352;

/// The process that acquired a lock, and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The process for which the lock was acquired: the script, or the command.
    pub pid: u32,
    /// A time at which that process ran, in clock ticks since boot. A process that started later and has the same pid is
    /// another one. (To get the start time would take a read of `/proc`.)
    pub tick: u64,
    /// The boot id of the machine.
    pub boot: String,
    /// The host name of the machine.
    pub host: String,
    /// The pid namespace, as the inode of `/proc/self/ns/pid`: a pid has no meaning in another one.
    pub ns: u64,
    /// The user name, or the uid if it has no name.
    pub user: String,
    /// The time of the acquisition: RFC 3339, UTC.
    pub since: String,
    /// The command line, quoted as a shell reads it.
    pub command: String,
    /// The text from which the name of the lock was derived (`--key`). A long one is cut.
    pub key: Option<String>,
    /// The user's description (`--who`).
    pub who: Option<String>,
    /// The absolute path of the file that has the pid of the holder (`--pid-file`).
    pub pid_file: Option<String>,
    /// The mode. The record of a shared lock is that of its last holder.
    pub mode: Mode,
    /// The process that called flock(2). The kernel shows this pid.
    pub locker: u32,
    /// The maximum time for which the lock is held (`--max-time`). The process [`Record::locker`] enforces it.
    pub max_time: Option<Duration>,
    /// The lease at a server that belongs to the lock, as its keeper wrote it.
    pub lease: Option<String>,
    /// The fencing token.
    pub token: u64,
}

/// The content of a lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Empty,
    Record(Box<Record>),
    /// The beginning of a record. Its writer was killed, or has not finished.
    Incomplete,
    /// The data of a user or of another program.
    Foreign,
}

impl Content {
    /// Returns the token of the record, or 0 if there is no record.
    #[must_use]
    pub fn token(&self) -> u64 {
        match self {
            Self::Record(record) => record.token,
            _ => 0,
        }
    }
}

impl Record {
    /// Returns the time since the acquisition. `None`: by the clock, it lies in the future.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let since: jiff::Timestamp = self.since.parse().ok()?;
        Duration::try_from(jiff::Timestamp::now().duration_since(since)).ok()
    }

    /// Returns the time until the holders are ended. `None`: there is no limit, or the process that enforces it has ended.
    #[must_use]
    pub fn remaining_time(&self) -> Option<Duration> {
        let limit = self.max_time.filter(|_| os::exists(self.locker))?;
        Some(limit.saturating_sub(self.age().unwrap_or_default()))
    }

    pub(super) fn to_text(&self) -> String {
        self.text_after(self.head())
    }

    /// Returns the lines that are known before the lock is granted.
    pub(super) fn head(&self) -> String {
        let optional = [&self.key, &self.who, &self.pid_file, &self.lease].into_iter().flatten();
        let values = self.command.len() + optional.map(String::len).sum::<usize>();
        let mut text = String::with_capacity(values + FIXED_LEN);
        text.push_str(FIRST_KEY);
        text.push_str(VERSION);
        text.push('\n');
        if let Some(key) = &self.key {
            put_key(&mut text, key);
        }
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
        if let Some(time) = self.max_time {
            put_line(&mut text, "max_time_ms", &time.as_millis().min(u64::MAX.into()).to_string());
        }
        put_line(&mut text, "mode", self.mode.as_str());
        put_line(&mut text, "locker", &self.locker.to_string());
        text
    }

    /// Returns the text of the record, of which `head` is the beginning.
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
            key: None,
            who: None,
            pid_file: None,
            mode: Mode::Exclusive,
            locker: 0,
            max_time: None,
            lease: None,
            token: 0,
        };
        let mut rest = text;
        // A list parses thousands of records, and the searches of `str` take three times as long. The crate `memchr` would ask the
        // processor for its features in each process, and in a virtual machine, each of these questions takes microseconds.
        while let Some(end) = rest.bytes().position(|byte| byte == b'\n') {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            let at = line.bytes().position(|byte| byte == b'=')?;
            let key = &line[..at];
            let value = read_value(&line[at + 1..])?;
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
                "key" => record.key = Some(text()),
                "who" => record.who = Some(text()),
                "pid_file" => record.pid_file = Some(text()),
                "mode" => record.mode = Mode::parse(&value)?,
                "locker" => record.locker = value.parse().ok()?,
                "max_time_ms" => record.max_time = Some(Duration::from_millis(value.parse().ok()?)),
                "lease" => record.lease = Some(value.into_owned()),
                // This is the last key. The rest of the text is left over from a longer record.
                "token" => {
                    record.token = value.parse().ok()?;
                    return Some(record);
                }
                // A newer version may have written more keys.
                _ => {}
            }
        }
        None
    }
}

/// Adds the line of a key to the text of a record.
pub(crate) fn add_key(record: &str, key: &str) -> String {
    let (first, rest) = record.split_once('\n').unwrap_or((record, ""));
    let mut text = String::with_capacity(record.len() + key.len() + USUAL_LEN);
    text.push_str(first);
    text.push('\n');
    put_key(&mut text, key);
    text.push_str(rest);
    text
}

/// Parses the bytes of a lock file.
pub(super) fn parse_content(bytes: &[u8]) -> Content {
    if bytes.is_empty() {
        return Content::Empty;
    }
    let text = process::decode_lossy(bytes);
    if !text.starts_with(FIRST_KEY) {
        return Content::Foreign;
    }
    Record::parse(&text).map_or(Content::Incomplete, |record| Content::Record(Box::new(record)))
}

/// Returns the token in the bytes of a lock file, even if the rest of the record cannot be parsed. 0: there is no record yet;
/// `None`: foreign data.
pub(super) fn parse_token(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return Some(0);
    }
    if !bytes.starts_with(FIRST_KEY.as_bytes()) {
        return None;
    }
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let token = lines.find_map(|line| line.strip_prefix(LAST_KEY.as_bytes()));
    let number = |token: &[u8]| unquote(str::from_utf8(token.strip_suffix(b"\n")?).ok()?)?.parse().ok();
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
            key: Some("https://h/it's".to_owned()),
            who: Some("nightly = job".to_owned()),
            pid_file: Some("/run/a job.pid".to_owned()),
            mode: Mode::Shared,
            locker: 4322,
            max_time: Some(Duration::from_millis(5_400_500)),
            lease: Some("etcd://h:2379 db/1f 42".to_owned()),
            token: 12,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        assert_eq!(Record::parse(&sample().to_text()), Some(sample()));
    }

    #[test]
    fn a_key_that_is_added_to_a_text_is_read() {
        let without = Record { key: None, ..sample() };
        assert_eq!(add_key(&without.to_text(), "https://h/it's"), sample().to_text());
    }

    #[test]
    fn the_rest_of_a_longer_record_is_ignored() {
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
    fn control_characters_and_long_values_do_not_break_the_format() {
        let wild = Record { command: format!("a\nb\x1b[2J{}", "é'".repeat(2000)), ..sample() };
        let text = wild.to_text();
        assert!(text.len() < MAX_LEN);
        let read = Record::parse(&text).unwrap();
        assert!(read.command.starts_with("a b [2J"), "{}", read.command);
        assert_eq!(Record { command: wild.command.clone(), ..read }, wild);
    }

    #[test]
    fn a_record_that_consists_of_quotes_is_read() {
        let quotes = "'".repeat(2 * MAX_VALUE);
        let wild = Record { command: quotes.clone(), who: Some(quotes.clone()), user: quotes.clone(), ..sample() };
        let wild = Record { key: Some(quotes.clone()), pid_file: Some("x".repeat(MAX_VALUE)), ..wild };
        let text = wild.to_text();
        assert!(text.len() <= MAX_LEN, "{} bytes", text.len());
        let read = Record::parse(&text).unwrap();
        assert!(read.command.starts_with(&quotes[..256]) && read.command.ends_with('…'), "{}", read.command);
        assert_eq!((read.pid, read.token), (4321, 12));
    }
}
