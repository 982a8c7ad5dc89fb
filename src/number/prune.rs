//! Rows that are dropped.

use super::ancestry::is_gone;
use super::book::Book;
use super::error::NumberError;
use super::pool::Tag;
use super::probe::Probe;
use super::range::Range;
use super::registry::Registry;
use super::row::{Row, now};
use super::unavailable::Why;
use crate::os::proc::port_owners;
use std::path::Path;

/// Rows that were not used for so many days are dropped when nothing else is left to give.
pub const EXPIRE_DAYS: u32 = 90;

/// When a clock says that it is earlier, it is wrong: in seconds since 1970. It is the year 2020.
const CLOCK_SET: u64 = 1_577_836_800;

/// A row that is dropped.
#[derive(Debug)]
pub struct Dropped {
    /// The row.
    pub row: Row,
    /// Why.
    pub because: Because,
}

/// Why a row is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Its directory is gone.
    Gone,
    /// It was not used for so many days.
    Unused(u64),
    /// It was given back.
    Released,
}

/// The numbers whose directory is certainly gone. To look may take for ever, where a mount hangs: that is better done
/// without the lock, and then once more for these.
#[must_use]
pub fn gone(book: &Book) -> Vec<u32> {
    let rows = book.rows().unwrap_or_default().into_iter();
    rows.filter(|row| is_gone(&row.directory, &row.place)).map(|row| row.number).collect()
}

/// Whether there is a row that was not used for so long that it may be dropped to make room.
#[must_use]
pub fn has_unused(book: &Book) -> bool {
    let now = now();
    book.rows().unwrap_or_default().iter().any(|row| days_unused(row, now) >= Some(u64::from(EXPIRE_DAYS)))
}

/// For how many days a row was not used. `None` where its clock was not set yet, which proves nothing.
fn days_unused(row: &Row, now: u64) -> Option<u64> {
    (row.used >= CLOCK_SET).then(|| now.saturating_sub(row.used) / 86400)
}

/// Drops the rows of these numbers whose directory is certainly gone.
pub fn drop_gone(registry: &mut Registry, among: &[u32]) -> Result<Vec<Dropped>, NumberError> {
    drop_rows(registry, |row| {
        Ok((among.contains(&row.number) && is_gone(&row.directory, &row.place)).then_some(Because::Gone))
    })
}

/// Drops the rows that were not used for so many days, and whose number is not in use now; only of these numbers, if that
/// is said.
pub fn drop_unused(
    registry: &mut Registry,
    probe: Probe,
    days: u32,
    among: Option<Range>,
) -> Result<Vec<Dropped>, NumberError> {
    let now = now();
    let days_if_due = |row: &Row| {
        let meant = among.is_none_or(|among| among.contains(row.number));
        days_unused(row, now).filter(|unused| meant && *unused >= u64::from(days))
    };
    let rows = registry.book.rows().ok_or_else(|| registry.damaged())?;
    let due: Vec<u32> = rows.iter().filter(|row| days_if_due(row).is_some()).map(|row| row.number).collect();
    // Also on addresses that a trial bind does not try: a number must not be given twice because nobody looked.
    let listened = if probe == Probe::NONE || due.is_empty() { None } else { port_owners::find_port_owners(&due) };
    drop_rows(registry, |row| {
        let Some(days) = days_if_due(row) else { return Ok(None) };
        let in_use = listened.as_ref().is_some_and(|listened| listened.contains_key(&row.number))
            || probe.finds(row.number)? == Some(Why::InUse);
        Ok((!in_use).then_some(Because::Unused(days)))
    })
}

/// Drops the rows of a directory, of one tag or of all, and with `below` those of the directories below it.
pub fn release(
    registry: &mut Registry,
    directory: &Path,
    tag: Option<&Tag>,
    below: bool,
) -> Result<Vec<Dropped>, NumberError> {
    drop_rows(registry, |row| {
        let there = if below { row.directory.starts_with(directory) } else { row.directory == directory };
        Ok((there && tag.is_none_or(|tag| row.tag == *tag)).then_some(Because::Released))
    })
}

fn drop_rows(
    registry: &mut Registry,
    mut why: impl FnMut(&Row) -> Result<Option<Because>, NumberError>,
) -> Result<Vec<Dropped>, NumberError> {
    let rows = registry.book.rows().ok_or_else(|| registry.damaged())?;
    let mut dropped = Vec::new();
    for row in rows {
        if let Some(because) = why(&row)? {
            dropped.push(Dropped { row, because });
        }
    }
    if !dropped.is_empty() {
        let mut numbers: Vec<u32> = dropped.iter().map(|dropped| dropped.row.number).collect();
        numbers.sort_unstable();
        registry.book.retain(|row| numbers.binary_search(&row.number).is_err());
    }
    Ok(dropped)
}
