//! The scenes of `lock --priority`. A call with a lower priority that is already at the lock lets a higher one pass, and each of them runs.

use super::checks::{call_next, must, was_killed};
use crate::driver::{Call, Outcome, WaitKind};
use crate::kernel;
use crate::place::{self, Place, becomes_free, has_waiter};
use crate::scene::{Scene, Verdict};
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// The longest time until another call has come or has run.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("lock --priority low, free", |place| lock(create_file(place), "low"), judge),
        scene("lock --priority normal, free", |place| lock(create_file(place), "normal"), judge),
        scene("lock --priority low, a higher one comes", |place| meet_higher(place, "low"), judge_passed),
        scene("lock --priority normal, a higher one comes", |place| meet_higher(place, "normal"), judge_passed),
        scene("lock --priority high, another one comes", |place| meet_higher(place, "high"), judge),
    ]
}

fn lock(place: &Place, level: &str) -> Call {
    Call::new(place.logged_lock(&["-w", "--priority", level], "it"))
}

fn create_file(place: &Place) -> &Place {
    place.run_helper(["lock", "a", "--", "true"]);
    place
}

/// While the call waits for the lock, a call with a high priority comes. Then the lock is released.
fn meet_higher(place: &Place, level: &str) -> Call {
    let file = place::create_and_lock(&create_file(place).lock_file("a"));
    let mut higher = place.program(&place.helper);
    higher.args(place.logged_lock(&["-w", "--priority", "high"], "high")).stdout(Stdio::null()).stderr(Stdio::null());
    let (path, came) = (place.lock_file("a"), place.path("came"));
    lock(place, level).when_it_waits_for(WaitKind::Whole, move || {
        let mut higher = higher.spawn().unwrap();
        let begin = Instant::now();
        while !has_waiter(&path) && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        fs::write(came, "").unwrap();
        kernel::unflock(&file);
        thread::spawn(move || higher.wait());
    })
}

fn judge_run(place: &Place, outcome: &Outcome) -> Verdict {
    let begin = Instant::now();
    let has_come = place.path("came").exists();
    while has_come && !place.read("log").contains("run high\n") && begin.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(1));
    }
    let log = place.read("log");
    must(!log.contains("without"), "a command ran without the lock")?;
    must(!has_come || log.contains("run high\n"), format!("the other call did not run: {log:?}"))?;
    must((outcome.status == 0) == log.contains("run it\n") || was_killed(outcome), format!("it went so: {log:?}"))?;
    must(outcome.hit.is_some() || outcome.status == 0, "it did not get the lock")
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    judge_run(place, outcome)?;
    must(becomes_free(&place.lock_file("a")), "the lock outlived its holders")?;
    call_next(place, &["lock", "--priority", "low", "a", "--", "true"])?;
    call_next(place, &["lock", "a", "--", "true"])?;
    let names = place.list_names("locks");
    must(names == ["aba-a.lock"], format!("litter: {names:?}"))
}

fn judge_passed(place: &Place, outcome: &Outcome) -> Verdict {
    judge_run(place, outcome)?;
    let log = place.read("log");
    must(outcome.hit.is_some() || log == "run high\nrun it\n", format!("the higher one did not pass: {log:?}"))?;
    judge(place, outcome)
}
