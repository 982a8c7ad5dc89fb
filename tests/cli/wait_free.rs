//! `wait`: waits until a lock is free, without acquiring it. The steps are a model in `tests/models/wait_free.rs`.

use crate::process::{interrupt_group, is_root, is_watching, kill, set_mode, wait_until};
use crate::scene::{Gate, HELPER, HOLD, Scene};
use std::fs;

#[test]
fn a_lock_that_no_process_holds_ends_the_wait_at_once_and_no_file_is_created() {
    let scene = Scene::new();
    scene.aba(["wait", "a", "b"]).run();
    scene.aba(["wait", "--any", "b", "a"]).out("b\n").run();
    scene.aba(["wait", "--file"]).arg(scene.path("none")).run();
    assert!(!scene.root().exists() && !scene.path("none").exists());
    scene.aba(["lock", "a", "--", "true"]).run();
    scene.aba(["wait", "a"]).run();
}

#[test]
fn a_wait_ends_with_the_holder_and_is_in_the_event_log() {
    let scene = Scene::new();
    let log = scene.path("log");
    let holder = scene.holder("a");
    let said = format!("aba-lock: waiting for a, held by pid {} (", holder.pid());
    let waiter = scene.aba(["wait", "a"]).env("ABA_LOCK_LOG", &log).err(&said).start();
    waiter.wait_for_error(&said);
    holder.release();
    assert_eq!(waiter.finish().err.lines().count(), 1);
    let text = fs::read_to_string(&log).unwrap();
    let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["contended", "free"]);
    assert!(events[0]["waits"] == true && events[1]["waited_seconds"].as_f64() > Some(0.0), "{text}");
}

#[test]
fn a_wait_locks_nothing_and_opens_no_lock_file_for_writing() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let log = scene.path("trace");
    let file = scene.lock_file("a");
    let waiter = scene.call("strace").args(["-qq", "-e", "trace=flock,fcntl,open,openat", "-o"]).arg(&log);
    let waiter = waiter.args([HELPER, "wait", "a"]).err("waiting for a").start();
    waiter.wait_for_error("waiting for a");
    holder.release();
    waiter.finish();
    let trace = fs::read_to_string(&log).unwrap();
    assert!(!trace.contains("flock(") && !trace.contains("SETLK"), "{trace}");
    let opens: Vec<&str> = trace.lines().filter(|line| line.contains(file.to_str().unwrap())).collect();
    assert!(opens.iter().all(|line| !line.contains("O_RDWR") && !line.contains("O_CREAT")), "{trace}");
}

#[test]
fn a_release_without_a_close_ends_the_wait() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // The script keeps the descriptor open, so the kernel sends no event.
    let script = format!("exec 9>f; flock 9; echo held; read _ <{gate}; flock -u 9; read _");
    let holder = scene.bash_here(&script).hold();
    let waiter = scene.bash_here("\"$HELPER\" wait --file f").err("waiting for f, held by ").start();
    waiter.wait_for_error("waiting for f");
    gate.open();
    waiter.finish();
    holder.release();
}

#[test]
fn a_wait_ends_when_the_holder_is_killed() {
    let scene = Scene::new();
    let mut holder = scene.aba(["lock", "-o", "a", "--", "sh", "-c", "echo held; exec sleep 100"]).hold();
    let waiter = scene.aba(["wait", "a"]).err("waiting for a").start();
    waiter.wait_for_error("waiting for a");
    kill(holder.pid(), libc::SIGKILL);
    waiter.finish();
    holder.wait();
}

#[test]
fn a_wait_that_times_out_exits_with_124_and_names_the_holder() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let text = |limit: &str| {
        format!(
            "aba-lock: timed out after {limit} s waiting for a, held by pid {} (sh -c '{}'), by ",
            holder.pid(),
            HOLD
        )
    };
    let hint = "\nhint: show its holder with `aba-lock status a`\n";
    scene.aba(["wait", "-t", "0", "a"]).status(124).err(text("0")).err(hint).run();
    scene.aba(["wait", "a", "--timeout", "0.2"]).status(124).err(text("0.2")).err(hint).run();
    scene.aba(["wait", "a", "b"]).env("ABA_LOCK_TIMEOUT", "0.01").status(124).err(text("0.01")).run();
    scene.aba(["wait", "-q", "-t", "0.2", "a"]).status(124).run();
    holder.release();
}

