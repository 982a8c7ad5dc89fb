//! Replacing the holder: the newest caller ends the present holder and takes the lock (`--replace`).
//!
//! Each newcomer draws a **ticket** from a counter under a **short lock**, which is never held while a process waits for the lock
//! itself. A holder record names the process that runs.
//!
//! A newcomer:
//!
//! 1. It blocks on the short lock, and draws the next ticket.
//! 2. It tries the lock. If it is granted, it goes to 8.
//! 3. It compares the acquisition that the kernel names with the record. If they differ, it releases the short lock, and waits
//!    until they agree or the lock is free. Then it blocks on the short lock. If its ticket is still the newest, it goes to 2.
//!    Otherwise, it releases the short lock and gives up.
//! 4. It releases the short lock.
//! 5. It opens a descriptor for the holder, and then checks that the lock is still held through the same acquisition. If so,
//!    it ends the holder, as `unlock --kill` does.
//! 6. It blocks on the lock.
//! 7. It blocks on the short lock. If its ticket is no longer the newest, it releases both locks and gives up.
//! 8. It writes the record, releases the short lock, and runs.
//!
//! A holder without `--replace` blocks on the lock, writes the record, and runs. Its end needs no step: the record stays, and names
//! no holder any more.
//!
//! # Promises
//!
//! At most one caller runs. A process is killed only if it held the lock when it was verified, only after it began to run, and only
//! by a caller that was newer then. Runs begin in the order of the tickets. The newest caller runs, unless it is killed itself; all earlier
//! ones that do not run give up.
//!
//! # Limits
//!
//! A holder that releases the lock between the check and the signal of step 5 is still killed, as with `unlock --kill`. If the
//! newest caller crashes after it has killed the holder, possibly no caller runs. A plain flock(1) writes no record: newcomers only
//! wait for it, and say so. Callers without `--replace` that waited for the lock before step 6 run first.
//!
//! # For the implementation
//!
//! - The short lock is a byte of the lock file, the counter is a line of the record. A file with foreign data cannot hold
//!   them, so `--replace` is refused for it.
//! - The acquisition is identified by its locker, the process that called flock(2). The pid of the holder is not enough: a script
//!   may have released the lock and acquired it again, as the newest caller.
//! - The grace between SIGTERM and SIGKILL may take seconds, so the holder is ended without the short lock.
//! - Step 3 protects a newcomer that was granted the lock in step 6 and has not reached step 8: it gives up by itself, with
//!   status 75 and a sentence, and not by a signal.
//! - An ancestor of the caller is never killed: the call fails instead. The same holds for a process that cannot be verified.
//! - With `--timeout`, the limit covers all waits. A caller that gives up then has killed the holder already. `-n` is refused.

