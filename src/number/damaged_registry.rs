//! Copies of damaged registries, and `reserve --recover`, which builds a new registry from the readable lines of a
//! damaged one.

use super::contents::{RegistryContents, UnreadableRegistry};
use super::error::NumberError;
use super::pool::Pool;
use super::pool_files::{add_suffix, registry_path};
use super::registry_file::{MissingRegistry, begin_edit, read_file, read_path, write_contents};
use crate::base::target::Wait;
use crate::lock::wait::Contention;
use crate::os::replace::{self, parent_directory};
use crate::store::{Store, creation};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The result of a recovery.
#[derive(Debug)]
pub struct RecoveredRegistry {
    /// The number of rows in the new registry.
    pub rows: usize,
    /// The number of unreadable lines.
    pub lost: usize,
    /// The new path of the damaged registry.
    pub kept: PathBuf,
    /// The new path of the copy of an earlier damaged registry, if the rows come from that copy because the damaged
    /// registry contained none.
    pub earlier: Option<PathBuf>,
}

/// Replaces a damaged registry with a new one that has its readable rows, and keeps the damaged one under another name.
/// Returns `None` if the registry is not damaged.
pub fn recover_registry(
    store: &Store,
    pool: &Pool,
    wait: Wait,
    contention: &mut dyn Contention,
) -> Result<Option<RecoveredRegistry>, NumberError> {
    let path = registry_path(store, pool);
    let Some(edit) = begin_edit(store, &path, MissingRegistry::Leave, wait, contention)? else { return Ok(None) };
    let Some(file) = edit.open_old()? else { return Ok(None) };
    let bytes = read_file(&file).map_err(edit.failed("read"))?;
    let is_sound = |contents: RegistryContents| contents.rows().is_some();
    match RegistryContents::parse(bytes.clone()).map(is_sound) {
        Ok(true) => return Ok(None),
        Err(UnreadableRegistry::Version(version)) => return Err(NumberError::Version { path, version }),
        Ok(false) | Err(UnreadableRegistry::Damaged) => {}
    }
    let (mut contents, mut lost) = RegistryContents::recover(&bytes);
    // This is the copy that `save_copy` made, of this registry or of an earlier one: a user may have emptied the
    // registry since then.
    let copy = add_suffix(&path, ".damaged");
    let other = read_path(&copy).ok().filter(|other| *other != bytes);
    let is_empty = |contents: &RegistryContents| contents.numbers().is_none_or(|numbers| numbers.is_empty());
    let mut earlier = None;
    if let (true, Some(other)) = (is_empty(&contents), &other) {
        let (before, lost_before) = RegistryContents::recover(other);
        if !is_empty(&before) {
            (contents, lost) = (before, lost + lost_before);
            earlier = Some(find_free_name(&path, 2));
        }
    }
    let kept = find_free_name(&path, 1);
    let suffix = kept.as_os_str().as_bytes()[path.as_os_str().len()..].to_vec();
    let rows = contents.numbers().map_or(0, |numbers| numbers.len());
    write_contents(edit, &contents, Some(OsStr::from_bytes(&suffix)))?;
    if let Some(earlier) = &earlier {
        let _ = replace::rename_if_exists(&copy, earlier);
    } else if read_path(&copy).is_ok_and(|copy| copy == bytes) {
        let _ = fs::remove_file(&copy);
    }
    Ok(Some(RecoveredRegistry { rows, lost, kept, earlier }))
}

/// Copies a damaged registry, so that its rows are not lost if a user empties it to start again. The registry itself
/// stays in its place: without it, the next call would hand out numbers that are reserved.
pub(super) fn save_copy(path: &Path) -> Option<PathBuf> {
    let kept = add_suffix(path, ".damaged");
    let bytes = read_path(path).ok()?;
    let before = fs::symlink_metadata(&kept).ok();
    let is_same = before.as_ref().is_some_and(|data| data.is_file() && data.len() == bytes.len() as u64)
        && read_path(&kept).is_ok_and(|kept| kept == bytes);
    // An empty registry is not worth a copy, and must not replace a copy that has content.
    if !is_same && (before.is_none() || !bytes.is_empty()) {
        if before.is_some() {
            replace::rename_if_exists(&kept, &find_free_name(path, 1)).ok()?;
        }
        let access = creation::access_in(parent_directory(&kept)).ok()?;
        replace::replace_under_lock(&kept, &bytes, access).ok()?;
    }
    Some(kept)
}

/// Returns the `nth` unused path for a damaged registry.
fn find_free_name(path: &Path, nth: usize) -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let names = (1_u32..).map(|at| if at == 1 { now.clone() } else { format!("{now}-{at}") });
    let mut free = names
        .map(|name| add_suffix(path, &format!(".damaged-{name}")))
        .filter(|name| fs::symlink_metadata(name).is_err());
    free.nth(nth - 1).unwrap_or_else(|| add_suffix(path, ".damaged-before"))
}
