//! Options for jobs of cron and timers: `--skip-ok`, `-c`, and the messages of a wait without a terminal.

use crate::process::write_program;
use crate::scene::Scene;
use serde_json::Value;
use std::fs;

#[test]
fn with_skip_ok_a_held_lock_gives_status_0_no_output_and_one_event() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let log = scene.path("log");
    for options in [&["a"][..], &["-n", "a"], &["--max-time", "1h", "a"], &["free", "a"], &["--no-inherit", "a"]] {
        let _ = fs::remove_file(&log);
        let words = [&["lock", "--skip-ok"], options, &["--", "touch", "ran"]].concat();
        scene.aba(words).current_dir(scene.path("")).env("ABA_LOCK_LOG", &log).run();
        let text = fs::read_to_string(&log).unwrap();
        let event: Value = serde_json::from_str(text.trim_end()).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!((&event["event"], &event["lock"]), (&"contended".into(), &"a".into()));
        assert_eq!(event["waits"], false);
    }
    assert!(!scene.path("ran").exists());
    holder.release();
    scene.aba(["lock", "--skip-ok", "a", "--", "sh", "-c", "exit 7"]).status(7).run();
}

#[test]
fn with_skip_ok_a_wait_that_times_out_is_silent_too() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    scene.aba(["lock", "--skip-ok", "--timeout", "0.3", "a", "--", "true"]).run();
    holder.release();
}

#[test]
fn with_skip_ok_and_fd_the_status_of_a_held_lock_is_never_0() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    for options in ["", "--max-time 1h", "--timeout 0.2"] {
        let script = format!("exec 9<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$HELPER\" lock --skip-ok {options} --fd 9 a");
        scene.bash(&script).status(80).run();
    }
    holder.release();
}

#[test]
fn with_skip_ok_other_errors_are_reported() {
    let scene = Scene::new();
    scene.aba(["lock", "--skip-ok", "a", "--", "./none"]).status(127).err("none").run();
    for option in ["-E=3", "--on-busy=true"] {
        scene.aba(["lock", "--skip-ok", option, "a", "--", "true"]).status(2).err("cannot be used with").run();
    }
}

#[test]
fn the_keeper_skips_a_call_with_the_same_status_and_silence() {
    let scene = Scene::new();
    let keeper = scene.path("keeper");
    write_program(&keeper, "#!/bin/sh\nprintf '%s ' \"$@\"\n");
    let call = scene.aba(["lock", "--server=http://server", "--skip-ok", "a", "-c", "true"]);
    let said = call.env("ABA_LOCK_KEEPER", &keeper).out("hold ").run().out;
    assert!(said.contains(" --conflict-exit-code=0 ") && said.contains(" --quiet "), "{said}");
    assert!(said.ends_with("sh -c true "), "{said}");
}

#[test]
fn the_line_of_c_is_run_by_the_shell_as_with_flock() {
    let scene = Scene::new();
    let call = |words: &[&str]| scene.aba(words).env_remove("SHELL");
    call(&["lock", "a", "-c", "echo one | tr o 0; exit 3"]).status(3).out("0ne\n").run();
    scene.aba(["status", "a"]).status(1).out("(/bin/sh -c 'echo one | tr o 0; exit 3'), by ").run();
    call(&["lock", "--no-inherit", "a", "--command", "echo two"]).out("two\n").run();
    call(&["lock", "a", "b", "-c", "true"]).status(2).err("lock: -c takes one NAME or --key\n").run();
    let shell = scene.path("shell");
    write_program(&shell, "#!/bin/sh\necho \"shell $*\"\n");
    for command in [&["lock", "a"][..], &["flock", "f"]] {
        let call = scene.aba(command).args(["-c", "line of words"]).current_dir(scene.path(""));
        call.env("SHELL", &shell).out("shell -c line of words\n").run();
    }
    let holder = scene.holder("a");
    call(&["lock", "--on-busy", "echo busy", "a", "-c", "true"]).out("busy\n").err("running `echo busy`").run();
    holder.release();
    call(&["lock", "a", "-c", "true", "--", "true"]).status(2).err("cannot be used with").run();
    call(&["lock", "a", "--fd", "9", "-c", "true"]).status(2).err("cannot be used with").run();
}

#[test]
fn a_wait_without_a_terminal_is_reported_again_after_ten_minutes() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    // The wait has begun almost ten minutes ago, in an earlier process.
    let script = "exec 9<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$HELPER\" lock --wait --waited 599.5s --fd 9 a";
    let waiter = scene.bash(script).err("aba-lock: still waiting for a after 10m").start();
    waiter.wait_for_error(", held by pid ");
    let quiet = script.replace("--wait ", "--quiet -t 601 ");
    scene.bash(&quiet).status(124).run();
    holder.release();
    let said = waiter.finish().err;
    assert_eq!(said.lines().count(), 1, "{said}");
}
