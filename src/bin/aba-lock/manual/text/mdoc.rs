//! Formats the macros of mdoc(7) that the pages in `shell/` use.

use super::flow::{Flow, Font, INDENT};

/// A list that is not complete yet.
#[derive(Debug)]
struct List {
    kind: String,
    /// The indentation of the items, and of their text in addition.
    left: usize,
    hang: usize,
    is_compact: bool,
    items: usize,
    /// The widths of the columns.
    columns: Vec<usize>,
}

/// A page in the language mdoc(7).
#[derive(Debug)]
pub(super) struct Mdoc<'a> {
    flow: &'a mut Flow,
    lists: Vec<List>,
    /// The indentation of the text around literal text, while that is formatted.
    around: Option<usize>,
    name: String,
}

impl<'a> Mdoc<'a> {
    pub(super) fn new(flow: &'a mut Flow) -> Self {
        Self { flow, lists: Vec::new(), around: None, name: String::new() }
    }

    pub(super) fn format(&mut self, source: &str) {
        for line in source.lines() {
            match line.strip_prefix('.') {
                Some(request) => self.do_request(request),
                None if self.around.is_some() => self.flow.put_literal(line),
                None => self.flow.put(line, Font::Roman),
            }
        }
    }

    fn do_request(&mut self, request: &str) {
        let words = split_words(request);
        let (first, rest) = match words.split_first() {
            Some((first, rest)) => (first.as_str(), rest),
            None => return,
        };
        match first {
            "Dd" | "Dt" | "Os" | "\\\"" => {}
            "Sh" => self.flow.begin_section(&rest.join(" "), 0, INDENT),
            "Ss" => self.flow.begin_section(&rest.join(" "), INDENT / 2, INDENT),
            "Pp" => self.flow.begin_paragraph(self.flow.left()),
            "Nd" => {
                self.flow.put("-", Font::Roman);
                self.flow.put(&rest.join(" "), Font::Roman);
            }
            "Bd" => {
                let left = self.flow.left();
                let more = if rest.iter().any(|word| word == "-offset") { INDENT } else { 0 };
                self.flow.begin_paragraph(left + more);
                self.around = Some(left);
            }
            "Ed" => {
                if let Some(left) = self.around.take() {
                    self.flow.set_left(left);
                }
            }
            "Bl" => self.begin_list(rest),
            "It" => self.begin_item(rest),
            "El" => {
                self.flow.break_line();
                if let Some(list) = self.lists.pop() {
                    self.flow.set_left(list.left);
                }
            }
            _ => self.put_words(&words),
        }
    }

    fn begin_list(&mut self, words: &[String]) {
        let is_compact = words.iter().any(|word| word == "-compact");
        let kind = words.first().cloned().unwrap_or_default();
        let width = words.iter().position(|word| word == "-width").and_then(|at| words.get(at + 1));
        let hang = match (kind.as_str(), width) {
            ("-tag", Some(width)) if width != "Ds" => width.len() + 2,
            ("-tag", _) => INDENT,
            _ => 3,
        };
        let columns = words.iter().skip(1).map(|word| word.len() + 2).collect();
        self.flow.break_line();
        self.lists.push(List { kind, left: self.flow.left(), hang, is_compact, items: 0, columns });
    }

    fn begin_item(&mut self, words: &[String]) {
        let Some(mut list) = self.lists.pop() else { return };
        list.items += 1;
        if list.is_compact || (list.kind == "-column" && list.items > 1) {
            self.flow.set_left(list.left);
        } else {
            self.flow.begin_paragraph(list.left);
        }
        match list.kind.as_str() {
            "-bullet" => self.flow.put("•", Font::Roman),
            "-enum" => self.flow.put(&format!("{}.", list.items), Font::Roman),
            "-column" => self.put_row(words, &list.columns),
            _ => self.put_words(words),
        }
        if list.kind != "-column" {
            self.flow.hang(list.hang);
        }
        self.lists.push(list);
    }

    /// Adds the row of a table, whose cells are separated by `Ta`.
    fn put_row(&mut self, words: &[String], columns: &[usize]) {
        // Without escapes, which have no columns.
        let cells =
            words.split(|word| word == "Ta").map(|cell| cell.join(" ").replace("\\ ", " ").replace("\\(en", "–"));
        let row: Vec<String> =
            cells.zip(columns).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        self.flow.put_literal(row.concat().trim_end());
    }

