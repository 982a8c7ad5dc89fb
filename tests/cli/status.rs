//! Who has it: what is said, and that it is no more than is known.

use crate::scene::{Call, HELPER, Holder, Scene, write_program};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_free_lock_is_free() {
    let scene = Scene::new();
    scene.aba(["status", "a"]).status(1).out("a: free\n").run();
    assert!(!scene.root().exists(), "looking makes nothing");
    scene.aba(["lock", "a", "--", "true"]).run();
    scene.aba(["status", "a"]).status(1).out("a: free\n").run();
    scene.aba(["status", "-q", "a"]).status(1).run();
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
fn a_plain_flock_that_left_no_record_is_found() {
    let scene = Scene::new();
    // The record of somebody who has let go must not be taken for the holder's.
    scene.aba(["lock", "--who", "old", "a", "--", "true"]).run();
    let holder = scene.flock(scene.lock_file("a"));
    let said = scene.aba(["status", "a"]).out("a: held, exclusive\n").run();
    assert!(said.out.contains(&format!("  pid {}, ", holder.pid())), "{}", said.out);
    assert!(!said.out.contains("old") && !said.out.contains("inherited"), "{}", said.out);
    scene.aba(["status", "--file", scene.lock_file("a").to_str().unwrap()]).out("held, exclusive\n").run();
}

#[test]
fn a_record_whose_pid_was_given_to_another_process_is_not_believed() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let bystander = scene.holder("b");
    let old = scene.record("a");
    let pid = format!("pid={}", scene.field("a", "pid"));
    fs::write(scene.lock_file("a"), old.replace(&pid, &format!("pid={}", bystander.pid()))).unwrap();
    let holder = scene.flock(scene.lock_file("a"));
    let said = scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("held by pid {}", holder.pid())).run();
    assert!(!said.err.contains(&bystander.pid().to_string()), "{}", said.err);
}

#[test]
fn a_holder_of_a_file_that_was_removed_is_still_shown() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    fs::remove_file(scene.lock_file("a")).unwrap();
    let text = format!("removed file: still locked by pid {}, ", holder.pid());
    scene.aba(["status", "a"]).status(1).out("a: free\n").out(&text).run();
    let second = scene.holder("a");
    scene.aba(["status", "a"]).out(format!("\n  pid {}, ", second.pid())).out(&text).run();
}

#[test]
fn looking_never_makes_a_try_fail() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let looking =
        scene.bash("while read -t 0 _ || [[ $? == 1 ]]; do \"$HELPER\" status -q a; [[ -e stop ]] && exit 0; done");
    let looking = looking.env("PWD", scene.path("")).start();
    for _ in 0..300 {
        scene.aba(["lock", "a", "--", "true"]).run();
    }
    crate::scene::kill(looking.pid(), 9);
    drop(looking);
}

#[test]
fn asking_opens_the_lock_file_for_reading_only_and_locks_nothing() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    let trace = scene.path("trace");
    let mut command = scene.program("strace");
    command.args(["-f", "-e", "trace=flock,openat", "-o"]).arg(&trace);
    command.args([crate::scene::HELPER, "status", "-q", "a"]);
    Call::new(command).run();
    let trace = fs::read_to_string(trace).unwrap();
    assert!(!trace.contains("flock("), "{trace}");
    for line in trace.lines().filter(|line| line.contains(".lock\"")) {
        assert!(line.contains("O_RDONLY") && !line.contains("O_CREAT"), "{line}");
    }
}

