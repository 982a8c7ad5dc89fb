//! Repeated options: the tests try every option of every command.

#[allow(dead_code, reason = "the definitions of another program")]
#[path = "../../src/bin/definitions/keeper.rs"]
pub(crate) mod keeper;
#[allow(dead_code, reason = "the definitions of another program")]
#[path = "../../src/bin/definitions/service.rs"]
mod service;

use crate::args::Cli;
use crate::scene::{HELPER, Scene};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command, CommandFactory};
use std::collections::BTreeSet;
use std::fs;

/// The options that collect their values. Every other option with a value is refused the second time, with status 2.
const COLLECT: [&str; 10] = [
    "clean --pid-file",
    "lock --bind",
    "lock --fd",
    "lock --file",
    "lock --key",
    "reserve --exclude",
    "update --check",
    "wait --file",
    "wait --key",
    "write --check",
];

/// `flock` keeps the last value, as flock(1) does. `lease` and its options belong to the keeper.
const EXCEPTIONS: [&str; 2] = ["flock", "lease"];

/// The message of clap about a second value.
const REFUSED: &str = "cannot be used multiple times";

/// A value that the option takes.
pub(crate) fn sample_value(arg: &Arg) -> String {
    if let Some(value) = arg.get_possible_values().first() {
        return value.get_name().to_owned();
    }
    match arg.get_value_names().map(|names| names[0].as_str()) {
        Some("A-B" | "N|A-B") => "5000-5001".to_owned(),
        Some("LIST") => "tcp".to_owned(),
        Some("SIGNAL") => "TERM".to_owned(),
        _ => "30".to_owned(),
    }
}

#[test]
fn every_repeated_option_collects_is_a_flag_or_is_refused() {
    let scene = Scene::new();
    let mut collect = BTreeSet::new();
    let mut refused = 0;
    for command in Cli::command().get_subcommands() {
        if EXCEPTIONS.contains(&command.get_name()) {
            continue;
        }
        for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
            let Some(long) = arg.get_long() else { panic!("{} has an option without a long name", command.get_name()) };
            let option = format!("{} --{long}", command.get_name());
            let takes_value = arg.get_action().takes_values();
            let word = if takes_value { format!("--{long}={}", sample_value(arg)) } else { format!("--{long}") };
            let mut call = scene.program(HELPER);
            call.args([command.get_name(), &word, &word]);
            if option == "log --follow" {
                // Otherwise it does not end.
                call.arg("--enable");
            }
            let output = call.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!said.contains("invalid value"), "{option}: {said}");
            if matches!(arg.get_action(), ArgAction::Append) {
                assert!(!said.contains(REFUSED), "{option}: {said}");
                collect.insert(option);
            } else if takes_value {
                assert_eq!(output.status.code(), Some(2), "{option}: {said}");
                assert!(said.contains(REFUSED), "{option}: {said}");
                refused += 1;
            } else {
                assert!(!said.contains(REFUSED), "{option} is a flag, and was refused: {said}");
            }
        }
    }
    assert_eq!(collect.iter().map(String::as_str).collect::<Vec<_>>(), COLLECT);
    assert!(refused > 30, "only {refused} options with a value were tried");
}

/// Returns the options of `command` and its subcommands that collect values. Every other option with a value must be refused.
fn find_collecting_options(command: &Command, path: &[&str]) -> Vec<String> {
    let mut collect = Vec::new();
    for arg in command.get_arguments().filter(|arg| arg.get_long().is_some()) {
        let option = format!("{} --{}", path.join(" "), arg.get_long().unwrap());
        let takes_value = arg.get_action().takes_values();
        let word = match arg.get_long().unwrap() {
            long if takes_value => format!("--{long}={}", sample_value(arg)),
            long => format!("--{long}"),
        };
        // With the unknown option, no line is valid.
        let line = path.iter().copied().chain([word.as_str(), word.as_str(), "--no-such-option"]);
        let definition = if path[0] == "aba-lockd" { service::Cli::command() } else { keeper::Cli::command() };
        let error = definition.try_get_matches_from(line).unwrap_err();
        let refused = error.kind() == ErrorKind::ArgumentConflict;
        assert!(refused || error.kind() == ErrorKind::UnknownArgument, "{option}: {error}");
        if matches!(arg.get_action(), ArgAction::Append) {
            assert!(!refused, "{option}: {error}");
            collect.push(option);
        } else {
            assert!(refused || !takes_value, "{option} drops its first value");
        }
    }
    for command in command.get_subcommands() {
        collect.extend(find_collecting_options(command, &[path, &[command.get_name()]].concat()));
    }
    collect
}

#[test]
fn the_keeper_and_the_service_drop_no_value() {
    assert_eq!(find_collecting_options(&keeper::Cli::command(), &["aba-lock-keeper"]), ["aba-lock-keeper hold --lock"]);
    let expected = ["aba-lockd serve --allow-host", "aba-lockd token new --permission"];
    assert_eq!(find_collecting_options(&service::Cli::command(), &["aba-lockd"]), expected);
}

