//! `run-once`: the processes of a task: its supervisor, what it inherits, and what is left of it after a kill.

use crate::call::Holder;
use crate::process::{
    copy_program, is_alive, is_locked, is_root, kill, parent_pid, set_mode, set_modified, wait_until,
};
use crate::scene::{HELPER, NOBODY, Scene, with_command};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};

#[test]
fn a_signal_to_the_supervisor_reaches_the_whole_process_group() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("(trap 'echo child' TERM; echo ready; read _ <{gate}) & wait; wait");
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    wait_until("it is ready", || scene.task_text("a", "log.out") == "ready\n");
    kill(scene.supervisor("a"), 15);
    scene.once(["-R", "-i", "a"]).run();
    scene.wait_for_task_release("a");
    assert!(scene.task_text("a", "log.out").contains("child"));
    assert_eq!(scene.task_text("a", "exit"), "143\n");
}

#[test]
fn a_pid_file_locked_by_another_process_does_not_count_as_a_running_task() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let (command, supervisor) = (scene.task_pid("a"), scene.supervisor("a"));
    let mut stranger = scene.program("sh");
    let script = "exec 9<\"$1\"; echo ready; flock 9; read _";
    stranger.args(["-c", script, "sh", scene.task_file("a", "pid").to_str().unwrap()]);
    let stranger = Holder::start(stranger);
    kill(supervisor, 9);
    wait_until("the command has ended, and was reaped", || !Path::new(&format!("/proc/{command}")).exists());
    wait_until("the stranger holds it", || is_locked(&scene.task_file("a", "pid")));
    scene.once(["-R", "-i", "a"]).status(1).run();
    gate.open();
    scene.once(["-qwi", "a"]).out("begun").run();
    stranger.release();
}

#[test]
fn processes_that_left_the_session_of_an_interrupted_task_are_ended() {
    // A process in another session, one without the environment that names its task, and one with both.
    for how in ["setsid -w bash", "env -i bash", "env -i setsid -w bash"] {
        let scene = Scene::new();
        let gate = scene.gate("gate");
        let script = format!("{how} -c \"echo \\$\\$; read _ <{gate}\" & wait");
        let start = || {
            scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
            scene.wait_for_task_child("a")
        };
        let child = start();
        kill(scene.task_pid("a"), 15);
        scene.wait_for_task_release("a");
        assert!(!is_alive(child), "{how}: after a signal to the command");
        let child = start();
        scene.once(["-r", "-i", "a"]).run();
        assert!(!is_alive(child), "{how}: after a reset");
        if how != "env -i setsid -w bash" {
            let child = start();
            kill(scene.supervisor("a"), 9);
            scene.wait_for_task_release("a");
            scene.once(["-qwi", "a", "--", "true"]).run();
            assert!(!is_alive(child), "{how}: after the supervisor was killed");
        }
    }
}

#[test]
fn a_task_started_by_a_task_is_independent() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let inner = gate.task(0);
    let script = format!("'{HELPER}' run-once -i inner -- \"$@\"; echo begun; read _ <{gate}");
    let start = || {
        scene.once(["-i", "outer", "--", "bash", "-c", &script, "bash", &inner[0], &inner[1], &inner[2]]).run();
        wait_until("both run", || scene.task_text("outer", "log.out") == "begun\n");
    };
    start();
    let (pid, supervisor) = (scene.task_pid("inner"), scene.supervisor("inner"));
    kill(scene.task_pid("outer"), 15);
    scene.wait_for_task_release("outer");
    assert!(is_alive(pid) && is_alive(supervisor));
    start();
    let outer = scene.supervisor("outer");
    kill(outer, 9);
    scene.wait_for_task_release("outer");
    scene.once(["-qwi", "outer", "--", "true"]).run();
    assert!(is_alive(pid) && is_alive(supervisor) && parent_pid(pid) == supervisor);
}

