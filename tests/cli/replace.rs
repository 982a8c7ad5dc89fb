//! `lock --replace`: the newest caller ends the holder and takes the lock.

use crate::call::{Call, Holder, RunningCall};
use crate::process::{is_alive, is_locked, is_root, wait_for_program, wait_until};
use crate::scene::Scene;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;

/// A time after which the first newcomer would end a stubborn holder. The test ends it as soon as the others have a ticket.
const GRACE: &str = "1000";

/// Prints `begun`, and runs until it is ended.
const BEGIN: &str = "echo begun; exec sleep 1000";

pub(crate) fn replace(scene: &Scene) -> Call {
    scene.aba(["lock", "--replace", "job", "--"])
}

/// Returns the number of locks on parts of a file that callers with a ticket hold.
pub(crate) fn count_tickets(file: &Path) -> usize {
    const FIRST_TICKET: u64 = (1 << 62) + (1 << 32) + (1 << 16);
    let Ok(data) = fs::metadata(file) else { return 0 };
    let (end, locks) = (format!(":{}", data.ino()), fs::read_to_string("/proc/locks").unwrap());
    let words = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let is_ticket = |words: &Vec<&str>| {
        words[1] == "OFDLCK" && words[5].ends_with(&end) && words[7].parse::<u64>().is_ok_and(|end| end >= FIRST_TICKET)
    };
    words.filter(is_ticket).count()
}

/// Starts a caller, and waits until it has a ticket. There are `earlier` callers with one.
fn start_newcomer(scene: &Scene, call: Call, earlier: usize) -> RunningCall {
    let (call, file) = (call.start(), scene.lock_file("job"));
    wait_until("the newcomer has a ticket", || count_tickets(&file) > earlier);
    call
}

/// A holder that SIGTERM does not end, so that newcomers have to wait. It notes in the file `asked` that it got the signal.
fn start_stubborn_holder(scene: &Scene) -> Holder {
    let script = "trap 'echo >asked' TERM; echo held; while :; do read _; done";
    scene.aba(["lock", "job", "--", "bash", "-c", script]).current_dir(scene.path("")).hold()
}

/// Ends a holder that a newcomer has asked to end.
fn end_stubborn_holder(scene: &Scene, holder: &mut Holder) {
    wait_until("the holder is asked to end", || scene.path("asked").exists());
    holder.signal(9);
    assert_eq!(holder.wait(), 137);
}

#[test]
fn a_newcomer_ends_the_holder_and_runs_and_both_are_told() {
    let scene = Scene::new();
    for options in [&["lock"][..], &["lock", "--replace"]] {
        let said = scene.path("said");
        let script = format!("exec 2>>'{}'; echo held; exec sleep 1000", said.display());
        let mut holder = scene.aba(options).args(["job", "--", "sh", "-c", &script]).hold();
        wait_for_program(holder.pid(), "sleep");
        let call = replace(&scene).args(["echo", "mine"]).out("mine\n").err("");
        let call = call.start();
        let new = call.pid();
        assert_eq!(call.finish().err, format!("aba-lock: ended pid {} (sleep 1000), by {}\n", holder.pid(), user()));
        assert_eq!(holder.wait(), 143);
        let line = format!("job: replaced by pid {new} (echo mine): sending SIGTERM, and SIGKILL after 5s\n");
        assert_eq!(fs::read_to_string(&said).unwrap(), format!("aba-lock: {line}"));
        fs::remove_file(said).unwrap();
    }
    assert!(!is_locked(&scene.lock_file("job")));
    let holder = scene.aba(["lock", "job", "--", "sh", "-c", BEGIN]).hold();
    assert_eq!(replace(&scene).args(["true"]).env("ABA_LOCK_TIMEOUT", "1000").err("ended pid ").run().out, "");
    drop(holder);
    // It is quiet, and waits by itself.
    let mut holder = scene.holder("job");
    scene.aba(["lock", "-q", "--replace", "job", "--", "true"]).run();
    assert_eq!(holder.wait(), 143);
}

