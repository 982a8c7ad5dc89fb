//! Shared locks, slots and exclusive locks of one key, with many callers, and with services that are killed or stopped: no
//! two holders that exclude each other are ever acknowledged at the same time.

use crate::etcd_server::{EtcdServer, EtcdVersion};
use crate::grpc::{self, wire};
use crate::harness::{LIST, LOCK, Service, request_body};
use crate::http::{Answer, Connection, TIMEOUT};
use crate::race;
use serde_json::Value;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The modes of the workers, as members of a request.
const MODES: [&str; 3] = ["", r#""mode":"shared""#, r#""slots":2"#];

/// Returns the number of faults, which a long run sets in the environment.
fn read_faults() -> u32 {
    std::env::var("ABA_LOCK_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(8)
}

/// The holders of one key that the service has acknowledged, until each begins to release its lock.
#[derive(Default)]
struct Holders {
    /// Mode, slot and token.
    held: Vec<(usize, u64, u64)>,
    /// The greatest token, and the greatest one of an exclusive lock.
    last: u64,
    last_exclusive: u64,
    grants: [usize; 3],
}

impl Holders {
    /// Records a grant, and checks it by the rules alone.
    fn record_grant(&mut self, mode: usize, lock: &Value) -> Result<(usize, u64, u64), String> {
        let (slot, token) = (lock["slot"].as_u64().unwrap_or(0), lock["fencingToken"].as_u64().unwrap());
        let new = (mode, slot, token);
        for &other in &self.held {
            let is_allowed = match (mode, other.0) {
                (0, _) | (_, 0) => false,
                (2, 2) => slot != other.1 && (1..=2).contains(&slot),
                _ => true,
            };
            if !is_allowed || token == other.2 {
                return Err(format!("{new:?} was granted next to {other:?}"));
            }
        }
        if token <= self.last_exclusive || mode == 0 && token <= self.last {
            return Err(format!("{new:?} was granted after {} and {}", self.last, self.last_exclusive));
        }
        self.last = self.last.max(token);
        if mode == 0 {
            self.last_exclusive = token;
        }
        self.held.push(new);
        self.grants[mode] += 1;
        Ok(new)
    }
}

#[test]
fn the_checker_finds_every_kind_of_overlap() {
    let lock = |slot: u64, token: u64| serde_json::json!({"slot": slot, "fencingToken": token});
    let judge = |grants: &[(usize, u64, u64)]| {
        let mut holders = Holders::default();
        grants.iter().try_for_each(|(mode, slot, token)| holders.record_grant(*mode, &lock(*slot, *token)).map(drop))
    };
    assert_eq!(judge(&[(1, 0, 5), (1, 0, 4), (2, 1, 6), (2, 2, 7)]), Ok(()));
    for wrong in [
        &[(0, 0, 1), (0, 0, 2)][..],
        &[(0, 0, 1), (1, 0, 2)],
        &[(2, 1, 1), (0, 0, 2)],
        &[(2, 1, 1), (2, 1, 2)],
        &[(2, 1, 1), (2, 2, 2), (2, 3, 3)],
        &[(1, 0, 1), (1, 0, 1)],
    ] {
        assert!(judge(wrong).is_err(), "{wrong:?}");
    }
}

/// Makes a call. `None`: the service was killed or stopped, so it is unknown whether the call has taken effect.
fn try_call(address: &str, method: &str, path: &str, body: &str) -> Option<Answer> {
    drop(TcpStream::connect(address).ok()?);
    let connection = std::panic::catch_unwind(|| Connection::new(address)).ok();
    connection?.try_call(method, path, body).ok().filter(|answer| answer.status != 503)
}

/// Repeats a call until a service answers.
fn call_until_answered(address: &str, method: &str, path: &str) -> Answer {
    let begun = Instant::now();
    loop {
        if let Some(answer) = try_call(address, method, path, "") {
            return answer;
        }
        assert!(begun.elapsed() < TIMEOUT, "the service does not answer");
        thread::sleep(Duration::from_millis(5));
    }
}

fn run_worker(address: &str, worker: usize, holders: &Mutex<Holders>, over: &AtomicBool) {
    let mut round = worker;
    while !over.load(Ordering::SeqCst) {
        round += 1;
        let (mode, event) = (round % 3, format!("w{worker}r{round}"));
        let comma = if MODES[mode].is_empty() { "" } else { "," };
        let wait = ["20ms", "5s"][round % 2];
        let body = request_body("db", "w", &format!(r#"{}{comma}"wait":"{wait}","eventId":"{event}""#, MODES[mode]));
        let lock = match try_call(address, "POST", LOCK, &body) {
            Some(answer) if answer.status == 200 => Some(answer.lock()),
            Some(answer) => {
                answer.expect_refusal(409, 6);
                None
            }
            // The lock may have been granted, or may still be taken back: it is released, and not used.
            None => {
                let found = call_until_answered(address, "GET", &format!("{LIST}?eventId={event}")).ok();
                for lock in found["locks"].as_array().unwrap() {
                    call_until_answered(address, "DELETE", &format!("{LOCK}/{}", lock["id"].as_str().unwrap()));
                }
                None
            }
        };
        let Some(lock) = lock else { continue };
        let recorded = holders.lock().unwrap().record_grant(mode, &lock).unwrap_or_else(|wrong| panic!("{wrong}"));
        thread::sleep(Duration::from_millis(3));
        // From now on, the lock may be released.
        holders.lock().unwrap().held.retain(|held| *held != recorded);
        call_until_answered(address, "DELETE", &format!("{LOCK}/{}", lock["id"].as_str().unwrap()));
    }
}

/// Runs nine workers, and a fault each time when some further locks were granted. The workers call the services in turn.
fn run_with_faults(faults: u32, mut services: Vec<Service>, mut fault: impl FnMut(u32, &mut Vec<Service>)) {
    let (holders, over) = (Arc::new(Mutex::new(Holders::default())), Arc::new(AtomicBool::new(false)));
    let workers: Vec<_> = (0..9)
        .map(|worker| {
            let (holders, over) = (Arc::clone(&holders), Arc::clone(&over));
            let address = services[worker % services.len()].rest.clone();
            thread::spawn(move || run_worker(&address, worker, &holders, &over))
        })
        .collect();
    let count = || holders.lock().map(|holders| holders.grants.iter().sum::<usize>()).unwrap_or_default();
    for number in 0..faults {
        let (begun, before) = (Instant::now(), count());
        while count() < before + 6 && workers.iter().all(|worker| !worker.is_finished()) {
            assert!(begun.elapsed() < TIMEOUT, "no lock is granted");
            thread::sleep(Duration::from_micros(u64::from(number * 7919 % 3000)));
        }
        fault(number, &mut services);
    }
    over.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.join().unwrap();
    }
    let grants = holders.lock().unwrap().grants;
    assert!(grants.iter().all(|number| *number > 0), "{grants:?}");
}

/// Kills a service, or stops it for a moment, in turn.
fn kill_or_stop(number: u32, services: &mut Vec<Service>) {
    let at = number as usize / 2 % services.len();
    if number.is_multiple_of(2) {
        let mut service = services.remove(at);
        service.kill();
        let service = service.restart_with_its_store();
        services.insert(at, service);
    } else {
        services[at].signal("STOP");
        thread::sleep(Duration::from_millis(200));
        services[at].signal("CONT");
    }
}

#[test]
fn no_holders_overlap_while_the_service_is_killed_and_stopped() {
    run_with_faults(read_faults(), vec![Service::new()], kill_or_stop);
}

#[test]
fn no_holders_overlap_while_services_that_share_etcd_are_killed_and_stopped() {
    for version in [EtcdVersion::Installed, EtcdVersion::New] {
        let etcd = EtcdServer::start_version(version);
        let services = vec![etcd.start_service(), etcd.start_service(), etcd.start_service()];
        // The queue entries of a killed service last for up to ten seconds, so the default number is small.
        run_with_faults(read_faults().div_ceil(3), services, |number, services| {
            if number % 3 == 2 {
                etcd.signal("STOP");
                thread::sleep(Duration::from_millis(200));
                etcd.signal("CONT");
            } else {
                kill_or_stop(number, services);
            }
        });
    }
}

/// In each round, 64 callers request a lock at once, half of them over each API. `winners` of them must get it.
fn expect_winners(
    services: &[&Service],
    rounds: usize,
    members: &str,
    (mode, slots): (wire::LockMode, Option<u32>),
    winners: usize,
) {
    let start = Arc::new(Barrier::new(64));
    let mut callers = Vec::new();
    for number in 0..32 {
        let one = services[number % services.len()];
        let (address, barrier, members) = (one.rest.clone(), Arc::clone(&start), members.to_owned());
        callers.push(thread::spawn(move || {
            let mut connection = Connection::new(&address);
            let mut won = Vec::new();
            for round in 0..rounds {
                let body = request_body(&format!("r{round}"), &format!("rest {number}"), &members);
                barrier.wait();
                let answer = connection.call("POST", LOCK, &[], &body);
                if answer.status == 200 {
                    let lock = answer.lock();
                    won.push((round, lock["slot"].as_u64().unwrap_or(0), lock["fencingToken"].as_u64().unwrap()));
                } else {
                    answer.expect_refusal(409, 6);
                }
            }
            won
        }));
        let (address, barrier) = (one.grpc.clone(), Arc::clone(&start));
        callers.push(thread::spawn(move || {
            grpc::run(async move {
                let mut client = grpc::connect(&address).await;
                let mut won = Vec::new();
                for round in 0..rounds {
                    let request = wire::CreateLockRequest {
                        service: "web".to_owned(),
                        who: format!("grpc {number}"),
                        environment: "prod".to_owned(),
                        resource: format!("r{round}"),
                        mode: mode.into(),
                        slots,
                        ..Default::default()
                    };
                    // May block, because this thread runs no other task.
                    barrier.wait();
                    match client.create_lock(request).await {
                        Ok(answer) => {
                            let lock = answer.into_inner().lock.unwrap();
                            won.push((round, u64::from(lock.slot), lock.fencing_token));
                        }
                        Err(status) => assert_eq!(status.code(), tonic::Code::AlreadyExists, "{status:?}"),
                    }
                }
                won
            })
        }));
    }
    let won: Vec<(usize, u64, u64)> = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
    for round in 0..rounds {
        let here: Vec<_> = won.iter().filter(|(of, ..)| *of == round).collect();
        assert_eq!(here.len(), winners, "round {round}: {here:?}");
        let mut slots: Vec<u64> = here.iter().map(|(_, slot, _)| *slot).collect();
        slots.sort_unstable();
        if slots[0] > 0 {
            assert_eq!(slots, (1..=winners as u64).collect::<Vec<_>>());
        }
    }
    let mut tokens: Vec<u64> = won.iter().map(|(_, _, token)| *token).collect();
    tokens.sort_unstable();
    tokens.dedup();
    assert_eq!(tokens.len(), winners * rounds);
}

#[test]
fn of_64_concurrent_callers_as_many_get_the_lock_as_it_has_slots() {
    let rounds = (race::read_rounds() / 4).max(3);
    let slots = (r#""slots":3"#, (wire::LockMode::Unspecified, Some(3)), 3);
    let shared = (r#""mode":"shared""#, (wire::LockMode::Shared, None), 64);
    for (members, fields, winners) in [slots, shared] {
        expect_winners(&[&Service::new()], rounds, members, fields, winners);
        for version in [EtcdVersion::Installed, EtcdVersion::New] {
            let etcd = EtcdServer::start_version(version);
            expect_winners(&[&etcd.start_service(), &etcd.start_service()], rounds, members, fields, winners);
        }
    }
}
