//! A store that does not work, or cannot be used: no lock is granted or released, and none is reported as free.

use crate::harness::{LIST, LOCK, PROGRAM, Service, Start, UNLOCK, run_program, wait_until};
use crate::http::Answer;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// Sets a limit of the service, an option of prlimit(1) such as `--fsize=0:`.
fn set_limit(service: &Service, limit: &str) {
    run_program(Command::new("prlimit").args(["--pid", &service.pid().to_string(), limit]));
}

/// Starts a service whose writes can be made to fail. It ignores SIGXFSZ, which would end it.
fn start_with_failing_writes() -> Service {
    Start::with_script("trap '' XFSZ; exec \"$0\" \"$@\"").start()
}

#[test]
fn a_store_that_cannot_write_grants_nothing_and_releases_nothing() {
    let service = start_with_failing_writes();
    let held = service.acquire("held", "ann");
    let mut waiter = service.start_waiting_for("held", "bob", r#""wait":"60s""#);
    service.wait_for_waiters("held", 1);
    set_limit(&service, "--fsize=0:");
    for _ in 0..3 {
        service.request("free", "ann", "").expect_refusal(503, 14);
        service.request("free", "ann", r#""wait":"1s""#).expect_refusal(503, 14);
        service.call("PUT", &format!("{LOCK}/{held}"), r#"{"who":"eve"}"#).expect_refusal(503, 14);
        service.call("PUT", &format!("{LOCK}/{held}/renew"), r#"{"ttl":"1h"}"#).expect_refusal(503, 14);
    }
    // The waiters get the error as well, because the lock may or may not be released.
    service.unlock(&held).expect_refusal(503, 14);
    waiter.answer("POST").expect_refusal(503, 14);
    service.get("/healthz").expect_refusal(503, 14);
    // The service is not up although locks can still be read.
    let metrics = service.get("/metrics").text;
    assert!(metrics.contains("\naba_lockd_up 0\n") && metrics.contains("\naba_lockd_locks 1\n"), "{metrics}");
    set_limit(&service, "--fsize=unlimited:");
    wait_until("the service is healthy again", || service.get("/healthz").status == 200);
    assert!(service.get("/metrics").text.contains("\naba_lockd_up 1\n"));
    // The lock is unchanged.
    let found = service.list("");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0]["id"].as_str(), found[0]["who"].as_str()), (Some(&*held), Some("ann")));
    service.request("held", "bob", "").expect_refusal(409, 6);
    service.acquire("free", "ann");
    service.unlock(&held).ok();
}

#[test]
fn a_lock_that_expires_while_the_store_cannot_write_ends_when_it_can() {
    let service = start_with_failing_writes();
    let id = service.request("db", "ann", r#""ttl":"100ms""#).id();
    set_limit(&service, "--fsize=0:");
    service.get("/healthz").expect_refusal(503, 14);
    set_limit(&service, "--fsize=unlimited:");
    wait_until("the lock has ended", || service.get(&format!("{LOCK}/{id}")).status == 404);
    service.acquire("db", "bob");
}

#[test]
fn a_lock_is_not_reported_as_free_if_the_store_cannot_be_read() {
    let service = Service::new();
    let id = service.acquire("held", "ann");
    // Connects first, because the limit leaves no descriptor for a new connection, nor for reading the store.
    let mut connection = service.connect();
    connection.call("GET", "/openapi.json", &[], "").ok();
    set_limit(&service, "--nofile=3:");
    connection.call("GET", &format!("{LOCK}/{id}"), &[], "").expect_refusal(503, 14);
    connection.call("GET", LIST, &[], "").expect_refusal(503, 14);
    let metrics = connection.call("GET", "/metrics", &[], "").text;
    assert!(metrics.contains("\naba_lockd_up 0\n") && !metrics.contains("aba_lockd_locks"), "{metrics}");
    set_limit(&service, "--nofile=1024:");
    assert_eq!(connection.call("GET", &format!("{LOCK}/{id}"), &[], "").id(), id);
}

#[test]
fn a_damaged_store_is_refused() {
    let mut service = Service::new();
    service.acquire("held", "ann");
    service.terminate();
    // Moves all pages from the write-ahead log into the file that is damaged below.
    drop(
        rusqlite::Connection::open(service.store())
            .unwrap()
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())),
    );
    let mut file = OpenOptions::new().write(true).open(service.store()).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&[0xa5; 4096]).unwrap();
    let store = format!("sqlite:{}", service.store().display());
    let output = Start::new().store(&store).run_and_expect(125);
    assert!(output.contains("cannot open store"), "{output}");
}

