//! A store that does not work: nothing is granted, and nothing is said to be free.

use crate::service::{LIST, LOCK, PROGRAM, Service, Start, wanted};
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::process::Command;

/// A limit of the process: `prlimit --fsize=0:`.
fn limit(service: &Service, what: &str) {
    let done = Command::new("prlimit").args(["--pid", &service.pid().to_string(), what]).status().unwrap();
    assert!(done.success());
}

/// A service whose writes fail where others would be ended by a signal.
fn fallible() -> Service {
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PROGRAM]);
    Start::of(command).go()
}

#[test]
fn a_store_that_cannot_write_grants_nothing_and_releases_nothing() {
    let service = fallible();
    let held = service.take("held", "ann");
    let mut waits = service.connect();
    waits.send("POST", LOCK, &[], &wanted("held", "bob", r#""wait":"60s""#));
    service.until_waiting("held", 1);
    limit(&service, "--fsize=0:");
    for _ in 0..3 {
        service.ask("free", "ann", "").is_refused(503, 14);
        service.ask("free", "ann", r#""wait":"1s""#).is_refused(503, 14);
        service.call("PUT", &format!("{LOCK}/{held}"), r#"{"who":"eve"}"#).is_refused(503, 14);
        service.call("PUT", &format!("{LOCK}/{held}/renew"), r#"{"ttl":"1h"}"#).is_refused(503, 14);
    }
    // Who waits for what was to be released is told, too: nobody waits for what may not come.
    service.unlock(&held).is_refused(503, 14);
    waits.answer("POST").is_refused(503, 14);
    service.get("/healthz").is_refused(503, 14);
    limit(&service, "--fsize=unlimited:");
    // It is as it was.
    let found = service.found("");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0]["id"].as_str(), found[0]["who"].as_str()), (Some(&*held), Some("ann")));
    service.ask("held", "bob", "").is_refused(409, 6);
    service.take("free", "ann");
    service.unlock(&held).ok();
    service.get("/healthz").ok();
}

#[test]
fn a_lease_that_ends_while_the_store_cannot_write_ends_when_it_can() {
    let service = fallible();
    let id = service.ask("db", "ann", r#""ttl":"100ms""#).id();
    limit(&service, "--fsize=0:");
    service.get("/healthz").is_refused(503, 14);
    limit(&service, "--fsize=unlimited:");
    crate::service::until("it has ended", || service.get(&format!("{LOCK}/{id}")).status == 404);
    service.take("db", "bob");
}

#[test]
fn a_store_that_cannot_be_read_is_no_free_lock() {
    let service = Service::new();
    let id = service.take("held", "ann");
    // One that is there already: for another there is no descriptor any more. Nor is there for reading the store.
    let mut connection = service.connect();
    connection.call("GET", "/openapi.json", &[], "").ok();
    limit(&service, "--nofile=3:");
    connection.call("GET", &format!("{LOCK}/{id}"), &[], "").is_refused(503, 14);
    connection.call("GET", LIST, &[], "").is_refused(503, 14);
    let metrics = connection.call("GET", "/metrics", &[], "").text;
    assert!(metrics.contains("\naba_lockd_up 0\n") && !metrics.contains("aba_lockd_locks"), "{metrics}");
    limit(&service, "--nofile=1024:");
    assert_eq!(connection.call("GET", &format!("{LOCK}/{id}"), &[], "").id(), id);
}

#[test]
fn a_store_that_is_damaged_is_not_served() {
    let mut service = Service::new();
    service.take("held", "ann");
    service.signal("TERM");
    service.ended();
    // The last service to close it has brought all into this file.
    drop(
        rusqlite::Connection::open(service.store())
            .unwrap()
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())),
    );
    let mut file = OpenOptions::new().write(true).open(service.store()).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[0xa5; 4096]).unwrap();
    let store = format!("sqlite:{}", service.store().display());
    let (status, said) = Start::new().args(&["--store", &store]).fails();
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("could not open store"), "{said}");
}

#[test]
fn a_store_is_for_one_service() {
    let service = Service::new();
    let store = format!("sqlite:{}", service.store().display());
    let (status, said) = Start::new().args(&["--store", &store]).fails();
    assert_eq!(status, Some(125), "{said}");
    assert!(said.contains("is held by another") && said.contains(&format!("pid {}", service.pid())), "{said}");
    service.take("db", "ann");
}
