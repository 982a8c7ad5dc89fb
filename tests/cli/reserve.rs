//! `reserve`, `release`, `exclude` and `migrate`: numbers for directories. The helpers here serve all tests of `reserve`.

use crate::call::Call;
use crate::process::file_mode;
use crate::scene::{HELPER, Scene};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

/// A call of the helper in a directory of the scene. Makes the directory.
pub(crate) fn call<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(scene: &Scene, directory: &str, args: I) -> Call {
    fs::create_dir_all(scene.path(directory)).unwrap();
    scene.aba(args).current_dir(scene.path(directory))
}

/// A call of `reserve` without a probe, so that the tests do not depend on the ports in use.
pub(crate) fn reserve(scene: &Scene, directory: &str, args: &[&str]) -> Call {
    let before_command = args.iter().position(|arg| *arg == "--").unwrap_or(args.len());
    let (options, command) = args.split_at(before_command);
    call(scene, directory, ["reserve"].iter().chain(options).chain(&["--probe", "none"]).chain(command))
}

/// Runs a call and returns the number that it prints.
pub(crate) fn number(call: Call) -> u32 {
    call.out("").run().out.trim_end().parse().unwrap()
}

pub(crate) fn registry(scene: &Scene, pool: &str) -> PathBuf {
    scene.root().join("reserve").join(pool)
}

