//! Parses lists of open descriptors: `struct kinfo_file` (FreeBSD), `struct proc_fdinfo` and `struct vnode_fdinfowithpath` (macOS).

use super::bytes::{i32_at, path_at, u16_at, u32_at, u64_at};
use super::facts::OpenFile;
use std::iter;

/// The places of numbers in `struct kinfo_file` of FreeBSD. Each structure begins with its own length, because the kernel cuts the path.
pub(super) mod freebsd {
    pub(in super::super) const LEN: usize = 0;
    pub(in super::super) const TYPE: usize = 4;
    pub(in super::super) const NUMBER: usize = 8;
    pub(in super::super) const FLAGS: usize = 16;
    /// The union of 304 bytes, which ends with the facts about the file.
    pub(in super::super) const UNION: usize = 32;
    pub(in super::super) const INODE: usize = UNION + 264;
    pub(in super::super) const DEVICE: usize = UNION + 280;
    pub(in super::super) const MODE: usize = UNION + 296;
    pub(in super::super) const STATUS: usize = UNION + 304;
    pub(in super::super) const PATH: usize = 368;
    /// `KF_TYPE_VNODE`
    pub(in super::super) const FILE: i32 = 1;
    /// `KF_TYPE_SOCKET`
    pub(in super::super) const SOCKET: i32 = 2;
    /// `KF_FLAG_HASLOCK`. The kernel sets it before it tries to lock the file, and clears it at the release.
    pub(in super::super) const HAS_LOCK: u32 = 0x80;
}

/// Splits the list of `kern.proc.filedesc` into the structures of the descriptors of one type. It ends at the first structure that is not
/// complete.
pub(super) fn split_list_of_freebsd(bytes: &[u8], kind: i32) -> impl Iterator<Item = &[u8]> {
    use freebsd::{LEN, NUMBER, STATUS, TYPE};
    let mut rest = bytes;
    let all = iter::from_fn(move || {
        let len = usize::try_from(i32_at(rest, LEN)?).ok()?;
        let one = rest.get(..len).filter(|one| one.len() > STATUS)?;
        rest = &rest[len..];
        Some(one)
    });
    // Negative numbers stand for the working directory, the program, and others.
    all.filter(move |one| i32_at(one, NUMBER).is_some_and(|number| number >= 0) && i32_at(one, TYPE) == Some(kind))
}

/// Parses the list of `kern.proc.filedesc`. Returns the descriptors that are open on files.
pub(super) fn parse_files_of_freebsd(bytes: &[u8]) -> Vec<OpenFile> {
    use freebsd::{DEVICE, FILE, FLAGS, HAS_LOCK, INODE, MODE, NUMBER, PATH};
    let parse = |one: &[u8]| {
        let may_hold_lock = u32_at(one, FLAGS).is_none_or(|flags| flags & HAS_LOCK != 0);
        Some(OpenFile {
            number: i32_at(one, NUMBER)?,
            dev: u64_at(one, DEVICE)?,
            ino: u64_at(one, INODE)?,
            links: 1,
            mode: u16_at(one, MODE)?.into(),
            path: path_at(one, PATH, one.len().saturating_sub(PATH)),
            may_hold_lock,
        })
    };
    split_list_of_freebsd(bytes, FILE).filter_map(parse).collect()
}

/// The places of numbers in `struct vnode_fdinfowithpath` of macOS: `struct proc_fileinfo` with 24 bytes, then `struct vnode_info_path`.
pub(super) mod macos {
    pub(in super::super) const INFO: usize = 24;
    pub(in super::super) const DEVICE: usize = INFO;
    pub(in super::super) const MODE: usize = INFO + 4;
    pub(in super::super) const LINKS: usize = INFO + 6;
    pub(in super::super) const INODE: usize = INFO + 8;
    pub(in super::super) const PATH: usize = INFO + 152;
    pub(in super::super) const LEN: usize = PATH + 1024;
    /// `PROX_FDTYPE_VNODE`
    pub(in super::super) const FILE: u32 = 1;
    /// `PROX_FDTYPE_SOCKET`
    pub(in super::super) const SOCKET: u32 = 2;
}

/// Parses the list of `PROC_PIDLISTFDS`. Returns the numbers of the descriptors of one type.
pub(super) fn parse_numbers_of_macos(bytes: &[u8], kind: u32) -> Vec<i32> {
    let pairs = bytes.chunks_exact(8).filter(|pair| u32_at(pair, 4) == Some(kind));
    pairs.filter_map(|pair| i32_at(pair, 0).filter(|number| *number >= 0)).collect()
}

