//! Torture tests of the helper: is every promise kept if the helper is killed, stopped, or refused a system call at any step?
//!
//! `make torture MINUTES=60 SEED=7` runs them; `make test` runs a short turn with a fixed seed. They call the helper in
//! `ABA_LOCK_BIN` (by default the one that cargo built) from outside, as scripts do. There are three parts:
//!
//! 1. Wrong histories (`sample_histories`) are given to the checker, to show that it can fail.
//! 2. Step by step (`steps`, `scenes`): each command is called when the lock is free, held and nested, and among the remains of a
//!    killed process. For each system call of the helper, one step kills the helper before that call, and one more step for
//!    each error that fits the call makes it fail. After each step, the rules of the scene must hold, and an ordinary call must
//!    succeed.
//! 3. Random walks (`walk`, `slot`, `actions`, `disturbances`): many actors call the helper at the same time. They are killed and
//!    stopped; lock files are removed and renamed; a disk is full or read-only; clocks differ; pids are reused; there are
//!    thousands of names. From time to time, most actors meet at one lock, and replace its holder, rely on one another or have
//!    priorities (`order_actions`). Each actor writes what it does into a history. The checker (`checker`), which only knows the
//!    rules, judges the history. A step is one call of the helper.
//!
//! The rule of a walk that no deadlock is reported was seen to fail with a helper that takes each process for one that waits for its
//! waiter, and the rule that no process of the helper is left with watchers and holders that do not end.
//!
//! `ABA_TORTURE_ONLY=walk` runs the walks alone; any other value runs the scenes whose names contain it.
//!
//! A short turn plays all scenes, but only some of the steps of each, and three short walks. The same seed makes the same choices, but the
//! kernel decides which process is faster. Without `ABA_TORTURE_SEED`, the seed is always the same; `make torture` sets the variable
//! to `random`. If a rule is broken, the seed is printed and the history is kept in `target/tmp`.
//!
//! The run takes place in new namespaces (pid and mount; for an ordinary user also user), in which the kernel ends all
//! processes and mounts with the run, even if the run is killed. Where namespaces are not allowed, another process cleans
//! up (`isolation`). The run prints what the machine does not allow.
//!
//! The program calls itself with a role as its first argument; see `main`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::exit,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the lints hold for the helper, and not for programs that test it"
)]

mod actions;
mod checker;
mod contention;
mod disturbances;
mod driver;
mod environment;
mod history;
mod isolation;
mod kernel;
mod lock_rules;
mod order_actions;
mod order_payloads;
mod order_rules;
mod payload;
mod place;
mod policy_actions;
mod policy_payloads;
mod random;
mod sample_histories;
mod scene;
mod scenes;
mod slot;
mod stage;
mod steps;
mod suite;
mod syscalls;
mod walk;

use std::process::exit;

fn main() {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    exit(match words[..] {
        ["payload", ref what @ ..] => payload::run(what),
        ["init", ..] => isolation::run_init(),
        ["suite", ..] => suite::run(),
        ["worker", ref what @ ..] => suite::run_worker(what),
        ["cleaner", directory] => isolation::kill_marked_processes(directory),
        // `cargo test` passes the options of its own harness, and names of tests, to every test program.
        _ if words.iter().any(|word| !word.starts_with('-') && !"torture".contains(word)) => suite::report_nothing(),
        _ => isolation::run_isolated(),
    })
}
