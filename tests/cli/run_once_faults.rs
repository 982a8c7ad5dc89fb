//! The faults that the contract names: those that were mended in the function that `run-once` takes the place of, and
//! those that were still there.

use crate::call::Holder;
use crate::process::{count_waiters, is_alive, is_locked, is_watching, kill, wait_until};
use crate::scene::{HELPER, Scene, with_command};
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, SystemTime};

/// A process that has nothing to do with it, and is ended with the test.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        // It leads a session, as the command of a task does.
        Self(Command::new("setsid").args(["sleep", "600"]).spawn().unwrap())
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn make_newer(path: &Path, by: Duration) {
    fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() + by).unwrap();
}

fn make_older(path: &Path, by: Duration) {
    fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

// ---- mended upstream -----------------------------------------------------------------------------------------------

#[test]
fn a_waiter_gets_the_status_even_if_the_task_directory_was_removed() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(4))).run();
    let waiter = scene.once(["-qwi", "a"]).status(4).start();
    scene.wait_for_task_waiters("a", 1);
    fs::remove_dir_all(scene.task_file("a", "")).unwrap();
    gate.open();
    waiter.finish();
    assert!(!scene.task_file("a", "").exists());
}

#[test]
fn an_outcome_stays_valid_during_its_validation() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    gate.open();
    scene.once(with_command(&["-qwi", "a"], &gate.task(0))).out("begun").run();
    let validation = scene.once(["-qwi", "a", "--validate"]).start();
    wait_until("it is being validated", || scene.task_file("a", "pid").exists());
    for _ in 0..50 {
        assert_eq!(scene.once(["-E", "-i", "a"]).out("0").run().out, "0\n");
        scene.once(["-p", "-i", "a"]).run();
    }
    scene.once(["-R", "-i", "a"]).run();
    gate.open();
    validation.finish();
    assert!(scene.task_text("a", "history").contains("VALIDATE rc=0"));
}

#[test]
fn the_lock_is_held_from_the_probe_to_the_end_of_a_validation() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    gate.open();
    scene.once(with_command(&["-qwi", "a"], &gate.task(0))).out("begun").run();
    let validation = scene.once(["-qwi", "a", "--validate"]).start();
    wait_until("it is being validated", || scene.task_file("a", "pid").exists());
    assert!(is_locked(&scene.task_file("a", "lock")));
    // Neither a start nor a reset of the failed gets between, and who waits, waits.
    scene.once(with_command(&["-i", "a"], &gate.task(9))).run();
    scene.once(["-F"]).run();
    let mut waiter = scene.once(["-qwi", "a"]).start();
    // What is found now will be fresh: to validate that again would be for nothing.
    let validator = scene.once(["-qwi", "a", "--validate"]).start();
    scene.wait_for_task_waiters("a", 2);
    assert!(!waiter.has_ended());
    gate.open();
    validation.finish();
    waiter.finish();
    validator.finish();
    assert_eq!(scene.task_text("a", "history").lines().count(), 3);
}

#[test]
fn concurrent_waits_validate_a_running_task_once() {
    for validators in [1, 4] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let counted = scene.path("counted");
        let script = format!("echo x >>'{}'; echo begun; read _ <'{}'", counted.display(), gate.path.display());
        scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
        wait_until("it runs", || scene.task_text("a", "log.out") == "begun\n");
        let calls: Vec<_> = (0..validators).map(|_| scene.once(["-qwi", "a", "--validate"]).start()).collect();
        let plain = scene.once(["-qwi", "a"]).start();
        scene.wait_for_task_waiters("a", validators + 1);
        // More often than needed.
        for _ in 0..=validators {
            gate.open();
        }
        for call in calls {
            call.finish();
        }
        plain.finish();
        assert_eq!(fs::read_to_string(&counted).unwrap(), "x\nx\n", "{validators} waits with --validate");
    }
}

#[test]
fn followers_that_purge_get_the_status_of_the_run_that_they_followed() {
    for status in [0, 3] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let counted = scene.path("counted");
        let script =
            format!("echo x >>'{}'; echo begun; read _ <'{}'; exit {status}", counted.display(), gate.path.display());
        let call = || scene.once(["-qwci", "a", "--follow", "--", "bash", "-c", &script]).status(status).out("begun\n");
        let calls: Vec<_> = (0..5).map(|_| call().start()).collect();
        wait_until("all follow", || calls.iter().all(|call| is_watching(call.pid())));
        for _ in &calls {
            gate.open();
        }
        for call in calls {
            call.finish();
        }
        assert_eq!(fs::read_to_string(&counted).unwrap(), "x\n");
        assert!(!scene.task_file("a", "").exists());
    }
}

