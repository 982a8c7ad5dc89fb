//! A place: the directory of one scene or walk, and ordinary calls of programs in it. Also checks of lock files.

use crate::environment;
use crate::kernel;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) helper: PathBuf,
    /// This program, which is also the command that runs under locks: see `payload`.
    pub(crate) program_path: PathBuf,
    /// The longest time that a call may take.
    pub(crate) patience: Duration,
    /// Files that this process keeps open, often locked, until the place is cleared.
    kept: RefCell<Vec<File>>,
    /// Processes that hold locks until the place is cleared.
    holders: RefCell<Vec<Child>>,
}

/// The result of an ordinary call.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit status, 128 + n after signal n; -1 if the call was killed because it took too long.
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Place {
    /// Creates the directory, or empties it.
    pub(crate) fn new(directory: PathBuf) -> Self {
        let place = Self::open(directory);
        place.clear();
        place
    }

    /// Returns the place in an existing directory.
    pub(crate) fn open(directory: PathBuf) -> Self {
        Self {
            directory,
            helper: environment::find_helper(),
            program_path: fs::read_link("/proc/self/exe").expect("/proc is there"),
            patience: Duration::from_secs(60),
            kept: RefCell::new(Vec::new()),
            holders: RefCell::new(Vec::new()),
        }
    }

    pub(crate) fn clear(&self) {
        self.release_kept();
        if environment::may_mount() {
            // Some scenes mount a disk there.
            kernel::unmount(&self.root());
        }
        let _ = fs::remove_dir_all(&self.directory);
        fs::create_dir_all(&self.directory).unwrap();
    }

    /// Keeps a file open, with its lock, until [`Place::release_kept`].
    pub(crate) fn keep(&self, file: File) {
        self.kept.borrow_mut().push(file);
    }

    /// Starts a process that holds a lock until [`Place::release_kept`].
    pub(crate) fn keep_holder(&self, options: &[&str]) {
        self.keep_holder_with(options, &["stay"]);
    }

    /// The same with another payload, which must print `held`.
    pub(crate) fn keep_holder_with(&self, options: &[&str], payload: &[&str]) {
        let end = self.run_holder(options, payload);
        self.holders.borrow_mut().last_mut().unwrap().stdin = Some(end);
    }

    /// Starts a call of the helper, and returns when it waits for a lock on the file, or has ended.
    pub(crate) fn start_waiter<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, words: I, file: &Path) {
        let mut child = self.program(&self.helper).args(words).spawn().unwrap();
        while !has_waiter(file) && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        self.holders.borrow_mut().push(child);
    }

    /// Waits until all holders and waiters have ended.
    pub(crate) fn wait_for_all(&self) {
        for mut holder in self.holders.borrow_mut().drain(..) {
            drop(holder.stdin.take());
            wait_for(&mut holder, self.patience);
        }
    }

    /// Starts a process that holds a lock until the returned pipe is closed, or until [`Place::release_kept`].
    pub(crate) fn start_holder(&self, options: &[&str]) -> ChildStdin {
        self.run_holder(options, &["stay"])
    }

    fn run_holder(&self, options: &[&str], payload: &[&str]) -> ChildStdin {
        let mut command = self.program(&self.helper);
        command.arg("lock").args(options).arg("--").args(self.payload(payload));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n", "the holder of {options:?}");
        let end = child.stdin.take().unwrap();
        self.holders.borrow_mut().push(child);
        end
    }

    /// Unlocks and closes the kept files, and ends the holders.
    pub(crate) fn release_kept(&self) {
        // Waiters are ended before the holders for which they wait.
        for mut holder in self.holders.borrow_mut().drain(..).rev() {
            let _ = holder.kill();
            let _ = holder.wait();
        }
        for file in self.kept.borrow_mut().drain(..) {
            // A child that was just forked may have a copy, so that closing alone would not unlock it.
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

    /// The names of the files in a directory, sorted.
    pub(crate) fn list_names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The words of a command that runs this program as a payload.
    pub(crate) fn payload(&self, words: &[&str]) -> Vec<OsString> {
        let mut command = vec![OsString::from(&self.program_path), OsString::from("payload")];
        command.extend(words.iter().map(OsString::from));
        command
    }

    /// The words of a call for lock `a`, whose command adds a line to the log.
    pub(crate) fn logged_lock(&self, options: &[&str], what: &str) -> Vec<OsString> {
        let (file, log) = (self.lock_file("a"), self.path("log"));
        let mut words: Vec<OsString> = ["lock"].iter().chain(options).chain(&["a", "--"]).map(OsString::from).collect();
        words.extend(self.payload(&["run", what, &file.to_string_lossy(), &log.to_string_lossy()]));
        words
    }

    /// The environment of all calls.
    pub(crate) fn variables(&self) -> Vec<(String, OsString)> {
        vec![
            ("PATH".to_owned(), "/usr/bin:/bin".into()),
            ("HOME".to_owned(), self.directory.clone().into()),
            ("ABA_LOCK_DIR".to_owned(), self.root().into()),
            ("ABA_LOCK_BIN".to_owned(), self.helper.clone().into()),
            ("TORTURE".to_owned(), self.program_path.clone().into()),
            (environment::MARK.to_owned(), std::env::var_os(environment::MARK).unwrap_or_default()),
        ]
    }

    /// Returns a call of a program in this directory, not started yet.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.variables()).current_dir(&self.directory).stdin(Stdio::null());
        tie_to_parent(&mut command);
        command
    }

    /// Calls the helper.
    pub(crate) fn run_helper<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, words: I) -> Output {
        let mut command = self.program(&self.helper);
        command.args(words);
        self.run_command(command)
    }

    /// Runs a command, and waits until it ends.
    pub(crate) fn run_command(&self, mut command: Command) -> Output {
        let (out, err) = (kernel::create_memory_file().unwrap(), kernel::create_memory_file().unwrap());
        command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        let status = wait_for(&mut child, self.patience);
        Output { status, out: read_text(&out), err: read_text(&err) }
    }
}

