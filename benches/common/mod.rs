//! What the benches share: they are programs that run others in turn, and print the ratio of their medians.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The helper that is measured.
pub(crate) fn helper() -> String {
    std::env::var("ABA_LOCK_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_aba-lock").to_owned())
}

/// How long a command takes.
pub(crate) fn time(mut command: Command) -> Duration {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    command.status().unwrap();
    start.elapsed()
}

/// In microseconds.
pub(crate) fn median(times: &mut [Duration]) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// One row.
pub(crate) fn print(what: &str, other: &str, ours: &mut [Duration], theirs: &mut [Duration]) {
    let (ours, theirs) = (median(ours), median(theirs));
    println!("{what:<28} {:.2} of {other}   ({ours:.0} and {theirs:.0} microseconds)", ours / theirs);
}
