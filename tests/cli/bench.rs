//! The benchmarks: their output, and that they leave no files and no processes.

use crate::call::Call;
use crate::process::{count_waiters, kill, list_files, wait_until};
use crate::scene::{HELPER, Scene};
use serde_json::Value;
use std::fs;

/// A call of the benchmarks, with a temporary directory of its own.
fn bench(scene: &Scene, args: &[&str]) -> Call {
    let temporary = scene.path("temporary");
    fs::create_dir_all(&temporary).unwrap();
    scene.call(env!("CARGO_BIN_EXE_aba-lock-bench")).args(args).env("ABA_LOCK_BIN", HELPER).env("TMPDIR", temporary)
}

fn count_files(scene: &Scene) -> usize {
    list_files(scene.path("temporary")).len()
}

#[test]
fn one_round_prints_the_times_of_each_side_as_json_and_leaves_no_files() {
    let scene = Scene::new();
    let said = bench(&scene, &["--rounds", "1", "--only", "startup", "--json"]).out("{").err("startup").run();
    let object: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(object["rounds"], 1);
    assert!(object["helper"].as_str().unwrap().starts_with("aba-lock "), "{object}");
    let rows = object["rows"].as_array().unwrap();
    assert!(rows.len() >= 4, "{object}");
    for row in rows {
        assert_eq!((&row["part"], &row["unit"], &row["rounds"]), (&"startup".into(), &"us".into(), &1.into()));
        let sides = row["sides"].as_array().unwrap();
        assert_eq!((&sides[0]["side"], &sides[0]["ratio"]), (&"aba-lock".into(), &Value::Null), "{row}");
        for side in sides {
            let number = |field: &str| side[field].as_f64().unwrap_or_else(|| panic!("no {field} in {side}"));
            assert!(0.0 < number("minimum") && number("minimum") <= number("value"), "{side}");
            assert!(number("value") <= number("maximum"), "{side}");
        }
        let (ours, theirs) = (sides[0]["value"].as_f64().unwrap(), &sides[1]);
        let ratio = theirs["ratio"].as_f64().unwrap() * theirs["value"].as_f64().unwrap() / ours;
        assert!((ratio - 1.0).abs() < 1e-6, "{row}");
    }
    assert_eq!(count_files(&scene), 0);
}

#[test]
fn cost_by_size_is_drawn_as_svg_and_printed_as_a_table() {
    let scene = Scene::new();
    let (file, text) = (scene.path("cost.svg"), "| | aba-lock | compared with | ratio |");
    let args = ["--rounds=1", "--only=throughput", "--up-to=8", "--markdown", "--svg", file.to_str().unwrap()];
    bench(&scene, &args).out(text).out("| commands under one lock: 8 contenders |").err("throughput").run();
    let drawn = fs::read_to_string(file).unwrap();
    assert!(drawn.starts_with("<svg ") && drawn.trim_end().ends_with("</svg>"), "{drawn}");
    assert!(drawn.contains(">contenders</text>") && drawn.contains("prefers-color-scheme: dark"), "{drawn}");
}

#[test]
fn a_helper_that_does_not_work_is_reported_and_not_measured() {
    let scene = Scene::new();
    let call = bench(&scene, &["--rounds=1", "--only=startup"]).env("ABA_LOCK_BIN", "/bin/false");
    call.status(1).err("the status of").run();
    assert_eq!(count_files(&scene), 0);
}

#[test]
fn a_signal_ends_the_benchmarks_and_every_process_they_started() {
    let scene = Scene::new();
    let running = bench(&scene, &["--only=waiters", "--up-to=10"]).status(128 + 15).err("").start();
    wait_until("it has begun", || count_files(&scene) == 1);
    let directory = fs::read_dir(scene.path("temporary")).unwrap().next().unwrap().unwrap().path();
    wait_until("a waiter is blocked", || {
        let file = directory.join("waiters/aba-bench.lock");
        file.exists() && count_waiters(&file) > 0
    });
    kill(running.pid(), 15);
    running.finish();
    assert_eq!(count_files(&scene), 0);
    let text = directory.to_str().unwrap();
    let is_left_running = |pid: &str| {
        let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.contains(text)
    };
    let pids = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    assert_eq!(pids.filter(|pid| is_left_running(pid)).count(), 0);
}
