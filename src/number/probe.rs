//! Probes of numbers.

use super::error::NumberError;
use super::unavailable::Unavailable;
use crate::os::proc::port_owners;
use crate::os::{self, Transport, Trial};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How to find out whether a number is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// By a bind to it with TCP.
    pub tcp: bool,
    /// By a bind to it with UDP.
    pub udp: bool,
    /// On all addresses at once, beside 127.0.0.1 and `::1`.
    pub wildcard: bool,
}

impl Probe {
    /// Not at all.
    pub const NONE: Self = Self { tcp: false, udp: false, wildcard: false };
    /// As ports are probed when nothing else is said.
    pub const PORTS: Self = Self { tcp: true, udp: true, wildcard: false };

    /// Takes a list such as `tcp,udp`. `None` for anything else.
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

    /// Whether somebody uses a number, as the system tells without a bind. `None` where it does not.
    #[must_use]
    pub fn is_listened_on(self, number: u32) -> Option<bool> {
        if self == Self::NONE { Some(false) } else { port_owners::is_used(number, self.tcp, self.udp) }
    }

    /// Why a number cannot be used, if it cannot.
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
