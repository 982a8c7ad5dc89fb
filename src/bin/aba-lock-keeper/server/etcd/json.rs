//! Values and operations in the JSON form of etcd's gateway.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Encodes a key or a value.
pub(super) fn encode(text: &str) -> String {
    STANDARD.encode(text)
}

/// Decodes a key or a value. `None`: it is missing, or not text.
pub(super) fn decode(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()
}

/// Reads a number. The gateway writes numbers as strings, and leaves out zeros.
pub(super) fn read_number(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).or(value.as_u64()).unwrap_or(0)
}

/// Returns an operation that puts a key under a lease.
pub(super) fn put_operation(key: &str, value: &str, lease: u64) -> Value {
    json!({ "request_put": { "key": encode(key), "value": encode(value), "lease": lease.to_string() } })
}

/// Returns an operation that reads a key.
pub(super) fn get_operation(key: &str) -> Value {
    json!({ "request_range": { "key": encode(key) } })
}
