//! The reactions to the loss of a lease: a message to the user, the command of `--on-lost`, and the end of the script.
//! The guard (`processes`) calls these functions.

use crate::keeper::holders::{self, Holders};
use crate::keeper::kept_lease::KeptLease;
use crate::on_lost::{self, OnLost};
use crate::os::descriptor::ForeignDescriptor;
use crate::os::signal;
use crate::output;
use aba_lock::base::environment::NAME;
use aba_lock::lock::{inherit, kill};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::time::Duration;

/// Reports the loss on the stderr of the script, because a signal alone explains nothing. If stderr cannot be written
/// to at once, the report goes to the system log.
///
/// `is_gone` is true if the server has no such lease any more. Otherwise the lease ends after the time `left`.
pub(crate) fn report_loss(kept: &KeptLease, holders: &Holders, is_gone: bool, left: Duration) {
    let mut pids = holders.pids();
    let script = if pids.clone().any(|pid| pid == kept.holder) { Some(kept.holder) } else { pids.next() };
    let Some(script) = script else { return };
    let (name, server) = (&kept.lease.name, kept.settings.label());
    let cause = if is_gone {
        format!("the lease on {name} at {server} is lost: it expired or was released")
    } else {
        format!("cannot renew the lease on {name} at {server}, which expires in {} s", left.as_secs())
    };
    let reaction = match &kept.on_lost {
        OnLost::Term => {
            let all: Vec<String> = holders.pids().map(|pid| pid.to_string()).collect();
            format!("; ending pid {}", all.join(" "))
        }
        OnLost::Warn => String::new(),
        OnLost::Run(command) => format!("; running `{command}`"),
    };
    let text = format!("{cause}{reaction}");
    // The keeper copies the descriptor and closes the copy immediately. Otherwise the reader of a pipe would wait for
    // the end of the keeper. If stderr is a file, the copy shares the position of the script, so the script does not
    // overwrite the message.
    if ForeignDescriptor::copy_from(script, 2).and_then(|stderr| output::write_message(&stderr, &text)).is_ok() {
        return;
    }
    // Old kernels cannot copy a descriptor. O_NOCTTY: the terminal must not become the keeper's controlling terminal.
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let opened = options.open(format!("/proc/{script}/fd/2"));
    if opened.and_then(|stderr| output::write_message_to_file(&stderr, &text)).is_err() {
        output::write_system_log(script, &text);
    }
}

/// A script that was killed.
pub(crate) struct KilledScript {
    /// The stderr of the script. `None`: the kernel is older than Linux 5.6, or the script may not be examined.
    stderr: Option<ForeignDescriptor>,
}

/// Kills the process for which the lock was acquired. `None`: it does not hold the lock any more.
pub(crate) fn kill_script(kept: &KeptLease, file: &File) -> Option<KilledScript> {
    let script = holders::open_holder(kept.holder, file)?;
    let stderr = ForeignDescriptor::copy_from(kept.holder, 2).ok();
    script.signal(kill::KILL).is_ok().then_some(KilledScript { stderr })
}

/// Reports why the holders of a lock were killed without a warning: on the stderr of the script, or in the system log.
pub(crate) fn report_freeze(kept: &KeptLease, script: Option<KilledScript>) {
    let (name, server) = (&kept.lease.name, kept.settings.label());
    let text = format!(
        "the lease on {name} at {server} expired while its holder was stopped or the machine was suspended; killed the \
         holder, because another process may hold {name} now"
    );
    let stderr = script.and_then(|script| script.stderr);
    if stderr.is_none_or(|stderr| output::write_message(&stderr, &text).is_err()) {
        output::write_system_log(kept.holder, &text);
    }
}

/// Starts the command of `--on-lost`, in a process group of its own, so that it can be ended with the processes that it
/// starts.
pub(crate) fn start_command(kept: &KeptLease, command: &str) -> io::Result<Child> {
    let mut shell = on_lost::shell_command();
    let words = inherit::build_shell_command(command, OsStr::new(&kept.lease.name));
    shell.args(&words[1..]).env(NAME, &kept.lease.name);
    shell.env("ABA_LOCK_PID", kept.holder.to_string()).process_group(0);
    signal::restore_signals(&mut shell).spawn()
}
