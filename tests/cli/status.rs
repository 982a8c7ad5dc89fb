//! `status`: the state of a lock, its holder and its file, and no claim that is not certain.

use crate::call::{Call, Holder};
use crate::process::{kill, write_program};
use crate::scene::{HELPER, Scene};
use serde_json::Value;
use std::fs;

#[test]
fn a_free_lock_is_reported_as_free() {
    let scene = Scene::new();
    let missing = scene.aba(["status", "a"]).status(1).out("a: free (no lock file: never used, or removed)\n").run();
    assert!(missing.out.ends_with(&format!("\n  file: {}\n", scene.lock_file("a").display())), "{}", missing.out);
    let file = scene.path("none").display().to_string();
    scene.aba(["status", "--file", &file]).status(1).out(format!("{file}: free (no such file)\n")).run();
    scene.aba(["status", "-q", "a"]).status(1).run();
    scene.aba(["status", "--json", "a"]).status(1).out("\"state\": \"free\"").run();
    assert!(!scene.root().exists(), "looking makes nothing");
    scene.aba(["lock", "a", "--", "true"]).run();
    let said = scene.aba(["status", "a"]).status(1).out("a: free\n  last acquired by pid ").run().out;
    assert!(said.contains(" (true), by ") && said.contains("s ago, according to the record\n"), "{said}");
    scene.aba(["status", "-q", "a"]).status(1).run();
}

#[test]
fn status_without_a_name_lists_all_locks_and_tasks() {
    let scene = Scene::new();
    let _holder = scene.holder("held-lock");
    scene.aba(["lock", "free-lock", "--", "true"]).run();
    scene.once(["-w", "-i", "some-task", "--", "true"]).run();
    let said = scene.aba(["status"]).out("held-lock").run().out;
    assert!(said.contains("free-lock") && said.contains("some-task"), "{said}");
    let all = scene.aba(["status", "--json"]).json();
    assert_eq!((all["locks"].as_array().unwrap().len(), all["tasks"].as_array().unwrap().len()), (2, 1), "{all}");
    // A script that checks one lock must not take a list for its answer.
    for words in [&["status", "-q"][..], &["status", "--fd", "0"], &["status", ""], &["status", "a", "--file", "b"]] {
        scene.aba(words).status(2).err("").run();
    }
}

#[test]
fn the_name_of_a_task_is_recognized() {
    let scene = Scene::new();
    scene.once(["-w", "-i", "a", "--", "true"]).run();
    let hint = "\n  hint: a task has this name: show it with `aba-lock run-once --list -i a`\n";
    scene.aba(["status", "a"]).status(1).out(hint).run();
    let end = "hint: a task has this name: end it with `aba-lock run-once --reset -i a`\n";
    scene.aba(["unlock", "a", "--kill"]).err(format!("aba-lock: a is free: no process to kill\n{end}")).run();
    scene.aba(["status", "-q", "a"]).status(1).run();
    scene.aba(["run-once", "--list", "-i", "a"]).out("a").run();
    scene.aba(["lock", "a", "--", "true"]).run();
    let said = scene.aba(["status", "a"]).status(1).out("a: free\n").run().out;
    assert!(!said.contains("task"), "{said}");
}

#[test]
fn a_held_lock_is_shown_with_its_holder_and_file() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--who", "night\x1b[2Jly", "a"]);
    let said = scene.aba(["status", "a"]).out("a: held, exclusive, for ").run();
    assert!(said.out.contains(&format!("\n  pid {}, ", holder.pid())), "{}", said.out);
    assert!(said.out.contains(", sh -c 'echo held; read _; exit 0'\n"), "{}", said.out);
    assert!(said.out.contains("\n  who: night [2Jly\n"), "what others wrote cannot steer the terminal: {}", said.out);
    assert!(said.out.contains(&format!("\n  file: {}\n", scene.lock_file("a").display())));
    scene.aba(["status", "-q", "a"]).run();
}

#[test]
fn a_holder_without_a_record_is_found() {
    let scene = Scene::new();
    // An old record must not be mistaken for that of the holder.
    scene.aba(["lock", "--who", "earlier", "a", "--", "true"]).run();
    let holder = scene.flock_holder(scene.lock_file("a"));
    let said = scene.aba(["status", "a"]).out("a: held, exclusive\n").run();
    assert!(said.out.contains(&format!("  pid {}, ", holder.pid())), "{}", said.out);
    assert!(!said.out.contains("earlier") && !said.out.contains("inherited"), "{}", said.out);
    scene.aba(["status", "--file", scene.lock_file("a").to_str().unwrap()]).out("held, exclusive\n").run();
}

