//! The keeper: two processes that keep a lease for a script, and give it back when that has ended.
//!
//! The **guard** makes no request as long as the script lives: it blocks for the script's byte (see [`crate::tie`]), knows when
//! the lease ends, and ends the script before that. The **courier**, its child, renews the lease, and tells the guard in a
//! page of memory that both have. So a server that does not answer, or a name that is not resolved, holds nobody up who has
//! to be in time; and each of the two does without the other. Both are in a session of their own, with no descriptor of
//! the caller's but a new description of the lock file.
//!
//! # Who may be killed where, and what the next one finds
//!
//! | killed | what happens |
//! |---|---|
//! | the script, however it ends | its descriptors are closed by the kernel, the guard gets the byte, ends the courier, and gives the lease back |
//! | the script, while something that inherited its descriptor goes on | nothing: that has the lock, and the lease is kept |
//! | who acquires, before there is a keeper | the lease ends by itself; the script gets a status that is not 0 |
//! | who acquires, after that | the script closes its descriptor on that status, and the guard gives the lease back |
//! | the courier, or it hangs, or is stopped | the guard starts another, at the latest when half of the time is over |
//! | both, by what ends a process, as all of a control group gets it | nothing: they are deaf to INT, TERM, HUP and QUIT |
//! | the script, while the guard is stopped | the courier sees that nobody has the script's byte, and renews no more |
//! | the guard | the courier finds that its parent has changed, becomes the guard, and starts another courier |
//! | both | nobody renews: the lease ends, and another may have it while the script runs. `aba_lock_check` says so, and the fencing token is what the resource can go by |
//! | all of the machine, or the pid namespace | the script too; the lease ends by itself |
//! | the server, or the way to it | renewals fail: the script is told at `good + TTL - grace` (SIGTERM), and ended at `good + TTL` (SIGKILL), before the server can give the lease to another |
//! | nothing, but the script and its keeper are frozen for longer than the lease | the first thing that the guard does after the thaw is SIGKILL to the script; SIGTERM would let it go on while another may have the lease. Between the thaw and that signal the script can run |
//! | the lease, by somebody else | the courier is told at its next renewal; SIGTERM, and SIGKILL after the grace |
//!
//! `good` is when the last good renewal was sent; all of it on a clock that goes on while the machine sleeps.

use crate::clock::Moment;
use crate::lost::{self, Holders};
use crate::server::{self, Fault, Lease, Server};
use crate::settings::{OnLost, Settings};
use crate::sys;
use crate::tie::Tie;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often the guard looks at the clock, which may have jumped while the machine slept.
const LOOK: Duration = Duration::from_secs(1);

/// How often the courier looks whether its guard is there.
const STEP: Duration = Duration::from_millis(200);

/// How soon to try again to renew, or to give back.
const AGAIN: Duration = Duration::from_millis(250);

/// How soon to look again at those that are to end.
const ENDING: Duration = Duration::from_millis(50);

/// Until SIGKILL has worked, and for clocks that do not go alike.
const MARGIN: Duration = Duration::from_millis(250);

/// What is kept, for whom.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    pub(crate) settings: Settings,
    pub(crate) lease: Lease,
    pub(crate) tie: Tie,
    pub(crate) on_lost: OnLost,
    /// The script, or the command.
    pub(crate) holder: u32,
}

/// Starts a keeper for who has `fd` open. It is there when this returns. There must be no other thread.
pub(crate) fn start(charge: &Charge, fd: RawFd) -> Result<(), Fault> {
    let failed = |error: &io::Error| Fault::Failed {
        what: format!(
            "could not start a keeper for the lease on {}: {}",
            charge.lease.name,
            aba_lock::base::text::format_io_error(error)
        ),
        hint: None,
    };
    let (mut told, tell) = io::pipe().map_err(|error| failed(&error))?;
    let shared = sys::shared_numbers().map_err(|error| failed(&error))?;
    let mut tell = Some(tell);
    let theirs = charge.clone();
    aba_lock::os::detached(&[], || {
        sys::be_deaf();
        let opened = sys::open_anew(fd).and_then(|file| sys::keep_only(file, tell.take()));
        let Ok((file, Some(mut tell))) = opened else { return };
        // Not if only others may write to the file.
        if !theirs.tie.keep(&file).unwrap_or(false) {
            return;
        }
        let keeper = Keeper { charge: theirs, file, shared: Shared { numbers: shared }, running: None };
        keeper.shared.renewed(&keeper.charge.lease);
        if tell.write_all(&[1]).is_ok() {
            drop(tell);
            keeper.guard();
        }
    })
    .map_err(|error| failed(&error))?;
    drop(tell);
    match told.read_exact(&mut [0]) {
        Ok(()) => Ok(()),
        Err(_) => Err(Fault::Failed {
            what: format!("no keeper could be started for the lease on {}", charge.lease.name),
            hint: Some("it needs to write to the lock file: see whose that is with `ls -l`".to_owned()),
        }),
    }
}

