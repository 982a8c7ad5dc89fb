//! Leases and locks at the lock service.

use crate::etcd::choose_ports;
use crate::machine::{KEEPER, Machine};
use crate::process::{Outcome, RUNS, is_alive, send_signal, wait_until};
use crate::relay::Relay;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// A lock service on loopback.
pub(crate) struct LockService {
    directory: TempDir,
    port: u16,
    extra: Vec<String>,
    child: Option<Child>,
}

impl LockService {
    pub(crate) fn start(extra: &[&str]) -> Self {
        let extra = extra.iter().map(|&word| word.to_owned()).collect();
        let directory = tempfile::tempdir().unwrap();
        let mut service = Self { directory, port: choose_ports(1)[0], extra, child: None };
        service.spawn();
        service
    }

    fn find_program() -> PathBuf {
        let program = std::env::var_os("ABA_LOCKD_BIN").map(PathBuf::from);
        let program = program.unwrap_or_else(|| Path::new(KEEPER).with_file_name("aba-lockd"));
        assert!(
            program.exists(),
            "{} is not there: `cargo build -p aba-lockd`, or set ABA_LOCKD_BIN",
            program.display()
        );
        program
    }

    pub(crate) fn spawn(&mut self) {
        let mut command = Command::new(Self::find_program());
        let store = format!("sqlite:{}", self.directory.path().join("locks.db").display());
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", self.port), "--grpc-listen", "127.0.0.1:0"]);
        command.args(["--store", &store]).args(&self.extra);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        wait_until("the service listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for LockService {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn is_free(machine: &Machine) -> bool {
    machine.lease(&["show", "deploy"]).status == 1
}

#[test]
fn a_lease_excludes_others_until_it_is_released_and_tokens_grow() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let first = machine.lease(&["acquire", "deploy", "--who", "nightly", "--json"]).status(0).silent().out;
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["ttl_seconds"], 30, "{first}");
    let id = first["lease"].as_str().unwrap();
    machine.lease(&["acquire", "deploy"]).status(75).err("deploy is held by pid ").err("(nightly)");
    machine.lease(&["acquire", "-t", "3", "deploy"]).status(124).err("timed out waiting for deploy");
    machine.lease(&["show", "deploy"]).status(0).out("deploy: held at http://").out("(nightly)").out("ends in ");
    machine.lease(&["list"]).status(0).out("\ndeploy ");
    machine.lease(&["renew", id]).status(0).silent();
    machine.lease(&["release", id]).status(0).silent();
    machine.lease(&["release", id]).status(0).silent();
    machine.lease(&["renew", id]).status(75).err("is lost");
    assert!(is_free(&machine));
    let second = machine.lease(&["acquire", "deploy", "--json"]).status(0).out;
    let second: serde_json::Value = serde_json::from_str(&second).unwrap();
    assert!(second["token"].as_u64() > first["token"].as_u64(), "{second} after {first}");
}

