//! A lease and the facts that a keeper needs to keep it, as plain data. `hold` builds it and starts the keeper with it.

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
    /// The pid of the script, or of the command that runs with the lease.
    pub(crate) holder: u32,
}
