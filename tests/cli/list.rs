//! `list`: all locks and tasks.

use crate::call::Call;
use crate::process::waiter_pids;
use crate::scene::Scene;
use serde_json::Value;
use std::fs;

/// The rows of the table of locks, split into words.
fn locks(said: &str) -> Vec<Vec<&str>> {
    let table = said.split("\n\n").next().unwrap();
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn held_locks_are_listed_before_removed_and_free_ones() {
    let scene = Scene::new();
    for name in ["free", "again"] {
        scene.aba(["lock", name, "--", "true"]).run();
    }
    let (removed, held) = (scene.holder("gone"), scene.holder("held"));
    fs::remove_file(scene.lock_file("gone")).unwrap();
    let shared = scene.holder_with(&["-s", "shared"]);
    let waiter = scene.aba(["lock", "-qw", "held", "--", "true"]).start();
    scene.wait_for_settled_waiters("held", 1);
    let gate = scene.gate("gate");
    let task = gate.task(0);
    scene.once(["-i", "task", "--"].into_iter().chain(task.iter().map(String::as_str))).run();

    let said = scene.aba(["list"]).out("LOCK").run().out;
    let rows = locks(&said);
    let columns: Vec<[&str; 4]> = rows.iter().map(|row| [row[0], row[1], row[3], row[4]]).collect();
    let pids = [&held, &shared, &removed].map(|one| one.pid().to_string());
    let expected = [
        ["held", "held", "1", &pids[0]],
        ["shared", "shared", "-", &pids[1]],
        ["gone", "removed", "-", &pids[2]],
        ["again", "free", "-", "-"],
        ["free", "free", "-", "-"],
    ];
    assert_eq!(columns, expected, "{said}");
    assert!(said.contains("\n\nID ") && said.contains("\ntask  running "), "{said}");
    assert!(!said.contains('\x1b') && said.lines().any(|line| line.ends_with("sh -c 'echo held; read _; exit 0'")));

    let said = scene.aba(["list", "--held"]).out("").run().out;
    assert_eq!(locks(&said).iter().map(|row| row[0]).collect::<Vec<_>>(), ["held", "shared"], "{said}");
    assert!(said.contains("\ntask  running "), "{said}");
    gate.open();
    scene.once(["-qw", "-i", "task"]).out("").run();
    let said = scene.aba(["list", "--held"]).out("").run().out;
    assert!(!said.contains("task"), "it has ended: {said}");
    held.release();
    waiter.finish();
}

#[test]
fn listing_an_empty_state_root_prints_and_creates_nothing() {
    let scene = Scene::new();
    scene.aba(["list"]).run();
    let said = scene.aba(["list", "--json"]).out("").run().out;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), serde_json::json!({ "locks": [], "tasks": [] }));
    assert!(!scene.root().exists());
}

/// Fails if the output of a call is not JSON in the usual form, with two more spaces for each level.
fn assert_is_indented(call: Call) {
    let said = call.out("").run().out;
    let value: Value = serde_json::from_str(&said).unwrap();
    assert!(said == format!("{value:#}\n"), "{said}");
}

#[test]
fn long_json_is_indented_and_complete() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--who", "a \"quoted\" \\n word", "held"]);
    let waiter = scene.aba(["lock", "-qw", "held", "--", "true"]).start();
    scene.wait_for_settled_waiters("held", 1);
    // The output is printed in pieces of 64 KiB.
    for number in 0..300 {
        fs::write(scene.lock_file(&format!("free{number}")), "").unwrap();
    }
    scene.once(["-qw", "-i", "one", "--", "true"]).run();
    scene.once(["-qw", "-i", "two", "--", "true"]).run();
    scene.aba(["reserve", "--range", "20000-20009"]).out("").run();
    assert_is_indented(scene.aba(["list", "--json"]));
    assert_is_indented(scene.aba(["list", "--held", "--json"]));
    assert_is_indented(scene.once(["--list", "--json"]));
    assert_is_indented(scene.aba(["reserve", "--list", "--format", "json"]));
    let list = scene.aba(["list", "--json"]).json();
    assert_eq!((list["locks"].as_array().unwrap().len(), list["tasks"].as_array().unwrap().len()), (301, 2));
    let said = scene.aba(["list"]).out("LOCK").run().out;
    assert_eq!(locks(&said).len(), 301, "{said}");
    holder.release();
    waiter.finish();
}

