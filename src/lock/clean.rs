//! Removing lock files that nobody needs, beside those who want them.
//!
//! Never a held one, so that there are never two holders; and nobody is told "already running" because of us, although we
//! have the lock for an instant. Three things make it so:
//!
//! - **The file to ourselves** ([`os::be_alone`]). It is given only if no other process has the file open, in whatever
//!   namespace and of whatever user: so nobody holds the lock, waits for it, or is between opening and locking. Who opens
//!   the file from then on waits for us: the kernel makes a shell's `exec 200<>` wait, and [`open`](super::open::open_lock_file) tries again.
//! - **The lock**, which is what the others go by. It is free, as nobody has the file open; were we stopped for so long
//!   that the kernel let others in (45 s), it keeps them out, or we find it taken.
//! - **The same inode?** The path must still lead to the file that we locked. Everyone else asks the same after each grant
//!   (see [`acquire`](super::acquire)): who waited for us finds that the file has gone, and opens again.
//!
//! # Who may be killed where, and what the next one finds
//!
//! A kill takes all that we have back at once, as if we had closed the file.
//!
//! | we are killed | left behind | who waited for us | the next one |
//! |---|---|---|---|
//! | after open, alone or lock | the file as it was | opens it, takes its lock | the same |
//! | after unlink | no file | gets the removed file, sees that, opens again and makes a new one | makes a new one |
//!
//! | meanwhile | we | the other |
//! |---|---|---|
//! | opens before we are alone, locked or not yet | leave it: it is open in another process | has it |
//! | opens after that, before unlink | go on | waits until we close it, then opens again |
//! | opens after unlink | have nothing to do with it | makes a new file |
//! | cleans, too | leave it, if both have it open | the same |
//! | is killed with the file open | leave it, or come just after | – |
//!
//! What cannot be had: flock(1) does not ask whether its file has gone. One that opens the file in the microseconds between
//! alone and unlink locks a removed file, and shuts nobody out. And who replaces the file by hand between our look at the
//! path and unlink loses the new one.
//!
//! Where a file system cannot tell who has a file open, as NFS, nothing is removed.

use crate::lock::error::LockError;
use crate::lock::holders::{self, Availability, Belief, Holding, LockState};
use crate::lock::record::{self, Content, Record};
use crate::os::proc::process;
use crate::os::{self, Mode, leads_to, word_for};
use std::fs::{self, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What is to be removed.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Only what was last used before so long.
    pub older_than: Option<Duration>,
    /// Nothing; only say what would be.
    pub dry_run: bool,
}

/// What became of a lock file, or a task.
#[derive(Debug)]
pub enum Fate<E = LockError> {
    /// It is gone; with [`Rule::dry_run`], it would be.
    Removed,
    /// With [`Rule::dry_run`]: it would be gone, unless somebody has it of whom nothing can be seen from here.
    Depends,
    /// It stays.
    Left(Why),
    /// It was to go, but could not be removed.
    Failed(E),
}

