//! `unlock --kill`: it ends the proven holders of a lock, and no waiter.

use crate::call::{Call, Holder};
use crate::process::{count_voluntary_switches, is_alive, is_locked, is_root, set_mode, wait_until};
use crate::scene::{HELPER, Scene};
use crate::time_limit::with_enough_time;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

/// A bash script that holds lock `a`. It must print a line when it is ready.
pub(crate) fn start_holder(scene: &Scene, script: &str) -> Holder {
    scene.aba(["lock", "a", "--", "bash", "-c", script]).hold()
}

/// A script that waits until it is ended.
pub(crate) const WAIT: &str = "echo ready; read _; exit 0";

#[test]
fn kill_ends_and_names_the_holder_and_frees_the_lock() {
    let scene = Scene::new();
    let mut holder = start_holder(&scene, WAIT);
    let said = scene.aba(["unlock", "a", "--kill"]).err("").run();
    let expected = format!("aba-lock: ended pid {} (bash -c '{WAIT}'), by ", holder.pid());
    assert!(said.err.starts_with(&expected) && said.err.lines().count() == 1, "{}", said.err);
    assert!(!is_locked(&scene.lock_file("a")));
    assert_eq!(holder.wait(), 128 + 15);
}

#[test]
fn kill_on_a_free_lock_does_nothing_but_says_so() {
    let scene = Scene::new();
    let kill = || scene.aba(["unlock", "a", "--kill"]);
    let free = "aba-lock: a is free: no process to kill\n";
    let list = "hint: no lock file has this name: show all locks with `aba-lock list`\n";
    assert_eq!(kill().err("").run().err, format!("{free}{list}"));
    kill().arg("-q").run();
    assert!(!scene.lock_file("a").exists());
    scene.aba(["lock", "a", "--", "true"]).run();
    assert_eq!(kill().err("").run().err, free);
    kill().arg("--quiet").run();
    assert!(scene.lock_file("a").exists());
    let mut holder = start_holder(&scene, WAIT);
    kill().arg("-q").run();
    assert_eq!(holder.wait(), 128 + 15);
    scene.aba(["unlock", "a", "-q"]).status(2).err("--kill").run();
}

#[test]
fn another_signal_can_be_chosen_unless_it_ends_no_process() {
    let scene = Scene::new();
    for signal in ["INT", "SIGINT", "2"] {
        let mut holder = start_holder(&scene, "trap 'exit 5' INT; echo ready; read _");
        let call = scene.aba(["unlock", "a", &format!("--kill={signal}"), "--grace", "1000"]);
        call.err("ended pid ").run();
        assert_eq!(holder.wait(), 5, "{signal}");
    }
    let mut holder = start_holder(&scene, "trap '' TERM; echo ready; read _");
    for signal in ["", "0", "STOP", "CONT", "CHLD", "NONE", "99"] {
        let signal = format!("--kill={signal}");
        scene.aba(["unlock", "a", &signal]).status(2).err("--kill").run();
    }
    scene
        .aba(["unlock", "a", "--kill=KILL", "--grace", "3"])
        .status(2)
        .err("unlock: --grace has no effect with --kill=KILL")
        .run();
    scene.aba(["unlock", "a", "--grace", "3"]).status(2).err("--kill").run();
    scene.aba(["unlock", "--fd", "0", "--kill"]).status(2).err("--kill").run();
    scene.aba(["unlock", "--fd", "0", "a", "--kill"]).status(2).err("--kill").run();
    assert!(is_locked(&scene.lock_file("a")));
    let said = scene.aba(["unlock", "a", "--kill=KILL"]).err("ended pid ").run();
    assert!(said.err.trim_end().ends_with(", with SIGKILL"), "{}", said.err);
    assert_eq!(holder.wait(), 128 + 9);
}

#[test]
fn a_holder_that_ignores_the_signal_is_killed_after_the_grace_time() {
    let scene = Scene::new();
    let mut holder = start_holder(&scene, "trap '' TERM; echo ready; while :; do read _; done");
    let begin = Instant::now();
    let said = scene.aba(["unlock", "a", "--kill", "--grace", "0.5"]).err("ended pid ").run();
    assert!(said.err.trim_end().ends_with(", with SIGKILL"), "{}", said.err);
    assert!(begin.elapsed() >= Duration::from_millis(500), "it was not given its time");
    assert_eq!(holder.wait(), 128 + 9);
}

