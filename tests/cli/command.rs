//! A command under the lock: whose status, whose signals, whose descriptors.

use crate::scene::{Call, HELPER, Holder, Scene, is_alive, is_locked, kill, until, write_program};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[test]
fn the_exit_status_is_the_commands_own() {
    let scene = Scene::new();
    for options in [&["lock", "a"][..], &["lock", "-o", "a"][..]] {
        let run = |script| scene.aba(options.iter().copied().chain(["--", "sh", "-c", script]));
        run("exit 0").run();
        run("exit 75").status(75).run();
        run("kill -9 $$").status(137).run();
        run("kill -15 $$").status(143).run();
    }
}

#[test]
fn a_command_that_cannot_be_run_is_126_or_127_and_leaves_no_lock() {
    let scene = Scene::new();
    fs::write(scene.path("text"), "not a program").unwrap();
    let text = scene.path("text");
    let pid_file = scene.path("pid");
    for option in ["-q", "-o"] {
        let lock =
            |command: &str| scene.aba(["lock", option, "--pid-file", pid_file.to_str().unwrap(), "a", "--", command]);
        lock("no-such-command").status(127).err("aba-lock: command not found: no-such-command\n").run();
        lock(text.to_str().unwrap()).status(126).err("could not run ").err("Permission denied").run();
        assert!(!pid_file.exists(), "a pid file of nobody");
        assert!(!is_locked(&scene.lock_file("a")));
    }
}

#[test]
fn the_helper_becomes_the_command() {
    let scene = Scene::new();
    let mut command = scene.program(HELPER);
    command.args(["lock", "a", "--", "sh", "-c", "echo $$; read _"]);
    let holder = Holder::start(command);
    assert_eq!(holder.said, holder.pid().to_string());
    assert_eq!(scene.field("a", "pid"), holder.said);
}

#[test]
fn the_command_finds_signals_as_our_caller_left_them() {
    let scene = Scene::new();
    let masks = "grep -E '^(SigBlk|SigIgn)' /proc/self/status";
    let said = scene.bash(&format!("trap '' PIPE ALRM USR1\n{masks}\n\"$HELPER\" lock a -- {masks}")).out("").run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[..2], lines[2..], "{}", said.out);
    assert!(!lines[1].ends_with("0000000000000000"));
}

#[test]
fn the_lock_stays_with_a_child_that_inherited_it_and_no_inherit_lets_it_go() {
    let scene = Scene::new();
    // The daemon ends when the pipe from this test closes.
    for (option, kept) in [("-n", true), ("-o", false)] {
        let mut command = scene.program(HELPER);
        command.args(["lock", option, "a", "--", "bash", "-c", "{ read _; } <&0 & echo $!; exit 0"]);
        let mut holder = Holder::start(command);
        assert_eq!(holder.wait(), 0, "the command itself ended at once");
        assert_eq!(is_locked(&scene.lock_file("a")), kept, "with {option}");
        if kept {
            scene
                .aba(["lock", "a", "--", "true"])
                .status(75)
                .err(format!("a was taken by pid {} (", holder.pid()))
                .err(format!("), which has ended; still held by pid {} (", holder.said))
                .err("which inherited it\n")
                .err(format!(
                    "hint: start it with `aba_lock_detach` so that it does not keep the lock, or end it: `kill {}`",
                    holder.said
                ))
                .run();
        }
        let daemon: u32 = holder.said.parse().unwrap();
        drop(holder);
        until("the daemon has ended", || !is_alive(daemon));
    }
}

#[test]
fn a_signal_to_the_helper_reaches_the_command() {
    let scene = Scene::new();
    for option in ["-n", "-o"] {
        for signal in [1, 2, 3, 15] {
            let mut command = scene.program(HELPER);
            let script = "trap 'exit 9' HUP INT QUIT TERM; echo up; while :; do read -t 0.1 _ <>/dev/zero; done";
            let script = script.replace("read -t 0.1 _ <>/dev/zero", "sleep 0.05");
            command.args(["lock", option, "a", "--", "bash", "-c", &script]);
            let mut holder = Holder::start(command);
            holder.signal(signal);
            assert_eq!(holder.wait(), 9, "signal {signal} with {option}");
            assert!(!is_locked(&scene.lock_file("a")));
        }
    }
}

