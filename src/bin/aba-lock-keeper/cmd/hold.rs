//! Called by the helper when the local locks are held: takes the leases, leaves a keeper behind for each, and leaves them to the
//! script, or runs the command.
//!
//! | a signal comes | what is left |
//! |---|---|
//! | while we stand in the queue of a server, or wait for an earlier lease to be given back | nothing: the leases that were taken before it in this call, the place in the queue, and the local locks that are new are given back, and then we die of it |
//! | between that, while a keeper is started | it is held back until the next time that we stand in a queue, or until we are done: then it is looked for once more |
//! | after that | the script has it all, and we say so |

use super::lease::Progress;
use super::script::{noted, recorded, until_given_back};
use super::{name, owner, patience};
use crate::args::Hold;
use crate::cancel::Cancel;
use crate::keep::{self, Charge};
use crate::server::{self, Fault, Want};
use crate::settings::{self, Settings};
use crate::tie::{self, Tie};
use crate::{exit, report, sys};
use aba_lock::base::environment::{FDS, TOKEN, inherited_descriptors};
use aba_lock::os::proc::process;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A local lock, as the helper handed it over.
#[derive(Debug)]
struct Local {
    name: String,
    fd: i32,
    token: u64,
    /// Taken now, and not by a script above.
    fresh: bool,
    file: File,
    /// It has a lease that was taken now.
    bound: AtomicBool,
}

impl Local {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split('/');
        let (name, fd) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let token = words.next()?.parse().ok()?;
        let fresh = words.next()? == "fresh";
        let file = aba_lock::os::second_descriptor(fd)?;
        // What was taken earlier has a token of its own.
        let token = recorded(&file).map(|record| record.token).filter(|own| !fresh && *own != 0).unwrap_or(token);
        Some(Self { name, fd, token, fresh, file, bound: AtomicBool::new(false) })
    }

    fn tie(&self) -> Tie {
        Tie::of(self.token)
    }

    /// A lease may go with it: it was taken now, or by this very script earlier, and not by one above it that ends later.
    fn may_be_bound(&self, script: Option<u32>) -> Result<(), Fault> {
        let record = recorded(&self.file);
        let taker = record.map(|record| (record.pid, record.tick));
        if self.fresh || taker.is_some_and(|(pid, tick)| Some(pid) == script && process::is_alive(pid, tick)) {
            return Ok(());
        }
        let by = taker.map(|(pid, _)| format!(", by pid {pid}")).unwrap_or_default();
        Err(Fault::Failed {
            what: format!("{} is held for this machine alone{by}, and a lease would last as long as that", self.name),
            hint: Some("have the script that holds it take the lease, or say `--server=` here".to_owned()),
        })
    }

    /// The token of the lease that goes with it already, if that is of this server: a lease is one of its server alone.
    fn has_lease_at(&self, settings: &Settings) -> Result<u64, Fault> {
        let Some((server, token)) = noted(&self.file) else {
            return Err(Fault::Failed {
                what: format!("{} has a lease, and its lock file does not say which", self.name),
                hint: Some("somebody has written to that file: release the lock, and acquire it again".to_owned()),
            });
        };
        if settings.is_at(&server) {
            return Ok(token);
        }
        Err(Fault::Failed {
            what: format!("{} has a lease at {server} already, and not at {}", self.name, settings.label),
            hint: Some("ask for it at that server, or under another name here".to_owned()),
        })
    }

    /// Binds the lease that is to be had to the script.
    fn bind(&self) -> Result<(), Fault> {
        self.bound.store(true, Ordering::SeqCst);
        self.tie().bind(&self.file).map_err(|error| Fault::Failed {
            what: format!(
                "could not bind the lease on {} to descriptor {}: {}",
                self.name,
                self.fd,
                aba_lock::base::text::format_io_error(&error)
            ),
            hint: Some("set ABA_LOCK_DIR to a directory of yours on a local disk".to_owned()),
        })
    }
}

