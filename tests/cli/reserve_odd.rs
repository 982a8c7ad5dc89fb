//! `reserve` among files, numbers and users that are not as they should be.

use crate::process::wait_until;
use crate::reserve::{call, registry, reserve, rows};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

#[test]
fn an_unclosed_quote_in_a_dotenv_file_affects_no_other_line() {
    let scene = Scene::new();
    let args = ["--group", "web,db", "--dotenv", ".env"];
    fs::create_dir(scene.path("a")).unwrap();
    let rest = "API_KEY=sk\nNAME=it\n# end\n";
    for value in ["\"3000", "'", "`", "\"a\\\""] {
        fs::write(scene.path("a/.env"), format!("DB_URL=x\nWEB_PORT={value}\n{rest}")).unwrap();
        reserve(&scene, "a", &args).out("5000\n5001\n").run();
        let text = fs::read_to_string(scene.path("a/.env")).unwrap();
        assert_eq!(text, format!("DB_URL=x\nWEB_PORT=5000\n{rest}DB_PORT=5001\n"), "{value}");
        // In a line of others, it does not hide ours.
        fs::write(scene.path("a/.env"), format!("A={value}\nWEB_PORT=1\n")).unwrap();
        reserve(&scene, "a", &args).out("5000\n5001\n").run();
        let text = fs::read_to_string(scene.path("a/.env")).unwrap();
        assert_eq!(text, format!("A={value}\nWEB_PORT=5000\nDB_PORT=5001\n"), "{value}");
    }
}

#[test]
fn a_group_file_is_never_read_partially() {
    let scene = Scene::new();
    fs::create_dir(scene.path("a")).unwrap();
    let args = ["--group-file", "group.yaml"];
    let group = "reservations:\n  services:\n    web:\n";
    fs::write(scene.path("a/group.yaml"), format!("\u{feff}{group}")).unwrap();
    reserve(&scene, "a", &args).status(2).err("line 1: it begins with a byte order mark").run();
    // What stands behind its first megabyte is not just left out.
    let filler = "# filler\n".repeat((1 << 20) / 9);
    fs::write(scene.path("a/group.yaml"), format!("{group}{filler}    db:\n    cache:\n")).unwrap();
    reserve(&scene, "a", &args).status(125).err("File too large").run();
    fs::write(scene.path("a/group.yaml"), format!("{group}    db:\n")).unwrap();
    reserve(&scene, "a", &args).out("5000\n5001\n").run();
}

#[test]
fn the_largest_number_can_be_reserved() {
    let scene = Scene::new();
    let last = u32::MAX.to_string();
    let pool = ["--pool", "x", "--range", &last];
    let group = |range: &str| reserve(&scene, "a", &["--pool", "x", "--range", range, "--group", "a,b"]);
    group(&last).status(75).err("there is no place in 4294967295 of x for a group of 2").run();
    group("4294967294-4294967295").out("4294967294\n4294967295\n").run();
    reserve(&scene, "b", &pool).status(75).err("1 reserved").run();
    fs::write(scene.path("b/far.yaml"), "reservations:\n  base: 4294967295\n  services:\n    a:\n    b:\n").unwrap();
    let far = ["--pool", "y", "--range", &last, "--group-file", "far.yaml"];
    reserve(&scene, "b", &far).status(75).err("no place").run();
}

/// The registries beside this one that were found to be damaged.
fn damaged(scene: &Scene) -> Vec<String> {
    let names = fs::read_dir(scene.root().join("reserve")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.contains("damaged")).collect();
    names.sort();
    names
}

