//! Processes that a test starts or examines, and waiting with a time limit.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait in a test.
pub(crate) const TEST_LIMIT: Duration = Duration::from_secs(120);

/// For scripts: a function that succeeds if a process runs, and is not a zombie.
pub(crate) const RUNS: &str = "runs() { [[ -e /proc/$1/stat && $(</proc/$1/stat) != *') Z '* ]]; }";

/// Waits until `done` returns true.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < TEST_LIMIT, "gave up waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal to a process that this test started; with a `-` in front of the pid, to its process group.
pub(crate) fn send_signal(pid: impl std::fmt::Display, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg("--").arg(pid.to_string()).status().unwrap();
    assert!(sent.success(), "kill -{signal} {pid}");
}

/// Returns true if a process exists and is not a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Returns the parent of a process.
pub(crate) fn parent_pid(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().unwrap_or_default().split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Returns the children of a process.
pub(crate) fn child_pids(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|child| parent_pid(*child) == pid).collect()
}

/// Returns the processes that have a file open on a descriptor that `is_meant` accepts.
pub(crate) fn find_processes_with(file: &Path, is_meant: &dyn Fn(&Path) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.map(|fd| fd.path()).any(|fd| is_meant(&fd) && fs::read_link(&fd).is_ok_and(|link| link == file))
    };
    pids.filter(has).collect()
}

/// The result of a call: exit status and output.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    /// Asserts the exit status.
    #[track_caller]
    pub(crate) fn status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Asserts that stderr contains this text.
    #[track_caller]
    pub(crate) fn err(self, text: &str) -> Self {
        assert!(self.err.contains(text), "expected {text:?} in {self:?}");
        self
    }

    /// Asserts that stdout contains this text.
    #[track_caller]
    pub(crate) fn out(self, text: &str) -> Self {
        assert!(self.out.contains(text), "expected {text:?} in {self:?}");
        self
    }

    /// Asserts that stderr is empty.
    #[track_caller]
    pub(crate) fn silent(self) -> Self {
        assert!(self.err.is_empty(), "expected silence: {self:?}");
        self
    }
}

/// Runs a command until it ends.
pub(crate) fn run_to_end(command: &mut Command) -> Outcome {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (read_all(child.stdout.take().unwrap()), read_all(child.stderr.take().unwrap()));
    let status = wait_for_child(&mut child);
    let text = |receiver: Receiver<String>| receiver.recv_timeout(TEST_LIMIT).expect("its output ends with it");
    Outcome { status, out: text(out), err: text(err) }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Waits for the end of a process. Returns its exit status, or 128 + n for signal n.
fn wait_for_child(child: &mut Child) -> i32 {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        }
        if start.elapsed() > TEST_LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("gave up waiting for a process to end");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A script that runs in the background.
pub(crate) struct RunningScript {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl RunningScript {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let lines = |pipe: Box<dyn Read + Send>| {
            let (sender, receiver) = mpsc::channel();
            thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
            receiver
        };
        let out = lines(Box::new(child.stdout.take().unwrap()));
        let err = lines(Box::new(child.stderr.take().unwrap()));
        Self { child, stdin, lines: out, errors: err }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line on stdout.
    #[track_caller]
    pub(crate) fn read_line(&self) -> String {
        let errors = || self.errors.try_iter().collect::<Vec<_>>();
        self.lines.recv_timeout(TEST_LIMIT).unwrap_or_else(|_| panic!("the script printed no line: {:?}", errors()))
    }

    /// Waits for the next line on stderr.
    #[track_caller]
    pub(crate) fn read_error(&self) -> String {
        self.errors.recv_timeout(TEST_LIMIT).expect("the script writes to stderr")
    }

    /// Returns the next line on stdout, if there is one already.
    pub(crate) fn try_read_line(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Sends a line, for which the script waits.
    pub(crate) fn send_line(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Waits for the end of the script, and returns its exit status.
    pub(crate) fn wait(&mut self) -> i32 {
        wait_for_child(&mut self.child)
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for RunningScript {
    fn drop(&mut self) {
        // Kill the whole process group. The pid is not reused before this process waits for it.
        if self.is_running() {
            let _ =
                Command::new("kill").args(["-KILL", "--", &format!("-{}", self.pid())]).stderr(Stdio::null()).status();
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
