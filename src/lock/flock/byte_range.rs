//! The range of bytes that `aba-lock flock --fcntl` locks, as plain data. `arguments` parses it, and `lockable` locks it.

/// A range of bytes of a file, locked by fcntl(2). Such a lock does not conflict with the locks of flock(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    pub start: u64,
    /// The number of bytes. 0: up to the end of the file, however long it becomes.
    pub len: u64,
}
