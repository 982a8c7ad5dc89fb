//! Starts a service for a test, and calls it over REST. Every wait has a timeout ([`TIMEOUT`]).

use crate::http::{Answer, Connection, TIMEOUT};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The service under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_aba-lockd");

pub(crate) const LOCK: &str = "/api/v1alpha1/lock";
pub(crate) const UNLOCK: &str = "/api/v1alpha1/unlock";
pub(crate) const LIST: &str = "/api/v1alpha1/locks/list";

/// A running service. Dropping it kills the service.
pub(crate) struct Service {
    pub(crate) directory: Rc<TempDir>,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    log_reader: Option<JoinHandle<ChildStderr>>,
    /// The log after the start, if [`Start::without_log_reader`] was called.
    pub(crate) unread_log: Option<ChildStderr>,
    /// The value of `--store`, if it was given.
    store_name: Option<String>,
    /// The address of REST, HOST:PORT.
    pub(crate) rest: String,
    pub(crate) grpc: String,
}

/// The command line of a service that is not started yet.
pub(crate) struct Start {
    directory: Rc<TempDir>,
    command: Command,
    listen: (String, String),
    reads_log: bool,
    store_name: Option<String>,
}

impl Start {
    pub(crate) fn new() -> Self {
        Self::with_command(Command::new(PROGRAM))
    }

