//! Tab completion: answers the completion scripts of the shells, through the engine of clap.
//!
//! A script asks with the variable `ABA_LOCK_COMPLETE` (`ABA_LOCK_COMPLETE=bash aba-lock`). The scripts are those in
//! `completions/` and not those of clap, which have these faults: the bash script loses lock names with `:` or `@`, at
//! which bash splits words; the zsh script only answers from the second TAB on if zsh loads it from `fpath`; and no
//! script completes the command after `--`. The engine chooses the candidates. Only files and commands are completed by
//! the shell, which knows `~`, quoting and aliases: for these the answer is [`FILES`] or [`COMMAND`].

use crate::args::Cli;
use crate::exit;
use crate::keeper_args;
use crate::manual;
use crate::output::stream;
use aba_lock::base::key::LockKey;
use aba_lock::base::names::LockName;
use aba_lock::lock::holders::{self, Belief, LockState};
use aba_lock::number::{directory, pool_files, registry};
use aba_lock::os;
use aba_lock::store::{Store, TaskRoot};
use aba_lock::task::Task;
use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Shells, Zsh};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

/// The answer that makes the shell offer files. It cannot be a name, an option or a command.
const FILES: &str = "<files>";

/// The answer that makes the shell complete the command line after `--`.
const COMMAND: &str = "<command>";

/// Answers a completion script, and returns the exit status. Returns `None` if no completion script made this call.
pub(crate) fn answer_shell() -> Option<i32> {
    // A leftover variable in the environment must not turn `aba-lock lock` into an answer with status 0.
    if os::words().nth(1).is_some_and(|word| word != "--") {
        return None;
    }
    answer_engine()
}

// Not inlined, because every call would pay for its large stack frame.
#[inline(never)]
fn answer_engine() -> Option<i32> {
    let shells: [&dyn EnvCompleter; 3] = [
        &Shell { engine: &Bash, script: INSTALLED[0].2 },
        &Shell { engine: &Zsh, script: INSTALLED[1].2 },
        &Shell { engine: &Fish, script: INSTALLED[2].2 },
    ];
    // The directory is `None` below, because the engine needs it only to complete files, which the shell does.
    let engine = CompleteEnv::with_factory(build_command).var("ABA_LOCK_COMPLETE").shells(Shells(&shells));
    match engine.try_complete(os::words(), None) {
        Ok(false) => None,
        Ok(true) => {
            stream::flush_stdout();
            Some(exit::DONE)
        }
        Err(error) => {
            stream::print_clap_answer(&error);
            Some(exit::FAILED)
        }
    }
}

/// A shell for the engine of clap, with the script from `completions/`.
struct Shell {
    engine: &'static dyn EnvCompleter,
    script: &'static str,
}

impl EnvCompleter for Shell {
    fn name(&self) -> &'static str {
        self.engine.name()
    }

    fn is(&self, name: &str) -> bool {
        self.engine.is(name)
    }

    fn write_registration(&self, _: &str, _: &str, _: &str, _: &str, to: &mut dyn io::Write) -> io::Result<()> {
        to.write_all(self.script.as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        words: Vec<OsString>,
        directory: Option<&Path>,
        to: &mut dyn io::Write,
    ) -> io::Result<()> {
        // The engine does not know that `--` ends the names: it would offer more of them.
        let escaped = words.iter().rev().skip(1).any(|word| word == "--");
        let subcommand = words.get(1).and_then(|name| command.find_subcommand(name));
        // `lease run`.
        let nested = subcommand.and_then(|subcommand| subcommand.find_subcommand(words.get(2)?));
        let subcommand = nested.or(subcommand);
        if escaped && subcommand.is_some_and(|command| command.get_positionals().any(Arg::is_last_set)) {
            return to.write_all(COMMAND.as_bytes());
        }
        let mut answer = Vec::new();
        self.engine.write_complete(command, words, directory, &mut answer)?;
        // The engine also offers the options that the help hides. `command` does not show which ones these are, because
        // all its options are hidden (`add_completion`), so they are read from the definition.
        let definition = Cli::command();
        let hidden = definition.get_subcommands().flat_map(Command::get_arguments).filter(|arg| arg.is_hide_set());
        let hidden: Vec<String> = hidden.filter_map(|arg| Some(format!("--{}", arg.get_long()?))).collect();
        let is_private = |line: &[u8]| hidden.iter().any(|option| line.starts_with(option.as_bytes()));
        answer
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| !is_private(line))
            .try_for_each(|line| to.write_all(line))
    }
}

