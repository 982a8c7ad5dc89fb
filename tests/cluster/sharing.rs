//! Shared locks and slots of scripts at a server.

use crate::etcd::{Etcd, EtcdVersion};
use crate::machine::{Machine, find_helper};
use crate::process::{TEST_LIMIT, send_signal, wait_until};
use crate::service::LockService;
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The holders that `lease show --json` prints.
fn read_holders(machine: &Machine, name: &str) -> Vec<Value> {
    let shown: Value = serde_json::from_str(&machine.lease(&["show", "--json", name]).out).unwrap();
    shown["holders"].as_array().unwrap().clone()
}

/// A script that holds a lock with these options, and prints its token and its slot.
fn hold(options: &str) -> String {
    format!(
        "aba_lock_operation {options} deploy; echo \"$ABA_LOCK_TOKEN/${{ABA_LOCK_SLOT-}}\"; read -r _
        aba_lock_check deploy; echo \"check $?\""
    )
}

/// Runs a check with a service, and with both versions of etcd.
fn over_all_servers(check: impl Fn(&str)) {
    let service = LockService::start(&[]);
    check(&service.url());
    for version in [EtcdVersion::Installed, EtcdVersion::New] {
        let etcd = Etcd::start_with(1, version, "http", &[]);
        check(&etcd.url());
    }
}

#[test]
fn scripts_on_one_machine_and_on_another_share_a_lease() {
    over_all_servers(|server| {
        let (one, other) = (Machine::new(server), Machine::new(server));
        let mut scripts = [&one, &one, &other].map(|machine| machine.start_script(&hold("--shared")));
        let tokens: Vec<u64> =
            scripts.iter().map(|script| script.read_line().strip_suffix('/').unwrap().parse().unwrap()).collect();
        assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2] && tokens[0] != tokens[2], "{tokens:?}");
        assert_eq!(read_holders(&one, "deploy").len(), 3);
        other.lease(&["show", "deploy"]).status(0).out(" (shared)");
        let third = Machine::new(server);
        third.aba(&["lock", "deploy", "--", "true"]).status(75).err("aba-lock: deploy is ").err("(shared)");
        // Each script has a keeper of its own, and ends its own lease.
        scripts[0].send_line();
        assert_eq!(scripts[0].read_line(), "check 0");
        assert_eq!(scripts[0].wait(), 0);
        wait_until("one lease is given back", || read_holders(&one, "deploy").len() == 2);
        send_signal(scripts[1].pid(), "KILL");
        scripts[1].wait();
        wait_until("another lease is given back", || read_holders(&one, "deploy").len() == 1);
        scripts[2].send_line();
        assert_eq!(scripts[2].read_line(), "check 0");
        scripts[2].wait();
        wait_until("the lease is free", || other.lease(&["show", "deploy"]).status == 1);
        other.aba(&["lock", "-w", "deploy", "--", "true"]).status(0).silent();
    });
}

#[test]
fn slots_are_counted_over_all_machines_and_each_script_gets_another_number() {
    over_all_servers(|server| {
        let (one, other) = (Machine::new(server), Machine::new(server));
        let mut scripts = [&one, &other].map(|machine| machine.start_script(&hold("--slots 2")));
        let mut slots: Vec<String> =
            scripts.iter().map(|script| script.read_line().split_once('/').unwrap().1.to_owned()).collect();
        slots.sort();
        assert_eq!(slots, ["1", "2"]);
        let number = ", and 1 more; 2 of 2 slots are held\nhint: ";
        other.aba(&["lock", "--slots", "2", "deploy", "--", "true"]).status(75).err(" (slot ").err(number);
        let exclusive = Machine::new(server).aba(&["lock", "deploy", "--", "true"]).status(75);
        exclusive.err(" of 2), and 1 more; 2 of 2 slots are held\nhint: ");
        let said = other.aba(&["lock", "-w", "--slots", "3", "x", "--", "sh", "-c", "echo $ABA_LOCK_SLOT"]);
        assert_eq!(said.status(0).silent().out, "1\n");
        one.aba(&["lease", "acquire", "-w", "--slots", "3", "deploy"])
            .status(75)
            .err("deploy is held with --slots 2, so --slots 3 is refused");
        let mut waiter = other.start_script(&hold("-w --slots 2"));
        let said = waiter.read_error();
        assert!(said.contains("waiting for deploy at ") && said.ends_with("; 2 of 2 slots are held"), "{said}");
        scripts[0].send_line();
        assert_eq!(scripts[0].read_line(), "check 0");
        scripts[0].wait();
        assert_eq!(waiter.read_line().split_once('/').unwrap().1.len(), 1);
        for script in [&mut scripts[1], &mut waiter] {
            script.send_line();
            assert_eq!(script.read_line(), "check 0");
            script.wait();
        }
        wait_until("all slots are free", || other.lease(&["show", "deploy"]).status == 1);
    });
}

