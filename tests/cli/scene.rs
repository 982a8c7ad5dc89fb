//! A state root of its own for each test, and calls that expect silence unless told otherwise.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The most that any wait in a test may last.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The helper under test.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_aba-lock");

/// Copies a program that the test runs then.
///
/// A child process writes the copy. If this process wrote it, a child that another test forks at the same time would inherit
/// the descriptor that is open for writing, and nothing could run the copy until that child has called execve(2) (`ETXTBSY`).
pub(crate) fn copy_program(from: impl AsRef<Path>, to: &Path) {
    assert!(Command::new("cp").arg("-T").arg(from.as_ref()).arg(to).status().unwrap().success());
}

/// Writes a script that the test runs then, by a child process for the same reason.
pub(crate) fn write_program(path: &Path, text: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(path).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A directory with a state root in it.
pub(crate) struct Scene {
    directory: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.path("locks")
    }

    pub(crate) fn lock_file(&self, name: &str) -> PathBuf {
        self.root().join(format!("aba-{name}.lock"))
    }

    /// What is in the lock file.
    pub(crate) fn record(&self, name: &str) -> String {
        fs::read_to_string(self.lock_file(name)).unwrap_or_default()
    }

    /// The value of `key` in the record.
    pub(crate) fn field(&self, name: &str, key: &str) -> String {
        let record = self.record(name);
        let line = record.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("no {key} in {record:?}")).to_owned()
    }

    /// A call of `run-once`.
    pub(crate) fn once<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Call {
        let mut command = self.program(HELPER);
        command.arg("run-once").args(args);
        Call::new(command)
    }

    /// A file of task `id`.
    pub(crate) fn task_file(&self, id: &str, name: &str) -> PathBuf {
        self.root().join("runner").join(id).join(name)
    }

    /// What is in a file of task `id`; nothing if it is not there.
    pub(crate) fn task_text(&self, id: &str, name: &str) -> String {
        fs::read_to_string(self.task_file(id, name)).unwrap_or_default()
    }

    /// The process of task `id`, which runs.
    pub(crate) fn task_pid(&self, id: &str) -> u32 {
        self.task_text(id, "pid").trim().parse().expect("the task runs")
    }

    /// The process that runs task `id`, and waits for its command.
    pub(crate) fn supervisor(&self, id: &str) -> u32 {
        parent(self.task_pid(id))
    }

    /// A gate of this name, shut.
    pub(crate) fn gate(&self, name: &str) -> Gate {
        Gate::new(self.path(name))
    }

    /// Makes the state root, so that a test can put something into it.
    pub(crate) fn make_root(&self) {
        fs::create_dir_all(self.root()).unwrap();
    }

    /// A call of any program in this scene.
    pub(crate) fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("ABA_LOCK_DIR", self.root()).env("HOME", self.directory.path()).env("HELPER", HELPER);
        for variable in
            ["ABA_LOCK_FDS", "ABA_LOCK_TIMEOUT", "ABA_LOCK_TOKEN", "ABA_LOCK_COMPLETE", "ABA_LOCK_TASK", "ABA_LOCK_LOG"]
        {
            command.env_remove(variable);
        }
        command.env_remove("RUN_ONCE_DIR").env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null());
        command
    }

    /// A call of the helper.
    pub(crate) fn aba<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Call {
        let mut command = self.program(HELPER);
        command.args(args);
        Call::new(command)
    }

    /// A call of a bash script, in which `$HELPER` is the helper.
    pub(crate) fn bash(&self, script: &str) -> Call {
        let mut command = self.program("bash");
        command.arg("-c").arg(script);
        Call::new(command)
    }

    /// A process that holds lock `name`, until it is let go or dropped.
    pub(crate) fn holder(&self, name: &str) -> Holder {
        self.holder_with(&[name])
    }

    /// A flock(1) that holds this file, and leaves no record.
    pub(crate) fn flock(&self, file: impl AsRef<OsStr>) -> Holder {
        let mut command = self.program("flock");
        command.arg(file).args(["sh", "-c", "echo held; read _"]);
        Holder::start(command)
    }

    /// Runs the helper under strace with these options, in this directory, and returns how it ended.
    pub(crate) fn traced(&self, options: &[&str], args: &[&str], directory: &str) -> (Option<i32>, String) {
        let mut command = self.program("timeout");
        command.arg(PATIENCE.as_secs().to_string()).args(["strace", "-qq", "-o", "trace"]).args(options);
        let output = command.arg(HELPER).args(args).current_dir(self.path(directory)).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// The same with options.
    pub(crate) fn holder_with(&self, args: &[&str]) -> Holder {
        let mut command = self.program(HELPER);
        command.arg("lock").args(args).args(["--", "sh", "-c", "echo held; read _; exit 0"]);
        Holder::start(command)
    }

    /// Waits until a process is blocked in the kernel for the lock file of `name`.
    pub(crate) fn until_waited_for(&self, name: &str) {
        self.until_waiters(name, 1);
    }

    /// Waits until so many processes are blocked for the lock file of `name`.
    pub(crate) fn until_waiters(&self, name: &str, number: usize) {
        let file = self.lock_file(name);
        until("somebody waits", || waiters(&file) == number);
    }

    /// Waits until so many wait for the lock of `name`, and none of them will go to the end of the queue any more, as our
    /// helper does once, before its second thread is there.
    pub(crate) fn until_they_stand(&self, name: &str, number: usize) {
        let file = self.lock_file(name);
        let stands = |pid: &u32| {
            let ours = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == Path::new(HELPER));
            threads(*pid) == if ours { 2 } else { 1 }
        };
        until("they wait", || {
            let waiting = queue(&file);
            waiting.len() == number && waiting.iter().all(stands)
        });
        self.until_waiters(name, number);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.root().join("runner").exists() {
            let _ = self.program(HELPER).args(["run-once", "-G"]).stderr(Stdio::null()).status();
        }
    }
}

