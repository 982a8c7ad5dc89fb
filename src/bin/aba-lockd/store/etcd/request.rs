//! Builds the requests and the parts of transactions that the store sends to etcd, and reads their results.

use super::rpc::compare::{CompareResult, CompareTarget, TargetUnion};
use super::rpc::request_op::Request;
use super::rpc::response_op::Response;
use super::rpc::{Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, TxnResponse};

/// Returns the first key after all keys with this prefix.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

pub(super) fn range_of_key(key: &[u8]) -> RangeRequest {
    RangeRequest { key: key.to_vec(), ..Default::default() }
}

pub(super) fn range_of_prefix(prefix: &[u8]) -> RangeRequest {
    RangeRequest { key: prefix.to_vec(), range_end: end_of_prefix(prefix), ..Default::default() }
}

pub(super) fn read(key: &[u8]) -> RequestOp {
    read_range(range_of_key(key))
}

/// Returns the operation that reads a range.
pub(super) fn read_range(range: RangeRequest) -> RequestOp {
    RequestOp { request: Some(Request::RequestRange(range)) }
}

/// Returns the operation that writes a key. `lease` is 0 for a key without a lease.
pub(super) fn put(key: &[u8], value: Vec<u8>, lease: i64) -> RequestOp {
    RequestOp { request: Some(Request::RequestPut(PutRequest { key: key.to_vec(), value, lease })) }
}

pub(super) fn delete(key: &[u8]) -> RequestOp {
    delete_range(key, &[])
}

/// Returns the operation that deletes the keys from `key` on and before `end`.
pub(super) fn delete_range(key: &[u8], end: &[u8]) -> RequestOp {
    let range = DeleteRangeRequest { key: key.to_vec(), range_end: end.to_vec() };
    RequestOp { request: Some(Request::RequestDeleteRange(range)) }
}

/// Returns the comparison that holds if the key does not exist.
pub(super) fn is_absent(key: &[u8]) -> Compare {
    is_created_at(key, 0)
}

/// Returns the comparison that holds if no key of this range exists.
pub(super) fn is_range_empty(range: &RangeRequest) -> Compare {
    Compare { range_end: range.range_end.clone(), ..is_absent(&range.key) }
}

/// Returns the comparison that holds if no key of this range was created after this revision.
pub(super) fn has_no_key_after(range: &RangeRequest, revision: i64) -> Compare {
    let later = TargetUnion::CreateRevision(revision.saturating_add(1));
    let created_before = is_equal(&range.key, CompareTarget::Create, later);
    Compare { result: CompareResult::Less.into(), range_end: range.range_end.clone(), ..created_before }
}

/// Returns the comparison that holds if no key with this prefix exists.
pub(super) fn is_prefix_empty(prefix: &[u8]) -> Compare {
    Compare { range_end: end_of_prefix(prefix), ..is_absent(prefix) }
}

/// Returns the comparison that holds if the key was created at this revision, and not deleted since.
pub(super) fn is_created_at(key: &[u8], revision: i64) -> Compare {
    is_equal(key, CompareTarget::Create, TargetUnion::CreateRevision(revision))
}

/// Returns the comparison that holds if the key was last modified at this revision.
pub(super) fn is_modified_at(key: &[u8], revision: i64) -> Compare {
    is_equal(key, CompareTarget::Mod, TargetUnion::ModRevision(revision))
}

fn is_equal(key: &[u8], target: CompareTarget, value: TargetUnion) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.to_vec(),
        target_union: Some(value),
        range_end: Vec::new(),
    }
}

/// Returns the first key that each read of a transaction has found, in the order of the reads.
pub(super) fn read_results(response: TxnResponse) -> Vec<Option<KeyValue>> {
    read_all_results(response).into_iter().map(|found| found.into_iter().next()).collect()
}

/// Returns the keys that each read of a transaction has found, in the order of the reads.
pub(super) fn read_all_results(response: TxnResponse) -> Vec<Vec<KeyValue>> {
    let reads = response.responses.into_iter().filter_map(|op| match op.response {
        Some(Response::ResponseRange(range)) => Some(range.kvs),
        _ => None,
    });
    reads.collect()
}
