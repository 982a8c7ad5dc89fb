use crate::args::lock::LockArgs;
use crate::exit;
use crate::output::contention::{Reader, report_acquired, report_contention};
use crate::output::progress::LockProgress;
use crate::output::stream;
use crate::parse;
use aba_lock::base::target::{Kind, Target, Wait};
use aba_lock::error::Error;
use aba_lock::lock::keeper::Keeper;
use aba_lock::lock::request::{Acquired, Request};
use aba_lock::lock::{acquire, events, inherit, pid_file};
use aba_lock::os::{self, Mode};
use aba_lock::store::{self, Store};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

pub(crate) fn run(args: &LockArgs) -> Result<i32, Error> {
    let store = if args.file.is_empty() { Some(Store::from_env()?) } else { None };
    let targets: Vec<Target> = match &store {
        Some(store) => args.names.iter().map(|name| super::named(store, name)).collect::<Result<_, _>>()?,
        None => args.file.iter().map(|path| Target::file(path)).collect(),
    };
    if let Some(mistake) = mistake(args, &targets) {
        stream::print_misuse("lock", &mistake);
        return Ok(exit::USAGE);
    }
    if args.on_busy.as_deref().is_some_and(|text| text.trim().is_empty()) {
        stream::print_misuse("lock", "the command of --on-busy is empty");
        return Ok(exit::USAGE);
    }
    let keeper =
        if args.file.is_empty() && super::is_remote(args.server.as_deref()) { Some(Keeper::find()?) } else { None };
    if keeper.is_some() && args.shared {
        stream::print_misuse("lock", "a lease cannot be shared; for a lock of this machine alone, say `--server=`");
        return Ok(exit::USAGE);
    }
    let wait = wait(args)?;
    let try_first = args.try_first && wait.blocks();
    if try_first && keeper.is_some() {
        // The keeper may have to wait for the lease, even if the lock is free here.
        return Ok(would_wait());
    }
    if args.heed_keyboard {
        os::heed_keyboard();
    }
    // Others read it in another directory. (It is left out of the record where that of this process is unknown.)
    let pid_file = args.pid_file.as_ref().and_then(|path| std::path::absolute(path).ok());
    let request = Request {
        mode: if args.shared { Mode::Shared } else { Mode::Exclusive },
        wait: if try_first { Wait::No } else { wait },
        holder: if args.fd.is_empty() { std::process::id() } else { os::parent_id() },
        command: (!args.command.is_empty())
            .then(|| shell_words::join(args.command.iter().map(|word| word.to_string_lossy()))),
        who: args.who.as_deref(),
        pid_file: pid_file.as_deref(),
        ends: !args.fd.is_empty() && keeper.is_none(),
        waited: args.waited.unwrap_or_default(),
        logs_contention: !try_first && args.waited.is_none(),
    };
    let mut progress = LockProgress::resume(args.quiet, request.waited);
    let done = if args.fd.is_empty() {
        acquire::acquire(targets, store.as_ref(), &request, &mut progress)
    } else {
        acquire::acquire_descriptors(
            targets.into_iter().zip(args.fd.iter().copied()).collect(),
            &request,
            &mut progress,
        )
    };
    match done {
        Ok(acquired) => {
            if let Some(path) = args.pid_file.as_deref().filter(|path| is_lock_file(path, &acquired)) {
                release(&args.fd, &acquired);
                stream::print_misuse("lock", &format!("the pid file {} would replace the lock file", path.display()));
                return Ok(exit::USAGE);
            }
            report_acquired(&acquired, &progress, args.quiet, args.verbose);
            match keeper {
                None => hold(args, &acquired, &request),
                Some(keeper) => hold_elsewhere(args, &keeper, &acquired, &request, &progress),
            }
        }
        Err(Error::Busy { .. }) if try_first => Ok(would_wait()),
        Err(error @ (Error::Busy { .. } | Error::TimedOut { .. } | Error::Deadlock { .. })) => contended(args, &error),
        Err(Error::Replaced { .. }) if args.reopen => Ok(exit::REPLACED),
        Err(error) => Err(error),
    }
}

