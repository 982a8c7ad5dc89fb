//! `reserve`, beside a bare lock, with ten rows in the registry and with ten thousand, and a hundred at once.

use crate::call::Took;
use crate::contest::{Contest, Turn, in_turns};
use crate::row::{Row, Side, Unit};
use crate::scene::{Root, Scene};
use crate::{ending, pipe};
use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::time::Instant;

const PART: &str = "reserve";

const ROWS: [u32; 2] = [10, 10_000];

pub(super) fn rows(scene: &Scene) -> Vec<Row> {
    let mut rows = Vec::new();
    for count in ROWS {
        let root = registry(scene, count);
        let nothing = root.nothing();
        let reserve = |args: &[&str]| root.helper(&["reserve", "--range", "20000-49999"]).args(args);
        let (hit, lease) = (reserve(&[]), reserve(&["--", &nothing]));
        hit.time();
        let lock = root.helper(&["lock", "a", "--", &nothing]);
        let tag = Cell::new(0);
        // The registry is to have as many rows afterwards.
        let new = || -> Took {
            tag.set(tag.get() + 1);
            let tag = format!("--tag=t{}", tag.get());
            let took = reserve(&[&tag]).time();
            root.helper(&["release", &tag]).time();
            took
        };
        let rounds = (scene.rounds / 2).max(1);
        let mut row = |name: &str, mut turn: Turn<Took>| {
            let contest = Contest::new(PART).side("aba-lock", &mut turn).side("lock -- CMD", || lock.time());
            rows.push(contest.run(name, rounds).sized(count, "rows"));
        };
        row("reserve, the same key", Box::new(|| hit.time()));
        row("reserve, a new key", Box::new(new));
        row("reserve -- CMD", Box::new(|| lease.time()));
    }
    let round = Cell::new(0);
    let mut turns: [Turn<f64>; 1] = [Box::new(|| {
        round.set(round.get() + 1);
        hundred(&scene.root(&format!("hundred-{}", round.get())))
    })];
    let took = in_turns(scene.fewer(), &mut turns).remove(0);
    rows.push(Row::new(PART, "a hundred new keys at once", Unit::Microseconds, vec![Side::new("aba-lock", took)]));
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// A state root whose registry has so many rows.
fn registry(scene: &Scene, rows: u32) -> Root<'_> {
    let root = scene.root(&format!("registry-{rows}"));
    fs::create_dir_all(root.path.join("reserve")).unwrap();
    let mut text = "aba-lock-registry 2\n".to_owned();
    for row in 0..rows {
        let number = 20_000 + row;
        let key = "5be01c2f.90d11a7e.07c4ff21.66aa0193.1f2e3d4c";
        writeln!(text, "{number} 1 1 {key} - /home/somebody/projects/checkout-{row:05}/tree").unwrap();
    }
    fs::write(root.path.join("reserve/ports"), text).unwrap();
    root.helper(&["reserve", "--recover", "--quiet"]).time();
    root
}

/// All begin when a pipe is closed; when all have ended, another is.
fn hundred(root: &Root) -> f64 {
    let (gate, hold) = io::pipe().unwrap();
    let (mut over, writer) = io::pipe().unwrap();
    let mut children: Vec<_> = (0..100)
        .map(|key| {
            let mut command = root.helper(&["reserve", "--quiet", &format!("--tag=t{key}")]).repeated(1);
            ending::start(command.stdin(gate.try_clone().unwrap()).stderr(writer.try_clone().unwrap()))
        })
        .collect();
    drop(writer);
    let start = Instant::now();
    drop(hold);
    pipe::until_closed(&mut over, "a hundred that reserve");
    let took = start.elapsed();
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "one could not reserve");
    }
    took.as_secs_f64() * 1e6
}
