//! Read-modify-write of a file, that loses nothing and is never seen half written.
//!
//! [`Edit::begin`] takes the lock `FILE.lock` (never FILE itself, whose inode the rename changes) and reads; the caller
//! writes the new content into [`Edit::draft`]; [`Edit::commit`] puts it in the place of the old one. What is promised:
//!
//! - The lock is held from the read to the rename, so of those who write this way none loses what another wrote. It is
//!   flock(2) on a file, so flock(1) on that path is shut out, too.
//! - Who reads, without any lock, sees the old content or the new.
//! - A process that does not use the lock can change the file, also the command that makes the new content. The file is
//!   replaced only if its path leads to the inode that was read, and if that has its old content: byte by byte where the
//!   old content was kept in memory ([`Edit::keep_old`]), otherwise by size and times. If such a process truncated the file,
//!   the kept content is saved next to it.
//! - A link stays, and what it leads to is replaced. Mode, owner, access control list and other extended attributes are
//!   those of the old file; if they cannot be, it is not replaced. But a user who may write to it and not give it away becomes
//!   its owner, as with an editor. Other hard links keep the old content.
//!
//! # Who may be killed where, and what the next one finds
//!
//! | killed | left behind | the next one |
//! |---|---|---|
//! | before the rename | the old content; `.FILE.aba-lock.d`, a directory with the draft and the copy, or the draft alone | acquires the lock, and removes that; another user, who may not, uses `.FILE.aba-lock.d-UID`, which the next call of that user removes |
//! | between the rename and the end | the new content | finds nothing to do |
//! | by a loss of power | the old content or the new: the draft is on disk (fsync) before it gets the name, and the directory before we say so | – |
//!
//! A file in a directory of our own, that many change at once ([`Missing::CreatePrivate`]), is on disk before we say so,
//! too; but before the rename its draft is only put in order before that ([`os::order`]), and the next one gets the lock
//! while we wait for the disk.

use crate::base::environment::update_above;
use crate::base::target::{Kind, Target, Wait};
use crate::file::error::FileError;
use crate::lock::acquire;
use crate::lock::error::LockError;
use crate::lock::events::{self, LockEvent};
use crate::lock::record::{self, Content};
use crate::lock::request::{Acquired, Guard, Request};
use crate::lock::wait::Contention;
use crate::os::proc::process;
use crate::os::replace::{directory_of, give_to_owner, make_private, name_beside, own_name_beside, rename};
use crate::os::{self, leads_to, word_for};
use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The most bytes of old content that are kept in memory while the new content is made.
const MOST_KEPT: u64 = 1 << 20;

/// How many names are tried for old content that would be lost otherwise.
const MOST_SAVED: u32 = 100;

/// How many links may lead from one to the next: what the kernel allows.
const MAX_LINKS: u32 = 40;

/// What a missing file means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// That the path is a mistake.
    Refuse,
    /// That there is no old content.
    Create,
    /// The same, and the file is for its user alone, whatever the umask. So is the directory that it is in: there, a
    /// draft needs no directory of its own, which would cost as much as the rest. Such a file has no backup.
    CreatePrivate,
}

/// A file that nobody else changes as long as this lives.
#[derive(Debug)]
#[must_use = "the lock is released when it is dropped"]
pub struct Edit {
    /// What the user called it.
    label: String,
    /// The path that the user gave.
    asked: PathBuf,
    /// The absolute path, with links resolved.
    path: PathBuf,
    /// The path for our own calls, in the directory that was open when the file was read.
    place: PathBuf,
    old: Option<File>,
    /// The state of the file when it was opened.
    then: Option<State>,
    /// The old content, if it was kept.
    kept: Option<Vec<u8>>,
    /// True if a command makes the new content.
    by_command: bool,
    missing: Missing,
    /// Made when there is something to put into it: who only reads under the lock writes nothing.
    scratch: OnceCell<Scratch>,
    lock: Lock,
    /// The directory of the file, for `place`.
    _directory: Option<File>,
}

/// The lock, and since when we have it.
#[derive(Debug)]
struct Lock {
    acquired: Acquired,
    command: Option<String>,
    since: Instant,
}

