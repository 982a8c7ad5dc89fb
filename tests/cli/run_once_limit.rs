//! `run-once --max-time`, and the message about a command that is ignored.

use crate::process::{child_pids, find_parent_pid, is_alive, wait_until};
use crate::scene::{Gate, HELPER, Scene};
use crate::time_limit::with_enough_time;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn a_run_is_ended_with_all_its_processes_when_its_time_is_over() {
    let scene = Scene::new();
    let script =
        "echo $$; (trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & wait); wait";
    with_enough_time(|limit| {
        scene.once(["-ri", "a"]).run();
        let call = scene.once(["-wi", "a", "--max-time", limit, "--grace", "0.3", "--", "bash", "-c", script]);
        let line = format!(
            "aba-lock: task a: ran for the maximum time of {limit}s: sending SIGTERM, and SIGKILL after 0.3s\n"
        );
        let ended = format!("aba-lock: task a was ended after its maximum time of {limit}s (status 143): bash");
        let said = call.status(143).err(line).err(ended).out("").run();
        let pids: Vec<u32> = said.out.lines().map(|line| line.parse().unwrap()).collect();
        wait_until("all processes have ended", || pids.iter().all(|pid| !is_alive(*pid)));
        let history = scene.task_text("a", "history");
        assert!(history.contains(&format!(" MAX_TIME {limit}s\n")), "{history}");
        assert!(!scene.task_file("a", "pid").exists());
        pids.len() == 2
    });
}

/// A command that SIGTERM ends, but only after the gate was opened.
fn build_slow_end(gate: &Gate, runs: &Path) -> String {
    format!(
        "trap \"read _ <{gate}; trap - TERM; kill -TERM \\$\\$\" TERM; echo run >>'{}'; sleep 1000 & wait",
        runs.display()
    )
}

#[test]
fn callers_that_wait_for_a_run_whose_time_is_over_do_not_run_it_again() {
    // With --purge, the first waiter removes the task, and the others read the result from the removed lock file.
    for mode in ["-wi", "-cwi"] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let runs = scene.path("runs");
        let script = build_slow_end(&gate, &runs);
        with_enough_time(|limit| {
            scene.once(["-ri", "a"]).run();
            scene.once(["-i", "a", "--max-time", limit, "--grace", "1000", "--", "bash", "-c", &script]).run();
            // A signal that comes before the `trap` ends the command.
            wait_until("the command runs, or has ended", || runs.exists() || scene.task_file("a", "exit").exists());
            if !runs.exists() {
                return false;
            }
            let waiters: Vec<_> = (0..4)
                .map(|_| {
                    let line = format!("aba-lock: task a was ended after its maximum time of {limit}s (status 143)");
                    scene.once([mode, "a", "--", "bash", "-c", &script]).status(143).err(line).start()
                })
                .collect();
            scene.wait_for_task_waiters("a", 4);
            gate.open();
            for waiter in waiters {
                waiter.finish();
            }
            true
        });
        assert_eq!(fs::read_to_string(runs).unwrap(), "run\n", "{mode}");
    }
}

#[test]
fn a_run_whose_time_was_over_has_failed_until_its_result_is_forgotten() {
    let scene = Scene::new();
    let call = ["-qwi", "a", "--max-time", "0.1", "--", "sleep", "1000"];
    scene.once(call).status(143).err("maximum time").run();
    scene.wait_for_task_release("a");
    for _ in 0..2 {
        scene.once(["-p", "-i", "a"]).run();
        scene.once(["-E", "-i", "a"]).out("143\n").run();
        scene.once(["--list"]).out("failed (143)").out("sleep 1000, ended after its maximum time of 0.1s\n").run();
        let task = scene.once(["--json", "-i", "a"]).json()[0].clone();
        assert_eq!((&task["state"], &task["exit_status"]), (&"failed".into(), &143.into()));
        assert_eq!((&task["max_time_seconds"], &task["max_time_over"]), (&0.1.into(), &true.into()));
        scene.once(["-si", "a", "--", "sleep", "1000"]).run();
        let line = "aba-lock: task a was ended after its maximum time of 0.1s (status 143): sleep 1000\n";
        scene.once(["-wi", "a"]).status(143).err(line).err("hint: print the").run();
        assert_eq!(scene.task_text("a", "history").matches("STARTED").count(), 1);
        // The second time, the supervisor was killed before it could write the result.
        let pid =
            scene.task_text("a", "lock").lines().find_map(|line| Some(line.strip_prefix("pid=")?.to_owned())).unwrap();
        fs::remove_file(scene.task_file("a", "exit")).unwrap();
        fs::write(scene.task_file("a", "pid"), format!("{pid}\n")).unwrap();
        scene.once(["-wi", "a"]).status(143).err("its maximum time").run();
    }
    // Without the note, as an older version leaves the files, the task was interrupted.
    let text = scene.task_text("a", "lock");
    let (record, note) = text.split_once("time_over=0.1\n").unwrap();
    fs::write(scene.task_file("a", "lock"), format!("{record}{note}")).unwrap();
    let task = scene.once(["--json", "-i", "a"]).json()[0].clone();
    assert_eq!((&task["state"], &task["max_time_over"]), (&"interrupted".into(), &false.into()));
    scene.once(["-qwi", "a", "--", "true"]).run();
    let task = scene.once(["--json", "-i", "a"]).json()[0].clone();
    assert_eq!((&task["state"], &task["max_time_over"]), (&"succeeded".into(), &false.into()));
    scene.once(["-ri", "a"]).run();
    scene.once(call).status(143).err("maximum time").run();
    scene.once(["-F"]).run();
    scene.once(["-p", "-i", "a"]).status(1).run();
}

