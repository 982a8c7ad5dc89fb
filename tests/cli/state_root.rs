//! The directories for locks and tasks: when they are created, and the errors if they cannot be.

use crate::call::Call;
use crate::process::{file_mode, is_root, set_mode};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A call of the helper with these variables, without `ABA_LOCK_DIR` unless it is one of them.
fn call(scene: &Scene, variables: &[(&str, &Path)], args: &[&str]) -> Call {
    let call = scene.aba(args).env_remove("ABA_LOCK_DIR");
    variables.iter().fold(call, |call, (name, value)| call.env(name, value))
}

/// The commands that create a directory for locks.
const MAKERS: [&[&str]; 4] = [
    &["lock", "a", "--", "echo", "ran"],
    &["path", "--create", "a"],
    &["reserve", "--probe", "none"],
    &["run-once", "-i", "a", "--", "true"],
];

#[test]
fn a_missing_home_directory_is_never_created() {
    let scene = Scene::new();
    let home = scene.path("nobody/home");
    let variables = [("HOME", home.as_path())];
    let hint = format!(
        "hint: the home directory {} does not exist: set ABA_LOCK_DIR to a writable directory on a local disk\n",
        home.display()
    );
    for args in MAKERS {
        call(&scene, &variables, args).status(125).err("cannot create the directory for locks ").err(&hint).run();
        assert!(!scene.path("nobody").exists(), "{args:?}");
    }
    // The shell library passes the directory in the variable.
    let passed_on = home.join(".aba");
    let both = [("HOME", home.as_path()), ("ABA_LOCK_DIR", passed_on.as_path())];
    call(&scene, &both, MAKERS[0]).status(125).err(&hint).run();
    assert!(!scene.path("nobody").exists());
    let mut doctor = scene.program(HELPER);
    doctor.env_remove("ABA_LOCK_DIR").env("HOME", &home).arg("doctor");
    let said = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    let found = format!("the home directory {} (from HOME) does not exist: no lock can be acquired", home.display());
    assert!(said.contains(&found) && !scene.path("nobody").exists(), "{said}");
    // In an existing home, the directory is created.
    fs::create_dir_all(&home).unwrap();
    for args in MAKERS {
        call(&scene, &variables, args).out("").run();
    }
    let mode = |path: &Path| file_mode(path);
    assert_eq!([home.join(".aba"), home.join(".aba/runner")].map(|path| mode(&path)), [0o700, 0o711]);
}

#[test]
fn a_configured_directory_is_created_only_in_an_existing_one() {
    let scene = Scene::new();
    let locks = scene.path("mistyped/sub/locks");
    let variables = [("ABA_LOCK_DIR", locks.as_path())];
    let parent = scene.path("mistyped/sub");
    let hint = format!(
        "hint: the directory {} does not exist: set ABA_LOCK_DIR to a writable directory on a local disk\n",
        parent.display()
    );
    for args in MAKERS {
        call(&scene, &variables, args).status(125).err("cannot create the directory for locks ").err(&hint).run();
    }
    // A command that only reads finds no locks.
    call(&scene, &variables, &["status", "a"]).status(1).out("a: free (no lock file").run();
    let library =
        scene.bash_with_library("aba_lock_operation a; echo 'not reached'").env("ABA_LOCK_DIR", &locks).status(125);
    library.err(&hint).run();
    let mut doctor = scene.program(HELPER);
    doctor.env("ABA_LOCK_DIR", &locks).arg("doctor");
    let said = String::from_utf8(doctor.output().unwrap().stdout).unwrap();
    let found =
        format!("the directory {} (from ABA_LOCK_DIR) does not exist: no lock can be acquired", parent.display());
    assert!(said.contains(&found) && !scene.path("mistyped").exists(), "{said}");
    fs::create_dir_all(&parent).unwrap();
    for args in MAKERS {
        call(&scene, &variables, args).out("").run();
    }
    assert_eq!(file_mode(&locks), 0o700);
}

#[test]
fn the_parents_of_a_configured_directory_for_tasks_are_created() {
    let scene = Scene::new();
    let (locks, tasks) = (scene.path("locks"), scene.path("c/d/tasks"));
    let variables = [("ABA_LOCK_DIR", locks.as_path()), ("RUN_ONCE_DIR", tasks.as_path())];
    for args in MAKERS {
        call(&scene, &variables, args).out("").run();
    }
    let mode = |name: &str| file_mode(scene.path(name));
    assert_eq!(["locks", "c", "c/d", "c/d/tasks"].map(mode), [0o700, 0o711, 0o711, 0o711]);
}

