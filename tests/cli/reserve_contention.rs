//! `reserve` called by many processes at once.

use crate::process::{SetOnDrop, count_waiters, list_files, wait_until};
use crate::reserve::{call, registry, reserve, rows};
use crate::scene::{HELPER, Scene};
use std::collections::HashSet;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Starts `reserve`. Its output fits into a pipe, and is read at the end.
fn start_reserve(scene: &Scene, root: &str, args: &[&str]) -> Child {
    let mut command = scene.program(HELPER);
    command.args(["reserve", "--probe", "none"]).args(args).env("ABA_LOCK_DIR", scene.path(root));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Removes the reports of a wait from stderr. A call that waits for longer than a moment prints one.
fn remove_wait_reports(err: &str) -> String {
    err.split_inclusive('\n').filter(|line| !line.starts_with("aba-lock: waiting for ")).collect()
}

/// Waits for processes. Returns the exit status, stdout and stderr of each, without the reports of waits.
fn wait_for_all(children: Vec<Child>) -> Vec<(i32, String, String)> {
    let end = |child: Child| {
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), remove_wait_reports(&text(output.stderr)))
    };
    children.into_iter().map(end).collect()
}

#[test]
fn of_twenty_concurrent_callers_eleven_get_the_eleven_numbers() {
    let scene = Scene::new();
    let expected: HashSet<u32> = (5000..=5010).collect();
    for round in 0..80 {
        let root = format!("root{round}");
        let tags: Vec<String> = (0..20).map(|tag| format!("t{tag}")).collect();
        let children =
            tags.iter().map(|tag| start_reserve(&scene, &root, &["--range", "5000-5010", "--tag", tag])).collect();
        let ended = wait_for_all(children);
        let given: Vec<u32> = ended.iter().filter(|end| end.0 == 0).map(|end| end.1.trim().parse().unwrap()).collect();
        assert_eq!(given.len(), 11, "round {round}: {ended:?}");
        assert_eq!(given.into_iter().collect::<HashSet<_>>(), expected, "round {round}");
        let failed: Vec<_> = ended.iter().filter(|end| end.0 != 0).collect();
        assert!(
            failed.iter().all(|(status, out, err)| *status == 75
                && out.is_empty()
                && err.starts_with("aba-lock: no number of pool ports is free in 5000-5010: 11 reserved")),
            "round {round}: {failed:?}"
        );
        fs::remove_dir_all(scene.path(&root)).unwrap();
    }
}

#[test]
fn fifty_concurrent_calls_for_one_key_get_one_number() {
    let scene = Scene::new();
    let ended = wait_for_all((0..50).map(|_| start_reserve(&scene, "locks", &["--tag", "t"])).collect());
    assert!(ended.iter().all(|end| *end == (0, "5000\n".to_owned(), String::new())), "{ended:?}");
    assert_eq!(rows(&scene, "ports").len(), 1);
}

#[test]
fn a_hundred_concurrent_keys_get_a_hundred_numbers() {
    let scene = Scene::new();
    let tags: Vec<String> = (0..100).map(|tag| format!("t{tag}")).collect();
    let ended = wait_for_all(tags.iter().map(|tag| start_reserve(&scene, "locks", &["--tag", tag])).collect());
    assert!(ended.iter().all(|end| end.0 == 0), "{ended:?}");
    let given: HashSet<&str> = ended.iter().map(|end| end.1.as_str()).collect();
    assert_eq!((given.len(), rows(&scene, "ports").len()), (100, 100));
}

#[test]
fn forty_concurrent_leases_get_forty_numbers() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo $ABA_NUMBER; exec read _ <{gate}").replace("exec ", "");
    let children: Vec<Child> =
        (0..40).map(|_| start_reserve(&scene, "locks", &["--", "bash", "-c", &script])).collect();
    let held = || list_files(scene.root().join("reserve/ports.d")).len();
    wait_until("each has one", || held() == 40);
    for _ in 0..40 {
        gate.open();
    }
    let given: HashSet<String> = wait_for_all(children).into_iter().map(|end| end.1).collect();
    assert_eq!(given.len(), 40);
}

#[test]
fn twenty_concurrent_exclusions_are_all_kept() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000\n").run();
    let before = rows(&scene, "ports");
    let calls: Vec<_> = (0..20)
        .map(|n| scene.aba(["exclude".to_owned(), format!("{}-{}", 6000 + 10 * n, 6005 + 10 * n)]).err("").start())
        .collect();
    for call in calls {
        assert_eq!(remove_wait_reports(&call.finish().err), "");
    }
    assert_eq!(scene.aba(["exclude", "--list"]).out("").run().out.lines().count(), 20);
    assert_eq!(rows(&scene, "ports"), before);
}

#[test]
fn readers_never_see_errors_or_partial_rows() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000\n").run();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = SetOnDrop(&done);
        let writer = scope.spawn(|| {
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    return round;
                }
                let tag = format!("t{}", round % 7);
                reserve(&scene, "a", &["--tag", &tag]).out("").run();
                call(&scene, "a", ["release", "--tag", &tag]).run();
            }
            0
        });
        for look in 0..200 {
            let said = if look % 2 == 0 {
                call(&scene, "a", ["reserve", "--check"]).out("5000\n").run().out
            } else {
                call(&scene, "a", ["reserve", "--list", "--format", "tsv"]).out("5000\tkept\t-\t").run().out
            };
            assert!(look % 2 == 0 || said.lines().all(|line| line.split('\t').count() == 9), "{said}");
        }
        drop(end);
        assert!(writer.join().unwrap() > 10);
    });
}

#[test]
fn a_reservation_waits_for_the_registry_until_its_timeout() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000").run();
    let lock = registry(&scene, "ports.lock");
    let holder = scene.flock_holder(&lock);
    reserve(&scene, "b", &["-t", "0.05"]).status(124).err("timed out after 0.05 s").run();
    reserve(&scene, "b", &[]).env("ABA_LOCK_TIMEOUT", "0.05").status(124).err("timed out").run();
    // A query does not wait.
    call(&scene, "a", ["reserve", "--check"]).out("5000\n").run();
    let waiter = reserve(&scene, "b", &[]).out("5001\n").start();
    wait_until("it waits", || count_waiters(&lock) > 0);
    holder.release();
    waiter.finish();
}
