//! The helper as `flock`: where it differs from flock(1), and how the other commands see its locks.
//! `flock_comparison.rs` compares the two where they must be alike.

use crate::call::{Call, CallOutput, Holder};
use crate::process::{
    PATIENCE, count_waiters, is_alive, is_locked, kill, list_files, set_mode, wait_until, waiter_pids,
};
use crate::scene::{HELPER, Scene};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

/// A command that runs the helper under the name `flock`, in the directory of the scene.
pub(crate) fn flock(scene: &Scene) -> Command {
    let link = scene.path("flock");
    if !link.exists() {
        symlink(HELPER, &link).unwrap();
    }
    let mut command = scene.program(link.to_str().unwrap());
    command.current_dir(scene.path(""));
    command
}

pub(crate) fn call(scene: &Scene, args: &[&str]) -> Call {
    let mut command = flock(scene);
    command.args(args);
    Call::new(command)
}

/// Holds file `f` with the helper as `flock`.
pub(crate) fn holder(scene: &Scene, options: &[&str]) -> Holder {
    let mut command = flock(scene);
    command.args(options).args(["f", "sh", "-c", "echo held; read _"]);
    Holder::start(command)
}

/// Runs `flock` under strace with these options. Returns the output and the trace.
pub(crate) fn trace_flock(scene: &Scene, options: &[&str], args: &[&str]) -> (CallOutput, String) {
    flock(scene);
    let command = scene.call("strace").args(["-qq", "-o"]).arg(scene.path("trace")).args(options);
    let said = command.arg(scene.path("flock")).args(args).current_dir(scene.path("")).err("").out("").run();
    (said, fs::read_to_string(scene.path("trace")).unwrap())
}

#[test]
fn a_signal_to_flock_is_forwarded_to_the_command() {
    let scene = Scene::new();
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3), ("USR1", 10), ("USR2", 12)] {
        let script = format!("trap 'echo cleaned >>log; exit 7' {signal}; echo held; while read _; do :; done");
        let mut command = flock(&scene);
        command.args(["f", "sh", "-c", &script]);
        let mut holder = Holder::start(command);
        holder.signal(number);
        assert_eq!(holder.wait(), 7, "{signal}");
        assert!(!is_locked(&scene.path("f")), "{signal}");
    }
    assert_eq!(fs::read_to_string(scene.path("log")).unwrap().lines().count(), 6);
}

#[test]
fn flock_dies_of_the_signal_that_killed_its_command() {
    let scene = Scene::new();
    for number in [2, 15, 1, 10] {
        let mut command = flock(&scene);
        let mut child = command.args(["f", "sh", "-c", "echo $$ >pid; exec sleep 60"]).spawn().unwrap();
        let pid = || fs::read_to_string(scene.path("pid")).ok()?.trim().parse::<u32>().ok();
        wait_until("the command runs", || pid().is_some_and(is_alive));
        let pid = pid().unwrap();
        kill(child.id(), number);
        let status = child.wait().unwrap();
        // A shell continues unless its command died of SIGINT.
        assert_eq!(status.signal(), Some(number));
        wait_until("the command has ended", || !is_alive(pid));
        fs::remove_file(scene.path("pid")).unwrap();
    }
}

#[test]
fn on_ctrl_c_flock_waits_for_a_command_that_still_cleans_up() {
    let scene = Scene::new();
    flock(&scene);
    let (go, trapped) = (scene.path("go"), scene.path("trapped"));
    let script = format!(
        "trap 'echo trapped >>{}' INT; echo ready; while [ ! -e {} ]; do sleep 0.05; done; echo cleaned; exit 5",
        trapped.display(),
        go.display()
    );
    // Only the trace shows a second signal: a shell treats several signals as one.
    let strace = ["strace", "-I", "never", "-qq", "-e", "trace=kill", "-e", "signal=none", "-o"];
    let command = scene.on_terminal("ready>\x03").args(strace).arg(scene.path("trace")).arg(scene.path("flock"));
    let mut running = command.arg(scene.path("f")).args(["sh", "-c", &script]).status(5).out("cleaned").start();
    wait_until("the command got the signal", || trapped.exists());
    assert!(!running.has_ended());
    assert!(is_locked(&scene.path("f")));
    fs::write(go, "").unwrap();
    running.finish();
    // The signal came from the terminal. The helper must not send it again.
    assert_eq!(fs::read_to_string(scene.path("trace")).unwrap(), "");
    assert!(!is_locked(&scene.path("f")));
}

