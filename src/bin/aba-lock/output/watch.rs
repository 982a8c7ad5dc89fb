//! `list --watch`: the table on the whole screen, as it changes.

use super::locks::{Detail, Line, Listing, lines, word};
use crate::exit;
use aba_lock::error::Error;
use aba_lock::os::{self, Event, Screen};
use aba_lock::store;
use jiff::Zoned;
use std::time::{Duration, Instant};

/// How often it is drawn.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where looking takes long, it is drawn less often: it is to be a tenth of the time at most.
const SHARE: u32 = 10;

/// Shows what `look` finds until the user quits. The exit status.
pub(crate) fn run<'a>(look: impl Fn() -> Result<Listing<'a>, Error>) -> Result<i32, Error> {
    let mut listing = look()?;
    let mut screen = Screen::open().map_err(|source| Error::Terminal { source })?;
    let colours = store::wants_colours(true);
    let (mut from, mut looked, mut pause) = (0, Instant::now(), INTERVAL);
    loop {
        let (columns, rows) = screen.size();
        let table = lines(&listing, Detail::People, &[]);
        // The last page stays full.
        from = from.min(table.len().saturating_sub(rows.saturating_sub(2)));
        screen.draw(&page(&listing, &table, from, (columns, rows), colours));
        match screen.wait(pause.saturating_sub(looked.elapsed())) {
            Event::Key([b'q' | b'Q', ..]) => return Ok(exit::DONE),
            Event::Key([b'j', ..] | [0x1b, b'[' | b'O', b'B', _]) => from += 1,
            Event::Key([b'k', ..] | [0x1b, b'[' | b'O', b'A', _]) => from = from.saturating_sub(1),
            Event::Key([b' ', ..] | [0x1b, b'[', b'6', _]) => from += rows.saturating_sub(2),
            Event::Key([b'b', ..] | [0x1b, b'[', b'5', _]) => from = from.saturating_sub(rows.saturating_sub(2)),
            Event::Key(_) | Event::Draw => {}
            Event::End(signal) => {
                drop(screen);
                os::die_of(signal);
                return Ok(128 + signal);
            }
        }
        if looked.elapsed() >= pause {
            looked = Instant::now();
            listing = look()?;
            pause = INTERVAL.max(looked.elapsed() * SHARE);
        }
    }
}

fn page(listing: &Listing, table: &[Line], from: usize, (columns, rows): (usize, usize), colours: bool) -> Vec<String> {
    let held = listing.locks.iter().filter(|(_, state)| word(state) == "held").count();
    let waiting: usize = listing.locks.iter().map(|(_, state)| state.queue.len()).sum();
    let running = listing.tasks.iter().filter(|task| task.look().running.is_some()).count();
    let title = format!(
        "{}  {held} held, {waiting} waiting, {running} running  {}  q quits",
        Zoned::now().strftime("%H:%M:%S"),
        listing.store.root().display(),
    );
    let cut = |text: &str| text.chars().take(columns).collect::<String>();
    let mut page = vec![cut(&title)];
    let room = rows.saturating_sub(1);
    let shown = table.len().saturating_sub(from);
    if table.is_empty() {
        page.push(cut("no locks"));
    }
    let fits = if shown > room { room.saturating_sub(1) } else { shown };
    page.extend(table.iter().skip(from).take(fits).map(|line| line.shown(Some(columns), colours)));
    if shown > fits {
        page.push(cut(&format!("… {} more", shown - fits)));
    }
    page.truncate(rows);
    page
}
