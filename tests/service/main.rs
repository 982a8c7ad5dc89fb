//! Black-box tests of the service: each starts its own, on loopback, on ports that nobody has, and ends it.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests fail by panicking, and look at the machine")]

mod access;
mod delayed_etcd;
mod durable;
mod etcd;
mod grpc;
mod harness;
mod lease;
mod packaging;
mod page;
mod queue;
mod race;
mod reflection;
mod relay;
mod rest;
mod scripts;
mod store_faults;
