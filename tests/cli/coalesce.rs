//! `lock --coalesce`: during a run, one caller waits for the next run, and all others end.

use crate::call::{Call, RunningCall};
use crate::process::{count_waiters, is_locked, kill, wait_until};
use crate::scene::{HELPER, Scene};
use serde_json::Value;
use std::fs;

/// The number of callers during one run, and of those that start at the same time: a caller blocks on the short lock for a second at most, and
/// on a slow machine that would not be enough for all.
const CALLERS: usize = 50;
const CALLERS_AT_ONCE: usize = 10;

/// Prepares a call whose run adds a line to the file `runs`.
pub(crate) fn call(scene: &Scene, options: &[&str]) -> Call {
    let options = [&["lock", "-q", "--coalesce"], options].concat();
    scene.aba(options).args(["job", "--", "sh", "-c", "echo >>runs"]).current_dir(scene.path(""))
}

pub(crate) fn count_runs(scene: &Scene) -> usize {
    fs::read_to_string(scene.path("runs")).unwrap_or_default().lines().count()
}

/// Starts a caller that waits for the next run.
pub(crate) fn start_waiter(scene: &Scene, options: &[&str]) -> RunningCall {
    let waiter = call(scene, options).start();
    scene.wait_for_waiter("job");
    waiter
}

pub(crate) fn promised_run(scene: &Scene) -> Value {
    // Its exit status depends on the lock.
    let output = scene.program(HELPER).args(["status", "--json", "job"]).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    json["promised_run"].clone()
}

pub(crate) fn is_owed(scene: &Scene) -> bool {
    promised_run(scene)["owed"] == true
}

/// Makes the waiter of a promised run end, so that the run is owed. No process holds the lock afterwards.
pub(crate) fn leave_debt(scene: &Scene) {
    let holder = scene.holder_with(&["--coalesce", "job"]);
    let mut waiter = start_waiter(scene, &[]);
    call(scene, &[]).run();
    kill(waiter.pid(), libc::SIGKILL);
    // A killed process leaves the queue of the kernel before its other locks end.
    wait_until("the waiter has ended", || waiter.has_ended());
    holder.release();
    assert!(is_owed(scene));
}

#[test]
fn of_many_callers_during_a_run_exactly_one_more_run_follows() {
    let scene = Scene::new();
    for round in 1..=3 {
        let holder = scene.holder_with(&["--coalesce", "job"]);
        let mut callers: Vec<RunningCall> = Vec::new();
        while callers.len() < CALLERS {
            callers.extend((0..CALLERS_AT_ONCE).map(|_| call(&scene, &[]).start()));
            let others = callers.len() - 1;
            wait_until("all callers but one have ended", || {
                callers.iter_mut().map(RunningCall::has_ended).filter(|ended| *ended).count() == others
            });
        }
        assert_eq!(count_runs(&scene), round - 1);
        holder.release();
        for caller in callers {
            caller.finish();
        }
        assert_eq!(count_runs(&scene), round);
    }
    assert!(promised_run(&scene).is_null());
}

#[test]
fn callers_at_the_same_time_run_at_least_once_and_never_at_once() {
    let scene = Scene::new();
    let command = "mkdir inside && echo >>runs && rmdir inside";
    for _ in 0..5 {
        let before = count_runs(&scene);
        let start = |_| {
            let call = scene.aba(["lock", "-q", "--coalesce", "job", "--", "sh", "-c", command]);
            call.current_dir(scene.path("")).start()
        };
        let callers: Vec<RunningCall> = (0..20).map(start).collect();
        for caller in callers {
            caller.finish();
        }
        assert!(count_runs(&scene) > before);
        assert!(promised_run(&scene).is_null());
    }
}

