//! `update` killed at any system call, refused by the system, and interrupted.

use crate::process::{interrupt_group, is_alive, is_locked, kill, wait_until};
use crate::scene::{HELPER, Scene, error_text};
use crate::update::{call, names, scene_with, text};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

#[test]
fn a_signal_ends_the_command_and_leaves_the_file_as_it_was() {
    for (how, signal) in [
        ("update", "TERM"),
        ("update", "INT"),
        ("in-place", "TERM"),
        ("in-place", "HUP"),
        ("write", "TERM"),
        ("deaf", "TERM"),
    ] {
        let scene = scene_with("a\n");
        let gate = scene.gate("gate");
        let script = format!("echo $$ >pid; echo half; read _ <{gate}");
        let mut command = scene.program(HELPER);
        match how {
            "update" => command.args(["update", "f", "--", "bash", "-c", &script]),
            "deaf" => {
                command.args(["update", "f", "--", "bash", "-c", &format!("trap 'asked=1' TERM; {script}; exit 0")])
            }
            "in-place" => command.args(["update", "-i", "f", "--", "bash", "-c", &format!("{script}; echo {{}}")]),
            _ => command.args(["write", "f"]),
        };
        command.current_dir(scene.path("."));
        // A group of its own, because the test signals the helper alone.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        if how == "write" {
            wait_until("it reads", || names(&scene).contains(&".f.aba-lock.d".to_owned()));
        } else {
            wait_until("it runs", || fs::read_to_string(scene.path("pid")).is_ok_and(|pid| pid.ends_with('\n')));
        }
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success()
        );
        if how == "deaf" {
            // The command ignores the signal and succeeds. Its output is discarded, because the update was cancelled.
            wait_until("the command got the signal", || true);
            gate.open();
        }
        wait_until("it has ended", || child.try_wait().unwrap().is_some());
        // The helper dies of the signal, so that the calling shell notices it.
        let number = [("TERM", 15), ("INT", 2), ("HUP", 1)].iter().find(|(name, _)| *name == signal).unwrap().1;
        assert_eq!(child.wait().unwrap().signal(), Some(number), "{how} {signal}");
        assert_eq!(text(&scene, "f"), "a\n", "{how} {signal}");
        if how != "write" {
            let pid = text(&scene, "pid").trim().parse().unwrap();
            assert!(!is_alive(pid), "{how} {signal}");
            fs::remove_file(scene.path("pid")).unwrap();
        }
        assert_eq!(names(&scene), ["f", "gate"], "{how} {signal}");
    }
}

/// Runs an update under strace with these options. Returns the exit status and stderr.
pub(crate) fn trace_update(scene: &Scene, options: &[&str], args: &[&str]) -> (Option<i32>, String) {
    scene.trace_helper(options, args, ".")
}

/// The system calls that change something, or whose result matters.
const CALLS: [&str; 19] = [
    "mkdir",
    "/^open(at)?$",
    "flock",
    "read",
    "write",
    "pwrite64",
    "copy_file_range",
    "fsync",
    "fchmod",
    "fchown",
    "link",
    "linkat",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "wait4",
    "close",
];

#[test]
fn an_update_killed_at_any_system_call_leaves_the_old_or_the_new_content() {
    for args in [
        &["update", "--backup", "f", "--", "sed", "s/old/new/"][..],
        &["update", "-i", "f", "--", "sed", "-i", "s/old/new/", "{}"],
    ] {
        let (mut olds, mut news) = (0, 0);
        for name in CALLS {
            // strace counts each system call separately. The loop ends after the last one of this name.
            for when in 1.. {
                let scene = scene_with("old\n");
                let at = format!("{name} {when}");
                let (status, _) =
                    trace_update(&scene, &["-e", &format!("inject={name}:signal=KILL:when={when}")], args);
                match text(&scene, "f").as_str() {
                    "old\n" => olds += 1,
                    "new\n" => news += 1,
                    other => panic!("killed at {at}: {other:?}"),
                }
                // The next update succeeds, and removes temporary files.
                wait_until("the lock is free", || !is_locked(&scene.path("f.lock")) || !scene.path("f.lock").exists());
                call(&scene, ["update", "-t", "20", "f", "--", "sh", "-c", "cat; echo more"]).run();
                assert!(text(&scene, "f").ends_with("\nmore\n"), "killed at {at}");
                assert!(
                    names(&scene).iter().all(|name| ["f", "f~", "trace"].contains(&name.as_str())),
                    "killed at {at}"
                );
                if status == Some(0) {
                    break;
                }
            }
        }
        assert!(olds > 20 && news > 1, "{olds} times old, {news} times new");
    }
}

