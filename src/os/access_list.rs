//! The access control list (acl(5)) of a new file that the users of its directory share.
//!
//! The list gives the right to read and write the file to those who may write to the directory. The owner and the group of the
//! directory get entries, because the owner and the group of the file may be others. The kernel looks at the owner of a file, then at
//! the entries of users, then at all entries of groups, and then at the entry of others, as for the directory. There is one difference:
//! the members of the group of the file match its entry, and not that of others. So that entry says the same as the one of others.
//!
//! A group may have fewer rights than others. Then a user may be a member of that group and of the group of the file, which gives
//! the user more than the directory does. So no file is created in such a directory.

use std::fs::File;
use std::io;
use std::path::Path;

/// The name of the attribute with the list.
const ATTRIBUTE: &str = "system.posix_acl_access";

/// The version of the format, the first number of the attribute.
const VERSION: u32 = 2;

/// The tags of the entries. Each entry has a tag and rights of 16 bits, and a number of a user or group of 32 bits, all in the order
/// with the least significant byte first.
const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// The number in an entry that concerns no named user or group.
const NO_ID: u32 = u32::MAX;

/// The right to write.
const WRITE: u16 = 0o2;

const READ_AND_WRITE: u16 = 0o6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ListEntry {
    tag: u16,
    rights: u16,
    id: u32,
}

/// An access control list of a directory, or of a file in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessList(Vec<ListEntry>);

impl AccessList {
    /// Returns the list of a directory. `None` if the directory or its file system has none.
    #[must_use]
    pub fn of_directory(directory: &Path) -> Option<Self> {
        if cfg!(linux) { Self::parse(&xattr::get_deref(directory, ATTRIBUTE).ok()??) } else { None }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, entries) = bytes.split_first_chunk::<4>()?;
        let entries = entries.chunks_exact(8).map(|entry| {
            let (tag, rest) = entry.split_first_chunk::<2>()?;
            let (rights, id) = rest.split_first_chunk::<2>()?;
            let id = u32::from_le_bytes(id.try_into().ok()?);
            Some(ListEntry { tag: u16::from_le_bytes(*tag), rights: u16::from_le_bytes(*rights), id })
        });
        let list = Self(entries.collect::<Option<_>>()?);
        (u32::from_le_bytes(*version) == VERSION).then_some(list)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend(entry.tag.to_le_bytes());
            bytes.extend(entry.rights.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        bytes
    }

    /// Returns the rights of the entries with this tag that concern `id`, without those that the mask takes away. `None` if there is no
    /// such entry.
    fn rights_of(&self, tag: u16, id: u32) -> Option<u16> {
        let entries = self.0.iter().filter(|entry| entry.tag == tag && entry.id == id);
        let rights = entries.map(|entry| entry.rights).reduce(|all, rights| all | rights)?;
        let is_masked = [USER, OWNING_GROUP, GROUP].contains(&tag);
        let mask = self.0.iter().find(|entry| entry.tag == MASK && is_masked).map_or(u16::MAX, |entry| entry.rights);
        Some(rights & mask)
    }

    /// Returns true if all users may write to the directory of this list, but not the members of a group that the list names.
    #[must_use]
    pub fn is_less_for_a_group(&self) -> bool {
        let may_write = |tag, id| self.rights_of(tag, id).is_none_or(|rights| rights & WRITE != 0);
        let is_group = |entry: &&ListEntry| [OWNING_GROUP, GROUP].contains(&entry.tag);
        self.rights_of(OTHERS, NO_ID).is_some_and(|rights| rights & WRITE != 0)
            && !self.0.iter().filter(is_group).all(|entry| may_write(entry.tag, entry.id))
    }

