//! A holder that does not go on by itself is called that, with the next step; and `status` shows the processes below a holder.

use crate::call::Holder;
use crate::process::{child_pids, kill, wait_for_program, wait_until};
use crate::scene::{HELPER, Scene};
use crate::time_limit::AFTER_REPORT;
use std::fs;

const SIGSTOP: i32 = 19;
const SIGCONT: i32 = 18;

/// Waits until a process is in the state with this letter (`proc_pid_stat(5)`).
fn wait_for_state(pid: u32, letter: &str) {
    wait_until(letter, || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|fields| fields.starts_with(letter))
    });
}

/// Starts Python as the holder of lock `a`. It prints a line, and then runs `program`.
fn start_python(scene: &Scene, program: &str) -> Holder {
    let program = format!("import ctypes, os, sys, threading, time\nlibc = ctypes.CDLL(None)\n{program}");
    scene.aba(["lock", "a", "--", "python3", "-c", &program]).hold()
}

#[test]
fn a_stopped_holder_is_called_stopped_with_the_command_that_continues_it() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let pid = holder.pid();
    let hint = format!("continue it with `kill -CONT {pid}`\n");
    holder.signal(SIGSTOP);
    wait_for_state(pid, "T");
    let said =
        scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("a is already running: pid {pid} (")).run();
    assert!(said.err.contains(&format!("s, stopped\nhint: {hint}")), "{}", said.err);
    let late = scene.aba(["lock", "-t", AFTER_REPORT.1, "a", "--", "true"]).status(124);
    let said = late.err("waiting for a, held by pid ").run();
    assert_eq!(said.err.matches(&format!(", stopped\nhint: {hint}")).count(), 2, "{}", said.err);
    let said = scene.aba(["status", "a"]).out(format!("  hint: {hint}")).run();
    assert!(said.out.contains(", sh -c 'echo held; read _; exit 0', stopped\n"), "{}", said.out);
    let json = scene.aba(["status", "--json", "a"]).json();
    assert_eq!(json["holders"][0]["state"], "stopped");
    assert_eq!(json["remedy"], hint.trim_end());
    scene.aba(["status", "-q", "a"]).run();

    holder.signal(SIGCONT);
    wait_for_state(pid, "S");
    let said = scene.aba(["lock", "a", "--", "true"]).status(75).err("hint: wait for it with `--wait`").run();
    assert!(!said.err.contains("stopped"), "{}", said.err);
    assert_eq!(scene.aba(["status", "--json", "a"]).json()["holders"][0]["state"], "sleeping");
    holder.release();
}

#[test]
fn a_holder_that_was_stopped_on_the_same_terminal_can_be_continued_with_fg() {
    let scene = Scene::new();
    let script = "set -m
        \"$1\" lock a -- sh -c 'kill -STOP $$' &
        until [[ $(</proc/$!/stat) == *') T '* ]]; do sleep 0.02; done
        \"$1\" lock a -- true
        kill -KILL $!";
    let call = scene.on_terminal("never=/dev/null").args(["bash", "-c", script, "bash", HELPER]);
    let said = call.out("hint: continue it with `fg` in its shell, or with `kill -CONT ").run();
    assert!(said.out.contains(", stopped\r\n"), "{}", said.out);
}

#[test]
fn a_holder_that_is_stopped_by_a_tracer_is_shown_with_the_tracer() {
    let scene = Scene::new();
    scene.make_root();
    let program = "import ctypes, fcntl, os, signal, sys
pid = os.fork()
if pid == 0:
    file = open(sys.argv[1], 'w')
    fcntl.flock(file, fcntl.LOCK_EX)
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)
    os.kill(os.getpid(), signal.SIGSTOP)
