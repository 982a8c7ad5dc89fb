//! A connection, as it is seen from beside: whether a call of it is being answered, whether its client is still there, and
//! for how long it has been quiet.
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
    crowd: Arc<Crowd>,
    number: u64,
}

struct State {
    /// How many calls of it are being answered.
    calls: usize,
    /// Since when none is, and nothing was written.
    quiet: Instant,
    closed: bool,
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
        let state = Mutex::new(State { calls: 0, quiet: Instant::now(), closed: false });
        Self { stream, address, state, crowd, number }
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

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// For how long. `None`: a call is being answered, or it is closed already.
    pub(super) fn quiet_for(&self) -> Option<Duration> {
        let state = self.state();
        (state.calls == 0 && !state.closed).then(|| state.quiet.elapsed())
    }

    /// Closes it if it has been quiet for so long. Who reads and writes it finds its end, and drops it.
    pub(super) fn hang_up(&self, least: Duration) {
        let mut state = self.state();
        if state.calls == 0 && !state.closed && state.quiet.elapsed() >= least {
            state.closed = true;
            let _ = SockRef::from(&self.stream).shutdown(Shutdown::Both);
        }
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
