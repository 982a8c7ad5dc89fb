//! The checker of a history. It knows the rules and nothing else: neither the helper nor how a walk is made. `walk` calls [`check`].
//!
//! `sample_histories` has a wrong history for each rule.
//!
//! | line | meaning |
//! |---|---|
//! | `A ask WHAT` / `A done STATUS` | a call of actor A is about to start / has ended |
//! | `A doom` | A is about to be killed: from here on, another actor may hold the locks of A |
//! | `A enter LOCK MODE INODE` / `A leave LOCK` | written by A itself, under the lock; MODE is `exclusive`, `shared` or `slot:N:K`; INODE is that of the inherited lock file, or 0 if unknown |
//! | `A together LOCK INODE LOCK INODE` | written by A itself, under both locks of one call |
//! | `A tries LOCK [N]` / `A busy LOCK MESSAGE` | A is about to ask for the lock, or for one of N slots / A did not wait, and was refused |
//! | `A differs LOCK M N` | A wanted one of N slots, and was refused because a process held one of M |
//! | `A uses LOCK POLICY...` | after `tries`: `replace`, `plain`, `coalesce`, `strict` or a priority; `forever`, `limited` or `now`; `child` if a child of A makes the call; `returns` if A goes on without the lock |
//! | `A yields LOCK` | A gave up for a newer caller that replaces the holder |
//! | `A peeks LOCK` / `A sees LOCK WHAT` | holder A is about to look at the waiters / has seen ticket N of actor B (`ticket:N B`), a want of `high` or `normal`, or `queue:N` for N blocked callers |
//! | `A fails LOCK` | A is about to leave, and its command fails |
//! | `A owed LOCK` | at the end, the helper reports that a run is owed |
//! | `A limits MICROS` | from this time on, the locks of the next call of A may be taken away |
//! | `A overstays LOCK` | a process was not ended, although the time of A was over |
//! | `A untold LOCK` | the holder process of the lock was killed, and script A got no signal |
//! | `A mistaken LOCK WHAT` | A holds the lock, and what `status` says of it is wrong |
//! | `A free LOCK [shared]` | the helper reported to A that the lock is free, or that it could be shared |
//! | `A remove LOCK INODE` / `A removed LOCK INODE` | a disturbance is about to remove or rename the lock file / has done so |
//! | `A adds FILE TOKEN` / `A added FILE TOKEN` / `A refused FILE TOKEN` | an update is about to start / succeeded / failed |
//! | `A reads FILE` / `A read FILE COUNT HASH` | A is about to read / read COUNT lines |
//! | `A content FILE TOKEN...` | the content of the file at the end |
//! | `R begin TASK` / `R end TASK STATUS` | written by a run of a task |
//! | `A forgets TASK` / `A forgot TASK` | a reset of the task is about to start / has ended |
//! | `A finished TASK` | the helper reported to A that the task succeeded |
//! | `A wants POOL KEY` / `A keeps POOL KEY N` | A is about to reserve a number / reserved N |
//! | `A releases POOL KEY` / `A released POOL KEY` | A is about to release the number / released it |

use crate::lock_rules::{LockJudge, Violation};
use crate::order_rules::OrderJudge;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

/// Returns a hash of the lines that a reader saw.
pub(crate) fn hash_lines<'a>(lines: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    lines.for_each(|line| line.hash(&mut hasher));
    hasher.finish()
}

#[derive(Default)]
struct UpdatedFile {
    adds: HashMap<String, usize>,
    added: HashMap<String, usize>,
    refused: HashSet<String>,
    /// For each read: the lines of the history at its beginning and its end, the number of lines that it saw, and their hash.
    reads: Vec<(usize, usize, usize, u64)>,
}

/// The run that a killed reset may have ended, in these steps:
///
/// 1. The reset asks a supervisor to end its run. The supervisor has not started the command yet.
/// 2. The reset is killed.
/// 3. The supervisor starts the command, and ends it.
#[derive(Default, PartialEq)]
enum LateVictim {
    #[default]
    None,
    Next,
    Run(String),
}

#[derive(Default)]
struct TaskState {
    /// The present run, and the line at which it began.
    run: Option<(String, usize)>,
    /// The line of the last successful end that was not reset.
    good: Option<usize>,
    succeeded: bool,
    /// The line at which the reset of each actor ended, or `None` if it still runs.
    resets: HashMap<String, Option<usize>>,
    late_victim: LateVictim,
}

#[derive(Default)]
struct Numbers {
    /// From key to number.
    kept: HashMap<String, String>,
    releases: HashMap<String, Vec<(String, Option<usize>)>>,
}

