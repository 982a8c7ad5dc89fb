//! Reads the tree of modules of one program, parsed with `syn`.
//!
//! A module without a file of its own (`mod x { ... }`) is a module here too, with the file that it is written in.

use std::collections::BTreeMap;
use syn::{Attribute, Expr, Item, ItemMod, Lit, Meta};

pub(crate) struct Program {
    pub(crate) name: String,
    /// The modules, the root first. Modules refer to each other by their indexes here.
    pub(crate) modules: Vec<Module>,
}

pub(crate) struct Module {
    /// The name in the `mod` item, empty for the root.
    pub(crate) name: String,
    /// The path of the file, from the root of the repository.
    pub(crate) file: String,
    /// The file and the line of its `mod` item.
    pub(crate) declared: (String, usize),
    pub(crate) parent: Option<usize>,
    pub(crate) children: BTreeMap<String, usize>,
    /// The items, without those for tests.
    pub(crate) items: Vec<Item>,
}

/// A function that returns the text of a file, by its path, or `None` if there is no such file.
pub(crate) type Reader<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Program {
    /// Reads the modules of the program whose root is the file `root`.
    ///
    /// # Panics
    /// If a file is not there, or is not Rust.
    pub(crate) fn read(name: &str, root: &str, read: Reader) -> Self {
        let mut program = Self { name: name.into(), modules: Vec::new() };
        program.add_file(Module::new("", root, (root.into(), 1), None), folder_of(root), read);
        program
    }

    /// Returns the name of the child of the root that contains the module, or `None` for the root itself.
    pub(crate) fn top(&self, mut module: usize) -> Option<&str> {
        loop {
            match self.modules[module].parent {
                None => return None,
                Some(0) => return Some(&self.modules[module].name),
                Some(parent) => module = parent,
            }
        }
    }

    /// Adds a module with a file of its own. Files of its children are in `folder`.
    fn add_file(&mut self, module: Module, folder: &str, read: Reader) -> usize {
        let file = module.file.clone();
        let text = read(&file).unwrap_or_else(|| panic!("{file} is missing"));
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}:{}: {error}", error.span().start().line));
        self.add(module, parsed.items, folder, read)
    }

    fn add(&mut self, mut module: Module, items: Vec<Item>, folder: &str, read: Reader) -> usize {
        let file = module.file.clone();
        module.items = items.into_iter().filter(|item| !is_for_tests(attributes(item))).collect();
        let declared: Vec<ItemMod> = module
            .items
            .iter()
            .filter_map(|item| if let Item::Mod(child) = item { Some(child.clone()) } else { None })
            .collect();
        let index = self.modules.len();
        self.modules.push(module);
        for child in declared {
            let name = child.ident.to_string();
            let place = (file.clone(), child.ident.span().start().line);
            let below = format!("{folder}/{name}");
            let added = if let Some((_, items)) = child.content {
                self.add(Module::new(&name, &file, place, Some(index)), items, &below, read)
            } else if let Some(path) = path_attribute(&child.attrs) {
                let path = shorten(&format!("{}/{path}", folder_of(&file)));
                self.add_file(Module::new(&name, &path, place, Some(index)), folder_of(&path), read)
            } else {
                let path =
                    [format!("{below}.rs"), format!("{below}/mod.rs")].into_iter().find(|path| read(path).is_some());
                let path = path.unwrap_or_else(|| panic!("{file}: there is no file for `mod {name}`"));
                self.add_file(Module::new(&name, &path, place, Some(index)), &below, read)
            };
            self.modules[index].children.insert(name, added);
        }
        index
    }
}

impl Module {
    fn new(name: &str, file: &str, declared: (String, usize), parent: Option<usize>) -> Self {
        Self { name: name.into(), file: file.into(), declared, parent, children: BTreeMap::new(), items: Vec::new() }
    }
}

fn folder_of(file: &str) -> &str {
    file.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

/// Removes `.` and `name/..` from a path.
fn shorten(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(path) => Some(path.value()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    })
}

pub(crate) fn has_condition(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg"))
}

/// Returns true if the attributes have `#[test]`, or `#[cfg(...)]` with `test` in it and without `not`.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let words = list.tokens.to_string();
            words.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "test") && !words.contains("not")
        }
        _ => false,
    })
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Reads a program from texts, for tests of the rules: pairs of a path and its text, the root first.
#[cfg(test)]
pub(crate) fn program(files: &[(&str, &str)]) -> Program {
    Program::read("program", files[0].0, &|path| {
        files.iter().find(|(file, _)| *file == path).map(|(_, text)| (*text).into())
    })
}

#[test]
fn files_of_modules_are_found() {
    let program = program(&[
        ("a/main.rs", "mod b; mod c { mod d; } #[path = \"../x/e.rs\"] mod e; #[cfg(test)] mod tests;"),
        ("a/b.rs", "mod f;"),
        ("a/b/f.rs", ""),
        ("a/c/d.rs", ""),
        ("x/e.rs", "mod g;"),
        ("x/g.rs", ""),
    ]);
    let files: Vec<_> = program.modules.iter().map(|module| module.file.as_str()).collect();
    assert_eq!(files, ["a/main.rs", "a/b.rs", "a/b/f.rs", "a/main.rs", "a/c/d.rs", "x/e.rs", "x/g.rs"]);
    assert_eq!(program.top(2), Some("b"));
}
