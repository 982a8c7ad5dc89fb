//! Rule: no file imports itself through other files.

use crate::finding::{Finding, Rule};
use crate::imports::Import;
use crate::modules::Program;
use std::collections::{BTreeMap, BTreeSet};

/// Every import that is part of a cycle: its file can be reached again from the file that it imports.
pub(crate) fn check_cycles(program: &Program, imports: &[Import]) -> Vec<Finding> {
    let file = |module: usize| program.modules[module].file.as_str();
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for import in imports {
        arrows.entry(file(import.from)).or_default().insert(file(import.to));
    }
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for start in arrows.keys() {
        let mut seen = BTreeSet::new();
        let mut open = vec![*start];
        while let Some(next) = open.pop() {
            open.extend(arrows.get(next).into_iter().flatten().filter(|to| seen.insert(**to)));
        }
        reached.insert(start, seen);
    }
    let is_cycle = |import: &&Import| reached.get(file(import.to)).is_some_and(|seen| seen.contains(file(import.from)));
    imports.iter().filter(is_cycle).map(|import| describe(program, import)).collect()
}

fn describe(program: &Program, import: &Import) -> Finding {
    let (from, to) = (&program.modules[import.from].file, &program.modules[import.to].file);
    let text = format!("imports `{}` ({to}), which leads back to this file", import.path);
    Finding::new(Rule::Cycle, from, import.line, text)
}

#[test]
fn a_cycle_of_files_is_found() {
    let check = |a, c| {
        let program = crate::modules::program(&[
            ("./main.rs", "mod a; mod b; mod c;"),
            ("./a.rs", a),
            ("./b.rs", "use crate::c::X;"),
            ("./c.rs", c),
        ]);
        let imports = crate::imports::find_imports(&program);
        check_cycles(&program, &imports).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(check("use crate::b::Y;", ""), [""; 0]);
    let found = check("\nuse crate::b::Y;", "fn f() { super::a::g() }");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found.contains(&"./a.rs:2: Cycle: imports `crate::b::Y` (./b.rs), which leads back to this file".into()),
        "{found:?}"
    );
}

#[test]
fn a_child_that_imports_from_a_parent_that_imports_from_it_is_a_cycle() {
    let check = |parent| {
        let program =
            crate::modules::program(&[("./main.rs", "mod a;"), ("./a.rs", parent), ("./a/b.rs", "use super::X;")]);
        check_cycles(&program, &crate::imports::find_imports(&program)).len()
    };
    assert_eq!(check("mod b; struct X;"), 0);
    assert_eq!(check("mod b; struct X; pub use b::Y;"), 2);
}
