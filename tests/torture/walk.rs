//! A random walk: many actors at once, each of which does one thing after another, chosen by the seed; some are killed or
//! stopped on the way. What they did is in a history, which [`crate::checker`] judges.
//!
//! The same seed makes the same choices in each slot; who is first among slots is the kernel's choice.

use crate::checker;
use crate::dice::Dice;
use crate::history::Journal;
use crate::kernel;
use crate::place::{self, Place, is_free};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What is to be walked.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How many actors there are at a time.
    pub(crate) slots: usize,
    /// How many things each does.
    pub(crate) turns: usize,
    /// Where it ends, if it takes that long.
    pub(crate) until: Option<Instant>,
    /// Whether small file systems may be mounted here.
    pub(crate) mounts: bool,
    /// Whether a process can be told another time here.
    pub(crate) clocks: bool,
}

/// How a walk ended.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    /// Calls of the helper, each judged by its words, and the history by the checker.
    pub(crate) steps: usize,
    pub(crate) broken: Vec<String>,
    pub(crate) lines: usize,
    /// What was done to them: for people, who may ask whether it was a torture at all.
    pub(crate) deeds: String,
}

/// What all slots share.
pub(crate) struct Stage {
    pub(crate) directory: PathBuf,
    pub(crate) mounts: bool,
    pub(crate) clocks: bool,
    steps: AtomicUsize,
    kills: AtomicUsize,
    stops: AtomicUsize,
    threadless: AtomicUsize,
    pub(crate) removals: AtomicUsize,
    pub(crate) full: AtomicUsize,
    pub(crate) remounts: AtomicUsize,
    broken: std::sync::Mutex<Vec<String>>,
}

impl Stage {
    pub(crate) fn breaks(&self, why: String) {
        self.broken.lock().unwrap().push(why);
    }
}

/// Walks, in this directory.
pub(crate) fn walk(directory: &Path, plan: &Plan) -> Walked {
    let place = Place::new(directory.to_owned());
    for name in
        ["data", "flocks", "full", "ro"].iter().map(|name| (*name).to_owned()).chain((0..8).map(|n| format!("d{n}")))
    {
        fs::create_dir(place.path(&name)).unwrap();
    }
    if plan.mounts {
        crate::faults::mount_small(&place);
    }
    let stage = Stage {
        directory: directory.to_owned(),
        mounts: plan.mounts,
        clocks: plan.clocks,
        steps: AtomicUsize::new(0),
        kills: AtomicUsize::new(0),
        stops: AtomicUsize::new(0),
        threadless: AtomicUsize::new(0),
        removals: AtomicUsize::new(0),
        full: AtomicUsize::new(0),
        remounts: AtomicUsize::new(0),
        broken: std::sync::Mutex::new(Vec::new()),
    };
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
                        slot.turn(turn);
                    }
                })
            })
            .collect();
        let director = scope.spawn(|| crate::faults::direct(&stage, plan.seed, &over));
        for actor in actors {
            if actor.join().is_err() {
                stage.breaks("an actor of the rack itself failed".to_owned());
            }
        }
        over.store(1, Ordering::SeqCst);
        let _ = director.join();
    });
    finish(&place, &stage);
    if plan.mounts {
        crate::faults::unmount_small(&place);
    }
    let history = fs::read_to_string(place.path("history")).unwrap_or_default();
    let mut broken = stage.broken.into_inner().unwrap();
    broken.extend(checker::check(&history).iter().map(|found| excerpt(&history, found)));
    let count = |number: &AtomicUsize| number.load(Ordering::SeqCst);
    let deeds = format!(
        "{} kills, {} stops, {} without threads, {} lock files taken away, {} times no space, {} times read-only",
        count(&stage.kills),
        count(&stage.stops),
        count(&stage.threadless),
        count(&stage.removals),
        count(&stage.full),
        count(&stage.remounts)
    );
    Walked { steps: count(&stage.steps), lines: history.lines().count(), broken, deeds }
}

/// A broken rule with the last lines before it that belong to it.
fn excerpt(history: &str, found: &checker::Broken) -> String {
    let belongs = |line: &&str| found.about.iter().any(|word| line.contains(&format!(" {word}")));
    let before: Vec<&str> = history.lines().take(found.line + 1).filter(belongs).collect();
    let last = before[before.len().saturating_sub(12)..].join("\n    ");
    format!("{} (line {})\n    {last}", found.why, found.line + 1)
}

