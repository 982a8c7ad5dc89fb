//! The gRPC API: checks the permission of the caller, translates messages into calls of the lock manager, and results
//! into messages. `lifecycle` starts it; reflection describes it to clients, and `health` reports whether it works.

mod health;

use crate::access::AccessPolicy;
use crate::connection::listener::Listener;
use crate::connection::peer::Peer;
use crate::error::CallError;
use crate::lock_manager::{GrantedLock, LockManager};
use crate::model::{Lock, LockFields, LockKey, LockOrigin, LockQuery, LockRequest};
use crate::past_lock::EndKind;
use crate::permission::Scope;
use crate::telemetry::CallInfo;
use aba_lock_protocol::sharing::{SLOTS_RULE, Sharing, check_slots};
use aba_lock_protocol::span;
use jiff::Timestamp;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use wire::lock_service_server::{LockService, LockServiceServer, SERVICE_NAME};

/// The messages and the service that `proto/tracker` defines.
#[expect(clippy::pedantic, unreachable_pub, reason = "generated")]
mod wire {
    tonic::include_proto!("tracker.lock.v1alpha1");
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
}

/// Interval of the HTTP/2 keepalive, which notices clients that have gone while they wait.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Maximum number of bytes of an error message in its header.
const MAX_MESSAGE: usize = 1024;

struct GrpcService {
    manager: Arc<LockManager>,
    access: Arc<AccessPolicy>,
}

/// Serves until `shutdown` completes.
pub(crate) async fn serve(
    mut listener: Listener,
    manager: Arc<LockManager>,
    access: Arc<AccessPolicy>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(wire::DESCRIPTORS);
    let v1 = reflection().build_v1().expect("the build wrote the descriptors");
    let v1alpha = reflection().build_v1alpha().expect("the build wrote the descriptors");
    let (connected, connections) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(stream) = listener.next().await {
            if connected.send(Ok::<_, std::io::Error>(stream)).await.is_err() {
                return;
            }
        }
    });
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_INTERVAL))
        .add_service(v1)
        .add_service(v1alpha)
        .add_service(health::new_server(Arc::clone(&manager), SERVICE_NAME))
        .add_service(LockServiceServer::new(GrpcService { manager, access }))
        .serve_with_incoming_shutdown(tokio_stream::wrappers::ReceiverStream::new(connections), shutdown)
        .await
}

impl GrpcService {
    /// Returns the call if it is permitted. Records the refusal otherwise.
    fn authorize<T>(&self, request: &Request<T>, operation: &'static str, scope: Scope) -> Result<CallInfo, Status> {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let mut call = peer.describe_call("grpc", operation);
        let caller = self.access.identify_caller(request.metadata().as_ref(), call.certificate.as_deref(), &[scope]);
        call.caller = self.record_refusal(&call, caller)?;
        peer.mark_permitted();
        Ok(call)
    }

    fn record_refusal<T>(&self, call: &CallInfo, checked: Result<T, CallError>) -> Result<T, Status> {
        checked.map_err(|error| {
            self.manager.telemetry.record_call(call, Err(&error), None);
            error.into()
        })
    }
}

#[tonic::async_trait]
impl LockService for GrpcService {
    async fn create_lock(
        &self,
        request: Request<wire::CreateLockRequest>,
    ) -> Result<Response<wire::CreateLockResponse>, Status> {
        let call = self.authorize(&request, "create", Scope::Write)?;
        let wire::CreateLockRequest { service, who, environment, resource, event_id, ttl, wait, mode, slots } =
            request.into_inner();
        let ttl = self.record_refusal(&call, parse_time_span("ttl", ttl))?;
        let wait = self.record_refusal(&call, parse_time_span("wait", wait))?;
        let sharing = self.record_refusal(&call, parse_sharing(mode, slots))?;
        let key = LockKey { service, environment, resource };
        let request = LockRequest { key, who, event_id, ttl, wait, sharing, origin: LockOrigin::default() };
        let GrantedLock { lock, secret } = self.manager.create(&call, request).await?;
        let secret = secret.unwrap_or_default();
        Ok(Response::new(wire::CreateLockResponse { lock: Some(lock.into()), secret }))
    }

