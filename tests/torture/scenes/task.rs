//! Tasks: run-once.

use super::must;
use crate::driver::{Call, Ended};
use crate::place::{Place, is_free_soon};
use crate::systematic::{Scene, Verdict};
use std::ffi::OsString;

/// What may be in the directory of a task that has ended.
const FILES: [&str; 11] =
    ["cmd", "cmd.sh", "cwd", "exit", "history", "lock", "log", "log.err", "log.err.1", "log.out", "log.out.1"];

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    let mut scenes = vec![
        scene("run-once -w, among strangers", |place| among_strangers(place, INTERRUPTED), judge_strangers),
        scene("run-once -w, among strangers, after a killed supervisor", killed_among_strangers, judge_strangers),
        scene("run-once -w, new", |place| once(place, "-qw", "0"), judge),
        scene("run-once -s, new", |place| once(place, "-s", "0"), judge),
        scene("run-once -w, finished", |place| once(finished(place), "-qw", "0"), judge_finished),
        scene("run-once -s, finished", |place| once(finished(place), "-s", "0"), judge_finished),
        scene("run-once -w, failed", |place| once(failed(place), "-qw", "1"), judge_failed),
        scene("run-once -w, after a killed supervisor", |place| once(orphaned(place), "-qw", "0"), judge),
        scene("run-once -p, finished", |place| bare(finished(place), "-p"), judge_finished),
        scene("run-once -E, finished", |place| bare(finished(place), "-E"), judge_finished),
        scene("run-once -w without a command, finished", |place| bare(finished(place), "-qw"), judge_finished),
        scene("run-once -r, finished", |place| bare(finished(place), "-r"), judge_reset),
        scene("run-once -F, failed", |place| Call::new(["run-once", "-F"]).on(failed(place)), judge_reset),
        scene("run-once -G, failed", |place| Call::new(["run-once", "-G"]).on(failed(place)), judge_reset),
        scene("run-once --list", |place| Call::new(["run-once", "--list"]).on(finished(place)), judge_finished),
        scene("clean --tasks", |place| Call::new(["clean", "-q", "--tasks"]).on(over(place)), judge_reset),
    ];
    if std::env::var_os(crate::apart::ALLOWED).is_none() {
        scenes.retain(|scene| !scene.name.contains("among strangers"));
    }
    scenes
}

/// A command that ends as after Ctrl-C.
const INTERRUPTED: &str = "exit 130";

/// A wait for a task, as one of many processes of a PID namespace to which `/proc` does not belong.
fn among_strangers(place: &Place, command: &str) -> Call {
    let script = r#""$ABA_LOCK_BIN" run-once -qw -i t -- sh -c "$COMMAND" || true
        exec "$ABA_LOCK_BIN" run-once -qw -i t -- "$RACK" act alone "$LOG""#;
    let mut words: Vec<OsString> = ["--pid", "--fork"].map(OsString::from).into();
    words.extend(place.act(&["among-strangers", &place.path("strangers").to_string_lossy(), "sh", "-c", script]));
    let call = Call::new(words).variable("COMMAND", command).variable("LOG", place.path("log").to_string_lossy());
    Call { program: Some("/usr/bin/unshare"), ..call }
}

fn killed_among_strangers(place: &Place) -> Call {
    among_strangers(place, "kill -9 $PPID; exec sleep 9")
}

fn judge_strangers(place: &Place, ended: &Ended) -> Verdict {
    must(place.read("strangers").is_empty(), place.read("strangers"))?;
    must(ended.hit.is_some() || ended.status == 0, "the interrupted task could not be run again")?;
    judge_next(place, expected(outcome(place).as_deref()))?;
    must(runs(place) <= 2, format!("it ran {} times", runs(place)))
}

impl Call {
    /// The same; only to say on what.
    fn on(self, _: &Place) -> Self {
        self
    }
}

