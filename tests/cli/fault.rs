//! `lock` when the system refuses something, and when it is killed at any step.

use crate::call::Call;
use crate::process::{is_locked, is_root, make_fifo, set_mode};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::os::unix::fs::symlink;

/// The helper under strace, which makes system calls on the lock file and the state root fail.
fn injected(scene: &Scene, inject: &str, args: &[&str]) -> Call {
    scene
        .call("strace")
        .arg("-P")
        .arg(scene.lock_file("a"))
        .arg("-P")
        .arg(scene.root())
        .args(["-o", "/dev/null", "-e", &format!("inject={inject}"), HELPER])
        .args(args)
}

/// The hint for a full disk.
const FULL_DISK: &str = "hint: free some space: find large directories with `du`, many files with `du --inodes`\n";

#[test]
fn a_full_disk_loses_the_record_but_not_the_lock() {
    let scene = Scene::new();
    // `-q` is about contention.
    for args in [&["lock", "a", "--", "echo", "runs"][..], &["lock", "-q", "a", "--", "echo", "runs"]] {
        let command = injected(&scene, "pwrite64:error=ENOSPC", args).out("runs\n");
        let command = command.err("cannot record the holder of the lock in ");
        command.err(format!("No space left on device; the lock is held nevertheless\n{FULL_DISK}")).run();
    }
}

#[test]
fn a_file_system_without_locks_is_named_and_refused() {
    let scene = Scene::new();
    for error in ["ENOLCK", "EOPNOTSUPP", "ENOSYS"] {
        injected(&scene, &format!("flock:error={error}"), &["lock", "a", "--", "echo", "not reached"])
            .status(125)
            .err(" does not support locks: ")
            .err("hint: set ABA_LOCK_DIR to a writable directory on a local disk")
            .run();
    }
}

#[test]
fn a_failed_lock_call_is_not_reported_as_contention() {
    let scene = Scene::new();
    let said = injected(&scene, "flock:error=EIO", &["lock", "a", "--", "true"]).status(125).err("cannot lock ").run();
    assert!(!said.err.contains("held"), "{}", said.err);
}

#[test]
fn a_file_that_cannot_be_examined_is_not_taken_for_one_that_was_replaced() {
    let scene = Scene::new();
    let hold = r#"exec 200<>"$("$HELPER" path --create a)"; "$HELPER" lock --fd 200 a; export ABA_LOCK_FDS=200"#;
    let injected = |inject: &str, call: &str| {
        format!(
            r#"{hold}; strace -P {file} -P /proc/self/fdinfo/3 -o /dev/null -e inject={inject} "$HELPER" {call}"#,
            file = scene.lock_file("a").display()
        )
    };
    // A caller that opened the file again would be refused by its own lock.
    for call in ["lock --fd 200 a", "lock a -- echo 'not reached'", "unlock --fd 200 a", "status --fd 200 a"] {
        let script = injected("statx:error=ENOMEM", call);
        scene.bash(&script).status(125).err("cannot examine lock file ").err("Cannot allocate memory").run();
    }
    for call in ["lock --fd 200 a", "lock a -- echo 'not reached'"] {
        let script = injected("openat:error=ENFILE", call);
        scene.bash(&script).status(125).err("cannot determine whether file descriptor 200 holds the lock on ").run();
    }
    for call in ["lock --fd 200 a", "lock a -- echo 'not reached'", "unlock --fd 200 a", "status --fd 200 a"] {
        let script = injected("fcntl:error=EMFILE", call);
        scene.bash(&script).status(125).err("cannot use file descriptor 200: Too many open files").run();
    }
}

#[test]
fn a_call_that_does_not_wait_tries_again_after_an_interrupting_signal() {
    let scene = Scene::new();
    let file = scene.path("f").display().to_string();
    for words in [&["lock", "a", "--", "true"][..], &["lock", "-n", "a", "--", "true"], &["flock", "-n", &file, "true"]]
    {
        injected(&scene, "flock:error=EINTR:when=1", words).run();
    }
    injected(&scene, "fcntl:error=EINTR:when=1", &["lock", "--slots", "2", "a", "--", "true"]).run();
}

