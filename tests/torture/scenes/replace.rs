//! The scenes of `lock --replace`. The holder is ended only for a call that takes its place, the newest caller runs, and no process is
//! left.

use super::checks::{call_next, must, was_killed};
use crate::driver::{Call, Outcome, WaitKind};
use crate::kernel;
use crate::place::{self, Place, becomes_free, has_waiter};
use crate::scene::{Scene, Verdict};
use std::ffi::OsString;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// The longest time until another call has come or has run.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("lock --replace, free", |place| lock(create_file(place), &["--replace", "-t", "4"]), judge),
        scene("lock --replace, held", |place| lock(hold(place), &["--replace", "-t", "4"]), judge),
        scene(
            "lock --replace, held by one with --replace",
            |place| lock(hold_replaceable(place), &["--replace", "-t", "4"]),
            judge,
        ),
        scene(
            "lock --replace, held by one that ignores SIGTERM",
            |place| lock(hold_stubbornly(place), &["--replace", "-t", "4", "--grace", "0.03"]),
            judge,
        ),
        scene("lock --replace, a newer one comes", meet_newer, judge_older),
        scene("lock --replace, inside of the holder", replace_ancestor, judge_ancestor),
    ]
}

fn lock(place: &Place, options: &[&str]) -> Call {
    Call::new(place.logged_lock(options, "it"))
}

fn create_file(place: &Place) -> &Place {
    place.run_helper(["lock", "a", "--", "true"]);
    place
}

fn hold(place: &Place) -> &Place {
    place.keep_holder(&["a"]);
    place
}

fn hold_replaceable(place: &Place) -> &Place {
    place.keep_holder(&["--replace", "a"]);
    place
}

fn hold_stubbornly(place: &Place) -> &Place {
    place.keep_holder_with(&["a"], &["stay-stubbornly"]);
    place
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(outcome.status != 0 || log == "run it\n", format!("status 0, and it went so: {log:?}"))?;
    must(outcome.status == 0 || was_killed(outcome) || log.is_empty(), "it failed, and the command ran")?;
    must(outcome.hit.is_some() || outcome.status == 0, "it did not take the place of the holder")?;
    judge_next(place)
}

/// The holder ends, if it was not ended by the call.
fn judge_next(place: &Place) -> Verdict {
    place.release_kept();
    must(!place.read("log").contains("without"), "a command ran without the lock")?;
    must(becomes_free(&place.lock_file("a")), "the lock outlived its holders")?;
    call_next(place, &["lock", "--replace", "a", "--", "true"])?;
    call_next(place, &["lock", "a", "--", "true"])?;
    let names = place.list_names("locks");
    must(names == ["aba-a.lock"], format!("litter: {names:?}"))
}

/// While the call waits for a lock of flock(1), which is not ended, a newer call comes. Then the lock is released.
fn meet_newer(place: &Place) -> Call {
    let file = place::create_and_lock(&create_file(place).lock_file("a"));
    let mut newer = place.program(&place.helper);
    newer.args(place.logged_lock(&["-q", "--replace"], "newer")).stdout(Stdio::null()).stderr(Stdio::null());
    let (path, came) = (place.lock_file("a"), place.path("came"));
    lock(place, &["--replace"]).when_it_waits_for(WaitKind::Whole, move || {
        let mut newer = newer.spawn().unwrap();
        let begin = Instant::now();
        while !has_waiter(&path) && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        fs::write(came, "").unwrap();
        kernel::unflock(&file);
        thread::spawn(move || newer.wait());
    })
}

/// The newer one runs, whatever happens to the older one.
fn judge_older(place: &Place, outcome: &Outcome) -> Verdict {
    let begin = Instant::now();
    let has_come = place.path("came").exists();
    while has_come && !place.read("log").contains("newer") && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
    let log = place.read("log");
    must(outcome.hit.is_some() || outcome.status == 75, "it was not replaced by the newer one")?;
    must(!has_come || log.contains("run newer\n"), format!("the newer one did not run: {log:?}"))?;
    must(!log.contains("it\n") || !log.contains("newer"), format!("both ran: {log:?}"))?;
    judge_next(place)
}

/// The helper holds the lock for a command that does not inherit it, and that wants to replace the holder.
fn replace_ancestor(place: &Place) -> Call {
    let mut words: Vec<OsString> = ["lock", "-o", "a", "--"].map(OsString::from).into();
    words.push(place.helper.clone().into());
    words.extend(place.logged_lock(&["--replace"], "it"));
    Call::new(words)
}

fn judge_ancestor(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty() || outcome.hit.is_some(), "the command ran inside of the holder")?;
    must(![129, 130, 143].contains(&outcome.status), "it ended its own ancestor")?;
    must(outcome.hit.is_some() || outcome.status == 75, "it was not refused")?;
    judge_next(place)
}
