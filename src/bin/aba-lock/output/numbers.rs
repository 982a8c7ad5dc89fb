//! The output of `reserve`, `release`, `exclude` and `migrate`.

use super::pieces::PiecePrinter;
use super::stream::{print, print_message};
use super::table::{Column, format_table};
use super::text::{escape_controls, format_command};
use crate::args::reserve::Format;
use aba_lock::base::duration::format_span;
use aba_lock::base::text::quote_path;
use aba_lock::number::damaged_registry::RecoveredRegistry;
use aba_lock::number::error::NumberError;
use aba_lock::number::lease::LeasedNumber;
use aba_lock::number::list::NumberEntry;
use aba_lock::number::plan::NumberPlan;
use aba_lock::number::pool::{Pool, Tag};
use aba_lock::number::probe::Probe;
use aba_lock::number::prune::{DropReason, DroppedRow};
use aba_lock::number::range::NumberRange;
use aba_lock::number::row::Row;
use aba_lock::number::unavailable::Unavailable;
use aba_lock::os::proc::{port_owners, process};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Prints the numbers. `values` are the variables, if the format shows them.
pub(crate) fn print_numbers(plan: &NumberPlan, values: &[(String, u32)], format: Format) {
    let mut text = String::new();
    if format == Format::Json {
        let values: Map<String, Value> = values.iter().map(|(name, number)| (name.clone(), json!(number))).collect();
        text = format!("{}\n", Value::Object(values));
    } else if format == Format::Plain {
        for given in &plan.numbers {
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

/// Reports preferences that are not met, numbers that other processes use, and rows that were removed.
pub(crate) fn report_plan(plan: &NumberPlan, directory: &Path, probe: Probe) {
    for dropped in &plan.dropped {
        print_message(&format!("released {}: {}", format_row(&dropped.row), describe_cause(dropped)), None);
    }
    for path in &plan.unusable_locks {
        let text = format!("skipped a number: its lock file {} is not a regular file", path.display());
        print_message(&text, Some(&format!("show its owner with `ls -ld {}`", quote_path(path))));
    }
    if let Some((base, number, why)) = &plan.unmet_base {
        let instead = plan.numbers.first().map_or(0, |given| given.number);
        print_message(
            &format!(
                "the group cannot begin at {base}: {}; it begins at {instead} instead",
                describe_unmet(*number, why)
            ),
            None,
        );
    }
    for given in &plan.numbers {
        match &given.unmet {
            Some((number, Unavailable::HasOther(has))) => {
                let tag = format_tag(&given.tag);
                let text = format!("{number} is not reserved: {}{tag} already has {has}", directory.display());
                let name = if given.tag.as_str().is_empty() { String::new() } else { format!(" --tag {}", given.tag) };
                let hint = format!("to get another number, release that one first: `aba-lock release{name}`");
                print_message(&text, Some(&hint));
            }
            Some((number, why)) => {
                let hint = matches!(why, Unavailable::OutOfRange(_)).then_some("choose a wider range with --range");
                print_message(&format!("{}; reserved {} instead", describe_unmet(*number, why), given.number), hint);
            }
            None => {}
        }
        if given.in_use && probe != Probe::NONE {
            print_message(
                &format!(
                    "{} of {}{} is in use{}",
                    given.number,
                    directory.display(),
                    format_tag(&given.tag),
                    describe_user(given.number)
                ),
                None,
            );
        }
    }
}

/// Reports numbers that were reserved before, and that the options of this call would not choose.
pub(crate) fn report_misfits(
    plan: &NumberPlan,
    pool: &Pool,
    directory: &Path,
    range: Option<NumberRange>,
    exclude: &[NumberRange],
) {
    // If the number is not the preferred one, `report_plan` has said so.
    for given in plan.numbers.iter().filter(|given| given.unmet.is_none()) {
        let excluded = exclude.iter().find(|range| range.contains(given.number));
        let why = match (range.filter(|range| !range.contains(given.number)), excluded) {
            (Some(range), _) => format!("is outside the range {range}"),
            (None, Some(range)) => format!("is excluded by --exclude {range}"),
            (None, None) => continue,
        };
        let text =
            format!("{} {why}, but {}{} already has it", given.number, directory.display(), format_tag(&given.tag));
        let tag = if given.tag.as_str().is_empty() { String::new() } else { format!(" --tag {}", given.tag) };
        let pool = if pool.is_ports() { String::new() } else { format!(" --pool {pool}") };
        let hint = format!("to get another number, release that one first: `aba-lock release{tag}{pool}`");
        print_message(&text, Some(&hint));
    }
}

/// Describes why a number is not available.
fn describe_unmet(number: u32, why: &Unavailable) -> String {
    let by = if *why == Unavailable::InUse { describe_user(number) } else { String::new() };
    format!("{number} {why}{by}")
}

/// Returns ` by pid PID (COMMAND)` for the process that uses a port, or an empty text if that process cannot be seen.
fn describe_user(number: u32) -> String {
    let found = port_owners::find_port_owners(&[number]).found.remove(&number).unwrap_or_default();
    let who = |pid: &u32| format!(" by pid {pid} ({})", format_command(&process::command_line(*pid)));
    found.first().map(who).unwrap_or_default()
}

fn format_tag(tag: &Tag) -> String {
    if tag.as_str().is_empty() { String::new() } else { format!(" ({tag})") }
}

fn format_row(row: &Row) -> String {
    format!("{} of {}{}", row.number, row.directory.display(), format_tag(&row.tag))
}

fn describe_cause(dropped: &DroppedRow) -> String {
    match dropped.reason {
        DropReason::Vanished => "its directory no longer exists".to_owned(),
        DropReason::Unused(days) => format!("it was not requested for {days} days"),
        DropReason::Released => "it was released".to_owned(),
    }
}

/// Reports that the time of the last use of a number could not be written to the registry.
pub(crate) fn report_not_noted(error: &NumberError, quiet: bool) {
    if !quiet {
        print_message(&format!("cannot record the use of the number: {error}"), None);
    }
}

/// Prints the numbers that are given back: number, tag and directory on a line each.
pub(crate) fn print_dropped(rows: &[DroppedRow]) {
    let line = |dropped: &DroppedRow| format_line(&dropped.row, &dropped.row.directory);
    print(&rows.iter().map(line).collect::<String>());
}

/// Prints the numbers that are moved, with their new directories.
pub(crate) fn print_moved(rows: &[(Row, PathBuf)]) {
    print(&rows.iter().map(|(row, to)| format_line(row, to)).collect::<String>());
}

fn format_line(row: &Row, directory: &Path) -> String {
    format!("{}\t{}\t{}\n", row.number, row.tag, escape_field(directory))
}

pub(crate) fn report_recovered(pool: &Pool, recovered: Option<&RecoveredRegistry>) {
    match recovered {
        None => print_message(&format!("the registry of {pool} is not damaged: nothing was changed"), None),
        Some(RecoveredRegistry { rows, lost, kept, earlier }) => {
            let from = earlier.as_ref().map_or_else(String::new, |earlier| {
                format!(" from an earlier registry, which is now {}", earlier.display())
            });
            let ending = |number: usize| if number == 1 { "" } else { "s" };
            let text = format!(
                "recovered {rows} number{}{from}; {lost} line{} could not be read; the damaged registry is now {}",
                ending(*rows),
                ending(*lost),
                kept.display()
            );
            let all = "no number was found: look for an earlier registry (POOL.damaged-*), and exclude the numbers that are in \
                       use, so that they are not reserved: `aba-lock exclude N`";
            let some = "exclude the numbers that are in use, so that they are not reserved: `aba-lock exclude N`";
            let hint = if *rows == 0 { Some(all) } else { (*lost > 0).then_some(some) };
            print_message(&text, hint);
        }
    }
}

pub(crate) fn report_not_excluded(ranges: &[NumberRange]) {
    for range in ranges {
        print_message(
            &format!("{range} is not excluded"),
            Some("show the excluded numbers with `aba-lock exclude --list`"),
        );
    }
}

/// Reports the leases and rows with numbers in ranges that were just excluded.
pub(crate) fn report_still_used(ranges: &[NumberRange], leases: &[LeasedNumber], rows: &[Row]) {
    let is_excluded = |number| ranges.iter().any(|range| range.contains(number));
    for lease in leases.iter().filter(|lease| is_excluded(lease.number)) {
        let who = |(pid, line): &(u32, String)| format!(" by pid {pid} ({})", format_command(line));
        let by = lease.holders.first().map(who).unwrap_or_default();
        print_message(&format!("{} stays leased{by} until that process ends", lease.number), None);
    }
    for row in rows.iter().filter(|row| is_excluded(row.number)) {
        print_message(&format!("{} stays reserved until it is released", format_row(row)), None);
    }
}

/// Prints `reserve --list`.
pub(crate) fn print_list(entries: &[NumberEntry], format: Format) {
    match format {
        Format::Json => {
            let mut printer = PiecePrinter::default();
            printer.put_array(entries.iter().map(build_entry), 0);
            printer.put("\n");
        }
        Format::Tsv => {
            let text = entries.iter().map(format_cells).map(|cells| cells.join("\t") + "\n");
            print(&text.collect::<String>());
        }
        _ => print_table(entries),
    }
}

fn build_entry(entry: &NumberEntry) -> Value {
    let seconds = |span: Option<std::time::Duration>| span.map(|span| span.as_secs());
    json!({
        "pool": entry.pool.as_str(),
        "number": entry.number,
        "kind": entry.kind.as_str(),
        "tag": entry.tag.as_str(),
        "directory": entry.directory.as_ref().map(|directory| directory.to_string_lossy()),
        "gone": entry.vanished,
        "age_seconds": seconds(entry.age),
        "unused_seconds": seconds(entry.unused),
        "in_use": entry.in_use,
        "by": entry.processes.iter().map(|(pid, command)| json!({"pid": pid, "command": command})).collect::<Vec<_>>(),
    })
}

/// Returns the cells of a row. An unknown value is `-`.
fn format_cells(entry: &NumberEntry) -> [String; 9] {
    let time = |time: Option<std::time::Duration>| time.map_or("-".to_owned(), format_span);
    let in_use = match entry.in_use {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    let by: Vec<String> =
        entry.processes.iter().map(|(pid, line)| format!("{pid} ({})", format_command(line))).collect();
    let directory = entry.directory.as_deref().map_or("-".to_owned(), escape_field);
    [
        entry.pool.to_string(),
        entry.number.to_string(),
        entry.kind.as_str().to_owned(),
        entry.tag.to_string(),
        time(entry.age),
        time(entry.unused),
        in_use.to_owned(),
        if by.is_empty() { "-".to_owned() } else { by.join(", ") },
        directory,
    ]
}

fn print_table(entries: &[NumberEntry]) {
    let columns = ["POOL", "NUMBER", "KIND", "TAG", "AGE", "UNUSED", "IN USE", "BY", "DIRECTORY"].map(Column::Fit);
    // The pool is left out if there is only one.
    let first = usize::from(entries.iter().all(|entry| entry.pool == entries[0].pool));
    let rows = entries.iter().map(|entry| {
        let mut cells = format_cells(entry);
        // The table has room for one process only.
        if let Some((pid, _)) = entry.processes.first() {
            let more = if entry.processes.len() > 1 {
                format!(" and {} more", entry.processes.len() - 1)
            } else {
                String::new()
            };
            cells[7] = format!("{pid} ({}){more}", process::name(*pid));
        }
        if entry.vanished {
            cells[8].push_str(" (gone)");
        }
        cells.iter().skip(first).map(|cell| escape_controls(cell)).collect::<Vec<String>>()
    });
    let mut printer = PiecePrinter::default();
    format_table(&columns[first..], rows, |line| printer.put_line(line));
}

/// Escapes a directory, so that it is one field of a line.
fn escape_field(directory: &Path) -> String {
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