os.waitpid(pid, os.WUNTRACED)
print(pid, flush=True)
sys.stdin.readline()
os.kill(pid, signal.SIGKILL)";
    let tracer = scene.call("python3").args(["-c", program]).arg(scene.lock_file("a")).hold();
    let said = scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("pid {} (", tracer.first_line)).run();
    let hint = format!(", stopped by a tracer\nhint: its tracer is pid {} (", tracer.pid());
    assert!(said.err.contains(&hint), "{}", said.err);
    scene.aba(["status", "a"]).out(", stopped by a tracer\n").out("): continue or end it there\n").run();
    tracer.release();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_holder_in_uninterruptible_sleep_is_called_that() {
    let scene = Scene::new();
    // vfork(2) suspends the parent in uninterruptible sleep until its child ends.
    let program = "print('held', flush=True)\nif libc.syscall(58) == 0:\n libc.prctl(1, 9)\n while True: time.sleep(1)";
    let holder = start_python(&scene, program);
    wait_for_state(holder.pid(), "D");
    let said = scene.aba(["lock", "a", "--", "true"]).status(75).err("a is already running: pid ").run();
    assert!(said.err.contains(", in uninterruptible sleep\nhint: no signal ends this sleep"), "{}", said.err);
    scene.aba(["status", "a"]).out(", in uninterruptible sleep\n").out("  hint: no signal ends this sleep").run();
    assert_eq!(scene.aba(["status", "--json", "a"]).json()["holders"][0]["state"], "uninterruptible");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_holder_whose_first_thread_has_ended_is_called_a_zombie() {
    let scene = Scene::new();
    let program = "threading.Thread(target=sys.stdin.readline).start()\nprint('held', flush=True)\nlibc.syscall(60, 0)";
    let holder = start_python(&scene, program);
    wait_for_state(holder.pid(), "Z");
    let said = scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("pid {} (", holder.pid())).run();
    let hint =
        format!(", a zombie with threads that still run\nhint: show its threads with `ps -L -p {}`\n", holder.pid());
    assert!(said.err.contains(&hint), "{}", said.err);
    scene.aba(["status", "a"]).out(", a zombie with threads that still run\n").run();
    holder.signal(9);
}

#[test]
fn status_shows_the_processes_below_the_holder_down_to_the_one_that_is_stopped() {
    let scene = Scene::new();
    let work = "echo held; bash -c 'cat; exit 0'; exit 0";
    let holder = scene.aba(["lock", "-o", "a", "--", "sh", "-c", work]).hold();
    let mut chain = vec![holder.pid()];
    wait_until("the processes to start", || {
        while let [next] = child_pids(*chain.last().unwrap()).as_slice() {
            chain.push(*next);
        }
        chain.len() == 4
    });
    let [top, shell, bash, cat] = chain[..] else { unreachable!() };
    wait_until("cat to start", || fs::read_to_string(format!("/proc/{cat}/comm")).is_ok_and(|name| name == "cat\n"));
    wait_for_state(cat, "S");
    let said = scene.aba(["status", "a"]).out("\n  processes of the holder:\n").run().out;
    let lines: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("  processes")).collect();
    assert!(lines[1].starts_with(&format!("    pid {top}, {HELPER} lock -o a -- sh -c ")), "{said}");
    assert!(lines[2].starts_with(&format!("      pid {shell}, sh -c ")), "{said}");
    assert!(lines[3].starts_with(&format!("        pid {bash}, bash -c 'cat; exit 0', for ")), "{said}");
    assert!(lines[4].starts_with(&format!("          pid {cat}, cat, for ")), "{said}");
    let tree = &scene.aba(["status", "--json", "a"]).json()["processes"][0];
    let leaf = &tree["children"][0]["children"][0]["children"][0];
    assert_eq!((&leaf["pid"], &leaf["command"], &leaf["state"]), (&cat.into(), &"cat".into(), &"sleeping".into()));

    kill(cat, SIGSTOP);
    wait_for_state(cat, "T");
    let hint = format!("pid {cat}, which pid {top} started, is stopped: continue it with `kill -CONT {cat}`");
    scene.aba(["status", "a"]).out(format!("\n  hint: {hint}\n")).out(", stopped\n").run();
    assert_eq!(scene.aba(["status", "--json", "a"]).json()["remedy"], hint);
    kill(cat, SIGCONT);
    holder.release();
}

