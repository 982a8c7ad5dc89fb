//! Measures the lock service over loopback: the time of acquiring and releasing a lock, the number of calls a second,
//! and the effect of held locks on both and on memory. This program is also the client.
//!
//! Run it with `make bench-service`. The option `--json` prints the results for programs.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a benchmark fails by panicking, and prints its results"
)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const API: &str = "/api/v1alpha1";

/// The numbers of held locks.
const HELD: [usize; 3] = [0, 10_000, 100_000];

/// The numbers of concurrent clients.
const CLIENTS: [usize; 3] = [1, 8, 64];

/// The duration of each measurement.
const DURATION: Duration = Duration::from_secs(3);

struct Service {
    child: Child,
    address: String,
    _directory: tempfile::TempDir,
}

impl Service {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = format!("sqlite:{}", directory.path().join("lockd.db").display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_aba-lockd"))
            .args(["serve", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--store", &store])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let started: Value = serde_json::from_str(&line).unwrap();
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address: started["listen"].as_str().unwrap().to_owned(), _directory: directory }
    }

    /// Returns the resident memory of the service in MiB, now and at its maximum.
    fn measure_memory(&self) -> (f64, f64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let read = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
        };
        (read("VmRSS"), read("VmHWM"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(BufReader::new(stream))
    }

    fn call(&mut self, method: &str, path: &str, body: &str) -> String {
        let length = body.len();
        let text =
            format!("{method} {API}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
        let (mut length, mut line, mut first) = (0, String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if first.is_empty() {
                first.clone_from(&line);
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        assert!(first.contains(" 200 "), "{first}");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }

    fn acquire(&mut self, resource: &str) -> String {
        let body = format!(r#"{{"service":"bench","who":"bench","environment":"e","resource":"{resource}"}}"#);
        let answer: Value = serde_json::from_str(&self.call("POST", "/lock", &body)).unwrap();
        answer["id"].as_str().unwrap().to_owned()
    }

    fn release(&mut self, id: &str) {
        self.call("DELETE", &format!("/lock/{id}"), "");
    }
}

/// Acquires the locks with these numbers, and keeps them.
fn hold_locks(address: &str, from: usize, to: usize) {
    let next = Arc::new(AtomicUsize::new(from));
    let threads: Vec<_> = (0..32)
        .map(|_| {
            let (address, next) = (address.to_owned(), Arc::clone(&next));
            thread::spawn(move || {
                let mut client = Client::new(&address);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= to {
                        return;
                    }
                    client.acquire(&format!("held{number}"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Acquires and releases locks, a different one for each client. Returns the sorted durations of the calls, and the
/// total time.
fn measure_calls(address: &str, clients: usize) -> (Vec<Duration>, Duration) {
    let begun = Instant::now();
    let threads: Vec<_> = (0..clients)
        .map(|number| {
            let address = address.to_owned();
            thread::spawn(move || {
                let mut client = Client::new(&address);
                let mut took = Vec::new();
                while begun.elapsed() < DURATION {
                    let one = Instant::now();
                    let id = client.acquire(&format!("own{number}"));
                    took.push(one.elapsed());
                    let one = Instant::now();
                    client.release(&id);
                    took.push(one.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took: Vec<Duration> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let all = begun.elapsed();
    took.sort();
    (took, all)
}

fn main() {
    let as_json = std::env::args().any(|arg| arg == "--json");
    let service = Service::start();
    let mut rows = Vec::new();
    let mut held = 0;
    if !as_json {
        println!("{:>8} {:>8} {:>10} {:>9} {:>9} {:>9}", "held", "clients", "calls/s", "p50 ms", "p99 ms", "max ms");
    }
    for number in HELD {
        hold_locks(&service.address, held, number);
        held = number;
        for clients in CLIENTS {
            let (took, all) = measure_calls(&service.address, clients);
            let at = |part: usize| took[(took.len() - 1) * part / 1000].as_secs_f64() * 1000.0;
            #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
            let rate = took.len() as f64 / all.as_secs_f64();
            if !as_json {
                let (p50, p99, max) = (at(500), at(990), at(1000));
                println!("{held:>8} {clients:>8} {rate:>10.0} {p50:>9.3} {p99:>9.3} {max:>9.3}");
            }
            rows.push(json!({"row": "lock and unlock", "held": held, "clients": clients, "calls": took.len(),
                "calls_per_second": rate, "p50_ms": at(500), "p99_ms": at(990), "max_ms": at(1000)}));
        }
        let mut client = Client::new(&service.address);
        let (idle, most) = service.measure_memory();
        let mut list = |path: &str| {
            let begun = Instant::now();
            let length = client.call("GET", path, "").len();
            (begun.elapsed().as_secs_f64() * 1000.0, length)
        };
        let (page, _) = list("/locks/list?per_page=100");
        let (all, bytes) = list("/locks/list");
        if !as_json {
            println!(
                "{held:>8} a page of 100: {page:.2} ms, all: {all:.1} ms, {bytes} bytes; memory {idle:.1} MiB, at most {most:.1} before"
            );
        }
        rows.push(json!({"row": "list and memory", "held": held, "page_ms": page, "all_ms": all, "all_bytes": bytes,
            "rss_mib": idle, "rss_most_mib": most}));
    }
    if as_json {
        println!("{}", json!({"cores": thread::available_parallelism().map_or(0, usize::from), "rows": rows}));
    }
}
