//! `update`, beside the way to do it by hand: flock(1), a temporary file, mv(1), and sync(1) for who does not want to find it
//! empty after a power cut.

use crate::call::{Call, Took};
use crate::contest::Contest;
use crate::row::Row;
use crate::scene::{Root, Scene};
use std::cell::Cell;
use std::fs;

const PART: &str = "update";

const WITH_SYNC: &str = "sed \"$0\" <\"$1\" >temporary && sync temporary && mv temporary \"$1\"";
const WITHOUT: &str = "sed \"$0\" <\"$1\" >temporary && mv temporary \"$1\"";

pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    vec![
        of(&root, "small", "a: 1\nb: 2\n", "update a small file", (scene.rounds / 2).max(1)),
        of(&root, "large", &"a: 1\n".repeat(4 << 20), "update a file of 20 MiB", scene.few()),
    ]
}

fn of(root: &Root, file: &str, text: &str, row: &str, rounds: u32) -> Row {
    for side in ["ours", "with-sync", "without"] {
        fs::write(root.path.join(format!("{file}-{side}")), text).unwrap();
    }
    // Another content each time: where nothing changes, we write nothing.
    let count = Cell::new(0);
    let time = |call: &dyn Fn(&str, &str) -> Call, side: &str| -> Took {
        count.set(count.get() + 1);
        call(&format!("{file}-{side}"), &format!("1s/^a: .*/a: {}x/", count.get())).current_dir(&root.path).time()
    };
    let time = &time;
    let ours = |file: &str, change: &str| root.helper(&["update", file, "--", "sed", change]);
    let by_hand = |script: &'static str| {
        move |file: &str, change: &str| root.flock(&[&format!("{file}.lock"), "sh", "-c", script, change, file])
    };
    Contest::new(PART)
        .side("aba-lock", move || time(&ours, "ours"))
        .side("flock(1), sync, mv", move || time(&by_hand(WITH_SYNC), "with-sync"))
        .side("flock(1), mv", move || time(&by_hand(WITHOUT), "without"))
        .run(row, rounds)
}
