//! Distinguishes a process from a later one that got the same number.
//!
//! Callers write down the number of a process together with a time (a tick) at which it ran. A process with the same
//! number that started later is another process.

use super::read::read_small;
use super::stat::start_time;
use crate::os::clock::ticks_per_second;
use crate::os::signal::exists;

/// Returns true if the process that ran as `pid` at `tick` still runs.
#[must_use]
pub fn is_alive(pid: u32, tick: u64) -> bool {
    start_time(pid).is_some_and(|start| started_by(pid, start, tick))
}

/// Returns true if the process that ran as `pid` at `tick` has ended, and false if that cannot be known because it may
/// be hidden.
#[must_use]
pub fn has_ended(pid: u32, tick: u64) -> bool {
    start_time(pid).map_or_else(|| !exists(pid), |start| !started_by(pid, start, tick))
}

/// Returns true if a process that started at `start`, by our clock, ran at `tick`, by the clock of the writer. The two
/// clocks differ only if the process runs in another time namespace (`time_namespaces(7)`).
fn started_by(pid: u32, start: u64, tick: u64) -> bool {
    if start <= tick {
        return true;
    }
    let (ours, theirs) = (clock_offset("self"), clock_offset(&pid.to_string()));
    let shift = |ours: i64, theirs: i64| start.saturating_add_signed(theirs.saturating_sub(ours)) <= tick;
    matches!((ours, theirs), (Some(ours), Some(theirs)) if ours != theirs && shift(ours, theirs))
}

/// The number of clock ticks by which the boot clock of a process is ahead of that of the system.
fn clock_offset(process: &str) -> Option<i64> {
    let text = read_small(&format!("/proc/{process}/timens_offsets"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("boottime"))?;
    let mut numbers = line.split_ascii_whitespace().map(str::parse::<i64>);
    let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let ticks = i64::from(ticks_per_second());
    Some(seconds.checked_mul(ticks)? + nanoseconds / (1_000_000_000 / ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_since_its_start_time() {
        let pid = std::process::id();
        let start = start_time(pid).expect("/proc is there");
        assert!(is_alive(pid, start) && is_alive(pid, crate::os::clock::ticks_since_boot()));
        assert!(!is_alive(pid, start - 1));
    }
}