#[test]
fn a_script_can_give_its_share_back_and_a_nested_call_uses_it() {
    over_all_servers(|server| {
        let machine = Machine::new(server);
        let script = "source \"$LIBRARY\"; aba_lock_operation --slots 1 deploy; first=$ABA_LOCK_TOKEN
            aba_lock_operation --slots 1 deploy; [[ $ABA_LOCK_TOKEN == $first ]]; echo \"again $?\"
            bash -c 'source \"$LIBRARY\"; aba_lock_operation --slots 1 deploy; echo \"nested $ABA_LOCK_SLOT\"; aba_lock_check deploy; echo $?'
            aba_unlock_operation deploy; \"$HELPER\" lease show deploy >/dev/null; echo \"show $?\"
            aba_lock_operation --slots 1 deploy; [[ $ABA_LOCK_TOKEN -gt $first ]]; echo \"later $?\"";
        let said = machine.bash(script).status(0).silent();
        assert_eq!(said.out, "again 0\nnested 1\n0\nshow 1\nlater 0\n");
        assert!(read_holders(&machine, "deploy").is_empty());
    });
}

#[test]
fn messages_say_how_many_processes_share_a_lock() {
    over_all_servers(|server| {
        let (one, two, other) = (Machine::new(server), Machine::new(server), Machine::new(server));
        let mut scripts = [&one, &two, &two].map(|machine| machine.start_script(&hold("--shared")));
        for script in &scripts {
            script.read_line();
        }
        other.aba(&["lock", "deploy", "--", "true"]).status(75).err(" (shared), and 2 more\nhint: ");
        other.lease(&["acquire", "-t", "3", "deploy"]).status(124).err("timed out").err(" (shared), and 2 more\n");
        for script in &mut scripts[1..] {
            script.send_line();
            script.read_line();
            script.wait();
        }
        let said = other.aba(&["lock", "deploy", "--", "true"]).status(75).err(" (shared)\nhint: ");
        assert!(!said.err.contains(" more"), "{said:?}");
        scripts[0].send_line();
        scripts[0].read_line();
        scripts[0].wait();
    });
}

#[test]
fn a_lost_share_ends_only_its_own_script() {
    over_all_servers(|server| {
        let machine = Machine::with_short_leases(server);
        let mut scripts = [0, 1].map(|_| machine.start_script(&hold("--shared")));
        let tokens: Vec<u64> =
            scripts.iter().map(|script| script.read_line().strip_suffix('/').unwrap().parse().unwrap()).collect();
        let holders = read_holders(&machine, "deploy");
        let lost = holders.iter().find(|holder| holder["token"] == tokens[0]).unwrap();
        machine.lease(&["release", lost["lease"].as_str().unwrap()]).status(0);
        assert!(scripts[0].read_error().contains("the lease on deploy at "));
        assert_eq!(scripts[0].wait(), 143);
        // The other script is not touched, and its lease is still renewed.
        scripts[1].send_line();
        assert_eq!(scripts[1].read_line(), "check 0");
        assert_eq!(scripts[1].wait(), 0);
    });
}

#[test]
fn a_check_finds_that_the_keeper_of_this_script_has_ended_although_another_one_runs() {
    over_all_servers(|server| {
        let machine = Machine::new(server);
        let mut script = machine.start_script(&hold("--shared"));
        script.read_line();
        machine.kill_keepers("deploy");
        let mut other = machine.start_script(&hold("--shared"));
        other.read_line();
        for (script, check) in [(&mut script, "check 1"), (&mut other, "check 0")] {
            script.send_line();
            assert_eq!(script.read_line(), check);
            script.wait();
        }
    });
}

#[test]
fn a_shared_lock_without_a_lease_is_not_mistaken_for_one_with_a_lease() {
    over_all_servers(|server| {
        let machine = Machine::new(server);
        let mut leased = machine.start_script(&hold("--shared"));
        leased.read_line();
        let mut local = machine.start_script(&hold("--shared --server="));
        assert_eq!(local.read_line(), "/");
        local.send_line();
        assert_eq!(local.read_line(), "check 0");
        local.wait();
        assert_eq!(read_holders(&machine, "deploy").len(), 1);
        leased.send_line();
        assert_eq!(leased.read_line(), "check 0");
        leased.wait();
    });
}

