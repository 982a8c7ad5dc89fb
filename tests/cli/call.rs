//! Calls of programs: the arguments, the expected exit status and output, and holders that run until a test releases them.

use crate::process::{PATIENCE, kill, wait_for_exit, wait_until};
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

/// A call and its expected result: exit status 0 and no output, unless the builder sets something else.
#[must_use = "nothing runs before `run`"]
pub(crate) struct Call {
    command: Command,
    status: i32,
    out: Option<Vec<String>>,
    err: Option<Vec<String>>,
}

impl Call {
    pub(crate) fn new(command: Command) -> Self {
        Self { command, status: 0, out: None, err: None }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    pub(crate) fn env_remove(mut self, key: &str) -> Self {
        self.command.env_remove(key);
        self
    }

    pub(crate) fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Starts the program as the leader of a new process group.
    pub(crate) fn own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// Expects this exit status (128 + n for signal n).
    pub(crate) fn status(mut self, status: i32) -> Self {
        self.status = status;
        self
    }

    /// Expects this text in stdout.
    pub(crate) fn out(mut self, text: impl Into<String>) -> Self {
        self.out.get_or_insert_default().push(text.into());
        self
    }

    /// Expects this text in stderr.
    pub(crate) fn err(mut self, text: impl Into<String>) -> Self {
        self.err.get_or_insert_default().push(text.into());
        self
    }

    /// Runs the program and checks the result.
    pub(crate) fn run(self) -> CallOutput {
        self.start().finish()
    }

    /// Runs the program. Returns its exit status and its output, which the caller checks.
    pub(crate) fn run_unchecked(self) -> (i32, CallOutput) {
        let mut running = self.start();
        let status = wait_for_exit(&mut running.child);
        (status, CallOutput { out: running.out.read_to_end(), err: running.err.read_to_end() })
    }

    /// Runs the program and parses its stdout.
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.out("").run().out).unwrap()
    }

    /// Starts the program in the background.
    pub(crate) fn start(mut self) -> RunningCall {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let out = PipeReader::new(child.stdout.take().unwrap());
        let err = PipeReader::new(child.stderr.take().unwrap());
        RunningCall { child, call: self, out, err }
    }

    /// Starts the program and waits until it prints that it holds its lock.
    pub(crate) fn hold(self) -> Holder {
        Holder::start(self.command)
    }

    /// Does the same as `hold`, or returns `None` if the program ends before it prints a line.
    pub(crate) fn try_hold(self) -> Option<Holder> {
        Holder::try_start(self.command)
    }
}

/// A call that runs in the background.
pub(crate) struct RunningCall {
    child: Child,
    call: Call,
    out: PipeReader,
    err: PipeReader,
}

impl RunningCall {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until this text is in stderr.
    pub(crate) fn wait_for_error(&self, text: &str) {
        wait_until(text, || self.err.text_so_far().contains(text));
    }

    /// Waits until the program ends, and checks the result.
    pub(crate) fn finish(mut self) -> CallOutput {
        let status = wait_for_exit(&mut self.child);
        let (out, err) = (self.out.read_to_end(), self.err.read_to_end());
        let said = format!("stdout: {out}\nstderr: {err}");
        assert_eq!(status, self.call.status, "exit status; {said}");
        for (text, expected) in [(&out, &self.call.out), (&err, &self.call.err)] {
            match expected {
                None => assert!(text.is_empty(), "silence was expected; {said}"),
                Some(expected) => {
                    for part in expected {
                        assert!(text.contains(part), "{part:?} was expected; {said}");
                    }
                }
            }
        }
        CallOutput { out, err }
    }
}

/// A thread that collects the output of a program while it runs.
struct PipeReader {
    bytes: Arc<Mutex<Vec<u8>>>,
    thread: thread::JoinHandle<()>,
}

impl PipeReader {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&bytes);
        let thread = thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(len @ 1..) = pipe.read(&mut some) {
                collected.lock().unwrap().extend_from_slice(&some[..len]);
            }
        });
        Self { bytes, thread }
    }

    fn text_so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn read_to_end(self) -> String {
        self.thread.join().unwrap();
        let bytes = std::mem::take(&mut *self.bytes.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }
}

/// The output of a call that has ended.
pub(crate) struct CallOutput {
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A process that prints a line as soon as it holds what the test needs.
pub(crate) struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The line that it printed.
    pub(crate) first_line: String,
}

impl Holder {
    pub(crate) fn start(command: Command) -> Self {
        Self::try_start(command).expect("the holder prints a line")
    }

    fn try_start(mut command: Command) -> Option<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = sender.send(line);
            // The pipe stays open: without a reader, more output would kill the process.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let first_line = receiver.recv_timeout(PATIENCE).expect("the holder says that it holds").trim_end().to_owned();
        if first_line.is_empty() {
            drop(stdin);
            wait_for_exit(&mut child);
            return None;
        }
        Some(Self { child, stdin, first_line })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Lets the process end, and waits for that. Returns its exit status, or 128 + n for signal n.
    pub(crate) fn release(mut self) -> i32 {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.write_all(b"\n");
        }
        self.wait()
    }

    /// Waits until the process has ended. Returns its exit status, or 128 + n for signal n.
    pub(crate) fn wait(&mut self) -> i32 {
        wait_for_exit(&mut self.child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn finish_all(calls: impl IntoIterator<Item = RunningCall>) {
    for call in calls {
        call.finish();
    }
}