#[test]
fn a_failed_validation_replaces_the_outcome() {
    let scene = Scene::new();
    let made = scene.path("made");
    let script = format!("test -e '{}'", made.display());
    fs::write(&made, "").unwrap();
    scene.once(["-qwi", "a", "--", "sh", "-c", &script]).run();
    scene.once(["-qwi", "a", "--validate"]).run();
    fs::remove_file(&made).unwrap();
    scene.once(["-qwi", "a"]).run();
    scene.once(["-qwi", "a", "--validate", "-S"]).run();
    scene.once(["-qwi", "a", "--validate"]).status(1).run();
    scene.once(["-qwi", "a"]).status(1).run();
    // A failure is not validated, and a run of this very call neither.
    let counted = scene.path("counted");
    let script = format!("echo x >>'{}'", counted.display());
    scene.once(["-qwi", "b", "--validate", "--", "sh", "-c", &script]).run();
    assert_eq!(fs::read_to_string(&counted).unwrap(), "x\n");
    scene.once(["-qwi", "b", "--validate"]).run();
    assert_eq!(fs::read_to_string(&counted).unwrap(), "x\nx\n");
}

#[test]
fn a_started_task_does_not_keep_a_pipe_of_the_caller_open() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = format!("read _ <'{}'", gate.path.display());
    // Were the pipe held, this would end at the ceiling of the test.
    let script = "\"$HELPER\" run-once -i a -- bash -c \"$1\" 2>&1 | cat; x=$(\"$HELPER\" run-once -i b -- bash -c \"$1\" 2>&1); echo \"done$x\"";
    scene.call("timeout").args(["60", "bash", "-c", script, "bash", &task]).out("done").run();
    scene.once(["-R", "-i", "a"]).run();
    scene.once(["-R", "-i", "b"]).run();
}

#[test]
fn a_task_has_only_the_standard_descriptors() {
    let scene = Scene::new();
    // The caller's lock on 200, a low number, and what a redirection left open.
    let script =
        "exec 9>nine 200>two-hundred 57<nine; \"$HELPER\" run-once -qwi a -- ls -l /proc/self/fd; echo nine >&9";
    let said = scene.bash_here(script).out("log.out").run().out;
    let links: Vec<&str> = said.lines().filter_map(|line| line.split(" -> ").nth(1)).collect();
    // The last is that of ls itself, on the directory.
    assert_eq!(links.len(), 4, "{said}");
    assert_eq!(links[0], "/dev/null");
    assert!(links[1].ends_with("/log.out") && links[2].ends_with("/log.err"), "{said}");
    assert_eq!(fs::read_to_string(scene.path("nine")).unwrap(), "nine\n");
}

#[test]
fn the_saved_command_runs_in_its_saved_directory() {
    let scene = Scene::new();
    for name in ["one", "two"] {
        fs::create_dir(scene.path(name)).unwrap();
    }
    let call = |directory: &str, args: &[&str]| {
        scene.call(HELPER).arg("run-once").args(args).current_dir(scene.path(directory))
    };
    let one = format!("{}\n", scene.path("one").display());
    call("one", &["-qwi", "a", "--", "pwd"]).out(&one).run();
    // A call that runs nothing saves nothing.
    call("two", &["-i", "a", "--", "pwd", "-P"]).run();
    fs::write(scene.task_file("a", "exit"), "143\n").unwrap();
    assert_eq!(call("two", &["-qwi", "a"]).out(&one).run().out, one);
    assert_eq!(scene.task_text("a", "cwd"), one);
    assert_eq!(scene.task_text("a", "cmd"), "pwd\n");
}

#[test]
fn the_saved_command_outlives_its_ttl() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "echo", "x"]).out("x").run();
    make_older(&scene.task_file("a", "exit"), Duration::from_secs(100));
    scene.once(["-p", "-t", "99", "-i", "a"]).status(1).run();
    scene.once(["-E", "-i", "a"]).status(1).run();
    scene.once(["-o", "-i", "a"]).run();
    assert!(scene.task_text("a", "history").contains("TTL_EXPIRED"));
    scene.once(["-qwi", "a"]).out("x\n").run();
}

