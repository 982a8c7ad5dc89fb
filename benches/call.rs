//! Calls of programs, and the measurement of one.

use crate::{cleanup, pipe};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A program to run. It inherits `PATH` and no other variable.
#[derive(Clone)]
pub(crate) struct Call {
    words: Vec<String>,
    variables: Vec<(&'static str, PathBuf)>,
    directory: PathBuf,
    launch: PathBuf,
    status: i32,
}

/// The time and memory of a call.
#[derive(Clone, Copy)]
pub(crate) struct Measurement {
    /// From before the start until after the end.
    pub(crate) microseconds: f64,
    /// The time of the end: `CLOCK_MONOTONIC` in nanoseconds.
    pub(crate) ended: i64,
    /// Processor time in user and system mode. The kernel counts the sum exactly and only estimates the parts.
    pub(crate) cpu: f64,
    pub(crate) peak_kib: u64,
}

impl Call {
    pub(crate) fn new(program: &Path, launch: &Path) -> Self {
        let words = vec![program.to_string_lossy().into_owned()];
        Self { words, variables: Vec::new(), directory: PathBuf::from("/"), launch: launch.to_owned(), status: 0 }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.words.extend(args.iter().map(|&arg| arg.to_owned()));
        self
    }

    pub(crate) fn env(mut self, key: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((key, PathBuf::from(value.as_ref())));
        self
    }

    pub(crate) fn current_dir(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// Sets the expected exit status.
    pub(crate) fn status(mut self, status: i32) -> Self {
        self.status = status;
        self
    }

    /// Returns the program itself, with no terminal and no output.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        self.set_up(command)
    }

    /// Returns a command that waits until its stdin is closed, and then runs the program several times, one after the other.
    pub(crate) fn repeated(&self, times: u32) -> Command {
        let mut command = Command::new(&self.launch);
        command.arg(format!("-{times}")).args(&self.words);
        self.set_up(command)
    }

    /// Starts a measured run: [`Running::wait`] returns the measurement.
    pub(crate) fn start(&self) -> Running {
        let mut command = Command::new(&self.launch);
        command.args(&self.words);
        let child = cleanup::start_child(self.set_up(command).stdout(Stdio::piped()));
        Running { child, call: self.clone() }
    }

    pub(crate) fn time(&self) -> Measurement {
        self.start().wait()
    }

    /// Runs the program, and returns what it wrote to stdout.
    pub(crate) fn output(&self) -> String {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let output = cleanup::start_child(&mut command).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(self.status), "the status of {}", self.words.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    fn set_up(&self, mut command: Command) -> Command {
        command.env_clear().env("LC_ALL", "C").env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(key, value)| (key, value))).current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

pub(crate) struct Running {
    child: Child,
    call: Call,
}

impl Running {
    /// Waits until the program has ended.
    ///
    /// # Panics
    /// If its exit status is not the expected one.
    pub(crate) fn wait(mut self) -> Measurement {
        let words = self.call.words.join(" ");
        let mut report = [0; 48];
        let len = pipe::read(self.child.stdout.as_mut().unwrap(), &mut report, &words);
        self.child.wait().unwrap();
        assert_eq!(len, report.len(), "could not run {words}");
        let number = |at: usize| i64::from_ne_bytes(report[at * 8..][..8].try_into().unwrap());
        let status = i32::try_from(number(5)).unwrap();
        let status = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
        assert_eq!(status, self.call.status, "the status of {words}");
        Measurement {
            microseconds: float(number(1) - number(0)) / 1e3,
            ended: number(1),
            cpu: float(number(2) + number(3)),
            peak_kib: number(4).unsigned_abs(),
        }
    }
}

/// Converts a count of nanoseconds or microseconds, which is exact up to a hundred days.
#[allow(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn float(count: i64) -> f64 {
    count as f64
}
