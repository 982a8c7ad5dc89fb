//! Who may ask.

use crate::harness::{
    Answer, Connection, LIST, LOCK, PATIENCE, PROGRAM, Service, Start, UNLOCK, output_of, until, wanted,
};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

fn put(path: &Path, text: &str) {
    aba_lock::os::replace::replace(path, text.as_bytes()).unwrap();
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let service = Service::new();
    let id = service.take("db", "ann");
    let own = format!("http://{}", service.rest);
    let refused: [&[(&str, &str)]; 6] = [
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Origin", "http://evil.example")],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "none"), ("Sec-Purpose", "prefetch;prerender")],
        &[("Host", "evil.example")],
    ];
    for headers in refused {
        for (method, path) in [
            ("GET", format!("{UNLOCK}/{id}")),
            ("POST", format!("{UNLOCK}/{id}")),
            ("DELETE", format!("{LOCK}/{id}")),
            ("PUT", format!("{LOCK}/{id}")),
            ("PUT", format!("{LOCK}/{id}/renew")),
            ("POST", LOCK.to_owned()),
        ] {
            service.connect().call(method, &path, headers, &wanted("other", "eve", "")).is_refused(403, 7);
        }
    }
    assert_eq!(service.found("").len(), 1);
    // Nor does a name that was made to lead here see anything.
    service.connect().call("GET", LIST, &[("Host", "evil.example:8080")], "").is_refused(403, 7);
    let allowed: [&[(&str, &str)]; 5] = [
        &[("Sec-Fetch-Site", "none")],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", &own)],
        &[("Origin", &own)],
        &[("Host", "localhost:8080")],
        &[("Host", "[::1]")],
    ];
    let mut id = id;
    for headers in allowed {
        service.connect().call("GET", &format!("{UNLOCK}/{id}"), headers, "").ok();
        id = service.take("db", "ann");
    }
}

#[test]
fn a_name_that_is_said_to_be_ours_is_ours() {
    let service = Start::new().args(&["--allow-host", "locks.example.org"]).go();
    let with = |host| service.connect().call("GET", LIST, &[("Host", host)], "");
    with("locks.example.org:443").ok();
    with("LOCKS.example.org").ok();
    with("other.example.org").is_refused(403, 7);
}

#[test]
fn a_page_of_ours_may_unlock_behind_a_proxy_that_calls_by_a_name_of_its_own() {
    let start = Start::new();
    let tokens = start.path("tokens");
    put(&tokens, "ci lock:read,lock:write secret\n");
    for more in [&[][..], &["--token-file", tokens.to_str().unwrap()]] {
        let service = Start::new().args(&["--allow-host", "locks.example.org"]).args(more).go();
        let ask = |origin| {
            let headers = [
                ("Host", "127.0.0.1"),
                ("Origin", origin),
                ("Sec-Fetch-Site", "same-origin"),
                ("Authorization", "Bearer secret"),
            ];
            service.connect().call("POST", LOCK, &headers, &wanted(origin, "ann", ""))
        };
        ask("https://locks.example.org").ok();
        ask("https://LOCKS.example.org:8443").ok();
        for other in
            ["https://other.example.org", "https://locks.example.org.evil.example", "locks.example.org", "null"]
        {
            ask(other).is_refused(403, 7);
        }
    }
}

