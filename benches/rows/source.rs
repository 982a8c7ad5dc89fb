//! Part `source`: the cost of the shell library for a script.

use crate::comparison::Comparison;
use crate::pinned::Pinned;
use crate::row::Row;
use crate::scene::{LIBRARY, Scene};

const PART: &str = "source";

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    let file = root.lock_file("bench");
    let path = file.to_str().unwrap();
    let _pinned = Pinned::new();
    let sourced = root.bash("source \"$1\"", &[LIBRARY]);
    let bare = root.bash(":", &[LIBRARY]);
    let ours = root.bash("source \"$1\"; aba_lock_operation bench", &[LIBRARY]);
    let ours = ours.env("ABA_LOCK_BIN", &scene.helper);
    let theirs = root.bash("exec 200>>\"$1\"; flock -n 200", &[path]);
    vec![
        Comparison::new(PART)
            .side("aba-lock", || sourced.time())
            .side("bash alone", || bare.time())
            .run("a script that sources the library", scene.rounds),
        Comparison::new(PART)
            .side("aba-lock", || ours.time())
            .side("flock(1)", || theirs.time())
            .run("a script that takes a lock", scene.rounds),
    ]
}
