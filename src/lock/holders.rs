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

pub use holder::{Holder, numbers};
pub use lock_file::label;
pub(crate) use lock_file::wanted;
pub(crate) use observe::{at_a_glance, briefly_until};
pub use observe::{briefly, of, of_all, of_store};
pub use state::{Belief, Blind, Holding, Kin, Known, RangeHolding, State};
pub use waiter::Waiter;
pub(crate) use waiter::script_of;
