//! All messages to users, and all output of data. No other module prints.

use crate::args::Cli;
use crate::environment;
use crate::fault::Fault;
use crate::lease::{Lease, LeaseOwner, QueueEntry};
use crate::misuse;
use crate::os::descriptor::{self, ForeignDescriptor};
use crate::settings::Settings;

use aba_lock::base::duration::format_span;
use aba_lock::base::text::shorten;
use aba_lock::lock::events;
use aba_lock::os::{can_be_written, write_until_signal};
use aba_lock_protocol::sharing::Sharing;
use clap::CommandFactory;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// The longest command line in a message, in characters.
const MAX_COMMAND: usize = 120;

/// Prints data to stdout.
pub(crate) fn print_data(text: &str) {
    write_until_signal(1, text.as_bytes());
}

/// The longest wait for a reader of stderr that has not read the earlier messages yet.
const READER_LIMIT: Duration = Duration::from_secs(5);

fn print_message(text: &str, hint: Option<&str>) {
    // The message is written in one call, so that the messages of several processes do not mix.
    if can_be_written(2, READER_LIMIT) {
        write_until_signal(2, format_message(text, hint).as_bytes());
    }
}

fn format_message(text: &str, hint: Option<&str>) -> String {
    let hint = hint.map(|hint| format!("hint: {}\n", escape_controls(hint))).unwrap_or_default();
    format!("aba-lock: {}\n{hint}", escape_controls(text))
}

/// Prints the help that was asked for, or the mistake in the command line.
pub(crate) fn print_clap_answer(answer: &clap::Error) {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    if matches!(answer.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion) {
        let _ = answer.print();
        return;
    }
    let all = Cli::command();
    let (mut command, mut name) = (&all, String::new());
    for word in &environment::read_arguments() {
        let Some(found) = command.find_subcommand(word) else { break };
        command = found;
        let _ = write!(name, "{}{word}", if name.is_empty() { "" } else { " " });
    }
    let place = if name.is_empty() { String::new() } else { format!("{name}: ") };
    let help = format!("aba-lock {name} --help");
    let hint = misuse::find_similar(answer).unwrap_or_else(|| format!("see `{help}`"));
    print_message(&(place + &misuse::describe(answer)), Some(&hint));
}

/// Writes a message to the stderr of another process, if that does not block.
pub(crate) fn write_message(stderr: &ForeignDescriptor, text: &str) -> io::Result<()> {
    stderr.write_at_once(format_message(text, None).as_bytes())
}

/// Writes a message to the stderr of another process, which was opened through `/proc`.
pub(crate) fn write_message_to_file(mut stderr: &File, text: &str) -> io::Result<()> {
    stderr.write_all(format_message(text, None).as_bytes())
}

/// Writes a message to the system log, with the facility `user` and the severity `err`, if that does not block.
pub(crate) fn write_system_log(pid: u32, text: &str) {
    if let Ok(socket) = UnixDatagram::unbound()
        && socket.set_nonblocking(true).is_ok()
    {
        let _ = socket.send_to(format!("<11>aba-lock[{pid}]: {}", escape_controls(text)).as_bytes(), "/dev/log");
    }
}

/// Reports once that the event log could not be written to.
pub(crate) fn report_log_failure() {
    if let Some((log, reason)) = events::take_failure() {
        let hint = events::hint_after_failure(&reason);
        let (log, reason) = (log.display(), aba_lock::base::text::format_io_error(&reason));
        let text = format!("cannot write to the event log {log}: {reason}; locks are not affected");
        print_message(&text, Some(hint));
    }
}

/// Warns if others can read a secret, in its file or on the network.
pub(crate) fn warn_of_exposures(settings: &Settings) {
    for (text, hint) in settings.find_exposures() {
        print_message(&text, Some(hint));
    }
}

