//! Names, paths, options and the general output of the helper.

use crate::args::Cli;
use crate::args::examples::EXAMPLES;
use crate::process::file_mode;
use crate::scene::Scene;
use clap::CommandFactory;

#[test]
fn an_invalid_name_is_refused_with_the_rule() {
    let scene = Scene::new();
    for name in ["a/b", "../x", ".hidden", "a b", "", "ä", &"x".repeat(129)] {
        scene
            .aba(["lock", name, "--", "true"])
            .status(2)
            .err("a name is 1 to 128 of the characters A-Z a-z 0-9 . _ - : @ +")
            .run();
        scene.aba(["status", name]).status(2).err("invalid lock name ").run();
        scene.aba(["path", "--create", name]).status(2).err("invalid lock name ").run();
    }
    scene
        .aba(["lock", "/var/lock/x", "--", "true"])
        .status(2)
        .err("hint: to lock a file, use `--file /var/lock/x`\n")
        .run();
    scene.once(["-wi", "library/nginx", "--", "true"]).status(2).err(", for example: \"library-nginx\"\n").run();
    assert!(!scene.root().exists(), "a refused name leaves nothing behind");
}

#[test]
fn every_valid_name_can_be_locked() {
    let scene = Scene::new();
    for name in ["a", "A.b_c-d:e@f+g", "0", &"x".repeat(128)] {
        scene.aba(["lock", name, "--", "true"]).run();
        assert!(scene.lock_file(name).is_file());
    }
}

#[test]
fn wrong_usage_exits_with_2_and_locks_nothing() {
    let scene = Scene::new();
    let wrong: [&[&str]; 14] = [
        &["lock"],
        &["lock", "a"],
        &["lock", "--", "true"],
        &["lock", "--fd", "9"],
        &["lock", "a", "--fd", "9", "--", "true"],
        &["lock", "a", "--fd", "x"],
        &["lock", "a", "b", "--fd", "9"],
        &["lock", "-o", "a", "--fd", "9"],
        &["lock", "--on-busy", "x", "a", "--fd", "9"],
        &["lock", "-t", "abc", "a", "--", "true"],
        &["lock", "-t", "-1", "a", "--", "true"],
        &["lock", "-E", "256", "a", "--", "true"],
        &["lock", "--file", "f", "a", "--", "true"],
        &["unlock"],
    ];
    for args in wrong {
        let said = scene.aba(args).status(2).err("").run();
        assert!(!said.err.is_empty(), "{args:?} is refused without a word");
    }
    scene.aba(["lock", "--on-busy", "", "a", "--", "true"]).status(2).err("the command of --on-busy is empty").run();
    assert!(!scene.root().exists());
}

#[test]
fn without_home_the_home_directory_is_read_from_passwd() {
    let scene = Scene::new();
    let said = scene.bash("unset HOME ABA_LOCK_DIR; \"$HELPER\" path a; unset HOME; echo ~").out("").run();
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], format!("{}/.aba/aba-a.lock", lines[1]));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let scene = Scene::new();
    scene
        .aba(["path", "a"])
        .env("ABA_LOCK_DIR", "")
        .out(format!("{}/.aba/aba-a.lock\n", scene.path("").display()).replace("//", "/"))
        .run();
}

#[test]
fn path_creates_a_private_file_in_a_private_directory() {
    let scene = Scene::new();
    scene.aba(["path", "a"]).out("aba-a.lock").run();
    assert!(!scene.root().exists(), "without --create nothing is made");
    scene.bash("umask 0; \"$HELPER\" path --create a").out("aba-a.lock").run();
    let mode = |path: std::path::PathBuf| file_mode(path);
    assert_eq!(mode(scene.root()), 0o700);
    assert_eq!(mode(scene.lock_file("a")), 0o600);
}

#[test]
fn a_foreign_variable_named_complete_is_ignored() {
    let scene = Scene::new();
    scene.aba(["lock", "a", "--", "true"]).env("COMPLETE", "1").run();
}

#[test]
fn the_help_lists_every_command_in_a_group() {
    let help = Scene::new().aba(["--help"]).out("Examples:\n  aba-lock lock backup -- ").run().out;
    for command in Cli::command().get_subcommands() {
        assert!(help.contains(&format!("\n  {:12} ", command.get_name())), "{}: {help}", command.get_name());
    }
}

#[test]
fn every_command_has_at_least_five_examples() {
    for command in Cli::command().get_subcommands().map(clap::Command::get_name).filter(|command| *command != "lease") {
        let number = EXAMPLES.iter().filter(|(of, ..)| *of == command).count();
        assert!(number >= 5, "{command} has only {number}");
    }
}

#[test]
fn help_is_also_a_command_and_the_answer_to_no_arguments() {
    let scene = Scene::new();
    let help = scene.aba(["--help"]).out("Usage:").run().out;
    for call in [[].as_slice(), &["help"]] {
        assert_eq!(scene.aba(call).out("Usage:").run().out, help);
    }
    let commands: Vec<String> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    // Only the keeper can print the help of `lease`. `flock --help` prints the short help.
    for command in commands.iter().filter(|command| !["lease", "flock"].contains(&command.as_str())) {
        let help = scene.aba([command, "--help"]).out("Usage:").run().out;
        assert_eq!(scene.aba(["help", command]).out("Usage:").run().out, help);
    }
    scene.aba(["help", "no-such-command"]).status(2).err("no-such-command").run();
}

#[test]
fn help_and_version_go_to_stdout() {
    let scene = Scene::new();
    scene.aba(["--help"]).out("Exit status:").out("ABA_LOCK_DIR").run();
    let lock = scene.aba(["lock", "--help"]).out("--no-inherit").out("Examples:").run().out;
    assert!(
        !lock.contains("free lock"),
        "`lock` never exits with the status that `status` has for a free lock: {lock}"
    );
    let version = scene.aba(["--version"]).out("").run().out;
    assert_eq!(scene.aba(["-V"]).out("").run().out, version);
}

#[test]
fn the_version_names_the_commit_if_it_is_known_and_the_target() {
    let said = Scene::new().aba(["--version"]).out("").run().out;
    let start = concat!("aba-lock ", env!("CARGO_PKG_VERSION"), " (");
    let build = said.strip_prefix(start).and_then(|rest| rest.strip_suffix(")\n")).expect(&said);
    let (commit, target) = build.rsplit_once(", ").map_or((None, build), |(commit, target)| (Some(commit), target));
    assert!(target.starts_with(std::env::consts::ARCH) && target.contains(std::env::consts::OS), "{said}");
    if let Some((hash, date)) = commit.map(|commit| commit.split_once(' ').expect(&said)) {
        assert!(hash.len() == 9 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{said}");
        assert!(date.len() == 10 && date.split('-').all(|part| part.parse::<u16>().is_ok()), "{said}");
    }
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let scene = Scene::new();
    scene.bash("set -o pipefail; \"$HELPER\" init bash | head -n 1 >/dev/null; [[ $? == 0 || $? == 141 ]]").run();
}
