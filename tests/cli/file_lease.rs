//! File leases of other processes on lock files (fcntl(2)), because of which open(2) would block.

use crate::call::Holder;
use crate::log::{enable, log_file};
use crate::process::{child_pids, kill, set_mode, wait_until};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Takes a lease on the lock file of `a`, and gives it up at the end of the process only.
fn take_lease(scene: &Scene) -> Holder {
    scene.aba(["lock", "a", "--", "true"]).run();
    set_mode(scene.lock_file("a"), 0o666);
    take_lease_on(scene, &scene.lock_file("a"))
}

fn take_lease_on(scene: &Scene, path: &Path) -> Holder {
    let program = "import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
f = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
input()";
    scene.call("python3").args(["-c", program]).arg(path).hold()
}

#[test]
fn a_lease_counts_as_a_lock_that_its_process_holds() {
    let scene = Scene::new();
    let holder = take_lease(&scene);
    let cause = format!("cannot be opened: pid {} (", holder.pid());
    let refused = format!("a cannot be acquired: its lock file {cause}");
    scene.aba(["lock", "-n", "a", "--", "true"]).status(75).err(&refused).run();
    scene.aba(["lock", "-E", "9", "a", "--", "true"]).status(9).err(&refused).run();
    scene.aba(["lock", "--replace", "-t", "0.3", "a", "--", "true"]).status(124).err(&cause).run();
    let late = format!("timed out after 0.3 s waiting for a: its lock file {cause}");
    scene.aba(["lock", "-t", "0.3", "a", "--", "true"]).status(124).err(&late).run();
    scene.aba(["wait", "-t", "0.3", "a"]).status(124).err(&late).run();
    scene.aba(["wait", "-t", "0", "a"]).status(124).err(&cause).run();
    scene.aba(["lock", "--skip-ok", "a", "--", "true"]).status(0).out("").err("").run();
    scene.aba(["lock", "--on-busy", "exit 7", "a", "--", "true"]).status(7).err(&cause).run();
    let path = scene.lock_file("a");
    scene.aba(["flock", "-n"]).arg(&path).arg("true").status(1).err("").run();
    scene.aba(["flock", "-E", "9", "-w", "0.3"]).arg(&path).arg("true").status(9).err("").run();
    scene.aba(["flock", "--verbose", "-n"]).arg(&path).arg("true").status(1).err(&cause).run();
    let problem = format!("  problem: its lock file {cause}");
    scene.aba(["status", "a"]).status(0).out("a: held by a file lease\n").out(&problem).run();
    scene.aba(["status", "-q", "a"]).status(0).run();
    let state = scene.aba(["status", "--json", "a"]).status(0).json();
    assert!(state["problem"].as_str().unwrap().contains(&cause), "{state}");
    assert_eq!((&state["state"], &state["lease"]["holders"][0]["pid"]), (&"held".into(), &holder.pid().into()));
    let listed = &scene.aba(["list", "--json"]).json()["locks"][0];
    assert_eq!((&listed["state"], &listed["lease"]["holders"][0]["pid"]), (&"held".into(), &holder.pid().into()));
    scene.aba(["list"]).out(" held ").out("python3 -c").out(" (file lease)\n").run();
    scene.aba(["list", "--held"]).out(" (file lease)\n").run();
    scene.aba(["unlock", "a"]).status(75).err("a cannot be released from here: held by pid ").run();
    assert_eq!(state["remedy"], format!("end that process with `kill {}`", holder.pid()));
    let (_, found) = scene.aba(["doctor"]).run_unchecked();
    assert!(found.out.contains("has a file lease on it"), "{}", found.out);
    scene.aba(["path", "--create", "a"]).status(125).err("another process has a file lease on it").run();
    holder.release();
    scene.aba(["lock", "a", "--", "true"]).run();
    assert!(scene.aba(["status", "--json", "a"]).status(1).json()["problem"].is_null());
}

#[test]
fn a_wait_for_the_end_of_a_lease_is_reported_and_ends_with_the_lock() {
    let scene = Scene::new();
    let holder = take_lease(&scene);
    let waiting = format!("waiting for a, whose lock file cannot be opened: pid {} (", holder.pid());
    let calls = [
        scene.aba(["lock", "--wait", "a", "--", "echo", "ran"]).out("ran\n").err(&waiting).start(),
        scene.aba(["wait", "a"]).err(&waiting).start(),
    ];
    for call in &calls {
        call.wait_for_error(&waiting);
    }
    let flock = scene.aba(["flock"]).arg(scene.lock_file("a")).args(["echo", "ran"]).out("ran\n").start();
    holder.release();
    for call in calls {
        call.finish();
    }
    flock.finish();
}

