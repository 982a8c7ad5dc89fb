//! Deadlocks: the process that closes a circle of waiters fails immediately, with the circle in its message.
//! `no_deadlock.rs` has the waits that must not fail.

use crate::call::{Call, RunningCall};
use crate::process::{copy_program, count_background_switches, is_locked, wait_until, waiter_pids};
use crate::scene::{Gate, HELPER, LIBRARY, Scene};
use std::fs;

/// A script that has sourced the library, and a function `say` that prints to stderr.
pub(crate) fn call_script(scene: &Scene, text: &str) -> Call {
    scene.bash(&with_library(text)).env("ABA_LOCK_BIN", HELPER)
}

pub(crate) fn with_library(text: &str) -> String {
    format!("source '{LIBRARY}'\nsay() {{ echo \"$*\" >&2; }}\n{text}")
}

/// A script that acquires lock `first`, waits at the gate, and then waits for lock `second`.
pub(crate) fn lock_two_in_turn(scene: &Scene, first: &str, gate: &Gate, second: &str) -> Call {
    let gate = gate.path.display();
    call_script(
        scene,
        &format!("aba_lock_operation {first}; say has {first}; read _ <'{gate}'; aba_lock_operation -w {second}"),
    )
}

/// The lock that a message about a deadlock names.
fn find_refused_lock(said: &str) -> Option<&str> {
    said.split_once("aba-lock: waiting for ")?.1.split_once(" would be a deadlock: ").map(|(label, _)| label)
}

/// Waits until a waiter has looked for a circle again: until its second thread has run a few times.
pub(crate) fn wait_for_look(waiter: u32) {
    let before = count_background_switches(waiter);
    wait_until("the waiter has looked", || count_background_switches(waiter) >= before + 2);
}

/// Waits until the only waiter for a lock has looked for a circle again.
pub(crate) fn wait_for_look_at(scene: &Scene, name: &str) {
    scene.wait_for_waiter(name);
    wait_for_look(waiter_pids(&scene.lock_file(name))[0]);
}

#[test]
fn the_script_that_closes_a_circle_fails_at_once_and_the_other_continues() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let one = lock_two_in_turn(&scene, "a", &first, "b").err("has a\naba-lock: waiting for b, held by pid ").start();
    let other = lock_two_in_turn(&scene, "b", &second, "a").status(1).err("").start();
    one.wait_for_error("has a");
    other.wait_for_error("has b");
    first.open();
    one.wait_for_error("waiting for b");
    scene.wait_for_waiter("b");
    second.open();
    let (mine, its) = (other.pid(), one.pid());
    let said = other.finish().err;
    // It fails without having waited.
    let (sentence, hint) = said.strip_prefix("has b\n").unwrap().split_once('\n').unwrap();
    let drawn = sentence.strip_prefix("aba-lock: waiting for a would be a deadlock: ").unwrap();
    let (first, second) = drawn.split_once(" holds a and waits for b, ").unwrap();
    assert!(first.starts_with(&format!("pid {its} (bash -c 'source ")), "{said}");
    assert!(second.starts_with(&format!("pid {mine} (bash -c 'source ")), "{said}");
    assert!(second.ends_with(") holds b and waits for a"), "{said}");
    assert!(sentence.chars().count() < 400, "long command lines are cut: {said}");
    let all = "hint: acquire these locks in the same order everywhere, or at once: `aba_lock_operation a b`\n";
    assert_eq!(hint, all);
    one.finish();
}

#[test]
fn a_circle_is_found_if_the_helper_has_a_longer_name() {
    let scene = Scene::new();
    let copy = scene.path("aba-lock-0.1.0");
    fs::hard_link(HELPER, &copy).unwrap_or_else(|_| copy_program(HELPER, &copy));
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let start = |call: Call| call.env("ABA_LOCK_BIN", &copy).start();
    let one = start(lock_two_in_turn(&scene, "a", &first, "b").err("has a\naba-lock: waiting for b, held by pid "));
    let other = start(lock_two_in_turn(&scene, "b", &second, "a").status(1).err("a would be a deadlock: "));
    one.wait_for_error("has a");
    other.wait_for_error("has b");
    first.open();
    one.wait_for_error("waiting for b, held by pid ");
    second.open();
    other.finish();
    one.finish();
}