#[test]
fn a_covered_call_names_the_process_that_runs_after_it() {
    let scene = Scene::new();
    let holder = scene.holder("job");
    let waiter = start_waiter(&scene, &[]);
    let said = scene.aba(["lock", "--coalesce", "job", "--", "echo", "not reached"]);
    let said = said.err(format!("aba-lock: job: not run: pid {} (", waiter.pid())).run();
    assert!(said.err.ends_with(") waits for the lock and starts after this call\n"), "{}", said.err);
    assert_eq!(promised_run(&scene)["waiter_pid"], waiter.pid());
    let line = format!("\n  next run: pid {} runs also for calls that have ended (--coalesce)\n", waiter.pid());
    scene.aba(["status", "job"]).out(line).run();
    holder.release();
    waiter.finish();
    assert_eq!(count_runs(&scene), 1);
    assert!(promised_run(&scene).is_null());
}

#[test]
fn a_script_gets_a_status_of_its_own_and_no_lock() {
    let scene = Scene::new();
    let holder = scene.holder("job");
    let waiter = start_waiter(&scene, &[]);
    let script = r#"
        exec 9<>"$("$HELPER" path --create job)"
        "$HELPER" lock --coalesce --fd 9 job 2>/dev/null; echo "$?"
        "$HELPER" status --fd 9 job
        "$HELPER" lock --coalesce --try-first --fd 9 job 2>/dev/null; echo "$?"
    "#;
    scene.bash(script).status(0).out("80\njob: not held through descriptor 9\n80\n").run();
    holder.release();
    waiter.finish();
    let script = r#"
        exec 9<>"$("$HELPER" path --create job)"
        "$HELPER" lock --coalesce --fd 9 job; echo "$?"
        "$HELPER" status --fd 9 job
    "#;
    scene.bash(script).out("0\njob: held, exclusive, through descriptor 9\n").run();
}

#[test]
fn a_killed_waiter_leaves_a_debt_that_the_next_run_pays() {
    let scene = Scene::new();
    leave_debt(&scene);
    let said = "\n  owed run: its waiter has ended, and earlier calls rely on it; the next call with --coalesce runs\n";
    scene.aba(["status", "job"]).status(1).out(said).run();
    let list = scene.aba(["list"]).out("").run().out;
    assert!(list.contains(" a run is owed\n"), "{list}");
    let kept = "left lock job: it owes a run to calls with --coalesce\n";
    let cleaned = scene.aba(["clean"]).out("").run();
    assert!(cleaned.out.contains(kept) || cleaned.err.contains(kept), "{} {}", cleaned.out, cleaned.err);
    assert!(scene.lock_file("job").exists());
    // A caller without the option keeps it.
    scene.aba(["lock", "job", "--", "true"]).run();
    scene.bash(r#"exec 9<>"$("$HELPER" path job)"; "$HELPER" lock --fd 9 job"#).run();
    assert!(is_owed(&scene));
    call(&scene, &[]).run();
    assert_eq!(count_runs(&scene), 1);
    assert!(promised_run(&scene).is_null());
    scene.aba(["clean"]).out("").run();
    assert!(!scene.lock_file("job").exists());
}

#[test]
fn another_waiter_takes_over_the_debt_of_a_killed_one() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--coalesce", "job"]);
    let first = start_waiter(&scene, &[]);
    call(&scene, &[]).run();
    kill(first.pid(), libc::SIGKILL);
    drop(first);
    wait_until("the run is owed", || is_owed(&scene));
    let second = start_waiter(&scene, &[]);
    assert_eq!(promised_run(&scene)["waiter_pid"], second.pid());
    holder.release();
    second.finish();
    assert_eq!(count_runs(&scene), 1);
    assert!(promised_run(&scene).is_null());
}

