//! Places that may break a rule, with the reason. An entry that is no longer needed is a failure.

use crate::finding::{Finding, Rule};

/// Files that are longer than the limit, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[
    ("shell/aba-lock.bash", "scripts source one file"),
    ("tests/shell/faults.bats", "a numbered list of faults"),
    ("tests/shell/run_once.bats", "tests with one setup, which no other file uses"),
];

/// Phrases and messages that are right at their place: the file, the words that the message shows in backticks, and the reason.
const RIGHT_PHRASES: &[(&str, &str, &str)] = &[
    ("tests/messages/helper.txt", "Files differ: {label}", "the sentence of diff(1)"),
    ("tests/messages/helper.txt", "Waiting for task: {id}", "the sentence of older versions of run_once"),
    (
        "tests/messages/shell.txt",
        "[ABA] If this problem persists, re-run './install' from the ABA directory to clear the task cache.",
        "the sentence of older versions of run_once",
    ),
];

pub(crate) struct Exceptions {
    long_files: &'static [(&'static str, &'static str)],
    right_phrases: &'static [(&'static str, &'static str, &'static str)],
}

impl Default for Exceptions {
    fn default() -> Self {
        Self { long_files: LONG_FILES, right_phrases: RIGHT_PHRASES }
    }
}

impl Exceptions {
    /// Removes the findings that are allowed, and adds the exceptions that allow nothing. Returns the failures as text.
    pub(crate) fn apply(&self, mut findings: Vec<Finding>) -> Vec<String> {
        findings.sort();
        findings.dedup();
        let mut used = vec![false; self.long_files.len() + self.right_phrases.len()];
        findings.retain(|finding| {
            let long = self.long_files.iter().map(|(file, _)| finding.rule == Rule::Length && finding.file == *file);
            let right = self.right_phrases.iter().map(|(file, words, _)| {
                matches!(finding.rule, Rule::Phrase | Rule::Message)
                    && finding.file == *file
                    && finding.text.starts_with(&format!("`{words}`"))
            });
            let mut is_allowed = false;
            for (index, _) in long.chain(right).enumerate().filter(|(_, allows)| *allows) {
                used[index] = true;
                is_allowed = true;
            }
            !is_allowed
        });
        let long = self.long_files.iter().map(|(file, _)| format!("{file} (long)"));
        let right = self.right_phrases.iter().map(|(file, words, _)| format!("{file} ({words})"));
        let unused = long.chain(right).zip(used).filter(|(_, used)| !used);
        let unused =
            unused.map(|(entry, _)| format!("tests/source/exceptions.rs: no longer needed, remove it: {entry}"));
        findings.iter().map(ToString::to_string).chain(unused).collect()
    }
}

#[test]
fn an_exception_holds_for_its_place_and_fails_when_it_is_not_needed() {
    let exceptions = Exceptions {
        long_files: &[("a.rs", "a table")],
        right_phrases: &[("a.rs", "is told", "a quotation"), ("b.rs", "beside", "gone")],
    };
    let allowed = [
        Finding::new(Rule::Length, "a.rs", 451, "long"),
        Finding::new(Rule::Phrase, "a.rs", 1, "`is told`: say report"),
    ];
    let refused = Finding::new(Rule::Length, "b.rs", 451, "long");
    let failures = exceptions.apply(allowed.into_iter().chain([refused]).collect());
    let unused = |entry| format!("tests/source/exceptions.rs: no longer needed, remove it: {entry}");
    assert_eq!(failures, ["b.rs:451: Length: long".into(), unused("b.rs (beside)")]);
}
