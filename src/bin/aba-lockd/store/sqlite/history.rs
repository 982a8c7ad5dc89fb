//! The SQL of the history: the last locks that have ended, in the order of their ends.
//!
//! The writer thread adds a lock in the transaction that removes it from the table of locks. Earlier versions ignore this table,
//! so it has no version of its own.

use crate::error::CallError;
use crate::past_lock::{self, HistoryCollector, HistoryPage, HistoryQuery, MAX_HISTORY, PastLock};
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
        Some(place) => {
            let number = past_lock::parse_history_place(place).ok_or_else(CallError::wrong_place)?;
            Ok(i64::try_from(number).unwrap_or(i64::MAX))
        }
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
            && let place = format!("{seq:020}/{}", past.lock.id)
            && !collector.add(past, place)
        {
            break;
        }
    }
    Ok(collector.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LockKey, LockOrigin, LockQuery, LockRequest};
    use crate::past_lock::{EndCause, EndKind};
    use aba_lock_protocol::sharing::Sharing;
    use jiff::Timestamp;

    fn new_past_lock(id: &str) -> PastLock {
        let [service, environment, resource, who] = ["web", "", "db", "ann"].map(str::to_owned);
        let key = LockKey { service, environment, resource };
        let (event_id, sharing) = (String::new(), Sharing::Exclusive);
        let request = LockRequest { key, who, event_id, ttl: None, wait: None, sharing, origin: LockOrigin::default() };
        let lock = request.to_lock(id.to_owned(), Timestamp::UNIX_EPOCH);
        PastLock::new(&lock, EndCause::without_caller(EndKind::Released).at(Timestamp::UNIX_EPOCH))
    }

    #[test]
    fn the_table_has_at_most_10000_rows() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(HISTORY_TABLE).unwrap();
        for id in ["1", "2", "3"] {
            append(&connection, &new_past_lock(id)).unwrap();
        }
        // As if 9,998 more locks had ended.
        let row = "INSERT INTO history VALUES (10001, 'web', 'a row that a later version has written')";
        connection.execute(row, []).unwrap();
        append(&connection, &new_past_lock("last")).unwrap();
        let query = HistoryQuery { selection: LockQuery::default(), limit: 10, before: None };
        let page = list(&connection, &query, i64::MAX).unwrap();
        let ids: Vec<&str> = page.locks.iter().map(|past| past.lock.id.as_str()).collect();
        assert_eq!(ids, ["last", "3"]);
        let count: i64 = connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 3);
    }
}
