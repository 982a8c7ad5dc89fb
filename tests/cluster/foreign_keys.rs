//! What is none of ours: the keys of others in the same etcd, and servers that are no servers of leases.

use crate::scene::{Etcd, Machine, Said, said, signal, until};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn lease(machine: &Machine, args: &[&str]) -> Said {
    machine.aba(&[&["lease"], args].concat())
}

/// What etcd has at a key.
fn value(etcd: &Etcd, key: &str) -> String {
    said(&mut etcd.ctl(&["get", "--print-value-only", key])).status(0).out.trim_end().to_owned()
}

fn put(etcd: &Etcd, key: &str, value: &str) {
    said(&mut etcd.ctl(&["put", key, value])).status(0);
}

/// The number of the lease that the mark of a holder is under.
fn lease_of_mark(etcd: &Etcd) -> u64 {
    let said = said(&mut etcd.ctl(&["get", "deploy!holder", "-w", "json"])).status(0);
    let said: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    said["kvs"][0]["lease"].as_u64().unwrap_or(0)
}

#[test]
fn keys_of_others_are_neither_changed_nor_in_the_way_whatever_they_are_called() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    for (key, text) in [("version", "release 12"), ("myapp", "v1"), ("cfg/db-url", "x"), ("cfg/ff", "y")] {
        put(&etcd, key, text);
        let name = key.split('/').next().unwrap();
        machine.aba(&["lock", "-n", name, "--", "echo", "ran"]).status(0).out("ran\n").silent();
        until("it is given back", || lease(&machine, &["show", name]).status == 1);
        lease(&machine, &["acquire", "-n", name]).status(0);
        machine.aba(&["lock", "-n", name, "--", "true"]).status(75).err(&format!("{name} is already running: pid "));
        machine.aba(&["lock", "-t", "0.2", name, "--", "true"]).status(124);
        let id = lease(&machine, &["show", "--json", name]).status(0).out;
        let id: serde_json::Value = serde_json::from_str(&id).unwrap();
        lease(&machine, &["release", id["holder"]["lease"].as_str().unwrap()]).status(0);
        lease(&machine, &["show", name]).status(1);
        assert_eq!(value(&etcd, key), text, "{key}");
    }
    // It may look like a lease of ours, and is none.
    lease(&machine, &["release", "cfg/ff"]);
    assert_eq!(value(&etcd, "cfg/ff"), "y");
}

#[test]
fn who_waits_among_the_keys_of_others_has_the_lock_when_it_is_free() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    put(&etcd, "deploy/settings", "x");
    let held = lease(&machine, &["acquire", "deploy"]).status(0).out;
    put(&etcd, "deploy/more", "x");
    let mut command = machine.program(crate::scene::helper());
    command.args(["lease", "acquire", "-w", "deploy"]);
    let mut waiter = crate::scene::Script::start(command);
    assert!(waiter.error().contains("held by pid "));
    lease(&machine, &["release", held.trim()]).status(0);
    let id = waiter.line();
    assert_eq!(waiter.end(), 0);
    // A team whose prefix is called as a lock is has locks of its own.
    let team = Machine::new(&format!("{}/deploy", etcd.url()));
    lease(&team, &["acquire", "deploy"]).status(0);
    lease(&machine, &["release", &id]).status(0);
    lease(&machine, &["acquire", "deploy"]).status(0);
}

#[test]
fn what_stands_where_the_mark_of_a_holder_belongs_and_is_none_is_left_and_said() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    for text in ["v1", "release 12", r#"{"holder":"deploy/1f","of":"aba-lock","term":2}"#] {
        put(&etcd, "deploy!holder", text);
        for how in ["-n", "-w"] {
            machine
                .aba(&["lock", how, "deploy", "--", "echo", "ran"])
                .status(125)
                .err("the key deploy!holder in etcd is in the way")
                .err("hint: ");
        }
        assert_eq!((value(&etcd, "deploy!holder"), etcd.leases()), (text.to_owned(), Vec::new()));
    }
}

#[test]
fn after_a_crash_the_name_is_free_when_twice_the_time_has_passed_though_nobody_came_meanwhile() {
    let etcd = Etcd::start(1);
    let (one, other) = (Machine::new(&etcd.url()), Machine::new(&etcd.url()));
    let mut script = one.holder("deploy");
    until("both are there", || one.keepers("deploy").len() == 2);
    let keepers = one.keepers("deploy");
    for pid in &keepers {
        signal(pid, "STOP");
    }
    for pid in keepers {
        signal(pid, "KILL");
    }
    signal(script.pid(), "KILL");
    script.end();
    until("nothing is left", || etcd.keys().is_empty());
    other.aba(&["lock", "-n", "deploy", "--", "true"]).status(0).silent();
}

