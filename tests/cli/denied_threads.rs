//! The place of a waiter in the queue, if its threads cannot have descriptors of their own, or if it has one thread.

use crate::call::RunningCall;
use crate::process::wait_until;
use crate::scene::{HELPER, Scene};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// A waiter for the lock `job` for which these system calls fail. It traces flock(2), too, to the file `trace`.
fn start_waiter(scene: &Scene, inject: &str, options: &[&str]) -> RunningCall {
    let call = scene.call("strace").args(["-f", "-qq", "-o"]).arg(scene.path("trace"));
    // A call that is not traced does not fail.
    let call = call.args(["-e", "trace=flock,unshare,clone,clone3", "-e", inject]);
    let call = call.args([HELPER, "lock", "-w"]).args(options).args(["job", "--", "true"]);
    let waiter = call.err("waiting for job, held by pid ").start();
    // By then, it has read the lock file.
    waiter.wait_for_error("waiting for job");
    scene.wait_for_waiters("job", 1);
    waiter
}

/// Docker denies unshare(2).
const NO_UNSHARE: &str = "inject=unshare:error=EPERM";

/// Checks that a shared call is refused although the lock is held shared.
fn check_mark(scene: &Scene) {
    scene.aba(["lock", "-s", "-n", "job", "--", "true"]).status(75).err("aba-lock: job is held by pid ").run();
}

#[test]
fn a_waiter_for_a_slot_keeps_the_turnstile() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--slots", "1", "job"]);
    let waiter = start_waiter(&scene, NO_UNSHARE, &["--slots", "1"]);
    let end = format!(":{} ", fs::metadata(scene.lock_file("job")).unwrap().ino());
    let is_held = |line: &&str| line.split_whitespace().nth(1) == Some("POSIX") && line.contains(&end);
    let count = || fs::read_to_string("/proc/locks").unwrap().lines().filter(is_held).count();
    // A long list is read in pieces, and a line at the border of two pieces may be missing.
    wait_until("the turnstile is held", || count() == 1);
    holder.release();
    waiter.finish();
}

#[test]
fn a_writer_keeps_its_mark() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["-s", "job"]);
    let waiter = start_waiter(&scene, NO_UNSHARE, &[]);
    check_mark(&scene);
    holder.release();
    waiter.finish();
}

/// Holds so many locks that the kernel returns its list in several pieces.
const CROWD: &str = "import fcntl, sys, tempfile
held = [tempfile.TemporaryFile() for _ in range(100)]
for file in held:
    fcntl.flock(file, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()";

#[test]
fn a_waiter_without_a_second_thread_names_the_holder_also_next_to_many_other_locks() {
    let scene = Scene::new();
    let crowd = scene.call("python3").args(["-c", CROWD]).hold();
    let holder = scene.holder_with(&["-s", "job"]);
    let waiter = start_waiter(&scene, "inject=clone,clone3:error=EAGAIN", &[]);
    holder.release();
    waiter.finish();
    crowd.release();
}

#[test]
fn a_writer_without_a_second_thread_keeps_its_mark() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["-s", "job"]);
    // It holds another lock, for which others may wait, so it searches for a deadlock again and again.
    let waiter = start_waiter(&scene, "inject=clone,clone3:error=EAGAIN", &["a"]);
    let interrupts = || fs::read_to_string(scene.path("trace")).unwrap().matches("ERESTARTSYS").count();
    wait_until("it has searched again", || interrupts() >= 2);
    check_mark(&scene);
    holder.release();
    waiter.finish();
}
