//! `update`: its lock file, waiting for it, and updates that start other updates.

use crate::process::{SetOnDrop, count_waiters, file_mode, is_locked, set_mode, wait_until};
use crate::scene::{HELPER, Scene};
use crate::update::{call, names, scene_with, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn updates_and_flock_on_the_lock_file_exclude_each_other() {
    let scene = scene_with("a\n");
    let holder = scene.flock_holder(scene.path("f.lock"));
    let busy = format!("f is being updated by pid {}", holder.pid());
    call(&scene, ["update", "-n", "f", "--", "cat"]).status(75).err(busy).err("f.lock`").run();
    call(&scene, ["update", "-t", "0.05", "f", "--", "cat"]).status(124).err("timed out after 0.05 s").run();
    call(&scene, ["update", "-qn", "f", "--", "cat"]).status(75).run();
    let waiter = call(&scene, ["update", "f", "--", "tr", "a", "b"]).start();
    wait_until("it waits", || count_waiters(&scene.path("f.lock")) > 0);
    assert_eq!(text(&scene, "f"), "a\n");
    holder.release();
    waiter.finish();
    assert_eq!(text(&scene, "f"), "b\n");
    // The command of an update can lock the file neither by flock(1) nor by another update.
    let script = "flock -n f.lock true; echo $?; \"$HELPER\" update f -- cat; echo $?";
    call(&scene, ["update", "f", "--", "sh", "-c", script])
        .err("waiting for f would be a deadlock: it is being updated by a command that waits for this one")
        .run();
    assert_eq!(text(&scene, "f"), "1\n75\n");
    // An update can use an inherited lock.
    let path = scene.path("f.lock");
    call(&scene, ["lock", "--file", path.to_str().unwrap(), "--", HELPER, "update", "-n", "f", "--", "tr", "1", "2"])
        .run();
    assert_eq!(text(&scene, "f"), "2\n75\n");
}

#[test]
fn a_wait_names_the_holder_and_its_command() {
    let scene = scene_with("a\n");
    let gate = scene.gate("gate");
    let script = format!("cat; echo x; echo begun >&2; read _ <{gate}");
    let first = call(&scene, ["update", "f", "--", "bash", "-c", &script]).err("begun").start();
    wait_until("it is locked", || is_locked(&scene.path("f.lock")));
    let who = format!("f is being updated by pid {} (", first.pid());
    wait_until("the record is there", || fs::read_to_string(scene.path("f.lock")).unwrap().contains("token="));
    let said = call(&scene, ["update", "-n", "f", "--", "cat"]).status(75).err(who).run();
    assert!(said.err.contains(" update f -- bash -c "), "{}", said.err);
    gate.open();
    first.finish();
}

#[test]
fn a_look_at_the_file_leads_to_the_lock_of_its_update() {
    let scene = scene_with("a\n");
    symlink("f", scene.path("link")).unwrap();
    let file = fs::canonicalize(scene.path("f")).unwrap().display().to_string();
    let status = |words: &[&str]| call(&scene, ["status"]).args(words).status(1).out("").run().out;
    let kill =
        || call(&scene, ["unlock", "f", "--kill"]).err("aba-lock: f is free: no process to kill\nhint: ").run().err;
    assert!(!status(&["f"]).contains("hint") && !status(&["--file", "f"]).contains("hint"));
    assert!(kill().ends_with("hint: no lock file has this name: show all locks with `aba-lock list`\n"));
    let holder = scene.flock_holder(scene.path("f.lock"));
    let held = "hint: the lock of updates of this file is held: show its holder with `aba-lock status --file ";
    assert!(status(&["f"]).contains(&format!("removed)\n  {held}./f.lock`\n")), "{}", status(&["f"]));
    assert!(status(&["--file", "f"]).contains(&format!("f: free\n  {held}./f.lock`\n")));
    assert!(status(&["--file", "link"]).contains(&format!("link: free\n  {held}{file}.lock`\n")));
    assert!(kill().ends_with(&format!("\n{held}./f.lock`\n")), "{}", kill());
    call(&scene, ["unlock", "f", "--kill", "-q"]).run();
    assert_eq!(status(&["-q", "f"]), "");
    assert!(!status(&["--json", "f"]).contains("hint"));
    holder.release();
    let free = "hint: an update of this file uses another lock: `aba-lock status --file ./f.lock`\n";
    assert!(status(&["f"]).contains(free) && status(&["--file", "f"]).contains(free));
    assert!(kill().ends_with(free), "{}", kill());
    fs::write(scene.path("other.lock"), "").unwrap();
    assert!(!status(&["other"]).contains("hint"), "there is no file of this name");
    // A lock with the name of the file was used, so the user probably means that lock.
    call(&scene, ["lock", "f", "--", "true"]).run();
    assert!(!status(&["f"]).contains("hint"));
}

#[test]
fn an_update_through_a_link_names_the_lock_of_its_target() {
    let scene = scene_with("a\n");
    symlink("f", scene.path("link")).unwrap();
    let file = fs::canonicalize(scene.path("f")).unwrap();
    call(&scene, ["update", "-v", "link", "--", "tr", "a", "b"])
        .err(format!("link was changed, a link to {0}; the lock is {0}.lock", file.display()))
        .run();
    let holder = scene.flock_holder(scene.path("f.lock"));
    let command = call(&scene, ["update", "-n", "link", "--", "cat"]).status(75);
    let command = command.err(format!("`aba-lock status --file {}.lock`", file.display()));
    command.err("(link is a link; the lock is next to its target)").run();
    holder.release();
}

#[test]
fn twenty_writers_at_once_lose_nothing_and_no_reader_sees_half() {
    let scene = Scene::new();
    let base = "# kept\ncontainers:\n  base: {image: debian}\nend: true\n";
    let done = AtomicBool::new(false);
    fs::write(scene.path("f"), base).unwrap();
    thread::scope(|scope| {
        let end = SetOnDrop(&done);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut looks = 0;
                    while !done.load(Ordering::Relaxed) {
                        let seen = text(&scene, "f");
                        assert!(seen.starts_with("# kept\ncontainers:\n") && seen.ends_with("end: true\n"), "{seen:?}");
                        looks += 1;
                        // The writers need the processors more.
                        thread::sleep(Duration::from_micros(500));
                    }
                    looks
                })
            })
            .collect();
        for round in 0..50 {
            fs::write(scene.path("g"), base).unwrap();
            fs::rename(scene.path("g"), scene.path("f")).unwrap();
            let writers: Vec<_> = (0..20)
                .map(|n| {
                    let script = format!("/^end/i\\  dev{n}: {{image: \"ubuntu:{n}\"}}");
                    call(&scene, ["update", "-q", "f", "--", "sed", &script]).start()
                })
                .collect();
            for writer in writers {
                writer.finish();
            }
            let seen = text(&scene, "f");
            for n in 0..20 {
                assert!(seen.contains(&format!("  dev{n}: {{image: \"ubuntu:{n}\"}}\n")), "round {round}: {seen}");
            }
            assert_eq!(seen.lines().count(), base.lines().count() + 20, "round {round}: {seen}");
        }
        drop(end);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

