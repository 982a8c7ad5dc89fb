//! Holders and callers in namespaces of their own: no command may claim more than is certain.

use crate::call::{Call, Holder};
use crate::scene::{Gate, HELPER, LIBRARY, Scene};
use crate::visibility::parse_json;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

#[test]
fn a_holder_in_another_pid_namespace_is_named_as_such() {
    let scene = Scene::new();
    scene.make_root();
    // The holder has a small pid inside the namespace, and another pid outside.
    let call = scene.in_pid_namespace().args(["--mount-proc", "--"]);
    let inside = call.args(["sh", "-c", "\"$HELPER\" lock --who inside a -- sh -c 'echo held; read _'"]).hold();
    let pid = scene.field("a", "pid");
    assert_ne!(scene.field("a", "ns"), fs::metadata("/proc/self/ns/pid").unwrap().ino().to_string());
    let said = scene.aba(["lock", "a", "--", "true"]).status(75).err("a is held by pid ").run();
    assert!(!said.err.contains(&format!("pid {pid} ")), "{}", said.err);

    // A namespace that does not show the holder leaves only the record.
    let look = |command: &str| scene.in_pid_namespace().args(["--mount-proc", "--", "sh", "-c"]).arg(command);
    look("\"$HELPER\" lock a -- true")
        .status(75)
        .err(format!("a was held a moment ago by pid {pid} of another pid namespace ("))
        .err("according to the record")
        .run();
    look("\"$HELPER\" status a")
        .status(125)
        .out("a: no holder can be seen from here\n")
        .out(format!("last acquired by pid {pid} of another pid namespace ("))
        .run();
    drop(inside);
}

/// Returns true if this process is in the first PID namespace, where the lock table of the kernel shows all locks.
pub(crate) fn is_in_first_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link == Path::new("pid:[4026531836]"))
}

/// Returns true if this process can see the processes of all PID namespaces and users.
fn can_see_all_processes() -> bool {
    let pids = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_str().unwrap().parse::<u32>().is_ok());
    let denied = |path: &Path| {
        fs::read_dir(path.join("fd")).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    };
    is_in_first_namespace() && !pids.into_iter().any(|entry| denied(&entry.path()))
}

#[test]
fn a_lock_last_taken_in_a_container_is_free_only_to_a_caller_that_sees_all_processes() {
    let scene = Scene::new();
    let inside = |command: &str| {
        let mut call = scene.program("unshare");
        call.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c"]);
        call.arg(command);
        call
    };
    let take = || {
        let taken = inside("mkdir -p \"$ABA_LOCK_DIR\"; \"$HELPER\" lock -w a -- true").status().unwrap();
        assert!(taken.success());
        // The number of a namespace that has ended may be reused.
        scene.set_field("a", "ns", "7");
    };
    take();
    if can_see_all_processes() {
        scene.aba(["status", "a"]).status(1).out("a: free\n").run();
        scene.aba(["clean", "--dry-run"]).out("would remove lock a\n").run();
    } else {
        // The lock table proves that the lock is free. The examination of processes, for `clean`, does not.
        let (status, said) =
            if is_in_first_namespace() { (1, "free") } else { (125, "no holder can be seen from here") };
        scene.aba(["status", "a"]).status(status).out(format!("a: {said}\n")).run();
        scene.aba(["clean", "--dry-run"]).out("would remove lock a, unless another process holds it").run();
    }
    scene.aba(["clean"]).out("removed lock a\n").run();
    // For a caller in another namespace, only the kernel knows.
    take();
    let mut other = inside("exec \"$HELPER\" status a");
    let said = other.output().unwrap();
    assert_eq!(said.status.code(), Some(125), "{said:?}");
    let holder = Holder::start(inside("\"$HELPER\" lock a -- sh -c 'echo held; read _'"));
    Call::new(inside("\"$HELPER\" clean"))
        .out("left lock a: last acquired by pid ")
        .out("that process may still hold it\n")
        .run();
    drop(holder);
    take();
    Call::new(inside("\"$HELPER\" clean")).out("removed lock a\n").run();
}

