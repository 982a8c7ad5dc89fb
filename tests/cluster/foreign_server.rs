//! Servers at the address of a lease server that are something else.

use crate::etcd::Etcd;
use crate::machine::Machine;
use crate::process::Outcome;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A web server that gives the same answer to all requests.
struct WebServer {
    port: u16,
    closed: Arc<AtomicBool>,
}

impl WebServer {
    fn start(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = Arc::new(AtomicBool::new(false));
        let thread_closed = Arc::clone(&closed);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if thread_closed.load(Ordering::SeqCst) {
                    return;
                }
                thread::spawn(move || answer_request(&client, status, body));
            }
        });
        Self { port, closed }
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Reads one request, and answers it.
fn answer_request(mut client: &TcpStream, status: &str, body: &str) {
    let mut reader = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        if line == "\r\n" {
            break;
        }
    }
    let _ = reader.read_exact(&mut vec![0; length]);
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = client.write_all(format!("{head}{body}").as_bytes());
}

#[test]
fn an_answer_that_a_lease_server_would_not_give_grants_nothing() {
    let bodies = [
        ("200 OK", "<html>Welcome</html>"),
        ("200 OK", "{}"),
        ("200 OK", r#"{"id":""}"#),
        ("200 OK", r#"{"id":"7","service":"deploy","ttl":"10s","locks":{}}"#),
        ("200 OK", r#"{"id":"7","service":"deploy","ttl":"10s","fencingToken":0}"#),
        ("200 OK", r#"{"id":"7","service":"deploy","ttl":"0s","fencingToken":3}"#),
        ("200 OK", r#"{"id":"7","service":"other","ttl":"10s","fencingToken":3}"#),
        ("200 OK", r#"{"header":{"revision":"7","raft_term":"2"},"ID":"1","TTL":"10"}"#),
        ("204 No Content", ""),
        ("302 Found", ""),
        ("404 Not Found", "default backend - 404"),
        ("409 Conflict", ""),
    ];
    for (status, body) in bodies {
        let web = WebServer::start(status, body);
        for scheme in ["http", "etcd"] {
            let machine = Machine::new(&format!("{scheme}://127.0.0.1:{}", web.port));
            let describe = |said: &Outcome| format!("{scheme} {status} {body}: {said:?}");
            for how in ["-n", "-w"] {
                let said = machine.aba(&["lock", how, "deploy", "--", "echo", "ran"]);
                assert_eq!((said.status, &*said.out), (125, ""), "{}", describe(&said));
                assert!(said.err.contains(" does not answer like "), "{}", describe(&said));
                assert!(!said.err.contains("ABA_LOCK_SERVER_SECRET_FILE"), "{}", describe(&said));
            }
            let said = machine.lease(&["acquire", "deploy"]);
            assert_eq!((said.status, &*said.out), (125, ""), "{}", describe(&said));
            for args in [&["renew", "deploy/7"], &["release", "deploy/7"]] {
                let id = if scheme == "http" { "7" } else { args[1] };
                // This answer to a renewal or release is valid.
                let valid = if scheme == "etcd" { r#""revision":"7""# } else { r#""id":"7""# };
                if !body.contains(valid) {
                    machine.lease(&[args[0], id]).status(125);
                }
            }
        }
    }
}

#[test]
fn an_endpoint_that_is_not_etcd_is_skipped() {
    let etcd = Etcd::start(1);
    let web = WebServer::start("200 OK", "<html>Welcome</html>");
    let machine = Machine::new(&format!("ETCD://127.0.0.1:{},127.0.0.1:{}", web.port, etcd.port(0)));
    for _ in 0..2 {
        machine.aba(&["lock", "-w", "deploy", "--", "echo", "ran"]).status(0).out("ran\n");
    }
}

#[test]
fn a_service_that_does_not_extend_a_lease_gives_none_for_several_steps() {
    let web = WebServer::start("200 OK", r#"{"id":"7","service":"deploy","ttl":"30s","fencingToken":3}"#);
    let machine = Machine::new(&format!("http://127.0.0.1:{}", web.port));
    machine.lease(&["acquire", "--ttl", "30s", "deploy"]).status(0).silent();
    let said = machine.lease(&["acquire", "--ttl", "1h", "deploy"]).status(125);
    said.err(" does not change the time to live of a lease").err("hint: update aba-lockd there\n");
}
