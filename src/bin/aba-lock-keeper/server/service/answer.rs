//! Requests to the REST interface, and what its answers say.

use crate::clock::Moment;
use crate::server::http::{Answer, Http};
use crate::server::{Entry, Fault, Lease};
use aba_lock_protocol::{member, span};
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;

pub(super) fn entry(lock: &Value) -> Entry {
    let mut name = text(lock, member::SERVICE);
    for part in [member::ENVIRONMENT, member::RESOURCE] {
        let part = text(lock, part);
        if !part.is_empty() {
            name.push('/');
            name.push_str(&part);
        }
    }
    let left = lock[member::EXPIRES_AT].as_str().and_then(|end| end.parse::<jiff::Timestamp>().ok());
    let left = left.map(|end| Duration::try_from(end.duration_since(jiff::Timestamp::now())).unwrap_or_default());
    let token = lock[member::FENCING_TOKEN].as_u64().unwrap_or(0);
    Entry { name, id: text(lock, member::ID), token, owner: None, said: Some(text(lock, member::WHO)), left }
}

/// `None`: the service does not speak so of a lease on that name.
pub(super) fn lease(name: &str, lock: &Value, good: Moment) -> Option<Lease> {
    let Entry { name: locked, id, token, .. } = entry(lock);
    let ttl = ttl(lock)?;
    let is_one = !id.is_empty() && token > 0 && locked == name && ttl >= Duration::from_secs(1);
    is_one.then_some(Lease { name: locked, id, token, ttl, good, kept: false })
}

/// The time to live that an answer gives a lock.
pub(super) fn ttl(lock: &Value) -> Option<Duration> {
    lock[member::TTL].as_str().and_then(span::parse)
}

pub(super) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// A word of a path or a query.
pub(super) fn escaped(word: &str) -> String {
    let mut escaped = String::new();
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// An id as a lock service could have given it.
pub(super) fn checked(id: &str) -> Result<&str, Fault> {
    let is_fine = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    if is_fine && id.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(id);
    }
    Err(Fault::Misused { what: format!("{id:?} is no lease"), hint: "say what `lease acquire` printed".to_owned() })
}

/// Asks each endpoint once, until one answers. Also whether one may have done what was asked, and its answer is not known.
pub(super) fn call(
    http: &mut Http,
    method: &str,
    path: &str,
    body: Option<&Value>,
    limit: Duration,
) -> (Result<Answer, Fault>, bool) {
    let (mut what, mut unanswered, mut strangers) = (String::new(), false, 0);
    for _ in 0..http.endpoints() {
        match http.send(method, path, body, limit) {
            Ok(answer) if matches!(answer.status, 401 | 403) => return (Err(refused(&answer)), unanswered),
            Ok(answer) if answer.status >= 500 || answer.status == 429 => {
                what = message(&answer);
                unanswered |= answer.status != 429;
            }
            Ok(answer) if is_of_a_service(&answer) => return (Ok(answer), unanswered),
            Ok(_) => {
                http.endpoint().clone_into(&mut what);
                strangers += 1;
            }
            Err(reason) => {
                what = reason;
                unanswered = true;
            }
        }
        http.next_endpoint();
    }
    let fault = if strangers == http.endpoints() { strange(&what) } else { Fault::Unreachable { what } };
    (Err(fault), unanswered)
}

fn is_of_a_service(answer: &Answer) -> bool {
    let has_lock = !text(&answer.body, member::ID).is_empty() || answer.body[member::LOCKS].is_array();
    if answer.status == 200 { has_lock } else { code(answer).is_some() }
}

/// It answers, and is no lock service.
pub(super) fn strange(endpoint: &str) -> Fault {
    Fault::Failed {
        what: format!("{endpoint} does not speak as a lock service does"),
        hint: Some(
            "see the address: an etcd cluster is at etcd://, and a path in front of /api is part of it".to_owned(),
        ),
    }
}

/// Why it was refused.
pub(super) fn code(answer: &Answer) -> Option<u64> {
    answer.body[member::CODE].as_u64()
}

fn message(answer: &Answer) -> String {
    answer.body[member::MESSAGE].as_str().map_or_else(|| format!("HTTP status {}", answer.status), str::to_owned)
}

pub(super) fn refused(answer: &Answer) -> Fault {
    let hint = matches!(answer.status, 401 | 403)
        .then(|| "put a token into a file of yours, and set ABA_LOCK_SERVER_SECRET_FILE to its path".to_owned());
    Fault::Failed { what: format!("the lock service refused: {}", message(answer)), hint }
}
