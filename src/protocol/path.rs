//! Paths of the REST interface.

/// Creates a lock (POST). The path of one lock starts with it: see [`lock`].
pub const LOCK: &str = "/api/v1alpha1/lock";

/// Lists locks (GET). The query may select them.
pub const LOCK_LIST: &str = "/api/v1alpha1/locks/list";

/// Lists locks that have ended (GET). The query may select them.
pub const LOCK_HISTORY: &str = "/api/v1alpha1/locks/history";

/// The stream of events (GET).
pub const LOCK_EVENTS: &str = "/api/v1alpha1/locks/events";

/// The path of one lock: GET shows it, PUT changes it, DELETE releases it. `id` must be escaped.
#[must_use]
pub fn lock(id: &str) -> String {
    format!("{LOCK}/{id}")
}

/// The path at which PUT and POST renew a lock. `id` must be escaped.
#[must_use]
pub fn renewal(id: &str) -> String {
    format!("{LOCK}/{id}/renew")
}

/// The path at which GET and POST release a lock, for clients that cannot send DELETE. `id` must be escaped.
#[must_use]
pub fn release(id: &str) -> String {
    format!("/api/v1alpha1/unlock/{id}")
}

/// The start of the paths for Terraform and `OpenTofu`.
pub const TERRAFORM: &str = "/terraform/";

/// The path of a lock of Terraform and `OpenTofu`. `name` must be escaped.
#[must_use]
pub fn terraform(name: &str) -> String {
    format!("{TERRAFORM}{name}")
}
