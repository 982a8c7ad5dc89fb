//! Keys of other programs in the same etcd, and the mark of a holder.

use crate::etcd::Etcd;
use crate::machine::Machine;
use crate::process::{run_to_end, send_signal, wait_until};

/// Returns the value of a key.
fn read_value(etcd: &Etcd, key: &str) -> String {
    run_to_end(&mut etcd.ctl(&["get", "--print-value-only", key])).status(0).out.trim_end().to_owned()
}

fn put_value(etcd: &Etcd, key: &str, value: &str) {
    run_to_end(&mut etcd.ctl(&["put", key, value])).status(0);
}

/// Returns the number of the lease that the mark of a holder is under; 0 if there is no mark.
fn read_mark_lease(etcd: &Etcd) -> u64 {
    let said = run_to_end(&mut etcd.ctl(&["get", "deploy!holder", "-w", "json"])).status(0);
    let said: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    said["kvs"][0]["lease"].as_u64().unwrap_or(0)
}

#[test]
fn foreign_keys_are_not_changed_and_do_not_block_a_lock() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    for (key, text) in [("version", "release 12"), ("myapp", "v1"), ("cfg/db-url", "x"), ("cfg/ff", "y")] {
        put_value(&etcd, key, text);
        let name = key.split('/').next().unwrap();
        machine.aba(&["lock", "-n", name, "--", "echo", "ran"]).status(0).out("ran\n").silent();
        wait_until("the lease is given back", || machine.lease(&["show", name]).status == 1);
        machine.lease(&["acquire", "-n", name]).status(0);
        machine.aba(&["lock", "-n", name, "--", "true"]).status(75).err(&format!("{name} is already running: pid "));
        machine.aba(&["lock", "-t", "3", name, "--", "true"]).status(124);
        let id = machine.lease(&["show", "--json", name]).status(0).out;
        let id: serde_json::Value = serde_json::from_str(&id).unwrap();
        machine.lease(&["release", id["holder"]["lease"].as_str().unwrap()]).status(0);
        machine.lease(&["show", name]).status(1);
        assert_eq!(read_value(&etcd, key), text, "{key}");
    }
    // A key that looks like a lease, but has no lease.
    machine.lease(&["release", "cfg/ff"]);
    assert_eq!(read_value(&etcd, "cfg/ff"), "y");
}

#[test]
fn a_waiter_between_foreign_keys_gets_the_lock_when_it_is_free() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    put_value(&etcd, "deploy/settings", "x");
    let held = machine.lease(&["acquire", "deploy"]).status(0).out;
    put_value(&etcd, "deploy/more", "x");
    let mut waiter = machine.start_helper(&["lease", "acquire", "-w", "deploy"]);
    assert!(waiter.read_error().contains("held by pid "));
    machine.lease(&["release", held.trim()]).status(0);
    let id = waiter.read_line();
    assert_eq!(waiter.wait(), 0);
    // A prefix may have the name of a lock.
    let team = Machine::new(&format!("{}/deploy", etcd.url()));
    team.lease(&["acquire", "deploy"]).status(0);
    machine.lease(&["release", &id]).status(0);
    machine.lease(&["acquire", "deploy"]).status(0);
}

#[test]
fn a_foreign_key_in_the_place_of_a_mark_is_kept_and_reported() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    for text in ["v1", "release 12", r#"{"holder":"deploy/1f","of":"aba-lock","term":2}"#] {
        put_value(&etcd, "deploy!holder", text);
        for how in ["-n", "-w"] {
            machine
                .aba(&["lock", how, "deploy", "--", "echo", "ran"])
                .status(125)
                .err("the key deploy!holder in etcd was not written by aba-lock")
                .err("hint: ");
        }
        assert_eq!((read_value(&etcd, "deploy!holder"), etcd.read_leases()), (text.to_owned(), Vec::new()));
    }
}

#[test]
fn after_a_crash_the_name_is_free_after_twice_the_time_to_live_without_any_waiter() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::with_short_leases(&etcd.url()), Machine::with_short_leases(&etcd.url()));
    let mut script = one.start_holder("deploy");
    one.kill_keepers("deploy");
    send_signal(script.pid(), "KILL");
    script.wait();
    wait_until("nothing is left", || etcd.read_keys().is_empty());
    other.aba(&["lock", "-n", "deploy", "--", "true"]).status(0).silent();
}

#[test]
fn the_mark_moves_to_a_new_lease_after_each_election() {
    let etcd = Etcd::start(3);
    // The election of the next leader may take some seconds before the keeper ends the holder.
    let machine = Machine::new(&etcd.url()).with("ABA_LOCK_TTL", "20s");
    let mut holder = machine.start_holder("deploy");
    let wait_for_move = |before: u64| {
        let mut now = 0;
        wait_until("the mark is under another lease", || {
            now = read_mark_lease(&etcd);
            now != 0 && now != before
        });
        now
    };
    // The mark is made before its term is known, so the first renewal moves it.
    let first = wait_for_move(0);
    let known = wait_for_move(first);
    let leader = etcd.find_leader();
    etcd.freeze(leader);
    // When it continues, the stopped leader may end the leases that it knew.
    wait_for_move(known);
    etcd.thaw(leader);
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
    wait_until("nothing is left", || etcd.read_keys().is_empty());
}
