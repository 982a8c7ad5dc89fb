//! `doctor`: the checks of the state root, of the kernel and of the locks. It must change nothing.

use crate::call::{Call, RunningCall};
use crate::process::{copy_program, is_alive, is_locked, is_root, list_files, set_mode, wait_until};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

/// The files that are installed below a prefix in addition to the helper: in the source, and installed.
pub(crate) const INSTALLED: [(&str, &str); 5] = [
    ("shell/aba-lock-fast.bash", "share/aba-lock/aba-lock.bash"),
    ("completions/aba-lock.bash", "share/bash-completion/completions/aba-lock"),
    ("completions/_aba-lock", "share/zsh/site-functions/_aba-lock"),
    ("completions/aba-lock.fish", "share/fish/vendor_completions.d/aba-lock.fish"),
    ("shell/aba-lock.bash", "share/aba-lock/aba-lock-whole.bash"),
];

pub(crate) fn read_source(name: &str) -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

pub(crate) fn install(scene: &Scene) -> PathBuf {
    let prefix = scene.path("prefix");
    fs::create_dir_all(prefix.join("bin")).unwrap();
    let helper = prefix.join("bin/aba-lock");
    if fs::hard_link(HELPER, &helper).is_err() {
        copy_program(HELPER, &helper);
    }
    for (from, to) in INSTALLED {
        let to = prefix.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, read_source(from)).unwrap();
    }
    fs::create_dir_all(prefix.join("share/bash-completion")).unwrap();
    fs::write(prefix.join("share/bash-completion/bash_completion"), "").unwrap();
    prefix
}

/// A command in a scene where everything is installed and no other installation can be found.
pub(crate) fn program(scene: &Scene, program: &str) -> Command {
    let prefix = scene.path("prefix");
    if !prefix.exists() {
        install(scene);
    }
    let mut command = scene.program(program);
    command.env("HELPER", prefix.join("bin/aba-lock"));
    command.env("PATH", format!("{}:/usr/bin:/bin:/usr/sbin:/sbin", prefix.join("bin").display()));
    command.env("XDG_DATA_DIRS", scene.path("none")).env_remove("XDG_DATA_HOME");
    for variable in ["ABA_LOCK_BIN", "ABA_LOCK_ON_CONFLICT", "NO_COLOR", "SUDO_USER"] {
        command.env_remove(variable);
    }
    command
}

/// A call of the doctor by a script that first changes something. The call is in `"$@"`.
pub(crate) fn doctor_after(scene: &Scene, script: &str, args: &[&str]) -> Call {
    let mut command = program(scene, "bash");
    // A limit that passes the check, regardless of the user who runs the tests.
    let script = format!("ulimit -Sn \"$(ulimit -Hn)\"; {script}");
    command.args(["-c", &format!("{script}\n\"$@\""), "bash"]).arg(scene.path("prefix/bin/aba-lock"));
    command.arg("doctor").args(args);
    Call::new(command).out("")
}

pub(crate) fn doctor(scene: &Scene) -> Call {
    doctor_after(scene, "", &[])
}

/// A call of the doctor under strace, with these options to change the results of system calls.
pub(crate) fn doctor_with_fault(scene: &Scene, inject: &[&str]) -> Call {
    let mut words = String::from("set -- strace -f -o /dev/null");
    for word in inject {
        words.push(' ');
        words.push_str(&shell_words::quote(word));
    }
    doctor_after(scene, &format!("{words} \"$@\""), &[])
}

/// A call of the doctor in a user and mount namespace, after a script has mounted something there.
pub(crate) fn doctor_with_mounts(scene: &Scene, mounts: &str) -> Call {
    let script = format!(
        "set -- unshare --user --map-root-user --mount -- bash -c {} bash \"$@\"",
        shell_words::quote(&format!("set -e\n{mounts}\nset +e\n\"$@\""))
    );
    doctor_after(scene, &script, &[])
}

/// The names of the files in the state root.
pub(crate) fn list_root(scene: &Scene) -> Vec<String> {
    list_files(scene.root())
}

