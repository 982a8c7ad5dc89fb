//! The messages of a program in Rust: format strings and literals, but no text that the program reads or compares.

use super::collector::{Collector, Extent};
use super::facts::Facts;
use super::message::Message;
use crate::modules::Program;
use std::collections::BTreeSet;
use syn::visit::Visit;

/// Returns the messages of a program, by file. `extent` is called with the path of a file, and `is_message` with that,
/// and the name of a function or constant that has text.
pub(crate) fn collect_messages(
    program: &Program,
    extent: impl Fn(&str) -> Extent,
    mut is_message: impl FnMut(&str, &str) -> bool,
) -> Vec<(String, Vec<Message>)> {
    let mut facts = Facts::default();
    for module in &program.modules {
        module.items.iter().for_each(|item| facts.visit_item(item));
    }
    let mut resolved = BTreeSet::new();
    let mut files: Vec<(String, Vec<Message>)> = Vec::new();
    for module in program.modules.iter().filter(|module| extent(&module.file) != Extent::Nothing) {
        let mut collector = Collector::new(&facts, extent(&module.file));
        module.items.iter().for_each(|item| collector.visit_item(item));
        resolved.append(&mut collector.resolved);
        collector.give_variants_to_called();
        collector.messages.retain(|message| is_message(&module.file, &message.item));
        match files.iter_mut().find(|(file, _)| *file == module.file) {
            Some((_, messages)) => messages.append(&mut collector.messages),
            None => files.push((module.file.clone(), collector.messages)),
        }
    }
    for (_, messages) in &mut files {
        messages.retain(|message| !resolved.contains(&message.item));
    }
    files.retain(|(_, messages)| !messages.is_empty());
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    files
}

#[test]
fn messages_are_told_apart_from_other_text() {
    let collect = |text: &str, extent: Extent| {
        let program = crate::modules::program(&[("a.rs", text)]);
        let files = collect_messages(&program, |_| extent, |_, item| item != "to_script");
        files.into_iter().map(|(_, messages)| super::message::format_messages(messages)).collect::<String>()
    };
    let all = |text: &str| collect(text, Extent::All);
    assert_eq!(all("fn f() { print(&format!(\"{} is held\", path.display()), None) }"), "{path} is held\n");
    assert_eq!(all("fn f() { x.expect(\"a lock\"); x == \"a b\"; x.split_once(\"a b\"); assert!(x, \"a b\") }"), "");
    assert_eq!(all("/// A b.\n#[doc = \"a b\"] fn f(x: u8) { match x { \"a b\" => \"c d\" } }"), "c d\n");
    assert_eq!(
        all("fn f() { format!(\"{a}/b\"); write!(g, \"word\"); format!(\"SELECT a FROM b\"); \"a b\\r\\n\" }"),
        "word\n"
    );
    assert_eq!(all("fn to_script() { \"set -u x\" } #[cfg(test)] fn g() { \"a b\" }"), "");
    // Hints, by the name of a parameter, a function, a variable or a field.
    assert_eq!(
        all(
            "fn say(text: &str, hint: Option<&str>) {} fn f() { say(\"a b\", Some(\"c d\")); let hint = \"e f\"; (\"g h\", hint) }"
        ),
        "a b\nhint: c d\ng h\nhint: e f\n"
    );
    assert_eq!(
        all(
            "const TRY: &str = \"try again\"; fn f() { let (a, hint) = (\"a b\", TRY); E { what: \"c d\", hint: \"e f\" } }"
        ),
        "a b\nhint: try again\nc d\nhint: e f\n"
    );
    assert_eq!(
        all(
            "impl E { fn hint(&self) { match self { Self::A { .. } | Self::B => hint_for(1) } } } fn hint_for(x: u8) { \"h i\" }\n\
             impl Display for E { fn fmt(&self) { match self { Self::A { .. } => \"a b\", Self::B => \"c d\" } } }"
        ),
        "a b\nhint: h i\nc d\nhint: h i\n"
    );
    assert_eq!(
        collect(
            "const A: &str = \"a b\"; fn f() -> u8 { \"c d\" } fn g() -> Result<u8, E> { \"e f\" }",
            Extent::Fallible
        ),
        "e f\n"
    );
}
