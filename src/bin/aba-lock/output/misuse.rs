//! Reports a command line that cannot be parsed: the mistake in one line, and the line that the user probably meant.

mod clap_mistake;

use self::clap_mistake::{find_context, find_similar};
use super::guesses::{Advice, THIS_PORT, find_advice, find_argument_hint, find_option_hint, is_typing_error};
use super::meant_line::{complete_line, find_positionals, insert, join};
use super::stream::{print_message, print_misuse_with_usage};
use crate::args::Cli;
use aba_lock::base::duration::{name_span, parse_span};
use aba_lock::base::programs::find_program;
use aba_lock::lock::kill;
use clap::error::{ContextKind, ErrorKind};
use clap::{Command, CommandFactory, Parser};
use std::path::Path;

/// Reports the error that clap found in the arguments of this process.
pub(crate) fn report_usage_error(error: &clap::Error) {
    let words: Vec<String> = aba_lock::os::words().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let all = Cli::command();
    let known = words.first().and_then(|word| all.find_subcommand(word));
    if let (ErrorKind::ArgumentConflict, Some(time)) = (error.kind(), find_separate_time(&words)) {
        return report_time_as_name(&time);
    }
    let hint = match known {
        Some(command) => find_hint(error, command, &words[1..]),
        None => find_hint_without_command(error, &words),
    };
    // The shell library calls `lock` with this hidden option.
    let is_library = words.iter().take_while(|word| *word != "--").any(|word| word == "--reopen");
    let place = if is_library { Some("aba_lock_operation") } else { known.map(Command::get_name) };
    let text = match words.as_slice() {
        [first, .., last] if first == "help" && last.starts_with('-') => format!("help: unexpected argument: {last}"),
        _ => describe(error, place),
    };
    if let Some(hint) = hint.or_else(|| find_similar(error)) {
        return print_message(&text, Some(&hint));
    }
    let usage = error.get(ContextKind::Usage).map(|usage| format!("{usage}\n")).unwrap_or_default();
    let help = match known {
        _ if is_library => "aba_lock_operation --help".to_owned(),
        Some(known) => format!("aba-lock {} --help", known.get_name()),
        None => "aba-lock help".to_owned(),
    };
    let usage = if is_library { "" } else { usage.trim_start() };
    print_misuse_with_usage(&text, usage, &format!("see `{help}`"));
}

/// Reports a time that would be the name of a lock, as in `lock -w 60 NAME`.
pub(crate) fn report_time_as_name(time: &str) {
    let text = format!("lock: {time} would be the name of a lock, not a time to wait");
    print_message(&text, Some(&hint_to_wait(time)));
}

/// Returns the hint that gives `time`, such as `60` or `1m`, as the time to wait.
pub(crate) fn hint_to_wait(time: &str) -> String {
    format!("to wait for at most {}, use --wait={time}", name_span(time))
}

/// Returns the time that follows `--wait` of `lock` as a separate word.
fn find_separate_time(words: &[String]) -> Option<String> {
    let (_, words) = words.split_first().filter(|(command, _)| *command == "lock")?;
    let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let is_wait =
        |word: &str| word == "--wait" || word.starts_with('-') && !word.starts_with("--") && word.ends_with('w');
    let is_time = |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && parse_span(word).is_some();
    let mut pairs = words[..end].windows(2);
    pairs.find(|pair| is_wait(&pair[0]) && is_time(&pair[1])).map(|pair| pair[1].clone())
}

/// Describes the mistake in one line.
fn describe(error: &clap::Error, command: Option<&str>) -> String {
    let place = command.map(|command| format!("{command}: ")).filter(|_| error.kind() != ErrorKind::InvalidSubcommand);
    // clap also names the hidden option, which the shell library gives for --no-inherit, and an option that may replace CMD.
    let text = match find_wrong_number(error, command) {
        Some(word) => format!("unexpected argument: {word}"),
        None => clap_mistake::describe(error),
    };
    let text = text.replace(" or --bind N", "").replace(" or --await-open", "").replace("--bind <N>", "--no-inherit");
    place.unwrap_or_default() + &text.replace(" or --command SHELL LINE", "")
}