#[test]
fn no_caller_relies_on_a_waiter_with_a_timeout() {
    let scene = Scene::new();
    let holder = scene.holder("job");
    let timed = start_waiter(&scene, &["-t", "1000"]);
    let waiter = call(&scene, &[]).start();
    scene.wait_for_waiters("job", 2);
    // A caller with a timeout relies on one without.
    call(&scene, &["-t", "1000"]).run();
    call(&scene, &[]).env("ABA_LOCK_TIMEOUT", "1000").run();
    holder.release();
    timed.finish();
    waiter.finish();
    assert_eq!(count_runs(&scene), 1, "the run of the first covers the call of the second");
    let holder = scene.holder("job");
    call(&scene, &["-t", "0.1"]).status(124).run();
    call(&scene, &[]).env("ABA_LOCK_TIMEOUT", "0.1").status(124).run();
    call(&scene, &["-t", "0"]).status(124).run();
    holder.release();
    assert!(promised_run(&scene).is_null());
}

#[test]
fn a_caller_that_does_not_wait_is_covered_or_refused() {
    let scene = Scene::new();
    let holder = scene.holder("job");
    call(&scene, &["-n"]).status(75).run();
    assert!(promised_run(&scene).is_null());
    let waiter = start_waiter(&scene, &[]);
    call(&scene, &["-n"]).run();
    call(&scene, &["-n", "-E", "3"]).run();
    holder.release();
    waiter.finish();
    assert_eq!(count_runs(&scene), 1);
}

#[test]
fn a_run_without_the_option_covers_no_call() {
    let scene = Scene::new();
    let holder = scene.holder("job");
    let plain = scene.aba(["lock", "-qw", "job", "--", "true"]).start();
    scene.wait_for_waiter("job");
    let waiter = call(&scene, &[]).start();
    scene.wait_for_waiters("job", 2);
    holder.release();
    plain.finish();
    waiter.finish();
    assert_eq!(count_runs(&scene), 1);
}

#[test]
fn a_run_that_fails_covers_the_calls_before_it() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--coalesce", "job"]);
    let waiter = scene.aba(["lock", "-q", "--coalesce", "job", "--", "false"]).status(1).start();
    scene.wait_for_waiter("job");
    call(&scene, &[]).run();
    holder.release();
    waiter.finish();
    assert_eq!(count_runs(&scene), 0);
    assert!(promised_run(&scene).is_null());
}

#[test]
fn a_strict_caller_ends_only_after_a_run_that_has_succeeded() {
    let scene = Scene::new();
    let strict = |command: &str| {
        let call = scene.aba(["lock", "-q", "--coalesce=strict", "job", "--", "sh", "-c", command]);
        call.current_dir(scene.path(""))
    };
    let holder = scene.holder_with(&["--coalesce=strict", "job"]);
    let first = strict("echo >>runs; read _ <gate").start();
    scene.wait_for_waiter("job");
    let mut second = strict("echo >>runs").start();
    scene.wait_for_waiters("job", 2);
    let gate = scene.gate("gate");
    holder.release();
    wait_until("the first runs", || count_runs(&scene) == 1);
    assert!(!second.has_ended());
    gate.open();
    first.finish();
    second.finish();
    assert_eq!(count_runs(&scene), 1);
    // A run that fails covers no strict call.
    let holder = scene.holder_with(&["--coalesce=strict", "job"]);
    let first = strict("exit 3").status(3).start();
    scene.wait_for_waiter("job");
    let second = strict("echo >>runs").start();
    scene.wait_for_waiters("job", 2);
    holder.release();
    first.finish();
    second.finish();
    assert_eq!(count_runs(&scene), 2);
}

#[test]
fn a_nested_call_and_a_free_lock_run_at_once() {
    let scene = Scene::new();
    call(&scene, &[]).run();
    call(&scene, &[]).run();
    assert_eq!(count_runs(&scene), 2);
    scene
        .aba(["lock", "--coalesce", "job", "--", HELPER, "lock", "--coalesce", "job", "--", "echo", "nested"])
        .out("nested\n")
        .run();
}

