//! `run-once`, as its contract has it.

use crate::process::{is_alive, is_locked, is_watching, kill, wait_until};
use crate::scene::{HELPER, Scene, with_command};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn the_first_start_runs_the_task_and_later_ones_do_not() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = gate.task(0);
    scene.once(with_command(&["-i", "a"], &task)).run();
    let pid = scene.task_pid("a");
    assert!(is_alive(pid));
    scene.once(with_command(&["-i", "a"], &task)).run();
    assert_eq!(scene.task_pid("a"), pid);
    gate.open();
    scene.once(["-qw", "-i", "a"]).run();
    scene.once(with_command(&["-s", "-i", "a"], &task)).run();
    assert_eq!(scene.task_text("a", "log.out"), "begun\n");
    assert_eq!(scene.task_text("a", "history").matches("STARTED").count(), 1);
}

#[test]
fn every_wait_exits_with_the_status_of_the_task() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(3))).run();
    let waiters: Vec<_> = (0..5).map(|_| scene.once(["-qwi", "a"]).status(3).start()).collect();
    gate.open();
    for waiter in waiters {
        waiter.finish();
    }
    scene.once(["-qwi", "a"]).status(3).run();
    assert_eq!(scene.task_text("a", "exit"), "3\n");
    assert_eq!(
        scene.task_text("a", "history").lines().last().unwrap().split(' ').skip(1).collect::<Vec<_>>(),
        ["COMPLETE", "rc=3"]
    );
}

#[test]
fn a_wait_runs_a_new_task_and_streams_its_output() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo out; read _ <'{}'; printf 'err' >&2", gate.path.display());
    let call = scene.once(["-wi", "a", "--", "bash", "-c", &script]).out("out\n").err("err");
    let call = call.start();
    wait_until("it runs", || scene.task_text("a", "log.out") == "out\n");
    gate.open();
    let said = call.finish();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err"));
    // What another ran is not shown: it is waited for, or read.
    scene.once(["-wi", "a"]).run();
}

#[test]
fn follow_shows_the_output_of_a_task_of_another_process() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo one; read _ <'{}'; echo two; exit 4", gate.path.display());
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    let call = scene.once(["-qwi", "a", "--follow"]).status(4).out("one\ntwo\n").start();
    wait_until("it follows", || is_watching(call.pid()));
    gate.open();
    call.finish();
}

#[test]
fn each_state_answers_peek_active_and_running() {
    let scene = Scene::new();
    let ask = |expected: [i32; 3]| {
        for (letter, status) in ["-p", "-A", "-R"].iter().zip(expected) {
            scene.once([letter, "-i", "a"]).status(status).run();
        }
    };
    ask([1, 1, 1]);
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    ask([1, 0, 0]);
    assert!(is_locked(&scene.task_file("a", "lock")));
    gate.open();
    scene.once(["-qwi", "a"]).run();
    ask([0, 0, 1]);
    scene.once(["-r", "-i", "a"]).run();
    ask([1, 1, 1]);
    // A failure has finished, too; an interruption has not.
    scene.once(["-qwi", "a", "--", "false"]).status(1).run();
    ask([0, 0, 1]);
    fs::write(scene.task_file("a", "exit"), "130\n").unwrap();
    ask([1, 1, 1]);
}

#[test]
fn outcomes_are_printed_and_an_edited_one_is_respected() {
    let scene = Scene::new();
    scene.once(["-E", "-i", "a"]).status(1).run();
    scene.once(["-o", "-i", "a"]).run();
    scene.once(["-qwi", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).status(7).out("out").err("err").run();
    assert_eq!(scene.once(["-E", "-i", "a"]).out("7").run().out, "7\n");
    assert_eq!(scene.once(["-o", "-i", "a"]).out("out").run().out, "out\n");
    assert_eq!(scene.once(["-e", "-i", "a"]).out("err").run().out, "err\n");
    fs::write(scene.task_file("a", "exit"), "0").unwrap();
    scene.once(["-wi", "a"]).run();
    assert_eq!(scene.once(["-E", "-i", "a"]).out("0").run().out, "0\n");
}

#[test]
fn invalid_ids_are_refused_and_no_file_is_touched() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("locks/x")).unwrap();
    fs::write(scene.path("locks/x/exit"), "0\n").unwrap();
    let long = "x".repeat(129);
    for id in ["../x", "", ".", "..", "a/b", "a b", "-x", ".x", "ä", &long] {
        for mode in ["-r", "-s", "-w", "-p", "-o", "-E"] {
            scene.once([mode, &format!("--id={id}")]).status(2).err("is not an id for a task").run();
        }
    }
    assert!(scene.path("locks/x/exit").exists());
    assert!(!scene.root().join("runner").exists());
    scene.once(["-p"]).status(2).err("required").run();
}

