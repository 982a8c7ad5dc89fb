//! Every step of every primitive: each scene (`scenes/`) is played once to count the system calls of the helper, then once
//! for each of them and each thing that can be done to it: SIGKILL before it, and each error that fits it. After each the
//! scene says whether a rule was broken.

use crate::dice::Dice;
use crate::driver::{self, Call, Ended, Fault};
use crate::errors;
use crate::place::Place;
use std::path::PathBuf;
use std::time::Instant;

/// What holds after a call, and its next one; else which rule was broken.
pub(crate) type Verdict = Result<(), String>;

/// One way to call one primitive.
pub(crate) struct Scene {
    /// What it is called, with the command first.
    pub(crate) name: &'static str,
    /// Sets the scene in an empty place, and makes the call.
    pub(crate) call: fn(&Place) -> Call,
    /// Judges what became of it.
    pub(crate) judge: fn(&Place, &Ended) -> Verdict,
}

/// The statuses that the manual pages know, beside those of death by signal.
pub(crate) const STATUSES: [i32; 9] = [0, 1, 2, 75, 76, 124, 125, 126, 127];

/// Those of the helper as flock(1).
pub(crate) const STATUSES_OF_FLOCK: [i32; 8] = [0, 1, 64, 65, 66, 69, 71, 73];

/// What is to be played.
pub(crate) struct Plan {
    /// This share of the steps, of so many: each worker has its own.
    pub(crate) share: (usize, usize),
    pub(crate) seed: u64,
    /// Each error of so many only; 1: all of everything.
    pub(crate) thin: u64,
    pub(crate) until: Option<Instant>,
    /// With which scene to begin: one after which time was up goes on there.
    pub(crate) from: usize,
    pub(crate) only: Option<String>,
}

/// The most calls of a scene at each of which it is killed, in a short turn, which are other ones with each seed: what looks at
/// all processes of a machine makes thousands.
const SHORT: usize = 25;

/// Plays all scenes in this directory, and says which were played, and what was broken; returns how many steps that were.
pub(crate) fn play(directory: PathBuf, plan: &Plan, played: impl Fn(&str), broken: impl Fn(String)) -> usize {
    let place = Place::new(directory);
    let mut steps = 0;
    let mut dice = Dice::new(plan.seed);
    let mut scenes = crate::scenes::all();
    scenes.retain(|scene| plan.only.as_ref().is_none_or(|only| scene.name.contains(only.as_str())));
    let from = plan.from % scenes.len().max(1);
    scenes.rotate_left(from);
    for scene in scenes {
        // Twice: what is made once for all by the first call is there for the second.
        let calls = match (step(&place, &scene, Fault::None), step(&place, &scene, Fault::None)) {
            (Ok(_), Ok(ended)) => ended.calls,
            (Err(why), _) | (_, Err(why)) => {
                broken(format!("{}, untouched: {why}", scene.name));
                continue;
            }
        };
        for fault in faults(&calls, plan, &mut dice).into_iter().skip(plan.share.0).step_by(plan.share.1) {
            if plan.until.is_some_and(|until| Instant::now() > until) {
                place.clear();
                return steps;
            }
            steps += 1;
            if let Err(why) = step(&place, &scene, fault) {
                broken(format!("{}, {}: {why}", scene.name, in_words(fault, &calls)));
            }
        }
        played(scene.name);
    }
    place.clear();
    steps
}

/// All that is to be done to a scene that makes these calls.
fn faults(calls: &[i64], plan: &Plan, dice: &mut Dice) -> Vec<Fault> {
    let mut faults = Vec::new();
    let stride = if plan.thin == 1 { 1 } else { calls.len().div_ceil(SHORT).max(1) };
    let begin = usize::try_from(dice.roll(stride as u64)).unwrap();
    let mut is_due = |thin: u64| plan.thin == 1 || dice.roll(thin) == 0;
    for (before, call) in calls.iter().enumerate() {
        let at = before + 1;
        if before % stride == begin {
            faults.push(Fault::Kill(at));
        }
        for errno in errors::of(*call) {
            if is_due(plan.thin) {
                faults.push(Fault::Fail(at, *errno));
            }
            // What lasts in the world is tried lasting, too.
            let no_threads = [libc::SYS_clone, libc::SYS_clone3].contains(call) && *errno == libc::EAGAIN;
            let lasts = no_threads || [libc::ENOSPC, libc::EMFILE, libc::EIO].contains(errno);
            if lasts && is_due(plan.thin * 2) {
                faults.push(Fault::FailOn(at, *errno));
            }
        }
    }
    faults
}