#[test]
fn a_holder_of_another_pid_namespace_is_named_as_such_and_by_no_number_of_ours() {
    let scene = Scene::new();
    scene.make_root();
    // Inside, the holder is pid 1 or so; outside it has another number, which we see.
    let mut command = scene.program("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.args(["sh", "-c", "\"$HELPER\" lock --who inside a -- sh -c 'echo held; read _'"]);
    let inside = Holder::start(command);
    let pid = scene.field("a", "pid");
    assert_ne!(scene.field("a", "ns"), fs::metadata("/proc/self/ns/pid").unwrap().ino().to_string());
    let said = scene.aba(["lock", "a", "--", "true"]).status(75).err("a is held by pid ").run();
    assert!(!said.err.contains(&format!("pid {pid} ")), "{}", said.err);

    // From a namespace that does not see the holder at all, only the record can tell.
    let look = |command: &str| {
        let mut call = scene.program("unshare");
        call.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c"]);
        call.arg(command);
        Call::new(call)
    };
    look("\"$HELPER\" lock a -- true")
        .status(75)
        .err(format!("a was held a moment ago by pid {pid} of another pid namespace ("))
        .err("as the record says")
        .run();
    look("\"$HELPER\" status a")
        .status(125)
        .out("a: held by nobody that can be seen from here\n")
        .out(format!("last taken by pid {pid} of another pid namespace ("))
        .run();
    drop(inside);
}

#[test]
fn a_record_of_another_machine_is_told_as_such() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let (boot, host) = (scene.field("a", "boot"), scene.field("a", "host"));
    let record = scene.record("a").replace(&boot, "another-boot");
    fs::write(scene.lock_file("a"), &record).unwrap();
    // The same machine, started again: nothing outlived that.
    scene.aba(["status", "a"]).status(1).out("a: free\n").run();
    fs::write(scene.lock_file("a"), record.replace(&format!("host={host}"), "host=elsewhere")).unwrap();
    scene.aba(["status", "a"]).status(125).out("on host elsewhere (").run();
}

#[test]
fn a_record_that_was_cut_short_or_is_no_record_does_no_harm() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let whole = scene.record("a");
    for text in [&whole[..40], "aba_lock_record=1\npid=x\n", "", "\u{0}\u{1}", "aba_lock_record=1\ncommand='open\n"] {
        fs::write(scene.lock_file("a"), text).unwrap();
        scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("a is held by pid {} (", holder.pid())).run();
    }
}

#[test]
fn what_cannot_be_looked_at_is_not_called_free() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    for command in ["status", "unlock"] {
        let mut call = scene.program("strace");
        call.arg("-P").arg(scene.lock_file("a"));
        call.args(["-o", "/dev/null", "-e", "inject=statx:error=EACCES", crate::scene::HELPER, command, "a"]);
        Call::new(call).status(125).err("could not look at lock file ").err("Permission denied").run();
    }
}

#[test]
fn what_others_wrote_into_a_record_does_not_steer_the_terminal() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let user = format!("user={}", scene.field("a", "user"));
    let forged = scene.record("a").replace(&user, "user='\u{1b}[31mroot\u{1b}]0;x\u{7}'");
    fs::write(scene.lock_file("a"), forged).unwrap();
    let status = scene.aba(["status", "a"]).out("held").run();
    let lock = scene.aba(["lock", "a", "--", "true"]).status(75).err("a is already running").run();
    assert!(!format!("{}{}", status.out, lock.err).contains(['\u{1b}', '\u{7}']));
    drop(holder);
}

/// A holder of a file of this name, in a directory of its own, and the answers of the helper there.
fn beside(scene: &Scene, name: &str) -> (Holder, impl Fn(&[&str]) -> Call) {
    let directory = scene.path("there");
    fs::create_dir_all(&directory).unwrap();
    let call = move |scene: &Scene, program: &str, args: &[&str]| {
        let mut command = scene.program(program);
        command.current_dir(&directory).args(args);
        command
    };
    let script = "echo held; read _; exit 0";
    let holder = Holder::start(call(
        scene,
        crate::scene::HELPER,
        &["lock", &format!("--file={name}"), "--", "sh", "-c", script],
    ));
    (holder, move |args: &[&str]| {
        Call::new(call(scene, "bash", &[&["-c", "\"$HELPER\" \"$@\"", "bash"], args].concat()))
    })
}