#[test]
fn the_mount_of_a_free_lock_is_not_looked_up() {
    let scene = Scene::new();
    scene.make_root();
    // On tmpfs, the kernel's list of locks names another device than stat(2), which takes a read of all mounts.
    let script = "mount -t tmpfs none \"$ABA_LOCK_DIR\" && cd \"$ABA_LOCK_DIR\" || exit 70
        for number in {1..40}; do : >\"aba-free$number.lock\"; done
        exec 9>aba-held.lock
        flock 9 || exit
        strace -qq -o trace -e trace=open,openat \"$HELPER\" list || exit
        echo \"mounts $(grep -c mountinfo trace)\"";
    let said = scene.in_mount_namespace().args(["bash", "-c", script]).out("LOCK").run().out;
    let rows = locks(&said);
    assert_eq!((rows[0][0], rows[0][1], rows[1][1]), ("held", "held", "free"), "{said}");
    // Only that of the held lock is, once to find its holders and once for its state.
    assert!(["1", "2"].contains(&rows.last().unwrap()[1]), "{said}");
}

fn keys(value: &Value) -> String {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

#[test]
fn the_json_of_status_and_list_describes_holders_and_waiters() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["--who", "nightly", "a"]);
    let waiter = scene.aba(["lock", "-qw", "-s", "a", "--", "true"]).start();
    scene.wait_for_settled_waiters("a", 1);
    let gone = scene.holder("b");
    fs::remove_file(scene.lock_file("b")).unwrap();
    let json = |args: &[&str], status| -> Value { scene.aba(args).status(status).json() };
    let (a, b, list) =
        (json(&["status", "--json", "a"], 0), json(&["status", "--json", "b"], 1), json(&["list", "--json"], 0));
    let all = "age_seconds fcntl hidden holders key lease max_time_seconds mode name path pid_file problem promised_run record remaining_seconds remedy \
               removed scope since slots state waiters";
    for one in [&list["locks"][0], &list["locks"][1]] {
        assert_eq!(keys(one), all);
    }
    for one in [&a, &b] {
        let all = all
            .replace("name path", "name other_scope path")
            .replace("problem", "problem processes")
            .replace("state ", "state usual_seconds ");
        assert_eq!(keys(one), all);
    }
    assert_eq!(keys(&list), "locks tasks");
    let person = "command inherited namespace pid running_seconds slot state terminal user";
    assert_eq!((keys(&a["holders"][0]), keys(&b["removed"][0])), (person.to_owned(), person.to_owned()));
    assert_eq!(keys(&a["waiters"][0]), "command mode pid priority replace script state terminal user waiting_seconds");
    assert_eq!(keys(&a["record"]), "command holder host mode namespace pid pid_file since token user who");
    let help = scene.aba(["status", "--help"]).out("With --json:").run().out;
    let help = help.split_once("With --json:\n").unwrap().1;
    for key in all.split(' ') {
        assert!(
            help.contains(&format!("\n  {key} "))
                || help.contains(&format!(", {key} "))
                || help.starts_with(&format!("  {key}")),
            "{key}: {help}"
        );
    }
    for key in format!("{} {}", keys(&a["record"]), keys(&a["waiters"][0])).split(' ') {
        assert!(help.contains(key), "{key}: {help}");
    }

    assert_eq!((&a["name"], &a["state"], &a["mode"]), (&"a".into(), &"held".into(), &"exclusive".into()));
    assert_eq!(a["path"], *scene.lock_file("a").to_str().unwrap());
    assert_eq!(a["since"], *scene.field("a", "since"));
    assert_eq!((&a["record"]["holder"], &a["record"]["who"]), (&"alive".into(), &"nightly".into()));
    assert_eq!((&a["holders"][0]["pid"], &a["waiters"][0]["pid"]), (&holder.pid().into(), &waiter.pid().into()));
    assert_eq!(a["waiters"][0]["mode"], "shared");
    assert_eq!((&b["state"], &b["removed"][0]["pid"]), (&"free".into(), &gone.pid().into()));
    assert!(b["mode"].is_null() && b["record"].is_null() && b["since"].is_null() && b["remedy"].is_string(), "{b:#}");
    holder.release();
    waiter.finish();
}