#[test]
fn a_record_with_a_reused_pid_is_not_trusted() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let bystander = scene.holder("b");
    scene.set_field("a", "pid", &bystander.pid().to_string());
    let holder = scene.flock_holder(scene.lock_file("a"));
    let said = scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("held by pid {}", holder.pid())).run();
    assert!(!said.err.contains(&format!("pid {} ", bystander.pid())), "{}", said.err);
}

#[test]
fn a_holder_of_a_removed_lock_file_is_shown() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    fs::remove_file(scene.lock_file("a")).unwrap();
    let text = format!("removed file: still locked by pid {}, ", holder.pid());
    scene.aba(["status", "a"]).status(1).out("a: free\n").out(&text).run();
    let second = scene.holder("a");
    scene.aba(["status", "a"]).out(format!("\n  pid {}, ", second.pid())).out(&text).run();
}

#[test]
fn status_never_makes_another_caller_fail() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let looking =
        scene.bash("while read -t 0 _ || [[ $? == 1 ]]; do \"$HELPER\" status -q a; [[ -e stop ]] && exit 0; done");
    let looking = looking.env("PWD", scene.path("")).start();
    for _ in 0..300 {
        scene.aba(["lock", "a", "--", "true"]).run();
    }
    kill(looking.pid(), 9);
    drop(looking);
}

#[test]
fn status_opens_the_lock_file_read_only_and_does_not_lock_it() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    let trace = scene.path("trace");
    let command = scene.call("strace").args(["-f", "-e", "trace=flock,/^open(at)?$", "-o"]).arg(&trace);
    command.args([HELPER, "status", "-q", "a"]).run();
    let trace = fs::read_to_string(trace).unwrap();
    assert!(!trace.contains("flock("), "{trace}");
    for line in trace.lines().filter(|line| line.contains(".lock\"")) {
        assert!(line.contains("O_RDONLY") && !line.contains("O_CREAT"), "{line}");
    }
}

#[test]
fn a_record_of_another_machine_is_reported_with_its_host() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    scene.set_field("a", "boot", "another-boot");
    // An earlier boot of this machine: no process outlived it.
    scene.aba(["status", "a"]).status(1).out("a: free\n").run();
    scene.set_field("a", "host", "elsewhere");
    scene.aba(["status", "a"]).status(125).out("on host elsewhere (").run();
}

#[test]
fn a_truncated_or_foreign_record_is_ignored() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let whole = scene.record("a");
    for text in [&whole[..40], "aba_lock_record=1\npid=x\n", "", "\u{0}\u{1}", "aba_lock_record=1\ncommand='open\n"] {
        fs::write(scene.lock_file("a"), text).unwrap();
        scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("a is held by pid {} (", holder.pid())).run();
    }
}

#[test]
fn an_inaccessible_lock_file_is_not_reported_as_free() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    for command in ["status", "unlock"] {
        let call = scene.call("strace").arg("-P").arg(scene.lock_file("a"));
        let call = call
            .args(["-o", "/dev/null", "-e", "inject=/^(statx|l?stat)$:error=EACCES", HELPER, command, "a"])
            .status(125);
        call.err("cannot examine lock file ").err("Permission denied\nhint: ").err("`namei -l /").run();
    }
}

#[test]
fn control_characters_in_a_record_are_escaped() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    scene.set_field("a", "user", "'\u{1b}[31mroot\u{1b}]0;x\u{7}'");
    let status = scene.aba(["status", "a"]).out("held").run();
    let lock = scene.aba(["lock", "a", "--", "true"]).status(75).err("a is already running").run();
    assert!(!format!("{}{}", status.out, lock.err).contains(['\u{1b}', '\u{7}']));
    drop(holder);
}

/// Starts a holder of a file of this name in a directory. Returns it and a function that calls the helper there.
fn start_file_holder(scene: &Scene, name: &str) -> (Holder, impl Fn(&[&str]) -> Call) {
    let directory = scene.path("there");
    fs::create_dir_all(&directory).unwrap();
    let call = move |scene: &Scene, program: &str, args: &[&str]| {
        let mut command = scene.program(program);
        command.current_dir(&directory).args(args);
        command
    };
    let script = "echo held; read _; exit 0";
    let holder = Holder::start(call(scene, HELPER, &["lock", &format!("--file={name}"), "--", "sh", "-c", script]));
    (holder, move |args: &[&str]| {
        Call::new(call(scene, "bash", &[&["-c", "\"$HELPER\" \"$@\"", "bash"], args].concat()))
    })
}

