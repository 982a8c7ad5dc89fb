//! The users of the tests, and the calls that they make. The numbers need no account.

use crate::place::Place;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// The group of which [`ALICE`] and [`BOB`] are members.
pub(crate) const STAFF: u32 = 61_100;

pub(crate) const ROOT: User = User { name: "root", id: 0, groups: &[] };
pub(crate) const ALICE: User = User { name: "alice", id: 61_001, groups: &[STAFF] };
pub(crate) const BOB: User = User { name: "bob", id: 61_002, groups: &[STAFF] };
/// A user who is not a member of [`STAFF`].
pub(crate) const CAROL: User = User { name: "carol", id: 61_003, groups: &[] };

/// A user, whose own group has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) id: u32,
    /// The other groups of the user.
    groups: &'static [u32],
}

/// The way in which a user acquires a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// `aba-lock lock NAME -- CMD`.
    Helper,
    /// `aba_lock_operation NAME` in a bash script.
    Library,
    /// The same in a bash that has loaded the builtin.
    Builtin,
}

impl Way {
    /// The exit status of a call whose lock another process holds.
    pub(crate) fn busy_status(self) -> i32 {
        match self {
            Self::Helper => 75,
            Self::Library | Self::Builtin => 1,
        }
    }
}

/// A command that prints a line, and ends when its input does.
const HOLD: &str = "echo held; read -r _; exit 0";

impl User {
    pub(crate) fn is_member(self, group: u32) -> bool {
        self.id == group || self.groups.contains(&group)
    }

    /// A call of a program by this user with this umask, for the locks of `place`.
    pub(crate) fn program(self, place: &Place, umask: &str, words: &[&str]) -> Command {
        let entrance = place.entrance();
        let mut command = Command::new(entrance.first().map_or("setpriv", String::as_str));
        if let [_, rest @ ..] = entrance.as_slice() {
            command.args(rest).arg("setpriv");
        }
        let (id, groups) = (self.id.to_string(), self.groups.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
        command.args(["--reuid", &id, "--regid", &id]);
        if groups.is_empty() {
            command.arg("--clear-groups")
        } else {
            command.args(["--groups", &groups])
        };
        command.args(["--", "sh", "-c", "umask \"$1\"; shift; exec \"$@\"", "sh", umask]).args(words);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        if place.has_own_run_lock() {
            let home = place.base().join(self.name);
            if std::fs::create_dir(&home).is_ok() {
                std::os::unix::fs::chown(&home, Some(self.id), Some(self.id)).unwrap();
            }
            command.env("HOME", home);
        } else {
            command.env("ABA_LOCK_DIR", place.root()).env("HOME", place.base());
        }
        command.env("ABA_LOCK_BIN", place.helper());
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the helper as this user.
    pub(crate) fn call(self, place: &Place, umask: &str, words: &[&str]) -> Output {
        let helper = place.helper();
        self.program(place, umask, &[&[helper.to_str().unwrap()], words].concat()).output().unwrap()
    }

    /// Starts a process that acquires lock `name`, or fails at once.
    fn start(self, place: &Place, umask: &str, way: Way, name: &str, command: &str) -> Child {
        let (helper, library) = (place.helper(), place.library());
        let script = format!("source '{}'; aba_lock_operation \"$1\"; {command}", library.display());
        let words = match way {
            Way::Helper => [helper.to_str().unwrap(), "lock", name, "--", "sh", "-c", command].to_vec(),
            Way::Library | Way::Builtin => ["bash", "-c", &script, "bash", name].to_vec(),
        };
        let mut program = self.program(place, umask, &words);
        if way == Way::Builtin {
            program.env("ABA_LOCK_BUILTIN", place.builtin());
        }
        program.stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Acquires lock `name` of all users, and holds it until the holder is released.
    pub(crate) fn hold_for_all(self, place: &Place, way: Way, name: &str) -> Result<Holder, Output> {
        let (helper, library) = (place.helper(), place.library());
        let script = format!("source '{}'; aba_lock_operation --system \"$1\"; {HOLD}", library.display());
        let words = match way {
            Way::Helper => [helper.to_str().unwrap(), "lock", "--system", name, "--", "sh", "-c", HOLD].to_vec(),
            Way::Library | Way::Builtin => ["bash", "-c", &script, "bash", name].to_vec(),
        };
        Holder::start(self.program(place, "022", &words).stdin(Stdio::piped()).spawn().unwrap())
    }

    /// Tries to acquire lock `name`, and releases it.
    pub(crate) fn try_lock(self, place: &Place, umask: &str, way: Way, name: &str) -> Output {
        self.start(place, umask, way, name, "true").wait_with_output().unwrap()
    }

    /// Acquires lock `name`, and holds it until the holder is released. Otherwise returns the status and the messages.
    pub(crate) fn hold(self, place: &Place, umask: &str, way: Way, name: &str) -> Result<Holder, Output> {
        Holder::start(self.start(place, umask, way, name, HOLD))
    }
}

/// A process that holds a lock.
pub(crate) struct Holder(Child);

impl Holder {
    /// Waits until the process holds the lock. Otherwise returns its status and messages.
    fn start(mut child: Child) -> Result<Self, Output> {
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line == "held\n" { Ok(Self(child)) } else { Err(child.wait_with_output().unwrap()) }
    }

    /// Ends the process, and waits for that.
    pub(crate) fn release(mut self) -> ExitStatus {
        let _ = self.0.stdin.take().unwrap().write_all(b"\n");
        self.0.wait().unwrap()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
