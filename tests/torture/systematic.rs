//! Every step of every primitive: each scene (`scenes/`) is played once to count the system calls of the helper, then once
//! for each of them and each thing that can be done to it: SIGKILL before it, and each error that fits it. After each the
//! scene says whether a rule was broken.

use crate::dice::Dice;
use crate::driver::{self, Call, Ended, Fault};
use crate::place::Place;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

/// What holds after a call, and its next one; else which rule was broken.
pub(crate) type Verdict = Result<(), String>;

/// One way to call one primitive.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// Sets the scene in an empty place, and makes the call.
    pub(crate) call: fn(&Place) -> Call,
    /// Judges what became of it.
    pub(crate) judge: fn(&Place, &Ended) -> Verdict,
}

/// The statuses that the manual pages know, beside those of death by signal.
pub(crate) const STATUSES: [i32; 9] = [0, 1, 2, 75, 76, 124, 125, 126, 127];

/// What is to be played.
pub(crate) struct Plan {
    /// This share of the steps, of so many: each worker has its own.
    pub(crate) share: (usize, usize),
    pub(crate) seed: u64,
    /// Each error of so many only; all kills always.
    pub(crate) thin: u64,
    pub(crate) until: Option<Instant>,
    pub(crate) only: Option<String>,
}

/// The most calls of a scene at each of which it is killed, in a short turn: what looks at all processes of a machine
/// makes thousands.
const SHORT: usize = 400;

/// Plays all scenes in this directory, and says which were played, and what was broken; returns how many steps that were.
pub(crate) fn play(directory: PathBuf, plan: &Plan, played: impl Fn(&str), broken: impl Fn(String)) -> usize {
    let place = Place::new(directory);
    let mut steps = 0;
    let mut dice = Dice::new(plan.seed);
    for scene in crate::scenes::all() {
        if plan.only.as_ref().is_some_and(|only| !scene.name.contains(only.as_str())) {
            continue;
        }
        // Twice: what is made once for all by the first call is there for the second.
        let calls = match (step(&place, &scene, Fault::None), step(&place, &scene, Fault::None)) {
            (Ok(_), Ok(ended)) => ended.calls,
            (Err(why), _) | (_, Err(why)) => {
                broken(format!("{}, untouched: {why}", scene.name));
                continue;
            }
        };
        for fault in faults(&calls, plan, &mut dice).into_iter().skip(plan.share.0).step_by(plan.share.1) {
            if plan.until.is_some_and(|until| Instant::now() > until) {
                place.clear();
                return steps;
            }
            steps += 1;
            if let Err(why) = step(&place, &scene, fault) {
                broken(format!("{}, {}: {why}", scene.name, in_words(fault, &calls)));
            }
        }
        played(scene.name);
    }
    place.clear();
    steps
}

/// All that is to be done to a scene that makes these calls.
fn faults(calls: &[i64], plan: &Plan, dice: &mut Dice) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut is_due = |thin: u64| plan.thin == 1 || dice.roll(thin) == 0;
    let stride = if plan.thin == 1 { 1 } else { calls.len().div_ceil(SHORT) };
    for (before, call) in calls.iter().enumerate() {
        let at = before + 1;
        if at.is_multiple_of(stride) {
            faults.push(Fault::Kill(at));
        }
        for errno in errors(*call) {
            if is_due(plan.thin) {
                faults.push(Fault::Fail(at, *errno));
            }
            // What lasts in the world is tried lasting, too.
            if [libc::ENOSPC, libc::EMFILE, libc::EIO].contains(errno) && is_due(plan.thin * 2) {
                faults.push(Fault::FailOn(at, *errno));
            }
        }
    }
    faults
}

fn in_words(fault: Fault, calls: &[i64]) -> String {
    let name = |at: usize| calls.get(at - 1).map_or("?".to_owned(), |call| crate::calls::name(*call));
    let error = std::io::Error::from_raw_os_error;
    match fault {
        Fault::None => "untouched".to_owned(),
        Fault::Kill(at) => format!("killed before call {at} ({})", name(at)),
        Fault::Fail(at, errno) => format!("call {at} ({}) failed: {}", name(at), error(errno)),
        Fault::FailOn(at, errno) => format!("from call {at} on all {} failed: {}", name(at), error(errno)),
    }
}

