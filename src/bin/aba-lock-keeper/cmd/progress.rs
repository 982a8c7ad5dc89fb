//! The progress of an acquisition, for the user and for [`crate::cancellation`].

use crate::cancellation::PendingLease;
use crate::lease::QueueEntry;
use crate::output;
use crate::server::lease_server::WaitObserver;
use crate::settings::Settings;

/// Prints one message at the beginning of a wait, and one if no server answers.
pub(super) struct WaitProgress<'a> {
    settings: &'a Settings,
    name: &'a str,
    pending: &'a PendingLease,
    quiet: bool,
    has_reported_wait: bool,
    has_reported_silence: bool,
}

impl<'a> WaitProgress<'a> {
    pub(super) fn new(settings: &'a Settings, name: &'a str, pending: &'a PendingLease, quiet: bool) -> Self {
        Self { settings, name, pending, quiet, has_reported_wait: false, has_reported_silence: false }
    }
}

impl WaitObserver for WaitProgress<'_> {
    fn note_id(&mut self, id: &str) {
        self.pending.set_id(Some(id));
        self.pending.check_signals();
    }

    fn report_wait(&mut self, holder: &QueueEntry) {
        if !self.quiet && !self.has_reported_wait {
            output::report_wait(self.settings.label(), holder);
        }
        self.has_reported_wait = true;
        self.pending.check_signals();
    }

    fn report_silence(&mut self, what: &str) {
        if !self.quiet && !self.has_reported_silence {
            output::report_silence(self.name, what);
        }
        self.has_reported_silence = true;
        self.pending.check_signals();
    }
}
