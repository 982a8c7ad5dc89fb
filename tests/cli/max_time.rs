//! `lock --max-time`: a watcher ends the holders of its acquisition when the time is over, and no other process.

use crate::process::{exists, is_alive, is_locked, is_root, kill, set_mode, wait_until};
use crate::scene::{HELPER, Scene};
use crate::time_limit::with_enough_time;
use serde_json::Value;
use std::fs;

/// Returns the pid of the watcher that acquired a lock.
fn watcher(scene: &Scene, name: &str) -> u32 {
    scene.field(name, "locker").parse().unwrap()
}

fn wait_for_end(pid: u32) {
    wait_until("the watcher has ended", || !is_alive(pid));
}

#[test]
fn the_command_is_ended_with_a_message_and_an_event_when_the_time_is_over() {
    let scene = Scene::new();
    let log = scene.path("log");
    let call = scene.aba(["lock", "--max-time", "200ms", "--grace=1m", "a", "--", "sleep", "1000"]);
    let line = "aba-lock: a: held for the maximum time of 0.2s: sending SIGTERM, and SIGKILL after 1m\n";
    let said = call.env("ABA_LOCK_LOG", &log).status(143).err(line).run();
    assert_eq!(said.err, line);
    let text = fs::read_to_string(&log).unwrap();
    let event: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&event["event"], &event["lock"], &event["max_seconds"]), (&"expired".into(), &"a".into(), &0.2.into()));
    assert_eq!(event["command"], "sleep 1000");
    assert!(!is_locked(&scene.lock_file("a")));
    scene
        .aba(["metrics", "--log"])
        .arg(&log)
        .out("aba_lock_expirations_total{lock=\"a\",scope=\"directory\"} 1\n")
        .run();
}

#[test]
fn children_that_ignore_the_signal_and_left_the_session_are_killed_after_the_grace_time() {
    let scene = Scene::new();
    let script = "trap '' TERM; setsid sh -c 'echo $$; exec sleep 1000' & read _ < \"$GATE\"";
    let gate = scene.gate("gate");
    with_enough_time(|limit| {
        let call = scene.aba(["lock", "--max-time", limit, "--grace", "0.2", "a", "--", "bash", "-c", script]);
        let (status, said) = call.env("GATE", &gate.path).run_unchecked();
        wait_until("the lock is free", || !is_locked(&scene.lock_file("a")));
        let Ok(child) = said.out.trim().parse() else { return false };
        assert_eq!(status, 137, "{}", said.err);
        assert!(said.err.contains(&format!("maximum time of {limit}s")), "{}", said.err);
        wait_until("the child has ended", || !is_alive(child));
        true
    });
}

#[test]
fn a_holder_that_is_left_after_the_command_is_ended() {
    let scene = Scene::new();
    let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $!";
    with_enough_time(|limit| {
        let call = scene.aba(["lock", "--max-time", limit, "a", "--", "sh", "-c", script]);
        let (status, said) = call.run_unchecked();
        let outlives_command = status == 0 && said.out.trim().parse().is_ok_and(is_alive);
        wait_until("the lock is free", || !is_locked(&scene.lock_file("a")));
        wait_for_end(watcher(&scene, "a"));
        outlives_command
    });
}

#[test]
fn a_stopped_holder_is_ended() {
    let scene = Scene::new();
    with_enough_time(|limit| {
        let call = scene.aba(["lock", "--max-time", limit, "a", "--", "sh", "-c", "echo held; read _"]);
        let Some(mut holder) = call.try_hold() else { return false };
        holder.signal(libc::SIGSTOP);
        assert_eq!(holder.wait(), 143);
        true
    });
}

