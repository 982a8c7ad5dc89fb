//! Collects the messages of one module: it visits the syntax tree, and notes which text is part of a hint.
//!
//! A literal is a message if it has a blank and a letter. In `write!` and the like, a letter is enough.

use super::facts::{Facts, is_called_hint, name_type, read_literal};
use super::format_string::{name_placeholders, read_choice};
use super::message::{Message, has_letter, is_sentence, split_prefix};
use std::collections::BTreeSet;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Arm, Attribute, Block, Expr, ExprCall, ExprLit, ExprMethodCall, ExprTuple, FieldValue, ImplItemFn, ItemConst,
    ItemFn, ItemImpl, ItemMacro, ItemMod, ItemStatic, Lit, Local, Macro, Pat, ReturnType, Signature, Token,
};

/// Macros whose first literal is a format string. `format!` also makes paths, so a letter alone makes no message there.
const FORMATS: &[&str] = &["format", "format_args"];
const WRITES: &[&str] = &["write", "writeln", "print", "println", "eprint", "eprintln"];

/// Macros with text for developers, text that is compared, and JSON.
const OTHER_TEXT: &[&str] = &[
    "assert",
    "assert_eq",
    "assert_ne",
    "debug_assert",
    "debug_assert_eq",
    "env",
    "include_str",
    "json",
    "matches",
    "option_env",
    "panic",
    "todo",
    "unimplemented",
    "unreachable",
];

/// Methods whose arguments are text that the program looks for, and `expect`, whose text is for developers.
const SEARCHES: &[&str] = &[
    "contains",
    "ends_with",
    "eq_ignore_ascii_case",
    "expect",
    "expect_err",
    "find",
    "rsplit",
    "rsplit_once",
    "split",
    "split_once",
    "splitn",
    "starts_with",
    "strip_prefix",
    "strip_suffix",
    "trim_end_matches",
    "trim_matches",
    "trim_start_matches",
];

/// Parts of statements in SQL.
const SQL: &[&str] = &["CREATE TABLE ", "DELETE FROM ", "INSERT INTO ", "SELECT ", "UPDATE ", " WHERE ", " = ?"];

/// Methods whose argument is printed, even if it is one word.
const APPENDS: &[&str] = &["push_str", "write_str"];

/// The parts of a file that are read for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    All,
    /// Only functions that return a `Result`.
    Fallible,
    Nothing,
}

