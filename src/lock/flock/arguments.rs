//! The parser of the arguments of flock(1), for `aba-lock flock` and for other processes that run flock(1).
//!
//! Scripts rely on `getopt_long(3)` of GNU: options end at FILE; `-xn` and `-w0` are allowed, and so is any unambiguous
//! abbreviation of a long name; a value may begin with a dash; the last of several options wins; and the first wrong
//! word (or `-h`, `-V`) ends the parsing, whatever follows.
//!
//! No crate parses in this way. lexopt does not support abbreviations. clap does, but it continues after `-h`, accepts
//! options after FILE, and builds the definition of all options first, which would take most of the time of a short
//! call. So clap's definition of the same options (`args/flock.rs` of the helper) only serves the help, the manual page
//! and the completion. A test checks that both know the same options.
//!
//! The options that only newer versions of flock(1) have must not make an older abbreviation ambiguous: `--s` is
//! `--shared`, although there is also `--start`. So the names that every flock(1) has are examined first.

#[cfg(any(test, fuzzing))]
pub mod properties;

use super::byte_range::ByteRange;
use super::numbers::{Timeout, parse_integer, parse_size, parse_timeout};
use crate::os::Mode;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;

/// The request that the arguments make.
#[derive(Debug)]
pub enum FlockArguments {
    Help,
    Version,
    /// Lock or unlock.
    Lock(Box<FlockCall>),
}

/// A call of flock(1) that locks or unlocks.
#[derive(Debug)]
pub struct FlockCall {
    pub target: FlockTarget,
    pub options: FlockOptions,
    /// The range to lock by fcntl(2). `None`: the file is locked by flock(2).
    pub range: Option<ByteRange>,
    /// The command to run under the lock.
    pub command: Option<FlockCommand>,
}

/// The options, of which the last one of each kind counts.
#[derive(Debug)]
pub struct FlockOptions {
    /// The mode of the lock. `None`: unlock.
    pub mode: Option<Mode>,
    /// Do not wait.
    pub nonblock: bool,
    /// The maximum time of the wait.
    pub timeout: Option<Timeout>,
    /// The exit status if another process holds the lock.
    pub conflict: u8,
    /// Close the descriptor in the command.
    pub close: bool,
    /// Execute the command without forking.
    pub no_fork: bool,
    /// Report each step.
    pub verbose: bool,
    fcntl: bool,
    start: Option<u64>,
    length: Option<u64>,
    fd: Option<i32>,
}

/// The file to lock.
#[derive(Debug)]
pub enum FlockTarget {
    /// The path of a file or a directory.
    File(OsString),
    /// A descriptor that is inherited from the caller.
    Descriptor(i32),
}

/// The command to run under the lock.
#[derive(Debug)]
pub enum FlockCommand {
    /// A program and its arguments.
    Words(Vec<OsString>),
    /// A command for the user's shell.
    Shell(OsString),
}

/// An error in the arguments.
#[derive(Debug)]
pub enum FlockUsageError {
    NoArguments,
    /// Neither a file nor a descriptor is given.
    NoTarget,
    UnknownLetter(u8),
    UnknownName(OsString),
    /// An abbreviation of several long options, and their names.
    Ambiguous(OsString, Vec<&'static str>),
    /// A value for an option that takes none.
    UnexpectedValue(&'static str),
    /// An option without its value: `-` and its letter, or `--` and its full name.
    MissingValue(String),
    /// The name of the type of a value, and the value, which cannot be parsed.
    InvalidValue(&'static str, OsString),
    /// An exit status greater than 255.
    InvalidStatus,
    /// `-c` with no argument, or with several.
    ShellArguments,
    /// `--no-fork` with `--close`: no process would hold the lock.
    NoForkAndClose,
}

impl fmt::Display for FlockUsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoArguments => write!(f, "not enough arguments"),
            Self::NoTarget => write!(f, "missing file, directory or file descriptor"),
            Self::UnknownLetter(letter) => write!(f, "invalid option -- '{}'", OsStr::from_bytes(&[*letter]).display()),
            Self::UnknownName(word) => write!(f, "unrecognized option '{}'", word.display()),
            Self::Ambiguous(word, names) => {
                write!(f, "option '{}' is ambiguous:", word.display())?;
                names.iter().try_for_each(|name| write!(f, " --{name}"))
            }
            Self::UnexpectedValue(name) => write!(f, "option '--{name}' takes no value"),
            Self::MissingValue(option) => write!(f, "option '{option}' needs a value"),
            Self::InvalidValue(what, word) => write!(f, "invalid {what}: '{}'", word.display()),
            Self::InvalidStatus => write!(f, "the exit status must be from 0 to 255"),
            Self::ShellArguments => write!(f, "-c needs exactly one argument, the command"),
            Self::NoForkAndClose => {
                write!(f, "--no-fork and --close cannot be combined: no process would hold the lock")
            }
        }
    }
}

