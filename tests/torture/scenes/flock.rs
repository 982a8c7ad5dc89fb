//! The scenes of the helper as flock(1): on a file, on a descriptor, with a command, in a script. After each call, the lock is free,
//! and the file has its old content and no other files next to it.

use super::checks::{call_next, lock_until_called, must, was_killed};
use crate::driver::{Call, Outcome};
use crate::kernel;
use crate::place::{self, Place, becomes_free, is_free};
use crate::scene::{Scene, Verdict};
use std::ffi::OsString;
use std::fs::{self, File};

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("flock, a file that is not there", |place| flock(place, &[]), judge),
        scene("flock, free", |place| flock(create_file(place), &[]), judge),
        scene(
            "flock, waited for",
            |place| flock(create_file(place), &[]).when_it_waits(lock_until_called(&place.path("f"))),
            judge,
        ),
        scene("flock -n, held", |place| flock(hold(place), &["-n"]), judge_refused),
        scene("flock -w, held", |place| flock(hold(place), &["-w", "0.02"]), judge_refused),
        scene(
            "flock -w, waited for",
            |place| flock(create_file(place), &["-w", "9"]).when_it_waits(lock_until_called(&place.path("f"))),
            judge,
        ),
        scene("flock -o", |place| flock(create_file(place), &["-o"]), judge_parted),
        scene("flock -F", |place| flock(create_file(place), &["-F"]), judge),
        scene("flock -c", through_shell, judge),
        scene(
            "flock, removed while it waits",
            |place| flock(create_file(place), &[]).when_it_waits(lock_and_remove(place)),
            judge,
        ),
        scene("flock -w, replaced while it waits", replace_during_wait, judge_refused),
        scene("flock --fcntl", |place| flock(create_file(place), &["--fcntl"]), judge),
        scene("flock --fcntl, waited for", fcntl_waiting, judge),
        scene("flock --fcntl -n, held", fcntl_held, judge_refused),
        scene("flock FD", |place| by_descriptor(place, &[]), judge_descriptor),
        scene("flock FD, waited for", by_descriptor_waiting, judge_descriptor),
        scene("flock --fd FD COMMAND", by_descriptor_over_command, judge_descriptor_over_command),
        scene("flock -u FD", unlock, judge_unlock),
        scene("a script, flock FD", script, judge_script),
    ]
}

fn file(place: &Place) -> OsString {
    place.path("f").into()
}

/// A call that locks the file and runs a command, which checks that the lock is held.
fn flock(place: &Place, options: &[&str]) -> Call {
    let mut words: Vec<OsString> = ["flock"].iter().chain(options).map(OsString::from).collect();
    words.push(file(place));
    words.extend(probe(place));
    Call::new(words)
}

fn probe(place: &Place) -> Vec<OsString> {
    place.payload(&["probe", &place.path("f").to_string_lossy(), &place.path("log").to_string_lossy()])
}

fn through_shell(place: &Place) -> Call {
    let command = r#"exec "$TORTURE" payload probe "$FILE" "$LOG""#;
    with_paths(create_file(place), Call::new(["flock".into(), file(place), "-c".into(), command.into()]))
}

fn with_paths(place: &Place, call: Call) -> Call {
    call.variable("FILE", place.path("f").to_string_lossy()).variable("LOG", place.path("log").to_string_lossy())
}

/// Creates the file, with content of the user.
fn create_file(place: &Place) -> &Place {
    place.write("f", "the user's\n");
    place
}

fn hold(place: &Place) -> &Place {
    place.keep(place::create_and_lock(&create_file(place).path("f")));
    place
}

/// Locks the file now, and returns a function that removes and then unlocks it. The helper must then create a new file.
fn lock_and_remove(place: &Place) -> impl FnOnce() + 'static {
    let (file, path) = (place::create_and_lock(&place.path("f")), place.path("f"));
    move || {
        fs::remove_file(path).unwrap();
        kernel::unflock(&file);
    }
}

/// Locks the file until the helper waits, and then replaces it with another locked file, whose lock stays held.
fn replace_during_wait(place: &Place) -> Call {
    let (old, new) =
        (place::create_and_lock(&create_file(place).path("f")), place::create_and_lock(&place.path("new")));
    place.keep(new);
    let (from, to) = (place.path("new"), place.path("f"));
    flock(place, &["-w", "0.02"]).when_it_waits(move || {
        fs::rename(from, to).unwrap();
        kernel::unflock(&old);
    })
}

fn fcntl_waiting(place: &Place) -> Call {
    let file = opened(create_file(place));
    assert!(kernel::try_lock_range(&file));
    flock(place, &["--fcntl"]).when_it_waits(move || kernel::unlock_range(&file))
}

