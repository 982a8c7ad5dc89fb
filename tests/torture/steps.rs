//! Plays the scenes step by step: each scene once to count the system calls of the helper, and then once for each of these calls
//! and each fault: SIGKILL before the call, and each error that fits it. After each step, the scene says whether a rule
//! was broken, and the exit status and messages of the call are checked against the manual.
//!
//! A short run plays all scenes, each with a few kills and a few errors. Which ones depends on the seed, and neither on the time nor
//! on the number of workers.

use crate::driver::{self, Fault, Outcome};
use crate::place::Place;
use crate::random::Random;
use crate::scene::{STATUSES, STATUSES_OF_FLOCK, Scene, Verdict};
use crate::{scenes, syscalls};
use std::path::PathBuf;
use std::time::Instant;

/// The description of a worker's share.
pub(crate) struct StepPlan {
    /// The number of the share, and the number of shares: each worker plays one. A share is a part of the scenes in a short run, and
    /// otherwise a part of the faults of each scene.
    pub(crate) share: (usize, usize),
    pub(crate) seed: u64,
    /// `true` for a few faults of each scene, and `false` for all.
    pub(crate) short: bool,
    pub(crate) until: Option<Instant>,
    /// The index of the first scene, so that a run can go on where an earlier one ran out of time.
    pub(crate) from: usize,
    pub(crate) only: String,
}

/// The number of kills of one scene in a short run, and the number of errors; each seed chooses other calls. A command that looks at
/// all processes of a machine makes thousands of calls.
const KILLS_OF_SHORT_RUN: usize = 8;
const ERRORS_OF_SHORT_RUN: usize = 8;

/// Returns the scenes with `only` in their names, and their numbers among all scenes.
pub(crate) fn list_chosen_scenes(only: &str) -> Vec<(u64, Scene)> {
    (0..).zip(scenes::list_scenes()).filter(|(_, scene)| scene.name.contains(only)).collect()
}

/// Plays all scenes in the directory, and passes each scene to `played` at its end, and each broken rule to `broken`. Returns the
/// number of steps.
pub(crate) fn play(directory: PathBuf, plan: &StepPlan, played: impl Fn(&str), broken: impl Fn(String)) -> usize {
    let place = Place::new(directory);
    let mut steps = 0;
    let mut scenes = list_chosen_scenes(&plan.only);
    let from = plan.from % scenes.len().max(1);
    scenes.rotate_left(from);
    let (whole, part) = ((0, 1), plan.share);
    let (of_scenes, of_faults) = if plan.short { (part, whole) } else { (whole, part) };
    for (number, scene) in scenes.into_iter().skip(of_scenes.0).step_by(of_scenes.1) {
        // Twice, because the first call creates files that the second one finds.
        let calls = match (play_step(&place, &scene, Fault::None), play_step(&place, &scene, Fault::None)) {
            (Ok(_), Ok(ended)) => ended.calls,
            (Err(why), _) | (_, Err(why)) => {
                broken(format!("{}, untouched: {why}", scene.name));
                continue;
            }
        };
        let mut faults = list_faults(&calls);
        faults.retain(|fault| !matches!(fault, Fault::FailOn(at, _) if watches_without_end(&scene, calls[at - 1])));
        if plan.short {
            faults = choose_faults(faults, &mut Random::new(plan.seed.wrapping_mul(1000).wrapping_add(number)));
        }
        for fault in faults.into_iter().skip(of_faults.0).step_by(of_faults.1) {
            if plan.until.is_some_and(|until| Instant::now() > until) {
                place.clear();
                return steps;
            }
            steps += 1;
            if let Err(why) = play_step(&place, &scene, fault) {
                broken(format!("{}, {}: {why}", scene.name, describe_fault(fault, &calls)));
            }
        }
        played(scene.name);
    }
    place.clear();
    steps
}

/// Returns all faults for a scene that makes these system calls.
fn list_faults(calls: &[i64]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (at, call) in (1..).zip(calls) {
        faults.push(Fault::Kill(at));
        for errno in syscalls::list_errors(*call) {
            faults.push(Fault::Fail(at, *errno));
            // These errors last on a real machine, too.
            let no_threads = [libc::SYS_clone, libc::SYS_clone3].contains(call) && *errno == libc::EAGAIN;
            if no_threads || [libc::ENOSPC, libc::EMFILE, libc::EIO].contains(errno) {
                faults.push(Fault::FailOn(at, *errno));
            }
        }
    }
    faults
}

/// Chooses kills and errors that are spread evenly over the calls.
fn choose_faults(faults: Vec<Fault>, random: &mut Random) -> Vec<Fault> {
    let (kills, errors): (Vec<_>, Vec<_>) = faults.into_iter().partition(|fault| matches!(fault, Fault::Kill(_)));
    let mut chosen = Vec::new();
    for (faults, number) in [(kills, KILLS_OF_SHORT_RUN), (errors, ERRORS_OF_SHORT_RUN)] {
        let stride = faults.len().div_ceil(number).max(1);
        let begin = usize::try_from(random.below(stride as u64)).unwrap();
        chosen.extend(faults.into_iter().skip(begin).step_by(stride));
    }
    chosen
}

