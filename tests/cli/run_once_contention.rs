//! `run-once` called by many processes, and killed at any time.

use crate::process::{PATIENCE, find_parent_pid, is_alive, wait_until};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Numbers that look random, the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pause(&mut self, most: Duration) {
        let parts = u32::try_from(self.roll(1000)).unwrap();
        let until = Instant::now() + most * parts / 1000;
        while Instant::now() < until {
            thread::yield_now();
        }
    }
}

fn once(scene: &Scene, args: &[&str]) -> Command {
    let mut command = scene.program(HELPER);
    command.arg("run-once").args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn finish(mut child: Child) -> Option<i32> {
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
    let (scene, mut dice) = (Scene::new(), Dice(0x5eed));
    for round in 0..1000 {
        let (id, count) = (format!("t{round}"), scene.path(&format!("count{round}")));
        let script = format!("echo x >>'{}'", count.display());
        let start = || once(&scene, &["-i", &id, "--", "sh", "-c", &script]).spawn().unwrap();
        let starters: Vec<Child> = (0..8)
            .map(|_| {
                dice.pause(Duration::from_micros(300));
                start()
            })
            .collect();
        for starter in starters {
            assert_eq!(finish(starter), Some(0), "round {round}");
        }
        assert_eq!(finish(once(&scene, &["-qwi", &id]).spawn().unwrap()), Some(0), "round {round}");
        assert_eq!(fs::read_to_string(&count).unwrap(), "x\n", "round {round}");
    }
}

#[test]
fn after_any_kill_the_next_wait_succeeds_and_no_process_is_left() {
    let (scene, mut dice) = (Scene::new(), Dice(0xdead));
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
        let starter = once(&scene, &[&["-i", "a"][..], &command].concat()).spawn().unwrap();
        let waiter =
            (dice.roll(2) == 0).then(|| once(&scene, &[&["-qwi", "a"][..], &command].concat()).spawn().unwrap());
        let most = [1, 4, 40][usize::try_from(dice.roll(3)).unwrap()];
        dice.pause(Duration::from_millis(most));
        let pid: Option<u32> = scene.task_text("a", "pid").trim().parse().ok();
        let supervisor = pid.and_then(find_parent_pid).filter(|pid| is_supervisor(*pid));
        let victim = ["starter", "supervisor", "command", "group"][usize::try_from(dice.roll(4)).unwrap()];
        match (victim, pid, supervisor) {
            ("starter", _, _) => kill(&starter.id().to_string()),
            ("supervisor", _, Some(supervisor)) => kill(&supervisor.to_string()),
            // The parent is the supervisor, so the pid was not reused.
            ("command", Some(pid), Some(_)) => kill(&pid.to_string()),
            ("group", Some(pid), Some(_)) => kill(&format!("-{pid}")),
            _ => {}
        }
        finish(starter);
        waiter.map(finish);
        let last = finish(once(&scene, &[&["-qwi", "a"][..], &command].concat()).spawn().unwrap());
        assert_eq!(last, Some(0), "round {round}, {victim} killed: {}", scene.task_text("a", "history"));
        assert_eq!(scene.task_text("a", "exit"), "0\n", "round {round}, {victim} killed");
        assert!(!overlap.exists(), "round {round}, {victim} killed: two at once");
        for pid in fs::read_to_string(&marks).unwrap().lines() {
            wait_until("all have ended", || !is_alive(pid.parse().unwrap()));
        }
        finish(once(&scene, &["-r", "-i", "a"]).spawn().unwrap());
        finish(once(&scene, &["-r", "-i", "a"]).spawn().unwrap());
        assert!(!scene.task_file("a", "").exists(), "round {round}");
        fs::remove_file(&marks).unwrap();
    }
}

fn is_supervisor(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains("run-once")
}

fn kill(whom: &str) {
    // The process may have ended.
    let _ = Command::new("kill").args(["-9", "--", whom]).stderr(Stdio::null()).status();
}

#[test]
fn concurrent_validations_all_get_the_correct_status() {
    let (scene, mut dice) = (Scene::new(), Dice(0xace));
    let made = scene.path("made");
    let script = format!("test -e '{}'", made.display());
    for round in 0..50 {
        fs::write(&made, "").unwrap();
        let id = format!("t{round}");
        assert_eq!(finish(once(&scene, &["-qwi", &id, "--", "sh", "-c", &script]).spawn().unwrap()), Some(0));
        // In every second round, the runs fail from now on. All validations and all later waits must report that.
        let is_good = round % 2 == 0;
        if !is_good {
            fs::remove_file(&made).unwrap();
        }
        let expected = Some(i32::from(!is_good));
        let waiters: Vec<Child> = (0..5)
            .map(|_| {
                dice.pause(Duration::from_micros(500));
                once(&scene, &["-qwi", &id, "--validate"]).spawn().unwrap()
            })
            .collect();
        for waiter in waiters {
            assert_eq!(finish(waiter), expected, "round {round}");
        }
        assert_eq!(finish(once(&scene, &["-qwi", &id]).spawn().unwrap()), expected, "round {round}");
    }
}
