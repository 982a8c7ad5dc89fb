//! `aba-lock log`: the selection of a lock, logs that are no files, and lines of other programs.

use crate::log::{enable, events, history, is_logged, log_file};
use crate::process::{PATIENCE, make_fifo, wait_until};
use crate::scene::{HELPER, Scene};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Stdio;

const FIRST: &str = "{\"time\":\"2020-01-01T00:00:00.000Z\",\"event\":\"acquired\",\"lock\":\"old\",\"path\":\"/o/aba-old.lock\",\"pid\":7}\n";

#[test]
fn a_lock_without_a_holding_in_the_log_is_reported_with_status_1() {
    let scene = Scene::new();
    scene.aba(["lock", "before", "--", "true"]).run();
    enable(&scene);
    let log = log_file(&scene).display().to_string();
    let is_empty = |args: &[&str], sentence: &str| {
        let said = scene.aba(["log"]).args(args).env("TZ", "UTC").status(1).err("").run();
        assert_eq!(said.err, format!("aba-lock: {sentence}\n"), "{args:?}");
        scene.aba(["log", "--json"]).args(args).env("TZ", "UTC").status(1).err(sentence).run();
    };
    let no_file = "hint: no lock file has this name: `aba-lock list` shows all locks";
    is_empty(&[], &format!("no holder in the log {log}, which has no events yet"));
    is_empty(&["none"], &format!("none: no holder in the log {log}, which has no events yet\n{no_file}"));
    fs::write(&log, FIRST).unwrap();
    let begins = "2020-01-01 00:00:00 UTC";
    is_empty(&["none"], &format!("none: no holder in the log {log}, which begins at {begins}\n{no_file}"));
    is_empty(&["before"], &format!("before: no holder in the log {log}, which begins at {begins}"));
    is_empty(
        &["--since", "12h", "before"],
        &format!("before: no holder within the last 12h in the log {log}, which begins at {begins}"),
    );
    fs::write(scene.lock_file("shell"), "").unwrap();
    is_empty(
        &["shell"],
        &format!(
            "shell: no holder in the log {log}, which begins at {begins}\nhint: the events of this lock are not logged: run \
             `aba-lock log --enable` again"
        ),
    );
    is_empty(
        &["--file", "/etc/f"],
        &format!(
            "/etc/f: no holder in the log {log}, which begins at {begins}\nhint: locks of files are only in the log of ABA_LOCK_LOG"
        ),
    );
    let holder = scene.flock_holder(scene.lock_file("before"));
    is_empty(
        &["before"],
        &format!(
            "before: no holder in the log {log}, which begins at {begins}\nhint: the lock is held now: `aba-lock status` shows the \
             holder, which has not logged that"
        ),
    );
    // A call that finds the lock held logs its holder.
    scene.aba(["lock", "-q", "before", "--", "true"]).status(75).run();
    let said = scene.aba(["log", "before"]).out("  before: pid ").run();
    assert!(said.out.contains("), which had acquired the lock before\n  still held, for more than "), "{}", said.out);
    assert!(said.out.contains("\n  refused: pid "), "{}", said.out);
    let found = &history(&scene, &["before"])[0];
    assert_eq!((&found["state"], &found["since"], &found["user"]), (&"held".into(), &Value::Null, &Value::Null));
    holder.release();
    let said = scene.aba(["log", "before"]).out("\n  ended between ").run();
    assert_eq!(said.out.matches("pid ").count(), 2, "{}", said.out);
    scene.aba(["log", "a/b"]).status(2).err("invalid lock name").run();
}

#[test]
fn the_holdings_of_a_file_are_shown() {
    let scene = Scene::new();
    let log = scene.path("log");
    for name in ["f", "g"] {
        fs::write(scene.path(name), "v\n").unwrap();
        let call = scene.aba(["lock", "--file"]).arg(scene.path(name)).args(["--", "true"]);
        call.env("ABA_LOCK_LOG", &log).run();
    }
    scene.aba(["lock", "f", "--", "true"]).env("ABA_LOCK_LOG", &log).run();
    symlink(scene.path("f"), scene.path("link")).unwrap();
    for file in ["f", "./f", "link"] {
        let call = scene.aba(["log", "--json", "--file", file]).env("ABA_LOCK_LOG", &log).current_dir(scene.path(""));
        let said = call.out("\"scope\":null").run();
        assert_eq!(said.out.lines().count(), 1, "{}", said.out);
        assert!(said.out.contains(&format!("\"path\":\"{}\"", scene.path("f").display())), "{}", said.out);
    }
    // The lock of a name is on a file, too.
    let said = scene.aba(["log", "--log"]).arg(&log).arg("--file").arg(scene.lock_file("f")).out("  f: pid ").run();
    assert_eq!(said.out.lines().count(), 2, "{}", said.out);
    scene.aba(["log", "--file", "f", "f"]).status(2).err("cannot be used with").run();
}