/// Builds the definition of all commands with the candidates of each argument. Other calls start faster without them.
fn build_command() -> Command {
    let mut command = Cli::command();
    // The keeper parses the words after `lease`, and has its own definitions of them.
    if let Some(lease) = keeper_args::Cli::command().find_subcommand("lease") {
        command = command.mut_subcommand("lease", |_| lease.clone());
    }
    // Adds `--help` to each command before the arguments are visited.
    command.build();
    let command = command.mut_subcommands(|command| {
        command.mut_args(add_completion).mut_subcommands(|command| command.mut_args(add_completion))
    });
    command.mut_subcommand("run-once", |command| {
        command.mut_arg("key", |arg| arg.add(ArgValueCompleter::new(complete_task_keys)))
    })
}

/// Adds the candidates of an argument. They follow from the name of its value in the help, so that a new command needs
/// no code here.
fn add_completion(arg: Arg) -> Arg {
    // After `update` and `flock`, CMD may follow without `--`, and the engine would take an option for its first word.
    let is_command = arg.is_trailing_var_arg_set();
    let arg = if is_command { arg.trailing_var_arg(false).allow_hyphen_values(false).last(true) } else { arg };
    let named = |name: &str| arg.get_value_names().is_some_and(|names| names == [name]);
    // The engine also asks for files when an option is typed.
    let files = |word: &OsStr| {
        let is_option = word.as_encoded_bytes().starts_with(b"-");
        if is_option { Vec::new() } else { vec![CompletionCandidate::new(FILES)] }
    };
    let arg = match arg.get_value_hint() {
        _ if named("NAME") => arg.add(ArgValueCompleter::new(complete_lock_names)),
        _ if arg.get_id() == "key" => arg.add(ArgValueCompleter::new(complete_keys)),
        _ if named("ID") => arg.add(ArgValueCompleter::new(complete_task_ids)),
        _ if named("TAG") => arg.add(ArgValueCompleter::new(complete_tags)),
        _ if named("PAGE") => arg.add(ArgValueCompleter::new(complete_pages)),
        _ if named("POOL") => arg.add(ArgValueCompleter::new(complete_pools)),
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath => arg.add(ArgValueCompleter::new(files)),
        _ => arg,
    };
    // Options are hidden, because the engine offers hidden candidates only if there are no others, such as names.
    let is_option = !arg.is_positional();
    arg.hide(is_option)
}

/// Returns the candidates that begin with the typed word, with their descriptions.
fn select(current: &OsStr, all: impl IntoIterator<Item = (String, Option<String>)>) -> Vec<CompletionCandidate> {
    let matching = all.into_iter().filter(|(text, _)| text.as_bytes().starts_with(current.as_encoded_bytes()));
    matching.map(|(text, help)| CompletionCandidate::new(text).help(help.map(Into::into))).collect()
}

/// Completes names of locks, with the holders of held ones.
fn complete_lock_names(current: &OsStr) -> Vec<CompletionCandidate> {
    let Ok(store) = Store::from_env() else { return Vec::new() };
    let mut names = store.names();
    names.retain(|name| name.as_str().as_bytes().starts_with(current.as_encoded_bytes()));
    let paths: Vec<_> = names.iter().map(|name| store.lock_path(name)).collect();
    let states = holders::observe_all(&paths);
    select(current, names.iter().zip(&states).map(|(name, state)| (name.to_string(), describe_lock(state))))
}

/// Completes texts of keys, which are in the records of locks, with the holders of held ones.
fn complete_keys(current: &OsStr) -> Vec<CompletionCandidate> {
    let Ok(states) = Store::from_env().and_then(|store| holders::observe_store(&store)) else {
        return Vec::new();
    };
    let key = |(name, state): (LockName, LockState)| {
        let text = state.record.as_ref()?.key.clone()?;
        can_be_inserted(&text, name.as_str()).then(|| (text, describe_lock(&state)))
    };
    select(current, states.into_iter().filter_map(key))
}

