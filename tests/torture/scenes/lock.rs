//! The scenes of `lock` and `unlock`, with names, descriptors, commands and scripts, and those of `clean`, `status` and `list`. After
//! each call, the lock is free, and the next call succeeds.

use super::checks::{call_next, lock_until_called, must, was_killed};
use crate::driver::{Call, Outcome};
use crate::place::{self, Place, becomes_free, is_free};
use crate::scene::{Scene, Verdict};
use std::ffi::OsString;
use std::fs::{self, File};

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("lock, the first ever", |place| lock(place, &["a"]), judge),
        scene("lock, free", |place| lock(create_file(place), &["a"]), judge),
        scene("lock, shared", |place| lock(create_file(place), &["-s", "a"]), judge),
        scene("lock, with a record that was cut", |place| lock(create_cut_record(place), &["a"]), judge),
        scene("lock, held", |place| lock(hold(place), &["a"]), judge_refused),
        scene("lock, held for longer than the wait", |place| lock(hold(place), &["-t", "0.02", "a"]), judge_refused),
        scene(
            "lock, waited for",
            |place| lock(place, &["-w", "a"]).when_it_waits(lock_until_called(&place.lock_file("a"))),
            judge,
        ),
        scene("lock, two names", |place| lock(create_file(place), &["a", "b"]), judge),
        scene("lock, two names, one held", |place| lock(hold(place), &["a", "0"]), judge_refused),
        scene("lock, two names, one file removed during the wait", two_one_removed, judge_both),
        scene("a script, two names, one file removed during the wait", script_two_one_removed, judge_both),
        scene("a script, in a trap, free", |place| script_in_trap(create_file(place)), judge_trap),
        scene("a script, in a trap, held", |place| script_in_trap(hold(place)), judge_trap_held),
        scene("lock --no-inherit", |place| lock(create_file(place), &["-o", "a"]), judge_parted),
        scene("lock, nested", nested, judge),
        scene("lock --fd", by_descriptor, judge_descriptor),
        scene("lock --fd, waited for", by_descriptor_waiting, judge_descriptor),
        scene("lock --fd, replaced", replaced, judge_replaced),
        scene("unlock --fd", unlock, judge_unlock),
        scene("a script, nested", script, judge_script),
        scene("clean, free", |place| Call::new(["clean", "-q"]).after(create_file(place)), judge_clean),
        scene("clean, held", |place| Call::new(["clean", "-q"]).after(hold(place)), judge_clean_held),
        scene("status, held", |place| Call::new(["status", "a"]).after(hold(place)), judge_status),
        scene("list, held", |place| Call::new(["list"]).after(hold(place)), judge_list),
    ]
}

/// A call that locks and runs a command, which checks that the lock is held.
fn lock(place: &Place, options: &[&str]) -> Call {
    let mut words: Vec<OsString> = ["lock"].iter().chain(options).map(OsString::from).collect();
    words.push("--".into());
    words.extend(probe(place));
    Call::new(words)
}

fn probe(place: &Place) -> Vec<OsString> {
    let (file, log) = (place.lock_file("a"), place.path("log"));
    place.payload(&["probe", &file.to_string_lossy(), &log.to_string_lossy()])
}

/// Locks once before the scene, so that there is a lock file with a record.
fn create_file(place: &Place) -> &Place {
    place.run_helper(["lock", "--who", &"x".repeat(300), "a", "--", "true"]);
    place
}

fn create_cut_record(place: &Place) -> &Place {
    create_file(place);
    let record = fs::read(place.lock_file("a")).unwrap();
    fs::write(place.lock_file("a"), &record[..record.len() / 2]).unwrap();
    place
}

fn hold(place: &Place) -> &Place {
    create_file(place);
    place.keep(place::create_and_lock(&place.lock_file("a")));
    place
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    judge_inside(place, outcome, 1)?;
    judge_next(place)
}

