use super::{name, owner, patience, script};
use crate::args::{Acquire, Lease, List, Release, Renew, Show};
use crate::cancel::{Cancel, Pending};
use crate::server::{self, Entry, Fault, Want, Watcher};
use crate::settings::{self, Settings};
use crate::{exit, report, sys};

pub(crate) fn run(command: &Lease) -> Result<i32, Fault> {
    match command {
        Lease::Acquire(args) => acquire(args),
        Lease::Renew(args) => renew(args),
        Lease::Release(args) => release(args),
        Lease::Show(args) => show(args),
        Lease::List(args) => list(args),
        Lease::Settle(args) => script::settle(args),
        Lease::Check(args) => script::check(args),
        Lease::Tokens(args) => script::tokens(args),
    }
}

fn acquire(args: &Acquire) -> Result<i32, Fault> {
    let name = name(&args.name)?;
    let settings = Settings::of(args.at.server.as_deref())?;
    if !args.quiet {
        report::exposed(&settings);
    }
    let ttl = settings::ttl(args.ttl)?;
    // Of a step of a job, the one that started us is what a person knows.
    let owner = owner(aba_lock::os::parent_id(), None, args.who.as_deref());
    let held = sys::HeldBack::begin();
    let cancel = Cancel::begin(&settings);
    let mut watcher = Progress::new(&settings, name, &cancel.pending, args.quiet);
    let want = Want { name, ttl, owner: &owner, patience: patience(&args.wait)?, kept: false };
    let mut server = server::connect(&settings)?;
    let lease = server.acquire(&want, &mut watcher)?;
    // Until it is said what it is called, a signal gives it back: nobody else could.
    let said = report::lease(&settings.label, &lease, args.json);
    cancel.end();
    held.end();
    let Err(error) = said else { return Ok(exit::DONE) };
    let given_back = server.release(&lease.id).is_ok();
    let left = if given_back { "it was given back" } else { "it ends by itself" };
    let reason = aba_lock::base::text::format_io_error(&error);
    Err(Fault::Failed {
        what: format!("could not write what the lease on {name} is called, so {left}: {reason}"),
        hint: None,
    })
}

fn renew(args: &Renew) -> Result<i32, Fault> {
    let mut server = server::connect(&Settings::of(args.at.server.as_deref())?)?;
    let mut lease = server.find(&args.lease)?;
    server.renew(&mut lease)?;
    Ok(exit::DONE)
}

fn release(args: &Release) -> Result<i32, Fault> {
    server::connect(&Settings::of(args.at.server.as_deref())?)?.release(&args.lease)?;
    Ok(exit::DONE)
}

fn show(args: &Show) -> Result<i32, Fault> {
    let name = name(&args.name)?;
    let settings = Settings::of(args.at.server.as_deref())?;
    let queue = server::connect(&settings)?.queue(Some(name))?;
    report::show(&settings.label, name, &queue, args.json);
    Ok(if queue.is_empty() { exit::NO } else { exit::DONE })
}

fn list(args: &List) -> Result<i32, Fault> {
    let settings = Settings::of(args.at.server.as_deref())?;
    let entries = server::connect(&settings)?.queue(None)?;
    report::list(&settings.label, &entries, args.json);
    Ok(exit::DONE)
}

/// Tells of a wait: a line at its beginning, and one if nobody answers.
pub(super) struct Progress<'a> {
    settings: &'a Settings,
    name: &'a str,
    pending: &'a Pending,
    quiet: bool,
    told: bool,
    complained: bool,
}

impl<'a> Progress<'a> {
    pub(super) fn new(settings: &'a Settings, name: &'a str, pending: &'a Pending, quiet: bool) -> Self {
        Self { settings, name, pending, quiet, told: false, complained: false }
    }
}

impl Watcher for Progress<'_> {
    fn begun(&mut self, id: &str) {
        self.pending.set(Some(id));
        self.pending.heed_signals();
    }

    fn waits(&mut self, holder: &Entry) {
        if !self.quiet && !self.told {
            report::waiting(&self.settings.label, holder);
        }
        self.told = true;
        self.pending.heed_signals();
    }

    fn unanswered(&mut self, what: &str) {
        if !self.quiet && !self.complained {
            report::unanswered(self.name, what);
        }
        self.complained = true;
        self.pending.heed_signals();
    }
}
