//! `aba-lock lease run`, and `lease acquire --output`: the leases of CI jobs.

use crate::etcd::Etcd;
use crate::machine::{KEEPER, Machine};
use crate::process::{RunningScript, is_alive, parent_pid, send_signal, wait_until};
use crate::service::LockService;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn is_free(machine: &Machine) -> bool {
    machine.lease(&["show", "deploy"]).status == 1
}

/// Returns the seconds until the lease ends.
fn seconds_left(machine: &Machine) -> u64 {
    let shown = machine.lease(&["show", "--json", "deploy"]).status(0).out;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    shown["holder"]["ends_in_seconds"].as_u64().unwrap()
}

/// Releases the lease of another process.
fn lose_lease(machine: &Machine) {
    let shown = machine.lease(&["show", "--json", "deploy"]).status(0).out;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    machine.lease(&["release", shown["holder"]["lease"].as_str().unwrap()]).status(0);
}

/// Waits for the guard and the courier of `lease run NAME`, and returns their pids.
fn find_keepers_of_run(name: &str, run: u32) -> (u32, u32) {
    let is_keeper = |pid: &u32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != run && line.contains("\0run\0") && line.contains(name)
    };
    let mut found = None;
    wait_until("there are a guard and a courier", || {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let mut pids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.retain(is_keeper);
        found = match pids[..] {
            [one, other] if parent_pid(other) == one => Some((one, other)),
            [one, other] if parent_pid(one) == other => Some((other, one)),
            _ => None,
        };
        found.is_some()
    });
    found.unwrap()
}

/// Processes that are stopped. If the test fails, they continue, so that they can end.
struct FrozenProcesses(Vec<u32>);

impl FrozenProcesses {
    fn stop(&mut self, pid: u32) {
        send_signal(pid, "STOP");
        self.0.push(pid);
    }

    /// Lets all continue, the first one last.
    fn thaw(&mut self) {
        while let Some(pid) = self.0.pop() {
            send_signal(pid, "CONT");
        }
    }
}

impl Drop for FrozenProcesses {
    fn drop(&mut self) {
        for pid in self.0.drain(..).rev() {
            let _ = Command::new("kill").arg("-CONT").arg(pid.to_string()).status();
        }
    }
}

#[test]
fn run_holds_a_lease_while_its_command_runs_and_has_its_exit_status() {
    let (service, etcd) = (LockService::start(&[]), Etcd::start(1));
    for url in [service.url(), etcd.url()] {
        let machine = Machine::new(&url);
        let script = "\"$HELPER\" lease show deploy; echo \"token $ABA_LOCK_TOKEN\"; cat; exit 7";
        let said = machine.lease(&["run", "--who", "nightly", "deploy", "--", "sh", "-c", script]).status(7).silent();
        assert!(said.out.starts_with("deploy: held at ") && said.out.contains("(nightly)"), "{said:?}");
        let token = said.out.lines().find_map(|line| line.strip_prefix("token ")).unwrap();
        assert!(token.parse::<u64>().unwrap() > 0);
        // The lease has been released when the call ends, and there was no local lock.
        assert!(is_free(&machine));
        assert!(!machine.path("locks").exists());
        machine
            .lease(&["run", "deploy", "--", "/does/not/exist"])
            .status(127)
            .err("command not found: /does/not/exist");
        machine.lease(&["run", "deploy", "--", "/"]).status(126).err("cannot run /");
        assert!(is_free(&machine));
        machine.lease(&["run", "deploy", "--", "sh", "-c", "kill -9 $$"]).status(137);
        assert!(is_free(&machine));
    }
}

#[test]
fn run_refuses_a_call_without_a_name_or_a_command() {
    let machine = Machine::new("http://127.0.0.1:1");
    for args in [&["run"][..], &["run", "deploy"], &["run", "deploy", "--"], &["run", "a/b", "--", "true"]] {
        machine.lease(args).status(2).err("aba-lock: ");
    }
    machine.lease(&["run", "--max-wait", "soon", "deploy", "--", "true"]).status(2).err("soon");
    machine.lease(&["run", "--on-lost", "no-such-command", "deploy", "--", "true"]).status(2).err("no-such-command");
    // The first words after the name are not the command: an option may follow.
    machine.lease(&["run", "deploy", "true"]).status(2).err("aba-lock: lease run: ");
}

