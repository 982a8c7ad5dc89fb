//! The numbers of a range that may be handed out: each number is checked against the rows, the exclusions, the leases
//! and the probe, and the expensive checks are made once.

use super::error::NumberError;
use super::lease::Leases;
use super::probe::Probe;
use super::range::NumberRange;
use super::registry::Registry;
use super::unavailable::{Tally, Unavailable};
use crate::lock::error::LockError;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

/// The numbers that the caller accepts.
#[derive(Debug)]
pub struct NumberRequest {
    pub range: NumberRange,
    /// The numbers that the caller may prefer or require. They contain the range.
    pub preferences: NumberRange,
    /// Exclusions of this call, in addition to those of the registry.
    pub exclude: Vec<NumberRange>,
    pub probe: Probe,
}

/// The numbers of a requested range, with the results of their checks.
pub(super) struct Candidates<'a> {
    pub(super) request: &'a NumberRequest,
    leases: &'a Leases,
    excluded: Vec<NumberRange>,
    /// One bit for each number of the range.
    reserved: Vec<u64>,
    /// The reserved numbers outside of the range that the caller may prefer.
    reserved_outside: HashSet<u32>,
    /// The results of lease checks and probes.
    known: HashMap<u32, Option<Unavailable>>,
    /// The paths of locks that are not regular files.
    pub(super) unusable_locks: Vec<PathBuf>,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(registry: &'a Registry, request: &'a NumberRequest) -> Result<Self, NumberError> {
        let numbers = registry.contents.numbers().ok_or_else(|| registry.make_damage_error())?;
        let mut excluded = registry.contents.exclusions();
        excluded.extend_from_slice(&request.exclude);
        let size = (request.range.last - request.range.first) as usize / 64 + 1;
        let mut candidates = Self {
            request,
            leases: &registry.leases,
            excluded,
            reserved: vec![0; size],
            reserved_outside: HashSet::new(),
            known: HashMap::new(),
            unusable_locks: Vec::new(),
        };
        for number in numbers.into_iter().filter(|number| request.preferences.contains(*number)) {
            candidates.mark_reserved(number);
        }
        Ok(candidates)
    }

    fn locate_bit(&self, number: u32) -> (usize, u64) {
        let at = (number - self.request.range.first) as usize;
        (at / 64, 1 << (at % 64))
    }

    /// Makes a number unavailable for the rest of the plan.
    pub(super) fn mark_reserved(&mut self, number: u32) {
        if self.request.range.contains(number) {
            let (word, bit) = self.locate_bit(number);
            self.reserved[word] |= bit;
        } else {
            self.reserved_outside.insert(number);
        }
    }

    fn is_reserved(&self, number: u32) -> bool {
        if !self.request.range.contains(number) {
            return self.reserved_outside.contains(&number);
        }
        let (word, bit) = self.locate_bit(number);
        self.reserved[word] & bit != 0
    }

    /// Does the same as [`Candidates::find_obstacle`] for a number that the caller prefers or requires.
    pub(super) fn find_obstacle_to_preference(&mut self, number: u32) -> Result<Option<Unavailable>, NumberError> {
        if !self.request.preferences.contains(number) {
            return Ok(Some(Unavailable::OutOfRange(self.request.range)));
        }
        self.check_number(number)
    }

    /// Returns the reason why a number is not available, or `None` if it is available.
    pub(super) fn find_obstacle(&mut self, number: u32) -> Result<Option<Unavailable>, NumberError> {
        if !self.request.range.contains(number) {
            return Ok(Some(Unavailable::OutOfRange(self.request.range)));
        }
        self.check_number(number)
    }

    fn check_number(&mut self, number: u32) -> Result<Option<Unavailable>, NumberError> {
        if self.is_reserved(number) {
            return Ok(Some(Unavailable::Reserved(None)));
        }
        if self.excluded.iter().any(|range| range.contains(number)) {
            return Ok(Some(Unavailable::Excluded));
        }
        if let Some(known) = self.known.get(&number) {
            return Ok(known.clone());
        }
        let reason = match self.leases.is_leased(number) {
            Ok(true) => Some(Unavailable::Leased),
            Ok(false) => self.request.probe.probe_number(number)?,
            // A number that cannot be locked must not prevent the use of the others.
            Err(NumberError::Lock(LockError::NotRegular { path, kind })) => {
                self.unusable_locks.push(path);
                Some(Unavailable::NotRegular(kind))
            }
            Err(error) => return Err(error),
        };
        self.known.insert(number, reason.clone());
        Ok(reason)
    }

    /// Returns the first number that prevents a group from starting at `base`, with the reason. Returns `None` if the
    /// group can start there.
    pub(super) fn find_obstacle_from(
        &mut self,
        base: u32,
        offsets: &[u32],
    ) -> Result<Option<(u32, Unavailable)>, NumberError> {
        for offset in offsets {
            let Some(number) = base.checked_add(*offset) else {
                return Ok(Some((u32::MAX, Unavailable::OutOfRange(self.request.range))));
            };
            if let Some(reason) = self.find_obstacle(number)? {
                return Ok(Some((number, reason)));
            }
        }
        Ok(None)
    }

    /// Counts the reasons over the whole range, for the message that no number is available.
    pub(super) fn count_obstacles(&mut self) -> Result<Tally, NumberError> {
        let mut tally = Tally::default();
        for number in self.request.range.first..=self.request.range.last {
            *match self.find_obstacle(number)? {
                Some(Unavailable::Reserved(_) | Unavailable::OutOfRange(_) | Unavailable::HasOther(_)) => {
                    &mut tally.reserved
                }
                Some(Unavailable::Leased | Unavailable::NotRegular(_)) => &mut tally.leased,
                Some(Unavailable::Excluded) => &mut tally.excluded,
                Some(Unavailable::InUse | Unavailable::NotAllowed) => &mut tally.in_use,
                None => &mut tally.free,
            } += 1;
        }
        Ok(tally)
    }
}
