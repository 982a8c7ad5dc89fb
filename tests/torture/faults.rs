//! What is done to the world during a walk: lock files removed and renamed by hand, a disk that fills up, a file system
//! that becomes read-only.

use crate::dice::Dice;
use crate::history::Journal;
use crate::kernel;
use crate::place::Place;
use crate::walk::Stage;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Locks whose files are removed by hand. The first is granted before the others of one call, the rest after them.
pub(crate) const REMOVED: [&str; 3] = ["c0", "r0", "r1"];

/// And this one of those that scripts lock as with flock(1): a single one, so that somebody waits for it.
pub(crate) const REMOVED_FILE: &str = "flocks/r";

/// Mounts the small disk that fills up, and the one that becomes read-only.
pub(crate) fn mount_small(place: &Place) {
    for (name, size) in [("full", "size=128k"), ("ro", "size=1m")] {
        kernel::mount(c"tmpfs", &place.path(name), 0, size).expect("a tmpfs can be mounted, as was tried before");
    }
}

pub(crate) fn unmount_small(place: &Place) {
    for name in ["full", "ro"] {
        kernel::unmount(&place.path(name));
    }
}

/// Does one thing after the other, until the walk is over.
pub(crate) fn direct(stage: &Stage, seed: u64, over: &AtomicUsize) {
    let place = Place::at(stage.directory.clone());
    let journal = Journal::open(&place.path("history"));
    let mut dice = Dice::new(seed.wrapping_mul(1000));
    let mut turn = 0;
    while over.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_micros(dice.roll(8000)));
        turn += 1;
        match dice.roll(if stage.mounts { 4 } else { 2 }) {
            0 | 1 => take_away(&place, &journal, &mut dice, turn, stage),
            2 => {
                let mut junk = fs::File::create(place.path("full/junk")).unwrap();
                // Until there is no room.
                while junk.write_all(&[0; 4096]).is_ok() {}
                stage.full.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(dice.roll(8000)));
                let _ = fs::remove_file(place.path("full/junk"));
            }
            _ => {
                // Refused as long as somebody has a file open there to write.
                if kernel::mount(c"tmpfs", &place.path("ro"), libc::MS_REMOUNT | libc::MS_RDONLY, "").is_ok() {
                    stage.remounts.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(dice.roll(8000)));
                    kernel::mount(c"tmpfs", &place.path("ro"), libc::MS_REMOUNT, "").expect("it was writable before");
                }
            }
        }
    }
}

fn take_away(place: &Place, journal: &Journal, dice: &mut Dice, turn: usize, stage: &Stage) {
    let of_flock = dice.percent(50);
    let name = if of_flock { REMOVED_FILE } else { *dice.pick(&REMOVED) };
    let renames = dice.percent(50);
    let path = if of_flock { place.path(name) } else { place.lock_file(name) };
    let Ok(data) = fs::metadata(&path) else { return };
    journal.note("director", &format!("remove {name} {}", data.ino()));
    let gone = if renames || !stage.mounts {
        // Kept, so that its number is not given to another file, which the history could not tell from it; where that is
        // no tmpfs, which gives none twice, in any case.
        let away = place.path(&format!("away/{turn}"));
        fs::create_dir_all(&away).unwrap();
        fs::rename(&path, away.join(path.file_name().unwrap()))
    } else {
        fs::remove_file(&path)
    };
    // A `clean` may have been faster, and another file may be there by now: but not the same.
    if gone.is_ok() {
        journal.note("director", &format!("removed {name} {}", data.ino()));
        stage.removals.fetch_add(1, Ordering::Relaxed);
    }
}