#[test]
fn status_lists_waiters_in_order_with_their_scripts() {
    let scene = Scene::new();
    let holder = scene.holder("a");
    let script = "exec 9<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$HELPER\" lock -qw --fd 9 a; true";
    let script = scene.bash(script).start();
    scene.wait_for_settled_waiters("a", 1);
    let helper = waiter_pids(&scene.lock_file("a"))[0];
    let plain = scene.call("flock").arg("-s").arg(scene.lock_file("a")).arg("true").start();
    scene.wait_for_waiters("a", 2);
    let said = scene.aba(["status", "a"]).out("a: held, exclusive, for ").run().out;
    let first = said.lines().find_map(|line| line.strip_prefix("  1. waits: ")).unwrap();
    assert!(first.starts_with(&format!("pid {}, ", script.pid())), "{said}");
    assert!(first.contains(", bash -c ") && first.contains(&format!(", by its helper {helper}, for ")), "{said}");
    let second = said.lines().find_map(|line| line.strip_prefix("  2. waits: ")).unwrap();
    assert!(second.starts_with(&format!("pid {}, ", plain.pid())), "{said}");
    assert!(second.contains(", flock -s ") && second.contains(" true, for a shared lock, for "), "{said}");
    assert!(
        said.contains("\n  hint: the lock is free when its holder ends; `aba-lock unlock a --kill` ends it\n"),
        "{said}"
    );
    holder.release();
    script.finish();
    plain.finish();
}

#[test]
fn the_list_is_coloured_and_cut_to_the_width_only_on_a_terminal() {
    let scene = Scene::new();
    let _holder = scene.holder_with(&["--who", "x", "a-name-of-some-length"]);
    scene.aba(["lock", "b", "--", "true"]).run();
    let shown = |before: &str| {
        scene
            .on_terminal("never=/dev/null")
            .args(["sh", "-c"])
            .arg(format!("stty cols 60 -onlcr; unset NO_COLOR; {before} \"$HELPER\" list"))
            .env("TERM", "xterm")
            .out("LOCK")
            .run()
            .out
    };
    let coloured = shown("");
    assert!(
        coloured.starts_with("\x1b[1mLOCK ") && coloured.contains("\n\x1b[33ma-name-of-some-length "),
        "{coloured:?}"
    );
    let lines: Vec<&str> = coloured.lines().collect();
    assert!(lines[2].starts_with("b   ") && !lines[2].contains('\x1b'), "{coloured:?}");
    let plain = shown("NO_COLOR=1");
    assert!(!plain.contains('\x1b'), "{plain:?}");
    let longest = plain.lines().map(|line| line.chars().count()).max();
    assert_eq!(longest, Some(60), "{plain:?}");
    assert!(!shown("TERM=dumb").contains("sh -c 'echo held; read _; exit 0'"), "it is cut");
    let piped = scene.aba(["list"]).out("sh -c 'echo held; read _; exit 0'\n").env("TERM", "xterm").run().out;
    assert!(!piped.contains('\x1b'), "{piped:?}");
}

