//! The holders and waiters of lock files, as the test reads them from `/proc`.

use crate::scene::Scene;
use std::collections::BTreeMap;
use std::fs;

/// The holders and waiters of a lock file, as `/proc` shows them or as the test expects them. Each has a flag: exclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LockUse {
    pub(crate) holders: BTreeMap<u32, bool>,
    /// The holders of a removed file of this name.
    pub(crate) removed: BTreeMap<u32, bool>,
    /// The waiters, in order.
    pub(crate) waiters: Vec<(u32, bool)>,
}

/// Reads the holders and waiters of the lock files of a scene from `/proc`.
pub(crate) fn read_lock_uses(scene: &Scene) -> BTreeMap<String, LockUse> {
    let start = format!("{}/aba-", scene.root().canonicalize().unwrap().display());
    let mut locks: BTreeMap<String, LockUse> = BTreeMap::new();
    let mut numbers: BTreeMap<String, String> = BTreeMap::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            let Ok(path) = fs::read_link(descriptor.path()) else { continue };
            let Some(rest) = path.to_str().and_then(|path| path.strip_prefix(&start)) else { continue };
            let (name, removed) = match rest.strip_suffix(".lock (deleted)") {
                Some(name) => (name, true),
                None => (rest.strip_suffix(".lock").unwrap(), false),
            };
            let info = process.path().join("fdinfo").join(descriptor.file_name());
            let info = fs::read_to_string(info).unwrap_or_default();
            // `lock:  1: FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF`. A waiter holds bytes of the file (POSIX).
            let is_whole = |line: &&str| line.split_whitespace().nth(1) == Some("FLOCK");
            let mut lines = info.lines().filter_map(|line| line.strip_prefix("lock:"));
            let Some(line) = lines.find(is_whole) else { continue };
            let words: Vec<&str> = line.split_whitespace().collect();
            let lock = locks.entry(name.to_owned()).or_default();
            if removed {
                lock.removed.insert(pid, words[3] == "WRITE");
            } else {
                lock.holders.insert(pid, words[3] == "WRITE");
                numbers.insert(words[5].to_owned(), name.to_owned());
            }
        }
    }
    // A long list is read in pieces. While other waiters come and go, one at the border of two pieces may be missing.
    let mut queues = BTreeMap::new();
    for _ in 0..5 {
        for (name, queue) in read_waiters(&numbers) {
            let known: &mut Vec<_> = queues.entry(name).or_default();
            if queue.len() >= known.len() {
                *known = queue;
            }
        }
    }
    for (name, queue) in queues {
        locks.get_mut(&name).unwrap().waiters = queue;
    }
    locks
}

/// The byte of a lock file for which a shared waiter asks when exclusive ones wait before it. The turnstile comes after it; a
/// shared waiter asks there for two bytes.
const MARK: u64 = (1 << 62) + (1 << 32) + 41;

/// The place of a waiter (the lock, the mark or the turnstile), its pid, and true if it is exclusive.
type PlacedWaiter = (u8, (u32, bool));

/// Reads the waiters of lock files, whose numbers in `/proc/locks` are the keys of `numbers`.
fn read_waiters(numbers: &BTreeMap<String, String>) -> BTreeMap<String, Vec<(u32, bool)>> {
    let mut queues: BTreeMap<String, Vec<PlacedWaiter>> = BTreeMap::new();
    // `1: -> FLOCK  ADVISORY  WRITE 4321 fe:00:1234 0 EOF`
    for line in fs::read_to_string("/proc/locks").unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let (Some(&"->"), Some(name)) = (words.get(1), words.get(6).and_then(|file| numbers.get(*file))) {
            let queue = queues.entry(name.clone()).or_default();
            let asked = words[7].parse::<u64>().unwrap();
            let (place, exclusive) = match words[2] {
                "FLOCK" => (0, words[4] == "WRITE"),
                _ if asked == MARK => (1, false),
                _ => (2, words[7] == words[8]),
            };
            let waiter = (place, (words[5].parse().unwrap(), exclusive));
            if !queue.contains(&waiter) {
                queue.push(waiter);
            }
        }
    }
    let sort = |mut queue: Vec<PlacedWaiter>| {
        queue.sort_by_key(|(place, _)| *place);
        queue.into_iter().map(|(_, waiter)| waiter).collect()
    };
    queues.into_iter().map(|(name, queue)| (name, sort(queue))).collect()
}
