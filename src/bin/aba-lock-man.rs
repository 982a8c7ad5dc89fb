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

/// In what it is another than flock(1), and why.
const DIFFERENCES: [(&str, &str); 15] = [
    (
        "Signals",
        "INT, TERM, HUP, QUIT, USR1 and USR2 to it reach the command, and it waits until that has ended. flock(1) dies of \
         them, and leaves the command running with the lock held. Did the command die of the signal, so does it.",
    ),
    (
        "Ctrl-C",
        "It waits for a command that still cleans up, and ends with its status. flock(1) is gone at once: the shell goes on \
         beside the command.",
    ),
    (
        "SIGKILL with -o",
        "Is it killed itself, so is the command (Linux): nobody would hold the lock any more, and a second one could start \
         beside it. Without -o the command has the lock, too, and goes on, as with flock(1).",
    ),
    (
        "A file that is removed",
        "Each time that it gets the lock, it looks if the name still leads to that file; if not, it makes the file again and \
         locks that. With flock(1), who waited for a file that was removed has the lock of nothing, beside whoever made the \
         file again.",
    ),
    (
        "A file of another user in a directory like /tmp",
        "A file that is there is opened without asking to create it (O_CREAT), which the system refuses there even to root \
         (fs.protected_regular).",
    ),
    (
        "A FIFO, a serial line",
        "They are opened at once. flock(1) waits until somebody opens the other end, or the line has a carrier, also with -n.",
    ),
    (
        "NFS",
        "For an exclusive lock the file is opened for writing if the file system wants that, as flock(1) does, too; but never \
         with O_CREAT.",
    ),
    (
        "Standard descriptors that are closed",
        "The lock file is never opened as standard input, output or error of the command.",
    ),
    (
        "A blocked SIGALRM",
        "-w also works where the parent blocks the signal of the timer, as some services do; flock(1) waits for ever.",
    ),
    (
        "--verbose",
        "It also says who has the lock, on standard error. What it says of the lock comes before what the command prints, and \
         also with --no-fork. flock(1) keeps it until the command has ended, where standard output is no terminal.",
    ),
    (
        "--fcntl, --start, --length",
        "They are there, as in newer ones of util-linux, with Linux. So are ranges of a file. An exclusive one opens the file \
         for writing, so that a directory, a file that may only be read, and the script itself cannot be locked so.",
    ),
    ("--fd N COMMAND", "Locks a descriptor, and runs a command then: with flock(1) it takes two calls."),
    ("Beginnings of long options", "The older options come first: --s is --shared, although there is --start."),
    ("-w 0,5", "The decimal sign is a point, whatever the language of the user."),
    ("Messages", "Other words, on the same stream, and beginning with `flock: `, too."),
];

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
    } else if subcommand == Some("flock") {
        terms(&mut roff, "EXIT STATUS", &args::flock::STATUS);
        terms(&mut roff, "DIFFERENCES FROM FLOCK(1)", &DIFFERENCES);
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
    let environment = if subcommand == Some("flock") { &args::flock::ENVIRONMENT[..] } else { args::ENVIRONMENT };
    terms(&mut roff, "ENVIRONMENT", environment);
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
