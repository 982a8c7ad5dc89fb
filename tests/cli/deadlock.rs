//! Circles of those who wait for each other: who closes one is told so at once, and who is not in one is left alone.

use crate::scene::{Call, Gate, HELPER, Running, Scene, is_locked, kill, queue, threads, until};
use std::fs;
use std::process::Command;
use std::thread;

const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shell/aba-lock.bash");

/// A script that has read the library, and says on stderr what it does.
fn script(scene: &Scene, text: &str) -> Call {
    scene.bash(&with_library(text)).env("ABA_LOCK_BIN", HELPER)
}

fn with_library(text: &str) -> String {
    format!("source '{LIBRARY}'\nsay() {{ echo \"$*\" >&2; }}\n{text}")
}

/// A script that takes lock `first`, waits at the gate, and then waits for lock `second`.
fn one_after_the_other(scene: &Scene, first: &str, gate: &Gate, second: &str) -> Call {
    let gate = gate.path.display();
    script(
        scene,
        &format!("aba_lock_operation {first}; say has {first}; read _ <'{gate}'; aba_lock_operation -w {second}"),
    )
}

/// Of which lock a sentence says that waiting for it would be a deadlock.
fn refused(said: &str) -> Option<&str> {
    said.split_once("aba-lock: waiting for ")?.1.split_once(" would be a deadlock: ").map(|(label, _)| label)
}

/// Waits until a process that waits for a lock has looked for a circle again: until its second thread was woken some times.
fn until_looked(waiter: u32) {
    let slept = || -> u64 {
        let threads = fs::read_dir(format!("/proc/{waiter}/task")).unwrap().flatten();
        let others = threads.filter(|thread| thread.file_name().to_str() != Some(&waiter.to_string()));
        let count = |text: String| {
            let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).map(str::to_owned);
            line.and_then(|number| number.trim().parse::<u64>().ok())
        };
        others.filter_map(|thread| count(fs::read_to_string(thread.path().join("status")).ok()?)).sum()
    };
    let before = slept();
    until("the waiter has looked", || slept() >= before + 2);
}

#[test]
fn of_two_scripts_the_one_that_closes_the_circle_fails_at_once_and_the_other_goes_on() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let one = one_after_the_other(&scene, "a", &first, "b").err("has a\naba-lock: waiting for b, held by pid ").start();
    let other = one_after_the_other(&scene, "b", &second, "a").status(1).err("").start();
    one.until_said("has a");
    other.until_said("has b");
    first.open();
    one.until_said("waiting for b");
    scene.until_waited_for("b");
    second.open();
    let (mine, its) = (other.pid(), one.pid());
    let said = other.finish().err;
    // It did not begin to wait.
    let (sentence, hint) = said.strip_prefix("has b\n").unwrap().split_once('\n').unwrap();
    let drawn = sentence.strip_prefix("aba-lock: waiting for a would be a deadlock: ").unwrap();
    let (first, second) = drawn.split_once(" has a and waits for b, ").unwrap();
    assert!(first.starts_with(&format!("pid {its} (bash -c 'source ")), "{said}");
    assert!(second.starts_with(&format!("pid {mine} (bash -c 'source ")), "{said}");
    assert!(second.ends_with(") has b and waits for a"), "{said}");
    assert!(sentence.chars().count() < 400, "long command lines are cut: {said}");
    let all = "hint: have all take them in the same order, or together: `aba-lock lock NAME NAME -- CMD`\n";
    assert_eq!(hint, all);
    one.finish();
}

