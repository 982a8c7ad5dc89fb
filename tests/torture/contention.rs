//! The calls of actors that contend for a lock: the choice of a lock and a wait, the command under the lock, and the notes in the history.

use crate::disturbances;
use crate::place::Output;
use crate::slot::Slot;
use std::ffi::{OsStr, OsString};
use std::process::Command;

/// A lock: its name, and its state root relative to the place.
pub(crate) struct ChosenLock {
    pub(crate) name: String,
    pub(crate) root: &'static str,
}

impl ChosenLock {
    pub(crate) fn choose(slot: &mut Slot) -> Self {
        let (roll, number) = (slot.random.below(100), slot.random.below(4096));
        let in_root = |name: String| Self { name, root: "locks" };
        match roll {
            0..50 => in_root(format!("h{}", number % 3)),
            // The longest name that is allowed.
            50..60 => in_root("l".repeat(128)),
            60..70 => in_root(disturbances::REMOVED[usize::try_from(number % 3).unwrap()].to_owned()),
            70..76 if slot.stage.mounts => Self { name: format!("f{}", number % 8), root: "full/locks" },
            76..82 if slot.stage.mounts => Self { name: format!("w{}", number % 2), root: "ro/locks" },
            _ => in_root(format!("n{number}")),
        }
    }

    /// The name in the history. It contains the state root if that is another one than usual.
    pub(crate) fn id(&self) -> String {
        if self.root == "locks" { self.name.clone() } else { format!("{}:{}", self.root, self.name) }
    }

    pub(crate) fn file(&self, slot: &Slot) -> String {
        slot.place.path(self.root).join(format!("aba-{}.lock", self.name)).to_string_lossy().into_owned()
    }
}

pub(crate) fn helper<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(slot: &Slot, words: I) -> Command {
    let mut command = slot.place.program(&slot.place.helper);
    command.args(words);
    command
}

/// Chooses the options for a wait, and returns whether the call waits at all.
pub(crate) fn choose_wait(slot: &mut Slot) -> (Vec<String>, bool) {
    let millis = slot.random.below(60);
    match slot.random.below(100) {
        0..35 => (Vec::new(), false),
        35..70 => (vec!["-w".to_owned()], true),
        _ => (vec!["-t".to_owned(), format!("0.{millis:03}")], true),
    }
}

/// The command that runs under the lock, and notes it.
pub(crate) fn hold(slot: &mut Slot, lock: &ChosenLock, shared: bool) -> Vec<OsString> {
    hold_file(slot, lock, &lock.file(slot), shared)
}

/// The same for the lock on another file than that of its name.
pub(crate) fn hold_file(slot: &mut Slot, lock: &ChosenLock, file: &str, shared: bool) -> Vec<OsString> {
    let history = slot.place.path("history");
    let (mode, micros) = (if shared { "shared" } else { "exclusive" }, slot.random.below(1500).to_string());
    slot.place.payload(&["hold", &history.to_string_lossy(), &slot.actor, &lock.id(), mode, file, &micros])
}

/// A call that asks for locks.
pub(crate) struct Contest<'a> {
    locks: &'a [&'a ChosenLock],
    waits: bool,
    /// The exit status of a refusal.
    refused: i32,
    /// Statuses that the call may return in addition to those of the helper.
    others: &'a [i32],
    slots: Option<u32>,
    /// The words after `uses` in the history.
    policy: Option<String>,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(locks: &'a [&'a ChosenLock], waits: bool, refused: i32) -> Self {
        Self { locks, waits, refused, others: &[], slots: None, policy: None }
    }

    pub(crate) fn or_status(self, others: &'a [i32]) -> Self {
        Self { others, ..self }
    }

    pub(crate) fn with_slots(self, slots: Option<u32>) -> Self {
        Self { slots, ..self }
    }

    pub(crate) fn with_policy(self, policy: String) -> Self {
        Self { policy: Some(policy), ..self }
    }
}

/// Returns the two numbers of slots in the message of a call that was refused because of its number.
fn find_numbers(message: &str) -> Option<(u32, u32)> {
    let (_, rest) = message.split_once(" is held with --slots ")?;
    let (held, rest) = rest.split_once(", so --slots ")?;
    let (wanted, _) = rest.split_once(" is refused")?;
    Some((held.parse().ok()?, wanted.parse().ok()?))
}

/// Runs a call that asks for locks, and notes the request and the refusal. Returns `None` if the call was killed.
pub(crate) fn contend(slot: &mut Slot, mut command: Command, contest: &Contest) -> Option<Output> {
    command.env("ACTOR", &slot.actor);
    slot.note("ask lock");
    for lock in contest.locks {
        let slots = contest.slots.map_or(String::new(), |number| format!(" {number}"));
        slot.note(&format!("tries {}{slots}", lock.id()));
        if let Some(policy) = &contest.policy {
            slot.note(&format!("uses {} {policy}", lock.id()));
        }
    }
    let said = slot.call(command, contest.others);
    if let (Some(said), [lock]) = (&said, contest.locks)
        && said.status == contest.refused
    {
        if let Some((held, wanted)) = find_numbers(&said.err) {
            slot.note(&format!("differs {} {held} {wanted}", lock.id()));
        } else if !contest.waits {
            slot.note(format!("busy {} {}", lock.id(), said.err.trim_end().replace('\n', " | ")).trim_end());
        }
    }
    if let (Some(said), [lock]) = (&said, contest.locks)
        && said.err.contains(": a newer call with --replace takes it")
    {
        slot.note(&format!("yields {}", lock.id()));
    }
    slot.note(&format!("done {}", said.as_ref().map_or(137, |said| said.status)));
    said
}