#[test]
fn a_ttl_starts_at_the_outcome_and_failures_expire_after_30_seconds() {
    let scene = Scene::new();
    let peek = |age: u64, ttl: &str, status: i32, answer: i32| {
        fs::write(scene.task_file("a", "exit"), format!("{status}\n")).unwrap();
        make_older(&scene.task_file("a", "exit"), Duration::from_secs(age));
        scene.once(["-p", "-t", ttl, "-i", "a"]).status(answer).run();
    };
    scene.once(["-qwi", "a", "--", "true"]).run();
    peek(3000, "3600", 0, 0);
    peek(3700, "3600", 0, 1);
    peek(20, "3600", 1, 0);
    peek(40, "3600", 1, 1);
    peek(20, "10", 1, 1);
    // The clock was set back since: that moment may be far away.
    for (ahead, status, answer) in [(100_000, 0, 1), (100_000, 1, 1), (0, 0, 0)] {
        fs::write(scene.task_file("a", "exit"), format!("{status}\n")).unwrap();
        make_newer(&scene.task_file("a", "exit"), Duration::from_secs(ahead));
        scene.once(["-p", "-t", "3600", "-i", "a"]).status(answer).run();
    }
    // Without a TTL nothing is ever too old.
    fs::write(scene.task_file("a", "exit"), "0\n").unwrap();
    make_older(&scene.task_file("a", "exit"), Duration::from_secs(1_000_000));
    scene.once(["-p", "-i", "a"]).run();
}

#[test]
fn an_interrupted_run_is_not_an_outcome() {
    for mode in ["-s", "-w"] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
        kill(scene.task_pid("a"), 9);
        wait_until("it was noticed", || scene.task_text("a", "exit") == "137\n");
        wait_until("it was let go", || !is_locked(&scene.task_file("a", "lock")));
        assert!(scene.task_text("a", "history").contains("SIGNAL rc=137"));
        let out = if mode == "-w" { "begun\n" } else { "" };
        gate.open();
        scene.once([mode, "-qi", "a"]).out(out).run();
        scene.once(["-qwi", "a"]).run();
        assert_eq!(scene.task_text("a", "history").matches("STARTED").count(), 2);
    }
}

// ---- still there upstream ------------------------------------------------------------------------------------------

#[test]
fn a_reused_pid_of_a_task_is_never_signalled() {
    let scene = Scene::new();
    let mut bystander = Bystander::new();
    let pid = bystander.0.id();
    for call in [&["-p", "-t", "1", "-i", "a"][..], &["-r", "-i", "a"], &["-F"], &["-G"], &["-qwi", "a"]] {
        scene.once(["-qwi", "a", "--", "true"]).run();
        // As a killed supervisor would have left it, if the number had been given to another since.
        let record = scene.task_text("a", "lock");
        let old = record.lines().find(|line| line.starts_with("pid=")).unwrap();
        let tick = record.lines().find(|line| line.starts_with("tick=")).unwrap();
        let forged = record.replace(old, &format!("pid={pid}")).replace(tick, "tick=1");
        let end = forged.find("outcome=").unwrap();
        fs::write(scene.task_file("a", "lock"), &forged[..end]).unwrap();
        fs::write(scene.task_file("a", "pid"), format!("{pid}\n")).unwrap();
        fs::write(scene.task_file("a", "exit"), "1\n").unwrap();
        make_older(&scene.task_file("a", "exit"), Duration::from_secs(100));
        let status = i32::from(call[0].starts_with("-p") || call[0].starts_with("-qw"));
        scene.once(call).status(status).run();
        assert!(bystander.is_alive(), "{call:?} ended it");
        scene.once(["-G"]).run();
    }
}

#[test]
fn a_reset_ends_a_task_that_a_wait_started() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let waiter =
        scene.once(with_command(&["-wi", "a"], &gate.task(0))).status(143).out("begun").err("was interrupted").start();
    wait_until("it runs", || scene.task_text("a", "log.out") == "begun\n");
    let pid = scene.task_pid("a");
    scene.once(["-r", "-i", "a"]).run();
    assert!(!is_alive(pid));
    waiter.finish();
    // One copy at a time: the next one is another.
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    assert_ne!(scene.task_pid("a"), pid);
}