/// A ring of those who each hold one lock and then ask for the next one's, all at once: how each of them ended.
fn ring(scene: &Scene, number: usize) -> Vec<String> {
    let gates: Vec<Gate> = (0..number).map(|at| scene.gate(&format!("gate{at}"))).collect();
    let each = |at: usize| {
        let (mine, next) = (format!("r{at}"), format!("r{}", (at + 1) % number));
        let text = format!(
            "aba_lock_operation {mine}; say has; read _ <'{}'; \"$HELPER\" lock -w {next} -- true; echo $?",
            gates[at].path.display()
        );
        script(scene, &text).out("").err("").start()
    };
    let all: Vec<Running> = (0..number).map(each).collect();
    for one in &all {
        one.until_said("has");
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
fn of_those_who_close_a_circle_together_exactly_one_fails() {
    let scene = Scene::new();
    for number in [2, 3, 5, 2, 3, 5] {
        let mut ended = ring(&scene, number);
        ended.sort();
        assert_eq!(ended.pop().unwrap(), "75", "{number}");
        assert!(ended.iter().all(|status| status == "0"), "{number}: {ended:?}");
    }
}

#[test]
fn a_circle_of_three_is_drawn_as_a_whole() {
    let scene = Scene::new();
    let names = ["a", "b", "c"];
    let gates = names.map(|name| scene.gate(name));
    let calls: Vec<Running> = (0..3)
        .map(|at| {
            let call = one_after_the_other(&scene, names[at], &gates[at], names[(at + 1) % 3]).err("");
            call.status(i32::from(at == 2)).start()
        })
        .collect();
    for (at, call) in calls.iter().enumerate() {
        call.until_said(&format!("has {}", names[at]));
    }
    for at in 0..2 {
        gates[at].open();
        calls[at].until_said("waiting for ");
        scene.until_waited_for(names[at + 1]);
    }
    gates[2].open();
    let pids: Vec<u32> = calls.iter().map(Running::pid).collect();
    let mut said: Vec<String> = calls.into_iter().rev().map(|call| call.finish().err).collect();
    let said = said.remove(0);
    assert_eq!(refused(&said), Some("a"), "{said}");
    let mut rest = said.as_str();
    for (pid, does) in
        pids.iter().zip([") has a and waits for b, ", ") has b and waits for c, ", ") has c and waits for a\n"])
    {
        rest = rest.split_once(&format!("pid {pid} (")).unwrap_or_else(|| panic!("{pid} in {said}")).1;
        rest = rest.split_once(does).unwrap_or_else(|| panic!("{does} in {said}")).1;
    }
}

#[test]
fn a_circle_through_nested_scripts_and_command_substitutions_is_one() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let nested = |gate: &Gate, name: &str| {
        // A background job that only works changes nothing.
        format!(
            "sleep 600 & job=$!; read _ <'{}'; x=$(bash -c 'set -e; (source \"{LIBRARY}\"; aba_lock_operation --subshell -w {name}) | cat; exit ${{PIPESTATUS[0]}}'); \
             status=$?; kill $job; exit $status",
            gate.path.display()
        )
    };
    let one = script(&scene, &format!("aba_lock_operation a; say has a; {}", nested(&first, "b"))).err("").start();
    let other = script(&scene, &format!("aba_lock_operation b; say has b; {}", nested(&second, "a")));
    let other = other.status(1).err("aba-lock: waiting for a would be a deadlock: pid ").start();
    one.until_said("has a");
    other.until_said("has b");
    first.open();
    one.until_said("waiting for b");
    scene.until_waited_for("b");
    second.open();
    let said = other.finish().err;
    assert!(!said.contains("waiting for a,"), "at once: {said}");
    one.finish();
}

#[test]
fn what_a_lock_was_kept_from_cannot_wait_for_it() {
    let scene = Scene::new();
    let said = scene
        .aba(["lock", "-o", "a", "--", "sh", "-c", "\"$HELPER\" lock -w a -- true; exit $?"])
        .status(75)
        .err("aba-lock: waiting for a would be a deadlock: pid ")
        .err(") has a and waits for it\n")
        .err("hint: it is held by what asks for it, in a way that cannot be seen from inside: release it first\n")
        .run();
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
}

#[test]
fn a_plain_flock_may_be_in_the_circle_and_may_close_it() {
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
        flock.until_said("has a");
        helper.until_said("has b");
        if flock_last {
            second.open();
            helper.until_said("waiting for a, held by pid ");
            scene.until_waited_for("a");
            first.open();
        } else {
            first.open();
            scene.until_waited_for("b");
            second.open();
        }
        let pids = (flock.pid(), helper.pid());
        let said = helper.finish().err;
        assert_eq!(said.contains("waiting for a, held by"), flock_last, "{said}");
        let drawn = said.rsplit_once("waiting for a would be a deadlock: ").unwrap().1;
        assert!(drawn.starts_with(&format!("pid {} (", pids.0)), "{said}");
        assert!(drawn.contains(&format!(" has a and waits for b, pid {} (sh ", pids.1)), "{said}");
        flock.finish();
    }
}

