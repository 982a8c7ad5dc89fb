//! The log of a directory that several users share: its rotation, and files that another user puts in its way.

use crate::place::{Place, set_mode};
use crate::user::{ALICE, BOB, ROOT, STAFF, User, Way};
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Output, Stdio};

/// Runs a line with sh as this user, in the directory for locks. Returns the status, the output and the messages.
fn run(user: User, place: &Place, line: &str) -> (i32, String, String) {
    let line = format!("PATH='{}':$PATH; cd '{}' && {line}", place.base().display(), place.root().display());
    let Output { status, stdout, stderr } = user.program(place, "022", &["sh", "-c", &line]).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A directory that all users share, whose log root has turned on.
fn place_with_log() -> Place {
    let place = Place::new(ROOT.id, 0, 0o1777);
    assert_eq!(run(ROOT, &place, "aba-lock log --enable").0, 0);
    place
}

fn log_of(place: &Place) -> PathBuf {
    place.root().join("events.jsonl")
}

/// Appends lines to the log, until it has this number of bytes.
fn fill(place: &Place, size: u64) {
    let mut file = OpenOptions::new().append(true).open(log_of(place)).unwrap();
    let missing = size - file.metadata().unwrap().len();
    file.write_all("{\"event\":\"padding\"}\n".repeat(usize::try_from(missing / 20).unwrap() + 1).as_bytes()).unwrap();
}

/// Acquires the lock `a` with a command. Neither the call nor one with --skip-ok prints anything.
fn lock_quietly(user: User, place: &Place) {
    for option in ["", "--skip-ok "] {
        let said = run(user, place, &format!("aba-lock lock {option}a -- true"));
        assert_eq!(said, (0, String::new(), String::new()), "{}", user.name);
    }
}

/// Returns the holdings that `log` prints.
fn count_holdings(user: User, place: &Place) -> usize {
    run(user, place, "aba-lock log --json a").1.lines().count()
}

/// Returns the command in the hint of these messages.
fn find_command(said: &str) -> String {
    let (_, hint) = said.rsplit_once("hint: run as root: `").unwrap_or_else(|| panic!("no hint: {said}"));
    hint.split('`').next().unwrap().to_owned()
}

/// Returns the findings of `doctor` about the log.
fn examine(user: User, place: &Place) -> String {
    let said = run(user, place, "aba-lock doctor 2>&1").1;
    let from = said.find("event log").unwrap_or_else(|| panic!("{said}"));
    said[from..].lines().take(2).collect::<Vec<_>>().join("\n")
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_full_log_is_rotated_by_root_only_and_each_event_is_read_once() {
    let place = place_with_log();
    lock_quietly(ALICE, &place);
    fill(&place, 1 << 20);
    lock_quietly(ALICE, &place);
    assert!(!place.root().join("events.jsonl.1").exists());
    assert_eq!(fs::metadata(log_of(&place)).unwrap().nlink(), 1);
    assert_eq!(count_holdings(ALICE, &place), 4);
    assert!(examine(ALICE, &place).contains("; only root can rotate it"), "{}", examine(ALICE, &place));
    // A log of 4 MiB gets no more lines of her.
    fill(&place, 4 << 20);
    let size = fs::metadata(log_of(&place)).unwrap().len();
    lock_quietly(ALICE, &place);
    assert_eq!(fs::metadata(log_of(&place)).unwrap().len(), size);
    assert_eq!(count_holdings(ALICE, &place), 4);
    let problem = "4096 KiB, and only root can rotate it: new events of other users are dropped\n";
    let (status, _, said) = run(ALICE, &place, "aba-lock log a");
    assert!(status == 0 && said.contains(problem), "{said}");
    let found = examine(ALICE, &place);
    assert!(found.contains(problem.trim_end()), "{found}");
    // The hint helps.
    let command = find_command(&said);
    assert_eq!(run(ROOT, &place, &command).0, 0, "{command}");
    assert_eq!(fs::metadata(log_of(&place)).unwrap().len(), 0);
    lock_quietly(ALICE, &place);
    assert_eq!(count_holdings(ALICE, &place), 6);
    // A call of root rotates it, too.
    fill(&place, 1 << 20);
    lock_quietly(ROOT, &place);
    assert!(fs::metadata(log_of(&place)).unwrap().len() < 10_000);
    assert_eq!(count_holdings(ALICE, &place), 4);
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_hard_link_to_the_log_changes_nothing() {
    for (group, mode) in [(0, 0o1777), (STAFF, 0o2770)] {
        let place = Place::new(ROOT.id, group, mode);
        assert_eq!(run(ROOT, &place, "aba-lock log --enable").0, 0);
        lock_quietly(ALICE, &place);
        assert_eq!(run(BOB, &place, "ln events.jsonl mine").0, 0);
        lock_quietly(ALICE, &place);
        lock_quietly(ROOT, &place);
        assert_eq!(count_holdings(ALICE, &place), 6);
        assert!(examine(ALICE, &place).contains("has the events"), "{}", examine(ALICE, &place));
        assert_eq!(run(ROOT, &place, "aba-lock log --enable").0, 0);
        // The other name keeps the full log, and the new one has no other name.
        fill(&place, 1 << 20);
        lock_quietly(ROOT, &place);
        assert_eq!(fs::metadata(log_of(&place)).unwrap().nlink(), 1);
        assert_eq!(count_holdings(ALICE, &place), 8);
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_log_that_not_all_users_may_write_to_gets_no_lines_if_it_has_another_name() {
    let place = place_with_log();
    lock_quietly(ALICE, &place);
    assert_eq!(run(ROOT, &place, "chmod 644 events.jsonl && ln events.jsonl mine").0, 0);
    lock_quietly(ROOT, &place);
    assert_eq!(count_holdings(ROOT, &place), 2);
    let (status, _, said) = run(ALICE, &place, "aba-lock log --enable");
    assert!(status == 125 && said.contains("it has another name (hard link)"), "{said}");
    let command = find_command(&said);
    assert_eq!(run(ROOT, &place, &command).0, 0, "{command}");
    lock_quietly(ALICE, &place);
    assert_eq!(count_holdings(ALICE, &place), 2);
    let (_, said, _) = run(ALICE, &place, "aba-lock log --json --log events.jsonl.old");
    assert_eq!(said.lines().count(), 2);
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_directory_in_the_place_of_the_older_or_the_new_log_is_named_and_removed() {
    for name in ["events.jsonl.1", "events.jsonl.new"] {
        let place = place_with_log();
        lock_quietly(ALICE, &place);
        assert_eq!(run(BOB, &place, &format!("mkdir {name}")).0, 0);
        assert_eq!(count_holdings(ALICE, &place), 2, "{name}");
        // An empty one is removed by the rotation.
        fill(&place, 1 << 20);
        lock_quietly(ROOT, &place);
        assert!(fs::metadata(log_of(&place)).unwrap().len() < 10_000, "{name}");
        assert_eq!(count_holdings(ALICE, &place), 4, "{name}");
        assert_eq!(run(BOB, &place, &format!("mkdir {name}.bob && : >{name}.bob/file")).0, 0);
        let _ = fs::remove_file(place.root().join(name));
        fs::rename(place.root().join(format!("{name}.bob")), place.root().join(name)).unwrap();
        fill(&place, 1 << 20);
        lock_quietly(ROOT, &place);
        lock_quietly(ALICE, &place);
        let (status, _, said) = run(ALICE, &place, "aba-lock log a");
        assert!(status == 0 && said.contains(&format!("{name} is a directory, ")), "{said}");
        let found = examine(ALICE, &place);
        assert!(found.contains(&format!("{name} is a directory, ")), "{found}");
        assert_eq!(run(ROOT, &place, &find_command(&said)).0, 0, "{said}");
        lock_quietly(ROOT, &place);
        assert!(fs::metadata(log_of(&place)).unwrap().len() < 10_000, "{name}");
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_file_of_another_user_in_the_place_of_the_log_is_named_and_replaced() {
    let lock_file = ": >aba-a.lock; chmod 1666 aba-a.lock";
    let foreign = "it belongs to a user who does not own the directory";
    for (script, cause) in [
        (": >events.jsonl; chmod 666 events.jsonl", foreign),
        (": >events.jsonl; chmod 444 events.jsonl", foreign),
        ("mkdir -p events.jsonl/d", "it is not a regular file"),
        ("mkfifo events.jsonl; chmod 666 events.jsonl", "it is not a regular file"),
        ("ln -s /dev/null events.jsonl", "it is not a regular file"),
        (
            "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"events.jsonl\")'",
            "it is not a regular file",
        ),
    ] {
        let place = Place::new(ROOT.id, 0, 0o1777);
        assert_eq!(run(BOB, &place, &format!("{lock_file}; {script}")).0, 0);
        lock_quietly(ALICE, &place);
        lock_quietly(ROOT, &place);
        let found = examine(ALICE, &place);
        assert!(found.contains(cause) && found.contains("run as root: `"), "{script}: {found}");
        for call in ["log", "log -f", "log --enable"] {
            let (status, _, said) = run(ALICE, &place, &format!("timeout 60 aba-lock {call}"));
            assert!(status == 125 && said.contains(cause), "{script}: {call}: {said}");
            assert!(find_command(&said).ends_with(" aba-lock log --enable"), "{script}: {call}: {said}");
        }
        let (_, _, said) = run(ALICE, &place, "aba-lock log");
        let command = find_command(&said);
        assert_eq!(run(ROOT, &place, &command).0, 0, "{script}: {command}");
        lock_quietly(ALICE, &place);
        assert_eq!(count_holdings(ALICE, &place), 2, "{script}");
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_user_without_the_right_to_turn_the_log_on_or_off_gets_a_command_for_root() {
    let place = place_with_log();
    lock_quietly(ALICE, &place);
    for option in ["--disable", "--enable"] {
        let (status, _, said) = run(ALICE, &place, &format!("aba-lock log {option}"));
        if option == "--enable" {
            let refused = "only root and the owner of the directory can turn it on";
            assert!(status == 125 && said.contains(refused), "{said}");
        } else {
            assert!(status == 125 && said.contains("Operation not permitted\n"), "{said}");
        }
        let command = find_command(&said);
        assert!(command.ends_with(&format!(" aba-lock log {option}")), "{command}");
        assert_eq!(run(ROOT, &place, &command).0, 0, "{command}");
        fs::remove_file(log_of(&place)).unwrap();
    }
    // A member of a group cannot mark the lock files of others.
    let place = Place::new(ROOT.id, STAFF, 0o2770);
    assert!(BOB.call(&place, "022", &["lock", "a", "--", "true"]).status.success());
    let (status, said, error) = run(ALICE, &place, "aba-lock log --enable");
    assert!(status == 125 && said.contains("events are logged in "), "{said}");
    assert!(error.contains("aba-a.lock: Operation not permitted\n"), "{error}");
    assert_eq!(run(ROOT, &place, &find_command(&error)).0, 0);
    lock_quietly(BOB, &place);
    assert_eq!(count_holdings(ALICE, &place), 2);
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_lease_of_another_user_on_the_log_is_named_with_the_users_who_can_end_it() {
    let place = Place::new(ROOT.id, STAFF, 0o2770);
    assert_eq!(run(BOB, &place, "aba-lock log --enable").0, 0);
    let script = "import fcntl, os, signal
signal.signal(signal.SIGIO, signal.SIG_IGN)
f = os.open('events.jsonl', os.O_RDWR)
fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print('held', flush=True)
input()";
    let mut command = BOB.program(&place, "022", &["python3", "-c", script]);
    let mut process = command.current_dir(place.root()).stdin(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let pid = process.id();
    lock_quietly(ALICE, &place);
    for call in ["log", "log -f", "log --enable", "log --disable"] {
        let (status, _, said) = run(ALICE, &place, &format!("timeout 60 aba-lock {call}"));
        assert!(status == 125 && said.contains(&format!("events.jsonl: pid {pid} (")), "{call}: {said}");
        let hint = format!("hint: end that process with `kill {pid}`, as 61002 or root\n");
        assert!(said.ends_with(&hint), "{call}: {said}");
    }
    assert!(examine(ALICE, &place).contains(&format!("`kill {pid}`, as 61002 or root")));
    drop(process.stdin.take());
    process.wait().unwrap();
    lock_quietly(ALICE, &place);
    assert!(examine(ALICE, &place).contains("has the events"));
}

#[test]
#[ignore = "needs root: make test-root"]
fn files_of_another_user_in_the_place_of_lock_files_and_of_the_log_are_left_and_named() {
    let place = Place::new(ROOT.id, 0, 0o1777);
    fs::write(place.root().join("secret"), "").unwrap();
    set_mode(&place.root().join("secret"), 0o600);
    // A link of any user, where `fs.protected_hardlinks` is 0.
    fs::hard_link(place.root().join("secret"), place.lock_file("z")).unwrap();
    let (status, _, said) = run(ROOT, &place, "aba-lock log --enable");
    assert!(status == 125 && said.contains("/aba-z.lock: it has 2 names (hard links)"), "{said}");
    assert!(said.contains("\nhint: run `ABA_LOCK_DIR=") && said.contains(" aba-lock clean z`"), "{said}");
    assert_eq!(fs::metadata(place.root().join("secret")).unwrap().mode() & 0o7777, 0o600);
    fs::remove_file(place.lock_file("z")).unwrap();
    for (script, kind) in [("mkfifo", "FIFO"), ("mkdir", "directory"), ("ln -s /dev/null", "symbolic link")] {
        assert_eq!(run(BOB, &place, &format!("{script} aba-f.lock")).0, 0);
        let (status, _, said) = run(ALICE, &place, "aba-lock lock b -- true; aba-lock log f");
        assert!(status == 1 && said.contains(&format!("hint: a {kind} is in the place of its lock file: ")), "{said}");
        let (_, command) = said.rsplit_once("run as root: `").unwrap();
        assert_eq!(run(ROOT, &place, command.trim_end().trim_end_matches('`')).0, 0, "{said}");
        assert!(fs::symlink_metadata(place.lock_file("f")).is_err());
    }
    // An unmarked file of another user needs root.
    assert_eq!(run(BOB, &place, ": >aba-u.lock; chmod 666 aba-u.lock").0, 0);
    let (_, _, said) = run(ALICE, &place, "aba-lock log u");
    assert!(said.contains("are not logged: run as root: `ABA_LOCK_DIR="), "{said}");
    assert!(examine(ALICE, &place).contains("run as root: `ABA_LOCK_DIR="), "{}", examine(ALICE, &place));
    // No event is in a log of another user.
    fs::remove_file(log_of(&place)).unwrap();
    assert_eq!(run(BOB, &place, ": >events.jsonl; chmod 666 events.jsonl").0, 0);
    let (_, said, _) = run(ROOT, &place, "aba-lock log --disable");
    assert!(said.ends_with("/events.jsonl is a file of another user, and is left as it is\n"), "{said}");
    assert_eq!(fs::metadata(log_of(&place)).unwrap().mode() & 0o777, 0o666);
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_log_that_another_user_makes_huge_is_read_in_part_and_not_kept() {
    let place = place_with_log();
    lock_quietly(ALICE, &place);
    let enlarge = |name: &str| assert_eq!(run(BOB, &place, &format!("truncate -s 1T {name}")).0, 0);
    enlarge("events.jsonl");
    for call in ["status a", "log", "log a", "metrics", "doctor", "log --enable"] {
        let (status, _, said) = run(ALICE, &place, &format!("timeout 60 aba-lock {call}"));
        assert_ne!(status, 124, "{call}: {said}");
    }
    // A call that follows the log reads the events that come after that, also if the log is made short again.
    let follow = ": >$HOME/said; timeout 100 aba-lock log -f >$HOME/said 2>&1 & trap 'kill $!' EXIT
        until grep -q 'only the last 5 MiB are read' $HOME/said; do kill -0 $! || exit 8; sleep 0.01; done
        printf '\\n%s\\n' '{\"time\":\"2026-11-30T02:10:00.000Z\",\"event\":\"free\",\"lock\":\"late\",\"path\":\"/a\",\"pid\":7}' >>events.jsonl
        until grep -q late $HOME/said; do kill -0 $! || exit 9; sleep 0.01; done
        : >events.jsonl; aba-lock lock again -- true
        until grep -q 'again: .*acquired' $HOME/said; do kill -0 $! || exit 9; sleep 0.01; done";
    let (status, _, said) = run(ROOT, &place, follow);
    assert_eq!(status, 0, "{said}");
    let problem = "1048576 MiB, more than aba-lock writes: only the last 5 MiB are read";
    for name in ["events.jsonl", "events.jsonl.1"] {
        fill(&place, 1 << 20);
        lock_quietly(ROOT, &place);
        enlarge(name);
        let found = examine(ALICE, &place);
        assert!(found.contains(problem), "{name}: {found}");
        let (_, _, said) = run(ALICE, &place, "timeout 60 aba-lock log");
        assert!(said.contains(&format!("{name} has {problem}\n")), "{name}: {said}");
        assert_eq!(run(ROOT, &place, &find_command(&said)).0, 0, "{said}");
        for name in ["events.jsonl", "events.jsonl.1"] {
            let size = fs::metadata(place.root().join(name)).map_or(0, |data| data.len());
            assert!(size < 5 << 20, "{name}: {size}");
        }
        lock_quietly(ALICE, &place);
        assert!(examine(ALICE, &place).contains("has the events"), "{}", examine(ALICE, &place));
    }
    // A log that is turned off stays off.
    fill(&place, 1 << 20);
    lock_quietly(ROOT, &place);
    enlarge("events.jsonl.1");
    assert_eq!(run(ROOT, &place, "aba-lock log --disable").0, 0);
    let (_, _, said) = run(ALICE, &place, "timeout 60 aba-lock log");
    let command = find_command(&said);
    assert!(command.starts_with("rm ") && run(ROOT, &place, &command).0 == 0, "{said}");
    assert!(!run(ALICE, &place, "aba-lock log").2.contains("MiB"));
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_log_that_another_user_keeps_locked_is_named() {
    let place = place_with_log();
    lock_quietly(ROOT, &place);
    fill(&place, 4 << 20);
    let script = "exec 9<events.jsonl; flock 9; echo locked; read -r _";
    let mut command = BOB.program(&place, "022", &["sh", "-c", script]);
    let mut process = command.current_dir(place.root()).stdin(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    lock_quietly(ROOT, &place);
    let problem = "4096 KiB, and is not rotated, because another process locks it";
    assert!(examine(ROOT, &place).contains(problem), "{}", examine(ROOT, &place));
    let (_, _, said) = run(ROOT, &place, "aba-lock log a");
    let command = said.split('`').nth(1).unwrap_or_else(|| panic!("{said}"));
    let (status, found, _) = run(ROOT, &place, command);
    assert!(status == 0 && found.contains(&format!("pid {}, ", process.id())), "{command}: {found}");
    drop(process.stdin.take());
    process.wait().unwrap();
    lock_quietly(ROOT, &place);
    assert!(fs::metadata(log_of(&place)).unwrap().len() < 10_000);
}

#[test]
#[ignore = "needs root: make test-root"]
fn the_user_of_a_killed_holder_and_that_of_the_killer_are_in_the_log() {
    let place = place_with_log();
    let holder = ALICE.hold(&place, "022", Way::Helper, "a").unwrap_or_else(|output| panic!("{output:?}"));
    assert_eq!(run(ROOT, &place, "aba-lock unlock --kill a").0, 0);
    drop(holder);
    let lines = fs::read_to_string(log_of(&place)).unwrap();
    let killed: Vec<&str> = lines.lines().filter(|line| line.contains("\"cause\":\"kill\"")).collect();
    assert!(!killed.is_empty(), "{lines}");
    for line in killed {
        assert!(line.contains("\"user\":\"61001\"") && line.contains("\"killer_user\":\"root\""), "{line}");
    }
    let (_, said, _) = run(ALICE, &place, "aba-lock log a");
    assert!(said.contains(", user 61001\n") && said.contains("; ended by `unlock --kill`, pid "), "{said}");
}
