//! `lock --slots N`: a lock with several holders.

use crate::call::Holder;
use crate::process::{kill, wait_until};
use crate::scene::{HELPER, LIBRARY, Scene};
use crate::time_limit::{AFTER_REPORT, with_enough_time};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;

fn holder(scene: &Scene, slots: &str) -> Holder {
    scene.holder_with(&["--slots", slots, "job"])
}

pub(crate) fn status(scene: &Scene) -> Value {
    scene.aba(["status", "--json", "job"]).json()
}

#[test]
fn each_holder_gets_a_slot_and_one_more_caller_is_refused() {
    let scene = Scene::new();
    let first = holder(&scene, "2");
    scene.aba(["lock", "--slots=2", "job", "--", "sh", "-c", "echo $ABA_LOCK_SLOT"]).out("2\n").run();
    let second = holder(&scene, "2");
    let refused =
        scene.aba(["lock", "--slots", "2", "job", "--", "true"]).status(75).err("aba-lock: job is held by pid ").run();
    assert!(refused.err.contains("; 2 of 2 slots are held\n"), "{}", refused.err);
    first.release();
    scene.aba(["lock", "--slots", "2", "job", "--", "sh", "-c", "echo $ABA_LOCK_SLOT"]).out("1\n").run();
    second.release();
    scene.aba(["lock", "job", "--", "sh", "-c", "echo ${ABA_LOCK_SLOT-none}"]).out("none\n").run();
}

#[test]
fn a_slot_costs_two_system_calls_more_than_an_exclusive_lock_if_none_is_held() {
    let scene = Scene::new();
    let count = |args: &[&str]| {
        let (status, said) = scene.trace_helper(&["-e", "trace=fcntl,flock"], args, "");
        assert_eq!((status, said.as_str()), (Some(0), ""));
        fs::read_to_string(scene.path("trace"))
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("flock(") || line.contains("LK"))
            .count()
    };
    let exclusive = count(&["lock", "job", "--", "true"]);
    let shared = count(&["lock", "--shared", "job", "--", "true"]);
    assert_eq!((exclusive, shared, count(&["lock", "--slots", "3", "job", "--", "true"])), (1, 2, 3));
}

#[test]
fn a_caller_is_not_refused_because_another_one_takes_a_slot_in_the_same_instant() {
    let scene = Scene::new();
    scene.aba(["lock", "--slots", "2", "job", "--", "true"]).run();
    let gate = scene.gate("gate");
    // It holds slot 1, and not yet the lock, during this time.
    let slow = scene.strace(["-e", "trace=flock", "-e", "inject=flock:delay_enter=50000"]);
    let command = format!("read _ <{gate}");
    let slow = slow.args([HELPER, "lock", "--slots", "2", "job", "--", "sh", "-c", &command]).start();
    let inode = fs::metadata(scene.lock_file("job")).unwrap().ino();
    let is_locked = |line: &str| line.contains("OFDLCK") && line.contains(&format!(":{inode} "));
    wait_until("it has locked the bytes", || fs::read_to_string("/proc/locks").unwrap().lines().any(is_locked));
    scene.aba(["lock", "--slots", "2", "job", "--", "sh", "-c", "echo $ABA_LOCK_SLOT"]).out("2\n").run();
    gate.open();
    slow.finish();
}

#[test]
fn a_call_with_another_number_is_refused_until_the_lock_is_free() {
    let scene = Scene::new();
    let first = holder(&scene, "2");
    let said = "aba-lock: job is held with --slots 2, so --slots 3 is refused\nhint: use --slots 2, or end all ";
    scene.aba(["lock", "--slots", "3", "job", "--", "true"]).status(75).err(said).run();
    // A waiter is refused at its turn.
    scene.aba(["lock", "--slots", "3", "-w", "job", "--", "true"]).status(75).err(said).run();
    first.release();
    let other = holder(&scene, "1");
    let waiter = scene.aba(["lock", "--slots", "2", "-w", "job", "--", "true"]).status(75).err("").start();
    assert!(waiter.finish().err.contains("held with --slots 1, so --slots 2 is refused"));
    other.release();
}

