//! Permission to call: pages of other sites, and tokens.

use crate::harness::{LIST, LOCK, Service, Start, UNLOCK, request_body, wait_until, write_file};
use crate::http::Answer;

/// The SHA-256 digest of `test`.
const DIGEST_OF_TEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[test]
fn a_page_of_another_site_changes_nothing() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    let own = format!("http://{}", service.rest);
    let refused_headers: [&[(&str, &str)]; 6] = [
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Origin", "http://evil.example")],
        &[("Origin", "null")],
        &[("Sec-Fetch-Site", "none"), ("Sec-Purpose", "prefetch;prerender")],
        &[("Host", "evil.example")],
    ];
    for headers in refused_headers {
        for (method, path) in [
            ("GET", format!("{UNLOCK}/{id}")),
            ("POST", format!("{UNLOCK}/{id}")),
            ("DELETE", format!("{LOCK}/{id}")),
            ("PUT", format!("{LOCK}/{id}")),
            ("PUT", format!("{LOCK}/{id}/renew")),
            ("POST", LOCK.to_owned()),
        ] {
            service.connect().call(method, &path, headers, &request_body("other", "eve", "")).expect_refusal(403, 7);
        }
    }
    assert_eq!(service.list("").len(), 1);
    // A host name that resolves to the service (DNS rebinding) may not read, either.
    service.connect().call("GET", LIST, &[("Host", "evil.example:8080")], "").expect_refusal(403, 7);
    let allowed_headers: [&[(&str, &str)]; 5] = [
        &[("Sec-Fetch-Site", "none")],
        &[("Sec-Fetch-Site", "same-origin"), ("Origin", &own)],
        &[("Origin", &own)],
        &[("Host", "localhost:8080")],
        &[("Host", "[::1]")],
    ];
    let mut id = id;
    for headers in allowed_headers {
        service.connect().call("GET", &format!("{UNLOCK}/{id}"), headers, "").ok();
        id = service.acquire("db", "ann");
    }
}

#[test]
fn calls_to_an_allowed_host_name_are_permitted() {
    let service = Start::new().args(&["--allow-host", "locks.example.org"]).start();
    let list = |host| service.connect().call("GET", LIST, &[("Host", host)], "");
    list("locks.example.org:443").ok();
    list("LOCKS.example.org").ok();
    list("other.example.org").expect_refusal(403, 7);
}

#[test]
fn a_page_of_the_service_may_unlock_through_a_proxy_that_sends_its_own_host_name() {
    for has_tokens in [false, true] {
        let start = Start::new().args(&["--allow-host", "locks.example.org"]);
        let start = if has_tokens { start.token_file("ci lock:read,lock:write secret\n") } else { start };
        let service = start.start();
        let request = |origin| {
            let headers = [
                ("Host", "127.0.0.1"),
                ("Origin", origin),
                ("Sec-Fetch-Site", "same-origin"),
                ("Authorization", "Bearer secret"),
            ];
            service.connect().call("POST", LOCK, &headers, &request_body(origin, "ann", ""))
        };
        request("https://locks.example.org").ok();
        request("https://LOCKS.example.org:8443").ok();
        for other in
            ["https://other.example.org", "https://locks.example.org.evil.example", "locks.example.org", "null"]
        {
            request(other).expect_refusal(403, 7);
        }
    }
}

#[test]
fn with_a_token_file_each_call_needs_a_token_with_its_scope() {
    let tokens = "# team\nci lock:read,lock:write secret\nwriter lock:write w\nboard lock:read sha256:";
    let service = Start::new().token_file(&format!("{tokens}{DIGEST_OF_TEST}\n")).start();
    let call = |token: &str, method: &str, path: &str| -> Answer {
        let value = format!("Bearer {token}");
        let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("Authorization", &value)] };
        service.connect().call(method, path, headers, &request_body("db", "ann", ""))
    };
    let id = call("secret", "POST", LOCK).id();
    let (lock, unlock, renew) = (format!("{LOCK}/{id}"), format!("{UNLOCK}/{id}"), format!("{LOCK}/{id}/renew"));
    let reads = [("GET", LIST), ("GET", &lock), ("GET", "/metrics")];
    let writes =
        [("POST", LOCK), ("PUT", &lock), ("PUT", &renew), ("GET", &unlock), ("POST", &unlock), ("DELETE", &lock)];
    for (method, path) in reads.into_iter().chain(writes) {
        let answer = call("", method, path);
        answer.expect_refusal(401, 16);
        assert!(answer.headers.contains("www-authenticate: bearer"), "{answer:?}");
        assert!(answer.text.contains("a token is required") && !answer.headers.contains("invalid_token"), "{answer:?}");
        let answer = call("wrong", method, path);
        answer.expect_refusal(401, 16);
        assert!(answer.text.contains("this token is not in the token file"), "{answer:?}");
        assert!(answer.headers.contains("error=\"invalid_token\""), "{answer:?}");
    }
    for (method, path) in writes {
        call("test", method, path).expect_refusal(403, 7);
    }
    for (method, path) in reads {
        call("w", method, path).expect_refusal(403, 7);
        assert_eq!(call("test", method, path).status, 200);
    }
    // An invalid id is reported only to callers with a token.
    call("", "GET", &format!("{LOCK}/%ff")).expect_refusal(401, 16);
    call("", "GET", &format!("{UNLOCK}/%ff")).expect_refusal(401, 16);
    // Monitoring, the page and the description need no token.
    for path in ["/healthz", "/", "/openapi.json"] {
        assert_eq!(call("", "GET", path).status, 200);
    }
    // The lock belongs to another token.
    call("w", "GET", &unlock).expect_refusal(403, 7);
    call("secret", "GET", &unlock).ok();
    // The log names the owner of the token, and never contains the token.
    service.wait_for_log(&[r#""by":"writer""#]);
    assert!(service.log().iter().all(|line| !line.contains("secret")));
}

#[test]
fn sighup_replaces_the_tokens_unless_the_new_token_file_is_unusable() {
    let start = Start::new().token_file("old lock:read first\n");
    let file = start.path("tokens");
    let service = start.start();
    let mut connection = service.connect();
    let mut status =
        |token: &str| connection.call("GET", LIST, &[("Authorization", &format!("Bearer {token}"))], "").status;
    assert_eq!((status("first"), service.get("/healthz").status), (200, 200));
    write_file(&file, "new lock:read second\n");
    service.signal("HUP");
    service.wait_for_log(&["\"event\":\"reloaded\"", "tokens"]);
    // The same connection is used before and after.
    assert_eq!((status("first"), status("second")), (401, 200));
    for (broken, why) in [
        (Some("new lock:all third\n"), "line 1: unknown permission lock:all"),
        (Some(""), "no token"),
        (None, "No such file"),
    ] {
        match broken {
            Some(text) => write_file(&file, text),
            None => std::fs::remove_file(&file).unwrap(),
        }
        service.signal("HUP");
        service.wait_for_log(&["\"event\":\"not_reloaded\"", why, "the previous version stays in use"]);
        assert_eq!(status("second"), 200);
    }
    // After the fourth failure is logged, the results of all earlier signals are logged as well.
    service.signal("HUP");
    wait_until("all signals were handled", || service.count_logged("not_reloaded") >= 4);
    assert_eq!(service.count_logged("reloaded"), 1, "only the first signal has loaded a file");
}

#[test]
fn without_files_to_reload_sighup_changes_nothing() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    service.signal("HUP");
    service.wait_for_log(&["\"event\":\"reloaded\""]);
    service.unlock(&id).ok();
}
