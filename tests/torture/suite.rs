//! The suite: runs the three parts of the torture tests, and prints the results. Steps are divided among worker processes.

use crate::driver;
use crate::place::{Place, tie_to_parent};
use crate::steps::{self, StepPlan};
use crate::{environment, isolation, kernel, sample_histories, walk};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The number of actors of a walk at the same time.
const SLOTS: usize = 8;

/// The shortest time limit for steps, and for walks, except in a short run, which has no limit.
const SHORT_TURN: Duration = Duration::from_secs(18);

/// The seed of a run for which the user chose none, so that no run of `cargo test` or `make test` fails by chance.
const FIXED_SEED: u64 = 1;

/// The results so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    steps: usize,
    broken: Vec<String>,
}

impl Tally {
    fn add(&mut self, passed: usize, steps: usize, broken: Vec<String>) {
        self.passed += passed;
        self.steps += steps;
        for why in &broken {
            println!("torture: BROKEN: {why}");
        }
        self.broken.extend(broken);
    }
}

fn read_number(variable: &str) -> Option<f64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Runs the suite, and returns the exit status.
pub(crate) fn run() -> i32 {
    kernel::end_with_parent();
    let begin = Instant::now();
    let minutes = read_number("ABA_TORTURE_MINUTES").filter(|minutes| *minutes > 0.0);
    let Some((seed, origin)) = choose_seed() else { return 2 };
    let only = std::env::var("ABA_TORTURE_ONLY").ok();
    let mut tally = Tally::default();
    let (tried, wrong) = sample_histories::check_samples();
    tally.add(tried - wrong.len(), 0, wrong);
    let until = minutes.map(|minutes| begin + Duration::from_secs_f64(minutes * 60.0));
    println!(
        "torture: seed {seed}{origin}, {}",
        minutes.map_or("a short turn".to_owned(), |minutes| format!("{minutes} minutes"))
    );
    let filters = driver::check_support(&Place::new(work_directory().join("trial")));
    if let Err(why) = &filters {
        println!("torture: no seccomp filter with a listener here ({why}): nothing step by step, no other clocks");
    }
    let (mut round, mut scene) = (seed, 0);
    loop {
        // Steps and walks alternate, so that a run of a few minutes has both.
        let turn = minutes.map_or(SHORT_TURN, |minutes| Duration::from_secs_f64(minutes * 60.0 / 8.0).max(SHORT_TURN));
        let end = || until.map(|until| until.min(Instant::now() + turn));
        if only.as_deref() != Some("walk") && filters.is_ok() {
            scene += run_steps(&mut tally, (round, scene), end(), only.as_deref().unwrap_or(""));
        }
        if only.as_deref().is_none_or(|only| only == "walk") {
            run_walks(&mut tally, &mut round, filters.is_ok(), end());
        }
        round += 1;
        if until.is_none_or(|until| Instant::now() > until) || !tally.broken.is_empty() {
            break;
        }
    }
    report(&tally, seed, begin)
}

/// Returns the seed, and a word on it if the user did not choose it. Returns `None` after an error.
fn choose_seed() -> Option<(u64, &'static str)> {
    let chosen = std::env::var("ABA_TORTURE_SEED");
    let seed = match chosen.as_deref() {
        Err(_) => return Some((FIXED_SEED, " (fixed)")),
        Ok("random") => return Some((kernel::monotonic() % 1_000_000, " (random)")),
        Ok(text) => text.parse().ok().map(|seed| (seed, "")),
    };
    if seed.is_none() {
        println!("torture: the seed is '{}', and must be a number", chosen.unwrap_or_default());
    }
    seed
}

