//! `lock --slots N`: random ends and kills of many callers.

use crate::process::wait_until;
use crate::random::Random;
use crate::scene::{HELPER, Scene};
use serde_json::Value;
use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

/// Enters slot `$1` with its witness, a lock of flock(1) on another file, and its counter, which is read and written without any
/// protection.
///
/// If a caller is killed, the kernel may release its witness after its slot. A dead caller does not increase the counter, but a
/// living one does so before it leaves: only a changed counter is a violation.
const ENTER: &str = r#"
    bump() {
        read -r count <"counter.$1"
        { printf '%08d\n' $((10#$count + 1)) >&7; } 7<>"counter.$1"
    }
    enter() {
        exec 9>>"witness.$1"
        read -r found <"counter.$1"
        if ! flock -n 9; then
            flock 9
            read -r count <"counter.$1"
            [[ $count == "$found" ]] || echo "slot $1" >>violations
        fi
        bump "$1"
        echo >>entries
        bump "$1"
    }
"#;

#[test]
fn never_more_than_n_of_many_callers_run_and_all_are_served_while_others_are_killed() {
    let scene = Scene::new();
    scene.make_root();
    for slot in 1..=3 {
        fs::write(scene.path(&format!("counter.{slot}")), "00000000\n").unwrap();
    }
    let mut random = Random::new(0x5107_5107);
    let start = |index: usize| -> Child {
        let mut command = scene.program(HELPER);
        command.args(["lock", "-qw", "job"]).current_dir(scene.path("")).stdout(Stdio::null());
        if index % 10 == 9 {
            command.args(["--", "bash", "-c", &format!("{ENTER} for slot in 1 2 3; do enter $slot; done")]);
        } else {
            command.args(["--slots", "3", "--", "bash", "-c", &format!("{ENTER} enter $ABA_LOCK_SLOT")]);
        }
        command.spawn().unwrap()
    };
    for _ in 0..4 {
        let mut callers: Vec<(Child, bool)> = (0..50).map(|index| (start(index), false)).collect();
        for _ in 0..15 {
            thread::sleep(Duration::from_millis(random.below(20)));
            let victim = random.index(callers.len());
            callers[victim].0.kill().unwrap();
            callers[victim].1 = true;
        }
        for (caller, was_killed) in &mut callers {
            let status = crate::process::wait_for_exit(caller);
            assert!(*was_killed || status == 0, "{status}");
        }
    }
    assert_eq!(fs::read_to_string(scene.path("violations")).unwrap_or_default(), "");
    assert!(fs::read_to_string(scene.path("entries")).unwrap().lines().count() >= 100);
    // A child of a killed caller, which has inherited its slot, may end later.
    scene.aba(["wait", "-q", "job"]).run();
    scene.aba(["status", "job"]).status(1).out("job: free").run();
}

/// A caller that waits for one of three slots, and then runs until its standard input is closed or it is killed.
fn start_reader(scene: &Scene) -> Child {
    let mut command = scene.program(HELPER);
    command.args(["lock", "-qw", "--slots", "3", "job", "--", "cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn all_slots_are_held_again_after_each_release_and_each_kill_while_others_wait() {
    let scene = Scene::new();
    scene.make_root();
    let mut random = Random::new(0x5107_0003);
    let mut callers: Vec<Child> = Vec::new();
    let list = |what: &str| -> Vec<u64> {
        // Its exit status is 1 as long as no caller has a slot.
        let (_, said) = scene.aba(["status", "--json", "job"]).run_unchecked();
        let state: Value = serde_json::from_str(&said.out).unwrap();
        state[what].as_array().unwrap().iter().map(|process| process["pid"].as_u64().unwrap()).collect()
    };
    for _ in 0..20 {
        while callers.len() < 9 {
            callers.push(start_reader(&scene));
        }
        wait_until("three run and six wait", || (list("holders").len(), list("waiters").len()) == (3, 6));
        let (holder, head) = (list("holders")[random.index(3)], list("waiters")[0]);
        let (ends, killed) = match random.index(4) {
            0 => (Some(holder), vec![]),
            1 => (None, vec![holder]),
            2 => (None, vec![head]),
            // The waiter is killed in the instant in which it gets the slot.
            _ => (Some(holder), vec![head]),
        };
        let gone = |caller: &Child| ends == Some(caller.id().into()) || killed.contains(&caller.id().into());
        let (mut gone, others): (Vec<Child>, Vec<Child>) = callers.into_iter().partition(gone);
        callers = others;
        for caller in &mut gone {
            if ends == Some(caller.id().into()) {
                drop(caller.stdin.take());
            } else {
                caller.kill().unwrap();
            }
        }
        for mut caller in gone {
            crate::process::wait_for_exit(&mut caller);
        }
        wait_until("three run", || list("holders").len() == 3);
    }
    for mut caller in callers {
        drop(caller.stdin.take());
        assert_eq!(crate::process::wait_for_exit(&mut caller), 0);
    }
}
