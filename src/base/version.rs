//! The version that the programs print: the number, the commit if it is known, and the target.

/// The version, such as `0.1.0 (a1b2c3d4e 2026-11-29, x86_64-unknown-linux-gnu)`. `build.rs` determines the commit and the target.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ABA_LOCK_BUILD"), ")");
