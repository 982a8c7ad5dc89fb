//! Recognizes the other programs that take part in locking, by the names of the programs and by their arguments.
//!
//! The helper (`aba-lock`) and flock(1) say on their command lines which descriptor they lock and how long they wait.
//! The list of holders and waiters uses that to name the script that a helper works for, and the search for deadlocks
//! uses it to decide which processes go on by themselves. The arguments of flock(1) are read by the parser of
//! `aba-lock flock`.
//!
//! A process can choose its name and its arguments. So nothing here decides whether a lock is held or granted.

use crate::lock::flock::arguments::{self, FlockArguments, FlockCall, FlockTarget};
use crate::os::proc::process::{self, InitialVariable};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The name of the helper.
pub(crate) const HELPER: &str = "aba-lock";

/// The beginning of the option with which the shell library asks for a lock that is bound to the script.
const BIND: &str = "--bind=";

/// The name of flock(1), and of the helper where it is installed under that name.
pub(crate) const FLOCK: &str = "flock";

/// Programs whose names begin with that of the helper.
const OTHER_PROGRAMS: [&str; 3] = ["aba-lockd", "aba-lock-keeper", "aba-lock-bench"];

/// Programs that wait for the commands that they start in the foreground.
const SHELLS: [&str; 8] = ["ash", "bash", "busybox", "dash", "fish", "ksh", "sh", "zsh"];

/// Programs that run one command, and sleep in poll(2) until it ends.
const WRAPPERS: [&str; 2] = ["script", "sudo"];

/// Returns true if a process runs the helper, and not as `flock`.
pub(crate) fn is_helper(pid: u32) -> bool {
    is_name_of_helper(&find_name(pid))
}

/// Returns the name of the program of a process. It is that of the helper also if the process runs the file of this helper under
/// another name, for example through a link.
fn find_name(pid: u32) -> String {
    let is_other = |name: &str| OTHER_PROGRAMS.contains(&name) || is_name_of_shell(name);
    let name = process::name(pid);
    if name == FLOCK || is_name_of_helper(&name) || is_other(&name) || !process::runs_our_program(pid) {
        return name;
    }
    // The keeper and the service use this module, too.
    if is_other(&process::name(std::process::id())) { name } else { HELPER.to_owned() }
}

/// Returns true if this is the name of the helper. A copy of it may have a longer name, such as `aba-lock-0.1.0`.
fn is_name_of_helper(name: &str) -> bool {
    name.starts_with(HELPER) && !OTHER_PROGRAMS.contains(&name)
}

/// Returns true if a process is `aba-lock run-once`.
pub(crate) fn is_run_once(pid: u32) -> bool {
    is_helper(pid) && process::words(pid).get(1).is_some_and(|word| word == "run-once")
}

/// The lock for which `aba-lock wait` waits, as its command line names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AwaitedLock {
    Name(String),
    Key(String),
    File(String),
}

/// Returns the lock of a process that runs `aba-lock wait` for one lock.
pub(crate) fn find_awaited_lock(pid: u32) -> Option<AwaitedLock> {
    if is_helper(pid) { parse_free_wait(&process::words(pid)) } else { None }
}

fn parse_free_wait(words: &[String]) -> Option<AwaitedLock> {
    let mut words = words.iter().skip(1);
    if words.next()? != "wait" {
        return None;
    }
    let mut locks = Vec::new();
    while let Some(word) = words.next() {
        match (word.strip_prefix("--file="), word.strip_prefix("--key=")) {
            (Some(path), _) => locks.push(AwaitedLock::File(path.to_owned())),
            (_, Some(text)) => locks.push(AwaitedLock::Key(text.to_owned())),
            _ if word == "--key" => locks.push(AwaitedLock::Key(words.next()?.clone())),
            _ if word == "--file" => locks.push(AwaitedLock::File(words.next()?.clone())),
            _ if word == "--timeout" => _ = words.next(),
            _ if word.starts_with("--") => {}
            // The value of `-t` may be in the same word, or in the next one.
            _ if word.starts_with('-') => _ = word.ends_with('t').then(|| words.next()),
            _ => locks.push(AwaitedLock::Name(word.clone())),
        }
    }
    if locks.len() == 1 { locks.pop() } else { None }
}

