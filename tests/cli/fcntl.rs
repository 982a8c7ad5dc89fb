//! `lock --file F --fcntl`, next to programs that lock the file with POSIX locks. They are Python here, because bash cannot do that.

use crate::call::{Call, Holder};
use crate::process::{is_root, kill, set_mode, wait_until};
use crate::scene::{HELPER, HOLD, Scene};
use std::fs;

/// A call of the helper for file `f` in the directory of the scene, with these options of `lock` and `echo ran` as the command.
fn lock(scene: &Scene, options: &[&str]) -> Call {
    let call = scene.aba(["lock", "--file", "f", "--fcntl"]).args(options);
    call.args(["--", "echo", "ran"]).current_dir(scene.path(""))
}

/// A call of Python with this program, in which `f` is the open file `f`.
fn python(scene: &Scene, program: &str) -> Call {
    let text = format!("import fcntl, os, subprocess, sys\nf = open('f', 'r+')\n{program}");
    scene.call("python3").args(["-c", &text]).current_dir(scene.path(""))
}

/// A process that locks `f` with lockf(3). `lock` has the arguments of Python's function after the file.
fn hold_posix(scene: &Scene, lock: &str) -> Holder {
    python(scene, &format!("fcntl.lockf(f, {lock})\nprint('held', flush=True)\nsys.stdin.readline()")).hold()
}

/// Checks whether another process can lock `f` with lockf(3).
fn expect_posix(scene: &Scene, is_free: bool) {
    let program = "try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB); print('free')\nexcept OSError: print('held')";
    python(scene, program).out(if is_free { "free\n" } else { "held\n" }).run();
}

fn new_scene() -> Scene {
    let scene = Scene::new();
    fs::write(scene.path("f"), "content\n").unwrap();
    scene
}

#[test]
fn a_posix_lock_excludes_the_call_which_names_its_holder() {
    let scene = new_scene();
    let holder = hold_posix(&scene, "fcntl.LOCK_EX");
    let text = format!("f is locked by fcntl(2): pid {} (", holder.pid());
    let hint = "\nhint: wait for it with `--wait`, or show its holder with `aba-lock status --file ./f`\n";
    lock(&scene, &[]).status(75).err(format!("aba-lock: {text}")).err(hint).run();
    lock(&scene, &["-s"]).status(75).err(&text).run();
    lock(&scene, &["-q", "-E", "9"]).status(9).run();
    lock(&scene, &["--skip-ok"]).run();
    lock(&scene, &["--on-busy", "echo \"busy $1\""]).out("busy f\n").err(&text).err("; running `echo").run();
    let late = format!("aba-lock: timed out after 0.1 s waiting for f, locked by fcntl(2): pid {} (", holder.pid());
    lock(&scene, &["-t", "0.1"]).status(124).err(late).run();
    scene.bash_here("exec 9<>f; \"$HELPER\" lock --file f --fcntl --fd 9").status(75).err(&text).run();
    // Without the option, the lock is one of flock(2).
    scene.aba(["lock", "-q", "--file", "f", "--", "true"]).current_dir(scene.path("")).run();
    holder.release();
    lock(&scene, &[]).out("ran\n").run();
}

#[test]
fn a_lock_on_a_part_of_the_file_conflicts_and_the_part_is_named() {
    let scene = new_scene();
    let holder = hold_posix(&scene, "fcntl.LOCK_EX, 10, 5");
    lock(&scene, &[]).status(75).err("f is locked by fcntl(2) at bytes 5 to 14: pid ").run();
    holder.release();
    let holder = hold_posix(&scene, "fcntl.LOCK_EX, 0, 1 << 30");
    lock(&scene, &["-s"]).status(75).err("f is locked by fcntl(2) from byte 1073741824: pid ").run();
    holder.release();
}

#[test]
fn shared_locks_of_both_kinds_are_held_together() {
    let scene = new_scene();
    let holder = hold_posix(&scene, "fcntl.LOCK_SH");
    lock(&scene, &["-s"]).out("ran\n").run();
    lock(&scene, &[]).status(75).err("f is locked by fcntl(2): pid ").run();
    let other = scene.aba(["lock", "-s", "--file", "f", "--fcntl", "--", "sh", "-c", HOLD]);
    let other = other.current_dir(scene.path("")).hold();
    expect_posix(&scene, false);
    holder.release();
    expect_posix(&scene, false);
    other.release();
    expect_posix(&scene, true);
}

