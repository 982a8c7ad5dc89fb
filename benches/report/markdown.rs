//! The report as the table of docs/performance.md: one line for each other side.

use super::{format_title, format_value};
use crate::row::{Results, Row};
use std::fmt::Write as _;

pub(crate) fn write(results: &Results) -> String {
    let mut text = "| | aba-lock | compared with | ratio | processor time |\n|---|---|---|---|---|\n".to_owned();
    for row in &results.rows {
        lines(&mut text, row);
    }
    let [machine, programs] = results.machine.describe();
    write!(text, "\n{machine}; {programs}; medians, rounds: {}.\n", results.rounds).unwrap();
    text
}

fn lines(text: &mut String, row: &Row) {
    let median = |at: usize| format_value(row.sides[at].spread().median, row.unit);
    let (title, ours) = (format_title(row), median(0));
    if row.sides.len() == 1 {
        writeln!(text, "| {title} | {ours} | | | |").unwrap();
    }
    for at in 1..row.sides.len() {
        let (title, ours) = if at == 1 { (title.as_str(), ours.as_str()) } else { ("", "") };
        let ratio = row.ratio(at).map_or(String::new(), |ratio| format!("{:.2}", ratio.median));
        let cpu = row.cpu_ratio(at).map_or(String::new(), |ratio| format!("{:.2}", ratio.median));
        writeln!(text, "| {title} | {ours} | {}: {} | {ratio} | {cpu} |", row.sides[at].name, median(at)).unwrap();
    }
}
