//! Calls to etcd: of several endpoints the one that answered last, and the next one if it does not.

use crate::error::CallError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_stream::once;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// What the definitions say.
#[allow(clippy::pedantic, clippy::enum_variant_names, unreachable_pub, dead_code, reason = "generated")]
pub(super) mod rpc {
    tonic::include_proto!("etcdserverpb");
}

use rpc::kv_client::KvClient;
use rpc::lease_client::LeaseClient;
use rpc::request_op::Request;
use rpc::watch_client::WatchClient;

/// How long an endpoint may take to answer before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// Nothing that we ask for is larger.
const LARGEST: usize = 64 * 1024 * 1024;

/// A cluster.
#[derive(Debug, Clone)]
pub(super) struct Etcd {
    endpoints: Arc<[Channel]>,
    /// Which of them is asked first.
    current: Arc<AtomicUsize>,
}

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Failed {
    status: Status,
    /// Whether it may have been done all the same.
    pub(super) in_doubt: bool,
}

impl From<Failed> for CallError {
    fn from(failed: Failed) -> Self {
        Self::Fault(format!("etcd: {}", failed.status.message()))
    }
}

impl Etcd {
    /// Of `h1:2379,h2:2379`. It is not called before it is needed.
    pub(super) fn new(names: &str) -> Result<Self, String> {
        let endpoint = |name: &str| {
            let endpoint =
                Endpoint::from_shared(format!("http://{name}")).map_err(|error| format!("{name}: {error}"))?;
            Ok(endpoint.connect_timeout(PATIENCE).tcp_nodelay(true).connect_lazy())
        };
        let endpoints: Vec<Channel> =
            names.split(',').filter(|name| !name.is_empty()).map(endpoint).collect::<Result<_, String>>()?;
        if endpoints.is_empty() {
            return Err("it names no endpoint".to_owned());
        }
        Ok(Self { endpoints: endpoints.into(), current: Arc::default() })
    }

    /// Asks one endpoint after the other, until one answers. Whether others may do the same still: what is asked may be done
    /// twice, and as late as they like, and that must not matter.
    async fn ask<T, F: Future<Output = Result<T, Status>>>(
        &self,
        call: impl Fn(Channel) -> F,
    ) -> Result<(T, bool), Failed> {
        let first = self.current.load(Ordering::Relaxed);
        let mut in_doubt = false;
        let mut last = Status::unavailable("no endpoint answers");
        for turn in 0..self.endpoints.len() {
            let at = (first + turn) % self.endpoints.len();
            let answer = tokio::time::timeout(PATIENCE, call(self.endpoints[at].clone())).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("it does not answer"))) {
                Ok(answer) => {
                    self.current.store(at, Ordering::Relaxed);
                    return Ok((answer, in_doubt));
                }
                Err(status) if is_theirs(&status) => return Err(Failed { status, in_doubt }),
                Err(status) => {
                    in_doubt = true;
                    last = status;
                }
            }
        }
        self.current.store((first + 1) % self.endpoints.len(), Ordering::Relaxed);
        Err(Failed { status: last, in_doubt })
    }

    pub(super) async fn range(&self, request: rpc::RangeRequest) -> Result<rpc::RangeResponse, Failed> {
        let call = |channel| {
            let request = request.clone();
            async move { KvClient::new(channel).max_decoding_message_size(LARGEST).range(request).await }
        };
        Ok(self.ask(call).await?.0.into_inner())
    }

    /// For what comes to nothing if it is done late: it compares revisions that it changes.
    pub(super) async fn txn(&self, request: rpc::TxnRequest) -> Result<rpc::TxnResponse, Failed> {
        Ok(self.txn_or_doubt(request).await?.0)
    }

    /// For all else. Whether it may be done once more.
    pub(super) async fn txn_or_doubt(&self, request: rpc::TxnRequest) -> Result<(rpc::TxnResponse, bool), Failed> {
        let call = |channel| {
            let request = request.clone();
            async move { KvClient::new(channel).max_decoding_message_size(LARGEST).txn(request).await }
        };
        let (answer, in_doubt) = self.ask(call).await?;
        Ok((answer.into_inner(), in_doubt))
    }

    /// A lease of at least that time: its number, and its time.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<(i64, Duration), Failed> {
        let seconds = i64::try_from(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0)).unwrap_or(i64::MAX);
        let call = |channel| async move {
            LeaseClient::new(channel).lease_grant(rpc::LeaseGrantRequest { ttl: seconds }).await
        };
        let lease = self.ask(call).await?.0.into_inner();
        Ok((lease.id, Duration::from_secs(lease.ttl.unsigned_abs())))
    }

    pub(super) async fn revoke(&self, id: i64) -> Result<(), Failed> {
        let call =
            |channel| async move { LeaseClient::new(channel).lease_revoke(rpc::LeaseRevokeRequest { id }).await };
        self.ask(call).await.map(drop)
    }

    /// Whether the lease was there still, and has its full time again.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<bool, Failed> {
        let call = |channel| async move {
            let asked = once(rpc::LeaseKeepAliveRequest { id });
            let mut answers = LeaseClient::new(channel).lease_keep_alive(asked).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::unavailable("it hung up"))
        };
        Ok(self.ask(call).await?.0.ttl > 0)
    }

    /// What happens under a prefix from now on.
    pub(super) async fn watch(&self, prefix: &[u8]) -> Result<Streaming<rpc::WatchResponse>, Failed> {
        let create = rpc::WatchCreateRequest { key: prefix.to_vec(), range_end: after(prefix) };
        let union = rpc::watch_request::RequestUnion::CreateRequest(create);
        let request = rpc::WatchRequest { request_union: Some(union) };
        let call = |channel| {
            use tokio_stream::StreamExt;
            // The stream of what we ask stays open: its end would be the end of the watch.
            let asked = once(request.clone()).chain(tokio_stream::pending());
            async move { WatchClient::new(channel).watch(asked).await }
        };
        Ok(self.ask(call).await?.0.into_inner())
    }
}

