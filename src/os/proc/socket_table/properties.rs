//! Properties of the parser of the socket tables, which hold for any input. The fuzz targets and the property tests
//! call them.

use super::parse_socket;

/// Checks the properties.
///
/// # Panics
///
/// If a property is violated.
pub fn hold(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        let (tcp, udp) = (parse_socket(line, true), parse_socket(line, false));
        // A TCP socket that listens is also found when the state does not matter.
        assert!(tcp.is_none() || tcp == udp, "{line:?}");
        if let Some((port, inode)) = tcp {
            let line = format!("0: 0100007F:{port:04X} 00000000:0000 0A 0:0 00:0 0 0 0 {inode} 1");
            assert_eq!(parse_socket(&line, true), tcp);
        }
    }
}
