//! The helper as flock(1): on a file, on a descriptor, over a command, in a script.

use super::{must, next, was_killed};
use crate::driver::{Call, Ended};
use crate::kernel;
use crate::place::{self, Place, is_free, is_free_soon};
use crate::systematic::{Scene, Verdict};
use std::ffi::OsString;
use std::fs::{self, File};

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("flock, a file that is not there", |place| flock(place, &[]), judge),
        scene("flock, free", |place| flock(used(place), &[]), judge),
        scene("flock, waited for", |place| flock(used(place), &[]).when_it_waits(freed(place)), judge),
        scene("flock -n, held", |place| flock(held(place), &["-n"]), judge_refused),
        scene("flock -w, held", |place| flock(held(place), &["-w", "0.02"]), judge_refused),
        scene("flock -w, waited for", |place| flock(used(place), &["-w", "9"]).when_it_waits(freed(place)), judge),
        scene("flock -o", |place| flock(used(place), &["-o"]), judge_parted),
        scene("flock -F", |place| flock(used(place), &["-F"]), judge),
        scene("flock -c", through_shell, judge),
        scene("flock, removed while it waits", |place| flock(used(place), &[]).when_it_waits(removed(place)), judge),
        scene("flock -w, replaced while it waits", replaced, judge_refused),
        scene("flock --fcntl", |place| flock(used(place), &["--fcntl"]), judge),
        scene("flock --fcntl, waited for", fcntl_waiting, judge),
        scene("flock --fcntl -n, held", fcntl_held, judge_refused),
        scene("flock FD", |place| by_descriptor(place, &[]), judge_descriptor),
        scene("flock FD, waited for", by_descriptor_waiting, judge_descriptor),
        scene("flock --fd FD COMMAND", by_descriptor_over_command, judge_descriptor_over_command),
        scene("flock -u FD", unlock, judge_unlock),
        scene("a script, flock FD", script, judge_script),
    ]
}

/// The file that is locked.
fn file(place: &Place) -> OsString {
    place.path("f").into()
}

/// A lock over a command that looks whether it is held.
fn flock(place: &Place, options: &[&str]) -> Call {
    let mut words: Vec<OsString> = ["flock"].iter().chain(options).map(OsString::from).collect();
    words.push(file(place));
    words.extend(probe(place));
    Call::new(words)
}

fn probe(place: &Place) -> Vec<OsString> {
    place.act(&["probe", &place.path("f").to_string_lossy(), &place.path("log").to_string_lossy()])
}

fn through_shell(place: &Place) -> Call {
    let command = r#"exec "$RACK" act probe "$FILE" "$LOG""#;
    with_paths(used(place), Call::new(["flock".into(), file(place), "-c".into(), command.into()]))
}

fn with_paths(place: &Place, call: Call) -> Call {
    call.variable("FILE", place.path("f").to_string_lossy()).variable("LOG", place.path("log").to_string_lossy())
}

/// It is there, and the user's: with something in it.
fn used(place: &Place) -> &Place {
    place.write("f", "the user's\n");
    place
}

/// We hold it.
fn held(place: &Place) -> &Place {
    place.keep(place::hold(&used(place).path("f")));
    place
}

/// We hold it until the other waits.
fn freed(place: &Place) -> impl FnOnce() + 'static {
    let file = place::hold(&place.path("f"));
    move || kernel::unflock(&file)
}

/// We hold it until the other waits, and remove it first: there is none then, and the next to come makes one.
fn removed(place: &Place) -> impl FnOnce() + 'static {
    let (file, path) = (place::hold(&place.path("f")), place.path("f"));
    move || {
        fs::remove_file(path).unwrap();
        kernel::unflock(&file);
    }
}

/// We hold it until the other waits; then the one that stands in its place, which is held on.
fn replaced(place: &Place) -> Call {
    let (old, new) = (place::hold(&used(place).path("f")), place::hold(&place.path("new")));
    place.keep(new);
    let (from, to) = (place.path("new"), place.path("f"));
    flock(place, &["-w", "0.02"]).when_it_waits(move || {
        fs::rename(from, to).unwrap();
        kernel::unflock(&old);
    })
}

fn fcntl_waiting(place: &Place) -> Call {
    let file = opened(used(place));
    assert!(kernel::try_lock_range(&file));
    flock(place, &["--fcntl"]).when_it_waits(move || kernel::unlock_range(&file))
}

fn fcntl_held(place: &Place) -> Call {
    let file = opened(used(place));
    assert!(kernel::try_lock_range(&file));
    place.keep(file);
    flock(place, &["--fcntl", "-n"])
}