    /// Adds words, some of which are macros.
    fn put_words(&mut self, words: &[String]) {
        let Some((first, rest)) = words.split_first() else { return };
        match first.as_str() {
            "Ns" => {
                self.flow.join();
                self.put_words(rest);
            }
            "Op" => self.enclose("[", rest, "]"),
            "Pq" => self.enclose("(", rest, ")"),
            "Dq" => self.enclose("“", rest, "”"),
            "Ql" => self.enclose("‘", rest, "’"),
            "Oo" => {
                self.flow.put("[", Font::Roman);
                self.flow.join();
                self.put_words(rest);
            }
            "Oc" => {
                self.flow.join();
                self.flow.put("]", Font::Roman);
                self.put_words(rest);
            }
            "Xr" => {
                let name = rest.first().map_or("", String::as_str);
                let section = rest.get(1).map(|section| format!("({section})")).unwrap_or_default();
                self.flow.put(&format!("{name}{section}"), Font::Roman);
                self.put_words(rest.get(2..).unwrap_or_default());
            }
            "Nm" if rest.first().is_none_or(|word| is_closing(word)) => {
                let name = self.name.clone();
                self.flow.put(&name, Font::Bold);
                self.put_words(rest);
            }
            "Nm" => {
                if self.name.is_empty() {
                    rest[0].clone_into(&mut self.name);
                }
                self.put_in_font(rest, Font::Bold, "");
            }
            "Fl" if rest.first().is_none_or(|word| is_macro(word)) => {
                self.flow.put("-", Font::Bold);
                self.flow.join();
                self.put_words(rest);
            }
            "Fl" => self.put_in_font(rest, Font::Bold, "-"),
            "Cm" | "Ic" | "Sy" | "Li" => self.put_in_font(rest, Font::Bold, ""),
            "Ar" | "Pa" | "Va" | "Em" => self.put_in_font(rest, Font::Italic, ""),
            "Dv" | "Ev" | "No" | "Sx" => self.put_in_font(rest, Font::Roman, ""),
            _ => {
                self.put_plain(first);
                self.put_words(rest);
            }
        }
    }

    /// Adds words in a font, each with a text before it, until the next macro.
    fn put_in_font(&mut self, words: &[String], font: Font, before: &str) {
        for (at, word) in words.iter().enumerate() {
            if is_macro(word) {
                return self.put_words(&words[at..]);
            }
            if is_closing(word) || is_opening(word) || word == "|" {
                self.put_plain(word);
            } else {
                self.flow.put(&format!("{before}{word}"), font);
            }
        }
    }

    /// Adds a word outside of all macros. No blank precedes a punctuation mark that ends something, or follows one that begins it.
    fn put_plain(&mut self, word: &str) {
        if is_closing(word) {
            self.flow.join();
        }
        self.flow.put(word, Font::Roman);
        if is_opening(word) {
            self.flow.join();
        }
    }

    /// Adds words between two marks. The punctuation at the end of the line follows the second mark.
    fn enclose(&mut self, before: &str, words: &[String], after: &str) {
        let end = words.iter().rposition(|word| !is_closing(word)).map_or(0, |at| at + 1);
        self.flow.put(before, Font::Roman);
        self.flow.join();
        self.put_words(&words[..end]);
        self.flow.join();
        self.flow.put(after, Font::Roman);
        self.put_words(&words[end..]);
    }
}

fn is_closing(word: &str) -> bool {
    matches!(word, "." | "," | ":" | ";" | ")" | "]" | "?" | "!")
}

fn is_opening(word: &str) -> bool {
    matches!(word, "(" | "[")
}

fn is_macro(word: &str) -> bool {
    const MACROS: [&str; 22] = [
        "Ar", "Cm", "Dq", "Dv", "Em", "Ev", "Fl", "Ic", "Li", "Nm", "No", "Ns", "Oc", "Oo", "Op", "Pa", "Pq", "Ql",
        "Sx", "Sy", "Va", "Xr",
    ];
    MACROS.contains(&word)
}

/// Splits a request into words. A word in quotation marks can have blanks.
fn split_words(request: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = request.trim_start();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}
