//! Names the target and the commit of this build for `aba_lock::base::version`, and chooses the code for this system.
//!
//! The commit is that of the repository of this package, and only in builds with optimization: a debug build would be compiled
//! anew after each commit. A package from crates.io and a source archive have no repository, and their builds name no commit.
//! A builder without git can set `ABA_LOCK_COMMIT`, such as to `a1b2c3d4e 2026-11-29`.
//!
//! Code for Linux is under `cfg(linux)`, and its counterpart for other systems under `cfg(not(linux))`. With `--cfg aba_portable` in
//! `RUSTFLAGS`, a build for Linux has the code for other systems: a test of that code (CONTRIBUTING.md). `cfg(target_os = "linux")` is
//! only for code whose counterpart makes no difference to users.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

fn main() -> io::Result<()> {
    // Without these lines, each change of a file of the package would run this program again.
    let mut lines = vec!["rerun-if-changed=build.rs".to_owned(), "rerun-if-env-changed=ABA_LOCK_COMMIT".to_owned()];
    let mut commit = read_variable("ABA_LOCK_COMMIT");
    if commit.is_empty() && read_variable("PROFILE") == "release" && Path::new(".git").exists() {
        let head = ask_git(&["log", "-1", "--format=%H %cd", "--date=format:%Y-%m-%d"]).unwrap_or_default();
        if let Some((hash, date)) = head.split_once(' ') {
            commit = format!("{} {date}", hash.get(..9).unwrap_or(hash));
        }
        // These files change with each commit and each checkout. If one was missing, cargo would run this program each time.
        let files = ["HEAD", "logs/HEAD"].into_iter().filter_map(|file| ask_git(&["rev-parse", "--git-path", file]));
        lines.extend(files.filter(|path| Path::new(path).exists()).map(|path| format!("rerun-if-changed={path}")));
    }
    let gap = if commit.is_empty() { "" } else { ", " };
    lines.push("rustc-check-cfg=cfg(linux)".to_owned());
    if read_variable("CARGO_CFG_TARGET_OS") == "linux" && !is_set("CARGO_CFG_ABA_PORTABLE") {
        lines.push("rustc-cfg=linux".to_owned());
    }
    lines.push(format!("rustc-env=ABA_LOCK_BUILD={commit}{gap}{}", read_variable("TARGET")));
    lines.iter().try_for_each(|line| writeln!(io::stdout(), "cargo::{line}"))
}

#[expect(clippy::disallowed_methods, reason = "cargo passes its settings in variables")]
fn read_variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Returns true if cargo has set this variable, perhaps to nothing.
#[expect(clippy::disallowed_methods, reason = "cargo passes its settings in variables")]
fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some()
}

/// Returns the output of git, or `None` if it fails, for example because there is no git.
fn ask_git(words: &[&str]) -> Option<String> {
    // In a hook, this variable names another repository.
    let output = Command::new("git").args(words).env_remove("GIT_DIR").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
