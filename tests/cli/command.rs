//! Commands under a lock: exit status, signals, descriptors and pid files.

use crate::process::{exists, is_alive, is_locked, kill, set_modified, wait_until, write_program};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[test]
fn the_exit_status_is_that_of_the_command() {
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
fn a_command_that_cannot_be_run_exits_with_126_or_127_and_releases_the_lock() {
    let scene = Scene::new();
    fs::write(scene.path("text"), "not a program").unwrap();
    let text = scene.path("text");
    let pid_file = scene.path("pid");
    for option in ["-q", "-o"] {
        let lock =
            |command: &str| scene.aba(["lock", option, "--pid-file", pid_file.to_str().unwrap(), "a", "--", command]);
        lock("no-such-command").status(127).err("aba-lock: command not found: no-such-command\n").run();
        lock(text.to_str().unwrap()).status(126).err("cannot run ").err("Permission denied").run();
        assert!(!pid_file.exists(), "the pid file was not removed");
        assert!(!is_locked(&scene.lock_file("a")));
    }
}

#[test]
fn the_helper_becomes_the_command() {
    let scene = Scene::new();
    let holder = scene.aba(["lock", "a", "--", "sh", "-c", "echo $$; read _"]).hold();
    assert_eq!(holder.first_line, holder.pid().to_string());
    assert_eq!(scene.field("a", "pid"), holder.first_line);
}

#[test]
fn the_command_inherits_the_signal_mask_and_dispositions_of_the_caller() {
    let scene = Scene::new();
    let masks = "grep -E '^(SigBlk|SigIgn)' /proc/self/status";
    let said = scene.bash(&format!("trap '' PIPE ALRM USR1\n{masks}\n\"$HELPER\" lock a -- {masks}")).out("").run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[..2], lines[2..], "{}", said.out);
    assert!(!lines[1].ends_with("0000000000000000"));
}

#[test]
fn an_inherited_lock_outlives_the_command_unless_no_inherit_is_set() {
    let scene = Scene::new();
    // The daemon ends when the holder is dropped, which closes its input.
    for (option, kept) in [("-n", true), ("-o", false)] {
        let mut holder =
            scene.aba(["lock", option, "a", "--", "bash", "-c", "{ read _; } <&0 & echo $!; exit 0"]).hold();
        assert_eq!(holder.wait(), 0, "the command itself ended at once");
        assert_eq!(is_locked(&scene.lock_file("a")), kept, "with {option}");
        if kept {
            scene
                .aba(["lock", "a", "--", "true"])
                .status(75)
                .err(format!("a was acquired by pid {} (", holder.pid()))
                .err(format!("), which has ended; it is still held by pid {} (", holder.first_line))
                .err("which inherited it\n")
                .err(format!(
                    "hint: end it with `kill {}`; next time, start it with `aba_lock_detach`, or use --no-inherit, so that it does not keep the lock",
                    holder.first_line
                ))
                .run();
        }
        let daemon: u32 = holder.first_line.parse().unwrap();
        drop(holder);
        wait_until("the daemon has ended", || !is_alive(daemon));
    }
}

#[test]
fn a_signal_to_the_helper_reaches_the_command() {
    let scene = Scene::new();
    for option in ["-n", "-o"] {
        for signal in [1, 2, 3, 15] {
            let script = "trap 'exit 9' HUP INT QUIT TERM; echo up; while :; do read -t 0.1 _ <>/dev/zero; done";
            let script = script.replace("read -t 0.1 _ <>/dev/zero", "sleep 0.05");
            let mut holder = scene.aba(["lock", option, "a", "--", "bash", "-c", &script]).hold();
            holder.signal(signal);
            assert_eq!(holder.wait(), 9, "signal {signal} with {option}");
            assert!(!is_locked(&scene.lock_file("a")));
        }
    }
}

#[test]
fn killing_the_helper_kills_its_command() {
    let scene = Scene::new();
    let mut holder = scene.aba(["lock", "-o", "a", "--", "sh", "-c", "echo $$; read _"]).hold();
    let pid: u32 = holder.first_line.parse().unwrap();
    assert_ne!(pid, holder.pid());
    assert!(is_alive(pid));
    holder.signal(9);
    assert_eq!(holder.wait(), 137);
    wait_until("the command has ended too", || !is_alive(pid));
    assert!(!is_locked(&scene.lock_file("a")));
}

