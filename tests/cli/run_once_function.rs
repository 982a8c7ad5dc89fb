//! Tasks of the bash function that `run-once` replaces. The function holds `lock`, writes no record, and does not lock `pid`.
//! To the function, a task runs while its `lock` is held.

use crate::call::{Call, CallOutput};
use crate::process::{is_alive, is_watching, kill, parent_pid, wait_until, waiter_pids, write_program};
use crate::scene::{Gate, Scene, with_command};
use std::fs;
use std::time::{Duration, Instant};

/// A script that handles the files of a task as the function does. Usage: `function background|foreground ID CMD...`
const FUNCTION: &str = r#"#!/bin/bash
mode=$1 dir=$ABA_LOCK_DIR/runner/$2
shift 2
mkdir -p "$dir" && cd "$dir" || exit 90
exec 9>>lock
flock -n 9 || exit 91
: >log.out
: >log.err
rm -f exit
command=("$@")
declare -p command >cmd.sh
pwd >cwd
if [[ $mode == background ]]; then
    (
        exec >/dev/null 2>&1
        setsid "$@" 9>&- 2> >(tee -a log.err >>log.out) >>log.out &
        echo $! >pid
        wait $!
        echo $? >exit
    ) &
    exec 9>&-
else
    (
        setsid "$@" 9>&- 2> >(tee -a log.err >&2) | tee -a log.out
        echo "${PIPESTATUS[0]}" >exit
    ) &
    exec 9>&-
    wait
fi
"#;

/// A call of the function that runs a task.
fn call_function(scene: &Scene, mode: &str, id: &str, task: &[String]) -> Call {
    let path = scene.path("function");
    if !path.exists() {
        write_program(&path, FUNCTION);
    }
    scene.call(path.to_str().unwrap()).args([mode, id]).args(task)
}

/// A command that counts its runs, prints to both streams, waits at the gate, and exits with `status`.
fn counting_task(scene: &Scene, gate: &Gate, status: i32) -> [String; 3] {
    let script = format!(
        "echo x >>'{}'; echo begun; echo moaned >&2; read _ <{gate}; echo over; exit {status}",
        scene.path("count").display()
    );
    ["bash".to_owned(), "-c".to_owned(), script]
}

fn count_runs(scene: &Scene) -> usize {
    fs::read_to_string(scene.path("count")).unwrap_or_default().lines().count()
}

fn wait_for_start(scene: &Scene, id: &str) {
    wait_until("the task of the function runs", || scene.task_text(id, "log.out").contains("begun\n"));
}

/// Does the same for a task in the background. The function writes its pid after it has started the task.
fn wait_for_background_start(scene: &Scene, id: &str) {
    wait_for_start(scene, id);
    wait_until("the function has written the pid", || scene.task_text(id, "pid").ends_with('\n'));
}

/// Runs a call that must not wait: in less than the time after which such a call used to time out.
fn run_at_once(call: Call) -> CallOutput {
    let begin = Instant::now();
    let said = call.run();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    said
}

#[test]
fn a_background_task_of_the_function_counts_as_running() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = counting_task(&scene, &gate, 0);
    call_function(&scene, "background", "a", &task).run();
    wait_for_background_start(&scene, "a");
    run_at_once(scene.once(["-R", "-i", "a"]));
    run_at_once(scene.once(["-A", "-i", "a"]));
    run_at_once(scene.once(["-p", "-i", "a"]).status(1));
    run_at_once(scene.once(["-E", "-i", "a"]).status(1));
    run_at_once(scene.once(with_command(&["-i", "a"], &task)));
    run_at_once(scene.once(["-F"]));
    let listed = run_at_once(scene.once(["--list"]).out("running")).out;
    assert!(listed.contains(&format!(" {} ", scene.task_pid("a"))), "{listed}");
    run_at_once(scene.aba(["list", "--held"]).out("running"));
    run_at_once(scene.aba(["clean", "--tasks"]).status(0).out(""));
    let said = format!("Waiting for task: a (PID: {})\n", scene.task_pid("a"));
    let waiter = scene.once(["-wi", "a"]).err(&said).start();
    waiter.wait_for_error(&said);
    gate.open();
    waiter.finish();
    assert_eq!(count_runs(&scene), 1);
    // The task has finished, in spite of its `pid` file.
    scene.once(["-R", "-i", "a"]).status(1).run();
    scene.once(with_command(&["-i", "a"], &task)).run();
    assert_eq!(count_runs(&scene), 1);
}

