//! Processes of FreeBSD: `kern.proc` of sysctl(3).

use super::descriptors::{self, parse_files_of_freebsd};
use super::facts::{Arguments, OpenFile, ProcessFacts};
use super::kinfo::{FREEBSD, parse_process, parse_processes};
use super::sockets::{self, parse_ports_of_freebsd};
use super::sysctl;
use std::fmt::Write as _;
use std::io;
use std::mem::offset_of;

/// The start of the clock of start times, in microseconds since 1970. The kernel moves it when the time is set, and the start times of all
/// processes with it.
fn boot_micros() -> u64 {
    let time = sysctl::read(&[libc::CTL_KERN, libc::KERN_BOOTTIME]).unwrap_or_default();
    let number = |at: usize| time.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
    number(0).unwrap_or(0).saturating_mul(1_000_000).saturating_add(number(8).unwrap_or(0))
}

pub(in crate::os) fn read_process(pid: u32) -> Option<ProcessFacts> {
    let pid = libc::c_int::try_from(pid).ok()?;
    let bytes = sysctl::read(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, pid]).ok()?;
    parse_process(&bytes, &FREEBSD, boot_micros())
}

pub(in crate::os) fn list_processes() -> io::Result<Vec<ProcessFacts>> {
    let bytes = sysctl::read(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PROC])?;
    Ok(parse_processes(&bytes, &FREEBSD, boot_micros()))
}

pub(in crate::os) fn list_pids() -> io::Result<Vec<u32>> {
    Ok(list_processes()?.into_iter().map(|one| one.pid).collect())
}

pub(in crate::os) fn read_arguments(pid: u32) -> Option<Arguments> {
    let pid = libc::c_int::try_from(pid).ok()?;
    let read = |what| sysctl::read(&[libc::CTL_KERN, libc::KERN_PROC, what, pid]);
    let words = read(libc::KERN_PROC_ARGS).ok()?;
    Some(Arguments { words, environment: read(libc::KERN_PROC_ENV).unwrap_or_default() })
}

pub(in crate::os) fn list_open_files(pid: u32) -> io::Result<Vec<OpenFile>> {
    Ok(parse_files_of_freebsd(&list_descriptors(pid)?))
}

/// Lists the ports on which the process can be reached, or sends.
pub(in crate::os) fn list_ports(pid: u32) -> io::Result<Vec<u16>> {
    Ok(parse_ports_of_freebsd(&list_descriptors(pid)?))
}

fn list_descriptors(pid: u32) -> io::Result<Vec<u8>> {
    let pid = libc::c_int::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    sysctl::read(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_FILEDESC, pid])
}

/// The random number of this boot, which newer systems have.
pub(in crate::os) fn read_boot_id() -> String {
    let bytes = sysctl::read_by_name(c"kern.boot_id").unwrap_or_default();
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<libc::kinfo_proc>() == FREEBSD.len);
    assert!(offset_of!(libc::kinfo_proc, ki_pid) == FREEBSD.pid);
    assert!(offset_of!(libc::kinfo_proc, ki_ppid) == FREEBSD.parent);
    assert!(offset_of!(libc::kinfo_proc, ki_pgid) == FREEBSD.group);
    assert!(matches!(FREEBSD.session, Some(at) if offset_of!(libc::kinfo_proc, ki_sid) == at));
    assert!(offset_of!(libc::kinfo_proc, ki_tpgid) == FREEBSD.foreground);
    assert!(offset_of!(libc::kinfo_proc, ki_uid) == FREEBSD.uid);
    assert!(offset_of!(libc::kinfo_proc, ki_start) == FREEBSD.started);
    assert!(offset_of!(libc::kinfo_proc, ki_stat) == FREEBSD.state);
    assert!(offset_of!(libc::kinfo_proc, ki_comm) == FREEBSD.name);
    assert!(libc::COMMLEN + 1 == FREEBSD.name_len);
    assert!(offset_of!(libc::kinfo_file, kf_structsize) == descriptors::freebsd::LEN);
    assert!(offset_of!(libc::kinfo_file, kf_type) == descriptors::freebsd::TYPE);
    assert!(offset_of!(libc::kinfo_file, kf_fd) == descriptors::freebsd::NUMBER);
    assert!(offset_of!(libc::kinfo_file, kf_flags) == descriptors::freebsd::FLAGS);
    assert!(offset_of!(libc::kinfo_file, kf_offset) + 8 == descriptors::freebsd::UNION);
    assert!(offset_of!(libc::kinfo_file, kf_status) == descriptors::freebsd::STATUS);
    assert!(offset_of!(libc::kinfo_file, kf_path) == descriptors::freebsd::PATH);
    assert!(libc::KF_TYPE_VNODE == descriptors::freebsd::FILE);
    assert!(libc::KF_TYPE_SOCKET == descriptors::freebsd::SOCKET);
    assert!(size_of::<libc::sockaddr_storage>() == 128);
    assert!(offset_of!(libc::sockaddr_in, sin_port) == 2 && offset_of!(libc::sockaddr_in6, sin6_port) == 2);
    assert!(sockets::freebsd::FAMILIES[0] == libc::AF_INET && sockets::freebsd::FAMILIES[1] == libc::AF_INET6);
    assert!(libc::KF_FLAG_HASLOCK.cast_unsigned() == descriptors::freebsd::HAS_LOCK);
};
