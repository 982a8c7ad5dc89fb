//! Properties of the parser that hold for any bytes. The unit tests and the fuzzer check them.

use super::{FlockArguments, FlockCall, FlockCommand, FlockOptions, FlockTarget, FlockUsageError, parse};
use crate::lock::flock::numbers::Timeout;
use crate::os::Mode;
use crate::properties::values;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

/// Checks all properties.
///
/// # Panics
///
/// Panics if one does not hold.
pub fn hold(bytes: &[u8]) {
    let words: Vec<OsString> = values(bytes).into_iter().map(OsString::from_vec).collect();
    let arguments = parse(words.clone());
    check_separate_letters(&words, &arguments);
    match arguments {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(FlockArguments::Lock(call)) => {
            check_command(&call, &words);
            check_long_form(&call);
        }
        Ok(FlockArguments::Help | FlockArguments::Version) => {}
    }
}

/// Options end at FILE: the words after it are the command, unchanged.
fn check_command(call: &FlockCall, words: &[OsString]) {
    let command: &[OsString] = match &call.command {
        Some(FlockCommand::Words(command)) => command,
        Some(FlockCommand::Shell(line)) => {
            assert_eq!(words.last(), Some(line));
            let option = &words[words.len() - 2];
            assert!(option == "-c" || option == "--command");
            &words[words.len() - 2..]
        }
        None => &[],
    };
    assert!(words.ends_with(command));
    if let FlockTarget::File(file) = &call.target {
        assert!(!command.is_empty(), "a file alone is never made");
        assert_eq!(&words[words.len() - command.len() - 1], file);
    }
}

/// The call is parsed to the same result if all options are written with their long names.
fn check_long_form(call: &FlockCall) {
    let FlockOptions { mode, nonblock, timeout, conflict, close, no_fork, verbose, .. } = call.options;
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
    if let Some(part) = call.range {
        let (start, len) = (format!("--start={}", part.start), format!("--length={}", part.len));
        line.extend(["--fcntl".into(), start.into(), len.into()]);
    }
    match &call.target {
        FlockTarget::File(file) => line.extend(["--".into(), file.clone()]),
        // If a command follows, only `--fd` selects a descriptor.
        FlockTarget::Descriptor(fd) if call.command.is_some() => line.push(format!("--fd={fd}").into()),
        FlockTarget::Descriptor(fd) => line.extend(["--".into(), fd.to_string().into()]),
    }
    match &call.command {
        Some(FlockCommand::Words(words)) => {
            // After `--`, a word that begins with a dash is no option.
            line.extend(matches!(call.target, FlockTarget::Descriptor(_)).then(|| "--".into()));
            line.extend(words.iter().cloned());
        }
        Some(FlockCommand::Shell(text)) => line.extend(["-c".into(), text.clone()]),
        None => {}
    }
    let Ok(FlockArguments::Lock(again)) = parse(line.clone()) else { panic!("{line:?} is not read") };
    let without_time = |call: &FlockCall| {
        let FlockOptions { mode, nonblock, conflict, close, no_fork, verbose, .. } = call.options;
        let text = format!("{:?} {:?} {:?}", call.target, call.range, call.command);
        (text, mode, [nonblock, close, no_fork, verbose], conflict)
    };
    assert_eq!(without_time(&again), without_time(call), "{line:?}");
    match (timeout, again.options.timeout) {
        // A fraction of a second is not always a sum of powers of two.
        (Some(Timeout::After(one)), Some(Timeout::After(other))) if one < Duration::from_secs(1 << 31) => {
            assert!(one.abs_diff(other) <= Duration::from_micros(1), "{one:?} {other:?}");
        }
        (Some(Timeout::After(_)), Some(_)) => {}
        (one, other) => assert_eq!(one, other),
    }
}

/// Letters in one word mean the same as each letter in a word of its own.
fn check_separate_letters(words: &[OsString], arguments: &Result<FlockArguments, FlockUsageError>) {
    let Some((first, rest)) = words.split_first() else { return };
    let Some(letters) = first.as_bytes().strip_prefix(b"-").filter(|letters| !letters.is_empty()) else { return };
    if letters.iter().all(|letter| b"sxeunoF".contains(letter)) {
        let alone = letters.iter().map(|letter| OsString::from_vec(vec![b'-', *letter]));
        let apart = parse(alone.chain(rest.iter().cloned()).collect());
        assert_eq!(format!("{apart:?}"), format!("{arguments:?}"));
    }
}
