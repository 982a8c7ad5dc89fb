//! The connections of the REST side, each to its end.
//!
//! Who only stops sending behind a complete request is answered: programs that send a text and then its end (`nc -N`, socat)
//! do that. It looks like the end of a client that is gone, of which the call is then answered in vain; only who is to get a
//! lock is treated as gone (`create`).

use crate::listen::{Incoming, Stream};
use crate::serve::ended;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Serves until the end, and then until all that was asked is answered.
pub(crate) async fn serve(mut incoming: Incoming, router: Router, ends: watch::Receiver<()>) {
    let mut all = JoinSet::new();
    let mut end = pin!(ended(ends.clone()));
    loop {
        tokio::select! {
            stream = incoming.next() => match stream {
                Some(stream) => drop(all.spawn(answer(stream, router.clone(), ends.clone()))),
                None => break,
            },
            Some(_) = all.join_next() => (),
            () = &mut end => break,
        }
    }
    drop(incoming);
    while all.join_next().await.is_some() {}
}

async fn answer(stream: Stream, router: Router, ends: watch::Receiver<()>) {
    let peer = stream.peer();
    let (router, caller) = (TowerToHyperService::new(router), peer.clone());
    let service = service_fn(move |mut request: Request<Body>| {
        request.extensions_mut().insert(ConnectInfo(caller.clone()));
        router.call(request)
    });
    let connection = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = peer.hung_up() => return,
        () = ended(ends) => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => (),
        () = peer.hung_up() => (),
    }
}