#[test]
fn a_circle_that_the_wait_of_a_shell_closes_is_broken_by_one() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let text = format!(
        "aba_lock_operation a; say has a
        \"$HELPER\" lock -w b -- true & job=$!
        read _ <'{}'; wait $job; say job ended $?",
        gate.path.display()
    );
    let (mine, other) = (scene.gate("mine"), scene.holder("c"));
    let one = script(&scene, &text.replace("lock -w b", "lock -w b c")).err("");
    let two = format!(
        "aba_lock_operation b; say has b; read _ <'{}'; \"$HELPER\" lock -w a -- true; say ended $?",
        mine.path.display()
    );
    let two = script(&scene, &two).err("").start();
    two.until_said("has b");
    let one = one.start();
    one.until_said("waiting for b");
    mine.open();
    // Nobody is refused: the first script reads, and may let go.
    two.until_said("waiting for a, held by pid ");
    scene.until_waited_for("a");
    until_looked(queue(&scene.lock_file("a"))[0]);
    gate.open();
    other.let_go();
    let (one, two) = (one.finish().err, two.finish().err);
    let refusals = [&one, &two].iter().filter(|said| said.contains(" would be a deadlock: ")).count();
    assert_eq!(refusals, 1, "{one}{two}");
    let statuses = (one.contains("job ended 75"), two.contains("\nended 75"));
    assert!(statuses.0 != statuses.1 && (one.contains("job ended 0") || two.contains("\nended 0")), "{one}{two}");
}

#[test]
fn waiting_for_a_task_that_waits_for_our_lock_is_a_circle() {
    let scene = Scene::new();
    let task = ["--", HELPER, "lock", "-w", "a", "--", "true"];
    // Started by another before we took the lock; else by the one who waits for it.
    for started_before in [true, false] {
        let id = if started_before { "before" } else { "now" };
        let gate = scene.gate(id);
        let ask = format!(
            "read _ <'{}'; \"$HELPER\" run-once -qw -i {id} -- \"$HELPER\" lock -w a -- true",
            gate.path.display()
        );
        let script = format!("aba_lock_operation a; say has a; {ask}; say status $?");
        let holder = self::script(&scene, &script).err("status 75\n").out("").start();
        holder.until_said("has a");
        if started_before {
            scene.once(["-i", id].into_iter().chain(task)).run();
            scene.until_waited_for("a");
        }
        gate.open();
        let pid = holder.pid();
        let said = holder.finish();
        let said = format!("{}{}{}", said.out, said.err, scene.task_text(id, "log.err"));
        assert!(said.contains(&format!("pid {pid} (")) && said.contains(" has a and waits for "), "{said}");
        assert!(said.contains(&format!("task {id}")), "{said}");
        scene.once(["-qw", "-i", id]).status(if scene.task_text(id, "exit") == "75\n" { 75 } else { 0 }).run();
    }
}

#[test]
fn a_timeout_is_a_timeout_and_both_have_the_status_that_was_asked_for() {
    let scene = Scene::new();
    let holder = scene.holder("b");
    let inner = |options: &str| format!("exec 3>&-; \"$HELPER\" lock {options} a -- true");
    let keep = |options: &str| scene.aba(["lock", "-o", "a", "--", "sh", "-c", &inner(options)]);
    // In a circle, but with so little time that nobody looks.
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

/// One that has the first lock, and when the gate is open waits for the second by flock(1). One process, so that there is one
/// to end.
fn one_who_never_looks(scene: &Scene, first: &str, gate: &Gate, second: &str) -> Running {
    let [mine, its] = [first, second].map(|name| scene.lock_file(name));
    let (gate, mine, its) = (gate.path.display(), mine.display(), its.display());
    let text = format!("exec 9>>'{mine}' 8>>'{its}'; flock 9; echo has it >&2; read _ <'{gate}'; flock 8; exit 0");
    let running = scene.bash(&text).err("").start();
    running.until_said("has it");
    running
}

/// Two that wait for each other for ever, and never look: flock(1). The locks are `a` and `b`.
fn two_who_never_look(scene: &Scene) -> [Running; 2] {
    scene.make_root();
    let gates = ["one", "other"].map(|name| scene.gate(name));
    let both = [one_who_never_looks(scene, "a", &gates[0], "b"), one_who_never_looks(scene, "b", &gates[1], "a")];
    // Not before: who goes on while the other has none yet would get both.
    for gate in &gates {
        gate.open();
    }
    for name in ["a", "b"] {
        scene.until_waited_for(name);
    }
    both
}

#[test]
fn a_wait_beside_which_nothing_can_change_is_left_to_one_thread() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    // The script began its session, as those of cron do, and has nothing else to do.
    let mut plain = scene.program("setsid");
    plain.args(["--wait", "bash", "-c", "\"$HELPER\" lock -w a -- true; exit"]);
    let plain = Call::new(plain).err("").start();
    plain.until_said("waiting for a");
    let waiter = queue(&scene.lock_file("a"))[0];
    until("it has one thread", || threads(waiter) == 1);
    // It waits as well as before.
    holder.let_go();
    plain.finish();
}

