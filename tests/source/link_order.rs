//! The rule that the names in the link order of the helper lead to functions, types and variables.
//!
//! `src/bin/aba-lock/link/order` lists the functions and variables that the linker places next to each other. It ignores an
//! unknown name, so a function that is moved or renamed only makes the helper slower.

use crate::files;

const ORDER: &str = "src/bin/aba-lock/link/order";

/// The beginning of the paths of the library and of the helper.
const CRATE: &str = "aba_lock::";

/// Returns the paths of this crate in a demangled name, such as `aba_lock::os::child::Child` and `aba_lock::os::words` in
/// `<aba_lock::os::child::Child as Iter<aba_lock::os::words::{closure#0}>>::next`, without `aba_lock::`.
fn list_paths(name: &str) -> impl Iterator<Item = &str> {
    name.split(CRATE).skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(rest.len());
        rest[..end].trim_end_matches(':')
    })
}

/// Returns the name of the method in `<aba_lock::os::child::Child>::wait`. Its definition can be in any file.
fn find_method(name: &str) -> Option<&str> {
    let (type_name, method) = name.strip_prefix('<')?.split_once(">::")?;
    let is_ours = type_name.starts_with(CRATE) && !type_name.contains([' ', '<']);
    let method = method.split("::").next()?;
    is_ours.then_some(method)
}

/// Returns true if a text defines a function, a type or a variable.
fn defines(text: &str, item: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    ["fn ", "struct ", "enum ", "static ", "trait "].iter().any(|kind| {
        let definition = format!("{kind}{item}");
        text.match_indices(&definition).any(|(at, _)| ends(&text[at + definition.len()..]))
    })
}

/// Returns true if a part of a path such as `exit::flock::status_for_error` is a module that defines the next part.
fn is_defined(path: &str, read: &impl Fn(&str) -> Option<String>) -> bool {
    let parts: Vec<&str> = path.split("::").collect();
    (0..parts.len()).any(|count| {
        let module = parts[..count].join("/");
        let files: [String; 3] = if module.is_empty() {
            ["src/lib.rs".to_owned(), "src/bin/aba-lock/main.rs".to_owned(), String::new()]
        } else {
            [
                format!("src/{module}.rs"),
                format!("src/bin/aba-lock/{module}.rs"),
                format!("src/bin/aba-lock/{module}/mod.rs"),
            ]
        };
        // A module can be in the file of another one: `mod NAME { ... }`.
        let is_inside = |text: &str| {
            parts
                .get(count + 1)
                .is_some_and(|item| text.contains(&format!("mod {} {{", parts[count])) && defines(text, item))
        };
        files.iter().filter_map(|file| read(file)).any(|text| defines(&text, parts[count]) || is_inside(&text))
    })
}

/// Returns the names in a list that do not lead to a definition.
fn find_unknown<'a>(order: &'a str, sources: &[String], read: &impl Fn(&str) -> Option<String>) -> Vec<&'a str> {
    let has_method = |name| find_method(name).is_none_or(|method| sources.iter().any(|text| defines(text, method)));
    order.lines().filter(|name| !has_method(name) || !list_paths(name).all(|path| is_defined(path, read))).collect()
}

#[test]
fn the_link_order_names_functions_that_exist() {
    let order = files::read(ORDER).expect("the order of functions");
    let sources: Vec<String> =
        files::list().iter().filter(|file| file.starts_with("src/")).filter_map(|file| files::read(file)).collect();
    let unknown = find_unknown(&order, &sources, &files::read);
    assert!(unknown.is_empty(), "`make order` writes them again: {unknown:#?}");
    assert!(order.contains(CRATE));
}

#[test]
fn a_name_that_leads_to_no_function_is_found() {
    let text = "struct Child {} fn wait(&self) static COUNT: u8 mod heap { static BLOCKS: u8 }";
    let read = |file: &str| (file == "src/os/child.rs").then(|| text.to_owned());
    let find = |name| !find_unknown(name, &[text.to_owned()], &read).is_empty();
    for known in [
        "memcpy",
        "<aba_lock::os::child::Child>::wait",
        "<aba_lock::os::child::Child>::wait::{closure#0}",
        "<aba_lock::os::child::Child as core::fmt::Display>::fmt",
        "core::ptr::drop_in_place::<aba_lock::os::child::Child>",
        "core::iter::from_fn::<aba_lock::os::child::wait::{closure#0}, alloc::vec::Vec<aba_lock::os::child::Child>>",
        "aba_lock::os::child::COUNT",
        "aba_lock::os::child::heap::BLOCKS",
    ] {
        assert!(!find(known), "{known}");
    }
    for unknown in [
        "<aba_lock::os::child::Child>::reap",
        "<aba_lock::sys::child::Child>::wait",
        "core::ptr::drop_in_place::<aba_lock::os::child::Children>",
        "core::iter::from_fn::<aba_lock::os::child::Child, aba_lock::os::child::wai::{closure#0}>",
        "aba_lock::os::child::COUN",
        "aba_lock::os::child::heap::BLOCK",
        "aba_lock::os::child::area::BLOCKS",
    ] {
        assert!(find(unknown), "{unknown}");
    }
}
