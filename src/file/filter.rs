//! The sources of new content: a command that filters the old content, a command that edits a copy in place, or standard
//! input; and the commands that check the new content.
//!
//! A signal to this process is passed on to the command. After a signal, the caller discards the new content, whatever the exit
//! status of the command is. If this process is killed, the kernel kills the command: otherwise it would run on, next to that of
//! the next update.

use crate::base::command_error::CommandError;
use crate::base::environment::{COPY, FILE, UPDATING, is_exported_function, updates};
use crate::file::draft::ContentDraft;
use crate::file::edit::Edit;
use crate::file::error::FileError;
use crate::lock::inherit;
use crate::os::{self, Forward};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// The placeholder for the path of the copy in the words of a command.
pub const PLACE: &str = "{}";

/// Number of bytes after which new content from a pipe is read in larger pieces.
const LONG: usize = 1 << 20;

/// Pause before each further read of long content, in which the command fills the pipe.
const FILL_TIME: Duration = Duration::from_millis(1);

/// Returns the words that run a command. If the command is a function in the environment, or if the descriptor `state`
/// holds a description of the caller's shell to restore, then these words run a shell: the program `shell`, if that is a bash or
/// a zsh, and otherwise bash. Without `shell`, they are only the command.
#[must_use]
pub fn build_words(words: &[OsString], shell: Option<&OsStr>, state: Option<i32>) -> Vec<OsString> {
    let mut all = Vec::new();
    let is_function = state.is_some() || words.first().is_some_and(|name| is_exported_function(name));
    if let Some(shell) = shell.filter(|_| is_function) {
        let is_named = |name: &str| Path::new(shell).file_name().is_some_and(|found| found == name);
        if let (true, Some(state)) = (is_named("zsh"), state) {
            // `-f`: without the startup files.
            let script = build_zsh_script(state);
            all.extend([shell, OsStr::new("-fc"), OsStr::new(&script), OsStr::new("zsh")].map(OsStr::to_owned));
            all.extend_from_slice(words);
            return all;
        }
        // Under the name `sh`, bash does not import exported functions.
        let shell = if is_named("bash") { shell } else { OsStr::new("bash") };
        // `+m`: an interactive bash passes job control on, and then Ctrl-Z would stop only a part of the function.
        let script = state.map_or_else(|| "\"$@\"".to_owned(), build_restoring_script);
        let words = [shell, OsStr::new("+m"), OsStr::new("-c"), OsStr::new(&script), OsStr::new("bash")];
        all.extend(words.map(OsStr::to_owned));
    }
    all.extend_from_slice(words);
    all
}

/// Returns a script for bash that restores the variables, functions and options of another shell, and then runs its arguments
/// as a command. Their description is read from this descriptor.
///
/// - The script leaves posix mode first, because an assignment that fails in posix mode would end the shell. The
///   description ends with the options of the other shell.
/// - The script uses `read` only if there is no `/dev/fd`, because `read` is slow on a pipe.
fn build_restoring_script(descriptor: i32) -> String {
    format!(
        "builtin set +o posix
        __aba_state=$(</dev/fd/{descriptor}) || IFS= builtin read -r -d '' __aba_state <&{descriptor}
        exec {descriptor}<&-
        builtin eval \"$__aba_state\" 2>/dev/null
        builtin unset -v __aba_state
        if builtin declare -F -- \"$1\" >/dev/null; then \"$@\"; else builtin exec \"$@\"; fi"
    )
}

/// Returns a script for zsh that does the same as [`build_restoring_script`].
fn build_zsh_script(descriptor: i32) -> String {
    format!(
        "__aba_state=$(</dev/fd/{descriptor})
        __aba_fd={descriptor}
        exec {{__aba_fd}}<&-
        eval \"$__aba_state\" 2>/dev/null
        unset __aba_state __aba_fd
        if (($+functions[$1])); then \"$@\"; else exec \"$@\"; fi"
    )
}

/// Runs a command with the old content as its input. Its output becomes the new content. Returns the exit status of the
/// command.
///
/// The new content is complete when the output is closed, as in a pipeline: the output of processes that the command left in
/// the background belongs to it.
pub fn run_filter(
    edit: &Edit,
    words: &[OsString],
    draft: &mut ContentDraft,
    forward: &Forward,
) -> Result<i32, FileError> {
    let (output, end) = io::pipe().map_err(edit.failed("read the new content of"))?;
    let output = File::from(OwnedFd::from(output));
    let inode = output.metadata().map_err(edit.failed("read the new content of"))?.ino();
    let mut command = build_command(edit, words, Some(inode));
    command.stdin(edit.open_old()?.map_or_else(Stdio::null, Stdio::from)).stdout(end);
    let mut child = start_command(&mut command, words, forward)?;
    // Closes the write end of this process: while it is open, the output does not end.
    drop(command);
    let mut status = None;
    let go_on = || {
        if forward.came().is_some() && status.is_none() {
            status = forward.wait(true);
        }
        status.is_none()
    };
    let copied = copy_content(edit, output, draft, go_on);
    // The output is closed, so a command that still writes is killed by SIGPIPE. This kills a command that does not write.
    if copied.is_err() {
        let _ = child.kill();
    }
    let status = status.unwrap_or_else(|| forward.wait(false).unwrap_or(127));
    copied?;
    Ok(status)
}