#[test]
fn the_exit_status_is_correct_if_the_caller_ignores_sigchld() {
    let scene = Scene::new();
    let script =
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execvp(sys.argv[1], sys.argv[1:])";
    scene.call("python3").args(["-c", script, HELPER, "lock", "-o", "a", "--", "sh", "-c", "exit 7"]).status(7).run();
}

/// Writes a program that closes the descriptors that it inherited, as ssh and sudo do.
fn write_closing_program(path: &Path) {
    write_program(
        path,
        "#!/bin/bash\nfor fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd > 2 && fd < 255)) && eval \"exec $fd>&-\"; done\necho up; read _\n",
    );
}

#[test]
fn commands_known_to_close_descriptors_keep_the_lock() {
    let scene = Scene::new();
    for name in ["ssh", "sudo", "doas"] {
        write_closing_program(&scene.path(name));
        let holder = scene.aba(["lock", "a", "--"]).arg(scene.path(name)).hold();
        assert!(is_locked(&scene.lock_file("a")), "{name}");
        holder.release();
        assert!(!is_locked(&scene.lock_file("a")), "{name}");
    }
}

#[test]
fn the_lock_is_inherited_on_a_descriptor_that_scripts_do_not_use() {
    let scene = Scene::new();
    let script = "for fd in 3 4 5 6 7 8 9; do eval \"exec $fd>/dev/null\"; done; echo up; read _";
    let _holder = scene.aba(["lock", "a", "--", "bash", "-c", script]).hold();
    assert!(is_locked(&scene.lock_file("a")));
    // A low limit of open files leaves no high numbers.
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
fn on_busy_runs_another_command_while_the_lock_is_held() {
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
    // The text is a shell script that gets the name as $1: the name is not pasted into the script.
    let file = scene.path("it's a $(touch pasted)");
    let other = scene.flock_holder(&file);
    let text = "echo $(basename \"$1\") >>log && test \"$1\" = \"$ABA_LOCK_NAME\"";
    for what in [&["a"][..], &["--file", file.to_str().unwrap()]] {
        scene.aba(["lock", "-q", "--on-busy", text]).args(what).args(["--", "true"]).current_dir(scene.path(".")).run();
    }
    assert_eq!(fs::read_to_string(scene.path("log")).unwrap(), "a\nit's a $(touch pasted)\n");
    assert!(!scene.path("pasted").exists());
    scene.aba(["lock", "--on-busy", " ", "a", "--", "true"]).status(2).err("the command of --on-busy is empty").run();
    other.release();
    holder.release();
    scene.aba(["lock", "--on-busy", "false", "a", "--", "true"]).run();
}

#[test]
fn a_pid_file_names_the_command_and_is_removed_at_its_end() {
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
            .err("cannot write ")
            .run();
    }
    let script = format!(
        "exec 200<>\"$(\"$HELPER\" path --create a)\"; \"$HELPER\" lock --fd 200 --pid-file {} a; echo $?; \"$HELPER\" status --fd 200 -q a",
        nowhere.display()
    );
    scene.bash(&script).status(1).out("125\n").err("cannot write ").run();
}

