//! `aba-lock log`: the history of locks, and the log of a state root.

use crate::process::{PATIENCE, file_mode, set_mode, wait_until};
use crate::scene::{HELPER, LIBRARY, Scene};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

pub(crate) fn enable(scene: &Scene) {
    scene.aba(["log", "--enable"]).out("events are logged in").run();
}

pub(crate) fn log_file(scene: &Scene) -> PathBuf {
    scene.root().join("events.jsonl")
}

pub(crate) fn events(scene: &Scene) -> Vec<String> {
    let text = fs::read_to_string(log_file(scene)).unwrap_or_default();
    let parse = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    text.lines().map(parse).map(|event| event["event"].as_str().unwrap().to_owned()).collect()
}

/// The holdings in the log.
pub(crate) fn history(scene: &Scene, args: &[&str]) -> Vec<Value> {
    let output = scene.program(HELPER).args(["log", "--json"]).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(text.is_empty())), "{:?}", output.stderr);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn is_logged(scene: &Scene, name: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(scene.lock_file(name)).unwrap().mode() & 0o1000 != 0
}

#[test]
fn without_a_log_the_command_says_how_to_turn_it_on() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let said = scene.aba(["log", "a"]).status(1).err("no event log: ").run();
    assert!(said.err.contains("hint: turn it on with `aba-lock log --enable`"), "{}", said.err);
    scene.aba(["log", "--disable"]).status(1).err("no event log: ").run();
    assert!(!log_file(&scene).exists());
    assert!(!is_logged(&scene, "a"));
}

#[test]
fn the_log_has_the_duration_and_the_exit_status_of_a_command() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    assert_eq!(file_mode(log_file(&scene)), 0o600);
    scene.aba(["lock", "a", "--", "sh", "-c", "exit 3"]).status(3).run();
    let said = scene.aba(["log", "a"]).out("(sh -c 'exit 3'), user ").run();
    assert!(said.out.contains("\n  held for ") && said.out.ends_with("; exit status 3\n"), "{}", said.out);
    let holdings = history(&scene, &["a"]);
    let [holding] = &holdings[..] else { panic!("{holdings:?}") };
    assert_eq!(
        (&holding["cause"], &holding["status"], &holding["state"]),
        (&"exit".into(), &3.into(), &"ended".into())
    );
    assert_eq!(holding["ended_after"], holding["ended_before"]);
    assert!(holding["held_seconds"].as_f64().unwrap() < PATIENCE.as_secs_f64());
    assert!(history(&scene, &["b"]).is_empty());
}

#[test]
fn a_lock_file_that_exists_and_a_new_one_are_logged_until_the_log_is_turned_off() {
    let scene = Scene::new();
    scene.aba(["lock", "old", "--", "true"]).run();
    enable(&scene);
    assert!(is_logged(&scene, "old"));
    for name in ["old", "new"] {
        scene.aba(["lock", name, "--", "true"]).run();
        assert!(is_logged(&scene, name), "{name}");
    }
    assert_eq!(events(&scene), ["acquired", "released", "acquired", "released"]);
    scene.aba(["log", "--disable"]).out("no longer logged").run();
    assert!(!is_logged(&scene, "old") && !is_logged(&scene, "new"));
    scene.aba(["lock", "old", "--", "true"]).run();
    scene.aba(["lock", "newer", "--", "true"]).run();
    assert_eq!(events(&scene).len(), 4);
    let said = scene.aba(["log"]).out("old").err("the log is turned off").run();
    assert_eq!(said.out.matches("exit status 0").count(), 2, "{}", said.out);
    enable(&scene);
    scene.aba(["lock", "newer", "--", "true"]).run();
    assert_eq!(events(&scene).len(), 6);
}

#[test]
fn a_lock_file_that_a_shell_has_created_is_logged() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene
        .bash("exec 200<>\"$ABA_LOCK_DIR/aba-a.lock\" && \"$HELPER\" lock --fd 200 a && \"$HELPER\" unlock --fd 200 a")
        .run();
    assert_eq!(events(&scene), ["acquired", "released"]);
}

#[test]
fn a_removed_log_gets_no_more_lines_and_is_not_created_again() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    fs::remove_file(log_file(&scene)).unwrap();
    scene.aba(["lock", "a", "--", "true"]).run();
    assert!(is_logged(&scene, "a") && !log_file(&scene).exists());
}

