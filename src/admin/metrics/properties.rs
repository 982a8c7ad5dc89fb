//! Properties of the event log that must hold for any input.

use super::{LockCounts, LoggedLock, count_line};
use crate::lock::events;
use crate::lock::history::{for_each_line, parse_events};
use crate::properties::{somewhere, texts};
use crate::store::scope::find_scope_of_file;
use std::path::Path;

/// Checks the properties with `bytes` as a log, and as the values of an event.
///
/// # Panics
///
/// Panics if a property does not hold.
pub fn check_event_log(bytes: &[u8]) {
    check_counts(&count(bytes), bytes.len());

    let mut values = texts(bytes).into_iter();
    let mut value = || values.next().unwrap_or_default();
    let (label, path, command) = (value(), value(), value());
    let line = events::properties::format_acquired(&label, &path, &command);
    // An event is one line, from which each value can be read. Long values are truncated.
    assert!(line.len() < events::MAX_LINE && !line.contains('\n'), "{line}");
    let [event] = &parse_events(line.as_bytes())[..] else { panic!("not one event: {line}") };
    for (key, text) in [("lock", &label), ("path", &path), ("command", &command)] {
        let read = event[key].as_str().expect("it is a string");
        assert!(read == text || read.strip_suffix('…').is_some_and(|begin| text.starts_with(begin)), "{read:?}");
    }
    let member = |key: &str| event[key].as_str().expect("it is a string");
    let read = LoggedLock { lock: member("lock").to_owned(), scope: find_scope_of_file(Path::new(member("path"))) };
    // If a full disk truncates a line at any byte, the other lines are still read.
    let cut = &line.as_bytes()[..somewhere(bytes, line.len() + 1)];
    let log = [cut, line.as_bytes(), b"\n", line.as_bytes(), b"\n", cut].concat();
    let counts = count(&log);
    let acquired = 2 + 2 * u64::from(cut.len() == line.len());
    assert_eq!(counts.len(), 1);
    assert_eq!(counts[&read].acquired, acquired, "cut to {}", cut.escape_ascii());
    assert!((counts[&read].waited - 1.5 * f64::from(u32::try_from(acquired).unwrap_or(0))).abs() < 0.001);
    // Other text between the lines does not change their counts.
    let among = [line.as_bytes(), b"\n", bytes, b"\n", line.as_bytes(), b"\n"].concat();
    let (alone, among) = (count(bytes), count(&among));
    assert_eq!(among[&read].acquired, 2 + alone.get(&read).map_or(0, |counts| counts.acquired));
}

fn count(log: &[u8]) -> LockCounts {
    let mut counts = LockCounts::default();
    for_each_line(log, |line| count_line(&mut counts, line)).expect("it is in memory");
    counts
}

/// All counts are finite and plausible.
fn check_counts(counts: &LockCounts, bytes: usize) {
    let mut sum = 0;
    for lock in counts.values() {
        sum += lock.acquired + lock.contended + lock.covered + lock.timed_out + lock.deadlocks + lock.replaced;
        assert!(lock.waited.is_finite() && lock.waited >= 0.0, "{}", lock.waited);
    }
    assert!(sum <= bytes as u64 && (bytes > 0 || counts.is_empty()));
}