/// A barrier: a FIFO that a script reads a line of, and gets when it is opened.
pub(crate) struct Gate {
    /// Where it is.
    pub(crate) path: PathBuf,
    file: fs::File,
}

impl Gate {
    fn new(path: PathBuf) -> Self {
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Both ways: so opening it does not wait for a reader, nor a reader ever see its end.
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Self { path, file }
    }

    /// Lets one through.
    pub(crate) fn open(&self) {
        (&self.file).write_all(b"\n").unwrap();
    }

    /// A command that says a line, waits at the gate, and ends so.
    pub(crate) fn task(&self, status: i32) -> [String; 3] {
        let script = format!("echo begun; read _ <'{}'; exit {status}", self.path.display());
        ["bash".to_owned(), "-c".to_owned(), script]
    }
}

/// Whether a process watches a directory for changes.
pub(crate) fn watches(pid: u32) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let leads_to = |path: &Path| fs::read_link(path).is_ok_and(|link| link.to_string_lossy().contains("inotify"));
    descriptors.flatten().any(|descriptor| leads_to(&descriptor.path()))
}

/// How many threads a process has.
pub(crate) fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> u32 {
    parent_if_there(pid).expect("the process has not ended")
}

/// The parent of a process. `None`: the process has ended.
pub(crate) fn parent_if_there(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()
}

/// How many processes are blocked in the kernel for a lock file.
pub(crate) fn waiters(file: &Path) -> usize {
    queue(file).len()
}

/// Who is blocked in the kernel for a lock file, in the order in which they will be served.
pub(crate) fn queue(file: &Path) -> Vec<u32> {
    let end = format!(":{}", fs::metadata(file).unwrap().ino());
    let look = || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let words = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let waiting = words.filter(|words| words[1] == "->" && words[6].ends_with(&end));
        let mut queue: Vec<u32> = Vec::new();
        for pid in waiting.map(|words| words[5].parse().unwrap()) {
            if !queue.contains(&pid) {
                queue.push(pid);
            }
        }
        queue
    };
    // A long list is read in pieces, and who stands between two of them may be missed, or be there twice, while others come
    // and go.
    (0..3).map(|_| look()).max_by_key(Vec::len).unwrap()
}