impl Drop for Lock {
    fn drop(&mut self) {
        for guard in &self.acquired.guards {
            let event = LockEvent::Released { held: Some(self.since.elapsed()) };
            events::log_event(&event, &guard.target, std::process::id(), self.command.as_deref());
        }
    }
}

/// A directory of ours next to the file; or only the name of one, for a draft, where no other user may write next to it.
#[derive(Debug)]
struct Scratch {
    /// The path by which other processes reach it.
    shown: PathBuf,
    /// The same in the directory that we have open.
    place: PathBuf,
    /// The path for the files in it. No other directory can take its place on this path.
    inside: PathBuf,
    _open: Option<File>,
}

impl Scratch {
    fn make(shown: PathBuf, place: PathBuf) -> io::Result<Self> {
        make_private_directory(&place)?;
        let open = open_directory(&place)?;
        if open.metadata()?.uid() != os::user_id() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        let inside = path_through(&open).unwrap_or_else(|| place.clone());
        Ok(Self { shown, place, inside, _open: Some(open) })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        clear(&self.place);
    }
}

/// Opens a directory, not through a link, to make files in it. It does not have to be readable.
fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_PATH).open(path)
}

/// Returns a path to an open directory that is valid wherever the directory is moved, if there is a `/proc`.
///
/// The user who owns the directory above can put another one, or a link, in its place at any time. That user must not
/// choose where we write.
fn path_through(directory: &File) -> Option<PathBuf> {
    Some(PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))).filter(|path| path.is_dir())
}

/// Makes a directory for its user alone, whatever the umask.
fn make_private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)?;
    if os::umask() & 0o700 != 0 { make_private_again(path).map(drop) } else { Ok(()) }
}

/// Gives a directory the mode of one for its user alone. Returns a path to it and what keeps that path valid.
fn make_private_again(path: &Path) -> io::Result<(PathBuf, File)> {
    let open = open_directory(path)?;
    let inside = path_through(&open).ok_or(io::ErrorKind::Unsupported)?;
    fs::set_permissions(&inside, Permissions::from_mode(0o700))?;
    Ok((inside, open))
}

/// What changes when a file is written to, or replaced.
type State = ((u64, u64), u64, (i64, i64), (i64, i64));

fn state(data: &fs::Metadata) -> State {
    // A writer can put the time of the last write back, but not that of the last change of the inode.
    (file_id(data), data.len(), (data.mtime(), data.mtime_nsec()), (data.ctime(), data.ctime_nsec()))
}

fn file_id(data: &fs::Metadata) -> (u64, u64) {
    (data.dev(), data.ino())
}

/// The new content, until it has the name. Else it is removed with the [`Edit`].
#[derive(Debug)]
#[must_use = "it is nothing before it is committed"]
pub struct Draft {
    file: File,
    path: PathBuf,
    /// The path by which other processes reach it.
    shown: PathBuf,
    label: String,
}

