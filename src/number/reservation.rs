//! One reservation: a plan with the names of the owners of numbers that were not available, and the file of `--dotenv`.

use super::book::Book;
use super::dotenv;
use super::error::NumberError;
use super::plan::{self, Plan};
use super::prune;
use super::registry::Registry;
use super::unavailable::Why;
use crate::base::target::Wait;
use crate::file::draft::ContentDraft;
use crate::file::edit::Edit;
use crate::file::error::FileError;
use crate::file::path::MissingFile;
use crate::lock::wait::Contention;
use crate::os;
use crate::os::proc::process;
use std::io::{Read, Write};
use std::path::Path;

/// Opens the registry with `begin`, and plans. If there is no room for the numbers, plans again without the rows that are no longer
/// needed.
pub fn make_plan(
    mut begin: impl FnMut() -> Result<Registry, NumberError>,
    mut plan: impl FnMut(&mut Registry, Option<&[u32]>) -> Result<Plan, NumberError>,
) -> Result<(Registry, Plan), NumberError> {
    let mut registry = begin()?;
    let mut planned = plan(&mut registry, None);
    if let Err(error) = planned {
        let lacks_room = plan::lacks_room(&error);
        let book = registry.let_go();
        let gone = if lacks_room { prune::gone(&book) } else { Vec::new() };
        if !lacks_room || (gone.is_empty() && !prune::has_unused(&book)) {
            return Err(add_owner(error, &book));
        }
        registry = begin()?;
        planned = plan(&mut registry, Some(&gone));
    }
    let mut plan = planned.map_err(|error| add_owner(error, &registry.book))?;
    let mut unmet: Vec<_> = plan.given.iter_mut().filter_map(|given| given.unmet.as_mut()).collect();
    plan::name_owners(&registry.book, &mut unmet);
    Ok((registry, plan))
}

/// Adds the owner of the number that is required to the error.
fn add_owner(error: NumberError, book: &Book) -> NumberError {
    let NumberError::Required { number, why } = error else { return error };
    let mut unmet: (u32, Why) = (number, why);
    plan::name_owners(book, &mut [&mut unmet]);
    NumberError::Required { number, why: unmet.1 }
}

/// Begins to edit the file of `--dotenv`. A dry run only checks that this is possible, and returns `None`.
pub fn begin_dotenv(
    path: &Path,
    dry_run: bool,
    wait: Wait,
    progress: &mut dyn Contention,
) -> Result<Option<Edit>, NumberError> {
    let begun = if dry_run {
        Edit::check_editable(path, MissingFile::Create).map(|()| None)
    } else {
        Edit::begin(path, MissingFile::Create, wait, process::command_line(std::process::id()), progress).map(Some)
    };
    begun.map_err(|error| match error {
        FileError::NoFile { source, .. } => NumberError::Dotenv { path: path.to_owned(), source },
        other => other.into(),
    })
}

/// Writes the new content of the file of `--dotenv` into a draft.
pub fn write_dotenv(edit: &Edit, values: &[(String, u32)]) -> Result<ContentDraft, FileError> {
    let mut old = Vec::new();
    if let Some(mut file) = edit.open_old()? {
        file.read_to_end(&mut old).map_err(edit.failed("read"))?;
    }
    let mut draft = edit.create_draft()?;
    let new = dotenv::with(&old, values);
    os::without_size_signal(|| draft.writer().write_all(&new)).map_err(edit.failed("write"))?;
    Ok(draft)
}
