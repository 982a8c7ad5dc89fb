//! The scenes of an exclusive call that waits among shared ones: no later shared call runs before it, and if it ends, they can go on.
//!
//! The scenes were seen to fail with a helper in which shared callers do not look whether a process waits (`is_queue_ahead`), in which
//! an exclusive waiter takes no mark, and in which a shared waiter does not wait for the mark.

use super::checks::{call_next, must, was_killed};
use crate::driver::{Call, Outcome, WaitKind};
use crate::place::{Place, becomes_free, wait_for};
use crate::scene::{Scene, Verdict};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

/// The longest time that another call may take while the helper is stopped.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("lock, waits among shared holders", |place| wait_among_shared(place, &["-w"]), judge),
        scene("lock -t, waits among shared holders", |place| wait_among_shared(place, &["-t", "9"]), judge),
        scene("lock --shared, next to a shared holder", |place| lock(share(place), &["-n", "-s"]), judge_shared),
        scene("lock --shared, after a waiter", wait_after_writer, judge_later),
        scene("lock -n --shared, after a waiter", try_after_writer, judge_refused),
    ]
}

fn lock(place: &Place, options: &[&str]) -> Call {
    let (file, log) = (place.lock_file("a"), place.path("log"));
    let mut words: Vec<OsString> = ["lock"].iter().chain(options).chain(&["a", "--"]).map(OsString::from).collect();
    words.extend(place.payload(&["run", "it", &file.to_string_lossy(), &log.to_string_lossy()]));
    Call::new(words)
}

fn share(place: &Place) -> &Place {
    place.keep_holder(&["--shared", "a"]);
    place
}

/// A call of another process, which can be made while the helper waits.
fn prepare(place: &Place, words: &[&str]) -> Command {
    let mut command = place.program(&place.helper);
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Waits, exclusively, while another process shares the lock. During the wait, a third one tries to share it. Then the holder ends.
fn wait_among_shared(place: &Place, options: &[&str]) -> Call {
    let holder = place.start_holder(&["--shared", "a"]);
    let mut reader = prepare(place, &["lock", "-n", "-s", "a", "--", "true"]);
    let note: PathBuf = place.path("reader");
    lock(place, options).when_it_waits_for(WaitKind::Whole, move || {
        let status = wait_for(&mut reader.spawn().unwrap(), PATIENCE);
        fs::write(note, status.to_string()).unwrap();
        drop(holder);
    })
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let reader = place.read("reader");
    // An error at the turnstile is no error of the lock.
    must(outcome.hit.is_some() || reader == "75", format!("a later shared call ended with {reader:?}"))?;
    judge_run(place, outcome)?;
    must(outcome.hit.is_some() || outcome.status == 0, "the lock was released, and not acquired")?;
    judge_next(place)
}

fn judge_run(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the command ran without the lock")?;
    must((outcome.status == 0) == log.contains("run it\n") || was_killed(outcome), format!("it went so: {log:?}"))
}

fn judge_next(place: &Place) -> Verdict {
    place.wait_for_all();
    must(becomes_free(&place.lock_file("a")), "the lock outlived its holders")?;
    call_next(place, &["lock", "-s", "a", "--", "true"])?;
    call_next(place, &["lock", "a", "--", "true"])?;
    let names = place.list_names("locks");
    must(names == ["aba-a.lock"], format!("litter: {names:?}"))
}

fn judge_shared(place: &Place, outcome: &Outcome) -> Verdict {
    judge_run(place, outcome)?;
    must(outcome.hit.is_some() || outcome.status == 0, "it was refused")?;
    judge_next(place)
}

/// Starts an exclusive waiter, and returns the pipe that ends the shared holder for which it waits.
fn start_writer(place: &Place) -> ChildStdin {
    let holder = place.start_holder(&["--shared", "a"]);
    place.start_waiter(place.logged_lock(&["-qw"], "writer"), &place.lock_file("a"));
    holder
}

/// Waits, in shared mode, after an exclusive waiter.
fn wait_after_writer(place: &Place) -> Call {
    let holder = start_writer(place);
    lock(place, &["-w", "-s"]).when_it_waits(move || drop(holder))
}

/// An exclusive caller that came first runs first.
fn judge_later(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    // An error at the turnstile is no error of the lock.
    let is_right = log == "run writer\nrun it\n";
    must(outcome.hit.is_some() || is_right, format!("the exclusive caller did not run first: {log:?}"))?;
    judge_shared(place, outcome)
}

fn try_after_writer(place: &Place) -> Call {
    // The holder ends when the place is cleared.
    place.keep_holder(&["--shared", "a"]);
    place.start_waiter(["lock", "-qw", "a", "--", "true"], &place.lock_file("a"));
    lock(place, &["-n", "-s"])
}

fn judge_refused(place: &Place, outcome: &Outcome) -> Verdict {
    // If the look at the turnstile fails, the lock itself decides.
    must(outcome.hit.is_some() || outcome.status == 75, "it passed an exclusive waiter")?;
    judge_run(place, outcome)?;
    judge_next(place)
}