    /// Starts the service through a program that executes it. The arguments of the service are added to the command.
    pub(crate) fn with_command(mut command: Command) -> Self {
        let directory = Rc::new(tempfile::tempdir().unwrap());
        command.arg("serve").env("HOME", directory.path()).env_remove("XDG_STATE_HOME").env_remove("NOTIFY_SOCKET");
        Self {
            directory,
            command,
            listen: ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()),
            reads_log: true,
            store_name: None,
        }
    }

    /// Starts the service through a bash script that ends with `exec "$0" "$@"`.
    pub(crate) fn with_script(script: &str) -> Self {
        let mut command = Command::new("bash");
        command.args(["-c", script, PROGRAM]);
        Self::with_command(command)
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn store(self, store: &str) -> Self {
        Self { store_name: Some(store.to_owned()), ..self.args(&["--store", store]) }
    }

    /// Uses a file in the directory of the test, with this text, as the token file.
    pub(crate) fn token_file(self, text: &str) -> Self {
        let file = self.path("tokens");
        write_file(&file, text);
        self.args(&["--token-file", file.to_str().unwrap()])
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Leaves the log unread after the start.
    pub(crate) fn without_log_reader(self) -> Self {
        Self { reads_log: false, ..self }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the service, and waits until it listens.
    pub(crate) fn start(mut self) -> Service {
        self.command.args(["--listen", &self.listen.0, "--grpc-listen", &self.listen.1]);
        let mut child = self.command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (started, listens) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut lines, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let log_reader = thread::spawn(move || {
            for line in lines.by_ref().lines().map_while(Result::ok) {
                let has_started = line.contains("\"event\":\"started\"");
                if has_started {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    let _ = started.send([&line["listen"], &line["grpc"]].map(|at| at.as_str().unwrap().to_owned()));
                }
                kept.lock().unwrap().push(line);
                if has_started && !self.reads_log {
                    break;
                }
            }
            lines.into_inner()
        });
        let listens = listens.recv_timeout(TIMEOUT);
        let (log_reader, unread_log) = match listens {
            Ok(_) if !self.reads_log => (None, Some(log_reader.join().unwrap())),
            _ => (Some(log_reader), None),
        };
        let (rest, grpc) = (String::new(), String::new());
        let (directory, store_name) = (self.directory, self.store_name);
        let mut service = Service { directory, child, log, log_reader, unread_log, store_name, rest, grpc };
        [service.rest, service.grpc] =
            listens.unwrap_or_else(|_| panic!("the service does not start: {:?}", service.kill()));
        service
    }

    /// Runs a service that must exit by itself. Returns its exit status and its output.
    pub(crate) fn run(mut self) -> (Option<i32>, String) {
        let mut timed = Command::new("timeout");
        timed.arg(TIMEOUT.as_secs().to_string()).arg(self.command.get_program()).args(self.command.get_args());
        timed.env("HOME", self.directory.path()).env_remove("XDG_STATE_HOME");
        self.command = timed;
        let output = self.command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.stdout, b"");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Runs a service that must refuse to start with this exit status. Returns its output.
    pub(crate) fn run_and_expect(self, status: i32) -> String {
        let (code, output) = self.run();
        assert_eq!(code, Some(status), "{output}");
        output
    }
}

impl Service {
    pub(crate) fn new() -> Self {
        Start::new().start()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path(".local/state/aba-lock/lockd.db")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.pid(), name);
    }

    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                if let Some(reader) = self.log_reader.take() {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(begun.elapsed() < TIMEOUT, "the service does not exit: {:?}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends the service with SIGTERM. All calls must have been answered.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
        assert_eq!(self.wait_for_exit().code(), Some(0));
    }

    /// Ends the service with SIGKILL. Returns its log.
    pub(crate) fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.wait_for_exit();
        self.log()
    }

    /// Waits until this service has exited, and starts another one with the same store and addresses.
    pub(crate) fn restart(mut self, args: &[&str]) -> Self {
        self.wait_for_exit();
        let mut start = Start::new().args(args);
        start.command.env("HOME", self.directory.path());
        start.directory = Rc::clone(&self.directory);
        start.listen = (self.rest.clone(), self.grpc.clone());
        start.start()
    }

    /// As [`Self::restart`], with the value of `--store` of this service.
    pub(crate) fn restart_with_its_store(self) -> Self {
        let store = self.store_name.clone();
        let args: Vec<&str> = store.iter().flat_map(|store| ["--store", store]).collect();
        let mut service = self.restart(&args);
        service.store_name.clone_from(&store);
        service
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until a line of the log contains all these words.
    pub(crate) fn wait_for_log(&self, words: &[&str]) {
        wait_until(&words.join(" "), || self.log().iter().any(|line| words.iter().all(|word| line.contains(word))));
    }

    /// Returns the number of log lines with this event.
    pub(crate) fn count_logged(&self, event: &str) -> usize {
        let event = format!("\"event\":\"{event}\"");
        self.log().iter().filter(|line| line.contains(&event)).count()
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::new(&self.rest)
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.connect().call(method, path, &[], body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "")
    }

    /// Requests the lock of `resource`, with more members in the request, such as `"ttl":"5s"`.
    pub(crate) fn request(&self, resource: &str, who: &str, more: &str) -> Answer {
        self.call("POST", LOCK, &request_body(resource, who, more))
    }

    /// Acquires the lock of `resource`, and returns its id.
    pub(crate) fn acquire(&self, resource: &str, who: &str) -> String {
        self.request(resource, who, "").id()
    }

    /// Sends a request for the lock of `db` that is expected to wait, and returns the connection for the answer.
    pub(crate) fn start_waiting(&self, who: &str, more: &str) -> Connection {
        self.start_waiting_for("db", who, more)
    }

    pub(crate) fn start_waiting_for(&self, resource: &str, who: &str, more: &str) -> Connection {
        let mut connection = self.connect();
        connection.send("POST", LOCK, &[], &request_body(resource, who, more));
        connection
    }

    /// Acquires and releases the lock of `db`, and returns its fencing token.
    pub(crate) fn take_token(&self) -> u64 {
        let lock = self.request("db", "ann", "").lock();
        self.unlock(lock["id"].as_str().unwrap()).ok();
        lock["fencingToken"].as_u64().unwrap()
    }

    pub(crate) fn unlock(&self, id: &str) -> Answer {
        self.get(&format!("{UNLOCK}/{id}"))
    }

    /// Returns the locks that a query selects.
    pub(crate) fn list(&self, query: &str) -> Vec<Value> {
        self.get(&format!("{LIST}?{query}")).ok()["locks"].as_array().unwrap().clone()
    }

    /// Waits until this number of callers wait for `resource`.
    pub(crate) fn wait_for_waiters(&self, resource: &str, number: usize) {
        wait_until("they wait", || {
            let found = self.list(&format!("resource={resource}"));
            found.first().map_or(0, |lock| lock["queue"].as_array().map_or(0, Vec::len)) == number
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.log_reader.take() {
            let _ = reader.join();
        }
    }
}

pub(crate) fn request_body(resource: &str, who: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(r#"{{"service":"web","who":"{who}","environment":"prod","resource":"{resource}"{comma}{more}}}"#)
}

/// Waits until `is_done` returns true. The failure reports `what` was expected.
pub(crate) fn wait_until(what: &str, mut is_done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_done() {
        assert!(begun.elapsed() < TIMEOUT, "timeout while waiting until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn send_signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

pub(crate) fn write_file(path: &Path, text: &str) {
    aba_lock::os::replace::replace_file(path, text.as_bytes()).unwrap();
}

/// Runs a program that must succeed, and returns its standard output.
pub(crate) fn run_program(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {:?} {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A directory below `target`, for downloads and screenshots.
pub(crate) fn cache_directory() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