/// The errors that a call may have, in this world. None for what does not fail, or of which nobody would learn; none for
/// close(2) either, which has closed whatever it says.
fn errors(call: i64) -> &'static [i32] {
    use libc::{EACCES, EAGAIN, EINTR, EIO, EMFILE, ENOENT, ENOLCK, ENOMEM, ENOSPC, EPERM, EROFS};
    match call {
        libc::SYS_openat => &[EIO, ENOSPC, EACCES, ENOMEM, EINTR, EMFILE],
        libc::SYS_read | libc::SYS_pread64 | libc::SYS_readv => &[EIO, EINTR],
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_ftruncate => &[EIO, ENOSPC, EINTR],
        libc::SYS_fsync | libc::SYS_fdatasync | libc::SYS_sync_file_range => &[EIO, ENOSPC, EINTR],
        libc::SYS_flock => &[EIO, EINTR, ENOLCK, ENOMEM],
        libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat | libc::SYS_mkdirat | libc::SYS_symlinkat => {
            &[EIO, ENOSPC, EACCES, ENOMEM]
        }
        libc::SYS_unlinkat => &[EIO, EACCES, ENOMEM, EROFS],
        libc::SYS_statx | libc::SYS_fstat | libc::SYS_newfstatat | libc::SYS_readlinkat | libc::SYS_faccessat => {
            &[EIO, EACCES, ENOMEM]
        }
        libc::SYS_fchmod | libc::SYS_fchmodat | libc::SYS_fchown | libc::SYS_fchownat => &[EIO, EPERM, ENOMEM],
        libc::SYS_flistxattr | libc::SYS_fgetxattr | libc::SYS_fsetxattr | libc::SYS_fremovexattr => &[EIO, ENOMEM, EPERM],
        libc::SYS_getdents64 | libc::SYS_lseek => &[EIO, ENOMEM],
        libc::SYS_fcntl => &[EMFILE, EAGAIN, EACCES, ENOMEM],
        libc::SYS_dup | libc::SYS_dup3 => &[EMFILE, EINTR],
        libc::SYS_clone | libc::SYS_clone3 => &[EAGAIN, ENOMEM],
        libc::SYS_execve => &[EIO, EACCES, ENOMEM],
        libc::SYS_mmap | libc::SYS_mremap | libc::SYS_brk | libc::SYS_mprotect => &[ENOMEM],
        libc::SYS_pipe2 | libc::SYS_socket | libc::SYS_socketpair | libc::SYS_eventfd2 => &[EMFILE, ENOMEM],
        libc::SYS_inotify_init1 | libc::SYS_inotify_add_watch | libc::SYS_pidfd_open => &[EMFILE, ENOSPC, ENOMEM],
        libc::SYS_bind | libc::SYS_connect | libc::SYS_sendto | libc::SYS_recvfrom | libc::SYS_sendmsg => {
            &[EACCES, EINTR, ENOMEM]
        }
        libc::SYS_ppoll | libc::SYS_futex | libc::SYS_wait4 | libc::SYS_waitid | libc::SYS_clock_nanosleep => &[EINTR],
        libc::SYS_timer_create | libc::SYS_timer_settime | libc::SYS_setitimer => &[EAGAIN, ENOMEM],
        libc::SYS_getcwd => &[ENOENT, EACCES, ENOMEM],
        libc::SYS_chdir | libc::SYS_fchdir => &[EIO, EACCES],
        libc::SYS_kill | libc::SYS_pidfd_send_signal => &[EPERM],
        libc::SYS_setsid | libc::SYS_prctl => &[EPERM],
        _ => errors_of_old_calls(call),
    }
}

/// Of calls that newer processors do not have.
#[cfg(target_arch = "x86_64")]
fn errors_of_old_calls(call: i64) -> &'static [i32] {
    use libc::{EACCES, EINTR, EIO, EMFILE, ENOMEM, ENOSPC, EROFS};
    match call {
        libc::SYS_open => &[EIO, ENOSPC, EACCES, ENOMEM, EINTR, EMFILE],
        libc::SYS_rename | libc::SYS_link | libc::SYS_mkdir | libc::SYS_symlink => &[EIO, ENOSPC, EACCES, ENOMEM],
        libc::SYS_unlink | libc::SYS_rmdir => &[EIO, EACCES, ENOMEM, EROFS],
        libc::SYS_stat | libc::SYS_lstat | libc::SYS_readlink | libc::SYS_access => &[EIO, EACCES, ENOMEM],
        libc::SYS_fork | libc::SYS_vfork => &[libc::EAGAIN, ENOMEM],
        libc::SYS_dup2 => &[EMFILE, EINTR],
        libc::SYS_poll => &[EINTR],
        _ => &[],
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn errors_of_old_calls(_: i64) -> &'static [i32] {
    &[]
}

/// Plays a scene with one fault.
fn step(place: &Place, scene: &Scene, fault: Fault) -> Result<Ended, String> {
    place.clear();
    let call = (scene.call)(place);
    let ended = driver::run(place, call, fault).map_err(|why| format!("could not be run: {why}"))?;
    let said = judge_words(&ended, fault);
    let judged = said.and_then(|()| (scene.judge)(place, &ended));
    judged.map_err(|why| {
        format!("{why}\n    status {}, stdout {:?}, stderr {:?}", ended.status, ended.out, ended.err)
    })?;
    Ok(ended)
}

/// What holds for each call: it ends, with a status of the manual, and every failure has a sentence.
fn judge_words(ended: &Ended, fault: Fault) -> Verdict {
    if ended.hung {
        let last = ended.calls.last().map_or("?".to_owned(), |call| crate::calls::name(*call));
        return Err(format!("it did not end; its last call was {last}"));
    }
    if ended.err.contains("panicked") {
        return Err("it panicked".to_owned());
    }
    let (Fault::Kill(at) | Fault::Fail(at, _) | Fault::FailOn(at, _)) = fault else { return Ok(()) };
    let call = ended.calls.get(at - 1).copied();
    let is_memory = [libc::SYS_mmap, libc::SYS_mremap, libc::SYS_brk, libc::SYS_mprotect].map(Some).contains(&call);
    if matches!(fault, Fault::Kill(_)) && ended.status == 137 || !ended.hit {
        return Ok(());
    }
    if is_memory {
        // Before `main`, and where an allocation fails: the C library or the runtime ends the process in its own words.
        return Ok(());
    }
    let known: BTreeSet<i32> = STATUSES.into();
    if !known.contains(&ended.status) {
        return Err(format!("{} is no status of the manual", ended.status));
    }
    // A signal that was sent to the command of a task, say, is told in words of its own.
    let sentence = |line: &str| line.starts_with("aba-lock: ") || line.starts_with("hint: ");
    if let Some(line) = ended.err.lines().find(|line| !sentence(line)) {
        return Err(format!("{line:?} is no sentence"));
    }
    let quiet = matches!(ended.status, 0 | 1);
    if !quiet && !ended.err.contains("aba-lock: ") && !cannot_be_said(call) {
        return Err("it failed without a word".to_owned());
    }
    Ok(())
}

/// Where it was the sentence itself that could not be written.
fn cannot_be_said(call: Option<i64>) -> bool {
    call == Some(libc::SYS_write)
}