#[test]
fn a_file_named_like_a_lock_is_not_confused_with_the_lock() {
    let scene = Scene::new();
    for name in ["backup", "it's; a 'name", "--kill", "new\nline", "./sub", "-d/file"] {
        fs::create_dir_all(scene.path("there/-d")).unwrap();
        let file = format!("--file={name}");
        let (holder, call) = start_file_holder(&scene, name);
        let other = (name == "backup").then(|| scene.holder("backup"));
        let said = call(&["status", &file]).out(": held, exclusive").run().out;
        assert!(!said.contains("unlock") && said.contains(&format!("`kill {}`", holder.pid())), "{said}");
        let said = call(&["lock", &file, "--", "true"]).status(75).err("hint: wait for it with").run().err;
        // The advised command shows this holder.
        let advised = said.rsplit_once("`aba-lock ").unwrap().1.split_once("`\n").unwrap().0;
        let command = scene.call("bash").current_dir(scene.path("there"));
        command.args(["-c", &format!("\"$HELPER\" {advised}")]).out(format!("\n  pid {}, ", holder.pid())).run();
        let said =
            call(&["lock", "-t", "0.1", &file, "--", "true"]).status(124).err("hint: show its holder with").run().err;
        assert!(said.contains(advised), "{said}");
        drop(other);
    }
}

#[test]
fn control_characters_in_a_path_are_escaped() {
    let scene = Scene::new();
    let name = "a\n\u{1b}[31mred\u{7}";
    let (_holder, call) = start_file_holder(&scene, name);
    let said = call(&["status", "--file", name]).out(": held, exclusive").out("red").run().out;
    assert!(!said.contains(['\u{1b}', '\u{7}']) && said.lines().skip(1).all(|line| line.starts_with("  ")), "{said:?}");
    let said = call(&["status", "--file", name, "--fd", "0"]).status(1).out("red").run().out;
    assert!(!said.contains('\u{1b}') && said.lines().count() == 1, "{said:?}");
}

#[test]
fn a_failed_write_to_stdout_is_an_error_but_a_closed_pipe_is_not() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    for command in
        ["status a", "status --json a", "list", "list --json", "metrics", "path a", "clean --dry-run", "--help"]
    {
        let script = format!("\"$HELPER\" {command} >/dev/full");
        let call = scene.bash(&script).status(125);
        call.err("aba-lock: cannot write to standard output: No space left on device\n").run();
        // A FIFO that is opened while it has a reader, and written to after the reader has gone.
        let script =
            format!("trap '' PIPE; rm -f fifo; mkfifo fifo; exec 4<>fifo 5>fifo 4>&-; \"$HELPER\" {command} >&5");
        scene.bash_here(&script).run();
    }
    scene.bash("\"$HELPER\" status -q a >/dev/full").run();
    holder.release();
}

/// A process that holds file `f` by fcntl(2), as apt and dpkg do.
fn start_posix_holder(scene: &Scene, part: &str) -> Holder {
    let program = format!(
        "import fcntl, sys\nf = open('f', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX{part})\nprint('held', flush=True)\nsys.stdin.readline()"
    );
    fs::write(scene.path("f"), "").unwrap();
    scene.call("python3").args(["-c", &program]).current_dir(scene.path("")).hold()
}