/// Reports a fault. `wait` is the part of the hint that says how to make the caller wait. `None`: the caller cannot be
/// made to wait.
pub(crate) fn report_fault(fault: &Fault, wait: Option<&str>) {
    let (text, hint) = match fault {
        Fault::Busy { name, holder } => {
            let wait = wait.map(|wait| format!("wait for it with {wait}, or ")).unwrap_or_default();
            let see = format!("{wait}show its holder with `aba-lock lease show {name}`");
            match holder {
                Some(holder) => (describe_refusal(holder), Some(see)),
                None => (format!("{name} was held a moment ago, but its holder has released it since"), Some(see)),
            }
        }
        Fault::TimedOut { name, holder } => {
            let held =
                holder.as_ref().map(|holder| format!(", held by {}", describe_entry(holder))).unwrap_or_default();
            (
                format!("timed out waiting for {name}{held}"),
                Some(format!("show its holder with `aba-lock lease show {name}`")),
            )
        }
        Fault::OtherSlots { name, wanted, holder } => {
            let (held, wanted) = (count_slots(holder.sharing), count_slots(*wanted));
            let text = format!("{name} is held with --slots {held}, so --slots {wanted} is refused");
            let hint = format!("use --slots {held}, or end all processes that hold this lock or wait for it");
            (format!("{text}: held by {}", describe_entry(holder)), Some(hint))
        }
        Fault::Unreachable { what } => {
            let hint = "check that the server is running, and that this machine can reach it";
            (format!("no lease server answers: {what}"), Some(hint.to_owned()))
        }
        Fault::Gone { name } => {
            let hint = "stop the work that it protects: another process may hold the lease now";
            (format!("the lease on {name} is lost: it expired or was released"), Some(hint.to_owned()))
        }
        Fault::NotRun { command, found: true, reason } => (format!("cannot run {command}: {reason}"), None),
        Fault::NotRun { command, .. } => (format!("command not found: {command}"), None),
        Fault::Failed { what, hint } => (what.clone(), hint.clone()),
        Fault::Misused { what, hint } => (what.clone(), Some(hint.clone()).filter(|hint| !hint.is_empty())),
    };
    print_message(&text, hint.as_deref());
}

/// Reports that the lease is held, and that another command runs instead.
pub(crate) fn report_replacement(fault: &Fault, instead: &str) {
    let text = match fault {
        Fault::Busy { holder: Some(holder), .. } => describe_refusal(holder),
        Fault::Busy { name, .. } | Fault::TimedOut { name, .. } | Fault::OtherSlots { name, .. } => {
            format!("{name} is held")
        }
        _ => return report_fault(fault, None),
    };
    print_message(&format!("{text}; running `{instead}`"), None);
}

/// Reports a wait: its beginning, or that it goes on after the time `waited`.
pub(crate) fn report_wait(server: &str, holder: &QueueEntry, waited: Option<Duration>) {
    let (name, held) = (&holder.name, describe_entry(holder));
    let text = match waited {
        None => format!("waiting for {name} at {server}, held by {held}"),
        Some(waited) => {
            format!("still waiting for {name} at {server} after {}, now held by {held}", format_span(waited))
        }
    };
    print_message(&text, None);
}

/// Reports that a command has ended by a signal, and that the lease stays with processes that it started.
pub(crate) fn report_stragglers(name: &str, pids: impl Iterator<Item = u32>) {
    let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
    let text = format!("the command has ended, but processes that it started still run: pid {}", pids.join(" "));
    print_message(&format!("{text}; the lease on {name} is kept until they end"), None);
}

/// Reports that the lease has ended before a command that succeeded.
pub(crate) fn report_late_success(name: &str) {
    let hint = "check the result: another process may have held the lease during the rest of the command";
    print_message(&format!("the lease on {name} was lost before the command ended"), Some(hint));
}

/// Reports that no server answers, and that the acquisition tries again.
pub(crate) fn report_silence(name: &str, what: &str) {
    print_message(&format!("waiting for {name}: no lease server answers: {what}"), None);
}

/// Reports an acquisition, for `--verbose`.
pub(crate) fn report_acquisition(server: &str, lease: &Lease, took: Duration) {
    let Lease { name, token, .. } = lease;
    print_message(&format!("acquired {name} at {server} after {:.3} s, token {token}", took.as_secs_f64()), None);
}