#[test]
fn locks_of_scripts_are_logged_by_the_helper_and_by_the_library() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let script = "aba_lock_operation a && aba_unlock_operation a && aba_lock_operation b; : \"$_\"";
    scene.bash_with_library(script).run();
    let holdings = history(&scene, &[]);
    let short: Vec<String> = holdings.iter().map(|one| format!("{} {}", one["lock"], one["cause"])).collect();
    assert_eq!(short, ["\"a\" \"release\"", "\"b\" null"]);
    // The script has ended, and the kernel has released `b`.
    assert_eq!(holdings[1]["state"], "ended");
    assert!(holdings[1]["ended_after"].as_str() < holdings[1]["ended_before"].as_str());
    let said = scene.aba(["log", "b"]).out("ended between ").run();
    assert!(said.out.contains(&format!("(bash -c 'source '\\''{LIBRARY}")), "{}", said.out);
}

#[test]
fn a_lock_that_is_held_and_its_waiters_are_shown() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let holder = scene.holder("a");
    scene.aba(["lock", "a", "--", "true"]).status(75).err("a is already running").run();
    scene.aba(["lock", "-qt", "0.1", "a", "--", "true"]).status(124).run();
    let waiter = scene.aba(["lock", "-qw", "a", "--", "true"]).start();
    scene.wait_for_waiter("a");
    let holdings = history(&scene, &["a"]);
    let [holding] = &holdings[..] else { panic!("{holdings:?}") };
    assert_eq!((&holding["state"], &holding["ended_before"]), (&"held".into(), &Value::Null));
    let outcomes: Vec<&str> =
        holding["waits"].as_array().unwrap().iter().map(|wait| wait["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["refused", "timed-out", "unknown"]);
    scene.aba(["log", "a"]).out("still held, for ").out("refused: pid ").run();
    holder.release();
    waiter.finish();
    let holdings = history(&scene, &["a"]);
    assert_eq!(holdings.len(), 2);
    assert_eq!(holdings[0]["waits"][2]["outcome"], "acquired");
    assert!(holdings[0]["waits"][2]["waited_seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn shared_locks_and_slots_are_shown() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["lock", "-s", "a", "--", "true"]).run();
    scene.aba(["lock", "--slots", "2", "b", "--", "true"]).run();
    scene.aba(["log"]).out(", shared\n").out(", slot 1 of 2\n").run();
    assert_eq!(
        (&history(&scene, &["a"])[0]["mode"], &history(&scene, &["b"])[0]["slots"]),
        (&"shared".into(), &2.into())
    );
}

#[test]
fn ended_holders_are_shown_with_the_cause() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let limited = scene.aba(["lock", "--max-time", "0.1", "a", "--", "sleep", "1000"]);
    limited.status(143).err("maximum time").run();
    let holder = scene.holder("b");
    scene.aba(["unlock", "b", "--kill"]).err("").run();
    drop(holder);
    let holdings = history(&scene, &[]);
    let causes: Vec<&Value> = holdings.iter().map(|one| &one["cause"]).collect();
    assert_eq!(causes[0], "max-time");
    assert_eq!(holdings.len(), 2);
}

#[test]
fn the_log_of_the_variable_has_precedence_and_is_read() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let other = scene.path("other");
    scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_LOG", &other).run();
    assert!(events(&scene).is_empty());
    scene.aba(["log", "a"]).env("ABA_LOCK_LOG", &other).out("exit status 0").run();
    // A rotated log is read, too.
    fs::rename(&other, scene.path("other.1")).unwrap();
    let said = scene.aba(["log", "a", "--log"]).arg(&other).out("exit status 0").run();
    assert_eq!(said.out.lines().count(), 2);
    scene.aba(["log"]).env("ABA_LOCK_LOG", "/dev/null").status(125).err("it is not a regular file").run();
}

#[test]
fn only_holdings_within_the_time_are_shown() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let line = |day: u32, event: &str| {
        format!(
            "{{\"time\":\"2020-01-{day:02}T00:00:00.000Z\",\"event\":\"{event}\",\"lock\":\"old\",\"path\":\"/o\",\"pid\":7}}\n"
        )
    };
    fs::write(log_file(&scene), line(1, "acquired") + &line(2, "released")).unwrap();
    scene.aba(["lock", "a", "--", "true"]).run();
    assert_eq!(history(&scene, &[]).len(), 2);
    let holdings = history(&scene, &["--since", "1h"]);
    assert_eq!(holdings.len(), 1);
    assert_eq!(holdings[0]["lock"], "a");
}