/// The command ran if and only if the lock was acquired.
fn judge_inside(place: &Place, outcome: &Outcome, times: usize) -> Verdict {
    let log = place.read("log");
    let inside = log.lines().count();
    must(!log.contains("without"), "the command ran without the lock")?;
    must(outcome.status != 0 || inside == times, format!("status 0, and the command ran {inside} times"))?;
    must(outcome.status == 0 || was_killed(outcome) || inside < times, "it failed, and the command ran")
}

/// All holders have ended: the lock is free, the next call succeeds, and there are only lock files.
fn judge_next(place: &Place) -> Verdict {
    must(becomes_free(&place.lock_file("a")), "the lock outlived those who had it")?;
    call_next(place, &["lock", "a", "b", "--", "true"])?;
    let is_lock = |name: &String| name.strip_suffix(".lock").is_some_and(|name| name.starts_with("aba-"));
    must(place.list_names("locks").iter().all(is_lock), format!("litter: {:?}", place.list_names("locks")))
}

fn judge_refused(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the command ran while another held the lock")?;
    must(outcome.status != 0, "status 0, and another held the lock")?;
    must(is_free(&place.lock_file("0")), "the other lock is still held: not all or none")?;
    place.release_kept();
    judge_next(place)
}

/// The kernel closes the descriptors of a killed helper before it sends the parent-death signal to the command, so the command
/// may see a free lock.
fn judge_parted(place: &Place, outcome: &Outcome) -> Verdict {
    if was_killed(outcome) { judge_next(place) } else { judge(place, outcome) }
}

fn nested(place: &Place) -> Call {
    create_file(place);
    let mut words: Vec<OsString> = ["lock", "a", "--"].map(OsString::from).into();
    words.push(place.helper.clone().into());
    words.extend(["lock", "a", "--"].map(OsString::from));
    words.extend(probe(place));
    Call::new(words)
}

fn opened(place: &Place) -> File {
    File::options().read(true).write(true).open(place.lock_file("a")).unwrap()
}

