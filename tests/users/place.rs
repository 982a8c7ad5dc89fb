//! A directory for locks with an owner, a group and a mode, and programs next to it that all users may run.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// A directory of a test. It contains the directory for locks, and the programs.
pub(crate) struct Place {
    base: TempDir,
    /// A process in a mount namespace of its own, with an empty /run/lock, in which all calls of the test run.
    namespace: Option<Child>,
}

/// A file in a directory for locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundFile {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) group: u32,
}

impl Place {
    /// Makes the directory for locks.
    pub(crate) fn new(owner: u32, group: u32, mode: u32) -> Self {
        let place = Self { base: tempfile::tempdir().unwrap(), namespace: None };
        set_mode(place.base(), 0o755);
        // A child process writes the copy: see `copy_program` in tests/cli.
        let helper = std::env::var_os("ABA_LOCK_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_aba-lock").into());
        assert!(Command::new("cp").arg(helper).arg(place.helper()).status().unwrap().success());
        for name in ["aba-lock.bash", "aba-lock-builtin.bash"] {
            let copy = place.base().join(name);
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("shell").join(name), &copy).unwrap();
            set_mode(&copy, 0o644);
        }
        place.renew(owner, group, mode);
        place
    }

    /// Makes a place whose calls use a /run/lock of their own, to which all users may write. `ABA_LOCK_DIR` is not set for them.
    pub(crate) fn with_own_run_lock() -> Self {
        let mut place = Self::new(0, 0, 0o700);
        let script = "mount -t tmpfs -o mode=1777 none /run/lock && echo ready && read -r _";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        place.namespace = Some(child);
        place
    }

    /// The words before a program that make it run in the mount namespace of the place.
    pub(crate) fn entrance(&self) -> Vec<String> {
        let enter =
            |child: &Child| vec!["nsenter".to_owned(), format!("--mount=/proc/{}/ns/mnt", child.id()), "--".to_owned()];
        self.namespace.as_ref().map(enter).unwrap_or_default()
    }

    pub(crate) fn has_own_run_lock(&self) -> bool {
        self.namespace.is_some()
    }

    /// Replaces the directory for locks with an empty one.
    pub(crate) fn renew(&self, owner: u32, group: u32, mode: u32) {
        let _ = fs::remove_dir_all(self.root());
        fs::create_dir(self.root()).unwrap();
        chown(self.root(), Some(owner), Some(group)).unwrap();
        // After the change of the owner, which can clear bits.
        set_mode(&self.root(), mode);
    }

    pub(crate) fn base(&self) -> &Path {
        self.base.path()
    }

    /// The directory for locks.
    pub(crate) fn root(&self) -> PathBuf {
        self.base().join("locks")
    }

    pub(crate) fn helper(&self) -> PathBuf {
        self.base().join("aba-lock")
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.base().join("aba-lock.bash")
    }

    /// The builtin for bash. The first call copies it to the place.
    pub(crate) fn builtin(&self) -> PathBuf {
        let copy = self.base().join("builtin.so");
        if !copy.exists() {
            let built = concat!(env!("CARGO_MANIFEST_DIR"), "/target/debug/libaba_lock_builtin.so");
            let built = std::env::var_os("BUILTIN_FILE").map_or_else(|| PathBuf::from(built), PathBuf::from);
            fs::copy(&built, &copy)
                .unwrap_or_else(|error| panic!("{}: {error}: cargo build -p aba-lock-builtin", built.display()));
            set_mode(&copy, 0o755);
        }
        copy
    }

    pub(crate) fn lock_file(&self, name: &str) -> PathBuf {
        self.root().join(format!("aba-{name}.lock"))
    }

    /// Returns the regular files in the directory for locks and in those in it.
    pub(crate) fn files(&self) -> Vec<FoundFile> {
        let mut found = Vec::new();
        let mut directories = vec![self.root()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap().flatten() {
                let data = entry.metadata().unwrap();
                if data.is_dir() {
                    directories.push(entry.path());
                } else if data.is_file() {
                    let (mode, owner, group) = (data.mode() & 0o7777, data.uid(), data.gid());
                    found.push(FoundFile { path: entry.path(), mode, owner, group });
                }
            }
        }
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(child) = &mut self.namespace {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
