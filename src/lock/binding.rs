//! Locks that end with the script, whatever its children inherit (`--no-inherit`).
//!
//! A **holder** process holds each lock on a descriptor that no other process has, and is bound to the script ([`os::ScriptBinding`]).
//! ARCHITECTURE.md has the steps; the module `bound` of the model tests checks them.
//!
//! `lock --bind` calls this after it has acquired the locks. With `--slots`, the holder also has the slot, and the pipe begins with its
//! number. The observation of locks, the search for deadlocks and `unlock --kill` name the script instead of the holder
//! (`peer::find_bound_script`).
//!
//! | killed process | effect |
//! |---|---|
//! | the script | the pidfd wakes the holder, which releases the lock |
//! | the helper before the holder runs | the kernel closes the lock file; the script gets an exit status other than 0 |
//! | the helper after that | the script closes its end of the pipe because of the exit status, which wakes the holder |
//! | the holder | the kernel closes the lock file and the pipe, and sends SIGTERM to the script |

use crate::base::target::Target;
use crate::lock::error::LockError;
use crate::lock::events::{self, LockEvent};
use crate::lock::request::{Acquired, Guard, require_linux};
use crate::lock::unlock::release_bytes;
use crate::os;
use crate::os::proc::process;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

/// Maximum time until a holder that was asked to end has released its lock.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// The binding of one lock to the script.
#[derive(Debug)]
pub struct LockBinding {
    target: Target,
    binding: os::ScriptBinding,
}

impl LockBinding {
    /// Prepares the binding of a lock to `script`, our parent, which has the reading end of a pipe open as `fd`.
    pub fn open(target: Target, fd: RawFd, script: u32) -> Result<Self, LockError> {
        require_linux("--no-inherit")?;
        let binding = os::ScriptBinding::open(fd, script).map_err(|source| cannot_bind(&target.label, source))?;
        Ok(Self { target, binding })
    }
}

/// Starts a holder for each lock that this call acquired. A lock that the script or its parent held before stays as it is, and its
/// pipe stays empty. If one of the steps fails, the holders end when the script closes its ends of the pipes.
pub fn bind_locks(acquired: &Acquired, bindings: Vec<LockBinding>) -> Result<(), LockError> {
    if bindings.is_empty() {
        return Ok(());
    }
    let mut unbound = acquired.guards.iter().filter(|guard| guard.fresh).count();
    for LockBinding { target, mut binding } in bindings {
        let is_ours = |guard: &&Guard| guard.fresh && guard.target.is_same_file(&target);
        let Some(guard) = acquired.guards.iter().find(is_ours) else { continue };
        let failed = |source| cannot_bind(&target.label, source);
        binding.fill(acquired.slot.map(|slot| slot.number)).map_err(failed)?;
        os::detached(&[], || hold_for_script(guard, &binding)).map_err(failed)?;
        binding.arm().map_err(failed)?;
        unbound -= 1;
    }
    // A link that leads to another file by now. Without a holder, the lock would end with this process.
    match acquired.guards.iter().find(|guard| guard.fresh).filter(|_| unbound > 0) {
        Some(guard) => Err(LockError::KeepsChanging { path: guard.target.path.clone() }),
        None => Ok(()),
    }
}

fn cannot_bind(label: &str, source: io::Error) -> LockError {
    match source.raw_os_error() {
        Some(libc::ESRCH) => LockError::ScriptEnded { label: label.to_owned() },
        _ => LockError::Bind { label: label.to_owned(), source },
    }
}

/// The work of a holder.
fn hold_for_script(guard: &Guard, binding: &os::ScriptBinding) {
    let [pidfd, writer] = binding.descriptors();
    os::close_inherited_except(&[pidfd, writer, guard.file().as_raw_fd()]);
    let (since, script) = (Instant::now(), binding.script());
    let command = process::local_command_line(script);
    binding.wait_for_script();
    let event = LockEvent::Released { held: Some(since.elapsed()), cause: None };
    events::log_event(&event, &guard.target, script, Some(&command));
    // The slot and the stamp belong to the lock. The pipe is closed after that, when this process ends.
    let _ = release_bytes(guard.file());
    let _ = os::unlock(guard.file());
}

/// Releases the lock whose holder is bound to the script by descriptor `fd`, and waits until it is released. `None`: there is no such
/// holder.
pub(super) fn release_bound(fd: RawFd) -> Option<Result<(), LockError>> {
    let ended = os::end_bound_process(fd, RELEASE_TIMEOUT)?;
    Some(ended.map_err(|source| LockError::Unbind { fd, source }))
}
