//! The tables below the options of each command: exit statuses, files, members of JSON, and environment.
//!
//! The examples are in `examples`. The help and the manual pages are made from the same tables: [`add_tables`] adds them to the help, and
//! `manual` reads [`find_page`].

use super::examples::EXAMPLES;
use super::{clean, doctor, events, flock, lock, log, man, metrics, reserve, run_once, status, update, wait};
use clap::Command;
use std::fmt::Write;

/// The rows of a table: a term, and its meaning.
pub(crate) type Rows = &'static [(&'static str, &'static str)];

/// A table of a command.
pub(crate) struct Section {
    /// The heading in the manual page.
    pub(crate) heading: &'static str,
    /// The title in the help. Empty if the table is in the manual page only.
    title: &'static str,
    pub(crate) rows: Rows,
}

const fn section(heading: &'static str, title: &'static str, rows: Rows) -> Section {
    Section { heading, title, rows }
}

/// The exit statuses of commands that only print a text.
const EXIT_STATUS: Rows = &[("0", "printed"), ("2", "wrong usage"), ("125", "aba-lock itself failed")];

/// Commands, the meaning of their exit statuses, and their other tables.
pub(crate) type Page = (&'static [&'static str], Rows, &'static [Section]);

/// The pages. Only `lease` has none: its help and its page are those of the keeper.
const PAGES: &[Page] = &[
    (&["aba-lock"], &lock::ALL_EXIT_STATUS, &[section("EVENT LOG", "", &events::EVENT_LOG)]),
    (&["lock"], &lock::EXIT_STATUS, &[section("EVENT LOG", "", &events::EVENT_LOG)]),
    (&["flock"], &flock::EXIT_STATUS, &[section("ENVIRONMENT", "Environment", &flock::ENVIRONMENT)]),
    (&["unlock"], &lock::UNLOCK_EXIT_STATUS, &[]),
    (&["wait"], &wait::EXIT_STATUS, &[]),
    (&["status"], &status::EXIT_STATUS, &[section("JSON", "With --json", &status::STATUS_JSON)]),
    (&["list"], &status::LIST_EXIT_STATUS, &[section("JSON", "With --json, of each lock", &status::STATUS_JSON)]),
    (
        &["log"],
        &log::EXIT_STATUS,
        &[
            section("JSON", "With --json, of each holding", &log::JSON),
            section("EVENT LOG", "In each line of the event log", &events::EVENT_LOG),
        ],
    ),
    (&["clean"], &clean::EXIT_STATUS, &[]),
    (&["path", "init", "completions"], EXIT_STATUS, &[]),
    (&["man"], EXIT_STATUS, &[section("ENVIRONMENT", "Environment", &man::ENVIRONMENT)]),
    (
        &["run-once"],
        &run_once::EXIT_STATUS,
        &[
            section("FILES", "Files, in RUN_ONCE_DIR/ID", &run_once::FILES),
            section("JSON", "With --json, of each task", &run_once::JSON),
        ],
    ),
    (&["update", "write"], &update::EXIT_STATUS, &[]),
    (&["doctor"], &doctor::EXIT_STATUS, &[section("JSON", "With --json", &doctor::JSON)]),
    (
        &["metrics"],
        &metrics::EXIT_STATUS,
        &[
            section("METRICS", "Metrics", &metrics::METRICS),
            section("EVENT LOG", "In each line of the event log", &events::EVENT_LOG),
        ],
    ),
    (
        &["reserve"],
        &reserve::EXIT_STATUS,
        &[
            section("FILES", "Files, in ABA_LOCK_DIR", &reserve::FILES),
            section("JSON", "With --list --format json, of each number", &reserve::JSON),
        ],
    ),
    (&["release", "exclude", "migrate"], &reserve::EXIT_STATUS, &[section("FILES", "", &reserve::FILES)]),
];

/// Returns the page of a command.
pub(crate) fn find_page(command: &str) -> Option<&'static Page> {
    PAGES.iter().find(|(commands, ..)| commands.contains(&command))
}

