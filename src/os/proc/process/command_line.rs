//! The command line, the name and the initial environment of a process.
//!
//! The user of a process chooses all three, so none of them proves anything about it.

use super::activity::other_thread;
use super::namespace::has_our_numbers;
#[cfg(not(linux))]
use super::read::{SMALL, decode_lossy};
use super::read::{has_vanished, read_short, read_small, try_read_small};
#[cfg(not(linux))]
use crate::os::proc::portable;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// The words of the command line of a process. Empty if it cannot be read.
#[must_use]
pub fn words(pid: u32) -> Vec<String> {
    let text = command_text(pid, read_small);
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Does the same as [`words`], or returns why they cannot be read. Empty if the process has ended.
pub(crate) fn try_words(pid: u32) -> io::Result<Vec<String>> {
    if cfg!(not(linux)) {
        return Ok(words(pid));
    }
    match try_read_small(&format!("/proc/{pid}/cmdline")) {
        Ok(text) if text.is_empty() => Ok(words(pid)),
        Ok(text) => Ok(text.split_terminator('\0').map(str::to_owned).collect()),
        Err(error) if has_vanished(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The words of the command line of the process with this local number, which does not come from `/proc`. Empty if
/// `/proc` shows the numbers of another PID namespace.
#[must_use]
pub fn local_words(pid: u32) -> Vec<String> {
    if has_our_numbers() { words(pid) } else { Vec::new() }
}

/// The command line of a process, quoted for a shell; the name in brackets for a kernel thread. Empty if the process
/// does not exist.
#[must_use]
pub fn command_line(pid: u32) -> String {
    let text = command_text(pid, read_short);
    if text.is_empty() {
        let name = name(pid);
        return if name.is_empty() { name } else { format!("[{name}]") };
    }
    let line = quote_words(text.strip_suffix('\0').unwrap_or(&text));
    // Another user may have chosen the words: they must not control the terminal of the reader.
    if line.bytes().all(|byte| (b' '..0x7f).contains(&byte)) {
        return line;
    }
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Quotes words that are separated by NUL bytes, as [`shell_words::join`] does, but faster: each acquisition of a lock
/// does this.
fn quote_words(words: &str) -> String {
    let mut line = String::with_capacity(words.len() + 32);
    let mut rest = words;
    loop {
        let len = rest.bytes().position(|byte| byte == 0).unwrap_or(rest.len());
        let word = &rest[..len];
        if is_plain_word(word) {
            line.push_str(word);
        } else {
            line.push_str(&shell_words::quote(word));
        }
        if len == rest.len() {
            return line;
        }
        line.push(' ');
        rest = &rest[len + 1..];
    }
}

/// Returns true if the word is not empty and holds only letters, digits and `_-.:/@+`: no shell needs quotes around it.
#[must_use]
pub fn is_plain_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| PLAIN[usize::from(byte)])
}

/// For each byte, whether it may be in a plain word. A table is faster than comparisons.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        plain[byte as usize] =
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b'/' | b'@' | b'+');
        byte += 1;
    }
    plain
};

/// The command line of the process with this local number, which does not come from `/proc`. Empty if `/proc` shows the
/// numbers of another PID namespace.
#[must_use]
pub fn local_command_line(pid: u32) -> String {
    if has_our_numbers() { command_line(pid) } else { String::new() }
}

/// The command line as the kernel shows it. Empty for a kernel thread, and for a process that has ended.
fn command_text(pid: u32, read: fn(&str) -> Option<String>) -> String {
    #[cfg(not(linux))]
    if let Some(arguments) = portable::read_arguments(pid) {
        let words = &arguments.words[..arguments.words.len().min(SMALL)];
        return decode_lossy(words).into_owned();
    }
    let text = read(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if !text.is_empty() {
        return text;
    }
    other_thread(pid).and_then(|thread| read(thread.join("cmdline").to_str()?)).unwrap_or_default()
}

/// The first 15 bytes of the name of the program of a process. Empty if the process does not exist.
#[must_use]
pub fn name(pid: u32) -> String {
    #[cfg(not(linux))]
    return portable::read_process(pid).map(|facts| facts.name).unwrap_or_default();
    #[cfg(linux)]
    read_small(&format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Returns true if a process runs the file of this program, under whatever name. False if this process may not see it.
#[must_use]
pub fn runs_our_program(pid: u32) -> bool {
    static OURS: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    let identify = |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).ok().map(|file| (file.dev(), file.ino()));
    let ours = *OURS.get_or_init(|| identify("self"));
    ours.is_some() && identify(&pid.to_string()) == ours
}

/// A variable in the environment that a process was started with.
#[derive(Debug, PartialEq, Eq)]
pub enum InitialVariable {
    Value(String),
    /// The environment can be read and does not hold the variable.
    Unset,
    /// The environment is empty or cannot be read. It is empty for an instant during execve(2).
    Unknown,
}

/// The value that a variable had when the process was started.
#[must_use]
pub fn initial_variable(pid: u32, name: &str) -> InitialVariable {
    #[cfg(linux)]
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    #[cfg(not(linux))]
    let environment = portable::read_arguments(pid).unwrap_or_default().environment;
    find_variable(&environment, name)
}

pub(super) fn find_variable(environment: &[u8], name: &str) -> InitialVariable {
    if environment.is_empty() {
        return InitialVariable::Unknown;
    }
    let mut entries = environment.split(|byte| *byte == 0);
    let value = entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    value.map_or(InitialVariable::Unset, |value| InitialVariable::Value(String::from_utf8_lossy(value).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::read::{SHORT, SMALL};
    use super::*;
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_long_command_line_is_cut_after_four_kibibytes() {
        for len in [SHORT - 40, SHORT, 3000, 2 * SMALL] {
            let word = "x".repeat(len);
            let mut command = Command::new("cat");
            let mut child = command.args(["-", &word]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            // For an instant it has no arguments yet, or still the name of this thread.
            let lines = (0..60_000).map(|_| thread::sleep(Duration::from_millis(1))).map(|()| command_line(child.id()));
            let line = lines.into_iter().find(|line| line.starts_with("cat ")).unwrap_or_default();
            drop(child.stdin.take());
            child.wait().unwrap();
            let whole = format!("cat - {word}");
            assert_eq!(line, &whole[..whole.len().min(SMALL)], "of {len} bytes");
        }
    }

    #[test]
    fn words_are_quoted_as_shell_words_does() {
        let parts = ["", "a", "-c", "a b", "'", "x=1", "é", "a'b", "/usr/bin/env", "\n", "~", "\u{7f}", "a@b:c+d,e"];
        for first in parts {
            for second in parts {
                for third in parts {
                    let words = [first, second, third];
                    assert_eq!(quote_words(&words.join("\0")), shell_words::join(words), "{words:?}");
                }
            }
        }
    }

    #[test]
    fn this_process_has_a_command_line() {
        assert!(!command_line(std::process::id()).is_empty());
    }
}