#[test]
fn a_wait_for_any_lock_prints_the_one_that_is_free_first() {
    let scene = Scene::new();
    let (first, second) = (scene.holder("a"), scene.holder("b"));
    let any = scene.aba(["wait", "--any", "a", "b"]).out("b\n").err("waiting for b").start();
    let all = scene.aba(["wait", "a", "b"]).err("waiting for a").err("waiting for b").start();
    any.wait_for_error("waiting for b");
    all.wait_for_error("waiting for b");
    second.release();
    any.finish();
    first.release();
    all.finish();
    // The path is printed as the user typed it, also if it is no text.
    let script = "\"$HELPER\" wait --any --file $'x\\xff' | od -An -tx1";
    scene.bash_here(script).out(" 78 ff 0a\n").run();
}

#[test]
fn a_shared_holder_does_not_delay_a_wait_for_a_shared_lock() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["-s", "a"]);
    scene.aba(["wait", "-s", "a"]).run();
    scene.aba(["wait", "-q", "-t", "0", "a"]).status(124).run();
    let other = scene.holder("b");
    scene.aba(["wait", "-q", "-t", "0", "-s", "b"]).status(124).run();
    holder.release();
    other.release();
}

#[test]
fn a_lock_file_that_is_removed_or_replaced_is_free() {
    let scene = Scene::new();
    for change in ["rm aba-a.lock", "touch new; mv new aba-a.lock"] {
        let holder = scene.holder("a");
        let waiter = scene.aba(["wait", "a"]).err("waiting for a").start();
        waiter.wait_for_error("waiting for a");
        scene.bash(change).current_dir(scene.root()).run();
        waiter.finish();
        holder.release();
    }
}

#[test]
fn the_holder_of_a_file_that_replaces_the_first_one_counts() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let waiter = scene.aba(["wait", "a"]).err("waiting for a").start();
    waiter.wait_for_error("waiting for a");
    let new = scene.path("new");
    fs::write(&new, "").unwrap();
    let next = scene.flock_holder(&new);
    fs::rename(&new, scene.lock_file("a")).unwrap();
    holder.release();
    scene.aba(["wait", "-q", "-t", "0.2", "a"]).status(124).run();
    next.release();
    waiter.finish();
}

#[test]
fn a_wait_that_its_own_lock_would_never_end_is_refused() {
    let scene = Scene::new();
    let refused = "aba-lock: waiting for a would be a deadlock: pid ";
    let wait = ["--", HELPER, "wait", "a"];
    scene.aba(["lock", "a"]).args(wait).status(75).err(refused).run();
    scene.aba(["lock", "-o", "a"]).args(wait).status(75).err(refused).run();
    scene.bash_here("exec 9>f; flock 9; \"$HELPER\" wait --file f; exit $?").status(75).err("waiting for f").run();
    // A slot is free, but the wait is for the end of all holders.
    scene.aba(["lock", "--slots", "2", "a"]).args(wait).status(75).err(refused).run();
    scene.aba(["lock", "--slots", "2", "a", "--", HELPER, "wait", "--shared", "a"]).run();
    let log = scene.path("log");
    let script = "aba_lock_operation a; \"$HELPER\" wait a; exit $?";
    scene.bash_with_library(script).env("ABA_LOCK_LOG", &log).status(75).err(refused).run();
    assert!(fs::read_to_string(&log).unwrap().contains("\"event\":\"deadlock\""));
    // One of the locks can become free, so this is no deadlock.
    let script = "aba_lock_operation a; \"$HELPER\" wait --any a b; exit $?";
    scene.bash_with_library(script).out("b\n").run();
}

#[test]
fn a_lock_that_a_script_will_release_is_waited_for() {
    let scene = Scene::new();
    let script = "aba_lock_operation a
        \"$HELPER\" wait a 2>said & waiter=$!
        until grep -qs 'waiting for a' said; do sleep 0.05; done
        aba_unlock_operation
        wait \"$waiter\"";
    scene.bash_with_library(script).current_dir(scene.path("")).run();
}

