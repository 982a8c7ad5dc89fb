//! The SQL of the history: the last locks that have ended, in the order of their ends.
//!
//! The writer thread adds a lock in the transaction that removes it from the table of locks. Earlier versions ignore this table,
//! so it has no version of its own.

use crate::error::CallError;
use crate::past_lock::{HistoryCollector, HistoryPage, HistoryQuery, MAX_HISTORY, PastLock};
use crate::store::history_record::{format_past_lock, parse_past_lock};
use rusqlite::{Connection, ToSql};

/// Creates the table, unless the store has it already.
pub(super) const HISTORY_TABLE: &str = "
CREATE TABLE IF NOT EXISTS history (
    seq     INTEGER PRIMARY KEY,
    service TEXT NOT NULL,
    past    TEXT NOT NULL
) STRICT;
";

/// Adds a lock, and removes the oldest one if there are too many.
pub(super) fn append(connection: &Connection, past: &PastLock) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT INTO history (service, past) VALUES (?1, ?2)")?;
    let seq = insert.insert([&past.lock.key.service, &format_past_lock(past)])?;
    connection.prepare_cached("DELETE FROM history WHERE seq <= ?1")?.execute([seq - MAX_HISTORY]).map(drop)
}

/// Returns the row before which the query selects.
pub(super) fn parse_place(query: &HistoryQuery) -> Result<i64, CallError> {
    match query.before.as_deref() {
        None => Ok(i64::MAX),
        Some(place) => place.parse().map_err(|_| CallError::wrong_place()),
    }
}

/// Returns the selected locks before this row, the newest one first. Locks that this version does not understand are left out.
pub(super) fn list(connection: &Connection, query: &HistoryQuery, before: i64) -> rusqlite::Result<HistoryPage> {
    let service = &query.selection.fields.service;
    let (condition, values): (_, &[&dyn ToSql]) =
        if service.is_empty() { ("", &[&before]) } else { (" AND service = ?2", &[&before, service]) };
    let sql = format!("SELECT seq, past FROM history WHERE seq < ?1{condition} ORDER BY seq DESC");
    let mut found = connection.prepare_cached(&sql)?;
    let mut rows = found.query(values)?;
    let mut collector = HistoryCollector::new(query);
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        if let Some(past) = parse_past_lock(row.get_ref(1)?.as_str()?.as_bytes())
            && !collector.add(past, seq.to_string())
        {
            break;
        }
    }
    Ok(collector.finish())
}
