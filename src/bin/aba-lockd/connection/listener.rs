//! Listens on an address, and hands each connection to its API (`rest/server`, `grpc`) when the TLS handshake is
//! complete.

use super::limits::ConnectionLimits;
use super::peer::PeerState;
use super::socket::SharedSocket;
use super::stream::{ClientStream, FirstCallDeadline, Transport};
use crate::shutdown::ShutdownReceiver;
use crate::tls;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio::time;
use tokio_rustls::TlsAcceptor;

/// The time in which a connection must make its first permitted call.
const FIRST_CALL: Duration = Duration::from_secs(10);
/// The time in which a connection must make its first permitted call while most connections are in use.
const FIRST_CALL_WHEN_SCARCE: Duration = Duration::from_secs(2);
/// The time for which a client that has sent nothing, or half a request, may delay the end of the service.
const FIRST_CALL_AT_SHUTDOWN: Duration = Duration::from_secs(1);

/// TCP keepalive. Without it, a client whose machine has failed would keep its place in a queue.
const KEEPALIVE_TIME: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// The connections to one address. Dropping the listener stops listening.
pub(crate) struct Listener {
    ready: mpsc::Receiver<ClientStream>,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`. With a TLS configuration, connections speak TLS and one of `protocols`.
    pub(crate) async fn bind(
        address: SocketAddr,
        tls: Option<tls::CurrentConfig>,
        protocols: &'static [&'static str],
        limits: Arc<ConnectionLimits>,
        shutdown: ShutdownReceiver,
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
                            set_options(&stream);
                            let acceptor = tls.as_ref().map(|config| tls::new_acceptor(&config.borrow(), protocols));
                            let first_call = if limits.are_scarce() { FIRST_CALL_WHEN_SCARCE } else { FIRST_CALL };
                            let deadline = Box::pin(wait_for_deadline(first_call, shutdown.clone()));
                            let limits = Arc::clone(&limits);
                            let accepted = AcceptedConnection { stream, address, limits, permit, deadline };
                            tokio::spawn(accepted.complete(acceptor, connected.clone()));
                        }
                        // For example, no descriptor is free, but one may be free soon.
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

    pub(crate) async fn next(&mut self) -> Option<ClientStream> {
        self.ready.recv().await
    }
}

fn set_options(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_TIME).with_interval(KEEPALIVE_INTERVAL).with_retries(3);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

async fn wait_for_deadline(first_call: Duration, shutdown: ShutdownReceiver) {
    tokio::select! {
        () = time::sleep(first_call) => (),
        () = shutdown.wait() => time::sleep(FIRST_CALL_AT_SHUTDOWN).await,
    }
}

/// A connection before its TLS handshake.
struct AcceptedConnection {
    stream: TcpStream,
    address: SocketAddr,
    limits: Arc<ConnectionLimits>,
    permit: OwnedSemaphorePermit,
    deadline: FirstCallDeadline,
}

impl AcceptedConnection {
    /// Completes the handshake and passes the connection on. Runs as a task of its own, so that a client with a slow
    /// handshake delays no other client.
    async fn complete(mut self, acceptor: Option<TlsAcceptor>, connected: mpsc::Sender<ClientStream>) {
        let stream = Arc::new(self.stream);
        let socket = SharedSocket(Arc::clone(&stream));
        let transport = match acceptor {
            None => Transport::Plain(socket),
            Some(acceptor) => tokio::select! {
                () = &mut self.deadline => return,
                done = acceptor.accept(socket) => match done {
                    Ok(stream) => Transport::Tls(Box::new(stream)),
                    Err(_) => return,
                },
            },
        };
        let certificate = match &transport {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => {
                let certificates = stream.get_ref().1.peer_certificates();
                certificates.and_then(|all| all.first()).map(|first| tls::subject::read_name(first))
            }
        };
        let peer = PeerState {
            stream,
            address: self.address,
            certificate,
            is_permitted: AtomicBool::new(false),
            limits: self.limits,
            disconnects: Notify::new(),
            _permit: self.permit,
        };
        let (peer, deadline) = (Arc::new(peer), Some(self.deadline));
        let _ = connected.send(ClientStream { transport, peer, deadline }).await;
    }
}