/// Why something stays.
#[derive(Debug)]
pub enum Why {
    /// There is nothing.
    Missing,
    /// The lock is held.
    Held(Box<Holding>),
    /// The last holder was of another machine, or in a place that cannot be seen from here, and may have it still.
    Beyond(Box<Record>, Belief),
    /// Another process has the file open, and may be about to lock it.
    Open,
    /// It was used so long ago.
    Young(Duration),
    /// There is something in it that is no record: somebody's data.
    Foreign,
    /// It is another user's.
    Theirs(String),
    /// It is no regular file.
    NotRegular(&'static str),
    /// It was replaced while we looked at it.
    Changed,
    /// It cannot be known whether another process has it open.
    Unsure(io::Error),
    /// The task, or the process of the pid file, runs.
    Running(u32),
    /// The process of the pid file may be one that cannot be seen: `/proc` is not mounted, or shows another pid namespace.
    NotSeen,
    /// The task was interrupted: who waits for it runs it again.
    Interrupted,
    /// The task has no outcome.
    Unfinished,
    /// Another has the lock of the task, and does not run it.
    TaskBusy,
    /// Of the task nothing is left but what is not its own.
    More,
}

/// Removes the lock file at `path`, of which `state` was known a moment ago, if the rule and everything else allows it.
#[must_use]
pub fn lock_file(path: &Path, state: LockState, rule: &Rule) -> Fate {
    let data = match fs::symlink_metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Fate::Left(Why::Missing),
        Err(source) => return Fate::Failed(LockError::Look { path: path.to_owned(), source }),
    };
    if !data.is_file() {
        return Fate::Left(Why::NotRegular(word_for(data.file_type())));
    }
    if let Some(holding) = state.holding {
        return Fate::Left(Why::Held(Box::new(holding)));
    }
    if let Some(owner) = other_owner(&data) {
        return Fate::Left(Why::Theirs(owner));
    }
    let is_known = state.availability() == Availability::Free;
    let beyond = state.unseen.map(|(record, belief)| (Box::new(record), belief));
    // The kernel of another machine does not tell ours who has the file open; that of another namespace is ours.
    if let Some((record, Belief::OtherHost)) = beyond {
        return Fate::Left(Why::Beyond(record, Belief::OtherHost));
    }
    if rule.dry_run {
        let fate = if is_known { Fate::Removed } else { Fate::Depends };
        return stays(&data, &record::read_path(path), rule).map_or(fate, Fate::Left);
    }
    match remove(path, rule) {
        Ok(None) => Fate::Removed,
        Ok(Some(Why::Open)) => Fate::Left(match (holders::observe_lock(path).holding, beyond) {
            (Some(holding), _) => Why::Held(Box::new(holding)),
            (None, Some((record, belief))) => Why::Beyond(record, belief),
            (None, None) => Why::Open,
        }),
        Ok(Some(why)) => Fate::Left(why),
        Err(error) => Fate::Failed(error),
    }
}

/// The user whose it is, if that is not us; root may remove what is anybody's.
pub(crate) fn other_owner(data: &Metadata) -> Option<String> {
    let us = os::user_id();
    (us != 0 && data.uid() != us).then(|| process::user_name(data.uid()))
}

/// The most that the clock of a file server may be ahead of ours.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// Returns the age of a time. A time in the future is from before the clock was set back, so it counts as old. Otherwise it
/// would count as new until that time comes.
pub(crate) fn age(since: SystemTime) -> Duration {
    since
        .elapsed()
        .unwrap_or_else(|error| if error.duration() > CLOCK_TOLERANCE { Duration::MAX } else { Duration::ZERO })
}

/// Why a free lock file stays.
fn stays(data: &Metadata, content: &Content, rule: &Rule) -> Option<Why> {
    if *content == Content::Foreign {
        return Some(Why::Foreign);
    }
    // Every holder who can writes a record. One who cannot leaves an older time, but is gone, too.
    let age = data.modified().map_or(Duration::ZERO, age);
    rule.older_than.is_some_and(|limit| age < limit).then_some(Why::Young(age))
}

/// Removes a lock file that nobody has open. `Some`: it stays.
fn remove(path: &Path, rule: &Rule) -> Result<Option<Why>, LockError> {
    let mut options = OpenOptions::new();
    // To read it is enough to lock it. Neither a link nor a FIFO may have come in its place.
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let cannot = |source| LockError::Remove { path: path.to_owned(), source };
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Some(Why::Missing)),
        // Another cleans, too.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(Why::Open)),
        Err(error) if [libc::ELOOP, libc::ENXIO].contains(&error.raw_os_error().unwrap_or(0)) => {
            return Ok(Some(Why::Changed));
        }
        Err(source) => return Err(cannot(source)),
    };
    match os::be_alone(&file) {
        Ok(true) => {}
        Ok(false) => return Ok(Some(Why::Open)),
        Err(error) => return Ok(Some(Why::Unsure(error))),
    }
    if !os::try_lock(&file, Mode::Exclusive).map_err(|source| LockError::cannot_lock(path, source))? {
        return Ok(Some(Why::Open));
    }
    // Not what was seen before, but what is there under the lock.
    let data = file.metadata().map_err(cannot)?;
    if !data.is_file() || !leads_to(path, &file) {
        return Ok(Some(Why::Changed));
    }
    if let Some(why) = stays(&data, &record::read(&file), rule) {
        return Ok(Some(why));
    }
    fs::remove_file(path).map_err(cannot)?;
    // Not before: closing it releases the lock, and lets in who waits to open it.
    drop(file);
    Ok(None)
}
