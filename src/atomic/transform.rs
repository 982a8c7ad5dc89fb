//! Read-modify-write of a file, that loses nothing and is never seen half written.
//!
//! [`Edit::begin`] takes the lock `FILE.lock` (never FILE itself, whose inode the rename changes) and reads; the caller
//! writes the new content into [`Edit::draft`]; [`Edit::commit`] puts it in the place of the old one. What is promised:
//!
//! - The lock is held from the read to the rename, so of those who write this way none loses what another wrote. It is
//!   flock(2) on a file, so flock(1) on that path is shut out, too.
//! - Who reads, without any lock, sees the old content or the new.
//! - What is not held by the lock is looked for: a file that was changed meanwhile is not replaced.
//! - A link stays, and what it leads to is replaced. Mode, owner, access control list and other extended attributes are
//!   those of the old file; if they cannot be, it is not replaced. Other hard links keep the old content.
//!
//! # Who may be killed where, and what the next one finds
//!
//! | killed | left behind | the next one |
//! |---|---|---|
//! | before the rename | the old content; the draft, `.FILE.aba-lock.tmp` | has the lock, and takes the draft away |
//! | between the rename and the end | the new content | finds nothing to do |
//! | by a loss of power | the old content or the new: the draft is on disk (fsync) before it gets the name, and the directory before we say so | – |

use super::{COPY, NEW, OLD, link_aside, name_beside, rename};
use crate::error::Error;
use crate::lock::{self, Acquired, Contention, Kind, Mode, Request, Target, Wait};
use crate::{store, sys};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// How many links may lead from one to the next: what the kernel allows.
const MAX_LINKS: u32 = 40;

/// What a missing file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// That the path is a mistake.
    Refuse,
    /// That there is no old content.
    Create,
}

/// A file that nobody else changes as long as this lives.
#[derive(Debug)]
#[must_use = "the lock is released when it is dropped"]
pub struct Edit {
    /// What the user called it.
    label: String,
    /// Where it is, behind all links.
    path: PathBuf,
    old: Option<File>,
    /// As it was when it was opened.
    then: Option<State>,
    _lock: Acquired,
}

/// What changes when a file is written to, or replaced.
type State = (u64, u64, u64, i64, i64);

fn state(data: &fs::Metadata) -> State {
    (data.dev(), data.ino(), data.len(), data.mtime(), data.mtime_nsec())
}

/// The new content, until it has the name. Dropping it removes it.
#[derive(Debug)]
#[must_use = "it is removed when it is dropped"]
pub struct Draft {
    file: File,
    path: PathBuf,
    label: String,
}

impl Edit {
    /// Takes the lock and opens the file.
    ///
    /// [`Error::NoFile`] where there is none (and then nothing is made, no lock file either), [`Error::NotAFile`] for
    /// what is not a regular file, and the errors of [`lock::acquire`].
    pub fn begin(
        file: &Path,
        missing: Missing,
        wait: Wait,
        command: String,
        contention: &mut dyn Contention,
    ) -> Result<Self, Error> {
        let label = file.display().to_string();
        let path = behind_links(file).map_err(|source| no_file(&label, source))?;
        // Before there is a lock file beside it.
        look(&label, &path, missing)?;
        let target = lock_of(&label, &path);
        // The command of an update that updates the same file: to wait would be for ever.
        let within = store::files_being_updated().contains(&path.display().to_string());
        let request = Request {
            mode: Mode::Exclusive,
            wait: if within { Wait::No } else { wait },
            holder: std::process::id(),
            command: Some(command),
            who: None,
        };
        let lock = lock::acquire(vec![target], None, &request, contention).map_err(|error| match error {
            Error::Open { path, source, .. } => {
                Error::Update { what: "open the lock file", label: path.display().to_string(), source }
            }
            Error::Busy { label, .. } if within => Error::UpdatesItself { label },
            other => other,
        })?;
        let old = look(&label, &path, missing)?;
        // What one left who was killed.
        let _ = fs::remove_dir_all(name_beside(&path, COPY));
        let _ = fs::remove_file(name_beside(&path, OLD));
        let then = old.as_ref().and_then(|old| old.metadata().ok()).as_ref().map(state);
        Ok(Self { label, path, old, then, _lock: lock })
    }

    /// The old content, from its beginning; `None` where there was no file.
    pub fn old(&self) -> Result<Option<File>, Error> {
        let Some(old) = &self.old else { return Ok(None) };
        let mut old = old.try_clone().map_err(self.failed("read"))?;
        old.rewind().map_err(self.failed("read"))?;
        Ok(Some(old))
    }

