//! The command `hold`, which the helper becomes after it has acquired the local locks. It acquires the leases, starts a
//! keeper for each, and leaves them to the script or runs the command.
//!
//! | a signal arrives | what happens |
//! |---|---|
//! | while we wait in the queue of a server, or for an earlier lease to be given back | the leases of this call, the place in the queue, and the new local locks are given back, and the signal ends this process |
//! | between two waits, while a keeper is started | the signal is blocked until the next wait, or until the end of the acquisition, which checks for it |
//! | at the end of a wait, in the thread that waits for signals (see [`crate::cancellation`]) | it is sent again, and is blocked as above |
//! | after that | the script holds everything, and this process reports success |

use crate::args::HoldArgs;
use crate::binding;
use crate::cancellation::Cancellation;
use crate::cmd::convert::{check_name, describe_owner, not_run, read_sharing, read_wait_limit};
use crate::cmd::local_lock::{LocalLock, release_all};
use crate::cmd::progress::WaitProgress;
use crate::fault::Fault;
use crate::keeper::kept_lease::KeptLease;
use crate::keeper::start;
use crate::lease::LeaseRequest;
use crate::os::signal::{self, BlockedSignals};
use crate::os::{process, random};
use crate::server::connect;
use crate::settings::{self, Settings};
use crate::{exit, lease_note, on_lost, output};
use aba_lock::base::environment::{FDS, SLOT, TOKEN, inherited_descriptors};
use aba_lock_protocol::sharing::Sharing;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

pub(crate) fn hold(args: &HoldArgs) -> Result<i32, Fault> {
    let parse = |text: &String| Ok(LocalLock::parse(text, random::random_number()?));
    let locks = args.locks.iter().map(parse).collect::<io::Result<Option<Vec<LocalLock>>>>();
    let locks = locks.map_err(|error| Fault::from_random(&error))?;
    let Some(locks) = locks.map(Arc::<[LocalLock]>::from) else {
        return Err(Fault::Misused {
            what: "invalid value of --lock".to_owned(),
            hint: "install aba-lock and aba-lock-keeper from the same release".to_owned(),
        });
    };
    let blocked = BlockedSignals::block();
    if args.script.is_some_and(|script| !process::end_with_parent(script)) {
        release_all(&locks, &mut || {});
        return Ok(exit::FAILED);
    }
    let acquired = acquire_leases(args, &locks, &blocked);
    if let Some(signal) = blocked.find_pending() {
        release_all(&locks, &mut || {});
        signal::die_of_signal(signal);
    }
    match acquired {
        Ok(held) => {
            // A command must get later signals. If a script has called us, a signal would end only this process, and
            // the script would keep the locks but see a failure.
            if args.script.is_none() {
                blocked.restore();
            }
            hand_over(args, &locks, &held)
        }
        Err(fault) => {
            release_all(&locks, &mut || {});
            blocked.restore();
            match fault {
                fault @ (Fault::Busy { .. } | Fault::TimedOut { .. } | Fault::OtherSlots { .. }) => {
                    handle_contention(args, &fault)
                }
                fault => Err(fault),
            }
        }
    }
}

/// The leases that the call holds.
struct HeldLeases {
    /// Their tokens in the order of the arguments.
    tokens: Vec<u64>,
    /// The number of the slot, if the lock has slots. Then it is the only one.
    slot: Option<u32>,
}

/// Acquires the leases in the order of their names, as all callers do, so that two callers cannot wait for each other.
/// Returns their tokens in the order of the arguments.
fn acquire_leases(args: &HoldArgs, locks: &Arc<[LocalLock]>, blocked: &BlockedSignals) -> Result<HeldLeases, Fault> {
    let begin = Instant::now();
    let settings = Settings::read(args.at.server.as_deref())?;
    if !args.quiet {
        output::warn_of_exposures(&settings);
    }
    let ttl = settings::read_ttl(args.ttl)?;
    let on_lost = on_lost::read_on_lost(args.on_lost.as_deref())?;
    let holder = args.script.unwrap_or_else(std::process::id);
    let command =
        (!args.command.is_empty()).then(|| shell_words::join(args.command.iter().map(|word| word.to_string_lossy())));
    let owner = describe_owner(holder, command, args.who.as_deref());
    let limit = read_wait_limit(&args.wait)?;
    let mut server = connect::connect(&settings)?;
    let (mut tokens, mut slot) = (vec![0; locks.len()], None);
    let sharing = read_sharing(&args.sharing);
    let mut order: Vec<(usize, &LocalLock)> = locks.iter().enumerate().collect();
    order.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
    for (at, lock) in order {
        check_name(&lock.name)?;
        if lock.has_keeper() {
            let note = lock.find_note_at(&settings)?;
            (tokens[at], slot) = (note.token, note.slot);
            continue;
        }
        lock.check_acquirer(args.script)?;
        let all = Arc::clone(locks);
        let cancellation = Cancellation::begin_with(&settings, move |give_back| release_all(&all, give_back));
        // The last holder on this machine may have ended a moment ago.
        if sharing == Sharing::Exclusive {
            binding::wait_until_returned(&lock.file, limit);
        } else {
            binding::wait_until_ended_are_returned(&lock.file, limit);
        }
        let mut progress = WaitProgress::new(&settings, &lock.name, &cancellation.pending, args.quiet);
        let first_ttl = server.first_ttl(ttl);
        let request = LeaseRequest { name: &lock.name, ttl: first_ttl, owner: &owner, limit, kept: true, sharing };
        let lease = server.acquire(&request, &mut progress);
        cancellation.end();
        let mut lease = lease?;
        let started = lock.bind_script().and_then(|()| {
            let (settings, lease, on_lost) = (settings.clone(), lease.clone(), on_lost.clone());
            let kept = KeptLease { settings, lease, binding: lock.binding(), on_lost, holder };
            start::start_keeper(&kept, lock.fd)
        });
        let shared = match started {
            Ok(shared) => shared,
            Err(fault) => {
                let _ = server.release(&lease.id);
                return Err(fault);
            }
        };
        // If this fails, the caller unbinds the script, and the keeper gives the lease back.
        start::extend_lease(&mut *server, &mut lease, ttl, shared, blocked)?;
        if sharing == Sharing::Exclusive {
            lease_note::write_note(&lock.file, &lock.name, settings.label(), &lease)?;
        }
        (tokens[at], slot) = (lease.token, lease.slot);
        if args.verbose {
            output::report_acquisition(settings.label(), &lease, begin.elapsed());
        }
    }
    Ok(HeldLeases { tokens, slot })
}

