//! All connections, of REST and gRPC together: no more than there are descriptors for. Who comes when there are as many takes
//! the place of another; who waits for a lock, or is being answered, is left alone.
//!
//! First go those by whom nobody who may ask ever called, the oldest of them: who connects and says nothing, or is refused
//! again and again, shuts nobody out, and ends no connection of who has a token. Where there are none, it is whoever has been
//! quiet for the longest. Nobody goes in the first moment, nor in the one after an answer. Who is quiet for long has to
//! connect again.

use super::line::Line;
use crate::report;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time;

/// So many descriptors are for the store, the log and what listens.
const OTHERS: usize = 48;

/// As many connections as there is room for, even if there is too little.
const FEWEST: usize = 8;

/// Of so many connections, those who wait for a lock may have all but one: who wants to renew or release one comes in, too.
const WAITING_IN: usize = 4;

/// As many descriptors as there are where nobody says.
const USUAL: usize = 1024;

/// Who was of no use for so long may have to make room: who is new has said who they are by then, and an answer is on its way.
const A_MOMENT: Duration = Duration::from_millis(250);

/// Who has been quiet for so long has to go: who sends half a request too.
const LONG: Duration = Duration::from_secs(60);

/// How often to look for them.
const LOOK: Duration = Duration::from_secs(5);

/// How soon to look again whether there is room.
const AGAIN: Duration = Duration::from_millis(10);

/// How often to say that there is none.
const SAY: Duration = Duration::from_secs(60);

/// All connections.
pub(crate) struct Crowd {
    most: usize,
    waiting: AtomicUsize,
    inner: Mutex<Inner>,
}

/// Somebody who waits for a lock, until it is dropped.
pub(crate) struct Waits(Arc<Crowd>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Inner {
    lines: HashMap<u64, Weak<Line>>,
    /// Of the next one.
    number: u64,
    said: Option<Instant>,
}

impl Crowd {
    /// Nobody is there yet. To be made where there is a runtime.
    pub(crate) fn new() -> Arc<Self> {
        let most = descriptors().unwrap_or(USUAL).saturating_sub(OTHERS).max(FEWEST);
        let crowd = Arc::new(Self { most, waiting: AtomicUsize::new(0), inner: Mutex::default() });
        let looking = Arc::downgrade(&crowd);
        tokio::spawn(async move {
            loop {
                time::sleep(LOOK).await;
                let Some(crowd) = looking.upgrade() else { return };
                crowd.send_away(LONG);
            }
        });
        crowd
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes it in, when there is room.
    pub(super) async fn join(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) -> Arc<Line> {
        loop {
            {
                let mut inner = self.inner();
                if inner.lines.len() < self.most {
                    inner.number += 1;
                    let number = inner.number;
                    let line = Arc::new(Line::new(stream, address, Arc::clone(self), number));
                    inner.lines.insert(number, Arc::downgrade(&line));
                    return line;
                }
            }
            self.make_room();
            time::sleep(AGAIN).await;
        }
    }

    /// A connection that is to wait for a lock. `None`: too many do.
    pub(super) fn wait(self: &Arc<Self>) -> Option<Waits> {
        let waits = Waits(Arc::clone(self));
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < self.most - self.most / WAITING_IN).then_some(waits)
    }

    pub(super) fn leave(&self, number: u64) {
        self.inner().lines.remove(&number);
    }

    /// Those who are there. Whoever drops the last hold of one takes it out: never while all are looked at.
    fn lines(&self) -> Vec<Arc<Line>> {
        self.inner().lines.values().filter_map(Weak::upgrade).collect()
    }

    fn make_room(&self) {
        let lines = self.lines();
        // Its descriptor is about to be free.
        if lines.iter().any(|line| line.is_closed()) {
            return;
        }
        let spare = lines.iter().filter_map(|line| Some((line.spare()?, line)));
        let made =
            spare.max_by(|(one, _), (other, _)| one.cmp(other)).is_some_and(|(_, line)| line.make_room(A_MOMENT));
        if !made {
            self.say(&format!("all {} connections are in use", self.most));
        }
    }

    /// Closes all that have been quiet for so long.
    fn send_away(&self, least: Duration) {
        for line in self.lines() {
            line.hang_up(least);
        }
    }

    /// Says why nobody can come in: now and then, for as long as it is so.
    pub(super) fn say(&self, why: &str) {
        let mut inner = self.inner();
        if inner.said.is_some_and(|said| said.elapsed() < SAY) {
            return;
        }
        inner.said = Some(Instant::now());
        let mut line = Map::new();
        line.insert("event".to_owned(), Value::from("no_connection"));
        line.insert("message".to_owned(), Value::from(why));
        report::log("error", line);
    }
}

/// How many this process may have open.
fn descriptors() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    limit.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use tokio::net::TcpListener;
    use tokio::runtime;

    #[test]
    fn who_is_quiet_has_to_go_and_who_is_answered_may_stay() {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let crowd = Crowd::new();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (mut clients, mut lines) = (Vec::new(), Vec::new());
            for _ in 0..3 {
                let client = std::net::TcpStream::connect(address).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
                clients.push(client);
                let (stream, peer) = listener.accept().await.unwrap();
                lines.push(crowd.join(stream, peer).await);
            }
            let calling = Arc::clone(&lines[1]).call().unwrap();
            crowd.send_away(Duration::from_secs(3600));
            assert!(lines.iter().all(|line| !line.is_closed()));
            crowd.send_away(Duration::ZERO);
            assert_eq!(lines.iter().map(|line| line.is_closed()).collect::<Vec<_>>(), [true, false, true]);
            for at in [0, 2] {
                assert_eq!(clients[at].read(&mut [0]).unwrap(), 0);
                assert!(Arc::clone(&lines[at]).call().is_none());
                lines[at].gone().await;
            }
            assert_eq!(lines[1].spare(), None);
            drop(calling);
            crowd.send_away(Duration::ZERO);
            assert!(lines[1].is_closed());
            lines.clear();
            assert!(crowd.inner().lines.is_empty());
        });
    }
}
