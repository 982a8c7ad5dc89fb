//! Black-box tests of the service. Each test starts services of its own, on free ports of the loopback interface.
//!
//! `harness` starts services and `http` calls them, `etcd_server` starts etcd, `relay` delays its answers, and
//! `browser` drives Chromium. Each other module tests one subject.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and read the environment"
)]

mod access;
mod browser;
mod connections;
mod delayed_etcd;
mod durable;
mod etcd;
mod etcd_server;
mod events;
mod grpc;
mod harness;
mod health;
mod history;
mod http;
mod kubernetes;
mod lease;
mod list;
mod openapi;
mod packaging;
mod page;
mod page_events;
mod page_layout;
mod page_states;
mod permissions;
mod queue;
mod race;
mod reflection;
mod relay;
mod rest;
mod scripts;
mod sharing;
mod sharing_faults;
mod startup;
mod store_faults;
mod terraform;
mod tls;
mod token_command;