#[test]
fn a_stopped_holder_is_continued_to_handle_the_signal() {
    let scene = Scene::new();
    let mut holder = start_holder(&scene, "trap 'exit 7' TERM; echo ready; read _");
    holder.signal(19);
    let said = scene.aba(["unlock", "a", "--kill", "--grace", "1000"]).err("ended pid ").run();
    assert!(!said.err.contains("SIGKILL"), "{}", said.err);
    assert_eq!(holder.wait(), 7);
}

#[test]
fn all_shared_and_inheriting_holders_are_ended() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // The shell that acquired the lock has ended. Its child still holds it.
    let script = format!("(read _ <{gate}) & echo ready $!; exec >/dev/null; kill -9 $$");
    let mut first = start_holder(&scene, &script);
    first.wait();
    let child: u32 = first.first_line.strip_prefix("ready ").unwrap().parse().unwrap();
    assert!(is_locked(&scene.lock_file("a")) && is_alive(child));
    scene.aba(["unlock", "a", "--kill"]).err(format!("ended pid {child} (")).run();
    assert!(!is_alive(child) && !is_locked(&scene.lock_file("a")));

    let mut shared = [scene.holder_with(&["-s", "b"]), scene.holder_with(&["-s", "b"])];
    let call = scene.aba(["unlock", "b", "--kill"]);
    shared.iter().fold(call, |call, holder| call.err(format!("ended pid {} (", holder.pid()))).run();
    for holder in &mut shared {
        assert_eq!(holder.wait(), 128 + 15);
    }
}

#[test]
fn processes_that_the_dying_holder_starts_are_ended() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let note = scene.path("pid");
    let script = format!(
        "trap 'sh -c \"read _ <{}\" >/dev/null & echo $! >{}; exit 3' TERM; echo ready; read _",
        gate.path.display(),
        note.display()
    );
    // The child gets no signal before SIGKILL, and its parent must have started it by then.
    with_enough_time(|grace| {
        let _ = fs::remove_file(&note);
        let mut first = start_holder(&scene, &script);
        scene.aba(["unlock", "a", "--kill", "--grace", grace]).err("ended pid ").run();
        assert!(!is_locked(&scene.lock_file("a")));
        if first.wait() != 3 {
            return false;
        }
        let child: u32 = fs::read_to_string(&note).unwrap().trim().parse().unwrap();
        assert!(!is_alive(child), "it still holds the lock");
        true
    });
}

#[test]
fn a_holder_that_releases_and_continues_is_not_killed() {
    let scene = Scene::new();
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)"
        "$HELPER" lock --fd 200 a
        trap 'exec 200>&-' TERM
        echo ready
        until read _; do :; done
        exit 4
    "#;
    let holder = scene.call("bash").arg("-c").arg(script).hold();
    let expected = format!("aba-lock: pid {} (bash -c ", holder.pid());
    let call = scene.aba(["unlock", "a", "--kill", "--grace", "1000"]);
    let said = call.err(expected).err(" has released the lock, and continues\n").run();
    assert!(!said.err.contains("ended"), "{}", said.err);
    assert_eq!(holder.release(), 4);
}

#[test]
fn a_script_never_kills_itself_or_its_ancestors() {
    let scene = Scene::new();
    let refused =
        "refused to release a: the script that calls this command, or a process that started it, holds the lock";
    let by_name = scene.aba(["lock", "a", "--", "sh", "-c", "\"$HELPER\" unlock a --kill; echo $?"]).out("75\n");
    by_name.err(refused).err("hint: release it in that script: `aba_unlock_operation a`").run();
    // Refused also if the helper did not inherit the lock, if the helper alone holds it, and if another process shares it.
    let kept = r#"
        exec 200<>"$("$HELPER" path --create a)"
        "$HELPER" lock --fd 200 a
        "$HELPER" unlock a --kill 200>&-
        echo $?
    "#;
    scene.bash(kept).out("75\n").err(refused).run();
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)"
        "$HELPER" lock -s --fd 200 a
        exec "$HELPER" unlock a --kill
    "#;
    let holder = scene.holder_with(&["-s", "a"]);
    scene.bash(script).status(75).err(refused).run();
    assert_eq!(holder.release(), 0);
    scene.bash(script).status(75).err(refused).run();
}

