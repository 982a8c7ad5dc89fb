//! `run-once --wait`, `--follow` and `--purge`: the exit status, the output and the messages of a wait.

use crate::process::{count_waiters, is_alive, is_watching, kill, wait_until};
use crate::run_once_outcome::hold_lock;
use crate::scene::{HELPER, Scene, with_command};
use std::fs;
use std::process::{Command, Stdio};

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
    let script = format!("echo out; read _ <{gate}; printf 'err' >&2");
    let call = scene.once(["-wi", "a", "--", "bash", "-c", &script]).out("out\n").err("err");
    let call = call.start();
    wait_until("it runs", || scene.task_text("a", "log.out") == "out\n");
    gate.open();
    let said = call.finish();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err"));
    // The output of a run of another process is not shown.
    scene.once(["-wi", "a"]).run();
}

#[test]
fn follow_shows_the_output_of_a_task_of_another_process() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo one; read _ <{gate}; echo two; exit 4");
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    let call = scene.once(["-qwi", "a", "--follow"]).status(4).out("one\ntwo\n").start();
    wait_until("it follows", || is_watching(call.pid()));
    gate.open();
    call.finish();
}

#[test]
fn a_wait_with_a_timeout_leaves_the_task_running() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let said = scene.once(["-qw", "-W", "0.05", "-i", "a"]).status(124).err("timed out after 0.05 s").run();
    assert!(said.err.contains("hint: stop it with `aba-lock run-once -r -i a`"), "{}", said.err);
    assert!(is_alive(scene.task_pid("a")));
    // The same if the wait itself started the task. (The task may have printed something or nothing by then.)
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
    // No message for a finished task.
    scene.once(["-wi", "a"]).run();
}

#[test]
fn the_end_of_a_run_wakes_a_waiter_once() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let waiter = scene.once(["-qwi", "a"]).start();
    scene.wait_for_task_waiters("a", 1);
    // If a waiter watched the directory, each file that the supervisor writes or removes there would wake all waiters.
    let open = fs::read_dir(format!("/proc/{}/fd", waiter.pid())).unwrap().flatten();
    let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
    assert!(!open.contains(&scene.task_file("a", "").canonicalize().unwrap()), "{open:?}");
    gate.open();
    waiter.finish();
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
    // Without any stderr, the end of stdout is shown.
    scene.once(["-i", "b", "--", "sh", "-c", "echo the reason; exit 1"]).run();
    scene.once(["-wi", "b"]).status(1).err("  | the reason\n").run();
    // Output that was already shown is not repeated.
    let said = scene.once(["-wi", "c", "--", "sh", "-c", "echo oops >&2; exit 1"]).status(1).err("oops").run();
    assert_eq!(said.err.matches("oops").count(), 2, "the output, and the command line: {}", said.err);
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
fn a_follower_follows_only_the_run_that_it_began_with() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let waiter = scene.once(with_command(&["-qwi", "a"], &first.task(0))).status(143).out("begun\n").start();
    wait_until("it follows", || is_watching(waiter.pid()));
    kill(waiter.pid(), 19);
    scene.once(["-G"]).run();
    scene.once(with_command(&["-i", "a"], &second.task(0))).run();
    kill(waiter.pid(), 18);
    // The second run has not ended.
    waiter.finish();
    assert!(is_alive(scene.task_pid("a")));
    second.open();
}

#[test]
fn a_wait_can_time_out_while_its_output_is_not_read() {
    for signal in [None, Some("-INT")] {
        let scene = Scene::new();
        let bound = if signal.is_none() { "0.3" } else { "600" };
        let script = "head -c 1000000 /dev/zero; sleep 600";
        let mut command = scene.program(HELPER);
        command.args(["run-once", "-w", "-W", bound, "-i", "a", "--", "sh", "-c", script]);
        // The output is not read.
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("it is full", || is_stuck(child.id()));
        if let Some(signal) = signal {
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        }
        wait_until("it ends", || child.try_wait().unwrap().is_some());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), signal.is_none().then_some(124), "{status}");
        assert!(is_alive(scene.task_pid("a")));
    }
}

/// Returns true if a process is blocked by a full pipe, or has ended.
fn is_stuck(pid: u32) -> bool {
    let stack = fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    stack.contains("pipe_write") || !is_alive(pid)
}

#[test]
fn a_wait_with_a_timeout_does_not_wait_to_purge() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "sh", "-c", "exit 3"]).status(3).run();
    let holder = hold_lock(&scene, "a");
    scene.once(["-qwc", "-W", "0.1", "-i", "a"]).status(3).run();
    assert!(scene.task_file("a", "exit").exists());
    holder.release();
}

#[test]
fn the_caller_that_runs_the_task_shows_its_output_even_if_the_logs_are_removed() {
    let scene = Scene::new();
    for _ in 0..30 {
        let calls: Vec<_> = (0..3).map(|_| scene.once(["-qwci", "a", "--", "echo", "hi"]).out("").start()).collect();
        let said: Vec<String> = calls.into_iter().map(|call| call.finish().out).collect();
        assert!(said.concat().contains("hi\n"), "{said:?}");
    }
}