/// Leaves the lock to the script, or runs the command under it.
fn hold(args: &LockArgs, acquired: &Acquired, request: &Request) -> Result<i32, Error> {
    if args.command.is_empty() {
        if let Some(path) = &args.pid_file {
            write_pid(path, request.holder).inspect_err(|_| release(&args.fd, acquired))?;
        }
        return Ok(exit::DONE);
    }
    let since = Instant::now();
    let keeps_back = args.no_inherit || inherit::closes_descriptors(&args.command[0]);
    // To remove the pid file at the end, we must see the end.
    let done = if keeps_back || args.pid_file.is_some() {
        run_under(args, acquired, keeps_back)
    } else {
        become_under(args, acquired)
    };
    // Become another, we would not come here: the lock is ours, and we are about to end.
    events::released(acquired, request, since.elapsed());
    done
}

/// Has the keeper lock it for the other machines, too, and then leave it to the script or run the command.
fn hold_elsewhere(
    args: &LockArgs,
    keeper: &Keeper,
    acquired: &Acquired,
    request: &Request,
    progress: &LockProgress,
) -> Result<i32, Error> {
    let mut words: Vec<OsString> = vec!["hold".into()];
    let mut fds = store::inherited_descriptors();
    // The tokens are told in the order in which the locks were named.
    let mut guards: Vec<_> = acquired.guards.iter().collect();
    guards.sort_by_key(|guard| args.names.iter().position(|name| *name == guard.target.label));
    for guard in guards {
        let fd = inherit::reachable(guard)?;
        if !fds.contains(&fd) {
            fds.push(fd);
        }
        let age = if guard.fresh { "fresh" } else { "held" };
        words.push(format!("--lock={}/{fd}/{}/{age}", guard.target.label, acquired.token).into());
    }
    match request.wait {
        // The keeper does not wait either, and must know whether the user of a script can change that.
        Wait::No if !args.nonblock => {}
        Wait::No => words.push("--nonblock".into()),
        Wait::Forever => words.push("--wait".into()),
        Wait::For(limit) => {
            let left = limit.saturating_sub(progress.elapsed()).as_secs_f64();
            words.push(format!("--timeout={left:.3}").into());
        }
    }
    if !args.fd.is_empty() {
        words.push(format!("--script={}", request.holder).into());
    }
    let options: [(&str, Option<OsString>); 7] = [
        ("--server=", args.server.as_ref().map(Into::into)),
        ("--ttl=", args.ttl.map(|ttl| ttl.as_secs_f64().to_string().into())),
        ("--on-lost=", args.on_lost.as_ref().map(Into::into)),
        ("--who=", args.who.as_ref().map(Into::into)),
        ("--conflict-exit-code=", args.conflict_exit_code.map(|code| code.to_string().into())),
        ("--on-busy=", args.on_busy.as_ref().map(Into::into)),
        ("--pid-file=", args.pid_file.as_ref().map(Into::into)),
    ];
    for (option, value) in options {
        if let Some(value) = value {
            let mut word = OsString::from(option);
            word.push(value);
            words.push(word);
        }
    }
    let no_inherit =
        args.command.first().is_some_and(|program| args.no_inherit || inherit::closes_descriptors(program));
    for (option, said) in [("--quiet", args.quiet), ("--verbose", args.verbose), ("--no-inherit", no_inherit)] {
        if said {
            words.push(option.into());
        }
    }
    let mut variables = Vec::new();
    if !args.command.is_empty() {
        words.push("--".into());
        words.extend_from_slice(&args.command);
        variables.push((store::FDS, inherit::listed(&fds)));
    }
    let error = keeper.become_it(words, &variables);
    release(&args.fd, acquired);
    Err(error)
}

/// The script gets a failure, so it must not have the lock either.
fn release(fds: &[i32], acquired: &Acquired) {
    for guard in acquired.guards.iter().filter(|guard| guard.fresh) {
        if let Some(fd) = guard.inherited.filter(|fd| fds.contains(fd)) {
            let _ = acquire::release(fd, None);
        }
    }
}

fn become_under(args: &LockArgs, acquired: &Acquired) -> Result<i32, Error> {
    let error = command(args, inherit::hand_down(&acquired.guards)?, acquired.token)?.exec();
    Err(failed(args, error))
}

fn run_under(args: &LockArgs, acquired: &Acquired, keeps_back: bool) -> Result<i32, Error> {
    let guards = &acquired.guards;
    let fds = if keeps_back { inherit::keep_back(guards) } else { inherit::hand_down(guards)? };
    let mut child = command(args, fds, acquired.token)?.fork().map_err(|error| failed(args, error))?;
    if let Some(path) = &args.pid_file {
        write_pid(path, child.pid())?;
    }
    let status = child.run();
    if let Some(path) = &args.pid_file {
        pid_file::remove(path, child.pid());
    }
    inherit::status_after(&child, status.map_err(|error| failed(args, error))?)
}

