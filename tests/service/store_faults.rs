//! A store that does not work: nothing is granted, and nothing is said to be free.

use crate::harness::{LIST, LOCK, PROGRAM, Service, Start, UNLOCK, until, wanted};
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
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
    // Locks can be read still, but that is not enough.
    let metrics = service.get("/metrics").text;
    assert!(metrics.contains("\naba_lockd_up 0\n") && metrics.contains("\naba_lockd_locks 1\n"), "{metrics}");
    limit(&service, "--fsize=unlimited:");
    until("it is well again", || service.get("/healthz").status == 200);
    assert!(service.get("/metrics").text.contains("\naba_lockd_up 1\n"));
    // It is as it was.
    let found = service.found("");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0]["id"].as_str(), found[0]["who"].as_str()), (Some(&*held), Some("ann")));
    service.ask("held", "bob", "").is_refused(409, 6);
    service.take("free", "ann");
    service.unlock(&held).ok();
}

#[test]
fn a_lease_that_ends_while_the_store_cannot_write_ends_when_it_can() {
    let service = fallible();
    let id = service.ask("db", "ann", r#""ttl":"100ms""#).id();
    limit(&service, "--fsize=0:");
    service.get("/healthz").is_refused(503, 14);
    limit(&service, "--fsize=unlimited:");
    until("it has ended", || service.get(&format!("{LOCK}/{id}")).status == 404);
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
fn a_store_that_its_user_may_not_write_to_is_refused_with_a_hint_about_the_store() {
    // In a user namespace without capabilities, so that rights count for root, too.
    let start = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-current-user", "setpriv", "--bounding-set=-all", "--inh-caps=-all", PROGRAM]);
        Start::of(command)
    };
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("read-only");
    fs::create_dir(&directory).unwrap();
    let rights = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    for files in [&[][..], &["x.db"], &["x.db", "x.db.lock"]] {
        rights(0o755);
        for file in files {
            fs::OpenOptions::new().create(true).append(true).open(directory.join(file)).unwrap();
        }
        rights(0o555);
        for name in ["x.db", "new/x.db"] {
            let store = format!("sqlite:{}/{name}", directory.display());
            let (status, said) = start().args(&["--store", &store]).fails();
            assert_eq!(status, Some(125), "{files:?} {said}");
            assert!(said.contains("\nhint: the user of the service must be able to write"), "{files:?} {said}");
            assert!(!said.contains("ABA_LOCK_DIR"), "{said}");
        }
    }
    rights(0o755);
}

#[test]
fn a_store_that_is_not_a_regular_file_is_refused_without_a_hint_about_rights() {
    let place = tempfile::tempdir().unwrap();
    let (directory, fifo) = (place.path().join("directory"), place.path().join("fifo"));
    fs::create_dir(&directory).unwrap();
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [&directory, &fifo, &place.path().join("x".repeat(300))] {
        let (status, said) = Start::new().args(&["--store", &format!("sqlite:{}", path.display())]).fails();
        assert_eq!(status, Some(125), "{said}");
        assert!(said.contains("could not open store ") && !said.contains("must be able to write"), "{said}");
    }
    // Nothing was made next to them.
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
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

#[test]
fn a_store_has_one_service_by_whatever_name() {
    let service = Service::new();
    let (soft, hard) = (service.path("soft.db"), service.path("hard.db"));
    std::os::unix::fs::symlink(service.store(), &soft).unwrap();
    fs::hard_link(service.store(), &hard).unwrap();
    // Nor if what is beside it was removed.
    fs::remove_file(format!("{}.lock", service.store().display())).unwrap();
    for name in [&soft, &hard, &service.store()] {
        let (status, said) = Start::new().args(&["--store", &format!("sqlite:{}", name.display())]).fails();
        assert_eq!(status, Some(125), "{said}");
        assert!(said.contains("is held by another") && said.contains(&format!("pid {}", service.pid())), "{said}");
    }
    // What SQLite takes for something else than a file.
    for name in [":memory:", "file:x", "file::memory:?cache=shared"] {
        let (status, said) = Start::new().args(&["--store", &format!("sqlite:{name}")]).fails();
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains(&format!("--store sqlite:{name} is no store")) && said.contains("hint: "), "{said}");
    }
}

/// Nothing is granted, released or told.
fn tells_nothing(service: &Service, id: &str) {
    service.ask("free", "bob", "").is_refused(503, 14);
    service.ask("held", "bob", "").is_refused(503, 14);
    service.unlock(id).is_refused(503, 14);
    service.get(LIST).is_refused(503, 14);
    service.get(&format!("{LOCK}/{id}")).is_refused(503, 14);
    until("it says that it is not well", || service.get("/healthz").status == 503);
}

#[test]
fn a_store_that_is_removed_or_replaced_while_it_is_in_use_is_a_fault_until_it_is_back() {
    let service = Service::new();
    let id = service.take("held", "ann");
    let (store, aside) = (service.store(), service.path("aside"));
    for name in ["", "-wal"] {
        let file = format!("{}{name}", store.display());
        fs::rename(&file, &aside).unwrap();
        tells_nothing(&service, &id);
        fs::copy(&aside, &file).unwrap();
        tells_nothing(&service, &id);
        fs::rename(&aside, &file).unwrap();
        service.ask("held", "bob", "").is_refused(409, 6);
        until("it is well again", || service.get("/healthz").status == 200);
    }
    assert_eq!(service.found("").len(), 1);
    // With all that belongs to it: another may have a store there then, and this one is silent.
    for name in ["", "-wal", "-shm", ".lock"] {
        fs::remove_file(format!("{}{name}", store.display())).unwrap();
    }
    let other = Start::new().args(&["--store", &format!("sqlite:{}", store.display())]).go();
    other.take("held", "bob");
    tells_nothing(&service, &id);
}

#[test]
fn a_store_that_is_emptied_while_it_is_in_use_is_a_fault() {
    let service = Service::new();
    let id = service.take("held", "ann");
    OpenOptions::new().write(true).open(service.store()).unwrap().set_len(0).unwrap();
    tells_nothing(&service, &id);
}

#[test]
fn a_file_of_another_program_stays_as_it_is() {
    let start = Start::new();
    let (foreign, newer) = (start.path("foreign.db"), start.path("newer.db"));
    let other = rusqlite::Connection::open(&foreign).unwrap();
    other.execute_batch("CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('ann')").unwrap();
    drop(other);
    let before = fs::read(&foreign).unwrap();
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 7).unwrap();
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "application_id", 0x6162_6c6b).unwrap();
    for (file, why) in [(&foreign, "it is a database of another program"), (&newer, "it is of version 7")] {
        let (status, said) = Start::new().args(&["--store", &format!("sqlite:{}", file.display())]).fails();
        assert_eq!(status, Some(125), "{said}");
        assert!(said.contains(&format!("could not open store {}: {why}", file.display())), "{said}");
        assert!(said.contains("\nhint: ") && !said.contains("nothing"), "{said}");
    }
    assert_eq!(fs::read(&foreign).unwrap(), before);
}