#[test]
fn a_file_locked_by_fcntl_is_not_reported_as_free() {
    let scene = Scene::new();
    let file = scene.path("f").display().to_string();
    let holder = start_posix_holder(&scene, "");
    let person = format!("\n  pid {}, ", holder.pid());
    let kind = format!("{file}: free for flock(2), held by fcntl(2)\n  fcntl(2) lock, exclusive:\n");
    scene.aba(["status", "--file", &file]).out(kind).out(&person).out("`aba-lock lock --fcntl` does not").run();
    scene.aba(["status", "-q", "--file", &file]).run();
    let said = scene.aba(["status", "--json", "--file", &file]).out("").run().out;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["state"], &said["fcntl"]["length"]), (&"held".into(), &0.into()), "{said}");
    assert_eq!(said["fcntl"]["holders"][0]["pid"], holder.pid(), "{said}");
    // A message, and the lock is acquired nevertheless.
    let warning = format!("aba-lock: {file} is also locked by fcntl(2): pid {} (", holder.pid());
    let said = scene.aba(["lock", "--file", &file, "--", "echo", "ran"]).out("ran\n").err(warning).run().err;
    assert!(said.ends_with("; this lock does not exclude that one\nhint: to exclude it, use --fcntl\n"), "{said}");
    scene.aba(["lock", "-q", "--file", &file, "--", "true"]).run();
    // For a user who may not read the file, the list of the kernel is used.
    let mut closed = scene.program("strace");
    closed.args([
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        &file,
        "-e",
        "inject=/^open(at)?$:error=EACCES",
        HELPER,
        "status",
        "--file",
    ]);
    Call::new({
        closed.arg(&file);
        closed
    })
    .out("held by fcntl(2)\n")
    .out(&person)
    .run();
    holder.release();
    scene.aba(["status", "--file", &file]).status(1).out(format!("{file}: free\n")).run();
}

#[test]
fn fcntl_locks_of_ranges_and_open_files_are_shown_after_flock_locks() {
    let scene = Scene::new();
    let file = scene.path("f").display().to_string();
    let range = scene.aba(["flock", "--fcntl", &file, "sh", "-c", "echo held; read _"]).hold();
    let said = scene.aba(["status", "--file", &file]).out("\n  fcntl(2) lock, exclusive:\n").run().out;
    assert!(said.contains(&format!("\n  pid {}, ", range.pid())), "{said}");
    let both = scene.flock_holder(&file);
    let said = scene.aba(["status", "--file", &file]).out(format!("{file}: held, exclusive\n")).run().out;
    let at = |pid: u32| said.find(&format!("\n  pid {pid}, ")).unwrap_or_else(|| panic!("{pid} in {said}"));
    assert!(at(both.pid()) < at(range.pid()), "{said}");
    both.release();
    range.release();
    let part = start_posix_holder(&scene, ", 10, 5");
    scene.aba(["status", "--file", &file]).out("\n  fcntl(2) lock, exclusive at bytes 5 to 14:\n").run();
    part.release();
}

#[test]
fn a_command_that_holds_the_lock_sees_itself_as_the_holder() {
    let scene = Scene::new();
    for options in [&["x"][..], &["-s", "x"]] {
        let call = |args: &[&str]| scene.aba([&["lock"], options, &["--", HELPER], args].concat());
        let said = call(&["status", "x"]).out("x: held, ").run().out;
        assert!(
            said.contains("status x\n  hint: this command holds the lock itself: it is free when this command ends"),
            "{said}"
        );
        let said = call(&["status", "--json", "x"]).out("").run().out;
        let json: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(
            (&json["holders"][0]["pid"], json["holders"].as_array().unwrap().len()),
            (&json["record"]["pid"], 1)
        );
        assert!(!said.contains("ask root"), "{said}");
        call(&["list"]).out(format!("{HELPER} list")).run();
        call(&["list", "--json"]).out("\"holders\": [\n        {").run();
    }
    // A calling helper that only inherited the lock is not shown: it has ended when its output is read.
    let said = scene
        .bash("exec 9<>\"$(\"$HELPER\" path --create y)\"; \"$HELPER\" lock --fd 9 y; \"$HELPER\" status --json y; :");
    let json: Value = said.json();
    assert_eq!((&json["holders"][0]["pid"], json["holders"].as_array().unwrap().len()), (&json["record"]["pid"], 1));
}

#[test]
fn the_pid_file_of_a_lock_is_shown_with_its_absolute_path() {
    let scene = Scene::new();
    let pid_file = scene.path("a 'job'.pid");
    let command = scene.aba(["lock", "--pid-file", "a 'job'.pid", "a", "--", "sh", "-c", "echo held; read _"]);
    let holder = command.current_dir(scene.path("")).hold();
    let shown = pid_file.display().to_string();
    scene.aba(["status", "a"]).out(format!("\n  pid file: {shown}\n")).run();
    for args in [&["status", "--json", "a"][..], &["list", "--json"]] {
        let json: Value = scene.aba(args).json();
        let lock = if json["locks"].is_array() { &json["locks"][0] } else { &json };
        assert_eq!((&lock["pid_file"], &lock["record"]["pid_file"]), (&shown.clone().into(), &shown.clone().into()));
    }
    holder.release();
    let json: Value = scene.aba(["status", "--json", "a"]).status(1).json();
    assert_eq!((&json["pid_file"], &json["record"]["pid_file"]), (&Value::Null, &shown.into()));
    // A path with control characters is not recorded.
    let wild = scene.path("new\nline").display().to_string();
    scene.aba(["lock", "--pid-file", &wild, "b", "--", "true"]).run();
    let json: Value = scene.aba(["status", "--json", "b"]).status(1).json();
    assert_eq!((&json["record"]["pid_file"], &json["record"]["command"]), (&Value::Null, &"true".into()));
}

