//! A line of the event log, for the checks of the parser of the metrics, which reads such lines.

use super::entry::{LockEvent, format_line};
use crate::os::Mode;
use std::path::Path;
use std::time::Duration;

/// Returns the line of a lock that was acquired after a second and a half.
pub(crate) fn format_acquired(label: &str, path: &str, command: &str) -> String {
    let event =
        LockEvent::Acquired { waited: Duration::from_millis(1500), mode: Mode::Shared, slot: None, token: u64::MAX };
    format_line(&event, (label, None), Path::new(path), 1, command)
}