#[test]
fn a_lease_that_ends_soon_does_not_make_a_call_fail_that_does_not_wait() {
    let scene = Scene::new();
    let holder = take_lease(&scene);
    // As `clean` does, the process gives up the lease when another one wants to open the file.
    drop(holder);
    let program = "import fcntl, os, signal, sys
f = os.open(sys.argv[1], os.O_RDWR)
signal.signal(signal.SIGIO, lambda *_: os.close(f))
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
input()";
    let holder = scene.call("python3").args(["-c", program]).arg(scene.lock_file("a")).hold();
    // The call is stopped before it tries again, until the process has given up the lease.
    let trace = scene.path("trace");
    let options = ["-e", "trace=/^(clock_)?nanosleep$", "-e", "inject=/^(clock_)?nanosleep$:signal=STOP:when=1", "-o"];
    let call = scene.call("strace").args(options).arg(&trace);
    let mut call = call.args([HELPER, "lock", "-n", "a", "--", "echo", "ran"]).out("ran\n").start();
    let is_stopped = || fs::read_to_string(&trace).unwrap_or_default().contains("--- stopped by SIGSTOP ---");
    wait_until("the call is stopped, or has ended", || is_stopped() || call.has_ended());
    if is_stopped() {
        let end = format!(":{} 0 EOF", fs::metadata(scene.lock_file("a")).unwrap().ino());
        let is_lease = |line: &str| line.contains(" LEASE ") && line.ends_with(&end);
        wait_until("the lease has ended", || !fs::read_to_string("/proc/locks").unwrap().lines().any(is_lease));
        kill(child_pids(call.pid())[0], 18);
    }
    call.finish();
    holder.release();
}

#[test]
fn a_lease_on_the_log_is_named_with_the_process() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let holder = take_lease_on(&scene, &log_file(&scene));
    let pid = holder.pid();
    let cause = format!("cannot use the event log {}: pid {pid} (", log_file(&scene).display());
    let hint = format!(", has a file lease on it\nhint: end that process with `kill {pid}`\n");
    for call in [&["log"][..], &["log", "-f"], &["log", "--enable"], &["log", "--disable"]] {
        let said = scene.aba(call).status(125).err(&cause).run();
        assert!(said.err.ends_with(&hint), "{call:?}: {}", said.err);
    }
    let said =
        scene.aba(["metrics"]).status(125).err("has a file lease on it\nhint: end that process with `kill ").run();
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
    let (_, found) = scene.aba(["doctor"]).run_unchecked();
    assert!(found.out.contains(&cause) && found.out.contains(&format!("`kill {pid}`")), "{}", found.out);
    holder.release();
    scene.aba(["log", "--disable"]).out("events are no longer logged").run();
}

#[test]
fn a_lock_file_with_a_lease_keeps_its_mark_and_the_process_is_named() {
    let scene = Scene::new();
    let holder = take_lease(&scene);
    let said = scene
        .aba(["log", "--enable"])
        .status(125)
        .out("events are logged in ")
        .err("cannot turn logging on for ")
        .run();
    let pid = holder.pid();
    let hint = format!(", has a file lease on it\nhint: end that process with `kill {pid}`; then run `");
    let end = format!("ABA_LOCK_DIR={} aba-lock log --enable`\n", scene.root().display());
    assert!(said.err.contains(&format!("/aba-a.lock: pid {pid} (")), "{}", said.err);
    assert!(said.err.contains(&hint) && said.err.ends_with(&end), "{}", said.err);
    holder.release();
}

#[test]
fn a_lease_on_a_file_of_a_task_is_named_with_the_process() {
    let scene = Scene::new();
    scene.once(["-w", "-i", "j", "--", "true"]).run();
    let exit = scene.root().join("runner/j/exit");
    let holder = take_lease_on(&scene, &exit);
    let cause = format!("cannot use {}: pid {} (", exit.display(), holder.pid());
    for option in ["-w", "-o"] {
        let said = scene.once([option, "-i", "j"]).status(125).err(&cause).run();
        assert!(
            said.err
                .ends_with(&format!("has a file lease on it\nhint: end that process with `kill {}`\n", holder.pid())),
            "{}",
            said.err
        );
    }
    holder.release();
    scene.once(["-w", "-i", "j"]).run();
}

#[test]
fn a_lease_on_a_file_of_the_user_counts_as_a_lock_also_for_the_kind_of_fcntl() {
    let scene = Scene::new();
    let holder = take_lease(&scene);
    let path = scene.lock_file("a");
    let call = |words: &[&str], file_option: &[&str]| {
        let mut call = scene.aba(words.iter().copied());
        call = call.arg("--file").arg(&path);
        call.args(file_option.iter().copied())
    };
    let cause = format!("its lock file cannot be opened: pid {} (", holder.pid());
    for kind in [&["lock"][..], &["lock", "--fcntl"]] {
        call(&[kind, &["-n"]].concat(), &["--", "true"]).status(75).err(format!("cannot be acquired: {cause}")).run();
        let late = call(&[kind, &["-t", "0.3"]].concat(), &["--", "true"]);
        late.status(124).err("timed out after 0.3 s").err(&cause).run();
    }
    call(&["status"], &[]).status(0).out(": held by a file lease\n").out(&cause).run();
    call(&["status", "-q"], &[]).status(0).run();
    call(&["unlock"], &[]).status(75).err("cannot be released from here: held by pid ").run();
    call(&["unlock", "--kill"], &[]).status(0).err(format!("ended pid {} (", holder.pid())).run();
    call(&["status"], &[]).status(1).out(": free\n").run();
    drop(holder);
}

#[test]
fn a_process_with_a_lease_is_ended_as_a_holder_with_the_child_that_inherited_the_lease() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    set_mode(scene.lock_file("a"), 0o666);
    let program = "import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
f = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
signal.alarm(60)
if os.fork():
    print('held', flush=True)
else:
    signal.alarm(60)
signal.pause()";
    let _holder = scene.call("python3").args(["-c", program]).arg(scene.lock_file("a")).hold();
    let ended = scene.aba(["unlock", "a", "--kill"]).status(0).err("ended pid ").run();
    assert_eq!(ended.err.matches("ended pid ").count(), 2, "{}", ended.err);
    scene.aba(["lock", "-n", "a", "--", "true"]).run();
}
