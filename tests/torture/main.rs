//! The torture rack: whether the helper keeps its word when it is killed, refused and hindered at every step.
//!
//! `make torture MINUTES=60 SEED=7`, or as a part of `make test` for half a minute. It drives the helper in
//! `ABA_LOCK_BIN` (else the one that cargo built) from outside, as scripts do. Three turns:
//!
//! 1. The checker is given histories that are wrong (`checker_test.rs`): it must be able to fail.
//! 2. Step by step (`systematic.rs`, `scenes/`): for each primitive, free, contended, nested and beside the litter of
//!    another, SIGKILL before each system call, and each error that fits it. A *step* is one such call of the helper, with
//!    what must hold after it, the next ordinary call among that.
//! 3. Random walks (`walk.rs`, `actors.rs`, `faults.rs`): many actors at once, with kills, stops, lock files removed and
//!    renamed, a full disk, a read-only one, other clocks, reused pids, thousands of names. Each writes what it did into a
//!    history, which `checker.rs` judges, that knows the rules alone. A step is one call of the helper.
//!
//! `ABA_TORTURE_ONLY=walk` leaves the steps out; any other value plays the scenes alone that have it in their names.
//!
//! A seed makes the same choices again; who is faster is the kernel's choice. Where a rule is broken, the seed is printed,
//! and the history is kept in `target/tmp`.
//!
//! All of it happens in namespaces of its own (pid, mount; of an ordinary user also user), where that is allowed: there
//! the kernel ends every process and every mount with the rack, even where that is killed. Elsewhere another process sees
//! to that. What a machine does not allow is said.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::exit,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the walls are those of the program; a rack breaks things"
)]

mod act;
mod actors;
mod apart;
mod calls;
mod checker;
mod checker_test;
mod dice;
mod driver;
mod errors;
mod faults;
mod history;
mod kernel;
mod place;
mod rack;
mod scenes;
mod systematic;
mod walk;

use std::path::PathBuf;
use std::process::exit;

/// In the environment of all that the rack starts; its value is that of this rack.
const MARK: &str = "ABA_TORTURE_MARK";

/// The shell library under test.
const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shell/aba-lock.bash");

/// The helper under test.
fn helper() -> PathBuf {
    let given = std::env::var_os("ABA_LOCK_BIN").map(PathBuf::from);
    std::fs::canonicalize(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_aba-lock").into())).expect("the helper is built")
}

fn main() {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    exit(match words[..] {
        ["act", ref what @ ..] => act::act(what),
        ["apart", ..] => apart::first_process(),
        ["rack", ..] => rack::run(),
        ["worker", ref what @ ..] => rack::work(what),
        ["undertaker", directory] => apart::bury(directory),
        // Of `cargo test`: options of the harness that this is not, and names of tests.
        _ if words.iter().any(|word| !word.starts_with('-') && !"torture".contains(word)) => rack::nothing(),
        _ => apart::enter(),
    })
}
