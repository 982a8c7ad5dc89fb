//! `status` and `list` compared with `/proc`, which the test reads itself, in random scenes.

use crate::call::Holder;
use crate::proc_locks::{LockUse, read_lock_uses};
use crate::process::{PATIENCE, child_pids, count_threads, wait_until, waiter_pids};
use crate::random::Random;
use crate::scene::{HELPER, LIBRARY, Scene};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const SCENES: u64 = 200;

/// The number of scenes in one state root at the same time.
const TOGETHER: u64 = 10;

/// A script that starts children that inherit the lock, prints their pids, and ends when its input does.
const HOLD: &str = r#"said=held; for ((n = 0; n < $1; n++)); do sleep 1000 <&- >&- 2>&- & said+=" $!"; done; echo "$said"; read _; kill $(jobs -p); exit 0"#;

/// The way in which a lock is acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `lock NAME -- CMD`
    Command,
    /// A script with the library, whose helper has ended.
    Script,
    /// flock(1)
    Flock,
    /// `lock --no-inherit NAME -- CMD`
    Keeper,
}

/// The state of a lock that the test expects.
#[derive(Debug, Default)]
struct ExpectedLock {
    usage: LockUse,
    /// For each holder: true if it inherited the lock, or `None` if `status` cannot know that.
    inherited: BTreeMap<u32, Option<bool>>,
    /// The processes that were started to wait. First flag: a child of the process is the waiter. Second flag: exclusive.
    waiting: Vec<(u32, bool, bool)>,
}