#[test]
fn a_pid_file_changes_neither_exit_status_nor_inheritance() {
    let scene = Scene::new();
    let file = scene.path("pid");
    let path = file.to_str().unwrap();
    for (script, status) in [("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        scene.aba(["lock", "--pid-file", path, "a", "--", "sh", "-c", script]).status(status).run();
        assert!(!file.exists(), "{script}");
    }
    // A signal to the helper reaches the command.
    let mut holder = scene.holder_with(&["--pid-file", path, "a"]);
    holder.signal(15);
    assert_eq!(holder.wait(), 143);
    assert!(!file.exists() && !is_locked(&scene.lock_file("a")));
    // A nested call succeeds, and a process that the command left running keeps the lock.
    let gate = scene.gate("gate");
    let script = format!("\"$HELPER\" lock a -- true || exit; read _ <{gate} >/dev/null 2>&1 &");
    scene.aba(["lock", "--pid-file", path, "a", "--", "bash", "-c", &script]).run();
    assert!(!file.exists() && is_locked(&scene.lock_file("a")));
    gate.open();
    wait_until("the lock is free", || !is_locked(&scene.lock_file("a")));
    // The file stays if another process wrote to it.
    scene.aba(["lock", "--pid-file", path, "a", "--", "sh", "-c", &format!("echo 1 >'{path}'")]).run();
    assert_eq!(fs::read_to_string(&file).unwrap(), "1\n");
}

#[test]
fn a_pid_file_never_replaces_a_symbolic_link() {
    let scene = Scene::new();
    let (link, target) = (scene.path("link"), scene.path("target"));
    fs::write(&target, "precious").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let path = link.to_str().unwrap();
    for option in ["-n", "-o"] {
        let call = ["lock", option, "--pid-file", path, "a", "--", "echo", "not reached"];
        scene.aba(call).status(125).err("cannot write ").err("it is a symbolic link, not a regular file").run();
    }
    let script = format!("exec 9<>\"$(\"$HELPER\" path --create a)\"; \"$HELPER\" lock --fd 9 --pid-file '{path}' a");
    scene.bash(&script).status(125).err("it is a symbolic link").run();
    assert!(!is_locked(&scene.lock_file("a")));
    assert_eq!((fs::read_link(&link).unwrap(), fs::read_to_string(&target).unwrap()), (target, "precious".to_owned()));
}

#[test]
fn a_pid_file_that_would_replace_the_lock_file_is_refused() {
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
        let command = scene.call("bash").args(["-c", script, "bash", if lock.len() == 1 { named } else { data }, path]);
        command.args(lock).status(1).out("2\n").err(said).run();
    }
    assert_eq!(inode(), before);
}

#[test]
fn ctrl_c_that_kills_the_command_ends_the_calling_script() {
    let scene = Scene::new();
    let file = scene.path("pid");
    let pid_file = file.to_str().unwrap();
    for call in [["lock", "a", "-o"].as_slice(), &["lock", "a", "--pid-file", pid_file], &["reserve", "-o"]] {
        // Like a terminal, this sends SIGINT to the whole group.
        let script = r#""$HELPER" "$@" -- sh -c 'kill -INT 0; sleep 60' >/dev/null; echo went on"#;
        scene.call("bash").args(["-c", script, "bash"]).args(call).own_group().status(130).out("").run();
        assert!(!file.exists());
        // If the command handles SIGINT, the script continues.
        let script =
            r#""$HELPER" "$@" -- bash -c 'trap "exit 5" INT; kill -INT 0; sleep 60 & wait' >/dev/null; echo "$?""#;
        scene.call("bash").args(["-c", script, "bash"]).args(call).own_group().out("5\n").run();
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
    clean(&format!("left pid file {path}: it is running, pid {command}"));
    holder.signal(9);
    holder.wait();
    let pid: u32 = command.trim().parse().unwrap();
    wait_until("the command has ended, too", || !is_alive(pid) && !exists(pid));
    let call = scene.aba(["clean", "--dry-run", "--pid-file", path]);
    call.out(format!("would remove pid file {path}\n1 to remove")).run();
    assert!(file.exists());
    clean(&format!("removed pid file {path}\n1 removed"));
    assert!(!file.exists());
    clean("it does not exist");
    // No lock file is touched.
    assert!(scene.lock_file("a").exists());
    // A reused pid: its process started long after the file was written.
    let stranger = scene.holder("b");
    fs::write(&file, format!("{}\n", stranger.pid())).unwrap();
    clean(&format!("it is running, pid {}", stranger.pid()));
    set_modified(&file, -3600);
    clean("removed pid file");
    // A zombie does not count as running.
    let mut zombie = std::process::Command::new("true").spawn().unwrap();
    wait_until("it is a zombie", || !is_alive(zombie.id()));
    fs::write(&file, format!("{}\n", zombie.id())).unwrap();
    clean("removed pid file");
    zombie.wait().unwrap();
    for content in ["", "12 34", "nobody"] {
        fs::write(&file, content).unwrap();
        clean("it has content that aba-lock did not write");
    }
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/nowhere", &file).unwrap();
    clean("it is a symbolic link, not a regular file");
}

#[test]
fn the_command_receives_ctrl_c_once() {
    // The terminal sends SIGINT to the whole process group. If the helper forwarded it, the command would get it twice.
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
    let command = scene.call("timeout").args(["60", "python3", "-c", script, HELPER, "lock", "-o", "a", "--", "bash"]);
    command.arg(scene.path("count")).status(11).run();
}

#[test]
fn an_interrupted_waiter_ends_and_the_holder_keeps_the_lock() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    for signal in [2, 15] {
        let waiter = scene.aba(["lock", "-qw", "a", "--", "true"]).status(128 + signal).start();
        scene.wait_for_waiter("a");
        kill(waiter.pid(), signal);
        waiter.finish();
    }
    assert!(is_locked(&scene.lock_file("a")));
    drop(holder);
}