#[test]
fn a_wait_continues_after_an_interrupting_signal() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let waiter =
        injected(&scene, "flock:error=EINTR:when=2", &["lock", "-qw", "a", "--", "echo", "mine"]).out("mine\n");
    let waiter = waiter.start();
    scene.wait_for_waiter("a");
    holder.release();
    waiter.finish();
}

#[test]
fn an_existing_lock_file_is_opened_without_o_creat() {
    // With O_CREAT, `fs.protected_regular` refuses to open a file of another user in a sticky directory, even for root.
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let trace = scene.path("trace");
    scene
        .call("strace")
        .args(["-e", "trace=/^open(at)?$", "-o"])
        .arg(&trace)
        .args([HELPER, "lock", "a", "--", "true"])
        .run();
    let trace = fs::read_to_string(trace).unwrap();
    let opened: Vec<&str> = trace.lines().filter(|line| line.contains("aba-a.lock")).collect();
    assert!(!opened.is_empty());
    for line in opened {
        assert!(!line.contains("O_CREAT") && !line.contains("O_TRUNC") && line.contains("O_NOFOLLOW"), "{line}");
    }
}

#[test]
fn a_read_only_lock_file_can_be_locked() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let before = scene.record("a");
    injected(&scene, "/^open(at)?$:error=EACCES:when=1", &["lock", "a", "--", "true"]).run();
    assert_ne!(scene.record("a"), before, "the record is written through a second descriptor if it can be");
}

#[test]
fn a_directory_or_file_that_cannot_be_used_is_named_with_the_reason() {
    let scene = Scene::new();
    fs::write(scene.path("file"), "").unwrap();
    let below = scene.path("file/locks");
    let command = scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_DIR", &below).status(125).err("cannot ");
    command.err(below.to_str().unwrap()).err("Not a directory").run();
    injected(&scene, "mkdir:error=EACCES", &["lock", "a", "--", "true"])
        .status(125)
        .err(format!("cannot create the directory for locks {}: Permission denied", scene.root().display()))
        .err("hint: set ABA_LOCK_DIR to ")
        .run();
    scene.make_root();
    let call = injected(&scene, "/^open(at)?$:error=ENOSPC:when=2", &["lock", "a", "--", "true"]).status(125);
    call.err(format!("cannot open lock file {}: No space left on device\n{FULL_DISK}", scene.lock_file("a").display()))
        .run();
    let call = injected(&scene, "/^open(at)?$:error=EDQUOT:when=2", &["lock", "a", "--", "true"]).status(125);
    call.err(format!("Disk quota exceeded\n{FULL_DISK}")).run();
}

#[test]
fn an_unreadable_lock_file_of_another_user_is_reported_with_its_owner() {
    let scene = Scene::new();
    scene.make_root();
    set_mode(scene.root(), 0o1777);
    // A file without permissions. If the tests run as root, it is a file of root, which another user tries to open.
    let root = is_root();
    fs::write(scene.lock_file("a"), "").unwrap();
    set_mode(scene.lock_file("a"), 0);
    let call = scene.unprivileged().args(["lock", "a", "--", "true"]).status(125).err("cannot open lock file ");
    let said = call.err("Permission denied").run();
    assert_eq!(said.err.contains("(owner: root)"), root, "{}", said.err);
    let remedy = if root { "hint: to share this lock, run as user root: `chmod a+rw " } else { "hint: the mode of " };
    assert!(said.err.contains(remedy), "{}", said.err);
}

#[test]
fn the_mode_of_a_lock_file_is_not_named_for_an_error_with_another_cause() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    // As with a security module, which denies access that the mode permits.
    let denied = injected(&scene, "/^(open(at)?|faccessat2?)$:error=EACCES", &["lock", "a", "--", "true"]);
    denied.status(125).err("Permission denied\nhint: set ABA_LOCK_DIR to a writable directory on a local disk\n").run();
    if is_root() {
        // The mode does not bind root.
        set_mode(scene.lock_file("a"), 0);
        let full = injected(&scene, "/^open(at)?$:error=ENOSPC", &["lock", "a", "--", "true"]);
        full.status(125).err(format!("No space left on device\n{FULL_DISK}")).run();
    }
}

