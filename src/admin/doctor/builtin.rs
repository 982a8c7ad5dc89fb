//! The check of the builtin for bash, if it is installed next to this helper, or if `ABA_LOCK_BUILTIN` asks for it. Without it, the
//! library calls the helper, so no finding is more than a note.

use super::finding::{Finding, Report};
use crate::base::environment;
use crate::base::text::format_io_error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const BUILTIN: &str = "builtin";

/// The words in the file of the builtin after which its version follows, up to a comma.
const VERSION: &[u8] = b"for aba-lock.bash version ";

/// Checks the builtin that scripts use, or could use. `library` is the library that the calling script has sourced.
pub(super) fn check_builtin(version: &str, library: Option<&Path>, report: Report) {
    let wanted = environment::builtin();
    let path = match &wanted {
        Some(wanted) if wanted.is_absolute() => wanted.clone(),
        Some(wanted) if wanted.as_os_str() != "yes" => {
            let found = format!(
                "ABA_LOCK_BUILTIN is {}, which is neither yes nor an absolute path: scripts do not use it",
                wanted.display()
            );
            report(Finding::note(BUILTIN, found).hint("set it to yes, or unset it"));
            return;
        }
        _ => match find_installed(library) {
            Some(path) => path,
            None => return,
        },
    };
    let name = path.display();
    let install = "install it from the version of this helper: `make install WITH_BUILTIN=yes`";
    match read_version(&path) {
        Ok(Some(found)) if found == version && wanted.is_some() => {
            report(Finding::fine(BUILTIN, format!("{name} has version {version}, like this helper")));
        }
        Ok(Some(found)) if found == version => {
            report(Finding::fine(
                BUILTIN,
                format!("{name} is installed, and scripts use it with ABA_LOCK_BUILTIN=yes"),
            ));
        }
        Ok(Some(found)) => {
            let text = format!("{name} has version {found}, but this helper has {version}: scripts do not use it");
            report(Finding::note(BUILTIN, text).hint(install));
        }
        Ok(None) => {
            report(Finding::note(BUILTIN, format!("{name} is not the builtin: scripts do not use it")).hint(install));
        }
        // Without the variable, nothing is missing.
        Err(error) if wanted.is_none() && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            let text = format!("cannot read {name}: {}: scripts do not use it", format_io_error(&error));
            report(Finding::note(BUILTIN, text).hint(install));
        }
    }
}

/// Returns the path at which the builtin is installed together with the library, or with this helper.
fn find_installed(library: Option<&Path>) -> Option<PathBuf> {
    let directory = library.and_then(Path::parent).filter(|directory| directory.ends_with("share/aba-lock"));
    let prefix = match directory {
        Some(directory) => directory.parent()?.parent()?.to_owned(),
        None => fs::canonicalize(std::env::current_exe().ok()?).ok()?.parent()?.parent()?.to_owned(),
    };
    Some(prefix.join("lib/aba-lock/builtin.so"))
}

/// Returns the version in the file of the builtin, or `None` if the file is not one.
fn read_version(path: &Path) -> io::Result<Option<String>> {
    let bytes = fs::read(path)?;
    let version = memchr::memmem::find(&bytes, VERSION).map(|at| &bytes[at + VERSION.len()..]);
    let version = version.and_then(|rest| rest.split(|byte| *byte == b',').next()).filter(|version| version.len() < 32);
    Ok(version.map(|version| String::from_utf8_lossy(version).into_owned()))
}