#[test]
fn a_killed_supervisor_leaves_no_second_copy() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // The command has a child that does not end with it.
    let script =
        format!("(trap '' TERM HUP INT; echo $BASHPID; read _ <'{0}'; read _ <'{0}') & wait", gate.path.display());
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    wait_until("the child is there", || scene.task_text("a", "log.out").ends_with('\n'));
    let child: u32 = scene.task_text("a", "log.out").trim().parse().unwrap();
    let (command, supervisor) = (scene.task_pid("a"), scene.supervisor("a"));
    kill(supervisor, 9);
    wait_until("the command has ended", || !is_alive(command));
    assert!(!is_locked(&scene.task_file("a", "lock")));
    assert!(is_alive(child), "the child is what is to be found by the next one");
    scene.once(["-A", "-i", "a"]).status(1).run();
    let said = scene.once(["-i", "a", "--json"]).out("interrupted").run();
    assert!(said.out.contains("\"pid\": null"), "{}", said.out);
    scene.once(["-qwi", "a", "--", "echo", "again"]).out("again\n").run();
    assert!(!is_alive(child));
}

#[test]
fn children_of_a_killed_command_end_before_the_next_run() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("(echo $BASHPID; read _ <'{0}') & wait", gate.path.display());
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    wait_until("the child is there", || scene.task_text("a", "log.out").ends_with('\n'));
    let child: u32 = scene.task_text("a", "log.out").trim().parse().unwrap();
    kill(scene.task_pid("a"), 9);
    scene.once(["-qwi", "a", "--", "echo", "again"]).out("again\n").run();
    assert!(!is_alive(child));
}

#[test]
fn processes_that_a_successful_task_left_live_on() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("read _ <'{}' & echo $!", gate.path.display());
    let said = scene.once(["-qwi", "a", "--", "bash", "-c", &script]).out("\n").run();
    let child: u32 = said.out.trim().parse().unwrap();
    scene.once(["-r", "-i", "a"]).run();
    assert!(is_alive(child));
    gate.open();
    wait_until("it has ended", || !is_alive(child));
}

#[test]
fn a_reset_of_a_task_that_ignores_the_signal_leaves_no_outcome() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("trap '' TERM; echo ready; read _ <'{0}'", gate.path.display());
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    wait_until("it is ready", || scene.task_text("a", "log.out") == "ready\n");
    let pid = scene.task_pid("a");
    scene.once(["-r", "-i", "a"]).run();
    assert!(!is_alive(pid));
    for name in ["exit", "pid", "lock", "cmd.sh"] {
        assert!(!scene.task_file("a", name).exists(), "{name}");
    }
    assert!(scene.task_text("a", "history").contains("SIGNAL rc=137"));
    scene.once(["-A", "-i", "a"]).status(1).run();
}

#[test]
fn a_reset_ends_what_a_successful_task_left() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!(
        "(trap '' TERM; echo $BASHPID; read _ <'{0}'; read _ <'{0}') & trap 'exit 0' TERM; wait",
        gate.path.display()
    );
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    wait_until("the child is there", || scene.task_text("a", "log.out").ends_with('\n'));
    let child: u32 = scene.task_text("a", "log.out").trim().parse().unwrap();
    scene.once(["-r", "-i", "a"]).run();
    assert!(scene.task_text("a", "history").contains("COMPLETE rc=0"));
    assert!(!is_alive(child));
}

#[test]
fn a_task_starts_with_default_signal_dispositions() {
    let scene = Scene::new();
    let script =
        "trap '' INT QUIT HUP PIPE CHLD; \"$HELPER\" run-once -qwi a -- grep -E 'Sig(Blk|Ign)' /proc/self/status";
    let said = scene.bash(script).out("SigBlk").run().out;
    for line in said.lines() {
        let set = u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap();
        // Those above are the C library's own, and cannot be set.
        assert_eq!(set & 0x7fff_ffff, 0, "{said}");
    }
}

#[test]
fn a_validation_inherits_neither_the_lock_nor_stdin() {
    let scene = Scene::new();
    let script = "echo begun >&2; cat; ls -l /proc/self/fd | grep -c 'lock$'; true";
    scene.once(["-qwi", "a", "--", "bash", "-c", script]).out("0\n").err("begun").run();
    // Each of the three lines is read by the loop.
    let said = scene
        .bash("printf '%s\\n' x y z | while read -r line; do \"$HELPER\" run-once -qwi a --validate; echo $line; done");
    assert_eq!(said.out("x").run().out, "x\ny\nz\n");
    assert_eq!(scene.task_text("a", "log.out"), "0\n");
    assert_eq!(scene.task_text("a", "history").matches("VALIDATE rc=0").count(), 3);
}

