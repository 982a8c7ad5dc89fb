//! Waits with a time limit, for pipes and for conditions.

#![expect(unsafe_code, reason = "poll(2)")]

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The time limit for each wait.
const LIMIT: Duration = Duration::from_secs(120);

/// Reads until `bytes` is full or the pipe is closed, and returns the number of bytes. `what` names the writer in messages.
pub(crate) fn read(pipe: &mut (impl Read + AsRawFd), bytes: &mut [u8], what: &str) -> usize {
    let give_up = Instant::now() + LIMIT;
    let mut len = 0;
    while len < bytes.len() {
        let left = give_up.saturating_duration_since(Instant::now()).as_millis();
        let mut poll = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: `poll` lives until the call returns.
        let ready = unsafe { libc::poll(&raw mut poll, 1, i32::try_from(left).unwrap_or(i32::MAX)) };
        assert!(ready != 0, "gave up waiting for {what}");
        match pipe.read(&mut bytes[len..]) {
            Ok(0) => break,
            Ok(some) => len += some,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("could not hear of {what}: {error}"),
        }
    }
    len
}

/// Waits until all processes have closed the other end.
pub(crate) fn wait_until_closed(pipe: &mut (impl Read + AsRawFd), what: &str) {
    assert_eq!(read(pipe, &mut [0], what), 0, "{what} said something");
}

/// Waits until `done` returns `true`.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
