//! Parses `struct kinfo_proc`, which sysctl(3) returns for one process or for all.

use super::bytes::{i32_at, text_at, u32_at, u64_at};
use super::facts::ProcessFacts;

/// The places of numbers in the structure, in bytes from its begin.
pub(super) struct Layout {
    /// The length of the structure.
    pub(super) len: usize,
    /// The number that has the length of the structure, if it has one.
    pub(super) own_len: Option<usize>,
    pub(super) pid: usize,
    pub(super) parent: usize,
    pub(super) group: usize,
    /// The session. macOS has no number there.
    pub(super) session: Option<usize>,
    pub(super) foreground: usize,
    pub(super) uid: usize,
    /// The start time: seconds in 64 bits, and after them microseconds.
    pub(super) started: usize,
    pub(super) state: usize,
    pub(super) name: usize,
    pub(super) name_len: usize,
}

/// The structure of macOS with 64 bits. The libc crate does not have it; its parts are `struct extern_proc`, and `struct eproc` from
/// byte 296 on.
pub(super) const MACOS: Layout = Layout {
    len: 648,
    own_len: None,
    pid: 40,
    parent: 560,
    group: 564,
    session: None,
    foreground: 576,
    uid: 420,
    started: 0,
    state: 36,
    name: 243,
    name_len: 17,
};

/// The structure of FreeBSD with 64 bits.
pub(super) const FREEBSD: Layout = Layout {
    len: 1088,
    own_len: Some(0),
    pid: 72,
    parent: 76,
    group: 80,
    session: Some(88),
    foreground: 84,
    uid: 168,
    started: 336,
    state: 388,
    name: 447,
    name_len: 20,
};

/// Parses one structure. `booted` is the start of the clock of start times, in microseconds since 1970, for a clock that begins with the boot
/// of the machine. `None`: the buffer is too short, or its numbers are not those of a process.
pub(super) fn parse_process(bytes: &[u8], layout: &Layout, booted: u64) -> Option<ProcessFacts> {
    let bytes = bytes.get(..layout.len)?;
    if layout.own_len.is_some_and(|at| i32_at(bytes, at).and_then(|len| usize::try_from(len).ok()) != Some(layout.len))
    {
        return None;
    }
    let number = |at: usize| i32_at(bytes, at).and_then(|number| u32::try_from(number).ok());
    let pid = number(layout.pid).filter(|pid| *pid > 0)?;
    let micros = u64_at(bytes, layout.started)?
        .checked_mul(1_000_000)?
        .checked_add(u32_at(bytes, layout.started + 8)?.into())?
        .saturating_sub(booted);
    let foreground = i32_at(bytes, layout.foreground)?;
    Some(ProcessFacts {
        pid,
        parent: number(layout.parent)?,
        group: number(layout.group)?,
        session: layout.session.map_or(Some(0), number)?,
        foreground: if foreground > 0 { foreground.into() } else { -1 },
        // Ticks of a hundredth of a second.
        start: micros / 10_000,
        state: letter_of(*bytes.get(layout.state)?),
        uid: u32_at(bytes, layout.uid)?,
        name: String::from_utf8_lossy(text_at(bytes, layout.name, layout.name_len)).into_owned(),
    })
}

/// Parses an array of structures. One that is not complete, or is no process, is left out.
pub(super) fn parse_processes(bytes: &[u8], layout: &Layout, booted: u64) -> Vec<ProcessFacts> {
    bytes.chunks_exact(layout.len).filter_map(|one| parse_process(one, layout, booted)).collect()
}

/// Returns the letter for a state (`SRUN` and so on, which both systems number alike).
fn letter_of(state: u8) -> &'static str {
    match state {
        // `SIDL`: the process is being created.
        1 | 2 => "R",
        4 => "T",
        5 => "Z",
        // FreeBSD: `SLOCK`, which lasts an instant.
        7 => "D",
        _ => "S",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the buffer of a process, as a kernel with this layout fills it.
    fn fill(layout: &Layout, pid: i32, seconds: u64, micros: u32, state: u8) -> Vec<u8> {
        let mut bytes = vec![0xaa; layout.len];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        if let Some(at) = layout.own_len {
            put(at, &i32::try_from(layout.len).unwrap().to_ne_bytes());
        }
        put(layout.pid, &pid.to_ne_bytes());
        put(layout.parent, &7_i32.to_ne_bytes());
        put(layout.group, &8_i32.to_ne_bytes());
        layout.session.into_iter().for_each(|at| put(at, &9_i32.to_ne_bytes()));
        put(layout.foreground, &0_i32.to_ne_bytes());
        put(layout.uid, &501_u32.to_ne_bytes());
        put(layout.started, &seconds.to_ne_bytes());
        put(layout.started + 8, &micros.to_ne_bytes());
        put(layout.state, &[state]);
        put(layout.name, b"sleep\0");
        bytes
    }

    #[test]
    fn a_process_is_parsed_from_the_buffers_of_both_systems() {
        for (layout, session) in [(MACOS, 0), (FREEBSD, 9)] {
            let bytes = fill(&layout, 4321, 1_700_000_000, 250_000, 3);
            let facts = parse_process(&bytes, &layout, 0).unwrap();
            let expected = ProcessFacts {
                pid: 4321,
                parent: 7,
                group: 8,
                session,
                foreground: -1,
                start: 170_000_000_025,
                state: "S",
                uid: 501,
                name: "sleep".to_owned(),
            };
            assert_eq!(facts, expected);
            let since_boot = parse_process(&bytes, &layout, 1_699_999_999_000_000).unwrap();
            assert_eq!(since_boot.start, 125, "in hundredths of a second since the boot");
        }
    }

    #[test]
    fn a_buffer_that_is_cut_anywhere_is_no_process() {
        for layout in [MACOS, FREEBSD] {
            let bytes = fill(&layout, 4321, 1, 0, 2);
            for len in 0..layout.len {
                assert!(parse_process(&bytes[..len], &layout, 0).is_none(), "{len} bytes");
            }
            let mut two = [bytes.clone(), bytes].concat();
            assert_eq!(parse_processes(&two, &layout, 0).len(), 2);
            two.pop();
            assert_eq!(parse_processes(&two, &layout, 0).len(), 1);
        }
    }

    #[test]
    fn numbers_that_no_process_has_are_refused() {
        for layout in [MACOS, FREEBSD] {
            assert!(parse_process(&fill(&layout, 0, 1, 0, 2), &layout, 0).is_none());
            assert!(parse_process(&fill(&layout, -1, 1, 0, 2), &layout, 0).is_none());
            assert!(parse_process(&fill(&layout, 1, u64::MAX, u32::MAX, 2), &layout, 0).is_none());
            assert_eq!(parse_process(&fill(&layout, 1, 1, 0, 255), &layout, u64::MAX).unwrap().start, 0);
            assert!(parse_process(&vec![0xff; layout.len], &layout, 0).is_none());
            assert!(parse_process(&vec![0; layout.len], &layout, 0).is_none());
        }
        let mut other = fill(&FREEBSD, 1, 1, 0, 2);
        other[..4].copy_from_slice(&1096_i32.to_ne_bytes());
        assert!(parse_process(&other, &FREEBSD, 0).is_none(), "the structure of another version of FreeBSD");
    }

    #[test]
    fn a_process_that_has_ended_has_the_letter_of_its_state() {
        let letter = |state| parse_process(&fill(&MACOS, 1, 1, 0, state), &MACOS, 0).unwrap().state;
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(letter), ["R", "R", "S", "T", "Z", "S", "D"]);
    }
}
