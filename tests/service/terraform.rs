//! The locks of Terraform and `OpenTofu`: the requests of their backend `http`, and the client itself if it is installed.

use crate::etcd_server::EtcdServer;
use crate::harness::{LIST, Service, Start, wait_until, write_file};
use crate::http::Answer;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

const STATE: &str = "/terraform/net/prod";

/// Returns a lock info as the clients send it.
fn info(id: &str, who: &str) -> String {
    format!(
        r#"{{"ID":"{id}","Operation":"OperationTypeApply","Info":"","Who":"{who}","Version":"1.9.0","Created":"2026-11-30T14:00:00.123456789Z","Path":""}}"#
    )
}

/// Sends a request as the clients do, with Basic credentials in base64.
fn send(service: &Service, basic: &str, method: &str, path: &str, body: &str) -> Answer {
    let credentials = format!("Basic {basic}");
    let mut headers = vec![("User-Agent", "Go-http-client/1.1"), ("Content-Type", "application/json")];
    if !basic.is_empty() {
        headers.push(("Authorization", &credentials));
    }
    service.connect().call(method, path, &headers, body)
}

fn call(service: &Service, method: &str, body: &str) -> Answer {
    send(service, "", method, STATE, body)
}

#[test]
fn the_second_client_gets_the_lock_info_of_the_first() {
    expect_exclusion(&Service::new());
}

#[test]
fn a_state_is_locked_in_etcd_as_well() {
    let etcd = EtcdServer::start();
    expect_exclusion(&etcd.start_service());
}

fn expect_exclusion(service: &Service) {
    for (lock, unlock) in [("LOCK", "UNLOCK"), ("PUT", "DELETE"), ("POST", "DELETE")] {
        let (first, second) = (info("1-a", "ann@laptop"), info("2-b", "bob@ci"));
        let answer = call(service, lock, &first);
        assert_eq!((answer.status, answer.json()), (200, serde_json::from_str(&first).unwrap()));
        let held = &service.list("service=terraform/net/prod")[0];
        assert_eq!((&held["who"], &held["eventId"]), (&json!("ann@laptop"), &json!("1-a")), "{held}");
        for method in [lock, unlock] {
            let refused = call(service, method, &second);
            let expected = if method == lock { 423 } else { 409 };
            assert_eq!(refused.status, expected, "{refused:?}");
            assert_eq!(refused.json(), serde_json::from_str::<Value>(&first).unwrap());
        }
        // Another state has another lock.
        assert_eq!(send(service, "", lock, "/terraform/net/test", &second).status, 200);
        assert_eq!(send(service, "", unlock, "/terraform/net/test", &second).status, 200);
        assert_eq!(call(service, unlock, &first).status, 200);
        assert_eq!(call(service, lock, &second).status, 200);
        assert_eq!(call(service, unlock, &second).status, 200);
        // The client must learn that it has lost its lock.
        call(service, unlock, &second).expect_refusal(404, 5);
    }
    assert!(service.list("").is_empty());
}

