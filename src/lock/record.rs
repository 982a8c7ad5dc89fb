//! The holder record: who took the lock, as text inside the lock file.
//!
//! One `key=value` a line, values quoted as a shell reads them, `aba_lock_record` first and `token` last; a
//! text without both is not (or not yet) a record. It is written with one call over what was there, and the
//! file is cut to its length afterwards, so a reader sees the new record or an incomplete one.
//!
//! The record counts only while the lock is held, and only if the kernel names its `locker`: nobody removes
//! it on release, because a killed holder could not. A file with other content is somebody's data (`--file`
//! takes any path): it is never written to.

#[cfg(any(test, fuzzing))]
pub mod properties;

use crate::os::proc::process;
use crate::os::{self, Mode};
use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const FIRST_KEY: &str = "aba_lock_record=";
const VERSION: &str = "1";

const LAST_KEY: &str = "token=";

/// The most bytes of a record that are read, and a bound that a record keeps.
const MAX_LEN: usize = 8192;

/// More bytes than most records have: fewer pages to touch than [`MAX_LEN`].
const USUAL_LEN: usize = 1024;

/// The most bytes of a command line or a remark that are kept.
const MAX_VALUE: usize = 1024;

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

/// What a record says of the process for which a lock is taken: all that is known before.
#[derive(Debug)]
pub struct Taker {
    pid: u32,
    tick: u64,
    boot: String,
    host: String,
    ns: u64,
    user: String,
    command: String,
}

impl Taker {
    /// Process `pid`, whose command line is, or will be, `command`; `None`: what it is now.
    #[must_use]
    pub fn new(pid: u32, command: Option<&str>) -> Self {
        let command = command.map_or_else(|| process::command_line(pid), str::to_owned);
        Self::of(pid, command, process::pid_namespace())
    }

    /// Our parent, process `pid`. We have no number for one of another namespace, so its is ours; and to look where its command
    /// line is costs less than to look elsewhere, too.
    #[must_use]
    pub fn parent(pid: u32) -> Self {
        let here = process::has_our_numbers();
        let command = if here { process::command_line(pid) } else { String::new() };
        let ns = if here { process::namespace_of(pid) } else { None };
        Self::of(pid, command, ns.unwrap_or_else(process::pid_namespace))
    }

    fn of(pid: u32, command: String, ns: u64) -> Self {
        Self {
            pid,
            tick: os::ticks_since_boot(),
            boot: process::boot_id(),
            host: os::host_name(),
            ns,
            user: process::user_name(os::user_id()),
            command,
        }
    }
}

/// A record in the making: all of it but what is known only once the lock is had. Another waits for what is done then.
#[derive(Debug)]
pub struct Draft {
    record: Record,
    /// The text so far.
    head: String,
}

impl Draft {
    /// A record for `taker`, for whom this process takes the lock.
    #[must_use]
    pub fn new(taker: Taker, mode: Mode, who: Option<&str>, pid_file: Option<&Path>) -> Self {
        let Taker { pid, tick, boot, host, ns, user, command } = taker;
        let record = Record {
            pid,
            tick,
            boot,
            host,
            ns,
            user,
            since: String::new(),
            command,
            who: who.map(str::to_owned),
            // Part of a path would be another path.
            pid_file: pid_file.and_then(Path::to_str).filter(|path| is_kept_whole(path)).map(str::to_owned),
            mode,
            locker: std::process::id(),
            lease: None,
            token: 0,
        };
        Self { head: record.head(), record }
    }

    /// The record, and its text: the lock is had since now, with this token.
    #[must_use]
    pub fn finish(self, token: u64) -> (Record, String) {
        let record = Record { since: format!("{:.0}", jiff::Timestamp::now()), token, ..self.record };
        let text = record.text_after(self.head);
        (record, text)
    }
}

