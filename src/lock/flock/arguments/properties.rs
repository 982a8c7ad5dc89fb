//! What holds of the words of a `flock` command line, for any bytes.

use super::{Asked, Command, Flock, Misused, On, Options, parse};
use crate::lock::flock::numbers::Timeout;
use crate::os::Mode;
use crate::properties::values;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

/// Checks that it does.
///
/// # Panics
///
/// Where it does not.
pub fn hold(bytes: &[u8]) {
    let words: Vec<OsString> = values(bytes).into_iter().map(OsString::from_vec).collect();
    let asked = parse(words.clone());
    letters_may_stand_alone(&words, &asked);
    match asked {
        Err(misused) => assert!(!misused.to_string().is_empty()),
        Ok(Asked::Lock(flock)) => {
            ends_with_the_command(&flock, &words);
            is_read_as_it_would_be_written(&flock);
        }
        Ok(Asked::Help | Asked::Version) => {}
    }
}

/// Options end at FILE: what stands behind it is the command's, word by word.
fn ends_with_the_command(flock: &Flock, words: &[OsString]) {
    let command: &[OsString] = match &flock.command {
        Some(Command::Words(command)) => command,
        Some(Command::Shell(line)) => {
            assert_eq!(words.last(), Some(line));
            let option = &words[words.len() - 2];
            assert!(option == "-c" || option == "--command");
            &words[words.len() - 2..]
        }
        None => &[],
    };
    assert!(words.ends_with(command));
    if let On::File(file) = &flock.on {
        assert!(!command.is_empty(), "a file alone is never made");
        assert_eq!(&words[words.len() - command.len() - 1], file);
    }
}

/// The same, with all options by their long names.
fn is_read_as_it_would_be_written(flock: &Flock) {
    let Options { mode, nonblock, timeout, conflict, close, no_fork, verbose, .. } = flock.options;
    let mut line: Vec<OsString> = vec![format!("--conflict-exit-code={conflict}").into()];
    line.push(match mode {
        Some(Mode::Exclusive) => "--exclusive".into(),
        Some(Mode::Shared) => "--shared".into(),
        None => "--unlock".into(),
    });
    for (wanted, name) in [(nonblock, "nb"), (close, "close"), (no_fork, "no-fork"), (verbose, "verbose")] {
        line.extend(wanted.then(|| format!("--{name}").into()));
    }
    if let Some(timeout) = timeout {
        let seconds = match timeout {
            Timeout::After(span) => format!("{}.{:06}", span.as_secs(), span.subsec_micros()),
            Timeout::Impossible => "-1".to_owned(),
        };
        line.push(format!("--timeout={seconds}").into());
    }
    if let Some(part) = flock.range {
        let (start, len) = (format!("--start={}", part.start), format!("--length={}", part.len));
        line.extend(["--fcntl".into(), start.into(), len.into()]);
    }
    match &flock.on {
        On::File(file) => line.extend(["--".into(), file.clone()]),
        // With a command behind it, only the option means a descriptor. (There `-c` is the command's, and `--` would be.)
        On::Descriptor(fd) if flock.command.is_some() => line.push(format!("--fd={fd}").into()),
        On::Descriptor(fd) => line.extend(["--".into(), fd.to_string().into()]),
    }
    match &flock.command {
        Some(Command::Words(words)) => {
            // What looks like an option is none behind `--`.
            line.extend(matches!(flock.on, On::Descriptor(_)).then(|| "--".into()));
            line.extend(words.iter().cloned());
        }
        Some(Command::Shell(text)) => line.extend(["-c".into(), text.clone()]),
        None => {}
    }
    let Ok(Asked::Lock(again)) = parse(line.clone()) else { panic!("{line:?} is not read") };
    let without_time = |flock: &Flock| {
        let Options { mode, nonblock, conflict, close, no_fork, verbose, .. } = flock.options;
        let text = format!("{:?} {:?} {:?}", flock.on, flock.range, flock.command);
        (text, mode, [nonblock, close, no_fork, verbose], conflict)
    };
    assert_eq!(without_time(&again), without_time(flock), "{line:?}");
    match (timeout, again.options.timeout) {
        // A fraction of a second is not always a sum of powers of two.
        (Some(Timeout::After(one)), Some(Timeout::After(other))) if one < Duration::from_secs(1 << 31) => {
            assert!(one.abs_diff(other) <= Duration::from_micros(1), "{one:?} {other:?}");
        }
        (Some(Timeout::After(_)), Some(_)) => {}
        (one, other) => assert_eq!(one, other),
    }
}

/// Letters in one word are as good as each in its own.
fn letters_may_stand_alone(words: &[OsString], asked: &Result<Asked, Misused>) {
    let Some((first, rest)) = words.split_first() else { return };
    let Some(letters) = first.as_bytes().strip_prefix(b"-").filter(|letters| !letters.is_empty()) else { return };
    if letters.iter().all(|letter| b"sxeunoF".contains(letter)) {
        let alone = letters.iter().map(|letter| OsString::from_vec(vec![b'-', *letter]));
        let apart = parse(alone.chain(rest.iter().cloned()).collect());
        assert_eq!(format!("{apart:?}"), format!("{asked:?}"));
    }
}
