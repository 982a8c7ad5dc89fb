//! The rules for holders of locks, for the checker: which actors can be inside at the same time, and which refusals and answers are right.

use std::collections::{HashMap, HashSet};

/// A broken rule: its line, and the words by which other lines that belong to it can be found.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) line: usize,
    pub(crate) why: String,
    pub(crate) about: Vec<String>,
}

/// The way in which an actor holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HoldMode {
    Exclusive,
    Shared,
    /// Slot `number` of `capacity`. A number of 0 is not known.
    Slot {
        capacity: u32,
        number: u32,
    },
}

impl HoldMode {
    fn parse(text: &str) -> Self {
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        match text.strip_prefix("slot:") {
            Some(rest) => {
                let (capacity, slot) = rest.split_once(':').unwrap_or((rest, ""));
                Self::Slot { capacity: number(Some(capacity)), number: number(Some(slot)) }
            }
            None if text == "shared" => Self::Shared,
            None => Self::Exclusive,
        }
    }

    /// Returns a sentence if two actors must not hold a lock in these modes at the same time.
    fn excludes(self, other: Self) -> Option<&'static str> {
        match (self, other) {
            (Self::Exclusive, _) | (_, Self::Exclusive) => Some("two holders"),
            (Self::Slot { capacity, number }, Self::Slot { capacity: other, number: another }) => (capacity != other)
                .then_some("two numbers of slots")
                .or((number == another).then_some("two in one slot")),
            _ => None,
        }
    }
}

struct Hold {
    actor: String,
    mode: HoldMode,
    inode: u64,
    since: usize,
}

struct Attempt {
    actor: String,
    /// The number of slots that the actor gave.
    slots: Option<u32>,
    from: usize,
    to: Option<usize>,
    /// True if the actor wants to replace the holder.
    replaces: bool,
    /// True if a child of the actor makes the call, and goes on for a moment if the actor is killed.
    has_child: bool,
}

/// The state of the locks, as the lines so far describe it.
#[derive(Default)]
pub(crate) struct LockJudge {
    pub(crate) line: usize,
    /// The time of the line in nanoseconds.
    pub(crate) time: u64,
    pub(crate) broken: Vec<Violation>,
    pub(crate) doomed: HashSet<String>,
    /// Pairs of a killed actor and a lock that another actor entered after the kill: the killed one must not be there any more.
    pub(crate) followed: HashSet<(String, String)>,
    asked: HashMap<String, usize>,
    holds: HashMap<String, Vec<Hold>>,
    tries: HashMap<String, Vec<Attempt>>,
    /// The time from which on the locks of an actor may be taken away.
    limits: HashMap<String, u64>,
    /// The lines at which the removal of a lock file began and ended.
    removed: HashMap<(String, u64), (usize, Option<usize>)>,
    /// The line at which the last exclusive holder left.
    left: HashMap<(String, u64), usize>,
}

impl LockJudge {
    pub(crate) fn breaks(&mut self, why: String, about: &[&str]) {
        let about = about.iter().map(|word| (*word).to_owned()).collect();
        self.broken.push(Violation { line: self.line, why, about });
    }

    /// Judges a line on a lock. Returns false if it is of another kind.
    pub(crate) fn judge(&mut self, actor: &str, verb: &str, words: &[&str]) -> bool {
        let number = |text: &str| text.parse().unwrap_or(0);
        match (verb, words) {
            ("ask", _) => drop(self.asked.insert(actor.to_owned(), self.line)),
            ("doom", _) => drop(self.doomed.insert(actor.to_owned())),
            ("limits", [micros]) => {
                let micros: u64 = micros.parse().unwrap_or(0);
                self.limits.insert(actor.to_owned(), self.time + micros * 1000);
            }
            ("done", _) => self.done(actor),
            ("enter", [lock, mode, inode]) => self.enter(actor, lock, HoldMode::parse(mode), number(inode)),
            ("together", [one, one_inode, other, other_inode]) => {
                let lock = |name: &str, inode: &str| (name.to_owned(), number(inode));
                let (one, other) = (lock(one, one_inode), lock(other, other_inode));
                self.together(actor, &one, &other);
                self.together(actor, &other, &one);
            }
            ("leave", [lock]) => self.leave(actor, lock),
            ("tries", [lock, slots @ ..]) => {
                let slots = slots.first().and_then(|slots| slots.parse().ok());
                let tries = self.tries.entry((*lock).to_owned()).or_default();
                let from = self.line;
                tries.push(Attempt {
                    actor: actor.to_owned(),
                    slots,
                    from,
                    to: None,
                    replaces: false,
                    has_child: false,
                });
            }
            ("uses", [lock, policy @ ..]) => {
                let tries = self.tries.entry((*lock).to_owned()).or_default();
                if let Some(ours) = tries.iter_mut().rev().find(|tried| tried.actor == actor) {
                    (ours.replaces, ours.has_child) = (policy.contains(&"replace"), policy.contains(&"child"));
                }
            }
            ("busy", [lock, message @ ..]) => self.busy(actor, lock, message),
            ("differs", [lock, held, wanted]) => {
                self.differs(actor, lock, [held, wanted].map(|text| text.parse().ok()));
            }
            ("free", [lock, shared @ ..]) => self.free(actor, lock, !shared.is_empty()),
            ("overstays", [lock, ..]) => self.breaks(format!("{actor} was not ended, and holds {lock}"), &[lock]),
            ("untold", [lock]) => self.breaks(format!("{actor} lost {lock}, and got no signal"), &[lock]),
            ("mistaken", [lock, what @ ..]) => {
                self.breaks(format!("{actor} holds {lock}, and {}", what.join(" ")), &[lock]);
            }
            ("remove", [lock, inode]) => {
                self.removed.insert(((*lock).to_owned(), number(inode)), (self.line, None));
            }
            ("removed", [lock, inode]) => {
                if let Some(when) = self.removed.get_mut(&((*lock).to_owned(), number(inode))) {
                    when.1 = Some(self.line);
                }
            }
            _ => return false,
        }
        true
    }

