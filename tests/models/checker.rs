//! Explores all states of a model: each order of steps, with a crash before each step.
//!
//! stateright visits the states and evaluates the promises of the protocol in each of them. Two promises are the same for all
//! protocols: when no process can go on, all have ended ([`ALL_END`]); and no order of steps is endless, because no state
//! is reached twice in one order ([`has_cycle`]). Together they say that every process that waits is served if the holders end.

use crate::kernel::Pid;
use crate::world::World;
use stateright::{Checker, Expectation, HasDiscoveries, Model, Path, Property};
use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};
use std::ops::Deref;

/// The name of the promise that no process waits forever.
pub(crate) const ALL_END: &str = "when no process can go on, all have ended";

pub(crate) type WorldOf<P> = World<<P as Protocol>::Step, <P as Protocol>::Memory>;

pub(crate) trait Protocol: Clone + Send + Sync + 'static {
    type Step: Copy + Eq + Hash + Debug + Send + Sync + 'static;
    type Memory: Clone + Eq + Hash + Debug + Send + Sync + 'static;

    /// The step of a process that has ended.
    const END: Self::Step;

    /// Returns the world before the first step.
    fn start(&self) -> WorldOf<Self>;

    /// Returns true if this step is an end, or the process does not exist yet.
    fn has_ended(&self, world: &WorldOf<Self>, pid: Pid) -> bool {
        world.steps[pid] == Self::END
    }

    /// Returns true if the process waits for a lock.
    fn is_blocked(&self, world: &WorldOf<Self>, pid: Pid) -> bool {
        world.is_blocked(pid)
    }

    /// Returns true if the process waits for something other than a lock.
    fn is_waiting(&self, _world: &WorldOf<Self>, _pid: Pid) -> bool {
        false
    }

    /// The number of ways in which the process may take its next step.
    fn count_choices(&self, _world: &WorldOf<Self>, _pid: Pid) -> usize {
        1
    }

    /// Takes a step of a process, and returns the next one.
    fn take_step(&self, world: &mut WorldOf<Self>, pid: Pid, step: Self::Step) -> Self::Step;

    /// Takes a step in one of the ways that [`count_choices`](Self::count_choices) has counted.
    fn choose(&self, world: &mut WorldOf<Self>, pid: Pid, step: Self::Step, _choice: usize) -> Self::Step {
        self.take_step(world, pid, step)
    }

    /// Returns true if a crash at this step is part of the model.
    fn may_crash(&self, _world: &WorldOf<Self>, _pid: Pid) -> bool {
        true
    }

    /// Adds the effects of the crash of a process, other than those on its locks. Its step is still the one before which it
    /// was killed.
    fn note_crash(&self, _world: &mut WorldOf<Self>, _pid: Pid) {}

    /// Releases a lock of a killed process.
    fn reap(&self, world: &mut WorldOf<Self>, pid: Pid, lock: usize) {
        world.release(pid, lock);
    }

    fn promises() -> Vec<Property<Checked<Self>>>;

    /// A promise that must hold in each state.
    fn always(name: &'static str, holds: fn(&Checked<Self>, &WorldOf<Self>) -> bool) -> Property<Checked<Self>> {
        Property::always(name, holds)
    }

    /// An example that must occur in some state. Without it, a promise would say little.
    fn sometimes(name: &'static str, occurs: fn(&Checked<Self>, &WorldOf<Self>) -> bool) -> Property<Checked<Self>> {
        Property::sometimes(name, occurs)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Step(Pid, usize),
    Crash(Pid),
    /// The kernel releases one lock of a killed process.
    Reap(Pid, usize),
}

/// A protocol in the form that stateright explores.
pub(crate) struct Checked<P>(P);

impl<P> Deref for Checked<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.0
    }
}

impl<P: Protocol> Checked<P> {
    /// Calls `then` with each action, other than a crash, that is possible.
    fn for_each_action(&self, world: &WorldOf<P>, mut then: impl FnMut(Action)) {
        for pid in world.pids() {
            if !world.is_alive(pid) {
                let held = (0..world.locks.len()).filter(|&lock| world.locks[lock].is_held_by(pid));
                held.for_each(|lock| then(Action::Reap(pid, lock)));
            } else if !self.has_ended(world, pid) && !self.is_blocked(world, pid) && !self.is_waiting(world, pid) {
                (0..self.count_choices(world, pid)).for_each(|choice| then(Action::Step(pid, choice)));
            }
        }
    }

    /// Returns true if each process has ended or was killed.
    pub(crate) fn all_ended(&self, world: &WorldOf<P>) -> bool {
        world.pids().all(|pid| !world.is_alive(pid) || self.has_ended(world, pid))
    }

    /// Returns true if no process can go on.
    pub(crate) fn is_final(&self, world: &WorldOf<P>) -> bool {
        let mut is_final = true;
        self.for_each_action(world, |_| is_final = false);
        is_final
    }
}

impl<P: Protocol> Model for Checked<P> {
    type State = WorldOf<P>;
    type Action = Action;

    fn init_states(&self) -> Vec<Self::State> {
        vec![self.start()]
    }

