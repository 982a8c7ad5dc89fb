//! Compares `aba-lock lock` over etcd with `etcdctl lock`. Measures whole processes, from their start until the lease
//! is given back, with one node on loopback.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a separate program, to which the rules of the keeper do not apply"
)]

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ROUNDS: usize = 100;

fn main() {
    let variable =
        |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: `make bench-cluster`"));
    let (helper, keeper) = (variable("ABA_LOCK_BIN"), variable("ABA_LOCK_KEEPER"));
    let directory = std::env::temp_dir().join(format!("aba-lock-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (client, peer) = (port(), port());
    let etcd = Etcd::start(&directory, client, peer);
    let time_lock = |options: &[&str]| {
        let mut command = Command::new(&helper);
        command.env("ABA_LOCK_DIR", directory.join("locks")).env("ABA_LOCK_KEEPER", &keeper);
        command.env("ABA_LOCK_SERVER", format!("etcd://127.0.0.1:{client}")).env_remove("ABA_LOCK_FDS");
        command.arg("lock").args(options).args(["deploy", "--", "true"]);
        measure(command)
    };
    let time_etcdctl = || {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &format!("127.0.0.1:{client}"), "lock", "deploy", "true"]);
        measure(command)
    };
    let mut times: [Vec<Duration>; 3] = Default::default();
    // By turns, so that other load on the machine affects all of them.
    for round in 0..ROUNDS + 5 {
        // The keeper of the last call may still be giving its lease back, and the next call waits for that.
        let now = [time_lock(&["-w", "-q"]), time_lock(&["-w", "-q", "-o"]), time_etcdctl()];
        for (all, one) in times.iter_mut().zip(now).filter(|_| round >= 5) {
            all.push(one);
        }
    }
    drop(etcd);
    let _ = std::fs::remove_dir_all(&directory);
    let [become_it, stay, etcdctl] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e3
    });
    for (what, time) in [("lock -- true, over etcd", become_it), ("lock -o -- true, over etcd", stay)] {
        println!("{what:<28} {:.2} of etcdctl lock   ({time:.1} and {etcdctl:.1} milliseconds)", time / etcdctl);
    }
}

fn measure(mut command: Command) -> Duration {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
    let start = Instant::now();
    assert!(command.status().unwrap().success(), "{command:?}");
    start.elapsed()
}

struct Etcd(Child);

impl Etcd {
    fn start(directory: &Path, client: u16, peer: u16) -> Self {
        let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(directory.join("etcd"));
        command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
        command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
        command.args(["--initial-cluster", &format!("default={peer_url}")]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", client)).is_err() {
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_secs(1));
        Self(child)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
