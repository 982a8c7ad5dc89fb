//! The queue of a lock: waiters are served in order of arrival, and their place is reported.

use crate::call::RunningCall;
use crate::process::{count_background_switches, kill, parent_pid, set_modified, wait_until, waiter_pids};
use crate::scene::{HELPER, Scene};
use std::fs;

/// Waits until one more waiter is settled in the queue of lock `a`. Returns its pid.
fn wait_for_next_waiter(scene: &Scene, known: &[u32]) -> u32 {
    scene.wait_for_settled_waiters("a", known.len() + 1);
    waiter_pids(&scene.lock_file("a")).into_iter().find(|pid| !known.contains(pid)).unwrap()
}

#[test]
fn waiters_are_served_in_order_of_arrival() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let order = scene.path("order");
    let mut waiters: Vec<RunningCall> = Vec::new();
    let mut pids: Vec<u32> = Vec::new();
    for at in 0..12 {
        let serve = format!("echo {at} >>'{}'", order.display());
        let waiter = match at % 4 {
            0 => scene.aba(["lock", "-qw", "a", "--", "sh", "-c", &serve]),
            1 => scene.aba(["lock", "-v", "-t", "600", "a", "--", "sh", "-c", &serve]).err("acquired a after "),
            2 => {
                let rule = format!("waiting ={}", scene.path(&format!("seen{at}")).display());
                scene.on_terminal(&rule).args([HELPER, "lock", "-w", "a", "--", "sh", "-c", &serve]).out("waiting ")
            }
            _ => scene.bash_with_library(&format!("aba_lock_operation -qw a; {serve}")),
        };
        waiters.push(waiter.start());
        pids.push(wait_for_next_waiter(&scene, &pids));
    }
    assert_eq!(waiter_pids(&scene.lock_file("a")), pids);
    // The waiters on terminals show a line by now.
    wait_until("the last waiter on a terminal shows its line", || scene.path("seen10").exists());
    let last = parent_pid(pids[11]);
    assert_eq!(last, waiters[11].pid(), "the last one is a script");
    holder.release();
    for waiter in waiters {
        waiter.finish();
    }
    let served = fs::read_to_string(order).unwrap();
    let served: Vec<usize> = served.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(served, (0..12).collect::<Vec<_>>());
}

#[test]
fn waiters_that_check_for_deadlocks_keep_their_place() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let first = scene.aba(["lock", "-qw", "a", "--", "true"]).start();
    wait_for_next_waiter(&scene, &[]);
    let second = scene.aba(["lock", "-qw", "a", "--", "true"]).start();
    wait_for_next_waiter(&scene, &[first.pid()]);
    // A waiter looks for deadlocks about once a second: its second thread wakes up.
    let before = [first.pid(), second.pid()].map(count_background_switches);
    wait_until("both have looked", || {
        assert_eq!(waiter_pids(&scene.lock_file("a")), [first.pid(), second.pid()]);
        let now = [first.pid(), second.pid()].map(count_background_switches);
        now[0] > before[0] + 1 && now[1] > before[1] + 1
    });
    holder.release();
    first.finish();
    second.finish();
}

#[test]
fn the_message_of_a_waiter_shows_its_place_in_the_queue() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let held = format!("held by pid {} (sh -c 'echo held; read _; exit 0'), by ", holder.pid());
    let mut waiters: Vec<RunningCall> = Vec::new();
    let mut pids = Vec::new();
    for place in ["", " (second of two)", " (third of three)"] {
        let sentence = format!("aba-lock: waiting for a{place}, {held}");
        let waiter = scene.aba(["lock", "-w", "a", "--", "true"]).err(sentence).start();
        waiter.wait_for_error("\n");
        pids.push(wait_for_next_waiter(&scene, &pids));
        waiters.push(waiter);
    }
    holder.release();
    for waiter in waiters {
        let said = waiter.finish().err;
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_very_short_wait_is_not_reported() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    // The timeout is shorter than the time after which a wait is reported.
    let said = scene.aba(["lock", "-t", "0.02", "a", "--", "true"]).status(124).err("timed out after 0.02 s").run().err;
    assert!(!said.contains("aba-lock: waiting for"), "{said}");
}