/// Starts scripts that each hold one lock, and then ask for the lock of the next one at the same time. Returns their output.
fn run_ring(scene: &Scene, number: usize) -> Vec<String> {
    let gates: Vec<Gate> = (0..number).map(|at| scene.gate(&format!("gate{at}"))).collect();
    let each = |at: usize| {
        let (mine, next) = (format!("r{at}"), format!("r{}", (at + 1) % number));
        let text = format!(
            "aba_lock_operation {mine}; say has; read _ <'{}'; \"$HELPER\" lock -w {next} -- true; echo $?",
            gates[at].path.display()
        );
        call_script(scene, &text).out("").err("").start()
    };
    let all: Vec<RunningCall> = (0..number).map(each).collect();
    for one in &all {
        one.wait_for_error("has");
    }
    for gate in &gates {
        gate.open();
    }
    let ended = all.into_iter().map(|one| one.finish().out.trim().to_owned()).collect();
    for gate in gates {
        fs::remove_file(gate.path).unwrap();
    }
    ended
}

#[test]
fn exactly_one_of_the_processes_that_close_a_circle_together_fails() {
    let scene = Scene::new();
    for number in [2, 3, 5, 2, 3, 5] {
        let mut ended = run_ring(&scene, number);
        ended.sort();
        assert_eq!(ended.pop().unwrap(), "75", "{number}");
        assert!(ended.iter().all(|status| status == "0"), "{number}: {ended:?}");
    }
}

#[test]
fn a_circle_of_three_processes_is_reported_completely() {
    let scene = Scene::new();
    let names = ["a", "b", "c"];
    let gates = names.map(|name| scene.gate(name));
    let calls: Vec<RunningCall> = (0..3)
        .map(|at| {
            let call = lock_two_in_turn(&scene, names[at], &gates[at], names[(at + 1) % 3]).err("");
            call.status(i32::from(at == 2)).start()
        })
        .collect();
    for (at, call) in calls.iter().enumerate() {
        call.wait_for_error(&format!("has {}", names[at]));
    }
    for at in 0..2 {
        gates[at].open();
        calls[at].wait_for_error("waiting for ");
        scene.wait_for_waiter(names[at + 1]);
    }
    gates[2].open();
    let pids: Vec<u32> = calls.iter().map(RunningCall::pid).collect();
    let mut said: Vec<String> = calls.into_iter().rev().map(|call| call.finish().err).collect();
    let said = said.remove(0);
    assert_eq!(find_refused_lock(&said), Some("a"), "{said}");
    let mut rest = said.as_str();
    for (pid, does) in
        pids.iter().zip([") holds a and waits for b, ", ") holds b and waits for c, ", ") holds c and waits for a\n"])
    {
        rest = rest.split_once(&format!("pid {pid} (")).unwrap_or_else(|| panic!("{pid} in {said}")).1;
        rest = rest.split_once(does).unwrap_or_else(|| panic!("{does} in {said}")).1;
    }
}

#[test]
fn a_circle_through_nested_scripts_and_command_substitutions_is_found() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let nested = |gate: &Gate, name: &str| {
        // A background job that does not wait for a lock changes nothing.
        format!(
            "sleep 600 & job=$!; read _ <{gate}; x=$(bash -c 'set -e; (source \"{LIBRARY}\"; aba_lock_operation --subshell -w {name}) | cat; exit ${{PIPESTATUS[0]}}'); \
             status=$?; kill $job; exit $status"
        )
    };
    let one = call_script(&scene, &format!("aba_lock_operation a; say has a; {}", nested(&first, "b"))).err("").start();
    let other = call_script(&scene, &format!("aba_lock_operation b; say has b; {}", nested(&second, "a")));
    let other = other.status(1).err("aba-lock: waiting for a would be a deadlock: pid ").start();
    one.wait_for_error("has a");
    other.wait_for_error("has b");
    first.open();
    one.wait_for_error("waiting for b");
    scene.wait_for_waiter("b");
    second.open();
    let said = other.finish().err;
    assert!(!said.contains("waiting for a,"), "at once: {said}");
    one.finish();
}

#[test]
fn a_command_under_no_inherit_cannot_wait_for_the_same_lock() {
    let scene = Scene::new();
    let said = scene
        .aba(["lock", "-o", "a", "--", "sh", "-c", "\"$HELPER\" lock -w a -- true; exit $?"])
        .status(75)
        .err("aba-lock: waiting for a would be a deadlock: pid ")
        .err(") holds a and waits for it\n")
        .err(" started this command: run this without the lock, or release it there first\n")
        .run();
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
}