#[test]
fn short_options_can_be_combined_and_the_last_mode_wins() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "sh", "-c", "exit 5"]).status(5).run();
    scene.once(["-wp", "-i", "a"]).run();
    scene.once(["-pqwi", "a"]).status(5).run();
    scene.once(["-EwRi", "a"]).status(1).run();
    assert_eq!(scene.once(["-wEi", "a"]).out("5").run().out, "5\n");
}

#[test]
fn an_invalid_time_is_wrong_usage() {
    let scene = Scene::new();
    for option in ["-W", "-t"] {
        for value in ["abc", "", "1s", "1e3"] {
            scene.once([option, value, "-w", "-i", "a", "--", "true"]).status(2).err("seconds").run();
        }
    }
    assert!(!scene.root().exists());
}

#[test]
fn a_wait_with_a_timeout_leaves_the_task_running() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let said = scene.once(["-qw", "-W", "0.05", "-i", "a"]).status(124).err("timed out after 0.05 s").run();
    assert!(said.err.contains("hint: end it with `aba-lock run-once -r -i a`"), "{}", said.err);
    assert!(is_alive(scene.task_pid("a")));
    // Also where the wait itself has started it. (Whether it has printed anything by then is open.)
    let other = scene.gate("other");
    scene.once(with_command(&["-w", "-W", "0.05", "-i", "b"], &other.task(0))).status(124).out("").err("task b").run();
    assert!(is_alive(scene.task_pid("b")));
    gate.open();
    other.open();
    scene.once(["-qwi", "a"]).run();
    scene.once(["-qwi", "b"]).run();
}

#[test]
fn a_wait_names_the_task_unless_it_is_quiet() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let pid = scene.task_pid("a");
    let said = [
        scene.once(["-wi", "a"]).err(format!("Waiting for task: a (PID: {pid})\n")).start(),
        scene.once(["-w", "-m", "Getting it", "-i", "a"]).err(format!("Getting it (PID: {pid})\n")).start(),
        scene.once(["-qwi", "a"]).start(),
        scene.once(["-w", "-m", "", "-i", "a"]).start(),
    ];
    scene.wait_for_task_waiters("a", 4);
    gate.open();
    for call in said {
        call.finish();
    }
    // And of nothing when it has finished.
    scene.once(["-wi", "a"]).run();
}

#[test]
fn the_end_of_a_run_wakes_a_waiter_once() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let waiter = scene.once(["-qwi", "a"]).start();
    scene.wait_for_task_waiters("a", 1);
    // A directory that is open is watched, and each file that the supervisor writes or removes there would wake all waiters.
    let open = fs::read_dir(format!("/proc/{}/fd", waiter.pid())).unwrap().flatten();
    let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    assert!(!open.contains(&scene.task_file("a", "").canonicalize().unwrap()), "{open:?}");
    gate.open();
    waiter.finish();
}

#[test]
fn an_invalid_task_root_is_an_error_in_every_mode() {
    let scene = Scene::new();
    fs::write(scene.path("file"), "").unwrap();
    let calls: [&[&str]; 9] = [
        &["--list"],
        &["-p", "-i", "a"],
        &["-A", "-i", "a"],
        &["-R", "-i", "a"],
        &["-E", "-i", "a"],
        &["-o", "-i", "a"],
        &["-e", "-i", "a"],
        &["-r", "-i", "a"],
        &["-w", "-i", "a"],
    ];
    for call in calls {
        scene.once(call).env("RUN_ONCE_DIR", scene.path("file")).status(125).err("Not a directory").run();
    }
    assert!(fs::read(scene.path("file")).unwrap().is_empty());
}