fn command(args: &LockArgs, fds: String, token: u64) -> Result<os::Command, Error> {
    let variables = [(store::FDS, fds), (store::TOKEN, token.to_string())];
    os::Command::new(&args.command, &variables).map_err(|error| failed(args, error))
}

fn failed(args: &LockArgs, source: io::Error) -> Error {
    Error::cannot_run(&args.command[0].to_string_lossy(), source)
}

/// Another has the lock: say who, and run the other command if there is one.
fn contended(args: &LockArgs, error: &Error) -> Result<i32, Error> {
    stream::report_log_failure();
    if !args.quiet {
        let reader = match (args.fd.is_empty(), args.nonblock) {
            (true, _) => Reader::User,
            (false, false) => Reader::Script,
            (false, true) => Reader::ImpatientScript,
        };
        report_contention(error, args.on_busy.as_deref(), reader);
    }
    let Some(text) = &args.on_busy else {
        return Ok(args.conflict_exit_code.map_or_else(|| exit::of(error), i32::from));
    };
    let name = match error {
        Error::Busy { label, .. } | Error::TimedOut { label, .. } | Error::Deadlock { label, .. } => label.as_str(),
        _ => "",
    };
    Err(Error::cannot_run(text, inherit::become_shell(text, name)))
}

fn would_wait() -> i32 {
    if os::ignores_keyboard() { exit::WOULD_WAIT_IGNORING } else { exit::WOULD_WAIT }
}

fn wait(args: &LockArgs) -> Result<Wait, Error> {
    if args.nonblock {
        return Ok(Wait::No);
    }
    if let Some(limit) = args.timeout.or(args.wait.flatten()) {
        return Ok(Wait::For(limit));
    }
    if args.wait.is_some() {
        return Ok(Wait::Forever);
    }
    Ok(store::default_timeout()?.map_or(Wait::No, Wait::For))
}

/// Returns what is wrong with the options as a whole.
fn mistake(args: &LockArgs, targets: &[Target]) -> Option<String> {
    if let (Some(None), [first, _, ..]) = (args.wait, args.names.as_slice()) {
        // flock(1) takes the seconds as a word of their own.
        let number = |word: &String| word.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(seconds) = [Some(first.clone()), parse::word_after_wait()].into_iter().flatten().find(number) {
            return Some(format!(
                "`{seconds}` would be a lock, not the time to wait: for at most {seconds} seconds, use --wait={seconds}"
            ));
        }
    }
    if args.timeout.is_some() && args.wait.flatten().is_some() {
        return Some("both --wait=SECONDS and --timeout say how long to wait".to_owned());
    }
    if args.fd.is_empty() {
        return None;
    }
    let what = if args.file.is_empty() { "name" } else { "file" };
    if args.fd.len() != targets.len() {
        return Some(format!("{} for {}", count(args.fd.len(), "descriptor"), count(targets.len(), what)));
    }
    // Two descriptors of one file: the second would wait for the first.
    let is_repeated = |(at, target): (usize, &Target)| targets[..at].iter().any(|other| is_same_file(other, target));
    targets.iter().enumerate().any(is_repeated).then(|| format!("a {what} is given twice"))
}

fn is_same_file(one: &Target, other: &Target) -> bool {
    let id = |target: &Target| fs::metadata(&target.path).ok().map(|data| (data.dev(), data.ino()));
    one.path == other.path || (one.kind == Kind::Users && id(one).is_some_and(|file| id(other) == Some(file)))
}

/// Returns true if one of the locked files is at `path`. A pid file there would be a new file without a lock.
fn is_lock_file(path: &Path, acquired: &Acquired) -> bool {
    let id = |data: fs::Metadata| (data.dev(), data.ino());
    let there = fs::metadata(path).map(id).ok();
    there.is_some() && acquired.guards.iter().any(|guard| guard.file().metadata().map(id).ok() == there)
}

fn write_pid(path: &Path, pid: u32) -> Result<(), Error> {
    pid_file::write(path, pid).map_err(|source| Error::Write { path: path.to_owned(), source })
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