fn fcntl_held(place: &Place) -> Call {
    let file = opened(create_file(place));
    assert!(kernel::try_lock_range(&file));
    place.keep(file);
    flock(place, &["--fcntl", "-n"])
}

/// The command ran if and only if the lock was acquired, and the helper refused nothing, because no other process holds the lock.
fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let refused = outcome.status == 1 && outcome.hit != Some(libc::SYS_fcntl);
    must(!refused, "it was refused a lock that nobody else had")?;
    judge_inside(place, outcome)?;
    judge_next(place)
}

fn judge_inside(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    let inside = log.lines().count();
    must(!log.contains("without"), "the command ran without the lock")?;
    must(outcome.status != 0 || inside == 1, format!("status 0, and the command ran {inside} times"))?;
    must(outcome.status == 0 || was_killed(outcome) || inside == 0, "it failed, and the command ran")
}

/// All holders have ended: the lock is free, the file has its old content, and there are no other files next to it.
fn judge_next(place: &Place) -> Verdict {
    must(becomes_free(&place.path("f")), "the lock outlived those who had it")?;
    let content = place.read("f");
    must(content.is_empty() || content == "the user's\n", format!("it wrote into the user's file: {content:?}"))?;
    call_next(place, &["flock", "-n", "f", "true"])?;
    call_next(place, &["flock", "-n", "--fcntl", "f", "true"])?;
    let names = place.list_names("");
    must(names.iter().all(|name| ["f", "log", "new"].contains(&name.as_str())), format!("litter: {names:?}"))
}

/// The kernel kills the command of a killed helper a moment after it releases the lock, so the command may see a free lock.
fn judge_parted(place: &Place, outcome: &Outcome) -> Verdict {
    if was_killed(outcome) { judge_next(place) } else { judge(place, outcome) }
}

fn judge_refused(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the command ran while another held the lock")?;
    must(outcome.status != 0, "status 0, and another held the lock")?;
    must(outcome.hit.is_some() || outcome.status == 1, "a refusal is status 1")?;
    place.release_kept();
    judge_next(place)
}

fn opened(place: &Place) -> File {
    File::options().read(true).append(true).open(place.path("f")).unwrap()
}

fn by_descriptor(place: &Place, options: &[&str]) -> Call {
    let file = opened(create_file(place));
    let call = Call::new(["flock"].iter().chain(options).chain(&["200"])).descriptor(&file, 200);
    place.keep(file);
    call
}

fn by_descriptor_waiting(place: &Place) -> Call {
    let call = by_descriptor(place, &[]);
    call.when_it_waits(lock_until_called(&place.path("f")))
}

fn by_descriptor_over_command(place: &Place) -> Call {
    let file = opened(create_file(place));
    let mut words: Vec<OsString> = ["flock", "--fd", "200"].map(OsString::from).into();
    words.extend(probe(place));
    let call = Call::new(words).descriptor(&file, 200);
    place.keep(file);
    call
}

fn judge_descriptor(place: &Place, outcome: &Outcome) -> Verdict {
    let free = is_free(&place.path("f"));
    must(outcome.status != 0 || !free, "status 0, and the script does not hold the lock")?;
    // A killed helper may hold the lock; the script sees its exit status.
    must(outcome.status == 0 || was_killed(outcome) || free, "it failed, and the script holds the lock")?;
    place.release_kept();
    judge_next(place)
}

/// The descriptor keeps the lock, however the command ends.
fn judge_descriptor_over_command(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 0 || !is_free(&place.path("f")), "status 0, and the script does not hold the lock")?;
    judge_inside(place, outcome)?;
    place.release_kept();
    judge_next(place)
}

fn unlock(place: &Place) -> Call {
    let file = place::create_and_lock(&create_file(place).path("f"));
    let call = Call::new(["flock", "-u", "200"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn judge_unlock(place: &Place, outcome: &Outcome) -> Verdict {
    let free = is_free(&place.path("f"));
    must(outcome.status != 0 || free, "status 0, and the lock is held still")?;
    must(outcome.status == 0 || was_killed(outcome) || !free, "it failed, and the lock is free")?;
    place.release_kept();
    judge_next(place)
}

/// The example in the manual of flock(1).
fn script(place: &Place) -> Call {
    let script = r#"(
        "$ABA_LOCK_BIN" flock 9 || exit
        "$TORTURE" payload probe "$FILE" "$LOG" && "$ABA_LOCK_BIN" flock -u 9
    ) 9>>"$FILE""#;
    with_paths(create_file(place), Call::bash(script))
}

/// The script may fail although its command ran, if the release failed.
fn judge_script(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the script went on without the lock")?;
    must(outcome.status != 0 || log.lines().count() == 1, "status 0, and the script did not come inside")?;
    judge_next(place)
}
