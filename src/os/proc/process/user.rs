//! Users: the user of a process, and the name and home directory of a user.
//!
//! Names come from `/etc/passwd`, because a static binary has no name service.

use super::read::{SMALL, decode_lossy, read_small};
#[cfg(not(linux))]
use crate::os::proc::portable;
use std::fs;
#[cfg(linux)]
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The user of a process.
#[must_use]
pub fn user_of(pid: u32) -> Option<u32> {
    #[cfg(not(linux))]
    return portable::read_process(pid).map(|facts| facts.uid);
    #[cfg(linux)]
    fs::metadata(format!("/proc/{pid}")).ok().map(|data| data.uid())
}

/// The number that stands for a user who is not known.
pub const UNKNOWN_USER: u32 = u32::MAX;

/// The number that the kernel shows for each user who has no number in our user namespace (`user_namespaces(7)`).
const UNMAPPED_USER: u32 = 65534;

/// The name of a user, or the number if there is no name. Number 0 is always root.
#[must_use]
pub fn user_name(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    if !is_known_user(uid) {
        return "an unknown user".to_owned();
    }
    passwd_field(uid, 0).unwrap_or_else(|| uid.to_string())
}

/// Returns true if the number identifies a user, and false if it is the one that stands for all users without a number
/// in our user namespace.
#[must_use]
pub fn is_known_user(uid: u32) -> bool {
    uid != UNKNOWN_USER && (uid != UNMAPPED_USER || is_mapped(UNMAPPED_USER))
}

/// Returns true if our user namespace has this number. Each line of the map holds the first number inside, the first
/// number outside, and the count.
fn is_mapped(uid: u32) -> bool {
    let Some(map) = read_small("/proc/self/uid_map") else { return true };
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse::<u32>);
        let (first, count) = (numbers.next(), numbers.nth(1));
        matches!((first, count), (Some(Ok(first)), Some(Ok(count))) if uid.checked_sub(first).is_some_and(|at| at < count))
    })
}

/// The name of a group, or the number if there is no name.
#[must_use]
pub fn group_name(gid: u32) -> String {
    // Like the file of users, this file has the number in the third field.
    let name = read_passwd("/etc/group").and_then(|groups| find_passwd_field(&groups, gid, 0));
    name.unwrap_or_else(|| gid.to_string())
}

/// The home directory of a user.
#[must_use]
pub fn home_of(uid: u32) -> Option<PathBuf> {
    passwd_field(uid, 5).map(PathBuf::from).filter(|home| home.is_absolute())
}

/// Asks the C library: on macOS, `/etc/passwd` has no people.
#[cfg(target_os = "macos")]
#[expect(unsafe_code, reason = "calls into libc, each with its reason")]
fn passwd_field(uid: u32, field: usize) -> Option<String> {
    let mut texts = vec![0_u8; 4 * SMALL];
    // SAFETY: all bytes zero are a valid `passwd`. It and the texts live until the texts are copied, and the texts have this length.
    let text = unsafe {
        let mut user: libc::passwd = std::mem::zeroed();
        let mut found = std::ptr::null_mut();
        let asked = libc::getpwuid_r(uid, &raw mut user, texts.as_mut_ptr().cast(), texts.len(), &raw mut found);
        let text = if field == 0 { user.pw_name } else { user.pw_dir };
        if asked != 0 || found.is_null() || text.is_null() {
            return None;
        }
        std::ffi::CStr::from_ptr(text).to_bytes().to_vec()
    };
    Some(decode_lossy(&text).into_owned()).filter(|text| !text.is_empty())
}

#[cfg(not(target_os = "macos"))]
fn passwd_field(uid: u32, field: usize) -> Option<String> {
    find_passwd_field(&read_passwd("/etc/passwd")?, uid, field)
}

/// Reads the file of users. Full names need not be UTF-8.
fn read_passwd(path: &str) -> Option<String> {
    // In most cases one call reads the whole file.
    match read_small(path)? {
        whole if whole.len() < SMALL => Some(whole),
        _ => Some(decode_lossy(&fs::read(path).ok()?).into_owned()),
    }
}

pub(super) fn find_passwd_field(passwd: &str, uid: u32, field: usize) -> Option<String> {
    let uid = uid.to_string();
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
    line.split(':').nth(field).filter(|value| !value.is_empty()).map(str::to_owned)
}