#[test]
fn a_supervisor_whose_directory_was_removed_does_not_affect_the_next_run() {
    let scene = Scene::new();
    let (first, second) = (scene.gate("first"), scene.gate("second"));
    scene.once(with_command(&["-i", "a"], &first.task(3))).run();
    let supervisor = scene.supervisor("a");
    // The supervisor may still write files there.
    wait_until("it is removed", || fs::remove_dir_all(scene.root()).is_ok());
    scene.once(with_command(&["-i", "a"], &second.task(5))).run();
    first.open();
    wait_until("it has ended", || !is_alive(supervisor));
    scene.once(["-R", "-i", "a"]).run();
    scene.once(["-E", "-i", "a"]).status(1).run();
    second.open();
    scene.once(["-qwi", "a"]).status(5).run();
}

/// An unrelated process that ends with the test.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        // It leads a session like the command of a task.
        Self(Command::new("setsid").args(["sleep", "600"]).spawn().unwrap())
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_started_task_does_not_keep_a_pipe_of_the_caller_open() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let task = format!("read _ <{gate}");
    // If the task kept the pipe open, the script would only end at the timeout.
    let script = "\"$HELPER\" run-once -i a -- bash -c \"$1\" 2>&1 | cat; x=$(\"$HELPER\" run-once -i b -- bash -c \"$1\" 2>&1); echo \"done$x\"";
    scene.call("timeout").args(["60", "bash", "-c", script, "bash", &task]).out("done").run();
    scene.once(["-R", "-i", "a"]).run();
    scene.once(["-R", "-i", "b"]).run();
}

#[test]
fn a_task_has_only_the_standard_descriptors() {
    let scene = Scene::new();
    // A descriptor of the shell library (200), a low number, and one that a redirection left open.
    let script =
        "exec 9>nine 200>two-hundred 57<nine; \"$HELPER\" run-once -qwi a -- ls -l /proc/self/fd; echo nine >&9";
    let said = scene.bash_here(script).out("log.out").run().out;
    let links: Vec<&str> = said.lines().filter_map(|line| line.split(" -> ").nth(1)).collect();
    // The last descriptor is that of ls on the directory.
    assert_eq!(links.len(), 4, "{said}");
    assert_eq!(links[0], "/dev/null");
    assert!(links[1].ends_with("/log.out") && links[2].ends_with("/log.err"), "{said}");
    assert_eq!(fs::read_to_string(scene.path("nine")).unwrap(), "nine\n");
}

#[test]
fn a_reused_pid_of_a_task_is_never_signalled() {
    let scene = Scene::new();
    let mut bystander = Bystander::new();
    let pid = bystander.0.id();
    for call in [&["-p", "-t", "1", "-i", "a"][..], &["-r", "-i", "a"], &["-F"], &["-G"], &["-qwi", "a"]] {
        scene.once(["-qwi", "a", "--", "true"]).run();
        // The files that a killed supervisor would have left, if its pid was reused later.
        let record = scene.task_text("a", "lock");
        let old = record.lines().find(|line| line.starts_with("pid=")).unwrap();
        let tick = record.lines().find(|line| line.starts_with("tick=")).unwrap();
        let forged = record.replace(old, &format!("pid={pid}")).replace(tick, "tick=1");
        let end = forged.find("outcome=").unwrap();
        fs::write(scene.task_file("a", "lock"), &forged[..end]).unwrap();
        fs::write(scene.task_file("a", "pid"), format!("{pid}\n")).unwrap();
        fs::write(scene.task_file("a", "exit"), "1\n").unwrap();
        set_modified(scene.task_file("a", "exit"), -100);
        let status = i32::from(call[0].starts_with("-p") || call[0].starts_with("-qw"));
        scene.once(call).status(status).run();
        assert!(bystander.is_alive(), "{call:?} ended it");
        scene.once(["-G"]).run();
    }
}

