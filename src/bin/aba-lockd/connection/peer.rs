//! The client of a connection. The APIs find it in each request, and use it to log the caller, to keep its connection
//! open, and to notice when it has gone.

use super::limits::ConnectionLimits;
use super::socket;
use crate::error::CallError;
use crate::telemetry::CallInfo;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// The client of a request. `None`: the request did not come over a connection of this service.
#[derive(Clone, Default)]
pub(crate) struct Peer(pub(super) Option<Arc<PeerState>>);

pub(super) struct PeerState {
    pub(super) stream: Arc<TcpStream>,
    pub(super) address: SocketAddr,
    /// The name in the client's certificate.
    pub(super) certificate: Option<String>,
    pub(super) is_permitted: AtomicBool,
    pub(super) limits: Arc<ConnectionLimits>,
    /// Notified when the connection must be closed.
    pub(super) disconnects: Notify,
    /// Dropped after the descriptor is closed, so that a new connection finds a free one.
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Peer {
    /// Describes a call of this client whose token is not checked yet.
    pub(crate) fn describe_call(&self, api: &'static str, operation: &'static str) -> CallInfo {
        let peer = self.0.as_ref();
        CallInfo {
            api,
            operation,
            from: peer.map_or_else(|| "unknown".to_owned(), |peer| peer.address.to_string()),
            caller: None,
            certificate: peer.and_then(|peer| peer.certificate.clone()),
        }
    }

    /// Records that this client has made a permitted call: its connection may stay open.
    pub(crate) fn mark_permitted(&self) {
        if let Some(peer) = &self.0 {
            peer.is_permitted.store(true, Ordering::Relaxed);
        }
    }

    /// Returns true if the client has made a permitted call.
    pub(crate) fn is_permitted(&self) -> bool {
        self.0.as_ref().is_none_or(|peer| peer.is_permitted.load(Ordering::Relaxed))
    }

    /// Permits this client to wait for a lock on its connection.
    pub(crate) fn permit_wait(&self) -> Result<Option<OwnedSemaphorePermit>, CallError> {
        self.0.as_ref().map(|peer| peer.limits.permit_wait()).transpose()
    }

    /// Closes the connection, also if the client does not read its answer.
    pub(crate) fn disconnect(&self) {
        if let Some(peer) = &self.0 {
            peer.disconnects.notify_one();
        }
    }

    /// Waits until [`Self::disconnect`] is called.
    pub(crate) async fn wait_for_disconnect(&self) {
        match &self.0 {
            Some(peer) => peer.disconnects.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Waits until the client has gone.
    pub(crate) async fn wait_until_gone(&self) {
        match &self.0 {
            Some(peer) => socket::wait_until_gone(&peer.stream).await,
            None => std::future::pending().await,
        }
    }
}
