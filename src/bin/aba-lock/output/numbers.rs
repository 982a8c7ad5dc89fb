//! What `reserve` and its kin print.

use super::{command, plain, print, sentence, span};
use crate::args::reserve::Format;
use aba_lock::error::Error;
use aba_lock::number::book::Row;
use aba_lock::number::lease::Lease;
use aba_lock::number::list::Entry;
use aba_lock::number::plan::{Because, Dropped, Plan, Probe, Why};
use aba_lock::number::pool::{Pool, Range, Tag};
use aba_lock::number::registry::Recovered;
use aba_lock::os::proc::{port_owners, process};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The numbers, as a program reads them. `values` has the variables, where the format needs them.
pub(crate) fn given(plan: &Plan, values: &[(String, u32)], format: Format) {
    let mut text = String::new();
    if format == Format::Json {
        let values: Map<String, Value> = values.iter().map(|(name, number)| (name.clone(), json!(number))).collect();
        text = format!("{}\n", Value::Object(values));
    } else if format == Format::Plain {
        for given in &plan.given {
            let _ = writeln!(text, "{}", given.number);
        }
    } else {
        for (name, number) in values {
            let _ = match format {
                Format::Export => writeln!(text, "export {name}={number}"),
                Format::Fish => writeln!(text, "set -gx {name} {number}"),
                _ => writeln!(text, "{name}={number}"),
            };
        }
    }
    print(&text);
}

/// What else is to be said of them: of preferences that are not met, of numbers that others use, of rows that had to go.
pub(crate) fn told(plan: &Plan, directory: &Path, probe: Probe) {
    for dropped in &plan.dropped {
        sentence(&format!("gave {} back: {}", of(&dropped.row), because(dropped)), None);
    }
    for path in &plan.odd {
        let text = format!("a number is passed over: its lock file {} is none", path.display());
        sentence(&text, Some("see whose it is with `ls -l`"));
    }
    if let Some((base, number, why)) = &plan.unmet_base {
        let instead = plan.given.first().map_or(0, |given| given.number);
        sentence(
            &format!("the group cannot begin at {base}: {}; {instead} is given instead", clause(*number, why)),
            None,
        );
    }
    for given in &plan.given {
        match &given.unmet {
            Some((number, Why::Other(has))) => {
                let tag = labelled(&given.tag);
                let text = format!("{number} is not given: {}{tag} has {has} already", directory.display());
                sentence(&text, Some("to have another, release that one first: `aba-lock release`"));
            }
            Some((number, why)) => {
                let hint = matches!(why, Why::OutOfRange(_)).then_some("take a wider `--range`");
                sentence(&format!("{}; {} is given instead", clause(*number, why), given.number), hint);
            }
            None => {}
        }
        if given.in_use && probe != Probe::NONE {
            sentence(
                &format!(
                    "{} of {}{} is in use{}",
                    given.number,
                    directory.display(),
                    labelled(&given.tag),
                    by(given.number)
                ),
                None,
            );
        }
    }
}

/// Why a number cannot be had.
fn clause(number: u32, why: &Why) -> String {
    let by = if *why == Why::InUse { by(number) } else { String::new() };
    format!("{number} {why}{by}")
}

fn by(number: u32) -> String {
    let found = port_owners::of(&[number]).and_then(|mut found| found.remove(&number)).unwrap_or_default();
    let who = |pid: &u32| format!(" by pid {pid} ({})", command(&process::command_line(*pid)));
    found.first().map(who).unwrap_or_default()
}

fn labelled(tag: &Tag) -> String {
    if tag.as_str().is_empty() { String::new() } else { format!(" ({tag})") }
}

fn of(row: &Row) -> String {
    format!("{} of {}{}", row.number, row.directory.display(), labelled(&row.tag))
}

fn because(dropped: &Dropped) -> String {
    match dropped.because {
        Because::Gone => "its directory is gone".to_owned(),
        Because::Unused(days) => format!("it was not asked for in {days} days"),
        Because::Released => "it was released".to_owned(),
    }
}

/// That a number is used again could not be written down.
pub(crate) fn not_noted(error: &Error, quiet: bool) {
    if !quiet {
        sentence(&format!("could not note that it is used: {error}"), None);
    }
}

/// What is given back: number, tag and directory, a line each.
pub(crate) fn dropped(rows: &[Dropped]) {
    let line = |dropped: &Dropped| line(&dropped.row, &dropped.row.directory);
    print(&rows.iter().map(line).collect::<String>());
}

/// What is moved, and where to.
pub(crate) fn moved(rows: &[(Row, PathBuf)]) {
    print(&rows.iter().map(|(row, to)| line(row, to)).collect::<String>());
}

fn line(row: &Row, directory: &Path) -> String {
    format!("{}\t{}\t{}\n", row.number, row.tag, field(directory))
}

