//! The helper as `flock` compared with flock(1) of the system: the same command lines, exit statuses and effects.

use crate::process::{wait_until, write_program};
use crate::random::Random;
use crate::scene::{HELPER, Scene};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A directory for each of the two programs, in which it is called `flock`, with the other programs of the table.
struct Comparison {
    scene: Scene,
    real: PathBuf,
    number: usize,
}

/// The result of a command line: its exit status, its output, and the files that it left.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: i32,
    text: String,
    files: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Theirs,
    Ours,
}

/// The lock that another process holds on the file `f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileState {
    Free,
    Held,
    Shared,
}

impl Comparison {
    fn new() -> Self {
        let scene = Scene::new();
        let found = Command::new("sh").args(["-c", "command -v flock"]).output().unwrap();
        let real = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
        assert!(real.is_absolute(), "there is no flock(1) to compare with");
        for (side, program) in [("theirs", real.as_path()), ("ours", Path::new(HELPER))] {
            fs::create_dir(scene.path(side)).unwrap();
            symlink(program, scene.path(side).join("flock")).unwrap();
            let probe = format!(
                "#!/bin/sh\nif {0} -n \"$1\" true; then echo free; elif {0} -ns \"$1\" true; then echo shared; else echo held; fi\n",
                real.display()
            );
            write_program(&scene.path(side).join("probe"), &probe);
        }
        Self { scene, real, number: 0 }
    }

    fn directory(&self, side: Side) -> PathBuf {
        self.scene.path(if side == Side::Ours { "ours" } else { "theirs" })
    }

    /// Runs a command in a fresh directory.
    fn run(&mut self, side: Side, state: FileState, words: &[OsString]) -> Outcome {
        self.number += 1;
        let directory = self.scene.path(&format!("{}", self.number));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("in"), "input\n").unwrap();
        let holder = (state != FileState::Free).then(|| {
            let mut command = Command::new(&self.real);
            command.args(if state == FileState::Shared { &["-s", "f"][..] } else { &["f"] });
            let mut holder =
                EndedWithTest(command.arg("cat").current_dir(&directory).stdin(Stdio::piped()).spawn().unwrap());
            let file = directory.join("f");
            let is_held = || {
                file.exists() && !Command::new(&self.real).arg("-n").arg(&file).arg("true").status().unwrap().success()
            };
            wait_until("it is held", is_held);
            assert!(holder.0.try_wait().unwrap().is_none());
            holder
        });
        let (out, path) = (self.scene.path("out"), std::env::var("PATH").unwrap());
        let mut command = self.scene.program("timeout");
        command.args(["-k", "5", "30"]).args(words).current_dir(&directory);
        command.env("PATH", format!("{}:{path}", self.directory(side).display())).env("LC_ALL", "C");
        command.stdin(File::open(directory.join("in")).unwrap());
        command.stdout(File::create(&out).unwrap()).stderr(Stdio::null());
        let status = command.status().unwrap().code().unwrap_or(-1);
        drop(holder);
        let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut files: Vec<String> = entries.map(|name| name.as_bytes().escape_ascii().to_string()).collect();
        files.sort();
        fs::remove_dir_all(&directory).unwrap();
        Outcome { status, text: String::from_utf8_lossy(&fs::read(&out).unwrap()).into_owned(), files }
    }

    fn run_line(&mut self, side: Side, state: FileState, line: &str) -> Outcome {
        self.run(side, state, &["sh".into(), "-c".into(), line.into()])
    }

    /// Returns true if the differences to the flock(1) of the system are known.
    fn is_known(&self) -> bool {
        let said = Command::new(&self.real).arg("--version").output().unwrap().stdout;
        String::from_utf8_lossy(&said).contains("util-linux 2.38")
    }
}

/// A process that ends with the test.
struct EndedWithTest(Child);

impl Drop for EndedWithTest {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A line of the table. If the programs differ, the exit status and output of flock(1) and of the helper.
type Row = (String, Option<[(i32, String); 2]>);

/// Reads the lines of the table for a file in this state.
fn read_table(state: FileState) -> Vec<Row> {
    let mut now = FileState::Free;
    let mut lines = Vec::new();
    let text = include_str!("flock_comparison.table");
    // An argument may contain a newline.
    let text = text.replace("'\n'", "'\u{1}'");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        now = match line {
            "@free" => FileState::Free,
            "@held" => FileState::Held,
            "@shared" => FileState::Shared,
            _ => {
                if now == state {
                    lines.push(line.replace('\u{1}', "\n"));
                }
                now
            }
        };
    }
    let expected = |text: &str| {
        let (status, text) = text.trim_start().split_once(' ').unwrap_or((text, ""));
        (status.parse().unwrap(), text.trim().to_owned())
    };
    let split = |line: &String| {
        let parts: Vec<&str> = line.split(" ## ").collect();
        match parts[..] {
            [line] => (line.to_owned(), None),
            [line, theirs, ours, why] if !why.is_empty() => (line.to_owned(), Some([expected(theirs), expected(ours)])),
            _ => panic!("{line}"),
        }
    };
    lines.iter().map(split).collect()
}