#[test]
fn the_watcher_is_small_and_separate_and_ends_with_the_last_holder() {
    let scene = Scene::new();
    let holder = scene.aba(["lock", "--max-time", "1h", "a", "--", "sh", "-c", "echo held; read _"]).hold();
    let watcher = watcher(&scene, "a");
    let read = |name: &str| fs::read_to_string(format!("/proc/{watcher}/{name}")).unwrap();
    let entries = || fs::read_dir(format!("/proc/{watcher}/fd")).unwrap().map(|entry| entry.unwrap().path());
    let targets = || entries().filter_map(|path| fs::read_link(path).ok()).map(|path| path.display().to_string());
    let is_own = |target: &String| target == "/dev/null" || target.contains("inotify");
    // Now and then it reads the lock table.
    wait_until("the watcher has closed its copies", || {
        let targets: Vec<String> = targets().collect();
        targets.len() == 4 && targets.iter().all(is_own)
    });
    let words: Vec<String> = read("cmdline").split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect();
    assert_eq!(words, [HELPER, "lock", "--max-time", "1h", "a", "--"]);
    let session = read("stat").rsplit(')').next().unwrap().split(' ').nth(4).unwrap().to_owned();
    assert_eq!(session, watcher.to_string());
    // Pages of the program are shared with other calls. A long list of the locks of this machine takes some more.
    let own =
        read("status").lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
    assert!(own.is_some_and(|kib: u32| kib < 2048), "{own:?}");
    holder.release();
    wait_for_end(watcher);
    // Neither the pipe of a command substitution nor the command that waits for its children notices the watcher.
    let nested = "x=$(\"$HELPER\" lock --max-time 1h a -- sh -c 'sleep 0 & wait; echo done'); echo \"$x\"; ps -o pid= --ppid $$ | wc -l";
    scene.bash(nested).out("done\n").run();
}

#[test]
fn the_command_gets_the_number_of_its_slot_even_if_the_state_of_a_descriptor_cannot_be_read() {
    let scene = Scene::new();
    let mut call = scene.call("strace").args(["-f", "-o", "/dev/null", "-e", "inject=openat:error=ENOMEM"]);
    for fd in 3..10 {
        call = call.args(["-P", &format!("/proc/self/fdinfo/{fd}")]);
    }
    let words = ["lock", "--slots", "2", "--max-time", "1h", "a", "--", "sh", "-c", "echo slot $ABA_LOCK_SLOT"];
    call.arg(HELPER).args(words).out("slot 1\n").run();
}

#[test]
fn a_watcher_that_cannot_be_started_is_reported_whichever_of_the_two_forks_fails() {
    // The limit does not hold for root. So the helper runs as a user without other processes.
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    set_mode(scene.path(""), 0o755);
    fs::create_dir(scene.root()).unwrap();
    set_mode(scene.root(), 0o1777);
    for processes in ["1", "2"] {
        let call = scene.call("setpriv").args(["--reuid", "61735", "--clear-groups", "prlimit"]);
        let call =
            call.arg(format!("--nproc={processes}")).args([HELPER, "lock", "--max-time", "1h", "a", "--", "true"]);
        let line = "aba-lock: cannot limit the time of a: cannot start a process: Resource temporarily unavailable";
        call.status(125).err(line).run();
    }
}

