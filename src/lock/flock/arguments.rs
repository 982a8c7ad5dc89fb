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

use super::lockable::Part;
use crate::os::Mode;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

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
    pub range: Option<Part>,
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

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// So long.
    After(Duration),
    /// No timer can be set so: less than nothing, no number, or more seconds than the system counts.
    Impossible,
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
            Opt::Timeout => self.timeout = Some(timeout(value).ok_or_else(|| wrong("timeout"))?),
            Opt::Conflict => {
                let status = integer(value).ok_or_else(|| wrong("exit status"))?;
                self.conflict = u8::try_from(status).map_err(|_| Misused::Status)?;
            }
            Opt::Close => self.close = true,
            Opt::NoFork => self.no_fork = true,
            Opt::Verbose => self.verbose = true,
            Opt::Fcntl => self.fcntl = true,
            Opt::Start => self.start = Some(size(value).ok_or_else(|| wrong("offset"))?),
            Opt::Length => self.length = Some(size(value).ok_or_else(|| wrong("length"))?),
            Opt::Fd => self.fd = Some(integer(value).ok_or_else(|| wrong("file descriptor"))?),
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
        (_, start, len) => Some(Part { start: start.unwrap_or(0), len: len.unwrap_or(0) }),
    };
    let (on, command) = if let Some(fd) = options.fd {
        let command: Vec<OsString> = first.into_iter().chain(words).collect();
        (On::Descriptor(fd), command)
    } else {
        let first = first.ok_or(Misused::NoFile)?;
        let command: Vec<OsString> = words.collect();
        if command.is_empty() {
            // Alone it has to be a number, and never makes a file.
            let fd = integer(&first).ok_or(Misused::Value("file descriptor", first))?;
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

/// The text behind the blanks with which strtol(3) and strtod(3) let a number begin.
fn without_blanks(value: &OsStr) -> Option<&str> {
    let text = value.to_str()?;
    Some(text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']))
}

/// A whole number, as strtol(3) reads it.
fn integer(value: &OsStr) -> Option<i32> {
    // The standard library knows `+7`, `-7` and leading zeros; no other sign of C's is allowed with base 10.
    without_blanks(value)?.parse().ok()
}

/// Seconds, as strtod(3) reads them; the original throws away what is less than a microsecond.
fn timeout(value: &OsStr) -> Option<Timeout> {
    let seconds = float(without_blanks(value)?)?;
    let micros = (seconds.fract() * 1e6).trunc();
    let whole = seconds.trunc();
    // The first number of seconds that does not fit is 2^63.
    if !(0.0..9_223_372_036_854_775_808.0).contains(&whole) || micros < 0.0 {
        return Some(Timeout::Impossible);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "they were looked at")]
    Some(Timeout::After(Duration::from_secs(whole as u64) + Duration::from_micros(micros as u64)))
}

fn float(text: &str) -> Option<f64> {
    let (minus, rest) = match text.as_bytes() {
        [b'-', ..] => (true, &text[1..]),
        [b'+', ..] => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => hexadecimal(&rest[2..])?,
        // A second sign.
        [b'+' | b'-', ..] => return None,
        // Not by index: the third byte may be in the middle of a letter.
        _ if rest.len() > 3 && rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("nan")) => {
            return bracketed(&rest[3..]);
        }
        _ => rest.parse().ok()?,
    };
    Some(if minus { -value } else { value })
}

/// C's `nan(1)`.
fn bracketed(text: &str) -> Option<f64> {
    let inside = text.strip_prefix('(')?.strip_suffix(')')?;
    inside.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(f64::NAN)
}

/// C's `0x1.8p3`, without `0x`.
fn hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = match text.split_once(['p', 'P']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let mut value = 0.0;
    for digit in whole.chars().chain(part.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let below = i32::try_from(part.len()).ok()?.checked_mul(4)?;
    Some(value * 2.0_f64.powi(exponent.checked_sub(below)?))
}

/// Reads a number of bytes as `strtosize` of util-linux does: `4096`, `0x1000`, `010000` (octal), `4K`, `4KiB` (times 1024),
/// `4KB` (times 1000), `1.5M`, and so on with G, T, P and E. A fraction without a unit is refused.
///
/// A number of up to 64 bits is returned, because flock(1) leaves it to the kernel to refuse an offset that no file can have
/// (status 65). Only more than 64 bits are no number (status 64).
fn size(value: &OsStr) -> Option<u64> {
    let text = without_blanks(value)?;
    let text = text.strip_prefix('+').unwrap_or(text);
    let (whole, rest) = match text.as_bytes() {
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => leading_number(&text[2..], 16)?,
        [b'0', ..] => leading_number(text, 8)?,
        _ => leading_number(text, 10)?,
    };
    if rest.is_empty() {
        return Some(whole);
    }
    let (zeros, fraction, suffix) = match rest.strip_prefix('.') {
        None => (0, 0, rest),
        Some(decimals) => {
            let digits = decimals.trim_start_matches('0');
            let (fraction, suffix) = match digits.as_bytes() {
                [b'1'..=b'9', ..] => leading_number(digits, 10)?,
                _ => (0, digits),
            };
            (decimals.len() - digits.len(), fraction, suffix)
        }
    };
    let (letter, base) = match suffix.as_bytes() {
        [letter] | [letter, b'i', b'B' | b'b'] => (letter, 1024_u64),
        [letter, b'B' | b'b'] => (letter, 1000),
        _ => return None,
    };
    // Every number of zettabytes is too large.
    let power = b"KMGTPE".iter().position(|known| *known == letter.to_ascii_uppercase())?;
    let unit = base.checked_pow(u32::try_from(power).ok()? + 1)?;
    whole.checked_mul(unit)?.checked_add(part_of_unit(unit, zeros, fraction)?)
}

/// The number at the beginning of a text, and the rest. `None`: there is none, or it has more than 64 bits.
fn leading_number(text: &str, radix: u32) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_digit(radix)).unwrap_or(text.len());
    Some((u64::from_str_radix(&text[..end], radix).ok()?, &text[end..]))
}

