//! The same at the lock service: over REST, with what it promises and what it does not.

use crate::relay::Relay;
use crate::scene::{KEEPER, Machine, RUNS, Said, free_ports, is_alive, signal, until};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// A lock service on loopback.
struct Service {
    directory: TempDir,
    port: u16,
    extra: Vec<String>,
    child: Option<Child>,
}

impl Service {
    fn start(extra: &[&str]) -> Self {
        let extra = extra.iter().map(|&word| word.to_owned()).collect();
        let directory = tempfile::tempdir().unwrap();
        let mut service = Self { directory, port: free_ports(1)[0], extra, child: None };
        service.spawn();
        service
    }

    fn program() -> PathBuf {
        let program = std::env::var_os("ABA_LOCKD_BIN").map(PathBuf::from);
        let program = program.unwrap_or_else(|| Path::new(KEEPER).with_file_name("aba-lockd"));
        assert!(
            program.exists(),
            "{} is not there: `cargo build -p aba-lockd`, or set ABA_LOCKD_BIN",
            program.display()
        );
        program
    }

    fn spawn(&mut self) {
        let mut command = Command::new(Self::program());
        let store = format!("sqlite:{}", self.directory.path().join("locks.db").display());
        command.args(["serve", "--listen", &format!("127.0.0.1:{}", self.port), "--grpc-listen", "127.0.0.1:0"]);
        command.args(["--store", &store]).args(&self.extra);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        until("the service listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn lease(machine: &Machine, args: &[&str]) -> Said {
    let mut words = vec!["lease"];
    words.extend(args);
    machine.aba(&words)
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn is_free(machine: &Machine) -> bool {
    lease(machine, &["show", "deploy"]).status == 1
}

#[test]
fn a_lease_of_the_service_shuts_all_others_out_and_its_tokens_grow() {
    let service = Service::start(&[]);
    let machine = Machine::new(&service.url());
    let first = lease(&machine, &["acquire", "deploy", "--who", "nightly", "--json"]).status(0).silent().out;
    let first: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(first["ttl_seconds"], 10, "{first}");
    let id = first["lease"].as_str().unwrap();
    lease(&machine, &["acquire", "deploy"]).status(75).err("deploy is held by pid ").err("(nightly)");
    lease(&machine, &["acquire", "-t", "0.3", "deploy"]).status(124).err("timed out waiting for deploy");
    lease(&machine, &["show", "deploy"]).status(0).out("deploy: held at http://").out("(nightly)").out("ends in ");
    lease(&machine, &["list"]).status(0).out("\ndeploy ");
    lease(&machine, &["renew", id]).status(0).silent();
    lease(&machine, &["release", id]).status(0).silent();
    lease(&machine, &["release", id]).status(0).silent();
    lease(&machine, &["renew", id]).status(75).err("is lost");
    assert!(is_free(&machine));
    let second = lease(&machine, &["acquire", "deploy", "--json"]).status(0).out;
    let second: serde_json::Value = serde_json::from_str(&second).unwrap();
    assert!(second["token"].as_u64() > first["token"].as_u64(), "{second} after {first}");
}

#[test]
fn a_script_has_the_lease_as_long_as_it_lives_and_who_waits_gets_it_then() {
    let service = Service::start(&[]);
    let (one, other) = (Machine::new(&service.url()), Machine::new(&service.url()));
    let mut holder = one.holder("deploy");
    let next = "aba_lock_operation -w deploy; echo held; aba_lock_check deploy; echo $?; read -r _";
    let mut next = other.script(next);
    assert!(next.error().contains("waiting for deploy at http://"));
    // Longer than a lease lasts that nobody renews.
    thread::sleep(Duration::from_secs(12));
    assert!(holder.runs() && next.has_said().is_none());
    holder.go();
    assert_eq!(holder.line(), "done");
    assert_eq!(holder.end(), 0);
    assert_eq!((next.line(), next.line()), ("held".to_owned(), "0".to_owned()));
    let keepers = other.keepers("deploy");
    signal(next.pid(), "KILL");
    next.end();
    until("it is given back", || is_free(&one));
    until("the keeper has ended", || !keepers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_wait_that_is_ended_leaves_the_queue() {
    let service = Service::start(&[]);
    let machine = Machine::new(&service.url());
    let held = lease(&machine, &["acquire", "deploy", "--ttl", "60"]).status(0).out;
    let mut waiter = machine.program(crate::scene::helper());
    waiter.args(["lease", "acquire", "-w", "deploy"]);
    let mut waiter = crate::scene::Script::start(waiter);
    assert!(waiter.error().contains("waiting for deploy"));
    until("it stands there", || lease(&machine, &["show", "deploy"]).out.contains("1. waits: pid "));
    signal(waiter.pid(), "INT");
    assert_eq!(waiter.end(), 130);
    until("it stands there no more", || !lease(&machine, &["show", "deploy"]).out.contains("waits"));
    lease(&machine, &["release", held.trim()]).status(0);
    assert!(is_free(&machine));
}

#[test]
fn a_script_that_is_cut_off_from_the_service_has_ended_before_another_has_the_lock() {
    let service = Service::start(&[]);
    let relay = Relay::to(service.port);
    let far = Machine::new(&format!("http://127.0.0.1:{}", relay.port));
    let near = Machine::new(&service.url());
    let script = "trap 'echo told' TERM; aba_lock_operation deploy; echo held; while :; do sleep 0.05; done";
    let mut script = far.script(script);
    assert_eq!(script.line(), "held");
    let next = format!("{RUNS}; aba_lock_operation -q -t 50 deploy; runs {}; echo \"alive: $?\"", script.pid());
    let mut next = near.script(&next);
    until("it waits", || lease(&near, &["show", "deploy"]).out.contains("waits"));
    relay.cut();
    assert_eq!(script.line(), "told");
    assert!(next.has_said().is_none());
    assert_eq!(script.end(), 137);
    assert_eq!(next.line(), "alive: 1");
    assert_eq!(next.end(), 0);
}

#[test]
fn a_service_that_is_killed_and_comes_back_costs_nobody_anything_and_an_answer_that_is_lost_is_found() {
    let mut service = Service::start(&[]);
    let relay = Relay::to(service.port);
    let machine = Machine::new(&format!("http://127.0.0.1:{}", relay.port));
    relay.lose("/api/v1alpha1/lock", 1);
    let id = lease(&machine, &["acquire", "deploy"]).status(0).out;
    assert_eq!(relay.to_lose(), 0);
    lease(&machine, &["release", id.trim()]).status(0);
    assert!(is_free(&machine));
    let mut holder = machine.holder("deploy");
    service.kill();
    thread::sleep(Duration::from_secs(2));
    service.spawn();
    thread::sleep(Duration::from_secs(10));
    assert!(holder.runs() && !is_free(&machine));
    holder.go();
    assert_eq!(holder.line(), "done");
    assert_eq!(holder.end(), 0);
    assert!(is_free(&machine));
}

#[test]
fn who_was_given_the_lock_and_did_not_hear_of_it_is_not_told_that_it_is_held() {
    let service = Service::start(&[]);
    let relay = Relay::to(service.port);
    // Asked again at the next endpoint; and asked again when what it had was asked for in vain.
    let both = format!("http://127.0.0.1:{},127.0.0.1:{}", relay.port, service.port);
    let one = format!("http://127.0.0.1:{}", relay.port);
    for (url, losses) in [(both, 1), (one, 2)] {
        for how in ["-n", "-w"] {
            let machine = Machine::new(&url);
            relay.lose("/api/v1alpha1/lock", losses);
            let id = lease(&machine, &["acquire", how, "-q", "deploy"]).status(0).silent().out;
            assert_eq!(relay.to_lose(), 0);
            lease(&machine, &["renew", id.trim()]).status(0);
            lease(&machine, &["release", id.trim()]).status(0);
            assert!(is_free(&machine));
        }
    }
}

#[test]
fn a_waiter_whose_answer_never_comes_finds_what_it_was_given() {
    let service = Service::start(&[]);
    let relay = Relay::to(service.port);
    let (near, far) = (Machine::new(&service.url()), Machine::new(&format!("http://127.0.0.1:{}", relay.port)));
    let held = lease(&near, &["acquire", "deploy", "--ttl", "60"]).status(0).out;
    let mut waiter = far.script("aba_lock_operation -w deploy; echo held; aba_lock_check deploy; echo $?; read -r _");
    assert!(waiter.error().contains("waiting for deploy"));
    until("it stands there", || lease(&near, &["show", "deploy"]).out.contains("1. waits: pid "));
    // What was open says nothing any more; what is opened goes through.
    relay.hush();
    lease(&near, &["release", held.trim()]).status(0);
    assert_eq!((waiter.line(), waiter.line()), ("held".to_owned(), "0".to_owned()));
    waiter.go();
    assert_eq!(waiter.end(), 0);
    until("it is given back", || is_free(&near));
}

#[test]
fn a_service_with_tokens_wants_one() {
    let place = tempfile::tempdir().unwrap();
    let tokens = place.path().join("tokens");
    std::fs::write(&tokens, "reader lock:read only-to-look-at-it-1\nmaker lock:read,lock:write all-that-there-is-2\n")
        .unwrap();
    set_mode(&tokens, 0o600);
    let service = Service::start(&["--token-file", tokens.to_str().unwrap()]);
    lease(&Machine::new(&service.url()), &["acquire", "deploy"])
        .status(125)
        .err("the lock service refused: ")
        .err("ABA_LOCK_SERVER_SECRET_FILE");
    let machine = Machine::new(&service.url());
    let secret = machine.path("secret");
    let machine = machine.with("ABA_LOCK_SERVER_SECRET_FILE", secret.to_str().unwrap());
    std::fs::write(&secret, "only-to-look-at-it-1\n").unwrap();
    set_mode(&secret, 0o600);
    lease(&machine, &["show", "deploy"]).status(1);
    lease(&machine, &["acquire", "deploy"]).status(125).err("the lock service refused: ");
    std::fs::write(&secret, "all-that-there-is-2\n").unwrap();
    machine.aba(&["lock", "deploy", "--", "true"]).status(0).silent();
}

#[test]
fn a_secret_that_others_can_learn_is_warned_of_when_a_lease_is_acquired() {
    let service = Service::start(&[]);
    let machine = Machine::new(&service.url());
    let secret = machine.path("secret");
    std::fs::write(&secret, "a-secret\n").unwrap();
    let machine = machine.with("ABA_LOCK_SERVER_SECRET_FILE", secret.to_str().unwrap());
    set_mode(&secret, 0o600);
    let release = |said: Said| lease(&machine, &["release", said.status(0).out.trim()]).status(0).silent();
    release(lease(&machine, &["acquire", "deploy"]).silent());
    // The first endpoint answers, so nothing is sent to the other one.
    let far = format!("{},locks.example.org:8080", service.url());
    let in_clear_text =
        "the secret in ABA_LOCK_SERVER_SECRET_FILE is sent to http://locks.example.org:8080 in clear text";
    release(lease(&machine, &["acquire", "--server", &far, "deploy"]).err(in_clear_text).err("hint: "));
    release(lease(&machine, &["acquire", "-q", "--server", &far, "deploy"]).silent());
    let readable = format!("every user of this machine can read the secret in {}", secret.display());
    set_mode(&secret, 0o644);
    release(lease(&machine, &["acquire", "deploy"]).err(&readable).err("chmod o-r"));
    machine.aba(&["lock", "deploy", "--", "true"]).status(0).err(&readable);
    machine.aba(&["lock", "-q", "deploy", "--", "true"]).status(0).silent();
}

#[test]
fn without_a_second_thread_a_lease_is_waited_for_and_a_signal_ends_the_wait() {
    let service = Service::start(&[]);
    let machine = Machine::new(&service.url());
    let mut holder = machine.holder("save");
    let wait = || machine.keeper_without_threads(&["lease", "acquire", "-w", "save"]);
    let mut waiter = wait();
    let said = waiter.error();
    assert!(said.starts_with("aba-lock: waiting for save at "), "{said}");
    signal(waiter.pid(), "INT");
    assert_eq!(waiter.end(), 130);
    let mut waiter = wait();
    let said = waiter.error();
    assert!(said.starts_with("aba-lock: waiting for save at "), "{said}");
    holder.go();
    holder.end();
    let id = waiter.line();
    assert_eq!(waiter.end(), 0);
    lease(&machine, &["release", &id]).status(0);
}