impl Edit {
    /// Takes the lock and opens the file.
    ///
    /// [`FileError::NoFile`] where there is none (and then nothing is made, no lock file either), [`FileError::NotAFile`] for
    /// what is not a regular file, and the errors of [`acquire::acquire`].
    pub fn begin(
        file: &Path,
        missing: Missing,
        wait: Wait,
        command: String,
        contention: &mut dyn Contention,
    ) -> Result<Self, FileError> {
        let label = file.display().to_string();
        let path = behind_links(file).map_err(|source| no_file(&label, source))?;
        // Before there is a lock file beside it.
        look(&label, &path, missing)?;
        let target = lock_of(&label, &path, missing);
        // The command of an update started this process. That update waits for the command, which may wait for us: whether it
        // does is looked for while we wait. But if the pipe that it reads to the end is ours, too, it waits for us.
        let above = fs::metadata(&target.path).ok().and_then(|lock| update_above(lock.dev(), lock.ino()));
        let is_awaited = above.as_ref().and_then(|update| update.output).is_some_and(process::writes_to_pipe);
        let request =
            Request { command: Some(command), ..Request::exclusive(if is_awaited { Wait::No } else { wait }) };
        let acquired = acquire::acquire(vec![target], None, &request, contention).map_err(|error| match error {
            LockError::Open { path, source, .. } => {
                FileError::Update { what: "open the lock file", label: path.display().to_string(), source }
            }
            LockError::Busy { label, .. } if is_awaited => FileError::UpdatesItself { label },
            LockError::Deadlock { label, .. } if above.is_some() => FileError::UpdatesItself { label },
            other => other.into(),
        })?;
        let lock = Lock { acquired, command: request.command, since: Instant::now() };
        // From here on, all is done in this very directory. While we waited, the path may have been made to lead elsewhere. Then
        // the file to which it leads now is locked.
        let directory =
            if missing == Missing::CreatePrivate { None } else { Some(open_directory(directory_of(&path))) };
        let place = place_in(directory.as_ref().and_then(|open| open.as_ref().ok()), &path);
        let locks_place = |guard: &Guard| leads_to(&with_suffix(&place, ".lock"), guard.file());
        let leads_here = behind_links(file).ok().as_ref() == Some(&path);
        if !leads_here || (place != path && !lock.acquired.guards.iter().all(locks_place)) {
            let command = lock.command.clone().unwrap_or_default();
            drop(lock);
            return Self::begin(file, missing, wait, command, contention);
        }
        let directory = directory.transpose().map_err(|source| no_file(&label, source))?;
        // Left by an update that was killed. There may be a second name of the file, and its removal changes the inode.
        for name in [name_beside(&place), own_name_beside(&place)] {
            clear(&name);
        }
        let old = look(&label, &place, missing)?;
        let data = old.as_ref().and_then(|old| old.metadata().ok());
        let then = data.as_ref().map(state);
        let (asked, scratch) = (file.to_owned(), OnceCell::new());
        let edit = Self {
            label,
            asked,
            path,
            place,
            old,
            then,
            kept: None,
            by_command: false,
            missing,
            scratch,
            lock,
            _directory: directory,
        };
        if let Some(data) = data {
            edit.open_lock_to(&data);
        }
        Ok(edit)
    }

    /// Looks whether the file could be edited, as far as that can be told without a lock and without making anything.
    pub fn rehearse(file: &Path, missing: Missing) -> Result<(), FileError> {
        let label = file.display().to_string();
        let path = behind_links(file).map_err(|source| no_file(&label, source))?;
        look(&label, &path, missing)?;
        os::may(os::Right::MakeIn, directory_of(&path)).map_err(|source| FileError::Update {
            what: "make a temporary directory next to",
            label,
            source,
        })
    }