#[test]
fn a_killed_supervisor_leaves_no_second_copy() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // The command has a child that ignores signals.
    let script = format!("(trap '' TERM HUP INT; echo $BASHPID; read _ <{gate}; read _ <{gate}) & wait");
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    let child = scene.wait_for_task_child("a");
    let (command, supervisor) = (scene.task_pid("a"), scene.supervisor("a"));
    kill(supervisor, 9);
    wait_until("the command has ended", || !is_alive(command));
    assert!(!is_locked(&scene.task_file("a", "lock")));
    assert!(is_alive(child), "the child is what is to be found by the next one");
    scene.once(["-A", "-i", "a"]).status(1).run();
    let said = scene.once(["-i", "a", "--json"]).out("interrupted").run();
    assert!(said.out.contains("\"pid\": null"), "{}", said.out);
    scene.once(["-qwi", "a", "--", "echo", "again"]).out("again\n").run();
    assert!(!is_alive(child));
}

#[test]
fn a_process_that_outlives_the_supervisor_ends_before_the_next_run() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("(trap '' TERM; echo $BASHPID; read _ <{gate}) & kill -9 $$");
    // The signals of the supervisor have no effect.
    let traced = scene.call("strace").args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=pidfd_send_signal:retval=0"]);
    let run = traced.args([HELPER, "run-once", "-qwi", "a", "--", "bash", "-c", &script]).status(137).out("").start();
    let child = scene.wait_for_task_child("a");
    let lock = scene.task_file("a", "lock");
    wait_until("the run has ended", || scene.task_file("a", "exit").exists() && !is_locked(&lock));
    assert!(is_alive(child) && scene.task_file("a", "pid").exists());
    scene.once(["-qwi", "a", "--", "echo", "again"]).out("again\n").run();
    assert!(!is_alive(child));
    run.finish();
}

#[test]
fn a_process_of_another_user_that_a_run_left_is_reported_and_not_joined_by_the_next_run() {
    if !is_root() {
        return;
    }
    let scene = Scene::new();
    scene.make_root();
    set_mode(scene.root(), 0o1777);
    // A program like sudo: it becomes a process of root.
    let setuid = scene.path("setpriv");
    copy_program("/usr/bin/setpriv", &setuid);
    set_mode(&setuid, 0o4755);
    let user = NOBODY.to_string();
    let drop = ["--reuid", &user, "--regid", &user, "--clear-groups", "--"];
    let check = Command::new("setpriv").args(drop).arg(&setuid).args(["--reuid", "0", "true"]).status().unwrap();
    if !check.success() {
        eprintln!("not tested: the setuid bit of a file has no effect here");
        return;
    }
    let wait = "until [ \"$(cat /proc/$!/comm)\" = sleep ]; do sleep 0.01; done";
    let command = format!("{} --reuid 0 --clear-groups sleep 60 & {wait}; echo $!; kill -9 $$", setuid.display());
    let once = |command: &[&str]| scene.unprivileged().args(["run-once", "-qwi", "a", "--"]).args(command);
    let left: u32 = once(&["sh", "-c", &command]).status(137).out("").run().out.trim().parse().unwrap();
    let call = once(&["echo", "again"]).status(125).out("").err(format!("aba-lock: cannot end pid {left} of task a\n"));
    call.err(format!("hint: show its user and state with `ps -o user,stat,args -p {left}`")).run();
    assert!(is_alive(left));
    kill(left, 9);
    once(&["echo", "again"]).out("again\n").run();
}

#[test]
fn children_of_a_killed_command_end_before_the_next_run() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("(echo $BASHPID; read _ <{gate}) & wait");
    scene.once(["-i", "a", "--", "bash", "-c", &script]).run();
    let child = scene.wait_for_task_child("a");
    kill(scene.task_pid("a"), 9);
    scene.once(["-qwi", "a", "--", "echo", "again"]).out("again\n").run();
    assert!(!is_alive(child));
}

#[test]
fn processes_that_a_successful_task_left_live_on() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("read _ <{gate} & echo $!");
    let said = scene.once(["-qwi", "a", "--", "bash", "-c", &script]).out("\n").run();
    let child: u32 = said.out.trim().parse().unwrap();
    scene.once(["-r", "-i", "a"]).run();
    assert!(is_alive(child));
    gate.open();
    wait_until("it has ended", || !is_alive(child));
}

