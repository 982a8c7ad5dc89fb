//! What is installed, and whether it is of one version.

use super::{Finding, Library, Ours, Tell};
use crate::base::environment;
use crate::base::programs::{all_on_path, is_program};
use crate::base::text::format_io_error;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const HELPER: &str = "helper";
const LIBRARY: &str = "shell library";
const COMPLETIONS: &str = "completions";

/// How long another helper may take to tell its version.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What the library begins with, whatever its version.
const FIRST_WORDS: &str = "# aba-lock.bash:";

/// The variable of the library that tells its version.
const VERSION: &str = "__aba_version=";

/// Which helper this is, which one scripts get, and which others could be met.
pub(super) fn helper(ours: &Ours, tell: Tell) {
    let here = std::env::current_exe().ok();
    let place = here.as_ref().map_or_else(|| "its path is not known".to_owned(), |here| here.display().to_string());
    tell(Finding::fine(HELPER, format!("aba-lock {}, {place}", ours.version)));
    let chosen = environment::helper();
    if let Some(chosen) = &chosen {
        tell(chosen_helper(ours, here.as_deref(), chosen));
    }
    let mut seen = Vec::new();
    for (at, path) in all_on_path("aba-lock").iter().enumerate() {
        let Ok(data) = fs::metadata(path) else { continue };
        if seen.contains(&(data.dev(), data.ino())) {
            continue;
        }
        seen.push((data.dev(), data.ino()));
        let version = version_of(ours, here.as_deref(), path);
        if version.as_deref() == Some(ours.version) {
            if here.as_deref().is_none_or(|here| !is_same(here, path)) {
                tell(Finding::fine(HELPER, format!("{} on PATH is of the same version", path.display())));
            }
            continue;
        }
        let version = version.map_or_else(|| "does not tell its version".to_owned(), |version| format!("is {version}"));
        // With a choice of their own, scripts do not look at PATH.
        let finding = if at == 0 && chosen.is_none() {
            Finding::wrong(HELPER, format!("{} is the first on PATH, which scripts get, and {version}", path.display()))
        } else {
            Finding::note(HELPER, format!("{} on PATH {version}: another PATH may lead to it", path.display()))
        };
        tell(finding.hint("keep one of them, or set ABA_LOCK_BIN to the one that is meant"));
    }
    if seen.is_empty() && chosen.is_none() {
        let hint = here.map_or_else(String::new, |here| format!(": `export ABA_LOCK_BIN={}`", quoted(&here)));
        let found = "aba-lock is not on PATH: only a shell library that was installed with it finds it";
        tell(Finding::note(HELPER, found).hint(format!("add its directory to PATH, or set ABA_LOCK_BIN{hint}")));
    }
}

