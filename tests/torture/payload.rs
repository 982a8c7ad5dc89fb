//! The commands that the helper runs in these tests, under a lock, as a task or with a number: `TORTURE payload WHAT ...`,
//! where `$TORTURE` is this program. They report to a log (of a scene) or to the history (of a walk).

use crate::history::Journal;
use crate::kernel;
use crate::order_payloads;
use crate::place::{append, find_inherited_inode, pause};
use crate::policy_payloads;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Runs the payload, and returns the exit status.
pub(crate) fn run(words: &[&str]) -> i32 {
    match *words {
        ["probe", file, log] => probe(Path::new(file), Path::new(log)),
        ["probe-all", log, ref files @ ..] => {
            files.iter().map(|file| probe(Path::new(file), Path::new(log))).max().unwrap_or(2)
        }
        ["among-strangers", log, ref call @ ..] => run_among_strangers(Path::new(log), call),
        ["alone", log, ref rest @ ..] => run_alone(Path::new(log), rest),
        ["note", history, actor, ref rest @ ..] => {
            Journal::open(Path::new(history)).note(actor, &rest.join(" "));
            0
        }
        ["hold", history, actor, name, mode, file, micros, ..] => {
            hold(&Journal::open(Path::new(history)), actor, name, mode, Path::new(file), micros)
        }
        ["hold-and-look", history, actor, name, mode, file, micros] => {
            let journal = Journal::open(Path::new(history));
            let mode = policy_payloads::name_mode(mode);
            journal.note(actor, &format!("enter {name} {mode} {}", find_inherited_inode(Path::new(file))));
            policy_payloads::note_mistakes(&journal, actor, name, mode != "exclusive");
            pause(micros);
            journal.note(actor, &format!("leave {name}"));
            0
        }
        ["hold-both", history, actor, micros, ref locks @ ..] => {
            hold_both(&Journal::open(Path::new(history)), actor, micros, locks)
        }
        ["lease", history, actor, pool, micros] => {
            let number = std::env::var("ABA_NUMBER").unwrap_or_default();
            let name = format!("number:{pool}:{number}");
            hold(&Journal::open(Path::new(history)), actor, &name, "exclusive", Path::new(""), micros)
        }
        ["task", history, actor, task, fate, micros] => {
            run_task(&Journal::open(Path::new(history)), actor, task, fate, micros)
        }
        ["look-for", history, actor, name, file, micros] => {
            if find_inherited_inode(Path::new(file)) != 0 {
                Journal::open(Path::new(history)).note(actor, &format!("mistaken {name} a child inherited the lock"));
            }
            pause(micros);
            0
        }
        ["order", ref rest @ ..] => order_payloads::run(rest),
        _ => policy_payloads::run(words),
    }
}

/// Logs whether the lock on the file is really held while the payload runs.
fn probe(file: &Path, log: &Path) -> i32 {
    let held = !crate::place::is_free(file);
    append(log, if held { "inside" } else { "inside without the lock" });
    0
}

/// Logs its begin and its end, and whether another payload with the same log runs at the same time.
fn run_alone(log: &Path, fate: &[&str]) -> i32 {
    let guard = File::options().append(true).create(true).open(log.with_extension("guard")).unwrap();
    append(log, if kernel::try_flock(&guard) { "begun" } else { "begun during another run" });
    append(log, "ended");
    fate.first().and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Notes that it holds a lock, for some time.
fn hold(journal: &Journal, actor: &str, name: &str, mode: &str, file: &Path, micros: &str) -> i32 {
    let mode = policy_payloads::name_mode(mode);
    journal.note(actor, &format!("enter {name} {mode} {}", find_inherited_inode(file)));
    pause(micros);
    journal.note(actor, &format!("leave {name}"));
    0
}

/// Notes two locks, given as NAME FILE NAME FILE, with the inodes of their files.
fn hold_both(journal: &Journal, actor: &str, micros: &str, locks: &[&str]) -> i32 {
    let [one, one_file, other, other_file] = *locks else { return 2 };
    let (one_inode, other_inode) =
        (find_inherited_inode(Path::new(one_file)), find_inherited_inode(Path::new(other_file)));
    journal.note(actor, &format!("enter {one} exclusive {one_inode}"));
    journal.note(actor, &format!("enter {other} exclusive {other_inode}"));
    journal.note(actor, &format!("together {one} {one_inode} {other} {other_inode}"));
    pause(micros);
    journal.note(actor, &format!("leave {other}"));
    journal.note(actor, &format!("leave {one}"));
    0
}

/// The number of processes that a call must not signal.
const STRANGERS: usize = 16;

/// Runs a call as one of many processes of a new PID namespace, whose `/proc` belongs to another namespace. Logs how many of the
/// other processes the call signalled.
fn run_among_strangers(log: &Path, call: &[&str]) -> i32 {
    let start = || {
        let mut command = Command::new("sleep");
        crate::place::tie_to_parent(&mut command);
        command.arg("100").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut strangers: Vec<Child> = (0..STRANGERS).map(|_| start()).collect();
    let mut child = Command::new(call[0]).args(&call[1..]).spawn().unwrap();
    let status = crate::place::wait_for(&mut child, Duration::from_secs(45));
    let signalled = strangers.iter_mut().filter_map(|stranger| stranger.try_wait().unwrap()).count();
    if signalled > 0 {
        append(log, &format!("{signalled} of {STRANGERS} strangers were signalled"));
    }
    for mut stranger in strangers {
        let _ = stranger.kill();
        let _ = stranger.wait();
    }
    status
}

/// Notes the run of a task. `fate` is the exit status, or `die` or `orphan`, which kill the payload or its supervisor.
fn run_task(journal: &Journal, actor: &str, task: &str, fate: &str, micros: &str) -> i32 {
    let run = format!("{actor}.{}", std::process::id());
    journal.note(&run, &format!("begin {task}"));
    pause(micros);
    match fate {
        "die" => {
            journal.note(&run, "doom");
            kernel::kill(std::process::id(), libc::SIGKILL);
        }
        // The parent of the payload is the supervisor.
        "orphan" => {
            journal.note(&run, "doom");
            kernel::kill(std::os::unix::process::parent_id(), libc::SIGKILL);
            pause("2000");
        }
        _ => {}
    }
    let status = fate.parse().unwrap_or(0);
    journal.note(&run, &format!("end {task} {status}"));
    status
}