#[test]
fn who_waits_beside_a_script_that_goes_on_sees_what_that_takes_later() {
    let scene = Scene::new();
    let (mine, its) = (scene.gate("mine"), scene.gate("its"));
    scene.make_root();
    let other = one_who_never_looks(&scene, "b", &its, "a");
    // When the job looks for the first time, the script has nothing.
    let text = format!(
        "\"$HELPER\" lock -w b -- true & job=$!
        read _ <'{}'; aba_lock_operation a; say has a; wait $job; say job ended $?",
        mine.path.display()
    );
    let mut command = scene.program("setsid");
    command.args(["--wait", "bash", "-c", &with_library(&text)]);
    let script = Call::new(command).env("ABA_LOCK_BIN", HELPER).err("").start();
    script.until_said("waiting for b");
    mine.open();
    script.until_said("has a");
    its.open();
    scene.until_waited_for("a");
    let said = script.finish().err;
    assert!(said.contains("\naba-lock: waiting for b would be a deadlock: "), "{said}");
    assert!(said.contains("\njob ended 75"), "{said}");
    other.finish();
}

#[test]
fn who_merely_waits_behind_a_deadlock_is_not_refused() {
    let scene = Scene::new();
    let both = two_who_never_look(&scene);
    let waiter = scene.aba(["lock", "c", "--", "sh", "-c", "\"$HELPER\" lock -w a -- echo mine"]);
    let waiter = waiter.out("mine\n").err("waiting for a (second of two), held by pid ").start();
    waiter.until_said("waiting for a");
    scene.until_waiters("a", 2);
    until_looked(queue(&scene.lock_file("a"))[1]);
    // Ended from outside: one of the two processes that wait.
    kill(queue(&scene.lock_file("b"))[0], 9);
    for one in both {
        one.finish();
    }
    waiter.finish();
}

#[test]
fn who_waits_behind_a_long_chain_is_not_refused() {
    let scene = Scene::new();
    let holder = scene.holder("l0");
    let mut chain = Vec::new();
    for at in 1..=12 {
        let (mine, before) = (format!("l{at}"), format!("l{}", at - 1));
        let inner = format!("\"$HELPER\" lock -w {before} -- true");
        let one = scene.aba(["lock", &mine, "--", "sh", "-c", &inner]).err(format!("waiting for {before}, ")).start();
        one.until_said("waiting for");
        scene.until_waited_for(&before);
        chain.push(one);
    }
    until_looked(queue(&scene.lock_file("l0"))[0]);
    holder.let_go();
    for one in chain {
        one.finish();
    }
}

/// A holder of `a` with a job in the background that waits for `b`, and what it does meanwhile; then it lets `a` go. It is
/// no circle that somebody who has `b` waits for `a`.
fn holds_and_does(meanwhile: &str) {
    let scene = Scene::new();
    let (gate, work) = (scene.gate("gate"), scene.gate("work"));
    let other = format!("echo has b >&2; read _ <'{}'; \"$HELPER\" lock -w a -- true", gate.path.display());
    let other = scene.aba(["lock", "b", "--", "sh", "-c", &other]).err("waiting for a, held by pid ").start();
    other.until_said("has b");
    let text = format!(
        "export WORK='{}'; aba_lock_operation a; (aba_lock_operation --subshell -w b; say had it) & job=$!
        say begins; {meanwhile}; aba_unlock_operation a; wait $job",
        work.path.display()
    );
    let mut command = scene.program("bash");
    command.args(["-c", &format!("source '{LIBRARY}'\nsay() {{ echo \"$*\" >&2; }}\n{text}")]);
    command.env("ABA_LOCK_BIN", HELPER).current_dir(scene.path(""));
    let one = Call::new(command).err("had it\n").start();
    one.until_said("waiting for b");
    scene.until_waited_for("b");
    gate.open();
    other.until_said("waiting for a, held by pid ");
    scene.until_waited_for("a");
    until_looked(queue(&scene.lock_file("a"))[0]);
    fs::write(scene.path("stop"), "").unwrap();
    work.open();
    other.finish();
    one.finish();
}

#[test]
fn a_holder_that_works_while_its_job_waits_may_still_let_go() {
    // In a program; itself, reading what a third one writes; the same with a timeout, for which bash polls; reading what a
    // child prints that works.
    let works = [
        "head -n1 <\"$WORK\" >output",
        "read -r _ <\"$WORK\"",
        "read -r -t 60 _ <\"$WORK\"",
        "x=$(head -n1 <\"$WORK\")",
    ];
    thread::scope(|scope| {
        for work in works {
            scope.spawn(|| holds_and_does(work));
        }
    });
}

