//! The words of a `flock` command line, read as flock(1) reads them: our own, and those of others that wait or hold.
//!
//! Scripts rely on what `getopt_long(3)` of GNU does: options end at FILE, `-xn` and `-w0`, any beginning of a long name that
//! leaves no doubt, values that begin with a dash, the last of several options wins, and the first word that is wrong (or
//! `-h`, `-V`) ends it, whatever comes behind. That is read here by hand. Of the crates, lexopt does not know the beginnings
//! of names, which are half of it; clap does, but goes on behind a `-h`, looks for options behind FILE, and has to be told
//! all of them first, which in a call that is to be quick is most of the time. So clap's definition of the same options
//! (`args/flock.rs` of the command) serves help, manual page and completion alone. A test holds that both know the same.
//!
//! Options that are not the original's must not make a beginning doubtful that was none: `--s` is `--shared`, also beside
//! `--start`. So its own names are looked at first.

#[cfg(any(test, fuzzing))]
pub mod properties;

use super::byte_range::ByteRange;
use super::numbers::{Timeout, parse_integer, parse_size, parse_timeout};
use crate::os::Mode;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// What is asked for.
#[derive(Debug)]
pub enum Asked {
    /// The help.
    Help,
    /// The version.
    Version,
    /// To lock, or to unlock.
    Lock(Box<Flock>),
}

/// What is to be locked, how, and what is to be run then.
#[derive(Debug)]
pub struct Flock {
    /// What is to be locked.
    pub on: On,
    /// How.
    pub options: Options,
    /// Lock this range, by fcntl(2), instead of the file, by flock(2).
    pub range: Option<ByteRange>,
    /// The command.
    pub command: Option<Command>,
}

/// What the options come to.
#[derive(Debug)]
pub struct Options {
    /// How it is to be locked. `None`: it is to be unlocked.
    pub mode: Option<Mode>,
    /// Fail at once.
    pub nonblock: bool,
    /// Wait so long at most.
    pub timeout: Option<Timeout>,
    /// The status for a lock that is another's.
    pub conflict: u8,
    /// Keep the descriptor from the command.
    pub close: bool,
    /// Become the command.
    pub no_fork: bool,
    /// Say what happens.
    pub verbose: bool,
    fcntl: bool,
    start: Option<u64>,
    length: Option<u64>,
    fd: Option<i32>,
}

/// What is to be locked.
#[derive(Debug)]
pub enum On {
    /// A file or directory of this name.
    File(OsString),
    /// A descriptor that the caller has open.
    Descriptor(i32),
}

/// What is to be run.
#[derive(Debug)]
pub enum Command {
    /// A program and its arguments.
    Words(Vec<OsString>),
    /// A command for the user's shell.
    Shell(OsString),
}

/// Why a command line is none.
#[derive(Debug)]
pub enum Misused {
    /// There is nothing on it.
    Nothing,
    /// There is nothing to lock.
    NoFile,
    /// No such option of one letter.
    Letter(u8),
    /// No such long option.
    Unknown(OsString),
    /// A long option that could be several, and which.
    Doubtful(OsString, Vec<&'static str>),
    /// An option that has no value was given one.
    Valued(&'static str),
    /// An option, as it was written, that has to have a value.
    Bare(String),
    /// A value that is not what it has to be.
    Value(&'static str, OsString),
    /// An exit status beyond 255.
    Status,
    /// `-c` has to have one argument.
    Shell,
    /// Become the command, and keep the lock from it: nobody would hold it.
    Contrary,
}

impl fmt::Display for Misused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "not enough arguments"),
            Self::NoFile => write!(f, "a descriptor, file or directory is needed"),
            Self::Letter(letter) => write!(f, "invalid option -- '{}'", OsStr::from_bytes(&[*letter]).display()),
            Self::Unknown(word) => write!(f, "unrecognized option '{}'", word.display()),
            Self::Doubtful(word, names) => {
                write!(f, "option '{}' is ambiguous:", word.display())?;
                names.iter().try_for_each(|name| write!(f, " --{name}"))
            }
            Self::Valued(name) => write!(f, "option '--{name}' takes no value"),
            Self::Bare(option) => write!(f, "option '{option}' needs a value"),
            Self::Value(what, word) => write!(f, "invalid {what}: '{}'", word.display()),
            Self::Status => write!(f, "the exit status is to be from 0 to 255"),
            Self::Shell => write!(f, "-c needs exactly one argument, the command"),
            Self::Contrary => write!(f, "--no-fork and --close do not go together: nobody would hold the lock"),
        }
    }
}

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opt {
    Shared,
    Exclusive,
    Unlock,
    Nonblock,
    Timeout,
    Conflict,
    Close,
    NoFork,
    Verbose,
    Help,
    Version,
    Fcntl,
    Start,
    Length,
    Fd,
}

