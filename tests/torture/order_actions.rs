//! The actions of actors that replace the holder of a lock, rely on another caller, or have a priority. `actions` calls them.
//!
//! These options only matter if several callers meet. So from time to time, most actors do the same with the same lock.

use crate::contention::{ChosenLock, Contest, contend, helper};
use crate::environment;
use crate::policy_actions::lock_and_run;
use crate::slot::Slot;
use std::ffi::OsString;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Replace,
    Coalesce,
    Priority,
}

/// The number of turns after which most actors meet again. After that, they use other locks.
const PERIOD: usize = 30;

/// The number of turns in which they do the same.
const MEETING: usize = 9;

/// The time between SIGTERM and SIGKILL for a holder that is replaced, in seconds.
const GRACE: &str = "--grace=0.020";

/// The exit status of a script whose child held the lock.
const STATUS_OF_PARENT: i32 = 3;

/// The exit statuses of a holder that was replaced.
const REPLACED: [i32; 2] = [137, 143];

/// Chooses whether an actor performs one of these actions.
pub(crate) fn choose(slot: &mut Slot, turn: usize) -> Option<Order> {
    const ALL: [Order; 3] = [Order::Replace, Order::Coalesce, Order::Priority];
    let meets = turn % PERIOD < MEETING;
    if !slot.random.chance(if meets { 85 } else { 5 }) {
        return None;
    }
    Some(if meets { ALL[turn / PERIOD % ALL.len()] } else { *slot.random.choose(&ALL) })
}

/// Performs the action.
pub(crate) fn play(slot: &mut Slot, turn: usize, order: Order) {
    let lock = |prefix: &str| ChosenLock { name: format!("{prefix}{}", turn / PERIOD), root: "locks" };
    match order {
        Order::Replace => match slot.random.below(100) {
            0..8 => stand_by(slot, &lock("e")),
            8..16 => replace_from_script(slot, &lock("e")),
            _ => replace_holder(slot, &lock("e")),
        },
        Order::Coalesce if slot.random.chance(35) => coalesce_strictly(slot, &lock("t")),
        Order::Coalesce => coalesce(slot, &lock("o")),
        Order::Priority => wait_with_priority(slot, &lock("p")),
    }
}

/// A command that notes that it holds the lock, for at most `most` microseconds.
fn hold(slot: &mut Slot, lock: &ChosenLock, what: &str, most: u64) -> Vec<OsString> {
    let (history, micros) = (slot.place.path("history"), slot.random.below(most).to_string());
    let (history, file) = (history.to_string_lossy(), lock.file(slot));
    slot.place.payload(&["order", what, &history, &slot.actor, &lock.id(), &file, &micros])
}

/// Chooses the options for a wait, and the word for it in the history.
fn choose_patience(slot: &mut Slot, words: &mut Vec<String>) -> &'static str {
    let millis = slot.random.below(60);
    match slot.random.below(100) {
        0..15 => {
            words.push("-n".to_owned());
            "now"
        }
        15..32 => {
            words.extend(["-t".to_owned(), format!("0.{millis:03}")]);
            "limited"
        }
        _ => {
            words.push("-w".to_owned());
            "forever"
        }
    }
}

/// Returns the word for a call that a child of the actor makes.
fn name_child(refused: i32) -> &'static str {
    if refused == 1 { " child" } else { "" }
}

/// Replaces the holder, or is a holder that can be replaced.
fn replace_holder(slot: &mut Slot, lock: &ChosenLock) {
    let mut words = Vec::new();
    let policy = if slot.random.chance(75) {
        words.extend(["--replace", GRACE].map(str::to_owned));
        if slot.random.chance(20) {
            words.extend(["-t".to_owned(), format!("0.{:03}", slot.random.below(60))]);
            "replace limited"
        } else {
            "replace"
        }
    } else {
        words.push(if slot.random.chance(70) { "-w" } else { "-n" }.to_owned());
        "plain"
    };
    let waits = !words.iter().any(|word| word == "-n");
    let (what, most) = if slot.random.chance(45) { ("stubborn", 30_000) } else { ("stay", 9000) };
    let command = hold(slot, lock, what, most);
    let (command, refused) = lock_and_run(slot, words, &[&lock.name], command);
    let policy = format!("{policy}{}", name_child(refused));
    contend(slot, command, &Contest::new(&[lock], waits, refused).or_status(&REPLACED).with_policy(policy));
}

