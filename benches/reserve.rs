//! `reserve` side by side with a bare lock, with ten rows and with ten thousand, and a hundred at once.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of its own, outside the walls"
)]

mod common;

use common::time;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 200;

fn main() {
    let helper = common::helper();
    let directory = std::env::temp_dir().join(format!("aba-lock-bench-{}", std::process::id()));
    let (few, many) =
        (registry(&helper, &directory.join("few"), 10), registry(&helper, &directory.join("many"), 10_000));
    let reserve = |root: &Path, args: &[&str]| {
        let mut command = Command::new(&helper);
        command.args(["reserve", "--range", "20000-49999"]).args(args).env("ABA_LOCK_DIR", root).current_dir("/");
        time(command)
    };
    let lock = || {
        let mut command = Command::new(&helper);
        command.args(["lock", "a", "--", "true"]).env("ABA_LOCK_DIR", &few);
        time(command)
    };
    reserve(&few, &[]);
    reserve(&many, &[]);
    let mut times: [Vec<Duration>; 6] = Default::default();
    // In turns, so that what else the machine does is in all of them.
    for round in 0..ROUNDS {
        let tag = format!("--tag=t{round}");
        times[0].push(lock());
        times[1].push(reserve(&few, &[]));
        times[2].push(reserve(&many, &[]));
        times[3].push(reserve(&few, &[&tag]));
        times[4].push(reserve(&many, &[&tag]));
        times[5].push(reserve(&few, &["--", "true"]));
    }
    let [mut locks, mut hits, mut many_hits, mut new, mut many_new, mut leases] = times;
    common::print("reserve, the same key", "lock -- true", &mut hits, &mut locks);
    common::print("reserve, a new key", "lock -- true", &mut new, &mut locks);
    common::print("reserve -- true", "lock -- true", &mut leases, &mut locks);
    common::print("the same key, 10000 rows", "10 rows", &mut many_hits, &mut hits);
    common::print("a new key, 10000 rows", "10 rows", &mut many_new, &mut new);
    let mut together: Vec<Duration> =
        (0..9).map(|round| hundred(&helper, &directory.join(round.to_string()))).collect();
    println!("{:<28} {:.0} milliseconds", "a hundred keys at once", common::median(&mut together) / 1e3);
    let _ = fs::remove_dir_all(&directory);
}

/// A state root whose registry has so many rows.
fn registry(helper: &str, root: &Path, rows: u32) -> PathBuf {
    fs::create_dir_all(root.join("reserve")).unwrap();
    let mut text = "aba-lock-registry 2\n".to_owned();
    for row in 0..rows {
        writeln!(
            text,
            "{} 1 1 5be01c2f.90d11a7e.07c4ff21.66aa0193.1f2e3d4c - /home/somebody/projects/checkout-{row:05}/tree",
            20_000 + row
        )
        .unwrap();
    }
    fs::write(root.join("reserve/ports"), text).unwrap();
    let mut recover = Command::new(helper);
    recover.args(["reserve", "--recover", "--quiet"]).env("ABA_LOCK_DIR", root);
    assert!(recover.status().unwrap().success());
    root.to_owned()
}

fn hundred(helper: &str, root: &Path) -> Duration {
    let start = Instant::now();
    let reserve = |key| {
        let mut command = Command::new(helper);
        command.args(["reserve", "--tag", &format!("t{key}")]).env("ABA_LOCK_DIR", root).current_dir("/");
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let running: Vec<_> = (0..100).map(reserve).collect();
    for mut child in running {
        assert!(child.wait().unwrap().success());
    }
    start.elapsed()
}
