//! The scenes of `--key`. A text is the same lock for all calls, and what the messages and the record say of it is the text or nothing.

use super::checks::{call_next, expect_task_status, must, was_killed};
use crate::driver::{Call, Outcome};
use crate::place::{Place, becomes_free, is_free};
use crate::scene::{Scene, Verdict};
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;

/// A text with characters that a name must not have.
const TEXT: &str = "https://host/x?y=1 \u{e9}";

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("lock --key, the first ever", lock, judge),
        scene("lock --key, free", |place| lock(create_file(place)), judge),
        scene("lock --key, held", |place| lock(hold(place)), judge_refused),
        scene("lock --key --fd", by_descriptor, judge_descriptor),
        scene("a script, --key", script, judge),
        scene("run-once --key", run_once, judge_task),
    ]
}

fn find_file(place: &Place) -> PathBuf {
    PathBuf::from(place.run_helper(["path", "--key", TEXT]).out.trim_end_matches('\n'))
}

fn lock(place: &Place) -> Call {
    let (file, log) = (find_file(place), place.path("log"));
    let mut words: Vec<OsString> = ["lock", "--key", TEXT, "--"].map(OsString::from).into();
    words.extend(place.payload(&["probe", &file.to_string_lossy(), &log.to_string_lossy()]));
    Call::new(words)
}

fn create_file(place: &Place) -> &Place {
    place.run_helper(["lock", "--key", TEXT, "--", "true"]);
    place
}

fn hold(place: &Place) -> &Place {
    place.keep_holder(&["--key", TEXT]);
    place
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(!log.contains("without"), "the command ran without the lock")?;
    must((outcome.status == 0) == (log == "inside\n") || was_killed(outcome), format!("it ran so: {log:?}"))?;
    judge_next(place)
}

fn judge_next(place: &Place) -> Verdict {
    let file = find_file(place);
    must(becomes_free(&file), "the lock outlived its holder")?;
    call_next(place, &["lock", "--key", TEXT, "--", "true"])?;
    let names = place.list_names("locks");
    must(names.iter().all(|name| file.ends_with(name)), format!("another lock, or litter: {names:?}"))
}

fn judge_refused(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the command ran while another held the lock")?;
    must(outcome.status != 0, "status 0, and another held the lock")?;
    let said = outcome.err.starts_with("aba-lock: https://host/x?y=1");
    must(outcome.hit.is_some() || outcome.status == 75 && said, "the message does not name the text")?;
    place.release_kept();
    judge_next(place)
}

fn by_descriptor(place: &Place) -> Call {
    let path = find_file(create_file(place));
    let file = File::options().read(true).write(true).open(path).unwrap();
    let call = Call::new(["lock", "--key", TEXT, "--fd", "200"]).descriptor(&file, 200);
    place.keep(file);
    call
}

/// The record of the call has the text or nothing, and so has what `status` and `list` print.
fn judge_descriptor(place: &Place, outcome: &Outcome) -> Verdict {
    let free = is_free(&find_file(place));
    must(outcome.status != 0 || !free, "status 0, and the script does not hold the lock")?;
    must(outcome.status == 0 || was_killed(outcome) || free, "it failed, and the script holds the lock")?;
    let said = place.run_helper(["list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&said.out).map_err(|why| format!("list: {why}: {said:?}"))?;
    let locks = listed["locks"].as_array().cloned().unwrap_or_default();
    must(locks.len() == 1, format!("list: {said:?}"))?;
    let key = &locks[0]["key"];
    must(key == TEXT || key.is_null() && outcome.hit.is_some(), format!("list names another text: {key}"))?;
    place.release_kept();
    judge_next(place)
}

fn script(place: &Place) -> Call {
    let script = r#"source "$LIBRARY"; aba_lock_operation --key "$TEXT"; "$TORTURE" payload probe "$FILE" "$LOG""#;
    Call::bash(script)
        .variable("TEXT", TEXT)
        .variable("FILE", find_file(place).to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

fn call_task(place: &Place) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["run-once", "-qw", "--key", TEXT, "--"].map(OsString::from).into();
    words.extend(place.payload(&["alone", &place.path("log").to_string_lossy(), "0"]));
    words
}

fn run_once(place: &Place) -> Call {
    Call::new(call_task(place))
}

/// Without a recorded outcome, the task is run again.
fn judge_task(place: &Place, outcome: &Outcome) -> Verdict {
    let runs = || place.read("log").lines().filter(|line| line.starts_with("begun")).count();
    must(outcome.status != 0 || runs() == 1, format!("status 0, and it ran {} times", runs()))?;
    let tasks = place.list_names("locks/runner");
    let recorded = tasks.first().map(|task| place.read(&format!("locks/runner/{task}/exit")));
    let expected = expect_task_status(recorded.as_deref());
    let said = place.run_helper(call_task(place));
    must(said.status.to_string() == expected && said.err.is_empty(), format!("the next call ended so: {said:?}"))?;
    must(!place.read("log").contains("another run"), "it ran at the same time as another run")?;
    must(runs() <= 2 && (outcome.hit.is_some() || runs() == 1), format!("it ran {} times", runs()))?;
    must(place.list_names("locks/runner").len() == 1, "one text has two tasks")
}
