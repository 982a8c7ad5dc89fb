//! Models of the protocols between processes, each explored completely: every order of steps of three processes or more, with a
//! crash before any step.
//!
//! Run them with `cargo test -p aba-lock-models`, which takes less than a minute; `make test` does so, too. With
//! `-- --nocapture`, each test prints the numbers of states.
//!
//! A model has the same steps as the protocol that ARCHITECTURE.md describes. Its module doc lists them, and says what holds.
//! Each model is also checked with faults: a test asserts that the checker finds each of them.

#![allow(clippy::match_same_arms, clippy::too_many_lines, reason = "a protocol is a table of steps")]

mod acquire;
mod checker;
mod coalesce;
mod kernel;
mod priority;
mod slots;
mod world;
mod writers;
