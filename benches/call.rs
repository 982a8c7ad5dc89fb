//! A call of a program, and what one took.

use crate::{ending, pipe};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What is to be run. It gets nothing of our environment but `PATH`.
#[derive(Clone)]
pub(crate) struct Call {
    words: Vec<String>,
    variables: Vec<(&'static str, PathBuf)>,
    directory: PathBuf,
    launch: PathBuf,
    status: i32,
}

/// What a call took.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    /// From before it was started until it had ended.
    pub(crate) microseconds: f64,
    /// When it had ended: `CLOCK_MONOTONIC`, in nanoseconds.
    pub(crate) ended: i64,
    /// In user and system mode. The kernel counts their sum exactly, and estimates the parts.
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

    /// How it is to end.
    pub(crate) fn status(mut self, status: i32) -> Self {
        self.status = status;
        self
    }

    /// The program itself, without a terminal and in silence.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        self.set(command)
    }

    /// So many of them, one after the other, when its stdin has come to its end.
    pub(crate) fn repeated(&self, times: u32) -> Command {
        let mut command = Command::new(&self.launch);
        command.arg(format!("-{times}")).args(&self.words);
        self.set(command)
    }

    /// Runs it, and takes its time: see [`Running::ended`].
    pub(crate) fn start(&self) -> Running {
        let mut command = Command::new(&self.launch);
        command.args(&self.words);
        let child = ending::start(self.set(command).stdout(Stdio::piped()));
        Running { child, call: self.clone() }
    }

    pub(crate) fn time(&self) -> Took {
        self.start().ended()
    }

    /// Runs it; what it wrote to stdout.
    pub(crate) fn output(&self) -> String {
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(Stdio::inherit());
        let output = ending::start(&mut command).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(self.status), "the status of {}", self.words.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    fn set(&self, mut command: Command) -> Command {
        command.env_clear().env("LC_ALL", "C").env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.iter().map(|(key, value)| (key, value))).current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// A call that runs.
pub(crate) struct Running {
    child: Child,
    call: Call,
}

impl Running {
    /// Waits until it has ended, as it was to end.
    pub(crate) fn ended(mut self) -> Took {
        let words = self.call.words.join(" ");
        let mut report = [0; 48];
        let len = pipe::read(self.child.stdout.as_mut().unwrap(), &mut report, &words);
        self.child.wait().unwrap();
        assert_eq!(len, report.len(), "could not run {words}");
        let number = |at: usize| i64::from_ne_bytes(report[at * 8..][..8].try_into().unwrap());
        let status = i32::try_from(number(5)).unwrap();
        let status = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
        assert_eq!(status, self.call.status, "the status of {words}");
        Took {
            microseconds: float(number(1) - number(0)) / 1e3,
            ended: number(1),
            cpu: float(number(2) + number(3)),
            peak_kib: number(4).unsigned_abs(),
        }
    }
}

/// A count of nanoseconds or microseconds: exact up to a hundred days.
#[allow(clippy::cast_precision_loss, reason = "as said")]
pub(crate) fn float(count: i64) -> f64 {
    count as f64
}