    fn scratch(&self) -> Result<&Scratch, FileError> {
        if let Some(scratch) = self.scratch.get() {
            return Ok(scratch);
        }
        let (shown, place) = (name_beside(&self.path), name_beside(&self.place));
        let made = match Scratch::make(shown.clone(), place.clone()) {
            // Left by an update of another user that was killed. Only that user can remove it.
            Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
                Scratch::make(own_name_beside(&self.path), own_name_beside(&self.place))
            }
            made => made,
        };
        let made = made.map_err(self.failed("make a temporary directory next to"))?;
        Ok(self.scratch.get_or_init(|| made))
    }

    /// Every user who may write to the file may lock it, too, whatever the umask of the user who made the lock file. A file
    /// that only has the name of the lock, such as one of root's that the owner of the directory renamed, stays as it is.
    fn open_lock_to(&self, data: &fs::Metadata) {
        let writers = data.mode() & 0o022;
        for lock in self.lock.acquired.guards.iter().map(Guard::file) {
            let Ok(has) = lock.metadata() else { continue };
            let is_given = os::user_id() == 0 && has.uid() == 0 && data.uid() != 0;
            let changes_group = has.gid() != data.gid() && writers & 0o020 != 0;
            let lacks_rights = has.mode() & (writers << 1) != writers << 1;
            let is_ours = || has.nlink() == 1 && matches!(record::read(lock), Content::Record(_));
            if !(is_given || changes_group || lacks_rights) || !is_ours() {
                continue;
            }
            if is_given {
                let _ = fchown(lock, Some(data.uid()), Some(data.gid()));
            } else if changes_group {
                let _ = fchown(lock, None, Some(data.gid()));
            }
            if lacks_rights {
                let _ =
                    lock.set_permissions(Permissions::from_mode(has.mode() & 0o7777 | 0o600 | writers << 1 | writers));
            }
        }
    }

    /// Keeps the old content in memory, unless it is large, to find each change of it and to save it if it is lost.
    pub fn keep_old(&mut self, by_command: bool) -> Result<(), FileError> {
        self.by_command = by_command;
        self.kept = self.small_content().map_err(self.failed("read"))?;
        Ok(())
    }

    /// The content that the file has now, unless it is large.
    fn small_content(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(old) = &self.old else { return Ok(None) };
        let len = old.metadata()?.len();
        // With room for one more byte, because it may grow.
        let Some(room) = usize::try_from(len + 1).ok().filter(|_| len <= MOST_KEPT) else { return Ok(None) };
        let (mut bytes, mut at) = (vec![0; room], 0);
        while at < room {
            match old.read_at(&mut bytes[at..], at as u64) {
                Ok(0) => break,
                Ok(len) => at += len,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        bytes.truncate(at);
        Ok(Some(bytes))
    }

    /// The old content, from its beginning; `None` where there was no file. Each has a place of its own in it.
    pub fn old(&self) -> Result<Option<File>, FileError> {
        let Some(old) = &self.old else { return Ok(None) };
        if let Ok(again) = File::open(format!("/proc/self/fd/{}", old.as_raw_fd())) {
            return Ok(Some(again));
        }
        let again = File::open(&self.path).map_err(self.failed("read"))?;
        match os::same_file(old, &again) {
            Ok(true) => Ok(Some(again)),
            _ => Err(self.changed(None)),
        }
    }

    /// The error that `what` (to stand between "could not" and the file) failed.
    pub fn failed(&self, what: &'static str) -> impl FnOnce(io::Error) -> FileError {
        let label = self.label.clone();
        move |source| FileError::Update { what, label, source }
    }

    /// A place for the new content, beside the file. Nobody else may read it yet.
    pub fn draft(&self) -> Result<Draft, FileError> {
        let (path, shown) = if self.missing == Missing::CreatePrivate {
            let path = name_beside(&self.path);
            let again = || path.clone();
            self.scratch.get_or_init(|| Scratch { shown: again(), place: again(), inside: again(), _open: None });
            (path.clone(), path)
        } else {
            let scratch = self.scratch()?;
            (scratch.inside.join("new"), scratch.shown.join("new"))
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(self.failed("make a temporary file next to"))?;
        make_private(&file).map_err(self.failed("make a temporary file next to"))?;
        Ok(Draft { file, path, shown, label: self.label.clone() })
    }

    /// A copy of the old content in a directory of its own, for a command that edits a file. Nobody else may look
    /// there.
    pub fn copy(&self) -> Result<PrivateCopy, FileError> {
        // Of another name each time: a command of an update that is over may still know the last one.
        let (directory, name) = (unique(), self.path.file_name().unwrap_or(OsStr::new("file")));
        let scratch = self.scratch()?;
        let inside = scratch.inside.join(&directory);
        make_private_directory(&inside).map_err(self.failed("make a temporary directory next to"))?;
        let copy = PrivateCopy { path: scratch.shown.join(directory).join(name), inside: inside.join(name) };
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create_new(true).mode(0o600).open(&copy.inside).map_err(self.failed("copy"))?;
        make_private(&file).map_err(self.failed("copy"))?;
        if let Some(mut old) = self.old()? {
            os::without_size_signal(|| io::copy(&mut old, &mut file)).map_err(self.failed("copy"))?;
        }
        Ok(copy)
    }

    /// Whether the new content is the old one.
    pub fn is_same(&self, draft: &Draft) -> Result<bool, FileError> {
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
    /// The errors of [`Edit::verify`], and then nothing was replaced; [`FileError::NotOnDisk`] if it was done
    /// and may not outlive a loss of power.
    pub fn commit(self, draft: &Draft, backup: Option<&OsStr>) -> Result<(), FileError> {
        if let Some(old) = &self.old {
            like(&self.place, old, &draft.file).map_err(|(what, source)| self.failed(what)(source))?;
        } else {
            let mode = if self.missing == Missing::CreatePrivate { 0o600 } else { 0o666 & !os::umask() };
            draft.file.set_permissions(Permissions::from_mode(mode)).map_err(self.failed("set the mode of"))?;
            if self.missing == Missing::CreatePrivate {
                give_to_owner(&draft.file, directory_of(&self.path));
            }
        }
        let late = self.missing == Missing::CreatePrivate;
        let written = if late { os::order(&draft.file) } else { draft.file.sync_all() };
        written.map_err(self.failed("write"))?;
        self.verify()?;
        let aside = match (backup, &self.old) {
            (Some(suffix), Some(_)) => Some(self.set_old_aside(suffix)?),
            _ => None,
        };
        if let Err(why) = rename(&draft.path, &self.place) {
            if let Some((name, before)) = aside {
                // The backup is again what it was.
                let _ = before.map_or_else(|| fs::remove_file(&name), |before| rename(&before, &name));
            }
            return Err(self.failed("replace")(why));
        }
        let label = self.label.clone();
        let directory = File::open(directory_of(&self.place));
        // The next one need not wait until it is on disk: what it writes comes after this there, too.
        drop(self);
        if late && let Err(source) = draft.file.sync_all() {
            return Err(FileError::NotOnDisk { label, source });
        }
        // Some file systems have no way to do this, and no need.
        match directory.and_then(|directory| directory.sync_all()) {
            Err(source) if source.raw_os_error() == Some(libc::EIO) => Err(FileError::NotOnDisk { label, source }),
            _ => Ok(()),
        }
    }

    /// Keeps the old content as the backup. Returns the name of that, and where the backup that was there is now.
    fn set_old_aside(&self, suffix: &OsStr) -> Result<(PathBuf, Option<PathBuf>), FileError> {
        let scratch = self.scratch()?;
        let name = with_suffix(&self.place, suffix);
        let (new, before) = (scratch.inside.join("old"), scratch.inside.join("before"));
        let failed = || self.failed("keep the old content of");
        // A second name for it; or a copy, where there can be only one.
        if fs::hard_link(&self.place, &new).is_err()
            && let (Some(old), Some(mut content)) = (&self.old, self.old()?)
        {
            let mut options = OpenOptions::new();
            let mut copy = options.write(true).create_new(true).mode(0o600).open(&new).map_err(failed())?;
            os::without_size_signal(|| io::copy(&mut content, &mut copy)).map_err(failed())?;
            like(&self.place, old, &copy).map_err(|(_, why)| failed()(why))?;
            copy.sync_all().map_err(failed())?;
        }
        let had = fs::hard_link(&name, &before).is_ok();
        rename(&new, &name).map_err(failed())?;
        Ok((name, had.then_some(before)))
    }

    /// Checks that the path still leads to the file that was read, that this has its old content, and that our lock is the one
    /// that others ask for.
    ///
    /// [`FileError::LeadsElsewhere`], [`FileError::ChangedMeanwhile`] or [`FileError::LockRemoved`] otherwise.
    pub fn verify(&self) -> Result<(), FileError> {
        let label = || self.label.clone();
        // A file of our own is in a directory of our own.
        let ours = self.missing == Missing::CreatePrivate;
        if !ours {
            match behind_links(&self.asked) {
                Ok(path) if path == self.path => {}
                Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(self.failed("find")(why)),
                _ => return Err(FileError::LeadsElsewhere { label: label() }),
            }
        }
        let now = match fs::symlink_metadata(&self.path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(self.failed("find")(why)),
            now => now.ok(),
        };
        if !self.is_as_it_was(now.as_ref()).map_err(self.failed("read"))? {
            return Err(self.changed(now.as_ref()));
        }
        let mut guards = self.lock.acquired.guards.iter();
        match guards.find(|guard| !leads_to(&guard.target.path, guard.file())) {
            Some(guard) => Err(FileError::LockRemoved { label: label(), path: guard.target.path.clone() }),
            None => Ok(()),
        }
    }

    fn is_as_it_was(&self, now: Option<&fs::Metadata>) -> io::Result<bool> {
        Ok(match (&self.then, now, &self.kept) {
            (None, None, _) => true,
            // A new mode or a second name changes the times and not the content; and a clock may be coarse.
            (Some(then), Some(now), Some(kept)) => {
                file_id(now) == then.0 && self.small_content()?.as_ref() == Some(kept)
            }
            (Some(then), Some(now), None) => state(now) == *then,
            _ => false,
        })
    }

    /// The error that the file is now another one, or has other content.
    fn changed(&self, now: Option<&fs::Metadata>) -> FileError {
        let saved = now.and_then(|now| self.save_lost(now));
        FileError::ChangedMeanwhile { label: self.label.clone(), saved, by_command: self.by_command }
    }

    /// Saves the old content next to the file, if that was truncated: `sed s/a/b/ f >f` does so before sed reads it. Returns
    /// the path.
    fn save_lost(&self, now: &fs::Metadata) -> Option<PathBuf> {
        let (then, kept, old) = (self.then.as_ref()?, self.kept.as_ref()?, self.old.as_ref()?);
        if file_id(now) != then.0 || now.len() >= kept.len() as u64 {
            return None;
        }
        // It gets its name when it is complete.
        let new = self.scratch().ok()?.inside.join("saved");
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).ok()?;
        os::without_size_signal(|| copy.write_all(kept)).and_then(|()| copy.sync_all()).ok()?;
        // Otherwise it stays private.
        let _ = like(&self.place, old, &copy);
        for number in 0..MOST_SAVED {
            let suffix = if number == 0 { ".saved".to_owned() } else { format!(".saved.{number}") };
            let name = with_suffix(&self.place, &suffix);
            let named = match fs::hard_link(&new, &name) {
                Err(why) if why.kind() == io::ErrorKind::AlreadyExists => continue,
                // A file can have only one name here.
                Err(_) if fs::symlink_metadata(&name).is_err() => rename(&new, &name),
                named => named,
            };
            return named.ok().map(|()| with_suffix(&self.path, &suffix));
        }
        None
    }
}

impl Draft {
    /// To write the new content into it.
    pub fn writer(&mut self) -> &mut File {
        &mut self.file
    }

    /// The new content, from its beginning.
    pub fn content(&self) -> Result<File, FileError> {
        let failed = |source| FileError::Update { what: "read the new content of", label: self.label.clone(), source };
        // Opened anew: who reads it is not to move where we write, nor to write.
        File::open(&self.path).map_err(failed)
    }

    /// The path by which other processes reach the new content.
    #[must_use]
    pub fn shown(&self) -> &Path {
        &self.shown
    }

    /// A value that changes when the file at the path is written to or replaced.
    pub fn seal(&self) -> Result<impl Eq + use<>, FileError> {
        let failed = |source| FileError::Update { what: "read the new content of", label: self.label.clone(), source };
        fs::symlink_metadata(&self.path).map(|data| state(&data)).map_err(failed)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|data| data.len() == 0)
    }
}

/// Makes a directory and all directories in it accessible for their user. It follows no links, also not one that takes the
/// place of the directory in the meantime.
fn open_up(directory: &Path) {
    let Ok((inside, _open)) = make_private_again(directory) else { return };
    for entry in fs::read_dir(inside).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Removes a directory of ours with all that is in it, also what a command made unreadable.
fn clear(directory: &Path) {
    match fs::symlink_metadata(directory) {
        Ok(data) if data.is_dir() => {
            if fs::remove_dir_all(directory).is_err() {
                open_up(directory);
                let _ = fs::remove_dir_all(directory);
            }
        }
        Ok(_) => {
            let _ = fs::remove_file(directory);
        }
        Err(_) => {}
    }
}

/// A name that nobody had before.
fn unique() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}

/// A private copy. It is removed with the [`Edit`].
#[derive(Debug)]
pub struct PrivateCopy {
    /// Where it is; its name is that of the file.
    pub path: PathBuf,
    inside: PathBuf,
}

impl PrivateCopy {
    /// What the command made of it.
    pub fn content(&self) -> io::Result<File> {
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.inside)?;
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }
}

