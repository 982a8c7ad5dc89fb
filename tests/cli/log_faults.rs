//! The log of a state root that cannot be written, and a log that is no file: the locks are not affected.

use crate::log::{enable, events, log_file};
use crate::process::{PATIENCE, is_root, set_mode};
use crate::scene::{HELPER, NOBODY, Scene};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixDatagram;

/// The beginning of the message about the log at `$ABA_LOCK_DIR`.
fn complaint(scene: &Scene) -> String {
    format!("cannot write to the event log {}: ", log_file(scene).display())
}

#[test]
fn a_full_disk_changes_nothing_for_the_locks_and_later_events_are_read() {
    let scene = Scene::new();
    scene.make_root();
    let script = r#"
        mount -t tmpfs -o size=64k,mode=700,nr_inodes=6 none "$ABA_LOCK_DIR" || exit 8
        : >"$ABA_LOCK_DIR/1"; : >"$ABA_LOCK_DIR/2"; : >"$ABA_LOCK_DIR/3"; : >"$ABA_LOCK_DIR/4"; : >"$ABA_LOCK_DIR/5"
        "$HELPER" log --enable 2>&1; "$HELPER" reserve --pool p --range 1-3 2>&1; "$HELPER" run-once -w -i t -- true 2>&1
        mount -t tmpfs -o size=64k,mode=700 none "$ABA_LOCK_DIR" && "$HELPER" log --enable && "$HELPER" lock a -- true || exit 9
        head -c 1M /dev/zero >"$ABA_LOCK_DIR/filler" 2>/dev/null
        for i in {1..30}; do [[ $("$HELPER" lock a -- echo ran) == ran ]] || exit 10; done
        rm "$ABA_LOCK_DIR/filler"
        "$HELPER" lock b -- true || exit 11
        "$HELPER" log b"#;
    let call = scene.in_mount_namespace().args(["bash", "-c", script]).env("HELPER", HELPER);
    let said = call.out("  b: pid ").out("; exit status 0\n").err(complaint(&scene)).run();
    let full = "No space left on device; locks are not affected\nhint: free some disk space, or turn the log off with ";
    assert!(said.err.contains(full), "{}", said.err);
    // Neither the log nor a directory could be created.
    let hint = "No space left on device\nhint: free some space: find large directories with ";
    assert_eq!(said.out.matches(hint).count(), 3, "{}", said.out);
    // One message for each call that could not write.
    assert!(said.err.lines().count() <= 60 && said.err.lines().count().is_multiple_of(2), "{}", said.err);
}

#[test]
fn a_read_only_directory_changes_nothing_for_the_locks() {
    let scene = Scene::new();
    scene.make_root();
    let script = r#"
        mount -t tmpfs -o mode=700 none "$ABA_LOCK_DIR" && "$HELPER" log --enable && "$HELPER" lock a -- true || exit 9
        mount -o remount,ro "$ABA_LOCK_DIR" || exit 10
        "$HELPER" lock a -- echo ran || exit 11
        "$HELPER" log a"#;
    let call = scene.in_mount_namespace().args(["bash", "-c", script]).env("HELPER", HELPER);
    let said = call.out("ran\n").out("  a: pid ").err(complaint(&scene)).run();
    assert!(said.err.contains("Read-only file system; locks are not affected\n"), "{}", said.err);
    // One message of the call of `lock`, and one of `log`.
    assert!(said.err.contains("Read-only file system: events are not logged\n"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 3, "{}", said.err);
}

#[test]
fn a_log_without_permission_changes_nothing_for_the_locks() {
    let scene = Scene::new();
    scene.make_root();
    if is_root() {
        chown(scene.root(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    scene.unprivileged().args(["log", "--enable"]).out("events are logged").run();
    scene.unprivileged().args(["lock", "a", "--", "true"]).run();
    // The owner may not write, although the log is turned on for others.
    set_mode(log_file(&scene), 0o060);
    let said = scene.unprivileged().args(["lock", "a", "--", "echo", "ran"]).out("ran\n").err(complaint(&scene)).run();
    assert!(said.err.contains("Permission denied; locks are not affected\n"), "{}", said.err);
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
    let hint = "Permission denied\nhint: the mode of ";
    let said = scene.unprivileged().args(["log", "a"]).status(125).err(hint).run();
    assert_eq!(said.err.lines().count(), 2, "{}", said.err);
}

#[test]
fn ten_writers_lose_no_line_while_the_log_is_rotated() {
    let scene = Scene::new();
    scene.make_root();
    enable(&scene);
    // Room for some ten events.
    let padding = "{\"event\":\"padding\"}\n".repeat(((1 << 20) - 4000) / 20);
    fs::write(log_file(&scene), padding).unwrap();
    let script = "for i in {1..10}; do \"$HELPER\" lock \"w$0-$i\" -- true || exit; done";
    let calls = (0..10).map(|n| scene.bash(&script.replace("$0", &n.to_string())).start());
    for call in calls.collect::<Vec<_>>() {
        call.finish();
    }
    let older = fs::read_to_string(scene.root().join("events.jsonl.1")).unwrap();
    assert!(older.len() > 1 << 19 && events(&scene).len() > 20, "the log was not rotated once");
    let text = older + &fs::read_to_string(log_file(&scene)).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names = |event: &str| -> BTreeSet<String> {
        lines.iter().filter(|line| line["event"] == event).map(|line| line["lock"].to_string()).collect()
    };
    assert_eq!((names("acquired").len(), names("released").len()), (100, 100));
}

#[test]
fn standard_error_and_a_socket_can_be_the_log() {
    let scene = Scene::new();
    let said = scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_LOG", "/dev/stderr").err("{\"time\":").run();
    let event: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(event["event"], "acquired");

    let socket = UnixDatagram::bind(scene.path("socket")).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_LOG", scene.path("socket")).run();
    let mut text = [0; 4096];
    let length = socket.recv(&mut text).unwrap();
    let text = std::str::from_utf8(&text[..length]).unwrap();
    let (head, line) = text.split_once(": ").unwrap();
    assert!(head.starts_with("<13>aba-lock[") && head.ends_with(']'), "{text}");
    let event: Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["lock"], "a");
    // A full socket does not block. Each sender has a limit of its own, so the socket is full when the first message of a sender is refused.
    loop {
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        let send = || sender.send_to(b"x", scene.path("socket"));
        match send() {
            Ok(_) => while send().is_ok() {},
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_LOG", scene.path("socket")).err("").run();
    // The process that has bound this socket has ended.
    let bind = "import socket, sys; socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind(sys.argv[1])";
    scene.call("python3").args(["-c", bind]).arg(scene.path("left")).run();
    scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_LOG", scene.path("left")).err("Connection refused").run();
}
