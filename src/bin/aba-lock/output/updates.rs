//! What `update` and `write` print.

use super::{holder, plain, sentence, unseen};
use crate::args::update::Rewrite;
use aba_lock::error::{Error, quoted};
use aba_lock::file::edit::{Draft, Edit};
use aba_lock::lock::holders;
use aba_lock::lock::wait::{Contention, Waiting};
use similar::TextDiff;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The time to wait in silence: most updates are over by then.
const SILENT: Duration = Duration::from_secs(1);

/// More than this is not compared line by line: in bytes.
const MAX_DIFF: u64 = 64 * 1024 * 1024;

/// Reports that another process updates the file, and that we do not wait, or not any longer.
pub(crate) fn contended(error: &Error, file: &Path) {
    let (Error::Busy { label, path, .. } | Error::TimedOut { label, path, .. }) = error else { return };
    let state = holders::briefly(path);
    let who = state.holding.as_ref().map_or_else(|| unseen(&state), holder);
    let text = match error {
        Error::TimedOut { .. } => format!("{error}, which is being updated by {who}"),
        _ => format!("{label} is being updated by {who}"),
    };
    let hint = format!("see its lock with `aba-lock status --file {}`", quoted(path));
    let link =
        if file.is_symlink() { format!(" ({label} is a link; the lock is next to its target)") } else { String::new() };
    let hint = hint + &link;
    sentence(&text, Some(&hint));
}

pub(crate) fn unchanged(args: &Rewrite) {
    if args.verbose {
        sentence(&format!("{} already has this content: nothing was written", args.file.display()), None);
    }
}

/// Reports that the file was changed, and names it if the path is a link.
pub(crate) fn changed(args: &Rewrite, linked: Option<&Path>) {
    if args.verbose {
        let to =
            linked.map(|path| format!(", a link to {0}; the lock is {0}.lock", path.display())).unwrap_or_default();
        sentence(&format!("{} was changed{to}", args.file.display()), None);
    }
}

/// Prints the changes as `diff -u` does.
pub(crate) fn diff(edit: &Edit, draft: &Draft) -> Result<(), Error> {
    let old = match edit.old()? {
        Some(old) => content(old).map_err(edit.failed("compare"))?,
        None => Some(Vec::new()),
    };
    let new = content(draft.content()?).map_err(edit.failed("compare"))?;
    let label = plain(edit.label());
    match (old, new) {
        (Some(old), Some(new)) => {
            let lines = TextDiff::from_lines(old.as_slice(), new.as_slice());
            let mut text = Vec::new();
            lines.unified_diff().header(&label, &label).to_writer(&mut text).map_err(edit.failed("compare"))?;
            // Byte by byte, so that patch(1) can use it.
            io::stdout().lock().write_all(&text).and_then(|()| io::stdout().flush())
        }
        _ => io::stdout().lock().write_all(format!("Files differ: {label}\n").as_bytes()),
    }
    .map_err(edit.failed("print the changes of"))
}

/// What is in a file, if it is text of a size to compare.
fn content(mut file: File) -> io::Result<Option<Vec<u8>>> {
    if file.metadata()?.len() > MAX_DIFF {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok((!bytes.contains(&0)).then_some(bytes))
}

/// Reports a wait that is not over at once, as for a lock.
#[derive(Debug)]
pub(crate) struct Progress {
    later: super::Progress,
    started: Instant,
    begun: bool,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { later: super::Progress::new(quiet), started: Instant::now(), begun: false }
    }
}

impl Contention for Progress {
    fn interval(&self) -> Option<Duration> {
        if self.begun { self.later.interval() } else { Some(SILENT) }
    }

    fn begins(&mut self, _: &Waiting) {}

    fn tick(&mut self, waiting: &Waiting) {
        if self.begun {
            self.later.tick(waiting);
        } else if self.started.elapsed() >= SILENT {
            self.begun = true;
            self.later.begins(waiting);
        }
    }

    fn ends(&mut self) {
        self.later.ends();
    }
}
