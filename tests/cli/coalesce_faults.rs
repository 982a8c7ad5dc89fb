//! `lock --coalesce` when the system refuses something, and when a call is killed at any step.

use crate::coalesce::{call, count_runs, is_owed, leave_debt, promised_run, start_waiter};
use crate::process::{count_waiters, is_locked, is_root, set_mode, wait_until};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::process::Stdio;

#[test]
fn a_file_that_cannot_keep_the_numbers_is_refused() {
    let scene = Scene::new();
    scene.aba(["lock", "job", "--", "true"]).run();
    let file = scene.lock_file("job");
    let injected = |inject: &str| {
        let call = scene.call("strace").arg("-P").arg(&file).args(["-o", "/dev/null", "-e"]);
        let call = call.arg(format!("inject={inject}")).args([HELPER, "lock", "--coalesce", "job", "--", "true"]);
        call.status(125)
    };
    injected("fgetxattr:error=EOPNOTSUPP")
        .err(" has no locks or no attributes for this\nhint: use a file on a local")
        .run();
    injected("fsetxattr:error=EOPNOTSUPP").err("cannot lock job with --coalesce: ").run();
    injected("fsetxattr:error=EACCES").err("with --coalesce: the file is not open for writing\n").run();
    injected("fsetxattr:error=ENOSPC").err("cannot lock ").err("No space left on device").run();
    assert!(!is_locked(&file));
    // A descriptor for reading only.
    let script = r#"exec 9<"$("$HELPER" path job)"; "$HELPER" lock --coalesce --fd 9 job"#;
    scene
        .bash(script)
        .status(125)
        .err("with --coalesce: the file is not open for writing\nhint: use a file that")
        .run();
}

#[test]
fn a_waiter_whose_threads_cannot_have_descriptors_of_their_own_is_still_relied_on() {
    // Docker denies unshare(2).
    let scene = Scene::new();
    let holder = scene.holder("job");
    let waiter = scene.call("strace").args(["-f", "-o", "/dev/null", "-e", "inject=unshare:error=EPERM", HELPER]);
    let waiter = waiter.args(["lock", "--coalesce", "job", "--", "true"]).err("waiting for job, held by pid ").start();
    // By then, a second thread has read the lock file and closed it.
    waiter.wait_for_error("waiting for job");
    call(&scene, &["-n"]).run();
    holder.release();
    waiter.finish();
    assert!(promised_run(&scene).is_null());
}

#[test]
fn a_replaced_file_covers_no_call() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--coalesce", "job"]);
    let waiter = start_waiter(&scene, &[]);
    fs::remove_file(scene.lock_file("job")).unwrap();
    holder.release();
    waiter.finish();
    assert_eq!(count_runs(&scene), 1);
}

#[test]
fn a_call_killed_at_any_system_call_leaves_a_usable_lock_and_at_most_a_debt() {
    let scene = Scene::new();
    let calls = ["flock", "fcntl", "fgetxattr", "fsetxattr", "pread64", "pwrite64", "close", "execve", "setitimer"];
    for name in calls {
        for when in 1..=if name == "fcntl" { 8 } else { 3 } {
            // While the lock is free, and while a run and a waiter are there.
            for is_held in [false, true] {
                let holder = is_held.then(|| scene.holder_with(&["--coalesce", "job"]));
                let waiter = is_held.then(|| start_waiter(&scene, &[]));
                let mut command = scene.program("strace");
                let inject = format!("inject={name}:signal=KILL:when={when}");
                command.args(["-f", "-o", "/dev/null", "-e", &inject, HELPER, "lock", "-q", "--coalesce", "job", "--"]);
                let _ = command.arg("true").stderr(Stdio::null()).status().unwrap();
                let before = count_runs(&scene);
                if let (Some(holder), Some(waiter)) = (holder, waiter) {
                    holder.release();
                    waiter.finish();
                    assert_eq!(count_runs(&scene), before + 1, "{name} {when}");
                }
                assert!(!is_locked(&scene.lock_file("job")), "{name} {when}");
                let before = count_runs(&scene);
                call(&scene, &[]).run();
                assert_eq!(count_runs(&scene), before + 1, "{name} {when}");
                assert!(promised_run(&scene).is_null(), "{name} {when}");
            }
        }
    }
}

#[test]
fn a_waiter_killed_at_any_system_call_leaves_a_debt_only_if_another_call_relies_on_it() {
    let scene = Scene::new();
    for (name, last) in [("flock", 2), ("fcntl", 16), ("fgetxattr", 4), ("fsetxattr", 2), ("pwrite64", 1)] {
        for when in 1..=last {
            let holder = scene.holder_with(&["--coalesce", "job"]);
            let before = count_runs(&scene);
            let inject = format!("inject={name}:signal=KILL:when={when}");
            let waiter = scene.call("strace").args(["-o", "/dev/null", "-e", &inject, HELPER]);
            let waiter = waiter.args(["lock", "-q", "--coalesce", "job", "--", "sh", "-c", "echo >>runs"]);
            let mut waiter = waiter.current_dir(scene.path("")).status(137).err("").start();
            let file = scene.lock_file("job");
            wait_until("it waits or has ended", || waiter.has_ended() || count_waiters(&file) == 1);
            // It relies on the waiter, or is refused.
            let status =
                scene.program(HELPER).args(["lock", "-qn", "--coalesce", "job", "--", "true"]).status().unwrap();
            let relies = status.success();
            holder.release();
            wait_until("it has ended", || waiter.has_ended());
            let has_run = count_runs(&scene) > before;
            // The record is written after the run was counted.
            assert_eq!(is_owed(&scene), relies && !has_run && name != "pwrite64", "{name} {when}");
            drop(waiter);
            call(&scene, &[]).run();
            assert!(promised_run(&scene).is_null(), "{name} {when}");
        }
    }
}

#[test]
fn a_lock_file_of_another_user_that_cannot_be_written_is_refused() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.make_root();
    set_mode(scene.root(), 0o1777);
    fs::write(scene.lock_file("job"), "").unwrap();
    set_mode(scene.lock_file("job"), 0o444);
    let call = scene.unprivileged().args(["lock", "--coalesce", "job", "--", "true"]);
    call.status(125).err("with --coalesce: the file is not open for writing\n").run();
}

#[test]
fn a_run_that_is_owed_is_made_or_stays_owed_if_the_lock_file_cannot_be_examined() {
    let scene = Scene::new();
    for examine in ["statx", "/^(l|f|newf)?stat(at)?$"] {
        for when in 1..=6 {
            leave_debt(&scene);
            let before = count_runs(&scene);
            let mut command = scene.program("strace");
            command.args(["-qq", "-o", "/dev/null", "-e", &format!("inject={examine}:error=EIO:when={when}"), "-P"]);
            command.arg(scene.lock_file("job")).args([HELPER, "lock", "-q", "--coalesce", "job", "--"]);
            command.args(["sh", "-c", "echo >>runs"]).current_dir(scene.path("")).stderr(Stdio::null());
            command.status().unwrap();
            assert!(is_owed(&scene) || count_runs(&scene) == before + 1, "{examine} {when}");
            call(&scene, &[]).run();
        }
    }
}
