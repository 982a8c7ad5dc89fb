//! The rules for callers that replace the holder, rely on another caller, or have a priority, for the checker.
//!
//! The lines do not show when a waiter takes its place in the queue. So holders look at the lock file ([`crate::order_payloads`]), and
//! the rules use only what a holder has seen for certain. If a caller was killed, they allow what that may have caused.
//!
//! Each rule was seen to fail in a walk with a helper that was broken on purpose:
//!
//! | mutation of the helper | report |
//! |---|---|
//! | a newcomer does not look for a later ticket (`Newcomer::has_successor`) | entered, and another one waited with a newer ticket |
//! | a newcomer with a later ticket gives up | gave up for a newer caller, and there is none |
//! | `--replace` signals all processes that opened the lock file | a process that only had the file open was ended |
//! | `--replace` signals the parents of the holders | the script whose child held the lock was ended |
//! | a busy call with `--coalesce` ends although none waits | was covered, and no run followed |
//! | it waits although another one waits | two callers wait for the next run |
//! | a run is not counted (`started`) | at the end, the run that a lock owed was not made |
//! | `--coalesce=strict` looks at `started` instead of `completed` | was covered, and no run succeeded after its call |
//! | no caller looks for a want of a higher level | entered before one that waited with a higher priority |

use crate::lock_rules::LockJudge;
use std::collections::HashMap;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Plain,
    Replace,
    Coalesce,
    Strict,
    /// A level from 1 (low) to 3 (high). `named`: the caller has named it.
    Priority {
        level: u8,
        named: bool,
    },
}

impl Policy {
    fn parse(word: &str) -> Self {
        match word {
            "replace" => Self::Replace,
            "coalesce" => Self::Coalesce,
            "strict" => Self::Strict,
            "high" | "normal" | "low" => Self::Priority { level: parse_level(word), named: true },
            "unnamed" => Self::Priority { level: parse_level("normal"), named: false },
            _ => Self::Plain,
        }
    }
}

fn parse_level(word: &str) -> u8 {
    match word {
        "high" => 3,
        "normal" => 2,
        _ => 1,
    }
}

/// The way in which a caller waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Forever,
    Limited,
    None,
}

/// A call for a lock.
struct OrderedCall {
    actor: String,
    policy: Policy,
    patience: Patience,
    /// True if a child of the actor makes the call, and goes on for a moment if the actor is killed.
    has_child: bool,
    /// True if the actor goes on after it did not get the lock.
    returns: bool,
    from: usize,
    entered: Option<usize>,
    inode: String,
    left: Option<usize>,
    failed: bool,
    doomed: bool,
    yielded: bool,
    /// The line before which it had a ticket for certain, and the number of the ticket.
    ticket: Option<(usize, i64)>,
    /// The inode of the lock file on which it has the ticket.
    queue: String,
    /// The line and the exit status of its end.
    done: Option<(usize, i32)>,
}

impl OrderedCall {
    /// Returns true if the call may still have been at work at this line.
    fn lasts_until(&self, line: usize) -> bool {
        self.done.is_none_or(|(done, _)| done > line) || self.doomed && self.has_child
    }

    /// Returns true if the call ended because another run covers it.
    fn is_covered(&self) -> bool {
        let ended_well = self.done.is_some_and(|(_, status)| [0, STATUS_COVERED].contains(&status));
        ended_well && self.entered.is_none() && !self.doomed
    }
}

/// The exit status of a covered call that has no command.
const STATUS_COVERED: i32 = 80;

/// A sight of a holder: at least one of these callers waits with a want of this level.
struct Claim {
    lock: String,
    level: u8,
    waiters: Vec<String>,
    inode: String,
}

#[derive(Default)]
pub(crate) struct OrderJudge {
    calls: HashMap<String, Vec<OrderedCall>>,
    claims: Vec<Claim>,
    /// The line at which a holder began to look.
    looks: HashMap<String, usize>,
}

