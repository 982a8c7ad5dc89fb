//! `update` of a file that other processes, or the command itself, change during the update.

use crate::call::Call;
use crate::process::{file_mode, list_files, set_mode, wait_until};
use crate::scene::{Scene, error_text};
use crate::update::{call, names, scene_with, text};
use crate::update_faults::trace_update;
use std::fs;
use std::os::unix::fs::symlink;

#[test]
fn changes_by_others_without_the_lock_are_not_lost() {
    let scene = scene_with("a\n");
    let call_it = |script: &str| {
        call(&scene, ["update", "f", "--", "sh", "-c", script]).status(1).err("f was changed during the update").run()
    };
    call_it("cat; echo x; echo theirs >>f");
    assert_eq!(text(&scene, "f"), "a\ntheirs\n");
    call_it("cat; echo x; echo theirs >g; mv g f");
    assert_eq!(text(&scene, "f"), "theirs\n");
    call_it("cat; echo x; rm f");
    assert_eq!(names(&scene), [] as [&str; 0]);
}

/// Writes two characters in place and restores the modification time.
const WRITE_UNSEEN: &str = "touch -r f then; printf 'b\\n' 1<>f; touch -r then f; rm then";

#[test]
fn a_change_whose_modification_time_was_reset_is_not_lost() {
    let scene = scene_with("a\n");
    let script = format!("cat; echo x; {WRITE_UNSEEN}");
    let update = ["update", "f", "--", "sh", "-c", &script];
    call(&scene, update).status(1).err("f was changed during the update").run();
    assert_eq!(text(&scene, "f"), "b\n");
    // Too large to be kept in memory.
    let large = "a".repeat(1 << 21);
    fs::write(scene.path("f"), &large).unwrap();
    call(&scene, update).status(1).err("f was changed during the update").run();
    assert!(text(&scene, "f").starts_with("b\na"));
    assert_eq!(names(&scene), ["f"]);
    fs::write(scene.path("f"), "a\n").unwrap();
    let gate = scene.gate("gate");
    let mut write = scene.program("bash");
    let script = format!("{{ read _ <{gate}; echo x; }} | \"$HELPER\" write f");
    write.args(["-c", &script]).current_dir(scene.path("."));
    let write =
        Call::new(write).status(1).err("f was changed during the update, without the lock, by another process").start();
    wait_until("it reads", || names(&scene).contains(&".f.aba-lock.d".to_owned()));
    scene.call("sh").args(["-c", WRITE_UNSEEN]).current_dir(scene.path(".")).run();
    gate.open();
    write.finish();
    assert_eq!((text(&scene, "f"), names(&scene)), ("b\n".to_owned(), vec!["f".to_owned(), "gate".to_owned()]));
}

#[test]
fn changes_of_mode_links_and_times_are_not_changes_of_the_content() {
    let scene = scene_with("a\n");
    for (change, mode) in [("chmod 600 f", 0o600), ("ln f g", 0o600), ("touch f", 0o600), ("cat f >/dev/null", 0o600)] {
        let before = text(&scene, "f");
        call(&scene, ["update", "--backup", "f", "--", "sh", "-c", &format!("cat; echo x; {change}")]).run();
        assert_eq!(text(&scene, "f"), before + "x\n", "{change}");
        assert_eq!(file_mode(scene.path("f")), mode);
    }
    assert_eq!(names(&scene), ["f", "f~", "g"]);
}

#[test]
fn a_link_redirected_during_the_update_changes_neither_file() {
    let scene = Scene::new();
    for directory in ["v1", "v2"] {
        fs::create_dir(scene.path(directory)).unwrap();
        fs::write(scene.path(directory).join("f"), "a\n").unwrap();
    }
    for (path, script) in [
        ("link", "cat; echo x; ln -sfn v2/f link"),
        ("cur/f", "cat; echo x; ln -sfn v2 cur"),
        ("link", "cat; echo x; rm link"),
        // The new content equals the old one, but that was the content of another file.
        ("link", "cat; ln -sfn v2/f link"),
    ] {
        for (link, to) in [("link", "v1/f"), ("cur", "v1")] {
            let _ = fs::remove_file(scene.path(link));
            symlink(to, scene.path(link)).unwrap();
        }
        let command = call(&scene, ["update", path, "--", "sh", "-c", script]).status(1);
        command.err(format!("{path} no longer leads to the file that was read; no file was changed")).run();
        assert_eq!((text(&scene, "v1/f"), text(&scene, "v2/f")), ("a\n".to_owned(), "a\n".to_owned()), "{script}");
    }
}