#[test]
fn with_a_foreign_proc_a_record_names_no_process_of_the_other_namespace() {
    let scene = Scene::new();
    scene.make_root();
    let mut inside = scene.program("unshare");
    inside.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--", "sh", "-c"]);
    inside.env("ABA_LOCK_LOG", scene.path("log"));
    // In a child shell, because the first shell has pid 1.
    inside.arg("sh -c 'readlink /proc/self/ns/pid; exec 9<>$1; exec 8<>$1; $HELPER lock --fd 9 a; $HELPER lock -qn --fd 8 a; $HELPER unlock --fd 9 a' sh \"$1\"; true").arg("sh");
    let said = inside.arg(scene.lock_file("a")).output().unwrap();
    let namespace = String::from_utf8(said.stdout).unwrap();
    assert_eq!(namespace, format!("pid:[{}]\n", scene.field("a", "ns")), "{}", scene.record("a"));
    assert_eq!(scene.field("a", "command"), "''", "{}", scene.record("a"));
    let log = fs::read_to_string(scene.path("log")).unwrap();
    let events: Vec<Value> = log.lines().map(parse_json).collect();
    assert!(!events.is_empty() && events.iter().all(|event| event["command"] == ""), "{log}");
}

/// A command in a user namespace and others, by these options of unshare(1).
fn unshared_call(scene: &Scene, options: &[&str], words: &[&str]) -> Command {
    let mut command = scene.program("unshare");
    command.arg("--user").args(options).arg("--").args(words);
    command
}

#[test]
fn a_holder_in_another_time_namespace_is_not_reported_as_ended() {
    let scene = Scene::new();
    let hold = [HELPER, "lock", "a", "--", "sh", "-c", "echo held; read _; exit 0"];
    for boot in ["100000", "-1"] {
        let options = ["--map-root-user", "--time", "--boottime", boot];
        let inside = Holder::start(unshared_call(&scene, &options, &hold));
        scene.aba(["status", "a"]).out("a: held, exclusive").out("`aba-lock unlock a --kill` ends it").run();
        scene.aba(["lock", "a", "--", "true"]).status(75).err("a is already running: pid ").run();
        inside.release();
        let outside = scene.holder("a");
        let ask = |words: &[&str]| Call::new(unshared_call(&scene, &options, &[&[HELPER], words].concat()));
        let said = ask(&["status", "a"]).out(format!("\n  pid {}, ", outside.pid())).run().out;
        assert!(!said.contains("ended") && !said.contains("inherited"), "{said}");
        ask(&["lock", "a", "--", "true"]).status(75).err("a is already running: pid ").run();
        outside.release();
    }
}

#[test]
fn without_proc_a_held_descriptor_is_not_reported_as_unlocked() {
    let scene = Scene::new();
    let library = LIBRARY;
    let script = "source \"$LIBRARY\"; mount -t tmpfs none /proc; aba_lock_operation a || exit
        aba_lock_held a; echo $?; aba_lock_held b; echo $?; aba_unlock_operation a; echo $?";
    let mut command = unshared_call(&scene, &["--map-root-user", "--mount"], &["bash", "-c", script]);
    command.env("LIBRARY", library).env("ABA_LOCK_BIN", HELPER);
    let said =
        Call::new(command).out("").err("cannot determine whether file descriptor ").err(": /proc/self/fdinfo: ").run();
    assert_eq!(said.out, "125\n1\n0\n", "{}", said.err);
}

#[test]
fn users_are_named_as_in_the_user_namespace_of_the_caller() {
    let scene = Scene::new();
    let ours = scene.holder("b");
    let user = scene.field("b", "user");
    ours.release();
    // In its namespace, the holder is user 5, and the record has the name of that user.
    let hold = [HELPER, "lock", "a", "--", "sh", "-c", "echo held; read _; exit 0"];
    let holder = Holder::start(unshared_call(&scene, &["--map-user=5"], &hold));
    assert_ne!(scene.field("a", "user"), user);
    scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("), by {user}, for ")).run();
    scene.aba(["status", "a"]).out(format!("\n  pid {}, {user}, ", holder.pid())).run();
    holder.release();
    // In that namespace, all unmapped users appear as 65534. They must not be named after that user.
    let plain = scene.flock_holder(scene.lock_file("a"));
    let reader = unshared_call(&scene, &["--map-user=5"], &[HELPER, "status", "--json", "a"]);
    let said = parse_json(&Call::new(reader).out("").run().out);
    assert!(said["holders"].as_array().unwrap().iter().all(|one| one["user"] != "nobody"), "{said}");
    plain.release();
}

