//! The cost of a wait for a lock, and the state of the process that continues after it.

use crate::process::wait_until;
use crate::scene::{HELPER, Scene};
use std::fs;

#[test]
fn a_short_wait_for_a_holder_that_goes_on_examines_only_the_holder() {
    let scene = Scene::new();
    let holder = scene.aba(["lock", "a", "--", "sleep", "600"]).status(143).start();
    wait_until("the holder holds the lock", || scene.record("a").contains("sleep 600"));
    let options = ["-f", "-e", "trace=/^open(at)?$"];
    scene.make_root();
    // On a busy machine, the time can be over before it looks.
    wait_until("it looks once", || {
        let (status, said) = scene.trace_helper(&options, &["lock", "-q", "-t", "0.4", "a", "--", "true"], "");
        assert_eq!((status, said.as_str()), (Some(124), ""));
        let trace = fs::read_to_string(scene.path("trace")).unwrap();
        let lists = |process: &str| trace.contains(&format!("\"/proc/{process}/fd\""));
        assert!(!lists(&std::process::id().to_string()), "it does not examine its ancestors: {trace}");
        assert!(!trace.contains("/proc/locks"), "{trace}");
        lists(&holder.pid().to_string())
    });
    crate::process::kill(holder.pid(), libc::SIGTERM);
    holder.finish();
}

#[test]
fn a_command_that_has_waited_keeps_the_signal_for_the_end_of_its_parent() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let words = ["--pdeathsig", "USR1", HELPER, "lock", "-qw", "a", "--", "setpriv", "--dump"];
    let waiter = scene.call("setpriv").args(words).out("Parent death signal: USR1").start();
    scene.wait_for_settled_waiters("a", 1);
    holder.release();
    waiter.finish();
}
