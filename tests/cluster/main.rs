//! Black-box tests of locks on several machines: real servers on loopback, machines that are directories, and real
//! signals.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
// The torture test prints its result.
#![allow(clippy::disallowed_macros, clippy::print_stdout)]

mod etcd;
mod machine;
mod process;
mod relay;

mod cancelled_lease;
mod certificates;
mod check;
mod ci;
mod foreign_keys;
mod foreign_server;
mod interrupted;
mod kubernetes;
mod lease;
mod lease_run;
mod lost_lease;
mod on_lost;
mod script;
mod service;
mod sharing;
mod torture;
mod zsh;
