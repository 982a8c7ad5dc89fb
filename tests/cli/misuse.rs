//! Command lines that cannot be parsed: the message names the mistake, and the hint has the line that was probably meant.

use crate::args::Cli;
use crate::process::write_program;
use crate::scene::Scene;
use clap::Parser;
use clap::error::ErrorKind;
use std::fs;
use std::path::Path;

/// Runs the helper with these words, and expects a usage error with these texts.
fn refuse(words: &str, texts: &[&str]) {
    let scene = Scene::new();
    let mut call = scene.aba(shell_words::split(words).unwrap()).status(2).err("aba-lock: ");
    for text in texts {
        call = call.err(*text);
    }
    let said = call.run().err;
    assert!(said.lines().last().unwrap().starts_with("hint: ") && !said.contains("\n\n"), "{words}: {said}");
    assert!(!scene.root().exists(), "{words}");
}

#[test]
fn a_missing_separator_before_the_command_is_named() {
    let advice = "hint: write `--` before the command: ";
    for (words, meant) in [
        ("lock backup rsync -a src dst", "lock backup -- rsync -a src dst"),
        ("lock backup true", "lock backup -- true"),
        ("lock backup sh -c 'echo $HOME'", "lock backup -- sh -c 'echo $HOME'"),
        ("lock -qt 60 backup ./backup.sh --full", "lock -qt 60 backup -- ./backup.sh --full"),
        ("lock --wait=5 db cache sh -x migrate", "lock --wait=5 db cache -- sh -x migrate"),
        ("lock backup -w no-such-program", "lock backup -w -- no-such-program"),
        ("lock backup 'rsync -a src dst'", "lock backup -- sh -c 'rsync -a src dst'"),
        ("lock --file /tmp/f true -x", "lock --file /tmp/f -- true -x"),
        ("lock --file /tmp/f true", "lock --file /tmp/f -- true"),
        ("lock --file /tmp/f ./run", "lock --file /tmp/f -- ./run"),
        ("run-once -i fetch make download", "run-once -i fetch -- make download"),
        ("run-once -w fetch sh -c true", "run-once -w -i fetch -- sh -c true"),
        ("reserve --tag test ./run-tests -v", "reserve --tag test -- ./run-tests -v"),
    ] {
        refuse(words, &[&format!("{advice}`aba-lock {meant}`\n")]);
    }
    refuse("lock backup", &["lock: missing argument: ", "after `--`: `aba-lock lock backup -- COMMAND`"]);
    refuse("lock ./backup.sh -v", &["hint: name the lock: `aba-lock lock NAME -- ./backup.sh -v`\n"]);
    let file = "hint: lock the file with --file: ";
    for (words, meant) in [
        ("lock /path/o.lock echo hi", "lock --file /path/o.lock -- echo hi"),
        ("lock -q ./state sh -c 'echo hi'", "lock -q --file ./state -- sh -c 'echo hi'"),
        ("lock /path/o.lock", "lock --file /path/o.lock -- COMMAND"),
    ] {
        refuse(words, &[&format!("{file}`aba-lock {meant}`\n")]);
    }
    refuse("lock /path/o.lock -c 'echo hi'", &["hint: to lock a file, use `--file /path/o.lock`\n"]);
    refuse("lock /bin/cp echo hi", &["hint: name the lock: `aba-lock lock NAME -- /bin/cp echo hi`\n"]);
    refuse("lock -- ./backup.sh", &["hint: name the lock: `aba-lock lock NAME -- ./backup.sh`\n"]);
    refuse("run-once fetch -- make", &["hint: name the task with -i: `aba-lock run-once -i fetch -- make`\n"]);
    refuse("lock -c true", &["hint: name the lock: `aba-lock lock NAME -c true`\n"]);
    refuse(
        "run-once -w -i z --grace 2 -- true",
        &["run-once: missing argument: --max-time TIME\n", "hint: see `aba-lock run-once --help`\n"],
    );
    for words in ["lock backup --", "lock backup -w --", "lock --file /tmp/f --"] {
        let hint = format!("hint: write the command to run after `--`: `aba-lock {words} COMMAND`\n");
        refuse(words, &["lock: missing argument: --fd N or CMD\n", &hint]);
    }
    for (words, meant) in [
        ("run-once -r fetch", "run-once -r -i fetch"),
        ("run-once -t 5 fetch", "run-once -t 5 -i fetch"),
        ("run-once -w -- ./step", "run-once -w -i ID -- ./step"),
        ("run-once -w", "run-once -w -i ID"),
        ("run-once ./step", "run-once -i ID -- ./step"),
        ("run-once -w ./step --all", "run-once -w -i ID -- ./step --all"),
    ] {
        refuse(words, &[&format!("hint: name the task with -i: `aba-lock {meant}`\n")]);
    }
    // The command of `update` and `flock` needs no separator.
    refuse("update f.yaml", &["update: missing argument: CMD", "`COMMAND | aba-lock write FILE`\n"]);
}