#[test]
fn waiters_and_circles_are_found_inside_a_pid_namespace() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let text = |has: &str, wants: &str, gate: &Gate| {
        let gate = gate.path.display();
        format!(
            "source '{LIBRARY}'; aba_lock_operation {has}; read _ <'{gate}'; aba_lock_operation -w {wants}; echo got {wants}"
        )
    };
    let both = "until \"$HELPER\" status -q a && \"$HELPER\" status -q b; do :; done";
    let look = "until \"$HELPER\" status b | grep -q '1. waits: pid '; do :; done";
    let inside = format!(
        "bash -c {} & one=$!; bash -c {} & {both}; echo >{}; {look}; echo >{}; wait $!; echo the second ended $?; wait $one",
        shell_words::quote(&text("a", "b", &first)),
        shell_words::quote(&text("b", "a", &second)),
        shell_words::quote(&first.path.to_string_lossy()),
        shell_words::quote(&second.path.to_string_lossy()),
    );
    // The order of the two messages is not defined.
    let command = scene.in_pid_namespace().args(["--mount-proc", "--", "bash", "-c"]).arg(inside);
    let command = command.env("ABA_LOCK_BIN", HELPER).out("the second ended 1\n").out("got b\n");
    let said = command.err(" would be a deadlock: pid ").run();
    assert_eq!(said.out.lines().count(), 2, "{}", said.out);
}

#[test]
fn a_full_name_that_is_not_utf8_hides_no_user_in_a_long_passwd_file() {
    let scene = Scene::new();
    let mut passwd = b"root:x:0:0:M\xfcller:/home/anna:/bin/sh\n".to_vec();
    passwd.extend(b"other:x:8:8::/:/bin/sh\n".repeat(200));
    fs::write(scene.path("passwd"), passwd).unwrap();
    let script = "mount --bind \"$HOME/passwd\" /etc/passwd && exec env -u HOME -u ABA_LOCK_DIR \"$HELPER\" path a";
    scene.in_mount_namespace().args(["sh", "-c", script]).out("/home/anna/.aba/aba-a.lock\n").run();
}

#[test]
fn a_script_without_home_locks_in_the_home_directory_of_the_passwd_file() {
    let scene = Scene::new();
    fs::create_dir(scene.path("anna")).unwrap();
    fs::write(scene.path("passwd"), format!("root:x:0:0::{}:/bin/sh\n", scene.path("anna").display())).unwrap();
    let script = "unset ABA_LOCK_DIR; source \"$LIBRARY\"; aba_lock_operation a; \"$HELPER\" status -q a && echo held
        aba_unlock_operation a; \"$HELPER\" status -q a || echo free; aba_lock_operation --wait b; \"$HELPER\" status -q b";
    for home in ["unset HOME", "HOME="] {
        let start = format!("mount --bind passwd /etc/passwd && {home} && exec bash -euc \"$SCRIPT\"");
        let call = scene.in_mount_namespace().args(["bash", "-c", &start]).current_dir(scene.path(""));
        let call = call.env("SCRIPT", script).env("LIBRARY", LIBRARY).env("ABA_LOCK_BIN", HELPER);
        call.out("held\nfree\n").run();
    }
    assert!(scene.path("anna/.aba/aba-a.lock").exists());
}

#[test]
fn unlock_kill_signals_a_shell_before_the_program_for_which_it_waits_whatever_their_pids_are() {
    let scene = Scene::new();
    // The kernel gives out the pids after this number next. The other programs are between the program and the shell.
    let shell = "echo 2000 >/proc/sys/kernel/ns_last_pid; for i in {1..60}; do sleep 1000 & done
        echo 1000 >/proc/sys/kernel/ns_last_pid; bash -c 'echo held; exec sleep 1000'; echo went on";
    let script =
        "echo 30000 >/proc/sys/kernel/ns_last_pid; \"$HELPER\" lock a -- bash -c \"$SHELL_SCRIPT\" >\"$SAID\" &
        until [[ -s $SAID ]]; do sleep 0.01; done
        \"$HELPER\" unlock a --kill 2>/dev/null; wait $!; status=$?; echo \"$(<\"$SAID\"), $status\"";
    let call = scene.in_pid_namespace().args(["--mount-proc", "bash", "-c", script]);
    let call = call.env("SHELL_SCRIPT", shell).env("SAID", scene.path("said")).env("HELPER", HELPER);
    call.out("held, 143\n").run();
}
