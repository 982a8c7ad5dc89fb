//! A relay between a machine and a server, which can interrupt the traffic and lose answers.

use crate::etcd::choose_ports;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A relay to a port of this machine.
pub(crate) struct Relay {
    pub(crate) port: u16,
    control: Arc<RelayControl>,
}

struct RelayControl {
    /// Bytes are dropped, and the connections stay open.
    cut: AtomicBool,
    /// The number of calls of `silence`.
    silenced: AtomicU32,
    /// The path whose answers are lost.
    path: Mutex<String>,
    /// The number of answers to lose.
    losses: AtomicU32,
    held: HeldRequest,
    closed: AtomicBool,
}

/// A request that the relay holds up.
#[derive(Default)]
struct HeldRequest {
    /// The start of its path, until it arrives.
    path: Mutex<String>,
    is_held: AtomicBool,
    may_pass: AtomicBool,
    has_answer: AtomicBool,
}

impl Relay {
    pub(crate) fn to(port: u16) -> Self {
        let own = choose_ports(1)[0];
        let listener = TcpListener::bind(("127.0.0.1", own)).unwrap();
        let control = Arc::new(RelayControl {
            cut: AtomicBool::new(false),
            silenced: AtomicU32::new(0),
            path: Mutex::new(String::new()),
            losses: AtomicU32::new(0),
            held: HeldRequest::default(),
            closed: AtomicBool::new(false),
        });
        let thread_control = Arc::clone(&control);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if thread_control.closed.load(Ordering::SeqCst) {
                    return;
                }
                let control = Arc::clone(&thread_control);
                thread::spawn(move || {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else { return };
                    carry_connection(&control, &client, &server);
                });
            }
        });
        Self { port: own, control }
    }

    /// Drops all bytes from now on, in both directions.
    pub(crate) fn cut(&self) {
        self.control.cut.store(true, Ordering::SeqCst);
    }

    /// Drops all bytes of the present connections from now on, and keeps the connections open.
    pub(crate) fn silence(&self) {
        self.control.silenced.fetch_add(1, Ordering::SeqCst);
    }

    /// Loses this number of answers to requests for paths with this prefix: the server gets the request, and the
    /// connection is closed.
    pub(crate) fn lose_answers(&self, path: &str, number: u32) {
        path.clone_into(&mut self.control.path.lock().unwrap());
        self.control.losses.store(number, Ordering::SeqCst);
    }

    /// Holds up the next request whose path begins with this, until [`Self::pass_request`].
    pub(crate) fn hold_request(&self, path: &str) {
        path.clone_into(&mut self.control.held.path.lock().unwrap());
    }

    pub(crate) fn is_holding(&self) -> bool {
        self.control.held.is_held.load(Ordering::SeqCst)
    }

    pub(crate) fn pass_request(&self) {
        self.control.held.may_pass.store(true, Ordering::SeqCst);
    }

    /// Returns true if the server has answered the request that was held up.
    pub(crate) fn has_answered(&self) -> bool {
        self.control.held.has_answer.load(Ordering::SeqCst)
    }

    /// Returns the number of answers that were not lost yet.
    pub(crate) fn losses_left(&self) -> u32 {
        self.control.losses.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.control.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl HeldRequest {
    /// Holds up the request in this text, if it is the one. Returns true if it was.
    fn holds(&self, text: &str) -> bool {
        let path = std::mem::take(&mut *self.path.lock().unwrap());
        if path.is_empty() || !text.contains(&format!("POST {path}")) {
            *self.path.lock().unwrap() = path;
            return false;
        }
        self.is_held.store(true, Ordering::SeqCst);
        while !self.may_pass.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

fn carry_connection(control: &Arc<RelayControl>, client: &TcpStream, server: &TcpStream) {
    let (loses, was_held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (up, down) = (
        (client.try_clone().unwrap(), server.try_clone().unwrap()),
        (server.try_clone().unwrap(), client.try_clone().unwrap()),
    );
    let (back_control, back_loses, back_held) = (Arc::clone(control), Arc::clone(&loses), Arc::clone(&was_held));
    let answers = thread::spawn(move || {
        copy_bytes(&back_control, down, |_| {
            if back_held.load(Ordering::SeqCst) {
                back_control.held.has_answer.store(true, Ordering::SeqCst);
            }
            !back_loses.load(Ordering::SeqCst)
        });
    });
    copy_bytes(control, up, |bytes| {
        let path = control.path.lock().unwrap().clone();
        let text = String::from_utf8_lossy(bytes);
        if !path.is_empty()
            && text.contains(&format!(" {path}"))
            && control.losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        {
            loses.store(true, Ordering::SeqCst);
        }
        if control.held.holds(&text) {
            was_held.store(true, Ordering::SeqCst);
        }
        true
    });
    let _ = answers.join();
}

/// Copies bytes until `may_pass` returns false.
fn copy_bytes(
    control: &RelayControl,
    (mut from, mut to): (TcpStream, TcpStream),
    mut may_pass: impl FnMut(&[u8]) -> bool,
) {
    let silenced = control.silenced.load(Ordering::SeqCst);
    let mut bytes = [0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if control.cut.load(Ordering::SeqCst) || control.silenced.load(Ordering::SeqCst) != silenced {
            continue;
        }
        if !may_pass(&bytes[..len]) || to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
