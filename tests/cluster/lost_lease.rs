//! Leases that are lost, and answers: who is told, when, and that nobody else has it before that.

use crate::relay::Relay;
use crate::scene::{Etcd, Machine, RUNS, Version, is_alive, said, signal, until};
use std::thread;
use std::time::Duration;

/// Runs until it is ended, and says when it is told.
const STUBBORN: &str = "trap 'echo told' TERM; aba_lock_operation deploy; echo held; while :; do sleep 0.05; done";

#[test]
fn a_script_that_is_cut_off_is_told_and_has_ended_before_another_has_the_lock() {
    for version in [Version::Installed, Version::New] {
        let etcd = Etcd::start_with(1, version, "http", &[]);
        let relay = Relay::to(etcd.port(0));
        let far = Machine::new(&format!("etcd://127.0.0.1:{}", relay.port));
        let near = Machine::new(&etcd.url());
        let mut script = far.script(STUBBORN);
        assert_eq!(script.line(), "held");
        let next = format!("{RUNS}; aba_lock_operation -q -t 50 deploy; runs {}; echo \"alive: $?\"", script.pid());
        let mut other = near.script(&next);
        until("it waits", || etcd.leases().len() == 2);
        relay.cut();
        assert_eq!(script.line(), "told");
        assert!(other.has_said().is_none());
        assert!(script.error().contains("aba-lock: the lease on deploy could not be renewed at etcd://"));
        // It goes on all the same.
        assert_eq!(script.end(), 137);
        assert_eq!(other.line(), "alive: 1");
        assert_eq!(other.end(), 0);
    }
}

#[test]
fn while_all_servers_are_frozen_a_script_is_told_in_time_and_one_that_heeds_it_ends_by_itself() {
    let etcd = Etcd::start(3);
    let machine = Machine::new(&etcd.url());
    let script = "trap 'echo told; exit 5' TERM; aba_lock_operation deploy; echo held; while :; do sleep 0.05; done";
    let mut script = machine.script(script);
    assert_eq!(script.line(), "held");
    for node in 0..3 {
        etcd.freeze(node);
    }
    assert_eq!(script.line(), "told");
    assert_eq!(script.end(), 5);
    for node in 0..3 {
        etcd.thaw(node);
    }
    // What nobody could give back ends by itself.
    until("the lease has ended", || etcd.keys().is_empty());
}

#[test]
fn while_the_leader_is_frozen_the_lease_is_renewed_by_the_others() {
    let etcd = Etcd::start(3);
    let machine = Machine::new(&etcd.url());
    let mut holder = machine.holder("deploy");
    let key = etcd.leases();
    let leader = etcd.leader();
    etcd.freeze(leader);
    thread::sleep(Duration::from_secs(13));
    assert!(holder.runs(), "{}", holder.error());
    etcd.thaw(leader);
    // It takes itself for the leader for a moment.
    thread::sleep(Duration::from_secs(11));
    assert!(holder.runs(), "{}", holder.error());
    assert_eq!(etcd.leases(), key);
    holder.go();
    assert_eq!(holder.line(), "done");
    assert_eq!(holder.end(), 0);
}

#[test]
fn a_leader_that_goes_on_after_it_was_frozen_cannot_have_two_have_the_lock() {
    // It may revoke a lease that others have renewed meanwhile, as it believes that it has ended; and after twice the time
    // all that it knew, that of the mark too.
    for frozen in [12, 22] {
        let etcd = Etcd::start(3);
        let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
        let mut script = one.script(STUBBORN);
        assert_eq!(script.line(), "held");
        let next = format!("{RUNS}; aba_lock_operation -q -t 50 deploy; runs {}; echo \"alive: $?\"", script.pid());
        let mut other = other.script(&next);
        until("it waits", || etcd.leases().len() == 2);
        let leader = etcd.leader();
        etcd.freeze(leader);
        thread::sleep(Duration::from_secs(frozen));
        etcd.thaw(leader);
        thread::sleep(Duration::from_secs(5));
        if etcd.leases().len() == 2 {
            // It was not so.
            signal(script.pid(), "KILL");
        }
        assert_eq!(script.end(), 137);
        assert_eq!(other.line(), "alive: 1");
        assert_eq!(other.end(), 0);
    }
}

#[test]
fn the_name_of_one_who_may_not_know_that_its_lease_is_lost_is_not_given_before_it_must() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut script = one.script(STUBBORN);
    assert_eq!(script.line(), "held");
    // It is not even told: its keepers are stopped, and its lease is revoked by the server.
    until("both are there", || one.keepers("deploy").len() == 2);
    let keepers = one.keepers("deploy");
    for pid in &keepers {
        signal(pid, "STOP");
    }
    let key = etcd.leases().pop().unwrap();
    let number = key.rsplit_once('/').unwrap().1;
    said(&mut etcd.ctl(&["lease", "revoke", number])).status(0);
    other.aba(&["lock", "deploy", "--", "true"]).status(75).err("whose lease was lost and who may not know it yet");
    other.aba(&["lease", "show", "deploy"]).status(0).out("whose lease was lost").out("ends in ");
    let begin = std::time::Instant::now();
    other.aba(&["lock", "-q", "-t", "50", "deploy", "--", "true"]).status(0);
    assert!(begin.elapsed() > Duration::from_secs(8), "{:?}", begin.elapsed());
    // The guard last: it ends a courier that is late.
    for pid in keepers.iter().rev() {
        signal(pid, "CONT");
    }
    // Told at once, and ended as it does not heed it.
    assert_eq!(script.end(), 137);
    until("nothing is left", || etcd.keys().is_empty());
}