#[test]
fn a_store_without_write_permission_is_refused_with_a_hint() {
    // In a user namespace without capabilities, permissions apply to root as well.
    let start = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-current-user", "setpriv", "--bounding-set=-all", "--inh-caps=-all", PROGRAM]);
        Start::with_command(command)
    };
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("read-only");
    fs::create_dir(&directory).unwrap();
    let set_mode = |mode| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    for files in [&[][..], &["x.db"], &["x.db", "x.db.lock"]] {
        set_mode(0o755);
        for file in files {
            OpenOptions::new().create(true).append(true).open(directory.join(file)).unwrap();
        }
        set_mode(0o555);
        for name in ["x.db", "new/x.db"] {
            let store = format!("sqlite:{}/{name}", directory.display());
            let output = start().store(&store).run_and_expect(125);
            assert!(output.contains("\nhint: make the store and its directory writable"), "{files:?} {output}");
            assert!(!output.contains("ABA_LOCK_DIR"), "{output}");
        }
    }
    set_mode(0o755);
}

#[test]
fn a_store_that_is_not_a_regular_file_is_refused_without_the_hint_about_permissions() {
    let place = tempfile::tempdir().unwrap();
    let (directory, fifo) = (place.path().join("directory"), place.path().join("fifo"));
    fs::create_dir(&directory).unwrap();
    run_program(Command::new("mkfifo").arg(&fifo));
    for path in [&directory, &fifo, &place.path().join("x".repeat(300))] {
        let output = Start::new().store(&format!("sqlite:{}", path.display())).run_and_expect(125);
        assert!(output.contains("cannot open store ") && !output.contains("writable"), "{output}");
    }
    // The service has created no files next to them.
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}

#[test]
fn a_second_service_cannot_use_the_same_store() {
    let service = Service::new();
    let store = format!("sqlite:{}", service.store().display());
    let output = Start::new().store(&store).run_and_expect(125);
    assert!(
        output.contains("another process uses it (pid") && output.contains(&format!("pid {}", service.pid())),
        "{output}"
    );
    service.acquire("db", "ann");
}

#[test]
fn a_second_service_cannot_use_the_same_store_by_another_name() {
    let service = Service::new();
    let (soft, hard) = (service.path("soft.db"), service.path("hard.db"));
    std::os::unix::fs::symlink(service.store(), &soft).unwrap();
    fs::hard_link(service.store(), &hard).unwrap();
    // The lock on the store itself does not depend on the lock file.
    fs::remove_file(format!("{}.lock", service.store().display())).unwrap();
    for name in [&soft, &hard, &service.store()] {
        let output = Start::new().store(&format!("sqlite:{}", name.display())).run_and_expect(125);
        assert!(
            output.contains("another process uses it (pid") && output.contains(&format!("pid {}", service.pid())),
            "{output}"
        );
    }
    // SQLite does not take these for the path of a file.
    for name in [":memory:", "file:x", "file::memory:?cache=shared"] {
        let output = Start::new().store(&format!("sqlite:{name}")).run_and_expect(2);
        assert!(
            output.contains(&format!("invalid store: --store sqlite:{name} does not name a file"))
                && output.contains("hint: "),
            "{output}"
        );
    }
}

/// Checks that no lock is granted, released or shown.
fn expect_fault(service: &Service, id: &str) {
    service.request("free", "bob", "").expect_refusal(503, 14);
    service.request("held", "bob", "").expect_refusal(503, 14);
    service.unlock(id).expect_refusal(503, 14);
    service.get(LIST).expect_refusal(503, 14);
    service.get(&format!("{LOCK}/{id}")).expect_refusal(503, 14);
    wait_until("the health check fails", || service.get("/healthz").status == 503);
}

#[test]
fn a_store_that_is_removed_or_replaced_while_in_use_is_a_fault_until_it_is_restored() {
    let service = Service::new();
    let id = service.acquire("held", "ann");
    let (store, aside) = (service.store(), service.path("aside"));
    for name in ["", "-wal"] {
        let file = format!("{}{name}", store.display());
        fs::rename(&file, &aside).unwrap();
        expect_fault(&service, &id);
        fs::copy(&aside, &file).unwrap();
        expect_fault(&service, &id);
        fs::rename(&aside, &file).unwrap();
        service.request("held", "bob", "").expect_refusal(409, 6);
        wait_until("the service is healthy again", || service.get("/healthz").status == 200);
    }
    assert_eq!(service.list("").len(), 1);
    // If all files are removed, another service can create a store at this path. This service still reports the fault.
    for name in ["", "-wal", "-shm", ".lock"] {
        fs::remove_file(format!("{}{name}", store.display())).unwrap();
    }
    let other = Start::new().store(&format!("sqlite:{}", store.display())).start();
    other.acquire("held", "bob");
    expect_fault(&service, &id);
}

#[test]
fn a_store_that_is_emptied_while_in_use_is_a_fault() {
    let service = Service::new();
    let id = service.acquire("held", "ann");
    OpenOptions::new().write(true).open(service.store()).unwrap().set_len(0).unwrap();
    expect_fault(&service, &id);
}