#[test]
fn a_repeated_file_locks_every_file_or_none() {
    let scene = Scene::new();
    let (one, two) = (scene.path("one"), scene.path("two"));
    let paths = [one.to_str().unwrap(), two.to_str().unwrap()];
    let both = ["lock", "--file", paths[0], "--file", paths[1]];
    let holder = scene.holder_with(&both[1..]);
    for path in paths {
        scene.aba(["lock", "--file", path, "--", "true"]).status(75).err("held by pid").run();
    }
    holder.release();
    let _second = scene.holder_with(&["--file", paths[1]]);
    let call = [both.as_slice(), &["--", "true"]].concat();
    scene.aba(call).status(75).err(format!("{} is held by pid", paths[1])).run();
    scene.aba(["lock", "--file", paths[0], "--", "true"]).run();
}

#[test]
fn two_paths_to_one_file_are_one_lock() {
    let scene = Scene::new();
    let (one, two, link) = (scene.path("one"), scene.path("two"), scene.path("link"));
    fs::write(&one, "").unwrap();
    fs::hard_link(&one, &two).unwrap();
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let paths: Vec<&str> = [&one, &two, &link, &one].map(|path| path.to_str().unwrap()).to_vec();
    let options: Vec<&str> = paths.iter().flat_map(|path| ["--file", path]).collect();
    let call: Vec<&str> = [&["lock", "-w"], options.as_slice(), &["--", "true"]].concat();
    scene.aba(call).run();
    let script = r#"exec 8<>"$1" 9<>"$2"; "$HELPER" lock -w --file "$1" --fd 8 --file "$2" --fd 9"#;
    scene
        .call("bash")
        .args(["-c", script, "bash", paths[0], paths[1]])
        .status(2)
        .err("lock: the file ")
        .err("/two is given twice\n")
        .run();
}

#[test]
fn a_repeated_file_takes_a_descriptor_each() {
    let scene = Scene::new();
    let script = r#"exec 8<>one 9<>two
        "$HELPER" lock --file one --fd 8 --file two --fd 9 || exit
        (exec 8>&- 9>&-; for file in one two; do "$HELPER" lock -q --file "$file" -- true; [[ $? == 75 ]] || exit 91; done) || exit
        "$HELPER" lock --file one --file two --fd 8; [[ $? == 2 ]]"#;
    scene.bash_here(script).err("1 descriptor for 2 files").run();
}

#[test]
fn every_check_must_accept_the_new_content() {
    let scene = Scene::new();
    let file = scene.path("file");
    let path = file.to_str().unwrap();
    fs::write(&file, "old\n").unwrap();
    for checks in [["false", "true"], ["true", "false"]] {
        let call = ["update", "--check", checks[0], "--check", checks[1], path, "echo", "new"];
        scene.aba(call).status(1).err("refused").run();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old\n");
    }
    scene.aba(["update", "--check", "true", "--check", "grep -q new", path, "echo", "new"]).run();
    assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
}

#[test]
fn wait_accepts_a_number_of_seconds() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    for limit in ["--wait=0.05", "-w=50ms", "--timeout=0.05s"] {
        scene.aba(["lock", "-q", limit, "a", "--", "true"]).status(124).run();
    }
    scene.aba(["lock", "-q", "--wait=0", "a", "--", "true"]).status(124).run();
    // The letter after -w is an option, not a value.
    let waiter = scene.aba(["lock", "-wq", "a", "--", "true"]).start();
    scene.wait_for_waiter("a");
    holder.release();
    waiter.finish();
    let command = scene.aba(["lock", "--wait=60", "-t", "5", "a", "--", "true"]).status(2);
    command.err("lock: give either --wait=TIME or --timeout, not both\n").run();
    scene.aba(["lock", "--wait=soon", "a", "--", "true"]).status(2).err("not a time such as 30, 90s or 1h30m").run();
    scene.aba(["lock", "--wait=", "a", "--", "true"]).status(2).err("aba-lock: lock: ").run();
}

#[test]
fn each_option_for_a_time_takes_a_time_with_units() {
    let scene = Scene::new();
    fs::write(scene.path("file"), "one\n").unwrap();
    fs::write(scene.path("aba-old.lock"), "").unwrap();
    for call in [
        &["lock", "-t", "1h30m", "a", "--", "true"][..],
        &["lock", "--timeout=90s", "a", "--", "true"],
        &["lock", "--wait=2d", "a", "--", "true"],
        // Parsed by clap.
        &["lock", "-qw=1w", "a", "--", "true"],
        &["lock", "--timeout", "5m", "--on-busy", "true", "a", "--", "true"],
        &["run-once", "-i", "a", "-W", "5m", "--wait", "--", "true"],
        &["run-once", "-i", "a", "-w", "--timeout=5m", "--ttl=1d", "--", "true"],
        &["run-once", "-i", "a", "-t", "1d12h", "-p"],
        &["update", "-t", "1m", scene.path("file").to_str().unwrap(), "--", "cat"],
        &["reserve", "-t", "1m"],
        &["reserve", "--expire", "30d"],
        &["exclude", "--timeout", "1m", "9"],
        &["release", "--timeout", "1m"],
        &["clean", "--older-than", "1h30m"],
        &["unlock", "a", "--kill", "-q", "--grace", "1m"],
    ] {
        scene.aba(call).out("").run();
    }
    for wrong in ["36h", "1.5", "x"] {
        scene.aba(["reserve", "--expire", wrong]).status(2).err("not a number of days, such as 30 or 30d").run();
    }
    scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_TIMEOUT", "1m30s").run();
    scene.aba(["lock", "--ttl", "1h30m", "a", "--", "true"]).status(2).err("needs a lease").run();
}

