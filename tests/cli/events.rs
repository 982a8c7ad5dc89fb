//! The event log: its lines, and that it affects nothing else.

use crate::call::Call;
use crate::process::{PATIENCE, file_mode, list_files, make_fifo, set_mode};
use crate::scene::{HELPER, Scene, with_command};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

const LOG: &str = "ABA_LOCK_LOG";

fn log(scene: &Scene) -> PathBuf {
    scene.path("log")
}

/// The events in a log. Each line must be an object.
fn events_in(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

fn events(scene: &Scene) -> Vec<Value> {
    events_in(&log(scene))
}

/// The events of the log in short: `EVENT LOCK`.
fn summary(scene: &Scene) -> Vec<String> {
    let summarize = |event: &Value| format!("{} {}", event["event"].as_str().unwrap(), event["lock"].as_str().unwrap());
    events(scene).iter().map(summarize).collect()
}

/// A call with the log of the scene.
fn logged(scene: &Scene, args: &[&str]) -> Call {
    scene.aba(args).env(LOG, log(scene))
}

fn seconds(event: &Value, key: &str) -> f64 {
    event[key].as_f64().unwrap_or_else(|| panic!("no {key} in {event}"))
}

#[test]
fn an_acquired_event_names_the_process_and_the_time_it_waited() {
    let scene = Scene::new();
    logged(&scene, &["lock", "-s", "a", "--", "true", "a \"word\""]).run();
    let events = events(&scene);
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event["event"], "acquired");
    assert_eq!(event["lock"], "a");
    assert_eq!(event["path"], scene.lock_file("a").display().to_string());
    assert_eq!(event["mode"], "shared");
    assert_eq!(event["command"], "true 'a \"word\"'");
    assert_eq!(event["pid"].to_string(), scene.field("a", "pid"));
    assert_eq!(event["token"].to_string(), scene.field("a", "token"));
    assert_eq!(event["user"].as_str().unwrap(), scene.field("a", "user"));
    assert!(seconds(event, "waited_seconds") < PATIENCE.as_secs_f64());
    let time = event["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
    assert!(fs::read_to_string(log(&scene)).unwrap().starts_with("{\"time\":"));
}

#[test]
fn a_new_log_is_private_and_an_existing_one_is_appended_to() {
    let scene = Scene::new();
    logged(&scene, &["lock", "a", "--", "true"]).run();
    assert_eq!(file_mode(log(&scene)), 0o600);
    let before = fs::read_to_string(log(&scene)).unwrap();
    set_mode(log(&scene), 0o640);
    logged(&scene, &["lock", "a", "--", "true"]).run();
    assert_eq!(file_mode(log(&scene)), 0o640);
    let after = fs::read_to_string(log(&scene)).unwrap();
    assert!(after.starts_with(&before) && after.len() > before.len(), "{after}");
}

#[test]
fn a_renamed_log_is_replaced_by_a_new_file_and_links_are_followed() {
    let scene = Scene::new();
    symlink(scene.path("there"), log(&scene)).unwrap();
    logged(&scene, &["lock", "a", "--", "true"]).run();
    fs::rename(scene.path("there"), scene.path("there.1")).unwrap();
    logged(&scene, &["lock", "b", "--", "true"]).run();
    assert_eq!(events_in(&scene.path("there.1")).len(), 1);
    assert_eq!(summary(&scene), ["acquired b"]);
}

#[test]
fn a_contended_event_names_the_holder() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    logged(&scene, &["lock", "a", "--", "true"]).status(75).err("a is already running").run();
    let events = events(&scene);
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((&event["event"], &event["waits"]), (&"contended".into(), &false.into()));
    assert_eq!(event["holder_pid"], holder.pid());
    assert!(event["holder_command"].as_str().unwrap().starts_with("sh -c "), "{event}");
    assert_eq!(event["command"], "true");
}

