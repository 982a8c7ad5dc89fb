//! Several sides that do the same, in turns.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use crate::call::Took;
use crate::row::{Row, Side, Unit};
use std::mem;
use std::time::{Duration, Instant};

/// The most that a row takes, but for the round that is on then.
const ENOUGH: Duration = Duration::from_secs(10);

/// What one side does.
pub(crate) type Turn<'a, T> = Box<dyn FnMut() -> T + 'a>;

/// A row in the making: whole processes.
pub(crate) struct Contest<'a> {
    part: &'static str,
    sides: Vec<(&'static str, Turn<'a, Took>)>,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(part: &'static str) -> Self {
        Self { part, sides: Vec::new() }
    }

    pub(crate) fn side(mut self, name: &'static str, turn: impl FnMut() -> Took + 'a) -> Self {
        self.sides.push((name, Box::new(turn)));
        self
    }

    pub(crate) fn run(self, row: &str, rounds: u32) -> Row {
        let (names, mut turns): (Vec<_>, Vec<_>) = self.sides.into_iter().unzip();
        let took = in_turns(rounds, &mut turns);
        let side = |(name, took): (&'static str, Vec<Took>)| Side {
            name,
            values: took.iter().map(|took| took.microseconds).collect(),
            cpu: took.iter().map(|took| took.cpu).collect(),
            peak_kib: took.iter().map(|took| took.peak_kib).max(),
        };
        Row::new(self.part, row, Unit::Microseconds, names.into_iter().zip(took).map(side).collect())
    }
}

/// Each side once a round, in an order that goes round, and back: none is always behind the same other. Before the rounds
/// that count there are a twentieth as many that do not, one at least. Who is slow gets fewer rounds, and one at least: a row
/// is to take no more than [`ENOUGH`].
pub(crate) fn in_turns<T>(rounds: u32, turns: &mut [Turn<T>]) -> Vec<Vec<T>> {
    let mut took: Vec<Vec<T>> = turns.iter().map(|_| Vec::new()).collect();
    let warm = (rounds / 20).max(1);
    let start = Instant::now();
    for round in 0..warm + rounds {
        if start.elapsed() > ENOUGH && !took[0].is_empty() {
            break;
        }
        for side in order(round, turns.len()) {
            let one = turns[side]();
            if round >= warm {
                took[side].push(one);
            }
        }
    }
    took
}

fn order(round: u32, sides: usize) -> Vec<usize> {
    let round = round as usize;
    let mut order: Vec<usize> = (0..sides).map(|place| (round + place) % sides).collect();
    if round / sides % 2 == 1 {
        order.reverse();
    }
    order
}

/// Keeps us, and what we start, on one processor as long as it is there: the last, as the first has the most to do besides.
pub(crate) struct Pinned {
    before: libc::cpu_set_t,
}

impl Pinned {
    pub(crate) fn new() -> Self {
        // SAFETY: all bytes zero are a valid set, and the sets live until each call returns.
        unsafe {
            let mut before: libc::cpu_set_t = mem::zeroed();
            assert_eq!(libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut before), 0);
            let last = (0..libc::CPU_SETSIZE as usize).rev().find(|cpu| libc::CPU_ISSET(*cpu, &before));
            let mut one: libc::cpu_set_t = mem::zeroed();
            libc::CPU_SET(last.unwrap_or(0), &mut one);
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one);
            Self { before }
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: it was filled by the call in `new`.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.before) };
    }
}