#[test]
fn the_lock_excludes_posix_locks_and_is_inherited_and_shown() {
    let scene = new_scene();
    let gate = scene.gate("gate");
    // The command ends at once, and its child keeps the lock.
    let script = format!("read _ <{gate} & echo held; read _; exit 0");
    let holder = scene.aba(["lock", "--file", "f", "--fcntl", "--", "bash", "-c", &script]);
    let holder = holder.current_dir(scene.path("")).hold();
    expect_posix(&scene, false);
    scene.aba(["flock", "--fcntl", "-n", "f", "true"]).current_dir(scene.path("")).status(1).run();
    lock(&scene, &[]).status(75).err(format!("f is locked by fcntl(2): pid {} (bash -c ", holder.pid())).run();
    let status = || scene.aba(["status", "--file", "f"]).current_dir(scene.path(""));
    status().out("f: free for flock(2), held by fcntl(2)\n").out(format!("\n  pid {}, ", holder.pid())).run();
    let json = scene.aba(["status", "--json", "--file", "f"]).current_dir(scene.path("")).json();
    assert_eq!(json["fcntl"]["mode"], "exclusive", "{json}");
    holder.release();
    expect_posix(&scene, false);
    gate.open();
    let file = scene.path("f");
    scene.aba(["wait", "-q", "--file"]).arg(&file).run();
    expect_posix(&scene, true);
    assert_eq!(fs::read_to_string(file).unwrap(), "content\n");
}

#[test]
fn a_command_that_may_not_inherit_the_lock_runs_under_it() {
    let scene = new_scene();
    let gate = scene.gate("gate");
    let script = format!("read _ <{gate} & echo held; read _; exit 0");
    let holder = scene.aba(["lock", "-o", "--file", "f", "--fcntl", "--", "bash", "-c", &script]);
    let holder = holder.current_dir(scene.path("")).hold();
    expect_posix(&scene, false);
    holder.release();
    expect_posix(&scene, true);
    gate.open();
}

#[test]
fn a_waiter_gets_the_lock_when_the_posix_lock_is_released() {
    let scene = new_scene();
    for wait in ["-w", "--timeout=60"] {
        let holder = hold_posix(&scene, "fcntl.LOCK_EX");
        let text = format!("aba-lock: waiting for f, locked by fcntl(2): pid {} (", holder.pid());
        let waiter = lock(&scene, &[wait]).out("ran\n").err(&text).start();
        waiter.wait_for_error(&text);
        holder.release();
        waiter.finish();
    }
}

#[test]
fn a_file_that_does_not_exist_is_created_and_one_that_its_holder_removes_is_locked_anew() {
    let scene = Scene::new();
    lock(&scene, &[]).out("ran\n").run();
    assert_eq!(fs::read_to_string(scene.path("f")).unwrap(), "");
    // As certbot does it.
    let gate = scene.gate("gate");
    let program =
        format!("fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); open({gate}).readline(); os.remove('f')");
    let holder = python(&scene, &program).hold();
    let show = "echo ran; cat /proc/locks >locks";
    let waiter = scene.aba(["lock", "-w", "--file", "f", "--fcntl", "--", "sh", "-c", show]);
    let waiter = waiter.current_dir(scene.path("")).out("ran\n").err("waiting for f").start();
    waiter.wait_for_error("waiting for f");
    gate.open();
    waiter.finish();
    drop(holder);
    assert!(scene.path("f").exists());
}

#[test]
fn a_nested_call_shares_the_lock_of_an_ancestor() {
    let scene = new_scene();
    let nested = [HELPER, "lock", "--file", "f", "--fcntl"];
    let outer = |options: &[&str], inner: &[&str]| {
        let call = scene.aba(["lock", "--file", "f", "--fcntl"]).args(options).arg("--").args(nested).args(inner);
        call.args(["--", "echo", "ran"]).current_dir(scene.path(""))
    };
    outer(&[], &[]).out("ran\n").run();
    outer(&[], &["-s"]).out("ran\n").run();
    outer(&["-s"], &["-s"]).out("ran\n").run();
    outer(&["-s"], &[]).status(75).err("f is already held shared by this script, and cannot become exclusive").run();
    // The lock of flock(2) is another one, and so are those of a process that is no ancestor.
    scene.bash_here("\"$HELPER\" lock --file f --fcntl -- \"$HELPER\" lock -q --file f -- echo ran").out("ran\n").run();
    let script = "\"$HELPER\" lock -q --file f -- \"$HELPER\" lock --file f --fcntl -- echo ran";
    scene.bash_here(script).out("ran\n").run();
}

