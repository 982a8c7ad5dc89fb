//! Part `startup`: the most frequent calls, which acquire a free lock or are refused a held one.

use super::holder::{Holder, SharedDescriptor};
use crate::comparison::Comparison;
use crate::pinned::Pinned;
use crate::row::Row;
use crate::scene::{Root, Scene};

const PART: &str = "startup";

/// The name of the side in another locale than `C`. flock(1) then loads the locale, on some systems from a dozen files, while the
/// helper uses none.
const UTF8: &str = "flock(1) in C.UTF-8";

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    let file = root.lock_file("bench");
    let path = file.to_str().unwrap();
    let _pinned = Pinned::new();
    let mut rows = measure_descriptor(&root, &SharedDescriptor::open(&file));

    let no_op = root.no_op();
    let ours = root.helper(&["lock", "bench", "--", &no_op]);
    let quiet = root.helper(&["lock", "-q", "bench", "--", &no_op]);
    let theirs = root.flock(&["-n", path, &no_op]);
    let theirs_utf8 = theirs.clone().env("LC_ALL", "C.UTF-8");
    let become_it = root.flock(&["-nF", path, &no_op]);
    let floor = root.floor(&[path, &no_op]);
    rows.push(
        Comparison::new(PART)
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
        Comparison::new(PART)
            .side("aba-lock", || quiet.time())
            .side("flock(1)", || theirs.time())
            .side("floor", || floor.time())
            .run("refuse, in silence", scene.rounds),
    );
    rows.push(
        Comparison::new(PART)
            .side("aba-lock", || ours.time())
            .side("flock(1)", || theirs.time())
            .run("refuse, and name the holder (flock(1): in silence)", scene.rounds),
    );
    rows
}

/// Measures locks on a descriptor that the shell has open, as in `exec 200>file`. The helper gets the words of the shell library.
fn measure_descriptor(root: &Root, held: &SharedDescriptor) -> Vec<Row> {
    let rounds = root.scene.rounds;
    let theirs = |option| root.flock(&[option, "200"]);
    let utf8 = |option| theirs(option).env("LC_ALL", "C.UTF-8");
    let (lock, unlock) = (["lock", "--reopen", "--fd", "200", "bench"], ["unlock", "--fd", "200", "bench"]);
    // The programs in C write another record. In the file of the helper, they would make it skip its own record, because it keeps
    // foreign data.
    let path = root.lock_file("plain");
    let (held_plain, path) = (SharedDescriptor::open_on(201, &path), path.to_str().unwrap());
    let record = root.floor(&["-r", "201", path]);
    let mut sides = vec![
        ("aba-lock", root.helper(&lock), root.helper(&unlock)),
        ("flock(1)", theirs("-n"), theirs("-u")),
        (UTF8, utf8("-n"), utf8("-u")),
        ("static C, with libc", root.floor_with_libc(&["200"]), root.floor_with_libc(&["-u", "200"])),
        ("floor with a check and a record", record, root.floor(&["-u", "201"])),
        ("floor", root.floor(&["200"]), root.floor(&["-u", "200"])),
    ];
    if let (Some(locks), Some(unlocks)) = (root.locker(&["201", path]), root.locker(&["-u", "201"])) {
        sides.push(("static C on musl, with a check and a record", locks, unlocks));
    }
    if let (Some((name, locks)), Some((_, unlocks))) = (root.compared_helper(&lock), root.compared_helper(&unlock)) {
        sides.push((name, locks, unlocks));
    }
    let mut lock = Comparison::new(PART);
    let mut both = Comparison::new(PART);
    for (name, locks, unlocks) in &sides {
        lock = lock.side(name, || {
            let took = locks.time();
            held.release();
            held_plain.release();
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
