//! Calls of `aba-lock-keeper`, which holds the leases of locks at a server.

use crate::args::lock::LockArgs;
use crate::exit;
use aba_lock::base::environment::{self, FDS, SYSTEM_ROOT, inherited_descriptors};
use aba_lock::base::target::Wait;
use aba_lock::error::Error;
use aba_lock::lock::inherit;
use aba_lock::lock::keeper::{Keeper, KeeperAnswer};
use aba_lock::lock::request::{Acquired, Guard, Request};
use std::ffi::OsString;
use std::time::Duration;

/// Returns true if a lease server is named: by the option, whose empty value means no server, or without the option by
/// the environment.
pub(super) fn has_server(option: Option<&str>) -> bool {
    option.map_or_else(environment::has_server, |server| !server.is_empty())
}

/// Runs `aba-lock-keeper lease WHAT`, which asks the server, and returns its output and exit status.
pub(super) fn ask(what: &str, name: Option<&str>, server: Option<&str>, json: bool) -> Result<KeeperAnswer, Error> {
    let server = server.map(|server| format!("--server={server}"));
    let mut words = vec!["lease", what];
    words.extend(server.as_deref());
    words.extend(json.then_some("--json"));
    words.extend(name);
    Ok(Keeper::find()?.ask(&words)?)
}

/// Becomes the keeper, which runs `command` for the lease of the lock that the calling script holds on this descriptor.
pub(super) fn become_keeper(command: &[&str], fd: i32, name: Option<&str>) -> Result<i32, Error> {
    let mut words: Vec<OsString> = command.iter().map(Into::into).collect();
    words.push(format!("--fd={fd}").into());
    words.extend(name.map(Into::into));
    // The keeper has no --system. The process ends with this call, so no other command gets the variable.
    let root = environment::is_system_requested().then(|| ("ABA_LOCK_DIR", SYSTEM_ROOT.to_owned()));
    Err(Keeper::find()?.exec(words, root.as_slice()).into())
}

/// Becomes the keeper, which acquires the leases of the locks, and then leaves them to the script or runs the command.
/// Returns the error if that fails. `elapsed` is the time for which the call has waited for the locks.
pub(super) fn hold_with_lease(
    args: &LockArgs,
    keeper: &Keeper,
    acquired: &Acquired,
    request: &Request,
    elapsed: Duration,
) -> Error {
    let mut words: Vec<OsString> = vec!["hold".into()];
    let mut fds = inherited_descriptors();
    // The keeper prints the tokens in the order of its arguments, which must be that of the names on the command line.
    let mut guards: Vec<_> = acquired.guards.iter().collect();
    let name_of = |guard: &Guard| guard.target.name().unwrap_or_default().to_owned();
    guards.sort_by_key(|guard| args.names.iter().position(|name| *name == name_of(guard)).unwrap_or(usize::MAX));
    for guard in guards {
        let fd = match inherit::hand_down_lock(guard) {
            Ok(fd) => fd,
            Err(error) => return error.into(),
        };
        if !fds.contains(&fd) {
            fds.push(fd);
        }
        let age = if guard.fresh { "fresh" } else { "held" };
        words.push(format!("--lock={}/{fd}/{}/{age}", name_of(guard), acquired.token).into());
    }
    match request.wait {
        // Only a `--nonblock` of the caller is passed on: the hint of the keeper then does not name `ABA_LOCK_TIMEOUT`,
        // which that option overrides.
        Wait::No if !args.nonblock => {}
        Wait::No => words.push("--nonblock".into()),
        Wait::Forever => words.push("--wait".into()),
        Wait::For(limit) => {
            let left = limit.saturating_sub(elapsed).as_secs_f64();
            words.push(format!("--timeout={left:.3}").into());
        }
    }
    if !args.fd.is_empty() {
        words.push(format!("--script={}", request.holder).into());
    }
    // With --skip-ok, the script or command is skipped in silence.
    let skip_status = if args.command.is_empty() { exit::COVERED } else { exit::DONE };
    let conflict_status = if args.skip_ok { Some(skip_status) } else { args.conflict_exit_code.map(i32::from) };
    let options: [(&str, Option<OsString>); 8] = [
        ("--server=", args.server.as_ref().map(Into::into)),
        ("--ttl=", args.ttl.map(|ttl| ttl.as_secs_f64().to_string().into())),
        ("--on-lost=", args.on_lost.as_ref().map(Into::into)),
        ("--slots=", args.slots.map(|slots| slots.to_string().into())),
        ("--who=", args.who.as_ref().map(Into::into)),
        ("--conflict-exit-code=", conflict_status.map(|code| code.to_string().into())),
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
    for (option, is_set) in [
        ("--shared", args.shared),
        ("--quiet", args.quiet || args.skip_ok),
        ("--verbose", args.verbose),
        ("--no-inherit", no_inherit),
    ] {
        if is_set {
            words.push(option.into());
        }
    }
    let mut variables = Vec::new();
    if !args.command.is_empty() {
        words.push("--".into());
        words.extend_from_slice(&args.command);
        variables.push((FDS, inherit::format_descriptors(&fds)));
    }
    keeper.exec(words, &variables).into()
}