impl Record {
    /// How long ago it was taken. `None` when the clock says that it is yet to come.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let since: jiff::Timestamp = self.since.parse().ok()?;
        Duration::try_from(jiff::Timestamp::now().duration_since(since)).ok()
    }

    fn to_text(&self) -> String {
        self.text_after(self.head())
    }

    /// What is known before the lock is had.
    fn head(&self) -> String {
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

    fn text_after(&self, head: String) -> String {
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

fn put_line(text: &mut String, key: &str, value: &str) {
    text.push_str(key);
    text.push('=');
    match on_one_line(value) {
        value if is_one_word(&value) => text.push_str(&value),
        value => text.push_str(&quoted(&value)),
    }
    text.push('\n');
}

/// What is in the lock file at `path`. [`Content::Empty`] when it cannot be read: it is only a courtesy.
#[must_use]
pub fn read_path(path: &Path) -> Content {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    match file {
        Ok(file) if file.metadata().is_ok_and(|data| data.is_file()) => read(&file),
        _ => Content::Empty,
    }
}

/// What is in the file to which this link to a descriptor leads (in `/proc/PID/fd`), also if it was removed.
pub(crate) fn read_descriptor(link: &Path) -> Content {
    // To open anything but a file could block, or do something.
    if !fs::metadata(link).is_ok_and(|data| data.is_file()) {
        return Content::Empty;
    }
    File::open(link).map_or(Content::Empty, |file| read(&file))
}

/// What is in the lock file that is open as `file`.
#[must_use]
pub fn read(file: &File) -> Content {
    bytes_of(file, content_of).unwrap_or(Content::Empty)
}

/// What `look` makes of the bytes of a lock file, as far as a record goes.
fn bytes_of<T>(file: &File, look: impl Fn(&[u8]) -> T) -> io::Result<T> {
    let mut bytes = [0; USUAL_LEN];
    let len = file.read_at(&mut bytes, 0)?;
    if len == bytes.len() {
        let mut bytes = vec![0; MAX_LEN];
        let len = file.read_at(&mut bytes, 0)?;
        return Ok(look(&bytes[..len]));
    }
    Ok(look(&bytes[..len]))
}

fn content_of(bytes: &[u8]) -> Content {
    if bytes.is_empty() {
        return Content::Empty;
    }
    let text = process::text(bytes);
    if !text.starts_with(FIRST_KEY) {
        return Content::Foreign;
    }
    Record::parse(&text).map_or(Content::Incomplete, |record| Content::Record(Box::new(record)))
}

/// The token of the record in the lock file that is open as `file`, also where the rest of it cannot be read; 0 where there is
/// no record (yet), `None` where the file has somebody's data.
///
/// Less than [`read`]: another waits for what is done once the lock is had.
#[must_use]
pub fn last_token(file: &File) -> Option<u64> {
    bytes_of(file, token_in).unwrap_or(Some(0))
}

fn token_in(bytes: &[u8]) -> Option<u64> {
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

/// Writes `record` over what is in `file`, which is open on `path` and has nobody's data.
///
/// A descriptor that can only be read is enough to hold a lock, so the file is opened again for writing then.
pub fn write(file: &File, path: &Path, record: &Record) -> io::Result<()> {
    write_text(file, path, &record.to_text())
}

/// The same, of a record whose text is there already.
pub(crate) fn write_text(file: &File, path: &Path, text: &str) -> io::Result<()> {
    match put(file, text.as_bytes()) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
            let again = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
            if os::same_file(file, &again)? { put(&again, text.as_bytes()) } else { Ok(()) }
        }
        done => done,
    }
}

fn put(file: &File, bytes: &[u8]) -> io::Result<()> {
    os::without_size_signal(|| file.write_all_at(bytes, 0))?;
    if file.metadata()?.size() > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    Ok(())
}

/// In microseconds.
const CENTURY: u64 = 100 * 366 * 24 * 3600 * 1_000_000;

/// The next fencing token: it grows even if the file, and the last token with it, was removed.
#[must_use]
pub fn next_token(last: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_micros()).unwrap_or(0);
    // No clock was ever so far ahead: somebody wrote it, and it would leave no room to grow.
    if last > now.saturating_add(CENTURY) { now } else { now.max(last + 1) }
}

/// A value as it stands behind its key. Each quote in it takes four bytes: one that is made of them is cut further.
fn quoted(value: &str) -> Cow<'_, str> {
    let (mut quoted, mut most) = (shell_words::quote(value), value.len());
    while quoted.len() > 2 * MAX_VALUE {
        most /= 2;
        quoted = Cow::Owned(shell_words::quote(&cut(value, most)).into_owned());
    }
    quoted
}

/// Returns true if a record shows this value without a change, and does not become too long because of it.
fn is_kept_whole(value: &str) -> bool {
    value.len() <= MAX_VALUE && on_one_line(value) == value && shell_words::quote(value).len() <= MAX_VALUE
}

/// A value that keeps the form of a line a key: no control characters, and of a bounded length.
fn on_one_line(value: &str) -> Cow<'_, str> {
    // Each call reads and writes a record, so what nearly all values are is told by one look at their bytes.
    if value.len() <= MAX_VALUE && value.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return Cow::Borrowed(value);
    }
    let plain: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    Cow::Owned(if plain.len() > MAX_VALUE { cut(&plain, MAX_VALUE).into_owned() } else { plain })
}

fn cut(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Whether a shell takes it as it is.
fn is_one_word(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:/@+".contains(&byte);
    !value.is_empty() && value.bytes().all(plain)
}

/// The words of a value as one, as a shell reads them. The two forms in which nearly all are written need no more than a look.
fn unquoted(quoted: &str) -> Option<Cow<'_, str>> {
    if quoted.is_empty() || is_one_word(quoted) {
        return Some(Cow::Borrowed(quoted));
    }
    let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    if let Some(inner) = inner.filter(|inner| !inner.contains('\'')) {
        return Some(Cow::Borrowed(inner));
    }
    Some(Cow::Owned(shell_words::split(quoted).ok()?.concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn what_is_unquoted_by_a_look_is_what_a_shell_reads() {
        for quoted in [
            "a", "", "''", "'a b'", "'", "'''", "'a'b'", "'a\\'", "a b", "#a", "'#a'", "'é'", "\"a\"", "a\\ b",
            "'a' 'b'",
        ] {
            let words = shell_words::split(quoted).ok().map(|words| words.concat());
            assert_eq!(unquoted(quoted).map(Cow::into_owned), words, "{quoted}");
        }
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

    #[test]
    fn a_token_grows_also_when_the_clock_goes_back() {
        let now = next_token(0);
        assert!(now > 1_700_000_000_000_000);
        let ahead = now + CENTURY / 2;
        assert_eq!(next_token(ahead), ahead + 1);
    }

    #[test]
    fn a_token_that_nobody_can_have_been_given_does_not_stop_the_others_from_growing() {
        assert!(next_token(next_token(u64::MAX)) < u64::MAX / 2);
    }
}