#[test]
fn a_background_task_does_not_keep_the_lock_of_the_script_that_started_it() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = "exec 200<>\"$(\"$HELPER\" path --create op)\"; \"$HELPER\" lock --fd 200 op && ABA_LOCK_FDS=200 \"$HELPER\" run-once -i a -- bash -c \"$1\"";
    let task = format!("echo \"${{ABA_LOCK_FDS-none}}\"; read _ <'{}'", gate.path.display());
    scene.call("bash").args(["-c", script, "bash", &task]).run();
    scene.once(["-R", "-i", "a"]).run();
    assert!(!is_locked(&scene.lock_file("op")));
    wait_until("it says what it was given", || scene.task_text("a", "log.out") == "none\n");
}

#[test]
fn a_wait_in_the_foreground_keeps_every_lock_and_number_that_it_inherited() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let waits = ["run-once", "-qw", "-i", "a"];
    let in_bash = "\"$HELPER\" run-once -qw -i a; exit";
    let file = scene.path("file");
    let by_file = file.to_str().unwrap();
    let started = [
        scene.aba(["lock", "direct", "--", HELPER].into_iter().chain(waits)).start(),
        scene.aba(["lock", "in_bash", "--", "bash", "-c", in_bash]).start(),
        scene.aba(["lock", "--file", by_file, "--", HELPER].into_iter().chain(waits)).start(),
        scene.aba(["lock", "kept_back", "-o", "--", HELPER].into_iter().chain(waits)).start(),
        scene.aba(["flock", scene.path("compatible").to_str().unwrap(), HELPER].into_iter().chain(waits)).start(),
        scene.aba(["reserve", "--probe", "none", "--", HELPER].into_iter().chain(waits)).start(),
    ];
    scene.wait_for_task_waiters("a", started.len());
    for locked in [
        scene.lock_file("direct"),
        scene.lock_file("in_bash"),
        file,
        scene.lock_file("kept_back"),
        scene.path("compatible"),
    ] {
        assert!(is_locked(&locked), "{} was released", locked.display());
    }
    let numbers = ["reserve", "--probe", "none", "--", "sh", "-c", "echo $ABA_NUMBER"];
    assert_eq!(scene.aba(numbers).out("").run().out, "5001\n", "5000 is taken");
    gate.open();
    for call in started {
        call.finish();
    }
}

#[test]
fn a_task_started_under_a_lock_inherits_no_descriptors() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // Low and high numbers, with gaps between them.
    let script =
        "exec 3<>three 9<>nine 77<>many 300<>more; for _ in 1; do \"$HELPER\" run-once -i a -- bash -c \"$1\"; done";
    let task = format!("echo begun; read _ <'{}'", gate.path.display());
    scene
        .aba(["lock", "op", "--", "bash", "-c", &format!("cd '{}'; {script}", scene.path("").display()), "bash", &task])
        .run();
    wait_until("it runs", || scene.task_text("a", "log.out") == "begun\n");
    for process in [scene.task_pid("a"), scene.supervisor("a")] {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
        for link in descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok()) {
            let is_its_own = link == gate.path || link.starts_with(scene.task_file("a", "lock").parent().unwrap());
            assert!(is_its_own || !link.starts_with(scene.path("")), "{} is open", link.display());
        }
    }
    assert!(!is_locked(&scene.lock_file("op")));
    gate.open();
    scene.once(["-qw", "-i", "a"]).run();
}

#[test]
fn arguments_may_be_any_bytes_also_in_the_saved_command() {
    let scene = Scene::new();
    let words: Vec<std::ffi::OsString> = [
        &b"tab\there"[..],
        b"two\nlines",
        b"",
        b"it's \"$HOME\" `id` \\ )",
        b"\xff\xfe",
        b"[0]=x",
        b"IFS=$'\\n'",
        b"-n",
    ]
    .iter()
    .map(|word| std::ffi::OsString::from_vec(word.to_vec()))
    .collect();
    let print = [std::ffi::OsString::from("printf"), "%s\\0".into()];
    scene.aba(["run-once", "-i", "a", "--"]).args(print.iter().chain(&words)).run();
    scene.once(["-qwi", "a"]).run();
    let printed = || fs::read(scene.task_file("a", "log.out")).unwrap();
    let expected: Vec<u8> = words.iter().flat_map(|word| [word.clone().into_vec(), vec![0]].concat()).collect();
    assert_eq!(printed(), expected);
    scene.once(["-qwi", "a", "--validate"]).run();
    assert!(scene.task_text("a", "history").contains("VALIDATE"));
    assert_eq!(printed(), expected);
    // And bash reads the same from the file.
    let script = format!("source '{}'; printf '%s\\0' \"${{command[@]:2}}\"", scene.task_file("a", "cmd.sh").display());
    let output = scene.program("bash").args(["-c", &script]).output().unwrap();
    assert_eq!(output.stdout, expected);
}

