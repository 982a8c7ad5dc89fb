//! The check of the environment variables of aba-lock, and of the event log and the descriptors that they name.

use super::finding::{Finding, Report};
use crate::base::environment::{default_timeout, event_log, inherited_descriptors, on_conflict, settings};
use crate::base::text::format_io_error;
use crate::lock::events;
use crate::os;

const ENVIRONMENT: &str = "environment";
const EVENT_LOG: &str = "event log";

/// Reports the variables of aba-lock that are set, and each value that is invalid or cannot be used.
pub(super) fn check_environment(report: Report) {
    let settings = settings();
    let list: Vec<String> =
        settings.iter().map(|(name, value)| format!("{name}={}", shell_words::quote(value))).collect();
    let list = if list.is_empty() { "none of our variables is set".to_owned() } else { list.join(" ") };
    report(Finding::fine(ENVIRONMENT, list));
    if let Err(error) = default_timeout() {
        report(
            Finding::wrong(ENVIRONMENT, format!("{error}: nothing can be locked")).hint("set it right, or unset it"),
        );
    }
    if let Some(word) = on_conflict()
        && !["exit", "return", "ask", "warn"].contains(&word.as_str())
    {
        let found = format!("ABA_LOCK_ON_CONFLICT is {word:?}: aba_lock_operation ends each script with 2");
        report(Finding::wrong(ENVIRONMENT, found).hint("set it to exit, return, ask or warn"));
    }
    if let Some(log) = event_log() {
        report(match events::check_writable(&log) {
            Ok(()) => Finding::fine(EVENT_LOG, format!("{} can be written to", log.path.display())),
            Err(error) => {
                let found = format!(
                    "{} cannot be written to: {}: no event is kept",
                    log.path.display(),
                    format_io_error(&error)
                );
                Finding::wrong(EVENT_LOG, found).hint("set ABA_LOCK_LOG to a file that you may write to, or unset it")
            }
        });
    }
    let closed: Vec<String> = inherited_descriptors()
        .into_iter()
        .filter(|fd| os::second_descriptor(*fd).is_none())
        .map(|fd| fd.to_string())
        .collect();
    if !closed.is_empty() {
        let found = format!("ABA_LOCK_FDS names descriptors that are not open: {}", closed.join(" "));
        report(Finding::note(ENVIRONMENT, found).hint(
            "what stands between here and the script closes them; a nested call finds its own script in the way",
        ));
    }
}