#[test]
fn a_wait_names_the_process_that_keeps_the_task_from_running() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "sh", "-c", "kill -9 $$"]).status(137).run();
    let holder = hold_lock(&scene, "a");
    let said = "waiting for the lock of task a, held by pid ";
    let waiter = scene.once(["-wi", "a", "--", "true"]).err(said).err("which does not run the task").start();
    waiter.wait_for_error("which does not run the task");
    holder.release();
    waiter.finish();
}

#[test]
fn a_wait_exits_with_the_status_of_the_run_that_it_shows() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo one; read _ <{gate}; echo two");
    let first = scene.once(["-qwi", "a", "--", "bash", "-c", &script]).status(137).out("one\n").start();
    wait_until("it runs", || scene.task_text("a", "log.out") == "one\n");
    // Another caller runs the task again immediately.
    let second = scene.once(["-qwi", "a", "--follow", "--", "bash", "-c", &script]).out("one\ntwo\n").start();
    wait_until("both follow", || is_watching(first.pid()) && is_watching(second.pid()));
    kill(scene.supervisor("a"), 9);
    wait_until("it is run again", || scene.task_text("a", "history").matches("STARTED").count() == 2);
    gate.open();
    let said = first.finish().out;
    assert_eq!(said, "one\n");
    second.finish();
}

#[test]
fn a_wait_can_time_out_while_its_messages_are_not_read() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let script = "exec 3<>\"$1\"; head -c 65536 /dev/zero >&3; exec \"$HELPER\" run-once -w -W 0.2 -i a 2>&3";
    let full = scene.gate("full");
    let mut command = scene.program("timeout");
    command.args(["30", "bash", "-c", script, "bash", full.path.to_str().unwrap()]);
    // The wait ends in time. Only the message about the timeout blocks until it is read.
    let mut child = command.spawn().unwrap();
    wait_until("only the reader is missing", || {
        count_waiters(&scene.task_file("a", "lock")) == 0 && child.try_wait().unwrap().is_none()
    });
    let mut reader = Command::new("cat").arg(&full.path).stdout(Stdio::null()).spawn().unwrap();
    wait_until("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(124));
    let _ = reader.kill();
    let _ = reader.wait();
    gate.open();
}

#[test]
fn purge_removes_expired_tasks_and_those_that_could_not_run() {
    let scene = Scene::new();
    scene.once(["-qwci", "a", "-t", "0", "--", "sh", "-c", "exit 3"]).status(3).run();
    assert!(!scene.task_file("a", "").exists());
    scene.once(["-qwci", "a", "--", "no-such-command"]).status(127).err("not found").run();
    assert!(!scene.task_file("a", "").exists());
}

#[test]
fn a_run_that_ended_during_the_wait_is_not_expired() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let calls: Vec<_> = (0..4).map(|_| scene.once(["-qw", "-t", "0", "-i", "a"]).start()).collect();
    wait_until("they wait", || count_waiters(&scene.task_file("a", "lock")) > 0);
    for call in &calls {
        let pid = call.pid();
        wait_until("each of them", || fs::read_to_string("/proc/locks").unwrap().contains(&format!("WRITE {pid} ")));
    }
    gate.open();
    for call in calls {
        call.finish();
    }
    assert_eq!(scene.task_text("a", "history").matches("STARTED").count(), 1);
}

#[test]
fn a_waiter_gets_the_status_even_if_the_task_directory_was_removed() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(4))).run();
    let waiter = scene.once(["-qwi", "a"]).status(4).start();
    scene.wait_for_task_waiters("a", 1);
    wait_until("the last file is written", || scene.task_file("a", "cmd").exists());
    fs::remove_dir_all(scene.task_file("a", "")).unwrap();
    gate.open();
    waiter.finish();
    assert!(!scene.task_file("a", "").exists());
}

#[test]
fn followers_that_purge_get_the_status_of_the_run_that_they_followed() {
    for status in [0, 3] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let counted = scene.path("counted");
        let script = format!("echo x >>'{}'; echo begun; read _ <{gate}; exit {status}", counted.display());
        let call = || scene.once(["-qwci", "a", "--follow", "--", "bash", "-c", &script]).status(status).out("begun\n");
        let calls: Vec<_> = (0..5).map(|_| call().start()).collect();
        wait_until("all follow", || calls.iter().all(|call| is_watching(call.pid())));
        for _ in &calls {
            gate.open();
        }
        for call in calls {
            call.finish();
        }
        assert_eq!(fs::read_to_string(&counted).unwrap(), "x\n");
        assert!(!scene.task_file("a", "").exists());
    }
}

#[test]
fn a_task_that_waits_for_a_task_whose_command_started_it_is_a_deadlock() {
    let scene = Scene::new();
    let starter = ["--", HELPER, "run-once", "-qw", "-i", "two", "--"];
    let call = scene.once(["-qw", "-i", "one"].into_iter().chain(starter));
    let call = call.args([HELPER, "run-once", "-qw", "-i", "one", "--", "true"]);
    let call = call.status(75).out("").err("waiting for task one would be a deadlock: ");
    call.err("hint: let one of these processes go on without the task: ").run();
}
