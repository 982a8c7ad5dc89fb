//! The lease that a keeper keeps, and all that the keeper has to know for that.

use crate::binding::Binding;
use crate::lease::Lease;
use crate::on_lost::OnLost;
use crate::settings::Settings;

/// A lease that is kept for a script.
#[derive(Debug, Clone)]
pub(crate) struct KeptLease {
    pub(crate) settings: Settings,
    pub(crate) lease: Lease,
    pub(crate) binding: Binding,
    pub(crate) on_lost: OnLost,
    /// The pid of the script, or of the command.
    pub(crate) holder: u32,
}
