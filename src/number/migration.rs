//! The move of rows to another directory, by `migrate`.

use super::ancestry::Ancestry;
use super::error::NumberError;
use super::registry::Registry;
use super::row::Row;
use std::path::{Path, PathBuf};

/// Changes the rows of `from` and of the directories below it to `to`. Returns the old rows in order, each with its new
/// directory.
pub fn migrate_rows(registry: &mut Registry, from: &Path, to: &Path) -> Result<Vec<(Row, PathBuf)>, NumberError> {
    if to != from && to.starts_with(from) {
        return Err(NumberError::IntoItself { path: to.to_owned() });
    }
    let rows = registry.contents.rows().ok_or_else(|| registry.make_damage_error())?;
    let (moving, staying): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(|row| row.directory.starts_with(from));
    let mut moved = Vec::new();
    for row in moving {
        let rest = row.directory.strip_prefix(from).unwrap_or(Path::new(""));
        // Joining an empty path would append a slash.
        let path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
        if staying.iter().any(|other| other.tag == row.tag && other.directory == path) {
            let (tag, pool) = (row.tag.as_str().to_owned(), registry.pool.to_string());
            return Err(NumberError::Occupied { path, tag, pool });
        }
        moved.push((row, path));
    }
    if !moved.is_empty() {
        registry.contents.retain(|row| !row.directory.starts_with(from));
        for (row, path) in &moved {
            let ancestry = Ancestry::read(path).unwrap_or_default();
            registry.contents.insert(&Row { directory: path.clone(), ancestry, ..row.clone() });
        }
    }
    Ok(moved)
}
