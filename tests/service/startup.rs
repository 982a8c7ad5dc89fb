//! Refusals to start, and warnings about settings that expose secrets.

use crate::harness::{Service, Start, write_file};
use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

/// A store that cannot be opened, for a service that must read its other settings and exit.
pub(crate) const NO_STORE: &str = "sqlite:/dev/null/x";

#[test]
fn the_service_warns_about_settings_that_expose_tokens() {
    let digest = "ci lock:read sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n";
    let secret = "ci lock:read secret\n";
    let run = |text: &str, mode: u32, listen: &str| {
        let start = Start::new().token_file(text);
        fs::set_permissions(start.path("tokens"), Permissions::from_mode(mode)).unwrap();
        start.args(&["--listen", listen]).store(NO_STORE).run_and_expect(125)
    };
    let readable = run(secret, 0o644, "127.0.0.1:0");
    assert!(readable.contains("\"level\":\"warning\"") && readable.contains("can read the tokens in "), "{readable}");
    let writable = run(digest, 0o622, "127.0.0.1:0");
    assert!(writable.contains("can add tokens to "), "{writable}");
    let unencrypted = run(secret, 0o600, "0.0.0.0:0");
    assert!(unencrypted.contains("tokens are sent to 0.0.0.0:0 in clear text"), "{unencrypted}");
    for (text, mode) in [(secret, 0o640), (digest, 0o644)] {
        let output = run(text, mode, "127.0.0.1:0");
        assert!(!output.contains("warning"), "{output}");
    }
}

#[test]
fn an_address_that_other_machines_reach_is_refused_without_a_guard_or_insecure() {
    for args in [&["--listen", "0.0.0.0:0"][..], &["--listen", "[::]:0"], &["--grpc-listen", "0.0.0.0:0"]] {
        let output = Start::new().args(args).run_and_expect(2);
        assert!(
            output.contains("without access control: other machines can reach it") && output.contains("\nhint: "),
            "{output}"
        );
    }
    let start = || Start::new().args(&["--listen", "0.0.0.0:0"]).store(NO_STORE);
    start().args(&["--insecure"]).run_and_expect(125);
    start().token_file("ci lock:read secret\n").run_and_expect(125);
}

#[test]
fn the_reason_why_the_service_cannot_start_is_reported() {
    let start = Start::new();
    let (tokens, nonsense) = (start.path("tokens"), start.path("nonsense"));
    write_file(&tokens, "ci lock:everything secret\n");
    write_file(&nonsense, &"neither a database nor a certificate\n".repeat(100));
    let (tokens, nonsense) = (tokens.to_str().unwrap(), nonsense.to_str().unwrap());
    for (args, status, message) in [
        (
            &["--token-file", tokens][..],
            125,
            "unknown permission lock:everything: use lock:read, lock:write or lock:admin",
        ),
        (&["--token-file", "/nonexistent"], 125, "cannot use token file /nonexistent: No such file or directory\n"),
        (&["--store", &format!("sqlite:{nonsense}")], 125, "cannot open store"),
        (&["--store", "postgres:x"], 2, "invalid store: --store postgres:x\n"),
        (&["--store", "sqlite:"], 2, "invalid store: --store sqlite:\n"),
        (&["--tls-cert", nonsense, "--tls-key", nonsense], 125, "cannot use"),
        (&["--tls-cert", nonsense], 2, "--tls-key"),
        (&["--store", "etcd://"], 2, "invalid store: --store etcd://: it names no endpoint"),
        (&["--store", "etcd://127.0.0.1:1"], 125, "cannot open store etcd://127.0.0.1:1"),
        (&["--listen", "nowhere"], 2, "invalid address: --listen nowhere: "),
        (&["--lisen", "nowhere"], 2, "aba-lockd: no such option: --lisen\nhint: did you mean `--listen`?\n"),
    ] {
        let output = Start::new().args(args).run_and_expect(status);
        assert!(output.contains(message), "{args:?}: {output}");
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Start::new().args(&["--listen", &address]).run_and_expect(125);
    assert!(output.contains(&format!("cannot listen on {address}: Address already in use\n")), "{output}");
}

#[test]
fn only_the_user_of_the_service_can_read_the_store() {
    let service = Service::new();
    service.acquire("db", "ann");
    let directory = service.store().parent().unwrap().to_owned();
    let mut found = 0;
    for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        // The lock file contains no secrets.
        if name != "lockd.db.lock" {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
            found += 1;
        }
    }
    assert!(found >= 2);
    assert_eq!(directory.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}
