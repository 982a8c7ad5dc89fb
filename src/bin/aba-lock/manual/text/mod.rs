//! Formats the source of a page as text, for machines without man(1) and for pipes.
//!
//! It knows the requests that the pages of this program use, and no others. A test compares its words with those of mandoc(1).

mod flow;
mod mdoc;

use flow::{Flow, Font, INDENT};
use mdoc::Mdoc;

/// Formats the source of a page for lines of `width` columns. With `styled`, terms are bold and values are underlined.
pub(crate) fn format_page(source: &str, width: usize, styled: bool) -> String {
    let mut flow = Flow::new(width, styled);
    if source.starts_with(".Dd") {
        Mdoc::new(&mut flow).format(source);
    } else {
        format_man(&mut flow, source);
    }
    flow.finish()
}

/// Formats a page in the language man(7).
fn format_man(flow: &mut Flow, source: &str) {
    let mut is_term = false;
    for line in source.lines() {
        if line.is_empty() {
            flow.begin_paragraph(flow.left());
            continue;
        }
        let Some(request) = line.strip_prefix(['.', '\'']) else {
            flow.put(line, Font::Roman);
            if std::mem::take(&mut is_term) {
                flow.hang(INDENT);
            }
            continue;
        };
        let (request, text) = request.split_once(' ').unwrap_or((request, ""));
        let text = text.trim_matches('"');
        match request {
            "SH" => flow.begin_section(text, 0, INDENT),
            "SS" => flow.begin_section(text, INDENT / 2, INDENT),
            "PP" => flow.begin_paragraph(INDENT),
            "br" => flow.break_line(),
            "TP" => {
                flow.begin_paragraph(INDENT);
                is_term = true;
            }
            // The others concern the date and the names of characters.
            _ => {}
        }
    }
}