fn in_words(fault: Fault, calls: &[i64]) -> String {
    let name = |at: usize| calls.get(at - 1).map_or("?".to_owned(), |call| crate::calls::name(*call));
    let error = std::io::Error::from_raw_os_error;
    match fault {
        Fault::None => "untouched".to_owned(),
        Fault::Kill(at) => format!("killed before call {at} ({})", name(at)),
        Fault::Fail(at, errno) => format!("call {at} ({}) failed: {}", name(at), error(errno)),
        Fault::FailOn(at, errno) => format!("from call {at} on all {} failed: {}", name(at), error(errno)),
    }
}

/// Plays a scene with one fault.
fn step(place: &Place, scene: &Scene, fault: Fault) -> Result<Ended, String> {
    place.clear();
    let call = (scene.call)(place);
    let ended = driver::run(place, call, fault).map_err(|why| format!("could not be run: {why}"))?;
    let said = judge_words(scene, &ended, fault);
    let judged = said.and_then(|()| (scene.judge)(place, &ended));
    judged.map_err(|why| {
        let hit = ended.hit.map_or("nothing".to_owned(), crate::calls::name);
        format!("{why}\n    it hit {hit}; status {}, stdout {:?}, stderr {:?}", ended.status, ended.out, ended.err)
    })?;
    Ok(ended)
}

/// What holds for each call: it ends, with a status of the manual, and every failure has a sentence.
fn judge_words(scene: &Scene, ended: &Ended, fault: Fault) -> Verdict {
    if ended.hung {
        let last = ended.calls.last().map_or("?".to_owned(), |call| crate::calls::name(*call));
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
        // Before `main`, and where an allocation fails: the C library or the runtime ends the process in its own words.
        return Ok(());
    }
    // The same of the dynamic loader, where the helper is not linked statically.
    if ended.status == 127 && ended.err.contains("error while loading shared libraries") {
        return Ok(());
    }
    // What a task died of is the status of a wait for it; and of a child that was killed, that of its parent.
    let of_another = ended.status == 137 && (scene.name.starts_with("run-once") || scene.name.contains("--no-inherit"));
    let is_flock = scene.name.contains("flock");
    let statuses: &[i32] = if is_flock { &STATUSES_OF_FLOCK } else { &STATUSES };
    if !statuses.contains(&ended.status) && !of_another {
        return Err(format!("{} is no status of the manual", ended.status));
    }
    // A shell itself reports a child that was killed.
    let has_shell = scene.name.starts_with("a script") || scene.name.contains("among strangers");
    let of_bash = |line: &str| has_shell && line.contains("Killed");
    let name = if is_flock { "flock: " } else { "aba-lock: " };
    let sentence = |line: &str| line.starts_with(name) || line.starts_with("hint: ") || of_bash(line);
    if let Some(line) = ended.err.lines().find(|line| !sentence(line)) {
        return Err(format!("{line:?} is no sentence"));
    }
    let quiet = matches!(ended.status, 0 | 1) || of_another;
    // What cannot be known is data for those who ask for it.
    let answered = scene.name.starts_with("status") && !ended.out.is_empty();
    if !quiet && !answered && !ended.err.contains(name) && !is_sentence(call) {
        return Err("it failed without a word".to_owned());
    }
    Ok(())
}

/// Where it was perhaps the sentence itself that could not be written.
fn is_sentence(call: i64) -> bool {
    call == libc::SYS_write
}
