//! Black-box tests of the service: each starts its own, on loopback, on ports that nobody has, and ends it.

#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests fail by panicking, and look at the machine")]

mod access;
mod contract;
mod dist;
mod durable;
mod etcd;
mod faults;
mod grpc;
mod guide;
mod late;
mod lease;
mod page;
mod queue;
mod race;
mod reflection;
mod relay;
mod service;
