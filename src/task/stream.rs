//! The two output streams of a command, each with its log.

/// An output stream of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

impl Stream {
    pub(super) const BOTH: [Self; 2] = [Self::Out, Self::Err];

    /// The name of the log in the directory of the task.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Out => "log.out",
            Self::Err => "log.err",
        }
    }
}
