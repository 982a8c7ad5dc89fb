//! The choice of numbers for a request. A plan is made under the lock of the pool, from its rows, exclusions and leases
//! and from probes, and changes only the contents in memory: the caller writes them.

use super::ancestry::Ancestry;
use super::candidates::{Candidates, NumberRequest};
use super::contents::RegistryContents;
use super::error::NumberError;
use super::group::{NumberGroup, WantedNumber};
use super::pool::Tag;
use super::prune::{DroppedRow, EXPIRE_DAYS, drop_unused, drop_vanished};
use super::range::NumberRange;
use super::registry::Registry;
use super::row::{Row, seconds_since_epoch};
use super::unavailable::Unavailable;
use std::path::{Path, PathBuf};

/// The last use of a row is updated if it is at least this many seconds ago. Writing the registry on every use would
/// take longer than the rest of the call.
const NOTE_AFTER: u64 = 60;

/// A number that is chosen for one tag.
#[derive(Debug)]
pub struct PlannedNumber {
    pub number: u32,
    pub tag: Tag,
    /// The preferred number, if another one was chosen, and the reason.
    pub unmet: Option<(u32, Unavailable)>,
    /// True if the number was reserved before, and a process uses it now.
    pub in_use: bool,
}

/// The chosen numbers, and what the user should know about the choice.
#[derive(Debug, Default)]
pub struct NumberPlan {
    /// The numbers in the order of the request.
    pub numbers: Vec<PlannedNumber>,
    /// The base of the group file, if the group does not start there, with the number that prevents it and the reason.
    pub unmet_base: Option<(u32, u32, Unavailable)>,
    /// True if at least one number was not reserved before.
    pub is_new: bool,
    /// The rows that were removed to make room.
    pub dropped: Vec<DroppedRow>,
    /// The locks that are not regular files. Their numbers were skipped.
    pub unusable_locks: Vec<PathBuf>,
}

/// Plans numbers that are reserved for `directory`. A key that has a number keeps it. With `vanished`, rows may be
/// removed to make room: see [`lacks_room`].
pub fn plan_kept_numbers(
    registry: &mut Registry,
    request: &NumberRequest,
    directory: &Path,
    group: &NumberGroup,
    vanished: Option<&[u32]>,
) -> Result<NumberPlan, NumberError> {
    let ancestry =
        Ancestry::read(directory).map_err(|source| NumberError::Directory { path: directory.to_owned(), source })?;
    let now = seconds_since_epoch();
    let mut rows: Vec<Option<Row>> =
        group.wants.iter().map(|want| registry.contents.find(&want.tag, directory)).collect();
    // The last uses are updated before other numbers are chosen, so that no row of this request counts as unused and is
    // removed.
    for row in rows.iter_mut().flatten() {
        if row.used.abs_diff(now) >= NOTE_AFTER || row.ancestry != ancestry {
            (row.used, row.ancestry) = (now, ancestry.clone());
            registry.contents.insert(row);
        }
    }
    let mut plan = NumberPlan::default();
    let missing: Vec<&WantedNumber> =
        group.wants.iter().zip(&rows).filter(|(_, row)| row.is_none()).map(|(want, _)| want).collect();
    let is_new = !missing.is_empty();
    let mut placed = Vec::new();
    if is_new {
        // New numbers of a group are placed next to its reserved ones, if possible.
        let bases =
            group.wants.iter().zip(&rows).filter_map(|(want, row)| row.as_ref()?.number.checked_sub(want.offset));
        placed =
            place_or_make_room(registry, request, group, &missing, &bases.collect::<Vec<_>>(), vanished, &mut plan)?;
    }
    plan.is_new = is_new;
    let mut placed = placed.into_iter();
    for (want, row) in group.wants.iter().zip(rows) {
        let Some(row) = row else {
            let Some(chosen) = placed.next() else { continue };
            let (number, tag, directory) = (chosen.number, want.tag.clone(), directory.to_owned());
            let ancestry = ancestry.clone();
            registry.contents.insert(&Row { number, created: now, used: now, ancestry, tag, directory });
            plan.numbers.push(chosen);
            continue;
        };
        let unmet = want
            .preferred
            .filter(|wanted| *wanted != row.number)
            .map(|wanted| (wanted, Unavailable::HasOther(row.number)));
        if let (Some((number, reason)), true) = (&unmet, group.require) {
            return Err(NumberError::Required { number: *number, reason: reason.clone() });
        }
        // A trial bind could collide with the server that owns the number, if that starts at this moment.
        let in_use = match request.probe.is_listened_on(row.number) {
            Some(in_use) => in_use,
            None => request.probe.probe_number(row.number)? == Some(Unavailable::InUse),
        };
        plan.numbers.push(PlannedNumber { number: row.number, tag: want.tag.clone(), unmet, in_use });
    }
    Ok(plan)
}

/// Plans numbers for a command to lease. They differ from all reserved numbers, also from those of this directory.
pub fn plan_leased_numbers(
    registry: &mut Registry,
    request: &NumberRequest,
    group: &NumberGroup,
    vanished: Option<&[u32]>,
) -> Result<NumberPlan, NumberError> {
    let mut plan = NumberPlan::default();
    let wants: Vec<&WantedNumber> = group.wants.iter().collect();
    plan.numbers = place_or_make_room(registry, request, group, &wants, &[], vanished, &mut plan)?;
    Ok(plan)
}

