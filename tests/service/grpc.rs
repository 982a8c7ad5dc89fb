//! The gRPC API, call by call.

use crate::harness::{Service, Start};
use crate::http::TIMEOUT;
use tokio::runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use wire::lock_service_client::LockServiceClient;

/// The messages and the client that `proto/tracker` defines.
#[expect(clippy::pedantic, unreachable_pub, reason = "generated")]
pub(crate) mod wire {
    tonic::include_proto!("tracker.lock.v1alpha1");
}

/// Runs a future on this thread.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) async fn connect(address: &str) -> LockServiceClient<Channel> {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).unwrap().timeout(TIMEOUT).connect_timeout(TIMEOUT);
    LockServiceClient::new(endpoint.connect().await.unwrap())
}

fn new_request(resource: &str, who: &str) -> wire::CreateLockRequest {
    wire::CreateLockRequest {
        service: "web".to_owned(),
        who: who.to_owned(),
        environment: "prod".to_owned(),
        resource: resource.to_owned(),
        event_id: "7".to_owned(),
        ..Default::default()
    }
}

#[test]
fn a_lock_is_acquired_read_updated_renewed_and_released() {
    let service = Service::new();
    run(async {
        let mut client = connect(&service.grpc).await;
        let lock = client.create_lock(new_request("db", "ann")).await.unwrap().into_inner().lock.unwrap();
        assert_eq!((&*lock.service, &*lock.environment, &*lock.resource), ("web", "prod", "db"));
        assert_eq!((&*lock.who, &*lock.event_id, lock.ttl), ("ann", "7", None));
        assert!(lock.fencing_token > 0 && lock.created_at.is_some());
        let id = lock.id.clone();
        let got = client.get_lock(wire::GetLockRequest { id: id.clone() }).await.unwrap().into_inner().lock.unwrap();
        assert_eq!(got, lock);
        // REST shows the same lock.
        assert_eq!(service.list("")[0]["id"], id.as_str());
        let change = wire::UpdateLockRequest { id: id.clone(), who: "bob".to_owned(), ..Default::default() };
        let changed = client.update_lock(change).await.unwrap().into_inner().lock.unwrap();
        assert_eq!((&*changed.who, &*changed.resource), ("bob", "db"));
        let ttl = Some(prost_types::Duration { seconds: 90, nanos: 0 });
        let renewed = client.renew_lock(wire::RenewLockRequest { id: id.clone(), ttl }).await.unwrap().into_inner();
        let renewed = renewed.lock.unwrap();
        assert_eq!(renewed.ttl, ttl);
        assert!(renewed.expires_at.unwrap().seconds >= lock.created_at.unwrap().seconds + 90);
        let released = client.un_lock(wire::UnLockRequest { id: id.clone() }).await.unwrap().into_inner();
        assert_eq!((&*released.message, &released.id, released.count), ("lock deleted", &id, 1));
        assert!(service.list("").is_empty());
    });
}

#[test]
fn each_refusal_has_its_code() {
    let service = Service::new();
    run(async {
        let mut client = connect(&service.grpc).await;
        client.create_lock(new_request("db", "ann")).await.unwrap();
        let status = client.create_lock(new_request("db", "bob")).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists);
        assert!(
            status.message().starts_with("service web is already locked for db in prod by ann (lock_id: "),
            "{status}"
        );
        let other = client.create_lock(new_request("cache", "bob")).await.unwrap().into_inner().lock.unwrap();
        let change = wire::UpdateLockRequest { id: other.id, resource: "db".to_owned(), ..Default::default() };
        assert_eq!(client.update_lock(change).await.unwrap_err().code(), Code::AlreadyExists);
        for wrong in
            [new_request("x", ""), wire::CreateLockRequest { service: String::new(), ..new_request("x", "ann") }]
        {
            assert_eq!(client.create_lock(wrong).await.unwrap_err().code(), Code::InvalidArgument);
        }
        let minus = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        let wrong = wire::CreateLockRequest { ttl: minus, ..new_request("x", "ann") };
        assert_eq!(client.create_lock(wrong).await.unwrap_err().code(), Code::InvalidArgument);
        let id = "no-such-lock".to_owned();
        let unknown = [
            client.get_lock(wire::GetLockRequest { id: id.clone() }).await.unwrap_err(),
            client.un_lock(wire::UnLockRequest { id: id.clone() }).await.unwrap_err(),
            client.renew_lock(wire::RenewLockRequest { id: id.clone(), ttl: None }).await.unwrap_err(),
            client.update_lock(wire::UpdateLockRequest { id, ..Default::default() }).await.unwrap_err(),
        ];
        assert!(unknown.iter().all(|status| status.code() == Code::NotFound), "{unknown:?}");
        assert_eq!(client.get_lock(wire::GetLockRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
    });
}

#[test]
fn a_refusal_with_a_long_message_keeps_its_code() {
    let service = Service::new();
    run(async {
        let mut client = connect(&service.grpc).await;
        let long = wire::CreateLockRequest {
            service: "é".repeat(512),
            who: "\u{7f}".repeat(1024),
            environment: "%".repeat(1024),
            resource: "\n".repeat(1024),
            ..Default::default()
        };
        let lock = client.create_lock(long.clone()).await.unwrap().into_inner().lock.unwrap();
        let status = client.create_lock(long).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists, "{status}");
        assert!(status.message().ends_with(&format!(" (lock_id: {})", lock.id)), "{status}");
        for (id, code) in [("é".repeat(512), Code::NotFound), ("x".repeat(100_000), Code::InvalidArgument)] {
            let status = client.get_lock(wire::GetLockRequest { id }).await.unwrap_err();
            assert_eq!(status.code(), code, "{status}");
        }
    });
}

