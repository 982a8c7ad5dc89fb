//! `reserve --group`, `--group-file`, `--format` and `--dotenv`: several numbers, and the variables that hold them.

use crate::process::{count_waiters, list_files, wait_until};
use crate::reserve::{call, number, registry, reserve, rows};
use crate::scene::Scene;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_group_gets_the_lowest_adjacent_numbers_or_none() {
    let scene = Scene::new();
    reserve(&scene, "x", &["--require", "5001"]).out("5001").run();
    let said = reserve(&scene, "a", &["--group", "web,db,cache"]).out("").run().out;
    assert_eq!(said, "5002\n5003\n5004\n");
    assert_eq!(reserve(&scene, "a", &["--group", "web,db,cache"]).out("").run().out, said, "the same again");
    // Each number of a group is an ordinary number.
    assert_eq!(number(reserve(&scene, "a", &["--tag", "db"])), 5003);
    // A missing number is taken next to the others if possible.
    assert_eq!(reserve(&scene, "b", &["--group", "p,q", "--range", "5010-5012"]).out("").run().out, "5010\n5011\n");
    call(&scene, "b", ["release", "--tag", "q"]).run();
    assert_eq!(reserve(&scene, "b", &["--group", "p,q"]).out("").run().out, "5010\n5011\n");
    assert_eq!(reserve(&scene, "b", &["--group", "n,p,q"]).out("").run().out, "5009\n5010\n5011\n");
    let before = fs::read(registry(&scene, "ports")).unwrap();
    reserve(&scene, "c", &["--group", "k,l,m", "--range", "5003-5006"])
        .status(75)
        .err("no place for a group of 3 numbers of pool ports in 5003-5006: 2 reserved, 0 leased, 0 excluded, 0 in use, 2 free")
        .run();
    assert_eq!(fs::read(registry(&scene, "ports")).unwrap(), before, "nothing is left of it");
    reserve(&scene, "c", &["--group", "k,k"]).status(2).err("given twice").run();
    reserve(&scene, "c", &["--group", "k,,l"]).status(2).err("invalid tag \"").run();
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
    // For another directory, neither the base nor the preferred number is available.
    let command = reserve(&scene, "b", &args).out("export DATABASE=").err("5500 is reserved for ");
    let said = command.err("the group cannot begin at 5100: 5102 is reserved; ").run();
    assert!(said.out.contains("WEB_PORT=5000\n") && said.out.contains("AUX_PORT=5007\n"), "{}", said.out);
    fs::write(scene.path("group.yaml"), file.replace("aux", "a;b")).unwrap();
    reserve(&scene, "c", &args).status(2).err("group.yaml, line 8: ").run();
    fs::write(scene.path("group.yaml"), file.replace("DATABASE", "X=$(id)")).unwrap();
    reserve(&scene, "c", &args).status(2).err("line 7: ").err("invalid variable ").run();
    let command = reserve(&scene, "c", &["--group-file", "none.yaml"]).status(125);
    command.err("cannot read none.yaml: No such file").run();
    assert_eq!(rows(&scene, "ports").len(), 6);
}

