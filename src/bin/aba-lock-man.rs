//! Writes the manual pages into the directory that is its argument.
//!
//! The pages are `aba-lock.1` and one for each command of the helper, `aba-lock-lease.1` for the keeper, and `aba-lockd.8` for
//! the service. They are made from the definitions and tables that also make the help.

#[path = "aba-lock/args/mod.rs"]
mod args;
#[path = "aba-lock-keeper/args.rs"]
mod keeper;
#[path = "aba-lock-keeper/manual.rs"]
mod keeper_manual;
#[path = "aba-lockd/args.rs"]
mod lockd;
#[path = "aba-lockd/manual.rs"]
mod lockd_manual;

use aba_lock::os::replace;
use args::{lock, page};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The date of this version. The date of the build would make builds of the same source differ.
const DATE: &str = "2026-11-21";

/// The differences between `aba-lock flock` and flock(1), and their reasons.
const DIFFERENCES: [(&str, &str); 17] = [
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
        "A signal to the whole process group",
        "As timeout(1) of coreutils and `kill -- -PGID` send it: the command gets it twice, from there and from this process, \
         which passes it on as it cannot know that it was not the only one to get it. (It knows of a Ctrl-C.) So have \
         the signal sent to it alone (`timeout --foreground`, `kill PID`), or have it become the command (--no-fork).",
    ),
    (
        "SIGKILL with -o",
        "Is it killed itself, so is the command (Linux): nobody would hold the lock any more, and a second one could start \
         beside it. Without -o the command has the lock, too, and goes on, as with flock(1).",
    ),
    (
        "A file that is removed",
        "Each time that it gets the lock, it looks if the name still leads to that file; if not, it makes the file again and \
         locks that, or fails if it may not. With flock(1), who waited for a file that was removed has the lock of nothing, beside whoever made the \
         file again.",
    ),
    (
        "A file of another user in a directory like /tmp",
        "A file that is there is opened without asking to create it (O_CREAT), which the system refuses there even to root \
         (fs.protected_regular).",
    ),
    (
        "A FIFO, a serial line",
        "They are opened at once, also if nobody writes to the FIFO yet; reading from what the command inherits waits as ever. \
         flock(1) waits until somebody opens the other end, or the line has a carrier, also with -n.",
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
        "They work as in util-linux 2.42, on Linux only: --start and --length imply --fcntl, and sizes are read in the same \
         way, with the same rounding of fractions (1.7K is 2048). An exclusive lock opens the file for writing, so a \
         directory, a read-only file and the running script cannot be locked exclusively.",
    ),
    ("--fd N COMMAND", "Locks a descriptor, and runs a command then: with flock(1) it takes two calls."),
    ("Beginnings of long options", "The older options come first: --s is --shared, although there is --start."),
    (
        "-w 1e5000, -w 1e-5000",
        "A number beyond what a long double holds is too long to be waited for (status 71), or 0. For flock(1) it is wrong \
         usage (64).",
    ),
    ("-w 0,5", "The decimal sign is a point, whatever the language of the user."),
    ("Messages", "Other words, on the same stream, and beginning with `flock: `, too."),
];

/// The options that only the shell library uses. They are hidden in the definitions: help and completions do not show them.
const PLUMBING: [(&str, &str); 5] = [
    (
        "lock --try-first",
        "with --fd: if the call would have to wait, acquire nothing and exit with 77 at once, or with 78 if this process ignores \
         SIGINT or SIGQUIT",
    ),
    (
        "lock --waited SECONDS",
        "with --fd: continue a wait that began this long ago: the timeout counts from there, and the event log gets no second \
         line about the contention",
    ),
    (
        "lock --heed-keyboard",
        "with --fd: let SIGINT and SIGQUIT end the wait, although a shell has its background jobs ignore them",
    ),
    ("status --lease", "with --fd and NAME: also ask the server whether the lease of the lock is still held"),
    (
        "update --state N",
        "with --shell: run the script on this descriptor first, which describes the calling shell; CMD may be a function of it",
    ),
];

fn main() -> io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| OsString::from(".")));
    let mut command = args::Cli::command();
    command.build();
    write_page(&command, None, &directory)?;
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "lease") {
        write_page(subcommand, Some(subcommand.get_name()), &directory)?;
    }
    write_lease_page(&directory)?;
    write_service_page(&directory)
}

/// Writes the page of `aba-lock lease`, whose commands the keeper defines: one page describes them all.
fn write_lease_page(directory: &Path) -> io::Result<()> {
    let mut command = keeper::Cli::command();
    command.build();
    let command = command.find_subcommand("lease").ok_or(io::ErrorKind::NotFound)?.clone();
    let command = command
        .name("aba-lock-lease")
        .display_name("aba-lock-lease")
        .bin_name("aba-lock lease")
        .disable_help_flag(true);
    let shown = command.clone().after_help(None::<&str>).after_long_help(None::<&str>);
    let man = Man::new(shown.version(env!("CARGO_PKG_VERSION"))).manual("aba-lock").date(DATE);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    let mut roff = Roff::new();
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let about = command.get_about().cloned().unwrap_or_default().to_string();
        roff.control("SH", [command.get_name().to_uppercase().as_str()]);
        roff.text([roman(about)]);
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            let short = argument.get_short().map(|letter| format!("-{letter}, ")).unwrap_or_default();
            roff.control("TP", []);
            roff.text([roman(format!("{short}{argument}"))]);
            roff.text([roman(argument.get_help().cloned().unwrap_or_default().to_string())]);
        }
    }
    add_terms(&mut roff, "WHAT IS PROMISED", &keeper_manual::PROMISES);
    add_terms(&mut roff, "EXIT STATUS", &keeper::LEASE_STATUS);
    add_terms(&mut roff, "ENVIRONMENT", keeper::ENVIRONMENT);
    add_terms(&mut roff, "EXAMPLES", keeper::EXAMPLES);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(
        "aba-lock(1), aba-lock-lock(1), aba-lock-machines(7), aba-lock.bash(7), aba-lockd(8), etcdctl(1)",
    )]);
    roff.to_writer(&mut text)?;
    replace::replace_file(&directory.join("aba-lock-lease.1"), &text)
}