#[test]
fn a_wait_whose_time_is_over_is_not_reported() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    // As on a busy machine, the first thread notices the end only after the time at which the second one reports a wait.
    let delay = ["-qq", "-f", "-o", "/dev/null", "-e", "inject=flock:delay_exit=1000000:when=2", HELPER];
    let call = scene.call("strace").args(delay).args(["lock", "-t", "0.02", "a", "--", "true"]).status(124);
    let said = call.err("timed out after 0.02 s").run().err;
    assert!(!said.contains("aba-lock: waiting for"), "{said}");
}

#[test]
fn a_waiter_does_not_search_for_deadlocks_while_other_processes_acquire_the_lock() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    // The first look is three seconds later than usual.
    let options = ["-f", "-qq", "-e", "trace=futex,open,openat", "-e", "inject=futex:delay_enter=3000000:when=1", "-o"];
    let waiter = scene.call("strace").args(options).arg(scene.path("trace"));
    let waiter = waiter.args([HELPER, "lock", "-qw", "a", "--", "true"]).start();
    scene.wait_for_waiter("a");
    // So does a record that is written.
    set_modified(scene.lock_file("a"), -3600);
    let trace = || fs::read_to_string(scene.path("trace")).unwrap();
    let looks_into_proc = |line: &&str| line.contains("\"/proc/") && !line.contains("/proc/s");
    wait_until("it looks at the holder", || trace().lines().any(|line| looks_into_proc(&line)));
    let pauses =
        trace().lines().take_while(|line| !looks_into_proc(line)).filter(|line| line.contains("ETIMEDOUT")).count();
    assert_eq!(pauses, 2, "{}", trace());
    holder.release();
    waiter.finish();
}

#[test]
fn the_second_thread_of_a_waiter_takes_no_new_memory_before_it_has_work() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let options = ["-f", "-qq", "-e", "trace=flock,mmap,mprotect,clone,clone3", "-o"];
    let waiter = scene.call("strace").args(options).arg(scene.path("trace"));
    let waiter = waiter.args([HELPER, "lock", "-qw", "a", "--", "true"]).start();
    let trace = || fs::read_to_string(scene.path("trace")).unwrap_or_default();
    wait_until("it blocks", || trace().matches("flock(").count() >= 2);
    let calls = trace();
    let start = calls.lines().skip_while(|line| !line.contains("EAGAIN")).take_while(|line| !line.contains("clone"));
    let takes_memory = |line: &&str| line.contains("mmap(") || line.contains("mprotect(");
    assert_eq!(start.filter(takes_memory).count(), 0, "{calls}");
    holder.release();
    waiter.finish();
}

#[test]
fn a_waiter_does_not_examine_all_processes_while_the_holder_goes_on() {
    let scene = Scene::new();
    let holder =
        scene.aba(["lock", "a", "--", "sh", "-c", "echo held >&2; exec sleep 600"]).status(137).err("held").start();
    holder.wait_for_error("held");
    // Another process waits for a lock of its parent, so it may be in a circle.
    let trace = scene.path("trace");
    let options = ["lock", "-q", "outer", "--", "strace", "-f", "-qq", "-e", "trace=futex,open,openat", "-o"];
    let call = scene.aba(options).arg(&trace).args([HELPER, "lock", "-qw", "a", "--", "true"]).start();
    wait_until("the outer lock is held", || trace.exists());
    let awaiting = scene.aba(["lock", "-qw", "outer", "--", "true"]).start();
    scene.wait_for_waiter("outer");
    let text = || fs::read_to_string(&trace).unwrap_or_default();
    wait_until("it has looked twice", || text().matches("ETIMEDOUT").count() >= 3);
    assert!(!text().contains("\"/proc\""), "{}", text());
    kill(holder.pid(), libc::SIGKILL);
    holder.finish();
    call.finish();
    awaiting.finish();
}
