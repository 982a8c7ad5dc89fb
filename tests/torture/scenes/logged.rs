//! The scenes of a lock whose events are logged (`log --enable`). After each call, each line of the log is whole, even if the helper was
//! killed while it wrote to the log or rotated it, and no line of a full log is lost. The log never changes the result of a call,
//! and the next call succeeds and is logged.

use super::checks::{call_next, must, was_killed};
use crate::driver::{Call, Outcome};
use crate::place::{self, Place, becomes_free};
use crate::scene::{Scene, Verdict};
use std::ffi::OsString;

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("lock, logged", |place| lock(log_events(place)), judge),
        scene("lock, logged in a full log", |place| lock(fill_log(log_events(place))), judge_full),
        scene("lock, held and logged", |place| lock(hold(log_events(place))), judge_refused),
        scene("unlock, logged", |place| unlock(log_events(place)), judge_unlock),
        scene("a script, logged", |place| script(log_events(place)), judge),
        scene("log --enable", |place| Call::new(["log", "--enable"]).after(create_file(place)), judge_enabled),
        scene("log --disable", |place| Call::new(["log", "--disable"]).after(log_events(place)), judge_disabled),
    ]
}

/// The log, and the one before it.
const LOGS: [&str; 2] = ["locks/events.jsonl", "locks/events.jsonl.1"];

/// The number of bytes from which a log is full (`LIMIT` of the helper).
const FULL: usize = 1 << 20;

fn create_file(place: &Place) -> &Place {
    place.run_helper(["lock", "a", "--", "true"]);
    place
}

/// Turns the log on.
fn log_events(place: &Place) -> &Place {
    place.run_helper(["log", "--enable"]);
    create_file(place)
}

/// Fills the log, so that the next line rotates it. Its last line can be recognized.
fn fill_log(place: &Place) -> &Place {
    let line = format!("{{\"filler\":\"{}\"}}\n", "x".repeat(1000));
    let text = place.read(LOGS[0]) + &line.repeat(FULL / line.len());
    place.write(LOGS[0], &(text + "{\"filler\":\"the last line\"}\n" + &line));
    place
}

fn hold(place: &Place) -> &Place {
    place.keep(place::create_and_lock(&place.lock_file("a")));
    place
}

fn lock(place: &Place) -> Call {
    let (file, log) = (place.lock_file("a"), place.path("log"));
    let mut words: Vec<OsString> = ["lock", "a", "--"].map(OsString::from).into();
    words.extend(place.payload(&["probe", &file.to_string_lossy(), &log.to_string_lossy()]));
    Call::new(words)
}

fn unlock(place: &Place) -> Call {
    let file = place::create_and_lock(&place.lock_file("a"));
    let call = Call::new(["unlock", "a", "--fd", "200"]).descriptor(&file, 200);
    place.keep(file);
    call
}

fn script(place: &Place) -> Call {
    let script =
        r#"source "$LIBRARY"; aba_lock_operation a; "$TORTURE" payload probe "$FILE" "$LOG"; aba_unlock_operation a"#;
    Call::bash(script)
        .variable("FILE", place.lock_file("a").to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

/// Returns the names of the logged events of lock `a`, in order.
fn read_events(place: &Place) -> Result<Vec<String>, String> {
    let text: String = LOGS.iter().rev().map(|log| place.read(log)).collect();
    must(text.is_empty() || text.ends_with('\n'), "the last line of the log was cut")?;
    let mut events = Vec::new();
    for line in text.lines() {
        let event: serde_json::Value = serde_json::from_str(line).map_err(|_| format!("{line:?} is no whole line"))?;
        events.extend(event["event"].as_str().map(str::to_owned));
    }
    Ok(events)
}

/// All lines are whole, the next call is logged, and there are only lock files and logs.
fn judge_log(place: &Place) -> Verdict {
    read_events(place)?;
    must(becomes_free(&place.lock_file("a")), "the lock outlived its holders")?;
    call_next(place, &["lock", "a", "--", "true"])?;
    let events = read_events(place)?;
    must(events.ends_with(&["acquired".to_owned(), "released".to_owned()]), format!("the log ends so: {events:?}"))?;
    call_next(place, &["log", "--json"])?;
    let is_known = |name: &String| {
        name.strip_suffix(".lock").is_some_and(|name| name.starts_with("aba-"))
            || LOGS.contains(&&*format!("locks/{name}"))
    };
    must(place.list_names("locks").iter().all(is_known), format!("litter: {:?}", place.list_names("locks")))
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the command ran without the lock")?;
    must(outcome.status != 0 || log == "inside\n", "status 0, and the command did not run")?;
    // The file of the lock was logged before the call: one acquisition and one release.
    let events = read_events(place)?.split_off(2);
    must(outcome.hit.is_some() || events == ["acquired", "released"], format!("it logged {events:?}"))?;
    judge_log(place)
}

fn judge_full(place: &Place, outcome: &Outcome) -> Verdict {
    judge(place, outcome)?;
    let is_kept = LOGS.iter().any(|log| place.read(log).contains("the last line"));
    must(is_kept, "the lines of the full log are lost")?;
    must(!place.read(LOGS[0]).contains("filler"), "the full log was not rotated")
}

fn judge_refused(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the command ran while another held the lock")?;
    must(outcome.status != 0, "status 0, and another held the lock")?;
    place.release_kept();
    judge_log(place)
}

fn judge_unlock(place: &Place, outcome: &Outcome) -> Verdict {
    must(outcome.status != 0 || place::is_free(&place.lock_file("a")), "status 0, and the lock is still held")?;
    place.release_kept();
    judge_log(place)
}

fn judge_enabled(place: &Place, outcome: &Outcome) -> Verdict {
    if outcome.status != 0 || was_killed(outcome) || !outcome.err.is_empty() {
        // It may be repeated after any failure.
        call_next(place, &["log", "--enable"])?;
    }
    judge_log(place)
}

fn judge_disabled(place: &Place, outcome: &Outcome) -> Verdict {
    let events = read_events(place)?;
    if outcome.status != 0 || was_killed(outcome) || !outcome.err.is_empty() {
        call_next(place, &["log", "--disable"])?;
    }
    call_next(place, &["lock", "a", "--", "true"])?;
    must(read_events(place)? == events, "a line was logged after the log was turned off")
}
