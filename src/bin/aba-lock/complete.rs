//! Tab completion: answers the shells when they ask, through clap's engine. What they are given to ask with
//! (`ABA_LOCK_COMPLETE=bash aba-lock`) is committed under `completions/`.

use crate::args::Cli;
use aba_lock::holders::{self, Belief, State};
use aba_lock::store::Store;
use clap::{Command, CommandFactory};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;
use std::ffi::OsStr;

/// Answers and ends the process if a shell asks (in the variable `ABA_LOCK_COMPLETE`), else does nothing.
pub(crate) fn answer_shell() {
    CompleteEnv::with_factory(command).var("ABA_LOCK_COMPLETE").bin("aba-lock").completer("aba-lock").complete();
}

/// The command line with what only completion needs to know, so that no other call pays for it.
fn command() -> Command {
    let locks = |id| move |command: Command| command.mut_arg(id, |arg| arg.add(ArgValueCompleter::new(lock_names)));
    Cli::command()
        .mut_subcommand("lock", locks("names"))
        .mut_subcommand("unlock", locks("name"))
        .mut_subcommand("status", locks("name"))
        .mut_subcommand("path", locks("name"))
}

/// The names that there are, the held ones described.
fn lock_names(current: &OsStr) -> Vec<CompletionCandidate> {
    let (Some(current), Ok(store)) = (current.to_str(), Store::from_env()) else { return Vec::new() };
    let names: Vec<_> = store.names().into_iter().filter(|name| name.as_str().starts_with(current)).collect();
    let paths: Vec<_> = names.iter().map(|name| store.lock_path(name)).collect();
    let states = holders::of_all(&paths);
    let candidate =
        |(name, state): (_, &State)| CompletionCandidate::new(format!("{name}")).help(Some(said(state).into()));
    names.iter().zip(&states).map(candidate).collect()
}

fn said(state: &State) -> String {
    let Some(holding) = &state.holding else { return "free".to_owned() };
    match (&holding.record, holding.holders.first()) {
        (Some((record, Belief::Alive)), _) => format!("held by pid {} ({})", record.pid, record.command),
        (_, Some(holder)) => format!("held by pid {} ({})", holder.pid, holder.command),
        _ => "held".to_owned(),
    }
}