/// Leaves the leases to the script, or runs the command.
fn hand_over(args: &HoldArgs, locks: &[LocalLock], held: &HeldLeases) -> Result<i32, Fault> {
    if args.command.is_empty() {
        if let (Some(path), Some(script)) = (&args.pid_file, args.script) {
            write_pid(path, script).inspect_err(|_| release_all(locks, &mut || {}))?;
        }
        return Ok(exit::DONE);
    }
    let tokens: Vec<String> = held.tokens.iter().map(u64::to_string).collect();
    let mut variables = vec![(TOKEN, tokens.join(" "))];
    variables.extend(held.slot.map(|slot| (SLOT, slot.to_string())));
    if args.no_inherit {
        for lock in locks {
            aba_lock::os::keep_back(lock.fd);
        }
        let is_kept = |fd: &i32| locks.iter().any(|lock| lock.fd == *fd);
        let others = inherited_descriptors().into_iter().filter(|fd| !is_kept(fd));
        variables.push((FDS, others.map(|fd| fd.to_string()).collect::<Vec<_>>().join(" ")));
    }
    let failed = |error: io::Error| not_run(&args.command[0].to_string_lossy(), &error);
    let command = aba_lock::os::PreparedCommand::new(&args.command, &variables).map_err(failed)?;
    let pid_file = args.pid_file.as_deref();
    let mut signal = None;
    // To remove the pid file at the end of the command, this process must wait for the end.
    let status = if args.no_inherit || pid_file.is_some() {
        let mut child = command.fork().map_err(failed)?;
        pid_file.map_or(Ok(()), |path| write_pid(path, child.pid()))?;
        let status = child.run();
        if let Some(path) = pid_file {
            aba_lock::lock::pid_file::remove_pid_file(path, child.pid());
        }
        signal = status.as_ref().ok().and_then(|status| child.died_with_us(*status));
        status
    } else {
        Err(command.exec())
    };
    if args.no_inherit {
        release_all(locks, &mut || {});
    }
    match signal {
        Some(signal) => signal::die_of_signal(signal),
        None => status.map_err(failed),
    }
}

fn write_pid(path: &Path, pid: u32) -> Result<(), Fault> {
    aba_lock::lock::pid_file::write_pid_file(path, pid).map_err(|error| Fault::Failed {
        what: format!("cannot write {}: {}", path.display(), aba_lock::base::text::format_io_error(&error)),
        hint: None,
    })
}

/// Returns the part of a hint that says how to make the caller wait. The user of a script cannot pass options to the
/// helper.
fn wait_hint(args: &HoldArgs) -> Option<&'static str> {
    match (args.script, args.wait.nonblock) {
        (None, _) => Some("`--wait`"),
        (Some(_), false) => Some("ABA_LOCK_TIMEOUT=60 in the environment"),
        // The script itself asks for no wait, whatever the environment says.
        (Some(_), true) => None,
    }
}

/// Reports that another process holds a lease, and runs the command of `--on-busy`.
fn handle_contention(args: &HoldArgs, fault: &Fault) -> Result<i32, Fault> {
    let Some(instead) = args.on_busy.as_deref() else {
        if !args.quiet {
            output::report_fault(fault, wait_hint(args));
        }
        return Ok(args.conflict_exit_code.map_or_else(|| exit::status_for_fault(fault), i32::from));
    };
    if !args.quiet {
        output::report_replacement(fault, instead);
    }
    let name = match fault {
        Fault::Busy { name, .. } | Fault::TimedOut { name, .. } | Fault::OtherSlots { name, .. } => name.as_str(),
        _ => "",
    };
    Err(not_run(instead, &aba_lock::lock::inherit::exec_shell(instead, name)))
}
