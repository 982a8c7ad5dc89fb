//! A directory for locks with an owner, a group and a mode, and programs next to it that all users may run.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A directory of a test. It contains the directory for locks, and the programs.
pub(crate) struct Place {
    base: TempDir,
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
        let place = Self { base: tempfile::tempdir().unwrap() };
        set_mode(place.base(), 0o755);
        // A child process writes the copy: see `copy_program` in tests/cli.
        let helper = std::env::var_os("ABA_LOCK_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_aba-lock").into());
        assert!(Command::new("cp").arg(helper).arg(place.helper()).status().unwrap().success());
        let library = concat!(env!("CARGO_MANIFEST_DIR"), "/shell/aba-lock.bash");
        fs::copy(library, place.library()).unwrap();
        set_mode(&place.library(), 0o644);
        place.renew(owner, group, mode);
        place
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

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