/// The bytes of a decimal fraction of a unit, computed with the same integer divisions as in util-linux.
///
/// They are inexact (`1.7K` is 2048, not 1740). But two processes exclude each other only if both lock the same bytes, so
/// what matters is that a script with flock(1) and one with this command read one text as one number.
fn part_of_unit(unit: u64, zeros: usize, mut fraction: u64) -> Option<u64> {
    let mut divisor: u64 = 10;
    while divisor < fraction {
        lengthen(&mut divisor, &mut fraction);
    }
    for _ in 0..zeros {
        lengthen(&mut divisor, &mut fraction);
    }
    let mut bytes: u64 = 0;
    while fraction > 0 {
        let parts = divisor.checked_div(fraction % 10).unwrap_or(0);
        bytes = bytes.checked_add(unit.checked_div(parts).unwrap_or(0))?;
        fraction /= 10;
        divisor /= 10;
    }
    Some(bytes)
}

/// Makes the divisor of the last decimal place ten times as large, or drops that place where the divisor cannot grow.
fn lengthen(divisor: &mut u64, fraction: &mut u64) {
    match divisor.checked_mul(10) {
        Some(longer) => *divisor = longer,
        None => *fraction /= 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<Timeout> {
        timeout(OsStr::new(text))
    }

    #[test]
    fn times_are_read_as_c_reads_them() {
        let after = |seconds| Some(Timeout::After(Duration::from_secs_f64(seconds)));
        for (text, value) in
            [("1", 1.0), (".5", 0.5), ("5.", 5.0), ("1e1", 10.0), ("0x10", 16.0), ("0x1.8p3", 12.0), (" +1", 1.0)]
        {
            assert_eq!(seconds(text), after(value), "{text}");
        }
        for text in ["0", "-0", "0.0000009", "-0.0000001", "1e-400"] {
            assert_eq!(seconds(text), Some(Timeout::After(Duration::ZERO)), "{text}");
        }
        for text in ["-1", "-0.5", "inf", "-infinity", "nan", "NaN(1_a)", "1e400", "9.3e18"] {
            assert_eq!(seconds(text), Some(Timeout::Impossible), "{text}");
        }
        for text in [
            "",
            " ",
            "1 ",
            "1x",
            "1,5",
            "--1",
            "+-1",
            ".",
            "0x",
            "0xp1",
            "0x1.8.1",
            "1_0",
            "nan(",
            "e1",
            "\u{661}",
            "\u{e9}\u{e9}",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert!(matches!(seconds("9e18"), Some(Timeout::After(_))));
    }

    #[test]
    fn sizes_are_read_as_util_linux_reads_them() {
        let size = |text: &str| size(OsStr::new(text));
        // Each value is what `ul_parse_size` of util-linux 2.42 returned.
        for (text, value) in [
            ("0", 0),
            ("4096", 4096),
            (" +4096", 4096),
            ("0x10", 16),
            ("0XfF", 255),
            ("0x10K", 16384),
            ("0x1e", 30),
            ("010", 8),
            ("00", 0),
            ("4K", 4096),
            ("4k", 4096),
            ("4KiB", 4096),
            ("4Kib", 4096),
            ("4KB", 4000),
            ("4kb", 4000),
            ("2M", 2 << 20),
            ("1.5K", 1536),
            ("1.5KB", 1500),
            ("1.5KiB", 1536),
            ("1.K", 1024),
            ("1.0K", 1024),
            ("0.5M", 524_288),
            ("0.25G", 268_435_455),
            ("0.05KB", 50),
            ("1.7K", 2048),
            ("1.123456K", 1149),
            ("0x1.5K", 1536),
            ("7E", 7 << 60),
            ("8E", 1 << 63),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Some(value), "{text}");
        }
        for text in [
            "",
            " ",
            "K",
            "-1",
            "-0",
            "+-1",
            "+ 1",
            ".5K",
            "1.5",
            "1.",
            "1.KK",
            "1.5KB4",
            "4KIB",
            "4Ki",
            "4B",
            "4 K",
            "08",
            "0x",
            "0xg",
            "1,5K",
            "1.5.5K",
            "16E",
            "15.99E",
            "18446744073709551616",
            "20000000T",
            "1Z",
            "\u{661}K",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