#[test]
fn the_message_about_a_lock_names_the_stopped_process_below_its_holder() {
    let scene = Scene::new();
    let holder = scene
        .aba(["lock", "a", "--", "bash", "-c", "sleep 1000 <&- & sleep 1000 <&- & echo held; read _; exit 0"])
        .hold();
    let top = holder.pid();
    let [first, second] = child_pids(top)[..] else { panic!("two children") };
    for child in [first, second] {
        wait_for_program(child, "sleep");
    }
    let busy = || scene.aba(["lock", "a", "--", "true"]).status(75);
    kill(first, SIGSTOP);
    wait_for_state(first, "T");
    let text = format!(
        "s; pid {first} (sleep 1000), which pid {top} started, is stopped\nhint: continue it with `kill -CONT {first}`\n"
    );
    busy().err(format!("a is already running: pid {top} (")).err(&text).run();
    let late = scene.aba(["lock", "-t", AFTER_REPORT.1, "a", "--", "true"]).status(124);
    assert_eq!(late.err("waiting for a, held by pid ").run().err.matches(&text).count(), 2);
    kill(second, SIGSTOP);
    wait_for_state(second, "T");
    let text = format!("; pid {first} (sleep 1000) and 1 more, which pid {top} started, are stopped\n");
    busy().err(text).err(format!("hint: continue them with `kill -CONT {first} {second}`\n")).run();
    // Ctrl-Z stops the holder, too.
    holder.signal(SIGSTOP);
    wait_for_state(top, "T");
    let all = format!("continue it with `kill -CONT {top} {first} {second}`\n");
    let said = busy().err(format!("s, stopped\nhint: {all}")).run();
    assert!(!said.err.contains("started"), "{}", said.err);
    scene.aba(["status", "a"]).out(format!("  hint: {all}")).run();
    for pid in [top, first, second] {
        kill(pid, SIGCONT);
        wait_for_state(pid, "S");
    }
    assert!(!busy().err("hint: wait for it").run().err.contains("stopped"));
    kill(first, 9);
    kill(second, 9);
    holder.release();
}

#[test]
fn a_stopped_process_that_shares_the_lock_is_named_by_status() {
    let scene = Scene::new();
    let holders = [scene.holder_with(&["-s", "a"]), scene.holder_with(&["-s", "a"])];
    let pid = holders[1].pid();
    holders[1].signal(SIGSTOP);
    wait_for_state(pid, "T");
    let hint = format!("hint: pid {pid} is stopped: continue it with `kill -CONT {pid}`\n");
    let hint_of_first = format!("hint: continue it with `kill -CONT {pid}`\n");
    let said = scene.aba(["status", "a"]).out(", stopped\n").run().out;
    assert!(said.contains(&hint) || said.contains(&hint_of_first), "{said}");
    holders[1].signal(SIGCONT);
    for holder in holders {
        holder.release();
    }
}

