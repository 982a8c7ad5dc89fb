//! A directory with all that is needed: state roots, and the small programs in C.

use crate::call::Call;
use crate::ending;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/c");

/// The shell library.
pub(crate) const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shell/aba-lock.bash");

/// The helper that is measured. It must be said which: one that was built for debugging is several times slower.
pub(crate) fn helper() -> String {
    std::env::var("ABA_LOCK_BIN").unwrap_or_else(|_| panic!("ABA_LOCK_BIN is not set: start this with `make bench`"))
}

/// The directory, and where programs are.
pub(crate) struct Scene {
    pub(crate) directory: PathBuf,
    pub(crate) helper: PathBuf,
    flock: PathBuf,
    bash: PathBuf,
    /// How often a call is measured that takes about a millisecond.
    pub(crate) rounds: u32,
    /// How many may want one lock at once.
    up_to: u32,
}

impl Scene {
    pub(crate) fn new(rounds: u32, up_to: u32) -> Self {
        let directory = std::env::temp_dir().join(format!("aba-lock-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        ending::answer_for(&directory);
        for program in ["floor", "holder", "launch"] {
            build(program, &directory);
        }
        let helper = installed(Path::new(&helper()), &directory.join("aba-lock"));
        Self { directory, helper, flock: found("flock"), bash: found("bash"), rounds, up_to }
    }

    /// How often what takes ten milliseconds or more.
    pub(crate) fn fewer(&self) -> u32 {
        (self.rounds / 10).max(1)
    }

    /// How often what takes a second or so.
    pub(crate) fn few(&self) -> u32 {
        (self.rounds / 100).max(1)
    }

    /// Those of these sizes that may be.
    pub(crate) fn allowed(&self, sizes: &[u32]) -> Vec<u32> {
        sizes.iter().copied().filter(|size| *size <= self.up_to).collect()
    }

    /// A new state root.
    pub(crate) fn root(&self, name: &str) -> Root<'_> {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).unwrap();
        Root { scene: self, path }
    }
}

/// A state root, in which all sides work.
#[derive(Clone)]
pub(crate) struct Root<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) path: PathBuf,
}

impl Root<'_> {
    /// The lock file of `name`, which is there.
    pub(crate) fn lock_file(&self, name: &str) -> PathBuf {
        let path = self.path.join(format!("aba-{name}.lock"));
        let _ = File::options().create(true).append(true).open(&path).unwrap();
        path
    }

    pub(crate) fn helper(&self, args: &[&str]) -> Call {
        self.call(&self.scene.helper, args)
    }

    pub(crate) fn flock(&self, args: &[&str]) -> Call {
        self.call(&self.scene.flock, args)
    }

    pub(crate) fn floor(&self, args: &[&str]) -> Call {
        self.call(&self.scene.directory.join("floor"), args)
    }

    pub(crate) fn floor_with_libc(&self, args: &[&str]) -> Call {
        self.call(&self.scene.directory.join("floor-libc"), args)
    }

    /// A process that holds a lock, when it is told to. It has the helper take it, so all sides find the same.
    pub(crate) fn holder(&self, name: &str) -> Call {
        let (file, helper) = (self.lock_file(name), self.scene.helper.to_str().unwrap());
        let words = [file.to_str().unwrap(), "200", helper, "lock", "--fd", "200", name];
        self.call(&self.scene.directory.join("holder"), &words)
    }

    /// A script; `$HELPER` is the helper.
    pub(crate) fn bash(&self, script: &str, args: &[&str]) -> Call {
        self.call(&self.scene.bash, &["-c", script, "bash"]).args(args)
    }

    /// The path of the command that does nothing, and of the one that writes the time.
    pub(crate) fn nothing(&self) -> String {
        self.scene.directory.join("floor").to_string_lossy().into_owned()
    }

    pub(crate) fn clock(&self) -> String {
        self.scene.directory.join("launch").to_string_lossy().into_owned()
    }

    fn call(&self, program: &Path, args: &[&str]) -> Call {
        Call::new(program, &self.scene.directory.join("launch"))
            .args(args)
            .env("ABA_LOCK_DIR", &self.path)
            .env("RUN_ONCE_DIR", self.path.join("runner"))
            .env("HOME", &self.path)
            .env("HELPER", &self.scene.helper)
    }
}

/// Without a C library, or with it where that is not known how to do. And once with it in any case (`floor-libc`): that is
/// what a static program in C usually is.
fn build(program: &str, directory: &Path) {
    let compile = |output: &Path, flags: &[&str]| {
        let linked = directory.join("linked");
        let mut command = Command::new("cc");
        command.args(["-O2", "-static"]).args(flags).arg("-o").arg(&linked).arg(format!("{SOURCES}/{program}.c"));
        let said = command.output().unwrap_or_else(|error| panic!("could not run cc, the C compiler: {error}"));
        if said.status.success() {
            installed(&linked, output);
        }
        (said.status.success(), String::from_utf8_lossy(&said.stderr).into_owned())
    };
    let (bare, with_libc) = (directory.join(program), directory.join(format!("{program}-libc")));
    let (done, said) = compile(&with_libc, &["-DLIBC"]);
    assert!(done, "cc could not build {program}: {said}");
    if !compile(&bare, &["-nostdlib", "-ffreestanding", "-fno-stack-protector"]).0 {
        fs::copy(with_libc, bare).unwrap();
    }
}

/// Copies a program, as to install it does. What a linker has just written lies in memory in other pieces, and starts slower.
fn installed(program: &Path, to: &Path) -> PathBuf {
    fs::copy(program, to).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    to.to_owned()
}

/// Where a program is: it is not to be looked for while it is measured.
fn found(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).map(|directory| directory.join(program));
    all.find(|path| path.is_file()).unwrap_or_else(|| panic!("{program} is missing"))
}