/// The groups of commands in the help and the manual page of `aba-lock`.
pub(crate) const GROUPS: &[(&str, &[&str])] = &[
    ("Locks", &["lock", "unlock", "wait", "status", "list", "log", "path", "flock"]),
    ("Tasks", &["run-once"]),
    ("Files", &["update", "write"]),
    ("Numbers", &["reserve", "release", "exclude", "migrate"]),
    ("Machines", &["lease"]),
    ("Upkeep", &["doctor", "clean", "metrics", "init", "completions", "man"]),
];

/// The examples at the top of the help of `aba-lock`.
const FIRST_EXAMPLES: [(&str, &str); 3] = [
    ("aba-lock lock backup -- ./backup.sh", "Run a command, unless another one holds the lock"),
    ("aba-lock lock --wait=60 backup -- ./backup.sh", "Wait up to a minute for the lock"),
    ("aba-lock status backup", "Show which process holds the lock"),
];

/// Gives `aba-lock` its help: examples, and the commands in groups. clap lists commands without groups.
pub(crate) fn group_commands(command: Command) -> Command {
    let header = *command.get_styles().get_header();
    let literal = *command.get_styles().get_literal();
    let mut text = format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{header}Examples:{header:#}\n");
    for (typed, effect) in FIRST_EXAMPLES {
        let _ = writeln!(text, "  {typed:47}{effect}");
    }
    for (group, commands) in GROUPS {
        let _ = writeln!(text, "\n{header}{group}:{header:#}");
        for name in *commands {
            let about = command.find_subcommand(name).and_then(Command::get_about).cloned().unwrap_or_default();
            let _ = writeln!(text, "  {literal}{name:12}{literal:#} {about}");
        }
    }
    let _ = writeln!(text, "  {literal}{:12}{literal:#} Print the help of aba-lock or of a command", "help");
    command.help_template(format!("{text}\n{header}Options:{header:#}\n{{options}}{{after-help}}"))
}

/// Returns the text of the help below the options of `aba-lock`.
pub(crate) fn after_root_help() -> String {
    format_table("Exit status", &lock::ALL_EXIT_STATUS) + "\n" + &format_table("Environment", ENVIRONMENT)
}

/// Adds the tables of a command to its help. The long help has all of them, and the examples.
pub(crate) fn add_tables(command: Command) -> Command {
    let Some((_, exit_status, sections)) = find_page(command.get_name()) else { return command };
    let status = format_table("Exit status", exit_status);
    let mut long = status.clone() + "\n";
    for section in sections.iter().filter(|section| !section.title.is_empty()) {
        long = long + &format_table(section.title, section.rows) + "\n";
    }
    long.push_str(&format_examples(command.get_name()));
    command.after_help(status).after_long_help(long)
}

fn format_examples(command: &str) -> String {
    let examples = EXAMPLES.iter().filter(|(of, ..)| *of == command);
    examples.fold("Examples:\n".to_owned(), |text, (_, typed, effect)| format!("{text}  {typed}\n      {effect}\n"))
}

fn format_table(title: &str, rows: Rows) -> String {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 2;
    // A meaning is next to its term, or below it if the terms are long.
    let (width, indent, below) = if width <= 28 { (width, width + 2, "") } else { (0, 6, "\n      ") };
    rows.iter().fold(format!("{title}:\n"), |text, (left, right)| {
        format!("{text}  {left:width$}{below}{}\n", wrap_words(right, indent))
    })
}

/// Breaks a text into lines that end before column 100. All but the first are indented.
fn wrap_words(text: &str, indent: usize) -> String {
    let mut column = indent;
    let mut wrapped = String::new();
    for word in text.split(' ') {
        if !wrapped.is_empty() && column + word.len() >= 99 {
            let _ = write!(wrapped, "\n{:indent$}", "");
            column = indent;
        } else if !wrapped.is_empty() {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += word.len();
    }
    wrapped
}

/// The variables of the environment, in the help of `aba-lock` and in most manual pages.
pub(crate) const ENVIRONMENT: Rows = &[
    (
        "ABA_LOCK_DIR",
        "the directory of the lock files: an absolute path, created if it is missing and its parent exists, and refused if every user \
         can replace files in it, or its group may not write to it although all other users may, or if a part of its path is a link that another user may have made, also in the target of a link [default: ~/.aba]",
    ),
    (
        "ABA_LOCK_SCOPE",
        "`system`: use the locks that all users of the machine share, as --system does, unless ABA_LOCK_DIR is set; `user` is the \
         default",
    ),
    ("ABA_LOCK_TIMEOUT", "wait for at most this time, such as 60 or 5m, if no option says how long to wait"),
    (
        "ABA_LOCK_LOG",
        "append one line of JSON for each event to this file, or send it to this socket, syslog or journald, instead of the \
         log of `log --enable`; a failure is reported on standard error, even with --quiet, and has no other effect",
    ),
    ("ABA_LOCK_SERVER", "the lease server: also lock for all machines that use it; see aba-lock-lease(1)"),
    ("PATH", "where commands are searched; if it is unset: in /usr/local/bin, /bin and /usr/bin"),
    ("ABA_LOCK_KEEPER", "the path of aba-lock-keeper [default: in the directory of aba-lock, otherwise found in PATH]"),
    (
        "NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM",
        "control colours, without --color: see https://no-color.org and https://bixense.com/clicolors",
    ),
    ("ABA_LOCK_COMPLETE", "set by the scripts for TAB completion, which `completions` prints"),
    ("ABA_LOCK_FDS", "set for commands, and by scripts: the descriptors on which locks are inherited"),
    (
        "RUN_ONCE_DIR",
        "the directory of the tasks: an absolute path [default: `runner` in the directory of the lock files, or `runner-UID` if all users may write to that directory]",
    ),
    ("ABA_NUMBER", "set for the command of `reserve`: the number that it holds"),
    ("ABA_FILE", "set for the commands of `update` and `write`: the absolute path of FILE, with links resolved"),
    (
        "ABA_COPY",
        "set for the command of --in-place: the path of the copy; for the command of --check: the path of the new \
         content, as in $1",
    ),
    ("ABA_LOCK_NAME", "set for the commands of --on-busy and --on-lost: the name of the lock, or its file, as in $1"),
    ("ABA_LOCK_UPDATING", "set for the commands of updates: the updates that started them"),
    ("ABA_LOCK_TASK", "set for the commands of tasks: the task and the run"),
    ("ABA_LOCK_SLOT", "set for commands of `lock --slots N`: the number of the slot, 1 to N"),
    ("ABA_LOCK_TOKEN", "set for commands: the fencing token, a number that grows with each exclusive lock"),
];

/// The files, in the manual pages of commands without a table of their own.
pub(crate) const FILES: Rows = &[
    (
        "(configuration)",
        "aba-lock reads no configuration file: all settings are options and variables, and `doctor` shows the variables that are set",
    ),
    (
        "ABA_LOCK_DIR/events.jsonl, events.jsonl.1",
        "the event log, if `log --enable` has turned it on, and the one before it; the lock files then have the sticky bit; see \
         aba-lock-log(1)",
    ),
    (
        "ABA_LOCK_DIR/aba-NAME.lock",
        "the lock file of NAME: locked with flock(2) while the lock is held; its content describes the last holder",
    ),
    ("/run/lock/aba-lock", "the lock files of --system, with mode 1777"),
    ("FILE.lock", "the lock of `update` and `write`, next to FILE"),
    ("RUN_ONCE_DIR/ID", "the directory of a task: see aba-lock-run-once(1)"),
    ("ABA_LOCK_DIR/reserve", "the registries of reserved numbers: see aba-lock-reserve(1)"),
];
