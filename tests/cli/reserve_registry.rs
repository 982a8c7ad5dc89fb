//! The registries of `reserve`: damaged, of another version, unreadable, or of another user.

use crate::process::{file_mode, list_files};
use crate::reserve::{call, number, registry, reserve, rows};
use crate::scene::{HELPER, Scene, error_text};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

#[test]
fn a_damaged_registry_is_reported_kept_and_never_treated_as_empty() {
    let scene = Scene::new();
    for tag in ["a", "b", "c"] {
        reserve(&scene, "d", &["--tag", tag]).out("").run();
    }
    let whole = fs::read(registry(&scene, "ports")).unwrap();
    let mut flipped = whole.clone();
    let at = whole.windows(5).position(|word| word == b"5001 ").unwrap();
    flipped[at + 3] = b'7';
    let damaged: [&[u8]; 6] = [b"", b"\n", b"garbage\n", &whole[..whole.len() / 2], &flipped, &[0; 4096]];
    for content in damaged {
        fs::write(registry(&scene, "ports"), content).unwrap();
        let path = registry(&scene, "ports");
        let sentence = format!("aba-lock: the registry {} is damaged, so its numbers cannot be used", path.display());
        // Every call fails, even for keys whose row can be read.
        for tag in ["a", "b", "new", "new"] {
            let command = reserve(&scene, "d", &["--tag", tag]).status(125).err(sentence.clone());
            command.err("\nhint: recover its readable lines: `aba-lock reserve --recover --pool ports`\n").run();
        }
        for args in [
            &["reserve", "--list"][..],
            &["reserve", "--check"],
            &["release"],
            &["exclude", "7"],
            &["reserve", "--prune"],
        ] {
            call(&scene, "d", args).status(125).err(sentence.clone()).run();
        }
        reserve(&scene, "d", &["--", "true"]).status(125).err(sentence.clone()).run();
        assert_eq!(fs::read(registry(&scene, "ports")).unwrap(), content);
        assert_eq!(fs::read(registry(&scene, "ports.damaged")).unwrap(), content, "a copy is kept");
    }
}

#[test]
fn recover_keeps_the_readable_rows_of_a_damaged_registry() {
    let scene = Scene::new();
    for tag in ["a", "b", "c"] {
        reserve(&scene, "d", &["--tag", tag]).out("").run();
    }
    call(&scene, "d", ["reserve", "--recover"]).err("the registry of ports is not damaged: nothing was changed").run();
    let whole = fs::read_to_string(registry(&scene, "ports")).unwrap();
    let cut = &whole[..whole.find(" c ").unwrap()];
    fs::write(registry(&scene, "ports"), cut).unwrap();
    reserve(&scene, "d", &["--tag", "a"]).status(125).err("damaged").run();
    call(&scene, "d", ["reserve", "--recover"])
        .err("recovered 2 numbers; 1 line could not be read; the damaged registry is now ")
        .err("hint: exclude the numbers that are in use, so that they are not reserved")
        .run();
    assert_eq!(number(reserve(&scene, "d", &["--tag", "b"])), 5001);
    let kept = list_damaged(&scene);
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::read_to_string(registry(&scene, &kept[0])).unwrap(), cut);
}

#[test]
fn a_registry_of_another_version_is_left_alone() {
    let scene = Scene::new();
    reserve(&scene, "d", &[]).out("").run();
    let new = "aba-lock-registry 3 with more\nwhatever\n";
    fs::write(registry(&scene, "ports"), new).unwrap();
    for args in [&["reserve"][..], &["reserve", "--list"], &["release"], &["reserve", "--recover"], &["exclude", "5"]] {
        let command = call(&scene, "d", args).status(125);
        command.err("has version 3, which this aba-lock does not support\nhint: use the version of aba-lock that wrote it\n").run();
    }
    assert_eq!(fs::read_to_string(registry(&scene, "ports")).unwrap(), new);
    assert!(!registry(&scene, "ports.damaged").exists());
}

#[test]
fn a_registry_is_readable_text() {
    let scene = Scene::new();
    reserve(&scene, "my tree", &["--tag", "web"]).out("5000").run();
    call(&scene, ".", ["exclude", "6000-6010"]).run();
    let text = fs::read_to_string(registry(&scene, "ports")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "aba-lock-registry 2");
    assert!(lines[1].starts_with("# number created used "), "{text}");
    assert_eq!(lines[2], "exclude 6000-6010");
    assert!(
        lines[3].starts_with("5000 ") && lines[3].contains(" web /") && lines[3].ends_with("/my\\040tree"),
        "{text}"
    );
    assert!(lines[4].starts_with("end 1 ") && lines.len() == 5, "{text}");
}

#[test]
fn a_directory_that_cannot_be_used_is_named_with_the_reason() {
    let scene = Scene::new();
    scene.make_root();
    fs::write(scene.root().join("reserve"), "").unwrap();
    reserve(&scene, "a", &[]).status(125).err(scene.root().join("reserve").to_str().unwrap()).run();
    fs::remove_file(scene.root().join("reserve")).unwrap();
    fs::create_dir_all(registry(&scene, "ports")).unwrap();
    reserve(&scene, "a", &[]).status(125).err("is a directory, not a regular file").run();
    reserve(&scene, "a", &["--pool", "gpu", "--range", "0-7"]).out("0\n").run();
}

