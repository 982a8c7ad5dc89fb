//! The processes of Linux as another system would show them, for tests of the code for other systems on Linux (`--cfg aba_portable`).
//!
//! It reads a proc(5) file system: the one at the place that `ABA_PORTABLE_PROC` named during the compilation, if it is there, and otherwise
//! `/proc`.

use super::facts::{Arguments, OpenFile, ProcessFacts};
use crate::os::proc::socket_table::{TABLES, parse_link, parse_socket};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// Returns the place of the file system.
fn place() -> &'static str {
    static PLACE: OnceLock<&str> = OnceLock::new();
    PLACE.get_or_init(|| {
        let given = option_env!("ABA_PORTABLE_PROC").filter(|place| Path::new(place).join("self").exists());
        given.unwrap_or("/proc")
    })
}

pub(in crate::os) fn read_process(pid: u32) -> Option<ProcessFacts> {
    let line = fs::read_to_string(format!("{}/{pid}/stat", place())).ok()?;
    let (begin, end) = (line.find('(')?, line.rfind(')')?);
    let fields: Vec<&str> = line[end + 1..].split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at - 3)?.parse().ok();
    Some(ProcessFacts {
        pid,
        parent: number(4)?,
        group: number(5)?,
        session: number(6)?,
        foreground: fields.get(8 - 3)?.parse().ok()?,
        start: fields.get(22 - 3)?.parse().ok()?,
        state: ["R", "D", "T", "t", "Z", "X"].into_iter().find(|state| fields.first() == Some(state)).unwrap_or("S"),
        uid: fs::metadata(format!("{}/{pid}", place())).ok()?.uid(),
        name: line[begin + 1..end].to_owned(),
    })
}

pub(in crate::os) fn list_processes() -> io::Result<Vec<ProcessFacts>> {
    Ok(list_pids()?.into_iter().filter_map(read_process).collect())
}

pub(in crate::os) fn list_pids() -> io::Result<Vec<u32>> {
    Ok(fs::read_dir(place())?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

pub(in crate::os) fn read_arguments(pid: u32) -> Option<Arguments> {
    let words = fs::read(format!("{}/{pid}/cmdline", place())).ok()?;
    Some(Arguments { words, environment: fs::read(format!("{}/{pid}/environ", place())).unwrap_or_default() })
}

pub(in crate::os) fn list_open_files(pid: u32) -> io::Result<Vec<OpenFile>> {
    let file = |link: &Path| {
        let data = fs::metadata(link).ok()?;
        let (dev, ino, links, mode) = (data.dev(), data.ino(), data.nlink(), data.mode());
        let number = link.file_name()?.to_str()?.parse().ok()?;
        Some(OpenFile { number, dev, ino, links, mode, path: fs::read_link(link).ok()?, may_hold_lock: true })
    };
    // A thread of this process can have descriptors of its own.
    let directory = if pid == std::process::id() { "thread-self" } else { &pid.to_string() };
    Ok(fs::read_dir(format!("{}/{directory}/fd", place()))?.filter_map(|entry| file(&entry.ok()?.path())).collect())
}

/// Lists the ports on which the process can be reached, or sends.
pub(in crate::os) fn list_ports(pid: u32) -> io::Result<Vec<u16>> {
    let links =
        fs::read_dir(format!("{}/{pid}/fd", place()))?.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let inodes: Vec<u64> = links.filter_map(|link| parse_link(link.to_str()?)).collect();
    let mut ports = Vec::new();
    for (table, is_tcp) in TABLES.into_iter().filter(|_| !inodes.is_empty()) {
        let text = fs::read_to_string(format!("{}/{pid}/net/{table}", place())).unwrap_or_default();
        let sockets = text.lines().skip(1).filter_map(|line| parse_socket(line, is_tcp));
        ports.extend(
            sockets.filter(|(_, inode)| inodes.contains(inode)).filter_map(|(port, _)| u16::try_from(port).ok()),
        );
    }
    Ok(ports)
}

pub(in crate::os) fn read_boot_id() -> String {
    fs::read_to_string(format!("{}/sys/kernel/random/boot_id", place())).unwrap_or_default().trim_end().to_owned()
}
