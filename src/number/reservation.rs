//! The steps of one reservation that `reserve` combines: a plan with a second attempt if there is no room, and the
//! change of the file of `--dotenv`.

use super::contents::RegistryContents;
use super::dotenv;
use super::error::NumberError;
use super::plan::{self, NumberPlan};
use super::prune;
use super::registry::Registry;
use super::unavailable::Unavailable;
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

/// Opens the registry with `begin`, and makes a plan with `plan`. If there is no room, this plans again and removes
/// rows that are no longer needed. Reasons in the plan, or in the error, name the owners of the numbers.
pub fn make_plan(
    mut begin: impl FnMut() -> Result<Registry, NumberError>,
    mut plan: impl FnMut(&mut Registry, Option<&[u32]>) -> Result<NumberPlan, NumberError>,
) -> Result<(Registry, NumberPlan), NumberError> {
    let mut registry = begin()?;
    let mut planned = plan(&mut registry, None);
    if let Err(error) = planned {
        let lacks_room = plan::lacks_room(&error);
        let contents = registry.release();
        let vanished = if lacks_room { prune::find_vanished(&contents) } else { Vec::new() };
        if !lacks_room || (vanished.is_empty() && !prune::has_unused_rows(&contents)) {
            return Err(add_owner(error, &contents));
        }
        registry = begin()?;
        planned = plan(&mut registry, Some(&vanished));
    }
    let mut plan = planned.map_err(|error| add_owner(error, &registry.contents))?;
    let mut unmet: Vec<_> = plan.numbers.iter_mut().filter_map(|planned| planned.unmet.as_mut()).collect();
    plan::name_owners(&registry.contents, &mut unmet);
    Ok((registry, plan))
}

/// Adds the owner of the required number to an error.
fn add_owner(error: NumberError, contents: &RegistryContents) -> NumberError {
    let NumberError::Required { number, reason } = error else { return error };
    let mut unmet: (u32, Unavailable) = (number, reason);
    plan::name_owners(contents, &mut [&mut unmet]);
    NumberError::Required { number, reason: unmet.1 }
}

/// Begins to edit the file of `--dotenv`. A dry run only checks that the file can be edited, and returns `None`.
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

/// Writes the new content of the file of `--dotenv` to a draft.
pub fn write_dotenv(edit: &Edit, values: &[(String, u32)]) -> Result<ContentDraft, FileError> {
    let mut old = Vec::new();
    if let Some(mut file) = edit.open_old()? {
        file.read_to_end(&mut old).map_err(edit.failed("read"))?;
    }
    let mut draft = edit.create_draft()?;
    let new = dotenv::set_variables(&old, values);
    os::without_size_signal(|| draft.writer().write_all(&new)).map_err(edit.failed("write"))?;
    Ok(draft)
}