/// Several scenes in one state root, and their processes.
struct Stage {
    scene: Scene,
    random: Random,
    expected: BTreeMap<String, ExpectedLock>,
    holders: Vec<Holder>,
    waiters: Vec<Child>,
    /// The process groups of all processes that were started.
    groups: Vec<u32>,
    /// The children of the last holder, which inherited its locks.
    last_children: Vec<u32>,
    /// The steps so far, for the message of a failure.
    done: Vec<String>,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let scene = Scene::new();
        scene.make_root();
        Self {
            scene,
            random: Random::new(seed),
            expected: BTreeMap::new(),
            holders: Vec::new(),
            waiters: Vec::new(),
            groups: Vec::new(),
            last_children: Vec::new(),
            done: Vec::new(),
        }
    }

    fn program(&self, program: &str) -> Command {
        let mut command = self.scene.program(program);
        command.env("ABA_LOCK_BIN", HELPER).process_group(0);
        command
    }

    /// Starts a process that acquires locks in this way, and has this number of children that inherit them.
    fn hold(&mut self, names: &[&str], way: Way, exclusive: bool, children: u64) {
        let mode = if exclusive { "-x" } else { "-s" };
        let children = children.to_string();
        let mut command;
        match way {
            Way::Command | Way::Keeper => {
                command = self.program(HELPER);
                command.args(["lock", mode]).args((way == Way::Keeper).then_some("-o")).args(names);
                command.args(["--", "bash", "-c", HOLD, "hold", &children]);
            }
            Way::Script => {
                command = self.program("bash");
                let text = format!("source '{LIBRARY}'; aba_lock_operation {mode} {}; {HOLD}", names.join(" "));
                command.args(["-c", &text, "script", &children]);
            }
            Way::Flock => {
                command = self.program("flock");
                command.arg(mode).arg(self.scene.lock_file(names[0])).args(["bash", "-c", HOLD, "hold", &children]);
            }
        }
        let holder = Holder::start(command);
        self.done.push(format!("{way:?} {mode} {names:?}: {} {}", holder.pid(), holder.first_line));
        let mut others: Vec<u32> = holder.first_line.split(' ').skip(1).map(|pid| pid.parse().unwrap()).collect();
        match way {
            Way::Keeper => others.clear(),
            Way::Flock => others.extend(child_pids(holder.pid())),
            Way::Command | Way::Script => {}
        }
        let known = exclusive && way != Way::Flock;
        // A shared lock is seen to be inherited as long as the process that acquired it runs.
        let is_source = !exclusive && matches!(way, Way::Command | Way::Flock);
        for name in names {
            let expected = self.expected.entry((*name).to_owned()).or_default();
            for pid in [holder.pid()].iter().chain(&others) {
                let inherits = *pid != holder.pid();
                expected.usage.holders.insert(*pid, exclusive);
                expected.inherited.insert(*pid, known.then_some(inherits).or((is_source && inherits).then_some(true)));
            }
        }
        self.last_children = others;
        self.groups.push(holder.pid());
        self.holders.push(holder);
    }

    /// Kills the last holder. Its children live on.
    fn kill(&mut self) {
        let holder = self.holders.last_mut().unwrap();
        holder.signal(9);
        holder.wait();
        self.done.push(format!("killed {}", holder.pid()));
        for expected in self.expected.values_mut() {
            expected.usage.holders.remove(&holder.pid());
            for child in &self.last_children {
                if expected.usage.holders.get(child) == Some(&false) {
                    expected.inherited.insert(*child, None);
                }
            }
        }
    }

    /// Removes a lock file.
    fn remove(&mut self, name: &str) {
        self.done.push(format!("removed {name}"));
        fs::remove_file(self.scene.lock_file(name)).unwrap();
        let expected = self.expected.get_mut(name).unwrap();
        expected.usage.removed.append(&mut expected.usage.holders);
        expected.waiting.clear();
        expected.inherited.clear();
    }

    /// Starts a process that acquires all but the last of these locks, and waits for the last.
    fn wait(&mut self, names: &[&str], exclusive: bool) {
        let mode = if exclusive { "-x" } else { "-s" };
        let quiet = if self.random.one_in(2) { "-qw" } else { "-w" };
        let (last, several) = (names[names.len() - 1], names.len() > 1);
        let file = self.scene.lock_file(last);
        let way = self.random.below(if several { 2 } else { 4 });
        let mut command = match way {
            0 => self.program(HELPER),
            2 => self.program("flock"),
            _ => self.program("bash"),
        };
        match way {
            0 => command.args(["lock", mode, quiet]).args(names).args(["--", "true"]),
            1 => command
                .args(["-c", &format!("source '{LIBRARY}'; aba_lock_operation {mode} {quiet} {}", names.join(" "))]),
            2 => command.arg(mode).arg(&file).arg("true"),
            _ => command.args(["-c", &format!("exec 9<'{}'; flock {mode} 9; true", file.display())]),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.done.push(format!("waits in way {way} {mode} {quiet} {names:?}: {}", child.id()));
        for name in &names[..names.len() - 1] {
            let expected = self.expected.entry((*name).to_owned()).or_default();
            expected.usage.holders.insert(child.id(), exclusive);
            expected.inherited.insert(child.id(), None);
        }
        let helps = way % 2 == 1;
        self.expected.get_mut(last).unwrap().waiting.push((child.id(), helps, exclusive));
        self.groups.push(child.id());
        self.waiters.push(child);
        if helps && several {
            // The helper holds the other locks, too.
            let script = self.groups[self.groups.len() - 1];
            let mut helper = None;
            wait_until("the script has its helper", || {
                helper = self.find_waiting_child(script, last);
                helper.is_some()
            });
            let helper = helper.unwrap();
            for name in &names[..names.len() - 1] {
                let expected = self.expected.get_mut(*name).unwrap();
                expected.usage.holders.insert(helper, exclusive);
                expected.inherited.insert(helper, None);
            }
        }
    }

    /// Returns the child of a script that waits for a lock.
    fn find_waiting_child(&self, script: u32, name: &str) -> Option<u32> {
        let queue = waiter_pids(&self.scene.lock_file(name));
        queue.into_iter().find(|pid| child_pids(script).contains(pid))
    }

    /// Makes one of the scenes, with two locks.
    fn add_scene(&mut self, number: u64) {
        let (a, b) = (format!("s{number}a"), format!("s{number}b"));
        let (a, b) = (a.as_str(), b.as_str());
        for name in [a, b] {
            self.expected.insert(name.to_owned(), ExpectedLock::default());
        }
        if self.random.one_in(3) {
            // Leaves the record of an earlier holder.
            self.scene.aba(["lock", a, "--", "true"]).run();
        }
        match self.random.below(10) {
            0 => {}
            1 => {
                self.hold(&[a], Way::Keeper, true, 1);
                self.kill();
                self.expected.get_mut(a).unwrap().usage.holders.clear();
            }
            2 => {
                self.hold(&[b], Way::Command, true, 0);
                let exclusive = self.random.one_in(2);
                self.wait(&[a, b], exclusive);
                self.wait(&[b], true);
                return;
            }
            3 => {
                let way = if self.random.one_in(2) { Way::Command } else { Way::Script };
                let (exclusive, children) = (self.random.one_in(2), self.random.below(2));
                self.hold(&[b, a], way, exclusive, children);
                self.start_some_waiters(b);
            }
            _ => self.start_some_holders(a),
        }
        self.start_some_waiters(a);
        if self.random.one_in(4) && self.scene.lock_file(a).exists() {
            self.wait_until_settled();
            self.remove(a);
            if self.random.one_in(2) {
                self.start_some_holders(a);
                self.start_some_waiters(a);
            }
        }
    }

    fn start_some_holders(&mut self, name: &str) {
        const WAYS: [Way; 4] = [Way::Command, Way::Script, Way::Flock, Way::Keeper];
        let exclusive = self.random.below(3) > 0;
        let takers = if exclusive { 1 } else { 1 + self.random.below(3) };
        for _ in 0..takers {
            let way = WAYS[usize::try_from(self.random.below(4)).unwrap()];
            let children = self.random.below(3);
            self.hold(&[name], way, exclusive, children);
            let leaves = children > 0 && way != Way::Keeper;
            if leaves && self.random.one_in(3) {
                self.kill();
            }
        }
    }

    fn start_some_waiters(&mut self, name: &str) {
        let Some(held) = self.expected[name].usage.holders.values().next().copied() else { return };
        for _ in 0..self.random.below(4) {
            // A waiter that asks for a shared lock would get it immediately.
            let exclusive = !held || self.random.one_in(2);
            self.wait(&[name], exclusive);
        }
    }

    /// Waits until `/proc` shows the expected state.
    fn wait_until_settled(&mut self) {
        let start = Instant::now();
        loop {
            let actual = read_lock_uses(&self.scene);
            let wrong: Vec<&String> = self
                .expected
                .iter()
                .filter(|(name, expected)| !is_as_expected(actual.get(*name), expected))
                .map(|(name, _)| name)
                .collect();
            if wrong.is_empty() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "it does not settle: {wrong:?}\n{}\n{actual:#?}", self.done.join("\n"));
            thread::yield_now();
        }
    }

    /// Compares the output of the helper with `/proc`. Returns false if `/proc` changed during the comparison.
    fn is_compared(&mut self) -> bool {
        let before = read_lock_uses(&self.scene);
        let ask = |args: &[&str]| {
            let output = self.scene.program(HELPER).args(args).output().unwrap();
            (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
        };
        let (listed, list) = ask(&["list", "--json"]);
        let said: Vec<(&String, i32, Value)> = self
            .expected
            .keys()
            .map(|name| {
                let (status, said) = ask(&["status", "--json", name]);
                (name, status, said)
            })
            .collect();
        if read_lock_uses(&self.scene) != before {
            return false;
        }
        assert_eq!(listed, 0);
        for (name, status, said) in said {
            let actual = before.get(name).cloned().unwrap_or_default();
            let all = || format!("{name}: {said:#}\n{actual:#?}\n{}", self.done.join("\n"));
            let held = !actual.holders.is_empty();
            assert_eq!(status, i32::from(!held), "{}", all());
            check(&said, &actual, &self.expected[name], &all);
            let of_list = list["locks"].as_array().unwrap().iter().find(|lock| lock["name"] == **name);
            let there = self.scene.lock_file(name).exists() || !actual.removed.is_empty();
            assert_eq!(of_list.is_some(), there, "in the list: {}", all());
            if let Some(of_list) = of_list {
                check(of_list, &actual, &self.expected[name], &all);
            }
        }
        let known = |lock: &Value| self.expected.contains_key(lock["name"].as_str().unwrap());
        assert!(list["locks"].as_array().unwrap().iter().all(known), "{list:#}");
        true
    }

    /// Ends all processes.
    fn end(mut self) {
        self.kill_all();
        let start = format!("{}/", self.scene.root().canonicalize().unwrap().display());
        wait_until("no process is left", || !is_open_anywhere(&start));
    }

    fn kill_all(&mut self) {
        let groups = self.groups.drain(..).map(|group| format!("-{group}"));
        let _ = Command::new("kill").args(["-9", "--"]).args(groups).stderr(Stdio::null()).status();
        for mut child in self.waiters.drain(..) {
            let _ = child.wait();
        }
        self.holders.clear();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.groups.is_empty() {
            self.kill_all();
        }
    }
}

