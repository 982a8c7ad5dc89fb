//! `lock`: acquires locks, and leaves them to the calling script or runs a command while they are held.

use super::command::{becomes_command, run_with_locks, write_pid};
use super::keeper::{has_server, hold_with_lease};
use super::target::list_targets;
use super::wait::choose_wait;
use crate::args::lock::LockArgs;
use crate::exit;
use crate::output::contention::{
    HintReader, report_acquired, report_contention, report_covered, report_fcntl_contention,
};
use crate::output::misuse::{hint_to_wait, report_time_as_name};
use crate::output::progress::LockProgress;
use crate::output::stream;
use crate::parse;
use aba_lock::base::command_error::CommandError;
use aba_lock::base::environment::{SLOT, TOKEN};
use aba_lock::base::target::{Target, Wait};
use aba_lock::error::Error;
use aba_lock::lock::binding::{self, LockBinding};
use aba_lock::lock::error::{LockError, ReplaceMistake};
use aba_lock::lock::events::{self, ReleaseCause};
use aba_lock::lock::keeper::Keeper;
use aba_lock::lock::max_time::{self, LimitedAnswer, LimitedCall, TimeLimit};
use aba_lock::lock::request::{Acquired, AfterGrant, Coalescing, Request};
use aba_lock::lock::{acquire, coalesce, inherit, release};
use aba_lock::os::{self, Mode, WatcherLink};
use aba_lock::store::Store;
use std::fmt::Write as _;
use std::iter;
use std::time::{Duration, Instant};