/// The arguments of a call: options, `--`, and a command.
pub(crate) fn with<'a>(options: &[&'a str], command: &'a [String]) -> Vec<&'a str> {
    let mut words = options.to_vec();
    words.push("--");
    words.extend(command.iter().map(String::as_str));
    words
}

/// Waits until `done` says yes.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process is there, and not only waits to be reaped.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Returns true if a process exists, even one that has ended and was not reaped.
pub(crate) fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Whether the tests run as root, for whom no file is closed.
pub(crate) fn is_root() -> bool {
    String::from_utf8(Command::new("id").arg("-u").output().unwrap().stdout).unwrap().trim() == "0"
}

/// Whether `path` is locked by anyone, asked by other means than ours.
pub(crate) fn is_locked(path: &Path) -> bool {
    let status = Command::new("flock").arg("-n").arg(path).arg("true").status().unwrap();
    !status.success()
}

/// A process that says a line when it holds what it was to hold.
pub(crate) struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it said.
    pub(crate) said: String,
}

impl Holder {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = sender.send(line);
            // Keeps the pipe open: what else the process says goes nowhere, but does not kill it.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let said = receiver.recv_timeout(PATIENCE).expect("the holder says that it holds").trim_end().to_owned();
        assert!(!said.is_empty(), "the holder ended before it held: {:?}", child.wait());
        Self { child, stdin, said }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Lets it end, and waits until it has. Its exit status, 128 + n for a signal.
    pub(crate) fn let_go(mut self) -> i32 {
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.write_all(b"\n");
        }
        self.wait()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> i32 {
        wait(&mut self.child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process that this test started.
pub(crate) fn kill(pid: u32, signal: i32) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success());
}

fn wait(child: &mut Child) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("gave up waiting for a process to end");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A call, and what is expected of it: status 0 and silence, unless told otherwise.
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

    pub(crate) fn status(mut self, status: i32) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// stdout contains this.
    pub(crate) fn out(mut self, text: impl Into<String>) -> Self {
        self.out.get_or_insert_default().push(text.into());
        self
    }

    /// stderr contains this.
    pub(crate) fn err(mut self, text: impl Into<String>) -> Self {
        self.err.get_or_insert_default().push(text.into());
        self
    }

    /// Runs it and checks what is expected.
    pub(crate) fn run(self) -> Said {
        self.start().finish()
    }

    /// Runs it in the background.
    pub(crate) fn start(mut self) -> Running {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let out = Heard::from(child.stdout.take().unwrap());
        let err = Heard::from(child.stderr.take().unwrap());
        Running { child, call: self, out, err }
    }
}

/// A call that runs.
pub(crate) struct Running {
    child: Child,
    call: Call,
    out: Heard,
    err: Heard,
}

/// What comes out of a pipe, as it comes.
struct Heard {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

impl Heard {
    fn from(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut some = [0; 4096];
            while let Ok(len @ 1..) = pipe.read(&mut some) {
                heard.lock().unwrap().extend_from_slice(&some[..len]);
            }
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap()).into_owned()
    }

    fn all(self) -> String {
        self.reader.join().unwrap();
        let bytes = std::mem::take(&mut *self.bytes.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it has said this on stderr.
    pub(crate) fn until_said(&self, text: &str) {
        until(text, || self.err.so_far().contains(text));
    }

    /// Waits until it ends, and checks what is expected.
    pub(crate) fn finish(mut self) -> Said {
        let status = wait(&mut self.child);
        let (out, err) = (self.out.all(), self.err.all());
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
        Said { out, err }
    }
}

/// What a call printed.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
}
