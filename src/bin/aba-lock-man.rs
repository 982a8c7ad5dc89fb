//! The program that `make man` runs: it writes the manual pages into the directory that is its argument.
//!
//! The pages are `aba-lock.1` and one for each command of the helper, `aba-lock-lease.1` for the keeper, and
//! `aba-lockd.8` for the service. They are made from the definitions and tables that also make the help.

#[path = "aba-lock/args/mod.rs"]
mod args;
#[path = "definitions/keeper.rs"]
mod keeper;
#[path = "definitions/keeper_manual.rs"]
mod keeper_manual;
#[path = "definitions/service.rs"]
mod lockd;
#[path = "definitions/service_manual.rs"]
mod lockd_manual;

use aba_lock::os::replace;
use args::page;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The program and its version, in the last line of each page.
const SOURCE: &str = concat!("aba-lock ", env!("CARGO_PKG_VERSION"));

/// The date of this version. The date of the build would make builds of the same source differ.
const DATE: &str = "2026-11-29";

/// The description of `aba-lock`.
const DESCRIPTION: &str = "\
aba-lock keeps two copies of a shell script or command from running at the same time. A command runs under a lock with `aba-lock \
lock NAME -- COMMAND`, and a script acquires a lock with the functions of aba-lock.bash(7).

The locks are locks of the kernel (flock(2)) on files in a directory of the user, ~/.aba, so they exclude only processes of the same \
user. The kernel releases a lock when its holder ends, no matter how it ends.

To share locks, several users set ABA_LOCK_DIR to the same directory. Its mode decides who shares them, whatever the umask is. If \
only its owner may write to it, new lock files are private (0600). If its group may, they get that group and mode 0660. If all users \
may and the directory is sticky, as /tmp is (1777), they get mode 0666. If it is not sticky, no file is created in it, because any user \
could replace a file whose lock is held. An access control list counts as what the bits of the group say. Every user who shares a \
directory can hold its locks, and so block the others. The content of lock files is only shown: the kernel decides which process holds a \
lock. In a directory that all users share, each user has tasks and numbers of their own, in the directories runner-UID and \
reserve-UID.

Other commands show and end the holders of locks, run a task only once, change files, reserve ports and other numbers, and \
extend locks to several machines.";

/// The differences between `aba-lock flock` and flock(1), and their reasons.
const DIFFERENCES: [(&str, &str); 17] = [
    (
        "Signals",
        "When aba-lock flock gets INT, TERM, HUP, QUIT, USR1 or USR2, it passes the signal on to the command, and \
         waits until the command has ended. If the command died of the signal, it dies of the same signal. flock(1) \
         dies of these signals, and the command keeps running with the lock.",
    ),
    (
        "Ctrl-C",
        "If the command cleans up after Ctrl-C, aba-lock flock waits for it, and exits with its status. flock(1) ends \
         at once, so the shell continues while the command still runs.",
    ),
    (
        "A signal to the whole process group",
        "If a signal is sent to the process group, as by timeout(1) of coreutils or `kill -- -PGID`, the command gets \
         it twice: directly, and from aba-lock flock, which cannot know that the command got it, too. (Ctrl-C is an \
         exception.) To avoid this, send the signal only to aba-lock flock (`timeout --foreground`, `kill PID`), or \
         use --no-fork.",
    ),
    (
        "SIGKILL with -o",
        "If aba-lock flock is killed, the command is killed, too (Linux). Otherwise, the lock would be free while the \
         command still runs, and a second command could start. Without -o, the command holds the lock and continues, \
         as with flock(1).",
    ),
    (
        "A lock file that is removed",
        "After acquiring the lock, aba-lock flock checks that the path still leads to the locked file. If it does \
         not, it creates the file again and locks that, or fails if it may not. With flock(1), a process that waited \
         for a removed file locks that file, while another process can lock a new file at the same path.",
    ),
    (
        "A file of another user in a directory like /tmp",
        "An existing file is opened without O_CREAT. With O_CREAT, the kernel refuses to open it there, even for root \
         (fs.protected_regular).",
    ),
    (
        "A FIFO or a serial line",
        "It is opened at once, even if no process has opened the other end of the FIFO. Reading from the inherited \
         descriptor blocks as usual. flock(1) waits until the other end is opened, or the line has a carrier, even \
         with -n.",
    ),
    (
        "NFS",
        "For an exclusive lock, the file is opened for writing if the file system requires it, as with flock(1), but \
         never with O_CREAT.",
    ),
    ("Closed standard descriptors", "The lock file is never opened as standard input, output or error of the command."),
    (
        "A blocked SIGALRM",
        "-w works even if the parent process blocks the signal of the timer, as some services do. flock(1) then waits \
         forever.",
    ),
    (
        "--verbose",
        "The holder of the lock is printed, too, on standard error. The messages come before the output of the \
         command, and are also printed with --no-fork. If standard output is not a terminal, flock(1) prints them \
         only after the command has ended.",
    ),
    (
        "--fcntl, --start, --length",
        "These options work as in util-linux 2.42, on Linux only. --start and --length imply --fcntl. Sizes are read \
         in the same way, with the same rounding of fractions (1.7K is 2048). For an exclusive lock, the file is \
         opened for writing. Directories, read-only files and the running script can therefore not be locked \
         exclusively.",
    ),
    ("--fd N COMMAND", "Locks a descriptor and then runs a command. This takes two calls of flock(1)."),
    ("Abbreviated long options", "The older options have priority: --s means --shared, although --start exists."),
    (
        "-w 1e5000, -w 1e-5000",
        "A number outside the range of a long double is too long for a timer (status 71), or counts as 0. flock(1) \
         reports wrong usage (64).",
    ),
    ("-w 0,5", "The decimal separator is always a point, regardless of the locale."),
    ("Messages", "The wording differs. The messages go to the same stream, and begin with `flock: `, too."),
];

