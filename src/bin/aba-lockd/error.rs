//! The error types: the APIs return a [`CallError`] to their callers, and `main` prints a [`StartError`] if the service
//! cannot start.

use crate::model::{Lock, LockKey};
use aba_lock_protocol::sharing::Sharing;
use std::fmt;

/// An error of a call, with one variant for each cause that a caller can act on. The REST and gRPC sides translate it
/// into their status codes.
#[derive(Debug, Clone)]
pub(crate) enum CallError {
    /// Another caller holds the lock.
    Held(Box<Lock>),
    /// The lock is held with another number of slots than this request wants. A wait would not help.
    OtherSlots {
        holder: Box<Lock>,
        held: u32,
        wanted: u32,
    },
    /// No lock has this id: it was released, has expired, or never existed.
    Unknown(String),
    Invalid(String),
    NotAllowed(String),
    /// The caller sent no token.
    NoToken,
    /// The caller sent a token that is not in the token file.
    WrongToken,
    /// The caller sent a token in a form that cannot be read.
    BadCredential(String),
    TooLarge,
    /// The maximum number of waiters, or of clients that read events, is reached.
    TooMany,
    Stopping,
    /// The store does not work: the state of the lock is unknown, and the caller does not hold it.
    Fault(String),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(lock) => {
                write_place(lock, f)?;
                write!(f, " by {} ", lock.who)?;
                match lock.id.as_str() {
                    "" => f.write_str("(it is being handed over)"),
                    id => write!(f, "(lock_id: {id})"),
                }
            }
            Self::OtherSlots { holder, held, wanted } => {
                write_place(holder, f)?;
                write!(
                    f,
                    " with {held} slots by {}, so {wanted} slots are refused (lock_id: {})",
                    holder.who, holder.id
                )
            }
            Self::Unknown(id) => write!(f, "there is no lock {id}"),
            Self::Invalid(why) | Self::NotAllowed(why) | Self::BadCredential(why) => f.write_str(why),
            Self::NoToken => {
                f.write_str("a token is required: send the header Authorization: Bearer TOKEN, or X-Api-Key: TOKEN")
            }
            Self::WrongToken => f.write_str("this token is not in the token file of the service"),
            Self::TooLarge => f.write_str("the body is longer than 64 KiB"),
            Self::TooMany => f.write_str("too many calls are waiting for locks or events; try again later"),
            Self::Stopping => f.write_str("the service is stopping; try again"),
            Self::Fault(why) => write!(f, "the store failed, so the state of the lock is unknown: {why}"),
        }
    }
}

/// Writes the beginning of the message about a lock that is held.
fn write_place(lock: &Lock, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let LockKey { service, environment, resource } = &lock.key;
    write!(f, "service {service} is already locked")?;
    if !resource.is_empty() {
        write!(f, " for {resource}")?;
    }
    if !environment.is_empty() {
        write!(f, " in {environment}")?;
    }
    Ok(())
}

impl CallError {
    /// The refusal of a request for slots while `holders` have this other number of slots.
    pub(crate) fn other_slots(holders: &[Lock], held: u32, wanted: Sharing) -> Self {
        let holder = holders.iter().find(|lock| lock.sharing == Sharing::Slots(held));
        match holder {
            Some(holder) => {
                Self::OtherSlots { holder: Box::new(holder.clone()), held, wanted: wanted.slots().unwrap_or_default() }
            }
            None => Self::Fault(format!("no holder has {held} slots")),
        }
    }

    /// The refusal of a place in the history that no answer contained.
    pub(crate) fn wrong_place() -> Self {
        Self::Invalid("before must be the value of next in an earlier answer".to_owned())
    }

    /// Returns the name of the variant in the log and in the metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Held(_) => "held",
            Self::OtherSlots { .. } => "other_slots",
            Self::Unknown(_) => "unknown",
            Self::Invalid(_) => "invalid",
            Self::NotAllowed(_) => "not_allowed",
            Self::NoToken => "no_token",
            Self::WrongToken => "wrong_token",
            Self::BadCredential(_) => "bad_credential",
            Self::TooLarge => "too_large",
            Self::TooMany => "too_many",
            Self::Stopping => "stopping",
            Self::Fault(_) => "fault",
        }
    }
}

/// The reason why the service could not be started.
#[derive(Debug)]
pub(crate) struct StartError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// True if other options would fix it: the exit status is that of wrong usage.
    pub(crate) is_usage: bool,
}

impl StartError {
    pub(crate) fn new(message: String) -> Self {
        Self { message, hint: None, is_usage: false }
    }

    pub(crate) fn usage(message: String) -> Self {
        Self { message, hint: None, is_usage: true }
    }

    pub(crate) fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
