//! Servers that grant leases: etcd clusters and lock services.

pub(crate) mod connect;
pub(crate) mod http;
pub(crate) mod in_flight;
pub(crate) mod lease_server;
pub(crate) mod resolver;
pub(crate) mod retry;
pub(crate) mod tls;

pub(crate) mod etcd;
pub(crate) mod service;
