//! The messages of the shell library: the words that its commands print.
//!
//! `printf` and `echo` print. A function prints its argument if it passes that on to a command that prints.

use super::message::{Message, has_letter, is_sentence, split_prefix};
use super::words::read_commands;
use std::collections::BTreeMap;

/// The number of an argument that a function prints, and true if it prints it as a hint.
type Printed = Vec<(usize, bool)>;

/// Returns the messages of a script.
pub(crate) fn collect_messages(script: &str) -> Vec<Message> {
    let commands = read_all_commands(script);
    let functions = find_printing_functions(&commands);
    let mut messages = Vec::new();
    for command in &commands {
        for (text, is_hint) in read_printed(command, &functions) {
            let is_code = text.starts_with("builtin ");
            if is_sentence(&text) && !is_code {
                messages.push(Message { text, is_hint, variants: Vec::new(), item: String::new() });
            }
        }
    }
    messages
}

/// Reads the commands of a script, and those in the arguments of `eval`.
fn read_all_commands(script: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for command in read_commands(script) {
        let code: Vec<String> = match without_prefix(&command) {
            [eval, code @ ..] if eval == "eval" => code.to_vec(),
            _ => Vec::new(),
        };
        all.push(command);
        all.extend(code.iter().flat_map(|code| read_commands(code)));
    }
    all
}

/// Removes the words before the name of the command.
fn without_prefix(mut command: &[String]) -> &[String] {
    const BEFORE: &[&str] = &["builtin", "{", "}", "!", "if", "then", "else", "elif", "do", "while", "[[", "]]"];
    while let [first, rest @ ..] = command
        && BEFORE.contains(&first.as_str())
    {
        command = rest;
    }
    command
}

/// Returns the texts that a command prints, each with true if it is a hint.
fn read_printed(command: &[String], functions: &BTreeMap<String, Printed>) -> Vec<(String, bool)> {
    // Options with text are printed by the program that gets them.
    let options = command.iter().filter_map(|word| {
        let (option, text) = word.split_once('=')?;
        (option.starts_with("--") && !option.contains(' ')).then(|| (text.to_owned(), false))
    });
    let options: Vec<_> = options.collect();
    let [name, arguments @ ..] = without_prefix(command) else { return options };
    if let Some(printed) = functions.get(name) {
        let texts = printed
            .iter()
            .filter_map(|(number, is_hint)| arguments.get(number - 1).map(|word| (word.clone(), *is_hint)));
        return texts.collect();
    }
    match name.as_str() {
        "printf" if arguments.first().is_some_and(|word| word == "-v") => options,
        "printf" => {
            let [format, values @ ..] = arguments else { return Vec::new() };
            if format.trim_end_matches("\\n") == "%s" {
                values.iter().map(|word| split_hint(word)).collect()
            } else {
                vec![split_hint(&fill_format(format, values))]
            }
        }
        "echo" => arguments.iter().map(|word| split_hint(word)).collect(),
        _ => options,
    }
}

fn split_hint(text: &str) -> (String, bool) {
    let (text, is_hint) = split_prefix(text);
    (text.to_owned(), is_hint)
}

/// Replaces each `%s` of a format by its value.
fn fill_format(format: &str, values: &[String]) -> String {
    let mut parts = format.split("%s");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        text.push_str(values.get(index).map_or("{}", String::as_str));
        text.push_str(part);
    }
    text
}

/// Finds the functions that print one of their arguments, until no more are found.
fn find_printing_functions(commands: &[Vec<String>]) -> BTreeMap<String, Printed> {
    let mut functions = BTreeMap::new();
    loop {
        let mut found: BTreeMap<String, Printed> = BTreeMap::new();
        let mut inside = String::new();
        for (index, command) in commands.iter().enumerate() {
            // `name() {` is read as the two commands `name` and `{`.
            if let ([name], Some(next)) = (command.as_slice(), commands.get(index + 1))
                && next.first().is_some_and(|word| word == "{")
            {
                inside.clone_from(name);
            }
            for (text, is_hint) in read_printed(command, &functions) {
                let number = text.strip_prefix('{').and_then(|text| text.split(['}', '|']).next()).map(str::parse);
                if let (Some(Ok(number)), false) = (number, has_letter(&text)) {
                    let printed = found.entry(inside.clone()).or_default();
                    if !printed.contains(&(number, is_hint)) {
                        printed.push((number, is_hint));
                    }
                }
            }
        }
        if found == functions {
            return functions;
        }
        functions = found;
    }
}

#[test]
fn printed_words_are_messages() {
    let script = "f() {\n    builtin printf '%s\\n' \"aba-lock: $1\" ${2+\"hint: $2\"} >&2 || true\n}\n\
                  g() {\n    f \"$2\" ${3+\"$3\"}\n}\n\
                  x='no message'; g 2 'a is held' 'wait for it' || eval 'printf \"%s\\n\" \"no b\"'\n\
                  printf -v x '%s no' y; printf 'c on %s: ' \"${x}\"; echo \"builtin set +m\"";
    let found: Vec<_> = collect_messages(script).into_iter().map(|message| (message.text, message.is_hint)).collect();
    let expected = [("a is held", false), ("wait for it", true), ("no b", false), ("c on {x}: ", false)];
    assert_eq!(found, expected.map(|(text, is_hint)| (text.to_owned(), is_hint)));
}
