//! Requests and answers in JSON: camelCase out; camelCase and `snake_case` in. Unknown members are ignored, but not those that
//! are a known one in another spelling: a `TTL` that is ignored would be a lock without an end.

use super::body::Body;
use crate::model::{Change, Key, Listing, Lock, Problem, Selection, Wanted};
use aba_lock_protocol::{code, member, span};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::time::Duration;

type Members = Map<String, Value>;

/// The object in a body. What says that it is JSON is not asked for: `curl -d` says something else.
pub(super) fn object(Body(body): Body) -> Result<Members, Problem> {
    match serde_json::from_slice(&body?) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Problem::Invalid("the body is JSON, but no object".to_owned())),
        Err(error) => Err(Problem::Invalid(format!("the body is not JSON: {error}"))),
    }
}

/// The same, or nothing at all.
pub(super) fn object_or_nothing(body: Body) -> Result<Members, Problem> {
    match body {
        Body(Ok(body)) if body.trim_ascii().is_empty() => Ok(Members::new()),
        body => object(body),
    }
}

/// The text of the first of these members that says something; empty if none does.
fn text(members: &Members, names: &[&str]) -> Result<String, Problem> {
    for name in names {
        match members.get(*name) {
            None | Some(Value::Null) => (),
            Some(Value::String(text)) if text.is_empty() => (),
            Some(Value::String(text)) => return Ok(text.clone()),
            Some(_) => return Err(Problem::Invalid(format!("{name} is no text"))),
        }
    }
    Ok(String::new())
}

fn time_span(members: &Members, name: &str) -> Result<Option<Duration>, Problem> {
    span::read_json(members.get(name)).map_err(|_| {
        Problem::Invalid(format!("{name} is no time span of 1ms up, such as \"90s\", \"30m\", or a number of seconds"))
    })
}

/// The members of a request.
const MEMBERS: [&str; 8] = [
    member::SERVICE,
    member::ENVIRONMENT,
    member::RESOURCE,
    member::WHO,
    member::EVENT_ID,
    "event_id",
    member::TTL,
    member::WAIT,
];

/// The parameters of a list.
const PARAMETERS: [&str; 10] =
    ["q", "page", "per_page", "perPage", "service", "environment", "resource", "who", "event_id", "eventId"];

/// Refuses a name that differs from a known one by case or separators alone, or that begins with the name of a time span: it is
/// likely to name the unit, too.
fn is_spelt_right(name: &str, known: &[&'static str]) -> Result<(), Problem> {
    let plain = |name: &str| name.replace(['_', '-', ' '], "").to_lowercase();
    let (given, is_known) = (plain(name), known.contains(&name));
    let is_meant = |known: &&&str| {
        given == plain(known) || [member::TTL, member::WAIT].contains(*known) && given.starts_with(**known)
    };
    match known.iter().find(is_meant) {
        Some(meant) if !is_known => Err(Problem::Invalid(format!("{name} is not known here: did you mean {meant}?"))),
        _ => Ok(()),
    }
}

fn are_spelt_right(members: &Members) -> Result<(), Problem> {
    members.keys().try_for_each(|name| is_spelt_right(name, &MEMBERS))
}

/// The time to live in the body of a renewal.
pub(super) fn renewal(members: &Members) -> Result<Option<Duration>, Problem> {
    are_spelt_right(members)?;
    ttl(members)
}

fn ttl(members: &Members) -> Result<Option<Duration>, Problem> {
    time_span(members, member::TTL)
}

pub(super) fn wanted(members: &Members) -> Result<Wanted, Problem> {
    let Change { service, environment, resource, who, event_id } = words(members)?;
    let key = Key { service, environment, resource };
    Ok(Wanted { key, who, event_id, ttl: ttl(members)?, wait: time_span(members, member::WAIT)? })
}

pub(super) fn change(members: &Members) -> Result<Change, Problem> {
    let change = words(members)?;
    for name in [member::TTL, member::WAIT] {
        if time_span(members, name)?.is_some() {
            return Err(Problem::Invalid(format!("{name} cannot be changed here: to renew a lock is another call")));
        }
    }
    Ok(change)
}

fn words(members: &Members) -> Result<Change, Problem> {
    are_spelt_right(members)?;
    Ok(Change {
        service: text(members, &[member::SERVICE])?,
        environment: text(members, &[member::ENVIRONMENT])?,
        resource: text(members, &[member::RESOURCE])?,
        who: text(members, &[member::WHO])?,
        event_id: text(members, &[member::EVENT_ID, "event_id"])?,
    })
}

/// What a query asks for.
pub(super) fn selection(query: &str) -> Result<Selection, Problem> {
    let mut selection = Selection { page: 1, ..Selection::default() };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number =
            || value.parse::<u32>().map_err(|_| Problem::Invalid(format!("{name} is no number from 1 up: {value}")));
        match &*name {
            "q" => selection.words = value.split_whitespace().map(str::to_lowercase).collect(),
            "page" => selection.page = number()?,
            "per_page" | "perPage" => selection.per_page = Some(number()?),
            "service" => selection.with.service = value.into_owned(),
            "environment" => selection.with.environment = value.into_owned(),
            "resource" => selection.with.resource = value.into_owned(),
            "who" => selection.with.who = value.into_owned(),
            "event_id" | "eventId" if !value.is_empty() => selection.with.event_id = value.into_owned(),
            _ => is_spelt_right(&name, &PARAMETERS)?,
        }
    }
    Ok(selection)
}

