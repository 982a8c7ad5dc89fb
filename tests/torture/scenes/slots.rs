//! The scenes of `lock --slots`. After each call, all slots are free, and the next calls succeed, also one with another number of slots.

use super::checks::{call_next, must, was_killed};
use crate::driver::{Call, Outcome, WaitKind};
use crate::place::{self, Place, becomes_free, is_free};
use crate::scene::{Scene, Verdict};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::Stdio;

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("lock --slots, the first ever", |place| lock(place, &["--slots", "2", "a"]), judge_first),
        scene("lock --slots, one held", |place| lock(hold(place, 1), &["--slots", "2", "a"]), judge_second),
        scene("lock --slots, all held", |place| lock(hold(place, 2), &["--slots", "2", "a"]), judge_refused),
        scene(
            "lock --slots, all held for longer than the wait",
            |place| lock(hold(place, 2), &["--slots", "2", "-t", "0.02", "a"]),
            judge_refused,
        ),
        scene("lock --slots, waited for", |place| wait(place, WaitKind::Slot), judge_waited),
        scene("lock --slots, released before the wait", |place| wait(place, WaitKind::Lock), judge_waited),
        scene("lock --slots, held as a whole", hold_whole, judge_refused),
        scene("lock --slots, the whole waited for", wait_for_whole, judge_first),
        scene("lock --slots, another number", |place| lock(hold(place, 1), &["--slots", "3", "a"]), judge_other),
        scene(
            "lock --slots, another number after a wait",
            |place| lock(hold(place, 1), &["--slots", "3", "-w", "a"]),
            judge_other,
        ),
        scene("lock, all slots waited for", wait_for_all, judge_whole),
        scene("lock, a slot held", |place| lock_whole(hold(place, 1), &["a"]), judge_refused),
        scene("lock --slots --file", lock_file_of_user, judge_file),
        scene("lock --slots --fd", by_descriptor, judge_descriptor),
        scene("unlock --fd, a slot", unlock, judge_unlock),
        scene("a script, --slots", script, judge_script),
        scene("a script, --slots, nested", nested_script, judge_nested),
        scene("lock --slots --max-time --key, examined", examined, judge_examined),
    ]
}

fn probe(place: &Place, file: &Path) -> Vec<OsString> {
    place.payload(&["slot", &file.to_string_lossy(), &place.path("log").to_string_lossy()])
}

/// A call that locks a slot and runs a command, which checks that the slot is held.
fn lock(place: &Place, options: &[&str]) -> Call {
    let mut words: Vec<OsString> = ["lock"].iter().chain(options).map(OsString::from).collect();
    words.push("--".into());
    words.extend(probe(place, &place.lock_file("a")));
    Call::new(words)
}

/// A call that locks all slots.
fn lock_whole(place: &Place, options: &[&str]) -> Call {
    let (file, log) = (place.lock_file("a"), place.path("log"));
    let mut words: Vec<OsString> = ["lock"].iter().chain(options).map(OsString::from).collect();
    words.push("--".into());
    words.extend(place.payload(&["probe", &file.to_string_lossy(), &log.to_string_lossy()]));
    Call::new(words)
}

/// Starts processes that hold slots.
fn hold(place: &Place, number: usize) -> &Place {
    for _ in 0..number {
        place.keep_holder(&["--slots", "2", "a"]);
    }
    place
}

/// Waits for a slot. The second of two holders ends when the call waits.
fn wait(place: &Place, kind: WaitKind) -> Call {
    hold(place, 1);
    let second = place.start_holder(&["--slots", "2", "a"]);
    lock(place, &["--slots", "2", "-w", "a"]).when_it_waits_for(kind, move || drop(second))
}

fn hold_whole(place: &Place) -> Call {
    place.keep(place::create_and_lock(&place.lock_file("a")));
    lock(place, &["--slots", "2", "a"])
}

fn wait_for_whole(place: &Place) -> Call {
    let whole = place.start_holder(&["a"]);
    lock(place, &["--slots", "2", "-w", "a"]).when_it_waits(move || drop(whole))
}

