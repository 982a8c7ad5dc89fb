//! Ctrl-C and Ctrl-Z while a shell waits, or what is killed then: nothing of what it had begun is left.

use crate::scene::{Etcd, Machine, Script, children, signal, until};
use std::process::Command;

/// Types into an interactive shell on a terminal: `argv` is what to wait for, and what to type then, by turns; in the end a
/// text to wait for, after which the shell stays until a line comes. A line on stdout says that it has come so far.
const TYPIST: &str = r#"
import os, pty, select, sys, time
rules = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
seen, end = b"", time.time() + 40
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

/// An interactive shell that has read the library, and what is typed there.
fn typed(machine: &Machine, rules: &[&str]) -> Script {
    let mut command: Command = machine.program("python3");
    command.args(["-c", TYPIST, "bash-", "bind 'set enable-bracketed-paste off'; PS1='<\\#> '\r", "<2> "]);
    command.args(["source \"$LIBRARY\"\r", "<3> "]).args(rules);
    let script = Script::start(command);
    assert_eq!(script.line(), "typed");
    script
}

/// The same, whose wait for `cc` with `cb` was ended by Ctrl-C, and what is typed then.
fn interrupted(machine: &Machine, then: &[&str]) -> Script {
    typed(machine, &[&["aba_lock_operation -w cb cc\r", "waiting for cc at ", "\x03", "<4> "], then].concat())
}

#[test]
fn ctrl_c_in_an_interactive_shell_leaves_neither_locks_nor_leases() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.holder("cc");
    let shell = interrupted(
        &other,
        &[
            "aba_lock_held cb; echo \"held-$?\"\r",
            "held-1",
            "[[ -e /dev/fd/200 || -e /dev/fd/201 ]]; echo \"open-$?\"\r",
            "open-1",
        ],
    );
    // While the shell lives.
    other.aba(&["status", "--server=", "cb"]).status(1);
    other.aba(&["status", "--server=", "cc"]).status(1);
    other.aba(&["lock", "-t", "30", "cb", "--", "echo", "ran"]).status(0).out("ran\n");
    until("only that of the holder is left", || etcd.leases().len() == 1);
    holder.go();
    holder.end();
    drop(shell);
}

#[test]
fn after_ctrl_c_an_interactive_shell_can_ask_for_the_same_again() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.holder("cc");
    let shell = typed(
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
    holder.go();
    holder.end();
    drop(shell);
}

#[test]
fn ctrl_c_leaves_no_lock_of_this_machine_either_when_there_is_no_server() {
    let machine = Machine::new("");
    let mut holder = machine.holder("lc");
    let shell = typed(
        &machine,
        &["aba_lock_operation -w lb lc\r", "s for lc, held by ", "\x03", "<4> ", "echo \"here-$?\"\r", "here-130"],
    );
    machine.aba(&["lock", "-n", "lb", "--", "echo", "ran"]).status(0).out("ran\n").silent();
    holder.go();
    holder.end();
    drop(shell);
}

#[test]
fn what_ctrl_c_has_left_is_not_closed_when_the_user_has_something_else_there() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.holder("cc");
    let shell = interrupted(
        &other,
        &[
            "exec 200>mine; aba_lock_held cc; echo \"data-$?\" >&200\r",
            "<5> ",
            "[[ -e /dev/fd/201 ]]; echo \"open-$?\"\r",
            "open-1",
        ],
    );
    assert_eq!(std::fs::read_to_string(other.path("mine")).unwrap(), "data-1\n");
    holder.go();
    holder.end();
    drop(shell);
}

#[test]
fn a_wait_that_is_stopped_gives_back_its_place_in_the_queue() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.holder("save");
    for name in ["TSTP", "STOP"] {
        let mut script = other.script("set -m; aba_lock_operation -w save; echo went on");
        until("it waits", || etcd.leases().len() == 2);
        for pid in children(script.pid()) {
            signal(pid, name);
        }
        assert_eq!(script.end(), 125, "{name}");
        assert_eq!(script.has_said(), None, "{name}");
        assert_eq!(etcd.leases().len(), 1, "{name}: that of the holder");
    }
    holder.go();
    holder.end();
}

#[test]
fn a_handler_runs_while_a_script_waits_for_a_lease_and_nothing_is_left_at_the_server() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.holder("cc");
    let keys = etcd.keys();
    for (handler, status) in [("echo handled; exit 9", Some(9)), ("echo handled", None)] {
        let mut script = other.script(&format!("trap '{handler}' TERM; aba_lock_operation -w cb cc; echo held"));
        until("it waits at the server", || etcd.keys().len() > keys.len());
        signal(script.pid(), "TERM");
        assert_eq!(script.line(), "handled");
        if let Some(status) = status {
            assert_eq!(script.end(), status);
            assert_eq!(etcd.keys(), keys);
            other.aba(&["lock", "--server=", "-n", "cb", "--", "echo", "ran"]).status(0).out("ran\n").silent();
        } else {
            until("it waits again", || etcd.keys().len() > keys.len());
            holder.go();
            holder.end();
            assert_eq!(script.line(), "held");
            assert_eq!(script.end(), 0);
        }
    }
}

#[test]
fn a_signal_ends_a_wait_that_has_no_second_thread_and_nothing_is_left_at_the_server() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let mut holder = machine.holder("save");
    let keys = etcd.keys();
    for name in ["INT", "TERM"] {
        let mut waiter = machine.keeper_without_threads(&["lease", "acquire", "-w", "save"]);
        let said = waiter.error();
        assert!(said.starts_with("aba-lock: waiting for save at "), "{said}");
        signal(waiter.pid(), name);
        assert_eq!(waiter.end(), if name == "INT" { 130 } else { 143 });
        assert_eq!(etcd.keys(), keys);
    }
    holder.go();
    holder.end();
}