/// Parses the answer of `PROC_PIDFDVNODEPATHINFO` for a descriptor.
pub(super) fn parse_file_of_macos(number: i32, bytes: &[u8]) -> Option<OpenFile> {
    let bytes = bytes.get(..macos::LEN)?;
    Some(OpenFile {
        number,
        // stat(2) returns a device as a number with a sign.
        dev: i64::from(i32_at(bytes, macos::DEVICE)?).cast_unsigned(),
        ino: u64_at(bytes, macos::INODE)?,
        links: u16_at(bytes, macos::LINKS)?.into(),
        mode: u16_at(bytes, macos::MODE)?.into(),
        path: path_at(bytes, macos::PATH, 1024),
        may_hold_lock: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    /// Returns the structure of FreeBSD for a descriptor, cut after its path.
    fn fill_freebsd(number: i32, kind: i32, flags: u32, path: &str) -> Vec<u8> {
        let len = (freebsd::PATH + path.len() + 1).next_multiple_of(8);
        let mut bytes = vec![0; len];
        put(&mut bytes, freebsd::LEN, &i32::try_from(len).unwrap().to_ne_bytes());
        put(&mut bytes, freebsd::TYPE, &kind.to_ne_bytes());
        put(&mut bytes, freebsd::NUMBER, &number.to_ne_bytes());
        put(&mut bytes, freebsd::FLAGS, &flags.to_ne_bytes());
        put(&mut bytes, freebsd::DEVICE, &77_u64.to_ne_bytes());
        put(&mut bytes, freebsd::INODE, &88_u64.to_ne_bytes());
        put(&mut bytes, freebsd::MODE, &0o100_644_u16.to_ne_bytes());
        put(&mut bytes, freebsd::PATH, path.as_bytes());
        bytes
    }

    #[test]
    fn the_open_files_of_freebsd_are_found_among_other_descriptors() {
        let list = [
            fill_freebsd(-1, 1, 0, "/home"),
            fill_freebsd(0, 2, 0, ""),
            fill_freebsd(3, 1, freebsd::HAS_LOCK | 3, "/tmp/a.lock"),
            fill_freebsd(4, 1, 3, "/tmp/b"),
        ];
        let files = parse_files_of_freebsd(&list.concat());
        let found: Vec<_> = files.iter().map(|file| (file.number, file.path.as_path(), file.may_hold_lock)).collect();
        assert_eq!(found, [(3, Path::new("/tmp/a.lock"), true), (4, Path::new("/tmp/b"), false)]);
        assert_eq!((files[0].dev, files[0].ino, files[0].mode), (77, 88, 0o100_644));
    }

    #[test]
    fn a_list_of_freebsd_that_is_cut_or_hostile_ends_there() {
        let one = fill_freebsd(3, 1, 0, "/tmp/a");
        let two = [one.clone(), fill_freebsd(4, 1, 0, "/tmp/b")].concat();
        for len in 0..two.len() {
            assert_eq!(parse_files_of_freebsd(&two[..len]).len(), usize::from(len >= one.len()), "{len} bytes");
        }
        for len in [0, -1, 1, 100, i32::MAX, i32::MIN] {
            let mut bytes = two.clone();
            put(&mut bytes, one.len(), &len.to_ne_bytes());
            assert_eq!(parse_files_of_freebsd(&bytes).len(), 1, "a structure of {len} bytes");
        }
        // A path without an end is that up to the end of the structure.
        let mut endless = fill_freebsd(3, 1, 0, "/tmp/abcd");
        endless[freebsd::PATH..].fill(b'x');
        let path = parse_files_of_freebsd(&endless)[0].path.clone();
        assert_eq!(path.as_os_str().len(), endless.len() - freebsd::PATH);
    }

    #[test]
    fn the_open_files_of_macos_are_found() {
        let pair = |number: i32, kind: u32| [number.to_ne_bytes(), kind.to_ne_bytes()].concat();
        let mut list = [pair(0, 1), pair(3, 2), pair(200, 1), pair(-5, 1)].concat();
        assert_eq!(parse_numbers_of_macos(&list, macos::FILE), [0, 200]);
        assert_eq!(parse_numbers_of_macos(&list, macos::SOCKET), [3]);
        list.truncate(20);
        assert_eq!(parse_numbers_of_macos(&list, macos::FILE), [0]);
        assert!(parse_numbers_of_macos(&[], macos::FILE).is_empty());

        let mut bytes = vec![0; macos::LEN];
        put(&mut bytes, macos::DEVICE, &(-16_777_200_i32).to_ne_bytes());
        put(&mut bytes, macos::MODE, &0o100_600_u16.to_ne_bytes());
        put(&mut bytes, macos::LINKS, &1_u16.to_ne_bytes());
        put(&mut bytes, macos::INODE, &u64::MAX.to_ne_bytes());
        put(&mut bytes, macos::PATH, b"/private/tmp/a.lock");
        let file = parse_file_of_macos(200, &bytes).unwrap();
        assert_eq!(file.path, Path::new("/private/tmp/a.lock"));
        // `st_dev` has 32 bits with a sign.
        let st_dev: i32 = -16_777_200;
        #[expect(clippy::cast_sign_loss, reason = "as the standard library does")]
        let of_metadata = st_dev as u64;
        assert_eq!((file.dev, file.ino, file.links, file.mode), (of_metadata, u64::MAX, 1, 0o100_600));
        bytes[macos::PATH..].fill(b'x');
        assert_eq!(parse_file_of_macos(200, &bytes).unwrap().path.as_os_str().len(), 1024);
        for len in 0..macos::LEN {
            assert!(parse_file_of_macos(200, &bytes[..len]).is_none());
        }
    }
}
