//! `--system`: the locks that all users of the machine share.

use crate::place::Place;
use crate::user::{ALICE, BOB, ROOT, User, Way};
use std::process::Output;

const USERS: [User; 3] = [ROOT, ALICE, BOB];

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Runs a line with sh as this user.
fn shell(user: User, place: &Place, line: &str) -> Output {
    let path = format!("PATH='{}':$PATH; {line}", place.base().display());
    user.program(place, "022", &["sh", "-c", &path]).output().unwrap()
}

/// Runs a script with bash as this user, which has sourced the library.
fn script(user: User, place: &Place, script: &str) -> Output {
    let script = format!("source '{}'\n{script}", place.library().display());
    user.program(place, "077", &["bash", "-c", &script]).output().unwrap()
}

#[test]
#[ignore = "needs root: make test-root"]
fn root_creates_the_directory_and_all_users_share_its_locks() {
    let place = Place::with_own_run_lock();
    for user in [ALICE, BOB] {
        for output in [
            shell(user, &place, "aba-lock lock --system a -- true"),
            script(user, &place, "aba_lock_operation --system a"),
        ] {
            let said = text(&output);
            assert_eq!(output.status.code(), Some(125), "{said}");
            let sentence = "aba-lock: cannot use the directory for locks of all users /run/lock/aba-lock: it does not exist, \
                            and only root may create it\nhint: run as root: `install -d -m 1777 /run/lock/aba-lock`\n";
            assert!(said.contains(sentence), "{said}");
        }
        let said = text(&shell(user, &place, "aba-lock doctor --system"));
        let found = "wrong  state root: cannot use the directory for locks of all users /run/lock/aba-lock: it does not exist, \
                     and only root may create it\n";
        assert!(said.contains(found) && !said.contains("compare ABA_LOCK_DIR and HOME"), "{said}");
        let said = text(&shell(user, &place, "aba-lock log --system"));
        assert!(said.contains("hint: turn it on with `aba-lock log --system --enable`\n"), "{said}");
        let said = text(&shell(user, &place, "aba-lock status --system a"));
        assert!(said.ends_with("\n  file: /run/lock/aba-lock/aba-a.lock\n"), "{said}");
    }
    assert!(shell(ROOT, &place, "umask 077; aba-lock lock --system a -- true").status.success());
    let said = text(&shell(ROOT, &place, "aba-lock log --system"));
    assert!(said.ends_with("hint: turn it on with `aba-lock log --system --enable`\n"), "{said}");
    let output = shell(ROOT, &place, "stat -c '%a %u' /run/lock/aba-lock; stat -c %a /run/lock/aba-lock/*");
    assert_eq!(text(&output), "1777 0\n666\n");
    for first in USERS {
        for way in [Way::Helper, Way::Library] {
            let holder = first.hold_for_all(&place, way, "job").unwrap();
            for other in USERS.into_iter().filter(|other| *other != first) {
                let lines = [
                    ("aba-lock lock --system job -- true", 75),
                    ("ABA_LOCK_SCOPE=system aba-lock lock job -- true", 75),
                    ("ABA_LOCK_DIR=/run/lock/aba-lock aba-lock lock job -- true", 75),
                    ("aba-lock lock --system -t 0.01 job -- true", 124),
                    ("aba-lock status -q --system job", 0),
                    // The locks of the user are others.
                    ("aba-lock lock job -- true", 0),
                    ("aba-lock status -q job", 1),
                ];
                for (line, status) in lines {
                    let output = shell(other, &place, line);
                    assert_eq!(output.status.code(), Some(status), "{line} of {}: {}", other.name, text(&output));
                }
                for call in ["aba_lock_operation --system job", "ABA_LOCK_SCOPE=system; aba_lock_operation job"] {
                    let output = script(other, &place, call);
                    assert_eq!(output.status.code(), Some(1), "{call} of {}: {}", other.name, text(&output));
                    assert!(text(&output).contains("job is already running"), "{}", text(&output));
                }
                assert!(script(other, &place, "aba_lock_operation job").status.success());
            }
            holder.release();
        }
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_script_holds_locks_of_both_scopes_and_releases_each() {
    let place = Place::with_own_run_lock();
    assert!(shell(ROOT, &place, "aba-lock path --system --create own").status.success());
    let free = "\"$ABA_LOCK_BIN\" status";
    let body = format!(
        "aba_lock_operation own; aba_lock_operation --system job; aba_lock_operation --system own
aba_lock_held --system job && aba_lock_check --system own || exit 9
aba_lock_held job && aba_lock_held own && {free} -q own && {free} -q --system own && {free} -q --system job || exit 10
aba_unlock_operation own; {free} -q --system own && exit 11; {free} -q own || exit 12
aba_lock_held --system own && exit 22
aba_unlock_operation own; {free} -q own && exit 13; {free} -q --system job || exit 14
bash -c 'source \"$0\"; aba_lock_operation --system job && aba_lock_held job' '{library}' || exit 15
aba_unlock_operation; {free} -q --system job && exit 16
aba_lock_operation --system --no-inherit job; {free} -q --system job || exit 17
aba_lock_held job || exit 18
aba_unlock_operation job; {free} -q --system job && exit 19
ABA_LOCK_SCOPE=system; aba_lock_operation a b; {free} -q --system a && {free} -q --system b || exit 20
aba_unlock_operation a; aba_unlock_operation; {free} -q --system a && exit 21
exit 0",
        library = place.library().display()
    );
    for user in [ALICE, ROOT] {
        let output = script(user, &place, &body);
        assert_eq!((output.status.code(), text(&output)), (Some(0), String::new()), "{}", user.name);
    }
    let output = script(ALICE, &place, "ABA_LOCK_SCOPE=group; aba_lock_operation a");
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output);
    assert!(said.contains("ABA_LOCK_SCOPE is \"group\", which is not user or system"), "{said}");
    let output = shell(ALICE, &place, "ABA_LOCK_SCOPE=group aba-lock lock a -- true");
    assert!(text(&output).contains("ABA_LOCK_SCOPE"), "{}", text(&output));
    let output = shell(ALICE, &place, "ABA_LOCK_DIR=/tmp ABA_LOCK_SCOPE=group aba-lock status a");
    assert!(!output.status.success() && text(&output).contains("ABA_LOCK_SCOPE"), "{}", text(&output));
}

#[test]
#[ignore = "needs root: make test-root"]
fn a_directory_for_all_users_in_which_one_can_replace_files_is_refused() {
    let place = Place::with_own_run_lock();
    let makers = [
        (
            "mkdir -m 1777 /run/lock/aba-lock",
            BOB,
            "it belongs to user 61002, and that user could replace files in it",
            "mv -T /run/lock/aba-lock ",
        ),
        ("ln -s /tmp /run/lock/aba-lock", BOB, "it is a symbolic link, not a directory", "mv -T /run/lock/aba-lock "),
        (": >/run/lock/aba-lock", BOB, "it is a file, not a directory", "mv -T /run/lock/aba-lock "),
        // Another directory would not have the locks that are held in this one.
        ("mkdir -m 777 /run/lock/aba-lock", ROOT, "its mode is 0777, and not 1777", "chmod 1777 /run/lock/aba-lock`"),
        ("mkdir -m 755 /run/lock/aba-lock", ROOT, "its mode is 0755, and not 1777", "chmod 1777 /run/lock/aba-lock`"),
    ];
    for (line, maker, problem, step) in makers {
        assert!(shell(maker, &place, line).status.success());
        for user in USERS {
            for line in ["aba-lock lock --system a -- true", "aba-lock status --system a", "aba-lock list --system"] {
                let output = shell(user, &place, line);
                assert_eq!(output.status.code(), Some(125), "{}", text(&output));
                let said = text(&output);
                assert!(said.contains(problem) && said.contains(&format!("hint: run as root: `{step}")), "{said}");
            }
            let output = script(user, &place, "aba_lock_operation --system a");
            assert!(output.status.code() == Some(125) && text(&output).contains(problem), "{}", text(&output));
        }
        shell(ROOT, &place, "rm -r /run/lock/aba-lock");
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn the_keeper_finds_the_lock_files_of_all_users() {
    let place = Place::with_own_run_lock();
    // A child process writes the program: see `copy_program` in tests/cli.
    let script = "printf '#!/bin/sh\\necho \"$1 ${ABA_LOCK_DIR-none}\"\\n' >keeper && chmod 755 keeper";
    let mut writer = std::process::Command::new("sh");
    assert!(writer.args(["-c", script]).current_dir(place.base()).status().unwrap().success());
    let call = "ABA_LOCK_KEEPER=$PWD/keeper aba-lock unlock --server http://server";
    for (line, found) in [("--system --fd 9 a", "release /run/lock/aba-lock\n"), ("--fd 9 a", "release none\n")] {
        let line = format!("cd '{}'; exec 9<keeper; {call} {line}", place.base().display());
        assert_eq!(text(&shell(ROOT, &place, &line)), found, "{line}");
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn doctor_says_which_scope_is_in_force_and_why() {
    let place = Place::with_own_run_lock();
    let rows = [
        ("aba-lock doctor", "scope: user (the default): locks exclude only processes of user root; --system uses "),
        ("aba-lock doctor --system", "scope: system (from --system): locks exclude processes of all users"),
        ("ABA_LOCK_SCOPE=system aba-lock doctor", "scope: system (from ABA_LOCK_SCOPE): locks exclude"),
        (
            "ABA_LOCK_DIR=/tmp ABA_LOCK_SCOPE=system aba-lock doctor",
            "scope: directory (from ABA_LOCK_DIR): locks exclude",
        ),
    ];
    for (line, found) in rows {
        let said = text(&shell(ROOT, &place, line));
        assert!(said.contains(found), "{line}: {said}");
    }
}

#[test]
#[ignore = "needs root: make test-root"]
fn only_root_turns_on_the_log_of_the_directory_for_all_users() {
    let place = Place::with_own_run_lock();
    assert!(shell(ROOT, &place, "aba-lock lock --system a -- true").status.success());
    let output = shell(ALICE, &place, "aba-lock log --system --enable");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("events.jsonl: only root and the owner of the directory can turn it on"), "{said}");
    // Alice has left no file that would keep root from turning the log on.
    assert_eq!(text(&shell(ROOT, &place, "ls /run/lock/aba-lock")), "aba-a.lock\n");
    assert!(shell(ROOT, &place, "aba-lock log --system --enable").status.success());
    assert!(shell(BOB, &place, "aba-lock lock --system a -- true").status.success());
    let said = text(&shell(ALICE, &place, "aba-lock log --system"));
    assert!(said.contains("a: pid ") && said.contains("exit status 0"), "{said}");
}

#[test]
#[ignore = "needs root: make test-root"]
fn list_and_status_show_the_locks_of_the_user_and_of_the_system() {
    let place = Place::with_own_run_lock();
    let run = |line: &str| {
        let output = shell(ALICE, &place, line);
        (output.status.code().unwrap(), text(&output))
    };
    assert_eq!(run("aba-lock lock job -- true").0, 0);
    // There is no directory of the system.
    assert!(run("aba-lock list").1.starts_with("LOCK  STATE "));
    let (status, said) = run("aba-lock status job");
    assert!(status == 1 && said.starts_with("job: free\n") && !said.contains("scope"), "{said}");

    assert!(shell(ROOT, &place, "aba-lock lock --system free -- true").status.success());
    let holder = ROOT.hold_for_all(&place, Way::Helper, "job").unwrap();
    let rows = |line: &str| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
        run(line).1.lines().map(words).collect()
    };
    assert_eq!(rows("aba-lock list"), ["LOCK SCOPE STATE", "job system held", "job user free", "free system free"]);
    let held = rows("aba-lock list --held");
    assert!(held.len() == 2 && held[0] == "LOCK STATE FOR" && held[1].starts_with("job held "), "{held:?}");
    assert_eq!(rows("aba-lock list --system").len(), 3);
    for line in ["ABA_LOCK_SCOPE=user aba-lock list", "ABA_LOCK_DIR=$HOME/.aba aba-lock list"] {
        let rows = rows(line);
        assert!(rows.len() == 2 && rows[0] == "LOCK STATE FOR" && rows[1].starts_with("job free"), "{rows:?}");
    }
    let scopes = "sed -n 's/^ *\"scope\": \"\\(.*\\)\",*$/\\1/p' | tr '\\n' ' '";
    for (line, found) in [
        ("aba-lock list --json", "user system system "),
        ("aba-lock list --json --system", "system system "),
        ("ABA_LOCK_DIR=$HOME/.aba aba-lock list --json", "directory "),
        ("aba-lock status --json job", "system user "),
        ("aba-lock status --json --system job", "system "),
    ] {
        assert_eq!(run(&format!("{line} | {scopes}")).1, found, "{line}");
    }

    // The scope in force decides the exit status.
    let (status, said) = run("aba-lock status job");
    assert_eq!(status, 1);
    assert!(said.starts_with("job (scope user): free\n"), "{said}");
    assert!(said.contains("\njob (scope system): held, exclusive"), "{said}");
    assert_eq!(run("aba-lock status -q job"), (1, String::new()));
    let (status, said) = run("aba-lock status free");
    assert!(status == 1 && said.starts_with("free (scope user): free (no lock file"), "{said}");
    let (status, said) = run("aba-lock status --system job");
    assert!(status == 0 && said.starts_with("job: held, exclusive") && !said.contains("scope"), "{said}");
    let (_, said) = run("ABA_LOCK_SCOPE=user aba-lock status job");
    assert!(said.starts_with("job: free\n") && !said.contains("scope"), "{said}");
    assert_eq!(
        run("cd \"$HOME\" && aba-lock status --file .aba/aba-job.lock --json | grep '\"scope\"'").1,
        "  \"scope\": null,\n"
    );

    // A file that another user puts there is no lock, and it does not change the output.
    assert!(shell(BOB, &place, "mkfifo /run/lock/aba-lock/aba-own.lock").status.success());
    assert_eq!(run("aba-lock lock own -- true; aba-lock status -q own").0, 1);
    let (status, said) = run("aba-lock status own");
    assert!(status == 1 && said.starts_with("own: free\n"), "{said}");
    holder.release();
}