#[test]
fn two_processes_that_wait_for_each_others_locks_do_not_wait_forever() {
    let scene = Scene::new();
    for other_waits in ["wait", "lock -w"] {
        let (first, second) = (scene.gate("first"), scene.gate("second"));
        let script = |name: &str, gate: &Gate, call: &str| {
            let rest = if call.starts_with("lock") { "-- true" } else { "" };
            format!("aba_lock_operation {name}; echo held >&2; read _ <{gate}; \"$HELPER\" {call} {rest}; echo $?")
        };
        let one = scene.bash_with_library(&script("a", &first, "wait b")).out("").err("held").start();
        let two =
            scene.bash_with_library(&script("b", &second, &format!("{other_waits} a"))).out("").err("held").start();
        one.wait_for_error("held");
        two.wait_for_error("held");
        first.open();
        one.wait_for_error("waiting for b");
        second.open();
        let (one, two) = (one.finish(), two.finish());
        let mut statuses = [one.out, two.out];
        statuses.sort();
        assert_eq!(statuses, ["0\n", "75\n"], "{} {}", one.err, two.err);
        assert!(format!("{}{}", one.err, two.err).contains(" would be a deadlock: "), "{} {}", one.err, two.err);
        fs::remove_file(&first.path).unwrap();
        fs::remove_file(&second.path).unwrap();
    }
}

#[test]
fn ctrl_c_ends_a_wait() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let waiter = scene.aba(["wait", "a"]).own_group().status(130).err("waiting for a").start();
    waiter.wait_for_error("waiting for a");
    interrupt_group(waiter.pid());
    waiter.finish();
    holder.release();
}

#[test]
fn a_wait_on_a_terminal_shows_one_line_and_clears_it() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo held; read _ <{gate}");
    let holder = scene.aba(["lock", "a", "--", "bash", "-c", &script]).hold();
    let rules = format!("for a, held by={}", scene.path("seen").display());
    let waiter = scene.on_terminal(&rules).args([HELPER, "wait", "a"]).out("aba-lock: waiting ").start();
    wait_until("the wait is shown", || scene.path("seen").exists());
    gate.open();
    let said = waiter.finish().out;
    assert!(said.ends_with("\r\x1b[K"), "{said:?}");
    holder.release();
}

#[test]
fn a_file_that_the_user_may_not_read_can_be_waited_for() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    let file = scene.path("f");
    fs::write(&file, "").unwrap();
    set_mode(&file, 0o600);
    let holder = scene.flock_holder(&file);
    let mut waiter = scene.unprivileged().args(["wait", "--file"]).arg(&file).err("waiting for ").start();
    waiter.wait_for_error("waiting for ");
    assert!(is_watching(waiter.pid()) && !waiter.has_ended());
    holder.release();
    waiter.finish();
    // The state root of another user cannot be examined.
    scene.aba(["lock", "a", "--", "true"]).run();
    set_mode(scene.root(), 0o700);
    scene.unprivileged().args(["wait", "a"]).status(125).err("cannot examine lock file ").run();
}

#[test]
fn a_lock_of_fcntl_on_a_file_of_the_user_counts() {
    let scene = Scene::new();
    let lock = "import fcntl; f = open('f', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); input()";
    let holder = scene.call("python3").args(["-c", lock]).current_dir(scene.path("")).hold();
    let said = "f, locked by fcntl(2): pid ";
    scene.bash_here("\"$HELPER\" wait -t 0 --file f").status(124).err(said).run();
    let waiter = scene.bash_here("\"$HELPER\" wait --file f").err(said).start();
    waiter.wait_for_error(said);
    holder.release();
    waiter.finish();
}

#[test]
fn a_wait_for_something_that_cannot_be_locked_fails() {
    let scene = Scene::new();
    scene.aba(["wait", "--file", "/dev/null"]).status(125).err("it is a device, not a regular file").run();
    scene.aba(["wait", "a/b"]).status(2).err("invalid lock name").run();
    scene.aba(["wait"]).status(2).err("missing argument: NAME...").run();
}