/// The options that only the shell library uses. They are hidden in the definitions: no help or completion shows them.
const PLUMBING: [(&str, &str); 6] = [
    (
        "lock --try-first",
        "with --fd: if the call would have to wait, acquire nothing and exit with 77 at once, or with 78 if this process ignores \
         SIGINT or SIGQUIT",
    ),
    (
        "lock --waited TIME",
        "with --fd: continue a wait that began this long ago: the timeout counts from there, and the event log gets no second \
         line about the contention",
    ),
    (
        "lock --heed-keyboard",
        "with --fd: let SIGINT and SIGQUIT end the wait, although a shell has its background jobs ignore them",
    ),
    ("status --lease", "with --fd and NAME: also ask the server whether the lease of the lock is still held"),
    ("update --shell BASH", "run CMD with this bash if CMD is an exported function"),
    (
        "update --state N",
        "with --shell: run the script on this descriptor first, which describes the calling shell; CMD may be a function of it",
    ),
];

#[expect(clippy::disallowed_methods, reason = "this program has a `fn main`")]
fn main() -> io::Result<()> {
    let directory = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| OsString::from(".")));
    let mut command = args::Cli::command();
    command.build();
    write_page(&command, None, &directory)?;
    for subcommand in command.get_subcommands().filter(|command| !["lease", "help"].contains(&command.get_name())) {
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
    let man = Man::new(shown.version(env!("CARGO_PKG_VERSION"))).manual("aba-lock").source(SOURCE).date(DATE);
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS AND OPTIONS"]);
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        let about = command.get_about().cloned().unwrap_or_default().to_string();
        roff.control("SS", [command.get_name()]);
        roff.text([roman(format!("{about}."))]);
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
            let short = argument.get_short().map(|letter| format!("-{letter}, ")).unwrap_or_default();
            roff.control("TP", []);
            roff.text([roman(format!("{short}{argument}"))]);
            roff.text([roman(argument.get_help().cloned().unwrap_or_default().to_string())]);
        }
    }
    add_terms(&mut roff, "GUARANTEES", &keeper_manual::GUARANTEES);
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

/// Writes the page of the service. It describes the command `serve`, and the command `token new` in a section.
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
    let man = Man::new(serve).manual("aba-lock").source(SOURCE).date(DATE).section("8");
    let mut text = render_beginning(&man)?;
    let mut roff = Roff::new();
    add_terms(&mut roff, "REST", &lockd_manual::REST);
    add_terms(&mut roff, "GRPC", &lockd_manual::GRPC);
    add_terms(&mut roff, "TERRAFORM", &lockd_manual::TERRAFORM);
    add_terms(&mut roff, "TOKENS", &lockd_manual::TOKENS);
    add_terms(&mut roff, "TOKEN FILE", &lockd_manual::TOKEN_FILE);
    add_terms(&mut roff, "SIGNALS", &lockd_manual::SIGNALS);
    add_terms(&mut roff, "CONNECTIONS", &lockd_manual::CONNECTIONS);
    add_terms(&mut roff, "GUARANTEES", &lockd_manual::GUARANTEES);
    add_terms(&mut roff, "EXIT STATUS", &lockd::EXIT_STATUS);
    add_terms(&mut roff, "ENVIRONMENT", &lockd_manual::ENVIRONMENT);
    add_terms(&mut roff, "FILES", &lockd_manual::FILES);
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
    let (_, exit_status, sections) = page::find_page(subcommand.unwrap_or(name)).ok_or(io::ErrorKind::NotFound)?;
    // The tables that clap prints after the options are sections here.
    let mut page = command.clone().name(name).after_help(None::<&str>).after_long_help(None::<&str>);
    page = page.version(env!("CARGO_PKG_VERSION")).disable_version_flag(subcommand.is_some());
    page = match subcommand {
        Some(subcommand) => page.bin_name(format!("aba-lock {subcommand}")),
        None => page
            .long_about(DESCRIPTION)
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
    if !matches!(subcommand, Some("flock" | "init")) {
        add_terms(&mut roff, "FILES", find_section("FILES").unwrap_or(page::FILES));
    }
    for section in sections.iter().filter(|section| !["ENVIRONMENT", "FILES"].contains(&section.heading)) {
        add_terms(&mut roff, section.heading, section.rows);
    }
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
    let mut examples: Vec<_> =
        args::examples::EXAMPLES.iter().filter(|(of, ..)| subcommand.is_none_or(|name| name == *of)).collect();
    if subcommand.is_none() {
        // This page has only the first example of each command.
        examples.dedup_by_key(|(of, ..)| of);
    }
    let examples: Vec<(&str, &str)> = examples.into_iter().map(|(_, typed, effect)| (*typed, *effect)).collect();
    add_terms(&mut roff, "EXAMPLES", &examples);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(list_related_pages(subcommand.unwrap_or_default()))]);
    roff.to_writer(&mut text)?;
    replace::replace_file(&directory.join(format!("{name}.1")), &text)
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
        "doctor" | "metrics" | "log" => "aba-lock(1), aba-lock-list(1), aba-lock-status(1), aba-lock.bash(7)",
        _ => {
            "aba-lock.bash(7), aba-lock.sh(7), run_once.bash(7), aba-lock-reserve(7), aba-lock-machines(7), aba-lockd(8), flock(1), flock(2)"
        }
    }
}

fn add_terms(roff: &mut Roff, title: &str, rows: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (term, text) in rows {
        roff.control("TP", []);
        roff.text([roman(*term)]);
        roff.text([roman(*text)]);
    }
}