/// Returns true if a process is a helper that writes holder records and looks for deadlocks. `aba-lock flock` does
/// neither, as flock(1) does not.
pub(crate) fn is_recording_helper(pid: u32) -> bool {
    let name = find_name(pid);
    is_name_of_helper(&name) && parse_flock_call(pid, &name).is_none()
}

/// Does the same as [`is_recording_helper`] for a holder, which is recognized only by its name, because that costs less.
pub(crate) fn has_name_of_recording_helper(pid: u32) -> bool {
    let name = process::name(pid);
    is_name_of_helper(&name) && parse_flock_call(pid, &name).is_none()
}

/// Returns true if a process is the helper or flock(1), whose arguments show how long it waits.
pub(crate) fn is_lock_program(pid: u32) -> bool {
    let name = find_name(pid);
    is_name_of_helper(&name) || parse_flock_call(pid, &name).is_some()
}

/// Returns true if a process has the name of the helper or of flock(1), whatever its arguments are.
pub(crate) fn has_name_of_lock_program(pid: u32) -> bool {
    let name = find_name(pid);
    name == FLOCK || is_name_of_helper(&name)
}

/// Returns true if this is the name of a shell.
pub(crate) fn is_name_of_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}

/// Returns true if a process is a program such as `sudo` that exists only for the command that it runs.
pub(crate) fn is_wrapper(pid: u32) -> bool {
    WRAPPERS.contains(&process::name(pid).as_str())
}

/// Returns true if a process is timeout(1), which ends the command that it runs.
pub(crate) fn is_timeout(pid: u32) -> bool {
    process::name(pid) == "timeout"
}

/// Returns the arguments of a process of this name, if it is flock(1) or `aba-lock flock`. `None`: it is another
/// program, or its arguments are wrong.
fn parse_flock_call(pid: u32, name: &str) -> Option<FlockCall> {
    let skip = match name {
        FLOCK => 1,
        name if is_name_of_helper(name) => 2,
        _ => return None,
    };
    let words = process::words(pid);
    if skip == 2 && words.get(1).is_none_or(|word| word != FLOCK) {
        return None;
    }
    match arguments::parse(words.into_iter().skip(skip).map(Into::into).collect()) {
        Ok(FlockArguments::Lock(call)) => Some(*call),
        _ => None,
    }
}

/// Returns the script for which a helper or flock(1) takes a lock: its parent, if it locks a descriptor of its parent.
pub(crate) fn find_script(pid: u32) -> Option<u32> {
    let name = find_name(pid);
    let locks_descriptor = match parse_flock_call(pid, &name) {
        Some(call) => matches!(call.target, FlockTarget::Descriptor(_)) && call.command.is_none(),
        None if is_name_of_helper(&name) => options(&process::words(pid))
            .any(|word| word == "--fd" || word.starts_with("--fd=") || word.starts_with(BIND)),
        None => false,
    };
    if locks_descriptor { find_caller(pid) } else { None }
}

/// Returns the process that called a helper. The copies of a helper that limit the time (`--max-time`) have its words.
fn find_caller(helper: u32) -> Option<u32> {
    let mut parent = process::parent(helper).filter(|pid| *pid > 0)?;
    while is_helper(parent) && process::words(parent) == process::words(helper) {
        parent = process::parent(parent).filter(|pid| *pid > 0)?;
    }
    Some(parent)
}

/// Returns the script for which a process holds a lock, if it is bound to a script (`--no-inherit`). `command` is its command line,
/// quoted for a shell. `None`: it is another process, or the script has ended.
pub(crate) fn find_bound_script(pid: u32, command: &str) -> Option<u32> {
    // Most processes are excluded without reading a file.
    if command.contains(BIND) { try_find_bound_script(pid).ok().flatten() } else { None }
}

/// Does the same as [`find_bound_script`] for a process that may be signalled. An error: it cannot be determined.
pub(crate) fn try_find_bound_script(pid: u32) -> io::Result<Option<u32>> {
    if !options(&process::try_words(pid)?).any(|word| word.starts_with(BIND)) {
        return Ok(None);
    }
    // The name is empty if it cannot be read.
    let name = find_name(pid);
    if is_name_of_helper(&name) || name.is_empty() { process::process_of_pidfd(pid) } else { Ok(None) }
}

