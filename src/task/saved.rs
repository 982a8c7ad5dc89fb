//! The saved command of a task and its working directory. Both are in one file, so that they always belong together.
//!
//! `cmd.sh` has the format in which `declare -p` of bash prints an array `command` and a string `directory`, for scripts that
//! source it. This module parses it and never runs it in a shell. `cmd` holds the command for people, and `cwd` holds only the
//! directory.
//!
//! A start or a wait without a command runs the saved command. A file that a shell could understand in another way than this
//! parser is refused, and so is the file of another user.

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod properties;

use super::directory::Task;
use super::error::TaskError;
use super::files;
use crate::os;
use crate::os::proc::process;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Maximum size in bytes of `cmd.sh`. No command line reaches it, even if it consists of quotes, each of which takes four
/// bytes.
const MAX_LEN: u64 = 32 * 1024 * 1024;

/// The size in bytes of a buffer that is large enough for most saved commands.
const USUAL_LEN: usize = 512;

/// A command and its working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedCommand {
    /// The command and its arguments.
    pub words: Vec<OsString>,
    pub directory: PathBuf,
}

impl SavedCommand {
    /// Returns the command as a line of shell code.
    #[must_use]
    pub fn to_line(&self) -> String {
        shell_words::join(self.words.iter().map(|word| word.to_string_lossy()))
    }

    fn to_script(&self) -> Vec<u8> {
        let mut text = "declare -a command=(".to_owned();
        for (index, word) in self.words.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            let _ = write!(text, "{blank}[{index}]={}", quote(word.as_bytes()));
        }
        let _ = write!(text, ")\ndeclare -- directory={}\n", quote(self.directory.as_os_str().as_bytes()));
        to_bytes(&text)
    }

    /// Parses the content of `cmd.sh`. `directory` supplies the directory if the text has none. Returns `None` if a
    /// shell could read other words in the text than this parser, because then the intended command is unknown.
    fn parse_script(script: &[u8], directory: impl FnOnce() -> Option<PathBuf>) -> Option<Self> {
        let text = to_text(script);
        let list = text.trim_ascii_start().strip_prefix("declare -a command=(")?;
        let (list, rest) = list.split_at(find_end_of_words(list)?);
        let rest = rest.strip_prefix(')')?;
        let mut words = Vec::new();
        for (index, word) in shell_words::split(list).ok()?.into_iter().enumerate() {
            words.push(OsString::from_vec(to_bytes(word.strip_prefix(&format!("[{index}]="))?)));
        }
        let directory = if rest.trim_ascii().is_empty() {
            directory()?
        } else {
            // A line without its end may have been truncated.
            let value = rest.strip_prefix("\ndeclare -- directory=")?.strip_suffix('\n')?;
            let is_whole = find_end_of_words(value)? == value.len();
            match &shell_words::split(value).ok()?[..] {
                [path] if is_whole => PathBuf::from(OsString::from_vec(to_bytes(path))),
                _ => return None,
            }
        };
        (!words.is_empty() && directory.is_absolute()).then_some(Self { words, directory })
    }
}

/// Converts each byte to one character, so that a parser of text can read bytes that are not UTF-8.
fn to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Reverses [`to_text`].
fn to_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}

fn quote(bytes: &[u8]) -> String {
    format!("'{}'", to_text(bytes).replace('\'', r"'\''"))
}

/// Returns the position at which the words at the beginning of a text end: at a closing parenthesis, or at the end of the text.
///
/// Returns `None` if a shell would do more than remove the quotes. This includes `$'...'`, which bash writes for control
/// characters, because a parser of POSIX words reads it differently.
fn find_end_of_words(text: &str) -> Option<usize> {
    let (mut quote, mut escaped) = (None, false);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            (_, '\0') => return None,
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (None | Some('"'), '$' | '`') => return None,
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, ')') => return Some(at),
            (None, _) if character.is_ascii_alphanumeric() || !character.is_ascii() => {}
            (None, _) if !" \t\n_-./:=@%+,[]".contains(character) => return None,
            _ => {}
        }
    }
    (quote.is_none() && !escaped).then_some(text.len())
}

