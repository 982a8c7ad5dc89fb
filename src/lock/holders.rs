//! Who holds a lock, and who waits for it: the kernel's word, and beside it the holder record as far as the kernel bears it
//! out.
//!
//! Looking takes no lock, so it never makes another's try fail.

mod belief;
mod holder;
mod lock_file;
mod observe;
pub mod ranges;
mod state;
mod waiter;

pub use holder::{Holder, format_pids};
pub use lock_file::derive_label;
pub(crate) use lock_file::identify_file;
pub use observe::{observe_all, observe_briefly, observe_lock, observe_store};
pub(crate) use observe::{observe_briefly_until, observe_taker};
pub use state::{Availability, Belief, BlindSpot, Holding, Kin, LockState, RangeHolding};
pub use waiter::Waiter;
