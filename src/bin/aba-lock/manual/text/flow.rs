//! Puts words into lines.

/// The indentation of the text of a section, and of the text below a term.
pub(super) const INDENT: usize = 4;

/// The font of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Font {
    Roman,
    Bold,
    Italic,
}

/// A word with its escape sequences, and the number of its columns.
#[derive(Debug, Default)]
struct Word {
    text: String,
    columns: usize,
}

/// The lines of a page while it is formatted.
#[derive(Debug)]
pub(super) struct Flow {
    width: usize,
    styled: bool,
    lines: String,
    /// The words of the line that is not complete yet. The last one can still grow.
    words: Vec<Word>,
    /// True if the next text belongs to the last word.
    joined: bool,
    /// The indentation.
    left: usize,
    /// A term that waits for the text next to it, and the indentation of the term.
    term: Option<(Word, usize)>,
    /// True if an empty line must precede the next line.
    gap: bool,
    /// True after a heading, which no empty line follows.
    is_below_heading: bool,
}

impl Flow {
    pub(super) fn new(width: usize, styled: bool) -> Self {
        let lines = String::new();
        Self {
            width,
            styled,
            lines,
            words: Vec::new(),
            joined: true,
            left: 0,
            term: None,
            gap: false,
            is_below_heading: true,
        }
    }

    /// Returns the lines.
    pub(super) fn finish(mut self) -> String {
        self.break_line();
        self.lines
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Adds the words of a text with escapes of roff. Another font inside ends with the text.
    pub(super) fn put(&mut self, text: &str, font: Font) {
        if !std::mem::take(&mut self.joined) || self.words.is_empty() {
            self.words.push(Word::default());
        }
        let mut present = font;
        let mut rest = text.chars();
        self.set_font(Font::Roman, present);
        while let Some(c) = rest.next() {
            let c = match c {
                '\\' => match rest.next() {
                    Some('f') => {
                        let next = match rest.next() {
                            Some('B') => Font::Bold,
                            Some('I') => Font::Italic,
                            _ => Font::Roman,
                        };
                        self.set_font(present, next);
                        present = next;
                        continue;
                    }
                    Some('(') => find_character(rest.next(), rest.next()),
                    Some('*') => {
                        rest.nth(2);
                        '\''
                    }
                    Some('e') => '\\',
                    // A blank at which no line is broken.
                    Some(' ') => '\u{a0}',
                    Some('&') | None => continue,
                    Some(other) => other,
                },
                ' ' => {
                    self.set_font(present, Font::Roman);
                    self.words.push(Word::default());
                    self.set_font(Font::Roman, present);
                    continue;
                }
                other => other,
            };
            if let Some(word) = self.words.last_mut() {
                word.text.push(if c == '\u{a0}' { ' ' } else { c });
                word.columns += 1;
            }
        }
        self.set_font(present, Font::Roman);
    }

    /// Makes the next text a part of the last word.
    pub(super) fn join(&mut self) {
        self.joined = !self.words.is_empty();
    }

    fn set_font(&mut self, from: Font, to: Font) {
        if let Some(word) = self.words.last_mut().filter(|_| self.styled && from != to) {
            word.text.push_str(match to {
                Font::Roman => "\x1b[0m",
                Font::Bold => "\x1b[0;1m",
                Font::Italic => "\x1b[0;4m",
            });
        }
    }

    /// Ends the line. The next text begins a new one.
    pub(super) fn break_line(&mut self) {
        let words: Vec<Word> = self.words.drain(..).filter(|word| word.columns > 0).collect();
        self.joined = false;
        if words.is_empty() && self.term.is_none() {
            return;
        }
        self.is_below_heading = false;
        if std::mem::take(&mut self.gap) {
            self.lines.push('\n');
        }
        let mut column = 0;
        if let Some((term, left)) = self.term.take() {
            self.lines.push_str(&" ".repeat(left));
            self.lines.push_str(&term.text);
            column = left + term.columns;
            if words.is_empty() || column + 1 >= self.left {
                self.lines.push('\n');
                column = 0;
            }
        }
        let mut is_first = true;
        for word in words {
            if !is_first && column + 1 + word.columns > self.width {
                self.lines.push('\n');
                column = 0;
                is_first = true;
            }
            let blanks = if is_first { self.left.saturating_sub(column) } else { 1 };
            self.lines.push_str(&" ".repeat(blanks));
            self.lines.push_str(&word.text);
            column += blanks + word.columns;
            is_first = false;
        }
        if !is_first {
            self.lines.push('\n');
        }
    }

    /// Ends the line. An empty line follows, and then text with this indentation.
    pub(super) fn begin_paragraph(&mut self, left: usize) {
        self.break_line();
        self.gap = !self.is_below_heading;
        self.left = left;
    }

    /// Ends the line. Text with this indentation follows.
    pub(super) fn set_left(&mut self, left: usize) {
        self.break_line();
        self.left = left;
    }

    /// Begins a section. Its heading has another indentation than its text.
    pub(super) fn begin_section(&mut self, title: &str, left: usize, text_left: usize) {
        self.break_line();
        self.gap = !self.lines.is_empty();
        self.left = left;
        self.put(title, Font::Bold);
        self.break_line();
        self.left = text_left;
        self.is_below_heading = true;
    }

    /// Makes the text of the present line a term. The text that follows is indented by so many columns more.
    pub(super) fn hang(&mut self, columns: usize) {
        let mut term = Word::default();
        for word in self.words.drain(..).filter(|word| word.columns > 0) {
            if term.columns > 0 {
                term.text.push(' ');
                term.columns += 1;
            }
            term.text.push_str(&word.text);
            term.columns += word.columns;
        }
        self.joined = false;
        self.term = Some((term, self.left));
        self.left += columns;
    }

    /// Adds a line whose blanks stay.
    pub(super) fn put_literal(&mut self, line: &str) {
        self.put(&line.replace(' ', "\u{a0}"), Font::Roman);
        if line.is_empty() {
            self.lines.push('\n');
        }
        self.break_line();
    }
}

/// Returns the character that roff names with two letters.
fn find_character(first: Option<char>, second: Option<char>) -> char {
    match (first, second) {
        (Some('d'), Some('q')) => '"',
        (Some('b'), Some('u')) => '•',
        (Some('e'), Some('n')) => '–',
        // aq
        _ => '\'',
    }
}
