//! Phrases about the processes that hold a lock or wait for it.
//!
//! The phrases about a holder follow "held by". A process that only the record names is not called the holder unless it
//! was verified.

use super::text::{escape_controls, format_command, format_range};
use aba_lock::base::duration::format_span;
use aba_lock::base::text::format_io_error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::holders::RangeHolding;
use aba_lock::lock::holders::{Belief, BlindSpot, FileLease, Holder, Holding, LockState, Stall, Waiter};
use aba_lock::lock::promise::{self, PromisedRun};
use aba_lock::lock::record::Record;
use aba_lock::os::proc::process::{self, RunState};
use aba_lock::os::{Mode, Priority};
use std::fmt::Write as _;

/// Describes the process that holds a lock, or the first one of several.
pub(crate) fn describe_holder(holding: &Holding) -> String {
    let holder = describe_first_holder(holding);
    match holding.slots() {
        Some((held, capacity)) => {
            format!("{holder}; {held} of {}", format_slots(capacity)) + if held == 1 { " is held" } else { " are held" }
        }
        None => holder,
    }
}

/// Returns a number of slots as a phrase.
pub(crate) fn format_slots(number: u32) -> String {
    format!("{number} slot{}", if number == 1 { "" } else { "s" })
}

fn describe_first_holder(holding: &Holding) -> String {
    if holding.changes_hands {
        return "a process that has released it since".to_owned();
    }
    let Some((record, belief)) = &holding.record else {
        return if holding.holders.is_empty() && cfg!(not(linux)) {
            "a process that wrote no record, such as flock(1)".to_owned()
        } else if holding.holders.is_empty() {
            "a process that cannot be seen from here (of another user, or in another pid namespace)".to_owned()
        } else {
            describe_processes(&holding.holders)
        };
    };
    let rest = holding.count_others();
    let others = if holding.mode == Mode::Shared && rest > 0 { format!(", and {rest} more") } else { String::new() };
    match belief {
        Belief::Alive => {
            let named = find_named_holder(holding);
            let stall = named.and_then(Holder::stall).map(describe_stall).unwrap_or_default();
            let below = named.map(describe_stopped_descendants).unwrap_or_default();
            format!("pid {} {}{stall}{others}{below}", record.pid, describe_record(record))
        }
        Belief::OtherHost | Belief::OtherNamespace | Belief::Unchecked => describe_remote_holder(record, *belief),
        Belief::Ended if holding.holders.is_empty() => {
            let age = record.age().map(|age| format!(" {} ago", format_span(age))).unwrap_or_default();
            format!(
                "a process that cannot be seen from here: pid {} {} acquired it{age} and has ended",
                record.pid,
                describe_taker(record)
            )
        }
        Belief::Perhaps if holding.holders.is_empty() => "a process that cannot be seen from here".to_owned(),
        Belief::Ended | Belief::Closed | Belief::Perhaps => describe_processes(&holding.holders),
    }
}

/// Describes a holder of which only the record is known: its pid is of another host or pid namespace, or unchecked.
pub(crate) fn describe_remote_holder(record: &Record, belief: Belief) -> String {
    format!("pid {}{} {}", record.pid, describe_place(record, belief), describe_record(record))
}

fn describe_place(record: &Record, belief: Belief) -> String {
    match belief {
        Belief::OtherHost => format!(" on host {}", escape_controls(&record.host)),
        Belief::OtherNamespace => " of another pid namespace".to_owned(),
        _ => String::new(),
    }
}

/// Describes the process that took a lock last, which may have released it since.
pub(crate) fn describe_last_taker(record: &Record, belief: Belief) -> String {
    let place = describe_place(record, belief);
    let age = record.age().map(|age| format!(", {} ago", format_span(age))).unwrap_or_default();
    format!("last acquired by pid {}{place} {}{age}, according to the record", record.pid, describe_taker(record))
}

/// Describes what a record says in addition to the pid.
pub(crate) fn describe_record(record: &Record) -> String {
    let age = record.age().map(|age| format!(", for {}", format_span(age))).unwrap_or_default();
    describe_taker(record) + &age
}

fn describe_taker(record: &Record) -> String {
    let who = record.who.as_ref().map(|who| format!(" ({})", escape_controls(who))).unwrap_or_default();
    format!("({}), by {}{who}", format_command(&record.command), escape_controls(&record.user))
}

