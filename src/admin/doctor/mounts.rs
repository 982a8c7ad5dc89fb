//! The file system of a path, and its effect on locks.

#[cfg(any(test, fuzzing))]
pub(crate) mod properties;

use super::finding::Level;
use crate::os;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The type of the file system, as mount(8) prints it.
    pub(super) kind: String,
    pub(super) point: PathBuf,
    pub(super) options: Vec<String>,
}

/// Returns the mount of an existing absolute path without symbolic links, or `None` if the kernel does not list it.
pub(super) fn find_mount(path: &Path) -> Option<Mount> {
    let list = fs::read("/proc/self/mountinfo").ok()?;
    let mounts = list.split(|byte| *byte == b'\n').filter_map(parse_mount);
    // A later mount covers an earlier one with the same path: of equal keys, `max_by_key` returns the last.
    mounts.filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.as_os_str().len())
}

/// Parses a line of `proc_pid_mountinfo(5)`.
fn parse_mount(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|byte| *byte == b' ');
    let point = words.nth(4)?;
    let options = words.next()?;
    let mut rest = words.skip_while(|word| *word != b"-").skip(1);
    let kind = String::from_utf8_lossy(rest.next()?).into_owned();
    let more = rest.nth(1).unwrap_or_default();
    let options = [options, more].map(String::from_utf8_lossy);
    let options = options.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
    Some(Mount { kind, point: PathBuf::from(OsStr::from_bytes(&decode_octal(point))), options })
}

/// Decodes blanks, tabs, line feeds and backslashes, which are written as a backslash and three octal digits.
fn decode_octal(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, more @ ..] = rest {
        let code = (*first == b'\\').then(|| more.get(..3)).flatten();
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 8).ok());
        plain.push(code.unwrap_or(*first));
        rest = if code.is_some() { &more[3..] } else { more };
    }
    plain
}

/// Returns the effect of the file system of `path` on locks: its level, a sentence, and a hint.
pub(super) fn assess_file_system(path: &Path) -> (Level, String, Option<&'static str>) {
    match find_mount(path) {
        Some(mount) => {
            let (level, means, hint) = assess_mount(&mount);
            (level, format!("{}, mounted at {}{means}", mount.kind, mount.point.display()), hint)
        }
        None => (Level::Fine, os::file_system(path), None),
    }
}

const LOCAL: Option<&str> = Some(
    "to exclude those processes, too, set ABA_LOCK_DIR to a directory on a file system that shares locks with them",
);
const DISK: Option<&str> = Some("for locks of this machine only, set ABA_LOCK_DIR to a directory on a local disk");

fn assess_mount(mount: &Mount) -> (Level, &'static str, Option<&'static str>) {
    let has = |names: &[&str]| mount.options.iter().any(|option| names.contains(&option.as_str()));
    let note = |means, hint| (Level::Note, means, hint);
    match mount.kind.as_str() {
        "nfs" | "nfs4" if has(&["nolock", "local_lock=flock", "local_lock=all"]) => {
            note(": because of its mount options, locks do not exclude processes of other machines", LOCAL)
        }
        "nfs" | "nfs4" => note(
            ": locks are shared through the server; holders on other machines are known only from their records",
            DISK,
        ),
        "cifs" | "smb3" | "smbfs" if has(&["nobrl"]) => {
            note(": because of its option nobrl, locks do not exclude processes of other machines", LOCAL)
        }
        "cifs" | "smb3" | "smbfs" => {
            note(": locks are shared through the server; while a file is locked, other machines cannot read it", DISK)
        }
        "lustre" if has(&["localflock"]) => {
            note(": because of its option localflock, locks do not exclude processes of other machines", LOCAL)
        }
        "ceph" | "lustre" | "gfs2" | "ocfs2" | "afs" => {
            note(": locks are shared with other machines; holders there are known only from their records", DISK)
        }
        "9p" | "virtiofs" | "vboxsf" | "prl_fs" | "fuse.vmhgfs-fuse" => {
            note(": whether locks also exclude processes of the host depends on how it is shared", LOCAL)
        }
        // fuseblk serves local disks.
        "fuseblk" => (Level::Fine, "", None),
        kind if kind == "fuse" || kind.starts_with("fuse.") => {
            note(": whether locks also exclude processes of other machines depends on its server", DISK)
        }
        "overlay" => {
            note(": a container layer; locks do not exclude processes of the host and of other containers", LOCAL)
        }
        _ => (Level::Fine, "", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_parsed() {
        let line = b"36 35 98:0 /exported /mnt/a\\040b rw,noatime master:1 - nfs4 srv:/x rw,vers=4.2,local_lock=flock";
        let read = parse_mount(line).expect("the line is valid");
        assert_eq!((read.kind.as_str(), read.point.as_path()), ("nfs4", Path::new("/mnt/a b")));
        assert!(read.options.contains(&"noatime".to_owned()));
        assert_eq!(assess_mount(&read).0, Level::Note);
        assert!(assess_mount(&read).1.contains("do not exclude"));
        assert_eq!(parse_mount(b""), None);
        assert_eq!(parse_mount(b"36 35 98:0 / /"), None);
    }

    #[test]
    fn a_backslash_without_a_code_is_kept() {
        assert_eq!(decode_octal(b"a\\134b\\0x\\"), b"a\\b\\0x\\");
    }

    #[test]
    fn only_file_systems_beyond_this_machine_cause_a_note() {
        let assess =
            |kind: &str| assess_mount(&Mount { kind: kind.to_owned(), point: "/".into(), options: Vec::new() }).0;
        for kind in ["nfs", "cifs", "9p", "virtiofs", "fuse.sshfs", "overlay", "vboxsf"] {
            assert_eq!(assess(kind), Level::Note, "{kind}");
        }
        for kind in ["ext4", "xfs", "btrfs", "tmpfs", "zfs", "fuseblk"] {
            assert_eq!(assess(kind), Level::Fine, "{kind}");
        }
    }
}
