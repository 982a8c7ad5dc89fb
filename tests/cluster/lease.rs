//! Leases by themselves, in etcd: the queue, its fairness, and what is lost on the way.

use crate::scene::{Etcd, Machine, Script, Version, said, signal, until};
use std::process::Command;

fn lease(machine: &Machine, args: &[&str]) -> crate::scene::Said {
    let mut words = vec!["lease"];
    words.extend(args);
    machine.aba(&words)
}

#[test]
fn who_has_a_lease_shuts_all_others_out_until_it_is_released_and_the_tokens_grow() {
    for version in [Version::Installed, Version::New] {
        let etcd = Etcd::start_with(1, version, "http", &[]);
        let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
        let first = lease(&one, &["acquire", "deploy", "--who", "nightly", "--json"]).status(0).silent();
        let first: serde_json::Value = serde_json::from_str(&first.out).unwrap();
        assert_eq!((&first["name"], &first["ttl_seconds"]), (&"deploy".into(), &10.into()));
        let id = first["lease"].as_str().unwrap();
        lease(&other, &["acquire", "deploy"])
            .status(75)
            .out("")
            .err("aba-lock: deploy is already running: pid ")
            .err("(nightly)")
            .err("hint: wait for it with `--wait`");
        lease(&other, &["acquire", "-t", "0.2", "deploy"])
            .status(124)
            .err("timed out waiting for deploy, held by pid ");
        // Who was refused left nothing in the queue.
        assert_eq!(etcd.keys(), [id]);
        lease(&other, &["show", "deploy"]).status(0).out("deploy: held at etcd://").out(" (nightly), for ").silent();
        lease(&other, &["list"]).status(0).out("\ndeploy ");
        let shown = lease(&other, &["show", "--json", "deploy"]).status(0).out;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["state"], &shown["holder"]["token"]), (&"held".into(), &first["token"]));
        assert_eq!(shown["holder"]["owner"]["who"], "nightly");
        lease(&one, &["renew", id]).status(0).out("").silent();
        lease(&one, &["release", id]).status(0).out("").silent();
        lease(&one, &["release", id]).status(0).silent();
        lease(&one, &["renew", id]).status(75).err("is lost");
        lease(&other, &["show", "deploy"]).status(1).out("deploy: free at etcd://");
        let second = lease(&other, &["acquire", "deploy", "--json"]).status(0).out;
        let second: serde_json::Value = serde_json::from_str(&second).unwrap();
        assert!(second["token"].as_u64() > first["token"].as_u64(), "{second} after {first}");
    }
}

#[test]
fn a_lease_that_nobody_renews_ends_by_itself() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    lease(&machine, &["acquire", "deploy"]).status(0);
    lease(&machine, &["acquire", "-t", "40", "deploy"]).status(0).err("waiting for deploy at etcd://");
}

#[test]
fn the_list_names_a_lock_whose_lease_was_lost_as_show_does() {
    let etcd = Etcd::start(1);
    for server in [etcd.url(), format!("{}/team", etcd.url())] {
        let machine = Machine::new(&server);
        let mut script = machine.script("aba_lock_operation deploy; echo held; read -r _");
        assert_eq!(script.line(), "held");
        until("both are there", || machine.keepers("deploy").len() == 2);
        let keepers = machine.keepers("deploy");
        for pid in &keepers {
            signal(pid, "STOP");
        }
        let key = etcd.leases().pop().unwrap();
        said(&mut etcd.ctl(&["lease", "revoke", key.rsplit_once('/').unwrap().1])).status(0);
        lease(&machine, &["show", "deploy"]).status(0).out("whose lease was lost");
        lease(&machine, &["list"]).status(0).out("\ndeploy ").out("whose lease was lost");
        let listed = lease(&machine, &["list", "--json"]).status(0).out;
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"deploy".into(), &"held".into()));
        // The guard last: it ends a courier that is late.
        for pid in keepers.iter().rev() {
            signal(pid, "CONT");
        }
        assert_eq!(script.end(), 143);
        until("nothing is left", || etcd.keys().is_empty());
    }
}

