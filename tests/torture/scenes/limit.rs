//! The scenes of `--max-time`. After each call, no process holds the lock through its acquisition, no watcher is left, and the
//! next call succeeds. Only a watcher that was killed leaves holders without a limit.

use super::checks::{call_next, lock_until_called, must, was_killed};
use crate::driver::{Call, Outcome};
use crate::place::{self, Place, becomes_free};
use crate::scene::{Scene, Verdict};
use std::ffi::OsString;

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("lock --max-time, in time", |place| lock(place, &["--max-time", "1h", "a"], "probe"), judge),
        scene(
            "lock --max-time, two names, in time",
            |place| lock(place, &["--max-time", "1h", "a", "b"], "probe"),
            judge,
        ),
        scene("lock --max-time, held", |place| lock(hold(place), &["--max-time", "1h", "a"], "probe"), judge_refused),
        scene(
            "lock --max-time, waited for",
            |place| {
                lock(place, &["--max-time", "1h", "-w", "a"], "probe")
                    .when_it_waits(lock_until_called(&place.lock_file("a")))
            },
            judge,
        ),
        scene("lock --max-time, too long", |place| lock(place, &with_limit(&["a"]), "overstay"), judge_ended),
        scene(
            "lock --max-time, a slot for too long",
            |place| lock(place, &with_limit(&["--slots", "2", "a"]), "overstay"),
            judge_ended,
        ),
        scene(
            "lock --max-time, a shared lock for too long",
            |place| lock(place, &with_limit(&["-s", "a"]), "overstay"),
            judge_ended,
        ),
        scene("a script, --max-time, in time", |place| script(place, "--max-time 1h", "probe"), judge_script),
        scene(
            "a script, --max-time, too long",
            |place| script(place, "--max-time 0.03 --grace 0.03", "overstay"),
            judge_ended,
        ),
        scene("lock --max-time, examined", examined, judge_examined),
    ]
}

fn with_limit(rest: &[&'static str]) -> Vec<&'static str> {
    ["--max-time", "0.03", "--grace", "0.03"].iter().chain(rest).copied().collect()
}

fn lock(place: &Place, options: &[&str], payload: &str) -> Call {
    let (file, log) = (place.lock_file("a"), place.path("log"));
    let mut words: Vec<OsString> = ["lock"].iter().chain(options).map(OsString::from).collect();
    words.push("--".into());
    words.extend(place.payload(&[payload, &file.to_string_lossy(), &log.to_string_lossy()]));
    Call::new(words)
}

fn hold(place: &Place) -> &Place {
    place.keep(place::create_and_lock(&place.lock_file("a")));
    place
}

fn script(place: &Place, options: &str, payload: &str) -> Call {
    let script =
        format!(r#"source "$LIBRARY"; aba_lock_operation {options} a; "$TORTURE" payload {payload} "$FILE" "$LOG""#);
    Call::bash(&script)
        .variable("FILE", place.lock_file("a").to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the command ran without the lock")?;
    must((outcome.status == 0) == (log == "inside\n") || was_killed(outcome), format!("it ran so: {log:?}"))?;
    judge_next(place)
}

fn judge_next(place: &Place) -> Verdict {
    must(becomes_free(&place.lock_file("a")), "the lock outlived its holders")?;
    call_next(place, &["lock", "a", "b", "--", "true"])?;
    let is_lock = |name: &String| name.strip_suffix(".lock").is_some_and(|name| name.starts_with("aba-"));
    must(place.list_names("locks").iter().all(is_lock), format!("litter: {:?}", place.list_names("locks")))
}

fn judge_refused(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the command ran while another held the lock")?;
    must(outcome.status != 0, "status 0, and another held the lock")?;
    place.release_kept();
    judge_next(place)
}

/// The limit of a lock begins when it is acquired, so it may be over before the command begins.
fn judge_ended(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the command ran without the lock")?;
    must(!log.contains("outlived"), format!("the limit was not kept: {log}"))?;
    must(outcome.status != 0 || log.contains("was killed"), "status 0, and the command stayed for too long")?;
    let is_ended = [137, 143].contains(&outcome.status);
    must(outcome.hit.is_some() || is_ended && !log.contains("was killed"), format!("it ended so: {log}"))?;
    judge_next(place)
}

fn judge_script(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the script went on without the lock")?;
    must(outcome.status != 0 || log == "inside\n", "status 0, and the script did not come inside")?;
    judge_next(place)
}

fn examined(place: &Place) -> Call {
    let mut words: Vec<OsString> = ["lock", "--max-time", "1h", "a", "--"].map(OsString::from).into();
    words.extend(place.payload(&["witness", &place.path("log").to_string_lossy(), "a"]));
    Call::new(words)
}

fn judge_examined(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("wrong"), format!("status is wrong: {log}"))?;
    must(outcome.status != 0 || log.starts_with("inside\n"), "status 0, and the command did not run")?;
    must(outcome.hit.is_some() || log.contains("max_time_seconds 3600.0\n"), format!("not the limit: {log}"))?;
    judge_next(place)
}
