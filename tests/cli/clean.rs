//! `clean`: it removes files that are no longer needed, never a held lock, and never makes another caller fail.

use crate::call::RunningCall;
use crate::process::{
    PATIENCE, child_pids, is_locked, is_root, kill, list_files, make_fifo, set_mode, set_modified, wait_until,
    write_file,
};
use crate::scene::{HELPER, LIBRARY, NOBODY, Scene, with_command};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// Makes lock files that are free.
fn use_locks(scene: &Scene, names: &[&str]) {
    for name in names {
        scene.aba(["lock", name, "--", "true"]).run();
    }
}

/// Sets the time of the last use of a file.
fn set_age(file: &Path, days: i64) {
    set_modified(file, -days * 24 * 3600);
}

#[test]
fn free_lock_files_are_removed_and_the_holders_of_others_are_named() {
    let scene = Scene::new();
    use_locks(&scene, &["a", "c"]);
    let holder = scene.holder_with(&["-s", "b"]);
    let said = scene.aba(["clean"]).out("").run();
    let left = format!("left lock b: held by pid {} (", holder.pid());
    assert!(said.out.contains(&left), "{}", said.out);
    assert!(said.out.starts_with("removed lock a\n") && said.out.contains("removed lock c\n"), "{}", said.out);
    assert!(said.out.ends_with("\n2 removed, 1 left\n"), "{}", said.out);
    assert!(!scene.lock_file("a").exists() && !scene.lock_file("c").exists());
    assert!(is_locked(&scene.lock_file("b")));
    scene.aba(["clean", "-q"]).run();
    assert!(is_locked(&scene.lock_file("b")));
    holder.release();
    scene.aba(["clean", "-q"]).run();
    assert_eq!(list_files(scene.root()), [] as [&str; 0]);
}

#[test]
fn cleaning_succeeds_if_there_is_nothing_to_clean() {
    let scene = Scene::new();
    scene.aba(["clean"]).out("0 removed, 0 left\n").run();
    assert!(!scene.root().exists(), "it makes nothing");
    scene.aba(["clean", "a"]).out("left lock a: it does not exist\n").run();
}

#[test]
fn only_the_named_locks_are_cleaned() {
    let scene = Scene::new();
    use_locks(&scene, &["a", "b"]);
    let said = scene.aba(["clean", "b"]).out("").run();
    assert_eq!(said.out, "removed lock b\n1 removed, 0 left\n");
    assert!(scene.lock_file("a").exists());
    scene.aba(["clean", "../b"]).status(2).err("invalid lock name \"../b\"").run();
    scene.aba(["clean", "--tasks", "a"]).status(2).err("cannot be used with").run();
}

#[test]
fn a_dry_run_prints_the_same_result_and_takes_no_lock() {
    let scene = Scene::new();
    use_locks(&scene, &["a"]);
    let _holder = scene.holder("b");
    let trace = scene.path("trace");
    let command = scene.call("strace").args(["-e", "trace=flock,unlink,unlinkat,fcntl", "-o"]).arg(&trace);
    let command = command.args([HELPER, "clean", "--dry-run"]).out("would remove lock a\n");
    let said = command.out("would leave lock b: held by pid ").run();
    assert!(said.out.ends_with("1 to remove, 1 to leave\n"), "{}", said.out);
    assert!(scene.lock_file("a").exists());
    let trace = fs::read_to_string(trace).unwrap();
    for call in ["flock(", "unlink", "F_SETLEASE"] {
        assert!(!trace.contains(call), "{trace}");
    }
}

#[test]
fn older_than_keeps_recently_used_lock_files() {
    let scene = Scene::new();
    use_locks(&scene, &["old", "young"]);
    set_age(&scene.lock_file("old"), 8);
    set_age(&scene.lock_file("young"), 6);
    scene
        .aba(["clean", "--older-than", "7d", "--dry-run"])
        .out("would leave lock young: it was used 6d00h ago\n")
        .run();
    let said = scene.aba(["clean", "--older-than", "1w"]).out("").run();
    assert_eq!(said.out, "removed lock old\nleft lock young: it was used 6d00h ago\n1 removed, 1 left\n");
    // Acquiring the lock counts as a use.
    set_age(&scene.lock_file("young"), 8);
    use_locks(&scene, &["young"]);
    scene.aba(["clean", "--older-than", "1d"]).out("left lock young: it was used ").run();
    // A time in the future, because the clock was set back, must not keep the file until that time.
    use_locks(&scene, &["ahead"]);
    set_modified(scene.lock_file("ahead"), 100_000);
    scene.aba(["clean", "--older-than", "7d"]).out("removed lock ahead\n").run();
    for bad in ["soon", "1y", "-1d", ""] {
        let bad = format!("--older-than={bad}");
        scene.aba(["clean", &bad]).status(2).err("--older-than").run();
    }
}

