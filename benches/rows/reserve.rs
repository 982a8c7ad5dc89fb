//! Part `reserve`: `reserve` compared with a bare lock, with ten and with ten thousand rows in the registry, and a hundred
//! reservations at the same time.

use crate::call::Measurement;
use crate::comparison::{Comparison, Turn, run_in_turns};
use crate::row::{Row, Side, Unit};
use crate::scene::{Root, Scene};
use crate::{cleanup, pipe};
use std::cell::Cell;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::time::Instant;

const PART: &str = "reserve";

const ROWS: [u32; 2] = [10, 10_000];

pub(super) fn measure(scene: &Scene) -> Vec<Row> {
    let mut rows = Vec::new();
    for count in ROWS {
        let root = create_registry(scene, count);
        let no_op = root.no_op();
        let reserve = |args: &[&str]| root.helper(&["reserve", "--range", "20000-49999"]).args(args);
        let (hit, lease) = (reserve(&[]), reserve(&["--", &no_op]));
        hit.time();
        let lock = root.helper(&["lock", "a", "--", &no_op]);
        let tag = Cell::new(0);
        // The release keeps the number of rows constant.
        let new = || -> Measurement {
            tag.set(tag.get() + 1);
            let tag = format!("--tag=t{}", tag.get());
            let took = reserve(&[&tag]).time();
            root.helper(&["release", &tag]).time();
            took
        };
        let rounds = (scene.rounds / 2).max(1);
        let mut row = |name: &str, mut turn: Turn<Measurement>| {
            let contest = Comparison::new(PART).side("aba-lock", &mut turn).side("lock -- CMD", || lock.time());
            rows.push(contest.run(name, rounds).with_size(count, "rows"));
        };
        row("reserve, the same key", Box::new(|| hit.time()));
        row("reserve, a new key", Box::new(new));
        row("reserve -- CMD", Box::new(|| lease.time()));
    }
    let round = Cell::new(0);
    let mut turns: [Turn<f64>; 1] = [Box::new(|| {
        round.set(round.get() + 1);
        reserve_hundred(&scene.root(&format!("hundred-{}", round.get())))
    })];
    let took = run_in_turns(scene.rounds_of_slow(), &mut turns).remove(0);
    rows.push(Row::new(PART, "a hundred new keys at once", Unit::Microseconds, vec![Side::new("aba-lock", took)]));
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// Creates a state root with a registry of this many rows.
fn create_registry(scene: &Scene, rows: u32) -> Root<'_> {
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

/// Measures a hundred reservations. All begin when one pipe is closed, and their end closes another one.
fn reserve_hundred(root: &Root) -> f64 {
    let (gate, hold) = io::pipe().unwrap();
    let (mut over, writer) = io::pipe().unwrap();
    let mut children: Vec<_> = (0..100)
        .map(|key| {
            let mut command = root.helper(&["reserve", "--quiet", &format!("--tag=t{key}")]).repeated(1);
            cleanup::start_child(command.stdin(gate.try_clone().unwrap()).stderr(writer.try_clone().unwrap()))
        })
        .collect();
    drop(writer);
    let start = Instant::now();
    drop(hold);
    pipe::wait_until_closed(&mut over, "a hundred that reserve");
    let took = start.elapsed();
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "one could not reserve");
    }
    took.as_secs_f64() * 1e6
}