#[test]
fn a_failure_is_reported_with_the_end_of_its_log() {
    let scene = Scene::new();
    scene.once(["-i", "a", "--", "sh", "-c", "for n in $(seq 20); do echo line $n >&2; done; exit 9"]).run();
    scene.once(["-qwi", "a"]).status(9).run();
    let said =
        scene.once(["-w", "--failure-note", "Call Steve.", "-i", "a"]).status(9).err("a failed with status 9").run();
    assert!(said.err.contains("  | line 20\n") && said.err.contains("  | line 11\n"), "{}", said.err);
    assert!(!said.err.contains("line 10\n"), "{}", said.err);
    assert!(said.err.ends_with("\nCall Steve.\n"), "{}", said.err);
    // Where there is no stderr, stdout has to do.
    scene.once(["-i", "b", "--", "sh", "-c", "echo the reason; exit 1"]).run();
    scene.once(["-wi", "b"]).status(1).err("  | the reason\n").run();
    // What was shown already is not shown again.
    let said = scene.once(["-wi", "c", "--", "sh", "-c", "echo oops >&2; exit 1"]).status(1).err("oops").run();
    assert_eq!(said.err.matches("oops").count(), 2, "the output, and the command line: {}", said.err);
}

#[test]
fn a_new_task_without_a_command_is_an_error() {
    let scene = Scene::new();
    for mode in ["-s", "-w"] {
        scene.once([mode, "-i", "a"]).status(1).err("nothing to run for a").run();
    }
    assert!(!scene.root().exists());
}

#[test]
fn a_command_that_cannot_be_run_fails_with_126_or_127() {
    let scene = Scene::new();
    scene.once(["-i", "a", "--", "no-such-command"]).status(127).err("command not found: no-such-command").run();
    assert_eq!(scene.task_text("a", "exit"), "127\n");
    scene.once(["-wi", "a"]).status(127).err("  | aba-lock: command not found: no-such-command").run();
    scene.once(["-wi", "b", "--", "/"]).status(126).err("could not run /").run();
    assert_eq!(scene.task_text("b", "exit"), "126\n");
}

#[test]
fn the_files_of_a_task_have_fixed_modes_for_any_umask() {
    for umask in ["0000", "0077"] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let call = format!("umask {umask}; \"$HELPER\" run-once -i a -- sh -c 'umask; read _ <gate'");
        let mut command = scene.program("bash");
        command.args(["-c", &call]).current_dir(scene.path(""));
        assert!(command.status().unwrap().success());
        // The files for people come a moment later.
        wait_until("all files are there", || scene.task_file("a", "cmd").exists());
        let mode = |name: &str| fs::metadata(scene.task_file("a", name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(""), 0o711);
        assert_eq!(mode("pid"), 0o644);
        for name in ["lock", "log.out", "log.err", "cmd", "cmd.sh", "cwd", "history"] {
            assert_eq!(mode(name), 0o600, "{name}");
        }
        assert_eq!(fs::read_link(scene.task_file("a", "log")).unwrap().to_str(), Some("log.out"));
        gate.open();
        scene.once(["-qwi", "a"]).run();
        assert_eq!(mode("exit"), 0o600);
        // The command has the caller's.
        assert_eq!(scene.task_text("a", "log.out"), format!("{umask}\n"));
    }
}

#[test]
fn the_logs_of_the_previous_run_and_before_a_reset_are_kept() {
    let scene = Scene::new();
    let run = |text: &str| {
        scene.once(["-qwi", "a", "--", "echo", text]).out(text).run();
    };
    run("first");
    fs::write(scene.task_file("a", "exit"), "143\n").unwrap();
    run("second");
    assert_eq!(scene.task_text("a", "log.out"), "second\n");
    assert_eq!(scene.task_text("a", "log.out.1"), "first\n");
    scene.once(["-r", "-i", "a"]).run();
    assert_eq!(scene.task_text("a", "log.out.prev"), "second\n");
    scene.once(["-o", "-i", "a"]).run();
    let history = scene.task_text("a", "history");
    let events: Vec<&str> = history.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(events, ["STARTED", "COMPLETE", "STARTED", "COMPLETE", "RESET"]);
    scene.once(["-wi", "a"]).status(1).err("nothing to run").run();
}

#[test]
fn reset_all_ends_running_tasks_and_removes_all() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(["-qwi", "good", "--", "true"]).run();
    scene.once(["-qwi", "bad", "--", "false"]).status(1).run();
    scene.once(with_command(&["-i", "runs"], &gate.task(0))).run();
    let pid = scene.task_pid("runs");
    scene.once(["-r", "-i", "good"]).run();
    scene.once(["-G"]).run();
    assert!(!is_alive(pid));
    assert_eq!(fs::read_dir(scene.root().join("runner")).unwrap().count(), 0);
    scene.once(["-G"]).run();
}