/// What guard and courier have in common.
#[derive(Debug, Clone, Copy)]
struct Shared {
    numbers: &'static [AtomicU64; 4],
}

impl Shared {
    fn renewed(self, lease: &Lease) {
        // First the one that only makes it end sooner.
        self.numbers[1].store(u64::try_from(lease.ttl.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
        self.numbers[0].store(lease.good.to_number(), Ordering::SeqCst);
    }

    fn good(self) -> Moment {
        Moment::from_number(self.numbers[0].load(Ordering::SeqCst))
    }

    fn ttl(self) -> Duration {
        Duration::from_nanos(self.numbers[1].load(Ordering::SeqCst))
    }

    /// The server said that the lease is gone.
    fn is_gone(self) -> bool {
        self.numbers[2].load(Ordering::SeqCst) != 0
    }

    fn gone(self) {
        self.numbers[2].store(1, Ordering::SeqCst);
    }
}

struct Keeper {
    charge: Charge,
    file: File,
    shared: Shared,
    /// The command that is run as the lease is lost.
    running: Option<Child>,
}

/// How far it is with ending the script.
enum Stage {
    Kept,
    /// It was told, and is to have ended then.
    Told(Moment),
    /// There is nothing more to do for it.
    Over,
}

impl Keeper {
    /// Guards until the script has ended, or the lease is lost. Does not return.
    fn guard(mut self) -> ! {
        let alarm = sys::Alarm::new();
        let mut courier = self.send_courier();
        let mut sent = Moment::now();
        let mut stage = Stage::Kept;
        loop {
            alarm.ring_after(self.next_look(&stage));
            match self.charge.tie.until_script_ends(&self.file) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel has no memory for it, say.
                Err(_) => thread::sleep(ENDING),
            }
            stage = self.see_to_the_end(stage);
            if matches!(stage, Stage::Over) {
                break;
            }
            let ttl = self.shared.ttl();
            let is_late = self.shared.good().plus(ttl / 2).is_past() && sent.plus(ttl / 6).is_past();
            if let Some(pid) = courier.filter(|_| is_late && !self.shared.is_gone()) {
                sys::end(pid);
                courier = None;
            }
            if courier.is_none_or(sys::has_ended) && sent.plus(AGAIN).is_past() {
                courier = self.send_courier();
                sent = Moment::now();
            }
        }
        alarm.ring_after(Duration::from_secs(3600));
        if let Some(pid) = courier {
            sys::end(pid);
        }
        self.give_back();
        sys::leave()
    }

    /// The grace of the script: a third of what the server gave.
    fn grace(&self) -> Duration {
        self.shared.ttl() / 3
    }

    fn told_at(&self) -> Moment {
        let good = self.shared.good();
        if self.shared.is_gone() { good } else { good.plus(self.shared.ttl().saturating_sub(self.grace())) }
    }

    fn next_look(&self, stage: &Stage) -> Duration {
        match stage {
            Stage::Kept => self.told_at().left().min(LOOK),
            Stage::Told(end) if end.is_past() => ENDING,
            Stage::Told(end) => end.left().min(LOOK),
            Stage::Over => LOOK,
        }
    }

    /// Tells the script when it has to be told, and ends it when it has to be ended.
    fn see_to_the_end(&mut self, stage: Stage) -> Stage {
        let end = self.shared.good().plus(self.shared.ttl().saturating_sub(MARGIN));
        let is_kept = !self.shared.is_gone() && !self.told_at().is_past();
        let ended = self.running.as_mut().and_then(|child| child.try_wait().transpose());
        if ended.is_some() {
            self.running = None;
        }
        let command_failed = ended.is_some_and(|ended| !ended.is_ok_and(|status| status.success()));
        match stage {
            // In `Told` it was renewed in the end.
            Stage::Kept | Stage::Told(_) if is_kept => Stage::Kept,
            // The whole grace has passed unnoticed: both were frozen. Another process may hold the lock already.
            Stage::Kept if end.is_past() && self.charge.on_lost != OnLost::Warn => {
                let script = lost::kill_script(&self.charge, &self.file);
                self.charge.on_lost = OnLost::Term;
                let stage = self.kill(end);
                if script.is_some() || matches!(stage, Stage::Told(_)) {
                    lost::tell_of_freeze(&self.charge, script);
                }
                stage
            }
            Stage::Kept => {
                let holders = Holders::of(&self.file);
                lost::tell(&self.charge, &holders, self.shared.is_gone(), end.left());
                match &self.charge.on_lost {
                    OnLost::Term => holders.terminate(),
                    OnLost::Warn => {}
                    // That of an earlier time, when it was renewed in the end.
                    OnLost::Run(_) if self.running.is_some() => {}
                    OnLost::Run(command) => match lost::run(&self.charge, command) {
                        Ok(child) => self.running = Some(child),
                        Err(_) => self.do_without_command(),
                    },
                }
                // Another may have it now: not more than the grace, and not longer than it could have lasted.
                Stage::Told(if self.shared.is_gone() { end.min(Moment::now().plus(self.grace())) } else { end })
            }
            Stage::Told(end) if end.is_past() && (command_failed || self.running.is_some()) => {
                lost::kill_script(&self.charge, &self.file);
                self.do_without_command();
                self.kill(end)
            }
            Stage::Told(end) if end.is_past() && self.charge.on_lost == OnLost::Term => {
                lost::kill_script(&self.charge, &self.file);
                self.kill(end)
            }
            Stage::Told(end) if end.is_past() => Stage::Over,
            Stage::Told(end) if command_failed => {
                self.do_without_command();
                Stage::Told(end)
            }
            stage => stage,
        }
    }

    /// Kills all processes that hold the lock. Repeat this until there are none: they may have started others.
    fn kill(&self, end: Moment) -> Stage {
        if Holders::of(&self.file).kill() == 0 { Stage::Over } else { Stage::Told(end) }
    }

    /// The command that was to see to it could not be run, failed, or has not ended in time: then those who have the lock are
    /// ended after all.
    fn do_without_command(&mut self) {
        if let Some(mut child) = self.running.take() {
            sys::end_group(&mut child);
        }
        self.charge.on_lost = OnLost::Term;
        Holders::of(&self.file).terminate();
    }

    /// Another process that renews the lease. `None`: there is none to be had now.
    fn send_courier(&mut self) -> Option<i32> {
        let guard = std::process::id();
        match sys::fork() {
            Ok(None) => {
                let keeper = Self {
                    charge: self.charge.clone(),
                    file: self.file.try_clone().unwrap_or_else(|_| sys::leave()),
                    shared: self.shared,
                    running: None,
                };
                keeper.carry(guard)
            }
            Ok(Some(pid)) => Some(pid),
            Err(_) => None,
        }
    }

    /// Renews the lease for as long as there is this guard, and takes its place when it is killed. Does not return.
    fn carry(mut self, guard: u32) -> ! {
        let mut server: Option<Box<dyn Server>> = None;
        let mut next = self.shared.good().plus(self.shared.ttl() / 3);
        loop {
            if aba_lock::os::parent_id() != guard {
                drop(server);
                self.guard();
            }
            // A guard that is stopped does not see that the script has ended: then the lease is to end, too.
            if !next.is_past() || self.shared.is_gone() || !self.charge.tie.is_bound(&self.file).unwrap_or(true) {
                thread::sleep(STEP.min(next.left().max(ENDING)));
                continue;
            }
            let mut lease = self.charge.lease.clone();
            (lease.good, lease.ttl) = (self.shared.good(), self.shared.ttl());
            let renewed = match &mut server {
                Some(server) => server.renew(&mut lease),
                None => match server::connect(&self.charge.settings) {
                    Ok(connected) => server.insert(connected).renew(&mut lease),
                    Err(fault) => Err(fault),
                },
            };
            next = match renewed {
                Ok(()) => {
                    self.shared.renewed(&lease);
                    self.charge.lease = lease;
                    self.shared.good().plus(self.shared.ttl() / 3)
                }
                Err(Fault::Gone { .. }) => {
                    self.shared.gone();
                    // The guard is asleep: a child that ends is what it hears at once.
                    sys::leave()
                }
                Err(_) => Moment::now().plus(AGAIN),
            };
        }
    }

    /// Gives the lease back, as long as there may be something to give back, or somebody waits for us to know that it is lost.
    fn give_back(&self) {
        let end = self.shared.good().plus(self.shared.ttl() * 2);
        loop {
            let mut server = server::connect(&self.charge.settings);
            let given = server.as_mut().is_ok_and(|server| server.free(&self.charge.lease.id).is_ok());
            if given || end.is_past() {
                // Who waits for that need not wait for the rest.
                let _ = self.charge.tie.given_back(&self.file);
                let _ = server.and_then(|mut server| server.clear(&self.charge.lease.id));
                return;
            }
            thread::sleep(AGAIN);
        }
    }
}
