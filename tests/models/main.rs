//! Models of the protocols between processes, each explored completely: every order of steps of three processes or more, with a
//! crash before any step.
//!
//! Run them with `cargo test -p aba-lock-models`, which takes about 15 seconds of CPU time; `make test` does so, too. With
//! `-- --nocapture`, each test prints the numbers of states.
//!
//! | model | protocol | state of the code | states |
//! |---|---|---|---|
//! | [`acquire`] | one lock and several, next to `clean` and strangers | built | 82,000 |
//! | [`run_once`] | the handover of a task from its starter to its supervisor | built | 10,000 |
//! | [`writers`] | the turnstile: readers do not keep a writer out | built | 177,000 |
//! | [`slots`] | `--slots N` | built | 913,000 |
//! | [`priority`] | `--priority` | built | 729,000 |
//! | [`coalesce`] | `--coalesce` | built | 1,036,000 |
//! | [`replace`] | `--replace` | built | 758,000 |
//! | [`bound`] | `aba_lock_operation --no-inherit` | built | 4,000 |
//! | [`max_time`] | `--max-time` | built | 3,800 |
//! | [`wait_free`] | `aba-lock wait` | built | 13,000 |
//!
//! The doc of a model lists the steps of the protocol, its promises, and decisions for the implementation. If code and model
//! differ, one of them is wrong: change the model first, and then the code. For each model, a test injects faults, such
//! as two steps in the wrong order, and asserts that the checker finds each of them.
//!
//! The models are separate. Where policies meet, such as slots with priorities, the module docs say how, but no model has both.
//!
//! Most models run with three kernels, because the kernel's order of waiters matters ([`kernel`]): Linux wakes waiters, which then
//! try again; others hand the lock over, or serve any waiter.

#![allow(clippy::match_same_arms, clippy::too_many_lines, reason = "a protocol is a table of steps")]

mod acquire;
mod bound;
mod checker;
mod coalesce;
mod kernel;
mod max_time;
mod priority;
mod replace;
mod run_once;
mod slots;
mod wait_free;
mod world;
mod writers;