#[test]
fn words_of_other_tools_have_a_hint_with_the_command_to_type() {
    for (words, meant) in [
        ("exec backup -- rsync -a src dst", "aba-lock lock backup -- rsync -a src dst"),
        ("run backup rsync -a src dst", "aba-lock lock backup -- rsync -a src dst"),
        ("with", "aba-lock lock NAME -- COMMAND"),
        ("backup -- ./backup.sh", "aba-lock lock backup -- ./backup.sh"),
        ("-w backup -- ./backup.sh", "aba-lock lock -w backup -- ./backup.sh"),
        ("kill backup", "aba-lock unlock backup --kill"),
        ("wait-for backup", "aba-lock wait backup"),
        ("logs", "aba-lock run-once -o -i ID"),
        ("once -i fetch -- make", "aba-lock run-once -i fetch -- make"),
        ("ls", "aba-lock list"),
        ("ps", "aba-lock list --held"),
        ("info backup", "aba-lock status backup"),
        ("port", "aba-lock reserve"),
        ("edit hosts.yaml", "aba-lock update hosts.yaml -- COMMAND"),
    ] {
        let word = shell_words::split(words).unwrap().remove(0);
        let mistake = if word.starts_with('-') { "option" } else { "command" };
        refuse(words, &[&format!("no such {mistake}: {word}\n"), &format!("`{meant}`")]);
    }
    refuse("free", &["`aba-lock reserve`", "`aba-lock unlock NAME --kill`"]);
    refuse("lst", &["did you mean", "`list`"]);
    // A typing error in a command, and not the name of a lock.
    for word in ["lokc", "lcok", "lok", "lockk", "lick"] {
        refuse(&format!("{word} backup -- true"), &[&format!("no such command: {word}\nhint: did you mean `lock`?\n")]);
    }
    refuse("rnu-once -i fetch -- make", &["hint: did you mean `run-once`?\n"]);
    refuse("staus backup", &["hint: did you mean `status`?\n"]);
    refuse("frobnicate", &["no such command: frobnicate\nUsage: ", "hint: see `aba-lock help`\n"]);
    refuse("help frobnicate", &["no such command: frobnicate\nUsage: ", "hint: see `aba-lock help`\n"]);
}

#[test]
fn a_word_that_is_the_value_of_an_option_has_a_hint_with_the_option() {
    for (words, meant) in [
        ("reserve api", "reserve --tag api"),
        ("reserve --port 3000 api", "reserve --port 3000 --tag api"),
        ("reserve api -- true", "reserve --tag api -- true"),
        ("reserve api ./run-tests", "reserve --tag api -- ./run-tests"),
        ("reserve --prefer 3 api true", "reserve --prefer 3 --tag api -- true"),
    ] {
        refuse(words, &[&format!("hint: name the number with --tag: `aba-lock {meant}`\n")]);
    }
    refuse("reserve web api", &["hint: name the numbers with --group: `aba-lock reserve --group web,api`\n"]);
    // Not the next error.
    for words in ["reserve --prune api", "run-once -G fetch"] {
        let command = words.split(' ').next().unwrap();
        refuse(words, &[&format!("hint: see `aba-lock {command} --help`\n")]);
    }
    for (words, meant) in [
        ("run-once -w 5 -i x", "run-once -W 5 -i x"),
        ("run-once -i x --wait 5 -- true", "run-once -i x -W 5 -- true"),
        ("run-once -qw 5 -i x", "run-once -qw -W 5 -i x"),
    ] {
        refuse(words, &[&format!("hint: wait for at most 5 seconds: `aba-lock {meant}`\n")]);
    }
    refuse("run-once -w 1h30m -i x", &["hint: wait for at most 1h30m: `aba-lock run-once -W 1h30m -i x`\n"]);
    refuse("help lock --wait", &["aba-lock: help: unexpected argument: --wait\nhint: ", "`aba-lock help lock`\n"]);
    refuse(
        "reserve --range 8000-7000",
        &["invalid value '8000-7000' for '--range <A-B>': the range ends before it begins\n"],
    );
    let scene = Scene::new();
    let call = |value: &str| scene.aba(["lock", "a", "--", "true"]).env("ABA_LOCK_TIMEOUT", value).status(2);
    for wrong in ["soon", "1h30", "1D"] {
        let text = format!("aba-lock: ABA_LOCK_TIMEOUT is \"{wrong}\", which is not a time such as 30, 90s or 1h30m\n");
        assert_eq!(call(wrong).err("ABA_LOCK_TIMEOUT").run().err, text);
    }
}