/// Writes the page of the service. It also describes the only command of that program.
fn write_service_page(directory: &Path) -> io::Result<()> {
    let mut command = lockd::Cli::command();
    command.build();
    let serve = command.find_subcommand("serve").ok_or(io::ErrorKind::NotFound)?.clone();
    let about = command.get_long_about().or(command.get_about()).cloned().unwrap_or_default();
    let short = command.get_about().cloned().unwrap_or_default();
    let described = format!("{}\n\n{}", about, serve.get_long_about().cloned().unwrap_or_default());
    let serve = serve
        .name("aba-lockd")
        .display_name("aba-lockd")
        .bin_name("aba-lockd serve")
        .version(env!("CARGO_PKG_VERSION"));
    let serve = serve.about(short).long_about(described).after_help(None::<&str>);
    let man = Man::new(serve).manual("aba-lock").date(DATE).section("8");
    let mut text = render_beginning(&man)?;
    let mut roff = Roff::new();
    add_terms(&mut roff, "REST", &lockd_manual::REST);
    add_terms(&mut roff, "GRPC", &lockd_manual::GRPC);
    add_terms(&mut roff, "TOKEN FILE", &lockd_manual::TOKEN_FILE);
    add_terms(&mut roff, "SIGNALS", &lockd_manual::SIGNALS);
    add_terms(&mut roff, "CONNECTIONS", &lockd_manual::CONNECTIONS);
    add_terms(&mut roff, "WHAT IS PROMISED", &lockd_manual::GUARANTEES);
    add_terms(&mut roff, "EXIT STATUS", &lockd::EXIT_STATUS);
    add_terms(&mut roff, "FILES", &lockd_manual::FILES);
    add_terms(&mut roff, "ENVIRONMENT", &lockd_manual::ENVIRONMENT);
    add_terms(&mut roff, "EXAMPLES", &lockd_manual::EXAMPLES);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("aba-lock(1), aba-lock-lease(1), aba-lock-machines(7), systemctl(1), curl(1)")]);
    roff.to_writer(&mut text)?;
    replace::replace_file(&directory.join("aba-lockd.8"), &text)
}

/// Renders the sections that every page begins with, from the definitions alone.
fn render_beginning(man: &Man) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    Ok(text)
}

/// Writes the page of `aba-lock` (`subcommand` is `None`) or of one of its commands.
fn write_page(command: &Command, subcommand: Option<&str>, directory: &Path) -> io::Result<()> {
    let name: &'static str = match subcommand {
        Some(subcommand) => format!("aba-lock-{subcommand}").leak(),
        None => "aba-lock",
    };
    let (_, exit_status, sections) =
        page::find_page(subcommand.unwrap_or(name)).unwrap_or(&(&[], &lock::EXIT_STATUS, &[]));
    // The tables that clap prints after the options are sections here.
    let mut command = command.clone().name(name).after_help(None::<&str>).after_long_help(None::<&str>);
    if let Some(subcommand) = subcommand {
        command = command.bin_name(format!("aba-lock {subcommand}"));
    }
    let has_commands = command.has_subcommands();
    let man = Man::new(command).manual("aba-lock").date(DATE);
    let mut text = render_beginning(&man)?;
    if has_commands {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    add_terms(&mut roff, "EXIT STATUS", exit_status);
    if subcommand == Some("flock") {
        add_terms(&mut roff, "DIFFERENCES FROM FLOCK(1)", &DIFFERENCES);
    }
    if subcommand.is_none() {
        add_terms(&mut roff, "OPTIONS FOR THE SHELL LIBRARY", &PLUMBING);
        roff.control("PP", []);
        roff.text([roman(
            "Only aba-lock.bash(7) of the same version uses these options. They may change with any version.",
        )]);
    }
    let (last, own): (Vec<_>, Vec<_>) = sections.iter().partition(|section| section.heading == "EVENT LOG");
    for section in &own {
        add_terms(&mut roff, section.heading, section.rows);
    }
    if !own.iter().any(|section| section.heading == "ENVIRONMENT") {
        add_terms(&mut roff, "ENVIRONMENT", page::ENVIRONMENT);
    }
    for section in last {
        add_terms(&mut roff, section.heading, section.rows);
    }
    let own = page::EXAMPLES.iter().filter(|(of, ..)| subcommand.is_none_or(|subcommand| subcommand == *of));
    let examples: Vec<(&str, &str)> = own.map(|(_, typed, effect)| (*typed, *effect)).collect();
    if !examples.is_empty() {
        add_terms(&mut roff, "EXAMPLES", &examples);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman("aba-lock(1), aba-lock.bash(7), flock(1), flock(2)")]);
    roff.to_writer(&mut text)?;
    replace::replace_file(&directory.join(format!("{name}.1")), &text)
}

fn add_terms(roff: &mut Roff, title: &str, rows: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (term, text) in rows {
        roff.control("TP", []);
        roff.text([roman(*term)]);
        roff.text([roman(*text)]);
    }
}