impl Opt {
    fn has_value(self) -> bool {
        matches!(self, Self::Timeout | Self::Conflict | Self::Start | Self::Length | Self::Fd)
    }
}

/// The long names of the original.
const CLASSIC: [(&str, Opt); 13] = [
    ("shared", Opt::Shared),
    ("exclusive", Opt::Exclusive),
    ("unlock", Opt::Unlock),
    ("nonblocking", Opt::Nonblock),
    ("nb", Opt::Nonblock),
    ("timeout", Opt::Timeout),
    ("wait", Opt::Timeout),
    ("conflict-exit-code", Opt::Conflict),
    ("close", Opt::Close),
    ("no-fork", Opt::NoFork),
    ("verbose", Opt::Verbose),
    ("help", Opt::Help),
    ("version", Opt::Version),
];

/// Those that older ones do not have.
const NEWER: [(&str, Opt); 4] =
    [("fcntl", Opt::Fcntl), ("start", Opt::Start), ("length", Opt::Length), ("fd", Opt::Fd)];

fn by_letter(letter: u8) -> Option<Opt> {
    Some(match letter {
        b's' => Opt::Shared,
        b'x' | b'e' => Opt::Exclusive,
        b'u' => Opt::Unlock,
        b'n' => Opt::Nonblock,
        b'w' => Opt::Timeout,
        b'E' => Opt::Conflict,
        b'o' => Opt::Close,
        b'F' => Opt::NoFork,
        b'h' => Opt::Help,
        b'V' => Opt::Version,
        _ => return None,
    })
}

/// The option of that long name, or of a name that begins so, if there is but one.
fn by_name(name: &[u8], word: &OsStr) -> Result<(&'static str, Opt), Misused> {
    if let Some(found) = CLASSIC.iter().chain(&NEWER).find(|(known, _)| known.as_bytes() == name) {
        return Ok(*found);
    }
    for table in [&CLASSIC[..], &NEWER[..]] {
        let mut found = table.iter().filter(|(known, _)| known.as_bytes().starts_with(name));
        let Some(first) = found.next() else { continue };
        // Two names of one option leave no doubt.
        if found.all(|(_, opt)| *opt == first.1) {
            return Ok(*first);
        }
        let all = CLASSIC.iter().chain(&NEWER).map(|(known, _)| *known);
        let names = all.filter(|known| known.as_bytes().starts_with(name)).collect();
        return Err(Misused::Doubtful(word.to_owned(), names));
    }
    Err(Misused::Unknown(word.to_owned()))
}

impl Options {
    /// `Some`: nothing else matters any more.
    fn take(&mut self, option: Opt, value: &OsStr) -> Result<Option<Asked>, Misused> {
        let wrong = |what| Misused::Value(what, value.to_owned());
        match option {
            Opt::Help => return Ok(Some(Asked::Help)),
            Opt::Version => return Ok(Some(Asked::Version)),
            Opt::Shared => self.mode = Some(Mode::Shared),
            Opt::Exclusive => self.mode = Some(Mode::Exclusive),
            Opt::Unlock => self.mode = None,
            Opt::Nonblock => self.nonblock = true,
            Opt::Timeout => self.timeout = Some(parse_timeout(value).ok_or_else(|| wrong("timeout"))?),
            Opt::Conflict => {
                let status = parse_integer(value).ok_or_else(|| wrong("exit status"))?;
                self.conflict = u8::try_from(status).map_err(|_| Misused::Status)?;
            }
            Opt::Close => self.close = true,
            Opt::NoFork => self.no_fork = true,
            Opt::Verbose => self.verbose = true,
            Opt::Fcntl => self.fcntl = true,
            Opt::Start => self.start = Some(parse_size(value).ok_or_else(|| wrong("offset"))?),
            Opt::Length => self.length = Some(parse_size(value).ok_or_else(|| wrong("length"))?),
            Opt::Fd => self.fd = Some(parse_integer(value).ok_or_else(|| wrong("file descriptor"))?),
        }
        Ok(None)
    }
}

