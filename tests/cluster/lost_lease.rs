//! Lost leases and lost answers: a script is warned, and has ended before another process gets its lock.

use crate::etcd::{Etcd, EtcdVersion};
use crate::machine::Machine;
use crate::process::{RUNS, RunningScript, is_alive, run_to_end, send_signal, wait_until};
use crate::relay::Relay;
use std::thread;
use std::time::Duration;

/// A script that prints a line for SIGTERM, and runs until it is killed.
const STUBBORN: &str = "trap 'echo told' TERM; aba_lock_operation deploy; echo held; while :; do sleep 0.05; done";

#[test]
fn a_script_that_is_cut_off_is_warned_and_has_ended_before_another_gets_the_lock() {
    for version in [EtcdVersion::Installed, EtcdVersion::New] {
        let etcd = Etcd::start_with(1, version, "http", &[]);
        let relay = Relay::to(etcd.port(0));
        let far = Machine::with_short_leases(&format!("etcd://127.0.0.1:{}", relay.port));
        let near = Machine::with_short_leases(&etcd.url());
        let mut script = far.start_script(STUBBORN);
        assert_eq!(script.read_line(), "held");
        let next = format!("{RUNS}; aba_lock_operation -q -t 100 deploy; runs {}; echo \"alive: $?\"", script.pid());
        let mut other = near.start_script(&next);
        wait_until("the other script waits", || etcd.read_leases().len() == 2);
        relay.cut();
        assert_eq!(script.read_line(), "told");
        assert!(script.read_error().contains("aba-lock: cannot renew the lease on deploy at etcd://"));
        // The script ignores the warning. Its pid is not used again before this process waits for it.
        assert_eq!(other.read_line(), "alive: 1");
        assert_eq!(script.wait(), 137);
        assert_eq!(other.wait(), 0);
    }
}

#[test]
fn a_script_that_is_warned_while_all_servers_are_frozen_can_end_by_itself() {
    let etcd = Etcd::start(3);
    let machine = Machine::with_short_leases(&etcd.url());
    let script = "trap 'echo told; exit 5' TERM; aba_lock_operation deploy; echo held; while :; do sleep 0.05; done";
    let mut script = machine.start_script(script);
    assert_eq!(script.read_line(), "held");
    for node in 0..3 {
        etcd.freeze(node);
    }
    assert_eq!(script.read_line(), "told");
    assert_eq!(script.wait(), 5);
    for node in 0..3 {
        etcd.thaw(node);
    }
    // The lease, which could not be given back, ends by itself.
    wait_until("the lease has ended", || etcd.read_keys().is_empty());
}

#[test]
fn the_other_servers_renew_the_lease_while_the_leader_is_frozen() {
    let etcd = Etcd::start(3);
    // The election of the next leader may take some seconds before the keeper ends the holder.
    let machine = Machine::new(&etcd.url()).with("ABA_LOCK_TTL", "20s");
    let mut holder = machine.start_holder("deploy");
    let key = etcd.read_leases();
    let leader = etcd.find_leader();
    etcd.freeze(leader);
    thread::sleep(Duration::from_secs(23));
    assert!(holder.is_running(), "{}", holder.read_error());
    etcd.thaw(leader);
    // For a moment, the old leader still believes that it leads.
    thread::sleep(Duration::from_secs(11));
    assert!(holder.is_running(), "{}", holder.read_error());
    assert_eq!(etcd.read_leases(), key);
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
}

#[test]
fn a_leader_that_continues_after_a_freeze_does_not_grant_the_lock_twice() {
    // It may revoke a lease that was renewed at the next leader, because it believes that the lease has expired. After
    // twice the time to live, this includes the lease of the mark.
    for frozen in [12, 22] {
        let etcd = Etcd::start(3);
        let (one, other) = (Machine::with_short_leases(&etcd.url()), Machine::with_short_leases(&etcd.url()));
        let mut script = one.start_script(STUBBORN);
        assert_eq!(script.read_line(), "held");
        let lease = etcd.read_leases().pop().unwrap();
        let next = format!("{RUNS}; aba_lock_operation -q -t 100 deploy; runs {}; echo \"alive: $?\"", script.pid());
        let mut other = other.start_script(&next);
        wait_until("the other script waits", || etcd.read_leases().len() == 2);
        let leader = etcd.find_leader();
        etcd.freeze(leader);
        thread::sleep(Duration::from_secs(frozen));
        etcd.thaw(leader);
        thread::sleep(Duration::from_secs(5));
        if etcd.read_leases().contains(&lease) {
            // This time the leader did not revoke the lease of the script.
            send_signal(script.pid(), "KILL");
        }
        assert_eq!(other.read_line(), "alive: 1");
        assert_eq!(script.wait(), 137);
        assert_eq!(other.wait(), 0);
    }
}