#[test]
fn a_wait_names_each_holder_and_ends_with_the_name_of_the_last_one() {
    let (service, etcd) = (LockService::start(&[]), Etcd::start(1));
    for url in [service.url(), etcd.url()] {
        let machine = Machine::new(&url);
        let first = machine.lease(&["acquire", "--ttl", "1h", "--who", "first build", "deploy"]).status(0).out;
        let args = ["run", "--max-wait", "60s", "--progress", "1s", "deploy", "--", "echo", "ran"];
        let mut waiter = machine.start_helper(&[&["lease"], &args[..]].concat());
        let said = waiter.read_error();
        assert!(said.starts_with("aba-lock: waiting for deploy at ") && said.contains("(first build)"), "{said}");
        let said = waiter.read_error();
        assert!(said.starts_with("aba-lock: still waiting for deploy at "), "{said}");
        assert!(said.contains(", now held by pid ") && said.contains("(first build)"), "{said}");
        machine.lease(&["release", first.trim()]).status(0);
        assert_eq!((waiter.read_line(), waiter.wait()), ("ran".to_owned(), 0));
        machine.lease(&["acquire", "--ttl", "1h", "--who", "second build", "deploy"]).status(0);
        let said = machine.lease(&["run", "--max-wait", "4s", "deploy", "--", "echo", "ran"]).status(124);
        assert!(said.err.contains("aba-lock: timed out waiting for deploy, held by pid "), "{said:?}");
        assert!(said.err.ends_with("`aba-lock lease show deploy`\n") && said.out.is_empty(), "{said:?}");
        assert_eq!(said.err.matches("(second build)").count(), 2, "{said:?}");
        machine.lease(&["run", "deploy", "--", "echo", "ran"]).status(75).err("(second build)").out("");
    }
}

#[test]
fn a_signal_reaches_the_command_and_its_children_and_the_lease_is_released() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    for (name, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        // A shell alone would ignore SIGINT until its child ends, and leave the child alone after SIGTERM.
        let script = "bash -c 'echo $$; exec sleep 1000'; echo went on";
        let mut run = machine.start_helper(&["lease", "run", "deploy", "--", "bash", "-c", script]);
        let child: u32 = run.read_line().parse().unwrap();
        send_signal(run.pid(), name);
        assert_eq!(run.wait(), status, "{name}");
        assert_eq!(run.try_read_line(), None, "{name}");
        wait_until("the child has ended", || !is_alive(child));
        assert!(is_free(&machine), "{name}");
    }
}

#[test]
fn a_signal_reaches_a_shell_before_the_program_for_which_it_waits_whatever_their_pids_are() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    // The kernel gives out the pids after this number next. The other programs are between the program and the shell.
    let shell = "echo 2000 >/proc/sys/kernel/ns_last_pid; for i in {1..60}; do sleep 1000 & done
        echo 1000 >/proc/sys/kernel/ns_last_pid; bash -c 'echo held; exec sleep 1000'; echo went on";
    let script =
        "echo 30000 >/proc/sys/kernel/ns_last_pid; \"$HELPER\" lease run deploy -- bash -c \"$SHELL_SCRIPT\" & run=$!
        read -r _; kill -s \"$SIGNAL\" $run; wait $run; echo \"status $?\"";
    for (signal, status) in [("TERM", "status 143"), ("HUP", "status 129")] {
        let mut command = machine.program("unshare");
        command.args([
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "bash",
            "-c",
            script,
        ]);
        command.env("SHELL_SCRIPT", shell).env("SIGNAL", signal);
        let mut run = RunningScript::start(command);
        assert_eq!(run.read_line(), "held");
        run.send_line();
        assert_eq!(run.read_line(), status);
        assert_eq!(run.wait(), 0);
    }
}