/// Runs a command on a copy of the file. The path of the copy replaces each `{}` in the words. The content of the copy becomes
/// the new content when the command has succeeded. Returns its exit status.
pub fn run_on_copy(
    edit: &Edit,
    words: &[OsString],
    draft: &mut ContentDraft,
    forward: &Forward,
) -> Result<i32, FileError> {
    let copy = edit.create_copy()?;
    let words: Vec<OsString> = words.iter().map(|word| fill_in_path(word, copy.path.as_os_str())).collect();
    start_command(build_command(edit, &words, None).env(COPY, &copy.path), &words, forward)?;
    let status = forward.wait(false).unwrap_or(127);
    if status == 0 {
        let content = copy.open_content().map_err(edit.failed("read the new content of"))?;
        copy_content(edit, content, draft, || forward.came().is_none())?;
    }
    Ok(status)
}

/// Runs the text of `--check` as a shell command. Its input is the new content, `$1` is the path of a file with the new
/// content, and its output goes to stderr. Returns its exit status.
pub fn run_check(edit: &Edit, text: &str, draft: &ContentDraft, forward: &Forward) -> Result<i32, FileError> {
    let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(edit.failed("check"))?;
    let before = draft.version()?;
    let words = inherit::build_shell_command(text, draft.visible_path().as_os_str());
    let mut command = build_command(edit, &words, None);
    command.env(COPY, draft.visible_path()).stdin(draft.open_content()?).stdout(stderr);
    start_command(&mut command, &words, forward)?;
    let status = forward.wait(false).unwrap_or(127);
    // The content that the check accepted must be the content that it read.
    if draft.version()? == before { Ok(status) } else { Err(FileError::CheckWrote { label: edit.label().to_owned() }) }
}

/// Copies standard input to the draft.
pub fn read_input(edit: &Edit, draft: &mut ContentDraft, forward: &Forward) -> Result<(), FileError> {
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(edit.failed("read the new content of"))?;
    copy_content(edit, File::from(input), draft, || forward.came().is_none())?;
    Ok(())
}

/// Copies everything that can be read to the draft. Stops and returns false if `go_on`, which is called before each read,
/// returns false.
///
/// Many commands write 4 KiB at a time to a pipe. Each of these calls would wake this process, which takes longer than the copy. So
/// long content gets a larger pipe, and this process pauses before it reads again.
fn copy_content(
    edit: &Edit,
    mut from: File,
    draft: &mut ContentDraft,
    mut go_on: impl FnMut() -> bool,
) -> Result<bool, FileError> {
    let mut bytes = vec![0; 1 << 17];
    let (mut total, mut pauses) = (0, None);
    loop {
        if !go_on() {
            return Ok(false);
        }
        match from.read(&mut bytes) {
            Ok(0) => return Ok(true),
            Ok(len) => {
                os::without_size_signal(|| draft.writer().write_all(&bytes[..len])).map_err(edit.failed("write"))?;
                total += len;
                // In a small pipe, the command would soon wait for this process.
                if total > LONG && len < bytes.len() / 4 && *pauses.get_or_insert_with(|| os::enlarge_pipe(&from)) {
                    thread::sleep(FILL_TIME);
                }
            }
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(edit.failed("read the new content of")(why)),
        }
    }
}

/// Returns a command of an update, whose output is read from the pipe with the inode `output`.
fn build_command(edit: &Edit, words: &[OsString], output: Option<u64>) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(UPDATING, format!("{} {}", updates(), edit.format_entry(output)).trim());
    command.env(FILE, edit.path()).env_remove(COPY);
    command
}

fn start_command(command: &mut Command, words: &[OsString], forward: &Forward) -> Result<Child, FileError> {
    os::tie_to_this_process(command);
    let child = command.spawn().or_else(|error| os::run_with_sh(command, error)?.spawn());
    let child = child.map_err(|why| CommandError::new(&words[0].to_string_lossy(), why))?;
    forward.to(child.id());
    Ok(child)
}

/// Replaces each placeholder in the word with the path.
fn fill_in_path(word: &OsStr, path: &OsStr) -> OsString {
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
    fn the_path_replaces_each_placeholder() {
        let with = |word: &str| fill_in_path(OsStr::new(word), OsStr::new("/p"));
        assert_eq!(with("{}"), "/p");
        assert_eq!(with("--in={}:{}"), "--in=/p:/p");
        assert_eq!(with("{ }"), "{ }");
        assert_eq!(with(""), "");
    }
}
