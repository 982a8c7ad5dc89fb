//! Reading a pipe, with an end to all patience.

#![expect(unsafe_code, reason = "poll(2)")]

use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// The most that anything may take that is measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Reads until `bytes` is full, or the pipe has come to its end. How many there were.
pub(crate) fn read(pipe: &mut (impl Read + AsRawFd), bytes: &mut [u8], what: &str) -> usize {
    let give_up = Instant::now() + PATIENCE;
    let mut len = 0;
    while len < bytes.len() {
        let left = give_up.saturating_duration_since(Instant::now()).as_millis();
        let mut poll = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one `pollfd`, that lives until the call returns.
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

/// Waits until all have closed the other end.
pub(crate) fn until_closed(pipe: &mut (impl Read + AsRawFd), what: &str) {
    assert_eq!(read(pipe, &mut [0], what), 0, "{what} said something");
}

/// Waits until `done` says yes.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