fn report(tally: &Tally, seed: u64, begin: Instant) -> i32 {
    let took = begin.elapsed().as_secs_f64();
    let failed = tally.broken.len();
    #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
    let rate = tally.steps as f64 / took;
    println!("torture: {} steps in {took:.0} s ({rate:.0} a second), {failed} rules broken", tally.steps);
    if failed > 0 {
        println!("torture: the same choices again: make torture SEED={seed}");
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {} passed; {failed} failed; finished in {took:.2}s\n", tally.passed);
    i32::from(failed > 0)
}

/// Reports that the caller chose other tests.
pub(crate) fn report_nothing() -> i32 {
    println!("\ntest result: ok. 0 passed; 0 failed; finished in 0.00s\n");
    0
}

/// Runs the steps in as many worker processes as there are processors, and returns how many scenes all workers finished. Without
/// `until`, a few faults of each scene are played, and all scenes. The workers are not threads, because a fork of one thread
/// would inherit the locks of the other ones.
fn run_steps(tally: &mut Tally, (seed, from): (u64, usize), until: Option<Instant>, only: &str) -> usize {
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(16);
    let left = until
        .map_or("short".to_owned(), |until| until.saturating_duration_since(Instant::now()).as_millis().to_string());
    let start = |share: usize| {
        let mut command = Command::new(fs::read_link("/proc/self/exe").unwrap());
        let (share, workers, seed) = (share.to_string(), workers.to_string(), seed.to_string());
        command.arg("worker").args([&share, &workers, &seed, &left, &from.to_string(), only]);
        tie_to_parent(&mut command);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let started: Vec<_> = (0..workers).map(start).collect();
    let (mut played, mut finished, mut broken) = (0, Vec::new(), Vec::new());
    for mut worker in started {
        let (mut done, mut scenes) = (false, 0);
        for line in BufReader::new(worker.stdout.take().unwrap()).lines().map_while(Result::ok) {
            match line.split_once('\t') {
                Some(("broken", why)) => broken.push(why.replace('\t', "\n    ")),
                Some(("scene", _)) => scenes += 1,
                Some(("steps", number)) => (played, done) = (played + number.parse::<usize>().unwrap_or(0), true),
                _ => {}
            }
        }
        finished.push(scenes);
        if !worker.wait().unwrap().success() || !done {
            broken.push("a worker of the rack itself failed".to_owned());
        }
    }
    let all = steps::list_chosen_scenes(only).len();
    if all == 0 {
        broken.push(format!("no scene has '{only}' in its name"));
    }
    let scenes = if until.is_none() { finished.iter().sum() } else { finished.into_iter().min().unwrap_or(0) };
    if until.is_none() && scenes != all && broken.is_empty() {
        broken.push(format!("{} of {all} scenes were not played", all - scenes));
    }
    println!(
        "torture: step by step, seed {seed}: {played} steps, {scenes} of {all} scenes to their end, {} broken",
        broken.len()
    );
    tally.add(scenes, played, broken);
    scenes
}

/// Plays the share of one worker, and reports to the suite on stdout.
pub(crate) fn run_worker(words: &[&str]) -> i32 {
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let small = |at: usize| usize::try_from(number(at)).unwrap();
    let plan = StepPlan {
        share: (small(0), small(1)),
        seed: number(2),
        short: words[3] == "short",
        until: words[3].parse().ok().map(|left| Instant::now() + Duration::from_millis(left)),
        from: small(4),
        only: words[5].to_owned(),
    };
    let directory = work_directory().join(format!("worker{}", words[0]));
    let said = |line: String| {
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    let steps = steps::play(
        directory,
        &plan,
        |scene| said(format!("scene\t{scene}")),
        |why| {
            said(format!("broken\t{}", why.replace("\n    ", "\t").replace('\n', " ")));
        },
    );
    said(format!("steps\t{steps}"));
    0
}

fn work_directory() -> PathBuf {
    // Without namespaces, the cleaner removes the directory.
    if environment::may_mount() {
        isolation::work_root()
    } else {
        isolation::work_root().join(std::env::var(environment::MARK).unwrap())
    }
}

fn run_walks(tally: &mut Tally, seed: &mut u64, clocks: bool, until: Option<Instant>) {
    let mounts = environment::may_mount();
    for _ in 0..if until.is_none() { 3 } else { 20 } {
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let turns = if until.is_none() { 150 } else { 500 };
        let directory = work_directory().join("walk");
        let plan = walk::WalkPlan { seed: *seed, slots: SLOTS, turns, until, mounts, clocks };
        let walked = walk::walk(&directory, &plan);
        let (steps, lines, deeds, broken) = (walked.steps, walked.lines, walked.disturbances, walked.broken);
        println!(
            "torture: walk, seed {seed}: {steps} steps, {deeds}; {lines} lines of history, {} broken",
            broken.len()
        );
        if !broken.is_empty() {
            keep_directory(&directory, *seed);
        }
        tally.add(usize::from(broken.is_empty()), steps, broken);
        let _ = fs::remove_dir_all(&directory);
        *seed += 1;
    }
}

/// Copies the directory of a walk that broke a rule to where it outlives the run.
fn keep_directory(directory: &Path, seed: u64) {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("torture-seed-{seed}"));
    let _ = fs::remove_dir_all(&kept);
    let copied = Command::new("cp").arg("-a").arg(directory).arg(&kept).status();
    if copied.is_ok_and(|status| status.success()) {
        println!("torture: kept in {}", kept.display());
    }
}