#[test]
fn a_script_holds_the_lease_while_it_lives_and_then_a_waiter_gets_it() {
    let service = LockService::start(&[]);
    let (one, other) = (Machine::with_short_leases(&service.url()), Machine::with_short_leases(&service.url()));
    let mut holder = one.start_holder("deploy");
    let next = "aba_lock_operation -w deploy; echo held; aba_lock_check deploy; echo $?; read -r _";
    let mut next = other.start_script(next);
    assert!(next.read_error().contains("waiting for deploy at http://"));
    // Longer than a lease lives without renewal.
    thread::sleep(Duration::from_secs(12));
    assert!(holder.is_running() && next.try_read_line().is_none());
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
    assert_eq!((next.read_line(), next.read_line()), ("held".to_owned(), "0".to_owned()));
    let keepers = other.find_keepers("deploy");
    send_signal(next.pid(), "KILL");
    next.wait();
    wait_until("the lease is given back", || is_free(&one));
    wait_until("the keepers have ended", || !keepers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn an_interrupted_wait_leaves_the_queue() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let held = machine.lease(&["acquire", "deploy", "--ttl", "1h"]).status(0).out;
    let mut waiter = machine.start_helper(&["lease", "acquire", "-w", "deploy"]);
    assert!(waiter.read_error().contains("waiting for deploy"));
    wait_until("the waiter is in the queue", || machine.lease(&["show", "deploy"]).out.contains("1. waits: pid "));
    send_signal(waiter.pid(), "INT");
    assert_eq!(waiter.wait(), 130);
    wait_until("the waiter has left the queue", || !machine.lease(&["show", "deploy"]).out.contains("waits"));
    machine.lease(&["release", held.trim()]).status(0);
    assert!(is_free(&machine));
}

#[test]
fn a_script_that_is_cut_off_has_ended_before_another_gets_the_lock() {
    let service = LockService::start(&[]);
    let relay = Relay::to(service.port);
    let far = Machine::with_short_leases(&format!("http://127.0.0.1:{}", relay.port));
    let near = Machine::with_short_leases(&service.url());
    let script = "trap 'echo told' TERM; aba_lock_operation deploy; echo held; while :; do sleep 0.05; done";
    let mut script = far.start_script(script);
    assert_eq!(script.read_line(), "held");
    let next = format!("{RUNS}; aba_lock_operation -q -t 100 deploy; runs {}; echo \"alive: $?\"", script.pid());
    let mut next = near.start_script(&next);
    wait_until("the other script waits", || near.lease(&["show", "deploy"]).out.contains("waits"));
    relay.cut();
    assert_eq!(script.read_line(), "told");
    // The pid of the script is not used again before this process waits for it.
    assert_eq!(next.read_line(), "alive: 1");
    assert_eq!(script.wait(), 137);
    assert_eq!(next.wait(), 0);
}

#[test]
fn a_lease_survives_a_lost_answer_and_a_restart_of_the_service() {
    let mut service = LockService::start(&[]);
    let relay = Relay::to(service.port);
    // The service may need some seconds for its start before the keeper ends the holder.
    let machine = Machine::new(&format!("http://127.0.0.1:{}", relay.port)).with("ABA_LOCK_TTL", "20s");
    relay.lose_answers("/api/v1alpha1/lock", 1);
    let id = machine.lease(&["acquire", "deploy"]).status(0).out;
    assert_eq!(relay.losses_left(), 0);
    machine.lease(&["release", id.trim()]).status(0);
    assert!(is_free(&machine));
    let mut holder = machine.start_holder("deploy");
    service.kill();
    thread::sleep(Duration::from_secs(2));
    service.spawn();
    thread::sleep(Duration::from_secs(20));
    assert!(holder.is_running() && !is_free(&machine));
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
    assert!(is_free(&machine));
}

#[test]
fn a_caller_whose_lease_was_granted_in_a_lost_answer_is_not_refused() {
    let service = LockService::start(&[]);
    let relay = Relay::to(service.port);
    // The first URL loses one answer, and the request goes to the next endpoint. The second one also loses the answer
    // to the search for the lease.
    let both = format!("http://127.0.0.1:{},127.0.0.1:{}", relay.port, service.port);
    let one = format!("http://127.0.0.1:{}", relay.port);
    for (url, losses) in [(both, 1), (one, 2)] {
        for how in ["-n", "-w"] {
            let machine = Machine::new(&url);
            relay.lose_answers("/api/v1alpha1/lock", losses);
            let id = machine.lease(&["acquire", how, "-q", "deploy"]).status(0).silent().out;
            assert_eq!(relay.losses_left(), 0);
            machine.lease(&["renew", id.trim()]).status(0);
            machine.lease(&["release", id.trim()]).status(0);
            assert!(is_free(&machine));
        }
    }
}

#[test]
fn a_waiter_whose_answer_never_arrives_finds_its_lease() {
    let service = LockService::start(&[]);
    let relay = Relay::to(service.port);
    let (near, far) = (Machine::new(&service.url()), Machine::new(&format!("http://127.0.0.1:{}", relay.port)));
    let held = near.lease(&["acquire", "deploy", "--ttl", "1h"]).status(0).out;
    let mut waiter =
        far.start_script("aba_lock_operation -w deploy; echo held; aba_lock_check deploy; echo $?; read -r _");
    assert!(waiter.read_error().contains("waiting for deploy"));
    wait_until("the waiter is in the queue", || near.lease(&["show", "deploy"]).out.contains("1. waits: pid "));
    // The open connections become silent, and new ones work.
    relay.silence();
    near.lease(&["release", held.trim()]).status(0);
    assert_eq!((waiter.read_line(), waiter.read_line()), ("held".to_owned(), "0".to_owned()));
    waiter.send_line();
    assert_eq!(waiter.wait(), 0);
    wait_until("the lease is given back", || is_free(&near));
}

#[test]
fn a_service_with_tokens_refuses_a_missing_or_insufficient_token() {
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "reader lock:read only-to-look-at-it-1\nmaker lock:read,lock:write all-that-there-is-2\n")
        .unwrap();
    set_mode(&tokens, 0o600);
    let service = LockService::start(&["--token-file", tokens.to_str().unwrap()]);
    Machine::new(&service.url())
        .lease(&["acquire", "deploy"])
        .status(125)
        .err("the lock service refused the request: ")
        .err("ABA_LOCK_SERVER_SECRET_FILE");
    let machine = Machine::new(&service.url());
    let secret = machine.path("secret");
    let machine = machine.with("ABA_LOCK_SERVER_SECRET_FILE", secret.to_str().unwrap());
    std::fs::write(&secret, "only-to-look-at-it-1\n").unwrap();
    set_mode(&secret, 0o600);
    machine.lease(&["show", "deploy"]).status(1);
    machine.lease(&["acquire", "deploy"]).status(125).err("the lock service refused the request: ");
    std::fs::write(&secret, "all-that-there-is-2\n").unwrap();
    machine.aba(&["lock", "deploy", "--", "true"]).status(0).silent();
}

