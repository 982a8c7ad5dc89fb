//! The loops of the guard and the courier. A guard forks couriers, and a courier becomes the guard if its guard is
//! killed, so they share this file.

use crate::fault::Fault;
use crate::keeper::holders::Holders;
use crate::keeper::kept_lease::KeptLease;
use crate::keeper::loss;
use crate::keeper::shared_state::SharedState;
use crate::on_lost::OnLost;
use crate::os::alarm::Alarm;
use crate::os::clock::Moment;
use crate::os::process;
use crate::server::connect;
use crate::server::lease_server::LeaseServer;
use aba_lock_protocol::sharing::Sharing;
use std::fs::File;
use std::io;
use std::process::Child;
use std::thread;
use std::time::Duration;

/// The longest pause of the guard, because the clock may jump while the machine is suspended.
const GUARD_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause of the courier between two checks that its guard lives.
const COURIER_PAUSE: Duration = Duration::from_millis(200);

/// The pause before the next try to renew the lease or to give it back.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The pause before the next check of processes that must end, and after an error.
const ENDING_PAUSE: Duration = Duration::from_millis(50);

/// The time between SIGKILL and the end of the lease: SIGKILL takes a moment, and clocks may differ.
const MARGIN: Duration = Duration::from_millis(250);

/// The state of one of the two processes.
pub(crate) struct Keeper {
    kept: KeptLease,
    file: File,
    shared: SharedState,
    /// The command of `--on-lost`, while it runs.
    command: Option<Child>,
}

/// The progress of the reaction to the loss of the lease.
enum LossStage {
    /// The lease is not lost.
    Kept,
    /// The loss was reported, and the script must have ended at this moment.
    Reported(Moment),
    /// The guard has done all that it can do.
    Over,
}

impl Keeper {
    pub(crate) fn new(kept: KeptLease, file: File, shared: SharedState) -> Self {
        Self { kept, file, shared, command: None }
    }