#[test]
fn a_mistake_in_a_call_of_the_library_names_its_help() {
    let scene = Scene::new();
    let call = scene
        .bash_with_library("aba_lock_operation --wait=abc a")
        .status(2)
        .err("aba-lock: aba_lock_operation: invalid value 'abc' for ");
    call.err("\nhint: see `aba_lock_operation --help`\n").run();
    let call = scene.bash_with_library("aba_lock_operation --wait=1 --timeout=2 a").status(2);
    let text = "aba-lock: aba_lock_operation: give either --wait=TIME or --timeout, not both\n";
    call.err(format!("{text}hint: see `aba_lock_operation --help`\n")).run();
}

#[test]
fn options_of_other_tools_have_a_hint() {
    for (words, mistake, hint) in [
        ("lock --force backup -- true", "lock: no such option: --force", "`aba-lock unlock backup --kill`"),
        ("lock --no-wait backup -- true", "lock: no such option: --no-wait", "does not wait without --wait"),
        (
            "lock --timeout=1y backup -- true",
            "invalid value '1y' for '--timeout <TIME>'",
            "not a time such as 30, 90s or 1h30m",
        ),
        ("lock --wait=1h5 backup -- true", "invalid value '1h5' for '--wait[=<TIME>]'", "not a time such as"),
        ("lock -w60 backup -- true", "lock: no such option: -6", "`--wait=60`"),
        ("lock -w1m backup -- true", "lock: no such option: -1", "wait for at most 1m: `--wait=1m`"),
        ("lock -w1 backup -- true", "lock: no such option: -1", "wait for at most 1 second: `--wait=1`"),
        ("lock -t -1 backup -- true", "lock: no such option: -1", "cannot be negative"),
        ("run-once -w60 -i a -- true", "run-once: no such option: -6", "`--wait --timeout 60`"),
        (
            "run-once -t 1y -i a",
            "run-once: invalid value '1y' for '--ttl <TIME>'",
            "not a time such as 30, 90s or 1h30m",
        ),
        ("lock --fd x backup", "lock: invalid value 'x' for '--fd <N>': not a number\n", "`aba-lock lock --help`"),
        ("lock --no-inherit=1 a -- true", "lock: unexpected value '1'", "`aba-lock lock --help`"),
        ("unlock -9 backup", "unlock: no such option: -9", "`aba-lock unlock backup --kill=KILL`"),
        ("unlock backup --kill 9", "unlock: unexpected argument: 9\n", "hint: write `--kill=9`\n"),
        ("unlock --kill INT backup", "unlock: unexpected argument: backup\n", "hint: write `--kill=INT`\n"),
        ("unlock a b", "unlock: unexpected argument: b\n", "hint: give one name; "),
        ("lock -w 60 --file o.lock -- true", "lock: 60 would be the name of a lock, not a time", "use --wait=60\n"),
        ("lock --file o.lock -qw 1m -- true", "lock: 1m would be the name of a lock, not a time", "use --wait=1m\n"),
        ("lock --wait 60 --file o true", "lock: 60 would be the name of a lock, not a time", "use --wait=60\n"),
        ("reserve -p 8080", "reserve: no such option: -p", "`--prefer 8080`; fail if it is not: `--require 8080`"),
        (
            "reserve 3",
            "reserve: invalid value '3' for '[N]': write --prefer 3 for this number, or --group TAG,TAG... for several numbers\n",
            "`aba-lock reserve --help`",
        ),
        (
            "reserve --pool x --range 3 -- true",
            "reserve: invalid value '3' for '--range <A-B>': write 1-3 for 3 numbers, or 3-3 for this number only\n",
            "`aba-lock reserve --help`",
        ),
        ("reserve --number=9", "reserve: no such option: --number", "`--prefer 9`"),
        ("run-once --wait=60 -i a -- true", "run-once: unexpected value '60'", "`--wait --timeout 60`"),
        ("update --wait f true", "update: no such option: --wait", "`--timeout 60`"),
        ("write f text", "write: unexpected argument: text", "`COMMAND | aba-lock write FILE`"),
        ("release backup", "release: unexpected argument: backup", "`aba-lock unlock backup --kill`"),
        ("status -q", "status: missing argument: NAME or --key TEXT or --file PATH\n", "`aba-lock status --help`"),
        ("lock --wiat backup -- true", "lock: no such option: --wiat", "did you mean `--wait`?"),
    ] {
        refuse(words, &[mistake, hint]);
    }
    refuse("lock -t soon backup -- true", &["not a time such as 30, 90s or 1h30m\n"]);
    refuse(
        "lock -w 60 backup -- true",
        &["lock: 60 would be the name of a lock, not a time to wait\n", "use --wait=60\n"],
    );
}

