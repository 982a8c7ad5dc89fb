//! The report as a drawing of cost against size, for light and dark pages. Both axes are logarithmic, so that a cost that grows in
//! proportion to the size is a line with the slope of the dotted one.

use super::{format_thousands, format_value};
use crate::row::{Results, Row, Unit};
use crate::stats::{Spread, describe_spread};
use std::fmt::Write as _;

/// The size of the drawing and of its head, in pixels.
const WIDTH: f64 = 1120.0;
const HEAD: f64 = 64.0;

/// The distance between panels, the size of the field with curves in a panel, and the position of that field.
const PANEL: (f64, f64) = (560.0, 270.0);
const FIELD: (f64, f64) = (270.0, 180.0);
const CORNER: (f64, f64) = (76.0, 38.0);

/// The smallest distance between two labels.
const LABEL_HEIGHT: f64 = 15.0;

const STYLE: &str = "
text { font: 12px system-ui, 'DejaVu Sans', sans-serif; fill: #1f2328 }
.page { fill: #ffffff } .title { font-weight: bold; font-size: 13px } .small { fill: #59636e; font-size: 11px }
.grid { stroke: #d1d9e0; stroke-width: 1 } .guide { stroke: #818b98; stroke-width: 1; stroke-dasharray: 1 4; fill: none }
.curve { fill: none; stroke-width: 2 } .whisker { stroke-width: 1 }
.c0 { stroke: #0969da } .c1 { stroke: #bc4c00 } .c2 { stroke: #8250df } .c3 { stroke: #59636e }
.f0 { fill: #0969da } .f1 { fill: #bc4c00 } .f2 { fill: #8250df } .f3 { fill: #59636e }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .page { fill: #0d1117 } .small { fill: #9198a1 }
.grid { stroke: #30363d } .guide { stroke: #6e7681 }
.c0 { stroke: #58a6ff } .c1 { stroke: #f0883e } .c2 { stroke: #bc8cff } .c3 { stroke: #9198a1 }
.f0 { fill: #58a6ff } .f1 { fill: #f0883e } .f2 { fill: #bc8cff } .f3 { fill: #9198a1 }
}
";

/// The panels: title, part, row (empty: all rows that have a size), and whether the cost is expected to grow in proportion to the
/// size.
const PANELS: [(&str, &str, &str, bool); 6] = [
    ("Commands under one lock, a second", "throughput", "", false),
    ("Release until all waiters have held it", "waiters", "release until all waiters have held it", true),
    ("Processor time of each, a second of waiting", "waiters", "processor time of each, a second of waiting", false),
    ("Memory of each waiter", "waiters", "memory of each", false),
    ("Looking at locks", "list", "", true),
    ("Looking at tasks", "run-once", "", true),
];

/// A curve: pairs of a size and the values there.
struct Curve {
    name: String,
    points: Vec<(f64, Spread)>,
}

struct Panel {
    title: &'static str,
    unit: Unit,
    size_of: &'static str,
    in_proportion: bool,
    curves: Vec<Curve>,
}

pub(crate) fn draw(results: &Results) -> String {
    let panels: Vec<Panel> = PANELS.iter().filter_map(|panel| find_panel(results, *panel)).collect();
    #[allow(clippy::cast_precision_loss, reason = "a handful")]
    let height = HEAD + panels.len().div_ceil(2) as f64 * PANEL.1;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\">\n\
         <style>{STYLE}</style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    let [machine, programs] = results.machine.describe();
    text(&mut svg, (16.0, 24.0), "small", "start", &machine);
    text(
        &mut svg,
        (16.0, 40.0),
        "small",
        "start",
        &format!("{programs}; medians, with the 10th and the 90th of a hundred; dotted: in proportion to the number"),
    );
    for (at, panel) in panels.iter().enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        let (x, y) = ((at % 2) as f64 * PANEL.0, HEAD + (at / 2) as f64 * PANEL.1);
        writeln!(svg, "<g transform=\"translate({:.0} {:.0})\">", x + CORNER.0, y + CORNER.1).unwrap();
        panel.draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns a panel with a curve for each side, or, if the helper is the only side, for each row. Returns `None` if there are fewer
/// than two sizes.
fn find_panel(
    results: &Results,
    (title, part, name, in_proportion): (&'static str, &str, &str, bool),
) -> Option<Panel> {
    let is_wanted = |row: &&Row| row.part == part && row.size.is_some() && (name.is_empty() || row.name == name);
    let mut curves: Vec<Curve> = Vec::new();
    let (mut unit, mut size_of) = (Unit::Microseconds, "");
    for row in results.rows.iter().filter(is_wanted) {
        let (size, counted) = row.size?;
        (unit, size_of) = (row.unit, counted);
        for side in &row.sides {
            let name = if row.sides.len() == 1 { row.name.as_str() } else { side.name };
            let point = (f64::from(size), describe_spread(&side.values));
            match curves.iter_mut().find(|curve| curve.name == name) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Curve { name: name.to_owned(), points: vec![point] }),
            }
        }
    }
    curves.first().is_some_and(|curve| curve.points.len() > 1).then_some(Panel {
        title,
        unit,
        size_of,
        in_proportion,
        curves,
    })
}

/// A logarithmic axis.
struct Axis {
    low: f64,
    high: f64,
    length: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        (value.max(self.low).log10() - self.low.log10()) / (self.high.log10() - self.low.log10()) * self.length
    }
}

impl Panel {
    fn draw(&self, svg: &mut String) {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let sizes = || points().map(|(size, _)| *size);
        let x = Axis { low: sizes().fold(f64::MAX, f64::min), high: sizes().fold(0.0, f64::max), length: FIELD.0 };
        let values = || points().flat_map(|(_, spread)| [spread.p10, spread.p90]).filter(|value| *value > 0.0);
        // The limits are powers of ten, so that there are grid lines at both ends.
        let low = 10_f64.powf(values().fold(f64::MAX, f64::min).log10().floor());
        let high = 10_f64.powf(values().fold(0.0, f64::max).log10().ceil()).max(low * 10.0);
        let y = Axis { low, high, length: FIELD.1 };
        text(svg, (0.0, -14.0), "title", "start", self.title);
        let mut power = low;
        while power <= high * 1.01 {
            let at = FIELD.1 - y.at(power);
            writeln!(svg, "<path class=\"grid\" d=\"M0 {at:.1}H{}\"/>", FIELD.0).unwrap();
            text(svg, (-8.0, at + 4.0), "small", "end", &format_power(power, self.unit));
            power *= 10.0;
        }
        for (size, _) in &self.curves[0].points {
            let at = x.at(*size);
            writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {0}v4\"/>", FIELD.1).unwrap();
            text(svg, (at, FIELD.1 + 17.0), "small", "middle", &format_rounded(*size));
        }
        text(svg, (FIELD.0 / 2.0, FIELD.1 + 34.0), "small", "middle", self.size_of);
        if self.in_proportion {
            self.draw_guide(svg, &x, &y);
        }
        for (number, curve) in self.curves.iter().enumerate() {
            curve.draw(svg, number, &x, &y);
        }
        self.draw_labels(svg, &y);
    }

    /// Draws a dotted line from the first point of the first curve, with the slope of a cost that grows in proportion.
    fn draw_guide(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (size, spread) = self.curves[0].points[0];
        let begin = spread.median.max(y.low);
        let factor = (x.high / size).min(y.high / begin);
        let (left, right) = (x.at(size), x.at(size * factor));
        let (low, high) = (FIELD.1 - y.at(begin), FIELD.1 - y.at(begin * factor));
        writeln!(svg, "<path class=\"guide\" d=\"M{left:.1} {low:.1}L{right:.1} {high:.1}\"/>").unwrap();
    }

    /// Draws a label next to the last point of each curve, with enough distance between labels.
    fn draw_labels(&self, svg: &mut String, y: &Axis) {
        let last = |curve: &Curve| curve.points.last().map_or(0.0, |(_, spread)| spread.median);
        let mut labels: Vec<(f64, usize)> =
            self.curves.iter().enumerate().map(|(at, curve)| (FIELD.1 - y.at(last(curve)), at)).collect();
        labels.sort_by(|one, other| one.0.total_cmp(&other.0));
        for at in 1..labels.len() {
            labels[at].0 = labels[at].0.max(labels[at - 1].0 + LABEL_HEIGHT);
        }
        let mut lowest = FIELD.1 - 2.0;
        for (place, _) in labels.iter_mut().rev() {
            *place = place.min(lowest);
            lowest = *place - LABEL_HEIGHT;
        }
        for (place, number) in labels {
            let curve = &self.curves[number];
            let end = format_short(last(curve), self.unit);
            text(
                svg,
                (FIELD.0 + 10.0, place + 4.0),
                &format!("f{}", curve.colour(number)),
                "start",
                &format!("{} {end}", curve.name),
            );
        }
    }
}

impl Curve {
    /// The index of the colour in the style. The floor has the same colour in all panels.
    fn colour(&self, number: usize) -> usize {
        if self.name == "floor" { 3 } else { number % 4 }
    }

    fn draw(&self, svg: &mut String, number: usize, x: &Axis, y: &Axis) {
        let (number, place) = (self.colour(number), |value: f64| FIELD.1 - y.at(value));
        let mut line = String::new();
        for (size, spread) in &self.points {
            let (at, median) = (x.at(*size), place(spread.median));
            let (low, high) = (place(spread.p10), place(spread.p90));
            write!(line, "{}{at:.1} {median:.1}", if line.is_empty() { 'M' } else { 'L' }).unwrap();
            writeln!(svg, "<path class=\"whisker c{number}\" d=\"M{at:.1} {low:.1}V{high:.1}\"/>").unwrap();
            writeln!(svg, "<circle class=\"f{number}\" cx=\"{at:.1}\" cy=\"{median:.1}\" r=\"3\"/>").unwrap();
        }
        writeln!(svg, "<path class=\"curve c{number}\" d=\"{line}\"/>").unwrap();
    }
}

fn format_power(number: f64, unit: Unit) -> String {
    match unit {
        // A power of ten in KiB is not one in MiB.
        Unit::Kibibytes => format!("{} KiB", format_rounded(number)),
        Unit::PerSecond => format!("{} /s", format_rounded(number)),
        Unit::Microseconds => format_short(number, unit),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole numbers")]
fn format_rounded(number: f64) -> String {
    format_thousands(number.round() as u32)
}

/// Formats a value without zeros at its end.
fn format_short(number: f64, unit: Unit) -> String {
    if number <= 0.0 { "none".to_owned() } else { format_value(number, unit).replace(".00", "").replace(".0 ", " ") }
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{words}</text>").unwrap();
}
