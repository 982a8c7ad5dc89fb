//! Leases of scripts in zsh.

use crate::etcd::find_project;
use crate::machine::Machine;
use crate::process::{Outcome, RunningScript, run_to_end, send_signal, wait_until};
use crate::relay::Relay;
use crate::service::LockService;

/// Returns a script that loads the library for zsh.
fn with_library(script: &str) -> String {
    format!("source '{}' || exit 90\n{script}", find_project().join("shell/aba-lock.zsh").display())
}

/// Runs a script until it ends.
fn zsh(machine: &Machine, script: &str) -> Outcome {
    run_to_end(machine.program("zsh").args(["-fc", &with_library(script)]))
}

/// Starts a script in a session of its own. It exchanges lines with the test.
fn start_zsh(machine: &Machine, script: &str) -> RunningScript {
    let mut command = machine.program("setsid");
    command.args(["zsh", "-fc", &with_library(script)]);
    RunningScript::start(command)
}

/// A script that holds a lock until the test sends a line.
const HOLDER: &str = "aba_lock_operation deploy; print held $ABA_LOCK_TOKEN; read -r _; print done";

#[test]
fn a_script_in_zsh_excludes_scripts_on_other_machines_until_it_ends() {
    let service = LockService::start(&[]);
    let (one, other) = (Machine::new(&service.url()), Machine::new(&service.url()));
    let mut holder = start_zsh(&one, HOLDER);
    let line = holder.read_line();
    assert!(line.strip_prefix("held ").is_some_and(|token| token.parse::<u64>().is_ok()), "{line}");
    let refused = zsh(&other, "aba_lock_operation -n deploy; print went on").status(1);
    assert_eq!(refused.out, "");
    refused.err(&format!("aba-lock: deploy is held by pid {} on host ", holder.pid()));
    // The refused script left no local lock.
    other.aba(&["status", "--server=", "deploy"]).status(1);
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
    // The lease was given back before the script ended.
    assert_eq!(one.lease(&["list"]).out, "");
    // Options name the server, too.
    let url = service.url();
    let script = format!(
        "unset ABA_LOCK_SERVER; aba_lock_operation --server '{url}' --ttl 10 --on-lost : deploy || exit 91
        aba_lock_check deploy && \"$HELPER\" lease list --server '{url}' | grep -c '^deploy '; aba_unlock_operation || exit 92
        \"$HELPER\" lease list --server '{url}'"
    );
    assert_eq!(zsh(&other, &script).status(0).silent().out, "1\n");
}

#[test]
fn the_token_in_zsh_is_that_of_the_last_call_whose_leases_the_script_holds() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let script = r#"
        setopt nounset
        IFS=:
        ABA_LOCK_TOKEN=inherited
        aba_lock_operation a b || exit 91
        [[ $ABA_LOCK_TOKEN == <->' '<-> ]] || exit 92
        first=$ABA_LOCK_TOKEN
        (aba_lock_operation --subshell c && [[ $ABA_LOCK_TOKEN == <-> ]]) || exit 93
        aba_lock_operation --server= local; [[ $ABA_LOCK_TOKEN == $first ]] || exit 94
        aba_lock_operation --slots 2 s; [[ $ABA_LOCK_TOKEN == <-> && $ABA_LOCK_SLOT == 1 ]] || exit 95
        aba_unlock_operation s; [[ $ABA_LOCK_TOKEN == $first && -z ${ABA_LOCK_SLOT-} ]] || exit 96
        sh -c 'test "$ABA_LOCK_TOKEN" = "$1"' sh "$first" || exit 97
        aba_lock_operation a; [[ $ABA_LOCK_TOKEN == ${first% *} ]] || exit 98
        aba_unlock_operation a; [[ $ABA_LOCK_TOKEN == ${first#* } ]] || exit 99
        aba_lock_check b || exit 101
        aba_lock_check a && exit 102
        aba_unlock_operation b; [[ $ABA_LOCK_TOKEN == inherited ]] || exit 103
        aba_unlock_operation local || exit 104
        "$HELPER" lease list
    "#;
    assert_eq!(zsh(&machine, script).status(0).silent().out, "");
}

#[test]
fn a_script_in_zsh_that_is_killed_leaves_no_lease() {
    let service = LockService::start(&[]);
    let machine = Machine::new(&service.url());
    let mut holder = start_zsh(&machine, HOLDER);
    assert!(holder.read_line().starts_with("held "));
    send_signal(holder.pid(), "KILL");
    assert_eq!(holder.wait(), 137);
    wait_until("the lease is given back", || machine.lease(&["list"]).out.is_empty());
}

#[test]
fn a_script_in_zsh_that_is_cut_off_from_the_server_is_warned() {
    let service = LockService::start(&[]);
    let relay = Relay::to(service.port());
    let machine = Machine::new(&format!("http://127.0.0.1:{}", relay.port));
    let script = "trap 'print told; exit 5' TERM; aba_lock_operation deploy; print held; while :; do sleep 0.05; done";
    let mut script = start_zsh(&machine, script);
    assert_eq!(script.read_line(), "held");
    relay.cut();
    assert_eq!(script.read_line(), "told");
    assert_eq!(script.wait(), 5);
    // It would try for a minute to give the lease back.
    for pid in machine.find_keepers("deploy") {
        send_signal(pid, "KILL");
    }
}
