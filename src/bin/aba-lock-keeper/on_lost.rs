//! The reaction to the loss of a lease, from `--on-lost` or `ABA_LOCK_ON_LOST`.

use crate::environment::{self, ON_LOST};
use crate::fault::Fault;
use std::process::{Command, Stdio};

/// The reaction to the loss of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OnLost {
    /// End the holders of the lock.
    Term,
    /// Only report the loss.
    Warn,
    /// Run this command with the shell.
    Run(String),
}

/// Reads the option, or the variable. A single word that is not a command is refused: otherwise the mistake would only
/// show when the lease is lost.
pub(crate) fn read_on_lost(option: Option<&str>) -> Result<OnLost, Fault> {
    let text = option.map(str::to_owned).or_else(|| environment::read_variable(ON_LOST)).unwrap_or_default();
    match text.trim() {
        "" => Ok(OnLost::Term),
        word if word.eq_ignore_ascii_case("term") => Ok(OnLost::Term),
        word if word.eq_ignore_ascii_case("warn") => Ok(OnLost::Warn),
        word if is_one_word(word) && !is_command(word) => Err(Fault::Misused {
            what: format!("command not found: {word} (to run if the lease is lost)"),
            hint: "use term, warn or a shell command; the command runs in /, with programs from PATH".to_owned(),
        }),
        command => Ok(OnLost::Run(command.to_owned())),
    }
}

/// Returns true if the shell would read the text as one word, without quotes or expansions.
fn is_one_word(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || "_-./+:@%,".contains(c))
}

/// Returns true if the shell finds a program, a builtin or a keyword of this name.
fn is_command(word: &str) -> bool {
    let status = shell_command().args(["-c", "command -v -- \"$1\"", "sh", word]).status();
    // If the shell cannot be started, no word counts as a command.
    status.is_ok_and(|status| status.success())
}

/// Returns the shell in the environment in which the keeper runs it: in `/`, without input and output.
pub(crate) fn shell_command() -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell
}
