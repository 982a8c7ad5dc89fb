//! Tables of system calls: the errors that the driver injects into each of them, and their names for reports.

/// Returns the errors that a system call can fail with on a real machine.
///
/// The list is empty for calls that cannot fail, for calls whose errors every program ignores, and for close(2), which closes
/// the descriptor even if it reports an error.
pub(crate) fn list_errors(call: i64) -> &'static [i32] {
    use libc::{EACCES, EAGAIN, EINTR, EIO, EMFILE, ENOENT, ENOLCK, ENOMEM, ENOSPC, EPERM, EROFS};
    match call {
        libc::SYS_openat => &[EIO, ENOSPC, EACCES, ENOMEM, EINTR, EMFILE],
        libc::SYS_read | libc::SYS_pread64 | libc::SYS_readv => &[EIO, EINTR],
        libc::SYS_write
        | libc::SYS_pwrite64
        | libc::SYS_writev
        | libc::SYS_ftruncate
        | libc::SYS_fsync
        | libc::SYS_fdatasync
        | libc::SYS_sync_file_range => &[EIO, ENOSPC, EINTR],
        libc::SYS_flock => &[EIO, EINTR, ENOLCK, ENOMEM],
        libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat | libc::SYS_mkdirat | libc::SYS_symlinkat => {
            &[EIO, ENOSPC, EACCES, ENOMEM]
        }
        libc::SYS_unlinkat => &[EIO, EACCES, ENOMEM, EROFS],
        libc::SYS_statx | libc::SYS_fstat | libc::SYS_newfstatat | libc::SYS_readlinkat | libc::SYS_faccessat => {
            &[EIO, EACCES, ENOMEM]
        }
        libc::SYS_fchmod | libc::SYS_fchmodat | libc::SYS_fchown | libc::SYS_fchownat => &[EIO, EPERM, ENOMEM],
        libc::SYS_flistxattr | libc::SYS_fgetxattr | libc::SYS_fsetxattr | libc::SYS_fremovexattr => {
            &[EIO, ENOMEM, EPERM]
        }
        libc::SYS_getdents64 | libc::SYS_lseek => &[EIO, ENOMEM],
        // EINTR and ENOLCK are injected into lock operations only: see `driver::allows_error`.
        libc::SYS_fcntl => &[EINTR, ENOLCK, EMFILE, EAGAIN, EACCES, ENOMEM],
        libc::SYS_dup | libc::SYS_dup3 => &[EMFILE, EINTR],
        libc::SYS_execve => &[EIO, EACCES, ENOMEM],
        libc::SYS_mmap | libc::SYS_mremap | libc::SYS_brk | libc::SYS_mprotect => &[ENOMEM],
        libc::SYS_pipe2 | libc::SYS_socket | libc::SYS_socketpair | libc::SYS_eventfd2 => &[EMFILE, ENOMEM],
        libc::SYS_inotify_init1 | libc::SYS_inotify_add_watch | libc::SYS_pidfd_open => &[EMFILE, ENOSPC, ENOMEM],
        libc::SYS_bind | libc::SYS_connect | libc::SYS_sendto | libc::SYS_sendmsg => &[EACCES, EINTR, ENOMEM],
        // recvfrom: the standard library reads with it from a socket of its own whether a command was started, and panics after other
        // errors.
        libc::SYS_ppoll | libc::SYS_futex | libc::SYS_wait4 | libc::SYS_clock_nanosleep | libc::SYS_recvfrom => {
            &[EINTR]
        }
        libc::SYS_clone | libc::SYS_clone3 | libc::SYS_timer_create => &[EAGAIN, ENOMEM],
        libc::SYS_getcwd => &[ENOENT, EACCES, ENOMEM],
        libc::SYS_chdir | libc::SYS_fchdir => &[EIO, EACCES],
        libc::SYS_kill | libc::SYS_pidfd_send_signal | libc::SYS_setsid | libc::SYS_prctl => &[EPERM],
        _ => list_errors_of_old_calls(call),
    }
}

