//! The output of `man`.

use super::stream::{print, print_message};
use super::table::{Column, format_table};

/// Prints the files of the pages, and the subject of each.
pub(crate) fn print_list<'a>(pages: impl Iterator<Item = (String, &'a str)>) {
    let rows = pages.map(|(file, about)| [file, about.to_owned()]);
    format_table(&[Column::Fit("PAGE"), Column::Fit("ABOUT")], rows, |line| print(&format!("{line}\n")));
}

/// Reports that there is no page of this name.
pub(crate) fn report_no_page(word: &str) {
    print_message(&format!("man: no such page: {word}"), Some("list the pages with `aba-lock man --list`"));
}
