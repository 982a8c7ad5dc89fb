//! `lock`: acquiring, waiting, timeouts, shared locks, several locks at once, records and tokens.

use crate::call::Call;
use crate::process::{is_locked, set_mode, write_program};
use crate::scene::{HELPER, Scene};
use crate::time_limit::AFTER_REPORT;
use std::fs;
use std::time::Instant;

#[test]
fn an_uncontended_lock_is_acquired_silently() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    assert!(!is_locked(&scene.lock_file("a")));
}

#[test]
fn a_held_lock_is_refused_with_75_and_its_holder_is_named() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--who", "nightly run", "a"]);
    let said = scene.aba(["lock", "a", "--", "echo", "not reached"]).status(75).err("aba-lock: ").run();
    let pid = holder.pid();
    let start = format!("aba-lock: a is already running: pid {pid} (sh -c 'echo held; read _; exit 0'), by ");
    assert!(said.err.starts_with(&start), "{}", said.err);
    assert!(said.err.contains(" (nightly run), for "), "{}", said.err);
    assert!(said.err.contains("\nhint: wait for it with `--wait`, or show its holder with `aba-lock status a`\n"));
    assert_eq!(said.err.lines().count(), 2);
}

#[test]
fn flock_and_the_helper_exclude_each_other() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    assert!(is_locked(&scene.lock_file("a")));
    holder.release();
    assert!(!is_locked(&scene.lock_file("a")));
    let file = scene.lock_file("a");
    let script = format!("flock -n {} -c '\"$HELPER\" lock a -- true'", file.display());
    scene.bash(&script).status(75).err("a is held by pid ").err("flock").run();
}

#[test]
fn the_exit_status_on_conflict_can_be_chosen() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    scene.aba(["lock", "-q", "-E", "9", "a", "--", "true"]).status(9).run();
    scene.aba(["lock", "-q", "-E", "0", "-t", "0.01", "a", "--", "false"]).status(0).run();
}

#[test]
fn a_waiter_gets_the_lock_when_it_is_released() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let said = format!("aba-lock: waiting for a, held by pid {} (", holder.pid());
    let waiter = scene.aba(["lock", "-w", "a", "--", "echo", "mine"]).out("mine\n").err(said).start();
    waiter.wait_for_error("waiting for a");
    scene.wait_for_waiter("a");
    holder.release();
    let said = waiter.finish();
    assert_eq!(said.err.lines().count(), 1, "one line at the start of the wait: {}", said.err);
}

#[test]
fn a_waiter_gets_the_lock_when_the_holder_is_killed() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let waiter = scene.aba(["lock", "-qw", "a", "--", "echo", "mine"]).out("mine\n").start();
    scene.wait_for_waiter("a");
    holder.signal(9);
    waiter.finish();
}

#[test]
fn a_timeout_exits_with_124_and_names_the_holder() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let (time, limit) = AFTER_REPORT;
    let start = Instant::now();
    let command = scene.aba(["lock", "-t", limit, "a", "--", "true"]).status(124);
    let command = command.err("aba-lock: waiting for a, held by pid ");
    command.err(format!("aba-lock: timed out after {limit} s waiting for a, held by pid {} (", holder.pid())).run();
    assert!(start.elapsed() >= time, "it gave up too early");
    // A timeout of 0 tries once, without a message about a wait.
    let said = scene.aba(["lock", "-t", "0", "a", "--", "true"]).status(124).err("timed out after 0 s").run();
    assert!(!said.err.contains("aba-lock: waiting"), "{}", said.err);
}

#[test]
fn a_timeout_works_if_the_caller_ignores_sigalrm() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    scene.bash("trap '' ALRM; \"$HELPER\" lock -q -t 0.1 a -- true").status(124).run();
}

#[test]
fn options_override_the_environment() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let timeout = |args: &[&str]| scene.aba(args).env("ABA_LOCK_TIMEOUT", "0.05");
    timeout(&["lock", "-q", "a", "--", "true"]).status(124).run();
    timeout(&["lock", "-q", "-n", "a", "--", "true"]).status(75).run();
    let waiter = timeout(&["lock", "-q", "-w", "a", "--", "true"]).start();
    scene.wait_for_waiter("a");
    holder.release();
    waiter.finish();
    let command = scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_TIMEOUT", "soon").status(2);
    command.err("ABA_LOCK_TIMEOUT is \"soon\", which is not a time such as 30, 90s or 1h30m").run();
}