#[test]
fn a_circle_through_flock_is_found_also_if_flock_closes_it() {
    let scene = Scene::new();
    scene.make_root();
    let (a, b) = (scene.lock_file("a"), scene.lock_file("b"));
    for flock_last in [false, true] {
        let (first, second) = (scene.gate(&format!("first{flock_last}")), scene.gate(&format!("second{flock_last}")));
        let (its, ours) = (first.path.display(), second.path.display());
        let flock = scene.bash(&format!(
            "exec 9>>'{}'; flock 9; echo has a >&2; read _ <'{its}'; flock '{}' true",
            a.display(),
            b.display()
        ));
        let flock = flock.err("has a").start();
        let held = format!("echo has b >&2; read _ <'{ours}'; \"$HELPER\" lock -w a -- true");
        let helper = scene.aba(["lock", "b", "--", "sh", "-c", &held]).status(75).err("has b\n").start();
        flock.wait_for_error("has a");
        helper.wait_for_error("has b");
        if flock_last {
            second.open();
            helper.wait_for_error("waiting for a, held by pid ");
            scene.wait_for_waiter("a");
            first.open();
        } else {
            first.open();
            scene.wait_for_waiter("b");
            second.open();
        }
        let pids = (flock.pid(), helper.pid());
        let said = helper.finish().err;
        assert_eq!(said.contains("waiting for a, held by"), flock_last, "{said}");
        let drawn = said.rsplit_once("waiting for a would be a deadlock: ").unwrap().1;
        assert!(drawn.starts_with(&format!("pid {} (", pids.0)), "{said}");
        assert!(drawn.contains(&format!(" holds a and waits for b, pid {} (sh ", pids.1)), "{said}");
        flock.finish();
    }
}

#[test]
fn a_circle_closed_by_the_wait_of_a_shell_is_broken_by_one_process() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let text = format!(
        "aba_lock_operation a; say has a
        \"$HELPER\" lock -w b -- true & job=$!
        read _ <{gate}; wait $job; say job ended $?"
    );
    let (mine, other) = (scene.gate("mine"), scene.holder("c"));
    let one = call_script(&scene, &text.replace("lock -w b", "lock -w b c")).err("");
    let two = format!("aba_lock_operation b; say has b; read _ <{mine}; \"$HELPER\" lock -w a -- true; say ended $?");
    let two = call_script(&scene, &two).err("").start();
    two.wait_for_error("has b");
    let one = one.start();
    one.wait_for_error("waiting for b");
    mine.open();
    // No process fails yet: the first script reads, and may still release its lock.
    two.wait_for_error("waiting for a, held by pid ");
    wait_for_look_at(&scene, "a");
    gate.open();
    other.release();
    let (one, two) = (one.finish().err, two.finish().err);
    let refusals = [&one, &two].iter().filter(|said| said.contains(" would be a deadlock: ")).count();
    assert_eq!(refusals, 1, "{one}{two}");
    let statuses = (one.contains("job ended 75"), two.contains("\nended 75"));
    assert!(statuses.0 != statuses.1 && (one.contains("job ended 0") || two.contains("\nended 0")), "{one}{two}");
}

#[test]
fn waiting_for_a_task_that_waits_for_the_own_lock_is_a_deadlock() {
    let scene = Scene::new();
    let task = ["--", HELPER, "lock", "-w", "a", "--", "true"];
    // The task is started before the lock is acquired, or by the process that waits for the task.
    for started_before in [true, false] {
        let id = if started_before { "before" } else { "now" };
        let gate = scene.gate(id);
        let ask = format!("read _ <{gate}; \"$HELPER\" run-once -qw -i {id} -- \"$HELPER\" lock -w a -- true");
        let script = format!("aba_lock_operation a; say has a; {ask}; say status $?");
        let holder = call_script(&scene, &script).err("status 75\n").out("").start();
        holder.wait_for_error("has a");
        if started_before {
            scene.once(["-i", id].into_iter().chain(task)).run();
            scene.wait_for_waiter("a");
        }
        gate.open();
        let pid = holder.pid();
        let said = holder.finish();
        let said = format!("{}{}{}", said.out, said.err, scene.task_text(id, "log.err"));
        assert!(said.contains(&format!("pid {pid} (")) && said.contains(" holds a and waits for "), "{said}");
        assert!(said.contains(&format!("task {id}")), "{said}");
        scene.once(["-qw", "-i", id]).status(if scene.task_text(id, "exit") == "75\n" { 75 } else { 0 }).run();
    }
}

