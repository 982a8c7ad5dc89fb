//! `reserve` killed at any system call, refused by the system, and interrupted.

use crate::process::{count_waiters, interrupt_group, is_locked, list_files, wait_until};
use crate::reserve::{number, registry, reserve, rows, set_registry};
use crate::scene::{HELPER, Scene, error_text};
use std::fs;

/// Runs the helper under strace in directory `a`. Returns the exit status and stderr.
pub(crate) fn trace_reserve(scene: &Scene, options: &[&str], args: &[&str]) -> (Option<i32>, String) {
    fs::create_dir_all(scene.path("a")).unwrap();
    scene.trace_helper(options, args, "a")
}

/// The system calls that change something, or whose result matters.
const CALLS: [&str; 11] = [
    "mkdir",
    "/^open(at)?$",
    "flock",
    "read",
    "write",
    "pwrite64",
    "bind",
    "rename",
    "sync_file_range",
    "fsync",
    "close",
];

/// Kills `reserve` at this system call, and checks the numbers that later calls get. Returns the exit status, and true if
/// the killed call made a row.
fn kill_reserve_at(args: &[&str], name: &str, when: u32) -> (Option<i32>, bool) {
    let scene = Scene::new();
    let taken = when.is_multiple_of(2);
    if taken {
        reserve(&scene, "b", &["--require", "5001"]).out("5001\n").run();
    }
    let (status, _) = trace_reserve(&scene, &["-e", &format!("inject={name}:signal=KILL:when={when}")], args);
    let lock = registry(&scene, "ports.lock");
    wait_until("the lock is free", || !lock.exists() || !is_locked(&lock));
    let has = rows(&scene, "ports").iter().any(|row| row.ends_with("/a"));
    // The next call succeeds, removes temporary files, and gives only free numbers.
    let other = number(reserve(&scene, "c", &[]));
    let mine = number(reserve(&scene, "a", &[]));
    let expected = match (has, taken) {
        (true, true) => (5002, 5000),
        (true, false) => (5001, 5000),
        (false, true) => (5000, 5002),
        (false, false) => (5000, 5001),
    };
    assert_eq!((other, mine), expected, "killed at {name} {when}");
    let mut litter = list_files(scene.root().join("reserve"));
    litter.retain(|name| !["ports", "ports.lock", "ports.d"].contains(&name.as_str()));
    assert!(litter.is_empty(), "killed at {name} {when}: {litter:?}");
    (status, has)
}

#[test]
fn a_reservation_killed_at_any_system_call_never_leads_to_duplicates() {
    for args in [
        &["reserve", "--probe", "none"][..],
        &["reserve", "--probe", "none", "--dotenv", "f"],
        &["reserve", "--probe", "none", "--", "true"],
    ] {
        let (mut with, mut without) = (0, 0);
        for name in CALLS {
            // strace counts each system call separately. The loop ends after the last one of this name.
            for when in 1.. {
                let (status, has) = kill_reserve_at(args, name, when);
                *(if has { &mut with } else { &mut without }) += 1;
                if status == Some(0) {
                    break;
                }
            }
        }
        let lease = args.contains(&"--");
        assert!(without > 15 && (with > 1 || lease), "{with} times with the row, {without} times without");
    }
}

#[test]
fn a_system_error_gives_no_number_and_changes_nothing() {
    let scene = Scene::new();
    reserve(&scene, "b", &[]).out("5000\n").run();
    let before = fs::read(registry(&scene, "ports")).unwrap();
    let path = registry(&scene, "ports");
    for (inject, why) in [
        ("write:error=ENOSPC:when=1", "No space left on device"),
        ("write:error=EDQUOT:when=1", ""),
        ("sync_file_range:error=EIO:when=1", &error_text(libc::EIO)),
        ("rename:error=EROFS", "Read-only file system"),
        ("write:error=EFBIG", "File too large"),
        ("flock:error=ENOLCK", "does not support locks"),
    ] {
        let inject = format!("inject={inject}");
        let watched = [path.clone(), path.with_file_name(".ports.aba-lock.d"), path.with_file_name("ports.lock")];
        let watched = watched.iter().flat_map(|path| ["-P", path.to_str().unwrap()]);
        let options: Vec<&str> = watched.chain(["-e", &inject]).collect();
        let (status, said) = trace_reserve(&scene, &options, &["reserve", "--probe", "none"]);
        assert_eq!(status, Some(125), "{inject}: {said}");
        assert!(said.contains("aba-lock: ") && said.contains(why), "{inject}: {said}");
        assert_eq!(fs::read(&path).unwrap(), before, "{inject}");
        let names = list_files(path.parent().unwrap());
        assert_eq!(names.len(), 2, "{inject}: {names:?}");
    }
    // If the last fsync(2) fails, there is a row, but the number is not printed.
    let (status, said) = trace_reserve(&scene, &["-e", "inject=fsync:error=EIO"], &["reserve", "--probe", "none"]);
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("was changed, but cannot be synced to the disk: "), "{said}");
    // If the file system does not support the call, another one syncs the file.
    let args = ["reserve", "--probe", "none", "--tag", "other"];
    let (status, said) = trace_reserve(&scene, &["-e", "inject=sync_file_range:error=ENOSYS"], &args);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(rows(&scene, "ports").len(), 3);
    // A directory that has a number gets it, even if the time of its use cannot be written.
    let text = fs::read_to_string(&path).unwrap();
    let row = text.lines().nth(2).unwrap();
    let words: Vec<&str> = row.split(' ').collect();
    set_registry(&scene, "ports", &format!("{} 1 1 {}\n", words[0], words[3..].join(" ")));
    let command = scene.strace(["-e", "inject=rename:error=ENOSPC", HELPER, "reserve", "--probe", "none"]);
    command.current_dir(scene.path("b")).out("5000\n").err("cannot record the use of the number: ").run();
    // Errors of the network calls of a probe.
    for (inject, status) in [
        ("socket:error=EACCES", 125),
        ("socket:error=EMFILE", 125),
        ("socket:error=EAFNOSUPPORT", 0),
        ("bind:error=EADDRNOTAVAIL", 0),
    ] {
        let (ended, said) = trace_reserve(
            &scene,
            &["-e", &format!("inject={inject}")],
            &["reserve", "--range", "5100-5101", "--dry-run"],
        );
        assert_eq!(ended, Some(status), "{inject}: {said}");
        assert!(status == 0 || said.contains("cannot determine whether 5100 is in use: "), "{said}");
    }
}

#[test]
fn ctrl_c_during_the_wait_ends_the_script_and_reserves_nothing() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000").run();
    let lock = registry(&scene, "ports.lock");
    let holder = scene.flock_holder(&lock);
    let running = scene.bash_here("\"$HELPER\" reserve --probe none; echo after").own_group().status(130).start();
    wait_until("it waits", || count_waiters(&lock) > 0);
    interrupt_group(running.pid());
    running.finish();
    holder.release();
    assert_eq!(rows(&scene, "ports").len(), 1);
}