#[test]
fn a_line_of_another_user_does_not_control_the_terminal() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let evil = r"\u001b[2J\u0007";
    let line = format!(
        "{{\"time\":\"2020-01-01T00:00:00.000Z\",\"event\":\"acquired\",\"lock\":\"{evil}\",\"key\":\"{evil}\",\"path\":\"/{evil}\",\"pid\":7,\"user\":\"{evil}\",\"command\":\"{evil}\"}}\nno JSON\n[1]\n"
    );
    fs::write(log_file(&scene), line.clone() + &"x".repeat(200_000) + "\n" + &line).unwrap();
    let said = scene.aba(["log"]).out("pid 7 (?[2J?), user ?[2J?").run();
    assert!(!said.out.contains(['\u{1b}', '\u{7}']), "{:?}", said.out);
    assert_eq!(said.out.matches("pid 7").count(), 2);
}

#[test]
fn new_events_are_followed_also_after_a_rotation() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    scene.aba(["lock", "b", "--", "true"]).run();
    let said = scene.path("said");
    let mut command = scene.program(HELPER);
    command.args(["log", "--follow", "a"]).stdout(fs::File::create(&said).unwrap());
    let mut follower = command.spawn().unwrap();
    let has = |text: &str, number: usize| {
        wait_until(text, || fs::read_to_string(&said).unwrap().matches(text).count() == number);
    };
    has("a: acquired by pid ", 1);
    has("a: released by pid ", 1);
    fs::rename(log_file(&scene), scene.root().join("events.jsonl.1")).unwrap();
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    has("a: released by pid ", 2);
    follower.kill().unwrap();
    follower.wait().unwrap();
    assert!(!fs::read_to_string(&said).unwrap().contains(" b: "));
}

#[test]
fn a_full_log_is_rotated_and_both_are_read() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    let line = fs::read_to_string(log_file(&scene)).unwrap();
    let padding = "{\"time\":\"none\"}\n".repeat(1 << 16);
    fs::write(log_file(&scene), line + &padding).unwrap();
    scene.aba(["lock", "a", "--", "true"]).run();
    assert_eq!(events(&scene), ["acquired", "released"]);
    assert!(fs::metadata(scene.root().join("events.jsonl.1")).unwrap().len() > 1 << 20);
    assert_eq!(history(&scene, &["a"]).len(), 2);
    assert_eq!(file_mode(log_file(&scene)), 0o600);
}

#[test]
fn a_link_in_the_place_of_the_log_is_not_followed() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    fs::remove_file(log_file(&scene)).unwrap();
    fs::write(scene.path("victim"), "").unwrap();
    symlink(scene.path("victim"), log_file(&scene)).unwrap();
    let said = scene.aba(["lock", "a", "--", "true"]).err("cannot write to the event log ").run();
    assert!(
        said.err.contains("locks are not affected\nhint: move that file away, or turn the log off"),
        "{}",
        said.err
    );
    assert_eq!(fs::read_to_string(scene.path("victim")).unwrap(), "");
    scene.aba(["log", "--enable"]).status(125).err("cannot use the event log ").run();
}

#[test]
fn locks_of_files_are_not_in_the_log_of_the_state_root() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    fs::create_dir(scene.path("sticky")).unwrap();
    set_mode(scene.path("sticky"), 0o1777);
    scene.aba(["lock", "--file"]).arg(scene.path("sticky")).args(["--", "true"]).run();
    fs::write(scene.path("f"), "v\n").unwrap();
    scene.aba(["update"]).arg(scene.path("f")).args(["--", "sed", "s/v/w/"]).run();
    assert!(events(&scene).is_empty());
}

