//! The connections of the REST side, each to its end.
//!
//! Who only stops sending behind a complete request is answered: programs that send a text and then its end (`nc -N`, socat)
//! do that. It looks like the end of a client that is gone, of which the call is then answered in vain; only who is to get a
//! lock is treated as gone (`create`).

use super::json;
use crate::connection::{Incoming, Stream};
use crate::lifecycle::ended;
use aba_lock_protocol::code;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, StatusCode, Version, header};
use hyper::Request;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a connection stays without the complete head of a request. Longer than most clients keep idle connections: a client
/// that used one in the instant in which it is closed would get no answer.
const IDLE: Duration = Duration::from_secs(60);

/// Serves until the end, and then until all that was asked is answered. `is_open`: any client may call.
pub(crate) async fn serve(mut incoming: Incoming, router: Router, is_open: bool, ends: watch::Receiver<()>) {
    let mut all = JoinSet::new();
    let mut end = pin!(ended(ends.clone()));
    loop {
        tokio::select! {
            stream = incoming.next() => match stream {
                Some(stream) => drop(all.spawn(answer(stream, router.clone(), is_open, ends.clone()))),
                None => break,
            },
            Some(_) = all.join_next() => (),
            () = &mut end => break,
        }
    }
    drop(incoming);
    while all.join_next().await.is_some() {}
}

async fn answer(stream: Stream, router: Router, is_open: bool, ends: watch::Receiver<()>) {
    let peer = stream.peer();
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Body>| {
        let (peer, router) = (peer.clone(), router.clone());
        async move {
            let mut response = if lacks_host(&request) {
                json::refusal(
                    StatusCode::BAD_REQUEST,
                    code::INVALID_ARGUMENT,
                    "a request of HTTP/1.1 has one header Host",
                )
            } else {
                if is_open {
                    peer.is_permitted();
                }
                request.extensions_mut().insert(ConnectInfo(peer.clone()));
                router.call(request).await?
            };
            // Only a client that has made a permitted call may keep its place among the connections.
            if !peer.has_called() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.half_close(true).timer(TokioTimer::new()).header_read_timeout(IDLE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ended(ends) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// RFC 9112, 3.2: such a request is answered with 400.
fn lacks_host(request: &Request<Body>) -> bool {
    request.version() == Version::HTTP_11 && request.headers().get_all(header::HOST).iter().count() != 1
}
