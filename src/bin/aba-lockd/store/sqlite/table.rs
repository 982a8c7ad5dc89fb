//! The table of locks, and the last token. Times are microseconds since the epoch.

use crate::model::{Change, Key, Listing, Lock, Selection, Waiting};
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ToSql, params};
use std::path::Path;
use std::time::Duration;

/// What the table looks like, kept in `user_version`.
const VERSION: i64 = 1;

/// Whose file it is, kept in `application_id`.
const OURS: i64 = 0x6162_6c6b;

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

/// Why a file cannot be the store.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) why: String,
    pub(crate) hint: Option<&'static str>,
}

impl From<rusqlite::Error> for Unusable {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{CannotOpen, PermissionDenied, ReadOnly};
        let is_about_place = matches!(error.sqlite_error_code(), Some(CannotOpen | PermissionDenied | ReadOnly));
        Self { why: error.to_string(), hint: is_about_place.then_some(crate::store::sqlite::file_lock::PLACE) }
    }
}

const COLUMNS: &str = "id, service, environment, resource, who, event_id, created, ttl, expires, token";

/// Now, as exact as the table is.
pub(super) fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Opens it to make changes. Nobody else does: who has the lock on the file calls this.
pub(super) fn open(path: &Path) -> Result<Connection, Unusable> {
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // Before anything is changed in what may be somebody else's.
    let is_new = is_new(&connection)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(Unusable { why: format!("SQLite has no write-ahead log there, but {mode}"), hint: None });
    }
    connection.pragma_update(None, "synchronous", "full")?;
    let change = connection.transaction()?;
    if is_new {
        change.execute_batch(TABLES)?;
    }
    change.pragma_update(None, "application_id", OURS)?;
    change.commit()?;
    Ok(connection)
}

/// Whether there is nothing in it yet. Else it is ours, and not too new.
fn is_new(connection: &Connection) -> Result<bool, Unusable> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let count =
        |which| connection.query_row(&format!("SELECT count(*) FROM sqlite_schema{which}"), [], |row| row.get(0));
    let (version, owner, tables): (_, _, i64) = (number("user_version")?, number("application_id")?, count("")?);
    if version == 0 && owner == 0 && tables == 0 {
        return Ok(true);
    }
    // The first ones did not say whose they are.
    let ours = owner == OURS || owner == 0 && version == VERSION && count(" WHERE name IN ('lock', 'counter')")? == 2;
    if !ours {
        let why = "it is a database of another program".to_owned();
        return Err(Unusable { why, hint: Some("give --store a file of its own") });
    }
    if version != VERSION {
        let why = format!("it is of version {version}, and this aba-lockd knows version {VERSION}");
        return Err(Unusable {
            why,
            hint: Some("start the newer aba-lockd that made it, or give --store another file"),
        });
    }
    Ok(false)
}

/// Opens it to read beside the one who makes changes. It is never made: an empty one has no locks, and all are free.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    // To write, because a reader takes part in the log; and then nothing is written.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
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

/// The locks that are selected, each with its queue.
pub(super) fn list(
    connection: &Connection,
    selection: &Selection,
    queue: impl Fn(&Key) -> Vec<Waiting>,
) -> rusqlite::Result<Listing> {
    let with_queue = |row: &Row| {
        let lock = lock(row)?;
        Ok(Lock { queue: queue(&lock.key), ..lock })
    };
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
    let (most, skipped) = match selection.per_page {
        Some(per_page) => (i64::from(per_page), i64::from(per_page) * i64::from(selection.page.saturating_sub(1))),
        None => (i64::MAX, 0),
    };
    if !selection.words.is_empty() {
        let (mut locks, mut total) = (Vec::new(), 0);
        let mut all = moment.prepare_cached(&format!("SELECT {COLUMNS} FROM lock{which} ORDER BY seq"))?;
        for lock in all.query_map(&values[..], with_queue)? {
            let lock = lock?;
            if lock.has_all(&selection.words) {
                if (skipped..skipped.saturating_add(most)).contains(&total) {
                    locks.push(lock);
                }
                total += 1;
            }
        }
        return Ok(Listing { locks, total: total.unsigned_abs() });
    }
    let total: i64 = moment
        .prepare_cached(&format!("SELECT count(*) FROM lock{which}"))?
        .query_row(&values[..], |row| row.get(0))?;
    values.push(&most);
    values.push(&skipped);
    let text = format!("SELECT {COLUMNS} FROM lock{which} ORDER BY seq LIMIT ? OFFSET ?");
    let locks = moment.prepare_cached(&text)?.query_map(&values[..], with_queue)?.collect::<Result<_, _>>()?;
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

/// A change that says nothing, and needs all that a lock needs: what stays as it was, SQLite does not write.
pub(super) fn touch(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute("UPDATE counter SET checks = checks + 1", [])?;
    next_token(connection, now).map(drop)
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