#[test]
fn the_numbers_of_a_file_are_in_its_attributes_and_its_content_stays() {
    let scene = Scene::new();
    let file = scene.path("data");
    fs::write(&file, "precious").unwrap();
    let path = file.to_str().unwrap();
    let coalesce = |options: &[&str]| {
        let options = [&["lock", "-q", "--coalesce"], options].concat();
        scene.aba(options).args(["--file", path, "--", "sh", "-c", "echo >>runs"]).current_dir(scene.path(""))
    };
    let holder = scene.holder_with(&["--coalesce", "--file", path]);
    let waiter = coalesce(&[]).start();
    wait_until("it waits", || count_waiters(&file) == 1);
    coalesce(&[]).run();
    coalesce(&["-n"]).run();
    scene.aba(["status", "--file", path]).out("  next run: pid ").run();
    holder.release();
    waiter.finish();
    assert_eq!((count_runs(&scene), fs::read_to_string(&file).unwrap()), (1, "precious".to_owned()));
    fs::create_dir(scene.path("directory")).unwrap();
    let directory = scene.path("directory").display().to_string();
    let said =
        format!("aba-lock: cannot lock {directory} with --coalesce: the file is not open for writing\nhint: use a ");
    scene.aba(["lock", "--coalesce", "--file", &directory, "--", "true"]).status(125).err(said).run();
}

#[test]
fn combinations_without_a_clear_meaning_are_wrong_usage() {
    let scene = Scene::new();
    let lock = |options: &[&str]| {
        scene.aba(["lock", "--coalesce", "job"]).args(options).args(["--", "true"]).status(2).err("coalesce")
    };
    for options in [&["--shared"][..], &["--slots", "2"], &["--replace"], &["other"], &["--server", "etcd://h:1"]] {
        lock(options).run();
    }
    scene.aba(["lock", "--coalesce=other", "job", "--", "true"]).status(2).err("'--coalesce[=<HOW>]'").run();
    let script = "exec 9>f; \"$HELPER\" lock --coalesce=strict --fd 9 --file f";
    scene.bash(script).current_dir(scene.path("")).status(2).err("--coalesce=strict needs a command").run();
}

#[test]
fn a_lock_with_a_maximum_time_or_that_the_command_does_not_inherit_is_coalesced_too() {
    let scene = Scene::new();
    for options in [&["--max-time", "1000"][..], &["-o"]] {
        let before = count_runs(&scene);
        let holder = scene.holder_with(&[&["--coalesce"], options, &["job"]].concat());
        let waiter = start_waiter(&scene, options);
        call(&scene, options).run();
        call(&scene, &[]).run();
        holder.release();
        waiter.finish();
        assert_eq!(count_runs(&scene), before + 1);
        wait_until("the lock is free", || !is_locked(&scene.lock_file("job")));
        assert!(promised_run(&scene).is_null());
    }
}

#[test]
fn the_wait_of_a_coalesced_call_can_be_a_deadlock() {
    let scene = Scene::new();
    let inner = ["env", "-u", "ABA_LOCK_FDS", HELPER, "lock", "--coalesce", "job", "--", "true"];
    scene.aba(["lock", "-o", "job", "--"]).args(inner).status(75).err("would be a deadlock").run();
}

#[test]
fn a_covered_call_is_an_event() {
    let scene = Scene::new();
    let log = scene.path("log");
    let holder = scene.holder("job");
    let waiter = start_waiter(&scene, &[]);
    call(&scene, &[]).env("ABA_LOCK_LOG", &log).run();
    let text = fs::read_to_string(&log).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["waiter_pid"]), (&"covered".into(), &waiter.pid().into()));
    scene
        .aba(["metrics", "--log"])
        .arg(&log)
        .out("\naba_lock_covered_total{lock=\"job\",scope=\"directory\"} 1\n")
        .run();
    assert!(last["waiter_command"].as_str().unwrap().contains("--coalesce"));
    holder.release();
    waiter.finish();
}
