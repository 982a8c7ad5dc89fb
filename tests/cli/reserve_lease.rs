//! `reserve -- CMD`: numbers that are free again when the command ends, and `reserve --list`.

use crate::call::Holder;
use crate::process::{is_alive, kill, wait_until};
use crate::reserve::{call, number, registry, reserve, rows};
use crate::reserve_port::bind_port;
use crate::scene::{HELPER, Scene};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::thread;

/// A command that leases a number until it is released.
fn start_lease(scene: &Scene, directory: &str, args: &[&str]) -> Holder {
    fs::create_dir_all(scene.path(directory)).unwrap();
    scene
        .call(HELPER)
        .arg("reserve")
        .args(args)
        .args(["--probe", "none", "--", "sh", "-c", "echo $ABA_NUMBER; read _; exit 3"])
        .current_dir(scene.path(directory))
        .hold()
}

#[test]
fn a_leased_number_is_free_as_soon_as_its_command_ends() {
    let scene = Scene::new();
    reserve(&scene, "a", &["--tag", "t"]).out("5000\n").run();
    let args = ["--tag", "t", "--range", "5000-5002"];
    let mut first = start_lease(&scene, "a", &args);
    let second = start_lease(&scene, "a", &args);
    assert_eq!(
        (first.first_line.as_str(), second.first_line.as_str()),
        ("5001", "5002"),
        "others than the one that is kept"
    );
    let none = "no number of pool ports is free in 5000-5002: 1 reserved, 2 leased, 0 excluded, 0 in use";
    reserve(&scene, "b", &["--range", "5000-5002"]).status(75).err(none).run();
    reserve(&scene, "b", &["--range", "5000-5002", "--", "true"]).status(75).err(none).run();
    reserve(&scene, "b", &["-q", "--range", "5000-5002", "--", "true"]).status(75).run();
    reserve(&scene, "b", &["-q", "--range", "5000-5002"]).status(75).err(none).run();
    reserve(&scene, "b", &["--require", "5001"]).status(75).err("it is leased to a running command").run();
    first.signal(9);
    assert_eq!(first.wait(), 137);
    reserve(&scene, "b", &["--range", "5000-5002", "--", "sh", "-c", "echo $ABA_NUMBER"]).out("5001\n").run();
    assert_eq!(second.release(), 3, "the status is the command's own");
    assert_eq!(number(reserve(&scene, "b", &["--range", "5000-5002", "--prefer", "5002"])), 5002);
    // A lease is not in the registry.
    assert_eq!(rows(&scene, "ports").len(), 2);
}

#[test]
fn a_lease_is_an_ordinary_lock() {
    let scene = Scene::new();
    let holder = start_lease(&scene, "a", &["--tag", "t"]);
    let file = scene.root().join("reserve/ports.d/5000.lock");
    let command = scene.aba(["status", "--file", file.to_str().unwrap()]).out("held, exclusive");
    let command = command.out(format!("pid {}, ", holder.pid()));
    command.out(format!("who: t in {}\n", fs::canonicalize(scene.path("a")).unwrap().display())).run();
    holder.release();
    // The descriptor has a high number, and is in ABA_LOCK_FDS so that the command can close it.
    let script = "echo $ABA_LOCK_FDS; flock -n \"$ABA_LOCK_DIR/reserve/ports.d/$ABA_NUMBER.lock\" true || echo held";
    assert_eq!(reserve(&scene, "a", &["--", "bash", "-c", script]).out("").run().out, "500\nheld\n");
    // With -o, the command and its children do not inherit the lease.
    assert_eq!(reserve(&scene, "a", &["-o", "--", "bash", "-c", script]).out("").run().out, "\nheld\n");
    reserve(&scene, "a", &["--", "no-such-command"]).status(127).err("command not found: no-such-command").run();
    reserve(&scene, "a", &["--", "/"]).status(126).err("cannot run /").run();
    reserve(&scene, "a", &["--group", "w,d", "--", "sh", "-c", "echo $ABA_NUMBER $W_PORT $D_PORT"])
        .out("5000 5000 5001\n")
        .run();
    assert_eq!(rows(&scene, "ports").len(), 0);
}

#[test]
fn a_nested_lease_gets_another_number() {
    let scene = Scene::new();
    let script = "echo $ABA_NUMBER; \"$HELPER\" reserve --probe none; \"$HELPER\" reserve --probe none -- sh -c 'echo $ABA_NUMBER'";
    assert_eq!(reserve(&scene, "a", &["--", "bash", "-c", script]).out("").run().out, "5000\n5001\n5002\n");
}