#[test]
fn status_says_that_a_caller_waits_for_a_slot() {
    let scene = Scene::new();
    let first = holder(&scene, "1");
    let waiter = scene.aba(["lock", "--slots", "1", "-qw", "job", "--", "true"]).start();
    scene.wait_for_waiter("job");
    let said = scene.aba(["status", "job"]).out("waits: pid ").run().out;
    assert!(said.contains(" true, for a slot, for ") && !said.contains("for a shared lock"), "{said}");
    first.release();
    waiter.finish();
}

#[test]
fn a_call_without_slots_waits_for_all_of_them() {
    let scene = Scene::new();
    let (first, second) = (holder(&scene, "2"), holder(&scene, "2"));
    scene.aba(["lock", "job", "--", "true"]).status(75).err("aba-lock: job is held by pid ").run();
    let whole = scene.aba(["lock", "-w", "job", "--", "true"]).err("").start();
    scene.wait_for_waiter("job");
    first.release();
    second.release();
    whole.finish();
    let whole = scene.holder("job");
    scene.aba(["lock", "--slots", "2", "job", "--", "true"]).status(75).err("aba-lock: job is already running: ").run();
    whole.release();
}

#[test]
fn waiters_get_slots_in_the_order_in_which_they_came() {
    let scene = Scene::new();
    let mut holders = vec![holder(&scene, "3"), holder(&scene, "3"), holder(&scene, "3")];
    let mut waiters = Vec::new();
    for number in 1..=4 {
        let command = format!("echo {number} >>order; read _ <gate");
        let call = scene.aba(["lock", "--slots", "3", "-w", "job", "--", "sh", "-c", &command]);
        waiters.push(call.current_dir(scene.path("")).err("").start());
        scene.wait_for_waiters("job", number);
    }
    let gate = scene.gate("gate");
    let listed = status(&scene);
    let pids: Vec<u32> = waiters.iter().map(crate::call::RunningCall::pid).collect();
    let queue =
        listed["waiters"].as_array().unwrap().iter().map(|it| u32::try_from(it["pid"].as_u64().unwrap()).unwrap());
    assert_eq!(queue.collect::<Vec<_>>(), pids);
    assert_eq!(listed["holders"].as_array().unwrap().len(), 3);
    let entered = || fs::read_to_string(scene.path("order")).unwrap_or_default();
    // Any of the slots, not only the first one.
    for expected in ["1\n", "1\n2\n", "1\n2\n3\n"] {
        holders.pop().unwrap().release();
        wait_until("the next waiter runs", || entered() == expected);
    }
    gate.open();
    wait_until("the last waiter runs", || entered() == "1\n2\n3\n4\n");
    (0..3).for_each(|_| gate.open());
    for waiter in waiters {
        waiter.finish();
    }
}

#[test]
fn a_wait_for_a_slot_has_a_limit_and_its_end_leaves_nothing_locked() {
    let scene = Scene::new();
    let held = holder(&scene, "1");
    let said = "aba-lock: waiting for job, held by pid ";
    let (_, limit) = AFTER_REPORT;
    let waited = scene.aba(["lock", "--slots", "1", "-t", limit, "job", "--", "true"]).status(124).err(said).run();
    let late = format!("timed out after {limit} s waiting for job, held by pid ");
    assert!(waited.err.contains(&late), "{}", waited.err);
    // The first one of the queue is killed.
    let first = scene.aba(["lock", "--slots", "1", "-qw", "job", "--", "true"]).status(137).start();
    scene.wait_for_waiters("job", 1);
    let second = scene.aba(["lock", "--slots", "1", "-qw", "job", "--", "true"]).start();
    scene.wait_for_waiters("job", 2);
    kill(first.pid(), libc::SIGKILL);
    first.finish();
    scene.wait_for_waiters("job", 1);
    held.release();
    second.finish();
    scene.holder("job").release();
}