#[test]
fn the_lock_of_a_script_is_limited_with_its_children() {
    let scene = Scene::new();
    let script = "exec 9<>\"$(\"$HELPER\" path --create a)\"
        \"$HELPER\" lock --max-time $LIMIT --grace 0.2 --fd 9 a || exit
        (trap '' TERM; echo $BASHPID; while :; do read -t 1 _ <> \"$GATE\"; done) &
        wait; echo late";
    let gate = scene.gate("gate");
    with_enough_time(|limit| {
        let (status, said) = scene.bash(script).env("GATE", &gate.path).env("LIMIT", limit).run_unchecked();
        assert_eq!(status, 143, "{}", said.err);
        assert!(
            said.err.contains("aba-lock: a: held for the") && !said.out.contains("late"),
            "{} {}",
            said.out,
            said.err
        );
        wait_until("the lock is free", || !is_locked(&scene.lock_file("a")));
        said.out.trim().parse().is_ok_and(|child| {
            wait_until("the child has ended", || !is_alive(child));
            true
        })
    });
}

#[test]
fn a_program_that_replaces_the_script_is_ended() {
    let scene = Scene::new();
    let script = "aba_lock_operation --max-time 1 --grace=5 a; exec sleep 1000";
    scene.bash_with_library(script).status(143).err("aba-lock: a: held for the maximum time of 1s").run();
}

#[test]
fn a_script_that_acquires_the_lock_again_is_not_ended() {
    let scene = Scene::new();
    let script = "exec 9<>\"$(\"$HELPER\" path --create a)\"
        \"$HELPER\" lock --max-time $LIMIT --fd 9 a && watcher=$(sed -n 's/^locker=//p' <&9)
        \"$HELPER\" unlock --fd 9 && \"$HELPER\" lock --fd 9 a && echo $watcher; read _";
    with_enough_time(|limit| {
        let Some(mut holder) = scene.bash(script).env("LIMIT", limit).try_hold() else { return false };
        let watcher: u32 = holder.first_line.parse().unwrap();
        wait_for_end(watcher);
        assert!(is_alive(holder.pid()) && is_locked(&scene.lock_file("a")));
        holder.signal(libc::SIGKILL);
        holder.wait();
        true
    });
}

#[test]
fn another_holder_of_a_shared_lock_is_not_ended() {
    let scene = Scene::new();
    let other = scene.aba(["lock", "-s", "a", "--", "sh", "-c", "echo held; read _"]).hold();
    scene.aba(["lock", "-s", "--max-time", "0.2", "a", "--", "sleep", "1000"]).status(143).err("maximum time").run();
    assert!(is_alive(other.pid()));
    assert_eq!(other.release(), 0);
}

#[test]
fn files_and_several_locks_are_limited_together() {
    let scene = Scene::new();
    let (one, two) = (scene.path("one").display().to_string(), scene.path("two").display().to_string());
    fs::write(&one, "x").unwrap();
    let call = scene.aba(["lock", "--max-time", "0.2", "--file", &two, "--file", &one, "--", "sleep", "1000"]);
    call.status(143).err(format!("aba-lock: {one}, {two}: held for the maximum time of 0.2s")).run();
    assert_eq!(fs::read_to_string(&one).unwrap(), "x");
    for options in [&["-o"][..], &["--pid-file", &two]] {
        let call = scene.aba(["lock", "--max-time", "0.2", "b", "a"]).args(options).args(["--", "sleep", "1000"]);
        call.status(143).err("aba-lock: a, b: held for the").run();
    }
    let token =
        scene.aba(["lock", "--max-time", "1h", "a", "b", "--", "sh", "-c", "echo $ABA_LOCK_TOKEN"]).out("").run();
    assert_eq!(token.out.trim(), scene.field("b", "token"));
}

#[test]
fn status_and_list_show_the_limit_and_the_remaining_time() {
    let scene = Scene::new();
    let holder = scene.aba(["lock", "--max-time", "2h30m", "a", "--", "sh", "-c", "echo held; read _"]).hold();
    let status = || scene.aba(["status", "--json", "a"]).json();
    let left = status()["remaining_seconds"].as_u64().unwrap();
    assert!((8000..=9000).contains(&left), "{left}");
    assert_eq!(status()["max_time_seconds"], 9000.0);
    assert_eq!(status()["record"]["holder"], "alive");
    assert_eq!(status()["holders"].as_array().unwrap().len(), 1);
    scene.aba(["status", "a"]).out("\n  max time: 2h30m, 2h").out(" left\n").run();
    scene.aba(["list"]).out("sh -c 'echo held; read _', 2h").out(" left\n").run();
    let watcher = watcher(&scene, "a");
    kill(watcher, libc::SIGKILL);
    wait_until("the watcher has been reaped or is a zombie", || !is_alive(watcher));
    if !exists(watcher) {
        scene.aba(["status", "a"]).out("\n  max time: 2h30m, its watcher has ended\n").run();
        assert_eq!(status()["remaining_seconds"], Value::Null);
    }
    assert!(is_locked(&scene.lock_file("a")));
    assert_eq!(holder.release(), 0);
    assert!(!is_locked(&scene.lock_file("a")));
}

#[test]
fn a_lock_that_is_held_already_keeps_its_limit() {
    let scene = Scene::new();
    let nested = "\"$HELPER\" lock --max-time 1h a -- echo nested";
    let refused = "aba-lock: cannot limit the time of a: this process or one that started it already holds the lock\n";
    scene.aba(["lock", "a", "--", "sh", "-c", nested]).env("HELPER", HELPER).status(75).err(refused).run();
    let call = scene.aba(["lock", "--max-time", "1h", "a", "--", HELPER, "lock", "a", "--", "echo", "nested"]);
    call.out("nested\n").run();
    let script =
        "exec 9<>\"$(\"$HELPER\" path --create a)\"; \"$HELPER\" lock --fd 9 a; \"$HELPER\" lock --max-time 1 --fd 9 a";
    scene.bash(script).status(75).err(refused).run();
    let call = scene.bash_with_library("aba_lock_operation --max-time 1h a; aba_lock_operation a; aba_lock_held a");
    call.run();
}

#[test]
fn a_call_that_waits_ends_as_without_a_limit() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let limited = |options: &[&str]| scene.aba(["lock", "--max-time", "1h", "a"]).args(options);
    limited(&["--", "true"]).status(75).err("aba-lock: a is already running: pid ").run();
    limited(&["-t", "0.1", "-E", "9", "--", "true"]).status(9).err("timed out").run();
    let busy = limited(&["--on-busy", "echo busy $1; exit 5", "--", "true"]).status(5);
    busy.out("busy a\n").err("aba-lock: a is already running: pid ").run();
    let inner = ["env", "-u", "ABA_LOCK_FDS", HELPER, "lock", "--max-time", "1h", "-w", "b", "--", "true"];
    scene.aba(["lock", "-o", "b", "--"]).args(inner).status(75).err("would be a deadlock").run();
    // The script is shown as the waiter. When its helper is killed, nothing waits any more.
    let script = "exec 9<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$HELPER\" lock -qw --max-time 1h --fd 9 a; echo $?";
    let waiter = scene.bash(script).out("137\n").err("Killed").start();
    scene.wait_for_waiters("a", 1);
    let waiters = scene.aba(["status", "--json", "a"]).json()["waiters"].clone();
    assert_eq!(waiters[0]["script"]["pid"], waiter.pid());
    let helper = crate::process::child_pids(waiter.pid())[0];
    kill(helper, libc::SIGKILL);
    waiter.finish();
    scene.wait_for_waiters("a", 0);
    // The script is killed.
    let waiter = scene.bash(script).status(137).err("has ended").start();
    scene.wait_for_waiters("a", 1);
    kill(waiter.pid(), libc::SIGKILL);
    waiter.finish();
    scene.wait_for_waiters("a", 0);
    let waiter = limited(&["-qw", "--", "echo", "granted"]).out("granted\n").start();
    scene.wait_for_waiters("a", 1);
    holder.release();
    waiter.finish();
}