/// Reads the words behind `flock`.
pub fn parse(words: Vec<OsString>) -> Result<Asked, Misused> {
    let empty = words.is_empty();
    let words = &mut words.into_iter();
    let mut options = Options {
        mode: Some(Mode::Exclusive),
        nonblock: false,
        timeout: None,
        conflict: 1,
        close: false,
        no_fork: false,
        verbose: false,
        fcntl: false,
        start: None,
        length: None,
        fd: None,
    };
    let first = loop {
        let Some(word) = words.next() else { break None };
        let done = match word.as_bytes() {
            b"--" => break words.next(),
            // The command, where there is no FILE that it could be behind.
            b"-c" | b"--command" if options.fd.is_some() => break Some(word),
            [b'-', b'-', name @ ..] => long(name, &word, words, &mut options)?,
            [b'-', letters @ ..] if !letters.is_empty() => short(letters, words, &mut options)?,
            _ => break Some(word),
        };
        if let Some(asked) = done {
            return Ok(asked);
        }
    };
    if empty {
        return Err(Misused::Nothing);
    }
    finish(options, first, words).map(|flock| Asked::Lock(Box::new(flock)))
}

fn long(
    name: &[u8],
    word: &OsStr,
    words: &mut dyn Iterator<Item = OsString>,
    options: &mut Options,
) -> Result<Option<Asked>, Misused> {
    let (name, value) = match name.iter().position(|byte| *byte == b'=') {
        Some(at) => (&name[..at], Some(OsStr::from_bytes(&name[at + 1..]))),
        None => (name, None),
    };
    let (known, option) = by_name(name, word)?;
    match (option.has_value(), value) {
        (false, None) => options.take(option, OsStr::new("")),
        (false, Some(_)) => Err(Misused::Valued(known)),
        (true, Some(value)) => options.take(option, value),
        (true, None) => options.take(option, &words.next().ok_or_else(|| Misused::Bare(format!("--{known}")))?),
    }
}

fn short(
    letters: &[u8],
    words: &mut dyn Iterator<Item = OsString>,
    options: &mut Options,
) -> Result<Option<Asked>, Misused> {
    for (at, letter) in letters.iter().enumerate() {
        let option = by_letter(*letter).ok_or(Misused::Letter(*letter))?;
        if option.has_value() {
            let rest = &letters[at + 1..];
            if !rest.is_empty() {
                return options.take(option, OsStr::from_bytes(rest));
            }
            let bare = || Misused::Bare(format!("-{}", char::from(*letter)));
            return options.take(option, &words.next().ok_or_else(bare)?);
        }
        if let Some(asked) = options.take(option, OsStr::new(""))? {
            return Ok(Some(asked));
        }
    }
    Ok(None)
}

/// With the words that are no options.
fn finish(
    options: Options,
    first: Option<OsString>,
    words: &mut dyn Iterator<Item = OsString>,
) -> Result<Flock, Misused> {
    if options.no_fork && options.close {
        return Err(Misused::Contrary);
    }
    let range = match (options.fcntl, options.start, options.length) {
        (false, None, None) => None,
        // Each of the three means locks of fcntl(2).
        (_, start, len) => Some(ByteRange { start: start.unwrap_or(0), len: len.unwrap_or(0) }),
    };
    let (on, command) = if let Some(fd) = options.fd {
        let command: Vec<OsString> = first.into_iter().chain(words).collect();
        (On::Descriptor(fd), command)
    } else {
        let first = first.ok_or(Misused::NoFile)?;
        let command: Vec<OsString> = words.collect();
        if command.is_empty() {
            // Alone it has to be a number, and never makes a file.
            let fd = parse_integer(&first).ok_or(Misused::Value("file descriptor", first))?;
            (On::Descriptor(fd), command)
        } else {
            (On::File(first), command)
        }
    };
    Ok(Flock { on, options, range, command: self::command(command)? })
}

fn command(mut words: Vec<OsString>) -> Result<Option<Command>, Misused> {
    match words.first().map(|word| word.as_bytes()) {
        None => Ok(None),
        Some(b"-c" | b"--command") if words.len() == 2 => Ok(words.pop().map(Command::Shell)),
        Some(b"-c" | b"--command") => Err(Misused::Shell),
        Some(_) => Ok(Some(Command::Words(words))),
    }
}
