//! A terminal as a screen for `status --watch`: the alternate screen, and single keys. At the end the terminal is as
//! before.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::output::write_until_signal;
use super::signal_action::SignalAction;
use super::signal_mask::SignalSet;
use super::terminal::terminal_size;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// The signals that must end this process. They are handled, because their default actions would not restore the
/// terminal.
const ENDING: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// The last signal that came; 0 if none did.
static CAME: AtomicI32 = AtomicI32::new(0);

/// Time limit for the rest of a key. A terminal sends the bytes of a key together, but they can be read in pieces.
const REST: Duration = Duration::from_millis(50);

/// An event that the caller of a [`Screen`] reacts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The first four bytes that the terminal sent for a key, padded with zeros.
    Key([u8; 4]),
    /// The time limit passed, or the size of the terminal changed: draw again.
    Draw,
    /// A signal came that must end this process.
    End(i32),
}

/// The terminal while this process uses it. Dropping this value restores the terminal.
#[derive(Debug)]
#[must_use = "the terminal is restored when it is dropped"]
pub struct Screen {
    keys: File,
    /// Bytes that were read and not returned yet.
    came: Vec<u8>,
    old: libc::termios,
    old_mask: SignalSet,
}

impl Screen {
    /// Begins to use the terminal of standard output.
    pub fn open() -> io::Result<Self> {
        extern "C" fn note(signal: libc::c_int) {
            CAME.store(signal, Ordering::Relaxed);
        }
        // Standard input can be another file.
        let keys = OpenOptions::new().read(true).open("/dev/tty")?;
        // SAFETY: all bytes zero are a valid `termios`, which the next call fills in.
        let mut old: libc::termios = unsafe { mem::zeroed() };
        // SAFETY: `old` lives until the call returns.
        if unsafe { libc::tcgetattr(keys.as_raw_fd(), &raw mut old) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handler stores into an atomic.
        let action = unsafe { SignalAction::handle(note) };
        let signals = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGWINCH];
        for signal in signals {
            action.install(signal);
        }
        // The signals come only while this process waits for keys (pselect(2)), so none is lost between a test and a
        // wait.
        let old_mask = SignalSet::new(&signals).block();
        let mut raw = old;
        raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ISIG);
        raw.c_cc[libc::VMIN] = 1;
        raw.c_cc[libc::VTIME] = 0;
        // SAFETY: the pointer lives until the call returns.
        unsafe { libc::tcsetattr(keys.as_raw_fd(), libc::TCSAFLUSH, &raw const raw) };
        let screen = Self { keys, came: Vec::new(), old, old_mask };
        // The alternate screen, without a cursor.
        write_until_signal(1, b"\x1b[?1049h\x1b[?25l");
        Ok(screen)
    }

    /// The number of columns and rows.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        terminal_size(1)
    }

    /// Shows these lines, and nothing else.
    pub fn draw(&self, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\x1b[K")).collect::<Vec<_>>().join("\r\n");
        // Writing over the old lines does not flicker as clearing the screen first would.
        write_until_signal(1, format!("\x1b[H{text}\x1b[J").as_bytes());
    }

    /// Waits for a key or a signal, for at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Event {
        loop {
            if let Some(len) = key_len(&self.came) {
                return self.key(len);
            }
            let limit = if self.came.is_empty() { limit } else { REST };
            match self.wait_for_more(limit) {
                Some(Event::Draw) if !self.came.is_empty() => return self.key(1),
                Some(event) => return event,
                None => {}
            }
        }
    }

    /// Takes the first key, which has `len` bytes, from the bytes that were read.
    fn key(&mut self, len: usize) -> Event {
        let mut bytes = [0; 4];
        for (byte, came) in bytes.iter_mut().zip(self.came.drain(..len)) {
            *byte = came;
        }
        // Ctrl-C.
        if bytes[0] == 3 { Event::End(libc::SIGINT) } else { Event::Key(bytes) }
    }

    /// Waits once. `None` if it has read more bytes.
    fn wait_for_more(&mut self, limit: Duration) -> Option<Event> {
        // SAFETY: all bytes zero are a valid `fd_set`, and the descriptor is below its limit or the call fails.
        let came = unsafe {
            let mut set: libc::fd_set = mem::zeroed();
            let fd = self.keys.as_raw_fd();
            if usize::try_from(fd).unwrap_or(usize::MAX) >= libc::FD_SETSIZE {
                return Some(Event::End(libc::SIGHUP));
            }
            libc::FD_SET(fd, &raw mut set);
            let time = libc::timespec {
                tv_sec: limit.as_secs().try_into().unwrap_or(i32::MAX.into()),
                tv_nsec: libc::c_long::from(limit.subsec_nanos().cast_signed()),
            };
            libc::pselect(
                fd + 1,
                &raw mut set,
                ptr::null_mut(),
                ptr::null_mut(),
                &raw const time,
                &raw const self.old_mask.0,
            )
        };
        let signal = CAME.swap(0, Ordering::Relaxed);
        if ENDING.contains(&signal) {
            return Some(Event::End(signal));
        }
        if came <= 0 {
            return Some(Event::Draw);
        }
        let mut bytes = [0; 64];
        match self.keys.read(&mut bytes) {
            Ok(len @ 1..) => {
                self.came.extend_from_slice(&bytes[..len]);
                None
            }
            // The terminal was closed.
            _ => Some(Event::End(libc::SIGHUP)),
        }
    }
}

/// The length of the first key. `None` if there is none, or if more bytes of it must come. The bytes of a key without a
/// character begin with ESC (ECMA-48, 5.4).
fn key_len(came: &[u8]) -> Option<usize> {
    match came {
        [] | [0x1b] | [0x1b, b'O'] => None,
        [0x1b, b'O', ..] => Some(3),
        [0x1b, b'[', rest @ ..] => match rest.iter().position(|byte| !(0x20..=0x3f).contains(byte)) {
            Some(at) if (0x40..=0x7e).contains(&rest[at]) => Some(at + 3),
            // Not such a sequence: ESC is a key of its own.
            Some(_) => Some(1),
            None if rest.len() > 16 => Some(1),
            None => None,
        },
        _ => Some(1),
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        write_until_signal(1, b"\x1b[?25h\x1b[?1049l");
        // SAFETY: it was filled in by the call in `open`.
        unsafe { libc::tcsetattr(self.keys.as_raw_fd(), libc::TCSAFLUSH, &raw const self.old) };
        self.old_mask.restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_come_together_are_separated() {
        let keys = |mut bytes: &[u8]| {
            let mut keys = Vec::new();
            while let Some(len) = key_len(bytes) {
                keys.push(String::from_utf8_lossy(&bytes[..len]).into_owned());
                bytes = &bytes[len..];
            }
            (keys.join("|"), bytes.len())
        };
        assert_eq!(keys(b"jq"), ("j|q".to_owned(), 0));
        assert_eq!(keys(b"\x1b[A\x1bOBq"), ("\x1b[A|\x1bOB|q".to_owned(), 0));
        assert_eq!(keys(b"\x1b[1;5B\x1b[6~k"), ("\x1b[1;5B|\x1b[6~|k".to_owned(), 0));
        assert_eq!(keys(b"\x1bq\x1b["), ("\x1b|q".to_owned(), 2));
        assert_eq!(keys(b"\x1b[\x03"), ("\x1b|[|\x03".to_owned(), 0));
        assert_eq!(keys(b"\x1b[1;"), (String::new(), 4));
    }
}
