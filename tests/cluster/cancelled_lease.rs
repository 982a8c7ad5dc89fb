//! Signals at each moment of `lease acquire`, `lease run` and `aba-lock lock --server`: a call that fails leaves no lease.

use crate::etcd::Etcd;
use crate::machine::{KEEPER, Machine, find_helper};
use crate::process::{RunningScript, send_signal, wait_until};
use crate::relay::Relay;
use crate::service::LockService;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The calls that acquire a lease and would hold it for two hours. The file of `--output` is `output`.
const CALLS: [&[&str]; 3] = [
    &["lease", "acquire", "--ttl", "2h", "--output", "output", "deploy"],
    &["lease", "run", "--ttl", "2h", "deploy", "--", "sleep", "1000"],
    &["lock", "deploy", "--", "sleep", "1000"],
];

fn is_free(machine: &Machine) -> bool {
    machine.lease(&["show", "deploy"]).status == 1
}

/// Returns the seconds until the lease ends.
fn seconds_left(machine: &Machine) -> u64 {
    let shown = machine.lease(&["show", "--json", "deploy"]).status(0).out;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    shown["holder"]["ends_in_seconds"].as_u64().unwrap()
}

/// A machine whose leases last for two hours.
fn new_machine(url: &str) -> Machine {
    Machine::new(url).with("ABA_LOCK_TTL", "2h")
}

/// A call under strace, which injects something into its system calls. `-D` makes strace a grandchild of this process.
fn start_with_injection(machine: &Machine, inject: &str, args: &[&str]) -> RunningScript {
    let mut command: Command = machine.program("strace");
    let program = if args[0] == "lease" { KEEPER.into() } else { find_helper() };
    command.args(["-D", "-qqq", "-o", "/dev/null", "-e", &format!("inject={inject}")]).arg(program).args(args);
    RunningScript::start(command)
}

#[test]
fn a_signal_while_the_request_is_on_its_way_gives_back_the_lease_that_is_granted_after_it() {
    let (service, etcd) = (LockService::start(&[]), Etcd::start(1));
    for (url, scheme, port, path) in [
        (service.url(), "http", service.port(), "/api/v1alpha1/lock "),
        (etcd.url(), "etcd", etcd.port(0), "/v3/kv/txn"),
    ] {
        let near = Machine::new(&url);
        for call in CALLS {
            let relay = Relay::to(port);
            let far = new_machine(&format!("{scheme}://127.0.0.1:{}", relay.port));
            relay.hold_request(path);
            let mut caller = far.start_helper(call);
            wait_until("the request is on its way", || relay.is_holding());
            send_signal(caller.pid(), "TERM");
            // A call that does not wait for the answer ends in this time.
            thread::sleep(Duration::from_millis(500));
            relay.pass_request();
            assert_eq!(caller.wait(), 143, "{call:?}");
            wait_until("the request was answered", || relay.has_answered());
            assert!(is_free(&near), "{url}: {call:?}");
        }
    }
}

#[test]
fn a_signal_gives_back_a_lease_whose_answer_is_lost() {
    let service = LockService::start(&[]);
    let near = Machine::new(&service.url());
    for call in CALLS {
        let relay = Relay::to(service.port());
        let far = new_machine(&format!("http://127.0.0.1:{}", relay.port));
        relay.hold_request("/api/v1alpha1/lock ");
        let mut caller = far.start_helper(call);
        wait_until("the request is on its way", || relay.is_holding());
        send_signal(caller.pid(), "TERM");
        // Longer than the time limit of the request, after which its connection is closed.
        thread::sleep(Duration::from_millis(1800));
        relay.pass_request();
        assert_eq!(caller.wait(), 143, "{call:?}");
        assert!(is_free(&near), "{call:?}");
    }
}

#[test]
fn a_signal_at_the_end_of_an_acquisition_gives_the_lease_back() {
    let (service, etcd) = (LockService::start(&[]), Etcd::start(1));
    let check = |url: &str| {
        for call in CALLS {
            let machine = new_machine(url);
            // The acquisition ends with a wake-up call for the thread that waits for signals. The delay is long enough for the
            // steps of this test on a slow machine.
            let mut caller = start_with_injection(&machine, "tgkill:delay_enter=5000000:when=1", call);
            if call.contains(&"acquire") {
                wait_until("the id is stored", || {
                    fs::metadata(machine.path("output")).is_ok_and(|data| data.len() > 0)
                });
                wait_until("the lease has its whole time", || seconds_left(&machine) > 7000);
            } else {
                wait_until("the lease is granted", || !is_free(&machine));
            }
            // The thread takes the signal, although the acquisition is over.
            send_signal(caller.pid(), "TERM");
            assert_eq!(caller.wait(), 143, "{call:?}");
            wait_until("the lease is given back", || is_free(&machine));
            // After it, while the signals are still blocked.
            let mut caller = start_with_injection(&machine, "tgkill:signal=TERM:when=1", call);
            assert_eq!(caller.wait(), 143, "{call:?}");
            wait_until("the lease is given back", || is_free(&machine));
        }
    };
    thread::scope(|scope| {
        for url in [service.url(), etcd.url()] {
            scope.spawn(move || check(&url));
        }
    });
}

