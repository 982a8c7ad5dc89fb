//! Checks of the source: layers, import cycles, names, lengths of files, and the language of comments.
//!
//! Run it with `cargo test -p aba-lock-source`, which takes a few seconds; `make lint` and `make test` do so, too.
//!
//! | rule | applies to | module |
//! |---|---|---|
//! | no file imports itself through other files | each program | [`imports`], [`cycles`] |
//! | imports point down in the list of layers, which is in [`programs`] | programs with layers | [`layers`] |
//! | a type name is defined once, and names of functions and modules are not empty words | each program | [`names`] |
//! | a file has at most 450 lines | all code | [`files`] |
//! | comments and messages are in plain English | all code | [`comments`], [`phrases`] |
//! | messages begin in lower case, and have no final full stop | the catalogue | [`catalogue`] |
//! | the names in the link order of the helper lead to definitions | the helper | [`link_order`] |
//! | a Rust file belongs to a program | src, tests, benches | [`programs`] |
//! | `tests/messages` has all messages | the programs and the shell library | [`catalogue`] |
//!
//! The rules on imports and names leave out modules that only tests have. Places that may break a rule are listed in
//! [`exceptions`]; an exception that is no longer needed is a failure.

mod catalogue;
mod comments;
mod cycles;
mod exceptions;
mod files;
mod finding;
mod imports;
mod layers;
mod link_order;
mod modules;
mod names;
mod phrases;
mod programs;

use exceptions::Exceptions;
use finding::{Finding, Rule};
use modules::Program;
use std::collections::BTreeSet;

/// Reads all programs. A file that belongs to none of them is a finding.
fn read_programs(findings: &mut Vec<Finding>) -> Vec<(Program, &'static programs::Entry)> {
    let mut read = BTreeSet::new();
    let mut all = Vec::new();
    for entry in programs::PROGRAMS {
        let program = Program::read(entry.name, entry.root, &files::read);
        read.extend(program.modules.iter().map(|module| module.file.clone()));
        all.push((program, entry));
    }
    for file in files::list() {
        let is_rust = file.rsplit_once('.').is_some_and(|(_, ending)| ending == "rs");
        if is_rust && !programs::is_alone(&file) && !read.contains(&file) {
            findings.push(Finding::new(Rule::Unlisted, &file, 1, "belongs to no program of tests/source/programs.rs"));
        }
    }
    all
}

fn check() -> Vec<Finding> {
    let mut findings = Vec::new();
    for (program, entry) in read_programs(&mut findings) {
        let imports = imports::find_imports(&program);
        findings.extend(cycles::check_cycles(&program, &imports));
        findings.extend(layers::check_layers(&program, &imports, entry.layers));
        findings.extend(names::check_types(&program));
        findings.extend(names::check_words(&program));
    }
    findings.extend(catalogue::check_messages());
    for file in files::list() {
        let text = files::read(&file).expect("a file that was listed");
        findings.extend(files::check_length(&file, &text));
        findings.extend(phrases::check_comments(&file, &text));
    }
    findings
}

#[test]
fn the_source_keeps_the_rules() {
    let failures = Exceptions::default().apply(check());
    assert!(failures.is_empty(), "{} places:\n{}", failures.len(), failures.join("\n"));
}
