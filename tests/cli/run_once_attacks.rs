//! What an attack on `run-once` found.

use crate::call::{Call, Holder};
use crate::process::{copy_program, count_waiters, is_alive, is_locked, is_watching, kill, parent_pid, wait_until};
use crate::scene::{HELPER, Scene, with_command};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

/// A holder of the task's lock that does not run it: a helper, as one that starts or forgets a task for an instant.
fn hold_lock(scene: &Scene, id: &str) -> Holder {
    scene.holder_with(&["-o", "--file", scene.task_file(id, "lock").to_str().unwrap()])
}

#[test]
fn a_command_with_quoted_dollars_is_saved_and_run_again() {
    let scene = Scene::new();
    let script = "IFS=$'\\n'; printf '%s' \"=$'x\"";
    scene.once(["-qwi", "a", "--", "bash", "-c", script]).out("=$'x").run();
    scene.once(["-qwi", "a", "-t", "0"]).out("=$'x").run();
    // What cannot be read is not "never started".
    for list in ["[0]=$'a\\tb'", "[0]=echo [1]=\"$HOME\"", "[0]=echo [1]=~/x", "[0]=echo [1]=`id`"] {
        fs::write(scene.task_file("a", "cmd.sh"), format!("declare -a command=({list})\n")).unwrap();
        scene.once(["-qwi", "a", "-t", "0"]).status(125).err("cmd.sh is not understood").run();
    }
    // And what stands behind it is not left out, nor a part of its directory.
    for more in ["cd /\n", "declare -- directory='/tmp'", "declare -- directory=/tmp; cd /\n"] {
        fs::write(scene.task_file("a", "cmd.sh"), format!("declare -a command=([0]=pwd)\n{more}")).unwrap();
        scene.once(["-qwi", "a", "-t", "0"]).status(125).err("cmd.sh is not understood").run();
    }
}

#[test]
fn an_expired_outcome_is_not_used_while_another_process_holds_the_lock() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "true"]).run();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(scene.task_file("a", "exit")).unwrap().set_modified(hour_ago).unwrap();
    let holder = hold_lock(&scene, "a");
    let waiter = scene.once(["-qw", "-t", "60", "-i", "a", "--", "sh", "-c", "exit 5"]).status(5).start();
    wait_until("it waits", || count_waiters(&scene.task_file("a", "lock")) > 0);
    holder.release();
    waiter.finish();
}

#[test]
fn a_removed_outcome_does_not_come_back() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "true"]).run();
    scene.once(["-p", "-t", "0", "-i", "a"]).status(1).run();
    // As one who resets: has the lock, runs nothing, and removes the file.
    let holder = hold_lock(&scene, "a");
    let waiter = scene.once(["-qwi", "a", "--", "sh", "-c", "exit 7"]).status(7).start();
    wait_until("it waits", || count_waiters(&scene.task_file("a", "lock")) > 0);
    fs::remove_file(scene.task_file("a", "lock")).unwrap();
    holder.release();
    waiter.finish();
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
    // The second still runs.
    waiter.finish();
    assert!(is_alive(scene.task_pid("a")));
    second.open();
}