#[test]
fn the_lease_stays_with_a_process_that_goes_on_after_the_signal() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let script = "bash -c 'trap \"\" TERM; echo $$; read -r _ <gate; echo done' & wait";
    machine.make_gate();
    let mut run = machine.start_helper(&["lease", "run", "deploy", "--", "bash", "-c", script]);
    let child: u32 = run.read_line().parse().unwrap();
    send_signal(run.pid(), "TERM");
    assert_eq!(run.wait(), 143);
    let said = run.read_error();
    assert!(said.contains(&format!("still run: pid {child}; the lease on deploy is kept until they end")), "{said}");
    assert!(!is_free(&machine));
    machine.open_gate();
    assert_eq!(run.read_line(), "done");
    wait_until("the lease is given back", || is_free(&machine));
}

#[test]
fn a_process_in_the_background_does_not_keep_the_lease() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    machine.make_gate();
    let script = "read -r _ <>gate >&- 2>&- & echo $!";
    let said = machine.lease(&["run", "deploy", "--", "bash", "-c", script]).status(0).silent();
    let daemon: u32 = said.out.trim().parse().unwrap();
    assert!(is_free(&machine) && is_alive(daemon));
    send_signal(daemon, "KILL");
    wait_until("the process has ended", || !is_alive(daemon));
}

#[test]
fn if_run_is_killed_its_command_ends_and_the_lease_is_given_back() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let mut run = machine.start_helper(&["lease", "run", "deploy", "--", "sh", "-c", "echo $$; exec sleep 1000"]);
    let command: u32 = run.read_line().parse().unwrap();
    send_signal(run.pid(), "KILL");
    assert_eq!(run.wait(), 137);
    wait_until("the command has ended", || !is_alive(command));
    wait_until("the lease is given back", || is_free(&machine));
}

#[test]
fn a_cancelled_wait_leaves_the_queue() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let held = machine.lease(&["acquire", "deploy", "--ttl", "1h"]).status(0).out;
    for (name, status) in [("INT", 130), ("TERM", 143), ("KILL", 137)] {
        let mut waiter = machine.start_helper(&["lease", "run", "-w", "deploy", "--", "echo", "ran"]);
        assert!(waiter.read_error().contains("waiting for deploy"));
        wait_until("the waiter is in the queue", || machine.lease(&["show", "deploy"]).out.contains("1. waits: pid "));
        send_signal(waiter.pid(), name);
        assert_eq!(waiter.wait(), status);
        wait_until("the waiter has left", || !machine.lease(&["show", "deploy"]).out.contains("waits"));
        assert_eq!(waiter.try_read_line(), None);
    }
    machine.lease(&["release", held.trim()]).status(0);
    assert!(is_free(&machine));
}

#[test]
fn the_loss_of_the_lease_ends_the_command_and_fails_the_run() {
    let service = LockService::start(&[]);
    let machine = Machine::with_short_leases(&service.url());
    let script = "trap 'echo told; exit 0' TERM; echo held; while :; do sleep 0.05; done";
    let mut run = machine.start_helper(&["lease", "run", "deploy", "--", "bash", "-c", script]);
    assert_eq!(run.read_line(), "held");
    lose_lease(&machine);
    assert_eq!(run.read_line(), "told");
    // The command gets one SIGTERM, from the keeper.
    assert_eq!(run.wait(), 75);
    assert!(run.read_error().contains("the lease on deploy at "), "the keeper reports the loss");
    // The shell reports the end of `sleep` in between.
    while !run.read_error().contains("the lease on deploy was lost before the command ended") {}
    let script = "echo held; exec sleep 1000";
    let mut run = machine.start_helper(&["lease", "run", "deploy", "--", "bash", "-c", script]);
    assert_eq!(run.read_line(), "held");
    lose_lease(&machine);
    assert_eq!(run.wait(), 143);
    let script = "echo held; read -r _; exit 3";
    let mut run = machine.start_helper(&["lease", "run", "--on-lost", "warn", "deploy", "--", "bash", "-c", script]);
    assert_eq!(run.read_line(), "held");
    lose_lease(&machine);
    assert!(run.read_error().contains("is lost: it expired or was released"));
    run.send_line();
    assert_eq!(run.wait(), 3);
}

