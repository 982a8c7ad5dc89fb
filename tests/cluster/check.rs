//! `aba_lock_check` and `ABA_LOCK_TOKEN`.

use crate::etcd::{Etcd, choose_ports};
use crate::machine::Machine;

#[test]
fn the_check_sees_a_lost_outer_lease_below_a_nested_lock() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let script = "aba_lock_operation outer; echo held; read -r _
        nested() { source \"$LIBRARY\"; aba_lock_check outer; echo $?; }; export -f nested
        \"$HELPER\" lock inner -- bash -c 'nested'
        unset ABA_LOCK_SERVER; nested
        \"$HELPER\" lock --server= local -- bash -c nested";
    let mut script = machine.start_script(script);
    assert_eq!(script.read_line(), "held");
    machine.kill_keepers("outer");
    script.send_line();
    for _ in 0..3 {
        assert_eq!(script.read_line(), "1");
    }
    script.wait();
}

#[test]
fn token_and_check_work_with_blanks_between_addresses() {
    let etcd = Etcd::start(1);
    let (url, port) = (etcd.url(), etcd.port(0));
    let machine = Machine::new(&format!("{url}, 127.0.0.1:{port} "));
    let script = "aba_lock_operation deploy; echo \"held $ABA_LOCK_TOKEN\"; aba_lock_check deploy; echo $?; read -r _
        aba_lock_check deploy; echo $?";
    let mut script = machine.start_script(script);
    let token = script.read_line().strip_prefix("held ").unwrap().to_owned();
    assert!(token.parse::<u64>().is_ok_and(|token| token > 0), "{token:?}");
    assert_eq!(script.read_line(), "0");
    machine.aba(&["lease", "show", "deploy"]).status(0).out(&format!("{url},127.0.0.1:{port}"));
    machine.kill_keepers("deploy");
    script.send_line();
    assert_eq!(script.read_line(), "1");
    script.wait();
    // A blank inside an address is an error.
    let invalid = Machine::new(&format!("{url}/a b"));
    invalid.aba(&["lock", "deploy", "--", "echo", "ran"]).status(2).err("invalid server address: ");
}

#[test]
fn a_script_may_acquire_the_lease_after_the_lock_and_gets_its_token() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let script = "aba_lock_operation --server= late; aba_lock_check late; echo \"local $? <${ABA_LOCK_TOKEN-}>\"
        aba_lock_operation late; echo \"held $ABA_LOCK_TOKEN\"; aba_lock_operation late; echo \"held $ABA_LOCK_TOKEN\"
        read -r _; aba_lock_check late; echo $?";
    let mut script = machine.start_script(script);
    assert_eq!(script.read_line(), "local 0 <>");
    let held = script.read_line();
    assert!(held.strip_prefix("held ").unwrap().parse::<u64>().is_ok(), "{held}");
    assert_eq!(script.read_line(), held);
    machine.kill_keepers("late");
    script.send_line();
    assert_eq!(script.read_line(), "1");
    script.wait();
    // The end of the script gives it back.
    machine
        .bash("source \"$LIBRARY\"; aba_lock_operation --server= late; aba_lock_operation -q -t 100 late; exit 0")
        .status(0)
        .silent();
    assert_eq!(etcd.read_leases(), Vec::<String>::new());
}

#[test]
fn a_local_lock_of_an_outer_script_gets_no_lease_that_would_outlive_the_inner_script() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let inner = "source \"$LIBRARY\"; aba_lock_operation up; echo went on";
    let script = "source \"$LIBRARY\"; aba_lock_operation --server= up; bash -c \"$INNER\"; echo \"inner $?\"
        \"$HELPER\" lock up -- echo went on; echo \"command $?\"; (aba_lock_operation up); echo \"subshell $?\"
        aba_lock_held up; echo \"held $?\"";
    let machine = machine.with("INNER", inner);
    let said = machine.bash(script).status(0);
    assert_eq!(said.out, "inner 125\ncommand 125\nsubshell 125\nheld 0\n");
    assert!(said.err.contains("aba-lock: up is already held on this machine without a lease, by pid "), "{said:?}");
    assert_eq!(etcd.read_leases(), Vec::<String>::new());
}