    /// Where the file is, behind all links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> Error {
        let label = self.label.clone();
        move |source| Error::Update { what, label, source }
    }

    /// A place for the new content, beside the file. Nobody else may read it yet.
    pub fn draft(&self) -> Result<Draft, Error> {
        let path = name_beside(&self.path, NEW);
        let _ = fs::remove_file(&path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(self.failed("make a temporary file beside"))?;
        Ok(Draft { file, path, label: self.label.clone() })
    }

    /// A copy of the old content in a directory of its own, for a command that edits a file. Nobody else may look
    /// there. Dropping the [`PrivateCopy`] removes all of it.
    pub fn copy(&self) -> Result<PrivateCopy, Error> {
        let directory = name_beside(&self.path, COPY);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(self.failed("make a temporary directory beside"))?;
        let copy = PrivateCopy { path: directory.join(self.path.file_name().unwrap_or(OsStr::new("file"))), directory };
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&copy.path).map_err(self.failed("copy"))?;
        if let Some(mut old) = self.old()? {
            sys::without_size_signal(|| io::copy(&mut old, &mut file)).map_err(self.failed("copy"))?;
        }
        Ok(copy)
    }

    /// Whether the new content is the old one.
    pub fn is_same(&self, draft: &Draft) -> Result<bool, Error> {
        let Some(old) = self.old()? else { return Ok(false) };
        let len = |file: &File| file.metadata().map(|data| data.len());
        if len(&old).map_err(self.failed("read"))? != len(&draft.file).map_err(self.failed("read"))? {
            return Ok(false);
        }
        same_bytes(old, draft.content()?).map_err(self.failed("read"))
    }

    /// Puts the new content in the place of the old one, which stays under its name with `backup` behind it, if that is
    /// given.
    ///
    /// [`Error::ChangedMeanwhile`] if somebody who does not ask for the lock was faster.
    pub fn commit(self, draft: Draft, backup: Option<&OsStr>) -> Result<(), Error> {
        match &self.old {
            Some(old) => like(old, &draft.file).map_err(|(what, source)| self.failed(what)(source))?,
            None => draft
                .file
                .set_permissions(Permissions::from_mode(0o666 & !sys::umask()))
                .map_err(self.failed("set the mode of"))?,
        }
        draft.file.sync_all().map_err(self.failed("write"))?;
        self.is_unchanged()?;
        if let (Some(suffix), Some(old)) = (backup, &self.old) {
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            link_aside(&self.path, old, Path::new(&name)).map_err(self.failed("keep the old content of"))?;
        }
        rename(&draft.path, &self.path).map_err(self.failed("replace"))?;
        drop(draft);
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        // Some file systems have no way to do this, and no need.
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            Err(source) if source.raw_os_error() == Some(libc::EIO) => {
                Err(self.failed("write the directory of")(source))
            }
            _ => Ok(()),
        }
    }

    /// Whether the path still leads to what we read, as it was.
    fn is_unchanged(&self) -> Result<(), Error> {
        if fs::symlink_metadata(&self.path).ok().as_ref().map(state) == self.then {
            return Ok(());
        }
        Err(Error::ChangedMeanwhile { label: self.label.clone() })
    }
}

impl Draft {
    /// To write the new content into it.
    pub fn writer(&mut self) -> &mut File {
        &mut self.file
    }

    /// The new content, from its beginning.
    pub fn content(&self) -> Result<File, Error> {
        let failed = |source| Error::Update { what: "read the new content of", label: self.label.clone(), source };
        // Opened anew: who reads it is not to move where we write, nor to write.
        File::open(&self.path).map_err(failed)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|data| data.len() == 0)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Not if it has the name by now: then this is another file's, or none.
        let ours = |data: &fs::Metadata| {
            self.file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (data.dev(), data.ino()))
        };
        if fs::symlink_metadata(&self.path).as_ref().is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A private copy. Dropping it removes it, and what else was put beside it.
#[derive(Debug)]
#[must_use = "it is removed when it is dropped"]
pub struct PrivateCopy {
    /// Where it is; its name is that of the file.
    pub path: PathBuf,
    directory: PathBuf,
}

impl PrivateCopy {
    /// What the command made of it.
    pub fn content(&self) -> io::Result<File> {
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.path)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }
}

