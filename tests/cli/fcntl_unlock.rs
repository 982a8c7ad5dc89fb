//! `unlock --file` for a file that is locked with fcntl(2): it names the holders, and ends them with `--kill`.

use crate::call::{Call, Holder};
use crate::kill_waiter::{let_go_on, start_stopped_unlock};
use crate::process::{child_pids, is_alive, is_root, wait_for_program, wait_until};
use crate::scene::{HELPER, HOLD, Scene};
use std::fs;
use std::os::unix::fs::MetadataExt;

fn new_scene() -> Scene {
    let scene = Scene::new();
    fs::write(scene.path("f"), "content\n").unwrap();
    scene
}

fn unlock(scene: &Scene, options: &[&str]) -> Call {
    scene.aba(["unlock", "--file", "f"]).args(options).current_dir(scene.path(""))
}

/// A process that locks `f` with lockf(3), which gets these arguments after the file, and then runs `program`.
fn hold_posix(scene: &Scene, lock: &str, program: &str) -> Holder {
    let text = format!(
        "import fcntl, os, sys\nf = open('f', 'r+')\nfcntl.lockf(f, {lock})\n{program}\nprint('held', flush=True)\nsys.stdin.readline()"
    );
    scene.call("python3").args(["-c", &text]).current_dir(scene.path("")).hold()
}

/// A command that holds the lock with `lock --fcntl`.
fn hold_own(scene: &Scene, options: &[&str], script: &str) -> Holder {
    let call = scene.aba(["lock", "--file", "f", "--fcntl"]).args(options).args(["--", "sh", "-c", script]);
    call.current_dir(scene.path("")).hold()
}

#[test]
fn unlock_names_the_holder_of_a_lock_of_fcntl_and_ends_it_with_kill() {
    let scene = new_scene();
    let kinds: [&dyn Fn() -> Holder; 3] =
        [&|| hold_posix(&scene, "fcntl.LOCK_EX", ""), &|| hold_posix(&scene, "fcntl.LOCK_SH, 10, 5", ""), &|| {
            hold_own(&scene, &[], HOLD)
        }];
    for hold in kinds {
        let mut holder = hold();
        let pid = holder.pid();
        let said =
            unlock(&scene, &[]).status(75).err("aba-lock: f cannot be released from here: locked by fcntl(2)").run();
        let hint = format!("hint: the lock is free when its holder ends; to end it: `kill {pid}`\n");
        assert!(said.err.contains(&format!(": pid {pid} (")) && said.err.ends_with(&hint), "{}", said.err);
        let said = unlock(&scene, &["--kill"]).err(format!("aba-lock: ended pid {pid} (")).run();
        assert_eq!(said.err.lines().count(), 1, "{}", said.err);
        assert_eq!(holder.wait(), 128 + 15);
        unlock(&scene, &[]).run();
        unlock(&scene, &["--kill"]).err("f is free: no process to kill\n").run();
    }
    assert_eq!(fs::read_to_string(scene.path("f")).unwrap(), "content\n");
}

#[test]
fn kill_ends_the_holders_of_both_kinds_and_all_that_share_a_lock() {
    let scene = new_scene();
    let mut holders = [
        scene.flock_holder(scene.path("f")),
        hold_posix(&scene, "fcntl.LOCK_SH", ""),
        hold_posix(&scene, "fcntl.LOCK_SH, 1", ""),
        hold_own(&scene, &["-s"], HOLD),
    ];
    let said = unlock(&scene, &[]).status(75).err("f cannot be released from here: held by pid ").run();
    assert!(said.err.contains("; locked by fcntl(2)"), "{}", said.err);
    let said = unlock(&scene, &["--kill"]).err("ended pid ").run();
    for holder in &mut holders {
        assert!(said.err.contains(&format!("ended pid {} (", holder.pid())), "{}", said.err);
        holder.wait();
    }
    // flock(1) is the parent of its command.
    assert_eq!(said.err.lines().count(), 5, "{}", said.err);
}

#[test]
fn a_child_that_inherited_the_lock_of_fcntl_is_ended_and_one_that_did_not_is_not() {
    let scene = new_scene();
    let mut holder = hold_own(&scene, &[], "sleep 1000 & echo held; wait");
    let [child] = child_pids(holder.pid())[..] else { panic!("one child") };
    wait_for_program(child, "sleep");
    let said = unlock(&scene, &["--kill"]).err(format!("ended pid {} (", holder.pid())).run();
    assert!(said.err.contains(&format!("ended pid {child} (sleep 1000)")), "{}", said.err);
    holder.wait();
    // A child does not inherit a POSIX lock.
    let child =
        "if os.fork() == 0:\n open('child', 'w').write(str(os.getpid()))\n while True: os.read(0, 1) or os._exit(0)";
    let mut holder = hold_posix(&scene, "fcntl.LOCK_EX", child);
    let read = || fs::read_to_string(scene.path("child")).ok()?.parse::<u32>().ok();
    wait_until("the child has started", || read().is_some());
    let said = unlock(&scene, &["--kill"]).err(format!("ended pid {} (", holder.pid())).run();
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(is_alive(read().unwrap()));
    holder.wait();
    drop(holder);
    wait_until("the child ends with its input", || !is_alive(read().unwrap()));
}

