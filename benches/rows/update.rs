//! Part `update`: `update` compared with a script of flock(1), a temporary file and mv(1), once with sync(1), which protects against
//! an empty file after a power failure, and once without.

use crate::call::{Call, Measurement};
use crate::comparison::Comparison;
use crate::row::Row;
use crate::scene::{Root, Scene};
use std::cell::Cell;
use std::fs;

const PART: &str = "update";

const WITH_SYNC: &str = "sed \"$0\" <\"$1\" >temporary && sync temporary && mv temporary \"$1\"";
const WITHOUT: &str = "sed \"$0\" <\"$1\" >temporary && mv temporary \"$1\"";

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    vec![
        compare(&root, "small", "a: 1\nb: 2\n", "update a small file", (scene.rounds / 2).max(1)),
        compare(&root, "large", &"a: 1\n".repeat(4 << 20), "update a file of 20 MiB", scene.rounds_of_slowest()),
    ]
}

fn compare(root: &Root, file: &str, text: &str, row: &str, rounds: u32) -> Row {
    for side in ["ours", "with-sync", "without"] {
        fs::write(root.path.join(format!("{file}-{side}")), text).unwrap();
    }
    // Each call changes the content, because the helper does not write an unchanged file.
    let count = Cell::new(0);
    let time = |call: &dyn Fn(&str, &str) -> Call, side: &str| -> Measurement {
        count.set(count.get() + 1);
        call(&format!("{file}-{side}"), &format!("1s/^a: .*/a: {}x/", count.get())).current_dir(&root.path).time()
    };
    let time = &time;
    let ours = |file: &str, change: &str| root.helper(&["update", file, "--", "sed", change]);
    let by_hand = |script: &'static str| {
        move |file: &str, change: &str| root.flock(&[&format!("{file}.lock"), "sh", "-c", script, change, file])
    };
    Comparison::new(PART)
        .side("aba-lock", move || time(&ours, "ours"))
        .side("flock(1), sync, mv", move || time(&by_hand(WITH_SYNC), "with-sync"))
        .side("flock(1), mv", move || time(&by_hand(WITHOUT), "without"))
        .run(row, rounds)
}