#[test]
fn a_killed_helper_takes_its_command_along() {
    let scene = Scene::new();
    let mut command = scene.program(HELPER);
    command.args(["lock", "-o", "a", "--", "sh", "-c", "echo $$; read _"]);
    let mut holder = Holder::start(command);
    let pid: u32 = holder.said.parse().unwrap();
    assert_ne!(pid, holder.pid());
    assert!(is_alive(pid));
    holder.signal(9);
    assert_eq!(holder.wait(), 137);
    until("the command has ended too", || !is_alive(pid));
    assert!(!is_locked(&scene.lock_file("a")));
}

#[test]
fn a_child_status_is_not_lost_when_the_caller_ignores_child_signals() {
    let scene = Scene::new();
    let script =
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])";
    let mut command = scene.program("python3");
    command.args(["-c", script, HELPER, "lock", "-o", "a", "--", "sh", "-c", "exit 7"]);
    crate::scene::Call::new(command).status(7).run();
}

/// A program of that name that does as ssh and sudo do: it closes what it was given before it works.
fn closer(path: &Path) {
    write_program(
        path,
        "#!/bin/bash\nfor fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd > 2 && fd < 255)) && eval \"exec $fd>&-\"; done\necho up; read _\n",
    );
}

#[test]
fn a_command_that_is_known_to_close_its_descriptors_does_not_drop_the_lock() {
    let scene = Scene::new();
    for name in ["ssh", "sudo", "doas"] {
        closer(&scene.path(name));
        let mut command = scene.program(HELPER);
        command.args(["lock", "a", "--"]).arg(scene.path(name));
        let holder = Holder::start(command);
        assert!(is_locked(&scene.lock_file("a")), "{name}");
        holder.let_go();
        assert!(!is_locked(&scene.lock_file("a")), "{name}");
    }
}

#[test]
fn the_lock_is_handed_down_where_scripts_do_not_tread() {
    let scene = Scene::new();
    let script = "for fd in 3 4 5 6 7 8 9; do eval \"exec $fd>/dev/null\"; done; echo up; read _";
    let mut command = scene.program(HELPER);
    command.args(["lock", "a", "--", "bash", "-c", script]);
    let _holder = Holder::start(command);
    assert!(is_locked(&scene.lock_file("a")));
    // Also where there are no such high numbers.
    scene.bash("ulimit -n 100; \"$HELPER\" lock b -- bash -c '\"$HELPER\" status -q b'").run();
}

#[test]
fn closed_standard_descriptors_do_not_become_the_lock_file() {
    let scene = Scene::new();
    let _holder = scene.holder("a");
    scene.bash("\"$HELPER\" lock a -- true 0<&- 1>&- 2>&-").status(75).run();
    scene.bash("\"$HELPER\" lock -v b -- true 0<&- 1>&- 2>&-").run();
    for name in ["a", "b"] {
        assert!(!scene.record(name).contains("aba-lock: "), "{}", scene.record(name));
    }
}

