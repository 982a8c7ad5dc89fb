//! `unlock --kill` while other processes wait for the lock: they are not ended, and the next holder is named.

use crate::call::{CallOutput, Holder, RunningCall};
use crate::kill::{WAIT, start_holder};
use crate::process::{child_pids, kill, wait_until};
use crate::scene::{HELPER, Scene};
use std::fs;

/// Starts `unlock --kill` with these words under strace, which stops it after it has signalled the only holder.
pub(crate) fn start_stopped_unlock(scene: &Scene, words: &[&str]) -> RunningCall {
    let trace = scene.path("signals");
    let _ = fs::remove_file(&trace);
    // The first call checks that the process may be signalled, the second one sends SIGTERM, and the third one SIGCONT.
    let options = ["-e", "trace=pidfd_send_signal", "-e", "inject=pidfd_send_signal:signal=STOP:when=3", "-o"];
    let call = scene.call("strace").args(options).arg(&trace).args([HELPER, "unlock", "--kill"]).args(words);
    let mut call = call.current_dir(scene.path("")).err("").start();
    let is_stopped = || fs::read_to_string(&trace).unwrap_or_default().contains("--- stopped by SIGSTOP ---");
    wait_until("the call has signalled the holder", || is_stopped() || call.has_ended());
    call
}

/// Continues a call that strace has stopped, if it has not ended.
pub(crate) fn let_go_on(call: &RunningCall) {
    if let [helper] = child_pids(call.pid())[..] {
        kill(helper, libc::SIGCONT);
    }
}

/// Ends `holder` with `unlock --kill`, which is stopped until the waiter holds the lock.
fn unlock_for_waiter(scene: &Scene, holder: &Holder, waiter: &RunningCall) -> CallOutput {
    scene.wait_for_waiter("a");
    let unlock = start_stopped_unlock(scene, &["a"]);
    wait_until("the waiter holds the lock", || scene.record("a").contains(&format!("\npid={}\n", waiter.pid())));
    let_go_on(&unlock);
    let said = unlock.finish();
    assert!(said.err.contains(&format!("ended pid {} (", holder.pid())), "{}", said.err);
    said
}

#[test]
fn a_waiter_gets_the_lock_and_is_not_killed() {
    let scene = Scene::new();
    let mut first = start_holder(&scene, WAIT);
    let gate = scene.gate("gate");
    let by_name = format!("read _ <{gate}; echo done");
    let waiter = scene.aba(["lock", "-qw", "a", "--", "sh", "-c", &by_name]).out("done\n").start();
    let said = unlock_for_waiter(&scene, &first, &waiter);
    let next = format!("aba-lock: a is released; now held by pid {} (", waiter.pid());
    assert!(said.err.contains(&next) && said.err.lines().count() == 2, "{}", said.err);
    first.wait();
    gate.open();
    waiter.finish();
}

#[test]
fn a_script_that_waits_with_a_descriptor_is_not_killed() {
    let scene = Scene::new();
    let script =
        |rest: &str| format!("exec 200<>\"$(\"$HELPER\" path --create a)\"; \"$HELPER\" lock -qw --fd 200 a; {rest}");
    let mut first = scene.call("bash").arg("-c").arg(script(WAIT)).hold();
    let gate = scene.gate("gate");
    let waiter = scene.bash(&script(&format!("read _ <{gate}; echo done"))).out("done\n").start();
    let said = unlock_for_waiter(&scene, &first, &waiter);
    assert!(said.err.contains(&format!("a is released; now held by pid {} (", waiter.pid())), "{}", said.err);
    first.wait();
    gate.open();
    waiter.finish();
}

#[test]
fn a_waiter_that_arrives_during_the_kill_is_not_killed() {
    let scene = Scene::new();
    let (asked, gate, inside) = (scene.path("asked"), scene.gate("gate"), scene.gate("inside"));
    let script =
        format!("trap '>{}; read _ <{}; exit 3' TERM; echo ready; read _", asked.display(), gate.path.display());
    let mut first = start_holder(&scene, &script);
    let call = scene.aba(["unlock", "a", "--kill", "--grace", "1000"]).err("ended pid ").start();
    wait_until("the holder is asked", || asked.exists());
    let wait = format!("read _ <{inside}; echo done");
    let waiter = scene.aba(["lock", "-qw", "a", "--", "sh", "-c", &wait]).out("done\n").start();
    scene.wait_for_waiter("a");
    gate.open();
    assert_eq!(first.wait(), 3);
    call.finish();
    inside.open();
    waiter.finish();
}
