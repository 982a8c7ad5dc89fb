//! The options that `aba-lock lock` passes on to `aba-lock-keeper hold`, as the definitions of both programs list them.

use crate::args::Cli;
use crate::process::write_program;
use crate::repeated_options::{keeper, sample_value};
use crate::scene::{HELPER, Scene};
use clap::{Command, CommandFactory, Parser};
use std::collections::BTreeSet;

/// The options of `lock` that the keeper must not get.
const LOCAL: [&str; 19] = [
    // The helper takes the local locks, and describes them in `--lock`.
    "bind",
    "exclusive",
    "fd",
    "key",
    "reopen",
    "system",
    // A lease has a name, and no priorities: the helper refuses these with --server.
    "fcntl",
    "file",
    "priority",
    // The waiters of other machines are not known here.
    "coalesce",
    "replace",
    // The watcher of the local lock ends its holders; the lease ends with them.
    "grace",
    "max-time",
    // The keeper gets the words of the shell, and the silence and the status of a skipped call.
    "command",
    "skip-ok",
    // They are about the wait for the local locks.
    "await-open",
    "heed-keyboard",
    "try-first",
    "waited",
];

/// The options of `hold` for which `lock` has no option of the same name.
const DERIVED: [&str; 2] = ["lock", "script"];

fn find_options(command: &Command) -> BTreeSet<String> {
    command.get_arguments().filter_map(|arg| arg.get_long()).map(str::to_owned).collect()
}

#[test]
fn lock_passes_each_option_on_to_the_keeper_or_uses_it_itself() {
    let scene = Scene::new();
    let program = scene.path("keeper");
    write_program(&program, "#!/bin/sh\nprintf '%s\\n' \"$@\"\n");
    let mut forwarded = BTreeSet::new();
    for arg in Cli::command().find_subcommand("lock").unwrap().get_arguments() {
        let Some(long) = arg.get_long().filter(|long| !LOCAL.contains(long)) else { continue };
        let option = format!("--{long}");
        let takes_value = arg.get_action().takes_values() && long != "wait";
        let word = if takes_value { format!("{option}={}", sample_value(arg)) } else { option.clone() };
        let mut words = vec!["lock", "--server=http://server", "a", "--", "true"];
        words.splice(1..if long == "server" { 2 } else { 1 }, [word.as_str()]);
        let output = scene.program(HELPER).args(&words).env("ABA_LOCK_KEEPER", &program).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<&str> = text.lines().collect();
        let is_passed = words.iter().any(|word| word.split('=').next() == Some(&option));
        assert!(is_passed, "the keeper gets {option} as {words:?}");
        let parsed = keeper::Cli::try_parse_from(["aba-lock-keeper"].iter().chain(&words));
        assert!(parsed.is_ok(), "{words:?}: {}", parsed.unwrap_err());
        forwarded.insert(long.to_owned());
    }
    forwarded.extend(DERIVED.map(str::to_owned));
    assert_eq!(forwarded, find_options(keeper::Cli::command().find_subcommand("hold").unwrap()));
}