#[test]
fn a_wait_is_logged_with_its_duration() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let waiter = logged(&scene, &["lock", "-qw", "a", "--", "true"]).start();
    scene.wait_for_waiter("a");
    assert_eq!(summary(&scene), ["contended a"]);
    assert_eq!(events(&scene)[0]["waits"], true);
    holder.release();
    waiter.finish();
    assert_eq!(summary(&scene), ["contended a", "acquired a"]);
    assert!(seconds(&events(&scene)[1], "waited_seconds") > 0.0);
}

#[test]
fn a_timeout_is_logged() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    logged(&scene, &["lock", "-t", "0.2", "a", "--", "true"]).status(124).err("timed out").run();
    assert_eq!(summary(&scene), ["contended a", "timed_out a"]);
    assert!(seconds(&events(&scene)[1], "waited_seconds") >= 0.2);
}

#[test]
fn each_of_several_locks_is_logged_if_all_are_acquired() {
    let scene = Scene::new();
    logged(&scene, &["lock", "b", "a", "--", "true"]).run();
    assert_eq!(summary(&scene), ["acquired a", "acquired b"]);
    let _holder = scene.holder("b");
    logged(&scene, &["lock", "a", "b", "--", "true"]).status(75).err("b is already running").run();
    assert_eq!(summary(&scene)[2..], ["contended b"]);
}

#[test]
fn a_release_by_the_helper_is_logged() {
    let scene = Scene::new();
    // The helper waits for this command.
    logged(&scene, &["lock", "-o", "a", "--", "true"]).run();
    assert_eq!(summary(&scene), ["acquired a", "released a"]);
    assert!(seconds(&events(&scene)[1], "held_seconds") < PATIENCE.as_secs_f64());
    // The helper cannot execute this command.
    fs::remove_file(log(&scene)).unwrap();
    logged(&scene, &["lock", "a", "--", "/nowhere"]).status(127).err("not found").run();
    assert_eq!(summary(&scene), ["acquired a", "released a"]);
    // A script releases its lock. The second `unlock` releases nothing.
    fs::remove_file(log(&scene)).unwrap();
    let script = "exec 200<>\"$(\"$HELPER\" path --create a)\" && \"$HELPER\" lock --fd 200 a &&
        \"$HELPER\" unlock --fd 200 && \"$HELPER\" unlock --fd 200 a; : $$";
    scene.bash(script).env(LOG, log(&scene)).run();
    assert_eq!(summary(&scene), ["acquired a", "released a"]);
    let events = events(&scene);
    assert_eq!(events[0]["pid"], events[1]["pid"]);
    assert!(events[1]["command"].as_str().unwrap().starts_with("bash -c "), "{}", events[1]);
    assert!(seconds(&events[1], "held_seconds") < PATIENCE.as_secs_f64());
}

#[test]
fn the_release_of_a_removed_lock_file_is_logged_with_its_name() {
    let scene = Scene::new();
    let script = "exec 200<>\"$(\"$HELPER\" path --create a)\" && \"$HELPER\" lock --fd 200 a &&
        rm \"$ABA_LOCK_DIR/aba-a.lock\" && \"$HELPER\" unlock --fd 200; exit $?";
    scene.bash(script).env(LOG, log(&scene)).run();
    assert_eq!(summary(&scene), ["acquired a", "released a"]);
}

#[test]
fn a_nested_call_for_the_same_lock_is_not_logged() {
    let scene = Scene::new();
    logged(&scene, &["lock", "a", "--", HELPER, "lock", "a", "--", "true"]).run();
    assert_eq!(summary(&scene), ["acquired a"]);
}

#[test]
fn a_replaced_lock_file_is_logged() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let waiter = logged(&scene, &["lock", "-w", "-q", "a", "--", "true"]).start();
    scene.wait_for_waiter("a");
    fs::remove_file(scene.lock_file("a")).unwrap();
    holder.release();
    waiter.finish();
    assert_eq!(summary(&scene), ["contended a", "replaced a", "acquired a"]);
    let script = "exec 200<>\"$(\"$HELPER\" path --create a)\" && rm \"$ABA_LOCK_DIR/aba-a.lock\" &&
        \"$HELPER\" path --create a >/dev/null; \"$HELPER\" lock --reopen --fd 200 a";
    scene.bash(script).env(LOG, log(&scene)).status(76).run();
    assert_eq!(summary(&scene)[3..], ["replaced a"]);
}