/// Returns the word that stands where `reserve` expects a number.
fn find_wrong_number(error: &clap::Error, command: Option<&str>) -> Option<String> {
    let is_argument = find_context(error, ContextKind::InvalidArg).is_some_and(|argument| argument == "[N]");
    let word = find_context(error, ContextKind::InvalidValue).filter(|_| command == Some("reserve") && is_argument)?;
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    (!is_number).then_some(word)
}

/// Returns the hint for a line that does not begin with a command.
fn find_hint_without_command(error: &clap::Error, words: &[String]) -> Option<String> {
    let (first, rest) = words.split_first()?;
    match find_advice(first) {
        Some(Advice::Text(hint)) => return Some(fill_in(hint, rest.first())),
        Some(Advice::Command(command)) => return Some(advise_command(command, rest)),
        None => {}
    }
    if first == "help" {
        let command = rest.first().filter(|word| Cli::command().find_subcommand(word).is_some());
        return match (command, rest.last()) {
            (Some(command), Some(last)) if last.starts_with('-') => {
                Some(format!("print the help of the command: `aba-lock help {command}`"))
            }
            _ => find_similar(error),
        };
    }
    if let Some(name) =
        Cli::command().get_subcommands().map(Command::get_name).find(|name| is_typing_error(first, name))
    {
        return Some(format!("did you mean `{name}`?"));
    }
    let is_option = first.starts_with('-');
    if is_option && rest.iter().any(|word| Cli::command().find_subcommand(word).is_some()) {
        return Some("write options after the command, as in `aba-lock lock --wait NAME -- COMMAND`".to_owned());
    }
    // A line such as `aba-lock -w backup -- ./backup.sh` or `aba-lock backup ./backup.sh`.
    let is_call = words.iter().any(|word| word == "--") || !rest.is_empty() && find_similar(error).is_none();
    is_call.then(|| advise_command("lock", words))
}

/// Returns the hint with the name that the user gave instead of `NAME`.
fn fill_in(hint: &str, name: Option<&String>) -> String {
    match name.filter(|name| !name.starts_with('-')) {
        Some(name) => hint.replace("NAME", &shell_words::quote(name)),
        None => hint.to_owned(),
    }
}

/// Returns the hint that names a command of this program, with the words of the user if there are any.
fn advise_command(command: &str, rest: &[String]) -> String {
    let effect = match command {
        "lock" => "run a command under a lock".to_owned(),
        "help" => "print the help".to_owned(),
        _ => {
            let about = Cli::command().find_subcommand(command).and_then(Command::get_about).map(ToString::to_string);
            let about = about.unwrap_or_default();
            about.get(..1).map(str::to_lowercase).unwrap_or_default() + about.get(1..).unwrap_or_default()
        }
    };
    let line = match (command, rest) {
        ("lock", []) => "aba-lock lock NAME -- COMMAND".to_owned(),
        ("run-once", []) => "aba-lock run-once -i ID -- COMMAND".to_owned(),
        ("status", []) => "aba-lock status NAME".to_owned(),
        ("update", []) => "aba-lock update FILE -- COMMAND".to_owned(),
        ("update", [file]) => format!("aba-lock update {} -- COMMAND", shell_words::quote(file)),
        ("write", []) => "COMMAND | aba-lock write FILE".to_owned(),
        _ => join(command, &complete_line(command, rest).unwrap_or_else(|| rest.to_vec())),
    };
    format!("{effect}: `{line}`")
}

