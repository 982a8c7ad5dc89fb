//! Facts about processes on systems without `/proc`: one interface, with an implementation for each system.
//!
//! | file | system | source |
//! |---|---|---|
//! | `macos` | macOS | sysctl(3) `kern.proc` and `kern.procargs2`; `proc_pidinfo` and `proc_pidfdinfo` of libproc |
//! | `freebsd` | FreeBSD | sysctl(3) `kern.proc` |
//! | `emulated` | Linux, with `--cfg aba_portable` | `/proc`, but only what the other systems show |
//!
//! [`process`](super::process), [`openers`](super::openers) and [`port_owners`](super::port_owners) ask here where Linux reads `/proc`. Neither macOS nor FreeBSD shows which
//! descriptor holds a lock: a descriptor is only known to be open on the file. `lock/holders/portable.rs` says what follows from that.
//!
//! The kernel fills buffers. The files `kinfo`, `descriptors`, `sockets` and `arguments` parse them: they take bytes, which can be shorter than the
//! kernel promised or contain any numbers, and are tested on Linux. Where the libc crate has the structure, the compiler compares its
//! offsets with those in these files.

mod arguments;
mod bytes;
mod descriptors;
#[cfg(all(aba_portable, target_os = "linux"))]
mod emulated;
mod facts;
#[cfg(target_os = "freebsd")]
mod freebsd;
mod kinfo;
#[cfg(target_os = "macos")]
mod macos;
mod sockets;
#[cfg(any(target_os = "macos", target_os = "freebsd"))]
mod sysctl;

#[cfg(all(aba_portable, target_os = "linux"))]
use emulated as system;
#[cfg(target_os = "freebsd")]
use freebsd as system;
#[cfg(target_os = "macos")]
use macos as system;

#[cfg(not(linux))]
pub(in crate::os) use facts::ProcessFacts;
#[cfg(not(linux))]
pub(in crate::os) use system::{
    list_open_files, list_pids, list_ports, list_processes, read_arguments, read_boot_id, read_process,
};
