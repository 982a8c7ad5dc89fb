//! `metrics`: the values, in the text format of Prometheus.

#![allow(clippy::float_cmp, reason = "counts are whole numbers, which are as they were written")]

use crate::process::{PATIENCE, make_fifo};
use crate::scene::Scene;
use std::collections::BTreeMap;
use std::fs;

const LOG: &str = "ABA_LOCK_LOG";

/// The second label of a lock that has a name.
const SCOPE: &str = ",scope=\"directory\"";

/// Parses the text format and fails if the text does not follow the specification. Returns the samples by name and labels.
fn parse_samples(text: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
    };
    let mut samples = BTreeMap::new();
    let (mut family, mut helped, mut done): (String, String, Vec<String>) = Default::default();
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty() && !done.contains(&name.to_owned()), "{line}");
            name.clone_into(&mut helped);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(name == helped && ["gauge", "counter"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            name.clone_into(&mut family);
            done.push(family.clone());
        } else {
            let (head, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = head.split_once('{').unwrap();
            assert_eq!(name, family, "{line}");
            let labels = labels.strip_suffix('}').unwrap();
            let (label, quoted) = labels.strip_suffix(SCOPE).unwrap_or(labels).split_once('=').unwrap();
            assert!(is_name(label), "{line}");
            let inside = quoted.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
            let bare = inside.replace("\\\\", "").replace("\\\"", "").replace("\\n", "");
            assert!(!bare.contains(['"', '\\']), "{line}");
            assert!(samples.insert(head.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    samples
}

fn read_metrics(scene: &Scene) -> BTreeMap<String, f64> {
    parse_samples(&scene.aba(["metrics"]).env(LOG, scene.path("log")).out("# HELP").run().out)
}

fn find_sample(samples: &BTreeMap<String, f64>, name: &str, lock: &str) -> f64 {
    // A lock of a file, and an event without the path of a lock file, have no scope.
    let key = |scope: &str| format!("aba_lock_{name}{{lock=\"{lock}\"{scope}}}");
    let sample = samples.get(&key(SCOPE)).or_else(|| samples.get(&key("")));
    *sample.unwrap_or_else(|| panic!("no {} in {samples:?}", key(SCOPE)))
}

#[test]
fn an_empty_state_root_has_metrics_and_is_not_created() {
    let scene = Scene::new();
    let said = scene.aba(["metrics"]).out("aba_lock_info{version=\"").run().out;
    let samples = parse_samples(&said);
    assert_eq!(samples["aba_lock_tasks{state=\"running\"}"], 0.0);
    assert!(!samples.keys().any(|key| key.contains("_total") || key.contains("held")), "{samples:?}");
    assert!(!scene.root().exists());
}

#[test]
fn held_and_waiting_show_the_current_state() {
    let scene = Scene::new();
    scene.aba(["lock", "free", "--", "true"]).run();
    let holder = scene.holder("a");
    let waiters: Vec<_> = (0..2).map(|_| scene.aba(["lock", "-w", "-q", "a", "--", "true"]).start()).collect();
    scene.wait_for_waiters("a", 2);
    let now = read_metrics(&scene);
    assert_eq!((find_sample(&now, "held", "a"), find_sample(&now, "waiting", "a")), (1.0, 2.0));
    assert_eq!((find_sample(&now, "held", "free"), find_sample(&now, "waiting", "free")), (0.0, 0.0));
    assert!(find_sample(&now, "held_seconds", "a") < PATIENCE.as_secs_f64());
    assert!(!now.contains_key("aba_lock_held_seconds{lock=\"free\",scope=\"directory\"}"));
    holder.release();
    for waiter in waiters {
        waiter.finish();
    }
    let now = read_metrics(&scene);
    assert_eq!((find_sample(&now, "held", "a"), find_sample(&now, "waiting", "a")), (0.0, 0.0));
}

#[test]
fn the_slots_of_a_lock_are_shown_while_some_are_held() {
    let scene = Scene::new();
    let options = ["--slots", "3", "a"];
    let whole = scene.holder("b");
    let holders = [scene.holder_with(&options), scene.holder_with(&options)];
    let now = read_metrics(&scene);
    assert_eq!((find_sample(&now, "slots", "a"), find_sample(&now, "slots_held", "a")), (3.0, 2.0));
    assert!(!now.contains_key("aba_lock_slots{lock=\"b\",scope=\"directory\"}"));
    for holder in holders {
        holder.release();
    }
    assert!(!read_metrics(&scene).keys().any(|key| key.contains("slots")));
    whole.release();
}

#[test]
fn the_log_supplies_the_counters_of_each_lock() {
    let scene = Scene::new();
    let logged = |args: &[&str]| scene.aba(args).env(LOG, scene.path("log"));
    logged(&["lock", "a", "--", "true"]).run();
    logged(&["lock", "a", "--", "true"]).run();
    let file = scene.path("quote\"d").display().to_string();
    fs::write(&file, "").unwrap();
    logged(&["lock", "--file", &file, "--", "true"]).run();
    let holder = scene.holder("a");
    logged(&["lock", "-q", "a", "--", "true"]).status(75).run();
    logged(&["lock", "-q", "-t", "0.1", "a", "--", "true"]).status(124).run();
    holder.release();
    scene.aba(["lock", "never-logged", "--", "true"]).run();
    let now = read_metrics(&scene);
    assert_eq!(find_sample(&now, "acquisitions_total", "a"), 2.0);
    assert_eq!(find_sample(&now, "contentions_total", "a"), 2.0);
    assert_eq!(find_sample(&now, "timeouts_total", "a"), 1.0);
    assert_eq!(find_sample(&now, "replacements_total", "a"), 0.0);
    assert!(find_sample(&now, "wait_seconds_total", "a") >= 0.1);
    assert_eq!(find_sample(&now, "acquisitions_total", "never-logged"), 0.0);
    assert_eq!(find_sample(&now, "acquisitions_total", &file.replace('"', "\\\"")), 1.0);
    // A log that is named, and none if the log is not a file.
    let other = scene.path("other").display().to_string();
    fs::write(&other, "{\"event\":\"acquired\",\"lock\":\"else\\\\\\n\"}\n").unwrap();
    let said = scene.aba(["metrics", "--log", &other]).out("").run().out;
    assert_eq!(find_sample(&parse_samples(&said), "acquisitions_total", "else\\\\\\n"), 1.0);
    let said = scene.aba(["metrics"]).env(LOG, "/dev/stderr").out("").run().out;
    assert!(!said.contains("_total"), "{said}");
}

#[test]
fn foreign_or_truncated_log_lines_do_not_affect_other_lines() {
    let scene = Scene::new();
    let whole = "{\"time\":\"2026-01-02T03:04:05.678Z\",\"event\":\"acquired\",\"lock\":\"a\"}";
    let log = [
        whole,
        "",
        "no JSON",
        "[1, 2]",
        "{\"event\":\"acquired\"}",
        "{\"event\":\"acquired\",\"lock\":7}",
        // Truncated by a full disk: the next line follows directly.
        &format!("{}{whole}", &whole[..40]),
        // Only the newline is missing.
        &format!("{whole}{whole}"),
        &whole[..50],
    ];
    let mut log = log.join("\n").into_bytes();
    log.extend(b"\n\xff\xfe\n");
    fs::write(scene.path("log"), log).unwrap();
    let now = read_metrics(&scene);
    assert_eq!(find_sample(&now, "acquisitions_total", "a"), 4.0);
    assert_eq!(now.keys().filter(|key| key.contains("acquisitions")).count(), 1, "{now:?}");
}

#[test]
fn an_unreadable_log_or_state_root_is_an_error() {
    let scene = Scene::new();
    let at = |name: &str| scene.path(name).display().to_string();
    fs::create_dir(at("directory")).unwrap();
    scene.aba(["metrics", "--log", &at("directory")]).status(125).err("is a directory, not a regular file").run();
    make_fifo(at("fifo"));
    scene.aba(["metrics", "--log", &at("fifo")]).status(125).err("is a FIFO, not a regular file").run();
    let under_a_file = format!("{}/locks", at("file"));
    fs::write(at("file"), "").unwrap();
    scene.aba(["metrics"]).env("ABA_LOCK_DIR", under_a_file).status(125).err("Not a directory").run();
}

#[test]
fn tasks_are_counted_by_state() {
    let scene = Scene::new();
    scene.once(["-w", "-q", "-i", "good", "--", "true"]).run();
    scene.once(["-w", "-q", "-i", "bad", "--", "false"]).status(1).run();
    let now = read_metrics(&scene);
    for (state, number) in [("succeeded", 1.0), ("failed", 1.0), ("running", 0.0), ("interrupted", 0.0), ("new", 0.0)] {
        assert_eq!(now[&format!("aba_lock_tasks{{state=\"{state}\"}}")], number, "{state}");
    }
}

#[test]
fn metrics_can_be_written_to_a_file_atomically() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).run();
    let command = scene.call("bash").args(["-c", "\"$HELPER\" metrics | \"$HELPER\" write --create \"$1\"", "bash"]);
    command.arg(scene.path("a.prom")).run();
    assert_eq!(find_sample(&parse_samples(&fs::read_to_string(scene.path("a.prom")).unwrap()), "held", "a"), 0.0);
}

#[test]
fn an_impossible_waiting_time_is_not_counted() {
    let scene = Scene::new();
    let line = |waited: &str| format!("{{\"event\":\"acquired\",\"lock\":\"a\",\"waited_seconds\":{waited}}}\n");
    fs::write(scene.path("log"), ["-5", "2.5", "\"7\"", "null", "-1e308", "1e308", "1e308"].map(line).concat())
        .unwrap();
    let now = read_metrics(&scene);
    assert_eq!(
        (find_sample(&now, "acquisitions_total", "a"), find_sample(&now, "wait_seconds_total", "a")),
        (7.0, 2.5)
    );
}