#[test]
fn slots_of_a_file_are_those_of_its_lock() {
    let scene = Scene::new();
    fs::write(scene.path("data"), "text").unwrap();
    let path = scene.path("data").display().to_string();
    let held = scene.holder_with(&["--slots", "1", "--file", &path]);
    scene
        .aba(["lock", "--slots", "1", "--file", &path, "--", "true"])
        .status(75)
        .err(format!("aba-lock: {path} is held by "))
        .run();
    scene.aba(["lock", "--slots", "2", "--file", &path, "--", "true"]).status(75).err("so --slots 2 is refused").run();
    held.release();
    assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    fs::create_dir(scene.path("directory")).unwrap();
    let path = scene.path("directory").display().to_string();
    let said = format!("aba-lock: cannot lock {path} with --slots: the file is not open for writing\n");
    scene.aba(["lock", "--slots", "2", "--file", &path, "--", "true"]).status(125).err(said).run();
}

#[test]
fn options_that_slots_exclude_are_wrong_usage() {
    let scene = Scene::new();
    for options in [&["--shared"][..], &["--exclusive"], &["other"]] {
        scene.aba(["lock", "--slots", "2", "job"]).args(options).args(["--", "true"]).status(2).err("slots").run();
    }
    for number in ["0", "1025", "x"] {
        scene.aba(["lock", "--slots", number, "job", "--", "true"]).status(2).err("--slots").run();
    }
}

#[test]
fn the_state_of_a_lock_with_slots_names_the_slot_of_each_holder() {
    let scene = Scene::new();
    let (first, second) = (holder(&scene, "3"), holder(&scene, "3"));
    let json = status(&scene);
    assert_eq!((&json["mode"], &json["slots"]), (&"shared".into(), &3.into()));
    let slots: Vec<_> =
        json["holders"].as_array().unwrap().iter().map(|holder| (&holder["pid"], &holder["slot"])).collect();
    assert_eq!(slots, [(&first.pid().into(), &1.into()), (&second.pid().into(), &2.into())]);
    let text = scene.aba(["status", "job"]).out("").run().out;
    assert!(text.starts_with("job: held, 2 of 3 slots, for ") && text.contains(", slot 2\n"), "{text}");
    assert!(scene.aba(["list"]).out("").run().out.contains("\njob   2 of 3 "));
    // `clean` leaves the file.
    scene.aba(["clean"]).out("").run();
    assert!(scene.lock_file("job").exists());
    first.release();
    second.release();
}

#[test]
fn the_slots_of_a_process_that_holds_several_are_all_counted() {
    let scene = Scene::new();
    let outer = ["lock", "--slots", "2", "job", "--"];
    // A program such as env or sudo removes the variable that says which descriptors hold a lock, and may not look into its caller.
    let inner = format!("exec \"$HELPER\" lock --slots 2 job -- {}", "sh -c 'echo $ABA_LOCK_SLOT; read _; exit 0'");
    let held = scene.aba(outer).args(["sh", "-c", &format!("unset ABA_LOCK_FDS; {inner}")]);
    let held = held.env("HELPER", HELPER).hold();
    let refused = scene.aba(outer).arg("true").status(75).err("; 2 of 2 slots are held\n").run();
    assert!(!refused.err.contains("more"), "{}", refused.err);
    let json = status(&scene);
    assert_eq!((json["holders"].as_array().unwrap().len(), &json["slots"]), (1, &2.into()));
    assert!(scene.aba(["list"]).out("").run().out.contains("\njob   2 of 2 "));
    let killed = scene.aba(["unlock", "--kill", "job"]).err("ended pid ").run();
    assert_eq!(killed.err.lines().count(), 1, "{}", killed.err);
    drop(held);
}

#[test]
fn the_event_log_has_the_slot() {
    let scene = Scene::new();
    let log = scene.path("log");
    scene.aba(["lock", "--slots", "2", "job", "--", "true"]).env("ABA_LOCK_LOG", &log).run();
    let line: Value = serde_json::from_str(fs::read_to_string(log).unwrap().lines().next().unwrap()).unwrap();
    assert_eq!((&line["event"], &line["slot"], &line["slots"]), (&"acquired".into(), &1.into(), &2.into()));
}

