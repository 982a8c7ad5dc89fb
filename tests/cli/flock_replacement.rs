//! The helper as `flock` on a file that is removed while a process waits for its lock.

use crate::call::Holder;
use crate::flock::{call, flock, holder, trace_flock};
use crate::process::{count_waiters, wait_until};
use crate::scene::{Scene, error_text};
use std::fs;

#[test]
fn a_waiter_for_a_removed_file_waits_for_the_new_file() {
    let scene = Scene::new();
    let first = holder(&scene, &[]);
    let mut waiter = call(&scene, &["f", "echo", "ran"]).out("ran\n").start();
    wait_until("it waits", || count_waiters(&scene.path("f")) == 1);
    fs::remove_file(scene.path("f")).unwrap();
    let second = holder(&scene, &[]);
    first.release();
    wait_until("it waits again, or has ended", || count_waiters(&scene.path("f")) == 1 || waiter.has_ended());
    assert!(!waiter.has_ended(), "it ran while the second holder held the lock");
    second.release();
    waiter.finish();
}

#[test]
fn a_file_removed_between_opening_and_locking_is_recreated() {
    let scene = Scene::new();
    fs::write(scene.path("f"), "").unwrap();
    for options in [&["-n"][..], &[], &["-w", "5"], &["-s"]] {
        let args = [options, &["f", "sh", "-c", "echo ran >>log"]].concat();
        let (_, trace) =
            trace_flock(&scene, &["-P", "f", "-e", "inject=/^(statx|stat|newfstatat)$:error=ENOENT:when=1"], &args);
        assert_eq!(trace.matches("flock(").count(), 2, "{trace}");
    }
    assert_eq!(fs::read_to_string(scene.path("log")).unwrap().lines().count(), 4);
}

#[test]
fn a_waiter_that_cannot_open_the_new_file_fails() {
    let scene = Scene::new();
    let refused = [
        ("/^open(at)?$:error=EACCES:when=2", true, 66, "Permission denied"),
        ("/^open(at)?$:error=EMFILE:when=2", true, 71, &error_text(libc::EMFILE)),
        ("/^(statx|stat|newfstatat)$:error=EACCES:when=1", true, 66, "Permission denied"),
        // There is no file, but another process may be able to create it.
        ("/^open(at)?$:error=EACCES:when=3", false, 66, "Permission denied"),
        ("/^open(at)?$:error=ENOSPC:when=3", false, 73, "No space left on device"),
    ];
    for (inject, made_again, status, reason) in refused {
        let first = holder(&scene, &[]);
        let command = scene.strace(["-P", "f", "-e", &format!("inject={inject}")]).arg(scene.path("flock"));
        let command = command.args(["f", "echo", "ran"]).current_dir(scene.path("")).status(status);
        let waiter = command.err(format!("flock: cannot open lock file f: {reason}\n")).start();
        wait_until("it waits", || count_waiters(&scene.path("f")) == 1);
        fs::remove_file(scene.path("f")).unwrap();
        let second = made_again.then(|| holder(&scene, &[]));
        first.release();
        waiter.finish();
        second.map(Holder::release);
    }
}

#[test]
fn a_waiter_without_free_descriptors_waits_for_the_new_file() {
    let scene = Scene::new();
    let first = holder(&scene, &[]);
    let command = scene.call("sh").args(["-c", "ulimit -n 4; exec ./flock -o f echo ran"]).current_dir(scene.path(""));
    let mut waiter = command.out("ran\n").start();
    wait_until("it waits", || count_waiters(&scene.path("f")) == 1);
    fs::remove_file(scene.path("f")).unwrap();
    let second = holder(&scene, &[]);
    first.release();
    wait_until("it waits again, or has ended", || count_waiters(&scene.path("f")) == 1 || waiter.has_ended());
    assert!(!waiter.has_ended(), "it ran while the second holder held the lock, or gave up");
    second.release();
    waiter.finish();
}

#[test]
fn a_file_that_always_seems_replaced_is_locked_unless_it_was_contended() {
    let scene = Scene::new();
    let (said, _) = {
        let args = ["f", "sh", "-c", "flock -n f true || echo held"];
        trace_flock(&scene, &["-P", "f", "-e", "inject=/^(statx|stat|newfstatat)$:error=ENOENT"], &args)
    };
    assert_eq!(said.out, "held\n");
    let first = holder(&scene, &[]);
    let command =
        scene.strace(["-P", "f", "-e", "inject=/^(statx|stat|newfstatat)$:error=ENOENT"]).arg(scene.path("flock"));
    let command = command.args(["f", "echo", "ran"]).current_dir(scene.path("")).status(65);
    let waiter = command.err("flock: lock file f was replaced each time it was opened").start();
    wait_until("it waits", || count_waiters(&scene.path("f")) == 1);
    first.release();
    waiter.finish();
}

#[test]
fn a_waiter_runs_if_the_directory_of_the_lock_file_is_removed() {
    let scene = Scene::new();
    fs::create_dir(scene.path("d")).unwrap();
    let mut command = flock(&scene);
    command.args(["d/f", "sh", "-c", "echo held; read _; rm -r d"]);
    let first = Holder::start(command);
    let waiter = call(&scene, &["d/f", "echo", "ran"]).out("ran\n").start();
    wait_until("it waits", || count_waiters(&scene.path("d/f")) == 1);
    first.release();
    waiter.finish();
}
