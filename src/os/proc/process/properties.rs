//! Properties of the parsers of process data, which hold for any input. The fuzz targets and the property tests call
//! them.

use super::activity::parse_call_arguments;
use super::command_line::{InitialVariable, find_variable};
use super::namespace::parse_namespace;
use super::stat::{parse_stat, parse_stat_field};
use super::user::find_passwd_field;
use std::path::Path;

/// Checks the properties.
///
/// # Panics
///
/// If a property is violated.
pub fn hold(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(stat) = parse_stat(1, &text) {
        assert_eq!(parse_stat_field(&text, 4), Some(u64::from(stat.parent)));
        assert_eq!(parse_stat_field(&text, 22), Some(stat.start));
        let _ = stat.terminal_name();
    }
    let _ = (parse_call_arguments(&text), parse_namespace(Path::new(&*text)));

    // The name of a program can look like the fields that follow it, and must not be parsed as these.
    let name: String = text.chars().take(15).collect();
    let line = format!("7 ({name}) S 3 4 5 34816 6 0 1 2 3 4 5 6 7 8 20 0 9 0 4321 1 2");
    let stat = parse_stat(7, &line).expect("all fields are there");
    assert_eq!((stat.pid, stat.parent, stat.group, stat.session, stat.start), (7, 3, 4, 5, 4321));
    assert_eq!((stat.terminal_name().as_deref(), stat.foreground), (Some("pts/0"), 6));
    assert_eq!(parse_stat_field(&line, 20), Some(9));
    // A process ends with its last thread, not with its first.
    let ended = |threads: u32| format!("7 ({name}) Z 3 4 5 34816 6 0 1 2 3 4 5 6 7 8 20 0 {threads} 0 4321 1 2");
    assert!(parse_stat(7, &ended(1)).is_none() && parse_stat(7, &ended(9)).is_some());

    // The first entry with the name of a variable decides.
    let entries = [bytes, b"\0WANTED=", bytes].concat();
    let value = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let own = bytes.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(b"WANTED="));
    let wanted = String::from_utf8_lossy(own.unwrap_or(value)).into_owned();
    assert_eq!(find_variable(&entries, "WANTED"), InitialVariable::Value(wanted));
    let _ = find_variable(bytes, "WANTED");

    let passwd = format!("{text}\nalice:x:4000000000:0::/home/alice:/bin/sh\n");
    if let Some(home) = find_passwd_field(&passwd, 4_000_000_000, 5) {
        assert!(!home.is_empty() && !home.contains([':', '\n']));
    } else {
        assert!(text.contains("4000000000"));
    }
}
