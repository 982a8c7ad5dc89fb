//! The machine on which the benchmarks ran: the head of each report.

use std::fs;
use std::process::Command;

pub(crate) struct Machine {
    /// The date in the form of RFC 3339, in UTC.
    pub(crate) date: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// The load average of the last minute.
    pub(crate) load: f64,
    pub(crate) helper: String,
    pub(crate) flock: String,
    pub(crate) bash: String,
}

fn read_output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("could not run {program}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Machine {
    pub(crate) fn inspect() -> Self {
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            date: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap().to_string(),
            cpu: cpu.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            helper: read_output(&crate::scene::find_helper(), &["--version"]),
            flock: read_output("flock", &["--version"]),
            bash: format!("bash {}", read_output("bash", &["-c", "echo \"$BASH_VERSION\""])),
        }
    }

    /// Describes the machine in two lines.
    pub(crate) fn describe(&self) -> [String; 2] {
        let cores = if self.cores == 1 { "core" } else { "cores" };
        [
            format!(
                "{}, {}, {} {cores}, Linux {}, load {:.2}",
                self.date, self.cpu, self.cores, self.kernel, self.load
            ),
            format!("{}, {}, {}", self.helper, self.flock, self.bash),
        ]
    }

    /// Returns a warning if other programs use the machine.
    pub(crate) fn warn_if_busy(&self) -> Option<String> {
        let busy = self.load > 0.5;
        busy.then(|| format!("something else runs on this machine: its load is {:.2}; figures will be off", self.load))
    }
}
