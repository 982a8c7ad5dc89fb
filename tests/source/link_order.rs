//! The rule that the names in the link order of the helper lead to functions.
//!
//! `src/bin/aba-lock/link/order` lists the functions that the linker places next to each other. It ignores an unknown
//! name, so a function that is moved or renamed only makes the helper slower.

use crate::files;

const ORDER: &str = "src/bin/aba-lock/link/order";

/// Returns true if the module in a demangled name such as `aba_lock::exit::flock::status_for_error` defines the
/// function. In `drop_in_place<...>`, the name of a type takes the place of the function.
fn is_defined(name: &str, read: &impl Fn(&str) -> Option<String>) -> bool {
    let Some((_, path)) = name.split_once("aba_lock::") else { return true };
    // A closure belongs to the function that contains it.
    let path = path.trim_end_matches("::{{closure}}");
    let is_module = |part: &&str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let parts: Vec<&str> = path.split("::").collect();
    let Some((last, parents)) = parts.split_last() else { return false };
    let module = parents.iter().copied().take_while(is_module).collect::<Vec<_>>().join("/");
    let item = last.trim_end_matches('>');
    let definitions = if name.contains("drop_in_place") {
        [format!("struct {item}"), format!("enum {item}")]
    } else {
        [format!("fn {item}("), format!("fn {item}<")]
    };
    ["src", "src/bin/aba-lock"]
        .iter()
        .flat_map(|root| [format!("{root}/{module}.rs"), format!("{root}/{module}/mod.rs")])
        .filter_map(|file| read(&file))
        .any(|text| definitions.iter().any(|definition| text.contains(definition.as_str())))
}

#[test]
fn the_link_order_names_functions_that_exist() {
    let order = files::read(ORDER).expect("the order of functions");
    let unknown: Vec<&str> = order.lines().filter(|name| !is_defined(name, &files::read)).collect();
    assert!(unknown.is_empty(), "`make order` writes them again: {unknown:#?}");
    assert!(order.contains("aba_lock::"));
}

#[test]
fn a_name_that_leads_to_no_function_is_found() {
    let read = |file: &str| (file == "src/os/child.rs").then(|| "struct Child {} fn wait(&self)".to_owned());
    for name in ["aba_lock::os::child::Child::wait", "core::ptr::drop_in_place<aba_lock::os::child::Child>", "memcpy"] {
        assert!(is_defined(name, &read), "{name}");
    }
    assert!(is_defined("aba_lock::os::child::<impl aba_lock::os::command::PreparedCommand>::wait", &read));
    assert!(is_defined("aba_lock::os::child::Child::wait::{{closure}}", &read));
    assert!(!is_defined("aba_lock::os::child::Child::reap", &read));
    assert!(!is_defined("aba_lock::sys::command::Child::wait", &read));
}
