//! The results: rows, each with several sides.

use crate::machine::Machine;
use crate::stats::{self, Ratio, Spread};

/// The results of one run.
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rounds: u32,
    pub(crate) rows: Vec<Row>,
}

/// Several sides that did the same work in turns.
pub(crate) struct Row {
    pub(crate) part: &'static str,
    pub(crate) name: String,
    /// A number, and what it counts.
    pub(crate) size: Option<(u32, &'static str)>,
    pub(crate) unit: Unit,
    /// The side of the helper is the first.
    pub(crate) sides: Vec<Side>,
}

/// The unit of the values of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Microseconds,
    PerSecond,
    Kibibytes,
}

/// The values of one side, one for each round.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) values: Vec<f64>,
    /// Processor time, in microseconds.
    pub(crate) cpu: Vec<f64>,
    pub(crate) peak_kib: Option<u64>,
}

impl Side {
    pub(crate) fn new(name: &'static str, values: Vec<f64>) -> Self {
        Self { name, values, cpu: Vec::new(), peak_kib: None }
    }

    pub(crate) fn spread(&self) -> Spread {
        stats::describe_spread(&self.values)
    }

    pub(crate) fn cpu(&self) -> Option<f64> {
        (!self.cpu.is_empty()).then(|| stats::describe_spread(&self.cpu).median)
    }
}

impl Row {
    pub(crate) fn new(part: &'static str, name: &str, unit: Unit, sides: Vec<Side>) -> Self {
        Self { part, name: name.to_owned(), size: None, unit, sides }
    }

    pub(crate) fn with_size(mut self, size: u32, of: &'static str) -> Self {
        self.size = Some((size, of));
        self
    }

    /// Returns the ratio of the processor time of the helper to that of another side, or `None` if it was not measured.
    pub(crate) fn cpu_ratio(&self, side: usize) -> Option<Ratio> {
        let theirs = &self.sides[side].cpu;
        let measured = side > 0 && !theirs.is_empty() && theirs.iter().all(|value| *value > 0.0);
        measured.then(|| stats::compare(&self.sides[0].cpu, theirs))
    }

    /// Returns the ratio of the helper to another side, or `None` for the helper itself and if the other side has a value of 0.
    pub(crate) fn ratio(&self, side: usize) -> Option<Ratio> {
        let theirs = &self.sides[side].values;
        (side > 0 && theirs.iter().all(|value| *value > 0.0)).then(|| stats::compare(&self.sides[0].values, theirs))
    }
}