#[test]
fn holders_of_all_slots_that_wait_for_each_other_are_a_deadlock() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let other = scene.bash_with_library(&format!(
        "aba_lock_operation b; echo has b >&2; read _ <{gate}; aba_lock_operation --slots 1 -w job"
    ));
    let other = other.status(1).err("").start();
    other.wait_for_error("has b");
    let one = scene
        .bash_with_library("aba_lock_operation --slots 1 job; echo has job >&2; aba_lock_operation -w b")
        .err("")
        .start();
    one.wait_for_error("has job");
    scene.wait_for_waiter("b");
    gate.open();
    let said = other.finish().err;
    assert!(said.contains("aba-lock: waiting for job would be a deadlock: "), "{said}");
    // One call cannot acquire a slot together with another lock.
    assert!(said.ends_with("\nhint: acquire these locks in the same order everywhere\n"), "{said}");
    one.finish();
}

#[test]
fn a_waiter_waits_while_one_holder_of_a_slot_can_go_on() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let free = scene.holder_with(&["--slots", "2", "job"]);
    let other = scene.bash_with_library(&format!(
        "aba_lock_operation b; echo has b >&2; read _ <{gate}; aba_lock_operation --slots 2 -w job; echo slot $ABA_LOCK_SLOT >&2"
    ));
    let other = other.err("").start();
    other.wait_for_error("has b");
    let one = scene
        .bash_with_library("aba_lock_operation --slots 2 job; echo has job >&2; aba_lock_operation -w b")
        .err("")
        .start();
    one.wait_for_error("has job");
    scene.wait_for_waiter("b");
    gate.open();
    crate::deadlock::wait_for_look_at(&scene, "job");
    free.release();
    assert!(other.finish().err.contains("slot 1"));
    one.finish();
}

#[test]
fn the_shell_library_sets_and_restores_the_number_of_the_slot() {
    let scene = Scene::new();
    let held = holder(&scene, "3");
    scene
        .bash(&format!(
            r#"
            source '{LIBRARY}'
            aba_lock_operation --slots 3 job
            bash -c 'echo "$ABA_LOCK_SLOT"'
            aba_lock_operation --slots=2 other
            echo "$ABA_LOCK_SLOT"
            aba_unlock_operation other
            echo "$ABA_LOCK_SLOT"
            aba_unlock_operation
            echo "${{ABA_LOCK_SLOT-none}}"
            "$HELPER" lock --slots 3 job -- sh -c 'echo $ABA_LOCK_SLOT'
            "#
        ))
        .env("ABA_LOCK_BIN", HELPER)
        .out("2\n1\n2\nnone\n2\n")
        .run();
    held.release();
}

#[test]
fn a_holder_of_a_slot_is_ended_after_its_maximum_time_and_the_others_are_not() {
    let scene = Scene::new();
    let held = holder(&scene, "2");
    let script = "echo slot $ABA_LOCK_SLOT; read _ <gate";
    let gate = scene.gate("gate");
    with_enough_time(|limit| {
        let call = scene.aba(["lock", "-w", "--slots", "2", "--max-time", limit, "job", "--", "sh", "-c", script]);
        let call = call.current_dir(scene.path("")).status(143).err(format!("held for the maximum time of {limit}s"));
        let said = call.out("").run().out;
        assert!(said.is_empty() || said == "slot 2\n", "{said}");
        !said.is_empty()
    });
    drop(gate);
    assert_eq!(held.release(), 0);
}

#[test]
fn a_slot_is_handed_over_without_a_pause() {
    let scene = Scene::new();
    let _holders = [holder(&scene, "3"), holder(&scene, "3")];
    let third = holder(&scene, "3");
    let options = ["-f", "-qq", "-e", "trace=nanosleep,clock_nanosleep", "-e", "signal=none", "-o"];
    let waiter = scene.call("strace").args(options).arg(scene.path("trace"));
    let waiter = waiter.args([HELPER, "lock", "-qw", "--slots", "3", "job", "--", "true"]).start();
    let inode = fs::metadata(scene.lock_file("job")).unwrap().ino();
    let waits = |line: &&str| line.contains("->") && line.contains(&format!(":{inode} "));
    let count_waits = || fs::read_to_string("/proc/locks").unwrap().lines().filter(waits).count();
    wait_until("it waits for each slot", || count_waits() == 3);
    third.release();
    waiter.finish();
    assert_eq!(fs::read_to_string(scene.path("trace")).unwrap(), "");
}