#[test]
fn holders_that_cannot_be_seen_are_not_killed() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let own = scene.record("a");
    scene.set_field("a", "boot", "0-0");
    scene.set_field("a", "host", "far");
    let command = scene.aba(["unlock", "a", "--kill"]).status(75);
    let command = command.err("refused to release a: its holder cannot be seen from here: last acquired by pid ");
    command.err(" on host far (true), by ").err("hint: end the holder as its user or as root").run();
    if !is_root() {
        return;
    }
    // A holder of another user.
    set_mode(scene.root(), 0o755);
    fs::write(scene.lock_file("a"), own).unwrap();
    set_mode(scene.lock_file("a"), 0o644);
    let holder = start_holder(&scene, WAIT);
    let refusal = format!("cannot examine the descriptors of its holder, pid {} (", holder.pid());
    let call = scene.unprivileged().args(["unlock", "a", "--kill"]).status(75);
    call.err(refusal).err("), by root, for ").run();
    assert_eq!(holder.release(), 0);
}

#[test]
fn pids_of_another_namespace_are_never_signalled() {
    let scene = Scene::new();
    let holder = start_holder(&scene, WAIT);
    let unshare =
        |more: &[&str]| scene.in_pid_namespace().args(more).args([HELPER, "unlock", "a", "--kill"]).status(75);
    // First with the /proc of the outer namespace, where pids mean other processes. Then with its own /proc, which does not
    // show the holder.
    unshare(&[]).err("refused to release a: /proc shows another pid namespace").run();
    unshare(&["--mount-proc"]).err("refused to release a: its holder cannot be seen from here: ").run();
    assert_eq!(holder.release(), 0);
}

/// `unlock a --kill` under strace, which changes the result of `pidfd_send_signal`.
fn kill_with_fault(scene: &Scene, inject: &str) -> Call {
    scene
        .strace(["-e", &format!("inject=pidfd_send_signal:{inject}")])
        .args([HELPER, "unlock", "a", "--kill", "--grace", "0.1"])
        .status(75)
}

#[test]
fn a_holder_that_may_not_be_signalled_is_named_and_not_killed() {
    let scene = Scene::new();
    let holder = start_holder(&scene, WAIT);
    kill_with_fault(&scene, "error=EPERM")
        .err(format!("refused to release a: cannot send a signal to pid {} (", holder.pid()))
        .err(": Operation not permitted\nhint: run this command as ")
        .run();
    assert_eq!(holder.release(), 0);
}

#[test]
fn a_holder_is_ended_without_the_system_call_that_signals_a_descriptor() {
    let scene = Scene::new();
    let mut holder = start_holder(&scene, WAIT);
    let without = |more: &[&str]| scene.strace(["-e", "inject=pidfd_send_signal:error=ENOSYS"]).args(more);
    let kill = [HELPER, "unlock", "a", "--kill", "--grace", "1000"];
    // If no signal can be sent at all, the grace time does not begin.
    without(&["-e", "inject=kill:error=ENOSYS"])
        .args(kill)
        .status(75)
        .err(format!("refused to release a: cannot send a signal to pid {} (", holder.pid()))
        .err(format!("\nhint: end it with another program: `kill {}`\n", holder.pid()))
        .run();
    without(&[]).args(kill).err(format!("ended pid {} (", holder.pid())).run();
    assert_eq!(holder.wait(), 128 + 15);
}

#[test]
fn a_holder_that_does_not_end_is_reported() {
    let scene = Scene::new();
    let holder = start_holder(&scene, WAIT);
    // A process that waits for a disk does not react to signals.
    kill_with_fault(&scene, "retval=0")
        .err(format!("aba-lock: could not end pid {} (", holder.pid()))
        .err(format!("aba-lock: a is still held by pid {} (", holder.pid()))
        .err("hint: show its holder with `aba-lock status a`")
        .run();
    assert_eq!(holder.release(), 0);
}

