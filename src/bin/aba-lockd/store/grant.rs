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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Key;
    use jiff::Timestamp;
    use std::sync::mpsc;

    fn given() -> (Given, mpsc::Receiver<String>) {
        let (said, heard) = mpsc::channel();
        let key = Key { service: "web".to_owned(), environment: String::new(), resource: String::new() };
        let (id, who, event_id) = ("7".to_owned(), "ann".to_owned(), String::new());
        let created = Timestamp::UNIX_EPOCH;
        let lock = Lock { id, key, who, event_id, created, ttl: None, expires: None, token: 1, queue: Vec::new() };
        let take_back = move |lock: Lock| said.send(lock.id).expect("the test listens");
        (Given::new(lock, Some(Box::new(take_back))), heard)
    }

    #[test]
    fn what_nobody_took_is_taken_back() {
        let (one, heard) = given();
        drop(one);
        assert_eq!(heard.try_recv().as_deref(), Ok("7"));
        // Also when it is on its way, and who asked goes.
        let (one, heard) = given();
        let (reply, answer) = tokio::sync::oneshot::channel();
        assert!(reply.send(one).is_ok());
        assert!(heard.try_recv().is_err());
        drop(answer);
        assert_eq!(heard.try_recv().as_deref(), Ok("7"));
    }

    #[test]
    fn what_somebody_has_is_not_taken_back() {
        let (one, heard) = given();
        assert_eq!(one.accept().id, "7");
        assert!(heard.try_recv().is_err());
    }
}
