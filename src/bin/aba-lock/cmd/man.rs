//! `man`: shows the manual pages, which this program contains.

use crate::args::man::ManArgs;
use crate::exit;
use crate::manual::{self, ManualPage, text};
use crate::output::{pages, stream};
use aba_lock::base::command_error::CommandError;
use aba_lock::base::environment::wants_colours;
use aba_lock::error::Error;
use aba_lock::os::{self, PreparedCommand, replace};
use std::fs;
use std::path::Path;

/// Shows a page: `$1` is its source, and `$2` its text. Ctrl-C is for the pager, which the shell must not leave alone on the terminal. Not
/// each man(1) reads standard input: it must be that of man-db.
const SHOW: &str = r#"trap : INT
case $(man --version 2>/dev/null </dev/null) in
    'man '[0-9]*)
        printf '%s\n' "$1" | man -l -
        exit
        ;;
esac
pager=${MANPAGER:-${PAGER:-}}
if [ -z "$pager" ]; then
    for pager in less more cat; do
        ! command -v "$pager" >/dev/null || break
    done
fi
export LESS="${LESS-FRX}"
printf '%s\n' "$2" | sh -c "$pager"
"#;

/// The width of a page that is not for a terminal, and the maximum width on a terminal.
const WIDTH: usize = 80;
const MAX_WIDTH: usize = 100;

pub(crate) fn run(args: &ManArgs) -> Result<i32, Error> {
    if args.list {
        pages::print_list(manual::list_pages().iter().map(|page| (page.file_name(), page.about.as_str())));
        return Ok(exit::DONE);
    }
    let prefix = find_prefix();
    if let Some(directory) = &args.write {
        write_pages(directory, prefix.as_deref())?;
        return Ok(exit::DONE);
    }
    let word = args.page.as_deref().unwrap_or("aba-lock");
    let Some(page) = manual::find_page(word) else {
        pages::report_no_page(word);
        return Ok(exit::USAGE);
    };
    let source = render(&page, prefix.as_deref())?;
    if args.roff {
        stream::print(&source);
    } else if os::is_terminal(1) {
        let width = os::terminal_width(1).min(MAX_WIDTH);
        let shown = text::format_page(&source, width, wants_colours(true));
        let words = ["sh", "-c", SHOW, "aba-lock", source.trim_end(), shown.trim_end()].map(Into::into);
        let failed = PreparedCommand::new(&words, &[]).map(|command| command.exec());
        return Err(CommandError::new("sh", failed.unwrap_or_else(|error| error)).into());
    } else {
        stream::print(&text::format_page(&source, WIDTH, false));
    }
    Ok(exit::DONE)
}

fn render(page: &ManualPage, prefix: Option<&str>) -> Result<String, Error> {
    let source = page.render(prefix).map_err(|source| Error::Write { path: page.file_name().into(), source })?;
    Ok(String::from_utf8_lossy(&source).into_owned())
}

/// Returns the directory below which this helper and the library are installed, if the pages must name it.
fn find_prefix() -> Option<String> {
    let helper = std::env::current_exe().ok()?;
    let prefix = helper.parent()?.parent()?;
    prefix.join("share/aba-lock/aba-lock.bash").exists().then(|| prefix.to_str().map(str::to_owned)).flatten()
}

/// Writes the sources of all pages into directories below `directory`, in which man(1) finds them.
fn write_pages(directory: &Path, prefix: Option<&str>) -> Result<(), Error> {
    for page in manual::list_pages() {
        let folder = directory.join(format!("man{}", page.section));
        let path = folder.join(page.file_name());
        let source = render(&page, prefix)?;
        let written = fs::create_dir_all(&folder).and_then(|()| replace::replace_file(&path, source.as_bytes()));
        written.map_err(|source| Error::Write { path, source })?;
    }
    Ok(())
}