#[test]
fn a_reused_pid_is_never_signalled() {
    let scene = Scene::new();
    let mut holder = start_holder(&scene, WAIT);
    let log = scene.path("log");
    // When the helper opens the pid, the process has ended.
    scene
        .call("strace")
        .arg("-o")
        .arg(&log)
        .args(["-e", "trace=pidfd_open,pidfd_send_signal,kill"])
        .args(["-e", "inject=pidfd_open:error=ESRCH", HELPER, "unlock", "a", "--kill", "--grace", "0.1"])
        .status(75)
        .err("a is still held by pid ")
        .run();
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("pidfd_open(") && !log.contains("send_signal(") && !log.contains("kill("), "{log}");
    wait_until("the holder lives", || is_alive(holder.pid()));
    scene.aba(["unlock", "a", "--kill"]).err("ended pid ").run();
    holder.wait();
}

#[test]
fn the_advised_kill_command_ends_all_holders() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // Two children inherited the lock of a process that has ended.
    let script =
        format!("(read _ <{gate}) & one=$!; (read _ <{gate}) & echo ready $one $!; exec >/dev/null; kill -9 $$");
    let mut first = start_holder(&scene, &script);
    first.wait();
    let pids = first.first_line.strip_prefix("ready ").unwrap().to_owned();
    scene.aba(["status", "a"]).out(format!("hint: end it with `kill {pids}`; next time, ")).run();
    let pid = pids.split(' ').next().unwrap();
    let call =
        scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("hint: end it with `kill {pids}`; next time, "));
    let said = call.err(format!("still held by pid {pid} (")).run().err;
    assert!(said.contains(", and 1 more, which inherited it\n"), "{said}");
    let call = scene.aba(["unlock", "a"]).status(75);
    call.err("hint: the lock is free when its holders end; `aba-lock unlock a --kill` ends them\n").run();
    assert!(Command::new("kill").args(pids.split(' ')).status().unwrap().success());
    scene.aba(["lock", "-t", "60", "a", "--", "true"]).run();
}

#[test]
fn an_invisible_holder_is_reported_once() {
    let scene = Scene::new();
    scene.make_root();
    let command = scene.call("flock").arg("--no-fork").arg(scene.lock_file("a"));
    let holder = command.args(["sh", "-c", "echo held; read _; exit 0"]).hold();
    // Like a holder of another user.
    let sentence = "aba-lock: refused to release a: its holder cannot be seen from here: it belongs to another user, or is in \
                    another pid namespace\n";
    let command = scene.strace(["-e", "inject=/^open(at)?$:error=EACCES", "-P", &format!("/proc/{}/fd", holder.pid())]);
    command.args([HELPER, "unlock", "a", "--kill"]).status(75).err(sentence).run();
    assert_eq!(holder.release(), 0);
}

#[test]
fn the_lock_on_a_file_is_released_in_the_same_ways() {
    let scene = Scene::new();
    let path = scene.path("f");
    fs::write(&path, "x").unwrap();
    let unlock = |more: &[&str]| scene.aba(["unlock", "--file"]).arg(&path).args(more);
    let shown = path.display();
    unlock(&[]).run();
    unlock(&["--kill"]).err(format!("{shown} is free: no process to kill\n")).run();
    for is_foreign in [true, false] {
        let ours = || scene.holder_with(&["--file", path.to_str().unwrap()]);
        let holder = if is_foreign { scene.flock_holder(&path) } else { ours() };
        let refused = unlock(&[]).status(75).err(format!("aba-lock: {shown} cannot be released from here: held by "));
        refused.err("hint: the lock is free when its holder").run();
        unlock(&["--kill"]).err(format!("ended pid {} (", holder.pid())).run();
        assert!(!is_locked(&path));
    }
    let script = "exec 9<>f; \"$HELPER\" lock --fd 9 --file f || exit
        \"$HELPER\" unlock --kill --file f; echo $?
        \"$HELPER\" unlock --fd 9 --file g; echo $?
        \"$HELPER\" unlock --fd 9 --file f && ! \"$HELPER\" status -q --file f && cat f";
    let said =
        scene.bash_here(script).out("75\n").err("hint: release it in that script: `aba-lock unlock --fd N --file ./f`");
    assert!(said.run().out.ends_with("\nx"));
    unlock(&["a"]).status(2).err("cannot be used with").run();
    scene.aba(["unlock", "--file", "f", "--key", "a"]).status(2).err("cannot be used with").run();
}