/// Reports that a script has no keeper any more.
pub(crate) fn report_missing_keeper(name: &str) {
    let hint = "stop the work that it protects: another process may hold the lease now";
    print_message(&format!("the lease on {name} is not renewed: its keeper has ended"), Some(hint));
}

/// Reports that the script has lost its lease, and names the holder, if there is one.
pub(crate) fn report_lost_lease(name: &str, holder: Option<&QueueEntry>) {
    let held = holder.map_or_else(|| "now free".to_owned(), |holder| format!("now held by {}", describe_entry(holder)));
    print_message(&format!("the lease on {name} is lost: {held}"), Some("stop the work that it protects"));
}

fn count_slots(sharing: Sharing) -> u32 {
    sharing.slots().unwrap_or_default()
}

fn describe_refusal(holder: &QueueEntry) -> String {
    let QueueEntry { name, owner, .. } = holder;
    match owner {
        Some(_) => format!("{name} is already running: {}", describe_entry(holder)),
        None => format!("{name} is held by {}", describe_entry(holder)),
    }
}

/// Describes a holder or waiter, to follow "held by".
fn describe_entry(entry: &QueueEntry) -> String {
    let text = match &entry.owner {
        Some(owner) => describe_owner(owner),
        None => match &entry.owner_text {
            Some(text) => escape_controls(text),
            None => format!("{} (no description)", escape_controls(&entry.id)),
        },
    };
    let sharing = entry.describe_sharing().map(|sharing| format!(" ({sharing})")).unwrap_or_default();
    text + &sharing + &entry.describe_others()
}

fn describe_owner(owner: &LeaseOwner) -> String {
    let who = owner.who.as_ref().map(|who| format!(" ({})", escape_controls(who))).unwrap_or_default();
    let age = read_age(owner).map(|age| format!(", for {}", format_span(age))).unwrap_or_default();
    let command = shorten(&escape_controls(&owner.command), MAX_COMMAND);
    format!(
        "pid {} on host {} ({command}), by {}{who}{age}",
        owner.pid,
        escape_controls(&owner.host),
        escape_controls(&owner.user)
    )
}

fn read_age(owner: &LeaseOwner) -> Option<Duration> {
    let since: jiff::Timestamp = owner.since.parse().ok()?;
    Duration::try_from(jiff::Timestamp::now().duration_since(since)).ok()
}

/// Replaces the control characters of untrusted text, which would act on the terminal.
fn escape_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Prints the id of a lease, for `lease acquire`. Fails if no process can read it.
pub(crate) fn print_lease(server: &str, lease: &Lease, as_json: bool) -> io::Result<()> {
    let Lease { name, id, token, ttl, .. } = lease;
    if !as_json {
        return descriptor::write_to_stdout(&format!("{id}\n"));
    }
    let mut object =
        json!({ "lease": id, "name": name, "token": token, "ttl_seconds": ttl.as_secs(), "server": server });
    put_sharing(&mut object, lease.sharing, lease.slot);
    descriptor::write_to_stdout(&format!("{object:#}\n"))
}

/// Appends a lease to a file that a shell, or the runner of a CI job, reads. The first line begins on a line of its own.
pub(crate) fn append_lease(mut file: &File, lease: &Lease) -> io::Result<()> {
    let Lease { id, token, .. } = lease;
    let separator = if descriptor::is_inside_line(file) { "\n" } else { "" };
    file.write_all(format!("{separator}lease={id}\nfencing_token={token}\n").as_bytes())
}

/// Prints a queue, for `lease show`.
pub(crate) fn print_queue(server: &str, name: &str, queue: &[QueueEntry], as_json: bool) {
    if as_json {
        return print_data(&format!("{:#}\n", queue_json(server, name, queue)));
    }
    if queue.is_empty() {
        return print_data(&format!("{name}: free at {server}\n"));
    }
    let mut text = format!("{name}: held at {server}\n");
    let is_alone = queue.iter().filter(|entry| entry.is_holder).count() <= 1;
    let mut waiters = 0;
    for (at, entry) in queue.iter().enumerate() {
        if at > 0 && !entry.is_holder {
            waiters += 1;
            let _ = writeln!(text, "  {waiters}. waits: {}", describe_entry(entry));
            continue;
        }
        let left =
            entry.left.map(|left| format!(", ends in {} unless it is renewed", format_span(left))).unwrap_or_default();
        let _ = writeln!(text, "  {}\n  token {}{left}", escape_controls(&describe_entry(entry)), entry.token);
        if !is_alone {
            let _ = writeln!(text, "  lease: {}", escape_controls(&entry.id));
        }
    }
    if is_alone {
        let _ = writeln!(text, "  lease: {}", escape_controls(&queue[0].id));
    }
    print_data(&text);
}

