//! A connection, as it is seen from beside: whether a call of it is being answered, whether its client is still there, for
//! how long it has been quiet, and whether somebody who may ask ever called by it.
//!
//! Who reads and writes it does not always see its client go: what came behind a request is not read before that is answered,
//! and the end is behind it.
//!
//! Only a connection of which no call is being answered is closed on our part. Both are told apart under one lock, so that no
//! lock is granted to a connection that we closed.

use super::crowd::{Crowd, Waits};
use socket2::SockRef;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time;

/// So many bytes behind a request that is being answered are too many. What the kernel has room for is more.
const MOST_BEHIND: usize = 16 * 1024;

/// How often to look for them.
const LOOK: Duration = Duration::from_secs(2);

/// A connection.
pub(crate) struct Line {
    stream: TcpStream,
    address: SocketAddr,
    state: Mutex<State>,
    closing: Notify,
    crowd: Arc<Crowd>,
    number: u64,
}

struct State {
    joined: Instant,
    /// Whether somebody who may ask has called by it.
    known: bool,
    /// How many calls of it are being answered.
    calls: usize,
    /// Since when none is, and nothing was written.
    quiet: Instant,
    closed: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.calls == 0 && !self.closed
    }

    /// For how long it was of no use. What is written to a stranger, such as a refusal, does not count: else they could keep
    /// their place by being refused.
    fn useless_for(&self) -> Duration {
        if self.known { self.quiet.elapsed() } else { self.joined.elapsed() }
    }
}

/// How well a connection that is not in use can be missed.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spare {
    /// Nobody who may ask ever called by it.
    pub(super) strange: bool,
    pub(super) useless_for: Duration,
}

/// A call that is being answered, until it is dropped.
pub(crate) struct Calling(Arc<Line>);

impl fmt::Debug for Calling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Calling").field(&self.0.address).finish()
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.calls -= 1;
        state.quiet = Instant::now();
    }
}

impl Line {
    pub(super) fn new(stream: TcpStream, address: SocketAddr, crowd: Arc<Crowd>, number: u64) -> Self {
        let now = Instant::now();
        let state = Mutex::new(State { joined: now, known: false, calls: 0, quiet: now, closed: false });
        Self { stream, address, state, closing: Notify::new(), crowd, number }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A call of somebody who may ask begins. `None`: it was closed on our part, and nobody would have the answer.
    pub(crate) fn call(self: Arc<Self>) -> Option<Calling> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.calls += 1;
        state.known = true;
        drop(state);
        Some(Calling(self))
    }

    /// Until its client sends no more: has gone away, or never will say that it has. Or sends so much more that the end would
    /// have no room behind it.
    pub(crate) async fn gone(&self) {
        // It ends with the end of what is sent, and with urgent data, of which this socket is not told. With what can be read
        // it does not end: that may be there for as long as the call lasts.
        let mut end = pin!(self.stream.ready(Interest::PRIORITY));
        loop {
            tokio::select! {
                _ = &mut end => return,
                () = time::sleep(LOOK) => {
                    let mut unread = [MaybeUninit::uninit(); MOST_BEHIND];
                    if SockRef::from(&self.stream).peek(&mut unread).is_ok_and(|number| number == MOST_BEHIND) {
                        return;
                    }
                }
            }
        }
    }

    /// It is to wait for a lock, and for nothing else. `None`: too many do.
    pub(super) fn wait(&self) -> Option<Waits> {
        self.crowd.wait()
    }

    /// Until it is closed on our part. For one who reads and writes it: what is not answered by then is not to be.
    pub(super) async fn hung_up(&self) {
        self.closing.notified().await;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// How well it can be missed. `None`: a call is being answered, or it is closed already.
    pub(super) fn spare(&self) -> Option<Spare> {
        let state = self.state();
        state.is_idle().then(|| Spare { strange: !state.known, useless_for: state.useless_for() })
    }

    /// Closes it if it was of no use for so long. Whether it is.
    pub(super) fn make_room(&self, least: Duration) -> bool {
        self.close_if(|state| state.useless_for() >= least)
    }

    /// Closes it if it has been quiet for so long.
    pub(super) fn hang_up(&self, least: Duration) {
        self.close_if(|state| state.quiet.elapsed() >= least);
    }

    /// Who reads and writes it finds its end, and drops it.
    fn close_if(&self, may_be: impl FnOnce(&State) -> bool) -> bool {
        let mut state = self.state();
        let closes = state.is_idle() && may_be(&state);
        if closes {
            state.closed = true;
            let _ = SockRef::from(&self.stream).shutdown(Shutdown::Both);
            self.closing.notify_one();
        }
        closes
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.crowd.leave(self.number);
    }
}

/// Who reads and writes it.
pub(crate) struct Socket(pub(super) Arc<Line>);

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(context))?;
            match self.0.stream.try_read(buffer.initialize_unfilled()) {
                Ok(number) => {
                    buffer.advance(number);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(context))?;
            match self.0.stream.try_write(bytes) {
                Ok(number) => {
                    self.0.state().quiet = Instant::now();
                    return Poll::Ready(Ok(number));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        match SockRef::from(&self.0.stream).shutdown(Shutdown::Write) {
            // The other side was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}