#[test]
fn ctrl_c_that_kills_a_command_under_flock_ends_the_script() {
    let scene = Scene::new();
    flock(&scene);
    let script = format!(
        "{0} {1} sh -c 'echo ready; exec sleep 60'; echo went on",
        scene.path("flock").display(),
        scene.path("f").display()
    );
    // Python exits with -2 (254) if the process died of signal 2.
    let said = scene.on_terminal("ready>\x03").args(["bash", "-c", &script]).status(254).out("ready").run();
    assert!(!said.out.contains("went on"), "{}", said.out);
}

#[test]
fn killing_flock_never_leaves_a_command_without_its_lock() {
    let scene = Scene::new();
    for options in [&[][..], &["-o"]] {
        let mut command = flock(&scene);
        command.args(options).args(["f", "sh", "-c", "echo $$; read _"]);
        let mut holder = Holder::start(command);
        let child: u32 = holder.first_line.parse().unwrap();
        holder.signal(9);
        assert_eq!(holder.wait(), 137);
        if options.is_empty() {
            assert!(is_alive(child) && is_locked(&scene.path("f")));
            kill(child, 9);
        }
        wait_until("the command has ended", || !is_alive(child));
        wait_until("the lock is free", || !is_locked(&scene.path("f")));
    }
}

#[test]
fn an_existing_file_is_opened_read_only_without_o_creat() {
    let scene = Scene::new();
    fs::write(scene.path("f"), "kept").unwrap();
    set_mode(scene.path("f"), 0o444);
    let before = fs::metadata(scene.path("f")).unwrap();
    let (_, trace) = trace_flock(&scene, &["-e", "trace=/^open(at)?$,write,pwrite64,ftruncate"], &["f", "true"]);
    let opened: Vec<&str> = trace.lines().filter(|line| line.contains("\"f\"")).collect();
    assert_eq!(opened.len(), 1, "{trace}");
    assert!(opened[0].contains("O_RDONLY") && !opened[0].contains("O_CREAT"), "{trace}");
    let after = fs::metadata(scene.path("f")).unwrap();
    assert_eq!((before.mtime_nsec(), before.len()), (after.mtime_nsec(), after.len()));
}

#[test]
fn a_file_system_that_requires_write_access_for_exclusive_locks_gets_it() {
    let scene = Scene::new();
    fs::write(scene.path("f"), "kept").unwrap();
    for error in ["EBADF", "EIO"] {
        let inject = format!("inject=flock:error={error}:when=1");
        let (_, trace) =
            trace_flock(&scene, &["-P", "f", "-e", "trace=/^open(at)?$,flock", "-e", &inject], &["f", "true"]);
        let opened: Vec<&str> = trace.lines().filter(|line| line.starts_with("open")).collect();
        assert!(opened.len() == 2 && opened[1].contains("O_RDWR") && !opened[1].contains("O_CREAT"), "{trace}");
        assert_eq!(trace.matches("flock(").count(), 2, "{trace}");
    }
    assert_eq!(fs::read_to_string(scene.path("f")).unwrap(), "kept");
    // For a shared lock, write access would not help.
    let command = scene.strace(["-P", "f", "-e", "inject=flock:error=EBADF"]).arg(scene.path("flock"));
    command.args(["-s", "f", "true"]).current_dir(scene.path("")).status(65).err("flock: f: Bad file descriptor").run();
}

#[test]
fn system_errors_have_the_exit_status_of_the_original() {
    let scene = Scene::new();
    fs::write(scene.path("f"), "").unwrap();
    flock(&scene);
    let refused = [
        ("/^open(at)?$:error=EACCES", 66),
        ("/^open(at)?$:error=ELOOP", 66),
        ("/^open(at)?$:error=EMFILE", 71),
        ("/^open(at)?$:error=ENOMEM", 71),
        ("/^open(at)?$:error=EROFS", 73),
        ("/^open(at)?$:error=ENOSPC", 73),
        ("flock:error=ENOLCK", 71),
        ("flock:error=EOPNOTSUPP", 65),
        ("flock:error=EINVAL", 65),
    ];
    for program in ["flock".to_owned(), scene.path("flock").display().to_string()] {
        for (inject, status) in refused {
            let command = scene.strace(["-P", "f", "-e", &format!("inject={inject}")]).args([&program, "f", "true"]);
            command.current_dir(scene.path("")).status(status).err("flock: ").run();
        }
        let command = scene.strace(["-e", "inject=clone,clone3,fork,vfork:error=EAGAIN"]).args([&program, "f", "true"]);
        command.current_dir(scene.path("")).status(71).err("flock: ").run();
    }
}