#[test]
fn queries_create_no_directory_and_a_reset_removes_it() {
    let scene = Scene::new();
    for letter in ["-p", "-E", "-A", "-R"] {
        scene.once([letter, "-i", "a"]).status(1).run();
        scene.once([letter, "-t", "5", "-i", "a"]).status(1).run();
    }
    for letter in ["-o", "-e", "-r", "--list", "--json"] {
        let call = scene.once([letter, "-i", "a"]);
        if letter == "--json" {
            call.out("[]").run()
        } else {
            call.run()
        };
    }
    scene.once(["-F"]).run();
    scene.once(["-G"]).run();
    assert!(!scene.root().exists());
    scene.once(["-qwi", "a", "--", "true"]).run();
    scene.once(["-r", "-i", "a"]).run();
    scene.once(["-r", "-i", "a"]).run();
    assert!(!scene.task_file("a", "").exists());
}

#[test]
fn a_start_rechecks_a_task_whose_lock_is_held() {
    // Another has the lock but does not run it, as a starter that is killed then: the one beside must not rely on it.
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "true"]).run();
    scene.once(["-r", "-i", "a"]).run();
    let gate = scene.gate("gate");
    let lock = scene.task_file("a", "lock");
    let mut holder = scene.program("flock");
    holder.arg(&lock).args(["sh", "-c", &format!("echo held; read _ <'{}'", gate.path.display())]);
    let holder = Holder::start(holder);
    let starter = scene.once(["-i", "a", "--", "echo", "ran"]).start();
    wait_until("it waits", || count_waiters(&lock) == 1);
    gate.open();
    drop(holder);
    starter.finish();
    scene.once(["-qwi", "a"]).run();
    assert_eq!(scene.task_text("a", "log.out"), "ran\n");
}

#[test]
fn a_full_disk_at_the_end_loses_no_outcome() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(4))).run();
    // Nothing can be put in the place of `exit`, as on a full disk; the note in the lock file has its room.
    fs::create_dir(scene.task_file("a", "exit.tmp")).unwrap();
    fs::create_dir(scene.task_file("a", "exit.tmp/x")).unwrap();
    let waiter = scene.once(["-qwi", "a"]).status(4).start();
    gate.open();
    waiter.finish();
    assert!(!scene.task_file("a", "exit").exists());
    scene.once(["-qwi", "a"]).status(4).run();
    fs::remove_dir_all(scene.task_file("a", "exit.tmp")).unwrap();
    scene.once(["-qwi", "a"]).status(4).run();
    assert_eq!(scene.task_text("a", "exit"), "4\n");
    assert!(!scene.task_file("a", "pid").exists());
}

#[test]
fn an_unreadable_outcome_is_an_error_and_not_a_reason_to_run_again() {
    let scene = Scene::new();
    scene.once(["-qwi", "b", "--", "sh", "-c", "cd \"$HOME\"; echo ran >>log"]).run();
    let exit = scene.task_file("b", "exit");
    for how in ["-qw", "-s", "-p", "-A", "-R", "-E"] {
        let mut words = vec!["run-once", how, "-i", "b"];
        if how == "-qw" || how == "-s" {
            words.extend(["--", "sh", "-c", "cd \"$HOME\"; echo again >>log"]);
        }
        for error in ["EIO", "EMFILE", "ENOMEM"] {
            let command = scene.strace(["-f", "-P"]).arg(&exit);
            let said = command.args(["-e", &format!("inject=openat:error={error}"), HELPER]).args(&words);
            said.status(125).err(format!("could not use {}: ", exit.display())).run();
        }
    }
    assert_eq!(fs::read_to_string(scene.path("log")).unwrap(), "ran\n");
    scene.once(["-qwi", "b"]).run();
}
