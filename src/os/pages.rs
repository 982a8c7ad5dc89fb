//! Gives memory back to the system, for a process that does nothing for a long time.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

/// Forgets the pages of the program that were not changed. The kernel reads them again from the file when they are used.
#[cfg(target_os = "linux")]
pub fn release_program_pages() {
    let text = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    let mut mapping = None;
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("Anonymous:") {
            // A mapping with a changed page would lose the change.
            if let (Some((begin, end)), "0 kB") = (mapping.take(), number.trim()) {
                // SAFETY: the pages belong to a file, are not changed, and cannot be written by this process.
                unsafe { libc::madvise(std::ptr::without_provenance_mut(begin), end - begin, libc::MADV_DONTNEED) };
            }
        } else if let Some(found) = parse_mapping(line) {
            mapping = found.1.then_some(found.0);
        }
    }
}

/// Other systems do not show which pages were changed.
#[cfg(not(target_os = "linux"))]
pub fn release_program_pages() {}

/// Parses the first line of a mapping: its addresses, and true if it is a file that cannot be written.
fn parse_mapping(line: &str) -> Option<((usize, usize), bool)> {
    let mut words = line.split_ascii_whitespace();
    let (begin, end) = words.next()?.split_once('-')?;
    let addresses = (usize::from_str_radix(begin, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let is_private = matches!(words.next()?, "r--p" | "r-xp");
    Some((addresses, is_private && words.nth(3).is_some_and(|path| path.starts_with('/'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_cannot_be_written_are_forgotten() {
        for (line, expected) in [
            ("00400000-00500000 r-xp 00001000 fe:00 123   /usr/bin/aba-lock", Some(((0x40_0000, 0x50_0000), true))),
            ("00400000-00500000 rw-p 00001000 fe:00 123   /usr/bin/aba-lock", Some(((0x40_0000, 0x50_0000), false))),
            ("00400000-00500000 r-xp 00000000 00:00 0     [vdso]", Some(((0x40_0000, 0x50_0000), false))),
            ("00400000-00500000 r--p 00000000 00:00 0", Some(((0x40_0000, 0x50_0000), false))),
            ("Size:   4 kB", None),
            ("VmFlags: rd ex mr mw me", None),
        ] {
            assert_eq!(parse_mapping(line), expected, "{line}");
        }
        release_program_pages();
    }
}
