//! The actions of actors in a walk: each calls the helper in one way, and notes in the history what it asks for and what it gets.
//! `walk` calls [`play`].

use crate::checker;
use crate::contention::{ChosenLock, Contest, choose_wait, contend, helper, hold, hold_file};
use crate::disturbances;
use crate::driver::{self, Call};
use crate::environment;
use crate::order_actions;
use crate::policy_actions;
use crate::slot::Slot;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Performs a random action.
pub(crate) fn play(slot: &mut Slot, turn: usize) {
    if let Some(order) = order_actions::choose(slot, turn) {
        return order_actions::play(slot, turn, order);
    }
    if slot.random.chance(35) {
        return policy_actions::play(slot);
    }
    match slot.random.below(100) {
        0..17 => lock(slot),
        17 => wait_in_chain(slot),
        18..30 => flock(slot),
        30..38 => lock_in_script(slot),
        38..42 => lock_two(slot),
        42..56 => update_file(slot, turn),
        56..62 => read_file(slot, turn),
        62..72 => run_task(slot),
        72..74 => reset_task(slot),
        74..86 => use_number(slot),
        86..89 => clean(slot),
        89..93 => ask_status(slot),
        93..96 => refuse_bad_name(slot),
        _ if slot.stage.clocks => call_at_other_time(slot, turn),
        _ => lock(slot),
    }
}

fn lock(slot: &mut Slot) {
    let (lock, (mut words, waits)) = (ChosenLock::choose(slot), choose_wait(slot));
    let shared = slot.random.chance(25);
    if shared {
        words.push("-s".to_owned());
    }
    let mut all: Vec<OsString> = vec!["lock".into()];
    all.extend(words.into_iter().map(OsString::from));
    all.extend([OsString::from(&lock.name), "--".into()]);
    all.extend(hold(slot, &lock, shared));
    // Arguments may be invalid UTF-8.
    if slot.random.chance(10) {
        all.push(OsStr::from_bytes(b"\xff\xfe \n'").to_owned());
    }
    let mut command = helper(slot, all);
    command.env("ABA_LOCK_DIR", slot.place.path(lock.root));
    contend(slot, command, &Contest::new(&[&lock], waits, 75));
}

/// Runs a script with the library. Sometimes it locks in a trap handler, or runs another script that asks for the same lock.
fn lock_in_script(slot: &mut Slot) {
    let (lock, (words, waits)) = (ChosenLock::choose(slot), choose_wait(slot));
    let nested = r#"source "$LIBRARY"; aba_lock_operation "$NAME"; aba_unlock_operation "$NAME""#;
    let work = format!(
        "aba_lock_operation {} \"$NAME\"; {}\"$@\"",
        words.join(" "),
        if slot.random.chance(30) { "bash -c \"$NESTED\"; " } else { "" },
    );
    let in_trap = work.replacen("aba_lock_operation", "aba_lock_operation --on-conflict return", 1);
    // A bare `exit` would exit with the status from before the trap.
    let in_trap = in_trap.replacen(';', " || exit \"$?\";", 1);
    let work = match slot.random.below(100) {
        0..15 => format!("trap '{in_trap}' EXIT; exit {STATUS_OF_TRAP}"),
        15..25 => format!("trap '{in_trap}' USR1; kill -s USR1 $$; exit {STATUS_OF_TRAP}"),
        25..32 => format!("trap '{in_trap}; exit {STATUS_OF_TRAP}' ERR; false"),
        32..50 => format!("trap 'exit 143' TERM; {work}"),
        _ => work,
    };
    let script = format!("source \"$LIBRARY\"; {work}");
    let mut command = slot.place.program("bash");
    command.arg("-c").arg(script).arg("script").args(hold(slot, &lock, false));
    command.env("LIBRARY", environment::LIBRARY).env("NESTED", nested).env("NAME", &lock.name);
    command.env("ABA_LOCK_DIR", slot.place.path(lock.root));
    contend(slot, command, &Contest::new(&[&lock], waits, 1).or_status(&[STATUS_OF_TRAP]));
}

/// The exit status of a script that locks in a trap handler.
const STATUS_OF_TRAP: i32 = 3;

