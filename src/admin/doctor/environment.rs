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
    let list = if list.is_empty() { "no variable of aba-lock is set".to_owned() } else { list.join(" ") };
    report(Finding::fine(ENVIRONMENT, list));
    if let Err(error) = default_timeout() {
        report(
            Finding::wrong(ENVIRONMENT, format!("{error}: no lock can be acquired"))
                .hint("set it to a time, or unset it"),
        );
    }
    if let Some(word) = on_conflict()
        && !["exit", "return", "ask", "warn"].contains(&word.as_str())
    {
        let found =
            format!("ABA_LOCK_ON_CONFLICT is {word:?}, which is not exit, return, ask or warn: no script can lock");
        report(Finding::wrong(ENVIRONMENT, found).hint("set it to one of these, or unset it"));
    }
    if let Some(log) = event_log() {
        report(match events::check_writable(&log) {
            Ok(()) => Finding::fine(EVENT_LOG, format!("{} is writable", log.path.display())),
            Err(error) => {
                let found = format!(
                    "cannot write to {}: {}: events are not logged",
                    log.path.display(),
                    format_io_error(&error)
                );
                Finding::wrong(EVENT_LOG, found).hint("set ABA_LOCK_LOG to a file that you can write to, or unset it")
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
            "a program between the script and this process, such as sudo, closed them: a nested call cannot share the lock of \
             the script",
        ));
    }
}