#[test]
fn timeouts_and_deadlocks_exit_with_the_chosen_status() {
    let scene = Scene::new();
    let holder = scene.holder("b");
    let inner = |options: &str| format!("exec 3>&-; \"$HELPER\" lock {options} a -- true");
    let keep = |options: &str| scene.aba(["lock", "-o", "a", "--", "sh", "-c", &inner(options)]);
    // In a circle, but the timeout is too short to look for it.
    keep("-q -t 0.05").status(124).run();
    keep("-q -E 9 -t 0.05").status(9).run();
    keep("-q -E 9 -t 60").status(9).run();
    keep("-q -w").status(75).run();
    keep("-t 60").status(75).err("waiting for a would be a deadlock: ").run();
    keep("-w --on-busy 'echo busy'").out("busy\n").err(" would be a deadlock: ").err("; running `echo busy`").run();
    // Not in a circle.
    scene.aba(["lock", "-E", "9", "-t", "0.2", "b", "--", "true"]).status(9).err("timed out after 0.2 s").run();
    drop(holder);
}

/// A script that holds the first lock, waits at the gate, and then waits for the second lock by flock(1), which does not look
/// for circles.
pub(crate) fn start_flock_waiter(scene: &Scene, first: &str, gate: &Gate, second: &str) -> RunningCall {
    let [mine, its] = [first, second].map(|name| scene.lock_file(name));
    let (gate, mine, its) = (gate.path.display(), mine.display(), its.display());
    let text = format!("exec 9>>'{mine}' 8>>'{its}'; flock 9; echo has it >&2; read _ <'{gate}'; flock 8; exit 0");
    let running = scene.bash(&text).err("").start();
    running.wait_for_error("has it");
    running
}

#[test]
fn a_background_waiter_notices_locks_that_its_script_takes_later() {
    let scene = Scene::new();
    let (mine, its) = (scene.gate("mine"), scene.gate("its"));
    scene.make_root();
    let other = start_flock_waiter(&scene, "b", &its, "a");
    // When the job first looks for a circle, the script holds no lock.
    let text = format!(
        "\"$HELPER\" lock -w b -- true & job=$!
        read _ <{mine}; aba_lock_operation a; say has a; wait $job; say job ended $?"
    );
    let command = scene.call("setsid").args(["--wait", "bash", "-c", &with_library(&text)]).env("ABA_LOCK_BIN", HELPER);
    let script = command.err("").start();
    script.wait_for_error("waiting for b");
    mine.open();
    script.wait_for_error("has a");
    its.open();
    scene.wait_for_waiter("a");
    let said = script.finish().err;
    assert!(said.contains("\naba-lock: waiting for b would be a deadlock: "), "{said}");
    assert!(said.contains("\njob ended 75"), "{said}");
    other.finish();
}

#[test]
fn shared_locks_are_in_a_circle_only_if_they_conflict() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // One process shares `a` and waits for `b`. The holder of `b` can share `a`, but an exclusive lock of `a` would be a
    // deadlock.
    let other = format!(
        "echo has b >&2; read _ <{gate}; \"$HELPER\" lock -ws a -- echo shared; \"$HELPER\" lock -w a -- true; echo $?"
    );
    let other = scene.aba(["lock", "b", "--", "sh", "-c", &other]).err("has b").out("shared\n75\n").start();
    other.wait_for_error("has b");
    let third = scene.holder_with(&["-s", "a"]);
    let command = scene.aba(["lock", "-s", "a", "--", "sh", "-c", "\"$HELPER\" lock -w b -- true"]);
    let one = command.err("waiting for b, ").start();
    one.wait_for_error("waiting for b");
    scene.wait_for_waiter("b");
    gate.open();
    let said = other.finish().err;
    assert_eq!(find_refused_lock(&said), Some("a"), "{said}");
    one.finish();
    third.release();
}

