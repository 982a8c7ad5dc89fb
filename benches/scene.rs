//! The directory of a run: state roots, a copy of the helper, and the small programs in C that it compiles.

use crate::args::Args;
use crate::call::Call;
use crate::cleanup;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/c");

const LIBRARIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shell");

/// The number of files whose creation is timed, and the time of each above which the figures of tasks would be off.
const CREATED: u32 = 50;
const SLOW_CREATION: Duration = Duration::from_micros(100);

/// Returns the path of the helper. The caller must set it, because a debug build is several times slower.
pub(crate) fn find_helper() -> String {
    std::env::var("ABA_LOCK_BIN").unwrap_or_else(|_| panic!("ABA_LOCK_BIN is not set: start this with `make bench`"))
}

/// A prefix with a helper and the shell library, as an installation has them, so that the library finds this helper.
pub(crate) struct Installation {
    pub(crate) helper: PathBuf,
    pub(crate) library: PathBuf,
    /// `aba-lock for TARGET`, after the target in the version of the helper.
    pub(crate) name: &'static str,
}

impl Installation {
    fn new(prefix: &Path, helper: &Path, builtin: Option<&Path>) -> Self {
        let (programs, libraries, builtins) =
            (prefix.join("bin"), prefix.join("share/aba-lock"), prefix.join("lib/aba-lock"));
        for directory in [&programs, &libraries, &builtins] {
            fs::create_dir_all(directory).unwrap();
        }
        let library =
            |name: &str, installed: &str| install(&Path::new(LIBRARIES).join(name), &libraries.join(installed));
        let version = Command::new(helper).arg("--version").output();
        let version = version.unwrap_or_else(|error| panic!("could not run {}: {error}", helper.display()));
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let target = version.trim_end().trim_end_matches(')').rsplit(' ').next().unwrap_or_default();
        if let Some(builtin) = builtin {
            library("aba-lock-builtin.bash", "aba-lock-builtin.bash");
            install(builtin, &builtins.join("builtin.so"));
        }
        library("aba-lock.bash", "aba-lock-whole.bash");
        Self {
            helper: install(helper, &programs.join("aba-lock")),
            library: library("aba-lock-fast.bash", "aba-lock.bash"),
            name: format!("aba-lock for {target}").leak(),
        }
    }
}

pub(crate) struct Scene {
    pub(crate) directory: PathBuf,
    pub(crate) installed: Installation,
    /// The helper of `--compare`.
    pub(crate) compared: Option<Installation>,
    /// Whether `installed` has the builtin.
    pub(crate) has_builtin: bool,
    /// The program `c/locker.c`, built with musl. `None` without a compiler for musl.
    locker: Option<PathBuf>,
    flock: PathBuf,
    bash: PathBuf,
    /// The number of rounds for calls that take about a millisecond.
    pub(crate) rounds: u32,
    /// The largest number of processes that may ask for one lock at the same time.
    up_to: u32,
}

impl Scene {
    pub(crate) fn new(args: &Args) -> Self {
        let directory = std::env::temp_dir().join(format!("aba-lock-bench-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        cleanup::take_charge(&directory);
        for program in ["floor", "holder", "launch"] {
            build(program, &directory);
        }
        let locker = build_with_musl("locker", &directory);
        let installed = Installation::new(&directory.join("ours"), Path::new(&find_helper()), args.builtin.as_deref());
        let compared = args.compare.as_deref().map(|helper| Installation::new(&directory.join("also"), helper, None));
        Self {
            directory,
            installed,
            compared,
            has_builtin: args.builtin.is_some(),
            locker,
            flock: find_program("flock"),
            bash: find_program("bash"),
            rounds: args.rounds,
            up_to: args.up_to,
        }
    }

    /// The number of rounds for calls that take ten milliseconds or more.
    pub(crate) fn rounds_of_slow(&self) -> u32 {
        (self.rounds / 10).max(1)
    }

    /// The number of rounds for calls that take about a second.
    pub(crate) fn rounds_of_slowest(&self) -> u32 {
        (self.rounds / 100).max(1)
    }

    /// Returns a warning if it takes long to create a file. On ext4 without a journal, an inode is not reused for one to six minutes,
    /// and each creation searches past all inodes that were freed in that time: after 40,000 files were removed, for half a
    /// millisecond. A previous run removes that many.
    pub(crate) fn warn_if_creation_is_slow(&self) -> Option<String> {
        let directory = self.directory.join("creation");
        fs::create_dir(&directory).unwrap();
        let begin = Instant::now();
        for number in 0..CREATED {
            File::create_new(directory.join(number.to_string())).unwrap();
        }
        let each = begin.elapsed() / CREATED;
        fs::remove_dir_all(&directory).unwrap();
        (each > SLOW_CREATION).then(|| {
            let (parent, each) = (std::env::temp_dir(), each.as_micros());
            let parent = parent.display();
            format!(
                "to create a file in {parent} takes {each} µs, perhaps because many were removed: wait for six minutes, or set TMPDIR"
            )
        })
    }

    /// Returns the sizes that are allowed.
    pub(crate) fn allowed(&self, sizes: &[u32]) -> Vec<u32> {
        sizes.iter().copied().filter(|size| *size <= self.up_to).collect()
    }

    /// Creates a state root.
    pub(crate) fn root(&self, name: &str) -> Root<'_> {
        let path = self.directory.join(name);
        fs::create_dir_all(&path).unwrap();
        Root { scene: self, path }
    }
}

/// A state root that all sides use.
#[derive(Clone)]
pub(crate) struct Root<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) path: PathBuf,
}