#[test]
fn an_orphan_that_inherited_the_lock_does_not_share_it() {
    let scene = new_scene();
    let gate = scene.gate("gate");
    let orphan = format!("read _ <{gate}; \"$HELPER\" lock -q --file f --fcntl -- true; echo \"$?\" >said");
    let script = format!("({orphan}) >/dev/null 2>&1 & disown; exit 0");
    scene.aba(["lock", "--file", "f", "--fcntl", "--", "bash", "-c", &script]).current_dir(scene.path("")).run();
    gate.open();
    wait_until("the orphan has called", || scene.path("said").exists());
    scene.aba(["wait", "-q", "--file"]).arg(scene.path("f")).run();
    assert_eq!(fs::read_to_string(scene.path("said")).unwrap(), "75\n");
}

#[test]
fn a_script_holds_the_lock_on_its_descriptor_until_it_releases_it() {
    let scene = new_scene();
    let gate = scene.gate("gate");
    let script = format!(
        "exec 200<>f
        \"$HELPER\" lock --file f --fcntl --fd 200 && \"$HELPER\" lock -n --file f --fcntl --fd 200 || exit
        \"$HELPER\" status --file f --fd 200 >first
        echo held; read _ <{gate}
        \"$HELPER\" unlock --fd 200 --file f || exit
        \"$HELPER\" status --file f --fd 200 >second
        echo done >third; read _"
    );
    let holder = scene.bash_here(&script).hold();
    expect_posix(&scene, false);
    gate.open();
    wait_until("the script has released the lock", || scene.path("third").exists());
    expect_posix(&scene, true);
    let said = |name: &str| fs::read_to_string(scene.path(name)).unwrap();
    assert_eq!(said("first"), "f: held, exclusive, through descriptor 200\n");
    assert_eq!(said("second"), "f: not held through descriptor 200\n");
    holder.release();
}

#[test]
fn a_signal_during_the_wait_for_a_second_file_releases_the_first_one() {
    let scene = new_scene();
    fs::write(scene.path("g"), "").unwrap();
    let holder = scene.aba(["flock", "--fcntl", "g", "sh", "-c", HOLD]).current_dir(scene.path("")).hold();
    let script = "exec 201<>f 202<>g
        \"$HELPER\" lock -w --fcntl --file f --file g --fd 201 --fd 202 &
        echo \"$!\" >pid; wait \"$!\"; echo \"$?\" >said";
    let waiter = scene.bash_here(script).err("waiting for g").start();
    waiter.wait_for_error("waiting for g");
    expect_posix(&scene, false);
    // The helper can say that before its parent has written the number.
    let pid = || fs::read_to_string(scene.path("pid")).ok().filter(|text| text.ends_with('\n'));
    wait_until("the pid is known", || pid().is_some());
    kill(pid().unwrap().trim().parse().unwrap(), libc::SIGTERM);
    wait_until("the helper has ended", || fs::read_to_string(scene.path("said")).is_ok_and(|said| said == "143\n"));
    expect_posix(&scene, true);
    holder.release();
    waiter.finish();
}

#[test]
fn a_wait_for_the_lock_of_a_process_that_waits_for_this_one_is_refused() {
    let scene = new_scene();
    let run = "fcntl.lockf(f, fcntl.LOCK_EX)\nsys.exit(subprocess.call(sys.argv[1:]))";
    let refused = "f would be a deadlock: pid ";
    python(&scene, run)
        .args([HELPER, "lock", "-w", "--file", "f", "--fcntl", "--", "true"])
        .status(75)
        .err(refused)
        .run();
    python(&scene, run).args([HELPER, "wait", "--file", "f"]).status(75).err(refused).run();
    let kin = " started this command and already holds the lock: run this without the lock, or release it there";
    python(&scene, run).args([HELPER, "lock", "--file", "f", "--fcntl", "--", "true"]).status(75).err(kin).run();
    // A lock of the open file description, which another program has acquired.
    let call = [HELPER, "flock", "--fcntl", "f", HELPER, "lock", "-w", "--file", "f", "--fcntl", "--", "true"];
    scene.call("env").args(call).current_dir(scene.path("")).status(75).err(refused).run();
}

#[test]
fn a_command_that_holds_the_lock_itself_is_named_as_the_holder() {
    let scene = new_scene();
    let call = scene.aba(["lock", "--file", "f", "--fcntl", "--", HELPER, "status", "--file", "f"]);
    let said = call.current_dir(scene.path("")).out("f: free for flock(2), held by fcntl(2)\n").run().out;
    assert!(said.contains("\n  pid ") && said.contains("status --file f\n"), "{said}");
    assert!(said.contains("hint: this command holds the lock itself: it is free when this command ends\n"), "{said}");
}