/// Makes a keeper that always prints this text or JSON, and exits with this status.
fn write_keeper(scene: &Scene, text: &str, json: &str, status: i32) -> String {
    let path = scene.path("keeper");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--json*) cat <<'.'\n{json}\n.\n;; *) cat <<'.'\n{text}\n.\n;; esac\nexit {status}\n"
    );
    write_program(&path, &script);
    path.display().to_string()
}

#[test]
fn a_lock_whose_lease_is_held_is_not_reported_as_free() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    scene.aba(["lock", "b", "--", "true"]).run();
    let ask = |args: &[&str], keeper: &str| {
        scene.aba(args).env("ABA_LOCK_KEEPER", keeper).env("ABA_LOCK_SERVER", "http://server")
    };
    let state = |call: Call| -> String {
        let json: Value = call.json();
        json["state"].as_str().unwrap().to_owned()
    };
    let held = write_keeper(&scene, "a: held at server\n  pid 1 on host other", r#"{"name": "a", "state": "held"}"#, 0);
    let said = ask(&["status", "a"], &held).out("a: held elsewhere, free on this machine\n").run().out;
    assert!(said.ends_with("\na: held at server\n  pid 1 on host other\n"), "{said}");
    assert_eq!(state(ask(&["status", "--json", "a"], &held)), "held-elsewhere");
    ask(&["status", "-q", "a"], &held).run();
    // On the machine of the holder, the local lock is held, too.
    let holder = scene.holder("a");
    ask(&["status", "a"], &held).out("a: held, exclusive, for ").run();
    assert_eq!(state(ask(&["status", "--json", "a"], &held)), "held");
    holder.release();
    let free = write_keeper(&scene, "a: free at server", r#"{"name": "a", "state": "free"}"#, 1);
    ask(&["status", "a"], &free).status(1).out("a: free\n").out("\na: free at server\n").run();
    assert_eq!(state(ask(&["status", "--json", "a"], &free).status(1)), "free");
    let broken = write_keeper(&scene, "", "", 125);
    let said = "a: free on this machine; it is unknown whether its lease is held\n";
    ask(&["status", "a"], &broken).status(125).out(said).run();
    assert_eq!(state(ask(&["status", "--json", "a"], &broken).status(125)), "unknown");

    let states = |call: Call| -> Vec<String> {
        let json: Value = call.json();
        json["locks"].as_array().unwrap().iter().map(|lock| lock["state"].as_str().unwrap().to_owned()).collect()
    };
    let table = "LEASE  FOR  WAITING  HOST\na       1s        -  other";
    let listed = write_keeper(&scene, table, r#"[{"name": "a", "state": "held"}]"#, 0);
    assert_eq!(states(ask(&["list", "--json"], &listed)), ["held-elsewhere", "free"]);
    let said = ask(&["list"], &listed).out("\nLEASE ").run().out;
    assert!(said.contains("\na     leased  ") && said.contains("\nb     free  "), "{said}");
    let broken = write_keeper(&scene, "", "", 125);
    assert_eq!(states(ask(&["list", "--json"], &broken).status(125)), ["unknown", "unknown"]);
}

#[test]
fn a_helper_under_another_name_is_recognized_as_the_waiter_of_its_script() {
    let scene = Scene::new();
    let link = scene.path("mutex");
    std::os::unix::fs::symlink(HELPER, &link).unwrap();
    let holder = scene.holder("a");
    let script = "exec 9<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$MUTEX\" lock -qw --fd 9 a; exit";
    let waiter = scene.bash(script).env("MUTEX", &link).start();
    scene.wait_for_waiter("a");
    let waiters = scene.aba(["status", "--json", "a"]).json()["waiters"].clone();
    assert_eq!(waiters[0]["script"]["pid"], waiter.pid());
    holder.release();
    waiter.finish();
}
