//! The progress of an acquisition, for the user and for [`crate::cancellation`].

use crate::cancellation::PendingLease;
use crate::lease::QueueEntry;
use crate::os::clock::Moment;
use crate::output;
use crate::server::lease_server::WaitObserver;
use crate::settings::Settings;
use std::time::Duration;

/// The time after which the holder is printed again, if the option `--progress` does not say otherwise.
const REPEAT: Duration = Duration::from_secs(60);

/// Prints one message at the beginning of a wait, and one if no server answers. With [`Self::repeat_after`], it goes on
/// to name the holder.
pub(super) struct WaitProgress<'a> {
    settings: &'a Settings,
    name: &'a str,
    pending: &'a PendingLease,
    quiet: bool,
    repeat: Option<Duration>,
    begin: Moment,
    /// The moment of the last message about a holder, and the id of that holder.
    reported: Option<(Moment, String)>,
    has_reported_silence: bool,
}

impl<'a> WaitProgress<'a> {
    pub(super) fn new(settings: &'a Settings, name: &'a str, pending: &'a PendingLease, quiet: bool) -> Self {
        let (begin, reported) = (Moment::now(), None);
        Self { settings, name, pending, quiet, repeat: None, begin, reported, has_reported_silence: false }
    }

    /// Prints the holder again after this time, and when another one has followed. The reader of a log sees no other sign
    /// of life.
    pub(super) fn repeat_after(self, time: Option<Duration>) -> Self {
        Self { repeat: Some(time.unwrap_or(REPEAT)), ..self }
    }
}

impl WaitObserver for WaitProgress<'_> {
    fn note_id(&mut self, id: &str) {
        self.pending.set_id(id);
        self.pending.check_signals();
    }

    fn report_wait(&mut self, holder: &QueueEntry) {
        let is_due = match (&self.reported, self.repeat) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((at, id)), Some(repeat)) => at.plus(repeat).is_past() || *id != holder.id,
        };
        if is_due {
            if !self.quiet {
                let waited = self.reported.as_ref().map(|_| self.begin.elapsed());
                output::report_wait(self.settings.label(), holder, waited);
            }
            self.reported = Some((Moment::now(), holder.id.clone()));
        }
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
