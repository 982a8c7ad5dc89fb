//! Callers that cannot see all processes or locks: no command may claim more than is certain, nor report a lock as free.

use crate::call::{Call, Holder};
use crate::process::{kill, make_fifo, wait_until};
use crate::scene::{HELPER, Scene};
use serde_json::Value;
use std::fs;

/// The helper, with `/proc` hidden by an empty directory.
fn without_proc(scene: &Scene, args: &[&str]) -> Call {
    scene
        .in_mount_namespace()
        .args(["sh", "-c"])
        .args(["mount -t tmpfs none /proc && exec \"$HELPER\" \"$@\"", "sh"])
        .args(args)
}

/// The helper under strace, which makes these system calls on these paths fail with this error.
fn call_with_fault(scene: &Scene, (calls, error): (&str, &str), paths: &[String], args: &[&str]) -> Call {
    let mut command = scene.program("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("inject={calls}:error={error}")]);
    for path in paths {
        command.args(["-P", path]);
    }
    command.arg(HELPER).args(args);
    Call::new(command)
}

/// The helper for which the descriptors of the holder are unreadable, like those of another user.
fn call_with_closed_holder(scene: &Scene, holder: &Holder, args: &[&str]) -> Call {
    call_with_fault(scene, ("/^open(at)?$", "EACCES"), &[format!("/proc/{}/fd", holder.pid())], args)
}

pub(crate) fn parse_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn without_proc_no_lock_is_reported_as_free() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let unknown = "a: cannot determine whether it is held: /proc cannot be read\n";
    let command = without_proc(&scene, &["status", "a"]).status(125).out(unknown);
    command.out(format!("last acquired by pid {} (sh -c ", holder.pid())).run();
    let said = without_proc(&scene, &["status", "--json", "a"]).status(125).out("").run().out;
    assert_eq!(parse_json(&said)["state"], "unknown", "{said}");
    assert_eq!(
        (&parse_json(&said)["record"]["holder"], &parse_json(&said)["hidden"]),
        (&"unchecked".into(), &true.into())
    );
    without_proc(&scene, &["unlock", "a"]).status(125).err("a: cannot determine whether it is held: ").run();
    without_proc(&scene, &["unlock", "a", "--kill"]).status(75).err("refused to release a: ").err("/proc").run();
    let said = without_proc(&scene, &["list"]).out("/proc cannot be read").run().out;
    assert!(said.contains("\na     unknown "), "{said}");
    without_proc(&scene, &["list", "--held"]).out("\na     unknown ").run();
    without_proc(&scene, &["metrics"])
        .status(125)
        .err("cannot determine which locks are held: /proc cannot be read")
        .run();
    without_proc(&scene, &["clean", "--dry-run"]).out("would remove lock a, unless another process holds it").run();
    without_proc(&scene, &["clean"]).out("left lock a: ").out("0 removed, 1 left\n").run();
    without_proc(&scene, &["lock", "a", "--", "true"]).status(75).err("a is held by an unknown process: ").run();
    holder.release();
    // A missing file is certainly free.
    without_proc(&scene, &["status", "b"]).status(1).out("b: free (no lock file: ").run();
    without_proc(&scene, &["clean"]).out("removed lock a\n").run();
}

#[test]
fn without_proc_locks_a_possibly_held_lock_is_not_reported_as_free() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let paths = ["/proc/locks".to_owned(), format!("/proc/{}/fd", holder.pid())];
    let command = call_with_fault(&scene, ("/^open(at)?$", "EACCES"), &paths, &["status", "a"]).status(125);
    let command = command.out("a: cannot determine whether it is held: /proc/locks cannot be read, ");
    command.out(format!("last acquired by pid {} (sh -c ", holder.pid())).run();
    let said = call_with_fault(&scene, ("/^open(at)?$", "EACCES"), &paths, &["metrics"]).out("aba_lock_info").run().out;
    assert!(!said.contains("aba_lock_held{lock=\"a\",scope=\"directory\"}"), "it is not known: {said}");
    // A visible holder is shown nevertheless.
    call_with_fault(&scene, ("/^open(at)?$", "EACCES"), &paths[..1], &["status", "a"]).out("a: held, exclusive").run();
    holder.release();
}