/// Returns the hint for a mistake in the arguments of `command`.
fn find_hint(error: &clap::Error, command: &Command, words: &[String]) -> Option<String> {
    let name = command.get_name();
    let wrong_number = find_wrong_number(error, Some(name));
    let is_wrong_number = wrong_number.is_some();
    let word = wrong_number.or_else(|| find_context(error, ContextKind::InvalidArg)).unwrap_or_default();
    let has_dashes = words.iter().any(|word| word == "--");
    let is_unexpected = is_wrong_number || error.kind() == ErrorKind::UnknownArgument && !word.starts_with('-');
    if is_unexpected && let Some(hint) = find_hint_for_value(name, words, &word) {
        return Some(hint);
    }
    let kinds = [ErrorKind::UnknownArgument, ErrorKind::MissingRequiredArgument, ErrorKind::ArgumentConflict];
    // `lock backup sh -c LINE`
    let has_program = || {
        let mut others = find_positionals(name, words, false).into_iter().skip(1);
        error.kind() == ErrorKind::ValueValidation
            && others.any(|at| find_program(words[at].as_ref(), Path::new(".")).is_ok())
    };
    if !has_dashes
        && (kinds.contains(&error.kind()) || has_program())
        && let Some(line) = complete_line(name, words)
        && is_valid(name, &line)
    {
        let adds_file = line.contains(&"--file".to_owned()) && !words.contains(&"--file".to_owned());
        let advice = if adds_file {
            "lock the file with --file"
        } else if line.contains(&"NAME".to_owned()) {
            "name the lock"
        } else if line.contains(&"ID".to_owned()) {
            "name the task with -i"
        } else {
            "write `--` before the command"
        };
        return Some(format!("{advice}: `{}`", join(name, &line)));
    }
    // `run-once ID -- CMD`
    if is_unexpected && name == "run-once" {
        let at = words.iter().position(|other| *other == word)?;
        let line = insert(words, at, "-i");
        return is_valid(name, &line).then(|| format!("name the task with -i: `{}`", join(name, &line)));
    }
    match error.kind() {
        ErrorKind::UnknownArgument if word.starts_with('-') => {
            if let Some(time) = find_attached_time(words) {
                let options = if name == "run-once" { "--wait --timeout " } else { "--wait=" };
                return Some(format!("wait for at most {}: `{options}{time}`", name_span(time)));
            }
            let Some(hint) = find_option_hint(name, &word) else {
                let is_number = word[1..].starts_with(|c: char| c.is_ascii_digit());
                return is_number.then(|| "a time cannot be negative".to_owned());
            };
            let given = find_positionals(name, words, true).first().map(|at| &words[*at]);
            Some(if hint == THIS_PORT { fill_in_port(words) } else { fill_in(hint, given) })
        }
        ErrorKind::UnknownArgument => find_separate_signal(name, words)
            .map(|signal| format!("write `--kill={signal}`"))
            .or_else(|| find_argument_hint(name).map(|hint| fill_in(hint, Some(&word)))),
        ErrorKind::MissingRequiredArgument if word.contains("CMD") && has_dashes && name == "lock" => {
            let line = insert(words, words.len(), "COMMAND");
            Some(format!("write the command to run after `--`: `{}`", join(name, &line)))
        }
        ErrorKind::MissingRequiredArgument => find_hint_for_missing(name, &word, words, has_dashes),
        ErrorKind::TooManyValues if name == "run-once" && word.starts_with("--wait") => {
            Some("give up after 60 seconds: `--wait --timeout 60`".to_owned())
        }
        ErrorKind::InvalidValue if name == "init" => Some(
            "in another shell than bash, zsh, sh and fish, run commands: `aba-lock lock NAME -- COMMAND`".to_owned(),
        ),
        _ => None,
    }
}

/// Returns the hint about a word that is probably the value of an option: `reserve TAG`, `run-once -w TIME`.
fn find_hint_for_value(name: &str, words: &[String], word: &str) -> Option<String> {
    let at = words.iter().position(|other| other == word)?;
    if name == "reserve" && !words.iter().any(|other| other.starts_with("--tag") || other.starts_with("--group")) {
        return hint_to_tag(words);
    }
    let option = words.get(at.checked_sub(1)?)?;
    if name == "run-once"
        && (option == "--wait" || option.starts_with('-') && !option.starts_with("--") && option.ends_with('w'))
        && parse_span(word).is_some()
    {
        let mut line = insert(words, at, "-W");
        if option == "-w" || option == "--wait" {
            line.remove(at - 1);
        }
        return Some(format!("wait for at most {}: `{}`", name_span(word), join(name, &line)));
    }
    None
}