#[test]
fn a_wait_can_time_out_while_its_output_is_not_read() {
    for signal in [None, Some("-INT")] {
        let scene = Scene::new();
        let bound = if signal.is_none() { "0.3" } else { "600" };
        let mut command = scene.program(HELPER);
        command.args([
            "run-once",
            "-w",
            "-W",
            bound,
            "-i",
            "a",
            "--",
            "sh",
            "-c",
            "head -c 1000000 /dev/zero; sleep 600",
        ]);
        // Nobody reads.
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

/// Whether it is about to write to a pipe that is full; or has ended.
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
fn a_pid_file_locked_by_another_process_does_not_count_as_a_running_task() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let (command, supervisor) = (scene.task_pid("a"), scene.supervisor("a"));
    let mut stranger = scene.program("sh");
    let script = "exec 9<\"$1\"; echo ready; flock 9; read _";
    stranger.args(["-c", script, "sh", scene.task_file("a", "pid").to_str().unwrap()]);
    let stranger = Holder::start(stranger);
    kill(supervisor, 9);
    wait_until("the command has ended, and was reaped", || !Path::new(&format!("/proc/{command}")).exists());
    wait_until("the stranger has it", || is_locked(&scene.task_file("a", "pid")));
    scene.once(["-R", "-i", "a"]).status(1).run();
    gate.open();
    scene.once(["-qwi", "a"]).out("begun").run();
    stranger.release();
}

#[test]
fn processes_that_left_the_session_of_an_interrupted_task_are_ended() {
    // With a session of its own; without the environment of the others, which would tell to whom it belongs; both.
    for how in ["setsid -w bash", "env -i bash", "env -i setsid -w bash"] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let script = format!("{how} -c \"echo \\$\\$; read _ <'{}'\" & wait", gate.path.display());
        let start = || {
            scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
            wait_until("the child is there", || scene.task_text("a", "log.out").ends_with('\n'));
            scene.task_text("a", "log.out").trim().parse::<u32>().unwrap()
        };
        let child = start();
        kill(scene.task_pid("a"), 15);
        wait_until("it was let go", || !is_locked(&scene.task_file("a", "lock")));
        assert!(!is_alive(child), "{how}: after a signal to the command");
        let child = start();
        scene.once(["-r", "-i", "a"]).run();
        assert!(!is_alive(child), "{how}: after a reset");
        if how != "env -i setsid -w bash" {
            let child = start();
            kill(scene.supervisor("a"), 9);
            wait_until("it was let go", || !is_locked(&scene.task_file("a", "lock")));
            scene.once(["-qwi", "a", "--", "true"]).run();
            assert!(!is_alive(child), "{how}: after the supervisor was killed");
        }
    }
}

#[test]
fn a_task_started_by_a_task_is_independent() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let inner = gate.task(0);
    let script = format!("'{HELPER}' run-once -i inner -- \"$@\"; echo begun; read _ <'{}'", gate.path.display());
    let start = || {
        scene.once(["-i", "outer", "--", "bash", "-c", &script, "bash", &inner[0], &inner[1], &inner[2]]).run();
        wait_until("both run", || scene.task_text("outer", "log.out") == "begun\n");
    };
    start();
    let (pid, supervisor) = (scene.task_pid("inner"), scene.supervisor("inner"));
    kill(scene.task_pid("outer"), 15);
    wait_until("it was let go", || !is_locked(&scene.task_file("outer", "lock")));
    assert!(is_alive(pid) && is_alive(supervisor));
    start();
    let outer = scene.supervisor("outer");
    kill(outer, 9);
    wait_until("it was let go", || !is_locked(&scene.task_file("outer", "lock")));
    scene.once(["-qwi", "outer", "--", "true"]).run();
    assert!(is_alive(pid) && is_alive(supervisor) && parent_pid(pid) == supervisor);
}

#[test]
fn a_supervisor_whose_directory_was_removed_does_not_affect_the_next_run() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    scene.once(with_command(&["-i", "a"], &first.task(3))).run();
    let supervisor = scene.supervisor("a");
    // The supervisor may still be writing there.
    wait_until("it is removed", || fs::remove_dir_all(scene.root()).is_ok());
    scene.once(with_command(&["-i", "a"], &second.task(5))).run();
    first.open();
    wait_until("it has ended", || !is_alive(supervisor));
    scene.once(["-R", "-i", "a"]).run();
    scene.once(["-E", "-i", "a"]).status(1).run();
    second.open();
    scene.once(["-qwi", "a"]).status(5).run();
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
    let waiter = scene.once(["-wi", "a", "--", "true"]).err(said).err("which does not run it").start();
    let errors = waiter.pid();
    wait_until("it said so", || has_said(errors));
    holder.release();
    waiter.finish();
}

