//! The REST side. What is asked, by path; the shapes are in `rest/shape.rs`.

mod body;
mod json;
mod server;

pub(crate) use server::serve;

use crate::access::{self, Access, Scope};
use crate::connection::Peer;
use crate::lock_manager::Desk;
use crate::model::{Change, Problem};
use crate::telemetry::Call;
use aba_lock_protocol::{code, path as paths};
use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, delete, get, post, put};
use body::Body;
use std::sync::Arc;
use std::time::Duration;
use tokio::time;

/// So long somebody who does not wait may be gone, or only send no more, and still get the lock. It is there in less, and who
/// goes right then could as well go when the answer is on its way.
const A_MOMENT: Duration = Duration::from_secs(1);

const DESCRIPTION: &str = include_str!("rest/openapi.json");
const PAGE: &str = include_str!("rest/page.html");

/// Only what is in the page itself, and only asked by the page itself.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What all calls know.
pub(crate) struct House {
    pub(crate) desk: Arc<Desk>,
    pub(crate) access: Arc<Access>,
}

type Id = Result<Path<String>, PathRejection>;

/// Which path leads where.
pub(crate) fn routes(house: House) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(description))
        .route(paths::LOCK, post(create))
        .route(&paths::lock("{id}"), get(show).merge(put(update)).merge(delete(unlock)))
        .route(&paths::renewal("{id}"), put(renew).merge(post(renew)))
        .route(&paths::release("{id}"), any(unlock_by_get_or_post))
        .route(paths::LOCK_LIST, get(list))
        .fallback(async || json::refusal(StatusCode::NOT_FOUND, code::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || no_such_method())
        .with_state(Arc::new(house))
}

/// Who asks.
struct Caller {
    headers: HeaderMap,
    peer: Peer,
}

impl<S: Sync> axum::extract::FromRequestParts<S> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut axum::http::request::Parts, _: &S) -> Result<Self, Response> {
        let peer = parts.extensions.get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| peer.clone());
        Ok(Self { headers: parts.headers.clone(), peer: peer.unwrap_or_default() })
    }
}

impl Caller {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn named(&self, name: &'static str) -> Option<&str> {
        self.header(&HeaderName::from_static(name))
    }

    fn is_not_for_another(&self, house: &House, scope: Scope) -> Result<(), Problem> {
        let from = access::From {
            host: self.header(&header::HOST),
            origin: self.header(&header::ORIGIN),
            fetch_site: self.named("sec-fetch-site"),
            purpose: self.named("sec-purpose").or_else(|| self.named("purpose")),
        };
        house.access.not_for_another(&from, scope)
    }

    /// The call that this is, if it may be.
    fn may(&self, house: &House, operation: &'static str, scope: Scope) -> Result<Call, Problem> {
        let mut call = Call {
            api: "rest",
            operation,
            from: self.peer.to_string(),
            by: None,
            certificate: self.peer.certificate(),
        };
        let bearer = self
            .is_not_for_another(house, scope)
            .and_then(|()| house.access.bearer(self.header(&header::AUTHORIZATION), scope));
        match bearer {
            Ok(by) => {
                self.peer.is_permitted();
                call.by = by;
                Ok(call)
            }
            Err(problem) => {
                house.desk.journal.answered(&call, Err(&problem), None);
                Err(problem)
            }
        }
    }
}

/// Answers what was wrong with what was asked, and notes it.
fn noted(house: &House, call: &Call, problem: Problem) -> Problem {
    house.desk.journal.answered(call, Err(&problem), None);
    problem
}

/// The id in a path.
fn path(id: Id) -> Result<String, Problem> {
    let id = id.map_err(|_| Problem::Invalid("the id in the path is no text".to_owned()));
    id.map(|Path(id)| id)
}

