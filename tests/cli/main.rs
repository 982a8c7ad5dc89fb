//! Black-box tests of the binary: what it prints, how it ends, and what others find.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the walls are those of the program; tests set scenes and may break things"
)]

mod clean;
mod command;
mod deadlock;
mod doctor;
mod events;
mod fault;
mod fire;
mod flock;
mod flock_same;
mod kill;
mod list;
mod lock;
mod metrics;
mod names;
mod oracle;
mod queue;
mod reserve;
mod reserve_faults;
mod reserve_gone;
mod reserve_odd;
mod reserve_room;
mod run_once;
mod run_once_attacks;
mod run_once_faults;
mod run_once_fire;
mod scene;
mod sight;
mod status;
mod terminal;
mod update;
