//! Locks: by name, by descriptor, over a command, in a script; and what looks at them, or clears them away.

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
        scene("lock, the first ever", |place| lock(place, &["a"]), judge),
        scene("lock, free", |place| lock(used(place), &["a"]), judge),
        scene("lock, shared", |place| lock(used(place), &["-s", "a"]), judge),
        scene("lock, with a record that was cut", |place| lock(littered(place), &["a"]), judge),
        scene("lock, held", |place| lock(held(place), &["a"]), judge_refused),
        scene("lock, held for longer than the wait", |place| lock(held(place), &["-t", "0.02", "a"]), judge_refused),
        scene("lock, waited for", |place| lock(place, &["-w", "a"]).when_it_waits(freed(place, "a")), judge),
        scene("lock, two names", |place| lock(used(place), &["a", "b"]), judge),
        scene("lock, two names, one held", |place| lock(held(place), &["a", "0"]), judge_refused),
        scene("lock, two names, one file removed during the wait", two_one_removed, judge_both),
        scene("a script, two names, one file removed during the wait", script_two_one_removed, judge_both),
        scene("a script, in a trap, free", |place| script_in_trap(used(place)), judge_trap),
        scene("a script, in a trap, held", |place| script_in_trap(held(place)), judge_trap_held),
        scene("lock --no-inherit", |place| lock(used(place), &["-o", "a"]), judge_parted),
        scene("lock, nested", nested, judge),
        scene("lock --fd", by_descriptor, judge_descriptor),
        scene("lock --fd, waited for", by_descriptor_waiting, judge_descriptor),
        scene("lock --fd, replaced", replaced, judge_replaced),
        scene("unlock --fd", unlock, judge_unlock),
        scene("a script, nested", script, judge_script),
        scene("clean, free", |place| Call::new(["clean", "-q"]).after(used(place)), judge_clean),
        scene("clean, held", |place| Call::new(["clean", "-q"]).after(held(place)), judge_clean_held),
        scene("status, held", |place| Call::new(["status", "a"]).after(held(place)), judge_status),
        scene("list, held", |place| Call::new(["list"]).after(held(place)), judge_list),
    ]
}

impl Call {
    /// The same; only to say that something was done before.
    fn after(self, _: &Place) -> Self {
        self
    }
}

/// A lock over a command that looks whether it is held.
fn lock(place: &Place, options: &[&str]) -> Call {
    let mut words: Vec<OsString> = ["lock"].iter().chain(options).map(OsString::from).collect();
    words.push("--".into());
    words.extend(probe(place));
    Call::new(words)
}

fn probe(place: &Place) -> Vec<OsString> {
    let (file, log) = (place.lock_file("a"), place.path("log"));
    place.act(&["probe", &file.to_string_lossy(), &log.to_string_lossy()])
}

/// It was taken before.
fn used(place: &Place) -> &Place {
    place.aba(["lock", "--who", &"x".repeat(300), "a", "--", "true"]);
    place
}

fn littered(place: &Place) -> &Place {
    used(place);
    let record = fs::read(place.lock_file("a")).unwrap();
    fs::write(place.lock_file("a"), &record[..record.len() / 2]).unwrap();
    place
}

/// We hold it.
fn held(place: &Place) -> &Place {
    used(place);
    place.keep(place::hold(&place.lock_file("a")));
    place
}

/// We hold it until the other waits.
fn freed(place: &Place, name: &str) -> impl FnOnce() + 'static {
    let file = place::hold(&place.lock_file(name));
    move || kernel::unflock(&file)
}

fn judge(place: &Place, ended: &Ended) -> Verdict {
    judge_inside(place, ended, 1)?;
    judge_next(place)
}

/// The command ran under its lock, and only if that was had.
fn judge_inside(place: &Place, ended: &Ended, times: usize) -> Verdict {
    let log = place.read("log");
    let inside = log.lines().count();
    must(!log.contains("without"), "the command ran without the lock")?;
    must(ended.status != 0 || inside == times, format!("status 0, and the command ran {inside} times"))?;
    must(ended.status == 0 || was_killed(ended) || inside < times, "it failed, and the command ran")
}

/// All who had it have ended: it is free, and nothing is left that the next one would stumble over.
fn judge_next(place: &Place) -> Verdict {
    must(is_free_soon(&place.lock_file("a")), "the lock outlived those who had it")?;
    next(place, &["lock", "a", "b", "--", "true"])?;
    let is_lock = |name: &String| name.strip_suffix(".lock").is_some_and(|name| name.starts_with("aba-"));
    must(place.names("locks").iter().all(is_lock), format!("litter: {:?}", place.names("locks")))
}

fn judge_refused(place: &Place, ended: &Ended) -> Verdict {
    must(place.read("log").is_empty(), "the command ran while another held the lock")?;
    must(ended.status != 0, "status 0, and another held the lock")?;
    must(is_free(&place.lock_file("0")), "the other lock is still held: not all or none")?;
    place.let_go();
    judge_next(place)
}

/// The kernel closes what a killed helper held before it sends the command its parent-death signal: for that instant the
/// command may see that the lock is free.
fn judge_parted(place: &Place, ended: &Ended) -> Verdict {
    if was_killed(ended) { judge_next(place) } else { judge(place, ended) }
}

