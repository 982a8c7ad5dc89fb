//! Waits that look like deadlocks and are not: they must not fail.
//!
//! `deadlock.rs` has the circles that must be found, and the helpers.

use crate::call::{Call, RunningCall};
use crate::deadlock::{
    call_script, count_descriptor_lists, lock_two_in_turn, start_flock_waiter, trace_script, wait_for_look,
    wait_for_look_at, with_library,
};
use crate::process::{count_threads, is_locked, kill, wait_until, waiter_pids};
use crate::scene::{Gate, HELPER, LIBRARY, Scene};
use std::fs;
use std::process::Command;
use std::thread;

/// Two scripts that wait for each other forever by flock(1). The locks are `a` and `b`.
fn start_flock_deadlock(scene: &Scene) -> [RunningCall; 2] {
    scene.make_root();
    let gates = ["one", "other"].map(|name| scene.gate(name));
    let both = [start_flock_waiter(scene, "a", &gates[0], "b"), start_flock_waiter(scene, "b", &gates[1], "a")];
    // Both must hold their first lock. Otherwise one of them would get both locks.
    for gate in &gates {
        gate.open();
    }
    for name in ["a", "b"] {
        scene.wait_for_waiter(name);
    }
    both
}

#[test]
fn a_quiet_wait_that_cannot_become_a_deadlock_uses_one_thread() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    // The script leads its session, like those of cron, and does nothing else.
    let mut plain = scene.program("setsid");
    plain.args(["--wait", "bash", "-c", "\"$HELPER\" lock -qw a -- true; exit"]);
    let plain = Call::new(plain).start();
    scene.wait_for_waiter("a");
    let waiter = waiter_pids(&scene.lock_file("a"))[0];
    wait_until("it has one thread", || count_threads(waiter) == 1);
    // The waiter still gets the lock.
    holder.release();
    plain.finish();
}

#[test]
fn a_waiter_behind_a_deadlock_keeps_waiting() {
    let scene = Scene::new();
    let both = start_flock_deadlock(&scene);
    let waiter = scene.aba(["lock", "c", "--", "sh", "-c", "\"$HELPER\" lock -w a -- echo mine"]);
    let waiter = waiter.out("mine\n").err("waiting for a (second of two), held by pid ").start();
    waiter.wait_for_error("waiting for a");
    scene.wait_for_waiters("a", 2);
    wait_for_look(waiter_pids(&scene.lock_file("a"))[1]);
    // Ends the deadlock from outside by killing one of the two waiters.
    kill(waiter_pids(&scene.lock_file("b"))[0], 9);
    for one in both {
        one.finish();
    }
    waiter.finish();
}

#[test]
fn a_waiter_behind_a_long_chain_keeps_waiting() {
    let scene = Scene::new();
    let holder = scene.holder("l0");
    let mut chain = Vec::new();
    for at in 1..=12 {
        let (mine, before) = (format!("l{at}"), format!("l{}", at - 1));
        let inner = format!("\"$HELPER\" lock -w {before} -- true");
        let one = scene.aba(["lock", &mine, "--", "sh", "-c", &inner]).err(format!("waiting for {before}, ")).start();
        one.wait_for_error("waiting for");
        scene.wait_for_waiter(&before);
        chain.push(one);
    }
    wait_for_look(waiter_pids(&scene.lock_file("l0"))[0]);
    holder.release();
    for one in chain {
        one.finish();
    }
}

/// Runs a holder of `a` that does some work, while a background job of it waits for `b`. After that it releases `a`. This is no
/// circle with a holder of `b` that waits for `a`.
fn check_working_holder(work: &str) {
    let scene = Scene::new();
    let (gate, work_gate) = (scene.gate("gate"), scene.gate("work"));
    let other = start_waiter_for_a(&scene, &gate);
    let text = format!(
        "export WORK={work_gate}; aba_lock_operation a; (aba_lock_operation --subshell -w b; say had it) & job=$!
        say begins; {work}; aba_unlock_operation a; wait $job"
    );
    let command = scene.call("bash").args(["-c", &with_library(&text)]).env("ABA_LOCK_BIN", HELPER);
    let one = command.current_dir(scene.path("")).err("had it\n").start();
    one.wait_for_error("waiting for b");
    scene.wait_for_waiter("b");
    let_wait_for_a(&scene, &gate, &other);
    fs::write(scene.path("stop"), "").unwrap();
    work_gate.open();
    other.finish();
    one.finish();
}