#[test]
fn a_process_that_a_holder_starts_to_clean_up_gets_no_signal() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let clean = scene.path("clean");
    let script = format!(
        "trap 'sh -c \"echo begun >&2; read _ <{gate}; echo clean >$CLEAN\"; exit 3' TERM; sh -c 'echo ready >&2; exec sleep 1000' & wait"
    );
    let call = scene.aba(["lock", "a", "--", "bash", "-c", &script]).env("CLEAN", &clean);
    let holder = call.status(3).err("ready\nbegun\n").start();
    // Before that, SIGTERM would end the holder, or come too early for the process that sleeps.
    holder.wait_for_error("ready");
    let killer = scene.aba(["unlock", "a", "--kill", "--grace", "1000"]).err("ended pid ").start();
    holder.wait_for_error("begun");
    // It has looked at the holders several times.
    let status = format!("/proc/{}/status", killer.pid());
    let seen = count_voluntary_switches(&status);
    wait_until("it has looked again", || count_voluntary_switches(&status) >= seen + 5);
    gate.open();
    killer.finish();
    holder.finish();
    assert_eq!(fs::read_to_string(&clean).unwrap(), "clean\n");
}

#[test]
fn a_cleanup_that_begins_before_the_sender_of_the_signal_goes_on_gets_no_signal() {
    let scene = Scene::new();
    let (gate, clean, trace) = (scene.gate("gate"), scene.path("clean"), scene.path("trace"));
    let script = format!(
        "trap 'sh -c \"echo begun >&2; read _ <{gate}; echo clean >$CLEAN\"; exit 3' TERM; sh -c 'echo ready >&2; exec sleep 1000' & wait"
    );
    let call = scene.aba(["lock", "a", "--", "bash", "-c", &script]).env("CLEAN", &clean);
    let holder = call.status(3).err("ready\nbegun\n").start();
    holder.wait_for_error("ready");
    let signals = "pidfd_send_signal|kill";
    let call = scene.call("strace").args(["-qq", "-e", &format!("trace=/^(open|openat|{signals})$"), "-e"]);
    let call = call.arg(format!("inject=/^({signals})$:delay_exit=300000")).arg("-o").arg(&trace).arg(HELPER);
    let mut killer = call.args(["unlock", "a", "--kill", "--grace", "1000"]).err("ended pid ").start();
    holder.wait_for_error("begun");
    wait_until("it has looked at the holders again", || {
        let text = fs::read_to_string(&trace).unwrap_or_default();
        let since = text.rsplit_once("SIGCONT").map_or("", |(_, since)| since);
        since.matches("\"/proc\",").count() >= 3 || killer.has_ended()
    });
    gate.open();
    killer.finish();
    holder.finish();
    assert_eq!(fs::read_to_string(&clean).unwrap(), "clean\n");
}

#[test]
fn an_ancestor_that_cannot_be_recognized_as_one_is_not_signalled() {
    let scene = Scene::new();
    for call in ["lock --replace a -- true", "unlock a --kill"] {
        // The shell is the child of the helper that holds the lock, so the helper is only found through its line.
        let script = format!(
            "strace -P /proc/$$/stat -o /dev/null -e inject=openat:error=EMFILE \"$HELPER\" {call}; echo \"status $?\""
        );
        let said = "a: /proc cannot be read, so its holder is unknown\n";
        scene
            .aba(["lock", "-o", "a", "--", "sh", "-c", &script])
            .env("HELPER", HELPER)
            .err(said)
            .out("status 75\n")
            .run();
    }
}
