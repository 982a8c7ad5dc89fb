//! Black-box tests with several users on one directory for locks. They need root, which becomes the other users, so `make test`
//! runs them only as root, and `make test-root` runs only them.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "the walls are those of the program; tests set scenes and may break things"
)]

mod attack_table;
mod attacks;
mod mistrust;
mod place;
mod sharing;
mod system;
mod user;
