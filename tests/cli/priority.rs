//! `lock --priority`: waiters with a higher level get the lock first.

use crate::call::{RunningCall, finish_all};
use crate::deadlock::call_script;
use crate::process::{kill, wait_until, waiter_pids};
use crate::scene::{HELPER, Scene};
use std::fs;

/// A call that waits with these options. It appends a word to the file `order` when it is granted the lock.
fn start(scene: &Scene, options: &[&str], word: &str) -> RunningCall {
    let command = format!("echo {word} >>order");
    let call = scene.aba(["lock", "-qw"]).args(options).args(["job", "--", "sh", "-c", &command]);
    call.current_dir(scene.path("")).start()
}

/// A waiter that is the last of `number`.
fn waiter(scene: &Scene, options: &[&str], word: &str, number: usize) -> RunningCall {
    let started = start(scene, options, word);
    scene.wait_for_waiters("job", number);
    started
}

/// The only waiter. While it is stopped, it keeps its want, and does not take the lock.
fn stopped_high_waiter(scene: &Scene) -> RunningCall {
    let high = waiter(scene, HIGH, "high", 1);
    kill(high.pid(), libc::SIGSTOP);
    wait_until("it is stopped", || waiter_pids(&scene.lock_file("job")).is_empty());
    high
}

const LOW: &[&str] = &["--priority", "low"];
const NORMAL: &[&str] = &["--priority=normal"];
const HIGH: &[&str] = &["--priority", "high"];

#[test]
fn waiters_with_a_higher_priority_come_first() {
    let scene = Scene::new();
    let holder = scene.holder("job");
    let calls = [
        waiter(&scene, LOW, "low1", 1),
        waiter(&scene, LOW, "low2", 2),
        waiter(&scene, &[], "plain", 3),
        waiter(&scene, NORMAL, "normal", 4),
        waiter(&scene, HIGH, "high1", 5),
        waiter(&scene, HIGH, "high2", 6),
        waiter(&scene, LOW, "low3", 7),
    ];
    let status = scene.aba(["status", "--json", "job"]).json();
    let listed: Vec<(u64, &str)> = status["waiters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|waiter| (waiter["pid"].as_u64().unwrap(), waiter["priority"].as_str().unwrap()))
        .collect();
    let expected = [(4, "high"), (5, "high"), (2, "normal"), (3, "normal"), (0, "low"), (1, "low"), (6, "low")];
    let expected: Vec<(u64, &str)> =
        expected.into_iter().map(|(at, level): (usize, &str)| (u64::from(calls[at].pid()), level)).collect();
    assert_eq!(listed, expected);
    let shown = scene.aba(["status", "job"]).out(", with high priority, for ").run();
    assert!(shown.out.contains(", with low priority, for "), "{}", shown.out);
    holder.release();
    finish_all(calls);
    // Those with the level normal let the others pass, and can then change places.
    let order = scene.order().replace("normal plain", "plain normal");
    assert_eq!(order, "high1 high2 plain normal low1 low2 low3 ");
}

/// Each caller with `high` arrives while one with `low` runs and the others wait. Returns the order of the grants.
fn run_low_and_high(scene: &Scene, low: usize, high: usize) -> String {
    let holder = scene.holder("job");
    let gate = scene.gate("gate");
    let command = format!("echo low >>order; read _ <{gate}");
    let mut calls: Vec<RunningCall> = (0..low)
        .map(|_| {
            let call = scene.aba(["lock", "-qw", "--priority", "low", "job", "--", "sh", "-c", &command]);
            call.current_dir(scene.path("")).start()
        })
        .collect();
    scene.wait_for_waiters("job", low);
    holder.release();
    for number in 0..high {
        let served = number + 1;
        wait_until("the next one with low runs", || scene.order().matches("low").count() == served);
        calls.push(waiter(scene, HIGH, "high", low - served + 1));
        gate.open();
    }
    for _ in high..low {
        gate.open();
    }
    finish_all(calls);
    scene.order()
}

#[test]
fn each_caller_with_high_is_served_before_all_waiters_with_low() {
    let scene = Scene::new();
    let (low, high) = match std::env::var("ABA_LOCK_TEST_FULL") {
        Ok(_) => (100, 10),
        Err(_) => (12, 4),
    };
    let expected = "low high ".repeat(high) + &"low ".repeat(low - high);
    assert_eq!(run_low_and_high(&scene, low, high), expected);
}

#[test]
fn a_call_with_a_level_looks_at_higher_waiters_even_if_the_lock_is_free() {
    let scene = Scene::new();
    let holder = scene.holder("job");
    let high = stopped_high_waiter(&scene);
    holder.release();
    for level in ["low", "normal"] {
        scene.aba(["lock", "-n", "--priority", level, "job", "--", "true"]).status(75).err("aba-lock: job ").run();
        let late = scene.aba(["lock", "-q", "-t", "0.2", "--priority", level, "job", "--", "true"]).status(124);
        late.err("").run();
    }
    scene.aba(["lock", "-n", "-s", "job", "--", "true"]).status(75).err("aba-lock: job ").run();
    // A call without a level looks at no waiter if the lock is free.
    scene.aba(["lock", "-n", "job", "--", "true"]).run();
    scene.aba(["lock", "-n", "--priority", "high", "job", "--", "true"]).run();
    let low = start(&scene, LOW, "low");
    scene.wait_for_waiters("job", 1);
    kill(high.pid(), libc::SIGCONT);
    finish_all([high, low]);
    assert_eq!(scene.order(), "high low ");
}

#[test]
fn status_shows_the_mode_of_waiters_that_let_a_higher_one_pass() {
    let scene = Scene::new();
    let holder = scene.holder("job");
    let high = stopped_high_waiter(&scene);
    holder.release();
    let normal = waiter(&scene, NORMAL, "normal", 1);
    let shared = waiter(&scene, &["--shared", "--priority", "low"], "low", 2);
    let modes = || {
        let status = scene.aba(["status", "--json", "job"]).status(1).json();
        let waiters = status["waiters"].as_array().unwrap().clone();
        let mode = |waiter: &serde_json::Value| format!("{} {}", waiter["priority"], waiter["mode"]).replace('"', "");
        waiters.iter().map(mode).collect::<Vec<String>>()
    };
    assert_eq!(modes(), ["high exclusive", "normal exclusive", "low shared"]);
    kill(high.pid(), libc::SIGCONT);
    finish_all([high, normal, shared]);
    assert_eq!(scene.order(), "high normal low ");
}

#[test]
fn shared_callers_have_levels_too() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["-s", "job"]);
    let calls = [
        waiter(&scene, &["--priority=low"], "low-writer", 1),
        waiter(&scene, &["--priority=low", "-s"], "low-reader", 2),
        waiter(&scene, &[], "writer", 3),
        waiter(&scene, &["-s"], "reader", 4),
        waiter(&scene, &["--priority=high"], "high-writer", 5),
        waiter(&scene, &["--priority=high", "-s"], "high-reader", 6),
    ];
    // No exclusive caller of its level waits before it, and the holder shares the lock.
    let other = scene.aba(["lock", "-n", "-s", "other", "--", "true"]);
    other.run();
    for level in ["low", "normal", "high"] {
        let refused = scene.aba(["lock", "-n", "-s", "--priority", level, "job", "--", "true"]).status(75);
        refused.err(" waits for an exclusive lock\n").run();
    }
    holder.release();
    finish_all(calls);
    assert_eq!(scene.order(), "high-writer high-reader writer reader low-writer low-reader ");
}

