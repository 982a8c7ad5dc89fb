//! The lock of a script on several machines: what keeps it, and what ends it.

use crate::etcd::{Etcd, choose_ports};
use crate::machine::Machine;
use crate::process::{is_alive, parent_pid, run_to_end, send_signal, wait_until};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn a_script_excludes_scripts_on_other_machines_until_it_ends() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut holder = one.start_holder("deploy");
    other
        .bash("source \"$LIBRARY\"; aba_lock_operation deploy; echo went on")
        .status(1)
        .err(&format!("aba-lock: deploy is already running: pid {} on host ", holder.pid()))
        .err("hint: wait for it with ABA_LOCK_TIMEOUT=60 in the environment, or show its holder with `aba-lock lease show deploy`");
    other
        .bash("source \"$LIBRARY\"; aba_lock_operation -n deploy; echo went on")
        .status(1)
        .err("hint: show its holder with `aba-lock lease show deploy`");
    // The refused script left no local lock.
    other.aba(&["status", "--server=", "deploy"]).status(1);
    one.aba(&["lock", "deploy", "--", "echo", "went on"]).status(75).err("deploy is already running: pid ");
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
    // The lease was given back before the script ended.
    assert_eq!(etcd.read_keys(), Vec::<String>::new());
    other
        .bash("source \"$LIBRARY\"; aba_lock_operation deploy; echo \"<$ABA_LOCK_TOKEN>\"; aba_lock_check deploy; echo $?")
        .status(0)
        .out(">\n0\n")
        .silent();
}

#[test]
fn the_command_of_lock_gets_the_lease_and_its_token() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let token = |args: &[&str]| -> u64 {
        let said = machine.aba(args).status(0).silent();
        said.out.trim().parse().unwrap_or_else(|_| panic!("{said:?}"))
    };
    let show = ["--", "bash", "-c", "echo $ABA_LOCK_TOKEN; test \"$(\"$HELPER\" lease list | wc -l)\" = 2"];
    let first = token(&[&["lock", "-w", "a"][..], &show].concat());
    let second = token(&[&["lock", "-w", "-o", "a"][..], &show].concat());
    let third = token(&[&["lock", "-w", "a"][..], &show].concat());
    assert!(first < second && second < third, "{first} {second} {third}");
    machine.aba(&["lock", "-w", "a", "--", "sh", "-c", "exit 9"]).status(9).silent();
    machine.aba(&["lock", "-w", "a", "--", "sh", "-c", "kill -TERM $$"]).status(143);
    machine.aba(&["lock", "-w", "a", "--", "/nowhere"]).status(127).err("command not found: /nowhere");
    machine
        .aba(&["lock", "-w", "a", "b", "--", "sh", "-c", "test \"$(\"$HELPER\" lease list | wc -l)\" = 3"])
        .status(0);
    // With a pid file, the keeper program waits for the command, and removes the file.
    let file = machine.path("pid");
    let with_file = ["lock", "-w", "--pid-file", file.to_str().unwrap(), "a"];
    let script = format!("test \"$(cat '{}')\" = $$ && \"$HELPER\" lock a -- true && exit 9", file.display());
    machine.aba(&[&with_file[..], &["--", "bash", "-c", &script]].concat()).status(9).silent();
    assert!(!file.exists());
    // If Ctrl-C ends the command, then it ends the script, too.
    let script = r#"setsid -w bash -c '"$HELPER" lock -w -o a -- sh -c "kill -INT 0; sleep 60"; echo went on'"#;
    machine.bash(script).status(130).silent();
    std::os::unix::fs::symlink("/nowhere", &file).unwrap();
    machine.aba(&[&with_file[..], &["--", "true"]].concat()).status(125).err("it is a symbolic link");
    wait_until("all leases are given back", || etcd.read_keys().is_empty());
    let lease = machine.aba(&["lease", "acquire", "--ttl", "1h", "a"]).status(0).out;
    machine.aba(&["lock", "a", "--", "true"]).status(75).err("a is already running: pid ");
    machine.aba(&["lock", "-E", "7", "a", "--", "true"]).status(7);
    machine.aba(&["lock", "-q", "a", "--", "true"]).status(75).silent();
    machine.aba(&["lock", "-t", "3", "a", "--", "true"]).status(124).err("timed out waiting for a");
    machine
        .aba(&["lock", "--on-busy", "echo $(echo instead) of \"$1\"", "a", "--", "true"])
        .status(0)
        .out("instead of a\n")
        .err("; running `echo $(echo instead)");
    // All locks are acquired, or none.
    machine.aba(&["lock", "0", "a", "--", "true"]).status(75);
    assert_eq!(etcd.read_keys(), [lease.trim()]);
    machine.aba(&["lock", "--server=", "a", "--", "true"]).status(0).silent();
}

