//! `reserve --prune` and `--expire`, and the reuse of numbers that no directory needs: only certainly removed directories
//! may lose their numbers.

use crate::call::Call;
use crate::process::wait_until;
use crate::reserve::{call, make_row, registry, reserve, rows, set_registry};
use crate::reserve_port::bind_port;
use crate::scene::{HELPER, Scene};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

#[test]
fn only_certainly_removed_directories_are_pruned() {
    let scene = Scene::new();
    for directory in ["there", "gone", "deep/er/gone", "last/one", "link/d", "file/d", "loop/d", "moved"] {
        reserve(&scene, directory, &[]).out("").run();
    }
    let remove = |directory: &str| fs::remove_dir_all(scene.path(directory)).unwrap();
    remove("gone");
    remove("deep");
    // The only directory in its parent, which is unchanged.
    remove("last/one");
    // Links that lead nowhere now may lead somewhere later.
    remove("link");
    symlink("/nonexistent/disk", scene.path("link")).unwrap();
    remove("loop");
    symlink("loop", scene.path("loop")).unwrap();
    remove("file");
    fs::write(scene.path("file"), "").unwrap();
    // The parent was replaced by an empty directory, like a mount point where nothing is mounted.
    reserve(&scene, "mount/tree", &[]).out("").run();
    fs::rename(scene.path("mount"), scene.path("elsewhere")).unwrap();
    fs::create_dir(scene.path("mount")).unwrap();
    let dropped = |said: String| {
        let base = fs::canonicalize(scene.path(".")).unwrap();
        let name = |line: &str| {
            let path = PathBuf::from(line.split('\t').nth(2).unwrap());
            path.strip_prefix(&base).unwrap().to_str().unwrap().to_owned()
        };
        said.lines().map(name).collect::<Vec<_>>()
    };
    let expected = ["gone", "deep/er/gone", "last/one"];
    assert_eq!(dropped(call(&scene, ".", ["reserve", "--prune", "--dry-run"]).out("").run().out), expected);
    assert_eq!(rows(&scene, "ports").len(), 9);
    assert_eq!(dropped(call(&scene, ".", ["reserve", "--prune"]).out("").run().out), expected);
    assert_eq!(rows(&scene, "ports").len(), 6);
    assert_eq!(call(&scene, ".", ["reserve", "--prune"]).run().out, "");
    // The recorded parent is unknown or different.
    let a = fs::canonicalize(scene.path(".")).unwrap().join("none");
    set_registry(
        &scene,
        "ports",
        &format!("5000 1 1 - - {}\n5001 1 1 0123abcd - {}/x\n", a.display(), "y".repeat(300)),
    );
    assert_eq!(call(&scene, ".", ["reserve", "--prune"]).run().out, "");
}

#[test]
fn inaccessible_directories_are_not_pruned() {
    let scene = Scene::new();
    reserve(&scene, "shut/tree", &[]).out("").run();
    reserve(&scene, "gone", &[]).out("").run();
    fs::remove_dir(scene.path("gone")).unwrap();
    let shut = fs::canonicalize(scene.path("shut/tree")).unwrap();
    // strace makes the calls fail, because root may read everything.
    for error in ["EACCES", "ELOOP", "ESTALE", "ENOTCONN", "EIO", "ENAMETOOLONG"] {
        let said = scene
            .call("strace")
            .arg("-qq")
            .arg("-P")
            .arg(&shut)
            .args(["-o", "/dev/null"])
            .args(["-e", &format!("inject=all:error={error}"), HELPER, "reserve", "--prune", "--dry-run"])
            .out("gone\n")
            .run()
            .out;
        assert_eq!(said.lines().count(), 1, "{error}: {said}");
    }
}

#[test]
fn unused_numbers_expire_unless_their_port_is_in_use() {
    let scene = Scene::new();
    let held = bind_port(&scene, Ipv4Addr::LOCALHOST.into(), false).unwrap();
    fs::create_dir(scene.path("d")).unwrap();
    let d = fs::canonicalize(scene.path("d")).unwrap();
    // Ports that no process uses.
    let [a, b, c] = [(); 3].map(|()| u32::from(bind_port(&scene, Ipv4Addr::LOCALHOST.into(), false).unwrap().port));
    let lines: Vec<String> = [(a, "a", 10), (b, "b", 9), (c, "c", 0), (u32::from(held.port), "used", 100)]
        .iter()
        .map(|(number, tag, days)| make_row(&d, *number, tag, *days))
        .collect();
    set_registry(&scene, "ports", &lines.concat());
    let expire = |days: &str| call(&scene, "d", ["reserve", "--expire", days]).out("").run().out;
    assert_eq!(expire("11"), "");
    assert_eq!(expire("10"), format!("{a}\ta\t{}\n", d.display()));
    assert_eq!(expire("0").lines().count(), 2);
    assert_eq!(rows(&scene, "ports").len(), 1);
    call(&scene, "d", ["reserve", "--expire", "0", "--probe", "none"]).out("used").run();
}

