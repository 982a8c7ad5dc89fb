//! Properties of holder records that hold for any bytes. The unit tests and the fuzzer check them.

use super::format::{Content, FIRST_KEY, MAX_LEN, Record, parse_content, parse_token};
use super::value::{MAX_VALUE, is_kept_whole, on_one_line};
use crate::os::Mode;
use crate::properties::{somewhere, texts};
use std::time::Duration;

/// Checks the properties.
///
/// # Panics
///
/// If one does not hold.
pub fn hold(bytes: &[u8]) {
    let content = parse_content(&bytes[..bytes.len().min(MAX_LEN)]);
    match &content {
        Content::Empty => assert!(bytes.is_empty()),
        // Foreign data would be overwritten if it were taken for a record. A record taken for foreign data would never be
        // replaced.
        Content::Foreign => assert!(!bytes.starts_with(FIRST_KEY.as_bytes())),
        Content::Incomplete => assert!(bytes.starts_with(FIRST_KEY.as_bytes())),
        Content::Record(record) => {
            assert!(bytes.starts_with(FIRST_KEY.as_bytes()));
            has_plain_values(record);
            is_read_as_it_was_written(record, bytes);
        }
    }
    // `parse_token` returns the token of the record, or perhaps a greater one if the record is incomplete.
    match (parse_token(&bytes[..bytes.len().min(MAX_LEN)]), &content) {
        (None, content) => assert_eq!(*content, Content::Foreign),
        (Some(token), Content::Incomplete) => assert!(token >= content.token()),
        (Some(token), content) => assert_eq!((token, *content == Content::Foreign), (content.token(), false)),
    }
    let mut values = texts(bytes).into_iter();
    let mut value = || values.next().unwrap_or_default();
    let numbers = u32::try_from(somewhere(bytes, 1 << 31)).unwrap_or(1);
    let record = Record {
        command: value(),
        key: None,
        who: Some(value()).filter(|who| !who.is_empty()),
        pid_file: Some(value().chars().take(200).collect()).filter(|path: &String| is_kept_whole(path)),
        user: value(),
        host: value().chars().take(16).collect(),
        since: value().chars().take(8).collect(),
        boot: value().chars().take(9).collect(),
        pid: numbers,
        tick: u64::MAX - u64::from(numbers),
        ns: u64::from(numbers) << 20,
        mode: if numbers % 2 == 0 { Mode::Exclusive } else { Mode::Shared },
        locker: u32::MAX - numbers,
        max_time: (numbers % 3 == 0).then(|| Duration::from_millis(u64::MAX - u64::from(numbers))),
        lease: Some(value().chars().take(64).collect()).filter(|lease: &String| !lease.is_empty()),
        token: u64::MAX,
    };
    is_read_as_it_was_written(&record, bytes);
}

/// Checks that no value has control characters, and that none is too long.
fn has_plain_values(record: &Record) {
    let Record { boot, host, user, since, command, who, pid_file, lease, .. } = record;
    for text in [boot, host, user, since, command].into_iter().chain(who).chain(pid_file).chain(lease) {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.len() <= MAX_VALUE + '…'.len_utf8(), "{} bytes", text.len());
    }
}

fn is_read_as_it_was_written(record: &Record, rest: &[u8]) {
    let text = record.to_text();
    // A longer record could not be read.
    assert!(text.len() <= MAX_LEN, "{} bytes", text.len());
    let optional = [&record.who, &record.pid_file, &record.lease].into_iter().flatten().count();
    assert_eq!(text.lines().count(), 12 + optional + usize::from(record.max_time.is_some()));
    let Content::Record(read) = parse_content(text.as_bytes()) else { panic!("not read: {text}") };
    has_plain_values(&read);
    // The values are the same, except that long ones are cut.
    let same = |written: &str, read: &str| match read.strip_suffix('…') {
        Some(kept) if on_one_line(written) != read => assert!(on_one_line(written).starts_with(kept), "{kept:?}"),
        _ => assert_eq!(on_one_line(written), read),
    };
    same(&record.command, &read.command);
    same(&record.user, &read.user);
    same(record.who.as_deref().unwrap_or_default(), read.who.as_deref().unwrap_or_default());
    let (command, user, who) = (read.command.clone(), read.user.clone(), read.who.clone());
    let [boot, host, since] = [&record.boot, &record.host, &record.since].map(|text| on_one_line(text).into_owned());
    let lease = record.lease.as_deref().map(|lease| on_one_line(lease).into_owned());
    assert_eq!(*read, Record { boot, host, user, since, command, who, lease, ..record.clone() });
    assert_eq!(parse_token(text.as_bytes()), Some(record.token));
    // If it is written again, it does not change. So each holder of a shared lock can write it.
    assert_eq!(read.to_text(), text);
    // The rest of a longer record after it changes nothing, and a part of a record is not believed.
    let over = [text.as_bytes(), rest].concat();
    assert_eq!(parse_content(&over[..over.len().min(MAX_LEN)]), Content::Record(read));
    let cut = somewhere(rest, text.len());
    assert!(!matches!(parse_content(&text.as_bytes()[..cut]), Content::Record(_)), "cut at {cut}");
}