pub(super) struct Collector<'a> {
    facts: &'a Facts,
    pub(super) messages: Vec<Message>,
    /// The constants whose text was added where a hint uses them.
    pub(super) resolved: BTreeSet<String>,
    /// True in an expression whose text becomes a hint.
    in_hint: bool,
    /// The index of the hint in the tuples of the expression, and their length.
    hint_in_tuple: Option<(usize, usize)>,
    /// The error type whose `fmt` or `hint` is visited.
    error_type: Option<String>,
    /// The variants of that in the pattern of the arm that is visited.
    variants: Vec<String>,
    /// True in the body of `fmt` or `hint`, which have one arm for each variant.
    in_variants: bool,
    /// The function or constant that is visited.
    item: String,
    extent: Extent,
    /// The functions that the arms of `hint` call, each with the variants of the arm.
    called: Vec<(String, Vec<String>)>,
    /// Hints that a `let` names before the message.
    early_hints: Vec<Message>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(facts: &'a Facts, extent: Extent) -> Self {
        Self {
            facts,
            messages: Vec::new(),
            resolved: BTreeSet::new(),
            in_hint: false,
            hint_in_tuple: None,
            error_type: None,
            variants: Vec::new(),
            in_variants: false,
            item: String::new(),
            extent,
            called: Vec::new(),
            early_hints: Vec::new(),
        }
    }

    fn add(&mut self, text: &str) {
        let (text, is_hint) = split_prefix(text);
        let text = text.to_owned();
        // A line end of two characters belongs to a protocol.
        if has_letter(&text) && !text.contains("\r\n") && !SQL.iter().any(|part| text.contains(part)) {
            self.messages.push(Message {
                text,
                is_hint: is_hint || self.in_hint,
                variants: self.variants.clone(),
                item: self.item.clone(),
            });
        }
    }

    /// Returns `name`, or `Type::name` for a function of a type.
    fn name_function(&self, path: &syn::Path) -> String {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        match (names.as_slice(), &self.error_type) {
            ([.., owner, name], Some(error_type)) if owner == "Self" => format!("{error_type}::{name}"),
            ([.., owner, name], _) if owner.starts_with(char::is_uppercase) => format!("{owner}::{name}"),
            ([.., name], _) => name.clone(),
            ([], _) => String::new(),
        }
    }

    /// Gives the hints of a function that an arm of `hint` calls to the variants of the arm.
    pub(super) fn give_variants_to_called(&mut self) {
        for message in self.messages.iter_mut().filter(|message| message.is_hint && message.variants.is_empty()) {
            let called = self.called.iter().filter(|(function, _)| *function == message.item);
            message.variants = called.flat_map(|(_, variants)| variants.clone()).collect();
        }
    }

    fn visit_as_hint(&mut self, expression: &Expr) {
        let before = std::mem::replace(&mut self.in_hint, true);
        self.visit_expr(expression);
        self.in_hint = before;
    }

    /// Visits the arguments of a call. One of them can be a hint.
    fn visit_arguments<'b>(&mut self, function: &str, arguments: impl Iterator<Item = &'b Expr>) {
        let hint = self.facts.hint_parameters.get(function);
        for (index, argument) in arguments.enumerate() {
            if hint == Some(&index) {
                self.visit_as_hint(argument);
            } else {
                self.visit_expr(argument);
            }
        }
    }

    fn visit_function(&mut self, signature: &Signature, block: &Block) {
        let name = signature.ident.to_string();
        if self.extent == Extent::Fallible && !returns_result(signature) {
            return;
        }
        let item = std::mem::replace(&mut self.item, name.clone());
        let hint = std::mem::replace(&mut self.in_hint, name.contains("hint"));
        let in_variants = std::mem::replace(&mut self.in_variants, name == "fmt" || name == "hint");
        self.visit_block(block);
        self.in_hint = hint;
        self.in_variants = in_variants;
        self.item = item;
    }

    fn add_format(&mut self, name: &str, arguments: &[Expr]) {
        let at = arguments.iter().take(2).position(|argument| read_literal(argument).is_some());
        let Some(at) = at else { return arguments.iter().for_each(|argument| self.visit_expr(argument)) };
        let rest: Vec<&Expr> = arguments[at + 1..].iter().collect();
        let text = name_placeholders(&read_literal(&arguments[at]).unwrap_or_default(), &rest);
        if is_sentence(&text) || WRITES.contains(&name) && has_letter(&text) {
            self.add(&text);
        }
        for argument in rest {
            // The values of a choice between literals are in the text.
            if read_choice(argument).is_none() {
                self.visit_expr(argument);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}
    fn visit_item_macro(&mut self, _: &'ast ItemMacro) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
    fn visit_pat(&mut self, _: &'ast Pat) {}

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        // `Debug` is for developers.
        if item.trait_.as_ref().is_some_and(|(path, _)| path.segments.last().is_some_and(|name| name.ident == "Debug"))
        {
            return;
        }
        self.error_type = name_type(item);
        visit::visit_item_impl(self, item);
        self.error_type = None;
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.visit_function(&function.sig, &function.block);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.visit_function(&function.sig, &function.block);
    }

    fn visit_item_const(&mut self, constant: &'ast ItemConst) {
        if self.extent == Extent::All {
            let item = std::mem::replace(&mut self.item, constant.ident.to_string());
            self.visit_expr(&constant.expr);
            self.item = item;
        }
    }

    fn visit_item_static(&mut self, item: &'ast ItemStatic) {
        if self.extent == Extent::All {
            self.visit_expr(&item.expr);
        }
    }

    fn visit_block(&mut self, block: &'ast Block) {
        let before = std::mem::take(&mut self.early_hints);
        visit::visit_block(self, block);
        let mut early = std::mem::replace(&mut self.early_hints, before);
        self.messages.append(&mut early);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if is_called_hint(&local.pat) {
            let start = self.messages.len();
            let before = std::mem::replace(&mut self.in_hint, true);
            visit::visit_local(self, local);
            self.in_hint = before;
            self.early_hints.extend(self.messages.split_off(start));
            return;
        }
        let hint = match &local.pat {
            Pat::Tuple(tuple) => tuple.elems.iter().position(is_called_hint).map(|at| (at, tuple.elems.len())),
            _ => None,
        };
        let before = std::mem::replace(&mut self.hint_in_tuple, hint);
        visit::visit_local(self, local);
        self.hint_in_tuple = before;
    }

    fn visit_expr_tuple(&mut self, tuple: &'ast ExprTuple) {
        // A header of HTTP, with its value.
        if let Some(Expr::Path(first)) = tuple.elems.first()
            && first.path.segments.len() > 1
            && first.path.segments[0].ident == "header"
        {
            return;
        }
        for (index, element) in tuple.elems.iter().enumerate() {
            if self.hint_in_tuple == Some((index, tuple.elems.len())) {
                self.visit_as_hint(element);
            } else {
                self.visit_expr(element);
            }
        }
    }

    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        if matches!(&field.member, syn::Member::Named(name) if name == "hint") {
            self.visit_as_hint(&field.expr);
        } else {
            self.visit_expr(&field.expr);
        }
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        let is_outermost = self.in_variants && self.variants.is_empty();
        if let (true, Some(error_type)) = (is_outermost, &self.error_type) {
            add_variants(&arm.pat, error_type, &mut self.variants);
        }
        visit::visit_arm(self, arm);
        if is_outermost {
            self.variants.clear();
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        let function = match &*call.func {
            Expr::Path(path) => self.name_function(&path.path),
            _ => String::new(),
        };
        if self.in_hint && !self.variants.is_empty() {
            self.called.push((function.clone(), self.variants.clone()));
        }
        self.visit_arguments(&function, call.args.iter());
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        self.visit_expr(&call.receiver);
        let method = call.method.to_string();
        if SEARCHES.contains(&method.as_str()) {
            return;
        }
        let word = if APPENDS.contains(&method.as_str()) { call.args.first().and_then(read_literal) } else { None };
        if let Some(word) = word {
            if has_letter(&word) {
                self.add(&word);
            }
        } else {
            self.visit_arguments(&format!(".{method}"), call.args.iter());
        }
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        if !matches!(binary.op, syn::BinOp::Eq(_) | syn::BinOp::Ne(_)) {
            visit::visit_expr_binary(self, binary);
        }
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let Some(name) = path.path.segments.last().map(|segment| segment.ident.to_string()) else { return };
        if self.in_hint
            && let Some(Some(text)) = self.facts.constants.get(&name)
        {
            self.add(text);
            self.resolved.insert(name);
        }
    }

    fn visit_expr_lit(&mut self, literal: &'ast ExprLit) {
        if let Lit::Str(text) = &literal.lit
            && is_sentence(&text.value())
        {
            self.add(&text.value());
        }
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let name = call.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if OTHER_TEXT.contains(&name.as_str()) {
            return;
        }
        if name == "concat" {
            let text = read_literal(&Expr::Macro(syn::ExprMacro { attrs: Vec::new(), mac: call.clone() }));
            return text.filter(|text| is_sentence(text)).map_or((), |text| self.add(&text));
        }
        let Ok(arguments) = call.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated) else { return };
        let arguments: Vec<Expr> = arguments.into_iter().collect();
        if FORMATS.contains(&name.as_str()) || WRITES.contains(&name.as_str()) {
            self.add_format(&name, &arguments);
        } else {
            for argument in &arguments {
                self.visit_expr(argument);
            }
        }
    }
}

fn returns_result(signature: &Signature) -> bool {
    let ReturnType::Type(_, returned) = &signature.output else { return false };
    matches!(&**returned, syn::Type::Path(path) if path.path.segments.last().is_some_and(|name| name.ident == "Result"))
}

/// Adds the variants `Self::X` of a pattern, as `Type::X`.
fn add_variants(pattern: &Pat, error_type: &str, variants: &mut Vec<String>) {
    let path = match pattern {
        Pat::Or(choices) => return choices.cases.iter().for_each(|one| add_variants(one, error_type, variants)),
        Pat::Guard(guarded) => return add_variants(&guarded.pat, error_type, variants),
        Pat::Path(path) => &path.path,
        Pat::Struct(one) => &one.path,
        Pat::TupleStruct(one) => &one.path,
        _ => return,
    };
    if path.segments.len() == 2 && path.segments[0].ident == "Self" {
        variants.push(format!("{error_type}::{}", path.segments[1].ident));
    }
}
