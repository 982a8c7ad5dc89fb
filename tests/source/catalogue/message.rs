//! A message of the catalogue, and the rules that decide which text is one.

/// The start of the second line of a message and of those after it.
pub(crate) const INDENT: &str = "    ";

/// A sentence that a user can read, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) text: String,
    pub(crate) is_hint: bool,
    /// The variants of the error type that the message or the hint belongs to, such as `LockError::Busy`.
    pub(crate) variants: Vec<String>,
    /// The function or constant that has this text.
    pub(crate) item: String,
}

/// Returns true for text with a blank, and a letter that is not in a placeholder.
pub(crate) fn is_sentence(text: &str) -> bool {
    text.contains(' ') && has_letter(text)
}

/// Returns true for text with a small letter that is not in a placeholder. Text without one is a list of names.
pub(crate) fn has_letter(text: &str) -> bool {
    let mut depth = 0_usize;
    text.chars().any(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => (),
        }
        depth == 0 && c.is_lowercase()
    })
}

/// Removes the prefix of a message or a hint. Returns true for a hint.
pub(crate) fn split_prefix(text: &str) -> (&str, bool) {
    let text = ["aba-lock: ", "aba-lockd: "].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    text.trim_start().strip_prefix("hint: ").map_or((text, false), |hint| (hint, true))
}

/// Formats one message as a line of the catalogue. Further lines of its text are indented. `...` at the start or the end
/// stands for the rest of a sentence that is put together from parts.
pub(crate) fn format_message(message: &Message) -> String {
    let text = message.text.trim_start_matches('\n');
    let first = text.chars().next().unwrap_or_default();
    let before = if matches!(first, ' ' | ',' | ';' | ')') && !text.contains('\n') { "..." } else { "" };
    let after = if text.ends_with(' ') { "..." } else { "" };
    let hint = if message.is_hint { "hint: " } else { "" };
    let mut lines = text.trim_end_matches('\n').lines().map(escape_controls);
    let mut formatted = format!("{hint}{before}{}", lines.next().unwrap_or_default());
    for line in lines {
        formatted.push('\n');
        formatted.push_str(format!("{INDENT}{line}").trim_end());
    }
    formatted + after + "\n"
}

fn escape_controls(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Formats the messages of one file. A hint stands below the message that it belongs to.
pub(crate) fn format_messages(messages: Vec<Message>) -> String {
    let mut blocks: Vec<String> = Vec::new();
    for message in pair_hints(messages) {
        let line = format_message(&message);
        match blocks.last_mut() {
            Some(last) if message.is_hint && last.ends_with(&line) => (),
            Some(last) if message.is_hint => last.push_str(&line),
            _ => blocks.push(line),
        }
    }
    let mut text = String::new();
    for (index, block) in blocks.iter().enumerate() {
        if !blocks[..index].contains(block) {
            text.push_str(block);
        }
    }
    text
}

/// Moves each hint of an error type to the messages of its variants. A hint for several variants is repeated.
fn pair_hints(messages: Vec<Message>) -> Vec<Message> {
    let (hints, mut paired): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|message| message.is_hint && !message.variants.is_empty());
    for hint in hints {
        let mut is_placed = false;
        for variant in &hint.variants {
            let last = paired.iter().rposition(|message| message.variants.contains(variant));
            if let Some(at) = last {
                paired.insert(at + 1, Message { variants: vec![variant.clone()], ..hint.clone() });
                is_placed = true;
            }
        }
        if !is_placed {
            paired.push(hint);
        }
    }
    paired
}

#[test]
fn hints_stand_below_their_messages() {
    let message = |text: &str, variant: &str| Message {
        text: text.into(),
        is_hint: false,
        variants: vec![variant.into()],
        item: String::new(),
    };
    let hint = |text: &str, variants: &[&str]| Message {
        text: text.into(),
        is_hint: true,
        variants: variants.iter().map(ToString::to_string).collect(),
        item: String::new(),
    };
    let messages = vec![
        hint("do x", &["E::A", "E::B"]),
        hint("do y", &["E::A"]),
        message("a is held", "E::A"),
        message(", by {b}", "E::A"),
        message("b is held", "E::B"),
        message("b is held", "E::B"),
    ];
    assert_eq!(
        format_messages(messages),
        "a is held\n..., by {b}\nhint: do x\nhint: do y\nb is held\nb is held\nhint: do x\n"
    );
}
