//! `run-once`: outcomes, their validation and expiry, and the saved command of a task.

use crate::call::{Holder, finish_all};
use crate::process::{count_waiters, find_parent_pid, is_alive, is_locked, kill, set_modified, wait_until};
use crate::scene::{HELPER, Scene, with_command};
use std::fs;
use std::os::unix::ffi::OsStringExt;

/// A helper that holds the lock of a task without running it, as every start and reset does for a moment.
pub(crate) fn hold_lock(scene: &Scene, id: &str) -> Holder {
    scene.holder_with(&["-o", "--file", scene.task_file(id, "lock").to_str().unwrap()])
}

#[test]
fn a_command_with_quoted_dollars_is_saved_and_run_again() {
    let scene = Scene::new();
    let script = "IFS=$'\\n'; printf '%s' \"=$'x\"";
    scene.once(["-qwi", "a", "--", "bash", "-c", script]).out("=$'x").run();
    scene.once(["-qwi", "a", "-t", "0"]).out("=$'x").run();
    // A saved command that cannot be parsed is an error. The task does not count as new.
    for list in ["[0]=$'a\\tb'", "[0]=echo [1]=\"$HOME\"", "[0]=echo [1]=~/x", "[0]=echo [1]=`id`"] {
        fs::write(scene.task_file("a", "cmd.sh"), format!("declare -a command=({list})\n")).unwrap();
        scene.once(["-qwi", "a", "-t", "0"]).status(125).err("cmd.sh: unknown format").run();
    }
    // Text after the command is an error, too.
    for more in ["cd /\n", "declare -- directory='/tmp'", "declare -- directory=/tmp; cd /\n"] {
        fs::write(scene.task_file("a", "cmd.sh"), format!("declare -a command=([0]=pwd)\n{more}")).unwrap();
        scene.once(["-qwi", "a", "-t", "0"]).status(125).err("cmd.sh: unknown format").run();
    }
}

#[test]
fn an_expired_outcome_is_not_used_while_another_process_holds_the_lock() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "true"]).run();
    set_modified(scene.task_file("a", "exit"), -3600);
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
    // Like a reset, this holds the lock, runs nothing, and removes the lock file.
    let holder = hold_lock(&scene, "a");
    let waiter = scene.once(["-qwi", "a", "--", "sh", "-c", "exit 7"]).status(7).start();
    wait_until("it waits", || count_waiters(&scene.task_file("a", "lock")) > 0);
    fs::remove_file(scene.task_file("a", "lock")).unwrap();
    holder.release();
    waiter.finish();
}

#[test]
fn an_outcome_stays_valid_during_its_validation() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    gate.open();
    scene.once(with_command(&["-qwi", "a"], &gate.task(0))).out("begun").run();
    let validation = scene.once(["-qwi", "a", "--validate"]).start();
    wait_until("it is being validated", || scene.task_file("a", "pid").exists());
    for _ in 0..50 {
        assert_eq!(scene.once(["-E", "-i", "a"]).out("0").run().out, "0\n");
        scene.once(["-p", "-i", "a"]).run();
    }
    scene.once(["-R", "-i", "a"]).run();
    gate.open();
    validation.finish();
    assert!(scene.task_text("a", "history").contains("VALIDATE rc=0"));
}

#[test]
fn the_lock_is_held_from_the_probe_to_the_end_of_a_validation() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    gate.open();
    scene.once(with_command(&["-qwi", "a"], &gate.task(0))).out("begun").run();
    let validation = scene.once(["-qwi", "a", "--validate"]).start();
    wait_until("it is being validated", || scene.task_file("a", "pid").exists());
    assert!(is_locked(&scene.task_file("a", "lock")));
    // A start and `--reset-failed` have no effect now, and a waiter waits.
    scene.once(with_command(&["-i", "a"], &gate.task(9))).err("keeps its first command").run();
    scene.once(["-F"]).run();
    let mut waiter = scene.once(["-qwi", "a"]).start();
    // After the wait the outcome is new, so this call need not validate it again.
    let validator = scene.once(["-qwi", "a", "--validate"]).start();
    scene.wait_for_task_waiters("a", 2);
    assert!(!waiter.has_ended());
    gate.open();
    validation.finish();
    waiter.finish();
    validator.finish();
    assert_eq!(scene.task_text("a", "history").lines().count(), 3);
}

