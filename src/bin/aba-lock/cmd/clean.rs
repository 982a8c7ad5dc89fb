//! `clean`: removes lock files, tasks and pid files that are no longer used.

use crate::args::clean::CleanArgs;
use crate::exit;
use crate::output::clean::CleanReport;
use aba_lock::base::names::LockName;
use aba_lock::error::Error;
use aba_lock::lock::clean::{self, CleanRule, Fate};
use aba_lock::lock::{holders, pid_file};
use aba_lock::store::error::StoreError;
use aba_lock::store::{Store, TaskRoot};
use aba_lock::task::Task;
use std::path::PathBuf;

pub(crate) fn run(args: &CleanArgs) -> Result<i32, Error> {
    if !args.pid_file.is_empty() {
        return Ok(clean_pid_files(args));
    }
    let store = Store::from_env()?;
    store.refuse_untrusted()?;
    let names = match args.names.as_slice() {
        [] => store.try_names()?,
        names => names.iter().map(|name| LockName::parse(name)).collect::<Result<_, _>>()?,
    };
    let rule = CleanRule { older_than: args.older_than, dry_run: args.dry_run };
    let other = Store::of_other_scope().map(|other| other.names()).unwrap_or_default();
    let mut report = CleanReport::new(args.dry_run, args.quiet).with_system_locks(other);
    let paths: Vec<PathBuf> = names.iter().map(|name| store.lock_path(name)).collect();
    for ((name, path), state) in names.iter().zip(&paths).zip(holders::observe_all(&paths)) {
        report.report_item("lock", name.as_str(), clean::clean_lock_file(path, state, &rule));
    }
    if args.tasks {
        match TaskRoot::from_env() {
            // Another user has made the directory where all users share the state root.
            Err(error @ StoreError::TaskRoot { .. }) => report.report_item("tasks", "", Fate::Failed(error)),
            root => {
                for task in Task::all(&root?)? {
                    report.report_item("task", task.id.as_str(), task.clean(&rule));
                }
            }
        }
    }
    Ok(if report.print_summary() { exit::DONE } else { exit::FAILED })
}

fn clean_pid_files(args: &CleanArgs) -> i32 {
    let mut report = CleanReport::new(args.dry_run, args.quiet);
    for path in &args.pid_file {
        report.report_item("pid file", &path.display().to_string(), pid_file::clean_pid_file(path, args.dry_run));
    }
    if report.print_summary() { exit::DONE } else { exit::FAILED }
}
