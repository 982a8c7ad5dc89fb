//! The token base: a number in etcd that all services of a cluster share. A fencing token is the token base at the time
//! of the grant plus the revision at which etcd created the key of the lock.
//!
//! Tokens always grow. The revisions of a cluster only grow, and so does the base. A transaction that grants a lock
//! compares the revision of the base, and fails if another service has raised the base in the meantime.
//!
//! The revision alone is not enough: it starts again at 1 in a new cluster, and goes back when a cluster is restored
//! from a backup. So each service raises the base when it starts, and when it notices such a restore, until the next
//! token is greater than the clock (microseconds since 1970). The tokens of the SQLite store follow the same clock.
//!
//! `store` and `acquire` raise the base; `acquire` and `change` add it to the revision.

use super::client::EtcdClient;
use super::keys;
use super::record::unreadable_key;
use super::request::{is_absent, is_modified_at, put, range_of_key};
use super::rpc::{Compare, KeyValue, TxnRequest};
use crate::args::LARGEST_TOKEN_BASE;
use crate::error::CallError;
use jiff::Timestamp;
use std::sync::{Mutex, PoisonError};

/// The token base and the revision of its key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TokenBase {
    pub(super) value: u64,
    pub(super) revision: i64,
}

impl TokenBase {
    /// Returns the comparison that makes a transaction fail if the base was raised since this one was read.
    pub(super) fn compare(self) -> Compare {
        is_modified_at(keys::TOKEN_BASE, self.revision)
    }
}

/// The token base as this service read it last.
pub(super) struct CachedTokenBase {
    etcd: EtcdClient,
    cached: Mutex<TokenBase>,
}

impl CachedTokenBase {
    pub(super) fn new(etcd: EtcdClient) -> Self {
        Self { etcd, cached: Mutex::default() }
    }

    pub(super) fn current(&self) -> TokenBase {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the base so that all further tokens are greater than `least` and the clock.
    pub(super) async fn raise(&self, least: u64) -> Result<(), CallError> {
        self.raise_to(least.max(clock())).await
    }

    /// Reads the base again, because another service may have raised it.
    pub(super) async fn refresh(&self) -> Result<(), CallError> {
        self.raise_to(0).await
    }

    /// Reads the base, and raises it if the next token could be less than `least`. Tries again until the stored base is
    /// large enough, because another service may write it between the read and the write.
    async fn raise_to(&self, least: u64) -> Result<(), CallError> {
        loop {
            let answer = self.etcd.read_range(range_of_key(keys::TOKEN_BASE)).await?;
            let revision = answer.header.map_or(0, |header| header.revision).unsigned_abs();
            let found = answer.kvs.into_iter().next();
            let base = match &found {
                Some(found) => TokenBase { value: parse_base(found)?, revision: found.mod_revision },
                None => TokenBase { value: clock(), revision: 0 },
            };
            let wanted = base.value.max(least.saturating_sub(revision));
            if found.is_some() && wanted == base.value {
                *self.cached.lock().unwrap_or_else(PoisonError::into_inner) = base;
                return Ok(());
            }
            let compare = if found.is_some() { base.compare() } else { is_absent(keys::TOKEN_BASE) };
            let success = vec![put(keys::TOKEN_BASE, wanted.to_string().into_bytes(), 0)];
            self.etcd.run(TxnRequest { compare: vec![compare], success, failure: vec![] }).await?;
        }
    }
}

fn clock() -> u64 {
    Timestamp::now().as_microsecond().unsigned_abs()
}

fn parse_base(found: &KeyValue) -> Result<u64, CallError> {
    let number = std::str::from_utf8(&found.value).ok().and_then(|text| text.parse().ok());
    // Versions that accepted any --token-base may have written one that leaves no room for tokens.
    number.filter(|number| *number <= LARGEST_TOKEN_BASE).ok_or_else(|| unreadable_key(found))
}
