//! `aba-lock lease` with etcd: the queue, its order, and lost requests.

use crate::etcd::{Etcd, EtcdVersion, choose_ports};
use crate::machine::Machine;
use crate::process::{RunningScript, run_to_end, send_signal, wait_until};
use std::process::Command;

#[test]
fn a_lease_excludes_others_until_it_is_released_and_tokens_grow() {
    for version in [EtcdVersion::Installed, EtcdVersion::New] {
        let etcd = Etcd::start_with(1, version, "http", &[]);
        let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
        let first = one.lease(&["acquire", "deploy", "--who", "nightly", "--json"]).status(0).silent();
        let first: serde_json::Value = serde_json::from_str(&first.out).unwrap();
        assert_eq!((&first["name"], &first["ttl_seconds"]), (&"deploy".into(), &30.into()));
        let id = first["lease"].as_str().unwrap();
        other
            .lease(&["acquire", "deploy"])
            .status(75)
            .out("")
            .err("aba-lock: deploy is already running: pid ")
            .err("(nightly)")
            .err("hint: wait for it with `--wait`");
        other.lease(&["acquire", "-t", "3", "deploy"]).status(124).err("timed out waiting for deploy, held by pid ");
        // The refused processes left nothing in the queue.
        assert_eq!(etcd.read_keys(), [id]);
        other.lease(&["show", "deploy"]).status(0).out("deploy: held at etcd://").out(" (nightly), for ").silent();
        other.lease(&["list"]).status(0).out("\ndeploy ");
        let shown = other.lease(&["show", "--json", "deploy"]).status(0).out;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["state"], &shown["holder"]["token"]), (&"held".into(), &first["token"]));
        assert_eq!(shown["holder"]["owner"]["who"], "nightly");
        one.lease(&["renew", id]).status(0).out("").silent();
        one.lease(&["release", id]).status(0).out("").silent();
        one.lease(&["release", id]).status(0).silent();
        one.lease(&["renew", id]).status(75).err("is lost");
        other.lease(&["show", "deploy"]).status(1).out("deploy: free at etcd://");
        let second = other.lease(&["acquire", "deploy", "--json"]).status(0).out;
        let second: serde_json::Value = serde_json::from_str(&second).unwrap();
        assert!(second["token"].as_u64() > first["token"].as_u64(), "{second} after {first}");
    }
}

#[test]
fn a_lease_without_renewal_ends_by_itself() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    machine.lease(&["acquire", "deploy"]).status(0);
    machine.lease(&["acquire", "-t", "100", "deploy"]).status(0).err("waiting for deploy at etcd://");
}

#[test]
fn list_and_show_name_a_lock_whose_lease_was_lost() {
    let etcd = Etcd::start(1);
    for server in [etcd.url(), format!("{}/team", etcd.url())] {
        // The keepers may be stopped for many seconds. After the whole time to live, the guard would kill the script at once.
        let machine = Machine::new(&server).with("ABA_LOCK_TTL", "20s");
        let mut script = machine.start_script("aba_lock_operation deploy; echo held; read -r _");
        assert_eq!(script.read_line(), "held");
        let keepers = machine.stop_keepers("deploy");
        let key = etcd.read_leases().pop().unwrap();
        run_to_end(&mut etcd.ctl(&["lease", "revoke", key.rsplit_once('/').unwrap().1])).status(0);
        machine.lease(&["show", "deploy"]).status(0).out("which lost its lease");
        machine.lease(&["list"]).status(0).out("\ndeploy ").out("which lost its lease");
        let listed = machine.lease(&["list", "--json"]).status(0).out;
        let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
        assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"deploy".into(), &"held".into()));
        // The guard continues last, because it kills a courier that is late.
        for pid in keepers.iter().rev() {
            send_signal(pid, "CONT");
        }
        assert_eq!(script.wait(), 143);
        wait_until("nothing is left", || etcd.read_keys().is_empty());
    }
}

#[test]
fn invalid_arguments_are_refused_with_a_reason() {
    let machine = Machine::new("");
    machine.lease(&["acquire", "deploy"]).status(2).err("no lease server is given").err("hint: use `--server URL`");
    machine.lease(&["acquire", "--server", "redis://h", "deploy"]).status(2).err("invalid server address: redis://h");
    machine
        .lease(&["acquire", "--server", "etcd://me:secret@h", "d"])
        .status(2)
        .err("the server address contains a password")
        .err("ABA_LOCK_SERVER_SECRET_FILE");
    machine.lease(&["acquire", "--server", "etcd://h", "--ttl", "9", "d"]).status(2).err("hint: use at least 10s\n");
    let said = machine.lease(&["acquire", "--server", "etcd://h", "a/b"]).status(2).err("\"a/b\"");
    assert!(!said.err.contains("hint: \n"), "{said:?}");
    let calls = [
        (
            &["acquire"][..],
            "aba-lock: lease acquire: missing argument: NAME\nhint: see `aba-lock lease acquire --help`\n",
        ),
        (&["acquire", "--foo", "d"], "aba-lock: lease acquire: no such option: --foo\n"),
        (&["acquir", "d"], "aba-lock: lease: no such command: acquir\nhint: did you mean `acquire`?\n"),
    ];
    for (args, message) in calls {
        machine.lease(args).status(2).err(message);
    }
    // No process listens at this port.
    let port = choose_ports(1)[0];
    let server = format!("etcd://127.0.0.1:{port}");
    machine.lease(&["show", "--server", &server, "d"]).status(125).err("no lease server answers");
    machine.lease(&["acquire", "--server", &server, "-t", "0.5", "d"]).status(125).err("no lease server answers");
}

