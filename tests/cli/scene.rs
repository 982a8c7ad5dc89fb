//! A scene: a directory with a state root of its own for each test, and the calls that a test makes in it.

use crate::call::{Call, Holder};
use crate::process::{
    PATIENCE, copy_program, count_threads, count_waiters, is_locked, is_root, make_fifo, parent_pid, set_mode,
    wait_until, waiter_pids, write_file,
};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The helper under test.
pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_aba-lock");

/// The text of a system error in the messages of the helper, which can be built for another C library than the tests.
pub(crate) fn error_text(number: i32) -> String {
    let version = Command::new(HELPER).arg("--version").output().unwrap().stdout;
    let is_musl = String::from_utf8(version).unwrap().contains("musl");
    match number {
        libc::EIO if is_musl => "I/O error".to_owned(),
        libc::EMFILE if is_musl => "No file descriptors available".to_owned(),
        libc::ELOOP if is_musl => "Symbolic link loop".to_owned(),
        _ => io::Error::from_raw_os_error(number).to_string().replace(&format!(" (os error {number})"), ""),
    }
}

/// The shell library.
pub(crate) const LIBRARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shell/aba-lock.bash");

/// The user and group `nobody`.
pub(crate) const NOBODY: u32 = 65534;

/// A command for `sh -c` that prints a line and ends when its input does.
pub(crate) const HOLD: &str = "echo held; read _; exit 0";

/// Runs a command on a terminal, compares the output so far with the rules in `argv`, and prints all of it at the end.
/// A rule is `TEXT=FILE` (when TEXT was printed, make FILE) or `TEXT>KEYS` (when TEXT was printed, press KEYS).
pub(crate) const TERMINAL: &str = r#"
import os, pty, select, sys, time
rules, command = sys.argv[1].split("|"), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
seen, end = b"", time.time() + 120
while time.time() < end:
    if rules and ">" in rules[0] and rules[0].split(">")[0].encode() in seen:
        os.write(terminal, rules.pop(0).split(">")[1].encode())
    elif rules and rules[0].split("=")[0].encode() in seen:
        open(rules.pop(0).split("=")[1], "w").close()
    if select.select([terminal], [], [], 0.05)[0]:
        try:
            more = os.read(terminal, 4096)
        except OSError:
            break
        if not more:
            break
        seen += more