async fn create(State(house): State<Arc<House>>, caller: Caller, body: Body) -> Result<Response, Problem> {
    let call = caller.may(&house, "create", Scope::Write)?;
    let wanted = json::object(body).and_then(|members| json::wanted(&members)).map_err(|p| noted(&house, &call, p))?;
    let waits = wanted.wait.map(|_| caller.peer.wait()).transpose();
    let _waits = waits.map_err(|p| noted(&house, &call, p))?;
    let does_wait = wanted.wait.is_some();
    let gone = async {
        caller.peer.until_gone().await;
        if !does_wait {
            time::sleep(A_MOMENT).await;
        }
    };
    tokio::select! {
        // First: a lock that is granted in the same moment is taken back.
        biased;
        () = gone => Ok(json::refusal(StatusCode::BAD_REQUEST, code::INVALID_ARGUMENT, "who asked has gone away, or goes on without the answer")),
        lock = house.desk.create(&call, wanted) => Ok(json::lock(&lock?)),
    }
}

async fn show(State(house): State<Arc<House>>, caller: Caller, id: Id) -> Result<Response, Problem> {
    let call = caller.may(&house, "get", Scope::Read)?;
    let id = path(id).map_err(|p| noted(&house, &call, p))?;
    Ok(json::lock(&house.desk.get(&call, &id).await?))
}

async fn update(State(house): State<Arc<House>>, caller: Caller, id: Id, body: Body) -> Result<Response, Problem> {
    let call = caller.may(&house, "update", Scope::Write)?;
    let id = path(id).map_err(|p| noted(&house, &call, p))?;
    let change: Change =
        json::object(body).and_then(|members| json::change(&members)).map_err(|p| noted(&house, &call, p))?;
    Ok(json::lock(&house.desk.update(&call, &id, change).await?))
}

async fn renew(State(house): State<Arc<House>>, caller: Caller, id: Id, body: Body) -> Result<Response, Problem> {
    let call = caller.may(&house, "renew", Scope::Write)?;
    let id = path(id).map_err(|p| noted(&house, &call, p))?;
    let ttl = json::object_or_nothing(body).and_then(|members| json::renewal(&members));
    let ttl = ttl.map_err(|p| noted(&house, &call, p))?;
    Ok(json::lock(&house.desk.renew(&call, &id, ttl).await?))
}

async fn unlock(State(house): State<Arc<House>>, caller: Caller, id: Id) -> Result<Response, Problem> {
    let call = caller.may(&house, "unlock", Scope::Write)?;
    let id = path(id).map_err(|p| noted(&house, &call, p))?;
    Ok(json::unlocked(&house.desk.unlock(&call, &id).await?))
}

/// Not by HEAD, which a route for GET would take, too: to look is not to unlock.
async fn unlock_by_get_or_post(house: State<Arc<House>>, caller: Caller, method: Method, id: Id) -> Response {
    if method == Method::GET || method == Method::POST {
        return unlock(house, caller, id).await.into_response();
    }
    ([(header::ALLOW, "GET, POST")], no_such_method()).into_response()
}

fn no_such_method() -> Response {
    json::refusal(StatusCode::METHOD_NOT_ALLOWED, code::UNIMPLEMENTED, "this path has no such method")
}

async fn list(State(house): State<Arc<House>>, caller: Caller, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let call = caller.may(&house, "list", Scope::Read)?;
    let selection = json::selection(query.as_deref().unwrap_or_default()).map_err(|p| noted(&house, &call, p))?;
    let (page, per_page) = (selection.page, selection.per_page);
    Ok(json::listing(&house.desk.list(&call, selection).await?, page, per_page))
}

/// Whether locks could be granted. Who watches over it needs no token.
async fn healthz(State(house): State<Arc<House>>, caller: Caller) -> Result<Response, Problem> {
    caller.is_not_for_another(&house, Scope::Read)?;
    house.desk.check().await?;
    Ok(json::json(StatusCode::OK, &serde_json::json!({"status": "ok"})))
}

async fn metrics(State(house): State<Arc<House>>, caller: Caller) -> Result<Response, Problem> {
    caller.may(&house, "metrics", Scope::Read)?;
    let text = house.desk.metrics().await;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}

async fn page() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(PAGE)).into_response()
}
