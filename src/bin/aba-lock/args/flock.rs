//! The options of `flock` for its help, manual page and completion. The library parses them (`lock::flock::arguments`).

use clap::{Arg, ArgAction, ArgMatches, Args, Error, FromArgMatches, ValueHint};
use std::ffi::OsString;

pub(crate) const EXIT_STATUS: [(&str, &str); 9] = [
    ("0", "locked, or released"),
    (
        "1",
        "another process holds the lock (-n), or the wait timed out (-w); -E changes it; or standard output cannot be written to",
    ),
    ("64", "wrong usage"),
    ("65", "the lock is impossible: the descriptor is not open, or the file system does not support locks"),
    ("66", "the file cannot be opened"),
    ("69", "the command cannot be run"),
    ("71", "the system failed: it has no memory, process, lock or suitable timer left"),
    ("73", "the file cannot be created: the file system is full or read-only"),
    ("other", "the exit status of the command; 128+n if signal n ended it"),
];

pub(crate) const ENVIRONMENT: [(&str, &str); 1] =
    [("SHELL", "the shell that runs the command of -c [default: /bin/sh]")];

/// The words that call it as a command of the helper.
pub(crate) const COMMAND: &str = "aba-lock flock";

/// Returns the usage under this name.
pub(crate) fn format_usage(name: &str) -> String {
    let forms = [
        "[OPTIONS] FILE COMMAND [ARGUMENT]...",
        "[OPTIONS] FILE -c 'SHELL COMMAND'",
        "[OPTIONS] N",
        "[OPTIONS] --fd N [COMMAND [ARGUMENT]...]",
    ];
    forms.map(|form| format!("{name} {form}")).join("\n       ")
}

/// The unparsed words after `flock`, and the words by which it was called.
#[derive(Debug)]
pub(crate) struct FlockArgs {
    pub(crate) called: &'static str,
    pub(crate) words: Vec<OsString>,
}

/// Not used to parse: clap only needs the definition, for the help.
impl FromArgMatches for FlockArgs {
    fn from_arg_matches(_: &ArgMatches) -> Result<Self, Error> {
        Ok(Self { called: COMMAND, words: Vec::new() })
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> Result<(), Error> {
        self.called = COMMAND;
        self.words.clear();
        Ok(())
    }
}

impl Args for FlockArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let flag = |id, letter, help| Arg::new(id).short(letter).long(id).help(help).action(ArgAction::SetTrue);
        let value = |id, name, help| Arg::new(id).long(id).value_name(name).help(help);
        command
            .about("Lock a file, with the options of flock(1)")
            .long_about(
                "Lock a file, with the options of flock(1)\n\n\
                 Locks a file or directory and runs a command, or locks a descriptor that the calling script has open, \
                 until the script closes it. If the file does not exist, it is created. Its content does not change.\n\n\
                 The helper does the same when it is called `flock`, for example through a link of that name. It accepts \
                 the options of flock(1) and exits with the same statuses: options end at FILE, long options may be \
                 abbreviated, and the last one of several wins. It needs neither HOME nor a directory for locks, and \
                 writes no record of the holder.\n\n\
                 The lock is held until the command, and every child that inherited it, have ended. This process waits \
                 for the command, so that the lock is kept even if the command closes inherited descriptors. With \
                 --no-fork it becomes the command instead. As with flock(1), a nested call for the same file waits \
                 forever; `aba-lock lock --file` does not.",
            )
            .override_usage(format_usage(COMMAND))
            .disable_help_flag(true)
            .disable_version_flag(true)
            .arg(flag("shared", 's', "Acquire a shared lock, which several processes can hold at the same time"))
            .arg(flag("exclusive", 'x', "Acquire an exclusive lock, which only one process can hold; also -e [default]").short_alias('e'))
            .arg(flag("unlock", 'u', "Release the lock"))
            .arg(
                flag("nonblocking", 'n', "Fail at once if another process holds the lock; also --nb, --nonblock")
                    .alias("nb")
                    .alias("nonblock"),
            )
            .arg(
                value("timeout", "SECONDS", "Give up after SECONDS (fractions allowed; 0 means do not wait); also --wait")
                    .short('w')
                    .alias("wait"),
            )
            .arg(
                value("conflict-exit-code", "N", "Exit with status N (0 to 255) if the lock is held by another process or the wait timed out")
                    .short('E'),
            )
            .arg(flag("close", 'o', "Close the descriptor of the lock in the command"))
            .arg(flag("no-fork", 'F', "Become the command instead of waiting for it"))
            .arg(
                value("command", "STRING", "After FILE: run STRING with $SHELL -c, or /bin/sh -c")
                    .short('c')
                    .value_hint(ValueHint::CommandString),
            )
            .arg(value("fd", "N", "Lock descriptor N, and then run the command, if there is one"))
            .arg(
                Arg::new("fcntl")
                    .long("fcntl")
                    .action(ArgAction::SetTrue)
                    .help("Lock a range of the open file with fcntl(2), instead of the file with flock(2) (Linux)"),
            )
            .arg(value(
                "start",
                "BYTES",
                "First byte of the range, such as 4096, 0x1000, 4K, 4KiB, 4KB or 1.5M; implies --fcntl [default: 0]",
            ))
            .arg(value(
                "length",
                "BYTES",
                "Length of the range; 0 means to the end of the file; implies --fcntl [default: 0]",
            ))
            .arg(
                Arg::new("verbose")
                    .long("verbose")
                    .action(ArgAction::SetTrue)
                    .help("Print how long it took to acquire the lock, or why it was not acquired and which process holds it"),
            )
            .arg(Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print help"))
            .arg(Arg::new("version").short('V').long("version").action(ArgAction::Version).help("Print version"))
            .version(env!("CARGO_PKG_VERSION"))
            .arg(
                Arg::new("file")
                    .value_name("FILE|N")
                    .help("The file or directory; a number without a command is an open descriptor")
                    .value_hint(ValueHint::AnyPath),
            )
            .arg(
                Arg::new("words")
                    .value_name("COMMAND")
                    .help("The command to run while the lock is held")
                    .num_args(0..)
                    .trailing_var_arg(true)
                    .allow_hyphen_values(true)
                    .value_parser(clap::value_parser!(OsString))
                    .value_hint(ValueHint::CommandWithArguments),
            )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}
