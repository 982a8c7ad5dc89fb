use super::lease::Progress;
use super::{name, owner, patience};
use crate::args::Hold;
use crate::cancel::Cancel;
use crate::keep::{self, Charge};
use crate::server::{self, Fault, Lease, Want};
use crate::settings::{self, Settings};
use crate::tie::{self, Tie};
use crate::{exit, report, sys};
use aba_lock::record::{self, Content};
use aba_lock::store;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

/// The variable that tells a command on which descriptors there are locks with a lease.
const LEASES: &str = "ABA_LOCK_LEASES";

/// A local lock, as the helper handed it over.
struct Local<'a> {
    name: &'a str,
    fd: i32,
    token: u64,
    /// Taken now, and not by a script above.
    fresh: bool,
    file: File,
}

impl<'a> Local<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split('/');
        let (name, fd) = (words.next()?, words.next()?.parse().ok()?);
        let token = words.next()?.parse().ok()?;
        let fresh = words.next()? == "fresh";
        let file = aba_lock::sys::second_descriptor(fd)?;
        // What was taken earlier has a token of its own.
        let token = Some(record::read(&file).token()).filter(|own| !fresh && *own != 0).unwrap_or(token);
        Some(Self { name, fd, token, fresh, file })
    }
}

pub(crate) fn run(args: &Hold) -> Result<i32, Fault> {
    let begin = Instant::now();
    let settings = Settings::of(args.at.server.as_deref())?;
    let ttl = settings::ttl(args.ttl)?;
    let on_lost = settings::on_lost(args.on_lost.as_deref())?;
    let on_busy = args.on_busy.as_deref().map(shell_words::split).and_then(Result::ok);
    let locals: Option<Vec<Local>> = args.locks.iter().map(|text| Local::parse(text)).collect();
    let Some(locals) = locals else {
        return Err(Fault::Misused {
            what: "a lock that is held here cannot be understood".to_owned(),
            hint: "this command is for `aba-lock lock` alone".to_owned(),
        });
    };
    let holder = args.script.unwrap_or_else(std::process::id);
    let command =
        (!args.command.is_empty()).then(|| shell_words::join(args.command.iter().map(|word| word.to_string_lossy())));
    let owner = owner(holder, command, args.who.as_deref());
    let held = sys::HeldBack::begin();
    if args.script.is_some_and(|script| !sys::end_with_parent(script)) {
        return Ok(exit::FAILED);
    }
    let patience = patience(&args.wait)?;
    let mut server = server::connect(&settings)?;
    let mut tokens = Vec::new();
    let mut all = || -> Result<(), Fault> {
        for local in &locals {
            name(local.name)?;
            if !local.fresh && tie::has_keeper(&local.file).unwrap_or(false) {
                tokens.extend(recorded_token(&local.file));
                continue;
            }
            // Of the one before us on this machine, who may have ended a moment ago.
            if local.fresh {
                super::script::until_given_back(&local.file);
            }
            let cancel = Cancel::begin(&settings);
            let mut watcher = Progress::new(&settings, local.name, &cancel.pending, args.quiet);
            let want = Want { name: local.name, ttl, owner: &owner, patience, kept: true };
            let lease = server.acquire(&want, &mut watcher);
            cancel.end();
            let lease = lease?;
            let tie = Tie::of(local.token);
            let bound = tie.bind(&local.file).map_err(|error| cannot_bind(local, &error));
            let kept = bound.and_then(|()| {
                let on_lost = on_lost.clone();
                let charge = Charge { settings: settings.clone(), lease: lease.clone(), tie, on_lost, holder };
                keep::start(&charge, local.fd)
            });
            if let Err(fault) = kept {
                let _ = server.release(&lease.id);
                return Err(fault);
            }
            note(&local.file, &settings.label, &lease);
            tokens.push(lease.token.to_string());
            if args.verbose {
                report::acquired(&settings.label, &lease, begin.elapsed());
            }
        }
        Ok(())
    };
    let done = all();
    drop(server);
    held.end();
    match done {
        Ok(()) => go_on(args, &locals, &tokens.join(" ")),
        Err(fault) => {
            give_up(&locals);
            match (fault, on_busy) {
                (fault @ (Fault::Busy { .. } | Fault::TimedOut { .. }), on_busy) => busy(args, &fault, on_busy),
                (fault, _) => Err(fault),
            }
        }
    }
}