#[test]
fn with_a_token_file_each_call_needs_a_token_of_its_scope() {
    let start = Start::new();
    let file = start.path("tokens");
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    put(
        &file,
        &format!("# team\nci lock:read,lock:write secret\nwriter lock:write w\nboard lock:read sha256:{digest}\n"),
    );
    let service = start.args(&["--token-file", file.to_str().unwrap()]).go();
    let call = |token: &str, method: &str, path: &str| -> Answer {
        let value = format!("Bearer {token}");
        let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("Authorization", &value)] };
        service.connect().call(method, path, headers, &wanted("db", "ann", ""))
    };
    let id = call("secret", "POST", LOCK).id();
    let (lock, unlock, renew) = (format!("{LOCK}/{id}"), format!("{UNLOCK}/{id}"), format!("{LOCK}/{id}/renew"));
    let reads = [("GET", LIST), ("GET", &lock), ("GET", "/metrics")];
    let writes =
        [("POST", LOCK), ("PUT", &lock), ("PUT", &renew), ("GET", &unlock), ("POST", &unlock), ("DELETE", &lock)];
    for (method, path) in reads.into_iter().chain(writes) {
        let answer = call("", method, path);
        answer.is_refused(401, 16);
        assert!(answer.headers.contains("www-authenticate: bearer"), "{answer:?}");
        assert!(answer.text.contains("a token is needed") && !answer.headers.contains("invalid_token"), "{answer:?}");
        let answer = call("wrong", method, path);
        answer.is_refused(401, 16);
        assert!(answer.text.contains("this token is not known"), "{answer:?}");
        assert!(answer.headers.contains("error=\"invalid_token\""), "{answer:?}");
    }
    for (method, path) in writes {
        call("test", method, path).is_refused(403, 7);
    }
    for (method, path) in reads {
        call("w", method, path).is_refused(403, 7);
        assert_eq!(call("test", method, path).status, 200);
    }
    // What an id is, is none of theirs.
    call("", "GET", &format!("{LOCK}/%ff")).is_refused(401, 16);
    call("", "GET", &format!("{UNLOCK}/%ff")).is_refused(401, 16);
    // For who only watches over it.
    for path in ["/healthz", "/", "/openapi.json"] {
        assert_eq!(call("", "GET", path).status, 200);
    }
    call("w", "GET", &unlock).ok();
    // The log tells who it was, and never the token.
    until("the log tells", || service.log().iter().any(|line| line.contains(r#""by":"writer""#)));
    assert!(service.log().iter().all(|line| !line.contains("secret")));
}

/// Waits until a line of the log has all these words.
fn until_logged(service: &Service, words: &[&str]) {
    until(&words.join(" "), || service.log().iter().any(|line| words.iter().all(|word| line.contains(word))));
}

#[test]
fn at_sighup_the_token_file_is_read_again_and_one_that_cannot_be_used_changes_nothing() {
    let start = Start::new();
    let file = start.path("tokens");
    put(&file, "old lock:read first\n");
    let service = start.args(&["--token-file", file.to_str().unwrap()]).go();
    let mut connection = service.connect();
    let mut status =
        |token: &str| connection.call("GET", LIST, &[("Authorization", &format!("Bearer {token}"))], "").status;
    assert_eq!((status("first"), service.get("/healthz").status), (200, 200));
    put(&file, "new lock:read second\n");
    service.signal("HUP");
    until_logged(&service, &["\"event\":\"reloaded\"", "tokens"]);
    // Also by a connection that was there before.
    assert_eq!((status("first"), status("second")), (401, 200));
    for (broken, why) in
        [(Some("new lock:all third\n"), "lock:all is neither"), (Some(""), "no token"), (None, "No such file")]
    {
        match broken {
            Some(text) => put(&file, text),
            None => std::fs::remove_file(&file).unwrap(),
        }
        service.signal("HUP");
        until_logged(&service, &["\"event\":\"not_reloaded\"", why, "the old one stays in force"]);
        assert_eq!(status("second"), 200);
    }
    // The outcome of the last signal is logged by now.
    service.signal("HUP");
    until("all signals were handled", || logged(&service, "not_reloaded") >= 4);
    assert_eq!(logged(&service, "reloaded"), 1, "a file that was not read is not said to be reloaded");
}

/// The number of log lines of this event.
fn logged(service: &Service, event: &str) -> usize {
    let event = format!("\"event\":\"{event}\"");
    service.log().iter().filter(|line| line.contains(&event)).count()
}

#[test]
fn without_files_sighup_changes_nothing() {
    let service = Service::new();
    let id = service.take("db", "ann");
    service.signal("HUP");
    until_logged(&service, &["\"event\":\"reloaded\""]);
    service.unlock(&id).ok();
}

#[test]
fn a_setting_that_exposes_tokens_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let start = Start::new();
    let file = start.path("tokens");
    let path = file.to_str().unwrap();
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let said = |text: &str, mode: u32, listen: &str| {
        put(&file, text);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        // Its store cannot be used, so that it ends.
        let args = ["--listen", listen, "--token-file", path, "--store", "sqlite:/dev/null/x"];
        let (status, said) = Start::new().args(&args).fails();
        assert_eq!(status, Some(125), "{said}");
        said
    };
    let secret = "ci lock:read secret\n";
    let readable = said(secret, 0o644, "127.0.0.1:0");
    assert!(readable.contains("\"level\":\"warning\"") && readable.contains("can read the tokens in "), "{readable}");
    let writable = said(&format!("ci lock:read sha256:{digest}\n"), 0o622, "127.0.0.1:0");
    assert!(writable.contains("may add tokens to "), "{writable}");
    let plain = said(secret, 0o600, "0.0.0.0:0");
    assert!(plain.contains("tokens are sent to 0.0.0.0:0 in clear text"), "{plain}");
    for (text, mode) in [(secret, 0o640), (&format!("ci lock:read sha256:{digest}\n"), 0o644)] {
        let quiet = said(text, mode, "127.0.0.1:0");
        assert!(!quiet.contains("warning"), "{quiet}");
    }
}

#[test]
fn a_key_that_every_user_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let start = Start::new();
    certificates(start.directory());
    let path = |name| start.path(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("server.pem"), path("server.key"));
    for (mode, warns) in [(0o644, true), (0o640, false)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        // Its store cannot be used, so that it ends.
        let args = ["--tls-cert", &certificate, "--tls-key", &key, "--store", "sqlite:/dev/null/x"];
        let (status, said) = Start::new().args(&args).fails();
        assert_eq!(status, Some(125), "{said}");
        assert_eq!(said.contains("every user of this machine can read the key in "), warns, "{mode:o}: {said}");
    }
}

