//! Waiters get a lock in the order in which they began to wait, and their place is reported.

use crate::scene::{Call, HELPER, Running, Scene, parent, queue, until};
use crate::terminal::TERMINAL;
use std::fs;

const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shell/aba-lock.bash");

/// Waits until one more waits for lock `a`, and has done so for more than a moment. Who that is.
fn until_one_more(scene: &Scene, known: &[u32]) -> u32 {
    scene.until_they_stand("a", known.len() + 1);
    queue(&scene.lock_file("a")).into_iter().find(|pid| !known.contains(pid)).unwrap()
}

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let order = scene.path("order");
    let mut waiters: Vec<Running> = Vec::new();
    let mut pids: Vec<u32> = Vec::new();
    for at in 0..12 {
        let serve = format!("echo {at} >>'{}'", order.display());
        let waiter = match at % 4 {
            0 => scene.aba(["lock", "-qw", "a", "--", "sh", "-c", &serve]),
            1 => scene.aba(["lock", "-v", "-t", "60", "a", "--", "sh", "-c", &serve]).err("acquired a after "),
            2 => {
                let mut command = scene.program("python3");
                let rule = format!("waiting ={}", scene.path(&format!("seen{at}")).display());
                command.args(["-c", TERMINAL, &rule, HELPER, "lock", "-w", "a", "--", "sh", "-c", &serve]);
                Call::new(command).out("waiting ")
            }
            _ => scene
                .bash(&format!("source '{LIBRARY}'; aba_lock_operation -qw a; {serve}"))
                .env("ABA_LOCK_BIN", HELPER),
        };
        waiters.push(waiter.start());
        pids.push(until_one_more(&scene, &pids));
    }
    assert_eq!(queue(&scene.lock_file("a")), pids);
    // Those on a terminal show a line by now.
    until("the last one is told of", || scene.path("seen10").exists());
    let last = parent(pids[11]);
    assert_eq!(last, waiters[11].pid(), "the last one is a script");
    holder.let_go();
    for waiter in waiters {
        waiter.finish();
    }
    let served = fs::read_to_string(order).unwrap();
    let served: Vec<usize> = served.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(served, (0..12).collect::<Vec<_>>());
}

#[test]
fn a_shared_lock_is_granted_while_an_exclusive_one_is_waited_for() {
    // The manual says so: it is what flock(2) does.
    let scene = Scene::new();
    let holder = scene.holder_with(&["-s", "a"]);
    let waiter = scene.aba(["lock", "-qw", "a", "--", "true"]).start();
    scene.until_waited_for("a");
    scene.aba(["lock", "-n", "-s", "a", "--", "true"]).run();
    holder.let_go();
    waiter.finish();
}

#[test]
fn those_who_look_again_and_again_keep_their_place() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let first = scene.aba(["lock", "-qw", "a", "--", "true"]).start();
    until_one_more(&scene, &[]);
    let second = scene.aba(["lock", "-qw", "a", "--", "true"]).start();
    until_one_more(&scene, &[first.pid()]);
    // Each looks for deadlocks about once a second: when its second thread wakes.
    let woken = |pid: u32| {
        let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let other = threads.find(|thread| thread.file_name().to_str() != Some(&pid.to_string())).unwrap();
        let text = fs::read_to_string(other.path().join("status")).unwrap();
        let number = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        number.trim().parse::<u32>().unwrap()
    };
    let before = [first.pid(), second.pid()].map(woken);
    until("both have looked", || {
        assert_eq!(queue(&scene.lock_file("a")), [first.pid(), second.pid()]);
        woken(first.pid()) > before[0] + 1 && woken(second.pid()) > before[1] + 1
    });
    holder.let_go();
    first.finish();
    second.finish();
}

#[test]
fn one_sentence_tells_the_place_in_the_queue() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let held = format!("held by pid {} (sh -c 'echo held; read _; exit 0'), by ", holder.pid());
    let mut waiters: Vec<Running> = Vec::new();
    let mut pids = Vec::new();
    for place in ["", " (second of two)", " (third of three)"] {
        let sentence = format!("aba-lock: waiting for a{place}, {held}");
        let waiter = scene.aba(["lock", "-w", "a", "--", "true"]).err(sentence).start();
        waiter.until_said("\n");
        pids.push(until_one_more(&scene, &pids));
        waiters.push(waiter);
    }
    holder.let_go();
    for waiter in waiters {
        let said = waiter.finish().err;
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn of_a_wait_that_is_over_in_a_moment_nothing_is_said() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    // Over before the moment is, whatever else this machine does.
    let said = scene.aba(["lock", "-t", "0.02", "a", "--", "true"]).status(124).err("timed out after 0.02 s").run().err;
    assert!(!said.contains("aba-lock: waiting for"), "{said}");
}