fn cannot_bind(local: &Local, error: &io::Error) -> Fault {
    let reason = aba_lock::error::reason(error);
    Fault::Failed {
        what: format!("could not bind the lease on {} to descriptor {}: {reason}", local.name, local.fd),
        hint: Some("set ABA_LOCK_DIR to a directory of yours on a local disk".to_owned()),
    }
}

/// The leases are ours: leaves them to the script, or runs the command.
fn go_on(args: &Hold, locals: &[Local], tokens: &str) -> Result<i32, Fault> {
    if args.command.is_empty() {
        if let (Some(path), Some(script)) = (&args.pid_file, args.script) {
            write_pid(path, script).inspect_err(|_| give_up(locals))?;
        }
        return Ok(exit::DONE);
    }
    let mut variables = vec![(store::TOKEN, tokens.to_owned())];
    if args.no_inherit {
        for local in locals {
            aba_lock::sys::keep_back(local.fd);
        }
        let kept = |fd: &i32| locals.iter().any(|local| local.fd == *fd);
        let others = store::inherited_descriptors().into_iter().filter(|fd| !kept(fd));
        variables.push((store::FDS, others.map(|fd| fd.to_string()).collect::<Vec<_>>().join(" ")));
    }
    if !args.no_inherit {
        let fds: Vec<String> = locals.iter().map(|local| local.fd.to_string()).collect();
        variables.push((LEASES, fds.join(" ")));
    }
    let failed = |error: io::Error| not_run(&args.command[0].to_string_lossy(), &error);
    let command = aba_lock::sys::Command::new(&args.command, &variables).map_err(failed)?;
    let pid_file = args.pid_file.as_deref();
    let done = if args.no_inherit {
        let mut child = command.fork().map_err(failed)?;
        pid_file.map_or(Ok(()), |path| write_pid(path, child.pid()))?;
        child.run()
    } else {
        pid_file.map_or(Ok(()), |path| write_pid(path, std::process::id()))?;
        Err(command.exec())
    };
    if let Some(path) = pid_file {
        let _ = fs::remove_file(path);
    }
    if args.no_inherit {
        give_up(locals);
    }
    done.map_err(failed)
}

fn not_run(command: &str, error: &io::Error) -> Fault {
    let found = error.kind() != io::ErrorKind::NotFound;
    Fault::NotRun { command: command.to_owned(), found, reason: aba_lock::error::reason(error) }
}

fn write_pid(path: &Path, pid: u32) -> Result<(), Fault> {
    aba_lock::atomic::replace(path, format!("{pid}\n").as_bytes()).map_err(|error| Fault::Failed {
        what: format!("could not write {}: {}", path.display(), aba_lock::error::reason(&error)),
        hint: None,
    })
}

/// The script gets a failure, or the command has ended: neither is to have the leases, nor the locks.
fn give_up(locals: &[Local]) {
    for local in locals.iter().filter(|local| local.fresh) {
        let _ = super::script::let_go(&local.file);
        let _ = aba_lock::lock::release(local.fd, None);
    }
}

fn busy(args: &Hold, fault: &Fault, on_busy: Option<Vec<String>>) -> Result<i32, Fault> {
    let words: Vec<OsString> = on_busy.unwrap_or_default().into_iter().map(OsString::from).collect();
    let Some(instead) = args.on_busy.as_deref().filter(|_| !words.is_empty()) else {
        if !args.quiet {
            report::failure(fault);
        }
        return Ok(args.conflict_exit_code.map_or_else(|| exit::of(fault), i32::from));
    };
    if !args.quiet {
        report::busy_instead(fault, instead);
    }
    let error = match aba_lock::sys::Command::new(&words, &[]) {
        Ok(command) => command.exec(),
        Err(error) => error,
    };
    Err(not_run(instead, &error))
}

/// Writes the lease into the holder record, for those who look, and for the script to have its token. A courtesy too.
fn note(file: &File, server: &str, lease: &Lease) {
    if let content @ Content::Record(_) = record::read(file)
        && let Content::Record(record) = &content
    {
        let mut record = record.clone();
        record.lease = Some(format!("{server} {} {}", lease.id, lease.token));
        let path =
            fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))).unwrap_or_default();
        let _ = record::write(file, &path, &content, &record);
    }
}

fn recorded_token(file: &File) -> Option<String> {
    let Content::Record(record) = record::read(file) else { return None };
    record.lease?.rsplit_once(' ').map(|(_, token)| token.to_owned())
}
