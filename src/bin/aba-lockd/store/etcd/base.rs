//! What tokens count from. A token is this base, as it was when the lock was granted, and the revision at which the lock came
//! to be. Both only grow: a lock is granted only by the base that is there.

use super::wire::rpc::TxnRequest;
use super::wire::{absent, get, putting, unchanged};
use super::{Cluster, KeyValue, keys, unreadable};
use crate::args::LARGEST_TOKEN_BASE;
use crate::error::CallError;
use jiff::Timestamp;
use std::sync::PoisonError;

impl Cluster {
    /// The base, and the revision at which it was written.
    pub(super) fn base(&self) -> (u64, i64) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises it for a service that starts: tokens are to be greater than `least`, and than the clock. That is for what etcd
    /// does not know: locks that were granted by another store meanwhile, or before this one was set back to a copy.
    pub(super) async fn raise_base(&self, least: u64) -> Result<(), CallError> {
        self.find_base(least.max(clock())).await
    }

    /// Finds it where another service has raised it.
    pub(super) async fn find_base(&self, least: u64) -> Result<(), CallError> {
        loop {
            let answer = self.etcd.range(get(keys::BASE)).await?;
            let revision = answer.header.map_or(0, |header| header.revision).unsigned_abs();
            let kept = answer.kvs.into_iter().next();
            let (before, modified) = match &kept {
                Some(kept) => (number(kept)?, kept.mod_revision),
                None => (clock(), 0),
            };
            let wanted = before.max(least.saturating_sub(revision));
            if kept.is_some() && wanted == before {
                *self.base.lock().unwrap_or_else(PoisonError::into_inner) = (before, modified);
                return Ok(());
            }
            let put = putting(keys::BASE, wanted.to_string().into_bytes(), 0);
            let compare = if kept.is_some() { unchanged(keys::BASE, modified) } else { absent(keys::BASE) };
            self.etcd.txn(TxnRequest { compare: vec![compare], success: vec![put], failure: vec![] }).await?;
        }
    }
}

fn clock() -> u64 {
    Timestamp::now().as_microsecond().unsigned_abs()
}

fn number(kept: &KeyValue) -> Result<u64, CallError> {
    let number = std::str::from_utf8(&kept.value).ok().and_then(|text| text.parse().ok());
    // An aba-lockd that took any --token-base may have written one that leaves no room for tokens.
    number.filter(|number| *number <= LARGEST_TOKEN_BASE).ok_or_else(|| unreadable(kept))
}