#[test]
fn a_process_that_inherited_a_lease_keeps_it_unless_no_inherit_is_set() {
    let scene = Scene::new();
    for (option, expected) in [("-q", "5001\n"), ("-o", "5000\n")] {
        let mut holder = scene
            .aba(["reserve", "--probe", "none", option, "--", "bash", "-c", "{ read _; } <&0 & echo $!; exit 0"])
            .hold();
        assert_eq!(holder.wait(), 0);
        reserve(&scene, "a", &["--", "sh", "-c", "echo $ABA_NUMBER"]).out(expected).run();
        let daemon: u32 = holder.first_line.parse().unwrap();
        drop(holder);
        wait_until("the daemon has ended", || !is_alive(daemon));
    }
}

#[test]
fn the_list_shows_reservations_leases_and_users() {
    let scene = Scene::new();
    assert_eq!(call(&scene, "a", ["reserve", "--list"]).run().out, "");
    assert_eq!(call(&scene, "a", ["reserve", "--list", "--format", "json"]).out("").run().out, "[]\n");
    let held = bind_port(&scene, Ipv4Addr::LOCALHOST.into(), false).unwrap();
    let (port, range) = (held.port, format!("{port}-{port}", port = held.port));
    reserve(&scene, "a", &["--range", &range, "--tag", "web"]).out("").run();
    reserve(&scene, "b c", &[]).out("5000\n").run();
    let lease = start_lease(&scene, "a", &["--tag", "job"]);
    let gpu = start_lease(&scene, "a", &["--pool", "gpu", "--range", "0-7"]);
    let said = call(&scene, "a", ["reserve", "--list", "--format", "json"]).out("").run().out;
    let list: serde_json::Value = serde_json::from_str(&said).unwrap();
    let list = list.as_array().unwrap();
    let find = |number: u64| list.iter().find(|entry| entry["number"] == number).unwrap();
    assert_eq!(list.len(), 4);
    let web = find(port.into());
    assert_eq!((&web["tag"], &web["kind"], &web["in_use"]), (&"web".into(), &"kept".into(), &true.into()));
    assert_eq!(web["by"][0]["pid"], held.pid());
    let a = fs::canonicalize(scene.path("a")).unwrap();
    assert_eq!(web["directory"], a.to_str().unwrap());
    assert!(web["age_seconds"].as_u64().unwrap() < 60 && web["unused_seconds"].as_u64().unwrap() < 60);
    let job = find(5001);
    assert_eq!((&job["tag"], &job["kind"], &job["in_use"]), (&"job".into(), &"leased".into(), &true.into()));
    assert_eq!((&job["by"][0]["pid"], &job["directory"]), (&lease.pid().into(), &a.to_str().unwrap().into()));
    assert_eq!((&find(0)["pool"], &find(0)["by"][0]["pid"]), (&"gpu".into(), &gpu.pid().into()));
    let table = call(&scene, "a", ["reserve", "--list"]).out("POOL").out("IN USE").out("DIRECTORY").run().out;
    assert_eq!(table.lines().count(), 5);
    let table = call(&scene, "a", ["reserve", "--list", "--pool", "ports"]).out("NUMBER").run().out;
    assert!(!table.contains("POOL") && table.lines().count() == 4, "{table}");
    let own = call(&scene, "a", ["reserve", "--list", "--path", ".", "--tag", "web"]).out("").run().out;
    assert_eq!(own.lines().count(), 2, "{own}");
    let rows = call(&scene, "a", ["reserve", "--list", "--format", "tsv", "--pool", "ports"]).out("").run().out;
    assert!(rows.lines().all(|line| line.split('\t').count() == 9), "{rows}");
    drop(lease);
    wait_until("it is not listed any more", || {
        !call(&scene, "a", ["reserve", "--list"]).out("").run().out.contains("job")
    });
}

#[test]
fn a_dry_run_never_takes_a_number_from_a_lease() {
    let scene = Scene::new();
    reserve(&scene, "a", &["--", "true"]).run();
    assert!(!registry(&scene, "ports").exists(), "a lease is no row");
    thread::scope(|scope| {
        let rehearsals = scope.spawn(|| {
            for _ in 0..100 {
                reserve(&scene, "a", &["--dry-run"]).out("500").run();
            }
        });
        for _ in 0..100 {
            reserve(&scene, "a", &["--", "true"]).run();
        }
        rehearsals.join().unwrap();
    });
}