#[test]
fn a_call_that_is_killed_before_there_is_a_keeper_leaves_a_lease_that_ends_soon() {
    let service = LockService::start(&[]);
    // The first pipe of the process is the one to its keeper.
    let machine = new_machine(&service.url());
    let mut caller = start_with_injection(&machine, "pipe2:signal=KILL:when=1", CALLS[1]);
    assert_eq!(caller.wait(), 137);
    assert!(!is_free(&machine) && seconds_left(&machine) <= 30);
}

#[test]
fn a_command_holds_a_lease_for_its_whole_time_to_live() {
    let (service, etcd) = (LockService::start(&[]), Etcd::start(1));
    for url in [service.url(), etcd.url()] {
        let machine = new_machine(&url);
        let script = "\"$HELPER\" lease show --json deploy";
        for call in [&["lease", "run", "deploy", "--"][..], &["lock", "deploy", "--"]] {
            let shown = machine.aba(&[call, &["sh", "-c", script]].concat()).status(0).silent().out;
            let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
            assert!(shown["holder"]["ends_in_seconds"].as_u64().unwrap() > 7000, "{url}: {shown}");
            wait_until("the lease is given back", || is_free(&machine));
        }
    }
}

#[test]
fn a_command_that_succeeds_after_its_keeper_has_ended_it_fails() {
    let service = LockService::start(&[]);
    let relay = Relay::to(service.port());
    let machine = Machine::with_short_leases(&format!("http://127.0.0.1:{}", relay.port));
    let script = "trap 'exit 0' TERM; echo held; while :; do sleep 0.05; done";
    let mut run = machine.start_helper(&["lease", "run", "deploy", "--", "bash", "-c", script]);
    assert_eq!(run.read_line(), "held");
    relay.cut();
    // The keeper ends the command before the lease ends.
    assert_eq!(run.wait(), 75);
    while !run.read_error().contains("the lease on deploy was lost before the command ended") {}
}

#[test]
fn a_wait_ends_with_its_parent() {
    let (service, etcd) = (LockService::start(&[]), Etcd::start(1));
    for url in [service.url(), etcd.url()] {
        let machine = Machine::new(&url);
        let held = machine.lease(&["acquire", "--ttl", "1h", "deploy"]).status(0).out;
        let mut shell = machine.start_script("\"$HELPER\" lease acquire -w --ttl 2h --output output deploy; echo ran");
        assert!(shell.read_error().contains("waiting for deploy"));
        wait_until("it is in the queue", || machine.lease(&["show", "deploy"]).out.contains("1. waits: "));
        send_signal(shell.pid(), "KILL");
        assert_eq!(shell.wait(), 137);
        wait_until("it has left the queue", || !machine.lease(&["show", "deploy"]).out.contains("waits"));
        machine.lease(&["release", held.trim()]).status(0);
        assert!(is_free(&machine) && fs::read_to_string(machine.path("output")).unwrap().is_empty());
    }
}

#[test]
fn a_time_to_live_that_is_too_long_is_refused_before_there_is_a_lease() {
    let (service, etcd) = (LockService::start(&[]), Etcd::start(1));
    for url in [service.url(), etcd.url()] {
        let machine = Machine::new(&url);
        for call in [&["acquire", "--ttl", "30000d", "deploy"][..], &["run", "--ttl", "30000d", "deploy", "--", "echo"]]
        {
            let said = machine.lease(call).status(2).err("a time to live of 2592000000 s is too long");
            assert!(said.err.ends_with("\nhint: use at most 3660d\n") && said.out.is_empty(), "{said:?}");
        }
        assert!(is_free(&machine));
        let id = machine.lease(&["acquire", "--ttl", "3660d", "deploy"]).status(0).silent().out;
        machine.lease(&["release", id.trim()]).status(0);
    }
}

#[test]
fn the_lines_of_the_output_file_begin_after_a_line_break() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let file = machine.path("output");
    for (before, separator) in [("", ""), ("other=1\n", ""), ("other=1", "\n"), ("\n", "")] {
        fs::write(&file, before).unwrap();
        machine.lease(&["acquire", "--output", file.to_str().unwrap(), "deploy"]).status(0).silent();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with(&format!("{before}{separator}lease=")), "{before:?}: {text:?}");
        machine.bash("\"$HELPER\" lease release \"$(sed -n s/^lease=//p output)\"").status(0);
    }
}