#[test]
fn what_cannot_be_is_refused_and_said() {
    let machine = Machine::new("");
    lease(&machine, &["acquire", "deploy"]).status(2).err("no server is given").err("hint: say `--server URL`");
    lease(&machine, &["acquire", "--server", "redis://h", "deploy"]).status(2).err("is not the address of a server");
    lease(&machine, &["acquire", "--server", "etcd://me:secret@h", "d"])
        .status(2)
        .err("no place for a password")
        .err("ABA_LOCK_SERVER_SECRET_FILE");
    lease(&machine, &["acquire", "--server", "etcd://h", "--ttl", "9", "d"]).status(2).err("at least 10 s");
    lease(&machine, &["acquire", "--server", "etcd://h", "a/b"]).status(2);
    // Nobody listens there, and nothing is locked.
    let port = crate::scene::free_ports(1)[0];
    let server = format!("etcd://127.0.0.1:{port}");
    lease(&machine, &["show", "--server", &server, "d"]).status(125).err("no server of leases answers");
    lease(&machine, &["acquire", "--server", &server, "-t", "0.5", "d"]).status(125).err("no server of leases answers");
}

#[test]
fn etcds_own_client_and_ours_stand_in_one_queue() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    // It has it first.
    let theirs = || {
        // It does not hand its input on.
        let script = format!("echo held; read _ <'{}'", machine.gate().display());
        let mut command: Command = etcd.ctl(&["lock", "deploy", "--ttl", "10", "--", "sh", "-c", &script]);
        command.env_remove("ABA_LOCK_SERVER");
        Script::start(command)
    };
    let mut first = theirs();
    assert_eq!(first.line(), "held");
    lease(&machine, &["acquire", "deploy"])
        .status(75)
        .err("deploy is held by deploy/")
        .err("whose program left no word");
    let mut second = Script::start(waits(&machine));
    until("we wait", || etcd.leases().len() == 2);
    let mut third = theirs();
    until("it waits", || etcd.leases().len() == 3);
    machine.open_gate();
    first.end();
    // In their order: we come before it.
    let id = second.line();
    assert_eq!(second.end(), 0);
    assert!(third.has_said().is_none());
    lease(&machine, &["release", &id]).status(0);
    assert_eq!(third.line(), "held");
    machine.open_gate();
    third.end();
    until("nothing is left", || etcd.keys().is_empty());
}

fn waits(machine: &Machine) -> Command {
    let mut command = machine.program(crate::scene::helper());
    command.args(["lease", "acquire", "-w", "deploy"]);
    command
}

#[test]
fn who_was_stopped_in_the_queue_until_its_lease_had_ended_does_not_claim_what_another_has() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let first = lease(&machine, &["acquire", "deploy", "--ttl", "60"]).status(0).out;
    let mut stopped = Script::start(waits(&machine));
    until("it waits", || etcd.leases().len() == 2);
    crate::scene::signal(stopped.pid(), "STOP");
    until("its lease has ended", || etcd.leases().len() == 1);
    lease(&machine, &["release", first.trim()]).status(0);
    let second = lease(&machine, &["acquire", "deploy"]).status(0).out;
    crate::scene::signal(stopped.pid(), "CONT");
    // It stands there again, behind the other.
    until("it waits again", || etcd.leases().len() == 2);
    assert!(stopped.has_said().is_none());
    lease(&machine, &["release", second.trim()]).status(0);
    let third = stopped.line();
    assert_eq!(stopped.end(), 0);
    lease(&machine, &["release", &third]).status(0);
}

#[test]
fn a_wait_that_a_signal_ends_leaves_nobody_waiting_for_it() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    lease(&machine, &["acquire", "deploy", "--ttl", "60"]).status(0);
    for (name, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut waiter = Script::start(waits(&machine));
        until("it waits", || etcd.leases().len() == 2);
        assert!(waiter.error().contains("waiting for deploy"));
        crate::scene::signal(waiter.pid(), name);
        assert_eq!(waiter.end(), status, "{name}");
        assert_eq!(etcd.leases().len(), 1, "{name}");
    }
}

#[test]
fn a_prefix_keeps_the_names_of_one_team_from_those_of_another() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&format!("{}/team/a", etcd.url())), Machine::new(&etcd.url()));
    let id = lease(&one, &["acquire", "deploy"]).status(0).out;
    assert!(id.starts_with("team/a/deploy/"), "{id}");
    lease(&other, &["acquire", "deploy"]).status(0);
    lease(&one, &["list", "--json"]).status(0).out("team/a/deploy/");
    let listed = lease(&one, &["list"]).status(0).out;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    lease(&one, &["release", id.trim()]).status(0);
    // What is no lease is none of ours.
    assert!(said(&mut etcd.ctl(&["put", "team/a/deploy/ff", "data"])).status == 0);
    assert_eq!(lease(&one, &["list"]).status(0).out, "");
}
