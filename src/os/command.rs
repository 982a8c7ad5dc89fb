//! A command and the environment that it gets, ready for execvp(3).
//!
//! A script without `#!` is run by sh. The execvp(3) of glibc does that, but not the one of musl, nor `posix_spawn(3)`. So each
//! function that starts a command asks [`find_script_words`] if the kernel cannot execute the file.
//!
//! Unlike the commands of the standard library, it gets the signal mask and the signal actions that our parent gave to
//! us.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal_action::SignalAction;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;
use std::ptr;

/// A command and the changes to its environment.
#[derive(Debug)]
pub struct PreparedCommand {
    words: Vec<CString>,
    variables: Vec<(CString, CString)>,
    removed: Vec<CString>,
}

impl PreparedCommand {
    /// Prepares a command. Fails with [`io::ErrorKind::InvalidInput`] if a word holds a NUL byte, or if there is no
    /// word.
    pub fn new(words: &[OsString], variables: &[(&str, String)]) -> io::Result<Self> {
        if words.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let text = |bytes: Vec<u8>| CString::new(bytes).map_err(io::Error::from);
        Ok(Self {
            words: words.iter().map(|word| text(word.clone().into_vec())).collect::<io::Result<_>>()?,
            variables: variables
                .iter()
                .map(|(key, value)| Ok((text((*key).into())?, text(value.clone().into_bytes())?)))
                .collect::<io::Result<_>>()?,
            removed: Vec::new(),
        })
    }

    /// Removes these variables from the environment of the command.
    #[must_use]
    pub fn without(self, names: &[&str]) -> Self {
        let removed = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
        Self { removed, ..self }
    }

    /// Replaces this process with the command. Returns only if that fails, with the reason.
    #[must_use]
    pub fn exec(&self) -> io::Error {
        self.set_environment();
        let error = exec_words(&self.words);
        match find_script_words(&self.words, &error) {
            Some(words) => exec_words(&words),
            None => error,
        }
    }

    /// Returns the command that runs the script with sh, if starting this command failed with `error` because its file is
    /// a script without `#!`. Its environment is the one that was set for this command.
    pub(super) fn as_script(&self, error: &io::Error) -> Option<Self> {
        let words = find_script_words(&self.words, error)?;
        Some(Self { words, variables: Vec::new(), removed: Vec::new() })
    }

    /// Like [`PreparedCommand::exec`], for a command that needs the statuses of its children: gives SIGCHLD its default
    /// action. If the signal is ignored, as it is if our parent ignores it, the kernel does not keep these statuses.
    #[must_use]
    pub fn exec_as_parent(&self) -> io::Error {
        SignalAction::standard().install(libc::SIGCHLD);
        self.exec()
    }

    /// The list of words for execvp(3).
    pub(super) fn pointers(&self) -> Vec<*const libc::c_char> {
        pointers(&self.words)
    }

    /// Changes the environment of this process to that of the command.
    pub(super) fn set_environment(&self) {
        for name in &self.removed {
            // SAFETY: it ends in NUL; there is no other thread that could read the environment.
            unsafe { libc::unsetenv(name.as_ptr()) };
        }
        for (key, value) in &self.variables {
            // SAFETY: both end in NUL; there is no other thread that could read the environment.
            unsafe { libc::setenv(key.as_ptr(), value.as_ptr(), 1) };
        }
    }
}

/// Makes the standard library run the file of `command` with sh. Its start has failed with `error`. Returns that error if
/// the file is no script without `#!`.
pub fn run_with_sh(command: &mut Command, error: io::Error) -> io::Result<&mut Command> {
    let text = |word: &OsStr| CString::new(word.as_bytes()).map_err(io::Error::from);
    let words =
        [command.get_program()].into_iter().chain(command.get_args()).map(text).collect::<io::Result<Vec<_>>>()?;
    let Some(words) = find_script_words(&words, &error) else { return Err(error) };
    let variables: Vec<_> = command
        .get_envs()
        .map(|(key, value)| Ok((text(key)?, value.map(text).transpose()?)))
        .collect::<io::Result<_>>()?;
    let become_shell = move || {
        // The standard library sets the environment only after this function.
        for (key, value) in &variables {
            // SAFETY: both end in NUL. This is a child after fork(2), which has one thread.
            unsafe {
                match value {
                    Some(value) => libc::setenv(key.as_ptr(), value.as_ptr(), 1),
                    None => libc::unsetenv(key.as_ptr()),
                };
            }
        }
        Err(exec_words(&words))
    };
    // SAFETY: the process has one thread when it starts commands, so the child may allocate memory.
    Ok(unsafe { std::os::unix::process::CommandExt::pre_exec(command, become_shell) })
}

/// Replaces this process with the command of these words. Returns only if that fails, with the reason.
fn exec_words(words: &[CString]) -> io::Error {
    let words = pointers(words);
    // SAFETY: a list of texts that end in NUL, itself ended by a null pointer.
    unsafe { libc::execvp(words[0], words.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(words: &[CString]) -> Vec<*const libc::c_char> {
    words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
}

/// Returns the words that run a script without `#!` with sh. `error` is the one with which execvp(3) failed. `None`: its
/// reason is another one.
fn find_script_words(words: &[CString], error: &io::Error) -> Option<Vec<CString>> {
    if error.raw_os_error() != Some(libc::ENOEXEC) {
        return None;
    }
    let script = find_executable(words.first()?)?;
    Some([c"/bin/sh".to_owned(), script].into_iter().chain(words[1..].iter().cloned()).collect())
}

/// The directories in which execvp(3) searches if there is no variable `PATH`. Each C library has its own.
pub const DEFAULT_PATH: &CStr =
    if cfg!(target_env = "musl") { c"/usr/local/bin:/bin:/usr/bin" } else { c"/bin:/usr/bin" };

/// Returns the path of the file that execvp(3) tries to execute for this word.
fn find_executable(word: &CStr) -> Option<CString> {
    let word = word.to_bytes();
    if word.contains(&b'/') {
        return CString::new(word).ok();
    }
    // SAFETY: the name ends in NUL, and no other thread changes the environment.
    let path = unsafe {
        let path = libc::getenv(c"PATH".as_ptr());
        if path.is_null() { DEFAULT_PATH } else { CStr::from_ptr(path) }
    };
    path.to_bytes().split(|byte| *byte == b':').find_map(|directory| {
        let directory = if directory.is_empty() { b"." } else { directory };
        let file = CString::new([directory, b"/", word].concat()).ok()?;
        let is_file = fs::metadata(OsStr::from_bytes(file.to_bytes())).is_ok_and(|data| data.is_file());
        // SAFETY: the path ends in NUL.
        (is_file && unsafe { libc::access(file.as_ptr(), libc::X_OK) } == 0).then_some(file)
    })
}
