//! Many workers, and nodes that are killed: there are never two holders at once, and tokens only grow.
//!
//! This is a short test. `ABA_LOCK_TORTURE_SECONDS=120` makes it long (`make torture-cluster`).

use crate::etcd::{Etcd, EtcdVersion};
use crate::machine::Machine;
use crate::process::TEST_LIMIT;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The work of a worker while it holds the lock. The witness is a lock of flock(2), on one file for all machines: it
/// shows a second holder, and the kernel releases it when a worker ends.
const WORK: &str = "exec 9>>\"$WITNESS\"
    flock -n 9 || { echo \"overlap $ABA_LOCK_TOKEN\" >>\"$HISTORY\"; exit 1; }
    echo \"in $ABA_LOCK_TOKEN\" >>\"$HISTORY\"
    sleep 0.02
    echo \"out $ABA_LOCK_TOKEN\" >>\"$HISTORY\"";

/// Checks the history by the rules alone. Returns the number of turns, or what is wrong.
fn check_history(history: &str) -> Result<usize, String> {
    let (mut last, mut inside, mut turns) = (0, None, 0);
    for line in history.lines() {
        let (what, token) = line.split_once(' ').ok_or_else(|| format!("no line of ours: {line:?}"))?;
        let token: u64 = token.parse().map_err(|_| format!("no token: {line:?}"))?;
        match what {
            "in" if token <= last => return Err(format!("token {token} after {last}")),
            // The worker before may have been ended inside. The witness shows that it is gone.
            "in" => (last, inside, turns) = (token, Some(token), turns + 1),
            "out" if inside == Some(token) => inside = None,
            _ => return Err(format!("{line}, while {inside:?} is inside")),
        }
    }
    Ok(turns)
}

#[test]
fn the_checker_finds_every_kind_of_error() {
    assert_eq!(check_history("in 4\nout 4\nin 7\nin 9\nout 9\n"), Ok(3));
    for wrong in
        ["in 4\noverlap 5\n", "in 4\nout 4\nin 4\n", "in 5\nout 5\nin 4\n", "in 4\nin 6\nout 4\n", "out 3\n", "in \n"]
    {
        assert!(check_history(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn while_nodes_are_killed_there_are_never_two_holders_and_tokens_only_grow() {
    let seconds = std::env::var("ABA_LOCK_TORTURE_SECONDS").ok().and_then(|text| text.parse().ok());
    let (seconds, workers, every) = seconds.map_or((20, 4, 4), |seconds| (seconds, 8, 5));
    let versions: &[EtcdVersion] =
        if workers == 8 { &[EtcdVersion::Installed, EtcdVersion::New] } else { &[EtcdVersion::Installed] };
    for version in versions {
        let mut etcd = Etcd::start_with(3, *version, "http", &[]);
        let directory = tempfile::tempdir().unwrap();
        let (history, witness) = (directory.path().join("history"), directory.path().join("witness"));
        let end = Instant::now() + Duration::from_secs(seconds);
        let (url, all) = (etcd.url(), thread::available_parallelism().map_or(1, usize::from));
        // On a slow machine, the work goes on until each worker has had several turns.
        let (begin, ended_well) = (Instant::now(), AtomicUsize::new(0));
        let is_over = || {
            let is_enough = ended_well.load(Ordering::SeqCst) > workers * 2;
            begin.elapsed() >= if is_enough { Duration::from_secs(seconds) } else { TEST_LIMIT }
        };
        let work = |_| {
            let machine = Machine::with_short_leases(&url)
                .with("WITNESS", witness.to_str().unwrap())
                .with("HISTORY", history.to_str().unwrap());
            let mut ends = Vec::new();
            while !is_over() {
                let said = machine.aba(&["lock", "-q", "-w", "work", "--", "bash", "-c", WORK]);
                // The worker is done, or was ended because its lease was lost.
                assert!([0, 137, 143].contains(&said.status), "{said:?}");
                ends.push(said.status);
                if said.status == 0 {
                    ended_well.fetch_add(1, Ordering::SeqCst);
                }
            }
            ends
        };
        let ends: Vec<i32> = thread::scope(|scope| {
            let work = &work;
            let running: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
            // A long run kills other nodes each time.
            let mut seed = if workers == 8 { std::process::id() } else { 1 };
            while Instant::now() + Duration::from_secs(every) < end {
                thread::sleep(Duration::from_secs(every - 2));
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let node = (seed >> 16) as usize % 3;
                etcd.kill(node);
                thread::sleep(Duration::from_secs(2));
                etcd.restart(node);
                // Without it, there is no majority while the next node is down.
                etcd.wait_until_healthy(node);
            }
            running.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        });
        let text = fs::read_to_string(&history).unwrap();
        let turns = check_history(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
        // Every worker that succeeded has a turn in the history, and each had several turns.
        let done = ends.iter().filter(|status| **status == 0).count();
        assert!(turns >= done && done > workers * 2, "{turns} turns, {done} of {} ended well, {all} cores", ends.len());
        println!("{turns} turns of {workers} workers in {seconds} s, {} ended with their lease", ends.len() - done);
    }
}