#[test]
fn a_wait_validates_an_outcome_whose_validation_was_killed() {
    // The second wait begins during the first run, after it, or during the validation.
    for moment in ["run", "pause", "validation"] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let statuses = scene.path("statuses");
        let script = format!("\"$HELPER\" run-once -qwi a --validate; echo $? >>'{}'", statuses.display());
        let read_pid = || fs::read_to_string(scene.task_file("a", "pid")).ok()?.trim().parse::<u32>().ok();
        scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
        wait_until("it runs", || read_pid().is_some());
        let first_run = read_pid();
        let mut holder = None;
        if moment != "run" {
            gate.open();
            wait_until("it has ended", || read_pid().is_none());
            holder = Some(hold_lock(&scene, "a"));
        }
        let mut waits = vec![scene.bash(&script).start()];
        if moment != "validation" {
            waits.push(scene.bash(&script).start());
        }
        scene.wait_for_task_waiters("a", waits.len());
        match holder {
            Some(holder) => drop(holder.release()),
            None => gate.open(),
        }
        wait_until("it is being validated", || read_pid().is_some_and(|pid| Some(pid) != first_run));
        let command = read_pid().unwrap();
        let supervisor = find_parent_pid(command).unwrap();
        if moment == "validation" {
            waits.push(scene.bash(&script).start());
        }
        scene.wait_for_task_waiters("a", 1);
        kill(supervisor, 9);
        wait_until("the next run has ended the command", || !is_alive(command));
        gate.open();
        finish_all(waits);
        let mut statuses: Vec<_> = fs::read_to_string(&statuses).unwrap().lines().map(str::to_owned).collect();
        statuses.sort();
        assert_eq!(statuses, ["0", "137"], "{moment}");
        assert_eq!(scene.task_text("a", "history").matches("VALIDATE rc=0").count(), 1, "{moment}");
    }
}

#[test]
fn concurrent_waits_validate_a_running_task_once() {
    for validators in [1, 4] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let counted = scene.path("counted");
        let script = format!("echo x >>'{}'; echo begun; read _ <{gate}", counted.display());
        scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
        wait_until("it runs", || scene.task_text("a", "log.out") == "begun\n");
        let calls: Vec<_> = (0..validators).map(|_| scene.once(["-qwi", "a", "--validate"]).start()).collect();
        let plain = scene.once(["-qwi", "a"]).start();
        scene.wait_for_task_waiters("a", validators + 1);
        // Opens the gate more often than needed.
        for _ in 0..=validators {
            gate.open();
        }
        for call in calls {
            call.finish();
        }
        plain.finish();
        assert_eq!(fs::read_to_string(&counted).unwrap(), "x\nx\n", "{validators} waits with --validate");
    }
}

#[test]
fn a_failed_validation_replaces_the_outcome() {
    let scene = Scene::new();
    let made = scene.path("made");
    let script = format!("test -e '{}'", made.display());
    fs::write(&made, "").unwrap();
    scene.once(["-qwi", "a", "--", "sh", "-c", &script]).run();
    scene.once(["-qwi", "a", "--validate"]).run();
    fs::remove_file(&made).unwrap();
    scene.once(["-qwi", "a"]).run();
    scene.once(["-qwi", "a", "--validate", "-S"]).run();
    scene.once(["-qwi", "a", "--validate"]).status(1).run();
    scene.once(["-qwi", "a"]).status(1).run();
    // Neither a failure nor a run of the same call is validated.
    let counted = scene.path("counted");
    let script = format!("echo x >>'{}'", counted.display());
    scene.once(["-qwi", "b", "--validate", "--", "sh", "-c", &script]).run();
    assert_eq!(fs::read_to_string(&counted).unwrap(), "x\n");
    scene.once(["-qwi", "b", "--validate"]).run();
    assert_eq!(fs::read_to_string(&counted).unwrap(), "x\nx\n");
}