#[test]
fn a_name_is_not_granted_while_its_holder_may_not_know_of_the_loss() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::with_short_leases(&etcd.url()), Machine::with_short_leases(&etcd.url()));
    let mut script = one.start_script(STUBBORN);
    assert_eq!(script.read_line(), "held");
    // Its keepers are stopped, so the script does not learn that the server has revoked its lease.
    let begin = std::time::Instant::now();
    let keepers = one.stop_keepers("deploy");
    let key = etcd.read_leases().pop().unwrap();
    let number = key.rsplit_once('/').unwrap().1;
    run_to_end(&mut etcd.ctl(&["lease", "revoke", number])).status(0);
    other.aba(&["lock", "deploy", "--", "true"]).status(75).err("which lost its lease and may not have noticed yet");
    other.aba(&["lease", "show", "deploy"]).status(0).out("which lost its lease").out("ends in ");
    other.aba(&["lock", "-q", "-t", "100", "deploy", "--", "true"]).status(0);
    // The mark lives for twice the time to live after the last renewal.
    assert!(begin.elapsed() > Duration::from_secs(10), "{:?}", begin.elapsed());
    // The guard continues last, because it kills a courier that is late.
    for pid in keepers.iter().rev() {
        send_signal(pid, "CONT");
    }
    // The script gets SIGTERM at once, and SIGKILL because it ignores that.
    assert_eq!(script.wait(), 137);
    wait_until("nothing is left", || etcd.read_keys().is_empty());
}

#[test]
fn a_holder_that_was_frozen_for_longer_than_its_lease_is_killed_before_it_continues() {
    // This holds for a command of --on-lost, too: there is no time left in which it could end the holder.
    for on_lost in ["term", "touch \"$MARKER\""] {
        let etcd = Etcd::start(1);
        let machine = Machine::with_short_leases(&etcd.url());
        let marker = machine.path("marker");
        let machine = machine.with("ABA_LOCK_ON_LOST", on_lost).with("MARKER", marker.to_str().unwrap());
        let mut script = machine.start_script(STUBBORN);
        assert_eq!(script.read_line(), "held");
        let keepers = machine.wait_for_keepers("deploy");
        for pid in [script.pid()].iter().chain(&keepers) {
            send_signal(pid, "STOP");
        }
        wait_until("the lease has ended", || etcd.read_leases().is_empty());
        // Only the guard is thawed: the script can only continue if the guard lets it.
        send_signal(keepers[0], "CONT");
        assert_eq!(script.wait(), 137);
        assert_eq!(script.try_read_line(), None);
        let said = script.read_error();
        assert!(said.contains("expired while its holder was stopped") && said.contains("killed the holder"), "{said}");
        wait_until("the keeper has ended", || machine.find_keepers("deploy").is_empty());
        assert!(!marker.exists());
    }
}

#[test]
fn a_lease_survives_a_server_that_is_killed_and_restarted_in_time() {
    let mut etcd = Etcd::start(1);
    // The server may need some seconds for its start before the keeper ends the holder.
    let machine = Machine::new(&etcd.url()).with("ABA_LOCK_TTL", "20s");
    let mut holder = machine.start_holder("deploy");
    let key = etcd.read_leases();
    for _ in 0..2 {
        etcd.kill(0);
        thread::sleep(Duration::from_secs(2));
        etcd.restart(0);
        etcd.wait_until_healthy(0);
        thread::sleep(Duration::from_secs(10));
    }
    assert_eq!(etcd.read_leases(), key);
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
}

#[test]
fn a_lease_that_cannot_be_given_back_does_not_delay_a_caller_that_does_not_wait() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url()).with("ABA_LOCK_TTL", "60s");
    let mut holder = machine.start_holder("deploy");
    // The lease is not given back, as with a slow server.
    let keepers = machine.stop_keepers("deploy");
    send_signal(holder.pid(), "KILL");
    holder.wait();
    let begin = std::time::Instant::now();
    machine
        .aba(&["lock", "-n", "deploy", "--", "echo", "ran"])
        .status(75)
        .err(&format!("pid {} on host", holder.pid()));
    // After a renewal, the lease lives for a minute.
    assert!(begin.elapsed() < Duration::from_secs(35), "{:?}", begin.elapsed());
    // The courier continues first, because the guard kills it.
    for pid in keepers.iter().rev() {
        send_signal(pid, "CONT");
    }
    wait_until("nothing is left", || etcd.read_keys().is_empty());
}

#[test]
fn a_request_whose_answer_is_lost_is_sent_again_and_has_no_effect_twice() {
    let etcd = Etcd::start(1);
    let relay = Relay::to(etcd.port(0));
    let machine = Machine::with_short_leases(&format!("etcd://127.0.0.1:{}", relay.port));
    for path in ["/v3/lease/grant", "/v3/kv/txn", "/v3/lease/revoke"] {
        relay.lose_answers(path, 1);
        let lease = machine.aba(&["lease", "acquire", "deploy"]).status(0).out;
        assert_eq!(etcd.read_keys(), [lease.trim()], "{path}");
        machine.aba(&["lease", "release", lease.trim()]);
        machine.aba(&["lease", "release", lease.trim()]).status(0);
        assert_eq!(relay.losses_left(), 0, "{path} was not asked for");
    }
    let held = machine.aba(&["lease", "acquire", "deploy"]).status(0).out;
    relay.lose_answers("/v3/lease/keepalive", 1);
    machine.aba(&["lease", "renew", held.trim()]);
    machine.aba(&["lease", "renew", held.trim()]).status(0);
    // The same for a script.
    machine.aba(&["lease", "release", held.trim()]).status(0);
    relay.lose_answers("/v3/lease/keepalive", 2);
    let mut holder = machine.start_holder("deploy");
    wait_until("the lease was renewed", || relay.losses_left() == 0);
    thread::sleep(Duration::from_secs(10));
    assert!(holder.is_running());
    relay.lose_answers("/v3/lease/revoke", 1);
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
    wait_until("the lease is given back", || etcd.read_keys().is_empty());
}

