//! The imports of a program: which file names which other file, and where.
//!
//! A path is an import wherever it is written: in a `use`, an expression, a type, an attribute, or the tokens of a
//! macro. It leads to the file of the deepest *module* that it names: `crate::lock::wait::Timer` leads to that of
//! `lock::wait`. `crate::lock::Timer` leads to `lock.rs`, even if `Timer` is a `pub use` there. A `mod` alone is no
//! import. Paths that begin with the name of a crate are no imports either: cargo does not allow cycles between crates.

use crate::modules::{Module, Program};
use proc_macro2::{Span, TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Macro, Meta, UseTree, VisRestricted};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    /// Indexes of modules, with different files.
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) line: usize,
    /// The path as it is written.
    pub(crate) path: String,
}

/// Finds the imports between modules with different files: for each two modules, the first place.
pub(crate) fn find_imports(program: &Program) -> Vec<Import> {
    let mut found = BTreeSet::new();
    for (from, module) in program.modules.iter().enumerate() {
        let mut paths = Paths::default();
        for item in &module.items {
            paths.visit_item(item);
        }
        for (line, path) in &paths.found {
            let Some(to) = resolve(program, from, path, &paths.names, 0) else { continue };
            if program.modules[to.0].file != module.file {
                found.insert(Import { from, to: to.0, line: *line, path: path.join("::") });
            }
        }
    }
    let mut found: Vec<Import> = found.into_iter().collect();
    found.dedup_by_key(|import| (import.from, import.to));
    found
}

/// Returns the module that the path leads to, and how many words of the path name it. `names` are the names that a
/// `use` of the module `from` has introduced, with their paths.
fn resolve(
    program: &Program,
    from: usize,
    path: &[String],
    names: &BTreeMap<String, Vec<String>>,
    depth: usize,
) -> Option<(usize, usize)> {
    let modules: &[Module] = &program.modules;
    let first = path.first()?;
    let mut module = match first.as_str() {
        "crate" => 0,
        "self" => from,
        "super" => modules[from].parent?,
        name => match (modules[from].children.get(name), names.get(name)) {
            (Some(child), _) => *child,
            // A `use` has introduced this name. The path is followed only if the name is that of a module: for other
            // items, the `use` itself is the import.
            (None, Some(whole)) if depth < 4 && whole != path => {
                let (module, taken) = resolve(program, from, whole, names, depth + 1)?;
                (taken == whole.len()).then_some(module)?
            }
            _ => return None,
        },
    };
    let mut taken = 1;
    for word in &path[1..] {
        module = match word.as_str() {
            "super" => modules[module].parent?,
            word => match modules[module].children.get(word) {
                Some(child) => *child,
                None => break,
            },
        };
        taken += 1;
    }
    Some((module, taken))
}

/// Collects the paths that are written in a module, and the names that its `use`s introduce.
#[derive(Default)]
struct Paths {
    found: Vec<(usize, Vec<String>)>,
    names: BTreeMap<String, Vec<String>>,
}

impl Paths {
    fn add(&mut self, span: Span, path: Vec<String>) {
        self.found.push((span.start().line, path));
    }

    fn add_use(&mut self, tree: &UseTree, mut before: Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_use(&path.tree, before);
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use(tree, before.clone())),
            UseTree::Glob(glob) => self.add(glob.star_token.spans[0], before),
            UseTree::Name(name) => self.add_name(&name.ident, &name.ident, before),
            UseTree::Rename(rename) => self.add_name(&rename.ident, &rename.rename, before),
        }
    }

    fn add_name(&mut self, ident: &syn::Ident, known_as: &syn::Ident, mut path: Vec<String>) {
        if ident != "self" {
            path.push(ident.to_string());
        }
        let name = if known_as == "self" { path.last().cloned().unwrap_or_default() } else { known_as.to_string() };
        self.add(ident.span(), path.clone());
        self.names.insert(name, path);
    }

    /// Adds the paths of at least two words (`a::b`) in tokens that syn does not parse.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut start = Span::call_site();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(word) => {
                    if colons != 2 || path.is_empty() {
                        self.add_written(start, &mut path);
                        start = word.span();
                    }
                    path.push(word.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.add_written(start, &mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_tokens(group.stream());
                    }
                }
            }
        }
        self.add_written(start, &mut path);
    }

    fn add_written(&mut self, start: Span, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.add(start, path);
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    // Modules are visited on their own.
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    // `pub(in path)` is no import.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.add_use(&item.tree, Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A single word is a variable, or a name whose `use` is the import.
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            self.add(
                path.segments[0].ident.span(),
                path.segments.iter().map(|segment| segment.ident.to_string()).collect(),
            );
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.add_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.add_tokens(list.tokens.clone());
        }
    }
}

#[test]
fn imports_are_found_wherever_they_are_written() {
    let find = |line: &str| {
        let a = format!("\n{line}");
        let rest = "pub mod c; pub use c::D;";
        let program = crate::modules::program(&[
            ("./main.rs", "mod a; mod b;"),
            ("./a.rs", &a),
            ("./b.rs", rest),
            ("./b/c.rs", ""),
        ]);
        let file = |module: usize| &program.modules[module].file;
        let found = find_imports(&program).into_iter().filter(|import| file(import.from) == "./a.rs");
        found
            .map(|import| format!("{} {} {}", import.line, import.path, file(import.to)))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(find("use crate::b::{self, c::{E, F}};"), "2 crate::b ./b.rs, 2 crate::b::c::E ./b/c.rs");
    assert_eq!(find("use super::b::*;"), "2 super::b ./b.rs");
    assert_eq!(find("use crate::b as x; fn f() { x::c::g(); }"), "2 crate::b ./b.rs, 2 x::c::g ./b/c.rs");
    assert_eq!(find("pub(in crate::a) fn f(x: super::b::c::E) {}"), "2 super::b::c::E ./b/c.rs");
    assert_eq!(find("fn f() { println!(\"{}\", g(crate::b::h())) }"), "2 crate::b::h ./b.rs");
    assert_eq!(find("#[arg(value_parser = super::b::parse)] struct S;"), "2 super::b::parse ./b.rs");
    assert_eq!(find("fn f() { super::super::b::c::g(); self::h(); ::b::c::g(); std::fs::read(\"\"); }"), "");
    assert_eq!(find("#[cfg(test)] mod tests { use crate::b::X; }"), "");
    assert_eq!(find("mod x { use super::super::b::X; }"), "2 super::super::b::X ./b.rs");
    assert_eq!(find("use super::g; fn f(b: u8) { b }"), "2 super::g ./main.rs");
    assert_eq!(find("mod d { }"), "");
}
