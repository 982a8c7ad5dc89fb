//! The new content before it replaces the old content, and the private copy that a command may edit.
//!
//! Both are in the scratch directory, and are removed with the [`Edit`] unless the draft is committed.

use super::edit::Edit;
use super::error::FileError;
use super::path::MissingFile;
use super::scratch::{create_private_directory, unique_name};
use super::version::FileVersion;
use crate::os;
use crate::os::replace::make_file_private;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The new content of a file. It takes effect when it is committed ([`Edit::commit`]).
#[derive(Debug)]
#[must_use = "it has no effect before it is committed"]
pub struct ContentDraft {
    pub(super) file: File,
    pub(super) path: PathBuf,
    visible: PathBuf,
    label: String,
}

impl ContentDraft {
    /// The file to write the new content to.
    pub fn writer(&mut self) -> &mut File {
        &mut self.file
    }

    /// Opens the new content for reading, from its beginning. The descriptor cannot write and has an offset of its own, so a
    /// reader does not move the offset of the writer.
    pub fn open_content(&self) -> Result<File, FileError> {
        File::open(&self.path).map_err(self.read_failed())
    }

    /// The path by which other processes reach the new content.
    #[must_use]
    pub fn visible_path(&self) -> &Path {
        &self.visible
    }

    /// The version of the file at the path of the draft, which changes if the file is written to or replaced.
    pub fn version(&self) -> Result<FileVersion, FileError> {
        fs::symlink_metadata(&self.path).map(|data| FileVersion::from_metadata(&data)).map_err(self.read_failed())
    }

    /// Returns true if nothing was written to the draft.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|data| data.len() == 0)
    }

    fn read_failed(&self) -> impl FnOnce(io::Error) -> FileError {
        |source| FileError::Update { what: "read the new content of", label: self.label.clone(), source }
    }
}

/// A copy of the old content in a private directory, for a command that edits a file in place.
#[derive(Debug)]
pub struct PrivateCopy {
    /// The path for the command. Its last part is the name of the user's file.
    pub path: PathBuf,
    inside: PathBuf,
}

impl PrivateCopy {
    /// Opens the content that the command has made of the copy. The command may have replaced the copy with a link or a FIFO,
    /// which is refused.
    pub fn open_content(&self) -> io::Result<File> {
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.inside)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }
}

impl Edit {
    /// Creates an empty draft next to the file. No other user can read it yet.
    pub fn create_draft(&self) -> Result<ContentDraft, FileError> {
        let (path, visible) = if self.missing == MissingFile::CreatePrivate {
            let scratch = self.private_scratch();
            (scratch.inside.clone(), scratch.visible.clone())
        } else {
            let scratch = self.scratch()?;
            (scratch.inside.join("new"), scratch.visible.join("new"))
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(self.failed("make a temporary file next to"))?;
        make_file_private(&file).map_err(self.failed("make a temporary file next to"))?;
        Ok(ContentDraft { file, path, visible, label: self.label.clone() })
    }

    /// Copies the old content into a private directory, for a command that edits a file in place.
    pub fn create_copy(&self) -> Result<PrivateCopy, FileError> {
        // The name is new each time, because a command of an earlier update may still run and know the earlier path.
        let (directory, name) = (unique_name(), self.path.file_name().unwrap_or(OsStr::new("file")));
        let scratch = self.scratch()?;
        let inside = scratch.inside.join(&directory);
        create_private_directory(&inside).map_err(self.failed("make a temporary directory next to"))?;
        let copy = PrivateCopy { path: scratch.visible.join(directory).join(name), inside: inside.join(name) };
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&copy.inside).map_err(self.failed("copy"))?;
        make_file_private(&file).map_err(self.failed("copy"))?;
        if let Some(mut old) = self.open_old()? {
            os::without_size_signal(|| io::copy(&mut old, &mut file)).map_err(self.failed("copy"))?;
        }
        Ok(copy)
    }

    /// Returns true if the new content equals the old content.
    pub fn is_same(&self, draft: &ContentDraft) -> Result<bool, FileError> {
        let Some(old) = self.open_old()? else { return Ok(false) };
        let len = |file: &File| file.metadata().map(|data| data.len());
        if len(&old).map_err(self.failed("read"))? != len(&draft.file).map_err(self.failed("read"))? {
            return Ok(false);
        }
        has_same_bytes(old, draft.open_content()?).map_err(self.failed("read"))
    }
}

fn has_same_bytes(one: File, other: File) -> io::Result<bool> {
    let (mut one, mut other) =
        (io::BufReader::with_capacity(1 << 16, one), io::BufReader::with_capacity(1 << 16, other));
    loop {
        let (left, right) = (io::BufRead::fill_buf(&mut one)?, io::BufRead::fill_buf(&mut other)?);
        let len = left.len().min(right.len());
        if len == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if !are_equal(&left[..len], &right[..len]) {
            return Ok(false);
        }
        io::BufRead::consume(&mut one, len);
        io::BufRead::consume(&mut other, len);
    }
}

/// Returns true if both texts are equal. The memcmp(3) of musl compares single bytes, which takes seven instructions for each byte
/// of the file.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let ((one, end), (other, other_end)) = (one.as_chunks::<32>(), other.as_chunks::<32>());
    one.len() == other.len() && end == other_end && one.iter().zip(other).all(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_equal_if_all_their_bytes_are() {
        for len in [0, 1, 31, 32, 33, 64, 100] {
            let text = vec![b'x'; len];
            assert!(are_equal(&text, &text.clone()), "{len}");
            assert!(!are_equal(&text, &[&text[..], b"x"].concat()), "{len}");
            for at in 0..len {
                let mut other = text.clone();
                other[at] = b'y';
                assert!(!are_equal(&text, &other) && !are_equal(&other, &text), "{at} of {len}");
            }
        }
    }
}