#[test]
fn the_mark_of_a_holder_is_renewed_by_a_leader_that_knows_nothing_of_the_time_before() {
    let etcd = Etcd::start(3);
    let machine = Machine::new(&etcd.url());
    let mut holder = machine.holder("deploy");
    let moves = |before: u64| {
        let mut now = 0;
        until("it is under another lease", || {
            now = lease_of_mark(&etcd);
            now != 0 && now != before
        });
        now
    };
    // At first it is not known in which term it was made.
    let first = moves(0);
    let known = moves(first);
    let leader = etcd.leader();
    etcd.freeze(leader);
    // The one that was stopped may end the leases that it knew as soon as it goes on.
    moves(known);
    etcd.thaw(leader);
    holder.go();
    assert_eq!(holder.line(), "done");
    assert_eq!(holder.end(), 0);
    until("nothing is left", || etcd.keys().is_empty());
}

// ---- servers that are none -----------------------------------------------------------------------------

/// A web server that gives the same answer to all.
struct Web {
    port: u16,
    closed: Arc<AtomicBool>,
}

impl Web {
    fn saying(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&closed);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                thread::spawn(move || answer(&client, status, body));
            }
        });
        Self { port, closed }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Reads one request, and answers.
fn answer(mut client: &TcpStream, status: &str, body: &str) {
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
fn an_answer_that_is_no_servers_of_leases_grants_nothing() {
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
        let web = Web::saying(status, body);
        for scheme in ["http", "etcd"] {
            let machine = Machine::new(&format!("{scheme}://127.0.0.1:{}", web.port));
            let context = |said: &Said| format!("{scheme} {status} {body}: {said:?}");
            for how in ["-n", "-w"] {
                let said = machine.aba(&["lock", how, "deploy", "--", "echo", "ran"]);
                assert_eq!((said.status, &*said.out), (125, ""), "{}", context(&said));
                assert!(said.err.contains(" does not speak "), "{}", context(&said));
                assert!(!said.err.contains("ABA_LOCK_SERVER_SECRET_FILE"), "{}", context(&said));
            }
            let said = lease(&machine, &["acquire", "deploy"]);
            assert_eq!((said.status, &*said.out), (125, ""), "{}", context(&said));
            for args in [&["renew", "deploy/7"], &["release", "deploy/7"]] {
                let id = if scheme == "http" { "7" } else { args[1] };
                // One that speaks as a server does is believed.
                let speaks = if scheme == "etcd" { r#""revision":"7""# } else { r#""id":"7""# };
                if !body.contains(speaks) {
                    lease(&machine, &[args[0], id]).status(125);
                }
            }
        }
    }
}

#[test]
fn an_endpoint_that_is_none_is_passed_over() {
    let etcd = Etcd::start(1);
    let web = Web::saying("200 OK", "<html>Welcome</html>");
    let machine = Machine::new(&format!("ETCD://127.0.0.1:{},127.0.0.1:{}", web.port, etcd.port(0)));
    machine.aba(&["lock", "-n", "deploy", "--", "echo", "ran"]).status(0).out("ran\n");
    machine.aba(&["lock", "-n", "deploy", "--", "echo", "ran"]).status(0).out("ran\n");
}

#[test]
fn a_lease_that_nobody_would_know_of_is_given_back() {
    let etcd = Etcd::start(1);
    let machine = Machine::new(&etcd.url());
    for to in [">/dev/full", ">&-", "--json >/dev/full"] {
        let script = format!("\"$HELPER\" lease acquire deploy {to}");
        machine.bash(&script).status(125).err("could not write");
        assert_eq!(etcd.keys(), Vec::<String>::new(), "{to}");
    }
}

#[test]
fn what_cannot_be_the_name_of_a_lease_is_no_lease() {
    for scheme in ["http", "etcd"] {
        // Nobody is asked.
        let machine = Machine::new(&format!("{scheme}://127.0.0.1:1"));
        for id in ["", "../../x", "a b", "..", "%2e"] {
            lease(&machine, &["release", id]).status(2).err(" is no lease");
            lease(&machine, &["renew", id]).status(2).err(" is no lease");
        }
    }
}
