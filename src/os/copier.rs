//! A process that copies the content of a pipe to two files, as `tee -a` does. `run-once` uses it for the output of a
//! task.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::detach::{close_inherited_except, quiet_stdio};
use super::signal_action::SignalAction;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The copying process. It continues after this value is dropped, until the last writer has closed the pipe.
#[derive(Debug)]
pub struct Copier {
    control: UnixStream,
}

impl Copier {
    /// Starts the process. Returns also the writing end of the pipe.
    pub fn start(files: [&File; 2]) -> io::Result<(Self, File)> {
        let (reader, writer) = io::pipe()?;
        let (control, theirs) = UnixStream::pair()?;
        // SAFETY: there is one thread, so the child may go on as we would.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let [one, other] = files.map(AsRawFd::as_raw_fd);
                close_inherited_except(&[reader.as_raw_fd(), theirs.as_raw_fd(), one, other]);
                quiet_stdio();
                // A limit on the size of a file then makes a write fail, instead of ending the process.
                SignalAction::ignore().install(libc::SIGXFSZ);
                copy(&File::from(OwnedFd::from(reader)), &theirs, files);
                // SAFETY: it does not return; the code of the parent must not run twice.
                unsafe { libc::_exit(0) }
            }
            _ => Ok((Self { control }, File::from(OwnedFd::from(writer)))),
        }
    }

    /// Waits until everything that was written so far is in the files, for at most `limit`.
    pub fn catch_up(&self, limit: Duration) {
        let _ = self.control.set_read_timeout(Some(limit));
        let mut control = &self.control;
        let _ = control.write_all(&[1]).and_then(|()| control.read_exact(&mut [0]));
    }
}

fn copy(mut pipe: &File, control: &UnixStream, files: [&File; 2]) {
    // SAFETY: F_SETFL sets a flag of a descriptor that is open. The writers have another open file description.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polled = [poll(pipe.as_raw_fd()), poll(control.as_raw_fd())];
    let mut bytes = vec![0; 64 * 1024];
    loop {
        // SAFETY: two elements, which live until the call returns.
        unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) };
        loop {
            match pipe.read(&mut bytes) {
                Ok(0) => return,
                Ok(len) => {
                    for mut file in files {
                        let _ = file.write_all(&bytes[..len]);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if polled[1].revents != 0 {
            // The pipe is empty now. Once the process that asks has ended, its socket is not polled any more.
            let mut control = control;
            if control.read_exact(&mut [0]).and_then(|()| control.write_all(&[1])).is_err() {
                polled[1].fd = -1;
            }
        }
    }
}
