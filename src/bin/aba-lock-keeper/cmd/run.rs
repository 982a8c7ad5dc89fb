//! The command `lease run`: runs a command while this process and a keeper hold a lease, without a local lock.
//!
//! The place of the lock file takes a file in memory, which the command inherits. So the keeper finds the command and the
//! processes that it started, ends them if the lease is lost, and keeps the lease as long as one of them runs, as it does
//! for `aba-lock lock`. This process stays the parent of the command, to pass signals on to all of them, and to release the lease
//! when the command ends, although a process in the background may still have the file open.
//!
//! # Killed processes and signals
//!
//! | event | what happens |
//! |---|---|
//! | a signal during the wait | the place in the queue, or the lease that was granted at this moment, is given back, and the signal ends this process (see [`crate::cancellation`]) |
//! | SIGKILL during the wait | the connection is closed, and the service removes the waiter. In etcd, its place in the queue ends after its time to live |
//! | SIGKILL after the server has granted the lease, and before there is a keeper | no process renews the lease. A lock service has granted it for at most 30 s, so it ends soon. etcd cannot change the time of a lease: it lasts for `--ttl` |
//! | a signal after that, and before the command runs | while it is blocked, this process gives the lease back, and the signal ends it. After that, the signal ends this process at once, the kernel closes the file in memory, and the keeper gives the lease back |
//! | SIGKILL before the lease has its whole time to live | the keeper gives the lease back |
//! | a signal while the command runs | the command and the processes that have the file open get it. When the command has ended, this process waits a moment for the others. The lease stays with those that still run |
//! | SIGKILL while the command runs | the kernel kills the command (not one that runs as another user); the keeper keeps the lease until all processes that have the file open have ended |
//! | the command ends, and a process in the background has the file open | the lease is released |
//! | the server restarts | during the wait, the request is sent again; later, the keeper tries to renew the lease until two thirds of its time have passed |
//! | the lease is lost | the keeper ends the command (see [`crate::keeper`]). If the command succeeds nevertheless, this process fails, also if the keeper could renew the lease after that |

use crate::args::RunArgs;
use crate::binding::{self, Binding};
use crate::cancellation::Cancellation;
use crate::cmd::convert::{CheckedRequest, check_request, describe_owner, not_run};
use crate::cmd::progress::WaitProgress;
use crate::fault::Fault;
use crate::keeper::holders::Holders;
use crate::keeper::kept_lease::KeptLease;
use crate::keeper::shared_state::SharedState;
use crate::keeper::start;
use crate::lease::{Lease, LeaseRequest};
use crate::on_lost::{self, OnLost};
use crate::os::clock::Moment;
use crate::os::signal::{self, BlockedSignals};
use crate::os::{descriptor, random};
use crate::server::connect;
use crate::{exit, output};
use aba_lock::base::environment::{SLOT, TOKEN};
use aba_lock::os::{Child, ChildEvent, Mode, PreparedCommand};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

/// The time that the processes of a command get to end after the command, if a signal was passed on to all of them.
const STRAGGLER_LIMIT: Duration = Duration::from_secs(5);

/// The pause between two looks at these processes.
const STRAGGLER_PAUSE: Duration = Duration::from_millis(20);

/// A lease that is bound to the processes that have a file in memory open.
struct BoundLease {
    lease: Lease,
    file: File,
    binding: Binding,
    /// The state that the keeper writes.
    shared: SharedState,
    on_lost: OnLost,
}

pub(crate) fn run(args: &RunArgs) -> Result<i32, Fault> {
    let blocked = BlockedSignals::block();
    let bound = acquire_lease(args, &blocked)?;
    if let Some(signal) = blocked.find_pending() {
        bound.give_back();
        signal::die_of_signal(signal);
    }
    // From here on, the keeper gives the lease back if a signal ends this process.
    blocked.restore();
    let mut variables = vec![(TOKEN, bound.lease.token.to_string())];
    variables.extend(bound.lease.slot.map(|slot| (SLOT, slot.to_string())));
    let failed = |error: io::Error| not_run(&args.command[0].to_string_lossy(), &error);
    let started = PreparedCommand::new(&args.command, &variables).and_then(|command| {
        let mut child = command.fork()?;
        child.start().map(|()| child)
    });
    let mut child = started.map_err(failed).inspect_err(|_| bound.give_back())?;
    let (status, has_signalled) = bound.wait_for_command(&mut child);
    let is_lost = bound.shared.has_ended_holders() || (bound.shared.has_ended() && bound.on_lost == OnLost::Term);
    if !has_signalled || !bound.has_stragglers() {
        bound.give_back();
    }
    if let Some(signal) = child.died_with_us(status) {
        signal::die_of_signal(signal);
    }
    if is_lost && status == exit::DONE {
        output::report_late_success(&bound.lease.name);
        return Ok(exit::BUSY);
    }
    Ok(status)
}