#[test]
fn the_last_of_two_conflicting_options_wins() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    scene.aba(["lock", "-q", "-w", "-n", "a", "--", "true"]).status(75).run();
    scene.aba(["lock", "-q", "-n", "-t", "0.01", "a", "--", "true"]).status(124).run();
    let _shared = scene.holder_with(&["-x", "-s", "b"]);
    scene.aba(["lock", "-s", "b", "--", "true"]).run();
}

#[test]
fn shared_locks_exclude_exclusive_ones_only() {
    let scene = Scene::new();
    let one = scene.holder_with(&["-s", "a"]);
    let two = scene.holder_with(&["-s", "a"]);
    scene.aba(["lock", "a", "--", "true"]).status(75).err("a is held by pid ").err(", and 1 more").run();
    one.release();
    scene.aba(["lock", "a", "--", "true"]).status(75).err("a is held by pid ").run();
    two.release();
    let _exclusive = scene.holder("a");
    scene.aba(["lock", "-s", "a", "--", "true"]).status(75).err("a is already running").run();
}

#[test]
fn either_all_named_locks_are_taken_or_none() {
    let scene = Scene::new();
    let holder = scene.holder("b");
    scene.aba(["lock", "a", "b", "c", "--", "true"]).status(75).err("b is already running").run();
    for name in ["a", "c"] {
        scene.aba(["lock", name, "--", "true"]).run();
    }
    holder.release();
    let both = scene.holder_with(&["c", "a", "b", "a"]);
    for name in ["a", "b", "c"] {
        assert!(is_locked(&scene.lock_file(name)), "{name} is held");
    }
    drop(both);
}

#[test]
fn callers_that_name_the_same_locks_in_another_order_never_deadlock() {
    let scene = Scene::new();
    for _ in 0..100 {
        let calls = [["lock", "-qw", "a", "b", "--", "true"], ["lock", "-qw", "b", "a", "--", "true"]];
        let running: Vec<_> = calls.iter().map(|args| scene.aba(args).start()).collect();
        for call in running {
            call.finish();
        }
    }
}

#[test]
fn verbose_prints_the_time_it_took() {
    let scene = Scene::new();
    scene.aba(["lock", "-v", "a", "b", "--", "true"]).err("aba-lock: acquired a, b after ").run();
}

#[test]
fn a_file_is_locked_by_its_path_and_keeps_its_content() {
    let scene = Scene::new();
    let file = scene.path("data");
    fs::write(&file, "precious\n").unwrap();
    let path = file.to_str().unwrap();
    let holder = scene.holder_with(&["--file", path]);
    assert!(is_locked(&file));
    scene.aba(["lock", "--file", path, "--", "true"]).status(75).err(format!("{path} is held by pid")).run();
    holder.release();
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious\n");
    // A directory, and a file that does not exist yet.
    scene.aba(["lock", "--file", scene.path("").to_str().unwrap(), "--", "true"]).run();
    scene.aba(["lock", "--file", scene.path("new").to_str().unwrap(), "--", "true"]).run();
    assert!(scene.path("new").is_file());
    let command = scene.aba(["lock", "--file", scene.path("no/such/dir").to_str().unwrap(), "--", "true"]).status(125);
    command.err("cannot open lock file ").err("No such file or directory").run();
}

#[test]
fn unlock_by_name_releases_no_lock_of_another_process() {
    let scene = Scene::new();
    scene.aba(["unlock", "a"]).run();
    let holder = scene.holder("a");
    let command = scene.aba(["unlock", "a"]).status(75);
    command.err(format!("a cannot be released from here: held by pid {}", holder.pid())).run();
    assert!(is_locked(&scene.lock_file("a")));
}

