//! Commands that make new content out of old: as a filter, or in place on a copy; and commands that check it.
//!
//! A signal to this process is passed on to the command. However that ends, the new content is discarded.

use crate::base::environment::{COPY, FILE, UPDATING, is_exported_function, updates};
use crate::base::error::CommandError;
use crate::file::edit::{Draft, Edit, pour};
use crate::file::error::FileError;
use crate::lock::inherit;
use crate::os::{self, Forward};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The placeholder for the path of the copy in the words of a command.
pub const PLACE: &str = "{}";

/// The words of a command, with `shell` in front of them if the command is a function that was exported to it, or that it
/// finds in a description of another shell: the descriptor `state`.
#[must_use]
pub fn by_shell(words: &[OsString], shell: Option<&OsStr>, state: Option<i32>) -> Vec<OsString> {
    let mut all = Vec::new();
    let is_function = state.is_some() || words.first().is_some_and(|name| is_exported_function(name));
    if let Some(shell) = shell.filter(|_| is_function) {
        // Called `sh` it would not know what was exported.
        let is_bash = Path::new(shell).file_name().is_some_and(|name| name == "bash");
        let shell = if is_bash { shell } else { OsStr::new("bash") };
        // `+m`: an interactive bash hands job control down, and Ctrl-Z would stop a part of the function alone.
        let script = state.map_or_else(|| "\"$@\"".to_owned(), like_the_shell_described_on);
        let words = [shell, OsStr::new("+m"), OsStr::new("-c"), OsStr::new(&script), OsStr::new("bash")];
        all.extend(words.map(OsStr::to_owned));
    }
    all.extend_from_slice(words);
    all
}

/// A script for bash that sets what the text on this descriptor describes, and then runs its arguments as a command.
///
/// Not in posix mode, where a name that cannot be set would end it; the text ends with the options of the other shell. There
/// may be no `/dev/fd`, and `read` is slow on a pipe.
fn like_the_shell_described_on(descriptor: i32) -> String {
    format!(
        "builtin set +o posix
        __aba_state=$(</dev/fd/{descriptor}) || IFS= builtin read -r -d '' __aba_state <&{descriptor}
        exec {descriptor}<&-
        builtin eval \"$__aba_state\" 2>/dev/null
        builtin unset -v __aba_state
        if builtin declare -F -- \"$1\" >/dev/null; then \"$@\"; else builtin exec \"$@\"; fi"
    )
}

/// Runs a command with the old content as its input; its output becomes the new content. Returns its exit
/// status.
///
/// The new content ends with the output, as in a pipeline: processes that the command left in the background belong to it.
pub fn through(edit: &Edit, words: &[OsString], draft: &mut Draft, forward: &Forward) -> Result<i32, FileError> {
    let (output, end) = io::pipe().map_err(edit.failed("read the new content of"))?;
    let output = File::from(OwnedFd::from(output));
    let inode = output.metadata().map_err(edit.failed("read the new content of"))?.ino();
    let mut command = command(edit, words, Some(inode));
    command.stdin(edit.old()?.map_or_else(Stdio::null, Stdio::from)).stdout(end);
    let mut child = start(&mut command, words, forward)?;
    // Closes our end for writing: while it is open, the output does not end.
    drop(command);
    let mut status = None;
    let go_on = || {
        if forward.came().is_some() && status.is_none() {
            status = forward.wait(true);
        }
        status.is_none()
    };
    let poured = pour(output, draft.writer(), go_on);
    // The output is closed, so a command that still writes ends by SIGPIPE. This ends one that does not write.
    if poured.is_err() {
        let _ = child.kill();
    }
    let status = status.unwrap_or_else(|| forward.wait(false).unwrap_or(127));
    poured.map_err(|failed| failed.of(edit.label()))?;
    Ok(status)
}

/// Runs a command on a copy of the file, whose path takes the place of each `{}`; the content of the copy afterwards becomes
/// the new content. Returns its exit status.
pub fn in_place(edit: &Edit, words: &[OsString], draft: &mut Draft, forward: &Forward) -> Result<i32, FileError> {
    let copy = edit.copy()?;
    let words: Vec<OsString> = words.iter().map(|word| with_path(word, copy.path.as_os_str())).collect();
    start(command(edit, &words, None).env(COPY, &copy.path), &words, forward)?;
    let status = forward.wait(false).unwrap_or(127);
    if status == 0 {
        let content = copy.content().map_err(edit.failed("read the new content of"))?;
        pour(content, draft.writer(), || forward.came().is_none()).map_err(|failed| failed.of(edit.label()))?;
    }
    Ok(status)
}

/// Runs the text of `--check` as a shell command. It gets the new content as its input, and as a file whose path is `$1`; its
/// output goes to stderr. Returns its exit status.
pub fn check(edit: &Edit, text: &str, draft: &Draft, forward: &Forward) -> Result<i32, FileError> {
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(edit.failed("check"))?;
    let before = draft.seal()?;
    let words = inherit::build_shell_command(text, draft.shown().as_os_str());
    let mut command = command(edit, &words, None);
    command.env(COPY, draft.shown()).stdin(draft.content()?).stdout(stderr);
    start(&mut command, &words, forward)?;
    let status = forward.wait(false).unwrap_or(127);
    // The content that it accepted must be the content that it read.
    if draft.seal()? == before { Ok(status) } else { Err(FileError::CheckWrote { label: edit.label().to_owned() }) }
}

/// Makes the content of standard input the new content.
pub fn from_input(edit: &Edit, draft: &mut Draft, forward: &Forward) -> Result<(), FileError> {
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(edit.failed("read the new content of"))?;
    let input = File::from(input);
    pour(input, draft.writer(), || forward.came().is_none()).map_err(|failed| failed.of(edit.label()))?;
    Ok(())
}

/// A command of an update, which reads its output from the pipe with the inode `output`.
fn command(edit: &Edit, words: &[OsString], output: Option<u64>) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(UPDATING, format!("{} {}", updates(), edit.mark(output)).trim());
    command.env(FILE, edit.path()).env_remove(COPY);
    command
}

fn start(command: &mut Command, words: &[OsString], forward: &Forward) -> Result<Child, FileError> {
    let child = match command.spawn() {
        // A script without `#!`, which execvp(3) runs with sh, and posix_spawn(3) does not.
        Err(why) if why.raw_os_error() == Some(libc::ENOEXEC) => os::by_execvp(command).spawn(),
        spawned => spawned,
    }
    .map_err(|why| CommandError::new(&words[0].to_string_lossy(), why))?;
    forward.to(child.id());
    Ok(child)
}

fn with_path(word: &OsStr, path: &OsStr) -> OsString {
    let (word, path) = (word.as_bytes(), path.as_bytes());
    let mut new = Vec::with_capacity(word.len() + path.len());
    let mut at = 0;
    while at < word.len() {
        if word[at..].starts_with(PLACE.as_bytes()) {
            new.extend_from_slice(path);
            at += PLACE.len();
        } else {
            new.push(word[at]);
            at += 1;
        }
    }
    OsString::from_vec(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_takes_each_place() {
        let with = |word: &str| with_path(OsStr::new(word), OsStr::new("/p"));
        assert_eq!(with("{}"), "/p");
        assert_eq!(with("--in={}:{}"), "--in=/p:/p");
        assert_eq!(with("{ }"), "{ }");
        assert_eq!(with(""), "");
    }
}
