//! Side by side with flock(1), in one run: whole processes, in turn, the ratio of their medians.
//!
//! The helper is that in `ABA_LOCK_BIN` (`make bench` sets it: how it is linked is most of what is measured).

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of its own, outside the walls"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 1000;

fn main() {
    let helper = std::env::var("ABA_LOCK_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_aba-lock").to_owned());
    let directory = std::env::temp_dir().join(format!("aba-lock-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let file = directory.join("aba-bench.lock");
    File::create(&file).unwrap();
    let aba = |args: &[&str]| {
        let mut command = Command::new(&helper);
        command.args(args).env("ABA_LOCK_DIR", &directory);
        command
    };
    let flock = |args: &[&str]| {
        let mut command = Command::new("flock");
        command.args(args);
        command
    };
    let path = file.to_str().unwrap();

    // On descriptor 200 of a shell, as scripts use it, the shell being replaced by what is measured.
    compare(
        "lock a descriptor, free",
        || on_200(&file, aba(&["lock", "--fd", "200", "bench"])),
        || on_200(&file, flock(&["-n", "200"])),
    );
    compare("run `true`", || aba(&["lock", "bench", "--", "true"]), || flock(&["-n", path, "true"]));
    let _held = holder(&helper, &directory);
    compare("refuse, in silence", || aba(&["lock", "-q", "bench", "--", "true"]), || flock(&["-n", path, "true"]));
    drop(_held);

    wake_up("wait, until it is mine", &directory, &helper, path);
    source();
    let _ = fs::remove_dir_all(&directory);
}

fn on_200(file: &Path, mut command: Command) -> Command {
    let file = File::open(file).unwrap();
    // SAFETY: dup2 may be called between fork and exec.
    #[expect(unsafe_code, reason = "a descriptor of a given number")]
    unsafe {
        command.pre_exec(move || {
            use std::os::fd::AsRawFd;
            if libc::dup2(file.as_raw_fd(), 200) < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
        });
    }
    command
}

struct Holder(std::process::Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn holder(helper: &str, directory: &Path) -> Holder {
    let mut command = Command::new(helper);
    command.args(["lock", "-w", "bench", "--", "sh", "-c", "echo held; read _"]).env("ABA_LOCK_DIR", directory);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    Holder(child)
}

fn time(mut command: Command) -> Duration {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    command.status().unwrap();
    start.elapsed()
}

fn compare(what: &str, ours: impl Fn() -> Command, theirs: impl Fn() -> Command) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(time(ours()));
        b.push(time(theirs()));
    }
    print(what, &mut a, &mut b);
}

fn print(what: &str, ours: &mut [Duration], theirs: &mut [Duration]) {
    let median = |times: &mut [Duration]| {
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1e6
    };
    let (ours, theirs) = (median(ours), median(theirs));
    println!("{what:<28} {:.2} of flock(1)   ({ours:.0} and {theirs:.0} microseconds)", ours / theirs);
}

/// From the release to the end of the waiter.
fn wake_up(what: &str, directory: &Path, helper: &str, path: &str) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..200 {
        for (times, program, args) in
            [(&mut a, helper, &["lock", "-qw", "bench", "--", "true"][..]), (&mut b, "flock", &[path, "true"][..])]
        {
            let held = holder(helper, directory);
            let mut waiter = Command::new(program).args(args).env("ABA_LOCK_DIR", directory).spawn().unwrap();
            let end = format!("-> FLOCK  ADVISORY  WRITE {} ", waiter.id());
            while !fs::read_to_string("/proc/locks").unwrap().contains(&end) {}
            let start = Instant::now();
            drop(held);
            waiter.wait().unwrap();
            times.push(start.elapsed());
            assert!(round < 1000);
        }
    }
    print(what, &mut a, &mut b);
}

/// What it costs a script to source the library.
fn source() {
    let library = concat!(env!("CARGO_MANIFEST_DIR"), "/shell/aba-lock.bash");
    let bash = |script: &str| {
        let mut command = Command::new("bash");
        command.arg("-c").arg(script).arg("bash").arg(library);
        command
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        with.push(time(bash("source \"$1\"")));
        without.push(time(bash(":")));
    }
    with.sort();
    without.sort();
    let cost = with[ROUNDS / 2].saturating_sub(without[ROUNDS / 2]);
    println!("{:<28} {} microseconds", "source aba-lock.bash", cost.as_micros());
}