#[test]
fn sixty_slow_writers_all_get_their_turn() {
    let scene = scene_with("");
    let writers: Vec<_> = (0..60)
        .map(|n| call(&scene, ["update", "-q", "f", "--", "sh", "-c", &format!("cat; sleep 0.3; echo {n}")]).start())
        .collect();
    for writer in writers {
        writer.finish();
    }
    assert_eq!(text(&scene, "f").lines().count(), 60);
}

#[test]
fn an_update_whose_lock_file_was_removed_changes_nothing() {
    let scene = scene_with("a\n");
    let path = fs::canonicalize(scene.path(".")).unwrap().join("f.lock");
    for script in ["cat; echo x; rm f.lock", "rm f.lock; cat", "cat; echo x; rm f.lock; : >f.lock"] {
        let command = call(&scene, ["update", "f", "--", "sh", "-c", script]).status(1);
        let said = command.err(format!("lock file {} was removed during the update", path.display())).run();
        assert!(!said.err.contains("was changed"), "{}", said.err);
    }
    let script = "cat; echo y; rm f.lock; \"$HELPER\" update f -- tr a b";
    call(&scene, ["update", "f", "--", "sh", "-c", script]).status(1).err("f was changed during the update").run();
    assert_eq!(text(&scene, "f"), "b\n");
    assert_eq!(names(&scene), ["f"]);
}

#[test]
fn the_owner_can_open_the_lock_file_for_any_umask() {
    let scene = scene_with("a\n");
    scene.bash_here("umask 0777; exec \"$HELPER\" update f -- tr a b").run();
    assert_eq!(file_mode(scene.path("f.lock")), 0o600);
    call(&scene, ["update", "f", "--", "tr", "b", "c"]).run();
    assert_eq!(text(&scene, "f"), "c\n");
}

#[test]
fn all_users_who_may_write_the_file_may_lock_it() {
    let scene = scene_with("a\n");
    set_mode(scene.path("f"), 0o666);
    scene.bash_here("umask 0777; exec \"$HELPER\" update f -- tr a b").run();
    let mode = |name: &str| file_mode(scene.path(name));
    assert_eq!((mode("f"), mode("f.lock")), (0o666, 0o666));
    let script = "umask 0777; exec \"$HELPER\" update -i f -- sh -c 'echo a >{}'";
    scene.bash_here(script).run();
    assert_eq!((text(&scene, "f").as_str(), mode("f")), ("a\n", 0o666));
    call(&scene, ["update", "f", "--", "tr", "a", "b"]).run();
    call(&scene, ["update", "f", "--", "tr", "b", "c"]).run();
}