/// The work of a worker while it holds the lock. The witnesses are locks of flock(2) on files that all machines have in
/// common: they show holders that exclude each other, and the kernel releases them when a worker ends.
const WORK: &str = "exec 9>>\"$WITNESS\" 8>>\"$WITNESS.${ABA_LOCK_SLOT-}\"
    case $MODE in x) flock -n 9 ;; *) flock -ns 9 ;; esac && { [ $MODE != slots ] || flock -n 8; } ||
        { echo \"overlap $MODE $ABA_LOCK_TOKEN\" >>\"$HISTORY\"; exit 1; }
    echo \"in $MODE $ABA_LOCK_TOKEN\" >>\"$HISTORY\"
    sleep 0.02";

#[test]
fn workers_in_all_modes_never_overlap_while_some_are_killed_and_frozen() {
    let seconds = std::env::var("ABA_LOCK_TORTURE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(15);
    over_all_servers(|server| {
        let directory = tempfile::tempdir().unwrap();
        let (history, witness) = (directory.path().join("history"), directory.path().join("witness"));
        let machines: Vec<Machine> = (0..3)
            .map(|_| {
                Machine::with_short_leases(server)
                    .with("WITNESS", witness.to_str().unwrap())
                    .with("HISTORY", history.to_str().unwrap())
            })
            .collect();
        let begin = Instant::now();
        // The number of workers that have ended well, for each mode. On a slow machine, the work goes on until there are some.
        let ended = [0, 1, 2].map(|_| AtomicUsize::new(0));
        let is_over = |mode: usize| {
            let limit = if ended[mode].load(Ordering::SeqCst) < 2 { TEST_LIMIT } else { Duration::from_secs(seconds) };
            begin.elapsed() >= limit
        };
        let work = |worker: usize| {
            let machine = &machines[worker % 3];
            let number = worker / 3 % 3;
            let (mode, options) =
                [("x", &[][..]), ("shared", &["--shared"][..]), ("slots", &["--slots", "2"][..])][number];
            let mut round = worker;
            while !is_over(number) {
                round += 1;
                let mut command = machine.program(find_helper());
                command
                    .args(["lock", "-q", "-w"])
                    .args(options)
                    .args(["work", "--", "bash", "-c", WORK])
                    .env("MODE", mode);
                let mut child = command.spawn().unwrap();
                if round.is_multiple_of(5) {
                    // A worker that is killed or frozen at any moment: in the queue, at the grant, or at work.
                    thread::sleep(Duration::from_millis(round as u64 * 37 % 120));
                    send_signal(child.id(), if round.is_multiple_of(2) { "KILL" } else { "STOP" });
                    thread::sleep(Duration::from_millis(50));
                    if round % 2 == 1 {
                        send_signal(child.id(), "CONT");
                    }
                }
                let status = child.wait().unwrap();
                assert!(status.success() || round.is_multiple_of(5), "{status:?}");
                if status.success() {
                    ended[number].fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        thread::scope(|scope| {
            for worker in 0..9 {
                let work = &work;
                scope.spawn(move || work(worker));
            }
        });
        let history = fs::read_to_string(&history).unwrap();
        assert!(!history.contains("overlap"), "{history}");
        for mode in ["x", "shared", "slots"] {
            assert!(history.lines().filter(|line| line.starts_with(&format!("in {mode} "))).count() > 1, "{history}");
        }
        let mut tokens: Vec<&str> = history.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        let number = tokens.len();
        tokens.sort_unstable();
        tokens.dedup();
        assert_eq!(tokens.len(), number, "a token was given out twice");
    });
}

#[test]
fn tokens_grow_when_a_lock_moves_from_one_kind_of_server_to_the_other_and_back() {
    let (service, etcd) = (LockService::start(&[]), Etcd::start(1));
    let mut last = 0;
    for server in [&service.url(), &etcd.url(), &etcd.url(), &service.url(), &etcd.url()] {
        let machine = Machine::new(server);
        for options in [&["acquire"][..], &["acquire", "--shared"], &["acquire", "--slots", "2"]] {
            let lease = machine.lease(&[options, &["--json", "deploy"]].concat()).status(0).silent().out;
            let lease: Value = serde_json::from_str(&lease).unwrap();
            let token = lease["token"].as_u64().unwrap();
            assert!(token > last, "{token} after {last} at {server}");
            assert_eq!(read_holders(&machine, "deploy")[0]["token"], token);
            last = token;
            machine.lease(&["release", lease["lease"].as_str().unwrap()]).status(0);
        }
    }
}

#[test]
fn a_holder_of_a_slot_that_was_frozen_for_longer_than_its_lease_is_killed_alone() {
    over_all_servers(|server| {
        let (one, other) = (Machine::with_short_leases(server), Machine::with_short_leases(server));
        let mut frozen = one.start_script(&hold("--slots 2"));
        frozen.read_line();
        let keepers = one.wait_for_keepers("deploy");
        let mut second = one.start_script(&hold("--slots 2"));
        second.read_line();
        for pid in keepers.iter().copied().chain([frozen.pid()]) {
            send_signal(pid, "STOP");
        }
        // Its slot becomes free, and the other one is still renewed.
        let mut next = other.start_script(&hold("-q -t 100 --slots 2"));
        let (token, slot) =
            next.read_line().split_once('/').map(|(token, slot)| (token.to_owned(), slot.to_owned())).unwrap();
        assert!(token.parse::<u64>().is_ok() && ["1", "2"].contains(&slot.as_str()), "{token}/{slot}");
        // Only the guard is thawed: the script can only continue if the guard lets it.
        send_signal(keepers[0], "CONT");
        assert_eq!(frozen.wait(), 137);
        for script in [&mut second, &mut next] {
            script.send_line();
            assert_eq!(script.read_line(), "check 0");
            assert_eq!(script.wait(), 0);
        }
    });
}