/// The command ran under its lock, and only if that was had. A refusal is one of others, and there are none.
fn judge(place: &Place, ended: &Ended) -> Verdict {
    let refused = ended.status == 1 && ended.hit != Some(libc::SYS_fcntl);
    must(!refused, "it was refused a lock that nobody else had")?;
    judge_inside(place, ended)?;
    judge_next(place)
}

fn judge_inside(place: &Place, ended: &Ended) -> Verdict {
    let log = place.read("log");
    let inside = log.lines().count();
    must(!log.contains("without"), "the command ran without the lock")?;
    must(ended.status != 0 || inside == 1, format!("status 0, and the command ran {inside} times"))?;
    must(ended.status == 0 || was_killed(ended) || inside == 0, "it failed, and the command ran")
}

/// All who had it have ended: it is free, the file is as it was, and nothing is beside it.
fn judge_next(place: &Place) -> Verdict {
    must(is_free_soon(&place.path("f")), "the lock outlived those who had it")?;
    let content = place.read("f");
    must(content.is_empty() || content == "the user's\n", format!("it wrote into the user's file: {content:?}"))?;
    next(place, &["flock", "-n", "f", "true"])?;
    next(place, &["flock", "-n", "--fcntl", "f", "true"])?;
    let names = place.names("");
    must(names.iter().all(|name| ["f", "log", "new"].contains(&name.as_str())), format!("litter: {names:?}"))
}

/// For the instant between the end of a killed helper and that of its command, which it tied to itself, the lock is free.
fn judge_parted(place: &Place, ended: &Ended) -> Verdict {
    if was_killed(ended) { judge_next(place) } else { judge(place, ended) }
}

fn judge_refused(place: &Place, ended: &Ended) -> Verdict {
    must(place.read("log").is_empty(), "the command ran while another held the lock")?;
    must(ended.status != 0, "status 0, and another held the lock")?;
    must(ended.hit.is_some() || ended.status == 1, "a refusal is status 1")?;
    place.let_go();
    judge_next(place)
}

fn opened(place: &Place) -> File {
    File::options().read(true).append(true).open(place.path("f")).unwrap()
}

fn by_descriptor(place: &Place, options: &[&str]) -> Call {
    let file = opened(used(place));
    let call = Call::new(["flock"].iter().chain(options).chain(&["200"])).descriptor(&file, 200);
    place.keep(file);
    call
}

fn by_descriptor_waiting(place: &Place) -> Call {
    let call = by_descriptor(place, &[]);
    call.when_it_waits(freed(place))
}

fn by_descriptor_over_command(place: &Place) -> Call {
    let file = opened(used(place));
    let mut words: Vec<OsString> = ["flock", "--fd", "200"].map(OsString::from).into();
    words.extend(probe(place));
    let call = Call::new(words).descriptor(&file, 200);
    place.keep(file);
    call
}

fn judge_descriptor(place: &Place, ended: &Ended) -> Verdict {
    let free = is_free(&place.path("f"));
    must(ended.status != 0 || !free, "status 0, and the script does not have the lock")?;
    // A killed one could not say so: the script goes by its status.
    must(ended.status == 0 || was_killed(ended) || free, "it failed, and the script has the lock")?;
    place.let_go();
    judge_next(place)
}

/// The lock stays where it was asked for, whatever became of the command.
fn judge_descriptor_over_command(place: &Place, ended: &Ended) -> Verdict {
    must(ended.status != 0 || !is_free(&place.path("f")), "status 0, and the script does not have the lock")?;
    judge_inside(place, ended)?;
    place.let_go();
    judge_next(place)
}

fn unlock(place: &Place) -> Call {
    let file = place::hold(&used(place).path("f"));
    let call = Call::new(["flock", "-u", "200"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn judge_unlock(place: &Place, ended: &Ended) -> Verdict {
    let free = is_free(&place.path("f"));
    must(ended.status != 0 || free, "status 0, and the lock is held still")?;
    must(ended.status == 0 || was_killed(ended) || !free, "it failed, and the lock is free")?;
    place.let_go();
    judge_next(place)
}

/// As the manual of flock(1) has it.
fn script(place: &Place) -> Call {
    let script = r#"(
        "$ABA_LOCK_BIN" flock 9 || exit
        "$RACK" act probe "$FILE" "$LOG" && "$ABA_LOCK_BIN" flock -u 9
    ) 9>>"$FILE""#;
    with_paths(used(place), Call::bash(script))
}

/// It fails, too, where its command had run, and only the release failed.
fn judge_script(place: &Place, ended: &Ended) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the script went on without the lock")?;
    must(ended.status != 0 || log.lines().count() == 1, "status 0, and the script did not come inside")?;
    judge_next(place)
}