/// Runs a script that calls the helper as flock(1), on a file of its own: with a command, or on a descriptor.
fn flock(slot: &mut Slot) {
    const FCNTL_FILE: &str = "flocks/c";
    let by_descriptor = slot.random.chance(40);
    // A call with a descriptor locks the open file, even if it was removed.
    let is_removed = !by_descriptor && slot.random.chance(65);
    let name = if is_removed {
        disturbances::REMOVED_FILE
    } else {
        *slot.random.choose(&["flocks/a", "flocks/b", FCNTL_FILE])
    };
    let lock = ChosenLock { name: name.to_owned(), root: "locks" };
    let millis = slot.random.below(60);
    let (wait, waits) = match slot.random.below(100) {
        0..40 => ("-n".to_owned(), false),
        40..80 => (String::new(), true),
        _ => (format!("-w 0.{millis:03}"), true),
    };
    // Locks of fcntl(2) and of flock(2) do not exclude each other, so one file is only locked with fcntl(2).
    let fcntl = if lock.name == FCNTL_FILE { "--fcntl" } else { "" };
    let shared = slot.random.chance(25);
    let mode = if shared { "-s" } else { "-x" };
    let function = r#"flock() { "$ABA_LOCK_BIN" flock "$@"; }"#;
    let script = if by_descriptor {
        let release = if slot.random.chance(50) { format!(" && flock {fcntl} -u 9") } else { String::new() };
        format!(r#"{function}; exec 9<>"$FILE"; flock {fcntl} {mode} {wait} 9 || exit; "$@"{release}"#)
    } else {
        let become_it = if slot.random.chance(30) { "-F" } else { "" };
        format!(r#"{function}; flock {fcntl} {mode} {wait} {become_it} "$FILE" "$@""#)
    };
    let file = slot.place.path(&lock.name);
    let mut command = slot.place.program("bash");
    command.arg("-c").arg(script).arg("script").args(hold_file(slot, &lock, &file.to_string_lossy(), shared));
    command.env("FILE", file);
    contend(slot, command, &Contest::new(&[&lock], waits, 1));
}

/// Acquires two locks in one call, which gets both or neither. Often the file of one is removed during the wait for the other.
fn lock_two(slot: &mut Slot) {
    let removed = ChosenLock { name: (*slot.random.choose(&disturbances::REMOVED)).to_owned(), root: "locks" };
    let one = if slot.random.chance(60) { removed } else { ChosenLock::choose(slot) };
    let other = ChosenLock { name: format!("h{}", slot.random.below(3)), root: "locks" };
    if one.root != other.root || one.name == other.name {
        return lock(slot);
    }
    let (words, _) = choose_wait(slot);
    let (history, micros) = (slot.place.path("history"), slot.random.below(1500).to_string());
    let locks = [one.id(), one.file(slot), other.id(), other.file(slot)];
    let mut inside = vec!["hold-both", history.to_str().unwrap(), &slot.actor, &micros];
    inside.extend(locks.iter().map(String::as_str));
    let inside = slot.place.payload(&inside);
    if slot.random.chance(40) {
        let script = format!("source \"$LIBRARY\"; aba_lock_operation {} \"$ONE\" \"$OTHER\"; \"$@\"", words.join(" "));
        let mut command = slot.place.program("bash");
        command.arg("-c").arg(script).arg("script").args(inside);
        command.env("LIBRARY", environment::LIBRARY).env("ONE", &one.name).env("OTHER", &other.name);
        contend(slot, command, &Contest::new(&[&one, &other], true, 1));
        return;
    }
    let mut all: Vec<OsString> = vec!["lock".into()];
    all.extend(words.into_iter().map(OsString::from));
    all.extend([OsString::from(&one.name), OsString::from(&other.name), "--".into()]);
    all.extend(inside);
    let command = helper(slot, all);
    contend(slot, command, &Contest::new(&[&one, &other], true, 75));
}

/// Runs processes that wait for one another for so long that they search for deadlocks: a holder of the first lock waits for the second
/// one, whose holder waits for the third one, whose holder ends after a while. A deadlock is reported by none.
fn wait_in_chain(slot: &mut Slot) {
    let script = r#"hold() { "$ABA_LOCK_BIN" lock -w "$@"; }
        hold "$NAME.3" -- "$TORTURE" payload order stay "$MICROS" &
        hold "$NAME.2" -- "$ABA_LOCK_BIN" lock -w "$NAME.3" -- true &
        hold "$NAME.1" -- "$ABA_LOCK_BIN" lock -w "$NAME.2" -- true &
        hold "$NAME.1" -- true &
        wait"#;
    let micros = 250_000 + slot.random.below(100_000);
    let number = slot.actor.split('.').next().unwrap_or_default().to_owned();
    let mut command = slot.place.program("bash");
    command.arg("-c").arg(script).env("NAME", format!("y{number}")).env("MICROS", micros.to_string());
    slot.note("ask chain");
    let said = slot.call(command, &[]);
    slot.note(&format!("done {}", said.map_or(137, |said| said.status)));
}

/// The file that actors update: another one every 40 turns, so that no file grows long.
fn name_file(turn: usize) -> String {
    format!("data/f{}", turn / 40)
}

fn update_file(slot: &mut Slot, turn: usize) {
    let (file, token) = (name_file(turn), slot.actor.clone());
    let mut words = vec!["update", "--create"];
    let in_place = slot.random.chance(25);
    let add = format!("echo {token}");
    let (cat, append) = (format!("cat; {add}"), format!("{add} >>\"$1\""));
    if in_place {
        words.extend(["--in-place", &file, "--", "sh", "-c", &append, "sh", "{}"]);
    } else {
        words.extend([&file, "--", "sh", "-c", &cat]);
    }
    let command = helper(slot, words);
    slot.note("ask update");
    slot.note(&format!("adds {file} {token}"));
    let said = slot.call(command, &[]);
    match &said {
        Some(said) if said.status == 0 => slot.note(&format!("added {file} {token}")),
        Some(_) => slot.note(&format!("refused {file} {token}")),
        None => {}
    }
    slot.note(&format!("done {}", said.map_or(137, |said| said.status)));
}

/// Reads the file without a lock.
fn read_file(slot: &mut Slot, turn: usize) {
    let file = name_file(turn);
    slot.note(&format!("reads {file}"));
    let content = slot.place.read(&file);
    if !content.is_empty() && !content.ends_with('\n') {
        slot.stage.report(format!("{} read half a line of {file}", slot.actor));
    }
    slot.note(&format!("read {file} {} {}", content.lines().count(), checker::hash_lines(content.lines())));
}

fn run_task(slot: &mut Slot) {
    let (task, how) = (format!("t{}", slot.random.below(3)), *slot.random.choose(&["-qw", "-qw", "-s", "-p"]));
    let fate = *slot.random.choose(&["0", "0", "0", "0", "0", "3", "die", "orphan"]);
    let micros = slot.random.below(3000).to_string();
    let history = slot.place.path("history");
    let mut words: Vec<OsString> = ["run-once", how, "-i", &task].map(OsString::from).into();
    if how != "-p" {
        words.push("--".into());
        words.extend(slot.place.payload(&["task", &history.to_string_lossy(), &slot.actor, &task, fate, &micros]));
    }
    let command = helper(slot, words);
    slot.note("ask task");
    // 143: a reset ended the task.
    let said = slot.call(command, &[3, 137, 143]);
    if said.as_ref().is_some_and(|said| said.status == 0 && how == "-qw") {
        slot.note(&format!("finished {task}"));
    }
    slot.note(&format!("done {}", said.map_or(137, |said| said.status)));
}

fn reset_task(slot: &mut Slot) {
    let task = format!("t{}", slot.random.below(3));
    let command = helper(slot, ["run-once", "-r", "-i", &task]);
    slot.note(&format!("forgets {task}"));
    slot.call(command, &[]);
    slot.note(&format!("forgot {task}"));
}

fn use_number(slot: &mut Slot) {
    let key = format!("d{}", slot.random.below(8));
    let pool_options = ["--pool", "p", "--path", &key];
    let range = ["--range", "1-12", "--probe", "none"];
    match slot.random.below(10) {
        0..5 => {
            let command = helper(slot, ["reserve"].iter().chain(&pool_options).chain(&range));
            slot.note(&format!("wants p {key}"));
            if let Some(said) = slot.call(command, &[])
                && said.status == 0
            {
                slot.note(&format!("keeps p {key} {}", said.out.trim()));
            }
        }
        5..7 => {
            let command = helper(slot, ["release"].iter().chain(&pool_options));
            slot.note(&format!("releases p {key}"));
            slot.call(command, &[]);
            slot.note(&format!("released p {key}"));
        }
        _ => {
            let (history, micros) = (slot.place.path("history"), slot.random.below(1500).to_string());
            let inside = slot.place.payload(&["lease", &history.to_string_lossy(), &slot.actor, "p", &micros]);
            let mut words: Vec<OsString> =
                ["reserve"].iter().chain(&pool_options).chain(&range).map(OsString::from).collect();
            words.push("--".into());
            words.extend(inside);
            let command = helper(slot, words);
            slot.note("ask lease");
            let said = slot.call(command, &[]);
            slot.note(&format!("done {}", said.map_or(137, |said| said.status)));
        }
    }
}

fn clean(slot: &mut Slot) {
    let command = helper(slot, ["clean", "-q"]);
    slot.call(command, &[]);
}

fn ask_status(slot: &mut Slot) {
    let lock = ChosenLock::choose(slot);
    let mut command = helper(slot, ["status", "-q", &lock.name]);
    command.env("ABA_LOCK_DIR", slot.place.path(lock.root));
    slot.note("ask status");
    if slot.call(command, &[]).is_some_and(|said| said.status == 1) {
        slot.note(&format!("free {}", lock.id()));
    }
}

/// Calls the helper with an invalid name, which it must refuse.
fn refuse_bad_name(slot: &mut Slot) {
    let names = [OsStr::from_bytes(b"\xff\xfe").to_owned(), "n".repeat(129).into(), "../x".into(), "a\nb".into()];
    let name = slot.random.choose(&names).clone();
    let words: Vec<OsString> = match slot.random.below(3) {
        0 => vec!["lock".into(), name.clone(), "--".into(), "true".into()],
        1 => vec!["run-once".into(), "-i".into(), name.clone(), "--".into(), "true".into()],
        _ => vec!["status".into(), name.clone()],
    };
    let command = helper(slot, words);
    // clap has its own message for invalid UTF-8.
    if let Some(said) = slot.call_without_judging(command)
        && said.status != 2
    {
        slot.stage.report(format!("{}: {} was not refused: {said:?}", slot.actor, name.display()));
    }
}

/// Locks or updates in a process that sees another time than the others.
fn call_at_other_time(slot: &mut Slot, turn: usize) {
    let away = *slot.random.choose(&[-86_400, 86_400, -1_700_000_000, 3600, -1]);
    let (lock, (file, token)) = (
        ChosenLock { name: format!("h{}", slot.random.below(3)), root: "locks" },
        (name_file(turn), slot.actor.clone()),
    );
    slot.count();
    if slot.random.chance(60) {
        let mut words: Vec<OsString> = ["lock", "-w", &lock.name, "--"].map(OsString::from).into();
        words.extend(hold(slot, &lock, false));
        slot.note("ask lock");
        slot.note(&format!("tries {}", lock.id()));
        let ended = driver::run_at_another_time(&slot.place, &Call::new(words), away);
        note_end(slot, ended);
    } else {
        let add = format!("cat; echo {token}");
        slot.note(&format!("adds {file} {token}"));
        let call = Call::new(["update", "--create", &file, "--", "sh", "-c", &add]);
        let ended = driver::run_at_another_time(&slot.place, &call, away);
        if matches!(ended, Ok((0, _))) {
            slot.note(&format!("added {file} {token}"));
        }
        note_end(slot, ended);
    }
}

fn note_end(slot: &Slot, ended: std::io::Result<(i32, String)>) {
    match ended {
        Ok((0, _)) => slot.note("done 0"),
        // A signal that arrives before the listener receives the call makes clock_gettime(2) fail with EINTR. That never
        // happens without a filter, and the standard library panics.
        Ok((134, err)) if err.contains("kind: Interrupted") => slot.note("doom"),
        other => slot.stage.report(format!("{}, at another time, ended so: {other:?}", slot.actor)),
    }
}
