//! The fields of the machine-readable output are those that the manual pages document: a field that is only in one of the two
//! fails a test.
//!
//! A table of the manual has a row for each field of an object. If a field holds objects, its row ends with the list of their
//! fields, after a colon. A row that ends with the colon stands for all rows that follow.

use crate::args::page::{self, Rows};
use crate::process::write_program;
use crate::scene::{HELPER, Scene};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// The fields of an object. For each field that holds objects, the fields of these.
type Fields = BTreeMap<String, BTreeSet<String>>;

/// The table of a command with this heading.
fn find_table(command: &str, heading: &str) -> Rows {
    page::find_page(command).unwrap().2.iter().find(|section| section.heading == heading).unwrap().rows
}

/// Adds the fields of an object, and of those in it.
fn add_fields(fields: &mut Fields, object: &Value) {
    fn add_inner(names: &mut BTreeSet<String>, value: &Value) {
        match value {
            Value::Object(inner) => inner.iter().for_each(|(name, value)| {
                names.insert(name.clone());
                add_inner(names, value);
            }),
            Value::Array(values) => values.iter().for_each(|value| add_inner(names, value)),
            _ => {}
        }
    }
    for (name, value) in object.as_object().unwrap() {
        add_inner(fields.entry(name.clone()).or_default(), value);
    }
}

/// Splits a text at a character outside of parentheses.
fn split_outside_parentheses(text: &str, separator: char) -> Vec<String> {
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for c in text.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if c == separator && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().unwrap().push(c);
        }
    }
    parts
}

/// The fields in the list at the end of a row. An item may have a list of its own in parentheses, and `as ...` stands for the
/// fields of `holders`.
fn listed_fields(rows: Rows, meaning: &str) -> BTreeSet<String> {
    let is_name = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let mut names = BTreeSet::new();
    let list = split_outside_parentheses(meaning, ':').pop().unwrap();
    for item in split_outside_parentheses(&list, ',') {
        let item = item.trim().trim_start_matches("and its ").trim_start_matches("a list of ");
        if item.starts_with("as ") {
            let (_, holders) = rows.iter().find(|(term, _)| *term == "holders").unwrap();
            names.extend(listed_fields(rows, holders));
            continue;
        }
        let (item, inner) = item.trim_end_matches(')').split_once(" (").unwrap_or((item, ""));
        names.extend(item.split(" and ").filter(is_name).map(str::to_owned));
        names.extend(inner.split(", ").filter(is_name).map(str::to_owned));
    }
    names.remove("and");
    names
}

/// Compares the fields that were printed with a table.
fn assert_documented(command: &str, rows: Rows, printed: &Fields) {
    let terms: Vec<(&str, &str)> =
        rows.iter().flat_map(|(terms, meaning)| terms.split(", ").map(move |term| (term, *meaning))).collect();
    let mut inner = BTreeSet::new();
    for (field, found) in printed {
        let Some(at) = terms.iter().position(|(term, _)| term == field) else {
            panic!("{command}: {field} is not documented")
        };
        if found.is_empty() || field == "remote" {
            continue;
        }
        let meaning = terms[at].1;
        let mut listed = if meaning.ends_with(':') {
            terms[at + 1..].iter().map(|(term, _)| (*term).to_owned()).collect()
        } else {
            listed_fields(rows, meaning)
        };
        listed.extend(terms.iter().filter_map(|(term, _)| term.strip_prefix(&format!("{field}."))).map(str::to_owned));
        assert_eq!(found, &listed, "{command}: the fields of {field}");
        inner.extend(listed);
    }
    for (term, _) in terms.iter().filter(|(term, _)| !term.contains(['.', '('])) {
        assert!(
            printed.contains_key(*term) || inner.contains(*term),
            "{command}: {term} is documented and not printed"
        );
    }
}

#[test]
fn the_fields_of_status_and_list_are_documented() {
    let scene = Scene::new();
    let holder = scene.holder_with(&["-o", "--who", "nightly", "a"]);
    let waiter = scene.aba(["lock", "-qw", "-s", "a", "--", "true"]).start();
    scene.wait_for_settled_waiters("a", 1);
    let script = scene.bash("exec 9<>\"$ABA_LOCK_DIR/aba-a.lock\"; \"$HELPER\" lock -qw --fd 9 a; true").start();
    scene.wait_for_settled_waiters("a", 2);
    let removed = scene.holder("b");
    fs::remove_file(scene.lock_file("b")).unwrap();
    let file = scene.path("f").display().to_string();
    let range = scene.aba(["flock", "--fcntl", &file, "sh", "-c", "echo held; read _"]).hold();
    let keeper = scene.path("keeper");
    write_program(&keeper, "#!/bin/sh\necho '{\"name\": \"a\", \"state\": \"free\"}'\nexit 1\n");
    let (mut status, mut list) = (Fields::new(), Fields::new());
    let call =
        scene.aba(["status", "--json", "a"]).env("ABA_LOCK_KEEPER", keeper).env("ABA_LOCK_SERVER", "http://server");
    add_fields(&mut status, &call.json());
    add_fields(&mut status, &scene.aba(["status", "--json", "b"]).status(1).json());
    add_fields(&mut status, &scene.aba(["status", "--json", "--file", &file]).json());
    assert_documented("status", find_table("status", "JSON"), &status);

    let printed = scene.aba(["list", "--json"]).json();
    printed["locks"].as_array().unwrap().iter().for_each(|lock| add_fields(&mut list, lock));
    // Only `status` has them: the lock of the other scope, the usual time, the processes below the holders, and the locks of fcntl(2),
    // which are those of a file. `list` has one list for all names at the server.
    status.remove("remote");
    status.remove("processes");
    status.remove("usual_seconds");
    status.remove("other_scope");
    status.get_mut("fcntl").unwrap().clear();
    assert_eq!(list, status);
    range.release();
    removed.release();
    holder.release();
    waiter.finish();
    script.finish();
}

