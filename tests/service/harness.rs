//! A service of its own for each test, and calls to it. Every wait has a ceiling.

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The most that any wait in a test may last.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The service under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_aba-lockd");

pub(crate) const LOCK: &str = "/api/v1alpha1/lock";
pub(crate) const UNLOCK: &str = "/api/v1alpha1/unlock";
pub(crate) const LIST: &str = "/api/v1alpha1/locks/list";

/// A service that runs, until it is dropped.
pub(crate) struct Service {
    pub(crate) directory: Rc<TempDir>,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<ChildStderr>>,
    /// What it says after it has started, if nobody is to read that.
    pub(crate) unread: Option<ChildStderr>,
    /// Where REST is: HOST:PORT.
    pub(crate) rest: String,
    pub(crate) grpc: String,
}

/// How to start one.
pub(crate) struct Start {
    directory: Rc<TempDir>,
    command: Command,
    listen: (String, String),
    unread: bool,
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) text: String,
}

/// A connection that stays.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Start {
    pub(crate) fn new() -> Self {
        Self::of(Command::new(PROGRAM))
    }

    /// By a program that becomes the service: its arguments follow.
    pub(crate) fn of(mut command: Command) -> Self {
        let directory = Rc::new(tempfile::tempdir().unwrap());
        command.arg("serve").env("HOME", directory.path()).env_remove("XDG_STATE_HOME").env_remove("NOTIFY_SOCKET");
        Self { directory, command, listen: ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()), unread: false }
    }

    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it says after it has started is read by nobody.
    pub(crate) fn unread(self) -> Self {
        Self { unread: true, ..self }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it, and waits until it says that it listens.
    pub(crate) fn go(mut self) -> Service {
        self.command.args(["--listen", &self.listen.0, "--grpc-listen", &self.listen.1]);
        let mut child = self.command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (started, listens) = mpsc::channel();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut lines, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let reader = thread::spawn(move || {
            for line in lines.by_ref().lines().map_while(Result::ok) {
                let has_started = line.contains("\"event\":\"started\"");
                if has_started {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    let _ = started.send([&line["listen"], &line["grpc"]].map(|at| at.as_str().unwrap().to_owned()));
                }
                kept.lock().unwrap().push(line);
                if has_started && self.unread {
                    break;
                }
            }
            lines.into_inner()
        });
        let listens = listens.recv_timeout(PATIENCE);
        let (reader, unread) = match listens {
            Ok(_) if self.unread => (None, Some(reader.join().unwrap())),
            _ => (Some(reader), None),
        };
        let mut service =
            Service { directory: self.directory, child, log, reader, unread, rest: String::new(), grpc: String::new() };
        let [rest, grpc] = listens.unwrap_or_else(|_| panic!("it did not start: {:?}", service.kill()));
        service.rest = rest;
        service.grpc = grpc;
        service
    }

    /// Runs it to its end, which is at once: its exit status, and what it said.
    pub(crate) fn fails(mut self) -> (Option<i32>, String) {
        let mut timed = Command::new("timeout");
        timed.arg(PATIENCE.as_secs().to_string()).arg(self.command.get_program()).args(self.command.get_args());
        timed.env("HOME", self.directory.path()).env_remove("XDG_STATE_HOME");
        self.command = timed;
        let output = self.command.stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.stdout, b"");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }
}

impl Service {
    pub(crate) fn new() -> Self {
        Start::new().go()
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
        assert!(Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                if let Some(reader) = self.reader.take() {
                    reader.join().unwrap();
                }
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {:?}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL. What it had said.
    pub(crate) fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.ended();
        self.log()
    }

    /// Another on the same store and addresses, once this one has ended.
    pub(crate) fn again(mut self, args: &[&str]) -> Self {
        self.ended();
        let mut start = Start::new().args(args);
        start.command.env("HOME", self.directory.path());
        start.directory = Rc::clone(&self.directory);
        start.listen = (self.rest.clone(), self.grpc.clone());
        start.go()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(&self.rest)
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.connect().call(method, path, &[], body)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "")
    }

    /// Asks for the lock of `resource`, with more members of the request: `"ttl":"5s"`.
    pub(crate) fn ask(&self, resource: &str, who: &str, more: &str) -> Answer {
        self.call("POST", LOCK, &wanted(resource, who, more))
    }

    /// Takes it, and returns its id.
    pub(crate) fn take(&self, resource: &str, who: &str) -> String {
        self.ask(resource, who, "").lock()["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn unlock(&self, id: &str) -> Answer {
        self.get(&format!("{UNLOCK}/{id}"))
    }

    /// The only lock, or the one that a query finds.
    pub(crate) fn found(&self, query: &str) -> Vec<Value> {
        self.get(&format!("{LIST}?{query}")).ok()["locks"].as_array().unwrap().clone()
    }

    /// Waits until so many wait for `resource`.
    pub(crate) fn until_waiting(&self, resource: &str, number: usize) {
        until("they wait", || {
            let found = self.found(&format!("resource={resource}"));
            found.first().map_or(0, |lock| lock["queue"].as_array().map_or(0, Vec::len)) == number
        });
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

pub(crate) fn wanted(resource: &str, who: &str, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { "," };
    format!(r#"{{"service":"web","who":"{who}","environment":"prod","resource":"{resource}"{comma}{more}}}"#)
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Connection {
    pub(crate) fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), host: address.to_owned() }
    }

    /// Sends a request, and does not wait for the answer.
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        self.try_send(method, path, headers, body).unwrap();
    }

    fn try_send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<()> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            write!(text, "Host: {}\r\n", self.host).unwrap();
        }
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        self.stream.get_mut().write_all(format!("{text}\r\n{body}").as_bytes())
    }

    /// Sends it as it is. What does not fit into what the service does not read is not sent.
    pub(crate) fn send_more(&mut self, text: &str) {
        let stream = self.stream.get_mut();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write_all(text.as_bytes());
        stream.set_nonblocking(false).unwrap();
    }

    /// Sends no more, and reads on.
    pub(crate) fn end(&mut self) {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// The next line of what is answered.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        self.try_answer(method).unwrap()
    }

    fn try_answer(&mut self, method: &str) -> std::io::Result<Answer> {
        let (mut headers, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            let line = line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            headers += &line;
        }
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, headers, text: String::from_utf8(body).unwrap() })
    }

    pub(crate) fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(method, path, headers, body);
        self.answer(method)
    }

    /// The same, of a service that may end meanwhile.
    pub(crate) fn try_call(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        self.try_send(method, path, &[], body)?;
        self.try_answer(method)
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body of a success.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// The lock in the body of a success.
    pub(crate) fn lock(&self) -> Value {
        self.ok()["lock"].clone()
    }

    pub(crate) fn id(&self) -> String {
        self.lock()["id"].as_str().unwrap().to_owned()
    }

    /// It is this refusal, and no script takes it for a lock.
    pub(crate) fn is_refused(&self, status: u16, code: u64) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert_eq!(body["code"], code, "{self:?}");
        assert!(body.get("id").is_none() && body.get("lock").is_none(), "{self:?}");
        assert!(body["message"].is_string() && body["details"].as_array().unwrap().is_empty(), "{self:?}");
        body
    }
}

/// Runs a program to its end: it succeeds, and this is what it printed.
pub(crate) fn output_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {:?} {said}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A directory for what tests fetch, that is kept from one run to the next.
pub(crate) fn kept() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}
