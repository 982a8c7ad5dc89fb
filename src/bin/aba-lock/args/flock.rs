//! The options of `flock` for its help, manual page and completion. The library parses them (`lock::flock::arguments`).

use clap::{Arg, ArgAction, ArgMatches, Args, Error, FromArgMatches, ValueHint};
use std::ffi::OsString;

pub(crate) const EXIT_STATUS: [(&str, &str); 9] = [
    ("0", "locked, or released"),
    ("1", "another has it (-n), or the wait timed out (-w); -E changes it; or standard output could not be written to"),
    ("64", "wrong usage"),
    ("65", "it cannot be locked: the descriptor is not open, or the file system does not lock"),
    ("66", "the file cannot be opened"),
    ("69", "the command cannot be run"),
    ("71", "the system could not: no memory, no process, no lock, no such timer"),
    ("73", "the file cannot be made: the file system is full, or cannot be written to"),
    ("other", "the command's own, 128+n if it died of signal n"),
];

pub(crate) const ENVIRONMENT: [(&str, &str); 1] = [("SHELL", "runs the command of -c; else /bin/sh does")];

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
            .about("Lock files as flock(1) does, with its arguments")
            .long_about(
                "Lock files as flock(1) does, with its arguments\n\n\
                 Locks a file or directory, and runs a command; or locks a descriptor that the calling script has open, for \
                 as long as that has it open. The file is made if it is not there, and stays as it is.\n\n\
                 The same is what the helper does when it is called `flock`, as by a link of that name. It takes what \
                 flock(1) takes, and ends with the same status: options end at FILE, long ones may be cut short, and of \
                 several the last one wins. It needs no HOME and no directory for locks, and leaves no record of the \
                 holder.\n\n\
                 The lock is held until the command has ended, and all that have inherited it: that is, the command's \
                 children, too. So that a command that closes what it inherits does not lose it, this process waits for \
                 the command; with --no-fork it becomes the command. A nested call for the same file waits for ever, as \
                 with flock(1); `aba-lock lock --file` does not.",
            )
            .override_usage(format_usage(COMMAND))
            .disable_help_flag(true)
            .disable_version_flag(true)
            .arg(flag("shared", 's', "Share the lock with others who share it"))
            .arg(flag("exclusive", 'x', "Shut everyone else out; also -e [default]").short_alias('e'))
            .arg(flag("unlock", 'u', "Release the lock"))
            .arg(
                flag("nonblocking", 'n', "Fail at once if another has it; also --nb, --nonblock")
                    .alias("nb")
                    .alias("nonblock"),
            )
            .arg(
                value("timeout", "SECONDS", "Wait so long at most; fractions are allowed, and 0 tries once; also --wait")
                    .short('w')
                    .alias("wait"),
            )
            .arg(
                value("conflict-exit-code", "N", "Exit with this status, 0 to 255, if another has it or the wait timed out")
                    .short('E'),
            )
            .arg(flag("close", 'o', "Keep the descriptor from the command"))
            .arg(flag("no-fork", 'F', "Become the command"))
            .arg(
                value("command", "STRING", "Behind FILE: run this with $SHELL -c, or /bin/sh -c")
                    .short('c')
                    .value_hint(ValueHint::CommandString),
            )
            .arg(value("fd", "N", "Lock this descriptor, and run the command, if there is one"))
            .arg(
                Arg::new("fcntl")
                    .long("fcntl")
                    .action(ArgAction::SetTrue)
                    .help("Lock a range with fcntl(2), of the open file, instead of the file with flock(2) (Linux)"),
            )
            .arg(value(
                "start",
                "BYTES",
                "Lock from this offset, such as 4096, 0x1000, 4K or 4KiB, 4KB or 1.5M; implies --fcntl [default: 0]",
            ))
            .arg(value(
                "length",
                "BYTES",
                "Lock this number of bytes, 0 to the end of the file; implies --fcntl [default: 0]",
            ))
            .arg(
                Arg::new("verbose")
                    .long("verbose")
                    .action(ArgAction::SetTrue)
                    .help("Say how long it took to get the lock, or why it was not got, and who has it"),
            )
            .arg(Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print help"))
            .arg(Arg::new("version").short('V').long("version").action(ArgAction::Version).help("Print version"))
            .version(env!("CARGO_PKG_VERSION"))
            .arg(
                Arg::new("file")
                    .value_name("FILE|N")
                    .help("The file or directory; alone, a number: a descriptor that is open")
                    .value_hint(ValueHint::AnyPath),
            )
            .arg(
                Arg::new("words")
                    .value_name("COMMAND")
                    .help("The command to run under the lock")
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