/// Starts a service with these tokens, in a file that exists as long as the directory.
fn start_with_tokens(tokens: &str) -> (LockService, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    std::fs::write(&file, tokens).unwrap();
    set_mode(&file, 0o600);
    (LockService::start(&["--token-file", file.to_str().unwrap()]), directory)
}

/// Returns a machine whose secret file has this content.
fn machine_with_secret(url: &str, content: impl AsRef<[u8]>) -> Machine {
    let machine = Machine::new(url);
    let secret = machine.path("secret");
    std::fs::write(&secret, content).unwrap();
    set_mode(&secret, 0o600);
    machine.with("ABA_LOCK_SERVER_SECRET_FILE", secret.to_str().unwrap())
}

#[test]
fn a_lease_that_the_token_may_not_read_is_not_called_free() {
    let (service, _tokens) = start_with_tokens("root lock:admin root-1\nboard lock:read:shop,lock:write:p1 board-2\n");
    let root = machine_with_secret(&service.url(), "root-1");
    let board = machine_with_secret(&service.url(), "board-2");
    let id = root.lease(&["acquire", "p1"]).status(0).out;
    let refusal =
        "aba-lock: the lock service refused the request: the token of board does not permit lock:read for service p1";
    for args in [&["show", "p1"][..], &["show", "--json", "p1"]] {
        let said = board.lease(args).status(125).out("").err(refusal);
        // The token is valid: another one in the file would not help.
        assert!(!said.err.contains("hint: "), "{said:?}");
    }
    board.lease(&["show", "shop"]).status(1).out("shop: free at ");
    root.lease(&["release", id.trim()]).status(0);
}

#[test]
fn a_token_that_may_only_write_finds_renews_and_releases_its_own_lease() {
    let tokens = "root lock:admin root-1\nci lock:write ci-2\nmixed lock:read:shop,lock:write:deploy mixed-3\n";
    let (service, _tokens) = start_with_tokens(tokens);
    let relay = Relay::to(service.port);
    let root = machine_with_secret(&service.url(), "root-1");
    for secret in ["ci-2", "mixed-3"] {
        let machine = machine_with_secret(&format!("http://127.0.0.1:{}", relay.port), secret);
        let near = machine_with_secret(&service.url(), secret);
        relay.lose_answers("/api/v1alpha1/lock", 1);
        let id = machine.lease(&["acquire", "-n", "-q", "deploy"]).status(0).silent().out;
        assert_eq!(relay.losses_left(), 0);
        near.lease(&["renew", id.trim()]).status(0).silent();
        near.lease(&["release", id.trim()]).status(0).silent();
        assert!(is_free(&root));
        near.lease(&["renew", id.trim()]).status(75).err("is lost");
        // The answer never arrives: the waiter finds its lease.
        let held = root.lease(&["acquire", "deploy", "--ttl", "1h"]).status(0).out;
        let mut waiter = machine.start_helper(&["lease", "acquire", "-w", "deploy"]);
        assert!(waiter.read_error().contains("waiting for deploy"));
        wait_until("the waiter is in the queue", || root.lease(&["show", "deploy"]).out.contains("1. waits: pid "));
        relay.silence();
        root.lease(&["release", held.trim()]).status(0);
        let id = waiter.read_line();
        assert_eq!(waiter.wait(), 0);
        near.lease(&["release", &id]).status(0).silent();
        // A signal during the wait leaves nothing.
        let held = root.lease(&["acquire", "deploy", "--ttl", "1h"]).status(0).out;
        let mut waiter = near.start_helper(&["lease", "acquire", "-w", "deploy"]);
        assert!(waiter.read_error().contains("waiting for deploy"));
        wait_until("the waiter is in the queue", || root.lease(&["show", "deploy"]).out.contains("1. waits: pid "));
        send_signal(waiter.pid(), "TERM");
        assert_eq!(waiter.wait(), 143);
        root.lease(&["release", held.trim()]).status(0);
        wait_until("the lease is free", || is_free(&root));
    }
}