#[test]
fn a_holder_that_runs_one_short_command_after_the_other_may_still_let_go() {
    let scene = Scene::new();
    let text = "aba_lock_operation a; (aba_lock_operation -q --subshell -w b) & job=$!
        while [[ ! -e $HOME/stop ]]; do \"$TRUE\"; done; aba_unlock_operation a; wait $job";
    let other = scene.bash("exec 9>>\"$ABA_LOCK_DIR/aba-b.lock\"; flock 9; echo has b >&2; read _ <\"$HOME/gate\"; for try in {1..25}; do \"$HELPER\" lock -q -t 0.15 a -- true; echo $?; done");
    let gate = scene.gate("gate");
    scene.make_root();
    let other = other.err("has b").out("").start();
    other.until_said("has b");
    let one = script(&scene, text).env("TRUE", "/bin/true").start();
    scene.until_waited_for("b");
    gate.open();
    let said = other.finish().out;
    fs::write(scene.path("stop"), "").unwrap();
    one.finish();
    assert_eq!(said, "124\n".repeat(25), "it was taken to wait for its job");
}

#[test]
fn an_interactive_shell_at_its_prompt_may_still_let_go() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let other = format!("echo has b >&2; read _ <'{}'; \"$HELPER\" lock -w a -- true", gate.path.display());
    let other = scene.aba(["lock", "b", "--", "sh", "-c", &other]).err("waiting for a, held by pid ").start();
    other.until_said("has b");
    // Types, on a terminal, what stands in the file, and each time that another file appears some more.
    let typing = r#"
import os, pty, select, sys, time
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
lines, end = sys.argv[1:], time.time() + 60
os.write(terminal, lines.pop(0).encode() + b"\n")
while time.time() < end:
    if lines and os.path.exists(lines[0]):
        lines.pop(0)
        os.write(terminal, lines.pop(0).encode() + b"\n")
    if select.select([terminal], [], [], 0.02)[0]:
        try:
            if not os.read(terminal, 4096):
                break
        except OSError:
            break
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;
    let mut command = scene.program("python3");
    let begin = format!("source '{LIBRARY}'; aba_lock_operation a; \"$HELPER\" lock -w b -- true 2>~/job &");
    let go_on = scene.path("go-on");
    command.args(["-c", typing, &begin, go_on.to_str().unwrap(), "aba_unlock_operation a; wait; exit 0"]);
    let shell = Call::new(command).env("ABA_LOCK_BIN", HELPER).env("TERM", "xterm").start();
    let job = scene.path("job");
    until("the job waits", || fs::read_to_string(&job).is_ok_and(|said| said.contains("waiting for b")));
    scene.until_waited_for("b");
    gate.open();
    other.until_said("waiting for a, held by pid ");
    scene.until_waited_for("a");
    until_looked(queue(&scene.lock_file("a"))[0]);
    fs::write(&go_on, "").unwrap();
    other.finish();
    shell.finish();
}

#[test]
fn shared_locks_make_a_circle_only_where_there_is_one() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // One shares `a` and waits for `b`; who has `b` may share `a`, too, but not have it alone.
    let other = format!(
        "echo has b >&2; read _ <'{}'; \"$HELPER\" lock -ws a -- echo shared; \"$HELPER\" lock -w a -- true; echo $?",
        gate.path.display()
    );
    let other = scene.aba(["lock", "b", "--", "sh", "-c", &other]).err("has b").out("shared\n75\n").start();
    other.until_said("has b");
    let third = scene.holder_with(&["-s", "a"]);
    let one = scene
        .aba(["lock", "-s", "a", "--", "sh", "-c", "\"$HELPER\" lock -w b -- true"])
        .err("waiting for b, ")
        .start();
    one.until_said("waiting for b");
    scene.until_waited_for("b");
    gate.open();
    let said = other.finish().err;
    assert_eq!(refused(&said), Some("a"), "{said}");
    one.finish();
    third.let_go();
}

#[test]
fn a_circle_that_is_broken_in_time_ends_no_wait() {
    let scene = Scene::new();
    scene.make_root();
    let gate = scene.gate("gate");
    let holder = format!(
        "exec 9>>\"$ABA_LOCK_DIR/aba-a.lock\" 8>>\"$ABA_LOCK_DIR/aba-b.lock\"; flock 9; echo has a >&2
        read _ <'{0}'; flock 8; echo went on >&2; read _ <'{0}'",
        gate.path.display()
    );
    let holder = scene.bash(&holder).err("went on").start();
    holder.until_said("has a");
    let waiter = scene.aba(["lock", "b", "--", "sh", "-c", "\"$HELPER\" lock -w a -- echo mine"]);
    let waiter = waiter.out("mine\n").err("waiting for a, held by pid ").start();
    waiter.until_said("waiting for a");
    scene.until_waited_for("a");
    let helper = queue(&scene.lock_file("a"))[0];
    // While it cannot look, the circle is closed, and broken again.
    kill(helper, 19);
    gate.open();
    scene.until_waited_for("b");
    let flock = queue(&scene.lock_file("b"))[0];
    kill(flock, 9);
    holder.until_said("went on");
    kill(helper, 18);
    until_looked(helper);
    gate.open();
    holder.finish();
    waiter.finish();
}

