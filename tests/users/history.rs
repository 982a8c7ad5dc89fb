//! `log`, `metrics` and `clean` with locks of the user and of the system, and a lock that a process of another user keeps.

use crate::place::{Place, set_mode};
use crate::user::{ALICE, BOB, ROOT, User};
use std::fs;
use std::process::{Command, Output};

/// Runs a line with sh as this user.
fn run(user: User, place: &Place, line: &str) -> (i32, String) {
    let path = format!("PATH='{}':$PATH; {line}", place.base().display());
    let Output { status, stdout, stderr } = user.program(place, "022", &["sh", "-c", &path]).output().unwrap();
    (status.code().unwrap(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// Makes a place with the directory of the system.
fn place_with_system_locks() -> Place {
    let place = Place::with_own_run_lock();
    assert_eq!(run(ROOT, &place, "aba-lock lock --system job -- true").0, 0);
    place
}

#[test]
#[ignore = "needs root: make test-root"]
fn log_shows_the_locks_of_the_user_and_of_the_system() {
    let place = place_with_system_locks();
    // Without a log of the system, the output has no line about it.
    let (status, said) = run(ALICE, &place, "aba-lock lock job -- true; aba-lock log job");
    assert!(status == 1 && said.contains("/.aba/events.jsonl does not exist\n"), "{said}");
    assert_eq!(run(ROOT, &place, "aba-lock log --system --enable").0, 0);
    assert_eq!(run(BOB, &place, "aba-lock lock --system job -- true").0, 0);
    let (status, said) = run(ALICE, &place, "aba-lock log job");
    assert!(status == 0 && said.contains("  job: pid ") && !said.contains("scope"), "{said}");
    assert_eq!(
        run(ALICE, &place, "aba-lock log --enable && aba-lock lock job -- true && aba-lock lock own -- true").0,
        0
    );
    let (status, said) = run(ALICE, &place, "aba-lock log");
    let labels: Vec<&str> = said.lines().filter_map(|line| line.split("UTC  ").nth(1)?.split(": pid").next()).collect();
    assert_eq!((status, labels), (0, vec!["job (scope system)", "job (scope user)", "own (scope user)"]), "{said}");
    let scopes = "sed -n 's/.*\"scope\":\"\\([a-z]*\\)\".*/\\1/p' | tr '\\n' ' '";
    for (line, found) in [
        ("aba-lock log --json", "system user user "),
        ("aba-lock log --json job", "system user "),
        ("aba-lock log --json --system", "system "),
        ("ABA_LOCK_SCOPE=user aba-lock log --json", "user user "),
        ("ABA_LOCK_DIR=$HOME/.aba aba-lock log --json", "directory directory "),
    ] {
        assert_eq!(run(ALICE, &place, &format!("{line} | {scopes}")).1, found, "{line}");
    }
    // Both logs are named if neither has a holder of the lock.
    let (status, said) = run(ALICE, &place, "aba-lock log nosuch");
    let logs = "/alice/.aba/events.jsonl and /run/lock/aba-lock/events.jsonl, which begin at ";
    assert!(status == 1 && said.contains("nosuch: no holder in the logs ") && said.contains(logs), "{said}");
    // The new events of both logs are followed.
    let follow = ": >said; aba-lock log -f job >said & trap 'kill $!' EXIT
        until [ $(grep -c 'released by' said) = 2 ]; do sleep 0.01; done
        aba-lock lock --system job -- true; until [ $(grep -c 'released by' said) = 3 ]; do sleep 0.01; done
        aba-lock lock job -- true
        until [ $(grep -c 'released by' said) = 4 ]; do sleep 0.01; done
        sed 's/.*UTC  //; s/: .*//' said | uniq -c | tr -s ' '";
    let (_, said) = run(ALICE, &place, &format!("cd \"$HOME\"; {follow}"));
    let labels = " 2 job (scope system)\n 2 job (scope user)\n";
    assert_eq!(said, labels.repeat(2));
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_log_of_the_system_that_another_user_made_is_not_read() {
    let place = place_with_system_locks();
    assert_eq!(run(ALICE, &place, "aba-lock log --enable && aba-lock lock own -- true").0, 0);
    let event = "{\\\"time\\\":\\\"2020-01-01T00:00:00.000Z\\\",\\\"event\\\":\\\"acquired\\\",\\\"lock\\\":\\\"evil\\\",\\\"path\\\":\\\"/e\\\",\\\"pid\\\":7}";
    for line in [
        "mkfifo /run/lock/aba-lock/events.jsonl",
        "ln -s /dev/zero /run/lock/aba-lock/events.jsonl",
        "truncate -s 1G /run/lock/aba-lock/events.jsonl; chmod 666 /run/lock/aba-lock/events.jsonl",
        &format!("echo \"{event}\" >/run/lock/aba-lock/events.jsonl"),
        "echo >/run/lock/aba-lock/events.jsonl; chmod 0 /run/lock/aba-lock/events.jsonl",
    ] {
        assert_eq!(run(BOB, &place, line).0, 0, "{line}");
        let (status, said) = run(ALICE, &place, "timeout 60 aba-lock log");
        assert!(status == 0 && said.contains("  own: pid ") && !said.contains("evil"), "{line}: {said}");
        let (status, said) = run(ALICE, &place, "timeout 60 aba-lock metrics");
        assert!(status == 0 && said.contains("acquisitions_total{lock=\"own\",scope=\"user\"} 1\n"), "{line}: {said}");
        assert!(!said.contains("evil"), "{line}: {said}");
        run(BOB, &place, "rm -f /run/lock/aba-lock/events.jsonl");
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn metrics_have_a_label_for_the_scope() {
    let place = place_with_system_locks();
    assert_eq!(run(ROOT, &place, "aba-lock log --system --enable && aba-lock lock --system job -- true").0, 0);
    assert_eq!(run(ALICE, &place, "aba-lock lock job -- true").0, 0);
    let rows = |line: &str| {
        let (status, said) =
            run(ALICE, &place, &format!("{line} | grep -E '^aba_lock_(held|acquisitions_total).*job'"));
        assert_eq!(status, 0, "{line}: {said}");
        said
    };
    let [user, system] = ["user", "system"].map(|scope| format!("{{lock=\"job\",scope=\"{scope}\"}}"));
    // The lock of the user is not logged, so its counter is 0.
    let [held, counted] = ["aba_lock_held", "aba_lock_acquisitions_total"];
    assert_eq!(
        rows("aba-lock metrics"),
        format!("{held}{user} 0\n{held}{system} 0\n{counted}{system} 1\n{counted}{user} 0\n")
    );
    assert_eq!(rows("aba-lock metrics --system"), format!("{held}{system} 0\n{counted}{system} 1\n"));
    assert_eq!(rows("ABA_LOCK_SCOPE=user aba-lock metrics"), format!("{held}{user} 0\n"));
}

#[test]
#[ignore = "needs root: make test-root"]
fn clean_removes_lock_files_of_one_scope_and_names_it() {
    let place = Place::with_own_run_lock();
    assert_eq!(
        run(ALICE, &place, "aba-lock lock own -- true; aba-lock clean").1,
        "removed lock own\n1 removed, 0 left\n"
    );
    assert_eq!(run(ROOT, &place, "aba-lock lock --system job -- true").0, 0);
    assert_eq!(run(ALICE, &place, "aba-lock lock own -- true; aba-lock lock --system other -- true").0, 0);
    let note = " (scope user; for the locks of all users, add --system)";
    assert_eq!(
        run(ALICE, &place, "aba-lock clean own job").1,
        format!(
            "removed lock own\nleft lock job: it does not exist in the scope user; add --system for that of all users\n1 removed, \
             1 left{note}\n"
        )
    );
    assert_eq!(run(ALICE, &place, "aba-lock clean --dry-run").1, format!("0 to remove, 0 to leave{note}\n"));
    assert_eq!(run(ALICE, &place, "aba-lock clean -q").1, "");
    let (status, said) = run(ALICE, &place, "aba-lock clean --system");
    assert_eq!(
        (status, said.as_str()),
        (0, "left lock job: it belongs to root\nremoved lock other\n1 removed, 1 left\n")
    );
    assert_eq!(run(ROOT, &place, "aba-lock clean --system").1, "removed lock job\n1 removed, 0 left\n");
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_child_that_the_user_may_not_examine_and_that_keeps_the_lock_is_in_the_log() {
    let place = Place::new(ALICE.id, ALICE.id, 0o700);
    // Alice may not read the program, so she sees neither the files nor the descriptors of its process. (A set-user-ID bit has no effect
    // in a session with PR_SET_NO_NEW_PRIVS.)
    let program = place.base().join("daemon");
    assert!(Command::new("cp").arg("/bin/sleep").arg(&program).status().unwrap().success());
    set_mode(&program, 0o711);
    assert_eq!(run(ALICE, &place, "aba-lock log --enable").0, 0);
    let waits = "until [ \"$(cat /proc/$!/comm)\" = daemon ]; do :; done";
    let line = format!("aba-lock lock a -- sh -c '{} 600 >&- 2>&- & {waits}; echo $!; exit 3'", program.display());
    let (status, pid) = run(ALICE, &place, &line);
    assert_eq!(status, 3, "{pid}");
    let log = fs::read_to_string(place.root().join("events.jsonl")).unwrap();
    let events: Vec<&str> = log.lines().filter_map(|line| line.split('"').nth(7)).collect();
    assert_eq!(events, ["acquired", "released", "inherited"]);
    assert!(!log.lines().last().unwrap().contains("holder_pid"), "{log}");
    let (_, said) = run(ALICE, &place, "aba-lock log a");
    let end = "by a process that the command started; the command exited with status 3\n";
    assert!(said.contains("\n  still held, for ") && said.ends_with(end), "{said}");
    let (_, said) = run(ALICE, &place, "aba-lock lock -q a -- true; aba-lock log --json a");
    assert!(said.contains("\"state\":\"held\"") && said.contains("\"outcome\":\"refused\""), "{said}");
    assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
    while run(ALICE, &place, "aba-lock status -q a").0 == 0 {}
    let (_, said) = run(ALICE, &place, "aba-lock log a");
    let end = "; held by a process that the command started after the command exited with status 3\n";
    assert!(said.contains("\n  ended between ") && said.contains(end), "{said}");
    // The command and its children end together: no process keeps the lock.
    assert_eq!(run(ALICE, &place, "aba-lock lock b -- sh -c 'true | true'; aba-lock log b | tail -n 1").0, 0);
    let log = fs::read_to_string(place.root().join("events.jsonl")).unwrap();
    assert!(log.lines().last().unwrap().contains("\"event\":\"released\""), "{log}");
}