/// An option, under any of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlockOption {
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

impl FlockOption {
    fn has_value(self) -> bool {
        matches!(self, Self::Timeout | Self::Conflict | Self::Start | Self::Length | Self::Fd)
    }
}

/// The long names that every flock(1) has.
const CLASSIC: [(&str, FlockOption); 13] = [
    ("shared", FlockOption::Shared),
    ("exclusive", FlockOption::Exclusive),
    ("unlock", FlockOption::Unlock),
    ("nonblocking", FlockOption::Nonblock),
    ("nb", FlockOption::Nonblock),
    ("timeout", FlockOption::Timeout),
    ("wait", FlockOption::Timeout),
    ("conflict-exit-code", FlockOption::Conflict),
    ("close", FlockOption::Close),
    ("no-fork", FlockOption::NoFork),
    ("verbose", FlockOption::Verbose),
    ("help", FlockOption::Help),
    ("version", FlockOption::Version),
];

/// The long names that older versions of flock(1) do not have.
const NEWER: [(&str, FlockOption); 4] = [
    ("fcntl", FlockOption::Fcntl),
    ("start", FlockOption::Start),
    ("length", FlockOption::Length),
    ("fd", FlockOption::Fd),
];

fn find_by_letter(letter: u8) -> Option<FlockOption> {
    Some(match letter {
        b's' => FlockOption::Shared,
        b'x' | b'e' => FlockOption::Exclusive,
        b'u' => FlockOption::Unlock,
        b'n' => FlockOption::Nonblock,
        b'w' => FlockOption::Timeout,
        b'E' => FlockOption::Conflict,
        b'o' => FlockOption::Close,
        b'F' => FlockOption::NoFork,
        b'h' => FlockOption::Help,
        b'V' => FlockOption::Version,
        _ => return None,
    })
}

/// Returns the option with this long name, or the only one whose name begins with it.
fn find_by_name(name: &[u8], word: &OsStr) -> Result<(&'static str, FlockOption), FlockUsageError> {
    if let Some(found) = CLASSIC.iter().chain(&NEWER).find(|(known, _)| known.as_bytes() == name) {
        return Ok(*found);
    }
    for table in [&CLASSIC[..], &NEWER[..]] {
        let mut found = table.iter().filter(|(known, _)| known.as_bytes().starts_with(name));
        let Some(first) = found.next() else { continue };
        // Two names of one option are not ambiguous.
        if found.all(|(_, opt)| *opt == first.1) {
            return Ok(*first);
        }
        let all = CLASSIC.iter().chain(&NEWER).map(|(known, _)| *known);
        let names = all.filter(|known| known.as_bytes().starts_with(name)).collect();
        return Err(FlockUsageError::Ambiguous(word.to_owned(), names));
    }
    Err(FlockUsageError::UnknownName(word.to_owned()))
}

impl FlockOptions {
    /// Sets an option. Returns the request if the option ends the parsing.
    fn set(&mut self, option: FlockOption, value: &OsStr) -> Result<Option<FlockArguments>, FlockUsageError> {
        let wrong = |what| FlockUsageError::InvalidValue(what, value.to_owned());
        match option {
            FlockOption::Help => return Ok(Some(FlockArguments::Help)),
            FlockOption::Version => return Ok(Some(FlockArguments::Version)),
            FlockOption::Shared => self.mode = Some(Mode::Shared),
            FlockOption::Exclusive => self.mode = Some(Mode::Exclusive),
            FlockOption::Unlock => self.mode = None,
            FlockOption::Nonblock => self.nonblock = true,
            FlockOption::Timeout => self.timeout = Some(parse_timeout(value).ok_or_else(|| wrong("timeout"))?),
            FlockOption::Conflict => {
                let status = parse_integer(value).ok_or_else(|| wrong("exit status"))?;
                self.conflict = u8::try_from(status).map_err(|_| FlockUsageError::InvalidStatus)?;
            }
            FlockOption::Close => self.close = true,
            FlockOption::NoFork => self.no_fork = true,
            FlockOption::Verbose => self.verbose = true,
            FlockOption::Fcntl => self.fcntl = true,
            FlockOption::Start => self.start = Some(parse_size(value).ok_or_else(|| wrong("offset"))?),
            FlockOption::Length => self.length = Some(parse_size(value).ok_or_else(|| wrong("length"))?),
            FlockOption::Fd => self.fd = Some(parse_integer(value).ok_or_else(|| wrong("file descriptor"))?),
        }
        Ok(None)
    }
}