#[test]
fn who_waits_for_one_of_two_jobs_is_not_held_up_by_the_other() {
    let scene = Scene::new();
    let (gate, c) = (scene.gate("gate"), scene.holder("c"));
    let other = one_after_the_other(&scene, "b", &gate, "a").err("waiting for a, held by pid ").start();
    other.until_said("has b");
    let jobs = "aba_lock_operation a; aba_lock_detach \"$HELPER\" lock -qw b -- true & \
                aba_lock_detach \"$HELPER\" lock -qw c -- true & job=$!; wait $job";
    let one = script(&scene, jobs).start();
    scene.until_waited_for("b");
    scene.until_waited_for("c");
    gate.open();
    scene.until_waited_for("a");
    other.until_said("waiting for a, held by pid ");
    c.let_go();
    one.finish();
    other.finish();
}

#[test]
fn a_program_that_does_not_wait_for_the_helper_it_started_is_not_held_up_by_it() {
    let scene = Scene::new();
    let (gate, end) = (scene.gate("gate"), scene.gate("end"));
    let other = one_after_the_other(&scene, "b", &gate, "a").err("waiting for a, held by pid ").start();
    other.until_said("has b");
    let program = "import os, subprocess, sys\n\
        a, b = (os.open(path, os.O_RDWR | os.O_CREAT) for path in sys.argv[1:3])\n\
        helper = os.environ['HELPER']\n\
        subprocess.check_call([helper, 'lock', '--fd', str(a), 'a'], pass_fds=(a,))\n\
        job = subprocess.Popen([helper, 'lock', '-qw', '--fd', str(b), 'b'], pass_fds=(b,))\n\
        open(sys.argv[3]).readline()\n\
        subprocess.check_call([helper, 'unlock', '--fd', str(a), 'a'], pass_fds=(a,))\n\
        job.wait()\n";
    let mut command = scene.program("python3");
    command.args(["-c", program]).arg(scene.lock_file("a")).arg(scene.lock_file("b")).arg(&end.path);
    let one = Call::new(command).start();
    scene.until_waited_for("b");
    gate.open();
    scene.until_waited_for("a");
    other.until_said("waiting for a, held by pid ");
    end.open();
    other.finish();
    one.finish();
}

/// A Python program that takes the lock of file `a` and waits for that of file `b`, after it ran `setup`. `release` is defined,
/// and releases `a`. It ends with 0 in the end.
fn python_between(scene: &Scene, setup: &str) -> Running {
    let program = format!(
        "import fcntl, os, signal, subprocess, sys, threading
a, b = (os.open(path, os.O_RDWR | os.O_CREAT) for path in sys.argv[1:3])
def release(*_):
    fcntl.flock(a, fcntl.LOCK_UN)
fcntl.flock(a, fcntl.LOCK_EX)
{setup}
print('has a', file=sys.stderr, flush=True)
fcntl.flock(b, fcntl.LOCK_EX)
os.close(b)
release()
"
    );
    let mut command = scene.program("python3");
    command.args(["-c", &program]).arg(scene.lock_file("a")).arg(scene.lock_file("b"));
    let running = Call::new(command).err("has a").start();
    running.until_said("has a");
    running
}

/// A helper that holds `b`, and when the gate is open waits for `a` and gets it, although the holder of `a` waits for `b`.
fn gets_a(scene: &Scene, gate: &Gate) -> Running {
    let text = format!("echo has b >&2; read _ <'{}'; \"$HELPER\" lock -w a -- echo mine", gate.path.display());
    let other =
        scene.aba(["lock", "b", "--", "bash", "-c", &text]).out("mine\n").err("waiting for a, held by pid ").start();
    other.until_said("has b");
    other
}