#[test]
fn a_log_that_the_user_names_needs_no_state_root() {
    let scene = Scene::new();
    fs::write(scene.path("log"), FIRST).unwrap();
    for name in ["ABA_LOCK_SCOPE", "ABA_LOCK_DIR"] {
        scene.aba(["log", "old", "--log"]).arg(scene.path("log")).env(name, "wrong").out("  old: pid 7 ").run();
    }
}

#[test]
fn a_log_that_is_no_file_can_be_turned_off() {
    let scene = Scene::new();
    scene.make_root();
    let makers: [(&str, &dyn Fn()); 3] = [
        ("symbolic link", &|| symlink("/etc/passwd", log_file(&scene)).unwrap()),
        ("FIFO", &|| make_fifo(log_file(&scene))),
        ("directory", &|| fs::create_dir(log_file(&scene)).unwrap()),
    ];
    for (kind, make) in makers {
        enable(&scene);
        scene.aba(["lock", "a", "--", "true"]).run();
        fs::remove_file(log_file(&scene)).unwrap();
        make();
        scene.aba(["lock", "a", "--", "true"]).err("hint: move that file away, or turn the log off with").run();
        let said = scene.aba(["log", "--disable"]).out("events are no longer logged; ").run();
        assert!(said.out.ends_with(&format!("events.jsonl is a {kind}, and is left as it is\n")), "{}", said.out);
        assert!(!is_logged(&scene, "a"));
        // Nothing is said any more, neither about a lock nor about a new one, nor about a task.
        scene.aba(["lock", "a", "--", "true"]).run();
        scene.aba(["lock", kind.split(' ').next().unwrap(), "--", "true"]).run();
        scene.once(["-w", "-i", "t", "--", "true"]).run();
        scene.aba(["log", "--enable"]).status(125).err("it is not a regular file").run();
        let _ = fs::remove_file(log_file(&scene)).or_else(|_| fs::remove_dir(log_file(&scene)));
    }
}

#[test]
fn a_new_lock_file_is_not_logged_while_the_log_is_turned_off() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["log", "--disable"]).out("").run();
    scene.aba(["lock", "new", "--", "true"]).run();
    scene.bash("exec 200<>\"$ABA_LOCK_DIR/aba-shell.lock\" && \"$HELPER\" lock --fd 200 shell").run();
    assert!(!is_logged(&scene, "new") && !is_logged(&scene, "shell"));
    enable(&scene);
    scene.aba(["lock", "new", "--", "true"]).run();
    assert_eq!(events(&scene), ["acquired", "released"]);
}