#[test]
fn the_saved_command_runs_in_its_saved_directory() {
    let scene = Scene::new();
    for name in ["one", "two"] {
        fs::create_dir(scene.path(name)).unwrap();
    }
    let call = |directory: &str, args: &[&str]| {
        scene.call(HELPER).arg("run-once").args(args).current_dir(scene.path(directory))
    };
    let one = format!("{}\n", scene.path("one").display());
    call("one", &["-qwi", "a", "--", "pwd"]).out(&one).run();
    // A call that does not run the task does not save its command.
    call("two", &["-i", "a", "--", "pwd", "-P"]).err("keeps its first command (pwd)").run();
    fs::write(scene.task_file("a", "exit"), "143\n").unwrap();
    assert_eq!(call("two", &["-qwi", "a"]).out(&one).run().out, one);
    assert_eq!(scene.task_text("a", "cwd"), one);
    assert_eq!(scene.task_text("a", "cmd"), "pwd\n");
}

#[test]
fn the_saved_command_outlives_its_ttl() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "echo", "x"]).out("x").run();
    set_modified(scene.task_file("a", "exit"), -100);
    scene.once(["-p", "-t", "99", "-i", "a"]).status(1).run();
    scene.once(["-E", "-i", "a"]).status(1).run();
    scene.once(["-o", "-i", "a"]).run();
    assert!(scene.task_text("a", "history").contains("TTL_EXPIRED"));
    scene.once(["-qwi", "a"]).out("x\n").run();
}

#[test]
fn a_ttl_starts_at_the_outcome_and_failures_expire_after_30_seconds() {
    let scene = Scene::new();
    let peek = |age: i64, ttl: &str, status: i32, answer: i32| {
        fs::write(scene.task_file("a", "exit"), format!("{status}\n")).unwrap();
        set_modified(scene.task_file("a", "exit"), -age);
        scene.once(["-p", "-t", ttl, "-i", "a"]).status(answer).run();
    };
    scene.once(["-qwi", "a", "--", "true"]).run();
    peek(3000, "3600", 0, 0);
    peek(3700, "3600", 0, 1);
    peek(0, "3600", 1, 0);
    peek(40, "3600", 1, 1);
    peek(20, "10", 1, 1);
    // A time in the future, because the clock was set back.
    for (ahead, status, answer) in [(100_000, 0, 1), (100_000, 1, 1), (0, 0, 0)] {
        fs::write(scene.task_file("a", "exit"), format!("{status}\n")).unwrap();
        set_modified(scene.task_file("a", "exit"), ahead);
        scene.once(["-p", "-t", "3600", "-i", "a"]).status(answer).run();
    }
    // Without a TTL, no outcome expires.
    fs::write(scene.task_file("a", "exit"), "0\n").unwrap();
    set_modified(scene.task_file("a", "exit"), -1_000_000);
    scene.once(["-p", "-i", "a"]).run();
}

#[test]
fn an_interrupted_run_is_not_an_outcome() {
    for mode in ["-s", "-w"] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
        kill(scene.task_pid("a"), 9);
        wait_until("it was noticed", || scene.task_text("a", "exit") == "137\n");
        scene.wait_for_task_release("a");
        assert!(scene.task_text("a", "history").contains("SIGNAL rc=137"));
        let out = if mode == "-w" { "begun\n" } else { "" };
        gate.open();
        scene.once([mode, "-qi", "a"]).out(out).run();
        scene.once(["-qwi", "a"]).run();
        assert_eq!(scene.task_text("a", "history").matches("STARTED").count(), 2);
    }
}

#[test]
fn a_validation_inherits_neither_the_lock_nor_stdin() {
    let scene = Scene::new();
    let script = "echo begun >&2; cat; ls -l /proc/self/fd | grep -c 'lock$'; true";
    scene.once(["-qwi", "a", "--", "bash", "-c", script]).out("0\n").err("begun").run();
    // The loop must read all three lines.
    let said = scene
        .bash("printf '%s\\n' x y z | while read -r line; do \"$HELPER\" run-once -qwi a --validate; echo $line; done");
    assert_eq!(said.out("x").run().out, "x\ny\nz\n");
    assert_eq!(scene.task_text("a", "log.out"), "0\n");
    assert_eq!(scene.task_text("a", "history").matches("VALIDATE rc=0").count(), 3);
}