#[test]
fn a_pipeline_that_waits_for_itself_is_reported() {
    let scene = Scene::new();
    // The first part holds the lock and fills the pipe. The second part reads the pipe only when it holds the lock.
    let first = "\"$HELPER\" lock p -- bash -c 'echo >\"$HOME/begin\"; read _ <\"$HOME/gate\"; exec seq 100000'";
    let text = format!("{first} | {{ read _ <\"$HOME/begin\"; \"$HELPER\" lock -w p -- wc -l; echo $? >&2; }}");
    let (gate, _begin) = (scene.gate("gate"), scene.gate("begin"));
    let pipeline = scene.bash(&text).err("75\n").err("waiting for p would be a deadlock: pid ").start();
    pipeline.wait_for_error("waiting for p, held by pid ");
    scene.wait_for_waiter("p");
    gate.open();
    let said = pipeline.finish().err;
    assert!(
        said.contains(" (seq 100000) holds p and waits for pid ") && said.contains(" to read the output of pid "),
        "{said}"
    );
    assert!(
        said.contains(
            "hint: run the commands one after the other, or acquire the lock once: `aba-lock lock NAME -- sh -c "
        ),
        "{said}"
    );
    // The reverse: the second part holds the lock and reads until the first part ends.
    fs::write(scene.path("f"), "b\na\n").unwrap();
    let text = "cd; { read _ <gate; \"$HELPER\" update f -- sort; echo $? >&2; } | \"$HELPER\" write f; exit 0";
    let pipeline = scene.bash(text).err("75\n").err("waiting for f would be a deadlock: pid ").start();
    let lock = scene.path("f.lock");
    wait_until("the second holds the lock", || lock.exists() && is_locked(&lock));
    gate.open();
    let said = pipeline.finish().err;
    assert!(
        said.contains("/f.lock and waits for pid ") && said.contains(" to write or close the input of pid "),
        "{said}"
    );
    assert_eq!(fs::read_to_string(scene.path("f")).unwrap(), "b\na\n");
}

/// Counts in the file `trace` how many times the helper listed the descriptors of a process.
pub(crate) fn count_descriptor_lists(scene: &Scene, pid: &str) -> usize {
    let trace = fs::read_to_string(scene.path("trace")).unwrap();
    trace.matches(&format!("\"/proc/{pid}/fd\"")).count()
}

/// A script under strace, which writes the file `trace`.
pub(crate) fn trace_script(scene: &Scene, text: &str) -> Call {
    scene
        .call("strace")
        .args(["-qq", "-f", "-e", "trace=/^open(at)?$", "-o"])
        .arg(scene.path("trace"))
        .args(["bash", "-c", text])
}

#[test]
fn a_search_over_several_pipes_reads_the_descriptors_of_each_process_once() {
    let scene = Scene::new();
    let first = "\"$HELPER\" lock p -- bash -c 'echo >\"$HOME/begin\"; read _ <\"$HOME/gate\"; seq 1000000 | cat | cat; exit 0'";
    let text = format!(
        "sleep 600 >/dev/null 2>&1 & echo $! >\"$HOME/pid\"
        {first} | {{ read _ <\"$HOME/begin\"; \"$HELPER\" lock -qw p -- wc -l; echo $? >&2; }}; kill $!; exit 0"
    );
    let (gate, _begin) = (scene.gate("gate"), scene.gate("begin"));
    let pipeline = trace_script(&scene, &text).err("75\n").start();
    wait_until("the first part holds the lock", || scene.lock_file("p").exists());
    scene.wait_for_waiter("p");
    gate.open();
    pipeline.finish();
    // Each verdict takes two looks, by at least two parts each.
    let looks = count_descriptor_lists(&scene, fs::read_to_string(scene.path("pid")).unwrap().trim());
    assert!((4..=16).contains(&looks), "{looks}");
}

/// An init process can be in session 0, and a script that it starts is then in that session, too.
#[test]
fn a_circle_through_a_pipe_is_found_although_process_1_of_session_0_may_not_be_examined() {
    let scene = Scene::new();
    let pipeline = "\"$HELPER\" lock p -- bash -c 'echo >\"$HOME/begin\"; exec seq 100000' | \
        { read _ <\"$HOME/begin\"; \"$HELPER\" lock -w p -- wc -l; echo $? >&2; }";
    let _begin = scene.gate("begin");
    let show = "read -r _ _ _ _ _ session _ </proc/self/stat; ls /proc/1/cwd/ || echo hidden, session $session";
    // Process 1 keeps its capabilities, so this process may not examine it.
    let lesser = "setpriv --bounding-set=-all --inh-caps=-all bash -c";
    let inside = format!("{lesser} {}; : process 1 stays", shell_words::quote(&format!("{show}; {pipeline}")));
    let command = scene.in_pid_namespace().args(["--mount-proc", "--", "bash", "-c"]).arg(inside);
    let said = command.out("hidden, session 0\n").err("75\n").err("waiting for p would be a deadlock: pid ").run();
    assert!(said.err.contains(" (seq 100000) holds p and waits for pid "), "{}", said.err);
}
