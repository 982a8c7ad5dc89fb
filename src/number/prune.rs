//! Rows that are dropped.

use super::ancestry::has_vanished;
use super::contents::RegistryContents;
use super::error::NumberError;
use super::pool::Tag;
use super::probe::Probe;
use super::range::NumberRange;
use super::registry::Registry;
use super::row::{Row, seconds_since_epoch};
use super::unavailable::Unavailable;
use crate::os::proc::port_owners;
use std::path::Path;

/// Rows that were not used for so many days are dropped when nothing else is left to give.
pub const EXPIRE_DAYS: u32 = 90;

/// When a clock says that it is earlier, it is wrong: in seconds since 1970. It is the year 2020.
const CLOCK_SET: u64 = 1_577_836_800;

/// A row that is dropped.
#[derive(Debug)]
pub struct DroppedRow {
    /// The row.
    pub row: Row,
    /// Why.
    pub because: DropReason,
}

/// Why a row is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Its directory is vanished.
    Vanished,
    /// It was not used for so many days.
    Unused(u64),
    /// It was given back.
    Released,
}

/// The numbers whose directory is certainly vanished. To look may take for ever, where a mount hangs: that is better done
/// without the lock, and then once more for these.
#[must_use]
pub fn find_vanished(contents: &RegistryContents) -> Vec<u32> {
    let rows = contents.rows().unwrap_or_default().into_iter();
    rows.filter(|row| has_vanished(&row.directory, &row.ancestry)).map(|row| row.number).collect()
}

/// Whether there is a row that was not used for so long that it may be dropped to make room.
#[must_use]
pub fn has_unused_rows(contents: &RegistryContents) -> bool {
    let now = seconds_since_epoch();
    contents.rows().unwrap_or_default().iter().any(|row| count_unused_days(row, now) >= Some(u64::from(EXPIRE_DAYS)))
}

/// For how many days a row was not used. `None` where its clock was not set yet, which proves nothing.
fn count_unused_days(row: &Row, now: u64) -> Option<u64> {
    (row.used >= CLOCK_SET).then(|| now.saturating_sub(row.used) / 86400)
}

/// Drops the rows of these numbers whose directory is certainly vanished.
pub fn drop_vanished(registry: &mut Registry, among: &[u32]) -> Result<Vec<DroppedRow>, NumberError> {
    drop_rows(registry, |row| {
        Ok((among.contains(&row.number) && has_vanished(&row.directory, &row.ancestry)).then_some(DropReason::Vanished))
    })
}

/// Drops the rows that were not used for so many days, and whose number is not in use now; only of these numbers, if that
/// is said.
pub fn drop_unused(
    registry: &mut Registry,
    probe: Probe,
    days: u32,
    among: Option<NumberRange>,
) -> Result<Vec<DroppedRow>, NumberError> {
    let now = seconds_since_epoch();
    let days_if_due = |row: &Row| {
        let meant = among.is_none_or(|among| among.contains(row.number));
        count_unused_days(row, now).filter(|unused| meant && *unused >= u64::from(days))
    };
    let rows = registry.contents.rows().ok_or_else(|| registry.make_damage_error())?;
    let due: Vec<u32> = rows.iter().filter(|row| days_if_due(row).is_some()).map(|row| row.number).collect();
    // Also on addresses that a trial bind does not try: a number must not be given twice because nobody looked.
    let listened = if probe == Probe::NONE || due.is_empty() { None } else { port_owners::find_port_owners(&due) };
    drop_rows(registry, |row| {
        let Some(days) = days_if_due(row) else { return Ok(None) };
        let in_use = listened.as_ref().is_some_and(|listened| listened.contains_key(&row.number))
            || probe.probe_number(row.number)? == Some(Unavailable::InUse);
        Ok((!in_use).then_some(DropReason::Unused(days)))
    })
}

/// Drops the rows of a directory, of one tag or of all, and with `below` those of the directories below it.
pub fn release_rows(
    registry: &mut Registry,
    directory: &Path,
    tag: Option<&Tag>,
    below: bool,
) -> Result<Vec<DroppedRow>, NumberError> {
    drop_rows(registry, |row| {
        let there = if below { row.directory.starts_with(directory) } else { row.directory == directory };
        Ok((there && tag.is_none_or(|tag| row.tag == *tag)).then_some(DropReason::Released))
    })
}

fn drop_rows(
    registry: &mut Registry,
    mut why: impl FnMut(&Row) -> Result<Option<DropReason>, NumberError>,
) -> Result<Vec<DroppedRow>, NumberError> {
    let rows = registry.contents.rows().ok_or_else(|| registry.make_damage_error())?;
    let mut dropped = Vec::new();
    for row in rows {
        if let Some(because) = why(&row)? {
            dropped.push(DroppedRow { row, because });
        }
    }
    if !dropped.is_empty() {
        let mut numbers: Vec<u32> = dropped.iter().map(|dropped| dropped.row.number).collect();
        numbers.sort_unstable();
        registry.contents.retain(|row| numbers.binary_search(&row.number).is_err());
    }
    Ok(dropped)
}