pub(crate) fn run(args: &LockArgs) -> Result<i32, Error> {
    let store = if args.file.is_empty() { Some(Store::from_env()?) } else { None };
    store.as_ref().map_or(Ok(()), Store::refuse_untrusted)?;
    let targets: Vec<Target> = match &store {
        Some(store) => list_targets(store, &args.names, &args.key)?,
        None => args.file.iter().map(|path| Target::file(path)).collect(),
    };
    if reject_time_as_name(args) || reject_mistake(args, &targets) {
        return Ok(exit::USAGE);
    }
    let uses_server = args.file.is_empty() && has_server(args.server.as_deref());
    if if uses_server { reject_use_of_server(args) } else { reject_lease_options(args) } {
        return Ok(exit::USAGE);
    }
    let keeper = if uses_server { Some(Keeper::find()?) } else { None };
    let wait = choose_wait(args)?;
    let try_first = args.try_first && wait.blocks();
    if try_first && (keeper.is_some() || args.replace) {
        // The keeper may have to wait for the lease, and a newcomer for an earlier one, even if the lock is free here.
        return Ok(status_for_wait());
    }
    if args.heed_keyboard {
        os::heed_keyboard();
    }
    // The path is made absolute, because the readers of the record have other working directories. If the working
    // directory of this process is unknown, the record does not name the pid file.
    let pid_file = args.pid_file.as_ref().and_then(|path| std::path::absolute(path).ok());
    let grace = args.grace.unwrap_or(max_time::DEFAULT_GRACE);
    let limit = args.max_time.map(|time| TimeLimit { time, grace });
    let mut request = Request {
        mode: if args.shared || args.slots.is_some() { Mode::Shared } else { Mode::Exclusive },
        fcntl: args.fcntl,
        slots: args.slots,
        coalescing: args.coalesce,
        replace: args.replace.then_some(grace),
        priority: args.priority,
        wait: if try_first { Wait::No } else { wait },
        holder: if parse::is_for_script(args) { os::parent_id() } else { std::process::id() },
        command: (!args.command.is_empty())
            .then(|| shell_words::join(args.command.iter().map(|word| word.to_string_lossy()))),
        who: args.who.as_deref(),
        pid_file: pid_file.as_deref(),
        after_grant: match &keeper {
            // The process that acquires the locks is the watcher, which goes on.
            _ if limit.is_some() => AfterGrant::GoesOn,
            None if !args.fd.is_empty() => AfterGrant::Exits,
            None if !args.bind.is_empty() => AfterGrant::GoesOn,
            None if !is_strict(args) && becomes_command(&args.command, args.no_inherit, args.pid_file.as_deref()) => {
                AfterGrant::BecomesCommand
            }
            _ => AfterGrant::GoesOn,
        },
        waited: args.waited.unwrap_or_default(),
        max_time: args.max_time,
        caller: (!args.bind.is_empty()).then(os::parent_id),
        skips: args.skip_ok,
        logs_contention: !try_first && args.waited.is_none(),
    };
    let mut progress = LockProgress::resume(args.quiet || args.skip_ok, request.waited);
    let link = match limit {
        None => None,
        Some(_) if args.await_open => None,
        Some(_) => match start_watcher(args, &targets, &request)? {
            LimitedCall::Watcher(link) => Some(link),
            LimitedCall::Caller(LimitedAnswer::Ended(status)) => return Ok(status),
            LimitedCall::Caller(LimitedAnswer::Contended(label)) => return become_busy_command(args, &label),
            LimitedCall::Caller(LimitedAnswer::Acquired(acquired)) => {
                return go_on(args, keeper.as_ref(), acquired, &request, &progress);
            }
        },
    };
    request.caller = link.as_ref().map(WatcherLink::parent).or(request.caller);
    let open = |(target, fd): (&Target, &i32)| LockBinding::open(target.clone(), *fd, request.holder);
    let bindings = targets.iter().zip(&args.bind).map(open).collect::<Result<Vec<_>, _>>()?;
    let done = if args.fd.is_empty() {
        if args.await_open {
            let waited = acquire::wait_for_files(&targets, store.as_ref(), &request, &mut progress);
            let failed = |error: LockError| end_without_lock(args, error.into(), (None, try_first));
            return waited.map_or_else(failed, |()| Ok(exit::DONE));
        }
        acquire::acquire(targets, store.as_ref(), &request, &mut progress)
    } else {
        let targets = targets.into_iter().zip(args.fd.iter().copied()).collect();
        acquire::acquire_descriptors(targets, &request, &mut progress)
    };
    match done.map_err(Error::from) {
        Ok(acquired) => {
            if let Some(path) = args.pid_file.as_deref().filter(|path| acquired.has_file_at(path)) {
                release_locks(&args.fd, &acquired);
                report_misuse(args, &format!("the pid file {} would replace the lock file", path.display()));
                return Ok(exit::USAGE);
            }
            if let (Some(link), Some(limit)) = (link, limit) {
                max_time::check_fresh(&acquired).inspect_err(|_| release_locks(&args.fd, &acquired))?;
                report_acquired(&acquired, &progress, args.quiet, args.verbose);
                let reported = max_time::watch(link, acquired, &request, limit);
                return Ok(if reported { exit::DONE } else { exit::FAILED });
            }
            binding::bind_locks(&acquired, bindings)?;
            report_acquired(&acquired, &progress, args.quiet || args.fcntl, args.verbose);
            go_on(args, keeper.as_ref(), acquired, &request, &progress)
        }
        Err(error) => end_without_lock(args, error, (link.as_ref(), try_first)),
    }
}

/// Ends a call that did not get the lock. A watcher has a `link`.
fn end_without_lock(
    args: &LockArgs,
    error: Error,
    (link, try_first): (Option<&WatcherLink>, bool),
) -> Result<i32, Error> {
    match error {
        Error::Lock(LockError::Busy { .. }) if try_first => Ok(status_for_wait()),
        Error::Lock(LockError::Covered { label, by }) => {
            if !args.quiet && !args.skip_ok {
                report_covered(&label, by);
            }
            Ok(status_for_skip(args))
        }
        Error::Lock(
            LockError::Busy { .. }
            | LockError::TimedOut { .. }
            | LockError::Deadlock { .. }
            | LockError::Replace { mistake: ReplaceMistake::Superseded | ReplaceMistake::NotEnded, .. },
        ) => handle_contention(args, &error, link),
        // The helper that started this watcher was ended, and its user has not asked for a message.
        Error::Lock(LockError::ScriptEnded { .. }) if link.is_some() => Ok(exit::FAILED),
        Error::Lock(LockError::Replaced { .. }) if args.reopen => Ok(exit::REPLACED),
        error => Err(error),
    }
}

