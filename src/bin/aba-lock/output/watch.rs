//! The screen of `list --watch`: the list as it changes.

use super::list::{ListLine, Listing, collect_lines};
use super::width::cut_to_columns;
use crate::exit;
use aba_lock::base::environment::wants_colours;
use aba_lock::error::Error;
use aba_lock::lock::holders::Availability;
use aba_lock::os::{self, Event, Screen};
use jiff::Zoned;
use std::time::{Duration, Instant};

/// The interval at which the list is read.
const INTERVAL: Duration = Duration::from_secs(1);

/// If reading the list takes long, the interval is this many times the duration of the last reading, so that reading
/// takes at most a tenth of the time.
const READ_SHARE: u32 = 10;

/// Shows the list that `read` returns until the user quits. Returns the exit status.
pub(crate) fn run_screen<'a>(read: impl Fn() -> Result<Listing<'a>, Error>) -> Result<i32, Error> {
    let mut listing = read()?;
    let mut screen = Screen::open().map_err(|source| Error::Terminal { source })?;
    let colours = wants_colours(true);
    let (mut from, mut last_read, mut pause) = (0, Instant::now(), INTERVAL);
    loop {
        let (columns, rows) = screen.size();
        let table = collect_lines(&listing);
        // Scrolling stops when the last line is at the bottom of the screen.
        from = from.min(table.len().saturating_sub(rows.saturating_sub(2)));
        screen.draw(&format_page(&listing, &table, from, (columns, rows), colours));
        match screen.wait(pause.saturating_sub(last_read.elapsed())) {
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
        if last_read.elapsed() >= pause {
            last_read = Instant::now();
            listing = read()?;
            pause = INTERVAL.max(last_read.elapsed() * READ_SHARE);
        }
    }
}

fn format_page(
    listing: &Listing,
    table: &[ListLine],
    from: usize,
    (columns, rows): (usize, usize),
    colours: bool,
) -> Vec<String> {
    let held = listing.locks().filter(|(_, _, state)| state.availability() == Availability::Held).count();
    let waiting: usize = listing.locks().map(|(_, _, state)| state.queue.len()).sum();
    let running = listing.tasks.iter().filter(|task| task.look().running.is_some()).count();
    let roots: Vec<String> = listing.scopes.iter().map(|scope| scope.store.root().display().to_string()).collect();
    let title = format!(
        "{}  {held} held, {waiting} waiting, {running} running  {}  q quits",
        Zoned::now().strftime("%H:%M:%S"),
        roots.join(", "),
    );
    let cut = |text: &str| cut_to_columns(text, columns).to_owned();
    let mut page = vec![cut(&title)];
    let room = rows.saturating_sub(1);
    let shown = table.len().saturating_sub(from);
    if table.is_empty() {
        page.push(cut("no locks"));
    }
    let fits = if shown > room { room.saturating_sub(1) } else { shown };
    page.extend(table.iter().skip(from).take(fits).map(|line| line.render(columns, colours)));
    if shown > fits {
        page.push(cut(&format!("… {} more", shown - fits)));
    }
    page.truncate(rows);
    page
}
