//! Rule: comments and messages are in plain English. The phrases listed here make readers stumble; each has a plain replacement.
//!
//! A phrase that is right at one place is listed in [`crate::exceptions`].

use crate::comments::read_comments;
use crate::finding::{Finding, Rule};
use regex::Regex;
use std::sync::LazyLock;

struct Phrase {
    pattern: &'static str,
    /// The phrase is right if its first group is one of these words.
    unless: &'static [&'static str],
    instead: &'static str,
}

const fn phrase(pattern: &'static str, unless: &'static [&'static str], instead: &'static str) -> Phrase {
    Phrase { pattern, unless, instead }
}

/// In a pattern, `^` is the start of a paragraph, and `START` is the start of a clause.
const PHRASES: &[Phrase] = &[
    phrase(
        r"(?:^|[.:;,(] |\b(?:for|of|by|to|but|if|and|than|as) )[Ww]ho(?:ever)? ([a-z]+)",
        &["knows"],
        "name the process: the holder, the waiter, a caller that",
    ),
    phrase(
        r"START(?:What|Whom|Whose|Whether|How often) ([a-z]+)",
        &["if", "about"],
        "begin with a noun or a verb: Returns the, The",
    ),
    phrase(
        r"\b(?:[Nn]obody|[Ss]omebody|[Ee]verybody|[Ee]veryone)\b",
        &[],
        "no process, another process, a user, all callers",
    ),
    phrase(
        r"\b(?:is|are|be|been|was|were) told\b|\btells?\b ?(\w*)",
        &["apart", "time"],
        "report, print, return, show",
    ),
    phrase(r"(?:(\w+) )?\bbehind\b", &["left", "leave", "leaves", "fall", "falls"], "after, following"),
    phrase(r"\bbeside\b", &[], "next to, while, in addition to"),
    phrase(r"\b(?:be|is|are|was|were) had\b", &[], "acquired, held, available"),
    phrase(r"\bcomes? to (?:nothing|its end|an end)\b|\bto its end\b", &[], "ends, has no effect"),
    phrase(
        r"START(?:Did|Is|Are|Were|Was|Should|Has|Had) [a-z]+ [^.?:;]{0,90}, ([a-z]+)",
        &["and", "or"],
        "If ..., then ...",
    ),
    phrase(r"STARTElse\b|, else\b ?(\w*)", &["if", "they", "it"], "otherwise"),
    phrase(r"\b(?:is|are) (?:not )?to ([a-z]+)\b", &["the", "a", "an", "be", "this", "our"], "must, should, will"),
    phrase(r"STARTOf ([a-z]+)", &["course"], "put the subject first"),
    phrase(r"\bas far as\b", &[], "if, where"),
    phrase(r"\b[Mm]eanwhile\b", &[], "in between, while"),
    phrase(r"\b(?:has|have|had) the lock\b", &[], "holds the lock"),
    phrase(r"\bfor ever\b", &[], "forever"),
    phrase(r"\b[Mm]end(?:s|ed|ing)?\b", &[], "fix"),
];

static COMPILED: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let compile = |phrase: &Phrase| Regex::new(&phrase.pattern.replace("START", "(?:^|[.:;] )")).expect("a pattern");
    PHRASES.iter().map(compile).collect()
});

/// Finds the phrases in the comments of a file.
pub(crate) fn check_comments(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for paragraph in read_comments(file, text) {
        for (end, message) in find_phrases(&paragraph.text) {
            findings.push(Finding::new(Rule::Phrase, file, paragraph.line_at(end - 1), message));
        }
    }
    findings
}

/// Finds the phrases in a paragraph. Returns the end of each one, and what to say instead.
pub(crate) fn find_phrases(paragraph: &str) -> Vec<(usize, String)> {
    let mut phrases = Vec::new();
    for (phrase, pattern) in PHRASES.iter().zip(COMPILED.iter()) {
        for found in pattern.captures_iter(paragraph) {
            let whole = found.get(0).expect("the whole");
            if !found.get(1).is_some_and(|word| phrase.unless.contains(&word.as_str())) {
                let words = whole.as_str().trim_start_matches(['.', ':', ';', ',', '(', ' ']);
                phrases.push((whole.end(), format!("`{words}`: say {}", phrase.instead)));
            }
        }
    }
    phrases
}

#[test]
fn each_phrase_is_found() {
    let stumbling = [
        "Ends for those, and for who waits.",
        "Whether it is a file.",
        "It locks nobody out.",
        "The caller is told of it.",
        "It runs behind the command.",
        "A row beside the others.",
        "The lock is had at once.",
        "The command comes to its end.",
        "Is it killed itself, so is the command.",
        "It waits, else the call fails.",
        "The file is to stay.",
        "Of the service: a fault.",
        "It reads as far as the end.",
        "The file was meanwhile removed.",
        "The script has the lock.",
        "It waits for ever.",
        "This mends the file.",
    ];
    for (text, phrase) in stumbling.iter().zip(PHRASES) {
        let found = check_comments("a.rs", &format!("// {text}"));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].text.ends_with(phrase.instead), "{text}: {found:?}");
    }
    assert_eq!(stumbling.len(), PHRASES.len());
}

#[test]
fn plain_english_is_not_found() {
    let text = "/// Tells apart the holder that waits, and whether it runs. What if it ends? The file that it left behind is to the left.\n\
                /// The user who runs it. If it ends, the caller, which holds the lock, waits forever. `is told` is code.\n\
                let x = \"nobody\";";
    assert_eq!(check_comments("a.rs", text), []);
}

#[test]
fn a_phrase_is_found_across_two_lines() {
    assert_eq!(check_comments("a.bash", "# The caller is\n# told of it.").first().map(|found| found.line), Some(2));
}