#[test]
fn a_holder_that_works_while_its_job_waits_is_not_in_a_circle() {
    // It runs a program, reads what another process writes, does so with a timeout (for which bash polls), and reads the output
    // of a working child.
    let works = [
        "head -n1 <\"$WORK\" >output",
        "read -r _ <\"$WORK\"",
        "read -r -t 60 _ <\"$WORK\"",
        "x=$(head -n1 <\"$WORK\")",
    ];
    thread::scope(|scope| {
        for work in works {
            scope.spawn(|| check_working_holder(work));
        }
    });
}

#[test]
fn a_holder_that_runs_short_commands_is_not_in_a_circle() {
    let scene = Scene::new();
    let text = "aba_lock_operation a; (aba_lock_operation -q --subshell -w b) & job=$!
        while [[ ! -e $HOME/stop ]]; do \"$TRUE\"; done; aba_unlock_operation a; wait $job";
    let other = scene.bash("exec 9>>\"$ABA_LOCK_DIR/aba-b.lock\"; flock 9; echo has b >&2; read _ <\"$HOME/gate\"; for try in {1..25}; do \"$HELPER\" lock -q -t 0.15 a -- true; echo $?; done");
    let gate = scene.gate("gate");
    scene.make_root();
    let other = other.err("has b").out("").start();
    other.wait_for_error("has b");
    let one = call_script(&scene, text).env("TRUE", "/bin/true").start();
    scene.wait_for_waiter("b");
    gate.open();
    let said = other.finish().out;
    fs::write(scene.path("stop"), "").unwrap();
    one.finish();
    assert_eq!(said, "124\n".repeat(25), "it was taken to wait for its job");
}

#[test]
fn an_interactive_shell_at_its_prompt_is_not_in_a_circle() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let other = start_waiter_for_a(&scene, &gate);
    // Types a line on a terminal, and each further line as soon as a file exists.
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
    let begin = format!("source '{LIBRARY}'; aba_lock_operation a; \"$HELPER\" lock -w b -- true 2>~/job &");
    let go_on = scene.path("go-on");
    let command = scene.call("python3");
    let command = command.args(["-c", typing, &begin, go_on.to_str().unwrap(), "aba_unlock_operation a; wait; exit 0"]);
    let shell = command.env("ABA_LOCK_BIN", HELPER).env("TERM", "xterm").start();
    let job = scene.path("job");
    wait_until("the job waits", || fs::read_to_string(&job).is_ok_and(|said| said.contains("waiting for b")));
    scene.wait_for_waiter("b");
    let_wait_for_a(&scene, &gate, &other);
    fs::write(&go_on, "").unwrap();
    other.finish();
    shell.finish();
}

#[test]
fn a_circle_that_is_broken_in_time_is_not_reported() {
    let scene = Scene::new();
    scene.make_root();
    let gate = scene.gate("gate");
    let holder = format!(
        "exec 9>>\"$ABA_LOCK_DIR/aba-a.lock\" 8>>\"$ABA_LOCK_DIR/aba-b.lock\"; flock 9; echo has a >&2
        read _ <{gate}; flock 8; echo went on >&2; read _ <{gate}"
    );
    let holder = scene.bash(&holder).err("went on").start();
    holder.wait_for_error("has a");
    let waiter = scene.aba(["lock", "b", "--", "sh", "-c", "\"$HELPER\" lock -w a -- echo mine"]);
    let waiter = waiter.out("mine\n").err("waiting for a, held by pid ").start();
    waiter.wait_for_error("waiting for a");
    scene.wait_for_waiter("a");
    let helper = waiter_pids(&scene.lock_file("a"))[0];
    // While the waiter is stopped, the circle is closed and broken again.
    kill(helper, 19);
    gate.open();
    scene.wait_for_waiter("b");
    let flock = waiter_pids(&scene.lock_file("b"))[0];
    kill(flock, 9);
    holder.wait_for_error("went on");
    kill(helper, 18);
    wait_for_look(helper);
    gate.open();
    holder.finish();
    waiter.finish();
}

