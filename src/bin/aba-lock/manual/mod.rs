//! The manual pages. `aba-lock man` shows them, and `make man` writes them into files.
//!
//! The pages are `aba-lock.1` and one for each command of the helper, `aba-lock-lease.1` for the keeper, `aba-lockd.8` for the
//! service, and those of section 7, which are files in `shell/`. All others are made from the definitions and tables that also make
//! the help.
//!
//! The files in their order; each file imports only from those before it: `notes`, `terms`, `programs`, `commands`, `text`.

mod commands;
mod notes;
mod programs;
mod terms;
pub(crate) mod text;

use crate::args::Cli;
use clap::{Command, CommandFactory};
use std::io;

/// The directory of the library in the pages. That of an installation can differ.
const USUAL_PREFIX: &str = "/usr/local";

/// The pages of section 7.
const LIBRARY_PAGES: [(&str, &str); 5] = [
    ("aba-lock.bash", include_str!("../../../../shell/aba-lock.bash.7")),
    ("aba-lock.sh", include_str!("../../../../shell/aba-lock.sh.7")),
    ("run_once.bash", include_str!("../../../../shell/run_once.bash.7")),
    ("aba-lock-reserve", include_str!("../../../../shell/aba-lock-reserve.7")),
    ("aba-lock-machines", include_str!("../../../../shell/aba-lock-machines.7")),
];

/// A manual page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManualPage {
    /// The name, such as `aba-lock-status`.
    pub(crate) name: String,
    pub(crate) section: u8,
    /// One line about the subject of the page.
    pub(crate) about: String,
}

impl ManualPage {
    /// The name of the file of the page.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.{}", self.name, self.section)
    }

    /// Returns the source of the page, for man(1). If aba-lock is installed below another directory than usual, the page has its
    /// paths.
    pub(crate) fn render(&self, prefix: Option<&str>) -> io::Result<Vec<u8>> {
        let library_page = LIBRARY_PAGES.iter().find(|(name, _)| self.section == 7 && *name == self.name);
        let text = match (library_page, self.section) {
            (Some((_, text)), _) => (*text).as_bytes().to_vec(),
            (None, 8) => programs::render_service_page()?,
            (None, _) if self.name == "aba-lock-lease" => programs::render_lease_page()?,
            (None, _) => commands::render_command_page(&define_commands(), &self.name)?,
        };
        let Some(prefix) = prefix else { return Ok(text) };
        let mut text = String::from_utf8_lossy(&text).into_owned();
        for directory in ["bin", "share"] {
            let path = |prefix: &str| format!("{prefix}/{directory}/aba-lock");
            // The pages that clap makes escape each hyphen.
            for escape in [|path: String| path, |path: String| path.replace('-', "\\-")] {
                text = text.replace(&escape(path(USUAL_PREFIX)), &escape(path(prefix)));
            }
        }
        Ok(text.into_bytes())
    }
}

fn define_commands() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// Returns all pages: that of `aba-lock`, those of its commands, and the others.
pub(crate) fn list_pages() -> Vec<ManualPage> {
    let command = define_commands();
    let about = |command: &Command| command.get_about().cloned().unwrap_or_default().to_string();
    let mut pages = vec![ManualPage { name: "aba-lock".to_owned(), section: 1, about: about(&command) }];
    let commands = command.get_subcommands().filter(|command| command.get_name() != "help");
    pages.extend(commands.map(|command| ManualPage {
        name: format!("aba-lock-{}", command.get_name()),
        section: 1,
        about: about(command),
    }));
    pages.extend(LIBRARY_PAGES.iter().map(|(name, text)| {
        let about = text.lines().find_map(|line| line.strip_prefix(".Nd ")).unwrap_or_default();
        ManualPage { name: (*name).to_owned(), section: 7, about: about.to_owned() }
    }));
    pages.push(ManualPage { name: "aba-lockd".to_owned(), section: 8, about: programs::describe_service() });
    pages
}

/// Returns the page that a word names: the name of a command (`status`) or of a page (`aba-lock-status`), also with its section
/// (`aba-lock-reserve.7`, `aba-lock-reserve(7)`).
pub(crate) fn find_page(word: &str) -> Option<ManualPage> {
    let pages = list_pages();
    let find = |name: &str, section: Option<u8>| {
        let is_page = |page: &&ManualPage| {
            let is_named = page.name == name || page.name.strip_prefix("aba-lock-").is_some_and(|rest| rest == name);
            is_named && section.is_none_or(|section| section == page.section)
        };
        pages.iter().find(is_page).cloned()
    };
    find(word, None).or_else(|| {
        let (name, section) = word.rsplit_once(['.', '('])?;
        find(name, Some(section.trim_end_matches(')').parse().ok()?))
    })
}
