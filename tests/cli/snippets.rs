//! Runs every shell snippet of the README and the manual pages in three states.
//!
//! - Free: the program that it guards runs once.
//! - Held: the program does not run, or waits until the other process has ended.
//! - Broken (the state directory cannot be used, or the lock service does not answer): the program does not run.
//!
//! Programs and services are stubs that note each call.

use crate::call::Holder;
use crate::process::{count_waiters, wait_until, write_program};
use crate::scene::{Gate, HELPER, Scene};
use crate::snippet_table::GuardLock::{File, Name, Number, Service, Task, Update};
use crate::snippet_table::SnippetRule::{Guard, Lease, Not, Plain, Waits};
use crate::snippet_table::{GuardLock, REST, ROWS, SnippetRule, find_row, project_root, read_snippets};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LockState {
    Free,
    Held,
    Broken,
}

/// The directory, the stubs and the locks with which a snippet runs.
struct SnippetScene {
    scene: Scene,
    state: LockState,
}

impl SnippetScene {
    fn new(state: LockState) -> Self {
        let place = Self { scene: Scene::new(), state };
        for directory in ["work", "work/lib", "bin"] {
            fs::create_dir(place.scene.path(directory)).unwrap();
        }
        if state != LockState::Broken {
            fs::create_dir(place.scene.path("files")).unwrap();
        }
        let stub = r#"#!/bin/sh
            case $0 in ./*) name=$0 ;; *) name=${0##*/} ;; esac
            echo "$name" >>"$CALLS"
            case $name in
                sed) PATH=/usr/bin:/bin exec sed "$@" ;;
                curl)
                    case $SERVICE in
                        Free) echo '{"id":"42"}' ;;
                        Held) echo '{"success":false,"existingLock":{"id":"42"}}' ;;
                        *) exit 7 ;;
                    esac
                    ;;
                *) echo '{}' ;;
            esac
        "#;
        let programs = "bin/Xvfb bin/apt-get bin/curl bin/docker bin/logger bin/make bin/prepare bin/registry bin/rest bin/rsync bin/sed \
                        bin/tmux bin/yq work/backup.sh work/build.sh work/deploy.sh work/failover.sh work/generate work/look-up \
                        work/migrate work/migrate.sh work/notify.sh work/publish work/run-tests work/tests work/train work/vacuum.sh";
        write_program(&place.scene.path("stub"), stub);
        for program in programs.split_whitespace() {
            std::os::unix::fs::symlink(place.scene.path("stub"), place.scene.path(program)).unwrap();
        }
        for file in ["hosts.yaml", "hosts.txt", "out.json", "f.conf", "f.json", ".env"] {
            fs::write(place.work(file), "a\n").unwrap();
        }
        place
    }

    fn work(&self, name: &str) -> PathBuf {
        self.scene.path("work").join(name)
    }

    /// A bash that runs a text with the stubs.
    fn bash(&self, text: &str) -> Command {
        let mut command = self.scene.program("bash");
        let path = [self.scene.path("bin"), Path::new(HELPER).parent().unwrap().to_owned()];
        let path = format!("{}:{}:{}", path[0].display(), path[1].display(), std::env::var("PATH").unwrap());
        command.args(["-c", text, "snippet", "save"]).current_dir(self.scene.path("work"));
        command.stdout(Stdio::null()).stderr(fs::File::create(self.scene.path("err")).unwrap());
        command.env("PATH", path).env("CALLS", self.scene.path("calls")).env("SERVICE", format!("{:?}", self.state));
        command.env("ABA_LOCK_BIN", HELPER).env("ABA_LOCK_KEEPER", "/dev/null/none").env("command", "save");
        if self.state == LockState::Broken {
            command.env("ABA_LOCK_DIR", "/dev/null/none").env("HOME", "/dev/null");
        }
        command
    }

    /// The script that begins with a snippet.
    fn script(&self, snippet: &str) -> String {
        let after = snippet.split_once("# after").and_then(|(_, after)| after.split_once('\n'));
        let snippet = after.map_or(snippet, |(_, after)| after);
        let shell = project_root().join("shell");
        let lock = self.scene.path("files/backup.lock");
        let text = snippet
            .replace("/usr/local/share/aba-lock", shell.to_str().unwrap())
            .replace("/var/lock/backup.lock", lock.to_str().unwrap())
            .replace("/run/lock/backup", lock.to_str().unwrap())
            .replace("/run/backup.pid", self.scene.path("pid").to_str().unwrap())
            .replace("/var/lib/aba-lock", self.scene.path("shared").to_str().unwrap())
            .replace("/var/log/", "lib/")
            .replace("/var/lib/node_exporter/textfile/", "lib/");
        let sources = if text.contains("source ") {
            String::new()
        } else {
            format!("source '{0}/aba-lock.bash'; source '{0}/run_once.bash'", shell.display())
        };
        format!("{sources}\nadd_host() {{ echo add_host >>\"$CALLS\"; cat; echo \"$@\"; }}\n{text}\n{REST}\nwait\n")
    }

    /// The number of times that a program ran.
    fn count(&self, what: &str) -> usize {
        if let Some(file) = what.strip_prefix("changed ") {
            return usize::from(fs::read_to_string(self.work(file)).is_ok_and(|content| content != "a\n"));
        }
        let calls = fs::read_to_string(self.scene.path("calls")).unwrap_or_default();
        calls.lines().filter(|call| *call == what).count()
    }

    fn lock_file(&self, lock: GuardLock) -> PathBuf {
        match lock {
            Name(name) => self.scene.lock_file(name),
            File => self.scene.path("files/backup.lock"),
            Update(file) => self.work(&format!("{file}.lock")),
            Task(id) => self.scene.task_file(id, "lock"),
            Number(_) | Service => unreachable!("there is no file to wait for"),
        }
    }

    /// Makes the lock of an update unusable. For the other locks, the environment does so.
    fn break_lock(&self, lock: GuardLock) {
        if let Update(_) = lock {
            fs::create_dir(self.lock_file(lock)).unwrap();
        }
    }

    /// Lets another process hold a lock until the returned value is dropped.
    fn hold(&self, lock: GuardLock) -> LockHolder {
        match lock {
            Name(name) => LockHolder::By(self.scene.holder(name)),
            File | Update(_) => LockHolder::By(self.scene.flock_holder(self.lock_file(lock))),
            Task(id) => {
                let gate = self.scene.gate("gate");
                let script = format!("read _ <{gate}; echo '{{}}'");
                self.scene.once(["-i", id, "--", "bash", "-c", &script]).run();
                LockHolder::ByTask(gate)
            }
            Number(pool) => {
                let range = [("gpu", "0-7"), ("display", "90-99")].iter().find(|(name, _)| *name == pool);
                let range = range.map_or("1-65535", |(_, range)| range);
                self.scene.aba(["exclude", "--pool", pool, range]).run();
                LockHolder::ForGood
            }
            Service => LockHolder::ForGood,
        }
    }
}

