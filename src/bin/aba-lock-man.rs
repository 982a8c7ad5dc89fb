//! Writes the man pages into the directory that is its argument: `aba-lock.1`, and one for each command. They
//! are made from the definitions that also make the help.

#[path = "aba-lock/args.rs"]
mod args;

use aba_lock::atomic;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// Of this version. A date of the build would make each build another.
const DATE: &str = "2026-11-21";

fn main() -> io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| OsString::from(".")));
    let mut command = args::Cli::command();
    command.build();
    page(&command, None, &directory)?;
    for subcommand in command.get_subcommands() {
        page(subcommand, Some(subcommand.get_name()), &directory)?;
    }
    Ok(())
}

fn page(command: &Command, subcommand: Option<&str>, directory: &Path) -> io::Result<()> {
    let name: &'static str = match subcommand {
        Some(subcommand) => format!("aba-lock-{subcommand}").leak(),
        None => "aba-lock",
    };
    // What clap prints behind the options is told in sections of their own here.
    let mut command = command.clone().name(name).after_help(None::<&str>).after_long_help(None::<&str>);
    if let Some(subcommand) = subcommand {
        command = command.bin_name(format!("aba-lock {subcommand}"));
    }
    let has_commands = command.has_subcommands();
    let man = Man::new(command).manual("aba-lock").date(DATE);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if has_commands {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    if subcommand == Some("run-once") {
        terms(&mut roff, "EXIT STATUS", &args::RUN_ONCE_STATUS);
        terms(&mut roff, "FILES", &args::RUN_ONCE_FILES);
        terms(&mut roff, "JSON", &args::RUN_ONCE_JSON);
    } else if matches!(subcommand, Some("status" | "list")) {
        let status: &[(&str, &str)] =
            if subcommand == Some("list") { &args::LIST_STATUS } else { &args::STATUS_STATUS };
        terms(&mut roff, "EXIT STATUS", status);
        terms(&mut roff, "JSON", &args::STATUS_JSON);
    } else if subcommand == Some("doctor") {
        terms(&mut roff, "EXIT STATUS", &args::doctor::DOCTOR_STATUS);
        terms(&mut roff, "JSON", &args::doctor::DOCTOR_JSON);
    } else if subcommand == Some("metrics") {
        terms(&mut roff, "EXIT STATUS", &args::metrics::METRICS_STATUS);
        terms(&mut roff, "METRICS", &args::metrics::METRICS.map(|(name, _, help)| (name, help)));
    } else if matches!(subcommand, Some("update" | "write")) {
        terms(&mut roff, "EXIT STATUS", &args::UPDATE_STATUS);
    } else if subcommand == Some("unlock") {
        terms(&mut roff, "EXIT STATUS", &args::UNLOCK_STATUS);
    } else if subcommand == Some("clean") {
        terms(&mut roff, "EXIT STATUS", &args::CLEAN_STATUS);
    } else if matches!(subcommand, Some("reserve" | "release" | "exclude" | "migrate")) {
        terms(&mut roff, "EXIT STATUS", &args::reserve::STATUS);
        terms(&mut roff, "FILES", &args::reserve::FILES);
        if subcommand == Some("reserve") {
            terms(&mut roff, "JSON", &args::reserve::JSON);
        }
    } else {
        terms(&mut roff, "EXIT STATUS", &args::EXIT_STATUS);
    }
    terms(&mut roff, "ENVIRONMENT", args::ENVIRONMENT);
    if matches!(subcommand, None | Some("lock" | "metrics")) {
        terms(&mut roff, "EVENT LOG", &args::events::EVENT_LOG);
    }
    let own = args::EXAMPLES.iter().filter(|(of, _, _)| subcommand.is_none_or(|subcommand| subcommand == *of));
    let examples: Vec<(&str, &str)> = own.map(|(_, typed, does)| (*typed, *does)).collect();
    if !examples.is_empty() {
        terms(&mut roff, "EXAMPLES", &examples);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("aba-lock(1), aba-lock.bash(7), flock(1), flock(2)")]);
    roff.to_writer(&mut text)?;
    atomic::replace(&directory.join(format!("{name}.1")), &text)
}

fn terms(roff: &mut Roff, title: &str, rows: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (term, text) in rows {
        roff.control("TP", []);
        roff.text([roman(*term)]);
        roff.text([roman(*text)]);
    }
}