impl OrderJudge {
    /// Judges a line, and returns true if it is of no other kind. Must be called before the locks are judged.
    pub(crate) fn judge(&mut self, locks: &mut LockJudge, actor: &str, verb: &str, words: &[&str]) -> bool {
        match (verb, words) {
            ("uses", [lock, policy, rest @ ..]) => self.begin(locks.line, actor, lock, policy, rest),
            ("enter", [lock, _, inode]) => self.enter(locks, actor, lock, inode),
            ("leave", [lock]) => {
                if let Some(call) = self.find_call(actor, lock) {
                    call.left = Some(locks.line);
                }
            }
            ("doom", _) => {
                self.claims.retain(|claim| !claim.waiters.iter().any(|waiter| waiter == actor));
                self.calls_of(actor).for_each(|call| call.doomed = true);
            }
            ("done", [status]) => self.end(locks, actor, status.parse().unwrap_or(-1)),
            ("peeks", [_]) => {
                self.looks.insert(actor.to_owned(), locks.line);
                return true;
            }
            ("sees", [lock, what, rest @ ..]) => {
                let (kind, number) = what.split_once(':').unwrap_or((what, "0"));
                let number = number.parse().unwrap_or(0);
                match kind {
                    "ticket" => self.see_ticket(locks.line, [actor, rest.first().unwrap_or(&"")], lock, number),
                    "queue" => self.see_queue(locks, actor, lock, usize::try_from(number).unwrap_or(0)),
                    _ => self.see_want(locks, actor, lock, kind),
                }
                return true;
            }
            ("fails", [lock]) => {
                if let Some(call) = self.find_call(actor, lock) {
                    call.failed = true;
                }
                return true;
            }
            ("yields", [lock]) => {
                self.give_way(locks, actor, lock);
                return true;
            }
            ("owed", [lock]) => {
                if !self.calls.get(*lock).into_iter().flatten().any(|call| call.doomed) {
                    locks.breaks(format!("a run of {lock} is owed, and no caller was killed"), &[lock]);
                }
                return true;
            }
            _ => {}
        }
        false
    }

    /// Judges the whole history after its last line.
    pub(crate) fn finish(&mut self, locks: &mut LockJudge) {
        for (lock, calls) in &self.calls {
            for call in calls.iter().filter(|call| call.policy == Policy::Coalesce && call.is_covered()) {
                if !has_follower(call, calls) {
                    locks.breaks(format!("{} was covered, and no run of {lock} followed", call.actor), &[lock]);
                }
            }
            judge_newcomers(locks, lock, calls);
        }
    }

    fn find_call(&mut self, actor: &str, lock: &str) -> Option<&mut OrderedCall> {
        self.calls.get_mut(lock)?.iter_mut().rev().find(|call| call.actor == actor)
    }

    fn calls_of<'a>(&'a mut self, actor: &'a str) -> impl Iterator<Item = &'a mut OrderedCall> {
        self.calls.values_mut().flatten().filter(move |call| call.actor == actor && call.done.is_none())
    }

    fn begin(&mut self, from: usize, actor: &str, lock: &str, policy: &str, rest: &[&str]) {
        let patience = match () {
            () if rest.contains(&"now") => Patience::None,
            () if rest.contains(&"limited") => Patience::Limited,
            () => Patience::Forever,
        };
        self.calls.entry(lock.to_owned()).or_default().push(OrderedCall {
            actor: actor.to_owned(),
            policy: Policy::parse(policy),
            patience,
            has_child: rest.contains(&"child"),
            returns: rest.contains(&"returns"),
            from,
            entered: None,
            inode: String::new(),
            left: None,
            failed: false,
            doomed: false,
            yielded: false,
            ticket: None,
            queue: String::new(),
            done: None,
        });
    }

    fn enter(&mut self, locks: &mut LockJudge, actor: &str, lock: &str, inode: &str) {
        let line = locks.line;
        let Some(call) = self.find_call(actor, lock) else { return };
        if call.entered.replace(line).is_some() {
            locks.breaks(format!("one call of {actor} ran twice under {lock}"), &[lock]);
        }
        inode.clone_into(&mut call.inode);
        let (policy, ticket) = (call.policy, call.ticket.filter(|_| call.queue == inode));
        if let Some((_, ticket)) = ticket {
            self.pass_newer(locks, [actor, inode], lock, ticket);
        }
        self.claims.retain(|claim| claim.lock != lock || !claim.waiters.iter().any(|waiter| waiter == actor));
        let Policy::Priority { level, named: true } = policy else { return };
        let is_passed = |claim: &&Claim| claim.lock == lock && claim.level > level && claim.inode == inode;
        if let Some(claim) = self.claims.iter().find(is_passed) {
            let why = format!("{actor} entered {lock} before {:?}, which waited with a higher priority", claim.waiters);
            locks.breaks(why, &[lock]);
        }
    }