/// Describes the first of several processes, and counts the others.
pub(crate) fn describe_processes(holders: &[Holder]) -> String {
    let Some(first) = holders.first() else { return "a process that cannot be seen from here".to_owned() };
    let more = match holders.len() {
        1 => String::new(),
        number => format!(", and {} more", number - 1),
    };
    // The time since which the process holds the lock is unknown. It is at most the age of the process.
    let age = first.age.map(|age| format!(", running for {}", format_span(age))).unwrap_or_default();
    let stall = first.stall().map(describe_stall).unwrap_or_default();
    let below = describe_stopped_descendants(first);
    format!(
        "pid {} ({}), by {}{age}{stall}{more}{below}",
        first.pid,
        format_command(&first.command),
        escape_controls(&first.user)
    )
}

/// Returns the process that messages name as the holder, if it can be examined.
pub(crate) fn find_named_holder(holding: &Holding) -> Option<&Holder> {
    match &holding.record {
        Some((record, Belief::Alive)) => holding.holders.iter().find(|holder| holder.pid == record.pid),
        _ => holding.holders.first(),
    }
}

/// Names the first stopped process below a holder, if the holder itself is not stalled. The phrase follows the description of all holders.
fn describe_stopped_descendants(holder: &Holder) -> String {
    let [first, others @ ..] = holder.stopped_descendants() else { return String::new() };
    if holder.stall().is_some() {
        return String::new();
    }
    let command = format_command(&process::command_line(*first));
    match others.len() {
        0 => format!("; pid {first} ({command}), which pid {} started, is stopped", holder.pid),
        number => format!("; pid {first} ({command}) and {number} more, which pid {} started, are stopped", holder.pid),
    }
}

/// Describes the reason why a process does not go on. The phrase follows the description of the process.
fn describe_stall(stall: Stall) -> &'static str {
    describe_state(match stall {
        Stall::Stopped => RunState::Stopped,
        Stall::Traced(_) => RunState::Traced,
        Stall::Uninterruptible => RunState::Uninterruptible,
        Stall::Zombie => RunState::Zombie,
    })
}

/// Describes the state of a process, if it does not run or wait as usual. The phrase follows the description of the process.
pub(crate) fn describe_state(state: RunState) -> &'static str {
    match state {
        RunState::Running | RunState::Sleeping => "",
        RunState::Uninterruptible => ", in uninterruptible sleep",
        RunState::Stopped => ", stopped",
        RunState::Traced => ", stopped by a tracer",
        RunState::Zombie => ", a zombie with threads that still run",
    }
}

/// Describes the holder of a lock that is or was held by a process that cannot be identified.
pub(crate) fn describe_unseen_holder(state: &LockState) -> String {
    match (&state.unseen, state.blind_spot) {
        (record, Some(blind)) => {
            let record = record.as_ref().map(|(record, belief)| format!("; {}", describe_last_taker(record, *belief)));
            format!("an unknown process: {}{}", describe_blind(blind), record.unwrap_or_default())
        }
        (Some((record, belief)), None) => describe_remote_holder(record, *belief) + ", according to the record",
        (None, None) => "a process that has released it since, or cannot be seen from here".to_owned(),
    }
}

/// Says that the state of a lock is unknown, and why.
pub(crate) fn describe_unknown(state: &LockState) -> String {
    let last = state.unseen.as_ref().map(|(record, belief)| describe_last_taker(record, *belief));
    match (state.blind_spot, last) {
        (Some(blind), None) => format!("cannot determine whether it is held: {}", describe_blind(blind)),
        (Some(blind), Some(last)) => {
            format!("cannot determine whether it is held: {}; {last}", describe_blind(blind))
        }
        (None, Some(last)) => format!("no holder can be seen from here; {last}; that process may still hold it"),
        (None, None) => "cannot determine whether it is held".to_owned(),
    }
}

/// Says why the holders of a lock cannot be determined.
pub(crate) fn describe_blind(blind: BlindSpot) -> &'static str {
    match blind {
        BlindSpot::Proc if cfg!(linux) => "/proc cannot be read",
        BlindSpot::Proc => "this system does not show the holders of locks, and the record can be outdated",
        BlindSpot::List => "/proc/locks cannot be read, and some processes cannot be examined",
        BlindSpot::File => "its lock file cannot be examined",
    }
}