impl Task<'_> {
    /// Returns the saved command, if there is one that can be read.
    #[must_use]
    pub fn saved_command(&self) -> Option<SavedCommand> {
        self.read_saved().ok().flatten().map(|(saved, _)| saved)
    }

    /// Returns the saved command and the user who saved it.
    fn read_saved(&self) -> Result<Option<(SavedCommand, u32)>, TaskError> {
        let read = |file: &File| {
            let mut bytes = Vec::with_capacity(USUAL_LEN);
            // A truncated command would be another command.
            let is_whole = file.take(MAX_LEN + 1).read_to_end(&mut bytes).is_ok_and(|len| len as u64 <= MAX_LEN);
            is_whole.then_some(bytes)
        };
        let Some(file) = files::open(&self.file(files::COMMAND)) else { return Ok(None) };
        let directory = || {
            let mut path = read(&files::open(&self.file(files::DIRECTORY))?)?;
            if path.ends_with(b"\n") {
                path.pop();
            }
            Some(PathBuf::from(OsString::from_vec(path)))
        };
        let saved = read(&file).and_then(|script| SavedCommand::parse_script(&script, directory));
        match (saved, file.metadata()) {
            (Some(saved), Ok(data)) => Ok(Some((saved, data.uid()))),
            _ => Err(TaskError::NotUnderstood { path: self.file(files::COMMAND) }),
        }
    }

    /// Returns the saved command for a caller that will run it. The command of another user is refused: otherwise root
    /// would run whatever any user wrote.
    pub(super) fn load_command(&self) -> Result<Option<SavedCommand>, TaskError> {
        match self.read_saved()? {
            Some((_, uid)) if uid != os::user_id() => {
                Err(TaskError::NotOurCommand { id: self.id.to_string(), owner: process::user_name(uid) })
            }
            saved => Ok(saved.map(|(saved, _)| saved)),
        }
    }

    /// Writes `cmd.sh`.
    pub(super) fn save_command(&self, saved: &SavedCommand) -> Result<(), TaskError> {
        self.write(files::COMMAND, &saved.to_script())
    }

    /// Writes `cwd` and `cmd`, which are for people.
    pub(super) fn save_readable_command(&self, saved: &SavedCommand) {
        let mut directory = saved.directory.as_os_str().as_bytes().to_owned();
        directory.push(b'\n');
        let _ = self.write(files::DIRECTORY, &directory);
        let _ = self.write(files::COMMAND_TEXT, format!("{}\n", saved.to_line()).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build_command(words: &[&[u8]]) -> SavedCommand {
        let words = words.iter().map(|word| OsString::from_vec(word.to_vec())).collect();
        SavedCommand { words, directory: PathBuf::from("/a b/c'd\n)") }
    }

    #[test]
    fn a_saved_command_is_read_back_byte_by_byte() {
        let wild = [
            &b"a"[..],
            b"",
            b"tab\there",
            b"two\nlines\n",
            b"it's $HOME `id` \\",
            b")",
            b"\xff\xfe",
            "ä€".as_bytes(),
            b"[0]=x",
            b"IFS=$'\\n'; x",
        ];
        let saved = build_command(&wild);
        assert_eq!(SavedCommand::parse_script(&saved.to_script(), || None), Some(saved));
    }

    #[test]
    fn the_output_of_declare_in_bash_is_read() {
        let script = br#"declare -a command=([0]="make" [1]="-C" [2]="a \"b\" \$c" [3]="")"#;
        let read = SavedCommand::parse_script(script, || Some(PathBuf::from("/d"))).unwrap();
        assert_eq!(read.words, ["make", "-C", "a \"b\" $c", ""]);
        assert_eq!(read.directory, PathBuf::from("/d"));
    }

    #[test]
    fn a_text_that_a_shell_reads_differently_is_refused() {
        let whole = build_command(&[b"rm", b"-rf", b"/a b"]).to_script();
        let end = whole.windows(2).position(|bytes| bytes == b")\n").unwrap();
        for cut in 0..=end {
            assert_eq!(SavedCommand::parse_script(&whole[..cut], || None), None, "cut at {cut}");
        }
        // A truncated directory would be another directory. Without one, `cwd` supplies it.
        let elsewhere = || Some(PathBuf::from("/"));
        for cut in end + 2..whole.len() - 1 {
            let read = SavedCommand::parse_script(&whole[..cut], elsewhere);
            assert_eq!(read.is_some(), cut == end + 2, "cut at {cut}");
        }
        for text in ["", "rm -rf /", "declare -a command=()", "declare -a command=(a)"] {
            assert_eq!(SavedCommand::parse_script(text.as_bytes(), elsewhere), None, "{text}");
        }
        // A shell expands these words or reads them as operators.
        for word in [
            "$'a\\tb'",
            "$HOME",
            "\"$HOME\"",
            "`id`",
            "\"`id`\"",
            "~/x",
            "a;b",
            "a&b",
            "a|b",
            "<a",
            "{a,b}",
            "a*",
            "'a\0'",
        ] {
            let text = format!("declare -a command=([0]={word})\n");
            assert_eq!(SavedCommand::parse_script(text.as_bytes(), elsewhere), None, "{word}");
        }
        for more in
            ["rm -rf /\n", "declare -- directory='/a'", "declare -- directory='/a' x\n", "declare -- directory=/a\nx\n"]
        {
            let text = format!("declare -a command=([0]='a')\n{more}");
            assert_eq!(SavedCommand::parse_script(text.as_bytes(), elsewhere), None, "{more}");
        }
    }
}
