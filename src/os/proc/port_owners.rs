//! Finds the processes that use a port. It binds nothing, so it cannot get in the way of a program that wants the port.
//!
//! Linux has tables of all sockets in `/proc/net`. Other systems only show the sockets of each process (`portable`), and those of other users
//! only to root, so a port that is not found there can be in use.

use crate::os::listening::listens;
#[cfg(not(linux))]
use crate::os::proc::portable;
#[cfg(linux)]
use crate::os::proc::socket_table::{TABLES, parse_link, parse_socket};
use std::collections::BTreeMap;
#[cfg(linux)]
use std::collections::HashMap;
#[cfg(linux)]
use std::fs;

/// The ports in use, among those of a question.
#[derive(Debug, Default)]
pub struct PortOwners {
    /// For each port in use, the processes that use it (none if they are hidden).
    pub found: BTreeMap<u32, Vec<u32>>,
    /// True if each port in use was found. False if it was found only if this user may see a process that uses it.
    pub is_complete: bool,
}

/// Returns those of `ports` that are in use.
#[cfg(linux)]
#[must_use]
pub fn find_port_owners(ports: &[u32]) -> PortOwners {
    let mut owners = PortOwners::default();
    let mut sockets: HashMap<u64, u32> = HashMap::new();
    for (table, is_tcp) in TABLES {
        let Ok(text) = fs::read_to_string(format!("/proc/net/{table}")) else { continue };
        owners.is_complete = true;
        for (port, inode) in text.lines().skip(1).filter_map(|line| parse_socket(line, is_tcp)) {
            if ports.contains(&port) {
                owners.found.entry(port).or_default();
                sockets.insert(inode, port);
            }
        }
    }
    if !sockets.is_empty() {
        for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = pid.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let link = fs::read_link(descriptor.path()).unwrap_or_default();
                if let Some(port) = link.to_str().and_then(parse_link).and_then(|inode| sockets.get(&inode)) {
                    owners.add(*port, pid);
                }
            }
        }
        owners.found.values_mut().for_each(|pids| pids.sort_unstable());
    }
    owners
}

/// Returns those of `ports` that a process uses whose sockets this user may see.
#[cfg(not(linux))]
#[must_use]
pub fn find_port_owners(ports: &[u32]) -> PortOwners {
    let mut owners = PortOwners::default();
    let mut pids = portable::list_pids().unwrap_or_default();
    pids.sort_unstable();
    for pid in pids {
        // A process can end in the meantime.
        for port in portable::list_ports(pid).unwrap_or_default() {
            if ports.contains(&u32::from(port)) {
                owners.add(port.into(), pid);
            }
        }
    }
    owners
}

impl PortOwners {
    fn add(&mut self, port: u32, pid: u32) {
        let pids = self.found.entry(port).or_default();
        if !pids.contains(&pid) {
            pids.push(pid);
        }
    }

    /// Returns true if the port is in use. `None` if that is not known.
    #[must_use]
    pub fn is_used(&self, port: u32) -> Option<bool> {
        if self.found.contains_key(&port) { Some(true) } else { self.is_complete.then_some(false) }
    }
}

/// Returns true if a process uses this port with one of the chosen protocols. `None` if that is not known.
#[must_use]
pub fn is_used(port: u32, tcp: bool, udp: bool) -> Option<bool> {
    let Ok(number) = u16::try_from(port) else { return Some(false) };
    if tcp && listens(number)? {
        return Some(true);
    }
    if udp { is_udp_used(port) } else { Some(false) }
}

#[cfg(linux)]
fn is_udp_used(port: u32) -> Option<bool> {
    let mut has_table = false;
    for (table, _) in TABLES.into_iter().filter(|(_, is_tcp)| !is_tcp) {
        let Ok(text) = fs::read_to_string(format!("/proc/net/{table}")) else { continue };
        has_table = true;
        if text.lines().skip(1).filter_map(|line| parse_socket(line, false)).any(|(used, _)| used == port) {
            return Some(true);
        }
    }
    has_table.then_some(false)
}

/// Returns `None`: other systems have no table of all sockets.
#[cfg(not(linux))]
fn is_udp_used(_: u32) -> Option<bool> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = u32::from(listener.local_addr().unwrap().port());
        // Another test may start a process, which has a copy of each descriptor until it runs its program.
        let owners = find_port_owners(&[port]);
        assert!(owners.found[&port].contains(&std::process::id()));
        assert_eq!(owners.is_used(port), Some(true));
        drop(listener);
        let begin = std::time::Instant::now();
        while find_port_owners(&[port]).is_used(port) != Some(false) {
            assert!(begin.elapsed().as_secs() < 30, "the listener was closed, and is still found");
        }
    }

    #[test]
    fn a_port_that_is_not_found_can_be_in_use_unless_all_sockets_are_known() {
        let mut owners = PortOwners::default();
        assert_eq!(owners.is_used(5000), None);
        owners.add(5000, 4321);
        owners.add(5000, 4321);
        assert_eq!((owners.is_used(5000), owners.is_used(5001)), (Some(true), None));
        assert_eq!(owners.found[&5000], [4321]);
        owners.is_complete = true;
        assert_eq!((owners.is_used(5000), owners.is_used(5001)), (Some(true), Some(false)));
    }
}
