//! A directory of its own for each scene or walk, and ordinary calls in it.

use crate::kernel;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Where calls of the helper are made.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    /// The helper under test.
    pub(crate) helper: PathBuf,
    /// This program, which is also the command under locks: see `act.rs`.
    pub(crate) rack: PathBuf,
    /// The most that a call may take.
    pub(crate) patience: Duration,
    /// Lock files that we hold, or have open, until the place is cleared.
    kept: RefCell<Vec<File>>,
}

/// How an ordinary call ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit status, 128 + n for signal n.
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    /// An empty one.
    pub(crate) fn new(directory: PathBuf) -> Self {
        let place = Self::at(directory);
        place.clear();
        place
    }

    /// One that is there.
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self {
            directory,
            helper: crate::helper(),
            rack: fs::read_link("/proc/self/exe").expect("/proc is there"),
            patience: Duration::from_secs(20),
            kept: RefCell::new(Vec::new()),
        }
    }

    /// Empties it.
    pub(crate) fn clear(&self) {
        self.let_go();
        let _ = fs::remove_dir_all(&self.directory);
        fs::create_dir_all(&self.directory).unwrap();
    }

    /// Keeps a lock file open, and what lock there is on it, until [`Place::let_go`].
    pub(crate) fn keep(&self, file: File) {
        self.kept.borrow_mut().push(file);
    }

    /// Unlocks and closes what was kept.
    pub(crate) fn let_go(&self) {
        for file in self.kept.borrow_mut().drain(..) {
            // Not by closing alone: a child that was just forked may have a copy.
            kernel::unflock(&file);
            kernel::unlock_range(&file);
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The state root.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("locks")
    }

    pub(crate) fn lock_file(&self, name: &str) -> PathBuf {
        self.root().join(format!("aba-{name}.lock"))
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// The names of what is in a directory, in order.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Puts something there.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The words of a command: this program, doing that.
    pub(crate) fn act(&self, words: &[&str]) -> Vec<OsString> {
        let mut command = vec![OsString::from(&self.rack), OsString::from("act")];
        command.extend(words.iter().map(OsString::from));
        command
    }

    /// The environment of all calls.
    pub(crate) fn variables(&self) -> Vec<(String, OsString)> {
        vec![
            ("PATH".to_owned(), "/usr/bin:/bin".into()),
            ("HOME".to_owned(), self.directory.clone().into()),
            ("ABA_LOCK_DIR".to_owned(), self.root().into()),
            ("ABA_LOCK_BIN".to_owned(), self.helper.clone().into()),
            ("RACK".to_owned(), self.rack.clone().into()),
            (crate::MARK.to_owned(), std::env::var_os(crate::MARK).unwrap_or_default()),
        ]
    }

    /// A call of any program here, not started yet.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.variables()).current_dir(&self.directory).stdin(Stdio::null());
        ends_with_us(&mut command);
        command
    }

    /// An ordinary call of the helper.
    pub(crate) fn aba<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, words: I) -> Said {
        let mut command = self.program(&self.helper);
        command.args(words);
        self.finish(command)
    }

    /// Runs it to its end.
    pub(crate) fn finish(&self, mut command: Command) -> Said {
        let scratch = || kernel::memory_file(c"said").unwrap();
        let (out, err) = (scratch(), scratch());
        command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let status = wait_for(&mut child, self.patience);
        Said { status, out: text(&out), err: text(&err) }
    }
}

/// All that is in a file, wherever it stands.
pub(crate) fn text(file: &File) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    let _ = file.read_exact_at(&mut bytes, 0);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What it starts does not outlive us.
#[expect(unsafe_code, reason = "a step between fork and exec")]
pub(crate) fn ends_with_us(command: &mut Command) {
    // SAFETY: one system call that takes numbers.
    unsafe {
        command.pre_exec(|| {
            kernel::end_with_parent();
            Ok(())
        })
    };
}

/// It can create processes, but no threads.
#[expect(unsafe_code, reason = "a step between fork and exec")]
pub(crate) fn runs_without_threads(command: &mut Command) {
    // SAFETY: system calls that take numbers and a filter on the stack.
    unsafe { command.pre_exec(kernel::forbid_threads) };
}

/// Waits until it has ended: its status, 128 + n for signal n; -1 if it had to be killed because it took too long.
pub(crate) fn wait_for(child: &mut Child, patience: Duration) -> i32 {
    let ended = kernel::ends_within_time(child.id(), patience);
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    if ended { status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) } else { -1 }
}

/// Whether nobody has a lock on this file, of flock(2) or of fcntl(2), or there is no file.
pub(crate) fn is_free(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    let free = kernel::try_flock(&file);
    if free {
        kernel::unflock(&file);
    }
    free && !kernel::is_range_locked(&file)
}

/// The same, in a moment: who was killed is said to have ended before its files are closed.
pub(crate) fn is_free_soon(path: &Path) -> bool {
    let begin = Instant::now();
    while !is_free(path) {
        if begin.elapsed() > Duration::from_secs(5) {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Takes the lock on this file, which is made.
pub(crate) fn hold(path: &Path) -> File {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::options().read(true).append(true).create(true).open(path).unwrap();
    assert!(kernel::try_flock(&file), "{} is held by another", path.display());
    file
}