#[test]
fn an_error_at_any_step_leaves_the_old_content_and_is_reported() {
    let not_written = format!("cannot write f: {}", error_text(libc::EIO));
    let cases = [
        ("write:error=ENOSPC:when=1", "cannot write f: No space left on device"),
        ("write:error=EDQUOT:when=1", "cannot write f: "),
        ("write:error=EIO:when=1", "cannot write f: "),
        ("fsync:error=EIO:when=1", &not_written),
        ("fsync:error=ENOSPC:when=1", "cannot write f: No space left on device"),
        ("rename,renameat,renameat2:error=EROFS", "cannot replace f: Read-only file system"),
        ("rename,renameat,renameat2:error=EDQUOT", "cannot replace f: "),
        ("fchmod:error=EPERM", "cannot keep the mode of f: Operation not permitted"),
    ];
    for (inject, sentence) in cases {
        let scene = scene_with("old\n");
        let (status, said) =
            trace_update(&scene, &["-e", &format!("inject={inject}")], &["update", "f", "--", "sed", "s/old/new/"]);
        assert_eq!(status, Some(125), "{inject}: {said}");
        assert!(said.contains(sentence) && said.contains("the file is unchanged"), "{inject}: {said}");
        assert_eq!(text(&scene, "f"), "old\n", "{inject}");
        assert_eq!(names(&scene), ["f", "trace"], "{inject}");
    }
}

#[test]
fn a_file_that_cannot_be_verified_is_not_reported_as_changed() {
    let scene = scene_with("old\n");
    let path = fs::canonicalize(scene.path("f")).unwrap();
    // The helper reads the file by two calls of pread64(2) before the command runs.
    let options = ["-P", path.to_str().unwrap(), "-e", "inject=pread64:error=EIO:when=3+"];
    let (status, said) = trace_update(&scene, &options, &["update", "f", "--", "sed", "s/old/new/"]);
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains(&format!("cannot read f: {}; the file is unchanged", error_text(libc::EIO))), "{said}");
    assert_eq!((text(&scene, "f"), names(&scene)), ("old\n".to_owned(), vec!["f".to_owned(), "trace".to_owned()]));
}

#[test]
fn the_content_is_synced_before_the_rename_and_the_rename_before_the_exit() {
    let scene = scene_with("old\n");
    let trace = ["-y", "-e", "trace=write,fsync,rename,renameat,renameat2,fchmod,exit_group"];
    let (status, _) = trace_update(&scene, &trace, &["update", "f", "--", "sed", "s/old/new/"]);
    assert_eq!(status, Some(0));
    let trace = text(&scene, "trace");
    let at = |what: &dyn Fn(&str) -> bool| trace.lines().position(what).unwrap_or_else(|| panic!("{trace}"));
    let order = [
        at(&|line| line.starts_with("write(") && line.contains("/new>") && line.contains("new")),
        at(&|line| line.starts_with("fchmod(")),
        at(&|line| line.starts_with("fsync(") && line.contains("/new>")),
        at(&|line| line.starts_with("rename")),
        at(&|line| line.starts_with("fsync(") && !line.contains("/new>")),
        at(&|line| line.starts_with("exit_group")),
    ];
    assert!(order.is_sorted(), "{order:?}: {trace}");
}

#[test]
fn killing_an_update_releases_its_lock_and_ends_its_command() {
    let scene = scene_with("a\n");
    let gate = scene.gate("gate");
    let script = format!("echo $$ >pid; cat; read _ <{gate}; echo late");
    let check = format!("{script} >&2");
    for words in [
        &["f", "--", "bash", "-c", &script][..],
        &["f", "--", "bash", "-c", &script, "{}"],
        &["f", "--check", &check, "--", "tr", "a", "c"],
    ] {
        fs::write(scene.path("f"), "a\n").unwrap();
        let mut command = scene.program(HELPER);
        command.arg("update").args(words).current_dir(scene.path(".")).stderr(Stdio::null());
        let mut child = command.stdin(Stdio::null()).spawn().unwrap();
        wait_until("it runs", || fs::read_to_string(scene.path("pid")).is_ok_and(|pid| pid.ends_with('\n')));
        let pid = text(&scene, "pid").trim().parse().unwrap();
        kill(child.id(), 9);
        child.wait().unwrap();
        wait_until("its command has ended", || !is_alive(pid));
        call(&scene, ["update", "-n", "f", "--", "tr", "a", "b"]).run();
        assert_eq!(text(&scene, "f"), "b\n");
        fs::remove_file(scene.path("pid")).unwrap();
    }
}