    /// Returns true if the locks of an actor may be taken away: it was killed, or its time is over.
    fn is_ending(&self, actor: &str) -> bool {
        self.doomed.contains(actor) || self.limits.get(actor).is_some_and(|limit| *limit <= self.time)
    }

    /// Returns true if another actor may have ended this one to take the lock from it: they asked for it at the same time.
    pub(crate) fn may_be_replaced(&self, actor: &str, lock: &str) -> bool {
        let tries = self.tries.get(lock).map_or(&[][..], Vec::as_slice);
        let Some(ours) = tries.iter().rev().find(|tried| tried.actor == actor) else { return false };
        let goes_on = |other: &Attempt| other.has_child && self.doomed.contains(&other.actor);
        let overlaps = |other: &Attempt| other.to.is_none_or(|to| to > ours.from) || goes_on(other);
        tries.iter().any(|other| other.replaces && other.actor != actor && overlaps(other))
    }

    /// Returns true if this lock of an actor may be taken away.
    fn may_lose(&self, actor: &str, lock: &str) -> bool {
        self.is_ending(actor) || self.may_be_replaced(actor, lock)
    }

    fn enter(&mut self, actor: &str, lock: &str, mode: HoldMode, inode: u64) {
        let away = |inode| self.removed.get(&(lock.to_owned(), inode));
        // If the file of a held lock is removed, another actor can lock a new file at the same time: those two are excused.
        // But after the removal, no actor may acquire the lock on the removed file, not even one that waited for its holder.
        if let (Some((_, Some(removed))), Some(left)) = (away(inode), self.left.get(&(lock.to_owned(), inode)))
            && left > removed
        {
            let why = format!("{actor} was let in on a lock file that had been taken away before");
            self.breaks(why, &[lock]);
        }
        if let HoldMode::Slot { capacity, number } = mode
            && !(1..=capacity).contains(&number)
        {
            self.breaks(format!("{actor} is in slot {number} of {capacity} of {lock}"), &[lock]);
        }
        let mut holds = self.holds.remove(lock).unwrap_or_default();
        for hold in std::mem::take(&mut holds) {
            let (one, two) = ((lock.to_owned(), hold.inode), (lock.to_owned(), inode));
            let excused = hold.inode != inode && (self.removed.contains_key(&one) || self.removed.contains_key(&two));
            match mode.excludes(hold.mode) {
                Some(_) if hold.actor == actor || excused => holds.push(hold),
                None => holds.push(hold),
                Some(_) if self.may_lose(&hold.actor, lock) => {
                    self.followed.insert((hold.actor, lock.to_owned()));
                }
                Some(why) => self.breaks(format!("{why} of {lock}: {} and {actor}", hold.actor), &[lock]),
            }
        }
        holds.push(Hold { actor: actor.to_owned(), mode, inode, since: self.line });
        self.holds.insert(lock.to_owned(), holds);
    }

    /// A call acquires two locks one after the other, and checks both files after the second. So the file of `one` must not have
    /// been removed before the previous holder of `other` left.
    fn together(&mut self, actor: &str, one: &(String, u64), other: &(String, u64)) {
        if let (Some((_, Some(removed))), Some(left)) = (self.removed.get(one), self.left.get(other))
            && left > removed
        {
            let why = format!("{actor} holds {} through a file that was taken away before its last grant", one.0);
            self.breaks(why, &[&one.0, &other.0]);
        }
    }

