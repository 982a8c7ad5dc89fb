//! Finds the processes that use a port, from the socket tables in `/proc/net`. It binds nothing, so it cannot get in
//! the way of a program that wants the port.

#[cfg(any(test, fuzzing))]
pub mod properties;

use crate::os::listening::listens;
use std::collections::{BTreeMap, HashMap};
use std::fs;

/// Returns those of `ports` that are in use, each with the processes that use it (none if they are hidden). `None` if
/// the system has no socket tables.
#[must_use]
pub fn find_port_owners(ports: &[u32]) -> Option<BTreeMap<u32, Vec<u32>>> {
    let mut found = BTreeMap::new();
    let mut sockets: HashMap<u64, u32> = HashMap::new();
    let mut has_table = false;
    for (table, is_tcp) in [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)] {
        let Ok(text) = fs::read_to_string(format!("/proc/net/{table}")) else { continue };
        has_table = true;
        for (port, inode) in text.lines().skip(1).filter_map(|line| parse_socket(line, is_tcp)) {
            if ports.contains(&port) {
                found.entry(port).or_insert_with(Vec::new);
                sockets.insert(inode, port);
            }
        }
    }
    if !sockets.is_empty() {
        for pid in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = pid.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            for descriptor in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let link = fs::read_link(descriptor.path()).unwrap_or_default();
                let inode =
                    link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
                let port = inode.and_then(|inode: u64| sockets.get(&inode));
                if let Some(pids) = port.and_then(|port| found.get_mut(port))
                    && !pids.contains(&pid)
                {
                    pids.push(pid);
                }
            }
        }
        for pids in found.values_mut() {
            pids.sort_unstable();
        }
    }
    has_table.then_some(found)
}

/// Returns true if a process uses this port with one of the chosen protocols. `None` if that is not known.
#[must_use]
pub fn is_used(port: u32, tcp: bool, udp: bool) -> Option<bool> {
    let Ok(number) = u16::try_from(port) else { return Some(false) };
    if tcp && listens(number)? {
        return Some(true);
    }
    let mut has_table = !udp;
    for table in ["udp", "udp6"].into_iter().filter(|_| udp) {
        let Ok(text) = fs::read_to_string(format!("/proc/net/{table}")) else { continue };
        has_table = true;
        if text.lines().skip(1).filter_map(|line| parse_socket(line, false)).any(|(used, _)| used == port) {
            return Some(true);
        }
    }
    has_table.then_some(false)
}

/// The local port and the inode of a socket in a line of a table. `None` for a TCP socket that does not listen.
fn parse_socket(line: &str, is_tcp: bool) -> Option<(u32, u64)> {
    let mut words = line.split_ascii_whitespace();
    let port = u32::from_str_radix(words.nth(1)?.rsplit(':').next()?, 16).ok()?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?.parse().ok()?;
    (!is_tcp || state == "0A").then_some((port, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_kernel_are_parsed() {
        let line =
            "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0 100";
        assert_eq!(parse_socket(line, true), Some((5000, 12345)));
        assert_eq!(parse_socket(&line.replace(" 0A ", " 01 "), true), None);
        assert_eq!(parse_socket(&line.replace(" 0A ", " 07 "), false), Some((5000, 12345)));
        assert_eq!(parse_socket("", true), None);
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = u32::from(listener.local_addr().unwrap().port());
        // Another test may start a process, which has a copy of each descriptor until it runs its program.
        assert!(find_port_owners(&[port]).unwrap()[&port].contains(&std::process::id()));
        drop(listener);
        let begin = std::time::Instant::now();
        while !find_port_owners(&[port]).unwrap().is_empty() {
            assert!(begin.elapsed().as_secs() < 30, "the listener was closed, and is still found");
        }
    }
}