#[test]
fn a_restart_of_the_service_ends_neither_the_command_nor_a_wait() {
    let mut service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let script = "echo held; read -r _; echo done";
    let mut run = machine.start_helper(&["lease", "run", "deploy", "--", "bash", "-c", script]);
    assert_eq!(run.read_line(), "held");
    let mut waiter = machine.start_helper(&["lease", "run", "-w", "deploy", "--", "echo", "ran"]);
    assert!(waiter.read_error().contains("waiting for deploy"));
    service.kill();
    assert!(waiter.read_error().contains("waiting for deploy: no lease server answers"));
    service.spawn();
    wait_until("the waiter is in the queue again", || machine.lease(&["show", "deploy"]).out.contains("1. waits: "));
    assert_eq!(waiter.try_read_line(), None);
    run.send_line();
    assert_eq!((run.read_line(), run.wait()), ("done".to_owned(), 0));
    assert_eq!((waiter.read_line(), waiter.wait()), ("ran".to_owned(), 0));
    assert!(is_free(&machine));
}

#[test]
fn commands_share_a_lease_or_have_slots_of_it() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let script = "echo \"slot ${ABA_LOCK_SLOT-none}\"; read -r _";
    for (option, second, words) in [(&["--shared"][..], "slot none", "shared"), (&["--slots", "2"], "slot 2", "slot")] {
        let start = || {
            let args = [&["lease", "run"], option, &["deploy", "--", "bash", "-c", script]].concat();
            machine.start_helper(&args)
        };
        let (mut one, mut other) = (start(), None);
        assert_eq!(one.read_line(), second.replace('2', "1"));
        let other = other.get_or_insert_with(start);
        assert_eq!(other.read_line(), second);
        machine.lease(&["run", "-q", "deploy", "--", "true"]).status(75);
        machine.lease(&["show", "deploy"]).status(0).out(words);
        one.send_line();
        assert_eq!(one.wait(), 0);
        assert!(other.is_running());
        other.send_line();
        assert_eq!(other.wait(), 0);
        assert!(is_free(&machine));
    }
}

#[test]
fn acquire_writes_the_id_to_a_file_and_release_works_with_it() {
    let (service, etcd) = (LockService::start(&[]), Etcd::start(1));
    for url in [service.url(), etcd.url()] {
        let machine = Machine::new(&url);
        let file = machine.path("output");
        let path = file.to_str().unwrap();
        let said = machine.lease(&["acquire", "--ttl", "1h", "--output", path, "deploy"]).status(0).silent();
        assert_eq!(said.out, "");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once('=').unwrap()).collect();
        assert_eq!((lines[0].0, lines[1].0, lines.len()), ("lease", "fencing_token", 2), "{text}");
        assert!(lines[1].1.parse::<u64>().unwrap() > 0, "{text}");
        assert!(seconds_left(&machine) > 3500);
        // A shell can read the file, and the lines are added to it.
        machine.bash("source output; \"$HELPER\" lease release \"$lease\"; echo other=1 >>output").status(0).silent();
        assert!(is_free(&machine));
        machine.lease(&["acquire", "--output", path, "deploy"]).status(0).silent();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!((text.lines().count(), text.lines().nth(2)), (5, Some("other=1")), "{text}");
        machine.bash("source output; \"$HELPER\" lease release \"$lease\"").status(0).silent();
        machine
            .lease(&["acquire", "--output", "/dev/full", "deploy"])
            .status(125)
            .err("cannot write the id of the lease on deploy to /dev/full: ")
            .err("; the lease was released");
        machine
            .lease(&["acquire", "--output", "/no/such/file", "deploy"])
            .status(125)
            .err("cannot open /no/such/file: ");
        machine.lease(&["acquire", "--json", "--output", path, "deploy"]).status(2).err("--json");
        assert!(is_free(&machine));
    }
}

