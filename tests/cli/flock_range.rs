//! The helper as `flock --fcntl`: locks on ranges of a file.

use crate::call::Call;
use crate::flock::{call, flock, holder};
use crate::process::wait_until;
use crate::scene::Scene;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn ranges_conflict_only_where_they_overlap() {
    let scene = Scene::new();
    let first = holder(&scene, &["--fcntl", "--start", "1K", "--length", "1KiB"]);
    let conflict = |args: &[&str]| {
        call(&scene, &[&["--fcntl", "-nE", "9"], args, &["f", "echo", "ran"]].concat()).status(9).run();
    };
    let granted = |args: &[&str]| {
        call(&scene, &[&["--fcntl", "-n"], args, &["f", "echo", "ran"]].concat()).out("ran\n").run();
    };
    conflict(&[]);
    conflict(&["-s"]);
    conflict(&["--length", "1025"]);
    conflict(&["--start", "2047"]);
    conflict(&["--start", "2047", "--length", "1"]);
    granted(&["--length", "1024"]);
    granted(&["--start", "2048"]);
    granted(&["--start", "2KiB", "--length", "1M"]);
    conflict(&["--start", "1KB", "--length", "25"]);
    granted(&["--start", "1KB", "--length", "24"]);
    call(&scene, &["--fcntl", "-E", "9", "-w", "0.05", "f", "echo", "ran"]).status(9).run();
    call(&scene, &["--fcntl", "-u", "f", "echo", "ran"]).out("ran\n").run();
    call(&scene, &["-n", "f", "echo", "ran"]).out("ran\n").run();
    let waiter = call(&scene, &["--fcntl", "-w", "60", "f", "echo", "ran"]).out("ran\n").start();
    let end = format!(":{} ", fs::metadata(scene.path("f")).unwrap().ino());
    let waits = |line: &str| line.contains("-> OFDLCK") && line.contains(&end);
    wait_until("it waits", || fs::read_to_string("/proc/locks").unwrap().lines().any(waits));
    first.release();
    waiter.finish();
    // Several processes can share a range, and a descriptor can hold it.
    let shared = holder(&scene, &["--fcntl", "-s"]);
    granted(&["-s"]);
    conflict(&["-x"]);
    shared.release();
    let script = "exec 9<>f; ./flock --fcntl 9; ./flock --fcntl -n f true || echo held; ./flock --fcntl -u 9; ./flock --fcntl -n f echo free";
    let mut command = flock(&scene);
    command.arg("g").args(["sh", "-c", script]);
    Call::new(command).out("held\nfree\n").run();
    // A directory can only be locked shared.
    call(&scene, &["--fcntl", "-n", ".", "true"]).status(66).err("Is a directory").run();
}

#[test]
fn start_and_length_accept_the_sizes_of_util_linux() {
    let scene = Scene::new();
    // Options, and the first and last byte of the lock in the kernel.
    for (options, range) in [
        (&["--start", "0x10"][..], "16 EOF"),
        (&["--start=010", "--length", "1"], "8 8"),
        (&["--length", "1.5K"], "0 1535"),
        (&["--length", "1.5KB"], "0 1499"),
        (&["--length", "0.5MiB"], "0 524287"),
        (&["--start", "2G", "--length", "1GB"], "2147483648 3147483647"),
        (&["--start", "0", "--length", "0"], "0 EOF"),
    ] {
        let holder = holder(&scene, options);
        let end = format!(":{} {range}", fs::metadata(scene.path("f")).unwrap().ino());
        // A long list is read in pieces, and a line at the border of two pieces may be missing.
        let is_listed = |line: &str| line.contains(": OFDLCK ") && line.ends_with(&end);
        let what = format!("{options:?} lock {range}");
        wait_until(&what, || fs::read_to_string("/proc/locks").unwrap().lines().any(is_listed));
        holder.release();
    }
    let said = call(&scene, &["--start", "1K", "--length", "20000000T", "f", "true"]).status(64).err("flock: ").run();
    assert!(said.err.contains("invalid length: '20000000T'"), "{}", said.err);
    call(&scene, &["--length", "8E", "f", "true"]).status(65).err("flock: f: Invalid argument").run();
}

#[test]
fn a_conflict_with_fcntl_names_the_holder_of_the_range() {
    let scene = Scene::new();
    let program = "import fcntl, sys\nf = open('f', 'w')\nfcntl.lockf(f, fcntl.LOCK_EX, 10)\nprint('held', flush=True)\nsys.stdin.readline()";
    let posix = scene.call("python3").args(["-c", program]).current_dir(scene.path("")).hold();
    let conflict = |pid: u32, options: &[&str]| {
        let held = format!("flock: f is held by pid {pid} (");
        call(&scene, &[&["--fcntl", "-n", "--verbose"], options, &["f", "true"]].concat()).status(1).err(held).run();
    };
    conflict(posix.pid(), &[]);
    let open_file = holder(&scene, &["--fcntl", "--start", "10"]);
    conflict(posix.pid(), &["--length", "10"]);
    conflict(open_file.pid(), &["--start", "12"]);
    posix.release();
    open_file.release();
}
