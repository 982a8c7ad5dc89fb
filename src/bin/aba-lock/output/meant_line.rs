//! Completes the words of a call that cannot be parsed to the line that the user probably meant.

use crate::args::Cli;
use aba_lock::base::programs::find_program;
use aba_lock::base::text::shorten;
use clap::{Arg, Command, CommandFactory};
use std::path::Path;

/// The maximum number of characters of a command line in a hint.
pub(super) const MAX_LINE: usize = 160;

/// Returns the line with a `--` before the command, if it has none and the command can be found.
pub(super) fn complete_line(name: &str, words: &[String]) -> Option<Vec<String>> {
    if words.iter().any(|word| word == "--") {
        return None;
    }
    let positionals = find_positionals(name, words, false);
    let has_option =
        |long: &str, short: &str| words.iter().any(|word| word.starts_with(long) || word.starts_with(short));
    // `lock ./backup.sh`
    let is_path = |at: &&usize| name == "lock" && !has_option("--file", "--file") && words[**at].contains('/');
    if let Some(at) = positionals.first().filter(is_path) {
        let named = || insert(&insert(words, *at, "--"), *at, "NAME");
        return Some(complete_file_line(words, *at, positionals.get(1).copied()).unwrap_or_else(named));
    }
    // `run-once ./step`
    if let Some(at) = positionals.first().filter(|at| name == "run-once" && words[**at].contains('/'))
        && !has_option("--id", "-i")
    {
        return Some(["--", "ID", "-i"].iter().fold(words.to_vec(), |line, word| insert(&line, *at, word)));
    }
    // The number of names before the command.
    let (least, named) = match name {
        "lock" if has_option("--file", "--file") => (0, true),
        "lock" => (1, true),
        "run-once" => (usize::from(!has_option("--id", "-i")), has_option("--id", "-i")),
        "reserve" => (0, true),
        _ => return None,
    };
    let candidates = positionals.get(least..)?;
    // All candidates but the command are names, so the command is the first word that names a program.
    let is_program = |at: &&usize| {
        let word = &words[**at];
        word.contains('/') || find_program(word.as_ref(), Path::new(".")).is_ok()
    };
    let at = *candidates.iter().find(is_program).or(candidates.first())?;
    let command = &words[at..];
    let mut line = words[..at].to_vec();
    if !named {
        line.insert(positionals[0], "-i".to_owned());
    }
    line.push("--".to_owned());
    // A command line in one word is for a shell.
    if let [only] = command
        && only.contains(' ')
    {
        line.extend(["sh".to_owned(), "-c".to_owned()]);
    }
    line.extend_from_slice(command);
    Some(line)
}

/// Returns the line with `--file` before the path at `at`, if that path is a lock file, as in `lock /path/o.lock echo hi`.
/// flock(1) takes such a line. `next` is the place of the next word that is no option.
fn complete_file_line(words: &[String], at: usize, next: Option<usize>) -> Option<Vec<String>> {
    let is_program = |word: &str| find_program(word.as_ref(), Path::new(".")).is_ok();
    let is_file = Path::new(&words[at]).extension().is_some_and(|end| end == "lock")
        || next.is_some_and(|next| is_program(&words[next]));
    if is_program(&words[at]) || !is_file {
        return None;
    }
    let (options, command) = match next {
        Some(next) => (next, words[next..].to_vec()),
        None => (words.len(), vec!["COMMAND".to_owned()]),
    };
    let mut line = insert(&words[..options], at, "--file");
    line.push("--".to_owned());
    line.extend(command);
    Some(line)
}

/// Returns the places of the words before `--` that are neither options nor their values, up to an unknown option, or also
/// after it.
pub(super) fn find_positionals(name: &str, words: &[String], passes_unknown: bool) -> Vec<usize> {
    let all = Cli::command();
    let Some(command) = all.find_subcommand(name) else { return Vec::new() };
    let mut places = Vec::new();
    let mut at = 0;
    while at < words.len() && words[at] != "--" {
        let word = &words[at];
        if !word.starts_with('-') || word == "-" {
            places.push(at);
        } else if let Some(arg) = find_option(command, word) {
            // The next word is the value, unless the option requires `=` or the word has the value.
            let separate = arg.get_action().takes_values() && !arg.is_require_equals_set() && !word.contains('=');
            at += usize::from(separate && (word.starts_with("--") || word.chars().count() == 2));
        } else if !passes_unknown {
            break;
        }
        at += 1;
    }
    places
}

fn find_option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let mut options = command.get_arguments().filter(|arg| !arg.is_positional());
    match word.strip_prefix("--") {
        Some(long) => {
            let long = long.split('=').next().unwrap_or_default();
            let is_named = |arg: &&Arg| {
                arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
            };
            options.find(is_named)
        }
        None => options.find(|arg| arg.get_short() == word.chars().nth(1)),
    }
}

pub(super) fn insert(words: &[String], at: usize, word: &str) -> Vec<String> {
    let mut line = words.to_vec();
    line.insert(at, word.to_owned());
    line
}

/// Joins the words of a call for a shell.
pub(super) fn join(command: &str, words: &[String]) -> String {
    // In an option, `=` needs no quotes.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,".contains(c);
    let quote = |word: &String| {
        let plain = word.starts_with('-') && word.chars().all(is_plain);
        if plain { word.clone() } else { shell_words::quote(word).into_owned() }
    };
    let words: Vec<String> = words.iter().map(quote).collect();
    shorten(format!("aba-lock {command} {}", words.join(" ")).trim_end(), MAX_LINE)
}