#[test]
fn a_nested_call_succeeds_and_keeps_the_outer_record() {
    let scene = Scene::new();
    let inner = r#"token=$ABA_LOCK_TOKEN; before=$(<"$ABA_LOCK_DIR/aba-a.lock")
        "$HELPER" lock a -- bash -c 'echo "$ABA_LOCK_TOKEN"' || exit
        echo "$token"
        [[ $before == "$(<"$ABA_LOCK_DIR/aba-a.lock")" ]] || exit 91
        "$HELPER" lock -o a -- bash -c '[[ -z $ABA_LOCK_FDS ]]' || exit 92
        "$HELPER" status -q a"#;
    let said = scene.aba(["lock", "a", "--", "bash", "-c", inner]).out("").run();
    let tokens: Vec<&str> = said.out.lines().collect();
    assert_eq!(tokens[0], tokens[1], "one lock, one token");
    assert!(!is_locked(&scene.lock_file("a")));
    // The environment alone proves nothing.
    let _holder = scene.holder("a");
    scene.bash("ABA_LOCK_FDS='1 7 9999 x' \"$HELPER\" lock -q a -- true").status(75).run();
}

#[test]
fn the_token_grows_even_if_the_lock_file_was_removed() {
    let scene = Scene::new();
    let mut last = 0;
    for round in 0..6 {
        let said = scene.aba(["lock", "a", "--", "sh", "-c", "echo $ABA_LOCK_TOKEN"]).out("").run();
        let token: u64 = said.out.trim().parse().unwrap();
        assert!(token > last, "{token} after {last}");
        assert_eq!(scene.field("a", "token"), token.to_string());
        last = token;
        if round == 2 {
            fs::remove_file(scene.lock_file("a")).unwrap();
        }
        if round == 4 {
            // If the clock was set back, only the last token keeps it growing.
            last += 1_000_000_000_000;
            scene.set_field("a", "token", &last.to_string());
        }
    }
}

#[test]
fn a_shared_lock_never_uses_the_token_of_an_incomplete_record() {
    let scene = Scene::new();
    scene.make_root();
    let exclusive = scene.aba(["lock", "a", "--", "sh", "-c", "echo $ABA_LOCK_TOKEN"]).out("").run().out;
    let last: u64 = exclusive.trim().parse().unwrap();
    // As on a full file system: the start of a new record, and the end of an older one.
    for rest in ["5", "18446744073709551615"] {
        fs::write(scene.lock_file("a"), format!("aba_lock_record=1\npid=x\ntoken={rest}\n")).unwrap();
        let shared = scene.aba(["lock", "--shared", "a", "--", "sh", "-c", "echo $ABA_LOCK_TOKEN"]).out("").run().out;
        let token: u64 = shared.trim().parse().unwrap();
        assert!(token > last && token < u64::MAX, "{token} after {last}");
    }
}

#[test]
fn a_shorter_record_replaces_a_longer_one_completely() {
    let scene = Scene::new();
    scene.aba(["lock", "--who", &"x".repeat(900), "a", "--", "true"]).run();
    scene.aba(["lock", "a", "--", "true"]).run();
    let record = scene.record("a");
    assert!(!record.contains('x') || record.len() < 900, "{record}");
    assert!(record.lines().last().unwrap().starts_with("token="), "{record}");
}

#[test]
fn the_content_of_a_locked_file_is_never_lost() {
    let scene = Scene::new();
    let file = scene.path("log");
    let path = file.to_str().unwrap();
    fs::write(&file, "").unwrap();
    for line in ["one", "two"] {
        scene.aba(["lock", "--file", path, "--", "sh", "-c", &format!("echo {line} >>{path}")]).run();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntwo\n");
    let empty = scene.path("__init__.py");
    fs::write(&empty, "").unwrap();
    scene.aba(["lock", "--file", empty.to_str().unwrap(), "--", "true"]).run();
    assert_eq!(fs::read_to_string(&empty).unwrap(), "");
    // A nested call succeeds there without a record, too.
    scene.aba(["lock", "--file", path, "--", HELPER, "lock", "--file", path, "--", "true"]).run();
}

#[test]
fn the_hint_names_the_command_that_waits() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let text = "exec 9<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$HELPER\" lock --reopen --fd 9 $OPTIONS a; exit $?\n";
    let script = scene.path("my script");
    write_program(&script, &format!("#!/usr/bin/env bash\n{text}"));
    set_mode(&script, 0o644);
    let call = |words: &[&str], options: &str| {
        let command = scene.call(words[0]).args(&words[1..]).env("OPTIONS", options).current_dir(scene.path(""));
        let said = command.status(75).err("a is already running: ").run().err;
        said.split_once("hint: ").unwrap().1.to_owned()
    };
    let see = "show its holder with `aba-lock status a`\n";
    let name = script.display().to_string();
    // A script that is not executable is called with its interpreter.
    let waits = format!("wait for it with `ABA_LOCK_TIMEOUT=60 bash '{name}' deploy`, or {see}");
    assert_eq!(call(&["bash", &name, "deploy"], ""), waits);
    set_mode(&script, 0o755);
    let waits = format!("wait for it with `ABA_LOCK_TIMEOUT=60 '{name}' deploy`, or {see}");
    assert_eq!(call(&[&name, "deploy"], ""), waits);
    let long = "x".repeat(200);
    for words in [&["bash", "-c", text][..], &[&name, &long], &[&name, "\x1b[31m"]] {
        assert_eq!(call(words, ""), format!("wait for it with ABA_LOCK_TIMEOUT=60, or {see}"));
    }
    // The option overrides the variable, so no hint to wait.
    assert_eq!(call(&[&name, "deploy"], "--nonblock"), see);
    holder.release();
}

