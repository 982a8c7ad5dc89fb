//! The locks of Terraform and `OpenTofu`, for their backend `http`. The path `/terraform/NAME` is the lock of the service
//! `terraform/NAME`, without an environment and a resource, so permissions can be limited to states.
//!
//! The methods LOCK, PUT and POST acquire the lock, UNLOCK and DELETE release it. The body is the lock info of the
//! client, a JSON object, which is kept with the lock and shown to the next client. `force-unlock` sends no body.
//!
//! A client sends a request again if the answer is lost. It has the same ID, so the second LOCK succeeds, too.

use super::body::RequestBody;
use super::json;
use super::request::RestCaller;
use super::state::{RestState, SharedState};
use crate::error::CallError;
use crate::model::{Lock, LockKey, LockOrigin, LockRequest};
use crate::past_lock::EndKind;
use crate::permission::Scope;
use crate::telemetry::CallInfo;
use aba_lock_protocol::sharing::Sharing;
use aba_lock_protocol::{code, span};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// The members of a lock info, all of which are strings.
const MEMBERS: [&str; 7] = ["ID", "Operation", "Info", "Who", "Version", "Created", "Path"];

/// Maximum number of bytes of the name of a holder in a list of locks.
const MAX_WHO: usize = 1024;

/// Maximum number of bytes of a lock info.
const MAX_INFO: usize = 8 * 1024;

/// Tells clients without a known token to send a password.
const CHALLENGE: &str = "Basic realm=\"aba-lockd\", charset=\"UTF-8\"";

const NO_STATE: &str = "aba-lockd stores no state: set only lock_address and unlock_address to this service, and address \
                        to a server that stores the state";

pub(super) async fn handle_call(
    State(state): SharedState,
    caller: RestCaller,
    method: Method,
    name: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
    body: RequestBody,
) -> Response {
    let name = name.map(|Path(name)| format!("terraform/{name}"));
    let query = query.unwrap_or_default();
    let mut response = match method.as_str() {
        "LOCK" | "PUT" | "POST" => lock(&state, &caller, name, &query, body).await,
        "UNLOCK" | "DELETE" => unlock(&state, &caller, name, body).await,
        _ => Ok(refuse_state()),
    }
    .into_response();
    // The clients know no other scheme. The other paths do not offer it, because browsers would ask for a password.
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
    }
    response
}

/// Refuses a call about the state. The status must not be 404: the client would take it for an empty state, and would
/// create all resources again. `Allow` has only the methods that the description of the API can contain.
fn refuse_state() -> Response {
    let refusal = json::respond_with_refusal(StatusCode::METHOD_NOT_ALLOWED, code::UNIMPLEMENTED, NO_STATE);
    ([(header::ALLOW, "PUT, POST, DELETE")], refusal).into_response()
}

fn parse_name(name: Result<String, PathRejection>) -> Result<String, CallError> {
    name.map_err(|_| CallError::Invalid("the name in the path is not valid UTF-8".to_owned()))
}

/// The lock info of a client.
struct LockInfo {
    id: String,
    who: String,
    /// All members, as JSON.
    text: String,
}

/// Parses the body. `None`: it is empty.
fn parse_info(RequestBody(body): RequestBody) -> Result<Option<Map<String, Value>>, CallError> {
    let body = body?;
    if body.trim_ascii().is_empty() {
        return Ok(None);
    }
    let members = json::parse_object(RequestBody(Ok(body)))?;
    let is_wrong = |name: &&&str| members.get(**name).is_some_and(|value| !value.is_string());
    match MEMBERS.iter().find(is_wrong) {
        Some(name) => Err(CallError::Invalid(format!("{name} in the lock info is not a string"))),
        None => Ok(Some(members)),
    }
}