fn nested(place: &Place) -> Call {
    used(place);
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
    let file = opened(used(place));
    let call = Call::new(["lock", "--fd", "200", "a"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn by_descriptor_waiting(place: &Place) -> Call {
    let file = opened(used(place));
    let call = Call::new(["lock", "-w", "--fd", "200", "a"]).descriptor(&file, 200);
    place.keep(file);
    call.when_it_waits(freed(place, "a"))
}

fn judge_descriptor(place: &Place, ended: &Ended) -> Verdict {
    let free = is_free(&place.lock_file("a"));
    must(ended.status != 0 || !free, "status 0, and the script does not have the lock")?;
    // A killed one could not say so: then the library closes the descriptor.
    must(ended.status == 0 || was_killed(ended) || free, "it failed, and the script has the lock")?;
    place.let_go();
    judge_next(place)
}

fn replaced(place: &Place) -> Call {
    let file = opened(used(place));
    fs::remove_file(place.lock_file("a")).unwrap();
    let call = Call::new(["lock", "--fd", "200", "a"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn judge_replaced(place: &Place, ended: &Ended) -> Verdict {
    must(ended.status != 0, "status 0, and the lock is on a file that was removed")?;
    place.let_go();
    judge_next(place)
}

fn unlock(place: &Place) -> Call {
    let file = place::hold(&place.lock_file("a"));
    let call = Call::new(["unlock", "a", "--fd", "200"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn judge_unlock(place: &Place, ended: &Ended) -> Verdict {
    must(ended.status != 0 || is_free(&place.lock_file("a")), "status 0, and the lock is held still")?;
    place.let_go();
    judge_next(place)
}

fn script(place: &Place) -> Call {
    used(place);
    let nested = r#"source "$LIBRARY"; aba_lock_operation a; "$RACK" act probe "$FILE" "$LOG""#;
    let script = format!(r#"{nested}; bash -c "$NESTED" && aba_unlock_operation a"#);
    Call::bash(&script)
        .variable("NESTED", nested)
        .variable("FILE", place.lock_file("a").to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

fn judge_script(place: &Place, ended: &Ended) -> Verdict {
    must(!place.read("log").contains("without"), "the script went on without the lock")?;
    let inside = place.read("log").lines().count();
    must(ended.status != 0 || inside == 2, format!("status 0, and {inside} of 2 were inside"))?;
    judge_next(place)
}

/// A command under two locks that looks whether both are held through the files that have their names.
fn probe_both(place: &Place) -> Vec<OsString> {
    let (log, one, other) = (place.path("log"), place.lock_file("a"), place.lock_file("b"));
    place.act(&["probe-all", &log.to_string_lossy(), &one.to_string_lossy(), &other.to_string_lossy()])
}

/// Removes the file of the first lock, which is granted by then, and releases the second.
fn remove_first(place: &Place) -> impl FnOnce() + 'static {
    let (file, free) = (place.lock_file("a"), freed(place, "b"));
    move || {
        let _ = fs::remove_file(file);
        free();
    }
}

fn two_one_removed(place: &Place) -> Call {
    used(place);
    let mut words: Vec<OsString> = ["lock", "-w", "a", "b", "--"].map(OsString::from).into();
    words.extend(probe_both(place));
    Call::new(words).when_it_waits(remove_first(place))
}

fn script_two_one_removed(place: &Place) -> Call {
    used(place);
    let script = r#"source "$LIBRARY"; aba_lock_operation -w a b; "$RACK" act probe-all "$LOG" "$ONE" "$OTHER""#;
    Call::bash(script)
        .variable("LOG", place.path("log").to_string_lossy())
        .variable("ONE", place.lock_file("a").to_string_lossy())
        .variable("OTHER", place.lock_file("b").to_string_lossy())
        .when_it_waits(remove_first(place))
}

fn judge_both(place: &Place, ended: &Ended) -> Verdict {
    judge_inside(place, ended, 2)?;
    must(is_free_soon(&place.lock_file("b")), "the second lock outlived its holder")?;
    judge_next(place)
}

/// A script that locks in a trap handler, where bash gives a bare `return` the status from before the trap.
fn script_in_trap(place: &Place) -> Call {
    let script = r#"source "$LIBRARY"
trap 'aba_lock_operation --on-conflict return a || exit; "$RACK" act probe "$FILE" "$LOG"' EXIT
exit 1"#;
    Call::bash(script)
        .variable("FILE", place.lock_file("a").to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

fn judge_trap(place: &Place, ended: &Ended) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the handler went on without the lock")?;
    must(ended.hit.is_some() || log.lines().count() == 1, "the lock was free, and refused")?;
    judge_next(place)
}

fn judge_trap_held(place: &Place, _: &Ended) -> Verdict {
    must(place.read("log").is_empty(), "the handler went on while another held the lock")?;
    place.let_go();
    judge_next(place)
}

fn judge_clean(place: &Place, ended: &Ended) -> Verdict {
    let there = place.lock_file("a").exists();
    must(
        ended.status != 0 || !there || !ended.err.is_empty() || ended.hit.is_some(),
        "it left the file without a word",
    )?;
    judge_next(place)
}

fn judge_clean_held(place: &Place, _: &Ended) -> Verdict {
    must(place.lock_file("a").exists(), "it removed a lock file that is held")?;
    place.let_go();
    judge_next(place)
}

fn judge_status(place: &Place, ended: &Ended) -> Verdict {
    must(ended.status != 1, "it called a lock free that is held")?;
    place.let_go();
    judge_next(place)
}

fn judge_list(place: &Place, ended: &Ended) -> Verdict {
    let line = ended.out.lines().find(|line| line.starts_with("a "));
    must(ended.status != 0 || line.is_some_and(|line| !line.contains("free")), "it called a lock free that is held")?;
    place.let_go();
    judge_next(place)
}
