//! `update` by several users of one file.

use crate::call::Call;
use crate::process::{copy_program, is_root, list_files, set_mode};
use crate::scene::{HELPER, Scene};
use crate::update::{call, scene_with, text};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

/// A bash script of a user with these groups. The first is the primary group.
fn update_as(scene: &Scene, user: &str, groups: &[&str], script: &str) -> Call {
    let mut command = scene.program("setpriv");
    command.args(["--reuid", user, "--regid", groups[0]]);
    match &groups[1..] {
        [] => command.arg("--clear-groups"),
        more => command.args(["--groups", &more.join(",")]),
    };
    command.args(["--", "bash", "-c", script]).env("HELPER", scene.path("helper")).current_dir(scene.path("d"));
    Call::new(command)
}

#[test]
fn group_members_may_update_a_file_without_widening_access() {
    // Only root can create files of other users.
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    copy_program(HELPER, &scene.path("helper"));
    fs::create_dir(scene.path("d")).unwrap();
    set_mode(scene.path(""), 0o755);
    let (file, lock) = (scene.path("d/f"), scene.path("d/f.lock"));
    let make = |mode: u32| {
        set_mode(scene.path("d"), 0o777);
        let _ = fs::remove_file(&lock);
        let _ = fs::remove_file(&file);
        fs::write(&file, "a\n").unwrap();
        chown(&file, Some(60_001), Some(60_000)).unwrap();
        set_mode(&file, mode);
    };
    let is = |uid: u32, gid: u32, mode: u32, content: &str| {
        let data = fs::metadata(&file).unwrap();
        assert_eq!((data.uid(), data.gid(), data.mode() & 0o7777), (uid, gid, mode), "{mode:o}");
        assert_eq!(fs::read_to_string(&file).unwrap(), content, "{mode:o}");
    };
    let update = "umask 077; exec \"$HELPER\" update --backup f -- tr ab bc";
    for mode in [0o664, 0o660, 0o2664] {
        make(mode);
        update_as(&scene, "60002", &["60002", "60000"], update).run();
        is(60_002, 60_000, mode, "b\n");
        // The whole group can open the lock file.
        update_as(&scene, "60001", &["60001", "60000"], update).run();
        is(60_001, 60_000, mode, "c\n");
    }
    // A user with write access as others: the file loses its group, which had no other rights than others.
    make(0o666);
    update_as(&scene, "60002", &["60002"], update).run();
    is(60_002, 60_002, 0o666, "b\n");
    let refused = "cannot keep the owner of f: Operation not permitted; the file is unchanged";
    for (mode, groups) in [
        // Another group would get the rights of this one, or this group those of others.
        (0o676, &["60002"][..]),
        (0o646, &["60002"]),
        (0o2666, &["60002"]),
        (0o4664, &["60002", "60000"]),
        // Only the directory is writable.
        (0o644, &["60002", "60000"]),
    ] {
        make(mode);
        update_as(&scene, "60002", groups, update).status(125).err(refused).run();
        is(60_001, 60_000, mode, "a\n");
    }
}

#[test]
fn files_left_by_a_killed_update_of_another_user_do_not_block_updates() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    copy_program(HELPER, &scene.path("helper"));
    fs::create_dir(scene.path("d")).unwrap();
    for (path, mode) in [("", 0o755), ("d", 0o777)] {
        set_mode(scene.path(path), mode);
    }
    for name in ["f".to_owned(), "x".repeat(250)] {
        fs::write(scene.path("d").join(&name), "a\n").unwrap();
        chown(scene.path("d").join(&name), Some(60_002), Some(60_000)).unwrap();
        set_mode(scene.path("d").join(&name), 0o664);
        let killed = format!("exec \"$HELPER\" update {name} -- sh -c 'echo half; kill -9 $PPID'");
        let update = format!("exec \"$HELPER\" update -i --backup {name} -- sh -c 'tr ab bc <{name} >{{}}'");
        let count = || list_files(scene.path("d")).len();
        update_as(&scene, "60001", &["60001", "60000"], &killed).status(137).run();
        assert_eq!(count(), 3);
        // The second user finds the files of the first, and removes them.
        for _ in 0..2 {
            update_as(&scene, "60002", &["60002", "60000"], &killed).status(137).run();
        }
        assert_eq!(count(), 4);
        update_as(&scene, "60002", &["60002", "60000"], &update).run();
        assert_eq!((text(&scene, &format!("d/{name}")).as_str(), count()), ("b\n", 4));
        update_as(&scene, "60001", &["60001", "60000"], &update).run();
        assert_eq!((text(&scene, &format!("d/{name}")).as_str(), count()), ("c\n", 3));
        // The second user removes its own files, even if the first has removed its files before.
        for (user, script, files) in
            [("60001", &killed, 4), ("60002", &killed, 5), ("60001", &update, 4), ("60002", &update, 3)]
        {
            let status = if *script == killed { 137 } else { 0 };
            update_as(&scene, user, &[user, "60000"], script).status(status).run();
            assert_eq!(count(), files, "after a call of user {user}");
        }
        fs::remove_dir_all(scene.path("d")).unwrap();
        fs::create_dir(scene.path("d")).unwrap();
        set_mode(scene.path("d"), 0o777);
    }
}

#[test]
fn an_update_by_root_does_not_exclude_the_owner_of_the_file() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    copy_program(HELPER, &scene.path("helper"));
    set_mode(scene.path(""), 0o755);
    fs::create_dir(scene.path("d")).unwrap();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    for path in ["d", "d/f"] {
        chown(scene.path(path), Some(60_001), Some(60_001)).unwrap();
    }
    let command = scene.call("bash").args(["-c", "umask 077; exec \"$HELPER\" update f -- tr a b"]);
    command.current_dir(scene.path("d")).run();
    update_as(&scene, "60001", &["60001"], "exec \"$HELPER\" update f -- tr b c").run();
    assert_eq!(text(&scene, "d/f"), "c\n");
    // A file of root that was renamed to this name keeps its owner.
    fs::remove_file(scene.path("d/f.lock")).unwrap();
    fs::write(scene.path("d/f.lock"), "secret\n").unwrap();
    set_mode(scene.path("d/f.lock"), 0o600);
    scene.aba(["update", "f", "--", "tr", "c", "d"]).current_dir(scene.path("d")).run();
    let lock = fs::metadata(scene.path("d/f.lock")).unwrap();
    assert_eq!((lock.uid(), lock.mode() & 0o7777, text(&scene, "d/f.lock")), (0, 0o600, "secret\n".to_owned()));
}

#[test]
fn a_foreign_file_with_the_name_of_the_lock_keeps_its_mode() {
    // If the tests run as root, this is a file of root that the owner of the directory renamed.
    for content in ["secret\n", ""] {
        let scene = scene_with("a\n");
        set_mode(scene.path("f"), 0o666);
        fs::write(scene.path("f.lock"), content).unwrap();
        if content.is_empty() {
            fs::hard_link(scene.path("f.lock"), scene.path("g")).unwrap();
        }
        set_mode(scene.path("f.lock"), 0o600);
        if is_root() {
            chown(scene.path("f"), Some(60_001), Some(60_001)).unwrap();
        }
        let before = fs::metadata(scene.path("f.lock")).unwrap();
        call(&scene, ["update", "f", "--", "tr", "a", "b"]).run();
        let after = fs::metadata(scene.path("f.lock")).unwrap();
        let rights = |data: &fs::Metadata| (data.uid(), data.gid(), data.mode() & 0o7777);
        assert_eq!((rights(&after), text(&scene, "f")), (rights(&before), "b\n".to_owned()), "{content:?}");
    }
}
