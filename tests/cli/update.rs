//! `update` and `write`: the new content, checks, backups, diffs and links. The helpers here serve all tests of `update`.

use crate::call::Call;
use crate::process::{file_mode, list_files, make_fifo, set_mode};
use crate::scene::{HELPER, Scene, error_text};
use std::ffi::OsStr;
use std::fs;
use std::iter;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

/// A call of the helper in the directory of the scene.
pub(crate) fn call<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(scene: &Scene, args: I) -> Call {
    scene.aba(args).current_dir(scene.path("."))
}

pub(crate) fn scene_with(content: &str) -> Scene {
    let scene = Scene::new();
    fs::write(scene.path("f"), content).unwrap();
    scene
}

pub(crate) fn text(scene: &Scene, name: &str) -> String {
    fs::read_to_string(scene.path(name)).unwrap()
}

/// The names of the files in the directory, without the lock file.
pub(crate) fn names(scene: &Scene) -> Vec<String> {
    let mut names = list_files(scene.path("."));
    names.retain(|name| name != "f.lock");
    names
}

#[test]
fn a_command_gets_the_old_content_and_prints_the_new_one() {
    let scene = scene_with("a\nb");
    call(&scene, ["update", "f", "--", "sed", "s/a/x/"]).run();
    assert_eq!(text(&scene, "f"), "x\nb");
    // The content may be any bytes.
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
    // The copy has the name of the file. Other files next to it are removed with it. The output of the command is printed.
    let script = "echo \"${1##*/}\"; stat -c %a \"${1%/*}\"; echo litter >\"$1.bak\"; echo y >\"$1\"";
    call(&scene, ["update", "-i", "f", "--", "sh", "-c", script, "sh", "{}"]).out("f\n700\n").run();
    assert_eq!(text(&scene, "f"), "y\n");
    call(&scene, ["update", "-i", "f", "--", "sh", "-c", "echo z >\"$0\"; exit 4", "{}"]).status(4).run();
    call(&scene, ["update", "-i", "f", "--", "rm", "{}"]).status(125).err("the file is unchanged").run();
    let command = call(&scene, ["update", "-i", "f", "--", "ln", "-sf", "/etc/passwd", "{}"]).status(125);
    command.err("the file is unchanged").run();
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
    let directory =
        "no/f: No such file or directory\nhint: the directory no does not exist: create it with `mkdir -p ./no`\n";
    pipe("echo x | \"$HELPER\" write no/f").status(125).err(directory).run();
    pipe("echo x | \"$HELPER\" write --create no/f").status(125).err(directory).run();
    let forgotten = "hint: if sed is the command, FILE is missing before `--`: `aba-lock update FILE -- sed -n p`\n";
    pipe("\"$HELPER\" update -- sed -n p").status(125).err(forgotten).run();
    pipe("\"$HELPER\" update sed -- cat").status(125).err("hint: to create it, use `--create`").run();
    pipe("umask 027; echo x | \"$HELPER\" write --create new").run();
    assert_eq!(file_mode(scene.path("new")), 0o640);
    assert_eq!(names(&scene), ["f", "new", "new.lock"]);
}