/// The end: what is in the files, and that nothing is held, and nothing is left that the next call does not clear.
fn finish(place: &Place, stage: &Stage) {
    let journal = Journal::open(&place.path("history"));
    for file in place.names("data").iter().filter(|name| !name.contains('.')) {
        let content = place.read(&format!("data/{file}"));
        journal.note("0", format!("content data/{file} {}", content.lines().collect::<Vec<_>>().join(" ")).trim_end());
        let said = place.aba(["update", &format!("data/{file}"), "--", "sed", "$a end"]);
        if said.status != 0 || !said.err.is_empty() {
            stage.breaks(format!("at the end, the update of {file} ended so: {said:?}"));
        }
    }
    let litter = |name: &&String| name.starts_with('.');
    if let Some(name) = place.names("data").iter().find(litter) {
        stage.breaks(format!("at the end, there is litter: {name}"));
    }
    let begin = Instant::now();
    let locks = place.names("locks").into_iter().filter(|name| name.strip_suffix(".lock").is_some());
    let flocks = place.names("flocks").into_iter().map(|name| place.path("flocks").join(name));
    for file in locks.map(|name| place.root().join(name)).chain(flocks) {
        // Who was started by one that was killed may still be about to end.
        while !is_free(&file) {
            if begin.elapsed() > place.patience {
                stage.breaks(format!("at the end, {} is still held", file.display()));
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
    for words in [vec!["list"], vec!["clean", "-q"], vec!["reserve", "--list"], vec!["run-once", "--list"]] {
        let said = place.aba(&words);
        if said.status != 0 || !said.err.is_empty() {
            stage.breaks(format!("at the end, {words:?} ended so: {said:?}"));
        }
    }
    place.aba(["run-once", "-G"]);
}

/// One actor at a time.
pub(crate) struct Slot<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) place: Place,
    pub(crate) dice: Dice,
    pub(crate) journal: Journal,
    /// Who is on now: `SLOT.TURN`.
    pub(crate) actor: String,
    number: usize,
}

/// What is done to an actor on its way, and when.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Nothing,
    Kill(Duration),
    /// SIGTERM, which a script may trap.
    Terminate(Duration),
    Stop(Duration, Duration),
}

impl<'a> Slot<'a> {
    fn new(stage: &'a Stage, seed: u64, number: usize) -> Self {
        let place = Place::at(stage.directory.clone());
        let journal = Journal::open(&place.path("history"));
        let dice = Dice::new(seed.wrapping_mul(1000).wrapping_add(number as u64));
        Self { stage, place, dice, journal, actor: String::new(), number }
    }

    fn turn(&mut self, turn: usize) {
        self.actor = format!("{}.{turn}", self.number);
        crate::actors::play(self, turn);
    }

    pub(crate) fn note(&self, what: &str) {
        self.journal.note(&self.actor, what);
    }

    /// Counts a call of the helper.
    pub(crate) fn count(&self) {
        self.stage.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn fate(&mut self) -> Fate {
        let mut micros = |most| Duration::from_micros(self.dice.roll(most));
        let (first, second) = (micros(6000), micros(20_000));
        match self.dice.roll(100) {
            0..15 => Fate::Kill(first),
            15..23 => Fate::Stop(first, second),
            23..29 => Fate::Terminate(first),
            _ => Fate::Nothing,
        }
    }

    /// Runs a call to its end, which may come early. `None`: it was killed. Its words and status are judged here.
    pub(crate) fn call(&mut self, command: Command, others: &[i32]) -> Option<place::Said> {
        let shown = format!("{command:?}");
        let said = self.run(command)?;
        let known = crate::systematic::STATUSES.contains(&said.status) || others.contains(&said.status);
        let words = |line: &str| line.starts_with("aba-lock: ") || line.starts_with("hint: ");
        let spoken = matches!(said.status, 0 | 1) || others.contains(&said.status) || said.err.contains("aba-lock: ");
        if !known || !spoken || !said.err.lines().all(words) {
            self.stage.breaks(format!("{} {shown} ended so: {said:?}", self.actor));
        }
        Some(said)
    }

    /// The same, of a wrong call: the parser of the command line has words of its own.
    pub(crate) fn call_odd(&mut self, command: Command) -> Option<place::Said> {
        self.run(command)
    }

    fn run(&mut self, mut command: Command) -> Option<place::Said> {
        let fate = self.fate();
        self.count();
        if self.dice.percent(8) {
            self.stage.threadless.fetch_add(1, Ordering::Relaxed);
            place::runs_without_threads(&mut command);
        }
        let scratch = || kernel::memory_file(c"said").unwrap();
        let (out, err) = (scratch(), scratch());
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let mut killed = false;
        match fate {
            Fate::Kill(after) | Fate::Terminate(after) => {
                killed = !kernel::ends_within_time(child.id(), after);
                if killed {
                    self.note("doom");
                    self.stage.kills.fetch_add(1, Ordering::Relaxed);
                    let signal = if matches!(fate, Fate::Kill(_)) { libc::SIGKILL } else { libc::SIGTERM };
                    kernel::kill(child.id(), signal);
                }
            }
            Fate::Stop(after, long) => {
                if !kernel::ends_within_time(child.id(), after) {
                    self.stage.stops.fetch_add(1, Ordering::Relaxed);
                    kernel::kill(child.id(), libc::SIGSTOP);
                    thread::sleep(long);
                    kernel::kill(child.id(), libc::SIGCONT);
                }
            }
            Fate::Nothing => {}
        }
        let status = place::wait_for(&mut child, self.place.patience * 3);
        let said = place::Said { status, out: place::text(&out), err: place::text(&err) };
        if killed {
            if status < 0 {
                self.stage.breaks(format!("{} did not end after a signal: {command:?}: {said:?}", self.actor));
            }
            return None;
        }
        Some(said)
    }
}