#[test]
fn no_hint_advises_waiting_for_or_killing_the_caller_itself() {
    let scene = Scene::new();
    // The calls do not inherit the descriptor, and so cannot know that the shell holds the lock.
    let ask = "fd=$ABA_LOCK_FDS; unset ABA_LOCK_FDS; ask() { eval '\"$HELPER\" \"$@\"' ${fd:+\"$fd>&-\"}; }
        ask lock a -- true; ask lock -t 0.05 a -- true; ask unlock a; ask status a; exit 0";
    for options in [&["-o"][..], &[]] {
        let ask = format!("exec 2>&1; {ask}");
        let words = [&["lock"], options, &["a", "--", "bash", "-c", &ask]].concat();
        let said = scene.aba(words).out("hint: pid ").run().out;
        assert_eq!(said.matches(" started this command and already holds the lock").count(), 3, "{said}");
        assert!(
            said.contains("  hint: pid ") && said.contains(" started this command: the lock is free when"),
            "{said}"
        );
        assert!(!said.contains("--wait") && !said.contains("kill"), "{said}");
    }
    // flock(1) locks a descriptor that is open only in the process that becomes the helper.
    let own = |args: &str, status: i32| {
        let text = format!("exec 9>>\"$ABA_LOCK_DIR/aba-a.lock\"; flock 9; exec \"$HELPER\" {args}");
        scene.bash(&text).status(status)
    };
    let said = own("lock a -- true", 75).err("hint: this process already holds the lock").run().err;
    assert!(!said.contains("--wait"), "{said}");
    own("unlock a", 75).err("hint: this process already holds the lock").run();
    let said = own("status a", 0).out("a: held, exclusive").out("this command holds the lock itself").run().out;
    assert!(said.contains("\n  pid ") && !said.contains("root:") && !said.contains("ask"), "{said}");
    let said = own("status --json a", 0).out("").run().out;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["holders"].as_array().unwrap().len(), 1, "{said}");
}

/// A program that sets an alarm and then becomes the helper.
fn call_with_alarm(scene: &Scene, seconds: &str, words: &[&str]) -> Call {
    let text = "import os, signal, sys; signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])";
    scene.call("python3").args(["-c", text, seconds, HELPER]).args(words)
}

#[test]
fn an_alarm_of_the_caller_ends_the_wait_and_is_inherited_by_the_command() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    call_with_alarm(&scene, "0.5", &["lock", "-q", "-w", "a", "--", "true"]).status(142).run();
    call_with_alarm(&scene, "0.5", &["lock", "-q", "-t", "600", "a", "--", "true"]).status(142).run();
    let ask = "import signal; left = signal.getitimer(signal.ITIMER_REAL); print(0 < left[0] < 3600, left[1])";
    let waiter = call_with_alarm(&scene, "3600", &["lock", "-q", "-w", "a", "--", "python3", "-c", ask])
        .out("True 0.0\n")
        .start();
    scene.wait_for_waiter("a");
    holder.release();
    waiter.finish();
}
