//! Black-box tests of locks over several machines: real servers on loopback, machines that are state roots of their own,
//! and real signals.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]

mod lease;
mod scene;
mod script;