fn user() -> String {
    std::env::var("USER").ok().filter(|_| !is_root()).unwrap_or_else(|| "root".to_owned())
}

#[test]
fn a_free_lock_is_acquired_as_without_the_option() {
    let scene = Scene::new();
    replace(&scene).args(["sh", "-c", "\"$HELPER\" status job | grep -q \"^  pid $$,\""]).run();
    scene.bash("exec 200<>\"$(\"$HELPER\" path --create job)\"; \"$HELPER\" lock --replace --fd 200 job").run();
    assert_eq!(count_tickets(&scene.lock_file("job")), 0);
}

#[test]
fn of_several_newcomers_the_last_one_runs_and_the_others_end_with_75() {
    let scene = Scene::new();
    let mut holder = start_stubborn_holder(&scene);
    let newcomer = |number: usize, status: i32| {
        let call = scene.aba(["lock", "--replace", "--grace", GRACE, "job", "--", "echo", "last"]).err("");
        let call = if status == 0 { call.out("last\n") } else { call.status(status) };
        start_newcomer(&scene, call, number)
    };
    let calls = [newcomer(0, 75), newcomer(1, 75), newcomer(2, 75), newcomer(3, 0)];
    end_stubborn_holder(&scene, &mut holder);
    let [first, second, third, last] = calls.map(RunningCall::finish);
    let left = "aba-lock: gave up job: a newer call with --replace takes it\n";
    assert!(first.err.starts_with("aba-lock: ended pid ") && first.err.ends_with(left), "{}", first.err);
    for earlier in [second, third] {
        assert!(earlier.err.ends_with(left) && !earlier.err.contains("ended pid"), "{}", earlier.err);
    }
    assert!(!last.err.contains("ended pid") && !last.err.contains("gave up"), "{}", last.err);
}

#[test]
fn a_holder_that_ignores_the_signal_is_killed_after_the_grace_time() {
    let scene = Scene::new();
    let mut holder = start_stubborn_holder(&scene);
    let call = scene.aba(["lock", "--replace", "--grace", "0.2", "job", "--", "echo", "mine"]).out("mine\n");
    call.err(", with SIGKILL\n").run();
    assert_eq!(holder.wait(), 137);
}

#[test]
fn of_twenty_newcomers_at_once_one_runs_to_its_end_and_no_process_is_left() {
    let scene = Scene::new();
    for round in 0..rounds() {
        let (begin, end) = (scene.gate(&format!("begin-{round}")), scene.gate(&format!("end-{round}")));
        // A later caller may end one that has begun.
        let run = format!("echo $$ >>'{}'; read _ <{end}; echo done", scene.path("runs").display());
        let script =
            format!("read _ <{begin}; exec \"$HELPER\" lock -q --replace job -- sh -c {}", shell_words::quote(&run));
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let mut command = scene.program("sh");
                command.args(["-c", &script]).stdout(Stdio::piped());
                command.spawn().unwrap()
            })
            .collect();
        (0..20).for_each(|_| begin.open());
        let mut callers: Vec<_> = callers.into_iter().map(Some).collect();
        let mut statuses = Vec::new();
        wait_until("all callers but one have ended", || {
            for caller in &mut callers {
                if caller.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some()) {
                    let output = caller.take().unwrap().wait_with_output().unwrap();
                    assert!(output.stdout.is_empty(), "only the last caller ends by itself");
                    let status = output.status;
                    statuses.push(status.code().unwrap_or_else(|| 128 + status.signal().unwrap()));
                }
            }
            statuses.len() == 19
        });
        assert!(statuses.iter().all(|status| [75, 143].contains(status)), "{statuses:?}");
        let runs = fs::read_to_string(scene.path("runs")).unwrap_or_default();
        let last = callers.into_iter().flatten().next().unwrap();
        wait_until("the last caller runs", || {
            fs::read_to_string(scene.path("runs")).is_ok_and(|runs| runs.ends_with(&format!("{}\n", last.id())))
        });
        end.open();
        let output = last.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), "done\n"));
        for pid in runs.lines().map(|line| line.parse().unwrap()) {
            assert!(!is_alive(pid), "process {pid} is left");
        }
        assert_eq!((is_locked(&scene.lock_file("job")), count_tickets(&scene.lock_file("job"))), (false, 0));
        fs::remove_file(scene.path("runs")).unwrap();
    }
}