#[test]
fn the_status_shows_the_usual_time_and_the_end_of_the_last_run() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let path = scene.lock_file("a").display().to_string();
    let line = |minute: u32, event: &str| {
        format!(
            "{{\"time\":\"2020-01-01T00:{minute:02}:00.000Z\",\"event\":\"{event}\",\"lock\":\"a\",\"path\":\"{path}\",\"pid\":7}}\n"
        )
    };
    let runs = [(0, 2), (10, 14), (20, 29)];
    let lines = runs.iter().map(|(from, to)| line(*from, "acquired") + &line(*to, "released"));
    fs::write(log_file(&scene), lines.collect::<String>()).unwrap();
    let holder = scene.holder("a");
    let usual = "  usually held for 4m00s (the median of the last 3 runs)\n";
    let said = scene.aba(["status", "a"]).out(usual).run();
    assert!(!said.out.contains("until"), "{}", said.out);
    assert_eq!(scene.aba(["status", "--json", "a"]).json()["usual_seconds"], 240);
    holder.release();
    let said = scene.aba(["status", "a"]).status(1).out("usually held for 4m00s (the median of the last 4 runs)").run();
    let lasts = said.out.lines().any(|line| line.starts_with("  held for ") && line.contains("s, until "));
    assert!(lasts && said.out.contains("; exit status 0\n"), "{}", said.out);
    scene.aba(["log", "--disable"]).out("").run();
    let said = scene.aba(["status", "a"]).status(1).out("").run();
    assert!(!said.out.contains("usually") && !said.out.contains("until"), "{}", said.out);
}

#[test]
fn the_metrics_count_the_events_of_the_log() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    scene.aba(["metrics"]).out("aba_lock_acquisitions_total{lock=\"a\",scope=\"directory\"} 1\n").run();
}

#[test]
fn the_doctor_says_whether_events_are_logged() {
    let scene = Scene::new();
    let finding = |scene: &Scene| {
        let output = scene.program(HELPER).args(["doctor", "--json"]).output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = json["findings"].as_array().unwrap().clone();
        let found = findings.into_iter().find(|one| one["check"] == "event log").unwrap();
        format!("{} {}", found["level"].as_str().unwrap(), found["found"].as_str().unwrap())
    };
    scene.make_root();
    assert!(finding(&scene).starts_with("fine no event is logged"));
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    assert!(finding(&scene).ends_with("/events.jsonl has the events, 1 KiB with the older file"));
    fs::write(scene.lock_file("b"), "").unwrap();
    assert!(
        finding(&scene).starts_with("note ") && finding(&scene).contains("the events of 1 lock file are not logged")
    );
    scene.aba(["log", "--disable"]).out("").run();
    assert!(finding(&scene).ends_with("/events.jsonl is turned off"));
}

#[test]
fn the_runs_of_a_task_are_shown() {
    let scene = Scene::new();
    scene.make_root();
    scene.once(["-w", "-i", "a", "--", "true"]).run();
    enable(&scene);
    scene.once(["-qw", "-i", "b", "--", "sh", "-c", "exit 4"]).status(4).run();
    scene.once(["-qw", "--max-time", "0.1", "-i", "c", "--", "sleep", "1000"]).status(143).err("").run();
    // The supervisor writes the line before it removes `pid`.
    scene.wait_for_task_release("b");
    scene.wait_for_task_release("c");
    let said = scene.aba(["log", "b"]).out("  run-once b: pid ").run();
    assert!(said.out.contains("(sh -c 'exit 4'), user ") && said.out.ends_with("; exit status 4\n"), "{}", said.out);
    let holdings = history(&scene, &[]);
    let short: Vec<String> = holdings.iter().map(|one| format!("{} {}", one["lock"], one["cause"])).collect();
    assert_eq!(short, ["\"run-once b\" \"exit\"", "\"run-once c\" \"max-time\""]);
}

#[test]
fn clean_leaves_the_log_alone() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["lock", "a", "--", "true"]).run();
    scene.aba(["clean"]).out("").run();
    assert!(!scene.lock_file("a").exists());
    assert_eq!(events(&scene), ["acquired", "released"]);
}

#[test]
fn a_lock_that_is_not_logged_costs_no_system_call_more() {
    let scene = Scene::new();
    let count = |scene: &Scene| {
        // A record that is shorter than the one before it is cut off.
        let script = format!(
            "exec 200<>\"$(\"$HELPER\" path --create a)\" && \
             strace -qq -e 'trace=!ftruncate' -o '{}' \"$HELPER\" lock --fd 200 a; : $$",
            scene.path("trace").display()
        );
        scene.bash(&script).run();
        fs::read_to_string(scene.path("trace")).unwrap()
    };
    count(&scene);
    let off = count(&scene);
    assert!(!off.contains("events.jsonl"), "{off}");
    enable(&scene);
    let on = count(&scene);
    assert!(on.contains("events.jsonl"), "{on}");
    scene.aba(["log", "--disable"]).out("").run();
    assert_eq!(count(&scene).lines().count(), off.lines().count());
}