#[test]
fn reset_all_leaves_foreign_files() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "true"]).run();
    let (mine, dir) = (scene.task_file("a", "notes"), scene.task_file("photos", "one.jpg"));
    fs::write(&mine, "mine").unwrap();
    fs::create_dir(dir.parent().unwrap()).unwrap();
    fs::write(&dir, "me").unwrap();
    let said = scene.once(["-G"]).err("there is something in it that is not of a task").run();
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
    assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    assert_eq!(fs::read_to_string(&dir).unwrap(), "me");
    assert!(!scene.task_file("a", "exit").exists());
}

#[test]
fn reset_failed_removes_only_failed_and_interrupted_tasks() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(["-qwi", "good", "--", "true"]).run();
    scene.once(["-qwi", "bad", "--", "false"]).status(1).run();
    scene.once(["-qwi", "killed", "--", "sh", "-c", "kill -9 $$"]).status(137).run();
    scene.once(with_command(&["-i", "runs"], &gate.task(0))).run();
    scene.once(["-F"]).run();
    for id in ["bad", "killed"] {
        for name in ["exit", "pid", "lock", "cmd", "cmd.sh", "cwd"] {
            assert!(!scene.task_file(id, name).exists(), "{id}/{name} stayed");
        }
    }
    scene.once(["-wi", "good"]).run();
    scene.once(["-R", "-i", "runs"]).run();
    // The logs of a failure are there until the next time.
    assert!(scene.task_file("bad", "log.err.prev").exists());
    scene.once(["-F"]).run();
    assert!(!scene.task_file("bad", "").exists());
    gate.open();
    scene.once(["-qwi", "runs"]).run();
}

#[test]
fn purge_removes_the_task_after_the_wait() {
    let scene = Scene::new();
    let missing = |id: &str| assert!(!scene.task_file(id, "").exists(), "{id}");
    scene.once(["-cwi", "cold", "--", "echo", "x"]).out("x").run();
    missing("cold");
    scene.once(["-qwi", "bad", "--", "sh", "-c", "echo why >&2; exit 3"]).status(3).err("why").run();
    scene.once(["-cwi", "bad"]).status(3).err("  | why\n").run();
    missing("bad");
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "runs"], &gate.task(0))).run();
    let call = scene.once(["-qcwi", "runs"]).start();
    gate.open();
    call.finish();
    missing("runs");
}

#[test]
fn all_waiters_get_the_outcome_that_one_of_them_purges() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(6))).run();
    let calls: Vec<_> =
        (0..6).map(|_| scene.once(with_command(&["-qcwi", "a"], &gate.task(0))).status(6).start()).collect();
    scene.wait_for_task_waiters("a", 6);
    gate.open();
    for call in calls {
        call.finish();
    }
    assert!(!scene.task_file("a", "").exists());
}

#[test]
fn the_list_shows_each_task_as_a_table_or_as_json() {
    let scene = Scene::new();
    assert_eq!(scene.once(["--json"]).out("[]").run().out, "[]\n");
    scene.once(["--list"]).run();
    let gate = scene.gate("gate");
    scene.once(["-qwi", "bad", "--", "sh", "-c", "exit 3"]).status(3).run();
    scene.once(with_command(&["-i", "runs"], &gate.task(0))).run();
    let pid = scene.task_pid("runs");
    let table = scene.once(["--list"]).out("bad   failed (3)").run().out;
    assert!(table.lines().nth(2).unwrap().starts_with("runs  running"), "{table}");
    assert!(table.contains(&format!(" {pid}  bash -c ")), "{table}");
    let json: Value = serde_json::from_str(&scene.once(["--list", "--json"]).out("[").run().out).unwrap();
    assert_eq!(json[0]["id"], "bad");
    assert_eq!(
        (&json[0]["state"], &json[0]["exit_status"], &json[0]["pid"]),
        (&"failed".into(), &3.into(), &Value::Null)
    );
    assert_eq!(json[0]["command"], serde_json::json!(["sh", "-c", "exit 3"]));
    assert!(json[0]["duration_seconds"].as_f64().unwrap() >= 0.0);
    assert!(json[0]["finished"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&json[1]["state"], &json[1]["pid"]), (&"running".into(), &pid.into()));
    assert_eq!(json[1]["exit_status"], Value::Null);
    let one: Value = serde_json::from_str(&scene.once(["-i", "runs", "--json"]).out("[").run().out).unwrap();
    assert_eq!(one.as_array().unwrap().len(), 1);
    gate.open();
}

