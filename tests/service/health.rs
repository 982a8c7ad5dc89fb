//! The health checks: `/livez` and the health service of gRPC. `/healthz` is tested with the stores.

use crate::etcd_server::EtcdServer;
use crate::grpc::run;
use crate::harness::{Service, Start, wait_until};
use crate::http::TIMEOUT;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use wire::HealthCheckRequest;
use wire::health_check_response::ServingStatus;
use wire::health_client::HealthClient;

/// The messages and the client that `proto/grpc` defines.
#[expect(clippy::pedantic, unreachable_pub, reason = "generated")]
mod wire {
    tonic::include_proto!("grpc.health.v1");
}

async fn connect(service: &Service) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", service.grpc)).unwrap();
    HealthClient::new(endpoint.timeout(TIMEOUT).connect_timeout(TIMEOUT).connect().await.unwrap())
}

fn ask_about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[test]
fn the_health_service_of_grpc_reports_whether_locks_can_be_granted() {
    // Probes have no token.
    let service = Start::new().token_file("ann lock:read ann\n").start();
    run(async {
        let mut client = connect(&service).await;
        for name in ["", "tracker.lock.v1alpha1.LockService"] {
            let answer = client.check(ask_about(name)).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{name}");
        }
        let refusal = client.check(ask_about("other")).await.unwrap_err();
        assert_eq!((refusal.code(), refusal.message()), (Code::NotFound, "this server has no service other"));
        let mut watch = client.watch(ask_about("other")).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    });
    // The store is removed during use.
    std::fs::rename(service.store(), service.path("moved")).unwrap();
    wait_until("the service is not healthy", || {
        let status = run(async { connect(&service).await.check(ask_about("")).await.unwrap().into_inner().status() });
        status == ServingStatus::NotServing
    });
    // A restart would not help, so the service is alive.
    assert_eq!(service.get("/livez").ok(), serde_json::json!({"status": "ok"}));
    service.get("/healthz").expect_refusal(503, 14);
}

#[test]
fn a_watch_of_the_health_reports_changes_and_ends_with_the_service() {
    let etcd = EtcdServer::start();
    let mut service = etcd.start_service();
    run(async {
        let mut watch = connect(&service).await.watch(ask_about("")).await.unwrap().into_inner();
        let mut next = async || watch.message().await.unwrap().map(|answer| answer.status());
        assert_eq!(next().await, Some(ServingStatus::Serving));
        etcd.signal("STOP");
        assert_eq!(next().await, Some(ServingStatus::NotServing));
        service.get("/livez").ok();
        etcd.signal("CONT");
        assert_eq!(next().await, Some(ServingStatus::Serving));
        service.terminate();
        assert_eq!((next().await, next().await), (Some(ServingStatus::NotServing), None));
    });
}