/// Runs the lines of the table for a file in this state, and returns their number.
fn compare_lines(state: FileState) -> usize {
    let mut comparison = Comparison::new();
    let (known, lines) = (comparison.is_known(), read_table(state));
    let mut wrong = Vec::new();
    for (line, differs) in &lines {
        let [theirs, ours] = [Side::Theirs, Side::Ours].map(|side| comparison.run_line(side, state, line));
        let fits = |outcome: &Outcome, (status, text): &(i32, String)| {
            let said = outcome.text.trim_end().replace('\n', "/");
            outcome.status == *status && if text.ends_with("ex") { said.starts_with(text) } else { said == *text }
        };
        let right = match differs {
            None => theirs == ours,
            Some([of_theirs, of_ours]) => (!known || fits(&theirs, of_theirs)) && fits(&ours, of_ours),
        };
        if !right {
            wrong.push(format!("{line}\n  theirs {theirs:?}\n  ours   {ours:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} lines:\n{}", wrong.len(), lines.len(), wrong.join("\n"));
    lines.len()
}

#[test]
fn flock_behaves_like_the_original_on_a_free_file() {
    assert!(compare_lines(FileState::Free) >= 150);
}

#[test]
fn flock_behaves_like_the_original_on_a_held_file() {
    assert!(compare_lines(FileState::Held) >= 40);
}

#[test]
fn flock_behaves_like_the_original_on_a_shared_file() {
    assert!(compare_lines(FileState::Shared) >= 10);
}

/// The number of random command lines.
const LINES: usize = 250;

/// Arguments of random command lines. Both programs know each of them, and none waits forever.
const OPTIONS: &[&[u8]] = &[
    b"-s",
    b"-x",
    b"-e",
    b"-u",
    b"-n",
    b"-o",
    b"-F",
    b"-xn",
    b"-ns",
    b"-se",
    b"-no",
    b"-nF",
    b"-w",
    b"-w0",
    b"-w1",
    b"-nw1",
    b"-nw",
    b"-E",
    b"-E3",
    b"-E300",
    b"-nE3",
    b"-h",
    b"-V",
    b"-Z",
    b"-nZ",
    b"-c",
    b"--",
    b"-",
    b"--shared",
    b"--sh",
    b"--exclusive",
    b"--ex",
    b"--unlock",
    b"--un",
    b"--nonblock",
    b"--nonblocking",
    b"--nb",
    b"--non",
    b"--no",
    b"--no-fork",
    b"--no-",
    b"--close",
    b"--cl",
    b"--c",
    b"--co",
    b"--conflict-exit-code",
    b"--conflict-exit-code=4",
    b"--con=x",
    b"--wait",
    b"--wait=1",
    b"--timeout",
    b"--tim=0.1",
    b"--timeout=",
    b"--help",
    b"--he",
    b"--version",
    b"--ver",
    b"--shared=1",
    b"--=",
    b"---",
    b"--wrong",
    b"--\xff",
    b"-\xff",
];

const REST: &[&[u8]] = &[
    b"f",
    b"g",
    b"in",
    b"d/f",
    b".",
    b"",
    b" ",
    b"0",
    b"9",
    b"00",
    b" 0",
    b"-1",
    b"+0",
    b"1x",
    b"99999999999",
    b"0.5",
    b"1e0",
    b"0x1",
    b"256",
    b"255",
    b"nan",
    b"true",
    b"false",
    b"echo",
    b"nosuch",
    b"-c",
    b"--command",
    b"exit 3",
    b"echo ran",
    b"\xff\xfe",
];

#[test]
fn flock_behaves_like_the_original_for_random_arguments() {
    // `FLOCK_SEED=N` reproduces a failure, or tries other lines.
    let seed: u64 = std::env::var("FLOCK_SEED").ok().map_or(0x5eed, |seed| seed.parse().unwrap());
    let mut random = Random::new(seed);
    let mut comparison = Comparison::new();
    let (mut ran, mut refused) = (0, 0);
    for round in 0..LINES {
        let mut words: Vec<OsString> = vec!["flock".into()];
        for _ in 0..random.below(5) {
            let table = if random.one_in(4) { REST } else { OPTIONS };
            words.push(OsString::from_vec(random.pick(table).to_vec()));
        }
        // Otherwise fewer than one in ten lines would run a command.
        if random.one_in(2) {
            words.extend(["f".into(), (*random.pick(&["true", "echo", "-c"])).into()]);
        }
        for _ in 0..random.below(5) {
            let table = if random.one_in(8) { OPTIONS } else { REST };
            words.push(OsString::from_vec(random.pick(table).to_vec()));
        }
        let state = *random.pick(&[FileState::Free, FileState::Free, FileState::Shared]);
        // Without -n, a line without -w would wait forever.
        if state != FileState::Free {
            words.splice(1..1, ["-n".into()]);
        }
        let [mut theirs, mut ours] = [Side::Theirs, Side::Ours].map(|side| comparison.run(side, state, &words));
        // The texts of help and version differ.
        for outcome in [&mut theirs, &mut ours] {
            if outcome.text.contains("Usage:") || outcome.text.starts_with("flock from ") {
                outcome.text = "help or version".to_owned();
            }
        }
        assert_eq!(theirs, ours, "seed {seed}, round {round}, {state:?}: {words:?}");
        ran += usize::from(ours.status == 0);
        refused += usize::from(ours.status == 64);
    }
    assert!(ran > LINES / 10 && refused > LINES / 10, "{ran} ran, {refused} were refused: that says little");
}