#[test]
fn a_skipped_call_is_shown_as_that() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let holder = scene.holder("a");
    scene.aba(["lock", "--skip-ok", "a", "--", "true"]).run();
    scene.aba(["lock", "--skip-ok", "-t", "0.01", "a", "--", "true"]).run();
    scene.bash_with_library("aba_lock_operation --skip-ok a; exit 9").run();
    scene.aba(["lock", "-q", "a", "--", "true"]).status(75).run();
    let outcomes: Vec<Value> = history(&scene, &["a"])[0]["waits"].as_array().unwrap().clone();
    let outcomes: Vec<&str> = outcomes.iter().map(|wait| wait["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["skipped", "skipped", "skipped", "refused"]);
    let said = scene.aba(["log", "a"]).out("\n  skipped: pid ").out(", after a wait of ").run();
    assert_eq!(said.out.matches("\n  skipped: ").count(), 3, "{}", said.out);
    let said = scene.path("said");
    let mut command = scene.program(HELPER);
    let mut follower = command.args(["log", "-f"]).stdout(fs::File::create(&said).unwrap()).spawn().unwrap();
    wait_until("the events are shown", || fs::read_to_string(&said).unwrap().ends_with(", was refused\n"));
    follower.kill().unwrap();
    follower.wait().unwrap();
    let text = fs::read_to_string(&said).unwrap();
    assert_eq!(text.matches(", skips its run (--skip-ok)\n").count(), 2, "{text}");
    let gave_up = text.lines().filter(|line| line.contains(", gave up after "));
    assert_eq!(gave_up.filter(|line| line.ends_with(", and skips its run (--skip-ok)")).count(), 1, "{text}");
    holder.release();
}

#[test]
fn many_calls_of_one_job_are_shown_in_one_line() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let event = |minute: u32, pid: u32, rest: &str| {
        format!(
            "{{\"time\":\"2020-01-01T02:{minute:02}:00.000Z\",\"lock\":\"a\",\"path\":\"/x\",\"user\":\"root\",\"pid\":{pid},{rest}}}\n"
        )
    };
    let refused = |minute, command| {
        event(
            minute,
            100 + minute,
            &format!("\"event\":\"contended\",\"waits\":false,\"command\":\"{command}\",\"holder_pid\":7"),
        )
    };
    let lines = [
        event(0, 7, "\"event\":\"acquired\",\"command\":\"./backup\""),
        refused(1, "./backup"),
        refused(2, "./backup"),
        refused(3, "./other"),
        refused(4, "./backup"),
        event(5, 7, "\"event\":\"released\",\"cause\":\"release\""),
    ];
    fs::write(log_file(&scene), lines.concat()).unwrap();
    let said = scene.aba(["log", "a"]).env("TZ", "UTC").out("").run();
    let expected = "2020-01-01 02:00:00 UTC  a: pid 7 (./backup), user root
  held for 5m00s, until 02:05:00; released
  refused: 2 calls (./backup), user root, from 02:01:00 to 02:02:00
  refused: pid 103 (./other), user root, at 02:03:00
  refused: pid 104 (./backup), user root, at 02:04:00
";
    assert_eq!(said.out, expected);
    assert_eq!(history(&scene, &["a"])[0]["waits"].as_array().unwrap().len(), 4);
}

#[test]
fn a_line_without_an_end_does_not_fill_the_memory() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    let mut log = fs::File::options().append(true).open(log_file(&scene)).unwrap();
    let lines = fs::read(log_file(&scene)).unwrap();
    log.set_len(1 << 30).unwrap();
    log.write_all(&[b"\n", &lines[..]].concat()).unwrap();
    // The maximum is far above that of the helper, and far below the size of the line.
    let limited = |args: &str| scene.bash(&format!("ulimit -v 400000; exec \"$HELPER\" {args}; : \"$_\""));
    limited("log a").out("exit status 0\n").err("has 1024 MiB, more than aba-lock writes").run();
    // A log that the user has named is read from its beginning.
    let said = limited("log --log \"$ABA_LOCK_DIR/events.jsonl\" a").out("exit status 0\n").run();
    assert_eq!(said.out.matches("exit status 0\n").count(), 2, "{}", said.out);
    limited("metrics").out("aba_lock_acquisitions_total{lock=\"a\",scope=\"directory\"} 1\n").run();
    limited("status a").status(1).out("; exit status 0\n").run();
    let said = scene.path("said");
    let mut command = scene.program("bash");
    command
        .args(["-c", "ulimit -v 400000; exec \"$HELPER\" log --follow --log \"$ABA_LOCK_DIR/events.jsonl\" a"])
        .env("HELPER", HELPER);
    let mut follower = command.stdout(fs::File::create(&said).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let begin = std::time::Instant::now();
    while begin.elapsed() < PATIENCE && !fs::read_to_string(&said).unwrap().contains("released by") {
        if let Some(status) = follower.try_wait().unwrap() {
            panic!("it has ended: {status}");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(fs::read_to_string(&said).unwrap().contains("released by"));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn a_call_that_follows_a_log_that_does_not_exist_says_so_and_waits() {
    let scene = Scene::new();
    scene.make_root();
    let (said, errors) = (scene.path("said"), scene.path("errors"));
    let mut command = scene.program(HELPER);
    command.args(["log", "-f"]).stdout(fs::File::create(&said).unwrap()).stderr(fs::File::create(&errors).unwrap());
    let mut follower = command.spawn().unwrap();
    let hint = "hint: turn it on with `aba-lock log --enable`\n";
    wait_until("it says so", || fs::read_to_string(&errors).unwrap().ends_with(hint));
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    wait_until("the events are shown", || fs::read_to_string(&said).unwrap().contains("released by"));
    follower.kill().unwrap();
    follower.wait().unwrap();
    let text = fs::read_to_string(&errors).unwrap();
    let missing =
        format!("aba-lock: no event log: {} does not exist; waiting until it does\n", log_file(&scene).display());
    assert_eq!(text, missing + hint);
}