#[test]
fn locks_on_files_are_logged_with_their_paths() {
    let scene = Scene::new();
    let file = scene.path("f");
    fs::write(&file, "x\n").unwrap();
    let name = file.display().to_string();
    logged(&scene, &["lock", "--file", &name, "--", "true"]).run();
    logged(&scene, &["update", &name, "--", "sed", "s/x/y/"]).run();
    let label = |event: &str, of: &str| format!("{event} {of}");
    let of_lock = format!("{name}.lock");
    assert_eq!(summary(&scene), [label("acquired", &name), label("acquired", &of_lock), label("released", &of_lock)]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "y\n");
}

#[test]
fn lines_of_concurrent_writers_do_not_mix() {
    let scene = Scene::new();
    // Lines of the maximum length.
    let long = "\"é\\".repeat(3000);
    let writers: Vec<_> = (0..8)
        .map(|n| scene.bash(&format!("for i in {{1..25}}; do \"$HELPER\" lock l{n} -- true '{long}'; done")))
        .collect();
    let running: Vec<_> = writers.into_iter().map(|call| call.env(LOG, log(&scene)).start()).collect();
    for call in running {
        call.finish();
    }
    let events = events(&scene);
    assert_eq!(events.len(), 200);
    assert!(events.iter().all(|event| event["command"].as_str().unwrap().ends_with('…')));
    let text = fs::read_to_string(log(&scene)).unwrap();
    assert!(text.lines().all(|line| line.len() < 4096));
}

#[test]
fn an_unwritable_log_is_reported_once_and_changes_nothing_else() {
    let scene = Scene::new();
    fs::create_dir(scene.path("directory")).unwrap();
    let at = |name: &str| scene.path(name).display().to_string();
    for (value, why) in [
        (at("directory"), "Is a directory"),
        (at("none/log"), "No such file or directory"),
        ("/dev/full".to_owned(), "No space left on device"),
        ("log".to_owned(), "not an absolute path"),
    ] {
        let says = format!("cannot write to the event log {value}: {why}; locks are not affected\nhint: ");
        for args in [&["lock", "a", "b", "--", "echo", "ran"][..], &["lock", "-o", "a", "--", "echo", "ran"]] {
            let said = scene.aba(args).env(LOG, &value).out("ran\n").err(&says).run();
            assert_eq!(said.err.lines().count(), 2, "{}", said.err);
        }
        // `-q` is about contention.
        scene.aba(["lock", "-q", "a", "--", "true"]).env(LOG, &value).err(&says).run();
        let file = scene.path("f");
        fs::write(&file, "x\n").unwrap();
        let update = ["update", "-q", file.to_str().unwrap(), "--", "tr", "x", "y"];
        scene.aba(update).env(LOG, &value).err(&says).run();
        let holder = scene.holder("a");
        let call = scene.aba(["lock", "a", "--", "true"]).env(LOG, &value).status(75);
        call.err(&says).err("a is already running").run();
        let call = scene.aba(["lock", "--on-busy", "echo busy", "a", "--", "true"]).env(LOG, &value);
        call.out("busy\n").err(&says).err("a is already running").run();
        holder.release();
    }
    // A file that may not grow does not matter either.
    let script = "ulimit -f 1; head -c 1024 /dev/zero >\"$ABA_LOCK_LOG\"; exec \"$HELPER\" lock a -- echo ran";
    scene.bash(script).env(LOG, log(&scene)).out("ran\n").err("cannot write to the event log ").run();
}

