//! Rules on names: a type name is defined once in a program, and names of functions and modules say something.

use crate::finding::{Finding, Rule};
use crate::modules::{Program, attributes, has_condition};
use crate::programs;
use std::collections::BTreeMap;
use syn::visit::{self, Visit};
use syn::{Ident, ImplItemFn, Item, ItemFn, ItemMod, TraitItemFn};

/// Names that no function may have.
const FUNCTIONS: &[&str] = &["of", "like", "told", "odd", "under", "around", "given", "pour"];
/// Names that no module may have.
const MODULES: &[&str] = &[
    "of",
    "like",
    "told",
    "odd",
    "under",
    "around",
    "given",
    "pour",
    "house",
    "desk",
    "crowd",
    "line",
    "seal",
    "surroundings",
];

/// Finds every type whose name is also that of an earlier type of the program.
pub(crate) fn check_types(program: &Program) -> Vec<Finding> {
    let mut first: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut findings = Vec::new();
    for_each_module(program, |file, names| {
        for (name, line) in names.types {
            let place = (file.to_string(), line);
            // A file that two modules read defines its types once.
            if let Some((other, at)) = first.get(&name).filter(|first| **first != place) {
                let text = format!("the type `{name}` is also defined in {other}:{at}");
                findings.push(Finding::new(Rule::TypeName, file, line, text));
            } else {
                first.insert(name, place);
            }
        }
    });
    findings
}

/// Finds functions and modules whose names say nothing.
pub(crate) fn check_words(program: &Program) -> Vec<Finding> {
    let mut findings = Vec::new();
    for_each_module(program, |file, names| {
        for (name, line) in names.functions {
            if FUNCTIONS.contains(&name.as_str()) {
                let text = format!("a function is called `{name}`: use a verb and a noun");
                findings.push(Finding::new(Rule::Word, file, line, text));
            }
        }
        for (name, line) in names.modules {
            if MODULES.contains(&name.as_str()) {
                let text = format!("a module is called `{name}`: name it after the thing that it holds");
                findings.push(Finding::new(Rule::Word, file, line, text));
            }
        }
    });
    findings
}

/// Calls `then` with the file and the names of each module. Files of another program that `#[path]` adds to this one
/// are left out, because they are checked with that program.
fn for_each_module(program: &Program, mut then: impl FnMut(&str, Names)) {
    for module in
        program.modules.iter().filter(|module| programs::owner(&module.file).is_none_or(|owner| owner == program.name))
    {
        let mut names = Names::default();
        module.items.iter().for_each(|item| names.visit_item(item));
        then(&module.file, names);
    }
}

/// The names that a module defines, each with its line. Child modules are visited on their own.
#[derive(Default)]
struct Names {
    types: Vec<(String, usize)>,
    functions: Vec<(String, usize)>,
    modules: Vec<(String, usize)>,
}

fn with_line(name: &Ident) -> (String, usize) {
    (name.to_string(), name.span().start().line)
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        self.modules.push(with_line(&module.ident));
    }

    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            // Such an item may be one of several with this name, each for another system.
            item if has_condition(attributes(item)) => {}
            Item::Enum(item) => self.types.push(with_line(&item.ident)),
            Item::Struct(item) => self.types.push(with_line(&item.ident)),
            Item::Trait(item) => self.types.push(with_line(&item.ident)),
            Item::Type(item) => self.types.push(with_line(&item.ident)),
            Item::Union(item) => self.types.push(with_line(&item.ident)),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.functions.push(with_line(&function.sig.ident));
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.functions.push(with_line(&function.sig.ident));
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        self.functions.push(with_line(&function.sig.ident));
        visit::visit_trait_item_fn(self, function);
    }
}

#[test]
fn a_type_that_is_defined_twice_is_found() {
    let program = crate::modules::program(&[
        ("./main.rs", "mod a;\nstruct X; enum Y {}"),
        (
            "./a.rs",
            "\ntype X = u8; fn f() { enum Y {} } struct Z; impl Iterator for Z { type Item = X; } #[cfg(test)] struct Z;",
        ),
    ]);
    let found: Vec<_> = check_types(&program).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "./a.rs:2: TypeName: the type `X` is also defined in ./main.rs:2",
            "./a.rs:2: TypeName: the type `Y` is also defined in ./main.rs:2"
        ]
    );
}

#[test]
fn a_name_that_says_nothing_is_found() {
    let text = "mod desk {}\nfn of() {}\nimpl X { fn told() {} }\ntrait T { fn given(); }\nfn of_course() {} mod read { fn desk() {} }";
    let found = check_words(&crate::modules::program(&[("./main.rs", text)]));
    assert_eq!(found.iter().map(|finding| finding.line).collect::<Vec<_>>(), [2, 3, 4, 1]);
}
