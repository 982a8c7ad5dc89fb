//! The socket of a connection, which the HTTP library reads and writes, and of which a request handler learns that its
//! client has gone. The library alone does not see this in time: what the client sent after a request is read only when
//! that request has been answered, and the end of the stream comes after it.

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

/// How often to look for unread bytes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Returns when the client sends no more, because it has gone or will never say so, or when it has sent so much that the end
/// of the stream would have no room in the socket's buffer.
pub(super) async fn until_gone(stream: &TcpStream) {
    // This ends with the end of the stream, and with urgent data, of which this socket is not told. It does not wait for
    // readable data: there may be some for as long as the call lasts.
    let mut end = pin!(stream.ready(Interest::PRIORITY));
    loop {
        tokio::select! {
            _ = &mut end => return,
            () = time::sleep(LOOK_EVERY) => {
                let mut unread = [MaybeUninit::uninit(); MAX_UNREAD];
                if SockRef::from(stream).peek(&mut unread).is_ok_and(|number| number == MAX_UNREAD) {
                    return;
                }
            }
        }
    }
}

/// The reading and writing end of a socket that others look at.
pub(super) struct Socket(pub(super) Arc<TcpStream>);

impl AsyncRead for Socket {
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

impl AsyncWrite for Socket {
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
            // The other side was faster.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}
