//! The checks of the installed helpers, shell libraries and completions: all should have the version of this helper.

use super::finding::{Finding, Level, Report};
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

/// The files that this helper contains, which are compared with the installed ones.
#[derive(Debug)]
pub struct BundledFiles {
    pub version: &'static str,
    pub library: &'static str,
    /// The library that is installed in front of the whole one.
    pub fast_library: &'static str,
    /// The library as `init` prints it, in two parts.
    pub printed_library: (&'static str, &'static str),
    /// For each of the libraries for other shells: the name of its file, and its text.
    pub other_libraries: [(&'static str, &'static str); 3],
    /// For each shell: its name, the possible paths of its completions in a data directory, and their text.
    pub completions: [(&'static str, &'static [&'static str], &'static str); 3],
}

/// The shell library that the caller uses, as the caller reports it.
#[derive(Debug, Clone, Copy)]
pub struct ShellLibrary<'a> {
    pub path: Option<&'a Path>,
    /// The version of the library that the calling script has sourced.
    pub sourced: Option<&'a str>,
}

/// The time limit for `--version` of another helper.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The first words of every version of the library.
const FIRST_WORDS: &str = "# aba-lock.bash:";

/// The name of the whole library where the fast one is installed in front of it.
pub const WHOLE_LIBRARY: &str = "aba-lock-whole.bash";

/// The variable of the library that contains its version.
const VERSION: &str = "__aba_version=";

/// Checks this helper, the helper that scripts start, and the other helpers on `PATH`.
pub(super) fn check_helpers(bundled: &BundledFiles, report: Report) {
    let here = std::env::current_exe().ok();
    let place = here.as_ref().map_or_else(|| "path unknown".to_owned(), |here| here.display().to_string());
    report(Finding::fine(HELPER, format!("aba-lock {}, {place}", bundled.version)));
    let chosen = environment::helper();
    if let Some(chosen) = &chosen {
        report(check_chosen_helper(bundled, here.as_deref(), chosen));
    }
    let mut seen = Vec::new();
    for (at, path) in all_on_path("aba-lock").iter().enumerate() {
        let Ok(data) = fs::metadata(path) else { continue };
        if seen.contains(&(data.dev(), data.ino())) {
            continue;
        }
        seen.push((data.dev(), data.ino()));
        let version = query_version(bundled, here.as_deref(), path);
        if version.as_deref() == Some(bundled.version) {
            if here.as_deref().is_none_or(|here| !is_same(here, path)) {
                report(Finding::fine(HELPER, format!("{} on PATH has the same version", path.display())));
            }
            continue;
        }
        let version =
            version.map_or_else(|| "prints no version".to_owned(), |version| format!("has version {version}"));
        // If ABA_LOCK_BIN is set, scripts do not use PATH.
        let finding = if at == 0 && chosen.is_none() {
            Finding::wrong(
                HELPER,
                format!("{}, which scripts use because it is the first on PATH, {version}", path.display()),
            )
        } else {
            Finding::note(HELPER, format!("{} on PATH {version}: scripts with another PATH may use it", path.display()))
        };
        report(finding.hint("remove one of the two, or set ABA_LOCK_BIN to the one that scripts should use"));
    }
    if seen.is_empty() && chosen.is_none() {
        let hint = here.map_or_else(String::new, |here| format!(": `export ABA_LOCK_BIN={}`", quote_lossy(&here)));
        let found = "aba-lock is not on PATH: only a shell library that was installed with it finds it";
        report(Finding::note(HELPER, found).hint(format!("add its directory to PATH, or set ABA_LOCK_BIN{hint}")));
    }
}