#[test]
fn without_problems_each_check_passes_and_nothing_is_changed() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let before = fs::metadata(scene.root()).unwrap().modified().unwrap();
    let said = doctor(&scene).out("nothing is wrong\n").run().out;
    for check in [
        "helper",
        "shell library",
        "environment",
        "limits",
        "/proc",
        "inotify",
        "state root",
        "file system",
        "free space",
        "locking",
        "locks",
    ] {
        assert!(said.contains(&format!("  {check}: ")), "{check} was not looked at: {said}");
    }
    assert!(said.contains(&format!("fine   helper: aba-lock {}, ", env!("CARGO_PKG_VERSION"))), "{said}");
    assert!(said.contains("\nfine   locking: tested in "), "{said}");
    assert!(said.contains("1 files: 0 held, 1 free"), "{said}");
    assert!(!said.contains("wrong  ") && !said.contains('\x1b'), "{said}");
    assert_eq!(list_root(&scene), ["aba-a.lock"]);
    assert_eq!(fs::metadata(scene.root()).unwrap().modified().unwrap(), before, "a file was made there for a moment");
}

#[test]
fn a_missing_state_root_is_reported_and_not_created() {
    let scene = Scene::new();
    let said = doctor(&scene).out("note   state root: ").run().out;
    assert!(said.contains(&format!(
        "{} (from ABA_LOCK_DIR) does not exist yet: the first lock creates it",
        scene.root().display()
    )));
    // The file system on which the state root will be is checked nevertheless.
    assert!(said.contains("  locking: "), "{said}");
    assert!(!scene.root().exists());
}

#[test]
fn an_impossible_state_root_is_wrong() {
    let scene = Scene::new();
    fs::write(scene.path("file"), "").unwrap();
    for (root, says) in [("file", "is a file, not a directory"), ("file/below", "Not a directory")] {
        let root = scene.path(root);
        doctor(&scene).env("ABA_LOCK_DIR", root).status(1).out("wrong  state root: ").out(says).run();
    }
    symlink(scene.path("nowhere"), scene.path("link")).unwrap();
    doctor(&scene).env("ABA_LOCK_DIR", scene.path("link")).status(1).out("is a link to a missing file").run();
    let call = doctor(&scene).env("ABA_LOCK_DIR", "locks").status(1);
    call.out("wrong  state root: ABA_LOCK_DIR is \"locks\", which is not an absolute path").out("hint: ").run();
}

#[test]
fn a_state_root_writable_by_others_is_wrong_unless_it_is_sticky() {
    let scene = Scene::new();
    scene.make_root();
    let chmod = |mode| set_mode(scene.root(), mode);
    chmod(0o777);
    let call = doctor(&scene).status(1).out("mode 0777: every user can replace a locked file");
    call.out("hint: run `chmod go-w ").out("1 thing is wrong\n").run();
    chmod(0o1777);
    doctor(&scene).out("note   state root: ").out("mode 1777: all users share it").run();
    chmod(0o770);
    doctor(&scene).out("note   state root: ").out("hint: if that is not intended, run `chmod g-w ").run();
    chmod(0o750);
    doctor(&scene).out("fine   state root: ").run();
}

#[test]
fn a_state_root_of_another_user_is_usable_if_it_contains_locks() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.make_root();
    let cannot = "(from ABA_LOCK_DIR), owner root, mode 0755: cannot create files in it: Permission denied";
    set_mode(scene.root(), 0o755);
    let call = scene.unprivileged().arg("doctor").status(1).out("wrong  state root: ").out(cannot);
    call.out("       hint: set ABA_LOCK_DIR to ").run();
    fs::write(scene.lock_file("a"), "").unwrap();
    set_mode(scene.lock_file("a"), 0o666);
    let said = scene.unprivileged().arg("doctor").status(0).out("note   state root: ").out(cannot).run().out;
    assert!(
        said.contains("only the locks that exist can be acquired\n       hint: to add one, run as user root: "),
        "{said}"
    );
    set_mode(scene.root(), 0o1777);
    let said = scene.unprivileged().arg("doctor").out("mode 1777: all users share it").run().out;
    assert!(!said.contains("hint: run as root"), "{said}");
}

