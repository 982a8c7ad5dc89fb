//! `update` and `write`, as their contract has it.

use crate::call::Call;
use crate::process::{
    copy_program, count_waiters, interrupt_group, is_alive, is_locked, is_root, kill, make_fifo, wait_until,
};
use crate::scene::{HELPER, Scene};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{iter, thread};

/// A call of the helper in the directory of the scene.
fn call<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(scene: &Scene, args: I) -> Call {
    scene.aba(args).current_dir(scene.path("."))
}

fn scene_with(content: &str) -> Scene {
    let scene = Scene::new();
    fs::write(scene.path("f"), content).unwrap();
    scene
}

fn text(scene: &Scene, name: &str) -> String {
    fs::read_to_string(scene.path(name)).unwrap()
}

/// The names in the directory, but for the lock file.
fn names(scene: &Scene) -> Vec<String> {
    let entries = fs::read_dir(scene.path(".")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.filter(|name| name != "f.lock").collect();
    names.sort();
    names
}

#[test]
fn a_command_gets_the_old_content_and_prints_the_new_one() {
    let scene = scene_with("a\nb");
    call(&scene, ["update", "f", "--", "sed", "s/a/x/"]).run();
    assert_eq!(text(&scene, "f"), "x\nb");
    // Byte by byte, whatever they are.
    fs::write(scene.path("f"), b"\0\xff\n\0").unwrap();
    call(&scene, ["update", "f", "--", "sh", "-c", "cat; printf 'x\\0'"]).run();
    assert_eq!(fs::read(scene.path("f")).unwrap(), b"\0\xff\n\0x\0");
    assert_eq!(names(&scene), ["f"]);
}

#[test]
fn files_with_long_names_of_the_same_prefix_can_be_updated_together() {
    let scene = Scene::new();
    let [one, other] = ["1", "2"].map(|end| "x".repeat(249) + end);
    fs::write(scene.path(&one), "a").unwrap();
    fs::write(scene.path(&other), "a").unwrap();
    let script = format!("'{HELPER}' update {other} -- sed s/a/c/ && sed s/a/b/");
    call(&scene, ["update", &one, "--", "sh", "-c", &script]).run();
    assert_eq!((text(&scene, &one).as_str(), text(&scene, &other).as_str()), ("b", "c"));
    let locks = [&one, &other].map(|name| format!("{name}.lock"));
    let left: Vec<String> = names(&scene).into_iter().filter(|name| !locks.contains(name)).collect();
    assert_eq!(left, [one, other]);
}

#[test]
fn a_command_edits_a_private_copy() {
    let scene = scene_with("a\n");
    call(&scene, ["update", "--in-place", "f", "--", "sed", "-i", "s/a/x/", "{}"]).run();
    assert_eq!(text(&scene, "f"), "x\n");
    // The copy has the name of the file, and what is left beside it goes with it; what the command prints is printed.
    let script = "echo \"${1##*/}\"; stat -c %a \"${1%/*}\"; echo litter >\"$1.bak\"; echo y >\"$1\"";
    call(&scene, ["update", "-i", "f", "--", "sh", "-c", script, "sh", "{}"]).out("f\n700\n").run();
    assert_eq!(text(&scene, "f"), "y\n");
    call(&scene, ["update", "-i", "f", "--", "sh", "-c", "echo z >\"$0\"; exit 4", "{}"]).status(4).run();
    call(&scene, ["update", "-i", "f", "--", "rm", "{}"]).status(125).err("it is unchanged").run();
    call(&scene, ["update", "-i", "f", "--", "ln", "-sf", "/etc/passwd", "{}"])
        .status(125)
        .err("it is unchanged")
        .run();
    call(&scene, ["update", "-i", "f", "--", "true"]).status(2).err("has no {}").run();
    assert_eq!(text(&scene, "f"), "y\n");
    assert_eq!(names(&scene), ["f"]);
}

#[test]
fn write_replaces_a_file_completely_or_not_at_all() {
    let scene = scene_with("old\n");
    let pipe = |script: &str| scene.bash_here(script);
    pipe("seq 3 | \"$HELPER\" write f").run();
    assert_eq!(text(&scene, "f"), "1\n2\n3\n");
    pipe("false | \"$HELPER\" write f").status(1).err("the new content of f is empty").run();
    assert_eq!(text(&scene, "f"), "1\n2\n3\n");
    pipe("\"$HELPER\" write --allow-empty f </dev/null").run();
    assert_eq!(text(&scene, "f"), "");
    pipe("\"$HELPER\" write f <&-").run();
    pipe("echo x | \"$HELPER\" write new").status(125).err("hint: to create it, use `--create`").run();
    pipe("umask 027; echo x | \"$HELPER\" write --create new").run();
    assert_eq!(fs::metadata(scene.path("new")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(names(&scene), ["f", "new", "new.lock"]);
}

#[test]
fn a_command_that_fails_or_prints_nothing_changes_nothing() {
    let scene = scene_with("old\n");
    let before = fs::metadata(scene.path("f")).unwrap();
    call(&scene, ["update", "f", "--", "sh", "-c", "echo half; exit 7"]).status(7).run();
    call(&scene, ["update", "f", "--", "sh", "-c", "echo half; kill -9 $$"]).status(137).run();
    call(&scene, ["update", "f", "--", "no-such-command"]).status(127).err("command not found").run();
    call(&scene, ["update", "f", "--", "/"]).status(126).err("could not run /").run();
    call(&scene, ["update", "f", "--", "true"]).status(1).err("hint: if that is intended, use `--allow-empty`").run();
    let after = fs::metadata(scene.path("f")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    call(&scene, ["update", "--allow-empty", "f", "--", "true"]).run();
    assert_eq!(text(&scene, "f"), "");
    assert_eq!(names(&scene), ["f"]);
}

#[test]
fn unchanged_content_is_not_written() {
    let scene = scene_with("old\n");
    let before = fs::metadata(scene.path("f")).unwrap();
    call(&scene, ["update", "-v", "f", "--", "cat"]).err("f already has this content: nothing was written").run();
    call(&scene, ["update", "f", "--", "cat"]).run();
    let after = fs::metadata(scene.path("f")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    call(&scene, ["update", "-v", "f", "--", "tr", "o", "0"]).err("f was changed").run();
}

#[test]
fn an_invalid_path_is_an_error_and_leaves_no_files() {
    let scene = Scene::new();
    for path in ["none", "none/none", ".", "/"] {
        call(&scene, ["update", path, "--", "cat"]).status(125).err("aba-lock: ").run();
    }
    fs::create_dir(scene.path("d")).unwrap();
    call(&scene, ["update", "d", "--", "cat"]).status(125).err("d is a directory, not a regular file").run();
    make_fifo(&scene.path("p"));
    call(&scene, ["update", "p", "--", "cat"]).status(125).err("p is a FIFO, not a regular file").run();
    call(&scene, ["update", "/dev/null", "--", "cat"]).status(125).err("not a regular file").run();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    call(&scene, ["update", "d/f/", "--", "cat"]).status(125).err("Not a directory").run();
    call(&scene, ["update", "--create", "new/", "--", "cat"]).status(125).err("No such file").run();
    symlink("nowhere", scene.path("dangling")).unwrap();
    call(&scene, ["update", "dangling", "--", "cat"]).status(125).err("No such file").run();
    symlink("loop", scene.path("loop")).unwrap();
    call(&scene, ["update", "loop", "--", "cat"]).status(125).err("Too many levels").run();
    assert_eq!(names(&scene), ["d", "dangling", "loop", "p"]);
    call(&scene, ["update", "--create", "dangling", "--", "sh", "-c", "cat; echo made"]).run();
    assert_eq!(text(&scene, "nowhere"), "made\n");
}

#[test]
fn a_link_is_kept_and_its_target_keeps_mode_and_attributes() {
    let scene = Scene::new();
    fs::create_dir(scene.path("there")).unwrap();
    fs::write(scene.path("there/secret"), "a\n").unwrap();
    fs::set_permissions(scene.path("there/secret"), fs::Permissions::from_mode(0o600)).unwrap();
    xattr::set(scene.path("there/secret"), "user.note", b"kept").unwrap();
    symlink("there/secret", scene.path("one")).unwrap();
    symlink("one", scene.path("two")).unwrap();
    call(&scene, ["update", "two", "--", "tr", "a", "b"]).run();
    assert_eq!(text(&scene, "there/secret"), "b\n");
    assert_eq!(fs::metadata(scene.path("there/secret")).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(xattr::get(scene.path("there/secret"), "user.note").unwrap().unwrap(), b"kept");
    assert_eq!(fs::read_link(scene.path("two")).unwrap(), PathBuf::from("one"));
    // Its lock is beside the file, so that both ways to it are one.
    assert!(scene.path("there/secret.lock").exists());
    assert_eq!(names(&scene), ["one", "there", "two"]);
    for mode in [0o644, 0o4755, 0o444, 0o640] {
        fs::set_permissions(scene.path("there/secret"), fs::Permissions::from_mode(mode)).unwrap();
        call(&scene, ["update", "one", "--", "sh", "-c", "cat; echo x"]).run();
        assert_eq!(fs::metadata(scene.path("there/secret")).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn check_backup_diff_and_dry_run_work_together() {
    let scene = scene_with("a\nb\n");
    let diff = "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n";
    let said = call(&scene, ["update", "--dry-run", "--diff", "f", "--", "tr", "b", "c"]).out(diff).run();
    assert_eq!(said.out, diff);
    call(&scene, ["update", "--check", "grep -q c", "f", "--", "tr", "a", "x"])
        .status(1)
        .err("the check refused")
        .run();
    // What a check prints is for the user, and not data.
    call(&scene, ["update", "--check", "sh -c 'echo no; exit 3'", "f", "--", "tr", "a", "x"])
        .status(1)
        .err("no\n")
        .err("(status 3)")
        .run();
    call(&scene, ["update", "--check", "no-such-check", "f", "--", "tr", "a", "x"])
        .status(127)
        .err("no-such-check: ")
        .err("the check of f could not be run (status 127); it is unchanged")
        .run();
    call(&scene, ["update", "--check", "'", "f", "--", "tr", "a", "x"]).status(1).err("the check refused").run();
    call(&scene, ["update", "--check", " ", "f", "--", "cat"]).status(2).err("the command of --check is empty").run();
    assert_eq!(text(&scene, "f"), "a\nb\n");
    assert_eq!(names(&scene), ["f"]);
    call(&scene, ["update", "--check", "grep -q c", "--backup", "f", "--", "tr", "b", "c"]).run();
    assert_eq!((text(&scene, "f"), text(&scene, "f~")), ("a\nc\n".to_owned(), "a\nb\n".to_owned()));
    call(&scene, ["update", "--backup=.bak", "f", "--", "tr", "c", "d"]).run();
    assert_eq!(text(&scene, "f.bak"), "a\nc\n");
    call(&scene, ["update", "--backup", "f", "--", "tr", "d", "e"]).run();
    assert_eq!(text(&scene, "f~"), "a\nd\n");
    assert_eq!(names(&scene), ["f", "f.bak", "f~"]);
}

#[test]
fn a_check_is_a_shell_command_with_the_new_content_as_input_and_file() {
    let scene = scene_with("a\n");
    fs::create_dir(scene.path("it's a \"$(touch pasted)\"")).unwrap();
    let file = "it's a \"$(touch pasted)\"/f";
    fs::write(scene.path(file), "a\n").unwrap();
    let check =
        "test \"$(cat)\" = b && grep -q b \"$1\" && cmp \"$1\" \"$ABA_COPY\" && echo $(cat \"$ABA_FILE\") >>log";
    for subcommand in ["update", "write"] {
        fs::write(scene.path(file), "a\n").unwrap();
        let script = match subcommand {
            "update" => "\"$HELPER\" update --check \"$0\" \"$1\" -- tr a b",
            _ => "echo b | \"$HELPER\" write --check \"$0\" \"$1\"",
        };
        scene.call("bash").args(["-c", script, check, file]).current_dir(scene.path(".")).run();
        assert_eq!(text(&scene, file), "b\n");
    }
    assert_eq!(text(&scene, "log"), "a\na\n");
    assert!(!scene.path("pasted").exists());
    for check in ["echo c >\"$1\"", "echo c >c; mv c \"$1\"", "echo c >/proc/self/fd/0"] {
        call(&scene, ["update", "--check", check, "f", "--", "tr", "a", "b"])
            .status(1)
            .err("the check changed the new content of f")
            .run();
        assert_eq!(text(&scene, "f"), "a\n", "{check}");
    }
}

#[test]
fn scripts_without_an_interpreter_line_run_everywhere() {
    let scene = scene_with("a\n");
    fs::write(scene.path("bare"), "echo \"$0\" >>ran\ntr a b\n").unwrap();
    fs::set_permissions(scene.path("bare"), fs::Permissions::from_mode(0o755)).unwrap();
    call(&scene, ["update", "f", "--", "./bare"]).run();
    assert_eq!(text(&scene, "f"), "b\n");
    fs::write(scene.path("f"), "a\n").unwrap();
    call(&scene, ["update", "--in-place", "f", "--", "./bare", "{}"]).run();
    // Found on PATH, too.
    let path = format!("{}:{}", scene.path(".").display(), std::env::var("PATH").unwrap());
    call(&scene, ["update", "f", "--", "bare"]).env("PATH", &path).run();
    assert_eq!(text(&scene, "f"), "b\n");
    scene.bash_here("echo c | \"$HELPER\" write --check ./bare f").err("c\n").run();
    let holder = scene.holder("a");
    let said = call(&scene, ["lock", "-q", "--on-busy", "./bare", "a", "--", "true"]).run();
    assert_eq!(said.out, "");
    holder.release();
    assert_eq!(text(&scene, "ran").lines().count(), 5);
}

#[test]
fn an_in_place_command_gets_its_copy_in_a_variable() {
    let scene = scene_with("a\n");
    let script = "test \"$0\" = \"$ABA_COPY\" && cp \"$ABA_FILE\" \"$ABA_COPY\" && echo b >>\"$ABA_COPY\"";
    call(&scene, ["update", "-i", "f", "--", "sh", "-c", script, "{}"]).run();
    assert_eq!(text(&scene, "f"), "a\nb\n");
    // The copy of another update is not that of this one.
    let script = "\"$HELPER\" update --create g -- sh -c 'echo \"[$ABA_COPY]\"'; : {}";
    call(&scene, ["update", "-i", "f", "--", "sh", "-c", script]).run();
    assert_eq!(text(&scene, "g"), "[]\n");
}

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
    // And the other way round: within the command it is locked, for itself too.
    let script = "flock -n f.lock true; echo $?; \"$HELPER\" update f -- cat; echo $?";
    call(&scene, ["update", "f", "--", "sh", "-c", script])
        .err("waiting for f would be a deadlock: it is being updated by a command that waits for this one")
        .run();
    assert_eq!(text(&scene, "f"), "1\n75\n");
    // A lock that was handed down is the same lock.
    let path = scene.path("f.lock");
    call(&scene, ["lock", "--file", path.to_str().unwrap(), "--", HELPER, "update", "-n", "f", "--", "tr", "1", "2"])
        .run();
    assert_eq!(text(&scene, "f"), "2\n75\n");
}

#[test]
fn a_wait_names_the_holder_and_its_command() {
    let scene = scene_with("a\n");
    let gate = scene.gate("gate");
    let script = format!("cat; echo x; echo begun >&2; read _ <'{}'", gate.path.display());
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

/// Writes two characters in place, and puts the time of the last write back.
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
    let script = format!("{{ read _ <'{}'; echo x; }} | \"$HELPER\" write f", gate.path.display());
    write.args(["-c", &script]).current_dir(scene.path("."));
    let write = Call::new(write).status(1).err("f was changed during the update, by a process that does not").start();
    wait_until("it reads", || names(&scene).contains(&".f.aba-lock.d".to_owned()));
    scene.call("sh").args(["-c", WRITE_UNSEEN]).current_dir(scene.path(".")).run();
    gate.open();
    write.finish();
    assert_eq!((text(&scene, "f"), names(&scene)), ("b\n".to_owned(), vec!["f".to_owned(), "gate".to_owned()]));
}

#[test]
fn changes_of_mode_links_and_times_are_not_changes_of_the_content() {
    let scene = scene_with("a\n");
    for (meanwhile, mode) in
        [("chmod 600 f", 0o600), ("ln f g", 0o600), ("touch f", 0o600), ("cat f >/dev/null", 0o600)]
    {
        let before = text(&scene, "f");
        call(&scene, ["update", "--backup", "f", "--", "sh", "-c", &format!("cat; echo x; {meanwhile}")]).run();
        assert_eq!(text(&scene, "f"), before + "x\n", "{meanwhile}");
        assert_eq!(fs::metadata(scene.path("f")).unwrap().permissions().mode() & 0o777, mode);
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
        // There is nothing to change; but the content that was looked at is that of another file.
        ("link", "cat; ln -sfn v2/f link"),
    ] {
        for (link, to) in [("link", "v1/f"), ("cur", "v1")] {
            let _ = fs::remove_file(scene.path(link));
            symlink(to, scene.path(link)).unwrap();
        }
        call(&scene, ["update", path, "--", "sh", "-c", script])
            .status(1)
            .err(format!("{path} no longer leads to the file that was read; no file was changed"))
            .run();
        assert_eq!((text(&scene, "v1/f"), text(&scene, "v2/f")), ("a\n".to_owned(), "a\n".to_owned()), "{script}");
    }
}

#[test]
fn a_command_that_writes_the_file_itself_is_reported() {
    let scene = scene_with("a\n");
    let told = |args: &[&str], status| {
        let said = call(&scene, [&["update"], args].concat())
            .status(status)
            .err("f was changed during the update, by the command")
            .run();
        assert!(said.err.contains("`aba-lock update --in-place ./f -- CMD {}`"), "{}", said.err);
        assert!(!said.err.contains("unchanged"), "{}", said.err);
    };
    // GNU sed makes another file.
    told(&["f", "--", "sed", "-i", "s/a/b/", "f"], 1);
    assert_eq!(text(&scene, "f"), "b\n");
    told(&["-v", "f", "--", "sh", "-c", "echo c >>f; cat f"], 1);
    told(&["--dry-run", "f", "--", "sh", "-c", "cat; echo d >>f"], 1);
    told(&["-i", "f", "--", "sh", "-c", "echo e >>f; : {}"], 1);
    told(&["--check", "echo f >>f; false", "f", "--", "sh", "-c", "cat; echo x"], 1);
    assert_eq!(text(&scene, "f"), "b\nc\nd\ne\nf\n");
    // The hint can be typed as it is.
    fs::write(scene.path("-a b"), "a\n").unwrap();
    call(&scene, ["update", "--", "-a b", "sh", "-c", "echo h >>'-a b'; cat"])
        .status(1)
        .err("`aba-lock update --in-place './-a b' -- CMD {}`")
        .run();
    for name in ["-a b", "-a b.lock"] {
        fs::remove_file(scene.path(name)).unwrap();
    }
    // The status of a command that fails stays its own.
    told(&["f", "--", "sh", "-c", "echo g >>f; exit 7"], 7);
    assert_eq!(text(&scene, "f"), "b\nc\nd\ne\nf\ng\n");
    assert_eq!(names(&scene), ["f"]);
}

#[test]
fn the_old_content_is_saved_if_the_command_truncates_the_file() {
    let scene = scene_with("precious\n");
    fs::set_permissions(scene.path("f"), fs::Permissions::from_mode(0o640)).unwrap();
    let said = call(&scene, ["update", "f", "--", "sh", "-c", "sed s/a/b/ f >f"]).status(1).err("f was changed").run();
    let saved = scene.path("f.saved");
    assert!(said.err.contains(&format!("its old content is in {}", fs::canonicalize(&saved).unwrap().display())));
    assert_eq!((text(&scene, "f"), text(&scene, "f.saved")), (String::new(), "precious\n".to_owned()));
    assert_eq!(fs::metadata(&saved).unwrap().permissions().mode() & 0o777, 0o640);
    // Content that was saved before stays.
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
        // Where a file can have only one name.
        ("link,linkat:error=EPERM", Some("precious\n")),
        ("fchmod:error=EPERM", Some("precious\n")),
    ] {
        let scene = scene_with("precious\n");
        let (status, said) = traced(&scene, &["-e", &format!("inject={inject}")], &update);
        assert!(status != Some(0), "{inject}: {said}");
        assert_eq!(fs::read_to_string(scene.path("f.saved")).ok().as_deref(), saved, "{inject}: {said}");
        assert_eq!(said.contains("its old content is in "), saved.is_some(), "{inject}: {said}");
        // A name that is in use stays as it is, whatever has it.
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
fn an_update_through_a_link_names_the_lock_of_its_target() {
    let scene = scene_with("a\n");
    symlink("f", scene.path("link")).unwrap();
    let file = fs::canonicalize(scene.path("f")).unwrap();
    call(&scene, ["update", "-v", "link", "--", "tr", "a", "b"])
        .err(format!("link was changed, a link to {0}; the lock is {0}.lock", file.display()))
        .run();
    let holder = scene.flock_holder(scene.path("f.lock"));
    call(&scene, ["update", "-n", "link", "--", "cat"])
        .status(75)
        .err(format!("`aba-lock status --file {}.lock`", file.display()))
        .err("(link is a link; the lock is next to its target)")
        .run();
    holder.release();
}

#[test]
fn output_of_background_processes_of_the_command_is_included() {
    let scene = scene_with("a\n");
    let gate = scene.gate("gate");
    let script = format!("exec 3>&1; (read _ <'{}'; tr a b) <&0 & exit 0", gate.path.display());
    let update =
        call(&scene, ["update", "f", "--", "bash", "-c", &format!("exec 4<&0; {}", script.replace("<&0 &", "<&4 &"))])
            .start();
    gate.open();
    update.finish();
    assert_eq!(text(&scene, "f"), "b\n");
}

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
        let script = format!("echo $$ >pid; echo half; read _ <'{}'", gate.path.display());
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
        // Its own group: no terminal sends it to both.
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
            // It goes on and ends well; but who gave it up does not want that any more.
            wait_until("it was asked", || true);
            gate.open();
        }
        wait_until("it has ended", || child.try_wait().unwrap().is_some());
        // It dies of the signal, so that a shell that called it knows.
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

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn twenty_writers_at_once_lose_nothing_and_no_reader_sees_half() {
    let scene = Scene::new();
    let base = "# kept\ncontainers:\n  base: {image: debian}\nend: true\n";
    let done = AtomicBool::new(false);
    fs::write(scene.path("f"), base).unwrap();
    thread::scope(|scope| {
        // Also where an assertion fails: the readers would go on for ever.
        let end = SetWhenDropped(&done);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut looks = 0;
                    while !done.load(Ordering::Relaxed) {
                        let seen = text(&scene, "f");
                        assert!(seen.starts_with("# kept\ncontainers:\n") && seen.ends_with("end: true\n"), "{seen:?}");
                        looks += 1;
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

/// Runs an update under strace with these options, and returns how it ended.
fn traced(scene: &Scene, options: &[&str], args: &[&str]) -> (Option<i32>, String) {
    scene.trace_helper(options, args, ".")
}

/// The calls that change something, or after which something is decided.
const CALLS: [&str; 19] = [
    "mkdir",
    "openat",
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
            // Each call has a count of its own: this ends where there are no more of it.
            for when in 1.. {
                let scene = scene_with("old\n");
                let at = format!("{name} {when}");
                let (status, _) = traced(&scene, &["-e", &format!("inject={name}:signal=KILL:when={when}")], args);
                match text(&scene, "f").as_str() {
                    "old\n" => olds += 1,
                    "new\n" => news += 1,
                    other => panic!("killed at {at}: {other:?}"),
                }
                // The next one works, and clears up.
                wait_until("it can be had", || !is_locked(&scene.path("f.lock")) || !scene.path("f.lock").exists());
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
    let cases = [
        ("write:error=ENOSPC:when=1", "could not write f: No space left on device"),
        ("write:error=EDQUOT:when=1", "could not write f: "),
        ("write:error=EIO:when=1", "could not write f: "),
        ("fsync:error=EIO:when=1", "could not write f: Input/output error"),
        ("fsync:error=ENOSPC:when=1", "could not write f: No space left on device"),
        ("rename,renameat,renameat2:error=EROFS", "could not replace f: Read-only file system"),
        ("rename,renameat,renameat2:error=EDQUOT", "could not replace f: "),
        ("fchmod:error=EPERM", "could not keep the mode of f: Operation not permitted"),
    ];
    for (inject, sentence) in cases {
        let scene = scene_with("old\n");
        let (status, said) =
            traced(&scene, &["-e", &format!("inject={inject}")], &["update", "f", "--", "sed", "s/old/new/"]);
        assert_eq!(status, Some(125), "{inject}: {said}");
        assert!(said.contains(sentence) && said.contains("it is unchanged"), "{inject}: {said}");
        assert_eq!(text(&scene, "f"), "old\n", "{inject}");
        assert_eq!(names(&scene), ["f", "trace"], "{inject}");
    }
}

#[test]
fn a_file_that_cannot_be_verified_is_not_reported_as_changed() {
    let scene = scene_with("old\n");
    let path = fs::canonicalize(scene.path("f")).unwrap();
    // It is read twice by this call before the command runs.
    let options = ["-P", path.to_str().unwrap(), "-e", "inject=pread64:error=EIO:when=3+"];
    let (status, said) = traced(&scene, &options, &["update", "f", "--", "sed", "s/old/new/"]);
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("could not read f: Input/output error; it is unchanged"), "{said}");
    assert_eq!((text(&scene, "f"), names(&scene)), ("old\n".to_owned(), vec!["f".to_owned(), "trace".to_owned()]));
}

#[test]
fn the_content_is_synced_before_the_rename_and_the_rename_before_the_exit() {
    let scene = scene_with("old\n");
    let trace = ["-y", "-e", "trace=write,fsync,rename,renameat,renameat2,fchmod,exit_group"];
    let (status, _) = traced(&scene, &trace, &["update", "f", "--", "sed", "s/old/new/"]);
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
fn a_large_file_is_streamed() {
    let scene = Scene::new();
    let chunk = vec![b'x'; 1 << 20];
    let big: Vec<u8> = iter::repeat_n(chunk, 200).flatten().collect();
    fs::write(scene.path("f"), &big).unwrap();
    // Less memory than the file has bytes.
    scene.bash_here("ulimit -v 100000; exec \"$HELPER\" update f -- tr x y").run();
    let new = fs::read(scene.path("f")).unwrap();
    assert_eq!(new.len(), big.len());
    assert!(new.iter().all(|byte| *byte == b'y'));
}

#[test]
fn updates_work_with_common_tools() {
    let scene = Scene::new();
    fs::write(scene.path("f"), "{\"a\": [1, 2]}\n").unwrap();
    let python = "import json, sys; d = json.load(sys.stdin); d['a'].append(3); json.dump(d, sys.stdout)";
    let check = "python3 -c 'import json, sys; json.load(sys.stdin)'";
    call(&scene, ["update", "--check", check, "f", "--", "python3", "-c", python]).run();
    assert_eq!(text(&scene, "f"), "{\"a\": [1, 2, 3]}");
    call(&scene, ["update", "--check", check, "f", "--", "tr", "-d", "}"]).status(1).err("JSONDecodeError").run();
    fs::write(scene.path("f"), "127.0.0.1 localhost\n10.0.0.1 web\n").unwrap();
    call(&scene, ["update", "f", "--", "awk", "$2 == \"web\" {$1 = \"10.0.0.9\"} {print}"]).run();
    assert_eq!(text(&scene, "f"), "127.0.0.1 localhost\n10.0.0.9 web\n");
    fs::write(scene.path("f"), "[core]\n\tbare = false\n").unwrap();
    call(&scene, ["update", "-i", "f", "--", "git", "config", "-f", "{}", "core.bare", "true"]).run();
    assert_eq!(text(&scene, "f"), "[core]\n\tbare = true\n");
}

#[test]
fn killing_an_update_releases_its_lock_and_ends_its_command() {
    let scene = scene_with("a\n");
    let gate = scene.gate("gate");
    let script = format!("echo $$ >pid; cat; read _ <'{}'; echo late", gate.path.display());
    let mut command = scene.program(HELPER);
    command.args(["update", "f", "--", "bash", "-c", &script]).current_dir(scene.path("."));
    let mut child = command.spawn().unwrap();
    wait_until("it runs", || fs::read_to_string(scene.path("pid")).is_ok_and(|pid| pid.ends_with('\n')));
    kill(child.id(), 9);
    child.wait().unwrap();
    call(&scene, ["update", "-n", "f", "--", "tr", "a", "b"]).run();
    gate.open();
    let pid = text(&scene, "pid").trim().parse().unwrap();
    wait_until("its command has ended", || !is_alive(pid));
    assert_eq!(text(&scene, "f"), "b\n");
}

#[test]
fn a_command_that_outlives_its_update_does_not_reach_the_next_one() {
    let scene = scene_with("base\n");
    let (late, begun) = (scene.gate("late"), scene.path("begun"));
    let script =
        format!("(read _ <'{}'; echo late >{{}}; echo >done) >/dev/null 2>&1 & echo one >>{{}}", late.path.display());
    call(&scene, ["update", "-i", "f", "--", "bash", "-c", &script]).start().finish();
    let gate = scene.gate("gate");
    let script = format!("echo two >>{{}}; echo >'{}'; read _ <'{}'", begun.display(), gate.path.display());
    let second = call(&scene, ["update", "-i", "f", "--", "bash", "-c", &script]).start();
    wait_until("the second one is at it", || begun.exists());
    late.open();
    wait_until("the late one has tried", || scene.path("done").exists());
    gate.open();
    second.finish();
    assert_eq!(text(&scene, "f"), "base\none\ntwo\n");
}

#[test]
fn a_default_acl_is_not_applied_to_an_updated_file() {
    let scene = Scene::new();
    fs::create_dir(scene.path("d")).unwrap();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    fs::set_permissions(scene.path("d/f"), fs::Permissions::from_mode(0o640)).unwrap();
    // As setfacl -d -m u:65534:rw: version 2; owner, user 65534, group, mask, others.
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 7u16, u32::MAX), (2, 6, 65534), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(tag.to_le_bytes());
        acl.extend(permissions.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    xattr::set(scene.path("d"), "system.posix_acl_default", &acl).unwrap();
    call(&scene, ["update", "d/f", "--", "tr", "a", "b"]).run();
    assert_eq!(text(&scene, "d/f"), "b\n");
    assert_eq!(xattr::get(scene.path("d/f"), "system.posix_acl_access").unwrap(), None);
    assert_eq!(fs::metadata(scene.path("d/f")).unwrap().permissions().mode() & 0o7777, 0o640);
}

#[test]
fn an_update_whose_lock_file_was_removed_changes_nothing() {
    let scene = scene_with("a\n");
    let path = fs::canonicalize(scene.path(".")).unwrap().join("f.lock");
    for script in ["cat; echo x; rm f.lock", "rm f.lock; cat", "cat; echo x; rm f.lock; : >f.lock"] {
        let said = call(&scene, ["update", "f", "--", "sh", "-c", script])
            .status(1)
            .err(format!("lock file {} was removed during the update", path.display()))
            .run();
        assert!(!said.err.contains("was changed"), "{}", said.err);
    }
    let script = "cat; echo y; rm f.lock; \"$HELPER\" update f -- tr a b";
    call(&scene, ["update", "f", "--", "sh", "-c", script]).status(1).err("f was changed during the update").run();
    assert_eq!(text(&scene, "f"), "b\n");
    assert_eq!(names(&scene), ["f"]);
}

#[test]
fn a_backup_is_complete_without_hard_links_and_survives_a_failed_update() {
    let scene = scene_with("precious\n");
    let update = ["update", "--backup", "f", "--", "tr", "a-z", "A-Z"];
    let (status, said) = traced(&scene, &["-e", "inject=link,linkat:error=EPERM"], &update);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!((text(&scene, "f"), text(&scene, "f~")), ("PRECIOUS\n".to_owned(), "precious\n".to_owned()));
    // The first gives the backup its name, the second would have replaced the file.
    let update = ["update", "--backup", "f", "--", "tr", "A-Z", "0"];
    let (status, said) = traced(&scene, &["-e", "inject=rename,renameat,renameat2:error=EPERM:when=2"], &update);
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

/// Runs `update` as a user with these groups, the first of which is the user's own.
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
    // Only root can make files of other users.
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    copy_program(HELPER, &scene.path("helper"));
    fs::create_dir(scene.path("d")).unwrap();
    fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let (file, lock) = (scene.path("d/f"), scene.path("d/f.lock"));
    let make = |mode: u32| {
        fs::set_permissions(scene.path("d"), fs::Permissions::from_mode(0o777)).unwrap();
        let _ = fs::remove_file(&lock);
        let _ = fs::remove_file(&file);
        fs::write(&file, "a\n").unwrap();
        chown(&file, Some(60_001), Some(60_000)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
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
        // The lock is open to the whole group, too.
        update_as(&scene, "60001", &["60001", "60000"], update).run();
        is(60_001, 60_000, mode, "c\n");
    }
    // Write access by the rights of all others: the group is lost, but has no other rights than these.
    make(0o666);
    update_as(&scene, "60002", &["60002"], update).run();
    is(60_002, 60_002, 0o666, "b\n");
    let refused = "could not keep the owner of f: Operation not permitted; it is unchanged";
    for (mode, groups) in [
        // Another group would get the rights of this one, or this one those of all others.
        (0o676, &["60002"][..]),
        (0o646, &["60002"]),
        (0o2666, &["60002"]),
        (0o4664, &["60002", "60000"]),
        // The directory alone is open.
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
        fs::set_permissions(scene.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    for name in ["f".to_owned(), "x".repeat(250)] {
        fs::write(scene.path("d").join(&name), "a\n").unwrap();
        chown(scene.path("d").join(&name), Some(60_002), Some(60_000)).unwrap();
        fs::set_permissions(scene.path("d").join(&name), fs::Permissions::from_mode(0o664)).unwrap();
        let killed = format!("exec \"$HELPER\" update {name} -- sh -c 'echo half; kill -9 $PPID'");
        let update = format!("exec \"$HELPER\" update -i --backup {name} -- sh -c 'tr ab bc <{name} >{{}}'");
        let left = || fs::read_dir(scene.path("d")).unwrap().count();
        update_as(&scene, "60001", &["60001", "60000"], &killed).status(137).run();
        assert_eq!(left(), 3);
        // The second one finds what the first one left, and removes it.
        for _ in 0..2 {
            update_as(&scene, "60002", &["60002", "60000"], &killed).status(137).run();
        }
        assert_eq!(left(), 4);
        update_as(&scene, "60002", &["60002", "60000"], &update).run();
        assert_eq!((text(&scene, &format!("d/{name}")).as_str(), left()), ("b\n", 4));
        update_as(&scene, "60001", &["60001", "60000"], &update).run();
        assert_eq!((text(&scene, &format!("d/{name}")).as_str(), left()), ("c\n", 3));
        // The second one removes what it left itself, also if the first one has removed its own by then.
        for (user, script, files) in
            [("60001", &killed, 4), ("60002", &killed, 5), ("60001", &update, 4), ("60002", &update, 3)]
        {
            let status = if *script == killed { 137 } else { 0 };
            update_as(&scene, user, &[user, "60000"], script).status(status).run();
            assert_eq!(left(), files, "after a call of user {user}");
        }
        fs::remove_dir_all(scene.path("d")).unwrap();
        fs::create_dir(scene.path("d")).unwrap();
        fs::set_permissions(scene.path("d"), fs::Permissions::from_mode(0o777)).unwrap();
    }
}

#[test]
fn an_update_by_root_does_not_exclude_the_owner_of_the_file() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    copy_program(HELPER, &scene.path("helper"));
    fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(scene.path("d")).unwrap();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    for path in ["d", "d/f"] {
        chown(scene.path(path), Some(60_001), Some(60_001)).unwrap();
    }
    let command = scene.call("bash").args(["-c", "umask 077; exec \"$HELPER\" update f -- tr a b"]);
    command.current_dir(scene.path("d")).run();
    update_as(&scene, "60001", &["60001"], "exec \"$HELPER\" update f -- tr b c").run();
    assert_eq!(text(&scene, "d/f"), "c\n");
    // A file of root's that was given this name is not given away.
    fs::remove_file(scene.path("d/f.lock")).unwrap();
    fs::write(scene.path("d/f.lock"), "secret\n").unwrap();
    fs::set_permissions(scene.path("d/f.lock"), fs::Permissions::from_mode(0o600)).unwrap();
    scene.aba(["update", "f", "--", "tr", "c", "d"]).current_dir(scene.path("d")).run();
    let lock = fs::metadata(scene.path("d/f.lock")).unwrap();
    assert_eq!((lock.uid(), lock.mode() & 0o7777, text(&scene, "d/f.lock")), (0, 0o600, "secret\n".to_owned()));
}

#[test]
fn a_foreign_file_with_the_name_of_the_lock_keeps_its_mode() {
    // As root, this is a file of root's that the owner of the directory renamed.
    for content in ["secret\n", ""] {
        let scene = scene_with("a\n");
        fs::set_permissions(scene.path("f"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::write(scene.path("f.lock"), content).unwrap();
        if content.is_empty() {
            fs::hard_link(scene.path("f.lock"), scene.path("g")).unwrap();
        }
        fs::set_permissions(scene.path("f.lock"), fs::Permissions::from_mode(0o600)).unwrap();
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
            let mut left: Vec<_> =
                fs::read_dir(scene.path("e")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            left.sort();
            assert_eq!(left, ["f", "f.lock"], "{how} {args:?}");
        }
    }
    fs::remove_dir_all(scene.path("e")).unwrap();
    fs::remove_file(scene.path("d")).unwrap();
    fs::create_dir(scene.path("d")).unwrap();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    call(&scene, ["update", "d/f", "--", "sh", "-c", "cat; echo x; rm -r d"])
        .status(1)
        .err("d/f no longer leads to the file that was read; no file was changed")
        .run();
    assert_eq!(names(&scene), [] as [&str; 0]);
}

#[test]
fn a_directory_that_replaced_that_of_the_file_is_not_written_to() {
    let scene = Scene::new();
    fs::create_dir(scene.path("d")).unwrap();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    let trace = ["-e", "trace=mkdir,rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,chmod,fchmodat,chown"];
    let (status, said) =
        traced(&scene, &trace, &["update", "--backup", "-i", "d/f", "--", "sed", "-i", "s/a/b/", "{}"]);
    assert_eq!((status, text(&scene, "d/f")), (Some(0), "b\n".to_owned()), "{said}");
    let trace = text(&scene, "trace");
    // Every path goes through the directory that was open when the file was read.
    let others: Vec<&str> = trace.lines().filter(|line| line.replace("\"/proc/self/fd/", "").contains("\"/")).collect();
    assert!(trace.contains("rename(\"/proc/self/fd/") && others.is_empty(), "{others:?}: {trace}");
    // A link that has its place cannot be opened as a directory.
    let path = fs::canonicalize(scene.path("d")).unwrap();
    let options = ["-P", path.to_str().unwrap(), "-e", "inject=openat:error=ELOOP"];
    let (status, said) = traced(&scene, &options, &["update", "d/f", "--", "tr", "b", "c"]);
    assert_eq!((status, text(&scene, "d/f")), (Some(125), "b\n".to_owned()), "{said}");
    assert!(said.contains("could not open d/f: Too many levels of symbolic links"), "{said}");
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
    // The command itself is ended by it, as anywhere else.
    call(&scene, ["update", "f", "--", "bash", "-c", "yes | head -n 1; echo ${PIPESTATUS[0]}"]).run();
    assert_eq!(text(&scene, "f"), "y\n141\n");
    call(&scene, ["update", "f", "--", "sh", "-c", "kill -PIPE $PPID; cat; echo x"]).status(141).run();
    assert_eq!((text(&scene, "f").as_str(), names(&scene)), ("y\n141\n", vec!["f".to_owned()]));
}

#[test]
fn the_owner_can_open_the_lock_file_for_any_umask() {
    let scene = scene_with("a\n");
    scene.bash_here("umask 0777; exec \"$HELPER\" update f -- tr a b").run();
    assert_eq!(fs::metadata(scene.path("f.lock")).unwrap().permissions().mode() & 0o7777, 0o600);
    call(&scene, ["update", "f", "--", "tr", "b", "c"]).run();
    assert_eq!(text(&scene, "f"), "c\n");
}

#[test]
fn all_users_who_may_write_the_file_may_lock_it() {
    let scene = scene_with("a\n");
    fs::set_permissions(scene.path("f"), fs::Permissions::from_mode(0o666)).unwrap();
    scene.bash_here("umask 0777; exec \"$HELPER\" update f -- tr a b").run();
    let mode = |name: &str| fs::metadata(scene.path(name)).unwrap().permissions().mode() & 0o7777;
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
            let script =
                format!("{start}\nread _ <'{}'; echo b | tee -a \"${{ABA_COPY-/dev/null}}\"", gate.path.display());
            let command = scene.call(HELPER).arg("update").args(in_place.then_some("-i"));
            let command = command.args(["f", "--", "bash", "-c", &script, "{}"]).current_dir(scene.path(".")).out("");
            let running = command.start();
            wait_until("it waits", || scene.path("f.lock").exists() && count_waiters(&scene.path("f.lock")) > 0);
            gate.open();
            running.finish();
            wait_until("it has come to its turn", || {
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
    // Its output is read to the end.
    through("cat; JOB; echo $? >status");
    through("cat; { JOB; echo $? >status; } &");
    through("exec 3>&1; cat; { JOB >/dev/null; echo $? >status; } >&2 &");
    // The command waits for it.
    through("cat; JOB >/dev/null; echo $? >status");
    through("cat; x=$(JOB); echo $? >status");
    refused(&["update", "-i", "f", "--", "sh", "-c", &format!("{job}; echo $? >status; : {{}}")]);
    refused(&["update", "--check", &format!("{job}; echo $? >status"), "f", "--", "tr", "a", "b"]);
}

#[test]
fn a_child_of_a_finished_update_waits_for_its_turn() {
    let scene = scene_with("a\n");
    let gate = scene.gate("gate");
    let script = format!(
        "cat; (read _ <'{}'; \"$HELPER\" update f -- tr a c; echo $? >status) </dev/null >/dev/null 2>&1 &",
        gate.path.display()
    );
    call(&scene, ["update", "f", "--", "bash", "-c", &script]).run();
    let holder = scene.flock_holder(scene.path("f.lock"));
    gate.open();
    wait_until("it waits", || count_waiters(&scene.path("f.lock")) > 0);
    holder.release();
    wait_until("it has come to its turn", || scene.path("status").exists() && !text(&scene, "status").is_empty());
    assert_eq!((text(&scene, "status"), text(&scene, "f")), ("0\n".to_owned(), "c\n".to_owned()));
}

#[test]
fn unreadable_files_next_to_the_copy_are_removed() {
    let scene = scene_with("a\n");
    let script = "echo b >>\"$0\"; mkdir -p \"${0%/*}/x/y\"; chmod 0 \"${0%/*}/x\"";
    for _ in 0..2 {
        call(&scene, ["update", "-i", "f", "--", "sh", "-c", script, "{}"]).run();
        assert_eq!(names(&scene), ["f"]);
    }
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
