//! The resource limits of this process (getrlimit(2)).

#![expect(unsafe_code, reason = "calls into libc, each with its reason")]

/// The number of files that this process may have open, and the number to which it may raise that limit (`ulimit -n`).
#[must_use]
pub fn limit_of_open_files() -> (u64, u64) {
    let limit = limit(libc::RLIMIT_NOFILE);
    (number(limit.rlim_cur), number(limit.rlim_max))
}

/// Raises the number of files that this process may have open to its hard limit, and returns it.
#[must_use]
pub fn raise_limit_of_open_files() -> u64 {
    let mut limit = limit(libc::RLIMIT_NOFILE);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: it lives until the call returns. A call that fails changes nothing.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    limit_of_open_files().0
}

/// The maximum size of a file, in bytes (`ulimit -f`).
#[must_use]
pub fn limit_of_file_size() -> u64 {
    number(limit(libc::RLIMIT_FSIZE).rlim_cur)
}

/// The value of [`limit_of_file_size`] and [`limit_of_open_files`] if there is no limit.
pub const NO_LIMIT: u64 = number(libc::RLIM_INFINITY);

/// The type of a limit has a sign on FreeBSD.
#[cfg_attr(not(target_os = "freebsd"), expect(clippy::unnecessary_cast, reason = "the type is another one on FreeBSD"))]
const fn number(limit: libc::rlim_t) -> u64 {
    limit as u64
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
type Resource = libc::c_int;

fn limit(resource: Resource) -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: it lives until the call returns. A call that fails does not change it.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    limit
}