#[test]
fn the_command_receives_sighup_even_if_the_helper_leads_the_session() {
    // On a hangup, the kernel sends SIGHUP to the leader of the session only.
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
    let command = scene.call("timeout");
    command.args(["60", "python3", "-c", script, HELPER, "lock", "-o", "a", "--", "bash", "-c", &work]).run();
    assert!(told.exists());
    assert!(!is_locked(&scene.lock_file("a")));
}

#[test]
fn closed_standard_descriptors_stay_closed_in_the_command() {
    let scene = Scene::new();
    scene.bash("\"$HELPER\" lock a -- sh -c 'echo lost 2>/dev/null' >&-").status(1).run();
}

#[test]
fn a_missing_command_exits_with_127_even_if_a_directory_on_path_is_unreadable() {
    let scene = Scene::new();
    // execvp(3) fails with EACCES for such a directory.
    let command = scene.strace(["-e", "inject=execve:error=EACCES:when=2+", HELPER, "lock", "a", "--", "no-such"]);
    command.status(127).err("command not found: no-such").run();
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_sh() {
    let scene = Scene::new();
    for directory in ["text", "closed", "scripts"] {
        fs::create_dir(scene.path(directory)).unwrap();
    }
    // The search skips a file that cannot be executed, and a directory.
    fs::write(scene.path("text/bare"), "echo wrong").unwrap();
    fs::create_dir(scene.path("closed/bare")).unwrap();
    let script = scene.path("scripts/bare");
    write_program(&script, "echo \"$0|$1|$2|$ABA_FILE\"; exit 3");
    let name = script.to_str().unwrap();
    let answer = format!("{name}|a b||\n");
    let path =
        ["text", "closed", "scripts"].map(|directory| scene.path(directory).to_str().unwrap().to_owned()).join(":");
    let path = format!("{path}:{}", std::env::var("PATH").unwrap());
    for word in ["bare", name] {
        let call = |words: &[&str]| scene.aba(words).args(["--", word, "a b", ""]).env("PATH", &path).status(3);
        call(&["lock", "a"]).out(&answer).run();
        call(&["lock", "-o", "a"]).out(&answer).run();
        call(&["lock", "--pid-file", scene.path("pid").to_str().unwrap(), "a"]).out(&answer).run();
        call(&["reserve"]).out(&answer).run();
        call(&["run-once", "-w", "-i", &format!("task{}", word.replace('/', "-"))])
            .out(&answer)
            .err("failed with status 3")
            .run();
        let flock = scene.aba(["flock", "f", word, "a b", ""]).env("PATH", &path).current_dir(scene.path(""));
        flock.status(3).out(&answer).run();
    }
    write_program(&script, "sed s/old/\"$1\"/; echo \"$ABA_FILE\"");
    let file = scene.path("file");
    let name = file.to_str().unwrap();
    for word in ["bare", script.to_str().unwrap()] {
        fs::write(&file, "old\n").unwrap();
        scene.aba(["update", name, "--", word, "new"]).env("PATH", &path).run();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("new\n{name}\n"));
    }
}