/// Prints a table of all queues, for `lease list`.
pub(crate) fn print_queues(server: &str, entries: &[QueueEntry], as_json: bool) {
    let mut names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let queue =
        |name: &str| -> Vec<QueueEntry> { entries.iter().filter(|entry| entry.name == name).cloned().collect() };
    if as_json {
        let objects: Vec<Value> = names.iter().map(|name| queue_json(server, name, &queue(name))).collect();
        return print_data(&format!("{:#}\n", Value::from(objects)));
    }
    let Some(width) = names.iter().map(|name| name.len().max(5)).max() else { return };
    let mut text = format!(
        "{:width$}  {:>6}  {:>7}  {:<16}  {:>7}  {:<8}  COMMAND\n",
        "LEASE", "FOR", "WAITING", "HOST", "PID", "USER"
    );
    for name in names {
        let queue = queue(name);
        let waiters = queue.iter().skip(1).filter(|entry| !entry.is_holder).count();
        for (at, holder) in queue.iter().enumerate().filter(|(at, entry)| *at == 0 || entry.is_holder) {
            let waiting = if waiters == 0 || at > 0 { "-".to_owned() } else { waiters.to_string() };
            let dash = || "-".to_owned();
            let sharing = holder.describe_sharing().map(|sharing| format!("({sharing}) ")).unwrap_or_default();
            let (since, host, pid, user, command) = match &holder.owner {
                Some(owner) => (
                    read_age(owner).map_or_else(dash, format_span),
                    escape_controls(&owner.host),
                    owner.pid.to_string(),
                    escape_controls(&owner.user),
                    shorten(&escape_controls(&owner.command), MAX_COMMAND),
                ),
                None => {
                    (dash(), dash(), dash(), dash(), escape_controls(holder.owner_text.as_ref().unwrap_or(&holder.id)))
                }
            };
            let _ = writeln!(
                text,
                "{name:width$}  {since:>6}  {waiting:>7}  {host:<16}  {pid:>7}  {user:<8}  {sharing}{command}"
            );
        }
    }
    print_data(&text);
}

/// Adds the members of a lease that is not exclusive.
fn put_sharing(object: &mut Value, sharing: Sharing, slot: Option<u32>) {
    match sharing {
        Sharing::Exclusive => {}
        Sharing::Shared => object["mode"] = "shared".into(),
        Sharing::Slots(number) => object["slots"] = number.into(),
    }
    if let Some(slot) = slot {
        object["slot"] = slot.into();
    }
}

fn queue_json(server: &str, name: &str, queue: &[QueueEntry]) -> Value {
    let to_json = |entry: &QueueEntry| {
        let owner = entry.owner.as_ref().map(LeaseOwner::to_json);
        let mut object = json!({ "lease": entry.id, "token": entry.token, "owner": owner, "who": entry.owner_text, "ends_in_seconds": entry.left.map(|left| left.as_secs()) });
        put_sharing(&mut object, entry.sharing, entry.slot);
        object
    };
    // The first entry always counts as the holder: the next holder may not have learned of it yet.
    let (holders, waiters): (Vec<_>, Vec<_>) =
        queue.iter().enumerate().partition(|(at, entry)| *at == 0 || entry.is_holder);
    let [holders, waiters] =
        [holders, waiters].map(|entries| entries.into_iter().map(|(_, entry)| to_json(entry)).collect());
    let holders: Vec<Value> = holders;
    let state = if holders.is_empty() { "free" } else { "held" };
    json!({ "name": name, "server": server, "state": state, "holder": holders.first(), "holders": holders, "waiters": waiters })
}