fn by_descriptor(place: &Place) -> Call {
    let file = opened(create_file(place));
    let call = Call::new(["lock", "--fd", "200", "a"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn by_descriptor_waiting(place: &Place) -> Call {
    let file = opened(create_file(place));
    let call = Call::new(["lock", "-w", "--fd", "200", "a"]).descriptor(&file, 200);
    place.keep(file);
    call.when_it_waits(lock_until_called(&place.lock_file("a")))
}

fn judge_descriptor(place: &Place, outcome: &Outcome) -> Verdict {
    let free = is_free(&place.lock_file("a"));
    must(outcome.status != 0 || !free, "status 0, and the script does not hold the lock")?;
    // A killed helper may hold the lock; the library then closes the descriptor.
    must(outcome.status == 0 || was_killed(outcome) || free, "it failed, and the script holds the lock")?;
    place.release_kept();
    judge_next(place)
}

fn replaced(place: &Place) -> Call {
    let file = opened(create_file(place));
    fs::remove_file(place.lock_file("a")).unwrap();
    let call = Call::new(["lock", "--fd", "200", "a"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn judge_replaced(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 0, "status 0, and the lock is on a file that was removed")?;
    place.release_kept();
    judge_next(place)
}

fn unlock(place: &Place) -> Call {
    let file = place::create_and_lock(&place.lock_file("a"));
    let call = Call::new(["unlock", "a", "--fd", "200"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn judge_unlock(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 0 || is_free(&place.lock_file("a")), "status 0, and the lock is held still")?;
    place.release_kept();
    judge_next(place)
}

fn script(place: &Place) -> Call {
    create_file(place);
    let nested = r#"source "$LIBRARY"; aba_lock_operation a; "$TORTURE" payload probe "$FILE" "$LOG""#;
    let script = format!(r#"{nested}; bash -c "$NESTED" && aba_unlock_operation a"#);
    Call::bash(&script)
        .variable("NESTED", nested)
        .variable("FILE", place.lock_file("a").to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

fn judge_script(place: &Place, outcome: &Outcome) -> Verdict {
    must(!place.read("log").contains("without"), "the script went on without the lock")?;
    let inside = place.read("log").lines().count();
    must(outcome.status != 0 || inside == 2, format!("status 0, and {inside} of 2 were inside"))?;
    judge_next(place)
}

/// A command under two locks that checks that both present lock files are locked.
fn probe_both(place: &Place) -> Vec<OsString> {
    let (log, one, other) = (place.path("log"), place.lock_file("a"), place.lock_file("b"));
    place.payload(&["probe-all", &log.to_string_lossy(), &one.to_string_lossy(), &other.to_string_lossy()])
}

/// Locks the second file now, and returns a function that removes the file of the first lock, which the helper holds by then,
/// and unlocks the second.
fn remove_first(place: &Place) -> impl FnOnce() + 'static {
    let (file, unlock) = (place.lock_file("a"), lock_until_called(&place.lock_file("b")));
    move || {
        let _ = fs::remove_file(file);
        unlock();
    }
}

fn two_one_removed(place: &Place) -> Call {
    create_file(place);
    let mut words: Vec<OsString> = ["lock", "-w", "a", "b", "--"].map(OsString::from).into();
    words.extend(probe_both(place));
    Call::new(words).when_it_waits(remove_first(place))
}

fn script_two_one_removed(place: &Place) -> Call {
    create_file(place);
    let script = r#"source "$LIBRARY"; aba_lock_operation -w a b; "$TORTURE" payload probe-all "$LOG" "$ONE" "$OTHER""#;
    Call::bash(script)
        .variable("LOG", place.path("log").to_string_lossy())
        .variable("ONE", place.lock_file("a").to_string_lossy())
        .variable("OTHER", place.lock_file("b").to_string_lossy())
        .when_it_waits(remove_first(place))
}

fn judge_both(place: &Place, outcome: &Outcome) -> Verdict {
    judge_inside(place, outcome, 2)?;
    must(becomes_free(&place.lock_file("b")), "the second lock outlived its holder")?;
    judge_next(place)
}

/// A script that locks in a trap handler. There, bash lets a bare `return` return the status from before the trap.
fn script_in_trap(place: &Place) -> Call {
    let script = r#"source "$LIBRARY"
trap 'aba_lock_operation --on-conflict return a || exit; "$TORTURE" payload probe "$FILE" "$LOG"' EXIT
exit 1"#;
    Call::bash(script)
        .variable("FILE", place.lock_file("a").to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

fn judge_trap(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the handler went on without the lock")?;
    must(outcome.hit.is_some() || log.lines().count() == 1, "the lock was free, and refused")?;
    judge_next(place)
}

fn judge_trap_held(place: &Place, _: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the handler went on while another held the lock")?;
    place.release_kept();
    judge_next(place)
}

fn judge_clean(place: &Place, outcome: &Outcome) -> Verdict {
    let there = place.lock_file("a").exists();
    must(
        outcome.status != 0 || !there || !outcome.err.is_empty() || outcome.hit.is_some(),
        "it left the file without a word",
    )?;
    judge_next(place)
}

fn judge_clean_held(place: &Place, _: &Outcome) -> Verdict {
    must(place.lock_file("a").exists(), "it removed a lock file that is held")?;
    place.release_kept();
    judge_next(place)
}

fn judge_status(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 1, "it called a lock free that is held")?;
    place.release_kept();
    judge_next(place)
}

fn judge_list(place: &Place, outcome: &Outcome) -> Verdict {
    let line = outcome.out.lines().find(|line| line.starts_with("a "));
    must(outcome.status != 0 || line.is_some_and(|line| !line.contains("free")), "it called a lock free that is held")?;
    place.release_kept();
    judge_next(place)
}
