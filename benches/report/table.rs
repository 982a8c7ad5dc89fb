//! The report as an aligned table: one line for each side.

use super::{format_title, format_value};
use crate::row::{Results, Row, Unit};
use std::fmt::Write as _;

const SIDE: usize = 22;

pub(crate) fn write(results: &Results) -> String {
    let mut text = results.machine.describe().join("\n");
    let rounds = results.rounds;
    write!(
        text,
        "\nMedians; rounds: {rounds}, fewer where they take long; with the 10th and the 90th of a hundred; processor\n\
         time; peak memory; and what aba-lock takes of what the other takes, with 95 % certainty.\n"
    )
    .unwrap();
    let mut part = "";
    for row in &results.rows {
        if row.part != part {
            part = row.part;
            write!(
                text,
                "\n{part:<SIDE$} {:>10}  {:>10} {:>10}  {:>10} {:>10}  aba-lock takes\n",
                "median", "p10", "p90", "cpu", "peak"
            )
            .unwrap();
        }
        writeln!(text, "{}", format_title(row)).unwrap();
        for side in 0..row.sides.len() {
            writeln!(text, "{}", line(row, side).trim_end()).unwrap();
        }
    }
    text
}

fn line(row: &Row, at: usize) -> String {
    let side = &row.sides[at];
    let spread = side.spread();
    let one = |number: f64| format_value(number, row.unit);
    let cpu = side.cpu().map_or(String::new(), |cpu| format_value(cpu, Unit::Microseconds));
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    let peak = side.peak_kib.map_or(String::new(), |peak| match peak {
        // The kernel counts the pages of a process in batches, and may count none.
        0 => "a few KiB".to_owned(),
        peak => format_value(peak as f64, Unit::Kibibytes),
    });
    let ratio = row
        .ratio(at)
        .map_or(String::new(), |ratio| format!("{:.2} of it ({:.2} to {:.2})", ratio.median, ratio.low, ratio.high));
    format!(
        "  {:<width$} {:>10}  {:>10} {:>10}  {cpu:>10} {peak:>10}  {ratio}",
        side.name,
        one(spread.median),
        one(spread.p10),
        one(spread.p90),
        width = SIDE - 2
    )
}
