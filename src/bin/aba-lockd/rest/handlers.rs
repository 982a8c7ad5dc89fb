//! The paths of the REST API and their handlers. Each handler checks the permission of the caller, reads the request,
//! calls the lock manager, and answers. Calls that are refused before they reach the lock manager are recorded here.

use super::body::RequestBody;
use super::events;
use super::json;
use super::page;
use super::query;
use super::request::RestCaller;
use super::state::{RestState, SharedState};
use super::terraform;
use crate::error::CallError;
use crate::past_lock::EndKind;
use crate::permission::Scope;
use crate::telemetry::CallInfo;
use aba_lock_protocol::{code, path};
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post, put};
use std::sync::Arc;

const DESCRIPTION: &str = include_str!("openapi.json");

type IdPath = Result<Path<String>, PathRejection>;

pub(crate) fn build_router(state: RestState) -> Router {
    Router::new()
        .route("/", get(page::show_page))
        .route("/page/{name}", get(page::show_file))
        .route("/healthz", get(check_health))
        .route("/livez", get(check_life))
        .route("/metrics", get(show_metrics))
        .route("/openapi.json", get(show_description))
        .route(path::LOCK, post(create_lock))
        .route(&path::lock("{id}"), get(get_lock).merge(put(update_lock)).merge(delete(unlock)))
        .route(&path::renewal("{id}"), put(renew_lock).merge(post(renew_lock)))
        .route(&path::release("{id}"), any(unlock_by_get_or_post))
        .route(path::LOCK_LIST, get(list_locks))
        .route(path::LOCK_HISTORY, get(list_history))
        .route(path::LOCK_EVENTS, get(events::stream_events))
        .route(&path::terraform("{*name}"), any(terraform::handle_call))
        .fallback(async || json::respond_with_missing_path())
        .method_not_allowed_fallback(async || refuse_method())
        .with_state(Arc::new(state))
}

fn parse_id(state: &RestState, call: &CallInfo, id: IdPath) -> Result<String, CallError> {
    let id = id.map_err(|_| CallError::Invalid("the id in the path is not valid UTF-8".to_owned()));
    state.record_invalid(call, id.map(|Path(id)| id))
}

async fn create_lock(State(state): SharedState, caller: RestCaller, body: RequestBody) -> Result<Response, CallError> {
    let call = state.authorize(&caller, "create", Scope::Write)?;
    let request = json::parse_object(body).and_then(|members| json::read_request(&members));
    let request = state.record_invalid(&call, request)?;
    Ok(json::respond_with_grant(&state.acquire(&caller, &call, request).await?))
}

async fn get_lock(State(state): SharedState, caller: RestCaller, id: IdPath) -> Result<Response, CallError> {
    let call = state.authorize(&caller, "get", Scope::Read)?;
    let id = parse_id(&state, &call, id)?;
    Ok(json::respond_with_lock(&state.manager.get(&call, &id).await?))
}

async fn update_lock(
    State(state): SharedState,
    caller: RestCaller,
    id: IdPath,
    body: RequestBody,
) -> Result<Response, CallError> {
    let call = state.authorize(&caller, "update", Scope::Write)?;
    let id = parse_id(&state, &call, id)?;
    let changes = json::parse_object(body).and_then(|members| json::read_changes(&members));
    let changes = state.record_invalid(&call, changes)?;
    Ok(json::respond_with_lock(&state.manager.update(&call, &id, changes).await?))
}

async fn renew_lock(
    State(state): SharedState,
    caller: RestCaller,
    id: IdPath,
    body: RequestBody,
) -> Result<Response, CallError> {
    let call = state.authorize(&caller, "renew", Scope::Write)?;
    let id = parse_id(&state, &call, id)?;
    let ttl = json::parse_optional_object(body).and_then(|members| json::read_renewal(&members));
    let ttl = state.record_invalid(&call, ttl)?;
    Ok(json::respond_with_lock(&state.manager.renew(&call, &id, ttl).await?))
}

async fn unlock(State(state): SharedState, caller: RestCaller, id: IdPath) -> Result<Response, CallError> {
    let call = state.authorize(&caller, "unlock", Scope::Write)?;
    let id = parse_id(&state, &call, id)?;
    Ok(json::respond_with_release(&state.manager.unlock(&call, &id, EndKind::Released).await?))
}

/// Refuses HEAD, which axum would route to a handler of GET: a HEAD request must change nothing.
async fn unlock_by_get_or_post(state: SharedState, caller: RestCaller, method: Method, id: IdPath) -> Response {
    if method == Method::GET || method == Method::POST {
        return unlock(state, caller, id).await.into_response();
    }
    ([(header::ALLOW, "GET, POST")], refuse_method()).into_response()
}

fn refuse_method() -> Response {
    json::respond_with_refusal(
        StatusCode::METHOD_NOT_ALLOWED,
        code::UNIMPLEMENTED,
        "this path does not support this method",
    )
}

async fn list_locks(
    State(state): SharedState,
    caller: RestCaller,
    RawQuery(text): RawQuery,
) -> Result<Response, CallError> {
    let query = query::parse_list_query(text.as_deref().unwrap_or_default());
    // The creator of a lock may look for the id of its event, also if it may not read other locks.
    let names_event = query.as_ref().is_ok_and(|query| !query.fields.event_id.is_empty());
    let scopes = if names_event { &[Scope::Read, Scope::Write][..] } else { &[Scope::Read] };
    let call = state.authorize_one_of(&caller, "list", scopes)?;
    let query = state.record_invalid(&call, query)?;
    let (page, per_page) = (query.page, query.per_page);
    Ok(json::respond_with_page(&state.manager.list(&call, query).await?, page, per_page))
}

async fn list_history(
    State(state): SharedState,
    caller: RestCaller,
    RawQuery(text): RawQuery,
) -> Result<Response, CallError> {
    let call = state.authorize(&caller, "history", Scope::Read)?;
    let query = state.record_invalid(&call, query::parse_history_query(text.as_deref().unwrap_or_default()))?;
    Ok(json::respond_with_history(&state.manager.list_history(&call, query).await?))
}

/// Checks the service. This call needs no token, so that monitoring works without one.
async fn check_health(State(state): SharedState, caller: RestCaller) -> Result<Response, CallError> {
    caller.check_origin(&state.access, Scope::Read)?;
    state.manager.check().await?;
    Ok(json::respond(StatusCode::OK, &serde_json::json!({"status": "ok"})))
}

/// Checks only that the service answers: if the store fails, a restart of the service would not help.
async fn check_life(State(state): SharedState, caller: RestCaller) -> Result<Response, CallError> {
    caller.check_origin(&state.access, Scope::Read)?;
    Ok(json::respond(StatusCode::OK, &serde_json::json!({"status": "ok"})))
}

async fn show_metrics(State(state): SharedState, caller: RestCaller) -> Result<Response, CallError> {
    let call = state.authorize(&caller, "metrics", Scope::Read)?;
    state
        .record_invalid(&call, call.caller.as_ref().map_or(Ok(()), |caller| caller.check_all_services(Scope::Read)))?;
    let text = state.manager.collect_metrics().await;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

async fn show_description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}