    /// Guards the lease until the script has ended or the lease is lost. Does not return.
    pub(crate) fn guard(mut self) -> ! {
        let alarm = Alarm::new();
        let mut courier = self.start_courier();
        let mut started_at = Moment::now();
        let mut stage = LossStage::Kept;
        loop {
            alarm.ring_after(self.choose_pause(&stage));
            match self.kept.binding.wait_for_script(&self.file) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // For example, the kernel has no memory for the lock.
                Err(_) => thread::sleep(ENDING_PAUSE),
            }
            stage = self.handle_loss(stage);
            if matches!(stage, LossStage::Over) {
                break;
            }
            let ttl = self.shared.ttl();
            let is_late = self.shared.renewed_at().plus(ttl / 2).is_past() && started_at.plus(ttl / 6).is_past();
            if let Some(pid) = courier.filter(|_| is_late && !self.shared.is_gone()) {
                process::kill_child(pid);
                courier = None;
            }
            if courier.is_none_or(process::has_ended) && started_at.plus(RETRY_PAUSE).is_past() {
                courier = self.start_courier();
                started_at = Moment::now();
            }
        }
        // From here on, the alarm must not interrupt system calls.
        alarm.ring_after(Duration::from_secs(3600));
        if let Some(pid) = courier {
            process::kill_child(pid);
        }
        self.give_back();
        process::exit_at_once(0)
    }

    fn choose_pause(&self, stage: &LossStage) -> Duration {
        match stage {
            LossStage::Kept => self.shared.reported_at().left().min(GUARD_PAUSE),
            LossStage::Reported(end) if end.is_past() => ENDING_PAUSE,
            LossStage::Reported(end) => end.left().min(GUARD_PAUSE),
            LossStage::Over => GUARD_PAUSE,
        }
    }

    /// Reports a loss and ends the script, each when it is time.
    fn handle_loss(&mut self, stage: LossStage) -> LossStage {
        let end = self.shared.renewed_at().plus(self.shared.ttl().saturating_sub(MARGIN));
        let is_kept = !self.shared.is_gone() && !self.shared.reported_at().is_past();
        let status = self.command.as_mut().and_then(|child| child.try_wait().transpose());
        if status.is_some() {
            self.command = None;
        }
        let command_failed = status.is_some_and(|status| !status.is_ok_and(|status| status.success()));
        match stage {
            // After the report, the lease was renewed after all.
            LossStage::Kept | LossStage::Reported(_) if is_kept => LossStage::Kept,
            // The whole grace has passed unnoticed, so script and guard were frozen. Another process may hold the lock
            // already.
            LossStage::Kept if end.is_past() && self.kept.on_lost != OnLost::Warn => {
                let script = loss::kill_script(&self.kept, &self.file);
                self.kept.on_lost = OnLost::Term;
                let stage = self.kill_holders(end);
                if script.is_some() || matches!(stage, LossStage::Reported(_)) {
                    loss::report_freeze(&self.kept, script);
                }
                stage
            }
            LossStage::Kept => {
                self.begin_loss(end);
                // If the lease is gone, another process may hold it now: the script gets the grace, but no more time
                // than the lease had.
                let is_gone = self.shared.is_gone();
                LossStage::Reported(if is_gone { end.min(Moment::now().plus(self.shared.grace())) } else { end })
            }
            LossStage::Reported(end) if end.is_past() && (command_failed || self.command.is_some()) => {
                loss::kill_script(&self.kept, &self.file);
                self.terminate_instead();
                self.kill_holders(end)
            }
            LossStage::Reported(end) if end.is_past() && self.kept.on_lost == OnLost::Term => {
                loss::kill_script(&self.kept, &self.file);
                self.kill_holders(end)
            }
            LossStage::Reported(end) if end.is_past() => LossStage::Over,
            LossStage::Reported(end) if command_failed => {
                self.terminate_instead();
                LossStage::Reported(end)
            }
            stage => stage,
        }
    }

    /// Reports the loss, and begins the reaction to it.
    fn begin_loss(&mut self, end: Moment) {
        let holders = self.find_holders();
        loss::report_loss(&self.kept, &holders, self.shared.is_gone(), end.left());
        match &self.kept.on_lost {
            OnLost::Term => {
                self.shared.set_ended_holders();
                holders.terminate();
            }
            OnLost::Warn => {}
            // The command of an earlier loss, after which the lease was renewed, still runs.
            OnLost::Run(_) if self.command.is_some() => {}
            OnLost::Run(command) => match loss::start_command(&self.kept, command) {
                Ok(child) => self.command = Some(child),
                Err(_) => self.terminate_instead(),
            },
        }
    }

    /// Finds the processes that hold the lock through the acquisition of this lease.
    fn find_holders(&self) -> Holders {
        let is_shared = self.kept.lease.sharing != Sharing::Exclusive;
        Holders::find(&self.file, is_shared.then_some(self.kept.binding))
    }

    /// Kills all processes that hold the lock. The guard repeats this until there are none, because they may start
    /// others.
    fn kill_holders(&self, end: Moment) -> LossStage {
        if self.find_holders().kill() == 0 { LossStage::Over } else { LossStage::Reported(end) }
    }

    /// Ends the holders of the lock, because the command of `--on-lost` could not be started, failed, or runs too long.
    fn terminate_instead(&mut self) {
        if let Some(mut child) = self.command.take() {
            process::kill_group(&mut child);
        }
        self.kept.on_lost = OnLost::Term;
        self.shared.set_ended_holders();
        self.find_holders().terminate();
    }

    /// Starts another process that renews the lease. `None`: no process can be created now.
    fn start_courier(&mut self) -> Option<i32> {
        let guard = std::process::id();
        match process::fork() {
            Ok(None) => {
                let file = self.file.try_clone().unwrap_or_else(|_| process::exit_at_once(0));
                Self::new(self.kept.clone(), file, self.shared).renew_until_guard_ends(guard)
            }
            Ok(Some(pid)) => Some(pid),
            Err(_) => None,
        }
    }

    /// Renews the lease while this guard lives, and then becomes the guard. Does not return.
    fn renew_until_guard_ends(mut self, guard: u32) -> ! {
        let mut server: Option<Box<dyn LeaseServer>> = None;
        let mut next = self.shared.renewed_at().plus(self.shared.ttl() / 3);
        loop {
            if aba_lock::os::parent_id() != guard {
                drop(server);
                self.guard();
            }
            // If the script has ended while the guard is stopped, the lease must end, too.
            let has_script = || self.kept.binding.has_script(&self.file).unwrap_or(true);
            if !next.is_past() || self.shared.is_gone() || !has_script() {
                thread::sleep(COURIER_PAUSE.min(next.left().max(ENDING_PAUSE)));
                continue;
            }
            let mut lease = self.kept.lease.clone();
            (lease.renewed_at, lease.ttl) = (self.shared.renewed_at(), self.shared.ttl());
            let renewed = match &mut server {
                Some(server) => server.renew(&mut lease),
                None => match connect::connect(&self.kept.settings) {
                    Ok(connected) => server.insert(connected).renew(&mut lease),
                    Err(fault) => Err(fault),
                },
            };
            next = match renewed {
                Ok(()) => {
                    self.shared.store_renewal(&lease);
                    self.kept.lease = lease;
                    self.shared.renewed_at().plus(self.shared.ttl() / 3)
                }
                Err(Fault::Gone { .. }) => {
                    self.shared.set_gone();
                    // The end of this process wakes the guard at once (SIGCHLD).
                    process::exit_at_once(0)
                }
                Err(_) => Moment::now().plus(RETRY_PAUSE),
            };
        }
    }

    /// Gives the lease back. Tries again while the server may still know the lease, because a process may wait for it.
    fn give_back(&self) {
        let end = self.shared.renewed_at().plus(self.shared.ttl() * 2);
        loop {
            let mut server = connect::connect(&self.kept.settings);
            let is_unlocked = server.as_mut().is_ok_and(|server| server.unlock(&self.kept.lease.id).is_ok());
            if is_unlocked || end.is_past() {
                // The byte is unlocked first: a process that waits for it need not wait for the cleanup.
                let _ = self.kept.binding.unlock_keeper_byte(&self.file);
                let _ = server.and_then(|mut server| server.clean_up(&self.kept.lease.id));
                return;
            }
            thread::sleep(RETRY_PAUSE);
        }
    }
}
