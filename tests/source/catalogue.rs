//! The catalogue of messages: each sentence that a user can read on a terminal or in a log, in `tests/messages`.
//!
//! `make messages` writes the catalogue anew. The test here compares it with the source.

mod collector;
mod facts;
mod format_string;
mod message;
mod rules;
mod rust;
mod shell;
mod words;

use crate::files;
use crate::finding::Finding;
use crate::modules::Program;
use crate::programs;
use collector::Extent;

/// The folder of the catalogue.
const FOLDER: &str = "tests/messages";

/// The programs in Rust that have messages, by their names in [`programs`].
const PROGRAMS: &[&str] = &["helper", "library", "keeper", "service"];

/// The scripts of the shell library.
const SCRIPTS: &[&str] =
    &["shell/aba-lock.bash", "shell/aba-lock-builtin.bash", "shell/aba-lock.sh", "shell/run_once.bash"];

/// Functions and constants with text that is not for users: code, statements and protocols.
const OTHER_TEXT: &[(&str, &str)] = &[
    ("src/bin/aba-lock-keeper/on_lost.rs", "is_command"),
    ("src/bin/aba-lock-keeper/server/service/client.rs", "new"),
    ("src/bin/aba-lockd/rest/events.rs", "format_events"),
    ("src/bin/aba-lockd/rest/events.rs", "format_reset"),
    ("src/bin/aba-lockd/rest/events.rs", "write"),
    ("src/bin/aba-lockd/rest/page.rs", "FILES"),
    ("src/bin/aba-lockd/rest/page.rs", "HTML"),
    ("src/bin/aba-lockd/rest/page.rs", "POLICY"),
    ("src/bin/aba-lockd/rest/page.rs", "SCRIPT"),
    ("src/bin/aba-lockd/rest/json.rs", "into_response"),
    ("src/bin/aba-lockd/rest/terraform.rs", "CHALLENGE"),
    ("src/bin/aba-lockd/store/sqlite/table.rs", "COLUMNS"),
    ("src/bin/aba-lockd/telemetry.rs", "format_metrics"),
    ("src/admin/doctor/installed.rs", "FIRST_WORDS"),
    ("src/file/filter.rs", "build_restoring_script"),
    ("src/file/filter.rs", "build_zsh_script"),
    ("src/number/contents.rs", "format_exclusion"),
    ("src/number/contents.rs", "to_bytes"),
    ("src/task/saved.rs", "to_script"),
];

/// The files of the catalogue whose language is checked.
const CHECKED: &[&str] = &["helper", "keeper", "library", "service", "shell"];

/// One file of the catalogue: its path and its text.
struct Part {
    path: String,
    text: String,
}

/// Builds the catalogue from the source.
fn build() -> Vec<Part> {
    let mut parts = Vec::new();
    let mut is_used = vec![false; OTHER_TEXT.len()];
    for name in PROGRAMS {
        let entry = programs::PROGRAMS.iter().find(|entry| entry.name == *name).expect("a program");
        let program = Program::read(entry.name, entry.root, &files::read);
        let extent = |file: &str| {
            let names: Vec<&str> = file.split('/').map(|part| part.trim_end_matches(".rs")).collect();
            // A file of another program can be a module of this one. The man pages show all text in `manual`, `args` and
            // `definitions`, except the messages about values that are not valid.
            if programs::owner(file) != Some(name) || names.contains(&"manual") {
                Extent::Nothing
            } else if names.contains(&"args") || names.contains(&"definitions") {
                Extent::Fallible
            } else {
                Extent::All
            }
        };
        let found = rust::collect_messages(&program, extent, |file, item| {
            let other = OTHER_TEXT.iter().position(|(a, b)| *a == file && *b == item);
            if let Some(index) = other {
                is_used[index] = true;
            }
            other.is_none()
        });
        parts.push(format_part(name, found));
    }
    let scripts = SCRIPTS.iter().map(|script| {
        let text = files::read(script).expect("a script");
        ((*script).to_owned(), shell::collect_messages(&text))
    });
    parts.push(format_part("shell", scripts.collect()));
    let unused: Vec<_> = OTHER_TEXT.iter().zip(is_used).filter(|(_, used)| !used).map(|(text, _)| text).collect();
    assert!(unused.is_empty(), "no longer needed, remove it from OTHER_TEXT: {unused:?}");
    parts
}

fn format_part(name: &str, found: Vec<(String, Vec<message::Message>)>) -> Part {
    let sections =
        found.into_iter().map(|(file, messages)| format!("# {file}\n{}", message::format_messages(messages)));
    Part { path: format!("{FOLDER}/{name}.txt"), text: sections.collect::<Vec<_>>().join("\n") }
}

/// Checks the language of all messages.
pub(crate) fn check_messages() -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in CHECKED {
        let path = format!("{FOLDER}/{name}.txt");
        let text = files::read(&path).unwrap_or_default();
        findings.extend(rules::check_lines(&path, &text));
    }
    findings
}

/// Returns the lines that only one of two texts has, each with `-` or `+`.
fn compare(old: &str, new: &str) -> Vec<String> {
    let only = |sign: char, text: &str, other: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !other.lines().any(|same| same == *line));
        lines.map(|line| format!("{sign} {line}")).collect()
    };
    let mut differences = only('-', old, new);
    differences.extend(only('+', new, old));
    if differences.is_empty() && old != new {
        differences.push("the order of the lines".into());
    }
    differences
}

#[test]
#[expect(clippy::disallowed_methods, reason = "`make messages` asks with a variable for new files")]
fn the_catalogue_has_the_messages_of_the_source() {
    let mut differences = Vec::new();
    for part in build() {
        if std::env::var_os("WRITE_MESSAGES").is_some() {
            files::write(&part.path, &part.text);
            continue;
        }
        let old = files::read(&part.path).unwrap_or_default();
        let lines = compare(&old, &part.text);
        if !lines.is_empty() {
            differences.push(format!("{}:\n{}", part.path, lines.join("\n")));
        }
    }
    assert!(
        differences.is_empty(),
        "the messages in the source have changed: run `make messages`, and commit its files\n{}",
        differences.join("\n")
    );
}

#[test]
fn a_changed_line_is_shown() {
    assert_eq!(compare("a\nb\n", "a\nc\n"), ["- b", "+ c"]);
    assert_eq!(compare("a\nb\n", "b\na\n"), ["the order of the lines"]);
    assert_eq!(compare("a\n", "a\n"), [""; 0]);
}