#[test]
fn a_program_with_a_second_thread_or_a_handler_that_may_release_is_in_no_circle() {
    let thread = "def later():
    open(sys.argv[1] + '.gate').readline()
    release()
threading.Thread(target=later, daemon=True).start()";
    let setups = [
        (thread, false),
        ("signal.signal(signal.SIGALRM, release)", true),
        ("signal.signal(signal.SIGUSR1, release)", false),
        ("signal.signal(signal.SIGRTMIN, release)", false),
    ];
    for (setup, alarm) in setups {
        let scene = Scene::new();
        scene.make_root();
        let gate = scene.gate("gate");
        let release = Command::new("mkfifo").arg(scene.root().join("aba-a.lock.gate")).status();
        assert!(release.unwrap().success());
        let other = gets_a(&scene, &gate);
        let program = python_between(&scene, setup);
        scene.until_waited_for("b");
        gate.open();
        other.until_said("waiting for a, held by pid ");
        scene.until_waited_for("a");
        until_looked(queue(&scene.lock_file("a"))[0]);
        match setup {
            _ if setup == thread => fs::write(scene.root().join("aba-a.lock.gate"), "\n").unwrap(),
            _ if alarm => kill(program.pid(), 14),
            _ if setup.contains("USR1") => kill(program.pid(), 10),
            _ => kill(program.pid(), 34),
        }
        other.finish();
        program.finish();
    }
}

#[test]
fn a_shell_in_wait_with_a_trap_may_still_release() {
    for (signal, number) in [("TERM", 15), ("USR1", 10)] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let other = gets_a(&scene, &gate);
        let text = format!(
            "aba_lock_operation a; say has a; trap 'aba_unlock_operation a' {signal}
            aba_lock_detach \"$HELPER\" lock -qw b -- true & job=$!
            while ! wait $job; do :; done"
        );
        let one = script(&scene, &text).err("has a").start();
        one.until_said("has a");
        scene.until_waited_for("b");
        gate.open();
        other.until_said("waiting for a, held by pid ");
        scene.until_waited_for("a");
        until_looked(queue(&scene.lock_file("a"))[0]);
        kill(one.pid(), number);
        other.finish();
        one.finish();
    }
}

#[test]
fn a_pipeline_that_waits_for_itself_is_reported() {
    let scene = Scene::new();
    // The first part holds the lock, and fills the pipe, which the second reads when it holds the lock.
    let first = "\"$HELPER\" lock p -- bash -c 'echo >\"$HOME/begin\"; read _ <\"$HOME/gate\"; exec seq 100000'";
    let text = format!("{first} | {{ read _ <\"$HOME/begin\"; \"$HELPER\" lock -w p -- wc -l; echo $? >&2; }}");
    let (gate, _begin) = (scene.gate("gate"), scene.gate("begin"));
    let pipeline = scene.bash(&text).err("75\n").err("waiting for p would be a deadlock: pid ").start();
    pipeline.until_said("waiting for p, held by pid ");
    scene.until_waited_for("p");
    gate.open();
    let said = pipeline.finish().err;
    assert!(
        said.contains(" (seq 100000) has p and waits for pid ") && said.contains(" to read the output of pid "),
        "{said}"
    );
    assert!(
        said.contains(
            "hint: run one part after the other, or take the lock once for all: `aba-lock lock NAME -- sh -c "
        ),
        "{said}"
    );
    // The other way round: the second part holds the lock, and reads until the first ends.
    fs::write(scene.path("f"), "b\na\n").unwrap();
    let text = "cd; { read _ <gate; \"$HELPER\" update f -- sort; echo $? >&2; } | \"$HELPER\" write f; exit 0";
    let pipeline = scene.bash(text).err("75\n").err("waiting for f would be a deadlock: pid ").start();
    let lock = scene.path("f.lock");
    until("the second holds the lock", || lock.exists() && is_locked(&lock));
    gate.open();
    let said = pipeline.finish().err;
    assert!(
        said.contains("/f.lock and waits for pid ") && said.contains(" to write or close the input of pid "),
        "{said}"
    );
    assert_eq!(fs::read_to_string(scene.path("f")).unwrap(), "b\na\n");
}

/// Counts how often the helper listed the descriptors of a process, in what strace wrote to `trace`.
fn looks_at(scene: &Scene, pid: &str) -> usize {
    let trace = fs::read_to_string(scene.path("trace")).unwrap();
    trace.matches(&format!("\"/proc/{pid}/fd\"")).count()
}

/// A script under strace, so that [`looks_at`] can be asked.
fn traced(scene: &Scene, text: &str) -> Call {
    let mut command = scene.program("strace");
    command
        .args(["-qq", "-f", "--seccomp-bpf", "-e", "trace=openat", "-o"])
        .arg(scene.path("trace"))
        .args(["bash", "-c", text]);
    Call::new(command)
}

#[test]
fn a_waiter_in_a_pipeline_looks_at_the_descriptors_of_no_process_while_none_waits_for_it() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    // Many waiters do this at the same time, in a session in which most processes have a pipe open.
    let text = "\"$HELPER\" lock -q -t 3 a -- true | sh -c 'echo $$ >\"$HOME/pid\"; exec sleep 4'";
    traced(&scene, text).run();
    let pid = fs::read_to_string(scene.path("pid")).unwrap();
    assert_eq!(looks_at(&scene, pid.trim()), 0);
    let trace = fs::read_to_string(scene.path("trace")).unwrap();
    assert!(trace.contains(&format!("\"/proc/{}/wchan\"", pid.trim())), "it was looked at");
    holder.let_go();
}