#[test]
fn a_file_that_is_called_as_a_lock_is_never_taken_for_that_lock() {
    let scene = Scene::new();
    for name in ["backup", "it's; a 'name", "--kill", "new\nline", "./sub", "-d/file"] {
        fs::create_dir_all(scene.path("there/-d")).unwrap();
        let file = format!("--file={name}");
        let (holder, call) = beside(&scene, name);
        let other = (name == "backup").then(|| scene.holder("backup"));
        let said = call(&["status", &file]).out(": held, exclusive").run().out;
        assert!(!said.contains("unlock") && said.contains(&format!("`kill {}`", holder.pid())), "{said}");
        let said = call(&["lock", &file, "--", "true"]).status(75).err("hint: wait for it with").run().err;
        // What is advised shows this very holder.
        let advised = said.rsplit_once("`aba-lock ").unwrap().1.split_once("`\n").unwrap().0;
        let mut command = scene.program("bash");
        command.current_dir(scene.path("there")).args(["-c", &format!("\"$HELPER\" {advised}")]);
        Call::new(command).out(format!("\n  pid {}, ", holder.pid())).run();
        let said = call(&["lock", "-t", "0.1", &file, "--", "true"]).status(124).err("hint: see it with").run().err;
        assert!(said.contains(advised), "{said}");
        drop(other);
    }
}

#[test]
fn the_path_of_a_file_does_not_steer_the_terminal() {
    let scene = Scene::new();
    let name = "a\n\u{1b}[31mred\u{7}";
    let (_holder, call) = beside(&scene, name);
    let said = call(&["status", "--file", name]).out(": held, exclusive").out("red").run().out;
    assert!(!said.contains(['\u{1b}', '\u{7}']) && said.lines().skip(1).all(|line| line.starts_with("  ")), "{said:?}");
    let said = call(&["status", "--file", name, "--fd", "0"]).status(1).out("red").run().out;
    assert!(!said.contains('\u{1b}') && said.lines().count() == 1, "{said:?}");
}

#[test]
fn what_cannot_be_printed_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    for command in
        ["status a", "status --json a", "list", "list --json", "metrics", "path a", "clean --dry-run", "--help"]
    {
        let script = format!("\"$HELPER\" {command} >/dev/full");
        let call = scene.bash(&script).status(125);
        call.err("aba-lock: could not write to standard output: No space left on device\n").run();
        // Opened while there is a reader, and written to when there is none.
        let script =
            format!("trap '' PIPE; rm -f fifo; mkfifo fifo; exec 4<>fifo 5>fifo 4>&-; \"$HELPER\" {command} >&5");
        let mut quiet = scene.program("bash");
        quiet.args(["-c", &script]).current_dir(scene.path(""));
        Call::new(quiet).run();
    }
    scene.bash("\"$HELPER\" status -q a >/dev/full").run();
    holder.let_go();
}

/// A process that holds file `f` by fcntl(2), as apt and dpkg do.
fn posix_holder(scene: &Scene, part: &str) -> Holder {
    let mut command = scene.program("python3");
    let program = format!(
        "import fcntl, sys\nf = open('f', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX{part})\nprint('held', flush=True)\nsys.stdin.readline()"
    );
    command.args(["-c", &program]).current_dir(scene.path(""));
    fs::write(scene.path("f"), "").unwrap();
    Holder::start(command)
}

