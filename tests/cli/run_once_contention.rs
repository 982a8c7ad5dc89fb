//! `run-once` called by many processes, and killed at any time.

use crate::process::{PATIENCE, find_parent_pid, is_alive, wait_until};
use crate::random::Random;
use crate::scene::{HELPER, Scene};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Waits for a random time.
fn pause(random: &mut Random, longest: Duration) {
    let parts = u32::try_from(random.below(1000)).unwrap();
    let end = Instant::now() + longest * parts / 1000;
    while Instant::now() < end {
        thread::yield_now();
    }
}

fn run_once(scene: &Scene, args: &[&str]) -> Command {
    let mut command = scene.program(HELPER);
    command.arg("run-once").args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn wait_for_status(mut child: Child) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(start.elapsed() < PATIENCE, "a call did not end");
        thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn one_of_eight_staggered_starters_runs_the_task() {
    let (scene, mut random) = (Scene::new(), Random::new(0x5eed));
    for round in 0..400 {
        let (id, count) = (format!("t{round}"), scene.path(&format!("count{round}")));
        let script = format!("echo x >>'{}'", count.display());
        let start = || run_once(&scene, &["-i", &id, "--", "sh", "-c", &script]).spawn().unwrap();
        let starters: Vec<Child> = (0..8)
            .map(|_| {
                pause(&mut random, Duration::from_micros(300));
                start()
            })
            .collect();
        for starter in starters {
            assert_eq!(wait_for_status(starter), Some(0), "round {round}");
        }
        assert_eq!(wait_for_status(run_once(&scene, &["-qwi", &id]).spawn().unwrap()), Some(0), "round {round}");
        assert_eq!(fs::read_to_string(&count).unwrap(), "x\n", "round {round}");
    }
}

#[test]
fn after_any_kill_the_next_wait_succeeds_and_no_process_is_left() {
    let (scene, mut random) = (Scene::new(), Random::new(0xdead));
    let (overlap, busy, marks) = (scene.path("overlap"), scene.path("busy"), scene.path("marks"));
    // The task writes down its pid, detects another running copy, and waits for a child.
    let script = format!(
        "exec 7>>'{0}'; flock -n 7 || echo x >>'{1}'; echo $$ >>'{2}'; sleep 0.0$((RANDOM % 10)) & echo $! >>'{2}'; wait",
        busy.display(),
        overlap.display(),
        marks.display()
    );
    let command = ["--", "bash", "-c", &script];
    for round in 0..200 {
        let starter = run_once(&scene, &[&["-i", "a"][..], &command].concat()).spawn().unwrap();
        let waiter =
            random.one_in(2).then(|| run_once(&scene, &[&["-qwi", "a"][..], &command].concat()).spawn().unwrap());
        let longest = Duration::from_millis(*random.pick(&[1, 4, 40]));
        pause(&mut random, longest);
        let pid: Option<u32> = scene.task_text("a", "pid").trim().parse().ok();
        let supervisor = pid.and_then(find_parent_pid).filter(|pid| is_supervisor(*pid));
        let victim = *random.pick(&["starter", "supervisor", "command", "group"]);
        match (victim, pid, supervisor) {
            ("starter", _, _) => kill_if_alive(&starter.id().to_string()),
            ("supervisor", _, Some(supervisor)) => kill_if_alive(&supervisor.to_string()),
            // The parent is the supervisor, so the pid was not reused.
            ("command", Some(pid), Some(_)) => kill_if_alive(&pid.to_string()),
            ("group", Some(pid), Some(_)) => kill_if_alive(&format!("-{pid}")),
            _ => {}
        }
        wait_for_status(starter);
        waiter.map(wait_for_status);
        let last = wait_for_status(run_once(&scene, &[&["-qwi", "a"][..], &command].concat()).spawn().unwrap());
        assert_eq!(last, Some(0), "round {round}, {victim} killed: {}", scene.task_text("a", "history"));
        assert_eq!(scene.task_text("a", "exit"), "0\n", "round {round}, {victim} killed");
        assert!(!overlap.exists(), "round {round}, {victim} killed: two at once");
        for pid in fs::read_to_string(&marks).unwrap().lines() {
            wait_until("all have ended", || !is_alive(pid.parse().unwrap()));
        }
        wait_for_status(run_once(&scene, &["-r", "-i", "a"]).spawn().unwrap());
        wait_for_status(run_once(&scene, &["-r", "-i", "a"]).spawn().unwrap());
        assert!(!scene.task_file("a", "").exists(), "round {round}");
        fs::remove_file(&marks).unwrap();
    }
}

fn is_supervisor(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains("run-once")
}

fn kill_if_alive(target: &str) {
    // The process may have ended.
    let _ = Command::new("kill").args(["-9", "--", target]).stderr(Stdio::null()).status();
}

#[test]
fn concurrent_validations_all_get_the_correct_status() {
    let (scene, mut random) = (Scene::new(), Random::new(0xace));
    let made = scene.path("made");
    let script = format!("test -e '{}'", made.display());
    for round in 0..50 {
        fs::write(&made, "").unwrap();
        let id = format!("t{round}");
        assert_eq!(
            wait_for_status(run_once(&scene, &["-qwi", &id, "--", "sh", "-c", &script]).spawn().unwrap()),
            Some(0)
        );
        // In every second round, the runs fail from now on. All validations and all later waits must report that.
        let is_good = round % 2 == 0;
        if !is_good {
            fs::remove_file(&made).unwrap();
        }
        let expected = Some(i32::from(!is_good));
        let waiters: Vec<Child> = (0..5)
            .map(|_| {
                pause(&mut random, Duration::from_micros(500));
                run_once(&scene, &["-qwi", &id, "--validate"]).spawn().unwrap()
            })
            .collect();
        for waiter in waiters {
            assert_eq!(wait_for_status(waiter), expected, "round {round}");
        }
        assert_eq!(wait_for_status(run_once(&scene, &["-qwi", &id]).spawn().unwrap()), expected, "round {round}");
    }
}