#[test]
fn a_holder_of_a_lock_of_fcntl_that_ignores_the_signal_is_killed_after_the_grace_time() {
    let scene = new_scene();
    let mut holder = hold_posix(&scene, "fcntl.LOCK_EX", "import signal\nsignal.signal(15, signal.SIG_IGN)");
    let said = unlock(&scene, &["--kill", "--grace", "0.2"]).err("ended pid ").run();
    assert!(said.err.ends_with(", with SIGKILL\n"), "{}", said.err);
    assert_eq!(holder.wait(), 128 + 9);
}

#[test]
fn a_process_that_acquires_the_lock_of_fcntl_next_is_named_and_not_ended() {
    let scene = new_scene();
    for is_posix in [false, true] {
        let gate = scene.gate(if is_posix { "first" } else { "second" });
        let mut first = hold_posix(&scene, "fcntl.LOCK_EX", "");
        let waiter = if is_posix {
            let program = format!(
                "import fcntl\nf = open('f', 'r+')\nprint('waiting for f', file=__import__('sys').stderr, flush=True)\nfcntl.lockf(f, fcntl.LOCK_EX)\nopen({gate}).readline()\nprint('done')"
            );
            scene.call("python3").args(["-c", &program]).current_dir(scene.path("")).out("done\n").err("waiting")
        } else {
            let script = format!("read _ <{gate}; echo done");
            let call = scene.aba(["lock", "-w", "--file", "f", "--fcntl", "--", "sh", "-c", &script]);
            call.current_dir(scene.path("")).out("done\n").err("waiting for f")
        };
        let waiter = waiter.start();
        waiter.wait_for_error("waiting for f");
        // The kernel does not name a process that waits for a lock of an open file description.
        let end = format!(":{} 0 EOF", fs::metadata(scene.path("f")).unwrap().ino());
        let waits = |line: &str| line.contains("->") && line.ends_with(&end);
        wait_until("it waits in the kernel", || fs::read_to_string("/proc/locks").unwrap().lines().any(waits));
        let unlock = start_stopped_unlock(&scene, &["--file", "f"]);
        wait_until("it is granted", || !fs::read_to_string("/proc/locks").unwrap().lines().any(waits));
        let_go_on(&unlock);
        let said = unlock.finish();
        assert!(said.err.contains(&format!("ended pid {} (", first.pid())), "{}", said.err);
        let next = format!("aba-lock: f is released; now locked by fcntl(2): pid {} (", waiter.pid());
        assert!(said.err.contains(&next) && said.err.lines().count() == 2, "{}", said.err);
        first.wait();
        gate.open();
        waiter.finish();
    }
}

#[test]
fn a_script_that_holds_the_lock_of_fcntl_itself_is_not_ended() {
    let scene = new_scene();
    let refused =
        "refused to release f: the script that calls this command, or a process that started it, holds the lock\n";
    let script = "exec 9<>f; \"$HELPER\" lock --file f --fcntl --fd 9 || exit
        \"$HELPER\" unlock --file f --kill; echo $?
        \"$HELPER\" unlock --file f; echo $?
        \"$HELPER\" unlock --fd 9 --file f && \"$HELPER\" unlock --file f; echo $?";
    let said = scene.bash_here(script).out("75\n75\n0\n").err(refused).run();
    assert!(said.err.contains("hint: pid ") && said.err.contains(" already holds the lock"), "{}", said.err);
    let run = "import fcntl, subprocess, sys\nf = open('f', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\nsys.exit(subprocess.call(sys.argv[1:]))";
    let call = scene.call("python3").args(["-c", run, HELPER, "unlock", "--file", "f", "--kill"]);
    call.current_dir(scene.path("")).status(75).err(refused).run();
}

#[test]
fn a_holder_of_a_lock_of_fcntl_that_cannot_be_examined_is_named_and_not_ended() {
    if !is_root() {
        return;
    }
    let scene = new_scene();
    let holder = hold_posix(&scene, "fcntl.LOCK_EX", "");
    let call = scene.unprivileged().args(["unlock", "--file", "f", "--kill"]).current_dir(scene.path(""));
    let text = format!("refused to release f: cannot examine the descriptors of its holder, pid {} (", holder.pid());
    call.status(75).err(text).err("hint: end the holder as its user or as root").run();
    holder.release();
}
