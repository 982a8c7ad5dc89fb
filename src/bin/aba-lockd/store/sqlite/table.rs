//! The table of locks, and the last token. Times are microseconds since the epoch.

use crate::model::{Change, Key, Listing, Lock, Selection};
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// What the table looks like, kept in `user_version`.
const VERSION: i64 = 1;

const TABLES: &str = "
CREATE TABLE lock (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    service     TEXT NOT NULL,
    environment TEXT NOT NULL,
    resource    TEXT NOT NULL,
    who         TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    created     INTEGER NOT NULL,
    ttl         INTEGER,
    expires     INTEGER,
    token       INTEGER NOT NULL,
    UNIQUE (service, environment, resource)
) STRICT;
CREATE TABLE counter (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    token    INTEGER NOT NULL,
    checks   INTEGER NOT NULL
) STRICT;
INSERT INTO counter VALUES (1, 0, 0);
PRAGMA user_version = 1;
";

const COLUMNS: &str = "id, service, environment, resource, who, event_id, created, ttl, expires, token";

/// Now, as exact as the table is.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Opens it to make changes. Nobody else does: who has the lock beside the file calls this.
pub(super) fn open(path: &Path) -> rusqlite::Result<Connection> {
    // The files beside it get the same rights from SQLite.
    let _ = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    let change = connection.transaction()?;
    let version: i64 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        0 => change.execute_batch(TABLES)?,
        VERSION => (),
        other => {
            let why = format!("it is of version {other}, made by a newer aba-lockd");
            return Err(rusqlite::Error::ToSqlConversionFailure(why.into()));
        }
    }
    change.commit()?;
    Ok(connection)
}

/// Opens it to read beside the one who makes changes.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn time(column: usize, microseconds: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, Box::new(error)))
}

fn lock(row: &Row) -> rusqlite::Result<Lock> {
    let expires: Option<i64> = row.get(8)?;
    Ok(Lock {
        id: row.get(0)?,
        key: Key { service: row.get(1)?, environment: row.get(2)?, resource: row.get(3)? },
        who: row.get(4)?,
        event_id: row.get(5)?,
        created: time(6, row.get(6)?)?,
        ttl: row.get::<_, Option<i64>>(7)?.map(|micros| Duration::from_micros(micros.unsigned_abs())),
        expires: expires.map(|micros| time(8, micros)).transpose()?,
        token: row.get::<_, i64>(9)?.unsigned_abs(),
        queue: Vec::new(),
    })
}

pub(super) fn by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<Lock>> {
    let mut found = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM lock WHERE id = ?1"))?;
    found.query_row([id], lock).optional()
}

pub(super) fn by_key(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Lock>> {
    let which = "service = ?1 AND environment = ?2 AND resource = ?3";
    let mut found = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM lock WHERE {which}"))?;
    found.query_row([&key.service, &key.environment, &key.resource], lock).optional()
}

/// Those with a time to live.
pub(super) fn leases(connection: &Connection) -> rusqlite::Result<Vec<Lock>> {
    let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM lock WHERE ttl IS NOT NULL"))?;
    found.query_map([], lock)?.collect()
}

pub(super) fn list(connection: &Connection, selection: &Selection) -> rusqlite::Result<Listing> {
    // Both of one moment.
    let moment = connection.unchecked_transaction()?;
    let Change { service, environment, resource, who, event_id } = &selection.with;
    let words = [
        ("service", service),
        ("environment", environment),
        ("resource", resource),
        ("who", who),
        ("event_id", event_id),
    ];
    let words: Vec<_> = words.into_iter().filter(|(_, word)| !word.is_empty()).collect();
    let conditions: Vec<String> = words.iter().map(|(column, _)| format!("{column} = ?")).collect();
    let which = if words.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let mut values: Vec<&dyn ToSql> = words.iter().map(|(_, word)| word as &dyn ToSql).collect();
    let total: i64 = moment
        .prepare_cached(&format!("SELECT count(*) FROM lock{which}"))?
        .query_row(&values[..], |row| row.get(0))?;
    let (most, skipped) = match selection.per_page {
        Some(per_page) => (i64::from(per_page), i64::from(per_page) * i64::from(selection.page.saturating_sub(1))),
        None => (-1, 0),
    };
    values.push(&most);
    values.push(&skipped);
    let text = format!("SELECT {COLUMNS} FROM lock{which} ORDER BY seq LIMIT ? OFFSET ?");
    let locks = moment.prepare_cached(&text)?.query_map(&values[..], lock)?.collect::<Result<_, _>>()?;
    Ok(Listing { locks, total: total.unsigned_abs() })
}

/// The next token: never behind the clock, so that it grows also over a store that was restored or moved.
pub(super) fn next_token(connection: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    let mut next = connection.prepare_cached("UPDATE counter SET token = max(token + 1, ?1) RETURNING token")?;
    let token: i64 = next.query_row([now.as_microsecond()], |row| row.get(0))?;
    Ok(token.unsigned_abs())
}

/// From now on tokens are greater than `base`.
pub(super) fn raise_token(connection: &Connection, base: u64) -> rusqlite::Result<()> {
    let base = i64::try_from(base).unwrap_or(i64::MAX);
    connection.execute("UPDATE counter SET token = max(token, ?1)", [base]).map(drop)
}

/// A change that says nothing. It is one: what stays as it was, SQLite does not write.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE counter SET checks = checks + 1", []).map(drop)
}

/// The unique constraint refuses a second lock of a key.
pub(super) fn insert(connection: &Connection, lock: &Lock) -> rusqlite::Result<()> {
    let text = format!("INSERT INTO lock ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
    let Key { service, environment, resource } = &lock.key;
    connection.prepare_cached(&text)?.execute(params![
        lock.id,
        service,
        environment,
        resource,
        lock.who,
        lock.event_id,
        lock.created.as_microsecond(),
        micros(lock.ttl),
        lock.expires.map(Timestamp::as_microsecond),
        lock.token.cast_signed(),
    ])?;
    Ok(())
}

/// Makes the row of that id what `lock` is.
pub(super) fn replace(connection: &Connection, lock: &Lock) -> rusqlite::Result<()> {
    let text = "UPDATE lock SET service = ?2, environment = ?3, resource = ?4, who = ?5, event_id = ?6, ttl = ?7, expires = ?8, \
                token = ?9 WHERE id = ?1";
    let Key { service, environment, resource } = &lock.key;
    connection.prepare_cached(text)?.execute(params![
        lock.id,
        service,
        environment,
        resource,
        lock.who,
        lock.event_id,
        micros(lock.ttl),
        lock.expires.map(Timestamp::as_microsecond),
        lock.token.cast_signed(),
    ])?;
    Ok(())
}

pub(super) fn delete(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM lock WHERE id = ?1")?.execute([id]).map(drop)
}

fn micros(ttl: Option<Duration>) -> Option<i64> {
    ttl.map(|ttl| i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX))
}