impl Drop for PrivateCopy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The lock beside a file.
fn lock_of(label: &str, path: &Path) -> Target {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    Target { label: label.to_owned(), path: PathBuf::from(name), kind: Kind::Beside }
}

/// Follows links to their end, also where there is nothing.
fn behind_links(file: &Path) -> io::Result<PathBuf> {
    let mut path = file.to_owned();
    for _ in 0..MAX_LINKS {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Some(name) = path.file_name() else { return fs::canonicalize(&path) };
        path = fs::canonicalize(parent)?.join(name);
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn no_file(label: &str, source: io::Error) -> Error {
    Error::NoFile { label: label.to_owned(), source }
}

/// Opens the file, if it is one.
fn look(label: &str, path: &Path, missing: Missing) -> Result<Option<File>, Error> {
    // O_NONBLOCK: opening a FIFO would hang.
    let mut options = OpenOptions::new();
    match options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        Ok(file) => {
            let kind = file.metadata().map_err(|source| no_file(label, source))?.file_type();
            if kind.is_file() {
                return Ok(Some(file));
            }
            Err(Error::NotAFile { label: label.to_owned(), kind: lock::word_for(kind) })
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound && missing == Missing::Create => Ok(None),
        Err(source) if source.raw_os_error() == Some(libc::ENXIO) => {
            Err(Error::NotAFile { label: label.to_owned(), kind: "socket" })
        }
        Err(source) => Err(no_file(label, source)),
    }
}

/// Gives a new file the mode, owner and extended attributes of the old one.
fn like(old: &File, new: &File) -> Result<(), (&'static str, io::Error)> {
    let (then, now) = (old.metadata().map_err(|why| ("read", why))?, new.metadata().map_err(|why| ("read", why))?);
    if (then.uid(), then.gid()) != (now.uid(), now.gid()) {
        fchown(new, Some(then.uid()), Some(then.gid())).map_err(|why| ("keep the owner of", why))?;
    }
    // After the owner, the change of which takes some modes away; and before an access control list, which is more.
    new.set_permissions(then.permissions()).map_err(|why| ("keep the mode of", why))?;
    let names: Vec<OsString> = match xattr::FileExt::list_xattr(old) {
        Ok(names) => names.collect(),
        Err(_) => return Ok(()),
    };
    for name in names {
        let kept = match xattr::FileExt::get_xattr(old, &name) {
            Ok(Some(value)) => xattr::FileExt::set_xattr(new, &name, &value),
            Ok(None) => Ok(()),
            Err(why) => Err(why),
        };
        // What only the system sets is not ours to keep.
        let of_system = [&b"security."[..], b"trusted."].iter().any(|kind| name.as_encoded_bytes().starts_with(kind));
        if let (Err(why), false) = (kept, of_system) {
            return Err(("keep the attributes of", why));
        }
    }
    Ok(())
}

fn same_bytes(one: File, other: File) -> io::Result<bool> {
    let (mut one, mut other) =
        (io::BufReader::with_capacity(1 << 16, one), io::BufReader::with_capacity(1 << 16, other));
    loop {
        let (left, right) = (io::BufRead::fill_buf(&mut one)?, io::BufRead::fill_buf(&mut other)?);
        let len = left.len().min(right.len());
        if len == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left[..len] != right[..len] {
            return Ok(false);
        }
        io::BufRead::consume(&mut one, len);
        io::BufRead::consume(&mut other, len);
    }
}

/// Writes all that can be read; in the middle of it, `go_on` may put an end to it.
pub fn pour(mut from: impl Read, to: &mut File, mut go_on: impl FnMut() -> bool) -> Result<bool, Poured> {
    let mut bytes = vec![0; 1 << 17];
    loop {
        if !go_on() {
            return Ok(false);
        }
        match from.read(&mut bytes) {
            Ok(0) => return Ok(true),
            Ok(len) => sys::without_size_signal(|| to.write_all(&bytes[..len])).map_err(Poured::Writing)?,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(Poured::Reading(why)),
        }
    }
}

/// Where [`pour`] failed.
#[derive(Debug)]
pub enum Poured {
    /// Reading.
    Reading(io::Error),
    /// Writing.
    Writing(io::Error),
}

impl Poured {
    /// The error that this is of the file `label`.
    #[must_use]
    pub fn of(self, label: &str) -> Error {
        let (what, source) = match self {
            Self::Reading(source) => ("read the new content of", source),
            Self::Writing(source) => ("write", source),
        };
        Error::Update { what, label: label.to_owned(), source }
    }
}

impl Edit {
    /// What the user called it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}