#[test]
fn a_command_that_writes_the_file_itself_is_reported() {
    let scene = scene_with("a\n");
    let told = |args: &[&str], status| {
        let command = call(&scene, [&["update"], args].concat()).status(status);
        let said = command.err("f was changed during the update, without the lock, by the command or ").run();
        assert!(said.err.contains("`aba-lock update --in-place ./f -- CMD {}`"), "{}", said.err);
        assert!(!said.err.contains("unchanged"), "{}", said.err);
    };
    // `sed -i` replaces the file.
    told(&["f", "--", "sed", "-i", "s/a/b/", "f"], 1);
    assert_eq!(text(&scene, "f"), "b\n");
    told(&["-v", "f", "--", "sh", "-c", "echo c >>f; cat f"], 1);
    told(&["--dry-run", "f", "--", "sh", "-c", "cat; echo d >>f"], 1);
    told(&["-i", "f", "--", "sh", "-c", "echo e >>f; : {}"], 1);
    told(&["--check", "echo f >>f; false", "f", "--", "sh", "-c", "cat; echo x"], 1);
    assert_eq!(text(&scene, "f"), "b\nc\nd\ne\nf\n");
    // The hint is a correct command line.
    fs::write(scene.path("-a b"), "a\n").unwrap();
    let command = call(&scene, ["update", "--", "-a b", "sh", "-c", "echo h >>'-a b'; cat"]).status(1);
    command.err("`aba-lock update --in-place './-a b' -- CMD {}`").run();
    for name in ["-a b", "-a b.lock"] {
        fs::remove_file(scene.path(name)).unwrap();
    }
    // A failing command keeps its exit status.
    told(&["f", "--", "sh", "-c", "echo g >>f; exit 7"], 7);
    assert_eq!(text(&scene, "f"), "b\nc\nd\ne\nf\ng\n");
    assert_eq!(names(&scene), ["f"]);
}

#[test]
fn the_old_content_is_saved_if_the_command_truncates_the_file() {
    let scene = scene_with("precious\n");
    set_mode(scene.path("f"), 0o640);
    let said = call(&scene, ["update", "f", "--", "sh", "-c", "sed s/a/b/ f >f"]).status(1).err("f was changed").run();
    let saved = scene.path("f.saved");
    assert!(said.err.contains(&format!("the old content is in {}", fs::canonicalize(&saved).unwrap().display())));
    assert_eq!((text(&scene, "f"), text(&scene, "f.saved")), (String::new(), "precious\n".to_owned()));
    assert_eq!(file_mode(&saved), 0o640);
    // Content that was saved before is kept.
    fs::write(scene.path("f"), "second\n").unwrap();
    call(&scene, ["update", "f", "--", "sh", "-c", "(echo; cat f) 2>/dev/null >f"]).status(1).err("f.saved.1").run();
    assert_eq!((text(&scene, "f.saved"), text(&scene, "f.saved.1")), ("precious\n".to_owned(), "second\n".to_owned()));
    assert_eq!(names(&scene), ["f", "f.saved", "f.saved.1"]);
}