/// Reports arguments that cannot be combined, with the help of the function if the shell library calls.
fn report_misuse(args: &LockArgs, what: &str) {
    if args.reopen {
        let hint = "see `aba_lock_operation --help`";
        stream::print_message(&format!("aba_lock_operation: {what}"), Some(hint));
    } else {
        stream::print_misuse("lock", what);
    }
}

/// Starts the watcher for `--max-time`. Both processes return from here.
fn start_watcher(args: &LockArgs, targets: &[Target], request: &Request) -> Result<LimitedCall, Error> {
    let fds = args.fd.iter().copied().map(Some).chain(iter::repeat(None));
    let mut locks: Vec<(Target, Option<i32>)> = targets.iter().cloned().zip(fds).collect();
    acquire::put_in_order(&mut locks);
    Ok(max_time::start(&locks, (!args.fd.is_empty()).then_some(request.holder))?)
}

/// Goes on after the grant: acquires the leases, leaves the locks to the script, or runs the command. `progress` has the time for
/// which the call has waited.
fn go_on(
    args: &LockArgs,
    keeper: Option<&Keeper>,
    acquired: Acquired,
    request: &Request,
    progress: &LockProgress,
) -> Result<i32, Error> {
    let Some(keeper) = keeper else { return hold(args, acquired, request) };
    let error = hold_with_lease(args, keeper, &acquired, request, progress.elapsed());
    release_locks(&args.fd, &acquired);
    Err(error)
}

/// Leaves the lock to the script, or runs the command while the lock is held.
fn hold(args: &LockArgs, acquired: Acquired, request: &Request) -> Result<i32, Error> {
    if args.command.is_empty() {
        if let Some(path) = &args.pid_file {
            write_pid(path, request.holder).inspect_err(|_| release_locks(&args.fd, &acquired))?;
        }
        return Ok(exit::DONE);
    }
    let since = Instant::now();
    let mut variables = vec![(TOKEN, acquired.token.to_string())];
    variables.extend(acquired.slot.map(|slot| (SLOT, slot.number.to_string())));
    // A signal from within a container has no effect on its process 1 without a handler, not even SIGKILL.
    let is_first = args.max_time.is_some() && std::process::id() == 1;
    // If the lock is logged in its state root, the log gets the exit status of the command.
    let stays = is_strict(args) || acquired.is_logged || is_first;
    let (guards, pid_file) = (acquired.guards.iter(), args.pid_file.as_deref());
    let done = run_with_locks(&args.command, args.no_inherit, guards, variables, pid_file, stays);
    if is_strict(args) && matches!(done, Ok(exit::DONE)) {
        coalesce::note_success(&acquired.guards);
    }
    // A process that became the command does not get here.
    let cause = match &done {
        Ok(status) => ReleaseCause::Exit(*status),
        Err(Error::Command(CommandError::Signalled { signal })) => ReleaseCause::Signal(*signal),
        Err(_) => ReleaseCause::Release,
    };
    events::release_and_log(acquired, request, since.elapsed(), cause);
    done
}

/// Returns true if a run must note its success.
fn is_strict(args: &LockArgs) -> bool {
    args.coalesce == Some(Coalescing::Strict)
}

/// Releases the locks that this call acquired for a script, because a later step of the call fails.
fn release_locks(fds: &[i32], acquired: &Acquired) {
    for guard in acquired.guards.iter().filter(|guard| guard.fresh) {
        if let Some(fd) = guard.inherited.filter(|fd| fds.contains(fd)) {
            let _ = release::release_descriptor(fd, None);
        }
    }
}

