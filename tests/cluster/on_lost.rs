//! What a script is told when its lease is lost, and what is done then: `--on-lost`.

use crate::scene::{Etcd, Machine, PATIENCE, is_alive, until};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

#[test]
fn what_happens_when_a_lease_is_lost_can_be_chosen() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let script = |how: &str| {
        let text = format!("aba_lock_operation --on-lost '{how}' deploy; echo held; read -r _; echo done");
        let script = machine.script(&text);
        assert_eq!(script.line(), "held");
        // By somebody else.
        let key = etcd.leases().pop().unwrap();
        machine.aba(&["lease", "release", &key]).status(0);
        script
    };
    let mut warned = script("warn");
    assert!(warned.error().contains("the lease on deploy is gone from etcd://"));
    warned.go();
    assert_eq!(warned.line(), "done");
    assert_eq!(warned.end(), 0);
    let mut ran = script("echo $1 $ABA_LOCK_NAME $ABA_LOCK_PID >$HOME/ran");
    assert!(ran.error().contains("; running `echo $1 $ABA_LOCK_NAME $ABA_LOCK_PID >$HOME/ran`"));
    let text = format!("deploy deploy {}\n", ran.pid());
    until("the command has run", || std::fs::read_to_string(machine.path("ran")).is_ok_and(|ran| ran == text));
    ran.go();
    assert_eq!(ran.line(), "done");
    assert_eq!(ran.end(), 0);
    let mut ended = script("term");
    assert!(ended.error().contains(&format!("; ending pid {}", ended.pid())));
    assert_eq!(ended.end(), 143);
}

#[test]
fn a_way_to_meet_a_loss_that_cannot_work_is_found_at_once_or_else_the_script_is_ended() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    for how in ["tem", "/nowhere/notify", "./notify", "notify.sh"] {
        machine
            .aba(&["lock", "--on-lost", how, "deploy", "--", "echo", "ran"])
            .status(2)
            .err(&format!("aba-lock: {how} is no command"))
            .err("hint: ");
    }
    let wrong = machine
        .program("bash")
        .env("ABA_LOCK_ON_LOST", "wran")
        .args(["-c", "source \"$LIBRARY\"; aba_lock_operation a; echo ran"])
        .output()
        .unwrap();
    assert_eq!((wrong.status.code(), wrong.stdout.as_slice()), (Some(2), &b""[..]));
    assert_eq!(etcd.keys(), Vec::<String>::new());
    for how in ["TERM", "Term", "exit 3", "no-such-command now", "/bin/false"] {
        let text = format!("aba_lock_operation --on-lost '{how}' deploy; echo held; read -r _; echo done");
        let mut script = machine.script(&text);
        assert_eq!(script.line(), "held");
        let key = etcd.leases().pop().unwrap();
        machine.aba(&["lease", "release", &key]).status(0);
        assert_eq!(script.end(), 143, "{how}");
    }
    // A command of one word that works is done with it.
    let mut spared = machine.script("aba_lock_operation --on-lost /bin/true deploy; echo held; read -r _; echo done");
    assert_eq!(spared.line(), "held");
    let key = etcd.leases().pop().unwrap();
    machine.aba(&["lease", "release", &key]).status(0);
    assert!(spared.error().contains("; running `/bin/true`"));
    spared.go();
    assert_eq!(spared.line(), "done");
    assert_eq!(spared.end(), 0);
}

#[test]
fn a_script_whose_stderr_is_a_socket_is_told_there() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let script =
        "exec 2>&0 </dev/null; source \"$LIBRARY\"; aba_lock_operation --on-lost warn deploy; echo held; exec sleep 60";
    let mut command = machine.program("bash");
    command.args(["-c", script]).stdin(OwnedFd::from(theirs)).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut held = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut held).unwrap();
    assert_eq!(held, "held\n");
    let key = etcd.leases().pop().unwrap();
    machine.aba(&["lease", "release", &key]).status(0);
    let mut said = String::new();
    BufReader::new(ours).read_line(&mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.starts_with("aba-lock: the lease on deploy is gone from etcd://"), "{said:?}");
}

#[test]
fn a_command_that_does_not_end_is_ended_with_the_script_when_the_time_is_over() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let how = "sleep 300 & echo $$ $! >$HOME/ran.new; mv $HOME/ran.new $HOME/ran; wait";
    let text = format!("aba_lock_operation --on-lost '{how}' deploy; echo held; read -r _; echo done");
    let mut script = machine.script(&text);
    assert_eq!(script.line(), "held");
    let key = etcd.leases().pop().unwrap();
    machine.aba(&["lease", "release", &key]).status(0);
    assert_ne!(script.end(), 0);
    let ran = std::fs::read_to_string(machine.path("ran")).unwrap();
    let pids: Vec<u32> = ran.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2, "{ran:?}");
    until("the command has ended, and what it has started", || !pids.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_script_whose_stderr_is_a_file_does_not_write_over_what_it_was_told() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let script = "exec 2>\"$HOME/err\"; echo before >&2; aba_lock_operation --on-lost warn deploy; echo held; read -r _
        echo after >&2";
    let mut script = machine.script(script);
    assert_eq!(script.line(), "held");
    let key = etcd.leases().pop().unwrap();
    machine.aba(&["lease", "release", &key]).status(0);
    let said = || std::fs::read_to_string(machine.path("err")).unwrap();
    until("it is told", || said().contains(" ended it\n"));
    script.go();
    assert_eq!(script.end(), 0);
    let said = said();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[2]), (3, "before", "after"), "{said:?}");
    assert!(lines[1].starts_with("aba-lock: the lease on deploy is gone from etcd://"), "{said:?}");
}

#[test]
fn a_script_whose_stderr_is_a_pipe_that_nobody_reads_is_ended_all_the_same() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let script = "exec 2<>'gate'; aba_lock_operation deploy
        dd if=/dev/zero of=gate bs=4096 oflag=nonblock 2>/dev/null; echo held; read -r _";
    machine.gate();
    let mut script = machine.script(script);
    assert_eq!(script.line(), "held");
    let key = etcd.leases().pop().unwrap();
    machine.aba(&["lease", "release", &key]).status(0);
    assert_eq!(script.end(), 143);
}
