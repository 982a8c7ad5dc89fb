//! `aba-lock log`: the ends of holdings and of waits.

use crate::log::{enable, events, history};
use crate::process::{kill, wait_until};
use crate::scene::Scene;
use serde_json::Value;
use std::fs;

/// A command that says that it runs. The event of the acquisition is logged before the command begins.
const RUN: &str = "echo runs >&2; exec sleep 600";

#[test]
fn a_lock_that_a_child_of_an_ended_command_keeps_is_told_as_held() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene
        .aba([
            "lock",
            "a",
            "--",
            "sh",
            "-c",
            "sleep 600 >&- 2>&- & until grep -qs ^sleep /proc/$!/cmdline; do :; done; exit 3",
        ])
        .status(3)
        .run();
    assert_eq!(events(&scene), ["acquired", "inherited"]);
    let text = scene.aba(["log", "a"]).out("still held, for ").run().out;
    assert!(text.ends_with(" (sleep 600); the command exited with status 3\n"), "{text}");
    let held = &history(&scene, &["a"])[0];
    assert_eq!((&held["state"], &held["cause"], &held["status"]), (&"held".into(), &"exit".into(), &3.into()));
    // The child ends, and no process is left to log that.
    kill(held["child_pid"].as_u64().unwrap().try_into().unwrap(), libc::SIGKILL);
    wait_until("the lock is free", || history(&scene, &["a"])[0]["state"] == "ended");
    let text = scene.aba(["log", "a"]).out("\n  ended between ").run().out;
    assert!(text.ends_with(" (sleep 600) after the command exited with status 3\n"), "{text}");
    assert!(scene.aba(["status", "a"]).status(1).out("\n  ended between ").run().out.contains("(sleep 600)"));
}

#[test]
fn a_command_that_has_waited_and_starts_no_process_is_not_followed_by_one_in_the_log() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let holder = scene.holder("a");
    let waiter = scene.aba(["lock", "--wait", "a", "--", "true"]).err("waiting for a").start();
    // The second thread has begun.
    waiter.wait_for_error("waiting for a");
    holder.release();
    waiter.finish();
    let told = history(&scene, &["a"]);
    let states: Vec<&Value> = told.iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["ended", "ended"]);
    assert!(!events(&scene).contains(&"inherited".to_owned()), "{:?}", events(&scene));
}

#[test]
fn a_child_that_keeps_the_lock_and_is_killed_ends_the_holding() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    scene.aba(["lock", "-s", "a", "--", "sh", "-c", "sleep 600 >&- 2>&- &"]).run();
    assert_eq!(history(&scene, &["a"])[0]["state"], "held");
    scene.aba(["unlock", "a", "--kill"]).err("ended pid ").run();
    let told = &history(&scene, &["a"])[0];
    assert_eq!((&told["state"], &told["cause"]), (&"ended".into(), &"kill".into()));
    assert_eq!(told["ended_after"], told["ended_before"]);
}

#[test]
fn a_command_that_a_newer_call_replaces_is_told_with_that_cause() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let holder = scene.aba(["lock", "a", "--", "sh", "-c", RUN]).status(143).err("replaced by pid ").start();
    holder.wait_for_error("runs");
    scene.aba(["lock", "-q", "--replace", "a", "--", "true"]).run();
    holder.finish();
    let told = history(&scene, &["a"]);
    let causes: Vec<&Value> = told.iter().map(|one| &one["cause"]).collect();
    assert_eq!(causes, ["replace", "exit"]);
    assert_eq!(told[0]["killer_pid"], told[1]["pid"]);
}

