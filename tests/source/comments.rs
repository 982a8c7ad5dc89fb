//! The comments of a file, as paragraphs.
//!
//! Lines of a comment that follow each other are one paragraph, so a phrase is found although a line ends in the middle
//! of it. An empty line, an item of a list, a row of a table and a heading begin another one.

/// A paragraph of a comment.
pub(crate) struct Paragraph {
    /// Its lines joined with spaces. Code in backticks is replaced by x.
    pub(crate) text: String,
    /// For each of its lines, the offset at which it begins in `text`, and its number in the file.
    starts: Vec<(usize, usize)>,
}

impl Paragraph {
    /// The number of the line in the file at this offset of the text.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        self.starts.iter().rev().find(|(start, _)| *start <= offset).map_or(0, |(_, line)| *line)
    }
}

/// Reads the comments of Rust and C (`//`) or of shell scripts (`#`).
pub(crate) fn read_comments(file: &str, text: &str) -> Vec<Paragraph> {
    let has_slashes = [".rs", ".c", ".h"].iter().any(|ending| file.ends_with(ending));
    let mut paragraphs: Vec<Paragraph> = Vec::new();
    let mut continues = false;
    for (index, line) in text.lines().enumerate() {
        let comment = if has_slashes { after_slashes(line) } else { after_hash(line) };
        let Some((is_alone, comment)) = comment else {
            continues = false;
            continue;
        };
        let begins = !is_alone
            || comment.is_empty()
            || ["- ", "* ", "|", "# ", "## ", "```"].iter().any(|start| comment.starts_with(start))
            || is_numbered(comment);
        let comment = comment.trim_start_matches(['-', '*', '|', '#', ' ']);
        match paragraphs.last_mut() {
            Some(last) if continues && !begins => {
                last.text.push(' ');
                last.starts.push((last.text.len(), index + 1));
                last.text.push_str(comment);
            }
            _ => paragraphs.push(Paragraph { text: comment.into(), starts: vec![(0, index + 1)] }),
        }
        continues = is_alone && !comment.is_empty();
    }
    for paragraph in &mut paragraphs {
        paragraph.text = without_code(&paragraph.text);
    }
    paragraphs
}

/// Returns the comment of a line, with true if the line has nothing else.
fn after_slashes(line: &str) -> Option<(bool, &str)> {
    let start =
        line.match_indices("//").map(|(start, _)| start).find(|start| is_outside_of_strings(&line[..*start]))?;
    let comment = line[start + 2..].trim_start_matches(['/', '!']);
    Some((line[..start].trim().is_empty(), comment.trim()))
}

/// Does the work of [`after_slashes`] for a shell script, in which `#` begins a comment only between blanks.
fn after_hash(line: &str) -> Option<(bool, &str)> {
    let begins = |start: usize| {
        line[..start].chars().next_back().is_none_or(char::is_whitespace)
            && matches!(line[start + 1..].chars().next(), None | Some(' '))
    };
    let start = line.match_indices('#').map(|(start, _)| start).find(|start| begins(*start))?;
    Some((line[..start].trim().is_empty(), line[start + 1..].trim()))
}

/// Returns true if a comment can begin after this text: it ends in whitespace, and all its strings are closed.
fn is_outside_of_strings(before: &str) -> bool {
    before.chars().next_back().is_none_or(char::is_whitespace)
        && before.replace("\\\"", "").replace("'\"'", "").matches('"').count().is_multiple_of(2)
}

fn is_numbered(comment: &str) -> bool {
    comment
        .split_once(". ")
        .is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Replaces the code between backticks with `x`, without changing any offset.
pub(crate) fn without_code(text: &str) -> String {
    let mut is_code = false;
    let replace = |byte: u8| match byte {
        b'`' => {
            is_code = !is_code;
            b'`'
        }
        _ if is_code => b'x',
        _ => byte,
    };
    if text.matches('`').count().is_multiple_of(2) {
        String::from_utf8(text.bytes().map(replace).collect()).unwrap_or_default()
    } else {
        text.into()
    }
}

#[test]
fn comments_are_read_as_paragraphs() {
    let rust = "//! One\n//! `two` three.\n//!\n//! Four\nlet url = \"http://x\"; // five\n// six\nlet x = \" // no\";\n/// - seven\n///   eight\n/// - nine";
    let texts: Vec<_> = read_comments("a.rs", rust)
        .into_iter()
        .map(|paragraph| paragraph.text)
        .filter(|text| !text.is_empty())
        .collect();
    assert_eq!(texts, ["One `xxx` three.", "Four", "five", "six", "seven eight", "nine"]);
    let shell = "#!/bin/sh\n# one\nx=$# # two\ny=${x#a} z=a#b";
    let texts: Vec<_> = read_comments("a.bash", shell).into_iter().map(|paragraph| paragraph.text).collect();
    assert_eq!(texts, ["one", "two"]);
    assert_eq!(read_comments("a.rs", "\n// one\n// two")[0].line_at(4), 3);
}