#[test]
fn a_fifo_as_the_log_never_blocks() {
    let scene = Scene::new();
    make_fifo(log(&scene));
    // Without a reader.
    logged(&scene, &["lock", "a", "--", "true"]).err(": no process reads this FIFO; locks are not affected\n").run();
    // A process has the FIFO open and does not read from it, so that it fills up.
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(log(&scene)).unwrap();
    logged(&scene, &["lock", "a", "--", "true"]).run();
    let mut text = [0; 4096];
    let length = reader.read(&mut text).unwrap();
    let event: Value = serde_json::from_slice(&text[..length]).unwrap();
    assert_eq!(event["event"], "acquired");
    let long = "x".repeat(3000);
    let script = format!("for i in {{1..60}}; do \"$HELPER\" lock a -- true {long} 2>>said || exit; done");
    scene.bash_here(&script).env(LOG, log(&scene)).run();
    logged(&scene, &["lock", "a", "--", "true", &long]).err("Resource temporarily unavailable").run();
}

#[test]
fn a_log_reader_that_goes_away_does_not_kill_the_helper() {
    let scene = Scene::new();
    make_fifo(log(&scene));
    let _reader = fs::OpenOptions::new().read(true).write(true).open(log(&scene)).unwrap();
    // strace makes the write to the log fail as without a reader, with SIGPIPE.
    scene
        .strace(["-P"])
        .arg(log(&scene))
        .args(["-e", "inject=write:error=EPIPE:signal=PIPE", HELPER, "lock", "a", "--", "echo", "ran"])
        .env(LOG, log(&scene))
        .out("ran\n")
        .err("Broken pipe")
        .run();
}

#[test]
fn without_a_log_no_additional_system_calls_are_made() {
    let scene = Scene::new();
    // The first call makes files.
    scene.aba(["lock", "a", "--", "true"]).run();
    let calls = |log: &str| -> Vec<String> {
        let command = scene.call("strace").arg("-o").arg(scene.path("calls")).args([HELPER, "lock", "a", "--", "true"]);
        command.env(LOG, log).run();
        let text = fs::read_to_string(scene.path("calls")).unwrap();
        text.lines().take_while(|line| !line.contains("\"/usr/bin/true\"")).map(str::to_owned).collect()
    };
    let (off, on) = (calls(""), calls("/dev/null"));
    assert!(on.iter().any(|call| call.contains("/dev/null")), "{on:?}");
    assert!(!off.iter().any(|call| call.contains("/dev/null") || call.contains("SIGPIPE")), "{off:?}");
    assert!(off.len() < on.len());
}

#[test]
fn a_script_need_not_export_the_log_variable() {
    let scene = Scene::new();
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("shell/aba-lock.bash");
    let script = format!(
        "ABA_LOCK_BIN=$HELPER; ABA_LOCK_LOG={}; source {}; aba_lock_operation a; aba_unlock_operation a; : \"$_\"",
        log(&scene).display(),
        library.display()
    );
    scene.bash(&script).run();
    assert_eq!(summary(&scene), ["acquired a", "released a"]);
}

#[test]
fn the_doctor_checks_that_the_log_is_writable() {
    let scene = Scene::new();
    let doctor = |log: PathBuf| {
        let mut command = scene.program(HELPER);
        command.arg("doctor").env(LOG, log);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let said = doctor(log(&scene));
    assert!(said.contains("fine   event log: ") && !log(&scene).exists(), "{said}");
    let said = doctor(scene.path("none/log"));
    assert!(
        said.contains("wrong  event log: ") && said.contains("No such file or directory: events are not logged"),
        "{said}"
    );
    let _socket = UnixDatagram::bind(scene.path("socket")).unwrap();
    assert!(doctor(scene.path("socket")).contains("fine   event log: "));
}

#[test]
fn tasks_and_queries_are_not_logged() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = gate.task(0);
    gate.open();
    scene.once(with_command(&["-w", "-q", "-i", "t"], &task)).env(LOG, log(&scene)).out("begun\n").run();
    logged(&scene, &["status", "a"]).status(1).out("a: free").run();
    assert!(!log(&scene).exists());
}

