//! Machines: each has its own directories and settings, and runs the helper, the shell library and the keeper.

use crate::etcd::find_project;
use crate::process::{
    Outcome, RunningScript, TEST_LIMIT, find_processes_with, is_alive, parent_pid, run_to_end, send_signal, wait_until,
};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The keeper under test.
pub(crate) const KEEPER: &str = env!("CARGO_BIN_EXE_aba-lock-keeper");

/// The time to live of most leases: on a slow machine, none of them ends while a test prepares its next step.
const TTL: &str = "30s";

/// The shortest possible time to live, for tests that wait for the end of a lease, or for the keeper to notice a loss.
const SHORT_TTL: &str = "10s";

/// Returns the helper that calls the keeper: `ABA_LOCK_BIN`, or the one next to the keeper.
pub(crate) fn find_helper() -> PathBuf {
    let helper = std::env::var_os("ABA_LOCK_BIN").map(PathBuf::from);
    let helper = helper.unwrap_or_else(|| Path::new(KEEPER).with_file_name("aba-lock"));
    assert!(helper.exists(), "{} is not there: `cargo build -p aba-lock`, or set ABA_LOCK_BIN", helper.display());
    helper
}

/// Returns the shell library.
fn find_library() -> PathBuf {
    find_project().join("shell/aba-lock.bash")
}

/// A machine, with a directory of its own for locks and files.
pub(crate) struct Machine {
    directory: TempDir,
    server: String,
    variables: Vec<(String, String)>,
}

impl Machine {
    pub(crate) fn new(server: &str) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), server: server.to_owned(), variables: Vec::new() }
    }

    /// Creates a machine whose leases end as soon as possible if they are not renewed.
    pub(crate) fn with_short_leases(server: &str) -> Self {
        Self::new(server).with("ABA_LOCK_TTL", SHORT_TTL)
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn lock_file(&self, name: &str) -> PathBuf {
        self.path(&format!("locks/aba-{name}.lock"))
    }

    /// A command for any program on this machine.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // A shell makes background processes ignore Ctrl-C, also if the whole test suite is one.
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP,INT,QUIT,TERM").arg(program.as_ref());
        for name in ["ABA_LOCK_FDS", "ABA_LOCK_TIMEOUT", "ABA_LOCK_TOKEN", "ABA_LOCK_LOG", "ABA_LOCK_ON_CONFLICT"] {
            command.env_remove(name);
        }
        command.env("ABA_LOCK_DIR", self.path("locks")).env("HOME", self.directory.path()).env("HELPER", find_helper());
        command.env("ABA_LOCK_BIN", find_helper()).env("ABA_LOCK_KEEPER", KEEPER).env("LIBRARY", find_library());
        command.env("ABA_LOCK_SERVER", &self.server).env("ABA_LOCK_TTL", TTL);
        command.envs(self.variables.iter().cloned()).current_dir(self.directory.path()).stdin(Stdio::null());
        command
    }

    /// Creates a FIFO at which scripts wait.
    pub(crate) fn make_gate(&self) -> PathBuf {
        let path = self.path("gate");
        if !path.exists() {
            assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        }
        path
    }

    /// Lets the process through that waits at the gate, or that will do so soon.
    pub(crate) fn open_gate(&self) {
        let path = self.make_gate();
        // The kernel drops the content when the last process closes the FIFO. This open fails until a process has begun to
        // open the FIFO for reading. That process finds the content, also if it finishes its open after this close.
        let mut options = fs::OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        let mut gate = None;
        wait_until("a process waits at the gate", || {
            gate = options.open(&path).ok();
            gate.is_some()
        });
        gate.unwrap().write_all(b"\n").unwrap();
    }

    /// Runs the helper until it ends.
    pub(crate) fn aba(&self, args: &[&str]) -> Outcome {
        run_to_end(self.program(find_helper()).args(args))
    }

    /// Runs `aba-lock lease`.
    pub(crate) fn lease(&self, args: &[&str]) -> Outcome {
        self.aba(&[&["lease"], args].concat())
    }

    /// Starts the helper in the background.
    pub(crate) fn start_helper(&self, args: &[&str]) -> RunningScript {
        let mut command = self.program(find_helper());
        command.args(args);
        RunningScript::start(command)
    }

    /// Runs a script until it ends.
    pub(crate) fn bash(&self, script: &str) -> Outcome {
        run_to_end(self.program("bash").arg("-c").arg(script))
    }

    /// Starts a script with the shell library, in a session of its own. It exchanges lines with the test.
    pub(crate) fn start_script(&self, script: &str) -> RunningScript {
        let mut command = self.program("setsid");
        command.args(["bash", "-c", &format!("source \"$LIBRARY\"\n{script}")]);
        RunningScript::start(command)
    }

    /// Starts the keeper in an environment in which no thread can be created.
    pub(crate) fn start_keeper_without_threads(&self, args: &[&str]) -> RunningScript {
        let mut command = self.program("strace");
        // `-D` makes strace a grandchild, and the keeper the child.
        command.args(["-D", "-qqq", "-o", "/dev/null", "-e", "inject=clone,clone3:error=EAGAIN", KEEPER]).args(args);
        RunningScript::start(command)
    }

    /// Starts a script that holds a lock until the test sends a line.
    pub(crate) fn start_holder(&self, name: &str) -> RunningScript {
        let script = self
            .start_script(&format!("aba_lock_operation {name}; echo \"held $ABA_LOCK_TOKEN\"; read -r _; echo done"));
        assert!(script.read_line().starts_with("held "));
        script
    }

    /// Waits for guard and courier of a name, and returns their pids in this order.
    pub(crate) fn wait_for_keepers(&self, name: &str) -> Vec<u32> {
        let mut found = Vec::new();
        wait_until("guard and courier run", || {
            found = self.find_keepers(name);
            found.len() == 2
        });
        found
    }

    /// Waits for guard and courier of a name, and stops both.
    pub(crate) fn stop_keepers(&self, name: &str) -> Vec<u32> {
        let keepers = self.wait_for_keepers(name);
        for pid in &keepers {
            send_signal(pid, "STOP");
        }
        keepers
    }

    /// Kills guard and courier of a name. Both are stopped first, so that neither can replace the other.
    pub(crate) fn kill_keepers(&self, name: &str) {
        let keepers = self.stop_keepers(name);
        for pid in &keepers {
            send_signal(pid, "KILL");
        }
        wait_until("the keepers have ended", || !keepers.iter().any(|pid| is_alive(*pid)));
    }

    /// Returns the processes of the keeper that exist now. The guard comes first.
    pub(crate) fn find_keepers(&self, name: &str) -> Vec<u32> {
        let file = self.lock_file(name);
        let mut pids = find_processes_with(&file, &|link| link.file_name().is_some_and(|fd| fd == "3"));
        pids.retain(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(KEEPER)));
        pids.retain(|pid| {
            fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("\0hold\0"))
        });
        let all = pids.clone();
        pids.sort_by_key(|pid| all.contains(&parent_pid(*pid)));
        pids
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Keepers end after their scripts. They may have to wait for a server.
        let inside = |pid: u32| {
            let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            fds.flat_map(|fd| fs::read_link(fd.path())).any(|link| link.starts_with(self.directory.path()))
        };
        let start = Instant::now();
        loop {
            let entries = fs::read_dir("/proc").unwrap().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            let left: Vec<u32> = pids.filter(|pid| inside(*pid)).collect();
            if left.is_empty() || thread::panicking() {
                return;
            }
            assert!(start.elapsed() < TEST_LIMIT, "these processes did not end: {left:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