#[test]
fn an_option_for_leases_needs_a_server() {
    let mistake = |option| format!("lock: {option} needs a lease, and no server is named\n");
    let server = "hint: name the server with --server URL";
    refuse(
        "lock --ttl 10m a -- true",
        &[&mistake("--ttl"), &format!("{server}; to limit the time of the command: --max-time 600\n")],
    );
    refuse("lock --on-lost warn a -- true", &[&mistake("--on-lost"), &format!("{server}\n")]);
    refuse("lock --ttl 10s --file /dev/null -- true", &["lock: --ttl needs a lease, and a lock of --file"]);
    refuse("lock --ttl 10s --fd 0 a", &[&mistake("--ttl"), &format!("{server}\n")]);
    let scene = Scene::new();
    scene.aba(["lock", "--ttl", "10s", "--on-lost", "warn", "--server", "", "a", "--", "true"]).run();
    let default = scene.aba(["lock", "a", "--", "true"]);
    default.env("ABA_LOCK_TTL", "10s").env("ABA_LOCK_ON_LOST", "warn").run();
}

#[test]
fn the_mistakes_of_write_name_its_own_help() {
    for words in ["write --check '' f", "write --backup= f", "write --backup=a/b f"] {
        refuse(words, &["write: the ", "hint: see `aba-lock write --help`\n"]);
    }
    refuse("update --check '' f true", &["update: the command of --check is empty\n", "`aba-lock update --help`\n"]);
}

#[test]
fn a_command_that_cannot_be_run_has_a_hint_about_its_text_or_file() {
    let scene = Scene::new();
    let script = scene.path("script");
    let path = script.to_str().unwrap();
    let call = |command: &str, status: i32| scene.aba(["lock", "a", "--", command]).status(status);
    call("echo a b", 127).err("command not found: echo a b\nhint: ").err("`-- sh -c 'echo a b'`\n").run();
    fs::write(&script, "#!/bin/sh\n").unwrap();
    call(path, 126).err(format!("hint: make it executable with `chmod +x {path}`")).run();
    write_program(&script, "#!/bin/no-such-shell\r\n");
    call(path, 127).err("hint: the file exists, but not the interpreter in its first line").run();
    call("cd", 127).err("command not found: cd\nhint: cd is a builtin of the shell, not a program: run it in a shell, as in `-- sh -c 'cd ...'`\n").run();
    // The last two are of bash before 4.4.
    for variable in ["BASH_FUNC_deploy%%", "BASH_FUNC_deploy()", "deploy"] {
        let function = call("deploy", 127).env(variable, "() {  true\n}");
        function
            .err("hint: deploy is a function of the shell, not a program: `-- bash -c 'deploy \"$@\"' deploy`\n")
            .run();
    }
    let said = call("deploy", 127).env("deploy", "yes").err("command not found: deploy\n").run().err;
    assert!(!said.contains("hint"), "{said}");
    let said = call("no-such-program", 127).err("command not found: no-such-program\n").run().err;
    assert!(!said.contains("hint"), "{said}");
}

/// A hint must not lead to the next error.
#[test]
fn every_call_in_the_hints_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/aba-lock/output/guesses.rs");
    let text = fs::read_to_string(path).unwrap().replace("\\\n", "").replace("\\\"", "\"");
    let calls =
        text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("aba-lock ").map(|(_, call)| call));
    let mut number = 0;
    for call in calls.filter(|call| !call.contains("init bash") && !call.contains("completions")) {
        let words = shell_words::split(call).unwrap();
        let parsed = Cli::try_parse_from(std::iter::once("aba-lock".to_owned()).chain(words));
        let is_valid = |error: clap::Error| [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind());
        assert!(parsed.map_or_else(is_valid, |_| true), "{call}");
        number += 1;
    }
    assert!(number > 30, "{number}");
}

#[test]
fn a_conflict_status_is_refused_with_a_command_for_contention() {
    let scene = Scene::new();
    for option in ["-E0", "--conflict-exit-code=0"] {
        let call = ["lock", option, "--on-busy", "exit 9", "a", "--", "true"];
        scene
            .aba(call)
            .status(2)
            .err("lock: -E has no effect with --on-busy, whose command sets the exit status\n")
            .run();
    }
    assert!(!scene.lock_file("a").exists());
}
