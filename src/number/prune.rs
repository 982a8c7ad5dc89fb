//! The removal of rows that are no longer needed, by `reserve --prune`, `--expire` and `release`, and by a plan that
//! finds no room.

use super::ancestry::has_vanished;
use super::contents::RegistryContents;
use super::error::NumberError;
use super::pool::Tag;
use super::probe::Probe;
use super::range::NumberRange;
use super::registry::Registry;
use super::row::{Row, seconds_since_epoch};
use super::unavailable::Unavailable;
use crate::os::proc::port_owners::{self, PortOwners};
use std::path::Path;

/// A plan that finds no room removes rows that were not used for this many days.
pub const EXPIRE_DAYS: u32 = 90;

/// A time of last use before this one (the start of 2020, in seconds since 1970) comes from a clock that was not set.
const CLOCK_SET: u64 = 1_577_836_800;

#[derive(Debug)]
pub struct DroppedRow {
    pub row: Row,
    pub reason: DropReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The directory was deleted.
    Vanished,
    /// The number was not requested for this many days.
    Unused(u64),
    Released,
}

/// Returns the numbers whose directory has certainly vanished. The search can hang on a dead mount, so callers search
/// without the lock, and [`drop_vanished`] checks the found numbers again under the lock.
#[must_use]
pub fn find_vanished(contents: &RegistryContents) -> Vec<u32> {
    let rows = contents.rows().unwrap_or_default().into_iter();
    rows.filter(|row| has_vanished(&row.directory, &row.ancestry)).map(|row| row.number).collect()
}

/// Returns true if a row was not used for so long that it may be removed to make room.
#[must_use]
pub fn has_unused_rows(contents: &RegistryContents) -> bool {
    let now = seconds_since_epoch();
    contents.rows().unwrap_or_default().iter().any(|row| count_unused_days(row, now) >= Some(u64::from(EXPIRE_DAYS)))
}

/// Returns the number of days since the last use. Returns `None` if the clock was not set at that time.
fn count_unused_days(row: &Row, now: u64) -> Option<u64> {
    (row.used >= CLOCK_SET).then(|| now.saturating_sub(row.used) / 86400)
}

/// Removes those rows of `among` whose directory has certainly vanished.
pub fn drop_vanished(registry: &mut Registry, among: &[u32]) -> Result<Vec<DroppedRow>, NumberError> {
    drop_rows(registry, |row| {
        Ok((among.contains(&row.number) && has_vanished(&row.directory, &row.ancestry)).then_some(DropReason::Vanished))
    })
}

/// Removes rows that were not used for `days` days and whose number is not in use now. With `among`, only the rows in
/// that range.
pub fn drop_unused(
    registry: &mut Registry,
    probe: Probe,
    days: u32,
    among: Option<NumberRange>,
) -> Result<Vec<DroppedRow>, NumberError> {
    let now = seconds_since_epoch();
    let days_if_due = |row: &Row| {
        let is_in_range = among.is_none_or(|among| among.contains(row.number));
        count_unused_days(row, now).filter(|unused| is_in_range && *unused >= u64::from(days))
    };
    let rows = registry.contents.rows().ok_or_else(|| registry.make_damage_error())?;
    let due: Vec<u32> = rows.iter().filter(|row| days_if_due(row).is_some()).map(|row| row.number).collect();
    // This also finds sockets on addresses that the probe does not try: a number that is in use must not be handed out.
    let listened = match probe {
        Probe::NONE => PortOwners::default(),
        _ if due.is_empty() => PortOwners::default(),
        _ => port_owners::find_port_owners(&due),
    };
    drop_rows(registry, |row| {
        let Some(days) = days_if_due(row) else { return Ok(None) };
        let in_use =
            listened.is_used(row.number) == Some(true) || probe.probe_number(row.number)? == Some(Unavailable::InUse);
        Ok((!in_use).then_some(DropReason::Unused(days)))
    })
}

/// Removes the rows of a directory, with one tag or with any. With `below`, also the rows of directories below it.
pub fn release_rows(
    registry: &mut Registry,
    directory: &Path,
    tag: Option<&Tag>,
    below: bool,
) -> Result<Vec<DroppedRow>, NumberError> {
    drop_rows(registry, |row| {
        let is_match = if below { row.directory.starts_with(directory) } else { row.directory == directory };
        Ok((is_match && tag.is_none_or(|tag| row.tag == *tag)).then_some(DropReason::Released))
    })
}

/// Removes the rows for which `find_reason` returns a reason.
fn drop_rows(
    registry: &mut Registry,
    mut find_reason: impl FnMut(&Row) -> Result<Option<DropReason>, NumberError>,
) -> Result<Vec<DroppedRow>, NumberError> {
    let rows = registry.contents.rows().ok_or_else(|| registry.make_damage_error())?;
    let mut dropped = Vec::new();
    for row in rows {
        if let Some(reason) = find_reason(&row)? {
            dropped.push(DroppedRow { row, reason });
        }
    }
    if !dropped.is_empty() {
        let mut numbers: Vec<u32> = dropped.iter().map(|dropped| dropped.row.number).collect();
        numbers.sort_unstable();
        registry.contents.retain(|row| numbers.binary_search(&row.number).is_err());
    }
    Ok(dropped)
}