#[test]
fn an_exhausted_range_reuses_removed_and_expired_reservations() {
    let scene = Scene::new();
    let range = ["--range", "5000-5003"];
    reserve(&scene, "gone", &range).out("5000").run();
    reserve(&scene, "b", &range).out("5001").run();
    fs::remove_dir(scene.path("gone")).unwrap();
    let b = fs::canonicalize(scene.path("b")).unwrap();
    let text = fs::read_to_string(registry(&scene, "ports")).unwrap();
    let kept: Vec<&str> = text.split_inclusive('\n').filter(|line| line.starts_with('5')).collect();
    let kept = kept.concat();
    set_registry(&scene, "ports", &format!("exclude 5003\n{kept}{}", make_row(&b, 5002, "old", 100)));
    let gone = fs::canonicalize(scene.path(".")).unwrap().join("gone");
    // The dry run reports the reused number, too.
    for dry in [true, false] {
        let mut args = range.to_vec();
        args.extend(dry.then_some("--dry-run"));
        let command = reserve(&scene, "c", &args).out("5000\n");
        command.err(format!("released 5000 of {}: its directory no longer exists\n", gone.display())).run();
        assert_eq!(rows(&scene, "ports").len(), 3);
    }
    let command = reserve(&scene, "d", &range).out("5002\n");
    command.err(format!("released 5002 of {} (old): it was not requested for 100 days\n", b.display())).run();
    let command = reserve(&scene, "e", &range).status(75);
    command
        .err("no number of pool ports is free in 5000-5003: 3 reserved, 0 leased, 1 excluded, 0 in use\nhint: ")
        .run();
    // An old row of the caller is in use now, and cannot be reused for its other number.
    let lines = format!("{}{}", make_row(&b, 5000, "p", 100), make_row(&b, 5001, "x", 0));
    set_registry(&scene, "ports", &lines);
    reserve(&scene, "b", &["--group", "p,q", "--range", "5000-5001"]).status(75).err("2 reserved").run();
}

/// The output of `--prune --dry-run`.
fn prune_dry(scene: &Scene) -> String {
    call(scene, ".", ["reserve", "--prune", "--dry-run"]).out("").run().out
}

#[test]
fn a_directory_below_a_replaced_parent_is_not_pruned() {
    let scene = Scene::new();
    for (at, above) in ["top", "top/mid"].iter().enumerate() {
        let tree = format!("{at}/top/mid/tree");
        reserve(&scene, &tree, &[]).out("").run();
        let above = scene.path(&format!("{at}/{above}"));
        fs::rename(&above, scene.path(&format!("{at}/elsewhere"))).unwrap();
        fs::create_dir_all(above.join("something")).unwrap();
        assert_eq!(prune_dry(&scene), "");
    }
    // A link replaces a directory further up.
    reserve(&scene, "2/top/mid/tree", &[]).out("").run();
    fs::rename(scene.path("2/top"), scene.path("2/elsewhere")).unwrap();
    symlink("elsewhere", scene.path("2/top")).unwrap();
    fs::rename(scene.path("2/elsewhere/mid/tree"), scene.path("2/tree")).unwrap();
    assert_eq!(prune_dry(&scene), "");
    // With the original parents, the directory is certainly removed.
    fs::remove_file(scene.path("2/top")).unwrap();
    fs::rename(scene.path("2/elsewhere"), scene.path("2/top")).unwrap();
    assert!(prune_dry(&scene).ends_with("/2/top/mid/tree\n"));
    assert_eq!(rows(&scene, "ports").len(), 3);
}

/// Runs a script in a mount namespace, if the system allows that. `r DIR` reserves a number, and `p` prunes.
fn run_with_mounts(scene: &Scene, script: &str) -> Option<String> {
    let unshare = |script: &str| {
        let mut command = scene.program("unshare");
        command.args(["--user", "--map-root-user", "--mount", "bash", "-ec", script]).current_dir(scene.path("."));
        command
    };
    if !unshare("mount -t tmpfs none .").output().is_ok_and(|output| output.status.success()) {
        return None;
    }
    let prelude =
        format!("r() {{ (cd $1; {HELPER} reserve --probe none >/dev/null); }}; p() {{ {HELPER} reserve --prune; }}\n");
    Some(Call::new(unshare(&(prelude + script))).out("").run().out)
}

