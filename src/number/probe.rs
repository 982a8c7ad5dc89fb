//! The probe of a number: a test that finds out whether a process uses the port with this number.

use super::error::NumberError;
use super::unavailable::Unavailable;
use crate::os::proc::port_owners;
use crate::os::{self, Transport, Trial};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The ways in which a number is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    pub tcp: bool,
    pub udp: bool,
    /// True if the probe also binds to all addresses at once, in addition to `127.0.0.1` and `::1`.
    pub wildcard: bool,
}

impl Probe {
    /// No probe.
    pub const NONE: Self = Self { tcp: false, udp: false, wildcard: false };
    /// The default for ports.
    pub const PORTS: Self = Self { tcp: true, udp: true, wildcard: false };

    /// Parses a list such as `tcp,udp`, or `none`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut probe = Self::NONE;
        if text == "none" {
            return Some(probe);
        }
        for word in text.split(',') {
            match word {
                "tcp" => probe.tcp = true,
                "udp" => probe.udp = true,
                "wildcard" => probe.wildcard = true,
                _ => return None,
            }
        }
        if !probe.tcp && !probe.udp {
            (probe.tcp, probe.udp) = (true, true);
        }
        Some(probe)
    }

    /// Returns true if the kernel lists a socket on this number, without binding to it. Returns `None` if the kernel
    /// does not show its sockets.
    #[must_use]
    pub fn is_listened_on(self, number: u32) -> Option<bool> {
        if self == Self::NONE { Some(false) } else { port_owners::is_used(number, self.tcp, self.udp) }
    }

    /// Binds to the number. Returns the reason if that is not possible.
    pub fn probe_number(self, number: u32) -> Result<Option<Unavailable>, NumberError> {
        let Ok(port) = u16::try_from(number) else { return Ok(None) };
        let transports = [(self.tcp, Transport::Tcp), (self.udp, Transport::Udp)];
        let addresses: [(bool, IpAddr); 4] = [
            (true, Ipv4Addr::LOCALHOST.into()),
            (true, Ipv6Addr::LOCALHOST.into()),
            (self.wildcard, Ipv4Addr::UNSPECIFIED.into()),
            (self.wildcard, Ipv6Addr::UNSPECIFIED.into()),
        ];
        for (_, transport) in transports.into_iter().filter(|(wanted, _)| *wanted) {
            for (_, address) in addresses.into_iter().filter(|(wanted, _)| *wanted) {
                let tried = os::try_bind(address, port, transport);
                match tried.map_err(|source| NumberError::Probe { number, source })? {
                    Trial::Free => {}
                    Trial::InUse => return Ok(Some(Unavailable::InUse)),
                    Trial::NotAllowed => return Ok(Some(Unavailable::NotAllowed)),
                }
            }
        }
        Ok(None)
    }
}
