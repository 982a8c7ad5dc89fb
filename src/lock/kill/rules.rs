//! The rules of a forced release: which holders may be ended, which message they get, and when the release stops early.

use crate::os;
use crate::os::proc::lock_table::WantedFile;
use crate::os::proc::openers::LockingProcess;

/// The rules of a forced release.
pub(in crate::lock) trait ReleaseRules {
    /// Returns true if these holders of the lock on the file may be ended.
    fn is_proved(&self, _file: &WantedFile, _holders: &[&LockingProcess]) -> bool {
        true
    }
    /// Called before the first signal, with the holders.
    fn announce(&self, _holders: &[(u32, &os::Process)]) {}
    /// Returns false if the release must end early.
    fn goes_on(&self) -> bool {
        true
    }
}

/// The rules of `unlock --kill` and `--max-time`: all holders may be ended.
pub(super) struct Unrestricted;

impl ReleaseRules for Unrestricted {}