/// What `ABA_LOCK_BIN` leads to.
fn chosen_helper(ours: &Ours, here: Option<&Path>, chosen: &Path) -> Finding {
    let found = if chosen.as_os_str().as_encoded_bytes().contains(&b'/') {
        Some(chosen.to_owned()).filter(|path| is_program(path))
    } else {
        chosen.to_str().and_then(|name| all_on_path(name).into_iter().next())
    };
    let name = format!("ABA_LOCK_BIN is {}", chosen.display());
    let Some(found) = found else {
        return Finding::wrong(HELPER, format!("{name}, which is no program: scripts cannot lock anything"))
            .hint("unset it, or set it to the path of aba-lock");
    };
    match version_of(ours, here, &found) {
        Some(version) if version == ours.version => Finding::fine(HELPER, format!("{name}, of the same version")),
        Some(version) => Finding::wrong(HELPER, format!("{name}, which scripts get, and is {version}"))
            .hint("unset it, or set it to the one that is meant"),
        None => Finding::wrong(HELPER, format!("{name}, which does not tell its version as aba-lock does"))
            .hint("unset it, or set it to the path of aba-lock"),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Which version a helper says that it is.
fn version_of(ours: &Ours, here: Option<&Path>, path: &Path) -> Option<String> {
    if here.is_some_and(|here| is_same(here, path)) {
        return Some(ours.version.to_owned());
    }
    // Not a pipe: what it may have started could keep that open for ever, and this has a time limit.
    let (mut answer, theirs) = UnixStream::pair().ok()?;
    answer.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // It has a copy of their end.
    drop(command);
    let mut said = [0; 256];
    let mut length = 0;
    while let Ok(more @ 1..) = answer.read(&mut said[length..]) {
        length += more;
        if said[..length].contains(&b'\n') {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    let said = String::from_utf8_lossy(&said[..length]);
    let version = said.lines().next()?.strip_prefix("aba-lock ")?.trim();
    (!version.is_empty()).then(|| version.to_owned())
}

/// The shell libraries that scripts may source.
pub(super) fn library(ours: &Ours, library: Library, tell: Tell) {
    let mut told = Vec::new();
    if let Some(version) = library.sourced {
        let from = library.path.filter(|path| is_library(path));
        let place = from.map_or_else(|| "`aba-lock init bash`".to_owned(), |path| path.display().to_string());
        tell(if version == ours.version {
            Finding::fine(LIBRARY, format!("{version} is sourced, from {place}"))
        } else {
            Finding::wrong(LIBRARY, format!("{version} is sourced, from {place}, beside helper {}", ours.version))
                .hint("start the script or shell again; if that does not help, install both from one version")
        });
    } else if let Some(path) = library.path {
        tell(compare(ours, path));
    }
    if let Some(path) = library.path {
        told.extend(fs::canonicalize(path).ok());
        if library.sourced.is_some() && is_library(path) {
            tell(compare(ours, path));
        }
    }
    let mut none = library.path.is_none() && library.sourced.is_none();
    for directory in data_directories() {
        let Ok(path) = fs::canonicalize(directory.join("aba-lock/aba-lock.bash")) else { continue };
        if !told.contains(&path) {
            tell(compare(ours, &path));
            told.push(path);
            none = false;
        }
    }
    if none {
        tell(
            Finding::note(LIBRARY, "none is installed beside this helper, or where it usually is")
                .hint("scripts can do without: `eval \"$(aba-lock init bash)\"`; another copy: `--library FILE`"),
        );
    }
}

fn is_library(path: &Path) -> bool {
    fs::read(path).is_ok_and(|text| text.starts_with(FIRST_WORDS.as_bytes()))
}

fn compare(ours: &Ours, path: &Path) -> Finding {
    let name = path.display();
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            return Finding::wrong(LIBRARY, format!("{name} cannot be read: {}", format_io_error(&error)))
                .hint("`eval \"$(aba-lock init bash)\"` does the same");
        }
    };
    // What `init` prints has one more line.
    if text.starts_with(ours.library.as_bytes()) {
        return Finding::fine(LIBRARY, format!("{name} is {}, as this helper", ours.version));
    }
    let text = String::from_utf8_lossy(&text);
    if !text.starts_with(FIRST_WORDS) {
        return Finding::wrong(LIBRARY, format!("{name} is not the shell library"))
            .hint("name the file that scripts source");
    }
    let install = "install the helper and the library from one version";
    match text.lines().find_map(|line| line.strip_prefix(VERSION)) {
        Some(version) if version == ours.version => {
            Finding::note(LIBRARY, format!("{name} is {version}, as this helper, but not the same text"))
                .hint(format!("see what was changed: `diff <(aba-lock init bash) {}`", quoted(path)))
        }
        Some(version) => {
            Finding::wrong(LIBRARY, format!("{name} is {version}, and this helper {}", ours.version)).hint(install)
        }
        None => Finding::wrong(LIBRARY, format!("{name} does not tell its version: it is older than this helper"))
            .hint(install),
    }
}

/// Where each shell finds how to complete our words.
pub(super) fn completions(ours: &Ours, tell: Tell) {
    for (shell, below, text) in ours.completions {
        if all_on_path(shell).is_empty() {
            continue;
        }
        let installed =
            data_directories().into_iter().map(|directory| directory.join(below)).find(|path| path.exists());
        tell(match installed {
            Some(path) if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) => {
                let found = format!("{shell}: {}", path.display());
                if shell == "bash" && !has_bash_completion() {
                    Finding::note(COMPLETIONS, format!("{found}, but there is no bash-completion to load it"))
                        .hint(format!("install bash-completion, or source {} in ~/.bashrc", path.display()))
                } else {
                    Finding::fine(COMPLETIONS, found)
                }
            }
            Some(path) => {
                Finding::note(COMPLETIONS, format!("{shell}: {} is not what this version installs", path.display()))
                    .hint("install this version: `make install`")
            }
            None => Finding::note(COMPLETIONS, format!("{shell}: not installed, where it is looked for")).hint(
                match shell {
                    "fish" => "install it, or `ABA_LOCK_COMPLETE=fish aba-lock | source`".to_owned(),
                    _ => format!("install it, or `source <(ABA_LOCK_COMPLETE={shell} aba-lock)`"),
                },
            ),
        });
    }
}

fn has_bash_completion() -> bool {
    let mut places: Vec<PathBuf> =
        data_directories().into_iter().map(|directory| directory.join("bash-completion/bash_completion")).collect();
    places.push(PathBuf::from("/etc/bash_completion"));
    places.iter().any(|path| path.exists())
}

/// Where data is installed: beside this helper, and where programs look for it.
fn data_directories() -> Vec<PathBuf> {
    let here = std::env::current_exe().and_then(fs::canonicalize).ok();
    let beside = here.as_deref().and_then(Path::parent).and_then(Path::parent).map(|prefix| prefix.join("share"));
    let mut directories: Vec<PathBuf> = beside.into_iter().chain(environment::data_directories()).collect();
    let mut seen: Vec<PathBuf> = Vec::new();
    directories.retain(|directory| {
        let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.clone());
        let new = !seen.contains(&real);
        seen.push(real);
        new
    });
    directories
}

fn quoted(path: &Path) -> String {
    shell_words::quote(&path.to_string_lossy()).into_owned()
}