/// Runs a script that does not hold the lock: its child does. If the child is replaced, the script goes on.
fn replace_from_script(slot: &mut Slot, lock: &ChosenLock) {
    let script = format!(r#""$ABA_LOCK_BIN" lock --replace {GRACE} "$NAME" -- "$@"; exit {STATUS_OF_PARENT}"#);
    let mut command = slot.place.program("bash");
    command.arg("-c").arg(script).arg("script").args(hold(slot, lock, "stay", 9000)).env("NAME", &lock.name);
    let locks = [lock];
    let contest = Contest::new(&locks, true, 75).or_status(&[STATUS_OF_PARENT]).with_policy("replace child".to_owned());
    if let Some(said) = contend(slot, command, &contest)
        && said.status != STATUS_OF_PARENT
    {
        slot.stage.report(format!("{}, the script whose child held {}, ended so: {said:?}", slot.actor, lock.name));
    }
}

/// Opens the lock file, and holds no lock. No other caller ends this process.
fn stand_by(slot: &mut Slot, lock: &ChosenLock) {
    let (file, micros) = (lock.file(slot), slot.random.below(20_000).to_string());
    let words = slot.place.payload(&["order", "stand-by", &file, &micros]);
    let mut command = slot.place.program(&words[0]);
    command.args(&words[1..]);
    if let Some(said) = slot.call_without_judging(command)
        && said.status != 0
    {
        slot.stage.report(format!("{}, which only had the file of {} open, ended so: {said:?}", slot.actor, lock.name));
    }
}

/// Relies on another caller that waits, or runs.
fn coalesce(slot: &mut Slot, lock: &ChosenLock) {
    let mut words = vec!["--coalesce".to_owned()];
    let patience = choose_patience(slot, &mut words);
    if slot.random.chance(8) {
        words.extend(["--max-time", "1h"].map(str::to_owned));
    }
    let what = if slot.random.chance(50) { "look" } else { "stay" };
    let inside = hold(slot, lock, what, 5000);
    let limited = words.iter().any(|word| word == "--max-time");
    let (command, refused, returns) = if slot.random.chance(15) {
        let script = r#"source "$LIBRARY"; read -ra words <<<"$WORDS"; status=0
            aba_lock_operation --on-conflict return "${words[@]}" "$NAME" || status=$?
            ((status == 0)) || exit "$status"
            "$@""#;
        let mut command = slot.place.program("bash");
        command.arg("-c").arg(script).arg("script").args(inside).env("LIBRARY", environment::LIBRARY);
        command.env("WORDS", words.join(" ")).env("NAME", &lock.name);
        (command, 1, " returns")
    } else {
        let (command, refused) = lock_and_run(slot, words, &[&lock.name], inside);
        (command, refused, "")
    };
    let child = if limited { " child" } else { name_child(refused) };
    let policy = format!("coalesce {patience}{child}{returns}");
    contend(slot, command, &Contest::new(&[lock], patience != "now", refused).or_status(&[80]).with_policy(policy));
}

/// Runs, unless a run that began after this call has succeeded.
fn coalesce_strictly(slot: &mut Slot, lock: &ChosenLock) {
    let mut words = vec!["--coalesce=strict".to_owned()];
    let patience = choose_patience(slot, &mut words);
    let what = if slot.random.chance(60) { "fail" } else { "stay" };
    let mut all: Vec<OsString> = vec!["lock".into()];
    all.extend(words.into_iter().map(OsString::from));
    all.extend([OsString::from(&lock.name), "--".into()]);
    all.extend(hold(slot, lock, what, 5000));
    let command = helper(slot, all);
    // The command is a child of the helper.
    let policy = format!("strict {patience} child");
    contend(slot, command, &Contest::new(&[lock], patience != "now", 75).or_status(&[3]).with_policy(policy));
}

/// Waits with a priority.
fn wait_with_priority(slot: &mut Slot, lock: &ChosenLock) {
    let mut words = Vec::new();
    let patience = choose_patience(slot, &mut words);
    let level = *slot.random.choose(&["high", "high", "high", "normal", "normal", "low", "low", "low", "unnamed"]);
    if level != "unnamed" {
        words.extend(["--priority", level].map(str::to_owned));
    }
    let what = if slot.random.chance(60) { "look" } else { "stay" };
    let inside = hold(slot, lock, what, 4000);
    let (command, refused) = lock_and_run(slot, words, &[&lock.name], inside);
    let policy = format!("{level} {patience}{}", name_child(refused));
    contend(slot, command, &Contest::new(&[lock], patience != "now", refused).with_policy(policy));
}
