//! Properties of the parser of mounts that must hold for any input.

use super::{assess_mount, decode_octal, parse_mount};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

/// Checks the properties with `bytes` as the list of mounts, and as the path of a mount point.
///
/// # Panics
///
/// Panics if a property does not hold.
pub(crate) fn check_mounts(bytes: &[u8]) {
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Some(mount) = parse_mount(line) {
            let _ = assess_mount(&mount);
        }
    }
    // Any path is parsed correctly in the encoding of the kernel.
    let mut path = "/".to_owned();
    for byte in bytes {
        if byte.is_ascii_graphic() && *byte != b'\\' {
            path.push(char::from(*byte));
        } else {
            let _ = write!(path, "\\{byte:03o}");
        }
    }
    assert_eq!(&decode_octal(path.as_bytes())[1..], bytes);
    let line = format!("36 35 98:0 / {path} rw,noatime master:1 - ext4 /dev/x rw,vers=4");
    let mount = parse_mount(line.as_bytes()).expect("the line is valid");
    assert_eq!(&mount.point.as_os_str().as_bytes()[1..], bytes);
    assert_eq!((mount.kind.as_str(), mount.options.len()), ("ext4", 4));
}