#[test]
fn an_emptied_registry_is_recovered_from_its_copy() {
    let scene = Scene::new();
    for tag in ["a", "b", "c"] {
        reserve(&scene, "d", &["--tag", tag]).out("").run();
    }
    let whole = fs::read(registry(&scene, "ports")).unwrap();
    fs::write(registry(&scene, "ports"), &whole[..whole.len() - 1]).unwrap();
    reserve(&scene, "d", &[]).status(125).err("damaged").run();
    fs::write(registry(&scene, "ports"), "").unwrap();
    // Also when others come meanwhile.
    reserve(&scene, "d", &[]).status(125).err("damaged").run();
    call(&scene, "d", ["reserve", "--recover"])
        .err("took 3 numbers over out of an earlier one, which is now ")
        .err("exclude those that you know")
        .run();
    assert_eq!(rows(&scene, "ports").len(), 3);
    assert!(damaged(&scene).iter().any(|name| fs::read(registry(&scene, name)).unwrap() == whole[..whole.len() - 1]));
    // Again and again, each in its own file.
    let before = damaged(&scene).len();
    for round in 0..5 {
        fs::write(registry(&scene, "ports"), format!("garbage {round}\n")).unwrap();
        call(&scene, "d", ["reserve", "--recover"])
            .err("took 0 numbers over; 1 lines")
            .err("no number was found")
            .run();
    }
    assert_eq!(damaged(&scene).len(), before + 5);
}

#[test]
fn recover_removes_carriage_returns() {
    let scene = Scene::new();
    reserve(&scene, "d", &[]).out("5000\n").run();
    reserve(&scene, "d", &["--tag", "t"]).out("5001\n").run();
    call(&scene, "d", ["exclude", "5002"]).run();
    let text = fs::read_to_string(registry(&scene, "ports")).unwrap();
    fs::write(registry(&scene, "ports"), text.replace('\n', "\r\n")).unwrap();
    reserve(&scene, "d", &[]).status(125).err("damaged").run();
    call(&scene, "d", ["reserve", "--recover"]).err("took 2 numbers over; 0 lines could not be read").run();
    assert_eq!(fs::read_to_string(registry(&scene, "ports")).unwrap(), text);
    // What only looks like a row is none.
    for odd in ["05000", "+1"] {
        fs::write(registry(&scene, "ports"), text.replace("5000 ", &format!("{odd} "))).unwrap();
        call(&scene, "d", ["reserve", "--recover"]).err("took 1 numbers over; 1 lines").run();
    }
}

#[test]
fn read_only_commands_keep_a_copy_of_a_damaged_registry() {
    for args in [&["--list"][..], &["--check"], &["--prune"], &["--expire", "1"]] {
        let scene = Scene::new();
        reserve(&scene, "d", &[]).out("5000\n").run();
        fs::write(registry(&scene, "ports"), "garbage\n").unwrap();
        call(&scene, "d", ["reserve"].iter().chain(args)).status(125).err("it is also kept as ").run();
        assert_eq!(fs::read_to_string(registry(&scene, "ports.damaged")).unwrap(), "garbage\n", "{args:?}");
    }
}

#[test]
fn a_fifo_in_place_of_the_copy_does_not_block() {
    let scene = Scene::new();
    reserve(&scene, "d", &[]).out("5000\n").run();
    fs::write(registry(&scene, "ports"), "garbage\n").unwrap();
    let made = std::process::Command::new("mkfifo").arg(registry(&scene, "ports.damaged")).status().unwrap();
    assert!(made.success());
    reserve(&scene, "d", &[]).status(125).err("is damaged").run();
    call(&scene, "d", ["reserve", "--recover"]).err("took 0 numbers over").run();
    assert!(damaged(&scene).iter().any(|name| fs::metadata(registry(&scene, name)).unwrap().file_type().is_fifo()));
}

#[test]
fn an_impossibly_large_registry_is_refused_and_not_read() {
    let scene = Scene::new();
    reserve(&scene, "d", &[]).out("5000\n").run();
    fs::File::create(registry(&scene, "ports")).unwrap().set_len(20 << 30).unwrap();
    let limited = |args: &str| scene.bash(&format!("ulimit -v 1000000; exec \"$HELPER\" reserve {args}"));
    for args in ["", "--list", "--check", "--prune", "--recover"] {
        limited(args).status(125).err("could not read ").err("File too large").run();
    }
}

