//! Variables that a command does not need never make it fail.

use crate::process::is_locked;
use crate::scene::{HELPER, Scene};
use std::fs;

/// Variables that scripts set, with values that are not valid or that are of other locks.
const CHANGES: [&str; 12] = [
    "ABA_LOCK_SCOPE=wrong",
    "ABA_LOCK_SCOPE=system",
    "ABA_LOCK_DIR=relative",
    "ABA_LOCK_DIR=/other",
    "ABA_LOCK_DIR=",
    "ABA_LOCK_TIMEOUT=x",
    "ABA_LOCK_SERVER=https://127.0.0.1:1",
    "ABA_LOCK_TTL=x",
    "ABA_LOCK_FDS=x",
    "RUN_ONCE_DIR=x",
    "ABA_LOCK_ON_CONFLICT=x",
    "HOME=",
];

#[test]
fn a_release_is_not_refused_because_of_a_variable_that_was_set_after_the_acquisition() {
    let scene = Scene::new();
    let file = scene.lock_file("a");
    for change in CHANGES {
        let checks = format!(
            "exec 200<>\"$(\"$HELPER\" path --create a)\" && \"$HELPER\" lock --fd 200 a || exit 9
             (export '{change}'; \"$HELPER\" unlock --fd 200 a) || exit 10
             \"$HELPER\" status -q a && exit 11; exit 0"
        );
        scene.bash(&checks).env("ABA_LOCK_KEEPER", "/none").run();
        for options in ["", "--no-inherit", "--slots 2"] {
            let script = format!(
                "aba_lock_operation {options} a || exit 9; kept=$ABA_LOCK_DIR; export '{change}'
                 aba_unlock_operation a || exit 10
                 unset ABA_LOCK_SCOPE ABA_LOCK_SERVER; ABA_LOCK_DIR=$kept \"$HELPER\" status -q a && exit 11; exit 0"
            );
            scene.bash_with_library(&script).env("ABA_LOCK_KEEPER", "/none").env("HELPER", HELPER).run();
        }
        assert!(!is_locked(&file), "{change}");
    }
}

#[test]
fn a_descriptor_on_another_file_is_not_released_whatever_the_variables() {
    let scene = Scene::new();
    let script = "exec 200<>\"$(\"$HELPER\" path --create a)\" && \"$HELPER\" lock --fd 200 a || exit 9
        export ABA_LOCK_SCOPE=wrong; \"$HELPER\" unlock --fd 200 b; echo $?
        unset ABA_LOCK_SCOPE; \"$HELPER\" unlock --fd 200 b; echo $?; \"$HELPER\" status -q a; echo $?";
    let said = scene.bash(script).out("2\n76\n0\n").err("ABA_LOCK_SCOPE").run();
    assert!(said.err.contains("is not open on"), "{}", said.err);
}

#[test]
fn a_command_does_not_read_a_variable_that_it_does_not_use() {
    let scene = Scene::new();
    scene.make_root();
    let file = scene.path("f").display().to_string();
    fs::write(&file, "x\n").unwrap();
    fs::write(scene.path("log"), "").unwrap();
    let log = scene.path("log").display().to_string();
    let rows: [(&str, &str, &[&str], i32); 10] = [
        ("ABA_LOCK_TIMEOUT", "x", &["lock", "-n", "a", "--", "true"], 0),
        ("ABA_LOCK_TIMEOUT", "x", &["lock", "-w", "a", "--", "true"], 0),
        ("ABA_LOCK_TIMEOUT", "x", &["lock", "-t", "1", "a", "--", "true"], 0),
        ("ABA_LOCK_TIMEOUT", "x", &["update", "-t", "1", &file, "--", "cat"], 0),
        ("ABA_LOCK_TIMEOUT", "x", &["status", "-q", "a"], 1),
        ("ABA_LOCK_SCOPE", "x", &["lock", "--file", &file, "--", "true"], 0),
        ("ABA_LOCK_SCOPE", "x", &["status", "-q", "--file", &file], 1),
        ("ABA_LOCK_SCOPE", "x", &["wait", "-t", "1", "--file", &file], 0),
        ("RUN_ONCE_DIR", "x", &["clean", "-q"], 0),
        ("ABA_LOCK_DIR", "x", &["log", "--log", &log], 1),
    ];
    for (name, value, args, status) in rows {
        let output = scene.program(HELPER).args(args).env(name, value).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{name} {args:?}: {said}");
        assert!(!said.contains(&format!("{name} is")), "{name} {args:?}: {said}");
    }
}
