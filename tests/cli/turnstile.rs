//! Shared and exclusive waiters: overlapping shared holders do not keep an exclusive one out.

use crate::call::{Holder, RunningCall, finish_all};
use crate::deadlock::{call_script, wait_for_look};
use crate::process::{kill, set_mode, wait_until, waiter_pids};
use crate::scene::{HELPER, Scene};
use crate::time_limit::AFTER_REPORT;
use std::fs;

fn reader(scene: &Scene) -> Holder {
    scene.holder_with(&["-s", "job"])
}

/// A waiter that appends a word to the file `order` when it is granted the lock. It is the last of `number` waiters.
fn waiter(scene: &Scene, options: &[&str], word: &str, number: usize) -> RunningCall {
    let command = format!("echo {word} >>order");
    let call = scene.aba(["lock", "-w"]).args(options).args(["job", "--", "sh", "-c", &command]);
    let started = call.current_dir(scene.path("")).err("").start();
    scene.wait_for_waiters("job", number);
    started
}

/// The modes of the waiters, in their order.
fn modes(scene: &Scene) -> Vec<String> {
    let status = scene.aba(["status", "--json", "job"]).json();
    let waiters = status["waiters"].as_array().unwrap();
    waiters.iter().map(|waiter| waiter["mode"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_writer_is_not_starved_by_overlapping_readers() {
    let scene = Scene::new();
    let holder = reader(&scene);
    let writer = waiter(&scene, &[], "writer", 1);
    // Without the turnstile, each of these readers would be granted the lock at once.
    let readers: Vec<RunningCall> = (2..6).map(|number| waiter(&scene, &["-s"], "reader", number)).collect();
    assert_eq!(scene.order(), "");
    holder.release();
    writer.finish();
    finish_all(readers);
    assert_eq!(scene.order(), "writer reader reader reader reader ");
}

#[test]
fn readers_run_together_after_a_writer() {
    let scene = Scene::new();
    let holder = reader(&scene);
    let writer = waiter(&scene, &[], "writer", 1);
    let gate = scene.gate("gate");
    let command = format!("echo reader >>order; read _ <{gate}");
    let start = |number: usize| {
        let call = scene.aba(["lock", "-qw", "-s", "job", "--", "sh", "-c", &command]);
        let started = call.current_dir(scene.path("")).start();
        scene.wait_for_waiters("job", number);
        started
    };
    let readers = [start(2), start(3), start(4)];
    holder.release();
    wait_until("all readers run", || scene.order() == "writer reader reader reader ");
    writer.finish();
    for _ in &readers {
        gate.open();
    }
    finish_all(readers);
}

#[test]
fn waiters_are_listed_and_served_in_order() {
    let scene = Scene::new();
    let holder = reader(&scene);
    let calls = [
        waiter(&scene, &[], "one", 1),
        waiter(&scene, &["-s"], "two", 2),
        waiter(&scene, &[], "three", 3),
        waiter(&scene, &["-s"], "four", 4),
    ];
    assert_eq!(modes(&scene), ["exclusive", "shared", "exclusive", "shared"]);
    let said = scene.aba(["lock", "-n", "job", "--", "true"]).status(75).err("aba-lock: job is held by pid ").run();
    assert!(said.err.contains(" waits for an exclusive lock\n"), "{}", said.err);
    holder.release();
    finish_all(calls);
    assert_eq!(scene.order(), "one two three four ");
}

#[test]
fn a_shared_call_that_does_not_wait_is_refused_while_a_writer_waits() {
    let scene = Scene::new();
    let holder = reader(&scene);
    scene.aba(["lock", "-s", "-n", "job", "--", "true"]).run();
    let writer = waiter(&scene, &[], "writer", 1);
    let refused =
        scene.aba(["lock", "-s", "-n", "job", "--", "true"]).status(75).err("aba-lock: job is held by ").run();
    let writing = format!("; pid {} (", writer.pid());
    assert!(
        refused.err.contains(&writing) && refused.err.contains(") waits for an exclusive lock\n"),
        "{}",
        refused.err
    );
    let (_, limit) = AFTER_REPORT;
    let late = scene.aba(["lock", "-s", "-t", limit, "job", "--", "true"]).status(124).err("aba-lock: waiting for job");
    late.err(format!("aba-lock: timed out after {limit} s waiting for job, held by pid ")).run();
    holder.release();
    writer.finish();
    scene.aba(["lock", "-s", "-n", "job", "--", "true"]).run();
}

#[test]
fn a_reader_below_a_holder_passes_a_writer_that_waits_for_that_holder() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let nested = format!(r#"echo held >&2; read _ <{gate}; "$HELPER" lock -s -w job -- echo nested"#);
    // The descriptor of the lock is closed, and its number is not known, so the inner call asks for a lock of its own.
    let outer = r#"exec 9<>"$("$HELPER" path --create job)"; "$HELPER" lock -s --fd 9 job; (exec 9>&-; "#;
    let outer = scene.bash(&format!("{outer}{nested}); :")).out("nested\n").err("held\n").start();
    outer.wait_for_error("held");
    let writer = waiter(&scene, &[], "writer", 1);
    gate.open();
    outer.finish();
    writer.finish();
}

#[test]
fn a_deadlock_through_the_turnstile_is_found() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let script = |own: &str, gate: &crate::scene::Gate, next: &str| {
        format!("aba_lock_operation {own}; say has {own}; read _ <{gate}; aba_lock_operation {next}")
    };
    // One holds `job` shared and waits for `other`. Without the writer, the second one would get `job` at once.
    let one = call_script(&scene, &script("--shared job", &first, "-w other")).err("has --shared job\n").start();
    one.wait_for_error("has --shared job");
    let two = call_script(&scene, &script("other", &second, "-w --shared job")).status(1).err("has other\n").start();
    two.wait_for_error("has other");
    let writer = waiter(&scene, &[], "writer", 1);
    first.open();
    wait_until("the first one waits", || waiter_pids(&scene.lock_file("other")).len() == 1);
    second.open();
    let said = two.finish().err;
    assert!(said.contains("aba-lock: waiting for job would be a deadlock: pid "), "{said}");
    one.finish();
    writer.finish();
}

#[test]
fn waiters_that_are_killed_at_each_place_let_the_others_pass() {
    let scene = Scene::new();
    for victim in 0..4 {
        let holder = reader(&scene);
        let modes: [&[&str]; 4] = [&[], &["-s"], &[], &["-s"]];
        let calls: Vec<RunningCall> = (0..4)
            .map(|at| {
                let word = if at == victim { "killed" } else { "runs" };
                let command = format!("echo {word} >>order");
                let call = scene.aba(["lock", "-w"]).args(modes[at]).args(["job", "--", "sh", "-c", &command]);
                let call = call.status(if at == victim { 137 } else { 0 }).err("");
                let started = call.current_dir(scene.path("")).start();
                scene.wait_for_waiters("job", at + 1);
                started
            })
            .collect();
        kill(calls[victim].pid(), libc::SIGKILL);
        // After the first one, which is a writer, a reader runs at once.
        scene.wait_for_waiters("job", if victim == 0 { 2 } else { 3 });
        holder.release();
        finish_all(calls);
        assert_eq!(scene.order(), "runs runs runs ", "victim {victim}");
        fs::remove_file(scene.path("order")).unwrap();
    }
}

#[test]
fn a_search_for_deadlocks_does_not_lose_the_place_of_a_waiter() {
    let scene = Scene::new();
    let holder = reader(&scene);
    let writer = waiter(&scene, &[], "writer", 1);
    // The second thread reads the record, and closes the file: that must not release the mark.
    wait_for_look(writer.pid());
    scene.aba(["lock", "-s", "-n", "job", "--", "true"]).status(75).err("waits for an exclusive lock").run();
    let second = waiter(&scene, &["-s"], "reader", 2);
    wait_for_look(second.pid());
    let third = waiter(&scene, &[], "last", 3);
    assert_eq!(modes(&scene), ["exclusive", "shared", "exclusive"]);
    holder.release();
    finish_all([writer, second, third]);
    assert_eq!(scene.order(), "writer reader last ");
}

#[test]
fn flock_callers_of_the_same_file_pass_and_leave_the_exclusion_intact() {
    let scene = Scene::new();
    let holder = reader(&scene);
    let writer = waiter(&scene, &[], "writer", 1);
    let file = scene.lock_file("job");
    scene.call("flock").args(["-s", "-n"]).arg(&file).args(["true"]).run();
    scene.call("flock").args(["-n"]).arg(&file).args(["true"]).status(1).run();
    // An exclusive flock(1) waits in one queue with the writer.
    let plain = scene.call("flock").arg(&file).args(["sh", "-c", "echo plain >>order"]).current_dir(scene.path(""));
    let plain = plain.start();
    scene.wait_for_waiters("job", 2);
    let last = waiter(&scene, &[], "last", 3);
    holder.release();
    writer.finish();
    plain.finish();
    last.finish();
    assert_eq!(scene.order(), "writer plain last ");
}

#[test]
fn a_descriptor_for_writing_only_or_for_reading_only_waits_in_order_too() {
    let scene = Scene::new();
    scene.aba(["lock", "job", "--", "true"]).run();
    for open in [">>", "<"] {
        let holder = reader(&scene);
        let script = |mode: &str, word: &str| {
            format!(
                r#"exec 9{open}"$("$HELPER" path job)"; "$HELPER" lock {mode} -qw --fd 9 job && echo {word} >>order"#
            )
        };
        let mut calls = Vec::new();
        for (at, (mode, word)) in [("-x", "writer"), ("-s", "reader"), ("-x", "last")].into_iter().enumerate() {
            calls.push(scene.bash_here(&script(mode, word)).start());
            scene.wait_for_waiters("job", at + 1);
        }
        holder.release();
        finish_all(calls);
        assert_eq!(scene.order(), "writer reader last ", "{open}");
        fs::remove_file(scene.path("order")).unwrap();
    }
}

#[test]
fn a_reader_that_may_not_write_to_the_file_passes_the_writer() {
    let scene = Scene::new();
    let file = scene.path("data");
    fs::write(&file, "text").unwrap();
    set_mode(&file, 0o444);
    let path = file.display().to_string();
    let holder = scene.holder_with(&["-s", "--file", &path]);
    let writer = scene.aba(["lock", "-qw", "--file", &path, "--", "true"]).start();
    wait_until("the writer waits", || waiter_pids(&file).len() == 1);
    // It looks, and waits for the lock without the turnstile, which it cannot take. So it is granted at once.
    scene.unprivileged().args(["lock", "-s", "-t", "20", "--file", &path, "--", "true"]).run();
    holder.release();
    writer.finish();
}

#[test]
fn an_uncontended_call_makes_no_system_call_for_the_order_and_a_shared_one_makes_one() {
    let scene = Scene::new();
    scene.aba(["lock", "job", "--", "true"]).run();
    let count = |options: &[&str]| {
        let args = [&["lock"][..], options, &["job", "--", "true"]].concat();
        scene.trace_helper(&["-e", "trace=fcntl,flock,/statfs"], &args, "");
        let trace = fs::read_to_string(scene.path("trace")).unwrap();
        trace.lines().filter(|line| line.contains("LCK") || line.contains("LK") || line.contains("LOCK_")).count()
    };
    assert_eq!((count(&[]), count(&["-w"]), count(&["-s"])), (1, 1, 2), "{HELPER}");
}

#[test]
fn a_writer_is_not_starved_by_overlapping_holders_of_slots() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--slots", "2", "job"]);
    let writer = waiter(&scene, &[], "writer", 1);
    let refused = scene.aba(["lock", "--slots", "2", "-n", "job", "--", "true"]).status(75).err("").run();
    assert!(refused.err.contains("waits for an exclusive lock\n"), "{}", refused.err);
    // One slot is free. Without the look at the mark, these callers would be granted it at once.
    let slots: Vec<RunningCall> = (2..5).map(|number| waiter(&scene, &["--slots", "2"], "slot", number)).collect();
    let second = waiter(&scene, &[], "second", 5);
    assert_eq!(scene.order(), "");
    holder.release();
    writer.finish();
    finish_all(slots);
    second.finish();
    assert!(scene.order().starts_with("writer slot "), "{}", scene.order());
}

#[test]
fn a_slot_below_a_holder_passes_a_writer_that_waits_for_that_holder() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let nested = format!(r#"echo held >&2; read _ <{gate}; "$HELPER" lock --slots 3 -w job -- echo nested"#);
    // The descriptor of the lock is closed, and its number is not known, so the inner call asks for a slot of its own.
    let outer = r#"exec 9<>"$("$HELPER" path --create job)"; "$HELPER" lock --slots 3 --fd 9 job; (exec 9>&-; "#;
    let outer = scene.bash(&format!("{outer}{nested}); :")).out("nested\n").err("held\n").start();
    outer.wait_for_error("held");
    let writer = waiter(&scene, &[], "writer", 1);
    // It holds the turnstile of the slots.
    let other = waiter(&scene, &["--slots", "3"], "slot", 2);
    gate.open();
    outer.finish();
    writer.finish();
    other.finish();
    assert_eq!(scene.order(), "writer slot ");
}
