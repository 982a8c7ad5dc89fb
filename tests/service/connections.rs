//! The limits of connections.

use crate::harness::{LIST, LOCK, Start, request_body, wait_until};
use crate::http::{Connection, TIMEOUT};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// A service that may open 64 descriptors, and so accepts 16 connections.
fn start_with_few_connections() -> Start {
    Start::with_script("ulimit -n 64; exec \"$0\" \"$@\"")
}

#[test]
fn waiters_leave_connections_free_for_the_holder() {
    let service = start_with_few_connections().start();
    let id = service.request("db", "ann", r#""ttl":"10m""#).id();
    let wait = || service.start_waiting("bob", r#""wait":"1h""#);
    let mut waiters: Vec<Connection> = (0..12).map(|_| wait()).collect();
    service.wait_for_waiters("db", 12);
    for _ in 0..8 {
        wait().answer("POST").expect_refusal(429, 8);
    }
    service.call("PUT", &format!("{LOCK}/{id}/renew"), "").ok();
    // A waiter that leaves makes room for another one.
    waiters.pop();
    service.wait_for_waiters("db", 11);
    wait_until("another caller may wait", || {
        waiters.push(wait());
        service.list("resource=db")[0]["queue"].as_array().unwrap().len() == 12
    });
    service.unlock(&id).ok();
}

#[test]
fn clients_that_send_no_complete_request_block_others_only_briefly() {
    let service = start_with_few_connections().token_file("ci lock:read,lock:write secret\n").start();
    let call = |connection: &mut Connection, method: &str, path: &str, more: &str| {
        connection.send(method, path, &[("Authorization", "Bearer secret")], &request_body("db", "ann", more));
    };
    let mut holder = service.connect();
    call(&mut holder, "POST", LOCK, "");
    let id = holder.answer("POST").id();
    let mut waiter = service.connect();
    call(&mut waiter, "POST", LOCK, r#""wait":"60s""#);
    let open = |address: &str, text: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream
    };
    let half_a_body = format!("POST {LOCK} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{");
    let mut silent = Vec::new();
    for _ in 0..4 {
        for text in ["", "GET / HTTP/1.1\r\nHo", &half_a_body] {
            silent.push(open(&service.rest, text));
        }
        for text in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            silent.push(open(&service.grpc, text));
        }
    }
    // A later client is answered, and the earlier waiter keeps its place.
    let mut other = service.connect();
    call(&mut other, "DELETE", &format!("{LOCK}/{id}"), "");
    other.answer("DELETE").ok();
    assert_eq!(waiter.answer("POST").lock()["who"], "ann");
    // The service closes all of their connections.
    for mut stream in silent {
        let _ = stream.read_to_end(&mut Vec::new()).map_err(|error| assert_ne!(error.kind(), ErrorKind::WouldBlock));
    }
}

#[test]
fn the_service_raises_its_limit_of_open_files_to_accept_more_connections() {
    let service = Start::with_script("ulimit -Sn 64; exec \"$0\" \"$@\"").start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.pid())).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.contains("open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "{limits}");
    let silent: Vec<_> = (0..300).map(|_| TcpStream::connect(&service.rest).unwrap()).collect();
    service.acquire("db", "ann");
    drop(silent);
}

#[test]
fn clients_whose_calls_are_refused_do_not_block_others() {
    let service = start_with_few_connections().token_file("ci lock:read,lock:write secret\n").start();
    let token = [("Authorization", "Bearer secret")];
    let mut holder = service.connect();
    let id = holder.call("POST", LOCK, &token, &request_body("db", "ann", r#""ttl":"10m""#)).id();
    let (over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Strangers connect again when the service closes their connection.
    let address = service.rest.as_str();
    let stranger = |path: &str| {
        while !over.load(Ordering::SeqCst) {
            let mut stranger = Connection::new(address);
            while !over.load(Ordering::SeqCst) && stranger.try_call("GET", path, "").is_ok() {
                refused.fetch_add(1, Ordering::SeqCst);
                // Slower, because there are more strangers than processors.
                thread::sleep(Duration::from_millis(20));
            }
        }
    };
    thread::scope(|scope| {
        for path in ["/nosuch", LIST, "/healthz"].into_iter().cycle().take(30) {
            let stranger = &stranger;
            scope.spawn(move || stranger(path));
        }
        let guard = SetOnDrop(&over);
        wait_until("they are refused", || refused.load(Ordering::SeqCst) > 60);
        for _ in 0..3 {
            service.connect().call("PUT", &format!("{LOCK}/{id}/renew"), &token, "").ok();
            // The connection of a client with a token stays open.
            holder.call("PUT", &format!("{LOCK}/{id}/renew"), &token, "").ok();
            service.get("/healthz").ok();
        }
        drop(guard);
    });
}

/// Sets the flag when it is dropped, also if the test fails.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
