//! Black-box tests with several users on one directory for locks. They need root, which becomes the other users, so `make test`
//! runs them only as root, and `make test-root` runs only them.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "these lints are for the program; tests may panic, print, and call the system directly"
)]

mod acl;
mod attack_table;
mod attacks;
mod history;
mod mistrust;
mod other_attacks;
mod place;
mod shared_log;
mod sharing;
mod system;
mod user;
