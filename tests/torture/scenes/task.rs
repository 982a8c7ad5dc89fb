//! The scenes of `run-once`. After each call, a task that succeeded is not run again, at most one run of a task exists at a time, and
//! the next call returns the outcome.

use super::checks::{expect_task_status, must};
use crate::driver::{Call, Outcome};
use crate::environment;
use crate::place::{Place, becomes_free};
use crate::scene::{Scene, Verdict};
use std::ffi::OsString;

/// The files that may be in the directory of a task that has ended.
const FILES: [&str; 11] =
    ["cmd", "cmd.sh", "cwd", "exit", "history", "lock", "log", "log.err", "log.err.1", "log.out", "log.out.1"];

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    let mut scenes = vec![
        scene("run-once -w, among strangers", |place| among_strangers(place, INTERRUPTED), judge_strangers),
        scene("run-once -w, among strangers, after a killed supervisor", killed_among_strangers, judge_strangers),
        scene("run-once -w, new", |place| call_once(place, "-qw", "0"), judge),
        scene("run-once -s, new", |place| call_once(place, "-s", "0"), judge),
        scene("run-once -w, finished", |place| call_once(finish(place), "-qw", "0"), judge_finished),
        scene("run-once -s, finished", |place| call_once(finish(place), "-s", "0"), judge_finished),
        scene("run-once -w, failed", |place| call_once(fail(place), "-qw", "1"), judge_failed),
        scene("run-once -w, after a killed supervisor", |place| call_once(kill_supervisor(place), "-qw", "0"), judge),
        scene("run-once -p, finished", |place| bare(finish(place), "-p"), judge_finished),
        scene("run-once -E, finished", |place| bare(finish(place), "-E"), judge_finished),
        scene("run-once -w without a command, finished", |place| bare(finish(place), "-qw"), judge_finished),
        scene("run-once -r, finished", |place| bare(finish(place), "-r"), judge_reset),
        scene("run-once -F, failed", |place| Call::new(["run-once", "-F"]).after(fail(place)), judge_reset),
        scene("run-once -G, failed", |place| Call::new(["run-once", "-G"]).after(fail(place)), judge_reset),
        scene("run-once --list", |place| Call::new(["run-once", "--list"]).after(finish(place)), judge_finished),
        scene(
            "clean --tasks",
            |place| Call::new(["clean", "-q", "--tasks"]).after(finish_and_release(place)),
            judge_reset,
        ),
    ];
    if !environment::may_mount() {
        scenes.retain(|scene| !scene.name.contains("among strangers"));
    }
    scenes
}

/// A command that ends with the status of Ctrl-C.
const INTERRUPTED: &str = "exit 130";

/// A wait for a task, among many processes of a PID namespace whose `/proc` belongs to another namespace.
fn among_strangers(place: &Place, command: &str) -> Call {
    let script = r#""$ABA_LOCK_BIN" run-once -qw -i t -- sh -c "$COMMAND" || true
        exec "$ABA_LOCK_BIN" run-once -qw -i t -- "$TORTURE" payload alone "$LOG""#;
    let mut words: Vec<OsString> = ["--pid", "--fork"].map(OsString::from).into();
    words.extend(place.payload(&["among-strangers", &place.path("strangers").to_string_lossy(), "sh", "-c", script]));
    let call = Call::new(words).variable("COMMAND", command).variable("LOG", place.path("log").to_string_lossy());
    Call { program: Some("/usr/bin/unshare"), ..call }
}

fn killed_among_strangers(place: &Place) -> Call {
    among_strangers(place, "kill -9 $PPID; exec sleep 9")
}

fn judge_strangers(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("strangers").is_empty(), place.read("strangers"))?;
    must(outcome.hit.is_some() || outcome.status == 0, "the interrupted task could not be run again")?;
    judge_next(place, expect_task_status(read_outcome(place).as_deref()))?;
    must(count_runs(place) <= 2, format!("it ran {} times", count_runs(place)))
}