#[test]
fn the_lease_ends_by_itself_when_a_pid_namespace_ends_with_script_and_keeper() {
    let etcd = Etcd::start(1);
    let (inside, outside) = (Machine::with_short_leases(&etcd.url()), Machine::with_short_leases(&etcd.url()));
    let mut command = inside.program("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c"]);
    command.arg("source \"$LIBRARY\"; aba_lock_operation deploy; echo held; read -r _");
    let mut script = RunningScript::start(command);
    assert_eq!(script.read_line(), "held");
    // The kernel closes the files of the script before it kills the keeper, which could give the lease back in between.
    let keepers = inside.stop_keepers("deploy");
    send_signal(script.pid(), "KILL");
    script.wait();
    wait_until("all processes in the namespace have ended", || !keepers.iter().any(|pid| is_alive(*pid)));
    inside.aba(&["status", "--server=", "deploy"]).status(1);
    outside.aba(&["lock", "-n", "deploy", "--", "true"]).status(75);
    outside.aba(&["lock", "-q", "-t", "100", "deploy", "--", "true"]).status(0);
}

#[test]
fn the_keeper_authenticates_again_when_the_server_has_forgotten_its_token() {
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
        run_to_end(&mut etcd.ctl(args)).status(0);
    }
    let stranger = Machine::new(&etcd.url());
    stranger
        .aba(&["lease", "acquire", "deploy"])
        .status(125)
        .err("etcd refused the request: ")
        .err("ABA_LOCK_SERVER_SECRET_FILE");
    let machine = Machine::new(&etcd.url());
    let secret = machine.path("secret");
    std::fs::write(&secret, "me:wrong\n").unwrap();
    // The server may need some seconds for its start before the keeper ends the holder.
    let machine = machine.with("ABA_LOCK_SERVER_SECRET_FILE", secret.to_str().unwrap()).with("ABA_LOCK_TTL", "20s");
    machine.aba(&["lease", "acquire", "deploy"]).status(125).err("etcd refused the request: authentication failed");
    std::fs::write(&secret, "me:word\n").unwrap();
    machine.aba(&["lease", "acquire", "other"]).status(125).err("etcd refused the request: permission denied");
    let mut holder = machine.start_holder("deploy");
    // The server forgets its tokens when it restarts.
    etcd.kill(0);
    etcd.restart(0);
    thread::sleep(Duration::from_secs(22));
    assert!(holder.is_running());
    machine.aba(&["lease", "show", "deploy"]).status(0).out(&format!("  pid {} on host ", holder.pid()));
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
    machine.aba(&["lease", "show", "deploy"]).status(1);
}

#[test]
fn nothing_is_locked_unless_both_sides_have_trusted_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let script = "set -e; cd \"$1\"
        make() { openssl req -newkey rsa:2048 -nodes -keyout $1.key -subj /CN=$1 -out $1.csr; printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\nbasicConstraints=CA:FALSE\\n' >$1.ext
            openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $1.ext -out $1.pem; }
        openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /CN=ca -days 2 -out ca.pem; make server; make client";
    let mut openssl = std::process::Command::new("bash");
    run_to_end(openssl.args(["-c", script, "bash"]).arg(directory.path())).status(0);
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
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
    let etcd = Etcd::start_with(1, EtcdVersion::Installed, "https", &extra);
    let stranger = Machine::new(&etcd.url());
    stranger.aba(&["lease", "show", "deploy"]).status(125).err("no lease server answers");
    let half = Machine::new(&etcd.url()).with("ABA_LOCK_SERVER_CACERT", file("ca.pem"));
    half.aba(&["lease", "show", "deploy"]).status(125);
    let known = Machine::new(&etcd.url())
        .with("ABA_LOCK_SERVER_CACERT", file("ca.pem"))
        .with("ABA_LOCK_SERVER_CERT", file("client.pem"))
        .with("ABA_LOCK_SERVER_KEY", file("client.key"));
    wait_until("the server answers", || known.aba(&["lease", "show", "deploy"]).status == 1);
    known.aba(&["lock", "deploy", "--", "sh", "-c", "\"$HELPER\" lease list | wc -l"]).status(0).out("2\n").silent();
    let wrong = Machine::new(&etcd.url()).with("ABA_LOCK_SERVER_CERT", file("client.pem"));
    wrong.aba(&["lease", "list"]).status(2).err("needs both ABA_LOCK_SERVER_CERT and ABA_LOCK_SERVER_KEY");
}
