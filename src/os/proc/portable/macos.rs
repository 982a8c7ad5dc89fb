//! Processes of macOS: sysctl(3), and `proc_pidinfo` of libproc.
//!
//! Every user may ask sysctl(3) for the numbers of any process. The words and the open files of processes of other users are only shown to
//! root.

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

use super::arguments::parse_arguments;
use super::descriptors::{self, parse_file_of_macos, parse_numbers_of_macos};
use super::facts::{Arguments, OpenFile, ProcessFacts};
use super::kinfo::{MACOS, parse_process, parse_processes};
use super::sockets::{self, parse_port_of_macos};
use super::sysctl;
use std::io;
use std::mem::offset_of;

/// `PROC_PIDFDVNODEPATHINFO`, which the libc crate does not have.
const PATH_OF_DESCRIPTOR: libc::c_int = 2;

/// `PROC_PIDFDSOCKETINFO`, which the libc crate does not have either, nor its structure.
const SOCKET_OF_DESCRIPTOR: libc::c_int = 3;

/// At least the length of both answers. The kernel refuses a buffer that is too short.
const ANSWER_LEN: usize = 2048;

pub(in crate::os) fn read_process(pid: u32) -> Option<ProcessFacts> {
    let number = libc::c_int::try_from(pid).ok()?;
    let bytes = sysctl::read(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_PID, number]).ok()?;
    parse_process(&bytes, &MACOS, 0).map(add_session)
}

pub(in crate::os) fn list_processes() -> io::Result<Vec<ProcessFacts>> {
    let bytes = sysctl::read(&[libc::CTL_KERN, libc::KERN_PROC, libc::KERN_PROC_ALL])?;
    Ok(parse_processes(&bytes, &MACOS, 0).into_iter().map(add_session).collect())
}

fn add_session(facts: ProcessFacts) -> ProcessFacts {
    // SAFETY: it takes a number.
    let session = unsafe { libc::getsid(facts.pid.cast_signed()) };
    ProcessFacts { session: u32::try_from(session).unwrap_or(0), ..facts }
}

pub(in crate::os) fn list_pids() -> io::Result<Vec<u32>> {
    Ok(list_processes()?.into_iter().map(|one| one.pid).collect())
}

pub(in crate::os) fn read_arguments(pid: u32) -> Option<Arguments> {
    let pid = libc::c_int::try_from(pid).ok()?;
    parse_arguments(&sysctl::read(&[libc::CTL_KERN, libc::KERN_PROCARGS2, pid]).ok()?)
}

pub(in crate::os) fn list_open_files(pid: u32) -> io::Result<Vec<OpenFile>> {
    let pid = libc::c_int::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    let numbers = parse_numbers_of_macos(&list_descriptors(pid)?, descriptors::macos::FILE);
    let read = |number| parse_file_of_macos(number, &read_descriptor(pid, number, PATH_OF_DESCRIPTOR)?);
    Ok(numbers.into_iter().filter_map(read).collect())
}

/// Lists the ports on which the process can be reached, or sends.
pub(in crate::os) fn list_ports(pid: u32) -> io::Result<Vec<u16>> {
    let pid = libc::c_int::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    let numbers = parse_numbers_of_macos(&list_descriptors(pid)?, descriptors::macos::SOCKET);
    let read = |number| parse_port_of_macos(&read_descriptor(pid, number, SOCKET_OF_DESCRIPTOR)?);
    Ok(numbers.into_iter().filter_map(read).collect())
}

/// Returns the answer of `PROC_PIDLISTFDS`.
fn list_descriptors(pid: libc::c_int) -> io::Result<Vec<u8>> {
    let mut room = 1024;
    loop {
        let mut list = vec![0; room];
        let size = libc::c_int::try_from(room).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: the buffer has this size, and lives until the call returns.
        let len = unsafe { libc::proc_pidinfo(pid, libc::PROC_PIDLISTFDS, 0, list.as_mut_ptr().cast(), size) };
        let len = usize::try_from(len).unwrap_or(0);
        if len == 0 {
            return Err(io::Error::last_os_error());
        }
        // A full buffer may not have all.
        if len < room {
            list.truncate(len);
            return Ok(list);
        }
        room *= 2;
    }
}

/// Returns the answer about a descriptor, or `None` if it has been closed in the meantime.
fn read_descriptor(pid: libc::c_int, number: i32, question: libc::c_int) -> Option<Vec<u8>> {
    let mut answer = vec![0; ANSWER_LEN];
    let size = libc::c_int::try_from(answer.len()).ok()?;
    // SAFETY: the buffer has this size, and lives until the call returns.
    let len = unsafe { libc::proc_pidfdinfo(pid, number, question, answer.as_mut_ptr().cast(), size) };
    answer.truncate(usize::try_from(len).ok()?);
    Some(answer)
}

/// The random number of this boot.
pub(in crate::os) fn read_boot_id() -> String {
    let text = sysctl::read_by_name(c"kern.bootsessionuuid").unwrap_or_default();
    String::from_utf8_lossy(text.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

const _: () = {
    assert!(size_of::<libc::proc_fdinfo>() == 8);
    assert!(offset_of!(libc::proc_fdinfo, proc_fdtype) == 4);
    assert!(libc::PROX_FDTYPE_VNODE.cast_unsigned() == descriptors::macos::FILE);
    assert!(libc::PROX_FDTYPE_SOCKET.cast_unsigned() == descriptors::macos::SOCKET);
    assert!(descriptors::macos::LEN <= ANSWER_LEN && sockets::macos::LEN <= ANSWER_LEN);
    assert!(size_of::<libc::vnode_info>() == descriptors::macos::PATH - descriptors::macos::INFO);
    assert!(size_of::<libc::vnode_info_path>() == descriptors::macos::LEN - descriptors::macos::INFO);
    assert!(offset_of!(libc::vinfo_stat, vst_dev) == descriptors::macos::DEVICE - descriptors::macos::INFO);
    assert!(offset_of!(libc::vinfo_stat, vst_mode) == descriptors::macos::MODE - descriptors::macos::INFO);
    assert!(offset_of!(libc::vinfo_stat, vst_nlink) == descriptors::macos::LINKS - descriptors::macos::INFO);
    assert!(offset_of!(libc::vinfo_stat, vst_ino) == descriptors::macos::INODE - descriptors::macos::INFO);
};