#[test]
fn a_reader_with_a_higher_level_passes_a_writer_with_a_lower_one() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["-s", "job"]);
    let calls = [waiter(&scene, LOW, "low", 1), waiter(&scene, &[], "writer", 2)];
    scene.aba(["lock", "-n", "-s", "--priority", "high", "job", "--", "true"]).run();
    scene.aba(["lock", "-n", "-s", "job", "--", "true"]).status(75).err("waits for an exclusive lock").run();
    holder.release();
    finish_all(calls);
    assert_eq!(scene.order(), "writer low ");
}

#[test]
fn files_several_names_and_descriptors_have_priorities() {
    let scene = Scene::new();
    fs::write(scene.path("data"), "text").unwrap();
    let path = scene.path("data").display().to_string();
    let held = scene.holder_with(&["--file", &path]);
    let begin = |level: &str, number: usize| {
        let command = format!("echo {level} >>order");
        let call = scene.aba(["lock", "-qw", "--priority", level, "--file", &path, "--", "sh", "-c", &command]);
        let started = call.current_dir(scene.path("")).start();
        wait_until("it waits", || waiter_pids(&scene.path("data")).len() == number);
        started
    };
    let calls = [begin("low", 1), begin("high", 2)];
    held.release();
    finish_all(calls);
    assert_eq!(scene.order(), "high low ");
    fs::remove_file(scene.path("order")).unwrap();

    // `a` is held by the caller with low while it waits for `job`.
    let holder = scene.holder("job");
    let low = waiter(&scene, &["--priority=low", "a"], "low", 1);
    let script =
        r#"exec 9<>"$("$HELPER" path job)"; "$HELPER" lock -qw --priority high --fd 9 job && echo high >>order"#;
    let high = scene.bash_here(script).start();
    scene.wait_for_waiters("job", 2);
    scene.aba(["lock", "-q", "a", "--", "true"]).status(75).run();
    holder.release();
    finish_all([low, high]);
    assert_eq!(scene.order(), "high low ");
}

