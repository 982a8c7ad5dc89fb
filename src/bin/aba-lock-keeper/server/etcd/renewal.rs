//! What a holder does at etcd: it claims, and renews. Its mark is [`super::mark`].

use super::gateway::{Reply, count, encoded, refused};
use super::{Etcd, Place, mark, not_ours, number_of, of_mark, put, random, range};
use crate::clock::Moment;
use crate::server::{Entry, Fault, Lease, Patience, Want, Watcher};
use aba_lock_protocol::code::{FAILED_PRECONDITION, NOT_FOUND, OK};
use serde_json::{Value, json};
use std::thread::JoinHandle;
use std::time::Duration;

/// How much longer than its lease the mark of a holder lasts.
const LONGER: u32 = 2;

impl Etcd {
    /// Makes the lease of the mark that there may be for a lease of this number, while we ask for that.
    pub(super) fn prepare(&self, number: u64, want: &Want) -> Option<JoinHandle<Option<Reply>>> {
        let ttl = (want.ttl * LONGER).as_secs().to_string();
        let ask = json!({ "ID": of_mark(number).to_string(), "TTL": ttl });
        want.kept.then(|| self.gateway.beside("/v3/lease/grant", ask))?
    }

    /// The operation that leaves the mark under that lease, if it is there, and outlasts the other.
    pub(super) fn prepared(prepared: Option<JoinHandle<Option<Reply>>>, lease: &Lease) -> Option<Value> {
        let granted = prepared?.join().ok()??;
        let ttl = Duration::from_secs(count(&granted.body["TTL"]));
        let lasts = granted.code == OK && granted.sent.plus(ttl) >= lease.good.plus(lease.ttl);
        let number = number_of(&lease.id).filter(|_| lasts)?;
        // In which term it was made is not known: it is made anew when the lease is renewed first.
        Some(put(&mark::key(&lease.id), &mark::text(&lease.id, 0), of_mark(number)))
    }

    /// The first of the queue becomes a holder. Whether it has its mark now.
    pub(super) fn claim(&mut self, place: &mut Place, want: &Want, watcher: &mut dyn Watcher) -> Result<bool, Fault> {
        let number = number_of(&place.lease.id).map(of_mark).ok_or_else(|| not_ours(&place.lease.id))?;
        if self.leave_mark(&place.lease, number, (0, place.term), want.patience, watcher)? {
            return Ok(true);
        }
        // The answer may have been lost.
        self.look(place, want.patience, watcher)?;
        Ok(place.mark.as_ref().is_some_and(|mark| mark.holder == place.lease.id))
    }

    /// Renews the lease, and the mark of who has one. It counts if a majority confirms afterwards that who renewed it was the
    /// leader.
    pub(super) fn keep_alive(&mut self, lease: &mut Lease) -> Result<(), Fault> {
        for _ in 0..=self.gateway.endpoints() {
            let number = number_of(&lease.id).ok_or_else(|| not_ours(&lease.id))?;
            let renewed = self.gateway.call("/v3/lease/keepalive", &json!({ "ID": number.to_string() }))?;
            if renewed.code != OK && renewed.code != NOT_FOUND {
                return Err(refused(&renewed));
            }
            let ttl = count(&renewed.body["result"]["TTL"]);
            let ask = json!({ "success": [range(&lease.id), range(&mark::key(&lease.id))] });
            let read = self.gateway.call("/v3/kv/txn", &ask)?;
            if read.code != OK {
                return Err(refused(&read));
            }
            let own = self.entry(read.found(0));
            let is_there = own.is_some_and(|own| own.token == lease.token) || lease.token == 0;
            let same = renewed.term() == read.term();
            if !is_there || (ttl == 0 && same) {
                return Err(Fault::Gone { name: lease.name.clone() });
            }
            if same && ttl > 0 {
                lease.ttl = Duration::from_secs(ttl);
                self.keep_mark(lease, read.found(1), read.term())?;
                lease.good = renewed.sent;
                return Ok(());
            }
        }
        Err(Fault::Unreachable { what: "the cluster elects a leader".to_owned() })
    }

    /// Has the mark of a holder last its full time from now on.
    fn keep_mark(&mut self, lease: &Lease, seen: &Value, term: u64) -> Result<(), Fault> {
        // What stands there and is none of ours is no reason to end a script: nobody can claim as long as it does.
        let Ok(mark) = mark::read(&lease.id, seen) else { return Ok(()) };
        match &mark {
            None if !lease.kept => return Ok(()),
            Some(mark) if mark.holder != lease.id => return Ok(()),
            Some(mark) if mark.term == term => {
                let renewed = self.gateway.call("/v3/lease/keepalive", &json!({ "ID": mark.lease.to_string() }))?;
                if renewed.code == OK && renewed.term() == term && count(&renewed.body["result"]["TTL"]) > 0 {
                    return Ok(());
                }
            }
            _ => {}
        }
        let (seen, number) = (mark.as_ref().map_or(0, |mark| mark.revision), random()?);
        // Once: the courier does not wait here, it comes again.
        if !self.leave_mark(lease, number, (seen, term), Patience::Until(Moment::now()), &mut Deaf)? {
            return Err(Fault::Unreachable { what: "the mark of the holder was changed meanwhile".to_owned() });
        }
        if let Some(mark) = mark {
            // There is nothing under it any more.
            let _ = self.gateway.call("/v3/lease/revoke", &json!({ "ID": mark.lease.to_string() }));
        }
        Ok(())
    }

    /// Leaves the mark of a holder, under a lease of this number, if its key is there, and the mark as it was `seen`: as of
    /// which revision, and in which term. `false`: to look will tell.
    fn leave_mark(
        &mut self,
        lease: &Lease,
        number: u64,
        (seen, term): (u64, u64),
        patience: Patience,
        watcher: &mut dyn Watcher,
    ) -> Result<bool, Fault> {
        let ttl = (lease.ttl * LONGER).as_secs().to_string();
        let ask = json!({ "ID": number.to_string(), "TTL": ttl });
        let granted = self.gateway.insist("/v3/lease/grant", &ask, patience, watcher)?;
        match granted.code {
            OK => {}
            FAILED_PRECONDITION => {
                let renewed = self.gateway.call("/v3/lease/keepalive", &json!({ "ID": number.to_string() }))?;
                if renewed.code != OK || count(&renewed.body["result"]["TTL"]) == 0 {
                    return Ok(false);
                }
            }
            _ => return Err(refused(&granted)),
        }
        let mark = encoded(&mark::key(&lease.id));
        let ask = json!({
            "compare": [
                { "key": encoded(&lease.id), "target": "CREATE", "create_revision": lease.token.to_string() },
                { "key": mark, "target": "MOD", "mod_revision": seen.to_string() },
            ],
            "success": [put(&mark::key(&lease.id), &mark::text(&lease.id, term), number)],
        });
        let left = self.gateway.insist("/v3/kv/txn", &ask, patience, watcher)?;
        match left.code {
            OK => Ok(left.body["succeeded"] == json!(true)),
            NOT_FOUND => Ok(false),
            _ => Err(refused(&left)),
        }
    }
}

/// Is told nothing: for what is not waited for.
struct Deaf;

impl Watcher for Deaf {
    fn begun(&mut self, _: &str) {}
    fn waits(&mut self, _: &Entry) {}
    fn unanswered(&mut self, _: &str) {}
}
