//! Parses the socket tables in `/proc/net`.

#[cfg(any(test, fuzzing))]
pub mod properties;

/// The tables of the sockets that use ports, and whether they are of TCP.
pub(in crate::os) const TABLES: [(&str, bool); 4] = [("tcp", true), ("tcp6", true), ("udp", false), ("udp6", false)];

/// The local port and the inode of a socket in a line of a table. `None` for a TCP socket that does not listen.
pub(in crate::os) fn parse_socket(line: &str, is_tcp: bool) -> Option<(u32, u64)> {
    let mut words = line.split_ascii_whitespace();
    let port = u32::from_str_radix(words.nth(1)?.rsplit(':').next()?, 16).ok()?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?.parse().ok()?;
    (!is_tcp || state == "0A").then_some((port, inode))
}

/// The inode of a socket, from the text of the link to it in `/proc/PID/fd`. `None`: the descriptor is no socket.
pub(in crate::os) fn parse_link(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
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
    fn only_the_link_to_a_socket_has_its_inode() {
        assert_eq!(parse_link("socket:[12345]"), Some(12345));
        for other in ["pipe:[12345]", "/tmp/socket:[1]", "socket:[]", "socket:[1", ""] {
            assert_eq!(parse_link(other), None, "{other}");
        }
    }
}