#[test]
fn a_waiting_flock_names_the_holder_only_with_verbose() {
    let scene = Scene::new();
    let first = holder(&scene, &[]);
    let script = "exec \"$0\" f echo ran";
    let rules = format!("ran={}", scene.path("seen").display());
    let command = scene.on_terminal(&rules).args(["sh", "-c", script]).arg(scene.path("flock"));
    let silent = command.current_dir(scene.path("")).out("ran").start();
    wait_until("it waits", || count_waiters(&scene.path("f")) == 1);
    let loud = call(&scene, &["--verbose", "f", "true"]).out("flock: executing true\n").err("").start();
    loud.wait_for_error(&format!("flock: waiting for f, held by pid {} (", first.pid()));
    wait_until("both wait", || count_waiters(&scene.path("f")) == 2);
    let said = call(&scene, &["--verbose", "-n", "f", "true"]).status(1).err("flock: failed to get lock\n").run();
    assert!(said.err.contains(&format!("flock: f is held by pid {} (", first.pid())), "{}", said.err);
    // Longer than the time after which the other commands print a message.
    let said = call(&scene, &["-w", "0.3", "f", "true"]).status(1).run();
    assert!(said.err.is_empty() && said.out.is_empty());
    first.release();
    assert_eq!(silent.finish().out, "ran\r\n");
    loud.finish();
}

#[test]
fn flock_needs_and_creates_neither_home_nor_state_root() {
    let scene = Scene::new();
    let mut command = flock(&scene);
    command.env_clear().env("PATH", std::env::var("PATH").unwrap()).env("ABA_LOCK_DIR", "not absolute");
    command.env("ABA_LOCK_TIMEOUT", "no number").env("ABA_LOCK_FDS", "nonsense").env("ABA_LOCK_LOG", "/no/such/place");
    command.args(["f", "sh", "-c", "echo $ABA_LOCK_FDS"]);
    Call::new(command).out("nonsense\n").run();
    assert_eq!(list_files(scene.path("")), ["f", "flock"]);
    assert_eq!(fs::read(scene.path("f")).unwrap(), b"");
    // A leftover variable does not turn the call into a completion.
    call(&scene, &["f", "echo", "ran"]).env("ABA_LOCK_COMPLETE", "bash").out("ran\n").run();
}

#[test]
fn the_flock_subcommand_and_the_flock_name_behave_alike() {
    let scene = Scene::new();
    let command = scene.aba(["flock", "-E", "7", "f", "-c", "echo ran; exit 3"]).current_dir(scene.path("")).status(3);
    command.out("ran\n").run();
    let said = scene.aba(["flock", "--wrong"]).status(64).err("flock: unrecognized option '--wrong'\n").run();
    assert!(said.err.contains("hint: see `aba-lock flock --help`\n"), "{}", said.err);
    scene.aba(["flock", "--help"]).out("Usage: aba-lock flock [OPTIONS] FILE COMMAND").run();
    call(&scene, &["--help"]).out("Usage: flock [OPTIONS] FILE COMMAND").run();
    call(&scene, &["--wrong"]).status(64).err("hint: see `flock --help`\n").run();
    // The other commands use the same lock.
    let held = holder(&scene, &[]);
    let file = scene.path("f");
    let command = scene.aba(["lock", "--file", file.to_str().unwrap(), "--", "true"]).status(75);
    command.err(format!("held by pid {}", held.pid())).run();
    held.release();
}

#[test]
fn the_parser_and_the_help_know_the_same_options() {
    let scene = Scene::new();
    let help = call(&scene, &["--help"]).out("").run().out;
    let words: Vec<&str> = help.split(|c: char| c.is_whitespace() || ",:;[]".contains(c)).collect();
    let mut long: Vec<&str> =
        words.iter().filter_map(|word| word.strip_prefix("--")).filter(|word| !word.is_empty()).collect();
    let is_letter = |word: &&str| word.len() == 2 && word.starts_with('-') && word.as_bytes()[1].is_ascii_alphabetic();
    let mut short: Vec<u8> = words.iter().copied().filter(is_letter).map(|word| word.as_bytes()[1]).collect();
    short.sort_unstable();
    short.dedup();
    long.sort_unstable();
    long.dedup();
    // `--command` follows FILE, and `--nonblock` is an abbreviation of `--nonblocking`.
    assert_eq!(long.iter().filter(|name| ["command", "nonblock"].contains(name)).count(), 2);
    long.retain(|name| !["command", "nonblock"].contains(name));
    let of_forms = long.iter().position(|name| *name == "fd");
    assert!(of_forms.is_some(), "{help}");

    // The parser lists all options that begin with an empty name.
    let said = call(&scene, &["--="]).status(64).err("is ambiguous:").run().err;
    let mut known: Vec<&str> = said
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--"))
        .filter(|word| !word.starts_with('=') && *word != "help`")
        .collect();
    known.sort_unstable();
    assert_eq!(known, long);
    let is_known = |letter: &u8| {
        let output = flock(&scene).arg(format!("-{}h", char::from(*letter))).stdin(Stdio::null()).output().unwrap();
        !String::from_utf8_lossy(&output.stderr).contains("invalid option")
    };
    let letters: Vec<u8> = (b'A'..=b'Z').chain(b'a'..=b'z').filter(is_known).collect();
    short.retain(|letter| *letter != b'c');
    assert_eq!(letters, short);
}

