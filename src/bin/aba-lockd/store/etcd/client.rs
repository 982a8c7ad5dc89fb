//! Sends the requests of the store to etcd: first to the endpoint that answered the last request, and if that does not
//! answer in time, to the others in turn.
//!
//! An endpoint that did not answer may still execute its request at any later time, so a request may be executed twice.
//! The callers make sure that this does no harm: the request has the same effect twice, it compares a revision that its
//! first execution changes, or it compares the epoch (`epoch`).

use super::rpc::kv_client::KvClient;
use super::rpc::lease_client::LeaseClient;
use super::rpc::watch_client::WatchClient;
use super::rpc::watch_request::RequestUnion;
use super::rpc::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use crate::error::CallError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_stream::{StreamExt, once};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// The time in which an endpoint must answer. After that, the request is sent to the next one.
const ENDPOINT_TIMEOUT: Duration = Duration::from_secs(3);

/// Maximum number of bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(super) struct EtcdClient {
    endpoints: Arc<[Channel]>,
    /// The index of the endpoint that is asked first.
    current: Arc<AtomicUsize>,
}

#[derive(Debug)]
pub(super) struct EtcdError {
    status: Status,
    /// True if etcd may have executed the request, or may still do so.
    pub(super) is_in_doubt: bool,
}

impl From<EtcdError> for CallError {
    fn from(error: EtcdError) -> Self {
        Self::Fault(format!("etcd: {}", error.status.message()))
    }
}

impl EtcdClient {
    /// Creates a client for endpoints such as `h1:2379,h2:2379`. Connects with the first request.
    pub(super) fn new(endpoints: &str) -> Result<Self, String> {
        let connect = |name: &str| {
            let endpoint =
                Endpoint::from_shared(format!("http://{name}")).map_err(|error| format!("{name}: {error}"))?;
            Ok(endpoint.connect_timeout(ENDPOINT_TIMEOUT).tcp_nodelay(true).connect_lazy())
        };
        let endpoints: Vec<Channel> =
            endpoints.split(',').filter(|name| !name.is_empty()).map(connect).collect::<Result<_, String>>()?;
        if endpoints.is_empty() {
            return Err("it names no endpoint".to_owned());
        }
        Ok(Self { endpoints: endpoints.into(), current: Arc::default() })
    }

    /// Asks one endpoint after the other until one answers. Returns the answer, and true if one of the endpoints that
    /// did not answer may still execute the request.
    async fn ask<T, F: Future<Output = Result<T, Status>>>(
        &self,
        call: impl Fn(Channel) -> F,
    ) -> Result<(T, bool), EtcdError> {
        let first = self.current.load(Ordering::Relaxed);
        let mut is_in_doubt = false;
        let mut last = Status::unavailable("no endpoint answers");
        for turn in 0..self.endpoints.len() {
            let at = (first + turn) % self.endpoints.len();
            let answer = tokio::time::timeout(ENDPOINT_TIMEOUT, call(self.endpoints[at].clone())).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no endpoint answers"))) {
                Ok(answer) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok((answer, is_in_doubt));
                }
                Err(status) if is_refusal(&status) => return Err(EtcdError { status, is_in_doubt }),
                Err(status) => {
                    is_in_doubt = true;
                    last = status;
                }
            }
        }
        self.current.store((first + 1) % self.endpoints.len(), Ordering::Relaxed);
        Err(EtcdError { status: last, is_in_doubt })
    }

    pub(super) async fn read_range(&self, request: RangeRequest) -> Result<RangeResponse, EtcdError> {
        let call = |channel| {
            let request = request.clone();
            async move { KvClient::new(channel).max_decoding_message_size(MAX_ANSWER).range(request).await }
        };
        Ok(self.ask(call).await?.0.into_inner())
    }

    /// Runs a transaction that does no harm if it is executed late or twice.
    pub(super) async fn run(&self, request: TxnRequest) -> Result<TxnResponse, EtcdError> {
        Ok(self.run_with_doubt(request).await?.0)
    }

    /// Runs a transaction. Returns true with its answer if it may be executed once more.
    pub(super) async fn run_with_doubt(&self, request: TxnRequest) -> Result<(TxnResponse, bool), EtcdError> {
        let call = |channel| {
            let request = request.clone();
            async move { KvClient::new(channel).max_decoding_message_size(MAX_ANSWER).txn(request).await }
        };
        let (answer, is_in_doubt) = self.ask(call).await?;
        Ok((answer.into_inner(), is_in_doubt))
    }

    /// Grants a lease with at least this time to live. Returns its id, and the time to live that etcd granted.
    pub(super) async fn grant_lease(&self, ttl: Duration) -> Result<(i64, Duration), EtcdError> {
        let seconds = i64::try_from(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).unwrap_or(i64::MAX);
        let call =
            |channel| async move { LeaseClient::new(channel).lease_grant(LeaseGrantRequest { ttl: seconds }).await };
        let lease = self.ask(call).await?.0.into_inner();
        Ok((lease.id, Duration::from_secs(lease.ttl.unsigned_abs())))
    }

    pub(super) async fn revoke_lease(&self, id: i64) -> Result<(), EtcdError> {
        let call = |channel| async move { LeaseClient::new(channel).lease_revoke(LeaseRevokeRequest { id }).await };
        self.ask(call).await.map(drop)
    }

    /// Renews a lease: it gets its full time to live again. Returns false if the lease has ended.
    pub(super) async fn keep_lease_alive(&self, id: i64) -> Result<bool, EtcdError> {
        let call = |channel| async move {
            let requests = once(LeaseKeepAliveRequest { id });
            let mut answers = LeaseClient::new(channel).lease_keep_alive(requests).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::unavailable("the endpoint closed the connection"))
        };
        Ok(self.ask(call).await?.0.ttl > 0)
    }

    /// Watches the keys of a range from this revision on, or from now on if it is 0.
    pub(super) async fn watch(
        &self,
        range: &RangeRequest,
        start_revision: i64,
    ) -> Result<Streaming<WatchResponse>, EtcdError> {
        let RangeRequest { key, range_end, .. } = range.clone();
        let create = WatchCreateRequest { key, range_end, start_revision };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let call = |channel| {
            // The stream of requests stays open: its end would end the watch.
            let requests = once(request.clone()).chain(tokio_stream::pending());
            async move { WatchClient::new(channel).watch(requests).await }
        };
        Ok(self.ask(call).await?.0.into_inner())
    }
}

/// Returns true if a working endpoint has refused the request, so that the other endpoints would refuse it as well.
fn is_refusal(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal | Code::Aborted
    )
}