/// Acquires the lease, and starts its keeper. The signals that end a process are blocked.
fn acquire_lease(args: &RunArgs, blocked: &BlockedSignals) -> Result<BoundLease, Fault> {
    let options = &args.request;
    let CheckedRequest { name, settings, ttl, limit, sharing } = check_request(options)?;
    let on_lost = on_lost::read_on_lost(args.on_lost.as_deref())?;
    let number = random::random_number().map_err(|error| Fault::from_random(&error))?;
    let binding = Binding::from_token(number);
    let file = create_bound_file(binding).map_err(|error| Fault::Failed {
        what: format!("cannot create a file in memory: {}", aba_lock::base::text::format_io_error(&error)),
        hint: None,
    })?;
    let command = shell_words::join(args.command.iter().map(|word| word.to_string_lossy()));
    let holder = std::process::id();
    let owner = describe_owner(holder, Some(command), options.who.as_deref());
    let mut server = connect::connect(&settings)?;
    let cancellation = Cancellation::begin(&settings, None);
    let progress = WaitProgress::new(&settings, name, &cancellation.pending, options.quiet);
    let request = LeaseRequest { name, ttl: server.first_ttl(ttl), owner: &owner, limit, kept: true, sharing };
    let lease = server.acquire(&request, &mut progress.repeat_after(options.progress));
    cancellation.end();
    let mut lease = lease?;
    let kept = KeptLease { settings, lease: lease.clone(), binding, on_lost: on_lost.clone(), holder };
    let shared = start::start_keeper(&kept, file.as_raw_fd()).inspect_err(|_| {
        let _ = server.release(&lease.id);
    })?;
    let extended = start::extend_lease(&mut *server, &mut lease, ttl, shared, blocked);
    let bound = BoundLease { lease, file, binding, shared, on_lost };
    match extended {
        Ok(()) => Ok(bound),
        Err(fault) => {
            bound.give_back();
            Err(fault)
        }
    }
}

/// Creates a file in memory, with the locks by which the keeper finds the processes that have it open.
fn create_bound_file(binding: Binding) -> io::Result<File> {
    let file = descriptor::create_lease_file()?;
    aba_lock::os::try_lock(&file, Mode::Exclusive)?;
    binding.bind_script(&file)?;
    Ok(file)
}

impl BoundLease {
    /// Waits until the command has ended, and passes signals on. Returns its exit status, and true if one of these signals
    /// ends processes.
    fn wait_for_command(&self, child: &mut Child) -> (i32, bool) {
        let mut has_signalled = false;
        loop {
            match child.wait_for_event() {
                ChildEvent::Ended(status) => return (status, has_signalled),
                ChildEvent::Signal { signal, has_it } => {
                    let is_ending = signal::is_ending(signal);
                    has_signalled |= is_ending;
                    if !has_it {
                        self.pass_on(signal, is_ending, child.pid());
                    }
                }
            }
        }
    }

    /// Passes a signal on to the command, and a signal that ends processes also to those that the command started: the
    /// command may be a shell, which ignores SIGINT while a program runs, and ends alone after SIGTERM.
    fn pass_on(&self, signal: i32, is_ending: bool, command: u32) {
        let holders = Holders::find(&self.file, None);
        let is_holder = holders.pids().any(|pid| pid == command);
        // If the lease is lost, the signal is that of the keeper, which sends it to all holders.
        let has_keeper_sent = self.shared.is_gone() || self.shared.reported_at().is_past();
        if is_ending && !has_keeper_sent {
            holders.pass_on(signal);
        }
        if !is_holder || !is_ending {
            aba_lock::os::signal_child(command.cast_signed(), signal);
        }
    }

    /// Waits for the processes that the command started, but not long. Returns true if some still run.
    fn has_stragglers(&self) -> bool {
        let end = Moment::now().plus(STRAGGLER_LIMIT);
        loop {
            let holders = Holders::find(&self.file, None);
            if holders.pids().next().is_none() {
                return false;
            }
            if end.is_past() {
                output::report_stragglers(&self.lease.name, holders.pids());
                return true;
            }
            if let Some(signal) = signal::take_signal() {
                holders.pass_on(signal);
            }
            thread::sleep(STRAGGLER_PAUSE);
        }
    }

    /// Gives the lease back, also if other processes have the file open.
    fn give_back(&self) {
        let _ = binding::unbind_script(&self.file);
        self.binding.wait_for_return(&self.file);
    }
}