#[test]
fn a_keeper_that_does_nothing_gives_no_lease() {
    let machine = Machine::new("etcd://127.0.0.1:1").with("ABA_LOCK_KEEPER", "/bin/true");
    let said = machine.bash("source \"$LIBRARY\"; aba_lock_operation --on-conflict return a b; echo $?").status(0);
    assert_eq!(said.out, "125\n");
    assert!(said.err.contains("aba-lock: cannot lock a: its lease cannot be confirmed"), "{said:?}");
    let said =
        machine.bash("source \"$LIBRARY\"; aba_lock_operation --on-conflict return a b; aba_lock_held a; echo $?");
    assert_eq!(said.out, "1\n");
}

#[test]
fn the_token_belongs_to_the_last_call_whose_locks_are_held() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let script = "source \"$LIBRARY\"; aba_lock_operation outer; outer=$ABA_LOCK_TOKEN
        aba_lock_operation inner; [[ $ABA_LOCK_TOKEN -gt $outer ]]; echo $?
        aba_unlock_operation inner; [[ $ABA_LOCK_TOKEN == $outer ]]; echo $?
        aba_lock_operation n m; read -r n m <<<$ABA_LOCK_TOKEN; [[ $n -gt $m && $m -gt $outer ]]; echo $?
        aba_unlock_operation n; [[ $ABA_LOCK_TOKEN == $m ]]; echo $?
        bash -c \"$INNER\"
        aba_unlock_operation m; aba_unlock_operation outer; echo \"<${ABA_LOCK_TOKEN-unset}>\"";
    let inner =
        "source \"$LIBRARY\"; above=$ABA_LOCK_TOKEN; aba_lock_operation x; [[ $ABA_LOCK_TOKEN -gt $above ]]; echo $?
        aba_unlock_operation x; [[ $ABA_LOCK_TOKEN == $above ]]; echo $?";
    let machine = machine.with("INNER", inner);
    let said = machine.bash(script).status(0).silent();
    assert_eq!(said.out, "0\n0\n0\n0\n0\n0\n<unset>\n");
    // A command gets the tokens in the order of its arguments. The leases are acquired in the order of their names.
    let said = machine.aba(&["lock", "n", "m", "n", "--", "sh", "-c", "echo $ABA_LOCK_TOKEN"]).status(0).silent();
    let tokens: Vec<u64> = said.out.split_whitespace().map(|token| token.parse().unwrap()).collect();
    assert!(tokens.len() == 2 && tokens[0] > tokens[1], "{tokens:?}");
}

#[test]
fn a_lease_at_one_server_does_not_satisfy_a_request_at_another_server() {
    let (etcd, elsewhere) = (Etcd::start(1), Etcd::start(1));
    let machine = Machine::new(&etcd.url()).with("ELSEWHERE", elsewhere.url());
    let inner = "source \"$LIBRARY\"; aba_lock_operation os; echo went on";
    let script = "source \"$LIBRARY\"; aba_lock_operation --ttl 20 os
        ABA_LOCK_SERVER=$ELSEWHERE bash -c \"$INNER\"; echo \"inner $?\"
        aba_lock_operation --on-conflict return --server \"$ELSEWHERE\" before os; echo \"same $?\"
        aba_lock_held before; echo \"before $?\"; aba_lock_check os; echo \"os $?\"
        ABA_LOCK_SERVER=$ABA_LOCK_SERVER/prefix bash -c \"$INNER\"; echo \"prefix $?\"";
    let machine = machine.with("INNER", inner);
    let said = machine.bash(script).status(0);
    assert_eq!(said.out, "inner 125\nsame 125\nbefore 1\nos 0\nprefix 125\n");
    let text = format!("aba-lock: os already has a lease at {}, and cannot get one at {}", etcd.url(), elsewhere.url());
    assert!(said.err.contains(&text), "{said:?}");
    assert_eq!(elsewhere.read_keys(), Vec::<String>::new());
    // Another list of endpoints of the same server is the same server.
    let port = etcd.port(0);
    let dead = choose_ports(1)[0];
    let script = format!(
        "source \"$LIBRARY\"; aba_lock_operation --server etcd://127.0.0.1:{port},127.0.0.1:{dead} os
        aba_lock_operation --server etcd://127.0.0.1:{dead},127.0.0.1:{port} os; echo $?
        aba_lock_operation --server ETCD://127.0.0.1:{port}/ os; echo $?"
    );
    assert_eq!(machine.bash(&script).status(0).silent().out, "0\n0\n");
}
