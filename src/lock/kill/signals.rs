//! The signals that end processes, and their names.

/// The signal that asks a process to end.
pub const TERM: i32 = libc::SIGTERM;

/// The signal that no process can handle.
pub const KILL: i32 = libc::SIGKILL;

/// The signals that end a process that does not handle them.
const SIGNALS: [(&str, i32); 19] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", KILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", TERM),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("SYS", libc::SIGSYS),
];

/// Parses the name of a signal, with or without `SIG`, or its number. `None`: there is no such signal, or it ends no
/// process.
#[must_use]
pub fn parse_signal(text: &str) -> Option<i32> {
    // Only ASCII, because `ſ` and `ı` would become S and I.
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    SIGNALS.iter().find(|(known, number)| *known == name || number.to_string() == text).map(|(_, number)| *number)
}

/// Returns the name of a signal without `SIG`, or its number if it has no name here.
#[must_use]
pub fn name_signal(number: i32) -> String {
    let known = SIGNALS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_or_a_number_and_ends_a_process() {
        for text in ["TERM", "SIGTERM", "15", "term", "SigTerm"] {
            assert_eq!(parse_signal(text), Some(libc::SIGTERM), "{text}");
        }
        assert_eq!(parse_signal("9"), Some(libc::SIGKILL));
        for bad in
            ["", "0", "-9", "SIG", "SIGSIGTERM", "STOP", "CONT", "19", "CHLD", "999", "TERM ", "015", "ſIGTERM", "KıLL"]
        {
            assert_eq!(parse_signal(bad), None, "{bad}");
        }
    }
}