/// Returns the hint about the words before the command in `reserve TAG... [CMD]`.
fn hint_to_tag(words: &[String]) -> Option<String> {
    let is_program = |word: &str| word.contains('/') || find_program(word.as_ref(), Path::new(".")).is_ok();
    let places = find_positionals("reserve", words, false);
    let tags: Vec<usize> = places.into_iter().take_while(|at| !is_program(&words[*at])).collect();
    let first = *tags.first()?;
    let given = tags.iter().map(|at| words[*at].as_str()).collect::<Vec<_>>().join(",");
    let mut line: Vec<String> =
        words.iter().enumerate().filter(|(at, _)| !tags.contains(at)).map(|(_, word)| word.clone()).collect();
    let (what, option) = if tags.len() == 1 { ("number", "--tag") } else { ("numbers", "--group") };
    line.splice(first..first, [option.to_owned(), given]);
    let line = complete_line("reserve", &line).unwrap_or(line);
    is_valid("reserve", &line).then(|| format!("name the {what} with {option}: `{}`", join("reserve", &line)))
}

/// Returns true if the line has no mistake that would lead from a hint to the next error.
fn is_valid(command: &str, line: &[String]) -> bool {
    let words = ["aba-lock", command].into_iter().chain(line.iter().map(String::as_str));
    Cli::try_parse_from(words).is_ok()
}

/// Returns the time in a word such as `-w60` or `-w1m`.
fn find_attached_time(words: &[String]) -> Option<&str> {
    let mut times = words.iter().take_while(|word| *word != "--").filter_map(|word| word.strip_prefix("-w"));
    times.find(|time| time.starts_with(|c: char| c.is_ascii_digit()) && parse_span(time).is_some())
}

/// Returns the signal that follows `--kill` of `unlock` as a separate word.
fn find_separate_signal<'a>(name: &str, words: &'a [String]) -> Option<&'a str> {
    let mut pairs = words.windows(2).filter(|pair| name == "unlock" && pair[0] == "--kill");
    pairs.find(|pair| kill::parse_signal(&pair[1]).is_some()).map(|pair| pair[1].as_str())
}

/// Returns the hint about `reserve --port`, with the number that the user gave.
fn fill_in_port(words: &[String]) -> String {
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut values = words.iter().map(|word| word.split_once('=').map_or(word.as_str(), |(_, value)| value));
    THIS_PORT.replace("8080", values.find(is_number).unwrap_or("8080"))
}

/// Returns true if a line of `lock` is that of a script: it needs no command.
fn names_descriptor(words: &[String]) -> bool {
    words.iter().any(|word| ["--fd", "--bind"].contains(&word.split('=').next().unwrap_or_default()))
}

/// Returns the hint about an argument that the line needs. `missing` is the argument, as clap writes it.
fn find_hint_for_missing(name: &str, missing: &str, words: &[String], has_dashes: bool) -> Option<String> {
    let positionals = find_positionals(name, words, false);
    let named = insert(words, 0, "NAME");
    Some(match (name, positionals.as_slice()) {
        // `lock -c './backup.sh'`
        ("lock", []) if is_valid(name, &named) => format!("name the lock: `{}`", join(name, &named)),
        // `lock -- ./backup.sh`
        ("lock", []) if has_dashes => format!("name the lock: `{}`", join(name, &insert(words, 0, "NAME"))),
        ("lock", _) if !has_dashes && !words.is_empty() && !names_descriptor(words) => {
            let line = [words, &["--".to_owned(), "COMMAND".to_owned()]].concat();
            format!(
                "write the command to run after `--`: `{}`; or lock a descriptor of a script with --fd",
                join(name, &line)
            )
        }
        ("run-once", _) if !words.is_empty() && missing.contains("--id") => {
            let at = words.iter().position(|word| word == "--").unwrap_or(words.len());
            format!("name the task with -i: `{}`", join(name, &insert(&insert(words, at, "ID"), at, "-i")))
        }
        ("update", [_]) => {
            "write the command after the file, or replace the file: `COMMAND | aba-lock write FILE`".to_owned()
        }
        _ => return None,
    })
}
