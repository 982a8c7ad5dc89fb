//! The health service of gRPC: the server serves if a lock could be granted, as `/healthz` reports over REST. Its calls need
//! no token, so that load balancers and probes work without one. A connection with no other calls is closed soon
//! (`connection`).

use crate::lock_manager::LockManager;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::health_check_response::ServingStatus;
use wire::health_server::{Health, HealthServer};
use wire::{HealthCheckRequest, HealthCheckResponse};

/// The messages and the service that `proto/grpc` defines.
#[expect(clippy::pedantic, unreachable_pub, reason = "generated")]
mod wire {
    tonic::include_proto!("grpc.health.v1");
}

/// Interval at which a watch looks for a change.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct HealthService {
    manager: Arc<LockManager>,
    /// The name of the other service of this server.
    known: &'static str,
}

pub(super) fn new_server(manager: Arc<LockManager>, known: &'static str) -> HealthServer<HealthService> {
    HealthServer::new(HealthService { manager, known })
}

impl HealthService {
    fn is_known(&self, service: &str) -> bool {
        ["", self.known].contains(&service)
    }
}

async fn find_status(manager: &LockManager) -> ServingStatus {
    if manager.check().await.is_ok() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !self.is_known(&service) {
            return Err(Status::not_found(format!("this server has no service {service}")));
        }
        Ok(Response::new(HealthCheckResponse { status: find_status(&self.manager).await.into() }))
    }

    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = self.is_known(&request.into_inner().service);
        let (changes, stream) = mpsc::channel(1);
        let manager = Arc::clone(&self.manager);
        tokio::spawn(async move {
            let mut last = None;
            loop {
                let status = if is_known { find_status(&manager).await } else { ServingStatus::ServiceUnknown };
                if last.replace(status) != Some(status)
                    && changes.send(Ok(HealthCheckResponse { status: status.into() })).await.is_err()
                {
                    return;
                }
                // The stream ends with the service.
                if manager.feed.is_closed() {
                    return;
                }
                tokio::select! {
                    () = time::sleep(WATCH_INTERVAL) => (),
                    () = manager.feed.wait_until_closed() => (),
                    () = changes.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