#[test]
fn a_foreground_task_of_the_function_counts_as_running() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let call =
        call_function(&scene, "foreground", "a", &counting_task(&scene, &gate, 3)).out("over").err("moaned").start();
    wait_for_start(&scene, "a");
    run_at_once(scene.once(["-R", "-i", "a"]));
    run_at_once(scene.once(["-i", "a", "--", "false"]).err("keeps its first command"));
    run_at_once(scene.once(["-F"]));
    let waiter = scene.once(["-qwi", "a", "--follow"]).status(3).out("begun\nover\n").err("moaned").start();
    wait_until("the waiter follows", || is_watching(waiter.pid()));
    gate.open();
    call.finish();
    waiter.finish();
    assert_eq!(count_runs(&scene), 1);
}

#[test]
fn a_wait_validates_a_task_of_the_function() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    call_function(&scene, "background", "a", &counting_task(&scene, &gate, 0)).run();
    wait_for_start(&scene, "a");
    let waiter = scene.once(["-qwi", "a", "--validate"]).start();
    wait_until("the waiter waits", || waiter_pids(&scene.task_file("a", "lock")) == [waiter.pid()]);
    gate.open();
    gate.open();
    waiter.finish();
    assert_eq!(count_runs(&scene), 2);
}

#[test]
fn a_reset_ends_a_task_of_the_function() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    for (mode, reset) in [("background", "-r"), ("foreground", "-r"), ("background", "-G"), ("foreground", "-G")] {
        let task = counting_task(&scene, &gate, 0);
        let call = call_function(&scene, mode, "a", &task);
        let call = if mode == "foreground" { call.out("begun").err("moaned") } else { call }.start();
        wait_for_start(&scene, "a");
        let pid = find_task_pid(&scene);
        run_at_once(scene.once(if reset == "-r" { vec!["-r", "-i", "a"] } else { vec!["-G"] }));
        assert!(!is_alive(pid), "{mode} {reset}");
        assert!(!scene.task_file("a", "exit").exists());
        call.finish();
    }
}

/// The process of the command that the function runs.
fn find_task_pid(scene: &Scene) -> u32 {
    let reads = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.starts_with("bash\0-c\0") && line.contains(&scene.path("count").display().to_string())
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(reads).max().expect("the task runs")
}

#[test]
fn processes_of_a_killed_function_end_before_the_next_run() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    call_function(&scene, "background", "a", &counting_task(&scene, &gate, 0)).run();
    wait_for_background_start(&scene, "a");
    let command = scene.task_pid("a");
    kill(parent_pid(command), 9);
    scene.wait_for_task_release("a");
    assert!(is_alive(command));
    scene.once(["-qwi", "a", "--", "echo", "again"]).out("again\n").run();
    assert!(!is_alive(command));
}

#[test]
fn a_task_whose_lock_is_held_counts_as_running() {
    let scene = Scene::new();
    for id in ["zombie", "failed"] {
        scene.once(["-qwi", id, "--", "false"]).status(1).run();
    }
    fs::remove_file(scene.task_file("zombie", "exit")).unwrap();
    let held = ["zombie", "failed"].map(|id| scene.flock_holder(scene.task_file(id, "lock")));
    scene.once(["-F"]).run();
    for id in ["zombie", "failed"] {
        assert!(scene.task_file(id, "cmd.sh").exists(), "{id} was removed");
    }
    scene.once(["-A", "-i", "zombie"]).run();
    // The task has no process that could be ended.
    scene.once(["-r", "-i", "zombie"]).status(75).err("task zombie is locked by a process that does not run it").run();
    for holder in held {
        assert_eq!(holder.release(), 0, "it was not signalled");
    }
    scene.once(["-F"]).run();
    assert!(!scene.task_file("failed", "exit").exists());
}