#[test]
fn output_for_eval_has_only_names_and_numbers() {
    let scene = Scene::new();
    let script =
        "eval \"$(\"$HELPER\" reserve --probe none --group web-1,db.x --format export)\"; echo $WEB_1_PORT $DB_X_PORT";
    assert_eq!(scene.bash(script).out("").run().out, "5000 5001\n");
    for (group, why) in [("9a", "invalid variable \"9A_PORT\" for tag \"9a\""), ("a-b,a.b", "A_B_PORT")] {
        let said = reserve(&scene, "a", &["--group", group, "--format", "export"]).status(2).err(why).run();
        assert!(said.out.is_empty());
        // The plain format has no names.
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
    // A missing file is created. If that fails, nothing is reserved.
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
    // The first process holds the file and will need the registry. The second waits for the file.
    let script = format!("cat; echo begun >../begun; read _ <{gate}; echo B=$(\"$HELPER\" reserve --probe none)");
    let first = call(&scene, "a", ["update", ".env", "--", "bash", "-c", &script]).start();
    wait_until("the first update runs", || scene.path("begun").exists());
    let second = reserve(&scene, "a", &["-q", "--tag", "web", "--dotenv", ".env"]).out("5001\n").start();
    wait_until("the second waits", || count_waiters(&scene.path("a/.env.lock")) > 0);
    gate.open();
    first.finish();
    second.finish();
    assert_eq!(fs::read_to_string(scene.path("a/.env")).unwrap(), "A=1\nB=5000\nWEB_PORT=5001\n");
}

#[test]
fn an_unclosed_quote_in_a_dotenv_file_affects_no_other_line() {
    let scene = Scene::new();
    let args = ["--group", "web,db", "--dotenv", ".env"];
    fs::create_dir(scene.path("a")).unwrap();
    let rest = "API_KEY=sk\nNAME=it\n# end\n";
    for value in ["\"3000", "'", "`", "\"a\\\""] {
        fs::write(scene.path("a/.env"), format!("DB_URL=x\nWEB_PORT={value}\n{rest}")).unwrap();
        reserve(&scene, "a", &args).out("5000\n5001\n").run();
        let text = fs::read_to_string(scene.path("a/.env")).unwrap();
        assert_eq!(text, format!("DB_URL=x\nWEB_PORT=5000\n{rest}DB_PORT=5001\n"), "{value}");
        // An unclosed quote in a foreign line does not hide the line of `reserve`.
        fs::write(scene.path("a/.env"), format!("A={value}\nWEB_PORT=1\n")).unwrap();
        reserve(&scene, "a", &args).out("5000\n5001\n").run();
        let text = fs::read_to_string(scene.path("a/.env")).unwrap();
        assert_eq!(text, format!("A={value}\nWEB_PORT=5000\nDB_PORT=5001\n"), "{value}");
    }
}

#[test]
fn a_group_file_is_never_read_partially() {
    let scene = Scene::new();
    fs::create_dir(scene.path("a")).unwrap();
    let args = ["--group-file", "group.yaml"];
    let group = "reservations:\n  services:\n    web:\n";
    fs::write(scene.path("a/group.yaml"), format!("\u{feff}{group}")).unwrap();
    reserve(&scene, "a", &args).status(2).err("line 1: the file begins with a byte order mark").run();
    // The part after the first megabyte is not just ignored.
    let filler = "# filler\n".repeat((1 << 20) / 9);
    fs::write(scene.path("a/group.yaml"), format!("{group}{filler}    db:\n    cache:\n")).unwrap();
    reserve(&scene, "a", &args).status(125).err("File too large").run();
    fs::write(scene.path("a/group.yaml"), format!("{group}    db:\n")).unwrap();
    reserve(&scene, "a", &args).out("5000\n5001\n").run();
}

#[test]
fn variables_with_a_meaning_of_their_own_are_refused() {
    let scene = Scene::new();
    for name in ["PATH", "path", "LD_PRELOAD", "ABA_LOCK_FDS", "IFS", "BASH_ENV", "UID", "status", "version", "PS1"] {
        for text in [format!("{{env: {name}}}"), format!("\n      env: {name}")] {
            fs::create_dir_all(scene.path("a")).unwrap();
            fs::write(scene.path("a/group.yaml"), format!("reservations:\n  services:\n    web: {text}\n")).unwrap();
            let command = reserve(&scene, "a", &["--group-file", "group.yaml", "--format", "export"]).status(2);
            command.err(format!("cannot use the variable {name}: it has a special meaning")).run();
        }
    }
    let path = ["--pool", "path", "--range", "1-9"];
    reserve(&scene, "a", &[&path[..], &["--format", "export"]].concat())
        .status(2)
        .err("cannot use the variable PATH: ")
        .run();
    reserve(&scene, "a", &[&path[..], &["--dotenv", "f"]].concat())
        .status(2)
        .err("cannot use the variable PATH: ")
        .run();
    reserve(&scene, "a", &path).out("1\n").run();
    reserve(&scene, "a", &["--format", "export", "--group", "path,user"]).out("export PATH_PORT=5000\n").run();
}

#[test]
fn a_dry_run_checks_the_dotenv_file_and_creates_none() {
    let scene = Scene::new();
    for more in [&[][..], &["--dry-run"]] {
        let said = reserve(&scene, "a", &[&["--dotenv", "none/x"][..], more].concat())
            .status(125)
            .err("cannot write none/x: No such file or directory\nhint: create its directory first: `mkdir -p ./none`")
            .run();
        assert!(!said.err.contains("--create"), "{}", said.err);
        reserve(&scene, "a", &[&["--dotenv", "."][..], more].concat()).status(125).err("").run();
    }
    fs::create_dir_all(registry(&scene, "")).unwrap();
    reserve(&scene, "a", &["--dry-run", "--dotenv", "x"]).out("5000\n").run();
    assert_eq!(list_files(registry(&scene, "")), [] as [&str; 0]);
    assert_eq!(list_files(scene.path("a")), [] as [&str; 0]);
}
