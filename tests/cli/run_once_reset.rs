//! `run-once --reset`, `--reset-failed` and `--reset-all`.

use crate::call::Call;
use crate::process::{copy_program, count_waiters, is_alive, is_locked, kill, list_files, wait_until};
use crate::run_once_outcome::hold_lock;
use crate::scene::{HELPER, Scene, with_command};
use std::fs;

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
    assert_eq!(list_files(scene.root().join("runner")), [] as [&str; 0]);
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
    let said = scene.once(["-G"]).err("it has files that run-once did not write").run();
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
    // The logs of a failed task stay until the next reset.
    assert!(scene.task_file("bad", "log.err.prev").exists());
    scene.once(["-F"]).run();
    assert!(!scene.task_file("bad", "").exists());
    gate.open();
    scene.once(["-qwi", "runs"]).run();
}

#[test]
fn a_task_can_reset_itself() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("read _ <{gate}; '{HELPER}' run-once -r -i a");
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    let pid = scene.task_pid("a");
    gate.open();
    wait_until("it has ended", || !is_alive(pid));
    scene.wait_for_task_release("a");
}

#[test]
fn reset_failed_continues_after_an_error() {
    let scene = Scene::new();
    for id in ["a", "b"] {
        scene.once(["-qwi", id, "--", "false"]).status(1).run();
    }
    fs::remove_file(scene.task_file("a", "lock")).unwrap();
    fs::create_dir(scene.task_file("a", "lock")).unwrap();
    scene.once(["-F"]).status(125).err("a/lock").run();
    assert!(!scene.task_file("b", "exit").exists());
    // The reset waits for a lock that is held for a moment.
    scene.once(["-qwi", "c", "--", "false"]).status(1).run();
    fs::remove_dir_all(scene.task_file("a", "")).unwrap();
    let holder = hold_lock(&scene, "c");
    let call = scene.once(["-F"]).start();
    wait_until("it waits", || count_waiters(&scene.task_file("c", "lock")) > 0);
    holder.release();
    call.finish();
    assert!(!scene.task_file("c", "exit").exists());
}

#[test]
fn reset_failed_reports_tasks_whose_lock_is_held() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "false"]).status(1).run();
    let holder = hold_lock(&scene, "a");
    scene.once(["-F"]).status(75).err("task a is locked by a process that does not run it").run();
    holder.release();
}

#[test]
fn reset_failed_leaves_a_task_that_was_restarted_and_has_ended() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let interrupted = ["-qwi", "a", "--", "sh", "-c", "kill -TERM $$"];
    scene.once(interrupted).status(143).run();
    let log = scene.path("trace");
    let stops = |number: usize| {
        fs::read_to_string(&log).unwrap_or_default().matches("--- stopped by SIGSTOP").count() >= number
    };
    let mut command = scene.program("strace");
    command.arg("-o").arg(&log);
    for name in ["pid", "lock"] {
        command.arg("-P").arg(scene.task_file("a", name));
    }
    // The helper opens `pid`, then `lock` to read how the run ended, and then again to lock it. If the lock is held, it opens `pid`
    // again, and once more if it looks again.
    command.args([
        "-e",
        "trace=/^open(at)?$",
        "-e",
        "inject=/^open(at)?$:signal=SIGSTOP:when=3+2",
        HELPER,
        "run-once",
        "-F",
    ]);
    let mut call = Call::new(command).start();
    wait_until("it is about to take the lock", || stops(1));
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", call.pid())).unwrap();
    let helper: u32 = children.trim().parse().unwrap();
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    kill(helper, 18);
    wait_until("it has seen that the task runs", || stops(2) || call.has_ended());
    gate.open();
    scene.once(["-qwi", "a"]).run();
    // A slow helper may have looked once more, and stops at each look.
    wait_until("it has ended", || {
        if !call.has_ended() {
            kill(helper, 18);
        }
        call.has_ended()
    });
    call.finish();
    assert_eq!(scene.task_text("a", "exit"), "0\n");
}

#[test]
fn reset_all_sends_one_signal_to_each_task() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let said = scene.path("said");
    let script = format!(
        "trap 'echo TERM >>\"{}\"; asked=1' TERM; echo ready; until [[ -n $asked ]]; do read _ <{gate}; done; read -t 0.5 _ <{gate}",
        said.display()
    );
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    wait_until("it is ready", || scene.task_text("a", "log.out") == "ready\n");
    scene.once(["-G"]).run();
    assert_eq!(fs::read_to_string(&said).unwrap(), "TERM\n");
}

#[test]
fn a_reset_ends_helpers_of_the_task_but_not_other_supervisors() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let other = scene.path("helper-1.2");
    copy_program(HELPER, &other);
    let script = format!(
        "setsid '{HELPER}' lock -w -o nn -- sleep 600 & '{}' run-once -i inner -- sleep 600; echo begun; read _ <{gate}",
        other.display()
    );
    scene.once(["-i", "outer", "--", "bash", "-c", &script]).run();
    wait_until("all run", || scene.task_text("outer", "log.out") == "begun\n" && is_locked(&scene.lock_file("nn")));
    scene.once(["-r", "-i", "outer"]).run();
    wait_until("the lock is free", || !is_locked(&scene.lock_file("nn")));
    scene.once(["-R", "-i", "inner"]).run();
}

#[test]
fn a_reset_does_not_end_what_an_inner_task_left() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let inner = "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $!";
    let script = format!("'{HELPER}' run-once -wi inner -- bash -c '{inner}'; read _ <{gate}");
    scene.once(["-i", "outer", "--", "bash", "-c", &script]).run();
    wait_until("the inner one has ended", || scene.task_text("inner", "exit") == "0\n");
    let daemon: u32 = scene.task_text("inner", "log.out").trim().parse().unwrap();
    scene.once(["-r", "-i", "outer"]).run();
    assert!(is_alive(daemon));
    kill(daemon, 9);
}

#[test]
fn a_reset_ends_a_task_that_a_wait_started() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let waiter =
        scene.once(with_command(&["-wi", "a"], &gate.task(0))).status(143).out("begun").err("was interrupted").start();
    wait_until("it runs", || scene.task_text("a", "log.out") == "begun\n");
    let pid = scene.task_pid("a");
    scene.once(["-r", "-i", "a"]).run();
    assert!(!is_alive(pid));
    waiter.finish();
    // The next run is another process.
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    assert_ne!(scene.task_pid("a"), pid);
}

#[test]
fn a_reset_of_a_task_that_ignores_the_signal_leaves_no_outcome() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("trap '' TERM; echo ready; read _ <{gate}");
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    wait_until("it is ready", || scene.task_text("a", "log.out") == "ready\n");
    let pid = scene.task_pid("a");
    scene.once(["-r", "-i", "a"]).run();
    assert!(!is_alive(pid));
    for name in ["exit", "pid", "lock", "cmd.sh"] {
        assert!(!scene.task_file("a", name).exists(), "{name}");
    }
    assert!(scene.task_text("a", "history").contains("SIGNAL rc=137"));
    scene.once(["-A", "-i", "a"]).status(1).run();
}

#[test]
fn a_reset_ends_what_a_successful_task_left() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("trap 'exit 0' TERM; (trap '' TERM; echo $BASHPID; read _ <{gate}; read _ <{gate}) & wait");
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    let child = scene.wait_for_task_child("a");
    scene.once(["-r", "-i", "a"]).run();
    assert!(scene.task_text("a", "history").contains("COMPLETE rc=0"));
    assert!(!is_alive(child));
}
