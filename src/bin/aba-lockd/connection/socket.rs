//! The socket of a connection. The HTTP library reads and writes it, and a request handler watches it for the end of
//! its client.
//!
//! The library alone notices that end too late: it reads the bytes that a client sent after a request, and the end of
//! the stream that follows them, only after it has answered the request.

use socket2::SockRef;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time;

/// Maximum number of unread bytes after a request that is being answered. The kernel has room for more.
const MAX_UNREAD: usize = 16 * 1024;

const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Waits until the client has closed its sending side, or has sent so many bytes that the end of the stream may not fit
/// into the socket's buffer.
pub(super) async fn wait_until_gone(stream: &TcpStream) {
    // PRIORITY is reported at the end of the stream, and for urgent data, which this socket does not receive. READABLE
    // would be reported for unread bytes as well, which may be there during the whole call.
    let mut end = pin!(stream.ready(Interest::PRIORITY));
    loop {
        tokio::select! {
            _ = &mut end => return,
            () = time::sleep(POLL_INTERVAL) => {
                let mut unread = [MaybeUninit::uninit(); MAX_UNREAD];
                if SockRef::from(stream).peek(&mut unread).is_ok_and(|number| number == MAX_UNREAD) {
                    return;
                }
            }
        }
    }
}

/// A socket that can be watched while it is read and written.
pub(super) struct SharedSocket(pub(super) Arc<TcpStream>);

impl AsyncRead for SharedSocket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
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

impl AsyncWrite for SharedSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context) -> Poll<io::Result<()>> {
        match SockRef::from(&*self.0).shutdown(Shutdown::Write) {
            // The client has already closed the connection.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}