#[test]
fn a_read_only_state_root_is_wrong() {
    let scene = Scene::new();
    scene.make_root();
    let root = scene.root();
    let mounts = format!("mount --bind {0} {0}; mount -o remount,bind,ro {0}", root.display());
    let call = doctor_with_mounts(&scene, &mounts).status(1);
    call.out("cannot create files in it: Read-only file system").out("wrong  locking: cannot test locks in ").run();
}

#[test]
fn a_full_file_system_is_wrong() {
    let scene = Scene::new();
    scene.make_root();
    let root = scene.root().display().to_string();
    let full =
        format!("mount -t tmpfs -o size=512k,nr_inodes=8 x {root}; head -c 600k /dev/zero >{root}/filler || true");
    let call = doctor_with_mounts(&scene, &full).status(1).err("No space left on device");
    call.out("fine   file system: tmpfs, mounted at ")
        .out("wrong  free space: ")
        .out("wrong  locking: cannot test locks in ")
        .out("cannot write to a file: No space left on device")
        .out("hint: free some space: find large directories with ")
        .run();
}

#[test]
fn locks_that_do_not_exclude_each_other_are_wrong() {
    let scene = Scene::new();
    scene.make_root();
    let found = "wrong  locking: locks do not work in ";
    for (inject, how) in [
        ("inject=flock:retval=0", "two descriptors held the exclusive lock at the same time"),
        ("inject=flock:error=ENOLCK", "flock(2) fails: No locks available"),
        ("inject=flock:error=EAGAIN", "a new file was already locked"),
        ("inject=flock:retval=0:when=3", "got a shared lock while another one held the exclusive lock"),
        ("inject=flock:error=EAGAIN:when=6", "two descriptors could not share a lock"),
        ("inject=flock:retval=0:when=7", "got the exclusive lock while another one held a shared lock"),
        ("inject=flock:error=EAGAIN:when=11", "a lock was not released when its file was closed"),
    ] {
        doctor_with_fault(&scene, &["-e", inject]).status(1).out(found).out(how).out("hint: set ABA_LOCK_DIR").run();
    }
    assert!(list_root(&scene).is_empty(), "{:?}", list_root(&scene));
}

#[test]
fn an_exclusive_lock_held_by_two_processes_is_wrong() {
    let scene = Scene::new();
    scene.make_root();
    // strace counts the calls of each process separately. The first process makes its thirteenth call while the second holds
    // the lock.
    let call = doctor_with_fault(&scene, &["-e", "inject=flock:retval=0:when=13"]).status(1);
    call.out("two processes held the exclusive lock at the same time").run();
}

#[test]
fn without_unnamed_files_a_temporary_file_is_used() {
    let scene = Scene::new();
    scene.make_root();
    let root = scene.root().display().to_string();
    // The first openat(2) of the state root itself is that of the unnamed file.
    let call = doctor_with_fault(&scene, &["-P", &root, "-e", "inject=/^open(at)?$:error=EOPNOTSUPP:when=1"]);
    call.out("fine   locking: tested in ").run();
    assert!(list_root(&scene).is_empty(), "{:?}", list_root(&scene));
}

#[test]
fn without_unnamed_files_nothing_is_created_above_a_missing_state_root() {
    let scene = Scene::new();
    let above = scene.root().parent().unwrap().display().to_string();
    let call = doctor_with_fault(&scene, &["-P", &above, "-e", "inject=/^open(at)?$:error=EOPNOTSUPP:when=1"]);
    call.out("note   locking: not tested: the test needs an unnamed file (O_TMPFILE)").run();
    assert!(!scene.root().exists());
}