#[test]
fn a_directory_on_an_unmounted_file_system_is_not_pruned() {
    let scene = Scene::new();
    for script in [
        // Bind mounts of the same file system. Without them there is another directory, or nothing.
        "mkdir -p disk/tree mnt/x; mount --bind disk mnt; mkdir mnt/d; r mnt/d; umount mnt; p",
        "mkdir -p disk/d mnt; mount --bind disk mnt; r mnt/d; umount mnt; rmdir mnt; p",
        "mkdir -p disk/d mnt; mount --bind disk/d mnt; r mnt; umount mnt; rmdir mnt; p",
        // Hidden by another mount.
        "mkdir -p a/b/d other/x; r a/b/d; mount --bind other a/b; p; umount a/b; mount --bind other a; p",
        // Another file system of the same type, which gets the device number of the first.
        "mkdir -p mnt; mount -t tmpfs a mnt; mkdir -p mnt/p/d; r mnt/p/d; umount mnt; mount -t tmpfs b mnt; mkdir mnt/p; p",
        "mkdir -p mnt; mount -t tmpfs a mnt; mkdir mnt/d; r mnt/d; umount mnt; mount -t tmpfs b mnt; mkdir mnt/x; p",
    ] {
        let Some(said) = run_with_mounts(&scene, script) else { return };
        assert_eq!(said, "", "{script}");
        assert!(Path::new(&scene.path(".")).is_dir());
        fs::remove_dir_all(scene.root()).unwrap();
        for name in ["disk", "mnt", "a", "other"] {
            let _ = fs::remove_dir_all(scene.path(name));
        }
    }
    // On a mounted file system, a missing directory is removed.
    let script = "mkdir mnt; mount -t tmpfs a mnt; mkdir -p mnt/p/d; r mnt/p/d; rmdir mnt/p/d; p";
    assert!(run_with_mounts(&scene, script).unwrap().ends_with("/mnt/p/d\n"));
}

#[test]
fn a_port_in_use_on_any_address_does_not_expire() {
    let scene = Scene::new();
    // Another loopback address serves as another interface.
    let Some(held) = bind_port(&scene, Ipv4Addr::new(127, 0, 0, 3).into(), false) else { return };
    let port = u32::from(held.port);
    fs::create_dir(scene.path("d")).unwrap();
    let d = fs::canonicalize(scene.path("d")).unwrap();
    set_registry(&scene, "ports", &make_row(&d, port, "old", 100));
    assert_eq!(call(&scene, "d", ["reserve", "--expire", "10"]).run().out, "");
    let range = port.to_string();
    call(&scene, "d", ["reserve", "--range", &range]).status(75).err("1 reserved").run();
    drop(held);
    call(&scene, "d", ["reserve", "--range", &range]).out(range.as_str()).err("was not requested for 100 days").run();
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
    lines += &make_row(&base, 5001, "old", 100);
    lines += &make_row(&base, 6001, "old-far", 100);
    // A row that was written while the clock was not set.
    let clock = format!("5002 7 7 - clock {}\n", base.display());
    set_registry(&scene, "ports", &(lines + &clock));
    let range = ["--range", "5000-5002"];
    let said = reserve(&scene, "a", &range).out("5000\n").err("released 5000 of ").run();
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    let said = reserve(&scene, "b", &range).out("5001\n").err("released 5001 of ").run();
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
    let said = reserve(&scene, "a", &["--require", "5005"]).out("5005\n").err("its directory no longer exists").run();
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    let there = fs::canonicalize(scene.path("there")).unwrap();
    let why = format!("cannot reserve 5007: it is reserved for {}", there.display());
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
    // The process stops when it looks at the directory, as if a mount did not answer.
    let mut command = scene.program("strace");
    command.arg("-qq").arg("-P").arg(&tree).args(["-o", "trace", "-e", "inject=/^(statx|l?stat)$:signal=STOP:when=1"]);
    command.args([HELPER, "reserve", "--probe", "none", "--range", "5000"]).current_dir(scene.path("."));
    let mut looks = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", looks.id());
    let child = || fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
    let trace = || fs::read_to_string(scene.path("trace")).unwrap_or_default();
    wait_until("it has stopped", || trace().contains("stopped by SIGSTOP"));
    reserve(&scene, "a", &["-t", "60", "--range", "5001"]).out("5001\n").run();
    assert!(std::process::Command::new("kill").args(["-CONT", &child()]).status().unwrap().success());
    assert!(looks.wait().unwrap().success());
    assert_eq!(rows(&scene, "ports").len(), 2);
}
