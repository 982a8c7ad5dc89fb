//! The difference of two texts, as `diff -u` prints it.
//!
//! Only the algorithm is that of the crate `similar`. Its own texts and formats contain all its algorithms, each for several types of text,
//! which were a tenth of the helper.

use similar::algorithms::{Capture, Compact, Replace, myers};
use similar::{DiffOp, group_diff_ops};
use std::collections::HashMap;
use std::ops::Range;

/// The number of equal lines around a change.
const CONTEXT: usize = 3;

/// Formats the difference of two texts, whose label is in the header. The text is empty if they are equal.
pub(super) fn format_difference(label: &str, old: &[u8], new: &[u8]) -> Vec<u8> {
    let (old, new): (Vec<&[u8]>, Vec<&[u8]>) = (split_lines(old), split_lines(new));
    // Numbers are compared faster than lines.
    let mut known = HashMap::new();
    let (old_numbers, new_numbers) = (number_lines(&mut known, &old), number_lines(&mut known, &new));
    let (old_numbers, new_numbers) = (old_numbers.as_slice(), new_numbers.as_slice());
    let mut found = Compact::new(Replace::new(Capture::new()), old_numbers, new_numbers);
    let Ok(()) = myers::diff(&mut found, old_numbers, 0..old.len(), new_numbers, 0..new.len());
    let mut text = Vec::new();
    for hunk in group_diff_ops(found.into_inner().into_inner().into_ops(), CONTEXT) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        if text.is_empty() {
            text.extend_from_slice(format!("--- {label}\n+++ {label}\n").as_bytes());
        }
        let range = |first: Range<usize>, last: Range<usize>| format_range(&(first.start..last.end));
        let old_range = range(first.old_range(), last.old_range());
        let new_range = range(first.new_range(), last.new_range());
        text.extend_from_slice(format!("@@ -{old_range} +{new_range} @@\n").as_bytes());
        for change in &hunk {
            if let DiffOp::Equal { .. } = change {
                put_lines(&mut text, b' ', &old[change.old_range()]);
            } else {
                put_lines(&mut text, b'-', &old[change.old_range()]);
                put_lines(&mut text, b'+', &new[change.new_range()]);
            }
        }
    }
    text
}

/// Returns a number for each line. Equal lines have the same number.
fn number_lines<'a>(known: &mut HashMap<&'a [u8], u32>, lines: &[&'a [u8]]) -> Vec<u32> {
    let mut numbers = Vec::with_capacity(lines.len());
    for line in lines {
        // A text of 64 MiB has fewer lines than there are numbers.
        let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
        numbers.push(*known.entry(line).or_insert(next));
    }
    numbers
}

fn split_lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').collect()
}

/// Formats the numbers of the first line and of the lines. An empty range is after a line.
fn format_range(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => (lines.start + 1).to_string(),
        len => format!("{},{len}", lines.start + 1),
    }
}

fn put_lines(text: &mut Vec<u8>, sign: u8, lines: &[&[u8]]) {
    for line in lines {
        text.push(sign);
        text.extend_from_slice(line);
        if !line.ends_with(b"\n") {
            text.extend_from_slice(b"\n\\ No newline at end of file\n");
        }
    }
}
