//! `wait`: waits until locks are free, without acquiring them.

use super::target::list_targets;
use super::wait::choose_short_wait;
use crate::args::wait::WaitArgs;
use crate::exit;
use crate::output::contention::{report_free_wait, report_unknown_state};
use crate::output::progress::LockProgress;
use crate::output::stream;
use aba_lock::base::key::LockKey;
use aba_lock::base::target::{Target, Wait};
use aba_lock::error::Error;
use aba_lock::lock::error::LockError;
use aba_lock::lock::free_wait::{FreeOutcome, FreeRequest, wait_until_free};
use aba_lock::lock::holders;
use aba_lock::os::Mode;
use aba_lock::store::Store;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

pub(crate) fn run(args: &WaitArgs) -> Result<i32, Error> {
    // Each lock, and the word of the user for it.
    let mut targets: Vec<(Target, &OsStr)> = Vec::new();
    if args.file.is_empty() {
        let store = Store::from_env()?;
        for target in list_targets(&store, &args.names, &args.key)? {
            let has_path =
                |key: &&OsString| LockKey::parse(key).is_ok_and(|key| store.lock_path(key.name()) == target.path);
            let has_name = |name: &&String| Some(name.as_str()) == target.name();
            let name = args.names.iter().find(has_name).map(OsStr::new);
            let word = args.key.iter().find(has_path).map(OsString::as_os_str).or(name);
            targets.push((target, word.unwrap_or_default()));
        }
    } else {
        targets.extend(args.file.iter().map(|path| (Target::file(path), path.as_os_str())));
    }
    let request = FreeRequest {
        targets: targets.iter().map(|(target, _)| target.clone()).collect(),
        mode: if args.shared { Mode::Shared } else { Mode::Exclusive },
        any: args.any,
        limit: match choose_short_wait(args.timeout)? {
            Wait::For(limit) => Some(limit),
            Wait::No | Wait::Forever => None,
        },
    };
    match wait_until_free(request, &mut LockProgress::new(args.quiet)) {
        Ok(FreeOutcome::Free(free)) => {
            let word = targets.iter().find(|(target, _)| *target == free).map(|(_, word)| *word);
            if let Some(word) = word.filter(|_| args.any) {
                stream::print_bytes(&[word.as_bytes(), b"\n"].concat());
            }
            Ok(exit::DONE)
        }
        Ok(FreeOutcome::Unknown(target)) => {
            report_unknown_state(&target, &holders::observe_lock(&target.path));
            Ok(exit::FAILED)
        }
        Err(error @ (LockError::TimedOut { .. } | LockError::Deadlock { .. })) => {
            let error = Error::from(error);
            if !args.quiet {
                report_free_wait(&error);
            }
            Ok(exit::status_for_error(&error))
        }
        Err(error) => Err(error.into()),
    }
}
