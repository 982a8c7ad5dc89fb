//! Signals during a wait: Ctrl-C, Ctrl-Z, handlers and kills. Nothing that the wait began may be left.

use crate::etcd::Etcd;
use crate::machine::Machine;
use crate::process::{RunningScript, child_pids, send_signal, wait_until};
use std::process::Command;

/// Types into an interactive shell on a terminal. Its arguments are, by turns, a text to wait for and a text to type.
/// After the last text it prints a line, and keeps the shell until it reads a line.
const TYPIST: &str = r#"
import os, pty, select, sys, time
rules = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
seen, end = b"", time.time() + 100
while rules and time.time() < end:
    if rules[0].encode() in seen:
        rules.pop(0)
        seen = b""
        if rules:
            os.write(terminal, rules.pop(0).encode())
        continue
    if select.select([terminal], [], [], 0.05)[0]:
        seen += os.read(terminal, 4096)
print("gave up: " + repr((rules, seen)) if rules else "typed", flush=True)
sys.stdin.readline()
os.close(terminal)
os.waitpid(pid, 0)
"#;

/// Starts an interactive shell, sources the library, and types the rest.
fn start_shell(machine: &Machine, rules: &[&str]) -> RunningScript {
    let mut command: Command = machine.program("python3");
    command.args(["-c", TYPIST, "bash-", "bind 'set enable-bracketed-paste off'; PS1='<\\#> '\r", "<2> "]);
    command.args(["source \"$LIBRARY\"\r", "<3> "]).args(rules);
    let script = RunningScript::start(command);
    assert_eq!(script.read_line(), "typed");
    script
}

/// Starts an interactive shell, ends its wait for `cb` and `cc` with Ctrl-C, and types the rest.
fn start_interrupted_shell(machine: &Machine, then: &[&str]) -> RunningScript {
    start_shell(machine, &[&["aba_lock_operation -w cb cc\r", "waiting for cc at ", "\x03", "<4> "], then].concat())
}

#[test]
fn ctrl_c_in_an_interactive_shell_leaves_neither_locks_nor_leases() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.start_holder("cc");
    let shell = start_interrupted_shell(
        &other,
        &[
            "aba_lock_held cb; echo \"held-$?\"\r",
            "held-1",
            "[[ -e /dev/fd/200 || -e /dev/fd/201 ]]; echo \"open-$?\"\r",
            "open-1",
        ],
    );
    // The shell still lives.
    other.aba(&["status", "--server=", "cb"]).status(1);
    other.aba(&["status", "--server=", "cc"]).status(1);
    other.aba(&["lock", "-t", "30", "cb", "--", "echo", "ran"]).status(0).out("ran\n");
    wait_until("only the lease of the holder is left", || etcd.read_leases().len() == 1);
    holder.send_line();
    holder.wait();
    drop(shell);
}

#[test]
fn after_ctrl_c_an_interactive_shell_can_request_the_same_locks_again() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.start_holder("cc");
    let shell = start_shell(
        &other,
        &[
            "aba_lock_operation -w cc\r",
            "waiting for cc at ",
            "\x03",
            "<4> ",
            "aba_lock_operation -w cc; echo \"had-$?\"\r",
            "waiting for cc at ",
            "\x03",
            "<5> ",
            "aba_lock_operation --server= -n cc; echo \"had-$?\"\r",
            "had-0",
            "aba_unlock_operation; echo \"gone-$?\"\r",
            "gone-0",
        ],
    );
    holder.send_line();
    holder.wait();
    drop(shell);
}

#[test]
fn ctrl_c_without_a_server_leaves_no_local_lock() {
    let machine = Machine::new("");
    let mut holder = machine.start_holder("lc");
    let shell = start_shell(
        &machine,
        &["aba_lock_operation -w lb lc\r", "s for lc, held by ", "\x03", "<4> ", "echo \"here-$?\"\r", "here-130"],
    );
    machine.aba(&["lock", "-n", "lb", "--", "echo", "ran"]).status(0).out("ran\n").silent();
    holder.send_line();
    holder.wait();
    drop(shell);
}

#[test]
fn a_descriptor_that_the_user_reuses_after_ctrl_c_is_not_closed() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.start_holder("cc");
    let shell = start_interrupted_shell(
        &other,
        &[
            "exec 200>mine; aba_lock_held cc; echo \"data-$?\" >&200\r",
            "<5> ",
            "[[ -e /dev/fd/201 ]]; echo \"open-$?\"\r",
            "open-1",
        ],
    );
    assert_eq!(std::fs::read_to_string(other.path("mine")).unwrap(), "data-1\n");
    holder.send_line();
    holder.wait();
    drop(shell);
}

#[test]
fn a_stopped_wait_gives_back_its_place_in_the_queue() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.start_holder("save");
    for name in ["TSTP", "STOP"] {
        let mut script = other.start_script("set -m; aba_lock_operation -w save; echo went on");
        wait_until("the script waits", || etcd.read_leases().len() == 2);
        for pid in child_pids(script.pid()) {
            send_signal(pid, name);
        }
        assert_eq!(script.wait(), 125, "{name}");
        assert_eq!(script.try_read_line(), None, "{name}");
        assert_eq!(etcd.read_leases().len(), 1, "{name}: only the lease of the holder");
    }
    holder.send_line();
    holder.wait();
}

#[test]
fn a_handler_runs_during_the_wait_for_a_lease_and_nothing_is_left_at_the_server() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.start_holder("cc");
    let keys = etcd.read_keys();
    for (handler, status) in [("echo handled; exit 9", Some(9)), ("echo handled", None)] {
        let mut script = other.start_script(&format!("trap '{handler}' TERM; aba_lock_operation -w cb cc; echo held"));
        wait_until("the script waits at the server", || etcd.read_keys().len() > keys.len());
        send_signal(script.pid(), "TERM");
        assert_eq!(script.read_line(), "handled");
        if let Some(status) = status {
            assert_eq!(script.wait(), status);
            assert_eq!(etcd.read_keys(), keys);
            other.aba(&["lock", "--server=", "-n", "cb", "--", "echo", "ran"]).status(0).out("ran\n").silent();
        } else {
            wait_until("the script waits again", || etcd.read_keys().len() > keys.len());
            holder.send_line();
            holder.wait();
            assert_eq!(script.read_line(), "held");
            assert_eq!(script.wait(), 0);
        }
    }
}

#[test]
fn a_signal_ends_a_wait_without_a_second_thread_and_nothing_is_left_at_the_server() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let mut holder = machine.start_holder("save");
    let keys = etcd.read_keys();
    for name in ["INT", "TERM"] {
        let mut waiter = machine.start_keeper_without_threads(&["lease", "acquire", "-w", "save"]);
        let said = waiter.read_error();
        assert!(said.starts_with("aba-lock: waiting for save at "), "{said}");
        send_signal(waiter.pid(), name);
        assert_eq!(waiter.wait(), if name == "INT" { 130 } else { 143 });
        assert_eq!(etcd.read_keys(), keys);
    }
    holder.send_line();
    holder.wait();
}