fn read_text(members: &Map<String, Value>, name: &str) -> String {
    members.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Returns the ID in the lock info.
fn read_id(members: &Map<String, Value>) -> Result<String, CallError> {
    let id = Some(read_text(members, "ID")).filter(|id| !id.is_empty());
    id.ok_or_else(|| CallError::Invalid("the body is not the lock info of Terraform: it has no ID".to_owned()))
}

fn read_info(members: Map<String, Value>) -> Result<LockInfo, CallError> {
    let (id, mut who) = (read_id(&members)?, read_text(&members, "Who"));
    if who.is_empty() {
        "terraform".clone_into(&mut who);
    }
    // The whole text is in the lock info.
    let end = (0..=MAX_WHO.min(who.len())).rev().find(|end| who.is_char_boundary(*end));
    who.truncate(end.unwrap_or_default());
    let text = Value::Object(members).to_string();
    if text.len() > MAX_INFO {
        return Err(CallError::Invalid(format!("the lock info is longer than {MAX_INFO} bytes")));
    }
    Ok(LockInfo { id, who, text })
}

/// Returns the request for a lock. The query may have `ttl` and `wait`.
fn parse_request(service: &str, info: &LockInfo, query: &str) -> Result<LockRequest, CallError> {
    let (mut ttl, mut wait) = (None, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let span = span::read_json(Some(&Value::String(value.to_string()))).map_err(|_| {
            CallError::Invalid(format!(
                "{name} is not a time span of at least 1ms, such as 90s, 30m, or a number of seconds"
            ))
        });
        match &*name {
            "ttl" => ttl = span?,
            "wait" => wait = span?,
            _ => return Err(CallError::Invalid(format!("unknown parameter {name}: use ttl or wait"))),
        }
    }
    Ok(LockRequest {
        key: LockKey { service: service.to_owned(), environment: String::new(), resource: String::new() },
        who: info.who.clone(),
        event_id: info.id.clone(),
        ttl,
        wait,
        sharing: Sharing::Exclusive,
        origin: LockOrigin { info: info.text.clone(), ..LockOrigin::default() },
    })
}

async fn lock(
    state: &RestState,
    caller: &RestCaller,
    name: Result<String, PathRejection>,
    query: &str,
    body: RequestBody,
) -> Result<Response, CallError> {
    let call = state.authorize(caller, "create", Scope::Write)?;
    let members = state.record_invalid(&call, parse_info(body))?.unwrap_or_default();
    if members.contains_key("serial") || members.contains_key("terraform_version") {
        return Ok(refuse_state());
    }
    let parsed = parse_name(name).and_then(|service| {
        let info = read_info(members)?;
        Ok((parse_request(&service, &info, query)?, info))
    });
    let (request, info) = state.record_invalid(&call, parsed)?;
    let held = match state.acquire(caller, &call, request.clone()).await {
        Err(CallError::Held(held)) => held,
        granted => return granted.map(|_| respond_with_info(StatusCode::OK, &info.text)),
    };
    // The client has sent this request before, and did not get the answer. The lock must not expire at this moment.
    if held.event_id == info.id && may_change(&call, &held) {
        return match state.manager.renew(&call, &held.id, None).await {
            Err(CallError::Unknown(_)) => state.acquire(caller, &call, request).await.map(|granted| granted.lock),
            renewed => renewed,
        }
        .map(|_| respond_with_info(StatusCode::OK, &info.text));
    }
    Ok(respond_with_info(StatusCode::LOCKED, &describe_holder(&held)))
}

fn may_change(call: &CallInfo, lock: &Lock) -> bool {
    call.caller.as_ref().is_none_or(|caller| caller.check_change(lock).is_ok())
}

async fn unlock(
    state: &RestState,
    caller: &RestCaller,
    name: Result<String, PathRejection>,
    body: RequestBody,
) -> Result<Response, CallError> {
    let call = state.authorize(caller, "unlock", Scope::Write)?;
    let parsed = parse_name(name).and_then(|service| {
        let members = parse_info(body)?;
        Ok((service, members.as_ref().map(read_id).transpose()?))
    });
    let (service, id) = state.record_invalid(&call, parsed)?;
    let holders = state.manager.list_holders(&call, &service).await?;
    let is_meant = |lock: &&Lock| id.as_ref().is_none_or(|id| *id == lock.event_id || *id == lock.id);
    match (holders.iter().find(is_meant), holders.first()) {
        (Some(lock), _) => {
            // Only `force-unlock` sends no ID.
            let kind = if id.is_some() { EndKind::Released } else { EndKind::Forced };
            let released = state.manager.unlock(&call, &lock.id, kind).await?;
            Ok(respond_with_info(StatusCode::OK, &describe_holder(&released)))
        }
        // The client reports that its lock was not released.
        (None, Some(other)) => Ok(respond_with_info(StatusCode::CONFLICT, &describe_holder(other))),
        (None, None) => state.record_invalid(&call, Err(CallError::Unknown(service))),
    }
}

fn respond_with_info(status: StatusCode, info: &str) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, format!("{info}\n")).into_response()
}

/// Returns the lock info of the holder. If the lock was not created by Terraform, the info has the same members.
fn describe_holder(lock: &Lock) -> String {
    if !lock.origin.info.is_empty() {
        return lock.origin.info.clone();
    }
    json!({
        "ID": lock.id, "Operation": "lock", "Info": lock.event_id, "Who": lock.who, "Version": "",
        "Created": lock.created.to_string(), "Path": "",
    })
    .to_string()
}