#[test]
fn a_holder_that_was_frozen_for_longer_than_its_lease_is_killed_before_it_runs_again() {
    // With a command, too: there is no time left in which it could end the holder.
    for on_lost in ["term", "touch \"$MARKER\""] {
        let etcd = Etcd::start(1);
        let machine = Machine::new(&etcd.url());
        let marker = machine.path("marker");
        let machine = machine.with("ABA_LOCK_ON_LOST", on_lost).with("MARKER", marker.to_str().unwrap());
        let mut script = machine.script(STUBBORN);
        assert_eq!(script.line(), "held");
        until("both are there", || machine.keepers("deploy").len() == 2);
        let keepers = machine.keepers("deploy");
        for pid in [script.pid()].iter().chain(&keepers) {
            signal(pid, "STOP");
        }
        until("the lease has ended", || etcd.leases().is_empty());
        // Only the guard is thawed: whatever the script does now, it does because the guard lets it.
        signal(keepers[0], "CONT");
        assert_eq!(script.end(), 137);
        assert_eq!(script.has_said(), None);
        let said = script.error();
        assert!(said.contains("ended while its holder was stopped") && said.contains("killed the holder"), "{said}");
        until("the keeper has ended", || machine.keepers("deploy").is_empty());
        assert!(!marker.exists());
    }
}

#[test]
fn a_server_that_is_killed_and_comes_back_in_time_costs_nobody_anything() {
    let mut etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let mut holder = machine.holder("deploy");
    let key = etcd.leases();
    for _ in 0..2 {
        etcd.kill(0);
        thread::sleep(Duration::from_secs(2));
        etcd.restart(0);
        etcd.until_healthy(0);
        thread::sleep(Duration::from_secs(5));
    }
    assert_eq!(etcd.leases(), key);
    holder.go();
    assert_eq!(holder.line(), "done");
    assert_eq!(holder.end(), 0);
}

#[test]
fn who_does_not_wait_is_not_held_up_by_a_lease_that_cannot_be_given_back() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let mut holder = machine.holder("deploy");
    until("both are there", || machine.keepers("deploy").len() == 2);
    let keepers = machine.keepers("deploy");
    // As if the server took its time: nothing is given back.
    for pid in &keepers {
        signal(pid, "STOP");
    }
    signal(holder.pid(), "KILL");
    holder.end();
    let begin = std::time::Instant::now();
    machine
        .aba(&["lock", "-n", "deploy", "--", "echo", "ran"])
        .status(75)
        .err(&format!("pid {} on host", holder.pid()));
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
    // The courier first, which the guard ends.
    for pid in keepers.iter().rev() {
        signal(pid, "CONT");
    }
    until("nothing is left", || etcd.keys().is_empty());
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_nothing_is_there_twice() {
    let etcd = Etcd::start(1);
    let relay = Relay::to(etcd.port(0));
    let machine = Machine::new(&format!("etcd://127.0.0.1:{}", relay.port));
    for path in ["/v3/lease/grant", "/v3/kv/txn", "/v3/lease/revoke"] {
        relay.lose(path, 1);
        let lease = machine.aba(&["lease", "acquire", "deploy"]).status(0).out;
        assert_eq!(etcd.keys(), [lease.trim()], "{path}");
        machine.aba(&["lease", "release", lease.trim()]);
        machine.aba(&["lease", "release", lease.trim()]).status(0);
        assert_eq!(relay.to_lose(), 0, "{path} was not asked for");
    }
    let held = machine.aba(&["lease", "acquire", "deploy"]).status(0).out;
    relay.lose("/v3/lease/keepalive", 1);
    machine.aba(&["lease", "renew", held.trim()]);
    machine.aba(&["lease", "renew", held.trim()]).status(0);
    // As a holder, too.
    machine.aba(&["lease", "release", held.trim()]).status(0);
    relay.lose("/v3/lease/keepalive", 2);
    let mut holder = machine.holder("deploy");
    until("it was renewed all the same", || relay.to_lose() == 0);
    thread::sleep(Duration::from_secs(10));
    assert!(holder.runs());
    relay.lose("/v3/lease/revoke", 1);
    holder.go();
    assert_eq!(holder.line(), "done");
    assert_eq!(holder.end(), 0);
    until("it is given back", || etcd.keys().is_empty());
}