#[test]
fn a_new_file_in_a_directory_of_another_user_is_a_matter_for_root() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let (root, locks) = (scene.root(), scene.root().display().to_string());
    fs::create_dir_all(&root).unwrap();
    set_mode(&root, 0o755);
    let user = |args: &[&str]| scene.unprivileged().args(args).env("ABA_LOCK_DIR", &root);
    let create = format!("chmod a+rw \"$(ABA_LOCK_DIR={locks} aba-lock path --create other)\"");
    let hint = format!(
        "hint: {locks} belongs to user root: to share the lock, run as root: `{create}`; for locks of your own"
    );
    user(&["lock", "other", "--", "true"]).status(125).err("cannot open lock file ").err(hint).run();
    let numbers = format!("hint: {locks} belongs to user root: run this command as that user; another directory would");
    user(&["reserve", "--probe", "none"]).status(125).err(numbers).run();
    let tasks = format!("hint: {locks} belongs to user root: run this command as that user; for tasks of your own");
    user(&["run-once", "-i", "a", "--", "true"]).status(125).err(tasks).run();
    // In the directory for tasks, too.
    scene.aba(["run-once", "-qwi", "b", "--", "true"]).run();
    let tasks = format!("hint: {locks}/runner belongs to user root: run this command as that user; for tasks");
    user(&["run-once", "-i", "a", "--", "true"]).status(125).err(tasks).run();
    // The command of the hint works.
    let command = create.replace("aba-lock", HELPER);
    scene.call("sh").args(["-c", &command]).run();
    user(&["lock", "other", "--", "echo", "ran"]).out("ran\n").run();
}

#[test]
fn a_file_in_place_of_a_directory_is_named() {
    let scene = Scene::new();
    let (file, link) = (scene.path("file"), scene.path("link"));
    fs::write(&file, "").unwrap();
    symlink(scene.path("nowhere"), &link).unwrap();
    let below = |path: &Path| path.join("sub/locks");
    let (file_says, link_says) =
        (format!("{} is not a directory", file.display()), format!("{} is a link to a missing file", link.display()));
    let null = ("/dev/null is not a directory".to_owned(), Path::new("/dev/null").to_owned());
    let places = [
        null,
        (file_says.clone(), file.clone()),
        (file_says, below(&file)),
        (link_says.clone(), link.clone()),
        (link_says, below(&link)),
    ];
    for (what, place) in &places {
        for variable in ["HOME", "ABA_LOCK_DIR"] {
            let variables = [(variable, place.as_path())];
            let hint = format!("hint: {what}: set ABA_LOCK_DIR to a writable directory on a local disk\n");
            let missing_home = variable == "HOME" && place.ends_with("sub/locks") && place.starts_with(&link);
            for args in MAKERS {
                let call = call(&scene, &variables, args).status(125);
                let said = if missing_home { call.err("does not exist").run() } else { call.err(&hint).run() };
                assert!(!said.err.contains("File exists"), "{}", said.err);
            }
        }
        // The commands that only read report a file in place of the directory, too.
        if what.ends_with("not a directory") {
            for args in
                [&["status", "a"][..], &["list"], &["unlock", "a"], &["clean"], &["reserve", "--list"], &["metrics"]]
            {
                let call = call(&scene, &[("ABA_LOCK_DIR", place.as_path())], args).status(125);
                call.err(format!("hint: {what}: set ABA_LOCK_DIR to ")).run();
            }
        }
        let variables = [("ABA_LOCK_DIR", scene.root()), ("RUN_ONCE_DIR", place.clone())];
        let variables = variables.each_ref().map(|(name, path)| (*name, path.as_path()));
        let call = call(&scene, &variables, MAKERS[3]).status(125);
        call.err(format!("hint: {what}: set RUN_ONCE_DIR to a writable directory on a local disk\n")).run();
    }
    assert!(!scene.path("nowhere").exists());
    // The hint is about these directories only.
    let inside = file.join("f").display().to_string();
    let said = scene.aba(["lock", "--file", &inside, "--", "true"]).status(125).err("Not a directory").run();
    assert!(!said.err.contains("ABA_LOCK_DIR"), "{}", said.err);
}
