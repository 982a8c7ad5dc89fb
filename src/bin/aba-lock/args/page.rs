//! The tables below the options of each command: exit statuses, files, members of JSON, environment and examples.
//!
//! The help and the manual pages are made from the same tables: [`add_tables`] adds them to the help, and `aba-lock-man` reads
//! [`find_page`].

use super::{clean, doctor, events, flock, lock, metrics, reserve, run_once, status, update};
use clap::Command;

/// The rows of a table: a term, and its meaning.
pub(crate) type Rows = &'static [(&'static str, &'static str)];

/// A table of a command.
pub(crate) struct Section {
    /// The heading in the manual page.
    #[allow(dead_code, reason = "only `aba-lock-man` reads it")]
    pub(crate) heading: &'static str,
    /// The title in the help. Empty if the table is in the manual page only.
    title: &'static str,
    pub(crate) rows: Rows,
}

const fn section(heading: &'static str, title: &'static str, rows: Rows) -> Section {
    Section { heading, title, rows }
}

/// Commands, the meaning of their exit statuses, and their other tables.
pub(crate) type Page = (&'static [&'static str], Rows, &'static [Section]);

/// The pages. The help of a command without one (`path`, `init`, `lease`) has no tables.
const PAGES: &[Page] = &[
    (&["aba-lock", "lock"], &lock::EXIT_STATUS, &[section("EVENT LOG", "", &events::EVENT_LOG)]),
    (&["flock"], &flock::EXIT_STATUS, &[section("ENVIRONMENT", "Environment", &flock::ENVIRONMENT)]),
    (&["unlock"], &lock::UNLOCK_EXIT_STATUS, &[]),
    (&["status"], &status::EXIT_STATUS, &[section("JSON", "With --json", &status::STATUS_JSON)]),
    (&["list"], &status::LIST_EXIT_STATUS, &[section("JSON", "With --json, of each lock", &status::STATUS_JSON)]),
    (&["clean"], &clean::EXIT_STATUS, &[]),
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

/// Returns the text of the help below the options of `aba-lock`.
pub(crate) fn after_root_help() -> String {
    format_table("Exit status", &lock::EXIT_STATUS) + "\n" + &format_table("Environment", ENVIRONMENT)
}

/// Adds the tables of a command to its help. The long help has all of them, and the examples.
pub(crate) fn add_tables(command: Command) -> Command {
    let Some((_, exit_status, sections)) = find_page(command.get_name()) else { return command };
    let status = format_table("Exit status", exit_status);
    let mut long = status.clone() + "\n";
    for section in sections.iter().filter(|section| !section.title.is_empty()) {
        long = long + &format_table(section.title, section.rows) + "\n";
    }
    long.push_str("Examples:\n");
    for (_, typed, effect) in EXAMPLES.iter().filter(|(of, ..)| *of == command.get_name()) {
        long = format!("{long}  {typed}\n      {effect}\n");
    }
    command.after_help(status).after_long_help(long)
}

fn format_table(title: &str, rows: Rows) -> String {
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0) + 2;
    rows.iter().fold(format!("{title}:\n"), |text, (left, right)| format!("{text}  {left:width$}{right}\n"))
}

/// The variables of the environment, in the help of `aba-lock` and in most manual pages.
pub(crate) const ENVIRONMENT: Rows = &[
    (
        "ABA_LOCK_DIR",
        "where the lock files are: an absolute path, which is made if it is missing [default: ~/.aba; the home directory \
         itself is never made]",
    ),
    ("ABA_LOCK_TIMEOUT", "wait so many seconds when no option says how long"),
    (
        "ABA_LOCK_LOG",
        "append a line of JSON for each event to this file, or send it to this socket, syslog or journald; a failure of that \
         is reported on standard error, also with --quiet, and changes nothing else",
    ),
    ("ABA_LOCK_SERVER", "lock for all machines that use this server, too: see aba-lock-lease(1)"),
    ("ABA_LOCK_KEEPER", "where aba-lock-keeper is [default: beside aba-lock, else on PATH]"),
    (
        "NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM",
        "whether output has colours: see https://no-color.org and https://bixense.com/clicolors",
    ),
    ("ABA_LOCK_FDS", "set for commands, and by scripts: the descriptors on which locks are handed down"),
    ("RUN_ONCE_DIR", "where the tasks are, an absolute path [default: runner in the directory of the locks]"),
    ("ABA_NUMBER", "set for the commands of `reserve`: the number that they have"),
    ("ABA_FILE", "set for the commands of `update` and `write`: the absolute path of FILE, with links resolved"),
    (
        "ABA_COPY",
        "set for the command of --in-place: the path of the copy; for that of --check: the path of the new content, as in $1",
    ),
    ("ABA_LOCK_NAME", "set for the commands of --on-busy and --on-lost: the name of the lock, or its file, as in $1"),
    ("ABA_LOCK_UPDATING", "set for the commands of updates: the updates that started them"),
    ("ABA_LOCK_TASK", "set for the commands of tasks: the task, and which run of it"),
    ("ABA_LOCK_TOKEN", "set for commands: the fencing token, a number that grows with each exclusive lock"),
];

