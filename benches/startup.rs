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

mod common;

use common::{median, time};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const ROUNDS: usize = 1000;

fn main() {
    let helper = common::helper();
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

    // On a descriptor that both inherit, and that holds nothing when they start.
    let held = open_on_200(&file);
    compare(
        "lock a descriptor, free",
        || released(&held, aba(&["lock", "--fd", "200", "bench"])),
        || released(&held, flock(&["-n", "200"])),
    );
    drop(held);
    compare("run `true`", || aba(&["lock", "bench", "--", "true"]), || flock(&["-n", path, "true"]));
    let holding = holder(&helper, &directory);
    compare("refuse, in silence", || aba(&["lock", "-q", "bench", "--", "true"]), || flock(&["-n", path, "true"]));
    drop(holding);

    wake_up("wait, until it is mine", &directory, &helper, path);
    source();
    let _ = fs::remove_dir_all(&directory);
}

fn open_on_200(file: &Path) -> OwnedFd {
    let file = File::open(file).unwrap();
    #[expect(unsafe_code, reason = "a descriptor of a given number, which the commands inherit")]
    // SAFETY: 200 is not open yet, and is nobody else's afterwards.
    unsafe {
        assert_eq!(libc::dup2(file.as_raw_fd(), 200), 200);
        OwnedFd::from_raw_fd(200)
    }
}

fn released(held: &OwnedFd, command: Command) -> Command {
    #[expect(unsafe_code, reason = "flock(2)")]
    // SAFETY: the descriptor is open as long as it is borrowed.
    unsafe {
        libc::flock(held.as_raw_fd(), libc::LOCK_UN);
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

fn compare(what: &str, ours: impl Fn() -> Command, theirs: impl Fn() -> Command) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(time(ours()));
        b.push(time(theirs()));
    }
    common::print(what, "flock(1)", &mut a, &mut b);
}

/// From the release to the end of the waiter.
fn wake_up(what: &str, directory: &Path, helper: &str, path: &str) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..200 {
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
        }
    }
    common::print(what, "flock(1)", &mut a, &mut b);
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
    let cost = median(&mut with) - median(&mut without);
    println!("{:<28} {cost:.0} microseconds", "source aba-lock.bash");
}
