//! `run-once`: starting tasks, their states, files and output, and wrong usage.

use crate::process::{file_mode, is_alive, is_locked, list_files, wait_until};
use crate::scene::{HELPER, Scene, with_command};
use serde_json::Value;
use std::fs;

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
    // A failed task has finished, an interrupted one has not.
    scene.once(["-qwi", "a", "--", "false"]).status(1).run();
    ask([0, 0, 1]);
    fs::write(scene.task_file("a", "exit"), "130\n").unwrap();
    ask([1, 1, 1]);
}

#[test]
fn outcomes_are_printed_and_an_edited_one_is_respected() {
    let scene = Scene::new();
    scene.once(["-E", "-i", "a"]).status(1).run();
    scene.once(["-qwi", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]).status(7).out("out").err("err").run();
    assert_eq!(scene.once(["-E", "-i", "a"]).out("7").run().out, "7\n");
    assert_eq!(scene.once(["-o", "-i", "a"]).out("out").run().out, "out\n");
    assert_eq!(scene.once(["-e", "-i", "a"]).out("err").run().out, "err\n");
    fs::write(scene.task_file("a", "exit"), "0").unwrap();
    scene.once(["-wi", "a"]).run();
    assert_eq!(scene.once(["-E", "-i", "a"]).out("0").run().out, "0\n");
}

#[test]
fn the_output_of_a_task_that_was_never_started_is_an_error() {
    let scene = Scene::new();
    for letter in ["-o", "-e"] {
        let said = scene.once([letter, "-i", "a"]).status(1).err("no such task").run();
        assert_eq!(
            said.err,
            "aba-lock: no such task: a (never started, or reset)\nhint: show all tasks with `aba-lock run-once --list`\n"
        );
        scene.once([letter, "-q", "-i", "a"]).status(1).run();
    }
    // A task without output, and one whose log was removed.
    scene.once(["-qwi", "a", "--", "true"]).run();
    for letter in ["-o", "-e"] {
        scene.once([letter, "-i", "a"]).run();
    }
    fs::remove_file(scene.task_file("a", "log.out")).unwrap();
    scene.once(["-o", "-i", "a"]).run();
    scene.once(["-r", "-i", "a"]).run();
    scene.once(["-o", "-i", "a"]).status(1).err("no such task").run();
    // A reset can be repeated.
    scene.once(["-r", "-i", "a"]).run();
    scene.once(["-r", "-i", "b"]).run();
}

#[test]
fn invalid_ids_are_refused_and_no_file_is_touched() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("locks/x")).unwrap();
    fs::write(scene.path("locks/x/exit"), "0\n").unwrap();
    let long = "x".repeat(129);
    for id in ["../x", "", ".", "..", "a/b", "a b", "-x", ".x", "ä", &long] {
        for mode in ["-r", "-s", "-w", "-p", "-o", "-E"] {
            scene.once([mode, &format!("--id={id}")]).status(2).err("invalid task id \"").run();
        }
    }
    assert!(scene.path("locks/x/exit").exists());
    assert!(!scene.root().join("runner").exists());
    scene.once(["-p"]).status(2).err("missing argument: --id ID").run();
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
        for value in ["abc", "", "1y", "1e3"] {
            scene.once([option, value, "-w", "-i", "a", "--", "true"]).status(2).err("a time such as").run();
        }
    }
    assert!(!scene.root().exists());
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
fn a_new_task_without_a_command_is_an_error() {
    let scene = Scene::new();
    for mode in ["-s", "-w"] {
        scene.once([mode, "-i", "a"]).status(1).err("no such task: a (never started, or reset)").run();
    }
    assert!(!scene.root().exists());
}