#[test]
fn the_fields_of_tasks_are_documented() {
    let scene = Scene::new();
    scene.once(["-qwi", "bad", "--", "false"]).status(1).run();
    let mut tasks = Fields::new();
    for printed in [&scene.once(["--list", "--json"]).json(), &scene.aba(["list", "--json"]).json()["tasks"]] {
        add_fields(&mut tasks, &printed[0]);
        assert_documented("run-once", find_table("run-once", "JSON"), &tasks);
    }
}

#[test]
fn the_fields_of_findings_are_documented() {
    let mut findings = Fields::new();
    let said = Scene::new().program(HELPER).args(["doctor", "--json"]).output().unwrap();
    add_fields(&mut findings, &serde_json::from_slice(&said.stdout).unwrap());
    assert_documented("doctor", find_table("doctor", "JSON"), &findings);
}

#[test]
fn the_fields_of_reserved_numbers_are_documented() {
    let scene = Scene::new();
    let lease = ["reserve", "--probe", "none", "--", "sh", "-c", "echo held; read _"];
    let holder = scene.aba(lease).current_dir(scene.path("")).hold();
    let mut numbers = Fields::new();
    add_fields(&mut numbers, &scene.aba(["reserve", "--list", "--format", "json"]).json()[0]);
    assert_documented("reserve", find_table("reserve", "JSON"), &numbers);
    holder.release();
}

#[test]
fn the_fields_of_past_holdings_are_documented() {
    let scene = Scene::new();
    scene.make_root();
    scene.aba(["log", "--enable"]).out("").run();
    let holder = scene.holder("a");
    scene.aba(["lock", "a", "--", "true"]).status(75).err("").run();
    let mut fields = Fields::new();
    add_fields(&mut fields, &scene.aba(["log", "--json"]).json());
    assert_documented("log", find_table("log", "JSON"), &fields);
    holder.release();
}

#[test]
fn the_fields_of_events_and_the_metrics_are_documented() {
    let scene = Scene::new();
    let log = scene.path("log");
    let inner = ["env", "-u", "ABA_LOCK_FDS", HELPER, "lock", "-w", "a", "--", "true"];
    let call = scene.aba(["lock", "-o", "a", "--"]).args(inner).env("ABA_LOCK_LOG", &log);
    call.status(75).err("would be a deadlock").run();
    let holder = scene.holder("a");
    scene.aba(["lock", "-qt", "0.1", "a", "--", "true"]).env("ABA_LOCK_LOG", &log).status(124).run();
    scene.aba(["lock", "--skip-ok", "a", "--", "true"]).env("ABA_LOCK_LOG", &log).run();
    let limited = scene.aba(["lock", "--max-time", "0.1", "b", "--", "sleep", "1000"]);
    limited.env("ABA_LOCK_LOG", &log).status(143).err("maximum time").run();
    scene.aba(["lock", "--key", "b c", "--", "true"]).env("ABA_LOCK_LOG", &log).run();
    scene.aba(["lock", "--slots", "2", "c", "--", "true"]).env("ABA_LOCK_LOG", &log).run();
    let waiter = scene.aba(["lock", "-q", "--coalesce", "a", "--", "true"]).start();
    scene.wait_for_waiter("a");
    scene.aba(["lock", "-q", "--coalesce", "a", "--", "true"]).env("ABA_LOCK_LOG", &log).run();
    let command = ["lock", "-o", "d", "--", "sh", "-c", "echo runs >&2; exec sleep 600"];
    let killed = scene.aba(command).env("ABA_LOCK_LOG", &log).status(143).err("runs").start();
    killed.wait_for_error("runs");
    scene.aba(["unlock", "d", "--kill"]).env("ABA_LOCK_LOG", &log).err("ended pid ").run();
    killed.finish();
    let mut events = Fields::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        add_fields(&mut events, &serde_json::from_str(line).unwrap());
    }
    assert_documented("metrics", find_table("metrics", "EVENT LOG"), &events);

    let slot = scene.holder_with(&["--slots", "2", "c"]);
    let text = scene.aba(["metrics"]).env("ABA_LOCK_LOG", &log).out("").run().out;
    slot.release();
    let printed = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    assert_eq!(printed.collect::<Vec<_>>(), find_table("metrics", "METRICS"));
    holder.release();
    waiter.finish();
}