#[test]
fn etcdctl_and_aba_lock_share_one_queue() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let start_etcdctl = || {
        // etcdctl does not pass its stdin to the command.
        let script = format!("echo held; read _ <'{}'", machine.make_gate().display());
        let mut command: Command = etcd.ctl(&["lock", "deploy", "--ttl", "10", "--", "sh", "-c", &script]);
        command.env_remove("ABA_LOCK_SERVER");
        RunningScript::start(command)
    };
    let mut first = start_etcdctl();
    assert_eq!(first.read_line(), "held");
    machine.lease(&["acquire", "deploy"]).status(75).err("deploy is held by deploy/").err("(no description)");
    let mut second = start_waiter(&machine);
    wait_until("aba-lock waits", || etcd.read_leases().len() == 2);
    let mut third = start_etcdctl();
    wait_until("the waiter waits", || etcd.read_leases().len() == 3);
    machine.open_gate();
    first.wait();
    // aba-lock came before the second etcdctl.
    let id = second.read_line();
    assert_eq!(second.wait(), 0);
    assert!(third.try_read_line().is_none());
    machine.lease(&["release", &id]).status(0);
    assert_eq!(third.read_line(), "held");
    machine.open_gate();
    third.wait();
    wait_until("nothing is left", || etcd.read_keys().is_empty());
}

fn start_waiter(machine: &Machine) -> RunningScript {
    machine.start_helper(&["lease", "acquire", "-w", "deploy"])
}

#[test]
fn a_waiter_whose_lease_expired_while_it_was_stopped_does_not_claim_the_lock_of_another() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let first = machine.lease(&["acquire", "deploy", "--ttl", "1h"]).status(0).out;
    let mut stopped = start_waiter(&machine);
    wait_until("the waiter waits", || etcd.read_leases().len() == 2);
    send_signal(stopped.pid(), "STOP");
    wait_until("the lease of the waiter has ended", || etcd.read_leases().len() == 1);
    machine.lease(&["release", first.trim()]).status(0);
    let second = machine.lease(&["acquire", "deploy", "--ttl", "1h"]).status(0).out;
    send_signal(stopped.pid(), "CONT");
    // It joins the queue again, after the other.
    wait_until("the waiter waits again", || etcd.read_leases().len() == 2);
    assert!(stopped.try_read_line().is_none());
    machine.lease(&["release", second.trim()]).status(0);
    let third = stopped.read_line();
    assert_eq!(stopped.wait(), 0);
    machine.lease(&["release", &third]).status(0);
}

#[test]
fn a_wait_that_a_signal_ends_leaves_nothing_in_the_queue() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    machine.lease(&["acquire", "deploy", "--ttl", "1h"]).status(0);
    for (name, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut waiter = start_waiter(&machine);
        wait_until("the waiter waits", || etcd.read_leases().len() == 2);
        assert!(waiter.read_error().contains("waiting for deploy"));
        send_signal(waiter.pid(), name);
        assert_eq!(waiter.wait(), status, "{name}");
        assert_eq!(etcd.read_leases().len(), 1, "{name}");
    }
}

#[test]
fn a_prefix_separates_the_names_of_teams() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&format!("{}/team/a", etcd.url())), Machine::new(&etcd.url()));
    let id = one.lease(&["acquire", "deploy"]).status(0).out;
    assert!(id.starts_with("team/a/deploy/"), "{id}");
    other.lease(&["acquire", "deploy"]).status(0);
    one.lease(&["list", "--json"]).status(0).out("team/a/deploy/");
    let listed = one.lease(&["list"]).status(0).out;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    one.lease(&["release", id.trim()]).status(0);
    // A key without a lease is not in the queue.
    assert!(run_to_end(&mut etcd.ctl(&["put", "team/a/deploy/ff", "data"])).status == 0);
    assert_eq!(one.lease(&["list"]).status(0).out, "");
}

#[test]
fn a_lease_whose_id_cannot_be_printed_is_given_back() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    for to in [">/dev/full", ">&-", "--json >/dev/full"] {
        let script = format!("\"$HELPER\" lease acquire deploy {to}");
        machine.bash(&script).status(125).err("cannot print the id of the lease");
        assert_eq!(etcd.read_keys(), Vec::<String>::new(), "{to}");
    }
}

#[test]
fn an_invalid_lease_id_is_refused() {
    for scheme in ["http", "etcd"] {
        // No request is sent.
        let machine = Machine::new(&format!("{scheme}://127.0.0.1:1"));
        for id in ["", "../../x", "a b", "..", "%2e"] {
            machine.lease(&["release", id]).status(2).err("invalid lease id ");
            machine.lease(&["renew", id]).status(2).err("invalid lease id ");
        }
    }
}