#[test]
fn an_option_decides_about_colours_whatever_the_environment_says() {
    let scene = Scene::new();
    scene.aba(["lock", "b", "--", "true"]).run();
    let shown = |option: &str, variable: &str| scene.aba(["list", option]).env(variable, "1").out("LOCK").run().out;
    assert!(shown("--color=always", "NO_COLOR").starts_with("\x1b[1mLOCK "));
    assert!(!shown("--color=never", "CLICOLOR_FORCE").contains('\x1b'));
    assert!(shown("--color=auto", "CLICOLOR_FORCE").starts_with("\x1b[1mLOCK "));
    assert!(!shown("--colour=auto", "NO_COLOR").contains('\x1b'));
    assert!(scene.aba(["doctor", "--color=always"]).out("\x1b[32mfine\x1b[0m").run().err.is_empty());
    let call = scene.aba(["list", "--color=sometimes"]).status(2);
    call.err("list: invalid value 'sometimes' for '--color <WHEN>'").run();
}

#[test]
fn wide_characters_take_two_columns() {
    let scene = Scene::new();
    for key in ["備份", "job", "e\u{301}te\u{301}"] {
        scene.aba(["lock", "--key", key, "--", "true"]).run();
    }
    // On a terminal whose lines end after the first character of the key.
    let list = |columns: u32| {
        let call = format!("stty cols {columns} -onlcr; exec \"$HELPER\" list --color never");
        scene.on_terminal("never=/dev/null").args(["sh", "-c"]).arg(call).out("").run().out
    };
    let whole = list(150);
    let column_after = |key: &str, columns: usize| {
        let line = whole.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("{whole}"));
        let before = line.find(key).unwrap();
        let after = &line[before + key.len()..];
        line[..before].chars().count() + columns + after.len() - after.trim_start().len()
    };
    let expected = column_after("job", 3);
    assert_eq!(column_after("備份", 4), expected, "{whole}");
    assert_eq!(column_after("e\u{301}te\u{301}", 3), expected, "{whole}");
    let begin = whole.lines().find(|line| line.contains('備')).unwrap().find('備').unwrap();
    let cut = |columns: usize| list(columns.try_into().unwrap());
    assert!(cut(begin + 2).contains('備') && !cut(begin + 2).contains('份'));
    assert!(!cut(begin + 1).contains('備'));
}

#[test]
fn control_characters_in_commands_are_escaped() {
    let scene = Scene::new();
    let _holder = scene.aba(["lock", "a", "--", "sh", "-c", "echo held; read _; exit 0", "\x1b[31mred\n"]).hold();
    for args in [&["list"][..], &["status", "a"], &["list", "--json"], &["status", "--json", "a"]] {
        let said = scene.aba(args).out("red").run().out;
        assert!(!said.contains('\x1b'), "{said:?}");
    }
}

#[test]
fn an_unreadable_state_root_is_an_error() {
    let scene = Scene::new();
    std::fs::write(scene.root(), "").unwrap();
    let sentence = format!("aba-lock: cannot open {}: Not a directory\n", scene.root().display());
    for command in ["list", "clean", "metrics"] {
        let said = scene.aba([command]).status(125).err(&sentence).run();
        assert!(said.err.starts_with(&sentence), "{command}: {}", said.err);
    }
}

#[test]
fn control_characters_in_user_names_do_not_reach_the_terminal() {
    let scene = Scene::new();
    let passwd = scene.path("passwd");
    fs::write(&passwd, "a\x1b[2Jb:x:1234:1234::/:/bin/sh\n").unwrap();
    let script = format!(
        "mount --bind {} /etc/passwd || exit
        \"$HELPER\" lock a -- sleep 600 & until \"$HELPER\" status -q a; do :; done
        \"$HELPER\" lock -qw a -- true & until \"$HELPER\" status a | grep -q '1. waits: '; do :; done
        \"$HELPER\" status a; \"$HELPER\" list; \"$HELPER\" unlock a --kill 2>&1; wait",
        passwd.display()
    );
    // The name of root is not read from the file.
    let call = scene.call("unshare").args(["--user", "--map-user=1234", "--keep-caps", "--mount", "--"]);
    let said = call.args(["bash", "-c", &script]).out("").run().out;
    // The waiter may hold the lock when `unlock` looks again, and is then named, too.
    assert!(said.matches("a?[2Jb").count() >= 4, "{said}");
    assert!(!said.contains('\x1b'), "{said:?}");
}