#[test]
fn another_command_can_run_when_it_is_busy() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let said = scene
        .aba(["lock", "--on-busy", "sh -c 'echo instead; ls /proc/self/fd | grep -c ^20; exit 6'", "a", "--", "true"])
        .status(6)
        .out("instead\n0\n")
        .err(format!("a is already running: pid {} (", holder.pid()))
        .err("; running `sh -c ")
        .run();
    assert_eq!(said.err.lines().count(), 1);
    scene.aba(["lock", "-q", "--on-busy", "no-such", "a", "--", "true"]).status(127).err("no-such: ").run();
    // One text for a shell, which gets the name as $1 and not pasted into the text.
    let file = scene.path("it's a $(touch pasted)");
    let other = scene.flock(&file);
    let text = "echo $(basename \"$1\") >>log && test \"$1\" = \"$ABA_LOCK_NAME\"";
    for what in [&["a"][..], &["--file", file.to_str().unwrap()]] {
        let mut command = scene.program(HELPER);
        command.args(["lock", "-q", "--on-busy", text]).args(what).args(["--", "true"]).current_dir(scene.path("."));
        Call::new(command).run();
    }
    assert_eq!(fs::read_to_string(scene.path("log")).unwrap(), "a\nit's a $(touch pasted)\n");
    assert!(!scene.path("pasted").exists());
    scene.aba(["lock", "--on-busy", " ", "a", "--", "true"]).status(2).err("the command of --on-busy is empty").run();
    other.let_go();
    holder.let_go();
    scene.aba(["lock", "--on-busy", "false", "a", "--", "true"]).run();
}

#[test]
fn a_pid_file_names_the_command_and_goes_with_it() {
    let scene = Scene::new();
    let file = scene.path("pid");
    let path = file.to_str().unwrap();
    let print = "cat \"$0\"; echo $$";
    let said = scene.aba(["lock", "--pid-file", path, "a", "--", "sh", "-c", print, path]).out("").run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert!(!file.exists());
    let wait = "while ! [ -s \"$0\" ]; do :; done; cat \"$0\"; echo $$";
    let said = scene.aba(["lock", "-o", "--pid-file", path, "a", "--", "sh", "-c", wait, path]).out("").run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], lines[1]);
    assert!(!file.exists());
    let nowhere = scene.path("no/dir/pid");
    for option in ["-n", "-o"] {
        scene
            .aba(["lock", option, "--pid-file", nowhere.to_str().unwrap(), "a", "--", "echo", "not reached"])
            .status(125)
            .err("could not write ")
            .run();
    }
    let script = format!(
        "exec 200<>\"$(\"$HELPER\" path --create a)\"; \"$HELPER\" lock --fd 200 --pid-file {} a; echo $?; \"$HELPER\" status --fd 200 -q a",
        nowhere.display()
    );
    scene.bash(&script).status(1).out("125\n").err("could not write ").run();
}

#[test]
fn a_command_with_a_pid_file_ends_and_inherits_as_without() {
    let scene = Scene::new();
    let file = scene.path("pid");
    let path = file.to_str().unwrap();
    for (script, status) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        scene.aba(["lock", "--pid-file", path, "a", "--", "sh", "-c", script]).status(status).run();
        assert!(!file.exists(), "{script}");
    }
    // A signal to the helper goes to the command.
    let mut holder = scene.holder_with(&["--pid-file", path, "a"]);
    holder.signal(15);
    assert_eq!(holder.wait(), 143);
    assert!(!file.exists() && !is_locked(&scene.lock_file("a")));
    // A nested call is no conflict, and what the command left behind keeps the lock.
    let gate = scene.gate("gate");
    let script = format!("\"$HELPER\" lock a -- true || exit; read _ <'{}' >/dev/null 2>&1 &", gate.path.display());
    scene.aba(["lock", "--pid-file", path, "a", "--", "bash", "-c", &script]).run();
    assert!(!file.exists() && is_locked(&scene.lock_file("a")));
    gate.open();
    until("the lock is free", || !is_locked(&scene.lock_file("a")));
    // The file stays if another process wrote to it.
    scene.aba(["lock", "--pid-file", path, "a", "--", "sh", "-c", &format!("echo 1 >'{path}'")]).run();
    assert_eq!(fs::read_to_string(&file).unwrap(), "1\n");
}

