//! What stands between a machine and a server, and may be cut, or lose an answer.

use crate::scene::free_ports;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A way to a port, which ends with the test.
pub(crate) struct Relay {
    pub(crate) port: u16,
    way: Arc<Way>,
}

struct Way {
    /// Nothing goes through, and nobody is told.
    cut: AtomicBool,
    /// How often the connections that there were have been silenced.
    hushed: AtomicU32,
    /// Whose answers are lost, and how many still.
    path: Mutex<String>,
    losses: AtomicU32,
    closed: AtomicBool,
}

impl Relay {
    pub(crate) fn to(port: u16) -> Self {
        let own = free_ports(1)[0];
        let listener = TcpListener::bind(("127.0.0.1", own)).unwrap();
        let way = Arc::new(Way {
            cut: AtomicBool::new(false),
            hushed: AtomicU32::new(0),
            path: Mutex::new(String::new()),
            losses: AtomicU32::new(0),
            closed: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&way);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if theirs.closed.load(Ordering::SeqCst) {
                    return;
                }
                let way = Arc::clone(&theirs);
                thread::spawn(move || {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
                    carry(&way, &client, &server);
                });
            }
        });
        Self { port: own, way }
    }

    /// From now on nothing goes through.
    pub(crate) fn cut(&self) {
        self.way.cut.store(true, Ordering::SeqCst);
    }

    /// From now on nothing comes back on the connections that there are, and they stay open.
    pub(crate) fn hush(&self) {
        self.way.hushed.fetch_add(1, Ordering::SeqCst);
    }

    /// The next answers to requests for paths that begin so are lost: the server gets them, and the connection is closed.
    pub(crate) fn lose(&self, path: &str, number: u32) {
        path.clone_into(&mut self.way.path.lock().unwrap());
        self.way.losses.store(number, Ordering::SeqCst);
    }

    /// How many are still to be lost.
    pub(crate) fn to_lose(&self) -> u32 {
        self.way.losses.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.way.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn carry(way: &Arc<Way>, client: &TcpStream, server: &TcpStream) {
    let loses = Arc::new(AtomicBool::new(false));
    let (up, down) = (
        (client.try_clone().unwrap(), server.try_clone().unwrap()),
        (server.try_clone().unwrap(), client.try_clone().unwrap()),
    );
    let back = (Arc::clone(way), Arc::clone(&loses));
    let answers = thread::spawn(move || {
        let (way, loses) = back;
        pour(&way, down, |_| !loses.load(Ordering::SeqCst));
    });
    pour(way, up, |bytes| {
        let path = way.path.lock().unwrap().clone();
        let text = String::from_utf8_lossy(bytes);
        if !path.is_empty()
            && text.contains(&format!(" {path}"))
            && way.losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            loses.store(true, Ordering::SeqCst);
        }
        true
    });
    let _ = answers.join();
}

/// Carries what comes, as long as it may go through.
fn pour(way: &Way, (mut from, mut to): (TcpStream, TcpStream), mut may: impl FnMut(&[u8]) -> bool) {
    let hushed = way.hushed.load(Ordering::SeqCst);
    let mut bytes = [0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if way.cut.load(Ordering::SeqCst) || way.hushed.load(Ordering::SeqCst) != hushed {
            continue;
        }
        if !may(&bytes[..len]) || to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
