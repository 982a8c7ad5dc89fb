//! What is cleared out to make room, and what is not; and who waits for it.

use crate::process::wait_until;
use crate::reserve::{call, reserve, row_of, rows, set_registry};
use crate::scene::{HELPER, Scene};
use std::fs;
use std::net::TcpListener;
use std::process::Stdio;

#[test]
fn a_port_in_use_on_any_address_does_not_expire() {
    let scene = Scene::new();
    // Another loopback address stands for another interface.
    let address = |port: u16| TcpListener::bind(("127.0.0.3", port)).ok().map(|listener| (listener, u32::from(port)));
    // Below those that the system gives to other tests.
    let first = 20_000 + u16::try_from(std::process::id() % 9_000).unwrap();
    let Some((listener, port)) = (first..first + 100).find_map(address) else { return };
    fs::create_dir(scene.path("d")).unwrap();
    let d = fs::canonicalize(scene.path("d")).unwrap();
    set_registry(&scene, "ports", &row_of(&d, port, "old", 100));
    assert_eq!(call(&scene, "d", ["reserve", "--expire", "10"]).run().out, "");
    let range = port.to_string();
    call(&scene, "d", ["reserve", "--range", &range]).status(75).err("1 reserved").run();
    drop(listener);
    call(&scene, "d", ["reserve", "--range", &range]).out(range.as_str()).err("was not asked for in 100 days").run();
}

#[test]
fn removed_directories_are_reused_before_expired_reservations() {
    let scene = Scene::new();
    for (directory, range) in [("gone", "5000"), ("far", "6000")] {
        reserve(&scene, directory, &["--range", range]).out("").run();
    }
    let mut lines: String = rows(&scene, "ports").iter().map(|row| row.clone() + "\n").collect();
    let base = fs::canonicalize(scene.path(".")).unwrap();
    for directory in ["gone", "far"] {
        fs::remove_dir(scene.path(directory)).unwrap();
    }
    lines += &row_of(&base, 5001, "old", 100);
    lines += &row_of(&base, 6001, "old-far", 100);
    // From a clock that was not set.
    let clock = format!("5002 7 7 - clock {}\n", base.display());
    set_registry(&scene, "ports", &(lines + &clock));
    let range = ["--range", "5000-5002"];
    let said = reserve(&scene, "a", &range).out("5000\n").err("gave 5000 of ").run();
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    let said = reserve(&scene, "b", &range).out("5001\n").err("gave 5001 of ").run();
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    reserve(&scene, "c", &range).status(75).err("3 reserved").run();
    assert_eq!(call(&scene, ".", ["reserve", "--expire", "200", "--probe", "none"]).run().out, "");
}

#[test]
fn a_required_number_of_a_removed_directory_is_reused() {
    let scene = Scene::new();
    reserve(&scene, "gone", &["--require", "5005"]).out("5005\n").run();
    reserve(&scene, "gone", &["--require", "5006", "--tag", "other"]).out("5006\n").run();
    reserve(&scene, "there", &["--require", "5007"]).out("5007\n").run();
    fs::remove_dir(scene.path("gone")).unwrap();
    let said = reserve(&scene, "a", &["--require", "5005"]).out("5005\n").err("its directory is gone").run();
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    let there = fs::canonicalize(scene.path("there")).unwrap();
    let why = format!("5007 cannot be had: it is reserved for {}", there.display());
    reserve(&scene, "b", &["--require", "5007"]).status(75).err(why).run();
    assert_eq!(rows(&scene, "ports").len(), 3);
}

#[test]
fn checking_for_removed_directories_does_not_block_other_reservations() {
    let scene = Scene::new();
    let tree = scene.path("slow/tree");
    reserve(&scene, "slow/tree", &["--range", "5000"]).out("5000\n").run();
    let tree = fs::canonicalize(tree).unwrap();
    fs::remove_dir(&tree).unwrap();
    // Who looks there stops, as if the mount did not answer.
    let mut command = scene.program("strace");
    command.arg("-qq").arg("-P").arg(&tree).args(["-o", "trace", "-e", "inject=statx:signal=STOP:when=1"]);
    command.args([HELPER, "reserve", "--probe", "none", "--range", "5000"]).current_dir(scene.path("."));
    let mut looks = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", looks.id());
    let child = || fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
    let trace = || fs::read_to_string(scene.path("trace")).unwrap_or_default();
    wait_until("it has stopped", || trace().contains("stopped by SIGSTOP"));
    reserve(&scene, "a", &["-t", "5", "--range", "5001"]).out("5001\n").run();
    assert!(std::process::Command::new("kill").args(["-CONT", &child()]).status().unwrap().success());
    assert!(looks.wait().unwrap().success());
    assert_eq!(rows(&scene, "ports").len(), 2);
}

#[test]
fn a_port_that_the_directory_already_has_is_not_probed() {
    let scene = Scene::new();
    let binds = || {
        let mut command = scene.program("strace");
        command.args(["-qq", "-o", "trace", "-e", "trace=bind", HELPER, "reserve", "--range", "18000-19999"]);
        assert!(command.current_dir(scene.path(".")).output().unwrap().status.success());
        fs::read_to_string(scene.path("trace")).unwrap().lines().count()
    };
    assert!(binds() > 0);
    assert_eq!(binds(), 0);
}