    fn leave(&mut self, actor: &str, lock: &str) {
        if self.followed.contains(&(actor.to_owned(), lock.to_owned())) {
            self.breaks(format!("{actor} was still inside when another had entered {lock}"), &[lock]);
            return;
        }
        let holds = self.holds.entry(lock.to_owned()).or_default();
        match holds.iter().position(|hold| hold.actor == actor) {
            Some(at) => {
                let hold = holds.remove(at);
                if hold.mode == HoldMode::Exclusive {
                    self.left.insert((lock.to_owned(), hold.inode), self.line);
                }
            }
            None => self.breaks(format!("{actor} left {lock} without having entered"), &[lock]),
        }
    }

    fn done(&mut self, actor: &str) {
        for tried in self.tries.values_mut().flatten().filter(|tried| tried.actor == actor) {
            tried.to = Some(self.line);
        }
        for tries in self.tries.values_mut().filter(|tries| tries.len() > 200) {
            // An attempt that ended before the oldest unfinished one began cannot overlap with a later attempt.
            let oldest = tries.iter().filter(|tried| tried.to.is_none()).map(|tried| tried.from).min();
            tries.retain(|tried| tried.to.is_none_or(|to| oldest.is_some_and(|oldest| to > oldest)));
        }
        let inside =
            |(lock, holds): (&String, &Vec<Hold>)| holds.iter().any(|hold| hold.actor == actor).then(|| lock.clone());
        if let Some(lock) = self.holds.iter().find_map(inside).filter(|lock| !self.may_lose(actor, lock)) {
            self.breaks(format!("{actor} ended inside {lock} without a word"), &[&lock]);
        }
    }

    /// Returns the attempt of an actor, and the attempts of others at the same time. A killed actor may have left a child that
    /// holds the lock.
    fn find_attempts(&self, actor: &str, lock: &str) -> Option<(&Attempt, Vec<&Attempt>)> {
        let tries = self.tries.get(lock)?;
        // The last one is the present one.
        let ours = tries.iter().rev().find(|tried| tried.actor == actor)?;
        let is_other = |tried: &&Attempt| {
            tried.actor != actor && (tried.to.is_none_or(|to| to > ours.from) || self.may_lose(&tried.actor, lock))
        };
        Some((ours, tries.iter().filter(is_other).collect()))
    }

    /// A refusal is right if another actor may have held the lock during the attempt, or for a slot, as many others as there are slots.
    /// The message of a refusal begins with the name of the lock; that of another failure does not. As flock(1), the helper
    /// prints no message: those locks are paths.
    fn busy(&mut self, actor: &str, lock: &str, message: &[&str]) {
        let name = lock.rsplit(':').next().unwrap_or(lock);
        if !name.contains('/') && !message.starts_with(&["aba-lock:", name]) {
            self.breaks(format!("{actor} was refused {lock} without a holder: {}", message.join(" ")), &[lock]);
        }
        let Some((ours, others)) = self.find_attempts(actor, lock) else { return };
        let all_take_slots = others.iter().all(|other| other.slots.is_some());
        let needed = ours.slots.filter(|_| all_take_slots).unwrap_or(1);
        if others.is_empty() {
            self.breaks(format!("{actor} was refused {lock}, which no other process wanted"), &[lock]);
        } else if others.len() < needed as usize {
            let why = format!("{actor} was refused {lock}, and {} others wanted its {needed} slots", others.len());
            self.breaks(why, &[lock]);
        }
    }

    /// A refusal because of the number of slots is right if another actor may have held a slot of that other number.
    fn differs(&mut self, actor: &str, lock: &str, [held, wanted]: [Option<u32>; 2]) {
        let Some((ours, others)) = self.find_attempts(actor, lock) else { return };
        let is_right = ours.slots == wanted && held != wanted && others.iter().any(|other| other.slots == held);
        if !is_right {
            let why = format!("{actor} was refused {lock} because of {held:?} slots, which no other process wanted");
            self.breaks(why, &[lock]);
        }
    }

    /// Returns an actor that held the lock since before line `from`. For a caller that wants to share it, only exclusive holders count.
    pub(crate) fn find_old_holder(&self, lock: &str, from: usize, shares: bool) -> Option<String> {
        let mut holds = self.holds.get(lock).into_iter().flatten();
        let is_old = |hold: &&Hold| {
            hold.since < from && !self.may_lose(&hold.actor, lock) && (!shares || hold.mode == HoldMode::Exclusive)
        };
        holds.find(is_old).map(|hold| hold.actor.clone())
    }

    fn free(&mut self, actor: &str, lock: &str, shares: bool) {
        if self.removed.keys().any(|(name, _)| name == lock) {
            return;
        }
        let from = self.asked.get(actor).copied().unwrap_or(self.line);
        if let Some(holder) = self.find_old_holder(lock, from, shares) {
            self.breaks(
                format!("the wait of {actor} ended because {lock} is free, and {holder} held it all the time"),
                &[lock],
            );
        }
    }
}
