//! Files that another user or program has made or locked. `tests/users` has the attacks of a hostile user.

use crate::process::{is_root, set_mode};
use crate::scene::{NOBODY, Scene};
use std::fs;
use std::os::unix::fs::{lchown, symlink};

#[test]
fn numbers_of_runs_at_their_limit_lead_to_a_run() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    for number in ["18446744073709551615", "18446744073709551616", "-1", "\\xff"] {
        let set = "import os, sys\nfor name in 'started', 'needed', 'completed':
    os.setxattr(sys.argv[1], 'user.aba-lock.' + name, sys.argv[2].encode())";
        scene.call("python3").args(["-c", set]).arg(scene.lock_file("a")).arg(number).run();
        scene.aba(["lock", "--coalesce", "a", "--", "echo", "ran"]).out("ran\n").run();
        scene.aba(["lock", "--coalesce=strict", "a", "--", "echo", "ran"]).out("ran\n").run();
    }
}

#[test]
fn a_process_that_locks_parts_of_a_lock_file_is_named_as_the_cause() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let program = "import fcntl, sys\nf = open(sys.argv[1], 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint('held', flush=True)\ninput()";
    let holder = scene.call("python3").args(["-c", program]).arg(scene.lock_file("a")).hold();
    let cause = format!("locked by fcntl(2): pid {} (", holder.pid());
    let text = format!("a cannot be acquired: its lock file is {cause}");
    scene.aba(["lock", "-s", "a", "--", "true"]).status(75).err(text).run();
    for options in [&["-s"][..], &["--slots", "2"], &["--replace"]] {
        let text = format!("timed out after 0.3 s waiting for a: its lock file is {cause}");
        scene.aba(["lock", "-t", "0.3", "a"]).args(options).args(["--", "true"]).status(124).err(text).run();
    }
    let waiter = scene.aba(["lock", "-sw", "a", "--", "true"]).err(format!("waiting for a, {cause}")).start();
    waiter.wait_for_error(&cause);
    holder.release();
    waiter.finish();
}

#[test]
fn a_link_of_another_user_where_all_users_may_write_is_not_followed() {
    let scene = Scene::new();
    let (directory, target) = (scene.path("open"), scene.path("target"));
    fs::create_dir(&directory).unwrap();
    fs::write(&target, "a\n").unwrap();
    set_mode(&directory, 0o1777);
    let (log, link, own) = (directory.join("log"), directory.join("link"), directory.join("own"));
    symlink(&target, &own).unwrap();
    scene.aba(["update"]).arg(&own).args(["--", "sed", "s/a/b/"]).run();
    assert_eq!(fs::read_to_string(&target).unwrap(), "b\n");
    fs::hard_link(&target, &log).unwrap();
    let refused =
        "log: it is a hard link that another user may have made, in a directory that all users may write to; locks";
    scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_LOG", &log).err(refused).run();
    if is_root() {
        fs::remove_file(&log).unwrap();
        for path in [&log, &link] {
            symlink(&target, path).unwrap();
            lchown(path, Some(NOBODY), None).unwrap();
        }
        let refused = ": it is a link that another user may have made, in a directory that all users may write to";
        scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_LOG", &log).err(refused).run();
        scene.aba(["update"]).arg(&link).args(["--", "sed", "s/b/c/"]).status(125).err(refused).run();
        // The owner of the directory may make links for all.
        lchown(&directory, Some(NOBODY), None).unwrap();
        scene.aba(["update"]).arg(&link).args(["--", "sed", "s/b/c/"]).run();
        assert_eq!(fs::read_to_string(&target).unwrap(), "c\n");
    }
    assert!(!fs::read_to_string(&target).unwrap().contains("event"));
}