#[test]
fn a_command_that_ignores_the_signal_is_killed_after_the_grace_time() {
    let scene = Scene::new();
    // A signal that comes before the `trap` ends the command.
    let is_ended = |id: &str, script: &str, expected: i32| {
        with_enough_time(|limit| {
            scene.once(["-ri", id]).run();
            let call = scene.once(["-qwi", id, "--max-time", limit, "--grace", "0.2", "--", "bash", "-c", script]);
            let (status, said) = call.run_unchecked();
            assert!(said.err.contains("maximum time") && [143, expected].contains(&status), "{status} {}", said.err);
            status == expected
        });
    };
    is_ended("a", "trap '' TERM; while :; do sleep 1; done", 137);
    assert!(scene.task_text("a", "history").contains("SIGNAL rc=137\n"), "{}", scene.task_text("a", "history"));
    // A command that handles the signal has its own status.
    is_ended("b", "trap 'exit 5' TERM; sleep 1000 & wait", 5);
    scene.once(["-wi", "b"]).status(5).err("task b was ended after its maximum time of ").err("s (status 5)").run();
    // A status of 0 is a success.
    is_ended("c", "trap 'exit 0' TERM; sleep 1000 & wait", 0);
    let task = scene.once(["--json", "-i", "c"]).json()[0].clone();
    assert_eq!((&task["state"], &task["max_time_over"]), (&"succeeded".into(), &true.into()));
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

#[test]
fn processes_that_the_command_leaves_have_the_whole_grace_time() {
    let scene = Scene::new();
    let asked = scene.path("asked");
    let script = format!(
        "(trap 'echo asked >>\"{0}\"; sleep 3; echo clean >>\"{0}\"; exit' TERM; while :; do read -t 1 _ <>\"$GATE\"; done) & exec sleep 1000",
        asked.display()
    );
    let gate = scene.gate("gate");
    with_enough_time(|limit| {
        scene.once(["-ri", "a"]).run();
        let call = scene.once(["-wi", "a", "--max-time", limit, "--grace", "1000", "--", "bash", "-c", &script]);
        call.env("GATE", &gate.path).status(143).err("maximum time").run();
        let text = fs::read_to_string(&asked).unwrap_or_default();
        assert!(["", "asked\nclean\n"].contains(&text.as_str()), "{text}");
        !text.is_empty()
    });
}

#[test]
fn a_cleanup_that_begins_before_the_supervisor_goes_on_gets_no_signal() {
    let scene = Scene::new();
    let script = "trap 'sh -c \"echo begun; sleep 2; echo clean\"; exit 3' TERM; echo ready; sleep 1000 & wait";
    with_enough_time(|limit| {
        scene.once(["-ri", "a"]).run();
        let call = scene.strace(["-f", "-e", "inject=/^(pidfd_send_signal|kill)$:delay_exit=300000"]).arg(HELPER);
        let call =
            call.args(["run-once", "-wi", "a", "--max-time", limit, "--grace", "1000", "--", "bash", "-c", script]);
        let (status, said) = call.run_unchecked();
        assert!(said.out != "ready\nbegun\n", "{}", said.err);
        status == 3 && said.out == "ready\nbegun\nclean\n"
    });
}

#[test]
fn without_a_grace_time_the_processes_of_a_run_are_killed_at_once() {
    let scene = Scene::new();
    let line = "aba-lock: task a: ran for the maximum time of 0.3s: sending SIGKILL\n";
    let script = "trap 'echo asked' TERM; sleep 1000 & wait";
    let call = scene.once(["-wi", "a", "--max-time", "0.3", "--grace", "0", "--", "bash", "-c", script]);
    call.status(137).err(line).run();
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_supervisor() {
    let scene = Scene::new();
    let script = "ulimit -f 2; exec \"$HELPER\" run-once -qwi a --max-time 0.5 -- bash -c 'head -c 2048 /dev/zero >&2; exec sleep 1000'";
    scene.bash(script).status(143).err("").run();
    scene.once(["--list"]).out("failed (143)").run();
    // The process that copies stderr has been killed, so the pipe has no reader.
    with_enough_time(|limit| {
        scene.once(["-ri", "b"]).run();
        scene.once(["-si", "b", "--combined-log", "--max-time", limit, "--", "sleep", "1000"]).run();
        let command = scene.task_text("b", "pid").trim().parse().unwrap_or(0);
        let Some(supervisor) = find_parent_pid(command) else { return false };
        let copiers: Vec<u32> = child_pids(supervisor).into_iter().filter(|pid| *pid != command).collect();
        if !is_alive(command) {
            return false;
        }
        assert_eq!(copiers.len(), 1);
        // If the time is over, the supervisor has ended it.
        let _ = Command::new("kill").args(["-9", &copiers[0].to_string()]).stderr(Stdio::null()).status();
        let is_in_time = is_alive(command);
        scene.once(["-qwi", "b"]).status(143).run();
        is_in_time
    });
}
