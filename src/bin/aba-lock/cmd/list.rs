//! `list`: shows all locks and tasks.

use super::keeper::{ask, has_server};
use super::task_root::find_task_root;
use crate::args::status::ListArgs;
use crate::exit;
use crate::output::list::{Listing, ScopeLocks, print_list, print_list_json};
use crate::output::{stream, watch};
use aba_lock::base::environment::choose_colours;
use aba_lock::error::Error;
use aba_lock::lock::holders::{self, Availability};
use aba_lock::os;
use aba_lock::store::Store;
use aba_lock::task::Task;
use aba_lock::task::foreign::look_at_all;
use std::iter;

pub(crate) fn run(args: &ListArgs) -> Result<i32, Error> {
    if let Some(choice) = args.color {
        choose_colours(choice);
    }
    let store = Store::from_env()?;
    // The users of a machine share no tasks.
    let root = if store.is_system() { None } else { find_task_root()? };
    let other = Store::of_other_scope();
    let read = || {
        let mut scopes = Vec::new();
        for store in iter::once(&store).chain(&other) {
            scopes.push(ScopeLocks { store, locks: holders::observe_store(store)? });
        }
        let tasks = root.as_ref().map_or_else(|| Ok(Vec::new()), Task::all)?;
        let mut listing = Listing { scopes, tasks };
        if args.held {
            for scope in &mut listing.scopes {
                // A lock whose state is unknown may be held.
                scope
                    .locks
                    .retain(|(_, state)| state.availability() != Availability::Free && state.wrong_type.is_none());
            }
            let looks = look_at_all(&listing.tasks.iter().collect::<Vec<_>>());
            let mut looks = looks.iter();
            listing.tasks.retain(|_| looks.next().is_some_and(|look| look.running.is_some()));
        }
        Ok::<_, Error>(listing)
    };
    if args.watch {
        if !os::is_terminal(1) {
            stream::print_misuse("list", "--watch needs a terminal, and standard output is not a terminal");
            return Ok(exit::USAGE);
        }
        return watch::run_screen(read);
    }
    let listing = read()?;
    let mut elsewhere = None;
    if has_server(args.server.as_deref()) {
        elsewhere = Some(ask("list", None, args.server.as_deref(), args.json)?);
    }
    let text = elsewhere.as_ref().map(|answer| answer.text.as_str());
    if args.json {
        print_list_json(&listing, text);
    } else {
        print_list(&listing, text);
    }
    Ok(elsewhere.map_or(exit::DONE, |answer| answer.status))
}
