//! A command and the environment that it gets, ready for execvp(3).
//!
//! Unlike the commands of the standard library, it gets the signal mask and the signal actions that our parent gave to
//! us.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::signal_action::SignalAction;
use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
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
        let words = self.pointers();
        // SAFETY: a list of texts that end in NUL, itself ended by a null pointer.
        unsafe { libc::execvp(words[0], words.as_ptr()) };
        io::Error::last_os_error()
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
        self.words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
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

/// Makes the standard library start this command through execvp(3), as [`PreparedCommand`] does: execvp(3) runs a
/// script without `#!` with sh.
pub fn by_execvp(command: &mut std::process::Command) -> &mut std::process::Command {
    // The standard library uses posix_spawn(3), which does not run such a script, unless it must call a closure before.
    // SAFETY: this closure does nothing.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, || Ok(())) }
}