#[test]
fn a_deadlock_is_logged_with_its_circle() {
    let scene = Scene::new();
    logged(&scene, &["lock", "-o", "a", "--", "env", "-u", "ABA_LOCK_FDS", HELPER, "lock", "-w", "a", "--", "true"])
        .status(75)
        .err("waiting for a would be a deadlock: ")
        .run();
    assert_eq!(summary(&scene), ["acquired a", "contended a", "deadlock a", "released a"]);
    let circle = events(&scene)[2]["circle"].as_str().unwrap().to_owned();
    assert!(circle.starts_with("pid ") && circle.ends_with(" holds a and waits for it"), "{circle}");
    scene
        .aba(["metrics"])
        .env(LOG, log(&scene))
        .out("aba_lock_deadlocks_total{lock=\"a\",scope=\"directory\"} 1\n")
        .run();
}

#[test]
fn a_holder_that_was_killed_to_release_a_lock_is_logged() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    logged(&scene, &["unlock", "a", "--kill"]).err(format!("ended pid {} (", holder.pid())).run();
    let events = events(&scene);
    assert_eq!(summary(&scene), ["released a"]);
    assert_eq!(events[0]["pid"], holder.pid());
}

#[test]
fn the_log_is_never_created_in_dev_or_in_place_of_a_socket() {
    let scene = Scene::new();
    let (dev, run) = (scene.path("dev"), scene.path("run"));
    fs::create_dir_all(&dev).unwrap();
    fs::create_dir_all(run.join("systemd/journal")).unwrap();
    // Directories of the test replace /dev and /run, so that the sockets of the system are not used.
    let inside = |setup: &str, value: &str| {
        let script = format!(
            "mount --bind {0} /run && {setup} mount --bind {1} /dev && exec \"$HELPER\" lock -q a -- true",
            run.display(),
            dev.display()
        );
        scene.in_mount_namespace().args(["sh", "-c", &script]).env(LOG, value)
    };
    for (value, path, why) in [
        ("syslog", "/dev/log", "no such socket"),
        ("journald", "/run/systemd/journal/dev-log", "no such socket"),
        ("/dev/log", "/dev/log", "no such device; aba-lock creates no file in /dev"),
        ("/dev/no/log", "/dev/no/log", "no such device; aba-lock creates no file in /dev"),
    ] {
        inside("", value).err(format!("cannot write to the event log {path}: {why}; locks are not affected")).run();
        assert!(list_files(&dev).is_empty() && list_files(run.join("systemd/journal")).is_empty(), "{value}");
        let doctor = scene.path("doctor");
        let script = format!("mount --bind {} /dev && \"$HELPER\" doctor >{}; :", dev.display(), doctor.display());
        if value != "journald" {
            scene.in_mount_namespace().args(["sh", "-c", &script]).env(LOG, value).run();
            let said = fs::read_to_string(doctor).unwrap();
            assert!(said.contains(&format!("cannot write to {path}: {why}: events are not logged")), "{said}");
        }
    }
    // Links into /dev: /dev/log itself may be a link to the socket of journald.
    symlink("/dev/log", scene.path("link")).unwrap();
    symlink("link", scene.path("second")).unwrap();
    let second = scene.path("second").display().to_string();
    inside("", &second).err("no such device; aba-lock creates no file in /dev").run();
    symlink("/run/systemd/journal/dev-log", dev.join("log")).unwrap();
    inside("", "syslog").err("no such socket").run();
    assert!(list_files(run.join("systemd/journal")).is_empty());
    // A file that another program created there is not a socket either.
    fs::remove_file(dev.join("log")).unwrap();
    fs::write(dev.join("log"), "").unwrap();
    inside("", "syslog").err("cannot write to the event log /dev/log: it is not a socket").run();
    assert_eq!(fs::read_to_string(dev.join("log")).unwrap(), "");
}
