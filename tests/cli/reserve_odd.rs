//! `reserve` among files, numbers and users that are not as they should be.

use crate::reserve::{call, registry, reserve, rows};
use crate::scene::Scene;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

#[test]
fn a_quote_that_does_not_close_costs_no_line_of_the_file() {
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
fn no_number_lies_beyond_the_last() {
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
fn a_damaged_registry_that_was_emptied_is_recovered_from_the_copy_and_none_is_lost() {
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
fn carriage_returns_do_not_become_part_of_a_directory() {
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
fn who_only_looks_keeps_a_copy_of_a_damaged_registry_too() {
    for args in [&["--list"][..], &["--check"], &["--prune"], &["--expire", "1"]] {
        let scene = Scene::new();
        reserve(&scene, "d", &[]).out("5000\n").run();
        fs::write(registry(&scene, "ports"), "garbage\n").unwrap();
        call(&scene, "d", ["reserve"].iter().chain(args)).status(125).err("it is also kept as ").run();
        assert_eq!(fs::read_to_string(registry(&scene, "ports.damaged")).unwrap(), "garbage\n", "{args:?}");
    }
}

#[test]
fn a_fifo_in_the_place_of_the_copy_is_not_waited_for() {
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
fn a_registry_as_large_as_none_can_be_is_refused_and_not_read() {
    let scene = Scene::new();
    reserve(&scene, "d", &[]).out("5000\n").run();
    fs::File::create(registry(&scene, "ports")).unwrap().set_len(20 << 30).unwrap();
    let limited = |args: &str| scene.bash(&format!("ulimit -v 1000000; exec \"$HELPER\" reserve {args}"));
    for args in ["", "--list", "--check", "--prune", "--recover"] {
        limited(args).status(125).err("could not read ").err("File too large").run();
    }
}

#[test]
fn what_root_makes_in_the_directory_of_another_is_his() {
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