#[test]
fn force_unlock_which_sends_no_body_releases_the_lock() {
    let service = Service::new();
    for method in ["UNLOCK", "DELETE"] {
        assert_eq!(call(&service, "LOCK", &info("1", "ann")).status, 200);
        assert_eq!(call(&service, method, "").json()["ID"], "1");
        call(&service, method, "").expect_refusal(404, 5);
    }
    // The clients send the empty body in chunks.
    assert_eq!(call(&service, "LOCK", &info("1", "ann")).status, 200);
    let mut connection = service.connect();
    connection.send_bytes(&format!(
        "UNLOCK {STATE} HTTP/1.1\r\nHost: x.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ));
    assert_eq!(connection.answer("UNLOCK").json()["ID"], "1");
}

#[test]
fn a_client_that_sends_its_request_again_gets_its_own_lock() {
    let service = Service::new();
    let path = format!("{STATE}?ttl=1h");
    let expires = || service.list("")[0]["expiresAt"].as_str().unwrap().to_owned();
    assert_eq!(send(&service, "", "LOCK", &path, &info("1", "ann")).status, 200);
    let before = expires();
    assert_eq!(send(&service, "", "LOCK", &path, &info("1", "ann")).status, 200);
    assert!(expires() > before);
    assert_eq!(send(&service, "", "LOCK", STATE, &info("1", "ann")).status, 200);
    assert_eq!(service.list("").len(), 1);
}

#[test]
fn the_lock_of_a_state_can_have_a_time_to_live_and_the_client_can_wait() {
    let service = Service::new();
    assert_eq!(send(&service, "", "LOCK", &format!("{STATE}?ttl=300ms"), &info("1", "ann")).status, 200);
    // The waiter gets the lock when it expires.
    let second = send(&service, "", "LOCK", &format!("{STATE}?ttl=90s&wait=1m"), &info("2", "bob"));
    assert_eq!(second.status, 200, "{second:?}");
    assert_eq!(service.list("")[0]["ttl"], "90s");
    // The first client is not told that its lock was released.
    assert_eq!(call(&service, "UNLOCK", &info("1", "ann")).status, 409);
    assert_eq!(send(&service, "", "LOCK", &format!("{STATE}?wait=10ms"), &info("3", "eve")).status, 423);
}

#[test]
fn a_call_about_the_state_is_refused_and_never_with_404() {
    let service = Service::new();
    let state = r#"{"version":4,"terraform_version":"1.9.0","serial":1,"lineage":"x","outputs":{},"resources":[]}"#;
    for (method, path, body) in [
        ("GET", STATE, ""),
        ("HEAD", STATE, ""),
        ("PATCH", STATE, ""),
        ("PROPFIND", STATE, ""),
        ("POST", STATE, state),
        ("PUT", "/terraform/net/prod?ID=1", state),
    ] {
        let answer = send(&service, "", method, path, body);
        assert_eq!(answer.status, 405, "{method}: {answer:?}");
        assert!(answer.headers.contains("allow: put, post, delete"), "{answer:?}");
        assert!(method == "HEAD" || answer.text.contains("aba-lockd stores no state"), "{answer:?}");
    }
    assert!(service.list("").is_empty());
}

#[test]
fn an_invalid_request_locks_no_state() {
    let service = Service::new();
    let long = info(&"x".repeat(1025), "ann");
    let longer = format!(r#"{{"ID":"1","Info":"{}"}}"#, "x".repeat(9000));
    for (path, body) in [
        (STATE, ""),
        (STATE, "{}"),
        (STATE, "[]"),
        (STATE, "x"),
        (STATE, r#"{"ID":""}"#),
        (STATE, r#"{"ID":7}"#),
        (STATE, r#"{"ID":"1","Who":null}"#),
        (STATE, r#"{"ID":"1","Path":[]}"#),
        (STATE, &long),
        (STATE, &longer),
        ("/terraform/net/prod?TTL=1h", &info("1", "ann")),
        ("/terraform/net/prod?ttl=soon", &info("1", "ann")),
        ("/terraform/net/prod?wait=-1", &info("1", "ann")),
        ("/terraform/%ff", &info("1", "ann")),
        (&format!("/terraform/{}", "x".repeat(1025)), &info("1", "ann")),
    ] {
        send(&service, "", "LOCK", path, body).expect_refusal(400, 3);
    }
    send(&service, "", "LOCK", "/terraform/", &info("1", "ann")).expect_refusal(404, 5);
    send(&service, "", "LOCK", STATE, &format!(r#"{{"ID":"{}"}}"#, "x".repeat(70_000))).expect_refusal(413, 8);
    for body in ["{}", "x", r#"{"ID":""}"#] {
        send(&service, "", "UNLOCK", STATE, body).expect_refusal(400, 3);
    }
    assert!(service.list("").is_empty());
    // A long name of a client is shortened in the list, but not in the lock info.
    let long = info("1", &"é".repeat(1025));
    assert_eq!(call(&service, "LOCK", &long).json(), serde_json::from_str::<Value>(&long).unwrap());
    assert_eq!(service.list("")[0]["who"].as_str().unwrap().len(), 1024);
    assert_eq!(call(&service, "UNLOCK", &long).status, 200);
    // Blanks and line breaks in a name are a part of it. A lock info needs only the ID.
    assert_eq!(send(&service, "", "LOCK", "/terraform/a%20b%0d%0ac", r#"{"ID":"1"}"#).status, 200);
    assert_eq!(service.list("")[0]["service"], "terraform/a b\r\nc");
}

#[test]
fn a_lock_of_another_api_holds_the_state_as_well() {
    let service = Service::new();
    let body = r#"{"service":"terraform/net/prod","who":"backup.sh"}"#;
    let id = service.call("POST", crate::harness::LOCK, body).id();
    let refused = call(&service, "LOCK", &info("1", "ann"));
    assert_eq!((refused.status, &refused.json()["Who"], &refused.json()["ID"]), (423, &json!("backup.sh"), &json!(id)));
    // The clients parse the time.
    refused.json()["Created"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(call(&service, "UNLOCK", &info(&id, "ann")).status, 200);
    // Locks of this service with a resource are other locks.
    let body = r#"{"service":"terraform/net/prod","resource":"x","who":"backup.sh"}"#;
    service.call("POST", crate::harness::LOCK, body).id();
    call(&service, "UNLOCK", "").expect_refusal(404, 5);
    assert_eq!(call(&service, "LOCK", &info("1", "ann")).status, 200);
}

#[test]
fn of_many_clients_one_locks_the_state() {
    let service = Service::new();
    let address = &service.rest;
    let locked = thread::scope(|scope| {
        let clients = (0..32).map(|number| {
            scope.spawn(move || {
                let body = info(&number.to_string(), "ann");
                crate::http::Connection::new(address).call("LOCK", STATE, &[], &body).status
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<u16>>()
    });
    assert_eq!(locked.iter().filter(|status| **status == 200).count(), 1, "{locked:?}");
    assert_eq!(locked.iter().filter(|status| **status == 423).count(), 31, "{locked:?}");
}

/// Basic credentials: base64 of `ann:ann`, and so on. The user name of `ANY` is not that of the token.
const ANN: &str = "YW5uOmFubg==";
const ANY: &str = "YW55OmFubg==";
const BOB: &str = "Ym9iOmJvYg==";
const OPS: &str = "b3BzOm9wcw==";
const NET: &str = "bmV0Om5ldA==";

#[test]
fn a_state_is_locked_and_unlocked_with_the_permissions_of_a_token() {
    let tokens =
        "ann lock:write ann\nbob lock:write bob\nops lock:admin:terraform/* ops\nnet lock:write:terraform/net/* net\n";
    let service = Start::new().token_file(tokens).start();
    let own = info("1", "ann@laptop");
    for basic in ["", "eDp5"] {
        let refused = send(&service, basic, "LOCK", STATE, &own);
        refused.expect_refusal(401, 16);
        assert!(refused.headers.contains("www-authenticate: bearer realm=\"aba-lockd\""), "{refused:?}");
        assert!(refused.headers.contains("www-authenticate: basic realm=\"aba-lockd\""), "{refused:?}");
    }
    // Browsers would ask for a password on the other paths.
    assert!(!service.get(LIST).headers.contains("basic"));
    assert_eq!(send(&service, ANN, "LOCK", STATE, &own).status, 200);
    // The user name does not matter.
    assert_eq!(send(&service, ANY, "LOCK", STATE, &own).status, 200);
    let refused = send(&service, BOB, "LOCK", STATE, &info("2", "bob"));
    assert_eq!((refused.status, &refused.json()["Who"]), (423, &json!("ann@laptop")));
    // Neither the ID of another client nor force-unlock helps.
    assert_eq!(send(&service, BOB, "LOCK", STATE, &own).status, 423);
    for body in [own.as_str(), ""] {
        let refusal = send(&service, BOB, "UNLOCK", STATE, body).expect_refusal(403, 7);
        assert_eq!(refusal["message"], "the lock belongs to ann, and the token of bob does not permit lock:admin");
    }
    assert_eq!(send(&service, OPS, "UNLOCK", STATE, "").status, 200);
    assert_eq!(send(&service, NET, "LOCK", STATE, &own).status, 200);
    assert_eq!(send(&service, NET, "UNLOCK", STATE, &own).status, 200);
    let refusal = send(&service, NET, "LOCK", "/terraform/db", &own).expect_refusal(403, 7);
    assert_eq!(refusal["message"], "the token of net does not permit lock:write for service terraform/db");
    send(&service, NET, "UNLOCK", "/terraform/db", &own).expect_refusal(403, 7);
    service.wait_for_log(&[r#""event":"unlock""#, r#""api":"terraform""#, r#""by":"ops""#, r#""owner":"ann""#]);
    service.wait_for_log(&[r#""event":"create""#, r#""api":"terraform""#, r#""by":"ann""#, r#""event_id":"1""#]);
}

#[test]
fn a_page_of_another_site_locks_and_unlocks_no_state() {
    let service = Service::new();
    assert_eq!(call(&service, "LOCK", &info("1", "ann")).status, 200);
    for method in ["POST", "DELETE", "UNLOCK"] {
        let headers = [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")];
        service.connect().call(method, STATE, &headers, "").expect_refusal(403, 7);
    }
    assert_eq!(service.list("").len(), 1);
}

/// Serves states at their paths until the end of the test program. Returns its address.
fn serve_states() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let states: Arc<Mutex<HashMap<String, Vec<u8>>>> = Arc::default();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = BufReader::new(stream);
            let mut lines = Vec::new();
            while let Some(Ok(line)) = stream.by_ref().lines().next() {
                if line.is_empty() {
                    break;
                }
                lines.push(line);
            }
            let Some(first) = lines.first() else { continue };
            let words: Vec<&str> = first.split([' ', '?']).collect();
            let length = lines.iter().find_map(|line| line.strip_prefix("Content-Length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).unwrap();
            let mut states = states.lock().unwrap();
            let (line, answer) = match (words[0], states.get(words[1])) {
                ("GET", Some(state)) => ("200 OK", state.clone()),
                ("GET", None) => ("404 Not Found", Vec::new()),
                _ => {
                    states.insert(words[1].to_owned(), body);
                    ("200 OK", Vec::new())
                }
            };
            let head = format!("HTTP/1.1 {line}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
            stream.get_mut().write_all(&[head.as_bytes(), &answer].concat()).unwrap();
        }
    });
    address
}

fn start_client(program: &str, directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["120", program]).args(args).current_dir(directory);
    command.env("CHECKPOINT_DISABLE", "1").env("TF_IN_AUTOMATION", "1").env("HOME", directory);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn read_output(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn terraform_itself_locks_its_state() {
    // Skipped on machines without a client.
    let is_installed = |name: &&str| Command::new(name).arg("version").output().is_ok_and(|done| done.status.success());
    let Some(program) = ["tofu", "terraform"].into_iter().find(is_installed) else { return };
    let start = Start::new().token_file("ci lock:read,lock:write secret\nops lock:admin ops\n");
    let directory = start.directory().to_owned();
    let service = start.start();
    let (states, locks) = (serve_states(), &service.rest);
    write_file(
        &directory.join("main.tf"),
        &format!(
            r#"
terraform {{
  backend "http" {{
    address        = "http://{states}/net"
    lock_address   = "http://{locks}/terraform/net"
    unlock_address = "http://{locks}/terraform/net"
    username       = "ci"
  }}
}}
resource "terraform_data" "x" {{
  provisioner "local-exec" {{
    command = "touch running; until test -e go; do sleep 0.05; done"
  }}
}}
"#
        ),
    );
    let run = |password: &str, args: &[&str]| {
        let mut command = start_client(program, &directory, args);
        command.env("TF_HTTP_PASSWORD", password).output().unwrap()
    };
    let initialized = run("secret", &["init", "-no-color"]);
    assert!(initialized.status.success(), "{}", read_output(&initialized));
    let mut apply = start_client(program, &directory, &["apply", "-auto-approve", "-no-color"]);
    let apply = apply.env("TF_HTTP_PASSWORD", "secret").spawn().unwrap();
    wait_until("the first client holds the lock", || directory.join("running").exists());
    let list = || {
        let answer = service.connect().call("GET", LIST, &[("X-Api-Key", "ops")], "").ok();
        answer["locks"].as_array().unwrap().clone()
    };
    let id = list()[0]["eventId"].as_str().unwrap().to_owned();
    let refused = run("secret", &["plan", "-no-color"]);
    let text = read_output(&refused);
    assert!(!refused.status.success() && text.contains("already locked:") && text.contains(&id), "{text}");
    let refused = run("wrong", &["plan", "-no-color"]);
    assert!(!refused.status.success() && read_output(&refused).contains("requires auth"), "{}", read_output(&refused));
    fs::write(directory.join("go"), "").unwrap();
    let applied = apply.wait_with_output().unwrap();
    assert!(applied.status.success(), "{}", read_output(&applied));
    assert!(list().is_empty());
    // A lock that a killed client has left.
    let body = info("left", "gone");
    service.connect().call("LOCK", "/terraform/net", &[("X-Api-Key", "secret")], &body).json();
    let unlocked = run("secret", &["force-unlock", "-force", "left"]);
    assert!(unlocked.status.success() && list().is_empty(), "{}", read_output(&unlocked));
    let planned = run("secret", &["plan", "-no-color"]);
    assert!(planned.status.success() && list().is_empty(), "{}", read_output(&planned));
}
