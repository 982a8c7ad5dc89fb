//! What holds of what `/proc/net` says, for any bytes.

use super::socket;

/// Checks that it does.
///
/// # Panics
///
/// Where it does not.
pub fn hold(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for line in text.lines() {
        let (tcp, udp) = (socket(line, true), socket(line, false));
        // What listens with TCP is there whatever the protocol.
        assert!(tcp.is_none() || tcp == udp, "{line:?}");
        if let Some((port, inode)) = tcp {
            let line = format!("0: 0100007F:{port:04X} 00000000:0000 0A 0:0 00:0 0 0 0 {inode} 1");
            assert_eq!(socket(&line, true), tcp);
        }
    }
}
