//! Facts about a whole program that the collector of messages needs: its functions that print hints, and its constants.

use std::collections::BTreeMap;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Expr, ExprClosure, ExprLit, FnArg, ImplItemFn, ItemConst, ItemFn, ItemImpl, ItemMod, Lit, Local, Pat, Signature,
    Token,
};

/// Facts about the whole program.
#[derive(Default)]
pub(crate) struct Facts {
    /// For each function or closure with a parameter `hint`, the index of that: `name`, `Type::name` or `.name`.
    pub(crate) hint_parameters: BTreeMap<String, usize>,
    /// The texts of constants, by name. `None` if several constants have this name.
    pub(crate) constants: BTreeMap<String, Option<String>>,
    /// The type whose functions are visited.
    self_type: Option<String>,
}

impl Facts {
    fn add_signature(&mut self, signature: &Signature) {
        let parameters = signature.inputs.iter().filter_map(|input| match input {
            FnArg::Typed(typed) => Some(&*typed.pat),
            FnArg::Receiver(_) => None,
        });
        let parameters: Vec<_> = parameters.collect();
        let name = signature.ident.to_string();
        if let Some(self_type) = self.self_type.clone() {
            self.add_parameters(&format!("{self_type}::{name}"), parameters.iter().copied());
            self.add_parameters(&format!(".{name}"), parameters.into_iter());
        } else {
            self.add_parameters(&name, parameters.into_iter());
        }
    }

    fn add_parameters<'a>(&mut self, name: &str, mut parameters: impl Iterator<Item = &'a Pat>) {
        if let Some(index) = parameters.position(is_called_hint) {
            self.hint_parameters.insert(name.to_owned(), index);
        }
    }
}

impl<'ast> Visit<'ast> for Facts {
    // Modules are visited on their own.
    fn visit_item_mod(&mut self, _: &'ast ItemMod) {}

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.self_type = name_type(item);
        visit::visit_item_impl(self, item);
        self.self_type = None;
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add_signature(&function.sig);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add_signature(&function.sig);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if let (Pat::Ident(name), Some(init)) = (&local.pat, &local.init)
            && let Expr::Closure(ExprClosure { inputs, .. }) = &*init.expr
        {
            self.add_parameters(&name.ident.to_string(), inputs.iter());
        }
        visit::visit_local(self, local);
    }

    fn visit_item_const(&mut self, constant: &'ast ItemConst) {
        let name = constant.ident.to_string();
        if let Some(text) = read_literal(&constant.expr) {
            let one = if self.constants.contains_key(&name) { None } else { Some(text) };
            self.constants.insert(name, one);
        }
    }
}

/// Returns the name of the type of an `impl`.
pub(crate) fn name_type(item: &ItemImpl) -> Option<String> {
    let syn::Type::Path(path) = &*item.self_ty else { return None };
    path.path.segments.last().map(|segment| segment.ident.to_string())
}

/// Returns true for `hint`, also with a type or in a reference.
pub(crate) fn is_called_hint(pattern: &Pat) -> bool {
    match pattern {
        Pat::Ident(name) => name.ident == "hint",
        Pat::Type(typed) => is_called_hint(&typed.pat),
        _ => false,
    }
}

/// Returns the text of a literal.
pub(crate) fn read_literal(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        Expr::Macro(call) if call.mac.path.is_ident("concat") => {
            let parts = call.mac.parse_body_with(Punctuated::<Lit, Token![,]>::parse_terminated).ok()?;
            let parts = parts.iter().map(|part| if let Lit::Str(text) = part { Some(text.value()) } else { None });
            parts.collect()
        }
        Expr::Paren(inner) => read_literal(&inner.expr),
        Expr::Reference(inner) => read_literal(&inner.expr),
        _ => None,
    }
}
