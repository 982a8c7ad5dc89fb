//! What holds of holder records, for any bytes.

use super::format::{Content, FIRST_KEY, MAX_LEN, Record, content_of, token_in};
use super::value::{MAX_VALUE, is_kept_whole, on_one_line};
use crate::os::Mode;
use crate::properties::{somewhere, texts};

/// Checks that it does.
///
/// # Panics
///
/// Where it does not.
pub fn hold(bytes: &[u8]) {
    let content = content_of(&bytes[..bytes.len().min(MAX_LEN)]);
    match &content {
        Content::Empty => assert!(bytes.is_empty()),
        // Somebody's data is never taken for ours, nor ours for somebody's: it would be written over, or never again.
        Content::Foreign => assert!(!bytes.starts_with(FIRST_KEY.as_bytes())),
        Content::Incomplete => assert!(bytes.starts_with(FIRST_KEY.as_bytes())),
        Content::Record(record) => {
            assert!(bytes.starts_with(FIRST_KEY.as_bytes()));
            cannot_steer(record);
            is_read_as_it_was_written(record, bytes);
        }
    }
    // What is read in a hurry: the same, or more where nobody would believe the rest.
    match (token_in(&bytes[..bytes.len().min(MAX_LEN)]), &content) {
        (None, content) => assert_eq!(*content, Content::Foreign),
        (Some(token), Content::Incomplete) => assert!(token >= content.token()),
        (Some(token), content) => assert_eq!((token, *content == Content::Foreign), (content.token(), false)),
    }
    let mut values = texts(bytes).into_iter();
    let mut value = || values.next().unwrap_or_default();
    let numbers = u32::try_from(somewhere(bytes, 1 << 31)).unwrap_or(1);
    let record = Record {
        command: value(),
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
        lease: Some(value().chars().take(64).collect()).filter(|lease: &String| !lease.is_empty()),
        token: u64::MAX,
    };
    is_read_as_it_was_written(&record, bytes);
}

/// No value has a character in it that a terminal takes for a command, nor more of them than is kept.
fn cannot_steer(record: &Record) {
    let Record { boot, host, user, since, command, who, pid_file, lease, .. } = record;
    for text in [boot, host, user, since, command].into_iter().chain(who).chain(pid_file).chain(lease) {
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.len() <= MAX_VALUE + '…'.len_utf8(), "{} bytes", text.len());
    }
}

fn is_read_as_it_was_written(record: &Record, behind: &[u8]) {
    let text = record.to_text();
    // What is longer would not be read as a whole, and so not at all.
    assert!(text.len() <= MAX_LEN, "{} bytes", text.len());
    let optional = [&record.who, &record.pid_file, &record.lease].into_iter().flatten().count();
    assert_eq!(text.lines().count(), 12 + optional);
    let Content::Record(read) = content_of(text.as_bytes()) else { panic!("not read: {text}") };
    cannot_steer(&read);
    // As it was, but that long values are cut.
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
    assert_eq!(token_in(text.as_bytes()), Some(record.token));
    // Written once more it is the same: who shares a lock does not wear the record away.
    assert_eq!(read.to_text(), text);
    // A longer one that stood there does not change it; and a part of it is not believed.
    let over = [text.as_bytes(), behind].concat();
    assert_eq!(content_of(&over[..over.len().min(MAX_LEN)]), Content::Record(read));
    let cut = somewhere(behind, text.len());
    assert!(!matches!(content_of(&text.as_bytes()[..cut]), Content::Record(_)), "cut at {cut}");
}