#[test]
fn a_file_that_is_locked_by_fcntl_is_not_called_free() {
    let scene = Scene::new();
    let file = scene.path("f").display().to_string();
    let holder = posix_holder(&scene, "");
    let person = format!("\n  pid {}, ", holder.pid());
    let kind = format!("{file}: free for flock(2), held by fcntl(2)\n  fcntl(2) lock, exclusive:\n");
    scene.aba(["status", "--file", &file]).out(kind).out(&person).out("`aba-lock flock --fcntl` waits").run();
    scene.aba(["status", "-q", "--file", &file]).run();
    let said = scene.aba(["status", "--json", "--file", &file]).out("").run().out;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["state"], &said["fcntl"]["length"]), (&"held".into(), &0.into()), "{said}");
    assert_eq!(said["fcntl"]["holders"][0]["pid"], holder.pid(), "{said}");
    // One sentence, and the lock is taken all the same.
    let warning = format!("aba-lock: {file} is also locked by fcntl(2): pid {} (", holder.pid());
    let said = scene.aba(["lock", "--file", &file, "--", "echo", "ran"]).out("ran\n").err(warning).run().err;
    assert!(said.ends_with(", which this lock does not exclude\n") && said.lines().count() == 1, "{said}");
    scene.aba(["lock", "-q", "--file", &file, "--", "true"]).run();
    // A user who may not read it is answered by the kernel's list.
    let mut closed = scene.program("strace");
    closed.args([
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        &file,
        "-e",
        "inject=openat:error=EACCES",
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
    holder.let_go();
    scene.aba(["status", "--file", &file]).status(1).out(format!("{file}: free\n")).run();
}

#[test]
fn an_fcntl_lock_of_an_open_file_and_one_of_a_part_are_shown_next_to_the_other_kind() {
    let scene = Scene::new();
    let file = scene.path("f").display().to_string();
    let mut command = scene.program(HELPER);
    command.args(["flock", "--fcntl", &file, "sh", "-c", "echo held; read _"]);
    let range = Holder::start(command);
    let said = scene.aba(["status", "--file", &file]).out("\n  fcntl(2) lock, exclusive:\n").run().out;
    assert!(said.contains(&format!("\n  pid {}, ", range.pid())), "{said}");
    let both = scene.flock(&file);
    let said = scene.aba(["status", "--file", &file]).out(format!("{file}: held, exclusive\n")).run().out;
    let at = |pid: u32| said.find(&format!("\n  pid {pid}, ")).unwrap_or_else(|| panic!("{pid} in {said}"));
    assert!(at(both.pid()) < at(range.pid()), "{said}");
    both.let_go();
    range.let_go();
    let part = posix_holder(&scene, ", 10, 5");
    scene.aba(["status", "--file", &file]).out("\n  fcntl(2) lock, exclusive at bytes 5 to 14:\n").run();
    part.let_go();
}

#[test]
fn a_command_that_holds_the_lock_itself_sees_itself_as_the_holder() {
    let scene = Scene::new();
    for options in [&["x"][..], &["-s", "x"]] {
        let call = |args: &[&str]| scene.aba([&["lock"], options, &["--", HELPER], args].concat());
        let said = call(&["status", "x"]).out("x: held, ").run().out;
        assert!(
            said.contains("status x\n  remedy: this command holds the lock itself: it is free when this command ends"),
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
    // An asker that only inherited the lock is not shown: it has ended when the answer is read.
    let said = scene
        .bash("exec 9<>\"$(\"$HELPER\" path --create y)\"; \"$HELPER\" lock --fd 9 y; \"$HELPER\" status --json y; :");
    let json: Value = serde_json::from_str(&said.out("").run().out).unwrap();
    assert_eq!((&json["holders"][0]["pid"], json["holders"].as_array().unwrap().len()), (&json["record"]["pid"], 1));
}

#[test]
fn the_pid_file_of_a_lock_is_shown_with_its_absolute_path() {
    let scene = Scene::new();
    let pid_file = scene.path("a 'job'.pid");
    let mut command = scene.program(HELPER);
    command.args(["lock", "--pid-file", "a 'job'.pid", "a", "--", "sh", "-c", "echo held; read _"]);
    command.current_dir(scene.path(""));
    let holder = Holder::start(command);
    let shown = pid_file.display().to_string();
    scene.aba(["status", "a"]).out(format!("\n  pid file: {shown}\n")).run();
    for args in [&["status", "--json", "a"][..], &["list", "--json"]] {
        let json: Value = serde_json::from_str(&scene.aba(args).out("").run().out).unwrap();
        let lock = if json["locks"].is_array() { &json["locks"][0] } else { &json };
        assert_eq!((&lock["pid_file"], &lock["record"]["pid_file"]), (&shown.clone().into(), &shown.clone().into()));
    }
    holder.let_go();
    let json: Value = serde_json::from_str(&scene.aba(["status", "--json", "a"]).status(1).out("").run().out).unwrap();
    assert_eq!((&json["pid_file"], &json["record"]["pid_file"]), (&Value::Null, &shown.into()));
    // A path that the record cannot show without a change is not in it.
    let wild = scene.path("new\nline").display().to_string();
    scene.aba(["lock", "--pid-file", &wild, "b", "--", "true"]).run();
    let json: Value = serde_json::from_str(&scene.aba(["status", "--json", "b"]).status(1).out("").run().out).unwrap();
    assert_eq!((&json["record"]["pid_file"], &json["record"]["command"]), (&Value::Null, &"true".into()));
}

/// A keeper that answers each question with this text and this status.
fn keeper(scene: &Scene, text: &str, json: &str, status: i32) -> String {
    let path = scene.path("keeper");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--json*) cat <<'.'\n{json}\n.\n;; *) cat <<'.'\n{text}\n.\n;; esac\nexit {status}\n"
    );
    write_program(&path, &script);
    path.display().to_string()
}