    fn end(&mut self, locks: &mut LockJudge, actor: &str, status: i32) {
        self.claims.retain(|claim| !claim.waiters.iter().any(|waiter| waiter == actor));
        let line = locks.line;
        self.calls_of(actor).for_each(|call| call.done = Some((line, status)));
        for (lock, calls) in &self.calls {
            let Some(call) = calls.iter().rev().find(|call| call.actor == actor && !call.doomed) else { continue };
            let was_signalled = [137, 143].contains(&status) && [Policy::Plain, Policy::Replace].contains(&call.policy);
            if was_signalled && !locks.may_be_replaced(actor, lock) {
                locks.breaks(format!("{actor} was ended by a signal, and no process wanted to replace it"), &[lock]);
            }
            if call.returns && (status == 0) != call.entered.is_some() {
                locks.breaks(format!("{actor} ended with {status}, but did it run under {lock}?"), &[lock]);
            }
            // The helper notes a success before it releases the lock.
            let is_success = |other: &OrderedCall| {
                other.entered.is_some_and(|line| line > call.from) && other.left.is_some() && !other.failed
            };
            if call.policy == Policy::Strict && call.is_covered() && !calls.iter().any(is_success) {
                locks.breaks(format!("{actor} was covered, and no run of {lock} succeeded after its call"), &[lock]);
            }
        }
    }

    /// A caller gave up for a newer one: one with a later ticket.
    fn give_way(&mut self, locks: &mut LockJudge, actor: &str, lock: &str) {
        let Some(call) = self.find_call(actor, lock) else { return };
        call.yielded = true;
        let (from, has_entered) = (call.from, call.entered.is_some());
        let calls = self.calls.get(lock).into_iter().flatten();
        // An entered caller has released its ticket.
        let is_later = |line: Option<usize>| line.is_none_or(|line| line > from);
        let mut newer = calls.filter(|other| other.policy == Policy::Replace && other.actor != actor);
        if !newer.any(|other| {
            other.lasts_until(from) && is_later(other.entered) && is_later(other.ticket.map(|ticket| ticket.0))
        }) {
            locks.breaks(format!("{actor} gave up {lock} for a newer caller, and there is none"), &[lock]);
        }
        if has_entered {
            locks.breaks(format!("{actor} gave up {lock}, and it had run"), &[lock]);
        }
    }

    /// Returns the calls for which a waiter that a holder has just seen may stand.
    fn find_waiters(&mut self, line: usize, holder: &str, lock: &str) -> Vec<&mut OrderedCall> {
        let begin = self.looks.get(holder).copied().unwrap_or(line);
        let calls = self.calls.get_mut(lock).into_iter().flatten();
        let may_wait =
            |call: &&mut OrderedCall| call.actor != holder && call.entered.is_none() && call.lasts_until(begin);
        calls.filter(may_wait).collect()
    }

    /// A holder has seen the ticket of a caller.
    fn see_ticket(&mut self, line: usize, [holder, waiter]: [&str; 2], lock: &str, ticket: i64) {
        let inode = self.find_call(holder, lock).map(|call| call.inode.clone()).unwrap_or_default();
        if let Some(call) = self.find_call(waiter, lock).filter(|call| call.entered.is_none()) {
            call.ticket.get_or_insert((line, ticket));
            call.queue = inode;
        }
    }

    /// A caller with this ticket has entered. A newer one that waited at the time of an earlier holder must not wait any more.
    fn pass_newer(&self, locks: &mut LockJudge, [actor, inode]: [&str; 2], lock: &str, ticket: i64) {
        let waits = |call: &&OrderedCall| call.patience == Patience::Forever && !call.doomed && call.done.is_none();
        let calls = self.calls.get(lock).into_iter().flatten().filter(waits);
        let is_newer = |call: &&OrderedCall| call.queue == inode && call.ticket.is_some_and(|(_, own)| own > ticket);
        if let Some(newer) = calls.filter(|call| call.entered.is_none()).find(is_newer) {
            locks.breaks(format!("{actor} entered {lock}, and {} waited with a newer ticket", newer.actor), &[lock]);
        }
    }

