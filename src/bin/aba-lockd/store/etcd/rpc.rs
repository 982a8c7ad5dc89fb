//! The messages and clients that `proto/etcd` defines, a part of etcd's own API.

#![allow(clippy::pedantic, clippy::enum_variant_names, unreachable_pub, dead_code, reason = "generated")]

tonic::include_proto!("etcdserverpb");
