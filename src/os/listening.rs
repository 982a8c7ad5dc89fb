//! Asks the kernel for listeners on a TCP port (`sock_diag(7)`). On a machine with much memory, to read the table in
//! `/proc` takes milliseconds, because the kernel also walks its unused entries.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

#[cfg(linux)]
use std::mem;
#[cfg(linux)]
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Returns true if a process listens on this TCP port, on any address. `None` if that is not known.
#[cfg(linux)]
#[must_use]
pub fn listens(port: u16) -> Option<bool> {
    Some(listens_in(libc::AF_INET, port)? || listens_in(libc::AF_INET6, port)?)
}

/// Returns `None`: this is not known on other systems.
#[cfg(not(linux))]
#[must_use]
pub fn listens(_: u16) -> Option<bool> {
    None
}

#[cfg(linux)]
fn listens_in(family: libc::c_int, port: u16) -> Option<bool> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const LISTEN: u32 = 1 << 10;
    const SIZE: u32 = 16 + 56;
    // The header, and `struct inet_diag_req_v2` with the local port.
    let mut request = Vec::with_capacity(SIZE as usize);
    request.extend_from_slice(&SIZE.to_ne_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).ok()?;
    request.extend_from_slice(&flags.to_ne_bytes());
    request.extend_from_slice(&[0; 8]);
    request.extend_from_slice(&[u8::try_from(family).ok()?, u8::try_from(libc::IPPROTO_TCP).ok()?, 0, 0]);
    request.extend_from_slice(&LISTEN.to_ne_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    request.resize(SIZE as usize - 8, 0);
    request.extend_from_slice(&[0xff; 8]);
    // SAFETY: it takes numbers, and makes a descriptor or answers -1.
    let socket =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG) };
    if socket < 0 {
        return None;
    }
    // SAFETY: the descriptor is new, open, and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut answer = [0_u8; 8192];
    // SAFETY: both buffers have the given sizes and live until the calls return.
    let got = unsafe {
        if libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) < 0 {
            return None;
        }
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), mem::size_of_val(&answer), 0)
    };
    // The first message is a socket, the end of the list, or an error.
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    match (got, kind) {
        (16.., SOCK_DIAG_BY_FAMILY) => Some(true),
        (16.., kind) if libc::c_int::from(kind) == libc::NLMSG_DONE => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_on_any_address() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            // `None` is right if the kernel does not support the question.
            assert_ne!(listens(port), Some(false));
        }
        assert_ne!(listens(1), Some(true));
    }
}
