//! Mode, owner and extended attributes of a file, which its replacement must keep.
//!
//! The callers are the commit of an update, for the new content and for a backup, and the rescue of old content that another
//! process truncated. If an attribute cannot be kept, the file is not replaced.

use crate::os;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

/// Gives a new file the mode, owner and extended attributes of the old file, which is at `path`. An error comes with the text
/// that stands between "cannot" and the file in the message.
pub(super) fn copy_attributes(path: &Path, old: &File, new: &File) -> Result<(), (&'static str, io::Error)> {
    let data = old.metadata().map_err(|why| ("read", why))?;
    copy_owner(path, &data, old, new).map_err(|why| ("keep the owner of", why))?;
    // The new file may have inherited attributes from its directory that the old file does not have.
    let names = |file: &File| xattr::FileExt::list_xattr(file).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    let kept = names(old);
    for name in names(new).iter().filter(|name| !kept.contains(name) && !is_set_by_system(name)) {
        xattr::FileExt::remove_xattr(new, name).map_err(|why| ("keep the attributes of", why))?;
    }
    // The mode is set after the owner, because a change of the owner clears some bits of the mode, and before an access
    // control list, which is more specific. `user.` attributes are set before the mode, because that needs a writable
    // file.
    let (of_users, others): (Vec<_>, Vec<_>) =
        kept.into_iter().partition(|name| name.as_encoded_bytes().starts_with(b"user."));
    copy_extended_attributes(old, new, of_users)?;
    new.set_permissions(data.permissions()).map_err(|why| ("keep the mode of", why))?;
    copy_extended_attributes(old, new, others)
}

/// Gives a new file the owner and the group of the old file.
///
/// A user who may write to the file, but may not give files away, becomes the owner of the new file, as with an editor that
/// writes a new file. This function returns the error if that would give another user more access than before: a set-user-ID
/// program would run as that user; and if the group cannot be kept either, the bits of the old group would apply to another
/// group.
fn copy_owner(path: &Path, wanted: &Metadata, old: &File, new: &File) -> io::Result<()> {
    let now = new.metadata()?;
    if (wanted.uid(), wanted.gid()) == (now.uid(), now.gid()) {
        return Ok(());
    }
    let Err(why) = fchown(new, Some(wanted.uid()), Some(wanted.gid())) else { return Ok(()) };
    // EINVAL: the owner has no number in this user namespace.
    let is_forbidden = matches!(why.raw_os_error(), Some(libc::EPERM | libc::EINVAL));
    if !is_forbidden || os::may(os::Right::Write, path).is_err() {
        return Err(why);
    }
    let is_set_user = wanted.uid() != now.uid() && wanted.mode() & os::mode::SET_USER != 0;
    let keeps_group = wanted.gid() == now.gid() || fchown(new, None, Some(wanted.gid())).is_ok();
    let has_list = || xattr::FileExt::get_xattr(old, "system.posix_acl_access").is_ok_and(|list| list.is_some());
    let is_same_for_all =
        wanted.mode() >> 3 & 0o7 == wanted.mode() & 0o7 && wanted.mode() & os::mode::SET_GROUP == 0 && !has_list();
    if is_set_user || !keeps_group && !is_same_for_all { Err(why) } else { Ok(()) }
}

fn copy_extended_attributes(old: &File, new: &File, names: Vec<OsString>) -> Result<(), (&'static str, io::Error)> {
    for name in names {
        let copied = match xattr::FileExt::get_xattr(old, &name) {
            Ok(Some(value)) => xattr::FileExt::set_xattr(new, &name, &value),
            Ok(None) => Ok(()),
            Err(why) => Err(why),
        };
        if let (Err(why), false) = (copied, is_set_by_system(&name)) {
            return Err(("keep the attributes of", why));
        }
    }
    Ok(())
}

/// Returns true for an attribute that only the system sets. Such an attribute need not be kept.
fn is_set_by_system(attribute: &OsStr) -> bool {
    [&b"security."[..], b"trusted."].iter().any(|kind| attribute.as_encoded_bytes().starts_with(kind))
}