#[test]
fn a_holder_hidden_by_proc_is_not_reported_as_ended() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    // Like hidepid=2: neither the holder nor pid 1 is in /proc.
    let at = |name: &str| format!("/proc/{}{name}", holder.pid());
    let paths = ["/proc/1".to_owned(), at(""), at("/fd"), at("/stat"), at("/cmdline"), at("/comm")];
    let hiding =
        |args: &[&str]| call_with_fault(&scene, ("/^open(at)?$,statx,stat,lstat,newfstatat", "ENOENT"), &paths, args);
    let said = hiding(&["status", "a"]).out(format!("\n  pid {}, ", holder.pid())).run().out;
    assert!(!said.contains("ended"), "{said}");
    let said = hiding(&["status", "--json", "a"]).out("").run().out;
    assert_eq!((&parse_json(&said)["record"]["holder"], &parse_json(&said)["hidden"]), (&"alive".into(), &true.into()));
    let call = hiding(&["lock", "a", "--", "true"]).status(75);
    let said = call.err(format!("a is already running: pid {} (", holder.pid())).run().err;
    assert!(!said.contains("ended"), "{said}");
    holder.release();
}

#[test]
fn all_commands_name_a_holder_whose_descriptors_are_unreadable() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let (pid, command) = (holder.pid(), "sh -c 'echo held; read _; exit 0'");
    let said = call_with_closed_holder(&scene, &holder, &["status", "a"]).out(format!("\n  pid {pid}, ")).run().out;
    assert!(said.contains("to examine the holder, run this command as ") && !said.contains("cannot be seen"), "{said}");
    call_with_closed_holder(&scene, &holder, &["unlock", "a", "--kill"])
        .status(75)
        .err(format!("refused to release a: cannot examine the descriptors of its holder, pid {pid} ({command}), by "))
        .run();
    let user = scene.field("a", "user");
    let said = call_with_closed_holder(&scene, &holder, &["list"]).out("LOCK").run().out;
    let row: Vec<&str> = said.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[1], row[4], row[5], row[6]), ("held", pid.to_string().as_str(), user.as_str(), "sh"), "{said}");
    holder.release();
}

/// Runs `status a` under strace, which stops it after each open of `/proc/locks`, when it has read all processes. At each
/// stop, `at_stop` is called. `call` sets the expected result. Returns the output.
fn stop_status(scene: &Scene, when: &str, call: impl Fn(Call) -> Call, mut at_stop: impl FnMut(usize)) -> String {
    let (note, log) = (scene.path("pid"), scene.path("log"));
    let _ = fs::remove_file(&log);
    let mut running = call(
        scene
            .call("strace")
            .args(["-P", "/proc/locks", "-o"])
            .arg(&log)
            .args(["-e", &format!("inject=/^open(at)?$:signal=STOP{when}")])
            .args(["sh", "-c"])
            .arg(format!("echo $$ >'{}'; exec \"$HELPER\" status a", note.display())),
    )
    .start();
    let mut stops = 0;
    loop {
        let count = || fs::read_to_string(&log).unwrap_or_default().matches("--- stopped by SIGSTOP ---").count();
        wait_until("it is stopped, or has ended", || count() > stops || running.has_ended());
        if running.has_ended() {
            return running.finish().out;
        }
        stops += 1;
        at_stop(stops);
        kill(fs::read_to_string(&note).unwrap().trim().parse().unwrap(), 18);
    }
}

#[test]
fn status_looks_again_if_the_holder_changes() {
    let scene = Scene::new();
    let (mut first, mut second) = (Some(scene.holder("a")), None);
    let held = |call: Call| call.out("a: held, exclusive");
    let said = stop_status(&scene, ":when=1", held, |_| {
        first.take().unwrap().release();
        second = Some(scene.holder("a"));
    });
    let pid = second.as_ref().unwrap().pid();
    assert!(said.contains(&format!("\n  pid {pid}, ")) && !said.contains("ended") && !said.contains(", \n"), "{said}");

    // The lock is released and not acquired again.
    let free = |call: Call| call.status(1).out("a: free\n");
    stop_status(&scene, ":when=1", free, |_| {
        second.take().unwrap().release();
    });

    // The lock is acquired after all processes have been read.
    let mut third = None;
    let said = stop_status(&scene, ":when=1", held, |_| third = Some(scene.holder("a")));
    assert!(said.contains(&format!("\n  pid {}, ", third.unwrap().pid())), "{said}");
}

#[test]
fn a_holder_that_changes_at_each_look_is_reported_as_released() {
    let scene = Scene::new();
    let mut holder = Some(scene.holder("a"));
    let held = |call: Call| call.out("a: held, exclusive");
    let said = stop_status(&scene, "", held, |stop| {
        assert!(stop < 50, "it looks forever");
        holder.take().unwrap().release();
        holder = Some(scene.holder("a"));
    });
    assert!(said.contains("\n  a moment ago, by a process that has released it since\n"), "{said}");
    assert!(!said.contains("has ended") && !said.contains("cannot be seen"), "{said}");
}