#[test]
fn files_that_root_creates_belong_to_the_owner_of_the_state_root() {
    let scene = Scene::new();
    scene.make_root();
    // Only root can be in the place of another.
    if std::os::unix::fs::chown(scene.root(), Some(12345), Some(12345)).is_err() {
        return;
    }
    reserve(&scene, "d", &[]).out("5000\n").run();
    reserve(&scene, "d", &["--", "true"]).run();
    reserve(&scene, "d", &["--pool", "gpu", "--range", "0-7", "--", "true"]).run();
    fs::write(registry(&scene, "ports"), "garbage\n").unwrap();
    reserve(&scene, "d", &[]).status(125).err("damaged").run();
    let mut seen = 0;
    for directory in [scene.root(), registry(&scene, ""), registry(&scene, "ports.d"), registry(&scene, "gpu.d")] {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().uid(), 12345, "{}", entry.path().display());
            seen += 1;
        }
    }
    assert!(seen >= 8, "{seen}");
}

#[test]
fn variables_with_a_meaning_of_their_own_are_refused() {
    let scene = Scene::new();
    for name in ["PATH", "path", "LD_PRELOAD", "ABA_LOCK_FDS", "IFS", "BASH_ENV", "UID", "status", "version", "PS1"] {
        for text in [format!("{{env: {name}}}"), format!("\n      env: {name}")] {
            fs::create_dir_all(scene.path("a")).unwrap();
            fs::write(scene.path("a/group.yaml"), format!("reservations:\n  services:\n    web: {text}\n")).unwrap();
            reserve(&scene, "a", &["--group-file", "group.yaml", "--format", "export"])
                .status(2)
                .err(format!("the variable {name} has a meaning of its own"))
                .run();
        }
    }
    let path = ["--pool", "path", "--range", "1-9"];
    reserve(&scene, "a", &[&path[..], &["--format", "export"]].concat()).status(2).err("the variable PATH ").run();
    reserve(&scene, "a", &[&path[..], &["--dotenv", "f"]].concat()).status(2).err("the variable PATH ").run();
    reserve(&scene, "a", &path).out("1\n").run();
    reserve(&scene, "a", &["--format", "export", "--group", "path,user"]).out("export PATH_PORT=5000\n").run();
}

#[test]
fn a_dry_run_checks_the_dotenv_file_and_creates_none() {
    let scene = Scene::new();
    for more in [&[][..], &["--dry-run"]] {
        let said = reserve(&scene, "a", &[&["--dotenv", "none/x"][..], more].concat())
            .status(125)
            .err("could not write none/x: No such file or directory\nhint: make its directory first: `mkdir -p none`")
            .run();
        assert!(!said.err.contains("--create"), "{}", said.err);
        reserve(&scene, "a", &[&["--dotenv", "."][..], more].concat()).status(125).err("").run();
    }
    fs::create_dir_all(registry(&scene, "")).unwrap();
    reserve(&scene, "a", &["--dry-run", "--dotenv", "x"]).out("5000\n").run();
    assert_eq!(fs::read_dir(registry(&scene, "")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(scene.path("a")).unwrap().count(), 0);
}

#[test]
fn a_foreign_file_among_the_registries_hides_no_other_registry() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000\n").run();
    reserve(&scene, "a", &["--pool", "zoo", "--range", "0-7"]).out("0\n").run();
    fs::write(registry(&scene, "notes"), "remember the milk\n").unwrap();
    let said = call(&scene, "a", ["reserve", "--list", "--format", "tsv"]).status(125).err("/reserve/notes is damaged");
    let said = said.out("").run().out;
    assert!(said.starts_with("ports\t5000\t") && said.contains("\nzoo\t0\t"), "{said}");
    fs::rename(scene.path("a"), scene.path("b")).unwrap();
    call(&scene, ".", ["migrate", "--from", "a", "--to", "b"]).status(125).err("/reserve/notes is damaged").run();
    call(&scene, "b", ["reserve", "--check"]).out("5000\n").run();
    call(&scene, "b", ["reserve", "--check", "--pool", "zoo"]).out("0\n").run();
}

