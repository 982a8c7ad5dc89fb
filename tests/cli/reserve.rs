//! `reserve`, `release`, `exclude` and `migrate`, as their contract has it.

use crate::call::{Call, Holder};
use crate::process::{count_waiters, is_alive, wait_until};
use crate::scene::{HELPER, Scene};
use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// A call of the helper in a directory of the scene, which is made.
pub(crate) fn call<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(scene: &Scene, directory: &str, args: I) -> Call {
    fs::create_dir_all(scene.path(directory)).unwrap();
    scene.aba(args).current_dir(scene.path(directory))
}

/// Reserves without a probe, so that no test depends on what runs here.
pub(crate) fn reserve(scene: &Scene, directory: &str, args: &[&str]) -> Call {
    let before_command = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
    let (options, command) = args.split_at(before_command);
    call(scene, directory, ["reserve"].iter().chain(options).chain(&["--probe", "none"]).chain(command))
}

/// The number that it prints.
pub(crate) fn number(call: Call) -> u32 {
    call.out("").run().out.trim_end().parse().unwrap()
}

pub(crate) fn registry(scene: &Scene, pool: &str) -> PathBuf {
    scene.root().join("reserve").join(pool)
}

/// The lines of a registry that are rows.
pub(crate) fn rows(scene: &Scene, pool: &str) -> Vec<String> {
    let text = fs::read_to_string(registry(scene, pool)).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

/// Makes a registry of these lines, as one that is recovered.
pub(crate) fn set_registry(scene: &Scene, pool: &str, lines: &str) {
    fs::create_dir_all(scene.root().join("reserve")).unwrap();
    fs::write(registry(scene, pool), format!("aba-lock-registry 2\n{lines}")).unwrap();
    call(scene, ".", ["reserve", "--recover", "--pool", pool]).err("took ").run();
}

/// The row of a directory that is there, last used so many days ago.
pub(crate) fn row_of(directory: &Path, number: u32, tag: &str, days: u64) -> String {
    let then = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - days * 86400;
    format!("{number} {then} {then} - {tag} {}\n", directory.display())
}

#[test]
fn a_directory_keeps_its_number_and_others_get_others() {
    let scene = Scene::new();
    let first = reserve(&scene, "a", &[]).out("").run().out;
    assert_eq!(first, "5000\n", "the number and nothing else");
    assert_eq!(number(reserve(&scene, "b", &[])), 5001);
    assert_eq!(number(reserve(&scene, "a", &["--tag", "web"])), 5002);
    assert_eq!(number(reserve(&scene, "a", &[])), 5000);
    assert_eq!(number(reserve(&scene, "a", &["--tag", "web"])), 5002);
    // Below it is another; by another way, it is the same.
    assert_eq!(number(reserve(&scene, "a/c", &[])), 5003);
    symlink(scene.path("a"), scene.path("link")).unwrap();
    let link = scene.path("link");
    assert_eq!(number(reserve(&scene, "b", &["--path", link.to_str().unwrap()])), 5000);
    assert_eq!(number(reserve(&scene, "b", &["--path", "../b/../a/"])), 5000);
    assert_eq!(rows(&scene, "ports").len(), 4);
    for path in ["", "ports", "ports.lock"] {
        let mode = fs::metadata(registry(&scene, path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_empty() { 0o700 } else { 0o600 });
    }
}

#[test]
fn a_repeated_reservation_writes_nothing() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000").run();
    let before = fs::metadata(registry(&scene, "ports")).unwrap();
    reserve(&scene, "a", &[]).out("5000").run();
    let after = fs::metadata(registry(&scene, "ports")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    // But that it is used is noted when the last note is old.
    let row = row_of(&fs::canonicalize(scene.path("a")).unwrap(), 5000, "-", 3);
    set_registry(&scene, "ports", &row);
    reserve(&scene, "a", &[]).out("5000").run();
    let new = rows(&scene, "ports")[0].clone();
    let words = |row: &str| row.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (then, now) = (words(&row), words(&new));
    assert_eq!((&then[0], &then[1]), (&now[0], &now[1]), "the number and since when");
    assert!(now[2].parse::<u64>().unwrap() >= then[2].parse::<u64>().unwrap() + 3 * 86400);
}

#[test]
fn an_unavailable_preferred_number_is_reported_and_a_required_one_is_an_error() {
    let scene = Scene::new();
    assert_eq!(number(reserve(&scene, "a", &["--prefer", "6080"])), 6080);
    call(&scene, "a", ["exclude", "5500-5510"]).run();
    let own = fs::canonicalize(scene.path("a")).unwrap();
    let reserved = format!("it is reserved for {}", own.display());
    for (wanted, reason) in [
        ("6080", reserved.as_str()),
        ("5505", "it is excluded"),
        ("8080", "it is not in 5000-7000"),
        ("5600", "it is excluded"),
    ] {
        let args = ["--tag", wanted, "--exclude", "5600,5700-5800", "--require", wanted];
        let said = reserve(&scene, "b", &args).status(75).err(format!("{wanted} cannot be had: {reason}")).run();
        assert!(said.err.contains("\nhint: "), "{}", said.err);
        assert_eq!(rows(&scene, "ports").len(), 1, "nothing is left of it");
    }
    for (at, (wanted, reason)) in
        [("6080", "is reserved for"), ("5505", "is excluded"), ("8080", "is not in 5000-7000")].iter().enumerate()
    {
        let instead = format!("{}", 5000 + at);
        reserve(&scene, "b", &["--tag", wanted, "--prefer", wanted])
            .out(format!("{instead}\n"))
            .err(format!("aba-lock: {wanted} {reason}"))
            .err(format!("; {instead} is given instead\n"))
            .run();
    }
    reserve(&scene, "c", &["-q", "--prefer", "6080"]).out("5003\n").run();
    // A key has its number, whatever is preferred now.
    reserve(&scene, "a", &["--prefer", "6001"]).out("6080\n").err("6001 is not given: ").err("has 6080 already").run();
    reserve(&scene, "a", &["--require", "6001"]).status(75).err("6001 cannot be had: ").err("release").run();
    assert_eq!(number(reserve(&scene, "a", &["--require", "6080"])), 6080);
}

/// A port that is bound by this test, and what binds it.
enum Bound {
    Listener(TcpListener),
    Socket(UdpSocket),
}

fn bound(address: IpAddr, udp: bool) -> Option<(u16, Bound)> {
    if udp {
        let socket = UdpSocket::bind((address, 0)).ok()?;
        Some((socket.local_addr().unwrap().port(), Bound::Socket(socket)))
    } else {
        let listener = TcpListener::bind((address, 0)).ok()?;
        Some((listener.local_addr().unwrap().port(), Bound::Listener(listener)))
    }
}

#[test]
fn a_port_in_use_is_not_given() {
    let (v4, v6): (IpAddr, IpAddr) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let (all4, all6): (IpAddr, IpAddr) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
    for (address, udp) in [v4, v6, all4, all6].into_iter().flat_map(|address| [(address, false), (address, true)]) {
        // Where there is no IPv6, nobody can use it.
        let Some((port, held)) = bound(address, udp) else { continue };
        let scene = Scene::new();
        let (port, range) = (port.to_string(), format!("{port}-{port}"));
        let args = ["reserve", "--range", &range];
        let said = call(&scene, "a", args.iter().chain(&["--require", &port])).status(75).err("it is in use").run();
        assert!(!said.err.contains("by pid"), "who it is stands in other sentences");
        call(&scene, "a", args).status(75).err("0 reserved, 0 leased, 0 excluded, 1 in use").run();
        let other = if udp { "tcp" } else { "udp" };
        call(&scene, "a", args.iter().chain(&["--probe", other])).out(format!("{port}\n")).run();
        // It is said when somebody has it that is kept, and who that is.
        let mine = format!("is in use by pid {} (", std::process::id());
        call(&scene, "a", args).out(format!("{port}\n")).err(mine).run();
        call(&scene, "a", args.iter().chain(&["-q"])).out(format!("{port}\n")).run();
        match held {
            Bound::Listener(listener) => drop(listener),
            Bound::Socket(socket) => drop(socket),
        }
    }
}

#[test]
fn the_process_that_uses_the_preferred_port_is_named() {
    let scene = Scene::new();
    let (port, _held) = bound(Ipv4Addr::LOCALHOST.into(), false).unwrap();
    let range = format!("1-{port}");
    call(&scene, "a", ["reserve", "--range", &range, "--prefer", &port.to_string()])
        .out("")
        .err(format!("{port} is in use by pid {} (", std::process::id()))
        .err(" is given instead")
        .run();
}

#[test]
fn ended_connections_and_without_wildcard_other_interfaces_are_not_in_use() {
    let scene = Scene::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    // Who closes first is left in TIME_WAIT.
    drop(server);
    let _ = std::io::copy(&mut &client, &mut std::io::sink());
    drop((client, listener));
    let waits = format!(":{port:04X} ");
    let table = || fs::read_to_string("/proc/net/tcp").unwrap();
    wait_until("it is in TIME_WAIT", || table().lines().any(|line| line.contains(&waits) && line.contains(" 06 ")));
    assert!(UdpSocket::bind(("127.0.0.1", port)).is_ok());
    let range = port.to_string();
    call(&scene, "a", ["reserve", "--probe", "tcp", "--range", &range]).out(format!("{port}\n")).run();
    // Another loopback address stands for another interface.
    let Ok(other) = TcpListener::bind("127.0.0.2:0") else { return };
    let range = other.local_addr().unwrap().port().to_string();
    let wildcard = ["reserve", "--probe", "tcp,wildcard", "--range", &range];
    call(&scene, "b", wildcard).status(75).err("1 in use").run();
    call(&scene, "b", ["reserve", "--probe", "tcp", "--range", &range]).out(range.as_str()).run();
}

#[test]
fn a_group_gets_the_lowest_adjacent_numbers_or_none() {
    let scene = Scene::new();
    reserve(&scene, "x", &["--require", "5001"]).out("5001").run();
    let said = reserve(&scene, "a", &["--group", "web,db,cache"]).out("").run().out;
    assert_eq!(said, "5002\n5003\n5004\n");
    assert_eq!(reserve(&scene, "a", &["--group", "web,db,cache"]).out("").run().out, said, "the same again");
    // Each is a number like others.
    assert_eq!(number(reserve(&scene, "a", &["--tag", "db"])), 5003);
    // What is missing comes beside the rest if it can.
    assert_eq!(reserve(&scene, "b", &["--group", "p,q", "--range", "5010-5012"]).out("").run().out, "5010\n5011\n");
    call(&scene, "b", ["release", "--tag", "q"]).run();
    assert_eq!(reserve(&scene, "b", &["--group", "p,q"]).out("").run().out, "5010\n5011\n");
    assert_eq!(reserve(&scene, "b", &["--group", "n,p,q"]).out("").run().out, "5009\n5010\n5011\n");
    let before = fs::read(registry(&scene, "ports")).unwrap();
    reserve(&scene, "c", &["--group", "k,l,m", "--range", "5003-5006"])
        .status(75)
        .err("there is no place in 5003-5006 of ports for a group of 3: 2 reserved, 0 leased, 0 excluded, 0 in use, 2 free")
        .run();
    assert_eq!(fs::read(registry(&scene, "ports")).unwrap(), before, "nothing is left of it");
    reserve(&scene, "c", &["--group", "k,k"]).status(2).err("given twice").run();
    reserve(&scene, "c", &["--group", "k,,l"]).status(2).err("is not a tag").run();
}

#[test]
fn a_group_file_sets_offsets_and_variable_names() {
    let scene = Scene::new();
    let file = "reservations:\n  base: 5100\n  services:\n    web:\n      offset: 0\n      preferred: 5500\n    db: {offset: 2, env: DATABASE}\n    aux:\n      offset: 7\n";
    fs::write(scene.path("group.yaml"), file).unwrap();
    let args = ["--group-file", "../group.yaml", "--format", "export"];
    let said = reserve(&scene, "a", &args).out("").run().out;
    assert_eq!(said, "export WEB_PORT=5500\nexport DATABASE=5102\nexport AUX_PORT=5107\n");
    assert_eq!(reserve(&scene, "a", &args).err("").out("").run().out, said);
    // Elsewhere the base cannot be had, nor what is preferred.
    let said = reserve(&scene, "b", &args)
        .out("export DATABASE=")
        .err("5500 is reserved for ")
        .err("the group cannot begin at 5100: 5102 is reserved; ")
        .run();
    assert!(said.out.contains("WEB_PORT=5000\n") && said.out.contains("AUX_PORT=5007\n"), "{}", said.out);
    fs::write(scene.path("group.yaml"), file.replace("aux", "a;b")).unwrap();
    reserve(&scene, "c", &args).status(2).err("group.yaml, line 8: ").run();
    fs::write(scene.path("group.yaml"), file.replace("DATABASE", "X=$(id)")).unwrap();
    reserve(&scene, "c", &args).status(2).err("line 7: ").err("is not a name for a variable").run();
    reserve(&scene, "c", &["--group-file", "none.yaml"])
        .status(125)
        .err("could not read none.yaml: No such file")
        .run();
    assert_eq!(rows(&scene, "ports").len(), 6);
}

#[test]
fn output_for_eval_has_only_names_and_numbers() {
    let scene = Scene::new();
    let script =
        "eval \"$(\"$HELPER\" reserve --probe none --group web-1,db.x --format export)\"; echo $WEB_1_PORT $DB_X_PORT";
    assert_eq!(scene.bash(script).out("").run().out, "5000 5001\n");
    for (group, why) in
        [("9a", "\"9A_PORT\", for the tag \"9a\", is not a name for a variable"), ("a-b,a.b", "A_B_PORT")]
    {
        let said = reserve(&scene, "a", &["--group", group, "--format", "export"]).status(2).err(why).run();
        assert!(said.out.is_empty());
        // As plain numbers they have no names.
        reserve(&scene, "a", &["--group", group, "--dry-run"]).out("").run();
    }
    assert_eq!(rows(&scene, "ports").len(), 2);
    for (format, expected) in [
        ("plain", "5002\n"),
        ("export", "export PORT=5002\n"),
        ("fish", "set -gx PORT 5002\n"),
        ("dotenv", "PORT=5002\n"),
        ("json", "{\"PORT\":5002}\n"),
    ] {
        assert_eq!(reserve(&scene, "b", &["--format", format]).out("").run().out, expected);
    }
    let args = ["--pool", "gpu", "--range", "0-7", "--tag", "train", "--format", "dotenv"];
    assert_eq!(reserve(&scene, "b", &args).out("").run().out, "TRAIN_GPU=0\n");
}

#[test]
fn dotenv_changes_only_its_own_lines() {
    let scene = Scene::new();
    fs::create_dir(scene.path("a")).unwrap();
    fs::write(scene.path("a/.env"), "# mine\nWEB_PORT=1 # old\nKEY=\"x\nDB_PORT=2\"\n").unwrap();
    let args = ["--group", "web,db", "--dotenv", ".env"];
    assert_eq!(reserve(&scene, "a", &args).out("").run().out, "5000\n5001\n");
    let text = || fs::read_to_string(scene.path("a/.env")).unwrap();
    let expected = "# mine\nWEB_PORT=5000\nKEY=\"x\nDB_PORT=2\"\nDB_PORT=5001\n";
    assert_eq!(text(), expected);
    let before = fs::metadata(scene.path("a/.env")).unwrap().ino();
    reserve(&scene, "a", &args).out("").run();
    assert_eq!((text(), fs::metadata(scene.path("a/.env")).unwrap().ino()), (expected.to_owned(), before));
    // A file that is not there is made; and where it cannot be, nothing is reserved.
    assert_eq!(number(reserve(&scene, "b", &["--dotenv", "new.env"])), 5002);
    assert_eq!(fs::read_to_string(scene.path("b/new.env")).unwrap(), "PORT=5002\n");
    reserve(&scene, "c", &["--dotenv", "none/new.env"]).status(125).err("none/new.env").run();
    reserve(&scene, "c", &["--dotenv", "."]).status(125).err("").run();
    reserve(&scene, "c", &["--dry-run", "--dotenv", "dry.env"]).out("5003\n").run();
    assert!(!scene.path("c/dry.env").exists());
    assert_eq!(rows(&scene, "ports").len(), 3);
}

#[test]
fn an_update_and_a_reservation_of_the_same_file_do_not_deadlock() {
    let scene = Scene::new();
    let gate = scene.gate("gate");
    fs::create_dir(scene.path("a")).unwrap();
    fs::write(scene.path("a/.env"), "A=1\n").unwrap();
    // The first has the file and will want the registry, while the second wants the file.
    let script = format!(
        "cat; echo begun >../begun; read _ <'{}'; echo B=$(\"$HELPER\" reserve --probe none)",
        gate.path.display()
    );
    let first = call(&scene, "a", ["update", ".env", "--", "bash", "-c", &script]).start();
    wait_until("it has the file", || scene.path("begun").exists());
    let second = reserve(&scene, "a", &["--tag", "web", "--dotenv", ".env"]).out("5001\n").start();
    wait_until("the second waits", || count_waiters(&scene.path("a/.env.lock")) > 0);
    gate.open();
    first.finish();
    second.finish();
    assert_eq!(fs::read_to_string(scene.path("a/.env")).unwrap(), "A=1\nB=5000\nWEB_PORT=5001\n");
}

/// A command that has a number, until it is let go.
fn leased(scene: &Scene, directory: &str, args: &[&str]) -> Holder {
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
    let mut first = leased(&scene, "a", &args);
    let second = leased(&scene, "a", &args);
    assert_eq!(
        (first.first_line.as_str(), second.first_line.as_str()),
        ("5001", "5002"),
        "others than the one that is kept"
    );
    let none = "no number of ports is free in 5000-5002: 1 reserved, 2 leased, 0 excluded, 0 in use";
    reserve(&scene, "b", &["--range", "5000-5002"]).status(75).err(none).run();
    reserve(&scene, "b", &["--range", "5000-5002", "--", "true"]).status(75).err(none).run();
    reserve(&scene, "b", &["--require", "5001"]).status(75).err("it is leased to a command").run();
    first.signal(9);
    assert_eq!(first.wait(), 137);
    reserve(&scene, "b", &["--range", "5000-5002", "--", "sh", "-c", "echo $ABA_NUMBER"]).out("5001\n").run();
    assert_eq!(second.release(), 3, "the status is the command's own");
    assert_eq!(number(reserve(&scene, "b", &["--range", "5000-5002", "--prefer", "5002"])), 5002);
    // It was never in the registry.
    assert_eq!(rows(&scene, "ports").len(), 2);
}

#[test]
fn a_lease_is_an_ordinary_lock() {
    let scene = Scene::new();
    let holder = leased(&scene, "a", &["--tag", "t"]);
    let file = scene.root().join("reserve/ports.d/5000.lock");
    let command = scene.aba(["status", "--file", file.to_str().unwrap()]).out("held, exclusive");
    let command = command.out(format!("pid {}, ", holder.pid()));
    command.out(format!("who: t in {}\n", fs::canonicalize(scene.path("a")).unwrap().display())).run();
    holder.release();
    // It is handed down where scripts do not tread, and told of, so that it can be closed.
    let script = "echo $ABA_LOCK_FDS; flock -n \"$ABA_LOCK_DIR/reserve/ports.d/$ABA_NUMBER.lock\" true || echo held";
    assert_eq!(reserve(&scene, "a", &["--", "bash", "-c", script]).out("").run().out, "500\nheld\n");
    // With -o the command has no copy; what it leaves behind keeps nothing.
    assert_eq!(reserve(&scene, "a", &["-o", "--", "bash", "-c", script]).out("").run().out, "\nheld\n");
    reserve(&scene, "a", &["--", "no-such-command"]).status(127).err("command not found: no-such-command").run();
    reserve(&scene, "a", &["--", "/"]).status(126).err("could not run /").run();
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
fn release_returns_one_tag_all_tags_or_all_directories_below() {
    let scene = Scene::new();
    call(&scene, "a", ["release"]).run();
    assert!(!scene.root().exists(), "nothing is made for nothing");
    for directory in ["a", "a/b", "ab"] {
        for tag in ["x", "y"] {
            reserve(&scene, directory, &["--tag", tag]).out("").run();
        }
        reserve(&scene, directory, &[]).out("").run();
    }
    assert_eq!(rows(&scene, "ports").len(), 9);
    call(&scene, "a", ["release"]).run();
    call(&scene, "a", ["release"]).run();
    call(&scene, "a", ["release", "--tag", "none"]).run();
    assert_eq!(rows(&scene, "ports").len(), 8);
    call(&scene, "a", ["release", "--tag", "x"]).run();
    assert_eq!(rows(&scene, "ports").len(), 7);
    let b = fs::canonicalize(scene.path("a/b")).unwrap();
    let said = call(&scene, "a", ["release", "--tag", "x", "--recursive", "--dry-run"]).out("").run();
    assert_eq!(said.out, format!("5003\tx\t{}\n", b.display()));
    assert_eq!(rows(&scene, "ports").len(), 7);
    call(&scene, ".", ["release", "--all-tags", "--recursive", "--path", "a"]).run();
    let left = rows(&scene, "ports");
    assert!(left.len() == 3 && left.iter().all(|row| row.ends_with("/ab")), "{left:?}");
    // Also of a directory that is gone.
    fs::remove_dir(scene.path("ab")).unwrap();
    call(&scene, ".", ["release", "--all-tags", "--path", "ab"]).run();
    assert_eq!(rows(&scene, "ports").len(), 0);
    assert_eq!(number(reserve(&scene, "c", &[])), 5000, "the lowest is free again");
}

#[test]
fn check_prints_the_number_and_changes_nothing() {
    let scene = Scene::new();
    call(&scene, "a", ["reserve", "--check"]).status(1).run();
    assert!(!scene.root().exists());
    reserve(&scene, "a", &["--tag", "t"]).out("5000\n").run();
    let before = fs::metadata(registry(&scene, "ports")).unwrap().ino();
    call(&scene, "a", ["reserve", "--check", "--tag", "t"]).out("5000\n").run();
    call(&scene, "a", ["reserve", "--check"]).status(1).run();
    call(&scene, ".", ["reserve", "--check", "--tag", "t", "--path", "a"]).out("5000\n").run();
    assert_eq!(fs::metadata(registry(&scene, "ports")).unwrap().ino(), before);
}

#[test]
fn a_dry_run_prints_the_number_and_changes_nothing() {
    let scene = Scene::new();
    reserve(&scene, "a", &["--dry-run"]).out("5000\n").run();
    assert!(!scene.root().exists());
    reserve(&scene, "b", &[]).out("5000\n").run();
    let before = fs::read(registry(&scene, "ports")).unwrap();
    reserve(&scene, "a", &["--dry-run"]).out("5001\n").run();
    reserve(&scene, "a", &["--dry-run", "--range", "5000-5000"]).status(75).err("1 reserved").run();
    assert_eq!(fs::read(registry(&scene, "ports")).unwrap(), before);
}

#[test]
fn pools_are_independent_and_need_a_range() {
    let scene = Scene::new();
    let gpu = ["--pool", "gpu", "--range", "0-1"];
    assert_eq!(number(call(&scene, "a", ["reserve"].iter().chain(&gpu))), 0, "and is not probed");
    assert_eq!(number(reserve(&scene, "b", &gpu)), 1);
    reserve(&scene, "c", &gpu)
        .status(75)
        .err("no number of gpu is free in 0-1: 2 reserved")
        .err("--list --pool gpu")
        .run();
    assert_eq!(number(reserve(&scene, "c", &[])), 5000);
    call(&scene, "c", ["reserve", "--pool", "gpu"]).status(2).err("which numbers the pool gpu has is not known").run();
    call(&scene, "c", ["reserve", "--range", "65000-66000"]).status(2).err("not all of 65000-66000 are ports").run();
    reserve(&scene, "d", &["--range", "70000-70001"]).out("70000\n").run();
    call(&scene, "d", ["reserve", "--pool", "a/b"]).status(2).err("is not a name for a pool").run();
    call(&scene, "d", ["reserve", "--tag", "a b"]).status(2).err("is not a tag").run();
}

#[test]
fn exclusions_are_kept_listed_and_removed() {
    let scene = Scene::new();
    reserve(&scene, "a", &[]).out("5000\n").run();
    let own = fs::canonicalize(scene.path("a")).unwrap();
    call(&scene, "a", ["exclude", "5000-5001", "5003"])
        .err(format!("aba-lock: 5000 of {} stays reserved until it is released\n", own.display()))
        .run();
    call(&scene, "a", ["exclude", "5003"]).run();
    assert_eq!(call(&scene, "a", ["exclude", "--list"]).out("").run().out, "5000-5001\n5003\n");
    assert_eq!(number(reserve(&scene, "a", &[])), 5000);
    assert_eq!(number(reserve(&scene, "b", &[])), 5002);
    assert_eq!(number(reserve(&scene, "c", &[])), 5004);
    call(&scene, "a", ["exclude", "--remove", "5003"]).run();
    call(&scene, "a", ["exclude", "--remove", "5001"]).status(1).err("5001 is not excluded").err("hint: ").run();
    assert_eq!(number(reserve(&scene, "d", &[])), 5003);
    assert_eq!(call(&scene, "a", ["exclude", "--list"]).out("").run().out, "5000-5001\n");
    for bad in ["x", "7-5", "5-", "-5", ""] {
        call(&scene, "a", ["exclude", "--", bad]).status(2).err("").run();
    }
}

#[test]
fn migrate_moves_the_numbers_of_a_directory() {
    let scene = Scene::new();
    reserve(&scene, "old", &[]).out("5000").run();
    reserve(&scene, "old/sub", &["--tag", "t"]).out("5001").run();
    reserve(&scene, "older", &[]).out("5002").run();
    reserve(&scene, "old", &["--pool", "gpu", "--range", "0-7"]).out("0").run();
    fs::rename(scene.path("old"), scene.path("new")).unwrap();
    let new = fs::canonicalize(scene.path("new")).unwrap();
    let said = call(&scene, ".", ["migrate", "--from", "old", "--to", "new", "--dry-run"]).out("").run().out;
    assert_eq!(said, format!("0\t-\t{0}\n5000\t-\t{0}\n5001\tt\t{0}/sub\n", new.display()));
    call(&scene, "new", ["reserve", "--check"]).status(1).run();
    call(&scene, ".", ["migrate", "--from", "old", "--to", "new"]).run();
    call(&scene, ".", ["migrate", "--from", "old", "--to", "new"]).run();
    assert_eq!(number(reserve(&scene, "new", &[])), 5000);
    assert_eq!(number(reserve(&scene, "new/sub", &["--tag", "t"])), 5001);
    assert_eq!(number(reserve(&scene, "older", &[])), 5002);
    assert_eq!(number(reserve(&scene, "new", &["--pool", "gpu", "--range", "0-7"])), 0);
    // Two numbers for one key would be one too many.
    let before = fs::read(registry(&scene, "ports")).unwrap();
    call(&scene, ".", ["migrate", "--from", "older", "--to", "new"])
        .status(1)
        .err(format!("{} has a number of ports already", new.display()))
        .run();
    assert_eq!(fs::read(registry(&scene, "ports")).unwrap(), before);
    call(&scene, ".", ["migrate", "--from", "new", "--to", "none"])
        .status(125)
        .err("could not find the directory")
        .run();
    fs::create_dir(scene.path("new/inner")).unwrap();
    let said = call(&scene, ".", ["migrate", "--from", "new", "--to", "new/inner"]).status(2);
    said.err("a directory cannot have been moved into itself").run();
    call(&scene, ".", ["migrate", "--from", "new", "--to", "new"]).run();
    assert_eq!(fs::read(registry(&scene, "ports")).unwrap(), before);
}

#[test]
fn directory_names_may_be_any_bytes() {
    let scene = Scene::new();
    let odd: [&[u8]; 6] = [b"a b", b"a\nb\tc", b"\xff\xfe", "ä ö".as_bytes(), b"\\040", b"- web"];
    let mut given = Vec::new();
    for round in 0..2 {
        for (at, name) in odd.iter().enumerate() {
            let directory = scene.path(".").join(std::ffi::OsString::from_vec(name.to_vec()));
            fs::create_dir_all(&directory).unwrap();
            let got = number(scene.aba(["reserve", "--probe", "none"]).current_dir(&directory));
            if round == 0 {
                given.push(got);
            }
            assert_eq!(given[at], got, "{name:?}");
        }
    }
    let mut distinct = given.clone();
    distinct.dedup();
    assert_eq!(distinct.len(), odd.len());
    assert_eq!(
        call(&scene, ".", ["reserve", "--list", "--format", "tsv"]).out("").run().out.lines().count(),
        odd.len()
    );
    call(&scene, ".", ["reserve", "--list"]).out("").run();
    assert_eq!(call(&scene, ".", ["reserve", "--prune"]).run().out, "");
}

#[test]
fn a_missing_directory_is_an_error() {
    let scene = Scene::new();
    fs::write(scene.path("file"), "").unwrap();
    reserve(&scene, ".", &["--path", "file"])
        .status(125)
        .err("could not find the directory file: Not a directory")
        .run();
    reserve(&scene, ".", &["--path", "none"]).status(125).err("could not find the directory none: No such file").run();
    let script = "mkdir gone; cd gone; rmdir ../gone; \"$HELPER\" reserve";
    scene.bash(&format!("cd '{}'; {script}", scene.path(".").display())).status(125).err("current directory").run();
    assert!(!scene.root().exists());
}

#[test]
fn the_list_shows_reservations_leases_and_users() {
    let scene = Scene::new();
    assert_eq!(call(&scene, "a", ["reserve", "--list"]).run().out, "");
    assert_eq!(call(&scene, "a", ["reserve", "--list", "--format", "json"]).out("").run().out, "[]\n");
    let (port, _held) = bound(Ipv4Addr::LOCALHOST.into(), false).unwrap();
    let range = format!("{port}-{port}");
    reserve(&scene, "a", &["--range", &range, "--tag", "web"]).out("").run();
    reserve(&scene, "b c", &[]).out("5000\n").run();
    let lease = leased(&scene, "a", &["--tag", "job"]);
    let gpu = leased(&scene, "a", &["--pool", "gpu", "--range", "0-7"]);
    let said = call(&scene, "a", ["reserve", "--list", "--format", "json"]).out("").run().out;
    let list: serde_json::Value = serde_json::from_str(&said).unwrap();
    let list = list.as_array().unwrap();
    let find = |number: u64| list.iter().find(|entry| entry["number"] == number).unwrap();
    assert_eq!(list.len(), 4);
    let web = find(port.into());
    assert_eq!((&web["tag"], &web["kind"], &web["in_use"]), (&"web".into(), &"kept".into(), &true.into()));
    assert_eq!(web["by"][0]["pid"], std::process::id());
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
fn only_certainly_removed_directories_are_pruned() {
    let scene = Scene::new();
    for directory in ["there", "gone", "deep/er/gone", "last/one", "link/d", "file/d", "loop/d", "moved"] {
        reserve(&scene, directory, &[]).out("").run();
    }
    let remove = |directory: &str| fs::remove_dir_all(scene.path(directory)).unwrap();
    remove("gone");
    remove("deep");
    // The only one in its directory, which is still the same.
    remove("last/one");
    // What leads elsewhere, and nowhere for now.
    remove("link");
    symlink("/nonexistent/disk", scene.path("link")).unwrap();
    remove("loop");
    symlink("loop", scene.path("loop")).unwrap();
    remove("file");
    fs::write(scene.path("file"), "").unwrap();
    // Another directory in the place of the one that it was in, empty: as where nothing is mounted now.
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
    // Where it was is not known, or was another.
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
    // By a system that fails, so that it is the same for root.
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
    let (port, _held) = bound(Ipv4Addr::LOCALHOST.into(), false).unwrap();
    fs::create_dir(scene.path("d")).unwrap();
    let d = fs::canonicalize(scene.path("d")).unwrap();
    let lines: Vec<String> = [(5000, "a", 10), (5001, "b", 9), (5002, "c", 0), (u32::from(port), "used", 100)]
        .iter()
        .map(|(number, tag, days)| row_of(&d, *number, tag, *days))
        .collect();
    set_registry(&scene, "ports", &lines.concat());
    let free = |port: &str| TcpListener::bind(format!("127.0.0.1:{port}")).is_ok();
    if !(free("5000") && free("5001") && free("5002")) {
        return;
    }
    let expire = |days: &str| call(&scene, "d", ["reserve", "--expire", days]).out("").run().out;
    assert_eq!(expire("11"), "");
    assert_eq!(expire("10"), format!("5000\ta\t{}\n", d.display()));
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
    set_registry(&scene, "ports", &format!("exclude 5003\n{kept}{}", row_of(&b, 5002, "old", 100)));
    let gone = fs::canonicalize(scene.path(".")).unwrap().join("gone");
    // Even as a rehearsal: what is dropped is said.
    for dry in [true, false] {
        let mut args = range.to_vec();
        args.extend(dry.then_some("--dry-run"));
        reserve(&scene, "c", &args)
            .out("5000\n")
            .err(format!("gave 5000 of {} back: its directory is gone\n", gone.display()))
            .run();
        assert_eq!(rows(&scene, "ports").len(), 3);
    }
    reserve(&scene, "d", &range)
        .out("5002\n")
        .err(format!("gave 5002 of {} (old) back: it was not asked for in 100 days\n", b.display()))
        .run();
    reserve(&scene, "e", &range)
        .status(75)
        .err("no number of ports is free in 5000-5003: 3 reserved, 0 leased, 1 excluded, 0 in use\nhint: ")
        .run();
    // A row that is used now is no room for another of the same call.
    let lines = format!("{}{}", row_of(&b, 5000, "p", 100), row_of(&b, 5001, "x", 0));
    set_registry(&scene, "ports", &lines);
    reserve(&scene, "b", &["--group", "p,q", "--range", "5000-5001"]).status(75).err("2 reserved").run();
}

#[test]
fn wrong_usage_exits_with_2_and_creates_nothing() {
    let scene = Scene::new();
    let wrong: [&[&str]; 22] = [
        &["reserve", "web"],
        &["reserve", "--range", "7-5"],
        &["reserve", "--prefer", "x"],
        &["reserve", "--probe", "tcp,none"],
        &["reserve", "--format", "xml"],
        &["reserve", "--format", "table"],
        &["reserve", "--list", "--format", "plain"],
        &["reserve", "--list", "--check"],
        &["reserve", "--list", "--quiet"],
        &["reserve", "--check", "--prefer", "5000"],
        &["reserve", "--prune", "--", "true"],
        &["reserve", "--expire", "x"],
        &["reserve", "--group", "a,b", "--tag", "c"],
        &["reserve", "--group", "a,b", "--require", "5000"],
        &["reserve", "--dotenv", "f", "--", "true"],
        &["reserve", "--dry-run", "--", "true"],
        &["reserve", "--format", "json", "--", "true"],
        &["reserve", "-o"],
        &["release", "--tag", "a", "--all-tags"],
        &["exclude"],
        &["exclude", "--remove"],
        &["migrate", "--from", "a"],
    ];
    for args in wrong {
        let said = call(&scene, "a", args).status(2).err("").run();
        assert!(!said.err.is_empty(), "{args:?} is refused without a word");
    }
    assert!(!scene.root().exists());
}

#[test]
fn tags_and_pools_are_completed() {
    let scene = Scene::new();
    reserve(&scene, "a", &["--tag", "web"]).out("").run();
    reserve(&scene, "a", &["--pool", "gpu", "--range", "0-7", "--tag", "train"]).out("").run();
    reserve(&scene, "b", &["--tag", "elsewhere"]).out("").run();
    let completed = |words: &[&str]| {
        let command = scene.call(HELPER).arg("--").arg("aba-lock").args(words).current_dir(scene.path("a"));
        let command = command.env("ABA_LOCK_COMPLETE", "bash").env("_CLAP_IFS", "\n");
        let said = command.env("_CLAP_COMPLETE_INDEX", words.len().to_string()).out("").run().out;
        let mut words: Vec<String> = said.lines().map(str::to_owned).collect();
        words.sort();
        words
    };
    assert_eq!(completed(&["reserve", "--tag", ""]), ["train", "web"]);
    assert_eq!(completed(&["release", "--tag", "w"]), ["web"]);
    assert_eq!(completed(&["exclude", "--pool", ""]), ["gpu", "ports"]);
    assert_eq!(completed(&["reserve", "--path", ""]), ["<files>"]);
    assert_eq!(completed(&["reserve", "--", ""]), ["<command>"]);
    assert_eq!(completed(&["mig"]), ["migrate"]);
}
