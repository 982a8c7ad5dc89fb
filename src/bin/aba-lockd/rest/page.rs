//! The web page for people: files that are a part of the program.

use super::json;
use axum::extract::Path;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};

/// Content security policy of the page: it may load nothing but its own files, and may connect to nothing but this service.
/// A script cannot turn text into elements.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files below `/page/`: the name, the type and the content.
const FILES: [(&str, &str, &str); 10] = [
    ("style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("main.js", SCRIPT, include_str!("page/main.js")),
    ("details.js", SCRIPT, include_str!("page/details.js")),
    ("dom.js", SCRIPT, include_str!("page/dom.js")),
    ("history.js", SCRIPT, include_str!("page/history.js")),
    ("list.js", SCRIPT, include_str!("page/list.js")),
    ("service.js", SCRIPT, include_str!("page/service.js")),
    ("stream.js", SCRIPT, include_str!("page/stream.js")),
    ("table.js", SCRIPT, include_str!("page/table.js")),
];

fn build_headers(kind: &'static str) -> [(HeaderName, &'static str); 5] {
    [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ]
}

pub(super) async fn show_page() -> Response {
    (build_headers(HTML), include_str!("page/index.html")).into_response()
}

pub(super) async fn show_file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(file, ..)| *file == name) {
        Some((_, kind, text)) => (build_headers(kind), *text).into_response(),
        None => json::respond_with_missing_path(),
    }
}