pub(crate) fn recovered(pool: &Pool, recovered: Option<&Recovered>) {
    match recovered {
        None => sentence(&format!("the registry of {pool} is not damaged: nothing was changed"), None),
        Some(Recovered { rows, lost, kept, earlier }) => {
            let from = earlier.as_ref().map_or_else(String::new, |earlier| {
                format!(" out of an earlier one, which is now {}", earlier.display())
            });
            let text = format!(
                "took {rows} numbers over{from}; {lost} lines could not be read; the damaged registry is now {}",
                kept.display()
            );
            let all = "no number was found: see whether an earlier one is kept as POOL.damaged-*, and before others are \
                       given, exclude those that you know to be in use: `aba-lock exclude`";
            let some = "before others are given, exclude those that you know to be in use: `aba-lock exclude`";
            let hint = if *rows == 0 { Some(all) } else { (*lost > 0).then_some(some) };
            sentence(&text, hint);
        }
    }
}

pub(crate) fn not_excluded(ranges: &[Range]) {
    for range in ranges {
        sentence(&format!("{range} is not excluded"), Some("see what is with `aba-lock exclude --list`"));
    }
}

pub(crate) fn kept_though_excluded<'a>(rows: impl Iterator<Item = &'a Row>) {
    for row in rows {
        sentence(&format!("{} stays reserved until it is released", of(row)), None);
    }
}

pub(crate) fn leased_though_excluded(ranges: &[Range], leases: &[Lease]) {
    for lease in leases.iter().filter(|lease| ranges.iter().any(|range| range.contains(lease.number))) {
        let who = |(pid, line): &(u32, String)| format!(" by pid {pid} ({})", command(line));
        let by = lease.holders.first().map(who).unwrap_or_default();
        sentence(&format!("{} stays leased{by} until that ends", lease.number), None);
    }
}

/// `reserve --list`.
pub(crate) fn list(entries: &[Entry], format: Format) {
    match format {
        Format::Json => {
            let values: Vec<Value> = entries.iter().map(value).collect();
            let text = serde_json::to_string_pretty(&values).unwrap_or_default();
            print(&format!("{text}\n"));
        }
        Format::Tsv => {
            let text = entries.iter().map(cells).map(|cells| cells.join("\t") + "\n");
            print(&text.collect::<String>());
        }
        _ => table(entries),
    }
}

fn value(entry: &Entry) -> Value {
    let seconds = |span: Option<std::time::Duration>| span.map(|span| span.as_secs());
    json!({
        "pool": entry.pool.as_str(),
        "number": entry.number,
        "kind": entry.hold.as_str(),
        "tag": entry.tag.as_str(),
        "directory": entry.directory.as_ref().map(|directory| directory.to_string_lossy()),
        "gone": entry.gone,
        "age_seconds": seconds(entry.age),
        "unused_seconds": seconds(entry.unused),
        "in_use": entry.in_use,
        "by": entry.by.iter().map(|(pid, command)| json!({"pid": pid, "command": command})).collect::<Vec<_>>(),
    })
}

/// Pool, number, kind, tag, age, unused, in use, by whom, directory. What is not known is `-`.
fn cells(entry: &Entry) -> [String; 9] {
    let time = |time: Option<std::time::Duration>| time.map_or("-".to_owned(), span);
    let in_use = match entry.in_use {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    let by: Vec<String> = entry.by.iter().map(|(pid, line)| format!("{pid} ({})", command(line))).collect();
    let directory = entry.directory.as_deref().map_or("-".to_owned(), field);
    [
        entry.pool.to_string(),
        entry.number.to_string(),
        entry.hold.as_str().to_owned(),
        entry.tag.to_string(),
        time(entry.age),
        time(entry.unused),
        in_use.to_owned(),
        if by.is_empty() { "-".to_owned() } else { by.join(", ") },
        directory,
    ]
}

fn table(entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    let heads = ["POOL", "NUMBER", "KIND", "TAG", "AGE", "UNUSED", "IN USE", "BY", "DIRECTORY"].map(str::to_owned);
    let mut rows = vec![heads];
    rows.extend(entries.iter().map(|entry| {
        let mut cells = cells(entry);
        // One is enough for a table, and is cut like everywhere.
        if let Some((pid, _)) = entry.by.first() {
            let more = if entry.by.len() > 1 { format!(" and {} more", entry.by.len() - 1) } else { String::new() };
            cells[7] = format!("{pid} ({}){more}", process::name(*pid));
        }
        if entry.gone {
            cells[8].push_str(" (gone)");
        }
        cells
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..9).map(width).collect();
    // One pool goes without saying.
    let first = usize::from(entries.iter().all(|entry| entry.pool == entries[0].pool));
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths).skip(first) {
            let cell = plain(cell);
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    print(&text);
}

/// A directory as one field of a line.
fn field(directory: &Path) -> String {
    let mut text = String::new();
    for c in directory.to_string_lossy().chars() {
        if c.is_control() || c == '\\' {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(text, "\\{byte:03o}");
            }
        } else {
            text.push(c);
        }
    }
    text
}
