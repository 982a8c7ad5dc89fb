//! A random walk: many actors at the same time, each of which performs one action after another ([`crate::actions`]), while the
//! world around them is disturbed ([`crate::disturbances`]). The checker judges the history that they write.
//!
//! The same seed makes the same choices in each slot; the kernel decides which slot is faster.

use crate::history::Journal;
use crate::lock_rules::Violation;
use crate::place::{Place, is_free};
use crate::slot::Slot;
use crate::stage::Stage;
use crate::{actions, checker, disturbances};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The description of a walk.
pub(crate) struct WalkPlan {
    pub(crate) seed: u64,
    /// The number of actors at the same time.
    pub(crate) slots: usize,
    /// The number of actions in each slot.
    pub(crate) turns: usize,
    /// The time at which the walk ends early.
    pub(crate) until: Option<Instant>,
    /// `true` if the walk may mount small file systems.
    pub(crate) mounts: bool,
    /// `true` if the clock of a process can be changed.
    pub(crate) clocks: bool,
}

#[derive(Debug, Default)]
pub(crate) struct WalkReport {
    /// The number of calls of the helper.
    pub(crate) steps: usize,
    pub(crate) broken: Vec<String>,
    pub(crate) lines: usize,
    /// A sentence on the disturbances.
    pub(crate) disturbances: String,
}

/// Walks in the directory, which is emptied first.
pub(crate) fn walk(directory: &Path, plan: &WalkPlan) -> WalkReport {
    let place = Place::new(directory.to_owned());
    for name in
        ["data", "flocks", "full", "ro"].iter().map(|name| (*name).to_owned()).chain((0..8).map(|n| format!("d{n}")))
    {
        fs::create_dir(place.path(&name)).unwrap();
    }
    if plan.mounts {
        disturbances::mount_small_disks(&place);
    }
    let stage = Stage::new(directory, plan.mounts, plan.clocks);
    let over = AtomicUsize::new(0);
    thread::scope(|scope| {
        let actors: Vec<_> = (1..=plan.slots)
            .map(|slot| {
                let stage = &stage;
                scope.spawn(move || {
                    let mut slot = Slot::new(stage, plan.seed, slot);
                    for turn in 0..plan.turns {
                        if plan.until.is_some_and(|until| Instant::now() > until) {
                            break;
                        }
                        slot.begin_turn(turn);
                        actions::play(&mut slot, turn);
                    }
                })
            })
            .collect();
        let disturber = scope.spawn(|| disturbances::disturb(&stage, plan.seed, &over));
        for actor in actors {
            if actor.join().is_err() {
                stage.report("an actor of the rack itself failed".to_owned());
            }
        }
        over.store(1, Ordering::SeqCst);
        let _ = disturber.join();
    });
    check_end(&place, &stage);
    if plan.mounts {
        disturbances::unmount_small_disks(&place);
    }
    let history = fs::read_to_string(place.path("history")).unwrap_or_default();
    let (steps, disturbances) = (stage.steps.load(Ordering::SeqCst), stage.describe_disturbances());
    let mut broken = stage.into_broken();
    broken.extend(checker::check(&history).iter().map(|found| quote_history(&history, found)));
    WalkReport { steps, lines: history.lines().count(), broken, disturbances }
}

/// Returns a broken rule with the last lines of the history before it that mention the same things.
fn quote_history(history: &str, found: &Violation) -> String {
    let belongs = |line: &&str| found.about.iter().any(|word| line.contains(&format!(" {word}")));
    let before: Vec<&str> = history.lines().take(found.line + 1).filter(belongs).collect();
    let last = before[before.len().saturating_sub(12)..].join("\n    ");
    format!("{} (line {})\n    {last}", found.why, found.line + 1)
}

/// Checks the end of a walk: notes the content of all files, and reports locks that are still held and remains that the next
/// call does not remove.
fn check_end(place: &Place, stage: &Stage) {
    let journal = Journal::open(&place.path("history"));
    let begin = Instant::now();
    let locks = place.list_names("locks").into_iter().filter(|name| name.strip_suffix(".lock").is_some());
    let flocks = place.list_names("flocks").into_iter().map(|name| place.path("flocks").join(name));
    for file in locks.map(|name| place.root().join(name)).chain(flocks) {
        // A child of a killed actor may still be about to end.
        while !is_free(&file) {
            if begin.elapsed() > place.patience {
                stage.report(format!("at the end, {} is still held", file.display()));
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    // The daemons that scripts have left hold no lock. Now they end.
    fs::write(place.path("over"), "").unwrap();
    while let Some(pid) = find_helper_process(place) {
        if begin.elapsed() > place.patience {
            let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ");
            stage.report(format!("at the end, a process of the helper still runs: {words}"));
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    // After the end of all calls of killed actors, so that none of them leaves anything later.
    for file in place.list_names("data").iter().filter(|name| !name.contains('.')) {
        let content = place.read(&format!("data/{file}"));
        journal.note("0", format!("content data/{file} {}", content.lines().collect::<Vec<_>>().join(" ")).trim_end());
        let said = place.run_helper(["update", &format!("data/{file}"), "--", "sed", "$a end"]);
        if said.status != 0 || !said.err.is_empty() {
            stage.report(format!("at the end, the update of {file} ended so: {said:?}"));
        }
    }
    let litter = |name: &&String| name.starts_with('.');
    if let Some(name) = place.list_names("data").iter().find(litter) {
        stage.report(format!("at the end, there is litter: {name}"));
    }
    pay_debts(place, stage, &journal);
    for words in [vec!["list"], vec!["clean", "-q"], vec!["reserve", "--list"], vec!["run-once", "--list"]] {
        let said = place.run_helper(&words);
        if said.status != 0 || !said.err.is_empty() {
            stage.report(format!("at the end, {words:?} ended so: {said:?}"));
        }
    }
    place.run_helper(["run-once", "-G"]);
}

/// Notes the runs that are owed. The next call pays each of them.
fn pay_debts(place: &Place, stage: &Stage, journal: &Journal) {
    let names = place.list_names("locks");
    let names = names.iter().filter_map(|name| name.strip_prefix("aba-")?.strip_suffix(".lock"));
    for name in names.filter(|name| name.starts_with('o')) {
        let is_owed = || place.run_helper(["status", "--json", name]).out.contains("\"owed\": true");
        if is_owed() {
            journal.note("0", &format!("owed {name}"));
            let said = place.run_helper(["lock", "--coalesce", name, "--", "true"]);
            if said.status != 0 || !said.err.is_empty() || is_owed() {
                stage.report(format!("at the end, the run that {name} owed was not made: {said:?}"));
            }
        }
    }
}

/// Returns a process that runs the helper for this walk, such as a watcher.
fn find_helper_process(place: &Place) -> Option<u32> {
    let variable = format!("HOME={}", place.directory.display());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let of_walk = || fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == place.helper)
            && of_walk().split(|byte| *byte == 0).any(|word| word == variable.as_bytes())
    })
}