#[test]
fn names_and_commands_may_be_any_bytes() {
    let scene = Scene::new();
    let name = OsStr::from_bytes(b"\xff\xfe \n");
    let mut command = flock(&scene);
    command.arg(name).arg("printf").arg("%s").arg(name);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), name.as_bytes()));
    assert!(scene.path("").join(name).exists());
    let mut command = flock(&scene);
    command.arg(name).arg(name);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("flock: failed to execute "));
}

#[test]
fn a_script_without_an_interpreter_line_gets_all_its_arguments() {
    let scene = Scene::new();
    fs::write(scene.path("script"), "echo $# ${100000}").unwrap();
    set_mode(scene.path("script"), 0o755);
    let mut command = flock(&scene);
    command.args(["f", "./script"]).args((1..=100_000).map(|number| number.to_string()));
    Call::new(command).out("100000 100000\n").run();
}

#[test]
fn status_names_the_holders_and_waiters_of_flock() {
    let scene = Scene::new();
    let first = holder(&scene, &[]);
    let file = scene.path("f");
    // Its last argument is a number, but not a descriptor of its parent.
    let waiter = call(&scene, &["f", "sleep", "0"]).start();
    let other = scene.path("flock");
    let mut command = scene.program(HELPER);
    command.args(["flock", "f", "sleep", "0"]).current_dir(scene.path(""));
    let command = Call::new(command).start();
    let script = format!("exec 9<f; '{}' -s 9; exit 0", other.display());
    let script = scene.bash_here(&script).start();
    wait_until("they wait", || count_waiters(&file) == 3);
    let waiting = waiter_pids(&file);
    let said = scene.aba(["status", "--file", file.to_str().unwrap()]).out("f: held, exclusive\n").run().out;
    assert!(said.contains(&format!("\n  pid {}, ", first.pid())), "{said}");
    assert!(said.contains(&format!("waits: pid {}, ", waiter.pid())), "{said}");
    assert!(said.contains(&format!("waits: pid {}, ", command.pid())), "{said}");
    let helper = waiting.iter().find(|pid| ![waiter.pid(), command.pid()].contains(pid)).unwrap();
    assert!(said.contains(&format!("waits: pid {}, ", script.pid())), "{said}");
    assert!(said.contains(&format!(", by its helper {helper}, ")), "{said}");
    assert_eq!(said.matches("by its helper").count(), 1, "{said}");
    first.release();
    for running in [waiter, command, script] {
        running.finish();
    }
}

#[test]
fn a_deadlock_through_the_command_of_flock_is_found() {
    let scene = Scene::new();
    let link = scene.path("flock");
    flock(&scene);
    let script = format!("'{}' '{}' \"$HELPER\" lock -w a -- true", link.display(), scene.path("f").display());
    // The process that holds `a` is an ancestor of the waiter, with `flock` between them. The waiter does not inherit the lock.
    let script = format!("(exec 500>&-; unset ABA_LOCK_FDS; {script}; exit $?); exit $?");
    scene.aba(["lock", "a", "--", "bash", "-c", &script]).status(75).err("waiting for a would be a deadlock: ").run();
}

#[test]
fn ten_concurrent_flocks_exclude_each_other() {
    let scene = Scene::new();
    flock(&scene);
    fs::write(scene.path("count"), "0\n").unwrap();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do ./flock f sh -c 'read n <count; echo $((n + 1)) >count'; done";
    let contender = |_| Command::new("sh").args(["-c", script]).current_dir(scene.path("")).spawn().unwrap();
    let mut contenders: Vec<_> = (0..10).map(contender).collect();
    for contender in &mut contenders {
        let start = std::time::Instant::now();
        while contender.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    assert_eq!(fs::read_to_string(scene.path("count")).unwrap(), "100\n");
}

#[test]
fn only_the_last_component_of_the_program_name_counts() {
    let scene = Scene::new();
    for (name, status) in [("flock", 0), ("/a/b/flock", 0), ("flock/x", 2), ("xflock", 2)] {
        let mut command = scene.program(HELPER);
        command.arg0(name).args(["f", "true"]).current_dir(scene.path("")).stderr(File::create("/dev/null").unwrap());
        assert_eq!(command.status().unwrap().code(), Some(status), "{name}");
    }
}
