//! `run-once --max-time`, and the message about a command that is ignored.

use crate::process::{is_alive, wait_until};
use crate::scene::Scene;
use serde_json::Value;

#[test]
fn a_run_is_ended_with_all_its_processes_when_its_time_is_over() {
    let scene = Scene::new();
    let script =
        "echo $$; (trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & wait); wait";
    let call = scene.once(["-wi", "a", "--max-time", "1", "--grace", "0.3", "--", "bash", "-c", script]);
    let line = "aba-lock: task a: ran for the maximum time of 1s: sending SIGTERM, and SIGKILL after 0.3s\n";
    let said = call.status(143).err(line).err("task a was interrupted (status 143)").out("").run();
    let pids: Vec<u32> = said.out.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    wait_until("all processes have ended", || pids.iter().all(|pid| !is_alive(*pid)));
    assert!(scene.task_text("a", "history").contains(" MAX_TIME 1s\n"), "{}", scene.task_text("a", "history"));
    assert!(!scene.task_file("a", "pid").exists());
    // An interrupted task runs again.
    scene.once(["-qwi", "a", "--max-time", "1h", "--", "true"]).run();
}

#[test]
fn a_command_that_ignores_the_signal_is_killed_after_the_grace_time() {
    let scene = Scene::new();
    let script = "trap '' TERM; while :; do sleep 1; done";
    scene.once(["-si", "a", "--max-time", "0.2", "--grace", "0.2", "--", "bash", "-c", script]).run();
    scene.once(["-qwi", "a", "--", "true"]).run();
    assert!(scene.task_text("a", "history").contains("SIGNAL rc=137\n"), "{}", scene.task_text("a", "history"));
    // A command that handles the signal has its own status.
    let script = "trap 'exit 5' TERM; sleep 1000 & wait";
    scene.once(["-qwi", "b", "--max-time", "1", "--", "bash", "-c", script]).status(5).err("maximum time").run();
}

#[test]
fn the_list_shows_the_limit_and_the_remaining_time() {
    let scene = Scene::new();
    scene.once(["-i", "a", "--max-time", "2h30m", "--", "sleep", "1000"]).run();
    let task = || scene.once(["--json", "-i", "a"]).json()[0].clone();
    assert_eq!(task()["max_time_seconds"], 9000.0);
    let left = task()["remaining_seconds"].as_u64().unwrap();
    assert!((8000..=9000).contains(&left), "{left}");
    scene.once(["--list"]).out("sleep 1000, 2h").out(" left\n").run();
    scene.once(["-ri", "a"]).run();
    scene.once(["-i", "b", "--", "sleep", "1000"]).run();
    let other = scene.once(["--json", "-i", "b"]).json()[0].clone();
    assert_eq!((&other["max_time_seconds"], &other["remaining_seconds"]), (&Value::Null, &Value::Null));
    scene.once(["-ri", "b"]).run();
    for mode in ["-p", "-A", "-R", "-o", "-E", "-r"] {
        scene.once([mode, "-i", "a", "--max-time", "1"]).status(2).err("--max-time has no effect with ").run();
    }
    scene.once(["-i", "a", "--max-time", "0", "--", "true"]).status(2).err("--max-time must be more than 0").run();
    scene.once(["-i", "a", "--grace", "1", "--", "true"]).status(2).err("--max-time").run();
}

#[test]
fn a_different_command_for_a_known_task_is_reported_in_one_line() {
    let scene = Scene::new();
    scene.once(["-wi", "a", "--", "echo", "one"]).out("one\n").run();
    let line = "aba-lock: task a keeps its first command (echo one), and this one is ignored: \
                forget it with `aba-lock run-once -r -i a`\n";
    for mode in ["-si", "-wi"] {
        assert_eq!(scene.once([mode, "a", "--", "echo", "two"]).err(line).run().err, line);
        scene.once([mode, "a", "--", "echo", "one"]).run();
        scene.once([mode, "a"]).run();
        scene.once(["-q", mode, "a", "--", "echo", "two"]).run();
    }
    scene.once(["-wi", "a", "-t", "0", "--", "echo", "two"]).out("two\n").run();
    let help = scene.once(["--help"]).out("").run().out;
    let at = |option: &str| help.find(option).unwrap();
    assert!(at("-t, --ttl") < at("-c, --purge") && at("-c, --purge") < at("-s, --start"), "{help}");
}