#[test]
fn a_number_that_changes_its_kind_is_listed_once() {
    let scene = Scene::new();
    let lease = || {
        fs::create_dir_all(scene.path("b")).unwrap();
        let mut command = scene.program(HELPER);
        command
            .args(["reserve", "--probe", "none", "--", "sh", "-c", "echo held; read _"])
            .current_dir(scene.path("b"));
        Holder::start(command)
    };
    // Makes the directory of the leases.
    lease().release();
    let trace = scene.path("trace");
    // Stops the list after it has read the rows and before it reads the leases.
    let list_while = |change: &mut dyn FnMut()| -> Vec<(u64, String)> {
        let _ = fs::remove_file(&trace);
        let list = scene
            .call("strace")
            .arg("-o")
            .arg(&trace)
            .arg("-P")
            .arg(scene.root().join("reserve/ports.d"))
            .args(["-e", "inject=/^open(at)?$:signal=STOP:when=1", HELPER, "reserve", "--list", "--format", "json"])
            .out("")
            .start();
        wait_until("the list is stopped", || {
            fs::read_to_string(&trace).is_ok_and(|text| text.contains("stopped by SIGSTOP"))
        });
        change();
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", list.pid())).unwrap();
        kill(children.trim().parse().unwrap(), 18);
        let said: serde_json::Value = serde_json::from_str(&list.finish().out).unwrap();
        let entry =
            |entry: &serde_json::Value| (entry["number"].as_u64().unwrap(), entry["kind"].as_str().unwrap().to_owned());
        said.as_array().unwrap().iter().map(entry).collect()
    };
    assert_eq!(number(reserve(&scene, "a", &[])), 5000);
    let mut holder = None;
    let seen = list_while(&mut || {
        call(&scene, "a", ["release"]).run();
        holder = Some(lease());
    });
    assert_eq!(seen, [(5000, "leased".to_owned())]);
    let seen = list_while(&mut || {
        holder.take().unwrap().release();
        assert_eq!(number(reserve(&scene, "a", &[])), 5000);
    });
    assert_eq!(seen, [(5000, "kept".to_owned())]);
}

#[test]
fn an_invalid_lock_file_only_blocks_its_own_number() {
    let scene = Scene::new();
    fs::create_dir_all(registry(&scene, "ports.d/5000.lock")).unwrap();
    std::os::unix::fs::symlink("nowhere", registry(&scene, "ports.d/5001.lock")).unwrap();
    let command = reserve(&scene, "a", &[])
        .out("5002\n")
        .err("ports.d/5000.lock is not a regular file\nhint: show its owner with `ls -ld ");
    let said = command.err("ports.d/5001.lock is not a regular file\n").run();
    assert_eq!(said.err.lines().count(), 4, "{}", said.err);
    reserve(&scene, "a", &["--", "sh", "-c", "echo $ABA_NUMBER"]).out("5003\n").err("skipped a number").run();
    reserve(&scene, "b", &["--require", "5000"]).status(75).err("its lock file is a directory").run();
}

#[test]
fn excluding_a_leased_number_names_its_holder() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    let script = format!("echo >'{}'; read _ <{gate}", scene.path("begun").display());
    let lease = reserve(&scene, "a", &["--", "bash", "-c", &script]).start();
    wait_until("the lease is held", || scene.path("begun").exists());
    call(&scene, "a", ["exclude", "4000-5000"])
        .err(format!("5000 stays leased by pid {} (", lease.pid()))
        .err("until that process ends\n")
        .run();
    gate.open();
    lease.finish();
}

#[test]
fn a_lease_is_listed_with_its_directory_for_any_name() {
    let scene = Scene::new();
    for name in [&b"a b"[..], b"c in d", b"x\ny\\040", b"\xff"] {
        let directory = scene.path(".").join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir(&directory).unwrap();
        let command = scene.aba(["reserve", "--probe", "none", "--tag", "t", "--", "sh", "-c"]);
        let command = command.arg("\"$HELPER\" reserve --list --path . --format json").current_dir(&directory);
        let said = command.out("\"number\": 5000").run().out;
        assert!(said.contains("\"unused_seconds\": null"), "{said}");
    }
}

#[test]
fn an_exhausted_range_is_reported_with_what_helps_for_its_numbers() {
    let scene = Scene::new();
    let ask = |range: &str| reserve(&scene, "b", &["--range", range]).status(75);
    let lease = start_lease(&scene, "a", &["--range", "5000"]);
    ask("5000")
        .err(
            "hint: try again when a command has ended; show the commands with `aba-lock reserve --list --pool ports`\n",
        )
        .run();
    reserve(&scene, "a", &["--range", "5001"]).out("5001\n").run();
    ask("5000-5001").err("hint: show the owners with `aba-lock reserve --list --pool ports`; release unused ").run();
    call(&scene, "a", ["exclude", "5002"]).run();
    ask("5002").err("hint: show the exclusions with `aba-lock exclude --list --pool ports`, or choose ").run();
    let held = bind_port(&scene, Ipv4Addr::LOCALHOST.into(), false).unwrap();
    let number = held.port.to_string();
    let in_use = |option: &str| call(&scene, "b", ["reserve", option, &number, "--range", &number]).status(75);
    in_use("--prefer").err("hint: choose a wider range with --range\n").run();
    in_use("--require").err(format!("hint: show the process with `ss -tulpn 'sport = :{number}'`; ")).run();
    lease.release();
}
