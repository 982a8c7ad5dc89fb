//! The report as one JSON object, whose fields `--help` documents.

use crate::row::{Results, Row, Unit};
use serde_json::{Value, json};

pub(crate) fn write(results: &Results) -> String {
    let machine = &results.machine;
    let object = json!({
        "date": machine.date,
        "cpu": machine.cpu,
        "cores": machine.cores,
        "kernel": machine.kernel,
        "load": machine.load,
        "helper": machine.helper,
        "flock": machine.flock,
        "bash": machine.bash,
        "rounds": results.rounds,
        "rows": results.rows.iter().map(row).collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

fn row(row: &Row) -> Value {
    let unit = match row.unit {
        Unit::Microseconds => "us",
        Unit::PerSecond => "per_second",
        Unit::Kibibytes => "KiB",
    };
    json!({
        "part": row.part,
        "row": row.name,
        "size": row.size.map(|(size, _)| size),
        "size_of": row.size.map(|(_, of)| of),
        "unit": unit,
        "rounds": row.sides[0].values.len(),
        "sides": (0..row.sides.len()).map(|at| side(row, at)).collect::<Vec<_>>(),
    })
}

fn side(row: &Row, at: usize) -> Value {
    let side = &row.sides[at];
    let (spread, ratio) = (side.spread(), row.ratio(at));
    json!({
        "side": side.name,
        "value": spread.median,
        "minimum": spread.minimum,
        "p10": spread.p10,
        "p90": spread.p90,
        "maximum": spread.maximum,
        "cpu_us": side.cpu(),
        "peak_kib": side.peak_kib,
        "ratio": ratio.map(|ratio| ratio.median),
        "ratio_low": ratio.map(|ratio| ratio.low),
        "ratio_high": ratio.map(|ratio| ratio.high),
        "cpu_ratio": row.cpu_ratio(at).map(|ratio| ratio.median),
    })
}