/// Parses the words after `flock`.
pub fn parse(words: Vec<OsString>) -> Result<FlockArguments, FlockUsageError> {
    let empty = words.is_empty();
    let words = &mut words.into_iter();
    let mut options = FlockOptions {
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
        let request = match word.as_bytes() {
            b"--" => break words.next(),
            // The command. With `--fd` there is no FILE before it.
            b"-c" | b"--command" if options.fd.is_some() => break Some(word),
            [b'-', b'-', name @ ..] => parse_long(name, &word, words, &mut options)?,
            [b'-', letters @ ..] if !letters.is_empty() => parse_short(letters, words, &mut options)?,
            _ => break Some(word),
        };
        if let Some(request) = request {
            return Ok(request);
        }
    };
    if empty {
        return Err(FlockUsageError::NoArguments);
    }
    build_call(options, first, words).map(|call| FlockArguments::Lock(Box::new(call)))
}

fn parse_long(
    name: &[u8],
    word: &OsStr,
    words: &mut dyn Iterator<Item = OsString>,
    options: &mut FlockOptions,
) -> Result<Option<FlockArguments>, FlockUsageError> {
    let (name, value) = match name.iter().position(|byte| *byte == b'=') {
        Some(at) => (&name[..at], Some(OsStr::from_bytes(&name[at + 1..]))),
        None => (name, None),
    };
    let (known, option) = find_by_name(name, word)?;
    match (option.has_value(), value) {
        (false, None) => options.set(option, OsStr::new("")),
        (false, Some(_)) => Err(FlockUsageError::UnexpectedValue(known)),
        (true, Some(value)) => options.set(option, value),
        (true, None) => {
            options.set(option, &words.next().ok_or_else(|| FlockUsageError::MissingValue(format!("--{known}")))?)
        }
    }
}

fn parse_short(
    letters: &[u8],
    words: &mut dyn Iterator<Item = OsString>,
    options: &mut FlockOptions,
) -> Result<Option<FlockArguments>, FlockUsageError> {
    for (at, letter) in letters.iter().enumerate() {
        let option = find_by_letter(*letter).ok_or(FlockUsageError::UnknownLetter(*letter))?;
        if option.has_value() {
            let rest = &letters[at + 1..];
            if !rest.is_empty() {
                return options.set(option, OsStr::from_bytes(rest));
            }
            let missing = || FlockUsageError::MissingValue(format!("-{}", char::from(*letter)));
            return options.set(option, &words.next().ok_or_else(missing)?);
        }
        if let Some(request) = options.set(option, OsStr::new(""))? {
            return Ok(Some(request));
        }
    }
    Ok(None)
}

/// Builds the call from the options and the remaining words.
fn build_call(
    options: FlockOptions,
    first: Option<OsString>,
    words: &mut dyn Iterator<Item = OsString>,
) -> Result<FlockCall, FlockUsageError> {
    if options.no_fork && options.close {
        return Err(FlockUsageError::NoForkAndClose);
    }
    let range = match (options.fcntl, options.start, options.length) {
        (false, None, None) => None,
        // Each of these three options selects the locks of fcntl(2).
        (_, start, len) => Some(ByteRange { start: start.unwrap_or(0), len: len.unwrap_or(0) }),
    };
    let (target, command) = if let Some(fd) = options.fd {
        let command: Vec<OsString> = first.into_iter().chain(words).collect();
        (FlockTarget::Descriptor(fd), command)
    } else {
        let first = first.ok_or(FlockUsageError::NoTarget)?;
        let command: Vec<OsString> = words.collect();
        if command.is_empty() {
            // A single word must be the number of a descriptor. It never creates a file.
            let fd = parse_integer(&first).ok_or(FlockUsageError::InvalidValue("file descriptor", first))?;
            (FlockTarget::Descriptor(fd), command)
        } else {
            (FlockTarget::File(first), command)
        }
    };
    Ok(FlockCall { target, options, range, command: parse_command(command)? })
}

fn parse_command(mut words: Vec<OsString>) -> Result<Option<FlockCommand>, FlockUsageError> {
    match words.first().map(|word| word.as_bytes()) {
        None => Ok(None),
        Some(b"-c" | b"--command") if words.len() == 2 => Ok(words.pop().map(FlockCommand::Shell)),
        Some(b"-c" | b"--command") => Err(FlockUsageError::ShellArguments),
        Some(_) => Ok(Some(FlockCommand::Words(words))),
    }
}
