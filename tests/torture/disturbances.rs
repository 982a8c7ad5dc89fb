//! Disturbances of the file systems during a walk: lock files are removed and renamed, a disk fills up, another one becomes read-only.
//! One thread of the walk performs them.

use crate::history::Journal;
use crate::kernel;
use crate::place::Place;
use crate::random::Random;
use crate::stage::Stage;
use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The locks whose files are removed. A call that acquires several locks acquires the first of these before its other ones, and
/// the rest after them.
pub(crate) const REMOVED: [&str; 3] = ["c0", "r0", "r1"];

/// The file of a script that is removed. It is a single one, so that often a process waits for it.
pub(crate) const REMOVED_FILE: &str = "flocks/r";

/// Mounts the small disk that fills up, and the one that becomes read-only.
pub(crate) fn mount_small_disks(place: &Place) {
    for (name, size) in [("full", "size=128k"), ("ro", "size=1m")] {
        kernel::mount(c"tmpfs", &place.path(name), 0, size).expect("a tmpfs can be mounted, as was tried before");
    }
}

pub(crate) fn unmount_small_disks(place: &Place) {
    for name in ["full", "ro"] {
        kernel::unmount(&place.path(name));
    }
}

/// Performs one disturbance after the other until the walk is over.
pub(crate) fn disturb(stage: &Stage, seed: u64, over: &AtomicUsize) {
    let place = Place::open(stage.directory.clone());
    let journal = Journal::open(&place.path("history"));
    let mut random = Random::new(seed.wrapping_mul(1000));
    let mut turn = 0;
    while over.load(Ordering::SeqCst) == 0 {
        thread::sleep(Duration::from_micros(random.below(8000)));
        turn += 1;
        match random.below(if stage.mounts { 4 } else { 2 }) {
            0 | 1 => remove_lock_file(&place, &journal, &mut random, turn, stage),
            2 => {
                let mut junk = fs::File::create(place.path("full/junk")).unwrap();
                // Until the disk is full.
                while junk.write_all(&[0; 4096]).is_ok() {}
                stage.full.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(random.below(8000)));
                let _ = fs::remove_file(place.path("full/junk"));
            }
            _ => {
                // The kernel refuses this while a process has a file open for writing there.
                if kernel::mount(c"tmpfs", &place.path("ro"), libc::MS_REMOUNT | libc::MS_RDONLY, "").is_ok() {
                    stage.remounts.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_micros(random.below(8000)));
                    kernel::mount(c"tmpfs", &place.path("ro"), libc::MS_REMOUNT, "").expect("it was writable before");
                }
            }
        }
    }
}

fn remove_lock_file(place: &Place, journal: &Journal, random: &mut Random, turn: usize, stage: &Stage) {
    let is_of_script = random.chance(50);
    let name = if is_of_script { REMOVED_FILE } else { *random.choose(&REMOVED) };
    let renames = random.chance(50);
    let path = if is_of_script { place.path(name) } else { place.lock_file(name) };
    let Ok(data) = fs::metadata(&path) else { return };
    journal.note("director", &format!("remove {name} {}", data.ino()));
    let gone = if renames || !stage.mounts {
        // The renamed file keeps its inode number, which the history needs to distinguish files. A tmpfs never reuses a
        // number; on other file systems, every file is renamed instead of removed.
        let away = place.path(&format!("away/{turn}"));
        fs::create_dir_all(&away).unwrap();
        fs::rename(&path, away.join(path.file_name().unwrap()))
    } else {
        fs::remove_file(&path)
    };
    // `clean` may have removed the file first.
    if gone.is_ok() {
        journal.note("director", &format!("removed {name} {}", data.ino()));
        stage.removals.fetch_add(1, Ordering::Relaxed);
    }
}