/// Waits for all slots, of which two are held.
fn wait_for_all(place: &Place) -> Call {
    let (one, other) = (place.start_holder(&["--slots", "3", "a"]), place.start_holder(&["--slots", "3", "a"]));
    lock_whole(place, &["-w", "a"]).when_it_waits(move || drop((one, other)))
}

/// The command ran if and only if a slot was acquired, and it had this slot.
fn judge_inside(place: &Place, outcome: &Outcome, slot: &str) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the command ran without a slot")?;
    must(log.is_empty() || log == format!("inside {slot}\n"), format!("not slot {slot}: {log:?}"))?;
    must(outcome.status != 0 || !log.is_empty(), "status 0, and the command did not run")?;
    must(outcome.status == 0 || was_killed(outcome) || log.is_empty(), "it failed, and the command ran")
}

/// All holders have ended: the lock is free, also for another number of slots, and there are only lock files.
fn judge_next(place: &Place) -> Verdict {
    place.release_kept();
    must(becomes_free(&place.lock_file("a")), "a slot outlived its holder")?;
    call_next(place, &["lock", "--slots", "4", "a", "--", "true"])?;
    call_next(place, &["lock", "a", "--", "true"])?;
    let is_lock = |name: &String| name.strip_suffix(".lock").is_some_and(|name| name.starts_with("aba-"));
    must(place.list_names("locks").iter().all(is_lock), format!("litter: {:?}", place.list_names("locks")))
}

fn judge_first(place: &Place, outcome: &Outcome) -> Verdict {
    judge_inside(place, outcome, "1")?;
    judge_next(place)
}

/// Another process holds the first of two slots. After a call that failed or was killed, the second is free.
fn judge_second(place: &Place, outcome: &Outcome) -> Verdict {
    judge_inside(place, outcome, "2")?;
    must(outcome.hit.is_some() || outcome.status == 0, "a slot was free, and refused")?;
    judge_one_is_free(place)?;
    judge_next(place)
}

/// The second holder has ended, or does so now.
fn judge_waited(place: &Place, outcome: &Outcome) -> Verdict {
    judge_inside(place, outcome, "2")?;
    must(outcome.hit.is_some() || outcome.status == 0, "a slot was released, and not acquired")?;
    call_next(place, &["lock", "-q", "--slots", "2", "-t", "9", "a", "--", "true"])?;
    judge_next(place)
}

/// One of two slots is held: the other one is free, and can be acquired at once.
fn judge_one_is_free(place: &Place) -> Verdict {
    call_next(place, &["lock", "--slots", "2", "a", "--", "true"]).map(drop)
}

fn judge_refused(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the command ran, and no slot was free")?;
    must(outcome.status != 0, "status 0, and no slot was free")?;
    must(!is_free(&place.lock_file("a")), "the holders lost their slots")?;
    judge_next(place)
}

fn judge_other(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the command ran next to one with another number of slots")?;
    must(outcome.status != 0, "status 0, and another number of slots is in use")?;
    let said = outcome.err.contains("is held with --slots 2, so --slots 3 is refused");
    must(outcome.hit.is_some() || said && outcome.status == 75, "it was not refused because of its number")?;
    judge_one_is_free(place)?;
    judge_next(place)
}

fn judge_whole(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the command ran without the lock")?;
    must((outcome.status == 0) == (log == "inside\n") || was_killed(outcome), format!("it ran so: {log:?}"))?;
    judge_next(place)
}

fn lock_file_of_user(place: &Place) -> Call {
    place.write("f", "the user's\n");
    let mut words: Vec<OsString> = ["lock", "--slots", "2", "--file", "f", "--"].map(OsString::from).into();
    words.extend(probe(place, &place.path("f")));
    Call::new(words)
}

fn judge_file(place: &Place, outcome: &Outcome) -> Verdict {
    judge_inside(place, outcome, "1")?;
    must(becomes_free(&place.path("f")), "a slot outlived its holder")?;
    must(place.read("f") == "the user's\n", "it changed the file of the user")?;
    call_next(place, &["lock", "--slots", "4", "--file", "f", "--", "true"])?;
    let names = place.list_names("");
    must(names.iter().all(|name| ["f", "log", "locks"].contains(&name.as_str())), format!("litter: {names:?}"))
}

