//! The SQL of the store: the table of locks, and the counter of tokens. Times are microseconds since the Unix epoch.
//!
//! The constraint of the table guarantees that a key has at most one exclusive lock, and that each of its slots has one
//! holder. The writer thread, which decides about all requests, guarantees the rest.

use super::file_lock::PERMISSION_HINT;
use super::history::HISTORY_TABLE;
use crate::model::{Lock, LockFields, LockKey, LockOrigin, LockPage, LockQuery, Waiter};
use crate::store::origin;
use aba_lock_protocol::sharing::Sharing;
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, ToSql, params};
use std::path::Path;
use std::time::Duration;

/// The version of the schema, in `user_version`.
const VERSION: i64 = 3;

/// Identifies a file of aba-lockd, in `application_id`.
const APPLICATION_ID: i64 = 0x6162_6c6b;

/// The table of locks. `slots` is the number of slots, 0 for an exclusive lock, and -1 for a shared one. `slot` is the number of
/// the slot, 0 for an exclusive lock, and NULL for a shared one: in a unique constraint, each NULL differs from the others.
const LOCK_TABLE: &str = "
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
    origin      TEXT NOT NULL DEFAULT '',
    slots       INTEGER NOT NULL,
    slot        INTEGER,
    UNIQUE (service, environment, resource, slot)
) STRICT;
PRAGMA user_version = 3;
";

const COUNTER_TABLE: &str = "
CREATE TABLE counter (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    token    INTEGER NOT NULL,
    checks   INTEGER NOT NULL
) STRICT;
INSERT INTO counter VALUES (1, 0, 0);
";

/// The step from version 1 to version 2.
const ADD_ORIGIN: &str = "
ALTER TABLE lock ADD COLUMN origin TEXT NOT NULL DEFAULT '';
";

/// The reason why a file cannot be the store.
#[derive(Debug)]
pub(crate) struct StoreFileError {
    pub(crate) why: String,
    pub(crate) hint: Option<&'static str>,
}

impl From<rusqlite::Error> for StoreFileError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{CannotOpen, PermissionDenied, ReadOnly};
        let is_about_file = matches!(error.sqlite_error_code(), Some(CannotOpen | PermissionDenied | ReadOnly));
        Self { why: error.to_string(), hint: is_about_file.then_some(PERMISSION_HINT) }
    }
}

const COLUMNS: &str =
    "id, service, environment, resource, who, event_id, created, ttl, expires, token, origin, slots, slot";

/// The steps from version 2 to the present table. All locks of version 2 were exclusive.
const RENAME_TABLE: &str = "
ALTER TABLE lock RENAME TO lock_of_version_2;
";
const MOVE_LOCKS: &str = "
INSERT INTO lock SELECT seq, id, service, environment, resource, who, event_id, created, ttl, expires, token, origin, 0, 0
    FROM lock_of_version_2;
DROP TABLE lock_of_version_2;
";

/// Opens the store for the writer thread. The caller holds the locks of [`super::file_lock`].
pub(super) fn open(path: &Path) -> Result<Connection, StoreFileError> {
    let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // This check comes first, because nothing may be changed in a file of another program.
    let upgrade = find_upgrade(&connection)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreFileError {
            why: format!("SQLite cannot use a write-ahead log there (journal mode: {mode})"),
            hint: Some("use a file on a local disk with --store"),
        });
    }
    connection.pragma_update(None, "synchronous", "full")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(&upgrade.concat())?;
    transaction.execute_batch(HISTORY_TABLE)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(connection)
}

/// Returns the statements that give the file the format of this version. Refuses files of other programs, and of newer
/// versions of this one.
fn find_upgrade(connection: &Connection) -> Result<Vec<&'static str>, StoreFileError> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let count =
        |which| connection.query_row(&format!("SELECT count(*) FROM sqlite_schema{which}"), [], |row| row.get(0));
    let (version, owner, tables): (_, _, i64) = (number("user_version")?, number("application_id")?, count("")?);
    if version == 0 && owner == 0 && tables == 0 {
        return Ok(vec![LOCK_TABLE, COUNTER_TABLE]);
    }
    // The first versions did not write the application id.
    let is_own =
        owner == APPLICATION_ID || owner == 0 && version == 1 && count(" WHERE name IN ('lock', 'counter')")? == 2;
    if !is_own {
        let why = "it is a database of another program".to_owned();
        return Err(StoreFileError { why, hint: Some("use the path of a new file with --store") });
    }
    match version {
        1 => Ok(vec![ADD_ORIGIN, RENAME_TABLE, LOCK_TABLE, MOVE_LOCKS]),
        2 => Ok(vec![RENAME_TABLE, LOCK_TABLE, MOVE_LOCKS]),
        VERSION => Ok(Vec::new()),
        _ => Err(StoreFileError {
            why: format!("its format has version {version}, but this aba-lockd supports version {VERSION}"),
            hint: Some("start the version of aba-lockd that wrote it, or use another file with --store"),
        }),
    }
}