#[test]
fn foreign_files_are_left_and_never_block_the_cleaning() {
    let scene = Scene::new();
    scene.make_root();
    write_file(&scene.lock_file("data"), "precious\n");
    fs::write(scene.path("target"), "precious\n").unwrap();
    symlink(scene.path("target"), scene.lock_file("link")).unwrap();
    fs::create_dir(scene.lock_file("directory")).unwrap();
    make_fifo(scene.lock_file("fifo"));
    fs::write(scene.root().join("notes.txt"), "").unwrap();
    scene
        .aba(["clean"])
        .out("left lock data: it has content that aba-lock did not write\n")
        .out("left lock link: it is a symbolic link, not a regular file\n")
        .out("left lock directory: it is a directory, not a regular file\n")
        .out("left lock fifo: it is a FIFO, not a regular file\n")
        .out("0 removed, 4 left\n")
        .run();
    assert_eq!(fs::read_to_string(scene.lock_file("data")).unwrap(), "precious\n");
    assert!(scene.path("target").exists() && scene.root().join("notes.txt").exists());
}

#[test]
fn a_lock_file_that_another_machine_may_hold_is_left() {
    let scene = Scene::new();
    use_locks(&scene, &["a"]);
    let host = scene.field("a", "host");
    scene.set_field("a", "boot", "0-0");
    scene.set_field("a", "host", "far");
    for option in ["--dry-run", "-q"] {
        let call = scene.aba(["clean", option, "a"]);
        if option == "-q" {
            call
        } else {
            call.out(" on host far (true), by ").out("; that process may still hold it\n")
        }
        .run();
        assert!(scene.lock_file("a").exists());
    }
    // A record of an earlier boot of this machine is not held.
    scene.set_field("a", "host", &host);
    scene.aba(["clean", "a"]).out("removed lock a\n").run();
}

#[test]
fn an_open_lock_file_is_left_even_if_it_is_not_locked() {
    let scene = Scene::new();
    use_locks(&scene, &["a"]);
    let gate = scene.gate("gate");
    // As a process does between opening and locking the file.
    let script = format!("exec 200<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$HELPER\" clean; read _ <{gate}");
    let script = scene.bash(&script).out("left lock a: another process has it open\n0 removed, 1 left\n").start();
    gate.open();
    script.finish();
    assert!(scene.lock_file("a").exists());
    scene.aba(["clean"]).out("removed lock a\n").run();
}

#[test]
fn the_lock_of_the_calling_script_is_left() {
    let scene = Scene::new();
    let script = r#"
        exec 200<>"$("$HELPER" path --create a)"
        "$HELPER" lock --fd 200 a || exit
        "$HELPER" clean && "$HELPER" status -q --fd 200 a
    "#;
    scene.bash(script).out("left lock a: held by pid ").out("0 removed, 1 left\n").run();
}