/// The errors of calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
fn list_errors_of_old_calls(call: i64) -> &'static [i32] {
    use libc::{EACCES, EINTR, EIO, EMFILE, ENOMEM, ENOSPC, EROFS};
    match call {
        libc::SYS_open => &[EIO, ENOSPC, EACCES, ENOMEM, EINTR, EMFILE],
        libc::SYS_rename | libc::SYS_link | libc::SYS_mkdir | libc::SYS_symlink => &[EIO, ENOSPC, EACCES, ENOMEM],
        libc::SYS_unlink | libc::SYS_rmdir => &[EIO, EACCES, ENOMEM, EROFS],
        libc::SYS_stat | libc::SYS_lstat | libc::SYS_readlink | libc::SYS_access => &[EIO, EACCES, ENOMEM],
        libc::SYS_fork | libc::SYS_vfork => &[libc::EAGAIN, ENOMEM],
        libc::SYS_dup2 => &[EMFILE, EINTR],
        libc::SYS_poll => &[EINTR],
        _ => &[],
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn list_errors_of_old_calls(_: i64) -> &'static [i32] {
    &[]
}

/// Returns whether a system call blocks until an event or for some time.
pub(crate) fn waits_for_event(call: i64, args: &[u64; 6]) -> bool {
    // The runtime looks at the standard streams with a poll(2) that does not wait.
    #[cfg(target_arch = "x86_64")]
    if call == libc::SYS_poll {
        return args[2] != 0;
    }
    [libc::SYS_ppoll, libc::SYS_clock_nanosleep].contains(&call) && args[2] != 0
}

/// Returns the name of a system call, or its number.
pub(crate) fn name_call(call: i64) -> String {
    macro_rules! names {
        ($($call:ident)*) => {
            [$((libc::$call, stringify!($call))),*]
        };
    }
    let names = names![SYS_openat SYS_read SYS_pread64 SYS_readv SYS_write SYS_pwrite64 SYS_writev SYS_ftruncate
        SYS_fsync SYS_fdatasync SYS_sync_file_range SYS_flock SYS_renameat SYS_renameat2 SYS_linkat SYS_mkdirat
        SYS_symlinkat SYS_unlinkat SYS_statx SYS_fstat SYS_newfstatat SYS_readlinkat SYS_fchmod SYS_fchmodat SYS_fchown
        SYS_flistxattr SYS_fgetxattr SYS_fsetxattr SYS_fremovexattr SYS_getdents64 SYS_lseek SYS_fcntl SYS_dup SYS_dup3
        SYS_clone SYS_clone3 SYS_execve SYS_mmap SYS_munmap SYS_mremap SYS_brk SYS_mprotect SYS_pipe2 SYS_socket
        SYS_socketpair SYS_inotify_init1 SYS_inotify_add_watch SYS_pidfd_open SYS_bind SYS_connect SYS_sendto
        SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_ppoll SYS_futex SYS_wait4 SYS_waitid SYS_clock_nanosleep SYS_timer_create
        SYS_timer_settime SYS_timer_delete SYS_setitimer SYS_getcwd SYS_chdir SYS_fchdir SYS_kill SYS_tgkill
        SYS_pidfd_send_signal SYS_setsid SYS_prctl SYS_close SYS_close_range SYS_exit SYS_exit_group SYS_rt_sigaction
        SYS_rt_sigprocmask SYS_rt_sigreturn SYS_getpid SYS_gettid SYS_getppid SYS_geteuid SYS_getuid SYS_uname
        SYS_statfs SYS_fstatfs SYS_ioctl SYS_umask SYS_getrandom SYS_prlimit64 SYS_set_tid_address SYS_set_robust_list
        SYS_rseq SYS_sigaltstack SYS_sched_getaffinity SYS_madvise SYS_setsockopt SYS_getsockopt];
    let found = names.iter().find(|(number, _)| *number == call).map(|(_, name)| name.trim_start_matches("SYS_"));
    found.map_or_else(|| name_old_call(call), str::to_owned)
}

/// Names calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
fn name_old_call(call: i64) -> String {
    let names = [
        (libc::SYS_open, "open"),
        (libc::SYS_rename, "rename"),
        (libc::SYS_link, "link"),
        (libc::SYS_mkdir, "mkdir"),
        (libc::SYS_symlink, "symlink"),
        (libc::SYS_unlink, "unlink"),
        (libc::SYS_rmdir, "rmdir"),
        (libc::SYS_stat, "stat"),
        (libc::SYS_lstat, "lstat"),
        (libc::SYS_readlink, "readlink"),
        (libc::SYS_access, "access"),
        (libc::SYS_fork, "fork"),
        (libc::SYS_vfork, "vfork"),
        (libc::SYS_dup2, "dup2"),
        (libc::SYS_poll, "poll"),
        (libc::SYS_arch_prctl, "arch_prctl"),
    ];
    names.iter().find(|(number, _)| *number == call).map_or(format!("number {call}"), |(_, name)| (*name).to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
fn name_old_call(call: i64) -> String {
    format!("number {call}")
}
