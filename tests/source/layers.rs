//! Rule: imports point down in the list of layers of a program.
//!
//! The list has the modules at the top of the program, from the ground up. A module may import from those in lower
//! layers only, so modules of one layer know nothing of each other. The root of the program is above all of them.
//! Within a module at the top, only the rule on cycles holds.

use crate::finding::{Finding, Rule};
use crate::imports::Import;
use crate::modules::Program;

/// The names of the modules in each layer, from the ground up.
pub(crate) type Layers = &'static [&'static [&'static str]];

/// Checks the layers of a program; without a list, there is nothing to check.
pub(crate) fn check_layers(program: &Program, imports: &[Import], layers: Layers) -> Vec<Finding> {
    let mut findings = Vec::new();
    if layers.is_empty() {
        return findings;
    }
    let height = |module: Option<&str>| match module {
        None => Some(layers.len()),
        Some(name) => layers.iter().position(|layer| layer.contains(&name)),
    };
    for module in program.modules[0].children.values().map(|index| &program.modules[*index]) {
        if height(Some(&module.name)).is_none() {
            let text = format!("`{}` is in no layer: add it to tests/source/programs.rs", module.name);
            findings.push(Finding::new(Rule::Layer, &module.declared.0, module.declared.1, text));
        }
    }
    for name in layers.iter().flat_map(|layer| layer.iter()) {
        if !program.modules[0].children.contains_key(*name) {
            let text = format!("there is no module `{name}`: remove it from tests/source/programs.rs");
            findings.push(Finding::new(Rule::Layer, &program.modules[0].file, 1, text));
        }
    }
    for import in imports {
        let (from, to) = (program.top(import.from), program.top(import.to));
        let (Some(above), Some(below)) = (height(from), height(to)) else { continue };
        if from != to && below >= above {
            let (from, to) = (from.unwrap_or("the root"), to.unwrap_or("the root"));
            let text = format!(
                "imports `{}`, but {from} is not above {to} in the layers of tests/source/programs.rs",
                import.path
            );
            findings.push(Finding::new(Rule::Layer, &program.modules[import.from].file, import.line, text));
        }
    }
    findings.sort();
    findings
}

#[test]
fn an_import_that_points_up_or_sideways_is_found() {
    let program = crate::modules::program(&[
        ("./main.rs", "mod a; mod b; mod c; mod new;\nuse c::X; struct Y;"),
        ("./a.rs", "use crate::b::X;"),
        ("./b.rs", "use crate::c::X;\nuse crate::Y;"),
        ("./c.rs", "use crate::a::X;"),
        ("./new.rs", ""),
    ]);
    let findings = check_layers(&program, &crate::imports::find_imports(&program), &[&["a"], &["b", "c"], &["gone"]]);
    let found: Vec<_> = findings.iter().map(|finding| format!("{}:{}", finding.file, finding.line)).collect();
    assert_eq!(found, ["./a.rs:1", "./b.rs:1", "./b.rs:2", "./main.rs:1", "./main.rs:1"], "{findings:#?}");
}