#[test]
fn a_malformed_secret_file_is_refused_at_once() {
    // No process listens at this port.
    let port = choose_ports(1)[0];
    let two_lines = "7f3a\nci sha256:60303a lock:read,lock:write\n";
    let lines = "secret (from ABA_LOCK_SERVER_SECRET_FILE) has 2 lines, but one line is expected\nhint: write only ";
    let character =
        "secret (from ABA_LOCK_SERVER_SECRET_FILE) contains a character that cannot be part of a secret\nhint: ";
    for (scheme, content, message) in [
        ("http", two_lines.as_bytes(), lines),
        ("etcd", b"me:word\nyou:word\n", lines),
        ("http", b"two words\n", character),
        ("http", "t\u{e9}\n".as_bytes(), character),
        ("http", b"\xff\n", character),
        ("etcd", b"me:\xff\n", character),
        ("etcd", b"me:a\0b\n", character),
    ] {
        let machine = machine_with_secret(&format!("{scheme}://127.0.0.1:{port}"), content);
        for args in [
            &["run", "--max-wait", "1h", "deploy", "--", "echo", "ran"][..],
            &["acquire", "--max-wait", "1h", "deploy"],
            &["show", "deploy"],
            &["release", "deploy/7"],
        ] {
            machine.lease(args).status(2).out("").err(message);
        }
        machine.aba(&["lock", "-w", "deploy", "--", "echo", "ran"]).status(2).out("").err(message);
    }
}

#[test]
fn acquire_warns_of_a_secret_that_others_can_read() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let secret = machine.path("secret");
    std::fs::write(&secret, "a-secret\n").unwrap();
    let machine = machine.with("ABA_LOCK_SERVER_SECRET_FILE", secret.to_str().unwrap());
    set_mode(&secret, 0o600);
    let release = |said: Outcome| machine.lease(&["release", said.status(0).out.trim()]).status(0).silent();
    release(machine.lease(&["acquire", "deploy"]).silent());
    // The first endpoint answers, so no request goes to the other one.
    let far = format!("{},locks.example.org:8080", service.url());
    let in_clear_text =
        "the secret in ABA_LOCK_SERVER_SECRET_FILE is sent to http://locks.example.org:8080 in clear text";
    release(machine.lease(&["acquire", "--server", &far, "deploy"]).err(in_clear_text).err("hint: "));
    release(machine.lease(&["acquire", "-q", "--server", &far, "deploy"]).silent());
    let readable = format!("every user of this machine can read the secret in {}", secret.display());
    set_mode(&secret, 0o644);
    release(machine.lease(&["acquire", "deploy"]).err(&readable).err("chmod o-r"));
    machine.aba(&["lock", "deploy", "--", "true"]).status(0).err(&readable);
    machine.aba(&["lock", "-q", "deploy", "--", "true"]).status(0).silent();
}

#[test]
fn only_an_endpoint_on_loopback_or_with_tls_keeps_a_secret_on_the_machine_or_encrypted() {
    let machine = Machine::new("");
    let secret = machine.path("secret");
    std::fs::write(&secret, "a-secret\n").unwrap();
    set_mode(&secret, 0o600);
    let machine = machine.with("ABA_LOCK_SERVER_SECRET_FILE", secret.to_str().unwrap());
    // No server answers there. The warning comes before that.
    let warns = |server: &str| {
        let outcome = machine.lease(&["acquire", "-t", "0", "--server", server, "deploy"]).status(125);
        outcome.err.contains(&format!("is sent to {server} in clear text"))
    };
    for safe in [
        "https://locks.example.org:8080",
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://localhost:1",
        "http://LOCALHOST./locks",
        "http://db.localhost:1/locks",
        "http://[::1]:1",
        "http://[::1]",
        "http://[::ffff:127.0.0.1]:1",
    ] {
        assert!(!warns(safe), "{safe}");
    }
    for open in [
        "http://locks.example.org:8080",
        "http://10.0.0.1:2379",
        "http://localhost.example.org",
        "http://127.0.0.1.example.org/localhost",
        "http://[2001:db8::1]:8080",
        "http://[::]:1",
    ] {
        assert!(warns(open), "{open}");
    }
}

#[test]
fn waiting_and_interrupting_work_without_a_second_thread() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let mut holder = machine.start_holder("save");
    let wait = || machine.start_keeper_without_threads(&["lease", "acquire", "-w", "save"]);
    let mut waiter = wait();
    let said = waiter.read_error();
    assert!(said.starts_with("aba-lock: waiting for save at "), "{said}");
    send_signal(waiter.pid(), "INT");
    assert_eq!(waiter.wait(), 130);
    let mut waiter = wait();
    let said = waiter.read_error();
    assert!(said.starts_with("aba-lock: waiting for save at "), "{said}");
    holder.send_line();
    holder.wait();
    let id = waiter.read_line();
    assert_eq!(waiter.wait(), 0);
    machine.lease(&["release", &id]).status(0);
}
