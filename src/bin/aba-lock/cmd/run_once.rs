//! `run-once`: starts a task, waits for it, or shows or forgets its outcome.

use crate::args::run_once::RunOnceArgs;
use crate::exit;
use crate::output::{stream, tasks};
use aba_lock::base::key::LockKey;
use aba_lock::base::names::TaskId;
use aba_lock::error::Error;
use aba_lock::lock::max_time::{self, TimeLimit};
use aba_lock::store::TaskRoot;
use aba_lock::task::Task;
use aba_lock::task::error::TaskError;
use aba_lock::task::reset::{reset_all, reset_failed};
use aba_lock::task::start::StartResult;
use aba_lock::task::stream::Stream;
use aba_lock::task::wait::WaitRequest;

pub(crate) fn run(args: &RunOnceArgs) -> Result<i32, Error> {
    let root = TaskRoot::from_env()?;
    if args.reset_all {
        let (left, failed) = reset_all(&root)?;
        for directory in &left {
            tasks::report_left_directory(directory);
        }
        return Ok(report_errors(failed));
    }
    if args.reset_failed {
        return Ok(report_errors(reset_failed(&root)?));
    }
    let (id, key) = match (&args.id, &args.key) {
        (Some(id), _) => (TaskId::parse(id)?, None),
        (None, Some(key)) => {
            let key = LockKey::parse(key)?;
            (TaskId::from(key.name().clone()), Some(key.text().to_owned()))
        }
        (None, None) => {
            tasks::print_list(&Task::all(&root)?, args.json);
            return Ok(exit::DONE);
        }
    };
    let task = Task::new(&root, id).with_key(key);
    if args.list || args.json {
        tasks::print_list(&[task], args.json);
        return Ok(exit::DONE);
    }
    run_for_task(args, task)
}

fn run_for_task(args: &RunOnceArgs, task: Task) -> Result<i32, Error> {
    if args.stdout || args.stderr {
        return print_log(args, &task);
    }
    let task = &task.with_ttl(args.ttl);
    task.expire()?;
    if args.exit_status {
        let Some(outcome) = task.try_look()?.outcome else { return Ok(exit::NO) };
        stream::print(&format!("{}\n", outcome.result.status));
        return Ok(exit::DONE);
    }
    let answer = |yes: bool| if yes { exit::DONE } else { exit::NO };
    if args.reset {
        task.reset()?;
        Ok(exit::DONE)
    } else if args.peek {
        Ok(answer(task.try_look()?.finished().is_some()))
    } else if args.active {
        // The outcome of another user's task cannot be read. Its lock shows whether it is running.
        let runs = task.look().running.is_some();
        Ok(answer(runs || task.try_look()?.finished().is_some() || task.find_foreign_run().is_some()))
    } else if args.running {
        let runs = task.look().running.is_some() || task.try_look()?.running.is_some();
        Ok(answer(runs || task.find_foreign_run().is_some()))
    } else if args.wait || args.timeout.is_some() {
        wait_for_task(args, task)
    } else {
        if task.start(&args.command, args.combined_log, find_limit(args))? != StartResult::Started {
            report_other_command(args, task);
        }
        Ok(exit::DONE)
    }
}

/// Prints a log. A task that runs, or has finished, may have printed nothing; a task that was never started is an error.
fn print_log(args: &RunOnceArgs, task: &Task) -> Result<i32, Error> {
    task.try_look()?;
    let stream = if args.stdout { Stream::Out } else { Stream::Err };
    if tasks::print_log(task, stream) || task.is_known() || task.find_foreign_run().is_some() {
        return Ok(exit::DONE);
    }
    if args.quiet {
        return Ok(exit::NO);
    }
    Err(TaskError::NoSuchTask { id: task.id.to_string() }.into())
}

fn find_limit(args: &RunOnceArgs) -> Option<TimeLimit> {
    args.max_time.map(|time| TimeLimit { time, grace: args.grace.unwrap_or(max_time::DEFAULT_GRACE) })
}

/// Reports that the task was run with another command than the one of this call, which has no effect then.
fn report_other_command(args: &RunOnceArgs, task: &Task) {
    if args.quiet || args.command.is_empty() {
        return;
    }
    if let Some(saved) = task.saved_command().filter(|saved| saved.words != args.command) {
        tasks::report_other_command(task, &saved);
    }
}

fn wait_for_task(args: &RunOnceArgs, task: &Task) -> Result<i32, Error> {
    let request = WaitRequest {
        command: &args.command,
        timeout: args.timeout,
        limit: find_limit(args),
        validate: args.validate,
        follow: args.follow,
        purge: args.purge,
    };
    let mut progress = tasks::TaskProgress::new(args.message.as_deref(), args.quiet);
    let result = task.wait(&request, &mut progress)?;
    report_other_command(args, task);
    if result.run.status != 0 && !args.quiet {
        tasks::report_failure(task, &result, args.failure_note.as_deref());
    }
    Ok(i32::from(result.run.status))
}

/// Reports the errors of several tasks. Returns the exit status.
fn report_errors(failed: Vec<TaskError>) -> i32 {
    let failed: Vec<Error> = failed.into_iter().map(Error::from).collect();
    for error in &failed {
        stream::print_error(error);
    }
    failed.first().map_or(exit::DONE, exit::status_for_error)
}
