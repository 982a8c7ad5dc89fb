//! Parses descriptions of sockets: the union of `struct kinfo_file` (FreeBSD), and `struct socket_fdinfo` (macOS).
//!
//! Only sockets that use a port are found: those of TCP that listen, and all of UDP, in both versions of IP.

use super::bytes::{i32_at, u16_at};
use super::descriptors::freebsd::{SOCKET, UNION};
use super::descriptors::split_list_of_freebsd;

/// The number of TCP, and that of UDP, in both systems.
const TCP: i32 = 6;
const UDP: i32 = 17;

/// The places of numbers in `struct kinfo_file` of FreeBSD, if the descriptor is a socket.
pub(super) mod freebsd {
    use super::UNION;

    pub(in super::super) const FAMILY: usize = UNION + 4;
    pub(in super::super) const PROTOCOL: usize = UNION + 12;
    /// The port of the local address, in the order of the network. It is at the same place for both versions of IP.
    pub(in super::super) const LOCAL_PORT: usize = UNION + 16 + 2;
    /// The port of the peer. 0 if the socket has none.
    pub(in super::super) const PEER_PORT: usize = UNION + 16 + 128 + 2;
    /// `AF_INET` and `AF_INET6`
    pub(in super::super) const FAMILIES: [i32; 2] = [2, 28];
}

/// Parses the list of `kern.proc.filedesc`. Returns the ports that the process uses. A TCP socket without a peer listens, or is going to.
pub(super) fn parse_ports_of_freebsd(bytes: &[u8]) -> Vec<u16> {
    use freebsd::{FAMILIES, FAMILY, LOCAL_PORT, PEER_PORT, PROTOCOL};
    let parse = |one: &[u8]| {
        let is_used = match i32_at(one, PROTOCOL)? {
            TCP => u16_at(one, PEER_PORT)? == 0,
            UDP => true,
            _ => false,
        };
        let port = u16::from_be(u16_at(one, LOCAL_PORT)?);
        (is_used && port > 0 && FAMILIES.contains(&i32_at(one, FAMILY)?)).then_some(port)
    };
    split_list_of_freebsd(bytes, SOCKET).filter_map(parse).collect()
}

/// The places of numbers in `struct socket_fdinfo` of macOS: `struct proc_fileinfo` with 24 bytes, then `struct socket_info`, which ends with
/// a union of 528 bytes.
pub(super) mod macos {
    const INFO: usize = 24;
    pub(in super::super) const PROTOCOL: usize = INFO + 156;
    /// The kind of the union: 1 for an IP socket without a part of TCP, 2 for a TCP socket.
    pub(in super::super) const KIND: usize = INFO + 232;
    const UNION: usize = INFO + 240;
    /// The port of the local address: an `int` whose first two bytes are in the order of the network.
    pub(in super::super) const LOCAL_PORT: usize = UNION + 4;
    /// The state of TCP, after the part for all IP sockets.
    pub(in super::super) const STATE: usize = UNION + 80;
    pub(in super::super) const LEN: usize = UNION + 528;
    /// `SOCKINFO_IN`
    pub(in super::super) const IP_KIND: i32 = 1;
    /// `SOCKINFO_TCP`
    pub(in super::super) const TCP_KIND: i32 = 2;
    /// `TSI_S_LISTEN`
    pub(in super::super) const LISTENING: i32 = 1;
}