/// Returns whether a lasting error of this system call keeps a process of the scene alive: a watcher that can open no file cannot see
/// whether the lock is still held, so it goes on until it can.
fn watches_without_end(scene: &Scene, call: i64) -> bool {
    scene.name.contains("--max-time") && [libc::SYS_open, libc::SYS_openat].contains(&call)
}

fn describe_fault(fault: Fault, calls: &[i64]) -> String {
    let name = |at: usize| calls.get(at - 1).map_or("?".to_owned(), |call| syscalls::name_call(*call));
    let error = std::io::Error::from_raw_os_error;
    match fault {
        Fault::None => "untouched".to_owned(),
        Fault::Kill(at) => format!("killed before call {at} ({})", name(at)),
        Fault::Fail(at, errno) => format!("call {at} ({}) failed: {}", name(at), error(errno)),
        Fault::FailOn(at, errno) => format!("from call {at} on all {} failed: {}", name(at), error(errno)),
    }
}

/// Plays a scene with one fault.
fn play_step(place: &Place, scene: &Scene, fault: Fault) -> Result<Outcome, String> {
    place.clear();
    let call = (scene.call)(place);
    let ended = driver::run(place, call, fault).map_err(|why| format!("could not be run: {why}"))?;
    // The call with the number of the fault can be another one than in the run that counted the calls.
    let lasts = matches!(fault, Fault::FailOn(..));
    if ended.hung && lasts && ended.hit.is_some_and(|call| watches_without_end(scene, call)) {
        return Ok(ended);
    }
    let said = judge_output(scene, &ended, fault);
    let judged = said.and_then(|()| (scene.judge)(place, &ended));
    judged.map_err(|why| {
        let hit = ended.hit.map_or("nothing".to_owned(), syscalls::name_call);
        format!("{why}\n    it hit {hit}; status {}, stdout {:?}, stderr {:?}", ended.status, ended.out, ended.err)
    })?;
    Ok(ended)
}

/// Checks the rules for every call: it ends, with a documented exit status, and each failure has a message.
fn judge_output(scene: &Scene, ended: &Outcome, fault: Fault) -> Verdict {
    if ended.hung {
        let last = ended.calls.last().map_or("?".to_owned(), |call| syscalls::name_call(*call));
        return Err(format!("it did not end; its last call was {last}"));
    }
    if ended.err.contains("panicked") {
        return Err("it panicked".to_owned());
    }
    let Some(call) = ended.hit else { return Ok(()) };
    if matches!(fault, Fault::Kill(_)) && ended.status == 137 {
        return Ok(());
    }
    if [libc::SYS_mmap, libc::SYS_mremap, libc::SYS_brk, libc::SYS_mprotect].contains(&call) {
        // Before `main`, and when an allocation fails, the C library or the runtime ends the process with its own message.
        return Ok(());
    }
    // So does the dynamic loader, if the helper is not linked statically.
    if ended.err.contains("error while loading shared libraries") {
        return Ok(());
    }
    // A wait for a task returns the status of the task, and a parent may return that of its killed child. A lock with a limit ends
    // the command.
    let is_limited = scene.name.contains("--max-time") || scene.name.contains("--no-inherit");
    let of_another =
        ended.status == 137 && (scene.name.starts_with("run-once") || is_limited) || ended.status == 143 && is_limited;
    let is_flock = scene.name.contains("flock");
    let statuses: &[i32] = if is_flock { &STATUSES_OF_FLOCK } else { &STATUSES };
    if !statuses.contains(&ended.status) && !of_another {
        return Err(format!("{} is no status of the manual", ended.status));
    }
    // A shell itself reports a child that was killed. It also reports a file that it could not open: the filter makes a signal interrupt
    // a call that nothing interrupts otherwise.
    let has_shell = scene.name.starts_with("a script") || scene.name.contains("among strangers");
    let of_bash = |line: &str| has_shell && (line.contains("Killed") || line.ends_with(": Interrupted system call"));
    let name = if is_flock { "flock: " } else { "aba-lock: " };
    let is_sentence = |line: &str| line.starts_with(name) || line.starts_with("hint: ") || of_bash(line);
    if let Some(line) = ended.err.lines().find(|line| !is_sentence(line)) {
        return Err(format!("{line:?} is no sentence"));
    }
    let quiet = matches!(ended.status, 0 | 1) || of_another;
    // `status` prints what it could not find out.
    let answered = scene.name.starts_with("status") && !ended.out.is_empty();
    // A failed write may have been that of the message.
    if !quiet && !answered && !ended.err.contains(name) && call != libc::SYS_write {
        return Err("it failed without a word".to_owned());
    }
    Ok(())
}
