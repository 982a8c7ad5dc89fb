//! Progress messages of a call that waits for a lock.

use super::force::report_replacement;
use super::hint::{hint_for_stalled_holder, hint_for_stalled_range_holder};
use super::holder::{describe_holder, describe_lease, describe_range_holders};
use super::stream::{clear_line, print_message, redraw_line};
use super::text::{spell_number, spell_ordinal};
use aba_lock::base::duration::format_span;
use aba_lock::base::target::Target;
use aba_lock::lock::holders::LockState;
use aba_lock::lock::kill::ForcedRelease;
use aba_lock::lock::wait::{Contention, Waiting};
use aba_lock::os;
use std::cell::OnceCell;
use std::time::{Duration, Instant};

/// Reports a wait: with a message at its beginning and each ten minutes, or on a terminal with a line that is redrawn each second.
#[derive(Debug)]
pub(crate) struct LockProgress {
    quiet: bool,
    /// True if the line on a terminal is redrawn. It is determined when it is first needed: most calls do not wait.
    live: OnceCell<bool>,
    shown: bool,
    /// True if an earlier process has reported that this call waits.
    resumes: bool,
    started: Instant,
}

/// A process that has waited for this long has reported its wait.
const REPORT_DELAY: Duration = Duration::from_millis(150);

/// The time between two messages about a wait without a terminal.
const REMINDER_INTERVAL: Duration = Duration::from_secs(600);

impl LockProgress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self::resume(quiet, Duration::ZERO)
    }

    /// Continues the wait of an earlier process, which has lasted this long.
    pub(crate) fn resume(quiet: bool, waited: Duration) -> Self {
        let now = Instant::now();
        let started = now.checked_sub(waited).unwrap_or(now);
        Self { quiet, live: OnceCell::new(), shown: false, resumes: waited >= REPORT_DELAY, started }
    }

    fn is_live(&self) -> bool {
        *self.live.get_or_init(|| !self.quiet && os::is_terminal(2))
    }

    /// The time since the call began, including the wait of an earlier process that it continues.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn show(&mut self, waiting: &Waiting, is_first: bool) {
        let label = &waiting.target.label;
        let (held, hint) = match waiting.state() {
            LockState { holding: Some(holding), .. } => {
                (format!(", held by {}", describe_holder(&holding)), hint_for_stalled_holder(&holding))
            }
            LockState { range: Some(range), .. } => {
                (format!(", locked {}", describe_range_holders(&range)), hint_for_stalled_range_holder(&range))
            }
            LockState { lease: Some(lease), .. } => {
                (format!(", whose lock file cannot be opened: {}", describe_lease(&lease)), None)
            }
            _ => (String::new(), None),
        };
        let place = waiting.queue_position();
        let place = place.map(|(at, of)| format!(" ({} of {})", spell_ordinal(at), spell_number(of)));
        let place = place.unwrap_or_default();
        // The wait may have ended while the state was read.
        if waiting.is_over() {
            return;
        }
        if self.is_live() {
            // The part that changes comes first, because the end of the line may be cut.
            redraw_line(&format!("aba-lock: waiting {} for {label}{place}{held}", format_span(self.elapsed())));
            self.shown = true;
        } else {
            let text = if is_first {
                format!("waiting for {label}{place}{held}")
            } else {
                format!("still waiting for {label} after {}{place}{held}", format_span(self.elapsed()))
            };
            print_message(&text, hint.as_deref());
        }
    }
}

impl Contention for LockProgress {
    fn reports(&self) -> bool {
        !self.quiet
    }

    fn interval(&self) -> Option<Duration> {
        if self.is_live() {
            return Some(Duration::from_secs(1));
        }
        // The interval counts from the beginning of the wait, which earlier processes of the call may have begun.
        let past = self.elapsed().as_millis() % REMINDER_INTERVAL.as_millis();
        let left = REMINDER_INTERVAL.saturating_sub(Duration::from_millis(past.try_into().unwrap_or_default()));
        (!self.quiet).then_some(left)
    }

    fn begins(&mut self, waiting: &Waiting) {
        if !self.quiet && (!self.resumes || self.is_live()) {
            self.show(waiting, true);
        }
    }

    fn tick(&mut self, waiting: &Waiting) {
        if !self.quiet {
            self.show(waiting, false);
        }
    }

    fn ends(&mut self) {
        if self.shown {
            clear_line();
        }
    }

    fn replaces(&mut self, target: &Target, release: &ForcedRelease) {
        if !self.quiet {
            // The message about a holder that is waited for names the wait, too.
            self.resumes |= report_replacement(target, release);
        }
    }
}

/// The time for which [`DelayedProgress`] stays silent. Most updates of files end earlier.
const SILENCE: Duration = Duration::from_secs(1);

/// Reports a wait like [`LockProgress`], but only if it lasts: for the locks that `update` and `reserve` hold briefly.
#[derive(Debug)]
pub(crate) struct DelayedProgress {
    progress: LockProgress,
    begun: bool,
}

impl DelayedProgress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { progress: LockProgress::new(quiet), begun: false }
    }
}

impl Contention for DelayedProgress {
    fn reports(&self) -> bool {
        self.progress.reports()
    }

    fn interval(&self) -> Option<Duration> {
        if self.begun { self.progress.interval() } else { Some(SILENCE) }
    }

    fn begins(&mut self, _: &Waiting) {}

    fn tick(&mut self, waiting: &Waiting) {
        if self.begun {
            self.progress.tick(waiting);
        } else if self.progress.elapsed() >= SILENCE {
            self.begun = true;
            self.progress.begins(waiting);
        }
    }

    fn ends(&mut self) {
        self.progress.ends();
    }
}