#[test]
fn a_database_of_sqlite_is_locked_as_a_whole() {
    let scene = Scene::new();
    let program = "import sqlite3, sys
db = sqlite3.connect('f', timeout=0)
try:
    db.execute('create table if not exists t (x)'); db.execute('begin immediate'); print('held', flush=True)
except sqlite3.OperationalError as error: print(error)
sys.stdin.readline()";
    let sqlite = || scene.call("python3").args(["-c", program]).current_dir(scene.path(""));
    let holder = sqlite().hold();
    lock(&scene, &[]).status(75).err(format!("pid {} (", holder.pid())).err("f is locked by fcntl(2) at byte").run();
    holder.release();
    let size = fs::metadata(scene.path("f")).unwrap().len();
    let holder =
        scene.aba(["lock", "--file", "f", "--fcntl", "--", "sh", "-c", HOLD]).current_dir(scene.path("")).hold();
    sqlite().out("database is locked\n").run();
    holder.release();
    assert_eq!(fs::metadata(scene.path("f")).unwrap().len(), size);
}

#[test]
fn options_that_lock_parts_of_the_file_are_wrong_usage() {
    let scene = new_scene();
    for option in [&["--slots", "2"][..], &["--priority", "low"], &["--replace"], &["--coalesce"], &["--max-time", "1"]]
    {
        lock(&scene, option).status(2).err("cannot be used with").err("--fcntl").err(option[0]).run();
    }
    scene.aba(["lock", "--fcntl", "a", "--", "true"]).status(2).err("--fcntl needs --file: ").run();
    assert!(!scene.root().exists());
}

#[test]
fn a_file_that_the_user_may_not_open_or_write_gets_a_sentence() {
    let scene = new_scene();
    let file = scene.path("f");
    let call = |options: &[&str]| {
        let call = scene.unprivileged().args(["lock", "--file"]).arg(&file).arg("--fcntl").args(options);
        call.args(["--", "echo", "ran"])
    };
    scene
        .aba(["lock", "--fcntl", "--file", "/tmp", "--", "true"])
        .status(125)
        .err("cannot lock /tmp with --fcntl: it is a directory\nhint: use a file in /tmp, or lock it without --fcntl\n")
        .run();
    scene
        .bash_here("exec 9<f; \"$HELPER\" lock --file f --fcntl --fd 9")
        .status(125)
        .err("f with --fcntl: the file is")
        .run();
    if !is_root() {
        return;
    }
    set_mode(&file, 0o644);
    call(&[]).status(125).err(" with --fcntl: the file is not open for writing\n").run();
    call(&["-s"]).out("ran\n").run();
    set_mode(&file, 0o640);
    let denied = " with --fcntl: you may not open the file (owner: root)\nhint: run this as user root, or wait for the lock with `aba-lock wait --file ";
    call(&["-s"]).status(125).err(denied).run();
    assert_eq!(fs::read_to_string(file).unwrap(), "content\n");
}

#[test]
fn a_file_system_without_these_locks_gets_a_sentence() {
    let scene = new_scene();
    let args = ["lock", "--file", "f", "--fcntl", "--", "true"];
    let (status, said) = scene.trace_helper(&["-P", "f", "-e", "inject=fcntl:error=EINVAL"], &args, "");
    assert_eq!(status, Some(125), "{said}");
    assert!(
        said.contains("aba-lock: cannot lock f with --fcntl: ") && said.contains(" has no locks for this"),
        "{said}"
    );
}

#[test]
fn the_event_log_has_the_acquisition_and_the_release() {
    let scene = new_scene();
    let script = "exec 9<>f; \"$HELPER\" lock --file f --fcntl --fd 9; \"$HELPER\" unlock --fd 9 --file f";
    scene.bash_here(script).env("ABA_LOCK_LOG", scene.path("log")).run();
    let text = fs::read_to_string(scene.path("log")).unwrap();
    let event = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone();
    assert_eq!(text.lines().map(event).collect::<Vec<_>>(), ["acquired", "released"], "{text}");
    let holder = hold_posix(&scene, "fcntl.LOCK_EX");
    lock(&scene, &["-q"]).status(75).env("ABA_LOCK_LOG", scene.path("busy")).run();
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(scene.path("busy")).unwrap()).unwrap();
    assert_eq!((&line["event"], &line["holder_pid"]), (&"contended".into(), &holder.pid().into()), "{line}");
    holder.release();
}
