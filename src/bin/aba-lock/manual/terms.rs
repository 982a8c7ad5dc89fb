//! The parts from which the pages are made.

use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::io;

/// The program and its version, in the last line of each page.
pub(super) const SOURCE: &str = concat!("aba-lock ", env!("CARGO_PKG_VERSION"));

/// The date of this version. The date of the build would make builds of the same source differ.
pub(super) const DATE: &str = "2026-11-29";

/// Renders the sections that every page begins with, from the definitions alone.
pub(super) fn render_beginning(man: &Man) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    Ok(text)
}

/// Adds a section with a list of terms and their meanings.
pub(super) fn add_terms(roff: &mut Roff, title: &str, rows: &[(&str, &str)]) {
    roff.control("SH", [title]);
    for (term, text) in rows {
        roff.control("TP", []);
        roff.text([roman(*term)]);
        roff.text([roman(*text)]);
    }
}