/// Opens the store for reading while the writer thread uses it. Does not create the file: in an empty store, every lock
/// would look free.
pub(super) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    // A reader of the write-ahead log needs write access; `query_only` keeps it from changing data.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn to_timestamp(column: usize, microseconds: i64) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(microseconds)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, Box::new(error)))
}

/// Parses the origin of a lock. An unreadable one is an error: without an owner, any caller may release the lock.
fn read_origin(column: usize, text: &str) -> rusqlite::Result<LockOrigin> {
    let unreadable = || rusqlite::Error::FromSqlConversionFailure(column, Type::Text, "unreadable origin".into());
    origin::parse_origin(text).ok_or_else(unreadable)
}

fn read_lock(row: &Row) -> rusqlite::Result<Lock> {
    let expires: Option<i64> = row.get(8)?;
    let sharing = match row.get(11)? {
        0_i64 => Sharing::Exclusive,
        -1 => Sharing::Shared,
        number => Sharing::Slots(
            u32::try_from(number)
                .map_err(|error| rusqlite::Error::FromSqlConversionFailure(11, Type::Integer, Box::new(error)))?,
        ),
    };
    Ok(Lock {
        id: row.get(0)?,
        key: LockKey { service: row.get(1)?, environment: row.get(2)?, resource: row.get(3)? },
        who: row.get(4)?,
        event_id: row.get(5)?,
        created: to_timestamp(6, row.get(6)?)?,
        ttl: row.get::<_, Option<i64>>(7)?.map(|micros| Duration::from_micros(micros.unsigned_abs())),
        expires: expires.map(|micros| to_timestamp(8, micros)).transpose()?,
        token: row.get::<_, i64>(9)?.unsigned_abs(),
        sharing,
        slot: if sharing.slots().is_some() { row.get(12)? } else { None },
        origin: read_origin(10, row.get_ref(10)?.as_str()?)?,
        queue: Vec::new(),
    })
}

pub(super) fn find_by_id(connection: &Connection, id: &str) -> rusqlite::Result<Option<Lock>> {
    let mut found = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM lock WHERE id = ?1"))?;
    found.query_row([id], read_lock).optional()
}

/// Returns the locks of a key: an exclusive one, or those that share it. The oldest one comes first.
pub(super) fn list_by_key(connection: &Connection, key: &LockKey) -> rusqlite::Result<Vec<Lock>> {
    let which = "service = ?1 AND environment = ?2 AND resource = ?3 ORDER BY seq";
    let mut found = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM lock WHERE {which}"))?;
    found.query_map([&key.service, &key.environment, &key.resource], read_lock)?.collect()
}

/// Returns the locks with a time to live.
pub(super) fn list_leases(connection: &Connection) -> rusqlite::Result<Vec<Lock>> {
    let mut found = connection.prepare(&format!("SELECT {COLUMNS} FROM lock WHERE ttl IS NOT NULL"))?;
    found.query_map([], read_lock)?.collect()
}