/// Describes the holders of an fcntl(2) lock. The phrase follows "locked".
pub(crate) fn describe_range_holders(other: &RangeHolding) -> String {
    let by = if other.holders.is_empty() {
        "a process that cannot be seen from here".to_owned()
    } else {
        describe_processes(&other.holders)
    };
    format!("by fcntl(2){}: {by}", format_range(&other.range))
}

/// Describes one holder on a line of its own.
pub(crate) fn describe_process(holder: &Holder) -> String {
    let mut text =
        format!("pid {}, {}, {}", holder.pid, escape_controls(&holder.user), format_command(&holder.command));
    if let Some(terminal) = &holder.terminal {
        let _ = write!(text, ", on {}", escape_controls(terminal));
    }
    if let Some(namespace) = holder.namespace {
        let _ = write!(text, ", in pid namespace {namespace}");
    }
    if let Some(slot) = holder.slot {
        let _ = write!(text, ", slot {}", slot.number);
    }
    text.push_str(holder.stall().map_or("", describe_stall));
    text
}

/// Describes a lease because of which a lock file cannot be opened.
pub(crate) fn describe_lease(lease: &FileLease) -> String {
    let taker = lease.taker.as_ref().map_or_else(
        || "another process".to_owned(),
        |taker| {
            format!("pid {} ({}), user {},", taker.pid, format_command(&taker.command), escape_controls(&taker.user))
        },
    );
    format!("{taker} has a file lease on it")
}

/// Describes the process that has a file lease on a lock file. The phrase follows "held by".
pub(crate) fn describe_leaseholder(lease: &FileLease) -> String {
    let by = lease.taker.as_ref().map_or_else(
        || "a process that cannot be seen from here".to_owned(),
        |taker| {
            format!("pid {} ({}), user {}", taker.pid, format_command(&taker.command), escape_controls(&taker.user))
        },
    );
    format!("{by}, with a file lease")
}

/// Returns the reason why the lock cannot be acquired, although no process may hold it.
pub(crate) fn describe_problem(state: &LockState) -> Option<String> {
    let lease = || Some(format!("its lock file cannot be opened: {}", describe_lease(state.lease.as_ref()?)));
    let planted = state.planted.as_ref();
    planted.map(|planted| format!("its lock file is refused: {planted}")).or_else(lease).or_else(|| {
        let LockError::Open { owner, source, .. } = &**state.denied.as_ref()? else { return None };
        let owner = owner.as_ref().map(|owner| format!(" (owner: {})", escape_controls(owner))).unwrap_or_default();
        Some(format!("its lock file cannot be opened: {}{owner}", format_io_error(source)))
    })
}

/// Describes the run on which ended calls with `--coalesce` rely, on a line of its own.
pub(crate) fn describe_promised_run(promised: PromisedRun) -> String {
    match promised {
        PromisedRun::Awaited(waiter) => {
            let waiter = waiter.map_or_else(
                || "a process that cannot be seen from here".to_owned(),
                |pid| format!("pid {}", promise::describe_waiter(pid).0),
            );
            format!("next run: {waiter} runs also for calls that have ended (--coalesce)")
        }
        PromisedRun::Owed => {
            "owed run: its waiter has ended, and earlier calls rely on it; the next call with --coalesce runs"
                .to_owned()
        }
    }
}

/// Describes a waiter on a line of its own. If a script waits through its helper, the line names the script first.
pub(crate) fn describe_waiter(waiter: &Waiter) -> String {
    let user = escape_controls(&waiter.user);
    let mut text = match (&waiter.script, waiter.pid) {
        (None, 0) => "a process that cannot be seen from here".to_owned(),
        (None, pid) => format!("pid {pid}, {user}, {}", format_command(&waiter.command)),
        (Some((script, what)), pid) => {
            format!("pid {script}, {user}, {}, by its helper {pid}", format_command(what))
        }
    };
    if let Some(terminal) = &waiter.terminal {
        let _ = write!(text, ", on {}", escape_controls(terminal));
    }
    if waiter.wants_slot {
        text.push_str(", for a slot");
    } else if waiter.mode == Mode::Shared {
        text.push_str(", for a shared lock");
    }
    if waiter.priority != Priority::Normal {
        let _ = write!(text, ", with {} priority", waiter.priority.as_str());
    }
    if waiter.replaces {
        text.push_str(", with --replace");
    }
    if let Some(age) = waiter.age {
        let _ = write!(text, ", for {}", format_span(age));
    }
    if waiter.state == Some(RunState::Stopped) {
        text.push_str(describe_state(RunState::Stopped));
    }
    text
}
