//! `run-once`: options that have an effect only in some modes.

use crate::process::set_modified;
use crate::scene::{Scene, with_command};
use std::fs;

#[test]
fn a_timeout_implies_a_wait() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["--timeout", "0.05", "-i", "a"], &gate.task(3))).status(124).out("").err("task a").run();
    gate.open();
    scene.once(["-q", "-W", "600", "-i", "a"]).status(3).run();
    scene.once(["-q", "-W", "600", "-w", "-i", "a"]).status(3).run();
    // The last mode counts.
    scene.once(["-q", "-p", "-W", "600", "-w", "-i", "a"]).status(3).run();
}

#[test]
fn an_option_that_has_no_effect_in_the_mode_is_refused() {
    let scene = Scene::new();
    let modes = ["-s", "-p", "-A", "-R", "-o", "-e", "-E", "-r", "--list"];
    for option in ["--purge", "--follow", "--validate"] {
        for call in [&[option, "-i", "a"][..], &[option, "-i", "a", "--", "true"], &["-w", "-s", option, "-i", "a"]] {
            scene.once(call).status(2).err(format!("run-once: {option} has no effect without --wait\n")).run();
        }
    }
    for mode in modes {
        for option in ["--timeout=5", "--purge", "--follow", "--validate"] {
            let name = option.trim_end_matches("=5");
            let said = format!("run-once: {name} has no effect without --wait\n");
            scene.once([mode, option, "-i", "a"]).status(2).err(said.as_str()).run();
            scene.once([option, "-w", mode, "-i", "a"]).status(2).err(said.as_str()).run();
        }
        let combined = scene.once([mode, "--combined-log", "-i", "a"]);
        if mode == "-s" {
            combined.status(1).err("no such task: a").run();
        } else {
            combined.status(2).err("run-once: --combined-log has no effect without --start\n").run();
        }
    }
    // Parsed without clap if nothing else is given.
    for words in [["-p", "-W", "5"], ["-W", "5", "-p"], ["--timeout", "5", "-s"]] {
        scene.once([&words[..], &["-i", "a"]].concat()).status(2).err("--timeout has no effect").run();
    }
    for option in ["-w", "--wait", "--timeout=5"] {
        let call = [option, "--combined-log", "-i", "a", "--", "true"];
        scene.once(call).status(2).err("--combined-log has no effect without --start").run();
    }
    for (mode, name) in
        [("-o", "--stdout"), ("-e", "--stderr"), ("-r", "--reset"), ("--list", "--list"), ("--json", "--list")]
    {
        let said = format!("run-once: --ttl has no effect with {name}\n");
        scene.once([mode, "-t", "60", "-i", "a"]).status(2).err(said.as_str()).run();
        scene.once(["-t", "60", mode, "-i", "a"]).status(2).err(said.as_str()).run();
    }
    for letter in ["-G", "-F"] {
        scene.once([letter, "--ttl", "60"]).status(2).err("--ttl has no effect with --reset-").run();
    }
    assert!(!scene.root().exists());
}

#[test]
fn a_reset_of_all_tasks_takes_no_id_mode_or_command() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "true"]).run();
    for letter in ["-G", "-F"] {
        for rest in [&["-i", "a"][..], &["-w"], &["-r"], &["--list"], &["--", "true"]] {
            scene.once([&[letter][..], rest].concat()).status(2).err("cannot be used with").run();
        }
    }
    scene.once(["-p", "-i", "a"]).run();
}

#[test]
fn the_exit_status_of_a_task_expires_like_its_result() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "true"]).run();
    scene.once(["-E", "-t", "60", "-i", "a"]).out("0\n").run();
    set_modified(scene.task_file("a", "exit"), -100);
    scene.once(["-E", "-t", "60", "-i", "a"]).status(1).out("").run();
    scene.once(["-p", "-i", "a"]).status(1).run();
}

#[test]
fn texts_for_a_wait_are_accepted_in_every_mode() {
    let scene = Scene::new();
    scene.once(["-qwi", "a", "--", "true"]).run();
    for mode in ["-s", "-w", "-p", "-A", "-o", "-e", "-r"] {
        scene.once([mode, "-q", "-S", "-m", "text", "--failure-note", "note", "-i", "a", "--", "true"]).run();
    }
    assert_eq!(fs::read_to_string(scene.task_file("a", "exit")).ok(), None);
}
