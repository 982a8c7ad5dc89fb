//! The reaction to a lost lease (`--on-lost`), and the message about it.

use crate::etcd::Etcd;
use crate::machine::Machine;
use crate::process::{TEST_LIMIT, is_alive, wait_until};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

/// Ends the only lease, as another user could.
fn end_lease(etcd: &Etcd, machine: &Machine) {
    let key = etcd.read_leases().pop().unwrap();
    machine.lease(&["release", &key]).status(0);
}

#[test]
fn the_option_chooses_the_reaction_to_a_lost_lease() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let script = |how: &str| {
        let text = format!("aba_lock_operation --on-lost '{how}' deploy; echo held; read -r _; echo done");
        let script = machine.start_script(&text);
        assert_eq!(script.read_line(), "held");
        end_lease(&etcd, &machine);
        script
    };
    let mut warned = script("warn");
    assert!(warned.read_error().contains("the lease on deploy at etcd://"));
    warned.send_line();
    assert_eq!(warned.read_line(), "done");
    assert_eq!(warned.wait(), 0);
    let mut ran = script("echo $1 $ABA_LOCK_NAME $ABA_LOCK_PID >$HOME/ran");
    assert!(ran.read_error().contains("; running `echo $1 $ABA_LOCK_NAME $ABA_LOCK_PID >$HOME/ran`"));
    let text = format!("deploy deploy {}\n", ran.pid());
    wait_until("the command has run", || std::fs::read_to_string(machine.path("ran")).is_ok_and(|ran| ran == text));
    ran.send_line();
    assert_eq!(ran.read_line(), "done");
    assert_eq!(ran.wait(), 0);
    let mut ended = script("term");
    assert!(ended.read_error().contains(&format!("; ending pid {}", ended.pid())));
    assert_eq!(ended.wait(), 143);
}

#[test]
fn an_invalid_reaction_is_refused_and_a_failing_command_ends_the_script() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    for how in ["tem", "/nowhere/notify", "./notify", "notify.sh"] {
        machine
            .aba(&["lock", "--on-lost", how, "deploy", "--", "echo", "ran"])
            .status(2)
            .err(&format!("aba-lock: command not found: {how} (to run if the lease is lost)"))
            .err("hint: ");
    }
    let wrong = machine
        .program("bash")
        .env("ABA_LOCK_ON_LOST", "wran")
        .args(["-c", "source \"$LIBRARY\"; aba_lock_operation a; echo ran"])
        .output()
        .unwrap();
    assert_eq!((wrong.status.code(), wrong.stdout.as_slice()), (Some(2), &b""[..]));
    assert_eq!(etcd.read_keys(), Vec::<String>::new());
    for how in ["TERM", "Term", "exit 3", "no-such-command now", "/bin/false"] {
        let text = format!("aba_lock_operation --on-lost '{how}' deploy; echo held; read -r _; echo done");
        let mut script = machine.start_script(&text);
        assert_eq!(script.read_line(), "held");
        end_lease(&etcd, &machine);
        assert_eq!(script.wait(), 143, "{how}");
    }
    // After a command of one word that succeeds, the script goes on.
    let mut spared =
        machine.start_script("aba_lock_operation --on-lost /bin/true deploy; echo held; read -r _; echo done");
    assert_eq!(spared.read_line(), "held");
    end_lease(&etcd, &machine);
    assert!(spared.read_error().contains("; running `/bin/true`"));
    spared.send_line();
    assert_eq!(spared.read_line(), "done");
    assert_eq!(spared.wait(), 0);
}

#[test]
fn the_message_is_written_to_a_stderr_that_is_a_socket() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(TEST_LIMIT)).unwrap();
    let script =
        "exec 2>&0 </dev/null; source \"$LIBRARY\"; aba_lock_operation --on-lost warn deploy; echo held; exec sleep 60";
    let mut command = machine.program("bash");
    command.args(["-c", script]).stdin(OwnedFd::from(theirs)).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut held = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut held).unwrap();
    assert_eq!(held, "held\n");
    end_lease(&etcd, &machine);
    let mut said = String::new();
    BufReader::new(ours).read_line(&mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.starts_with("aba-lock: the lease on deploy at etcd://"), "{said:?}");
}

#[test]
fn a_command_that_runs_too_long_is_killed_with_the_script() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let how = "sleep 300 & echo $$ $! >$HOME/ran.new; mv $HOME/ran.new $HOME/ran; wait";
    let text = format!("aba_lock_operation --on-lost '{how}' deploy; echo held; read -r _; echo done");
    let mut script = machine.start_script(&text);
    assert_eq!(script.read_line(), "held");
    end_lease(&etcd, &machine);
    assert_ne!(script.wait(), 0);
    let ran = std::fs::read_to_string(machine.path("ran")).unwrap();
    let pids: Vec<u32> = ran.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{ran:?}");
    wait_until("the command and its child have ended", || !pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_script_does_not_overwrite_the_message_in_a_stderr_that_is_a_file() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let script = "exec 2>\"$HOME/err\"; echo before >&2; aba_lock_operation --on-lost warn deploy; echo held; read -r _
        echo after >&2";
    let mut script = machine.start_script(script);
    assert_eq!(script.read_line(), "held");
    end_lease(&etcd, &machine);
    let said = || std::fs::read_to_string(machine.path("err")).unwrap();
    wait_until("the message is written", || said().contains("or was released\n"));
    script.send_line();
    assert_eq!(script.wait(), 0);
    let said = said();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[2]), (3, "before", "after"), "{said:?}");
    assert!(lines[1].starts_with("aba-lock: the lease on deploy at etcd://"), "{said:?}");
}

#[test]
fn a_script_whose_stderr_is_a_full_pipe_is_ended_too() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let script = "exec 2<>'gate'; aba_lock_operation deploy
        dd if=/dev/zero of=gate bs=4096 oflag=nonblock 2>/dev/null; echo held; read -r _";
    machine.make_gate();
    let mut script = machine.start_script(script);
    assert_eq!(script.read_line(), "held");
    end_lease(&etcd, &machine);
    assert_eq!(script.wait(), 143);
}
