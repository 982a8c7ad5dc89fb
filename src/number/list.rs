//! The list of reserved and leased numbers for `reserve --list`. It takes no lock and binds to no port.

use super::ancestry::has_vanished;
use super::error::NumberError;
use super::pool::{Pool, Tag};
use super::pool_files;
use super::registry;
use super::row::seconds_since_epoch;
use crate::os::proc::{port_owners, process};
use crate::store::Store;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationKind {
    /// Reserved by a row of the registry.
    Kept,
    /// Leased by a command.
    Leased,
}

impl ReservationKind {
    /// Returns the word that lists contain.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Leased => "leased",
        }
    }
}

/// A number that is reserved or leased.
#[derive(Debug)]
pub struct NumberEntry {
    pub pool: Pool,
    pub number: u32,
    pub kind: ReservationKind,
    pub tag: Tag,
    /// The directory, if it is known.
    pub directory: Option<PathBuf>,
    /// True if the directory has certainly vanished.
    pub vanished: bool,
    /// The time since the number was reserved or leased.
    pub age: Option<Duration>,
    /// The time since the last request for the number.
    pub unused: Option<Duration>,
    /// True if a process uses the number. `None` if that is unknown.
    pub in_use: Option<bool>,
    /// The pids and command lines of the visible processes that use the number.
    pub processes: Vec<(u32, String)>,
}

/// Lists the numbers of a pool in ascending order. With `directory` and `tag`, only those with the same directory and
/// tag.
pub fn list_numbers(
    store: &Store,
    pool: &Pool,
    directory: Option<&Path>,
    tag: Option<&Tag>,
) -> Result<Vec<NumberEntry>, NumberError> {
    let mut entries = Vec::new();
    let (contents, leases, is_one_state) = registry::read_contents_and_leases(store, pool)?;
    if let Some(contents) = contents {
        let damaged = || NumberError::Damaged { path: pool_files::registry_path(store, pool), kept: None };
        let now = seconds_since_epoch();
        let since = |then: u64| Some(Duration::from_secs(now.saturating_sub(then)));
        for row in contents.rows().ok_or_else(damaged)? {
            entries.push(NumberEntry {
                pool: pool.clone(),
                number: row.number,
                kind: ReservationKind::Kept,
                vanished: has_vanished(&row.directory, &row.ancestry),
                tag: row.tag,
                directory: Some(row.directory),
                age: since(row.created),
                unused: since(row.used),
                in_use: None,
                processes: Vec::new(),
            });
        }
    }
    if !is_one_state {
        // The registry changed during every read. The leases were read last, so they are more recent than the rows.
        entries.retain(|entry| leases.iter().all(|lease| lease.number != entry.number));
    }
    for lease in leases {
        entries.push(NumberEntry {
            pool: pool.clone(),
            number: lease.number,
            kind: ReservationKind::Leased,
            tag: lease.tag,
            directory: lease.directory,
            vanished: false,
            age: lease.age,
            unused: None,
            in_use: Some(true),
            processes: lease.holders,
        });
    }
    entries.retain(|entry| tag.is_none_or(|tag| entry.tag == *tag));
    entries.retain(|entry| directory.is_none_or(|directory| entry.directory.as_deref() == Some(directory)));
    entries.sort_by_key(|entry| entry.number);
    if pool.is_ports() {
        add_listeners(&mut entries);
    }
    Ok(entries)
}

fn add_listeners(entries: &mut [NumberEntry]) {
    let kept = entries.iter_mut().filter(|entry| entry.kind == ReservationKind::Kept);
    let mut kept: Vec<&mut NumberEntry> = kept.collect();
    let numbers: Vec<u32> = kept.iter().map(|entry| entry.number).collect();
    let owners = port_owners::find_port_owners(&numbers);
    for entry in &mut kept {
        let pids = owners.found.get(&entry.number);
        entry.in_use = owners.is_used(entry.number);
        entry.processes = pids.into_iter().flatten().map(|pid| (*pid, process::command_line(*pid))).collect();
    }
}
