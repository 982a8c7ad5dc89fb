//! `status` where it does not examine all processes: the answer is the one of a full examination.

use crate::process::{is_locked, kill, wait_until};
use crate::scene::{HELPER, Scene};
use std::fs;

/// Returns the pids of the holders that `status` shows, if the lock is held.
fn list_holders(scene: &Scene, name: &str) -> Vec<u64> {
    let said = scene.aba(["status", "--json", name]).json();
    let mut pids: Vec<u64> =
        said["holders"].as_array().unwrap().iter().map(|holder| holder["pid"].as_u64().unwrap()).collect();
    pids.sort_unstable();
    pids
}

#[test]
fn quiet_status_of_a_held_lock_examines_no_other_process_and_not_the_lock_table() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let (status, _) = scene.trace_helper(&["-e", "trace=/^open(at)?$"], &["status", "-q", "a"], "");
    assert_eq!(status, Some(0));
    let trace = fs::read_to_string(scene.path("trace")).unwrap();
    let own = format!("/proc/{}/", holder.pid());
    let others = trace.lines().filter(|line| line.contains("/fd") && !line.contains(&own));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(!trace.contains("/proc/locks"), "{trace}");
}

#[test]
fn quiet_status_believes_no_record() {
    let scene = Scene::new();
    // The process in the record has ended.
    scene.aba(["lock", "a", "--", "true"]).run();
    scene.aba(["status", "-q", "a"]).status(1).run();
    // The process in the record runs, and holds another lock.
    let bystander = scene.holder("b");
    scene.set_field("a", "pid", &bystander.pid().to_string());
    scene.set_field("a", "tick", &u64::MAX.to_string());
    scene.aba(["status", "-q", "a"]).status(1).run();
    scene.aba(["status", "a"]).status(1).out("a: free\n").run();
    // Another process holds the lock, in either mode.
    for mode in ["-x", "-s"] {
        let file = scene.lock_file("a");
        let holder = scene.call("flock").arg(mode).arg(file).args(["sh", "-c", "echo held; read _"]).hold();
        scene.aba(["status", "-q", "a"]).run();
        assert!(list_holders(&scene, "a").contains(&holder.pid().into()), "flock {mode}");
    }
}

/// Starts a script that acquires lock `a` and starts a detached process that inherits it. `begin` is what that process does
/// first, with the number of the descriptor in `$fd`. Returns the script and the pid of the process.
fn start_script_with_daemon(scene: &Scene, begin: &str) -> (crate::call::Holder, u32) {
    let daemon = format!("{begin}; exec setsid sleep 1000 <&- >&- 2>&-");
    let script = format!("aba_lock_operation a; fd=200; ({daemon}) & echo $!; read _; exit 0");
    let holder = scene.bash_with_library(&script).hold();
    let daemon = holder.first_line.parse().unwrap();
    wait_until("the process has become sleep", || {
        fs::read_to_string(format!("/proc/{daemon}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    (holder, daemon)
}

#[test]
fn a_detached_process_is_shown_whatever_the_number_of_its_descriptor_is() {
    for begin in [":", "eval \"exec 3<&$fd $fd<&-\"", "eval \"exec 777<&$fd $fd<&-\""] {
        let scene = Scene::new();
        let (holder, daemon) = start_script_with_daemon(&scene, begin);
        let mut expected = vec![u64::from(holder.pid()), u64::from(daemon)];
        expected.sort_unstable();
        assert_eq!(list_holders(&scene, "a"), expected, "{begin}");
        // Now only the detached process holds the lock.
        assert_eq!(holder.release(), 0);
        scene.aba(["status", "-q", "a"]).run();
        assert_eq!(list_holders(&scene, "a"), [u64::from(daemon)], "{begin}");
        kill(daemon, 9);
        wait_until("the lock is free", || !is_locked(&scene.lock_file("a")));
        scene.aba(["status", "-q", "a"]).status(1).run();
    }
}

#[test]
fn a_holder_in_another_mount_namespace_is_shown() {
    let scene = Scene::new();
    scene.make_root();
    let holder = scene.in_mount_namespace().args([HELPER, "lock", "a", "--", "sh", "-c", "echo held; read _"]).hold();
    scene.aba(["status", "-q", "a"]).run();
    assert!(list_holders(&scene, "a").contains(&holder.pid().into()));
}