/// The number of rounds. `ABA_TEST_ROUNDS` sets another one, for a measurement.
fn rounds() -> usize {
    std::env::var("ABA_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

#[test]
fn a_holder_of_flock_is_only_waited_for_which_a_message_says() {
    let scene = Scene::new();
    scene.aba(["lock", "job", "--", "true"]).run();
    let holder = scene.flock_holder(scene.lock_file("job"));
    let call = replace(&scene).args(["echo", "mine"]).out("mine\n").err("").start();
    call.wait_for_error("this holder is not ended");
    scene.wait_for_waiter("job");
    assert_eq!(holder.release(), 0);
    let said = call.finish().err;
    let (start, end) = (
        "aba-lock: waiting for job, held by pid ",
        "; this holder is not ended: no record says that it uses aba-lock\n",
    );
    assert!(said.starts_with(start) && said.ends_with(end) && said.lines().count() == 1, "{said}");
}

#[test]
fn a_holder_of_a_file_is_ended_if_it_has_the_option_too_and_otherwise_waited_for() {
    let scene = Scene::new();
    let file = scene.path("file").display().to_string();
    fs::write(&file, "content\n").unwrap();
    let call = || scene.aba(["lock", "--replace", "--file", &file, "--", "echo", "mine"]).out("mine\n").err("");
    let mut holder = scene.holder_with(&["--replace", "--file", &file]);
    call().err("ended pid ").run();
    assert_eq!(holder.wait(), 143);
    let holder = scene.holder_with(&["--file", &file]);
    let call = call().err("; this holder is not ended: without --replace, a holder of --file has no record\n").start();
    call.wait_for_error("is not ended");
    assert_eq!(holder.release(), 0);
    call.finish();
    assert_eq!(fs::read_to_string(file).unwrap(), "content\n");
}

#[test]
fn shared_holders_and_slots_are_ended_if_all_are_known() {
    let scene = Scene::new();
    let mut shared = scene.holder_with(&["-s", "job"]);
    replace(&scene).arg("true").err("ended pid ").run();
    assert_eq!(shared.wait(), 143);
    let mut slots = [scene.holder_with(&["--slots=2", "job"]), scene.holder_with(&["--slots=2", "job"])];
    let said = replace(&scene).arg("true").err("ended pid ").run();
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
    assert_eq!(slots.each_mut().map(Holder::wait), [143, 143]);
    // The record names only one of them.
    let shared = [scene.holder_with(&["-s", "job"]), scene.holder_with(&["-s", "job"])];
    let call = replace(&scene).arg("true").err("this holder is not ended").start();
    call.wait_for_error("is not ended");
    for holder in shared {
        assert_eq!(holder.release(), 0);
    }
    call.finish();
}

#[test]
fn a_caller_without_the_option_that_waits_is_not_ended_and_runs_first() {
    let scene = Scene::new();
    let mut holder = scene.holder("job");
    let gate = scene.gate("gate");
    let script = format!("echo first; read _ <{gate}");
    let waiter = scene.aba(["lock", "-qw", "job", "--", "sh", "-c", &script]).out("first\n").start();
    scene.wait_for_waiter("job");
    let call = replace(&scene).args(["echo", "second"]).out("second\n").err("ended pid ").start();
    assert_eq!(holder.wait(), 143);
    wait_until("the waiter runs", || scene.record("job").contains(&format!("\npid={}\n", waiter.pid())));
    call.wait_for_error("waiting for job, held by ");
    gate.open();
    waiter.finish();
    call.finish();
}

#[test]
fn a_timeout_covers_the_end_of_the_holder_and_a_time_of_0_ends_no_process() {
    let scene = Scene::new();
    let mut holder = start_stubborn_holder(&scene);
    let call = |time: &str| {
        let options = ["lock", "--replace", "--grace", GRACE, "-t", time];
        let call = scene.aba(options).args(["job", "--", "echo", "not reached"]).status(124);
        call.err(format!("timed out after {time} s waiting for job, held by ")).run()
    };
    call("0");
    assert!(is_alive(holder.pid()));
    let text = format!("could not end pid {} (", holder.pid());
    // On a busy machine, a short time can be over before the call sends the signal.
    assert!(["1", "5", "20"].into_iter().any(|time| call(time).err.contains(&text)), "{text}");
    assert!(is_alive(holder.pid()));
    wait_until("the holder has got the signal", || scene.path("asked").exists());
    fs::remove_file(scene.path("asked")).unwrap();
    // A newcomer in the queue has the same limit.
    let first = start_newcomer(
        &scene,
        scene.aba(["lock", "--replace", "--grace", GRACE, "job", "--", "true"]).err("ended pid "),
        0,
    );
    call("0.2");
    end_stubborn_holder(&scene, &mut holder);
    first.finish();
}

#[test]
fn options_without_a_clear_meaning_are_refused_with_a_reason() {
    let scene = Scene::new();
    let call = |words: &[&str], reason: &str| {
        scene.aba(["lock", "--replace"]).args(words).args(["--", "true"]).status(2).err(reason).run();
    };
    call(&["-n", "job"], "--replace cannot be used with --nonblock: the end of a holder takes time");
    call(&["job", "other"], "--replace takes one name: the newest caller of one lock can be an earlier one of another");
    call(&["--file=a", "--file=b"], "--replace takes one file: ");
    call(&["-s", "job"], "--shared");
    call(&["--slots=2", "job"], "--slots");
    call(&["--coalesce", "job"], "--coalesce");
    call(&["--priority=high", "job"], "--priority");
    call(&["--server=http://server", "job"], "a lease at a server cannot be taken from its holder");
    scene.aba(["lock", "--grace", "1", "job", "--", "true"]).status(2).err("--replace").run();
}

#[test]
fn a_conflict_has_the_status_and_the_command_of_the_other_conflicts() {
    let scene = Scene::new();
    let mut holder = start_stubborn_holder(&scene);
    let call =
        |options: &[&str]| scene.aba(["lock", "--replace", "--grace", GRACE]).args(options).args(["job", "--", "true"]);
    let first = start_newcomer(&scene, call(&["-E", "9"]).status(9).err("gave up job"), 0);
    let busy = call(&["--on-busy", "echo \"busy $1\"; exit 3"]).status(3).out("busy job\n").err("; running `echo ");
    let second = start_newcomer(&scene, busy, 1);
    let last = start_newcomer(&scene, call(&[]).err(""), 2);
    end_stubborn_holder(&scene, &mut holder);
    first.finish();
    second.finish();
    last.finish();
}

#[test]
fn a_watcher_of_the_maximum_time_replaces_the_holder_and_is_replaced_with_its_command() {
    let scene = Scene::new();
    let mut holder = scene.holder_with(&["--max-time=1h", "job"]);
    let mut next = scene.holder_with(&["--replace", "--max-time=1h", "job"]);
    assert_eq!(holder.wait(), 143);
    let watchers = [&scene.field("job", "locker")].map(|pid| pid.parse().unwrap());
    replace(&scene).args(["echo", "mine"]).out("mine\n").err("ended pid ").run();
    assert_eq!(next.wait(), 143);
    for watcher in watchers {
        wait_until("the watcher has ended", || !is_alive(watcher));
    }
    let held = scene.holder("job");
    let call = scene.aba(["lock", "--replace", "--max-time=0.2", "job", "--", "sleep", "1000"]).status(143);
    call.err("ended pid ").err("held for the maximum time of 0.2s").run();
    drop(held);
}

#[test]
fn no_deadlock_is_reported_as_long_as_the_holder_can_be_ended() {
    let scene = Scene::new();
    // The holder waits for a lock of the newcomer.
    let script = "echo held; exec env -u ABA_LOCK_FDS \"$HELPER\" lock -qw other -- true";
    let replacing = "\"$HELPER\" lock -q --replace job -- echo mine";
    let outer = scene.gate("outer");
    let newcomer =
        scene.aba(["lock", "other", "--", "sh", "-c", &format!("read _ <{outer}; {replacing}")]).out("mine\n").start();
    wait_until("the other lock is held", || scene.lock_file("other").exists() && is_locked(&scene.lock_file("other")));
    let mut holder = scene.aba(["lock", "job", "--", "sh", "-c", script]).hold();
    scene.wait_for_waiter("other");
    outer.open();
    newcomer.finish();
    assert_eq!(holder.wait(), 143);
}

#[test]
fn a_deadlock_with_a_holder_that_is_only_waited_for_is_reported() {
    let scene = Scene::new();
    scene.aba(["lock", "job", "--", "true"]).run();
    // flock(1) starts a command that waits for a lock of the newcomer, which waits for the command.
    let gate = scene.gate("gate");
    let outer = format!("read _ <{gate}; exec \"$HELPER\" lock --replace job -- echo 'not reached'");
    let newcomer = scene.aba(["lock", "other", "--", "sh", "-c", &outer]);
    let newcomer =
        newcomer.status(75).err("this holder is not ended").err("waiting for job would be a deadlock: ").start();
    wait_until("the other lock is held", || scene.lock_file("other").exists() && is_locked(&scene.lock_file("other")));
    let inner = scene.lock_file("other");
    let holder = scene.call("flock").arg(scene.lock_file("job")).arg("flock").arg(inner).arg("true").start();
    scene.wait_for_waiter("other");
    gate.open();
    newcomer.finish();
    holder.finish();
}

#[test]
fn in_a_container_a_script_is_ended_with_the_children_that_inherited_its_lock() {
    let scene = Scene::new();
    // The kernel names no locker there, because the helper of the script has ended.
    let script =
        "exec 200<>\"$(\"$HELPER\" path --create job)\"; \"$HELPER\" lock --fd 200 job; sleep 1000 & echo >ready; wait";
    let inside = format!(
        "mkfifo ready; bash -c {} 2>/dev/null & read _ <ready; \"$HELPER\" lock --replace job -- echo mine",
        shell_words::quote(script)
    );
    let call = scene.in_pid_namespace().args(["--mount-proc", "--", "bash", "-c", &inside]);
    let said = call.current_dir(scene.path("")).out("mine\n").err("ended pid ").run();
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
}

#[test]
fn events_tell_which_holder_was_replaced_by_which_caller() {
    let scene = Scene::new();
    let log = scene.path("log");
    let mut holder = start_stubborn_holder(&scene);
    let options = ["lock", "--replace", "--grace", GRACE, "job", "--"];
    let call = |words: &[&str]| scene.aba(options).args(words).env("ABA_LOCK_LOG", &log);
    let first = start_newcomer(&scene, call(&["true"]).status(75).err("gave up"), 0);
    let last = start_newcomer(&scene, call(&["echo", "last"]).out("last\n").err(""), 1);
    let (first_pid, last_pid) = (first.pid(), last.pid());
    end_stubborn_holder(&scene, &mut holder);
    first.finish();
    last.finish();
    let text = fs::read_to_string(&log).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    let taken = find("taken_over");
    assert_eq!((&taken["pid"], &taken["holder_pid"]), (&first_pid.into(), &holder.pid().into()));
    assert!(taken["holder_command"].as_str().unwrap().starts_with("bash -c "), "{taken}");
    assert_eq!(find("superseded")["pid"], first_pid);
    assert_eq!(find("acquired")["pid"], last_pid);
    scene
        .aba(["metrics", "--log"])
        .arg(&log)
        .out("aba_lock_takeovers_total{lock=\"job\",scope=\"directory\"} 1\n")
        .run();
}