fn call_words(place: &Place, how: &str, status: &str) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["run-once", how, "-i", "t", "--"].map(OsString::from).into();
    words.extend(place.payload(&["alone", &place.path("log").to_string_lossy(), status]));
    words
}

fn call_once(place: &Place, how: &str, status: &str) -> Call {
    Call::new(call_words(place, how, status))
}

fn bare(_: &Place, how: &str) -> Call {
    Call::new(["run-once", how, "-i", "t"])
}

fn finish(place: &Place) -> &Place {
    assert_eq!(place.run_helper(call_words(place, "-qw", "0")).status, 0);
    place
}

/// Finishes the task, and waits until its lock is free: `clean` does not touch a locked task.
fn finish_and_release(place: &Place) -> &Place {
    assert!(becomes_free(&finish(place).root().join("runner/t/lock")));
    place
}

fn fail(place: &Place) -> &Place {
    assert_eq!(place.run_helper(call_words(place, "-qw", "1")).status, 1);
    place
}

/// Kills the supervisor of the task, and so the command.
fn kill_supervisor(place: &Place) -> &Place {
    place.run_helper(["run-once", "-qw", "-i", "t", "--", "sh", "-c", "kill -9 $PPID; exec sleep 9"]);
    place
}

fn count_runs(place: &Place) -> usize {
    place.read("log").lines().filter(|line| line.starts_with("begun")).count()
}

fn read_outcome(place: &Place) -> Option<String> {
    let text = place.read("locks/runner/t/exit");
    (!text.is_empty()).then(|| text.trim().to_owned())
}

fn judge(place: &Place, outcome: &Outcome) -> Verdict {
    let (before, recorded) = (count_runs(place), read_outcome(place));
    judge_next(place, expect_task_status(recorded.as_deref()))?;
    let all = count_runs(place);
    // If the helper reported success, or recorded it in the file, then the task must not run a second time.
    let succeeded = outcome.status == 0 && before > 0 && recorded.as_deref() == Some("0");
    must(!succeeded || all == 1, format!("it ran {all} times"))?;
    must(all <= 2, format!("it ran {all} times"))
}

/// The task ran before the scene, and must not run again.
fn judge_finished(place: &Place, outcome: &Outcome) -> Verdict {
    let is_peek = outcome.status == 1 && outcome.err.is_empty();
    must(!is_peek, "it said no of a task that has finished")?;
    judge_next(place, "0")?;
    must(count_runs(place) == 1, format!("it ran {} times", count_runs(place)))
}

fn judge_failed(place: &Place, _: &Outcome) -> Verdict {
    let said = place.run_helper(call_words(place, "-qw", "1"));
    must(said.status == 1, format!("the next call ended so: {said:?}"))?;
    must(count_runs(place) == 1, format!("it ran {} times", count_runs(place)))
}

/// The next call runs the task, or returns its outcome.
fn judge_reset(place: &Place, outcome: &Outcome) -> Verdict {
    let before = count_runs(place);
    let forgotten = outcome.status == 0 && outcome.hit.is_none();
    judge_next(place, if read_outcome(place).as_deref() == Some("1") { "1" } else { "0" })?;
    must(!forgotten || count_runs(place) == before + 1, "it was reset, and did not run again")
}

fn judge_next(place: &Place, status: &str) -> Verdict {
    let said = place.run_helper(call_words(place, "-qw", status));
    must(said.status.to_string() == status && said.err.is_empty(), format!("the next call ended so: {said:?}"))?;
    must(!place.read("log").contains("another run"), "it ran at the same time as another run")?;
    must(read_outcome(place).as_deref() == Some(status), format!("the outcome is {:?}", read_outcome(place)))?;
    let names = place.list_names("locks/runner/t");
    let known = |name: &String| FILES.contains(&name.as_str()) || name.strip_suffix(".prev").is_some();
    must(names.iter().all(known), format!("litter: {names:?}"))?;
    let others = place.list_names("locks/runner");
    must(others == ["t"], format!("litter: {others:?}"))
}