#[test]
fn list_and_status_say_that_a_lock_file_cannot_be_opened() {
    let scene = Scene::new();
    scene.aba(["lock", "used", "--", "true"]).run();
    scene.aba(["lock", "open", "--", "true"]).run();
    for name in ["used", "unused"] {
        let file = scene.lock_file(name);
        fs::OpenOptions::new().append(true).create(true).open(&file).unwrap();
        set_mode(&file, if is_root() { 0o600 } else { 0 });
    }
    set_mode(scene.lock_file("open"), 0o644);
    // This is no lock file, so its mode is not the problem.
    fs::create_dir(scene.lock_file("directory")).unwrap();
    set_mode(scene.lock_file("directory"), if is_root() { 0o700 } else { 0 });
    set_mode(scene.root(), 0o755);
    let owner = if is_root() { " (owner: root)" } else { "" };
    let problem = format!("its lock file cannot be opened: Permission denied{owner}");
    let listed = scene.unprivileged().args(["list"]).out("LOCK ").run().out;
    for (name, state, what) in [("used", "denied", &*problem), ("unused", "denied", &problem), ("open", "free", "")] {
        let words = |line: &&str| line.split_whitespace().next() == Some(name);
        let line = listed.lines().find(words).unwrap_or_default();
        assert_eq!(line.split_whitespace().nth(1), Some(state), "{listed}");
        assert!(line.ends_with(what), "{listed}");
    }
    // The locks that cannot be used are shown before those that are free.
    let names: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["directory", "unused", "used", "open"]);
    let coloured = scene.unprivileged().args(["list", "--color=always"]).out("LOCK ").run().out;
    let reds = coloured.lines().filter(|line| line.contains("\x1b[31m")).count();
    assert_eq!(reds, 3, "{coloured}");
    let listed = scene.unprivileged().args(["list", "--json"]).out("{").run().out;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let problems = ["directory", "open", "unused", "used"].map(|name| {
        let lock = listed["locks"].as_array().unwrap().iter().find(|lock| lock["name"] == name).unwrap();
        lock["problem"].as_str()
    });
    assert_eq!(problems, [None, None, Some(&*problem), Some(&problem)]);
    for name in ["used", "unused"] {
        let call = scene.unprivileged().args(["status", name]).status(1);
        call.out(format!("{name}: free\n")).out(format!("  problem: {problem}\n  hint: ")).run();
    }
}

#[test]
fn a_missing_permission_is_reported_with_the_next_step() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.make_root();
    let user = |args: &[&str]| scene.unprivileged().args(args).status(125);
    fs::write(scene.path("f"), "a\n").unwrap();
    let file = scene.path("f").display().to_string();
    user(&["update", &file, "--", "cat"]).err("; the file is unchanged\nhint: an update creates files in ").run();
    set_mode(scene.root(), 0o700);
    user(&["list"])
        .err("Permission denied\nhint: run this command as a user who can read the directory, or set ABA_LOCK_DIR ")
        .run();
    set_mode(scene.root(), 0o755);
    scene.once(["-qwi", "a", "--", "true"]).run();
    user(&["run-once", "-r", "-i", "a"])
        .err("Permission denied\nhint: run this command as the user who started the task, ")
        .run();
}

#[test]
fn a_lock_file_that_another_user_may_read_can_be_locked_by_them() {
    let scene = Scene::new();
    scene.make_root();
    set_mode(scene.root(), 0o1777);
    fs::write(scene.lock_file("a"), "").unwrap();
    set_mode(scene.lock_file("a"), 0o444);
    scene.unprivileged().args(["lock", "a", "--", "echo", "mine"]).out("mine\n").run();
}