#[test]
fn a_call_that_another_one_covers_is_told_as_covered() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let holder = scene.holder_with(&["--coalesce", "a"]);
    let waiter = scene.aba(["lock", "-qw", "--coalesce", "a", "--", "true"]).start();
    scene.wait_for_waiter("a");
    for option in ["-qw", "-qn"] {
        scene.aba(["lock", option, "--coalesce", "a", "--", "true"]).run();
    }
    let told = history(&scene, &["a"]);
    let outcomes: Vec<&Value> = told[0]["waits"].as_array().unwrap().iter().map(|wait| &wait["outcome"]).collect();
    assert_eq!(outcomes, ["unknown", "covered", "covered"]);
    let said = scene.aba(["log", "a"]).out("\n  covered: pid ").run();
    assert!(!said.out.contains("gave up"), "{}", said.out);
    holder.release();
    waiter.finish();
}

#[test]
fn a_command_that_another_call_ends_is_told_with_that_cause() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let holder = scene.aba(["lock", "a", "--", "sh", "-c", RUN]).status(143).err("runs").start();
    holder.wait_for_error("runs");
    let killer = scene.aba(["unlock", "a", "--kill"]).err("ended pid ").start();
    let pid = killer.pid();
    killer.finish();
    holder.finish();
    let told = &history(&scene, &["a"])[0];
    assert_eq!(
        (&told["cause"], &told["killer_pid"], &told["killer_user"]),
        (&"kill".into(), &pid.into(), &told["user"])
    );
    assert!(told["killer_command"].as_str().unwrap().ends_with("aba-lock unlock a --kill"), "{told}");
    scene.aba(["log", "a"]).out(format!("; ended by `unlock --kill`, pid {pid}, user ")).run();
}

#[test]
fn a_command_that_a_signal_ends_is_told_with_the_signal() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let holder = scene.aba(["lock", "a", "--", "sh", "-c", RUN]).status(143).err("runs").start();
    holder.wait_for_error("runs");
    // The helper passes the signal on.
    kill(holder.pid(), libc::SIGTERM);
    holder.finish();
    let told = &history(&scene, &["a"])[0];
    assert_eq!((&told["cause"], &told["status"], &told["signal"]), (&"exit".into(), &143.into(), &"TERM".into()));
    scene.aba(["log", "a"]).out("; ended by signal TERM, exit status 143\n").run();
    scene.aba(["lock", "a", "--", "sh", "-c", "exit 143"]).status(143).run();
    assert_eq!(history(&scene, &["a"])[1]["signal"], Value::Null);
}

#[test]
fn the_helper_that_waits_for_the_command_with_a_slot_is_no_second_holder() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    let start = || scene.aba(["lock", "--slots", "2", "a", "--", "sh", "-c", RUN]).status(143).err("runs").start();
    let holders = [start(), start()];
    for holder in &holders {
        holder.wait_for_error("runs");
    }
    let refused = scene.aba(["lock", "-n", "--slots", "2", "a", "--", "true"]).status(75);
    refused.err(", and 1 more; 2 of 2 slots are held\n").run();
    scene.aba(["list"]).out(" (and 1 more)\n").run();
    let said = scene.aba(["status", "a"]).out("slot 1 (inherited)\n").out("slot 2 (inherited)\n").run();
    assert_eq!(said.out.matches("(inherited)").count(), 2, "{}", said.out);
    for holder in holders {
        kill(holder.pid(), libc::SIGTERM);
        holder.finish();
    }
}

#[test]
fn a_logged_call_for_two_names_of_one_file_ends_with_the_status_of_the_command() {
    let scene = Scene::new();
    let [one, two, log] = ["one", "two", "log"].map(|name| scene.path(name));
    fs::write(&one, "").unwrap();
    fs::hard_link(&one, &two).unwrap();
    let call = scene.aba(["lock", "-o", "--file"]).arg(&one).arg("--file").arg(&two).args(["--", "sh", "-c", "exit 3"]);
    call.env("ABA_LOCK_LOG", &log).status(3).run();
    let text = fs::read_to_string(&log).unwrap();
    let events: Vec<&str> = text.lines().map(|line| line.split('"').nth(7).unwrap()).collect();
    assert_eq!(events, ["acquired", "released"]);
}