#[test]
fn lock_files_that_are_not_regular_are_never_reported_as_free() {
    let scene = Scene::new();
    scene.make_root();
    fs::create_dir(scene.lock_file("directory")).unwrap();
    std::os::unix::fs::symlink(scene.path("nowhere"), scene.lock_file("link")).unwrap();
    make_fifo(scene.lock_file("fifo"));
    for (name, kind) in [("directory", "directory"), ("link", "symbolic link"), ("fifo", "FIFO")] {
        let sentence = format!("it is a {kind}, not a regular file");
        for args in [&["status", name][..], &["status", "--json", name], &["unlock", name], &["unlock", name, "--kill"]]
        {
            scene.aba(args).status(125).err(&sentence).run();
        }
        let said = scene.aba(["list"]).out(&sentence).run().out;
        let row = said.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        assert!(row.contains(" unknown ") && row.ends_with(&sentence), "{said}");
        let said = parse_json(&scene.aba(["list", "--json"]).out("").run().out);
        let one = said["locks"].as_array().unwrap().iter().find(|lock| lock["name"] == name).unwrap();
        assert_eq!((&one["state"], one["remedy"].as_str().unwrap().contains(&sentence)), (&"unknown".into(), true));
        let metrics = scene.aba(["metrics"]).out("# HELP").run().out;
        assert!(!metrics.contains(&format!("aba_lock_held{{lock=\"{name}\",scope=\"directory\"}}")), "{metrics}");
    }
    // A directory of the user can be locked.
    let directory = scene.path("").display().to_string();
    scene.aba(["status", "--file", &directory]).status(1).out(": free\n").run();
    let holder = scene.holder_with(&["--file", &directory]);
    scene.aba(["status", "--file", &directory]).out(format!("\n  pid {}, ", holder.pid())).run();
    let fifo = scene.lock_file("fifo").display().to_string();
    scene.aba(["status", "--file", &fifo]).status(125).err("it is a FIFO, not a regular file").run();
    holder.release();
}

#[test]
fn a_refused_caller_reads_only_the_process_in_the_record() {
    // Otherwise a thousand callers on a machine with a thousand processes would read a million of them.
    let scene = Scene::new();
    let holder = scene.holder("a");
    let (status, said) = scene.trace_helper(&["-f", "-e", "trace=/^open(at)?$"], &["lock", "a", "--", "true"], ".");
    assert_eq!(status, Some(75), "{said}");
    assert!(said.contains(&format!("is already running: pid {} (", holder.pid())), "{said}");
    let trace = fs::read_to_string(scene.path("trace")).unwrap();
    let looked: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains("/fd\""))
        .filter(|line| !line.contains("\"/proc/self/fd\""))
        .collect();
    let theirs = format!("\"/proc/{}/fd\"", holder.pid());
    assert!(!looked.is_empty() && looked.iter().all(|line| line.contains(&theirs)), "{looked:?}");
}

#[test]
fn a_lock_is_not_reported_as_free_after_a_read_error() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    // All sources fail, but not for a missing permission.
    for error in ["EMFILE", "ENOMEM", "EIO"] {
        for (command, status) in [("status", 125), ("list", 0)] {
            let mut call = scene.program("strace");
            let fds = format!("/proc/{}/fd", holder.pid());
            call.args(["-f", "-qq", "-o", "/dev/null", "-P", &fds, "-P", "/proc/locks"]);
            call.args(["-e", &format!("inject=/^open(at)?$:error={error}"), HELPER, command]);
            if command == "status" {
                call.arg("a");
            }
            let out =
                Call::new(call).status(status).out(if status == 0 { "unknown" } else { "cannot determine" }).run().out;
            assert!(!out.contains("free"), "{out}");
        }
        let helper = scene.strace(["-P"]).arg(scene.root());
        let helper =
            helper.args(["-e", &format!("inject=/^open(at)?$:error={error}:when=1"), HELPER, "list"]).status(125);
        helper.err(format!("cannot open {}", scene.root().display())).run();
    }
    holder.release();
}

/// Starts so many processes that the helper reads them by several threads.
fn start_many_processes(scene: &Scene) -> Holder {
    let program = "import os, sys
ours, theirs = os.pipe()
for _ in range(520):
    if os.fork() == 0:
        os.close(theirs)
        os.read(ours, 1)
        os._exit(0)
print('held', flush=True)
sys.stdin.readline()";
    scene.call("python3").args(["-c", program]).hold()
}