/// Returns true if a plan failed because rows hold the numbers. The caller then releases the registry, finds the rows
/// with [vanished directories](super::prune::find_vanished) and plans again with them. The search happens without the
/// lock, because it can hang on a dead mount, and other processes must not wait for that.
#[must_use]
pub fn lacks_room(error: &NumberError) -> bool {
    matches!(error, NumberError::Exhausted { .. } | NumberError::Required { reason: Unavailable::Reserved(_), .. })
}

/// Chooses places. If there are none, this removes rows in the requested range and tries again: first rows whose
/// directory has vanished, then, if that is not enough, rows that were not used for a long time.
fn place_or_make_room(
    registry: &mut Registry,
    request: &NumberRequest,
    group: &NumberGroup,
    wants: &[&WantedNumber],
    bases: &[u32],
    vanished: Option<&[u32]>,
    plan: &mut NumberPlan,
) -> Result<Vec<PlannedNumber>, NumberError> {
    let mut placed = place_numbers(&mut Candidates::new(registry, request)?, group, wants, bases, plan);
    let Some(vanished) = vanished else { return placed };
    let mut dropped = Vec::new();
    for unused in [false, true] {
        let range = match &placed {
            Err(NumberError::Exhausted { .. }) => request.range,
            Err(NumberError::Required { number, reason: Unavailable::Reserved(_) }) => {
                NumberRange { first: *number, last: *number }
            }
            _ => break,
        };
        let more = if unused {
            drop_unused(registry, request.probe, EXPIRE_DAYS, Some(range))?
        } else {
            let vanished: Vec<u32> = vanished.iter().copied().filter(|number| range.contains(*number)).collect();
            drop_vanished(registry, &vanished)?
        };
        if !more.is_empty() {
            dropped.extend(more);
            *plan = NumberPlan::default();
            placed = place_numbers(&mut Candidates::new(registry, request)?, group, wants, bases, plan);
        }
    }
    plan.dropped = dropped;
    placed
}

/// Chooses a number for each of `wants`: its preferred number if that is available, and otherwise its offset from a base at
/// which all remaining numbers of the group are available. `bases` are tried first, then the base of the group, then
/// the range.
fn place_numbers(
    candidates: &mut Candidates,
    group: &NumberGroup,
    wants: &[&WantedNumber],
    bases: &[u32],
    plan: &mut NumberPlan,
) -> Result<Vec<PlannedNumber>, NumberError> {
    let mut chosen: Vec<PlannedNumber> = Vec::new();
    let mut rest: Vec<(usize, u32)> = Vec::new();
    for (at, want) in wants.iter().enumerate() {
        let mut unmet = None;
        let mut number = None;
        if let Some(wanted) = want.preferred {
            match candidates.find_obstacle_to_preference(wanted)? {
                None => {
                    candidates.mark_reserved(wanted);
                    number = Some(wanted);
                }
                Some(reason) if group.require => return Err(NumberError::Required { number: wanted, reason }),
                Some(reason) => unmet = Some((wanted, reason)),
            }
        }
        if number.is_none() {
            rest.push((at, want.offset));
        }
        chosen.push(PlannedNumber { number: number.unwrap_or_default(), tag: want.tag.clone(), unmet, in_use: false });
    }
    if rest.is_empty() {
        plan.unusable_locks.append(&mut candidates.unusable_locks);
        return Ok(chosen);
    }
    let offsets: Vec<u32> = rest.iter().map(|(_, offset)| *offset).collect();
    for base in
        bases.iter().copied().chain(group.base).chain(candidates.request.range.first..=candidates.request.range.last)
    {
        match candidates.find_obstacle_from(base, &offsets)? {
            None => {
                for (at, offset) in rest {
                    chosen[at].number = base + offset;
                }
                plan.unusable_locks.append(&mut candidates.unusable_locks);
                return Ok(chosen);
            }
            Some((number, reason)) => {
                if group.base == Some(base) && plan.unmet_base.is_none() {
                    plan.unmet_base = Some((base, number, reason));
                }
            }
        }
    }
    let tally = candidates.count_obstacles()?;
    Err(NumberError::Exhausted {
        pool: group.pool.to_string(),
        range: candidates.request.range,
        wanted: rest.len(),
        tally,
    })
}

/// Adds the owners of reserved numbers to reasons, for messages.
pub fn name_owners(contents: &RegistryContents, unmet: &mut [&mut (u32, Unavailable)]) {
    if !unmet.iter().any(|(_, reason)| matches!(reason, Unavailable::Reserved(None))) {
        return;
    }
    let rows = contents.rows().unwrap_or_default();
    for (number, reason) in unmet.iter_mut().map(|(number, reason)| (*number, reason)) {
        let row = rows.iter().find(|row| row.number == number);
        if let (Unavailable::Reserved(owner @ None), Some(row)) = (reason, row) {
            *owner = Some((row.tag.as_str().to_owned(), row.directory.clone()));
        }
    }
}
