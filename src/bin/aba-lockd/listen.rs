//! Connections: with TLS or without, for REST and gRPC alike.

mod crowd;
mod line;

pub(crate) use crowd::Crowd;
pub(crate) use line::Calling;

use crate::model::Problem;
use crowd::Waits;
use line::{Line, Socket};
use socket2::{SockRef, TcpKeepalive};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// How long a client may take to agree on keys.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How soon a client that went silent is asked whether it is still there, and how often. Else one whose machine is gone
/// would keep its place in a queue.
const SILENCE: Duration = Duration::from_secs(15);
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Who is at the other end of a connection.
#[derive(Clone, Default)]
pub(crate) struct Peer(Option<Arc<Line>>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(line) => line.address().fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

impl Peer {
    /// A call of somebody who may ask begins: until it is dropped, the connection is not closed on our part. An error: it is
    /// closed already.
    pub(crate) fn call(&self) -> Result<Option<Calling>, ()> {
        self.0.clone().map(|line| line.call().ok_or(())).transpose()
    }

    /// They are to wait for a lock, with a connection of their own: who waits over gRPC has none.
    pub(crate) fn wait(&self) -> Result<Option<Waits>, Problem> {
        self.0.as_ref().map(|line| line.wait().ok_or(Problem::TooMany)).transpose()
    }

    /// Until the connection is closed on our part.
    pub(crate) async fn hung_up(&self) {
        match &self.0 {
            Some(line) => line.hung_up().await,
            None => std::future::pending().await,
        }
    }

    /// Until they have gone away.
    pub(crate) async fn gone(&self) {
        match &self.0 {
            Some(line) => line.gone().await,
            None => std::future::pending().await,
        }
    }
}

/// A connection.
pub(crate) struct Stream {
    inner: Inner,
    line: Arc<Line>,
}

impl Stream {
    pub(crate) fn peer(&self) -> Peer {
        Peer(Some(Arc::clone(&self.line)))
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
    /// Listens, until it is dropped.
    pub(crate) async fn bind(address: SocketAddr, tls: Option<TlsAcceptor>, crowd: Arc<Crowd>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (connected, ready) = mpsc::channel(64);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = connected.closed() => return,
                };
                match accepted {
                    Ok((stream, address)) => {
                        prepare(&stream);
                        let line = tokio::select! {
                            line = crowd.join(stream, address) => line,
                            () = connected.closed() => return,
                        };
                        hand_on(line, tls.clone(), connected.clone());
                    }
                    // As when there are no descriptors left: there may be in a moment.
                    Err(error) => {
                        crowd.say(&error.to_string());
                        time::sleep(Duration::from_millis(100)).await;
                    }
                }
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
    let keep = TcpKeepalive::new().with_time(SILENCE).with_interval(ASK_EVERY).with_retries(3);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keep);
}

/// Beside the others: a client that is slow to agree on keys holds up nobody.
fn hand_on(line: Arc<Line>, tls: Option<TlsAcceptor>, connected: mpsc::Sender<Stream>) {
    tokio::spawn(async move {
        let socket = Socket(Arc::clone(&line));
        let inner = match tls {
            None => Inner::Plain(socket),
            Some(tls) => match time::timeout(HANDSHAKE, tls.accept(socket)).await {
                Ok(Ok(stream)) => Inner::Tls(Box::new(stream)),
                _ => return,
            },
        };
        let _ = connected.send(Stream { inner, line }).await;
    });
}

impl Connected for Stream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
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

/// What speaks TLS with these protocols, first choice first.
pub(crate) fn acceptor(config: &rustls::ServerConfig, protocols: &[&str]) -> TlsAcceptor {
    let mut config = config.clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}
