//! Writes the records of locks that were granted: the last step of [`acquire`](super::acquire).

use super::request::{Acquired, Guard, Request};
use crate::base::target::Kind;
use crate::lock::events;
use crate::lock::log_flag::{flag_new_file, is_logged};
use crate::lock::record::{self, Content, RecordDraft};
use crate::os::proc::lock_table;
use crate::os::{self, Mode, Slot};
use crate::store::creation;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

/// Writes the records of the locks that a call has acquired. The call began at `started`. A lock that an ancestor holds keeps its
/// record. `build_draft` is only called if a record is written.
pub(super) fn write_records(
    guards: Vec<Guard>,
    request: &Request,
    slot: Option<Slot>,
    started: Instant,
    build_draft: impl FnOnce() -> RecordDraft,
) -> Acquired {
    // All holders of a shared lock have the same token. It is taken from a record only if the whole record can be read.
    // For an exclusive lock, the last token is only a lower bound of the new one.
    let last_token = |guard: &Guard| match request.mode {
        Mode::Exclusive => record::last_token(&guard.file),
        Mode::Shared => match record::try_read(&guard.file) {
            Ok(Content::Foreign) | Err(_) => None,
            Ok(content) => Some(content.token()),
        },
    };
    let lasts: Vec<Option<u64>> = guards.iter().map(last_token).collect();
    let last = lasts.iter().flatten().copied().max().unwrap_or(0);
    let mut acquired = Acquired { token: last, slot, is_logged: false, unrecorded: None, guards };
    if !acquired.guards.iter().any(|guard| guard.fresh) {
        return acquired;
    }
    if request.mode == Mode::Exclusive || last == 0 {
        acquired.token = record::next_token(last);
    }
    let (record, text) = build_draft().finish(acquired.token);
    // No record is written into a file of the user (`--file`), even if it is empty, nor into a file with foreign
    // data.
    let is_logged_file = |guard: &Guard| {
        guard.target.kind == Kind::Named && guard.file.metadata().is_ok_and(|data| is_logged(data.mode()))
    };
    let is_ours = |guard: &Guard, last: &Option<u64>| guard.target.kind != Kind::Users && last.is_some();
    for (guard, last) in acquired.guards.iter().zip(&lasts).filter(|(guard, _)| guard.fresh) {
        if !is_ours(guard, last) {
            os::set_owner(&guard.file, request.holder);
            acquired.is_logged |= is_logged_file(guard);
            continue;
        }
        if *last == Some(0) && guard.target.kind == Kind::Named {
            // Bash may have created the file. A failure changes nothing for this caller.
            let _ = creation::share_lock_file(&guard.file, &guard.target.path);
            flag_new_file(&guard.file, &guard.target.path);
        }
        // A file of another user may not be writable. That is not reported.
        let is_expected = |error: &io::Error| {
            [libc::EACCES, libc::EPERM, libc::EROFS, libc::EISDIR, libc::EBADF, libc::EINVAL, libc::ETXTBSY]
                .contains(&error.raw_os_error().unwrap_or(0))
        };
        let with_key = record::find_key(&guard.file, &guard.target).map(|key| record::add_key(&text, &key));
        let text = with_key.as_ref().unwrap_or(&text);
        match record::write_text(&guard.file, &guard.target.path, text) {
            // The record names the holder, so the description needs no owner. There are two exceptions. The record
            // of a shared lock is replaced by the next holder. And in a pid namespace other than the first one, the
            // kernel does not name a locker that has ended, so the record proves nothing after that.
            Ok(mode) => {
                acquired.is_logged |= is_logged(mode);
                if request.mode == Mode::Exclusive && record.ns == lock_table::FIRST_NAMESPACE {
                    continue;
                }
            }
            Err(error) => {
                acquired.is_logged |= is_logged_file(guard);
                if !is_expected(&error) {
                    acquired.unrecorded = Some((guard.target.path.clone(), error));
                }
            }
        }
        os::set_owner(&guard.file, request.holder);
    }
    events::log_acquired(&acquired, request, &record.command, started);
    acquired
}
