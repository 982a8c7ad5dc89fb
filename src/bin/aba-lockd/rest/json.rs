//! The JSON of requests and answers. Answers are in camelCase; requests may be in camelCase or `snake_case`.
//!
//! Unknown members are ignored, except other spellings of a known member: if `TTL` were ignored, the lock would never
//! expire.

use super::body::RequestBody;
use crate::error::CallError;
use crate::lock_manager::GrantedLock;
use crate::model::{Lock, LockFields, LockKey, LockOrigin, LockPage, LockRequest, Waiter};
use crate::past_lock::{HistoryPage, LockEnd, PastLock};
use aba_lock_protocol::sharing::{SLOTS_RULE, Sharing, check_slots};
use aba_lock_protocol::{code, member, span};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::time::Duration;

type Members = Map<String, Value>;

/// Parses the body, whatever its `Content-Type`: `curl -d` sends that of a form.
pub(super) fn parse_object(RequestBody(body): RequestBody) -> Result<Members, CallError> {
    match serde_json::from_slice(&body?) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(CallError::Invalid("the body is JSON, but not an object".to_owned())),
        Err(error) => Err(CallError::Invalid(format!("the body is not JSON: {error}"))),
    }
}

/// Parses the body, which may be empty.
pub(super) fn parse_optional_object(body: RequestBody) -> Result<Members, CallError> {
    match body {
        RequestBody(Ok(body)) if body.trim_ascii().is_empty() => Ok(Members::new()),
        body => parse_object(body),
    }
}

/// Returns the text of the first of these members that is neither missing nor empty.
fn read_text(members: &Members, names: &[&str]) -> Result<String, CallError> {
    for name in names {
        match members.get(*name) {
            None | Some(Value::Null) => (),
            Some(Value::String(text)) if text.is_empty() => (),
            Some(Value::String(text)) => return Ok(text.clone()),
            Some(_) => return Err(CallError::Invalid(format!("{name} is not a string"))),
        }
    }
    Ok(String::new())
}

fn read_time_span(members: &Members, name: &str) -> Result<Option<Duration>, CallError> {
    span::read_json(members.get(name)).map_err(|_| {
        CallError::Invalid(format!(
            "{name} is not a time span of at least 1ms, such as \"90s\", \"30m\", or a number of seconds"
        ))
    })
}

/// The known members of a request.
const MEMBERS: [&str; 10] = [
    member::SERVICE,
    member::ENVIRONMENT,
    member::RESOURCE,
    member::WHO,
    member::EVENT_ID,
    "event_id",
    member::TTL,
    member::WAIT,
    member::MODE,
    member::SLOTS,
];

