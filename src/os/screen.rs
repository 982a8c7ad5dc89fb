//! A terminal as a screen: the alternate one, keys as they are typed, and everything as it was at the end.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::detach::write_until_signal;
use super::terminal::terminal_size;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::mem;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// Those that would end us and leave the terminal as we use it.
const ENDING: [libc::c_int; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// The last signal that came; 0: none.
static CAME: AtomicI32 = AtomicI32::new(0);

/// How soon the rest of a key comes, of which some has come: a terminal sends it as a whole, but it may be read in pieces.
const REST: Duration = Duration::from_millis(50);

/// What there is to react to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A key: what the terminal sent for it, at most four bytes of that, those behind it zero.
    Key([u8; 4]),
    /// The time is up, or the size has changed.
    Draw,
    /// A signal is to end us.
    End(i32),
}

/// The terminal, as long as we use it. Dropping it gives it back.
#[derive(Debug)]
#[must_use = "the terminal is given back when it is dropped"]
pub struct Screen {
    keys: File,
    /// What came, and was not seen to yet.
    came: Vec<u8>,
    old: libc::termios,
    old_mask: libc::sigset_t,
}

impl Screen {
    /// Begins to use the terminal that standard output is on.
    pub fn open() -> io::Result<Self> {
        extern "C" fn note(signal: libc::c_int) {
            CAME.store(signal, Ordering::Relaxed);
        }
        // Standard input may be anything.
        let keys = OpenOptions::new().read(true).open("/dev/tty")?;
        // SAFETY: all bytes zero are valid for these types, and they are ours to be written to.
        let (mut old, mut old_mask): (libc::termios, libc::sigset_t) = unsafe { mem::zeroed() };
        // SAFETY: `old` lives until the call returns.
        if unsafe { libc::tcgetattr(keys.as_raw_fd(), &raw mut old) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all bytes zero are valid for these types, and they live until each call returns; the handler stores into
        // an atomic.
        unsafe {
            let (mut action, mut set): (libc::sigaction, libc::sigset_t) = mem::zeroed();
            action.sa_sigaction = note as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigemptyset(&raw mut set);
            for signal in ENDING.into_iter().chain([libc::SIGWINCH]) {
                libc::sigaction(signal, &raw const action, ptr::null_mut());
                libc::sigaddset(&raw mut set, signal);
            }
            // They come while we wait for keys, and at no other time: so none comes between a look and a wait.
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut old_mask);
            let mut raw = old;
            raw.c_lflag &= !(libc::ICANON | libc::ECHO | libc::ISIG);
            raw.c_cc[libc::VMIN] = 1;
            raw.c_cc[libc::VTIME] = 0;
            libc::tcsetattr(keys.as_raw_fd(), libc::TCSAFLUSH, &raw const raw);
        }
        let screen = Self { keys, came: Vec::new(), old, old_mask };
        // The alternate screen, without a cursor.
        write_until_signal(1, b"\x1b[?1049h\x1b[?25l");
        Ok(screen)
    }

    /// How many columns and rows there are.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        terminal_size(1)
    }

    /// Shows these lines, and nothing else.
    pub fn draw(&self, lines: &[String]) {
        let text: String = lines.iter().map(|line| format!("{line}\x1b[K")).collect::<Vec<_>>().join("\r\n");
        // From the top, over what is there: a screen that is cleared first flickers.
        write_until_signal(1, format!("\x1b[H{text}\x1b[J").as_bytes());
    }

    /// Waits for a key or a signal, at most so long.
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

    /// The first key of those that came.
    fn key(&mut self, len: usize) -> Event {
        let mut bytes = [0; 4];
        for (byte, came) in bytes.iter_mut().zip(self.came.drain(..len)) {
            *byte = came;
        }
        // Ctrl-C.
        if bytes[0] == 3 { Event::End(libc::SIGINT) } else { Event::Key(bytes) }
    }

    /// `None`: more has come.
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
                tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
                tv_nsec: libc::c_long::from(limit.subsec_nanos().cast_signed()),
            };
            libc::pselect(
                fd + 1,
                &raw mut set,
                ptr::null_mut(),
                ptr::null_mut(),
                &raw const time,
                &raw const self.old_mask,
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
            // The terminal is gone.
            _ => Some(Event::End(libc::SIGHUP)),
        }
    }
}

/// How many of these bytes are the first key. `None`: there is none, or more of it is to come. What is sent for a key that
/// writes nothing begins with ESC (ECMA-48, 5.4).
fn key_len(came: &[u8]) -> Option<usize> {
    match came {
        [] | [0x1b] | [0x1b, b'O'] => None,
        [0x1b, b'O', ..] => Some(3),
        [0x1b, b'[', rest @ ..] => match rest.iter().position(|byte| !(0x20..=0x3f).contains(byte)) {
            Some(at) if (0x40..=0x7e).contains(&rest[at]) => Some(at + 3),
            // None of that kind: ESC by itself.
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
        // SAFETY: both were filled by the calls in `open`.
        unsafe {
            libc::tcsetattr(self.keys.as_raw_fd(), libc::TCSAFLUSH, &raw const self.old);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.old_mask, ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_come_together_are_told_apart() {
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
