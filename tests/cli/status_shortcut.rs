//! `status` where it does not examine all processes: the answer is the one of a full examination.

use crate::namespace::is_in_first_namespace;
use crate::process::{is_locked, kill, wait_until};
use crate::scene::{HELPER, Scene};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Returns the pids of the holders that `status` shows, if the lock is held.
fn list_holders(scene: &Scene, name: &str) -> Vec<u64> {
    list_holders_of(&scene.aba(["status", "--json", name]).json())
}

fn list_holders_of(said: &Value) -> Vec<u64> {
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

/// A directory on a file system on which other tests have no locks, because their lock files could be removed ones of this directory.
fn make_directory() -> Option<tempfile::TempDir> {
    if is_in_first_namespace() { tempfile::tempdir_in("/dev/shm").ok() } else { None }
}

/// Returns true if a call for locks in `directory` lists the descriptors of at least half of all processes.
fn examines_most_processes(scene: &Scene, directory: &Path, args: &[&str], status: i32) -> bool {
    let trace = scene.path("trace");
    let mut command = scene.program("strace");
    command.args(["-f", "-qq", "-e", "trace=/^(open|openat)$", "-o"]).arg(&trace).arg(HELPER).args(args);
    let said = command.env("ABA_LOCK_DIR", directory).output().unwrap();
    assert_eq!(said.status.code(), Some(status), "{said:?}");
    let trace = fs::read_to_string(trace).unwrap();
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let all = fs::read_dir("/proc").unwrap().flatten().filter(|one| one.file_name().to_str().is_some_and(is_number));
    2 * trace.matches("/fd\"").count() > all.count()
}

#[test]
fn status_of_a_free_lock_examines_few_processes_if_the_lock_table_proves_it() {
    let Some(directory) = make_directory() else { return };
    let (scene, directory) = (Scene::new(), directory.path());
    scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_DIR", directory).run();
    fs::create_dir(directory.join("other")).unwrap();
    for args in [&["-q", "a"][..], &["a"], &["--json", "a"], &["-q", "never-used"]] {
        let args = [&["status"][..], args].concat();
        // Other tests can hold so many locks that the table is too long, or start many processes between the script and its child.
        wait_until("few processes are examined", || {
            // A script holds a file in another directory, and the process that locked it has ended.
            let script = format!("exec 9>'{}/other/file'; flock 9; echo held; read _", directory.display());
            let _other = scene.bash(&script).hold();
            !examines_most_processes(&scene, directory, &args, 1)
        });
    }
}

/// Holds 150 locks, and acquires and releases others in two processes until its standard input is closed.
const CROWD: &str = r#"import fcntl, os, sys
def lock(name, how=fcntl.LOCK_EX):
    file = open(os.path.join(sys.argv[1], "aba-%s.lock" % name), "w")
    fcntl.flock(file, how)
    return file
held = [lock("held-%d" % at) for at in range(150)]
others = [open(os.path.join(sys.argv[1], name), "w") for name in ("one", "two")]
leader = os.getpid()
for file in others:
    if os.fork() == 0:
        while os.getppid() == leader:
            fcntl.flock(file, fcntl.LOCK_EX)
            fcntl.flock(file, fcntl.LOCK_UN)
        os._exit(0)
print("held", flush=True)
sys.stdin.read()
"#;

#[test]
fn a_held_lock_is_never_reported_as_free_while_other_locks_change_in_a_long_lock_table() {
    let scene = Scene::new();
    scene.make_root();
    // No record names the holder.
    let holder = scene.call("python3").args(["-c", CROWD]).arg(scene.root()).hold();
    for at in 0..150 {
        scene.aba(["status", "-q", &format!("held-{at}")]).run();
    }
    drop(holder);
}

#[test]
fn a_list_with_one_held_lock_lists_the_descriptors_of_few_processes() {
    let Some(directory) = make_directory() else { return };
    let (scene, directory) = (Scene::new(), directory.path());
    let aba = |args: &[&str]| scene.aba(args).env("ABA_LOCK_DIR", directory);
    aba(&["lock", "a", "--", "true"]).run();
    wait_until("few processes are examined", || !examines_most_processes(&scene, directory, &["list"], 0));
    let holder = aba(&["lock", "b", "--", "sh", "-c", "echo held; read _"]).hold();
    wait_until("few processes are examined", || !examines_most_processes(&scene, directory, &["list", "--json"], 0));
    let said = aba(&["list"]).out("held").run().out;
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().take(5).collect()).collect();
    assert_eq!(lines[1][..2], ["b", "held"]);
    let pid = holder.pid().to_string();
    assert_eq!((lines[1][4], lines[2][..2].to_vec()), (pid.as_str(), vec!["a", "free"]));
}

#[test]
fn a_list_looks_up_the_path_of_each_lock_file_once() {
    let scene = Scene::new();
    scene.make_root();
    for name in ["one", "two", "three"] {
        scene.aba(["lock", name, "--", "true"]).run();
    }
    let (status, _) =
        scene.trace_helper(&["-f", "-e", "trace=/^(open|openat|l?stat|newfstatat|statx|l?getxattr)$"], &["list"], "");
    assert_eq!(status, Some(0));
    let trace = fs::read_to_string(scene.path("trace")).unwrap();
    for name in ["one", "two", "three"] {
        assert_eq!(trace.matches(&format!("aba-{name}.lock")).count(), 1, "{trace}");
    }
}

#[test]
fn the_holders_of_a_lock_of_flock_are_found_without_a_list_of_all_descriptors() {
    let Some(directory) = make_directory() else { return };
    let (scene, directory) = (Scene::new(), directory.path());
    let file = directory.join("file").display().to_string();
    let args = ["status", "--json", "--file", &file];
    // In the second case, the process that called flock(2) has ended.
    let calls = [
        format!("exec flock '{file}' sh -c 'echo held; read _'"),
        format!("exec 9>'{file}'; flock 9; echo held; read _"),
    ];
    for (call, number) in calls.iter().zip([2, 1]) {
        wait_until("few processes are examined", || {
            let holder = scene.bash(call).hold();
            let pids = list_holders_of(&scene.aba(args).json());
            assert!(pids.len() == number && pids.contains(&holder.pid().into()), "{pids:?}");
            let found = !examines_most_processes(&scene, directory, &args, 0);
            holder.release();
            found
        });
    }
}