/// Whether it has taken longer than the second after which it says so. (It prints into a pipe.)
fn has_said(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start: f64 = text.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap();
    let up: f64 = fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap();
    up - start / 100.0 > 2.0
}

#[test]
fn a_removed_working_directory_fails_with_126() {
    let scene = Scene::new();
    fs::create_dir(scene.path("there")).unwrap();
    scene.aba(["run-once", "-qwi", "a", "--", "true"]).current_dir(scene.path("there")).run();
    fs::write(scene.task_file("a", "exit"), "143\n").unwrap();
    fs::remove_dir(scene.path("there")).unwrap();
    scene.once(["-wi", "a"]).status(126).err("could not run true in ").run();
    scene.once(["-wi", "a"]).status(126).err("could not enter ").run();
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
    // A lock that is held for an instant is waited for.
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
    scene.once(["-F"]).status(75).err("task a is held by a process that does not run it").run();
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
    // It opens `pid`, `lock`, `pid` again when it has found the lock held, and once more if it does not go by what it saw then.
    command.args(["-e", "trace=openat", "-e", "inject=openat:signal=SIGSTOP:when=2+2", HELPER, "run-once", "-F"]);
    let mut call = Call::new(command).start();
    wait_until("it is about to take the lock", || stops(1));
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", call.pid())).unwrap();
    let helper: u32 = children.trim().parse().unwrap();
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    kill(helper, 18);
    wait_until("it has seen that the task runs", || stops(2) || call.has_ended());
    gate.open();
    scene.once(["-qwi", "a"]).run();
    if !call.has_ended() {
        kill(helper, 18);
    }
    call.finish();
    assert_eq!(scene.task_text("a", "exit"), "0\n");
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
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
}

#[test]
fn reset_all_sends_one_signal_to_each_task() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let said = scene.path("said");
    let script = format!(
        "trap 'echo TERM >>\"{}\"; asked=1' TERM; echo ready; until [[ -n $asked ]]; do read _ <'{1}'; done; read -t 0.5 _ <'{1}'",
        said.display(),
        gate.path.display()
    );
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    wait_until("it is ready", || scene.task_text("a", "log.out") == "ready\n");
    scene.once(["-G"]).run();
    assert_eq!(fs::read_to_string(&said).unwrap(), "TERM\n");
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
fn a_wait_exits_with_the_status_of_the_run_that_it_shows() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo one; read _ <'{}'; echo two", gate.path.display());
    let first = scene.once(["-qwi", "a", "--", "bash", "-c", &script]).status(137).out("one\n").start();
    wait_until("it runs", || scene.task_text("a", "log.out") == "one\n");
    // Another is there at once, and runs it again.
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
fn a_reset_ends_helpers_of_the_task_but_not_other_supervisors() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let other = scene.path("helper-1.2");
    copy_program(HELPER, &other);
    let script = format!(
        "setsid '{HELPER}' lock -o nn -- sleep 600 & '{}' run-once -i inner -- sleep 600; echo begun; read _ <'{}'",
        other.display(),
        gate.path.display()
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
    let script = format!("'{HELPER}' run-once -wi inner -- bash -c '{inner}'; read _ <'{}'", gate.path.display());
    scene.once(["-i", "outer", "--", "bash", "-c", &script]).run();
    wait_until("the inner one has ended", || scene.task_text("inner", "exit") == "0\n");
    let daemon: u32 = scene.task_text("inner", "log.out").trim().parse().unwrap();
    scene.once(["-r", "-i", "outer"]).run();
    assert!(is_alive(daemon));
    kill(daemon, 9);
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
    // The bound is kept; the sentence that says so then waits for its reader.
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
fn json_is_accepted_only_with_the_list() {
    let scene = Scene::new();
    for mode in ["-r", "-w", "-p", "-o"] {
        scene.once(["--json", mode, "-i", "a"]).status(2).err("cannot be used with").run();
    }
}
