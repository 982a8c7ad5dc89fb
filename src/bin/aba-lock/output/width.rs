//! The columns that text takes on a terminal: two for a wide character, such as most of Chinese, and none for a combining one.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Returns the number of columns of a text without control characters.
pub(super) fn count_columns(text: &str) -> usize {
    // The usual text, for which the tables are not needed. A list can have many thousand cells.
    if text.is_ascii() { text.len() } else { text.width() }
}

/// Cuts a text to a number of columns. A wide character that does not fit is left out.
pub(super) fn cut_to_columns(text: &str, columns: usize) -> &str {
    if count_columns(text) <= columns {
        return text;
    }
    let mut taken = 0;
    let end = text.char_indices().find(|(_, c)| {
        taken += c.width().unwrap_or(0);
        taken > columns
    });
    &text[..end.map_or(text.len(), |(at, _)| at)]
}
