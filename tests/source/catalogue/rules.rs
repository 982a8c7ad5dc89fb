//! Rules on messages: the phrases of comments, and capital letters, full stops and blanks.

use super::message::{INDENT, has_letter};
use crate::comments::without_code;
use crate::finding::{Finding, Rule};
use crate::phrases::find_phrases;

/// Words with a capital letter that can begin a message.
const NAMES: &[&str] = &["SQLite", "Usage"];

/// Checks the lines of one file of the catalogue.
pub(crate) fn check_lines(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with("# ")) {
        let phrases = find_phrases(&without_code(line.trim_start()));
        findings.extend(phrases.into_iter().map(|(_, found)| Finding::new(Rule::Phrase, path, index + 1, found)));
        if !line.starts_with(INDENT) {
            let faults = check_form(line).into_iter().map(|fault| format!("`{line}` {fault}"));
            findings.extend(faults.map(|fault| Finding::new(Rule::Message, path, index + 1, fault)));
        }
    }
    findings
}

/// Returns the faults in the form of a message.
fn check_form(line: &str) -> Vec<&'static str> {
    let mut faults = Vec::new();
    let text = line.strip_prefix("hint: ").unwrap_or(line);
    let text = text.trim_start_matches("...").trim_start();
    let first = text.split([' ', ':', ',', ';']).next().unwrap_or_default();
    let is_name = NAMES.contains(&first) || !has_letter(first) || first.contains(['-', '_', '{', '"']);
    if text.starts_with(char::is_uppercase) && !is_name {
        faults.push("begins with a capital letter");
    }
    if text.ends_with('.') && !text.ends_with("...") && !text.contains(". ") {
        faults.push("ends with a full stop");
    }
    let is_text = |c: Option<char>| c.is_some_and(|c| c.is_alphabetic() || ",.;:".contains(c));
    let mut doubles = text.match_indices("  ");
    if doubles.any(|(at, _)| is_text(text[..at].chars().next_back()) && is_text(text[at + 2..].chars().next())) {
        faults.push("has two blanks next to each other");
    }
    faults
}

#[test]
fn the_form_of_messages_is_checked() {
    let faults = |line: &str| check_form(line).join(", ");
    for good in [
        "could not open {path}",
        "HOME is not set",
        "hint: set HOME",
        "... by pid {pid} ...",
        "{name}  {pid}  q quits",
        "Ctrl-C stops it",
        "it stays. Try again.",
        "...  token {token}",
    ] {
        assert_eq!(faults(good), "", "{good}");
    }
    assert_eq!(faults("hint: Try again"), "begins with a capital letter");
    assert_eq!(faults("it failed."), "ends with a full stop");
    assert_eq!(faults("it  failed"), "has two blanks next to each other");
    let found: Vec<_> =
        check_lines("a", "# src\n{id}: nobody waits\n    The `nobody`.").iter().map(ToString::to_string).collect();
    assert_eq!(found, ["a:2: Phrase: `nobody`: say no process, another process, a user, all callers"]);
}
