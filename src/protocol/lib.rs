//! The part of the REST interface that the lock service `aba-lockd` and its client `aba-lock-keeper` must spell alike:
//! paths, names of JSON members, codes of refusals, and time spans.
//!
//! Both programs read and write with these constants. Each side has its own types and its own rules for input: the
//! service accepts more spellings than it writes, and the keeper checks an answer before it trusts it.
//!
//! [`sharing`] is the rule for locks with more than one holder. Both programs decide with it, also about locks in etcd.
//!
//! The two programs have no other knowledge of etcd in common. The service stores its locks below the prefix `aba-lockd/`,
//! through gRPC. The keeper uses the keys of `etcdctl lock`, through the JSON gateway.

pub mod code;
pub mod member;
pub mod path;
pub mod sharing;
pub mod span;