#[test]
fn a_command_that_fails_or_prints_nothing_changes_nothing() {
    let scene = scene_with("old\n");
    let before = fs::metadata(scene.path("f")).unwrap();
    call(&scene, ["update", "f", "--", "sh", "-c", "echo half; exit 7"]).status(7).run();
    call(&scene, ["update", "f", "--", "sh", "-c", "echo half; kill -9 $$"]).status(137).run();
    call(&scene, ["update", "f", "--", "no-such-command"]).status(127).err("command not found").run();
    call(&scene, ["update", "f", "--", "/"]).status(126).err("cannot run /").run();
    call(&scene, ["update", "f", "--", "true"]).status(1).err("hint: if that is intended, use `--allow-empty`").run();
    let after = fs::metadata(scene.path("f")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    call(&scene, ["update", "--allow-empty", "f", "--", "true"]).run();
    assert_eq!(text(&scene, "f"), "");
    assert_eq!(names(&scene), ["f"]);
    call(&scene, ["update", "--create", "new", "--", "cat"])
        .status(1)
        .err("hint: the file is new, so the input ")
        .run();
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
    make_fifo(scene.path("p"));
    call(&scene, ["update", "p", "--", "cat"]).status(125).err("p is a FIFO, not a regular file").run();
    call(&scene, ["update", "/dev/null", "--", "cat"]).status(125).err("not a regular file").run();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    call(&scene, ["update", "d/f/", "--", "cat"]).status(125).err("Not a directory").run();
    call(&scene, ["update", "--create", "new/", "--", "cat"]).status(125).err("No such file").run();
    symlink("nowhere", scene.path("dangling")).unwrap();
    call(&scene, ["update", "dangling", "--", "cat"]).status(125).err("No such file").run();
    symlink("loop", scene.path("loop")).unwrap();
    call(&scene, ["update", "loop", "--", "cat"]).status(125).err(error_text(libc::ELOOP)).run();
    assert_eq!(names(&scene), ["d", "dangling", "loop", "p"]);
    call(&scene, ["update", "--create", "dangling", "--", "sh", "-c", "cat; echo made"]).run();
    assert_eq!(text(&scene, "nowhere"), "made\n");
}

#[test]
fn a_link_is_kept_and_its_target_keeps_mode_and_attributes() {
    let scene = Scene::new();
    fs::create_dir(scene.path("there")).unwrap();
    fs::write(scene.path("there/secret"), "a\n").unwrap();
    set_mode(scene.path("there/secret"), 0o600);
    xattr::set(scene.path("there/secret"), "user.note", b"kept").unwrap();
    symlink("there/secret", scene.path("one")).unwrap();
    symlink("one", scene.path("two")).unwrap();
    call(&scene, ["update", "two", "--", "tr", "a", "b"]).run();
    assert_eq!(text(&scene, "there/secret"), "b\n");
    assert_eq!(file_mode(scene.path("there/secret")), 0o600);
    assert_eq!(xattr::get(scene.path("there/secret"), "user.note").unwrap().unwrap(), b"kept");
    assert_eq!(fs::read_link(scene.path("two")).unwrap(), PathBuf::from("one"));
    // The lock is next to the target, so that both paths use the same lock.
    assert!(scene.path("there/secret.lock").exists());
    assert_eq!(names(&scene), ["one", "there", "two"]);
    for mode in [0o644, 0o4755, 0o444, 0o640] {
        set_mode(scene.path("there/secret"), mode);
        call(&scene, ["update", "one", "--", "sh", "-c", "cat; echo x"]).run();
        assert_eq!(file_mode(scene.path("there/secret")), mode);
    }
}

#[test]
fn check_backup_diff_and_dry_run_work_together() {
    let scene = scene_with("a\nb\n");
    let diff = "--- f\n+++ f\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n";
    let said = call(&scene, ["update", "--dry-run", "--diff", "f", "--", "tr", "b", "c"]).out(diff).run();
    assert_eq!(said.out, diff);
    let command = call(&scene, ["update", "--check", "grep -q c", "f", "--", "tr", "a", "x"]).status(1);
    command.err("the check refused").run();
    // The output of a check goes to the user. It is not data.
    let command = call(&scene, ["update", "--check", "sh -c 'echo no; exit 3'", "f", "--", "tr", "a", "x"]).status(1);
    command.err("no\n").err("(status 3)").run();
    let command = call(&scene, ["update", "--check", "no-such-check", "f", "--", "tr", "a", "x"]).status(127);
    command.err("no-such-check: ").err("cannot run the check of f (status 127); the file is unchanged").run();
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
        let command = call(&scene, ["update", "--check", check, "f", "--", "tr", "a", "b"]).status(1);
        command.err("the check changed the new content of f").run();
        assert_eq!(text(&scene, "f"), "a\n", "{check}");
    }
}

#[test]
fn scripts_without_an_interpreter_line_run_everywhere() {
    let scene = scene_with("a\n");
    fs::write(scene.path("bare"), "echo \"$0\" >>ran\ntr a b\n").unwrap();
    set_mode(scene.path("bare"), 0o755);
    call(&scene, ["update", "f", "--", "./bare"]).run();
    assert_eq!(text(&scene, "f"), "b\n");
    fs::write(scene.path("f"), "a\n").unwrap();
    call(&scene, ["update", "--in-place", "f", "--", "./bare", "{}"]).run();
    // A script on PATH works, too.
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
    // An inner update has no copy of its own, and must not see that of the outer one.
    let script = "\"$HELPER\" update --create g -- sh -c 'echo \"[$ABA_COPY]\"'; : {}";
    call(&scene, ["update", "-i", "f", "--", "sh", "-c", script]).run();
    assert_eq!(text(&scene, "g"), "[]\n");
}

#[test]
fn output_of_background_processes_of_the_command_is_included() {
    let scene = scene_with("a\n");
    let gate = scene.gate("gate");
    let script = format!("exec 3>&1; (read _ <{gate}; tr a b) <&0 & exit 0");
    let update =
        call(&scene, ["update", "f", "--", "bash", "-c", &format!("exec 4<&0; {}", script.replace("<&0 &", "<&4 &"))])
            .start();
    gate.open();
    update.finish();
    assert_eq!(text(&scene, "f"), "b\n");
}

#[test]
fn a_large_file_is_streamed() {
    let scene = Scene::new();
    let chunk = vec![b'x'; 1 << 20];
    let big: Vec<u8> = iter::repeat_n(chunk, 200).flatten().collect();
    fs::write(scene.path("f"), &big).unwrap();
    // The limit is lower than the size of the file.
    scene.bash_here("ulimit -v 100000; exec \"$HELPER\" update f -- tr x y").run();
    let new = fs::read(scene.path("f")).unwrap();
    assert_eq!(new.len(), big.len());
    assert!(new.iter().all(|byte| *byte == b'y'));
}

#[test]
fn long_content_in_small_pieces_is_complete() {
    let old = "a: a long line\n".repeat(200_000);
    let scene = scene_with(&old);
    // sed writes 4 KiB at a time to a pipe.
    call(&scene, ["update", "f", "--", "sed", "s/^a/b/"]).run();
    assert!(text(&scene, "f") == old.replace("a:", "b:"));
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
fn a_default_acl_is_not_applied_to_an_updated_file() {
    let scene = Scene::new();
    fs::create_dir(scene.path("d")).unwrap();
    fs::write(scene.path("d/f"), "a\n").unwrap();
    set_mode(scene.path("d/f"), 0o640);
    // Like `setfacl -d -m u:65534:rw`: version 2, then the entries for owner, user 65534, group, mask and others.
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
    assert_eq!(file_mode(scene.path("d/f")), 0o640);
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