sys.stdout.write(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

/// A directory with a state root in it.
pub(crate) struct Scene {
    directory: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The state root.
    pub(crate) fn root(&self) -> PathBuf {
        self.path("locks")
    }

    /// Makes the state root, so that a test can put files into it.
    pub(crate) fn make_root(&self) {
        fs::create_dir_all(self.root()).unwrap();
    }

    pub(crate) fn lock_file(&self, name: &str) -> PathBuf {
        self.root().join(format!("aba-{name}.lock"))
    }

    /// The content of a lock file. A child process reads it, because `clean` leaves a file that another process has open, and a
    /// child that another test starts would have it open.
    pub(crate) fn record(&self, name: &str) -> String {
        let output = Command::new("cat").arg(self.lock_file(name)).stderr(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// The value of `key` in a record.
    pub(crate) fn field(&self, name: &str, key: &str) -> String {
        let record = self.record(name);
        let line = record.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("no {key} in {record:?}")).to_owned()
    }

    /// Replaces the value of `key` in a record.
    pub(crate) fn set_field(&self, name: &str, key: &str, value: &str) {
        let old = format!("\n{key}={}\n", self.field(name, key));
        write_file(&self.lock_file(name), &self.record(name).replace(&old, &format!("\n{key}={value}\n")));
    }

    /// A file of a task.
    pub(crate) fn task_file(&self, id: &str, name: &str) -> PathBuf {
        self.root().join("runner").join(id).join(name)
    }

    /// The content of a file of a task, or an empty text if there is no such file.
    pub(crate) fn task_text(&self, id: &str, name: &str) -> String {
        fs::read_to_string(self.task_file(id, name)).unwrap_or_default()
    }

    /// The process of a task that runs, or that has just been started.
    pub(crate) fn task_pid(&self, id: &str) -> u32 {
        let read = || self.task_text(id, "pid").trim().parse().ok();
        wait_until("the task runs", || read().is_some());
        read().expect("the task runs")
    }

    /// The process that waits for the command of a running task.
    pub(crate) fn supervisor(&self, id: &str) -> u32 {
        parent_pid(self.task_pid(id))
    }

    /// Makes a closed gate.
    pub(crate) fn gate(&self, name: &str) -> Gate {
        Gate::new(self.path(name))
    }

    /// A command in this scene, without the variables of the user who runs the tests.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("ABA_LOCK_DIR", self.root()).env("HOME", self.directory.path()).env("HELPER", HELPER);
        for variable in
            ["ABA_LOCK_FDS", "ABA_LOCK_TIMEOUT", "ABA_LOCK_TOKEN", "ABA_LOCK_COMPLETE", "ABA_LOCK_TASK", "ABA_LOCK_LOG"]
        {
            command.env_remove(variable);
        }
        command.env_remove("RUN_ONCE_DIR").env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null());
        command
    }

    /// A call of a program.
    pub(crate) fn call(&self, program: impl AsRef<OsStr>) -> Call {
        Call::new(self.program(program))
    }

    /// A call of the helper.
    pub(crate) fn aba<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Call {
        self.call(HELPER).args(args)
    }

    /// A call of `run-once`.
    pub(crate) fn once<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, args: I) -> Call {
        self.aba(["run-once"]).args(args)
    }

    /// A bash script, in which `$HELPER` is the helper.
    pub(crate) fn bash(&self, script: &str) -> Call {
        self.call("bash").args(["-c", script])
    }

    /// A bash script whose current directory is the directory of the scene.
    pub(crate) fn bash_here(&self, script: &str) -> Call {
        self.bash(script).current_dir(self.path(""))
    }

    /// A bash script that has sourced the shell library.
    pub(crate) fn bash_with_library(&self, script: &str) -> Call {
        self.bash(&format!("source '{LIBRARY}'\n{script}")).env("ABA_LOCK_BIN", HELPER)
    }

    /// A call of strace with these options. The program and its arguments are to be added.
    ///
    /// The C libraries make different system calls for the same function, so tests name them by patterns: glibc calls openat(2)
    /// and statx(2) where musl calls open(2), stat(2), lstat(2) or fstat(2). The `when` of strace counts each of them alone.
    pub(crate) fn strace<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, options: I) -> Call {
        self.call("strace").args(["-qq", "-o", "/dev/null"]).args(options)
    }

    /// Runs the helper under strace in a directory of the scene, and writes the trace to the file `trace` there. Returns the
    /// exit status and stderr.
    pub(crate) fn trace_helper(&self, options: &[&str], args: &[&str], directory: &str) -> (Option<i32>, String) {
        let mut command = self.program("timeout");
        command.arg(PATIENCE.as_secs().to_string()).args(["strace", "-qq", "-o", "trace"]).args(options);
        let output = command.arg(HELPER).args(args).current_dir(self.path(directory)).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// A call of a program on a terminal, with rules as [`TERMINAL`] describes them.
    pub(crate) fn on_terminal(&self, rules: &str) -> Call {
        self.call("python3").args(["-c", TERMINAL, rules])
    }

    /// A call of unshare(1) that makes a PID namespace. More options, the program and its arguments are to be added.
    pub(crate) fn in_pid_namespace(&self) -> Call {
        self.call("unshare").args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child"])
    }

    /// A call of unshare(1) that makes a mount namespace. The program and its arguments are to be added.
    pub(crate) fn in_mount_namespace(&self) -> Call {
        self.call("unshare").args(["--user", "--map-root-user", "--mount", "--"])
    }

    /// A call of a copy of the helper by an unprivileged user: `nobody` if the tests run as root, otherwise the user of the
    /// tests.
    pub(crate) fn unprivileged(&self) -> Call {
        let copy = self.path("helper");
        copy_program(HELPER, &copy);
        set_mode(self.path(""), 0o755);
        if !is_root() {
            return self.call(copy);
        }
        let user = NOBODY.to_string();
        self.call("setpriv").args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]).arg(copy)
    }

    /// A process that holds lock `name` until it is released or dropped.
    pub(crate) fn holder(&self, name: &str) -> Holder {
        self.holder_with(&[name])
    }

    /// A process that holds the lock that these arguments name.
    pub(crate) fn holder_with(&self, args: &[&str]) -> Holder {
        self.aba(["lock"]).args(args).args(["--", "sh", "-c", HOLD]).hold()
    }

    /// The words that the commands of a test have appended to the file `order`.
    pub(crate) fn order(&self) -> String {
        fs::read_to_string(self.path("order")).unwrap_or_default().replace('\n', " ")
    }

    /// A flock(1) that holds a file and writes no record.
    pub(crate) fn flock_holder(&self, file: impl AsRef<OsStr>) -> Holder {
        self.call("flock").arg(file).args(["sh", "-c", "echo held; read _"]).hold()
    }

    /// Waits until a process is blocked in the kernel for a lock file.
    pub(crate) fn wait_for_waiter(&self, name: &str) {
        self.wait_for_waiters(name, 1);
    }

    /// Waits until this number of processes is blocked in the kernel for a lock file.
    pub(crate) fn wait_for_waiters(&self, name: &str, number: usize) {
        let file = self.lock_file(name);
        wait_until("the waiters are blocked", || count_waiters(&file) == number);
    }

    /// Waits until this number of processes is blocked for a lock file and none of them loses its place in the queue any
    /// more. The helper does so once, before it has a second thread.
    pub(crate) fn wait_for_settled_waiters(&self, name: &str, number: usize) {
        let file = self.lock_file(name);
        let is_settled = |pid: &u32| {
            let is_helper = fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program == Path::new(HELPER));
            count_threads(*pid) == if is_helper { 2 } else { 1 }
        };
        wait_until("the waiters are settled", || {
            let waiters = waiter_pids(&file);
            waiters.len() == number && waiters.iter().all(is_settled)
        });
        self.wait_for_waiters(name, number);
    }

    /// Waits until a task prints its first line, the pid of a child, and returns that.
    pub(crate) fn wait_for_task_child(&self, id: &str) -> u32 {
        wait_until("the task prints the pid of its child", || self.task_text(id, "log.out").ends_with('\n'));
        self.task_text(id, "log.out").trim().parse().unwrap()
    }

    /// Waits until no process holds the lock of a task.
    pub(crate) fn wait_for_task_release(&self, id: &str) {
        wait_until("the lock of the task is free", || !is_locked(&self.task_file(id, "lock")));
    }

    /// Waits until this number of processes is blocked for the lock of a task.
    pub(crate) fn wait_for_task_waiters(&self, id: &str, number: usize) {
        wait_until("the waiters are blocked", || count_waiters(&self.task_file(id, "lock")) == number);
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if self.root().join("runner").exists() {
            let _ = self.program(HELPER).args(["run-once", "-G"]).stderr(Stdio::null()).status();
        }
    }
}

/// A barrier for scripts: a FIFO from which a script reads a line before it goes on. It is displayed as its path in quotes.
pub(crate) struct Gate {
    pub(crate) path: PathBuf,
    file: fs::File,
}

impl Gate {
    fn new(path: PathBuf) -> Self {
        make_fifo(&path);
        // Open for reading and writing, this does not block without a reader, and a reader never sees the end of the file.
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        Self { path, file }
    }

    /// Lets one script go on.
    pub(crate) fn open(&self) {
        (&self.file).write_all(b"\n").unwrap();
    }

    /// A command that prints `begun`, waits at the gate, and exits with `status`.
    pub(crate) fn task(&self, status: i32) -> [String; 3] {
        let script = format!("echo begun; read _ <{self}; exit {status}");
        ["bash".to_owned(), "-c".to_owned(), script]
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.path.display())
    }
}

/// Appends `--` and a command to options.
pub(crate) fn with_command<'a>(options: &[&'a str], command: &'a [String]) -> Vec<&'a str> {
    let mut words = options.to_vec();
    words.push("--");
    words.extend(command.iter().map(String::as_str));
    words
}
