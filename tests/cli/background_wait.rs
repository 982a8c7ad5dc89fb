//! The options with which the shell library waits in the background: `--try-first`, `--waited` and `--heed-keyboard`.

use crate::process::{PATIENCE, kill, wait_until};
use crate::scene::Scene;
use std::fs;

/// A script that opens the lock file of `a` and calls `lock` with these options.
fn on_descriptor(words: &str) -> String {
    format!("exec 200<>\"$(\"$HELPER\" path --create a)\" && \"$HELPER\" lock {words} --fd 200 a; exit $?")
}

#[test]
fn a_first_try_that_would_wait_exits_with_77_and_is_not_logged() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let log = scene.path("log");
    for wait in ["-w", "-t 60", "-t60"] {
        let script = on_descriptor(&format!("--reopen --try-first {wait}"));
        scene.bash(&script).env("ABA_LOCK_LOG", &log).status(77).run();
        let script = format!("trap '' INT; {script}");
        scene.bash(&script).env("ABA_LOCK_LOG", &log).status(78).run();
    }
    scene.bash(&on_descriptor("--try-first")).env("ABA_LOCK_TIMEOUT", "60").status(77).run();
    assert!(!log.exists());
    holder.release();
}

#[test]
fn a_first_try_that_may_not_wait_is_an_ordinary_call() {
    let scene = Scene::new();
    scene.bash(&on_descriptor("--try-first -w")).run();
    let holder = scene.holder("a");
    for (wait, status, text) in [("-n", 75, "a is already running"), ("-t 0", 124, "timed out after 0 s waiting for a")]
    {
        scene.bash(&on_descriptor(&format!("--try-first {wait}"))).status(status).err(text).run();
    }
    holder.release();
}

#[test]
fn a_first_try_for_several_locks_keeps_none_of_them() {
    let scene = Scene::new();
    let holder = scene.holder("b");
    let script = "exec 200<>\"$(\"$HELPER\" path --create a)\" 201<>\"$(\"$HELPER\" path --create b)\"
        \"$HELPER\" lock --try-first -w --fd 200 --fd 201 a b; echo $?
        \"$HELPER\" lock a -- echo free";
    scene.bash(script).out("77\nfree\n").run();
    holder.release();
}

#[test]
fn a_wait_that_continues_counts_the_time_before_and_reports_nothing_twice() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let log = scene.path("log");
    let script = on_descriptor("--waited 100 -t 50");
    let said = scene.bash(&script).env("ABA_LOCK_LOG", &log).status(124).err("timed out after 50 s").run();
    assert!(!said.err.contains("aba-lock: waiting"), "{}", said.err);
    let events = fs::read_to_string(&log).unwrap();
    assert!(events.contains("timed_out") && !events.contains("contended"), "{events}");

    let waiter = scene.bash(&on_descriptor("--waited 100 -v -w")).err("acquired a").start();
    scene.wait_for_waiter("a");
    // When this second waiter has reported its wait, the first one would have, too.
    let control = scene.bash(&on_descriptor("-w")).err("waiting for a").start();
    control.wait_for_error("waiting for a");
    holder.release();
    let said = waiter.finish();
    control.finish();
    let (_, time) = said.err.split_once("acquired a after ").unwrap();
    let seconds: f64 = time.split(' ').next().unwrap().parse().unwrap();
    assert!((100.0..100.0 + 5.0 * PATIENCE.as_secs_f64()).contains(&seconds), "{}", said.err);
    assert!(!said.err.contains("waiting for"), "{}", said.err);
}

#[test]
fn ctrl_c_ends_a_background_wait_that_heeds_the_keyboard() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    // Without job control, background jobs of bash ignore SIGINT and SIGQUIT.
    let script = "exec 200<>\"$(\"$HELPER\" path --create a)\"
        \"$HELPER\" lock -q -w --heed-keyboard --fd 200 a & echo $! >pid; wait $! 2>/dev/null; echo \"ended with $?\"";
    for (signal, status) in [(libc::SIGINT, 130), (libc::SIGQUIT, 131)] {
        let _ = fs::remove_file(scene.path("pid"));
        let script = format!("cd \"$SCENE\" && ulimit -c 0 && {script}");
        let waiter = scene.bash(&script).env("SCENE", scene.path("")).out(format!("ended with {status}\n")).start();
        scene.wait_for_waiter("a");
        let pid = || fs::read_to_string(scene.path("pid")).ok()?.trim().parse().ok();
        wait_until("the pid is known", || pid().is_some());
        kill(pid().unwrap(), signal);
        waiter.finish();
    }
    holder.release();
}