use crate::checker::{ALL_END, Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;

const LOCK: usize = 0;
const SHORT: usize = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplaceRole {
    Newcomer,
    Holder,
    /// A holder that releases the lock, and is a newcomer afterwards.
    Again,
    /// flock(1), which writes no record.
    Plain,
}
use ReplaceRole::{Again, Holder, Newcomer, Plain};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplaceFault {
    None,
    NoVerification,
    PidVerified,
    NoTicketCheck,
    RecordIgnored,
    ShortLockHeldDuringWait,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ReplaceStep {
    BlockShort,
    Draw,
    Try,
    Look,
    AwaitRecord,
    BlockShortAgain,
    CheckNewest,
    Open,
    Verify,
    Kill,
    ReleaseShort,
    BlockLock,
    BlockShortLast,
    CheckTicket,
    GiveUpLock,
    GiveUpShort,
    Record,
    ReleaseShortToRun,
    Run,
    End,
}
use ReplaceStep::{
    AwaitRecord, BlockLock, BlockShort, BlockShortAgain, BlockShortLast, CheckNewest, CheckTicket, Draw, End,
    GiveUpLock, GiveUpShort, Kill, Look, Open, Record, ReleaseShort, ReleaseShortToRun, Run, Try, Verify,
};

/// The holder that a newcomer is about to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Victim {
    pid: u8,
    ticket: u8,
    /// True if the acquisition was still that of the look when the descriptor of the process was opened.
    holds: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ReplaceNotes {
    newest: u8,
    /// The recorded process, and its ticket.
    record: Option<(u8, u8)>,
    /// The ticket of each process. A holder has none, which is 0.
    tickets: Vec<u8>,
    victims: Vec<Option<Victim>>,
    /// One bit for each process: it has run; it was killed by a crash.
    has_run: u8,
    crashed: u8,
    /// The ticket of the last run.
    last_run: u8,
    is_out_of_order: bool,
    was_stranger_killed: bool,
    was_newer_killed: bool,
    was_waiter_killed: bool,
}

#[derive(Debug, Clone)]
struct Replace {
    kernel: Kernel,
    roles: &'static [ReplaceRole],
    crashes: u8,
    fault: ReplaceFault,
}

type ReplaceWorld = WorldOf<Replace>;

impl Replace {
    fn is_newest(world: &ReplaceWorld, pid: Pid) -> bool {
        world.memory.tickets[pid] == world.memory.newest
    }

    /// Returns the process that holds the lock, and its ticket. Together they stand for the acquisition.
    fn find_acquisition(world: &ReplaceWorld) -> Option<(u8, u8)> {
        let owner = world.locks[LOCK].owner()?;
        Some((u8::try_from(owner).ok()?, world.memory.tickets[owner]))
    }

    fn is_holder_recorded(world: &ReplaceWorld) -> bool {
        world.memory.record == Self::find_acquisition(world)
    }

    fn kill_victim(world: &mut ReplaceWorld, pid: Pid) {
        let Some(Victim { pid: victim, holds, .. }) = world.memory.victims[pid].take() else { return };
        let victim = Pid::from(victim);
        let notes = &mut world.memory;
        // The pid of a process that has ended may be that of a stranger.
        notes.was_stranger_killed |= !holds;
        if world.is_alive(victim) && world.steps[victim] != End {
            world.kill(victim);
            world.memory.crashed |= 1 << victim;
            world.memory.victims[victim] = None;
            world.steps[victim] = End;
        }
    }
}

impl Protocol for Replace {
    type Step = ReplaceStep;
    type Memory = ReplaceNotes;

    const END: ReplaceStep = End;

    fn start(&self) -> ReplaceWorld {
        let first = |role: &ReplaceRole| if *role == Newcomer { BlockShort } else { BlockLock };
        let notes = ReplaceNotes {
            newest: 0,
            record: None,
            tickets: vec![0; self.roles.len()],
            victims: vec![None; self.roles.len()],
            has_run: 0,
            crashed: 0,
            last_run: 0,
            is_out_of_order: false,
            was_stranger_killed: false,
            was_newer_killed: false,
            was_waiter_killed: false,
        };
        World::new(self.kernel, self.crashes, self.roles.iter().map(first).collect(), 2, notes)
    }

    fn is_waiting(&self, world: &ReplaceWorld, pid: Pid) -> bool {
        world.steps[pid] == AwaitRecord && world.locks[LOCK].is_held() && !Self::is_holder_recorded(world)
    }

    fn take_step(&self, world: &mut ReplaceWorld, pid: Pid, step: ReplaceStep) -> ReplaceStep {
        match step {
            BlockShort => world.block(pid, SHORT, BlockShort, Draw),
            Draw => {
                world.memory.newest += 1;
                world.memory.tickets[pid] = world.memory.newest;
                Try
            }
            Try if world.attempt(pid, LOCK, Mode::Exclusive) => Record,
            Try => Look,
            Look => match world.locks[LOCK].owner() {
                None => Try,
                Some(_) if self.fault != ReplaceFault::RecordIgnored && !Self::is_holder_recorded(world) => {
                    if self.fault != ReplaceFault::ShortLockHeldDuringWait {
                        world.release(pid, SHORT);
                    }
                    AwaitRecord
                }
                Some(_) => {
                    let acquisition = Self::find_acquisition(world);
                    world.memory.victims[pid] = acquisition.map(|(pid, ticket)| Victim { pid, ticket, holds: false });
                    ReleaseShort
                }
            },
            AwaitRecord => BlockShortAgain,
            BlockShortAgain => world.block(pid, SHORT, BlockShortAgain, CheckNewest),
            CheckNewest if Self::is_newest(world, pid) => Try,
            CheckNewest => GiveUpShort,
            ReleaseShort => {
                world.release(pid, SHORT);
                Open
            }
            Open => {
                let acquisition = Self::find_acquisition(world);
                if let Some(victim) = &mut world.memory.victims[pid] {
                    victim.holds = acquisition == Some((victim.pid, victim.ticket));
                }
                if self.fault == ReplaceFault::NoVerification { Kill } else { Verify }
            }
            Verify => {
                let (acquisition, victim) = (Self::find_acquisition(world), world.memory.victims[pid]);
                let is_same = victim.map(|victim| (victim.pid, victim.ticket)) == acquisition;
                let has_same_pid = victim.map(|victim| victim.pid) == acquisition.map(|(pid, _)| pid);
                if is_same || has_same_pid && self.fault == ReplaceFault::PidVerified {
                    if let Some((holder, ticket)) = acquisition {
                        world.memory.was_newer_killed |= ticket > world.memory.tickets[pid];
                        let (holder, step) = (Pid::from(holder), world.steps[Pid::from(holder)]);
                        let has_begun = matches!(step, ReleaseShortToRun | Run);
                        world.memory.was_waiter_killed |= world.is_alive(holder) && !has_begun;
                    }
                    return Kill;
                }
                world.memory.victims[pid] = None;
                BlockLock
            }
            Kill => {
                Self::kill_victim(world, pid);
                BlockLock
            }
            BlockLock if !world.request(pid, LOCK, Mode::Exclusive) => BlockLock,
            BlockLock => match self.roles[pid] {
                Newcomer | Again if world.memory.tickets[pid] > 0 => BlockShortLast,
                Newcomer | Holder | Again => Record,
                Plain => Run,
            },
            BlockShortLast => world.block(pid, SHORT, BlockShortLast, CheckTicket),
            CheckTicket if Self::is_newest(world, pid) || self.fault == ReplaceFault::NoTicketCheck => Record,
            CheckTicket => GiveUpLock,
            GiveUpLock => {
                world.release(pid, LOCK);
                GiveUpShort
            }
            GiveUpShort => {
                world.release(pid, SHORT);
                End
            }
            Record => {
                world.memory.record = Self::find_acquisition(world);
                if world.memory.tickets[pid] == 0 {
                    return Run;
                }
                world.memory.has_run |= 1 << pid;
                world.memory.is_out_of_order |= world.memory.tickets[pid] < world.memory.last_run;
                world.memory.last_run = world.memory.tickets[pid];
                ReleaseShortToRun
            }
            ReleaseShortToRun => {
                world.release(pid, SHORT);
                Run
            }
            Run | End => {
                world.release(pid, LOCK);
                if self.roles[pid] == Again && world.memory.tickets[pid] == 0 { BlockShort } else { End }
            }
        }
    }

    fn note_crash(&self, world: &mut ReplaceWorld, pid: Pid) {
        world.memory.crashed |= 1 << pid;
        world.memory.victims[pid] = None;
    }

    fn promises() -> Vec<Property<Checked<Self>>> {
        vec![
            Self::always("at most one caller runs", |_, world| world.count(|_, step| *step == Run) <= 1),
            Self::always(VERIFIED, |_, world| !world.memory.was_stranger_killed),
            Self::always(NEWEST_KILLS, |_, world| !world.memory.was_newer_killed),
            Self::always(RUNNING, |_, world| !world.memory.was_waiter_killed),
            Self::always(IN_ORDER, |_, world| !world.memory.is_out_of_order),
            Self::always(NEWEST_RUNS, |model, world| {
                let done = world.memory.has_run | world.memory.crashed;
                let newest = |pid: &Pid| world.memory.newest > 0 && Self::is_newest(world, *pid);
                !model.is_final(world) || world.pids().filter(newest).all(|pid| done >> pid & 1 == 1)
            }),
            Self::sometimes("an earlier newcomer gives up", |_, world| {
                world.count(|_, step| matches!(step, GiveUpShort | GiveUpLock)) > 0
            }),
        ]
    }
}

const VERIFIED: &str = "a process is killed only if it held the lock as before when its descriptor was opened";
const NEWEST_KILLS: &str = "no process is killed that was the newer caller when it was verified";
const RUNNING: &str = "no caller is killed that had not begun to run when it was verified";
const IN_ORDER: &str = "runs begin in the order of the tickets";
const NEWEST_RUNS: &str = "the newest caller runs, unless it is killed";

const NEWCOMERS: Replace =
    Replace { kernel: Kernel::Linux, roles: &[Newcomer, Newcomer, Newcomer], crashes: 3, fault: ReplaceFault::None };

#[test]
fn of_several_newcomers_the_newest_runs_and_the_others_give_up() {
    for kernel in Kernel::ALL {
        assert_kept(Replace { kernel, ..NEWCOMERS });
        assert_kept(Replace { kernel, roles: &[Newcomer, Newcomer, Newcomer, Holder], crashes: 1, ..NEWCOMERS });
    }
}

#[test]
fn a_newcomer_ends_a_recorded_holder_and_waits_for_any_other() {
    for kernel in Kernel::ALL {
        assert_kept(Replace { kernel, roles: &[Newcomer, Newcomer, Holder], ..NEWCOMERS });
        assert_kept(Replace { kernel, roles: &[Newcomer, Newcomer, Plain], ..NEWCOMERS });
        assert_kept(Replace { kernel, roles: &[Newcomer, Newcomer, Again], ..NEWCOMERS });
    }
}

#[test]
fn each_fault_of_replacing_is_found() {
    let faulty = |fault| Replace { fault, crashes: 0, ..NEWCOMERS };
    let again = |fault| Replace { roles: &[Newcomer, Again], ..faulty(fault) };
    assert_broken(faulty(ReplaceFault::NoVerification), VERIFIED);
    assert_broken(again(ReplaceFault::PidVerified), NEWEST_KILLS);
    assert_broken(faulty(ReplaceFault::NoTicketCheck), IN_ORDER);
    assert_broken(faulty(ReplaceFault::RecordIgnored), RUNNING);
    assert_broken(faulty(ReplaceFault::ShortLockHeldDuringWait), ALL_END);
}
