//! The gRPC side: the same desk, other shapes.

use crate::access::{Access, Scope};
use crate::connection::{Incoming, Peer};
use crate::lock_manager::Desk;
use crate::model::{Change, Key, Lock, Problem, Selection, Wanted};
use crate::telemetry::Call;
use aba_lock_protocol::span;
use jiff::Timestamp;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use wire::lock_service_server::{LockService, LockServiceServer};

/// What the definitions say.
#[expect(clippy::pedantic, unreachable_pub, reason = "generated")]
mod wire {
    tonic::include_proto!("tracker.lock.v1alpha1");
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// How often a client that waits is asked whether it is still there.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The most bytes of a message, as they are sent.
const LONGEST_MESSAGE: usize = 1024;

struct Service {
    desk: Arc<Desk>,
    access: Arc<Access>,
}

/// Serves until `end`.
pub(crate) async fn serve(
    mut incoming: Incoming,
    desk: Arc<Desk>,
    access: Arc<Access>,
    end: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(wire::DESCRIPTORS);
    let v1 = reflection().build_v1().expect("the description is what the build made");
    let v1alpha = reflection().build_v1alpha().expect("the description is what the build made");
    let (connected, connections) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(stream) = incoming.next().await {
            if connected.send(Ok::<_, std::io::Error>(stream)).await.is_err() {
                return;
            }
        }
    });
    Server::builder()
        .http2_keepalive_interval(Some(ASK_EVERY))
        .http2_keepalive_timeout(Some(ASK_EVERY))
        .add_service(v1)
        .add_service(v1alpha)
        .add_service(LockServiceServer::new(Service { desk, access }))
        .serve_with_incoming_shutdown(tokio_stream::wrappers::ReceiverStream::new(connections), end)
        .await
}

impl Service {
    /// The call that this is, if it may be.
    fn may<T>(&self, request: &Request<T>, operation: &'static str, scope: Scope) -> Result<Call, Status> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let mut call =
            Call { api: "grpc", operation, from: peer.to_string(), by: None, certificate: peer.certificate() };
        let authorization = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        match self.access.bearer(authorization, scope) {
            Ok(by) => {
                peer.is_permitted();
                call.by = by;
                Ok(call)
            }
            Err(problem) => Err(self.noted(&call, problem)),
        }
    }

    fn noted(&self, call: &Call, problem: Problem) -> Status {
        self.desk.journal.answered(call, Err(&problem), None);
        problem.into()
    }
}

#[tonic::async_trait]
impl LockService for Service {
    async fn create_lock(
        &self,
        request: Request<wire::CreateLockRequest>,
    ) -> Result<Response<wire::CreateLockResponse>, Status> {
        let call = self.may(&request, "create", Scope::Write)?;
        let wire::CreateLockRequest { service, who, environment, resource, event_id, ttl, wait } = request.into_inner();
        let ttl = time_span("ttl", ttl).map_err(|problem| self.noted(&call, problem))?;
        let wait = time_span("wait", wait).map_err(|problem| self.noted(&call, problem))?;
        let wanted = Wanted { key: Key { service, environment, resource }, who, event_id, ttl, wait };
        let lock = self.desk.create(&call, wanted).await?;
        Ok(Response::new(wire::CreateLockResponse { lock: Some(lock.into()) }))
    }

    async fn get_lock(
        &self,
        request: Request<wire::GetLockRequest>,
    ) -> Result<Response<wire::GetLockResponse>, Status> {
        let call = self.may(&request, "get", Scope::Read)?;
        let lock = self.desk.get(&call, &request.into_inner().id).await?;
        Ok(Response::new(wire::GetLockResponse { lock: Some(lock.into()) }))
    }

    async fn update_lock(
        &self,
        request: Request<wire::UpdateLockRequest>,
    ) -> Result<Response<wire::UpdateLockResponse>, Status> {
        let call = self.may(&request, "update", Scope::Write)?;
        let wire::UpdateLockRequest { id, service, who, environment, resource, event_id } = request.into_inner();
        let lock = self.desk.update(&call, &id, Change { service, environment, resource, who, event_id }).await?;
        Ok(Response::new(wire::UpdateLockResponse { lock: Some(lock.into()) }))
    }

    async fn un_lock(&self, request: Request<wire::UnLockRequest>) -> Result<Response<wire::UnLockResponse>, Status> {
        let call = self.may(&request, "unlock", Scope::Write)?;
        let lock = self.desk.unlock(&call, &request.into_inner().id).await?;
        Ok(Response::new(wire::UnLockResponse { message: "lock deleted".to_owned(), id: lock.id, count: 1 }))
    }