#[test]
fn every_command_works_if_no_thread_can_be_created() {
    let scene = Scene::new();
    let others = start_many_processes(&scene);
    // Without a record, the helper must search for the holder.
    scene.make_root();
    let holder = scene.flock_holder(scene.lock_file("a"));
    let (pid, held_by) = (holder.pid(), format!(" held by pid {} (flock ", holder.pid()));
    let threadless = |args: &[&str]| call_with_fault(&scene, ("clone,clone3", "EAGAIN"), &[], args);
    threadless(&["status", "a"]).out(format!("\n  pid {pid}, ")).run();
    threadless(&["list"]).out(format!(" {pid} ")).run();
    threadless(&["metrics"]).out("aba_lock_held{lock=\"a\",scope=\"directory\"} 1").run();
    threadless(&["lock", "a", "--", "true"]).status(75).err(&held_by).run();
    threadless(&["unlock", "a"]).status(75).err(&held_by).run();
    let waiter = threadless(&["lock", "-w", "a", "--", "echo", "mine"]).out("mine\n").err("waiting for a").start();
    waiter.wait_for_error("waiting for a");
    scene.wait_for_waiter("a");
    threadless(&["unlock", "a", "--kill"]).out("").err(format!("pid {pid}")).run();
    waiter.finish();
    // Without a second thread, the waiter looks for deadlocks between two attempts. (A shell forks by clone.)
    let inner = "\"$HELPER\" lock -w a -- true; exit $?";
    let outer = call_with_fault(&scene, ("clone3", "EAGAIN"), &[], &["lock", "-o", "a", "--", "sh", "-c", inner]);
    outer.status(75).err("waiting for a would be a deadlock: ").run();
    others.release();
}

#[test]
fn a_holder_whose_main_thread_has_ended_is_found_and_can_be_killed() {
    let scene = Scene::new();
    scene.make_root();
    let program = "import ctypes, fcntl, sys, threading
file = open(sys.argv[1], 'a')
fcntl.flock(file, fcntl.LOCK_EX)
def work():
    print('held', flush=True)
    sys.stdin.readline()
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)";
    let mut holder = scene.call("python3").args(["-c", program]).arg(scene.lock_file("a")).hold();
    let pid = holder.pid();
    wait_until("the first thread has ended", || {
        fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
    });
    let said = scene.aba(["status", "a"]).out(format!("\n  pid {pid}, ")).run().out;
    assert!(said.contains("ctypes"), "its command: {said}");
    scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("a is held by pid {pid} (")).run();
    scene.aba(["unlock", "a", "--kill"]).err(format!("ended pid {pid} (")).run();
    holder.wait();
}

#[test]
fn a_state_root_with_a_non_utf8_name_works() {
    use std::os::unix::ffi::OsStrExt;
    let scene = Scene::new();
    let root = scene.path("").join(std::ffi::OsStr::from_bytes(b"\xff\xfe root"));
    let call = |args: &[&str]| scene.aba(args).env("ABA_LOCK_DIR", &root);
    let holder =
        scene.aba(["lock", "a", "--", "sh", "-c", "echo held; read _; exit 0"]).env("ABA_LOCK_DIR", &root).hold();
    let person = format!("\n  pid {}, ", holder.pid());
    call(&["status", "a"]).out("a: held, exclusive").out(&person).run();
    call(&["lock", "a", "--", "true"]).status(75).err(format!("a is already running: pid {} ", holder.pid())).run();
    let file = root.join("aba-a.lock");
    fs::rename(&file, root.join("kept")).unwrap();
    fs::remove_file(root.join("kept")).unwrap();
    call(&["status", "a"]).status(1).out("a: free (no lock file: ").run();
    holder.release();
    let holder =
        scene.aba(["lock", "a", "--", "sh", "-c", "echo held; read _; exit 0"]).env("ABA_LOCK_DIR", &root).hold();
    fs::remove_file(&file).unwrap();
    let removed = format!("  removed file: still locked by pid {}, ", holder.pid());
    call(&["status", "a"]).status(1).out(removed).run();
    call(&["list"]).out("a ").run();
    holder.release();
    let mut holder =
        scene.aba(["lock", "a", "--", "sh", "-c", "echo held; read _; exit 0"]).env("ABA_LOCK_DIR", &root).hold();
    call(&["unlock", "a", "--kill"]).err(format!("ended pid {}", holder.pid())).run();
    holder.wait();
}