#[test]
fn saved_content_appears_only_when_it_is_complete() {
    let update = ["update", "f", "--", "sh", "-c", "sed s/a/b/ f >f"];
    for (inject, saved) in [
        ("write:signal=KILL:when=1", None),
        ("fsync:signal=KILL:when=1", None),
        ("write:error=ENOSPC:when=1", None),
        // A file system without hard links.
        ("link,linkat:error=EPERM", Some("precious\n")),
        ("fchmod:error=EPERM", Some("precious\n")),
    ] {
        let scene = scene_with("precious\n");
        let (status, said) = trace_update(&scene, &["-e", &format!("inject={inject}")], &update);
        assert!(status != Some(0), "{inject}: {said}");
        assert_eq!(fs::read_to_string(scene.path("f.saved")).ok().as_deref(), saved, "{inject}: {said}");
        assert_eq!(said.contains("the old content is in "), saved.is_some(), "{inject}: {said}");
        // Existing files of any type keep their names.
        let _ = fs::remove_file(scene.path("f.saved"));
        symlink("nowhere", scene.path("f.saved")).unwrap();
        fs::create_dir(scene.path("f.saved.1")).unwrap();
        fs::write(scene.path("f"), "second\n").unwrap();
        call(&scene, update).status(1).err("f.saved.2\n").run();
        assert_eq!(text(&scene, "f.saved.2"), "second\n", "{inject}");
        assert_eq!(names(&scene), ["f", "f.saved", "f.saved.1", "f.saved.2", "trace"], "{inject}");
    }
}

#[test]
fn a_directory_moved_during_the_update_keeps_no_temporary_files() {
    let scene = Scene::new();
    for how in ["mv d e", "mv d e; mkdir d; echo other >d/f", "mv d e; ln -s e d", "mv d e; ln -s ../tmp d"] {
        for args in [&["d/f"][..], &["-i", "d/f"], &["--backup", "d/f"], &["--dry-run", "d/f"]] {
            for path in ["d", "e"] {
                let _ = fs::remove_file(scene.path(path));
                let _ = fs::remove_dir_all(scene.path(path));
            }
            fs::create_dir(scene.path("d")).unwrap();
            fs::write(scene.path("d/f"), "a\n").unwrap();
            let script = format!("cat; echo x; {how}; : {{}}");
            let update = [&["update"], args, &["--", "sh", "-c", &script]].concat();
            call(&scene, update).status(1).out("").err("d/f ").run();
            assert_eq!(text(&scene, "e/f"), "a\n", "{how} {args:?}");
            assert_eq!(list_files(scene.path("e")), ["f", "f.lock"], "{how} {args:?}");
        }
    }
    fs::remove_dir_all(scene.path("e")).unwrap();
    fs::remove_file(scene.path("d")).unwrap();
    fs::create_dir(scene.path("d")).unwrap();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    let command = call(&scene, ["update", "d/f", "--", "sh", "-c", "cat; echo x; rm -r d"]).status(1);
    command.err("d/f no longer leads to the file that was read; no file was changed").run();
    assert_eq!(names(&scene), [] as [&str; 0]);
}

#[test]
fn a_directory_that_replaced_that_of_the_file_is_not_written_to() {
    let scene = Scene::new();
    fs::create_dir(scene.path("d")).unwrap();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    let trace = ["-e", "trace=mkdir,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,chmod,fchmodat,chown"];
    let (status, said) =
        trace_update(&scene, &trace, &["update", "--backup", "-i", "d/f", "--", "sed", "-i", "s/a/b/", "{}"]);
    assert_eq!((status, text(&scene, "d/f")), (Some(0), "b\n".to_owned()), "{said}");
    let trace = text(&scene, "trace");
    // Every path goes through the directory that was open when the file was read.
    let others: Vec<&str> = trace.lines().filter(|line| line.replace("\"/proc/self/fd/", "").contains("\"/")).collect();
    assert!(trace.contains("rename(\"/proc/self/fd/") && others.is_empty(), "{others:?}: {trace}");
    // A link in place of the directory cannot be opened as a directory.
    let path = fs::canonicalize(scene.path("d")).unwrap();
    let options = ["-P", path.to_str().unwrap(), "-e", "inject=/^open(at)?$:error=ELOOP"];
    let (status, said) = trace_update(&scene, &options, &["update", "d/f", "--", "tr", "b", "c"]);
    assert_eq!((status, text(&scene, "d/f")), (Some(125), "b\n".to_owned()), "{said}");
    assert!(said.contains(&format!("cannot open d/f: {}", error_text(libc::ELOOP))), "{said}");
}
