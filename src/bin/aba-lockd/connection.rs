//! Connections: with TLS or without, for REST and gRPC alike.
//!
//! A connection over which no permitted call has come is closed ten seconds after it was accepted, or two seconds if most
//! connections were in use already. So clients that connect and send nothing, half a request, or only calls that are refused
//! cannot keep others out for longer. When the service stops, it waits for them for one second.

mod limits;
mod socket;

pub(crate) use limits::Limits;

use crate::lifecycle::ended;
use crate::model::Problem;
use crate::tls::{self, Certificates};
use socket::Socket;
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// How long a connection may take until it has made a permitted call, and how long where most connections are in use.
const FIRST_CALL: Duration = Duration::from_secs(10);
const FIRST_CALL_IN_A_CROWD: Duration = Duration::from_secs(2);

/// How long it may still take once the service stops. A client that has sent nothing, or half a request, must not delay the end.
const FIRST_CALL_AT_THE_END: Duration = Duration::from_secs(1);

/// How soon a silent client is probed (TCP keepalive), and how often. Otherwise a client whose machine is gone would keep its
/// place in a queue.
const SILENCE: Duration = Duration::from_secs(15);
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// The client of a connection.
#[derive(Clone, Default)]
pub(crate) struct Peer(Option<Arc<Remote>>);

struct Remote {
    stream: Arc<TcpStream>,
    address: SocketAddr,
    /// The name in the client's certificate.
    certificate: Option<String>,
    has_called: AtomicBool,
    limits: Arc<Limits>,
    /// Released when the descriptor is closed.
    _permit: OwnedSemaphorePermit,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(remote) => remote.address.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

impl Peer {
    /// The name in the client's certificate.
    pub(crate) fn certificate(&self) -> Option<String> {
        self.0.as_ref().and_then(|remote| remote.certificate.clone())
    }

    /// Notes that this client has made a permitted call: the connection may stay.
    pub(crate) fn is_permitted(&self) {
        if let Some(remote) = &self.0 {
            remote.has_called.store(true, Ordering::Relaxed);
        }
    }

    /// Returns true if the client has made a permitted call.
    pub(crate) fn has_called(&self) -> bool {
        self.0.as_ref().is_none_or(|remote| remote.has_called.load(Ordering::Relaxed))
    }

    /// Room for this client to wait for a lock, with a connection of its own. A client that waits over gRPC has none.
    pub(crate) fn wait(&self) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        self.0.as_ref().map(|remote| remote.limits.wait()).transpose()
    }

    /// Returns when the client has gone.
    pub(crate) async fn until_gone(&self) {
        match &self.0 {
            Some(remote) => socket::until_gone(&remote.stream).await,
            None => std::future::pending().await,
        }
    }
}

type Deadline = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection.
pub(crate) struct Stream {
    inner: Inner,
    remote: Arc<Remote>,
    /// Completes when the connection ends without a permitted call. `None`: there was one.
    deadline: Option<Deadline>,
}

impl Stream {
    pub(crate) fn peer(&self) -> Peer {
        Peer(Some(Arc::clone(&self.remote)))
    }
}

enum Inner {
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>),
}

/// Connections as they come.
pub(crate) struct Incoming {
    ready: mpsc::Receiver<Stream>,
    address: SocketAddr,
}

impl Incoming {
    /// Listens, until it is dropped. With certificates, connections speak TLS and one of `protocols`. `ends` is about the end of
    /// the service.
    pub(crate) async fn bind(
        address: SocketAddr,
        certificates: Option<Certificates>,
        protocols: &'static [&'static str],
        limits: Arc<Limits>,
        ends: watch::Receiver<()>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (connected, ready) = mpsc::channel(64);
        tokio::spawn(async move {
            let accept = async {
                loop {
                    let permit = limits.admit().await;
                    match listener.accept().await {
                        Ok((stream, address)) => {
                            prepare(&stream);
                            let tls = certificates.as_ref().map(|current| tls::acceptor(&current.borrow(), protocols));
                            let first_call = if limits.is_crowded() { FIRST_CALL_IN_A_CROWD } else { FIRST_CALL };
                            let deadline = Box::pin(deadline(first_call, ends.clone()));
                            let new = New { stream, address, limits: Arc::clone(&limits), permit, deadline };
                            tokio::spawn(hand_on(new, tls, connected.clone()));
                        }
                        // As if no descriptors were left: there may be some in a moment.
                        Err(error) => {
                            limits.report(&error.to_string());
                            time::sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
            };
            tokio::select! {
                () = accept => (),
                () = connected.closed() => (),
            }
        });
        Ok(Self { ready, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn next(&mut self) -> Option<Stream> {
        self.ready.recv().await
    }
}

fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keep = TcpKeepalive::new().with_time(SILENCE).with_interval(PROBE_EVERY).with_retries(3);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keep);
}

/// A connection that was accepted just now.
struct New {
    stream: TcpStream,
    address: SocketAddr,
    limits: Arc<Limits>,
    permit: OwnedSemaphorePermit,
    deadline: Deadline,
}

async fn deadline(first_call: Duration, ends: watch::Receiver<()>) {
    tokio::select! {
        () = time::sleep(first_call) => (),
        () = ended(ends) => time::sleep(FIRST_CALL_AT_THE_END).await,
    }
}

/// Makes it ready to be read. A client with a slow TLS handshake holds up no other.
async fn hand_on(new: New, tls: Option<TlsAcceptor>, connected: mpsc::Sender<Stream>) {
    let New { stream, address, limits, permit, mut deadline } = new;
    let stream = Arc::new(stream);
    let socket = Socket(Arc::clone(&stream));
    let inner = match tls {
        None => Inner::Plain(socket),
        Some(tls) => tokio::select! {
            () = &mut deadline => return,
            done = tls.accept(socket) => match done {
                Ok(stream) => Inner::Tls(Box::new(stream)),
                Err(_) => return,
            },
        },
    };
    let certificate = match &inner {
        Inner::Plain(_) => None,
        Inner::Tls(stream) => {
            stream.get_ref().1.peer_certificates().and_then(|all| all.first()).map(|one| tls::name(one))
        }
    };
    let has_called = AtomicBool::new(false);
    let remote = Arc::new(Remote { stream, address, certificate, has_called, limits, _permit: permit });
    let _ = connected.send(Stream { inner, remote, deadline: Some(deadline) }).await;
}

impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        if self.deadline.is_some() && self.remote.has_called.load(Ordering::Relaxed) {
            self.deadline = None;
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Inner::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Inner::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(context),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
