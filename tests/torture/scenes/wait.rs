//! The scenes of `wait`. A call that ends with success has seen the lock free, and no call acquires anything, creates a file, or leaves
//! anything.

use super::checks::{call_next, lock_until_called, must};
use crate::driver::{Call, Outcome, WaitKind};
use crate::kernel;
use crate::place::{self, Place, is_free};
use crate::scene::{Scene, Verdict};
use std::fs::{self, File};

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("wait, no file", |_| Call::new(["wait", "a"]), judge_missing),
        scene("wait, free", |place| Call::new(["wait", "a"]).after(create_files(place)), judge_free),
        scene("wait, held", |place| Call::new(["wait", "-t", "0.02", "a"]).after(hold(place)), judge_held),
        scene("wait -t 0, held", |place| Call::new(["wait", "-t", "0", "a"]).after(hold(place)), judge_held),
        scene("wait, closed during the wait", |place| wait_for_close(place, &["wait", "a"]), judge_released),
        scene("wait, unlocked during the wait", |place| wait_for_unlock(place, &["wait", "a"]), judge_released),
        scene("wait, removed during the wait", wait_for_removal, judge_released),
        scene("wait, two names", |place| wait_for_close(place, &["wait", "b", "a"]), judge_released),
        scene("wait --any", |place| Call::new(["wait", "--any", "a", "b"]).after(hold(place)), judge_any),
        scene("wait --any, closed during the wait", wait_for_any, judge_released),
        scene("wait --shared, held in shared mode", wait_next_to_shared, judge_free),
        scene("wait --file, fcntl", wait_for_range, judge_released),
        scene("wait, a slot held", wait_for_slot, judge_released),
    ]
}

fn create_files(place: &Place) -> &Place {
    place.run_helper(["lock", "a", "b", "--", "true"]);
    place
}

fn hold(place: &Place) -> &Place {
    place.keep(place::create_and_lock(&create_files(place).lock_file("a")));
    place
}

/// Returns a function that writes a file just before it calls `release`. A wait may end with success only after that.
fn note_release(place: &Place, release: impl FnOnce() + 'static) -> impl FnOnce() + 'static {
    let note = place.path("released");
    move || {
        fs::write(note, "").unwrap();
        release();
    }
}

fn wait_for_close(place: &Place, words: &[&str]) -> Call {
    let file = place::create_and_lock(&create_files(place).lock_file("a"));
    let release = note_release(place, move || drop(file));
    Call::new(words).when_it_waits_for(WaitKind::Event, release)
}

/// The kernel sends no event for this kind of release.
fn wait_for_unlock(place: &Place, words: &[&str]) -> Call {
    let release = note_release(place, lock_until_called(&create_files(place).lock_file("a")));
    Call::new(words).when_it_waits_for(WaitKind::Event, release)
}

fn wait_for_removal(place: &Place) -> Call {
    let path = hold(place).lock_file("a");
    let release = note_release(place, move || fs::remove_file(path).unwrap());
    Call::new(["wait", "a"]).when_it_waits_for(WaitKind::Event, release)
}

fn wait_for_any(place: &Place) -> Call {
    place.keep(place::create_and_lock(&create_files(place).lock_file("b")));
    wait_for_close(place, &["wait", "--any", "b", "a"])
}

fn wait_next_to_shared(place: &Place) -> Call {
    create_files(place).keep_holder(&["--shared", "a"]);
    Call::new(["wait", "--shared", "a"])
}

fn wait_for_range(place: &Place) -> Call {
    place.write("f", "the user's\n");
    let file = File::options().read(true).append(true).open(place.path("f")).unwrap();
    assert!(kernel::try_lock_range(&file));
    let release = note_release(place, move || kernel::unlock_range(&file));
    Call::new(["wait", "--file", "f"]).when_it_waits_for(WaitKind::Event, release)
}

fn wait_for_slot(place: &Place) -> Call {
    let holder = place.start_holder(&["--slots", "2", "a"]);
    Call::new(["wait", "a"]).when_it_waits_for(WaitKind::Event, note_release(place, move || drop(holder)))
}

/// Holds for every call.
fn judge_nothing_taken(place: &Place, outcome: &Outcome) -> Verdict {
    must(!outcome.used_lock, "it acquired or released a lock")?;
    place.release_kept();
    call_next(place, &["lock", "a", "b", "--", "true"])?;
    let names = place.list_names("locks");
    must(names == ["aba-a.lock", "aba-b.lock"], format!("litter: {names:?}"))
}

fn judge_missing(place: &Place, outcome: &Outcome) -> Verdict {
    must(!place.root().exists(), "it created the directory of the locks")?;
    judge_free(place, outcome)
}

fn judge_free(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.hit.is_some() || outcome.status == 0, "the lock is free, and it did not say so")?;
    must(outcome.status != 124, "the lock is free, and it timed out")?;
    judge_nothing_taken(place, outcome)
}

fn judge_held(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 0, "status 0, and the lock was never free")?;
    must(outcome.hit.is_some() || outcome.status == 124, "it did not time out")?;
    must(!is_free(&place.lock_file("a")), "the holder lost the lock")?;
    judge_nothing_taken(place, outcome)
}

fn judge_released(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 0 || place.path("released").exists(), "status 0, and the lock was not free yet")?;
    must(outcome.hit.is_some() || outcome.status == 0, "the lock was released, and it did not end with success")?;
    judge_nothing_taken(place, outcome)
}

fn judge_any(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 0 || outcome.out == "b\n", format!("it said {:?} of b, which is free", outcome.out))?;
    judge_free(place, outcome)
}