#[test]
fn a_wait_for_one_job_does_not_depend_on_the_other_job() {
    let scene = Scene::new();
    let (gate, c) = (scene.gate("gate"), scene.holder("c"));
    let other = lock_two_in_turn(&scene, "b", &gate, "a").err("waiting for a, held by pid ").start();
    other.wait_for_error("has b");
    let jobs = "aba_lock_operation a; aba_lock_detach \"$HELPER\" lock -qw b -- true & \
                aba_lock_detach \"$HELPER\" lock -qw c -- true & job=$!; wait $job";
    let one = call_script(&scene, jobs).start();
    scene.wait_for_waiter("b");
    scene.wait_for_waiter("c");
    gate.open();
    scene.wait_for_waiter("a");
    other.wait_for_error("waiting for a, held by pid ");
    c.release();
    one.finish();
    other.finish();
}

#[test]
fn a_program_does_not_depend_on_a_helper_that_it_does_not_wait_for() {
    let scene = Scene::new();
    let (gate, end) = (scene.gate("gate"), scene.gate("end"));
    let other = lock_two_in_turn(&scene, "b", &gate, "a").err("waiting for a, held by pid ").start();
    other.wait_for_error("has b");
    let program = "import os, subprocess, sys\n\
        a, b = (os.open(path, os.O_RDWR | os.O_CREAT) for path in sys.argv[1:3])\n\
        helper = os.environ['HELPER']\n\
        subprocess.check_call([helper, 'lock', '--fd', str(a), 'a'], pass_fds=(a,))\n\
        job = subprocess.Popen([helper, 'lock', '-qw', '--fd', str(b), 'b'], pass_fds=(b,))\n\
        open(sys.argv[3]).readline()\n\
        subprocess.check_call([helper, 'unlock', '--fd', str(a), 'a'], pass_fds=(a,))\n\
        job.wait()\n";
    let command = scene.call("python3").args(["-c", program]).arg(scene.lock_file("a")).arg(scene.lock_file("b"));
    let one = command.arg(&end.path).start();
    scene.wait_for_waiter("b");
    gate.open();
    scene.wait_for_waiter("a");
    other.wait_for_error("waiting for a, held by pid ");
    end.open();
    other.finish();
    one.finish();
}

/// A Python program that holds lock `a`, runs `setup`, and waits for lock `b`. Its function `release` releases `a`.
fn start_python_waiter(scene: &Scene, setup: &str) -> RunningCall {
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
    let command = scene.call("python3").args(["-c", &program]).arg(scene.lock_file("a")).arg(scene.lock_file("b"));
    let running = command.err("has a").start();
    running.wait_for_error("has a");
    running
}

/// A helper that holds `b`, waits at the gate, then waits for `a` and gets it, although the holder of `a` waits for `b`.
fn start_waiter_for_a(scene: &Scene, gate: &Gate) -> RunningCall {
    let text = format!("echo has b >&2; read _ <{gate}; \"$HELPER\" lock -w a -- echo mine");
    let other =
        scene.aba(["lock", "b", "--", "bash", "-c", &text]).out("mine\n").err("waiting for a, held by pid ").start();
    other.wait_for_error("has b");
    other
}

/// Opens the gate of a helper, and waits until it has looked for a circle with the holder of `a`.
fn let_wait_for_a(scene: &Scene, gate: &Gate, other: &RunningCall) {
    gate.open();
    other.wait_for_error("waiting for a, held by pid ");
    wait_for_look_at(scene, "a");
}

#[test]
fn a_program_whose_second_thread_or_signal_handler_may_release_is_not_in_a_circle() {
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
        let other = start_waiter_for_a(&scene, &gate);
        let program = start_python_waiter(&scene, setup);
        scene.wait_for_waiter("b");
        let_wait_for_a(&scene, &gate, &other);
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
fn a_waiting_shell_with_a_trap_is_not_in_a_circle() {
    for (signal, number) in [("TERM", 15), ("USR1", 10)] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let other = start_waiter_for_a(&scene, &gate);
        let text = format!(
            "aba_lock_operation a; say has a; trap 'aba_unlock_operation a' {signal}
            aba_lock_detach \"$HELPER\" lock -qw b -- true & job=$!
            while ! wait $job; do :; done"
        );
        let one = call_script(&scene, &text).err("has a").start();
        one.wait_for_error("has a");
        scene.wait_for_waiter("b");
        let_wait_for_a(&scene, &gate, &other);
        kill(one.pid(), number);
        other.finish();
        one.finish();
    }
}