#[test]
fn a_limit_of_zero_and_a_grace_time_without_a_limit_are_refused() {
    let scene = Scene::new();
    scene.aba(["lock", "--max-time", "0", "a", "--", "true"]).status(2).err("--max-time must be more than 0").run();
    scene.aba(["lock", "--grace", "1", "a", "--", "true"]).status(2).err("--max-time").run();
    scene.aba(["lock", "--max-time", "1h", "a", "--", "/no/such"]).status(127).err("/no/such").run();
    assert!(!is_locked(&scene.lock_file("a")));
}

#[test]
fn the_first_process_of_a_container_is_ended() {
    let scene = Scene::new();
    scene.make_root();
    let inside = |limit: &str, words: &[&str]| {
        scene
            .in_pid_namespace()
            .args(["--mount-proc", "--", HELPER, "lock", "--max-time", limit, "--grace", "0.3", "a", "--"])
            .args(words)
    };
    inside("0.3", &["sleep", "1000"]).status(143).err("a: held for the maximum time").run();
    with_enough_time(|limit| {
        let deaf = ["sh", "-c", "trap '' TERM; echo deaf; sleep 1000; sleep 1000"];
        let (status, said) = inside(limit, &deaf).run_unchecked();
        assert!(said.err.contains("a: held for the maximum time"), "{}", said.err);
        assert_eq!(status, if said.out.is_empty() { 143 } else { 137 });
        !said.out.is_empty()
    });
    // The pids of this /proc are those of another namespace.
    let call = scene.in_pid_namespace().args(["--", HELPER, "lock", "--max-time", "1", "a", "--", "echo", "x"]);
    call.status(125).err("/proc cannot be read").run();
}

