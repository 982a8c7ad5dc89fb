//! Formats and parses the origin of a lock, in both stores: JSON, or an empty text if the lock has none.

use crate::model::LockOrigin;
use serde_json::{Value, json};

pub(super) fn format_origin(origin: &LockOrigin) -> String {
    if *origin == LockOrigin::default() {
        return String::new();
    }
    json!({"name": origin.name, "secret": origin.secret, "info": origin.info}).to_string()
}

/// Parses an origin. `None`: the text is not an origin.
pub(super) fn parse_origin(text: &str) -> Option<LockOrigin> {
    if text.is_empty() {
        return Some(LockOrigin::default());
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    Some(LockOrigin { name: text("name")?, secret: text("secret")?, info: text("info").unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_survives_the_store() {
        let origin = LockOrigin { name: "a \"b\"\n".to_owned(), secret: "00ff".to_owned(), info: "{}".to_owned() };
        for origin in [origin, LockOrigin::default()] {
            assert_eq!(parse_origin(&format_origin(&origin)), Some(origin));
        }
        for unreadable in ["x", "{}", r#"{"name":"a"}"#, r#"{"name":1,"secret":""}"#] {
            assert_eq!(parse_origin(unreadable), None, "{unreadable}");
        }
    }
}