#[test]
fn a_waiter_in_a_pipeline_reads_no_descriptors_while_no_process_waits_for_it() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    // Many waiters look at the same time, in a session in which most processes have a pipe open.
    let text = "\"$HELPER\" lock -qw a -- true | sh -c 'echo $$ >\"$HOME/pid\"; exec sleep 1000'";
    let pipeline = trace_script(&scene, text).status(137).err("").start();
    let pid = || fs::read_to_string(scene.path("pid")).unwrap_or_default().trim().to_owned();
    let trace = || fs::read_to_string(scene.path("trace")).unwrap_or_default();
    wait_until("it is looked at", || !pid().is_empty() && trace().contains(&format!("\"/proc/{}/wchan\"", pid())));
    holder.release();
    wait_until("the waiter has ended", || !is_locked(&scene.lock_file("a")));
    assert_eq!(count_descriptor_lists(&scene, &pid()), 0);
    kill(pid().parse().unwrap(), 9);
    pipeline.finish();
}

#[test]
fn a_pipeline_with_another_reader_is_not_refused() {
    let scene = Scene::new();
    let (gate, _begin, end) = (scene.gate("gate"), scene.gate("begin"), scene.gate("end"));
    // A background process has the pipe open, too, and reads it later.
    let first = "\"$HELPER\" lock p -- bash -c 'echo >\"$HOME/begin\"; read _ <\"$HOME/gate\"; exec seq 100000'";
    let job = "{ read _ <\"$HOME/end\"; exec cat >/dev/null; } <&0 &";
    let text = format!("{first} | {{ {job} read _ <\"$HOME/begin\"; \"$HELPER\" lock -w p -- echo mine; wait; }}");
    let pipeline = scene.bash(&text).err("").out("mine\n").start();
    pipeline.wait_for_error("waiting for p, held by pid ");
    scene.wait_for_waiter("p");
    gate.open();
    let waiter = waiter_pids(&scene.lock_file("p"))[0];
    wait_for_look(waiter);
    end.open();
    pipeline.finish();
}

#[test]
fn a_process_that_inherited_an_unrecorded_lock_is_not_its_owner() {
    let scene = Scene::new();
    scene.make_root();
    let (gate, file) = (scene.gate("gate"), scene.lock_file("a"));
    // The file must exist before the test looks for waiters.
    fs::write(&file, "").unwrap();
    // The subshell inherited the lock and waits for the helper. The script can release the lock for both.
    let text = format!(
        "exec 9>>'{}'; flock 9; (\"$HELPER\" lock -qw a -- true 9>&-; echo ended $?) & read _ <{gate}; flock -u 9; wait",
        file.display()
    );
    let script = scene.bash(&text).out("ended 0\n").start();
    scene.wait_for_waiter("a");
    wait_for_look(waiter_pids(&file)[0]);
    gate.open();
    script.finish();
}

#[test]
fn a_lock_whose_holder_waits_for_another_task_is_awaited_inside_of_a_task() {
    let scene = Scene::new();
    // The file must exist before the test looks for waiters.
    scene.make_root();
    fs::write(scene.lock_file("a"), "").unwrap();
    let gate = scene.gate("gate");
    let holder =
        format!("\"$HELPER\" lock a -- \"$HELPER\" run-once -qw -i two -- {}", shell_words::join(gate.task(0)));
    let reads_output = "until [[ $(ls -l /proc/$!/fd) == *two/log.out* ]]; do sleep 0.01; done";
    let script = format!("{holder} & {reads_output}; \"$HELPER\" lock -qw a -- echo mine; exit");
    let task = scene.once(["-qw", "-i", "one", "--", "bash", "-c", &script]).out("begun\nmine\n").start();
    scene.wait_for_waiter("a");
    wait_for_look_at(&scene, "a");
    gate.open();
    task.finish();
}

#[test]
fn a_circle_that_is_found_after_the_deadline_is_a_timeout() {
    let scene = Scene::new();
    // The first thread notices the deadline after the second one has found the circle, as on a busy machine.
    let delay = ["-D", "-qq", "-f", "-o", "/dev/null", "-e", "inject=flock:delay_exit=1000000:when=2", HELPER];
    let holder = scene.aba(["lock", "--no-inherit", "a", "--", "strace"]).args(delay);
    holder
        .args(["lock", "-t", "0.05", "a", "--", "true"])
        .status(124)
        .err("timed out after 0.05 s waiting for a")
        .run();
}
