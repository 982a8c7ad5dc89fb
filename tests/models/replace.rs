//! Replacing the holder: the newest caller ends the present holder and takes the lock (`--replace`).
//!
//! Each newcomer locks a **ticket**, which is a byte of the lock file. The tickets are the queue of the newcomers: at any time, only the
//! one with the lowest ticket is past step 2, and each newcomer sees whether a later one has come. A **stamp** is one more byte. Like a
//! record, it proves that aba-lock acquired the lock, for a process that still runs.
//!
//! A newcomer:
//!
//! 1. It blocks on the short lock, locks the ticket after the highest one that is locked, and releases the short lock.
//! 2. It blocks until no lower ticket is locked.
//! 3. If a higher ticket is locked, it releases its own and gives up.
//! 4. It tries the lock. If it is granted, it goes to 8.
//! 5. It looks for a proof that aba-lock acquired the lock: a stamp, or the record of this acquisition (or a slot, which this model does
//!    not have). If there is none, it looks again for a second, and then goes to 7.
//! 6. It opens a descriptor for the holder, and then checks that the lock is still held through the same acquisition. If so, it ends the
//!    holder, as `unlock --kill` does.
//! 7. It blocks on the lock.
//! 8. If a higher ticket is locked, it releases the lock, then its ticket, and gives up.
//! 9. It stamps the lock, then releases its ticket, and runs.
//!
//! A caller without `--replace` blocks on the lock, writes the record, and runs. The end of a holder needs no step: its stamp ends with
//! the lock. Its record stays, but is no proof for a later holder.
//!
//! # Promises
//!
//! At most one caller runs. A process is killed only if it held the lock when it was verified, only after it began to run, only
//! by a caller that came later, and by one caller at a time. Runs begin in the order of the tickets. The newest caller runs, unless it is
//! killed itself; all earlier ones that do not run give up.
//!
//! # Limits
//!
//! A holder that releases the lock between the check and the signal of step 6 is still killed, as with `unlock --kill`. If the
//! newest caller crashes, earlier ones may have given up already, so possibly no caller runs. A plain flock(1) writes no record: newcomers
//! only wait for it, and say so. Callers without `--replace` that waited for the lock before step 7 run first.
//!
//! # For the implementation
//!
//! - A ticket needs no memory in the file: a record would be overwritten by the next holder, and a file of the user has none. It ends with
//!   its process, so no crash leaves one. The numbers begin again when there is no newcomer.
//! - The tickets are `F_OFD_SETLK` locks on a descriptor that only this process has. The stamp is one on the descriptor of the lock, so
//!   children inherit it with the lock.
//! - The acquisition is identified by its locker, the process that called flock(2). The pid of the holder is not enough: a script
//!   may have released the lock and acquired it again.
//! - While the first newcomer gives the holder its time between SIGTERM and SIGKILL, the others wait at step 2. So the holder gets one
//!   SIGTERM.
//! - An ancestor of the caller is never killed: the call fails instead. The same holds for a process that cannot be verified.
//! - With `--timeout`, the limit covers all waits. A caller that gives up then may have killed the holder already. `-n` is refused.

use crate::checker::{Checked, Protocol, WorldOf, assert_broken, assert_kept};
use crate::kernel::{Kernel, Mode, Pid};
use crate::world::World;
use stateright::Property;

