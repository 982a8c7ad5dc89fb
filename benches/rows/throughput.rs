//! How many get a lock in a second, when several want it over and over.

use crate::call::Call;
use crate::contest::{Turn, in_turns};
use crate::row::{Row, Side, Unit};
use crate::scene::Scene;
use crate::{ending, pipe};
use std::io;
use std::time::Instant;

const PART: &str = "throughput";

const CONTENDERS: [u32; 4] = [2, 8, 64, 512];

/// How many turns there are at the lock in a round, whoever has them: fewer where a hundred rounds are too many.
const TURNS: u32 = 1024;

pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let root = scene.root(PART);
    let file = root.lock_file("bench");
    let (path, nothing) = (file.to_str().unwrap(), root.nothing());
    let calls = [
        ("aba-lock", root.helper(&["lock", "-qw", "bench", "--", &nothing])),
        ("flock(1)", root.flock(&[path, &nothing])),
        ("flock(1) -F", root.flock(&["-F", path, &nothing])),
        ("floor", root.floor(&["-w", path, &nothing])),
    ];
    let row = |contenders: u32| {
        let mut turns: Vec<Turn<f64>> = Vec::new();
        for (_, call) in &calls {
            let each = (TURNS * scene.rounds.min(100) / 100 / contenders).max(1);
            turns.push(Box::new(move || rate(call, contenders, each)));
        }
        let took = in_turns(scene.few(), &mut turns);
        let sides = calls.iter().zip(took).map(|((name, _), took)| Side::new(name, took));
        let row = Row::new(PART, "commands under one lock", Unit::PerSecond, sides.collect());
        row.sized(contenders, "contenders")
    };
    scene.allowed(&CONTENDERS).into_iter().map(row).collect()
}

/// Each is a process that runs the call again and again. They begin when a pipe is closed that all of them read of, and when
/// all have ended another one is closed.
fn rate(call: &Call, contenders: u32, each: u32) -> f64 {
    let (gate, hold) = io::pipe().unwrap();
    let (mut over, writer) = io::pipe().unwrap();
    let mut children: Vec<_> = (0..contenders)
        .map(|_| {
            let mut command = call.repeated(each);
            command.stdin(gate.try_clone().unwrap()).stdout(writer.try_clone().unwrap());
            ending::start(&mut command)
        })
        .collect();
    drop(writer);
    let start = Instant::now();
    drop(hold);
    pipe::until_closed(&mut over, "the contenders");
    let took = start.elapsed();
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "a contender failed");
    }
    f64::from(contenders * each) / took.as_secs_f64()
}
