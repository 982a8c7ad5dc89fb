//! The stream of events (server-sent events). Each client has a task, which reads the feed from its own position, leaves out
//! the events that the client may not see, and writes the others.
//!
//! The first event is `reset`: the client loads the list of the locks, and applies the events that follow. If the request
//! has a `Last-Event-ID` of which the feed still knows all later events, the stream continues there instead. A client that is too slow for
//! the feed gets `reset`, too. After an interruption, a client may get an event twice, but misses none.
//!
//! A client that reads nothing for [`STALL_TIMEOUT`] is disconnected. When the service stops, the stream ends.

use super::json;
use super::query;
use super::request::RestCaller;
use super::state::{RestState, SharedState};
use crate::error::CallError;
use crate::event_feed::{FeedPart, FeedPosition, LockChange, LockEvent};
use crate::lock_manager::check_named_service;
use crate::model::LockFields;
use crate::permission::Scope;
use crate::telemetry::CallInfo;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{self, Instant};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// Interval between two comments on a stream without events. They keep proxies from closing the connection, and let the service
/// notice that the client has gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Time after which a client that reads nothing is disconnected.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Time that a client has to read the end of the stream.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Time after which a client should connect again, in milliseconds.
const RETRY: u32 = 2000;

/// Maximum number of parts of the stream that wait until the client reads. All others stay in the feed.
const MAX_PENDING: usize = 4;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) async fn stream_events(
    State(state): SharedState,
    caller: RestCaller,
    RawQuery(text): RawQuery,
) -> Result<Response, CallError> {
    let call = state.authorize(&caller, "events", Scope::Read)?;
    let fields = state.record_invalid(&call, query::parse_event_query(text.as_deref().unwrap_or_default()))?;
    state.record_invalid(&call, check_named_service(&call, &fields.service))?;
    let permits = state.record_invalid(&call, admit(&state, &caller))?;
    state.manager.telemetry.record_call(&call, Ok(None), None);
    let last_id = caller.header(&LAST_EVENT_ID).unwrap_or_default();
    let start = state.manager.feed.find_position(last_id);
    let (parts, body) = mpsc::channel(MAX_PENDING);
    tokio::spawn(EventStream { state, call, caller, fields, parts }.run(start, permits));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONNECTION, "close"),
        // Keeps nginx from collecting the stream in a buffer.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let body = ReceiverStream::new(body).map(Ok::<String, Infallible>);
    Ok((headers, Body::from_stream(body)).into_response())
}

type Permits = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

fn admit(state: &RestState, caller: &RestCaller) -> Result<Permits, CallError> {
    Ok((state.manager.feed.admit()?, caller.peer.permit_wait()?))
}

/// The stream of one client.
struct EventStream {
    state: Arc<RestState>,
    call: CallInfo,
    caller: RestCaller,
    fields: LockFields,
    parts: mpsc::Sender<String>,
}

/// The client has gone, does not read, or may not read any more.
struct StreamEnd;

impl EventStream {
    /// Writes the stream until the client has gone, or the service stops. The permits are dropped at its end.
    async fn run(self, start: Option<FeedPosition>, _permits: Permits) {
        tokio::select! {
            () = self.caller.peer.wait_until_gone() => (),
            () = self.parts.closed() => (),
            () = self.state.manager.feed.wait_until_closed() => (),
            _ = self.write(start) => (),
        }
        let Self { parts, caller, .. } = self;
        drop(parts);
        // The connection ends with the stream. A client that does not read must not delay the end of the service.
        time::sleep(END_TIMEOUT).await;
        caller.peer.disconnect();
    }

    /// Writes the stream until it must end.
    async fn write(&self, start: Option<FeedPosition>) -> Result<Infallible, StreamEnd> {
        let feed = &self.state.manager.feed;
        let mut changes = feed.subscribe();
        let retry = format!("retry: {RETRY}\n");
        let mut position = if let Some(position) = start {
            self.send(format!("{retry}id: {position}\n\n")).await?;
            position
        } else {
            let position = feed.end();
            self.send(retry + &format_reset(position)).await?;
            position
        };
        let mut keep_alive = Instant::now() + KEEP_ALIVE;
        loop {
            changes.mark_unchanged();
            let (text, end) = match feed.read_after(position) {
                FeedPart::Lost(end) => (format_reset(end), end),
                FeedPart::Events(events, end) => (self.format_events(&events)?, end),
            };
            let has_moved = end != position;
            position = end;
            let text = if text.is_empty() && Instant::now() >= keep_alive {
                self.check_token()?;
                // The id counts the events that the client may not see, too.
                format!("id: {position}\n: keep-alive\n\n")
            } else {
                text
            };
            if !text.is_empty() {
                self.send(text).await?;
                keep_alive = Instant::now() + KEEP_ALIVE;
            } else if !has_moved {
                tokio::select! {
                    _ = changes.changed() => (),
                    () = time::sleep_until(keep_alive) => (),
                }
            }
        }
    }

    /// Passes text to the connection.
    async fn send(&self, text: String) -> Result<(), StreamEnd> {
        match time::timeout(STALL_TIMEOUT, self.parts.send(text)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(StreamEnd),
        }
    }

    /// Ends the stream of a caller whose token was removed from the token file.
    fn check_token(&self) -> Result<(), StreamEnd> {
        match self.state.access.check_again(self.call.caller.as_ref(), Scope::Read, "") {
            Err(CallError::WrongToken) => Err(StreamEnd),
            _ => Ok(()),
        }
    }

    /// Formats the events that the client may see. Several changes of a queue are one event, because each has
    /// the present queue.
    fn format_events(&self, events: &[(Arc<LockEvent>, Option<FeedPosition>)]) -> Result<String, StreamEnd> {
        let mut queues = HashSet::new();
        let mut texts = Vec::new();
        for (event, position) in events.iter().rev() {
            let key = event.key();
            match self.state.access.check_again(self.call.caller.as_ref(), Scope::Read, &key.service) {
                Ok(()) => (),
                Err(CallError::WrongToken) => return Err(StreamEnd),
                Err(_) => continue,
            }
            let is_repeated = matches!(**event, LockEvent::Queue(_)) && !queues.insert(key);
            if self.fields.match_key(key) && !is_repeated {
                let (name, value) = self.describe(event);
                let id = position.map(|position| format!("id: {position}\n")).unwrap_or_default();
                texts.push(format!("event: {name}\n{id}data: {}\n\n", Value::Object(value)));
            }
        }
        texts.reverse();
        Ok(texts.concat())
    }

    /// Returns the type of an event and its data: the lock as in a list, with its present queue.
    fn describe(&self, event: &LockEvent) -> (&'static str, Map<String, Value>) {
        let queue = self.state.manager.list_waiters(event.key());
        match event {
            LockEvent::Queue(key) => ("queue", json::describe_queue(key, &queue)),
            LockEvent::Lock(LockChange::Ended(end), lock) => {
                (end.cause.kind.event_name(), json::describe_end(lock, end))
            }
            LockEvent::Lock(change, lock) => {
                let name = match change {
                    LockChange::Updated => "updated",
                    LockChange::Renewed => "renewed",
                    LockChange::Created | LockChange::Ended(_) => "created",
                };
                (name, json::describe_lock(lock, &queue))
            }
        }
    }
}

fn format_reset(position: FeedPosition) -> String {
    format!("event: reset\nid: {position}\ndata: {{}}\n\n")
}
