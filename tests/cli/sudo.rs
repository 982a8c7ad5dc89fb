//! Calls as root with the `HOME` of another user, as sudo(8) without -H makes them.

use crate::process::{copy_program, is_root, set_mode};
use crate::scene::{HELPER, NOBODY, Scene};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A call of each command that creates files.
const CALLS: [&[&str]; 6] = [
    &["lock", "a", "--", "true"],
    &["path", "--create", "a"],
    &["run-once", "-w", "-i", "task", "--", "echo", "done"],
    &["reserve"],
    &["reserve", "--pool", "slots", "--range", "1-9", "--", "true"],
    &["update", "--create", "file", "echo", "new"],
];

struct UserHome {
    scene: Scene,
    home: PathBuf,
}

impl UserHome {
    fn new() -> Self {
        let scene = Scene::new();
        let home = scene.path("home");
        set_mode(scene.path(""), 0o755);
        copy_program(HELPER, &scene.path("helper"));
        fs::create_dir(&home).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self { scene, home }
    }

    fn call(&self, user: u32, words: &[&str]) -> Output {
        let mut command = if user == 0 || !is_root() { self.scene.program("env") } else { self.setpriv(user) };
        command.arg(self.scene.path("helper")).args(words);
        self.at_home(&mut command).output().unwrap()
    }

    fn setpriv(&self, user: u32) -> Command {
        let mut command = self.scene.program("setpriv");
        let user = user.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
        command
    }

    fn at_home<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env_remove("ABA_LOCK_DIR").env("HOME", &self.home).env("ABA_LOCK_LOG", self.home.join("log"));
        command.current_dir(&self.home)
    }

    /// Collects the files below `directory` that do not belong to the owner of the home.
    fn find_foreign_files(&self, directory: &Path, found: &mut Vec<PathBuf>) {
        let user = fs::metadata(&self.home).unwrap().uid();
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let data = entry.metadata().unwrap();
            if data.uid() != user {
                found.push(entry.path());
            }
            if data.is_dir() {
                self.find_foreign_files(&entry.path(), found);
            }
        }
    }
}

impl Drop for UserHome {
    fn drop(&mut self) {
        let _ = self.call(0, &["run-once", "-G"]);
    }
}

#[test]
fn the_first_caller_excludes_no_other_user() {
    for (first, second) in [(0, NOBODY), (NOBODY, 0)] {
        for begun in CALLS {
            let home = UserHome::new();
            let output = home.call(first, begun);
            assert!(output.status.success(), "{begun:?} of {first}: {output:?}");
            let more: [&[&str]; 4] = [
                &["run-once", "-o", "-i", "task"],
                &["status", "-q", "a"],
                &["list"],
                &["run-once", "-r", "-i", "task"],
            ];
            for next in CALLS.iter().chain(&more) {
                let output = home.call(second, next);
                let expected = i32::from(next[0] == "status");
                let status = output.status.code();
                assert_eq!(status, Some(expected), "{next:?} of {second} after {begun:?} of {first}: {output:?}");
                if next[0] == "run-once" && next[1] == "-o" {
                    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
                }
            }
            // The first caller can use the files that the second one created, too.
            for next in CALLS {
                let output = home.call(first, next);
                assert!(output.status.success(), "{next:?} of {first} after {second}: {output:?}");
            }
        }
    }
}

#[test]
fn files_that_root_creates_in_the_home_of_a_user_belong_to_the_user() {
    let home = UserHome::new();
    for call in CALLS.iter().chain(&[["run-once", "-w", "-i", "other", "--", "false"].as_slice()]) {
        home.call(0, call);
    }
    let mut found = Vec::new();
    home.find_foreign_files(&home.home, &mut found);
    // The new content of an update and a saved command belong to the caller, because a saved command runs only for its owner.
    found.retain(|path| !path.ends_with("file") && !path.ends_with("cmd.sh"));
    assert_eq!(found, [] as [PathBuf; 0]);
    assert!(home.home.join("log").exists() && home.home.join(".aba/aba-a.lock").exists());
}

#[test]
fn files_that_root_creates_in_its_own_directory_belong_to_root() {
    if !is_root() {
        return;
    }
    let home = UserHome::new();
    // The user made a link to a directory of root.
    let target = home.scene.path("target");
    fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, home.home.join(".aba")).unwrap();
    std::os::unix::fs::lchown(home.home.join(".aba"), Some(NOBODY), Some(NOBODY)).unwrap();
    home.call(0, &["lock", "a", "--", "true"]);
    home.call(0, &["run-once", "-w", "-i", "task", "--", "true"]);
    let owner = |name: &str| fs::symlink_metadata(target.join(name)).unwrap().uid();
    assert_eq!([owner("aba-a.lock"), owner("runner"), owner("runner/task"), owner("runner/task/exit")], [0; 4]);
}

#[test]
fn directory_modes_are_never_changed_by_path() {
    // A change of a mode by path is a race:
    // 1. Root creates the directory.
    // 2. Its owner replaces it by a link.
    // 3. Root changes the mode of another directory.
    let scene = Scene::new();
    for call in [["run-once", "-w", "-i", "task", "--", "true"].as_slice(), &["reserve"]] {
        let (status, said) = scene.trace_helper(&["-f", "-e", "trace=chmod,fchmodat"], call, ".");
        assert_eq!(status, Some(0), "{said}");
        let trace = fs::read_to_string(scene.path("trace")).unwrap();
        assert!(!trace.contains("chmod"), "{call:?}: {trace}");
    }
    let mode = |path: &str| fs::metadata(scene.root().join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("runner/task"), mode("reserve")), (0o711, 0o700));
}
