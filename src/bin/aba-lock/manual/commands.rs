//! The pages of `aba-lock` and its commands.

use super::notes;
use super::terms::{DATE, SOURCE, add_terms, render_beginning};
use crate::args::{examples, page};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::io;

/// Returns the page of `aba-lock` or of one of its commands. `root` defines them all, and `name` is that of the page.
pub(super) fn render_command_page(root: &Command, name: &str) -> io::Result<Vec<u8>> {
    let subcommand = name.strip_prefix("aba-lock-");
    let command = subcommand.map_or(Some(root), |name| root.find_subcommand(name)).ok_or(io::ErrorKind::NotFound)?;
    // clap keeps this name as long as the process runs.
    let name: &'static str = name.to_owned().leak();
    let (_, exit_status, sections) = page::find_page(subcommand.unwrap_or(name)).ok_or(io::ErrorKind::NotFound)?;
    // The tables that clap prints after the options are sections here.
    let mut page = command.clone().name(name).after_help(None::<&str>).after_long_help(None::<&str>);
    page = page.version(env!("CARGO_PKG_VERSION")).disable_version_flag(subcommand.is_some());
    page = match subcommand {
        Some(subcommand) => page.bin_name(format!("aba-lock {subcommand}")),
        None => page
            .long_about(notes::DESCRIPTION)
            .override_usage("aba-lock COMMAND [OPTIONS] [ARGUMENT]...\n       aba-lock help [COMMAND]"),
    };
    let mut text = render_beginning(&Man::new(page).manual("aba-lock").source(SOURCE).date(DATE))?;
    let mut roff = Roff::new();
    if subcommand.is_none() {
        add_commands(&mut roff, command);
    }
    add_terms(&mut roff, "EXIT STATUS", exit_status);
    let find_section = |heading| sections.iter().find(|section| section.heading == heading).map(|section| section.rows);
    add_terms(&mut roff, "ENVIRONMENT", find_section("ENVIRONMENT").unwrap_or(page::ENVIRONMENT));
    if !matches!(subcommand, Some("flock" | "init" | "completions" | "man")) {
        add_terms(&mut roff, "FILES", find_section("FILES").unwrap_or(page::FILES));
    }
    for section in sections.iter().filter(|section| !["ENVIRONMENT", "FILES"].contains(&section.heading)) {
        add_terms(&mut roff, section.heading, section.rows);
    }
    if subcommand == Some("flock") {
        add_terms(&mut roff, "DIFFERENCES FROM FLOCK(1)", &notes::DIFFERENCES);
    }
    if subcommand.is_none() {
        add_terms(&mut roff, "OPTIONS FOR THE SHELL LIBRARY", &notes::PLUMBING);
        roff.control("PP", []);
        roff.text([roman(
            "Only the shell libraries of the same version use these options. They may change with any version.",
        )]);
    }
    let mut examples: Vec<_> =
        examples::EXAMPLES.iter().filter(|(of, ..)| subcommand.is_none_or(|name| name == *of)).collect();
    if subcommand.is_none() {
        // This page has only the first example of each command.
        examples.dedup_by_key(|(of, ..)| of);
    }
    let examples: Vec<(&str, &str)> = examples.into_iter().map(|(_, typed, effect)| (*typed, *effect)).collect();
    add_terms(&mut roff, "EXAMPLES", &examples);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(list_related_pages(subcommand.unwrap_or_default()))]);
    roff.to_writer(&mut text)?;
    Ok(text)
}

/// Adds the list of commands, in groups, which clap cannot make.
fn add_commands(roff: &mut Roff, command: &Command) {
    roff.control("SH", ["COMMANDS"]);
    for (group, names) in page::GROUPS {
        roff.control("SS", [*group]);
        for subcommand in names.iter().filter_map(|name| command.find_subcommand(name)) {
            roff.control("TP", []);
            roff.text([roman(format!("aba-lock-{}(1)", subcommand.get_name()))]);
            roff.text([roman(subcommand.get_about().cloned().unwrap_or_default().to_string())]);
        }
    }
}

/// Returns the text of SEE ALSO in the page of a command.
fn list_related_pages(subcommand: &str) -> &'static str {
    match subcommand {
        "lock" => {
            "aba-lock(1), aba-lock-status(1), aba-lock-unlock(1), aba-lock-wait(1), aba-lock-run-once(1), aba-lock-lease(1), \
             aba-lock.bash(7), aba-lock-machines(7), flock(1), flock(2)"
        }
        "unlock" | "wait" | "status" | "list" | "path" | "clean" => {
            "aba-lock(1), aba-lock-lock(1), aba-lock-status(1), aba-lock-list(1), aba-lock-unlock(1), aba-lock.bash(7), \
             flock(2), lslocks(8)"
        }
        "flock" => "aba-lock(1), aba-lock-lock(1), flock(1), flock(2), fcntl(2)",
        "run-once" => "aba-lock(1), aba-lock-lock(1), run_once.bash(7), aba-lock.bash(7)",
        "update" | "write" => "aba-lock(1), aba-lock-update(1), aba-lock-write(1), aba-lock.bash(7), rename(2)",
        "reserve" | "release" | "exclude" | "migrate" => {
            "aba-lock(1), aba-lock-reserve(1), aba-lock-release(1), aba-lock-exclude(1), aba-lock-migrate(1), \
             aba-lock-reserve(7), aba-lock.bash(7)"
        }
        "completions" => "aba-lock(1), aba-lock-init(1), bash(1), zsh(1), fish(1)",
        "man" => "aba-lock(1), man(1), less(1)",
        "doctor" | "metrics" | "log" => "aba-lock(1), aba-lock-list(1), aba-lock-status(1), aba-lock.bash(7)",
        _ => {
            "aba-lock.bash(7), aba-lock.sh(7), run_once.bash(7), aba-lock-reserve(7), aba-lock-machines(7), aba-lockd(8), flock(1), flock(2)"
        }
    }
}