/// Returns the selected locks, each with its queue.
pub(super) fn list_page(
    connection: &Connection,
    query: &LockQuery,
    queue: impl Fn(&LockKey) -> Vec<Waiter>,
) -> rusqlite::Result<LockPage> {
    let with_queue = |row: &Row| {
        let lock = read_lock(row)?;
        Ok(Lock { queue: queue(&lock.key), ..lock })
    };
    // The locks and their number must be read at the same moment.
    let snapshot = connection.unchecked_transaction()?;
    let LockFields { service, environment, resource, who, event_id } = &query.fields;
    let fields = [
        ("service", service),
        ("environment", environment),
        ("resource", resource),
        ("who", who),
        ("event_id", event_id),
    ];
    let fields: Vec<_> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let conditions: Vec<String> = fields.iter().map(|(column, _)| format!("{column} = ?")).collect();
    let condition = if fields.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let mut values: Vec<&dyn ToSql> = fields.iter().map(|(_, value)| value as &dyn ToSql).collect();
    let (limit, offset) = match query.per_page {
        Some(per_page) => (i64::from(per_page), i64::from(per_page) * i64::from(query.page.saturating_sub(1))),
        None if query.page > 1 => (0, 0),
        None => (i64::MAX, 0),
    };
    if !query.words.is_empty() || query.services.is_some() {
        let (mut locks, mut total) = (Vec::new(), 0);
        let mut all = snapshot.prepare_cached(&format!("SELECT {COLUMNS} FROM lock{condition} ORDER BY seq"))?;
        for lock in all.query_map(&values[..], with_queue)? {
            let lock = lock?;
            if lock.is_selected_by(query) {
                if (offset..offset.saturating_add(limit)).contains(&total) {
                    locks.push(lock);
                }
                total += 1;
            }
        }
        return Ok(LockPage { locks, total: total.unsigned_abs() });
    }
    let total: i64 = snapshot
        .prepare_cached(&format!("SELECT count(*) FROM lock{condition}"))?
        .query_row(&values[..], |row| row.get(0))?;
    values.push(&limit);
    values.push(&offset);
    let text = format!("SELECT {COLUMNS} FROM lock{condition} ORDER BY seq LIMIT ? OFFSET ?");
    let locks = snapshot.prepare_cached(&text)?.query_map(&values[..], with_queue)?.collect::<Result<_, _>>()?;
    Ok(LockPage { locks, total: total.unsigned_abs() })
}

/// Takes the next token. It is not smaller than the clock, so that tokens grow even if the store was restored or moved.
pub(super) fn take_token(connection: &Connection, now: Timestamp) -> rusqlite::Result<u64> {
    let mut next = connection.prepare_cached("UPDATE counter SET token = max(token + 1, ?1) RETURNING token")?;
    let token: i64 = next.query_row([now.as_microsecond()], |row| row.get(0))?;
    Ok(token.unsigned_abs())
}

/// Makes all further tokens greater than `base`.
pub(super) fn raise_token(connection: &Connection, base: u64) -> rusqlite::Result<()> {
    let base = i64::try_from(base).unwrap_or(i64::MAX);
    connection.execute("UPDATE counter SET token = max(token, ?1)", [base]).map(drop)
}

/// Writes as much as a new lock would, for a health check. The values must change, because SQLite does not write a page
/// that stays the same.
pub(super) fn write_probe(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    connection.execute("UPDATE counter SET checks = checks + 1", [])?;
    take_token(connection, now).map(drop)
}

/// Inserts a lock. The unique constraint refuses a second exclusive lock of a key, and a second holder of a slot.
pub(super) fn insert(connection: &Connection, lock: &Lock) -> rusqlite::Result<()> {
    let columns = "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13";
    let sql = format!("INSERT INTO lock ({COLUMNS}) VALUES ({columns})");
    execute_with(connection, &sql, lock)
}

/// Replaces the lock with the same id.
pub(super) fn replace(connection: &Connection, lock: &Lock) -> rusqlite::Result<()> {
    let sql = "UPDATE lock SET service = ?2, environment = ?3, resource = ?4, who = ?5, event_id = ?6, created = ?7, \
               ttl = ?8, expires = ?9, token = ?10, origin = ?11, slots = ?12, slot = ?13 WHERE id = ?1";
    execute_with(connection, sql, lock)
}

/// Executes a statement whose parameters are the [`COLUMNS`] of a lock.
fn execute_with(connection: &Connection, sql: &str, lock: &Lock) -> rusqlite::Result<()> {
    let LockKey { service, environment, resource } = &lock.key;
    let ttl = lock.ttl.map(|ttl| i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX));
    let (slots, slot) = match lock.sharing {
        Sharing::Exclusive => (0, Some(0)),
        Sharing::Shared => (-1, None),
        Sharing::Slots(number) => (i64::from(number), lock.slot),
    };
    let parameters = params![
        lock.id,
        service,
        environment,
        resource,
        lock.who,
        lock.event_id,
        lock.created.as_microsecond(),
        ttl,
        lock.expires.map(Timestamp::as_microsecond),
        lock.token.cast_signed(),
        origin::format_origin(&lock.origin),
        slots,
        slot,
    ];
    connection.prepare_cached(sql)?.execute(parameters).map(drop)
}

pub(super) fn delete(connection: &Connection, id: &str) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM lock WHERE id = ?1")?.execute([id]).map(drop)
}