#[test]
fn a_command_that_cannot_be_run_fails_with_126_or_127() {
    let scene = Scene::new();
    scene.once(["-i", "a", "--", "no-such-command"]).status(127).err("command not found: no-such-command").run();
    assert_eq!(scene.task_text("a", "exit"), "127\n");
    scene.once(["-wi", "a"]).status(127).err("  | aba-lock: command not found: no-such-command").run();
    scene.once(["-wi", "b", "--", "/"]).status(126).err("cannot run /").run();
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
        // The other files are written a moment later.
        wait_until("all files are there", || scene.task_file("a", "cmd").exists());
        let mode = |name: &str| file_mode(scene.task_file("a", name));
        assert_eq!(mode(""), 0o711);
        assert_eq!(mode("pid"), 0o644);
        for name in ["lock", "log.out", "log.err", "cmd", "cmd.sh", "cwd", "history"] {
            assert_eq!(mode(name), 0o600, "{name}");
        }
        assert_eq!(fs::read_link(scene.task_file("a", "log")).unwrap().to_str(), Some("log.out"));
        gate.open();
        scene.once(["-qwi", "a"]).run();
        assert_eq!(mode("exit"), 0o600);
        // The command has the umask of the caller.
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
    scene.once(["-o", "-i", "a"]).status(1).err("no such task: a").run();
    let history = scene.task_text("a", "history");
    let events: Vec<&str> = history.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(events, ["STARTED", "COMPLETE", "STARTED", "COMPLETE", "RESET"]);
    scene.once(["-wi", "a"]).status(1).err("no such task: ").run();
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
    let json: Value = scene.once(["--list", "--json"]).json();
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
    let one: Value = scene.once(["-i", "runs", "--json"]).json();
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
    // A file in place of the directory: not even root can create a directory there.
    fs::write(scene.path("file"), "").unwrap();
    let call = || scene.once(["-i", "a", "--", "touch", ran.to_str().unwrap()]);
    call().env("RUN_ONCE_DIR", scene.path("file/tasks")).status(125).err("Not a directory").run();
    // Because of the limit no file may grow, as on a full disk.
    let script = format!("ulimit -f 0; exec \"$HELPER\" run-once -i a -- touch '{}'", ran.display());
    scene.bash(&script).status(125).err("cannot use ").run();
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
fn a_combined_log_has_all_of_stderr_at_the_end_of_the_run() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // More output than a pipe holds. A process that the task left running still writes to the logs after the run.
    let script =
        format!("seq 20000 >&2; (trap '' TERM HUP; exec >/dev/null; read _ <{gate}; echo late >&2) & echo end");
    scene.once(["-i", "a", "--combined-log", "--", "bash", "-c", &script]).run();
    scene.once(["-qwi", "a"]).run();
    let numbers = (1..=20_000).map(|number| number.to_string()).collect::<Vec<_>>().join("\n") + "\n";
    assert!(scene.task_text("a", "log.err") == numbers);
    let both = scene.task_text("a", "log.out");
    assert_eq!(both.len(), numbers.len() + "end\n".len());
    assert!(both.contains("end\n"));
    scene.wait_for_task_release("a");
    gate.open();
    wait_until("it is in both logs", || {
        ["log.out", "log.err"].iter().all(|name| scene.task_text("a", name).ends_with("late\n"))
    });
    // An interrupted run loses no output.
    scene.once(["-i", "b", "--combined-log", "--", "sh", "-c", "echo moan >&2; kill -TERM $$"]).run();
    scene.once(["-qw", "-S", "-i", "b", "--", "true"]).run();
    assert_eq!(scene.task_text("b", "log.err.1"), "moan\n");
    assert_eq!(scene.task_text("b", "log.out.1"), "moan\n");
}

#[test]
fn a_removed_working_directory_fails_with_126() {
    let scene = Scene::new();
    fs::create_dir(scene.path("there")).unwrap();
    scene.aba(["run-once", "-qwi", "a", "--", "true"]).current_dir(scene.path("there")).run();
    fs::write(scene.task_file("a", "exit"), "143\n").unwrap();
    fs::remove_dir(scene.path("there")).unwrap();
    scene.once(["-wi", "a"]).status(126).err("cannot run true in ").run();
    scene.once(["-wi", "a"]).status(126).err("cannot enter ").run();
}

#[test]
fn a_symbolic_link_in_place_of_a_task_is_not_followed() {
    let scene = Scene::new();
    let elsewhere = scene.path("elsewhere");
    fs::create_dir_all(scene.root().join("runner")).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("exit"), "1\n").unwrap();
    std::os::unix::fs::symlink(&elsewhere, scene.root().join("runner/a")).unwrap();
    for call in [&["-r", "-i", "a"][..], &["-i", "a", "-t", "0", "--", "true"], &["-wci", "a"]] {
        scene.once(call).status(125).err("runner/a: Not a directory").run();
    }
    assert_eq!(fs::read_to_string(elsewhere.join("exit")).unwrap(), "1\n");
    assert_eq!(list_files(&elsewhere).len(), 1);
}

#[test]
fn control_characters_in_command_names_are_escaped() {
    let scene = Scene::new();
    let said = scene.once(["-i", "a", "--", "\x1b[31mnope"]).status(127).err("command not found: ?[31mnope").run();
    assert!(!said.err.contains('\x1b'));
    let long = "x".repeat(100_000);
    let said = scene.once(["-i", "b", "--", &long]).status(127).err("…").run();
    assert!(said.err.len() < 1000);
}

#[test]
fn json_is_accepted_only_with_the_list() {
    let scene = Scene::new();
    for mode in ["-r", "-w", "-p", "-o"] {
        scene.once(["--json", mode, "-i", "a"]).status(2).err("cannot be used with").run();
    }
}

#[test]
fn queries_create_no_directory_and_a_reset_removes_it() {
    let scene = Scene::new();
    for letter in ["-p", "-E", "-A", "-R"] {
        scene.once([letter, "-i", "a"]).status(1).run();
        scene.once([letter, "-t", "5", "-i", "a"]).status(1).run();
    }
    for letter in ["-o", "-e"] {
        scene.once([letter, "-i", "a"]).status(1).err("no such task").run();
    }
    for letter in ["-r", "--list", "--json"] {
        let call = scene.once([letter, "-i", "a"]);
        if letter == "--json" {
            call.out("[]").run()
        } else {
            call.run()
        };
    }
    scene.once(["-F"]).run();
    scene.once(["-G"]).run();
    assert!(!scene.root().exists());
    scene.once(["-qwi", "a", "--", "true"]).run();
    scene.once(["-r", "-i", "a"]).run();
    scene.once(["-r", "-i", "a"]).run();
    assert!(!scene.task_file("a", "").exists());
}