/// Returns true if a descriptor of a process may be the pipe of a lock that is bound to it (`--no-inherit`).
pub(crate) fn may_bind_lock(descriptor: &Path, data: &Metadata) -> bool {
    // The shell library opens descriptors from 200 on.
    let is_high = || descriptor.file_name().and_then(|number| number.to_str()).is_some_and(|number| number.len() > 2);
    data.file_type().is_fifo() && is_high() && process::sends_signals(descriptor)
}

/// Returns true if the shell library called this helper: only the library uses the option `--reopen`.
pub(crate) fn is_called_by_library(pid: u32) -> bool {
    options(&process::words(pid)).any(|word| word == "--reopen")
}

/// Returns true if a process may give up by itself. Another program than the helper and flock(1) may have a timer that
/// ends its wait for a lock, which cannot be seen from outside.
pub(crate) fn may_give_up(pid: u32, waits_for_lock: bool) -> bool {
    let name = find_name(pid);
    if let Some(call) = parse_flock_call(pid, &name) {
        return waits_for_lock && call.options.timeout.is_some();
    }
    if is_name_of_helper(&name) {
        return waits_for_lock && has_timeout(&process::words(pid))
            || matches!(process::initial_variable(pid, "ABA_LOCK_TIMEOUT"), InitialVariable::Value(_));
    }
    waits_for_lock
}

/// Returns true if the words of a call of the helper limit the time that it waits.
fn has_timeout(words: &[String]) -> bool {
    // The letter of the option that limits the wait, and the letters of all options with a value. The value may follow
    // its letter in the same word.
    let (limit, valued) = match words.get(1).map(String::as_str) {
        Some("run-once") => ('W', "itWm"),
        _ => ('t', "tE"),
    };
    options(words).any(|word| match word.strip_prefix("--") {
        Some(long) => ["timeout", "wait="].iter().any(|name| long.starts_with(name)),
        None => word.strip_prefix('-').is_some_and(|letters| {
            let last = letters.find(|letter: char| valued.contains(letter)).map_or(letters, |at| &letters[..=at]);
            last.ends_with(limit) || last.contains("w=")
        }),
    })
}

/// Returns the words of a call of the helper that precede the command to run.
fn options(words: &[String]) -> impl Iterator<Item = &String> {
    words.iter().skip(1).take_while(|word| *word != "--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_lock_of_a_wait_is_found_next_to_its_options() {
        let find = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            parse_free_wait(&words)
        };
        for line in ["wait a", "wait -t 5 a", "wait a -qt5", "wait --timeout 5 --any a -s", "wait --timeout=5 a"] {
            assert_eq!(find(&format!("aba-lock {line}")), Some(AwaitedLock::Name("a".to_owned())), "{line}");
        }
        for line in ["wait --file a", "wait --file=a -t 5"] {
            assert_eq!(find(&format!("aba-lock {line}")), Some(AwaitedLock::File("a".to_owned())), "{line}");
        }
        for line in ["lock a", "wait a b", "wait --file a --file b", "wait"] {
            assert_eq!(find(&format!("aba-lock {line}")), None, "{line}");
        }
    }

    #[test]
    fn a_time_to_live_is_no_timeout_and_a_value_is_no_option() {
        let limited = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            has_timeout(&words)
        };
        for line in [
            "lock -t 5 a",
            "lock -qt5 a",
            "lock --timeout=5 a",
            "lock a --wait=5",
            "lock -w=5 a",
            "run-once -wW 5 -i a",
        ] {
            assert!(limited(&format!("aba-lock {line}")), "{line}");
        }
        for line in [
            "lock -w a",
            "lock -w a -- x -t 5",
            "run-once -w -t 5 -i a",
            "run-once -wt5 -i a",
            "run-once -iW -w",
            "lock -Et a",
        ] {
            assert!(!limited(&format!("aba-lock {line}")), "{line}");
        }
    }
}
