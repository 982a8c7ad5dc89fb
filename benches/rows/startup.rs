//! A lock that nobody else wants, and one that another has: what the helper is called for most.

use super::held::{Holder, On200};
use crate::contest::{Contest, Pinned};
use crate::row::Row;
use crate::scene::{Root, Scene};

const PART: &str = "startup";

/// In another locale than `C`: it loads that, from a dozen files on some systems. The helper has none.
const UTF8: &str = "flock(1) in C.UTF-8";

pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    let file = root.lock_file("bench");
    let path = file.to_str().unwrap();
    let _pinned = Pinned::new();
    let mut rows = descriptor(&root, &On200::open(&file));

    let nothing = root.nothing();
    let ours = root.helper(&["lock", "bench", "--", &nothing]);
    let quiet = root.helper(&["lock", "-q", "bench", "--", &nothing]);
    let theirs = root.flock(&["-n", path, &nothing]);
    let theirs_utf8 = theirs.clone().env("LC_ALL", "C.UTF-8");
    let become_it = root.flock(&["-nF", path, &nothing]);
    let floor = root.floor(&[path, &nothing]);
    rows.push(
        Contest::new(PART)
            .side("aba-lock", || ours.time())
            .side("flock(1)", || theirs.time())
            .side(UTF8, || theirs_utf8.time())
            .side("flock(1) -F", || become_it.time())
            .side("floor", || floor.time())
            .run("run a command under a lock", scene.rounds),
    );

    let held = Holder::new(&root, "bench");
    held.lock();
    let (quiet, ours) = (quiet.status(75), ours.status(75));
    let (theirs, floor) = (theirs.status(1), floor.status(1));
    rows.push(
        Contest::new(PART)
            .side("aba-lock", || quiet.time())
            .side("flock(1)", || theirs.time())
            .side("floor", || floor.time())
            .run("refuse, in silence", scene.rounds),
    );
    rows.push(
        Contest::new(PART)
            .side("aba-lock", || ours.time())
            .side("flock(1)", || theirs.time())
            .run("refuse, and say who has it (flock(1): in silence)", scene.rounds),
    );
    rows
}

/// By descriptor, as in `exec 200>file`: the shell has it open.
fn descriptor(root: &Root, held: &On200) -> Vec<Row> {
    let rounds = root.scene.rounds;
    let theirs = |option| root.flock(&[option, "200"]);
    let utf8 = |option| theirs(option).env("LC_ALL", "C.UTF-8");
    let sides = [
        ("aba-lock", root.helper(&["lock", "--fd", "200", "bench"]), root.helper(&["unlock", "--fd", "200", "bench"])),
        ("flock(1)", theirs("-n"), theirs("-u")),
        (UTF8, utf8("-n"), utf8("-u")),
        ("static C, with libc", root.floor_with_libc(&["200"]), root.floor_with_libc(&["-u", "200"])),
        ("floor", root.floor(&["200"]), root.floor(&["-u", "200"])),
    ];
    let mut lock = Contest::new(PART);
    let mut both = Contest::new(PART);
    for (name, locks, unlocks) in &sides {
        lock = lock.side(name, || {
            let took = locks.time();
            held.release();
            took
        });
        both = both.side(name, || {
            let (mut took, unlocked) = (locks.time(), unlocks.time());
            took.microseconds += unlocked.microseconds;
            took.cpu += unlocked.cpu;
            took.peak_kib = took.peak_kib.max(unlocked.peak_kib);
            took
        });
    }
    vec![lock.run("lock a descriptor", rounds), both.run("lock and unlock a descriptor", rounds)]
}