#[test]
fn a_list_is_divided_into_pages_on_request_over_grpc() {
    let service = Service::new();
    run(async {
        let mut client = connect(&service.grpc).await;
        for number in 0..5 {
            client.create_lock(new_request(&format!("r{number}"), "ann")).await.unwrap();
        }
        for (per_page, page, resources) in [
            (None, None, &["r0", "r1", "r2", "r3", "r4"][..]),
            (Some(2), None, &["r0", "r1"]),
            (Some(2), Some(3), &["r4"]),
            (Some(2), Some(4), &[]),
            (Some(0), Some(0), &["r0", "r1", "r2", "r3", "r4"]),
        ] {
            let list = client.list_locks(wire::ListLocksRequest { per_page, page }).await.unwrap().into_inner();
            assert_eq!(list.total_count, 5);
            let found: Vec<&str> = list.locks.iter().map(|lock| &*lock.resource).collect();
            assert_eq!(found, resources, "{per_page:?} {page:?}");
        }
        let minus = wire::ListLocksRequest { per_page: None, page: Some(-1) };
        assert_eq!(client.list_locks(minus).await.unwrap_err().code(), Code::InvalidArgument);
        // Without per_page, all locks are on page 1.
        let second = wire::ListLocksRequest { per_page: None, page: Some(2) };
        let list = client.list_locks(second).await.unwrap().into_inner();
        assert_eq!((list.locks.len(), list.total_count), (0, 5));
    });
}

#[test]
fn a_waiter_over_grpc_joins_the_same_queue_and_leaves_it_when_it_disconnects() {
    let service = Service::new();
    let id = service.acquire("db", "ann");
    run(async {
        let start_waiting = |who| {
            let address = service.grpc.clone();
            tokio::spawn(async move {
                let wait = Some(prost_types::Duration { seconds: 60, nanos: 0 });
                connect(&address).await.create_lock(wire::CreateLockRequest { wait, ..new_request("db", who) }).await
            })
        };
        let wait_for_waiters = |number| {
            let (service, begun) = (&service, std::time::Instant::now());
            async move {
                while service.list("resource=db")[0]["queue"].as_array().map_or(0, Vec::len) != number {
                    assert!(begun.elapsed() < TIMEOUT, "they do not wait");
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
        };
        let gone = start_waiting("gone");
        wait_for_waiters(1).await;
        let stays = start_waiting("stays");
        wait_for_waiters(2).await;
        gone.abort();
        wait_for_waiters(1).await;
        service.unlock(&id).ok();
        assert_eq!(stays.await.unwrap().unwrap().into_inner().lock.unwrap().who, "stays");
    });
}

#[test]
fn a_token_is_needed_over_grpc_too() {
    let tokens = "ci lock:read,lock:write secret\nboard lock:read look\n";
    let service = Start::new().token_file(tokens).start();
    run(async {
        let mut client = connect(&service.grpc).await;
        let request_with = |token: &str| {
            let mut request = Request::new(new_request("db", "ann"));
            if !token.is_empty() {
                request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            }
            request
        };
        assert_eq!(client.create_lock(request_with("")).await.unwrap_err().code(), Code::Unauthenticated);
        assert_eq!(client.create_lock(request_with("other")).await.unwrap_err().code(), Code::Unauthenticated);
        assert_eq!(client.create_lock(request_with("look")).await.unwrap_err().code(), Code::PermissionDenied);
        client.create_lock(request_with("secret")).await.unwrap();
    });
}
