//! Notifies the service manager of the states of the service, like `sd_notify(3)`. `lifecycle` sends them.

use crate::environment;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Sends a state such as `READY=1` if a service manager asks for it. Errors are ignored: the service works without one.
pub(crate) fn notify(state: &str) {
    let Some(path) = environment::notify_socket() else { return };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
}
