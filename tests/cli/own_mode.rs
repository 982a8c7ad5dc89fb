//! Calls that need a file or directory of this user, whose mode excludes its own owner.

use crate::process::{is_root, set_mode};
use crate::scene::{NOBODY, Scene};
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;

/// Gives a file or directory to the user of [`Scene::unprivileged`]: root ignores modes.
fn give_to_user(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A scene in which a lock, a task, a registry, the log, a file with its lock file, and a directory belong to this user.
fn scene_of_user() -> Scene {
    let scene = Scene::new();
    let root = scene.root();
    fs::create_dir_all(root.join("d")).unwrap();
    fs::write(root.join("f"), "").unwrap();
    fs::write(root.join("f.lock"), "").unwrap();
    for name in ["", "d", "f", "f.lock"] {
        give_to_user(&root.join(name));
    }
    let user = |line: &str| scene.unprivileged().args(line.split_whitespace());
    user("lock a -- true").run();
    user("run-once -qwi t -- true").run();
    user("reserve --pool p --range 1-9 --probe none").out("1\n").run();
    user("reserve --pool p --range 1-9 --probe none --tag x -- true").run();
    user("log --enable").out("events are logged").run();
    scene
}

/// The calls that fail if the mode of a file or directory in the state root is 0.
const CALLS: &[(&str, &str)] = &[
    ("aba-a.lock", "lock a -- true"),
    ("aba-a.lock", "lock --slots 2 a -- true"),
    ("aba-a.lock", "lock --fcntl --file ROOT/aba-a.lock -- true"),
    ("f", "lock --file ROOT/f -- true"),
    ("f", "update ROOT/f -- cat"),
    ("f.lock", "update ROOT/f -- cat"),
    ("d", "lock --file ROOT/d -- true"),
    ("d", "lock --file ROOT/d/f -- true"),
    ("d", "status --file ROOT/d/f"),
    ("runner/t", "run-once -i t -- true"),
    ("runner/t/exit", "run-once -i t -- true"),
    ("runner/t/lock", "run-once -r -i t"),
    ("reserve", "reserve --pool p --range 1-9"),
    ("reserve/p", "reserve --pool p --range 1-9 --probe none"),
    ("reserve/p", "reserve --list"),
    ("reserve/p.lock", "release --pool p"),
    ("reserve/p.d/2.lock", "reserve --pool p --range 1-9 --probe none --tag x -- true"),
    ("events.jsonl", "log"),
    ("", "lock a -- true"),
    ("", "status a"),
    ("", "list"),
    ("", "reserve --pool p --range 1-9"),
];

#[test]
fn the_hint_about_an_inaccessible_file_of_this_user_is_to_change_its_mode() {
    let scene = scene_of_user();
    for (name, line) in CALLS {
        let place = scene.root().join(name);
        let mode = fs::metadata(&place).unwrap().permissions();
        let rights = if place.is_dir() { "rwx" } else { "rw" };
        set_mode(&place, 0);
        // A path that ends with `/` is the root.
        let place_name = place.display().to_string();
        let place_name = place_name.trim_end_matches('/');
        let hint =
            format!("hint: the mode of {place_name} denies this to its owner: `chmod u+{rights} {place_name}`\n");
        let line = line.replace("ROOT", scene.root().to_str().unwrap());
        let call = scene.unprivileged().args(line.split_whitespace()).status(125);
        call.err("Permission denied").err(hint).run();
        fs::set_permissions(&place, mode).unwrap();
    }
}

#[test]
fn status_doctor_and_log_give_the_command_that_makes_a_lock_file_accessible() {
    let scene = scene_of_user();
    let file = scene.lock_file("a");
    set_mode(&file, 0);
    let hint = format!("the mode of {0} denies this to its owner: `chmod u+rw {0}`", file.display());
    let call = scene.unprivileged().args(["status", "a"]).status(1).out("  problem: its lock file cannot be opened: ");
    call.out(format!("  hint: {hint}\n")).run();
    let call = scene.unprivileged().args(["doctor"]).status(1).out(format!("cannot open {}", file.display()));
    call.out(format!("\n       hint: {hint}\n")).run();
    let call = scene.unprivileged().args(["log", "--enable"]).status(125).out("events are logged");
    call.err("cannot turn logging on for ").err(format!("\nhint: {hint}; then run `")).run();
}

#[test]
fn status_says_that_a_directory_cannot_be_opened_but_knows_its_holder() {
    let scene = scene_of_user();
    let directory = scene.root().join("d");
    let named = directory.to_str().unwrap().to_owned();
    let status = || scene.unprivileged().args(["status", "--file", &named]);
    let status_json = || scene.unprivileged().args(["status", "--json", "--file", &named]);
    let problem = "its lock file cannot be opened: Permission denied";
    set_mode(&directory, 0);
    let call = status().status(1).out(": free\n").out(format!("  problem: {problem}\n"));
    call.out(format!("  hint: the mode of {named} denies this to its owner: `chmod u+rwx {named}`\n")).run();
    let said = status_json().status(1).out("{").run().out;
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((said["state"].as_str(), said["problem"].as_str()), (Some("free"), Some(problem)));
    // A directory that can be read, but not searched, can be locked.
    set_mode(&directory, 0o400);
    let said = status().status(1).out(": free\n").run().out;
    assert!(!said.contains("problem"), "{said}");
    let holder = scene.flock_holder(&directory);
    set_mode(&directory, 0);
    status().out(": held, exclusive\n").out(format!("  problem: {problem}\n")).run();
    holder.release();
    set_mode(&directory, 0o700);
}
