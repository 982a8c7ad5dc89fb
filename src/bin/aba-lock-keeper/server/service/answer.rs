//! Requests to the REST interface of the lock service, and its answers.

use crate::fault::Fault;
use crate::lease::{Lease, QueueEntry};
use crate::os::clock::Moment;
use crate::server::http::{HttpAnswer, HttpClient};
use aba_lock::base::duration::parse_span;
use aba_lock_protocol::member;
use aba_lock_protocol::sharing::{Sharing, check_slots};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

/// Reads the holder from a lock in an answer.
pub(super) fn parse_entry(lock: &Value) -> QueueEntry {
    let mut name = read_text(lock, member::SERVICE);
    for part in [member::ENVIRONMENT, member::RESOURCE] {
        let part = read_text(lock, part);
        if !part.is_empty() {
            name.push('/');
            name.push_str(&part);
        }
    }
    let end = lock[member::EXPIRES_AT].as_str().and_then(|end| end.parse::<jiff::Timestamp>().ok());
    let left = end.map(|end| Duration::try_from(end.duration_since(jiff::Timestamp::now())).unwrap_or_default());
    let token = lock[member::FENCING_TOKEN].as_u64().unwrap_or(0);
    let owner_text = Some(read_text(lock, member::WHO));
    let (sharing, slot) = (parse_sharing(lock), lock[member::SLOT].as_u64().and_then(check_slots));
    let id = read_text(lock, member::ID);
    let (revision, owner, is_holder, others, held_slots) = (0, None, true, 0, 0);
    QueueEntry { name, id, token, revision, owner, owner_text, left, sharing, slot, is_holder, others, held_slots }
}

/// Reads the mode of a lock or a waiter in an answer.
pub(super) fn parse_sharing(lock: &Value) -> Sharing {
    match lock[member::SLOTS].as_u64().and_then(check_slots) {
        Some(number) => Sharing::Slots(number),
        None if lock[member::MODE] == member::SHARED => Sharing::Shared,
        None => Sharing::Exclusive,
    }
}

/// Reads our lease from a lock in an answer. `None`: the answer does not describe a lease on that name.
pub(super) fn parse_lease(name: &str, lock: &Value, renewed_at: Moment) -> Option<Lease> {
    let QueueEntry { name: locked, id, token, sharing, slot, .. } = parse_entry(lock);
    let ttl = parse_ttl(lock)?;
    let is_lease = !id.is_empty() && token > 0 && locked == name && ttl >= Duration::from_secs(1);
    is_lease.then_some(Lease { name: locked, id, token, revision: 0, ttl, renewed_at, kept: false, sharing, slot })
}

/// Reads the time to live of a lock in an answer.
pub(super) fn parse_ttl(lock: &Value) -> Option<Duration> {
    lock[member::TTL].as_str().and_then(parse_span)
}

/// Reads a member that is a text. Returns an empty text if the member is missing.
pub(super) fn read_text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Escapes a part of a path or of a query.
pub(super) fn escape(part: &str) -> String {
    let mut escaped = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Checks that a lock service could have created this id.
pub(super) fn check_id(id: &str) -> Result<&str, Fault> {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    let is_id = is_plain && id.bytes().any(|byte| byte.is_ascii_alphanumeric());
    if is_id { Ok(id) } else { Err(Fault::from_invalid_id(id)) }
}

/// Sends a request to each endpoint once, until one answers. The second value is true if an endpoint may have acted on
/// the request although its answer is unknown.
pub(super) fn try_endpoints(
    http: &mut HttpClient,
    method: &str,
    path: &str,
    body: Option<&Value>,
    limit: Duration,
) -> (Result<HttpAnswer, Fault>, bool) {
    let (mut what, mut is_in_doubt, mut not_service_count) = (String::new(), false, 0);
    for _ in 0..http.endpoint_count() {
        match http.request(method, path, body, limit) {
            Ok(answer) if matches!(answer.status, 401 | 403) => return (Err(refusal(&answer)), is_in_doubt),
            Ok(answer) if answer.status >= 500 || answer.status == 429 => {
                what = read_message(&answer);
                is_in_doubt |= answer.status != 429;
            }
            Ok(answer) if is_from_service(&answer) => return (Ok(answer), is_in_doubt),
            Ok(_) => {
                http.endpoint().clone_into(&mut what);
                not_service_count += 1;
            }
            Err(reason) => {
                what = reason;
                is_in_doubt = true;
            }
        }
        http.use_next_endpoint();
    }
    let fault =
        if not_service_count == http.endpoint_count() { not_service(&what) } else { Fault::Unreachable { what } };
    (Err(fault), is_in_doubt)
}

fn is_from_service(answer: &HttpAnswer) -> bool {
    let has_lock = !read_text(&answer.body, member::ID).is_empty() || answer.body[member::LOCKS].is_array();
    if answer.status == 200 { has_lock } else { read_code(answer).is_some() }
}

/// The fault for an answer that a lock service would not give.
pub(super) fn not_service(endpoint: &str) -> Fault {
    Fault::Failed {
        what: format!("{endpoint} does not answer like a lock service"),
        hint: Some(
            "check the address: for an etcd cluster, it starts with etcd://; if a proxy serves the API below a path, it ends with that path".to_owned(),
        ),
    }
}

/// Reads the code of a refusal.
pub(super) fn read_code(answer: &HttpAnswer) -> Option<u64> {
    answer.body[member::CODE].as_u64()
}

fn read_message(answer: &HttpAnswer) -> String {
    answer.body[member::MESSAGE].as_str().map_or_else(|| format!("HTTP status {}", answer.status), str::to_owned)
}

/// The fault for an answer with which the service refuses a request.
pub(super) fn refusal(answer: &HttpAnswer) -> Fault {
    // A 403 is about a valid token, and its message names the missing permission.
    let hint = (answer.status == 401).then(|| {
        "write a valid token into a file that only you can read, and set ABA_LOCK_SERVER_SECRET_FILE to its path"
            .to_owned()
    });
    Fault::Failed { what: format!("the lock service refused the request: {}", read_message(answer)), hint }
}
