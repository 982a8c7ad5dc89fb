//! `status` shows every waiter: also those that the kernel does not list, because they have a ticket or are stopped.

use crate::call::finish_all;
use crate::process::{count_waiters, kill, wait_until};
use crate::replace::count_tickets;
use crate::scene::Scene;
use serde_json::Value;
use std::fs;

/// Returns the waiters that `status --json` and `list --json` show. Both must show the same ones.
fn list_waiters(scene: &Scene, name: &str, status: i32) -> Vec<Value> {
    let mut said = scene.aba(["status", "--json", name]).status(status).json();
    let mut list = scene.aba(["list", "--json"]).json();
    let of_list = list["locks"].as_array_mut().unwrap().iter_mut().find(|lock| lock["name"] == name).unwrap();
    let pids = |waiters: &Value| waiters.as_array().unwrap().iter().map(|one| one["pid"].clone()).collect::<Vec<_>>();
    assert_eq!(pids(&said["waiters"]), pids(&of_list["waiters"]));
    std::mem::take(said["waiters"].as_array_mut().unwrap())
}

/// Stops a process, and waits until it is.
fn stop(pid: u32) {
    kill(pid, libc::SIGSTOP);
    wait_until("the process is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(')').next().unwrap().starts_with(" T")
    });
}

#[test]
fn callers_with_replace_are_shown_once_each_in_the_order_of_their_tickets() {
    let scene = Scene::new();
    let mut holder =
        scene.aba(["lock", "job", "--", "bash", "-c", "trap '' TERM; echo held; while :; do read _; done"]).hold();
    let file = scene.lock_file("job");
    let start = |number: usize, status: i32| {
        let call = scene.aba(["lock", "-q", "--replace", "--grace=1000", "job", "--", "true"]).status(status);
        let call = call.start();
        wait_until("the caller has a ticket", || count_tickets(&file) == number);
        call
    };
    // The first one waits for the end of the holder, and the others wait for their turn.
    let callers = [start(1, 75), start(2, 75), start(3, 0)];
    let pids: Vec<Value> = callers.iter().map(|call| call.pid().into()).collect();
    let waiters = list_waiters(&scene, "job", 0);
    assert_eq!(waiters.iter().map(|one| one["pid"].clone()).collect::<Vec<_>>(), pids);
    assert!(waiters.iter().all(|one| one["replace"] == true && one["mode"] == "exclusive"), "{waiters:#?}");
    let said = scene.aba(["status", "job"]).out("waits").run().out;
    for (at, call) in callers.iter().enumerate() {
        let line = format!("  {}. waits: pid {}, ", at + 1, call.pid());
        let line = said.lines().find(|one| one.starts_with(&line)).unwrap_or_else(|| panic!("{line}\n{said}"));
        assert!(line.contains(", with --replace, for "), "{said}");
    }
    // The end of the holder lets the first one go on.
    holder.signal(9);
    holder.wait();
    finish_all(callers);
}

#[test]
fn a_caller_with_replace_that_waits_in_the_queue_of_the_kernel_is_shown_once() {
    let scene = Scene::new();
    scene.make_root();
    // There is no proof that aba-lock acquired this lock, so the caller only waits.
    let holder = scene.flock_holder(scene.lock_file("job"));
    let plain = scene.aba(["lock", "-qw", "job", "--", "true"]).start();
    scene.wait_for_waiters("job", 1);
    let call = scene.aba(["lock", "-q", "--replace", "job", "--", "true"]).start();
    scene.wait_for_waiters("job", 2);
    let waiters = list_waiters(&scene, "job", 0);
    let found: Vec<_> = waiters.iter().map(|one| (one["pid"].clone(), one["replace"].clone())).collect();
    assert_eq!(found, [(plain.pid().into(), false.into()), (call.pid().into(), true.into())]);
    assert_eq!(holder.release(), 0);
    finish_all([plain, call]);
}

#[test]
fn a_stopped_waiter_is_shown_with_its_state_although_it_is_in_no_queue() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let waiter = scene.aba(["lock", "-qw", "a", "--", "true"]).start();
    scene.wait_for_settled_waiters("a", 1);
    assert_eq!(list_waiters(&scene, "a", 0)[0]["state"], "sleeping");
    stop(waiter.pid());
    let file = scene.lock_file("a");
    wait_until("the kernel has taken it from the queue", || count_waiters(&file) == 0);
    let waiters = list_waiters(&scene, "a", 0);
    let found: Vec<_> = waiters.iter().map(|one| (&one["pid"], &one["mode"], &one["state"])).collect();
    assert_eq!(found, [(&Value::from(waiter.pid()), &"exclusive".into(), &"stopped".into())]);
    let line = format!("  1. waits: pid {}, ", waiter.pid());
    let said = scene.aba(["status", "a"]).out(line.clone()).run().out;
    assert!(said.lines().any(|one| one.starts_with(&line) && one.ends_with(", stopped")), "{said}");
    kill(waiter.pid(), libc::SIGCONT);
    assert_eq!(holder.release(), 0);
    waiter.finish();
    assert_eq!(list_waiters(&scene, "a", 1), Vec::<Value>::new());
}