/// Appends a line to the file.
pub(crate) fn append(log: &Path, line: &str) {
    let mut file = File::options().append(true).create(true).open(log).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Reads a whole file, whatever its offset is.
pub(crate) fn read_text(file: &File) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    let _ = file.read_exact_at(&mut bytes, 0);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Makes the command end when this process ends.
#[expect(unsafe_code, reason = "a step between fork and exec")]
pub(crate) fn tie_to_parent(command: &mut Command) {
    // SAFETY: one system call that takes numbers.
    unsafe {
        command.pre_exec(|| {
            kernel::end_with_parent();
            Ok(())
        })
    };
}

/// Lets the command create processes, but no threads.
#[expect(unsafe_code, reason = "a step between fork and exec")]
pub(crate) fn forbid_threads(command: &mut Command) {
    // SAFETY: system calls that take numbers and a filter on the stack.
    unsafe { command.pre_exec(kernel::forbid_threads) };
}

/// Sleeps for some microseconds.
pub(crate) fn pause(micros: &str) {
    thread::sleep(Duration::from_micros(micros.parse().unwrap_or(0)));
}

/// Returns the inode of the file with this name that the payload inherited with the lock, or 0 if there is none.
pub(crate) fn find_inherited_inode(file: &Path) -> u64 {
    let has_name = |link: &Path| {
        let link = link.to_string_lossy().into_owned();
        // The kernel adds this to the name of a removed file. A renamed file is in another directory, with the same name.
        Path::new(link.trim_end_matches(" (deleted)")).file_name() == file.file_name()
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let mut held = descriptors.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|link| has_name(&link)));
    held.next().and_then(|entry| std::fs::metadata(entry.path()).ok()).map_or(0, |data| data.ino())
}

/// Waits until a child has ended, and returns its exit status: 128 + n after signal n, -1 if it took too long and was killed.
pub(crate) fn wait_for(child: &mut Child, patience: Duration) -> i32 {
    let ended = kernel::ends_within_time(child.id(), patience);
    if !ended {
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    if ended { status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)) } else { -1 }
}

/// Returns whether a process waits for a lock on the file.
pub(crate) fn has_waiter(file: &Path) -> bool {
    let Ok(data) = fs::metadata(file) else { return false };
    let inode = format!(":{} ", data.ino());
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    table.lines().any(|line| line.contains("-> ") && line.contains(&inode))
}

/// Returns whether no process holds a lock of flock(2) or fcntl(2) on the file, or there is no file.
pub(crate) fn is_free(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    let free = kernel::try_flock(&file);
    if free {
        kernel::unflock(&file);
    }
    free && !kernel::is_range_locked(&file)
}

/// Waits up to 30 seconds until the file is free. The kernel reports the end of a killed process before it closes its files.
pub(crate) fn becomes_free(path: &Path) -> bool {
    let begin = Instant::now();
    while !is_free(path) {
        if begin.elapsed() > Duration::from_secs(30) {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Creates the file if it is missing, and locks it.
pub(crate) fn create_and_lock(path: &Path) -> File {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = File::options().read(true).append(true).create(true).open(path).unwrap();
    assert!(kernel::try_flock(&file), "{} is held by another", path.display());
    file
}
