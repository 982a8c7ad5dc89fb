//! The numbers of a range that may be given.

use super::error::NumberError;
use super::lease::Leases;
use super::probe::Probe;
use super::range::Range;
use super::registry::Registry;
use super::unavailable::{Tally, Why};
use crate::lock::error::LockError;
use std::collections::HashMap;
use std::path::PathBuf;

/// Which numbers may be given.
#[derive(Debug)]
pub struct Ask {
    /// Out of these.
    pub range: Range,
    /// But none of these, beside those that the registry excludes.
    pub exclude: Vec<Range>,
    /// And none that is in use, as this finds.
    pub probe: Probe,
}

/// What is known of the numbers of a range.
pub(super) struct Judge<'a> {
    pub(super) ask: &'a Ask,
    leases: &'a Leases,
    excluded: Vec<Range>,
    /// A bit for each number of the range.
    reserved: Vec<u64>,
    /// What was found out at some cost.
    known: HashMap<u32, Option<Why>>,
    /// What is in the place of a lock file, and is none.
    pub(super) odd: Vec<PathBuf>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(registry: &'a Registry, ask: &'a Ask) -> Result<Self, NumberError> {
        let numbers = registry.book.numbers().ok_or_else(|| registry.damaged())?;
        let mut excluded = registry.book.exclusions();
        excluded.extend_from_slice(&ask.exclude);
        let size = (ask.range.last - ask.range.first) as usize / 64 + 1;
        let mut judge = Self {
            ask,
            leases: &registry.leases,
            excluded,
            reserved: vec![0; size],
            known: HashMap::new(),
            odd: Vec::new(),
        };
        for number in numbers.into_iter().filter(|number| ask.range.contains(*number)) {
            judge.take(number);
        }
        Ok(judge)
    }

    fn place(&self, number: u32) -> (usize, u64) {
        let at = (number - self.ask.range.first) as usize;
        (at / 64, 1 << (at % 64))
    }

    pub(super) fn take(&mut self, number: u32) {
        let (word, bit) = self.place(number);
        self.reserved[word] |= bit;
    }

    pub(super) fn why_not(&mut self, number: u32) -> Result<Option<Why>, NumberError> {
        if !self.ask.range.contains(number) {
            return Ok(Some(Why::OutOfRange(self.ask.range)));
        }
        let (word, bit) = self.place(number);
        if self.reserved[word] & bit != 0 {
            return Ok(Some(Why::Reserved(None)));
        }
        if self.excluded.iter().any(|range| range.contains(number)) {
            return Ok(Some(Why::Excluded));
        }
        if let Some(known) = self.known.get(&number) {
            return Ok(known.clone());
        }
        let why = match self.leases.is_leased(number) {
            Ok(true) => Some(Why::Leased),
            Ok(false) => self.ask.probe.finds(number)?,
            // One that nobody can lock is no reason to give none of the others.
            Err(NumberError::Lock(LockError::NotRegular { path, kind })) => {
                self.odd.push(path);
                Some(Why::Odd(kind))
            }
            Err(error) => return Err(error),
        };
        self.known.insert(number, why.clone());
        Ok(why)
    }

    /// Why a group cannot begin at `base`: the first of its numbers that cannot be had.
    pub(super) fn why_not_at(&mut self, base: u32, offsets: &[u32]) -> Result<Option<(u32, Why)>, NumberError> {
        for offset in offsets {
            let Some(number) = base.checked_add(*offset) else {
                return Ok(Some((u32::MAX, Why::OutOfRange(self.ask.range))));
            };
            if let Some(why) = self.why_not(number)? {
                return Ok(Some((number, why)));
            }
        }
        Ok(None)
    }

    pub(super) fn tally(&mut self) -> Result<Tally, NumberError> {
        let mut tally = Tally::default();
        for number in self.ask.range.first..=self.ask.range.last {
            *match self.why_not(number)? {
                Some(Why::Reserved(_) | Why::OutOfRange(_) | Why::Other(_)) => &mut tally.reserved,
                Some(Why::Leased | Why::Odd(_)) => &mut tally.leased,
                Some(Why::Excluded) => &mut tally.excluded,
                Some(Why::InUse | Why::NotAllowed) => &mut tally.in_use,
                None => &mut tally.free,
            } += 1;
        }
        Ok(tally)
    }
}
