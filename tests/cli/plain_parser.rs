//! The parser of plain calls must agree with clap.

use crate::args::{Cli, Invocation};
use crate::plain;
use crate::random::Random;
use clap::Parser;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Arguments of random command lines, valid and invalid.
const WORDS: &[&[u8]] = &[
    b"a",
    b"b",
    b"",
    b"-",
    b"--",
    b"--fd",
    b"200",
    b"0",
    b"-1",
    b"+5",
    b"4294967296",
    b"x",
    b"-t",
    b"--timeout",
    b"1.5",
    b".",
    b"-w",
    b"--wait",
    b"-n",
    b"--nonblock",
    b"-s",
    b"--shared",
    b"-x",
    b"--exclusive",
    b"--bind=9",
    b"-o",
    b"--no-inherit",
    b"-q",
    b"--quiet",
    b"-v",
    b"--verbose",
    b"--reopen",
    b"--try-first",
    b"--waited",
    b"--waited=0.25",
    b"--waited=",
    b"--heed-keyboard",
    b"--who",
    b"me",
    b"-E",
    b"7",
    b"--file",
    b"/f",
    b"-nq",
    b"-qw",
    b"-wq",
    b"-sqo",
    b"-xvw",
    b"-qq",
    b"-qt",
    b"--fd=200",
    b"--fd=201",
    b"--fd=0",
    b"--fd=-1",
    b"--fd=",
    b"--fd=x",
    b"-i",
    b"--id",
    b"-p",
    b"-A",
    b"-R",
    b"-e",
    b"-r",
    b"-W",
    b"--ttl",
    b"-m",
    b"-c",
    b"--list",
    b"--json",
    b"--time",
    b"-t5",
    b"-t=5",
    b"-t-5",
    b"-t5x",
    b"--timeout=5",
    b"--timeout=",
    b"--who=me",
    b"--who=",
    b"--who=--fd=7",
    b"--lease",
    b"--on-busy",
    b"--pid-file",
    b"--help",
    b"-h",
    b"true",
    b"\xff",
    b"a b",
    b"--kill",
    b"--wait=5",
    b"-w=5",
    b"--wait=",
];

fn to_words(line: &[&[u8]]) -> Vec<OsString> {
    line.iter().map(|word| OsStr::from_bytes(word).to_owned()).collect()
}

fn parse_with_clap(command: &str, words: &[OsString]) -> Option<Invocation> {
    let line = ["aba-lock", command].into_iter().map(OsString::from).chain(words.iter().cloned());
    Cli::try_parse_from(line).ok().map(|cli| cli.command)
}

/// Returns true if the line is plain. In this case clap must return the same.
fn is_plain(words: &[OsString]) -> bool {
    let lock = plain::parse_lock(words.iter().cloned()).map(Invocation::Lock);
    let unlock = plain::parse_unlock(words.iter().cloned()).map(Invocation::Unlock);
    let status = plain::parse_status(words.iter().cloned()).map(Invocation::Status);
    let task = plain::parse_run_once(words.iter().cloned()).map(Invocation::RunOnce);
    for (name, plain) in [("lock", &lock), ("unlock", &unlock), ("status", &status), ("run-once", &task)] {
        if let Some(plain) = plain {
            let clap = parse_with_clap(name, words).map(|command| format!("{command:?}"));
            assert_eq!(clap, Some(format!("{plain:?}")), "{name} {words:?}");
        }
    }
    lock.is_some() || unlock.is_some() || status.is_some() || task.is_some()
}

#[test]
fn the_most_frequent_calls_of_scripts_are_plain() {
    for line in [
        "--reopen --fd 200 backup",
        "--reopen --try-first -t 60 --fd 200 backup",
        "--reopen -w -q --who me --fd 200 backup",
        "-t 60 backup -- ./backup.sh -x -- --fd",
        "-n db cache -- true",
        "-nq backup -- true",
        "-sqw backup -- true",
        "-s -o a -- true",
        "--fd 200 --fd 201 a b",
        "--fd 200 backup",
        "--wait=60 --fd 200 backup",
        "-w=60 backup -- true",
        "--fd=200 backup",
        "--reopen --try-first --fd=200 a --fd=201 b",
        "--try-first --reopen --wait=60 --who=me --fd 200 backup",
        "--reopen --timeout=5 --fd=200 backup",
        "--reopen -t5 --fd 200 backup",
        "--wait=1h30m --fd 200 backup",
        "-t 90s backup -- true",
        "--waited=1.25 --heed-keyboard --reopen --wait --fd 200 backup",
    ] {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(plain::parse_lock(words.clone().into_iter()).is_some(), "{line}");
        assert!(is_plain(&words), "{line}");
    }
    for line in
        ["-i fetch -- make download", "-w -i fetch", "-w -t 3600 -i latest -- ./look-up", "-q -p -i a", "-o -i a"]
    {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(plain::parse_run_once(words.clone().into_iter()).is_some(), "{line}");
        assert!(is_plain(&words), "{line}");
    }
    for line in ["--fd 200 a", "--fd=200 a", "--fd=200"] {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(plain::parse_unlock(words.clone().into_iter()).is_some(), "{line}");
        assert!(is_plain(&words), "{line}");
    }
    for line in ["a", "-q a", "--json a", "--quiet --fd 200 a", "--quiet --lease --fd=200 a"] {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        assert!(plain::parse_status(words.clone().into_iter()).is_some(), "{line}");
        assert!(is_plain(&words), "{line}");
    }
}

#[test]
fn the_plain_parser_agrees_with_clap() {
    let mut random = Random::new(0);
    let mut plain = 0;
    for _ in 0..30_000 {
        // One in three lines begins with a name, as most valid ones do.
        let mut line: Vec<&[u8]> = if random.one_in(3) { vec![b"a"] } else { Vec::new() };
        line.extend((0..random.below(6)).map(|_| *random.pick(WORDS)));
        if random.one_in(3) {
            line.extend([b"-i".as_slice(), b"a"]);
        }
        match random.below(3) {
            0 => line.extend([b"--".as_slice(), b"true"]),
            1 => line.extend([b"--fd".as_slice(), b"200"]),
            _ => {}
        }
        plain += usize::from(is_plain(&to_words(&line)));
    }
    assert!(plain > 1000, "only {plain} of the lines were plain");
}