#[test]
fn a_removal_that_is_not_permitted_fails_and_files_of_other_users_are_left() {
    let scene = Scene::new();
    use_locks(&scene, &["mine"]);
    let root = is_root();
    if root {
        use_locks(&scene, &["theirs"]);
        std::os::unix::fs::chown(scene.lock_file("mine"), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    set_mode(scene.root(), 0o555);
    let path = scene.lock_file("mine");
    let refusal = format!("aba-lock: cannot remove lock file {}: Permission denied\n", path.display());
    let result =
        if root { "left lock theirs: it belongs to root\n0 removed, 1 left, 1 failed\n" } else { "1 failed\n" };
    scene.unprivileged().arg("clean").status(125).err(refusal).out(result).run();
    assert!(path.exists());
    set_mode(scene.root(), 0o755);
}

#[test]
fn a_file_is_left_if_its_openers_cannot_be_determined() {
    let scene = Scene::new();
    use_locks(&scene, &["a"]);
    // `clean` asks for the openers of the file by the last calls of fcntl(2) on it. The first ones depend on the C library.
    let command = scene.call("strace").arg("-P").arg(scene.lock_file("a"));
    let command = command.args(["-o", "/dev/null", "-e", "inject=fcntl:error=EINVAL:when=3+", HELPER, "clean"]);
    command.out("left lock a: cannot determine whether another process has it open: Invalid argument\n").run();
    assert!(scene.lock_file("a").exists());
}

#[test]
fn only_finished_tasks_are_cleaned_and_only_with_the_option() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(["-w", "-i", "good", "--", "true"]).run();
    scene.once(["-w", "-q", "-i", "bad", "--", "false"]).status(1).run();
    scene.once(["-w", "-q", "-i", "cut", "--", "sh", "-c", "kill -TERM $$"]).status(143).run();
    scene.once(with_command(&["-i", "runs"], &gate.task(0))).run();
    scene.aba(["clean"]).out("0 removed, 0 left\n").run();
    assert!(scene.task_file("good", "exit").exists());
    let pid = format!("left task runs: it is running, pid {}\n", scene.task_pid("runs"));
    let dry = scene.aba(["clean", "--tasks", "--dry-run"]).out("would remove task good\n").run();
    assert!(dry.out.ends_with("2 to remove, 2 to leave\n") && scene.task_file("good", "exit").exists(), "{}", dry.out);
    let said = scene.aba(["clean", "--tasks"]).out(pid).run();
    for line in [
        "removed task good\n",
        "removed task bad\n",
        "left task cut: it was interrupted, and the next start or wait runs it again\n",
        "2 removed, 2 left\n",
    ] {
        assert!(said.out.contains(line), "{}", said.out);
    }
    assert!(!scene.task_file("good", "").exists() && scene.task_file("cut", "exit").exists());
    gate.open();
    scene.once(["-w", "-q", "-i", "runs"]).run();
    set_age(&scene.task_file("runs", "exit"), 3);
    scene.aba(["clean", "--tasks", "--older-than", "4d"]).out("left task runs: it was used 3d00h ago\n").run();
    scene.aba(["clean", "--tasks", "--older-than", "2d"]).out("removed task runs\n").run();
}

/// Starts `clean` under strace, which stops it after this system call on the lock file of `a`. Returns the call and the pid.
fn start_stopped_clean(scene: &Scene, call: &str, out: &str) -> (RunningCall, u32) {
    let (note, log) = (scene.path("pid"), scene.path("log"));
    // The second name is the one in the open directory.
    let command = scene.call("strace").arg("-P").arg(scene.lock_file("a")).args(["-P", "aba-a.lock", "-o"]).arg(&log);
    let command = command.args(["-e", &format!("inject={call}"), "sh", "-c"]);
    let clean = command.arg(format!("echo $$ >'{}'; exec \"$HELPER\" clean a", note.display())).out(out).start();
    wait_until("clean is stopped", || {
        fs::read_to_string(&log).unwrap_or_default().contains("--- stopped by SIGSTOP ---")
    });
    (clean, fs::read_to_string(note).unwrap().trim().parse().unwrap())
}

#[test]
fn cleaning_a_lock_never_makes_another_caller_fail() {
    let scene = Scene::new();
    use_locks(&scene, &["a"]);
    let (clean, pid) = start_stopped_clean(&scene, "flock:signal=STOP", "removed lock a\n");
    // The contender is stopped before its third attempt to open the file, so that no time passes for it before the end of `clean`.
    let tries = scene.path("tries");
    let options = ["-e", "trace=/^(clock_)?nanosleep$", "-e", "inject=/^(clock_)?nanosleep$:signal=STOP:when=2", "-o"];
    let contender = scene.call("strace").args(options).arg(&tries);
    let mut contender = contender.args([HELPER, "lock", "-n", "a", "--", "echo", "mine"]).out("mine\n").start();
    let is_stopped = || fs::read_to_string(&tries).unwrap_or_default().contains("--- stopped by SIGSTOP ---");
    wait_until("the contender tries again", || is_stopped() || contender.has_ended());
    assert!(!contender.has_ended(), "it did not wait for clean: {:?}", contender.finish().err);
    kill(pid, 18);
    clean.finish();
    kill(child_pids(contender.pid())[0], 18);
    contender.finish();
    assert!(scene.lock_file("a").exists(), "the contender has created a new file");
}

#[test]
fn a_script_that_opens_the_file_during_cleaning_locks_the_new_file() {
    let scene = Scene::new();
    use_locks(&scene, &["a"]);
    let old = fs::metadata(scene.lock_file("a")).unwrap().ino();
    // A second name keeps the inode number of the old file from being reused.
    let kept = fs::hard_link(scene.lock_file("a"), scene.path("kept"));
    let (clean, pid) = start_stopped_clean(&scene, "flock:signal=STOP", "removed lock a\n");
    let library = LIBRARY;
    let script = "source \"$LIBRARY\"; aba_lock_operation a; stat -c %i \"$ABA_LOCK_DIR/aba-a.lock\"";
    let script = scene.bash(script).env("LIBRARY", library).env("ABA_LOCK_BIN", HELPER).out("").start();
    // The script runs bash: openat(2) is number 257 on x86-64 and 56 on aarch64.
    wait_until("the script waits to open it", || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", script.pid())).unwrap_or_default();
        call.starts_with("257 ") || call.starts_with("56 ")
    });
    kill(pid, 18);
    clean.finish();
    let new = script.finish().out;
    kept.unwrap();
    assert_ne!(new.trim(), old.to_string());
}