    async fn get_lock(
        &self,
        request: Request<wire::GetLockRequest>,
    ) -> Result<Response<wire::GetLockResponse>, Status> {
        let call = self.authorize(&request, "get", Scope::Read)?;
        let lock = self.manager.get(&call, &request.into_inner().id).await?;
        Ok(Response::new(wire::GetLockResponse { lock: Some(lock.into()) }))
    }

    async fn update_lock(
        &self,
        request: Request<wire::UpdateLockRequest>,
    ) -> Result<Response<wire::UpdateLockResponse>, Status> {
        let call = self.authorize(&request, "update", Scope::Write)?;
        let wire::UpdateLockRequest { id, service, who, environment, resource, event_id } = request.into_inner();
        let changes = LockFields { service, environment, resource, who, event_id };
        let lock = self.manager.update(&call, &id, changes).await?;
        Ok(Response::new(wire::UpdateLockResponse { lock: Some(lock.into()) }))
    }

    async fn un_lock(&self, request: Request<wire::UnLockRequest>) -> Result<Response<wire::UnLockResponse>, Status> {
        let call = self.authorize(&request, "unlock", Scope::Write)?;
        let lock = self.manager.unlock(&call, &request.into_inner().id, EndKind::Released).await?;
        Ok(Response::new(wire::UnLockResponse { message: "lock deleted".to_owned(), id: lock.id, count: 1 }))
    }

    async fn list_locks(
        &self,
        request: Request<wire::ListLocksRequest>,
    ) -> Result<Response<wire::ListLocksResponse>, Status> {
        let call = self.authorize(&request, "list", Scope::Read)?;
        let wire::ListLocksRequest { per_page, page } = request.into_inner();
        let page =
            u32::try_from(page.unwrap_or(1)).map_err(|_| CallError::Invalid("page must be at least 1".to_owned()));
        let page = self.record_refusal(&call, page)?;
        // Clients that do not set these fields send 0.
        let per_page = per_page.filter(|number| *number > 0);
        let query = LockQuery { page: page.max(1), per_page, ..LockQuery::default() };
        let page = self.manager.list(&call, query).await?;
        let locks = page.locks.into_iter().map(wire::Lock::from).collect();
        let total_count = u32::try_from(page.total).unwrap_or(u32::MAX);
        Ok(Response::new(wire::ListLocksResponse { locks, total_count }))
    }

    async fn renew_lock(
        &self,
        request: Request<wire::RenewLockRequest>,
    ) -> Result<Response<wire::RenewLockResponse>, Status> {
        let call = self.authorize(&request, "renew", Scope::Write)?;
        let wire::RenewLockRequest { id, ttl } = request.into_inner();
        let ttl = self.record_refusal(&call, parse_time_span("ttl", ttl))?;
        let lock = self.manager.renew(&call, &id, ttl).await?;
        Ok(Response::new(wire::RenewLockResponse { lock: Some(lock.into()) }))
    }
}

fn parse_time_span(name: &str, value: Option<prost_types::Duration>) -> Result<Option<Duration>, CallError> {
    let Some(value) = value else { return Ok(None) };
    let span = Duration::try_from(value).ok().and_then(|span| span::check(span).ok());
    span.ok_or_else(|| CallError::Invalid(format!("{name} is not a valid time span")))
}

/// Reads the mode of a request. Without the fields, the lock is exclusive, as in the original API.
fn parse_sharing(mode: i32, slots: Option<u32>) -> Result<Sharing, CallError> {
    use wire::LockMode;
    let mode = LockMode::try_from(mode).map_err(|_| CallError::Invalid(format!("{mode} is not a valid mode")))?;
    match (mode, slots) {
        (LockMode::Unspecified | LockMode::Exclusive, None) => Ok(Sharing::Exclusive),
        (LockMode::Shared, None) => Ok(Sharing::Shared),
        (LockMode::Unspecified, Some(slots)) => {
            let slots = check_slots(slots.into()).ok_or_else(|| CallError::Invalid(SLOTS_RULE.to_owned()))?;
            Ok(Sharing::Slots(slots))
        }
        (_, Some(_)) => Err(CallError::Invalid("give either mode or slots, not both".to_owned())),
    }
}