#[test]
fn when_a_pid_namespace_ends_with_script_and_keeper_the_lease_ends_by_itself() {
    let etcd = Etcd::start(1);
    let (inside, outside) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut command = inside.program("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c"]);
    command.arg("source \"$LIBRARY\"; aba_lock_operation deploy; echo held; read -r _");
    let mut script = crate::scene::Script::start(command);
    assert_eq!(script.line(), "held");
    until("both are there", || inside.keepers("deploy").len() == 2);
    let keepers = inside.keepers("deploy");
    signal(script.pid(), "KILL");
    script.end();
    until("all in there have ended", || !keepers.iter().any(|pid| is_alive(*pid)));
    inside.aba(&["status", "--server=", "deploy"]).status(1);
    outside.aba(&["lock", "-n", "deploy", "--", "true"]).status(75);
    outside.aba(&["lock", "-q", "-t", "40", "deploy", "--", "true"]).status(0);
}

#[test]
fn users_and_passwords_are_asked_for_once_and_again_when_the_server_has_forgotten() {
    let mut etcd = Etcd::start(1);
    for args in [
        &["user", "add", "root:secret"][..],
        &["user", "add", "me:word"],
        &["role", "add", "locks"],
        &["role", "grant-permission", "locks", "--prefix=true", "readwrite", "deploy"],
        &["user", "grant-role", "me", "locks"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        said(&mut etcd.ctl(args)).status(0);
    }
    let stranger = Machine::new(&etcd.url());
    stranger.aba(&["lease", "acquire", "deploy"]).status(125).err("etcd refused: ").err("ABA_LOCK_SERVER_SECRET_FILE");
    let machine = Machine::new(&etcd.url());
    let secret = machine.path("secret");
    std::fs::write(&secret, "me:wrong\n").unwrap();
    let machine = machine.with("ABA_LOCK_SERVER_SECRET_FILE", secret.to_str().unwrap());
    machine.aba(&["lease", "acquire", "deploy"]).status(125).err("etcd refused: authentication failed");
    std::fs::write(&secret, "me:word\n").unwrap();
    machine.aba(&["lease", "acquire", "other"]).status(125).err("etcd refused: permission denied");
    let mut holder = machine.holder("deploy");
    // What it had given is worth nothing after a restart.
    etcd.kill(0);
    etcd.restart(0);
    thread::sleep(Duration::from_secs(12));
    assert!(holder.runs());
    machine.aba(&["lease", "show", "deploy"]).status(0).out(&format!("  pid {} on host ", holder.pid()));
    holder.go();
    assert_eq!(holder.line(), "done");
    assert_eq!(holder.end(), 0);
    machine.aba(&["lease", "show", "deploy"]).status(1);
}

#[test]
fn with_tls_both_sides_are_known_to_each_other_or_nothing_is_locked() {
    let place = tempfile::tempdir().unwrap();
    let script = "set -e; cd \"$1\"
        make() { openssl req -newkey rsa:2048 -nodes -keyout $1.key -subj /CN=$1 -out $1.csr; printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\nbasicConstraints=CA:FALSE\\n' >$1.ext
            openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $1.ext -out $1.pem; }
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /CN=ca -days 2 -out ca.pem; make server; make client";
    let mut openssl = std::process::Command::new("bash");
    said(openssl.args(["-c", script, "bash"]).arg(place.path())).status(0);
    let file = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let extra = [
        "--cert-file".to_owned(),
        file("server.pem"),
        "--key-file".to_owned(),
        file("server.key"),
        "--client-cert-auth".to_owned(),
        "--trusted-ca-file".to_owned(),
        file("ca.pem"),
    ];
    let extra: Vec<&str> = extra.iter().map(String::as_str).collect();
    let etcd = Etcd::start_with(1, Version::Installed, "https", &extra);
    let stranger = Machine::new(&etcd.url());
    stranger.aba(&["lease", "show", "deploy"]).status(125).err("no server of leases answers");
    let half = Machine::new(&etcd.url()).with("ABA_LOCK_SERVER_CACERT", file("ca.pem"));
    half.aba(&["lease", "show", "deploy"]).status(125);
    let known = Machine::new(&etcd.url())
        .with("ABA_LOCK_SERVER_CACERT", file("ca.pem"))
        .with("ABA_LOCK_SERVER_CERT", file("client.pem"))
        .with("ABA_LOCK_SERVER_KEY", file("client.key"));
    until("it answers", || known.aba(&["lease", "show", "deploy"]).status == 1);
    known.aba(&["lock", "deploy", "--", "sh", "-c", "\"$HELPER\" lease list | wc -l"]).status(0).out("2\n").silent();
    let wrong = Machine::new(&etcd.url()).with("ABA_LOCK_SERVER_CERT", file("client.pem"));
    wrong.aba(&["lease", "list"]).status(2).err("needs both ABA_LOCK_SERVER_CERT and ABA_LOCK_SERVER_KEY");
}
