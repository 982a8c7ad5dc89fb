//! The byte stream of one client connection, plain or TLS. `listener` creates it, and the HTTP libraries of REST and
//! gRPC read from it and write to it.
//!
//! A client must make a permitted call before a deadline. After the deadline a read fails, so the library closes the
//! connection.

use super::peer::{Peer, PeerState};
use super::socket::SharedSocket;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// Completes at the time at which a connection without a permitted call must be closed.
pub(super) type FirstCallDeadline = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) enum Transport {
    Plain(SharedSocket),
    Tls(Box<TlsStream<SharedSocket>>),
}

/// A client connection.
pub(crate) struct ClientStream {
    pub(super) transport: Transport,
    pub(super) peer: Arc<PeerState>,
    /// `None` after the first permitted call.
    pub(super) deadline: Option<FirstCallDeadline>,
}

impl ClientStream {
    pub(crate) fn peer(&self) -> Peer {
        Peer(Some(Arc::clone(&self.peer)))
    }
}

impl Connected for ClientStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer()
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        if self.deadline.is_some() && self.peer.is_permitted.load(Ordering::Relaxed) {
            self.deadline = None;
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
