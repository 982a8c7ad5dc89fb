//! The scenes of `lock --coalesce`. A call that ended because another one covers it is followed by a run, or the run is owed, `status`
//! shows that, and the next call pays. Without a fault, exactly as many runs follow as were promised.

use super::checks::{call_next, must, was_killed};
use crate::driver::{Call, Outcome, WaitKind};
use crate::place::{Place, becomes_free, wait_for};
use crate::scene::{Scene, Verdict};
use std::fs;
use std::process::Stdio;
use std::time::Duration;

/// The number of callers of a crowd.
const CROWD: usize = 5;

/// The longest time that another call may take while the helper is stopped.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn scenes() -> Vec<Scene> {
    let scene = |name, call, judge| Scene { name, call, judge };
    vec![
        scene("lock --coalesce, the first ever", |place| lock(place, &[]), judge_own),
        scene("lock --coalesce, free", |place| lock(create_file(place), &[]), judge_own),
        scene("lock --coalesce, waited for", wait, judge_own),
        scene("lock --coalesce, covered", |place| lock(promise(place), &[]), judge_covered),
        scene("lock --coalesce -n, covered", |place| lock(promise(place), &["-n"]), judge_covered),
        scene("lock --coalesce, others rely on it", wait_for_others, judge_relied_on),
        scene("lock --coalesce, a run is owed", |place| lock(leave_debt(place), &[]), judge_paid),
        scene("lock --coalesce=strict, free", |place| lock_strictly(create_file(place)), judge_strict),
        scene("a script, --coalesce, free", |place| script(create_file(place)), judge_own),
        scene("a script, --coalesce, covered", |place| script(promise(place)), judge_covered),
        scene("a script, --coalesce, a crowd", start_crowd, judge_crowd),
    ]
}

fn lock(place: &Place, options: &[&str]) -> Call {
    Call::new(place.logged_lock(&[&["--coalesce"], options].concat(), "it"))
}

/// The command is a child of the helper, so a killed helper may leave it without the lock for a moment.
fn lock_strictly(place: &Place) -> Call {
    Call::new(place.logged_lock(&["--coalesce=strict"], "it"))
}

fn create_file(place: &Place) -> &Place {
    place.run_helper(["lock", "--coalesce", "a", "--", "true"]);
    place
}

fn wait(place: &Place) -> Call {
    let holder = place.start_holder(&["--coalesce", "a"]);
    lock(place, &[]).when_it_waits_for(WaitKind::Whole, move || drop(holder))
}

/// Starts a holder, and a caller that waits for the next run.
fn promise(place: &Place) -> &Place {
    place.keep_holder(&["--coalesce", "a"]);
    place.start_waiter(place.logged_lock(&["-q", "--coalesce"], "promised"), &place.lock_file("a"));
    place
}

/// Waits for the next run. During the wait, another caller comes, which relies on it. Then the holder ends.
fn wait_for_others(place: &Place) -> Call {
    let holder = place.start_holder(&["--coalesce", "a"]);
    let mut other = place.program(&place.helper);
    other.args(place.logged_lock(&["-nq", "--coalesce"], "other")).stdout(Stdio::null()).stderr(Stdio::null());
    let note = place.path("other");
    lock(place, &[]).when_it_waits_for(WaitKind::Whole, move || {
        let status = wait_for(&mut other.spawn().unwrap(), PATIENCE);
        fs::write(note, status.to_string()).unwrap();
        drop(holder);
    })
}

/// Leaves a run that is owed: its waiter was killed.
fn leave_debt(place: &Place) -> &Place {
    promise(place);
    place.run_helper(place.logged_lock(&["-n", "--coalesce"], "relies"));
    place.release_kept();
    assert!(is_owed(place) && place.read("log").is_empty());
    place
}