fn is_open_anywhere(start: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let descriptors = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        descriptors.flat_map(|one| fs::read_link(one.path())).any(|link| link.to_string_lossy().starts_with(start))
    })
}

/// Returns true if a lock is in the expected state.
fn is_as_expected(actual: Option<&LockUse>, expected: &ExpectedLock) -> bool {
    let none = LockUse::default();
    let actual = actual.unwrap_or(&none);
    let waits = |(pid, helps, exclusive): &(u32, bool, bool)| {
        let is = |one: &u32| if *helps { child_pids(*pid).contains(one) } else { one == pid };
        actual.waiters.iter().any(|(one, mode)| is(one) && mode == exclusive)
    };
    (&actual.holders, &actual.removed) == (&expected.usage.holders, &expected.usage.removed)
        && actual.waiters.len() == expected.waiting.len()
        && expected.waiting.iter().all(waits)
        && actual.waiters.iter().all(|(pid, _)| keeps_its_place(*pid))
}

/// Returns true if a waiter keeps its place in the queue. The helper loses its place once, before it has a second thread.
fn keeps_its_place(waiter: u32) -> bool {
    let ours = fs::read_link(format!("/proc/{waiter}/exe")).is_ok_and(|program| program == Path::new(HELPER));
    !ours || count_threads(waiter) > 1
}