#[test]
fn the_next_lock_is_granted_after_a_command_that_ends_at_once_or_gets_a_signal() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    // Without -w, the next call waits only for the last lease to be given back, and for a second at most.
    let lock = |args: &[&str]| {
        let begin = Instant::now();
        let said = machine.aba(args);
        if said.status == 75 && begin.elapsed() >= Duration::from_secs(1) {
            wait_until("the lease is given back", || etcd.read_keys().is_empty());
        } else {
            said.status(0).silent();
        }
    };
    for _ in 0..15 {
        lock(&["lock", "a", "--", "true"]);
        lock(&["lock", "-o", "a", "--", "true"]);
    }
    wait_until("the lease is given back", || etcd.read_keys().is_empty());
    for name in ["INT", "TERM"] {
        let script = "trap 'exit 7' INT TERM; echo up; while :; do sleep 0.05; done";
        let mut call = machine.start_helper(&["lock", "-w", "-o", "a", "--", "bash", "-c", script]);
        assert_eq!(call.read_line(), "up");
        send_signal(call.pid(), name);
        assert_eq!(call.wait(), 7, "{name}");
        assert_eq!(etcd.read_keys(), Vec::<String>::new());
    }
}

#[test]
fn without_a_keeper_or_a_server_nothing_is_locked_and_nothing_runs() {
    let machine = Machine::new("etcd://127.0.0.1:1").with("ABA_LOCK_KEEPER", "/nowhere");
    machine
        .aba(&["lock", "a", "--", "echo", "ran"])
        .status(125)
        .err("aba-lock: cannot use leases: aba-lock-keeper was not found")
        .err("hint: install it with `make install WITH_SERVICE=yes`");
    machine
        .bash("source \"$LIBRARY\"; aba_lock_operation a; echo went on")
        .status(125)
        .err("aba-lock-keeper was not found");
    machine.aba(&["lease", "list"]).status(125).err("aba-lock-keeper was not found");
    machine.aba(&["lock", "--server=", "a", "--", "true"]).status(0).silent();
    let port = choose_ports(1)[0];
    let machine = Machine::new(&format!("etcd://127.0.0.1:{port}"));
    let said = machine.bash("source \"$LIBRARY\"; aba_lock_operation -t 0.5 a; echo went on").status(125);
    assert_eq!(said.out, "");
    assert!(said.err.contains("no lease server answers"), "{said:?}");
    machine.aba(&["status", "--server=", "a"]).status(1);
}

#[test]
fn a_release_without_the_program_of_the_keeper_frees_the_lock_and_names_a_lease_that_remains() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let release = "export ABA_LOCK_KEEPER=/nowhere; aba_unlock_operation a 2>err; echo \"$?\"
        \"$HELPER\" status -q --server= a; echo \"$?\"; cat err >&2";
    for options in ["", "--shared", "--slots 2"] {
        // The keeper runs, and gives the lease back.
        let script = format!("source \"$LIBRARY\"; aba_lock_operation {options} a; {release}");
        machine.bash(&script).status(0).out("0\n1\n").silent();
        assert_eq!(etcd.read_keys(), Vec::<String>::new(), "{options}");
    }
    let text = "aba-lock: a is released on this machine, but its lease at the server remains until its time to live ends: cannot use leases: aba-lock-keeper was not found";
    for options in ["", "--shared"] {
        let mut script =
            machine.start_script(&format!("aba_lock_operation {options} a; echo held; read -r _; {release}"));
        assert_eq!(script.read_line(), "held");
        let before = etcd.read_keys();
        machine.kill_keepers("a");
        script.send_line();
        assert_eq!((script.read_line(), script.read_line()), ("0".to_owned(), "1".to_owned()));
        assert_eq!(script.read_error(), text, "{options}");
        assert!(script.read_error().starts_with("hint: install it with "));
        assert_eq!(etcd.read_keys(), before);
        script.wait();
        wait_until("the lease has ended", || etcd.read_keys().is_empty());
    }
}

