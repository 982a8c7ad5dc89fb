//! Which errors are injected into which system call.

/// The errors that a call may have, in this world. None for what does not fail, or of which nobody would learn; none for
/// close(2) either, which has closed whatever it says.
pub(crate) fn of(call: i64) -> &'static [i32] {
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
        // Of a lock, and of nothing else, the first two.
        libc::SYS_fcntl => &[EINTR, ENOLCK, EMFILE, EAGAIN, EACCES, ENOMEM],
        libc::SYS_dup | libc::SYS_dup3 => &[EMFILE, EINTR],
        libc::SYS_execve => &[EIO, EACCES, ENOMEM],
        libc::SYS_mmap | libc::SYS_mremap | libc::SYS_brk | libc::SYS_mprotect => &[ENOMEM],
        libc::SYS_pipe2 | libc::SYS_socket | libc::SYS_socketpair | libc::SYS_eventfd2 => &[EMFILE, ENOMEM],
        libc::SYS_inotify_init1 | libc::SYS_inotify_add_watch | libc::SYS_pidfd_open => &[EMFILE, ENOSPC, ENOMEM],
        libc::SYS_bind | libc::SYS_connect | libc::SYS_sendto | libc::SYS_recvfrom | libc::SYS_sendmsg => {
            &[EACCES, EINTR, ENOMEM]
        }
        libc::SYS_ppoll | libc::SYS_futex | libc::SYS_wait4 | libc::SYS_clock_nanosleep => &[EINTR],
        libc::SYS_clone | libc::SYS_clone3 | libc::SYS_timer_create => &[EAGAIN, ENOMEM],
        libc::SYS_getcwd => &[ENOENT, EACCES, ENOMEM],
        libc::SYS_chdir | libc::SYS_fchdir => &[EIO, EACCES],
        libc::SYS_kill | libc::SYS_pidfd_send_signal | libc::SYS_setsid | libc::SYS_prctl => &[EPERM],
        _ => of_old_calls(call),
    }
}

/// Of calls that newer processors do not have.
#[cfg(target_arch = "x86_64")]
fn of_old_calls(call: i64) -> &'static [i32] {
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
fn of_old_calls(_: i64) -> &'static [i32] {
    &[]
}