    fn actions(&self, world: &Self::State, actions: &mut Vec<Action>) {
        self.for_each_action(world, |action| actions.push(action));
        if world.may_crash() {
            let lives = |&pid: &Pid| world.is_alive(pid) && !self.has_ended(world, pid) && self.may_crash(world, pid);
            actions.extend(world.pids().filter(lives).map(Action::Crash));
        }
    }

    fn next_state(&self, before: &Self::State, action: Action) -> Option<Self::State> {
        let mut world = before.clone();
        match action {
            Action::Step(pid, choice) => {
                let step = world.steps[pid];
                world.steps[pid] = self.choose(&mut world, pid, step, choice);
            }
            Action::Crash(pid) => {
                world.crash(pid);
                self.note_crash(&mut world, pid);
                world.steps[pid] = P::END;
            }
            Action::Reap(pid, lock) => self.reap(&mut world, pid, lock),
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = P::promises();
        all.push(Property::always(ALL_END, |model: &Self, world| !model.is_final(world) || model.all_ended(world)));
        all
    }
}

/// Returns the steps that lead to a state, in words.
fn describe<P: Protocol>(path: Path<WorldOf<P>, Action>) -> String {
    let mut text = String::new();
    for (world, action) in path.into_vec() {
        let line = match action {
            Some(Action::Step(pid, _)) => format!("\n  process {pid}: {:?}", world.steps[pid]),
            Some(Action::Crash(pid)) => format!("\n  process {pid} is killed before {:?}", world.steps[pid]),
            Some(Action::Reap(pid, lock)) => format!("\n  the kernel releases lock {lock} of process {pid}"),
            None => format!("\n{world:?}"),
        };
        text.push_str(&line);
    }
    text
}

/// Explores a protocol until `ends` holds. Returns the number of states, and for each promise that is broken and each
/// example that was found the steps that lead to it.
fn explore<P: Protocol>(protocol: P, ends: HasDiscoveries) -> (usize, HashMap<&'static str, String>) {
    let checker = Checked(protocol).checker().threads(1).finish_when(ends).spawn_bfs().join();
    let found = checker.discoveries().into_iter().map(|(name, path)| (name, describe::<P>(path))).collect();
    (checker.unique_state_count(), found)
}

/// Returns true if the states have a cycle: then some order of steps is endless.
fn has_cycle<P: Protocol>(model: &Checked<P>) -> bool {
    let hasher = BuildHasherDefault::<DefaultHasher>::new();
    // The value is true while the state is on the path that is followed.
    let mut seen: HashMap<u64, bool> = HashMap::new();
    let mut path: Vec<(u64, Vec<WorldOf<P>>)> = Vec::new();
    let mut next = model.init_states().pop();
    loop {
        if let Some(world) = next.take() {
            let number = hasher.hash_one(&world);
            match seen.get(&number) {
                Some(true) => return true,
                Some(false) => {}
                None => {
                    seen.insert(number, true);
                    path.push((number, model.next_states(&world)));
                }
            }
        }
        let Some((number, left)) = path.last_mut() else { return false };
        next = left.pop();
        if next.is_none() {
            seen.insert(*number, false);
            path.pop();
        }
    }
}

/// Asserts that a protocol keeps all promises in all states, that each example of its promises occurs, and that it ends.
pub(crate) fn assert_kept<P: Protocol + Debug>(protocol: P) {
    assert_promises(protocol.clone());
    let text = format!("{protocol:?}");
    assert!(!has_cycle(&Checked(protocol)), "{text}: an order of steps is endless");
}

/// Does the same as [`assert_kept`] for a protocol in which processes try again, so that an order of steps can be endless.
#[expect(clippy::print_stdout, clippy::disallowed_macros, reason = "the numbers of states, shown with --nocapture")]
pub(crate) fn assert_promises<P: Protocol + Debug>(protocol: P) {
    let text = format!("{protocol:?}");
    let (states, found) = explore(protocol.clone(), HasDiscoveries::AnyFailures);
    println!("{states} states: {text}");
    let model = Checked(protocol);
    for promise in model.properties() {
        match (promise.expectation, found.get(promise.name)) {
            (Expectation::Sometimes, None) => panic!("{text}: never: {}", promise.name),
            (Expectation::Always, Some(path)) => panic!("{text}: broken: {}{path}", promise.name),
            _ => {}
        }
    }
}

/// Asserts that a protocol with a fault breaks this promise.
pub(crate) fn assert_broken<P: Protocol + Debug>(protocol: P, promise: &'static str) {
    let text = format!("{protocol:?}");
    assert!(Checked(protocol.clone()).properties().iter().any(|known| known.name == promise), "no promise: {promise}");
    let (_, found) = explore(protocol, HasDiscoveries::AnyOf([promise].into()));
    assert!(found.contains_key(promise), "{text}: the fault is not found: {promise}");
}

/// Asserts that a protocol with a fault has an endless order of steps.
pub(crate) fn assert_endless<P: Protocol + Debug>(protocol: P) {
    let text = format!("{protocol:?}");
    assert!(has_cycle(&Checked(protocol)), "{text}: the fault is not found: no order of steps is endless");
}
