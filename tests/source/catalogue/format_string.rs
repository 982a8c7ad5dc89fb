//! Format strings of Rust: each placeholder gets the name of its argument.

use std::fmt::Write as _;
use syn::{Expr, ExprLit, Lit, Stmt};

/// Methods that show or convert a value: the placeholder has the name of the value.
const CONVERSIONS: &[&str] = &[
    "as_deref",
    "as_ref",
    "as_secs",
    "as_secs_f64",
    "as_str",
    "clone",
    "display",
    "escape_debug",
    "get",
    "iter",
    "join",
    "len",
    "saturating_add",
    "to_owned",
    "to_string",
    "to_string_lossy",
    "trim",
    "unwrap_or",
    "unwrap_or_default",
    "unwrap_or_else",
];

/// The verbs of functions that format a value.
const FORMATTERS: &[&str] =
    &["describe", "display", "escape", "format", "from", "hide", "new", "quote", "shorten", "spell"];

/// Returns the text of a format string, with `{name}` for each placeholder. Widths and precisions are left out.
pub(crate) fn name_placeholders(format: &str, arguments: &[&Expr]) -> String {
    let mut text = String::new();
    let mut next = 0;
    let mut rest = format;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let Some((inside, after)) = rest.split_once('}') else { break };
        rest = after;
        let (name, spec) = inside.split_once(':').unwrap_or((inside, ""));
        let name = if name.is_empty() {
            next += 1;
            arguments.get(next - 1).map(|argument| name_expression(argument)).unwrap_or_default()
        } else if let Ok(index) = name.parse::<usize>() {
            arguments.get(index).map(|argument| name_expression(argument)).unwrap_or_default()
        } else {
            name.to_owned()
        };
        let debug = if spec.contains('?') { ":?" } else { "" };
        let _ = write!(text, "{{{name}{debug}}}");
    }
    text + rest
}

/// Returns a name for the value of an expression. It is empty if there is no simple one.
fn name_expression(expression: &Expr) -> String {
    match expression {
        Expr::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default(),
        Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => name.to_string(),
            syn::Member::Unnamed(_) => name_expression(&field.base),
        },
        Expr::MethodCall(call) => {
            let method = call.method.to_string();
            let receiver = name_expression(&call.receiver);
            if CONVERSIONS.contains(&method.as_str()) && !receiver.is_empty() { receiver } else { method }
        }
        Expr::Call(call) => {
            let function = name_expression(&call.func);
            let argument = call.args.first().map(name_expression).unwrap_or_default();
            if FORMATTERS.iter().any(|verb| function.starts_with(verb)) && !argument.is_empty() {
                argument
            } else {
                function
            }
        }
        Expr::Assign(named) => name_expression(&named.right),
        Expr::Await(inner) => name_expression(&inner.base),
        Expr::Binary(inner) => name_expression(&inner.left),
        Expr::Cast(inner) => name_expression(&inner.expr),
        Expr::Index(inner) => name_expression(&inner.expr),
        Expr::Paren(inner) => name_expression(&inner.expr),
        Expr::Reference(inner) => name_expression(&inner.expr),
        Expr::Try(inner) => name_expression(&inner.expr),
        Expr::Unary(inner) => name_expression(&inner.expr),
        _ => read_choice(expression).unwrap_or_default(),
    }
}

/// Returns the values of an `if` or `match` between literals, such as `is|are`.
pub(crate) fn read_choice(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
        Expr::If(choice) => {
            let [Stmt::Expr(first, None)] = choice.then_branch.stmts.as_slice() else { return None };
            let (_, second) = choice.else_branch.as_ref()?;
            Some(format!("{}|{}", read_choice(first)?, read_choice(second)?))
        }
        Expr::Block(block) => {
            let [Stmt::Expr(only, None)] = block.block.stmts.as_slice() else { return None };
            read_choice(only)
        }
        Expr::Match(choice) => {
            let values: Option<Vec<_>> = choice.arms.iter().map(|arm| read_choice(&arm.body)).collect();
            values.map(|values| values.join("|"))
        }
        Expr::Paren(inner) => read_choice(&inner.expr),
        _ => None,
    }
}

#[test]
fn placeholders_have_the_names_of_their_arguments() {
    let name = |format: &str, arguments: &[&str]| {
        let arguments: Vec<Expr> =
            arguments.iter().map(|argument| syn::parse_str(argument).expect("an expression")).collect();
        name_placeholders(format, &arguments.iter().collect::<Vec<_>>())
    };
    assert_eq!(name("{name} is {value:?}, {{x}}", &[]), "{name} is {value:?}, {x}");
    assert_eq!(name("{}: {:>7}", &["path.display()", "format_io_error(&self.source)"]), "{path}: {source}");
    assert_eq!(name("{1} {0} {}", &["holder.pid", "user_name(data.uid())"]), "{user_name} {pid} {pid}");
    assert_eq!(name("it {} {}", &["if one { \"is\" } else { \"are\" }", "a + 2"]), "it {is|are} {a}");
}