fn members(lock: &Lock) -> Members {
    let mut members = Members::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    // Who is about to have it has none of these yet.
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
    if !lock.queue.is_empty() {
        let queue = (1..).zip(&lock.queue).map(|(position, waiting)| {
            json!({(member::WHO): waiting.who, "since": waiting.since.to_string(), "queuePosition": position})
        });
        put(member::QUEUE, queue.collect());
    }
    members
}

pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{value}\n")).into_response()
}

/// Nested, as clients of the API read it, and flat, as scripts do.
pub(super) fn lock(lock: &Lock) -> Response {
    let members = members(lock);
    let mut body = members.clone();
    body.insert("lock".to_owned(), Value::Object(members));
    json(StatusCode::OK, &Value::Object(body))
}

pub(super) fn unlocked(lock: &Lock) -> Response {
    json(StatusCode::OK, &json!({"message": "lock deleted", "success": true, (member::ID): lock.id, "count": "1"}))
}

pub(super) fn listing(listing: &Listing, page: u32, per_page: Option<u32>) -> Response {
    let locks: Vec<Value> = listing.locks.iter().map(|lock| Value::Object(members(lock))).collect();
    let per_page = per_page.map_or(listing.total, u64::from);
    let total = listing.total;
    let body = json!({(member::LOCKS): locks, "totalCount": total, "total": total, "page": page, "perPage": per_page});
    json(StatusCode::OK, &body)
}

/// A refusal without a top-level `id`: scripts take one for the sign that they have the lock.
pub(super) fn refusal(status: StatusCode, code: u64, message: &str) -> Response {
    json(status, &json!({(member::CODE): code, (member::MESSAGE): message, "details": [], "error": message}))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let message = self.to_string();
        match self {
            Self::Held(lock) => {
                let lock = members(&lock);
                let error = "lock already exists";
                let body = json!({
                    (member::CODE): code::ALREADY_EXISTS, (member::MESSAGE): message, "details": [], "error": error,
                    (member::EXISTING_LOCK): lock,
                });
                json(StatusCode::CONFLICT, &body)
            }
            Self::Unknown(_) => refusal(StatusCode::NOT_FOUND, code::NOT_FOUND, &message),
            Self::Invalid(_) => refusal(StatusCode::BAD_REQUEST, code::INVALID_ARGUMENT, &message),
            Self::NotAllowed(_) => refusal(StatusCode::FORBIDDEN, code::PERMISSION_DENIED, &message),
            Self::NoToken | Self::WrongToken => {
                let error = if matches!(self, Self::WrongToken) { ", error=\"invalid_token\"" } else { "" };
                let challenge = [(header::WWW_AUTHENTICATE, format!("Bearer realm=\"aba-lockd\"{error}"))];
                (challenge, refusal(StatusCode::UNAUTHORIZED, code::UNAUTHENTICATED, &message)).into_response()
            }
            Self::TooLarge => refusal(StatusCode::PAYLOAD_TOO_LARGE, code::RESOURCE_EXHAUSTED, &message),
            Self::TooMany => refusal(StatusCode::TOO_MANY_REQUESTS, code::RESOURCE_EXHAUSTED, &message),
            Self::Stopping | Self::Fault(_) => {
                ([(header::RETRY_AFTER, "1")], refusal(StatusCode::SERVICE_UNAVAILABLE, code::UNAVAILABLE, &message))
                    .into_response()
            }
        }
    }
}
