//! Rule: no file imports itself through other files.

use crate::finding::{Finding, Rule};
use crate::imports::Import;
use crate::modules::Program;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// For each file, the files that it imports, each with the first import.
type Arrows<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a Import>>;

/// Finds the shortest cycle in each group of files that import each other.
pub(crate) fn check_cycles(program: &Program, imports: &[Import]) -> Vec<Finding> {
    let mut arrows = Arrows::new();
    for import in imports {
        let file = |module: usize| program.modules[module].file.as_str();
        arrows.entry(file(import.from)).or_default().entry(file(import.to)).or_insert(import);
    }
    let mut cycles: Vec<Vec<&str>> = arrows.keys().filter_map(|file| find_shortest_cycle(&arrows, file)).collect();
    cycles.sort_by_key(Vec::len);
    let mut reported = BTreeSet::new();
    let mut findings = Vec::new();
    for cycle in cycles {
        if reported.contains(cycle[0]) {
            continue;
        }
        let group: Vec<&str> = find_reached(&arrows, cycle[0]).into_keys().collect();
        let group: Vec<&str> =
            group.into_iter().filter(|file| find_reached(&arrows, file).contains_key(cycle[0])).collect();
        findings.push(describe(&program.name, &arrows, &cycle, group.len()));
        reported.extend(group);
    }
    findings
}

/// Returns each file that can be reached from `start` through imports, with the file before it on the shortest way.
fn find_reached<'a>(arrows: &Arrows<'a>, start: &'a str) -> BTreeMap<&'a str, &'a str> {
    let mut before = BTreeMap::new();
    let mut open = VecDeque::from([start]);
    while let Some(file) = open.pop_front() {
        for to in arrows.get(file).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(to) {
                before.insert(*to, file);
                open.push_back(*to);
            }
        }
    }
    before
}

/// Returns the files of the shortest cycle through `start`, which is the first of them.
fn find_shortest_cycle<'a>(arrows: &Arrows<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let before = find_reached(arrows, start);
    let mut cycle = vec![*before.get(start)?];
    while let Some(file) = cycle.last().filter(|file| **file != start) {
        cycle.push(before[file]);
    }
    cycle.reverse();
    Some(cycle)
}

fn describe(program: &str, arrows: &Arrows, cycle: &[&str], group: usize) -> Finding {
    let next = cycle.iter().cycle().skip(1);
    let imports: Vec<&Import> = cycle.iter().zip(next).map(|(from, to)| arrows[from][to]).collect();
    let steps: Vec<String> = cycle
        .iter()
        .zip(&imports)
        .map(|(file, import)| format!("{file}:{} imports `{}`", import.line, import.path))
        .collect();
    let text = format!("an import cycle: {} ({group} files of the {program} import each other)", steps.join(", "));
    Finding::new(Rule::Cycle, cycle[0], imports[0].line, text)
}

#[test]
fn the_shortest_cycle_of_files_is_found() {
    let check = |a, c| {
        let files =
            [("./main.rs", "mod a; mod b; mod c;"), ("./a.rs", a), ("./b.rs", "use crate::c::X;"), ("./c.rs", c)];
        let program = crate::modules::program(&files);
        let findings = check_cycles(&program, &crate::imports::find_imports(&program));
        findings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(check("use crate::b::Y;", ""), [""; 0]);
    let found = check("\nuse crate::b::Y;", "fn f() { super::a::g() }");
    let expected = "./a.rs:2: Cycle: an import cycle: ./a.rs:2 imports `crate::b::Y`, ./b.rs:1 imports `crate::c::X`, \
                    ./c.rs:1 imports `super::a::g` (3 files of the program import each other)";
    assert_eq!(found, [expected]);
    let found = check("use crate::b::Y;", "use super::a::X; use super::b::Y;");
    assert!(found.len() == 1 && found[0].starts_with("./b.rs:1: Cycle: an import cycle: ./b.rs:1"), "{found:?}");
}

#[test]
fn a_child_that_imports_from_a_parent_that_imports_from_it_is_a_cycle() {
    let check = |parent| {
        let program =
            crate::modules::program(&[("./main.rs", "mod a;"), ("./a.rs", parent), ("./a/b.rs", "use super::X;")]);
        check_cycles(&program, &crate::imports::find_imports(&program)).len()
    };
    assert_eq!(check("mod b; struct X;"), 0);
    assert_eq!(check("mod b; struct X; pub use b::Y;"), 1);
}