/// Checks the helper in `ABA_LOCK_BIN`.
fn check_chosen_helper(bundled: &BundledFiles, here: Option<&Path>, chosen: &Path) -> Finding {
    let found = if chosen.as_os_str().as_encoded_bytes().contains(&b'/') {
        Some(chosen.to_owned()).filter(|path| is_program(path))
    } else {
        chosen.to_str().and_then(|name| all_on_path(name).into_iter().next())
    };
    let name = format!("ABA_LOCK_BIN is {}", chosen.display());
    let Some(found) = found else {
        return Finding::wrong(
            HELPER,
            format!("{name}, which is not an executable file: no script can acquire a lock"),
        )
        .hint("unset it, or set it to the path of aba-lock");
    };
    match query_version(bundled, here, &found) {
        Some(version) if version == bundled.version => {
            Finding::fine(HELPER, format!("{name}, which has the same version"))
        }
        Some(version) => Finding::wrong(HELPER, format!("{name}, which has version {version}"))
            .hint("unset it, or set it to the helper that scripts should use"),
        None => Finding::wrong(HELPER, format!("{name}, which does not print a version as aba-lock does"))
            .hint("unset it, or set it to the path of aba-lock"),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Runs `--version` of a helper, and returns its version.
fn query_version(bundled: &BundledFiles, here: Option<&Path>, path: &Path) -> Option<String> {
    if here.is_some_and(|here| is_same(here, path)) {
        return Some(bundled.version.to_owned());
    }
    // The answer comes through a socket, because only a read from a socket has a time limit. A child of the helper
    // could keep the other end open forever.
    let (mut answer, theirs) = UnixStream::pair().ok()?;
    answer.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null()).stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // Closes the copy of the other end in this process: while it is open, the answer does not end.
    drop(command);
    let mut answered = [0; 256];
    let mut length = 0;
    while let Ok(more @ 1..) = answer.read(&mut answered[length..]) {
        length += more;
        if answered[..length].contains(&b'\n') {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    let answered = String::from_utf8_lossy(&answered[..length]);
    // The commit and the target of the build follow in parentheses.
    let version = answered.lines().next()?.strip_prefix("aba-lock ")?.split_whitespace().next();
    version.map(str::to_owned)
}

/// Checks the shell libraries that scripts may source.
pub(super) fn check_library(bundled: &BundledFiles, library: ShellLibrary, report: Report) {
    let mut reported = Vec::new();
    if let Some(version) = library.sourced {
        let from = library.path.filter(|path| is_library(path));
        let place = from.map_or_else(|| "`aba-lock init bash`".to_owned(), |path| path.display().to_string());
        report(if version == bundled.version {
            Finding::fine(LIBRARY, format!("version {version} is sourced from {place}"))
        } else {
            Finding::wrong(
                LIBRARY,
                format!("version {version} is sourced from {place}, but this helper has version {}", bundled.version),
            )
            .hint("restart the script or shell; if that does not help, install both from one version")
        });
    } else if let Some(path) = library.path {
        report(compare_library(bundled, path));
    }
    if let Some(path) = library.path {
        reported.extend(fs::canonicalize(path).ok());
        if library.sourced.is_some() && is_library(path) {
            report(compare_library(bundled, path));
        }
    }
    let mut none = library.path.is_none() && library.sourced.is_none();
    for directory in data_directories() {
        let Ok(path) = fs::canonicalize(directory.join("aba-lock/aba-lock.bash")) else { continue };
        if !reported.contains(&path) {
            report(compare_library(bundled, &path));
            reported.push(path);
            none = false;
        }
        for (name, text) in bundled.other_libraries {
            let found = directory.join("aba-lock").join(name);
            if found.exists() {
                report(compare_other_library(bundled.version, &found, text));
            }
        }
    }
    if none {
        report(Finding::note(LIBRARY, "none is installed next to this helper or in the usual directories").hint(
            "scripts can use `eval \"$(aba-lock init bash)\"` instead; to check another copy, use `--library FILE`",
        ));
    }
}

fn is_library(path: &Path) -> bool {
    fs::read(path).is_ok_and(|text| text.starts_with(FIRST_WORDS.as_bytes()))
}

fn compare_library(bundled: &BundledFiles, path: &Path) -> Finding {
    let name = path.display();
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            return Finding::wrong(LIBRARY, format!("cannot read {name}: {}", format_io_error(&error)))
                .hint("scripts can use `eval \"$(aba-lock init bash)\"` instead");
        }
    };
    // The output of `init` has one more line.
    let (before, after) = bundled.printed_library;
    let is_printed = || text.strip_prefix(before.as_bytes()).is_some_and(|text| text.starts_with(after.as_bytes()));
    let is_fast = !path.ends_with(WHOLE_LIBRARY) && text == bundled.fast_library.as_bytes();
    if is_fast {
        let whole = compare_library(bundled, &path.with_file_name(WHOLE_LIBRARY));
        if whole.level != Level::Fine {
            return whole;
        }
    }
    if is_fast || text.starts_with(bundled.library.as_bytes()) || is_printed() {
        return Finding::fine(LIBRARY, format!("{name} has version {}, like this helper", bundled.version));
    }
    let text = String::from_utf8_lossy(&text);
    if !text.starts_with(FIRST_WORDS) {
        return Finding::wrong(LIBRARY, format!("{name} is not the shell library"))
            .hint("give the file that scripts source: `--library FILE`");
    }
    let install = "install the helper and the library from one version";
    match text.lines().find_map(|line| line.strip_prefix(VERSION)) {
        Some(version) if version == bundled.version => {
            Finding::note(LIBRARY, format!("{name} has version {version}, like this helper, but its text differs"))
                .hint(format!("show the changes: `diff <(aba-lock init bash) {}`", quote_lossy(path)))
        }
        Some(version) => {
            Finding::wrong(LIBRARY, format!("{name} has version {version}, but this helper has {}", bundled.version))
                .hint(install)
        }
        None => {
            Finding::wrong(LIBRARY, format!("{name} names no version, so it is older than this helper")).hint(install)
        }
    }
}

/// Checks an installed library for a shell other than bash.
fn compare_other_library(version: &str, path: &Path, text: &str) -> Finding {
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Finding::fine(LIBRARY, format!("{} has version {version}, like this helper", path.display()));
    }
    Finding::wrong(LIBRARY, format!("{} is not from this version", path.display()))
        .hint("install the helper and the library from one version")
}