impl Root<'_> {
    /// Returns the path of the lock file of `name`, and creates it if it is missing.
    pub(crate) fn lock_file(&self, name: &str) -> PathBuf {
        let path = self.path.join(format!("aba-{name}.lock"));
        let _ = File::options().create(true).append(true).open(&path).unwrap();
        path
    }

    pub(crate) fn helper(&self, args: &[&str]) -> Call {
        self.call(&self.scene.installed.helper, args)
    }

    /// The same call of the helper of `--compare`, if there is one, with the name of its side.
    pub(crate) fn compared_helper(&self, args: &[&str]) -> Option<(&'static str, Call)> {
        self.scene.compared.as_ref().map(|compared| (compared.name, self.call(&compared.helper, args)))
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

    /// A call of a static program in C with musl, which acquires a lock on a descriptor and notes the holder.
    pub(crate) fn locker(&self, args: &[&str]) -> Option<Call> {
        self.scene.locker.as_ref().map(|locker| self.call(locker, args))
    }

    /// A process that holds a lock on demand. It acquires the lock with the helper, so that all sides find the same file.
    pub(crate) fn holder(&self, name: &str) -> Call {
        let (file, helper) = (self.lock_file(name), self.scene.installed.helper.to_str().unwrap());
        let words = [file.to_str().unwrap(), "200", helper, "lock", "--fd", "200", name];
        self.call(&self.scene.directory.join("holder"), &words)
    }

    /// A bash script, in which `$HELPER` is the path of the helper.
    pub(crate) fn bash(&self, script: &str, args: &[&str]) -> Call {
        self.call(&self.scene.bash, &["-c", script, "bash"]).args(args)
    }

    /// A bash script in a file, as cron and service managers run it. With `bash -c`, bash may become the last command.
    pub(crate) fn script(&self, name: &str, script: &str) -> Call {
        let path = self.path.join(name);
        fs::write(&path, format!("#!/bin/bash\n{script}\n")).unwrap();
        self.call(&self.scene.bash, &[path.to_str().unwrap()])
    }

    /// The path of a command that does nothing.
    pub(crate) fn no_op(&self) -> String {
        self.scene.directory.join("floor").to_string_lossy().into_owned()
    }

    /// The path of a command that writes the time.
    pub(crate) fn clock(&self) -> String {
        self.scene.directory.join("launch").to_string_lossy().into_owned()
    }

    fn call(&self, program: &Path, args: &[&str]) -> Call {
        Call::new(program, &self.scene.directory.join("launch"))
            .args(args)
            .env("ABA_LOCK_DIR", &self.path)
            .env("RUN_ONCE_DIR", self.path.join("runner"))
            .env("HOME", &self.path)
            .env("HELPER", &self.scene.installed.helper)
    }
}

/// Compiles a program twice: with the C library (`PROGRAM-libc`), as a usual static program in C, and without it. On processors for
/// which the sources have no assembly, the second is a copy of the first.
fn build(program: &str, directory: &Path) {
    let compile = |output: &Path, flags: &[&str]| {
        let linked = directory.join("linked");
        let mut command = Command::new("cc");
        command.args(["-O2", "-static"]).args(flags).arg("-o").arg(&linked).arg(format!("{SOURCES}/{program}.c"));
        let said = command.output().unwrap_or_else(|error| panic!("could not run cc, the C compiler: {error}"));
        if said.status.success() {
            install(&linked, output);
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

/// Compiles a program with musl, as the helper is. Without `musl-gcc`, prints the package that has it, and returns `None`.
fn build_with_musl(program: &str, directory: &Path) -> Option<PathBuf> {
    let (linked, output) = (directory.join("linked"), directory.join(format!("{program}-musl")));
    let mut command = Command::new("musl-gcc");
    command.args(["-O2", "-static"]).arg("-o").arg(&linked).arg(format!("{SOURCES}/{program}.c"));
    match command.output() {
        Ok(said) if said.status.success() => Some(install(&linked, &output)),
        Ok(said) => panic!("musl-gcc could not build {program}: {}", String::from_utf8_lossy(&said.stderr)),
        Err(error) => {
            eprintln!("aba-lock-bench: no comparison with a C program on musl: cannot run musl-gcc: {error}");
            eprintln!("hint: install the package musl-tools");
            None
        }
    }
}

/// Copies a program, as an installation does. The pages of a file that a linker has just written lie in the page cache in smaller
/// pieces, so that the program starts more slowly.
fn install(program: &Path, to: &Path) -> PathBuf {
    fs::copy(program, to).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    to.to_owned()
}

/// Searches PATH for a program, so that no measurement contains the search.
fn find_program(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).map(|directory| directory.join(program));
    all.find(|path| path.is_file()).unwrap_or_else(|| panic!("{program} is missing"))
}