fn words(place: &Place, how: &str, status: &str) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["run-once", how, "-i", "t", "--"].map(OsString::from).into();
    words.extend(place.act(&["alone", &place.path("log").to_string_lossy(), status]));
    words
}

fn once(place: &Place, how: &str, status: &str) -> Call {
    Call::new(words(place, how, status))
}

fn bare(_: &Place, how: &str) -> Call {
    Call::new(["run-once", how, "-i", "t"])
}

fn finished(place: &Place) -> &Place {
    assert_eq!(place.aba(words(place, "-qw", "0")).status, 0);
    place
}

/// Finished, and let go of: what is still held for an instant, `clean` leaves alone.
fn over(place: &Place) -> &Place {
    assert!(is_free_soon(&finished(place).root().join("runner/t/lock")));
    place
}

fn failed(place: &Place) -> &Place {
    assert_eq!(place.aba(words(place, "-qw", "1")).status, 1);
    place
}

/// The supervisor was killed, and the command with it.
fn orphaned(place: &Place) -> &Place {
    place.aba(["run-once", "-qw", "-i", "t", "--", "sh", "-c", "kill -9 $PPID; exec sleep 9"]);
    place
}

fn runs(place: &Place) -> usize {
    place.read("log").lines().filter(|line| line.starts_with("begun")).count()
}

fn outcome(place: &Place) -> Option<String> {
    let text = place.read("locks/runner/t/exit");
    (!text.is_empty()).then(|| text.trim().to_owned())
}

/// The status of the next wait. If the command could not be run, that is an outcome, and stands.
fn expected(outcome: Option<&str>) -> &str {
    outcome.filter(|outcome| ["125", "126", "127"].contains(outcome)).unwrap_or("0")
}

fn judge(place: &Place, ended: &Ended) -> Verdict {
    let (before, outcome) = (runs(place), outcome(place));
    judge_next(place, expected(outcome.as_deref()))?;
    let all = runs(place);
    // Who was told that it succeeded, or a file that says so: then once means once.
    let told = ended.status == 0 && before > 0 && outcome.as_deref() == Some("0");
    must(!told || all == 1, format!("it ran {all} times"))?;
    must(all <= 2, format!("it ran {all} times"))
}

/// It had run before, and nothing that happens to a look at it lets it run again.
fn judge_finished(place: &Place, ended: &Ended) -> Verdict {
    let is_peek = ended.status == 1 && ended.err.is_empty();
    must(!is_peek, "it said no of a task that has finished")?;
    judge_next(place, "0")?;
    must(runs(place) == 1, format!("it ran {} times", runs(place)))
}

fn judge_failed(place: &Place, _: &Ended) -> Verdict {
    let said = place.aba(words(place, "-qw", "1"));
    must(said.status == 1, format!("the next call ended so: {said:?}"))?;
    must(runs(place) == 1, format!("it ran {} times", runs(place)))
}

/// Whatever was left by it: the next one runs it, or finds its outcome.
fn judge_reset(place: &Place, ended: &Ended) -> Verdict {
    let before = runs(place);
    let forgotten = ended.status == 0 && ended.hit.is_none();
    judge_next(place, if outcome(place).as_deref() == Some("1") { "1" } else { "0" })?;
    must(!forgotten || runs(place) == before + 1, "it was reset, and did not run again")
}

fn judge_next(place: &Place, status: &str) -> Verdict {
    let said = place.aba(words(place, "-qw", status));
    must(said.status.to_string() == status && said.err.is_empty(), format!("the next call ended so: {said:?}"))?;
    must(!place.read("log").contains("beside"), "it ran beside another run")?;
    must(outcome(place).as_deref() == Some(status), format!("the outcome is {:?}", outcome(place)))?;
    let names = place.names("locks/runner/t");
    let known = |name: &String| FILES.contains(&name.as_str()) || name.strip_suffix(".prev").is_some();
    must(names.iter().all(known), format!("litter: {names:?}"))?;
    let others = place.names("locks/runner");
    must(others == ["t"], format!("litter: {others:?}"))
}