/// The lock beside a file: as private as that.
fn lock_of(label: &str, path: &Path, missing: Missing) -> Target {
    let kind = if missing == Missing::CreatePrivate { Kind::Named } else { Kind::Beside };
    Target { label: label.to_owned(), path: with_suffix(path, ".lock"), kind, link: None }
}

/// Returns the path of a file in a directory that is open.
fn place_in(directory: Option<&File>, path: &Path) -> PathBuf {
    match (directory.and_then(path_through), path.file_name()) {
        (Some(inside), Some(name)) => inside.join(name),
        _ => path.to_owned(),
    }
}

fn with_suffix(path: &Path, suffix: impl AsRef<OsStr>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Follows links to their end, also where there is nothing.
fn behind_links(file: &Path) -> io::Result<PathBuf> {
    let mut path = file.to_owned();
    if file.as_os_str().as_encoded_bytes().ends_with(b"/") {
        // A directory is meant.
        return fs::canonicalize(file);
    }
    for _ in 0..MAX_LINKS {
        let parent = directory_of(&path);
        let Some(name) = path.file_name() else { return fs::canonicalize(&path) };
        path = fs::canonicalize(parent)?.join(name);
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn no_file(label: &str, source: io::Error) -> FileError {
    FileError::NoFile { label: label.to_owned(), source }
}

/// Opens the file, if it is one.
fn look(label: &str, path: &Path, missing: Missing) -> Result<Option<File>, FileError> {
    // O_NONBLOCK: opening a FIFO would hang.
    let mut options = OpenOptions::new();
    match options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        Ok(file) => {
            let kind = file.metadata().map_err(|source| no_file(label, source))?.file_type();
            if kind.is_file() {
                return Ok(Some(file));
            }
            Err(FileError::NotAFile { label: label.to_owned(), kind: word_for(kind) })
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound && missing != Missing::Refuse => Ok(None),
        Err(source) if source.raw_os_error() == Some(libc::ENXIO) => {
            Err(FileError::NotAFile { label: label.to_owned(), kind: "socket" })
        }
        Err(source) => Err(no_file(label, source)),
    }
}

/// Gives a new file the mode, owner and extended attributes of the old one, which is at `path`.
fn like(path: &Path, old: &File, new: &File) -> Result<(), (&'static str, io::Error)> {
    let then = old.metadata().map_err(|why| ("read", why))?;
    keep_owner(path, &then, old, new).map_err(|why| ("keep the owner of", why))?;
    // What the directory gives to all new files in it, the old one need not have.
    let names = |file: &File| xattr::FileExt::list_xattr(file).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    let kept = names(old);
    for name in names(new).iter().filter(|name| !kept.contains(name) && !is_of_system(name)) {
        xattr::FileExt::remove_xattr(new, name).map_err(|why| ("keep the attributes of", why))?;
    }
    // After the owner, the change of which takes some modes away; and before an access control list, which is more. But
    // what users may set, they may only set where they may write: that comes before.
    let (of_users, others): (Vec<_>, Vec<_>) =
        kept.into_iter().partition(|name| name.as_encoded_bytes().starts_with(b"user."));
    copy_attributes(old, new, of_users)?;
    new.set_permissions(then.permissions()).map_err(|why| ("keep the mode of", why))?;
    copy_attributes(old, new, others)
}

/// Gives a new file the owner and the group of the old one.
///
/// A user who may write to the file, but may not give files away, becomes the owner of the new one, as with an editor that
/// writes a new file. The error is returned where that would give more access to anyone else: a set-user-ID program would run
/// as that user, and where the group cannot be kept either, the rights of the old one would be those of another.
fn keep_owner(path: &Path, then: &fs::Metadata, old: &File, new: &File) -> io::Result<()> {
    let now = new.metadata()?;
    if (then.uid(), then.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    let Err(why) = fchown(new, Some(then.uid()), Some(then.gid())) else { return Ok(()) };
    // EINVAL: the owner has no number in this user namespace.
    let may_not = matches!(why.raw_os_error(), Some(libc::EPERM | libc::EINVAL));
    if !may_not || os::may(os::Right::Write, path).is_err() {
        return Err(why);
    }
    let is_set_user = then.uid() != now.uid() && then.mode() & libc::S_ISUID != 0;
    let keeps_group = then.gid() == now.gid() || fchown(new, None, Some(then.gid())).is_ok();
    let has_list = || xattr::FileExt::get_xattr(old, "system.posix_acl_access").is_ok_and(|list| list.is_some());
    let is_same_for_all =
        then.mode() >> 3 & 0o7 == then.mode() & 0o7 && then.mode() & libc::S_ISGID == 0 && !has_list();
    if is_set_user || !keeps_group && !is_same_for_all { Err(why) } else { Ok(()) }
}

fn copy_attributes(old: &File, new: &File, names: Vec<OsString>) -> Result<(), (&'static str, io::Error)> {
    for name in names {
        let kept = match xattr::FileExt::get_xattr(old, &name) {
            Ok(Some(value)) => xattr::FileExt::set_xattr(new, &name, &value),
            Ok(None) => Ok(()),
            Err(why) => Err(why),
        };
        if let (Err(why), false) = (kept, is_of_system(&name)) {
            return Err(("keep the attributes of", why));
        }
    }
    Ok(())
}

/// What only the system sets is not ours to keep.
fn is_of_system(attribute: &OsStr) -> bool {
    [&b"security."[..], b"trusted."].iter().any(|kind| attribute.as_encoded_bytes().starts_with(kind))
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
            Ok(len) => os::without_size_signal(|| to.write_all(&bytes[..len])).map_err(Poured::Writing)?,
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
    pub fn of(self, label: &str) -> FileError {
        let (what, source) = match self {
            Self::Reading(source) => ("read the new content of", source),
            Self::Writing(source) => ("write", source),
        };
        FileError::Update { what, label: label.to_owned(), source }
    }
}

impl Edit {
    /// What the user called it.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The file to which the user's path leads, if that path is a link.
    #[must_use]
    pub fn linked(&self) -> Option<&Path> {
        self.asked.is_symlink().then_some(&self.path)
    }

    /// The absolute path of the file, with links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The mark of this update for `ABA_LOCK_UPDATING`, which reads the output of its command from the pipe with this inode.
    #[must_use]
    pub fn mark(&self, output: Option<u64>) -> String {
        let lock = self.lock.acquired.guards.first().and_then(|guard| guard.file().metadata().ok());
        let (pid, output) = (std::process::id(), output.map(|inode| inode.to_string()).unwrap_or_default());
        lock.map(|lock| format!("{}:{}:{pid}:{output}", lock.dev(), lock.ino())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn litter_is_made_accessible_but_not_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mode = |name: &str| fs::metadata(path(name)).unwrap().mode() & 0o777;
        for name in ["theirs", "theirs/deep", "ours", "ours/deep"] {
            fs::create_dir(path(name)).unwrap();
        }
        for name in ["theirs/deep", "theirs"] {
            fs::set_permissions(path(name), Permissions::from_mode(0o755)).unwrap();
        }
        symlink(path("theirs"), path("link")).unwrap();
        symlink(path("theirs"), path("ours/link")).unwrap();
        fs::set_permissions(path("ours/deep"), Permissions::from_mode(0o000)).unwrap();
        open_up(&path("link"));
        open_up(&path("ours"));
        assert_eq!((mode("theirs"), mode("theirs/deep"), mode("ours/deep")), (0o755, 0o755, 0o700));
        fs::set_permissions(path("ours/deep"), Permissions::from_mode(0o000)).unwrap();
        clear(&path("ours"));
        assert!(!path("ours").exists() && path("theirs").exists());
    }
}