#[test]
fn a_nested_call_uses_the_lease_of_the_outer_script() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let inner = "source \"$LIBRARY\"; aba_lock_operation deploy; aba_lock_check deploy; echo inner $? $ABA_LOCK_TOKEN";
    let said = machine
        .program("bash")
        .args(["-c", "source \"$LIBRARY\"; aba_lock_operation deploy; bash -c \"$INNER\"; echo outer $ABA_LOCK_TOKEN"])
        .env("INNER", inner)
        .output()
        .unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let tokens: Vec<&str> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert!(text.starts_with("inner 0 "), "{text}");
    assert!(tokens.len() == 2 && tokens[0] == tokens[1] && !tokens[0].is_empty(), "{text}");
    machine
        .aba(&["lock", "deploy", "--", "bash", "-c", "\"$HELPER\" lock deploy -- echo nested"])
        .status(0)
        .out("nested\n");
}

#[test]
fn the_keeper_has_its_own_session_and_no_descriptors_of_the_caller() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let script = machine.start_script("exec 7</dev/null 8>other; aba_lock_operation deploy; echo held; read -r _");
    assert_eq!(script.read_line(), "held");
    for pid in machine.wait_for_keepers("deploy") {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        for fd in fds {
            let link = fs::read_link(fd.path()).unwrap();
            let text = link.to_str().unwrap();
            let known = text == "/dev/null" || text.starts_with("socket:[") || link == machine.lock_file("deploy");
            assert!(known, "{pid} has {text} open");
        }
        // The keeper's open file description is its own: it has no lock of flock(2).
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/3")).unwrap();
        assert!(!info.contains("FLOCK"), "{info}");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        assert_ne!(fields[3], script.pid().to_string(), "its session is the script's");
        assert_eq!(fields[4], "0", "it has a terminal");
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    }
}

#[test]
fn the_lease_is_given_back_however_the_script_ends() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    // Without QUIT, which bash ignores.
    for (name, to_group) in [("KILL", false), ("TERM", false), ("HUP", true), ("INT", true)] {
        let mut holder = machine.start_holder("deploy");
        let keepers = machine.find_keepers("deploy");
        assert!(!keepers.is_empty(), "{name}");
        // A terminal sends a signal to the whole process group.
        let group = if to_group { "-" } else { "" };
        send_signal(format!("{group}{}", holder.pid()), name);
        holder.wait();
        wait_until("the lease is given back", || etcd.read_keys().is_empty());
        wait_until("the keepers have ended", || !keepers.iter().any(|pid| is_alive(*pid)));
    }
}

#[test]
fn a_child_that_outlives_the_script_holds_lock_and_lease() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    machine.make_gate();
    let script = "aba_lock_operation deploy; (echo $BASHPID; read -r _ <gate) >&2 & echo started; read -r _";
    let mut holder = machine.start_script(script);
    assert_eq!(holder.read_line(), "started");
    let child: u32 = holder.read_error().parse().unwrap();
    holder.send_line();
    assert_eq!(holder.wait(), 0);
    assert!(is_alive(child));
    assert_eq!(etcd.read_leases().len(), 1, "the child holds the lease");
    machine.aba(&["status", "--server=", "deploy"]).status(0);
    machine.open_gate();
    wait_until("the lease is given back", || etcd.read_keys().is_empty());
}