fn script(place: &Place) -> Call {
    let script = r#"source "$LIBRARY"; aba_lock_operation --coalesce a; "$TORTURE" payload run it "$FILE" "$LOG""#;
    Call::bash(script)
        .variable("FILE", place.lock_file("a").to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

/// Returns true if `status` shows a run that was promised, and whose waiter has ended.
fn is_owed(place: &Place) -> bool {
    place.run_helper(["status", "--json", "a"]).out.contains("\"owed\": true")
}

fn count_runs(place: &Place) -> usize {
    place.read("log").lines().count()
}

/// All have ended: the lock is free, and a run that is owed is made by the next call and by no further one.
fn judge_next(place: &Place) -> Verdict {
    place.wait_for_all();
    must(!place.read("log").contains("without"), "a command ran without the lock")?;
    must(becomes_free(&place.lock_file("a")), "the lock outlived its holders")?;
    let before = count_runs(place);
    let said = place.run_helper(place.logged_lock(&["--coalesce"], "next"));
    must(said.status == 0 && said.err.is_empty(), format!("the next call ended so: {said:?}"))?;
    must(count_runs(place) == before + 1, "the lock was free, and the next call did not run")?;
    must(!is_owed(place), "the next call did not pay the run that was owed")?;
    call_next(place, &["lock", "a", "--", "true"])?;
    let names = place.list_names("locks");
    must(names == ["aba-a.lock"], format!("litter: {names:?}"))
}

/// No other call covers this one.
fn judge_own(place: &Place, outcome: &Outcome) -> Verdict {
    place.wait_for_all();
    let log = place.read("log");
    must(outcome.status != 0 || log == "run it\n", format!("status 0, and it went so: {log:?}"))?;
    must(outcome.status == 0 || was_killed(outcome) || log.is_empty(), "it failed, and the command ran")?;
    must(outcome.hit.is_some() || outcome.status == 0, "it was refused")?;
    judge_next(place)
}

fn judge_strict(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(outcome.status != 0 || log == "run it\n", format!("status 0, and it went so: {log:?}"))?;
    must(becomes_free(&place.lock_file("a")), "the lock outlived its holder")?;
    call_next(place, &["lock", "--coalesce=strict", "a", "--", "true"])?;
    call_next(place, &["lock", "a", "--", "true"]).map(drop)
}

/// Another caller waits for the next run.
fn judge_covered(place: &Place, outcome: &Outcome) -> Verdict {
    must(place.read("log").is_empty(), "the command ran while another process held the lock")?;
    must(outcome.hit.is_some() || outcome.status == 0, "another caller covers it, and it did not say so")?;
    place.wait_for_all();
    let log = place.read("log");
    let is_right = log == "run promised\n" || log == "run promised\nrun it\n" && outcome.hit.is_some();
    must(is_right, format!("after a covered call, it went so: {log:?}"))?;
    must(!is_owed(place), "the promised run was made, and is still owed")?;
    judge_next(place)
}

/// Returns true if the run ended after it had been counted: the helper was killed, or could not become the command. Such a run covers
/// the calls before it, as one that failed.
fn has_begun(outcome: &Outcome) -> bool {
    let counts = |call: &i64| *call == libc::SYS_fsetxattr;
    let has_failed = was_killed(outcome) || outcome.hit == Some(libc::SYS_execve);
    has_failed && outcome.calls.split_last().is_some_and(|(_, before)| before.iter().any(counts))
}

fn judge_relied_on(place: &Place, outcome: &Outcome) -> Verdict {
    place.wait_for_all();
    let (other, log) = (place.read("other"), place.read("log"));
    must(["", "0", "75"].contains(&other.as_str()), format!("the other call ended with {other}"))?;
    let is_paid = log.contains("run it\n") || is_owed(place) || has_begun(outcome);
    must(other != "0" || log.contains("other") || is_paid, "another call relied on it, and no run follows")?;
    must(outcome.hit.is_some() || other == "0" && log == "run it\n", format!("{other}: it went so: {log:?}"))?;
    judge_next(place)
}

fn judge_paid(place: &Place, outcome: &Outcome) -> Verdict {
    let log = place.read("log");
    must(outcome.status != 0 || log == "run it\n", format!("status 0, and it went so: {log:?}"))?;
    must(
        !log.is_empty() || is_owed(place) || has_begun(outcome),
        "the run was owed, was not made, and is not owed any more",
    )?;
    judge_next(place)
}

/// Several calls during one run. All but one end, and then the run does.
fn start_crowd(place: &Place) -> Call {
    let over = place.path("over").to_string_lossy().into_owned();
    place.keep_holder_with(&["--coalesce", "a"], &["hold-until", &over, &place.path("").to_string_lossy()]);
    let script = r#"for ((i = 1; i <= CROWD; i++)); do
    ("$ABA_LOCK_BIN" lock -q --coalesce a -- "$TORTURE" payload run "$i" "$FILE" "$LOG"; echo "$i $?" >>"$ENDS") &
    pids+=("$!")
done
# `wait -n` of bash can miss a child that ends just before it.
# A call whose search for another one fails waits, too. Then the run ends at last.
running=$CROWD
for ((round = 0; running > 1 && round < 300; round++)); do
    sleep 0.02
    running=0
    for pid in "${pids[@]}"; do if kill -0 "$pid" 2>/dev/null; then ((running += 1)); fi; done
done
: >"$OVER"
wait"#;
    Call::bash(script)
        .variable("CROWD", CROWD.to_string())
        .variable("OVER", over)
        .variable("ENDS", place.path("ends").to_string_lossy())
        .variable("FILE", place.lock_file("a").to_string_lossy())
        .variable("LOG", place.path("log").to_string_lossy())
}

fn judge_crowd(place: &Place, outcome: &Outcome) -> Verdict {
    place.wait_for_all();
    let (log, ends) = (place.read("log"), place.read("ends"));
    let succeeded = ends.lines().filter_map(|line| line.strip_suffix(" 0")).collect::<Vec<_>>();
    let ran = |number: &str| log.lines().any(|line| line == format!("run {number}"));
    // A counted run that was killed, or that failed before its command, covers the calls before it.
    let has_failed = outcome.calls.contains(&libc::SYS_fsetxattr) && succeeded.len() < ends.lines().count();
    let is_paid = !log.is_empty() || is_owed(place) || has_failed;
    must(is_paid || succeeded.iter().all(|number| ran(number)), format!("covered calls, and no run: {ends:?}"))?;
    let failed = CROWD - succeeded.len();
    must(outcome.hit.is_some() || failed == 0 && count_runs(place) == 1, format!("not one run: {ends:?}, {log:?}"))?;
    judge_next(place)
}
