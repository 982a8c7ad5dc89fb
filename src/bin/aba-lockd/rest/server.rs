//! Serves the connections of the REST API until the service stops, and then until all received calls are answered.
//!
//! A client that closes its sending side after a complete request is answered, because programs such as `nc -N` and
//! socat do that. The service cannot distinguish such a client from one that has gone, and writes the answer in vain in
//! that case. Only a request for a lock (`create_lock`) treats it as a client that has gone.

use super::json;
use crate::connection::listener::Listener;
use crate::connection::stream::ClientStream;
use crate::shutdown::ShutdownReceiver;
use aba_lock_protocol::code;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, StatusCode, Version, header};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::task::JoinSet;

/// Time after which a connection is closed if the complete head of a request has not arrived. Most clients close idle
/// connections sooner. If the service closed them first, a client that sends a request at that moment would get no
/// answer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves connections until the shutdown. `is_open`: the service permits the calls of all clients.
pub(crate) async fn serve(mut listener: Listener, router: Router, is_open: bool, shutdown: ShutdownReceiver) {
    let mut connections = JoinSet::new();
    let mut stopping = pin!(shutdown.clone().wait());
    loop {
        tokio::select! {
            stream = listener.next() => match stream {
                Some(stream) => {
                    connections.spawn(serve_connection(stream, router.clone(), is_open, shutdown.clone()));
                }
                None => break,
            },
            Some(_) = connections.join_next() => (),
            () = &mut stopping => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(stream: ClientStream, router: Router, is_open: bool, shutdown: ShutdownReceiver) {
    let peer = stream.peer();
    let router = TowerToHyperService::new(router);
    let client = peer.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (peer, router) = (peer.clone(), router.clone());
        async move {
            let mut response = if lacks_host(&request) {
                json::respond_with_refusal(
                    StatusCode::BAD_REQUEST,
                    code::INVALID_ARGUMENT,
                    "a request over HTTP/1.1 needs exactly one Host header",
                )
            } else {
                if is_open {
                    peer.mark_permitted();
                }
                request.extensions_mut().insert(ConnectInfo(peer.clone()));
                router.call(request).await?
            };
            // Only a client that has made a permitted call may keep its connection.
            if !peer.is_permitted() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.half_close(true).timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let serve = async {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = shutdown.wait() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    };
    tokio::select! {
        () = serve => (),
        () = client.wait_for_disconnect() => (),
    }
}

/// Returns true for a request over HTTP/1.1 that does not have exactly one Host header. It must be answered with 400
/// (RFC 9112, section 3.2).
fn lacks_host(request: &Request<Incoming>) -> bool {
    request.version() == Version::HTTP_11 && request.headers().get_all(header::HOST).iter().count() != 1
}