#[test]
fn the_exit_trap_of_the_script_runs_first_and_sees_the_exit_status() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let script =
        "set -euo pipefail; source \"$LIBRARY\"; trap 'echo \"mine $?\"; \"$HELPER\" lease list | wc -l # x' EXIT
        aba_lock_operation deploy; false";
    let said = machine.bash(script).status(1).silent();
    assert_eq!(said.out, "mine 1\n2\n");
    assert!(etcd.read_keys().is_empty());
    // A trap that is set later replaces the trap of the library. Then the keeper gives the lease back alone.
    machine
        .bash("source \"$LIBRARY\"; aba_lock_operation deploy; trap 'echo later' EXIT")
        .status(0)
        .out("later\n")
        .silent();
    wait_until("the keeper has given the lease back", || etcd.read_keys().is_empty());
    let unlock = "source \"$LIBRARY\"; aba_lock_operation deploy; aba_unlock_operation deploy
        \"$HELPER\" lease show deploy; echo $?; \"$HELPER\" status --server= -q deploy; echo $?; echo \"<${ABA_LOCK_TOKEN-}>\"";
    machine.bash(unlock).status(0).out("free at").out("\n1\n1\n<>\n").silent();
}

#[test]
fn an_exit_trap_that_ends_with_a_backslash_or_a_comment_is_preserved() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    for (trap, out) in [("echo b \\", "b\n"), ("echo b # \\", "b\n"), ("echo 'b  '\n", "b  \n"), ("", "")] {
        let text = "source \"$LIBRARY\"; trap -- \"$TRAP\" EXIT; aba_lock_operation tr; exit 4";
        let said = run_to_end(machine.program("bash").env("TRAP", trap).args(["-c", text])).status(4).silent();
        assert_eq!(said.out, out, "{trap:?}");
        assert_eq!(etcd.read_keys(), Vec::<String>::new(), "{trap:?}");
    }
}

#[test]
fn a_killed_guard_or_courier_is_replaced_and_the_lease_is_kept() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let mut holder = machine.start_holder("deploy");
    let key = etcd.read_leases();
    for victim in [0, 1, 0] {
        let pid = machine.wait_for_keepers("deploy")[victim];
        send_signal(pid, "KILL");
        wait_until("another process has replaced it", || {
            let keepers = machine.find_keepers("deploy");
            keepers.len() == 2 && !keepers.contains(&pid) && parent_pid(keepers[1]) == keepers[0]
        });
    }
    // Longer than a lease lives without renewal.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(etcd.read_leases(), key);
    assert!(holder.is_running());
    // A courier that hangs is replaced in time, too.
    send_signal(machine.wait_for_keepers("deploy")[1], "STOP");
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(etcd.read_leases(), key);
    assert!(holder.is_running());
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    holder.wait();
    wait_until("the lease is given back", || etcd.read_keys().is_empty());
}

#[test]
fn signals_to_a_whole_control_group_do_not_end_the_keepers() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let mut script =
        machine.start_script("aba_lock_operation deploy; echo held; read -r _; aba_lock_check deploy; echo $?");
    assert_eq!(script.read_line(), "held");
    let keepers = machine.wait_for_keepers("deploy");
    for name in ["HUP", "INT", "QUIT", "TERM"] {
        for pid in &keepers {
            send_signal(pid, name);
        }
    }
    for pid in &keepers {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap_or("0");
        // HUP, INT and QUIT are the signals 1 to 3, and TERM is 15.
        assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0x4007, 0x4007, "{pid}: {status}");
    }
    script.send_line();
    assert_eq!(script.read_line(), "0");
    assert_eq!(script.wait(), 0);
    // They still end with the script.
    assert_eq!(etcd.read_keys(), Vec::<String>::new());
    wait_until("the keepers have ended", || !keepers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn the_lease_of_a_script_that_has_ended_is_not_renewed_while_the_guard_is_stopped() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let mut holder = machine.start_holder("deploy");
    let keepers = machine.wait_for_keepers("deploy");
    send_signal(keepers[0], "STOP");
    send_signal(holder.pid(), "KILL");
    holder.wait();
    wait_until("the lease has ended by itself", || etcd.read_leases().is_empty());
    assert!(keepers.iter().all(|pid| is_alive(*pid)));
    send_signal(keepers[0], "CONT");
    wait_until("the keepers have ended", || !keepers.iter().any(|pid| is_alive(*pid)));
}