    /// Returns the list of a new file in the directory of this list, which has this owner and group.
    fn for_new_file(&self, owner: u32, group: u32) -> Self {
        let rights = |rights: Option<u16>| rights.filter(|rights| rights & WRITE != 0).map_or(0, |_| READ_AND_WRITE);
        let others = rights(self.rights_of(OTHERS, NO_ID));
        let named = |tag: u16, special: (u16, u32)| {
            // The owner of the directory has the rights of the owner there, also if the list names that user. A member of the group
            // has the rights of all entries that match.
            let first = self.rights_of(special.0, NO_ID).unwrap_or(0);
            let also = if tag == GROUP { self.rights_of(GROUP, special.1).unwrap_or(0) } else { 0 };
            let first = ListEntry { tag, rights: rights(Some(first | also)), id: special.1 };
            let rest = self.0.iter().filter(move |entry| entry.tag == tag && entry.id != special.1);
            let rest = rest.map(move |entry| ListEntry { rights: rights(self.rights_of(tag, entry.id)), ..*entry });
            std::iter::once(first).chain(rest)
        };
        let plain = |tag, rights| std::iter::once(ListEntry { tag, rights, id: NO_ID });
        let entries = plain(OWNER, READ_AND_WRITE)
            .chain(named(USER, (OWNER, owner)))
            .chain(plain(OWNING_GROUP, others))
            .chain(named(GROUP, (OWNING_GROUP, group)))
            .chain(plain(MASK, READ_AND_WRITE))
            .chain(plain(OTHERS, others));
        Self(entries.collect())
    }

    /// Gives the list that follows from this one to a new file in the directory, which has this owner and group. The list also sets the
    /// mode.
    pub(super) fn apply_to_new_file(&self, file: &File, owner: u32, group: u32) -> io::Result<()> {
        if self.is_less_for_a_group() {
            let text =
                "all users may write to its directory, but not the members of a group in the access control list";
            return Err(io::Error::other(text));
        }
        // Without the number of the error, for which the caller would try another way to create the file.
        xattr::FileExt::set_xattr(file, ATTRIBUTE, &self.for_new_file(owner, group).to_bytes()).map_err(|error| {
            let text = format!("cannot give it the access control list of its directory: {error}");
            io::Error::new(error.kind(), text)
        })
    }
}

/// Returns true if a file has an access control list.
#[must_use]
pub fn has_access_list(file: &File) -> bool {
    cfg!(linux) && xattr::FileExt::get_xattr(file, ATTRIBUTE).is_ok_and(|list| list.is_some())
}

/// Removes the list that a new file got from the default list of its directory.
pub(super) fn remove_inherited_list(file: &File) -> io::Result<()> {
    if has_access_list(file) { xattr::FileExt::remove_xattr(file, ATTRIBUTE) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> AccessList {
        AccessList(entries.iter().map(|&(tag, rights, id)| ListEntry { tag, rights, id }).collect())
    }

    #[test]
    fn a_file_gives_each_user_what_the_directory_does() {
        let directory = list(&[
            (OWNER, 7, NO_ID),
            (USER, 7, 3),
            (USER, 5, 4),
            (USER, 0, 1),
            (OWNING_GROUP, 5, NO_ID),
            (GROUP, 7, 2),
            (GROUP, 5, 9),
            (MASK, 7, NO_ID),
            (OTHERS, 5, NO_ID),
        ]);
        assert_eq!(AccessList::parse(&directory.to_bytes()), Some(directory.clone()));
        assert!(!directory.is_less_for_a_group());
        let expected = list(&[
            (OWNER, 6, NO_ID),
            (USER, 6, 1),
            (USER, 6, 3),
            (USER, 0, 4),
            (OWNING_GROUP, 0, NO_ID),
            (GROUP, 6, 2),
            (GROUP, 0, 9),
            (MASK, 6, NO_ID),
            (OTHERS, 0, NO_ID),
        ]);
        assert_eq!(directory.for_new_file(1, 2), expected);
    }

    #[test]
    fn a_list_that_gives_less_to_a_group_than_to_others_is_recognized() {
        for (group, mask, others, is_less) in [(7, 7, 7, false), (5, 7, 7, true), (7, 5, 7, true), (5, 7, 5, false)] {
            let directory = list(&[
                (OWNER, 7, NO_ID),
                (OWNING_GROUP, 7, NO_ID),
                (GROUP, group, 9),
                (MASK, mask, NO_ID),
                (OTHERS, others, NO_ID),
            ]);
            assert_eq!(directory.is_less_for_a_group(), is_less);
        }
    }
}
