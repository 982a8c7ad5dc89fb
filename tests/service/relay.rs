//! A way to etcd on which what is asked can be late: it is kept back, and delivered when the test says so.

use crate::harness::{PATIENCE, until};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

/// A way to an address, which ends with the test.
pub(crate) struct Relay {
    pub(crate) address: String,
    way: Arc<Mutex<Way>>,
    closed: Arc<AtomicBool>,
}

/// What to do with the next bytes that look so.
type Rule = (fn(&[u8]) -> bool, Act);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Who sent them finds the connection broken, and they are delivered later.
    Catch,
    /// They go on; who sent them finds the connection broken when they were answered, and hears no answer.
    Lose,
    /// Neither they nor those behind them go on.
    HoldThem,
    /// They do; those behind them do not.
    HoldTheRest,
}

#[derive(Default)]
struct Way {
    rule: Option<Rule>,
    /// What was caught, and where it is to go.
    caught: Option<(Vec<u8>, TcpStream)>,
    /// On which connection, by our end of it; and what the server has answered there.
    followed: Option<SocketAddr>,
    answered: Vec<u8>,
    /// Whether that goes no further.
    loses: bool,
    holds: bool,
    streams: Vec<TcpStream>,
}

fn locked(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock().unwrap()
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|found| found == word)
}

/// The value of a lock is in them: somebody is to have it, or to have it changed.
pub(crate) fn of_a_lock(bytes: &[u8]) -> bool {
    contains(bytes, br#""eventId":"#)
}

/// A lock and its id are in them, and not the value of one: it is to be released.
pub(crate) fn of_a_release(bytes: &[u8]) -> bool {
    contains(bytes, b"aba-lockd/l/") && contains(bytes, b"aba-lockd/i/") && !of_a_lock(bytes)
}

/// A place in a queue is in them, not the queue.
pub(crate) fn of_a_place(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|found| found.starts_with(b"/q/") && found[3].is_ascii_hexdigit())
}

impl Relay {
    pub(crate) fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, server) = (listener.local_addr().unwrap().to_string(), address.to_owned());
        let (way, closed) = (Arc::<Mutex<Way>>::default(), Arc::<AtomicBool>::default());
        let (theirs, over) = (Arc::clone(&way), Arc::clone(&closed));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (up, down) = (Arc::clone(&theirs), Arc::clone(&theirs));
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                locked(&theirs).streams.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                thread::spawn(move || carry_up(&up, &ends.0, &ends.1));
                thread::spawn(move || carry_down(&down, &server, &client));
            }
        });
        Self { address: own, way, closed }
    }

    pub(crate) fn catch(&self, looks: fn(&[u8]) -> bool) {
        locked(&self.way).rule = Some((looks, Act::Catch));
    }

    pub(crate) fn lose_answer(&self, looks: fn(&[u8]) -> bool) {
        locked(&self.way).rule = Some((looks, Act::Lose));
    }

    pub(crate) fn hold(&self, looks: fn(&[u8]) -> bool) {
        locked(&self.way).rule = Some((looks, Act::HoldThem));
    }

    pub(crate) fn hold_after(&self, looks: fn(&[u8]) -> bool) {
        locked(&self.way).rule = Some((looks, Act::HoldTheRest));
    }

    /// Waits until something looked so.
    pub(crate) fn until_seen(&self) {
        until("what is to be kept back was sent", || locked(&self.way).rule.is_none());
    }

    /// What is held back goes on.
    pub(crate) fn release(&self) {
        locked(&self.way).holds = false;
    }

    /// Delivers what was caught, and waits until the server has done it.
    pub(crate) fn deliver(&self) {
        self.until_seen();
        let (bytes, mut server) = {
            let mut way = locked(&self.way);
            way.answered.clear();
            way.caught.take().expect("it was caught")
        };
        server.write_all(&bytes).unwrap();
        // The answer reads keys.
        until("etcd has answered", || contains(&locked(&self.way).answered, b"aba-lockd/"));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let mut way = locked(&self.way);
        way.holds = false;
        for stream in &way.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        way.streams.clear();
        drop(way);
        let _ = TcpStream::connect(&self.address);
    }
}

fn carry_up(way: &Mutex<Way>, mut client: &TcpStream, mut server: &TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(len @ 1..) = client.read(&mut bytes) {
        let bytes = &bytes[..len];
        let act = {
            let mut way = locked(way);
            let act = way.rule.filter(|(looks, _)| looks(bytes)).map(|(_, act)| act);
            if act == Some(Act::Catch) {
                way.caught = Some((bytes.to_vec(), server.try_clone().unwrap()));
            }
            if matches!(act, Some(Act::Catch | Act::Lose)) {
                way.followed = server.local_addr().ok();
                way.answered.clear();
                way.loses = act == Some(Act::Lose);
            }
            way.holds |= matches!(act, Some(Act::HoldThem | Act::HoldTheRest));
            if act.is_some() {
                way.rule = None;
            }
            act
        };
        let begun = Instant::now();
        if act == Some(Act::Catch) {
            // The server's side stays.
            let _ = client.shutdown(Shutdown::Both);
            return;
        }
        while act != Some(Act::HoldTheRest) && locked(way).holds && begun.elapsed() < PATIENCE {
            thread::sleep(std::time::Duration::from_millis(1));
        }
        if server.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

fn carry_down(way: &Mutex<Way>, mut server: &TcpStream, mut client: &TcpStream) {
    let (mut bytes, mut there) = ([0; 16 * 1024], true);
    while let Ok(len @ 1..) = server.read(&mut bytes) {
        let mut way = locked(way);
        if way.followed.is_some() && way.followed == server.local_addr().ok() {
            way.answered.extend_from_slice(&bytes[..len]);
            if way.loses {
                // Who watches the keys hears of what was done, too, but not of what is done for others.
                if contains(&way.answered, b"aba-lockd/") {
                    break;
                }
                continue;
            }
        }
        drop(way);
        there = there && client.write_all(&bytes[..len]).is_ok();
    }
    let _ = client.shutdown(Shutdown::Both);
}