#[test]
fn a_doctor_killed_at_any_lock_leaves_no_files() {
    let scene = Scene::new();
    scene.make_root();
    for when in 1..=14 {
        let inject = format!("inject=flock:signal=KILL:when={when}");
        doctor_with_fault(&scene, &["-e", &inject]).status(137).run();
        assert!(list_root(&scene).is_empty(), "{:?} at {when}", list_root(&scene));
    }
}

#[test]
fn the_doctor_never_makes_another_caller_fail() {
    let scene = Scene::new();
    scene.make_root();
    let mut looking: Vec<_> = (0..4).map(|_| doctor(&scene).start()).collect();
    while !looking.iter_mut().all(RunningCall::has_ended) {
        scene.aba(["lock", "-n", "a", "--", "true"]).run();
    }
    for looking in looking {
        looking.finish();
    }
}

#[test]
fn an_overlay_file_system_is_worth_a_note() {
    let scene = Scene::new();
    for name in ["lower", "upper", "work", "locks"] {
        fs::create_dir_all(scene.path(name)).unwrap();
    }
    let at = |name: &str| scene.path(name).display().to_string();
    let mounts = format!(
        "mount -t overlay -o userxattr,lowerdir={},upperdir={},workdir={} overlay {}",
        at("lower"),
        at("upper"),
        at("work"),
        at("locks")
    );
    // Some kernels allow this only to root of the initial namespace.
    let mut probe = scene.program("unshare");
    probe.args(["--user", "--map-root-user", "--mount", "--", "bash", "-c", &mounts]);
    if probe.output().unwrap().status.success() {
        let call = doctor_with_mounts(&scene, &mounts);
        call.out("note   file system: overlay, mounted at ")
            .out("locks do not exclude processes of the host and of other containers")
            .run();
    }
    // The overlay made this directory without permissions, so that it could not be removed.
    let _ = fs::set_permissions(scene.path("work/work"), fs::Permissions::from_mode(0o700));
}

#[test]
fn a_removed_lock_file_that_is_still_held_is_wrong() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    fs::remove_file(scene.lock_file("a")).unwrap();
    scene.aba(["lock", "a", "--", "true"]).run();
    let call = doctor(&scene).status(1).out("wrong  locks: a: its file was removed while pid ");
    call.out(format!("end it: `kill {}`", holder.pid())).run();
}

#[test]
fn a_lock_held_only_by_a_child_is_worth_a_note() {
    let scene = Scene::new();
    let mut holder = scene.aba(["lock", "a", "--", "bash", "-c", "{ read _; } <&0 & echo $!; wait"]).hold();
    let child: u32 = holder.first_line.parse().unwrap();
    holder.signal(9);
    holder.wait();
    assert!(is_locked(&scene.lock_file("a")));
    let call = doctor(&scene).out("note   locks: a: acquired by pid ").out(format!("still held by pid {child} ("));
    call.out(format!("hint: end it with `kill {child}`; next time, ")).run();
    drop(holder);
    wait_until("the child has ended", || !is_alive(child));
}

#[test]
fn an_invalid_or_unreadable_lock_file_is_wrong() {
    let scene = Scene::new();
    scene.aba(["lock", "other", "--", "true"]).run();
    symlink("/etc/passwd", scene.lock_file("a")).unwrap();
    doctor(&scene).status(1).out("aba-a.lock is a symbolic link, not a regular file: it cannot be locked").run();
    fs::remove_file(scene.lock_file("a")).unwrap();
    let file = scene.lock_file("other").display().to_string();
    let call = doctor_with_fault(&scene, &["-P", &file, "-e", "inject=faccessat2:error=EACCES"]).status(1);
    call.out("locks: cannot open ").out("aba-other.lock: Permission denied (owner: ").out("`chmod a+rw ").run();
}

#[test]
fn many_free_lock_files_are_worth_a_note_and_none_of_them_is_touched() {
    let scene = Scene::new();
    scene.make_root();
    for number in 0..501 {
        fs::write(scene.lock_file(&number.to_string()), "").unwrap();
    }
    doctor(&scene).out("note   locks: 501 files: 0 held, 501 free").out("`aba-lock clean`").run();
    assert_eq!(list_root(&scene).len(), 501);
}