/// The script is not to have what was taken now: neither the leases nor the locks.
fn give_up(locals: &[Local], meanwhile: &mut dyn FnMut()) {
    let is_bound = |local: &&Local| local.bound.load(Ordering::SeqCst);
    // All at first, as each of the keepers takes its time.
    for local in locals.iter().filter(is_bound) {
        let _ = tie::let_go(&local.file);
    }
    meanwhile();
    for local in locals.iter().filter(is_bound) {
        until_given_back(&local.file, server::Patience::Forever);
    }
    for local in locals.iter().filter(|local| local.fresh) {
        let _ = aba_lock::lock::acquire::release(local.fd, None);
    }
}

pub(crate) fn run(args: &Hold) -> Result<i32, Fault> {
    let locals: Option<Vec<Local>> = args.locks.iter().map(|text| Local::parse(text)).collect();
    let Some(locals) = locals.map(Arc::<[Local]>::from) else {
        return Err(Fault::Misused {
            what: "a lock that is held here cannot be understood".to_owned(),
            hint: "this command is for `aba-lock lock` alone".to_owned(),
        });
    };
    let held = sys::HeldBack::begin();
    if args.script.is_some_and(|script| !sys::end_with_parent(script)) {
        give_up(&locals, &mut || {});
        return Ok(exit::FAILED);
    }
    let done = acquire(args, &locals);
    if let Some(signal) = held.came() {
        give_up(&locals, &mut || {});
        sys::die_of(signal);
    }
    match done {
        Ok(tokens) => {
            // A command is to get them; of a script they would only end us, and leave it the locks.
            if args.script.is_none() {
                held.end();
            }
            go_on(args, &locals, &tokens.join(" "))
        }
        Err(fault) => {
            give_up(&locals, &mut || {});
            held.end();
            match fault {
                fault @ (Fault::Busy { .. } | Fault::TimedOut { .. }) => busy(args, &fault),
                fault => Err(fault),
            }
        }
    }
}

/// Takes the leases, in the order of their names, as all do. Their tokens, in the order in which they were named.
fn acquire(args: &Hold, locals: &Arc<[Local]>) -> Result<Vec<String>, Fault> {
    let begin = Instant::now();
    let settings = Settings::of(args.at.server.as_deref())?;
    if !args.quiet {
        report::exposed(&settings);
    }
    let ttl = settings::ttl(args.ttl)?;
    let on_lost = settings::on_lost(args.on_lost.as_deref())?;
    let holder = args.script.unwrap_or_else(std::process::id);
    let command =
        (!args.command.is_empty()).then(|| shell_words::join(args.command.iter().map(|word| word.to_string_lossy())));
    let owner = owner(holder, command, args.who.as_deref());
    let patience = patience(&args.wait)?;
    let mut server = server::connect(&settings)?;
    let mut tokens = vec![0; locals.len()];
    let mut order: Vec<(usize, &Local)> = locals.iter().enumerate().collect();
    order.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
    for (at, local) in order {
        name(&local.name)?;
        if !local.fresh && local.tie().is_kept(&local.file).unwrap_or(false) {
            tokens[at] = local.has_lease_at(&settings)?;
            continue;
        }
        local.may_be_bound(args.script)?;
        let all = Arc::clone(locals);
        let cancel = Cancel::with(&settings, move |give_back| give_up(&all, give_back));
        // Of the one before us on this machine, who may have ended a moment ago.
        until_given_back(&local.file, patience);
        let mut watcher = Progress::new(&settings, &local.name, &cancel.pending, args.quiet);
        let want = Want { name: &local.name, ttl, owner: &owner, patience, kept: true };
        let lease = server.acquire(&want, &mut watcher);
        cancel.end();
        let lease = lease?;
        let kept = local.bind().and_then(|()| {
            let (settings, lease, on_lost) = (settings.clone(), lease.clone(), on_lost.clone());
            keep::start(&Charge { settings, lease, tie: local.tie(), on_lost, holder }, local.fd)
        });
        if let Err(fault) = kept {
            let _ = server.release(&lease.id);
            return Err(fault);
        }
        super::script::note(&local.file, &local.name, &settings.label, &lease)?;
        tokens[at] = lease.token;
        if args.verbose {
            report::acquired(&settings.label, &lease, begin.elapsed());
        }
    }
    Ok(tokens.iter().map(u64::to_string).collect())
}

