//! For a script that holds a lock with a lease: release it, check it, tell its tokens.

use super::name;
use crate::args::{Script, Settle};
use crate::clock::Moment;
use crate::server::{self, Fault};
use crate::settings::Settings;
use crate::tie::{self, Tie};
use crate::{exit, report};
use aba_lock::error::Error;
use aba_lock::name::LockName;
use aba_lock::record::{self, Content, Record};
use aba_lock::store::Store;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// How long to wait for a keeper to give a lease back: it goes on without us.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to look.
const LOOK: Duration = Duration::from_millis(2);

/// Lets go of the lease of the descriptor, for every copy of it, and waits until it was given back.
pub(crate) fn let_go(file: &File) -> io::Result<()> {
    if tie::has_keeper(file)? {
        tie::let_go(file)?;
        until_given_back(file);
    }
    Ok(())
}

/// The local lock is free of others, or ours: what keeper there is gives its lease back just now. Waits for that.
pub(crate) fn until_given_back(file: &File) {
    until(|| tie::has_keeper(file));
}

fn until(is_kept: impl Fn() -> io::Result<bool>) {
    let end = Moment::now().plus(PATIENCE);
    while is_kept().unwrap_or(false) && !end.is_past() {
        thread::sleep(LOOK);
    }
}

fn descriptor(fd: i32) -> Result<File, Fault> {
    aba_lock::sys::second_descriptor(fd).ok_or_else(|| super::ours(&Error::BadDescriptor { fd }))
}

/// The lock file of a name.
fn path_of(name: &str) -> Result<PathBuf, Fault> {
    let path = || Ok(Store::from_env()?.lock_path(&LockName::parse(name)?));
    path().map_err(|error: Error| super::ours(&error))
}

/// `aba-lock unlock --fd` of a lock with a lease: first the lease, then the lock.
pub(crate) fn release(args: &Script) -> Result<i32, Fault> {
    let file = descriptor(args.fd)?;
    let path = args.name.as_deref().map(path_of).transpose()?;
    let _ = let_go(&file);
    match aba_lock::lock::release(args.fd, path.as_deref()) {
        Err(error @ Error::Replaced { .. }) => {
            report::failure(&super::ours(&error));
            Ok(exit::REPLACED)
        }
        done => done.map(|()| exit::DONE).map_err(|error| super::ours(&error)),
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
        until(|| Ok(!tie.is_bound(&file)? && tie.is_kept(&file)?));
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

fn recorded(file: &File) -> Option<Box<Record>> {
    match record::read(file) {
        Content::Record(record) => Some(record),
        _ => None,
    }
}

/// Server, id and token of the lease that goes with a lock.
fn lease_of(record: &Record) -> Option<(String, String, u64)> {
    let mut words = record.lease.as_deref()?.split(' ');
    Some((words.next()?.to_owned(), words.next()?.to_owned(), words.next()?.parse().ok()?))
}