#[test]
fn tasks_are_counted_by_their_state() {
    let scene = Scene::new();
    scene.once(["-w", "-q", "-i", "good", "--", "true"]).run();
    doctor(&scene).out("fine   tasks: 1 known: 0 running, 1 succeeded, 0 failed, 0 interrupted").run();
    scene.once(["-w", "-q", "-i", "bad", "--", "false"]).status(1).run();
    doctor(&scene).out("note   tasks: 2 known").out("run-once --list").run();
}

#[test]
fn json_output_is_one_object_of_the_documented_shape() {
    let scene = Scene::new();
    fs::create_dir_all(scene.root()).unwrap();
    set_mode(scene.root(), 0o777);
    let said = doctor_after(&scene, "", &["--json"]).status(1).run().out;
    let all: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(all["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(all["wrong"], 1);
    let findings = all["findings"].as_array().unwrap();
    let wrong: Vec<_> = findings.iter().filter(|finding| finding["level"] == "wrong").collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!(wrong[0]["check"], "state root");
    assert!(wrong[0]["hint"].as_str().unwrap().contains("chmod"));
    for finding in findings {
        assert!(["fine", "note", "wrong"].contains(&finding["level"].as_str().unwrap()), "{finding}");
        assert!(finding["found"].is_string() && (finding["hint"].is_null() || finding["hint"].is_string()));
        assert!(finding["level"] != "wrong" || finding["hint"].is_string(), "no remedy: {finding}");
    }
}

#[test]
fn colours_are_used_on_terminals_unless_they_are_disabled() {
    let scene = Scene::new();
    for (set, coloured) in [("", true), ("NO_COLOR=1", false), ("TERM=dumb", false)] {
        let script =
            format!("unset CI CLICOLOR CLICOLOR_FORCE; export TERM=xterm {set}; set -- script -qec \"$*\" /dev/null");
        let said = doctor_after(&scene, &script, &[]).run().out;
        assert!(said.contains("nothing is wrong"), "{said}");
        assert_eq!(said.contains("\x1b[32mfine\x1b[0m   helper: "), coloured, "{set}: {said:?}");
    }
}

#[test]
fn control_characters_in_paths_are_escaped() {
    let scene = Scene::new();
    let said = doctor(&scene).env("ABA_LOCK_DIR", scene.path("\x1b[2J")).out("?[2J (from ABA_LOCK_DIR)").run().out;
    assert!(!said.contains('\x1b'), "{said:?}");
}

#[test]
fn a_deadlock_of_flock_scripts_is_found() {
    let scene = Scene::new();
    scene.make_root();
    for name in ["a", "b"] {
        scene.aba(["lock", name, "--", "true"]).run();
    }
    let (a, b, gate) = (scene.lock_file("a"), scene.lock_file("b"), scene.gate("gate"));
    let script = |has: &std::path::Path, wants: &std::path::Path| {
        let (has, wants, gate) = (has.display(), wants.display(), gate.path.display());
        // The timeout of the second flock(1) ends the deadlock in any case.
        let text = format!("exec 8>>'{has}' 9>>'{wants}'; flock 8; echo held; read _ <'{gate}'; flock -w 50 9; exit 0");
        scene.call("bash").args(["-c", &text]).hold()
    };
    let (one, two) = (script(&a, &b), script(&b, &a));
    doctor(&scene).out("fine   deadlocks: none among the locks of the state root").run();
    gate.open();
    gate.open();
    scene.wait_for_waiter("a");
    scene.wait_for_waiter("b");
    let (first, second) = (one.pid(), two.pid());
    let said = doctor(&scene).status(1).out("wrong  deadlocks: pid ").run().out;
    for part in [format!("pid {first} (bash"), ") holds a and waits for b".to_owned(), format!("pid {second} (bash")] {
        assert!(said.contains(&part), "{part:?} in {said}");
    }
    drop(one);
    drop(two);
}