/// Reports the holder, and becomes the command of `--on-busy`, if there is one. A watcher, which has a `link`, leaves that to its caller.
fn handle_contention(args: &LockArgs, error: &Error, link: Option<&WatcherLink>) -> Result<i32, Error> {
    stream::report_log_failure();
    if args.skip_ok && matches!(error, Error::Lock(LockError::Busy { .. } | LockError::TimedOut { .. })) {
        return Ok(status_for_skip(args));
    }
    if !args.quiet {
        let reader = match (parse::is_for_script(args), args.nonblock) {
            (false, _) => HintReader::User,
            (true, false) => HintReader::Script,
            (true, true) => HintReader::ImpatientScript,
        };
        let report = if args.fcntl { report_fcntl_contention } else { report_contention };
        report(error, args.on_busy.as_deref(), reader);
    }
    if args.on_busy.is_none() {
        return Ok(args.conflict_exit_code.map_or_else(|| exit::status_for_error(error), i32::from));
    }
    let name = match error {
        Error::Lock(
            LockError::Busy { label, .. }
            | LockError::TimedOut { label, .. }
            | LockError::Deadlock { label, .. }
            | LockError::Replace { label, .. },
        ) => label.as_str(),
        _ => "",
    };
    match link {
        Some(link) => {
            max_time::report_contention(link, name);
            Ok(exit::BUSY)
        }
        None => become_busy_command(args, name),
    }
}

/// Returns the status of a call that has no lock and should end with success. A script must not take it for a lock.
fn status_for_skip(args: &LockArgs) -> i32 {
    if args.command.is_empty() { exit::COVERED } else { exit::DONE }
}

/// Returns the name of the key that messages call `label`, if there is one.
fn find_key_name(args: &LockArgs, label: &str) -> Option<String> {
    let store = if args.key.is_empty() { None } else { Store::from_env().ok() }?;
    let mut keys = list_targets(&store, &[], &args.key).ok()?.into_iter();
    keys.find(|target| target.label == label)?.name().map(str::to_owned)
}

/// Becomes the command of `--on-busy`. Returns only if that fails.
fn become_busy_command(args: &LockArgs, name: &str) -> Result<i32, Error> {
    let key_name = find_key_name(args, name);
    let name = key_name.as_deref().unwrap_or(name);
    let text = args.on_busy.as_deref().unwrap_or_default();
    Err(CommandError::new(text, inherit::exec_shell(text, name)).into())
}

/// Returns the status of `--try-first` for a call that would have to wait.
fn status_for_wait() -> i32 {
    if os::ignores_keyboard() { exit::WOULD_WAIT_IGNORING } else { exit::WOULD_WAIT }
}

/// Reports an option that cannot be used with a server.
fn reject_use_of_server(args: &LockArgs) -> bool {
    let mistake = if args.priority.is_some() {
        "a lock at a server has no priorities: for a lock on this machine only, add --server="
    } else if args.coalesce.is_some() {
        "--coalesce cannot be used with a server, which does not show the waiters of other machines"
    } else if args.replace {
        "a lease at a server cannot be taken from its holder: for a lock on this machine only, add --server="
    } else if !args.bind.is_empty() {
        "--no-inherit cannot be used with a server: a lease ends with the descriptor of the script"
    } else {
        return false;
    };
    report_misuse(args, mistake);
    true
}

/// Reports an option for leases in a call without a server, which would ignore it. With an empty `--server`, the caller
/// knows that there is no server.
fn reject_lease_options(args: &LockArgs) -> bool {
    let option = match (&args.ttl, &args.on_lost) {
        _ if args.server.is_some() => return false,
        (Some(_), _) => "--ttl",
        (_, Some(_)) => "--on-lost",
        _ => return false,
    };
    if !args.file.is_empty() {
        report_misuse(args, &format!("{option} needs a lease, and a lock of --file has none"));
        return true;
    }
    let mut hint = "name the server with --server URL".to_owned();
    if let (Some(ttl), false) = (args.ttl, args.command.is_empty()) {
        let _ = write!(hint, "; to limit the time of the command: --max-time {}", ttl.as_secs_f64());
    }
    let text = format!("lock: {option} needs a lease, and no server is named");
    stream::print_message(&text, Some(&hint));
    true
}

/// Reports a number or time that would be the name of a lock, and that the user probably meant as the value of the
/// option before it.
fn reject_time_as_name(args: &LockArgs) -> bool {
    if let Some(name) = find_separate_time(args) {
        report_time_as_name(&name);
        return true;
    }
    if let Some((flag, number)) = find_number_after_flag(args) {
        let text = format!("lock: {number} would be the name of a lock, because {flag} takes no value");
        let meant = if !parse::is_number(&number) {
            hint_to_wait(&number)
        } else if flag == "--nonblock" || flag.ends_with('n') {
            format!("to run at most {number} commands at the same time, use --slots={number}")
        } else {
            format!("to lock a descriptor of a script, use --fd={number}")
        };
        let hint = format!("{meant}; to lock {number}, write it after the other names");
        stream::print_message(&text, Some(&hint));
        return true;
    }
    false
}

