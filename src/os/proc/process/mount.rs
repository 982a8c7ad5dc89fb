//! The mounts of this process.

use super::read::{read_small, read_whole};
use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The device number (major and minor) of the mount at `path`. The lock table of the kernel uses this number, which can
/// differ from the one that stat(2) returns for a file there.
pub(crate) fn device_of_mount(path: &Path) -> Option<(u32, u32)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path).ok()?;
    let info = read_small(&format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().to_owned();
    let mounts = read_whole("/proc/self/mountinfo")?;
    let device = mounts
        .lines()
        .map(|line| line.split(' '))
        .find_map(|mut words| if words.next() == Some(id.as_str()) { words.nth(1) } else { None })?;
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