    async fn list_locks(
        &self,
        request: Request<wire::ListLocksRequest>,
    ) -> Result<Response<wire::ListLocksResponse>, Status> {
        let call = self.may(&request, "list", Scope::Read)?;
        let wire::ListLocksRequest { per_page, page } = request.into_inner();
        // A page of 0, and none of this size, is what a client sends that does not care.
        let page = u32::try_from(page.unwrap_or(1))
            .map_err(|_| self.noted(&call, Problem::Invalid("page counts from 1".to_owned())))?;
        let per_page = per_page.filter(|number| *number > 0);
        let selection = Selection { page: page.max(1), per_page, ..Selection::default() };
        let listing = self.desk.list(&call, selection).await?;
        let locks = listing.locks.into_iter().map(wire::Lock::from).collect();
        let total_count = u32::try_from(listing.total).unwrap_or(u32::MAX);
        Ok(Response::new(wire::ListLocksResponse { locks, total_count }))
    }

    async fn renew_lock(
        &self,
        request: Request<wire::RenewLockRequest>,
    ) -> Result<Response<wire::RenewLockResponse>, Status> {
        let call = self.may(&request, "renew", Scope::Write)?;
        let wire::RenewLockRequest { id, ttl } = request.into_inner();
        let ttl = time_span("ttl", ttl).map_err(|problem| self.noted(&call, problem))?;
        let lock = self.desk.renew(&call, &id, ttl).await?;
        Ok(Response::new(wire::RenewLockResponse { lock: Some(lock.into()) }))
    }
}

fn time_span(name: &str, value: Option<prost_types::Duration>) -> Result<Option<Duration>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let span = Duration::try_from(value).ok().and_then(|span| span::check(span).ok());
    span.ok_or_else(|| Problem::Invalid(format!("{name} is no time span")))
}

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

impl From<Lock> for wire::Lock {
    fn from(lock: Lock) -> Self {
        let queue = (1..).zip(lock.queue).map(|(queue_position, waiting)| wire::Waiter {
            who: waiting.who,
            since: Some(timestamp(waiting.since)),
            queue_position,
        });
        Self {
            id: lock.id,
            service: lock.key.service,
            who: lock.who,
            created_at: Some(timestamp(lock.created)),
            environment: lock.key.environment,
            resource: lock.key.resource,
            event_id: lock.event_id,
            ttl: lock.ttl.and_then(|ttl| prost_types::Duration::try_from(ttl).ok()),
            expires_at: lock.expires.map(timestamp),
            fencing_token: lock.token,
            queue: queue.collect(),
        }
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let code = match &problem {
            Problem::Held(_) => Code::AlreadyExists,
            Problem::Unknown(_) => Code::NotFound,
            Problem::Invalid(_) => Code::InvalidArgument,
            Problem::NotAllowed(_) => Code::PermissionDenied,
            Problem::NoToken | Problem::WrongToken => Code::Unauthenticated,
            Problem::TooMany | Problem::TooLarge => Code::ResourceExhausted,
            Problem::Stopping | Problem::Fault(_) => Code::Unavailable,
        };
        Self::new(code, fitting(&problem.to_string()))
    }
}

/// The message as far as clients take it: it goes in a header, of which they refuse long ones, and the answer with it. What is
/// cut is in the middle: at the end is the id.
fn fitting(message: &str) -> String {
    // What is no plain character is three for each of its bytes there.
    let size = |one: char| if matches!(one, ' '..='~') && one != '%' { 1 } else { 3 * one.len_utf8() };
    if message.chars().map(size).sum::<usize>() <= LONGEST_MESSAGE {
        return message.to_owned();
    }
    let fits = |most: usize| {
        let mut left = most;
        move |one: &char| {
            left.checked_sub(size(*one)).is_some_and(|rest| {
                left = rest;
                true
            })
        }
    };
    let head: String = message.chars().take_while(fits(LONGEST_MESSAGE * 3 / 4)).collect();
    let tail: Vec<char> = message.chars().rev().take_while(fits(LONGEST_MESSAGE / 4 - 5)).collect();
    format!("{head} ... {}", tail.into_iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn a_message_is_cut_in_the_middle_if_it_is_too_long_for_a_header() {
        for short in ["", "there is no lock 7", &"x".repeat(1024), &"é".repeat(170)] {
            assert_eq!(fitting(short), short);
        }
        for (long, most) in [("é".repeat(2000), 175), ("x".repeat(1025), 1024), ("a%\n".repeat(400), 600)] {
            let cut = fitting(&format!("<{long}>"));
            assert!(cut.starts_with('<') && cut.ends_with('>') && cut.contains(" ... "), "{cut}");
            assert!(cut.chars().count() <= most, "{}", cut.chars().count());
        }
    }
}