/// Refuses a name that differs from a known one only by case or separators, or that begins with the name of a time
/// span, such as `ttlSeconds`.
pub(super) fn check_spelling(name: &str, known: &[&'static str]) -> Result<(), CallError> {
    let plain = |name: &str| name.replace(['_', '-', ' '], "").to_lowercase();
    let (plain_name, is_known) = (plain(name), known.contains(&name));
    let is_similar = |known: &&&str| {
        plain_name == plain(known) || [member::TTL, member::WAIT].contains(*known) && plain_name.starts_with(**known)
    };
    match known.iter().find(is_similar) {
        Some(meant) if !is_known => Err(CallError::Invalid(format!("unknown name {name}: did you mean {meant}?"))),
        _ => Ok(()),
    }
}

fn check_members(members: &Members) -> Result<(), CallError> {
    members.keys().try_for_each(|name| check_spelling(name, &MEMBERS))
}

/// Returns the time to live in the body of a renewal.
pub(super) fn read_renewal(members: &Members) -> Result<Option<Duration>, CallError> {
    check_members(members)?;
    read_time_span(members, member::TTL)
}

pub(super) fn read_request(members: &Members) -> Result<LockRequest, CallError> {
    let LockFields { service, environment, resource, who, event_id } = read_fields(members)?;
    let key = LockKey { service, environment, resource };
    let (ttl, wait) = (read_time_span(members, member::TTL)?, read_time_span(members, member::WAIT)?);
    let sharing = read_sharing(members)?;
    Ok(LockRequest { key, who, event_id, ttl, wait, sharing, origin: LockOrigin::default() })
}

/// Reads the mode of a request. Without the members, the lock is exclusive, as in the original API.
fn read_sharing(members: &Members) -> Result<Sharing, CallError> {
    let mode = match &*read_text(members, &[member::MODE])? {
        "" => None,
        member::EXCLUSIVE => Some(Sharing::Exclusive),
        member::SHARED => Some(Sharing::Shared),
        other => {
            return Err(CallError::Invalid(format!("mode must be \"shared\" or \"exclusive\", not {other:?}")));
        }
    };
    match (members.get(member::SLOTS), mode) {
        (None | Some(Value::Null), mode) => Ok(mode.unwrap_or_default()),
        (Some(_), Some(_)) => Err(CallError::Invalid("give either mode or slots, not both".to_owned())),
        (Some(slots), None) => {
            let slots = read_whole_number(slots).and_then(check_slots);
            slots.map(Sharing::Slots).ok_or_else(|| CallError::Invalid(SLOTS_RULE.to_owned()))
        }
    }
}

/// Returns a number without a fraction. `3.0` is one, as in JSON schemas.
fn read_whole_number(value: &Value) -> Option<u64> {
    let whole = |number: &f64| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both are checked above")]
    let convert = |number: f64| number as u64;
    value.as_u64().or_else(|| value.as_f64().filter(whole).map(convert))
}

/// Adds the members of a lock or a waiter that has another mode than those of the original API.
fn put_sharing(members: &mut Members, sharing: Sharing) {
    match sharing {
        Sharing::Exclusive => (),
        Sharing::Shared => drop(members.insert(member::MODE.to_owned(), json!(member::SHARED))),
        Sharing::Slots(number) => drop(members.insert(member::SLOTS.to_owned(), json!(number))),
    }
}

pub(super) fn read_changes(members: &Members) -> Result<LockFields, CallError> {
    let changes = read_fields(members)?;
    for name in [member::TTL, member::WAIT] {
        if read_time_span(members, name)?.is_some() {
            return Err(CallError::Invalid(format!("an update cannot change {name}: renew the lock instead")));
        }
    }
    for name in [member::MODE, member::SLOTS] {
        if members.get(name).is_some_and(|value| !value.is_null()) {
            return Err(CallError::Invalid(format!("an update cannot change {name}: unlock, and create another lock")));
        }
    }
    Ok(changes)
}

fn read_fields(members: &Members) -> Result<LockFields, CallError> {
    check_members(members)?;
    Ok(LockFields {
        service: read_text(members, &[member::SERVICE])?,
        environment: read_text(members, &[member::ENVIRONMENT])?,
        resource: read_text(members, &[member::RESOURCE])?,
        who: read_text(members, &[member::WHO])?,
        event_id: read_text(members, &[member::EVENT_ID, "event_id"])?,
    })
}

/// Returns the members of a lock, with its queue.
fn to_members(lock: &Lock) -> Members {
    describe_lock(lock, &lock.queue)
}

/// Returns the members of a lock, with this queue.
pub(super) fn describe_lock(lock: &Lock, queue: &[Waiter]) -> Members {
    let mut members = Members::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    // A lock that is being handed over has none of these yet.
    if !lock.id.is_empty() {
        put(member::ID, json!(lock.id));
        put(member::CREATED_AT, json!(lock.created.to_string()));
        put(member::FENCING_TOKEN, json!(lock.token));
    }
    put(member::SERVICE, json!(lock.key.service));
    put(member::WHO, json!(lock.who));
    put(member::ENVIRONMENT, json!(lock.key.environment));
    put(member::RESOURCE, json!(lock.key.resource));
    put(member::EVENT_ID, json!(lock.event_id));
    if let Some(ttl) = lock.ttl {
        put(member::TTL, json!(span::format(ttl)));
    }
    if let Some(expires) = lock.expires {
        put(member::EXPIRES_AT, json!(expires.to_string()));
    }
    if let Some(slot) = lock.slot {
        put(member::SLOT, json!(slot));
    }
    put_sharing(&mut members, lock.sharing);
    if !queue.is_empty() {
        members.insert(member::QUEUE.to_owned(), list_waiters(queue));
    }
    members
}

fn list_waiters(queue: &[Waiter]) -> Value {
    let describe = |(position, waiter): (u32, &Waiter)| {
        let mut entry = Members::new();
        entry.insert(member::WHO.to_owned(), json!(waiter.who));
        entry.insert("since".to_owned(), json!(waiter.since.to_string()));
        entry.insert("queuePosition".to_owned(), json!(position));
        put_sharing(&mut entry, waiter.sharing);
        Value::Object(entry)
    };
    (1..).zip(queue).map(describe).collect()
}

/// Returns a key and its queue, which may be empty.
pub(super) fn describe_queue(key: &LockKey, queue: &[Waiter]) -> Members {
    let LockKey { service, environment, resource } = key;
    let mut members = Members::new();
    for (name, value) in [(member::SERVICE, service), (member::ENVIRONMENT, environment), (member::RESOURCE, resource)]
    {
        members.insert(name.to_owned(), json!(value));
    }
    members.insert(member::QUEUE.to_owned(), list_waiters(queue));
    members
}

/// Returns the members of a lock that has ended.
pub(super) fn describe_end(lock: &Lock, end: &LockEnd) -> Members {
    let mut members = describe_lock(lock, &[]);
    members.insert("endedAt".to_owned(), json!(end.at.to_string()));
    members.insert("end".to_owned(), json!(end.cause.kind.name()));
    if !end.cause.by.is_empty() {
        members.insert("endedBy".to_owned(), json!(end.cause.by));
    }
    members
}

pub(super) fn respond(status: StatusCode, value: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{value}\n")).into_response()
}

/// Returns a lock twice: nested, for clients of the API, and flat, for scripts.
fn to_answer(lock: &Lock) -> Members {
    let members = to_members(lock);
    let mut body = members.clone();
    body.insert("lock".to_owned(), Value::Object(members));
    body
}

pub(super) fn respond_with_lock(lock: &Lock) -> Response {
    respond(StatusCode::OK, &Value::Object(to_answer(lock)))
}

/// Responds with a new lock, and the secret with which another caller may release it.
pub(super) fn respond_with_grant(granted: &GrantedLock) -> Response {
    let mut body = to_answer(&granted.lock);
    if let Some(secret) = &granted.secret {
        body.insert(member::SECRET.to_owned(), json!(secret));
    }
    respond(StatusCode::OK, &Value::Object(body))
}

pub(super) fn respond_with_release(lock: &Lock) -> Response {
    respond(StatusCode::OK, &json!({"message": "lock deleted", "success": true, (member::ID): lock.id, "count": "1"}))
}

pub(super) fn respond_with_page(page: &LockPage, number: u32, per_page: Option<u32>) -> Response {
    let locks: Vec<Value> = page.locks.iter().map(|lock| Value::Object(to_members(lock))).collect();
    let per_page = per_page.map_or(page.total, u64::from);
    let total = page.total;
    let body =
        json!({(member::LOCKS): locks, "totalCount": total, "total": total, "page": number, "perPage": per_page});
    respond(StatusCode::OK, &body)
}

pub(super) fn respond_with_history(page: &HistoryPage) -> Response {
    let describe = |PastLock { lock, end }: &PastLock| {
        let mut members = describe_end(lock, end);
        if !lock.origin.name.is_empty() {
            members.insert("owner".to_owned(), json!(lock.origin.name));
        }
        Value::Object(members)
    };
    let locks: Vec<Value> = page.locks.iter().map(describe).collect();
    let mut body = json!({(member::LOCKS): locks});
    if let Some(next) = &page.next {
        body["next"] = json!(next);
    }
    respond(StatusCode::OK, &body)
}

/// Responds with a refusal. It has no top-level `id`, which scripts take for the sign that they hold the lock.
pub(super) fn respond_with_refusal(status: StatusCode, code: u64, message: &str) -> Response {
    respond(status, &json!({(member::CODE): code, (member::MESSAGE): message, "details": [], "error": message}))
}

pub(super) fn respond_with_missing_path() -> Response {
    let message = "this path does not exist; see /openapi.json";
    respond_with_refusal(StatusCode::NOT_FOUND, code::NOT_FOUND, message)
}

impl IntoResponse for CallError {
    fn into_response(self) -> Response {
        let message = self.to_string();
        match self {
            Self::Held(lock) => {
                let lock = to_members(&lock);
                let error = "lock already exists";
                let body = json!({
                    (member::CODE): code::ALREADY_EXISTS, (member::MESSAGE): message, "details": [], "error": error,
                    (member::EXISTING_LOCK): lock,
                });
                respond(StatusCode::CONFLICT, &body)
            }
            Self::OtherSlots { holder, .. } => {
                let body = json!({
                    (member::CODE): code::FAILED_PRECONDITION, (member::MESSAGE): message, "details": [],
                    "error": message, (member::EXISTING_LOCK): to_members(&holder),
                });
                respond(StatusCode::CONFLICT, &body)
            }
            Self::Unknown(_) => respond_with_refusal(StatusCode::NOT_FOUND, code::NOT_FOUND, &message),
            Self::Invalid(_) => respond_with_refusal(StatusCode::BAD_REQUEST, code::INVALID_ARGUMENT, &message),
            Self::NotAllowed(_) => respond_with_refusal(StatusCode::FORBIDDEN, code::PERMISSION_DENIED, &message),
            Self::NoToken | Self::WrongToken | Self::BadCredential(_) => {
                let error = match self {
                    Self::WrongToken => ", error=\"invalid_token\"",
                    Self::BadCredential(_) => ", error=\"invalid_request\"",
                    _ => "",
                };
                let challenge = [(header::WWW_AUTHENTICATE, format!("Bearer realm=\"aba-lockd\"{error}"))];
                (challenge, respond_with_refusal(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, &message))
                    .into_response()
            }
            Self::TooLarge => respond_with_refusal(StatusCode::PAYLOAD_TOO_LARGE, code::RESOURCE_EXHAUSTED, &message),
            Self::TooMany => respond_with_refusal(StatusCode::TOO_MANY_REQUESTS, code::RESOURCE_EXHAUSTED, &message),
            Self::Stopping | Self::Fault(_) => (
                [(header::RETRY_AFTER, "1")],
                respond_with_refusal(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, &message),
            )
                .into_response(),
        }
    }
}