/// Whether an endpoint that works has refused: another would, too.
fn is_theirs(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal | Code::Aborted
    )
}

/// The first key behind all with this prefix.
pub(super) fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

pub(super) fn get(key: &[u8]) -> rpc::RangeRequest {
    rpc::RangeRequest { key: key.to_vec(), ..Default::default() }
}

pub(super) fn getting(key: &[u8]) -> rpc::RequestOp {
    rpc::RequestOp { request: Some(Request::RequestRange(get(key))) }
}

pub(super) fn putting(key: &[u8], value: Vec<u8>, lease: i64) -> rpc::RequestOp {
    let put = rpc::PutRequest { key: key.to_vec(), value, lease };
    rpc::RequestOp { request: Some(Request::RequestPut(put)) }
}

pub(super) fn deleting(key: &[u8]) -> rpc::RequestOp {
    let delete = rpc::DeleteRangeRequest { key: key.to_vec() };
    rpc::RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

/// The key is not there.
pub(super) fn absent(key: &[u8]) -> rpc::Compare {
    none_in(key, Vec::new())
}

/// No key with that prefix is there.
pub(super) fn empty(prefix: &[u8]) -> rpc::Compare {
    none_in(prefix, after(prefix))
}

fn none_in(key: &[u8], range_end: Vec<u8>) -> rpc::Compare {
    created(key, range_end, 0)
}

fn created(key: &[u8], range_end: Vec<u8>, revision: i64) -> rpc::Compare {
    let union = rpc::compare::TargetUnion::CreateRevision(revision);
    rpc::Compare {
        result: rpc::compare::CompareResult::Equal.into(),
        target: rpc::compare::CompareTarget::Create.into(),
        key: key.to_vec(),
        target_union: Some(union),
        range_end,
    }
}

/// The key is there, since that revision.
pub(super) fn since(key: &[u8], revision: i64) -> rpc::Compare {
    created(key, Vec::new(), revision)
}

/// The key is as it was at that revision.
pub(super) fn unchanged(key: &[u8], revision: i64) -> rpc::Compare {
    let union = rpc::compare::TargetUnion::ModRevision(revision);
    rpc::Compare {
        result: rpc::compare::CompareResult::Equal.into(),
        target: rpc::compare::CompareTarget::Mod.into(),
        key: key.to_vec(),
        target_union: Some(union),
        range_end: Vec::new(),
    }
}

/// What the reads of a transaction found, in their order.
pub(super) fn found(response: rpc::TxnResponse) -> Vec<Option<rpc::KeyValue>> {
    let reads = response.responses.into_iter().filter_map(|op| match op.response {
        Some(rpc::response_op::Response::ResponseRange(range)) => Some(range.kvs.into_iter().next()),
        _ => None,
    });
    reads.collect()
}