#[test]
fn a_background_update_started_by_the_command_waits_for_its_turn() {
    for how in ["(JOB) >/dev/null &", "(JOB) >/dev/null 2>&1 </dev/null & cat >/dev/null", "task"] {
        for in_place in [false, true] {
            let scene = scene_with("a\n");
            let gate = scene.gate("gate");
            fs::write(scene.path("job"), "\"$HELPER\" update -q f -- sh -c 'cat; echo job'; echo $? >status\n")
                .unwrap();
            let start = match how {
                "task" => "\"$HELPER\" run-once -i t -- sh job >/dev/null".to_owned(),
                job => job.replace("JOB", "sh job"),
            };
            let script = format!("{start}\nread _ <{gate}; echo b | tee -a \"${{ABA_COPY-/dev/null}}\"");
            let command = scene.call(HELPER).arg("update").args(in_place.then_some("-i"));
            let command = command.args(["f", "--", "bash", "-c", &script, "{}"]).current_dir(scene.path(".")).out("");
            let running = command.start();
            wait_until("it waits", || scene.path("f.lock").exists() && count_waiters(&scene.path("f.lock")) > 0);
            gate.open();
            running.finish();
            wait_until("it has had its turn", || {
                fs::read_to_string(scene.path("status")).is_ok_and(|it| !it.is_empty())
            });
            assert_eq!(text(&scene, "status"), "0\n", "{how} {in_place}");
            assert_eq!(text(&scene, "f"), if in_place { "a\nb\njob\n" } else { "b\njob\n" }, "{how}");
        }
    }
}

#[test]
fn an_update_that_the_running_update_waits_for_is_refused() {
    let scene = scene_with("a\n");
    let refused = |args: &[&str]| {
        let sentence = "waiting for f would be a deadlock: it is being updated by a command that waits for this one";
        call(&scene, args).err(sentence).run();
        assert_eq!(text(&scene, "status"), "75\n", "{args:?}");
        fs::remove_file(scene.path("status")).unwrap();
    };
    let job = "\"$HELPER\" update f -- cat";
    let through = |script: &str| refused(&["update", "f", "--", "bash", "-c", &script.replace("JOB", job)]);
    // The outer update reads the output of the inner one.
    through("cat; JOB; echo $? >status");
    through("cat; { JOB; echo $? >status; } &");
    through("exec 3>&1; cat; { JOB >/dev/null; echo $? >status; } >&2 &");
    // The command waits for the inner update.
    through("cat; JOB >/dev/null; echo $? >status");
    through("cat; x=$(JOB); echo $? >status");
    refused(&["update", "-i", "f", "--", "sh", "-c", &format!("{job}; echo $? >status; : {{}}")]);
    refused(&["update", "--check", &format!("{job}; echo $? >status"), "f", "--", "tr", "a", "b"]);
}

#[test]
fn a_child_of_a_finished_update_waits_for_its_turn() {
    let scene = scene_with("a\n");
    let gate = scene.gate("gate");
    let script =
        format!("cat; (read _ <{gate}; \"$HELPER\" update f -- tr a c; echo $? >status) </dev/null >/dev/null 2>&1 &");
    call(&scene, ["update", "f", "--", "bash", "-c", &script]).run();
    let holder = scene.flock_holder(scene.path("f.lock"));
    gate.open();
    wait_until("it waits", || count_waiters(&scene.path("f.lock")) > 0);
    holder.release();
    wait_until("it has had its turn", || scene.path("status").exists() && !text(&scene, "status").is_empty());
    assert_eq!((text(&scene, "status"), text(&scene, "f")), ("0\n".to_owned(), "c\n".to_owned()));
}

#[test]
fn a_link_redirected_during_the_wait_is_followed_again() {
    let scene = Scene::new();
    for name in ["v1", "v2"] {
        fs::write(scene.path(name), "a\n").unwrap();
    }
    symlink("v1", scene.path("cur")).unwrap();
    let holder = scene.flock_holder(scene.path("v1.lock"));
    let update = call(&scene, ["update", "cur", "--", "tr", "a", "b"]).start();
    wait_until("it waits", || count_waiters(&scene.path("v1.lock")) > 0);
    fs::remove_file(scene.path("cur")).unwrap();
    symlink("v2", scene.path("cur")).unwrap();
    holder.release();
    update.finish();
    assert_eq!((text(&scene, "v1"), text(&scene, "v2")), ("a\n".to_owned(), "b\n".to_owned()));
}
