//! Comparisons: several sides that do the same work, in turns.

use crate::call::Measurement;
use crate::row::{Row, Side, Unit};
use std::time::{Duration, Instant};

/// The time limit for a row. The round that runs at that time is finished.
const ROW_LIMIT: Duration = Duration::from_secs(10);

/// The work of one side in one round.
pub(crate) type Turn<'a, T> = Box<dyn FnMut() -> T + 'a>;

/// A comparison of whole processes, which results in a row.
pub(crate) struct Comparison<'a> {
    part: &'static str,
    sides: Vec<(&'static str, Turn<'a, Measurement>)>,
}

impl<'a> Comparison<'a> {
    pub(crate) fn new(part: &'static str) -> Self {
        Self { part, sides: Vec::new() }
    }

    pub(crate) fn side(mut self, name: &'static str, turn: impl FnMut() -> Measurement + 'a) -> Self {
        self.sides.push((name, Box::new(turn)));
        self
    }

    pub(crate) fn run(self, row: &str, rounds: u32) -> Row {
        let (names, mut turns): (Vec<_>, Vec<_>) = self.sides.into_iter().unzip();
        let took = run_in_turns(rounds, &mut turns);
        let side = |(name, took): (&'static str, Vec<Measurement>)| Side {
            name,
            values: took.iter().map(|took| took.microseconds).collect(),
            cpu: took.iter().map(|took| took.cpu).collect(),
            peak_kib: took.iter().map(|took| took.peak_kib).max(),
        };
        Row::new(self.part, row, Unit::Microseconds, names.into_iter().zip(took).map(side).collect())
    }
}

/// Runs each side once a round, in an order that rotates and reverses, so that no side always follows the same other one. Before
/// the rounds that count, there are a twentieth as many (at least one) that do not. Slow sides get fewer rounds (at least
/// one), so that a row takes at most [`ROW_LIMIT`].
pub(crate) fn run_in_turns<T>(rounds: u32, turns: &mut [Turn<T>]) -> Vec<Vec<T>> {
    let mut took: Vec<Vec<T>> = turns.iter().map(|_| Vec::new()).collect();
    let warm = (rounds / 20).max(1);
    let start = Instant::now();
    for round in 0..warm + rounds {
        if start.elapsed() > ROW_LIMIT && !took[0].is_empty() {
            break;
        }
        for side in choose_order(round, turns.len()) {
            let one = turns[side]();
            if round >= warm {
                took[side].push(one);
            }
        }
    }
    took
}

fn choose_order(round: u32, sides: usize) -> Vec<usize> {
    let round = round as usize;
    let mut order: Vec<usize> = (0..sides).map(|place| (round + place) % sides).collect();
    if round / sides % 2 == 1 {
        order.reverse();
    }
    order
}