#[test]
fn a_script_in_posix_mode_gives_its_lease_back_when_it_ends() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    machine.bash("set -e -o posix; source \"$LIBRARY\"; aba_lock_operation px; exit 0").status(0).silent();
    assert_eq!(etcd.read_keys(), Vec::<String>::new());
    machine
        .bash("set -e -o posix; trap 'echo mine' EXIT; source \"$LIBRARY\"; aba_lock_operation px; exit 3")
        .status(3)
        .out("mine\n")
        .silent();
    assert_eq!(etcd.read_keys(), Vec::<String>::new());
}

#[test]
fn the_check_fails_without_a_keeper() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    let script = "aba_lock_operation deploy; aba_lock_check deploy; echo $?; read -r _; aba_lock_check deploy; echo $?";
    let mut script = machine.start_script(script);
    assert_eq!(script.read_line(), "0");
    machine.kill_keepers("deploy");
    script.send_line();
    assert_eq!(script.read_line(), "1");
    assert!(script.read_error().contains("the lease on deploy is not renewed: its keeper has ended"));
}

#[test]
fn a_stopped_script_keeps_its_lease() {
    let etcd = Etcd::start(1);
    let machine = Machine::with_short_leases(&etcd.url());
    let mut holder = machine.start_holder("deploy");
    let key = etcd.read_leases();
    send_signal(format!("-{}", holder.pid()), "STOP");
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(etcd.read_leases(), key);
    send_signal(format!("-{}", holder.pid()), "CONT");
    holder.send_line();
    assert_eq!(holder.read_line(), "done");
    assert_eq!(holder.wait(), 0);
}

#[test]
fn status_and_list_show_locks_that_are_held_on_other_machines() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    other.aba(&["status", "deploy"]).status(1).out("deploy: free\n").out("deploy: free at etcd://");
    let holder = one.start_holder("deploy");
    let said = other.aba(&["status", "deploy"]).status(0).out("deploy: held elsewhere, free on this machine\n");
    let said = said.out("deploy: held at etcd://").silent();
    assert!(said.out.contains(&format!("  pid {} on host ", holder.pid())), "{said:?}");
    other.aba(&["status", "-q", "deploy"]).status(0).silent();
    let json: serde_json::Value =
        serde_json::from_str(&other.aba(&["status", "--json", "deploy"]).status(0).out).unwrap();
    assert_eq!((&json["state"], &json["remote"]["state"]), (&"held-elsewhere".into(), &"held".into()));
    assert_eq!(json["remote"]["holder"]["owner"]["pid"], holder.pid());
    other.aba(&["list"]).status(0).out("LEASE ").out("\ndeploy ");
    let json: serde_json::Value = serde_json::from_str(&other.aba(&["list", "--json"]).status(0).out).unwrap();
    assert_eq!(json["remote"][0]["name"], "deploy");
    one.aba(&["list"]).status(0).out("LOCK ").out("\nLEASE ");
    other.aba(&["list", "--server="]).status(0);
    let one = one.aba(&["status", "--server=", "deploy"]).status(0).out;
    assert!(!one.contains("etcd://"), "{one}");
}

#[test]
fn the_keeper_reports_an_event_log_that_cannot_be_written() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url()).with("ABA_LOCK_LOG", "/nowhere/log");
    let said = machine
        .bash(
            "exec 200<>\"$(\"$HELPER\" path --create a)\"; \"$HELPER\" lock -q --fd 200 a 2>/dev/null
            \"$HELPER\" unlock --fd 200 a; echo $?",
        )
        .status(0)
        .out("0\n");
    assert_eq!(said.err.matches("cannot write to the event log /nowhere/log: No such file or directory").count(), 1);
}