#[test]
fn the_registry_is_private_for_any_umask() {
    let scene = Scene::new();
    scene.make_root();
    fs::create_dir(scene.root().join("reserve")).unwrap();
    for (at, mask) in ["0777", "0000"].iter().enumerate() {
        scene.bash(&format!("umask {mask}; exec \"$HELPER\" reserve --probe none --tag t{at}")).out("").run();
        let mode = |name: &str| file_mode(registry(&scene, name));
        assert_eq!(mode("ports"), 0o600);
        scene.bash(&format!("umask {mask}; exec \"$HELPER\" reserve --probe none --tag t{at} -- true")).run();
    }
}

#[test]
fn an_error_while_reading_a_directory_is_not_ignored() {
    let scene = Scene::new();
    for directory in ["old", "new"] {
        fs::create_dir(scene.path(directory)).unwrap();
    }
    let (old, new) = (scene.path("old"), scene.path("new"));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    scene.aba(["reserve", "--probe", "none", "--path", old]).out("").run();
    scene.once(["-qwi", "a", "--", "true"]).run();
    let words: [&[&str]; 3] = [&["migrate", "--from", old, "--to", new], &["run-once", "--list"], &["run-once", "-G"]];
    for args in words {
        let command = scene.strace(["-f", "-P"]).arg(scene.root().join("reserve")).arg("-P");
        let command = command.arg(scene.root().join("runner")).args(["-e", "inject=getdents64:error=EIO", HELPER]);
        command.args(args).status(125).err(error_text(libc::EIO)).run();
    }
    scene.aba(words[0]).run();
    scene.aba(["reserve", "--check", "--path", new]).out("").run();
}

/// The copies of damaged registries.
fn list_damaged(scene: &Scene) -> Vec<String> {
    let mut names = list_files(registry(scene, ""));
    names.retain(|name| name.contains("damaged"));
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
    // More failing calls change nothing.
    reserve(&scene, "d", &[]).status(125).err("damaged").run();
    call(&scene, "d", ["reserve", "--recover"])
        .err("recovered 3 numbers from an earlier registry, which is now ")
        .err("exclude the numbers that are in use")
        .run();
    assert_eq!(rows(&scene, "ports").len(), 3);
    assert!(
        list_damaged(&scene).iter().any(|name| fs::read(registry(&scene, name)).unwrap() == whole[..whole.len() - 1])
    );
    // Each damaged registry is kept in a file of its own.
    let before = list_damaged(&scene).len();
    for round in 0..5 {
        fs::write(registry(&scene, "ports"), format!("garbage {round}\n")).unwrap();
        let command = call(&scene, "d", ["reserve", "--recover"]).err("recovered 0 numbers; 1 line");
        command.err("no number was found").run();
    }
    assert_eq!(list_damaged(&scene).len(), before + 5);
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
    call(&scene, "d", ["reserve", "--recover"]).err("recovered 2 numbers; 0 lines could not be read").run();
    assert_eq!(fs::read_to_string(registry(&scene, "ports")).unwrap(), text);
    // A line that only resembles a row is not a row.
    for odd in ["05000", "+1"] {
        fs::write(registry(&scene, "ports"), text.replace("5000 ", &format!("{odd} "))).unwrap();
        call(&scene, "d", ["reserve", "--recover"]).err("recovered 1 number; 1 line").run();
    }
}

#[test]
fn read_only_commands_keep_a_copy_of_a_damaged_registry() {
    for args in [&["--list"][..], &["--check"], &["--prune"], &["--expire", "1"]] {
        let scene = Scene::new();
        reserve(&scene, "d", &[]).out("5000\n").run();
        fs::write(registry(&scene, "ports"), "garbage\n").unwrap();
        call(&scene, "d", ["reserve"].iter().chain(args)).status(125).err("; a copy is ").run();
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
    call(&scene, "d", ["reserve", "--recover"]).err("recovered 0 numbers").run();
    assert!(
        list_damaged(&scene).iter().any(|name| fs::metadata(registry(&scene, name)).unwrap().file_type().is_fifo())
    );
}

#[test]
fn an_impossibly_large_registry_is_refused_and_not_read() {
    let scene = Scene::new();
    reserve(&scene, "d", &[]).out("5000\n").run();
    fs::File::create(registry(&scene, "ports")).unwrap().set_len(20 << 30).unwrap();
    let limited = |args: &str| scene.bash(&format!("ulimit -v 1000000; exec \"$HELPER\" reserve {args}"));
    for args in ["", "--list", "--check", "--prune", "--recover"] {
        limited(args).status(125).err("cannot read ").err("File too large").run();
    }
}

#[test]
fn files_that_root_creates_belong_to_the_owner_of_the_state_root() {
    let scene = Scene::new();
    scene.make_root();
    // Only root can change the owner.
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
fn an_unreadable_registry_is_an_error_without_advice_to_move_it() {
    let scene = Scene::new();
    reserve(&scene, "a", &["--", "true"]).run();
    reserve(&scene, "a", &["--dry-run"]).out("5000\n").run();
    // strace makes the call fail, because root may open everything.
    for file in ["ports.lock", "ports.d/5000.lock"] {
        let said = scene
            .call("strace")
            .arg("-qq")
            .arg("-P")
            .arg(registry(&scene, file))
            .args(["-o", "/dev/null"])
            .args(["-e", "inject=/^open(at)?$:error=EACCES", HELPER, "reserve", "--probe", "none", "--tag", "new"])
            .status(125)
            .err(format!("{file}: Permission denied"))
            .err("sudo chown")
            .run();
        assert!(!said.err.contains("set ABA_LOCK_DIR"), "{}", said.err);
    }
}
