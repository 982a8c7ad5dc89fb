//! Black-box tests of locks over several machines: real servers on loopback, machines that are state roots of their own,
//! and real signals.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs)]
// The torture says what it has done.
#![allow(clippy::disallowed_macros, clippy::print_stdout)]

mod check;
mod foreign;
mod interrupted;
mod lease;
mod lost;
mod relay;
mod scene;
mod script;
mod service;
mod told;
mod torture;