/// The rows of a registry.
pub(crate) fn rows(scene: &Scene, pool: &str) -> Vec<String> {
    let text = fs::read_to_string(registry(scene, pool)).unwrap_or_default();
    text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

/// Makes a registry with these lines, by `--recover`.
pub(crate) fn set_registry(scene: &Scene, pool: &str, lines: &str) {
    fs::create_dir_all(scene.root().join("reserve")).unwrap();
    fs::write(registry(scene, pool), format!("aba-lock-registry 2\n{lines}")).unwrap();
    call(scene, ".", ["reserve", "--recover", "--pool", pool]).err("recovered ").run();
}

/// A row for an existing directory that was last used this number of days ago.
pub(crate) fn make_row(directory: &Path, number: u32, tag: &str, days: u64) -> String {
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
    // A directory below has a number of its own. Another path to a directory leads to the same number.
    assert_eq!(number(reserve(&scene, "a/c", &[])), 5003);
    symlink(scene.path("a"), scene.path("link")).unwrap();
    let link = scene.path("link");
    assert_eq!(number(reserve(&scene, "b", &["--path", link.to_str().unwrap()])), 5000);
    assert_eq!(number(reserve(&scene, "b", &["--path", "../b/../a/"])), 5000);
    assert_eq!(rows(&scene, "ports").len(), 4);
    for path in ["", "ports", "ports.lock"] {
        let mode = file_mode(registry(&scene, path));
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
    // The time of the last use is updated only if it is old.
    let row = make_row(&fs::canonicalize(scene.path("a")).unwrap(), 5000, "-", 3);
    set_registry(&scene, "ports", &row);
    reserve(&scene, "a", &[]).out("5000").run();
    let new = rows(&scene, "ports")[0].clone();
    let words = |row: &str| row.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (then, now) = (words(&row), words(&new));
    assert_eq!((&then[0], &then[1]), (&now[0], &now[1]), "the number and since when");
    assert!(now[2].parse::<u64>().unwrap() >= then[2].parse::<u64>().unwrap() + 3 * 86400);
}

#[test]
fn a_port_can_be_named_without_an_option_and_outside_of_the_default_range() {
    let scene = Scene::new();
    assert_eq!(number(reserve(&scene, "a", &["43000"])), 43000);
    assert_eq!(number(reserve(&scene, "b", &["--port", "43001"])), 43001);
    let call = call(&scene, "c", ["reserve", "--probe", "none", "43002", "--", "sh", "-c", "echo $ABA_NUMBER"]);
    call.out("43002\n").run();
    // Both are kept, also without the option, and they are reserved.
    assert_eq!(number(reserve(&scene, "a", &[])), 43000);
    let said = reserve(&scene, "c", &["43001"]).out("5000\n").err("43001 is reserved for ").run();
    assert!(said.err.ends_with("; reserved 5000 instead\n"), "{}", said.err);
    reserve(&scene, "c", &["--tag", "x", "--require", "43000"]).status(75).err("it is reserved for ").run();
    reserve(&scene, "c", &["--tag", "x", "--prefer", "70000"]).out("5001\n").err("70000 is not in 5000-7000").run();
    // A range is respected.
    reserve(&scene, "c", &["--tag", "y", "--range", "6000-6100", "43003"])
        .out("6000\n")
        .err("is not in 6000-6100")
        .run();
    for words in [&["43000", "--prefer", "43000"][..], &["--list", "43000"], &["--group", "a,b", "43000"]] {
        reserve(&scene, "a", words).status(2).err("").run();
    }
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
        let args = ["--tag", wanted, "--range", "5000-7000", "--exclude", "5600,5700-5800", "--require", wanted];
        let said = reserve(&scene, "b", &args).status(75).err(format!("cannot reserve {wanted}: {reason}")).run();
        assert!(said.err.contains("\nhint: "), "{}", said.err);
        assert_eq!(rows(&scene, "ports").len(), 1, "nothing is left of it");
    }
    for (at, (wanted, reason)) in
        [("6080", "is reserved for"), ("5505", "is excluded"), ("8080", "is not in 5000-7000")].iter().enumerate()
    {
        let instead = format!("{}", 5000 + at);
        let command = reserve(&scene, "b", &["--range", "5000-7000", "--tag", wanted, "--prefer", wanted])
            .out(format!("{instead}\n"));
        command.err(format!("aba-lock: {wanted} {reason}")).err(format!("; reserved {instead} instead\n")).run();
    }
    reserve(&scene, "c", &["-q", "--prefer", "6080"]).out("5003\n").run();
    // A key keeps its number, even if another one is preferred.
    reserve(&scene, "a", &["--prefer", "6001"])
        .out("6080\n")
        .err("6001 is not reserved: ")
        .err("already has 6080")
        .run();
    reserve(&scene, "a", &["--require", "6001"]).status(75).err("cannot reserve 6001: ").err("release").run();
    assert_eq!(number(reserve(&scene, "a", &["--require", "6080"])), 6080);
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
    // A removed directory can be released, too.
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
    let command = reserve(&scene, "c", &gpu).status(75).err("no number of pool gpu is free in 0-1: 2 reserved");
    command.err("--list --pool gpu").run();
    assert_eq!(number(reserve(&scene, "c", &[])), 5000);
    call(&scene, "c", ["reserve", "--pool", "gpu"]).status(2).err("the pool gpu has no default range").run();
    call(&scene, "c", ["reserve", "--range", "65000-66000"]).status(2).err("cannot probe 65000-66000: ").run();
    reserve(&scene, "d", &["--range", "70000-70001"]).out("70000\n").run();
    call(&scene, "d", ["reserve", "--pool", "a/b"]).status(2).err("invalid pool name").run();
    call(&scene, "d", ["reserve", "--tag", "a b"]).status(2).err("invalid tag \"").run();
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
    // One key cannot have two numbers.
    let before = fs::read(registry(&scene, "ports")).unwrap();
    let command = call(&scene, ".", ["migrate", "--from", "older", "--to", "new"]).status(1);
    command.err(format!("{} already has a number of pool ports", new.display())).run();
    assert_eq!(fs::read(registry(&scene, "ports")).unwrap(), before);
    let command = call(&scene, ".", ["migrate", "--from", "new", "--to", "none"]).status(125);
    command.err("cannot find the directory").run();
    fs::create_dir(scene.path("new/inner")).unwrap();
    let said = call(&scene, ".", ["migrate", "--from", "new", "--to", "new/inner"]).status(2);
    said.err("`--to` is inside `--from`").run();
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
    let command = reserve(&scene, ".", &["--path", "file"]).status(125);
    command.err("cannot find the directory file: Not a directory").run();
    reserve(&scene, ".", &["--path", "none"]).status(125).err("cannot find the directory none: No such file").run();
    let script = "mkdir gone; cd gone; rmdir ../gone; \"$HELPER\" reserve";
    scene.bash(&format!("cd '{}'; {script}", scene.path(".").display())).status(125).err("current directory").run();
    assert!(!scene.root().exists());
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

#[test]
fn the_largest_number_can_be_reserved() {
    let scene = Scene::new();
    let last = u32::MAX.to_string();
    let pool = ["--pool", "x", "--range", &last];
    let group = |range: &str| reserve(&scene, "a", &["--pool", "x", "--range", range, "--group", "a,b"]);
    group(&last).status(75).err("no place for a group of 2 numbers of pool x in 4294967295").run();
    group("4294967294-4294967295").out("4294967294\n4294967295\n").run();
    reserve(&scene, "b", &pool).status(75).err("1 reserved").run();
    fs::write(scene.path("b/far.yaml"), "reservations:\n  base: 4294967295\n  services:\n    a:\n    b:\n").unwrap();
    let far = ["--pool", "y", "--range", &last, "--group-file", "far.yaml"];
    reserve(&scene, "b", &far).status(75).err("no place").run();
}

#[test]
fn a_link_to_a_removed_directory_stands_for_that_directory() {
    let scene = Scene::new();
    reserve(&scene, "real/tree", &[]).out("5000\n").run();
    std::os::unix::fs::symlink("real/tree", scene.path("link")).unwrap();
    std::os::unix::fs::symlink("link", scene.path("second")).unwrap();
    fs::remove_dir(scene.path("real/tree")).unwrap();
    call(&scene, ".", ["reserve", "--check", "--path", "second"]).out("5000\n").run();
    call(&scene, ".", ["release", "--path", "second"]).run();
    assert_eq!(rows(&scene, "ports").len(), 0);
    std::os::unix::fs::symlink("loop", scene.path("loop")).unwrap();
    call(&scene, ".", ["release", "--path", "loop"]).status(125).err("").run();
}

#[test]
fn a_kept_number_that_the_options_rule_out_is_reported() {
    let scene = Scene::new();
    let call = |args: &[&str]| reserve(&scene, "a", args);
    call(&["--tag", "web", "--range", "5002"]).out("5002\n").run();
    let said = call(&["--tag", "web", "--range", "9000-9010"])
        .out("5002\n")
        .err("5002 is outside the range 9000-9010, but ")
        .run();
    let expected =
        "(web) already has it\nhint: to get another number, release that one first: `aba-lock release --tag web`\n";
    assert!(said.err.ends_with(expected), "{}", said.err);
    call(&["--tag", "web", "--exclude", "5000-5010"])
        .out("5002\n")
        .err("5002 is excluded by --exclude 5000-5010, but ")
        .run();
    call(&["--tag", "web", "--range", "5000-5010"]).out("5002\n").run();
    call(&["--tag", "web"]).out("5002\n").run();
    call(&["-q", "--tag", "web", "--range", "9000-9010"]).out("5002\n").run();
    // One message for each number.
    let said =
        call(&["--tag", "web", "--range", "9000-9010", "--prefer", "9001"]).out("5002\n").err("already has 5002").run();
    assert_eq!(said.err.matches("aba-lock: ").count(), 1, "{}", said.err);
    call(&["--pool", "gpu", "--range", "1-2"]).out("1\n").run();
    let moved = call(&["--pool", "gpu", "--range", "5-6"]).out("1\n");
    moved.err("1 is outside the range 5-6, but ").err("`aba-lock release --pool gpu`").run();
    // A number of a command is always in the range.
    call(&["--tag", "web", "--range", "9000-9010", "--", "sh", "-c", "echo $ABA_NUMBER"]).out("9000\n").run();
}