/// Returns true if the text of a key leads to this name when the shell inserts it. A text in another form, or one that was cut, has
/// another name. Bash does not quote what it inserts.
fn can_be_inserted(text: &str, name: &str) -> bool {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@%+=:,./_-".contains(&byte));
    is_plain && LockKey::parse(text.as_ref()).is_ok_and(|key| key.name().as_str() == name)
}

/// Completes texts of keys, which are in the records of tasks, with the states of the tasks.
fn complete_task_keys(current: &OsStr) -> Vec<CompletionCandidate> {
    let Ok(root) = TaskRoot::from_env() else { return Vec::new() };
    let tasks = Task::all(&root).unwrap_or_default();
    let key = |task: &Task| {
        let text = task.find_key().filter(|text| can_be_inserted(text, task.id.as_str()))?;
        task.is_known().then(|| (text, Some(describe_task(task))))
    };
    select(current, tasks.iter().filter_map(key))
}

/// Completes ids of tasks, with their states.
fn complete_task_ids(current: &OsStr) -> Vec<CompletionCandidate> {
    let Ok(root) = TaskRoot::from_env() else { return Vec::new() };
    let mut tasks = Task::all(&root).unwrap_or_default();
    tasks.retain(|task| task.id.as_str().as_bytes().starts_with(current.as_encoded_bytes()) && task.is_known());
    select(current, tasks.iter().map(|task| (task.id.to_string(), Some(describe_task(task)))))
}

/// Completes tags of the current directory, with their numbers. The tags of all pools are offered, as the pool is
/// unknown here.
fn complete_tags(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Ok(store), Ok(directory)) = (Store::for_tasks(), directory::find_directory(None)) else { return Vec::new() };
    let mut tags = Vec::new();
    for pool in pool_files::list_pools(&store).unwrap_or_default() {
        let rows = registry::read_contents(&store, &pool)
            .ok()
            .flatten()
            .and_then(|contents| contents.rows())
            .unwrap_or_default();
        let ours = rows.into_iter().filter(|row| row.directory == directory && !row.tag.as_str().is_empty());
        tags.extend(ours.map(|row| (row.tag.to_string(), Some(format!("{} of {pool}", row.number)))));
    }
    select(current, tags)
}

/// Completes names of pools.
fn complete_pools(current: &OsStr) -> Vec<CompletionCandidate> {
    let pools = Store::for_tasks().ok().and_then(|store| pool_files::list_pools(&store).ok()).unwrap_or_default();
    select(current, pools.iter().map(|pool| (pool.to_string(), None)))
}

/// Completes names of manual pages. Two pages have the same name, and one of these needs the section.
fn complete_pages(current: &OsStr) -> Vec<CompletionCandidate> {
    let pages = manual::list_pages();
    let is_second = |at: usize, name: &str| pages[..at].iter().any(|page| page.name == name);
    let names = pages.iter().enumerate().map(|(at, page)| {
        let name = if is_second(at, &page.name) { page.file_name() } else { page.name.clone() };
        (name, Some(page.about.clone()))
    });
    select(current, names)
}

fn describe_task(task: &Task) -> String {
    let look = task.look();
    match look.running {
        Some(running) => format!("running, pid {}", running.pid),
        None => look.state().as_str().to_owned(),
    }
}

fn describe_lock(state: &LockState) -> Option<String> {
    let holding = state.holding.as_ref()?;
    Some(match (&holding.record, holding.holders.first()) {
        (Some((record, Belief::Alive)), _) => format!("held by pid {} ({})", record.pid, record.command),
        (_, Some(holder)) => format!("held by pid {} ({})", holder.pid, holder.command),
        _ => "held".to_owned(),
    })
}

/// The shells, with the paths of the installed script below the data directory (see the Makefile), and the script. The
/// bash script is loaded by bash-completion at the first TAB, the others are loaded from `fpath` and
/// `fish_complete_path`; all can be sourced. The package for Debian has the script for zsh at the second path.
pub(crate) const INSTALLED: [(&str, &[&str], &str); 3] = [
    ("bash", &["bash-completion/completions/aba-lock"], include_str!("../../../completions/aba-lock.bash")),
    (
        "zsh",
        &["zsh/site-functions/_aba-lock", "zsh/vendor-completions/_aba-lock"],
        include_str!("../../../completions/_aba-lock"),
    ),
    ("fish", &["fish/vendor_completions.d/aba-lock.fish"], include_str!("../../../completions/aba-lock.fish")),
];