#[test]
fn the_holder_of_a_lock_of_fcntl_is_called_stopped_too() {
    let scene = Scene::new();
    fs::write(scene.path("f"), "").unwrap();
    let program = "import fcntl, subprocess\nf = open('f', 'r+')\nfcntl.lockf(f, fcntl.LOCK_EX)\nprint('held', flush=True)\nsubprocess.call(['sleep', '1000'])";
    let holder = scene.call("python3").args(["-c", program]).current_dir(scene.path("")).hold();
    let top = holder.pid();
    wait_until("the child has started", || child_pids(top).len() == 1);
    let sleep = child_pids(top)[0];
    wait_until("sleep to start", || {
        fs::read_to_string(format!("/proc/{sleep}/comm")).is_ok_and(|name| name == "sleep\n")
    });
    let aba = |args: &[&str]| scene.aba(args).current_dir(scene.path(""));
    let busy = || aba(&["lock", "--file", "f", "--fcntl", "--", "true"]).status(75);
    let text = format!(
        "pid {sleep} (sleep 1000), which pid {top} started, is stopped\nhint: continue it with `kill -CONT {sleep}`\n"
    );
    kill(sleep, SIGSTOP);
    wait_for_state(sleep, "T");
    busy().err(&text).run();
    for call in [
        &["wait", "-t", AFTER_REPORT.1, "--file", "f"][..],
        &["lock", "-t", AFTER_REPORT.1, "--file", "f", "--fcntl", "--", "true"],
    ] {
        assert_eq!(aba(call).status(124).err("waiting for f").run().err.matches(&text).count(), 2, "{call:?}");
    }
    let status = || aba(&["status", "--file", "f"]).out("  processes of the holder:\n").out("sleep 1000, for ");
    status()
        .out(format!(
            "  hint: pid {sleep}, which pid {top} started, is stopped: continue it with `kill -CONT {sleep}`\n"
        ))
        .run();
    kill(top, SIGSTOP);
    wait_for_state(top, "T");
    let hint = format!("hint: continue it with `kill -CONT {top} {sleep}`\n");
    busy().err(format!("s, stopped\n{hint}")).run();
    status().out(format!("  {hint}")).run();
    kill(sleep, 9);
}

#[test]
fn status_shows_the_children_of_all_threads_of_a_holder() {
    let scene = Scene::new();
    let program = "import subprocess\ndef run():\n child = subprocess.Popen(['sleep', '1000'])\n print('held', flush=True)\n child.wait()\nthreading.Thread(target=run, daemon=True).start()\nsys.stdin.readline()\nos._exit(0)";
    let holder = start_python(&scene, program);
    let said = scene.aba(["status", "a"]).out("  processes of the holder:\n").run().out;
    let line = said.lines().find(|line| line.contains(" sleep 1000, for ")).unwrap();
    let sleep: u32 = line.trim().strip_prefix("pid ").unwrap().split(',').next().unwrap().parse().unwrap();
    kill(sleep, SIGSTOP);
    wait_for_state(sleep, "T");
    scene.aba(["lock", "a", "--", "true"]).status(75).err(format!("; pid {sleep} (sleep 1000), which pid ")).run();
    kill(sleep, 9);
    holder.release();
}

#[test]
fn status_limits_the_number_of_processes_that_it_shows_below_a_holder() {
    let scene = Scene::new();
    let wide = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 <&- & done; echo held; read _; kill $(jobs -p); exit 0";
    let holder = scene.aba(["lock", "-o", "a", "--", "bash", "-c", wide]).hold();
    scene.aba(["status", "a"]).out("\n        and 4 more\n").run();
    let top = &scene.aba(["status", "--json", "a"]).json()["processes"][0]["children"][0];
    assert_eq!((top["children"].as_array().unwrap().len(), &top["omitted"]), (5, &4.into()));
    holder.release();

    // The list of the children has more than 4096 bytes. They end with their parent.
    let wider = "import os, sys\nr, w = os.pipe()\nfor _ in range(800):\n if os.fork() == 0:\n  os.close(w); os.read(r, 1); os._exit(0)\n";
    let wider = format!("{wider}print('held', flush=True); sys.stdin.read()");
    let holder = scene.aba(["lock", "-o", "a", "--", "python3", "-c", &wider]).hold();
    let top = &scene.aba(["status", "--json", "a"]).json()["processes"][0]["children"][0];
    assert_eq!(top["omitted"], 795);
    holder.release();

    // Each shell calls the next one.
    let script = scene.path("deep").display().to_string();
    fs::write(&script, "if (($1)); then bash \"$0\" $(($1 - 1)); else echo held; read _; fi\nexit 0\n").unwrap();
    let holder = scene.aba(["lock", "b", "--", "bash", &script, "12"]).hold();
    let said = scene.aba(["status", "b"]).out(" and 1 more\n").run().out;
    let shown = said.lines().skip_while(|line| !line.starts_with("  processes")).filter(|line| line.contains(" pid "));
    assert_eq!(shown.count(), 8, "{said}");
    holder.release();
}