#[test]
fn the_lock_is_free_as_soon_as_its_holder_has_ended() {
    let scene = Scene::new();
    let script = "for ((i = 0; i < 50; i++)); do \"$HELPER\" lock --max-time 1h a -- true || exit; done
        exec 9<>\"$(\"$HELPER\" path --create a)\" 8<>\"$(\"$HELPER\" path --create a)\"
        for ((i = 0; i < 25; i++)); do
            \"$HELPER\" lock --max-time 1h --fd 9 a && exec 9>&- && \"$HELPER\" lock --fd 8 a || exit
            \"$HELPER\" unlock --fd 8 && exec 9<>\"$(\"$HELPER\" path --create a)\"
        done";
    // One call after the other, so that each of them has its own limit.
    for _ in 0..4 {
        scene.bash(script).run();
    }
}

#[test]
fn without_a_grace_time_the_holders_are_killed_at_once() {
    let scene = Scene::new();
    let call = scene.aba(["lock", "--max-time", "0.3", "--grace", "0", "a", "--"]);
    let line = "aba-lock: a: held for the maximum time of 0.3s: sending SIGKILL\n";
    call.args(["bash", "-c", "trap 'echo asked' TERM; sleep 1000 & wait"]).status(137).err(line).run();
}

#[test]
fn a_holder_of_one_of_several_locks_gets_the_signal_with_the_others() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // The child holds only the second lock, and its parent ignores the signal until the child has got it.
    let script =
        "trap '' TERM; for fd in /proc/$$/fd/*; do [[ $(readlink $fd) != *aba-a.lock ]] || first=${fd##*/}; done
        (eval \"exec $first>&-\"; trap 'echo >\"$GATE\"; exit' TERM; sleep 1000 & wait) &
        read _ <\"$GATE\"; exit 7";
    // If the signal comes before the child has its trap, SIGKILL ends both of them.
    with_enough_time(|limit| {
        let call = scene.aba(["lock", "--max-time", limit, "--grace", "20", "a", "b", "--", "bash", "-c", script]);
        let (status, said) = call.env("GATE", &gate.path).run_unchecked();
        assert!(said.err.contains("a, b: held for the maximum time"), "{}", said.err);
        assert!([7, 137, 143].contains(&status), "{status}: {}", said.err);
        status == 7
    });
}

#[test]
fn a_full_standard_error_does_not_end_the_watcher() {
    let scene = Scene::new();
    // The file has the maximum size. A write would end the process with SIGXFSZ.
    let script = format!(
        "ulimit -f 2; exec \"$HELPER\" lock --max-time 0.5 a -- bash -c 'head -c 2048 /dev/zero >&2; exec sleep 1000' 2>'{}'",
        scene.path("err").display()
    );
    scene.bash(&script).status(143).run();
    wait_until("the lock is free", || !is_locked(&scene.lock_file("a")));
}

#[test]
fn a_message_about_many_locks_is_short() {
    let scene = Scene::new();
    let names: Vec<String> = (0..40).map(|number| format!("{}{number}", "x".repeat(100))).collect();
    let call = scene.aba(["lock", "--max-time", "0.3"]).args(&names).args(["--", "sleep", "1000"]);
    let said = call.status(143).err("…: held for the maximum time").run();
    assert!(said.err.len() < 1000, "{}", said.err);
}

#[test]
fn the_status_of_a_conflict_can_be_any_number_with_a_maximum_time() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let call = scene.aba(["lock", "--max-time", "1h", "-n", "-E", "255", "a", "--", "true"]);
    call.status(255).err("a is already running: ").run();
    holder.release();
}

#[test]
fn a_grant_that_cannot_be_reported_is_an_error_with_its_reason() {
    let scene = Scene::new();
    let call = scene.strace(["-f", "-e", "inject=sendmsg:error=ETOOMANYREFS:when=1"]);
    let call = call.args([HELPER, "lock", "--max-time", "1h", "a", "--", "true"]).status(125);
    call.err("cannot limit the time of a: cannot pass the open lock file from its watcher to this process: Too many")
        .run();
    assert!(!is_locked(&scene.lock_file("a")));
}