#[derive(Default)]
struct Judge {
    locks: LockJudge,
    orders: OrderJudge,
    files: HashMap<String, UpdatedFile>,
    tasks: HashMap<String, TaskState>,
    numbers: HashMap<String, Numbers>,
    reading: HashMap<String, usize>,
    wanting: HashMap<String, usize>,
}

/// Returns the broken rules of a history.
pub(crate) fn check(history: &str) -> Vec<Violation> {
    let mut judge = Judge::default();
    for (number, line) in history.lines().enumerate() {
        judge.locks.line = number;
        let words: Vec<&str> = line.split(' ').collect();
        judge.locks.time = words[0].parse().unwrap_or(0);
        if words.len() < 3 {
            judge.breaks(format!("not a line: {line:?}"), &[]);
            continue;
        }
        judge.judge(words[1], words[2], &words[3..]);
    }
    judge.orders.finish(&mut judge.locks);
    judge.locks.broken
}

impl Judge {
    fn breaks(&mut self, why: String, about: &[&str]) {
        self.locks.breaks(why, about);
    }

    fn judge(&mut self, actor: &str, verb: &str, words: &[&str]) {
        if let ("enter", [lock, ..]) = (verb, words) {
            self.lease(actor, lock);
        }
        if self.orders.judge(&mut self.locks, actor, verb, words) || self.locks.judge(actor, verb, words) {
            return;
        }
        let line = self.locks.line;
        match (verb, words) {
            ("adds", [file, token]) => drop(self.file(file).adds.insert((*token).to_owned(), line)),
            ("added", [file, token]) => drop(self.file(file).added.insert((*token).to_owned(), line)),
            ("refused", [file, token]) => drop(self.file(file).refused.insert((*token).to_owned())),
            ("reads", _) => drop(self.reading.insert(actor.to_owned(), line)),
            ("read", [file, count, hash]) => {
                let seen = (self.reading[actor], line, count.parse().unwrap(), hash.parse().unwrap());
                self.file(file).reads.push(seen);
            }
            ("content", [file, tokens @ ..]) => self.content(file, tokens),
            ("begin", [task]) => self.begin(actor, task),
            ("end", [task, status]) => self.end(actor, task, *status == "0"),
            ("forgets", [task]) => drop(self.task(task).resets.insert(actor.to_owned(), None)),
            ("forgot", [task]) => {
                let killed = self.locks.doomed.contains(actor);
                let task = self.task(task);
                task.resets.insert(actor.to_owned(), Some(line));
                if killed {
                    task.late_victim = LateVictim::Next;
                }
            }
            ("finished", [task]) => {
                if !self.task(task).succeeded {
                    self.breaks(format!("{actor} got a success of {task}, which never succeeded"), &[task]);
                }
            }
            ("wants", _) => drop(self.wanting.insert(actor.to_owned(), line)),
            ("keeps", [pool, key, number]) => self.keeps(actor, pool, key, number),
            ("releases", [pool, key]) => {
                let numbers = self.numbers.entry((*pool).to_owned()).or_default();
                numbers.kept.remove(*key);
                numbers.releases.entry((*key).to_owned()).or_default().push((actor.to_owned(), None));
            }
            ("released", [pool, key]) => {
                let numbers = self.numbers.entry((*pool).to_owned()).or_default();
                let releases = numbers.releases.entry((*key).to_owned()).or_default();
                releases.iter_mut().filter(|release| release.0 == actor).for_each(|release| release.1 = Some(line));
            }
            _ => self.breaks(format!("not a line: {verb} {words:?}"), &[]),
        }
    }

    fn file(&mut self, file: &str) -> &mut UpdatedFile {
        self.files.entry(file.to_owned()).or_default()
    }

    fn task(&mut self, task: &str) -> &mut TaskState {
        self.tasks.entry(task.to_owned()).or_default()
    }

    fn lease(&mut self, actor: &str, lock: &str) {
        let Some((pool, number)) = lock.strip_prefix("number:").and_then(|rest| rest.split_once(':')) else { return };
        let kept = self.numbers.get(pool).and_then(|numbers| numbers.kept.iter().find(|kept| kept.1 == number));
        if let Some(key) = kept.map(|kept| kept.0.clone()) {
            self.breaks(format!("{actor} leased {number}, which {key} keeps"), &[&format!("{pool} {key}"), lock]);
        }
    }

