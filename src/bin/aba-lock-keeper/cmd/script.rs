//! For a script that holds a lock with a lease: release it, check it, tell its tokens.

use super::name;
use crate::args::{Script, Settle};
use crate::clock::Moment;
use crate::server::{self, Fault, Lease, Patience};
use crate::settings::Settings;
use crate::tie::{self, Tie};
use crate::{exit, report};
use aba_lock::base::names::LockName;
use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::record::{self, Content, Record};
use aba_lock::store::Store;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// How long to wait for a keeper to give a lease back: it goes on without us.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// How long who does not wait waits for that: longer than it takes where a server answers.
const MOMENT: Duration = Duration::from_secs(1);

/// How often to look.
const LOOK: Duration = Duration::from_millis(2);

/// Lets go of the lease of the descriptor, for every copy of it, and waits until it was given back.
pub(crate) fn let_go(file: &File) -> io::Result<()> {
    if tie::has_keeper(file)? {
        tie::let_go(file)?;
        until_given_back(file, Patience::Forever);
    }
    Ok(())
}

/// The local lock is free of others, or ours: what keeper there is gives its lease back just now. Waits for that, but not
/// for ever: after that the server says whose the lease is.
pub(crate) fn until_given_back(file: &File, patience: Patience) {
    let limit = if patience == Patience::None { MOMENT } else { patience.at_most(GIVING_BACK) };
    until(limit, || tie::has_keeper(file));
}

fn until(limit: Duration, is_kept: impl Fn() -> io::Result<bool>) {
    let end = Moment::now().plus(limit);
    while is_kept().unwrap_or(false) && !end.is_past() {
        thread::sleep(LOOK);
    }
}

fn descriptor(fd: i32) -> Result<File, Fault> {
    aba_lock::os::second_descriptor(fd).ok_or_else(|| super::ours(LockError::BadDescriptor { fd }))
}

/// The lock file of a name.
fn path_of(name: &str) -> Result<PathBuf, Fault> {
    let path = || Ok(Store::from_env()?.lock_path(&LockName::parse(name)?));
    path().map_err(|error: Error| super::ours(error))
}

/// `aba-lock unlock --fd` of a lock with a lease: first the lease, then the lock.
pub(crate) fn release(args: &Script) -> Result<i32, Fault> {
    let file = descriptor(args.fd)?;
    let path = args.name.as_deref().map(path_of).transpose()?;
    let _ = let_go(&file);
    match aba_lock::lock::acquire::release(args.fd, path.as_deref()) {
        Err(error @ LockError::Replaced { .. }) => {
            report::failure(&super::ours(error), None);
            Ok(exit::REPLACED)
        }
        done => done.map(|()| exit::DONE).map_err(super::ours),
    }
}

/// The script has closed its descriptor: if nobody inherited it, the keeper gives the lease back.
pub(crate) fn settle(args: &Settle) -> Result<i32, Fault> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path_of(&args.name)?);
    if let Ok(file) = file {
        let tie = Tie::of(args.token);
        until(GIVING_BACK, || Ok(!tie.is_bound(&file)? && tie.is_kept(&file)?));
    }
    Ok(exit::DONE)
}

/// Whether the lease is ours still, as the server says.
pub(crate) fn check(args: &Script) -> Result<i32, Fault> {
    let (name, file) = (name(args.name.as_deref().unwrap_or_default())?, descriptor(args.fd)?);
    let Some((address, _, token)) = recorded(&file).as_ref().and_then(|record| lease_of(record)) else {
        report::not_kept(name);
        return Ok(exit::NO);
    };
    if !tie::has_keeper(&file).unwrap_or(false) {
        report::not_kept(name);
        return Ok(exit::NO);
    }
    let queue = server::connect(&Settings::of(Some(&address))?)?.queue(Some(name))?;
    if queue.first().is_some_and(|first| first.token == token) {
        return Ok(exit::DONE);
    }
    report::not_first(name, queue.first());
    Ok(exit::NO)
}

/// The token of the local lock, and that of the lease.
pub(crate) fn tokens(args: &Script) -> Result<i32, Fault> {
    let file = descriptor(args.fd)?;
    let Some(record) = recorded(&file) else { return Ok(exit::NO) };
    let token = lease_of(&record).map(|(_, _, token)| token);
    report::print(&format!("{} {}\n", record.token, token.map(|token| token.to_string()).unwrap_or_default()));
    Ok(exit::DONE)
}

pub(super) fn recorded(file: &File) -> Option<Box<Record>> {
    match record::read(file) {
        Content::Record(record) => Some(record),
        _ => None,
    }
}

/// Writes the lease into the record of the lock, for those who look, and for the script to have its token and to ask for it.
pub(super) fn note(file: &File, name: &str, server: &str, lease: &Lease) -> Result<(), Fault> {
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default();
    let reason = match record::read(file) {
        Content::Record(record) => {
            let lease = Some(format!("{server} {} {}", lease.id, lease.token));
            let record = Record { lease, ..*record };
            match record::write(file, &path, &record) {
                Ok(()) if recorded(file).is_some_and(|written| written.lease == record.lease) => return Ok(()),
                Ok(()) => "it is too long".to_owned(),
                Err(error) => aba_lock::base::text::format_io_error(&error),
            }
        }
        _ => "there is something else in it".to_owned(),
    };
    Err(Fault::Failed {
        what: format!("could not write the lease on {name} into {}: {reason}", path.display()),
        hint: Some("without that it could not be checked; a lock file that nobody holds may be removed".to_owned()),
    })
}

/// Server and token of the lease that was noted.
pub(super) fn noted(file: &File) -> Option<(String, u64)> {
    lease_of(recorded(file)?.as_ref()).map(|(server, _, token)| (server, token))
}

/// Server, id and token of the lease that goes with a lock.
fn lease_of(record: &Record) -> Option<(String, String, u64)> {
    let (server, rest) = record.lease.as_deref()?.split_once(' ')?;
    let (id, token) = rest.rsplit_once(' ')?;
    Some((server.to_owned(), id.to_owned(), token.parse().ok()?))
}
