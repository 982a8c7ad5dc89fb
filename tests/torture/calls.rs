//! The names of system calls, for people who read what was broken.

/// Its name, or its number.
pub(crate) fn name(call: i64) -> String {
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
    found.map_or_else(|| old_name(call), str::to_owned)
}

/// The names of calls that newer processors do not have.
#[cfg(target_arch = "x86_64")]
fn old_name(call: i64) -> String {
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
fn old_name(call: i64) -> String {
    format!("number {call}")
}