#[test]
fn a_look_for_a_circle_over_several_pipes_lists_the_descriptors_of_each_process_once() {
    let scene = Scene::new();
    let first = "\"$HELPER\" lock p -- bash -c 'echo >\"$HOME/begin\"; read _ <\"$HOME/gate\"; seq 1000000 | cat | cat; exit 0'";
    let text = format!(
        "sleep 600 >/dev/null 2>&1 & echo $! >\"$HOME/pid\"
        {first} | {{ read _ <\"$HOME/begin\"; \"$HELPER\" lock -qw p -- wc -l; echo $? >&2; }}; kill $!; exit 0"
    );
    let (gate, _begin) = (scene.gate("gate"), scene.gate("begin"));
    let pipeline = traced(&scene, &text).err("75\n").start();
    until("the first part holds the lock", || scene.lock_file("p").exists());
    scene.until_waited_for("p");
    gate.open();
    pipeline.finish();
    // Each verdict takes two looks of at least two parts each.
    let looks = looks_at(&scene, fs::read_to_string(scene.path("pid")).unwrap().trim());
    assert!((4..=16).contains(&looks), "{looks}");
}

#[test]
fn a_pipeline_of_which_another_part_still_reads_is_not_refused() {
    let scene = Scene::new();
    let (gate, _begin, end) = (scene.gate("gate"), scene.gate("begin"), scene.gate("end"));
    // A process in the background has the pipe open as well, and reads it in the end.
    let first = "\"$HELPER\" lock p -- bash -c 'echo >\"$HOME/begin\"; read _ <\"$HOME/gate\"; exec seq 100000'";
    let job = "{ read _ <\"$HOME/end\"; exec cat >/dev/null; } <&0 &";
    let text = format!("{first} | {{ {job} read _ <\"$HOME/begin\"; \"$HELPER\" lock -w p -- echo mine; wait; }}");
    let pipeline = scene.bash(&text).err("").out("mine\n").start();
    pipeline.until_said("waiting for p, held by pid ");
    scene.until_waited_for("p");
    gate.open();
    let waiter = queue(&scene.lock_file("p"))[0];
    until_looked(waiter);
    end.open();
    pipeline.finish();
}

#[test]
fn in_a_pid_namespace_of_its_own_scripts_are_seen_waiting_and_in_a_circle() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    let text = |has: &str, wants: &str, gate: &Gate| {
        let gate = gate.path.display();
        format!(
            "source '{LIBRARY}'; aba_lock_operation {has}; read _ <'{gate}'; aba_lock_operation -w {wants}; echo got {wants}"
        )
    };
    let both = "until \"$HELPER\" status -q a && \"$HELPER\" status -q b; do :; done";
    let look = "until \"$HELPER\" status b | grep -q '1. waits: pid '; do :; done";
    let inside = format!(
        "bash -c {} & one=$!; bash -c {} & {both}; echo >{}; {look}; echo >{}; wait $!; echo the second ended $?; wait $one",
        shell_words::quote(&text("a", "b", &first)),
        shell_words::quote(&text("b", "a", &second)),
        shell_words::quote(&first.path.to_string_lossy()),
        shell_words::quote(&second.path.to_string_lossy()),
    );
    let mut command = scene.program("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "bash", "-c"]);
    command.arg(inside).env("ABA_LOCK_BIN", HELPER);
    // Which of the two speaks first is open.
    let said = Call::new(command).out("the second ended 1\n").out("got b\n").err(" would be a deadlock: pid ").run();
    assert_eq!(said.out.lines().count(), 2, "{}", said.out);
}

#[test]
fn a_lock_without_a_record_is_not_in_the_hands_of_a_process_that_inherited_it() {
    let scene = Scene::new();
    scene.make_root();
    let (gate, file) = (scene.gate("gate"), scene.lock_file("a"));
    // It must exist before this test looks for waiters.
    fs::write(&file, "").unwrap();
    // The subshell inherited the lock, and waits for the helper. The script can release it for both.
    let text = format!(
        "exec 9>>'{}'; flock 9; (\"$HELPER\" lock -qw a -- true 9>&-; echo ended $?) & read _ <'{}'; flock -u 9; wait",
        file.display(),
        gate.path.display()
    );
    let script = scene.bash(&text).out("ended 0\n").start();
    scene.until_waited_for("a");
    until_looked(queue(&file)[0]);
    gate.open();
    script.finish();
}