    fn see_want(&mut self, locks: &mut LockJudge, holder: &str, lock: &str, word: &str) {
        let (level, line) = (parse_level(word), locks.line);
        // A caller of another kind waits with the priority `normal`.
        let own = self.find_call(holder, lock).filter(|call| matches!(call.policy, Policy::Priority { .. }));
        let Some(inode) = own.map(|call| call.inode.clone()) else { return };
        let mut waiters = self.find_waiters(line, holder, lock);
        let has_level = |policy| matches!(policy, Policy::Priority { level: own, .. } if own == level);
        waiters.retain(|call| has_level(call.policy));
        if waiters.is_empty() {
            locks.breaks(format!("{holder} saw a waiter of {lock} with priority {word}, and there is none"), &[lock]);
        }
        waiters.retain(|call| call.patience != Patience::None);
        // A caller whose time is over, or that was killed, gives up its want before its end is noted.
        if waiters.iter().all(|call| call.patience == Patience::Forever && !call.doomed && call.done.is_none()) {
            let waiters = waiters.iter().map(|call| call.actor.clone()).collect();
            self.claims.push(Claim { lock: lock.to_owned(), level, waiters, inode });
        }
    }

    /// During a run, at most one caller waits for the next one, apart from those with a timeout, on which no other caller relies.
    fn see_queue(&mut self, locks: &mut LockJudge, holder: &str, lock: &str, blocked: usize) {
        if self.find_call(holder, lock).is_none_or(|call| call.policy != Policy::Coalesce) {
            return;
        }
        let waiters = self.find_waiters(locks.line, holder, lock);
        let may_be_more = |call: &&&mut OrderedCall| call.patience == Patience::Limited || call.doomed;
        let allowed = 1 + waiters.iter().filter(may_be_more).count();
        if blocked > allowed {
            locks.breaks(format!("{blocked} callers wait for the next run of {lock}, and not {allowed}"), &[lock]);
        }
    }
}

/// Returns true if a covered call was right to end:
///
/// 1. A caller without a timeout was there at the same time, and ran after that.
/// 2. A run began after the call, and ended before the call did.
/// 3. A caller without a timeout was there at the same time, and was covered itself in one of these ways.
/// 4. A call was killed that may have been one of these.
fn has_follower(call: &OrderedCall, calls: &[OrderedCall]) -> bool {
    let end_of = |call: &OrderedCall| call.done.map_or(usize::MAX, |(line, _)| line);
    let is_followed_until = |end: usize| {
        let runs = |other: &OrderedCall| {
            let can_be = |line: usize| line > call.from && (other.patience == Patience::Forever || line < end);
            other.entered.is_some_and(can_be) || other.doomed && other.lasts_until(call.from)
        };
        calls.iter().any(|other| other.actor != call.actor && other.from < end && runs(other))
    };
    let is_waiter = |other: &&OrderedCall| {
        let may_be_relied_on = other.patience == Patience::Forever && other.is_covered();
        may_be_relied_on && other.actor != call.actor && other.from < end_of(call) && other.lasts_until(call.from)
    };
    let mut waiters = calls.iter().filter(is_waiter);
    is_followed_until(end_of(call)) || waiters.any(|waiter| is_followed_until(end_of(waiter)))
}

/// Checks that the newest one of several callers at the same time does not give up.
fn judge_newcomers(locks: &mut LockJudge, lock: &str, calls: &[OrderedCall]) {
    let mut newcomers: Vec<_> = calls.iter().filter(|call| call.policy == Policy::Replace).collect();
    newcomers.sort_by_key(|call| call.from);
    while let Some(first) = newcomers.first() {
        let mut size = 1;
        while let Some(next) = newcomers.get(size)
            && newcomers[..size].iter().any(|call| call.lasts_until(next.from))
        {
            size += 1;
        }
        if newcomers[..size].iter().all(|call| call.yielded) {
            let why = format!("{} and all other callers of {lock} gave up for a newer one", first.actor);
            locks.breaks(why, &[lock]);
        }
        newcomers.drain(..size);
    }
}