#[test]
fn a_lock_whose_lease_is_held_at_the_server_is_not_called_free() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    scene.aba(["lock", "b", "--", "true"]).run();
    let ask = |args: &[&str], keeper: &str| {
        scene.aba(args).env("ABA_LOCK_KEEPER", keeper).env("ABA_LOCK_SERVER", "http://server")
    };
    let state = |call: Call| -> String {
        let json: Value = serde_json::from_str(&call.out("").run().out).unwrap();
        json["state"].as_str().unwrap().to_owned()
    };
    let held = keeper(&scene, "a: held at server\n  pid 1 on host other", r#"{"name": "a", "state": "held"}"#, 0);
    let said = ask(&["status", "a"], &held).out("a: held elsewhere, free on this machine\n").run().out;
    assert!(said.ends_with("\na: held at server\n  pid 1 on host other\n"), "{said}");
    assert_eq!(state(ask(&["status", "--json", "a"], &held)), "held-elsewhere");
    ask(&["status", "-q", "a"], &held).run();
    // Held here, too: as on the machine of the holder.
    let holder = scene.holder("a");
    ask(&["status", "a"], &held).out("a: held, exclusive, for ").run();
    assert_eq!(state(ask(&["status", "--json", "a"], &held)), "held");
    holder.let_go();
    let free = keeper(&scene, "a: free at server", r#"{"name": "a", "state": "free"}"#, 1);
    ask(&["status", "a"], &free).status(1).out("a: free\n").out("\na: free at server\n").run();
    assert_eq!(state(ask(&["status", "--json", "a"], &free).status(1)), "free");
    let broken = keeper(&scene, "", "", 125);
    let said = "a: free on this machine; whether its lease is held is unknown\n";
    ask(&["status", "a"], &broken).status(125).out(said).run();
    assert_eq!(state(ask(&["status", "--json", "a"], &broken).status(125)), "unknown");

    let states = |call: Call| -> Vec<String> {
        let json: Value = serde_json::from_str(&call.out("").run().out).unwrap();
        json["locks"].as_array().unwrap().iter().map(|lock| lock["state"].as_str().unwrap().to_owned()).collect()
    };
    let table = "LEASE  FOR  WAITING  HOST\na       1s        -  other";
    let listed = keeper(&scene, table, r#"[{"name": "a", "state": "held"}]"#, 0);
    assert_eq!(states(ask(&["list", "--json"], &listed)), ["held-elsewhere", "free"]);
    let said = ask(&["list"], &listed).out("\nLEASE ").run().out;
    assert!(said.contains("\na     leased  ") && said.contains("\nb     free  "), "{said}");
    let broken = keeper(&scene, "", "", 125);
    assert_eq!(states(ask(&["list", "--json"], &broken).status(125)), ["unknown", "unknown"]);
}