#[test]
fn arguments_may_be_any_bytes_also_in_the_saved_command() {
    let scene = Scene::new();
    let words: Vec<std::ffi::OsString> = [
        &b"tab\there"[..],
        b"two\nlines",
        b"",
        b"it's \"$HOME\" `id` \\ )",
        b"\xff\xfe",
        b"[0]=x",
        b"IFS=$'\\n'",
        b"-n",
    ]
    .iter()
    .map(|word| std::ffi::OsString::from_vec(word.to_vec()))
    .collect();
    let print = [std::ffi::OsString::from("printf"), "%s\\0".into()];
    scene.aba(["run-once", "-i", "a", "--"]).args(print.iter().chain(&words)).run();
    scene.once(["-qwi", "a"]).run();
    let printed = || fs::read(scene.task_file("a", "log.out")).unwrap();
    let expected: Vec<u8> = words.iter().flat_map(|word| [word.clone().into_vec(), vec![0]].concat()).collect();
    assert_eq!(printed(), expected);
    scene.once(["-qwi", "a", "--validate"]).run();
    assert!(scene.task_text("a", "history").contains("VALIDATE"));
    assert_eq!(printed(), expected);
    // bash reads the same command from the file.
    let script = format!("source '{}'; printf '%s\\0' \"${{command[@]:2}}\"", scene.task_file("a", "cmd.sh").display());
    let output = scene.program("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(output.stdout, expected);
}

#[test]
fn a_start_rechecks_a_task_whose_lock_is_held() {
    // A helper holds the lock without running the task, like a starter that is killed. A second starter must not rely on it.
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "true"]).run();
    scene.once(["-r", "-i", "a"]).run();
    let gate = scene.gate("gate");
    let lock = scene.task_file("a", "lock");
    let mut holder = scene.program(HELPER);
    holder.args(["lock", "-o", "--file"]).arg(&lock);
    holder.args(["--", "sh", "-c", &format!("echo held; read _ <{gate}")]);
    let holder = Holder::start(holder);
    let starter = scene.once(["-i", "a", "--", "echo", "ran"]).start();
    wait_until("it waits", || count_waiters(&lock) == 1);
    gate.open();
    drop(holder);
    starter.finish();
    scene.once(["-qwi", "a"]).run();
    assert_eq!(scene.task_text("a", "log.out"), "ran\n");
}

#[test]
fn a_full_disk_at_the_end_loses_no_outcome() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(4))).run();
    // `exit` cannot be replaced, as on a full disk. The lock file has room for the outcome.
    fs::create_dir(scene.task_file("a", "exit.tmp")).unwrap();
    fs::create_dir(scene.task_file("a", "exit.tmp/x")).unwrap();
    let waiter = scene.once(["-qwi", "a"]).status(4).start();
    gate.open();
    waiter.finish();
    assert!(!scene.task_file("a", "exit").exists());
    scene.once(["-qwi", "a"]).status(4).run();
    fs::remove_dir_all(scene.task_file("a", "exit.tmp")).unwrap();
    scene.once(["-qwi", "a"]).status(4).run();
    assert_eq!(scene.task_text("a", "exit"), "4\n");
    assert!(!scene.task_file("a", "pid").exists());
}

#[test]
fn an_unreadable_outcome_is_an_error_and_not_a_reason_to_run_again() {
    let scene = Scene::new();
    scene.once(["-qwi", "b", "--", "sh", "-c", "cd \"$HOME\"; echo ran >>log"]).run();
    let exit = scene.task_file("b", "exit");
    for how in ["-qw", "-s", "-p", "-A", "-R", "-E"] {
        let mut words = vec!["run-once", how, "-i", "b"];
        if how == "-qw" || how == "-s" {
            words.extend(["--", "sh", "-c", "cd \"$HOME\"; echo again >>log"]);
        }
        for error in ["EIO", "EMFILE", "ENOMEM"] {
            let command = scene.strace(["-f", "-P"]).arg(&exit);
            let said = command.args(["-e", &format!("inject=/^open(at)?$:error={error}"), HELPER]).args(&words);
            said.status(125).err(format!("cannot use {}: ", exit.display())).run();
        }
    }
    assert_eq!(fs::read_to_string(scene.path("log")).unwrap(), "ran\n");
    scene.once(["-qwi", "b"]).run();
}