/// The holder of the lock of a snippet.
enum LockHolder {
    By(Holder),
    /// A task that waits at this gate.
    ByTask(Gate),
    ForGood,
}

impl LockHolder {
    /// Ends the holder. A gate must live on, because the task may not have reached it yet.
    fn release(self) -> Option<Gate> {
        match self {
            Self::By(holder) => {
                assert_eq!(holder.release(), 0);
                None
            }
            Self::ByTask(gate) => {
                gate.open();
                Some(gate)
            }
            Self::ForGood => None,
        }
    }
}

/// A running snippet, and its text.
struct RunningSnippet(Child, String);

impl RunningSnippet {
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Waits until the snippet has ended. Returns its exit status.
    fn finish(&mut self) -> i32 {
        let what = format!("this snippet ends: {}", self.1);
        wait_until(&what, || self.has_ended());
        self.0.wait().unwrap().code().unwrap_or(128)
    }
}

impl Drop for RunningSnippet {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a snippet in a state, and checks what it guards.
fn check(snippet: &str, kind: SnippetRule, state: LockState) {
    let place = SnippetScene::new(state);
    let start = || RunningSnippet(place.bash(&place.script(snippet)).spawn().unwrap(), snippet.to_owned());
    let is_run = |work: &str, times: usize| {
        let said = fs::read_to_string(place.scene.path("err")).unwrap_or_default();
        assert_eq!(place.count(work), times, "{work} while {state:?}: {snippet}\nstderr: {said}");
    };
    let (lock, work, waits) = match (kind, state) {
        (Plain, LockState::Free) => {
            let status = start().finish();
            assert!(![2, 126, 127].contains(&status), "{status}: {snippet}");
            return;
        }
        // The helper finds no keeper.
        (Lease(work), LockState::Free | LockState::Broken) => {
            start().finish();
            return is_run(work, 0);
        }
        (Not(reason), _) => return assert!(!reason.is_empty()),
        (Plain | Lease(_), _) => return,
        (Guard(lock, work), _) => (lock, work, false),
        (Waits(lock, work), _) => (lock, work, true),
    };
    if state == LockState::Held {
        let held = place.hold(lock);
        let mut running = start();
        if waits {
            wait_until("it waits", || {
                assert!(!running.has_ended(), "it does not wait: {snippet}");
                // `aba-lock wait` is not in the queue.
                let said = fs::read_to_string(place.scene.path("err")).unwrap_or_default();
                count_waiters(&place.lock_file(lock)) > 0 || said.contains("aba-lock: waiting for ")
            });
        } else {
            running.finish();
        }
        is_run(work, 0);
        let _gate = held.release();
        running.finish();
        // A task that has run is not run again.
        return is_run(work, usize::from(waits && !matches!(lock, Task(_))));
    }
    if state == LockState::Broken {
        place.break_lock(lock);
    }
    start().finish();
    if state == LockState::Free {
        // A task in the background may not have started yet.
        wait_until(snippet, || place.count(work) > 0);
    }
    is_run(work, usize::from(state == LockState::Free));
}

#[test]
fn each_snippet_has_a_row_and_each_row_a_snippet() {
    let snippets = read_snippets();
    assert!(snippets.len() > 80, "{snippets:#?}");
    for snippet in &snippets {
        assert!(find_row(snippet).is_some(), "no row for this snippet: {snippet}");
    }
    for (text, _) in ROWS {
        let is_used = snippets.iter().filter_map(|snippet| find_row(snippet)).any(|(used, _)| used == text);
        assert!(is_used, "no snippet has this row: {text}");
    }
}

#[test]
fn a_guarded_program_runs_once_if_the_lock_is_free() {
    for snippet in read_snippets() {
        check(&snippet, find_row(&snippet).unwrap().1, LockState::Free);
    }
}

#[test]
fn a_guarded_program_does_not_run_while_the_lock_is_held() {
    for snippet in read_snippets() {
        check(&snippet, find_row(&snippet).unwrap().1, LockState::Held);
    }
}

#[test]
fn a_guarded_program_does_not_run_if_locking_is_broken() {
    for snippet in read_snippets() {
        check(&snippet, find_row(&snippet).unwrap().1, LockState::Broken);
    }
}