#[test]
fn a_store_that_has_no_token_left_says_so_and_grants_nothing() {
    let mut service = Service::new();
    let id = service.take("held", "ann");
    service.signal("TERM");
    service.ended();
    let store = rusqlite::Connection::open(service.store()).unwrap();
    store.execute("UPDATE counter SET token = ?1", [i64::MAX]).unwrap();
    drop(store);
    let service = service.again(&[]);
    let mut waits = service.connect();
    waits.send("POST", LOCK, &[], &wanted("held", "bob", r#""wait":"1h""#));
    service.until_waiting("held", 1);
    let refused = |answer: crate::harness::Answer| {
        let message = answer.is_refused(503, 14)["message"].to_string();
        assert!(message.contains("INTEGER") && !message.contains("ended"), "{message}");
    };
    refused(service.ask("free", "bob", ""));
    refused(service.call("PUT", &format!("{LOCK}/{id}"), r#"{"resource":"other"}"#));
    refused(service.get("/healthz"));
    // It would be for who waits.
    refused(service.get(&format!("{UNLOCK}/{id}")));
    refused(waits.answer("POST"));
    assert_eq!(service.found("")[0]["who"], "ann");
}

#[test]
fn where_threads_cannot_be_created_the_service_says_so_or_answers_all_calls() {
    let traced = |args: &[&str]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=clone,clone3"]).args(args).arg(PROGRAM);
        Start::of(command)
    };
    // The service is a child of the tracer, and would outlive it.
    let end = |mut service: Service| {
        let parent = service.pid();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        assert!(Command::new("kill").args(children.split_whitespace()).status().unwrap().success());
        assert_eq!(service.ended().code(), Some(0));
    };
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let all = traced(&["-o", trace.to_str().unwrap()]).go();
    // The first thread creates all that there are at the start.
    let trace = fs::read_to_string(&trace).unwrap();
    let first = trace.split(' ').next().unwrap();
    let number = trace.lines().filter(|line| line.starts_with(first)).count();
    end(all);
    assert!(number > 3, "{trace}");
    let without = |from: usize| {
        let inject = format!("inject=clone,clone3:error=EAGAIN:when={from}+");
        traced(&["-o", "/dev/null", "-e", &inject])
    };
    for from in 1..=number {
        let (status, said) = without(from).fails();
        assert_eq!(status, Some(125), "{from} of {number}: {said}");
        assert!(said.starts_with("aba-lockd: ") && said.contains("thread") && !said.contains("panicked"), "{said}");
    }
    let service = without(number + 1).go();
    let id = service.take("db", "ann");
    let mut lists: Vec<_> = (0..20).map(|_| service.connect()).collect();
    for list in &mut lists {
        list.send("GET", LIST, &[], "");
    }
    for mut list in lists {
        assert_eq!(list.answer("GET").ok()["total"], 1);
    }
    service.unlock(&id).ok();
    end(service);
}

#[test]
fn a_home_directory_is_not_made_for_the_store_and_what_is_in_its_place_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let start = |name: &str, value: &str, args: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["10", PROGRAM, "serve"]).args(args).args([
            "--listen",
            "127.0.0.1:0",
            "--grpc-listen",
            "127.0.0.1:0",
        ]);
        command.env_remove("XDG_STATE_HOME").env_remove("NOTIFY_SOCKET").env(name, value);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let home = directory.path().join("nobody/home");
    let (status, said) = start("HOME", home.to_str().unwrap(), &[]);
    assert!(
        status == Some(125) && said.contains("no place for the store: HOME is not set, or is not a directory"),
        "{said}"
    );
    assert!(!directory.path().join("nobody").exists());
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let store = format!("sqlite:{}/lockd.db", link.display());
    let (status, said) = start("HOME", directory.path().to_str().unwrap(), &["--store", &store]);
    assert!(
        status == Some(125) && said.contains(&format!("{} is a link that leads nowhere", link.display())),
        "{said}"
    );
}
