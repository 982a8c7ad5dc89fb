//! Reads numbers and texts out of a buffer that the kernel has filled. Nothing is read past its end.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Returns the bytes from `at` on. `None` if the buffer is too short.
fn array<const LEN: usize>(bytes: &[u8], at: usize) -> Option<[u8; LEN]> {
    bytes.get(at..at.checked_add(LEN)?)?.try_into().ok()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

pub(super) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    array(bytes, at).map(i32::from_ne_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_ne_bytes)
}

/// Returns the text in a field of `len` bytes, which ends at a NUL byte, or at the end of the field or of the buffer.
pub(super) fn text_at(bytes: &[u8], at: usize, len: usize) -> &[u8] {
    let field = bytes.get(at..).unwrap_or_default();
    let field = &field[..field.len().min(len)];
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Returns the path in a field of `len` bytes.
pub(super) fn path_at(bytes: &[u8], at: usize, len: usize) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(text_at(bytes, at, len)))
}
