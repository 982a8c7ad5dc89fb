//! Long output in pieces: a list of many thousand locks is printed while it is formatted, and needs little memory.

use super::stream::print_bytes;
use serde_json::Value;
use std::io::{self, Write};

/// The number of bytes that are collected before they are printed.
const PIECE: usize = 64 * 1024;

/// Prints text to standard output in pieces. The end is printed when this is dropped.
#[derive(Default)]
pub(crate) struct PiecePrinter {
    bytes: Vec<u8>,
    /// True if a piece was printed.
    printed: bool,
}

impl PiecePrinter {
    /// Returns true if there was no text yet.
    pub(crate) fn is_empty(&self) -> bool {
        !self.printed && self.bytes.is_empty()
    }

    pub(crate) fn put(&mut self, text: &str) {
        self.put_bytes(text.as_bytes());
    }

    pub(crate) fn put_line(&mut self, line: &str) {
        self.put(line);
        self.put("\n");
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > PIECE {
            self.print();
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Puts a JSON value whose first line is indented by `depth` levels.
    pub(crate) fn put_value(&mut self, value: &Value, depth: usize) {
        // Writing to memory does not fail, and the keys of an object are texts.
        let _ = serde_json::to_writer_pretty(Indented { printer: self, depth }, value);
    }

    /// Puts a key of a JSON object on a line of its own, indented by one level.
    pub(crate) fn put_key(&mut self, key: &str) {
        self.put("\n");
        self.put(INDENT);
        self.put_value(&Value::from(key), 1);
        self.put(": ");
    }

    /// Puts a JSON array whose first line is indented by `depth` levels. Each value is built, put and freed before the next one.
    pub(crate) fn put_array(&mut self, values: impl Iterator<Item = Value>, depth: usize) {
        let mut is_empty = true;
        for value in values {
            self.put(if is_empty { "[\n" } else { ",\n" });
            is_empty = false;
            self.put(&INDENT.repeat(depth + 1));
            self.put_value(&value, depth + 1);
        }
        if is_empty {
            self.put("[]");
        } else {
            self.put("\n");
            self.put(&INDENT.repeat(depth));
            self.put("]");
        }
    }

    fn print(&mut self) {
        self.printed |= !self.bytes.is_empty();
        print_bytes(&self.bytes);
        self.bytes.clear();
    }
}

impl Drop for PiecePrinter {
    fn drop(&mut self) {
        self.print();
    }
}

/// The indentation of a level.
const INDENT: &str = "  ";

/// Indents the lines of a JSON value that begins at some level. There are no line breaks in strings, and the others are at the end of
/// what is written.
struct Indented<'a> {
    printer: &'a mut PiecePrinter,
    depth: usize,
}

impl Write for Indented<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.printer.put_bytes(bytes);
        if bytes.ends_with(b"\n") {
            for _ in 0..self.depth {
                self.printer.put(INDENT);
            }
        }
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
