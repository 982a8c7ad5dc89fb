//! The saved command, with the directory that it runs in: one file, so that they are always a pair.
//!
//! `cmd.sh` is what bash's `declare -p` would print of an array `command` and a text `directory`, for scripts that read
//! it. Here it is parsed, and never sourced. `cmd` says the same to people, and `cwd` holds the directory alone.

#[cfg(any(test, fuzzing))]
pub mod properties;

use super::files;
use super::state::Task;
use crate::os;
use crate::os::proc::process;
use crate::task::error::TaskError;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A command, and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The command and its arguments.
    pub words: Vec<OsString>,
    /// The directory.
    pub directory: PathBuf,
}

impl Saved {
    /// The command as a shell reads it.
    #[must_use]
    pub fn line(&self) -> String {
        shell_words::join(self.words.iter().map(|word| word.to_string_lossy()))
    }

    fn to_script(&self) -> Vec<u8> {
        let mut text = "declare -a command=(".to_owned();
        for (index, word) in self.words.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            let _ = write!(text, "{blank}[{index}]={}", quoted(word.as_bytes()));
        }
        let _ = write!(text, ")\ndeclare -- directory={}\n", quoted(self.directory.as_os_str().as_bytes()));
        to_bytes(&text)
    }

    /// `directory` is for a text that does not say. `None` for a text that a shell could take for anything else than these
    /// words: it is not known then what was meant to be run.
    fn from_script(script: &[u8], directory: impl FnOnce() -> Option<PathBuf>) -> Option<Self> {
        let text = to_text(script);
        let list = text.trim_ascii_start().strip_prefix("declare -a command=(")?;
        let (list, rest) = list.split_at(end_of_words(list)?);
        let rest = rest.strip_prefix(')')?;
        let mut words = Vec::new();
        for (index, word) in shell_words::split(list).ok()?.into_iter().enumerate() {
            words.push(OsString::from_vec(to_bytes(word.strip_prefix(&format!("[{index}]="))?)));
        }
        let directory = if rest.trim_ascii().is_empty() {
            directory()?
        } else {
            // Without the end of its line it may have been cut.
            let said = rest.strip_prefix("\ndeclare -- directory=")?.strip_suffix('\n')?;
            let whole = end_of_words(said)? == said.len();
            match &shell_words::split(said).ok()?[..] {
                [said] if whole => PathBuf::from(OsString::from_vec(to_bytes(said))),
                _ => return None,
            }
        };
        (!words.is_empty() && directory.is_absolute()).then_some(Self { words, directory })
    }
}

/// Each byte as one character, so that a parser of text can be used for what need not be UTF-8.
fn to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The other way round.
fn to_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}

fn quoted(bytes: &[u8]) -> String {
    format!("'{}'", to_text(bytes).replace('\'', r"'\''"))
}

/// Where the words end that a text begins with: at a parenthesis that closes, or with the text. `None` if a shell would do
/// anything but take off their quotes. So, too, for `$'...'`, which bash writes for control characters: it means something
/// else to a parser of POSIX words.
fn end_of_words(text: &str) -> Option<usize> {
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

/// More than any command line of ours, also of quotes alone, each of which takes four: in bytes.
const MAX_LEN: u64 = 32 * 1024 * 1024;

/// What was saved, and by whom.
pub(super) fn read(task: &Task) -> Result<Option<(Saved, u32)>, TaskError> {
    let bytes = |file: &File| {
        let mut bytes = Vec::new();
        // A part of it would be another command.
        let whole = file.take(MAX_LEN + 1).read_to_end(&mut bytes).is_ok_and(|len| len as u64 <= MAX_LEN);
        whole.then_some(bytes)
    };
    let Some(file) = files::open(&task.file(files::COMMAND)) else { return Ok(None) };
    let directory = || {
        let mut path = bytes(&files::open(&task.file(files::DIRECTORY))?)?;
        if path.ends_with(b"\n") {
            path.pop();
        }
        Some(PathBuf::from(OsString::from_vec(path)))
    };
    let saved = bytes(&file).and_then(|script| Saved::from_script(&script, directory));
    match (saved, file.metadata()) {
        (Some(saved), Ok(data)) => Ok(Some((saved, data.uid()))),
        _ => Err(TaskError::NotUnderstood { path: task.file(files::COMMAND) }),
    }
}

/// The saved command, to be run. Not one of another user's: root, of all, would run what they wrote.
pub(super) fn to_run(task: &Task) -> Result<Option<Saved>, TaskError> {
    match read(task)? {
        Some((_, uid)) if uid != os::user_id() => {
            Err(TaskError::NotOurCommand { id: task.id.to_string(), owner: process::user_name(uid) })
        }
        saved => Ok(saved.map(|(saved, _)| saved)),
    }
}

/// Writes the one that counts.
pub(super) fn write(task: &Task, saved: &Saved) -> Result<(), TaskError> {
    task.write(files::COMMAND, &saved.to_script())
}

/// Writes the others, which are for people.
pub(super) fn write_texts(task: &Task, saved: &Saved) {
    let mut directory = saved.directory.as_os_str().as_bytes().to_owned();
    directory.push(b'\n');
    let _ = task.write(files::DIRECTORY, &directory);
    let _ = task.write(files::COMMAND_TEXT, format!("{}\n", saved.line()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(words: &[&[u8]]) -> Saved {
        let words = words.iter().map(|word| OsString::from_vec(word.to_vec())).collect();
        Saved { words, directory: PathBuf::from("/a b/c'd\n)") }
    }

    #[test]
    fn what_was_saved_is_read_byte_by_byte() {
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
        let saved = saved(&wild);
        assert_eq!(Saved::from_script(&saved.to_script(), || None), Some(saved));
    }

    #[test]
    fn what_bash_declares_is_read_too() {
        let script = br#"declare -a command=([0]="make" [1]="-C" [2]="a \"b\" \$c" [3]="")"#;
        let read = Saved::from_script(script, || Some(PathBuf::from("/d"))).unwrap();
        assert_eq!(read.words, ["make", "-C", "a \"b\" $c", ""]);
        assert_eq!(read.directory, PathBuf::from("/d"));
    }

    #[test]
    fn what_is_not_understood_is_not_run() {
        let whole = saved(&[b"rm", b"-rf", b"/a b"]).to_script();
        let end = whole.windows(2).position(|bytes| bytes == b")\n").unwrap();
        for cut in 0..=end {
            assert_eq!(Saved::from_script(&whole[..cut], || None), None, "cut at {cut}");
        }
        // The directory is there as a whole, or elsewhere; a part of it would be another.
        let elsewhere = || Some(PathBuf::from("/"));
        for cut in end + 2..whole.len() - 1 {
            let read = Saved::from_script(&whole[..cut], elsewhere);
            assert_eq!(read.is_some(), cut == end + 2, "cut at {cut}");
        }
        for text in ["", "rm -rf /", "declare -a command=()", "declare -a command=(a)"] {
            assert_eq!(Saved::from_script(text.as_bytes(), elsewhere), None, "{text}");
        }
        // A shell would make something else of these.
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
            assert_eq!(Saved::from_script(text.as_bytes(), elsewhere), None, "{word}");
        }
        for more in
            ["rm -rf /\n", "declare -- directory='/a'", "declare -- directory='/a' x\n", "declare -- directory=/a\nx\n"]
        {
            let text = format!("declare -a command=([0]='a')\n{more}");
            assert_eq!(Saved::from_script(text.as_bytes(), elsewhere), None, "{more}");
        }
    }
}