#[test]
fn a_command_that_outlives_its_update_does_not_reach_the_next_one() {
    let scene = scene_with("base\n");
    let (late, begun) = (scene.gate("late"), scene.path("begun"));
    let script = format!("(read _ <{late}; echo late >{{}}; echo >done) >/dev/null 2>&1 & echo one >>{{}}");
    call(&scene, ["update", "-i", "f", "--", "bash", "-c", &script]).start().finish();
    let gate = scene.gate("gate");
    let script = format!("echo two >>{{}}; echo >'{}'; read _ <{gate}", begun.display());
    let second = call(&scene, ["update", "-i", "f", "--", "bash", "-c", &script]).start();
    wait_until("the second update runs", || begun.exists());
    late.open();
    wait_until("the late process has written", || scene.path("done").exists());
    gate.open();
    second.finish();
    assert_eq!(text(&scene, "f"), "base\none\ntwo\n");
}

#[test]
fn a_backup_is_complete_without_hard_links_and_survives_a_failed_update() {
    let scene = scene_with("precious\n");
    let update = ["update", "--backup", "f", "--", "tr", "a-z", "A-Z"];
    let (status, said) = trace_update(&scene, &["-e", "inject=link,linkat:error=EPERM"], &update);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!((text(&scene, "f"), text(&scene, "f~")), ("PRECIOUS\n".to_owned(), "precious\n".to_owned()));
    // The first rename makes the backup, the second would replace the file.
    let update = ["update", "--backup", "f", "--", "tr", "A-Z", "0"];
    let (status, said) = trace_update(&scene, &["-e", "inject=rename,renameat,renameat2:error=EPERM:when=2"], &update);
    assert_eq!(status, Some(125), "{said}");
    assert_eq!((text(&scene, "f"), text(&scene, "f~")), ("PRECIOUS\n".to_owned(), "precious\n".to_owned()));
    for suffix in ["", ".lock", "/x", "x/../y"] {
        call(&scene, ["update", &format!("--backup={suffix}"), "f", "--", "cat"]).status(2).err("--backup").run();
    }
    assert_eq!(names(&scene), ["f", "f~", "trace"]);
}

#[test]
fn ctrl_c_ends_the_update_and_its_script() {
    let scene = scene_with("a\n");
    let gate = scene.gate("gate");
    let script = "\"$HELPER\" update f -- bash -c \"echo x; echo >begun; read _ <'$1'\"; echo after";
    let command = scene.call("bash").args(["-c", script, "bash", gate.path.to_str().unwrap()]);
    let running = command.current_dir(scene.path(".")).own_group().status(130).start();
    wait_until("it runs", || scene.path("begun").exists());
    interrupt_group(running.pid());
    running.finish();
    assert_eq!(text(&scene, "f"), "a\n");
    assert_eq!(names(&scene), ["begun", "f", "gate"]);
}

#[test]
fn an_update_whose_diff_is_not_read_changes_nothing() {
    let scene = Scene::new();
    let old = "1\n".repeat(100_000);
    fs::write(scene.path("f"), &old).unwrap();
    for call in ["update --diff f -- tr 1 2", "write --diff f < <(tr 1 2 <f)", "update --diff --dry-run f -- tr 1 2"] {
        let script = format!("\"$HELPER\" {call} | true; echo ${{PIPESTATUS[0]}}");
        scene.bash_here(&script).out("141\n").run();
        assert!(text(&scene, "f") == old, "{call}");
        assert_eq!(names(&scene), ["f"], "{call}");
    }
    // In the command itself, SIGPIPE has its usual effect.
    call(&scene, ["update", "f", "--", "bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}"]).run();
    assert_eq!(text(&scene, "f"), "y\n141\n");
    call(&scene, ["update", "f", "--", "sh", "-c", "kill -PIPE $PPID; cat; echo x"]).status(141).run();
    assert_eq!((text(&scene, "f").as_str(), names(&scene)), ("y\n141\n", vec!["f".to_owned()]));
}