#[test]
fn lock_files_that_are_not_regular_files_are_refused() {
    let scene = Scene::new();
    scene.make_root();
    fs::write(scene.path("target"), "precious").unwrap();
    symlink(scene.path("target"), scene.lock_file("link")).unwrap();
    symlink(scene.path("nowhere"), scene.lock_file("dangling")).unwrap();
    fs::create_dir(scene.lock_file("directory")).unwrap();
    make_fifo(scene.lock_file("fifo"));
    let kinds =
        [("link", "symbolic link"), ("dangling", "symbolic link"), ("directory", "directory"), ("fifo", "FIFO")];
    for (name, kind) in kinds {
        scene
            .aba(["lock", "-w", name, "--", "true"])
            .status(125)
            .err(format!(
                "cannot use lock file {}: it is a {kind}, not a regular file",
                scene.lock_file(name).display()
            ))
            .err("hint: show its owner with `ls -ld ")
            .run();
    }
    let named = ["lock", "--file", "/dev/null", "--", "true"];
    scene.aba(named).status(125).err("it is a device").err("hint: use a regular file or a directory\n").run();
    assert_eq!(fs::read_to_string(scene.path("target")).unwrap(), "precious");
    assert!(!scene.path("nowhere").exists());
    // A descriptor that a script opened through the link is refused, too.
    let command = scene.bash("exec 200<>\"$ABA_LOCK_DIR/aba-link.lock\"; \"$HELPER\" lock --fd 200 link").status(125);
    command.err("it is a symbolic link").run();
}

#[test]
fn a_lock_killed_at_any_system_call_leaves_a_usable_lock() {
    let scene = Scene::new();
    // All system calls from the first on the lock file to the last before the command.
    let calls = [
        "/^open(at)?$",
        "flock",
        "pread64",
        "pwrite64",
        "ftruncate",
        "/^(statx|l?stat|fstat)$",
        "fcntl",
        "execve",
        "close",
        "mkdir",
    ];
    for call in calls {
        for when in 1..=6 {
            scene.aba(["lock", "--who", &"x".repeat(500), "a", "--", "true"]).run();
            let mut command = scene.program("strace");
            let inject = format!("inject={call}:signal=KILL:when={when}");
            command.args(["-o", "/dev/null", "-e", &inject, HELPER, "lock", "a", "--", "true"]);
            let _ = command.stderr(std::process::Stdio::null()).status().unwrap();
            assert!(!is_locked(&scene.lock_file("a")), "{call} {when}");
            scene.aba(["lock", "a", "--", "sh", "-c", "\"$HELPER\" status a | grep -q \"^  pid $$,\""]).run();
        }
    }
}

#[test]
fn a_lock_file_that_is_replaced_again_and_again_is_an_error() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    // Each round makes three statx(2) calls. The second checks that the name still leads to the file, and the third whether the
    // replacement is logged. With musl, both are lstat(2).
    let command = scene.strace(["-P"]).arg(scene.lock_file("a")).args(["-e", "inject=statx:error=ENOENT:when=2+3"]);
    let command = command.args(["-e", "inject=lstat:error=ENOENT", HELPER, "lock", "a", "--", "true"]).status(125);
    command.err("was replaced each time it was opened").err("hint: stop the program that removes or replaces it").run();
}

#[test]
fn a_command_killed_before_execve_is_reported_by_the_exit_status() {
    let scene = Scene::new();
    // The child is killed at its first system call, before the helper allows it to run the command.
    let command = scene.strace(["-f", "-e", "inject=prctl:signal=KILL"]);
    command.args(["-e", "inject=write:delay_enter=200000", HELPER, "lock", "-o", "a", "--", "true"]).status(137).run();
    assert!(!is_locked(&scene.lock_file("a")));
}

#[test]
fn an_interrupted_system_call_loses_no_message() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let command = scene.strace(["-f", "-e", "inject=poll:error=EINTR:when=1"]);
    command.args([HELPER, "lock", "a", "--", "true"]).status(75).err("a is already running: ").run();
    holder.release();
}

#[test]
fn a_timeout_alarm_never_reaches_the_command() {
    let scene = Scene::new();
    for when in 1..=5 {
        let holder = scene.holder("a");
        // A signal that is pending when the timer is disarmed must not ring again 20 ms later.
        let inject = format!("inject=setitimer:signal=ALRM:when={when}");
        let command = scene.strace(["-f", "-e", &inject, HELPER, "lock", "-qt", "60", "a", "--"]);
        let waiter = command.args(["sh", "-c", "sleep 0.2; echo mine"]).out("mine\n").start();
        scene.wait_for_waiter("a");
        holder.release();
        waiter.finish();
    }
}