#[test]
fn a_time_as_a_separate_argument_is_refused() {
    let scene = Scene::new();
    for call in [
        ["lock", "-w", "60", "a", "--", "true"].as_slice(),
        &["lock", "--wait", "60", "a", "--", "true"],
        // Parsed by clap.
        &["lock", "-qw", "60", "a", "--", "true"],
        &["lock", "-w", "60", "a", "--fd", "9"],
        &["lock", "a", "-w", "60", "--", "true"],
        &["lock", "a", "--wait", "60", "b", "--", "true"],
        &["lock", "a", "-qw", "60", "--", "true"],
    ] {
        scene.aba(call).status(2).err("60 would be the name of a lock, not a time to wait").err("use --wait=60").run();
    }
    for (time, hint) in [
        ("1m", "at most 1m, use --wait=1m\n"),
        ("1h30m", "at most 1h30m, use --wait=1h30m\n"),
        ("0.5s", "at most 0.5s, use --wait=0.5s\n"),
        ("0.5", "at most 0.5 seconds, use --wait=0.5\n"),
    ] {
        for call in [["-w", time, "a"], ["--wait", time, "a"], ["-qw", time, "a"], ["a", "-w", time]] {
            let call = scene.aba(["lock"]).args(call).args(["--", "true"]).status(2);
            call.err(format!("lock: {time} would be the name of a lock, not a time to wait\n")).err(hint).run();
        }
        for flag in ["-n", "-s", "-x", "--shared"] {
            let call = scene.aba(["lock", flag, time, "a", "--", "true"]).status(2);
            let text = format!("lock: {time} would be the name of a lock, because {flag} takes no value\n");
            call.err(text).err(format!("; to lock {time}, write it after the other names\n")).run();
        }
    }
    assert!(!scene.root().exists());
    // Digits are a name if they are the only name, or do not follow the option.
    for names in [["60"].as_slice(), &["1m"], &["a", "60"], &["a", "1m"], &["1x", "a"], &["60a", "a"]] {
        let call: Vec<&str> = [&["lock", "-w"], names, &["--", "true"]].concat();
        scene.aba(call).run();
    }
    scene.aba(["lock", "--wait=5", "60", "a", "--", "true"]).run();
    scene.aba(["lock", "60", "a", "--", "true"]).run();
    scene.aba(["lock", "a", "-w", "b", "60", "--", "true", "-w", "60"]).run();
}

#[test]
fn a_number_after_a_flag_is_not_taken_for_a_name_next_to_other_names() {
    let scene = Scene::new();
    for (flag, hint) in [
        ("-n", "to run at most 3 commands at the same time, use --slots=3"),
        ("--nonblock", "to run at most 3 commands"),
        ("-qn", "to run at most 3 commands"),
        ("-s", "to lock a descriptor of a script, use --fd=3"),
        ("-x", "to lock a descriptor of a script, use --fd=3"),
        ("--shared", "to lock a descriptor of a script, use --fd=3"),
    ] {
        let text =
            format!("aba-lock: lock: 3 would be the name of a lock, because {flag} takes no value\nhint: {hint}");
        for names in [[flag, "3", "a"], ["a", flag, "3"]] {
            let call = scene.aba(["lock"]).args(names).args(["--", "true"]).status(2).err(&text);
            call.err("; to lock 3, write it after the other names\n").run();
        }
    }
    for names in [["-n", "3", "--key", "u"], ["--key", "u", "--nonblock", "3"]] {
        let call = scene.aba(["lock"]).args(names).args(["--", "true"]).status(2);
        call.err("lock: 3 would be the name of a lock, because -").run();
    }
    let call = scene.aba(["lock", "-w", "60", "--key", "u", "--", "true"]).status(2);
    call.err("lock: 60 would be the name of a lock, not a time to wait").run();
    scene.aba(["lock", "-x", "3", "a", "--fd", "9", "--fd", "8"]).status(2).err("because -x takes no value").run();
    assert!(!scene.root().exists());
    for names in [["-n", "3", "4"], ["-n", "a", "3"], ["-q", "3", "a"], ["3", "a", "-n"], ["-t", "3", "a"]] {
        scene.aba(["lock"]).args(names).args(["--", "true", "-n", "3"]).run();
    }
    scene.aba(["lock", "-n", "3", "--", "true"]).run();
    scene.aba(["lock", "-w", "--key", "u", "60", "--", "true"]).run();
}
