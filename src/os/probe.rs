//! Tests if a port is free, with a trial bind. It does not listen, so no client can connect.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use std::io;
use std::mem;
use std::net::IpAddr;
use std::ptr;

/// The transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// The result of a trial bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// No process uses the port.
    Free,
    InUse,
    /// This process may not bind it: only root may bind the lowest ports.
    NotAllowed,
}

/// Binds to a port on trial.
///
/// All ports of an address count as free if this machine does not have the address, or has no IPv6. The test does not
/// find a socket that is bound with `SO_REUSEADDR` and does not listen yet.
pub fn try_bind(address: IpAddr, port: u16, transport: Transport) -> io::Result<Trial> {
    let (family, kind) = (
        if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 },
        if transport == Transport::Tcp { libc::SOCK_STREAM } else { libc::SOCK_DGRAM },
    );
    // SAFETY: it takes numbers, and makes a descriptor or answers -1.
    let socket = unsafe { libc::socket(family, kind, 0) };
    if socket < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT) => Ok(Trial::Free),
            _ => Err(error),
        };
    }
    // On other systems than Linux, a port of one address could be bound with this option although a process listens on it on all addresses.
    if transport == Transport::Tcp && cfg!(linux) {
        // A closed connection keeps its port for a minute (TIME_WAIT). With this option, the port of such a connection
        // can be bound if its owner has set the option, too, as most servers do. The port of a listener still cannot.
        // For UDP, the option would let two sockets share the port.
        set(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR);
    }
    if address.is_ipv6() {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY);
    }
    let bound = bind(socket, address, port);
    // SAFETY: the descriptor is open and has no other owner.
    unsafe { libc::close(socket) };
    match bound {
        Ok(()) => Ok(Trial::Free),
        Err(error) => match error.raw_os_error() {
            Some(libc::EADDRINUSE) => Ok(Trial::InUse),
            Some(libc::EACCES | libc::EPERM) => Ok(Trial::NotAllowed),
            Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT) => Ok(Trial::Free),
            _ => Err(error),
        },
    }
}

fn set(socket: libc::c_int, level: libc::c_int, option: libc::c_int) {
    let on: libc::c_int = 1;
    // SAFETY: `on` lives until the call returns, and has the given size.
    unsafe { libc::setsockopt(socket, level, option, ptr::from_ref(&on).cast(), size::<libc::c_int>()) };
}

fn bind(socket: libc::c_int, address: IpAddr, port: u16) -> io::Result<()> {
    // SAFETY: all bytes zero are valid for these types; the address lives until the call returns, and has the given
    // size.
    let done = unsafe {
        match address {
            IpAddr::V4(address) => {
                let mut name: libc::sockaddr_in = mem::zeroed();
                name.sin_family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default();
                name.sin_port = port.to_be();
                name.sin_addr.s_addr = u32::from_ne_bytes(address.octets());
                libc::bind(socket, (&raw const name).cast(), size::<libc::sockaddr_in>())
            }
            IpAddr::V6(address) => {
                let mut name: libc::sockaddr_in6 = mem::zeroed();
                name.sin6_family = libc::sa_family_t::try_from(libc::AF_INET6).unwrap_or_default();
                name.sin6_port = port.to_be();
                name.sin6_addr.s6_addr = address.octets();
                libc::bind(socket, (&raw const name).cast(), size::<libc::sockaddr_in6>())
            }
        }
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn size<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of::<T>()).unwrap_or_default()
}