#[test]
fn a_file_that_replaced_the_locked_one_is_left() {
    let scene = Scene::new();
    use_locks(&scene, &["a"]);
    // The first openat(2) of the file is that of the search for its holders.
    let (clean, pid) =
        start_stopped_clean(&scene, "/^open(at)?$:signal=STOP:when=2", "left lock a: another file has replaced it\n");
    fs::rename(scene.lock_file("a"), scene.path("moved")).unwrap();
    let holder = scene.holder("a");
    kill(pid, 18);
    clean.finish();
    scene.aba(["lock", "a", "--", "true"]).status(75).err("a is already running").run();
    holder.release();
}

#[test]
fn a_clean_killed_at_any_step_leaves_a_usable_lock() {
    let scene = Scene::new();
    use_locks(&scene, &["a"]);
    let log = scene.path("log");
    let mut steps = 0;
    let (unlink, stat) = ("/^unlink(at)?$", "/^(statx|l?stat|fstat|newfstatat)$");
    for call in ["/^open(at)?$", "flock", "fcntl", unlink, stat, "pread64", "close", "write"] {
        for when in 1..=4 {
            use_locks(&scene, &["a"]);
            let mut command = scene.program("strace");
            command.arg("-P").arg(scene.lock_file("a")).args(["-P", "aba-a.lock", "-o"]).arg(&log);
            command.args(["-e", &format!("inject={call}:signal=KILL:when={when}"), HELPER, "clean", "-q"]);
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            steps += usize::from(fs::read_to_string(&log).unwrap().contains("killed by SIGKILL"));
            scene.aba(["lock", "-n", "a", "--", "true"]).run();
            assert!(!is_locked(&scene.lock_file("a")), "{call} {when}");
        }
    }
    assert!(steps >= 8, "only {steps} of the kills met it");
}

/// The critical section of each contender: only one process at a time can create the file.
const INSIDE: &str = r#"
    inside() {
        set -C
        { : >inside; } 2>/dev/null || echo "$$ met another inside" >>violations
        echo "$1" >>entries
        rm inside
    }
    export -f inside
    # A random pause, so that at times no process has the file open.
    pause() { read -r -t "0.0$((20 + RANDOM % 20))" _ <>gate || true; }
"#;

const BY_SCRIPT: &str = r#"
    source "$LIBRARY"
    until [[ -e stop ]]; do
        aba_lock_operation -qw fire
        inside script
        aba_unlock_operation fire
        pause
    done
"#;

const BY_NAME: &str = r#"
    until [[ -e stop ]]; do
        "$HELPER" lock -qw fire -- bash -c 'inside name'
        pause
    done
"#;

/// The only contender for its lock, so that no process but `clean` can be in the way.
const ALONE: &str = r#"
    source "$LIBRARY"
    until [[ -e stop ]]; do
        "$HELPER" lock -n alone -- true || echo "status $?" >>refusals
        ABA_LOCK_ON_CONFLICT=return aba_lock_operation -n alone || echo "status $? of the script" >>refusals
        aba_unlock_operation alone
        pause
    done
"#;

const CLEAN: &str = r#"
    for ((round = 0; round < 1000; round++)); do
        "$HELPER" clean >>cleaned
    done
    : >stop
"#;

#[test]
fn a_thousand_cleanings_during_contention_neither_break_the_lock_nor_fail_a_caller() {
    let scene = Scene::new();
    scene.make_root();
    let _gate = scene.gate("gate");
    let helper = std::env::var("ABA_LOCK_BIN").unwrap_or_else(|_| HELPER.to_owned());
    let library = LIBRARY;
    let start = |script: &str| {
        scene
            .call("bash")
            .arg("-c")
            .arg(format!("{INSIDE}{script}"))
            .current_dir(scene.path(""))
            .env("LIBRARY", library)
            .env("ABA_LOCK_BIN", &helper)
            .env("HELPER", &helper)
            .start()
    };
    let begin = Instant::now();
    let all: Vec<_> = [BY_SCRIPT, BY_NAME, ALONE, CLEAN].map(start).into_iter().collect();
    while !scene.path("stop").exists() {
        assert!(begin.elapsed() < 5 * PATIENCE, "the contenders take too long");
        thread::sleep(Duration::from_millis(5));
    }
    for contender in all {
        contender.finish();
    }
    let text = |name: &str| fs::read_to_string(scene.path(name)).unwrap_or_default();
    assert_eq!(text("violations"), "", "two were inside at once");
    assert_eq!(text("refusals"), "", "clean made a caller fail");
    let removed = |name: &str| text("cleaned").matches(&format!("removed lock {name}\n")).count();
    let entries = |by: &str| text("entries").lines().filter(|line| *line == by).count();
    assert!(removed("fire") > 10 && removed("alone") > 10, "hardly anything was removed");
    assert!(entries("script") > 20 && entries("name") > 20, "too few entries");
}