/// Returns the fields `mode` and `slots` of a lock or a waiter. An exclusive lock has neither, as in the original API.
fn format_sharing(sharing: Sharing) -> (i32, u32) {
    match sharing {
        Sharing::Exclusive => (wire::LockMode::Unspecified.into(), 0),
        Sharing::Shared => (wire::LockMode::Shared.into(), 0),
        Sharing::Slots(number) => (wire::LockMode::Unspecified.into(), number),
    }
}

fn to_timestamp(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() }
}

impl From<Lock> for wire::Lock {
    fn from(lock: Lock) -> Self {
        let queue = (1..).zip(lock.queue).map(|(queue_position, waiter)| {
            let (mode, slots) = format_sharing(waiter.sharing);
            let since = Some(to_timestamp(waiter.since));
            wire::Waiter { who: waiter.who, since, queue_position, mode, slots }
        });
        let (mode, slots) = format_sharing(lock.sharing);
        Self {
            id: lock.id,
            service: lock.key.service,
            who: lock.who,
            created_at: Some(to_timestamp(lock.created)),
            environment: lock.key.environment,
            resource: lock.key.resource,
            event_id: lock.event_id,
            ttl: lock.ttl.and_then(|ttl| prost_types::Duration::try_from(ttl).ok()),
            expires_at: lock.expires.map(to_timestamp),
            fencing_token: lock.token,
            queue: queue.collect(),
            mode,
            slots,
            slot: lock.slot.unwrap_or_default(),
        }
    }
}

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::Held(_) => Code::AlreadyExists,
            CallError::OtherSlots { .. } => Code::FailedPrecondition,
            CallError::Unknown(_) => Code::NotFound,
            CallError::Invalid(_) => Code::InvalidArgument,
            CallError::NotAllowed(_) => Code::PermissionDenied,
            CallError::NoToken | CallError::WrongToken | CallError::BadCredential(_) => Code::Unauthenticated,
            CallError::TooMany | CallError::TooLarge => Code::ResourceExhausted,
            CallError::Stopping | CallError::Fault(_) => Code::Unavailable,
        };
        Self::new(code, shorten_message(&error.to_string()))
    }
}

/// Shortens a message so that clients accept it: the message is sent in a header, and clients refuse long headers. The
/// middle is cut out, because the id is at the end.
fn shorten_message(message: &str) -> String {
    // All other characters are percent-encoded, which takes three bytes for each byte.
    let size = |one: char| if matches!(one, ' '..='~') && one != '%' { 1 } else { 3 * one.len_utf8() };
    if message.chars().map(size).sum::<usize>() <= MAX_MESSAGE {
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
    let head: String = message.chars().take_while(fits(MAX_MESSAGE * 3 / 4)).collect();
    let tail: Vec<char> = message.chars().rev().take_while(fits(MAX_MESSAGE / 4 - 5)).collect();
    format!("{head} ... {}", tail.into_iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::shorten_message;

    #[test]
    fn a_message_that_is_too_long_for_a_header_is_cut_in_the_middle() {
        for short in ["", "there is no lock 7", &"x".repeat(1024), &"é".repeat(170)] {
            assert_eq!(shorten_message(short), short);
        }
        for (long, most) in [("é".repeat(2000), 175), ("x".repeat(1025), 1024), ("a%\n".repeat(400), 600)] {
            let cut = shorten_message(&format!("<{long}>"));
            assert!(cut.starts_with('<') && cut.ends_with('>') && cut.contains(" ... "), "{cut}");
            assert!(cut.chars().count() <= most, "{}", cut.chars().count());
        }
    }
}