#[test]
fn a_database_of_another_program_or_a_newer_version_is_refused() {
    let start = Start::new();
    let (foreign, newer) = (start.path("foreign.db"), start.path("newer.db"));
    let other = rusqlite::Connection::open(&foreign).unwrap();
    other.execute_batch("CREATE TABLE users (name TEXT); INSERT INTO users VALUES ('ann')").unwrap();
    drop(other);
    let before = fs::read(&foreign).unwrap();
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 7).unwrap();
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "application_id", 0x6162_6c6b).unwrap();
    for (file, why) in [(&foreign, "it is a database of another program"), (&newer, "its format has version 7")] {
        let output = Start::new().store(&format!("sqlite:{}", file.display())).run_and_expect(125);
        assert!(output.contains(&format!("cannot open store {}: {why}", file.display())), "{output}");
        assert!(output.contains("\nhint: ") && !output.contains("nothing"), "{output}");
    }
    assert_eq!(fs::read(&foreign).unwrap(), before);
}

#[test]
fn a_store_without_tokens_left_grants_no_lock() {
    let mut service = Service::new();
    let id = service.acquire("held", "ann");
    service.terminate();
    let store = rusqlite::Connection::open(service.store()).unwrap();
    store.execute("UPDATE counter SET token = ?1", [i64::MAX]).unwrap();
    drop(store);
    let service = service.restart(&[]);
    let mut waiter = service.start_waiting_for("held", "bob", r#""wait":"1h""#);
    service.wait_for_waiters("held", 1);
    let expect_overflow = |answer: Answer| {
        let message = answer.expect_refusal(503, 14)["message"].to_string();
        assert!(message.contains("INTEGER") && !message.contains("ended"), "{message}");
    };
    expect_overflow(service.request("free", "bob", ""));
    expect_overflow(service.call("PUT", &format!("{LOCK}/{id}"), r#"{"resource":"other"}"#));
    expect_overflow(service.get("/healthz"));
    // The release would grant the lock to the waiter.
    expect_overflow(service.get(&format!("{UNLOCK}/{id}")));
    expect_overflow(waiter.answer("POST"));
    assert_eq!(service.list("")[0]["who"], "ann");
}

#[test]
fn if_threads_cannot_be_created_the_service_refuses_to_start_or_answers_all_calls() {
    let traced = |args: &[&str]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-e", "trace=clone,clone3"]).args(args).arg(PROGRAM);
        Start::with_command(command)
    };
    // The service is a child of strace, and would outlive it.
    let terminate = |mut service: Service| {
        let parent = service.pid();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        assert!(Command::new("kill").args(children.split_whitespace()).status().unwrap().success());
        assert_eq!(service.wait_for_exit().code(), Some(0));
    };
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace");
    let all = traced(&["-o", trace.to_str().unwrap()]).start();
    // The first thread creates all other threads of the start.
    let trace = fs::read_to_string(&trace).unwrap();
    let first = trace.split(' ').next().unwrap();
    let number = trace.lines().filter(|line| line.starts_with(first)).count();
    terminate(all);
    assert!(number > 3, "{trace}");
    let failing_from = |from: usize| {
        let inject = format!("inject=clone,clone3:error=EAGAIN:when={from}+");
        traced(&["-o", "/dev/null", "-e", &inject])
    };
    for from in 1..=number {
        let output = failing_from(from).run_and_expect(125);
        assert!(
            output.starts_with("aba-lockd: ") && output.contains("thread") && !output.contains("panicked"),
            "{output}"
        );
    }
    let service = failing_from(number + 1).start();
    let id = service.acquire("db", "ann");
    let mut lists: Vec<_> = (0..20).map(|_| service.connect()).collect();
    for list in &mut lists {
        list.send("GET", LIST, &[], "");
    }
    for mut list in lists {
        assert_eq!(list.answer("GET").ok()["total"], 1);
    }
    service.unlock(&id).ok();
    terminate(service);
}

#[test]
fn a_missing_home_directory_is_not_created_for_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let start = |name: &str, value: &str, args: &[&str]| {
        let mut command = Command::new("timeout");
        command.args(["60", PROGRAM, "serve"]).args(args).args([
            "--listen",
            "127.0.0.1:0",
            "--grpc-listen",
            "127.0.0.1:0",
        ]);
        command.env_remove("XDG_STATE_HOME").env_remove("NOTIFY_SOCKET").env(name, value);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let home = directory.path().join("missing/home");
    let (status, output) = start("HOME", home.to_str().unwrap(), &[]);
    assert!(
        status == Some(125) && output.contains("no directory for the store: HOME is not set, or is not a directory"),
        "{output}"
    );
    assert!(!directory.path().join("missing").exists());
    let link = directory.path().join("link");
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let store = format!("sqlite:{}/lockd.db", link.display());
    let (status, output) = start("HOME", directory.path().to_str().unwrap(), &["--store", &store]);
    assert!(
        status == Some(125) && output.contains(&format!("{} is a link to a missing file", link.display())),
        "{output}"
    );
}