/// Parses the answer of `PROC_PIDFDSOCKETINFO` for a descriptor. Returns the port that the socket uses. A structure of another length is that of
/// another version of macOS.
pub(super) fn parse_port_of_macos(bytes: &[u8]) -> Option<u16> {
    use macos::{IP_KIND, KIND, LEN, LISTENING, LOCAL_PORT, PROTOCOL, STATE, TCP_KIND};
    let bytes = Some(bytes).filter(|bytes| bytes.len() == LEN)?;
    let is_used = match (i32_at(bytes, KIND)?, i32_at(bytes, PROTOCOL)?) {
        (TCP_KIND, TCP) => i32_at(bytes, STATE)? == LISTENING,
        (IP_KIND, UDP) => true,
        _ => false,
    };
    let port = u16::from_be(u16_at(bytes, LOCAL_PORT)?);
    (is_used && port > 0).then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::proc::portable::descriptors::freebsd as kinfo;

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    /// Returns the structure of FreeBSD for a socket.
    fn fill_freebsd(family: i32, protocol: i32, port: u16, peer: u16) -> Vec<u8> {
        let mut bytes = vec![0; kinfo::PATH + 8];
        let len = i32::try_from(bytes.len()).unwrap();
        put(&mut bytes, kinfo::LEN, &len.to_ne_bytes());
        put(&mut bytes, kinfo::TYPE, &kinfo::SOCKET.to_ne_bytes());
        put(&mut bytes, kinfo::NUMBER, &5_i32.to_ne_bytes());
        put(&mut bytes, freebsd::FAMILY, &family.to_ne_bytes());
        put(&mut bytes, freebsd::PROTOCOL, &protocol.to_ne_bytes());
        put(&mut bytes, freebsd::LOCAL_PORT, &port.to_be_bytes());
        put(&mut bytes, freebsd::PEER_PORT, &peer.to_be_bytes());
        bytes
    }

    #[test]
    fn the_ports_of_a_process_of_freebsd_are_those_on_which_it_can_be_reached() {
        let mut file = fill_freebsd(2, TCP, 5007, 0);
        put(&mut file, kinfo::TYPE, &kinfo::FILE.to_ne_bytes());
        let mut special = fill_freebsd(2, TCP, 5008, 0);
        put(&mut special, kinfo::NUMBER, &(-1_i32).to_ne_bytes());
        let list = [
            fill_freebsd(2, TCP, 5000, 0),
            fill_freebsd(28, TCP, 5001, 0),
            // A connection, as the server and its client have it.
            fill_freebsd(2, TCP, 5002, 40_000),
            fill_freebsd(2, UDP, 5003, 0),
            fill_freebsd(28, UDP, 5004, 53),
            // A socket that has no port yet, one of a path (`AF_UNIX`), and one of ICMP.
            fill_freebsd(2, TCP, 0, 0),
            fill_freebsd(1, TCP, 5005, 0),
            fill_freebsd(2, 1, 5006, 0),
            file,
            special,
        ];
        assert_eq!(parse_ports_of_freebsd(&list.concat()), [5000, 5001, 5003, 5004]);
    }

    #[test]
    fn a_list_of_sockets_of_freebsd_that_is_cut_ends_there() {
        let one = fill_freebsd(2, TCP, 5000, 0);
        let two = [one.clone(), fill_freebsd(2, TCP, 5001, 0)].concat();
        for len in 0..two.len() {
            assert_eq!(parse_ports_of_freebsd(&two[..len]).len(), usize::from(len >= one.len()), "{len} bytes");
        }
        assert!(parse_ports_of_freebsd(&vec![0xff; two.len()]).is_empty());
    }

    /// Returns the structure of macOS for a socket. The rest of its bytes is not zero.
    fn fill_macos(kind: i32, protocol: i32, port: u16, state: i32) -> Vec<u8> {
        let mut bytes = vec![0xaa; macos::LEN];
        put(&mut bytes, macos::KIND, &kind.to_ne_bytes());
        put(&mut bytes, macos::PROTOCOL, &protocol.to_ne_bytes());
        put(&mut bytes, macos::LOCAL_PORT, &port.to_be_bytes());
        put(&mut bytes, macos::STATE, &state.to_ne_bytes());
        bytes
    }

    #[test]
    fn the_port_of_a_socket_of_macos_is_found_if_it_can_be_reached() {
        assert_eq!(parse_port_of_macos(&fill_macos(macos::TCP_KIND, TCP, 5000, macos::LISTENING)), Some(5000));
        assert_eq!(parse_port_of_macos(&fill_macos(macos::IP_KIND, UDP, 5001, 0)), Some(5001));
        // A connection, a socket without a port, one of a path, and one of ICMP.
        assert_eq!(parse_port_of_macos(&fill_macos(macos::TCP_KIND, TCP, 5002, 4)), None);
        assert_eq!(parse_port_of_macos(&fill_macos(macos::IP_KIND, UDP, 0, 0)), None);
        assert_eq!(parse_port_of_macos(&fill_macos(3, 0, 5003, 1)), None);
        assert_eq!(parse_port_of_macos(&fill_macos(macos::IP_KIND, 1, 5004, 0)), None);
    }

    #[test]
    fn a_description_of_another_length_is_no_socket_of_macos() {
        let bytes = fill_macos(macos::TCP_KIND, TCP, 5000, macos::LISTENING);
        for len in 0..bytes.len() {
            assert_eq!(parse_port_of_macos(&bytes[..len]), None, "{len} bytes");
        }
        assert_eq!(parse_port_of_macos(&[bytes, vec![0]].concat()), None);
    }
}