const LOCK: usize = 0;
const SHORT: usize = 1;
/// The ticket of process 0. Those of the others follow.
const TICKETS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplaceRole {
    Newcomer,
    Holder,
    /// A holder that releases the lock, and acquires it again.
    Again,
    /// flock(1), which writes no record.
    Plain,
}
use ReplaceRole::{Again, Holder, Newcomer, Plain};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplaceFault {
    None,
    NoShortLock,
    NoQueue,
    NoVerification,
    PidVerified,
    NoTicketCheck,
    TicketReleasedEarly,
    StampIgnored,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ReplaceStep {
    BlockShort,
    Count,
    LockTicket,
    ReleaseShort,
    AwaitLower,
    CheckNewest,
    Try,
    Look,
    Open,
    Verify,
    Kill,
    BlockLock,
    CheckTicket,
    GiveUpLock,
    GiveUpTicket,
    Stamp,
    ReleaseTicket,
    Run,
    End,
}
use ReplaceStep::{
    AwaitLower, BlockLock, BlockShort, CheckNewest, CheckTicket, Count, End, GiveUpLock, GiveUpTicket, Kill,
    LockTicket, Look, Open, ReleaseShort, ReleaseTicket, Run, Stamp, Try, Verify,
};

/// The holder that a newcomer is about to kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Victim {
    pid: u8,
    /// The number of the acquisition by that process.
    acquisition: u8,
    /// True if the acquisition was still that of the look when the descriptor of the process was opened.
    holds: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ReplaceNotes {
    /// The number of tickets that were drawn.
    drawn: u8,
    /// For each process: the place of its ticket among all that were drawn, from 1. A holder has none, which is 0.
    order: Vec<u8>,
    /// For each process: the number of its ticket.
    tickets: Vec<u8>,
    /// For each process: the one for whose ticket it waits.
    awaited: Vec<Option<u8>>,
    /// For each process: the number of its present or next acquisition, and of the last one that has a stamp or record.
    acquisitions: Vec<u8>,
    stamped: Vec<u8>,
    victims: Vec<Option<Victim>>,
    /// For each process: the number of tickets that were drawn when it was granted the lock.
    drawn_at_grant: Vec<u8>,
    /// One bit for each process: it has run; it was killed by a crash.
    has_run: u8,
    crashed: u8,
    /// The place of the ticket of the last run.
    last_run: u8,
    is_out_of_order: bool,
    was_superseded_run: bool,
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
    fn has_ticket(world: &ReplaceWorld, pid: Pid) -> bool {
        world.locks[TICKETS + pid].owner() == Some(pid)
    }

    /// Returns the highest ticket that is locked.
    fn find_highest_ticket(world: &ReplaceWorld) -> u8 {
        let held = world.pids().filter(|pid| Self::has_ticket(world, *pid));
        held.map(|pid| world.memory.tickets[pid]).max().unwrap_or(0)
    }

    fn is_newest(world: &ReplaceWorld, pid: Pid) -> bool {
        Self::find_highest_ticket(world) <= world.memory.tickets[pid]
    }

    /// Returns the process that holds the lock, and the number of its acquisition.
    fn find_acquisition(world: &ReplaceWorld) -> Option<(u8, u8)> {
        let owner = world.locks[LOCK].owner()?;
        Some((u8::try_from(owner).ok()?, world.memory.acquisitions[owner]))
    }

    fn is_holder_stamped(world: &ReplaceWorld) -> bool {
        Self::find_acquisition(world).is_some_and(|(pid, number)| world.memory.stamped[Pid::from(pid)] == number)
    }

    /// Notes the tickets that were drawn before a newcomer was granted the lock.
    fn note_grant(&self, world: &mut ReplaceWorld, pid: Pid) -> ReplaceStep {
        world.memory.drawn_at_grant[pid] = world.memory.drawn;
        if self.fault == ReplaceFault::NoTicketCheck { Stamp } else { CheckTicket }
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

    /// Waits for one lower ticket after the other. The kernel grants the range of all of them when none is locked. As long as a ticket is
    /// locked, no lower one is drawn.
    fn await_lower_tickets(world: &mut ReplaceWorld, pid: Pid) -> ReplaceStep {
        let mine = world.memory.tickets[pid];
        let is_lower = |other: &Pid| Self::has_ticket(world, *other) && world.memory.tickets[*other] < mine;
        let lower = world.memory.awaited[pid].map(Pid::from).or_else(|| world.pids().find(is_lower));
        let Some(lower) = lower else { return CheckNewest };
        let is_granted = world.request(pid, TICKETS + lower, Mode::Exclusive);
        world.memory.awaited[pid] = u8::try_from(lower).ok().filter(|_| !is_granted);
        if is_granted {
            world.release(pid, TICKETS + lower);
        }
        AwaitLower
    }
}

impl Protocol for Replace {
    type Step = ReplaceStep;
    type Memory = ReplaceNotes;

    const END: ReplaceStep = End;

    fn start(&self) -> ReplaceWorld {
        let first = |role: &ReplaceRole| match role {
            Newcomer if self.fault == ReplaceFault::NoShortLock => Count,
            Newcomer => BlockShort,
            Holder | Again | Plain => BlockLock,
        };
        let len = self.roles.len();
        let notes = ReplaceNotes {
            drawn: 0,
            order: vec![0; len],
            tickets: vec![0; len],
            awaited: vec![None; len],
            acquisitions: vec![1; len],
            stamped: vec![0; len],
            victims: vec![None; len],
            drawn_at_grant: vec![0; len],
            has_run: 0,
            crashed: 0,
            last_run: 0,
            is_out_of_order: false,
            was_superseded_run: false,
            was_stranger_killed: false,
            was_newer_killed: false,
            was_waiter_killed: false,
        };
        World::new(self.kernel, self.crashes, self.roles.iter().map(first).collect(), TICKETS + len, notes)
    }

    fn take_step(&self, world: &mut ReplaceWorld, pid: Pid, step: ReplaceStep) -> ReplaceStep {
        match step {
            BlockShort => world.block(pid, SHORT, BlockShort, Count),
            Count => {
                world.memory.tickets[pid] = Self::find_highest_ticket(world) + 1;
                LockTicket
            }
            LockTicket => {
                assert!(world.attempt(pid, TICKETS + pid, Mode::Exclusive), "no other process has this ticket");
                world.memory.drawn += 1;
                world.memory.order[pid] = world.memory.drawn;
                ReleaseShort
            }
            ReleaseShort => {
                world.release(pid, SHORT);
                if self.fault == ReplaceFault::NoQueue { CheckNewest } else { AwaitLower }
            }
            AwaitLower => Self::await_lower_tickets(world, pid),
            CheckNewest if Self::is_newest(world, pid) => Try,
            CheckNewest => GiveUpTicket,
            Try if world.attempt(pid, LOCK, Mode::Exclusive) => self.note_grant(world, pid),
            Try => Look,
            Look => match world.locks[LOCK].owner() {
                None => Try,
                Some(_) if self.fault != ReplaceFault::StampIgnored && !Self::is_holder_stamped(world) => BlockLock,
                Some(_) => {
                    let found = Self::find_acquisition(world);
                    world.memory.victims[pid] =
                        found.map(|(pid, acquisition)| Victim { pid, acquisition, holds: false });
                    Open
                }
            },
            Open => {
                let acquisition = Self::find_acquisition(world);
                if let Some(victim) = &mut world.memory.victims[pid] {
                    victim.holds = acquisition == Some((victim.pid, victim.acquisition));
                }
                if self.fault == ReplaceFault::NoVerification { Kill } else { Verify }
            }
            Verify => {
                let (acquisition, victim) = (Self::find_acquisition(world), world.memory.victims[pid]);
                let is_same = victim.map(|victim| (victim.pid, victim.acquisition)) == acquisition;
                let has_same_pid = victim.map(|victim| victim.pid) == acquisition.map(|(pid, _)| pid);
                if is_same || has_same_pid && self.fault == ReplaceFault::PidVerified {
                    if let Some((holder, _)) = acquisition {
                        let holder = Pid::from(holder);
                        world.memory.was_newer_killed |= world.memory.order[holder] > world.memory.order[pid];
                        let has_begun = matches!(world.steps[holder], ReleaseTicket | Run);
                        world.memory.was_waiter_killed |= world.is_alive(holder) && !has_begun;
                    }
                    return Kill;
                }
                world.memory.victims[pid] = None;
                BlockLock
            }
            Kill => {
                Self::kill_victim(world, pid);
                if self.fault == ReplaceFault::TicketReleasedEarly {
                    world.release(pid, TICKETS + pid);
                }
                BlockLock
            }
            BlockLock if !world.request(pid, LOCK, Mode::Exclusive) => BlockLock,
            BlockLock => match self.roles[pid] {
                Plain => Run,
                Newcomer => self.note_grant(world, pid),
                Holder | Again => Stamp,
            },
            CheckTicket if Self::is_newest(world, pid) => Stamp,
            CheckTicket => GiveUpLock,
            GiveUpLock => {
                world.release(pid, LOCK);
                GiveUpTicket
            }
            GiveUpTicket => {
                world.release(pid, TICKETS + pid);
                End
            }
            Stamp => {
                let drawn_before = world.memory.order[pid] + 1..=world.memory.drawn_at_grant[pid];
                let is_later =
                    |other| drawn_before.contains(&world.memory.order[other]) && Self::has_ticket(world, other);
                let is_superseded = world.pids().any(is_later);
                let notes = &mut world.memory;
                notes.stamped[pid] = notes.acquisitions[pid];
                if notes.order[pid] == 0 {
                    return Run;
                }
                notes.has_run |= 1 << pid;
                notes.was_superseded_run |= is_superseded;
                notes.is_out_of_order |= notes.order[pid] < notes.last_run;
                notes.last_run = notes.order[pid];
                ReleaseTicket
            }
            ReleaseTicket => {
                world.release(pid, TICKETS + pid);
                Run
            }
            Run | End => {
                world.release(pid, LOCK);
                world.memory.acquisitions[pid] += 1;
                if self.roles[pid] == Again && world.memory.acquisitions[pid] == 2 { BlockLock } else { End }
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
            Self::always(ONE_KILLS, |_, world| world.count(|_, step| matches!(step, Open | Verify | Kill)) <= 1),
            Self::always(NEWEST_BEGINS, |_, world| !world.memory.was_superseded_run),
            Self::always(IN_ORDER, |_, world| !world.memory.is_out_of_order),
            Self::always(NEWEST_RUNS, |model, world| {
                let done = world.memory.has_run | world.memory.crashed;
                let newest = |pid: &Pid| world.memory.drawn > 0 && world.memory.order[*pid] == world.memory.drawn;
                !model.is_final(world) || world.pids().filter(newest).all(|pid| done >> pid & 1 == 1)
            }),
            Self::sometimes("an earlier newcomer gives up", |_, world| {
                world.count(|_, step| matches!(step, GiveUpTicket | GiveUpLock)) > 0
            }),
        ]
    }
}

const VERIFIED: &str = "a process is killed only if it held the lock as before when its descriptor was opened";
const NEWEST_KILLS: &str = "no process is killed by a caller that came before it";
const RUNNING: &str = "no caller is killed that had not begun to run when it was verified";
const ONE_KILLS: &str = "one caller at a time ends a holder";
const IN_ORDER: &str = "runs begin in the order of the tickets";
const NEWEST_BEGINS: &str = "no caller runs if a later one had come when it was granted the lock";
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
    let with_holder = |fault| Replace { roles: &[Newcomer, Newcomer, Holder], ..faulty(fault) };
    assert_broken(with_holder(ReplaceFault::NoShortLock), ONE_KILLS);
    assert_broken(with_holder(ReplaceFault::NoQueue), ONE_KILLS);
    assert_broken(faulty(ReplaceFault::NoVerification), VERIFIED);
    assert_broken(Replace { roles: &[Newcomer, Again], ..faulty(ReplaceFault::PidVerified) }, RUNNING);
    assert_broken(with_holder(ReplaceFault::NoTicketCheck), NEWEST_BEGINS);
    assert_broken(with_holder(ReplaceFault::TicketReleasedEarly), IN_ORDER);
    assert_broken(with_holder(ReplaceFault::StampIgnored), RUNNING);
}
