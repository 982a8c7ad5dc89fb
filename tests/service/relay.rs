//! A relay between a service and etcd that delays or drops what it forwards, when the test says so.

use crate::harness::wait_until;
use crate::http::TIMEOUT;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// A relay to an address. Dropping it closes all connections.
pub(crate) struct Relay {
    pub(crate) address: String,
    state: Arc<Mutex<RelayState>>,
    is_closed: Arc<AtomicBool>,
}

/// An action for the first request that a predicate accepts.
type Rule = (fn(&[u8]) -> bool, Action);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    /// Keep the request to deliver it later, and break the client's connection.
    Catch,
    /// Forward the request, drop the answer, and break the client's connection after it.
    DropAnswer,
    /// Hold back this request and all later ones.
    Hold,
    /// Forward this request, and hold back all later ones.
    HoldLater,
}

#[derive(Default)]
struct RelayState {
    rule: Option<Rule>,
    /// The caught request, and its connection to the server.
    caught: Option<(Vec<u8>, TcpStream)>,
    /// The local address of the connection to the server on which a request was caught or its answer is dropped.
    watched: Option<SocketAddr>,
    /// The bytes that the server has sent on the watched connection.
    answer: Vec<u8>,
    drops_answer: bool,
    holds: bool,
    streams: Vec<TcpStream>,
}

fn lock(state: &Mutex<RelayState>) -> MutexGuard<'_, RelayState> {
    state.lock().unwrap()
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|found| found == word)
}

/// Returns true for a request that writes a lock.
pub(crate) fn writes_lock(bytes: &[u8]) -> bool {
    contains(bytes, br#""base":"#)
}

/// Returns true for a request that deletes a lock: it contains the keys of the lock and of its id, but not the value of a lock.
pub(crate) fn deletes_lock(bytes: &[u8]) -> bool {
    contains(bytes, b"aba-lockd/l/") && contains(bytes, b"aba-lockd/i/") && !writes_lock(bytes)
}

/// Returns true for a request with the key of a queue entry, not only with the prefix of the queue.
pub(crate) fn has_queue_entry(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|found| found.starts_with(b"/q/") && found[3].is_ascii_hexdigit())
}

impl Relay {
    pub(crate) fn new(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, server) = (listener.local_addr().unwrap().to_string(), address.to_owned());
        let (state, is_closed) = (Arc::<Mutex<RelayState>>::default(), Arc::<AtomicBool>::default());
        let (shared, is_over) = (Arc::clone(&state), Arc::clone(&is_closed));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (requests, answers) = (Arc::clone(&shared), Arc::clone(&shared));
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                lock(&shared).streams.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                thread::spawn(move || forward_requests(&requests, &ends.0, &ends.1));
                thread::spawn(move || forward_answers(&answers, &server, &client));
            }
        });
        Self { address: own, state, is_closed }
    }

    fn set_rule(&self, accepts: fn(&[u8]) -> bool, action: Action) {
        lock(&self.state).rule = Some((accepts, action));
    }

    pub(crate) fn catch(&self, accepts: fn(&[u8]) -> bool) {
        self.set_rule(accepts, Action::Catch);
    }

    pub(crate) fn drop_answer(&self, accepts: fn(&[u8]) -> bool) {
        self.set_rule(accepts, Action::DropAnswer);
    }

    pub(crate) fn hold(&self, accepts: fn(&[u8]) -> bool) {
        self.set_rule(accepts, Action::Hold);
    }

    pub(crate) fn hold_later(&self, accepts: fn(&[u8]) -> bool) {
        self.set_rule(accepts, Action::HoldLater);
    }

    /// Waits until the rule has been applied to a request.
    pub(crate) fn wait_for_match(&self) {
        wait_until("a request matches the rule", || lock(&self.state).rule.is_none());
    }

    /// Forwards the requests that were held back.
    pub(crate) fn release(&self) {
        lock(&self.state).holds = false;
    }

    /// Delivers the caught request, and waits until the server has executed it.
    pub(crate) fn deliver(&self) {
        self.wait_for_match();
        let (bytes, mut server) = {
            let mut state = lock(&self.state);
            state.answer.clear();
            state.caught.take().expect("a request was caught")
        };
        server.write_all(&bytes).unwrap();
        // The answer contains the keys that the request reads.
        wait_until("etcd has answered", || contains(&lock(&self.state).answer, b"aba-lockd/"));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::SeqCst);
        let mut state = lock(&self.state);
        state.holds = false;
        for stream in &state.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        state.streams.clear();
        drop(state);
        let _ = TcpStream::connect(&self.address);
    }
}

fn forward_requests(state: &Mutex<RelayState>, mut client: &TcpStream, mut server: &TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(len @ 1..) = client.read(&mut bytes) {
        let bytes = &bytes[..len];
        let action = {
            let mut state = lock(state);
            let action = state.rule.filter(|(accepts, _)| accepts(bytes)).map(|(_, action)| action);
            if action == Some(Action::Catch) {
                state.caught = Some((bytes.to_vec(), server.try_clone().unwrap()));
            }
            if matches!(action, Some(Action::Catch | Action::DropAnswer)) {
                state.watched = server.local_addr().ok();
                state.answer.clear();
                state.drops_answer = action == Some(Action::DropAnswer);
            }
            state.holds |= matches!(action, Some(Action::Hold | Action::HoldLater));
            if action.is_some() {
                state.rule = None;
            }
            action
        };
        let begun = Instant::now();
        if action == Some(Action::Catch) {
            // The connection to the server stays open for the delivery.
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
        while action != Some(Action::HoldLater) && lock(state).holds && begun.elapsed() < TIMEOUT {
            thread::sleep(Duration::from_millis(1));
        }
        if server.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

fn forward_answers(state: &Mutex<RelayState>, mut server: &TcpStream, mut client: &TcpStream) {
    let (mut bytes, mut is_connected) = ([0; 16 * 1024], true);
    while let Ok(len @ 1..) = server.read(&mut bytes) {
        let mut state = lock(state);
        if state.watched.is_some() && state.watched == server.local_addr().ok() {
            state.answer.extend_from_slice(&bytes[..len]);
            if state.drops_answer {
                // The answer contains a key. So does an event of the watch, but only one that this request has caused.
                if contains(&state.answer, b"aba-lockd/") {
                    break;
                }
                continue;
            }
        }
        drop(state);
        is_connected = is_connected && client.write_all(&bytes[..len]).is_ok();
    }
    let _ = client.shutdown(Shutdown::Both);
}
