//! A scene: one way to call one command, and the rules that hold after the call. `scenes/` has all of them, and
//! [`crate::steps`] plays them. Also the exit statuses that the manual pages document.

use crate::driver::{Call, Outcome};
use crate::place::Place;

/// `Ok`, or a sentence that says which rule was broken.
pub(crate) type Verdict = Result<(), String>;

pub(crate) struct Scene {
    /// Begins with the name of the command.
    pub(crate) name: &'static str,
    /// Prepares an empty place, and returns the call.
    pub(crate) call: fn(&Place) -> Call,
    /// Checks the rules after the call.
    pub(crate) judge: fn(&Place, &Outcome) -> Verdict,
}

/// The documented exit statuses, apart from those of death by a signal.
pub(crate) const STATUSES: [i32; 9] = [0, 1, 2, 75, 76, 124, 125, 126, 127];

/// The documented exit statuses of the helper as flock(1).
pub(crate) const STATUSES_OF_FLOCK: [i32; 8] = [0, 1, 64, 65, 66, 69, 71, 73];
