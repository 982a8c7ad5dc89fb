//! Numbers of `google.rpc.Code`: the `code` of a refusal by the lock service, and of an error of etcd's JSON gateway.

pub const OK: u64 = 0;
pub const CANCELLED: u64 = 1;
pub const UNKNOWN: u64 = 2;
pub const INVALID_ARGUMENT: u64 = 3;
pub const DEADLINE_EXCEEDED: u64 = 4;
pub const NOT_FOUND: u64 = 5;
pub const ALREADY_EXISTS: u64 = 6;
pub const PERMISSION_DENIED: u64 = 7;
pub const RESOURCE_EXHAUSTED: u64 = 8;
pub const FAILED_PRECONDITION: u64 = 9;
pub const UNIMPLEMENTED: u64 = 12;
pub const INTERNAL: u64 = 13;
pub const UNAVAILABLE: u64 = 14;
pub const UNAUTHENTICATED: u64 = 16;