#[test]
fn an_address_that_others_reach_is_refused_unless_it_is_guarded_or_said_aloud() {
    for args in [&["--listen", "0.0.0.0:0"][..], &["--listen", "[::]:0"], &["--grpc-listen", "0.0.0.0:0"]] {
        let (status, said) = Start::new().args(args).fails();
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("can be reached from other machines") && said.contains("\nhint: "), "{said}");
    }
    let start = Start::new();
    let file = start.path("tokens");
    put(&file, "ci lock:read secret\n");
    // Its store cannot be used, so that it ends.
    for guard in [&["--insecure"][..], &["--token-file", file.to_str().unwrap()]] {
        let (status, said) =
            Start::new().args(&["--listen", "0.0.0.0:0", "--store", "sqlite:/dev/null/x"]).args(guard).fails();
        assert_eq!(status, Some(125), "{said}");
    }
}

/// A service that may have 64 descriptors: there are 16 connections.
fn narrow() -> Start {
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", PROGRAM]);
    Start::of(command)
}

#[test]
fn those_who_wait_leave_room_for_who_has_the_lock() {
    let service = narrow().go();
    let id = service.ask("db", "ann", r#""ttl":"10m""#).id();
    let wait = || {
        let mut waits = service.connect();
        waits.send("POST", LOCK, &[], &wanted("db", "bob", r#""wait":"1h""#));
        waits
    };
    let mut line: Vec<Connection> = (0..12).map(|_| wait()).collect();
    service.until_waiting("db", 12);
    for _ in 0..8 {
        wait().answer("POST").is_refused(429, 8);
    }
    service.call("PUT", &format!("{LOCK}/{id}/renew"), "").ok();
    // Who leaves makes room.
    line.pop();
    service.until_waiting("db", 11);
    until("there is room", || {
        line.push(wait());
        service.found("resource=db")[0]["queue"].as_array().unwrap().len() == 12
    });
    service.unlock(&id).ok();
}

#[test]
fn clients_that_connect_and_send_nothing_keep_others_out_for_a_moment_only() {
    let start = narrow();
    let tokens = start.path("tokens");
    put(&tokens, "ci lock:read,lock:write secret\n");
    let service = start.args(&["--token-file", tokens.to_str().unwrap()]).go();
    let call = |connection: &mut Connection, method: &str, path: &str, more: &str| {
        connection.send(method, path, &[("Authorization", "Bearer secret")], &wanted("db", "ann", more));
    };
    let mut holder = service.connect();
    call(&mut holder, "POST", LOCK, "");
    let id = holder.answer("POST").id();
    let mut waits = service.connect();
    call(&mut waits, "POST", LOCK, r#""wait":"60s""#);
    let open = |address: &str, text: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
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
    // Whoever comes after them is answered, and who waited before them waits.
    let mut other = service.connect();
    call(&mut other, "DELETE", &format!("{LOCK}/{id}"), "");
    other.answer("DELETE").ok();
    assert_eq!(waits.answer("POST").lock()["who"], "ann");
    // All of them are sent away, however they stand there.
    for mut stream in silent {
        let _ = stream.read_to_end(&mut Vec::new()).map_err(|error| assert_ne!(error.kind(), ErrorKind::WouldBlock));
    }
}

#[test]
fn the_service_takes_as_many_connections_as_it_may_raise_its_limit_to() {
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -Sn 64; exec \"$0\" \"$@\"", PROGRAM]);
    let service = Start::of(command).go();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.pid())).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.contains("open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "{limits}");
    let silent: Vec<_> = (0..300).map(|_| std::net::TcpStream::connect(&service.rest).unwrap()).collect();
    service.take("db", "ann");
    drop(silent);
}

#[test]
fn who_is_refused_again_and_again_shuts_nobody_out() {
    let start = narrow();
    let tokens = start.path("tokens");
    put(&tokens, "ci lock:read,lock:write secret\n");
    let service = start.args(&["--token-file", tokens.to_str().unwrap()]).go();
    let token = [("Authorization", "Bearer secret")];
    let mut holder = service.connect();
    let id = holder.call("POST", LOCK, &token, &wanted("db", "ann", r#""ttl":"10m""#)).id();
    let (over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Whoever of them has to go comes again.
    let address = service.rest.as_str();
    let stranger = |path: &str| {
        while !over.load(Ordering::SeqCst) {
            let mut stranger = Connection::to(address);
            while !over.load(Ordering::SeqCst) && stranger.try_call("GET", path, "").is_ok() {
                refused.fetch_add(1, Ordering::SeqCst);
                // There are more of them than processors.
                thread::sleep(Duration::from_millis(20));
            }
        }
    };
    thread::scope(|scope| {
        for path in ["/nosuch", LIST, "/healthz"].into_iter().cycle().take(30) {
            let stranger = &stranger;
            scope.spawn(move || stranger(path));
        }
        let over = Over(&over);
        until("they are refused", || refused.load(Ordering::SeqCst) > 60);
        for _ in 0..3 {
            service.connect().call("PUT", &format!("{LOCK}/{id}/renew"), &token, "").ok();
            // The connection of who has a token stays.
            holder.call("PUT", &format!("{LOCK}/{id}/renew"), &token, "").ok();
            service.get("/healthz").ok();
        }
        drop(over);
    });
}

/// Also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn what_it_cannot_start_with_is_named() {
    let start = Start::new();
    let (tokens, nonsense) = (start.path("tokens"), start.path("nonsense"));
    put(&tokens, "ci lock:everything secret\n");
    put(&nonsense, &"this is no database, nor a certificate\n".repeat(100));
    let (tokens, nonsense) = (tokens.to_str().unwrap(), nonsense.to_str().unwrap());
    for (args, status, says) in [
        (&["--token-file", tokens][..], 125, "lock:everything is neither lock:read nor lock:write"),
        (&["--token-file", "/nonexistent"], 125, "could not use token file /nonexistent"),
        (&["--store", &format!("sqlite:{nonsense}")], 125, "could not open store"),
        (&["--store", "postgres:x"], 2, "--store postgres:x is no store"),
        (&["--store", "sqlite:"], 2, "--store sqlite: is no store"),
        (&["--tls-cert", nonsense, "--tls-key", nonsense], 125, "could not use"),
        (&["--tls-cert", nonsense], 2, "--tls-key"),
        (&["--store", "etcd://"], 2, "--store etcd:// is no store: it names no endpoint"),
        (&["--store", "etcd://127.0.0.1:1"], 125, "could not open store etcd://127.0.0.1:1"),
        (&["--listen", "nowhere"], 2, "--listen nowhere is no address"),
    ] {
        let (ended, said) = Start::new().args(args).fails();
        assert!(ended == Some(status) && said.contains(says), "{args:?}: {ended:?} {said}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (ended, said) = Start::new().args(&["--listen", &address]).fails();
    assert!(ended == Some(125) && said.contains(&format!("could not listen on {address}")), "{said}");
}

#[test]
fn the_secrets_of_the_store_are_for_its_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let service = Service::new();
    service.take("db", "ann");
    let directory = service.store().parent().unwrap().to_owned();
    let mut found = 0;
    for entry in std::fs::read_dir(&directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // The lock beside it says only who has it.
        if name != "lockd.db.lock" {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            found += 1;
        }
    }
    assert!(found >= 2);
    assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}

/// An authority, a certificate of it for 127.0.0.1, and one for a client; and an authority that nobody trusts.
fn certificates(directory: &Path) {
    let script = r#"
        set -e
        new() { openssl req -quiet -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$1.key" -subj "/CN=$1" "${@:2}"; }
        new ca -x509 -days 2 -out ca.pem
        new other -x509 -days 2 -out other.pem
        new server -out server.csr
        new client -out client.csr
        new stranger -out stranger.csr
        new next -out next.csr
        sign() { openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 2 -out "$1.pem" -extfile <(printf '%s' "$3"); }
        sign server ca 'subjectAltName=IP:127.0.0.1' 2>/dev/null
        sign client ca 'extendedKeyUsage=clientAuth' 2>/dev/null
        sign next other 'subjectAltName=IP:127.0.0.1' 2>/dev/null
        sign stranger other 'extendedKeyUsage=clientAuth' 2>/dev/null
    "#;
    // Older ones have no -quiet.
    let script = script.replace(" -quiet", "").replace("\"${@:2}\"; }", "\"${@:2}\" 2>/dev/null; }");
    output_of(Command::new("bash").arg("-c").arg(script).current_dir(directory));
}

#[test]
fn over_tls_only_who_has_a_certificate_comes_in() {
    let start = Start::new();
    let at = start.directory().to_owned();
    certificates(&at);
    let file = |name: &str| at.join(name).to_str().unwrap().to_owned();
    let service = start
        .args(&[
            "--tls-cert",
            &file("server.pem"),
            "--tls-key",
            &file("server.key"),
            "--tls-client-ca",
            &file("ca.pem"),
            "--log-all",
        ])
        .go();
    let by = |authority: &str, args: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "60", "--cacert", &file(authority)]).args(args).env_remove("https_proxy");
        command.arg(format!("https://{}/api/v1alpha1/locks/list", service.rest));
        command.output().unwrap()
    };
    let curl = |args: &[&str]| by("ca.pem", args);
    let known = curl(&["--cert", &file("client.pem"), "--key", &file("client.key")]);
    assert!(known.status.success(), "{known:?}");
    assert!(String::from_utf8(known.stdout).unwrap().contains("\"locks\":[]"));
    assert!(!curl(&[]).status.success());
    assert!(!curl(&["--cert", &file("stranger.pem"), "--key", &file("stranger.key")]).status.success());
    // Without TLS nobody comes in, and who comes without it holds up nobody.
    let mut plain = Command::new("curl");
    assert!(
        !plain
            .args(["-s", "--max-time", "60", &format!("http://{}/healthz", service.rest)])
            .status()
            .unwrap()
            .success()
    );
    let _silent = std::net::TcpStream::connect(&service.rest).unwrap();
    assert!(curl(&["--cert", &file("client.pem"), "--key", &file("client.key")]).status.success());
    until_logged(&service, &["\"event\":\"list\"", "\"certificate\":\"client\""]);
    // A file that cannot be used changes nothing.
    let replace = |name: &str, by: &str| put(&at.join(name), &std::fs::read_to_string(at.join(by)).unwrap());
    replace("server.key", "client.key");
    service.signal("HUP");
    until_logged(&service, &["\"event\":\"not_reloaded\"", "could not use "]);
    assert!(curl(&["--cert", &file("client.pem"), "--key", &file("client.key")]).status.success());
    // Another authority, for both sides.
    replace("server.key", "next.key");
    replace("server.pem", "next.pem");
    replace("ca.pem", "other.pem");
    service.signal("HUP");
    until_logged(&service, &["\"event\":\"reloaded\"", "certificates"]);
    assert!(by("other.pem", &["--cert", &file("stranger.pem"), "--key", &file("stranger.key")]).status.success());
    assert!(!by("other.pem", &["--cert", &file("client.pem"), "--key", &file("client.key")]).status.success());
}