/// The examples: command, text to type, and effect.
pub(crate) const EXAMPLES: &[(&str, &str, &str)] = &[
    ("lock", "aba-lock lock backup -- rsync -a src/ dst/", "run rsync, unless another `backup` runs"),
    ("lock", "aba-lock lock -t 60 backup -- ./backup.sh", "the same, but wait a minute for it"),
    ("lock", "aba-lock lock db cache -- ./migrate.sh", "hold two locks, or none"),
    ("lock", "aba-lock lock --on-busy 'tmux attach -t build' build -- ./build.sh", "join the build that runs"),
    (
        "lock",
        "aba-lock lock --fd 200 backup",
        "in a script, after `exec 200<>\"$(aba-lock path --create backup)\"`: what aba_lock_operation does",
    ),
    (
        "lock",
        "aba-lock lock --server etcd://10.0.0.1:2379 deploy -- ./deploy.sh",
        "on one of all machines that use this etcd",
    ),
    ("flock", "aba-lock flock -n /run/lock/backup ./backup.sh", "as `flock -n /run/lock/backup ./backup.sh`"),
    ("flock", "ln -s \"$(command -v aba-lock)\" ~/bin/flock", "have it by that name, if ~/bin comes first in PATH"),
    ("unlock", "aba-lock unlock --fd 200 backup", "release it before the script ends"),
    ("unlock", "aba-lock unlock backup --kill --grace 30", "end who has it, and wait until it is free"),
    ("status", "aba-lock status backup", "see who has it, and who waits"),
    ("status", "aba-lock status --json backup | jq '.holders[].pid'", "the same for a program"),
    ("list", "aba-lock list --held", "see all that is held, or runs"),
    ("list", "aba-lock list --watch", "watch it change"),
    ("clean", "aba-lock clean --dry-run", "see which lock files nobody needs"),
    ("clean", "aba-lock clean -q --older-than 30d --tasks", "from cron: remove what was not used for a month"),
    ("doctor", "aba-lock doctor", "see what is wrong here, and how to mend it"),
    (
        "metrics",
        "aba-lock metrics | aba-lock write --create /var/lib/node_exporter/textfile/aba_lock.prom",
        "from cron: for the textfile collector, which never reads half of it",
    ),
    ("run-once", "aba-lock run-once -i fetch -- make download", "start it in the background, once"),
    ("run-once", "aba-lock run-once -w -i fetch", "later: wait for it, and exit with its status"),
    ("run-once", "aba-lock run-once -w -i fetch -- make download", "the same, but run it now if nobody has"),
    (
        "run-once",
        "aba-lock run-once -w -t 3600 -i latest -- ./look-up; aba-lock run-once -o -i latest",
        "its output, at most an hour old",
    ),
    ("run-once", "aba-lock run-once -r -i fetch", "end it, and forget its outcome"),
    ("run-once", "aba-lock run-once --list", "see all tasks"),
    (
        "update",
        "aba-lock update hosts.yaml -- yq '.web.ip = \"10.0.0.7\"'",
        "set one value, while other processes may set others",
    ),
    ("update", "aba-lock update --in-place hosts.txt -- sed -i s/a/b/ {}", "with a command that edits a file"),
    (
        "update",
        "aba-lock update --check 'jq empty' --backup f.json -- ./migrate",
        "refuse content that is not JSON, and keep the old one in f.json~",
    ),
    ("update", "aba-lock update --dry-run --diff f.conf -- sed s/a/b/", "see what would change"),
    ("write", "./generate | aba-lock write --create out.conf", "nothing is written if it prints nothing"),
    ("reserve", "PORT=$(aba-lock reserve) || exit", "this directory's port; the same one the next time"),
    ("reserve", "PORT=$(aba-lock reserve --tag web --prefer 6080) || exit", "a second one, 6080 if that is free"),
    ("reserve", "aba-lock reserve --group web,db --dotenv .env", "WEB_PORT and DB_PORT, both or none, into .env"),
    ("reserve", "aba-lock reserve --tag test -- ./run-tests", "$ABA_NUMBER is its own as long as it runs"),
    (
        "reserve",
        "aba-lock reserve --pool gpu --range 0-7 -- ./train",
        "one of eight of something else, given back when it ends",
    ),
    ("release", "aba-lock release --all-tags", "give back all ports of this directory"),
    ("exclude", "aba-lock exclude 5432 6000-6010", "never give these"),
    ("migrate", "aba-lock migrate --from ~/old --to ~/new", "after `mv ~/old ~/new`"),
    ("lease", "aba-lock lease acquire --server etcd://10.0.0.1:2379 --ttl 10m deploy", "for the steps of a CI job"),
    ("init", "eval \"$(aba-lock init bash)\"", "have aba_lock_operation in this shell or script"),
];