#[test]
fn an_invalid_lock_file_only_blocks_its_own_number() {
    let scene = Scene::new();
    fs::create_dir_all(registry(&scene, "ports.d/5000.lock")).unwrap();
    std::os::unix::fs::symlink("nowhere", registry(&scene, "ports.d/5001.lock")).unwrap();
    let said = reserve(&scene, "a", &[])
        .out("5002\n")
        .err("ports.d/5000.lock is none\nhint: see whose it is")
        .err("ports.d/5001.lock is none\n")
        .run();
    assert_eq!(said.err.lines().count(), 4, "{}", said.err);
    reserve(&scene, "a", &["--", "sh", "-c", "echo $ABA_NUMBER"]).out("5003\n").err("is passed over").run();
    reserve(&scene, "b", &["--require", "5000"]).status(75).err("its lock file is a directory").run();
}

#[test]
fn excluding_a_leased_number_names_its_holder() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo >'{}'; read _ <'{}'", scene.path("begun").display(), gate.path.display());
    let lease = reserve(&scene, "a", &["--", "bash", "-c", &script]).start();
    wait_until("it has the number", || scene.path("begun").exists());
    call(&scene, "a", ["exclude", "4000-5000"])
        .err(format!("5000 stays leased by pid {} (", lease.pid()))
        .err("until that ends\n")
        .run();
    gate.open();
    lease.finish();
}

#[test]
fn a_link_to_a_removed_directory_stands_for_that_directory() {
    let scene = Scene::new();
    reserve(&scene, "real/tree", &[]).out("5000\n").run();
    std::os::unix::fs::symlink("real/tree", scene.path("link")).unwrap();
    std::os::unix::fs::symlink("link", scene.path("second")).unwrap();
    fs::remove_dir(scene.path("real/tree")).unwrap();
    call(&scene, ".", ["reserve", "--check", "--path", "second"]).out("5000\n").run();
    call(&scene, ".", ["release", "--path", "second"]).run();
    assert_eq!(rows(&scene, "ports").len(), 0);
    std::os::unix::fs::symlink("loop", scene.path("loop")).unwrap();
    call(&scene, ".", ["release", "--path", "loop"]).status(125).err("").run();
}

#[test]
fn a_lease_is_listed_with_its_directory_for_any_name() {
    let scene = Scene::new();
    for name in [&b"a b"[..], b"c in d", b"x\ny\\040", b"\xff"] {
        let directory = scene.path(".").join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir(&directory).unwrap();
        let command = scene.aba(["reserve", "--probe", "none", "--tag", "t", "--", "sh", "-c"]);
        let command = command.arg("\"$HELPER\" reserve --list --path . --format json").current_dir(&directory);
        let said = command.out("\"number\": 5000").run().out;
        assert!(said.contains("\"unused_seconds\": null"), "{said}");
    }
}

#[test]
fn an_unreadable_registry_is_an_error_without_advice_to_move_it() {
    let scene = Scene::new();
    reserve(&scene, "a", &["--", "true"]).run();
    reserve(&scene, "a", &["--dry-run"]).out("5000\n").run();
    // By a system that refuses, so that it is the same for root.
    for file in ["ports.lock", "ports.d/5000.lock"] {
        let said = scene
            .call("strace")
            .arg("-qq")
            .arg("-P")
            .arg(registry(&scene, file))
            .args(["-o", "/dev/null"])
            .args(["-e", "inject=openat:error=EACCES", HELPER, "reserve", "--probe", "none", "--tag", "new"])
            .status(125)
            .err(format!("{file}: Permission denied"))
            .err("sudo chown")
            .run();
        assert!(!said.err.contains("set ABA_LOCK_DIR"), "{}", said.err);
    }
}