/// Compares the JSON of a lock with `/proc`.
fn check(said: &Value, actual: &LockUse, expected: &ExpectedLock, all: &dyn Fn() -> String) {
    let number = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let mode = |exclusive: bool| if exclusive { "exclusive" } else { "shared" };
    let pids = |list: &Value| list.as_array().unwrap().iter().map(|one| number(&one["pid"])).collect::<Vec<_>>();
    let exclusive = actual.holders.values().next();
    assert_eq!(said["state"], if exclusive.is_some() { "held" } else { "free" }, "{}", all());
    assert_eq!(said["mode"].as_str(), exclusive.map(|exclusive| mode(*exclusive)), "{}", all());
    for (list, those) in [("holders", &actual.holders), ("removed", &actual.removed)] {
        let found = pids(&said[list]);
        assert_eq!(found.iter().collect::<BTreeSet<_>>(), those.keys().collect(), "{list} of {}", all());
        assert_eq!(found.len(), those.len(), "{list} of {}", all());
    }
    for holder in said["holders"].as_array().unwrap() {
        assert_eq!(holder["inherited"].as_bool(), expected.inherited[&number(&holder["pid"])], "{}", all());
        assert!(!holder["command"].as_str().unwrap().is_empty() && holder["running_seconds"].is_u64(), "{}", all());
    }
    let waiters = said["waiters"].as_array().unwrap();
    let found: Vec<(u32, &str)> =
        waiters.iter().map(|one| (number(&one["pid"]), one["mode"].as_str().unwrap())).collect();
    let those: Vec<(u32, &str)> = actual.waiters.iter().map(|(pid, exclusive)| (*pid, mode(*exclusive))).collect();
    assert_eq!(found, those, "waiters of {}", all());
    for waiter in waiters {
        let script = expected
            .waiting
            .iter()
            .find(|(pid, helps, _)| *helps && child_pids(*pid).contains(&number(&waiter["pid"])));
        assert_eq!(waiter["script"]["pid"].as_u64(), script.map(|(pid, _, _)| u64::from(*pid)), "{}", all());
        assert!(waiter["waiting_seconds"].as_f64().unwrap() >= 0.0, "{}", all());
    }
}

#[test]
fn status_and_list_agree_with_proc_in_random_scenes() {
    let seed = std::env::var("ABA_LOCK_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs() * 1000 + u64::from(now.subsec_millis())
    });
    let stages = |worker: u64, workers: u64| {
        for at in (worker..SCENES / TOGETHER).step_by(usize::try_from(workers).unwrap()) {
            let mut stage = Stage::new((seed ^ (at + 1) << 40) | 1);
            for number in 0..TOGETHER {
                stage.add_scene(number);
            }
            stage.wait_until_settled();
            wait_until("the comparison is complete", || stage.is_compared());
            stage.end();
        }
    };
    let failed = thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|worker| scope.spawn(move || stages(worker, 4))).collect();
        workers.into_iter().filter_map(|worker| worker.join().err()).count()
    });
    assert_eq!(failed, 0, "to see it again: ABA_LOCK_TEST_SEED={seed}");
}