#[test]
fn a_link_is_not_replaced_by_a_pid_file() {
    let scene = Scene::new();
    let (link, target) = (scene.path("link"), scene.path("target"));
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let path = link.to_str().unwrap();
    for option in ["-n", "-o"] {
        let call = ["lock", option, "--pid-file", path, "a", "--", "echo", "not reached"];
        scene.aba(call).status(125).err("could not write ").err("it is a symbolic link, not a regular file").run();
    }
    let script = format!("exec 9<>\"$(\"$HELPER\" path --create a)\"; \"$HELPER\" lock --fd 9 --pid-file '{path}' a");
    scene.bash(&script).status(125).err("it is a symbolic link").run();
    assert!(!is_locked(&scene.lock_file("a")));
    assert_eq!((fs::read_link(&link).unwrap(), fs::read_to_string(&target).unwrap()), (target, "precious".to_owned()));
}

#[test]
fn a_pid_file_in_the_place_of_the_lock_file_is_refused() {
    let scene = Scene::new();
    let data = scene.path("data");
    fs::write(&data, "").unwrap();
    let hard = scene.path("hard");
    fs::hard_link(&data, &hard).unwrap();
    let (data, hard, named) = (data.to_str().unwrap(), hard.to_str().unwrap(), scene.lock_file("a"));
    let named = named.to_str().unwrap();
    let inode = || fs::metadata(data).unwrap().ino();
    let before = inode();
    for (lock, path) in [(["--file", data].as_slice(), data), (&["--file", data], hard), (&["a"], named)] {
        let call = [&["lock", "--pid-file", path], lock, &["--", "echo", "not reached"]].concat();
        let said = format!("the pid file {path} would replace the lock file");
        scene.aba(call).status(2).err(said.clone()).run();
        let script = r#"touch "$1"; exec 9<>"$1"; path=$2; shift 2; "$HELPER" lock --fd 9 --pid-file "$path" "$@"; echo "$?"
            "$HELPER" status -q --fd 9 "$@""#;
        let mut command = scene.program("bash");
        command.args(["-c", script, "bash", if lock.len() == 1 { named } else { data }, path]).args(lock);
        Call::new(command).status(1).out("2\n").err(said).run();
    }
    assert_eq!(inode(), before);
}

#[test]
fn a_script_ends_with_the_ctrl_c_of_which_its_command_died() {
    let scene = Scene::new();
    let file = scene.path("pid");
    let pid_file = file.to_str().unwrap();
    for call in [["lock", "a", "-o"].as_slice(), &["lock", "a", "--pid-file", pid_file], &["reserve", "-o"]] {
        // A terminal sends SIGINT to the whole group, too.
        let script = r#""$HELPER" "$@" -- sh -c 'kill -INT 0; sleep 60' >/dev/null; echo went on"#;
        let mut command = scene.program("bash");
        command.args(["-c", script, "bash"]).args(call);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Call::new(command).status(130).out("").run();
        assert!(!file.exists());
        // A command that deals with it ends as it likes, and the script goes on.
        let script =
            r#""$HELPER" "$@" -- bash -c 'trap "exit 5" INT; kill -INT 0; sleep 60 & wait' >/dev/null; echo "$?""#;
        let mut command = scene.program("bash");
        command.args(["-c", script, "bash"]).args(call);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Call::new(command).out("5\n").run();
    }
}

