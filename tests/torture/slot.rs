//! A slot of a walk: one thread, in which one actor after another runs. It makes the calls of the actors, with random
//! disturbances, and checks their exit statuses and messages.

use crate::history::Journal;
use crate::kernel;
use crate::place::{self, Place};
use crate::random::Random;
use crate::scene::STATUSES;
use crate::stage::Stage;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

pub(crate) struct Slot<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) place: Place,
    pub(crate) random: Random,
    pub(crate) journal: Journal,
    /// The name of the present actor: `SLOT.TURN`.
    pub(crate) actor: String,
    number: usize,
}

/// A disturbance of an actor, after some time.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Nothing,
    Kill(Duration),
    /// SIGTERM, which a script may trap.
    Terminate(Duration),
    Stop(Duration, Duration),
}

impl<'a> Slot<'a> {
    pub(crate) fn new(stage: &'a Stage, seed: u64, number: usize) -> Self {
        let place = Place::open(stage.directory.clone());
        let journal = Journal::open(&place.path("history"));
        let random = Random::new(seed.wrapping_mul(1000).wrapping_add(number as u64));
        Self { stage, place, random, journal, actor: String::new(), number }
    }

    /// Lets the next actor begin.
    pub(crate) fn begin_turn(&mut self, turn: usize) {
        self.actor = format!("{}.{turn}", self.number);
    }

    pub(crate) fn note(&self, what: &str) {
        self.journal.note(&self.actor, what);
    }

    /// Counts a call of the helper.
    pub(crate) fn count(&self) {
        self.stage.steps.fetch_add(1, Ordering::Relaxed);
    }

    fn choose_fate(&mut self) -> Fate {
        let mut micros = |most| Duration::from_micros(self.random.below(most));
        let (first, second) = (micros(6000), micros(20_000));
        match self.random.below(100) {
            0..15 => Fate::Kill(first),
            15..23 => Fate::Stop(first, second),
            23..29 => Fate::Terminate(first),
            _ => Fate::Nothing,
        }
    }

    /// Runs a call with a random disturbance, and checks its exit status and messages. `others` are statuses that the call may
    /// return in addition to those of the helper. Returns `None` if the call was killed.
    pub(crate) fn call(&mut self, command: Command, others: &[i32]) -> Option<place::Output> {
        let shown = format!("{command:?}");
        let said = self.run(command)?;
        let known = STATUSES.contains(&said.status) || others.contains(&said.status);
        // Bash reports a child that was killed.
        let of_bash = |line: &str| shown.contains("bash") && (line.contains("Killed") || line.contains("Terminated"));
        let words = |line: &str| line.starts_with("aba-lock: ") || line.starts_with("hint: ") || of_bash(line);
        let spoken = matches!(said.status, 0 | 1) || others.contains(&said.status) || said.err.contains("aba-lock: ");
        if !known || !spoken || !said.err.lines().all(words) {
            self.stage.report(format!("{} {shown} ended so: {said:?}", self.actor));
        }
        // All actors ask for several locks in the same order.
        if said.err.contains("deadlock") {
            self.stage.report(format!("{} {shown} reported a deadlock that does not exist: {said:?}", self.actor));
        }
        Some(said)
    }

    /// Runs a call without checking its messages: those of the command-line parser have another form.
    pub(crate) fn call_without_judging(&mut self, command: Command) -> Option<place::Output> {
        self.run(command)
    }

    fn run(&mut self, mut command: Command) -> Option<place::Output> {
        let fate = self.choose_fate();
        self.count();
        if self.random.chance(8) {
            self.stage.threadless.fetch_add(1, Ordering::Relaxed);
            place::forbid_threads(&mut command);
        }
        let (out, err) = (kernel::create_memory_file().unwrap(), kernel::create_memory_file().unwrap());
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
        let said = place::Output { status, out: place::read_text(&out), err: place::read_text(&err) };
        if killed {
            if status < 0 {
                self.stage.report(format!("{} did not end after a signal: {command:?}: {said:?}", self.actor));
            }
            return None;
        }
        Some(said)
    }
}