    fn content(&mut self, name: &str, tokens: &[&str]) {
        let file = std::mem::take(self.file(name));
        let mut places = HashMap::new();
        let mut begun = 0;
        for (place, token) in tokens.iter().enumerate() {
            if places.insert(*token, place).is_some() {
                self.breaks(format!("{token} is twice in {name}"), &[name, token]);
            }
            match file.adds.get(*token) {
                Some(adds) => {
                    if file.added.get(*token).is_some_and(|added| *added < begun) {
                        self.breaks(format!("{token} follows one that came after it in {name}"), &[name, token]);
                    }
                    begun = begun.max(*adds);
                }
                None => self.breaks(format!("no actor added {token} to {name}"), &[name, token]),
            }
            if file.refused.contains(*token) {
                self.breaks(format!("{token} is in {name}, and its update failed"), &[name, token]);
            }
        }
        for token in file.added.keys().filter(|token| !places.contains_key(token.as_str())) {
            self.breaks(format!("a lost update: {token} is not in {name}"), &[name, token]);
        }
        for (from, to, count, hash) in file.reads {
            let seen = tokens.iter().take(count);
            if count > tokens.len() || hash_lines(seen.clone().copied()) != hash {
                self.breaks(format!("the reader of line {to} saw what was never in {name}"), &[name]);
            }
            let missing = |(token, added): &(&String, &usize)| {
                **added < from && places.get(token.as_str()).is_some_and(|place| *place >= count)
            };
            if let Some((token, _)) = file.added.iter().find(missing) {
                self.breaks(format!("the reader of line {to} did not see {token} in {name}"), &[name, token]);
            }
            if seen.into_iter().any(|token| file.adds.get(*token).is_some_and(|adds| *adds > to)) {
                self.breaks(format!("the reader of line {to} saw what was yet to come in {name}"), &[name]);
            }
        }
    }

    fn begin(&mut self, run: &str, name: &str) {
        let line = self.locks.line;
        let task = self.task(name);
        let (other, good) = (task.run.replace((run.to_owned(), line)), task.good.take());
        let was_reset = |since: usize| task.resets.values().any(|until| until.is_none_or(|until| until > since));
        let again = good.is_some_and(|good| !was_reset(good));
        let other = other.map(|(other, since)| {
            let reset = was_reset(since) || task.late_victim == LateVictim::Run(other.clone());
            (other, reset)
        });
        if task.late_victim == LateVictim::Next {
            task.late_victim = LateVictim::Run(run.to_owned());
        }
        if again {
            self.breaks(format!("{name} was run twice: {run} began after a good end"), &[name]);
        }
        match other {
            // A reset ends the run.
            Some((other, reset)) if reset || self.locks.doomed.contains(&other) => {
                self.locks.followed.insert((other, name.to_owned()));
            }
            Some((other, _)) => self.breaks(format!("{name} ran twice at once: {other} and {run}"), &[name]),
            None => {}
        }
    }

    fn end(&mut self, run: &str, name: &str, good: bool) {
        if self.locks.followed.contains(&(run.to_owned(), name.to_owned())) {
            self.breaks(format!("{run} of {name} lived on during the next"), &[name]);
            return;
        }
        let (line, doomed) = (self.locks.line, self.locks.doomed.contains(run));
        let task = self.task(name);
        task.run = None;
        task.succeeded |= good;
        // The supervisor of a killed run may not have recorded the success.
        task.good = (good && !doomed).then_some(line);
    }

    fn keeps(&mut self, actor: &str, pool: &str, key: &str, number: &str) {
        let from = self.wanting.get(actor).copied().unwrap_or(self.locks.line);
        let leased = self.locks.find_old_holder(&format!("number:{pool}:{number}"), from, false).is_some();
        let numbers = self.numbers.entry(pool.to_owned()).or_default();
        let about = format!("{pool} {key}");
        // A release at the same time may have come before the reservation or after it.
        let unsure = |key: &str, numbers: &Numbers| {
            let releases = numbers.releases.get(key).into_iter().flatten();
            releases.into_iter().any(|(_, until)| until.is_none_or(|until| until > from))
        };
        if unsure(key, numbers) {
            numbers.kept.remove(key);
            return;
        }
        let other = numbers.kept.iter().find(|(other, has)| *other != key && *has == number).map(|kept| kept.0.clone());
        let before = numbers.kept.insert(key.to_owned(), number.to_owned()).filter(|before| before != number);
        if let Some(other) = other {
            self.breaks(
                format!("{number} was given to {key}, and {other} keeps it"),
                &[&about, &format!("{pool} {other}")],
            );
        }
        if let Some(before) = before {
            self.breaks(format!("{key} had {before}, and was given {number}"), &[&about]);
        }
        if leased {
            self.breaks(format!("{number} was given to {key}, and is leased"), &[&about]);
        }
    }
}