/// The leases are ours: leaves them to the script, or runs the command.
fn go_on(args: &Hold, locals: &[Local], tokens: &str) -> Result<i32, Fault> {
    if args.command.is_empty() {
        if let (Some(path), Some(script)) = (&args.pid_file, args.script) {
            write_pid(path, script).inspect_err(|_| give_up(locals, &mut || {}))?;
        }
        return Ok(exit::DONE);
    }
    let mut variables = vec![(TOKEN, tokens.to_owned())];
    if args.no_inherit {
        for local in locals {
            aba_lock::os::keep_back(local.fd);
        }
        let kept = |fd: &i32| locals.iter().any(|local| local.fd == *fd);
        let others = inherited_descriptors().into_iter().filter(|fd| !kept(fd));
        variables.push((FDS, others.map(|fd| fd.to_string()).collect::<Vec<_>>().join(" ")));
    }
    let failed = |error: io::Error| not_run(&args.command[0].to_string_lossy(), &error);
    let command = aba_lock::os::Command::new(&args.command, &variables).map_err(failed)?;
    let pid_file = args.pid_file.as_deref();
    let mut signal = None;
    // To remove the pid file at the end, we must see the end.
    let done = if args.no_inherit || pid_file.is_some() {
        let mut child = command.fork().map_err(failed)?;
        pid_file.map_or(Ok(()), |path| write_pid(path, child.pid()))?;
        let done = child.run();
        if let Some(path) = pid_file {
            aba_lock::lock::pid_file::remove(path, child.pid());
        }
        signal = done.as_ref().ok().and_then(|status| child.died_with_us(*status));
        done
    } else {
        Err(command.exec())
    };
    if args.no_inherit {
        give_up(locals, &mut || {});
    }
    match signal {
        Some(signal) => sys::die_of(signal),
        None => done.map_err(failed),
    }
}

fn not_run(command: &str, error: &io::Error) -> Fault {
    let found = error.kind() != io::ErrorKind::NotFound;
    Fault::NotRun { command: command.to_owned(), found, reason: aba_lock::base::text::format_io_error(error) }
}

fn write_pid(path: &Path, pid: u32) -> Result<(), Fault> {
    aba_lock::lock::pid_file::write(path, pid).map_err(|error| Fault::Failed {
        what: format!("could not write {}: {}", path.display(), aba_lock::base::text::format_io_error(&error)),
        hint: None,
    })
}

/// How the caller can wait, as a hint says it. The user of a script cannot give options to the helper.
fn way_to_wait(args: &Hold) -> Option<&'static str> {
    match (args.script, args.wait.nonblock) {
        (None, _) => Some("`--wait`"),
        (Some(_), false) => Some("ABA_LOCK_TIMEOUT=60 in the environment"),
        // The script never waits, whatever its environment says.
        (Some(_), true) => None,
    }
}

fn busy(args: &Hold, fault: &Fault) -> Result<i32, Fault> {
    let Some(instead) = args.on_busy.as_deref() else {
        if !args.quiet {
            report::failure(fault, way_to_wait(args));
        }
        return Ok(args.conflict_exit_code.map_or_else(|| exit::of(fault), i32::from));
    };
    if !args.quiet {
        report::busy_instead(fault, instead);
    }
    let name = match fault {
        Fault::Busy { name, .. } | Fault::TimedOut { name, .. } => name.as_str(),
        _ => "",
    };
    Err(not_run(instead, &aba_lock::lock::inherit::become_shell(instead, name)))
}