/// Checks the installed completions of each shell.
pub(super) fn check_completions(bundled: &BundledFiles, report: Report) {
    for (shell, paths, text) in bundled.completions {
        if all_on_path(shell).is_empty() {
            continue;
        }
        let directories = data_directories();
        let mut places = directories.iter().flat_map(|directory| paths.iter().map(|path| directory.join(path)));
        let installed = places.find(|path| path.exists());
        report(match installed {
            Some(path) if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) => {
                let found = format!("{shell}: {}", path.display());
                if shell == "bash" && !has_bash_completion() {
                    Finding::note(
                        COMPLETIONS,
                        format!("{found}, but bash-completion, which loads it, is not installed"),
                    )
                    .hint(format!("install bash-completion, or source {} in ~/.bashrc", path.display()))
                } else {
                    Finding::fine(COMPLETIONS, found)
                }
            }
            Some(path) => Finding::note(COMPLETIONS, format!("{shell}: {} is not from this version", path.display()))
                .hint("install this version: `make install`"),
            None => {
                Finding::note(COMPLETIONS, format!("{shell}: not installed in the usual directories")).hint(match shell
                {
                    "fish" => "install it, or run `aba-lock completions fish | source`".to_owned(),
                    _ => format!("install it, or run `source <(aba-lock completions {shell})`"),
                })
            }
        });
    }
}

fn has_bash_completion() -> bool {
    let mut places: Vec<PathBuf> =
        data_directories().into_iter().map(|directory| directory.join("bash-completion/bash_completion")).collect();
    places.push(PathBuf::from("/etc/bash_completion"));
    places.iter().any(|path| path.exists())
}

/// Returns the directories in which data files are installed: next to this helper, and the standard directories.
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

fn quote_lossy(path: &Path) -> String {
    shell_words::quote(&path.to_string_lossy()).into_owned()
}
