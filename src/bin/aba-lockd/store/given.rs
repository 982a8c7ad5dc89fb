//! A lock on its way from the store to who asked for it.

use crate::model::Lock;
use std::fmt;

/// How a lock is taken back.
pub(crate) type TakeBack = Box<dyn FnOnce(Lock) + Send>;

/// A lock that was granted, and that nobody has been told of yet: dropped before [`Given::accept`], because who asked has
/// gone away, it is taken back.
#[must_use = "the lock is taken back when it is dropped"]
pub(crate) struct Given {
    lock: Option<Lock>,
    take_back: Option<TakeBack>,
}

impl Given {
    pub(crate) fn new(lock: Lock, take_back: Option<TakeBack>) -> Self {
        Self { lock: Some(lock), take_back }
    }

    /// Somebody has it now.
    pub(crate) fn accept(mut self) -> Lock {
        self.take_back = None;
        self.lock.take().expect("only this takes it, and only once")
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if let (Some(lock), Some(take_back)) = (self.lock.take(), self.take_back.take()) {
            take_back(lock);
        }
    }
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Given").field(&self.lock).finish()
    }
}
