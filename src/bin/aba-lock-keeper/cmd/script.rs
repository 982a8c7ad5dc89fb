//! Commands that the helper and the shell library call for a script that holds a lock with a lease.

use crate::args::{ScriptLockArgs, SettleArgs};
use crate::binding::{self, Binding};
use crate::cmd::convert::{check_name, convert_error};
use crate::fault::Fault;
use crate::lease::WaitLimit;
use crate::lease_note::{self, LeaseNote};
use crate::server::connect;
use crate::settings::Settings;
use crate::{exit, output};
use aba_lock::base::names::LockName;
use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::release;
use aba_lock::store::Store;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Releases a lock with a lease, for `aba-lock unlock --fd`: first the lease, then the local lock.
pub(crate) fn release(args: &ScriptLockArgs) -> Result<i32, Fault> {
    let file = copy_descriptor(args.fd)?;
    let name = args.name.as_deref().map(LockName::parse).transpose().map_err(convert_error)?;
    let _ = return_lease(&file);
    let released = match &name {
        Some(name) => release::release_named(args.fd, name),
        None => release::release_descriptor(args.fd, None),
    };
    match released {
        Err(error @ LockError::Replaced { .. }) => {
            output::report_fault(&convert_error(error), None);
            Ok(exit::REPLACED)
        }
        result => result.map(|()| exit::DONE).map_err(convert_error),
    }
}

/// Waits until the keeper has given the lease back, after the script has closed its descriptor. Returns at once if
/// another process inherited the descriptor.
pub(crate) fn settle(args: &SettleArgs) -> Result<i32, Fault> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(find_lock_file(&args.name)?);
    if let Ok(file) = file {
        Binding::from_token(args.token).wait_for_return(&file);
    }
    Ok(exit::DONE)
}

/// Asks the server whether the script still holds the lease.
pub(crate) fn check(args: &ScriptLockArgs) -> Result<i32, Fault> {
    let (name, file) = (check_name(args.name.as_deref().unwrap_or_default())?, copy_descriptor(args.fd)?);
    let note = LeaseNote::read(&file);
    // The note of a shared lock is at its keeper.
    let note = note.filter(|_| binding::is_shared(&file) || binding::has_keeper(&file).unwrap_or(false));
    let Some(note) = note else {
        output::report_missing_keeper(name);
        return Ok(exit::NO);
    };
    let queue = connect::connect(&Settings::read(Some(&note.server))?)?.read_queue(Some(name))?;
    if queue.iter().any(|entry| entry.is_holder && entry.token == note.token) {
        return Ok(exit::DONE);
    }
    output::report_lost_lease(name, queue.first());
    Ok(exit::NO)
}

/// Prints the token of the local lock and the token of the lease, and then the number of the slot, if the lock has slots.
pub(crate) fn print_tokens(args: &ScriptLockArgs) -> Result<i32, Fault> {
    let file = copy_descriptor(args.fd)?;
    if let Some(binding) = Binding::find_shared(&file) {
        let Some(note) = LeaseNote::read(&file) else { return Ok(exit::NO) };
        let slot = note.slot.map(|slot| format!(" {slot}")).unwrap_or_default();
        output::print_data(&format!("{} {}{slot}\n", binding.token(), note.token));
        return Ok(exit::DONE);
    }
    let Some(record) = lease_note::read_record(&file) else { return Ok(exit::NO) };
    let token = LeaseNote::from_record(&record).map(|note| note.token.to_string()).unwrap_or_default();
    output::print_data(&format!("{} {token}\n", record.token));
    Ok(exit::DONE)
}

/// Unlocks the script's bytes, for every copy of the descriptor, and waits until the keeper has given the lease back.
fn return_lease(file: &File) -> io::Result<()> {
    if binding::is_shared(file) {
        let Some(binding) = Binding::find_shared(file) else { return Ok(()) };
        binding::unbind_script(file)?;
        binding.wait_for_return(file);
    } else if binding::has_keeper(file)? {
        binding::unbind_script(file)?;
        binding::wait_until_returned(file, WaitLimit::Forever);
    }
    Ok(())
}

fn copy_descriptor(fd: i32) -> Result<File, Fault> {
    aba_lock::os::try_second_descriptor(fd).map_err(|source| convert_error(LockError::cannot_copy(fd, source)))
}

/// Returns the path of the lock file for a name.
fn find_lock_file(name: &str) -> Result<PathBuf, Fault> {
    let path = || Ok(Store::from_env()?.lock_path(&LockName::parse(name)?));
    path().map_err(|error: Error| convert_error(error))
}
