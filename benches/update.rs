//! `update` side by side with the way to do it by hand: flock(1), a temporary file, sync(1), mv(1).

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of its own, outside the walls"
)]

mod common;

use common::time;
use std::fs;
use std::process::Command;
use std::time::Duration;

const ROUNDS: usize = 300;

fn main() {
    let helper = common::helper();
    let directory = std::env::temp_dir().join(format!("aba-lock-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let (mut ours, mut theirs): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for file in ["ours", "theirs"] {
        fs::write(directory.join(file), "a: 1\nb: 2\n").unwrap();
    }
    for round in 0..ROUNDS {
        // Another content each time: where nothing changes, we write nothing.
        let change = format!("s/^a: .*/a: {round}x/");
        let mut update = Command::new(&helper);
        update.args(["update", "ours", "--", "sed", &change]).current_dir(&directory);
        ours.push(time(update));
        let mut by_hand = Command::new("flock");
        let script = "sed \"$0\" <theirs >temporary && sync temporary && mv temporary theirs";
        by_hand.args(["theirs.lock", "sh", "-c", script, &change]).current_dir(&directory);
        theirs.push(time(by_hand));
    }
    common::print("update a small file", "flock(1), sync, mv", &mut ours, &mut theirs);
    memory(&helper, &directory);
    let _ = fs::remove_dir_all(&directory);
}

/// The most memory that a large file takes, as GNU time would say: of the helper alone.
fn memory(helper: &str, directory: &std::path::Path) {
    fs::write(directory.join("large"), vec![b'a'; 200 << 20]).unwrap();
    // Its command looks at its parent when it has read everything.
    let script = "tr a b; grep VmHWM /proc/$PPID/status >peak";
    let mut update = Command::new(helper);
    update.args(["update", "large", "--", "sh", "-c", script]).current_dir(directory);
    time(update);
    let peak = fs::read_to_string(directory.join("peak")).unwrap_or_default();
    println!("{:<28} {}", "update 200 MB, peak memory", peak.trim_start_matches("VmHWM:").trim());
}
