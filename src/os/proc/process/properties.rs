//! What holds of what `/proc` says of processes, for any bytes.

use super::{Given, arguments_in, given_in, namespace_in, passwd_field_in, seen_in, stat_field_in};
use std::path::Path;

/// Checks that it does.
///
/// # Panics
///
/// Where it does not.
pub fn hold(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(seen) = seen_in(1, &text) {
        assert_eq!(stat_field_in(&text, 4), Some(u64::from(seen.parent)));
        assert_eq!(stat_field_in(&text, 22), Some(seen.start));
        let _ = seen.terminal_name();
    }
    let _ = (arguments_in(&text), namespace_in(Path::new(&*text)));

    // A program may call itself anything: what looks like the fields behind its name does not stand for them.
    let name: String = text.chars().take(15).collect();
    let stat = format!("7 ({name}) S 3 4 5 34816 6 0 1 2 3 4 5 6 7 8 20 0 9 0 4321 1 2");
    let seen = seen_in(7, &stat).expect("all fields are there");
    assert_eq!((seen.pid, seen.parent, seen.group, seen.session, seen.start), (7, 3, 4, 5, 4321));
    assert_eq!((seen.terminal_name().as_deref(), seen.foreground), (Some("pts/0"), 6));
    assert_eq!(stat_field_in(&stat, 20), Some(9));
    // A process has ended with its last thread, and not with its first.
    let ended = |threads: u32| format!("7 ({name}) Z 3 4 5 34816 6 0 1 2 3 4 5 6 7 8 20 0 {threads} 0 4321 1 2");
    assert!(seen_in(7, &ended(1)).is_none() && seen_in(7, &ended(9)).is_some());

    // A variable has the value that the first of its name has, whatever stands in the others.
    let entries = [bytes, b"\0WANTED=", bytes].concat();
    let value = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let own = bytes.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"WANTED="));
    let wanted = String::from_utf8_lossy(own.unwrap_or(value)).into_owned();
    assert_eq!(given_in(&entries, "WANTED"), Given::Value(wanted));
    let _ = given_in(bytes, "WANTED");

    let passwd = format!("{text}\nsomebody:x:4000000000:0::/home/somebody:/bin/sh\n");
    if let Some(home) = passwd_field_in(&passwd, 4_000_000_000, 5) {
        assert!(!home.is_empty() && !home.contains([':', '\n']));
    } else {
        assert!(text.contains("4000000000"));
    }
}