#[test]
fn clean_removes_a_pid_file_whose_process_has_ended() {
    let scene = Scene::new();
    let file = scene.path("pid");
    let path = file.to_str().unwrap();
    let clean = |said: &str| scene.aba(["clean", "--pid-file", path]).out(said).run();
    let mut holder = scene.holder_with(&["--pid-file", path, "a"]);
    let command = fs::read_to_string(&file).unwrap();
    clean(&format!("left pid file {path}: it runs, pid {command}"));
    holder.signal(9);
    holder.wait();
    let pid: u32 = command.trim().parse().unwrap();
    until("the command has ended, too", || !crate::scene::is_alive(pid) && !crate::scene::exists(pid));
    scene
        .aba(["clean", "--dry-run", "--pid-file", path])
        .out(format!("would remove pid file {path}\n1 to remove"))
        .run();
    assert!(file.exists());
    clean(&format!("removed pid file {path}\n1 removed"));
    assert!(!file.exists());
    clean("there is none");
    // No lock file is touched.
    assert!(scene.lock_file("a").exists());
    // The number is that of a process which was started long after the file was written.
    let stranger = scene.holder("b");
    fs::write(&file, format!("{}\n", stranger.pid())).unwrap();
    clean(&format!("it runs, pid {}", stranger.pid()));
    let hour = std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(&file).unwrap().set_modified(std::time::SystemTime::now() - hour).unwrap();
    clean("removed pid file");
    // A zombie runs no more, although its parent has not waited for it.
    let mut zombie = std::process::Command::new("true").spawn().unwrap();
    until("it is a zombie", || !crate::scene::is_alive(zombie.id()));
    fs::write(&file, format!("{}\n", zombie.id())).unwrap();
    clean("removed pid file");
    zombie.wait().unwrap();
    for content in ["", "12 34", "nobody"] {
        fs::write(&file, content).unwrap();
        clean("there is something in it that aba-lock did not write");
    }
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/nowhere", &file).unwrap();
    clean("it is a symbolic link, not a regular file");
}

#[test]
fn ctrl_c_is_given_to_the_command_once() {
    // The terminal gives SIGINT to the whole process group: passed on as well, it would come twice.
    let scene = Scene::new();
    let count = "n=0; trap 'n=$((n+1))' INT; echo up; until ((n)); do sleep 0.05; done; sleep 0.3; exit $((10 + n))";
    fs::write(scene.path("count"), count).unwrap();
    let script = r"
import os, pty, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while b'up' not in os.read(terminal, 1000): pass
os.write(terminal, b'\x03')
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let mut command = scene.program("timeout");
    command.args(["60", "python3", "-c", script, HELPER, "lock", "-o", "a", "--", "bash"]).arg(scene.path("count"));
    crate::scene::Call::new(command).status(11).run();
}

#[test]
fn a_waiter_that_is_interrupted_ends_and_disturbs_nobody() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    for signal in [2, 15] {
        let waiter = scene.aba(["lock", "-qw", "a", "--", "true"]).status(128 + signal).start();
        scene.until_waited_for("a");
        kill(waiter.pid(), signal);
        waiter.finish();
    }
    assert!(is_locked(&scene.lock_file("a")));
    drop(holder);
}

#[test]
fn a_terminal_that_hangs_up_is_told_to_the_command_also_when_the_helper_leads_the_session() {
    // The kernel tells the leader of the session alone.
    let scene = Scene::new();
    let told = scene.path("told");
    let work = format!("trap 'echo told >{}; exit' HUP; echo up; while :; do sleep 0.05; done", told.display());
    let script = r"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
while b'up' not in os.read(terminal, 1000): pass
os.close(terminal)
os.waitpid(pid, 0)
";
    let mut command = scene.program("timeout");
    command.args(["60", "python3", "-c", script, HELPER, "lock", "-o", "a", "--", "bash", "-c", &work]);
    crate::scene::Call::new(command).run();
    assert!(told.exists());
    assert!(!is_locked(&scene.lock_file("a")));
}

#[test]
fn a_command_finds_closed_descriptors_closed() {
    let scene = Scene::new();
    scene.bash("\"$HELPER\" lock a -- sh -c 'echo lost 2>/dev/null' >&-").status(1).run();
}

#[test]
fn a_directory_of_the_path_that_may_not_be_searched_does_not_hide_that_a_command_is_missing() {
    let scene = Scene::new();
    // As execvp(3) answers for such a directory.
    let mut command = scene.program("strace");
    command.args(["-o", "/dev/null", "-e", "inject=execve:error=EACCES:when=2+", HELPER, "lock", "a", "--", "no-such"]);
    crate::scene::Call::new(command).status(127).err("command not found: no-such").run();
}