#[test]
fn a_lease_whose_id_is_not_stored_yet_ends_soon() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    // The pipe is full, so the call blocks before it has printed the id.
    let script = "mkfifo full; exec 3<>full; dd if=/dev/zero of=full bs=4096 oflag=nonblock 2>/dev/null; echo full; exec \"$HELPER\" lease acquire --ttl 2h deploy >&3";
    let mut acquire = machine.start_script(script);
    assert_eq!(acquire.read_line(), "full");
    wait_until("the lease is granted", || !is_free(&machine));
    assert!(seconds_left(&machine) <= 30);
    send_signal(acquire.pid(), "KILL");
    assert_eq!(acquire.wait(), 137);
    assert!(seconds_left(&machine) <= 30);
}

#[test]
fn a_run_that_was_frozen_for_longer_than_its_lease_has_ended_its_command() {
    let service = LockService::start(&[]);
    let machine = Machine::with_short_leases(&service.url());
    let name = format!("frozen-{}", std::process::id());
    // The program between the shell and the end gets the signal, too.
    let script = "trap '' TERM; bash -c 'echo $$; while :; do read -r -t 0.05 _ <>gate; done'; echo went on";
    machine.make_gate();
    let mut run = machine.start_helper(&["lease", "run", &name, "--", "bash", "-c", script]);
    let program: u32 = run.read_line().parse().unwrap();
    let shell = parent_pid(program);
    let mut frozen = FrozenProcesses(Vec::new());
    // The guard replaces a courier that is late, so it is stopped before the courier.
    let (guard, courier) = find_keepers_of_run(&name, run.pid());
    for pid in [guard, courier, run.pid(), shell, program] {
        frozen.stop(pid);
    }
    assert_eq!(
        find_keepers_of_run(&name, run.pid()),
        (guard, courier),
        "the courier was replaced before the guard stopped"
    );
    let id = machine.lease(&["acquire", "-t", "100", "--ttl", "1h", &name]).status(0).out;
    // The guard continues last, because it kills all others. So the command runs before it gets the signal.
    frozen.thaw();
    assert_eq!(run.wait(), 137);
    wait_until("the command has ended", || !is_alive(shell) && !is_alive(program));
    assert_eq!(run.try_read_line(), None);
    // The lease of the other process is not touched.
    machine.lease(&["renew", id.trim()]).status(0);
}

#[test]
fn a_run_that_is_killed_before_there_is_a_keeper_leaves_a_lease_that_ends_by_itself() {
    let service = LockService::start(&[]);
    let machine = Machine::with_short_leases(&service.url());
    // The first pipe of the process is the one to its keeper. `-D` makes strace a grandchild, and the keeper the child.
    let mut command = machine.program("strace");
    command.args(["-D", "-qqq", "-o", "/dev/null", "-e", "inject=pipe2:signal=KILL:when=1", KEEPER]);
    command.args(["lease", "run", "deploy", "--", "echo", "ran"]);
    let mut run = RunningScript::start(command);
    assert_eq!(run.wait(), 137);
    assert!(!is_free(&machine) && seconds_left(&machine) <= 10);
    wait_until("the lease has ended", || is_free(&machine));
    assert_eq!(run.try_read_line(), None);
}

#[test]
fn a_command_that_closes_its_descriptors_gets_signals_and_learns_of_the_loss_of_the_lease() {
    let service = LockService::start(&[]);
    let machine = Machine::with_short_leases(&service.url());
    machine.make_gate();
    let script = "for fd in /proc/$$/fd/*; do fd=${fd##*/}; if ((fd >= 200 && fd < 255)); then exec {fd}>&-; fi; done
        trap 'echo told; exit 4' INT TERM; echo held; while :; do read -r -t 0.05 _ <>gate; done";
    for is_lost in [false, true] {
        let mut run = machine.start_helper(&["lease", "run", "deploy", "--", "bash", "-c", script]);
        assert_eq!(run.read_line(), "held");
        if is_lost {
            lose_lease(&machine);
        } else {
            send_signal(run.pid(), "INT");
        }
        assert_eq!((run.read_line(), run.wait()), ("told".to_owned(), 4));
        assert!(is_free(&machine));
    }
}