#[test]
fn a_deadlock_through_the_turnstile_of_low_is_found() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let script = |own: &str, gate: &crate::scene::Gate, next: &str| {
        format!(
            r#"aba_lock_operation {own}; say has {own}; read _ <{gate}; "$HELPER" lock -w --priority low {next} -- true; say end"#
        )
    };
    let one = call_script(&scene, &script("a", &first, "b")).err("has a\n").start();
    one.wait_for_error("has a");
    let other = call_script(&scene, &script("b", &second, "a")).err("has b\n").start();
    other.wait_for_error("has b");
    // It is at the turnstile, and the next one waits for that.
    let head = scene.aba(["lock", "-qw", "--priority", "low", "b", "--", "true"]).start();
    scene.wait_for_waiters("b", 1);
    first.open();
    scene.wait_for_waiters("b", 2);
    second.open();
    let said = other.finish().err;
    assert!(said.contains("aba-lock: waiting for a would be a deadlock: pid "), "{said}");
    one.finish();
    head.finish();
}

#[test]
fn waiters_that_are_killed_at_any_step_let_the_others_pass() {
    let scene = Scene::new();
    for options in [LOW, NORMAL, HIGH, &["-s", "--priority=low"], &["-s", "--priority=normal"]] {
        // The first calls of fcntl(2) copy descriptors.
        for when in 1..=9 {
            let holder = scene.holder("job");
            let high = waiter(&scene, HIGH, "high", 1);
            let strace = format!("strace -f -qq -o /dev/null -e inject=fcntl:signal=KILL:when={when}");
            let script = format!(r#"{strace} "$HELPER" lock -qw {} job -- true; :"#, options.join(" "));
            let victim = scene.bash_here(&script).err("").start();
            let low = start(&scene, LOW, "low");
            holder.release();
            finish_all([high, low]);
            victim.finish();
            assert_eq!(scene.order().matches("high ").count(), 1, "{options:?} {when}");
            fs::remove_file(scene.path("order")).unwrap();
            scene.aba(["lock", "-qt", "20", "--priority", "low", "job", "--", "true"]).run();
        }
    }
}

#[test]
fn a_file_system_without_locks_of_parts_is_refused() {
    let scene = Scene::new();
    scene.aba(["lock", "job", "--", "true"]).run();
    let inject = ["-P", "aba-job.lock", "-e", "inject=fcntl:error=EINVAL"];
    let call = scene.strace(inject).args([HELPER, "lock", "--priority", "low", "job", "--", "true"]);
    let said = "cannot lock ";
    let call =
        call.current_dir(scene.root()).status(125).err(said).err(" with --priority: ").err(" has no locks for this\n");
    call.err("hint: use a file on a local disk\n").run();
    // Without the option, only the order of waiters needs them. The later calls pass the descriptor on.
    let inject = ["-P", "aba-job.lock", "-e", "inject=fcntl:error=EINVAL:when=1..4"];
    let holder = scene.holder("job");
    let waiter = scene.strace(inject).args([HELPER, "lock", "-qw", "job", "--", "true"]).current_dir(scene.root());
    let waiter = waiter.err("").start();
    scene.wait_for_waiters("job", 1);
    holder.release();
    waiter.finish();
}

#[test]
fn options_that_have_no_priorities_are_refused() {
    let scene = Scene::new();
    let refused = |args: &[&str], said: &str| {
        scene.aba(["lock", "--priority=low"]).args(args).args(["job", "--", "true"]).status(2).err(said).run();
    };
    refused(&["--slots=2"], "--priority cannot be used with --slots: slots are granted in the order of the calls");
    refused(&["--server=etcd://h:1"], "a lock at a server has no priorities");
    scene.aba(["lock", "--priority=urgent", "job", "--", "true"]).status(2).err("high, normal, low").run();
}

#[test]
fn an_uncontended_call_with_a_priority_makes_at_most_two_system_calls_more() {
    let scene = Scene::new();
    scene.aba(["lock", "job", "--", "true"]).run();
    let count = |options: &[&str]| {
        let args = [&["lock"][..], options, &["job", "--", "true"]].concat();
        scene.trace_helper(&["-e", "trace=fcntl,flock,/statfs"], &args, "");
        let trace = fs::read_to_string(scene.path("trace")).unwrap();
        let is_counted = |line: &&str| ["F_OFD", "LK", "LOCK_", "statfs"].iter().any(|word| line.contains(word));
        trace.lines().filter(is_counted).count()
    };
    assert_eq!((count(&[]), count(HIGH), count(NORMAL), count(LOW)), (1, 2, 3, 3));
    let shared = |level: &[&'static str]| count(&[&["-s"], level].concat());
    assert_eq!((shared(&[]), shared(HIGH), shared(NORMAL), shared(LOW)), (2, 3, 3, 3));
}