fn opened(place: &Place) -> File {
    place.run_helper(["lock", "a", "--", "true"]);
    File::options().read(true).write(true).open(place.lock_file("a")).unwrap()
}

fn by_descriptor(place: &Place) -> Call {
    let file = opened(place);
    let call = Call::new(["lock", "--slots", "2", "--fd", "200", "a"]).descriptor(&file, 200);
    place.keep(file);
    call
}

/// `status` names the slot of the script, which is this process.
fn judge_descriptor(place: &Place, outcome: &Outcome) -> Verdict {
    let free = is_free(&place.lock_file("a"));
    must(outcome.status != 0 || !free, "status 0, and the script holds no slot")?;
    must(outcome.status == 0 || was_killed(outcome) || free, "it failed, and the script holds the lock")?;
    if outcome.status == 0 {
        let said = place.run_helper(["status", "--json", "a"]);
        must(said.out.contains("\"slots\": 2") && said.out.contains("\"slot\": 1"), format!("status: {said:?}"))?;
    }
    judge_next(place)
}

fn unlock(place: &Place) -> Call {
    let file = opened(place);
    let mut command = place.program("bash");
    command.args(["-c", r#""$ABA_LOCK_BIN" lock --slots 2 --fd 200 a 200<&0"#]);
    let status = command.stdin(file.try_clone().unwrap()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "the slot is free");
    let call = Call::new(["unlock", "a", "--fd", "200"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn judge_unlock(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 0 || is_free(&place.lock_file("a")), "status 0, and the slot is held still")?;
    judge_next(place)
}

fn with_paths(place: &Place, call: Call) -> Call {
    call.variable("FILE", place.lock_file("a").to_string_lossy()).variable("LOG", place.path("log").to_string_lossy())
}

const SCRIPT: &str = r#"source "$LIBRARY"; aba_lock_operation --slots 2 a; "$TORTURE" payload slot "$FILE" "$LOG""#;

fn script(place: &Place) -> Call {
    let script = format!(r#"{SCRIPT}; aba_unlock_operation a && echo "after ${{ABA_LOCK_SLOT-none}}" >>"$LOG""#);
    with_paths(place, Call::bash(&script))
}

fn judge_script(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the script went on without a slot")?;
    must(["", "inside 1\n", "inside 1\nafter none\n"].contains(&log.as_str()), format!("it went so: {log:?}"))?;
    must(outcome.status != 0 || log.lines().count() == 2, format!("status 0, and it went so: {log:?}"))?;
    judge_next(place)
}

fn nested_script(place: &Place) -> Call {
    let script = format!(r#"{SCRIPT}; bash -c "$NESTED" && aba_unlock_operation a"#);
    with_paths(hold(place, 1), Call::bash(&script).variable("NESTED", SCRIPT))
}

fn judge_nested(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the script went on without a slot")?;
    must(log.lines().all(|line| line == "inside 2"), format!("another slot: {log:?}"))?;
    must(outcome.status != 0 || log.lines().count() == 2, format!("status 0, and it went so: {log:?}"))?;
    judge_next(place)
}

/// All policies at once, examined by the command that runs under the lock.
fn examined(place: &Place) -> Call {
    let mut words: Vec<OsString> =
        ["lock", "--slots", "2", "--max-time", "1h", "--key", "a b", "--"].map(OsString::from).into();
    words.extend(place.payload(&["witness", &place.path("log").to_string_lossy(), "--key", "a b"]));
    Call::new(words)
}

fn judge_examined(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("wrong"), format!("status is wrong: {log}"))?;
    must(outcome.status != 0 || log.starts_with("inside\n"), "status 0, and the command did not run")?;
    let is_whole = log.contains("key \"a b\"\n") && log.contains("max_time_seconds 3600.0\n");
    must(outcome.hit.is_some() || is_whole, format!("the record is not whole: {log}"))?;
    call_next(place, &["lock", "--slots", "4", "--key", "a b", "--", "true"]).map(drop)
}
