//! The processes of Linux as another system would show them, for tests of the code for other systems on Linux (`--cfg aba_portable`).
//!
//! It reads a proc(5) file system, at `/proc` or where `ABA_PORTABLE_PROC` said during the compilation.

use super::facts::{Arguments, OpenFile, ProcessFacts};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The place of the file system.
const PLACE: &str = match option_env!("ABA_PORTABLE_PROC") {
    Some(place) => place,
    None => "/proc",
};

pub(in crate::os) fn read_process(pid: u32) -> Option<ProcessFacts> {
    let line = fs::read_to_string(format!("{PLACE}/{pid}/stat")).ok()?;
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
        uid: fs::metadata(format!("{PLACE}/{pid}")).ok()?.uid(),
        name: line[begin + 1..end].to_owned(),
    })
}

pub(in crate::os) fn list_processes() -> io::Result<Vec<ProcessFacts>> {
    Ok(list_pids()?.into_iter().filter_map(read_process).collect())
}

pub(in crate::os) fn list_pids() -> io::Result<Vec<u32>> {
    Ok(fs::read_dir(PLACE)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

pub(in crate::os) fn read_arguments(pid: u32) -> Option<Arguments> {
    let words = fs::read(format!("{PLACE}/{pid}/cmdline")).ok()?;
    Some(Arguments { words, environment: fs::read(format!("{PLACE}/{pid}/environ")).unwrap_or_default() })
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
    Ok(fs::read_dir(format!("{PLACE}/{directory}/fd"))?.filter_map(|entry| file(&entry.ok()?.path())).collect())
}

pub(in crate::os) fn read_boot_id() -> String {
    fs::read_to_string(format!("{PLACE}/sys/kernel/random/boot_id")).unwrap_or_default().trim_end().to_owned()
}