#[test]
fn a_task_starts_with_default_signal_dispositions() {
    let scene = Scene::new();
    let script =
        "trap '' INT QUIT HUP PIPE CHLD; \"$HELPER\" run-once -qwi a -- grep -E 'Sig(Blk|Ign)' /proc/self/status";
    let said = scene.bash(script).out("SigBlk").run().out;
    for line in said.lines() {
        let set = u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap();
        // The C library reserves the signals above.
        assert_eq!(set & 0x7fff_ffff, 0, "{said}");
    }
}

#[test]
fn a_background_task_does_not_keep_the_lock_of_the_script_that_started_it() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = "exec 200<>\"$(\"$HELPER\" path --create op)\"; \"$HELPER\" lock --fd 200 op && ABA_LOCK_FDS=200 \"$HELPER\" run-once -i a -- bash -c \"$1\"";
    let task = format!("echo \"${{ABA_LOCK_FDS-none}}\"; read _ <{gate}");
    scene.call("bash").args(["-c", script, "bash", &task]).run();
    scene.once(["-R", "-i", "a"]).run();
    assert!(!is_locked(&scene.lock_file("op")));
    wait_until("the task prints its variable", || scene.task_text("a", "log.out") == "none\n");
}

#[test]
fn a_wait_in_the_foreground_keeps_every_lock_and_number_that_it_inherited() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    scene.once(with_command(&["-i", "a"], &gate.task(0))).run();
    let waits = ["run-once", "-qw", "-i", "a"];
    let in_bash = "\"$HELPER\" run-once -qw -i a; exit";
    let file = scene.path("file");
    let by_file = file.to_str().unwrap();
    let started = [
        scene.aba(["lock", "direct", "--", HELPER].into_iter().chain(waits)).start(),
        scene.aba(["lock", "in_bash", "--", "bash", "-c", in_bash]).start(),
        scene.aba(["lock", "--file", by_file, "--", HELPER].into_iter().chain(waits)).start(),
        scene.aba(["lock", "kept_back", "-o", "--", HELPER].into_iter().chain(waits)).start(),
        scene.aba(["flock", scene.path("compatible").to_str().unwrap(), HELPER].into_iter().chain(waits)).start(),
        scene.aba(["reserve", "--probe", "none", "--", HELPER].into_iter().chain(waits)).start(),
    ];
    scene.wait_for_task_waiters("a", started.len());
    for locked in [
        scene.lock_file("direct"),
        scene.lock_file("in_bash"),
        file,
        scene.lock_file("kept_back"),
        scene.path("compatible"),
    ] {
        assert!(is_locked(&locked), "{} was released", locked.display());
    }
    let numbers = ["reserve", "--probe", "none", "--", "sh", "-c", "echo $ABA_NUMBER"];
    assert_eq!(scene.aba(numbers).out("").run().out, "5001\n", "5000 is taken");
    gate.open();
    for call in started {
        call.finish();
    }
}

#[test]
fn a_task_started_under_a_lock_inherits_no_descriptors() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    // Low and high descriptors, with gaps between them.
    let script =
        "exec 3<>three 9<>nine 77<>many 300<>more; for _ in 1; do \"$HELPER\" run-once -i a -- bash -c \"$1\"; done";
    let task = format!("echo begun; read _ <{gate}");
    scene
        .aba(["lock", "op", "--", "bash", "-c", &format!("cd '{}'; {script}", scene.path("").display()), "bash", &task])
        .run();
    wait_until("it runs", || scene.task_text("a", "log.out") == "begun\n");
    for process in [scene.task_pid("a"), scene.supervisor("a")] {
        let descriptors = fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten();
        for link in descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok()) {
            let is_its_own = link == gate.path || link.starts_with(scene.task_file("a", "lock").parent().unwrap());
            assert!(is_its_own || !link.starts_with(scene.path("")), "{} is open", link.display());
        }
    }
    assert!(!is_locked(&scene.lock_file("op")));
    gate.open();
    scene.once(["-qw", "-i", "a"]).run();
}