#[test]
fn run_once_dir_must_be_absolute_and_is_created() {
    let scene = Scene::new();
    scene.once(["-p", "-i", "a"]).env("RUN_ONCE_DIR", "tasks").status(2).err("not an absolute path").run();
    let tasks = scene.path("deep/tasks");
    scene.once(["-qwi", "a", "--", "true"]).env("RUN_ONCE_DIR", &tasks).run();
    assert!(tasks.join("a/exit").exists());
    assert!(!scene.root().exists());
}

#[test]
fn a_start_that_cannot_write_fails_and_runs_nothing() {
    let scene = Scene::new();
    let ran = scene.path("ran");
    // A file where the directory should be: nobody can make one there, not even root.
    fs::write(scene.path("file"), "").unwrap();
    let call = || scene.once(["-i", "a", "--", "touch", ran.to_str().unwrap()]);
    call().env("RUN_ONCE_DIR", scene.path("file/tasks")).status(125).err("Not a directory").run();
    // No file may grow: as on a full disk.
    let script = format!("ulimit -f 0; exec \"$HELPER\" run-once -i a -- touch '{}'", ran.display());
    scene.bash(&script).status(125).err("could not use ").run();
    assert!(!ran.exists());
    scene.once(["-A", "-i", "a"]).status(1).run();
    call().run();
    scene.once(["-qwi", "a"]).run();
    assert!(ran.exists());
}

#[test]
fn a_task_that_waits_for_itself_is_refused() {
    let scene = Scene::new();
    let script = format!("'{HELPER}' run-once -wi a; echo $?");
    scene.once(["-wi", "a", "--", "bash", "-c", &script]).out("75\n").err("task a would wait for itself").run();
}

#[test]
fn a_task_can_reset_itself() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("read _ <'{}'; '{HELPER}' run-once -r -i a", gate.path.display());
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    let pid = scene.task_pid("a");
    gate.open();
    wait_until("it has ended", || !is_alive(pid));
    wait_until("it was let go", || !is_locked(&scene.task_file("a", "lock")));
}

#[test]
fn a_signal_to_the_supervisor_reaches_the_whole_process_group() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("(trap 'echo child' TERM; echo ready; read _ <'{0}') & wait; wait", gate.path.display());
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    wait_until("it is ready", || scene.task_text("a", "log.out") == "ready\n");
    kill(scene.supervisor("a"), 15);
    scene.once(["-R", "-i", "a"]).run();
    wait_until("it was let go", || !is_locked(&scene.task_file("a", "lock")));
    assert!(scene.task_text("a", "log.out").contains("child"));
    assert_eq!(scene.task_text("a", "exit"), "143\n");
}

#[test]
fn a_combined_log_has_all_of_stderr_at_the_end_of_the_run() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // More than a pipe holds. A process that the task leaves behind still writes to the logs when the run has ended.
    let script = format!(
        "seq 20000 >&2; (trap '' TERM HUP; exec >/dev/null; read _ <'{}'; echo late >&2) & echo end",
        gate.path.display()
    );
    scene.once(["-i", "a", "--combined-log", "--", "bash", "-c", &script]).run();
    scene.once(["-qwi", "a"]).run();
    let numbers = (1..=20_000).map(|number| number.to_string()).collect::<Vec<_>>().join("\n") + "\n";
    assert!(scene.task_text("a", "log.err") == numbers);
    let both = scene.task_text("a", "log.out");
    assert_eq!(both.len(), numbers.len() + "end\n".len());
    assert!(both.contains("end\n"));
    assert!(!is_locked(&scene.task_file("a", "lock")));
    gate.open();
    wait_until("it is in both logs", || {
        ["log.out", "log.err"].iter().all(|name| scene.task_text("a", name).ends_with("late\n"))
    });
    // One that is interrupted leaves nothing.
    scene.once(["-i", "b", "--combined-log", "--", "sh", "-c", "echo moan >&2; kill -TERM $$"]).run();
    scene.once(["-qw", "-S", "-i", "b", "--", "true"]).run();
    assert_eq!(scene.task_text("b", "log.err.1"), "moan\n");
    assert_eq!(scene.task_text("b", "log.out.1"), "moan\n");
}