/// Returns the name that the user probably meant as the time to wait, because flock(1) takes it as a separate word.
fn find_separate_time(args: &LockArgs) -> Option<String> {
    let (Some(None), [first, others @ ..]) = (args.wait, args.names.as_slice()) else { return None };
    if others.is_empty() && args.key.is_empty() {
        return None;
    }
    let after_wait = parse::find_number_after(&["--wait"], &['w']).map(|(_, time)| time);
    Some(first).filter(|name| !others.is_empty() && parse::is_time(name)).cloned().or(after_wait)
}

/// Returns an option without a value, and the number or time after it that the user probably meant as its value, as in
/// `-n 3 NAME`. If all locks are named by numbers or times, it is a name.
fn find_number_after_flag(args: &LockArgs) -> Option<(String, String)> {
    let [_, others @ ..] = args.names.as_slice() else { return None };
    if args.key.is_empty() && (others.is_empty() || args.names.iter().all(|name| parse::is_time(name))) {
        return None;
    }
    parse::find_number_after(&["--nonblock", "--shared", "--exclusive"], &['n', 's', 'x'])
}

/// Reports an error in the options that clap cannot find.
fn reject_mistake(args: &LockArgs, targets: &[Target]) -> bool {
    let is_empty = args.on_busy.as_deref().is_some_and(|text| text.trim().is_empty());
    let empty = || is_empty.then(|| "the command of --on-busy is empty".to_owned());
    let mistake = find_mistake(args, targets).or_else(empty);
    if let Some(mistake) = &mistake {
        report_misuse(args, mistake);
    }
    mistake.is_some()
}

/// Returns the error in a combination of options that clap cannot check.
fn find_mistake(args: &LockArgs, targets: &[Target]) -> Option<String> {
    if args.timeout.is_some() && args.wait.flatten().is_some() {
        return Some("give either --wait=TIME or --timeout, not both".to_owned());
    }
    if args.max_time == Some(Duration::ZERO) {
        return Some("--max-time must be more than 0".to_owned());
    }
    if args.fcntl && args.file.is_empty() {
        return Some("--fcntl needs --file: the lock of a name is one of flock(2)".to_owned());
    }
    if args.replace && args.nonblock {
        return Some("--replace cannot be used with --nonblock: the end of a holder takes time".to_owned());
    }
    let what = if args.file.is_empty() { "name" } else { "file" };
    if args.replace && targets.len() > 1 {
        return Some(format!(
            "--replace takes one {what}: the newest caller of one lock can be an earlier one of another"
        ));
    }
    if args.slots.is_some() && targets.len() > 1 {
        return Some(format!(
            "--slots takes one {what}: a holder of a slot that waits for another one can cause a deadlock"
        ));
    }
    if args.coalesce.is_some() && targets.len() > 1 {
        return Some(format!("--coalesce takes one {what}: of several locks, one may be covered and another one not"));
    }
    if args.priority.is_some() && args.slots.is_some() {
        return Some("--priority cannot be used with --slots: slots are granted in the order of the calls".to_owned());
    }
    if is_strict(args) && args.command.is_empty() {
        return Some("--coalesce=strict needs a command: its exit status shows that a run has succeeded".to_owned());
    }
    let fds = parse::choose_descriptors(args);
    if fds.is_empty() {
        return None;
    }
    if fds.len() != targets.len() {
        return Some(format!(
            "{} for {}: give one --fd for each {what}",
            format_count(fds.len(), "descriptor"),
            format_count(targets.len(), what)
        ));
    }
    // If two descriptors were open on one file, the second would wait for the first.
    let is_repeated = |(at, target): &(usize, &Target)| targets[..*at].iter().any(|other| other.is_same_file(target));
    let repeated = targets.iter().enumerate().find(is_repeated);
    repeated.map(|(_, target)| format!("the {what} {} is given twice", target.label))
}

fn format_count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
